"""A transport that plays scripts instead of calling anybody: the fake that ships with the port.

A script is the list of facts of one call, in order. With a loop they are played one per loop turn, as the network
would; without one, by hand, so that a test decides what happens when. It knows nothing of HTTP bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import msgspec

from crossfade.core.errors import ConnectFailed, TransportError
from crossfade.transport.base import ResponseHead, ResponseSink, UpstreamRequest


class Sent(msgspec.Struct, frozen=True):
    """The request went out."""


class Head(msgspec.Struct, frozen=True):
    """The response began. Names of headers are lower case."""

    status: int = 200
    headers: dict[str, str] = {}


class Body(msgspec.Struct, frozen=True):
    """A piece of the body came."""

    data: bytes


class End(msgspec.Struct, frozen=True):
    """The response is whole."""


class Fail(msgspec.Struct, frozen=True):
    """The call failed."""

    error: TransportError


class Delay(msgspec.Struct, frozen=True):
    """Nothing happens for `seconds`. Played by hand it is a step without effect."""

    seconds: float


Fact = Sent | Head | Body | End | Fail | Delay
Script = Sequence[Fact]
"""A script without `End` or `Fail` stays silent after its last fact."""


def answer(
    body: bytes = b"{}",
    status: int = 200,
    content_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> list[Fact]:
    """The script of a whole response in one piece."""
    return [Sent(), Head(status, {"content-type": content_type, **(headers or {})}), Body(body), End()]


def stream(pieces: Iterable[bytes], end: End | Fail | None = End()) -> list[Fact]:  # noqa: B008  # a frozen value
    """The script of an event stream; `end` None: it goes silent."""
    head = Head(200, {"content-type": "text/event-stream"})
    return [Sent(), head, *map(Body, pieces), *(() if end is None else (end,))]


class ScriptedCall:
    """Plays one script into one sink. `is_aborted` and `is_paused` say what the caller did."""

    def __init__(
        self, request: UpstreamRequest, sink: ResponseSink, script: Script, loop: asyncio.AbstractEventLoop | None
    ) -> None:
        self.request = request
        self.is_aborted = self.is_paused = self.is_over = False
        self._sink, self._facts, self._loop = sink, iter(script), loop
        self._handle: asyncio.Handle | None = None
        self._schedule()

    def abort(self) -> None:
        """Ends the call; the rest of the script is not played."""
        if not self.is_over:
            self.is_aborted = self.is_over = True
            self._cancel()

    def pause(self) -> None:
        """Holds the script."""
        self.is_paused = True
        self._cancel()

    def resume(self) -> None:
        """Plays on."""
        if self.is_paused:
            self.is_paused = False
            self._schedule()

    def step(self) -> bool:
        """Plays the next fact, at once; False when the script, or the call, is over."""
        if self.is_over or (fact := next(self._facts, None)) is None:
            return False
        self._handle = None
        if isinstance(fact, Delay):
            if self._loop is not None:
                self._handle = self._loop.call_later(fact.seconds, self._play)
            return True
        self._tell(fact)
        return True

    def play(self) -> None:
        """Plays the rest of the script, at once."""
        while self.step():
            pass

    def _play(self) -> None:
        self._handle = None
        if self.step() and self._handle is None:
            self._schedule()

    def _schedule(self) -> None:
        if self._loop is not None and self._handle is None and not self.is_over and not self.is_paused:
            self._handle = self._loop.call_soon(self._play)

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tell(self, fact: Sent | Head | Body | End | Fail) -> None:
        match fact:
            case Sent():
                self._sink.on_sent()
            case Head():
                self._sink.on_head(ResponseHead(fact.status, dict(fact.headers)))
            case Body():
                self._sink.on_body(fact.data)
            case End():
                self.is_over = True
                self._sink.on_end()
            case Fail():
                self.is_over = True
                self._sink.on_failure(fact.error)


class ScriptedTransport:
    """Plays the next of `scripts` for each send, or what a callable makes of the request.

    With `loop` None nothing moves until `calls[i].step()` or `.play()`. A list that has run out refuses to connect.
    `calls` holds every call made so far, with its request.
    """

    def __init__(
        self,
        scripts: Iterable[Script] | Callable[[UpstreamRequest], Script] = (),
        *,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._choose = scripts if callable(scripts) else _in_order(scripts)
        self._loop = loop
        self._is_closed = False
        self.calls: list[ScriptedCall] = []

    def __repr__(self) -> str:
        return f"ScriptedTransport({len(self.calls)} calls)"

    def send(self, request: UpstreamRequest, sink: ResponseSink) -> ScriptedCall:
        """Begins a call; its sink hears nothing before `send` has returned."""
        script: Script = [Fail(ConnectFailed("the transport is closed"))] if self._is_closed else self._choose(request)
        call = ScriptedCall(request, sink, script, self._loop)
        self.calls.append(call)
        return call

    def close(self) -> None:
        """Refuses new calls."""
        self._is_closed = True


def _in_order(scripts: Iterable[Script]) -> Callable[[UpstreamRequest], Script]:
    left = iter(scripts)
    exhausted: Script = [Fail(ConnectFailed("no script is left for this call"))]
    return lambda request: next(left, exhausted)
