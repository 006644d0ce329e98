"""The measurements, one function each. All are taken in rounds, the proxies in turn, so that what else the machine
does meets both alike; a figure is the median over the rounds, of ratios taken within a round."""

from __future__ import annotations

import contextlib
import http.client
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from bench import crossfade, load, nginx
from bench.apis import CALLERS, UPSTREAMS
from bench.load import Ask
from bench.machine import BenchError, Cores, Process, free_ports

Note = Callable[[str], None]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured: rounds, seconds of load in each (`translated`: of each pair of APIs), requests timed in
    each, starts, requests before memory is looked at."""

    rounds: int = 5
    seconds: float = 5
    translated: float = 1
    timed: int = 400
    starts: int = 5
    before_memory: int = 10_000


QUICK = Plan(rounds=3, seconds=2, translated=1, timed=150, starts=3)


class Pair(msgspec.Struct, frozen=True):
    """One round: what was taken by that which crossfade is compared with, and by crossfade."""

    base: float
    crossfade: float


class Result(msgspec.Struct, kw_only=True):
    """One figure that has a reach. `values` are those of the rounds, `value` is their median; `pairs` what they come
    from, in `unit`, the first of each that of `against`; `notes` what a reader should know besides."""

    name: str
    values: list[float]
    reach: float
    form: str
    unit: str = ""
    against: str = "nginx"
    pairs: list[Pair] = []
    notes: list[str] = []

    @property
    def value(self) -> float:
        return statistics.median(self.values)

    @property
    def is_reached(self) -> bool:
        return self.value <= self.reach


class Bench:
    """Everything that runs for the measurements: upstreams, nginx as proxy, crossfade. Made by `open`."""

    def __init__(self, plan: Plan, folder: Path, cores: Cores, python: Path, note: Note) -> None:
        self.plan, self.folder, self.cores, self.note = plan, folder, cores, note
        self.python = python  # of the installation of crossfade that is measured
        names = ("good", "bad", "status", "events", "first", "plain_p", "fallback_p", "events_p", "first_p")
        self.port = dict(zip(names, free_ports(len(names)), strict=True))
        self.nginx_ports = {name: self.port[f"{name}_p"] for name in ("plain", "fallback", "events", "first")}
        self.nginx: Process

    @classmethod
    @contextlib.contextmanager
    def open(cls, plan: Plan, folder: Path, cores: Cores, python: Path, note: Note) -> Iterator[Bench]:
        """Starts the upstreams and nginx; they end with the context."""
        bench = cls(plan, folder, cores, python, note)
        port = bench.port
        upstream = nginx.upstream(port["good"], port["bad"], port["status"])
        proxy = nginx.proxy(bench.nginx_ports, port["good"], port["bad"], port["events"], port["first"])
        events = [sys.executable, "-m", "bench.events", str(port["events"]), str(port["first"])]
        with contextlib.ExitStack() as stack:
            for command, ready, where, name in (
                (nginx.command(folder, "upstream", upstream), port["status"], cores.load, "upstream"),
                (events, port["first"], cores.load, "events"),
                (nginx.command(folder, "proxy", proxy), port["plain_p"], cores.proxy, "proxy"),
            ):
                process = stack.enter_context(Process(command, where, folder / f"{name}.log"))
                process.wait_for(ready)
            bench.nginx = process
            yield bench

    @contextlib.contextmanager
    def crossfade(self, make: Callable[[Path, Path], list[str]] = crossfade.serve) -> Iterator[tuple[Process, int]]:
        """A fresh crossfade and its port."""
        port, admin = free_ports(2)
        shared = {name: self.port[name] for name in ("good", "bad", "events", "first")}
        file = crossfade.config(self.folder, port=port, admin=admin, **shared)
        log = self.folder / f"crossfade-{port}.log"
        with Process(make(self.python, file), self.cores.proxy, log, crossfade.ENVIRON) as process:
            process.wait_for(port)
            yield process, port
            process.check()

    def upstream_requests(self) -> int:
        """How many requests the upstream of whole answers has had, this one included."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port["status"], timeout=20)
        connection.request("GET", "/")
        return int(connection.getresponse().read().split(b"\n")[2].split()[2])

    def check_journal(self, port: int, answered: int) -> None:
        """Raises BenchError unless the crossfade at `port` has a line on record for each of its answers."""
        lines = 0
        for file in (self.folder / f"state-{port}").rglob("*"):
            if file.is_file():
                with file.open("rb") as journal:
                    lines += sum(piece.count(b"\n") for piece in iter(lambda: journal.read(1 << 20), b""))
        if lines < answered:
            raise BenchError(f"crossfade answered {answered} requests and has {lines} lines in its journal")

    def rounds(self, what: str, nginx_run: Callable[[], float], ours: Callable[[], float]) -> list[Pair]:
        """Runs both in turn, in changing order."""
        pairs = []
        for number in range(self.plan.rounds):
            if number % 2:
                mine = ours()
                pair = Pair(nginx_run(), mine)
            else:
                pair = Pair(nginx_run(), ours())
            pairs.append(pair)
            self.note(f"{what}: round {number + 1}: nginx {pair.base:.1f}, crossfade {pair.crossfade:.1f}")
        return pairs


