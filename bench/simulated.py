"""Simulated providers as processes of their own, told what to be like; and a load that does not wait for answers."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from bench.machine import BenchError, Process
from bench.scenarios import Bench


def simulator(bench: Bench, port: int, name: str) -> Process:
    """A process, not yet waited for, that plays providers at `port`."""
    program = str(bench.python.with_name("crossfade"))
    command = [program, "simulate", "--listen", f"127.0.0.1:{port}"]
    return Process(command, bench.cores.load, bench.folder / f"{name}.log")


def schedule(port: int, provider: str | None, steps: list[dict[str, Any]], then: dict[str, Any]) -> None:
    """What the next calls of a provider meet, or of all that have no schedule of their own, and those after them."""
    body = {"faults": steps, "then": then} | ({} if provider is None else {"provider": provider})
    _control(port, "POST", "/_control/schedule", json.dumps(body))


def calls(port: int) -> int:
    """How many calls all providers of a simulator have had."""
    counts = json.loads(_control(port, "GET", "/_control/counts", None))
    return sum(provider["calls"] for provider in counts["providers"].values())


def _control(port: int, method: str, path: str, body: str | None) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise BenchError(f"the simulator refused {path}: {answer!r}")
    return answer


def load(
    count: int,
    rate: float,
    one: Callable[[int], Awaitable[Any]],
    close: Callable[[], None],
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Calls `one` so often, so many a second whether or not the earlier ones are done; `beside` runs meanwhile, and is
    ended with the last of them. `close` is called at the end, while the loop still runs."""

    async def run() -> None:
        began = time.perf_counter()
        other = None if beside is None else asyncio.ensure_future(beside())
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
                group.create_task(_done(one(number)))
        if other is not None:
            if other.done():
                other.result()
            other.cancel()
        close()

    asyncio.run(run())


async def _done(one: Awaitable[Any]) -> None:
    await one
