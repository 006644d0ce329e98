"""Fault injection below dispatch: the real detection, retries, breakers and recovery see a failing provider.

Decides whether a call gets a fault and plays it; what follows from it is nobody's business here. Two ways: a call that
is never made (its answer is a script), and a real call whose facts are changed on their way to the sink.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from types import MappingProxyType

import msgspec

from crossfade.core.errors import BadBytes, ConnectFailed, Interrupted, TimedOut, TransportError
from crossfade.core.failure import Phase
from crossfade.transport.base import Call, ResponseHead, ResponseSink, Transport, UpstreamRequest
from crossfade.transport.scripted import Delay, Fact, Fail, ScriptedCall, Sent, answer


class FaultKind(StrEnum):
    """What goes wrong. The values are the public words of `--break provider=kind`."""

    REFUSE = "refuse"  # the connection is refused
    CONNECT_TIMEOUT = "connect_timeout"  # connecting takes longer than its limit
    SILENCE = "silence"  # accepts the request and never answers
    STATUS_500 = "500"
    STATUS_503 = "503"
    STATUS_529 = "529"
    STATUS_429 = "429"  # with retry-after
    STATUS_401 = "401"
    STATUS_400 = "400"
    EMPTY = "empty"  # a 200 without content; `body` is the dialect's
    MALFORMED = "malformed"  # a 200 that is a web page
    RESET = "reset"  # ends before a response head
    CUT = "cut"  # a real call, ended after `after` pieces
    STALL = "stall"  # a real call, silent after `after` pieces
    BAD_CHUNK = "bad_chunk"  # a real call, whose framing breaks after `after` pieces
    LATENCY = "latency"  # a real call, made `delay` seconds later


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of injection.

    `match`: a provider name, `provider/model`, or a pattern of either with `*` and `?`. `rate`: the share of matching
    calls that get the fault, 0 to 1. `expires_at`: the moment of the transport's clock from which it is off.
    """

    kind: FaultKind
    match: str = "*"
    rate: float = 1.0
    expires_at: float | None = None
    after: int = 2  # pieces of the body that carry data and still pass: cut, stall, bad_chunk
    delay: float = 1.0  # seconds: latency
    retry_after: int = 15  # seconds: 429
    body: bytes | None = None  # replaces the body of a made-up answer
    content_type: str | None = None

    def is_for(self, target: str, now: float) -> bool:
        """Whether the rule speaks of `target` (`provider/model`) at `now`."""
        if self.expires_at is not None and now >= self.expires_at:
            return False
        return fnmatchcase(target, self.match) or fnmatchcase(target.partition("/")[0], self.match)


_ERROR_TYPES = MappingProxyType(
    {
        FaultKind.STATUS_500: "server_error",
        FaultKind.STATUS_503: "service_unavailable",
        FaultKind.STATUS_529: "overloaded_error",
        FaultKind.STATUS_429: "rate_limit_error",
        FaultKind.STATUS_401: "authentication_error",
        FaultKind.STATUS_400: "invalid_request_error",
    }
)
_DATA_LINE = re.compile(rb"^data:", re.MULTILINE)
_WEB_PAGE = b"<html><head><title>Service</title></head><body>It works!</body></html>\n"


def parse_fault(text: str) -> Fault:
    """The fault that `target=kind` names, as `anthropic=cut`. Raises ValueError, which lists the kinds."""
    match, equals, word = text.rpartition("=")
    if not equals or not match.strip():
        raise ValueError(f"{text!r} is not of the form target=kind; kinds are {_kinds()}")
    try:
        kind = FaultKind(word.strip())
    except ValueError:
        raise ValueError(f"{word!r} is no kind of fault; kinds are {_kinds()}") from None
    return Fault(kind=kind, match=match.strip())


