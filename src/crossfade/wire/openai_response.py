"""OpenAI chat answers that came whole: reading them from any server of the dialect, writing them for the caller.

Also the words that whole answers share with streamed ones: finish reasons. What an error means is decided by whoever
reads: it is handed in as a function.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from crossfade.core.exchange import Choice, Completion, Finish, ToolCall
from crossfade.core.failure import Failure, FailureReason
from crossfade.wire import openai_response_shapes as shapes
from crossfade.wire.bounds import has_more_parts, whole
from crossfade.wire.openai_usage import given_usage, usage_json, usage_of

ReadError = Callable[[Any], Failure]
"""Makes a failure of the decoded JSON of an error that came inside a 200."""

FINISHES: Final[Mapping[str | None, Finish]] = MappingProxyType(
    {
        "stop": Finish.STOP,
        "length": Finish.LENGTH,
        "tool_calls": Finish.TOOL_CALLS,
        "content_filter": Finish.CONTENT_FILTER,
        "function_call": Finish.TOOL_CALLS,
        "model_length": Finish.LENGTH,
        "max_tokens": Finish.LENGTH,
        "tool_use": Finish.TOOL_CALLS,
        "eos": Finish.STOP,
        "eos_token": Finish.STOP,
        "end_turn": Finish.STOP,
        "stop_sequence": Finish.STOP,
        "refusal": Finish.CONTENT_FILTER,
        "sensitive": Finish.CONTENT_FILTER,
    }
)
BAD_FINISHES: Final[Mapping[str, FailureReason]] = MappingProxyType(
    {
        "error": FailureReason.SERVER_ERROR,
        "network_error": FailureReason.SERVER_ERROR,
        "insufficient_system_resource": FailureReason.OVERLOADED,
        "model_context_window_exceeded": FailureReason.CONTEXT_OVERFLOW,
    }
)


_finishes: Final = dict(FINISHES)


def finish_of(word: str) -> tuple[Finish | None, Failure | None]:
    """The meaning of a provider's finish reason. An unknown word is `stop`: whether there was content decides."""
    if (finish := FINISHES.get(word)) is not None:
        return finish, None
    if (reason := BAD_FINISHES.get(word)) is not None:
        return None, Failure(reason=reason, code=word, detail=f"finish reason {word}")
    return Finish.STOP, None


# --- content -------------------------------------------------------------------------------------------------


def text_of(content: Any) -> tuple[str, str]:
    """Text and reasoning of content in any form: a string, a list of parts, a JSON value."""
    if isinstance(content, str):
        return content, ""
    if content is None:
        return "", ""
    if isinstance(content, list):
        pieces = [_part_text(part) for part in content]
        return "".join(text for text, _ in pieces), "".join(reasoning for _, reasoning in pieces)
    return msgspec.json.encode(content).decode(), ""


def _part_text(part: Any) -> tuple[str, str]:
    if isinstance(part, str):
        return part, ""
    if not isinstance(part, dict):
        return "", ""
    thinking = part.get("thinking")
    if thinking is not None:
        return "", text_of(thinking)[0]
    text = part.get("text")
    if not isinstance(text, str):
        return "", ""
    return ("", text) if part.get("type") in ("thinking", "reasoning") else (text, "")


def reasoning_of(plain: Any, other: Any, details: Any) -> str:
    """Reasoning text under any of its names: `reasoning_content`, `reasoning`, `reasoning_details`."""
    for value in (plain, other):
        if isinstance(value, str) and value:
            return value
    if not isinstance(details, list):
        return ""
    found = []
    for detail in details:
        if isinstance(detail, dict):
            text = detail.get("text") or detail.get("summary")
            if isinstance(text, str):
                found.append(text)
    return "".join(found)


