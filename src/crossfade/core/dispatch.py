"""One request's walk along its plan: what to do next, and what it all amounted to.

Sans I/O. The runner asks `next_step(now)`, performs it, and reports facts by the attempt's number: `on_content`,
`on_commit`, `on_verdict`, `on_cancel`. The rules of the walk (design section 3):

- a failure goes on to the next rung if its reason is in the effective `fallback_on`; once one has, a defect of a
  later rung (`invalid_request`, `auth_error`, `model_unavailable`) goes on as well;
- the same target is asked again only as `DISPOSITIONS` says, and only while every other rung keeps its call;
- a rung that is out is skipped with its reason on record; an ejection whose reason is not listed ends the walk;
- a rung whose rate limits have no room for the request is passed over while another one has;
- a rung that has as many calls under way as it takes is passed over, and waited for where no other may answer;
- at the end of the chain, a rung that was passed over gets its call if it is back or was only short of room, or as the
  last resort before its time;
- before the commit every failure is invisible; after it only a proven join may follow.

A fact about an attempt that is over changes nothing. Every permit is settled: with what came of its attempt, or
without a judgement where the attempt was ended for no fault of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from crossfade.core import policy as defaults
from crossfade.core.breaker import Permit
from crossfade.core.exchange import JoinNote
from crossfade.core.exhausted import RungEnd, agreed, broken_off, declined, exhausted, passed_over
from crossfade.core.failure import DISPOSITIONS, Failure, FailureReason, FallBack, HealthEffect, Origin, Phase, Retry
from crossfade.core.headroom import Limit
from crossfade.core.health import TargetHealth
from crossfade.core.limits import attempt_limits, reserve
from crossfade.core.policy import RoutePolicy
from crossfade.core.slots import Slots, Ticket
from crossfade.core.standing import Change, Out
from crossfade.core.steps import Defect, Deliver, Fallback, GiveUp, Pending, Queued, Send, Step, Wait
from crossfade.core.stream import Transcript
from crossfade.core.target import Plan, Rung, Skip, Target
from crossfade.core.verdict import Accepted, Rejected, Verdict
from crossfade.core.walk import Attempt, AttemptRecord, Walk

MAX_ATTEMPTS: Final = 5
UNFIT: Final = "unfit"
"""The reason of a fallback past a rung that lacks what the request needs."""

_R = FailureReason
_AGREEABLE: Final = frozenset({_R.EMPTY_OUTPUT, _R.INVALID_JSON, _R.INVALID_TOOL_CALL, _R.REJECTED_OUTPUT})
_BREAKER_EFFECTS: Final = (HealthEffect.FAILURE, HealthEffect.ROUTE_AND_BREAKER)
_OUTAGE: Final = frozenset(reason for reason, row in DISPOSITIONS.items() if row.health in _BREAKER_EFFECTS)
"""What opens a breaker: who falls back on one of these falls back on an open breaker."""
SLOW_TRIAL: Final = "slow_trial"
HEDGED: Final = "hedged"
"""The reasons of a call beside another one."""
_NO_HEDGE: Final = RoutePolicy().hedge
_PENDING: Final = Pending()
_ENDS_THE_WALK: Final = frozenset({_R.INTERNAL_ERROR, _R.CANCELLED})
_SAYS_WHEN: Final = frozenset({_R.RATE_LIMIT, _R.QUOTA_EXHAUSTED})
"""Failures with which a provider usually says when it may be asked again."""
_BY_ANOTHER_KEY: Final = frozenset({Retry.OTHER_CREDENTIAL, Retry.LIMITED})
# Members that are looked at on every failure, as constants: an enumeration's own look-up takes compiled code longer
# than all that follows from it.
_NO_RETRY: Final = Retry.NO
_ONCE: Final = Retry.ONCE
_ONCE_DELAYED: Final = Retry.ONCE_DELAYED
_LIMITED: Final = Retry.LIMITED
_OPT_IN: Final = FallBack.OPT_IN
_TIMEOUT: Final = _R.TIMEOUT
_CONTEXT_OVERFLOW: Final = _R.CONTEXT_OVERFLOW
_OUT_WORDS: Final = {"breaker_open": "breaker open", "trial_in_flight": "on trial"}


class Dispatch:
    """The walk of one request, begun at the time it is made with. `records` is what was called and skipped, `changes`
    what health said, `notices` fallbacks and defects to be told; the runner empties the latter two. `last_reason` is
    why the walk last fell back. `deadline` bounds the time to the commit; for a stream that breaks off behind it, it is
    counted anew from there."""

    __slots__ = (
        "_again",
        "_again_at",
        "_agreed",
        "_companion_at",
        "_company",
        "_cut",
        "_declined",
        "_deliverable",
        "_ends",
        "_has_fallen",
        "_has_hedged",
        "_has_left_early",
        "_in_flight",
        "_is_last_resort_spent",
        "_kept",
        "_last",
        "_most_calls",
        "_must_wait",
        "_outcome",
        "_overflowed",
        "_passed",
        "_position",
        "_queue_until",
        "_rungs",
        "_started_at",
        "_ticket",
        "_transcript",
        "_tried",
        "_unfit",
        "_why_untried",
        "_winner",
        "calls",
        "changes",
        "deadline",
        "fallbacks",
        "last_reason",
        "notices",
        "records",
        "walk",
    )

    def __init__(self, walk: Walk, now: float):
        self.walk = walk
        self.deadline = now + walk.overall
        self._started_at = now
        self.records: list[AttemptRecord] = []
        self.changes: list[Change] = []
        self.notices: list[Fallback | Defect] = []
        self.calls = 0
        self.fallbacks = 0
        self.last_reason: str | None = None
        self._rungs: Sequence[Rung] = walk.plan.rungs
        self._transcript: Transcript | None = None  # made when it is first asked for: only streams have one
        self._position = 0
        self._most_calls = 0  # 0: not yet reckoned; the first call never needs it
        self._in_flight: dict[int, Attempt] = {}
        self._is_last_resort_spent = False
        self._tried: list[str] = []
        self._outcome: Deliver | GiveUp | None = None
        self._winner: int | None = None  # the attempt whose stream is being delivered
        self._cut: Attempt | None = None  # a delivered stream that broke off and is to be gone on from
        self._again: Attempt | None = None  # to be asked once more, at `_again_at`
        self._again_at = 0.0
        self._companion_at: float | None = None
        self._company = ""  # why another target is, or is to be, asked beside the first
        self._has_fallen = False
        self._has_hedged = False
        self._declined: tuple[Attempt, Failure] | None = None  # an end that waits for the attempt beside it
        self._agreed: dict[FailureReason, str] | None = None  # soft failure -> the provider that had it first
        self._overflowed: int | None = None  # window that the input did not fit into; -1: unknown
        self._ends: dict[str, RungEnd] = {}
        self._passed: list[tuple[int, Rung]] | None = None  # rungs that were out when their turn came, and places
        self._has_left_early = False  # in its turn, for what its provider said, and not beside another attempt
        self._kept: dict[str, tuple[int, Rung]] | None = None  # passed over for want of room, and not called since
        self._last: tuple[str, str] | None = None  # where the walk comes from: target and reason
        self._ticket: Ticket | None = None  # its place in the queues of targets that are full
        self._queue_until = 0.0  # 0: it has never waited for room
        self._must_wait = False  # for a target that is full: the route does not go on for that
        self._deliverable: int | None = None
        self._why_untried = ""
        self._unfit: Sequence[Skip] = walk.plan.skips  # those not yet on record
        walk.budget.deposit(now)
        if self._unfit:
            self._note_unfit(now, only_leading=True)

    @property
    def transcript(self) -> Transcript:
        """What has been delivered of a streamed answer."""
        if self._transcript is None:
            self._transcript = Transcript(self.walk.facts, self.walk.policy.stream)
        return self._transcript

    @property
    def joins(self) -> Sequence[JoinNote]:
        """The changes of provider within the delivered stream."""
        return () if self._transcript is None else self._transcript.joins

    # --- what to do next -------------------------------------------------------------------------------------

    def next_step(self, now: float) -> Step:
        """The next thing to do. Deliver and GiveUp are final and are given again when asked again."""
        if self._outcome is not None:
            return self._outcome
        if self._in_flight:
            return self._beside(now)
        if self._again is not None:
            if now < self._again_at:
                return Wait(self._again_at)
            again = self._ask_again(now)
            if again is not None:
                return again
        granted = None if self._ticket is None or self._ticket.granted is None else self._ticket.use()
        if granted is not None:
            self._ticket = None
        step: Send | Queued | None = self._next_call(now) or self._queued(now)
        if granted is not None:
            granted.offer()  # unless it is taken now, the room is the next one's
        if isinstance(step, Send):
            self._leave_queue()
        return step or self._final(now)

    def _next_call(self, now: float) -> Send | None:
        """The call of the next rung, or of one that was passed over."""
        step = self._walk_on(now) or self._second_look(now)
        while step is None and self._kept:
            # None of them may be called now, so the others have what was kept for them.
            self._passed = [*(self._passed or ()), *self._kept.values()]
            self._kept = None
            step = self._walk_on(now) or self._second_look(now)
        return step

    def _final(self, now: float) -> Deliver | GiveUp:
        """The outcome of a walk that cannot go on."""
        self._leave_queue()
        if self._outcome is None:
            self._outcome = self._ended(now)
        return self._outcome

    def _beside(self, now: float) -> Step:
        """A target on trial gets company, so that no caller waits for the trial's end; so does a slow one, where the
        request is hedged and the budget pays for it."""
        if self._companion_at is None:
            return _PENDING
        if now < self._companion_at:
            return Pending(self._companion_at)
        self._companion_at = None
        return self._walk_on(now, "hedge" if self._company == HEDGED else "fresh") or _PENDING

    def _walk_on(self, now: float, mode: str = "fresh") -> Send | None:
        """Sends to the next rung that is not out."""
        while self._outcome is None and self._position < len(self._rungs) and self._may_call(now):
            if self._must_wait:
                return None
            if self._kept and self.calls and self.calls + len(self._kept) >= self._most_calls:
                return None
            rung = self._rungs[self._position]
            self._position += 1
            if self._overflowed is not None and self._is_too_small(rung.targets[0]):
                self._note_skip(rung, "its window is no larger than one that was too small", now)
                continue
            picked = self._pick(rung, now)
            if picked is not None:
                target, health, permit = picked
                is_paid = not self.calls or (
                    self.walk.budget.try_withdraw(now) if mode == "hedge" else self._may_spend(now)
                )
                if not is_paid:
                    health.settle_unused(permit, now)
                    self._position -= 1
                    return None
                return self._send(self._position, rung, target, health, permit, now, mode)
        return None

    def _may_call(self, now: float) -> bool:
        if now >= self.deadline:
            self._why_untried = "no time was left"
            return False
        if not self.calls:
            return True
        if not self._most_calls:
            self._most_calls = self.walk.policy.retry.max_attempts or _default_attempts(self.walk.plan)
        if self.calls >= self._most_calls:
            self._why_untried = f"max_attempts ({self.calls}) was reached"
            return False
        return True

    def _pick(self, rung: Rung, now: float) -> tuple[Target, TargetHealth, Permit] | None:
        """A credential of the rung that is not out and has room, with its permit; else the skip is noted."""
        out: Out | None = None
        short: list[tuple[Target, Limit]] | None = None
        is_new = False
        targets, tried, board, request = rung.targets, self._tried, self.walk.board, self.walk.request
        for target in targets if len(targets) == 1 else _rotated(targets, self.walk.rotation):
            if target.key in tried:
                continue
            is_new = True
            health = board.of(target)
            if health.headroom.limits and (limit := self._shortage(health, now)) is not None:
                if not isinstance(health.standing(now, request), Out):
                    short = [*(short or ()), (target, limit)]
                    continue
            permit = health.take(now, request)
            if permit is not None:
                return target, health, permit
            standing = health.standing(now, request)
            if isinstance(standing, Out) and (out is None or (standing.until or now) < (out.until or now)):
                out = standing
        if short is not None:
            return self._pick_short(rung, short, now)
        if is_new:
            self._skip_out(rung, out or Out("trial_in_flight"), now)
        else:
            self._note_skip(rung, "it was called before", now)
        return None

    def _pick_short(
        self, rung: Rung, short: Sequence[tuple[Target, Limit]], now: float
    ) -> tuple[Target, TargetHealth, Permit] | None:
        """Of a rung whose rate limits have no room for the request: none while another rung has, else the first whose
        limit ends, for what its provider said may hold no more."""
        board = self.walk.board
        target, limit = min(short, key=lambda found: found[1].until)
        health = board.of(target)
        if not self._in_flight and not self._others_have_room(now):
            permit = health.take(now, self.walk.request)
            if permit is not None:
                return target, health, permit
        self._keep(self._position, rung)
        if not self._in_flight:
            self._has_fallen = self._has_left_early = True  # as if it had been called, and had refused
        left = max(0.0, health.headroom.left(limit))
        why = f"{_R.RATE_LIMIT}: {left:.0f} {limit.name} left"
        self._note_skip(rung, why, now, Out(_R.RATE_LIMIT, limit.until))
        return None

    def _keep(self, place: int, rung: Rung) -> None:
        """Sees to it that there will be a call, and time, for a rung that was passed over on its provider's word."""
        if self._kept is None:
            self._kept = {}
        self._kept[rung.name] = place, rung

    def _shortage(self, health: TargetHealth, now: float) -> Limit | None:
        """The rate limit that the request would run into there; None too where the route would not go on for that."""
        if _R.RATE_LIMIT not in self.walk.policy.fallback_on:
            return None
        return health.headroom.missing(self.walk.facts.input_tokens, now)

    def _others_have_room(self, now: float) -> bool:
        """Whether a later rung has a target that may be called now and has room for the request."""
        return any(
            target.key not in self._tried and not self._is_too_small(target) and self._has_room(target, now)
            for rung in self._rungs[self._position :]
            for target in rung.targets
        )

    def _has_room(self, target: Target, now: float) -> bool:
        health = self.walk.board.of(target)
        return not isinstance(health.standing(now, self.walk.request), Out) and self._shortage(health, now) is None

    def _skip_out(self, rung: Rung, out: Out, now: float) -> None:
        """Notes a rung that is out; the walk goes no further where the route does not fall back on the reason."""
        self._note_skip(rung, _OUT_WORDS.get(out.reason, out.reason), now, out)
        if self._passed is None:
            self._passed = []
        self._passed.append((self._position, rung))
        if self._cut is not None or self._in_flight or out.reason == "drained":
            return
        reason, listed = out.reason, self.walk.policy.fallback_on
        if reason == "full":
            if _R.OVERLOADED not in listed:
                self._must_wait = True
        elif not isinstance(reason, FailureReason):
            if listed.isdisjoint(_OUTAGE):
                self._rungs = self._rungs[: self._position]  # none but these may answer
        elif reason is not _R.AUTH_ERROR and reason not in listed:
            if not (self._has_fallen and DISPOSITIONS[reason].is_defect):
                self._end(self._or_deliverable(passed_over(self.walk.route, self._ends[rung.name], reason, now)), now)

    def _send(
        self,
        place: int,
        rung: Rung,
        target: Target,
        health: TargetHealth,
        permit: Permit | None,
        now: float,
        mode: str,
    ) -> Send:
        walk = self.walk
        self.calls = number = self.calls + 1
        self._tried.append(target.key)
        self._must_wait = False
        if self._kept:
            self._kept.pop(target.name, None)
        stream = walk.facts.stream or self._is_streamed(target)
        limits = attempt_limits(target, walk.facts, walk.policy.timeouts, walk.caller, stream, self._remaining(now))
        if self._cut is not None:
            mode = "continue"
        elif permit is not None and permit.is_trial and mode == "fresh":
            mode = "trial"
            self._plan_company(SLOW_TRIAL, defaults.TRIAL_COMPANION_DELAY, now)
        elif mode == "fresh" and walk.policy.hedge is not _NO_HEDGE and not self._has_hedged:
            self._plan_company(HEDGED, self._hedge_delay(health), now)
        elif mode == "hedge":
            self._has_hedged = True
        record = AttemptRecord(
            number, target.name, place, now - self._started_at, mode, target.price_in, target.price_out
        )
        self.records.append(record)
        if self._last is not None and self._last[0] != target.name:
            self._note_fallback(*self._last, target.name, mode)
        self._last = (target.name, self._company or SLOW_TRIAL)
        if self._unfit:
            self._note_unfit(now)
        health.headroom.spend(walk.facts.input_tokens)
        health.load.begin(now)
        self._in_flight[number] = Attempt(number, place, rung, target, health, permit, limits, stream, record)
        if self._cut is None:
            return Send(number, target, limits, stream, mode, self._companion_at)
        self._winner = number
        return Send(
            attempt=number,
            target=target,
            limits=limits,
            stream=stream,
            mode=mode,
            continuation=self.transcript.continuation(prefill=target.prefill),
            join=self._join_note(self._cut, target),
        )

    def _plan_company(self, why: str, delay: float | None, now: float) -> None:
        """Notes when another target is to be asked beside the one that is being asked now."""
        if delay is not None and self._position < len(self._rungs) and not self._in_flight and self.walk.is_repeatable:
            self._companion_at = now + delay
            self._company = why

    def _hedge_delay(self, health: TargetHealth) -> float | None:
        facts, hedge = self.walk.facts, self.walk.policy.hedge
        if facts.has_other_tools or facts.is_stored:
            return None  # what others do for it, or keep of it, would be done or kept twice
        return hedge.after if hedge.percentile is None else health.load.percentile(hedge.percentile)

    def _join_note(self, cut: Attempt, target: Target) -> JoinNote:
        failure = cut.record.failure
        reason = "" if failure is None else str(failure.reason)
        return JoinNote(self.transcript.chars, cut.target.name, target.name, reason)

    def _is_streamed(self, target: Target) -> bool:
        """Whether the upstream is asked for a stream though the caller did not: a buffered answer is assembled from
        one where that loses nothing and there is another target to go to when it stays silent."""
        facts, wish = self.walk.facts, self.walk.policy.stream_upstream
        if facts.asks != "chat":
            return False
        if wish != "auto":
            return wish == "true"
        if not target.assembles or len(self.walk.plan.rungs) < 2:
            return False
        return facts.n == 1 and not facts.logprobs and not facts.audio and not facts.wants_whole

    def _remaining(self, now: float) -> float:
        """What the deadline leaves to a call, once every later rung has its reserve."""
        rungs = len(self._rungs)
        later = self._rungs_left()
        left = self.deadline - now
        if later == 0 or self._cut is not None:
            return left
        kept = left - later * reserve(self.walk.overall, rungs)
        share = left / (later + 1)
        return max(share, kept)

    def _reserve(self) -> float:
        return reserve(self.walk.overall, len(self._rungs))

    def _may_spend(self, now: float) -> bool:
        """Extra attempts are free while some target of the route is well; in an outage of all they are rationed."""
        board = self.walk.board
        for rung in self.walk.plan.rungs:
            for target in rung.targets:
                if not board.of(target).is_failing:
                    return True
        if self.walk.budget.try_withdraw(now):
            return True
        self._why_untried = "the route's retry budget is spent"
        return False

    def _is_too_small(self, target: Target) -> bool:
        if self._overflowed is None or target.window is None:
            return False
        return target.window <= self._overflowed

    # --- the end of the chain --------------------------------------------------------------------------------

    def _second_look(self, now: float) -> Send | None:
        """Calls a target that was passed over when its turn came: one that is back, else one whose rate limits have no
        room for the request, as its provider may have more than it said; else the open breaker that is due first, once
        before its time; with a trial of it under way only if the budget pays for one more."""
        if not (self._passed or self._kept) or self._outcome is not None or not self._may_call(now):
            return None
        short: list[tuple[float, int, Rung, Target]] = []
        resting: list[tuple[float, int, Rung, Target]] = []
        kept = list(self._kept.values()) if self._kept else []
        for place, rung in [*kept, *(self._passed or ())]:
            for target in rung.targets:
                if target.key in self._tried or self._is_too_small(target):
                    continue
                health = self.walk.board.of(target)
                standing = health.standing(now, self.walk.request)
                if not isinstance(standing, Out):
                    limit = self._shortage(health, now)
                    if limit is None:
                        return self._send_late(place, rung, target, now)
                    short.append((limit.until, place, rung, target))
                elif not standing.is_ejection:
                    resting.append((standing.until or now, place, rung, target))
        if short:
            _, place, rung, target = min(short, key=lambda found: found[:2])
            return self._send_late(place, rung, target, now)
        is_kept_for = bool(self._kept) and self._position < len(self._rungs)
        if self._cut is not None or self._is_last_resort_spent or is_kept_for:
            return None
        for _, place, rung, target in sorted(resting, key=lambda found: found[:2]):
            step = self._send_late(place, rung, target, now)
            if step is not None:
                self._is_last_resort_spent = True  # one a request: while all are down, callers must hear so at once
                return step
        return None

    def _send_late(self, place: int, rung: Rung, target: Target, now: float) -> Send | None:
        """An attempt at the end of the chain, before its time where it has to be."""
        health = self.walk.board.of(target)
        if health.is_full:
            return None
        request = self.walk.request
        permit = health.take(now, request) or health.take_early(now, request)
        if permit is None:
            # Beside a trial under way: without a permit, as nothing could be learnt from it. Not where silence opened
            # the breaker: this caller would only wait as well.
            is_paid = not health.breaker.opened_by_silence and self.walk.budget.try_withdraw(now)
        else:
            is_paid = not self.calls or self._may_spend(now)
            if not is_paid:
                health.settle_unused(permit, now)
        if not is_paid:
            return None
        mode = "trial" if permit is None or permit.is_trial else "fresh"
        return self._send(place, rung, target, health, permit, now, mode)

    # --- waiting for room ------------------------------------------------------------------------------------

    def _queued(self, now: float) -> Queued | None:
        """A place in the queues of the targets that may be called but for being full; None where there is none, or it
        has been waited for long enough."""
        if self._outcome is not None or not self._passed or not self._may_call(now):
            return None
        policy = self.walk.policy.queue
        has_waited = self._queue_until > 0.0
        if not has_waited:
            self._queue_until = min(now + policy.wait, self.deadline - self._reserve())
        until, full = self._full_targets(now)
        if self._ticket is None:
            queues = [slots for _, slots in full if has_waited or slots.waiting < policy.size]
            if queues and now < until:
                self._ticket = Ticket(queues)
                return Queued(until, self._ticket)
            why = f"full, and {policy.size} others wait for it" if policy.size else "full"
        elif full and now < until:
            return Queued(until, self._ticket)
        else:
            why = "full, and no room came in time"
        for rung, _ in full:
            self._ends[rung.name] = RungEnd(target=rung.name, skip=why, out="full")
        return None

    def _full_targets(self, now: float) -> tuple[float, list[tuple[Rung, Slots]]]:
        """The targets that were passed over and have no room; and until when they may be waited for, or another one is
        back."""
        until = self._queue_until
        full: list[tuple[Rung, Slots]] = []
        for _, rung in self._passed or ():
            for target in rung.targets:
                if target.key in self._tried or self._is_too_small(target):
                    continue
                health = self.walk.board.of(target)
                standing = health.standing(now, self.walk.request)
                if isinstance(standing, Out):
                    if standing.reason == "full" and health.slots is not None:
                        full.append((rung, health.slots))
                    elif standing.until is not None and standing.until > now:
                        until = min(until, standing.until)
        return until, full

    def _leave_queue(self) -> None:
        if self._ticket is not None:
            self._ticket.leave()
            self._ticket = None

    def _ended(self, now: float) -> Deliver | GiveUp:
        """Nothing more can be tried."""
        if self._unfit:
            self._note_unfit(now)
        if self._cut is not None and self._cut.record.failure is not None:
            tried = "; ".join(end.words(now) for end in self._all_ends())
            why = f"no other target could continue it: {tried}"
            return broken_off(self._cut.target.name, self._cut.record.failure, why)
        return self._or_deliverable(exhausted(self.walk.route, self._all_ends(), now))

    def _or_deliverable(self, end: GiveUp) -> Deliver | GiveUp:
        """An answer that the route would rather have replaced is better than none."""
        return end if self._deliverable is None else Deliver(self._deliverable)

    def _all_ends(self) -> list[RungEnd]:
        """What became of every rung, in the order of the chain."""
        rungs = list(self.walk.plan.rungs)
        for skip in self.walk.plan.skips:
            rungs.insert(skip.position, skip.rung)
        untried = self._why_untried or "the walk ended before it"
        return [
            self._ends.get(name) or RungEnd(target=name, untried=untried)
            for name in dict.fromkeys(rung.name for rung in rungs)
        ]

    def _end(self, outcome: Deliver | GiveUp, now: float) -> None:
        """Ends the walk; what is still under way is ended without a judgement."""
        self._outcome = outcome
        for attempt in self._in_flight.values():
            self._close(attempt, _ended_by("the walk ended"), now)
        self._in_flight.clear()

    # --- facts -----------------------------------------------------------------------------------------------

    def on_dropped(self, number: int, names: tuple[str, ...]) -> None:
        """The target's dialect cannot express these parameters of the caller's."""
        if (attempt := self._in_flight.get(number)) is not None:
            attempt.record.dropped = names

    def on_head(self, number: int, status: int, request_id: str | None) -> None:
        """The upstream has answered, well or not."""
        if (attempt := self._in_flight.get(number)) is not None:
            attempt.record.status, attempt.record.request_id = status, request_id

    def on_limits(self, number: int, said: Sequence[Limit], now: float) -> None:
        """The head of an answer says what is left of the target's rate limits."""
        if (attempt := self._in_flight.get(number)) is not None:
            attempt.health.note_limits(said, attempt.calls, attempt.tokens, now)

    def on_content(self, number: int, now: float) -> None:
        """The first content of an attempt has come."""
        attempt = self._in_flight.get(number)
        if attempt is None or attempt.record.time_to_first_chunk_s is not None:
            return
        seconds = attempt.record.time_to_first_chunk_s = now - self._started_at - attempt.record.started_s
        attempt.health.load.answered(seconds, now)
        if (slots := attempt.health.slots) is not None:
            slots.limit.note_content(seconds, attempt.crowd, now)
            slots.offer()
        self._companion_at = None  # a target on trial that answers needs no company
        self._settle(attempt, None, now)

    def on_commit(self, number: int, now: float) -> bool:
        """A stream wants to leave. False: another attempt has won, and this one is to be aborted."""
        if number not in self._in_flight or self._outcome is not None:
            return False
        if self._winner is None:
            self._winner = number
            self._drop_losers(number, now)
        return self._winner == number

    def on_verdict(self, number: int, verdict: Verdict, now: float) -> None:
        """An attempt is over."""
        attempt = self._in_flight.pop(number, None)
        if attempt is None:
            return
        self._companion_at = None
        record = attempt.record
        record.usage = verdict.usage
        if type(verdict) is Accepted:
            self._note_over(attempt, None, now)
            self._settle(attempt, None, now)
            self._drop_losers(number, now)
            self._outcome = Deliver(number)
            return
        assert type(verdict) is Rejected
        failure = record.failure = verdict.failure
        self._note_over(attempt, failure, now)
        record.status = failure.status or record.status
        record.request_id = failure.request_id or record.request_id
        # A join that was refused says nothing of the target: it did answer.
        self._settle(attempt, None if failure.code == "join_refused" else failure, now)
        self._note_end(attempt, failure, now)
        self._last = (attempt.target.name, failure.reason)
        if self._winner == number:
            self._after_commit(attempt, failure, now)
        else:
            self._before_commit(attempt, failure, now)

    def on_cancel(self, now: float, silent: Mapping[int, float], why: str = "the client went away") -> None:
        """The request is ended from outside, because of `why`. `silent` says for attempts under way how long their
        upstream has given no sign: beyond its limit that is a `timeout` in its health, or a hanging provider would
        never open its breaker."""
        for attempt in self._in_flight.values():
            gone = Failure(reason=_R.CANCELLED, origin=Origin.DOWNSTREAM, detail=why)
            seconds = silent.get(attempt.number, 0.0)
            self._close(attempt, gone, now, _hanging(seconds) if seconds >= self._patience(attempt) else None)
        self._in_flight.clear()
        self._leave_queue()
        if self._outcome is None:
            self._outcome = GiveUp(status=499, code=_R.CANCELLED, message=why)

    def _patience(self, attempt: Attempt) -> float:
        facts = self.walk.facts
        thinks = facts.thinking or attempt.target.always_thinks
        if attempt.stream:
            return max(attempt.limits.own_first_content, attempt.limits.silence)
        return defaults.SILENT_BUFFERED_THINKING if thinks else defaults.SILENT_BUFFERED

    # --- deciding --------------------------------------------------------------------------------------------

    def _before_commit(self, attempt: Attempt, failure: Failure, now: float) -> None:
        if failure.reason in _ENDS_THE_WALK:
            self._end(declined(attempt.target.name, failure), now)
            return
        if not self._in_flight and self._declined is None and self._plan_retry(attempt, failure, now):
            return
        self._decide(attempt, failure)

    def _decide(self, attempt: Attempt, failure: Failure) -> None:
        """Whether the walk goes on after a failure that is not retried."""
        reason, row = failure.reason, DISPOSITIONS[failure.reason]
        if reason in self.walk.policy.fallback_on:
            self._fall(attempt, failure)
        elif row.is_defect and (self._has_fallen or self._is_other_keys_refusal(reason)):
            self.notices.append(Defect(attempt.target.name, failure))
        elif reason is _R.INVALID_REQUEST and failure.origin is Origin.LOCAL and self._may_others():
            pass  # its dialect cannot say what was asked, which was known before any call
        elif self._kept and self._has_left_early and (failure.status or not row.is_soft):
            # None may answer but those that were passed over on their provider's word: a call might have done.
            self._rungs = self._rungs[: self._position]
        elif self._declined is None:
            self._declined = (attempt, failure)
        # An attempt beside this one may still answer; only its own end is the walk's.
        if not self._in_flight and self._declined is not None and self._outcome is None:
            self._outcome = self._as_declined(*self._declined)

    def _is_other_keys_refusal(self, reason: FailureReason) -> bool:
        """Whether a key is no good that was only asked because of another failure, one that the route falls back on."""
        if reason is _R.INVALID_REQUEST:
            return False
        listed = self.walk.policy.fallback_on
        return any(record.failure is not None and record.failure.reason in listed for record in self.records)

    def _as_declined(self, attempt: Attempt, failure: Failure) -> Deliver | GiveUp:
        """The end by a failure that the route does not fall back on."""
        if DISPOSITIONS[failure.reason].is_soft and not failure.status:
            return Deliver(attempt.number, failure.reason if failure.reason in _AGREEABLE else None)
        return self._or_deliverable(declined(attempt.target.name, failure))

    def _fall(self, attempt: Attempt, failure: Failure) -> None:
        """Goes on to the next rung, unless two vendors agree that the request is the cause."""
        reason, row = failure.reason, DISPOSITIONS[failure.reason]
        if self._has_fallen and row.is_defect:
            self.notices.append(Defect(attempt.target.name, failure))
        self._has_fallen = True
        if reason is _CONTEXT_OVERFLOW:
            self._overflowed = max(self._overflowed or -1, attempt.target.window or -1)
        if row.fall_back is _OPT_IN and row.is_soft and not failure.status:
            self._deliverable = attempt.number
        if reason in _AGREEABLE:
            if self._agreed is None:
                self._agreed = {}
            first = self._agreed.setdefault(reason, attempt.target.provider)
            if first != attempt.target.provider and not self._in_flight:
                self._outcome = self._or_deliverable(agreed(reason, first, attempt.target.name))

    # --- the same target again -------------------------------------------------------------------------------

    def _plan_retry(self, attempt: Attempt, failure: Failure, now: float) -> bool:
        """Whether the same target, or another credential of it, is to be asked next; notes when."""
        retry = DISPOSITIONS[failure.reason].retry
        if retry is _NO_RETRY or not self._may_call(now) or self.calls + self._rungs_left() >= self._most_calls:
            return False
        if retry in _BY_ANOTHER_KEY and self._has_other_credential(attempt, failure, now):
            self._again, self._again_at = attempt, now
            return True
        at = self._retry_at(retry, attempt, failure, now)
        if at is None or at + self._rungs_left() * self._reserve() >= self.deadline:
            return False
        if isinstance(attempt.health.standing(at, self.walk.request), Out):
            return False
        self._again, self._again_at = attempt, at
        return True

    def _retry_at(self, retry: Retry, attempt: Attempt, failure: Failure, now: float) -> float | None:
        """When the very same target may be asked again; None: not at all."""
        if retry is _ONCE_DELAYED:
            if attempt.health.consecutive_failures > 1 or attempt.record.mode == "retry" or failure.status == 501:
                return None
            delay = self.walk.policy.retry.delay
            return now + delay * (0.5 + self.walk.draw()) if delay > 0 else None
        if retry is _ONCE:
            return now if attempt.record.mode != "retry" else None
        if retry is _LIMITED and failure.retry_after is not None and self._rungs_left() == 0:
            at = max(now + failure.retry_after, attempt.health.out_until(now) or now)
            return at if at - now <= self.walk.policy.retry.max_wait else None
        return None

    def _has_other_credential(self, attempt: Attempt, failure: Failure, now: float) -> bool:
        """Whether one may be asked next. One that has no room waits for the end of the chain, if the walk goes on after
        such a failure and another rung has room."""
        board = self.walk.board
        others = [
            other
            for other in attempt.rung.targets
            if other.key not in self._tried and not isinstance(board.of(other).standing(now, self.walk.request), Out)
        ]
        if not others or failure.reason not in self.walk.policy.fallback_on:
            return bool(others)
        if any(self._has_room(other, now) for other in others) or not self._others_have_room(now):
            return True
        self._keep(attempt.place, attempt.rung)
        self._has_left_early = True
        return False

    def _ask_again(self, now: float) -> Send | None:
        """Makes the retry that was planned; where it cannot be made any more, its failure decides after all."""
        again, self._again = self._again, None
        failure = None if again is None else again.record.failure
        if again is None or failure is None:
            return None
        if self._may_call(now):
            targets = [again.target]
            if DISPOSITIONS[failure.reason].retry in _BY_ANOTHER_KEY:
                others = [target for target in again.rung.targets if target.key not in self._tried]
                targets[:0] = sorted(others, key=lambda target: not self._has_room(target, now))
            for target in targets:
                health = self.walk.board.of(target)
                permit = health.take(now, self.walk.request)
                if permit is None:
                    continue
                if self._may_spend(now):
                    return self._send(again.place, again.rung, target, health, permit, now, "retry")
                health.settle_unused(permit, now)
                break
        self._decide(again, failure)
        return None

    def _rungs_left(self) -> int:
        """Those whose turn is still to come, or to come again."""
        return len(self._rungs) - self._position + (len(self._kept) if self._kept else 0)

    def _may_others(self) -> bool:
        """Whether other rungs may answer: now, or one that was skipped when it is back."""
        return self._rungs_left() > 0 or any(end.out is not None for end in self._ends.values())

    # --- after the commit ------------------------------------------------------------------------------------

    def _after_commit(self, attempt: Attempt, failure: Failure, now: float) -> None:
        """Part of the answer has been delivered: another stream may be joined to it, or the caller is told."""
        row = DISPOSITIONS[failure.reason]
        if row.fall_back is _OPT_IN and row.is_soft and not failure.status:
            self._outcome = Deliver(attempt.number)
            return
        is_cut = self._has_delivered(attempt)
        barrier = self._barrier(failure, is_cut)
        if barrier is not None:
            self._outcome = broken_off(attempt.target.name, failure, f"could not be continued {barrier}")
            return
        if is_cut:
            self._cut = attempt
            self.deadline = now + self.walk.overall
            model = _bare(attempt.target.name)
            rest = self._rungs[self._position :]
            self._rungs = [
                *self._rungs[: self._position],
                *sorted(rest, key=lambda rung: _bare(rung.name) != model),
            ]

    def _has_delivered(self, attempt: Attempt) -> bool:
        """Whether the caller has something of this stream, or it only failed to go on from another one."""
        joins = self.transcript.joins
        return self._cut is None or (bool(joins) and joins[-1].target == attempt.target.name)

    def _barrier(self, failure: Failure, is_cut: bool) -> str | None:
        """Why no other stream may go on from what was delivered; None if one may."""
        if self.walk.policy.stream.recover == "error":
            return "since `recover` is `error`"
        if failure.phase is Phase.MAX_STREAM:
            return "beyond the longest time that a stream may take"
        if is_cut:
            falls_back = DISPOSITIONS[failure.reason].fall_back is FallBack.DEFAULT
            if not falls_back or failure.reason is _R.REJECTED_OUTPUT:
                return "after such a failure"
        return self.transcript.barrier

    # --- attempts and the record -----------------------------------------------------------------------------

    def _drop_losers(self, winner: int, now: float) -> None:
        """Attempts beside the winner are over; one that had longer than it and produced nothing was too slow, but for
        what a caller or the usual spread of its times calls slow."""
        if not self._in_flight:
            return
        hedge = self.walk.policy.hedge
        is_told = self._company != HEDGED or (hedge.after is not None and not hedge.is_callers)
        for number, attempt in list(self._in_flight.items()):
            if number == winner:
                continue
            del self._in_flight[number]
            is_slow = is_told and number < winner and attempt.record.time_to_first_chunk_s is None
            failure = _SLOWER if is_slow else _ended_by("another target was faster")
            self._close(attempt, failure, now)
            self._note_end(attempt, failure, now)

    def _close(self, attempt: Attempt, failure: Failure, now: float, heard: Failure | None = None) -> None:
        """Puts on record that an attempt was ended by us; health hears `heard` of it, else the same."""
        self._note_over(attempt, failure, now)
        attempt.record.failure = failure
        self._settle(attempt, heard or failure, now)

    def _note_over(self, attempt: Attempt, failure: Failure | None, now: float) -> None:
        """A call is over, by its answer or by us."""
        record, load = attempt.record, attempt.health.load
        seconds = record.latency_s = now - self._started_at - record.started_s
        has_answered = record.time_to_first_chunk_s is not None
        load.end(has_answered)
        if (slots := attempt.health.slots) is not None:
            if failure is not None:
                slots.limit.note_failure(failure, seconds, now)
            slots.offer()
        if has_answered:
            return
        # A whole answer has come at once; or none in all that time, which may have been the caller's short limit.
        if failure is None or (failure.reason is _TIMEOUT and seconds > (load.first_content or 0.0)):
            load.observe(seconds, now)

    def _settle(self, attempt: Attempt, failure: Failure | None, now: float) -> None:
        walk = self.walk
        changes = attempt.health.settle(attempt.permit, failure, now, walk.request, walk.route)
        if changes:
            self.changes.extend(changes)

    def _note_end(self, attempt: Attempt, failure: Failure, now: float) -> None:
        wait = failure.retry_after
        back_at = None if wait is None else now + wait
        if failure.reason in _SAYS_WHEN:
            # What health makes of it holds, but for a rate limit that the provider gave a shorter time to.
            out_until = attempt.health.out_until(now)
            if (
                back_at is None
                or failure.reason is _R.QUOTA_EXHAUSTED
                or (out_until is not None and out_until < back_at)
            ):
                back_at = out_until
        self._ends[attempt.rung.name] = RungEnd(target=attempt.target.name, failure=failure, back_at=back_at)

    def _note_fallback(self, source: str, reason: str, target: str, mode: str) -> None:
        self.fallbacks += 1
        self.last_reason = reason
        self.notices.append(Fallback(source, target, reason, mode))

    def _note_unfit(self, now: float, *, only_leading: bool = False) -> None:
        """Puts rungs on record that lack what the request needs: first those before any that has it."""
        noted = 0
        for skip in self._unfit:
            if only_leading and skip.position != noted:
                break
            noted += 1
            self._note_skip(skip.rung, skip.why, now, place=skip.position + 1)
        self._unfit = self._unfit[noted:]

    def _note_skip(self, rung: Rung, why: str, now: float, out: Out | None = None, place: int | None = None) -> None:
        target = rung.targets[0]
        self.records.append(
            AttemptRecord(
                0,
                rung.name,
                self._position if place is None else place,
                now - self._started_at,
                price_in=target.price_in,
                price_out=target.price_out,
                skip=why,
            )
        )
        reason = None if out is None else out.reason
        back_at = None if out is None else out.until
        self._ends.setdefault(rung.name, RungEnd(target=rung.name, skip=why, out=reason, back_at=back_at))
        if self._last is None:
            self._last = (rung.name, reason or UNFIT)


_SLOWER: Final = Failure(
    reason=_R.TIMEOUT, origin=Origin.LOCAL, phase=Phase.FIRST_CONTENT, detail="another target was faster"
)


def _ended_by(what: str) -> Failure:
    return Failure(reason=_R.CANCELLED, origin=Origin.LOCAL, detail=what)


def _hanging(seconds: float) -> Failure:
    return Failure(reason=_R.TIMEOUT, origin=Origin.LOCAL, detail=f"silent for {seconds:.1f} s")


def _default_attempts(plan: Plan) -> int:
    return min(MAX_ATTEMPTS, sum([len(rung.targets) for rung in plan.rungs]) + 1)


def _rotated(targets: tuple[Target, ...], rotation: int) -> tuple[Target, ...]:
    first = rotation % len(targets)
    return (*targets[first:], *targets[:first])


def _bare(target: str) -> str:
    """A target's model without the provider, and without the vendor that a provider of many puts before it."""
    return target.rpartition("/")[2]
