"""Bounds of calls under way, over real sockets: who goes elsewhere, who waits, and that nobody is forgotten."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx2
import openai
import pytest

from crossfade.core.events import FallbackTriggered
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import (
    QUICK,
    TEXT,
    Answer,
    Stage,
    chain_stage,
    chain_yaml,
    config_of,
    new_mark,
    run,
    until,
)
from tests.e2e.harness import stage as made_stage

ONE = {"a": "openai"}
TWO = {"a": "openai", "b": "anthropic"}
SLOW = "ok; delay=0.4"


def by(answer: Answer, stage: Stage) -> str:
    return str(answer.headers["x-crossfade-provider"]).removeprefix(stage.mark)


async def asked(stage: Stage, times: int, stream: bool, **fields: Any) -> list[Answer | BaseException]:
    calls = [stage.ask(stream=stream, **fields) for _ in range(times)]
    return await asyncio.gather(*calls, return_exceptions=True)


def good(answers: list[Answer | BaseException]) -> list[Answer]:
    for answer in answers:
        assert isinstance(answer, Answer), answer
        assert answer.text == TEXT
    return [answer for answer in answers if isinstance(answer, Answer)]


def all_is_given_back(stage: Stage) -> None:
    for health in stage.gateway.board.targets.values():
        assert health.load.active == 0
        assert health.slots is None or (health.slots.reserved, health.slots.waiting) == (0, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_too_many_goes_to_the_next_target_without_a_call(simulator: ProviderSimulator, stream: bool) -> None:
    async def main() -> None:
        async with chain_stage(simulator, TWO, QUICK, more={"a": "concurrency: 2"}) as stage:
            stage.schedule("a", then=SLOW)
            answers = good(await asked(stage, 6, stream))
            assert Counter(by(answer, stage) for answer in answers) == {"a": 2, "b": 4}
            assert stage.calls("a", "b") == [2, 4]
            skipped = [row for row in stage.record.ended if row.fallbacks]
            assert [[one.skip for one in row.attempts] for row in skipped] == [["full", None]] * 4
            assert {one.reason for one in stage.record.told_of(FallbackTriggered)} == {"full"}
            all_is_given_back(stage)

    run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_where_there_is_no_other_target_requests_wait_in_turn(simulator: ProviderSimulator, stream: bool) -> None:
    async def main() -> None:
        async with chain_stage(simulator, ONE, f"{QUICK}, queue: {{wait: 60s}}", more={"a": "concurrency: 1"}) as stage:
            stage.schedule("a", then="ok; delay=0.1")
            waiting = asyncio.create_task(asked(stage, 8, stream))
            seen: set[int] = set()
            while not waiting.done():
                seen.add(stage.counts("a")["in_flight"])
                await asyncio.sleep(0.02)
            good(await waiting)
            assert seen == {0, 1}
            assert stage.calls("a") == [8]
            assert {row.fallbacks for row in stage.record.ended} == {0}
            all_is_given_back(stage)

    run(main())


def test_more_than_may_wait_and_who_has_waited_long_enough_is_told(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        route = f"{QUICK}, queue: {{size: 2, wait: 500ms}}"
        async with chain_stage(simulator, ONE, route, more={"a": "concurrency: 1"}) as stage:
            stage.schedule("a", then="ok; delay=1.5")
            answers = await asked(stage, 4, False)
            assert sum(isinstance(answer, Answer) for answer in answers) == 1
            errors = [answer for answer in answers if isinstance(answer, openai.APIStatusError)]
            assert [error.status_code for error in errors] == [503] * 3
            assert {error.code for error in errors} == {"chain_exhausted"}
            said = Counter("others wait" in str(error) for error in errors)
            assert said == {True: 1, False: 2}, [str(error) for error in errors]
            assert all(error.response.headers["retry-after"] == "1" for error in errors)
            all_is_given_back(stage)

    run(main())


def test_who_leaves_while_it_waits_leaves_its_place(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, ONE, f"{QUICK}, queue: {{wait: 60s}}", more={"a": "concurrency: 1"}) as stage:
            stage.schedule("a", then="ok; delay=0.6")
            first = asyncio.create_task(stage.ask())
            (health,) = stage.gateway.board.targets.values()
            await until(lambda: health.load.active == 1)
            leaving = asyncio.create_task(stage.ask())
            assert health.slots is not None
            await until(lambda: health.slots is not None and health.slots.waiting == 1)
            last = asyncio.create_task(stage.ask())
            await until(lambda: health.slots is not None and health.slots.waiting == 2)
            leaving.cancel()
            good([await first, await last])
            assert stage.calls("a") == [2]
            all_is_given_back(stage)

    run(main())


def test_a_reload_makes_room_for_those_that_wait(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        mark, route = new_mark(), f"{QUICK}, queue: {{wait: 60s}}"
        text = chain_yaml(simulator, mark, ONE, route, more={"a": "concurrency: 1"})
        async with made_stage(text, simulator, mark) as stage:
            stage.schedule("a", then="ok; delay=1")
            waiting = asyncio.create_task(asked(stage, 3, True))
            (health,) = stage.gateway.board.targets.values()
            await until(lambda: health.slots is not None and health.slots.waiting == 2)
            async with httpx2.AsyncClient(trust_env=False) as client:
                (shown,) = (await client.get(f"{stage.gateway.admin_url}/status")).json()["targets"].values()
            assert (shown["concurrency"], shown["waiting"], shown["active"], shown["out"]) == (1, 2, 1, "full")
            stage.gateway.reload(config_of(text.replace("concurrency: 1", "concurrency: none")), {})
            await until(lambda: health.load.active == 3)
            good(await waiting)
            all_is_given_back(stage)

    run(main())


def test_a_refusal_for_want_of_room_brings_an_automatic_bound_down(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, TWO, QUICK, more={"a": "concurrency: {least: 2, most: 10}"}) as stage:
            health = next(one for key, one in stage.gateway.board.targets.items() if key.startswith(f"{stage.mark}a/"))
            assert health.slots is not None and health.slots.limit.value == 8
            stage.schedule("a", "503")
            good(await asked(stage, 1, False))
            assert health.slots.limit.value == pytest.approx(5.6)
            all_is_given_back(stage)

    run(main())
