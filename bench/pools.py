"""How well pools choose among 20 simulated providers of unequal speed and price, over real sockets.

`fastest` against the best provider alone in the same run, `cheapest` against the least that each answer could have
cost, `weighted` against the shares that were asked for, `sticky` by the sessions that move when a provider is lost.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import crossfade, plot
from bench.content import GATEWAY_KEY
from bench.machine import BenchError, Process, free_ports
from bench.scenarios import Bench, Result
from bench.simulated import load, schedule, simulator

FIGURES: Final = Path(__file__).with_name("figures")
"""Where the plots go."""
PROVIDERS: Final = 20
SEED: Final = 20
_MODEL: Final = "m"
_NAMES: Final = [f"p{number:02}" for number in range(PROVIDERS)]
_POLICIES: Final = ("fastest", "cheapest", "weighted", "sticky")
_WEIGHTS: Final = {name: number + 1 for number, name in enumerate(_NAMES)}
_MOST_SIGMA: Final = 4.1
"""One of 20 shares is farther off than this by chance in fewer than one of 1,000 runs."""


class _Speed(msgspec.Struct, frozen=True):
    """Seconds to the first content: the mean, and how much a call may differ from it, as a share."""

    mean: float
    spread: float = 0.2


class _Price(msgspec.Struct, frozen=True):
    """USD per million tokens."""

    input: float
    output: float


def _speeds() -> dict[str, _Speed]:
    """From 0.08 to 0.7 s, in no order."""
    means = [0.08 * 1.12**number for number in range(PROVIDERS)]
    random.Random(SEED).shuffle(means)
    return {name: _Speed(mean) for name, mean in zip(_NAMES, means, strict=True)}


def _prices() -> dict[str, _Price]:
    """No two alike; which is cheapest depends on how much is said and how much is answered."""
    lots = random.Random(SEED + 1)
    return {name: _Price(round(lots.uniform(0.2, 10), 2), round(lots.uniform(1, 40), 2)) for name in _NAMES}


class Answer(msgspec.Struct, frozen=True):
    """One answered request: who gave it, seconds to the first content, tokens as the provider counted them."""

    provider: str
    first_s: float
    input_tokens: int
    output_tokens: int


def measure_pools(bench: Bench) -> list[Result]:
    """All four; the plots are written to `bench/figures`."""
    FIGURES.mkdir(exist_ok=True)
    seconds = 4 * bench.plan.seconds
    results = []
    for measure in (_fastest, _cheapest, _weighted, _sticky):
        with _stage(bench) as stage:  # each with a fresh memory of its providers
            results.append(measure(stage, seconds, bench.note))
    return results


# --- the four ------------------------------------------------------------------------------------------------------


def _fastest(stage: _Stage, seconds: float, note: Callable[[str], None]) -> Result:
    """Mean time to the first content through the pool, over that of its best member asked alone, by turns."""
    speeds = _speeds()
    best = min(speeds, key=lambda name: speeds[name].mean)
    lots = random.Random(SEED)
    for name, speed in speeds.items():
        low, high = speed.mean * (1 - speed.spread), speed.mean * (1 + speed.spread)
        steps = [{"kind": "ok", "words": 3, "delay": round(lots.uniform(low, high), 4)} for _ in range(4000)]
        stage.schedule(name, steps, {"kind": "ok", "words": 3, "delay": speed.mean})
    stage.load(PROVIDERS, 20, lambda number: stage.ask("fastest", stream=True))  # each is found out
    pooled: list[tuple[float, Answer]] = []
    alone: list[Answer] = []
    began = time.perf_counter()

    async def both(number: int) -> None:
        if number % 3:
            at = time.perf_counter() - began
            pooled.append((at, await stage.ask("fastest", stream=True)))
        else:
            alone.append(await stage.ask(best, stream=True))

    stage.load(round(seconds * 45), 45, both)
    firsts = [answer.first_s for _, answer in pooled]
    ours, ideal = statistics.mean(firsts), statistics.mean(answer.first_s for answer in alone)
    shares = Counter(answer.provider for _, answer in pooled)
    order = sorted(speeds, key=lambda name: speeds[name].mean)
    plot.bars(
        FIGURES / "pools-fastest.svg",
        "fastest: requests by provider, and the provider's mean time to first content",
        [(f"{speeds[name].mean * 1000:.0f} ms", shares[name]) for name in order],
    )
    note(f"fastest: {ours * 1000:.1f} ms, the best alone {ideal * 1000:.1f} ms")
    return Result(
        name="fastest, over the best alone",
        values=[ours / ideal],
        reach=1.1,
        form="{:.3f} x",
        notes=[
            f"mean time to first content {ours * 1000:.1f} ms over {len(pooled):,} requests, "
            f"{ideal * 1000:.1f} ms of the best alone over {len(alone):,}; "
            f"{shares[best] / len(pooled):.1%} went to the best; by turns among all: "
            f"{statistics.mean(speed.mean for speed in speeds.values()) * 1000:.0f} ms"
        ],
    )


def _cheapest(stage: _Stage, seconds: float, note: Callable[[str], None]) -> Result:
    """Answers that cost more than another provider that was up would have taken, by the tokens that were counted. Half
    way the cheapest provider of each kind of request is lost."""
    prices = _prices()
    stage.schedule(None, [], {"kind": "ok", "words": 400})
    kinds = {"long question": ("word " * 3000, 20), "long answer": ("Tell me.", 350)}
    spent: dict[str, float] = defaultdict(float)
    least: dict[str, float] = defaultdict(float)
    served: Counter[tuple[str, str]] = Counter()
    dearer = 0
    up = set(prices)

    async def one(number: int) -> None:
        nonlocal dearer
        kind = list(kinds)[number % 2]
        prompt, most = kinds[kind]
        answer = await stage.ask("cheapest", prompt=prompt, max_tokens=most)
        cost = {
            name: (price.input * answer.input_tokens + price.output * answer.output_tokens) / 1e6
            for name, price in prices.items()
            if name in up
        }
        spent[kind] += cost[answer.provider]
        least[kind] += min(cost.values())
        served[kind, answer.provider] += 1
        dearer += cost[answer.provider] > min(cost.values()) * 1.000001

    half = round(seconds * 10)
    stage.load(half, 20, one)
    lost = {max((name for name in prices), key=lambda name: served[kind, name]) for kind in kinds}
    for name in lost:
        stage.schedule(name, [], {"kind": "503"})
    up -= lost
    stage.load(half, 20, one)
    plot.bars(
        FIGURES / "pools-cheapest.svg",
        "cheapest: USD per 1,000 answers of the long-answer kind, by who gave them (others: what they would take)",
        [
            (f"{name}{' *' if served['long answer', name] else ''}", price.output * 350 / 1e3)
            for name, price in sorted(prices.items(), key=lambda item: item[1].output)
        ],
    )
    note(f"cheapest: {dearer} of {2 * half} dearer than need be")
    return Result(
        name="cheapest, needlessly dear",
        values=[float(dearer)],
        reach=0.0,
        form="{:.0f}",
        notes=[
            f"{kind}: {sum(count for (of, _), count in served.items() if of == kind)} answers by "
            f"{', '.join(sorted(name for of, name in served if of == kind))}; "
            f"{spent[kind] / least[kind]:.4f} x the least possible"
            for kind in kinds
        ],
    )


def _weighted(stage: _Stage, seconds: float, note: Callable[[str], None]) -> Result:
    """How far the share of any member is from its weight, in standard deviations of so many draws."""
    stage.schedule(None, [], {"kind": "ok", "words": 3})
    served: Counter[str] = Counter()

    async def one(number: int) -> None:
        served[(await stage.ask("weighted")).provider] += 1

    count = round(seconds * 200)
    stage.load(count, 200, one)
    total = sum(_WEIGHTS.values())
    off = {}
    for name, weight in _WEIGHTS.items():
        share = weight / total
        off[name] = abs(served[name] - count * share) / (count * share * (1 - share)) ** 0.5
    plot.bars(
        FIGURES / "pools-weighted.svg",
        f"weighted: requests by provider (line: what {count:,} requests should give)",
        [(f"weight {_WEIGHTS[name]}", served[name]) for name in _NAMES],
        [count * _WEIGHTS[name] / total for name in _NAMES],
    )
    note(f"weighted: at most {max(off.values()):.2f} standard deviations off")
    return Result(
        name="weighted, farthest off",
        values=[max(off.values())],
        reach=_MOST_SIGMA,
        form="{:.2f} sigma",
        notes=[f"{count:,} requests; mean distance {statistics.mean(off.values()):.2f} sigma (0.80 by chance)"],
    )


def _sticky(stage: _Stage, seconds: float, note: Callable[[str], None]) -> Result:
    """Requests of sessions that moved without need: those of other providers than the lost one, and any after a move
    that went elsewhere again."""
    stage.schedule(None, [], {"kind": "ok", "words": 3})
    sessions = [f"session-{number}" for number in range(round(20 * seconds))]
    home: dict[str, str] = {}
    needless = moved = 0

    async def first(number: int) -> None:
        home[sessions[number]] = (await stage.ask("sticky", session=sessions[number])).provider

    async def again(number: int) -> None:
        nonlocal needless
        session = sessions[number % len(sessions)]
        needless += (await stage.ask("sticky", session=session)).provider != home[session]

    async def without(number: int) -> None:
        nonlocal needless, moved
        session = sessions[number % len(sessions)]
        provider = (await stage.ask("sticky", session=session)).provider
        if home[session] == lost:
            moved += 1
            needless += away.setdefault(session, provider) != provider
        else:
            needless += provider != home[session]

    stage.load(len(sessions), 150, first)
    stage.load(2 * len(sessions), 150, again)
    away: dict[str, str] = {}
    lost = Counter(home.values()).most_common(1)[0][0]
    stage.schedule(lost, [], {"kind": "503"})
    stage.load(2 * len(sessions), 150, without)
    of_lost = sum(provider == lost for provider in home.values())
    plot.bars(
        FIGURES / "pools-sticky.svg",
        f"sticky: {len(sessions)} sessions by provider, and where the {of_lost} of the lost {lost} went (line: before)",
        [
            (name, (name != lost) * (list(home.values()).count(name) + list(away.values()).count(name)))
            for name in _NAMES
        ],
        [float(list(home.values()).count(name)) for name in _NAMES],
    )
    note(f"sticky: {needless} needless moves")
    return Result(
        name="sticky, needless moves",
        values=[float(needless)],
        reach=0.0,
        form="{:.0f}",
        notes=[
            f"{len(sessions)} sessions over {len(set(home.values()))} providers; {of_lost} were {lost}'s and moved "
            f"when it was lost, to {len(set(away.values()))} others ({moved} requests)"
        ],
    )


# --- what they stand on --------------------------------------------------------------------------------------------


@contextmanager
def _stage(bench: Bench) -> Iterator[_Stage]:
    """A simulator that plays all providers, and crossfade in front of it."""
    simulated, port, admin = free_ports(3)
    file = bench.folder / "pools.yaml"
    file.write_text(_config(bench.folder, simulated, port, admin))
    with simulator(bench, simulated, "pools-simulator") as playing:
        playing.wait_for(simulated)
        command = crossfade.serve(bench.python, file)
        with Process(command, bench.cores.proxy, bench.folder / "pools.log", crossfade.ENVIRON) as process:
            process.wait_for(port)
            yield _Stage(port, simulated)
            process.check()
        playing.check()


def _config(folder: Path, simulated: int, port: int, admin: int) -> str:
    prices = _prices()
    providers = {
        name: {
            "dialect": "openai",
            "base_url": f"http://127.0.0.1:{simulated}/p/{name}/v1",
            "api_keys": [],
            "models": {_MODEL: {"price_in": prices[name].input, "price_out": prices[name].output}},
        }
        for name in _NAMES
    }
    members = [{"target": f"{name}/{_MODEL}", "weight": _WEIGHTS[name]} for name in _NAMES]
    plain = [f"{name}/{_MODEL}" for name in _NAMES]
    routes: dict[str, Any] = {
        policy: {"chain": [{"pool": policy, "of": members if policy == "weighted" else plain}]} for policy in _POLICIES
    }
    routes |= {name: {"chain": [f"{name}/{_MODEL}"]} for name in _NAMES}
    return json.dumps(
        {
            "server": {"listen": f"127.0.0.1:{port}", "admin": f"127.0.0.1:{admin}"},
            "gateway_keys": [{"name": "bench", "key": "env:BENCH_GATEWAY_KEY"}],
            "state_dir": str(folder / "pools-state"),
            "providers": providers,
            "routes": routes,
        }
    )


class _Stage:
    """Asks crossfade, and tells the simulated providers what to be like."""

    def __init__(self, port: int, simulated: int) -> None:
        self._port, self._simulated = port, simulated
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def schedule(self, provider: str | None, steps: list[dict[str, Any]], then: dict[str, Any]) -> None:
        """What the calls of a provider meet, or those of all that have no schedule of their own."""
        schedule(self._simulated, provider, steps, then)

    def load(self, count: int, rate: float, one: Callable[[int], Awaitable[Any]]) -> None:
        """Calls `one` so often, so many a second whether or not the earlier ones are done."""
        load(count, rate, one, self._hang_up)

    def _hang_up(self) -> None:
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()

    async def ask(
        self,
        route: str,
        *,
        prompt: str = "Hello.",
        max_tokens: int | None = None,
        session: str = "",
        stream: bool = False,
    ) -> Answer:
        """One request to its end. Raises BenchError where the answer is none."""
        asked: dict[str, Any] = {"model": route, "messages": [{"role": "user", "content": prompt}], "stream": stream}
        if max_tokens is not None:
            asked["max_tokens"] = max_tokens
        if session:
            asked["crossfade"] = {"session": session}
        body = json.dumps(asked).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {GATEWAY_KEY}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        began = time.perf_counter()
        writer.write(head.encode() + body)
        answered = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in answered.split("\r\n")[1:] if line)
        if "content-length" in headers:
            said = await reader.readexactly(int(headers["content-length"]))
            first = time.perf_counter() - began
        else:
            said = b""
            first = 0.0
            while not said.endswith(b"0\r\n\r\n"):
                said += await reader.read(65536)
                if not first and b'"content":"' in said:
                    first = time.perf_counter() - began
        if not answered.startswith("HTTP/1.1 200 "):
            raise BenchError(f"a wrong answer: {answered} {said[:500]!r}")
        self._idle.append((reader, writer))
        usage = {} if stream else json.loads(said)["usage"]
        provider = headers["x-crossfade-provider"]
        return Answer(provider, first, usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))
