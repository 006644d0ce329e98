"""Four times as many requests as a worker can serve: how much it still gets done, and how soon the others hear no.

The requests are streams of 200 events that the upstream, nginx, sends in one go. The load comes from a process of its
own, at its own pace, whether answers come or not. Run as `python -m bench.overload PORT RATE SECONDS` this is that
process: RATE 0 asks again on each of a few connections as soon as it is answered, which finds out what can be done.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, cast

import uvloop

from bench.content import HEADERS, MODEL, QUESTION, stream_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.machine import Process
    from bench.scenarios import Bench, Result

EVENTS: Final = 200
TIMES: Final = 4
CLOSED: Final = 64
"""Connections that find out what can be done."""
MOST: Final = 4_000
"""Connections of the load; a request that finds none idle, and no room for another one, counts as lost."""
_SETTLING: Final = 1.0
"""Seconds in which the worker may find out that it is overloaded; they are not counted."""
_PACE: Final = 0.002

_CONFIG: Final = """
server: {{listen: 127.0.0.1:{port}, admin: 127.0.0.1:{admin}, auth: keys}}
gateway_keys: [{{name: bench, key: env:BENCH_GATEWAY_KEY}}]
state_dir: {state}
log: {{level: error}}
providers:
  good: {{dialect: openai, base_url: http://127.0.0.1:{good}/v1, api_keys: [env:BENCH_UPSTREAM_KEY]}}
routes: {{chat: {{chain: [good/{model}]}}}}
"""


def measure_overload(bench: Bench) -> list[Result]:
    """Goodput of four times the load against that of the load that can just be served; refusals; memory."""
    from bench.scenarios import Result

    shares, refusals, grown, notes = [], [], [], []
    for number in range(bench.plan.rounds):
        with _stage(bench) as (process, port):
            seconds = 2 * bench.plan.seconds
            peak = _load(port, 0.0, seconds)
            before = process.memory()["rss"]
            over = _load(port, TIMES * peak["served_per_s"], seconds)
            process.check()
            grown.append(process.memory()["rss"] - before)
        shares.append(-over["served_per_s"] / peak["served_per_s"])
        refusals.append(over["refused_p99_ms"])
        notes.append(
            f"{peak['served_per_s']:,.0f} streams/s can be served; of {over['offered_per_s']:,.0f}/s"
            f" {over['served_per_s']:,.0f} were (p50 {over['served_p50_ms']:.0f} ms, p99 {over['served_p99_ms']:.0f}),"
            f" {over['refused_per_s']:,.0f} refused, {over['lost']:.0f} in all not sent"
        )
        bench.note(f"overload: round {number + 1}: {notes[-1]}")
    return [
        Result(name="overload 4 x, goodput lost", values=[1 + share for share in shares], reach=0.2, form="{:.0%}"),
        Result(name="overload 4 x, p99 of refusals", values=refusals, reach=50.0, form="{:.0f} ms"),
        Result(name="overload 4 x, memory grown by", values=grown, reach=100.0, form="{:.0f} MiB", notes=notes[-1:]),
    ]


@contextmanager
def _stage(bench: Bench) -> Iterator[tuple[Process, int]]:
    from bench import crossfade, nginx
    from bench.machine import Process, free_ports

    port, admin, good = free_ports(3)
    folder = bench.folder
    (folder / "whole.sse").write_bytes(b"".join(stream_events(EVENTS, with_usage=True)))
    http = (
        f"types {{ text/event-stream sse; }} server {{ listen 127.0.0.1:{good}; root {folder};"
        " location / { rewrite ^ /whole.sse break; error_page 405 =200 $uri; } }"
    )
    file = folder / f"overload-{port}.yaml"
    state = folder / f"state-{port}"
    file.write_text(_CONFIG.format(port=port, admin=admin, good=good, state=state, model=MODEL))
    command = nginx.command(folder, f"whole-{port}", http)
    with Process(command, bench.cores.load, folder / f"whole-{port}.log") as upstream:
        upstream.wait_for(good)
        serve = crossfade.serve(bench.python, file)
        with Process(serve, bench.cores.proxy, folder / f"overload-{port}.log", crossfade.ENVIRON) as process:
            process.wait_for(port)
            yield process, port


def _load(port: int, rate: float, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.overload", str(port), str(rate), str(seconds)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    if found["wrong"]:
        from bench.machine import BenchError

        raise BenchError(f"{found['wrong']:.0f} answers were neither whole streams nor refusals")
    return found


# --- the load ------------------------------------------------------------------------------------------------------


class _Load:
    """All connections, and what came of the requests: seconds of each that was served, and that was refused."""

    def __init__(self, port: int, rate: float, seconds: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.port, self.rate = port, rate
        self.counted_from = time.perf_counter() + _SETTLING
        self.ends_at = self.counted_from + seconds
        self.request = _request()
        self.idle: deque[_Connection] = deque()
        self.connections = 0
        self.opening: set[asyncio.Future[None]] = set()
        self.offered = 0
        self.lost = 0
        self.wrong = 0
        self.served: list[float] = []
        self.refused: list[float] = []

    async def run(self) -> None:
        if not self.rate:
            for _ in range(CLOSED):
                self.begin(time.perf_counter())
            await asyncio.sleep(self.ends_at - time.perf_counter())
            return
        began, sent = time.perf_counter(), 0
        while (now := time.perf_counter()) < self.ends_at:
            due = int((now - began) * self.rate)
            for _ in range(due - sent):
                self.begin(now)
            sent = due
            await asyncio.sleep(_PACE)

    def begin(self, now: float) -> None:
        if now >= self.counted_from:
            self.offered += 1
        if self.idle:
            self.idle.pop().ask(now)
        elif self.connections < MOST:
            self.connections += 1
            connection = _Connection(self, now)
            self.opening.add(task := asyncio.ensure_future(self._open(connection)))
            task.add_done_callback(self.opening.discard)
        else:
            self.lost += 1

    async def _open(self, connection: _Connection) -> None:
        await self.loop.create_connection(lambda: connection, "127.0.0.1", self.port)

    def on_answer(self, connection: _Connection, kind: str, seconds: float, now: float) -> None:
        if self.counted_from <= now < self.ends_at:
            if kind == "served":
                self.served.append(seconds)
            elif kind == "refused":
                self.refused.append(seconds)
            else:
                self.wrong += 1
        self.idle.append(connection)
        if not self.rate and now < self.ends_at:
            self.begin(now)

    def figures(self) -> dict[str, float]:
        seconds = self.ends_at - self.counted_from
        return {
            "offered_per_s": self.offered / seconds,
            "served_per_s": len(self.served) / seconds,
            "refused_per_s": len(self.refused) / seconds,
            "served_p50_ms": _share_of(self.served, 0.5) * 1000,
            "served_p99_ms": _share_of(self.served, 0.99) * 1000,
            "refused_p99_ms": _share_of(self.refused, 0.99) * 1000,
            "lost": self.lost,
            "wrong": self.wrong,
        }


class _Connection(asyncio.Protocol):
    """One request at a time. `asked_at` is when it should have been sent."""

    def __init__(self, load: _Load, asked_at: float) -> None:
        self._load = load
        self._asked_at = asked_at
        self._answer = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._load.request)

    def ask(self, now: float) -> None:
        self._asked_at = now
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        answer += data
        if answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"0\r\n\r\n"):
            kind = "served" if b"data: [DONE]\n\n" in answer[-200:] and len(answer) > 100 * EVENTS else "wrong"
        elif answer.startswith(b"HTTP/1.1 503") and answer.endswith(b"}}"):
            kind = "refused" if b"gateway_overloaded" in answer else "wrong"
        else:
            return
        answer.clear()
        now = time.perf_counter()
        self._load.on_answer(self, kind, now - self._asked_at, now)

    def connection_lost(self, error: Exception | None) -> None:
        self._load.wrong += time.perf_counter() < self._load.ends_at


def _request() -> bytes:
    asked = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": QUESTION}]}
    body = json.dumps(asked).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    lines = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}Content-Length: {len(body)}\r\n\r\n"
    return lines.encode() + body


def _share_of(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


async def _run(port: int, rate: float, seconds: float) -> dict[str, float]:
    load = _Load(port, rate, seconds)
    await load.run()
    return load.figures()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.write(json.dumps(runner.run(_run(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))))
