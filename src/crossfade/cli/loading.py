"""What commands share: finding and loading the configuration."""

from __future__ import annotations

import os
from pathlib import Path

from crossfade.config.loader import find_config, load_config
from crossfade.config.settings import Config
from crossfade.providers.compatible import VENDORS


def load(path: Path | None) -> Config:
    """The configuration of `path`, of the usual file, or of the environment. Raises ConfigErrors."""
    return load_config(find_config(path, os.environ, Path()), os.environ, VENDORS)
