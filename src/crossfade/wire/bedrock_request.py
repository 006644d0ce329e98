"""Writes a canonical chat request as a body of Bedrock's Converse.

Decides how each thing of a chat is said there, and what cannot be: a parameter without a counterpart is left out and
named in `dropped`, a content without one is an InvalidRequest. `docs/dialects/bedrock.md` has the table. Knows nothing
of addresses, keys or answers (`bedrock.py`).

What Converse has no field for goes to `additionalModelRequestFields` in the words of the model's maker, for the models
that are known to take it (`bedrock_models.py`).
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
from crossfade.wire.anthropic_models import ModelTraits, traits_of
from crossfade.wire.anthropic_schema import closed_schema, fits_limits
from crossfade.wire.bedrock_models import Family, family_of
from crossfade.wire.chat_params import CHAT_PARAMS, adjusted
from crossfade.wire.json_schema import JSON_ONLY, read_schema, schema_instruction, tool_schema
from crossfade.wire.tool_calls import arguments_object
from crossfade.wire.written import Written

MIN_THINKING: Final = 1024
BUDGETS: Final[Mapping[str, int]] = MappingProxyType(
    {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768}
)
"""Thinking tokens of Claude models that think by a budget; no more than half of the answer's limit."""
LEAST_FOR_THINKING: Final = 4096
"""The limit of output tokens that a thinking Claude is given where the caller names none: beside the budget."""
NOVA_EFFORTS: Final[Mapping[str, str]] = MappingProxyType(
    {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
)

_FILLER: Final = "."
"""Text where the API wants some and the caller has none: a turn of the user at the beginning, or beside a document."""
_EMPTY: Final = "(empty)"
_CACHE_POINT: Final = {"cachePoint": {"type": "default"}}
_CACHING: Final = "cache_control"
_IMAGES: Final[Mapping[str, str]] = MappingProxyType(
    {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
)
_DOCUMENTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "application/pdf": "pdf",
        "text/csv": "csv",
        "application/msword": "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
        "application/vnd.ms-excel": "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
        "text/html": "html",
        "text/plain": "txt",
        "text/markdown": "md",
        "application/json": "txt",
    }
)
_AUDIO: Final = frozenset({"mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "mkv", "m4a", "mpeg", "mpga", "webm"})
_S3: Final = "s3://"

Json = dict[str, Any]


def write_request(
    request: ChatRequest,
    model: str,
    *,
    set_params: Sequence[tuple[str, bytes]] = (),
    drop_params: Iterable[str] = (),
) -> Written:
    """The body for `model`, whose id stands in the address.

    `drop_params`, then `set_params` (JSON text), act on the top level of the result, but for the names of chat
    parameters (`temperature`, `max_tokens`, ...), which act on the chat request. Raises InvalidRequest, naming the
    field, for what has no counterpart at all: n > 1, media by URL (but `s3://`), files of unknown types or kept
    elsewhere.
    """
    set_params, drop_params = tuple(set_params), tuple(drop_params)
    request = adjusted(request, set_params, drop_params)
    if request.n > 1:
        raise InvalidRequest("Bedrock gives one answer per request; `n` must be 1", param="n")
    writer = _Writer(request, family_of(model), traits_of(model))
    body = writer.body()
    for name in drop_params:
        body.pop(name, None)
    for name, value in set_params:
        if name not in CHAT_PARAMS:
            body[name] = msgspec.Raw(value)
    return Written(msgspec.json.encode(body), tuple(dict.fromkeys(writer.dropped)))


class _Writer:
    """Writes one request, part by part; remembers what was dropped. The order matters: tools may rule thinking out,
    thinking rules sampling, the output format may add to the system messages."""

    def __init__(self, request: ChatRequest, family: Family, traits: ModelTraits) -> None:
        self.request, self.family, self.traits = request, family, traits
        self.is_claude = family.maker == "claude"
        self.dropped: list[str] = []
        self.more: Json = {}
        """`additionalModelRequestFields`."""
        self.effort: Json = {}
        """What `outputConfig` says of thinking."""

    def body(self) -> Json:
        config = self._limits()
        tools = self._tools()
        self._reasoning(config, tools)
        self._sampling(config)
        output, instruction = self._output()
        system = _system(self.request.messages)
        if instruction is not None:
            system.append({"text": instruction})
        turns = _turns(self.request.messages)
        if not turns and system:
            turns, system = [{"role": "user", "content": system}], []
        if not turns:
            raise InvalidRequest("`messages` has no content", param="messages")
        if turns[0]["role"] == "assistant":
            turns.insert(0, {"role": "user", "content": [{"text": _FILLER}]})
        self._note_losses()
        body: Json = {"messages": turns}
        for name, value in (
            ("system", system),
            ("inferenceConfig", config),
            ("toolConfig", tools),
            ("outputConfig", self.effort | output),
            ("additionalModelRequestFields", self.more),
        ):
            if value:
                body[name] = value
        self._cache(body)
        return body

    # --- limits and sampling ---

    def _limits(self) -> Json:
        config: Json = {}
        limit, most = self.request.max_tokens, self.traits.max_output
        if limit is not None and self.is_claude and most is not None and limit > most:
            self.dropped.append(f"max_tokens>{most}")
            limit = most
        if limit is not None:
            config["maxTokens"] = limit
        stop = [text for text in self.request.stop if text.strip() or not self.is_claude]
        if stop:
            config["stopSequences"] = stop
        if len(stop) < len(self.request.stop):
            self.dropped.append("stop")  # white space only: Claude refuses it
        return config

    def _sampling(self, config: Json) -> None:
        request = self.request
        asked = {"temperature": request.temperature, "topP": request.top_p}
        given = {name: value for name, value in asked.items() if value is not None}
        top_k = request.top_k
        if self.is_claude:
            thinks = self.more.get("thinking", {}).get("type") in ("enabled", "adaptive")
            if self.traits.sampling == "none" or thinks:
                self.dropped += [_CHAT_NAMES[name] for name, value in given.items() if value != 1]
                given = {}
                if top_k is not None:
                    self.dropped.append("top_k")
                top_k = None
            elif self.traits.sampling == "one" and "temperature" in given and given.pop("topP", 1) != 1:
                self.dropped.append("top_p")
        if given.get("temperature", 0) > 1 and self.family.maker != "other":
            given["temperature"] = 1.0
            self.dropped.append("temperature>1")
        config.update(given)
        if top_k is not None:
            if self.family.top_k:
                _put(self.more, self.family.top_k, top_k)
            else:
                self.dropped.append("top_k")

    # --- tools ---

    def _tools(self) -> Json:
        request = self.request
        choice = request.tool_choice
        mode = choice.mode if choice is not None else "auto"
        calls = dict.fromkeys(call.name for message in request.messages for call in message.tool_calls)
        if request.parallel_tool_calls is False and request.tools:
            self.dropped.append("parallel_tool_calls")
        if mode == "none" and not calls:
            return {}
        specs = [_tool(tool) for tool in request.tools]
        if not specs:  # a history with calls needs definitions
            if choice is not None and mode != "none":
                self.dropped.append("tool_choice")
            specs = [{"name": name, "inputSchema": {"json": {"type": "object"}}} for name in calls]
            return {"tools": [{"toolSpec": spec} for spec in specs]} if specs else {}
        self._make_strict(specs)
        config: Json = {"tools": [{"toolSpec": spec} for spec in specs]}
        if mode == "none":
            self.dropped.append("tool_choice")  # the tools have to be there, and there is no word for it
        elif mode in ("required", "named") and self.is_claude and not self.traits.forced_tools:
            self.dropped.append("tool_choice")
        elif mode == "named" and choice is not None:
            config["toolChoice"] = {"tool": {"name": choice.name}}
        elif choice is not None:
            config["toolChoice"] = {"any" if mode == "required" else "auto": {}}
        return config

    def _make_strict(self, specs: list[Json]) -> None:
        """`strict` where model and schema allow it: it is a promise that may be left out."""
        asked = [number for number, tool in enumerate(self.request.tools) if tool.strict]
        if not asked:
            return
        can = self.family.structured and (self.traits.structured or not self.is_claude)
        schemas = {number: closed_schema(specs[number]["inputSchema"]["json"]) for number in asked} if can else {}
        closed = {number: schema for number, schema in schemas.items() if schema is not None}
        if not fits_limits(closed.values()):
            closed = {}
        for number, schema in closed.items():
            specs[number].update(inputSchema={"json": schema}, strict=True)
        if len(closed) < len(asked):
            self.dropped.append("tools.strict")

    # --- reasoning ---

    def _reasoning(self, config: Json, tools: Json) -> None:
        effort = self.request.reasoning_effort
        if effort is None:
            return
        match self.family.effort:
            case "claude":
                self._claude_thinks(effort, config, tools)
            case "nova":
                self._nova_thinks(effort, config)
            case "plain" if effort in ("low", "medium", "high"):
                self.more["reasoning_effort"] = effort
            case _:
                if effort != "none" or self.family.effort == "plain":
                    self.dropped.append("reasoning_effort")

    def _nova_thinks(self, effort: str, config: Json) -> None:
        level = NOVA_EFFORTS.get(effort)
        if level is not None:
            self.more["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": level}
            if level == "high":  # with which it decides by itself how much it writes and how
                for name in ("maxTokens", "temperature", "topP"):
                    if config.pop(name, None) is not None:
                        self.dropped.append(_CHAT_NAMES[name])
        elif effort != "none":
            self.dropped.append("reasoning_effort")

    def _claude_thinks(self, effort: str, config: Json, tools: Json) -> None:
        traits = self.traits
        if effort == "none":
            if traits.thinking == "adaptive":
                self.more["thinking"] = {"type": "disabled"}
            elif traits.thinking == "always":
                self.dropped.append("reasoning_effort=none")
            return
        if effort not in BUDGETS or traits.thinking == "none":
            self.dropped.append("reasoning_effort")
            return
        if traits.efforts:
            self.effort = {"effort": _effort(effort, traits.efforts)}
        if traits.thinking == "adaptive" and not self._ends_in_assistant():
            self.more["thinking"] = {"type": "adaptive"}
        elif traits.thinking == "budget":
            limit = config.get("maxTokens") or LEAST_FOR_THINKING + BUDGETS[effort]
            budget = min(BUDGETS[effort], limit // 2) if "maxTokens" in config else BUDGETS[effort]
            if budget >= MIN_THINKING and self._may_think_by_budget(tools):
                self.more["thinking"] = {"type": "enabled", "budget_tokens": budget}
                config["maxTokens"] = limit
            elif not traits.efforts:
                self.dropped.append("reasoning_effort")

    def _ends_in_assistant(self) -> bool:
        return bool(self.request.messages) and self.request.messages[-1].role == "assistant"

    def _may_think_by_budget(self, tools: Json) -> bool:
        """Not with a forced call, nor a prefill, nor inside a tool loop, whose reasoning we do not have."""
        choice = tools.get("toolChoice", {})
        if "any" in choice or "tool" in choice or self._ends_in_assistant():
            return False
        return not self.request.messages or self.request.messages[-1].role != "tool"

    # --- output ---

    def _output(self) -> tuple[Json, str | None]:
        """`outputConfig`, or the sentence that asks for the format where it has no place there."""
        output = self.request.output
        if output is None:
            return {}, None
        if output.kind == "json_object" or output.schema is None:
            return {}, JSON_ONLY
        schema = None
        if self.family.structured and (self.traits.structured or not self.is_claude):
            schema = closed_schema(read_schema(output.schema, "response_format") or {})
        if schema is None or not fits_limits([schema]):
            self.dropped.append("response_format")
            return {}, schema_instruction(output)
        definition: Json = {"name": output.name, "schema": msgspec.json.encode(schema).decode()}
        if output.description:
            definition["description"] = output.description
        return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": definition}}}, None

    # --- the rest ---

    def _cache(self, body: Json) -> None:
        """Points behind what a caller who marks parts for caching wants to be read again: the tools, the system
        messages, the conversation so far."""
        if _CACHING not in self.request.others:
            return
        if not self.family.caches:
            self.dropped.append(_CACHING)
            return
        for place in (body.get("toolConfig", {}).get("tools"), body.get("system"), _last_of_user(body["messages"])):
            if place:
                place.append(_CACHE_POINT)

    def _note_losses(self) -> None:
        request = self.request
        if request.seed is not None:
            self.dropped.append("seed")
        if request.logprobs:
            self.dropped.append("logprobs")
        if request.top_logprobs is not None:
            self.dropped.append("top_logprobs")
        if request.user is not None:
            self.dropped.append("user")
        for name in ("frequency_penalty", "presence_penalty"):
            if getattr(request, name):  # 0 is what everyone does without it
                self.dropped.append(name)
        if any(message.name for message in request.messages):
            self.dropped.append("messages.name")
        self.dropped += [name for name in request.others if name != _CACHING]


_CHAT_NAMES: Final = {"maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p"}


def _put(fields: Json, place: str, value: Any) -> None:
    *outer, name = place.split(".")
    for one in outer:
        fields = fields.setdefault(one, {})
    fields[name] = value


def _effort(asked: str, known: Sequence[str]) -> str:
    """The word asked for, or the next weaker one that the model knows."""
    ladder = tuple(BUDGETS)
    weaker = [word for word in known if ladder.index(word) <= ladder.index(asked)]
    return weaker[-1] if weaker else known[0]


def _tool(tool: Tool) -> Json:
    spec: Json = {"name": tool.name}
    if tool.description:
        spec["description"] = tool.description
    spec["inputSchema"] = {"json": tool_schema(tool)}
    return spec


# --- conversation --------------------------------------------------------------------------------------------


def _system(messages: Iterable[Message]) -> list[Json]:
    blocks: list[Json] = []
    for message in messages:
        if message.role == "system":
            for part in message.parts:
                if not isinstance(part, TextPart):
                    raise InvalidRequest("a system message holds text only", param="messages")
                if part.text.strip():
                    blocks.append({"text": part.text})
    return blocks


def _last_of_user(turns: list[Json]) -> list[Json] | None:
    return next((turn["content"] for turn in reversed(turns) if turn["role"] == "user"), None)


def _turns(messages: Iterable[Message]) -> list[Json]:
    """Turns of alternating roles, none of them empty; results of tools stand first in theirs."""
    turns: list[Json] = []
    names = _Names()
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks_of(message, names)
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    for turn in turns:
        content = turn["content"]
        if turn["role"] == "user":
            content.sort(key=lambda block: "toolResult" not in block)  # stable
        if any("document" in block for block in content) and not any("text" in block for block in content):
            content.append({"text": _FILLER})
    if turns and turns[-1]["role"] == "assistant" and "text" in (last := turns[-1]["content"][-1]):
        last["text"] = last["text"].rstrip()  # a prefill that ends in white space is refused
    return turns


class _Names:
    """The names of documents: of the characters that the API takes, and each once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, part: FilePart) -> str:
        stem = (part.name or "").rpartition(".")[0] or part.name or ""
        base = " ".join(_NO_NAME.sub(" ", stem).split())[:180] or "document"
        name, number = base, 2
        while name in self._taken:
            name, number = f"{base} {number}", number + 1
        self._taken.add(name)
        return name


_NO_NAME: Final = re.compile(r"[^a-zA-Z0-9\s\-()\[\]_]")


def _blocks_of(message: Message, names: _Names) -> list[Json]:
    if message.role == "tool":
        return [_tool_result(message, names)]
    if message.role == "user":
        return _parts(message.parts, names)
    texts = [part.text for part in message.parts if isinstance(part, TextPart)]
    if len(texts) < len(message.parts):
        raise InvalidRequest("an assistant message holds text and tool calls only", param="messages")
    if message.refusal:
        texts.append(message.refusal)
    return [{"text": text} for text in texts if text.strip()] + [_tool_use(call) for call in message.tool_calls]


def _parts(parts: Iterable[Part], names: _Names) -> list[Json]:
    """Blocks of content; text without a visible character is left out, the API refuses it."""
    return [_block(part, names) for part in parts if not (isinstance(part, TextPart) and not part.text.strip())]


def _block(part: Part, names: _Names) -> Json:
    match part:
        case TextPart(text=text):
            return {"text": text}
        case ImagePart():
            return _image(part)
        case FilePart():
            return _document(part, names)
        case AudioPart():
            if part.format.lower() not in _AUDIO:
                raise InvalidRequest(f"audio of format {part.format!r} cannot be sent to Bedrock", param="messages")
            return {"audio": {"format": part.format.lower(), "source": {"bytes": part.data}}}


def _image(part: ImagePart) -> Json:
    kind = _IMAGES.get((part.media_type or "image/jpeg").lower())
    if part.data is not None:
        if kind is None:
            raise InvalidRequest(f"an image of type {part.media_type!r} cannot be sent to Bedrock", param="messages")
        return {"image": {"format": kind, "source": {"bytes": part.data}}}
    if part.url is not None and part.url.startswith(_S3):
        ending = part.url.rpartition(".")[2].lower()
        kind = _IMAGES.get(f"image/{ending}", kind)
        return {"image": {"format": kind, "source": {"s3Location": {"uri": part.url}}}}
    raise InvalidRequest("Bedrock fetches no images; send them inline (base64)", param="messages")


def _document(part: FilePart, names: _Names) -> Json:
    ending = (part.name or part.url or "").rpartition(".")[2].lower()
    kind = (part.media_type or "").partition(";")[0].lower()
    if part.data is not None and kind.startswith("image/"):
        return _image(ImagePart(media_type=kind, data=part.data))
    known = _DOCUMENTS.get(kind) or (ending if ending in _DOCUMENTS.values() else None)
    if known is None and kind.startswith("text/"):
        known = "txt"
    if part.data is None and not (part.url or "").startswith(_S3):
        raise InvalidRequest("Bedrock fetches no documents and knows no file ids; send them inline", param="messages")
    if known is None:
        raise InvalidRequest(f"a file of type {kind or 'unknown'!r} cannot be sent to Bedrock", param="messages")
    source: Json = {"s3Location": {"uri": part.url}}
    if part.data is not None:
        source = {"text": _plain_text(part.data)} if known == "txt" else {"bytes": part.data}
    return {"document": {"format": known, "name": names.of(part), "source": source}}


def _plain_text(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidRequest("a text file is not base64 of UTF-8", param="messages") from None


_BAD_ID: Final = re.compile(r"[^a-zA-Z0-9_.:-]")


def _call_id(text: str) -> str:
    """Ids of other providers have characters, or a length, that the API refuses; call and result are changed alike."""
    return _BAD_ID.sub("_", text)[-64:] or "call"


def _tool_use(call: ToolCall) -> Json:
    use = {"toolUseId": _call_id(call.id), "name": call.name, "input": arguments_object(call.arguments)}
    return {"toolUse": use}


def _tool_result(message: Message, names: _Names) -> Json:
    """Media of the kinds that a result may hold stay in it; an empty one says so, for blank text is refused."""
    content = _parts(message.parts, names) or [{"text": _EMPTY}]
    for block in content:
        if "audio" in block:
            raise InvalidRequest("the result of a tool cannot hold audio at Bedrock", param="messages")
    return {"toolResult": {"toolUseId": _call_id(message.call_id), "content": content}}
