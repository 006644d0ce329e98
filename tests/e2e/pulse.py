"""How busy the machine is while timers are being tested, so that their limits can be told from its hiccups."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Pulse:
    """How late the loop runs what is due: what a busy machine adds to every limit."""

    BEAT = 0.02
    USUAL = 0.01
    """Lateness in seconds that no machine is free of, and that is not counted."""

    def __init__(self) -> None:
        self.late = 0.0
        """Seconds that beats have come too late, all together."""

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self._beat())
        try:
            yield
        finally:
            task.cancel()

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self.BEAT
            await asyncio.sleep(self.BEAT)
            late = loop.time() - due
            if late > self.USUAL:
                self.late += late
