"""crossfade: an AI API gateway whose reason to exist is fallback."""

__version__ = "0.1.0"
