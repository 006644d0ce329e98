"""Anthropic messages, outbound: a canonical chat request to its JSON.

Decides how each thing of a chat is said in this dialect, and what cannot be: a parameter without a counterpart is
left out and named in `dropped`, a content without one is an InvalidRequest. `docs/dialects/anthropic.md` has the table.
Knows nothing of HTTP or keys. The answers are read in `anthropic_answer.py` and `anthropic_stream.py`.

- `response_format: json_object` has no counterpart: the system prompt gets an instruction. `json_schema` goes to
  `output_config.format` where the model and the schema allow it, and else into the system prompt as well.
- `max_tokens` is required here: the caller's, else what the model can write up to 64,000, less where its window
  is nearly full.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
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
from crossfade.wire.anthropic_models import ModelTraits, traits_of
from crossfade.wire.anthropic_schema import MAX_STRICT_TOOLS, closed_schema, fits_limits
from crossfade.wire.json_schema import JSON_ONLY, read_schema, schema_instruction, tool_schema
from crossfade.wire.written import Written

DEFAULT_MAX_TOKENS: Final = 8_192
"""`max_tokens` where neither the caller nor the table of models says one."""
MAX_DEFAULT_MAX_TOKENS: Final = 64_000
"""The most that is asked for unbidden: every recent model can write it, and no answer should need more."""
MIN_DEFAULT_MAX_TOKENS: Final = 4_096
"""What a nearly full window leaves of the default."""
MIN_THINKING: Final = 1024
"""The least `budget_tokens` that the API takes."""
BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768}
"""`reasoning_effort` for models that think by a budget; at most half of `max_tokens`."""
MAX_USER_ID: Final = 256

_OPENING = "."
"""The user turn put in front of a conversation that begins with the assistant, which the API may refuse."""


# --- request -------------------------------------------------------------------------------------------------


def write_request(
    request: ChatRequest,
    *,
    model: str,
    stream: bool,
    input_tokens: int = 0,
    window: int | None = None,
    set_params: Sequence[tuple[str, bytes]] = (),
    drop_params: Sequence[str] = (),
) -> Written:
    """The request in Anthropic's JSON. `input_tokens` (an estimate) and `window` bound the default `max_tokens`.

    `drop_params`, then `set_params` (JSON text), are applied to the top level of the result. Raises InvalidRequest,
    naming the field, for what has no counterpart at all: n > 1, audio, ids of files kept elsewhere, unknown files.
    """
    if request.n > 1:
        raise InvalidRequest("an Anthropic model gives one answer per request; `n` must be 1", param="n")
    writer = _Writer(request, traits_of(model))
    body: dict[str, Any] = {"model": model}
    writer.write_limits(body, input_tokens, window)
    writer.write_tools(body)
    writer.write_reasoning(body)
    writer.write_sampling(body)
    writer.write_output(body)
    writer.write_conversation(body)
    if stream:
        body["stream"] = True
    for name in drop_params:
        body.pop(name, None)
    for name, value in set_params:
        body[name] = msgspec.Raw(value)
    return Written(msgspec.json.encode(body), tuple(dict.fromkeys((*writer.dropped, *request.others))))


class _Writer:
    """Writes one request, part by part, into one body; remembers what was dropped. The order of the parts matters:
    tools may rule thinking out, thinking rules sampling, the output format may add to the system prompt."""

    def __init__(self, request: ChatRequest, traits: ModelTraits):
        self.request, self.traits = request, traits
        self.turns = _turns(request.messages)
        self.dropped: list[str] = []
        self.instructions: list[str] = []

    def write_limits(self, body: dict[str, Any], input_tokens: int, window: int | None) -> None:
        most, wanted = self.traits.max_output, self.request.max_tokens
        if wanted is not None:
            if most is not None and wanted > most:
                self.dropped.append(f"max_tokens>{most}")
                wanted = most
            body["max_tokens"] = wanted
        else:
            default = min(most or DEFAULT_MAX_TOKENS, MAX_DEFAULT_MAX_TOKENS)
            if window is not None:  # older models refuse a prompt and `max_tokens` that exceed the window together
                default = min(default, max(MIN_DEFAULT_MAX_TOKENS, window - input_tokens * 5 // 4))
            body["max_tokens"] = default
        stop = [text for text in self.request.stop if text.strip()]
        if stop:
            body["stop_sequences"] = stop
        if len(stop) < len(self.request.stop):
            self.dropped.append("stop")  # white space only: the API refuses it
        if self.request.user:
            if _is_user_id(self.request.user):
                body["metadata"] = {"user_id": self.request.user}
            else:
                self.dropped.append("user")

    def write_tools(self, body: dict[str, Any]) -> None:
        tools = [_tool(tool) for tool in self.request.tools]
        if not tools:
            if self.request.tool_choice is not None and self.request.tool_choice.mode in ("required", "named"):
                self.dropped.append("tool_choice")
            # A history with calls needs definitions; the model may not use them, since the caller gave none.
            names = dict.fromkeys(call.name for message in self.request.messages for call in message.tool_calls)
            if names:
                body["tools"] = [{"name": name, "input_schema": {"type": "object"}} for name in names]
                body["tool_choice"] = {"type": "none"}
            return
        self._make_strict(tools)
        body["tools"] = tools
        if (choice := self._tool_choice()) is not None:
            body["tool_choice"] = choice

    def _make_strict(self, tools: list[dict[str, Any]]) -> None:
        """`strict` where model, schemas and the API's limits allow it: it is a promise that may be left out."""
        asked = [i for i, tool in enumerate(self.request.tools) if tool.strict]
        if not asked:
            return
        schemas = {i: closed_schema(tools[i]["input_schema"]) for i in asked} if self.traits.structured else {}
        closed = {i: schema for i, schema in schemas.items() if schema is not None}
        if len(closed) > MAX_STRICT_TOOLS or not fits_limits(closed.values()):
            closed = {}
        for i, schema in closed.items():
            tools[i].update(input_schema=schema, strict=True)
        if len(closed) < len(asked):
            self.dropped.append("tools.strict")

    def _tool_choice(self) -> dict[str, Any] | None:
        asked = self.request.tool_choice
        mode = asked.mode if asked else "auto"
        if mode in ("required", "named") and not self.traits.forced_tools:
            self.dropped.append("tool_choice")
            mode = "auto"
        serial = self.request.parallel_tool_calls is False
        if mode == "none":
            return {"type": "none"}
        if asked is None and not serial:
            return None
        choice: dict[str, Any] = {"type": "any" if mode == "required" else "auto"}
        if mode == "named":
            assert asked is not None
            choice = {"type": "tool", "name": asked.name}
        if serial:
            choice["disable_parallel_tool_use"] = True
        return choice

    def write_reasoning(self, body: dict[str, Any]) -> None:
        """Thinking and effort from `reasoning_effort`, as far as the model has them."""
        effort, traits = self.request.reasoning_effort, self.traits
        if effort is None:
            return
        if effort == "none":
            if traits.thinking == "adaptive":
                body["thinking"] = {"type": "disabled"}
            elif traits.thinking == "always":
                body["output_config"] = {"effort": traits.efforts[0]}
                self.dropped.append("reasoning_effort=none")
            return
        if effort not in BUDGETS or (traits.thinking == "none" and not traits.efforts):
            self.dropped.append("reasoning_effort")
            return
        if traits.efforts:
            body["output_config"] = {"effort": _effort(effort, traits.efforts)}
        if traits.thinking == "adaptive" and not self._ends_in_assistant():
            body["thinking"] = {"type": "adaptive"}
        elif traits.thinking == "budget":
            budget = min(BUDGETS[effort], body["max_tokens"] // 2)
            if budget >= MIN_THINKING and self._may_think_by_budget(body):
                body["thinking"] = {"type": "enabled", "budget_tokens": budget}
            elif not traits.efforts:
                self.dropped.append("reasoning_effort")

    def _ends_in_assistant(self) -> bool:
        return bool(self.turns) and self.turns[-1]["role"] == "assistant"

    def _may_think_by_budget(self, body: dict[str, Any]) -> bool:
        """Not with a forced call, nor a prefill, nor inside a tool loop, whose thinking blocks we do not have."""
        if body.get("tool_choice", {}).get("type") in ("any", "tool") or self._ends_in_assistant():
            return False
        return not self.turns or self.turns[-1]["content"][0]["type"] != "tool_result"

    def write_sampling(self, body: dict[str, Any]) -> None:
        request, traits = self.request, self.traits
        thinks = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
        given = {
            name: value for name in ("temperature", "top_p", "top_k") if (value := getattr(request, name)) is not None
        }
        if traits.sampling == "none" or thinks:
            # A default said aloud is no loss; the API may refuse even that.
            self.dropped += [name for name, value in given.items() if name == "top_k" or value != 1]
            given = {}
        elif traits.sampling == "one" and "temperature" in given and given.pop("top_p", 1) != 1:
            self.dropped.append("top_p")
        if given.get("temperature", 0) > 1:
            given["temperature"] = 1.0
            self.dropped.append("temperature>1")
        body.update(given)
        self._drop_unknown()

    def _drop_unknown(self) -> None:
        request = self.request
        if request.seed is not None:
            self.dropped.append("seed")
        if request.logprobs:
            self.dropped.append("logprobs")
        if request.top_logprobs is not None:
            self.dropped.append("top_logprobs")
        for name in ("frequency_penalty", "presence_penalty"):
            if getattr(request, name):  # 0 is what everyone does without it
                self.dropped.append(name)

    def write_output(self, body: dict[str, Any]) -> None:
        output = self.request.output
        if output is None:
            return
        if output.kind == "json_object" or output.schema is None:
            self.instructions.append(JSON_ONLY)
            return
        schema = closed_schema(read_schema(output.schema, "response_format")) if self.traits.structured else None
        if schema is not None and fits_limits([schema]):
            body.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": schema}
        else:
            self.instructions.append(schema_instruction(output))
            self.dropped.append("response_format")

    def write_conversation(self, body: dict[str, Any]) -> None:
        system = _system(self.request.messages) + [_text(text) for text in self.instructions]
        turns = self.turns
        if not turns and system:
            turns, system = [{"role": "user", "content": system}], []
        if not turns:
            raise InvalidRequest("`messages` has no content", param="messages")
        if turns[0]["role"] == "assistant":
            turns.insert(0, {"role": "user", "content": [_text(_OPENING)]})
        if any(message.name for message in self.request.messages):
            self.dropped.append("messages.name")
        if system:
            body["system"] = _short(system)
        body["messages"] = [{"role": turn["role"], "content": _short(turn["content"])} for turn in turns]


def _effort(asked: str, known: Sequence[str]) -> str:
    """The word asked for, or the next weaker one that the model knows."""
    ladder = ("minimal", "low", "medium", "high", "xhigh", "max")
    weaker = [word for word in known if ladder.index(word) <= ladder.index(asked)]
    return weaker[-1] if weaker else known[0]


_PHONE = re.compile(r"\+?[\d\s().-]{7,}")


def _is_user_id(user: str) -> bool:
    """The API refuses a `user_id` that is long or looks like an address or a telephone number."""
    return len(user) <= MAX_USER_ID and "@" not in user and _PHONE.fullmatch(user) is None


def _tool(tool: Tool) -> dict[str, Any]:
    written: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    written["input_schema"] = tool_schema(tool)
    return written


# --- conversation --------------------------------------------------------------------------------------------

_Block = dict[str, Any]


def _text(text: str) -> _Block:
    return {"type": "text", "text": text}


def _short(blocks: list[_Block]) -> str | list[_Block]:
    """One block of text is written as a string."""
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        text: str = blocks[0]["text"]
        return text
    return blocks


def _system(messages: Iterable[Message]) -> list[_Block]:
    blocks = []
    for message in messages:
        if message.role == "system":
            for part in message.parts:
                if not isinstance(part, TextPart):
                    raise InvalidRequest("a system message holds text only", param="messages")
                if part.text.strip():
                    blocks.append(_text(part.text))
    return blocks


def _turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Turns of alternating roles, none of them empty; results of tools stand first in theirs."""
    turns: list[dict[str, Any]] = []
    ids = _call_ids(messages)
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks_of(message, ids)
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    for turn in turns:
        if turn["role"] == "user":
            turn["content"].sort(key=lambda block: block["type"] != "tool_result")  # stable
    if turns and turns[-1]["role"] == "assistant" and (last := turns[-1]["content"][-1])["type"] == "text":
        last["text"] = last["text"].rstrip()  # the API refuses a prefill that ends in white space
    return turns


def _blocks_of(message: Message, ids: Mapping[str, str]) -> list[_Block]:
    if message.role == "tool":
        return [_tool_result(message, ids)]
    if message.role == "user":
        return _parts(message.parts)
    texts = [part.text for part in message.parts if isinstance(part, TextPart)]
    if len(texts) < len(message.parts):
        raise InvalidRequest("an assistant message holds text and tool calls only", param="messages")
    if message.refusal:
        texts.append(message.refusal)
    return [_text(text) for text in texts if text.strip()] + [_tool_use(call, ids) for call in message.tool_calls]


def _parts(parts: Iterable[Part]) -> list[_Block]:
    """Blocks of content; text without a visible character is left out, the API refuses it."""
    return [_block(part) for part in parts if not (isinstance(part, TextPart) and not part.text.strip())]


def _block(part: Part) -> _Block:
    match part:
        case TextPart(text=text):
            return _text(text)
        case ImagePart():
            return _image(part)
        case FilePart():
            return _document(part)
        case AudioPart():
            raise InvalidRequest("audio cannot be sent to an Anthropic model", param="messages")


def _image(part: ImagePart) -> _Block:
    if part.data is not None:
        media_type = "image/jpeg" if part.media_type in (None, "image/jpg") else part.media_type
        return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": part.data}}
    if part.url:
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    raise InvalidRequest("an image has neither a URL nor data", param="messages")


def _document(part: FilePart) -> _Block:
    kind = (part.media_type or ("application/pdf" if (part.name or "").lower().endswith(".pdf") else "")).split(";")[0]
    source: dict[str, Any]
    if part.data is not None and kind.startswith("image/"):
        return _image(ImagePart(media_type=kind, data=part.data))
    if part.data is not None and kind == "application/pdf":
        source = {"type": "base64", "media_type": kind, "data": part.data}
    elif part.data is not None and (kind.startswith("text/") or kind == "application/json"):
        source = {"type": "text", "media_type": "text/plain", "data": _plain_text(part.data)}
    elif part.data is not None:
        raise InvalidRequest(
            f"a file of type {kind or 'unknown'!r} cannot be sent to an Anthropic model", param="messages"
        )
    elif part.url:
        source = {"type": "url", "url": part.url}
    else:
        raise InvalidRequest("a file kept at another provider cannot be sent to an Anthropic model", param="messages")
    block: _Block = {"type": "document", "source": source}
    if part.name:
        block["title"] = part.name
    return block


def _plain_text(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidRequest("a text file is not base64 of UTF-8", param="messages") from None


_BAD_ID = re.compile(r"[^a-zA-Z0-9_-]")


def _call_ids(messages: Iterable[Message]) -> Mapping[str, str]:
    """For each id of a call one that the API takes: other providers' have signs that it refuses. Call and result are
    changed alike, and two that differ only in such signs stay two."""
    given: dict[str, None] = {}
    for message in messages:
        given.update(dict.fromkeys([call.id for call in message.tool_calls]))
        if message.role == "tool":
            given[message.call_id] = None
    ids: dict[str, str] = {}
    taken = {text for text in given if text and not _BAD_ID.search(text)}
    for text in given:
        made = text
        if text not in taken:
            made = _BAD_ID.sub("_", text) or "call"
            if made in taken:
                made += "_" + hashlib.blake2s(text.encode("utf-8", "replace"), digest_size=6).hexdigest()
        ids[text] = made
        taken.add(made)
    return ids


def _tool_use(call: ToolCall, ids: Mapping[str, str]) -> _Block:
    return {"type": "tool_use", "id": ids[call.id], "name": call.name, "input": _input(call.arguments)}


def _input(arguments: str) -> Any:
    """The arguments as an object. What a model once wrote and is none is kept as text inside one."""
    if not arguments.strip():
        return {}
    try:
        is_object = isinstance(msgspec.json.decode(arguments), dict)
    except (msgspec.DecodeError, RecursionError):
        is_object = False
    return msgspec.Raw(arguments.encode()) if is_object else {"arguments": arguments}


def _tool_result(message: Message, ids: Mapping[str, str]) -> _Block:
    block: _Block = {"type": "tool_result", "tool_use_id": ids[message.call_id]}
    if content := _parts(message.parts):
        block["content"] = _short(content)
    return block
