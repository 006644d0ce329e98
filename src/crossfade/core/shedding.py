"""Whether a new request is let in, or refused at once because the worker has enough to do.

Three things say so: the number of requests under way, the bytes that are held for them, and how late the worker's clock
runs. A clock that is late for a moment says nothing; one that stays late means that more comes in than can be done, and
then only a share of new requests is let in, less and less until the clock is on time again, and then by and by more.

Pure. Requests that were let in are never given up here: what was begun is worth the most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from crossfade.core.policy import OverloadPolicy

STANDING: Final = 0.1
"""Seconds that the clock has to stay late before it says anything."""
SUDDEN: Final = 0.25
"""Seconds by which a clock that was on time until now may be late before no more is let in until it has been seen."""
FEWEST: Final = 16
"""With so few requests under way none is refused for a late clock: it is late for another reason."""
LESS: Final = 0.8
"""What of the share is left for each twentieth of a second that the clock is late by more than GENTLE times what it may
be beyond that; less of it goes where it is less late,"""
GENTLE: Final = 3.0
STEERED: Final = 0.5
"""Once requests are refused, the clock may be late by this part of what it may be before: all hear sooner then."""
MORE: Final = 0.8
"""and how much it grows in a second in which it is not."""
LEAST: Final = 0.02
"""The share that is always let in, so that there is something to see it by when the load has gone."""

Shortage = Literal["requests", "bytes", "delay"]

_NEVER: Final = float("inf")
_TWENTIETH: Final = 0.05


class Shedding:
    """What a worker takes on. `refused` counts by reason what was refused since it was last asked for (`take_refused`).
    `draw` gives numbers from [0, 1)."""

    __slots__ = ("_draw", "_late_since", "_looked_at", "_max_delay", "_max_requests", "_refused", "share")

    share: float
    _late_since: float
    _looked_at: float

    def __init__(self, policy: OverloadPolicy, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._refused: dict[Shortage, int] = {}
        self.rest()
        self.retune(policy)

    def retune(self, policy: OverloadPolicy) -> None:
        """Takes new bounds."""
        self._max_requests = policy.max_requests
        self._max_delay = policy.max_delay
        if not policy.max_delay:
            self.rest()

    def note_delay(self, delay: float, now: float) -> None:
        """The clock was `delay` seconds late at `now`, one of the looks at it that come in short intervals."""
        since = self._looked_at
        self._looked_at = now
        if not self._max_delay:
            return
        most = self._max_delay if self.share == 1.0 else self._max_delay * STEERED
        if delay <= most:
            self._late_since = _NEVER
            if self.share < 1.0 and since < now:
                self.share = min(1.0, self.share + MORE * min(1.0, now - since))
            return
        self._late_since = min(self._late_since, now - delay)
        if self.share < 1.0 or now - self._late_since >= STANDING:
            passed = max(delay, min(1.0, now - since) if since < now else 0.0)
            how_late = min(1.0, (delay - most) / (GENTLE * most))
            self.share = max(LEAST, self.share * LESS ** (how_late * passed / _TWENTIETH))

    def rest(self) -> None:
        """Nothing is under way any more."""
        self.share = 1.0
        self._late_since = self._looked_at = _NEVER

    def shortage(self, under_way: int, held: int, most_held: int, overdue: float) -> Shortage | None:
        """What there is not enough of for one more request; None: it is let in. `overdue` is by how many seconds the
        next look at the clock is late already: much is done in one turn of a loop, and none of it may be too much."""
        if under_way >= self._max_requests:
            return "requests"
        if held > most_held:
            return "bytes"
        if under_way >= FEWEST and self._max_delay:
            if self.share < 1.0:
                if overdue > self._max_delay or self._draw() >= self.share:
                    return "delay"
            elif overdue > SUDDEN:
                return "delay"
        return None

    def note_refused(self, shortage: Shortage) -> None:
        self._refused[shortage] = self._refused.get(shortage, 0) + 1

    def take_refused(self) -> dict[Shortage, int]:
        """How many were refused since the last time, by reason."""
        if not self._refused:
            return {}
        refused, self._refused = self._refused, {}
        return refused
