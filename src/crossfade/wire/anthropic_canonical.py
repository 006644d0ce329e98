"""A whole Anthropic request read into the canonical one, for translation into another dialect.

Strict: what is read is understood, and what cannot be is a fault that names its field. What has no canonical place is
named in `others`, so that whoever translates can say what it dropped: fields, and marks on blocks. Thinking of earlier
turns is bound to the provider that made it and goes nowhere else; nobody misses it.
"""

from __future__ import annotations

import base64
from typing import Any, Final, Literal

import msgspec

from crossfade.core.exchange import (
    ChatRequest,
    FilePart,
    ImagePart,
    Message,
    OutputFormat,
    Part,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)
from crossfade.wire.fields import FieldReader, fault, fields_of_body, string, string_or_none
from crossfade.wire.ours import OUR_FIELDS

_encode = msgspec.json.encode

EFFORTS: Final = ((2048, "low"), (8192, "medium"))
"""`reasoning_effort` for a thinking budget of up to so many tokens; `high` above."""
ADAPTIVE_EFFORT: Final = "medium"
"""`reasoning_effort` for a model that is to decide by itself how much it thinks."""
FAILED: Final = "Error"
"""What a tool said that failed without a word: elsewhere only the text tells that it failed."""
FOUND: Final = "The tool %s can be called now."
"""What a search for tools says of one that it found: elsewhere all tools are there from the beginning."""

_SILENT: Final = frozenset({*OUR_FIELDS, "model", "stream"})
"""Fields that a translation needs no word about."""
_NEUTRAL: Final[dict[str, Any]] = {"service_tier": "auto", "mcp_servers": []}
"""Values that ask for nothing: such a field is dropped without a word."""
_ROLES: Final = ("user", "assistant", "system")
_TOOL_FIELDS: Final = frozenset({"type", "name", "description", "input_schema", "strict"})
_MODES: Final[dict[Any, Literal["auto", "none", "required", "named"]]] = {
    "auto": "auto",
    "any": "required",
    "tool": "named",
    "none": "none",
}


def read_canonical(body: bytes) -> ChatRequest:
    """The request in `body`, a JSON object. Raises InvalidRequest naming the field."""
    return _Reader(fields_of_body(body)).request()


