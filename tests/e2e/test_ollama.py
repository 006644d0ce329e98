"""Ollama by its own API end to end: callers of other dialects, fallback from it and to it."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from crossfade.simulator.thread import ProviderSimulator
from tests.e2e import messages
from tests.e2e.harness import QUICK, TEXT, WEATHER, chain_stage, run
from tests.e2e.test_dialects import asked, check


def asks(what: str) -> dict[str, Any]:
    """As everywhere, but with tools only where they are to be called: the simulated model calls what it is given."""
    fields = asked(what)
    if what not in ("tools", "parallel"):
        del fields["tools"]
    return fields


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


def test_a_conversation_with_a_tool(simulator: ProviderSimulator) -> None:
    """The call's id, which Ollama does not give, is the caller's to answer by; the result names its tool."""

    async def main() -> None:
        async with chain_stage(simulator, {"a": "ollama"}) as stage:
            question = {"role": "user", "content": "How is the weather?"}
            for stream in (False, True):
                called = await stage.ask(stream=stream, messages=[question], tools=[WEATHER])
                ids = (
                    [call.id for chunk in called.chunks for c in chunk.choices for call in c.delta.tool_calls or ()]
                    if stream
                    else [call.id for call in called.native.choices[0].message.tool_calls]
                )
                (call_id,) = [one for one in ids if one]
                call = {"id": call_id, "type": "function"}
                call["function"] = dict(zip(("name", "arguments"), called.calls[0], strict=True))
                turns = [
                    question,
                    {"role": "assistant", "content": None, "tool_calls": [call]},
                    {"role": "tool", "tool_call_id": call_id, "content": "sunny"},
                ]
                answer = await stage.ask(stream=stream, messages=turns, tools=[WEATHER])
                assert answer.text and answer.finishes == ["stop"]
                sent = stage.counts("a")["requests"][-1]["body"]["messages"]
                assert sent[1]["tool_calls"][0]["function"]["arguments"] == json.loads(called.calls[0][1])
                assert sent[2] == {"role": "tool", "content": "sunny", "tool_name": "weather"}

    run(main())


@pytest.mark.parametrize("mode", ["buffered", "streamed"])
def test_messages_callers_are_answered_in_their_own_form(simulator: ProviderSimulator, mode: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "ollama", "b": "anthropic"}, QUICK) as stage:
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
