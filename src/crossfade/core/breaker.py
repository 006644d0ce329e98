"""The circuit breaker of one target: closed, open, half_open.

    closed ----- too many failures -----> open (until a time)
    open ------- the time comes --------> half_open (one trial at a time)
    half_open -- a trial fails ---------> open (twice as long)
    half_open -- enough trials succeed -> closed (everything counted is forgotten)

A row of failures of one and the same request proves nothing against the target, as the request may be the cause. It
opens the breaker for that request alone: all others are let through as if it were closed, until one of them fails too.

Rules of this file: the time is an argument; reading changes nothing; every permit is returned once, and a second
return is ignored; a result from before the last change of state is ignored, since it says nothing of the target
as it is now. It knows nothing of requests but which are the same, and nothing of reasons but whether it was silence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from crossfade.core.backoff import doubled, jittered
from crossfade.core.policy import BreakerPolicy
from crossfade.core.standing import BreakerChange, BreakerState

LOST_TRIAL: Final = 900.0
"""A trial unsettled for this long counts as lost, so that a permit which went astray cannot keep a target out."""

Asked = str | bytes | int
"""What a request is known by: what it asks, or a name for that. Equal for one that is repeated."""

_SLOTS: Final = 10


class Permit:
    """Leave to make one call. `generation` and the fields behind `settled` are the breaker's own."""

    __slots__ = (
        "generation",
        "is_trial",
        "row_before",
        "settled",
        "succeeded_at",
    )

    def __init__(
        self,
        generation: int,
        is_trial: bool = False,
        settled: bool = False,
        succeeded_at: float | None = None,
        row_before: tuple[int, int, bool] | None = None,
    ) -> None:
        self.generation = generation
        self.is_trial = is_trial
        self.settled = settled
        self.succeeded_at = succeeded_at
        self.row_before = row_before


class Window:
    """Calls and failures of the last `length` seconds, in slots of a tenth of it: recording costs the same always."""

    __slots__ = ("_calls", "_failures", "_past", "_slot_end", "_width")

    def __init__(self, length: float) -> None:
        self._width = length / _SLOTS
        self.clear()

    def clear(self) -> None:
        self._calls = 0
        self._failures = 0
        self._past: list[tuple[int, int]] = []  # the slots before the current one, newest first
        self._slot_end = float("-inf")

    def add_success(self, now: float) -> None:
        if now >= self._slot_end:
            self._turn(now)
        self._calls += 1

    def add_failure(self, now: float, is_new_call: bool = True) -> None:
        """`is_new_call` is false where the call was counted as a success before it failed."""
        if now >= self._slot_end:
            self._turn(now)
        self._calls += is_new_call
        self._failures += 1

    def totals(self, now: float) -> tuple[int, int]:
        """(calls, failures) at `now`; changes nothing."""
        left = _SLOTS - self._slots_past(now)
        if left <= 0:
            return 0, 0
        calls, failures = self._calls, self._failures
        for more_calls, more_failures in self._past[: left - 1]:
            calls += more_calls
            failures += more_failures
        return calls, failures

    def _slots_past(self, now: float) -> int:
        if now < self._slot_end:
            return 0
        past = (now - self._slot_end) / self._width  # infinite before the first record
        return _SLOTS if past >= _SLOTS else int(past) + 1

    def _turn(self, now: float) -> None:
        past = self._slots_past(now)
        if past >= _SLOTS:
            self._past, self._slot_end = [], now + self._width
        else:
            self._past = [*[(0, 0)] * (past - 1), (self._calls, self._failures), *self._past][: _SLOTS - 1]
            self._slot_end += past * self._width
        self._calls = self._failures = 0


