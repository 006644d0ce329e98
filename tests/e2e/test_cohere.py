"""Cohere end to end: callers of other dialects, fallback from it and to it."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from crossfade.simulator.thread import ProviderSimulator
from tests.e2e import messages
from tests.e2e.harness import JSON_SCHEMA, QUICK, TEXT, WEATHER, chain_stage, run
from tests.e2e.test_dialects import asked, check


def asks(what: str) -> dict[str, Any]:
    """As everywhere, but for a format beside tools, which Cohere does not have."""
    fields = asked(what)
    if what == "json":
        del fields["tools"]
    return fields


@pytest.mark.parametrize("mode", ["buffered", "assembled", "streamed"])
@pytest.mark.parametrize("order", [("cohere", "openai"), ("anthropic", "cohere")], ids="-".join)
def test_chat_callers_get_the_same_from_either(simulator: ProviderSimulator, order: tuple[str, str], mode: str) -> None:
    """Images, tools, parallel calls, a JSON Schema and thinking, of the first target and after a fallback."""

    async def main() -> None:
        upstream = "" if mode == "streamed" else f", stream_upstream: {'true' if mode == 'assembled' else 'false'}"
        async with chain_stage(simulator, dict(zip("ab", order, strict=True)), QUICK + upstream) as stage:
            for what, broken in itertools.product(("image", "tools", "parallel", "json", "thinking"), (False, True)):
                stage.forget_health()
                if broken:
                    stage.schedule("a", "503")
                answer = await stage.ask(stream=mode == "streamed", **asks(what))
                check(what, answer)
                assert answer.model
                assert answer.headers["x-crossfade-provider"] == stage.mark + ("b" if broken else "a")

    run(main())


def test_a_plan_and_a_named_tool(simulator: ProviderSimulator) -> None:
    """What an older model says of its calls is reasoning, and a tool that is named is called."""

    async def main() -> None:
        async with chain_stage(simulator, {"a": "cohere:command-a-03-2025"}) as stage:
            other = {"type": "function", "function": {"name": "other", "parameters": {"type": "object"}}}
            choice = {"type": "function", "function": {"name": "weather"}}
            for stream in (False, True):
                answer = await stage.ask(stream=stream, tools=[other, WEATHER], tool_choice=choice)
                assert answer.reasoning == "I will use weather to find the answer." and not answer.text
                assert [name for name, _ in answer.calls] == ["weather"] and answer.finishes == ["tool_calls"]

    run(main())


def test_names_that_cohere_refuses_are_the_callers_again_in_answers(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "cohere"}) as stage:
            tool = {"type": "function", "function": {**WEATHER["function"], "name": "get-weather.v2"}}
            for stream in (False, True):
                answer = await stage.ask(stream=stream, tools=[tool], tool_choice="required")
                assert [name for name, _ in answer.calls] == ["get-weather.v2"]
                sent = stage.counts("a")["requests"][-1]["body"]
                assert sent["tools"][0]["function"]["name"] == "get_weather_v2"

    run(main())


@pytest.mark.parametrize("mode", ["buffered", "streamed"])
def test_messages_callers_are_answered_in_their_own_form(simulator: ProviderSimulator, mode: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "cohere", "b": "anthropic"}, QUICK) as stage:
            stream = mode == "streamed"
            answer = await messages.ask(stage, stream=stream, tools=[messages.WEATHER], tool_choice={"type": "any"})
            assert answer.calls == [("weather", {"city": "text", "days": 1})] and answer.stop_reason == "tool_use"
            answer = await messages.ask(stage, stream=stream, output_config=messages.FORMAT)
            assert json.loads(answer.text) == {"name": "text", "age": 1}
            assert stage.calls("b") == [0]
            if stream:
                stage.schedule("a", "cut@middle")
                answer = await messages.ask(stage, stream=True)
                assert answer.text == TEXT and len(answer.extra["joined"]) == 1

    run(main())


@pytest.mark.parametrize("first", ["openai", "responses", "gemini", "bedrock", "cohere"])
def test_a_cut_stream_of_another_is_gone_on_with(simulator: ProviderSimulator, first: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": first, "b": "cohere"}, QUICK) as stage:
            stage.schedule("a", "cut@middle")
            answer = await stage.ask(stream=True)
            assert answer.text == TEXT and answer.finishes == ["stop"] and len(answer.extra["joined"]) == 1
            turns = stage.counts("b")["requests"][-1]["body"]["messages"]
            assert [turn["role"] for turn in turns][-2:] == ["assistant", "user"]

    run(main())


def test_a_generation_that_fails_falls_back(simulator: ProviderSimulator) -> None:
    """The end of a stream says so in a 200: before any content nothing of it is seen."""

    async def main() -> None:
        async with chain_stage(simulator, {"a": "cohere", "b": "openai"}, QUICK) as stage:
            stage.schedule("a", "error_event@start; error=429", "error_event@start; error=quota")
            for fields in ({}, {"response_format": JSON_SCHEMA}):
                answer = await stage.ask(stream=True, **fields)
                assert answer.text and answer.headers["x-crossfade-provider"] == stage.mark + "b"
                stage.forget_health()

    run(main())
