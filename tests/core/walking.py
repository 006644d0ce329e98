"""What the tests of a walk share: short ways to build a chain, to tell what became of an attempt, and to read on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crossfade.core.budget import RetryBudget
from crossfade.core.dispatch import Dispatch
from crossfade.core.exchange import RequestFacts, StreamEvent
from crossfade.core.failure import Failure, FailureReason, Origin, fallback_reasons
from crossfade.core.health import HealthBoard
from crossfade.core.policy import HealthPolicy, RetryPolicy, RoutePolicy, StreamPolicy, TimeoutPolicy
from crossfade.core.steps import Defect, Deliver, Fallback, GiveUp, Pending, Send, Step, Wait
from crossfade.core.target import Plan, Rung, Skip, Target
from crossfade.core.verdict import Accepted, Rejected
from crossfade.core.walk import AttemptRecord, Walk

START = 1000.0
HALF = 0.5
STATUS = {
    "server_error": 500,
    "overloaded": 503,
    "rate_limit": 429,
    "quota_exhausted": 429,
    "model_unavailable": 404,
    "context_overflow": 400,
    "invalid_request": 400,
    "auth_error": 401,
}
"""The status an upstream gives with a reason; others are seen by us or come in a 2xx."""


def target(name: str, credential: int = 0, **fields: Any) -> Target:
    provider, _, model = name.partition("/")
    return Target(
        key=f"{name}#{credential}", name=name, provider=provider, model=model, credential=credential, **fields
    )


def rung(name: str, credentials: int = 1, **fields: Any) -> Rung:
    return Rung(tuple(target(name, number, **fields) for number in range(credentials)))


def failure(reason: str, **fields: Any) -> Failure:
    """A failure as it usually comes; `status` and all else can be given."""
    fields.setdefault("status", STATUS.get(reason))
    if reason == "cancelled":
        fields.setdefault("origin", Origin.DOWNSTREAM)
    return Failure(reason=FailureReason(reason), **fields)


class Course:
    """One walk under a clock that the test moves. `chain` holds names or rungs; `fallback_on` words."""

    def __init__(
        self,
        *chain: str | Rung,
        fallback_on: Sequence[str] = ("default",),
        stream: bool = False,
        facts: RequestFacts | None = None,
        retry: RetryPolicy | None = None,
        timeouts: TimeoutPolicy | None = None,
        caller: TimeoutPolicy | None = None,
        recover: Any = "continue",
        overall: float = 600.0,
        board: HealthBoard | None = None,
        health: HealthPolicy | None = None,
        budget: RetryBudget | None = None,
        skips: tuple[Skip, ...] = (),
        now: float = START,
        **walk: Any,
    ):
        self.now = now
        self.rungs = tuple(rung(one) if isinstance(one, str) else one for one in chain)
        self.board = HealthBoard(lambda: HALF, health or HealthPolicy()) if board is None else board
        self.policy = RoutePolicy(
            fallback_on=fallback_reasons(fallback_on),
            retry=retry or RetryPolicy(),
            timeouts=timeouts or TimeoutPolicy(),
            stream=StreamPolicy(recover=recover),
            stream_upstream=walk.pop("stream_upstream", "auto"),
            hedge=walk.pop("hedge", RoutePolicy().hedge),
            queue=walk.pop("queue", RoutePolicy().queue),
        )
        self.walk = Walk(
            request=walk.pop("request", "r1"),
            route="chat",
            plan=Plan(self.rungs, skips),
            facts=facts or RequestFacts(stream=stream),
            policy=self.policy,
            caller=caller or TimeoutPolicy(),
            overall=overall,
            board=self.board,
            budget=budget or RetryBudget(),
            draw=lambda: HALF,
            **walk,
        )
        self.dispatch = Dispatch(self.walk, now)

    # --- steps ---------------------------------------------------------------------------------------------

    def step(self) -> Step:
        return self.dispatch.next_step(self.now)

    def send(self, to: str | None = None) -> Send:
        """The next step, which has to be a call (of `to`)."""
        step = self.step()
        assert isinstance(step, Send), step
        assert to is None or step.target.name == to, step
        return step

    def wait(self) -> float:
        """The next step, which has to be a wait; goes on to its end and gives its length."""
        step = self.step()
        assert isinstance(step, Wait), step
        length = step.until - self.now
        self.now = step.until
        return length

    def pending(self) -> float | None:
        step = self.step()
        assert isinstance(step, Pending), step
        return step.until

    def delivered(self) -> Deliver:
        step = self.step()
        assert isinstance(step, Deliver), step
        return step

    def given_up(self) -> GiveUp:
        step = self.step()
        assert isinstance(step, GiveUp), step
        return step

    # --- facts ---------------------------------------------------------------------------------------------

    def fail(self, reason: str | Failure, number: int | None = None, after: float = 0.1, **fields: Any) -> None:
        """The attempt (by default the last one called) fails."""
        self.now += after
        what = reason if isinstance(reason, Failure) else failure(reason, **fields)
        self.dispatch.on_verdict(number or self.dispatch.calls, Rejected(failure=what), self.now)

    def accept(self, number: int | None = None, after: float = 0.1) -> None:
        self.now += after
        self.dispatch.on_verdict(number or self.dispatch.calls, Accepted(), self.now)

    def content(self, number: int | None = None, after: float = 0.1) -> None:
        self.now += after
        self.dispatch.on_content(number or self.dispatch.calls, self.now)

    def commit(self, text: str = "", number: int | None = None, after: float = 0.1) -> bool:
        """The attempt's first content comes and leaves."""
        self.content(number, after)
        may = self.dispatch.on_commit(number or self.dispatch.calls, self.now)
        if may and text:
            self.dispatch.transcript.add(StreamEvent(text=text))
        return may

    # --- reading -------------------------------------------------------------------------------------------

    def called(self) -> list[str]:
        return [record.target for record in self.dispatch.records if record.number]

    def skipped(self) -> list[tuple[str, str | None]]:
        return [(record.target, record.skip) for record in self.dispatch.records if not record.number]

    def record(self, number: int) -> AttemptRecord:
        return next(record for record in self.dispatch.records if record.number == number)

    def fallbacks(self) -> list[tuple[str, str, str, str]]:
        notices = self.dispatch.notices
        return [(n.source, n.target, n.reason, n.mode) for n in notices if isinstance(n, Fallback)]

    def defects(self) -> list[tuple[str, str]]:
        notices = self.dispatch.notices
        return [(n.target, str(n.failure.reason)) for n in notices if isinstance(n, Defect)]

    def breaker(self, name: str, credential: int = 0) -> str:
        return self.board.of(target(name, credential)).breaker.state(self.now)

    def in_flight(self) -> int:
        return sum(health.in_flight for health in self.board.targets.values())


def open_breaker(board: HealthBoard, name: str, now: float, reason: str = "timeout", credential: int = 0) -> None:
    """Has other requests fail until the target's breaker opens (for 15 s, as long as the draws are a half)."""
    health = board.of(target(name, credential))
    for number in range(10):
        permit = health.take(now)
        if permit is None:
            return
        health.settle(permit, failure(reason), now, request=f"other{number}", route="other")
    raise AssertionError("the breaker did not open")


def eject(board: HealthBoard, name: str, reason: str, until: float, now: float, credential: int = 0) -> None:
    board.of(target(name, credential)).eject(FailureReason(reason), until, now)


def new_board(health: HealthPolicy | None = None) -> HealthBoard:
    return HealthBoard(lambda: HALF, health or HealthPolicy())
