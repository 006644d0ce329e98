"""Trouble of a whole provider, seen across its targets: what two of its models have, the third will have too.

A provider's outage would otherwise have to be found out by every target for itself, at the price of the opening
threshold each. One that is suspected has its breaker opened by the next failure, and is cleared by the next success;
nothing is taken out on suspicion alone.
"""

from __future__ import annotations

from typing import Final

from crossfade.core.breaker import Breaker

TOGETHER: Final = 60.0
"""Seconds within which the breakers of two models must open for the provider to be in trouble."""


class Siblings:
    """The breakers of one provider's targets, by key; `models` are those that opened of late, and when."""

    __slots__ = ("breakers", "models")

    def __init__(self) -> None:
        self.breakers: dict[str, Breaker] = {}
        self.models: dict[str, float] = {}

    def on_opened(self, model: str, is_unreachable: bool, now: float) -> bool:
        """The breaker of a target of `model` has opened; whether all others are suspected now. `is_unreachable`: not
        even a connection could be made, which no model is the cause of."""
        self.models[model] = now
        for other, at in list(self.models.items()):
            if now - at > TOGETHER:
                del self.models[other]
        if not is_unreachable and len(self.models) < 2:
            return False
        for breaker in self.breakers.values():
            breaker.suspect()
        return True
