"""Ollama's own API end to end: callers of other dialects, fallback from it and to it."""

from __future__ import annotations

import itertools
import json

import pytest

from crossfade.simulator.thread import ProviderSimulator
from tests.e2e import messages, responses
from tests.e2e.harness import JSON_SCHEMA, QUICK, TEXT, WEATHER, Answer, chain_stage, run
from tests.e2e.test_cohere import asks
from tests.e2e.test_dialects import check


def call_ids(answer: Answer) -> list[str]:
    if answer.native is not None:
        return [call.id for call in answer.native.choices[0].message.tool_calls]
    deltas = [choice.delta for chunk in answer.chunks for choice in chunk.choices]
    return [call.id for delta in deltas for call in delta.tool_calls or () if call.id]


@pytest.mark.parametrize("mode", ["buffered", "assembled", "streamed"])
@pytest.mark.parametrize("order", [("ollama", "openai"), ("anthropic", "ollama")], ids="-".join)
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


def test_tool_results_go_back_under_the_names_of_their_tools(simulator: ProviderSimulator) -> None:
    """The ids that calls are given are the caller's to send back, also to a provider of another dialect."""

    async def main() -> None:
        async with chain_stage(simulator, {"a": "ollama", "b": "anthropic"}, QUICK) as stage:
            for stream in (False, True):
                stage.forget_health()
                question = {"role": "user", "content": "How is the weather? [[tools:2]]"}
                answer = await stage.ask(stream=stream, messages=[question], tools=[WEATHER])
                ids = call_ids(answer)
                assert len(set(ids)) == 2 and all(one.startswith("call_") for one in ids)
                calls = [
                    {
                        "id": one,
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"x","days":1}'},
                    }
                    for one in ids
                ]
                results = [{"role": "tool", "tool_call_id": one, "content": f"sunny {one}"} for one in ids]
                turns = [question, {"role": "assistant", "tool_calls": calls}, *results]
                for broken in (False, True):
                    if broken:
                        stage.schedule("a", "503")
                    answer = await stage.ask(stream=stream, messages=turns, tools=[WEATHER])
                    assert all(f"sunny {one}" in answer.text for one in ids)
                sent = stage.counts("a")["requests"][-1]["body"]["messages"]
                assert [turn.get("tool_name") for turn in sent] == [None, None, "weather", "weather"]
                assert sent[1]["tool_calls"][0]["function"]["arguments"] == {"city": "x", "days": 1}

    run(main())


@pytest.mark.parametrize("mode", ["buffered", "streamed"])
def test_callers_of_other_dialects_are_answered_in_their_own_form(simulator: ProviderSimulator, mode: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "ollama", "b": "anthropic"}, QUICK) as stage:
            stream = mode == "streamed"
            answer = await messages.ask(stage, stream=stream, tools=[messages.WEATHER], tool_choice={"type": "any"})
            assert answer.calls == [("weather", {"city": "text", "days": 1})] and answer.stop_reason == "tool_use"
            answer = await messages.ask(stage, stream=stream, output_config=messages.FORMAT)
            assert json.loads(answer.text) == {"name": "text", "age": 1}
            said = await responses.ask(stage, stream=stream)
            assert said.text == TEXT
            assert stage.calls("b") == [0]
            if stream:
                stage.schedule("a", "cut@middle")
                answer = await messages.ask(stage, stream=True)
                assert answer.text == TEXT and len(answer.extra["joined"]) == 1

    run(main())


@pytest.mark.parametrize("first", ["openai", "responses", "anthropic", "gemini", "bedrock", "cohere", "ollama"])
def test_a_cut_stream_of_another_is_gone_on_with(simulator: ProviderSimulator, first: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": first, "b": "ollama"}, QUICK) as stage:
            stage.schedule("a", "cut@middle")
            answer = await stage.ask(stream=True)
            assert answer.text == TEXT and answer.finishes == ["stop"] and len(answer.extra["joined"]) == 1
            turns = stage.counts("b")["requests"][-1]["body"]["messages"]
            assert [turn["role"] for turn in turns][-2:] == ["assistant", "user"]

    run(main())


def test_a_line_with_an_error_falls_back(simulator: ProviderSimulator) -> None:
    """A stream says so in a 200: before any content nothing of it is seen, and behind some another goes on."""

    async def main() -> None:
        async with chain_stage(simulator, {"a": "ollama", "b": "openai"}, QUICK) as stage:
            stage.schedule("a", "error_event@start; error=429", "error_event@start; error=quota")
            for fields in ({}, {"response_format": JSON_SCHEMA}):
                answer = await stage.ask(stream=True, **fields)
                assert answer.text and answer.headers["x-crossfade-provider"] == stage.mark + "b"
                stage.forget_health()
            stage.schedule("a", "error_event@middle")
            answer = await stage.ask(stream=True)
            assert answer.text == TEXT and len(answer.extra["joined"]) == 1

    run(main())
