"""Names to addresses: lookups in threads of their own, shared, cached, and remembered for when DNS fails.

Knows nothing of sockets, limits of time or which addresses may be dialled.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from itertools import count
from typing import Any, Final

import msgspec

from crossfade.core.errors import ConnectFailed
from crossfade.transport.addresses import literal_address

SocketAddress = tuple[Any, ...]
Address = tuple[socket.AddressFamily, SocketAddress]
Lookup = Callable[[str, int], Sequence[Address]]

KEEP_ADDRESSES: Final = 30.0
"""Seconds for which an answer is used again."""

STALE_AFTER: Final = 1.0
"""Seconds to wait for a new answer where an older one is known; then the older one is used."""

_KNOWN_HOSTS: Final = 1024


class _Known(msgspec.Struct):
    addresses: Sequence[Address]
    fresh_until: float


class Resolver:
    """Looks names up in `executor`. A lookup that hangs holds one thread and nobody who gave up on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, executor: Executor, lookup: Lookup | None = None) -> None:
        self._loop, self._executor = loop, executor
        self._lookup = lookup or system_lookup
        self._known: dict[tuple[str, int], _Known] = {}
        self._running: dict[tuple[str, int], asyncio.Future[Sequence[Address]]] = {}

    async def addresses(self, host: str, port: int) -> Sequence[Address]:
        """The addresses of `host`, families interleaved in the system's order of preference.

        A literal is its own address. Raises ConnectFailed where the lookup fails and no older answer is known.
        """
        if (ip := literal_address(host)) is not None:
            if ip.version == 4:
                return [(socket.AF_INET, (str(ip), port))]
            return [(socket.AF_INET6, (str(ip), port, 0, 0))]
        key = (host.lower(), port)
        known = self._known.get(key)
        if known is not None and self._loop.time() < known.fresh_until:
            return known.addresses
        running = self._running.get(key) or self._begin(key)
        # Waiting and not awaiting: a caller that leaves must not take the lookup away from the others.
        await asyncio.wait((running,), timeout=None if known is None else STALE_AFTER)
        if running.done() and not running.cancelled() and running.exception() is None:
            return running.result()
        if known is not None:
            return known.addresses
        error = None if running.cancelled() else running.exception()
        raise ConnectFailed(f"the name {host!r} cannot be resolved: {_reason(error)}") from error

    def close(self) -> None:
        """Gives up on the lookups under way; who waits for one is told that it failed."""
        for running in list(self._running.values()):
            running.cancel()

    def _begin(self, key: tuple[str, int]) -> asyncio.Future[Sequence[Address]]:
        running = asyncio.wrap_future(self._executor.submit(self._look_up, key), loop=self._loop)
        self._running[key] = running
        running.add_done_callback(lambda done: self._on_answer(key, done))
        return running

    def _look_up(self, key: tuple[str, int]) -> Sequence[Address]:
        addresses = interleaved(self._lookup(*key))
        if not addresses:
            raise OSError("no address")
        return addresses

    def _on_answer(self, key: tuple[str, int], answer: asyncio.Future[Sequence[Address]]) -> None:
        self._running.pop(key, None)
        if answer.cancelled() or answer.exception() is not None:
            return
        if len(self._known) >= _KNOWN_HOSTS:
            self._known.clear()
        self._known[key] = _Known(answer.result(), self._loop.time() + KEEP_ADDRESSES)


def system_lookup(host: str, port: int) -> list[Address]:
    """The system's resolver; blocks."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [(family, address) for family, _, _, _, address in found]


def interleaved(addresses: Sequence[Address]) -> list[Address]:
    """The addresses with the families in turn, beginning with the family of the first (RFC 8305 section 4)."""
    order = list(dict.fromkeys(family for family, _ in addresses))
    turns = {family: count() for family in order}
    placed = [(next(turns[family]), order.index(family), (family, address)) for family, address in addresses]
    return [address for _, _, address in sorted(placed, key=lambda place: place[:2])]


def _reason(error: BaseException | None) -> str:
    if error is None:
        return "the transport was closed"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
