"""A listening socket and its connections: counts them, gives all of them one ticker, and drains them.

It knows nothing of HTTP but that a connection has a `due` time and can be told to drain or abort.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Callable
from time import perf_counter
from typing import cast

import msgspec

from crossfade.http1.limits import Limits
from crossfade.http1.outbox import Outbox
from crossfade.http1.server import Handler, ServerConnection

TICK = 0.5
"""Seconds between two looks at the connections' `due` times: every limit may be exceeded by as much."""

_BACKLOG = 4096
"""Connections that the kernel may hold ready; it takes `net.core.somaxconn` at most. One that finds no room tries again
after a second, which callers would take for the gateway's slowness."""
_ACCEPTED_AT_ONCE = 256
_LAST_WORDS = 1.0
"""Seconds for an answer that says why there is none."""


def _within_descriptors(limits: Limits) -> Limits:
    """The limits with no more connections than half of the files that the process may have open: the other half is for
    upstream connections, or whoever opens enough idle ones would keep everybody from every provider."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY or limits.max_connections <= most // 2:
        return limits
    return msgspec.structs.replace(limits, max_connections=max(1, most // 2))


class Listener:
    """Accepts connections until it is drained or closed. Made by `open`.

    `limits`, `handler`, `outbox` and `is_draining` are read by the connections, `add` and `remove` called by them; they
    count in `receiving` the bytes of bodies that are not yet whole.
    `before_pieces` is called before pieces of streamed answers are written.
    """

    def __init__(
        self,
        handler: Handler,
        limits: Limits,
        *,
        tick: float = TICK,
        before_pieces: Callable[[], None] | None = None,
    ):
        self.handler, self.limits = handler, _within_descriptors(limits)
        self.is_draining = False
        self.receiving = 0
        self._is_closed = False
        self._tick_time = tick
        self._connections: set[ServerConnection] = set()
        self._loop = asyncio.get_running_loop()
        self.outbox = Outbox(self._loop, before_pieces)
        self._server: asyncio.Server | None = None
        self._sockets: list[socket.socket] = []  # those of the server, to take more than one connection in a turn
        self._is_accepting = False
        self._taking: set[asyncio.Task[None]] = set()
        self._ticker: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()

    @classmethod
    async def open(
        cls,
        host: str | None,
        port: int,
        handler: Handler,
        limits: Limits | None = None,
        *,
        sock: socket.socket | None = None,
        reuse_port: bool = False,
        tick: float = TICK,
        before_pieces: Callable[[], None] | None = None,
    ) -> Listener:
        """Listens on `host` (None: every interface) and `port` (0: any free one), or on `sock`, a bound socket that is
        then the listener's to close.

        A port in use raises OSError as it comes. `reuse_port` shares the port with other processes.
        """
        listener = cls(handler, limits or Limits(), tick=tick, before_pieces=before_pieces)
        await listener._listen(host, port, sock, reuse_port)
        return listener

    async def _listen(self, host: str | None, port: int, sock: socket.socket | None, reuse_port: bool) -> None:
        def accepted() -> asyncio.Protocol:
            if not self._is_accepting:
                self._is_accepting = True
                self._loop.call_soon(self._accept_more)
            return self._new_connection()

        if sock is not None:
            self._server = await self._loop.create_server(accepted, sock=sock, backlog=_BACKLOG)
        else:
            self._server = await self._loop.create_server(
                accepted, host, port, backlog=_BACKLOG, reuse_port=reuse_port or None
            )
        self._sockets = [socket.socket(fileno=os.dup(one.fileno())) for one in self._server.sockets]
        for one in self._sockets:
            one.setblocking(False)
        self._ticker = self._loop.call_later(self._tick_time, self._tick)

    def _new_connection(self) -> asyncio.Protocol:
        return cast(asyncio.Protocol, ServerConnection(self, self._loop))

    def _accept_more(self) -> None:
        """Takes what else waits. libuv accepts one connection in a turn of its loop: where turns are long and many
        come, each would wait for as many turns as there are connections before it."""
        self._is_accepting = False
        for listening in self._sockets:
            for _ in range(_ACCEPTED_AT_ONCE):
                try:
                    sock, _peer = listening.accept()
                except OSError:  # none is left; or there are too many open files, which the next one will hear
                    break
                task = self._loop.create_task(self._take(sock))
                self._taking.add(task)
                task.add_done_callback(self._taking.discard)

    async def _take(self, sock: socket.socket) -> None:
        try:
            sock.setblocking(False)
            await self._loop.connect_accepted_socket(self._new_connection, sock)
        except OSError:  # it has gone again
            sock.close()

    @property
    def port(self) -> int:
        """The port listened on; 0 once closed, or for a Unix socket."""
        sockets = self._server.sockets if self._server is not None else ()
        name = sockets[0].getsockname() if sockets else None
        return int(name[1]) if isinstance(name, tuple) else 0

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def add(self, connection: ServerConnection) -> bool:
        if self._is_closed or len(self._connections) >= self.limits.max_connections:
            return False
        self._connections.add(connection)
        self._empty.clear()
        return True

    def remove(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    async def drain(self, timeout: float, on_late: Callable[[], None] | None = None) -> None:
        """Stops accepting, closes idle connections, lets requests in work be answered (with `connection: close`)
        for `timeout` seconds, then aborts what is left; `on_late` is called before that, and what it answers has one
        more second to leave. Returns when no connection is open."""
        self.is_draining = True
        self._stop_accepting()
        # Requests that the kernel already holds are read first: closing under them would reset them.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for connection in list(self._connections):
            connection.drain()
        if not await self._is_empty_within(timeout) and on_late is not None:
            on_late()
            await self._is_empty_within(_LAST_WORDS)
        await self.close()

    async def _is_empty_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._until_empty(), seconds)
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Stops accepting and aborts every connection; returns when all are gone."""
        self.is_draining = self._is_closed = True
        self._stop_accepting()
        if self._taking:
            await asyncio.wait(self._taking)
        for connection in list(self._connections):
            connection.abort()
        await self._until_empty()
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    def _stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for listening in self._sockets:
            listening.close()
        self._sockets.clear()

    async def _until_empty(self) -> None:
        if self._connections:
            await self._empty.wait()

    def _tick(self) -> None:
        self._ticker = self._loop.call_later(self._tick_time, self._tick)
        now = perf_counter()
        for connection in [connection for connection in self._connections if connection.due <= now]:
            connection.on_due(now)

    def __repr__(self) -> str:
        state = "draining" if self.is_draining else "open"
        return f"<Listener port {self.port} {state}, {len(self._connections)} connections>"
