"""A target of each dialect in one chain, each of them before each other: the same conversation falls over from each to
each, and the shape of the answer tells nobody which of them gave it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pydantic
import pytest

from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import (
    JSON_SCHEMA,
    PIXEL,
    QUICK,
    TEXT,
    WEATHER,
    Answer,
    Stage,
    chain_stage,
    check_usage,
    of_chunks,
    run,
)

DIALECTS = ("openai", "responses", "anthropic", "gemini")
ORDERS = [tuple(DIALECTS[at] for at in order) for order in ((0, 1, 3, 2), (1, 2, 0, 3), (2, 3, 1, 0), (3, 0, 2, 1))]
"""Each is at each place once, and right behind each other once."""
NAMES = ("a", "b", "c", "d")

CONVERSATION: list[Any] = [
    {"role": "system", "content": "You are a harbour master."},
    {"role": "user", "content": [{"type": "text", "text": "What is this?"}]},
    {
        "role": "assistant",
        "content": "Let me look.",
        "tool_calls": [
            {"id": "call_A1b2", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rye"}'}},
            {"id": "call_C3d4", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Hove"}'}},
        ],
    },
    {"role": "tool", "tool_call_id": "call_A1b2", "content": "Rain."},
    {"role": "tool", "tool_call_id": "call_C3d4", "content": [{"type": "text", "text": "Sun."}]},
    {"role": "assistant", "content": "Rain in Rye, sun in Hove."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "Tell me about the otters of the harbour"},
            {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
        ],
    },
]


def asked(what: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"messages": CONVERSATION, "tools": [WEATHER], "temperature": 0.5, "max_tokens": 400}
    if what == "tools":
        fields["tool_choice"] = "required"
    elif what == "parallel":
        text = "Go [[tools:3]]"
        fields["messages"] = [*CONVERSATION[:-1], {"role": "user", "content": text}]
    elif what == "json":
        fields["response_format"] = JSON_SCHEMA
    elif what == "thinking":
        text = "Tell me about the otters of the harbour [[think]]"
        fields["messages"] = [*CONVERSATION[:-1], {"role": "user", "content": text}]
    return fields


def shape(value: Any, extra: bool = False) -> Any:
    """The keys at every level. What a list holds is one shape: that of all its items together."""
    if isinstance(value, pydantic.BaseModel):
        return {name: shape(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, list):
        merged: dict[str, Any] = {}
        for item in value:
            found = shape(item)
            if isinstance(found, dict):
                merged |= {k: v for k, v in found.items() if v is not None or k not in merged}
        return [merged] if merged else []
    return None if value is None else type(value).__name__


LOOSE = ("service_tier", "system_fingerprint", "moderation")
"""What OpenAI alone says, and what applications must not rely on."""


def same(answer: Answer) -> Any:
    """What must not depend on who answered."""
    if answer.native is not None:
        found = shape(answer.native)
    else:
        found = {"chunks": shape(answer.chunks)}
    return drop(found)


def drop(found: Any) -> Any:
    if isinstance(found, dict):
        return {k: drop(v) for k, v in found.items() if k not in (*LOOSE, "audio_tokens", "cache_write_tokens")}
    return [drop(item) for item in found] if isinstance(found, list) else found


def check(what: str, answer: Answer) -> None:
    check_usage(answer)
    if what == "tools":
        assert answer.finishes == ["tool_calls"] and len(answer.calls) == 1
        assert json.loads(answer.calls[0][1]) == {"city": "text", "days": 1}
    elif what == "parallel":
        assert answer.finishes == ["tool_calls"]
        assert [name for name, _ in answer.calls] == ["weather"] * 3
        assert [json.loads(said) for _, said in answer.calls] == [{"city": "text", "days": 1}] * 3
    elif what == "json":
        assert answer.finishes == ["stop"] and json.loads(answer.text) == {"name": "text", "age": 1}
    elif what == "thinking":
        assert answer.text == TEXT and answer.reasoning and answer.finishes == ["stop"]
    else:
        assert answer.text == f"Saw 1 image. {TEXT}" and answer.finishes == ["stop"]


@pytest.mark.parametrize("mode", ["buffered", "assembled", "streamed"])
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_any_order(simulator: ProviderSimulator, order: tuple[str, ...], mode: str) -> None:
    async def main() -> None:
        upstream = "" if mode == "streamed" else f", stream_upstream: {'true' if mode == 'assembled' else 'false'}"
        chain = dict(zip(NAMES, order, strict=True))
        async with chain_stage(simulator, chain, QUICK + upstream) as stage:
            for what in ("image", "tools", "parallel", "json", "thinking"):
                answers = []
                for failing in range(4):
                    for name in NAMES[:failing]:
                        stage.schedule(name, "503")
                    answer = await stage.ask(stream=mode == "streamed", **asked(what))
                    check(what, answer)
                    assert answer.headers["x-crossfade-provider"] == stage.mark + NAMES[failing], (what, failing)
                    ids = [call.id for call in calls_of(answer)]
                    assert all(ids) and len(set(ids)) == len(ids)
                    answers.append(answer)
                    stage.forget_health()
                first, *others = [same(answer) for answer in answers]
                assert others == [first] * 3, what

    run(main())


def calls_of(answer: Answer) -> list[Any]:
    if answer.native is not None:
        return answer.native.choices[0].message.tool_calls or []
    deltas = [choice.delta for chunk in answer.chunks for choice in chunk.choices]
    return [call for delta in deltas for call in delta.tool_calls or () if call.id]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_a_tool_conversation_goes_on_at_another_provider(simulator: ProviderSimulator, order: tuple[str, ...]) -> None:
    """The call was made by one, its result goes to the next: ids and turns are the caller's own."""

    async def main() -> None:
        async with chain_stage(simulator, dict(zip(NAMES, order, strict=True))) as stage:
            messages: list[Any] = [{"role": "user", "content": "Weather, please [[tools:2]]"}]
            for failing in range(4):
                for name in NAMES[:failing]:
                    stage.schedule(name, "503")
                made = await stage.ask(messages=messages[:1], tools=[WEATHER])
                message = made.native.choices[0].message
                results = [
                    {"role": "tool", "tool_call_id": call.id, "content": f"{number} degrees"}
                    for number, call in enumerate(message.tool_calls)
                ]
                talk = [messages[0], message.model_dump(exclude_none=True), *results]
                stage.forget_health()
                for later in NAMES:
                    for name in NAMES:
                        stage.schedule(name, *([] if name == later else ["503"]))
                    answer = await stage.ask(messages=talk, tools=[WEATHER])
                    assert "The tool said: 0 degrees. The tool said: 1 degrees." in answer.text
                    assert answer.headers["x-crossfade-provider"] == stage.mark + later
                    stage.forget_health()

    run(main())


