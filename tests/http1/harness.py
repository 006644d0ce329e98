"""What the tests of the server role share: a handler that records, a raw client, and a transport without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from crossfade.http1.limits import Limits
from crossfade.http1.listener import Listener
from crossfade.http1.outbox import Outbox
from crossfade.http1.server import Request, ServerConnection

TICK = 0.02
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def post(body: bytes = b"", *headers: str, path: str = "/v1/chat/completions") -> bytes:
    """A plain request with a Content-Length."""
    lines = "".join(f"{line}\r\n" for line in headers)
    return f"POST {path} HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Recorder:
    """Answers every request with what it saw, and remembers all it was told as (event, path)."""

    def __init__(self, on_request: Callable[[Request], None] | None = None):
        self.events: list[tuple[Any, ...]] = []
        self.requests: list[Request] = []
        self._on_request = on_request or answer

    def on_head(self, request: Request) -> None:
        self.events.append(("head", request.path))
        self.requests.append(request)

    def on_request(self, request: Request) -> None:
        self.events.append(("request", request.path))
        self._on_request(request)

    def on_gone(self, request: Request) -> None:
        self.events.append(("gone", request.path))

    def on_pressure(self, request: Request, is_pressed: bool) -> None:
        self.events.append(("pressure", is_pressed))

    def problem(self, status: int, message: str, path: str) -> tuple[list[tuple[str, str]], bytes]:
        return [("content-type", "application/json")], json.dumps([status, message, path]).encode()


def answer(request: Request) -> None:
    seen = [request.method, request.path, request.query, request.headers, request.body.decode("latin-1")]
    request.respond(200, [("content-type", "application/json")], json.dumps(seen).encode())


def hold(request: Request) -> None:
    """Leaves the request unanswered."""


class Answer:
    """One parsed answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A raw client: sends any bytes, and reads answers strictly enough to notice bad framing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read_head(self) -> Answer:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status = lines[0].split(" ")[:2]
        assert version == "HTTP/1.1"
        fields = [line.split(": ", 1) for line in lines[1:-2]]
        headers = {name.lower(): value for name, value in fields}
        assert len(headers) == len(fields), "a header is repeated"
        return Answer(int(status), headers, b"")

    async def read_answer(self, *, is_head: bool = False) -> Answer:
        got = await self.read_head()
        if is_head:
            return got
        if got.headers.get("transfer-encoding") == "chunked":
            while chunk := await self.read_chunk():
                got.body += chunk
        else:
            got.body = await self.reader.readexactly(int(got.headers.get("content-length", "0")))
        return got

    async def read_chunk(self) -> bytes:
        size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
        data = await self.reader.readexactly(size)
        assert await self.reader.readexactly(2) == b"\r\n"
        return data

    async def ask(self, data: bytes) -> Answer:
        await self.send(data)
        return await self.read_answer()

    async def is_at_end(self) -> bool:
        """Waits for the end of the connection; False if anything else comes."""
        return await self.reader.read(1) == b""

    def close(self) -> None:
        self.writer.close()


@asynccontextmanager
async def serving(
    handler: Any | None = None, limits: Limits | None = None, tick: float = TICK
) -> AsyncIterator[tuple[Listener, Callable[[], Awaitable[Client]]]]:
    """A listener on a free port, and a function that connects to it."""
    listener = await Listener.open("127.0.0.1", 0, handler or Recorder(), limits or Limits(), tick=tick)
    clients: list[Client] = []

    async def connect() -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", listener.port))
        clients.append(client)
        return client

    try:
        yield listener, connect
    finally:
        for client in clients:
            client.close()
        await listener.close()


async def until(condition: Callable[[], object]) -> None:
    """Polls; the limit of `run` ends a wait that is in vain."""
    for _ in iter(lambda: bool(condition()), True):
        await asyncio.sleep(0.005)


async def until_requests(handler: Recorder, count: int) -> None:
    """Waits until the handler has been given `count` whole requests."""
    await until(lambda: sum(event == "request" for event, _ in handler.events) == count)


class FakeTransport:
    """Takes what a connection writes; says nothing of its own accord."""

    def __init__(self) -> None:
        self.written = b""
        self.unsent = 0
        self.has_eof = self.is_closed = False

    def get_extra_info(self, name: str) -> None:
        return None

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def write(self, data: bytes) -> None:
        assert not self.has_eof, "written behind the end"
        self.written += data

    def writelines(self, parts: Sequence[bytes]) -> None:
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        self.has_eof = True

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed


class FakeLoop:
    """Runs callbacks when told to."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.faults: list[Any] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def call_exception_handler(self, context: Any) -> None:
        self.faults.append(context)

    def run(self) -> None:
        while self.soon:
            self.soon.pop(0)()


class Bench:
    """One connection without a socket, for tests that feed it bytes one way and another."""

    is_draining = False
    receiving = 0

    def __init__(self, handler: Recorder, limits: Limits | None = None):
        self.handler, self.limits = handler, limits or Limits()
        self.loop, self.transport = FakeLoop(), FakeTransport()
        self.outbox = Outbox(self.loop)  # type: ignore[arg-type]  # a fake loop
        self.connection = ServerConnection(self, self.loop)  # type: ignore[arg-type]  # a fake loop
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]  # a fake transport

    def add(self, connection: ServerConnection) -> bool:
        return True

    def remove(self, connection: ServerConnection) -> None:
        pass

    def feed(self, data: bytes) -> None:
        if not self.transport.is_closed:
            self.connection.data_received(data)
            self.loop.run()
