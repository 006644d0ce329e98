"""The only place that calls providers."""
