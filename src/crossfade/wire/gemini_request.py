"""Writes a canonical chat request as a Gemini `generateContent` body.

Decides how each part of a chat is said in Gemini's words and names what cannot be said. It knows the families of
Gemini models only as far as the body depends on them, and nothing of addresses, keys or answers (`gemini.py`).
`docs/dialects/gemini.md` lists the translations and the losses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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
    OutputFormat,
    Part,
    TextPart,
    Tool,
    ToolChoice,
)
from crossfade.wire.chat_params import CHAT_PARAMS, adjusted
from crossfade.wire.tool_calls import arguments_object, is_object
from crossfade.wire.written import Written

MAX_STOP_SEQUENCES: Final = 5
"""Google's documented limit of `stopSequences`."""

MAX_OUTPUT: Final = 65_536
"""The most output tokens that models up to Gemini 3 write, and may be asked for."""

FOREIGN_SIGNATURE: Final = "skip_thought_signature_validator"
"""Google's documented `thoughtSignature` for a call whose own one is not there. From Gemini 3 on, a call of the
current turn without any is a 400; callers of other dialects cannot carry the real one back."""

_LATEST: Final = 99  # `gemini-flash-latest` and names yet to come: newer than the families that need older words
_FAMILY: Final = re.compile(r"gemini-(?:(\d+)(?:[.-]|$))?", re.ASCII)
_NO_INSTRUCTION: Final = re.compile(r"gemma-[123]\D")
"""Models that answer a `systemInstruction` with 400 "Developer instruction is not enabled"."""
_BUDGETS: Final[Mapping[str, int]] = MappingProxyType(
    {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576, "max": 24576}
)
"""Thinking tokens of Gemini 2.5: what Google's own OpenAI-compatible endpoint gives for each effort."""
_LEVELS: Final[Mapping[str, str]] = MappingProxyType(
    {"none": "low", "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
)
"""Thinking levels from Gemini 3 on. Thinking cannot be turned off there, and not every model takes `minimal`."""
_AUDIO_TYPES: Final[Mapping[str, str]] = MappingProxyType({"mpeg": "audio/mp3", "m4a": "audio/mp4"})
_TYPES_OF_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "png": "image/png",
        "jpg": "image/jpeg",
        "jpeg": "image/jpeg",
        "webp": "image/webp",
        "gif": "image/gif",
        "heic": "image/heic",
        "heif": "image/heif",
        "pdf": "application/pdf",
        "txt": "text/plain",
        "md": "text/markdown",
        "csv": "text/csv",
        "html": "text/html",
        "json": "application/json",
    }
)
"""Media types by the ending of a URL's path; the machine's own list would make bodies differ between machines."""

Json = dict[str, Any]


def family(model: str) -> int:
    """The major number of a Gemini model's name; a high one for names without it, 0 for what is no Gemini."""
    match = _FAMILY.match(model.rpartition("/")[2])
    if match is None:
        return 0
    return int(match[1]) if match[1] else _LATEST


def write_request(
    request: ChatRequest,
    model: str,
    *,
    set_params: Iterable[tuple[str, bytes]] = (),
    drop_params: Iterable[str] = (),
) -> Written:
    """The body for `model`.

    `set_params` (JSON text) and `drop_params` act on the top level of the body, but for the names of chat
    parameters (`temperature`, `max_tokens`, ...), which act on the chat request: nobody means to send those as
    they are. Raises InvalidRequest, naming the field, for what Gemini has no words for at all: a file stored at
    another provider, a tool result without its call, more than five stop sequences.
    """
    dropped = _Dropped()
    set_params, drop_params = tuple(set_params), tuple(drop_params)
    request = adjusted(request, set_params, drop_params)
    contents, system = _Turns(family(model)).read(request.messages)
    if system and _NO_INSTRUCTION.match(model.rpartition("/")[2]):
        if not contents or contents[0]["role"] != "user":
            contents.insert(0, {"role": "user", "parts": []})
        contents[0]["parts"][:0] = system
        system = []
    if not contents:
        contents = [{"role": "user", "parts": [{"text": ""}]}]  # system text alone is a 400, this is none
    body: Json = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": system}
    _write_tools(request, body, dropped)
    if config := _generation_config(request, model, dropped):
        body["generationConfig"] = config
    _note_losses(request, dropped)
    for name, raw in set_params:
        if name not in CHAT_PARAMS:
            body[name] = msgspec.Raw(raw)
    for name in drop_params:
        body.pop(name, None)
    return Written(msgspec.json.encode(body), dropped.names())


