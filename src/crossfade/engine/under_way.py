"""What a worker has under way for callers, as far as the clock, the caller's connection and the end of the worker need
to know it."""

from __future__ import annotations


class UnderWay:
    """One request under way. `due` is when `on_tick` is next wanted, by `time.perf_counter()`."""

    __slots__ = ("due", "is_done")

    def __init__(self) -> None:
        self.due = float("inf")
        self.is_done = False

    @property
    def held(self) -> int:
        """Bytes of answers that are held back, or have not yet left."""
        raise NotImplementedError

    def on_tick(self, now: float) -> None:
        """Looks after the limits of the request."""
        raise NotImplementedError

    def on_gone(self) -> None:
        """The caller has gone."""
        raise NotImplementedError

    def on_pressure(self, is_pressed: bool) -> None:
        """The caller reads slower than is written, or no longer does."""
        raise NotImplementedError

    def on_shutdown(self, now: float) -> None:
        """The gateway stops, and the time that the request had to end is up."""
        raise NotImplementedError

    def on_fault(self, now: float) -> None:
        """Something of ours failed: the request ends with what can still be said."""
        raise NotImplementedError