class Breaker:
    """Says whether a target may be called. `draw` gives numbers from [0, 1) for the jitter of its open time.

    `opened_by_silence`: the last failure that opened it, or failed its trial, was silence; whoever tries next may
    have to wait as long, so a probe is better suited than a caller. `closed_at`: when it last recovered.
    """

    __slots__ = (
        "_closed",
        "_draw",
        "_failures",
        "_first_request",
        "_generation",
        "_has_two_requests",
        "_last_success",
        "_only",
        "_openings",
        "_policy",
        "_silences",
        "_trial",
        "_trial_since",
        "_trial_successes",
        "_until",
        "_window",
        "_window_has_two",
        "_window_request",
        "closed_at",
        "opened_by_silence",
    )

    _closed: bool
    _failures: int
    _first_request: int
    _has_two_requests: bool
    _last_success: Permit | None
    _only: int | None
    _openings: int
    _silences: int
    _trial: Permit | None
    _trial_since: float
    _trial_successes: int
    _until: float
    _window_has_two: bool
    _window_request: int
    opened_by_silence: bool

    def __init__(self, policy: BreakerPolicy, draw: Callable[[], float]) -> None:
        self._policy = policy
        self._draw = draw
        self._generation = 0
        self._trial = None  # kept over changes of state, until it is settled or lost
        self._trial_since = 0.0
        self._window = Window(policy.window)
        self.closed_at: float | None = None
        self._set_closed()

    # --- reading -------------------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def is_for_one(self) -> bool:
        """Whether it is open for a single request that failed again and again, and closed for all others."""
        return self._only is not None

    def lets_by(self, request: Asked | None) -> bool:
        """Whether `request` meets it closed: always one that is not known, where it is open for a single one."""
        return self._closed or (self._only is not None and (request is None or hash(request) != self._only))

    def state(self, now: float) -> BreakerState:
        if self._closed:
            return "closed"
        return "open" if now < self._until else "half_open"

    def due(self, now: float) -> float | None:
        """When the next trial may start (perhaps already); None: nothing is to find out, or a trial is in flight."""
        return None if self._closed or self._only is not None or self.has_trial(now) else self._until

    def until(self, now: float) -> float | None:
        """The end of the open time; None unless it is open."""
        return self._until if self.state(now) == "open" else None

    def has_trial(self, now: float) -> bool:
        """Whether a trial is in flight; one that has been for `LOST_TRIAL` is not believed in."""
        return self._trial is not None and now - self._trial_since < LOST_TRIAL

    @property
    def consecutive_failures(self) -> int:
        return self._failures

    def recent(self, now: float) -> tuple[int, int]:
        """(calls, failures) within the window."""
        return self._window.totals(now)

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"open until {self._until:.1f}"
        trial = "" if self._trial is None else f", trial since {self._trial_since:.1f}"
        only = "" if self._only is None else " for one request"
        return f"<Breaker {state}{only}{trial}, {self._failures} failures in a row, generation {self._generation}>"

    def hasten(self, now: float) -> None:
        """Makes an open breaker due for its trial: there is reason to think that the target is back."""
        if not self._closed:
            self._until = min(self._until, now)

    # --- permits -------------------------------------------------------------------------------------------

    def permit(self, now: float, request: Asked | None = None) -> Permit | None:
        """Leave to call; None while open or with a trial in flight."""
        if self._closed or self.lets_by(request):
            return Permit(self._generation)
        if now < self._until or self.has_trial(now):
            return None
        return self._start_trial(now)

    def permit_early(self, now: float, request: Asked | None = None) -> Permit | None:
        """A trial before it is due, for when no better target is left; None if one is in flight.

        If it fails while the open time still runs, that time stays as it was: a caller's need does not
        lengthen it. On a closed breaker it is an ordinary permit.
        """
        if self.lets_by(request):
            return Permit(self._generation)
        return None if self.has_trial(now) else self._start_trial(now)

    def _start_trial(self, now: float) -> Permit:
        if self._trial is not None:
            self._generation += 1  # a lost trial that comes back after all must not settle this one
        self._trial_since = now
        permit = self._trial = Permit(self._generation, True)
        return permit

    def _is_first_word(self, permit: Permit) -> bool:
        """Settles the permit; whether it had not been settled, and its result counts. A trial is over with it, even if
        the state has changed meanwhile and its result says nothing any more: never two at a time."""
        if permit.settled:
            return False
        permit.settled = True
        if permit is self._trial:
            self._trial = None
        return permit.generation == self._generation

    def succeed(self, permit: Permit, now: float) -> BreakerChange | None:
        """Returns the permit: the target has answered (its first content has come)."""
        if not self._is_first_word(permit):
            return None
        permit.succeeded_at = now
        if permit.is_trial:
            return self._on_trial_success(now)
        if self._failures:
            permit.row_before = (self._failures, self._first_request, self._has_two_requests)
            self._failures = self._silences = 0
        self._last_success = permit
        self._window.add_success(now)
        return self._forget_the_one() if self._only is not None and now >= self._until else None

    def fail(self, permit: Permit, now: float, request: Asked | None, is_silence: bool) -> BreakerChange | None:
        """Returns the permit: the call of `request` failed; None: no request could be the cause."""
        if not self._is_first_word(permit):
            return None
        if permit.is_trial:
            return self._on_trial_failure(now, is_silence)
        self._window.add_failure(now)
        return self._on_failure(now, request, is_silence)

    def fail_late(self, permit: Permit, now: float, request: Asked | None, is_silence: bool) -> BreakerChange | None:
        """Takes back a success: the answer that had begun broke off. Counts once, and only after `succeed`.

        Without a success of another call in between, the failures before this one count as in a row with it: a
        target that begins every answer and ends none must open its breaker like one that never answers.
        """
        succeeded_at, permit.succeeded_at = permit.succeeded_at, None
        if succeeded_at is None or permit.generation != self._generation:
            return None
        if permit.is_trial and not self._closed:
            return self._on_trial_failure(now, is_silence)
        if self._last_success is permit and permit.row_before is not None:
            self._put_before(*permit.row_before)
        is_counted = now - succeeded_at < self._policy.window * (1 - 1 / _SLOTS)
        self._window.add_failure(now, is_new_call=not is_counted)
        return self._on_failure(now, request, is_silence)

    def release(self, permit: Permit, now: float) -> BreakerChange | None:
        """Returns the permit: neither success nor failure (the client left, the request was at fault)."""
        self._is_first_word(permit)
        return None

    # --- what follows --------------------------------------------------------------------------------------

    def _on_failure(self, now: float, request: Asked | None, is_silence: bool) -> BreakerChange | None:
        mark = hash(request)
        if self._failures == 0:
            self._first_request, self._has_two_requests = mark, request is None
        elif request is None or mark != self._first_request:
            self._has_two_requests = True
        calls, failures = self._window.totals(now)
        if failures <= 1:
            self._window_request, self._window_has_two = mark, request is None
        elif request is None or mark != self._window_request:
            self._window_has_two = True
        self._failures += 1
        self._silences = self._silences + 1 if is_silence else 0
        policy = self._policy
        is_ratio = calls >= policy.minimum_calls and failures >= policy.failure_ratio * calls
        # Where the operator said that one failure is enough, one request is.
        is_silent = self._silences >= policy.consecutive_silences
        is_row = is_silent or self._failures >= policy.consecutive_failures
        is_one_enough = policy.consecutive_silences <= 1 if is_silent else policy.consecutive_failures <= 1
        if (is_row and (self._has_two_requests or is_one_enough)) or (is_ratio and self._window_has_two):
            if self._only is not None:
                self._only, self._openings = None, 0
            return self._open(now, is_silence, "closed")
        if self._only is None and (is_row or is_ratio):
            change = self._open(now, is_silence, "closed")
            self._only = self._first_request if is_row else self._window_request
            return change
        return None

    def _forget_the_one(self) -> BreakerChange:
        """Closes it for the request as well that it was open for: its time is over, and others are well."""
        self._generation += 1
        self._set_closed()
        return BreakerChange("half_open", "closed")

    def suspect(self) -> None:
        """Lets the next failure open it, whatever it is; a success clears it of the suspicion."""
        if self._closed or self._only is not None:
            self._failures = max(self._failures, self._policy.consecutive_failures - 1)
            self._silences = max(self._silences, self._policy.consecutive_silences - 1)
            self._has_two_requests = self._failures > 0

    def _put_before(self, failures: int, first_request: int, has_two_requests: bool) -> None:
        """Joins an earlier row of failures to the present one."""
        differ = self._failures > 0 and first_request != self._first_request
        self._has_two_requests = has_two_requests or differ or (self._failures > 0 and self._has_two_requests)
        self._first_request = first_request
        self._failures += failures

    def _on_trial_success(self, now: float) -> BreakerChange | None:
        before = self.state(now)
        self._trial_successes += 1
        if self._trial_successes >= self._policy.successes_to_close:
            self._generation += 1
            self._set_closed()
            self.closed_at = now
            return BreakerChange(before, "closed")
        self._until = min(self._until, now)
        return None if before == "half_open" else BreakerChange(before, "half_open")

    def _on_trial_failure(self, now: float, is_silence: bool) -> BreakerChange | None:
        if now >= self._until:
            return self._open(now, is_silence, "half_open")
        self.opened_by_silence = is_silence
        return None

    def _open(self, now: float, is_silence: bool, before: BreakerState) -> BreakerChange:
        open_time = doubled(self._policy.open_time, self._openings, self._policy.max_open_time)
        self._until = now + jittered(open_time, self._draw())
        self._openings += 1
        self._generation += 1
        self._closed = False
        self._trial_successes = 0
        self._last_success = None
        self.opened_by_silence = is_silence
        return BreakerChange(before, "open", self._until)

    def _set_closed(self) -> None:
        self._closed = True
        self._only = None
        self._until = 0.0
        self._openings = 0
        self._trial_successes = 0
        self._failures = 0
        self._silences = 0
        self._first_request = self._window_request = 0
        self._has_two_requests = self._window_has_two = False
        self._last_success = None
        self.opened_by_silence = False
        self._window.clear()

    # --- configuration -------------------------------------------------------------------------------------

    def retune(self, policy: BreakerPolicy) -> None:
        """Takes new thresholds and keeps the state; the window starts anew if its length changed."""
        if policy.window != self._policy.window:
            self._window = Window(policy.window)
        self._policy = policy

    def reset(self) -> None:
        """Closes it and forgets everything; results of calls under way are ignored."""
        self._generation += 1
        self._set_closed()
