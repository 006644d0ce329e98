"""What a rule looks at, as data: the conditions of one `when`, all of which have to hold."""

from __future__ import annotations

from datetime import tzinfo
from typing import Literal

import msgspec

OutputKind = Literal["text", "json_object", "json_schema"]


class Range(msgspec.Struct, frozen=True):
    """More than `above`, less than `below`; None: no bound."""

    above: float | None = None
    below: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no number at all is within."""
        return self.above is not None and self.below is not None and self.above >= self.below


class Hours(msgspec.Struct, frozen=True):
    """From `start` to `end`, minutes of the day in `zone`, the end excluded; past midnight where it comes first."""

    start: int
    end: int
    zone: tzinfo


class When(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions on a request; None: none of that kind. Of a tuple one has to fit, of `headers` all; texts there are
    patterns, in which `*` stands for anything."""

    input_tokens: Range | None = None
    complexity: Range | None = None
    tools: bool | None = None
    images: bool | None = None
    files: bool | None = None
    stream: bool | None = None
    response_format: tuple[OutputKind, ...] | None = None
    model: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    key: tuple[str, ...] | None = None
    project: tuple[str, ...] | None = None
    headers: tuple[tuple[str, str], ...] = ()
    hours: Hours | None = None

    @property
    def is_empty(self) -> bool:
        return self == When()
