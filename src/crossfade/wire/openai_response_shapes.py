"""What a whole OpenAI chat answer may look like, for decoding. Decides nothing."""

from __future__ import annotations

from typing import Any

import msgspec

from crossfade.wire.openai_usage_shapes import Count, GivenUsage


class Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None


class Call(msgspec.Struct, gc=False):
    id: str | None = None
    function: Function | None = None
    custom: Any = None


class Message(msgspec.Struct, gc=False):
    content: Any = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    function_call: Function | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    audio: Any = None
    annotations: Any = None
    images: Any = None


class Choice(msgspec.Struct, gc=False):
    index: int | None = None
    message: Message | None = None
    finish_reason: str | None = None
    native_finish_reason: Any = None
    stop_reason: Any = None
    error: Any = None
    text: Any = None


class Completion(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    created: Count = None
    object: str | None = None
    choices: list[Choice] | None = None
    usage: GivenUsage | None = None
    error: Any = None
    citations: Any = None


class LooseCompletion(msgspec.Struct, gc=False):
    """A `Completion` whose numbers may have any form: no server is refused for those."""

    id: str | None = None
    model: str | None = None
    created: float | None = None
    object: str | None = None
    choices: list[Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    error: Any = None
    citations: Any = None
