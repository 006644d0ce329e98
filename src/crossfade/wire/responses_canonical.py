"""A whole request to the Responses API read into the canonical one, for translation into another dialect.

Strict: what is read is understood, and what cannot be is a fault that names its field. What has no canonical place is
named in `others`, so that whoever translates can say what it dropped. What only the provider that keeps it knows
(an earlier response, a conversation, an item by its id, a stored prompt), and tools that a provider runs itself, are
faults: without them the answer would be one to another question. Reasoning of earlier turns is bound to the provider
that made it and goes nowhere else; nobody misses it.
"""

from __future__ import annotations

from collections.abc import Collection
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

STATEFUL: Final = ("previous_response_id", "conversation", "prompt")
"""Fields that name what the provider keeps."""
SEND_ALL: Final = "names what another provider does not have; send the whole conversation as `input`"

_SILENT: Final = frozenset({*OUR_FIELDS, "model", "stream", "stream_options"})
"""Fields that a translation needs no word about."""
_NEUTRAL: Final[dict[str, Any]] = {
    "background": False,
    "include": [],
    "metadata": {},
    "service_tier": "auto",
    "store": False,
    "top_logprobs": 0,
    "truncation": "disabled",
}
"""Values that ask for nothing: such a field is dropped without a word."""
_ROLES: Final = ("user", "assistant", "system", "developer")
_KNOWN: Final = frozenset(
    {
        "type",
        "id",
        "status",
        "role",
        "content",
        "phase",
        "text",
        "annotations",
        "logprobs",
        "refusal",
        "image_url",
        "detail",
        "file_id",
        "file_data",
        "file_url",
        "filename",
        "input_audio",
        "call_id",
        "name",
        "arguments",
        "output",
    }
)
"""Members of items and parts that are read, or that only label what an answer had."""
_TOOL_FIELDS: Final = frozenset({"type", "name", "description", "parameters", "strict"})
_MOST_NAME: Final = 100
"""Characters of a name that is put on record."""


def read_canonical(body: bytes) -> ChatRequest:
    """The request in `body`, a JSON object. Raises InvalidRequest naming the field."""
    return _Reader(fields_of_body(body)).request()


