"""Answers of any provider written as objects of the Responses API: ids, usage, items, the whole response.

Reasoning of another provider becomes an item of its own, with the text as its summary and an id by which
`responses_request` takes it out again when the caller sends it back. A response repeats its request; what it says of
that is made when the request is read (`RequestFacts.echo`).
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from crossfade.core.exchange import Choice, Completion, Finish, Usage
from crossfade.wire.openai_response import made_up_call_id
from crossfade.wire.responses_request import OUR_REASONING

_encode = msgspec.json.encode

INCOMPLETE: Final = {Finish.LENGTH: b"max_output_tokens", Finish.CONTENT_FILTER: b"content_filter"}
"""Why an answer is not complete; any other end is `completed`."""
DONE: Final = b"completed"
CUT: Final = b"incomplete"
BEGUN: Final = b"in_progress"
MESSAGE_ID: Final = "msg_"
CALL_ID: Final = "fc_"

_ID: Final = "resp_"


def usage_json(usage: Usage) -> bytes:
    """The `usage` member: input with what came from a cache or went into one, output with reasoning."""
    return (
        b'{"input_tokens":%d,"input_tokens_details":{"cached_tokens":%d,"cache_write_tokens":%d},"output_tokens":%d,'
        b'"output_tokens_details":{"reasoning_tokens":%d},"total_tokens":%d}'
    ) % (
        usage.prompt,
        usage.cached,
        usage.cache_write,
        usage.completion,
        usage.reasoning,
        usage.prompt + usage.completion,
    )


def response_id(given: str) -> str:
    """The id of a response: that of the provider's answer, with the API's prefix; "" for none."""
    return given if not given or given.startswith(_ID) else _ID + given


def item_id(prefix: str, response: str, index: int) -> str:
    """The id of an item: the same for the same answer, and short enough to be sent back."""
    return prefix + hashlib.blake2s(f"{response}/{index}".encode(), digest_size=12).hexdigest()


def response_json(
    identity: tuple[str, str, int],
    status: bytes,
    output: bytes,
    usage: Usage | None,
    echo: bytes,
    *,
    reason: bytes | None = None,
    error: bytes = b"null",
) -> bytes:
    """A response object. `identity`: its id, model and time; `reason`: why it is incomplete."""
    name, model, created = identity
    return (
        b'{"id":%s,"object":"response","created_at":%d,"status":"%s","error":%s,"incomplete_details":%s,"model":%s,'
        b'"output":[%s],"usage":%s,%s}'
    ) % (
        _encode(name),
        created,
        status,
        error,
        b"null" if reason is None else b'{"reason":"%s"}' % reason,
        _encode(model),
        output,
        b"null" if usage is None else usage_json(usage),
        echo,
    )


# --- items ---------------------------------------------------------------------------------------------------


def text_part(kind: str, text: str) -> bytes:
    """A part of a message; `kind` is `output_text` or `refusal`."""
    if kind == "refusal":
        return b'{"type":"refusal","refusal":%s}' % _encode(text)
    return b'{"type":"output_text","annotations":[],"logprobs":[],"text":%s}' % _encode(text)


def summary_part(text: str) -> bytes:
    """The one part of a summary of reasoning."""
    return b'{"type":"summary_text","text":%s}' % _encode(text)


def message_item(name: str, status: bytes, parts: bytes) -> bytes:
    """A message. `name` is its id, `parts` are JSON text with commas between them."""
    return b'{"id":%s,"type":"message","status":"%s","role":"assistant","content":[%s]}' % (
        _encode(name),
        status,
        parts,
    )


def reasoning_item(name: str, summary: bytes) -> bytes:
    """Reasoning. `name` is its id, `summary` the JSON text of its parts."""
    return b'{"id":"%s","type":"reasoning","summary":[%s]}' % (name.encode(), summary)


def call_item(name: str, status: bytes, call_id: str, function: str, arguments: str) -> bytes:
    """A call of a function. `name` is the item's id, `call_id` what its result names."""
    return b'{"id":"%s","type":"function_call","status":"%s","call_id":%s,"name":%s,"arguments":%s}' % (
        name.encode(),
        status,
        _encode(call_id),
        _encode(function),
        _encode(arguments),
    )


# --- whole answers -------------------------------------------------------------------------------------------


def write_completion(completion: Completion, echo: bytes, *, default_id: str, default_created: int) -> bytes:
    """A response body, of the first choice. The defaults stand in where the provider gave none."""
    choice = completion.choices[0] if completion.choices else Choice()
    name = response_id(completion.id or default_id)
    reason = None if choice.finish is None else INCOMPLETE.get(choice.finish)
    return response_json(
        (name, completion.model, completion.created or default_created),
        DONE if reason is None else CUT,
        b",".join(_items(choice, name, DONE if reason is None else CUT)),
        completion.usage,
        echo,
        reason=reason,
    )


def _items(choice: Choice, name: str, last: bytes) -> list[bytes]:
    """The items of an answer; `last` is the state of the last one."""
    items: list[bytes] = []
    if choice.reasoning:
        items.append(reasoning_item(item_id(OUR_REASONING, name, 0), summary_part(choice.reasoning)))
    if choice.text or choice.refusal:
        parts = [text_part("output_text", choice.text)] if choice.text else []
        if choice.refusal:
            parts.append(text_part("refusal", choice.refusal))
        status = DONE if choice.tool_calls else last
        items.append(message_item(item_id(MESSAGE_ID, name, len(items)), status, b",".join(parts)))
    for index, call in enumerate(choice.tool_calls):
        status = DONE if index + 1 < len(choice.tool_calls) else last
        call_id = call.id or made_up_call_id(name, 0, index)
        made = call_item(item_id(CALL_ID, name, len(items)), status, call_id, call.name, call.arguments or "{}")
        items.append(made)
    return items
