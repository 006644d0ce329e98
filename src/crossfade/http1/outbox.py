"""What a turn of the loop has to send leaves at its end, together.

A write at once wakes the peer for each piece: on a busy worker that costs more than the write itself. So what is not
the last of an answer waits until all that came in with this turn is dealt with, and the pieces of one connection leave
in one call of the kernel. Decides nothing about what is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Sender(Protocol):
    """A connection with something to send."""

    __slots__ = ()

    def flush(self) -> None:
        """Writes what waits. Harmless where nothing does any more."""


class Outbox:
    """The connections of one loop that have something to send at the end of this turn. `before` is called each time
    before anything is written: whatever must be on record first."""

    __slots__ = ("_before", "_loop", "_senders")

    def __init__(self, loop: asyncio.AbstractEventLoop, before: Callable[[], None] | None = None) -> None:
        self._loop = loop
        self._before = before
        self._senders: list[Sender] = []

    def add(self, sender: Sender) -> None:
        """Has `sender.flush` called at the end of this turn."""
        if not self._senders:
            self._loop.call_soon(self._flush)
        self._senders.append(sender)

    def _flush(self) -> None:
        senders, self._senders = self._senders, []
        if self._before is not None:
            self._before()
        for sender in senders:
            try:
                sender.flush()
            except Exception as error:  # one connection's trouble must not keep the others from theirs
                self._loop.call_exception_handler({"message": "a connection could not be written", "exception": error})
