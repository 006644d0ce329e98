"""A provider that is down costs little while it is, and is found again when it is back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crossfade.config.directory import Directory
from crossfade.core import policy as defaults
from crossfade.core.events import BreakerMoved, FallbackTriggered
from crossfade.core.exchange import RequestFacts
from crossfade.core.failure import FailureReason as R
from crossfade.core.limits import attempt_limits, reserve
from crossfade.core.policy import BreakerPolicy, HealthPolicy, TimeoutPolicy
from crossfade.edge.intake import Caller, Intake
from crossfade.simulator.thread import ProviderSimulator
from crossfade.wire.openai_chat import read_request
from tests.e2e.harness import QUICK, TEXT, chain_stage, config_of, run, sdk, until

TWO = {"a": "openai", "b": "anthropic"}
SHORT = QUICK.replace("2s", "700ms")
MODES = ("buffered", "assembled", "streamed")


def health(**fields: Any) -> HealthPolicy:
    return HealthPolicy(breaker=BreakerPolicy(**{"open_time": 60.0, **fields}))


def route(mode: str, timers: str = SHORT) -> str:
    upstream = "true" if mode == "assembled" else "false"
    return timers if mode == "streamed" else f"{timers}, stream_upstream: {upstream}"


@pytest.mark.parametrize("mode", MODES)
def test_a_silent_primary_costs_the_opening_threshold_and_no_more(simulator: ProviderSimulator, mode: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, TWO, route(mode), health=health()) as stage:
            stage.schedule("a", then="silence")
            for _ in range(12):
                assert (await stage.ask(stream=mode == "streamed")).text == TEXT
            assert stage.calls("a", "b") == [2, 12]
            slow = [row for row in stage.record.ended if row.latency_s > 0.65]
            assert len(slow) == 2
            assert [row.attempts[0].skip for row in stage.record.ended[2:]] == ["breaker open"] * 10
            opened = [move for move in stage.record.told_of(BreakerMoved) if move.state == "open"]
            assert len(opened) == 1

    run(main())


@pytest.mark.parametrize("fault", ["500", "reset", "dead_port", "cut@start", "html"])
def test_a_failing_primary_costs_five_calls(simulator: ProviderSimulator, fault: str) -> None:
    async def main() -> None:
        more = {"a": f"base_url: 'http://127.0.0.1:{simulator.dead_port()}'"} if fault == "dead_port" else {}
        async with chain_stage(simulator, TWO, f"{SHORT}, retry: {{delay: 0s}}", health=health(), more=more) as stage:
            if not more:
                stage.schedule("a", then=fault)
            for number in range(10):
                assert (await stage.ask(stream=number % 2 == 0)).text == TEXT
            called = [a for row in stage.record.ended for a in row.attempts if a.number and "a/" in a.target]
            assert 5 <= len(called) <= 10 if fault == "dead_port" else len(called) == 5
            assert [row.attempts[0].skip for row in stage.record.ended[5:]] == ["breaker open"] * 5
            assert all(row.fallbacks == 1 for row in stage.record.ended)
            assert len(stage.record.told_of(FallbackTriggered)) == 10

    run(main())


def test_many_callers_at_once_do_not_all_wait_for_a_silent_primary(simulator: ProviderSimulator) -> None:
    """Those under way when it goes silent find out each for itself; all later ones go past it."""

    async def main() -> None:
        async with chain_stage(simulator, TWO, QUICK.replace("2s", "1200ms"), health=health()) as stage:
            stage.schedule("a", then="silence")
            answers = await asyncio.gather(*(stage.ask(stream=True) for _ in range(20)))
            assert {answer.text for answer in answers} == {TEXT}
            before = stage.calls("a")
            answers = await asyncio.gather(*(stage.ask(stream=True) for _ in range(20)))
            assert {answer.text for answer in answers} == {TEXT}
            assert stage.calls("a") == before

    run(main())


def test_one_trial_at_a_time_finds_out_when_it_is_back(simulator: ProviderSimulator) -> None:
    async def one(fault: str) -> None:
        quick = health(open_time=0.3, consecutive_failures=2, ramp=0.5)
        async with chain_stage(simulator, TWO, f"{QUICK}, retry: {{delay: 0s}}", health=quick) as stage:
            stage.schedule("a", then=fault)
            for _ in range(2):
                await stage.ask(stream=True)
            assert stage.calls("a") == [2]
            for _ in range(2):  # still down: of many callers one finds out
                await asyncio.sleep(0.8)
                before = stage.counts("a")["calls"]
                answers = await asyncio.gather(*(stage.ask(stream=True) for _ in range(8)))
                assert {answer.text for answer in answers} == {TEXT}
                assert stage.counts("a")["calls"] - before <= 1
            stage.schedule("a", then="ok")
            target = next(health for key, health in stage.gateway.board.targets.items() if f"{stage.mark}a/" in key)
            for _ in range(200):
                assert (await stage.ask(stream=True)).text == TEXT
                if target.breaker.is_closed:
                    break
                await asyncio.sleep(0.02)
            assert target.breaker.is_closed
            moves = [(move.before, move.state) for move in stage.record.told_of(BreakerMoved)]
            assert moves[0] == ("closed", "open") and moves[-1] == ("half_open", "closed")
            await until_all_goes_to_a(stage)

    async def main() -> None:
        await asyncio.gather(one("500"), one("silence"))

    run(main())


async def until_all_goes_to_a(stage: Any) -> None:
    """Traffic ramps up; in the end all of it is back at the primary."""
    for _ in range(400):
        answers = [await stage.ask(stream=True) for _ in range(3)]
        if all(answer.headers["x-crossfade-provider"] == f"{stage.mark}a" for answer in answers):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("traffic did not return to the primary")


def test_a_slow_trial_is_given_company(simulator: ProviderSimulator) -> None:
    """A caller on whom the trial fell does not wait for the trial's end."""

    async def main() -> None:
        timers = "first_content_timeout: 20s, silence_timeout: 20s, attempt_timeout: 20s, retry: {delay: 0s}"
        async with chain_stage(simulator, TWO, timers, health=health(open_time=0.2, consecutive_failures=2)) as stage:
            stage.schedule("a", "500", "500", then="silence")
            for _ in range(2):
                await stage.ask(stream=True)
            await asyncio.sleep(0.5)
            answer = await stage.ask(stream=True)
            assert answer.text == TEXT and answer.headers["x-crossfade-provider"] == f"{stage.mark}b"
            row = stage.record.last
            assert [(a.mode, a.reason) for a in row.attempts] == [("trial", R.TIMEOUT), ("fresh", None)]
            assert defaults.TRIAL_COMPANION_DELAY <= row.latency_s < 10
            await until(lambda: stage.counts("a")["in_flight"] == 0)

    run(main())