class _Reader(FieldReader):
    """Reads one request. `_marks` are the names of what was left out below the top level."""

    def __init__(self, fields: dict[str, Any]):
        super().__init__(fields)
        self._marks: dict[str, None] = {}

    def request(self) -> ChatRequest:
        for name in STATEFUL:
            if self._fields.get(name) is not None:
                raise fault(name, SEND_ALL)
        messages = (*self._instructions(), *self._messages())
        tools, choice = self._tools_and_choice()
        return ChatRequest(
            messages=messages,
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=self.bool("parallel_tool_calls"),
            output=self._output(),
            max_tokens=self.whole("max_output_tokens"),
            temperature=self.number("temperature"),
            top_p=self.number("top_p"),
            reasoning_effort=self._effort(),
            user=self._user(),
            others=(*self.others(_SILENT, _NEUTRAL), *self._marks),
        )

    # --- fields ---

    def _instructions(self) -> tuple[Message, ...]:
        text = self.text("instructions")
        return (Message(role="system", parts=(TextPart(text),)),) if text else ()

    def _user(self) -> str | None:
        """The newer name wins; the older one is then left over, and named."""
        return self.text("safety_identifier" if self._fields.get("safety_identifier") is not None else "user")

    def _effort(self) -> str | None:
        given = _object(self.take("reasoning"), "reasoning")
        self._leave_out("reasoning", given, ("effort",))
        return string_or_none(given.get("effort"), "reasoning.effort")

    def _output(self) -> OutputFormat | None:
        text = _object(self.take("text"), "text")
        if text.get("verbosity") != "medium":  # the usual one
            self._leave_out("text", text, ("format",))
        given = _object(text.get("format"), "text.format")
        match given.get("type"):
            case None | "text":
                return None
            case "json_object":
                return OutputFormat(kind="json_object")
            case "json_schema":
                pass
            case _:
                raise fault("text.format.type", "must be text, json_object or json_schema")
        schema = given.get("schema")
        if not isinstance(schema, dict):
            raise fault("text.format.schema", "must be a JSON Schema object")
        return OutputFormat(
            kind="json_schema",
            name=string(given.get("name", "output"), "text.format.name"),
            description=string_or_none(given.get("description"), "text.format.description"),
            schema=_encode(schema),
            strict=given.get("strict") is True,
        )

    # --- tools ---

    def _tools_and_choice(self) -> tuple[tuple[Tool, ...], ToolChoice | None]:
        given, choice = self.take("tools"), self.take("tool_choice")
        if given is not None and not isinstance(given, list):
            raise fault("tools", "must be a list")
        tools = tuple(self._tool(tool, f"tools[{number}]") for number, tool in enumerate(given or ()))
        match choice:
            case None:
                return tools, None
            case "auto" | "none" | "required":
                return tools, ToolChoice(choice)
            case {"type": "function", "name": str(name)}:
                return tools, ToolChoice("named", name)
            case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": list(allowed)}:
                names = {one.get("name") for one in allowed if isinstance(one, dict) and one.get("type") == "function"}
                return tuple(tool for tool in tools if tool.name in names), ToolChoice(mode)
            case _:
                raise fault("tool_choice", "must be auto, none, required, or name functions")

    def _tool(self, tool: Any, place: str) -> Tool:
        if not isinstance(tool, dict):
            raise fault(place, "must be an object")
        if tool.get("type") != "function":
            what = f"is {tool.get('type')!r}: only function tools can be sent to another provider"
            raise fault(f"{place}.type", what)
        parameters, strict = tool.get("parameters"), tool.get("strict")
        if parameters is not None and not isinstance(parameters, dict):
            raise fault(f"{place}.parameters", "must be a JSON Schema object")
        if strict is not None and not isinstance(strict, bool):
            raise fault(f"{place}.strict", "must be true or false")
        self._leave_out("tools", tool, _TOOL_FIELDS)
        return Tool(
            name=string(tool.get("name"), f"{place}.name"),
            description=string_or_none(tool.get("description"), f"{place}.description"),
            parameters=None if parameters is None else _encode(parameters),
            strict=strict,
        )

    # --- conversation ---

    def _messages(self) -> list[Message]:
        if isinstance(self._fields.get("input"), str):
            text = self.take("input")
            return [Message(role="user", parts=(TextPart(text),) if text else ())]
        found: list[Message] = []
        for number, item in enumerate(self.items("input")):
            place = f"input[{number}]"
            if not isinstance(item, dict):
                raise fault(place, "must be an object")
            self._add(found, item, place)
        return found

    def _add(self, found: list[Message], item: dict[str, Any], place: str) -> None:
        """Adds what one item says: a message, or a call of the message before it."""
        match item.get("type"):
            case "message":
                self._add_message(found, item, place)
            case None if "role" in item:
                self._add_message(found, item, place)
            case "function_call":
                self._leave_out("input", item, _KNOWN)
                self._add_call(found, item, place)
            case "function_call_output":
                self._leave_out("input", item, _KNOWN)
                parts = self._parts(item.get("output"), f"{place}.output")
                call_id = string(item.get("call_id"), f"{place}.call_id")
                found.append(Message(role="tool", call_id=call_id, parts=parts))
            case "reasoning":
                pass
            case None | "item_reference":
                raise fault(place, SEND_ALL)
            case other:
                raise fault(f"{place}.type", f"is {other!r}, which cannot be sent to another provider")

    def _add_message(self, found: list[Message], item: dict[str, Any], place: str) -> None:
        role = item.get("role")
        if role not in _ROLES:
            raise fault(f"{place}.role", f"must be one of {', '.join(_ROLES)}")
        self._leave_out("input", item, _KNOWN)
        content = item.get("content")
        if content is None:
            raise fault(f"{place}.content", "is missing")
        if role != "assistant":
            plain: Literal["user", "system"] = "user" if role == "user" else "system"
            found.append(Message(role=plain, parts=self._parts(content, f"{place}.content")))
            return
        parts, refusal = self._answer(content, f"{place}.content")
        last = found[-1] if found else None
        if last is not None and last.role == "assistant" and last.tool_calls and refusal is None:
            found[-1] = msgspec.structs.replace(last, parts=(*last.parts, *parts))  # words behind a call: one turn
        else:
            found.append(Message(role="assistant", parts=parts, refusal=refusal))

    def _answer(self, content: Any, place: str) -> tuple[tuple[Part, ...], str | None]:
        """What the assistant said, and its refusal."""
        if isinstance(content, str):
            return self._parts(content, place), None
        said: list[Part] = []
        refusal: str | None = None
        for part, where in _objects(content, place):
            if part.get("type") == "refusal":
                refusal = (refusal or "") + string(part.get("refusal"), f"{where}.refusal")
            else:
                said += self._part(part, where)
        return tuple(said), refusal

    def _add_call(self, found: list[Message], item: dict[str, Any], place: str) -> None:
        arguments = item.get("arguments")
        if arguments is not None and not isinstance(arguments, str):
            raise fault(f"{place}.arguments", "must be JSON text")
        name = string(item.get("name"), f"{place}.name")
        call = ToolCall(string(item.get("call_id"), f"{place}.call_id"), name, arguments or "")
        if found and found[-1].role == "assistant":
            found[-1] = msgspec.structs.replace(found[-1], tool_calls=(*found[-1].tool_calls, call))
        else:
            found.append(Message(role="assistant", tool_calls=(call,)))

    # --- content ---

    def _parts(self, content: Any, place: str) -> tuple[Part, ...]:
        if content is None or content == "":
            return ()
        if isinstance(content, str):
            return (TextPart(content),)
        return tuple(made for part, where in _objects(content, place) for made in self._part(part, where))

    def _part(self, part: dict[str, Any], place: str) -> tuple[Part, ...]:
        self._leave_out("input", part, _KNOWN)
        if part.get("annotations"):
            self._marks["annotations"] = None
        match part.get("type"):
            case "input_text" | "output_text" | "text":
                text = part.get("text")
                if not isinstance(text, str):
                    raise fault(f"{place}.text", "must be a string")
                return (TextPart(text),)
            case "input_image":
                return (_image(part, place),)
            case "input_file":
                return (_file(part, place),)
            case "input_audio":
                audio, place = part.get("input_audio"), f"{place}.input_audio"
                if not isinstance(audio, dict):
                    raise fault(place, "must be an object")
                return (
                    AudioPart(
                        string(audio.get("data"), f"{place}.data"), string(audio.get("format"), f"{place}.format")
                    ),
                )
            case other:
                raise fault(f"{place}.type", f"is {other!r}, which cannot be sent to another provider")

    # --- what is left out ---

    def _leave_out(self, field: str, given: dict[str, Any], known: Collection[str]) -> None:
        """Notes members of a field that are not read."""
        for name, value in given.items():
            if name not in known and value is not None:
                self._marks[f"{field}.{name}"[:_MOST_NAME]] = None


