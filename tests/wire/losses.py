"""What a canonical request loses when it is written in a dialect: one table for each dialect, the documented one.

A row says what is lost in the words of `docs/dialects`, makes the loss in the canonical form, and names what the
attempt's record has to say of it. Applied in order, the rows give what must be read back, and nothing else may differ.
They know no wire format.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

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
from crossfade.wire.anthropic_models import traits_of
from crossfade.wire.anthropic_schema import closed_schema
from tests.wire.strategies import BAD_USERS, CLOSED

_replace = msgspec.structs.replace
Edit = Callable[[ChatRequest, str], ChatRequest]


class Loss(msgspec.Struct, frozen=True):
    """`lost`: what, as the page says it. `edit` makes the loss for a model. `dropped`: the names that must be on record
    where it happens; a function of the request before and after where that depends."""

    lost: str
    edit: Edit
    dropped: tuple[str, ...] | Callable[[ChatRequest, ChatRequest, str], Iterable[str]] = ()

    def names(self, before: ChatRequest, after: ChatRequest, model: str) -> set[str]:
        if callable(self.dropped):
            return set(self.dropped(before, after, model))
        return set(self.dropped) if after != before else set()


class Refusal(msgspec.Struct, frozen=True):
    """What a dialect has no words for at all. `refused`: as the page says it; `param`: the field that is named."""

    refused: str
    param: str
    is_in: Callable[[ChatRequest, str], bool]


class Dialect(msgspec.Struct, frozen=True):
    name: str
    models: tuple[str, ...]
    losses: tuple[Loss, ...]
    refusals: tuple[Refusal, ...] = ()

    def __repr__(self) -> str:
        return f"<Dialect {self.name}>"


# --- edits of one kind ----------------------------------------------------------------------------------------


def _on_messages(edit: Callable[[list[Message]], Iterable[Message]]) -> Edit:
    return lambda request, _: _replace(request, messages=tuple(edit(list(request.messages))))


def _on_message(edit: Callable[[Message], Message]) -> Edit:
    return _on_messages(lambda messages: [edit(message) for message in messages])


def _on_part(edit: Callable[[Part], Part | None]) -> Edit:
    def of_message(message: Message) -> Message:
        return _replace(message, parts=tuple(new for part in message.parts if (new := edit(part)) is not None))

    return _on_message(of_message)


def _on_call(edit: Callable[[ToolCall], ToolCall]) -> Edit:
    return _on_message(lambda message: _replace(message, tool_calls=tuple(edit(call) for call in message.tool_calls)))


def _on_tool(edit: Callable[[Tool], Tool]) -> Edit:
    return lambda request, _: _replace(request, tools=tuple(edit(tool) for tool in request.tools))


def _on_output(edit: Callable[[OutputFormat], OutputFormat | None]) -> Edit:
    return lambda request, _: request if request.output is None else _replace(request, output=edit(request.output))


def _without(*names: str) -> Edit:
    """The fields as they are where nobody says anything."""
    return lambda request, _: _replace(request, **{name: _DEFAULTS[name] for name in names})


_DEFAULTS: Final = {field.name: field.default for field in msgspec.structs.fields(ChatRequest)}


def _given(*names: str) -> Callable[[ChatRequest, ChatRequest, str], Iterable[str]]:
    """Names of those fields that asked for something: 0 is what everyone does without a penalty."""
    return lambda before, after, _: [name for name in names if getattr(before, name) not in (None, 0, 0.0, False, ())]


_OTHERS: Final = Loss("fields of the caller's own dialect", _without("others"), lambda before, *_: before.others)


def _object(text: str) -> Any:
    """A JSON object in a text; None for anything else."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return value if isinstance(value, dict) else None


