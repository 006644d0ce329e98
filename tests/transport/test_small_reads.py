"""What is read a little at a time is heard as if it were read at once: also where the connection ends meanwhile."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest

from crossfade.http1.client import RELAYED_BYTES, RESPONSE_HEAD_BYTES
from crossfade.transport.base import Call
from crossfade.transport.http import HttpTransport
from crossfade.transport.pool import PoolLimits
from tests.http1.responses import CHUNKED, OK
from tests.http1.test_client import Peer
from tests.support import run
from tests.transport.support import LENGTH_2, Server, Sink, request_to, serving


@asynccontextmanager
async def transport_for(**options: Any) -> AsyncIterator[HttpTransport]:
    transport = HttpTransport(loop=asyncio.get_running_loop(), **options)
    try:
        yield transport
    finally:
        transport.close()


@contextmanager
def ending_at_once(context: ssl.SSLContext, answer: bytes) -> Iterator[int]:
    """A server that sends `answer`, a close_notify and a FIN in one go, and waits for nothing. Gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listener.accept()
                with context.wrap_socket(plain, server_side=True) as secured:
                    secured.recv(65536)
                    secured.sendall(answer)
                    secured.setblocking(False)
                    with suppress(ssl.SSLError, OSError):
                        secured.unwrap()

    threading.Thread(target=serve, daemon=True).start()
    with listener:
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


class Pauses(Sink):
    """Pauses the call at the first piece of the body for a moment."""

    call: Call | None = None
    is_paused = False

    def on_body(self, data: bytes) -> None:
        super().on_body(data)
        if self.call is not None and not self.is_paused:
            self.is_paused = True
            self.call.pause()
            asyncio.get_running_loop().call_later(0.05, self.call.resume)


@pytest.mark.parametrize("size", [2_000, 12_000, 30_000])
@pytest.mark.parametrize("sink", [Sink, Pauses])
@pytest.mark.parametrize("is_relayed", [False, True])
def test_a_tls_connection_that_ends_with_the_response_loses_nothing_of_it(
    ca_file: str, server_tls: ssl.SSLContext, size: int, sink: type[Sink], is_relayed: bool
) -> None:
    body = bytes(range(250)) * (size // 250)

    answer = OK + b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (size, body)

    async def main() -> None:
        with ending_at_once(server_tls, answer) as port:
            async with transport_for(ca_file=ca_file) as transport:
                for _ in range(5):
                    heard = sink()
                    request = request_to(port, scheme="https", host="localhost", is_relayed=is_relayed)
                    call = transport.send(request, heard)
                    if isinstance(heard, Pauses):
                        heard.call = call
                    await heard.over.wait()
                    assert (heard.names[-1], len(heard.body)) == ("end", size)
                    assert heard.body == body

    run(main())


@pytest.mark.parametrize("extra", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL", b"X"])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_bytes_behind_a_response_that_fills_a_read_reach_no_other_call(extra: bytes, more: int) -> None:
    head = OK + b"Content-Length: %d\r\n\r\n"
    size = 3 * RELAYED_BYTES - len(head % 20_000) + more

    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        if server.accepted == 1:
            writer.write(head % size + b"a" * size + extra)
        else:
            writer.write(LENGTH_2)
        await server.request(reader)

    async def main() -> None:
        limits = PoolLimits(max_open_per_endpoint=1)  # so the second waits for the first one's connection
        async with serving(handle) as server, transport_for(limits=limits) as transport:
            first, second = Sink(), Sink()
            for sink in (first, second):
                transport.send(request_to(server.port, is_relayed=True), sink)
            await first.over.wait()
            await second.over.wait()
            assert (first.names[-1], len(first.body)) == ("end", size)
            assert second.body == b"ok", second.error

    run(main())


def test_a_relayed_response_comes_through_on_the_loop_of_asyncio_too() -> None:
    size = 3 * RELAYED_BYTES

    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(OK + b"Content-Length: %d\r\n\r\n" % size + b"a" * size)
        await server.request(reader)

    async def main() -> None:
        async with serving(handle) as server, transport_for() as transport:
            sink = Sink()
            transport.send(request_to(server.port, is_relayed=True), sink)
            await asyncio.wait_for(sink.over.wait(), 10)
            assert (sink.names[-1], sink.body) == ("end", b"a" * size), sink.error

    asyncio.run(main())


@pytest.mark.parametrize("reads", ["a chunk a read", "four chunks a read"])
def test_small_chunks_pay_for_the_framing_before_them_however_they_come(reads: str) -> None:
    peer = Peer()
    peer.start()
    peer.feed(CHUNKED)
    pieces = [b"5;" + b"e" * 180 + b"\r\nhello\r\n", *[b"5\r\nhello\r\n"] * 3]
    for _ in range(RESPONSE_HEAD_BYTES // 100):
        peer.feed(*pieces) if reads == "a chunk a read" else peer.feed(b"".join(pieces))
    peer.feed(b"0\r\n\r\n")
    assert peer.facts[-1] == ("end", None)
