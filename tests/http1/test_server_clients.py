from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import pytest

from crossfade.http1.limits import Limits
from crossfade.http1.server import HIGH_WATER, Request
from tests.http1.harness import HEAD, Bench, Client, Recorder, answer, hold, post, serving, until
from tests.support import run

CHUNKED_HEAD = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BIG = b"x" * (8 * 1024 * 1024)  # more than the kernel takes for a client that does not read


def leave_by_close(client: Client) -> None:
    client.writer.close()


def leave_by_half_close(client: Client) -> None:
    client.writer.write_eof()


def leave_by_reset(client: Client) -> None:
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


@pytest.mark.parametrize("leave", [leave_by_close, leave_by_half_close, leave_by_reset])
@pytest.mark.parametrize("step", ["body", "work", "stream"])
def test_a_client_that_leaves_before_the_end_of_its_answer_is_gone(leave: Any, step: str) -> None:
    async def main() -> None:
        handler = Recorder(hold)
        async with serving(handler) as (listener, connect):
            client = await connect()
            await client.send(HEAD + b"Content-Length: 5\r\n\r\nhel" if step == "body" else post(b""))
            await until(lambda: len(handler.events) == (1 if step == "body" else 2))
            request = handler.requests[0]
            if step == "stream":
                request.start(200, [])
                request.write(b"part")
                await client.read_head()
            leave(client)
            await until(lambda: request.is_gone and listener.connections == 0)
            assert [event for event, _ in handler.events].count("gone") == 1
            if step == "stream":
                request.write(b"late")
                request.finish()
            else:
                request.respond(200, [], b"late")
            assert request.unsent == 0

    run(main())


def test_a_client_that_leaves_after_its_answer_is_not_gone() -> None:
    async def main() -> None:
        handler = Recorder()
        async with serving(handler) as (listener, connect):
            client = await connect()
            await client.ask(post(b""))
            client.close()
            await until(lambda: listener.connections == 0)
            assert [event for event, _ in handler.events] == ["head", "request"]
            assert not handler.requests[0].is_gone

    run(main())


def test_a_leaving_client_is_noticed_while_it_does_not_read_and_bytes_are_unsent() -> None:
    async def main() -> None:
        handler = Recorder(hold)
        async with serving(handler) as (_, connect):
            client = await connect()
            await client.send(post(b""))
            await until(lambda: len(handler.events) == 2)
            request = handler.requests[0]
            request.start(200, [])
            request.write(BIG)
            assert request.unsent > HIGH_WATER
            leave_by_reset(client)
            await until(lambda: request.is_gone)
            assert handler.events[-1][0] == "gone"

    run(main())


def test_pressure_rises_above_the_high_water_mark_and_falls_below_the_low_one() -> None:
    async def main() -> None:
        handler = Recorder(hold)
        async with serving(handler) as (_, connect):
            client = await connect()
            await client.send(post(b""))
            await until(lambda: len(handler.events) == 2)
            request = handler.requests[0]
            request.start(200, [])
            request.write(BIG)
            assert request.unsent > len(BIG)
            await until(lambda: handler.events[2:])
            assert handler.events[2:] == [("pressure", True)]
            await client.read_head()
            assert await client.read_chunk() == BIG
            await until(lambda: handler.events[2:] == [("pressure", True), ("pressure", False)])
            assert request.unsent == 0

    run(main())


def test_the_next_request_waits_until_a_slow_reader_has_taken_the_answer_before_it() -> None:
    def big(request: Request) -> None:
        request.respond(200, [], BIG)

    async def main() -> None:
        handler = Recorder(big)
        async with serving(handler) as (_, connect):
            client = await connect()
            await client.send(post(b"") * 3)
            await until(lambda: handler.events)
            await asyncio.sleep(0.05)
            assert len(handler.requests) == 1
            for _ in range(3):
                assert (await client.read_answer()).body == BIG

    run(main())


def test_a_client_that_takes_no_byte_for_the_write_timeout_is_gone() -> None:
    async def main() -> None:
        handler = Recorder(hold)
        async with serving(handler, Limits(write_timeout=0.2)) as (listener, connect):
            client = await connect()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport, too
            await client.send(post(b""))
            await until(lambda: len(handler.events) == 2)
            handler.requests[0].start(200, [])
            handler.requests[0].write(BIG)
            await until(lambda: listener.connections == 0)
            assert handler.events[-1][0] == "gone"

    run(main())