class _Dropped:
    """Names of parameters that were left out, each once, in the order of leaving them out."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def add(self, *names: str) -> None:
        self._names.update(dict.fromkeys(names))

    def names(self) -> tuple[str, ...]:
        return tuple(self._names)


# --- messages ------------------------------------------------------------------------------------------------


class _Turns:
    """Turns messages into `contents` (neighbours of one role merged) and the parts of the system instruction."""

    def __init__(self, model_family: int) -> None:
        self._family = model_family
        self._names: dict[str, str] = {}  # call id -> function name, as far as the messages were read

    def read(self, messages: tuple[Message, ...]) -> tuple[list[Json], list[Json]]:
        contents: list[Json] = []
        system: list[Json] = []
        for index, message in enumerate(messages):
            if message.role == "system":
                system += self._system(message, index)
                continue
            role = "model" if message.role == "assistant" else "user"
            if not (parts := self._parts(message, index)):
                continue  # Gemini refuses turns without parts
            if contents and contents[-1]["role"] == role:
                contents[-1]["parts"] += parts
            else:
                contents.append({"role": role, "parts": parts})
        return contents, system

    def _system(self, message: Message, index: int) -> list[Json]:
        for part in message.parts:
            if not isinstance(part, TextPart):
                raise InvalidRequest("Gemini takes only text in system messages", param=f"messages[{index}].content")
        return [{"text": part.text} for part in message.parts if isinstance(part, TextPart) and part.text]

    def _parts(self, message: Message, index: int) -> list[Json]:
        if message.role == "tool":
            return self._result(message, index)
        parts = _content(message.parts, index)
        if message.refusal:
            parts.append({"text": message.refusal})
        return parts + self._calls(message)

    def _calls(self, message: Message) -> list[Json]:
        parts: list[Json] = []
        for number, call in enumerate(message.tool_calls):
            self._names[call.id] = call.name
            part: Json = {"functionCall": {"name": call.name, "args": arguments_object(call.arguments)}}
            if call.id:
                part["functionCall"]["id"] = call.id
            if number == 0 and self._family >= 3:
                part["thoughtSignature"] = FOREIGN_SIGNATURE  # of parallel calls only the first one has one
            parts.append(part)
        return parts

    def _result(self, message: Message, index: int) -> list[Json]:
        name = self._names.get(message.call_id)
        if name is None:
            raise InvalidRequest(
                f"{message.call_id!r} is no tool call of an earlier message", param=f"messages[{index}].tool_call_id"
            )
        text = "".join(part.text for part in message.parts if isinstance(part, TextPart))
        media = _content(tuple(part for part in message.parts if not isinstance(part, TextPart)), index)
        response: Json = {"name": name, "response": _result_object(text)}
        if message.call_id:
            response["id"] = message.call_id
        if media and self._family >= 3:
            response["parts"] = media
            media = []
        return [{"functionResponse": response}, *media]


def _content(parts: tuple[Part, ...], index: int) -> list[Json]:
    return [_part(part, f"messages[{index}].content[{at}]") for at, part in enumerate(parts) if part != TextPart("")]


def _part(part: Part, field: str) -> Json:
    match part:
        case TextPart():
            return {"text": part.text}
        case AudioPart():
            kind = part.format.lower()
            return _inline(_AUDIO_TYPES.get(kind, f"audio/{kind}"), part.data)
        case ImagePart():
            return _media(part.data, part.url, part.media_type, "image/jpeg", field)
        case FilePart():
            if part.data is None and part.url is None and part.file_id:
                raise InvalidRequest("a file stored at another provider cannot be sent to Gemini", param=field)
            return _media(part.data, part.url, part.media_type, "application/pdf", field)


def _media(data: str | None, url: str | None, media_type: str | None, default: str, field: str) -> Json:
    if data is not None:
        return _inline(media_type or default, data)
    if not url:
        raise InvalidRequest("neither data nor a URL is given", param=field)
    file: Json = {"fileUri": url}
    if kind := media_type or _type_of(url):
        file["mimeType"] = kind
    return {"fileData": file}


def _type_of(url: str) -> str | None:
    path = url.partition("?")[0].partition("#")[0]
    return _TYPES_OF_NAMES.get(path.rpartition(".")[2].lower())


def _inline(media_type: str, data: str) -> Json:
    return {"inlineData": {"mimeType": media_type, "data": data}}


def _result_object(text: str) -> object:
    """A JSON object as it is, anything else under `result`: Gemini takes nothing but objects."""
    return msgspec.Raw(text.encode()) if is_object(text) else {"result": text}


# --- tools ---------------------------------------------------------------------------------------------------


def _write_tools(request: ChatRequest, body: Json, dropped: _Dropped) -> None:
    if request.tools:
        body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in request.tools]}]
        if request.tool_choice is not None:
            body["toolConfig"] = {"functionCallingConfig": _calling(request.tool_choice)}
    elif request.tool_choice is not None:
        dropped.add("tool_choice")
    if any(tool.strict for tool in request.tools):
        dropped.add("tools.function.strict")


def _declaration(tool: Tool) -> Json:
    declaration: Json = {"name": tool.name}
    if tool.description:
        declaration["description"] = tool.description
    if tool.parameters is not None:
        # `parameters` is a subset of OpenAPI and refuses `$ref`, `additionalProperties` and type lists.
        declaration["parametersJsonSchema"] = msgspec.Raw(tool.parameters)
    return declaration


def _calling(choice: ToolChoice) -> Json:
    match choice.mode:
        case "none":
            return {"mode": "NONE"}
        case "auto":
            return {"mode": "AUTO"}
        case "required":
            return {"mode": "ANY"}
        case "named":
            return {"mode": "ANY", "allowedFunctionNames": [choice.name]}


# --- parameters ----------------------------------------------------------------------------------------------


def _generation_config(request: ChatRequest, model: str, dropped: _Dropped) -> Json:
    if len(request.stop) > MAX_STOP_SEQUENCES:
        raise InvalidRequest(f"Gemini takes at most {MAX_STOP_SEQUENCES} stop sequences", param="stop")
    seed = request.seed
    if seed is not None and not -(2**31) <= seed < 2**31:
        seed = None
        dropped.add("seed")
    limit = request.max_tokens
    if limit is not None and limit > MAX_OUTPUT and 0 < family(model) <= 3:
        limit = MAX_OUTPUT
        dropped.add(f"max_tokens>{MAX_OUTPUT}")
    config: Json = {
        "maxOutputTokens": limit,
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "stopSequences": list(request.stop) or None,
        "seed": seed,
        "frequencyPenalty": request.frequency_penalty,
        "presencePenalty": request.presence_penalty,
        "candidateCount": request.n if request.n > 1 else None,
    }
    if request.output is not None:
        _write_output(request.output, config, has_tools=bool(request.tools), model=model, dropped=dropped)
    if request.reasoning_effort is not None:
        config["thinkingConfig"] = _thinking(request.reasoning_effort, model)
        if config["thinkingConfig"] is None:
            dropped.add("reasoning_effort")
    return {name: value for name, value in config.items() if value is not None}


def _write_output(output: OutputFormat, config: Json, *, has_tools: bool, model: str, dropped: _Dropped) -> None:
    if has_tools and 0 < family(model) < 3:
        # "Function calling with a response mime type: 'application/json' is unsupported": a 400 before Gemini 3.
        # The answer is checked for its format all the same.
        dropped.add("response_format")
        return
    config["responseMimeType"] = "application/json"
    if output.schema is not None:
        config["responseJsonSchema"] = msgspec.Raw(output.schema)


def _thinking(effort: str, model: str) -> Json | None:
    """The `thinkingConfig` for an effort; None where the model or the word knows none.

    Summaries of the thoughts are asked for with it: they are the only sign of life while the model thinks.
    """
    name = model.rpartition("/")[2]
    number = family(name)
    if number >= 3:
        level = _LEVELS.get(effort)
        if level == "medium" and name.startswith("gemini-3-pro"):
            level = "high"  # it takes low and high alone
        return None if level is None else {"thinkingLevel": level, "includeThoughts": effort != "none"}
    if not name.startswith("gemini-2.5"):
        return None
    if effort == "none":
        return {"thinkingBudget": 128 if "pro" in name else 0}  # the pro model cannot stop thinking
    budget = _BUDGETS.get(effort)
    return None if budget is None else {"thinkingBudget": budget, "includeThoughts": True}


def _note_losses(request: ChatRequest, dropped: _Dropped) -> None:
    if request.parallel_tool_calls is False:
        dropped.add("parallel_tool_calls")
    if request.logprobs:
        dropped.add("logprobs")
    if request.top_logprobs is not None:
        dropped.add("top_logprobs")
    if request.user is not None:
        dropped.add("user")
    dropped.add(*request.others)
