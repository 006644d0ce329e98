"""Hedges over real sockets: a slow primary costs the time of the hedge, and its call is aborted."""

from __future__ import annotations

import pytest

from crossfade.core.failure import FailureReason as R
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import TEXT, chain_stage, run, until

TWO = {"a": "openai", "b": "anthropic"}
PATIENT = "first_content_timeout: 20s, silence_timeout: 20s, attempt_timeout: 20s"


@pytest.mark.parametrize("stream", [False, True], ids=["buffered", "streamed"])
def test_a_silent_primary_is_answered_by_the_hedge_and_aborted(simulator: ProviderSimulator, stream: bool) -> None:
    async def main() -> None:
        async with chain_stage(simulator, TWO, f"{PATIENT}, hedge_after: 200ms") as stage:
            stage.schedule("a", then="silence")
            answer = await stage.ask(stream=stream)
            assert answer.text == TEXT
            assert answer.headers["x-crossfade-fallback-reason"] == "hedged"
            row = stage.record.last
            assert [(one.mode, one.reason) for one in row.attempts] == [("fresh", R.TIMEOUT), ("hedge", None)]
            assert row.latency_s < 10
            await until(lambda: stage.counts("a")["in_flight"] == 0)

    run(main())


def test_a_healthy_primary_is_asked_alone(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, TWO, f"{PATIENT}, hedge_after: 10s") as stage:
            for _ in range(4):
                assert (await stage.ask(stream=True)).text == TEXT
            assert stage.calls("a", "b") == [4, 0]

    run(main())


def test_a_caller_may_ask_for_it_where_the_route_does_not_forbid_it(simulator: ProviderSimulator) -> None:
    async def main(route: str, expected: list[int]) -> None:
        async with chain_stage(simulator, TWO, f"first_content_timeout: 1s, silence_timeout: 1s{route}") as stage:
            stage.schedule("a", then="silence")
            answer = await stage.ask(stream=True, extra_body={"crossfade": {"hedge_after": "100ms"}})
            assert answer.text == TEXT
            modes = [one.mode for one in stage.record.last.attempts]
            assert modes == (["fresh", "hedge"] if expected else ["fresh", "fresh"])
            assert [h.consecutive_failures for k, h in stage.gateway.board.targets.items() if "a/" in k] == (
                [0] if expected else [1]
            ), "a caller's hurry is no fault of the target's"

    run(main("", [1]))
    run(main(", hedge_after: never", []))
