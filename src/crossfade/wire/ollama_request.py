"""Writes a canonical chat request as a body of Ollama's own chat API.

Decides how each thing of a chat is said there, and what cannot be: a parameter without a counterpart is left out and
named in `dropped`, a content without one is an InvalidRequest. `docs/dialects/ollama.md` has the table. Knows nothing
of addresses, keys or answers (`ollama.py`). What Ollama takes is said in github.com/ollama/ollama, `docs/api.md` and
`api/types.go`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import AudioPart, ChatRequest, FilePart, ImagePart, Message, Part, TextPart, Tool, ToolCall
from crossfade.wire.chat_params import CHAT_PARAMS, adjusted
from crossfade.wire.json_schema import JSON_ONLY, read_schema, schema_instruction, tool_schema
from crossfade.wire.tool_calls import arguments_object
from crossfade.wire.written import Written

LEVELS: Final[Mapping[str, str]] = MappingProxyType(
    {"none": "low", "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
)
"""Levels of models that take nothing else and cannot be told not to think."""

_HAS_LEVELS: Final = re.compile(r"gpt-oss(?:$|[:-])")
_THINKS: Final = re.compile(r"(?:deepseek-r1|deepseek-v3\.1|qwen3)(?:$|:(?!.*instruct))")
"""Models that are documented to think (`docs/capabilities/thinking.mdx`). Others may, and then do it unasked; asked to,
a model that does not answers 400."""
MUST_CALL: Final = "Answer with a call of one or more of the tools, not with text."
"""What stands in for a `tool_choice` that wants a call."""
_OPTIONS: Final = (
    ("max_tokens", "num_predict"),
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("top_k", "top_k"),
    ("seed", "seed"),
    ("frequency_penalty", "frequency_penalty"),
    ("presence_penalty", "presence_penalty"),
)

Json = dict[str, Any]


def write_request(
    request: ChatRequest,
    model: str,
    *,
    stream: bool,
    set_params: Sequence[tuple[str, bytes]] = (),
    drop_params: Iterable[str] = (),
) -> Written:
    """The body for `model`.

    `drop_params`, then `set_params` (JSON text), act on the top level of the result, but for the names of chat
    parameters (`temperature`, `max_tokens`, ...), which act on the chat request; the members of `options` that are set
    are added to those of the request. Raises InvalidRequest, naming the field, for what has no counterpart at all:
    n > 1, audio, files, images that are elsewhere.
    """
    set_params, drop_params = tuple(set_params), tuple(drop_params)
    request = adjusted(request, set_params, drop_params)
    if request.n > 1:
        raise InvalidRequest("Ollama gives one answer per request; `n` must be 1", param="n")
    writer = _Writer(request, model)
    body = writer.body(stream)
    for name in drop_params:
        if name not in CHAT_PARAMS:
            body.pop(name, None)
    for name, value in set_params:
        if name not in CHAT_PARAMS:
            body[name] = _with(body.get(name), value) if name == "options" else msgspec.Raw(value)
    return Written(msgspec.json.encode(body), tuple(dict.fromkeys(writer.dropped)))


def _with(options: Json | None, value: bytes) -> Json:
    given = msgspec.json.decode(value)
    if not isinstance(given, dict):
        raise InvalidRequest("the value set for the target must be an object", param="options")
    return {**(options or {}), **given}


class _Writer:
    """Writes one request, part by part; remembers what was dropped."""

    def __init__(self, request: ChatRequest, model: str) -> None:
        self.request = request
        self.model = model
        self.dropped: list[str] = []
        self.names = {call.id: call.name for message in request.messages for call in message.tool_calls}

    def body(self, stream: bool) -> Json:
        messages = [said for message in self.request.messages if (said := self._message(message)) is not None]
        if not messages:  # such a request only loads the model
            raise InvalidRequest("`messages` has no content", param="messages")
        # Left out, `stream` is true, and turns that are too many for the model's window are left out silently.
        body: Json = {"model": self.model, "messages": messages, "stream": stream, "truncate": False}
        self._tools(body)
        self._output(body)
        self._reasoning(body)
        if options := self._options():
            body["options"] = options
        self._note_losses()
        return body

    def _options(self) -> Json:
        values = [(theirs, getattr(self.request, ours)) for ours, theirs in _OPTIONS]
        options: Json = {name: value for name, value in values if value is not None}
        if self.request.stop:
            options["stop"] = self.request.stop
        return options

    def _tools(self, body: Json) -> None:
        """Tools. Ollama cannot be told whether to call them: those that must not be called are left out, and that some
        must be is said in words."""
        request, choice = self.request, self.request.tool_choice
        is_wanted = choice is not None and choice.mode in ("required", "named")
        if is_wanted:
            self.dropped.append("tool_choice")
        if not request.tools or (choice is not None and choice.mode == "none"):
            return
        if is_wanted:
            _instruct(body["messages"], MUST_CALL)
        if request.parallel_tool_calls is False:
            self.dropped.append("parallel_tool_calls")
        if any(tool.strict for tool in request.tools):
            self.dropped.append("tools.strict")
        tools = request.tools
        if choice is not None and choice.mode == "named":
            tools = tuple([tool for tool in tools if tool.name == choice.name]) or tools
        body["tools"] = [_tool(tool) for tool in tools]

    def _output(self, body: Json) -> None:
        """The format; in words beside tools, since a model that is held to it could not call them."""
        output = self.request.output
        if output is None:
            return
        schema = None if output.schema is None else read_schema(output.schema, "response_format")
        if "tools" in body:
            self.dropped.append("response_format")
            _instruct(body["messages"], JSON_ONLY if output.schema is None else schema_instruction(output))
        else:
            body["format"] = "json" if schema is None else schema

    def _reasoning(self, body: Json) -> None:
        effort = self.request.reasoning_effort
        if effort is None:
            return
        name = self.model.lower().rpartition("/")[2]
        if _HAS_LEVELS.match(name) and effort in LEVELS:
            body["think"] = LEVELS[effort]
        elif effort == "none":
            body["think"] = False
        elif _THINKS.match(name):
            body["think"] = True
        else:
            self.dropped.append("reasoning_effort")

    def _note_losses(self) -> None:
        request = self.request
        if request.logprobs:
            self.dropped.append("logprobs")
        if request.top_logprobs is not None:
            self.dropped.append("top_logprobs")
        if request.user is not None:
            self.dropped.append("user")
        if any(message.name for message in request.messages):
            self.dropped.append("messages.name")
        self.dropped += request.others

    # --- conversation ---

    def _message(self, message: Message) -> Json | None:
        """A message; None for one that says nothing."""
        match message.role:
            case "tool":
                return self._result(message)
            case "assistant":
                return _assistant(message)
            case "system":
                text = _text(message.parts, "a system message")
                return {"role": "system", "content": text} if text else None
            case _:
                return _user(message)

    def _result(self, message: Message) -> Json:
        said: Json = {"role": "tool", "content": _text(message.parts, "the result of a tool")}
        if name := self.names.get(message.call_id):
            said["tool_name"] = name
        if message.call_id:
            said["tool_call_id"] = message.call_id
        return said


def _user(message: Message) -> Json | None:
    texts: list[str] = []
    images: list[str] = []
    for part in message.parts:
        if isinstance(part, TextPart):
            texts.append(part.text)
        else:
            images.append(_image(part))
    said: Json = {"role": "user", "content": _joined(texts)}
    if images:
        said["images"] = images
    return said if said["content"] or images else None


def _assistant(message: Message) -> Json | None:
    text = _text((*message.parts, TextPart(message.refusal or "")), "an assistant message")
    said: Json = {"role": "assistant", "content": text}
    if message.tool_calls:
        said["tool_calls"] = [_call(call) for call in message.tool_calls]
    return said if text or message.tool_calls else None


def _call(call: ToolCall) -> Json:
    function = {"name": call.name, "arguments": arguments_object(call.arguments)}
    return {"id": call.id, "function": function} if call.id else {"function": function}


def _joined(texts: Iterable[str]) -> str:
    """One text of several: a content has no parts."""
    return "\n\n".join([text for text in texts if text])


def _text(parts: Iterable[Part], holder: str) -> str:
    texts = []
    for part in parts:
        if not isinstance(part, TextPart):
            raise InvalidRequest(f"{holder} holds text only", param="messages")
        texts.append(part.text)
    return _joined(texts)


def _image(part: Part) -> str:
    """The base64 of an image; its type is found out by Ollama."""
    match part:
        case ImagePart(data=str(data)):
            return data
        case ImagePart():
            raise InvalidRequest("Ollama fetches no images; send them inline", param="messages")
        case FilePart(data=str(data), media_type=str(kind)) if kind.lower().startswith("image/"):
            return data
        case AudioPart():
            raise InvalidRequest("Ollama's chat takes no audio", param="messages")
        case _:
            raise InvalidRequest("Ollama's chat takes no files but images", param="messages")


def _instruct(messages: list[Json], words: str) -> None:
    """Puts words behind the first system message, or before all where there is none."""
    if messages[0]["role"] == "system":
        messages[0]["content"] = _joined((messages[0]["content"], words))
    else:
        messages.insert(0, {"role": "system", "content": words})


def _tool(tool: Tool) -> Json:
    function: Json = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool_schema(tool)
    return {"type": "function", "function": function}