def test_a_rate_limited_primary_is_left_alone_until_its_reset(simulator: ProviderSimulator) -> None:
    async def one(form: str) -> None:
        async with chain_stage(simulator, TWO) as stage:
            stage.schedule("a", f"429; retry_after=1; retry_form={form}")
            for _ in range(3):
                assert (await stage.ask()).text == TEXT
                assert "b/" in (stage.record.last.served or "")
            assert stage.calls("a") == [1]
            await asyncio.sleep(1.2)
            assert (await stage.ask()).headers["x-crossfade-provider"] == f"{stage.mark}a"

    async def main() -> None:
        await asyncio.gather(*(one(form) for form in ("native", "seconds", "ms")))

    run(main())


def test_the_last_target_s_retry_after_is_waited_out(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai"}) as stage:
            stage.schedule("a", "429; retry_after=1")
            answer = await stage.ask()
            row = stage.record.last
            assert answer.text == TEXT and row.latency_s >= 1.0
            assert [(a.mode, a.reason) for a in row.attempts] == [("fresh", R.RATE_LIMIT), ("retry", None)]
            assert row.fallbacks == 0

    run(main())


# --- the caller's patience -----------------------------------------------------------------------------------


def test_a_client_s_timeout_bounds_the_whole_chain(simulator: ProviderSimulator) -> None:
    """A silent primary and a client that waits for 3 s: the first call is answered by the second target."""

    async def main() -> None:
        async with chain_stage(simulator, TWO, "") as stage:  # the default timers are far longer
            stage.schedule("a", then="silence")
            client = sdk(stage.url, timeout=3)
            answer = await stage.ask(client=client)
            assert answer.text == TEXT
            assert stage.record.last.latency_s < 2.6
            row = stage.record.last
            assert [a.reason for a in row.attempts] == [R.TIMEOUT, None]
            health = next(h for key, h in stage.gateway.board.targets.items() if "a/" in key)
            assert health.consecutive_failures == 0, "the caller's hurry is no fault of the target's"

    run(main())


def test_what_a_client_with_twenty_seconds_leaves_to_each_target() -> None:
    config = config_of(
        "server: {listen: '127.0.0.1:0'}\n"
        "providers:\n"
        "  one: {vendor: openai, api_keys: []}\n"
        "  two: {vendor: anthropic, api_keys: []}\n"
        "routes: {chat: {chain: [one/gpt-5.4, two/claude-opus-5]}}\n"
    )

    body = b'{"model":"chat","messages":[{"role":"user","content":"Hello"}]}'
    intake = Intake(Directory(config))
    for header in ("x-stainless-read-timeout", "x-stainless-timeout"):
        caller = Caller.of({header: "20"}, None)
        inbound = read_request(body, {})
        admitted = intake.admit(inbound.ours, inbound.facts, caller, b"")
        assert admitted.overall == 19.5
    target = config.routes["chat"].chain[0].targets[0]
    left = 19.5 - reserve(19.5, 2)
    assert left == 13.0
    limits = attempt_limits(target, RequestFacts(), TimeoutPolicy(), admitted.limits, is_streamed=True, remaining=left)
    # Asked for a stream, a silent primary is given up after 12 s, and 7.5 s remain for the second.
    assert (limits.first_content, limits.to_commit) == (12.0, 13.0)
    streamed = read_request(body[:-1] + b',"stream":true}', {})
    assert intake.admit(streamed.ours, streamed.facts, caller, b"").overall == 600.0
