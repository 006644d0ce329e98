"""A line of the log before it has a form."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["debug", "info", "warning", "error"]


class Note(msgspec.Struct, frozen=True):
    """One line of the log. Facts that are None are left out; a name that ends in `_s` is a time in seconds. `kind` is
    what lines have in common that are summed up when there are too many of them."""

    level: Level
    text: str
    facts: tuple[tuple[str, object], ...] = ()
    kind: tuple[tuple[str, object], ...] = ()
