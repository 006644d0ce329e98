"""How busy a target is, and how soon it begins to answer: what pools choose by.

Only counts and averages; what they mean for a choice is decided in `balancer`.
"""

from __future__ import annotations

from math import exp
from typing import Final

MEMORY: Final = 10.0
"""Seconds over which the time to first content is averaged, where calls are frequent."""
_LEAST: Final = 0.05
_MOST: Final = 0.5


class TargetLoad:
    """`active` are the calls under way, `waiting` those of them without their first content. `first_content` is the
    average time to it in seconds, None before the first was seen; `measured_at` is when the last was."""

    __slots__ = ("_quiet_since", "active", "first_content", "measured_at", "waiting")

    def __init__(self) -> None:
        self.active = 0
        self.waiting = 0
        self.first_content: float | None = None
        self.measured_at = float("-inf")
        self._quiet_since = 0.0

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

    def expected(self, now: float) -> float | None:
        """The time to first content that a call would have, in seconds: the average, or what those under way have been
        waiting for if that is longer. None: nothing is known."""
        if self.first_content is None or not self.waiting:
            return self.first_content
        return max(self.first_content, now - self._quiet_since)

    def __repr__(self) -> str:
        average = "unknown" if self.first_content is None else f"{self.first_content:.3f} s"
        return f"<TargetLoad {self.active} active, {self.waiting} waiting, first content {average}>"
