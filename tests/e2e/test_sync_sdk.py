"""The official SDK's synchronous client, which shares no code for sending and reading with the asynchronous one: a
failure of each reason is as invisible to it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

from crossfade.core.failure import FailureReason as R
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import (
    JSON_SCHEMA,
    MESSAGES,
    QUICK,
    TEXT,
    WEATHER,
    Answer,
    chain_stage,
    of_chunks,
    of_completion,
    run,
)

BROKEN = {R.STREAM_INTERRUPTED, R.PROTOCOL_ERROR}
FAULTS: dict[str, set[R]] = {
    "refuse": {*BROKEN, R.CONNECT_ERROR},
    "silence": {R.TIMEOUT},
    "500": {R.SERVER_ERROR},
    "503": {R.OVERLOADED},
    "429": {R.RATE_LIMIT},
    "quota": {R.QUOTA_EXHAUSTED},
    "garbage": {R.PROTOCOL_ERROR},
    "cut@start": BROKEN,
    "cut@middle": BROKEN,
    "stall@middle": {R.STREAM_STALLED, R.TIMEOUT},
    "html": {R.MALFORMED_OUTPUT},
    "empty": {R.EMPTY_OUTPUT},
    "invalid_json": {R.INVALID_JSON},
    "bad_tool_args": {R.INVALID_TOOL_CALL},
    "404": {R.MODEL_UNAVAILABLE},
    "context": {R.CONTEXT_OVERFLOW},
    "error_event@middle": {R.SERVER_ERROR},
}
ASKED: dict[str, dict[str, Any]] = {
    "invalid_json": {"response_format": JSON_SCHEMA},
    "bad_tool_args": {"tools": [WEATHER], "tool_choice": "required"},
}
CASES = [(fault, stream) for fault in FAULTS for stream in (False, True) if stream or "event" not in fault]


def asked(url: str, *, stream: bool, **fields: Any) -> Answer:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
        fields = {"model": "chat", "messages": MESSAGES, **fields}
        if stream:
            return of_chunks(list(client.chat.completions.create(stream=True, **fields)))
        return of_completion(client.chat.completions.create(**fields), {})


def check(answer: Answer, fields: dict[str, Any]) -> None:
    if "tools" in fields:
        assert answer.finishes == ["tool_calls"]
        assert [(name, json.loads(said)) for name, said in answer.calls] == [("weather", {"city": "text", "days": 1})]
    elif "response_format" in fields:
        assert answer.finishes == ["stop"] and json.loads(answer.text) == {"name": "text", "age": 1}
    else:
        assert answer.finishes == ["stop"] and answer.text == TEXT and not answer.calls


@pytest.mark.parametrize(("fault", "stream"), CASES)
def test_a_failure_of_each_reason_is_invisible(simulator: ProviderSimulator, fault: str, stream: bool) -> None:
    fields = ASKED.get(fault, {})

    async def main() -> None:
        timers = QUICK.replace("2s", "500ms") + ", retry: {delay: 0s}"
        async with chain_stage(simulator, {"a": "openai", "b": "anthropic"}, timers) as stage:
            stage.schedule("a", then=fault)
            check(await asyncio.to_thread(asked, stage.url, stream=stream, **fields), fields)
            row = stage.record.last
            assert row.attempts[0].reason in FAULTS[fault]
            assert (row.fallbacks, row.served) == (1, row.attempts[-1].target)

    run(main())