def test_a_client_that_takes_a_little_now_and_then_is_not_gone() -> None:
    bench = Bench(Recorder(hold), Limits(write_timeout=60.0))
    bench.feed(post(b""))
    request = bench.handler.requests[0]
    request.start(200, [])
    request.write(b"x" * 1000)
    for unsent in range(900, 0, -10):
        bench.transport.unsent = unsent
        bench.connection.on_due(bench.connection.due)
        bench.connection.on_due(bench.connection.due + 50.0)
    assert not request.is_gone
    for _ in range(32):  # looks every two seconds
        bench.connection.on_due(bench.connection.due)
    assert request.is_gone


def test_a_finished_answer_that_is_not_taken_is_given_up_without_a_word() -> None:
    async def main() -> None:
        handler = Recorder(lambda request: request.respond(200, [], BIG))
        async with serving(handler, Limits(write_timeout=0.2)) as (listener, connect):
            for connection in ("close", "keep-alive"):
                client = await connect()
                client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport, too
                await client.send(post(b"", f"Connection: {connection}"))
            await until(lambda: len(handler.requests) == 2 and listener.connections == 0)
            assert {event for event, _ in handler.events} == {"head", "request"}

    run(main())


def test_a_request_that_is_worked_on_for_longer_than_every_limit_is_left_alone() -> None:
    bench = Bench(Recorder(hold))
    bench.feed(post(b"") + post(b"kept"))
    for _ in range(1000):
        bench.connection.on_due(bench.connection.due)
    assert not bench.transport.is_closed
    answer(bench.handler.requests[0])
    assert bench.transport.written.startswith(b"HTTP/1.1 200 OK")


async def drip(client: Client, data: bytes) -> None:
    """Sends a byte now and then, until the other side has had enough."""
    try:
        for number in data:
            await client.send(bytes((number,)))
            await asyncio.sleep(0.02)
    except ConnectionError:
        pass


@pytest.mark.parametrize(
    "first, limits",
    [
        (HEAD[:20], Limits(head_timeout=0.2)),
        (HEAD + b"Content-Length: 50000\r\n\r\n", Limits(body_timeout=0.2)),
        (CHUNKED_HEAD + b"fff\r\n", Limits(body_timeout=0.2)),
    ],
)
@pytest.mark.parametrize("is_dripping", [True, False])
def test_slow_heads_and_slow_bodies_get_a_408(first: bytes, limits: Limits, is_dripping: bool) -> None:
    async def main() -> None:
        handler = Recorder()
        async with serving(handler, limits) as (_, connect):
            client = await connect()
            await client.send(first)
            dripping = asyncio.create_task(drip(client, b"x" * 500 if is_dripping else b""))
            assert (await client.read_answer()).status == 408
            assert await client.is_at_end()
            assert [event for event, _ in handler.events] in ([], ["head", "gone"])
            dripping.cancel()

    run(main())


def test_a_body_must_keep_coming_and_keep_the_minimum_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("crossfade.http1.server.perf_counter", lambda: now)
    bench = Bench(Recorder(hold), Limits(body_timeout=20.0, body_rate=100.0))
    bench.feed(HEAD + b"Content-Length: 10000\r\n\r\n")
    assert bench.connection.due == 1020.0
    now = 1010.0
    bench.feed(b"x" * 500)  # five seconds earned
    assert bench.connection.due == 1025.0
    now = 1020.0
    bench.feed(b"x" * 9000)  # ninety more: now the silence decides
    assert bench.connection.due == 1040.0
    now = 1030.0
    bench.feed(b"x")
    assert bench.connection.due == 1050.0


def test_a_head_has_its_time_from_the_first_byte_however_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("crossfade.http1.server.perf_counter", lambda: now)
    bench = Bench(Recorder(), Limits(head_timeout=10.0, idle_timeout=75.0))
    assert bench.connection.due == 1010.0
    now = 1005.0
    bench.feed(b"\r")
    now = 1009.0
    bench.feed(b"\nPOST")
    assert bench.connection.due == 1015.0
    bench.feed(post(b"a")[4:])
    assert bench.handler.requests[0].received_at == 1005.0
    assert bench.connection.due == 1009.0 + 75.0


@pytest.mark.parametrize("is_first", [True, False])
def test_an_idle_connection_is_closed_without_a_word(is_first: bool) -> None:
    async def main() -> None:
        limits = Limits(head_timeout=0.1) if is_first else Limits(idle_timeout=0.1)
        async with serving(None, limits) as (_, connect):
            client = await connect()
            if not is_first:
                await client.ask(post(b""))
            assert await client.is_at_end()

    run(main())
