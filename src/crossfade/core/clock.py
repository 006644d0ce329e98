"""The one way to ask for the time. The core itself never asks: it is told."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds."""

    def now(self) -> float: ...
