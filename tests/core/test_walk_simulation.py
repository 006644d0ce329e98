"""Thousands of random walks under a simulated clock: several requests at once over shared health and budget, random
chains, policies and outcomes. What must hold is checked at every step; a seed gives the same walks again."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.budget import RetryBudget
from crossfade.core.dispatch import Dispatch
from crossfade.core.exchange import RequestFacts, StreamEvent, ToolDelta
from crossfade.core.failure import (
    DEFAULT_FALLBACK,
    DISPOSITIONS,
    Failure,
    FailureReason,
    HealthEffect,
    Origin,
    Phase,
    fallback_reasons,
)
from crossfade.core.headroom import Limit
from crossfade.core.health import HealthBoard
from crossfade.core.policy import RetryPolicy, RoutePolicy, StreamPolicy, TimeoutPolicy
from crossfade.core.standing import Out
from crossfade.core.steps import Deliver, GiveUp, Send, Wait
from crossfade.core.target import Plan
from crossfade.core.verdict import Accepted, Rejected
from crossfade.core.walk import Walk
from tests.core.walking import STATUS, rung

REASONS = [reason for reason in FailureReason if reason not in (FailureReason.CANCELLED, FailureReason.INTERNAL_ERROR)]
LISTS = [
    ["default"],
    ["default", "truncated_output", "content_filter", "auth_error"],
    ["server_error", "timeout", "rate_limit"],
    ["rate_limit"],
    ["default", "-soft"],
    [],
]
LIMITS = {FailureReason.RATE_LIMIT, FailureReason.QUOTA_EXHAUSTED}
USUAL = [FailureReason.SERVER_ERROR, FailureReason.TIMEOUT, FailureReason.RATE_LIMIT]
TRIAL_COMPANION = 2.0
OUTAGE = frozenset(
    reason
    for reason, row in DISPOSITIONS.items()
    if row.health in (HealthEffect.FAILURE, HealthEffect.ROUTE_AND_BREAKER)
)
"""Reasons that open a breaker."""


class Request:
    """One request of a simulation, and all that it has seen."""

    def __init__(self, sim: Simulation, name: str):
        draw = sim.draw
        self.sim, self.name = sim, name
        stream = draw.random() < 0.5
        self.policy = RoutePolicy(
            fallback_on=fallback_reasons(draw.choice(LISTS)),
            retry=RetryPolicy(
                max_attempts=draw.choice([None, None, 1, 2, 4, 8]),
                max_wait=draw.choice([0.0, 2.0, 20.0]),
                delay=draw.choice([0.0, 0.25]),
            ),
            stream=StreamPolicy(recover=draw.choice(["continue", "continue", "error"])),
        )
        self.plan = Plan(tuple(draw.sample(sim.chain, len(sim.chain)) if draw.random() < 0.3 else sim.chain))
        self.walk = Walk(
            request=name,
            route="chat",
            plan=self.plan,
            facts=RequestFacts(stream=stream, thinking=draw.random() < 0.1, n=2 if draw.random() < 0.05 else 1),
            policy=self.policy,
            caller=TimeoutPolicy(first_content=draw.choice([None, None, 3.0])),
            overall=draw.choice([5.0, 19.5, 60.0, 600.0]),
            board=sim.board,
            budget=sim.budget,
            draw=draw.random,
            rotation=draw.randrange(5),
            is_repeatable=draw.random() < 0.9,
        )
        self.dispatch = Dispatch(self.walk, sim.now)
        self.sends: dict[int, Send] = {}
        self.sent_at: dict[int, float] = {}
        self.failed: dict[int, Failure] = {}
        self.accepted: set[int] = set()
        self.open: set[int] = set()
        self.committed: int | None = None
        self.asks_at: float | None = None
        self.end: Deliver | GiveUp | None = None
        self.is_cancelled = False

    @property
    def most_calls(self) -> int:
        given = self.policy.retry.max_attempts
        return given or min(5, sum(len(one.targets) for one in self.plan.rungs) + 1)

    # --- steps ---------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Performs steps until there is nothing to do but wait, as a runner does."""
        while self.end is None:
            now = self.sim.now
            before = {key: health.standing(now) for key, health in self.sim.board.targets.items()}
            step = self.dispatch.next_step(now)
            self.sim.trace.append((now, self.name, repr(step)))
            if isinstance(step, Send):
                self.check_send(step, before.get(step.target.key))
                self.sends[step.attempt], self.sent_at[step.attempt] = step, now
                self.open.add(step.attempt)
                self.sim.play(self, step)
                continue
            if isinstance(step, (Deliver, GiveUp)):
                self.end = step
                self.open.clear()
                self.check_end(step)
                return
            self.asks_at = step.until
            if step.until is not None:
                assert step.until > now, "it would be asked forever"
                self.sim.at(step.until, self.advance_if_due)
            assert isinstance(step, Wait) or self.open, "nothing is under way and nothing will be"
            return

    def advance_if_due(self) -> None:
        if self.end is None and self.asks_at is not None and self.sim.now >= self.asks_at:
            self.advance()

    # --- facts ---------------------------------------------------------------------------------------------

    def on_content(self, number: int) -> None:
        if number in self.open:
            self.dispatch.on_content(number, self.sim.now)

    def on_limits(self, number: int, left: float, reset: float) -> None:
        now = self.sim.now
        self.dispatch.on_limits(number, [Limit("requests", "requests", 5, left, now + reset)], now)

    def on_commit(self, number: int, text: str) -> None:
        if number not in self.open:
            return
        may = self.dispatch.on_commit(number, self.sim.now)
        if may:
            self.committed = number
            for other in self.open - {number}:
                assert not self.dispatch.on_commit(other, self.sim.now)
            self.open = {number}
            send = self.sends[number]
            if send.join is not None:
                self.dispatch.transcript.joins.append(send.join)
            tools = (ToolDelta(index=0, name="f"),) if self.sim.draw.random() < 0.1 else ()
            self.dispatch.transcript.add(StreamEvent(text=text, tools=tools))
        else:
            self.open.discard(number)

    def on_verdict(self, number: int, failure: Failure | None) -> None:
        if number not in self.open:
            self.late_fact(number)
            return
        self.open.discard(number)
        if failure is None:
            self.accepted.add(number)
            self.open.clear()
        else:
            self.failed[number] = failure
        self.dispatch.on_verdict(number, Rejected(failure=failure) if failure else Accepted(), self.sim.now)
        self.advance()

    def on_cancel(self) -> None:
        if self.end is not None:
            return
        self.is_cancelled = True
        silent = {number: self.sim.now - self.sent_at[number] for number in self.open}
        self.dispatch.on_cancel(self.sim.now, silent)
        self.advance()

    def late_fact(self, number: int) -> None:
        """Facts about attempts that are over, or never were, change nothing."""
        dispatch, now = self.dispatch, self.sim.now
        before = (repr(dispatch.records), dispatch.calls, self.sim.in_flight(), dispatch.fallbacks, dispatch.deadline)
        for one in (number, 99):
            dispatch.on_content(one, now)
            assert not dispatch.on_commit(one, now)
            dispatch.on_head(one, 200, "late")
            dispatch.on_verdict(one, Accepted(), now)
        assert before == (
            repr(dispatch.records),
            dispatch.calls,
            self.sim.in_flight(),
            dispatch.fallbacks,
            dispatch.deadline,
        )

    # --- what must hold ------------------------------------------------------------------------------------

    def check_send(self, step: Send, standing: object) -> None:
        now, key = self.sim.now, step.target.key
        assert self.accepted == set(), "nothing is called when an answer is there"
        assert not self.is_cancelled
        assert step.attempt == len(self.sends) + 1 <= self.most_calls
        assert now < self.dispatch.deadline
        assert 0 < step.limits.to_commit <= self.dispatch.deadline - now + 1e-9
        if isinstance(standing, Out):
            assert not standing.is_ejection, "a limit or a defect is never tried early"
            assert step.mode == "trial", step
        self.check_company(step)
        self.check_use(step, key)
        if self.committed is None:
            assert step.mode != "continue"
            assert step.join is None
        else:
            assert (step.mode, self.committed in self.failed) == ("continue", True)
            assert step.join is not None
            assert self.policy.stream.recover == "continue"
            assert self.dispatch.transcript.barrier is None
        if self.sends and step.mode != "retry" and self.committed is None:
            self.check_reasons(step)

    def check_company(self, step: Send) -> None:
        """Two at once only where the first is a trial that has been given two seconds."""
        if self.open:
            (first,) = self.open
            assert self.sends[first].mode == "trial"
            assert self.walk.is_repeatable
            assert self.sim.now >= self.sent_at[first] + TRIAL_COMPANION

    def check_use(self, step: Send, key: str) -> None:
        used = [number for number, send in self.sends.items() if send.target.key == key]
        if not used:
            return
        assert step.mode == "retry"
        last = self.failed[max(self.sends)]
        if last.reason is FailureReason.RATE_LIMIT:
            assert self.sim.now - (self.sent_at[used[-1]] + 0.0) >= 1.0, "it waited for the reset"
        else:
            assert last.reason in (FailureReason.CONNECT_ERROR, FailureReason.SERVER_ERROR)
            assert len(used) == 1, "such a retry is made once"
        names = {send.target.name for send in self.sends.values()}
        left = [one for one in self.plan.rungs if one.name not in names and one.name not in self.skipped()]
        if self.skipped() and self.policy.fallback_on.isdisjoint(OUTAGE):
            left = []  # behind a rung that is out, no other may answer here
        assert len(self.sends) + len(left) < self.most_calls, "every other rung keeps its call"

    def check_reasons(self, step: Send) -> None:
        """The walk went on, so every failure so far was listed, or a later rung's defect after a listed one."""
        if self.dispatch._has_left_early:
            return  # behind a rung that was left early, and before it is called after all, none may end the walk
        listed, has_fallen = self.policy.fallback_on, False
        retried = {number for number in self.failed if (after := self.sends.get(number + 1)) and after.mode == "retry"}
        for number, failure in self.failed.items():
            if number in retried:
                continue
            if failure.reason in listed:
                has_fallen = True
            else:
                assert DISPOSITIONS[failure.reason].is_defect, failure
                assert has_fallen, failure

    def skipped(self) -> set[str]:
        return {record.target for record in self.dispatch.records if record.number == 0}

    def check_end(self, end: Deliver | GiveUp) -> None:
        now = self.sim.now
        if isinstance(end, Deliver):
            if end.attempt not in self.accepted:
                row = DISPOSITIONS[self.failed[end.attempt].reason]
                assert row.is_soft, "only an answer may be delivered"
            assert self.committed in (None, end.attempt) or self.sends[end.attempt].mode == "continue"
        else:
            assert not self.accepted
            assert end.message
            if end.code == "chain_exhausted":
                self.check_nobody_was_left(end, now)
        for later in (now, now + 1.0, now + 1e6):
            assert self.dispatch.next_step(later) is end
        for number in self.sends:
            self.late_fact(number)
            self.dispatch.on_cancel(now, {number: 1e6})
        assert self.dispatch.next_step(now) is end
        numbers = [record.number for record in self.dispatch.records if record.number]
        assert numbers == list(range(1, len(self.sends) + 1))
        skips = Counter(record.target for record in self.dispatch.records if not record.number)
        assert all(count == 1 for count in skips.values()), "a rung is skipped once"

    def check_nobody_was_left(self, end: GiveUp, now: float) -> None:
        """No error while a target that was not called could have been."""
        for one in self.plan.rungs:
            assert one.name in end.message
        if len(self.sends) >= self.most_calls or now >= self.dispatch.deadline:
            return
        if self.sends and self.sim.is_poor:
            return  # extra attempts may not have been paid for
        if self.policy.fallback_on.isdisjoint(DEFAULT_FALLBACK - LIMITS):
            return  # an open breaker may have ended such a walk early
        called = {send.target.name for send in self.sends.values()}
        overflowed = any(f.reason is FailureReason.CONTEXT_OVERFLOW for f in self.failed.values())
        has_tried_early = any(send.mode == "trial" for send in self.sends.values())  # once a request
        for one in self.plan.rungs:
            if one.name in called or overflowed:
                continue
            for target in one.targets:
                standing = self.sim.board.of(target).standing(now)
                assert isinstance(standing, Out), f"{target.key} could have been called"
                if not standing.is_ejection:
                    is_excused = has_tried_early or self.sim.is_poor or standing.reason == "trial_in_flight"
                    assert is_excused, f"{target.key} had no last resort"


