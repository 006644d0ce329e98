"""What commands share: finding and loading the configuration."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from crossfade.config.loader import FILE_VARIABLE, find_config, load_config
from crossfade.config.settings import Config
from crossfade.providers.compatible import VENDORS

F = TypeVar("F", bound=Callable[..., Any])


def load(path: Path | None) -> Config:
    """The configuration of `path`, of the usual file, or of the environment. Raises ConfigErrors."""
    return load_config(find_config(path, os.environ, Path()), os.environ, VENDORS)


def config_option(command: F) -> F:
    """`--config FILE`, as the parameter `config`, for commands that need a configuration."""
    about = f"The configuration. Default: ${FILE_VARIABLE}, else ./crossfade.yaml, else keys in the environment."
    option = click.option("-c", "--config", "config", type=click.Path(path_type=Path), metavar="FILE", help=about)
    return option(command)
