"""What callers notice while providers fail, over real sockets: a primary that is killed and comes back, one that flaps,
one of which a share of calls fails, and all of them down at once.

Providers are simulators in processes of their own, so that one can be killed. Every answer is compared with what a
healthy provider would have said, to the letter, streamed or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import crossfade, plot
from bench.content import GATEWAY_KEY
from bench.load import percentile
from bench.machine import BenchError, Process, free_ports
from bench.pools import FIGURES
from bench.scenarios import Bench, Result
from bench.simulated import calls, load, schedule, simulator
from crossfade.testing import healthy_text

RATE: Final = 200.0
"""Requests a second, half of them streamed."""
DOWN_RATE: Final = 1000.0
"""Requests a second while everything is down."""
WORDS: Final = 12
OK: Final = {"kind": "ok", "words": WORDS}
PATIENCE: Final = 30.0
"""Seconds after which a caller gives up, which counts as a failure."""
OPENING: Final = 2.0
"""Seconds that breakers are given to open in, where everything is down."""
_FAULTS: Final = ("500", "503", "reset", "empty", "malformed", "cut@middle")
_SEED: Final = 30


class Asked(msgspec.Struct, frozen=True):
    """One request: when it was sent (seconds from the start of the load), how long it took, who answered ("": nobody),
    and what was wrong with the answer ("": nothing)."""

    at: float
    seconds: float
    provider: str
    wrong: str


def measure_outages(bench: Bench) -> list[Result]:
    """All four; plots of the first are written to `bench/figures`."""
    FIGURES.mkdir(exist_ok=True)
    seconds = 12 * bench.plan.seconds
    results = []
    for measure in (_killed, _flapping, _brownout, _all_down):
        with _stage(bench) as stage:
            results += measure(stage, seconds)
    return results


# --- the four ------------------------------------------------------------------------------------------------------


def _killed(stage: _Stage, seconds: float) -> list[Result]:
    """The primary is killed after a third of the time, and started again after another."""
    killed, back = seconds / 3, 2 * seconds / 3

    async def fate() -> None:
        await asyncio.sleep(killed)
        stage.kill_primary()
        await asyncio.sleep(back - killed)
        await asyncio.to_thread(stage.start_primary)

    asked = stage.load(seconds, RATE, fate)
    per_second = [[one for one in asked if int(one.at) == second] for second in range(int(seconds))]
    shares = [sum(one.provider == "a" for one in part) / max(1, len(part)) for part in per_second]
    plot.bars(
        FIGURES / "outage-killed.svg",
        f"requests answered by the primary, by second (killed at {killed:.0f} s, back at {back:.0f} s)",
        [(f"{second} s", share * RATE) for second, share in enumerate(shares)],
    )
    returned = [second for second in range(int(back), int(seconds)) if shares[second] >= 0.5]
    after = returned[0] + 1 - back if returned else float("inf")
    herd = max((later - former for former, later in zip(shares[int(back) :], shares[int(back) + 1 :], strict=False)))
    slow = [one.seconds for one in asked if killed <= one.at < back]
    note = (
        f"{len(asked):,} requests; while it was gone p50 {statistics.median(slow) * 1000:.1f} ms, "
        f"p99 {percentile(slow, 0.99) * 1000:.0f} ms, slowest {max(slow) * 1000:.0f} ms; the share of the primary grew "
        f"by at most {herd:.0%} from one second to the next when it was back"
    )
    return [
        _failures("killed, callers that noticed", asked, 0.0, note),
        Result(name="killed, half of traffic back", values=[after], reach=10.0, form="{:.0f} s"),
    ]


def _flapping(stage: _Stage, seconds: float) -> list[Result]:
    """The primary answers 503 for three seconds, answers well for three, and so on."""

    async def fate() -> None:
        while True:
            for then in ({"kind": "503"}, OK):
                await asyncio.to_thread(schedule, stage.primary, "a", [], then)
                await asyncio.sleep(3.0)

    asked = stage.load(seconds, RATE, fate)
    return [_failures("flapping, not answered", asked, 1e-4, _served(asked))]


def _brownout(stage: _Stage, seconds: float) -> list[Result]:
    """Three of ten calls of the primary fail, each in one of six ways."""
    lots = random.Random(_SEED)
    steps = [{"kind": lots.choice(_FAULTS)} if lots.random() < 0.3 else dict(OK) for _ in range(4000)]
    for step in steps:
        kind, _, at = str(step["kind"]).partition("@")
        step |= {"kind": kind, "words": WORDS} | ({"at": at} if at else {}) if kind == "cut" else {}

    async def fate() -> None:
        while True:  # a schedule may be so long only, and the primary may be asked more often
            await asyncio.to_thread(schedule, stage.primary, "a", steps, OK)
            await asyncio.sleep(len(steps) / RATE / 2)

    asked = stage.load(seconds, RATE, fate)
    return [_failures("brown-out, not answered", asked, 1e-4, _served(asked))]


def _all_down(stage: _Stage, seconds: float) -> list[Result]:
    """Every call fails; the callers have to hear so at once, and the providers must not be stormed."""
    for port in (stage.primary, stage.others):
        schedule(port, None, [], {"kind": "503"})
    lasts = max(10.0, seconds / 4)
    asked = stage.load(lasts, DOWN_RATE, None)
    made = calls(stage.primary) + calls(stage.others)
    refused = [one.seconds for one in asked if one.at >= OPENING]
    if any(not one.wrong.startswith("503 ") for one in asked):
        raise BenchError(f"something else than 503: {next(one for one in asked if not one.wrong.startswith('503 '))}")
    allowed = 1.2 * len(asked) + 10.0 * lasts
    return [
        Result(
            name="all down, calls of the allowed",
            values=[made / allowed],
            reach=1.0,
            form="{:.4f} x",
            notes=[f"{made:,} calls for {len(asked):,} requests; allowed are 1.2 for each and 10 a second"],
        ),
        Result(
            name="all down, p99 of refusals",
            values=[percentile(refused, 0.99) * 1000],
            reach=50.0,
            form="{:.1f} ms",
            notes=[
                f"{len(refused):,} from {OPENING:.0f} s on: p50 {statistics.median(refused) * 1000:.1f} ms, "
                f"slowest {max(refused) * 1000:.1f} ms"
            ],
        ),
    ]


def _failures(name: str, asked: list[Asked], reach: float, note: str) -> Result:
    wrong = [one for one in asked if one.wrong]
    notes = [note, *(f"at {one.at:.2f} s after {one.seconds:.2f} s: {one.wrong}" for one in wrong[:5])]
    return Result(name=name, values=[len(wrong) / len(asked)], reach=reach, form="{:.4%}", notes=notes)


def _served(asked: list[Asked]) -> str:
    share = sum(one.provider == "a" for one in asked) / len(asked)
    times = [one.seconds for one in asked]
    return (
        f"{len(asked):,} requests, {share:.0%} answered by the primary; p50 {statistics.median(times) * 1000:.1f} ms, "
        f"p99 {percentile(times, 0.99) * 1000:.0f} ms, slowest {max(times) * 1000:.0f} ms"
    )


# --- what they stand on --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _stage(bench: Bench) -> Iterator[_Stage]:
    """A simulator that is the primary, one that plays the two behind it, and crossfade in front of them."""
    primary, others, port, admin = free_ports(4)
    file = bench.folder / "outages.yaml"
    file.write_text(_config(bench.folder, primary, others, port, admin))
    with contextlib.ExitStack() as stack:
        stack.enter_context(simulator(bench, others, "outages-others")).wait_for(others)
        command = crossfade.serve(bench.python, file)
        process = Process(command, bench.cores.proxy, bench.folder / "outages.log", crossfade.ENVIRON)
        stage = _Stage(bench, primary, others, port)
        stack.callback(stage.kill_primary)
        stage.start_primary()
        schedule(others, None, [], dict(OK))
        stack.enter_context(process).wait_for(port)
        yield stage
        process.check()


def _config(folder: Path, primary: int, others: int, port: int, admin: int) -> str:
    urls = {
        "a": ("openai", f"http://127.0.0.1:{primary}/p/a/v1"),
        "b": ("openai", f"http://127.0.0.1:{others}/p/b/v1"),
        "c": ("openai", f"http://127.0.0.1:{others}/p/c/v1"),
    }
    return json.dumps(
        {
            "server": {"listen": f"127.0.0.1:{port}", "admin": f"127.0.0.1:{admin}"},
            "gateway_keys": [{"name": "bench", "key": "env:BENCH_GATEWAY_KEY"}],
            "state_dir": str(folder / "outages-state"),
            "providers": {
                name: {"dialect": dialect, "base_url": url, "api_keys": []} for name, (dialect, url) in urls.items()
            },
            "routes": {"chat": {"chain": ["a/m", "b/m", "c/m"]}},
        }
    )


class _Stage:
    """The processes of one measurement, and a caller."""

    def __init__(self, bench: Bench, primary: int, others: int, port: int) -> None:
        self.primary, self.others = primary, others
        self._bench, self._port = bench, port
        self._process: Process | None = None
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._began = 0.0

    def start_primary(self) -> None:
        """The primary listens when this returns, and is well."""
        self._process = simulator(self._bench, self.primary, "outages-primary")
        self._process.wait_for(self.primary)
        schedule(self.primary, None, [], dict(OK))

    def kill_primary(self) -> None:
        """It is gone, with all its connections, without a word."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def load(self, seconds: float, rate: float, beside: Any) -> list[Asked]:
        """Requests at a steady rate; what became of each, in the order in which they were sent."""
        asked: list[Asked] = []

        async def one(number: int) -> None:
            asked.append(await self._ask(number))

        self._began = time.perf_counter()
        load(round(seconds * rate), rate, one, self._hang_up, beside)
        return sorted(asked, key=lambda one: one.at)

    def _hang_up(self) -> None:
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()

    async def _ask(self, number: int) -> Asked:
        began = time.perf_counter()
        provider = ""
        try:
            async with asyncio.timeout(PATIENCE):
                provider, wrong = await self._exchange(f"Request {number}", stream=number % 2 == 1)
        except (OSError, EOFError, ValueError, KeyError, TimeoutError) as error:
            wrong = repr(error)
        return Asked(began - self._began, time.perf_counter() - began, provider, wrong)

    async def _exchange(self, prompt: str, *, stream: bool) -> tuple[str, str]:
        """Who answered, and what is wrong with the answer."""
        body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": prompt}], "stream": stream})
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {GATEWAY_KEY}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        writer.write((head + body).encode())
        answered = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in answered.split("\r\n")[1:] if line)
        status = answered.split(" ", 2)[1]
        if "content-length" in headers:
            said = await reader.readexactly(int(headers["content-length"]))
            text = json.loads(said)["choices"][0]["message"]["content"] if status == "200" else ""
            is_whole = True
        else:
            said = b""
            while size := int(await reader.readuntil(b"\r\n"), 16):
                said += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
            text, is_whole = _text_of(said)
        self._idle.append((reader, writer))
        if status != "200":
            return "", f"{status} {said[:200]!r}"
        wrong = "" if is_whole and text == healthy_text(prompt, WORDS) else f"a wrong answer: {text!r} {said[-200:]!r}"
        return headers["x-crossfade-provider"], wrong


def _text_of(stream: bytes) -> tuple[str, bool]:
    """The text of a stream of chat chunks, and whether it has its end."""
    pieces = []
    for line in stream.split(b"\n"):
        if line.startswith(b"data: {"):
            choices = json.loads(line[6:]).get("choices", ())
            pieces += [choice["delta"].get("content") or "" for choice in choices]
    return "".join(pieces), stream.rstrip().endswith(b"data: [DONE]")
