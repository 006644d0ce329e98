"""Options that several commands have."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from crossfade.cli.event_filter import parse_time
from crossfade.config.loader import FILE_VARIABLE

F = TypeVar("F", bound=Callable[..., Any])


def config_option(command: F) -> F:
    """`--config FILE`, as the parameter `config`."""
    about = f"The configuration. Default: ${FILE_VARIABLE}, else ./crossfade.yaml, else keys in the environment."
    option = click.option("-c", "--config", "config", type=click.Path(path_type=Path), metavar="FILE", help=about)
    return option(command)


def journal_option(command: F) -> F:
    """`--journal PATH`, as the parameter `journal`."""
    about = "A journal's folder, or one of its files. Default: the journal of the configuration."
    option = click.option("--journal", type=click.Path(path_type=Path, exists=True), metavar="PATH", help=about)
    return option(command)


def checked(parse: Callable[[str], object]) -> Callable[[click.Context, click.Parameter, object], object]:
    """A click callback that turns the ValueErrors of `parse` into errors of the command line."""

    def check(_: click.Context, __: click.Parameter, value: object) -> object:
        try:
            if isinstance(value, tuple):
                return tuple(parse(one) for one in value)
            return None if value is None else parse(str(value))
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return check


time_option = checked(lambda text: parse_time(text, time.time()))
"""The callback of options that take a time."""
