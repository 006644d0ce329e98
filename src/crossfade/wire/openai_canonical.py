"""A whole OpenAI chat request read into the canonical one, for translation into another dialect.

Strict: what is read is understood, and what cannot be is a fault that names its field. Fields that have no
canonical place are named in `others`, so that whoever translates can say what it dropped.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

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
from crossfade.wire.fields import FieldReader, data_url, fault, fields_of_body, string, string_or_none
from crossfade.wire.ours import OUR_FIELDS

_encode = msgspec.json.encode

_SILENT: Final = frozenset({*OUR_FIELDS, "model", "stream", "stream_options"})
"""Fields that a translation needs no word about."""
_ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
_NEUTRAL: Final[dict[str, Any]] = {"logprobs": False, "store": False, "modalities": ["text"], "service_tier": "auto"}
"""Values that ask for nothing: such a field is dropped without a word."""


def read_canonical(body: bytes) -> ChatRequest:
    """The request in `body`, a JSON object. Raises InvalidRequest naming the field."""
    return _Reader(fields_of_body(body)).request()


class _Reader(FieldReader):
    """Reads one chat request."""

    def request(self) -> ChatRequest:
        return ChatRequest(
            messages=self._messages(),
            tools=self._tools(),
            tool_choice=self._tool_choice(),
            parallel_tool_calls=self.bool("parallel_tool_calls"),
            output=self._output(),
            max_tokens=self._limit(),
            temperature=self.number("temperature"),
            top_p=self.number("top_p"),
            top_k=self.whole("top_k"),
            stop=self._stop(),
            n=self.whole("n") or 1,
            seed=self.whole("seed"),
            frequency_penalty=self.number("frequency_penalty"),
            presence_penalty=self.number("presence_penalty"),
            reasoning_effort=self._effort(),
            logprobs=self.bool("logprobs") is True,
            top_logprobs=self.whole("top_logprobs"),
            user=self.text("user"),
            others=self.others(_SILENT, _NEUTRAL),
        )

    def _limit(self) -> int | None:
        newer, older = self.whole("max_completion_tokens"), self.whole("max_tokens")
        return older if newer is None else newer

    def _stop(self) -> tuple[str, ...]:
        value = self.take("stop")
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise fault("stop", "must be a string or a list of strings")
        return tuple(value)

    def _effort(self) -> str | None:
        effort = self.text("reasoning_effort")
        given = self.take("reasoning")
        if effort is None and isinstance(given, dict) and isinstance(given.get("effort"), str):
            return str(given["effort"])
        return effort

    # --- tools and output ---

    def _tools(self) -> tuple[Tool, ...]:
        given, legacy = self.take("tools"), self.take("functions")
        for name, value in (("tools", given), ("functions", legacy)):
            if value is not None and not isinstance(value, list):
                raise fault(name, "must be a list")
        tools = []
        for number, tool in enumerate(given or ()):
            place = f"tools[{number}]"
            if not isinstance(tool, dict):
                raise fault(place, "must be an object")
            if tool.get("type", "function") != "function":
                raise fault(
                    f"{place}.type", f"is {tool['type']!r}: only function tools can be sent to another provider"
                )
            tools.append(_tool(tool.get("function"), f"{place}.function"))
        tools += [_tool(function, f"functions[{number}]") for number, function in enumerate(legacy or ())]
        return tuple(tools)

    def _tool_choice(self) -> ToolChoice | None:
        choice, legacy = self.take("tool_choice"), self.take("function_call")
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
                raise fault(place, "must be auto, none, required or name a function")

    def _output(self) -> OutputFormat | None:
        given = self.take("response_format")
        if given is None:
            return None
        kind = given.get("type") if isinstance(given, dict) else None
        if kind == "text":
            return None
        if kind == "json_object":
            return OutputFormat(kind="json_object")
        if kind != "json_schema":
            raise fault("response_format.type", "must be text, json_object or json_schema")
        schema = given.get("json_schema")
        if not isinstance(schema, dict):
            raise fault("response_format.json_schema", "must be an object")
        return OutputFormat(
            kind="json_schema",
            name=string(schema.get("name", "output"), "response_format.json_schema.name"),
            description=string_or_none(schema.get("description"), "response_format.json_schema.description"),
            schema=None if schema.get("schema") is None else _encode(schema["schema"]),
            strict=schema.get("strict") is True,
        )

    # --- messages ---

    def _messages(self) -> tuple[Message, ...]:
        messages: list[Message] = []
        for number, message in enumerate(self.items("messages")):
            messages.append(_message(message, f"messages[{number}]", number))
        return _with_legacy_ids(messages)


def _tool(function: Any, place: str) -> Tool:
    if not isinstance(function, dict):
        raise fault(place, "must be an object")
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise fault(f"{place}.parameters", "must be a JSON Schema object")
    strict = function.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise fault(f"{place}.strict", "must be true or false")
    return Tool(
        name=string(function.get("name"), f"{place}.name"),
        description=string_or_none(function.get("description"), f"{place}.description"),
        parameters=None if parameters is None else _encode(parameters),
        strict=strict,
    )


_LEGACY: Final = "\0function:"
"""Marks the id of a legacy function call until it has one: they are matched by name and order."""


def _message(given: Any, place: str, number: int) -> Message:
    if not isinstance(given, dict):
        raise fault(place, "must be an object")
    role = given.get("role")
    if role not in _ROLES:
        raise fault(f"{place}.role", f"must be one of {', '.join(_ROLES)}")
    parts = _parts(given.get("content"), f"{place}.content", may_be_empty=role == "assistant")
    name = string_or_none(given.get("name"), f"{place}.name")
    if role == "tool":
        call_id = string(given.get("tool_call_id"), f"{place}.tool_call_id")
        return Message(role="tool", parts=parts, call_id=call_id, name=name)
    if role == "function":
        return Message(role="tool", parts=parts, call_id=f"{_LEGACY}{string(name, f'{place}.name')}", name=name)
    if role != "assistant":
        plain: Literal["system", "user"] = "user" if role == "user" else "system"
        return Message(role=plain, parts=parts, name=name)
    refusal = string_or_none(given.get("refusal"), f"{place}.refusal")
    calls = _calls(given, place)
    if not parts and not calls and refusal is None:
        # an assistant turn may be empty: "" is content, null without calls is not
        if given.get("content") is None and not given.get("audio"):
            raise fault(f"{place}.content", "must be there where the assistant made no tool calls")
    return Message(role="assistant", parts=parts, tool_calls=calls, name=name, refusal=refusal)


def _calls(given: dict[str, Any], place: str) -> tuple[ToolCall, ...]:
    calls = given.get("tool_calls")
    legacy = given.get("function_call")
    if calls is not None and not isinstance(calls, list):
        raise fault(f"{place}.tool_calls", "must be a list")
    found = []
    for number, call in enumerate(calls or ()):
        where = f"{place}.tool_calls[{number}]"
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise fault(f"{where}.function", "must be an object")
        found.append(
            ToolCall(
                string(call.get("id"), f"{where}.id"),
                string(function.get("name"), f"{where}.function.name"),
                _arguments(function.get("arguments"), f"{where}.function.arguments"),
            )
        )
    if legacy is not None and not found:
        where = f"{place}.function_call"
        if not isinstance(legacy, dict):
            raise fault(where, "must be an object")
        name = string(legacy.get("name"), f"{where}.name")
        found.append(ToolCall(f"{_LEGACY}{name}", name, _arguments(legacy.get("arguments"), f"{where}.arguments")))
    return tuple(found)


def _arguments(value: Any, place: str) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return _encode(value).decode()
    if not isinstance(value, str):
        raise fault(place, "must be JSON text")
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
                raise fault(f"messages[{number}].name", f"is {name!r}, which no function call before it names")
            message = msgspec.structs.replace(message, call_id=last[name])
        found.append(message)
    return tuple(found)


# --- content parts -------------------------------------------------------------------------------------------


def _parts(content: Any, place: str, *, may_be_empty: bool) -> tuple[Part, ...]:
    if content is None:
        if may_be_empty:
            return ()
        raise fault(place, "must be a string or a list of parts")
    if isinstance(content, str):
        return (TextPart(content),) if content else ()
    if not isinstance(content, list):
        raise fault(place, "must be a string or a list of parts")
    parts = [_part(part, f"{place}[{number}]") for number, part in enumerate(content)]
    return tuple(part for part in parts if part is not None)


def _part(part: Any, place: str) -> Part | None:
    if not isinstance(part, dict):
        raise fault(place, "must be an object")
    match part.get("type"):
        case "text" | "input_text" | "output_text":
            text = part.get("text")
            if not isinstance(text, str):
                raise fault(f"{place}.text", "must be a string")
            return TextPart(text)
        case "refusal":
            return TextPart(string(part.get("refusal"), f"{place}.refusal"))
        case "image_url":
            return _image(part.get("image_url"), f"{place}.image_url")
        case "input_audio":
            audio = part.get("input_audio")
            if not isinstance(audio, dict):
                raise fault(f"{place}.input_audio", "must be an object")
            return AudioPart(
                string(audio.get("data"), f"{place}.input_audio.data"),
                string(audio.get("format"), f"{place}.input_audio.format"),
            )
        case "file":
            return _file(part.get("file"), f"{place}.file")
        case "document_url":
            return _document(part, place)
        case "thinking" | "reasoning":
            return None  # bound to the provider that made it
        case other:
            raise fault(f"{place}.type", f"is {other!r}, which cannot be sent to another provider")


def _image(given: Any, place: str) -> ImagePart:
    detail = None
    if isinstance(given, dict):
        detail = string_or_none(given.get("detail"), f"{place}.detail")
        given = given.get("url")
        place = f"{place}.url"
    url = string(given, place)
    if (inline := data_url(url, place)) is not None:
        return ImagePart(media_type=inline[0], data=inline[1], detail=detail)
    return ImagePart(url=url, detail=detail)


def _file(given: Any, place: str) -> FilePart:
    if not isinstance(given, dict):
        raise fault(place, "must be an object")
    name = string_or_none(given.get("filename"), f"{place}.filename")
    if (file_id := given.get("file_id")) is not None:
        return FilePart(name=name, file_id=string(file_id, f"{place}.file_id"))
    data = string(given.get("file_data"), f"{place}.file_data")
    if (inline := data_url(data, f"{place}.file_data")) is not None:
        return FilePart(name=name, media_type=inline[0], data=inline[1])
    if data.startswith(("http://", "https://")):
        return FilePart(name=name, url=data)
    return FilePart(name=name, data=data)


def _document(part: dict[str, Any], place: str) -> FilePart:
    """Mistral's way to name a document."""
    url = string(part.get("document_url"), f"{place}.document_url")
    name = string_or_none(part.get("document_name"), f"{place}.document_name")
    if (inline := data_url(url, f"{place}.document_url")) is not None:
        return FilePart(name=name, media_type=inline[0], data=inline[1])
    return FilePart(name=name, url=url)
