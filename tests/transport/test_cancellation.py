"""A call is aborted at every stage: its sink hears nothing more, and no socket, task or place in the pool is left."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable

import pytest
import trustme

from crossfade.transport.base import Call, UpstreamRequest
from crossfade.transport.http import HttpTransport
from crossfade.transport.pool import PoolLimits
from crossfade.transport.resolve import Address
from tests.support import run
from tests.transport.support import (
    LENGTH_2,
    FullBacklog,
    Leftovers,
    Server,
    Sink,
    answers,
    request_to,
    serving,
    until,
)

EMPTY = "HttpTransport(idle=0 busy=0 dialling=0 waiting=0)"


async def holds(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes requests and never answers; notices when the peer is gone."""
    await server.request(reader)
    await reader.read()


async def says_nothing(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def aborted(
    transport: HttpTransport, request: UpstreamRequest, reached: Callable[[Sink], Awaitable[object]], facts: list[str]
) -> None:
    """Sends, waits for a stage, aborts, and looks at what is left. Each name of `facts` must have been heard."""
    left = Leftovers()
    sink = Sink()
    sent = transport.send(request, sink)
    await reached(sink)
    assert sink.names == facts
    sent.abort()
    sent.abort()
    sent.pause()
    sent.resume()
    await left.are_gone()
    await until(lambda: repr(transport) == EMPTY, repr(transport))
    assert sink.names == facts


def test_abort_at_once() -> None:
    async def main() -> None:
        async with serving(answers) as server:
            transport = HttpTransport(loop=asyncio.get_running_loop())
            await aborted(transport, request_to(server.port), lambda sink: asyncio.sleep(0, sink), [])
            sent = transport.send(request_to(server.port), Sink())
            sent.abort()  # the task that would dial has not begun
            await until(lambda: repr(transport) == EMPTY, repr(transport))
            transport.close()

    run(main())


def test_abort_in_the_queue() -> None:
    async def main() -> None:
        async with serving(holds) as server:
            transport = HttpTransport(loop=asyncio.get_running_loop(), limits=PoolLimits(max_open_per_endpoint=1))
            left = Leftovers()
            first, second = Sink(), Sink()
            busy = transport.send(request_to(server.port), first)
            waiting = transport.send(request_to(server.port), second)
            await first.reaches("sent")
            waiting.abort()
            assert repr(transport) == "HttpTransport(idle=0 busy=1 dialling=0 waiting=0)"
            busy.abort()
            assert repr(transport) == EMPTY
            await left.are_gone()
            assert server.accepted == 1
            transport.close()

    run(main())


def test_abort_while_the_name_is_looked_up() -> None:
    async def main() -> None:
        transport = HttpTransport(loop=asyncio.get_running_loop(), lookup=hanging_lookup)

        async def looking_up(sink: Sink) -> None:
            await until(begun.is_set, "the lookup has begun")

        try:
            request = request_to(1, host="api.example.com", connect_timeout=30.0)
            await aborted(transport, request, looking_up, [])
        finally:
            go_on.set()
            transport.close()

    def hanging_lookup(host: str, port: int) -> list[Address]:
        begun.set()
        go_on.wait(10)
        return []

    begun, go_on = threading.Event(), threading.Event()
    run(main())


@pytest.mark.parametrize("addresses", [1, 3])
def test_abort_while_connecting(addresses: int) -> None:
    async def main() -> None:
        with FullBacklog() as full:
            found: list[Address] = [(socket.AF_INET, ("127.0.0.1", full.port))] * addresses
            transport = HttpTransport(loop=asyncio.get_running_loop(), lookup=lambda host, port: found)
            before = Leftovers()

            async def connecting(sink: Sink) -> None:
                await until(lambda: len(before.new_sockets()) >= addresses, "connecting to every address")

            request = request_to(1, host="api.example.com", network="private", connect_timeout=30.0)
            await aborted(transport, request, connecting, [])
            transport.close()

    run(main(), timeout=30)


def test_abort_in_the_tls_handshake() -> None:
    async def main() -> None:
        async with serving(says_nothing) as server:
            transport = HttpTransport(loop=asyncio.get_running_loop())

            async def shaking_hands(sink: Sink) -> None:
                await until(lambda: server.accepted == 1, "accepted")

            await aborted(transport, request_to(server.port, scheme="https"), shaking_hands, [])
            transport.close()

    run(main())


def test_abort_while_a_proxy_is_asked() -> None:
    async def main() -> None:
        async with serving(holds) as proxy:
            transport = HttpTransport(loop=asyncio.get_running_loop())

            async def asking(sink: Sink) -> None:
                await until(lambda: len(proxy.requests) == 1, "asked")

            request = request_to(443, scheme="https", host="api.example.com", proxy=f"http://127.0.0.1:{proxy.port}")
            await aborted(transport, request, asking, [])
            transport.close()

    run(main())


def test_abort_before_the_head() -> None:
    async def main() -> None:
        async with serving(holds) as server:
            transport = HttpTransport(loop=asyncio.get_running_loop())

            async def sent(sink: Sink) -> None:
                await until(lambda: len(server.requests) == 1, "sent")

            await aborted(transport, request_to(server.port), sent, ["sent"])
            transport.close()

    run(main())


@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.parametrize("framing", [b"Content-Length: 9\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_abort_mid_body(framing: bytes, is_tls: bool, ca: trustme.CA, ca_file: str, server_tls: object) -> None:
    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + (b"2\r\nok\r\n" if b"chunked" in framing else b"ok"))
        await reader.read()

    async def main() -> None:
        async with serving(handle, ssl=server_tls if is_tls else None) as server:
            transport = HttpTransport(loop=asyncio.get_running_loop(), ca_file=ca_file)
            request = request_to(server.port, scheme="https" if is_tls else "http", host="localhost")
            await aborted(transport, request, lambda sink: sink.reaches("body"), ["sent", "head", "body"])
            transport.close()

    run(main())


def test_abort_of_a_paused_call() -> None:
    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nok")
        await reader.read()

    async def main() -> None:
        async with serving(handle) as server:
            transport = HttpTransport(loop=asyncio.get_running_loop())
            calls: list[Call] = []

            async def paused(sink: Sink) -> None:
                await sink.reaches("body")
                calls[0].pause()

            left = Leftovers()
            sink = Sink()
            calls.append(transport.send(request_to(server.port), sink))
            await paused(sink)
            calls[0].abort()
            await left.are_gone()
            assert repr(transport) == EMPTY
            transport.close()

    run(main())


def abort_all(calls: list[Call]) -> None:
    for call in calls:
        call.abort()


@pytest.mark.parametrize("fact", ["sent", "head", "body", "end"])
@pytest.mark.parametrize("is_pooled", [False, True])
def test_abort_from_within_a_fact(fact: str, is_pooled: bool) -> None:
    async def main() -> None:
        async with serving(answers) as server:
            transport = HttpTransport(loop=asyncio.get_running_loop())
            left = Leftovers()
            if is_pooled:
                first = Sink()
                transport.send(request_to(server.port), first)
                await first.over.wait()
            calls: list[Call] = []
            sink = Sink({fact: lambda: abort_all(calls)})
            calls.append(transport.send(request_to(server.port), sink))
            if fact == "sent" and is_pooled:  # `send` had not returned the call yet
                calls[0].abort()
            await sink.reaches(fact)
            assert sink.names == ["sent", "head", "body", "end"][: ["sent", "head", "body", "end"].index(fact) + 1]
            transport.close()
            await left.are_gone()
            await until(lambda: repr(transport) == EMPTY, repr(transport))

    run(main())


def test_abort_of_a_redial() -> None:
    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        if server.accepted == 1:
            writer.write(LENGTH_2)
            await server.request(reader)
        else:
            await reader.read()

    async def main() -> None:
        async with serving(handle) as server:
            transport = HttpTransport(loop=asyncio.get_running_loop())
            first = Sink()
            transport.send(request_to(server.port), first)
            await first.over.wait()

            async def redialled(sink: Sink) -> None:
                await until(lambda: server.accepted == 2, "redialled")

            await aborted(transport, request_to(server.port), redialled, ["sent"])
            transport.close()

    run(main())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_abort_after_any_number_of_loop_turns(scheme: str, ca_file: str, server_tls: object) -> None:
    """The stages lie between turns of the loop, and nobody knows them all: so after each number of turns."""

    async def main() -> None:
        async with serving(answers, ssl=server_tls if scheme == "https" else None) as server:
            loop = asyncio.get_running_loop()
            transport = HttpTransport(loop=loop, ca_file=ca_file)
            request = request_to(server.port, scheme=scheme, host="localhost", keep_idle=0.0)
            warm = Sink()
            transport.send(request, warm)
            await warm.over.wait()
            assert warm.body == b"ok"
            await until(lambda: repr(transport) == EMPTY, "swept")
            left = Leftovers()
            for turns in range(60):
                sent = transport.send(request, Sink())
                for _ in range(turns):
                    await asyncio.sleep(0)
                sent.abort()
            await until(lambda: repr(transport) == EMPTY, repr(transport))
            await left.are_gone()
            transport.close()

    run(main(), timeout=40)


def test_close_leaves_nothing() -> None:
    async def main() -> None:
        async with serving(answers) as server:
            left = Leftovers()
            transport = HttpTransport(loop=asyncio.get_running_loop())
            sinks = [Sink() for _ in range(4)]
            for sink in sinks:
                transport.send(request_to(server.port), sink)
            for sink in sinks:
                await sink.over.wait()
            assert repr(transport) == "HttpTransport(idle=4 busy=0 dialling=0 waiting=0)"
            transport.close()
            transport.close()
            assert repr(transport) == EMPTY
            await left.are_gone()

    run(main())
