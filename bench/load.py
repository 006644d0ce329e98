"""The load: wrk for whole answers, a small client of our own for streams. Every answer counts only if it is right."""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, cast

import msgspec
import uvloop

from bench.apis import CALLERS, Caller
from bench.content import EVENTS, answer_body, stream_words
from bench.events import SHORT
from bench.machine import BenchError, which

CONNECTIONS: Final = 32
STREAMS: Final = 16
SAMPLE_EVERY: Final = 0.1
"""Seconds between two answers that are compared byte by byte while wrk is running."""


class Load(msgspec.Struct, frozen=True):
    """What a run of wrk amounted to: answers, all of them right, and their latency in milliseconds."""

    requests: int
    p50_ms: float
    p99_ms: float


class Ask(msgspec.Struct, frozen=True):
    """What is asked: a route of crossfade (to nginx it means nothing), by an API. `is_right` is whether a whole answer
    is the right one: byte for byte, where it passes as it came."""

    route: str
    caller: Caller = CALLERS["chat"]
    is_right: Callable[[bytes], bool] = answer_body().__eq__

    @property
    def body(self) -> bytes:
        return self.caller.request(self.route)

    def raw_stream(self) -> bytes:
        """The bytes of a request for a stream, for clients that write them themselves."""
        body = self.caller.request(self.route, stream=True)
        lines = [f"{name}: {value}\r\n" for name, value in self.caller.headers.items()]
        head = f"POST {self.caller.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{''.join(lines)}"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def run_wrk(port: int, ask: Ask, seconds: float, folder: Path, *, fallbacks: int | None) -> Load:
    """Loads `port` for about `seconds`, and compares an answer now and then. Raises BenchError for any that is
    wrong. `fallbacks` is how many the answers of crossfade must say; None: it is nginx that answers."""
    program = which("wrk")
    assert program is not None
    body, headers = folder / "body", folder / "headers"
    body.write_bytes(ask.body)
    headers.write_text("".join(f"{name}: {value}\n" for name, value in ask.caller.headers.items()))
    script = Path(__file__).with_name("load.lua")
    command = [program, "-t1", f"-c{CONNECTIONS}", f"-d{max(1, math.ceil(seconds))}s", "--timeout", "10s"]
    command += ["-s", str(script), f"http://127.0.0.1:{port}{ask.caller.path}"]
    environ = {"BENCH_BODY": str(body), "BENCH_HEADERS": str(headers)}
    sampler = Sampler(port, ask, fallbacks)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ) as wrk:
        try:
            while wrk.poll() is None:
                sampler.take()
                time.sleep(SAMPLE_EVERY)
        except BaseException:
            wrk.kill()
            raise
        assert wrk.stdout is not None
        output = wrk.stdout.read()
    return _read_result(output, sampler.count)


def _read_result(output: str, sampled: int) -> Load:
    found = re.search(r"^RESULT (.*)$", output, re.MULTILINE)
    if found is None:
        raise BenchError(f"wrk gave no result:\n{output}")
    result = json.loads(found[1])
    wrong = {name: result[name] for name in ("refused", "broken", "timeouts") if result[name]}
    if wrong or not result["requests"]:
        raise BenchError(f"not all answers were good: {wrong or 'there were none'} of {result['requests']}")
    return Load(result["requests"] + sampled, result["p50_ms"], result["p99_ms"])


class Sampler:
    """Asks as the load does, on a connection of its own, and compares the whole answer."""

    def __init__(self, port: int, ask: Ask, fallbacks: int | None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self._ask, self._body = ask, ask.body
        self._fallbacks = None if fallbacks is None else str(fallbacks)
        self.count = 0

    def take(self) -> None:
        """One request and its answer. Raises BenchError where the answer is not the upstream's."""
        try:
            self._connection.request("POST", self._ask.caller.path, self._body, self._ask.caller.headers)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"a request failed: {error!r}") from None
        self.count += 1
        if response.status != 200 or not self._ask.is_right(body):
            raise BenchError(f"a wrong answer: {response.status} {body[:500]!r}")
        if response.headers.get("x-crossfade-fallbacks") != self._fallbacks:
            raise BenchError(f"a wrong number of fallbacks: {response.headers.get('x-crossfade-fallbacks')}")


