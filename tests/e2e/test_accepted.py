"""Answers that look odd and are sound: taken as they are, without a fallback."""

from __future__ import annotations

from typing import Any

import pytest

from crossfade.core import policy
from crossfade.simulator.faults import FAULTS
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import (
    CUT,
    DONE,
    EVENT_STREAM,
    HANG,
    JSON_BODY,
    MESSAGES,
    PROMPT,
    QUICK,
    TEXT,
    WEATHER,
    Answer,
    RawProvider,
    Stage,
    chain_stage,
    chunk,
    run,
    words,
)

CHAIN = {"a": "openai", "b": "openai"}
DIALECTS = ("openai", "responses", "anthropic", "gemini", "bedrock", "bedrock-claude", "cohere", "ollama")
ENDS_BY_MARKER = ("anthropic", "bedrock-claude")
"""Whose streams are cut where their marker is missing."""

MODES = ("buffered", "assembled", "streamed")
LEGIT = [
    "interim",
    "hang_up",
    "wrong_finish",
    "drip; seconds=0.005",
    "slow_head; seconds=0.0005",
    "no_done",
    "double_done",
    "finish_twice",
    "empty_first",
    "garbage_event",
    "cut@end",
    "ok; pieces=chars",
    "ok; pieces=1",
    "ok; pace=0.003",
]

ODD_FINISH = "out_of_cheese"
"""A word that nobody knows passes with the bytes of a target of the caller's dialect, and is `stop` elsewhere."""


def route(mode: str) -> str:
    return QUICK if mode == "streamed" else f"{QUICK}, stream_upstream: {'true' if mode == 'assembled' else 'false'}"


def check_alone(stage: Stage) -> None:
    """The first target answered, at the first call."""
    row = stage.record.last
    assert [(a.number, a.reason, a.skip) for a in row.attempts] == [(1, None, None)]
    assert (row.status, row.fallbacks, row.flagged, row.error, row.joined) == (200, 0, None, None, 0)
    assert stage.calls("b") == [0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", LEGIT)
def test_odd_answers_are_accepted(simulator: ProviderSimulator, fault: str, mode: str) -> None:
    async def main() -> None:
        for dialect in DIALECTS:
            if (fault.startswith("no_done") and dialect in ENDS_BY_MARKER) or (
                fault == "cut@end" and mode == "buffered"
            ):
                continue  # there it is a cut
            async with chain_stage(simulator, {"a": dialect, "b": "openai"}, route(mode)) as stage:
                stage.schedule("a", then=fault)
                answer = await stage.ask(stream=mode == "streamed")
                assert answer.text == TEXT and {*answer.finishes} <= {"stop", ODD_FINISH}, dialect
                check_alone(stage)

    run(main())


def test_every_legitimate_oddity_of_the_simulator_is_among_them() -> None:
    named = {fault.partition(";")[0].partition("@")[0] for fault in LEGIT}
    assert {kind for kind, fault in FAULTS.items() if fault.is_legit} <= named | {"ok"}


def test_bytes_that_are_missing_behind_the_end_of_a_stream_are_not_missed(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        for dialect in DIALECTS:
            async with chain_stage(simulator, {"a": dialect, "b": "openai"}) as stage:
                for fault in ("short_body", "cut@end", "cut_reset@end"):
                    stage.schedule("a", fault)
                    answer = await stage.ask(stream=True)
                    assert answer.text == TEXT and answer.finishes == ["stop"], (dialect, fault)
                    check_alone(stage)

    run(main())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["length", "filter", "refusal"])
def test_ends_that_fall_back_only_where_asked_to(simulator: ProviderSimulator, kind: str, mode: str) -> None:
    async def main() -> None:
        opt_in = {"length": "truncated_output", "filter": "content_filter", "refusal": "content_filter"}[kind]
        for dialect in DIALECTS:
            async with chain_stage(simulator, {"a": dialect, "b": "openai"}, route(mode)) as stage:
                stage.schedule("a", then=kind)
                answer = await stage.ask(stream=mode == "streamed")
                assert (answer.text and TEXT.startswith(answer.text)) or answer.refusal or kind == "refusal"
                assert answer.finishes[0] in {"length": ["length"]}.get(kind, ["content_filter", "stop"])
                assert stage.calls("b") == [0] and stage.record.last.flagged is None
                extra = {"fallback_on": ["default", opt_in], "crossfade": {"commit": "complete"}}
                answer = await stage.ask(stream=mode == "streamed", extra_body=extra)
                assert answer.text == TEXT and answer.finishes == ["stop"]
                assert stage.record.reasons()[0][1] == opt_in
                # An answer that the route would rather have replaced is better than none.
                stage.schedule("b", then="503")
                answer = await stage.ask(stream=mode == "streamed", extra_body=extra)
                assert answer.finishes[0] in {"length": ["length"]}.get(kind, ["content_filter", "stop"])

    run(main())


@pytest.mark.parametrize("mode", MODES)
def test_all_tokens_spent_on_reasoning_is_an_honest_length(simulator: ProviderSimulator, mode: str) -> None:
    async def main() -> None:
        usage = {"prompt_tokens": 5, "completion_tokens": 64, "total_tokens": 69}
        body = JSON_BODY + (
            b'{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
            b'{"role":"assistant","content":"","refusal":null},"finish_reason":"length"}],"usage":'
            b'{"prompt_tokens":5,"completion_tokens":64,"total_tokens":69}}'
        )
        stream = [EVENT_STREAM, chunk({"role": "assistant", "content": ""}), chunk(None, "length"), chunk(usage=usage)]
        raw = RawProvider()
        scripts = [body] if mode == "buffered" else [*stream, DONE]
        async with (
            raw.serving(list(scripts)),
            chain_stage(simulator, CHAIN, route(mode), more={"a": f"{raw.yaml}, vendor: openai"}) as stage,
        ):
            answer = await stage.ask(stream=mode == "streamed")
            assert answer.text == "" and answer.finishes == ["length"]
            row = stage.record.last
            assert (row.served, row.fallbacks, row.output_tokens) == (row.attempts[0].target, 0, 64)
            assert row.cost_usd and row.wasted_usd is None, "what was delivered was not wasted"
            assert stage.calls("b") == [0]

    run(main())


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_end_after_a_tool_result_is_an_answer(simulator: ProviderSimulator, mode: str) -> None:
    async def main() -> None:
        call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        messages: list[Any] = [
            *MESSAGES,
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "Sent."},
        ]
        for dialect in DIALECTS:
            async with chain_stage(simulator, {"a": dialect, "b": "openai"}, route(mode)) as stage:
                stage.schedule("a", then="empty")
                answer = await stage.ask(stream=mode == "streamed", messages=messages, tools=[WEATHER])
                assert answer.text == "" and answer.finishes == ["stop"], dialect
                check_alone(stage)

    run(main())


