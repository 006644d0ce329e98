"""What decides something in a caller's request to the Responses API, for decoding. Decides nothing."""

from __future__ import annotations

import msgspec

from crossfade.wire.reading import NO


class Part(msgspec.Struct, gc=False):
    type: str = ""
    image_url: msgspec.Raw = NO
    file_data: msgspec.Raw = NO
    input_audio: msgspec.Raw = NO


class Item(msgspec.Struct, gc=False):
    type: str | None = None
    role: str | None = None
    id: str | None = None
    call_id: str | None = None
    content: str | list[Part] | None = None
    output: msgspec.Raw = NO


class Tool(msgspec.Struct, gc=False):
    type: str = ""
    name: str | None = None


class Format(msgspec.Struct, gc=False):
    type: str = ""
    name: str = "output"
    description: str | None = None
    schema: msgspec.Raw = NO
    strict: bool | None = None


class Text(msgspec.Struct, gc=False):
    format: Format | None = None


class Reasoning(msgspec.Struct, gc=False):
    effort: str | None = None


class Request(msgspec.Struct, kw_only=True, gc=False):
    model: str | None = None
    input: str | list[Item] | None = None
    stream: bool | None = None
    tools: list[Tool] | None = None
    tool_choice: msgspec.Raw = NO
    text: Text | None = None
    reasoning: Reasoning | None = None
    max_output_tokens: int | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: msgspec.Raw = NO
    prompt: msgspec.Raw = NO