class Simulation:
    """Some requests over one board, driven by a queue of events; all chance comes from `seed`."""

    def __init__(self, seed: int):
        self.draw = random.Random(seed)
        self.now = 1000.0
        self.trace: list[tuple[float, str, str]] = []
        self.board = HealthBoard(self.draw.random)
        self.is_poor = self.draw.random() < 0.4
        self.budget = RetryBudget(ratio=0.2, floor=0.1) if self.is_poor else RetryBudget(ratio=10.0, floor=1e6)
        windows = [None, None, 1000, 2000]
        self.chain = tuple(
            rung(
                f"{self.draw.choice('pqr')}{number}/{self.draw.choice(['large', 'small'])}",
                credentials=self.draw.choice([1, 1, 2, 3]),
                window=self.draw.choice(windows),
                assembles=self.draw.random() < 0.5,
                prefill=self.draw.random() < 0.5,
            )
            for number in range(self.draw.randint(1, 6))
        )
        self.badness = self.draw.choice([0.1, 0.5, 0.9, 1.0])
        self.words = random.Random(seed + 1)
        self.wordiness = self.words.choice([0.0, 0.0, 0.3, 1.0])
        """How many of the answers say what is left of a rate limit: true or not, no walk may come to harm by it."""
        self._events: list[tuple[float, int, object]] = []
        self._order = itertools.count()
        self.requests: list[Request] = []

    def at(self, time: float, do: object) -> None:
        heapq.heappush(self._events, (time, next(self._order), do))

    def run(self) -> None:
        for number in range(self.draw.randint(1, 12)):
            self.at(self.now + self.draw.choice([0.0, 1.0, self.draw.uniform(0, 60)]), self.begin(f"r{number}"))
        while self._events:
            self.now, _, do = heapq.heappop(self._events)
            assert callable(do)
            do()
        for request in self.requests:
            assert request.end is not None, f"{request.name} never ended"
        assert self.in_flight() == 0, "a permit was not returned"
        assert not any(health.breaker.has_trial(self.now) for health in self.board.targets.values())

    def begin(self, name: str) -> object:
        def start() -> None:
            request = Request(self, name)
            self.requests.append(request)
            if self.draw.random() < 0.1:
                self.at(self.now + self.draw.uniform(0, 60), request.on_cancel)
            request.advance()

        return start

    def in_flight(self) -> int:
        return sum(health.in_flight for health in self.board.targets.values())

    def play(self, request: Request, step: Send) -> None:
        """Decides what becomes of an attempt, within its limits."""
        number, limits, draw = step.attempt, step.limits, self.draw
        takes = draw.choice([0.0, 0.05, 1.0, 2.5, 8.0, 40.0])
        first = min(limits.first_content, limits.to_commit)
        failure = self.failure() if draw.random() < self.badness else None
        if takes >= first:
            self.at(self.now + first, lambda: request.on_verdict(number, timed_out(limits.to_commit < 12.0)))
            return
        until = self.now + takes
        words = self.words
        if words.random() < self.wordiness:
            left, reset = words.choice([0, 1, 5]), words.choice([0.0, 3.0, 60.0])
            self.at(self.now + takes * words.random(), lambda: request.on_limits(number, left, reset))
        if draw.random() < 0.5 and request.walk.facts.stream:
            starts = self.now + takes * draw.random()
            self.at(starts, lambda: request.on_content(number))
            if draw.random() < 0.7:
                text = "text " * draw.randint(0, 40)
                self.at(starts, lambda: request.on_commit(number, text))
                until += draw.choice([0.0, 30.0, 700.0])
        self.at(until, lambda: request.on_verdict(number, failure))

    def failure(self) -> Failure:
        draw = self.draw
        reason = draw.choice([*REASONS, *USUAL * 3])
        if draw.random() < 0.01:
            reason = FailureReason.INTERNAL_ERROR
        return Failure(
            reason=reason,
            status=STATUS.get(reason) if draw.random() < 0.9 else None,
            retry_after=draw.choice([None, 0.0, 1.0, 14.0, 100.0]) if reason is FailureReason.RATE_LIMIT else None,
        )


