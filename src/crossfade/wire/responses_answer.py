"""The Responses API, outbound: a whole answer to a canonical completion, and what streams share with it.

Decides what the words of an answer mean: states, items, counts of tokens. There is no finish reason: an answer that
calls functions is `completed` as any other. What an error means is said by the provider, through a `FailureReader`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from crossfade.core.exchange import Choice, Completion, Finish, ToolCall, Usage
from crossfade.core.failure import Failure, FailureReason
from crossfade.wire import responses_shapes as shapes
from crossfade.wire.bounds import has_more_parts, whole

FailureReader = Callable[[bytes], Failure]
"""What an error inside a 200 means, by its JSON: given by the provider, which knows the classes."""

BETWEEN_PARTS: Final = "\n\n"
"""What stands between the parts of a summary of reasoning, which come as one text elsewhere."""

_MAX_PARTS: Final = 4_000_000
_LARGE: Final = 1024 * 1024

_decode: Final = msgspec.json.Decoder(shapes.Response).decode
_decode_item: Final = msgspec.json.Decoder(shapes.Item).decode
_decode_loosely: Final = msgspec.json.Decoder(shapes.LooseItem).decode
_encode: Final = msgspec.json.encode


def read_completion(body: bytes, read_failure: FailureReader) -> Completion | Failure:
    """A 2xx body; a Failure for an error in it, and for what is no answer."""
    if len(body) > _LARGE and has_more_parts(body, _MAX_PARTS):
        return _malformed("a body of millions of values")
    try:
        given = _decode(body)
        if is_given(given.error):
            return read_failure(body)
        failure = failure_of_status(given)
        if failure is not None:
            return failure
        if given.output is None:
            return _malformed("no output in the body")
        choice = _choice([read_item(item) for item in given.output], given)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _no_answer(body, read_failure)
    return Completion(
        id=given.id or "",
        model=given.model or "",
        created=whole(given.created_at),
        choices=[choice],
        usage=None if given.usage is None else usage_of(given.usage),
    )


def is_given(value: msgspec.Raw) -> bool:
    return bytes(value) not in (b"", b"null")


def failure_of_status(given: shapes.Response) -> Failure | None:
    """Why an answer without an error in it is none: it failed, was cancelled, or is not there yet."""
    if given.status in (None, "completed", "incomplete"):
        return None
    reason = FailureReason.SERVER_ERROR if given.status in ("failed", "cancelled") else FailureReason.MALFORMED_OUTPUT
    return Failure(reason=reason, detail="a response that is not complete, by its status")


def finish_of(given: shapes.Response, *, has_calls: bool) -> tuple[Finish, str]:
    """The canonical word and the API's own. What is incomplete for any other reason was cut as well."""
    if given.status != "incomplete":
        return (Finish.TOOL_CALLS if has_calls else Finish.STOP), "completed"
    reason = (given.incomplete_details.reason if given.incomplete_details is not None else None) or "incomplete"
    return (Finish.CONTENT_FILTER if reason == "content_filter" else Finish.LENGTH), reason


def usage_of(given: shapes.Usage) -> Usage:
    inputs, outputs = given.input_tokens_details, given.output_tokens_details
    return Usage(
        prompt=whole(given.input_tokens),
        completion=whole(given.output_tokens),
        cached=0 if inputs is None else whole(inputs.cached_tokens),
        cache_write=0 if inputs is None else whole(inputs.cache_write_tokens),
        reasoning=0 if outputs is None else whole(outputs.reasoning_tokens),
    )


def read_item(item: msgspec.Raw) -> shapes.Item:
    """One item. Of types that are not read, members may be of any kind. Raises msgspec.DecodeError."""
    try:
        return _decode_item(item)
    except msgspec.ValidationError:
        loose = _decode_loosely(item)
        if loose.type in ("message", "function_call", "reasoning"):
            raise
        return shapes.Item(type=loose.type, id=loose.id)


def words_of(item: shapes.Item) -> tuple[str, str]:
    """Text and refusal of a message."""
    parts = item.content or ()
    return "".join([part.text or "" for part in parts]), "".join([part.refusal or "" for part in parts])


def reasoning_of(item: shapes.Item) -> str:
    """The summary, or where there is none the reasoning itself, which open models show."""
    summary = _joined(item.summary or ())
    return summary or "".join([part.text or "" for part in item.content or ()])


def _joined(parts: Sequence[shapes.Part]) -> str:
    return BETWEEN_PARTS.join([part.text or "" for part in parts])


def _choice(items: Iterable[shapes.Item], given: shapes.Response) -> Choice:
    choice = Choice()
    calls: list[ToolCall] = []
    thoughts: list[str] = []
    for item in items:
        match item.type:
            case "message":
                text, refusal = words_of(item)
                choice.text += text
                choice.refusal += refusal
                if any(part.annotations for part in item.content or ()):
                    choice.has_other_content = True
            case "function_call":
                calls.append(ToolCall(item.call_id or item.id or "", item.name or "", item.arguments or ""))
            case "reasoning":
                thoughts.append(reasoning_of(item))
            case _:
                choice.has_other_content = True
    choice.reasoning = "".join(thoughts)
    choice.tool_calls = tuple(calls)
    choice.finish, choice.raw_finish = finish_of(given, has_calls=bool(calls))
    return choice


def _no_answer(body: bytes, read_failure: FailureReader) -> Failure:
    """A body that cannot be decoded as an answer may still be an error of another shape."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _malformed("a body that is no JSON" if body.strip() else "an empty body")
    if isinstance(value, dict) and value.get("error"):
        return read_failure(_encode(value))
    return _malformed("JSON that is no response")


def _malformed(detail: str) -> Failure:
    return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail=detail)
