"""Legacy completions by the official SDK: any dialect behind them, failures unnoticed, and what is refused."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import MODELS, QUICK, Stage, chain_stage, run

THREE = {"a": "openai", "b": "anthropic", "c": "gemini"}
PROMPT = "Say something"


async def completed(stage: Stage, *, stream: bool, **fields: Any) -> tuple[str, str | None]:
    """Text and finish reason of the first choice."""
    asked = {"model": "chat", "prompt": PROMPT, **fields}
    if not stream:
        answer = await stage.client.completions.create(**asked)
        assert (answer.object, answer.choices[0].logprobs) == ("text_completion", None)
        return answer.choices[0].text, answer.choices[0].finish_reason
    text, finishes = "", []
    async for chunk in await stage.client.completions.create(stream=True, **asked):
        assert chunk.object == "text_completion"
        for choice in chunk.choices:
            text += choice.text
            finishes += [choice.finish_reason] if choice.finish_reason else []
    assert len(finishes) == 1
    return text, finishes[0]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("first", list(THREE))
def test_any_dialect_answers_a_prompt(simulator: ProviderSimulator, first: str, stream: bool) -> None:
    async def main() -> None:
        chain = {first: THREE[first], **THREE}
        async with chain_stage(simulator, chain) as stage:
            text, finish = await completed(stage, stream=stream)
            assert (text, finish) == (simulator.healthy_text(PROMPT), "stop")
            assert stage.calls(first) == [1]
            assert stage.record.last.endpoint == "completions"

    run(main())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["500", "503", "429", "refuse", "empty", "malformed", "cut@middle", "silence"])
def test_nobody_notices_a_failure(simulator: ProviderSimulator, fault: str, stream: bool) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE, f"{QUICK}, retry: {{delay: 0}}") as stage:
            stage.schedule("a", fault)
            text, finish = await completed(stage, stream=stream)
            assert (text, finish) == (simulator.healthy_text(PROMPT), "stop")
            assert [target for target, _ in stage.record.reasons()][-1].endswith("b")

    run(main())


def test_the_callers_chain_usage_and_several_choices(simulator: ProviderSimulator) -> None:
    tail = f"  other: {{chain: [{{mark}}b/{MODELS['anthropic']}]}}"

    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai"}, beside={"b": "anthropic"}, tail=tail) as stage:
            stage.schedule("a", "500", then="500")
            extra = {"fallback_models": [f"{stage.mark}b/{MODELS['anthropic']}"], "crossfade": {"trace": True}}
            answer = await stage.client.completions.create(model="chat", prompt=[PROMPT], extra_body=extra)
            assert answer.choices[0].text == simulator.healthy_text(PROMPT)
            assert answer.usage is not None
            assert answer.usage.completion_tokens > 0
            assert (answer.model_extra or {})["crossfade"]["attempts"][-1]["status"] == 200
            options = {"include_usage": True}
            chunks = [
                chunk
                async for chunk in await stage.client.completions.create(
                    model="chat", prompt=PROMPT, stream=True, stream_options=options, extra_body=extra
                )
            ]
            assert [chunk.usage is not None for chunk in chunks if not chunk.choices] == [True, False]
            stage.schedule("a")
            stage.forget_health()
            several = await stage.client.completions.create(model="chat", prompt=PROMPT, n=2)
            assert [choice.index for choice in several.choices] == [0, 1]

    run(main())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"suffix": "x"}, "`suffix` cannot be had"),
        ({"echo": True}, "`echo` cannot be had"),
        ({"logprobs": 2}, "`logprobs` cannot be had"),
        ({"best_of": 3}, "`best_of` cannot be other than `n`"),
        ({"prompt": ["a", "b"]}, "`prompt` has 2 prompts"),
        ({"prompt": [1, 2]}, "`prompt` is a list of tokens"),
        ({"prompt": [[1, 2]]}, "`prompt` is a list of tokens"),
        ({"prompt": ""}, "`prompt` is empty"),
        ({"prompt": []}, "`prompt` must be a text"),
        ({"extra_body": {"messages": []}}, "`messages` is of chat completions"),
        ({"extra_body": {"crossfade": {"tieout": 1}}}, "Unknown key `crossfade.tieout`"),
    ],
)
def test_what_chats_cannot_do_is_refused_by_name(
    simulator: ProviderSimulator, fields: dict[str, Any], words: str
) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai"}) as stage:
            with pytest.raises(openai.BadRequestError, match=words):
                await completed(stage, stream=False, **fields)
            assert stage.calls("a") == [0]

    run(main())


def test_what_says_nothing_is_no_reason_to_refuse(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai"}) as stage:
            fields = {"suffix": None, "echo": False, "logprobs": None, "best_of": 1, "seed": 7, "user": "me"}
            assert (await completed(stage, stream=False, **fields))[0] == simulator.healthy_text(PROMPT)

    run(main())


def test_all_down_is_one_error_in_the_envelope_of_openai(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE, f"{QUICK}, retry: {{delay: 0}}") as stage:
            for name in THREE:
                stage.schedule(name, then="503")
            with pytest.raises(openai.APIStatusError) as failed:
                await completed(stage, stream=False)
            assert failed.value.body["code"] == "chain_exhausted"  # type: ignore[index]

    run(main())
