"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from crossfade.config.loader import FILE_VARIABLE

F = TypeVar("F", bound=Callable[..., Any])


def config_option(command: F) -> F:
    """`--config FILE`, as the parameter `config`."""
    about = f"The configuration. Default: ${FILE_VARIABLE}, else ./crossfade.yaml, else keys in the environment."
    option = click.option("-c", "--config", "config", type=click.Path(path_type=Path), metavar="FILE", help=about)
    return option(command)