def check_stream(data: bytes, count: int, caller: Caller) -> None:
    """Raises BenchError unless `data` is one whole streamed answer with `count` events of text."""
    head, _, rest = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise BenchError(f"a wrong answer: {data[:500]!r}")
    chunks = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        chunks.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    body = b"".join(chunks)
    words = [word.decode() for word in caller.piece.findall(body) if word]
    if words != stream_words(count) or not body.endswith(caller.end):
        raise BenchError(f"a stream came broken: {len(words)} of {count} events, ending in {body[-200:]!r}")


class Streamed(msgspec.Struct):
    """What the streams of a run amounted to; `reads` is how often the client had something to read."""

    streams: int = 0
    reads: int = 0

    @property
    def events(self) -> int:
        """Events with text that came; what else a stream has (head, finish, end marker) is counted to these."""
        return self.streams * EVENTS


def run_streams(port: int, ask: Ask, seconds: float) -> Streamed:
    """Reads `STREAMS` streams at a time for about `seconds`, each to its end, and checks each."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run_streams(port, ask, seconds))


async def _run_streams(port: int, ask: Ask, seconds: float) -> Streamed:
    loop = asyncio.get_running_loop()
    result = Streamed()
    deadline = loop.time() + seconds
    clients = [_StreamClient(ask, deadline, result, loop) for _ in range(STREAMS)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
        await asyncio.sleep(0.01)
    try:
        await asyncio.wait_for(asyncio.gather(*(client.done for client in clients)), seconds + 60)
    except TimeoutError:
        raise BenchError("streams did not come to their end") from None
    return result


class _StreamClient(asyncio.Protocol):
    """One stream after the other on one connection, until the deadline."""

    def __init__(self, ask: Ask, deadline: float, result: Streamed, loop: asyncio.AbstractEventLoop) -> None:
        self._caller, self._request = ask.caller, ask.raw_stream()
        self._deadline, self._result, self._loop = deadline, result, loop
        self._pieces: list[bytes] = []
        self.done: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._result.reads += 1
        self._pieces.append(data)
        if data.endswith(b"0\r\n\r\n"):
            self._on_whole()

    def _on_whole(self) -> None:
        assert self._transport is not None
        stream = b"".join(self._pieces)
        self._pieces.clear()
        try:
            check_stream(stream, EVENTS, self._caller)
        except BenchError as error:
            self.done.set_exception(error)
            self._transport.abort()
            return
        self._result.streams += 1
        if self._loop.time() < self._deadline:
            self._transport.write(self._request)
        else:
            self.done.set_result(None)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(BenchError(f"a connection was lost in mid-stream: {exc!r}"))


class FirstEventClient:
    """Times the first event of short streams, one at a time, on a few connections in turn."""

    def __init__(self, port: int, ask: Ask, connections: int = 4) -> None:
        self._caller, self._request = ask.caller, ask.raw_stream()
        self._connections = [_connected(port) for _ in range(connections)]
        self._turn = 0

    def time_one(self) -> float:
        """Seconds from the request to the first event with text. Raises BenchError for an answer that is wrong."""
        self._turn = (self._turn + 1) % len(self._connections)
        connection = self._connections[self._turn]
        data = b""
        began = time.perf_counter()
        connection.send(self._request)
        first = None
        while not data.endswith(b"0\r\n\r\n"):
            piece = connection.sock.recv(65536)
            data += piece
            if first is None and any(self._caller.piece.findall(data)):
                first = time.perf_counter()
            if not piece:
                raise BenchError(f"a connection was lost in mid-stream: {data[:500]!r}")
        check_stream(data, SHORT, self._caller)
        assert first is not None
        return first - began


def _connected(port: int) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=20
    )  # it sets TCP_NODELAY, and its socket is used
    connection.connect()
    return connection


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
