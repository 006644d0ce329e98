"""The official Anthropic SDK unchanged, by base URL and key, before providers of every dialect: where it is there."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import PROMPT, QUICK, TEXT, chain_stage, run
from tests.e2e.messages import WEATHER

anthropic = pytest.importorskip("anthropic", reason="Anthropic's SDK is not installed")

DIALECTS = ("openai", "anthropic", "gemini")
NEXT = {"openai": "anthropic", "anthropic": "gemini", "gemini": "openai"}
ASKED: dict[str, Any] = {"model": "chat", "max_tokens": 400, "messages": [{"role": "user", "content": PROMPT}]}
CALLS: dict[str, Any] = {
    "model": "chat",
    "max_tokens": 400,
    "tools": [WEATHER],
    "thinking": {"type": "enabled", "budget_tokens": 1024},
}


class Person(pydantic.BaseModel):
    name: str
    age: int


async def use(client: Any) -> None:
    """What applications do with it."""
    whole = await client.messages.create(**ASKED)
    assert [block.text for block in whole.content] == [TEXT] and whole.stop_reason == "end_turn"
    async with client.messages.stream(**ASKED) as stream:
        assert "".join([text async for text in stream.text_stream]) == TEXT
        final = await stream.get_final_message()
    assert final.content[0].text == TEXT and final.usage.input_tokens > 0 and final.usage.output_tokens > 0

    asked = {"role": "user", "content": "Go [[think]] [[tools:2]]"}
    async with client.messages.stream(messages=[asked], **CALLS) as stream:
        made = await stream.get_final_message()
    assert [block.type for block in made.content] == ["thinking", "tool_use", "tool_use"]
    calls = made.content[1:]
    assert [call.input for call in calls] == [{"city": "text", "days": 1}] * 2
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "7 degrees"} for call in calls]
    talk = [asked, {"role": "assistant", "content": made.content}, {"role": "user", "content": results}]
    answer = await client.messages.create(messages=talk, **CALLS)
    assert "The tool said: 7 degrees." in answer.content[-1].text

    parsed = await client.messages.parse(**ASKED, output_format=Person)
    assert parsed.parsed_output == Person(name="text", age=1)
    assert (await client.beta.messages.create(**ASKED, betas=["some-beta"])).content[0].text == TEXT
    assert (await client.messages.count_tokens(model="chat", messages=ASKED["messages"])).input_tokens > 0
    with pytest.raises(anthropic.NotFoundError) as caught:
        await client.messages.create(**{**ASKED, "model": "no-such-model"})
    assert caught.value.body["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("fault", ["ok", "503", "cut@middle", "error_event@first", "silence"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_official_sdk_never_notices(simulator: ProviderSimulator, dialect: str, fault: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": dialect, "b": NEXT[dialect]}, QUICK) as stage:
            stage.schedule("a", then=fault)
            async with anthropic.AsyncAnthropic(base_url=stage.url, api_key="unused", max_retries=0) as client:
                await use(client)

    run(main(), timeout=60)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_official_sdk_is_told_of_a_stream_that_broke_off(simulator: ProviderSimulator, dialect: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": dialect}) as stage:
            stage.schedule("a", then="cut@middle")
            text = ""
            async with anthropic.AsyncAnthropic(base_url=stage.url, api_key="unused", max_retries=0) as client:
                with pytest.raises(anthropic.APIStatusError) as caught:
                    async with client.messages.stream(**ASKED) as stream:
                        async for piece in stream.text_stream:
                            text += piece
            assert text and TEXT.startswith(text)
            assert caught.value.body["error"]["code"] == "stream_interrupted"

    run(main())
