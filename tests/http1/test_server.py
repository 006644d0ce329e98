from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crossfade.http1.limits import Limits
from crossfade.http1.server import LINGER_BYTES, PIPELINE_BYTES, Request
from tests.http1.harness import HEAD, Bench, Client, Recorder, answer, hold, post, serving, until, until_requests
from tests.support import run

CHUNKED_HEAD = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BIG = b"x" * (8 * 1024 * 1024)  # more than the kernel takes for a client that does not read


async def outcome(data: bytes, limits: Limits | None = None) -> tuple[int, Recorder, Client]:
    """The status of the answer to `data`, after which the connection must end."""
    handler = Recorder()
    async with serving(handler, limits) as (_, connect):
        client = await connect()
        await client.send(data)
        got = await client.read_answer()
        assert got.headers["connection"] == "close"
        assert got.json[0] == got.status
        assert await client.is_at_end()
        return got.status, handler, client


# What a request may look like.


def test_a_request_is_handed_over_with_head_body_peer_and_time() -> None:
    async def main() -> None:
        handler = Recorder()
        async with serving(handler) as (_, connect):
            client = await connect()
            got = await client.ask(post(b"hello", "X-A: 1", "x-a: 2", path="/v1/x?y=1"))
            sent = {"host": "a", "x-a": "1, 2", "content-length": "5"}
            assert got.json == ["POST", "/v1/x", "y=1", sent, "hello"]
            assert (got.status, "connection" in got.headers) == (200, False)
            request = handler.requests[0]
            assert request.peer == client.writer.get_extra_info("sockname")
            assert request.received_at > 0
            assert handler.events == [("head", "/v1/x"), ("request", "/v1/x")]

    run(main())