def _compact(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _call_with_object(call: ToolCall) -> ToolCall:
    value = _object(call.arguments or "{}")
    return ToolCall(call.id, call.name, _compact({"arguments": call.arguments} if value is None else value))


_EMPTY_ARGUMENTS: Final = Loss(
    'no arguments (`""`) of a call',
    _on_call(lambda call: ToolCall(call.id, call.name, call.arguments or "{}")),
)
_EMPTY: Final = (TextPart(""),)
_EMPTY_TEXT: Final = Loss(
    "a text of nothing that is all of a message",
    _on_message(lambda message: _replace(message, parts=() if message.parts == _EMPTY else message.parts)),
)
_NAMES_DROPPED: Final = _on_message(lambda message: _replace(message, name=None))
_DETAIL: Final = _on_part(lambda part: _replace(part, detail=None) if isinstance(part, ImagePart) else part)
_REFUSAL_AS_TEXT: Final = _on_message(
    lambda message: _replace(
        message, refusal=None, parts=(*message.parts, TextPart(message.refusal)) if message.refusal else message.parts
    )
)


def _system_first(messages: list[Message]) -> list[Message]:
    parts = tuple(part for message in messages if message.role == "system" for part in message.parts)
    rest = [message for message in messages if message.role != "system"]
    return [Message(role="system", parts=parts), *rest] if parts else rest


def _without_empty(messages: list[Message]) -> list[Message]:
    return [one for one in messages if one.role in ("tool", "system") or one.parts or one.tool_calls]


def _merged(messages: list[Message]) -> list[Message]:
    found: list[Message] = []
    for message in messages:
        last = found[-1] if found else None
        if last is not None and message.role == last.role and message.role in ("user", "assistant"):
            calls = (*last.tool_calls, *message.tool_calls)
            found[-1] = _replace(last, parts=(*last.parts, *message.parts), tool_calls=calls)
        else:
            found.append(message)
    return found


# --- OpenAI chat ----------------------------------------------------------------------------------------------

_MOST: Final = {"gpt-4.1": 32_768, "gpt-4o": 16_384}


def _openai_effort(request: ChatRequest, model: str) -> ChatRequest:
    return request if model.startswith("gpt-5") else _replace(request, reasoning_effort=None)


def _openai_max(request: ChatRequest, model: str) -> ChatRequest:
    return _replace(request, reasoning_effort="xhigh") if request.reasoning_effort == "max" else request


def _openai_sampling(request: ChatRequest, model: str) -> ChatRequest:
    thinks = model == "gpt-5" or request.reasoning_effort not in (None, "none")
    return _replace(request, temperature=None, top_p=None) if thinks else request


def _sampling_lost(before: ChatRequest, after: ChatRequest, model: str) -> Iterable[str]:
    """1 is the default: said aloud it is no loss."""
    for name in ("temperature", "top_p"):
        if getattr(after, name) is None and getattr(before, name) not in (None, 1):
            yield name


def _limited(most: int | None, request: ChatRequest) -> ChatRequest:
    if most is None or request.max_tokens is None:
        return request
    return _replace(request, max_tokens=min(most, request.max_tokens))


def _limit_lost(before: ChatRequest, after: ChatRequest, model: str) -> Iterable[str]:
    return [] if before.max_tokens in (None, after.max_tokens) else [f"max_tokens>{after.max_tokens}"]


def _short_user(request: ChatRequest, model: str) -> ChatRequest:
    return _replace(request, user=None) if len(request.user or "") > 64 else request


def _openai_file(part: Part) -> Part:
    if not isinstance(part, FilePart) or part.data is None:
        return part
    if part.media_type == "application/pdf":
        return _replace(part, name=part.name or "document.pdf")
    if not (part.media_type or "").startswith("text/"):
        return part
    text = base64.b64decode(part.data).decode()
    return TextPart(f"{part.name}:\n\n{text}" if part.name else text)


def _media_behind_results(messages: list[Message]) -> Iterable[Message]:
    media: list[Part] = []
    for message in messages:
        if message.role != "tool" and media:
            yield Message(role="user", parts=tuple(media))
            media = []
        others = [part for part in message.parts if not isinstance(part, TextPart)]
        if message.role == "tool" and others:
            media += [TextPart(f"From the result of tool call {message.call_id}:"), *others]
            message = _replace(message, parts=tuple(part for part in message.parts if isinstance(part, TextPart)))
        yield message
    if media:
        yield Message(role="user", parts=tuple(media))


OPENAI: Final = Dialect(
    "openai",
    ("gpt-5.4", "gpt-5", "gpt-4.1", "llama3"),
    (
        Loss("`reasoning_effort` for models that are not known to take it", _openai_effort, ("reasoning_effort",)),
        Loss("the effort `max`", _openai_max),
        Loss("`temperature`, `top_p` for models that think", _openai_sampling, _sampling_lost),
        Loss(
            "`max_tokens` beyond what the model writes",
            lambda request, model: _limited(_MOST.get(model), request),
            _limit_lost,
        ),
        Loss("`top_k` where it is not known to be understood", _without("top_k"), ("top_k",)),
        Loss("a `user` of more than 64 characters", _short_user, ("user",)),
        Loss(
            "`strict` of a tool whose schema is not closed",
            _on_tool(lambda tool: _replace(tool, strict=tool.strict and tool.parameters == CLOSED)
                     if tool.strict else tool),
            ("tools.strict",),
        ),
        Loss(
            "`strict` of a format whose schema is not closed",
            _on_output(lambda output: _replace(output, strict=output.strict and output.schema == CLOSED)),
            ("response_format.strict",),
        ),
        Loss("a text file; a PDF without a name", _on_part(_openai_file)),
        Loss("images, files and audio in the result of a tool", _on_messages(_media_behind_results)),
        _EMPTY_TEXT,
        _EMPTY_ARGUMENTS,
        _OTHERS,
    ),
)  # fmt: skip

# --- Responses ------------------------------------------------------------------------------------------------


def _one_turn(messages: list[Message]) -> Iterable[Message]:
    """Items of calls belong to the assistant's turn before them, words without a refusal to the calls before them."""
    found: list[Message] = []
    for message in messages:
        last = found[-1] if found else None
        if last is None or message.role != "assistant" or last.role != "assistant":
            found.append(message)
        elif last.tool_calls and message.refusal is None:
            parts, calls = (*last.parts, *message.parts), (*last.tool_calls, *message.tool_calls)
            found[-1] = _replace(last, parts=parts, tool_calls=calls)
        elif message.parts or message.refusal is not None or not message.tool_calls:
            found.append(message)
        else:
            found[-1] = _replace(last, tool_calls=message.tool_calls)
    return found


def _short_id(given: str) -> str:
    return given if len(given) <= 64 else f"call_{hashlib.blake2s(given.encode()).hexdigest()[:59]}"


def _with_short_ids(message: Message) -> Message:
    calls = tuple(ToolCall(_short_id(call.id), call.name, call.arguments) for call in message.tool_calls)
    return _replace(message, call_id=_short_id(message.call_id), tool_calls=calls)


def _responses_file(part: Part) -> Part:
    if not isinstance(part, FilePart):
        return part
    return _replace(part, name=(part.name or "file") if part.data is not None else None)


def _least_lost(before: ChatRequest, after: ChatRequest, model: str) -> Iterable[str]:
    return [] if before.max_tokens == after.max_tokens else ["max_tokens<16"]


def _tool_with_all(tool: Tool) -> Tool:
    return _replace(
        tool, strict=tool.strict is True, parameters=tool.parameters or b'{"type":"object","properties":{}}'
    )


_UNSAID: Final = (
    "stop", "top_k", "seed", "frequency_penalty", "presence_penalty", "logprobs", "top_logprobs",
)  # fmt: skip

RESPONSES: Final = Dialect(
    "responses",
    ("gpt-5.4",),
    (
        Loss("`name` of a message", _NAMES_DROPPED, ("name",)),
        Loss("`stop`, `top_k`, `seed`, penalties, `logprobs`, `top_logprobs`", _without(*_UNSAID), lambda before, *_: [
            name for name in _UNSAID
            if getattr(before, name) or (name in ("seed", "top_k") and getattr(before, name) is not None)
        ]),
        Loss("`max_tokens` under 16", lambda request, _: request if request.max_tokens is None else _replace(
            request, max_tokens=max(16, request.max_tokens)), _least_lost),
        Loss("no parameters of a tool, no word on `strict`", _on_tool(_tool_with_all)),
        Loss("an id of a call of more than 64 characters", _on_message(_with_short_ids)),
        Loss("a file without a name; the name of one by URL or id", _on_part(_responses_file)),
        Loss("a refusal of nothing", _on_message(lambda message: _replace(message, refusal=message.refusal or None))),
        Loss(_EMPTY_TEXT.lost, _on_message(lambda message: _replace(
            message, parts=() if message.parts == _EMPTY and message.refusal is None else message.parts))),
        Loss("the end of a turn of the assistant, where another one follows", _on_messages(_one_turn)),
        _EMPTY_ARGUMENTS,
        _OTHERS,
    ),
    (Refusal("`n` > 1", "n", lambda request, _: request.n > 1),),
)  # fmt: skip

# --- Anthropic ------------------------------------------------------------------------------------------------

_JSON_ONLY: Final = "Answer with one valid JSON object and nothing else: no other text and no code fence."
_JSON_SCHEMA: Final = (
    "Answer with one JSON value that is valid against this JSON Schema, and nothing else: no other text and no code"
    " fence.\n\n"
)


def _visible(part: Part) -> Part | None:
    return None if isinstance(part, TextPart) and not part.text.strip() else part


def _anthropic_file(part: Part) -> Part:
    """What kind of document it is decides; of text the type is lost, of an image the name."""
    if not isinstance(part, FilePart):
        return part
    name = part.name or None
    if part.data is None:
        return FilePart(name=name, url=part.url)
    kind = part.media_type or "application/pdf"
    if kind.startswith("image/"):
        return ImagePart(media_type=kind, data=part.data)
    if kind == "application/pdf":
        return FilePart(name=name, media_type=kind, data=part.data)
    return FilePart(name=name, media_type="text/plain", data=part.data)


def _image_jpg(part: Part) -> Part:
    is_jpg = isinstance(part, ImagePart) and part.media_type == "image/jpg"
    return _replace(part, media_type="image/jpeg") if is_jpg else part


def _anthropic_ids(messages: list[Message]) -> Iterable[Message]:
    """Signs that are refused become `_`; where that makes two ids one, the later gets a mark."""
    given = dict.fromkeys(call.id for message in messages for call in message.tool_calls)
    given |= dict.fromkeys(message.call_id for message in messages if message.role == "tool")
    clean = {one: re.sub(r"[^a-zA-Z0-9_-]", "_", one) for one in given}
    taken = {one for one in given if clean[one] == one}
    for one in given:
        if clean[one] == one:
            continue
        if clean[one] in taken:
            clean[one] += f"_{hashlib.blake2s(one.encode(), digest_size=6).hexdigest()}"
        taken.add(clean[one])
    for message in messages:
        calls = tuple(ToolCall(clean[call.id], call.name, call.arguments) for call in message.tool_calls)
        yield _replace(message, tool_calls=calls, call_id=clean.get(message.call_id, ""))


def _results_first(messages: list[Message]) -> list[Message]:
    found: list[Message] = []
    run: list[Message] = []
    for message in [*messages, None]:
        if message is not None and message.role in ("user", "tool"):
            run.append(message)
            continue
        found += sorted(run, key=lambda one: one.role != "tool")
        run = []
        if message is not None:
            found.append(message)
    return found


def _system_as_user(messages: list[Message]) -> list[Message]:
    if messages and all(message.role == "system" for message in messages):
        return [_replace(message, role="user") for message in messages]
    return messages


def _opened(messages: list[Message]) -> list[Message]:
    first = next((n for n, message in enumerate(messages) if message.role != "system"), None)
    if first is not None and messages[first].role == "assistant":
        messages.insert(first, Message(role="user", parts=(TextPart("."),)))
    return messages


def _trimmed(messages: list[Message]) -> list[Message]:
    last = messages[-1] if messages else Message(role="system")
    if last.role == "assistant" and not last.tool_calls and isinstance(text := last.parts[-1], TextPart):
        messages[-1] = _replace(last, parts=(*last.parts[:-1], TextPart(text.text.rstrip())))
    return messages


def _bare_tools(request: ChatRequest, model: str) -> ChatRequest:
    names = dict.fromkeys(call.name for message in request.messages for call in message.tool_calls)
    if request.tools or not names:
        return request
    bare = tuple(Tool(name=name, parameters=b'{"type":"object"}') for name in names)
    return _replace(request, tools=bare, tool_choice=ToolChoice("none"))


def _choice_without_tools(request: ChatRequest, model: str) -> ChatRequest:
    return request if request.tools else _replace(request, tool_choice=None)


def _forced(request: ChatRequest) -> bool:
    return request.tool_choice is not None and request.tool_choice.mode in ("required", "named")


def _unforced(request: ChatRequest, model: str) -> ChatRequest:
    is_lost = _forced(request) and not traits_of(model).forced_tools
    return _replace(request, tool_choice=ToolChoice("auto")) if is_lost else request


def _anthropic_parallel(request: ChatRequest, model: str) -> ChatRequest:
    choice = request.tool_choice
    if request.parallel_tool_calls is not False or not request.tools or (choice and choice.mode == "none"):
        return _replace(request, parallel_tool_calls=None)
    return _replace(request, tool_choice=choice or ToolChoice("auto"))


def _object_schema(tool: Tool) -> Tool:
    schema = msgspec.json.decode(tool.parameters or b"{}")
    return _replace(tool, parameters=msgspec.json.encode({"type": "object"} | schema))


def _anthropic_strict(request: ChatRequest, model: str) -> ChatRequest:
    def kept(tool: Tool) -> Tool:
        closed = closed_schema(msgspec.json.decode(tool.parameters or b"null")) if traits_of(model).structured else None
        if not tool.strict or closed is None:
            return _replace(tool, strict=None)
        return _replace(tool, parameters=msgspec.json.encode(closed))

    return _replace(request, tools=tuple(kept(tool) for tool in request.tools))


def _strict_lost(before: ChatRequest, after: ChatRequest, model: str) -> Iterable[str]:
    lost = any(old.strict and not new.strict for old, new in zip(before.tools, after.tools, strict=True))
    return ["tools.strict"] if lost else []


def _anthropic_format(request: ChatRequest, model: str) -> ChatRequest:
    output = request.output
    if output is None:
        return request
    if output.kind == "json_object" or output.schema is None:
        return _instructed(request, _JSON_ONLY)
    closed = closed_schema(msgspec.json.decode(output.schema)) if traits_of(model).structured else None
    if closed is not None:
        schema = msgspec.json.encode(closed)
        return _replace(request, output=OutputFormat(kind="json_schema", schema=schema, strict=True))
    words = _JSON_SCHEMA + output.schema.decode()
    return _instructed(request, f"{words}\n\n{output.description}" if output.description else words)


def _instructed(request: ChatRequest, words: str) -> ChatRequest:
    first = request.messages[0] if request.messages else None
    system = first if first is not None and first.role == "system" else Message(role="system")
    rest = request.messages if system is not first else request.messages[1:]
    system = _replace(system, parts=(*system.parts, TextPart(words)))
    return _replace(request, output=None, messages=(system, *rest))


def _format_lost(before: ChatRequest, after: ChatRequest, model: str) -> Iterable[str]:
    is_lost = before.output is not None and before.output.schema is not None and after.output is None
    return ["response_format"] if is_lost else []


def _anthropic_default_limit(request: ChatRequest, model: str) -> ChatRequest:
    default = min(traits_of(model).max_output or 8192, 64_000)
    return request if request.max_tokens is not None else _replace(request, max_tokens=default)


def _anthropic_user(request: ChatRequest, model: str) -> ChatRequest:
    return _replace(request, user=None) if request.user in BAD_USERS else request


_LADDER: Final = ("minimal", "low", "medium", "high", "xhigh", "max")
_BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768}


