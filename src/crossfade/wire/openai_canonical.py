"""A whole OpenAI chat request read into the canonical one, for translation into another dialect.

Strict: what is read is understood, and what cannot be is a fault that names its field. Fields that have no
canonical place are named in `others`, so that whoever translates can say what it dropped.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NoReturn

import msgspec

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import (
    AudioPart,
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
from crossfade.wire.ours import OUR_FIELDS

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.encode
_decode_top = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_SILENT: Final = frozenset({*OUR_FIELDS, "model", "stream", "stream_options"})
"""Fields that a translation needs no word about."""
_ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
_NEUTRAL: Final[dict[str, Any]] = {"logprobs": False, "store": False, "modalities": ["text"], "service_tier": "auto"}
"""Values that ask for nothing: such a field is dropped without a word."""


def read_canonical(body: bytes) -> ChatRequest:
    """The request in `body`, a JSON object. Raises InvalidRequest naming the field."""
    try:
        top = _decode_top(body)
        fields = {name: _decode(value) for name, value in top.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("The body must be a JSON object.") from None
    return _Reader(fields, top).request()


def _fail(place: str, what: str) -> NoReturn:
    raise InvalidRequest(f"`{place}` {what}.", param=place)


_MOST_NUMBER: Final = 2**63
"""What no parameter of any API comes near, and every one of them can be written as."""


class _Reader:
    """Reads the fields of one request and remembers which it has read."""

    def __init__(self, fields: dict[str, Any], top: dict[str, msgspec.Raw]):
        self._fields = fields
        self._top = top
        self._read: set[str] = set()

    def request(self) -> ChatRequest:
        return ChatRequest(
            messages=self._messages(),
            tools=self._tools(),
            tool_choice=self._tool_choice(),
            parallel_tool_calls=self._bool("parallel_tool_calls"),
            output=self._output(),
            max_tokens=self._limit(),
            temperature=self._number("temperature"),
            top_p=self._number("top_p"),
            top_k=self._int("top_k"),
            stop=self._stop(),
            n=self._int("n") or 1,
            seed=self._int("seed"),
            frequency_penalty=self._number("frequency_penalty"),
            presence_penalty=self._number("presence_penalty"),
            reasoning_effort=self._effort(),
            logprobs=self._bool("logprobs") is True,
            top_logprobs=self._int("top_logprobs"),
            user=self._text("user"),
            others=self._others(),
        )

    # --- plain fields ---

    def _take(self, name: str) -> Any:
        self._read.add(name)
        return self._fields.get(name)

    def _bool(self, name: str) -> bool | None:
        value = self._take(name)
        if value is not None and not isinstance(value, bool):
            _fail(name, "must be true or false")
        return value

    def _number(self, name: str) -> float | None:
        value = self._take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            _fail(name, "must be a number")
        if abs(value) > _MOST_NUMBER:
            _fail(name, "is out of all bounds")
        return float(value)

    def _int(self, name: str) -> int | None:
        value = self._take(name)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MOST_NUMBER:
            return value  # as it is: not every whole number is a float
        number = self._number(name)
        if number is None:
            return None
        if number != number // 1:
            _fail(name, "must be a whole number")
        return int(number)

    def _text(self, name: str) -> str | None:
        value = self._take(name)
        if value is not None and not isinstance(value, str):
            _fail(name, "must be a string")
        return value

    def _limit(self) -> int | None:
        newer, older = self._int("max_completion_tokens"), self._int("max_tokens")
        return older if newer is None else newer

    def _stop(self) -> tuple[str, ...]:
        value = self._take("stop")
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            _fail("stop", "must be a string or a list of strings")
        return tuple(value)

    def _effort(self) -> str | None:
        effort = self._text("reasoning_effort")
        given = self._take("reasoning")
        if effort is None and isinstance(given, dict) and isinstance(given.get("effort"), str):
            return str(given["effort"])
        return effort

    def _others(self) -> tuple[str, ...]:
        return tuple(
            name
            for name, value in self._fields.items()
            if name not in self._read and name not in _SILENT and value is not None and _NEUTRAL.get(name) != value
        )

    # --- tools and output ---

    def _tools(self) -> tuple[Tool, ...]:
        given, legacy = self._take("tools"), self._take("functions")
        for name, value in (("tools", given), ("functions", legacy)):
            if value is not None and not isinstance(value, list):
                _fail(name, "must be a list")
        tools = []
        for number, tool in enumerate(given or ()):
            place = f"tools[{number}]"
            if not isinstance(tool, dict):
                _fail(place, "must be an object")
            if tool.get("type", "function") != "function":
                _fail(f"{place}.type", f"is {tool['type']!r}: only function tools can be sent to another provider")
            tools.append(_tool(tool.get("function"), f"{place}.function"))
        tools += [_tool(function, f"functions[{number}]") for number, function in enumerate(legacy or ())]
        return tuple(tools)

    def _tool_choice(self) -> ToolChoice | None:
        choice, legacy = self._take("tool_choice"), self._take("function_call")
        place = "tool_choice" if choice is not None else "function_call"
        if choice is None:
            choice = legacy
        match choice:
            case None:
                return None
            case "auto" | "none" | "required":
                return ToolChoice(choice)
            case "any":
                return ToolChoice("required")
            case {"function": {"name": str(name)}} | {"name": str(name)}:
                return ToolChoice("named", name)
            case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required" as mode}}:
                return ToolChoice(mode)
            case _:
                _fail(place, "must be auto, none, required or name a function")

    def _output(self) -> OutputFormat | None:
        given = self._take("response_format")
        if given is None:
            return None
        kind = given.get("type") if isinstance(given, dict) else None
        if kind == "text":
            return None
        if kind == "json_object":
            return OutputFormat(kind="json_object")
        if kind != "json_schema":
            _fail("response_format.type", "must be text, json_object or json_schema")
        schema = given.get("json_schema")
        if not isinstance(schema, dict):
            _fail("response_format.json_schema", "must be an object")
        return OutputFormat(
            kind="json_schema",
            name=_string(schema.get("name", "output"), "response_format.json_schema.name"),
            description=_string_or_none(schema.get("description"), "response_format.json_schema.description"),
            schema=None if schema.get("schema") is None else _encode(schema["schema"]),
            strict=schema.get("strict") is True,
        )

    # --- messages ---

    def _messages(self) -> tuple[Message, ...]:
        given = self._take("messages")
        if given is None:
            raise InvalidRequest("`messages` is missing.", param="messages", code="missing_required_parameter")
        if not isinstance(given, list):
            _fail("messages", "must be a list")
        if not given:
            _fail("messages", "must have at least one message")
        messages: list[Message] = []
        for number, message in enumerate(given):
            messages.append(_message(message, f"messages[{number}]", number))
        return _with_legacy_ids(messages)


def _tool(function: Any, place: str) -> Tool:
    if not isinstance(function, dict):
        _fail(place, "must be an object")
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        _fail(f"{place}.parameters", "must be a JSON Schema object")
    strict = function.get("strict")
    if strict is not None and not isinstance(strict, bool):
        _fail(f"{place}.strict", "must be true or false")
    return Tool(
        name=_string(function.get("name"), f"{place}.name"),
        description=_string_or_none(function.get("description"), f"{place}.description"),
        parameters=None if parameters is None else _encode(parameters),
        strict=strict,
    )


def _string(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value:
        _fail(place, "must be a string that is not empty")
    return value


def _string_or_none(value: Any, place: str) -> str | None:
    if value is not None and not isinstance(value, str):
        _fail(place, "must be a string")
    return value


_LEGACY: Final = "\0function:"
"""Marks the id of a legacy function call until it has one: they are matched by name and order."""


def _message(given: Any, place: str, number: int) -> Message:
    if not isinstance(given, dict):
        _fail(place, "must be an object")
    role = given.get("role")
    if role not in _ROLES:
        _fail(f"{place}.role", f"must be one of {', '.join(_ROLES)}")
    parts = _parts(given.get("content"), f"{place}.content", may_be_empty=role == "assistant")
    name = _string_or_none(given.get("name"), f"{place}.name")
    if role == "tool":
        call_id = _string(given.get("tool_call_id"), f"{place}.tool_call_id")
        return Message(role="tool", parts=parts, call_id=call_id, name=name)
    if role == "function":
        return Message(role="tool", parts=parts, call_id=f"{_LEGACY}{_string(name, f'{place}.name')}", name=name)
    if role != "assistant":
        plain: Literal["system", "user"] = "user" if role == "user" else "system"
        return Message(role=plain, parts=parts, name=name)
    refusal = _string_or_none(given.get("refusal"), f"{place}.refusal")
    calls = _calls(given, place)
    if not parts and not calls and refusal is None:
        # an assistant turn may be empty: "" is content, null without calls is not
        if given.get("content") is None and not given.get("audio"):
            _fail(f"{place}.content", "must be there where the assistant made no tool calls")
    return Message(role="assistant", parts=parts, tool_calls=calls, name=name, refusal=refusal)


def _calls(given: dict[str, Any], place: str) -> tuple[ToolCall, ...]:
    calls = given.get("tool_calls")
    legacy = given.get("function_call")
    if calls is not None and not isinstance(calls, list):
        _fail(f"{place}.tool_calls", "must be a list")
    found = []
    for number, call in enumerate(calls or ()):
        where = f"{place}.tool_calls[{number}]"
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            _fail(f"{where}.function", "must be an object")
        found.append(
            ToolCall(
                _string(call.get("id"), f"{where}.id"),
                _string(function.get("name"), f"{where}.function.name"),
                _arguments(function.get("arguments"), f"{where}.function.arguments"),
            )
        )
    if legacy is not None and not found:
        where = f"{place}.function_call"
        if not isinstance(legacy, dict):
            _fail(where, "must be an object")
        name = _string(legacy.get("name"), f"{where}.name")
        found.append(ToolCall(f"{_LEGACY}{name}", name, _arguments(legacy.get("arguments"), f"{where}.arguments")))
    return tuple(found)


def _arguments(value: Any, place: str) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return _encode(value).decode()
    if not isinstance(value, str):
        _fail(place, "must be JSON text")
    return value


def _with_legacy_ids(messages: list[Message]) -> tuple[Message, ...]:
    """Gives legacy function calls and their results ids: a result belongs to the last call before it."""
    if not any(
        message.call_id.startswith(_LEGACY) or any(call.id.startswith(_LEGACY) for call in message.tool_calls)
        for message in messages
    ):
        return tuple(messages)
    last: dict[str, str] = {}
    found = []
    for number, message in enumerate(messages):
        if message.tool_calls and message.tool_calls[0].id.startswith(_LEGACY):
            call = message.tool_calls[0]
            last[call.name] = f"call_{number}"
            message = msgspec.structs.replace(
                message, tool_calls=(ToolCall(last[call.name], call.name, call.arguments),)
            )
        elif message.call_id.startswith(_LEGACY):
            name = message.call_id.removeprefix(_LEGACY)
            if name not in last:
                _fail(f"messages[{number}].name", f"is {name!r}, which no function call before it names")
            message = msgspec.structs.replace(message, call_id=last[name])
        found.append(message)
    return tuple(found)


# --- content parts -------------------------------------------------------------------------------------------


def _parts(content: Any, place: str, *, may_be_empty: bool) -> tuple[Part, ...]:
    if content is None:
        if may_be_empty:
            return ()
        _fail(place, "must be a string or a list of parts")
    if isinstance(content, str):
        return (TextPart(content),) if content else ()
    if not isinstance(content, list):
        _fail(place, "must be a string or a list of parts")
    parts = [_part(part, f"{place}[{number}]") for number, part in enumerate(content)]
    return tuple(part for part in parts if part is not None)


def _part(part: Any, place: str) -> Part | None:
    if not isinstance(part, dict):
        _fail(place, "must be an object")
    match part.get("type"):
        case "text" | "input_text" | "output_text":
            text = part.get("text")
            if not isinstance(text, str):
                _fail(f"{place}.text", "must be a string")
            return TextPart(text)
        case "refusal":
            return TextPart(_string(part.get("refusal"), f"{place}.refusal"))
        case "image_url":
            return _image(part.get("image_url"), f"{place}.image_url")
        case "input_audio":
            audio = part.get("input_audio")
            if not isinstance(audio, dict):
                _fail(f"{place}.input_audio", "must be an object")
            return AudioPart(
                _string(audio.get("data"), f"{place}.input_audio.data"),
                _string(audio.get("format"), f"{place}.input_audio.format"),
            )
        case "file":
            return _file(part.get("file"), f"{place}.file")
        case "document_url":
            return _document(part, place)
        case "thinking" | "reasoning":
            return None  # bound to the provider that made it
        case other:
            _fail(f"{place}.type", f"is {other!r}, which cannot be sent to another provider")


def _image(given: Any, place: str) -> ImagePart:
    detail = None
    if isinstance(given, dict):
        detail = _string_or_none(given.get("detail"), f"{place}.detail")
        given = given.get("url")
        place = f"{place}.url"
    url = _string(given, place)
    if (inline := _data_url(url, place)) is not None:
        return ImagePart(media_type=inline[0], data=inline[1], detail=detail)
    return ImagePart(url=url, detail=detail)


def _file(given: Any, place: str) -> FilePart:
    if not isinstance(given, dict):
        _fail(place, "must be an object")
    name = _string_or_none(given.get("filename"), f"{place}.filename")
    if (file_id := given.get("file_id")) is not None:
        return FilePart(name=name, file_id=_string(file_id, f"{place}.file_id"))
    data = _string(given.get("file_data"), f"{place}.file_data")
    if (inline := _data_url(data, f"{place}.file_data")) is not None:
        return FilePart(name=name, media_type=inline[0], data=inline[1])
    if data.startswith(("http://", "https://")):
        return FilePart(name=name, url=data)
    return FilePart(name=name, data=data)


def _document(part: dict[str, Any], place: str) -> FilePart:
    """Mistral's way to name a document."""
    url = _string(part.get("document_url"), f"{place}.document_url")
    name = _string_or_none(part.get("document_name"), f"{place}.document_name")
    if (inline := _data_url(url, f"{place}.document_url")) is not None:
        return FilePart(name=name, media_type=inline[0], data=inline[1])
    return FilePart(name=name, url=url)


def _data_url(url: str, place: str) -> tuple[str, str] | None:
    """Media type and base64 text of a `data:` URL; None for another URL."""
    if not url.startswith("data:"):
        return None
    head, comma, data = url[5:].partition(",")
    media_type, *options = head.split(";")
    if not comma or "base64" not in options:
        _fail(place, "must be base64 where it is a data URL")
    return media_type or "application/octet-stream", data
