"""Callers of the Responses API, with the official SDK: answered by a provider of any dialect, streamed and not, through
the same chains as everybody else."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import openai
import pydantic
import pytest

from crossfade.core.target import Route
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import (
    CUT,
    DONE,
    EVENT_STREAM,
    PIXEL,
    PROMPT,
    TEXT,
    WEATHER,
    RawProvider,
    Stage,
    chain_stage,
    chunk,
    new_mark,
    provider,
    run,
)
from tests.e2e.harness import stage as stage_of
from tests.e2e.responses import TOOL, ask, check_usage

DIALECTS = ("responses", "openai", "anthropic", "gemini")
PAIRS = list(itertools.product(DIALECTS, DIALECTS))


async def broken(stage: Stage, **fields: Any) -> tuple[str, openai.APIError]:
    """Asks for a stream that must end in an error: the text before it, and the error."""
    stream = await stage.client.responses.create(stream=True, **{"model": "chat", "input": PROMPT, **fields})
    text = ""
    with pytest.raises(openai.APIError) as caught:
        async for event in stream:
            assert event.type not in ("response.completed", "response.incomplete")
            text += event.delta if event.type == "response.output_text.delta" else ""
    row = stage.record.last
    assert row.in_band_error and row.error and row.served is None
    return text, caught.value


async def streamed_text(stage: Stage) -> str:
    """A stream as its bytes, without any SDK."""
    async with openai.DefaultAsyncHttpxClient(trust_env=False) as client:
        body = {"model": "chat", "input": PROMPT, "stream": True}
        return (await client.post(f"{stage.url}/v1/responses", json=body)).text


def body_of(stage: Stage, provider: str) -> dict[str, Any]:
    """The last request that a provider got."""
    body: dict[str, Any] = stage.counts(provider)["requests"][-1]["body"]
    return body


# --- each dialect answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_provider_of_any_dialect_answers(simulator: ProviderSimulator, dialect: str, stream: bool) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": dialect}) as stage:
            answer = await ask(stage, stream=stream, instructions="Be kind.", temperature=0.5, metadata={"a": "b"})
            assert answer.text == TEXT and answer.response.status == "completed"
            assert answer.response.id.startswith("resp_")
            check_usage(answer)
            row = stage.record.last
            assert row.endpoint == "responses" and row.served and row.served.startswith(stage.mark)
            assert answer.headers["x-crossfade-attempts"] == "1"
            if dialect != "responses":
                assert answer.response.instructions == "Be kind." and answer.response.temperature == 0.5
                assert answer.response.metadata == {"a": "b"} and answer.response.model_extra == {"store": False}

    run(main())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_function_is_called_and_its_result_answered(simulator: ProviderSimulator, dialect: str, stream: bool) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": dialect}) as stage:
            asked: list[Any] = [{"role": "user", "content": "How is the weather? [[tool]]"}]
            answer = await ask(stage, stream=stream, input=asked, tools=[TOOL], reasoning={"effort": "low"})
            ((name, arguments),) = answer.calls
            assert name == "weather" and set(json.loads(arguments)) == {"city", "days"}
            assert answer.response.status == "completed"
            said = [item.to_dict() for item in answer.response.output]
            call_id = next(item["call_id"] for item in said if item["type"] == "function_call")
            result = {"type": "function_call_output", "call_id": call_id, "output": "It rains."}
            again = await ask(stage, stream=stream, input=[*asked, *said, result], tools=[TOOL])
            assert "It rains." in again.text and again.calls == []

    run(main())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_several_functions_are_called_at_once(simulator: ProviderSimulator, dialect: str, stream: bool) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": dialect}) as stage:
            tools = [TOOL, TOOL | {"name": "tide"}]
            answer = await ask(stage, stream=stream, input="How is it? [[tools:2]]", tools=tools)
            assert len(answer.calls) == 2
            assert len({item.id for item in answer.response.output}) == len(answer.response.output)

    run(main())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_reasoning_is_an_item_of_its_own(simulator: ProviderSimulator, dialect: str, stream: bool) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": dialect}) as stage:
            answer = await ask(stage, stream=stream, input=f"[[think]] {PROMPT}", reasoning={"effort": "low"})
            assert answer.text == TEXT and answer.reasoning
            assert [item.type for item in answer.response.output] == ["reasoning", "message"]
            check_usage(answer)

    run(main())


class Person(pydantic.BaseModel):
    """What the structured answers are."""

    name: str
    age: int


@pytest.mark.parametrize("dialect", DIALECTS)
def test_structured_output_is_parsed_by_the_sdk(simulator: ProviderSimulator, dialect: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": dialect}) as stage:
            parsed = await stage.client.responses.parse(model="chat", input=PROMPT, text_format=Person)
            assert isinstance(parsed.output_parsed, Person)
            async with stage.client.responses.stream(model="chat", input=PROMPT, text_format=Person) as stream:
                async for _ in stream:
                    pass
                assert isinstance((await stream.get_final_response()).output_parsed, Person)

    run(main())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_image_is_shown(simulator: ProviderSimulator, dialect: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": dialect}) as stage:
            parts = [{"type": "input_text", "text": PROMPT}, {"type": "input_image", "image_url": PIXEL}]
            assert TEXT[:20] in (await ask(stage, input=[{"role": "user", "content": parts}])).text

    run(main())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("fault", "reason"), [("length", "max_output_tokens"), ("filter", "content_filter")])
def test_an_answer_that_was_cut_short_says_so(
    simulator: ProviderSimulator, dialect: str, stream: bool, fault: str, reason: str
) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": dialect}) as stage:
            stage.schedule("a", fault)
            answer = await ask(stage, stream=stream)
            assert answer.response.status == "incomplete" and answer.response.incomplete_details is not None
            assert answer.response.incomplete_details.reason == reason and TEXT.startswith(answer.text)

    run(main())


def test_the_same_dialect_gets_the_callers_own_words_and_its_answer_passes(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "responses"}) as stage:
            answer = await ask(stage, store=True, include=["reasoning.encrypted_content"], extra_body={"new": [1]})
            assert body_of(stage, "a") == {
                "model": "gpt-5.4",
                "input": PROMPT,
                "store": True,
                "include": ["reasoning.encrypted_content"],
                "new": [1],
            }
            assert answer.response.id.startswith("resp_sim")
            thought = await ask(stage, stream=True, input=f"[[think]] {PROMPT}")
            assert thought.response.output[0].to_dict()["encrypted_content"].startswith("sealed-")

    run(main())


def test_what_is_translated_is_stored_nowhere_and_what_was_dropped_is_on_record(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "responses", "b": "openai"}) as stage:
            answer = await stage.ask(stop=["zzz"])
            assert answer.text == TEXT and body_of(stage, "a")["store"] is False
            assert stage.record.last.attempts[0].dropped == ("stop",)
            stage.schedule("a", "500", "500")
            await ask(stage, store=True, metadata={"a": "b"})
            assert stage.record.last.attempts[-1].dropped == ("metadata", "store")

    run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_callers_of_other_apis_are_answered_by_the_responses_api(simulator: ProviderSimulator, stream: bool) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "responses"}) as stage:
            chat = await stage.ask(stream=stream, tools=[WEATHER])
            assert chat.text == TEXT and chat.finishes == ["stop"]
            called = await stage.ask(stream=stream, tools=[WEATHER], messages=[{"role": "user", "content": "[[tool]]"}])
            assert called.finishes == ["tool_calls"] and called.calls[0][0] == "weather"
            cut = await stage.ask(stream=stream, max_tokens=20)
            assert cut.finishes == ["length"] and cut.usage.total_tokens > 0

    run(main())


def test_a_model_that_has_no_chat_api_answers_callers_of_it(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "responses:o3-pro"}) as stage:
            config = stage.gateway.config
            known = config.facts("openai", "o3-pro")
            assert known is not None and known.only_responses and not any("o3-pro" in w for w in config.warnings)
            assert (await stage.ask()).text == TEXT and body_of(stage, "a")["model"] == "o3-pro"

    run(main())


@pytest.mark.parametrize(("first", "second"), [("responses", "anthropic"), ("gemini", "responses")])
def test_their_cut_streams_are_gone_on_with(simulator: ProviderSimulator, first: str, second: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": first, "b": second}) as stage:
            stage.schedule("a", "cut@middle")
            answer = await stage.ask(stream=True)
            assert answer.text == TEXT and answer.finishes == ["stop"] and len(answer.extra["joined"]) == 1

    run(main())


# --- fallback ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("continuation", ["honour", "replay"])
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_cut_stream_is_gone_on_with_in_the_same_item(
    simulator: ProviderSimulator, first: str, second: str, continuation: str
) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": first, "b": second}) as stage:
            stage.schedule("a", "cut@middle")
            stage.schedule("b", then=f"ok; continuation={continuation}")
            answer = await ask(stage, stream=True)
            assert answer.text == TEXT and len(answer.response.output) == 1
            (join,) = answer.extra["joined"]
            assert join["from"].startswith(f"{stage.mark}a") and join["to"].startswith(f"{stage.mark}b")
            assert 0 < join["at_chars"] < len(TEXT)
            check_usage(answer)

    run(main())


def test_a_stream_cut_behind_its_reasoning_begins_anew(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        for first, second in PAIRS:
            async with chain_stage(simulator, {"a": first, "b": second}) as stage:
                stage.schedule("a", "cut@first")
                asked = {"input": f"[[think]] {PROMPT}", "reasoning": {"effort": "low"}}
                answer = await ask(stage, stream=True, **asked)
                assert answer.text == TEXT

    run(main())


def test_a_second_cut_is_gone_on_with_too(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        chain = {"a": "openai", "b": "responses", "c": "anthropic"}
        async with chain_stage(simulator, chain) as stage:
            stage.schedule("a", "cut@first")
            stage.schedule("b", "cut@last")
            asked = {"input": f"[[think]] {PROMPT}", "reasoning": {"effort": "low"}}
            answer = await ask(stage, stream=True, **asked)
            first, second = answer.extra["joined"]
            assert answer.text == TEXT and first["at_chars"] == 0 < second["at_chars"]

    run(main())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stream_that_nobody_can_go_on_with_ends_in_an_error(simulator: ProviderSimulator, dialect: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": dialect}) as stage:
            stage.schedule("a", "cut@middle", then="500")
            text, error = await broken(stage)
            assert text and TEXT.startswith(text) and text != TEXT
            assert error.code == "stream_interrupted" or error.code == "chain_exhausted"

    run(main())


def test_a_broken_stream_ends_in_both_words_of_the_api(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        created = (
            b'event: response.created\ndata: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1",'
        )
        created += b'"object":"response","model":"m","created_at":1,"status":"in_progress","output":[]}}\n\n'
        item = (
            b'data: {"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"type":"message",'
        )
        item += b'"id":"msg_1","content":[]}}\n\n'
        delta = b'data: {"type":"response.output_text.delta","sequence_number":2,"output_index":0,"content_index":0,'
        delta += b'"item_id":"msg_1","delta":"Half"}\n\n'
        raw = RawProvider()
        async with (
            raw.serving([EVENT_STREAM, created, item, delta, CUT]),
            chain_stage(simulator, {"a": "responses"}, more={"a": raw.yaml}) as stage,
        ):
            text = await streamed_text(stage)
            events = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ")]
            assert text.encode().startswith(created + item + delta)
            assert [event["type"] for event in events[3:]] == ["error", "response.failed"]
            assert [event["sequence_number"] for event in events] == [0, 1, 2, 3, 4]
            assert events[-1]["response"]["id"] == "resp_1" and events[-1]["response"]["status"] == "failed"

    run(main())


def test_keep_alives_are_comments(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        def often(route: Route) -> Route:
            stream = msgspec.structs.replace(route.policy.stream, keep_alive=0.08)
            return msgspec.structs.replace(route, policy=msgspec.structs.replace(route.policy, stream=stream))

        raw = RawProvider()
        said = [EVENT_STREAM, 0.3, chunk({"content": "Otters"}), 0.3, chunk({}, "stop"), DONE]
        async with (
            raw.serving(said),
            chain_stage(simulator, {"a": "openai"}, more={"a": raw.yaml}, tune=often) as stage,
        ):
            text = await streamed_text(stage)
            before, _, after = text.partition('"delta":"Otters"')
            assert before.count(": keep-alive\n\n") >= 2 and after.count(": keep-alive\n\n") >= 2
            assert (await ask(stage, stream=True)).text == "Otters"

    run(main())


# --- what cannot be asked ------------------------------------------------------------------------------------


def test_a_rung_that_cannot_say_a_request_is_passed_over(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai", "b": "responses", "c": "gemini"}) as stage:
            answer = await ask(stage, tools=[{"type": "web_search"}])
            assert answer.text == TEXT and stage.calls("a", "b", "c") == [0, 1, 0]
            rows = [(row.target.removeprefix(stage.mark)[0], row.detail) for row in stage.record.last.attempts]
            assert rows[0][0] == "a" and "tools[0].type" in str(rows[0][1])

    run(main())


def test_a_request_that_no_rung_can_say_is_a_400_that_names_the_place(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai", "b": "gemini"}) as stage:
            with pytest.raises(openai.BadRequestError) as caught:
                await ask(stage, tools=[{"type": "web_search"}])
            assert "tools[0].type" in str(caught.value)

    run(main())


KEPT: dict[str, dict[str, Any]] = {
    "previous_response_id": {"previous_response_id": "resp_1"},
    "conversation": {"conversation": "conv_1"},
    "prompt": {"prompt": {"id": "pmpt_1"}},
    "input[0]": {"input": [{"type": "item_reference", "id": "msg_1"}, {"role": "user", "content": PROMPT}]},
}


@pytest.mark.parametrize("field", KEPT)
def test_what_a_provider_keeps_is_asked_of_that_provider_alone(simulator: ProviderSimulator, field: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "responses"}) as stage:
            assert (await ask(stage, **KEPT[field])).text == TEXT
        for chain in ({"a": "openai"}, {"a": "responses", "b": "openai"}, {"a": "responses", "b": "responses"}):
            async with chain_stage(simulator, chain) as stage:
                with pytest.raises(openai.BadRequestError) as caught:
                    await ask(stage, **KEPT[field])
                assert caught.value.param == field and "whole conversation" in str(caught.value)
                assert stage.calls(*chain) == [0] * len(chain)

    run(main())


def test_two_models_of_the_same_provider_may_both_know_what_it_keeps(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        mark = new_mark()
        names = f"{mark}a/gpt-5.4, {mark}a/gpt-5.4-mini"
        lines = ["server: {listen: '127.0.0.1:0', admin: '127.0.0.1:0'}", "providers:"]
        lines += [provider(simulator, f"{mark}a", "responses"), "routes:", f"  chat: {{chain: [{names}]}}"]
        async with stage_of("\n".join(lines), simulator, mark) as stage:
            stage.schedule("a", "404")
            answer = await ask(stage, previous_response_id="resp_1")
            assert answer.text == TEXT and stage.record.last.served == f"{mark}a/gpt-5.4-mini"

    run(main())


@pytest.mark.parametrize("path", ["/responses", "/v1/responses"])
def test_errors_have_the_envelope_of_openai(simulator: ProviderSimulator, path: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai"}) as stage:
            async with openai.DefaultAsyncHttpxClient(trust_env=False) as client:
                bad = await client.post(stage.url + path, json={"model": "chat", "input": PROMPT, "background": True})
                assert bad.status_code == 400 and bad.json()["error"]["param"] == "background"
                wrong = await client.get(stage.url + path)
                assert wrong.status_code == 405 and wrong.json()["error"]["code"] == "method_not_allowed"
                socket = {"connection": "upgrade", "upgrade": "websocket"}
                wrong = await client.get(stage.url + path, headers=socket)
                assert wrong.status_code == 426 and wrong.json()["error"]["code"] == "upgrade_required"
            stage.schedule("a", then="500")
            with pytest.raises(openai.InternalServerError) as caught:
                await ask(stage)
            assert caught.value.code == "chain_exhausted" and caught.value.type == "server_error"

    run(main())


def test_the_trace_is_in_the_response(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai", "b": "responses"}) as stage:
            for stream in (False, True):
                stage.schedule("a", "500", "500")
                answer = await ask(stage, stream=stream, extra_body={"crossfade": {"trace": True}})
                assert [row["target"].removeprefix(stage.mark)[0] for row in answer.extra["attempts"]][-1] == "b"
                stage.forget_health()

    run(main())
