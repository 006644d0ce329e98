"""What all requests of a worker share: upstreams, health, budgets, the record, and the ticker that watches limits."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Final

from crossfade.core.balancer import Balancer
from crossfade.core.budget import RetryBudget
from crossfade.core.events import RequestsShed
from crossfade.core.health import HealthBoard
from crossfade.core.policy import OverloadPolicy
from crossfade.core.shedding import Shedding
from crossfade.engine.headers import AnswerHeaders
from crossfade.engine.ports import Recorder
from crossfade.engine.targets import Upstreams
from crossfade.engine.under_way import UnderWay
from crossfade.transport.base import Transport

if TYPE_CHECKING:
    from crossfade.engine.relay import Relay

TICK: Final = 0.05
"""Seconds between two looks at the limits of what is under way: the precision of every timer."""

BUSY_TICK: Final = 0.01
"""The same while only a share of new requests is let in."""

HELD_LOOK: Final = 0.5
"""Seconds between two counts of what is held back."""

SHED_LOOK: Final = 1.0
"""Seconds between two lines on record about requests that were refused."""


_OVERLOAD: Final = OverloadPolicy()


class Engine:
    """The shared parts of a worker. `upstreams` says how a target is called.

    `runners` are the requests under way, `draining` the upstream bodies that have yet to close behind their end
    marker, with the time at which they are cut.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        upstreams: Upstreams,
        board: HealthBoard,
        recorder: Recorder,
        loop: asyncio.AbstractEventLoop,
        draw: Callable[[], float] | None = None,
        overload: OverloadPolicy = _OVERLOAD,
    ):
        self.transport = transport
        self.upstreams = upstreams
        self.board = board
        self.recorder = recorder
        self.draw = draw or random.Random().random
        self.balancer = Balancer(board, self.draw)
        self.shedding = Shedding(overload, self.draw)
        self.headers = AnswerHeaders()
        self.runners: set[UnderWay] = set()
        self.draining: dict[Relay, float] = {}
        self.held = 0  # bytes of answers that are held back, as of the last look
        self._held_due = 0.0
        self._shed_due = 0.0
        self.tick_due = float("inf")  # when the next look is due; while nothing is under way, never
        self._budgets: dict[str, RetryBudget] = {}
        self._loop = loop
        self._ticker: asyncio.TimerHandle | None = None

    def budget(self, route: str, ratio: float, floor: float) -> RetryBudget:
        """The retry budget of a route."""
        budget = self._budgets.get(route)
        if budget is None:
            budget = self._budgets[route] = RetryBudget(ratio, floor)
        return budget

    def watch(self, runner: UnderWay) -> None:
        """Has the limits of `runner` looked after until `forget`."""
        self.runners.add(runner)
        if self._ticker is None:
            self._arm()

    def forget(self, runner: UnderWay) -> None:
        self.runners.discard(runner)

    def drain(self, relay: Relay, until: float) -> None:
        """Lets an upstream body close behind its end marker, and cuts it at `until`."""
        self.draining[relay] = until
        self._arm()

    def _arm(self) -> None:
        if self._ticker is None:
            pace = TICK if self.shedding.share == 1.0 else BUSY_TICK
            self.tick_due = perf_counter() + pace
            self._ticker = self._loop.call_later(pace, self._tick)

    def _tick(self) -> None:
        self._ticker = None
        now = perf_counter()
        self.shedding.note_delay(now - self.tick_due, now)
        if now >= self._shed_due:
            self._shed_due = now + SHED_LOOK
            self._tell_shed()
        for runner in [r for r in self.runners if r.due <= now]:
            self._look(runner, now)
        if now >= self._held_due:
            self._held_due = now + HELD_LOOK
            self.held = sum([runner.held for runner in self.runners])
        for relay in [r for r, until in self.draining.items() if until <= now]:
            del self.draining[relay]
            relay.abort()
        if self.runners or self.draining:
            self._arm()
        else:
            self.held = 0
            self.tick_due = float("inf")
            self.shedding.rest()
            self._tell_shed()

    def look_after(self, runner: UnderWay) -> None:
        """Has `on_tick` of a runner called in the next turn of the loop."""
        self._loop.call_soon(self._look_soon, runner)

    def _look_soon(self, runner: UnderWay) -> None:
        if not runner.is_done:
            self._look(runner, perf_counter())

    def _look(self, runner: UnderWay, now: float) -> None:
        try:
            runner.on_tick(now)
        except Exception as error:  # a fault in one request must not stop the clock of the others
            self.report(error)
            runner.on_fault(now)

    def _tell_shed(self) -> None:
        for shortage, count in self.shedding.take_refused().items():
            self.recorder.tell(RequestsShed(at=time.time(), shortage=shortage, count=count))

    def report(self, error: Exception) -> None:
        """Tells the loop's exception handler of a fault of ours."""
        self._loop.call_exception_handler({"message": "a request could not be handled", "exception": error})

    def shut_down(self) -> None:
        """Ends every request under way with what can still be said to its caller."""
        now = perf_counter()
        for runner in list(self.runners):
            runner.on_shutdown(now)

    def close(self) -> None:
        """Ends everything under way without an answer, and the transport."""
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        for relay in list(self.draining):
            relay.abort()
        self.draining.clear()
        for runner in list(self.runners):
            runner.on_gone()
        self.transport.close()
