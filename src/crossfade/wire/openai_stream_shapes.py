"""What a chunk of an OpenAI chat stream may look like, for decoding. Decides nothing."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

NO_RAW: Final = msgspec.Raw()


class Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None


class Call(msgspec.Struct, gc=False):
    index: Any = None
    id: str | None = None
    function: Function | None = None
    custom: Any = None


class Delta(msgspec.Struct, gc=False):
    content: Any = None
    tool_calls: list[Call] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    refusal: Any = None
    function_call: Function | None = None
    audio: Any = None
    annotations: Any = None
    images: Any = None


class Choice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: Delta | None = None
    finish_reason: str | None = None
    native_finish_reason: Any = None
    stop_reason: Any = None
    error: Any = None


class Groq(msgspec.Struct, gc=False):
    error: Any = None


class Chunk(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    created: float | None = None
    choices: list[Choice] | None = None
    usage: msgspec.Raw = NO_RAW
    error: Any = None
    object: str | None = None
    message: Any = None
    detail: Any = None
    citations: Any = None
    x_groq: Groq | None = None


# A piece of text and nothing else. Whatever would make a difference is named, and may not be there: what can be decoded
# as this needs no second look. The order is the usual one of the members, in which they are found soonest.


class TextDelta(msgspec.Struct, gc=False):
    content: str
    reasoning_content: Literal[""] | None = None
    reasoning: Literal[""] | None = None
    reasoning_details: None = None
    refusal: Literal[""] | None = None
    tool_calls: None = None
    function_call: None = None
    audio: None = None
    annotations: None = None
    images: None = None


class TextChoice(msgspec.Struct, gc=False):
    index: Literal[0]
    delta: TextDelta
    finish_reason: Literal[""] | None = None
    error: None = None


class TextChunk(msgspec.Struct, gc=False):
    choices: tuple[TextChoice]
    usage: msgspec.UnsetType | None = msgspec.UNSET
    error: None = None
    citations: None = None
    x_groq: None = None
