"""The same exchange in each API: what a caller sends and checks, and what an upstream answers.

For the cost of translation: a question and an answer of about 1 KiB, and a stream of one word an event, whatever the
API. An upstream of each is known by the path that it is asked by.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final

import msgspec

from bench.content import ANSWER, GATEWAY_KEY, HEADERS, QUESTION, answer_body, stream_events, stream_words

_UPSTREAM_MODEL: Final = "model-of-the-upstream"


class Caller(msgspec.Struct, frozen=True):
    """How an application asks by one API: where, with which body (of a route's name, and whether to stream), where
    the text of a whole answer is, what a piece of text in a stream looks like, and what its last bytes are."""

    path: str
    body: Callable[[str, bool], dict[str, object]]
    text_of: Callable[[dict[str, object]], object]
    piece: re.Pattern[bytes]
    end: bytes
    headers: dict[str, str] = msgspec.field(default_factory=lambda: HEADERS)

    def request(self, route: str, *, stream: bool = False) -> bytes:
        """The body of a request for a route of crossfade."""
        return json.dumps(self.body(route, stream), separators=(",", ":")).encode()

    def is_right(self, body: bytes) -> bool:
        """Whether a whole answer says what the upstream said."""
        return self.text_of(json.loads(body)) == WHOLE


class Upstream(msgspec.Struct, frozen=True):
    """A provider that speaks one API: the dialect and the path of the configuration, what in a request's path tells
    that it is meant, its whole answer, and the events of its stream."""

    dialect: str
    base: str
    marks: str
    answer: Callable[[], dict[str, object]]
    events: Callable[[int], list[bytes]]


WHOLE: Final = ANSWER * 3
"""The text of a whole answer."""


def _chat(route: str, stream: bool) -> dict[str, object]:
    messages = [{"role": "system", "content": QUESTION}, {"role": "user", "content": QUESTION * 2}]
    return {"messages": messages, "model": route, "temperature": 0.7, **({"stream": True} if stream else {})}


def _messages(route: str, stream: bool) -> dict[str, object]:
    messages = [{"role": "user", "content": QUESTION * 2}]
    asked = {"max_tokens": 1024, "messages": messages, "model": route, "system": QUESTION, "temperature": 0.7}
    return {**asked, **({"stream": True} if stream else {})}


def _responses(route: str, stream: bool) -> dict[str, object]:
    asked = {"input": QUESTION * 2, "instructions": QUESTION, "model": route, "temperature": 0.7, "store": False}
    return {**asked, **({"stream": True} if stream else {})}


def _at(*steps: str | int) -> Callable[[dict[str, object]], object]:
    def found(value: object) -> object:
        for step in steps:
            value = value[step]  # type: ignore[index]
        return value

    return found


_STRING: Final = rb'"((?:[^"\\]|\\.)*)"'

CALLERS: Final = {
    "chat": Caller(
        path="/v1/chat/completions",
        body=_chat,
        text_of=_at("choices", 0, "message", "content"),
        piece=re.compile(rb'"content":' + _STRING),
        end=b"data: [DONE]\n\n",
    ),
    "messages": Caller(
        path="/v1/messages",
        body=_messages,
        text_of=_at("content", 0, "text"),
        piece=re.compile(rb'"text_delta","text":' + _STRING),
        end=b'data: {"type":"message_stop"}\n\n',
        headers={
            **{name: value for name, value in HEADERS.items() if name != "Authorization"},
            "User-Agent": "Anthropic/Python 0.96.0",
            "X-Api-Key": GATEWAY_KEY,
            "anthropic-version": "2023-06-01",
        },
    ),
    "responses": Caller(
        path="/v1/responses",
        body=_responses,
        text_of=_at("output", 0, "content", 0, "text"),
        piece=re.compile(rb'"delta":' + _STRING),
        end=b"\n\n",
    ),
}


def _named(event: dict[str, object]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (str(event["type"]).encode(), _json(event))


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _message(text: str | None, output_tokens: int) -> dict[str, object]:
    return {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": _UPSTREAM_MODEL,
        "content": [] if text is None else [{"type": "text", "text": text}],
        "stop_reason": None if text is None else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 190, "output_tokens": output_tokens},
    }


def _message_events(count: int) -> list[bytes]:
    pieces = [
        _named({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}})
        for word in stream_words(count)
    ]
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    head = _named({"type": "message_start", "message": _message(None, 1)}) + _named(block)
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    end: list[dict[str, object]] = [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": count}},
        {"type": "message_stop"},
    ]
    return [head + pieces[0], *pieces[1:], b"".join(_named(event) for event in end)]


def _response(text: str | None, output_tokens: int) -> dict[str, object]:
    said: dict[str, object] = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item = {"id": "msg_68af4030", "type": "message", "status": "completed", "role": "assistant", "content": [said]}
    usage = {
        "input_tokens": 190,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 190 + output_tokens,
    }
    return {
        "id": "resp_68af4030592c81938ec0a5fbab4a3e9f05438e46b5f69a3b",
        "object": "response",
        "created_at": 1778089113,
        "status": "in_progress" if text is None else "completed",
        "error": None,
        "incomplete_details": None,
        "model": _UPSTREAM_MODEL,
        "output": [] if text is None else [item],
        "usage": None if text is None else usage,
    }


def _response_events(count: int) -> list[bytes]:
    words = stream_words(count)
    text = "".join(words)
    place = {"item_id": "msg_68af4030", "output_index": 0, "content_index": 0}
    item = {"id": "msg_68af4030", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    whole = _response(text, count)
    ended = whole["output"][0]  # type: ignore[index]
    head: list[dict[str, object]] = [
        {"type": "response.created", "response": _response(None, 0)},
        {"type": "response.in_progress", "response": _response(None, 0)},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": part},
    ]
    deltas: list[dict[str, object]] = [
        {"type": "response.output_text.delta", **place, "delta": word, "logprobs": []} for word in words
    ]
    tail: list[dict[str, object]] = [
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": {**part, "text": text}},
        {"type": "response.output_item.done", "output_index": 0, "item": ended},
        {"type": "response.completed", "response": whole},
    ]
    events = [_named({**event, "sequence_number": n}) for n, event in enumerate([*head, *deltas, *tail])]
    first = len(head) + 1
    return [b"".join(events[:first]), *events[first : -len(tail)], b"".join(events[-len(tail) :])]


def _generated(text: str, finish: str | None, output_tokens: int) -> dict[str, object]:
    candidate: dict[str, object] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    usage = {"promptTokenCount": 190, "candidatesTokenCount": output_tokens, "totalTokenCount": 190 + output_tokens}
    named = {"modelVersion": _UPSTREAM_MODEL, "responseId": "kz2laLPWM9yh1MkPxZ-5kAk"}
    return {"candidates": [candidate], "usageMetadata": usage, **named}


def _generated_events(count: int) -> list[bytes]:
    pieces = [_generated(word, None, n + 1) for n, word in enumerate(stream_words(count))]
    return [b"data: %s\r\n\r\n" % _json(event) for event in (*pieces, _generated("", "STOP", count))]


UPSTREAMS: Final = {
    "chat": Upstream(
        dialect="openai",
        base="/v1",
        marks="chat/completions",
        answer=lambda: dict(json.loads(answer_body())),
        events=lambda count: stream_events(count, with_usage=True),
    ),
    "messages": Upstream(
        dialect="anthropic",
        base="",
        marks="/messages",
        answer=lambda: _message(WHOLE, 110),
        events=_message_events,
    ),
    "responses": Upstream(
        dialect="responses",
        base="/v1",
        marks="/responses",
        answer=lambda: _response(WHOLE, 110),
        events=_response_events,
    ),
    "gemini": Upstream(
        dialect="gemini",
        base="",
        marks="enerateContent",
        answer=lambda: _generated(WHOLE, "STOP", 110),
        events=_generated_events,
    ),
}
"""The names of the APIs are those of `CALLERS`, and one more that nobody calls by: what is asked for by a caller's own
API passes as it came, everything else is translated."""
