"""The faults at work: turns a scheduled step and a request into the script of bytes that does what its row says. Pure.

It knows nothing of sockets: `server.py` performs the scripts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from time import time
from types import MappingProxyType

import msgspec

from crossfade.simulator.answers import Answer, answer_to, call_of, cut
from crossfade.simulator.ask import Ask, ToolSpec, as_dict
from crossfade.simulator.dialect import Dialect, ErrorReply, Event, Wait, encode, in_seconds
from crossfade.simulator.faults import Group, Step
from crossfade.simulator.script import LAST_CHUNK, Ending, Headers, Script, chunk, head, message, paced, whole_message

HTML = b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>\n"

_ENVELOPES = ("anthropic", "bedrock", "bedrock-claude", "vertex-claude", "cohere")
"""Dialects whose envelope is an event of its own."""
_NOT_JSON = b'{"id": "chatcmpl-broken", "choices": [{"index": 0, "delta": {"cont'
_JSON: Headers = (("content-type", "application/json"),)


class Call(msgspec.Struct, frozen=True):
    """One call as a fault sees it."""

    step: Step
    dialect: Dialect
    ask: Ask
    number: int

    @property
    def headers(self) -> Headers:
        return (*self.dialect.headers(self.number), *self.given)

    @property
    def given(self) -> Headers:
        """The headers that the step itself has."""
        return tuple((self.step.headers or {}).items())


def script_for(call: Call) -> Script:
    """What `call` is answered with."""
    step, ask = call.step, call.ask
    if step.row.group is Group.STATUS:
        script = _STATUSES.get(step.kind, _status)(call)
    elif step.refuse_prefill and ask.prefill is not None:
        script = reply(call.dialect.error("prefill", ask), call.headers)
    else:
        script = _FAULTS[step.kind](call)
    if step.delay:
        script.items = itertools.chain([step.delay], script.items)
    return script


def reply(error: ErrorReply, headers: Headers = ()) -> Script:
    """An error, whole."""
    return Script([whole_message(error.status, (*_JSON, *headers, *error.headers), encode(error.body))])


# --- bodies --------------------------------------------------------------------------------------------------


def _answer(call: Call) -> Answer:
    return answer_to(call.ask, call.step)


def _whole(call: Call, answer: Answer) -> bytes:
    return encode(call.dialect.whole(call.ask, answer, call.number))


def _body_headers(call: Call) -> Headers:
    kind = call.dialect.stream_type(call.ask) if call.ask.stream else "application/json"
    return (("content-type", kind), *call.headers)


def _events(call: Call, answer: Answer) -> list[Event]:
    return call.dialect.events(call.ask, answer, call.number)


def _stream(call: Call, events: list[Event], pause: float | None = None) -> Script:
    chunks = [chunk(event.data) for event in events]
    start = head(200, _body_headers(call), "transfer-encoding: chunked")
    pieces = [start + chunks[0], *chunks[1:-1], chunks[-1] + LAST_CHUNK] if len(chunks) > 1 else []
    if not pieces:
        pieces = [b"".join([start, *chunks, LAST_CHUNK])]
    return Script(paced(pieces, call.step.pace if pause is None else pause))


def _sound(call: Call, answer: Answer) -> Script:
    if call.ask.stream:
        return _stream(call, _events(call, answer))
    return message(200, _body_headers(call), _whole(call, answer))


def _place(events: list[Event], at: str | int | float) -> int:
    """How many events are sent before the fault strikes."""
    content = [index for index, event in enumerate(events) if event.part == "content"]
    finish = [index for index, event in enumerate(events) if event.part == "finish"]
    before = content[0] if content else finish[0] if finish else len(events)
    if isinstance(at, int):
        return min(at, len(events))
    if isinstance(at, float):
        count = round(at * len(content))
        return content[min(count, len(content)) - 1] + 1 if count and content else before
    match at:
        case "head":
            return 0
        case "first":
            return content[0] + 1 if content else before
        case "middle":
            return content[(len(content) + 1) // 2 - 1] + 1 if content else before
        case "last":
            return content[-1] + 1 if content else before
        case "finish":
            return finish[-1] + 1 if finish else len(events)
        case "end":
            return len(events)
        case _:
            return before


_SHARES = {"head": 0.0, "start": 0.0, "first": 0.1, "middle": 0.5, "last": 0.9, "finish": 1.0, "end": 1.0}


def _offset(size: int, at: str | int | float) -> int:
    """How many bytes of a body that is no stream are sent before the fault strikes; never all of them."""
    share = _SHARES[at] if isinstance(at, str) else at
    wanted = share if isinstance(at, int) else int(share * size)
    return max(0, min(int(wanted), size - 1))


def _part(call: Call, ending: Ending) -> Script:
    """The answer up to `at`, and then the ending."""
    answer = _answer(call)
    if not call.ask.stream:
        body = _whole(call, answer)
        start = head(200, _body_headers(call), f"content-length: {len(body)}")
        return Script([start + body[: _offset(len(body), call.step.at)]], ending)
    events = _events(call, answer)
    chunks = [chunk(event.data) for event in events[: _place(events, call.step.at)]]
    start = head(200, _body_headers(call), "transfer-encoding: chunked")
    return Script(paced([start, *chunks], call.step.pace), ending)


# --- error statuses ------------------------------------------------------------------------------------------


def _status(call: Call) -> Script:
    step = call.step
    wait = Wait(step.retry_after, step.retry_form) if step.retry_after is not None else None
    error = call.dialect.error(step.kind, call.ask, step.message, wait)
    if wait is not None:
        error = msgspec.structs.replace(error, headers=(*error.headers, *_wait_headers(wait)))
    return reply(error, call.headers)


def _wait_headers(wait: Wait) -> Headers:
    """The forms of Retry-After that no dialect has to itself."""
    match wait.form:
        case "seconds":
            return (("retry-after", in_seconds(wait.seconds)),)
        case "ms":
            return (("retry-after-ms", in_seconds(wait.seconds * 1000)),)
        case "date":
            # Whole seconds, rounded up: a date must not promise an earlier return.
            return (("retry-after", formatdate(int(time() + wait.seconds) + 1, usegmt=True)),)
        case _:
            return ()


def _any_status(call: Call) -> Script:
    status = call.step.status
    error = call.dialect.error("422" if 400 <= status < 500 else "500", call.ask, call.step.message)
    inner = as_dict(error.body.get("error"))
    if isinstance(inner.get("code"), int):  # Gemini says the status in the body, too
        inner["code"] = status
    return reply(msgspec.structs.replace(error, status=status), call.headers)


def _blocked(call: Call) -> Script:
    blocked = call.dialect.blocked(call.ask, call.number)
    if isinstance(blocked, Answer):
        return _sound(call, blocked)
    if blocked.status != 200 or not call.ask.stream:
        return reply(blocked, call.headers)
    data = encode(blocked.body)
    return _stream(call, [Event(call.dialect.event(call.ask, data) if call.ask.is_sse else b"[%b]" % data, "finish")])


def _redirect(call: Call) -> Script:
    return message(307, (("location", "http://192.0.2.1/elsewhere"), *call.headers), b"")


def _html_500(call: Call) -> Script:
    return message(500, (("content-type", "text/html; charset=utf-8"), *call.given), HTML)


_STATUSES: Mapping[str, Callable[[Call], Script]] = MappingProxyType(
    {"status": _any_status, "content_filter": _blocked, "redirect": _redirect, "html_500": _html_500}
)


# --- connections ---------------------------------------------------------------------------------------------


def _slow_head(call: Call) -> Script:
    script = _sound(call, _answer(call))
    first, *rest = [item for item in script.items if isinstance(item, bytes)]
    size = first.index(b"\r\n\r\n") + 4
    return Script(_dripped(first[:size], call.step.seconds, first[size:], paced(rest, call.step.pace)))


def _dripped(slow: bytes, pause: float, *rest: bytes | Iterator[bytes | float]) -> Iterator[bytes | float]:
    for byte in slow:
        yield bytes([byte])
        yield pause
    for part in rest:
        if isinstance(part, bytes):
            yield part
        else:
            yield from part


def _big_head(call: Call) -> Script:
    headers = tuple((f"x-padding-{number}", "x" * 1000) for number in range(1024))
    return message(200, (*_JSON, *headers), _whole(call, _answer(call)))


def _half_head(call: Call) -> Script:
    return Script([head(200, _body_headers(call), "content-length: 100")[:40]], Ending.CLOSE)


def _sound_body(call: Call) -> bytes:
    answer = _answer(call)
    if call.ask.stream:
        return b"".join(event.data for event in _events(call, answer))
    return _whole(call, answer)


def _bad_chunk(call: Call) -> Script:
    body = _sound_body(call)
    start = head(200, _body_headers(call), "transfer-encoding: chunked")
    half = len(body) // 2
    return Script([start + chunk(body[:half]) + b"zz\r\n" + body[half:] + b"\r\n" + LAST_CHUNK], Ending.CLOSE)


def _bad_gzip(call: Call) -> Script:
    return message(200, (*_body_headers(call), ("content-encoding", "gzip")), _sound_body(call))


def _short_body(call: Call) -> Script:
    body = _sound_body(call)
    return Script([head(200, _body_headers(call), f"content-length: {len(body) + 64}") + body], Ending.CLOSE)


def _early_eof(call: Call) -> Script:
    body = _sound_body(call)
    start = head(200, _body_headers(call), "transfer-encoding: chunked")
    return Script([start + chunk(body)[: len(body) // 2]], Ending.CLOSE)


def _interim(call: Call) -> Script:
    script = _sound(call, _answer(call))
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n"
    return Script(itertools.chain([hints], script.items))


def _hang_up(call: Call) -> Script:
    return Script(_sound(call, _answer(call)).items, Ending.CLOSE)


# --- answers -------------------------------------------------------------------------------------------------


def _changed(**fields: object) -> Callable[[Call], Script]:
    """A sound answer with some of its fields changed."""
    return lambda call: _sound(call, msgspec.structs.replace(_answer(call), **fields))


def _instead(make: Callable[[Call], Answer]) -> Callable[[Call], Script]:
    return lambda call: _sound(call, make(call))


def _half(call: Call, finish: str) -> Answer:
    words = _answer(call).text or "This text is cut."
    text = words[: max(1, len(words) // 2)]
    return Answer(
        text=text, pieces=cut(text, call.step.pieces), finish="length" if finish == "length" else "content_filter"
    )


def _said(text: str) -> Answer:
    return Answer(text=text, pieces=cut(text))


def _tool_call(call: Call, name: str | None, arguments: str | None) -> Answer:
    made = call_of(call.ask.tools[0] if call.ask.tools else ToolSpec("lookup", {}))
    fields = {"name": name or made.name, "arguments": arguments or made.arguments}
    return Answer(calls=(msgspec.structs.replace(made, **fields),), finish="tool_calls")


def _no_choices(call: Call) -> Script:
    data = encode(call.dialect.no_choices(call.ask, call.number))
    if not call.ask.stream:
        return message(200, _body_headers(call), data)
    opening = _events(call, Answer())
    if call.dialect.name == "responses":  # there an empty list is all that is left out
        return _stream(call, opening)
    if call.dialect.name in _ENVELOPES:
        kept = [event for event in opening if event.part in ("opening", "marker")]
    else:
        event = call.dialect.event(call.ask, data) if call.ask.is_sse else b"[%b]" % data
        kept = [Event(event, "opening"), *(event for event in opening if event.part == "marker")]
    return _stream(call, kept)


def _malformed(call: Call) -> Script:
    if not call.ask.stream:
        return message(200, _body_headers(call), b"upstream says hello, and this is not JSON\n")
    events = _events(call, _answer(call))
    broken = Event(call.dialect.event(call.ask, _NOT_JSON), "content")
    return _stream(call, [event if event.part == "marker" else broken for event in events])


def _truncated_json(call: Call) -> Script:
    if not call.ask.stream:
        body = _whole(call, _answer(call))
        return message(200, _body_headers(call), body[: len(body) // 2])
    events = _events(call, _answer(call))
    place = _place(events, "middle")
    torn = events[place - 1].data
    return _stream(call, [*events[: place - 1], Event(torn[: len(torn) // 2], "content")])


def _error(call: Call) -> ErrorReply:
    return call.dialect.error(call.step.error, call.ask, call.step.message)


def _error_in_200(call: Call) -> Script:
    error = _error(call)
    if not call.ask.stream:
        return message(200, _body_headers(call), encode(error.body))
    data = call.dialect.error_event(call.ask, error) if call.ask.is_sse else b"[%b]" % encode(error.body)
    return _stream(call, [Event(data, "content")])


# --- streams -------------------------------------------------------------------------------------------------


def _cut_clean(call: Call) -> Script:
    if not call.ask.stream:
        body = _whole(call, _answer(call))
        return message(200, _body_headers(call), body[: _offset(len(body), call.step.at)])
    events = _events(call, _answer(call))
    return _stream(call, events[: _place(events, call.step.at)])


def _error_event(call: Call) -> Script:
    if not call.ask.stream:
        return _error_in_200(call)
    events = _events(call, _answer(call))
    place = _place(events, call.step.at)
    error = _error(call)
    data = call.dialect.error_event(call.ask, error)
    if not place and not call.ask.is_sse:
        data = b"[%b]" % encode(error.body)
    return _stream(call, [*events[:place], Event(data, "content")])


def _comments_only(call: Call) -> Script:
    """Streams get the dialect's keep-alives; buffered bodies the blank lines with which some providers wait."""
    start = head(200, _body_headers(call), "transfer-encoding: chunked")
    comment = chunk(call.dialect.comment(call.ask) if call.ask.stream else b"\n")
    beats: tuple[bytes | float, ...] = (comment, call.step.seconds)
    return Script(itertools.chain([start], itertools.cycle(beats)), Ending.HANG)


