from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from crossfade.http1.limits import Limits
from crossfade.http1.listener import Listener
from crossfade.http1.server import ServerConnection
from tests.http1.harness import HEAD, Recorder, answer, hold, post, serving, until, until_requests
from tests.support import run


def test_a_port_in_use_raises_the_error_of_the_system() -> None:
    async def main() -> None:
        async with serving() as (listener, _):
            with pytest.raises(OSError, match="in use"):
                await Listener.open("127.0.0.1", listener.port, Recorder())

    run(main())


def test_listeners_may_share_a_port() -> None:
    async def main() -> None:
        first = await Listener.open("127.0.0.1", 0, Recorder(), reuse_port=True)
        second = await Listener.open("127.0.0.1", first.port, Recorder(), reuse_port=True)
        assert second.port == first.port
        await first.close()
        await second.close()

    run(main())


def test_a_socket_given_is_served_and_its_port_known() -> None:
    async def main() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        listener = await Listener.open(None, 0, Recorder(), sock=sock)
        assert listener.port == sock.getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(post(b""))
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        await listener.close()

    run(main())


def test_a_unix_socket_is_served(tmp_path: object) -> None:
    async def main() -> None:
        path = f"{tmp_path}/s"
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        handler = Recorder()
        listener = await Listener.open(None, 0, handler, sock=sock)
        assert listener.port == 0
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(post(b""))
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        assert handler.requests[0].peer == ("", 0)
        writer.close()
        await listener.close()

    run(main())


def test_accepted_sockets_send_small_writes_at_once() -> None:
    async def main() -> None:
        async with serving() as (listener, connect):
            client = await connect()
            await client.ask(post(b""))
            (connection,) = listener._connections
            sock = connection._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0

    run(main())


def test_more_connections_than_the_limit_are_answered_503() -> None:
    async def main() -> None:
        async with serving(None, Limits(max_connections=2)) as (listener, connect):
            first, second, third = await connect(), await connect(), await connect()
            got = await third.read_answer()
            assert (got.status, got.headers["connection"]) == (503, "close")
            assert await third.is_at_end()
            assert (await first.ask(post(b""))).status == (await second.ask(post(b""))).status == 200
            assert listener.connections == 2
            first.close()
            await until(lambda: listener.connections == 1)
            assert (await (await connect()).ask(post(b""))).status == 200

    run(main())


def test_drain_closes_the_idle_lets_work_finish_and_accepts_no_more() -> None:
    async def main() -> None:
        handler = Recorder(hold)
        async with serving(handler) as (listener, connect):
            port = listener.port
            idle, fresh, working, streaming, sending = [await connect() for _ in range(5)]
            for client in (idle, working, streaming):
                await client.send(post(b""))
            await until(lambda: len(handler.requests) == 3)
            by_peer = {request.peer: request for request in handler.requests}
            answer(by_peer[idle.writer.get_extra_info("sockname")])
            assert "connection" not in (await idle.read_answer()).headers
            stream = by_peer[streaming.writer.get_extra_info("sockname")]
            stream.start(200, [])
            stream.write(b"part")
            await sending.send(HEAD + b"Content-Length: 4\r\n\r\n")
            await until(lambda: len(handler.requests) == 4)

            draining = asyncio.create_task(listener.drain(10))
            assert await idle.is_at_end()
            assert await fresh.is_at_end()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            assert not draining.done()

            answer(by_peer[working.writer.get_extra_info("sockname")])
            assert (await working.read_answer()).headers["connection"] == "close"
            stream.finish(b"end")
            assert (await streaming.read_answer()).body == b"partend"
            await sending.send(b"body")
            await until(lambda: ("request", "/v1/chat/completions") in handler.events[-1:])
            answer(handler.requests[3])
            assert (await sending.read_answer()).headers["connection"] == "close"
            for client in (working, streaming, sending):
                assert await client.is_at_end()
                client.close()
            await draining
            assert listener.connections == 0
            assert "gone" not in {event for event, _ in handler.events}

    run(main())


