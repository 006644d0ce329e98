"""One request's walk along its plan: what to do next, and what it all amounted to.

Sans I/O. The runner asks `next_step(now)`, performs it, and reports facts by the attempt's number: `on_content`,
`on_commit`, `on_verdict`, `on_cancel`. The rules of the walk (design section 3):

- a failure goes on to the next rung if its reason is in the effective `fallback_on`; once one has, a defect of a
  later rung (`invalid_request`, `auth_error`, `model_unavailable`) goes on as well;
- the same target is asked again only as `DISPOSITIONS` says, and only while every other rung keeps its call;
- a rung that is out is skipped with its reason on record; an ejection whose reason is not listed ends the walk;
- before the commit every failure is invisible; after it only a proven join may follow.

A fact about an attempt that is over changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from crossfade.core import policy as defaults
from crossfade.core.breaker import Permit
from crossfade.core.budget import RetryBudget
from crossfade.core.exchange import RequestFacts
from crossfade.core.exhausted import RungEnd, exhausted
from crossfade.core.failure import DISPOSITIONS, FallBack, Failure, FailureReason, Origin, Phase, Retry
from crossfade.core.health import Change, HealthBoard, Out, TargetHealth
from crossfade.core.limits import AttemptLimits, attempt_limits, reserve
from crossfade.core.planner import Plan
from crossfade.core.policy import RoutePolicy, TimeoutPolicy
from crossfade.core.steps import Defect, Deliver, Fallback, GiveUp, Pending, Send, Step, Wait
from crossfade.core.stream import JoinNote, Transcript
from crossfade.core.target import Rung, Target
from crossfade.core.verdict import Accepted, AttemptRecord, Verdict

MAX_ATTEMPTS = 5
_R = FailureReason
_AGREEABLE = frozenset({_R.EMPTY_OUTPUT, _R.INVALID_JSON, _R.INVALID_TOOL_CALL, _R.REJECTED_OUTPUT})
_OUTAGE = frozenset({_R.SERVER_ERROR, _R.TIMEOUT, _R.CONNECT_ERROR, _R.OVERLOADED})


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """What a dispatch is made of. `caller` are the limits that the request itself gave; `overall` is the deadline in
    seconds from `now`; `draw` gives numbers in [0, 1) for jitter and `rotation` picks among credentials. Not `is_repeatable`: never
    two attempts at once."""

    request: str
    route: str
    plan: Plan
    facts: RequestFacts
    policy: RoutePolicy
    caller: TimeoutPolicy
    overall: float
    board: HealthBoard
    budget: RetryBudget
    draw: Callable[[], float]
    rotation: int = 0
    is_repeatable: bool = True


class _Attempt:
    """One call under way, or the last one that is over."""

    __slots__ = ("health", "limits", "number", "permit", "record", "rung", "stream", "target")

    def __init__(
        self,
        number: int,
        rung: Rung,
        target: Target,
        health: TargetHealth,
        permit: Permit | None,
        limits: AttemptLimits,
        stream: bool,
        record: AttemptRecord,
    ):
        self.number, self.rung, self.target, self.health = number, rung, target, health
        self.permit, self.limits, self.stream, self.record = permit, limits, stream, record


class Dispatch:
    """The walk of one request. `records` is what was called and skipped, `changes` what health said, `notices`
    fallbacks and defects to be told; the runner empties the latter two. `last_reason` is why the walk last fell back."""

    __slots__ = (
        "_again",
        "_again_at",
        "_agreed",
        "_companion_at",
        "_cut",
        "_deliverable",
        "_ends",
        "_has_fallen",
        "_in_flight",
        "_last",
        "_max_attempts",
        "_outcome",
        "_overflowed",
        "_position",
        "_rungs",
        "_started_at",
        "_tried",
        "_winner",
        "calls",
        "changes",
        "deadline",
        "fallbacks",
        "last_reason",
        "notices",
        "records",
        "transcript",
        "walk",
    )

    def __init__(self, walk: Walk, now: float):
        self.walk = walk
        self.deadline = now + walk.overall
        self.transcript = Transcript(walk.facts, walk.policy.stream)
        self.records: list[AttemptRecord] = []
        self.changes: list[Change] = []
        self.notices: list[Fallback | Defect] = []
        self.calls = 0
        self.fallbacks = 0
        self.last_reason: str | None = None
        self._started_at = now
        self._rungs = list(walk.plan.rungs)
        self._position = 0
        self._max_attempts = walk.policy.retry.max_attempts or _default_attempts(walk.plan)
        self._in_flight: dict[int, _Attempt] = {}
        self._outcome: Deliver | GiveUp | None = None
        self._winner: int | None = None  # the attempt whose stream is being delivered
        self._cut: _Attempt | None = None  # a delivered stream that broke off and is to be gone on from
        self._again: _Attempt | None = None  # to be asked once more, at `_again_at`
        self._again_at = 0.0
        self._companion_at: float | None = None
        self._has_fallen = False
        self._agreed: dict[FailureReason, str] = {}  # soft failure -> the provider that had it first
        self._overflowed: int | None = None  # window that the input did not fit into; -1: unknown
        self._ends: dict[str, RungEnd] = {}
        self._tried: set[str] = set()
        self._last: tuple[str, str] | None = None  # where the walk comes from: target and reason
        self._deliverable: int | None = None
        walk.budget.deposit(now)
        for skip in walk.plan.skips:
            self._note_skip(skip.rung, skip.why, now)

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
            step = self._ask_again(now)
            if step is not None:
                return step
        step = self._walk_on(now) or self._last_resort(now)
        if step is not None:
            return step
        self._outcome = self._ended(now)
        return self._outcome

    def _beside(self, now: float) -> Step:
        """A target on trial gets company, so that no caller waits for the trial's end."""
        if self._companion_at is None:
            return Pending()
        if now < self._companion_at:
            return Pending(self._companion_at)
        self._companion_at = None
        return self._walk_on(now) or Pending()

    def _walk_on(self, now: float) -> Send | None:
        """Sends to the next rung that is not out."""
        while self._position < len(self._rungs):
            if self.calls >= self._max_attempts or now >= self.deadline or self._outcome is not None:
                return None
            rung = self._rungs[self._position]
            self._position += 1
            if self._is_too_small(rung.targets[0]):
                self._note_skip(rung, "its window is no larger than one that was too small", now)
                continue
            picked = self._pick(rung, now)
            if picked is not None:
                if self.calls and not self._may_spend(now):
                    picked[1].settle_unused(picked[2], now)
                    self._position = len(self._rungs)
                    return None
                return self._send(rung, *picked, now=now, mode="continue" if self._cut else "fresh")
        return None

    def _pick(self, rung: Rung, now: float) -> tuple[Target, TargetHealth, Permit] | None:
        """A credential of the rung that is not out, with its permit; else the skip is noted."""
        out: Out | None = None
        targets = rung.targets
        first = self.walk.rotation % len(targets) if len(targets) > 1 else 0
        for offset in range(len(targets)):
            target = targets[(first + offset) % len(targets)]
            if target.key in self._tried:
                continue
            health = self.walk.board.of(target)
            permit = health.take(now)
            if permit is not None:
                return target, health, permit
            standing = health.standing(now)
            if isinstance(standing, Out) and (out is None or (standing.until or now) < (out.until or now)):
                out = standing
        self._skip_out(rung, out or Out("trial_in_flight", None), now)
        return None

    def _skip_out(self, rung: Rung, out: Out, now: float) -> None:
        """Notes a rung that is out; ends the walk where the route does not fall back on the reason."""
        self._note_skip(rung, _OUT_WORDS.get(out.reason, out.reason), now, out)
        if self._cut is not None or self._in_flight or out.reason == _R.AUTH_ERROR or self._listed(out.reason):
            return
        end = self._ends[rung.name]
        self._outcome = exhausted(self.walk.route, [end], now)

    def _listed(self, out: str) -> bool:
        listed = self.walk.policy.fallback_on
        if out in ("breaker_open", "trial_in_flight"):
            return not listed.isdisjoint(_OUTAGE)
        return out in listed

    def _send(
        self,
        rung: Rung,
        target: Target,
        health: TargetHealth,
        permit: Permit | None,
        *,
        now: float,
        mode: str,
    ) -> Send:
        walk = self.walk
        self.calls += 1
        self._tried.add(target.key)
        number = self.calls
        stream = self._is_streamed(target)
        limits = attempt_limits(
            target,
            walk.facts,
            walk.policy.timeouts,
            walk.caller,
            is_streamed=stream,
            remaining=self._remaining(now),
        )
        if mode == "fresh" and permit is not None and permit.is_trial:
            mode = "trial"
            if self._position < len(self._rungs) and not self._in_flight and walk.is_repeatable:
                self._companion_at = now + defaults.TRIAL_COMPANION_DELAY
        record = AttemptRecord(
            number=number,
            target=target.name,
            rung=self._position,
            started_s=now - self._started_at,
            mode=mode,
            price_in=target.price_in,
            price_out=target.price_out,
        )
        self.records.append(record)
        if self._last is not None and self._last[0] != target.name:
            self.fallbacks += 1
            self.last_reason = self._last[1]
            self.notices.append(Fallback(self._last[0], target.name, self._last[1], mode))
        self._last = (target.name, "slow_trial")
        self._in_flight[number] = _Attempt(number, rung, target, health, permit, limits, stream, record)
        continuation, join = None, None
        if self._cut is not None:
            self._winner = number
            continuation = self.transcript.continuation(prefill=target.prefill)
            join = self._join_note(self._cut, target)
        return Send(
            attempt=number,
            target=target,
            limits=limits,
            stream=stream,
            mode=mode,
            continuation=continuation,
            join=join,
        )

    def _join_note(self, cut: _Attempt, target: Target) -> JoinNote:
        failure = cut.record.failure
        reason = "" if failure is None else str(failure.reason)
        joins = self.transcript.joins
        source = joins[-1].target if joins else cut.target.name
        return JoinNote(self.transcript.chars, source, target.name, reason)

    def _is_streamed(self, target: Target) -> bool:
        """Whether the upstream is asked for a stream: a buffered answer is assembled from one where that loses
        nothing and there is another target to go to when it stays silent."""
        facts, wish = self.walk.facts, self.walk.policy.stream_upstream
        if facts.stream or wish == "true":
            return True
        if wish == "false" or not target.assembles or len(self._rungs) < 2:
            return False
        return facts.n == 1 and not facts.logprobs and not facts.audio

    def _remaining(self, now: float) -> float:
        later = len(self._rungs) - self._position
        left = self.deadline - now
        if later == 0 or self._cut is not None:
            return left
        return max(0.1, left - later * reserve(self.walk.overall, len(self._rungs)))

    def _may_spend(self, now: float) -> bool:
        """Extra attempts are free while some target of the route is well; in an outage of all they are rationed."""
        board = self.walk.board
        if any(not board.of(rung.targets[0]).is_failing for rung in self.walk.plan.rungs):
            return True
        return self.walk.budget.try_withdraw(now)

    def _is_too_small(self, target: Target) -> bool:
        if self._overflowed is None or target.window is None:
            return False
        return target.window <= self._overflowed

    def _last_resort(self, now: float) -> Send | None:
        """No target was eligible: the open breaker that is due first gets one trial before its time."""
        if self._cut is not None or self._outcome is not None or now >= self.deadline:
            return None
        if self.calls >= self._max_attempts:
            return None
        resting = [end for end in self._ends.values() if end.out == "breaker_open" and end.failure is None]
        for end in sorted(resting, key=lambda end: end.back_at or now):
            rung = next(r for r in self._rungs if r.name == end.target)
            target = rung.targets[0]
            if target.key in self._tried:
                continue
            health = self.walk.board.of(target)
            permit = health.take_early(now)
            if permit is not None:
                return self._send(rung, target, health, permit, now=now, mode="trial")
        return None

    # --- facts -----------------------------------------------------------------------------------------------

    def on_dropped(self, number: int, names: tuple[str, ...]) -> None:
        """The target's dialect cannot express these parameters of the caller's."""
        if (attempt := self._in_flight.get(number)) is not None:
            attempt.record.dropped = names

    def on_head(self, number: int, status: int, request_id: str | None) -> None:
        """The upstream has answered, well or not."""
        if (attempt := self._in_flight.get(number)) is not None:
            attempt.record.status, attempt.record.request_id = status, request_id

    def on_content(self, number: int, now: float) -> None:
        """The first content of an attempt has come."""
        attempt = self._in_flight.get(number)
        if attempt is None:
            return
        attempt.record.time_to_first_chunk_s = now - self._started_at - attempt.record.started_s
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
        record = attempt.record
        record.latency_s = now - self._started_at - record.started_s
        record.usage = verdict.usage
        if isinstance(verdict, Accepted):
            self._settle(attempt, None, now)
            if self._outcome is None:
                self._drop_losers(number, now)
                self._outcome = Deliver(number)
            return
        failure = record.failure = verdict.failure
        record.status = failure.status or record.status
        record.request_id = failure.request_id or record.request_id
        is_refused_join = failure.code == "join_refused"
        self._settle(attempt, None if is_refused_join else failure, now)
        self._ends[attempt.rung.name] = RungEnd(
            target=attempt.target.name, failure=failure, back_at=_back_at(failure, now)
        )
        self._last = (attempt.target.name, failure.reason)
        if self._outcome is not None:
            return
        if self._winner == number:
            self._after_commit(attempt, failure, now)
        else:
            self._before_commit(attempt, failure, now)

    def on_cancel(self, now: float, silent: Mapping[int, float]) -> None:
        """The client has gone. `silent` says for attempts under way how long their upstream has given no sign:
        beyond its limit that is a `timeout` in its health, or a hanging provider would never open its breaker."""
        for attempt in list(self._in_flight.values()):
            del self._in_flight[attempt.number]
            attempt.record.latency_s = now - self._started_at - attempt.record.started_s
            gone = Failure(reason=_R.CANCELLED, origin=Origin.DOWNSTREAM, detail="the client went away")
            attempt.record.failure = gone
            is_hanging = silent.get(attempt.number, 0.0) >= self._patience(attempt)
            self._settle(attempt, _hanging(silent[attempt.number]) if is_hanging else gone, now)
        if self._outcome is None:
            self._outcome = GiveUp(status=499, code=_R.CANCELLED, message="the client went away")

    def _patience(self, attempt: _Attempt) -> float:
        facts = self.walk.facts
        thinks = facts.thinking or attempt.target.always_thinks
        if attempt.stream:
            return max(attempt.limits.own_first_content, attempt.limits.silence)
        return defaults.SILENT_BUFFERED_THINKING if thinks else defaults.SILENT_BUFFERED

    # --- deciding --------------------------------------------------------------------------------------------

    def _before_commit(self, attempt: _Attempt, failure: Failure, now: float) -> None:
        reason, row = failure.reason, DISPOSITIONS[failure.reason]
        if reason in (_R.INTERNAL_ERROR, _R.CANCELLED):
            self._outcome = _single(attempt, failure)
            return
        if self._in_flight:
            # A companion is under way: its own end decides, and this failure is on record.
            self._has_fallen = True
            return
        if self._plan_retry(attempt, failure, now):
            return
        if reason in self.walk.policy.fallback_on:
            self._fall(attempt, failure)
        elif row.is_defect and self._has_fallen:
            self.notices.append(Defect(attempt.target.name, failure))
        elif row.is_soft and not failure.status:
            self._outcome = Deliver(attempt.number, reason if reason in _AGREEABLE else None)
        else:
            self._outcome = _single(attempt, failure)

    def _fall(self, attempt: _Attempt, failure: Failure) -> None:
        """Goes on to the next rung, unless two vendors agree that the request is the cause."""
        reason = failure.reason
        if self._has_fallen and DISPOSITIONS[reason].is_defect:
            self.notices.append(Defect(attempt.target.name, failure))
        self._has_fallen = True
        if reason is _R.CONTEXT_OVERFLOW:
            self._overflowed = max(self._overflowed or -1, attempt.target.window or -1)
        if DISPOSITIONS[reason].fall_back is FallBack.OPT_IN and not failure.status:
            self._deliverable = attempt.number
        if reason in _AGREEABLE:
            first = self._agreed.setdefault(reason, attempt.target.provider)
            if first != attempt.target.provider:
                self._outcome = GiveUp(
                    status=502,
                    code="soft_agreement",
                    message=f"Two providers gave the same unusable answer ({reason}): {first} and"
                    f" {attempt.target.name}; the request is the likely cause",
                )

    def _plan_retry(self, attempt: _Attempt, failure: Failure, now: float) -> bool:
        """Whether the same target, or another credential of it, is to be asked next; notes when."""
        retry = DISPOSITIONS[failure.reason].retry
        if retry is Retry.NO or self.calls + self._rungs_left() >= self._max_attempts:
            return False
        policy = self.walk.policy.retry
        if retry in (Retry.OTHER_CREDENTIAL, Retry.LIMITED) and self._has_other_credential(attempt, now):
            self._again, self._again_at = attempt, now
            return True
        if attempt.record.mode == "retry" and retry is not Retry.LIMITED:
            return False
        delay: float | None = None
        if retry is Retry.ONCE:
            delay = 0.0
        elif retry is Retry.ONCE_DELAYED and failure.status != 501 and policy.delay > 0:
            if attempt.health.consecutive_failures <= 1:
                delay = policy.delay * (0.5 + self.walk.draw())
        elif retry is Retry.LIMITED and self._rungs_left() == 0 and failure.retry_after is not None:
            if failure.retry_after <= policy.max_wait:
                delay = max(failure.retry_after, 0.0)
        if delay is None or now + delay >= self.deadline:
            return False
        self._again = attempt
        self._again_at = max(now + delay, attempt.health.out_until(now) or 0.0)
        if self._again_at >= self.deadline:
            self._again = None
        return self._again is not None

    def _has_other_credential(self, attempt: _Attempt, now: float) -> bool:
        board = self.walk.board
        return any(
            other.key not in self._tried and not isinstance(board.of(other).standing(now), Out)
            for other in attempt.rung.targets
        )

    def _ask_again(self, now: float) -> Send | None:
        again, self._again = self._again, None
        assert again is not None
        if not self._may_spend(now):
            self._position = len(self._rungs)
            return None
        fresh = [t for t in again.rung.targets if t.key not in self._tried]
        for target in (*fresh, again.target):
            health = self.walk.board.of(target)
            permit = health.take(now)
            if permit is not None:
                return self._send(again.rung, target, health, permit, now=now, mode="retry")
        return None

    def _rungs_left(self) -> int:
        return len(self._rungs) - self._position

    def _after_commit(self, attempt: _Attempt, failure: Failure, now: float) -> None:
        """Part of the answer has been delivered: another stream may be joined to it, or the caller is told."""
        row = DISPOSITIONS[failure.reason]
        if row.fall_back is FallBack.OPT_IN and row.is_soft and not failure.status:
            self._outcome = Deliver(attempt.number)
            return
        is_first_cut = self._cut is None
        barrier = self.transcript.barrier
        if is_first_cut and (row.fall_back is not FallBack.DEFAULT or failure.reason is _R.REJECTED_OUTPUT):
            barrier = "after such a failure"
        if self.walk.policy.stream.recover == "error":
            barrier = "since `recover` is `error`"
        if barrier is not None:
            self._outcome = GiveUp(
                status=row.status or 502,
                code=failure.reason,
                message=f"The answer of {attempt.target.name} broke off ({_said(failure)})"
                f" and could not be continued {barrier}",
            )
            return
        if is_first_cut:
            self._cut = attempt
            rest = self._rungs[self._position :]
            rest.sort(key=lambda rung: rung.targets[0].model != attempt.target.model)
            self._rungs[self._position :] = rest

    def _drop_losers(self, winner: int, now: float) -> None:
        """Attempts that were started beside the winner are over; one that had produced nothing was too slow."""
        for attempt in [a for a in self._in_flight.values() if a.number != winner]:
            del self._in_flight[attempt.number]
            attempt.record.latency_s = now - self._started_at - attempt.record.started_s
            slow = Failure(
                reason=_R.TIMEOUT, origin=Origin.LOCAL, phase=Phase.FIRST_CONTENT, detail="another target was faster"
            )
            attempt.record.failure = slow
            has_spoken = attempt.record.time_to_first_chunk_s is not None
            self._settle(attempt, None if has_spoken else slow, now)

    def _settle(self, attempt: _Attempt, failure: Failure | None, now: float) -> None:
        walk = self.walk
        changes = attempt.health.settle(attempt.permit, failure, now, request=walk.request, route=walk.route)
        if changes:
            self.changes.extend(changes)

    def _note_skip(self, rung: Rung, why: str, now: float, out: Out | None = None) -> None:
        self.records.append(
            AttemptRecord(
                number=0,
                target=rung.name,
                rung=self._position,
                started_s=now - self._started_at,
                skip=why,
                price_in=rung.targets[0].price_in,
                price_out=rung.targets[0].price_out,
            )
        )
        self._ends.setdefault(
            rung.name,
            RungEnd(
                target=rung.name,
                skip=why,
                out=None if out is None else out.reason,
                back_at=None if out is None else out.until,
            ),
        )
        if self._last is None:
            self._last = (rung.name, why if out is None else out.reason)

    def _ended(self, now: float) -> Deliver | GiveUp:
        """Nothing more can be tried."""
        if self._cut is not None:
            failure = self._cut.record.failure
            said = "" if failure is None else f" ({_said(failure)})"
            tried = "; ".join(end.words(now) for end in self._ends.values())
            return GiveUp(
                status=502,
                code=_R.STREAM_INTERRUPTED,
                message=f"The answer of {self._cut.target.name} broke off{said} and no other target could continue"
                f" it: {tried}",
            )
        if self._deliverable is not None:
            return Deliver(self._deliverable)
        order = {rung.name: position for position, rung in enumerate(self._rungs)}
        ends = sorted(self._ends.values(), key=lambda end: order.get(end.target, len(order)))
        return exhausted(self.walk.route, ends, now)


