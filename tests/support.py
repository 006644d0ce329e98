"""What tests share: a loop of their own per test, with a limit so that nothing hangs the suite."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T], timeout: float = 20.0) -> T:
    """Runs `main` on a fresh uvloop loop. Raises TimeoutError after `timeout` seconds, and AssertionError if a fault
    was reported to the loop meanwhile, unless the test listens for such reports itself."""
    reported: list[str] = []

    async def bounded() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(repr(context)))
        return await asyncio.wait_for(main, timeout)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(bounded())
    assert not reported, reported
    return result
