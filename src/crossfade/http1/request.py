"""A request as its handler sees it: what was asked, the ways to answer, and the limits a client is held to.

It decides how an answer is framed (whole, chunked, or up to the end of an HTTP/1.0 connection) and in which order it
may be given. It knows nothing of sockets, of the bytes that came in, or of what a request means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from crossfade.http1.chunks import chunk
from crossfade.http1.downstream import Downstream
from crossfade.http1.head import Fields, RequestHead

Headers = Sequence[tuple[str, str]] | Fields

_NOT_OPEN: Final = "the answer is not started, or already finished"


class Handler(Protocol):
    """What serves the requests of a listener. Every method returns quickly; an exception becomes a 500 or a cut.

    For each request: `on_head`; then, unless it began an answer, `on_request` once the body is whole. Whenever a
    request ends other than by `finish`, `respond` or `abort`, `on_gone` is called, once.
    """

    __slots__ = ()

    def on_head(self, request: Request) -> None:
        """The head is checked, the body is not read. May `respond`: where body is still to come, the connection
        then ends after the answer."""
        ...

    def on_request(self, request: Request) -> None:
        """The body is whole. The answer may be given now or at any later time."""
        ...

    def on_gone(self, request: Request) -> None:
        """Nobody takes the answer any more: the client closed or half-closed, was reset, took no byte for
        `write_timeout`, or its body was refused or too slow (the connection has answered that itself)."""
        ...

    def on_pressure(self, request: Request, is_pressed: bool) -> None:
        """More than 16 KiB are unsent, or less than 4 KiB again. May come from within `write`."""
        ...

    def problem(self, status: int, message: str, path: str) -> tuple[list[tuple[str, str]], bytes]:
        """Headers and body of an error that the connection must answer itself; `path` is empty where unknown."""
        ...


class Answering(Protocol):
    """The connection, as a request sees it."""

    __slots__ = ()

    peer: tuple[str, int]
    is_http_1_0: bool

    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not yet taken."""
        ...

    def render_head(self, status: int, headers: Headers, framing: str) -> bytes:
        """The head of an answer. Raises ValueError for headers that cannot be sent."""
        ...

    def send(self, head: bytes, body: bytes = b"") -> None:
        """Writes both in one call of the kernel."""
        ...

    def post(self, data: bytes) -> None:
        """Writes at the end of this turn of the loop, with what else was posted."""
        ...

    def on_started(self) -> None:
        """A streamed answer has begun."""
        ...

    def on_answered(self) -> None:
        """The whole answer is written."""
        ...

    def fail(self, request: Request, error: Exception) -> None:
        """The answer to `request` could not be written; it is ended as an exception of its handler would end it."""
        ...

    def cut(self) -> None:
        """Ends the connection without a proper end of the answer, and so that the client can tell."""
        ...


class Request(Downstream):
    """One request in work, and the way to answer it.

    `headers` have lower-case names; repeated ones are joined with `, `. `path` and `query` are as sent. `received_at`
    is `time.perf_counter()` at the first byte of the head. `handler_state` is the handler's own until the
    request is answered, `head.note` for as long as the client sends the same head. After `is_gone`
    every way to answer does nothing; before, answering twice or out of order raises RuntimeError, and headers that
    `render_headers` refuses raise ValueError and leave the request unanswered.
    """

    __slots__ = (
        "_connection",
        "_has_chunks",
        "_held",
        "body",
        "handler_state",
        "head",
        "is_finished",
        "is_gone",
        "is_started",
        "received_at",
    )

    def __init__(self, head: RequestHead, connection: Answering, received_at: float):
        self.head = head
        self._connection = connection
        self.received_at = received_at
        self.body = b""
        self.handler_state: Any = None
        self.is_started = False
        self.is_finished = False
        self.is_gone = False
        self._held = b""  # the head of a streamed answer until its first bytes
        self._has_chunks = False

    @property
    def method(self) -> str:
        return self.head.method

    @property
    def path(self) -> str:
        return self.head.path

    @property
    def query(self) -> str:
        return self.head.query

    @property
    def headers(self) -> Mapping[str, str]:
        return self.head.headers

    @property
    def peer(self) -> tuple[str, int]:
        return self._connection.peer

    @property
    def unsent(self) -> int:
        """Bytes of answers on this connection that the kernel has not yet taken; 0 when gone."""
        return 0 if self.is_gone else self._connection.unsent

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Gives the whole answer in one write. Content-Length is set here; HEAD, 204 and 304 send no body."""
        if self.is_started:
            raise RuntimeError("the request is already answered")
        if self.is_gone:
            return
        length = "" if status == 204 else f"content-length: {len(body)}\r\n"
        head = self._connection.render_head(status, headers, length)
        self.is_started = self.is_finished = True
        if status == 204 or status == 304 or self.head.method == "HEAD":
            body = b""
        self._connection.send(head, body)
        self._end()

    def start(self, status: int, headers: Headers) -> None:
        """Begins a streamed answer. Its head leaves with the first `write` (an empty one will do) or `finish`.

        HTTP/1.0 has no chunks: there the end of the connection ends the answer, and `abort` resets it.
        """
        if self.is_started:
            raise RuntimeError("the request is already answered")
        if self.is_gone:
            return
        if status == 204 or status == 304:
            raise ValueError(f"an answer with status {status} has no body to stream")
        has_chunks = not self._connection.is_http_1_0
        framing = "transfer-encoding: chunked\r\n" if has_chunks else ""
        self._held = self._connection.render_head(status, headers, framing)
        self._has_chunks = has_chunks and self.method != "HEAD"
        self.is_started = True
        self._connection.on_started()

    def write(self, data: bytes) -> None:
        """Sends one chunk of a started answer, with the end of the loop's turn."""
        if self.is_gone:
            return
        if self.is_finished or not self.is_started:
            raise RuntimeError(_NOT_OPEN)
        framed = chunk(data) if self._has_chunks and data else self._framed(data)
        if self._held:
            framed, self._held = self._held + framed, b""
        if framed:
            self._connection.post(framed)

    def finish(self, data: bytes = b"") -> None:
        """Ends a started answer, with last data if given, in one write."""
        if self.is_gone:
            return
        if self.is_finished or not self.is_started:
            raise RuntimeError(_NOT_OPEN)
        self.is_finished = True
        framed = self._held + self._framed(data)
        if self._has_chunks:
            framed += b"0\r\n\r\n"
        self._held = b""
        if framed:
            self._connection.send(framed)
        self._end()

    def _end(self) -> None:
        self.handler_state = None  # it knows this request: a cycle would keep both until the collector comes
        self._connection.on_answered()

    def abort(self) -> None:
        """Cuts the connection, so that the client can see that the answer has no end. `on_gone` is not called."""
        if self.is_gone or self.is_finished:
            return
        self.is_gone = True
        self._connection.cut()

    def fail(self, error: Exception) -> None:
        """Ends an answer that could not be written: with a 500 if nothing of it has left, else with a cut. `error` is
        reported."""
        if self._held:
            self.is_started = False
            self._held = b""
        self._connection.fail(self, error)

    def _framed(self, data: bytes) -> bytes:
        if self._has_chunks:
            return chunk(data) if data else b""
        return b"" if self.method == "HEAD" else data

    def __repr__(self) -> str:
        step = "gone" if self.is_gone else "finished" if self.is_finished else "started" if self.is_started else "open"
        return f"<Request {self.method} {self.path} {step}>"
