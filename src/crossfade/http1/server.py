"""One downstream connection: turns bytes into checked requests, one at a time, and writes their answers.

What a head may look like is decided in `head.py`; here it is decided when a request is handed over, what happens to
bytes that come too early, when a silent peer has waited long enough, and how a connection ends. The states:

    IDLE --byte--> HEAD --head whole--> BODY --body whole--> WORK --answered--> IDLE, or LINGER
    HEAD, BODY --refused, timed out or answered early--> LINGER
    LINGER (answer written, EOF written, input thrown away) --EOF, 1 MiB or 2 s--> CLOSING
    any --client went away--> CLOSING

Rules that hold throughout: reading is never paused, for a paused socket hides the client's leaving; one request is in
work, later bytes are kept (bounded) and served after its answer; a half-closed client is gone; there is no task and no
timer per request, the listener's ticker compares `due` with the clock. This file knows nothing of routes, keys or JSON.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from http import HTTPStatus
from time import perf_counter
from typing import Any, Final, Protocol, cast

from crossfade.http1.chunks import ChunkedBody
from crossfade.http1.head import (
    CHUNKED,
    BadMessage,
    Fields,
    HeadMemory,
    RequestHead,
    check_partial_request,
    find_head_end,
    path_of,
    rendered_fields,
)
from crossfade.http1.limits import Limits
from crossfade.http1.outbox import Outbox, Sender
from crossfade.http1.request import Answering, Handler, Request

__all__ = ["Handler", "Limits", "Request", "ServerConnection"]

PIPELINE_BYTES: Final = 64 * 1024
"""Bytes of later requests kept while one is in work; more are dropped, and the connection ends after the answer."""

LINGER_BYTES: Final = 1024 * 1024
"""Bytes thrown away, after an answer that ends the connection, so that a reset does not overtake the answer."""

LINGER_TIME: Final = 2.0
"""Seconds a connection stays open for the same reason."""

HIGH_WATER: Final = 16 * 1024
LOW_WATER: Final = 4 * 1024

_COPY_BYTES: Final = 64 * 1024  # longer bodies are handed to the kernel beside their head instead of copied behind it
_CLOSE: Final = "connection: close\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

_IDLE, _HEAD, _BODY, _WORK, _LINGER, _CLOSING = range(6)

_STATUS_LINES: Final = {
    int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n" for status in HTTPStatus if status >= HTTPStatus.OK
}


def _status_line(status: int) -> str:
    if not 200 <= status <= 599:
        raise ValueError(f"{status} is not the status of an answer")
    return f"HTTP/1.1 {status} \r\n"


class Connections(Protocol):
    """What a connection needs of its listener."""

    limits: Limits
    handler: Handler
    is_draining: bool
    outbox: Outbox
    receiving: int
    """Bytes of bodies that are not yet whole."""

    def add(self, connection: ServerConnection) -> bool:
        """Counts the connection in; False if there are too many."""
        ...

    def remove(self, connection: ServerConnection) -> None: ...


class ServerConnection(Answering, Sender):
    """One accepted connection: an `asyncio.Protocol` in all but its base, which would slow a compiled class down.

    `due` is when the ticker is to call `on_due`, on the clock of `time.perf_counter`.
    """

    __slots__ = (
        "_body",
        "_body_began",
        "_buffer",
        "_chunks",
        "_dropped",
        "_handler",
        "_head_began",
        "_heads",
        "_is_kept_alive",
        "_is_line_skipped",
        "_is_pressed",
        "_length",
        "_limits",
        "_loop",
        "_owner",
        "_posted",
        "_request",
        "_searched",
        "_stalled_since",
        "_state",
        "_taken",
        "_transport",
        "_written",
        "due",
        "is_http_1_0",
        "peer",
    )

    _transport: asyncio.Transport

    def __init__(self, owner: Connections, loop: asyncio.AbstractEventLoop):
        self._owner, self._loop = owner, loop
        self._handler, self._limits = owner.handler, owner.limits
        self._state = _IDLE
        self._request: Request | None = None
        self._buffer = b""  # bytes not yet used: part of a head, or later requests
        self._searched = 0  # of `_buffer`, for the end of the head
        self._is_line_skipped = False
        self._head_began = 0.0
        self._heads = HeadMemory()
        self._length = 0
        self._body = bytearray()
        self._body_began = 0.0
        self._chunks: ChunkedBody | None = None
        self._dropped = 0
        self._is_kept_alive = True
        self._is_pressed = False
        self._posted: list[bytes] = []  # pieces of an answer that leave at the end of this turn
        self._written = 0
        self._taken = -1
        self._stalled_since = 0.0
        self.is_http_1_0 = False
        self.due = perf_counter() + self._limits.head_timeout
        self.peer: tuple[str, int] = ("", 0)

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.peer = (peer[0], peer[1])
            # uvloop sets it by itself, asyncio's own loop too; a third would not have to.
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        if not self._owner.add(self):
            self._is_kept_alive = False
            self._answer_problem(503, "no more connections are accepted", "", False)
            self._close()

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state == _IDLE:
            self._on_first_bytes(self._buffer + data if self._buffer else data)
        elif state == _HEAD:
            self._buffer += data
            self._on_head_bytes()
        elif state == _BODY:
            self._on_body_bytes(data)
        elif state == _WORK:
            self._keep_for_later(data)
        elif state == _LINGER:
            self._dropped += len(data)
            if self._dropped > LINGER_BYTES:
                self._close()

    def eof_received(self) -> bool:
        """A half-closed client is gone: it could not be told from one that left."""
        if self._request is not None:
            self._lose_request()
        else:
            self._close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._state = _CLOSING
        self._owner.remove(self)
        self._tell_gone()
        self._drop_body()
        self._buffer = b""
        self._posted.clear()

    def pause_writing(self) -> None:
        self._is_pressed = True
        if self._request is not None and not self._request.is_finished:
            self._call(self._handler.on_pressure, self._request, True)

    def resume_writing(self) -> None:
        self._is_pressed = False
        if self._request is not None:
            self._call(self._handler.on_pressure, self._request, False)
        elif self._state == _WORK:
            self._await_next()

    # What the listener tells.

    def on_due(self, now: float) -> None:
        """`due` has passed: ends whatever has lasted too long, or sets a new `due`."""
        state = self._state
        if state == _HEAD:
            self._refuse(BadMessage(408, "the request head took too long"))
        elif state == _BODY:
            self._refuse(BadMessage(408, "the request body took too long"))
        elif state == _CLOSING:
            self._kill()
        elif state == _IDLE:
            self._close()
        elif self._has_stalled(now):
            self._lose_request()
        elif state == _LINGER and not self.unsent:
            self._close()

    def drain(self) -> None:
        """Closes the connection if it is idle; otherwise its next answer is its last."""
        if self._state == _IDLE and not self._buffer:
            self._close()

    def abort(self) -> None:
        """Ends the connection at once; a request in work is told that it is gone."""
        self._lose_request()

    # What the request in work tells.

    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not yet taken."""
        unsent = self._transport.get_write_buffer_size()
        return unsent + sum(map(len, self._posted)) if self._posted else unsent

    def render_head(self, status: int, headers: Sequence[tuple[str, str]] | Fields, framing: str) -> bytes:
        """The head of an answer. Raises ValueError for what cannot be sent (see `rendered_fields`)."""
        line = _STATUS_LINES.get(status) or _status_line(status)
        if not isinstance(headers, Fields):
            headers = rendered_fields(headers)
        if self._is_kept_alive and self._state == _WORK and not self._owner.is_draining:
            return f"{line}{headers.text}{framing}\r\n".encode("latin-1")
        self._is_kept_alive = False
        return f"{line}{headers.text}{framing}{_CLOSE}\r\n".encode("latin-1")

    def send(self, head: bytes, body: bytes = b"") -> None:
        """Writes, in one call of the kernel, behind what was posted."""
        if self._posted:
            self._posted.append(head)
            head = b"".join(self._posted)
            self._posted.clear()
        self._written += len(head) + len(body)
        if len(body) > _COPY_BYTES:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head + body)

    def post(self, data: bytes) -> None:
        """Has `data` sent at the end of this turn of the loop."""
        if not self._posted:
            self._owner.outbox.add(self)
        self._posted.append(data)

    def flush(self) -> None:
        """Sends what was posted."""
        posted = self._posted
        if posted:
            self._posted = []
            data = posted[0] if len(posted) == 1 else b"".join(posted)
            self._written += len(data)
            self._transport.write(data)

    def on_started(self) -> None:
        """A streamed answer has begun; what is still to come of the body is of no use any more."""
        if self._state == _BODY:
            self._begin_work(b"")

    def on_answered(self) -> None:
        """The answer is written: goes on to the next request, or ends the connection."""
        self._request = None
        if not self._is_kept_alive or self._owner.is_draining:
            self._linger()
        elif not self._is_pressed:
            self._await_next()
        # else: the client reads slowly; the next request waits in `resume_writing` until the answer is off

    def fail(self, request: Request, error: Exception) -> None:
        """The answer to `request` could not be written."""
        if self._request is request:
            self._on_fault(error)
        else:
            self._report(error)

    def cut(self) -> None:
        """Ends the connection without a proper end of the answer, and so that the client can tell."""
        self._request = None
        if not self._transport.is_closing():
            self.flush()
        self._kill()

    # From bytes to a request in work.

    def _on_first_bytes(self, buffer: bytes) -> None:
        """A request begins, most often with the head of the one before it and its whole body."""
        self._head_began = now = perf_counter()
        found = self._heads.match(buffer)
        if found is not None:
            self._on_head(found[0], found[1], buffer)
            return
        self._state = _HEAD
        self._buffer = buffer
        self._searched = 0
        self._is_line_skipped = False
        self.due = now + self._limits.head_timeout
        self._on_head_bytes()

    def _on_head_bytes(self) -> None:
        if self._buffer[0] == 13 and not self._skip_blank_line():
            return
        buffer, limits = self._buffer, self._limits
        try:
            end = find_head_end(buffer, self._searched, limits.head_bytes)
            if end < 0:
                check_partial_request(buffer)
                self._searched = len(buffer)
                return
            head = self._heads.read(buffer[:end], limits.header_count)
        except BadMessage as bad:
            self._refuse(bad)
            return
        self._on_head(head, end, buffer)

    def _on_head(self, head: RequestHead, end: int, buffer: bytes) -> None:
        """`buffer` begins with a checked head, which ends at `end`."""
        length = head.length
        self.is_http_1_0 = head.is_http_1_0
        self._is_kept_alive = head.is_kept_alive
        if length > self._limits.body_bytes:
            self._buffer = buffer
            self._refuse(BadMessage(413, f"the request body is longer than {self._limits.body_bytes} bytes"))
            return
        self._request = request = Request(head, self, self._head_began)
        body_end = end + length
        if length == CHUNKED or body_end > len(buffer):
            if self._owner.receiving + max(0, length) > self._limits.bodies_bytes:
                self._refuse(BadMessage(503, "the gateway receives as much as it may; try again in a moment"))
                return
            self._begin_body(head, request, buffer[end:])
            return
        self._begin_work(buffer[body_end:])
        try:
            self._handler.on_head(request)
            if self._waits_for_answer(request):
                request.body = buffer[end:body_end]
                self._handler.on_request(request)
        except Exception as error:  # a fault of the handler must not reach the other connections
            self._on_fault(error)

    def _waits_for_answer(self, request: Request) -> bool:
        return self._request is request and not request.is_started

    def _skip_blank_line(self) -> bool:
        """Drops the one blank line that RFC 9112 section 2.2 allows before a request; False if more must come first."""
        if self._is_line_skipped:
            return True  # a second one is refused with the request line
        if self._buffer == b"\r":
            return False
        if self._buffer.startswith(b"\r\n"):
            self._is_line_skipped = True
            self._buffer = self._buffer[2:]
        return bool(self._buffer)

    def _begin_body(self, head: RequestHead, request: Request, data: bytes) -> None:
        self._state = _BODY
        self._buffer = b""
        self._length = head.length
        self._chunks = ChunkedBody() if head.length == CHUNKED else None
        self._body_began = perf_counter()
        self._call(self._handler.on_head, request)
        if self._state != _BODY:
            return
        if head.expects_continue and not data:
            self.send(_CONTINUE)
        self._on_body_bytes(data)

    def _on_body_bytes(self, data: bytes) -> None:
        before = len(self._body)
        if self._chunks is None:
            missing = self._length - before
            self._body += data if len(data) <= missing else data[:missing]
            is_whole, rest = len(data) >= missing, data[missing:]
        else:
            try:
                self._body += self._chunks.feed(data)
                if len(self._body) > self._limits.body_bytes:
                    raise BadMessage(413, f"the request body is longer than {self._limits.body_bytes} bytes")
                if self._owner.receiving + len(self._body) - before > self._limits.bodies_bytes:
                    raise BadMessage(503, "the gateway receives as much as it may; try again in a moment")
            except BadMessage as bad:
                self._owner.receiving += len(self._body) - before
                self._refuse(bad)
                return
            is_whole, rest = self._chunks.is_complete, self._chunks.rest
        self._owner.receiving += len(self._body) - before
        if not is_whole:
            self._await_body()
            return
        body = bytes(self._body)
        self._begin_work(rest)
        request = self._request
        if request is not None:  # what came behind the body may have been the end of it
            request.body = body
            self._call(self._handler.on_request, request)

    def _drop_body(self) -> None:
        if self._body:
            self._owner.receiving -= len(self._body)
            self._body = bytearray()

    def _await_body(self) -> None:
        limits = self._limits
        earned = self._body_began + limits.body_timeout + len(self._body) / limits.body_rate
        self.due = min(perf_counter() + limits.body_timeout, earned)

    def _begin_work(self, rest: bytes) -> None:
        self._state = _WORK
        self._buffer = b""
        self._chunks = None
        self._drop_body()
        self._dropped = 0
        self.due = self._head_began + self._limits.write_timeout / 4
        if rest:
            self._keep_for_later(rest)

    def _keep_for_later(self, data: bytes) -> None:
        """Bytes behind the request in work. Too many are dropped unserved, and the connection ends after the answer."""
        if not self._dropped and len(self._buffer) + len(data) <= PIPELINE_BYTES:
            self._buffer += data
            return
        self._dropped += len(self._buffer) + len(data)
        self._buffer = b""
        self._is_kept_alive = False
        if self._dropped > LINGER_BYTES:
            self._lose_request()

    def _await_next(self) -> None:
        self._state = _IDLE
        self.due = perf_counter() + self._limits.idle_timeout
        if self._buffer:
            # Not from within the answer before it: handlers need not be re-entrant, and other connections have a turn.
            self._loop.call_soon(self._serve_kept)

    def _serve_kept(self) -> None:
        if self._state == _IDLE and self._buffer:
            self._on_first_bytes(self._buffer)

    # How it ends.

    def _refuse(self, bad: BadMessage) -> None:
        """Answers for itself, and ends the connection."""
        request = self._request
        path = request.path if request is not None else path_of(self._buffer)
        is_head = request.method == "HEAD" if request is not None else self._buffer.startswith(b"HEAD ")
        self._is_kept_alive = False
        self._tell_gone()
        if request is not None and request.is_started:
            self.cut()
            return
        self._answer_problem(bad.status, bad.message, path, is_head)
        self._linger()

    def _answer_problem(self, status: int, message: str, path: str, is_head: bool) -> None:
        try:
            headers, body = self._handler.problem(status, message, path)
            head = self.render_head(status, headers, f"content-length: {len(body)}\r\n")
        except Exception as error:  # the client is owed an answer even if the handler cannot word it
            self._report(error)
            head, body = self.render_head(status, [], "content-length: 0\r\n"), b""
        self.send(head, b"" if is_head else body)

    def _linger(self) -> None:
        """Writes EOF and throws input away for a while: closing over unread input resets the answer."""
        if self._transport.is_closing():
            self._state = _CLOSING
            return
        self._state = _LINGER
        self._dropped = 0
        self._buffer = b""
        self._drop_body()
        self.due = perf_counter() + LINGER_TIME
        self.flush()
        self._transport.write_eof()

    def _close(self) -> None:
        """Closes once all that is written has left; `on_due` gives up on that after `write_timeout`."""
        self._state = _CLOSING
        self.due = perf_counter() + self._limits.write_timeout
        self.flush()
        self._transport.close()

    def _lose_request(self) -> None:
        """The client is gone, or as good as gone."""
        self._state = _CLOSING
        self._tell_gone()
        self._kill()

    def _kill(self) -> None:
        """Ends the connection at once; what is unsent is lost."""
        self._state = _CLOSING
        self._posted.clear()
        if self.is_http_1_0 and self.peer[1]:
            # Here the end of the connection is the end of the answer; only a reset says that it was no end.
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    def _tell_gone(self) -> None:
        request, self._request = self._request, None
        if request is not None and not request.is_gone:
            request.is_gone = True
            self._call(self._handler.on_gone, request)

    def _has_stalled(self, now: float) -> bool:
        """Whether unsent bytes lie here of which the client took none for `write_timeout`; looks a few times in it."""
        unsent = self.unsent
        taken = self._written - unsent
        self.due = now + min(self._limits.write_timeout / 4, LINGER_TIME)
        if not unsent:
            self._stalled_since = 0.0
        elif not self._stalled_since or taken != self._taken:
            self._stalled_since = now
        self._taken = taken
        return bool(unsent) and now - self._stalled_since >= self._limits.write_timeout

    def _call(self, method: Any, *arguments: Any) -> None:
        """Calls the handler. What it raises is reported, and answered 500 if nothing was answered yet."""
        try:
            method(*arguments)
        except Exception as error:  # a fault of the handler must not reach the other connections
            self._on_fault(error)

    def _on_fault(self, error: Exception) -> None:
        self._report(error)
        if self._request is not None:
            self._refuse(BadMessage(500, "the request could not be served"))

    def _report(self, error: Exception) -> None:
        self._loop.call_exception_handler({"message": "a request handler failed", "exception": error})

    def __repr__(self) -> str:
        state = ("idle", "head", "body", "work", "linger", "closing")[self._state]
        return f"<ServerConnection {self.peer[0]}:{self.peer[1]} {state}, {len(self._buffer)} bytes kept>"
