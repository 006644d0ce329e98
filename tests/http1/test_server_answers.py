from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crossfade.http1.server import Request
from tests.http1.harness import Bench, Recorder, hold, post, serving, until, until_requests
from tests.support import run

BIG = b"x" * (8 * 1024 * 1024)  # more than the kernel takes for a client that does not read


def test_what_no_header_may_hold_is_percent_encoded_in_its_value() -> None:
    async def main() -> None:
        values = ["a\r\nset-cookie: b", "\u6a21\u578b", "\x1b[31m", "na\u00efve", "\ud800", "50% of 1"]
        fields = [(f"x-{number}", value) for number, value in enumerate(values)]
        async with serving(Recorder(lambda request: request.respond(200, fields, b""))) as (_, connect):
            client = await connect()
            got = await client.ask(post(b"a"))
            assert (got.status, "set-cookie" in got.headers) == (200, False)
            sent = ["a%0D%0Aset-cookie: b", "%E6%A8%A1%E5%9E%8B", "%1B[31m", "na%C3%AFve", "?", "50% of 1"]
            assert [got.headers[f"x-{number}"] for number in range(6)] == sent

    run(main())


def test_an_answer_with_a_bad_header_name_is_refused_and_the_client_gets_a_500() -> None:
    async def main() -> None:
        faults: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
        handler = Recorder(lambda request: request.respond(200, [("x\r\nset-cookie", "b")], b""))
        async with serving(handler) as (_, connect):
            client = await connect()
            got = await client.ask(post(b"a"))
            assert (got.status, "set-cookie" in got.headers) == (500, False)
            assert await client.is_at_end()
            assert [type(fault) for fault in faults] == [ValueError]
            assert handler.events[-1][0] == "gone"

    run(main())


@pytest.mark.parametrize("status", [99, 100, 101, 600])
def test_a_status_that_is_no_answer_is_refused(status: int) -> None:
    bench = Bench(Recorder(hold))
    bench.feed(post(b""))
    with pytest.raises(ValueError, match="status"):
        bench.handler.requests[0].respond(status, [], b"")


def test_a_streamed_answer_holds_its_head_and_ends_with_one_write() -> None:
    bench = Bench(Recorder(hold))
    bench.feed(post(b""))
    request = bench.handler.requests[0]
    request.start(200, [("content-type", "text/event-stream")])
    assert bench.transport.written == b""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    request.write(b"hel")
    request.write(b"lo")
    assert bench.transport.written == b""
    bench.loop.run()
    assert bench.transport.written == head + b"3\r\nhel\r\n2\r\nlo\r\n"
    request.write(b"")  # an empty chunk would be the end
    request.finish(b"x" * 16)
    tail = b"10\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n"
    assert bench.transport.written == head + b"3\r\nhel\r\n2\r\nlo\r\n" + tail
    assert (request.is_started, request.is_finished, request.is_gone) == (True, True, False)


def test_what_ends_an_answer_leaves_at_once_behind_the_pieces_of_the_same_turn() -> None:
    bench = Bench(Recorder(hold))
    bench.feed(post(b""))
    request = bench.handler.requests[0]
    request.start(200, [])
    request.write(b"a")
    request.finish(b"b")
    assert bench.transport.written.endswith(b"\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n")
    written = bench.transport.written
    bench.loop.run()
    assert bench.transport.written == written


def test_an_empty_write_sends_the_held_head() -> None:
    bench = Bench(Recorder(hold))
    bench.feed(post(b""))
    request = bench.handler.requests[0]
    request.start(200, [])
    request.write(b"")
    bench.loop.run()
    assert bench.transport.written == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def test_answers_out_of_order_are_faults_of_the_handler() -> None:
    bench = Bench(Recorder(hold))
    bench.feed(post(b""))
    request = bench.handler.requests[0]
    with pytest.raises(RuntimeError):
        request.write(b"a")
    with pytest.raises(RuntimeError):
        request.finish()
    with pytest.raises(ValueError, match="no body"):
        request.start(204, [])
    request.respond(200, [], b"")
    with pytest.raises(RuntimeError):
        request.respond(200, [], b"")
    with pytest.raises(RuntimeError):
        request.start(200, [])
    with pytest.raises(RuntimeError):
        request.finish()
    request.abort()  # after the end it does nothing
    assert not bench.transport.is_closed


