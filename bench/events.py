"""The upstream of the streams: constant events, one write each, paced by one ticker.

Run as `python -m bench.events LONG_PORT SHORT_PORT`. It speaks just enough HTTP/1.1 for well-behaved proxies.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Final, cast

import uvloop

from bench.apis import UPSTREAMS
from bench.content import EVENTS, UPSTREAM_HEADERS, stream_events

PACE: Final = 0.001
"""Seconds between two events of a stream, at least: the ticker does not make up for lost time, so that no two
events of a stream leave together."""
SHORT: Final = 3
"""Events with text in a stream of which only the first matters."""

_HEAD: Final = (
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
    + "".join(f"{name}: {value}\r\n" for name, value in UPSTREAM_HEADERS.items())
    + "\r\n"
).encode()


def streams(count: int) -> dict[bytes, tuple[bytes, ...]]:
    """Every stream with `count` events of text, by what in a request tells that it is wanted; the last is of all."""
    others = {api.marks.encode(): pieces(api.events(count)) for name, api in UPSTREAMS.items() if name != "chat"}
    chat = {mark: pieces(stream_events(count, with_usage=bool(mark))) for mark in (b'"include_usage":true', b"")}
    return {**others, **chat}


def pieces(events: Sequence[bytes]) -> tuple[bytes, ...]:
    """What is written for one stream, one write an item: the head goes with the first event."""
    chunks = [b"%x\r\n%s\r\n" % (len(event), event) for event in events]
    return (_HEAD + chunks[0], *chunks[1:-1], chunks[-1] + b"0\r\n\r\n")


class Ticker:
    """Writes the next piece of every stream under way, once a tick."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._streams: dict[asyncio.Transport, tuple[tuple[bytes, ...], int]] = {}
        self._is_ticking = False

    def add(self, transport: asyncio.Transport, stream: tuple[bytes, ...]) -> None:
        transport.write(stream[0])
        self._streams[transport] = (stream, 1)
        if not self._is_ticking:
            self._is_ticking = True
            self._loop.call_later(PACE, self._tick)

    def remove(self, transport: asyncio.Transport) -> None:
        self._streams.pop(transport, None)

    def _tick(self) -> None:
        for transport, (stream, at) in list(self._streams.items()):
            transport.write(stream[at])
            if at + 1 < len(stream):
                self._streams[transport] = (stream, at + 1)
            else:
                del self._streams[transport]
        self._is_ticking = bool(self._streams)
        if self._is_ticking:
            self._loop.call_later(PACE, self._tick)


class Connection(asyncio.Protocol):
    """One connection of a proxy. The stream is of the API that it is asked by; OpenAI's has usage where asked for."""

    def __init__(self, streams: dict[bytes, tuple[bytes, ...]], ticker: Ticker) -> None:
        self._streams, self._ticker = streams, ticker
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, blank, rest = self._buffer.partition(b"\r\n\r\n")
        length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
        if not blank or len(rest) < int(length.partition(b":")[2]):
            return
        asked, self._buffer = self._buffer, b""
        stream = next(stream for mark, stream in self._streams.items() if mark in asked)
        assert self._transport is not None
        self._ticker.add(self._transport, stream)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._ticker.remove(self._transport)


async def serve(long_port: int, short_port: int) -> None:
    """Serves both ports until killed."""
    loop = asyncio.get_running_loop()
    ticker = Ticker(loop)
    long, short = streams(EVENTS), streams(SHORT)
    await loop.create_server(lambda: Connection(long, ticker), "127.0.0.1", long_port)
    await loop.create_server(lambda: Connection(short, ticker), "127.0.0.1", short_port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), int(sys.argv[2])))
