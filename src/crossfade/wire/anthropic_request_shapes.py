"""What decides something in a caller's Anthropic request, for decoding. Decides nothing."""

from __future__ import annotations

import msgspec

from crossfade.wire.reading import NO


class Source(msgspec.Struct, gc=False):
    type: str = ""
    data: msgspec.Raw = NO


class Inner(msgspec.Struct, gc=False):
    """A block inside the result of a tool."""

    type: str = ""
    source: msgspec.Raw = NO


class Block(msgspec.Struct, gc=False):
    type: str = ""
    id: str | None = None
    tool_use_id: str | None = None
    signature: str | None = None
    source: msgspec.Raw = NO
    content: msgspec.Raw = NO
    citations: msgspec.Raw = NO


class Message(msgspec.Struct, gc=False):
    role: str
    content: str | list[Block]


class SystemBlock(msgspec.Struct, gc=False):
    type: str = ""


class Tool(msgspec.Struct, gc=False):
    name: str | None = None
    type: str | None = None


class Format(msgspec.Struct, gc=False):
    type: str = ""
    schema: msgspec.Raw = NO


class OutputConfig(msgspec.Struct, gc=False):
    effort: str | None = None
    format: Format | None = None


class Thinking(msgspec.Struct, gc=False):
    type: str = ""
    budget_tokens: int | None = None


class Request(msgspec.Struct, gc=False):
    messages: list[Message]
    model: str | None = None
    max_tokens: int | None = None
    stream: bool | None = None
    system: str | list[SystemBlock] | None = None
    tools: list[Tool] | None = None
    tool_choice: msgspec.Raw = NO
    stop_sequences: list[str] | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None
    mcp_servers: msgspec.Raw = NO