def test_drain_serves_a_request_that_has_already_arrived() -> None:
    async def main() -> None:
        async with serving() as (listener, connect):
            client = await connect()
            await client.ask(post(b""))

            async def read_and_close() -> None:
                got = await client.read_answer()
                assert (got.json[4], got.headers["connection"]) == ("late", "close")
                client.close()

            client.writer.write(post(b"late"))  # with the kernel before the drain begins, and not yet read
            reading = asyncio.create_task(read_and_close())
            await listener.drain(10)
            await reading

    run(main())


def test_drain_aborts_what_outlasts_its_time() -> None:
    async def main() -> None:
        handler = Recorder(hold)
        async with serving(handler) as (listener, connect):
            client = await connect()
            await client.send(post(b""))
            await until(lambda: len(handler.events) == 2)
            await listener.drain(0.05)
            assert listener.connections == 0
            assert handler.events[-1][0] == "gone"
            assert await client.is_at_end()

    run(main())


def test_close_ends_connections_in_every_state_and_tells_their_handlers() -> None:
    async def main() -> None:
        handler = Recorder(hold)
        async with serving(handler) as (listener, connect):
            port = listener.port
            idle, head, body, work = [await connect() for _ in range(4)]
            await head.send(HEAD)
            await body.send(HEAD + b"Content-Length: 5\r\n\r\nab")
            await work.send(post(b""))
            await until(lambda: len(handler.events) == 3 and listener.connections == 4)
            await listener.close()
            assert listener.connections == listener.port == 0
            assert [event for event, _ in handler.events].count("gone") == 2
            for client in (idle, head, body, work):
                with contextlib.suppress(ConnectionResetError):
                    assert await client.is_at_end()
            again = await Listener.open("127.0.0.1", port, handler)  # the port is free again
            await again.close()
            await listener.close()  # a second time does no harm

    run(main())


def test_close_resets_a_stream_whose_end_would_look_proper() -> None:
    async def main() -> None:
        handler = Recorder(hold)
        async with serving(handler) as (listener, connect):
            client = await connect()
            await client.send(b"GET / HTTP/1.0\r\n\r\n")
            await until_requests(handler, 1)
            handler.requests[0].start(200, [])
            handler.requests[0].write(b"part")
            await client.read_head()
            await client.reader.readexactly(4)
            await listener.close()
            with pytest.raises(ConnectionResetError):
                await client.reader.read()

    run(main())


def test_one_ticker_serves_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ServerConnection] = []
    monkeypatch.setattr(ServerConnection, "on_due", lambda self, now: made.append(self))

    async def main() -> None:
        async with serving(None, Limits(idle_timeout=0.0)) as (listener, connect):
            clients = [await connect() for _ in range(3)]
            for client in clients:
                await client.ask(post(b""))
            await until(lambda: len(set(made)) == 3)
            assert set(made) == listener._connections

    run(main())


def test_repr_shows_the_state() -> None:
    async def main() -> None:
        handler = Recorder(hold)
        async with serving(handler) as (listener, connect):
            client = await connect()
            await client.send(post(b""))
            await until(lambda: len(handler.events) == 2)
            assert repr(listener) == f"<Listener port {listener.port} open, 1 connections>"
            (connection,) = listener._connections
            assert " work, 0 bytes kept>" in repr(connection)
            assert repr(handler.requests[0]) == "<Request POST /v1/chat/completions open>"
            await listener.close()
            assert repr(handler.requests[0]) == "<Request POST /v1/chat/completions gone>"
            assert "draining" in repr(listener)

    run(main())


def test_connections_that_wait_are_taken_together_and_not_one_in_a_turn_of_the_loop() -> None:
    async def main() -> None:
        async with serving() as (listener, _):
            clients = [socket.socket() for _ in range(200)]
            try:
                for client in clients:
                    client.connect(("127.0.0.1", listener.port))  # the kernel answers, though nobody has accepted yet
                assert listener.connections == 0
                for _ in range(30):
                    await asyncio.sleep(0)
                assert listener.connections == 200
            finally:
                for client in clients:
                    client.close()
            await until(lambda: listener.connections == 0)

    run(main())


def test_nothing_listens_any_more_once_it_is_closed() -> None:
    async def main() -> None:
        listener = await Listener.open("127.0.0.1", 0, Recorder())
        port = listener.port
        await listener.close()
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) != 0

    run(main())
