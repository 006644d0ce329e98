"""What decides something in a caller's OpenAI chat request, for decoding. Decides nothing."""

from __future__ import annotations

import msgspec

from crossfade.wire.reading import NO


class Part(msgspec.Struct, gc=False):
    type: str = ""


class Message(msgspec.Struct, gc=False):
    role: str
    content: str | list[Part] | None = None
    tool_call_id: str | None = None


class TextMessage(msgspec.Struct, gc=False):
    role: str
    content: str | None = None


class StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class Named(msgspec.Struct, gc=False):
    name: str


class Tool(msgspec.Struct, gc=False):
    type: str = "function"
    function: Named | None = None


class JsonSchema(msgspec.Struct, gc=False):
    name: str = "output"
    description: str | None = None
    schema: msgspec.Raw = NO
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, gc=False):
    type: str
    json_schema: JsonSchema | None = None


class Request(msgspec.Struct, gc=False):
    messages: list[Message]
    model: str | None = None
    stream: bool | None = None
    n: int | None = None
    stream_options: StreamOptions | None = None
    tools: list[Tool] | None = None
    tool_choice: msgspec.Raw = NO
    functions: list[Named] | None = None
    function_call: msgspec.Raw = NO
    response_format: ResponseFormat | None = None
    stop: msgspec.Raw = NO
    logprobs: bool | None = None
    modalities: msgspec.Raw = NO
    reasoning_effort: msgspec.Raw = NO
    reasoning: msgspec.Raw = NO
    thinking: msgspec.Raw = NO
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    store: msgspec.Raw = NO
