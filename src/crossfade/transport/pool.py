"""Which connection a call gets: the accounts of connections per endpoint. No sockets, no clock, no tasks.

Decides whether a call uses an idle connection, dials, or waits; which idle connection goes when there are too many;
who is next when one becomes free. `Member` and `Claimant` are all it knows of connections and calls.

Rules:
- the idle connection used last is used first, and not after `keep_idle` seconds: servers close what idles longer;
- a call waits only while its endpoint has `max_open` connections, open or being dialled; first come, first served;
- a connection given back goes to the first that waits, else it idles; above either bound the oldest idle one goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class PoolLimits:
    """Bounds of the pool, in connections: idle ones over all endpoints (0 keeps none) and of each, and those of one
    endpoint that are idle, busy or being dialled; further calls wait."""

    __slots__ = ("max_idle", "max_idle_per_endpoint", "max_open_per_endpoint")

    def __init__(
        self, *, max_idle: int = 1024, max_idle_per_endpoint: int = 256, max_open_per_endpoint: int = 2000
    ) -> None:
        self.max_idle = max_idle
        self.max_idle_per_endpoint = max_idle_per_endpoint
        self.max_open_per_endpoint = max_open_per_endpoint


class Member(Protocol):
    """A pooled connection."""

    @property
    def is_usable(self) -> bool: ...

    def close(self) -> None:
        """Ends it at once; it tells its lane by `on_closed`."""


M = TypeVar("M", bound=Member)
M_contra = TypeVar("M_contra", bound=Member, contravariant=True)


class Claimant(Protocol[M_contra]):
    """A call that waits for a connection. Exactly one of the two is called, once, unless it has left."""

    def use(self, connection: M_contra) -> None: ...

    def dial(self) -> None: ...


class Lane(Generic[M]):
    """The connections of one endpoint. Made by `Pool.add`."""

    def __init__(self, pool: Pool[M], keep_idle: float) -> None:
        self._pool, self._keep_idle = pool, keep_idle
        self.idle: dict[M, float] = {}  # since when, oldest first
        self.busy: set[M] = set()
        self.waiting: dict[Claimant[M], None] = {}
        self.dialling = 0

    @property
    def open_count(self) -> int:
        """Connections open or being dialled."""
        return len(self.idle) + len(self.busy) + self.dialling

    def take(self, now: float) -> M | None:
        """The idle connection that was used last, now busy; None where there is none that may still be used."""
        while self.idle:
            connection, since = self.idle.popitem()
            self._pool.idle_count -= 1
            if now - since <= self._keep_idle and connection.is_usable:
                self.busy.add(connection)
                return connection
            connection.close()
        return None

    def claim(self, claimant: Claimant[M]) -> None:
        """Lets `claimant` dial now, or when it is its turn."""
        if self.open_count >= self._pool.limits.max_open_per_endpoint:
            self.waiting[claimant] = None
        else:
            self.dialling += 1
            claimant.dial()

    def leave(self, claimant: Claimant[M]) -> None:
        """Takes `claimant` out of the queue. Harmless where it is not in it."""
        self.waiting.pop(claimant, None)

    def begin_redial(self) -> None:
        """Counts a dial that replaces a connection just lost; it does not queue, for its call has had its turn."""
        self.dialling += 1

    def end_dial(self, connection: M | None) -> None:
        """Counts a dial as ended: `connection` is busy from now on, or None: it gave none."""
        self.dialling -= 1
        if connection is not None:
            self.busy.add(connection)
        else:
            self._admit()

    def on_reusable(self, connection: M) -> None:
        """`connection` has served its call."""
        if self.waiting:
            self._pop_waiting().use(connection)
        else:
            self.busy.discard(connection)
            self._pool.idle(self, connection)

    def on_closed(self, connection: M) -> None:
        """`connection` is gone. One that was never counted (its dial failed late) is none of ours."""
        if self.idle.pop(connection, None) is not None:
            self._pool.idle_count -= 1
        self.busy.discard(connection)
        self._admit()

    def close_expired(self, now: float) -> None:
        """Closes what has idled too long."""
        for connection, since in list(self.idle.items()):
            if now - since <= self._keep_idle:
                return
            connection.close()

    def close_oldest(self) -> None:
        """Closes the connection that has idled longest."""
        next(iter(self.idle)).close()

    def _admit(self) -> None:
        while self.waiting and self.open_count < self._pool.limits.max_open_per_endpoint:
            self.dialling += 1
            self._pop_waiting().dial()

    def _pop_waiting(self) -> Claimant[M]:
        claimant = next(iter(self.waiting))
        del self.waiting[claimant]
        return claimant


class Pool(Generic[M]):
    """All lanes. `now` reads the clock. `on_idle` is called when a connection begins to idle and nobody watches, so
    that `close_expired` is called now and then; that ends the watch once none idles."""

    def __init__(self, limits: PoolLimits, now: Callable[[], float], on_idle: Callable[[], None]) -> None:
        self.limits = limits
        self._now, self._on_idle = now, on_idle
        self._lanes: list[Lane[M]] = []
        self._is_closed = False
        self._keeps_any = limits.max_idle > 0 and limits.max_idle_per_endpoint > 0
        self.idle_count = 0  # over all lanes
        self.is_watched = False

    def __repr__(self) -> str:
        lanes = self._lanes
        return (
            f"idle={self.idle_count} busy={sum(len(lane.busy) for lane in lanes)} "
            f"dialling={sum(lane.dialling for lane in lanes)} waiting={sum(len(lane.waiting) for lane in lanes)}"
        )

    def add(self, keep_idle: float) -> Lane[M]:
        """A lane for one more endpoint, whose connections may idle for `keep_idle` seconds."""
        lane: Lane[M] = Lane(self, keep_idle)
        self._lanes.append(lane)
        return lane

    def remove_empty(self) -> list[Lane[M]]:
        """Forgets the lanes that have no connection and no call; returns those that stay."""
        self._lanes = [lane for lane in self._lanes if lane.open_count or lane.waiting]
        return list(self._lanes)

    def idle(self, lane: Lane[M], connection: M) -> None:
        """Keeps `connection` for later, or closes it, or an older one in its place."""
        if self._is_closed or not self._keeps_any:
            connection.close()
            return
        if len(lane.idle) >= self.limits.max_idle_per_endpoint:
            lane.close_oldest()
        elif self.idle_count >= self.limits.max_idle:
            self._oldest_lane().close_oldest()
        lane.idle[connection] = self._now()
        self.idle_count += 1
        if not self.is_watched:
            self.is_watched = True
            self._on_idle()

    def close_expired(self) -> bool:
        """Closes what has idled too long; whether any connection still idles."""
        now = self._now()
        for lane in self._lanes:
            lane.close_expired(now)
        self.is_watched = self.idle_count > 0
        return self.is_watched

    def close(self) -> None:
        """Closes all idle connections; from now on none is kept."""
        self._is_closed = True
        for lane in self._lanes:
            for connection in list(lane.idle):
                connection.close()

    def _oldest_lane(self) -> Lane[M]:
        return min((lane for lane in self._lanes if lane.idle), key=lambda lane: next(iter(lane.idle.values())))
