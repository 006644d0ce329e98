"""What must hold at every step of a simulation, whatever the weather. Each check says in a sentence what it is."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

from crossfade.core.failure import DEFAULT_FALLBACK, DISPOSITIONS, Failure, FailureReason, HealthEffect
from crossfade.core.health import TargetHealth
from crossfade.core.slots import Slots
from crossfade.core.standing import Out
from crossfade.core.steps import Deliver, GiveUp, Send
from crossfade.core.target import Rung, Target, rungs_of
from crossfade.core.verdict import Accepted
from tests.simulation.weather import BLAMELESS

if TYPE_CHECKING:
    from tests.simulation.caller import Caller
    from tests.simulation.world import World

_R = FailureReason
COMPANION: Final = 2.0
"""Seconds that a trial has for itself."""
_ALMOST: Final = 1e-6
_OUTAGE: Final = frozenset(
    reason
    for reason, row in DISPOSITIONS.items()
    if row.health in (HealthEffect.FAILURE, HealthEffect.ROUTE_AND_BREAKER)
)
_LIMITS: Final = frozenset({_R.RATE_LIMIT, _R.QUOTA_EXHAUSTED})
_NO_REQUESTS_FAULT: Final = frozenset({_R.CONNECT_ERROR, _R.OVERLOADED})

State = tuple[object, ...]


class Broken(AssertionError):
    """An invariant does not hold; says which simulation to look at, and when."""


class Watch:
    """Looks on while a world runs."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.trials: dict[str, set[tuple[str, int]]] = {}
        """Trials under way: per target, by whom."""
        self._given = 0
        self._standings: dict[str, object] = {}
        self._granted: Slots | None = None
        self._allowed = {
            route.name: {target.key for rung in route.chain for target in rung.targets} for route in world.routes
        }
        self._weightless = {
            route.name: {
                member.link.name: pool.name
                for pool in route.links
                if not isinstance(pool, Rung)
                for member in pool.members
                if not member.weight
            }
            for route in world.routes
        }
        self._guilty: dict[str, set[object]] = {}
        """Per target, whose failures its breaker has heard of; None: failures that no request is the cause of."""
        self._shut: dict[tuple[str, str], float] = {}
        """By model and account (or key): until when its provider wants no calls."""
        self._opened: dict[str, set[str]] = {}
        """Per provider, the targets whose breakers have ever opened."""

    def check(self, holds: bool, what: str, caller: Caller | None = None) -> None:
        if not holds:
            who = "" if caller is None else f" ({caller.name}, {caller.kind}, {caller.route.name})"
            at = self.world.now - 1000.0
            raise Broken(f"seed {self.world.seed} at {at:.3f} s{who}: {what}")

    # --- calls -----------------------------------------------------------------------------------------------

    def before_step(self, caller: Caller) -> None:
        """What a call that is made in the next step has to be judged by: as it was before."""
        now, board, request = self.world.now, self.world.board, caller.walk.request
        self._given = self.world.budgets[caller.route.name].given
        ticket = caller.dispatch._ticket
        self._granted = None if ticket is None else ticket.granted
        self._standings = {
            target.key: board.of(target).standing(now, request) for rung in caller.plan.rungs for target in rung.targets
        }

    def on_send(self, caller: Caller, step: Send) -> None:
        check, now, key, mode, board = self.check, self.world.now, step.target.key, step.mode, self.world.board
        self.world.counts[f"call: {mode}"] += 1
        check(not caller.accepted, "no call once an answer is there", caller)
        check(not caller.is_cancelled, "no call for a caller that has left", caller)
        check(now < caller.dispatch.deadline, "no call beyond the deadline", caller)
        left = caller.dispatch.deadline - now
        check(0 < step.limits.to_commit <= left + _ALMOST, "no call may last beyond the deadline", caller)
        check(step.attempt == len(caller.sends) + 1, "calls are numbered in turn", caller)
        check(step.attempt <= most_calls(caller), "no more calls than max_attempts", caller)
        check(key in self._allowed[caller.route.name], "no prompt to a target that the route does not have", caller)
        check(not self._is_unfit(caller, step), "no prompt to a target that the plan left out", caller)
        is_drained = step.target.name in self.world.drained or step.target.provider in self.world.drained
        check(not is_drained, "no call to a drained target", caller)
        standing = self._standings[key]
        health = board.of(step.target)
        slots = health.slots
        check(
            slots is None or health.load.active + slots.reserved <= slots.limit.value, "no call to a full one", caller
        )
        if isinstance(standing, Out) and standing.reason == "full":
            check(slots is not None and slots is self._granted, "no call to a full target that keeps no room", caller)
        elif isinstance(standing, Out):
            check(not standing.is_ejection, f"no call within an ejection ({standing.reason})", caller)
            check(mode == "trial" or caller.committed is not None, "an open breaker is called on trial only", caller)
        shut = self._shut.get(_limited(step.target), 0.0)
        check(now >= shut - _ALMOST, f"no call within the {shut - now:.1f} s more that a 429 gave", caller)
        self._check_commit(caller, step)
        self._check_company(caller, step)
        self._check_payment(caller, step)
        self._check_again(caller, step)
        self._check_reasons(caller, step)
        self._check_weights(caller, step)
        self._count_trial(caller, step)

    def _is_unfit(self, caller: Caller, step: Send) -> bool:
        return any(skip.rung.name == step.target.name for skip in caller.plan.skips)

    def _check_commit(self, caller: Caller, step: Send) -> None:
        """After a commit only a join may follow: to a stream that broke off, on a route that recovers."""
        if caller.committed is None:
            self.check(step.mode != "continue" and step.join is None, "nothing to go on from", caller)
            return
        is_recovery = step.mode == "continue" and step.join is not None and caller.committed in caller.failed
        self.check(is_recovery, "no call after a commit but to go on from it", caller)
        self.check(caller.route.policy.stream.recover == "continue", "no recovery where there should be none", caller)
        self.check(caller.dispatch.transcript.barrier is None, "no recovery beyond a barrier", caller)

    def _check_company(self, caller: Caller, step: Send) -> None:
        """Two at once only beside a trial of two seconds, or by one hedge; never three, nor what cannot be repeated."""
        if not caller.open:
            self.check(step.mode != "hedge", "a hedge is beside a call", caller)
            return
        self.check(len(caller.open) == 1, "never three at once", caller)
        self.check(caller.walk.is_repeatable, "two at once of what must not be repeated", caller)
        (first,) = caller.open
        waited = self.world.now - caller.sent_at[first]
        if step.mode == "hedge":
            self.check(not caller.has_hedged, "one hedge a request", caller)
            caller.has_hedged = True
            after = caller.route.policy.hedge.after
            self.check(waited >= (after or 0.0) - _ALMOST, "a hedge before its time", caller)
        else:
            self.check(caller.sends[first].mode == "trial", "company for what is no trial", caller)
            self.check(waited >= COMPANION - _ALMOST, "company before its time", caller)

    def _check_payment(self, caller: Caller, step: Send) -> None:
        """An extra call while every target of the route fails is paid for; so is each hedge, once."""
        budget = self.world.budgets[caller.route.name]
        paid = budget.given - self._given
        board = self.world.board
        are_failing = all(board.of(target).is_failing for rung in caller.plan.rungs for target in rung.targets)
        if step.mode == "hedge":
            self.check(paid == 1, f"a hedge is paid for once, not {paid} times", caller)
        elif step.attempt > 1 and are_failing:
            self.check(paid >= 1, "an extra call in an outage is paid for", caller)
        self.check(paid <= 1, f"one call is paid for once, not {paid} times", caller)
        most = budget.ratio * budget.deposits + budget.floor * (self.world.now - 1000.0) + max(budget.floor, 1.0)
        self.check(budget.given <= most + _ALMOST, "the budget holds", caller)

    def _check_again(self, caller: Caller, step: Send) -> None:
        """The same target is asked again only as its failure says."""
        used = [number for number, send in caller.sends.items() if send.target.key == step.target.key]
        if not used:
            return
        self.check(step.mode == "retry", "the same target again, and no retry", caller)
        failure = caller.failed.get(used[-1])
        may = failure is not None and failure.reason in (_R.CONNECT_ERROR, _R.SERVER_ERROR, _R.RATE_LIMIT)
        self.check(may, "the same target again after what is not retried", caller)

    def _check_reasons(self, caller: Caller, step: Send) -> None:
        """The walk goes on only after what the route falls back on; a defect goes on behind such a failure. A target
        that was passed over for what its provider said of its limits is called in the end, whatever failed."""
        if step.mode == "retry" or caller.committed is not None:
            return
        if any(record.skip is not None and record.skip.startswith("rate_limit:") for record in caller.dispatch.records):
            return
        listed, has_listed = caller.route.policy.fallback_on, False
        for number, failure in caller.failed.items():
            after = caller.sends.get(number + 1)
            if failure.reason in listed:
                has_listed = True
            elif after is None or after.mode != "retry":
                may = has_listed and DISPOSITIONS[failure.reason].is_defect
                self.check(may, f"the walk went on after {failure.reason}", caller)

    def _check_weights(self, caller: Caller, step: Send) -> None:
        """Of a pool, a member without weight comes first only where all others are out or on their way back."""
        weightless = self._weightless[caller.route.name]
        name = step.target.name
        has_waited = caller.dispatch._queue_until > 0.0
        if step.attempt > 1 or has_waited or name not in weightless or name != caller.plan.rungs[0].name:
            return
        board, now = self.world.board, self.world.now
        for link in caller.route.links:
            if link.name != weightless[name]:
                continue
            for rung in rungs_of(link):
                if rung.name in weightless or not any(one.name == rung.name for one in caller.plan.rungs):
                    continue
                target = rung.targets[0]
                health = board.of(target)
                is_well = all(
                    not isinstance(board.of(one).standing(now), Out)
                    and not board.of(one).soft_rank(caller.route.name, now)
                    for one in rung.targets
                )
                self.check(not is_well or health.ramp(now) < 1.0, f"{name} has no weight and came first", caller)

    def _count_trial(self, caller: Caller, step: Send) -> None:
        """One trial at a time of a half-open target."""
        permit = caller.dispatch._in_flight[step.attempt].permit
        if permit is None or not permit.is_trial:
            return
        self.world.counts["trials"] += 1
        under_way = self.trials.setdefault(step.target.key, set())
        self.check(not under_way, f"a second trial of {step.target.key} beside {under_way}", caller)
        under_way.add((caller.name, step.attempt))

    def on_wait(self, caller: Caller, until: float | None, *, is_alone: bool) -> None:
        self.check(until is None or until > self.world.now, "it would be asked forever", caller)
        self.check(bool(caller.open) or is_alone, "nothing is under way and nothing will be", caller)
        if is_alone and until is not None:
            self.check(until < caller.dispatch.deadline, "no sleep beyond the deadline", caller)

    def on_commit(self, caller: Caller, number: int) -> None:
        now, dispatch = self.world.now, caller.dispatch
        self.check(now <= dispatch.deadline + _ALMOST, "no commit beyond the deadline", caller)
        for other in caller.open - {number}:
            self.check(not dispatch.on_commit(other, now), "two streams for one caller", caller)
            self._is_over(caller, other)
        self._is_over(caller, number)
        self.world.counts["commits"] += 1

    # --- results ---------------------------------------------------------------------------------------------

    def before_verdict(self, caller: Caller, number: int, failure: Failure | None) -> State | None:
        """What health looks like, where a failure is coming that must not change it."""
        if failure is None or not (failure.is_caller_limit or failure.reason in BLAMELESS):
            return None
        return self._state(caller, number)

    def on_settled(self, caller: Caller, number: int, failure: Failure | None, before: State | None = None) -> None:
        self._is_over(caller, number)
        if failure is not None:
            self.world.counts[f"failure: {failure.reason}"] += 1
        if before is not None and failure is not None:
            what = f"{failure.reason} is no fault of the target, and has moved its health"
            self.check(before == self._state(caller, number), what, caller)
        self._note_guilt(caller, number, failure)
        if failure is not None and failure.reason is _R.RATE_LIMIT and before is None:
            wait = 10.0 if failure.retry_after is None else min(max(failure.retry_after, 1.0), 900.0)
            key = _limited(caller.sends[number].target)
            self._shut[key] = max(self._shut.get(key, 0.0), self.world.now + wait)

    def before_leaving(self, caller: Caller, silent: dict[int, float]) -> list[tuple[int, State]]:
        """Health of the targets that a caller leaves who has waited no longer than all have to."""
        return [(number, self._state(caller, number)) for number, waited in silent.items() if waited < 2.0]

    def on_left(self, caller: Caller, before: list[tuple[int, State]]) -> None:
        for number in list(caller.open):
            self._is_over(caller, number)
        for number, state in before:
            self.check(state == self._state(caller, number), "a caller that leaves has moved a target's health", caller)

    def on_late(self, caller: Caller, number: int) -> None:
        """A fact about a call that is over, or never was, changes nothing."""
        dispatch, now = caller.dispatch, self.world.now
        before = self._all(caller)
        for one in (number, 99):
            dispatch.on_content(one, now)
            self.check(not dispatch.on_commit(one, now), "a late commit", caller)
            dispatch.on_head(one, 200, "late")
            dispatch.on_verdict(one, Accepted(), now)
        self.check(before == self._all(caller), "a late result has changed something", caller)

    def _all(self, caller: Caller) -> State:
        dispatch = caller.dispatch
        records = [(one.number, one.status, one.latency_s, one.failure) for one in dispatch.records]
        states = [self._state(caller, number) for number in caller.sends]
        return (records, dispatch.calls, dispatch.fallbacks, dispatch.deadline, len(dispatch.changes), states)

    def _state(self, caller: Caller, number: int) -> State:
        """All of a target's health that decides anything, but for a trial's own place."""
        health = caller.attempts[number].health
        breaker = health.breaker
        calls, failures = breaker.recent(self.world.now)
        held = tuple(tuple(one.items()) for one, _ in health._held())
        return (breaker.state(self.world.now), breaker.consecutive_failures, calls, failures, held, breaker.is_for_one)

    def _is_over(self, caller: Caller, number: int) -> None:
        """A trial ends where its permit is settled. A call that was ended may have told the breaker of its silence."""
        attempt = caller.attempts.get(number)
        if attempt is not None and number not in caller.failed and number not in caller.accepted:
            self._guilty.setdefault(attempt.target.key, set()).add(caller.walk.request)
        if attempt is not None and attempt.permit is not None and attempt.permit.settled:
            under_way = self.trials.get(attempt.target.key)
            if under_way is not None:
                under_way.discard((caller.name, number))

    def _note_guilt(self, caller: Caller, number: int, failure: Failure | None) -> None:
        """One request's failures never open a breaker for the others, unless it could not be the cause."""
        attempt = caller.attempts[number]
        key, breaker = attempt.target.key, attempt.health.breaker
        guilty = self._guilty.setdefault(key, set())
        if failure is not None and failure.reason in _OUTAGE and not failure.is_caller_limit:
            guilty.add(None if failure.reason in _NO_REQUESTS_FAULT else caller.walk.request)
        if breaker.is_closed or breaker.is_for_one:
            return
        others = self._opened.setdefault(attempt.target.provider, set())
        if len(guilty) == 1 and None not in guilty:
            # Where the breakers of a provider's other targets have opened, one failure may be enough.
            self.check(bool(others - {key}), f"the breaker of {key} is open for all by one request alone", caller)
        others.add(key)

    # --- ends ------------------------------------------------------------------------------------------------

    def on_end(self, caller: Caller, end: Deliver | GiveUp) -> None:
        now, dispatch = self.world.now, caller.dispatch
        self.world.counts["end: " + ("answered" if isinstance(end, Deliver) else end.code)] += 1
        self.world.counts["fallbacks"] += dispatch.fallbacks
        self.world.counts["joins"] += len(dispatch.joins)
        for record in dispatch.records:
            if record.skip is not None:
                self.world.counts[f"skip: {record.skip.partition(':')[0]}"] += 1
        for number in caller.sends:
            self._is_over(caller, number)
        if caller.committed is None:
            self.check(now <= caller.began_at + caller.overall + _ALMOST, "nobody waits beyond the deadline", caller)
        if isinstance(end, Deliver):
            self._check_delivery(caller, end)
        elif caller.kind != "leaving" or not caller.is_cancelled:
            self.check(not caller.accepted, "an error though an answer was there", caller)
            self.check(bool(end.message), "an error without words", caller)
            if end.code == "chain_exhausted":
                self._check_nobody_was_left(caller, end)
            else:
                self._check_no_key_ends_it(caller)
        for later in (now, now + 1.0, now + 1e6):
            self.check(dispatch.next_step(later) is end, "an end is an end", caller)
        for number in caller.sends:
            self.on_late(caller, number)
        numbers = [record.number for record in dispatch.records if record.number]
        self.check(numbers == list(range(1, len(caller.sends) + 1)), "every call is on record, once", caller)

    def _check_delivery(self, caller: Caller, end: Deliver) -> None:
        """What is delivered is an answer: a good one, or one that is flagged or that the route would have replaced."""
        if end.attempt in caller.accepted:
            return
        row = DISPOSITIONS[caller.failed[end.attempt].reason]
        self.check(row.is_soft, "a failure is delivered", caller)

    def _check_nobody_was_left(self, caller: Caller, end: GiveUp) -> None:
        """Never an error while a target that was not called could have been."""
        now, dispatch, policy = self.world.now, caller.dispatch, caller.route.policy
        for one in caller.plan.rungs:
            self.check(one.name in end.message, f"{one.name} is not named in the error", caller)
        if len(caller.sends) >= most_calls(caller) or now >= dispatch.deadline:
            return
        budget = self.world.budgets[caller.route.name]
        if caller.sends and not copy.deepcopy(budget).try_withdraw(now):
            return  # extra attempts could not be paid for
        if policy.fallback_on.isdisjoint(DEFAULT_FALLBACK - _LIMITS):
            return  # an open breaker may have ended such a walk early
        called = {send.target.name for send in caller.sends.values()}
        if any(failure.reason is _R.CONTEXT_OVERFLOW for failure in caller.failed.values()):
            return  # a smaller window is passed over
        has_tried_early = any(send.mode == "trial" for send in caller.sends.values())  # one a request
        for one in caller.plan.rungs:
            if one.name not in called:
                for target in one.targets:
                    self._check_was_out(caller, self.world.board.of(target), has_tried_early)

    def _check_no_key_ends_it(self, caller: Caller) -> None:
        """Once a failure was one to fall back on, no refusal of another key ends the walk while a rung is left."""
        if caller.committed is not None or len(caller.failed) < 2 or len(caller.sends) >= most_calls(caller):
            return
        *before, last = caller.failed.values()
        if last.reason not in (_R.AUTH_ERROR, _R.MODEL_UNAVAILABLE):
            return
        listed = caller.route.policy.fallback_on
        self.check(not any(failure.reason in listed for failure in before), f"{last.reason} of a key ended it", caller)

    def _check_was_out(self, caller: Caller, health: TargetHealth, has_tried_early: bool) -> None:
        standing = health.standing(self.world.now, caller.walk.request)
        if isinstance(standing, Out) and standing.reason == "full":
            assert health.slots is not None
            has_waited = 0.0 < caller.dispatch._queue_until <= self.world.now
            is_long = health.slots.waiting >= caller.route.policy.queue.size
            self.check(has_waited or is_long, f"an error, and {health.key} could have been waited for", caller)
        elif not isinstance(standing, Out):
            self.check(False, f"an error, and {health.key} could have been called", caller)
        elif not standing.is_ejection and standing.reason != "trial_in_flight":
            self.check(has_tried_early or health.is_full, f"an error, and {health.key} had no last resort", caller)

    def after_event(self) -> None:
        """Nobody waits while there is room: who comes next is told at once."""
        for key, health in self.world.board.targets.items():
            slots, breaker = health.slots, health.breaker
            if not breaker.is_closed and not breaker.is_for_one:
                self._opened.setdefault(key.partition("/")[0], set()).add(key)
            if slots is not None:
                self.check(slots.reserved >= 0, f"{key}: room is given back twice")
                self.check(not slots.waiting or slots.is_full, f"{key}: {slots.waiting} wait though it has room")

    def at_the_end(self) -> None:
        """Every request has ended, every permit is returned, and every call is over."""
        for caller in self.world.callers:
            self.check(caller.end is not None, "it never ended", caller)
        self.check(len(self.world.callers) == self.world.counts["requests"], "requests are lost")
        for key, health in self.world.board.targets.items():
            self.check(health.in_flight == 0, f"{key}: {health.in_flight} permits are out")
            self.check(health.load.active == 0, f"{key}: {health.load.active} calls are counted as under way")
            if health.slots is not None:
                self.check(not health.slots.reserved, f"{key}: room is kept for {health.slots.reserved} who have gone")
                self.check(not health.slots.waiting, f"{key}: {health.slots.waiting} wait for ever")
            self.check(not health.breaker.has_trial(self.world.now), f"{key}: a trial was never ended")
        for key, under_way in self.trials.items():
            self.check(not under_way, f"{key}: trials were not settled: {under_way}")


def _limited(target: Target) -> tuple[str, str]:
    """Who shares a rate limit: a model under the keys of one declared account."""
    return target.name, target.account or f"#{target.credential}"


def most_calls(caller: Caller) -> int:
    given = caller.route.policy.retry.max_attempts
    return given or min(5, sum(len(one.targets) for one in caller.plan.rungs) + 1)
