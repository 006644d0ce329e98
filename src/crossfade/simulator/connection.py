"""One accepted connection: reads requests with llhttp and lets whoever answers write any bytes at all.

Deliberately not the gateway's own server: a provider that fails must be able to break every rule which that one keeps,
and two readings of HTTP/1.1 find more than one. It knows nothing of paths, faults or JSON.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import Final, Protocol, cast

import httptools
import msgspec

HEAD_BYTES: Final = 64 * 1024
BODY_BYTES: Final = 64 * 1024 * 1024
REQUEST_TIME: Final = 60.0
"""Seconds within which a request, or the next one, must have come."""

_PIPELINED: Final = 16
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Received(msgspec.Struct):
    """A whole request; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    is_kept_alive: bool


class Owner(Protocol):
    """What a connection needs of the simulator."""

    def add(self, connection: Connection) -> None: ...

    def remove(self, connection: Connection) -> None: ...

    def is_refused(self, path: str, headers: dict[str, str]) -> bool:
        """Whether to reset the connection now that the head is there."""
        ...

    async def answer(self, connection: Connection, request: Received) -> bool:
        """Answers; returns whether the connection may carry another request."""
        ...


class Connection(asyncio.Protocol):
    """One client. Requests are answered one at a time, in a task that ends when the client leaves."""

    def __init__(self, owner: Owner):
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Received] = deque()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._lost = asyncio.Event()
        self._head_bytes = 0
        self._begin_request()

    def _begin_request(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._is_head = True
        self._body = bytearray()
        self._refusal: tuple[int, str] | None = None

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # Writing waits until the kernel has everything: a reset must not overtake what was sent before it.
        self._transport.set_write_buffer_limits(0)
        self._owner.add(self)
        self._arm()

    def data_received(self, data: bytes) -> None:
        if self._is_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refusal = self._refusal or (400, "Bad Request")
        if self._refusal is None and self._is_head and self._head_bytes > HEAD_BYTES:
            self._refusal = (431, "Request Header Fields Too Large")
        if self._refusal is not None:
            self._refuse(*self._refusal)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._can_write.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._waiting.clear()
        self._lost.set()
        self._owner.remove(self)

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    # What llhttp tells.

    def on_message_begin(self) -> None:
        self._begin_request()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._is_head = False
        if self._owner.is_refused(self._url.decode("latin-1"), self._headers):
            self.reset()
        elif self._headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if len(self._body) + len(body) > BODY_BYTES:
            self._refusal = (413, "Content Too Large")
        else:
            self._body += body

    def on_message_complete(self) -> None:
        self._is_head, self._head_bytes = True, 0
        path, _, query = self._url.decode("latin-1").partition("?")
        request = Received(
            method=self._parser.get_method().decode("latin-1"),
            path=path,
            query=query,
            headers=self._headers,
            body=bytes(self._body),
            is_kept_alive=self._parser.should_keep_alive(),
        )
        if self._transport is None or self._transport.is_closing() or self._refusal is not None:
            return
        if len(self._waiting) >= _PIPELINED:
            self._refusal = (400, "Bad Request")
            return
        self._waiting.append(request)
        if self._task is None:
            self._begin_answer()

    # What the simulator does.

    def write(self, data: bytes) -> None:
        """Queues bytes; nothing once the client is gone."""
        if self._transport is not None:
            self._transport.write(data)

    async def drain(self) -> None:
        """Returns when the kernel has all that was written."""
        await asyncio.sleep(0)  # uvloop writes at the end of a turn of the loop
        await self._can_write.wait()

    def close(self) -> None:
        """Closes in order: what was written goes out, then FIN."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Closes with RST."""
        if self._transport is not None:
            sock: socket.socket = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._transport.abort()

    async def ended(self) -> None:
        """Returns when the connection is closed and nothing works for it any more."""
        await self._lost.wait()
        if self._task is not None:
            await asyncio.wait([self._task])

    # How requests are worked off.

    def _begin_answer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._task = asyncio.ensure_future(self._answer(self._waiting.popleft()))
        self._task.add_done_callback(self._end_answer)

    async def _answer(self, request: Received) -> None:
        if not await self._owner.answer(self, request) or not request.is_kept_alive:
            self.close()

    def _end_answer(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled() or self._transport is None:
            return
        if task.exception() is not None:
            self.reset()
        elif self._waiting and not self._transport.is_closing():
            self._begin_answer()
        else:
            self._arm()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(REQUEST_TIME, self.close)

    def _refuse(self, status: int, phrase: str) -> None:
        """Ends a connection that speaks no HTTP, or too much of it. An answer in work is lost with it."""
        self.write(f"HTTP/1.1 {status} {phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        self.close()