def timed_out(is_callers: bool) -> Failure:
    return Failure(
        reason=FailureReason.TIMEOUT, origin=Origin.LOCAL, phase=Phase.FIRST_CONTENT, is_caller_limit=is_callers
    )


def run(seed: int) -> Simulation:
    simulation = Simulation(seed)
    simulation.run()
    return simulation


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_invariants_hold_over_random_walks(seed: int) -> None:
    run(seed)


@pytest.mark.parametrize("block", range(8))
def test_invariants_hold_for_a_block_of_seeds(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        try:
            run(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_seed_gives_the_same_walks_again(seed: int) -> None:
    assert run(seed).trace == run(seed).trace


def ways() -> Iterator[str]:
    """What the first seeds exercise, so that the simulation cannot quietly stop reaching something."""
    for seed in range(300):
        for request in run(seed).requests:
            yield from (send.mode for send in request.sends.values())
            assert request.end is not None
            yield type(request.end).__name__
            if isinstance(request.end, GiveUp):
                yield request.end.code
            for record in request.dispatch.records:
                if record.skip is not None:
                    yield record.skip
                if record.failure is not None and record.failure.detail:
                    yield record.failure.detail


def test_simulation_reaches_every_part_of_the_walk() -> None:
    seen = Counter(ways())
    wanted = {
        *("fresh", "retry", "trial", "continue"),
        *("Deliver", "GiveUp", "chain_exhausted", "soft_agreement", "stream_interrupted", "upstream_auth_error"),
        *("cancelled", "internal_error", "rate_limit", "invalid_request"),
        *("breaker open", "on trial", "rate_limit", "quota_exhausted", "model_unavailable", "auth_error"),
        "its window is no larger than one that was too small",
        "another target was faster",
        "rate_limit: 0 requests left",
        "the client went away",
    }
    assert wanted <= set(seen), wanted - set(seen)
