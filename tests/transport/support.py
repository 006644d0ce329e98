"""Servers that do exactly what a test says, a sink that remembers, and a look at what is left behind."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self, cast

from crossfade.core.errors import TransportError
from crossfade.transport.base import ResponseHead, UpstreamRequest
from crossfade.transport.endpoint import Endpoint

LENGTH_2 = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Sink:
    """Remembers the facts of one call; consecutive pieces of a body are one. `at` calls back at a fact."""

    def __init__(self, at: dict[str, Callable[[], None]] | None = None) -> None:
        self.facts: list[tuple[str, object]] = []
        self.head: ResponseHead | None = None
        self.error: TransportError | None = None
        self.over: asyncio.Event = asyncio.Event()
        self.changed: asyncio.Event = asyncio.Event()
        self._at = at or {}

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.facts]

    @property
    def body(self) -> bytes:
        return b"".join(cast(bytes, value) for name, value in self.facts if name == "body")

    async def reaches(self, name: str) -> None:
        while name not in self.names:
            self.changed.clear()
            await self.changed.wait()

    def on_sent(self) -> None:
        self._hear("sent", None)

    def on_head(self, head: ResponseHead) -> None:
        self.head = head
        self._hear("head", head.status)

    def on_body(self, data: bytes) -> None:
        if self.names[-1:] == ["body"]:
            data = cast(bytes, self.facts.pop()[1]) + data
        self._hear("body", data)

    def on_end(self) -> None:
        self._hear("end", None)
        self.over.set()

    def on_failure(self, error: TransportError) -> None:
        self.error = error
        self._hear("failure", type(error).__name__)
        self.over.set()

    def _hear(self, name: str, value: object) -> None:
        assert not self.over.is_set(), f"{name} after the end"
        self.facts.append((name, value))
        self.changed.set()
        if name in self._at:
            self._at[name]()


class Server:
    """A listening server; `accepted` counts connections, `requests` are the bytes of heads and bodies read."""

    def __init__(self) -> None:
        self.port = 0
        self.accepted = 0
        self.requests: list[bytes] = []

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        """Reads one request; IncompleteReadError when the peer has gone."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        request = head + await reader.readexactly(length)
        self.requests.append(request)
        return request


@asynccontextmanager
async def serving(
    handler: Callable[[Server, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], **options: Any
) -> AsyncIterator[Server]:
    """A server on loopback whose connections are handled by `handler`, and aborted when that returns."""
    server = Server()
    tasks: set[asyncio.Task[Any]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(server, reader, writer)
            writer.close()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            tasks.discard(task)

    listener = await asyncio.start_server(handle, "127.0.0.1", 0, **options)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def answers(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A good server: answers every request of a connection."""
    while True:
        await server.request(reader)
        writer.write(LENGTH_2)


def reset(writer: asyncio.StreamWriter) -> None:
    """Closes with a reset instead of a farewell."""
    connected = writer.get_extra_info("socket")
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def endpoint(port: int, **changes: Any) -> Endpoint:
    return Endpoint(**{"scheme": "http", "host": "127.0.0.1", "port": port, **changes})


def request_to(
    port: int, *, body: bytes = b"{}", method: str = "POST", is_relayed: bool = False, **changes: Any
) -> UpstreamRequest:
    headers = [("content-type", "application/json")]
    return UpstreamRequest(endpoint(port, **changes), "/v1/x", headers, body, method, is_relayed=is_relayed)


def _target(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        return ""


async def until(is_true: Callable[[], bool], what: str = "") -> None:
    """Polls, for at most some seconds."""
    for _ in range(500):
        if is_true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"never came true: {what}")


class Leftovers:
    """Compares open sockets and tasks with those at its making."""

    def __init__(self) -> None:
        self._sockets, self._tasks = sockets(), asyncio.all_tasks()

    def new_sockets(self) -> set[str]:
        return sockets() - self._sockets

    async def are_gone(self) -> None:
        await until(lambda: sockets() <= self._sockets, "sockets closed")
        await until(lambda: asyncio.all_tasks() <= self._tasks, f"tasks gone {asyncio.all_tasks()}")


def sockets() -> set[str]:
    return {_target(name) for name in os.listdir("/proc/self/fd") if _target(name).startswith("socket:")}


class FullBacklog:
    """A port on loopback that neither accepts nor refuses: its queue of connections is full."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._fillers: list[socket.socket] = []

    def __enter__(self) -> Self:
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._fillers.append(filler)
        return self

    def __exit__(self, *_: object) -> None:
        for held in (*self._fillers, self._listener):
            held.close()


def free_port() -> int:
    """A port on loopback that refuses connections."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
