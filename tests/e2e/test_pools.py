"""Pools over real sockets: who is asked, what an outage of a member costs, and what is on record of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from time import perf_counter
from typing import Any

import pytest

from crossfade.core.policy import BreakerPolicy, HealthPolicy
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import QUICK, TEXT, Stage, chain_stage, run

THREE = {"a": "openai", "b": "anthropic", "c": "gemini"}
FAST = f"{QUICK}, retry: {{delay: 0s}}"


async def served(stage: Stage, times: int, **fields: Any) -> Counter[str]:
    """Who answered so many requests, one after the other."""
    found: Counter[str] = Counter()
    for number in range(times):
        answer = await stage.ask(stream=bool(number % 2), **fields)
        assert answer.text == TEXT
        found[answer.headers["x-crossfade-provider"].removeprefix(stage.mark)] += 1
    return found


def test_members_take_turns_and_none_of_it_is_a_fallback(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE, balanced="round_robin") as stage:
            assert await served(stage, 9) == {"a": 3, "b": 3, "c": 3}
            assert {row.fallbacks for row in stage.record.ended} == {0}
            assert {len(row.attempts) for row in stage.record.ended} == {1}

    run(main())


def test_the_members_are_each_others_fallbacks(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE, FAST, balanced="round_robin") as stage:
            stage.schedule("a", then="500")
            assert set(await served(stage, 20)) == {"b", "c"}
            assert stage.counts("a")["calls"] == 5, "its breaker opens"
            assert [row.fallbacks for row in stage.record.ended][-3:] == [0, 0, 0]
            assert {attempt.skip for row in stage.record.ended[-3:] for attempt in row.attempts} == {None}

    run(main())


@pytest.mark.parametrize("name", ["crossfade", "header", "user"])
def test_a_session_stays_where_it_is(simulator: ProviderSimulator, name: str) -> None:
    def named(session: str) -> dict[str, Any]:
        if name == "header":
            return {"extra_headers": {"x-crossfade-session": session}}
        return {"user": session} if name == "user" else {"extra_body": {"crossfade": {"session": session}}}

    async def main() -> None:
        async with chain_stage(simulator, THREE, balanced="sticky") as stage:
            homes = {}
            for session in map(str, range(12)):
                found = await served(stage, 3, **named(session))
                assert len(found) == 1, session
                (homes[session],) = found
            assert set(homes.values()) == {"a", "b", "c"}

    run(main())


def test_a_member_that_is_back_is_found_out_by_one_request_and_ramps_up(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        health = HealthPolicy(breaker=BreakerPolicy(open_time=0.3, consecutive_failures=2, ramp=0.5))
        async with chain_stage(simulator, THREE, FAST, balanced="weighted", health=health) as stage:
            stage.schedule("a", then="500")
            while stage.counts("a")["calls"] < 2:
                await served(stage, 1)
            stage.schedule("a", then="ok")
            await asyncio.sleep(0.5)
            board = stage.gateway.board
            (member,) = [health for key, health in board.targets.items() if key.startswith(f"{stage.mark}a/")]
            while not member.breaker.is_closed or member.ramp(perf_counter()) < 1.0:
                await served(stage, 1)
            assert (await served(stage, 40))["a"] > 3

    run(main())
