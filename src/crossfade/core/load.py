"""How busy a target is, and how soon it begins to answer: what pools choose by.

Only counts and averages; what they mean for a choice is decided in `balancer`.
"""

from __future__ import annotations

from math import exp, log
from typing import Final

MEMORY: Final = 10.0
"""Seconds over which the time to first content is averaged, where calls are frequent."""
SAMPLES: Final = 20
"""Times to first content that must have been seen before a percentile is told; the last few hundred count."""

_LEAST: Final = 0.05
_MOST: Final = 0.5
_ENOUGH: Final = 400
_FINEST: Final = 0.005
_STEP: Final = 1.15
_BINS: Final = 90  # up to 1,400 s


def _bin_of(seconds: float) -> int:
    return 0 if seconds <= _FINEST else min(_BINS - 1, int(log(seconds / _FINEST) / log(_STEP)) + 1)


class TargetLoad:
    """`active` are the calls under way, `waiting` those of them without their first content. `first_content` is the
    average time to it in seconds, None before the first was seen; `measured_at` is when the last was."""

    __slots__ = ("_bins", "_quiet_since", "_seen", "active", "first_content", "measured_at", "waiting")

    def __init__(self) -> None:
        self.active = 0
        self.waiting = 0
        self.first_content: float | None = None
        self.measured_at = float("-inf")
        self._quiet_since = 0.0
        self._bins: list[int] | None = None  # made for the first time that somebody wants a percentile
        self._seen = 0

    def begin(self, now: float) -> None:
        """A call has been sent."""
        if not self.waiting:
            self._quiet_since = now
        self.active += 1
        self.waiting += 1

    def answered(self, seconds: float, now: float) -> None:
        """A call has its first content, so long after it was sent."""
        self.waiting -= 1
        self._quiet_since = now
        self.observe(seconds, now)

    def end(self, has_answered: bool) -> None:
        """A call is over; `has_answered`: its first content was told."""
        self.active -= 1
        self.waiting -= not has_answered

    def observe(self, seconds: float, now: float) -> None:
        """Takes a time to first content, or to the failure that came in its place."""
        if self.first_content is None:
            self.first_content = seconds
        else:
            share = min(_MOST, max(_LEAST, 1.0 - exp((self.measured_at - now) / MEMORY)))
            self.first_content += share * (seconds - self.first_content)
        self.measured_at = now
        if self._bins is not None:
            self._count(self._bins, seconds)

    def _count(self, bins: list[int], seconds: float) -> None:
        bins[_bin_of(seconds)] += 1
        self._seen += 1
        if self._seen >= _ENOUGH:
            for place, count in enumerate(bins):
                bins[place] = count // 2
            self._seen = sum(bins)

    def percentile(self, share: float) -> float | None:
        """The time to first content that `share` of the last few hundred calls kept within, to within 15 %; None before
        enough were seen since this was first asked."""
        if self._bins is None:
            self._bins = [0] * _BINS
        if self._seen < SAMPLES:
            return None
        left = share * self._seen
        for place, count in enumerate(self._bins):
            left -= count
            if left <= 0:
                return _FINEST * _STEP**place
        return _FINEST * _STEP**_BINS

    def expected(self, now: float) -> float | None:
        """The time to first content that a call would have, in seconds: the average, or what those under way have been
        waiting for if that is longer. None: nothing is known."""
        if self.first_content is None or not self.waiting:
            return self.first_content
        return max(self.first_content, now - self._quiet_since)

    def __repr__(self) -> str:
        average = "unknown" if self.first_content is None else f"{self.first_content:.3f} s"
        return f"<TargetLoad {self.active} active, {self.waiting} waiting, first content {average}>"
