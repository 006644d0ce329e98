"""What keeps a target out or back beside its breaker: ejections until a time, and how its answers suit each route.

Two small records without a policy of their own; what makes them grow is decided in `health.py`.
"""

from __future__ import annotations

from typing import Final

from crossfade.core.failure import FailureReason

SOFT_HALF_LIFE: Final = 60.0
"""Soft failures and successes of a route are forgotten by half in this time."""
DEMOTION_COUNT: Final = 2.2
"""Soft failures, so forgotten, that demote a target on a route: three within a minute."""
DEMOTION_SHARE: Final = 0.5
"""They must also be this share of the route's answers from the target."""
DEMOTION_TIME: Final = 60.0
"""For how long a demoted target is ordered later on that route."""
SEEN_TOGETHER: Final = 300.0
"""Two routes that meet the same soft failure within this time, without a good answer between, have both seen it."""

_LEAST_COUNT: Final = 0.1


class Ejections(dict[FailureReason, float]):
    """Reasons to stay away and until when. Reasons are kept apart: a short one does not hide a long one."""

    __slots__ = ()

    def add(self, reason: FailureReason, until: float, now: float) -> bool:
        """Whether that is news. Never shortens: of many answers under way, the longest wait counts."""
        before = self.get(reason)
        if before is not None and before > now:
            self[reason] = max(before, until)
            return False
        self[reason] = until
        return True

    def longest(self, now: float) -> tuple[FailureReason, float] | None:
        """The reason that keeps it out longest, and until when."""
        return max(self.current(now), key=lambda ejection: ejection[1], default=None)

    def current(self, now: float) -> tuple[tuple[FailureReason, float], ...]:
        return tuple(ejection for ejection in self.items() if ejection[1] > now)

    def take_expired(self, now: float) -> list[FailureReason]:
        expired = [reason for reason, until in self.items() if until <= now]
        for reason in expired:
            del self[reason]
        return expired


class RouteRecord:
    """How a target's answers have suited one route of late."""

    __slots__ = ("_at", "_failures", "_successes", "demoted_until", "marked_at")

    def __init__(self, now: float) -> None:
        self._at = now
        self._failures = 0.0
        self._successes = 0.0
        self.demoted_until = float("-inf")
        self.marked_at: float | None = None  # the last failure that the breaker may have to hear of

    @property
    def last_at(self) -> float:
        return self._at

    def add_failure(self, now: float, takes_back_success: bool) -> None:
        self._fade(now)
        self._failures += 1.0
        if takes_back_success:
            self._successes = max(0.0, self._successes - 1.0)
        if self._failures >= DEMOTION_COUNT and self._is_mostly_bad():
            self.demoted_until = now + DEMOTION_TIME

    def add_success(self, now: float) -> None:
        self._fade(now)
        self._successes += 1.0
        self.marked_at = None
        if not self._is_mostly_bad():
            self.demoted_until = float("-inf")

    def is_spent(self, now: float) -> bool:
        """Whether nothing in it can matter any more."""
        return self._failures < _LEAST_COUNT and now >= self.demoted_until and self.marked_at is None

    def _fade(self, now: float) -> None:
        if now > self._at:
            kept = 0.5 ** ((now - self._at) / SOFT_HALF_LIFE)
            self._failures *= kept
            self._successes *= kept
            self._at = now

    def _is_mostly_bad(self) -> bool:
        return self._failures >= DEMOTION_SHARE * (self._failures + self._successes)
