"""How many calls a target should have under way at once: a number that is given, or one found out from its answers.

Found out by what a crowd does to the time to first content. Calls that begin with hardly any other under way tell what
that time is when all is calm; once the others take much longer, the limit goes down from the size of their crowd, and
while they do not it goes up by one for each round of answers. A target that refuses for want of room, or falls silent,
brings it down at once. A limit that is not used does not grow: nothing would prove it.

What is calm may change: longer prompts, a slower machine. So each round that takes too long lets it count as a little
longer, and each that takes less brings it down to that.

Pure. Who waits for room, and who gets it, is in `slots`.
"""

from __future__ import annotations

from typing import Final

from crossfade.core.failure import Failure, FailureReason
from crossfade.core.policy import ConcurrencyPolicy

FIRST: Final = 8.0
"""The limit to begin with, within what is allowed."""
TOLERANCE: Final = 2.0
"""So many times what it is when all is calm may the time to first content be in a crowd."""
ROUND: Final = 10
"""Answers that are looked at together, at least; as many as the limit where that is more."""
LONGEST_ROUND: Final = 50
LEAP: Final = 1.5
"""By how much the limit grows with each round before it has ever gone down; then by one."""
CUT: Final = 0.7
"""What is left of the limit after a refusal or silence."""
LEAST_CUT: Final = 0.9
MOST_CUT: Final = 0.8
"""What is left of it after a round that took too long, little or much."""

_CALM: Final = 8.0  # calm is while no more than this part of the limit is in use
_CALM_SHARE: Final = 0.1
_DRIFT: Final = 1.05
_CROWDED: Final = frozenset({FailureReason.OVERLOADED, FailureReason.RATE_LIMIT, FailureReason.TIMEOUT})


class ConcurrencyLimit:
    """`value` is the limit, which has a fraction while it grows. `calm` is the time to first content in seconds of
    calls that begin with hardly any other under way; None before the first."""

    __slots__ = ("_count", "_crowd", "_is_new", "_least", "_lowered_at", "_most", "_sum", "_used", "calm", "value")

    calm: float | None
    _is_new: bool
    _lowered_at: float

    def __init__(self, policy: ConcurrencyPolicy) -> None:
        self._least, self._most = float(policy.least), float(policy.most)
        self.reset()

    def reset(self) -> None:
        """Forgets what was found out."""
        self.value = min(self._most, max(self._least, FIRST))
        self.calm = None
        self._is_new = True
        self._lowered_at = float("-inf")
        self._begin_round()

    def retune(self, policy: ConcurrencyPolicy) -> None:
        """Takes new bounds; what was found out is kept within them."""
        self._least, self._most = float(policy.least), float(policy.most)
        self.value = min(self._most, max(self._least, self.value))

    def _begin_round(self) -> None:
        self._sum = 0.0
        self._count = 0
        self._used = 0
        self._crowd = 0

    def note_content(self, seconds: float, crowd: int, now: float) -> None:
        """The first content of a call has come, `seconds` after it began as one of `crowd` that were under way."""
        if self._least == self._most or now - seconds < self._lowered_at:
            return  # what begins before the limit goes down sees the crowd that it went down for
        is_calm = crowd <= 1 or crowd * _CALM <= self.value
        is_used = crowd + 1 > self.value
        if is_calm:
            self.calm = seconds if self.calm is None else self.calm + _CALM_SHARE * (seconds - self.calm)
        if is_used or not is_calm:
            self._sum += seconds
            self._count += 1
            self._used += is_used
            self._crowd = max(self._crowd, crowd)
            if self._count >= max(ROUND, min(LONGEST_ROUND, int(self.value))):
                self._end_round(now)

    def _end_round(self, now: float) -> None:
        mean = self._sum / self._count
        is_used = self._used * 2 >= self._count
        crowd = self._crowd
        self._begin_round()
        if self.calm is None or mean < self.calm:
            self.calm = mean  # in no crowd can it take longer: what was seen of it was something else
        if mean > self.calm * TOLERANCE:
            share = max(MOST_CUT, min(LEAST_CUT, self.calm * TOLERANCE / mean))
            self._lower(min(self.value, crowd) * share, now)
            self.calm *= _DRIFT
        elif is_used:
            self.value = min(self._most, self.value * LEAP if self._is_new else self.value + 1.0)

    def note_failure(self, failure: Failure, seconds: float, now: float) -> None:
        """A call has failed, `seconds` after it began. What was under way when the limit went down says it again."""
        if failure.reason not in _CROWDED or failure.is_caller_limit or self._least == self._most:
            return
        if now - seconds >= self._lowered_at:
            self._lower(self.value * CUT, now)

    def _lower(self, value: float, now: float) -> None:
        self.value = max(self._least, value)
        self._lowered_at = now
        self._is_new = False
        self._begin_round()

    def __repr__(self) -> str:
        calm = "unknown" if self.calm is None else f"{self.calm:.3f} s"
        return f"<ConcurrencyLimit {self.value:.1f} of {self._most:.0f}, calm {calm}>"
