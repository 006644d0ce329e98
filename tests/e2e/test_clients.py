"""Clients that leave: at any moment, in any number. Afterwards nothing is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

from crossfade.core.failure import FailureReason as R
from crossfade.core.policy import BreakerPolicy, HealthPolicy
from crossfade.simulator.thread import ProviderSimulator
from crossfade.transport.pool import PoolLimits
from tests.e2e.harness import MESSAGES, QUICK, TEXT, WEATHER, Stage, chain_stage, open_files, raw_request, run, until
from tests.transport.support import FullBacklog

CLIENTS = 1000
AT_ONCE = 100
POOL = PoolLimits(max_open_per_endpoint=20)
"""Upstream connections; the rest of those at once queue for one."""
CHAIN = {"a": "openai", "b": "anthropic", "c": "gemini", "x": "openai"}
"""`x` is at a port that neither accepts nor refuses."""

# What the first target does meanwhile, and what the request adds.
MOMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "asking": ("ok", {}),
    "connecting": ("ok", {}),
    "before the head": ("silence", {}),
    "slow head": ("slow_head; seconds=0.05", {}),
    "holding text": ("ok; pace=0.02", {"crossfade": {"commit": "complete"}}),
    "holding a tool call": ("ok; pace=0.05", {"tools": [WEATHER], "tool_choice": "required"}),
    "in mid-stream": ("ok; pace=0.02", {}),
    "stalled": ("stall@first", {}),
    "fallback": ("500", {}),
    "rate limit wait": ("429; retry_after=15", {"fallback_models": []}),
    "join": ("cut@middle", {}),
    "done": ("ok", {}),
}
KINDS = list(MOMENTS)


UNMOVED = HealthPolicy(
    min_rate_limit=0.001,
    max_rate_limit=0.001,
    breaker=BreakerPolicy(consecutive_failures=10**6, consecutive_silences=10**6, minimum_calls=10**6),
)
"""Otherwise the targets that fail would soon be passed over, and nobody could leave while they do."""


class Leaver:
    """A client without any SDK, which leaves `after` seconds from its connection: by FIN or by RST."""

    def __init__(self, stage: Stage, moment: str, after: float, is_rude: bool, stream: bool):
        self.stage, self.moment, self.after, self.is_rude, self.stream = stage, moment, after, is_rude, stream

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, ("127.0.0.1", self.stage.gateway.port))
            await loop.sock_sendall(sock, self.request())
            try:
                await asyncio.wait_for(self.read(sock), self.after)
            except TimeoutError:
                pass
        except ConnectionError:
            pass
        finally:
            if self.is_rude:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()

    async def read(self, sock: socket.socket) -> None:
        while await asyncio.get_running_loop().sock_recv(sock, 65_536):
            pass

    def request(self) -> bytes:
        name = f"m{KINDS.index(self.moment)}"
        fields = MOMENTS[self.moment][1]
        whole = raw_request({"model": name, "messages": MESSAGES, "stream": self.stream, **fields})
        return whole[: len(whole) // 2] if self.moment == "asking" else whole


def routes() -> str:
    """A route for each moment, so that the simulator can tell them apart by their models."""
    lines = []
    for number, moment in enumerate(KINDS):
        first = "x" if moment == "connecting" else "a"
        chain = f"['{{mark}}{first}/model-{number}', '{{mark}}b/claude-opus-5', '{{mark}}c/gemini-3.8-flash']"
        lines.append(f"  m{number}: {{chain: {chain}, first_content_timeout: 5s, retry: {{delay: 300ms}}}}")
    return "\n".join(lines)


def test_a_thousand_clients_leave_at_random_moments(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        simulator.reset()
        with FullBacklog() as full:
            more = {"x": f"base_url: 'http://127.0.0.1:{full.port}/v1'"}
            async with chain_stage(simulator, CHAIN, "", tail=routes(), health=UNMOVED, pool=POOL, more=more) as stage:
                await leave(stage)

    async def leave(stage: Stage) -> None:
        for number, moment in enumerate(KINDS):
            simulator.schedule(provider=f"{stage.mark}a", model=f"model-{number}", then=MOMENTS[moment][0])
        assert (await stage.ask()).text == TEXT
        stage.schedule("b", then="ok; pace=0.01")  # so that a stream that goes on takes its time, too
        gc.collect()
        files, tasks = open_files(), len(asyncio.all_tasks())
        draw = random.Random(20_261_123)
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with turns:
                moment = KINDS[number % len(KINDS)]
                await Leaver(stage, moment, draw.random() ** 2 * 0.6, draw.random() < 0.5, draw.random() < 0.7).run()

        queued: list[bool] = []
        async with watched(stage, queued):
            await asyncio.gather(*(one(number) for number in range(CLIENTS)))
        assert any(queued), "nobody had to queue"
        await check_nothing_is_left(stage, files, tasks)
        check_records(stage)
        check_health(stage)
        assert (await stage.ask(stream=True)).text == TEXT

    run(main(), timeout=60)


@contextlib.asynccontextmanager
async def watched(stage: Stage, queued: list[bool]) -> AsyncIterator[None]:
    """Looks now and then whether calls wait for a connection."""

    async def look() -> None:
        while True:
            queued.append("waiting=0" not in repr(stage.gateway.engine.transport))
            await asyncio.sleep(0.01)

    task = asyncio.ensure_future(look())
    try:
        yield
    finally:
        task.cancel()


async def check_nothing_is_left(stage: Stage, files: int, tasks: int) -> None:
    engine: Any = stage.gateway.engine
    await until(lambda: not engine.runners and not engine.draining)
    for name in "abc":
        await until(lambda name=name: stage.counts(name)["in_flight"] == 0)  # type: ignore[misc]
    await until(lambda: engine._ticker is None)
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    assert "busy=0 dialling=0 waiting=0" in repr(engine.transport)
    # Idle upstream connections are kept for reuse, some seconds long.
    await until(lambda: open_files() <= files + 4)
    assert all(health.in_flight == 0 for health in stage.gateway.board.targets.values())


def check_records(stage: Stage) -> None:
    """Each request that was read is on record once, with a reason for its end."""
    rows = stage.record.ended
    assert len({row.id for row in rows}) == len(rows)
    assert {row.status for row in rows} <= {200, 429, 499, 500, 502, 503, 504}
    left = [row for row in rows if row.status == 499]
    assert len(left) > CLIENTS / 4, "most were to leave before their answer"
    assert all(row.error == R.CANCELLED and row.served is None for row in left)


def check_health(stage: Stage) -> None:
    """Only what really failed is held against anybody: a 500 against the one that said it, not a departure."""
    guilty = {f"{stage.mark}a/model-{KINDS.index(m)}#0" for m in ("fallback", "rate limit wait", "join")}
    for key, health in stage.gateway.board.targets.items():
        if key not in guilty:
            assert health.consecutive_failures == 0, health
            assert health.view(time.perf_counter()).failures == 0
    modes = {(attempt.mode, row.status) for row in stage.record.ended for attempt in row.attempts}
    assert {("continue", 499), ("fresh", 499), ("fresh", 200)} <= modes, "a moment was missed"
    waiting = [row for row in stage.record.ended if row.model == f"m{KINDS.index('rate limit wait')}"]
    # A few meet the ejection that another one's 429 brought, and are refused at once.
    assert len([row for row in waiting if row.status == 499 and row.attempts[0].number]) > 30


def test_closing_the_gateway_ends_what_is_under_way(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, CHAIN, QUICK) as stage:
            stage.schedule("a", then="silence")
            asking = [asyncio.ensure_future(stage.ask(stream=number % 2 == 0)) for number in range(6)]
            await until(lambda: stage.counts("a")["in_flight"] == 6)
            await stage.gateway.close(0.1)
            ended = await asyncio.gather(*asking, return_exceptions=True)
            assert all(isinstance(one, Exception) for one in ended)
            assert not stage.gateway.engine.runners
            await until(lambda: stage.counts("a")["in_flight"] == 0)

    run(main())
