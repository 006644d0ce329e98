"""Who may call a target that takes so many calls at once, and who waits for it.

Room that becomes free is kept for the request that has waited longest, so that no newcomer overtakes it, and so that
only one is woken for it. Pure: who is woken is told by a callback, which must not do anything at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from crossfade.core.concurrency import ConcurrencyLimit
from crossfade.core.load import TargetLoad
from crossfade.core.policy import ConcurrencyPolicy


class Slots:
    """The calls that one target takes at once. `reserved` are kept for those that have been told so and have not yet
    called."""

    __slots__ = ("_load", "_waiting", "limit", "reserved")

    def __init__(self, policy: ConcurrencyPolicy, load: TargetLoad) -> None:
        self.limit = ConcurrencyLimit(policy)
        self.reserved = 0
        self._load = load
        self._waiting: dict[Ticket, None] = {}

    @property
    def is_full(self) -> bool:
        return self._load.active + self.reserved + 1 > self.limit.value

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def retune(self, policy: ConcurrencyPolicy) -> None:
        """Takes new bounds."""
        self.limit.retune(policy)
        self.offer()

    def open_up(self) -> None:
        """There is no bound any more: all that wait may call."""
        self.limit.value = float("inf")
        self.offer()

    def join(self, ticket: Ticket) -> None:
        self._waiting[ticket] = None

    def remove(self, ticket: Ticket) -> None:
        self._waiting.pop(ticket, None)

    def offer(self) -> None:
        """Keeps room, where there is some, for those that have waited longest, and tells them."""
        while self._waiting and not self.is_full:
            self.reserved += 1
            next(iter(self._waiting)).grant(self)

    def __repr__(self) -> str:
        return f"<Slots {self.limit!r}, {self.reserved} reserved, {len(self._waiting)} waiting>"


class Ticket:
    """A request's place in the queues of some targets. `granted` is the one that keeps room for it, once one does; it
    stands in no queue any more then. `tell` is called at that moment."""

    __slots__ = ("_queues", "granted", "tell")

    def __init__(self, queues: Sequence[Slots]) -> None:
        self.granted: Slots | None = None
        self.tell: Callable[[], None] = _nobody
        self._queues = queues
        for queue in queues:
            queue.join(self)

    def grant(self, slots: Slots) -> None:
        """`slots` has reserved room for it."""
        self.granted = slots
        for queue in self._queues:
            queue.remove(self)
        self.tell()

    def use(self) -> Slots:
        """Gives the room back that was kept for it: it is about to be taken. Whatever is not taken then has to be
        offered."""
        assert self.granted is not None
        slots, self.granted = self.granted, None
        slots.reserved -= 1
        return slots

    def leave(self) -> None:
        """The request waits no longer."""
        for queue in self._queues:
            queue.remove(self)
        if self.granted is not None:
            self.use().offer()

    def __repr__(self) -> str:
        return f"<Ticket {'waiting' if self.granted is None else 'granted'}>"


def _nobody() -> None:
    pass