def arguments_of(value: Any) -> str:
    """Tool arguments as JSON text, whichever way a server wrote them."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


# --- reading -------------------------------------------------------------------------------------------------


MAX_CHOICES: Final = 128
_MAX_PARTS: Final = 4_000_000
_LARGE: Final = 1024 * 1024

_decode_completion: Final = msgspec.json.Decoder(shapes.Completion).decode
_decode_loosely: Final = msgspec.json.Decoder(shapes.LooseCompletion).decode
_decode_any: Final = msgspec.json.Decoder().decode


def read_completion(body: bytes, read_error: ReadError, excludes_reasoning: bool = False) -> Completion | Failure:
    """The answer in a 2xx body, or the failure that it is: an error, no JSON, no choices."""
    if len(body) > _LARGE and has_more_parts(body, _MAX_PARTS):
        return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail="a body of millions of values")
    try:
        given = _given(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _no_completion(body, read_error)
    if given.error or given.object == "error" or not given.choices:
        return _no_completion(body, read_error)
    if len(given.choices) > MAX_CHOICES:
        return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail=f"more than {MAX_CHOICES} choices")
    choices: list[Choice] = []
    for choice in given.choices:
        if choice.error:
            return read_error(choice.error)
        choices.append(_choice(choice, len(choices), given.citations))
    return Completion(
        id=given.id or "",
        model=given.model or "",
        created=given.created or 0,
        choices=choices,
        usage=None if given.usage is None else usage_of(given.usage, excludes_reasoning),
    )


def _given(body: bytes) -> shapes.Completion:
    try:
        return _decode_completion(body)
    except msgspec.ValidationError:
        loose = _decode_loosely(body)
    return shapes.Completion(
        id=loose.id,
        model=loose.model,
        created=whole(loose.created),
        object=loose.object,
        choices=loose.choices,
        usage=given_usage(loose.usage),
        error=loose.error,
        citations=loose.citations,
    )


def _choice(given: shapes.Choice, position: int, citations: Any) -> Choice:
    message = given.message or shapes.Message()
    content, word = message.content, given.finish_reason
    text = content if type(content) is str else ""
    finish = _finishes.get(word)
    choice = Choice(index=position if given.index is None else given.index, finish=finish, raw_finish=word or None)
    if finish is None and word:
        choice.finish, choice.failure = finish_of(word)
    if given.stop_reason or given.native_finish_reason:
        choice.stopped_by_sequence = is_stop_sequence(given.stop_reason, given.native_finish_reason)
    if not text:
        text, choice.reasoning = text_of(content)
        text = text or (given.text if isinstance(given.text, str) else "")
    choice.text = text
    if message.reasoning_content or message.reasoning or message.reasoning_details:
        choice.reasoning = choice.reasoning or reasoning_of(
            message.reasoning_content, message.reasoning, message.reasoning_details
        )
    if message.refusal:
        choice.refusal = message.refusal
    if message.tool_calls or message.function_call is not None:
        choice.tool_calls = tuple(_calls(message))
        choice.has_other_content = any(call.custom for call in message.tool_calls or ())
    if message.audio or message.annotations or message.images or citations:
        choice.has_other_content = True
    return choice


def _calls(message: shapes.Message) -> list[ToolCall]:
    calls = [
        ToolCall(call.id or "", call.function.name or "", arguments_of(call.function.arguments))
        for call in message.tool_calls or ()
        if call.function is not None
    ]
    if not calls and (legacy := message.function_call) is not None and (legacy.name or legacy.arguments):
        calls.append(ToolCall("", legacy.name or "", arguments_of(legacy.arguments)))
    return calls


def is_stop_sequence(stop_reason: Any, native: Any) -> bool:
    """Whether the server says that a stop sequence of the request ended the answer (vLLM, OpenRouter)."""
    return (isinstance(stop_reason, str) and stop_reason != "") or native == "stop_sequence"


def _no_completion(body: bytes, read_error: ReadError) -> Failure:
    try:
        value = _decode_any(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _malformed("a body that is no JSON" if body.strip() else "an empty body")
    if not isinstance(value, dict):
        return _malformed("JSON that is no chat completion")
    if value.get("error") or value.get("object") == "error":
        return read_error(value)
    if "choices" in value:
        return _malformed("an answer without choices")
    is_error = any(value.get(name) for name in ("message", "detail", "errors"))
    return read_error(value) if is_error else _malformed("JSON that is no chat completion")


def _malformed(detail: str) -> Failure:
    return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail=detail)


# --- writing -------------------------------------------------------------------------------------------------

_encode: Final = msgspec.json.encode


def write_completion(
    completion: Completion, *, extra: Mapping[str, bytes] | None = None, default_id: str = "", default_created: int = 0
) -> bytes:
    """A `chat.completion` body. The defaults stand in where the provider gave none (an id is made up of the content
    otherwise); `extra` are further top-level members as JSON text."""
    name = completion.id or default_id or f"chatcmpl-{_fingerprint(completion)}"
    pieces = [
        b'{"id":%s,"object":"chat.completion","created":%d,"model":%s,"choices":['
        % (_encode(name), completion.created or default_created, _encode(completion.model)),
        b",".join([_choice_json(choice, name) for choice in completion.choices]),
        b"]",
    ]
    if completion.usage is not None:
        pieces.append(b',"usage":' + usage_json(completion.usage))
    for key, value in (extra or {}).items():
        pieces.append(b",%s:%s" % (_encode(key), value))
    pieces.append(b"}")
    return b"".join(pieces)


def _choice_json(choice: Choice, name: str) -> bytes:
    content = _encode(choice.text) if choice.text or not (choice.tool_calls or choice.refusal) else b"null"
    message = [b'{"role":"assistant","content":', content, b',"refusal":', _encode(choice.refusal or None)]
    if choice.reasoning:
        message += [b',"reasoning_content":', _encode(choice.reasoning)]
    if choice.tool_calls:
        calls = [
            _call_json(call, call.id or made_up_call_id(name, choice.index, position))
            for position, call in enumerate(choice.tool_calls)
        ]
        message += [b',"tool_calls":[', b",".join(calls), b"]"]
    finish = _encode(choice.finish) if choice.finish is not None else b"null"
    return b'{"index":%d,"message":%s},"logprobs":null,"finish_reason":%s}' % (choice.index, b"".join(message), finish)


def _call_json(call: ToolCall, call_id: str) -> bytes:
    return b'{"id":%s,"type":"function","function":{"name":%s,"arguments":%s}}' % (
        _encode(call_id),
        _encode(call.name),
        _encode(call.arguments or "{}"),
    )


def made_up_call_id(name: str, choice: int, index: int) -> str:
    """An id for a tool call that came without one: the same for the same answer, another for another."""
    return f"call_{hashlib.blake2s(f'{name}/{choice}/{index}'.encode(), digest_size=12).hexdigest()}"


def _fingerprint(completion: Completion) -> str:
    return hashlib.blake2s(_encode(completion), digest_size=12).hexdigest()


def error_body(
    message: str,
    *,
    type: str,  # noqa: A002 - the member's own name
    code: str | None,
    param: str | None = None,
) -> bytes:
    """An error in OpenAI's envelope."""
    return _encode({"error": {"message": message, "type": type, "param": param, "code": code}})


def error_event(
    message: str,
    *,
    type: str,  # noqa: A002 - the member's own name
    code: str | None,
    param: str | None = None,
) -> bytes:
    """An error as an event of a stream that has begun. No `[DONE]` follows it."""
    return b"data: %s\n\n" % error_body(message, type=type, code=code, param=param)
