"""Streams that break off in mid-answer: gone on with by another target where a join can be proven, and ended by an
honest error where it cannot. Never glued, never cut and called whole."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from crossfade.core.exchange import CONTINUE_INSTRUCTION
from crossfade.core.failure import FailureReason as R
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import (
    CUT,
    DONE,
    EVENT_STREAM,
    HANG,
    MESSAGES,
    PROMPT,
    QUICK,
    TEXT,
    WEATHER,
    Answer,
    RawProvider,
    Stage,
    call_chunks,
    chain_stage,
    check_usage,
    chunk,
    run,
    words,
)

DIALECTS = ("openai", "responses", "anthropic", "gemini")
THREE = {"a": "openai", "b": "anthropic", "c": "gemini"}
ARGUMENTS = '{"city":"Paris","days":3}'


async def broken(stage: Stage, **fields: Any) -> tuple[Answer, openai.APIError]:
    """Asks for a stream that must end in an error: what came before it, and the error."""
    fields = {"model": "chat", "messages": MESSAGES, **fields}
    stream = await stage.client.chat.completions.create(stream=True, **fields)
    text, finishes = "", []
    with pytest.raises(openai.APIError) as caught:
        async for one in stream:
            for choice in one.choices:
                text += choice.delta.content or ""
                finishes += [choice.finish_reason] if choice.finish_reason else []
    assert finishes == [], "a broken answer has a finish reason"
    row = stage.record.last
    assert row.in_band_error and row.error and row.served is None
    return Answer(text=text, finishes=finishes), caught.value


def joins_of(answer: Answer) -> list[tuple[str, str, str]]:
    """From, to and reason of each join, with the short names of the providers."""
    joined = answer.extra["joined"]
    return [(j["from"].partition("-")[2][0], j["to"].partition("-")[2][0], j["reason"]) for j in joined]


# --- joined --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("continuation", ["honour", "replay"])
@pytest.mark.parametrize("second", DIALECTS)
@pytest.mark.parametrize("first", DIALECTS)
def test_a_cut_stream_is_gone_on_with(simulator: ProviderSimulator, first: str, second: str, continuation: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": first, "b": second}) as stage:
            stage.schedule("a", "cut@middle")
            stage.schedule("b", then=f"ok; continuation={continuation}")
            answer = await stage.ask(stream=True)
            assert answer.text == TEXT and answer.finishes == ["stop"]
            assert [(f, t) for f, t, _ in joins_of(answer)] == [("a", "b")]
            at = answer.extra["joined"][0]["at_chars"]
            row = stage.record.last
            assert 0 < at < len(TEXT) and answer.extra["joined"][0]["to"] == row.served
            assert [a.delivered_chars for a in row.attempts] == [at, len(TEXT) - at]
            check_usage(answer)

    run(main())


def test_the_usage_of_a_joined_answer_is_the_prompt_once_and_all_that_was_delivered(
    simulator: ProviderSimulator,
) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai", "b": "openai"}) as stage:
            plain = (await stage.ask(stream=True)).usage
            for continuation in ("honour", "replay"):
                stage.schedule("a", "cut@middle")
                stage.schedule("b", then=f"ok; continuation={continuation}")
                joined = (await stage.ask(stream=True)).usage
                # Words stand for tokens at the simulator, and estimates go by four characters a token.
                assert plain.prompt_tokens <= joined.prompt_tokens <= plain.prompt_tokens + 60
                assert 0.7 * plain.completion_tokens < joined.completion_tokens < 1.8 * plain.completion_tokens
                row = stage.record.last
                assert (row.input_tokens, row.output_tokens) == (joined.prompt_tokens, joined.completion_tokens)

    run(main())


def test_two_cuts_are_two_joins(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            stage.schedule("a", "cut@first")
            stage.schedule("b", "error_event@middle")
            answer = await stage.ask(stream=True)
            assert answer.text == TEXT and answer.finishes == ["stop"]
            joined = answer.extra["joined"]
            assert [(f, t) for f, t, _ in joins_of(answer)] == [("a", "b"), ("b", "c")]
            assert joined[0]["at_chars"] < joined[1]["at_chars"] < len(TEXT)
            assert [j["reason"] for j in joined] == [a.reason for a in stage.record.last.attempts[:2]]
            assert stage.record.last.joined == 2
            check_usage(answer)

    run(main())


def test_a_target_that_says_something_else_is_passed_over(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            stage.schedule("a", "cut@middle")
            stage.schedule("b", then="ok; continuation=differ")
            answer = await stage.ask(stream=True)
            assert answer.text == TEXT
            assert [(f, t) for f, t, _ in joins_of(answer)] == [("a", "c")]
            refused = stage.record.last.attempts[1]
            assert (refused.reason, refused.code) == (R.STREAM_INTERRUPTED, "join_refused")
            view = stage.gateway.board.snapshot(0.0)
            assert [v.failures for key, v in view.items() if "b/" in key] == [0], "no fault of the target's"

    run(main())


def test_without_a_proof_the_stream_ends_in_an_error(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            stage.schedule("a", "cut@middle")
            stage.schedule("b", then="ok; continuation=differ")
            stage.schedule("c", then="ok; continuation=differ")
            answer, error = await broken(stage)
            assert TEXT.startswith(answer.text) and 0 < len(answer.text) < len(TEXT)
            assert "broke off" in str(error) and "a/gpt-5.4" in str(error)
            assert [reason for _, reason in stage.record.reasons()] == [R.STREAM_INTERRUPTED] * 3

    run(main())


def test_no_other_target_left_is_an_error(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai", "b": "anthropic"}) as stage:
            stage.schedule("a", "cut@middle")
            stage.schedule("b", then="503")
            answer, error = await broken(stage)
            assert TEXT.startswith(answer.text) and answer.text
            assert error.type == "server_error" and error.code == R.STREAM_INTERRUPTED

    run(main())


def test_the_same_model_elsewhere_is_asked_first_to_go_on(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai", "b": "anthropic", "c": "openai"}) as stage:
            stage.schedule("a", "cut@middle")
            answer = await stage.ask(stream=True)
            assert answer.text == TEXT
            assert [(f, t) for f, t, _ in joins_of(answer)] == [("a", "c")]
            assert stage.calls("a", "b", "c") == [1, 0, 1]

    run(main())


def test_the_bytes_of_a_joined_stream(simulator: ProviderSimulator) -> None:
    """A comment where the provider changes, a `crossfade` member in the last chunk, one role, one marker."""

    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            stage.schedule("a", "stall@middle")
            response = await stage.post({"model": "chat", "messages": MESSAGES, "stream": True})
            events = response.text.split("\n\n")
            assert events.pop() == "" and events[-1] == "data: [DONE]"
            comments = [event for event in events if event.startswith(":")]
            assert len(comments) == 1 and "continued by" in comments[0] and "stream_stalled" in comments[0]
            assert response.text.count("[DONE]") == 1 and response.text.count('"role"') == 1
            assert '"crossfade":{"joined"' in events[-2]
            assert '"usage"' not in response.text.replace('"usage":null', ""), "usage was not asked for"
            before = response.text.partition(comments[0])[0]
            assert "continued" not in before and '"content"' in before

    run(main())


def test_what_a_target_without_prefill_is_asked(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai", "b": "openai"}) as stage:
            stage.schedule("a", "cut@middle")
            answer = await stage.ask(stream=True, max_tokens=500)
            assert answer.text == TEXT
            body = stage.counts("b")["requests"][-1]["body"]
            partial, wish = body["messages"][-2:]
            at = answer.extra["joined"][0]["at_chars"]
            assert partial == {"role": "assistant", "content": TEXT[:at]}
            assert wish["role"] == "user" and wish["content"].startswith(CONTINUE_INSTRUCTION)
            anchor = wish["content"].removeprefix(CONTINUE_INSTRUCTION)
            assert 40 <= len(anchor) <= 80 and TEXT[:at].endswith(anchor)
            assert body["max_tokens"] == 500 - at // 4

    run(main())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_target_declared_for_prefill_goes_on_from_it(simulator: ProviderSimulator, dialect: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai", "b": dialect}, more={"b": "prefill: true"}) as stage:
            stage.schedule("a", "cut@middle")
            answer = await stage.ask(stream=True)
            assert answer.text == TEXT and answer.finishes == ["stop"]
            assert CONTINUE_INSTRUCTION not in json.dumps(stage.counts("b")["requests"][-1]["body"])

    run(main())


def test_white_space_at_a_prefilled_join_is_neither_lost_nor_doubled(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        first = [EVENT_STREAM, chunk({"role": "assistant", "content": "Otters swim "}), CUT]
        raw = RawProvider()
        async with (
            raw.serving(first),
            chain_stage(simulator, {"a": "openai", "b": "openai"}, more={"a": raw.yaml, "b": "prefill: true"}) as stage,
        ):
            stage.schedule("b", {"kind": "ok", "text": "Otters swim all day."})
            answer = await stage.ask(stream=True)
            assert answer.text == "Otters swim all day."
            assert stage.counts("b")["requests"][-1]["body"]["messages"][-1]["content"] == "Otters swim"

    run(main())


def test_a_prefill_that_is_refused_or_answered_with_nothing_proves_nothing(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        more = {"b": "prefill: true"}
        async with chain_stage(simulator, THREE, more=more) as stage:
            stage.schedule("a", "cut@middle")
            stage.schedule("b", then="ok; refuse_prefill=true")
            answer = await stage.ask(stream=True)
            assert answer.text == TEXT and joins_of(answer)[0][:2] == ("a", "c")
        async with chain_stage(simulator, {"a": "openai", "b": "openai"}, more=more) as stage:
            stage.schedule("a", "cut@middle")
            stage.schedule("b", then="empty")
            answer, _ = await broken(stage)
            assert len(answer.text) < len(TEXT)

    run(main())


# --- clean starts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", DIALECTS)
@pytest.mark.parametrize("first", DIALECTS)
def test_after_nothing_but_reasoning_the_answer_is_begun_anew(
    simulator: ProviderSimulator, first: str, second: str
) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": first, "b": second}) as stage:
            stage.schedule("a", "cut@first")
            messages = [{"role": "user", "content": f"{PROMPT} [[think]]"}]
            answer = await stage.ask(stream=True, messages=messages)
            assert answer.text == TEXT and answer.finishes == ["stop"] and answer.reasoning
            assert answer.extra["joined"][0]["at_chars"] == 0
            assert "repeating these last characters" not in json.dumps(stage.counts("b")["requests"][-1]["body"])
            check_usage(answer)

    run(main())


def test_a_clean_start_may_break_off_and_be_gone_on_with(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            stage.schedule("a", "cut@first")
            stage.schedule("b", "cut@last")
            messages = [{"role": "user", "content": f"{PROMPT} [[think]]"}]
            answer = await stage.ask(stream=True, messages=messages)
            assert answer.text == TEXT and answer.finishes == ["stop"]
            assert [(f, t) for f, t, _ in joins_of(answer)] == [("a", "b"), ("b", "c")]
            assert answer.extra["joined"][0]["at_chars"] == 0 < answer.extra["joined"][1]["at_chars"]

    run(main())


def test_a_clean_start_that_gives_nothing_is_passed_over(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            stage.schedule("a", "cut@first")
            stage.schedule("b", "empty")
            messages = [{"role": "user", "content": f"{PROMPT} [[think]]"}]
            answer = await stage.ask(stream=True, messages=messages)
            assert answer.text == TEXT and answer.finishes == ["stop"]
            assert stage.record.last.served is not None and "c/" in stage.record.last.served

    run(main())


# --- tools and JSON ------------------------------------------------------------------------------------------


def opening(text: str) -> list[bytes | float | str]:
    return [EVENT_STREAM, chunk({"role": "assistant", "content": ""}), *words(text)]


LEAD = "Let me look at the weather of that city for you, which takes only a moment."


@pytest.mark.parametrize("end", [[CUT], [HANG], [chunk(None, None, error={"message": "no", "type": "server_error"})]])
def test_a_cut_inside_a_held_tool_call_is_gone_on_with(simulator: ProviderSimulator, end: list[Any]) -> None:
    """The text before the call was delivered, nothing of the call was."""

    async def main() -> None:
        call = call_chunks("weather", ARGUMENTS)
        anchor = LEAD[-60:]
        anchored = anchor[anchor.index(" ") + 1 :]
        second = [*opening(LEAD), *call, chunk(None, "tool_calls"), DONE]
        one, two = RawProvider(), RawProvider()
        async with (
            one.serving([*opening(LEAD), *call[:-2], *end]),
            two.serving(second),
            chain_stage(simulator, {"a": "openai", "b": "openai"}, more={"a": one.yaml, "b": two.yaml}) as stage,
        ):
            answer = await stage.ask(stream=True, tools=[WEATHER])
            assert answer.text == LEAD and answer.finishes == ["tool_calls"]
            assert answer.calls == [("weather", ARGUMENTS)]
            assert answer.extra["joined"][0]["at_chars"] == len(LEAD)
            assert two.bodies[0]["messages"][-1]["content"].endswith(anchored)

    run(main())


def test_a_second_target_that_only_calls_the_tool_is_no_join(simulator: ProviderSimulator) -> None:
    """It may have meant to say something else before it."""

    async def main() -> None:
        call = call_chunks("weather", ARGUMENTS)
        one, two = RawProvider(), RawProvider()
        async with (
            one.serving([*opening(LEAD), *call[:-2], CUT]),
            two.serving([EVENT_STREAM, *call, chunk(None, "tool_calls"), DONE]),
            chain_stage(simulator, {"a": "openai", "b": "openai"}, more={"a": one.yaml, "b": two.yaml}) as stage,
        ):
            answer, _ = await broken(stage, tools=[WEATHER])
            assert answer.text == LEAD

    run(main())


def test_a_bad_tool_call_behind_delivered_text_is_gone_on_with(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        bad = [*opening(LEAD), *call_chunks("weather", '{"city":"Par'), chunk(None, "tool_calls"), DONE]
        good = [*opening(LEAD), *call_chunks("weather", ARGUMENTS), chunk(None, "tool_calls"), DONE]
        one, two = RawProvider(), RawProvider()
        async with (
            one.serving(bad),
            two.serving(good),
            chain_stage(simulator, {"a": "openai", "b": "openai"}, more={"a": one.yaml, "b": two.yaml}) as stage,
        ):
            answer = await stage.ask(stream=True, tools=[WEATHER])
            assert answer.text == LEAD and answer.calls == [("weather", ARGUMENTS)]
            assert answer.extra["joined"][0]["reason"] == R.INVALID_TOOL_CALL

    run(main())


@pytest.mark.parametrize("ask", ["tools", "json"])
def test_without_holding_a_cut_inside_is_an_error(simulator: ProviderSimulator, ask: str) -> None:
    async def main() -> None:
        asked: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "required"}
        if ask == "json":
            asked = {"response_format": {"type": "json_object"}}
        async with chain_stage(simulator, THREE) as stage:
            stage.schedule("a", "cut@middle")
            _, error = await broken(stage, extra_body={"crossfade": {"hold": []}}, **asked)
            assert ("inside a tool call" if ask == "tools" else "inside JSON") in str(error)
            assert stage.calls("a", "b", "c") == [1, 0, 0]

    run(main())


@pytest.mark.parametrize("asked", [{"n": 2}, {"logprobs": True}], ids=str)
def test_several_choices_and_logprobs_are_never_joined(simulator: ProviderSimulator, asked: dict[str, Any]) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai", "b": "openai"}) as stage:
            whole = await stage.ask(stream=True, **asked)
            assert whole.text == TEXT and whole.finishes == ["stop"]
            stage.schedule("a", "cut@middle")
            answer, error = await broken(stage, **asked)
            assert answer.text and ("choices" in str(error) or "logprobs" in str(error))
            assert stage.calls("a", "b") == [2, 0]
            stage.schedule("a", "cut@start")
            again = await stage.ask(stream=True, **asked)
            assert again.text == TEXT and stage.calls("b") == [1]

    run(main())


def test_after_a_refusal_nothing_is_joined(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        one = RawProvider()
        async with (
            one.serving([EVENT_STREAM, chunk({"role": "assistant"}), chunk({"refusal": "I will not"}), CUT]),
            chain_stage(simulator, {"a": "openai", "b": "openai"}, more={"a": one.yaml}) as stage,
        ):
            _, error = await broken(stage)
            assert "after a refusal" in str(error)

    run(main())


# --- `recover: error` ----------------------------------------------------------------------------------------


def test_recover_error_ends_a_cut_stream_and_callers_cannot_undo_a_route_s(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            stage.schedule("a", "cut@middle", "cut@middle")
            answer, error = await broken(stage, extra_body={"crossfade": {"recover": "error"}})
            assert answer.text and "recover" in str(error)
            assert (await stage.ask(stream=True)).text == TEXT
        async with chain_stage(simulator, THREE, f"{QUICK}, recover: error") as stage:
            stage.schedule("a", "cut@middle", "cut@start")
            await broken(stage, extra_body={"crossfade": {"recover": "continue"}})
            assert stage.calls("a", "b") == [1, 0]
            assert (await stage.ask(stream=True)).text == TEXT, "before the commit nothing is to be recovered from"

    run(main())
