"""Writes a canonical chat request as a body of Cohere's chat (v2).

Decides how each thing of a chat is said there, and what cannot be: a parameter without a counterpart is left out and
named in `dropped`, a content without one is an InvalidRequest. `docs/dialects/cohere.md` has the table. Knows nothing
of addresses, keys or answers (`cohere.py`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import (
    AudioPart,
    ChatRequest,
    FilePart,
    ImagePart,
    Message,
    Part,
    TextPart,
    Tool,
    ToolCall,
)
from crossfade.wire.chat_params import CHAT_PARAMS, adjusted
from crossfade.wire.cohere_tools import held_schema, plain_name, plain_names
from crossfade.wire.json_schema import JSON_ONLY, read_schema, schema_instruction, tool_schema
from crossfade.wire.written import Written

BUDGETS: Final[Mapping[str, int | None]] = MappingProxyType(
    {"minimal": 1024, "low": 2048, "medium": 8192, "high": None, "xhigh": None, "max": None}
)
"""Thinking tokens by effort, None for as many as the model likes; no more than half of the answer's limit."""
MOST_STOPS: Final = 5
MOST_K: Final = 500
LEAST_P: Final = 0.01
MOST_P: Final = 0.99
MOST_FIELDS: Final = 200
"""Parameters that all tools together may have where the model is held to them."""