def measure_plain(bench: Bench) -> Result:
    """CPU of a request that goes well, buffered."""
    with bench.crossfade() as (process, port):
        pairs, notes = _whole_answers(bench, "plain", process, port, calls=1)
    return Result(
        name="plain request, CPU",
        values=_ratios(pairs),
        reach=3.0,
        form="{:.2f} x",
        unit="µs/request",
        pairs=pairs,
        notes=notes,
    )


def measure_fallback(bench: Bench) -> Result:
    """CPU of a request whose first target answers 500."""
    with bench.crossfade(crossfade.serve_without_breaker) as (process, port):
        pairs, notes = _whole_answers(bench, "fallback", process, port, calls=2)
    return Result(
        name="fallback from a 500, CPU",
        values=_ratios(pairs),
        reach=1.2,
        form="{:.2f} x",
        unit="µs/request",
        pairs=pairs,
        notes=notes,
    )


def _whole_answers(
    bench: Bench, route: str, process: Process, port: int, *, calls: int
) -> tuple[list[Pair], list[str]]:
    """Rounds of wrk against both proxies; `calls` are the upstream calls that each request must have made."""
    rates: dict[str, list[float]] = {"nginx": [], "crossfade": []}
    delays: dict[str, list[float]] = {"nginx": [], "crossfade": []}
    used: dict[str, list[float]] = {"nginx": [], "crossfade": []}
    answered = {"nginx": 0, "crossfade": 0}

    def run(name: str, proxy: Process, where: int, fallbacks: int | None) -> float:
        before, cpu, began = bench.upstream_requests(), proxy.cpu_seconds(), time.perf_counter()
        done = load.run_wrk(where, Ask(route), bench.plan.seconds, bench.folder, fallbacks=fallbacks)
        cpu, lasted = proxy.cpu_seconds() - cpu, time.perf_counter() - began
        made = (bench.upstream_requests() - before) / done.requests
        if abs(made - calls) > 0.02 * calls:
            raise BenchError(f"{name} made {made:.3f} upstream calls a request in {route!r}, not {calls}")
        answered[name] += done.requests
        rates[name].append(done.requests / lasted)
        delays[name].append(done.p50_ms)
        used[name].append(cpu / lasted)
        return cpu / done.requests * 1e6

    where = bench.nginx_ports[route]
    load.run_wrk(where, Ask(route), 1, bench.folder, fallbacks=None)  # warm
    answered["crossfade"] += load.run_wrk(port, Ask(route), 1, bench.folder, fallbacks=calls - 1).requests
    pairs = bench.rounds(
        route, lambda: run("nginx", bench.nginx, where, None), lambda: run("crossfade", process, port, calls - 1)
    )
    bench.check_journal(port, answered["crossfade"])
    notes = [
        f"{name}: {statistics.median(rates[name]):,.0f} requests/s, {statistics.median(delays[name]):.2f} ms at the "
        f"median, {statistics.median(used[name]):.0%} of its core"
        for name in rates
    ]
    return pairs, notes


def measure_events(bench: Bench) -> Result:
    """CPU of a stream event."""
    reads: dict[str, list[float]] = {"nginx": [], "crossfade": []}
    rates: dict[str, list[float]] = {"nginx": [], "crossfade": []}

    def run(name: str, proxy: Process, where: int) -> float:
        cpu, began = proxy.cpu_seconds(), time.perf_counter()
        done = load.run_streams(where, Ask("events"), bench.plan.seconds)
        cpu, lasted = proxy.cpu_seconds() - cpu, time.perf_counter() - began
        reads[name].append(done.reads / done.events)
        rates[name].append(done.events / lasted)
        return cpu / done.events * 1e6

    where = bench.nginx_ports["events"]
    with bench.crossfade() as (process, port):
        load.run_streams(port, Ask("events"), 0.5)  # warm
        load.run_streams(where, Ask("events"), 0.5)
        pairs = bench.rounds(
            "events", lambda: run("nginx", bench.nginx, where), lambda: run("crossfade", process, port)
        )
    notes = [
        f"{name}: {statistics.median(rates[name]):,.0f} events/s written one by one, "
        f"{statistics.median(reads[name]):.2f} reads of the client an event"
        for name in rates
    ]
    return Result(
        name="stream event, CPU",
        values=_ratios(pairs),
        reach=1.8,
        form="{:.2f} x",
        unit="µs/event",
        pairs=pairs,
        notes=notes,
    )