REFUSED: dict[str, tuple[bytes, int]] = {
    "no_host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two_hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "two_hosts_that_differ": (b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", 400),
    "host_list": (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    "te_gzip_chunked": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "te_chunked_gzip": (HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    "te_identity": (HEAD + b"Transfer-Encoding: identity\r\n\r\n", 400),
    "te_twice": (HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "te_control_byte": (HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "te_on_1_0": (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "te_with_cl": (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    "cl_with_te": (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "cl_differing": (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    "cl_duplicated": (HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    "cl_plus": (HEAD + b"Content-Length: +5\r\n\r\nhello", 400),
    "cl_list": (HEAD + b"Content-Length: 5, 5\r\n\r\nhello", 400),
    "cl_hex": (HEAD + b"Content-Length:  0x5\r\n\r\nhello", 400),
    "cl_empty": (HEAD + b"Content-Length:\r\n\r\n", 400),
    "cl_huge": (HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
    "cl_above_limit": (HEAD + b"Content-Length: 33554433\r\n\r\n", 413),
    "version_2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "version_1_2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    "version_0_9": (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    "version_missing": (b"GET /\r\n\r\n", 400),
    "other_protocol": (b"SETUP / RTSP/1.0\r\nHost: a\r\n\r\n", 400),
    "absolute_form": (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "authority_form": (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "asterisk_form": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "fragment": (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target_above_ascii": (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "two_spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "tab_in_request_line": (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "unknown_method": (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "lower_case_method": (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "control_byte_in_value": (HEAD + b"X: a\x01b\r\n\r\n", 400),
    "nul_in_value": (HEAD + b"X: a\x00b\r\n\r\n", 400),
    "control_byte_in_name": (HEAD + b"X\x01: a\r\n\r\n", 400),
    "obs_fold": (HEAD + b"X: a\r\n b\r\n\r\n", 400),
    "fold_on_first_header": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "bare_lf_ends_lines": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "bare_lf_ends_header": (HEAD + b"X: a\nY: b\r\n\r\n", 400),
    "bare_cr_in_value": (HEAD + b"X: a\rY: b\r\n\r\n", 400),
    "bare_cr_ends_lines": (b"GET / HTTP/1.1\rHost: a\r\r\n\r\n", 400),
    "space_before_colon": (HEAD + b"X : a\r\n\r\n", 400),
    "cl_with_space_before_colon": (HEAD + b"Content-Length : 5\r\n\r\nhello", 400),
    "no_colon": (HEAD + b"X\r\n\r\n", 400),
    "empty_name": (HEAD + b": a\r\n\r\n", 400),
    "two_blank_lines_first": (b"\r\n\r\n" + post(), 400),
    "tls_hello": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "long_request_line": (b"GET /" + b"a" * 9000, 414),
    "long_request_line_in_a_whole_head": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "long_head": (HEAD + b"X: " + b"a" * 40_000, 431),
    "long_whole_head": (HEAD + b"X: " + b"a" * 40_000 + b"\r\n\r\n", 431),
    "many_headers": (HEAD + b"x: 1\r\n" * 101 + b"\r\n", 431),
    "gzip_body": (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", 415),
    "other_expectation": (HEAD + b"Expect: 200-ok\r\nContent-Length: 5\r\n\r\nhello", 417),
    "auth_twice": (HEAD + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400),
    "api_key_twice": (HEAD + b"x-api-key: a\r\nX-Api-Key: b\r\n\r\n", 400),
    "content_type_twice": (HEAD + b"Content-Type: a/b\r\nContent-Type: a/b\r\n\r\n", 400),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_doubtful_head_is_refused_unseen_and_what_follows_is_not_served(name: str) -> None:
    data, status = REFUSED[name]
    got, handler, _ = run(outcome(data + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert got == status
    assert handler.events == []


def test_a_megabyte_of_head_is_refused_within_the_bound_and_the_client_reads_why() -> None:
    async def main() -> None:
        async with serving() as (_, connect):
            client = await connect()
            await client.send(HEAD + b"X: " + b"a" * 1_000_000)
            assert (await client.read_answer()).status == 431

    run(main())


def test_errors_name_the_path_where_it_is_known() -> None:
    async def main() -> None:
        async with serving() as (_, connect):
            got = await (await connect()).ask(b"POST /v1/messages HTTP/1.1\r\n\r\n")
            assert got.json == [400, "the Host header is missing", "/v1/messages"]
            got = await (await connect()).ask(CHUNKED_HEAD + b"x\r\n")
            assert got.json[2] == "/v1/chat/completions"

    run(main())


def test_one_blank_line_before_a_request_is_skipped() -> None:
    async def main() -> None:
        async with serving() as (_, connect):
            client = await connect()
            assert (await client.ask(post(b"a") + b"\r\n" + post(b"b"))).json[4] == "a"
            assert (await client.read_answer()).json[4] == "b"

    run(main())


def test_identity_content_encoding_is_no_encoding() -> None:
    async def main() -> None:
        async with serving() as (_, connect):
            assert (await (await connect()).ask(post(b"a", "Content-Encoding: identity"))).json[4] == "a"

    run(main())


def test_http_1_0_is_served_and_the_connection_ends_even_if_asked_to_stay() -> None:
    async def main() -> None:
        async with serving() as (_, connect):
            client = await connect()
            got = await client.ask(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert (got.status, got.headers["connection"], got.json[1]) == (200, "close", "/a")
            assert await client.is_at_end()

    run(main())


def test_connection_close_is_honoured() -> None:
    async def main() -> None:
        async with serving() as (_, connect):
            client = await connect()
            assert (await client.ask(post(b"a", "Connection: close"))).headers["connection"] == "close"
            assert await client.is_at_end()

    run(main())


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_an_upgrade_is_ignored_and_does_not_swallow_the_body(protocol: str) -> None:
    async def main() -> None:
        async with serving() as (_, connect):
            client = await connect()
            request = post(b"body", "Connection: Upgrade", f"Upgrade: {protocol}")
            assert (await client.ask(request + post(b"next"))).json[4] == "body"
            assert (await client.read_answer()).json[4] == "next"

    run(main())


# Bodies.


def test_a_chunked_body_is_joined_and_its_trailers_are_no_headers() -> None:
    async def main() -> None:
        handler = Recorder()
        async with serving(handler) as (_, connect):
            client = await connect()
            wire = b"5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nAuthorization: Bearer x\r\nX-Late: 1\r\n\r\n"
            got = await client.ask(CHUNKED_HEAD + wire + post(b"next"))
            assert got.json[3:] == [{"host": "127.0.0.1", "transfer-encoding": "chunked"}, "hello world"]
            assert (await client.read_answer()).json[3:] == [{"host": "a", "content-length": "4"}, "next"]

    run(main())


BAD_BODIES: dict[str, tuple[bytes, int]] = {
    "chunk_size_garbage": (b"zz\r\n", 400),
    "chunk_extension_of_a_megabyte": (b"5;" + b"e" * 1_000_000, 400),
    "extensions_without_end": ((b"1;" + b"e" * 200 + b"\r\nx\r\n") * 500, 400),
    "chunk_longer_than_said": (b"5\r\nhello world\r\n", 400),
    "chunk_line_ends_in_bare_lf": (b"5\nhello\r\n", 400),
    "trailers_of_a_megabyte": (b"0\r\n" + b"A: b\r\n" * 170_000, 400),
    "more_than_the_limit": (b"800\r\n" + b"x" * 2048 + b"\r\n0\r\n\r\n", 413),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_chunked_body_is_refused_and_the_handler_is_told(name: str) -> None:
    data, status = BAD_BODIES[name]

    async def main() -> None:
        handler = Recorder()
        async with serving(handler, Limits(body_bytes=1024)) as (_, connect):
            client = await connect()
            await client.send(CHUNKED_HEAD + data)
            assert (await client.read_answer()).status == status
            assert [event for event, _ in handler.events] == ["head", "gone"]
            assert handler.requests[0].is_gone
            handler.requests[0].respond(200, [], b"late")  # nothing comes of it
            assert await client.is_at_end()

    run(main())


def test_a_continue_is_sent_after_the_head_checks_and_only_if_the_body_is_waited_for() -> None:
    async def main() -> None:
        async with serving() as (_, connect):
            client = await connect()
            head, body = post(b"hello", "Expect: 100-Continue").split(b"\r\n\r\n")
            await client.send(head + b"\r\n\r\n")
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert (await client.ask(body)).json[4] == "hello"
            assert (await client.ask(post(b"whole", "Expect: 100-continue"))).status == 200

    run(main())


def test_no_continue_to_a_client_that_did_not_wait() -> None:
    bench = Bench(Recorder())
    bench.feed(post(b"hello", "Expect: 100-continue")[:-1])
    assert bench.transport.written == b""
    bench.feed(b"o")
    assert bench.transport.written.startswith(b"HTTP/1.1 200 OK")


def test_no_continue_when_the_head_is_answered_early() -> None:
    class Refusing(Recorder):
        def on_head(self, request: Request) -> None:
            super().on_head(request)
            request.respond(401, [("www-authenticate", "Bearer")], b"no")

    async def main() -> None:
        handler = Refusing()
        async with serving(handler) as (_, connect):
            client = await connect()
            got = await client.ask(HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            assert (got.status, got.body, got.headers["connection"]) == (401, b"no", "close")
            assert await client.is_at_end()
            assert handler.events == [("head", "/v1/chat/completions")]

    run(main())


def early(request: Request) -> None:
    request.respond(413, [], b"too long")


class Early(Recorder):
    """Answers every request at its head."""

    def on_head(self, request: Request) -> None:
        super().on_head(request)
        early(request)


def test_an_early_answer_reaches_a_client_that_is_still_sending() -> None:
    async def main() -> None:
        handler = Early()
        async with serving(handler) as (_, connect):
            client = await connect()
            await client.send(HEAD + b"Content-Length: 900000\r\n\r\n")
            assert (await client.read_answer()).body == b"too long"
            await client.send(b"x" * 900_000)  # discarded, not reset
            assert await client.is_at_end()
            assert [event for event, _ in handler.events] == ["head"]

    run(main())


def test_after_an_early_answer_input_is_discarded_up_to_a_bound() -> None:
    async def main() -> None:
        async with serving(Early()) as (listener, connect):
            client = await connect()
            await client.ask(HEAD + b"Content-Length: 33000000\r\n\r\n")
            with pytest.raises(ConnectionError):
                for _ in range(400):
                    await client.send(b"x" * LINGER_BYTES)
            await until(lambda: listener.connections == 0)

    run(main())


def test_after_an_early_answer_a_silent_client_is_closed() -> None:
    async def main() -> None:
        async with serving(Early()) as (listener, connect):
            client = await connect()
            await client.ask(HEAD + b"Content-Length: 5\r\n\r\n")
            await until(lambda: listener.connections == 0)  # the client neither sends nor closes

    run(main())


def test_an_early_answer_to_a_whole_request_keeps_the_connection() -> None:
    async def main() -> None:
        handler = Early()
        async with serving(handler) as (_, connect):
            client = await connect()
            for _ in range(2):
                got = await client.ask(post(b"body"))
                assert (got.status, "connection" in got.headers) == (413, False)
            assert [event for event, _ in handler.events] == ["head", "head"]

    run(main())


# Order.


def test_pipelined_requests_are_served_one_after_the_other() -> None:
    async def main() -> None:
        handler = Recorder(hold)
        async with serving(handler) as (_, connect):
            client = await connect()
            await client.send(b"".join(post(b"%d" % n, path=f"/{n}") for n in range(3)))
            for number in range(3):
                await until_requests(handler, number + 1)
                await asyncio.sleep(0.02)
                assert len(handler.requests) == number + 1, "the next request did not wait for the answer"
                answer(handler.requests[number])
                assert (await client.read_answer()).json[4] == str(number)

    run(main())


def test_a_handler_is_not_called_from_within_its_own_answer() -> None:
    depth: list[int] = []

    def answer_twice_over(request: Request) -> None:
        depth.append(1)
        answer(request)
        assert len(depth) == 1
        depth.pop()

    bench = Bench(Recorder(answer_twice_over))
    bench.feed(post(b"a") * 3)
    assert len(bench.handler.requests) == 3
    assert bench.loop.faults == []


def test_requests_pipelined_behind_a_chunked_body_are_served() -> None:
    async def main() -> None:
        async with serving() as (_, connect):
            client = await connect()
            await client.send((CHUNKED_HEAD + b"2\r\nab\r\n0\r\n\r\n") * 50)
            for _ in range(50):
                assert (await client.read_answer()).json[4] == "ab"

    run(main())


def test_more_pipelined_bytes_than_the_bound_are_not_served_and_end_the_connection_after_the_answer() -> None:
    async def main() -> None:
        handler = Recorder(hold)
        async with serving(handler) as (_, connect):
            client = await connect()
            await client.send(post(b"a") + post(b"x" * PIPELINE_BYTES, path="/late"))
            await until(lambda: handler.requests and not handler.requests[0]._connection._is_kept_alive)  # type: ignore[attr-defined]
            answer(handler.requests[0])
            assert (await client.read_answer()).headers["connection"] == "close"
            assert await client.is_at_end()
            assert len(handler.requests) == 1

    run(main())


def test_a_flood_behind_a_request_is_cut_and_reading_was_never_paused() -> None:
    async def main() -> None:
        handler = Recorder(hold)
        async with serving(handler) as (_, connect):
            client = await connect()
            await client.send(post(b"a"))
            with pytest.raises(ConnectionError):
                for _ in range(400):
                    await client.send(b"x" * LINGER_BYTES)
            await until(lambda: handler.events[-1][0] == "gone")

    run(main())


# Bytes in any order and of any kind.

WIRES = [
    post(b"hello") + post(b"") + post(b"world", "Connection: close"),
    CHUNKED_HEAD + b"5\r\nhello\r\n0\r\nA: b\r\n\r\n" + post(b"x" * 300),
    b"\r\n" + post(b"a") + b"\r\n" + post(b"b", "Expect: 100-continue"),
    post(b"a") + HEAD + b"Content-Length: 5, 5\r\n\r\n" + post(b"b"),
    post(b"a") + b"GET / HTTP/1.1\nHost: a\n\n",
    CHUNKED_HEAD + b"5\r\nhello!\r\n",
    b"GET / HTTP/1.0\r\n\r\n" + post(b"never"),
]


def replies(pieces: list[bytes]) -> tuple[bytes, list[Any], bool]:
    bench = Bench(Recorder())
    for piece in pieces:
        bench.feed(piece)
    seen = [(request.path, request.headers, request.body) for request in bench.handler.requests]
    written = bench.transport.written.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    return written, seen, bench.transport.has_eof


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(WIRES), st.data())
def test_requests_split_anywhere_have_the_same_result_as_whole(wire: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(wire) - 1), max_size=20)))
    edges = [0, *cuts, len(wire)]
    assert replies([wire[a:b] for a, b in itertools.pairwise(edges)]) == replies([wire])


@pytest.mark.parametrize("wire", WIRES)
def test_requests_in_single_bytes_have_the_same_result_as_whole(wire: bytes) -> None:
    whole = replies([wire])
    assert replies([bytes((number,)) for number in wire]) == whole
    assert whole[0].startswith(b"HTTP/1.1 ")


FRAGMENTS = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"GET / HTTP/1.1\r\n", b"Host: a\r\n", b"\r\n", b"\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n",
         b"5\r\n", b"Content-Length: 5\r\n", b"hello", b"\r", b": ", b" ", b"Expect: 100-continue\r\n", HEAD,
         CHUNKED_HEAD, post(b"a"), b"Connection: upgrade\r\nUpgrade: a\r\n", b"a" * 9000]
    ),
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(FRAGMENTS, max_size=12))
@example([b"\r\n", b"\r"])
@example([HEAD, b"\r\n", b"\r\n"])
def test_garbage_never_raises_and_never_leaves_a_connection_without_a_timer(fragments: list[bytes]) -> None:
    bench = Bench(Recorder())
    for fragment in fragments:
        if fragment:
            bench.feed(fragment)
    assert bench.loop.faults == []
    heads = [path for event, path in bench.handler.events if event == "head"]
    ends = [path for event, path in bench.handler.events if event in ("request", "gone")]
    assert len(heads) - len(ends) in (0, 1)
    for _ in range(4):  # whatever state it is in, its time runs out
        assert bench.connection.due < float("inf")
        bench.connection.on_due(bench.connection.due + 1)
    assert bench.transport.is_closed
    if bench.transport.written:
        assert bench.transport.written.startswith(b"HTTP/1.1 ")


def test_the_recorders_answer_is_json() -> None:
    assert json.loads(replies([post(b"a")])[0].split(b"\r\n\r\n", 1)[1])[0] == "POST"