def _thinks_by_budget(request: ChatRequest) -> bool:
    """Behind the other losses: the last turn is a user's, and no result of a tool is in it."""
    if _forced(request) or request.messages[-1].role == "assistant":
        return False
    run = [message.role for message in request.messages]
    while run and run[-1] == "user":
        run.pop()
    return not run or run[-1] != "tool"


def _anthropic_effort(request: ChatRequest, model: str) -> ChatRequest:
    traits, effort = traits_of(model), request.reasoning_effort
    if effort is None:
        return request
    if effort == "none":
        return _replace(request, reasoning_effort=traits.efforts[0] if traits.thinking == "always" else None)
    if traits.efforts:
        known = [word for word in traits.efforts if _LADDER.index(word) <= _LADDER.index(effort)]
        return _replace(request, reasoning_effort=known[-1] if known else traits.efforts[0])
    budget = min(_BUDGETS[effort], (request.max_tokens or 0) // 2)
    if traits.thinking != "budget" or budget < 1024 or not _thinks_by_budget(request):
        return _replace(request, reasoning_effort=None)
    return _replace(request, reasoning_effort="low" if budget <= 2048 else "medium" if budget <= 8192 else "high")


def _effort_lost(before: ChatRequest, after: ChatRequest, model: str) -> Iterable[str]:
    if before.reasoning_effort == "none":
        return ["reasoning_effort=none"] if after.reasoning_effort else []
    return ["reasoning_effort"] if before.reasoning_effort and after.reasoning_effort is None else []


def _anthropic_sampling(request: ChatRequest, model: str) -> ChatRequest:
    traits = traits_of(model)
    asked = request.reasoning_effort is not None
    thinks = asked and (
        (traits.thinking == "adaptive" and request.messages[-1].role != "assistant") or traits.thinking == "budget"
    )
    if thinks or traits.sampling == "none":
        return _replace(request, temperature=None, top_p=None, top_k=None)
    if traits.sampling == "one" and request.temperature is not None:
        return _replace(request, top_p=None)
    return request


def _anthropic_sampling_lost(before: ChatRequest, after: ChatRequest, model: str) -> Iterable[str]:
    yield from _sampling_lost(before, after, model)
    if before.top_k is not None and after.top_k is None:
        yield "top_k"


def _seconds_named(before: ChatRequest, after: ChatRequest, model: str) -> Iterable[str]:
    yield from _given("logprobs", "frequency_penalty", "presence_penalty")(before, after, model)
    yield from [name for name in ("seed", "top_logprobs") if getattr(before, name) is not None]


def _all_media(request: ChatRequest) -> list[Part]:
    return [part for message in request.messages for part in message.parts if not isinstance(part, TextPart)]


def _is_audio(part: Part) -> bool:
    return isinstance(part, AudioPart)


def _is_by_id(part: Part) -> bool:
    return isinstance(part, FilePart) and part.file_id is not None


def _is_unknown_file(part: Part) -> bool:
    is_pdf = isinstance(part, FilePart) and (part.name or "").endswith(".pdf")
    return isinstance(part, FilePart) and part.data is not None and part.media_type is None and not is_pdf


def _is_empty(request: ChatRequest, model: str) -> bool:
    """Nothing that can be seen in any message, no calls or results, and no format that has to be asked for in words."""
    if request.output is not None and _anthropic_format(request, model).output is None:
        return False
    return not any(
        message.role == "tool" or message.tool_calls or (message.refusal or "").strip() or _visible_parts(message)
        for message in request.messages
    )


def _visible_parts(message: Message) -> list[Part]:
    return [part for part in message.parts if _visible(part) is not None]


ANTHROPIC: Final = Dialect(
    "anthropic",
    ("claude-sonnet-4-6", "claude-sonnet-5-5", "claude-sonnet-4-5", "claude-3-5-sonnet", "claude-fable-5-1", "other-1"),
    (
        Loss("a refusal of earlier turns", _REFUSAL_AS_TEXT),
        Loss("text without a visible character", _on_part(_visible)),
        Loss("`name` of a message", _NAMES_DROPPED, ("messages.name",)),
        Loss("the place of system messages", _on_messages(_system_first)),
        Loss("messages without content", _on_messages(_without_empty)),
        Loss("white space at the end of a last turn of the assistant", _on_messages(_trimmed)),
        Loss("the place of a tool's result behind words of the user", _on_messages(_results_first)),
        Loss("the border between turns of one role", _on_messages(_merged)),
        Loss(
            "the format where model or schema do not allow it, JSON mode, name and description of a schema",
            _anthropic_format,
            _format_lost,
        ),
        Loss("nothing but system messages", _on_messages(_system_as_user)),
        Loss("the assistant's turn as the first one", _on_messages(_opened)),
        Loss("`detail` of an image, the type `image/jpg`", lambda request, model: _on_part(_image_jpg)(
            _DETAIL(request, model), model)),
        Loss("the type of a text file, the name of an image in a file", _on_part(_anthropic_file)),
        Loss("signs in ids of calls that are refused", _on_messages(_anthropic_ids)),
        Loss("the spelling of arguments, and arguments that are no object", _on_call(_call_with_object)),
        Loss("a choice of tools without any", _choice_without_tools, lambda before, after, _: (
            ["tool_choice"] if _forced(before) and not _forced(after) else [])),
        Loss("calls in the history, but no `tools`", _bare_tools),
        Loss("a forced call, for models that take none", _unforced, ("tool_choice",)),
        Loss("`parallel_tool_calls` where nothing can be called, or `true`", _anthropic_parallel),
        Loss("a schema without `type: object`", _on_tool(_object_schema)),
        Loss("`strict` where model or schema do not allow it, or `false`", _anthropic_strict, _strict_lost),
        Loss("a missing `max_tokens`", _anthropic_default_limit),
        Loss(
            "`max_tokens` beyond what the model writes",
            lambda request, model: _limited(traits_of(model).max_output, request),
            _limit_lost,
        ),
        Loss("stop sequences of white space only", lambda request, _: _replace(
            request, stop=tuple(one for one in request.stop if one.strip())), ("stop",)),
        Loss("a `user` that looks like an address or telephone number, or is long", _anthropic_user, ("user",)),
        Loss("`reasoning_effort` that the model does not have", _anthropic_effort, _effort_lost),
        Loss("`temperature`, `top_p`, `top_k` that the model does not take", _anthropic_sampling,
             _anthropic_sampling_lost),
        Loss("`temperature` above 1", lambda request, _: request if request.temperature is None else _replace(
            request, temperature=min(1.0, request.temperature)), ("temperature>1",)),
        Loss(
            "`seed`, `logprobs`, `top_logprobs`, penalties",
            _without("seed", "logprobs", "top_logprobs", "frequency_penalty", "presence_penalty"),
            _seconds_named,
        ),
        _OTHERS,
    ),
    (
        Refusal("`n` > 1", "n", lambda request, _: request.n > 1),
        Refusal("audio", "messages", lambda request, _: any(map(_is_audio, _all_media(request)))),
        Refusal("files by id", "messages", lambda request, _: any(map(_is_by_id, _all_media(request)))),
        Refusal("other file types", "messages", lambda request, _: any(map(_is_unknown_file, _all_media(request)))),
        Refusal("messages without any content", "messages", _is_empty),
    ),
)  # fmt: skip

# --- Gemini ---------------------------------------------------------------------------------------------------


def _gemini_result(message: Message) -> Message:
    """Its texts are one, and a JSON object is written anew; what it says under `result` alone is that text."""
    if message.role != "tool":
        return message
    text = "".join(part.text for part in message.parts if isinstance(part, TextPart))
    if (value := _object(text)) is not None:
        is_result = value.keys() == {"result"} and isinstance(value["result"], str)
        text = value["result"] if is_result else _compact(value)
    media = [part for part in message.parts if not isinstance(part, TextPart)]
    return _replace(message, parts=(*([TextPart(text)] if text else []), *media))


def _gemini_media_beside(request: ChatRequest, model: str) -> ChatRequest:
    if model.startswith("gemini-3"):
        return request
    found: list[Message] = []
    for message in request.messages:
        media = [part for part in message.parts if not isinstance(part, TextPart)]
        if message.role == "tool" and media:
            text = tuple(part for part in message.parts if isinstance(part, TextPart))
            found += [_replace(message, parts=text), Message(role="user", parts=tuple(media))]
        else:
            found.append(message)
    return _replace(request, messages=tuple(found))


def _gemini_media(part: Part) -> Part:
    """What is left says its type, or by a URL its ending: there is one kind of media, without names."""
    match part:
        case FilePart(data=str(data)):
            kind = part.media_type or "application/pdf"
            is_image = kind.startswith("image/")
            return ImagePart(media_type=kind, data=data) if is_image else FilePart(media_type=kind, data=data)
        case FilePart(url=str(url)) | ImagePart(url=str(url)):
            path = re.split(r"[?#]", url)[0].lower()
            return ImagePart(url=url) if path.endswith((".png", ".jpg")) else FilePart(url=url)
        case _:
            return part


def _gemini_effort(request: ChatRequest, model: str) -> ChatRequest:
    effort = request.reasoning_effort
    if effort is None:
        return request
    if model.startswith("gemma"):
        return _replace(request, reasoning_effort=None)
    level = {"minimal": "low", "xhigh": "high", "max": "high"}.get(effort, effort)
    if effort == "none" and model.startswith("gemini-3"):
        level = "low"
    return _replace(request, reasoning_effort=level)


def _gemini_effort_lost(before: ChatRequest, after: ChatRequest, model: str) -> Iterable[str]:
    return ["reasoning_effort"] if before.reasoning_effort and after.reasoning_effort is None else []


def _gemini_format(request: ChatRequest, model: str) -> ChatRequest:
    if request.output is None or not request.tools or not model.startswith("gemini-2"):
        return request
    return _replace(request, output=None)


def _gemini_limit(request: ChatRequest, model: str) -> ChatRequest:
    return _limited(65_536 if model.startswith("gemini-") else None, request)


def _gemini_seed(request: ChatRequest, model: str) -> ChatRequest:
    return _replace(request, seed=None) if abs(request.seed or 0) >= 2**31 else request


def _gemini_unsaid(before: ChatRequest, after: ChatRequest, model: str) -> Iterable[str]:
    yield from _given("logprobs", "user")(before, after, model)
    if before.top_logprobs is not None:
        yield "top_logprobs"
    if before.parallel_tool_calls is False:
        yield "parallel_tool_calls"


def _not_empty(messages: list[Message]) -> list[Message]:
    if any(message.role != "system" for message in messages):
        return messages
    return [*messages, Message(role="user", parts=(TextPart(""),))]


def _system_in_turn(request: ChatRequest, model: str) -> ChatRequest:
    first = request.messages[0] if request.messages else None
    if first is None or first.role != "system" or not model.startswith("gemma"):
        return request
    return _replace(request, messages=tuple(_merged([_replace(first, role="user"), *request.messages[1:]])))


GEMINI: Final = Dialect(
    "gemini",
    ("gemini-2.5-pro", "gemini-3.8-flash", "gemma-3-27b-it"),
    (
        Loss("a refusal of earlier turns", _REFUSAL_AS_TEXT),
        Loss("a text of nothing", _on_part(lambda part: None if part == TextPart("") else part)),
        Loss("`name` of a message", _NAMES_DROPPED),
        Loss("the place of system messages", _on_messages(_system_first)),
        Loss("messages without content", _on_messages(_without_empty)),
        Loss("the spelling of a tool's result, and the border between its texts", _on_message(_gemini_result)),
        Loss("media inside the result of a tool, before Gemini 3", _gemini_media_beside),
        Loss("the border between turns of one role", _on_messages(_merged)),
        Loss("`detail` of an image", _DETAIL),
        Loss("names of files, and what is a file and what an image", _on_part(_gemini_media)),
        Loss("a `systemInstruction`, for models that refuse it", _system_in_turn),
        Loss("no turn but system messages", _on_messages(_not_empty)),
        Loss("the spelling of arguments, and arguments that are no object", _on_call(_call_with_object)),
        Loss("a choice of tools without any", _choice_without_tools, ("tool_choice",)),
        Loss("`strict` of a tool", _on_tool(lambda tool: _replace(tool, strict=None)), lambda before, *_: (
            ["tools.function.strict"] if any(tool.strict for tool in before.tools) else [])),
        Loss("a description of nothing", _on_tool(lambda tool: _replace(tool, description=tool.description or None))),
        Loss("the format beside tools, before Gemini 3", _gemini_format, ("response_format",)),
        Loss("name, description and `strict` of a schema", _on_output(
            lambda output: OutputFormat(kind=output.kind, schema=output.schema))),
        Loss("`max_tokens` beyond what the model writes", _gemini_limit, _limit_lost),
        Loss("a `seed` of more than 32 bits", _gemini_seed, ("seed",)),
        Loss("`reasoning_effort` that the model does not have", _gemini_effort, _gemini_effort_lost),
        Loss("`parallel_tool_calls`, `logprobs`, `top_logprobs`, `user`", _without(
            "parallel_tool_calls", "logprobs", "top_logprobs", "user"), _gemini_unsaid),
        _OTHERS,
    ),
    (
        Refusal("more than five stop sequences", "stop", lambda request, _: len(request.stop) > 5),
        Refusal("files by id", "messages[i].content[j]", lambda request, _: any(map(_is_by_id, _all_media(request)))),
    ),
)  # fmt: skip

# --- Cohere ---------------------------------------------------------------------------------------------------


def _cohere_texts(message: Message) -> Message:
    """Without texts of nothing; what is said before calls is one text."""
    texts = [part for part in message.parts if part != TextPart("")]
    if message.tool_calls and texts:
        texts = [TextPart("".join(part.text for part in texts if isinstance(part, TextPart)))]
    if message.role == "tool" and not texts:
        texts = [TextPart("(empty)")]
    return _replace(message, parts=tuple(texts))


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _cohere_names(request: ChatRequest, model: str) -> ChatRequest:
    request = _on_tool(lambda tool: _replace(tool, name=_plain(tool.name)))(request, model)
    request = _on_call(lambda call: ToolCall(call.id, _plain(call.name), call.arguments))(request, model)
    choice = request.tool_choice
    if choice is None or choice.name is None:
        return request
    return _replace(request, tool_choice=ToolChoice(choice.mode, _plain(choice.name)))


def _cohere_media(part: Part) -> Part:
    if not isinstance(part, FilePart) or part.data is None:
        return part
    kind = part.media_type or ""
    return (
        ImagePart(media_type=kind, data=part.data)
        if kind.startswith("image/")
        else _replace(part, media_type="text/plain")
    )


def _has_documents(request: ChatRequest) -> bool:
    return any(
        isinstance(part, FilePart) for message in request.messages if message.role == "user" for part in message.parts
    )


def _cohere_documents(messages: list[Message]) -> Iterable[Message]:
    """Beside the messages, which reads as if they came last."""
    files: list[Part] = []
    for at, message in enumerate(messages):
        rest = tuple(part for part in message.parts if message.role != "user" or not isinstance(part, FilePart))
        if len(rest) < len(message.parts):
            files += [part for part in message.parts if isinstance(part, FilePart)]
            messages[at] = _replace(message, parts=rest or (TextPart("."),))
    if files:
        messages[-1] = _replace(messages[-1], parts=(*messages[-1].parts, *files))
    return messages


def _cohere_format(request: ChatRequest, model: str) -> ChatRequest:
    output = request.output
    if output is None:
        return request
    is_free = not request.tools and not _has_documents(request)
    if is_free and output.schema in (None, CLOSED):
        return _replace(request, output=OutputFormat(kind=output.kind, schema=output.schema))
    words = _JSON_ONLY
    if output.schema is not None:
        words = _JSON_SCHEMA + output.schema.decode()
        words += f"\n\n{output.description}" if output.description else ""
    return _instructed(request, words)


def _is_old_command(model: str) -> bool:
    return model == "command-r-08-2024"


def _cohere_choice(request: ChatRequest, model: str) -> ChatRequest:
    choice = request.tool_choice
    if choice is None or choice.mode == "auto" or not request.tools:
        return _replace(request, tool_choice=None)
    tools = tuple(tool for tool in request.tools if choice.mode != "named" or tool.name == choice.name)
    mode = "none" if choice.mode == "none" else "required"
    told = None if _is_old_command(model) else ToolChoice("none" if mode == "none" else "required")
    return _replace(request, tools=tools or request.tools, tool_choice=told)


def _cohere_choice_lost(before: ChatRequest, after: ChatRequest, model: str) -> Iterable[str]:
    if before.tools and _is_old_command(model):
        return [] if before.tool_choice in (None, ToolChoice("auto")) else ["tool_choice"]
    return ["tool_choice"] if _forced(before) and not before.tools else []


def _cohere_strict(request: ChatRequest, model: str) -> ChatRequest:
    schemas = [msgspec.json.decode(tool.parameters or b"{}") for tool in request.tools]
    can = all(tool.strict for tool in request.tools) and all(schema.get("required") for schema in schemas)
    return _replace(request, tools=tuple(_replace(tool, strict=can or None) for tool in request.tools))


def _cohere_effort(request: ChatRequest, model: str) -> ChatRequest:
    effort = request.reasoning_effort
    if effort is None or "reasoning" not in model:
        return _replace(request, reasoning_effort=None)
    most = {"minimal": 1024, "low": 2048, "medium": 8192}.get(effort)
    if most is None:
        return _replace(request, reasoning_effort="none" if effort == "none" else "high")
    budget = most if request.max_tokens is None else min(most, request.max_tokens // 2)
    word = "minimal" if budget <= 1024 else "low" if budget <= 2048 else "medium"
    return _replace(request, reasoning_effort=word)


def _cohere_effort_lost(before: ChatRequest, after: ChatRequest, model: str) -> Iterable[str]:
    return ["reasoning_effort"] if before.reasoning_effort not in (None, "none") and not after.reasoning_effort else []


_PENALTIES: Final = ("frequency_penalty", "presence_penalty")
_SAMPLING: Final = ("temperature", "top_k", *_PENALTIES)


def _cohere_sampling(request: ChatRequest, model: str) -> ChatRequest:
    def within(name: str, most: float) -> float | None:
        value: float | None = getattr(request, name)
        return value if value is None else min(value, most)

    penalties = {name: within(name, 1.0) or None for name in _PENALTIES}
    if all(penalties.values()):
        penalties["presence_penalty"] = None
    return _replace(request, temperature=within("temperature", 1.0), top_k=within("top_k", 500), **penalties)


def _cohere_sampling_lost(before: ChatRequest, after: ChatRequest, model: str) -> Iterable[str]:
    for name in _SAMPLING:
        if getattr(before, name) and getattr(after, name) is None:
            yield name
        elif getattr(before, name) and getattr(before, name) != getattr(after, name):
            yield f"{name}>{getattr(after, name):g}"


def _cohere_unsaid(before: ChatRequest, after: ChatRequest, model: str) -> Iterable[str]:
    yield from _given("logprobs", "user")(before, after, model)
    if before.top_logprobs is not None:
        yield "top_logprobs"


def _format_or_json_lost(before: ChatRequest, after: ChatRequest, model: str) -> Iterable[str]:
    return ["response_format"] if before.output is not None and after.output is None else []


def _is_image_file(part: Part) -> bool:
    is_image = isinstance(part, FilePart) and (part.media_type or "").startswith("image/")
    return is_image and isinstance(part, FilePart) and part.data is not None


def _is_no_text(part: Part) -> bool:
    """A file that cannot be a document."""
    kind = part.media_type or "" if isinstance(part, FilePart) else "text/"
    is_text = kind.startswith("text/") or kind == "application/json"
    return isinstance(part, FilePart) and (part.data is None or not is_text)


def _says_nothing(request: ChatRequest, model: str) -> bool:
    if request.output is not None and _cohere_format(request, model).output is None:
        return False
    return not any(
        message.role == "tool" or message.tool_calls or message.refusal or set(message.parts) - {TextPart("")}
        for message in request.messages
    )


def _media_of(request: ChatRequest, is_result: bool) -> list[Part]:
    return _all_media(
        _replace(request, messages=tuple(one for one in request.messages if (one.role == "tool") is is_result))
    )


COHERE: Final = Dialect(
    "cohere",
    ("command-a-03-2025", "command-a-reasoning-08-2025", "command-r-08-2024"),
    (
        Loss("a refusal of earlier turns", _REFUSAL_AS_TEXT),
        Loss("a text of nothing, the border between texts before calls", _on_message(_cohere_texts)),
        Loss("`name` of a message", _NAMES_DROPPED, ("messages.name",)),
        Loss("the place of system messages", _on_messages(_system_first)),
        Loss("messages without content", _on_messages(lambda messages: [
            one for one in messages if one.parts or one.tool_calls])),
        Loss("signs in names of tools that are refused", _cohere_names),
        Loss("the type of a text file, the name of an image in a file", _on_part(_cohere_media)),
        Loss(
            "the format beside tools or documents or where the schema does not allow it; its name, description,"
            " `strict` and bounds",
            _cohere_format,
            _format_or_json_lost,
        ),
        Loss("nothing but system messages", _on_messages(_system_as_user)),
        Loss("the place of a file of text among the words of the user", _on_messages(_cohere_documents)),
        _EMPTY_ARGUMENTS,
        Loss("`parallel_tool_calls`", _without("parallel_tool_calls"), lambda before, *_: (
            ["parallel_tool_calls"] if before.parallel_tool_calls is False and before.tools else [])),
        Loss("the choice `auto`, any choice without tools or before `command-r7b`, the tools beside one that is named",
             _cohere_choice, _cohere_choice_lost),
        Loss("a schema without `type: object`", _on_tool(_object_schema)),
        Loss("`strict` of a tool where another one is not, or where nothing is required", _cohere_strict, _strict_lost),
        Loss("more than five stop sequences", lambda request, _: _replace(request, stop=request.stop[:5]), ("stop>5",)),
        Loss("`reasoning_effort` that the model does not have", _cohere_effort, _cohere_effort_lost),
        Loss("`temperature` and penalties above 1, `top_k` above 500, a second penalty, penalties of 0",
             _cohere_sampling, _cohere_sampling_lost),
        Loss("`top_p` above 0.99", lambda request, _: request if request.top_p is None else _replace(
            request, top_p=min(request.top_p, 0.99))),
        Loss("a negative `seed`", lambda request, _: _replace(
            request, seed=None if (request.seed or 0) < 0 else request.seed), ("seed",)),
        Loss("`logprobs`, `top_logprobs`, `user`", _without("logprobs", "top_logprobs", "user"), _cohere_unsaid),
        _OTHERS,
    ),
    (
        Refusal("`n` > 1", "n", lambda request, _: request.n > 1),
        Refusal("audio", "messages", lambda request, _: any(map(_is_audio, _all_media(request)))),
        Refusal("files that are no text, or are elsewhere", "messages", lambda request, _: any(
            _is_no_text(part) and not _is_image_file(part) for part in _all_media(request))),
        Refusal("images in the result of a tool", "messages", lambda request, _: any(
            isinstance(part, ImagePart) or _is_image_file(part) for part in _media_of(request, is_result=True))),
        Refusal("messages without any content", "messages", _says_nothing),
    ),
)  # fmt: skip

# --- Ollama ---------------------------------------------------------------------------------------------------


def _ollama_texts(message: Message) -> Message:
    """One text of all that are not empty, before the images."""
    texts = [part.text for part in message.parts if isinstance(part, TextPart) and part.text]
    rest = [part for part in message.parts if not isinstance(part, TextPart)]
    return _replace(message, parts=(*([TextPart("\n\n".join(texts))] if texts else []), *rest))


def _ollama_image(part: Part) -> Part:
    """What is left of an image is its bytes."""
    return ImagePart(media_type="image/png", data=part.data) if isinstance(part, ImagePart | FilePart) else part


_MUST_CALL: Final = "Answer with a call of one or more of the tools, not with text."


def _one_system_text(request: ChatRequest) -> ChatRequest:
    first, *rest = request.messages
    return _replace(request, messages=(_ollama_texts(first), *rest))


def _ollama_choice(request: ChatRequest, model: str) -> ChatRequest:
    choice = request.tool_choice
    if choice is None:
        return request
    request = _replace(request, tool_choice=None)
    if choice.mode == "auto" or not request.tools:
        return request
    if choice.mode == "none":
        return _replace(request, tools=())
    named = tuple(tool for tool in request.tools if choice.mode == "named" and tool.name == choice.name)
    output = request.output
    request = _one_system_text(_instructed(request, _MUST_CALL))
    return _replace(request, tools=named or request.tools, output=output)


def _ollama_format(request: ChatRequest, model: str) -> ChatRequest:
    output = request.output
    if output is None or not request.tools:
        return (
            request
            if output is None
            else _replace(request, output=OutputFormat(kind=output.kind, schema=output.schema))
        )
    words = _JSON_ONLY
    if output.schema is not None:
        words = _JSON_SCHEMA + output.schema.decode()
        words += f"\n\n{output.description}" if output.description else ""
    return _one_system_text(_instructed(request, words))


def _ollama_effort(request: ChatRequest, model: str) -> ChatRequest:
    effort = request.reasoning_effort
    if effort is None:
        return request
    if model.startswith("gpt-oss"):
        word = {"none": "low", "minimal": "low", "xhigh": "high", "max": "high"}.get(effort, effort)
        return _replace(request, reasoning_effort=word)
    thinks = "medium" if model.startswith("qwen3") else None
    return _replace(request, reasoning_effort=thinks if effort != "none" else effort)


def _is_elsewhere(part: Part) -> bool:
    return isinstance(part, ImagePart) and part.data is None


OLLAMA: Final = Dialect(
    "ollama",
    ("qwen3:4b", "gpt-oss:20b", "llama3.2"),
    (
        Loss("a refusal of earlier turns", _REFUSAL_AS_TEXT),
        Loss("`name` of a message", _NAMES_DROPPED, ("messages.name",)),
        Loss("texts of nothing, the border between texts, the place of images among them", _on_message(_ollama_texts)),
        Loss("type and `detail` of an image, the name of one in a file", _on_part(_ollama_image)),
        Loss("messages without content", _on_messages(lambda messages: [
            one for one in messages if one.role == "tool" or one.parts or one.tool_calls])),
        Loss("the spelling of arguments, and arguments that are no object", _on_call(_call_with_object)),
        Loss("`parallel_tool_calls`", _without("parallel_tool_calls"), lambda before, *_: (
            ["parallel_tool_calls"] if before.parallel_tool_calls is False and before.tools
            and before.tool_choice != ToolChoice("none") else [])),
        Loss("`strict` of a tool", _on_tool(lambda tool: _replace(tool, strict=None)), lambda before, *_: (
            ["tools.strict"] if any(tool.strict for tool in before.tools)
            and before.tool_choice != ToolChoice("none") else [])),
        Loss("the choice of tools, those that must not be called, those beside one that is named",
             _ollama_choice, lambda before, *_: ["tool_choice"] if _forced(before) else []),
        Loss("the format beside tools; its name, description and `strict`", _ollama_format, _format_or_json_lost),
        Loss("a schema without `type: object`", _on_tool(_object_schema)),
        Loss("`reasoning_effort` that the model does not have", _ollama_effort, _cohere_effort_lost),
        Loss("`logprobs`, `top_logprobs`, `user`", _without("logprobs", "top_logprobs", "user"), _cohere_unsaid),
        _OTHERS,
    ),
    (
        Refusal("`n` > 1", "n", lambda request, _: request.n > 1),
        Refusal("audio", "messages", lambda request, _: any(map(_is_audio, _all_media(request)))),
        Refusal("images that are elsewhere", "messages", lambda request, _: any(
            map(_is_elsewhere, _all_media(request)))),
        Refusal("files but images", "messages", lambda request, _: any(
            isinstance(part, FilePart) and not _is_image_file(part) for part in _all_media(request))),
        Refusal("images in the result of a tool", "messages", lambda request, _: bool(
            _media_of(request, is_result=True))),
        Refusal("messages without any content", "messages", lambda request, _: not any(
            one.role == "tool" or one.tool_calls or one.refusal or set(one.parts) - {TextPart("")}
            for one in request.messages)),
    ),
)  # fmt: skip

DIALECTS: Final = (OPENAI, ANTHROPIC, GEMINI, RESPONSES, COHERE, OLLAMA)


def after(dialect: Dialect, request: ChatRequest, model: str) -> tuple[ChatRequest, set[str], set[str]]:
    """What must be read back, the names that must be on record, and the rows that took part."""
    names: set[str] = set()
    rows: set[str] = set()
    for loss in dialect.losses:
        changed = loss.edit(request, model)
        names |= loss.names(request, changed, model)
        if changed != request:
            rows.add(loss.lost)
        request = changed
    return request, names, rows


def normal(request: ChatRequest) -> ChatRequest:
    """The request with its schemas in one spelling: they are JSON."""

    def spelled(text: bytes | None) -> bytes | None:
        return None if text is None else msgspec.json.encode(msgspec.json.decode(text), order="sorted")

    tools = tuple(_replace(tool, parameters=spelled(tool.parameters)) for tool in request.tools)
    output = request.output and _replace(request.output, schema=spelled(request.output.schema))
    return _replace(request, tools=tools, output=output)