class ChaosTransport:
    """`inner` with faults. The first rule that matches and is drawn applies; without rules `send` is `inner.send`.

    `draw` gives numbers from 0 up to 1; `clock` is what `expires_at` is compared with (default: the loop's).
    """

    send: Callable[[UpstreamRequest, ResponseSink], Call]

    def __init__(
        self,
        inner: Transport,
        rules: Iterable[Fault] = (),
        *,
        loop: asyncio.AbstractEventLoop,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.inner = inner
        self._loop, self._draw, self._clock = loop, draw, clock or loop.time
        self.set_rules(rules)

    def __repr__(self) -> str:
        return f"ChaosTransport({self.inner!r}, {len(self.rules)} rules)"

    def set_rules(self, rules: Iterable[Fault]) -> None:
        """Replaces all rules; calls in work keep their fault."""
        self.rules = tuple(rules)
        self.send = self._send if self.rules else self.inner.send

    def close(self) -> None:
        """Closes `inner`."""
        self.inner.close()

    def _send(self, request: UpstreamRequest, sink: ResponseSink) -> Call:
        fault = self._fault_for(request.target)
        if fault is None:
            return self.inner.send(request, sink)
        if fault.kind is FaultKind.LATENCY:
            return _DelayedCall(self._loop, fault.delay, self.inner, request, sink)
        if fault.kind in _AFTERWARDS:
            broken = _BrokenSink(sink, fault.after, _AFTERWARDS[fault.kind])
            broken.begin(self.inner, request)
            return broken
        return ScriptedCall(request, sink, _made_up(fault, request), self._loop)

    def _fault_for(self, target: str) -> Fault | None:
        now = self._clock()
        live = tuple(rule for rule in self.rules if rule.expires_at is None or now < rule.expires_at)
        if len(live) != len(self.rules):
            self.set_rules(live)
        return next((rule for rule in live if rule.is_for(target, now) and self._draw() < rule.rate), None)


def _made_up(fault: Fault, request: UpstreamRequest) -> list[Fact]:
    kind = fault.kind
    if kind is FaultKind.REFUSE:
        return [Fail(ConnectFailed("the connection was refused (injected)"))]
    if kind is FaultKind.CONNECT_TIMEOUT:
        limit = request.endpoint.connect_timeout if request.connect_timeout is None else request.connect_timeout
        return [Delay(limit), Fail(TimedOut(f"no connection within {limit:g} s (injected)", Phase.CONNECT))]
    if kind is FaultKind.SILENCE:
        return [Sent()]
    if kind is FaultKind.RESET:
        return [Sent(), Fail(BadBytes("the connection was reset before an answer (injected)"))]
    if kind is FaultKind.EMPTY:
        return answer(fault.body or b"", content_type=fault.content_type or "application/json")
    if kind is FaultKind.MALFORMED:
        return answer(fault.body or _WEB_PAGE, content_type=fault.content_type or "text/html")
    headers = {"retry-after": str(fault.retry_after)} if kind is FaultKind.STATUS_429 else None
    body = fault.body or msgspec.json.encode({"error": {"type": _ERROR_TYPES[kind], "message": "injected fault"}})
    return answer(body, int(kind), fault.content_type or "application/json", headers)


_AFTERWARDS: Mapping[FaultKind, Callable[[], TransportError] | None] = MappingProxyType(
    {
        FaultKind.CUT: lambda: Interrupted("the connection was cut before the end of the response (injected)"),
        FaultKind.STALL: None,  # silence
        FaultKind.BAD_CHUNK: lambda: BadBytes("the answer is malformed: bad chunk (injected)"),
    }
)


class _BrokenSink:
    """Sink of a real call and call towards the real sink: passes a number of pieces on, then breaks.

    It breaks at the latest where the response would end, or a short answer would slip through whole. In an event
    stream a piece is an event with data, however many arrived at once. Real errors pass as they are.
    """

    def __init__(self, sink: ResponseSink, after: int, error: Callable[[], TransportError] | None) -> None:
        self._call: Call | None = None
        self._sink, self._left, self._error = sink, after, error
        self._is_stream = self._is_over = self._is_sound = False

    def begin(self, inner: Transport, request: UpstreamRequest) -> None:
        call = self._call = inner.send(request, self)
        if self._is_over:  # aborted from within `on_sent`
            call.abort()

    def abort(self) -> None:
        self._is_over = True
        if self._call is not None:
            self._call.abort()

    def pause(self) -> None:
        if self._call is not None:
            self._call.pause()

    def resume(self) -> None:
        if self._call is not None:
            self._call.resume()

    def on_sent(self) -> None:
        self._sink.on_sent()

    def on_head(self, head: ResponseHead) -> None:
        self._is_sound = not 200 <= head.status < 300
        self._is_stream = head.headers.get("content-type", "").startswith("text/event-stream")
        self._sink.on_head(head)
        if self._left <= 0:
            self._break()

    def on_body(self, data: bytes) -> None:
        if self._is_over:
            return
        if self._is_sound:
            self._sink.on_body(data)
            return
        passed, carried = _events_of(data, self._left) if self._is_stream else (data, 1)
        self._left -= carried
        self._sink.on_body(passed)
        if self._left <= 0:
            self._break()

    def on_end(self) -> None:
        if self._is_sound and not self._is_over:
            self._is_over = True
            self._sink.on_end()
        else:
            self._break()

    def on_failure(self, error: TransportError) -> None:
        if not self._is_over:
            self._is_over = True
            self._sink.on_failure(error)

    def _break(self) -> None:
        if self._is_over or self._is_sound:
            return
        self.abort()
        if self._error is not None:
            self._sink.on_failure(self._error())


def _events_of(data: bytes, limit: int) -> tuple[bytes, int]:
    """The beginning of `data` with at most `limit` data lines of an event stream, and how many those are. Comments
    and blank lines keep a stream alive but carry nothing."""
    starts = [found.start() for found in _DATA_LINE.finditer(data)]
    return (data, len(starts)) if len(starts) <= limit else (data[: starts[limit]], limit)


class _DelayedCall:
    """A call that begins some time after it was asked for."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        delay: float,
        inner: Transport,
        request: UpstreamRequest,
        sink: ResponseSink,
    ) -> None:
        self._call: Call | None = None
        self._is_paused = False
        self._inner, self._request, self._sink = inner, request, sink
        self._handle = loop.call_later(delay, self._begin)

    def abort(self) -> None:
        self._handle.cancel()
        if self._call is not None:
            self._call.abort()

    def pause(self) -> None:
        self._is_paused = True
        if self._call is not None:
            self._call.pause()

    def resume(self) -> None:
        self._is_paused = False
        if self._call is not None:
            self._call.resume()

    def _begin(self) -> None:
        self._call = self._inner.send(self._request, self._sink)
        if self._is_paused:
            self._call.pause()


def _kinds() -> str:
    return ", ".join(FaultKind)
