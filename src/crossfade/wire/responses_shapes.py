"""Answers and stream events of the Responses API, for decoding. Decides nothing."""

from __future__ import annotations

from typing import Any

import msgspec

from crossfade.wire.reading import NO


class InputDetails(msgspec.Struct, gc=False):
    cached_tokens: float | None = None
    cache_write_tokens: float | None = None


class OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: float | None = None


class Usage(msgspec.Struct, gc=False):
    input_tokens: float | None = None
    output_tokens: float | None = None
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None


class Part(msgspec.Struct, gc=False):
    """A part of a message or of reasoning."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None


class Item(msgspec.Struct, gc=False):
    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    content: list[Part] | None = None
    summary: list[Part] | None = None


class LooseItem(msgspec.Struct, gc=False):
    """An item of another type, of which nothing is read."""

    type: str = ""
    id: str | None = None


class Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class Response(msgspec.Struct, gc=False):
    id: str | None = None
    object: str | None = None
    model: str | None = None
    created_at: float | None = None
    status: str | None = None
    error: msgspec.Raw = NO
    incomplete_details: Incomplete | None = None
    output: list[msgspec.Raw] | None = None
    usage: Usage | None = None


class Event(msgspec.Struct, gc=False):
    """Every event in one struct: a tagged union would refuse the types that are not known yet."""

    type: str = ""
    sequence_number: int | None = None
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    delta: Any = None
    response: msgspec.Raw = NO
    item: msgspec.Raw = NO
    part: msgspec.Raw = NO
    error: msgspec.Raw = NO