@pytest.mark.parametrize(
    "status, method, length", [(200, "HEAD", "4"), (204, "GET", None), (304, "GET", "4"), (200, "GET", "4")]
)
def test_answers_without_a_body_send_none(status: int, method: str, length: str | None) -> None:
    async def main() -> None:
        async with serving(Recorder(lambda request: request.respond(status, [], b"body"))) as (_, connect):
            client = await connect()
            for _ in range(2):  # a stray body would be read as the second answer
                await client.send(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                got = await client.read_answer(is_head=True)
                assert (got.status, got.headers.get("content-length")) == (status, length)
                if status == 200 and method == "GET":
                    assert await client.reader.readexactly(4) == b"body"

    run(main())


def test_a_streamed_answer_to_head_has_no_chunks() -> None:
    def stream(request: Request) -> None:
        request.start(200, [])
        request.write(b"a")
        request.finish(b"b")

    async def main() -> None:
        async with serving(Recorder(stream)) as (_, connect):
            client = await connect()
            for _ in range(2):
                await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await client.read_answer(is_head=True)).headers["transfer-encoding"] == "chunked"

    run(main())


def test_a_large_answer_arrives_whole_in_one_piece_of_framing() -> None:
    async def main() -> None:
        async with serving(Recorder(lambda request: request.respond(200, [], BIG))) as (_, connect):
            client = await connect()
            for _ in range(2):
                assert (await client.ask(post(b""))).body == BIG

    run(main())


def test_an_aborted_stream_has_no_end_chunk_and_tells_no_one() -> None:
    async def main() -> None:
        handler = Recorder(hold)
        async with serving(handler) as (listener, connect):
            client = await connect()
            await client.send(post(b""))
            await until(lambda: len(handler.events) == 2)
            request = handler.requests[0]
            request.start(200, [])
            request.write(b"part")
            request.abort()
            await client.read_head()
            assert await client.reader.read() == b"4\r\npart\r\n"
            await until(lambda: listener.connections == 0)
            assert (request.is_gone, len(handler.events)) == (True, 2)

    run(main())


def test_on_http_1_0_a_stream_ends_with_the_connection_and_an_abort_is_a_reset() -> None:
    async def main() -> None:
        handler = Recorder(hold)
        async with serving(handler) as (_, connect):
            for number, is_cut in enumerate((False, True)):
                client = await connect()
                await client.send(b"GET / HTTP/1.0\r\n\r\n")
                await until_requests(handler, number + 1)
                request = handler.requests[number]
                request.start(200, [])
                request.write(b"part")
                assert "transfer-encoding" not in (await client.read_head()).headers
                assert await client.reader.readexactly(4) == b"part"
                if is_cut:
                    request.abort()
                    with pytest.raises(ConnectionResetError):
                        await client.reader.read()
                else:
                    request.finish(b"end")
                    assert await client.reader.read() == b"end"

    run(main())


def test_a_handler_that_fails_is_reported_and_answered_500_or_cut() -> None:
    def fail(request: Request) -> None:
        if request.path == "/started":
            request.start(200, [])
            request.write(b"part")
        raise LookupError(request.path)

    async def main() -> None:
        faults: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
        async with serving(Recorder(fail)) as (_, connect):
            client = await connect()
            assert (await client.ask(post(b"", path="/new"))).json == [500, "the request could not be served", "/new"]
            client = await connect()
            await client.send(post(b"", path="/started"))
            await client.read_head()
            assert await client.reader.read() == b"4\r\npart\r\n"
            assert [type(fault) for fault in faults] == [LookupError, LookupError]

    run(main())


@pytest.mark.parametrize("is_begun", [False, True])
def test_an_answer_that_fails_before_any_of_it_has_left_is_a_500(is_begun: bool) -> None:
    bench = Bench(Recorder(hold))
    bench.feed(post(b""))
    request = bench.handler.requests[0]
    if is_begun:
        request.start(200, [])
    request.fail(ValueError("odd"))
    assert bench.transport.written.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert bench.transport.has_eof
    assert [type(fault["exception"]) for fault in bench.loop.faults] == [ValueError]
    assert bench.handler.events[-1][0] == "gone"


def test_an_answer_that_fails_when_some_of_it_has_left_is_cut() -> None:
    bench = Bench(Recorder(hold))
    bench.feed(post(b""))
    request = bench.handler.requests[0]
    request.start(200, [])
    request.write(b"a")
    bench.loop.run()
    written = bench.transport.written
    request.fail(ValueError("odd"))
    assert bench.transport.written == written
    assert bench.transport.is_closed
    assert len(bench.loop.faults) == 1


def test_an_answer_that_fails_after_its_end_leaves_the_next_request_alone() -> None:
    bench = Bench(Recorder(hold))
    bench.feed(post(b""))
    first = bench.handler.requests[0]
    first.respond(200, [], b"whole")
    bench.feed(post(b""))
    written = bench.transport.written
    first.fail(ValueError("odd"))
    assert (bench.transport.written, bench.transport.is_closed) == (written, False)
    assert len(bench.loop.faults) == 1
