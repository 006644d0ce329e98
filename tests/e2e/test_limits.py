"""Rate limits over real sockets: how long a 429 keeps a target out, and leaving a target before it says 429."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import Any

import httpx2
import pytest

from crossfade.core.events import TargetEjected
from crossfade.core.failure import FailureReason as R
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import TEXT, Stage, chain_stage, run

TWO = {"a": "openai", "b": "anthropic"}
OPENAI = {"a": "vendor: openai"}
DATE = time.time()


def dated(seconds: float) -> dict[str, str]:
    return {"date": formatdate(DATE, usegmt=True), "retry-after": formatdate(DATE + seconds, usegmt=True)}


FORMS: list[tuple[dict[str, str], float]] = [
    ({"retry-after": "0"}, 1.0),
    ({"retry-after": "1"}, 1.0),
    ({"retry-after": "30"}, 30.0),
    ({"retry-after": "1e9"}, 900.0),
    ({"retry-after": "1000000000"}, 900.0),
    ({"retry-after": "-5"}, 10.0),
    ({"retry-after": "soon"}, 10.0),
    ({}, 10.0),
    (dated(20.0), 20.0),
    (dated(-20.0), 1.0),
    ({"retry-after": formatdate(DATE + 3600.0, usegmt=True)}, 900.0),  # without a date, by our own clock
    ({"retry-after-ms": "2500", "retry-after": "3"}, 2.5),
    ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2m0s"}, 120.0),
    ({"x-ratelimit-remaining-tokens": "9", "x-ratelimit-reset-tokens": "2m0s"}, 10.0),
]


async def served(stage: Stage, **fields: Any) -> str:
    answer = await stage.ask(**fields)
    assert answer.text == TEXT
    return answer.headers["x-crossfade-provider"].removeprefix(stage.mark)


async def shown(stage: Stage, provider: str) -> dict[str, Any]:
    """What `/status` says of a provider's only target."""
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        status = (await client.get(f"{stage.gateway.admin_url}/status")).json()
    (found,) = [one for key, one in status["targets"].items() if key.startswith(f"{stage.mark}{provider}/")]
    assert isinstance(found, dict)
    return found


def left(requests: str, reset: str) -> dict[str, Any]:
    headers = {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": requests}
    return {"kind": "ok", "headers": {**headers, "x-ratelimit-reset-requests": reset}}


def test_every_form_of_a_429_keeps_the_target_out_for_its_time(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, TWO, more=OPENAI) as stage:
            for number, (headers, seconds) in enumerate(FORMS, 1):
                stage.forget_health()
                stage.schedule("a", {"kind": "429", "headers": headers})
                assert [await served(stage, stream=True), await served(stage)] == ["b", "b"]
                assert stage.calls("a") == [number], headers
                *_, told = stage.record.told_of(TargetEjected)
                assert told.for_s == pytest.approx(seconds, abs=0.2), headers

    run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_a_target_is_left_before_its_429_and_has_traffic_again_after_its_reset(
    simulator: ProviderSimulator, stream: bool
) -> None:
    async def main() -> None:
        async with chain_stage(simulator, TWO, more=OPENAI) as stage:
            stage.schedule("a", left("9", "5s"), left("1", "1500ms"), left("0", "1s"))
            assert [await served(stage, stream=stream) for _ in range(3)] == ["a", "a", "a"]
            status = await shown(stage, "a")
            assert status["headroom"] == 0.0
            assert (status["limits"]["requests"]["left"], status["limits"]["requests"]["of"]) == (0, 10)
            assert 0 < status["limits"]["requests"]["reset_in_s"] <= 1
            assert await served(stage, stream=stream) == "b"
            assert [(a.number, a.skip) for a in stage.record.last.attempts] == [
                (0, "rate_limit: 0 requests left"),
                (1, None),
            ]
            assert stage.calls("a", "b") == [3, 1]
            await asyncio.sleep(1.1)
            assert await served(stage, stream=stream) == "a"

    run(main())


def test_what_a_provider_said_causes_no_error_that_a_call_would_not_have(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, TWO, more=OPENAI) as stage:
            stage.schedule("a", left("0", "60s"))
            stage.schedule("b", "500", "500", "500", then="ok")
            assert [await served(stage) for _ in range(2)] == ["a", "a"]
            assert stage.record.reasons() == [(f"{stage.mark}b", R.SERVER_ERROR)] * 2 + [(f"{stage.mark}a", None)]

    run(main())


def test_keys_of_one_account_share_a_limit_and_others_are_asked(simulator: ProviderSimulator) -> None:
    keys = "vendor: openai, api_keys: [{key: env:A, account: x}, {key: env:B, account: x}, {key: env:C, account: y}]"
    environ = {name: f"sk-{name}-0123456789" for name in "ABC"}

    async def main() -> None:
        async with chain_stage(simulator, TWO, more={"a": keys}, environ=environ) as stage:
            stage.schedule("a", "429; retry_after=30", "ok", "429; retry_after=30")
            assert [await served(stage) for _ in range(3)] == ["a", "b", "b"]
            assert stage.calls("a", "b") == [3, 2]
            told = stage.record.told_of(TargetEjected)
            assert [event.scope for event in told] == ["account", "account"]
            assert [event.target[-1] == "2" for event in told] in ([False, True], [True, False])

    run(main())
