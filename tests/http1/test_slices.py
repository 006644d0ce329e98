"""A response that comes faster than it can be read is read in slices: other connections have turns in between."""

from __future__ import annotations

import asyncio

import pytest

from crossfade.http1.client import READ_BYTES, SLICE_BYTES, ClientConnection
from tests.http1.test_client import Peer
from tests.support import run

SIZE = 10 * READ_BYTES
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE


class Sliced(Peer):
    """Counts the pieces in which the body is delivered, and can pause at one of them."""

    def __init__(self, pause_at: int = 0) -> None:
        super().__init__()
        self.pieces: list[int] = []
        self.pause_at = pause_at

    def on_body(self, data: bytes) -> None:
        self.pieces.append(len(data))
        if len(self.pieces) == self.pause_at:
            self.connection.pause()


async def turns(peer: Sliced) -> int:
    """Turns of the loop until nothing more is delivered."""
    count = 0
    while True:
        before = len(peer.pieces)
        await asyncio.sleep(0)
        if len(peer.pieces) == before:
            return count
        count += 1


def fed(peer: Sliced, *more: bytes) -> Sliced:
    peer.start()
    peer.connection.data_received(HEAD + b"x" * SIZE + b"".join(more))
    return peer


def test_a_flood_is_read_a_slice_a_turn_and_nothing_more_is_taken_meanwhile() -> None:
    async def main() -> None:
        peer = fed(Sliced())
        assert sum(peer.pieces) <= SLICE_BYTES
        assert not peer.transport.is_reading
        assert await turns(peer) >= SIZE // SLICE_BYTES - 1
        assert (sum(peer.pieces), max(peer.pieces)) == (SIZE, SLICE_BYTES)
        assert peer.facts[-1] == ("end", None)
        assert peer.is_reusable
        assert peer.transport.is_reading

    run(main())


def test_what_comes_in_everyday_pieces_is_read_at_once() -> None:
    peer = Sliced()  # outside of any loop: nothing can have been put off
    peer.start()
    peer.feed(HEAD, *[b"x" * READ_BYTES] * 10)
    assert peer.facts[-1] == ("end", None)


def test_pausing_stops_the_slices_too_and_resuming_goes_on_in_order() -> None:
    async def main() -> None:
        peer = fed(Sliced(pause_at=3))
        await turns(peer)
        assert len(peer.pieces) == 3
        assert not peer.transport.is_reading
        peer.connection.resume()
        await turns(peer)
        assert sum(peer.pieces) == SIZE
        assert peer.is_reusable
        assert peer.transport.is_reading

    run(main())


def test_a_close_drops_what_was_not_read() -> None:
    async def main() -> None:
        peer = fed(Sliced())
        peer.connection.close()
        seen = list(peer.pieces)
        await turns(peer)
        assert peer.pieces == seen
        assert peer.owner_facts == ["closed"]

    run(main())


@pytest.mark.parametrize("end", ["eof", "lost"])
def test_what_came_before_the_end_of_the_connection_is_read(end: str) -> None:
    async def main() -> None:
        peer = fed(Sliced())
        if end == "eof":
            peer.connection.eof_received()
        else:
            peer.connection.connection_lost(None)
        assert sum(peer.pieces) == SIZE
        assert peer.facts[-1] == ("end", None)

    run(main())


def test_bytes_behind_the_response_end_the_connection_also_in_a_later_slice() -> None:
    async def main() -> None:
        peer = fed(Sliced(), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno" * 5000)
        await turns(peer)
        assert sum(peer.pieces) == SIZE
        assert peer.facts[-1] == ("end", None)
        assert not peer.is_reusable
        assert peer.transport.is_aborted

    run(main())


def test_a_server_that_floods_keeps_nobody_from_the_loop() -> None:
    """Over a real socket: between two slices, others have had their turn."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        between = 0
        worst = 0

        is_over = False

        def tick() -> None:
            nonlocal between
            between = 0
            if not is_over:
                loop.call_soon(tick)

        ended = asyncio.Event()

        class Counted(Sliced):
            def on_end(self) -> None:
                ended.set()

            def on_body(self, data: bytes) -> None:
                nonlocal between, worst
                between += len(data)
                worst = max(worst, between)

        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(HEAD.replace(b"%d" % SIZE, b"%d" % (8 * SIZE)) + b"x" * (8 * SIZE))
            await reader.read()
            writer.close()
            gone.set()

        gone = asyncio.Event()
        server = await asyncio.start_server(flood, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        peer = Counted()
        peer.connection = ClientConnection(peer)
        transport, _ = await loop.create_connection(lambda: peer.connection, "127.0.0.1", port)
        tick()
        peer.start()
        await ended.wait()
        assert worst <= READ_BYTES + SLICE_BYTES
        transport.close()
        await gone.wait()
        is_over = True
        server.close()
        await server.wait_closed()

    run(main())
