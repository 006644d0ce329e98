"""Writes a chat in the words of Ollama's own API (`POST /api/chat`).

Decides what of a chat can be said there and how. Messages keep their order; the text of a message is one string,
pictures stand beside it in base64, and results name the tool that they are of, since calls have no ids there. What
cannot be said is dropped and named, or refused where the chat would mean something else without it.

Facts: ollama/ollama, docs/api.md and api/types.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import ChatRequest, FilePart, ImagePart, Message, Part, TextPart, ToolCall
from crossfade.wire.chat_params import CHAT_PARAMS, adjusted
from crossfade.wire.json_schema import read_schema, tool_schema
from crossfade.wire.written import Written

LEVELS: Final = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
"""What the models are told that think by levels."""

_BY_LEVEL: Final = re.compile(r"(?:.*/)?gpt-oss")
_THINKS: Final = re.compile(
    r"(?:.*/)?(?:gpt-oss|qwen3(?!-coder|-embedding)|qwq|deepseek-r1|deepseek-v3\.[1-9]|magistral|kimi-k2-thinking"
    r"|glm-(?:4\.[5-9]|[5-9])|minimax-m|cogito|exaone-deep|phi4-(?:mini-)?reasoning)"
)
"""Models that can be told to think; the others refuse a request that says so."""

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
    parameters (`temperature`, `max_tokens`, ...), which act on the chat request. Raises InvalidRequest, naming the
    field, for what has no counterpart at all: n > 1, audio, files, pictures that are kept elsewhere.
    """
    set_params, drop_params = tuple(set_params), tuple(drop_params)
    request = adjusted(request, set_params, drop_params)
    if request.n > 1:
        raise InvalidRequest("Ollama gives one answer per request; `n` must be 1", param="n")
    writer = _Writer(request, model)
    body = writer.body()
    body["stream"] = stream  # what is left out is a stream there
    for name in drop_params:
        if name not in CHAT_PARAMS:
            body.pop(name, None)
    for name, value in set_params:
        if name not in CHAT_PARAMS:
            body[name] = msgspec.Raw(value)
    return Written(msgspec.json.encode(body), tuple(dict.fromkeys(writer.dropped)))


class _Writer:
    """Writes one request, part by part; remembers what was dropped."""

    def __init__(self, request: ChatRequest, model: str) -> None:
        self.request, self.model = request, model
        self.dropped: list[str] = []
        self._names = {call.id: call.name for message in request.messages for call in message.tool_calls}

    def body(self) -> Json:
        messages = [said for message in self.request.messages if (said := self._message(message)) is not None]
        if not messages:
            raise InvalidRequest("`messages` has no content", param="messages")
        body: Json = {"model": self.model, "messages": messages}
        self._tools(body)
        self._output(body)
        self._reasoning(body)
        if options := self._options():
            body["options"] = options
        self._note_losses()
        return body

    def _options(self) -> Json:
        request = self.request
        given = {
            "num_predict": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": request.top_k,
            "seed": request.seed,
            "stop": list(request.stop) or None,
            "frequency_penalty": request.frequency_penalty,
            "presence_penalty": request.presence_penalty,
        }
        return {name: value for name, value in given.items() if value is not None}

    def _tools(self, body: Json) -> None:
        request, choice = self.request, self.request.tool_choice
        mode = "auto" if choice is None else choice.mode
        if mode in ("required", "named"):  # a model cannot be made to call
            self.dropped.append("tool_choice")
        if not request.tools or mode == "none":  # without tools it calls none
            return
        tools = request.tools
        if choice is not None and mode == "named":
            tools = tuple([tool for tool in tools if tool.name == choice.name]) or tools
        body["tools"] = []
        for tool in tools:
            function: Json = {"name": tool.name, "parameters": tool_schema(tool)}
            if tool.description is not None:
                function["description"] = tool.description
            body["tools"].append({"type": "function", "function": function})
        if request.parallel_tool_calls is False:
            self.dropped.append("parallel_tool_calls")
        if any(tool.strict for tool in tools):
            self.dropped.append("tools.strict")

    def _output(self, body: Json) -> None:
        output = self.request.output
        if output is not None:
            schema = None if output.schema is None else read_schema(output.schema, "response_format")
            body["format"] = schema or "json"

    def _reasoning(self, body: Json) -> None:
        effort = self.request.reasoning_effort
        if effort is None:
            return
        if not _THINKS.match(self.model) or (effort not in LEVELS and effort != "none"):
            if effort != "none":
                self.dropped.append("reasoning_effort")
        elif _BY_LEVEL.match(self.model):
            body["think"] = LEVELS.get(effort, "low")  # it always thinks
        else:
            body["think"] = effort != "none"

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
        texts: list[str] = []
        images: list[str] = []
        for part in message.parts:
            self._part(part, texts, images)
        if message.refusal:
            texts.append(message.refusal)
        said: Json = {"role": message.role, "content": "\n\n".join([text for text in texts if text])}
        if message.role == "tool":
            if (name := self._names.get(message.call_id)) is not None:
                said["tool_name"] = name
            return said
        if images:
            said["images"] = images
        if message.tool_calls:
            said["tool_calls"] = [_call(call) for call in message.tool_calls]
        return said if said["content"] or len(said) > 2 else None

    def _part(self, part: Part, texts: list[str], images: list[str]) -> None:
        match part:
            case TextPart(text=text):
                texts.append(text)
            case ImagePart(data=str(data)):
                images.append(data)
            case ImagePart():
                raise InvalidRequest("Ollama fetches no pictures; send them inline", param="messages")
            case FilePart(data=str(data), media_type=str(kind)) if kind.lower().startswith("image/"):
                images.append(data)
            case FilePart():
                raise InvalidRequest("Ollama's chat takes no files but pictures", param="messages")
            case _:
                raise InvalidRequest("Ollama's chat takes no audio", param="messages")


def _call(call: ToolCall) -> Json:
    """A call with its arguments as an object; those that are none say nothing there."""
    try:
        arguments = msgspec.json.decode(call.arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        arguments = None
    raw = msgspec.Raw(call.arguments.encode()) if isinstance(arguments, dict) and call.arguments else {}
    return {"function": {"name": call.name, "arguments": raw}}
