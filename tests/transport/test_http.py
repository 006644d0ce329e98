"""Upstream calls over real sockets: what sinks hear, which connections are used again, and what limits hold."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from crossfade.core.errors import ConnectFailed, TimedOut
from crossfade.core.failure import FailureReason, Phase
from crossfade.http1.client import RELAYED_BYTES
from crossfade.transport.base import Call, UpstreamRequest
from crossfade.transport.http import HttpTransport
from crossfade.transport.pool import PoolLimits
from tests.http1.responses import CASES, Case
from tests.support import run
from tests.transport.support import (
    LENGTH_2,
    FullBacklog,
    Server,
    Sink,
    answers,
    endpoint,
    free_port,
    request_to,
    reset,
    serving,
    until,
)


@asynccontextmanager
async def transport_for(**options: Any) -> AsyncIterator[HttpTransport]:
    transport = HttpTransport(loop=asyncio.get_running_loop(), **options)
    try:
        yield transport
    finally:
        transport.close()


async def call(transport: HttpTransport, request: UpstreamRequest) -> Sink:
    sink = Sink()
    transport.send(request, sink)
    await sink.over.wait()
    return sink


@pytest.mark.parametrize("is_relayed", [False, True], ids=["whole", "relayed"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_over_a_real_socket(case: Case, is_relayed: bool) -> None:
    """Every rule of the table: the facts, then whether the next call goes out on the same connection."""

    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        if server.accepted > 1:
            writer.write(LENGTH_2)
            return
        writer.write(case.sent)
        await writer.drain()
        if case.after == "stay":
            await answers(server, reader, writer)

    async def main() -> None:
        async with serving(handle) as server, transport_for() as transport:
            sink = await call(transport, request_to(server.port, is_relayed=is_relayed))
            assert sink.facts == [("sent", None), *case.facts]
            again = await call(transport, request_to(server.port))
            assert again.body == b"ok"
            assert server.accepted == (1 if case.is_reused else 2)

    run(main())


class Pieces(Sink):
    """Counts the pieces of the body, and pauses the call at each of some of them for a while."""

    def __init__(self, pauses: int) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.pauses = pauses
        self.call: Call | None = None

    def on_body(self, data: bytes) -> None:
        self.sizes.append(len(data))
        super().on_body(data)
        if self.pauses and self.call is not None:
            self.pauses -= 1
            self.call.pause()
            asyncio.get_running_loop().call_later(0.001, self.call.resume)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_what_is_relayed_is_read_a_little_at_a_time(scheme: str, ca_file: str, server_tls: ssl.SSLContext) -> None:
    """However much has come, on a connection that may be paused, and that reads as it likes for the next call."""
    body = bytes(range(256)) * 4096
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await server.request(reader)
            writer.write(answer)

    async def main() -> None:
        tls = {"ssl": server_tls} if scheme == "https" else {}
        async with serving(handle, **tls) as server, transport_for(ca_file=ca_file) as transport:
            largest = []
            for is_relayed in (False, True, True, False):
                sink = Pieces(pauses=20)
                request = request_to(server.port, scheme=scheme, host="localhost", is_relayed=is_relayed)
                sink.call = transport.send(request, sink)
                await sink.over.wait()
                assert sink.body == body
                assert sink.names[-1] == "end"
                largest.append(max(sink.sizes))
            assert max(largest[1:3]) <= RELAYED_BYTES < min(largest[0], largest[3])
            assert server.accepted == 1

    run(main())


def test_a_request_on_a_pooled_connection_is_written_within_send_and_needs_no_task() -> None:
    async def main() -> None:
        async with serving(answers) as server, transport_for() as transport:
            first = await call(transport, request_to(server.port))
            assert first.facts == [("sent", None), ("head", 200), ("body", b"ok"), ("end", None)]
            assert repr(transport) == "HttpTransport(idle=1 busy=0 dialling=0 waiting=0)"
            tasks = asyncio.all_tasks()
            sink = Sink()
            transport.send(request_to(server.port), sink)
            assert sink.names == ["sent"]
            assert asyncio.all_tasks() == tasks
            assert repr(transport) == "HttpTransport(idle=0 busy=1 dialling=0 waiting=0)"
            await sink.over.wait()
            assert server.accepted == 1
            assert server.requests[1] == (
                b"POST /v1/x HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept-Encoding: identity\r\n"
                b"content-type: application/json\r\nContent-Length: 2\r\n\r\n{}" % server.port
            )

    run(main())


def test_a_large_request_and_a_large_answer_arrive_whole() -> None:
    body = bytes(range(256)) * 16_384  # 4 MiB

    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await server.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + request[-len(body) :])
        await writer.drain()

    async def main() -> None:
        async with serving(handle) as server, transport_for() as transport:
            sink = await call(transport, request_to(server.port, body=body))
            assert sink.body == body
            assert sink.names == ["sent", "head", "body", "end"]

    run(main())


def test_a_reset_mid_body_is_an_interruption() -> None:
    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
        await told.wait()
        reset(writer)

    async def main() -> None:
        async with serving(handle) as server, transport_for() as transport:
            sink = Sink()
            transport.send(request_to(server.port), sink)
            await sink.reaches("body")
            told.set()
            await sink.over.wait()
            assert sink.facts[1:] == [("head", 200), ("body", b"ok"), ("failure", "Interrupted")]

    told = asyncio.Event()
    run(main())


def test_a_reset_of_a_fresh_connection_before_an_answer_is_bad_bytes() -> None:
    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        reset(writer)

    async def main() -> None:
        async with serving(handle) as server, transport_for() as transport:
            sink = await call(transport, request_to(server.port))
            assert sink.facts == [("sent", None), ("failure", "BadBytes")]
            assert server.accepted == 1

    run(main())


@pytest.mark.parametrize("how", ["eof", "reset"])
@pytest.mark.parametrize("second_answers", [True, False])
def test_a_stale_connection_is_redialled_exactly_once_and_silently(how: str, second_answers: bool) -> None:
    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = server.accepted == 1
        await server.request(reader)
        if first or second_answers:
            writer.write(LENGTH_2)
        if first:
            await server.request(reader)
            if how == "reset":
                reset(writer)

    async def main() -> None:
        async with serving(handle) as server, transport_for() as transport:
            await call(transport, request_to(server.port))
            sink = await call(transport, request_to(server.port))
            if second_answers:
                assert sink.facts == [("sent", None), ("head", 200), ("body", b"ok"), ("end", None)]
            else:
                assert sink.facts == [("sent", None), ("failure", "BadBytes")]
            assert server.accepted == 2
            assert server.requests[1] == server.requests[2]
            assert "busy=0 dialling=0 waiting=0" in repr(transport)

    run(main())


def test_a_redial_that_fails_is_reported() -> None:
    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(LENGTH_2)
        await server.request(reader)

    async def main() -> None:
        async with transport_for() as transport:
            async with serving(handle) as server:
                await call(transport, request_to(server.port))
                sink = Sink()
                transport.send(request_to(server.port), sink)
                transport.dialler.close()
                await sink.over.wait()
            assert sink.facts == [("sent", None), ("failure", "ConnectFailed")]

    run(main())


def test_a_close_by_the_server_is_noticed_on_an_idle_connection() -> None:
    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(LENGTH_2)

    async def main() -> None:
        async with serving(handle) as server, transport_for() as transport:
            await call(transport, request_to(server.port))
            await until(lambda: "idle=0" in repr(transport), repr(transport))

    run(main())


def test_bytes_on_an_idle_connection_close_it() -> None:
    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(LENGTH_2)
        if server.accepted == 1:
            await told.wait()
            writer.write(LENGTH_2)
        await reader.read()

    async def main() -> None:
        async with serving(handle) as server, transport_for() as transport:
            await call(transport, request_to(server.port))
            assert "idle=1" in repr(transport)
            told.set()
            await until(lambda: "idle=0" in repr(transport), repr(transport))
            assert (await call(transport, request_to(server.port))).body == b"ok"
            assert server.accepted == 2

    told = asyncio.Event()
    run(main())


def test_an_idle_connection_is_not_used_after_keep_idle() -> None:
    async def main() -> None:
        async with serving(answers) as server, transport_for() as transport:
            await call(transport, request_to(server.port, keep_idle=0.0))
            await asyncio.sleep(0.005)  # uvloop's clock has steps of a millisecond
            await call(transport, request_to(server.port, keep_idle=0.0))
            assert server.accepted == 2
            await until(lambda: "idle=0" in repr(transport), "swept")

    run(main())


def test_connections_above_the_idle_bound_are_closed() -> None:
    async def main() -> None:
        limits = PoolLimits(max_idle_per_endpoint=2)
        async with serving(answers) as server, transport_for(limits=limits) as transport:
            sinks = [Sink() for _ in range(5)]
            for sink in sinks:
                transport.send(request_to(server.port), sink)
            assert repr(transport) == "HttpTransport(idle=0 busy=0 dialling=5 waiting=0)"
            for sink in sinks:
                await sink.over.wait()
            assert repr(transport) == "HttpTransport(idle=2 busy=0 dialling=0 waiting=0)"

    run(main())


def test_calls_above_the_open_bound_wait_in_order_and_an_aborted_one_leaves() -> None:
    async def main() -> None:
        limits = PoolLimits(max_open_per_endpoint=1)
        async with serving(answers) as server, transport_for(limits=limits) as transport:
            order: list[int] = []
            sinks = [Sink({"end": lambda n=n: order.append(n)}) for n in range(4)]  # type: ignore[misc]
            calls = [transport.send(request_to(server.port), sink) for sink in sinks]
            assert repr(transport) == "HttpTransport(idle=0 busy=0 dialling=1 waiting=3)"
            calls[2].abort()
            assert repr(transport) == "HttpTransport(idle=0 busy=0 dialling=1 waiting=2)"
            await sinks[3].over.wait()
            assert order == [0, 1, 3]
            assert sinks[2].facts == []
            assert server.accepted == 1

    run(main())


def test_a_waiting_call_dials_when_the_connection_before_it_fails() -> None:
    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        if server.accepted > 1:
            writer.write(LENGTH_2)

    async def main() -> None:
        limits = PoolLimits(max_open_per_endpoint=1)
        async with serving(handle) as server, transport_for(limits=limits) as transport:
            first, second = Sink(), Sink()
            transport.send(request_to(server.port), first)
            transport.send(request_to(server.port), second)
            await second.over.wait()
            assert first.names == ["sent", "failure"]
            assert second.body == b"ok"

    run(main())


def test_a_call_may_be_sent_from_within_the_end_of_another_and_uses_its_connection() -> None:
    async def main() -> None:
        async with serving(answers) as server, transport_for() as transport:
            second = Sink()
            first = Sink({"end": lambda: (transport.send(request_to(server.port), second), None)[1]})
            transport.send(request_to(server.port), first)
            await second.over.wait()
            assert second.body == b"ok"
            assert server.accepted == 1

    run(main())


def test_a_refused_connection_is_a_connect_error() -> None:
    async def main() -> None:
        async with transport_for() as transport:
            sink = await call(transport, request_to(free_port()))
            assert sink.names == ["failure"]
            assert sink.error is not None
            assert sink.error.reason is FailureReason.CONNECT_ERROR
            assert "127.0.0.1" in sink.error.detail

    run(main())


def test_a_connection_that_takes_too_long_is_a_timeout_of_the_connect_phase() -> None:
    async def main() -> None:
        with FullBacklog() as full:
            async with transport_for() as transport:
                request = request_to(full.port)
                request.connect_timeout = 0.05
                sink = await call(transport, request)
                assert isinstance(sink.error, TimedOut)
                assert sink.error.phase is Phase.CONNECT
                assert sink.error.reason is FailureReason.TIMEOUT
                assert repr(transport) == "HttpTransport(idle=0 busy=0 dialling=0 waiting=0)"

    run(main())


def test_a_request_that_could_split_is_not_sent() -> None:
    async def main() -> None:
        async with serving(answers) as server, transport_for() as transport:
            request = request_to(server.port)
            request.headers = [("authorization", "Bearer x\r\nHost: evil")]
            sink = Sink()
            transport.send(request, sink)
            assert sink.facts == []  # not from within send
            await sink.over.wait()
            assert isinstance(sink.error, ConnectFailed)
            assert "evil" not in sink.error.detail
            assert server.accepted == 0

    run(main())


def test_pause_stops_reading_until_resume() -> None:
    piece = b"x" * 65_536

    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * len(piece)))
        for _ in range(64):
            writer.write(piece)
            await writer.drain()

    async def main() -> None:
        async with serving(handle, limit=1024) as server, transport_for() as transport:
            sink = Sink()
            sent = transport.send(request_to(server.port), sink)
            sent.pause()  # before there is a connection
            await sink.reaches("sent")
            await asyncio.sleep(0.05)
            assert sink.names == ["sent"]
            sent.resume()
            await sink.reaches("body")
            sent.pause()
            size = len(sink.body)
            await asyncio.sleep(0.05)
            assert len(sink.body) == size
            sent.resume()
            await sink.over.wait()
            assert sink.body == piece * 64

    run(main())


def test_close_refuses_new_calls_and_lets_running_ones_end() -> None:
    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        await told.wait()
        writer.write(LENGTH_2)
        await reader.read()

    async def main() -> None:
        async with serving(handle) as server, transport_for() as transport:
            running = Sink()
            transport.send(request_to(server.port), running)
            await running.reaches("sent")
            transport.close()
            for host in ("127.0.0.1", "127.0.0.2"):
                late = await call(transport, request_to(server.port, host=host))
                assert isinstance(late.error, ConnectFailed)
            told.set()
            await running.over.wait()
            assert running.body == b"ok"
            assert repr(transport) == "HttpTransport(idle=0 busy=0 dialling=0 waiting=0)"

    told = asyncio.Event()
    run(main())


def test_equal_endpoints_share_connections_and_different_ones_do_not() -> None:
    async def main() -> None:
        async with serving(answers) as server, transport_for() as transport:
            assert endpoint(server.port) is not endpoint(server.port)
            await call(transport, request_to(server.port))
            await call(transport, request_to(server.port))
            assert server.accepted == 1
            await call(transport, request_to(server.port, network="private"))
            assert server.accepted == 2

    run(main())