class _Reader(FieldReader):
    """Reads one messages request. `_marks` are the names of what was left out below the top level."""

    def __init__(self, fields: dict[str, Any]):
        super().__init__(fields)
        self._marks: dict[str, None] = {}

    def request(self) -> ChatRequest:
        messages = (*self._system(), *self._messages())
        tools = self._tools()
        choice, is_serial = self._tool_choice()
        output, effort = self._output_and_effort()
        return ChatRequest(
            messages=messages,
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=False if is_serial else None,
            output=output,
            max_tokens=self.whole("max_tokens"),
            temperature=self.number("temperature"),
            top_p=self.number("top_p"),
            top_k=self.whole("top_k"),
            stop=self._stop(),
            reasoning_effort=effort,
            user=self._user(),
            others=(*self.others(_SILENT, _NEUTRAL), *self._marks),
        )

    # --- fields ---

    def _stop(self) -> tuple[str, ...]:
        value = self.take("stop_sequences")
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise fault("stop_sequences", "must be a list of strings")
        return tuple(value)

    def _user(self) -> str | None:
        metadata = _object(self.take("metadata"), "metadata")
        self._leave_out("metadata", metadata, ("user_id",))
        return string_or_none(metadata.get("user_id"), "metadata.user_id")

    def _output_and_effort(self) -> tuple[OutputFormat | None, str | None]:
        config = _object(self.take("output_config"), "output_config")
        self._leave_out("output_config", config, ("format", "effort"))
        place = "output_format" if config.get("format") is None else "output_config.format"
        wanted = _object(self.take("output_format") if config.get("format") is None else config["format"], place)
        output = None
        if wanted:
            if wanted.get("type") != "json_schema":
                raise fault(f"{place}.type", "must be json_schema")
            schema = wanted.get("schema")
            if not isinstance(schema, dict):
                raise fault(f"{place}.schema", "must be a JSON Schema object")
            output = OutputFormat(kind="json_schema", schema=_encode(schema), strict=True)
        return output, self._effort(string_or_none(config.get("effort"), "output_config.effort"))

    def _effort(self, said: str | None) -> str | None:
        thinking = _object(self.take("thinking"), "thinking")
        match thinking.get("type"):
            case None:
                return said
            case "disabled":
                if said is not None:
                    self._mark("output_config.effort")
                return None
            case "adaptive":
                return said or ADAPTIVE_EFFORT
            case "enabled":
                budget = thinking.get("budget_tokens")
                if isinstance(budget, bool) or not isinstance(budget, int):
                    raise fault("thinking.budget_tokens", "must be a whole number")
                return said or next((word for most, word in EFFORTS if budget <= most), "high")
            case _:
                raise fault("thinking.type", "must be enabled, adaptive or disabled")

    def _tools(self) -> tuple[Tool, ...]:
        given = self.take("tools")
        if given is not None and not isinstance(given, list):
            raise fault("tools", "must be a list")
        if self._fields.get("mcp_servers"):
            raise fault("mcp_servers", "cannot be sent to another provider")
        tools = []
        for number, tool in enumerate(given or ()):
            place = f"tools[{number}]"
            if not isinstance(tool, dict):
                raise fault(place, "must be an object")
            if tool.get("type") not in (None, "custom"):
                what = f"is {tool['type']!r}: only tools with a schema of their own can be sent to another provider"
                raise fault(f"{place}.type", what)
            tools.append(self._tool(tool, place))
        return tuple(tools)

    def _tool(self, tool: dict[str, Any], place: str) -> Tool:
        schema, strict = tool.get("input_schema"), tool.get("strict")
        if not isinstance(schema, dict):
            raise fault(f"{place}.input_schema", "must be a JSON Schema object")
        if strict is not None and not isinstance(strict, bool):
            raise fault(f"{place}.strict", "must be true or false")
        self._leave_out("tools", tool, _TOOL_FIELDS)
        return Tool(
            name=string(tool.get("name"), f"{place}.name"),
            description=string_or_none(tool.get("description"), f"{place}.description"),
            parameters=_encode(schema),
            strict=strict,
        )

    def _tool_choice(self) -> tuple[ToolChoice | None, bool]:
        """The choice, and whether calls may come one at a time only."""
        choice = self.take("tool_choice")
        if choice is None:
            return None, False
        kind = choice.get("type") if isinstance(choice, dict) else None
        mode = _MODES.get(kind) if isinstance(kind, str) else None
        if mode is None:
            raise fault("tool_choice.type", "must be auto, any, tool or none")
        name = string(choice.get("name"), "tool_choice.name") if mode == "named" else None
        return ToolChoice(mode, name), choice.get("disable_parallel_tool_use") is True

    # --- conversation ---

    def _system(self) -> tuple[Message, ...]:
        parts = self._parts(self.take("system"), "system", only_text=True)
        return (Message(role="system", parts=parts),) if parts else ()

    def _messages(self) -> list[Message]:
        found: list[Message] = []
        for number, message in enumerate(self.items("messages")):
            place = f"messages[{number}]"
            if not isinstance(message, dict):
                raise fault(place, "must be an object")
            role, content = message.get("role"), message.get("content")
            if role not in _ROLES:
                raise fault(f"{place}.role", f"must be one of {', '.join(_ROLES)}")
            place = f"{place}.content"
            if content is None:
                raise fault(place, "is missing")
            if role == "assistant":
                found.append(self._assistant(content, place))
            elif role == "system":
                found.append(Message(role="system", parts=self._parts(content, place, only_text=True)))
            else:
                found += self._user_turn(content, place)
        return found

    def _assistant(self, content: Any, place: str) -> Message:
        if isinstance(content, str):
            return Message(role="assistant", parts=(TextPart(content),) if content else ())
        parts: list[Part] = []
        calls: list[ToolCall] = []
        for block, where in _blocks(content, place):
            match block.get("type"):
                case "text":
                    parts.append(self._text(block, where))
                case "tool_use":
                    calls.append(self._call(block, where))
                case "thinking" | "redacted_thinking":
                    pass
                case other:
                    raise fault(f"{where}.type", f"is {other!r}, which cannot be sent to another provider")
        return Message(role="assistant", parts=tuple(parts), tool_calls=tuple(calls))

    def _call(self, block: dict[str, Any], place: str) -> ToolCall:
        self._mark_caching(block)
        given = block.get("input")
        if given is not None and not isinstance(given, dict):
            raise fault(f"{place}.input", "must be an object")
        name, arguments = string(block.get("name"), f"{place}.name"), _encode(given or {}).decode()
        return ToolCall(string(block.get("id"), f"{place}.id"), name, arguments)

    def _user_turn(self, content: Any, place: str) -> list[Message]:
        """The results of tools, each as a message, and what else the user says."""
        if isinstance(content, str):
            return [Message(role="user", parts=(TextPart(content),) if content else ())]
        results: list[Message] = []
        parts: list[Part] = []
        for block, where in _blocks(content, place):
            if block.get("type") == "tool_result":
                results.append(self._result(block, where))
            else:
                parts += self._block(block, where)
        return [*results, Message(role="user", parts=tuple(parts))] if parts or not results else results

    def _result(self, block: dict[str, Any], place: str) -> Message:
        self._mark_caching(block)
        parts = self._parts(block.get("content"), f"{place}.content")
        if block.get("is_error") is True:
            self._mark("is_error")
            if not any(not isinstance(part, TextPart) or part.text.strip() for part in parts):
                parts = (TextPart(FAILED),)
        return Message(role="tool", call_id=string(block.get("tool_use_id"), f"{place}.tool_use_id"), parts=parts)

    # --- content ---

    def _parts(self, content: Any, place: str, *, only_text: bool = False) -> tuple[Part, ...]:
        if content is None or content == "":
            return ()
        if isinstance(content, str):
            return (TextPart(content),)
        parts: list[Part] = []
        for block, where in _blocks(content, place):
            if only_text and block.get("type") != "text":
                raise fault(f"{where}.type", "must be text")
            parts += self._block(block, where)
        return tuple(parts)

    def _block(self, block: dict[str, Any], place: str) -> list[Part]:
        match block.get("type"):
            case "text":
                return [self._text(block, place)]
            case "image":
                self._mark_caching(block)
                return [_image(_source(block, place), f"{place}.source")]
            case "document":
                return self._document(block, place)
            case "tool_reference":
                return [TextPart(FOUND % string(block.get("tool_name"), f"{place}.tool_name"))]
            case other:
                raise fault(f"{place}.type", f"is {other!r}, which cannot be sent to another provider")

    def _text(self, block: dict[str, Any], place: str) -> TextPart:
        self._mark_caching(block)
        if block.get("citations"):
            self._mark("citations")
        text = block.get("text")
        if not isinstance(text, str):
            raise fault(f"{place}.text", "must be a string")
        return TextPart(text)

    def _document(self, block: dict[str, Any], place: str) -> list[Part]:
        self._mark_caching(block)
        citations = block.get("citations")
        if isinstance(citations, dict) and citations.get("enabled") is True:
            self._mark("citations")
        if block.get("context") is not None:
            self._mark("context")
        name = string_or_none(block.get("title"), f"{place}.title")
        source = _source(block, place)
        place = f"{place}.source"
        match source.get("type"):
            case "base64":
                media_type = string(source.get("media_type"), f"{place}.media_type")
                return [FilePart(name=name, media_type=media_type, data=string(source.get("data"), f"{place}.data"))]
            case "text":
                data = source.get("data")
                if not isinstance(data, str):
                    raise fault(f"{place}.data", "must be a string")
                encoded = base64.b64encode(data.encode("utf-8", "surrogatepass")).decode()
                return [FilePart(name=name, media_type="text/plain", data=encoded)]
            case "url":
                return [FilePart(name=name, url=string(source.get("url"), f"{place}.url"))]
            case "content":
                return list(self._parts(source.get("content"), f"{place}.content"))
            case other:
                raise fault(f"{place}.type", f"is {other!r}, which cannot be sent to another provider")

    # --- what is left out ---

    def _mark(self, name: str) -> None:
        self._marks[name] = None

    def _mark_caching(self, block: dict[str, Any]) -> None:
        if block.get("cache_control") is not None:
            self._mark("cache_control")

    def _leave_out(self, field: str, given: dict[str, Any], known: Any) -> None:
        """Notes members of a field that are not read."""
        self._mark_caching(given)
        for name, value in given.items():
            if name not in known and name != "cache_control" and value is not None:
                self._mark(f"{field}.{name}"[:_MOST_NAME])


_MOST_NAME: Final = 100
"""Characters of a name that is put on record."""


def _object(value: Any, place: str) -> dict[str, Any]:
    """An object, empty where there is none."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise fault(place, "must be an object")
    return value


def _blocks(content: Any, place: str) -> list[tuple[dict[str, Any], str]]:
    if not isinstance(content, list):
        raise fault(place, "must be a string or a list of blocks")
    for number, block in enumerate(content):
        if not isinstance(block, dict):
            raise fault(f"{place}[{number}]", "must be an object")
    return [(block, f"{place}[{number}]") for number, block in enumerate(content)]


def _source(block: dict[str, Any], place: str) -> dict[str, Any]:
    source = block.get("source")
    if not isinstance(source, dict):
        raise fault(f"{place}.source", "must be an object")
    return source


def _image(source: dict[str, Any], place: str) -> ImagePart:
    match source.get("type"):
        case "base64":
            media_type = string(source.get("media_type"), f"{place}.media_type")
            return ImagePart(media_type=media_type, data=string(source.get("data"), f"{place}.data"))
        case "url":
            return ImagePart(url=string(source.get("url"), f"{place}.url"))
        case other:
            raise fault(f"{place}.type", f"is {other!r}, which cannot be sent to another provider")