def _drip(call: Call) -> Script:
    answer = _answer(call)
    if call.ask.stream:
        return _stream(call, _events(call, answer), call.step.seconds)
    body = _whole(call, answer)
    size = max(1, -(-len(body) // 16))
    pieces = [head(200, _body_headers(call), f"content-length: {len(body)}")]
    pieces += [body[i : i + size] for i in range(0, len(body), size)]
    return Script(paced(pieces, call.step.seconds))


def _empty_first(call: Call) -> Script:
    answer = _answer(call)
    return _sound(call, msgspec.structs.replace(answer, pieces=("", *answer.pieces)))


def _edited(edit: Callable[[Call, list[Event]], list[Event]]) -> Callable[[Call], Script]:
    """A sound answer whose events were changed; a buffered one has no events to change."""

    def script(call: Call) -> Script:
        answer = _answer(call)
        return _stream(call, edit(call, _events(call, answer))) if call.ask.stream else _sound(call, answer)

    return script


def _without(part: str) -> Callable[[Call], Script]:
    return _edited(lambda call, events: [event for event in events if event.part != part])


def _twice(part: str) -> Callable[[Call], Script]:
    return _edited(lambda call, events: [one for event in events for one in [event] * (1 + (event.part == part))])


def _with_garbage(call: Call, events: list[Event]) -> list[Event]:
    place = max(1, _place(events, "middle"))
    return [*events[:place], Event(call.dialect.event(call.ask, _NOT_JSON), "content"), *events[place:]]


def _endless_event(call: Call) -> Script:
    start = head(200, _body_headers(call), "transfer-encoding: chunked")
    opening = chunk(b'data: {"endless": "' if call.ask.stream else b'{"endless": "')
    return Script(itertools.chain([start, opening], itertools.repeat(chunk(b"x" * 16384))), Ending.HANG)


_FAULTS: Mapping[str, Callable[[Call], Script]] = MappingProxyType(
    {
        "ok": lambda call: _sound(call, _answer(call)),
        "refuse": lambda call: Script([], Ending.RESET),
        "reset": lambda call: Script([], Ending.RESET),
        "close": lambda call: Script([], Ending.CLOSE),
        "silence": lambda call: Script([], Ending.HANG),
        "slow_head": _slow_head,
        "garbage": lambda call: Script([b"\x16\x03\x01\x02\x00 this is not HTTP\r\n\r\n"], Ending.CLOSE),
        "big_head": _big_head,
        "half_head": _half_head,
        "bad_chunk": _bad_chunk,
        "bad_gzip": _bad_gzip,
        "short_body": _short_body,
        "early_eof": _early_eof,
        "interim": _interim,
        "hang_up": _hang_up,
        "empty": _instead(lambda call: Answer()),
        "no_choices": _no_choices,
        "malformed": _malformed,
        "html": lambda call: message(200, (("content-type", "text/html; charset=utf-8"),), HTML),
        "truncated_json": _truncated_json,
        "error_in_200": _error_in_200,
        "invalid_json": _instead(lambda call: _said('Sure! Here is the JSON you asked for: {"answer": ')),
        "bad_tool_args": _instead(lambda call: _tool_call(call, None, '{"city": "Par')),
        "unknown_tool": _instead(lambda call: _tool_call(call, "no_such_tool", None)),
        "length": _instead(lambda call: _half(call, "length")),
        "filter": _instead(lambda call: _half(call, "content_filter")),
        "refusal": _instead(lambda call: Answer(refusal="I'm sorry, but I cannot help with that.")),
        "wrong_finish": _changed(raw_finish="out_of_cheese"),
        "cut": lambda call: _part(call, Ending.CLOSE),
        "cut_reset": lambda call: _part(call, Ending.RESET),
        "cut_clean": _cut_clean,
        "stall": lambda call: _part(call, Ending.HANG),
        "error_event": _error_event,
        "comments_only": _comments_only,
        "drip": _drip,
        "empty_stream": _instead(lambda call: Answer()),
        "empty_first": _empty_first,
        "no_finish": _without("finish"),
        "no_done": _without("marker"),
        "double_done": _twice("marker"),
        "finish_twice": _twice("finish"),
        "garbage_event": _edited(_with_garbage),
        "endless_event": _endless_event,
    }
)