def _object(value: Any, place: str) -> dict[str, Any]:
    """An object, empty where there is none."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise fault(place, "must be an object")
    return value


def _objects(content: Any, place: str) -> list[tuple[dict[str, Any], str]]:
    if not isinstance(content, list):
        raise fault(place, "must be a string or a list of parts")
    for number, part in enumerate(content):
        if not isinstance(part, dict):
            raise fault(f"{place}[{number}]", "must be an object")
    return [(part, f"{place}[{number}]") for number, part in enumerate(content)]


def _image(part: dict[str, Any], place: str) -> ImagePart:
    if part.get("image_url") is None and part.get("file_id") is not None:
        raise fault(f"{place}.file_id", SEND_ALL.replace("whole conversation as `input`", "image itself"))
    detail, place = string_or_none(part.get("detail"), f"{place}.detail"), f"{place}.image_url"
    url = string(part.get("image_url"), place)
    if (inline := data_url(url, place)) is not None:
        return ImagePart(media_type=inline[0], data=inline[1], detail=detail)
    return ImagePart(url=url, detail=detail)


def _file(part: dict[str, Any], place: str) -> FilePart:
    name = string_or_none(part.get("filename"), f"{place}.filename")
    if (file_id := part.get("file_id")) is not None:
        return FilePart(name=name, file_id=string(file_id, f"{place}.file_id"))
    if (url := part.get("file_url")) is not None:
        return FilePart(name=name, url=string(url, f"{place}.file_url"))
    data = string(part.get("file_data"), f"{place}.file_data")
    if (inline := data_url(data, f"{place}.file_data")) is not None:
        return FilePart(name=name, media_type=inline[0], data=inline[1])
    return FilePart(name=name, data=data)