# --- the rest of the SDK -------------------------------------------------------------------------------------


class Person(pydantic.BaseModel):
    name: str
    age: int


async def with_the_async_sdk(stage: Stage) -> None:
    asked: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "Who?"}]}
    parsed = await stage.client.chat.completions.parse(response_format=Person, **asked)
    assert parsed.choices[0].message.parsed == Person(name="text", age=1)
    async with stage.client.chat.completions.stream(response_format=Person, **asked) as stream:
        events = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert final.choices[0].message.parsed == Person(name="text", age=1)
    assert "content.done" in events
    tool = openai.pydantic_function_tool(Person, name="person")
    parsed = await stage.client.chat.completions.parse(tools=[tool], tool_choice="required", **asked)
    calls = parsed.choices[0].message.tool_calls
    assert calls is not None and calls[0].function.parsed_arguments == Person(name="text", age=1)
    async with stage.client.chat.completions.stream(tools=[tool], tool_choice="required", **asked) as stream:
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert calls is not None and calls[0].function.parsed_arguments == Person(name="text", age=1)


def with_the_sync_sdk(url: str) -> None:
    asked: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "Who?"}]}
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
        parsed = client.chat.completions.parse(response_format=Person, **asked)
        assert parsed.choices[0].message.parsed == Person(name="text", age=1)
        chunks = list(client.chat.completions.create(stream=True, **asked))
        assert of_chunks(chunks).text.startswith("Echo: Who?")
        plain = client.chat.completions.create(**asked)
        assert plain.choices[0].message.content == of_chunks(chunks).text
        with client.chat.completions.stream(response_format=Person, **asked) as stream:
            final = stream.get_final_completion()
        assert final.choices[0].message.parsed == Person(name="text", age=1)
    with openai.OpenAI(base_url=url, api_key="unused", max_retries=0) as client:
        assert client.chat.completions.create(**asked).choices[0].message.content, "without /v1 too"


@pytest.mark.parametrize("failing", range(4))
def test_the_whole_sdk(simulator: ProviderSimulator, failing: int) -> None:
    async def main() -> None:
        chain = dict(zip(NAMES, DIALECTS, strict=True))
        async with chain_stage(simulator, chain, f"{QUICK}, retry: {{delay: 0s}}") as stage:
            for name in NAMES[:failing]:
                stage.schedule(name, then="500")
            await with_the_async_sdk(stage)
            await asyncio.to_thread(with_the_sync_sdk, stage.url)
            assert stage.record.last.served is not None
            assert f"{stage.mark}{NAMES[failing]}/" in stage.record.last.served

    run(main())


def test_a_tool_result_goes_to_the_maker_of_the_call_while_it_is_well(simulator: ProviderSimulator) -> None:
    """Seen from the ids alone: the call of a fallback is answered by that fallback, not by the primary again."""

    async def main() -> None:
        async with chain_stage(simulator, dict(zip(NAMES, ("openai", "anthropic", "gemini"), strict=False))) as stage:
            asked = {"role": "user", "content": "Weather, please [[tool]]"}
            stage.schedule(NAMES[0], "503")
            made = await stage.ask(messages=[asked], tools=[WEATHER])
            stage.forget_health()
            message = made.native.choices[0].message
            assert message.tool_calls[0].id.startswith("toolu_")
            result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "7 degrees"}
            talk = [asked, message.model_dump(exclude_none=True), result]
            answer = await stage.ask(messages=talk, tools=[WEATHER])
            assert answer.headers["x-crossfade-provider"] == stage.mark + NAMES[1]
            assert answer.headers["x-crossfade-fallbacks"] == "0"
            stage.schedule(NAMES[1], "503")
            answer = await stage.ask(messages=talk, tools=[WEATHER])
            assert answer.headers["x-crossfade-provider"] == stage.mark + NAMES[0]

    run(main())
