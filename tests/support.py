"""What tests share: a loop of their own per test, with a limit so that nothing hangs the suite."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T], timeout: float = 20.0) -> T:
    """Runs `main` on a fresh uvloop loop; raises TimeoutError after `timeout` seconds."""

    async def bounded() -> T:
        return await asyncio.wait_for(main, timeout)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())