@pytest.mark.parametrize("mode", MODES)
def test_a_forced_tool_may_end_with_stop(simulator: ProviderSimulator, mode: str) -> None:
    async def main() -> None:
        choice = {"type": "function", "function": {"name": "weather"}}
        for dialect in DIALECTS:
            async with chain_stage(simulator, {"a": dialect, "b": "openai"}, route(mode)) as stage:
                answer = await stage.ask(stream=mode == "streamed", tools=[WEATHER], tool_choice=choice)
                assert [name for name, _ in answer.calls] == ["weather"]
                assert answer.finishes[0] in ("stop", "tool_calls")
                check_alone(stage)

    run(main())


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_stop_sequence_is_an_answer(simulator: ProviderSimulator, mode: str) -> None:
    async def main() -> None:
        for dialect in ("openai", "anthropic", "gemini"):  # the Responses API has no stop sequences
            async with chain_stage(simulator, {"a": dialect, "b": "openai"}, route(mode)) as stage:
                answer = await stage.ask(stream=mode == "streamed", stop=["Echo"])
                assert answer.text == "" and answer.finishes == ["stop"], dialect
                check_alone(stage)

    run(main())


def test_white_space_before_json(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        body = (
            b'\n         \n\n {"id":"gen-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
            b'"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}]}'
        )
        raw = RawProvider()
        async with (
            raw.serving([JSON_BODY, b"\n", 0.05, b"\n", 0.05, body]),
            chain_stage(simulator, {"a": "openai", "b": "openai"}, more={"a": raw.yaml}) as stage,
        ):
            assert (await stage.ask()).text == "Hello."
            check_alone(stage)

    run(main())


SOUND_TAILS: dict[str, list[Any]] = {
    "done": [chunk(None, "stop"), DONE],
    "finish alone": [chunk(None, "stop")],
    "finish, then a cut": [chunk(None, "stop"), CUT],
    "marker without blank line": [chunk(None, "stop"), b"data: [DONE]"],
    "finish in the last text": [chunk({"content": "."}, "stop"), DONE],
    "usage chunk": [chunk(None, "stop"), chunk(usage={"prompt_tokens": 1, "completion_tokens": 1}), DONE],
    "finish twice": [chunk(None, "stop"), chunk(None, "stop"), DONE],
    "junk between": [b": waiting\n\n", b"\n\n", chunk(None, "stop"), DONE],
    "crlf": [chunk(None, "stop").replace(b"\n", b"\r\n"), DONE.replace(b"\n", b"\r\n")],
}


@pytest.mark.parametrize("tail", SOUND_TAILS, ids=str)
@pytest.mark.parametrize("mode", ["assembled", "streamed"])
def test_ways_to_end_a_stream_well(simulator: ProviderSimulator, tail: str, mode: str) -> None:
    async def main() -> None:
        said = "Otters hold hands." if tail != "finish in the last text" else "Otters hold hands"
        script = [EVENT_STREAM, b"\n\n", chunk({"role": "assistant", "content": ""}), *words(said), *SOUND_TAILS[tail]]
        raw = RawProvider()
        async with (
            raw.serving(script),
            chain_stage(simulator, {"a": "openai", "b": "openai"}, route(mode), more={"a": raw.yaml}) as stage,
        ):
            answer = await stage.ask(stream=mode == "streamed")
            assert answer.text == "Otters hold hands."
            assert {*answer.finishes} == {"stop"}
            check_alone(stage)

    run(main())


def test_an_upstream_that_does_not_close_behind_its_end_is_waited_for_a_while_only(
    simulator: ProviderSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the marker the answer is over at once, without it after some seconds of silence."""

    monkeypatch.setattr(policy, "END_GRACE", 0.6)

    async def main() -> None:
        script = [EVENT_STREAM, chunk({"role": "assistant", "content": "Hello"}), chunk(None, "stop")]
        marked, unmarked = RawProvider(), RawProvider()
        more = {"a": "", "b": ""}
        async with marked.serving([*script, DONE, HANG]), unmarked.serving([*script, HANG]):
            more = {"a": marked.yaml, "b": unmarked.yaml}
            async with chain_stage(simulator, {"a": "openai", "b": "openai:gpt-x"}, "", more=more) as stage:
                answer = await stage.ask(stream=True)
                assert answer.text == "Hello" and answer.finishes == ["stop"]
                assert stage.record.last.latency_s < 3
                answer = await stage.ask(stream=True, model=f"{stage.mark}b/gpt-x")
                assert answer.text == "Hello" and answer.finishes == ["stop"]
                assert stage.record.last.attempts[0].reason is None

    run(main())


@pytest.mark.parametrize("second", ["", "b"])
def test_a_whole_body_where_a_stream_was_asked_for(simulator: ProviderSimulator, second: str) -> None:
    """Some servers do not stream: what they say is made a stream of, in mid-answer too."""

    async def main() -> None:
        body = (
            b'{"id":"gen-1","object":"chat.completion","created":17,"model":"m","choices":[{"index":0,"message":'
            b'{"role":"assistant","content":"Otters hold hands while they sleep in the kelp, so that none drifts '
            b'away.","tool_calls":[{"id":"call_9","type":"function","function":{"name":"weather","arguments":"{}"}}]},'
            b'"finish_reason":null}],"usage":{"prompt_tokens":3,"completion_tokens":9,"total_tokens":12}}'
        )
        text = "Otters hold hands while they sleep in the kelp, so that none drifts away."
        one, two = RawProvider(), RawProvider()
        async with one.serving([JSON_BODY, body]), two.serving([EVENT_STREAM, *words(text[:60]), CUT]):
            chain = {"a": "openai", "b": "openai"}
            more = {"a": two.yaml, "b": one.yaml} if second else {"a": one.yaml}
            async with chain_stage(simulator, chain, more=more) as stage:
                answer: Answer = await stage.ask(stream=True, tools=[WEATHER])
                assert answer.text == text
                assert answer.calls == [("weather", "{}")] and answer.finishes == ["tool_calls"]
                assert answer.usage is not None
                if not second:
                    assert answer.chunks[0].choices[0].delta.role == "assistant"
                assert stage.record.last.joined == bool(second)

    run(main())


def test_a_prompt_is_not_needed_to_be_said_twice(simulator: ProviderSimulator) -> None:
    """Of a sound answer nothing is asked twice: one call upstream, and one line on record."""

    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai", "b": "openai"}) as stage:
            for stream in (False, True):
                await stage.ask(stream=stream)
            assert stage.calls("a", "b") == [2, 0]
            assert len(stage.record.ended) == 2 and len(stage.record.commits) == 1
            said = stage.counts("a")["requests"][-1]["body"]["messages"]
            assert said == [{"role": "user", "content": PROMPT}]

    run(main())