def measure_first_event(bench: Bench) -> list[Result]:
    """How much later the first event comes than through nginx, with nothing else to do."""
    shares = {"p50": 0.5, "p99": 0.99}
    pairs: dict[str, list[Pair]] = {name: [] for name in shares}
    with bench.crossfade() as (_, port):
        ours, theirs = (load.FirstEventClient(where, Ask("first")) for where in (port, bench.nginx_ports["first"]))
        for _ in range(20):
            ours.time_one()
            theirs.time_one()
        for number in range(bench.plan.rounds):
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(bench.plan.timed):
                times[0].append(theirs.time_one() * 1000)
                times[1].append(ours.time_one() * 1000)
            for name, share in shares.items():
                pairs[name].append(Pair(load.percentile(times[0], share), load.percentile(times[1], share)))
            last = pairs["p50"][-1]
            bench.note(f"first event: round {number + 1}: nginx {last.base:.2f}, crossfade {last.crossfade:.2f}")
    return [
        Result(
            name=f"first event later, {name}",
            values=[pair.crossfade - pair.base for pair in pairs[name]],
            reach=1.0,
            form="{:+.2f} ms",
            unit="ms",
            pairs=pairs[name],
        )
        for name in shares
    ]


def measure_start(bench: Bench) -> Result:
    """Seconds from starting `crossfade serve` to the first 200 through it."""
    values = []
    for number in range(bench.plan.starts):
        with bench.crossfade() as (process, port):
            load.Sampler(port, Ask("plain"), 0).take()
            values.append(time.perf_counter() - process.started_at)
        bench.note(f"start {number + 1}: {values[-1]:.2f} s")
    return Result(name="start to first answer", values=values, reach=1.0, form="{:.2f} s")


def measure_memory(bench: Bench) -> Result:
    """Memory of the worker after many requests."""
    with bench.crossfade() as (process, port):
        at_start = process.memory()
        requests = 0
        while requests < bench.plan.before_memory:
            requests += load.run_wrk(port, Ask("plain"), 1, bench.folder, fallbacks=0).requests
        found = process.memory()
    notes = [
        f"after {requests:,} requests; proportional {found['pss']:.1f} MiB; at the start {at_start['rss']:.1f} MiB",
    ]
    return Result(name="resident memory", values=[found["rss"]], reach=60.0, form="{:.1f} MiB", notes=notes)


def measure_translation(bench: Bench) -> list[Result]:
    """CPU that it costs more to translate than to pass on, of whole answers and of stream events. A figure is that of
    the pair of APIs where it is most."""
    with bench.crossfade() as (process, port):

        def whole(ask: Ask) -> float:
            cpu = process.cpu_seconds()
            done = load.run_wrk(port, ask, bench.plan.translated, bench.folder, fallbacks=0)
            return (process.cpu_seconds() - cpu) / done.requests * 1e6

        def event(ask: Ask) -> float:
            cpu = process.cpu_seconds()
            done = load.run_streams(port, ask, bench.plan.translated)
            return (process.cpu_seconds() - cpu) / done.events * 1e6

        return [
            _translated(bench, "translated exchange, CPU", "whole", whole, reach=60.0, unit="µs/request"),
            _translated(bench, "translated event, CPU", "events", event, reach=15.0, unit="µs/event"),
        ]


def _translated(bench: Bench, name: str, kind: str, cost: Callable[[Ask], float], *, reach: float, unit: str) -> Result:
    """Rounds of every caller's API with every upstream's. `cost` is what one of them takes, in microseconds."""
    pairs: dict[str, list[Pair]] = {}
    for number in range(bench.plan.rounds + 1):
        for caller, asking in CALLERS.items():
            asks = {api: Ask(f"{kind}-{api}", asking, asking.is_right) for api in UPSTREAMS}
            passed = cost(asks.pop(caller))
            for api, ask in asks.items():
                pair = Pair(passed, cost(ask))
                if number:  # the first round only warms
                    pairs.setdefault(f"{caller} to {api}", []).append(pair)
        bench.note(f"{name}: round {number}")
    more = {way: [pair.crossfade - pair.base for pair in found] for way, found in pairs.items()}
    worst = max(more, key=lambda way: statistics.median(more[way]))
    return Result(
        name=name,
        values=more[worst],
        reach=reach,
        form="{:+.1f} µs",
        unit=unit,
        against="passed on",
        pairs=pairs[worst],
        notes=[
            f"{way}: {statistics.median(pair.base for pair in pairs[way]):.1f} {statistics.median(values):+.1f} µs"
            for way, values in more.items()
        ],
    )


def _ratios(pairs: Sequence[Pair]) -> list[float]:
    return [pair.crossfade / pair.base for pair in pairs]


SCENARIOS: dict[str, Callable[[Bench], Result | list[Result]]] = {
    "plain": measure_plain,
    "fallback": measure_fallback,
    "events": measure_events,
    "first": measure_first_event,
    "start": measure_start,
    "memory": measure_memory,
    "translation": measure_translation,
}
