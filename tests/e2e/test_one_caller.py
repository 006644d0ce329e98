"""What one caller does takes no provider from the others: absurd timeouts, schemas nobody can meet, poison, leaving."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from crossfade.core.events import BreakerMoved
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import QUICK, TEXT, WEATHER, Stage, chain_stage, run, sdk, until

TWO = {"a": "openai", "b": "anthropic"}
POISON: list[Any] = [{"role": "user", "content": "What nobody's server survives."}]
AT_ONCE = f"{QUICK}, retry: {{delay: 0s}}"


async def check_others(stage: Stage, expected: str = "a") -> None:
    """Other callers are served by the primary, and nobody's breaker has moved but for the one request."""
    for stream in (False, True):
        answer = await stage.ask(stream=stream)
        assert answer.text == TEXT and answer.headers["x-crossfade-provider"] == f"{stage.mark}{expected}"
        assert all(attempt.skip is None for attempt in stage.record.last.attempts)
    target = next(health for key, health in stage.gateway.board.targets.items() if f"{stage.mark}a/" in key)
    assert target.breaker.is_closed or target.breaker.is_for_one


async def refusal(stage: Stage, **asked: Any) -> int | None:
    """The status of the error that answered a request; 0: none came in the caller's time; None: an answer."""
    try:
        await stage.ask(**asked)
    except openai.APIStatusError as error:
        return error.status_code
    except openai.APITimeoutError:
        return 0
    return None


@pytest.mark.parametrize("stream", [False, True])
def test_a_callers_absurd_timeouts(simulator: ProviderSimulator, stream: bool) -> None:
    async def main() -> None:
        async with chain_stage(simulator, TWO, QUICK) as stage:
            stage.schedule("a", then="ok; delay=0.05")
            hasty = [{"first_content_timeout": "1ms"}, {"attempt_timeout": "1ms"}, {"timeout": "2ms"}]
            for ours in hasty * 4:
                assert await refusal(stage, stream=stream, extra_body={"crossfade": ours}) in (None, 504)
            client = sdk(stage.url, timeout=0.03)  # it announces that, and hangs up
            for _ in range(6):
                assert await refusal(stage, stream=stream, client=client) in (None, 0, 504)
            await until(lambda: stage.counts("a")["in_flight"] == 0)
            stage.schedule("a", then="ok")
            await check_others(stage)
            assert not stage.record.told_of(BreakerMoved)

    run(main())


@pytest.mark.parametrize("fault", ["invalid_json", "bad_tool_args", "filter", "length"])
def test_a_callers_demands_that_answers_do_not_meet(simulator: ProviderSimulator, fault: str) -> None:
    """Strict schemas, tools, validators: unmet again and again, on a route that others use with the same target."""

    async def main() -> None:
        async with chain_stage(simulator, TWO, AT_ONCE) as stage:
            schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
            format_ = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": schema}}
            wants: dict[str, Any] = {
                "invalid_json": {"response_format": format_},
                "bad_tool_args": {"tools": [WEATHER], "tool_choice": "required"},
                "filter": {"extra_body": {"crossfade": {"validate": {"finish": ["stop"]}}}},
                "length": {"extra_body": {"crossfade": {"validate": {"min_chars": 100_000}}}},
            }[fault]
            stage.schedule("a", then=fault)
            stage.schedule("b", then=fault)
            for _ in range(12):
                assert await refusal(stage, **wants) in (None, 502)
            stage.schedule("a", then="ok")
            stage.schedule("b", then="ok")
            await asyncio.sleep(0)
            target = next(health for key, health in stage.gateway.board.targets.items() if f"{stage.mark}a/" in key)
            assert target.breaker.is_closed and not stage.record.told_of(BreakerMoved)
            assert (await stage.ask()).text == TEXT

    run(main())


@pytest.mark.parametrize("fault", ["500", "reset", "silence", "cut@start"])
def test_a_request_that_kills_the_provider_is_kept_from_it_and_others_are_not(
    simulator: ProviderSimulator, fault: str
) -> None:
    async def main() -> None:
        timers = AT_ONCE.replace("2s", "400ms") if fault == "silence" else AT_ONCE
        async with chain_stage(simulator, TWO, timers) as stage:
            stage.schedule("a", then=fault)
            for _ in range(12):  # one caller's loop
                assert (await stage.ask(stream=True, messages=POISON)).text
            assert stage.calls("a")[0] <= (2 if fault == "silence" else 6)
            skips = [attempt.skip for attempt in stage.record.last.attempts]
            assert skips == ["breaker open", None]
            stage.schedule("a", then="ok")
            await check_others(stage)

    run(main())


def test_a_provider_that_fails_others_as_well_is_open_to_nobody(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, TWO, AT_ONCE) as stage:
            stage.schedule("a", then="500")
            for _ in range(5):
                await stage.ask(messages=POISON)
            await stage.ask()  # somebody else finds the same
            assert stage.calls("a") == [6]
            for text in ("one", "two", "three"):
                await stage.ask(messages=[{"role": "user", "content": text}])
            assert stage.calls("a") == [6]
            assert [move.state for move in stage.record.told_of(BreakerMoved)] == ["open", "open"]

    run(main())