_THINKS: Final = re.compile(r"command-a-(?:plus|reasoning)")
_NO_TOOL_CHOICE: Final = re.compile(r"command(?:-light|-nightly|-r(?:-plus)?(?:-\d\d-2024)?)?")
"""Models before `command-r7b`, which cannot be told whether to call."""
_FILLER: Final = "."
"""The text of a turn whose documents stand elsewhere."""
_EMPTY: Final = "(empty)"
"""The text of a result without any: empty turns are refused."""

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
    field, for what has no counterpart at all: n > 1, audio, files that are no text, or kept elsewhere.
    """
    set_params, drop_params = tuple(set_params), tuple(drop_params)
    request = adjusted(request, set_params, drop_params)
    if request.n > 1:
        raise InvalidRequest("Cohere gives one answer per request; `n` must be 1", param="n")
    writer = _Writer(request, model)
    body = writer.body()
    if stream:
        body["stream"] = True
    for name in drop_params:
        if name not in CHAT_PARAMS:
            body.pop(name, None)
    for name, value in set_params:
        if name not in CHAT_PARAMS:
            body[name] = msgspec.Raw(value)
    return Written(msgspec.json.encode(body), tuple(dict.fromkeys(writer.dropped)))


class _Writer:
    """Writes one request, part by part; remembers what was dropped. The order matters: documents and tools rule a
    format out, which then is asked for in words."""

    def __init__(self, request: ChatRequest, model: str) -> None:
        self.request, self.model = request, model
        self.dropped: list[str] = []
        self.documents: list[Json] = []
        self.names = plain_names({tool.name for tool in request.tools})

    def body(self) -> Json:
        body: Json = {"model": self.model, "messages": []}
        messages = [said for message in self.request.messages if (said := self._message(message)) is not None]
        if self.documents:
            body["documents"] = self.documents
        self._tools(body)
        system = _system(self.request.messages)
        if (instruction := self._output(body)) is not None:
            system.append({"type": "text", "text": instruction})
        if content := _content(system):  # alone it is what the user asks
            messages.insert(0, {"role": "system" if messages else "user", "content": content})
        if not messages:
            raise InvalidRequest("`messages` has no content", param="messages")
        body["messages"] = messages
        self._limits(body)
        self._sampling(body)
        self._reasoning(body)
        self._note_losses()
        return body

    # --- limits and sampling ---

    def _limits(self, body: Json) -> None:
        request = self.request
        if request.max_tokens is not None:
            body["max_tokens"] = request.max_tokens
        if request.stop:
            body["stop_sequences"] = request.stop[:MOST_STOPS]
        if len(request.stop) > MOST_STOPS:
            self.dropped.append(f"stop>{MOST_STOPS}")

    def _sampling(self, body: Json) -> None:
        request = self.request
        if request.temperature is not None:
            body["temperature"] = self._at_most("temperature", request.temperature, 1.0)
        if request.top_p is not None:
            body["p"] = min(max(request.top_p, LEAST_P), MOST_P)  # what is left out is 0.75 there
        if request.top_k is not None:
            body["k"] = int(self._at_most("top_k", request.top_k, MOST_K))
        for name in ("frequency_penalty", "presence_penalty"):
            value: float = getattr(request, name) or 0.0
            if value < 0 or (value and "frequency_penalty" in body):  # one of the two is all that is taken
                self.dropped.append(name)
            elif value:
                body[name] = self._at_most(name, value, 1.0)
        if request.seed is not None and request.seed >= 0:
            body["seed"] = request.seed
        elif request.seed is not None:
            self.dropped.append("seed")

    def _at_most(self, name: str, value: float, most: float) -> float:
        if value > most:
            self.dropped.append(f"{name}>{most:g}")
        return min(value, most)

    # --- tools ---

    def _tools(self, body: Json) -> None:
        request = self.request
        choice = request.tool_choice
        if not request.tools:
            if choice is not None and choice.mode in ("required", "named"):
                self.dropped.append("tool_choice")
            return
        if request.parallel_tool_calls is False:
            self.dropped.append("parallel_tool_calls")
        tools = request.tools
        if choice is not None and choice.mode == "named":  # the one that there is, is the one that is called
            tools = tuple([tool for tool in tools if tool.name == choice.name]) or tools
        body["tools"] = [_tool(tool, self.names[tool.name]) for tool in tools]
        if choice is not None and choice.mode != "auto":
            if _NO_TOOL_CHOICE.fullmatch(self.model):
                self.dropped.append("tool_choice")
            else:
                body["tool_choice"] = "NONE" if choice.mode == "none" else "REQUIRED"
        self._make_strict(body, tools)

    def _make_strict(self, body: Json, tools: Sequence[Tool]) -> None:
        """One word for all tools: it is said where each of them wants it and has what it needs."""
        if not any(tool.strict for tool in tools):
            return
        schemas = [tool["function"]["parameters"] for tool in body["tools"]]
        fields = sum(len(schema.get("properties") or ()) for schema in schemas)
        can = fields <= MOST_FIELDS and all(held_schema(schema) == schema for schema in schemas)
        if can and all(tool.strict for tool in tools):
            body["strict_tools"] = True
        else:
            self.dropped.append("tools.strict")

    # --- output and reasoning ---

    def _output(self, body: Json) -> str | None:
        """Puts the format into the body, or gives the sentence that asks for it: beside tools and documents, and for
        schemas that are none of an object, there is none."""
        output = self.request.output
        if output is None:
            return None
        schema = None if output.schema is None else read_schema(output.schema, "response_format")
        held = held_schema(schema)
        if "tools" in body or "documents" in body or (output.kind == "json_schema" and held is None):
            self.dropped.append("response_format")
            return JSON_ONLY if output.schema is None else schema_instruction(output)
        body["response_format"] = {"type": "json_object"}
        if output.kind == "json_schema":
            body["response_format"]["json_schema"] = held
        return None

    def _reasoning(self, body: Json) -> None:
        effort = self.request.reasoning_effort
        if effort is None:
            return
        if not _THINKS.match(self.model) or (effort not in BUDGETS and effort != "none"):
            if effort != "none":
                self.dropped.append("reasoning_effort")
            return
        if effort == "none":
            body["thinking"] = {"type": "disabled"}
            return
        body["thinking"] = {"type": "enabled"}
        if (budget := BUDGETS[effort]) is not None:
            limit = self.request.max_tokens
            body["thinking"]["token_budget"] = budget if limit is None else max(1, min(budget, limit // 2))

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
            case "system":
                return None  # they stand first, as one
            case "tool":
                return {"role": "tool", "tool_call_id": message.call_id, "content": _result(message.parts)}
            case "assistant":
                return self._assistant(message)
            case _:
                content = _content([self._part(part) for part in message.parts])
                if not content and message.parts and not all(isinstance(part, TextPart) for part in message.parts):
                    content = _FILLER
        return {"role": message.role, "content": content} if content else None

    def _part(self, part: Part) -> Json | None:
        """A block of content; None for a document, which goes beside the messages."""
        match part:
            case TextPart(text=text):
                return {"type": "text", "text": text}
            case ImagePart():
                return _image(part)
            case FilePart():
                kind = (part.media_type or "").partition(";")[0].lower()
                if part.data is not None and kind.startswith("image/"):
                    return _image(ImagePart(media_type=kind, data=part.data))
                self.documents.append({"id": f"doc:{len(self.documents)}", "data": _document(part)})
                return None
            case AudioPart():
                raise InvalidRequest("Cohere's chat takes no audio", param="messages")

    def _assistant(self, message: Message) -> Json | None:
        """What it said before its calls is their plan: there is no other text beside calls."""
        texts = [_text(part, "an assistant message")["text"] for part in message.parts]
        if message.refusal:
            texts.append(message.refusal)
        said: Json = {"role": "assistant"}
        if not message.tool_calls:
            content = _content([{"type": "text", "text": text} for text in texts])
            return said | {"content": content} if content else None
        if plan := "".join(texts):
            said["tool_plan"] = plan
        said["tool_calls"] = [self._call(call) for call in message.tool_calls]
        return said

    def _call(self, call: ToolCall) -> Json:
        name = self.names.get(call.name) or plain_name(call.name)
        return {"id": call.id, "type": "function", "function": {"name": name, "arguments": call.arguments or "{}"}}


def _system(messages: Iterable[Message]) -> list[Json]:
    """The texts of all system messages: there is one such turn, and it is the first."""
    given = [message for message in messages if message.role == "system"]
    return [_text(part, "a system message") for message in given for part in message.parts]


def _content(blocks: Iterable[Json | None]) -> str | list[Json]:
    """Blocks, or the text where that is all there is; without texts that are empty."""
    kept = [block for block in blocks if block is not None and block.get("text") != ""]
    if len(kept) == 1 and kept[0]["type"] == "text":
        text: str = kept[0]["text"]
        return text
    return kept


def _text(part: Part, holder: str) -> Json:
    if not isinstance(part, TextPart):
        raise InvalidRequest(f"{holder} holds text only", param="messages")
    return {"type": "text", "text": part.text}


def _result(parts: Iterable[Part]) -> str | list[Json]:
    blocks: list[Json] = []
    for part in parts:
        match part:
            case TextPart(text=text):
                blocks.append({"type": "text", "text": text})
            case FilePart():
                blocks.append({"type": "document", "document": {"data": _document(part)}})
            case _:
                raise InvalidRequest("the result of a tool holds text and documents only", param="messages")
    return _content(blocks) or _EMPTY


def _image(part: ImagePart) -> Json:
    url = part.url if part.data is None else f"data:{part.media_type or 'image/jpeg'};base64,{part.data}"
    if url is None:
        raise InvalidRequest("an image has neither a URL nor data", param="messages")
    image = {"url": url} if part.detail is None else {"url": url, "detail": part.detail}
    return {"type": "image_url", "image_url": image}


def _document(part: FilePart) -> Json:
    """A file of text as the members of a document."""
    kind = (part.media_type or "").partition(";")[0].lower()
    if part.data is None:
        raise InvalidRequest("Cohere fetches no files and knows no file ids; send them inline", param="messages")
    if not kind.startswith("text/") and kind not in ("application/json", "application/xml"):
        raise InvalidRequest(f"a file of type {kind or 'unknown'!r} cannot be sent to Cohere", param="messages")
    try:
        text = base64.b64decode(part.data, validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidRequest("a text file is not base64 of UTF-8", param="messages") from None
    return {"title": part.name, "text": text} if part.name else {"text": text}


# --- schemas -------------------------------------------------------------------------------------------------


def _tool(tool: Tool, name: str) -> Json:
    function: Json = {"name": name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool_schema(tool)
    return {"type": "function", "function": function}
