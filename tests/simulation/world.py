"""What there is in one simulation, and what happens when: providers, routes with pools, callers, an operator.

The clock is a heap of events. A seed gives the same events in the same order, to the letter of the trace.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from typing import Final

from crossfade.core.balancer import Balancer, Demand
from crossfade.core.budget import RetryBudget
from crossfade.core.exchange import Ability
from crossfade.core.failure import fallback_reasons
from crossfade.core.health import HealthBoard
from crossfade.core.policy import (
    ConcurrencyPolicy,
    HedgePolicy,
    QueuePolicy,
    RetryPolicy,
    RoutePolicy,
    StreamPolicy,
    TimeoutPolicy,
)
from crossfade.core.target import Link, Member, Pool, PoolPolicy, Route, Rung, Target, rungs_of
from tests.simulation.caller import Caller
from tests.simulation.invariants import Watch
from tests.simulation.weather import Provider

START: Final = 1000.0
REQUESTS: Final = 100
LISTS: Final = (
    *(("default",),) * 6,
    ("default", "truncated_output", "content_filter", "auth_error"),
    ("server_error", "timeout", "rate_limit"),
    ("default", "-soft"),
    (),
)
POLICIES: Final[tuple[PoolPolicy, ...]] = (
    "priority",
    "weighted",
    "round_robin",
    "least_requests",
    "fastest",
    "cheapest",
    "headroom",
    "sticky",
)


BOUNDS: Final = (
    *(None,) * 6,
    ConcurrencyPolicy(1, 1),
    ConcurrencyPolicy(3, 3),
    ConcurrencyPolicy(20, 1),
)


class SpiedBudget(RetryBudget):
    """A budget that counts what it was asked for and gave."""

    def __init__(self, ratio: float, floor: float) -> None:
        super().__init__(ratio, floor)
        self.ratio = ratio
        self.floor = floor
        self.deposits = 0
        self.given = 0

    def deposit(self, now: float) -> None:
        self.deposits += 1
        super().deposit(now)

    def try_withdraw(self, now: float) -> bool:
        is_given = super().try_withdraw(now)
        self.given += is_given
        return is_given


class World:
    """One simulation. `trace` is what happened, in words, where it is wanted; `counts` how often."""

    def __init__(self, seed: int, requests: int = REQUESTS, *, traces: bool = False) -> None:
        self.seed = seed
        self.draw = draw = random.Random(seed)
        self.now = START
        self.counts: Counter[str] = Counter()
        self.trace: list[str] | None = [] if traces else None
        self.board = HealthBoard(draw.random)
        self.balancer = Balancer(self.board, draw.random)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.lasts = requests * draw.choice((0.02, 0.2, 1.0, 4.0))
        self.providers = {name: Provider(name, draw, START, self.lasts) for name in "pqrstu"[: draw.randint(1, 6)]}
        rungs = [self._rung(name, model) for name in self.providers for model in ("large", "small")]
        self.routes = [self._route(f"route{number}", rungs) for number in range(draw.choice((1, 2, 3)))]
        self.budgets = {route.name: self._budget() for route in self.routes}
        self.board.configure(self.routes)
        self.drained: tuple[str, ...] = ()
        """Providers or targets that the operator has taken out."""
        self.callers: list[Caller] = []
        self.watch = Watch(self)
        for number in range(requests):
            self.at(START + draw.uniform(0.0, self.lasts), Caller(self, number).begin)
        if draw.random() < 0.3:
            self._drain_for_a_while(rungs)

    # --- what there is ---------------------------------------------------------------------------------------

    def _rung(self, provider: str, model: str) -> Rung:
        draw = self.draw
        name = f"{provider}/{model}"
        window, account = draw.choice((None, None, None, 2000, 2000, 1000)), draw.choice(("", "", "team"))
        lacks = frozenset({Ability.TOOLS}) if draw.random() < 0.1 else frozenset()
        assembles, prefill = draw.random() < 0.5, draw.random() < 0.5
        price = draw.choice((None, 1e-6, 5e-6))
        bound = draw.choice(BOUNDS)
        return Rung(
            tuple(
                Target(
                    key=f"{name}#{number}",
                    name=name,
                    provider=provider,
                    model=model,
                    credential=number,
                    account=account,
                    window=window,
                    lacks=lacks,
                    assembles=assembles,
                    prefill=prefill,
                    concurrency=bound,
                    price_in=price,
                    price_out=price,
                )
                for number in range(draw.choice((1, 1, 1, 2, 3)))
            )
        )

    def _route(self, name: str, rungs: list[Rung]) -> Route:
        draw = self.draw
        some = draw.sample(rungs, draw.randint(1, min(5, len(rungs))))
        links: list[Link] = list(some)
        if len(some) > 1 and draw.random() < 0.5:
            size = draw.randint(2, len(some))
            members = tuple(Member(rung, draw.choice((1.0, 1.0, 3.0, 0.0))) for rung in some[:size])
            links = [Pool(name=f"{name}.pool", policy=draw.choice(POLICIES), members=members), *some[size:]]
        hedge = draw.choice((HedgePolicy(), HedgePolicy(), HedgePolicy(after=1.0), HedgePolicy(percentile=0.9)))
        policy = RoutePolicy(
            fallback_on=fallback_reasons(draw.choice(LISTS)),
            retry=RetryPolicy(
                max_attempts=draw.choice((None, None, None, 1, 2, 4, 8)),
                max_wait=draw.choice((0.0, 2.0, 20.0)),
                delay=draw.choice((0.0, 0.25)),
            ),
            timeouts=TimeoutPolicy(first_content=draw.choice((None, None, 2.0))),
            stream=StreamPolicy(recover=draw.choice(("continue", "continue", "error"))),
            hedge=hedge,
            queue=QueuePolicy(size=draw.choice((0, 2, 100)), wait=draw.choice((1.0, 10.0))),
        )
        has_pool = any(isinstance(link, Pool) for link in links)
        chain = tuple(rung for link in links for rung in rungs_of(link))
        return Route(name=name, chain=chain, links=tuple(links) if has_pool else (), policy=policy)

    def _budget(self) -> SpiedBudget:
        is_poor = self.draw.random() < 0.4
        return SpiedBudget(0.2, self.draw.choice((0.0, 0.1, 1.0))) if is_poor else SpiedBudget(10.0, 1e6)

    def _drain_for_a_while(self, rungs: list[Rung]) -> None:
        draw = self.draw
        name = draw.choice(rungs).name
        pattern = draw.choice((name, name.partition("/")[0]))
        begin = START + draw.uniform(-0.1, 0.7) * self.lasts
        self.at(max(START, begin), lambda: self._drain((pattern,)))
        self.at(begin + 0.3 * self.lasts, lambda: self._drain(()))

    def _drain(self, patterns: tuple[str, ...]) -> None:
        self.drained = patterns
        self.board.drain(patterns)
        self.note("", f"drained: {patterns}")

    def order(self, route: Route, demand: Demand) -> tuple[Rung, ...] | None:
        """The chain in the order of the route's pools; None where it has none."""
        return self.balancer.order(route.links, demand, self.now) if route.links else None

    # --- what happens ----------------------------------------------------------------------------------------

    def at(self, time: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._order), do))

    def note(self, who: str, what: object) -> None:
        """A line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.now - START:10.3f} {who:6} {what}")

    def run(self) -> World:
        """Raises Broken, with seed and time, where something does not hold."""
        events = self._events
        while events:
            self.now, _, do = heapq.heappop(events)
            do()
            self.watch.after_event()
        self.watch.at_the_end()
        return self