_OUT_WORDS = {"breaker_open": "breaker open", "trial_in_flight": "on trial"}


def _default_attempts(plan: Plan) -> int:
    return min(MAX_ATTEMPTS, sum(len(rung.targets) for rung in plan.rungs) + 1)


def _back_at(failure: Failure, now: float) -> float | None:
    return None if failure.retry_after is None else now + failure.retry_after


def _hanging(seconds: float) -> Failure:
    return Failure(reason=_R.TIMEOUT, origin=Origin.LOCAL, detail=f"silent for {seconds:.1f} s")


def _said(failure: Failure) -> str:
    return f"{failure.reason}: {failure.detail}" if failure.detail else str(failure.reason)


def _single(attempt: _Attempt, failure: Failure) -> GiveUp:
    """One target's failure that ends the walk: its own error as received, or ours for it."""
    row = DISPOSITIONS[failure.reason]
    name = attempt.target.name
    if failure.reason is _R.AUTH_ERROR:
        return GiveUp(
            status=502,
            code="upstream_auth_error",
            message=f"{name} refused the credential that is configured for it ({failure.status})",
        )
    if failure.status is not None and 400 <= failure.status < 500 and (row.status is None or row.status < 500):
        return GiveUp(
            status=failure.status if row.status is None else row.status,
            code=failure.code or failure.reason,
            message=failure.message or f"{name}: {_said(failure)}",
            failure=failure,
            retry_after=failure.retry_after,
        )
    return GiveUp(
        status=row.status or 502,
        code=failure.reason,
        message=f"{name} failed: {_said(failure)}",
        retry_after=failure.retry_after,
    )
