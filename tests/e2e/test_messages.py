"""Callers of Anthropic's messages API before providers of every dialect: answers, streams and errors in their own form,
and the fallback that they never notice. The caller (`tests/e2e/messages.py`) checks each rule of the form.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import httpx2
import msgspec
import pytest

from crossfade.core.exchange import CONTINUE_INSTRUCTION
from crossfade.core.failure import FailureReason as R
from crossfade.core.target import Route
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import (
    CUT,
    DONE,
    EVENT_STREAM,
    HANG,
    JSON_BODY,
    PROMPT,
    QUICK,
    TEXT,
    RawProvider,
    call_chunks,
    chain_stage,
    chunk,
    run,
    until,
)
from tests.e2e.messages import FORMAT, HEADERS, IMAGE, WEATHER, Answer, ask, error_of, post

DIALECTS = ("openai", "responses", "anthropic", "gemini")
MODES = ("buffered", "assembled", "streamed")
ARGUMENTS = {"city": "text", "days": 1}


def route(mode: str) -> str:
    return QUICK if mode == "streamed" else f"{QUICK}, stream_upstream: {'true' if mode == 'assembled' else 'false'}"


def says(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def kinds(answer: Answer) -> list[str]:
    return [block["type"] for block in answer.blocks]


# --- each dialect behind it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_any_provider_answers_in_the_callers_form(simulator: ProviderSimulator, dialect: str, mode: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": dialect, "b": dialect}, route(mode)) as stage:
            stream = mode == "streamed"
            answer = await ask(stage, stream=stream, system="Be brief.", temperature=1.0, stop_sequences=["@@"])
            assert (answer.text, kinds(answer), answer.stop_reason) == (TEXT, ["text"], "end_turn")
            assert answer.usage["input_tokens"] > 0 and answer.usage["output_tokens"] > 0
            assert answer.model == stage.counts("a")["requests"][-1]["model"]

            answer = await ask(stage, stream=stream, max_tokens=20)
            assert answer.text == " ".join(TEXT.split()[:20])
            assert answer.stop_reason == "max_tokens"
            assert stage.record.last.attempts[-1].reason in (None, R.TRUNCATED_OUTPUT)

            answer = await ask(stage, stream=stream, tools=[WEATHER], tool_choice={"type": "any"})
            assert answer.calls == [("weather", ARGUMENTS)] and answer.stop_reason == "tool_use"
            named = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
            answer = await ask(stage, stream=stream, tools=[WEATHER], tool_choice=named)
            assert answer.calls == [("weather", ARGUMENTS)] and answer.stop_reason == "tool_use"
            answer = await ask(stage, stream=stream, tools=[WEATHER], tool_choice={"type": "none"})
            assert answer.text == TEXT and not answer.calls

            answer = await ask(stage, stream=stream, tools=[WEATHER], messages=says("Go [[tools:3]]"))
            assert answer.calls == [("weather", ARGUMENTS)] * 3 and answer.stop_reason == "tool_use"
            assert len(set(answer.call_ids)) == 3

            seen = [{"role": "user", "content": [{"type": "text", "text": PROMPT}, IMAGE]}]
            answer = await ask(stage, stream=stream, messages=seen)
            assert answer.text == f"Saw 1 image. {TEXT}"

            answer = await ask(stage, stream=stream, output_config=FORMAT)
            assert json.loads(answer.text) == {"name": "text", "age": 1} and answer.stop_reason == "end_turn"

            thinking = {"type": "enabled", "budget_tokens": 1024}
            answer = await ask(stage, stream=stream, messages=says(f"{PROMPT} [[think]]"), thinking=thinking)
            assert kinds(answer) == ["thinking", "text"] and answer.text == TEXT and answer.thinking
            is_signed = dialect == "anthropic" and mode != "assembled"
            assert bool(answer.blocks[0]["signature"]) == is_signed
            assert stage.record.last.fallbacks == 0

    run(main())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_path_without_v1_and_a_query_are_the_same_endpoint(simulator: ProviderSimulator, dialect: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": dialect}) as stage:
            body = {"model": "chat", "max_tokens": 400, "messages": says(PROMPT)}
            for path in ("/messages", "/v1/messages?beta=true", "/v1/messages"):
                response = await post(stage, body, path)
                assert response.json()["content"] == [{"type": "text", "text": TEXT}]
                assert stage.record.last.endpoint == "messages"

    run(main())


def test_what_a_target_of_the_callers_dialect_gets_and_says_is_untouched(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "anthropic"}) as stage:
            model = "claude-opus-5"
            body = (
                b'{ "model" : "chat", "max_tokens":400,"x_new":{"a":1.50, "b":[ ]},\n'
                b'"messages":[{"role":"user","content":[{"type":"text","text":"caf\\u00e9","cache_control":'
                b'{"type":"ephemeral"}}]}],"crossfade":{"tags":["t"]}}'
            )
            response = await post(stage, body, headers={"anthropic-beta": "one-2025,  two-2026"})
            seen = stage.counts("a")["requests"][-1]
            expected = json.loads(body)
            del expected["crossfade"]
            assert seen["body"] == {**expected, "model": model}
            assert seen["headers"]["anthropic-beta"] == "one-2025,  two-2026"
            assert seen["headers"]["anthropic-version"] == HEADERS["anthropic-version"]
            assert "unused" not in str(seen["headers"])
            answer = response.json()
            assert answer["usage"]["service_tier"] == "standard", "as the provider said it"
            assert list(answer)[:4] == ["id", "type", "role", "model"]

    run(main())


@pytest.mark.parametrize("dialect", ["openai", "gemini"])
def test_headers_about_anthropics_api_go_to_nobody_else(simulator: ProviderSimulator, dialect: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": dialect}) as stage:
            await ask(stage, headers={"anthropic-beta": "one-2025"})
            assert not [name for name in stage.counts("a")["requests"][-1]["headers"] if "anthropic" in name]

    run(main())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_the_journal_says_of_what_was_dropped(simulator: ProviderSimulator, dialect: str, stream: bool) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": dialect}) as stage:
            marked = [{"type": "text", "text": PROMPT, "cache_control": {"type": "ephemeral"}}]
            given = {"messages": [{"role": "user", "content": marked}], "context_management": {"edits": []}}
            assert (await ask(stage, stream=stream, **given)).text == TEXT
            dropped = stage.record.last.attempts[-1].dropped
            assert dropped == (() if dialect == "anthropic" else ("context_management", "cache_control"))

    run(main())


# --- conversations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maker", DIALECTS)
def test_a_tool_conversation_goes_on_at_every_other_provider(simulator: ProviderSimulator, maker: str) -> None:
    """What one provider called, and thought before it, is understood by the others in the next request."""

    async def main() -> None:
        chain = {maker: maker, **{dialect: dialect for dialect in DIALECTS}}
        async with chain_stage(simulator, chain) as stage:
            asked = says("Weather, please [[think]] [[tools:2]]")
            thinking = {"type": "enabled", "budget_tokens": 1024}
            for stream in (False, True):
                made = await ask(stage, stream=stream, messages=asked, tools=[WEATHER], thinking=thinking)
                assert kinds(made) == ["thinking", "tool_use", "tool_use"]
                results: list[Any] = [
                    {"type": "tool_result", "tool_use_id": made.call_ids[0], "content": "7 degrees"},
                    {"type": "tool_result", "tool_use_id": made.call_ids[1], "is_error": True,
                     "content": [{"type": "text", "text": "9 degrees"}, IMAGE]},
                ]  # fmt: skip
                talk = [*asked, {"role": "assistant", "content": made.blocks}, {"role": "user", "content": results}]
                for later in DIALECTS:
                    for name in DIALECTS:
                        stage.schedule(name, *([] if name == later else ["503"]))
                    answer = await ask(stage, stream=stream, messages=talk, tools=[WEATHER], thinking=thinking)
                    assert "The tool said: 7 degrees. The tool said: 9 degrees." in answer.text
                    assert answer.headers["x-crossfade-provider"] == stage.mark + later
                    check_thinking(stage.counts(later)["requests"][-1]["body"], maker, later)
                    for name in DIALECTS:
                        stage.schedule(name)
                    stage.forget_health()

    run(main())


def check_thinking(body: dict[str, Any], maker: str, later: str) -> None:
    """Thinking goes back to its maker, signed, and to nobody else."""
    if later != "anthropic":
        assert '"signature"' not in json.dumps(body) and "why Weather" not in json.dumps(body)
        return
    types = [block["type"] for block in body["messages"][1]["content"]]
    is_own = maker == "anthropic"
    assert types == (["thinking"] if is_own else []) + ["tool_use"] * 2
    assert ("thinking" in body) == is_own, "a budget behind a call without thinking is a 400"


@pytest.mark.parametrize("stream", [False, True])
def test_media_of_a_tool_result_reach_a_provider_whose_results_are_text(
    simulator: ProviderSimulator, stream: bool
) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai"}) as stage:
            call = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rye", "days": 1}}
            result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [IMAGE]}
            turns = [
                *says("Look"),
                {"role": "assistant", "content": [call]},
                {"role": "user", "content": [result, {"type": "text", "text": "Well?"}]},
            ]
            await ask(stage, stream=stream, messages=turns, tools=[WEATHER])
            sent = stage.counts("a")["requests"][-1]["body"]["messages"]
            assert [message["role"] for message in sent] == ["user", "assistant", "tool", "user", "user"]
            assert sent[2]["content"] == "" and sent[4]["content"] == "Well?"
            text, image = sent[3]["content"]
            assert "toolu_1" in text["text"] and image["image_url"]["url"].startswith("data:image/png;base64,")

    run(main())


# --- joins ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("continuation", ["honour", "replay"])
@pytest.mark.parametrize("second", DIALECTS)
@pytest.mark.parametrize("first", DIALECTS)
def test_a_cut_stream_is_gone_on_with(simulator: ProviderSimulator, first: str, second: str, continuation: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": first, "b": second}) as stage:
            stage.schedule("a", "cut@middle")
            stage.schedule("b", then=f"ok; continuation={continuation}")
            answer = await ask(stage, stream=True)
            assert answer.text == TEXT and kinds(answer) == ["text"] and answer.stop_reason == "end_turn"
            (join,) = answer.extra["joined"]
            assert 0 < join["at_chars"] < len(TEXT) and join["to"] == stage.record.last.served
            assert len(answer.comments) == 1 and "continued by" in answer.comments[0]
            assert answer.usage["output_tokens"] == stage.record.last.output_tokens
            assert answer.headers["x-crossfade-provider"] == stage.mark + "a"
            asked = stage.counts("b")["requests"][-1]["body"]
            assert CONTINUE_INSTRUCTION.strip()[:40] in json.dumps(asked)

    run(main())


@pytest.mark.parametrize("second", DIALECTS)
@pytest.mark.parametrize("first", DIALECTS)
def test_a_stream_that_is_cut_behind_its_thinking(simulator: ProviderSimulator, first: str, second: str) -> None:
    """Thinking that has left stays, thinking of the second stream is not repeated to the caller, the text is whole."""

    async def main() -> None:
        async with chain_stage(simulator, {"a": first, "b": second}) as stage:
            for fault in ("cut@first", "cut@0.2", "cut@0.5", "stall@middle", "error_event@last"):
                stage.schedule("a", fault)
                thinking = {"type": "enabled", "budget_tokens": 1024}
                answer = await ask(stage, stream=True, messages=says(f"{PROMPT} [[think]]"), thinking=thinking)
                assert answer.text == TEXT and kinds(answer)[-1] == "text" and answer.stop_reason == "end_turn", fault
                assert kinds(answer).count("text") == 1
                signed = [block for block in answer.blocks if block.get("signature")]
                assert len(signed) <= 1, "a signature under thinking of two makers"
                stage.forget_health()

    run(main())


def test_two_cuts_are_two_joins(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "anthropic", "b": "openai", "c": "gemini"}) as stage:
            stage.schedule("a", "cut@first")
            stage.schedule("b", "error_event@middle")
            answer = await ask(stage, stream=True)
            assert answer.text == TEXT and kinds(answer) == ["text"]
            assert len(answer.extra["joined"]) == len(answer.comments) == 2

    run(main())


@pytest.mark.parametrize("first", DIALECTS)
def test_a_join_that_cannot_be_proven_is_an_error_event(simulator: ProviderSimulator, first: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": first, "b": "openai", "c": "anthropic"}) as stage:
            stage.schedule("a", "cut@middle")
            stage.schedule("b", then="ok; continuation=differ")
            stage.schedule("c", then="ok; continuation=differ")
            answer = await ask(stage, stream=True)
            assert answer.error is not None and answer.stop_reason is None
            assert TEXT.startswith(answer.text) and 0 < len(answer.text) < len(TEXT)
            assert (answer.error["type"], answer.error["code"]) == ("api_error", R.STREAM_INTERRUPTED)
            row = stage.record.last
            assert row.in_band_error and row.served is None

    run(main())


@pytest.mark.parametrize("first", DIALECTS)
def test_tool_calls_that_flow_are_not_joined(simulator: ProviderSimulator, first: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": first, "b": "openai"}, QUICK + ", hold: []") as stage:
            stage.schedule("a", "cut@middle")
            fields: dict[str, Any] = {"tools": [WEATHER], "messages": says("Go [[tools:2]]")}
            answer = await ask(stage, stream=True, **fields)
            if first == "gemini":  # a call comes whole there
                assert answer.error is not None or answer.calls == [("weather", ARGUMENTS)] * 2
            else:
                assert answer.error is not None and stage.calls("a", "b") == [1, 0]
            whole = await ask(stage, stream=True, **fields)
            assert whole.calls == [("weather", ARGUMENTS)] * 2

    run(main())


def test_calls_that_take_turns_come_one_after_the_other(simulator: ProviderSimulator) -> None:
    """Some servers send the pieces of parallel calls by turns; blocks of this dialect do not mix."""
    turns = [b"".join(pair) for pair in zip(
        (piece for piece in call_chunks("weather", '{"city":"Rye","days":1}', id="c.1") if isinstance(piece, bytes)),
        (piece for piece in call_chunks("weather", '{"city":"Ayr","days":2}', id="c:2", index=1)
         if isinstance(piece, bytes)),
        strict=True,
    )]  # fmt: skip
    script = [EVENT_STREAM, chunk({"role": "assistant", "content": "Well"}), *turns,
              chunk({"content": ", see"}), chunk(None, "tool_calls"), DONE]  # fmt: skip

    async def main() -> None:
        for hold in ("", ", hold: []"):
            raw = RawProvider()
            async with (
                raw.serving(script),
                chain_stage(simulator, {"a": "openai"}, QUICK + hold, more={"a": raw.yaml}) as stage,
            ):
                answer = await ask(stage, stream=True, tools=[WEATHER])
                assert answer.calls == [
                    ("weather", {"city": "Rye", "days": 1}),
                    ("weather", {"city": "Ayr", "days": 2}),
                ]
                assert answer.text == "Well, see" and answer.call_ids == ["c_1", "c_2"]

    run(main())


# --- errors --------------------------------------------------------------------------------------------------

REFUSED = {
    "400": (400, "invalid_request_error"),
    "413": (413, "request_too_large"),
    "422": (422, "invalid_request_error"),
    "401": (502, "api_error"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("fault", REFUSED)
def test_a_refusal_comes_in_the_callers_envelope(
    simulator: ProviderSimulator, fault: str, dialect: str, stream: bool
) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": dialect, "b": "openai"}) as stage:
            stage.schedule("a", then=fault)
            answer = await ask(stage, stream=stream)
            assert answer.error is not None
            assert (answer.status, answer.error["type"]) == REFUSED[fault]
            assert stage.calls("a", "b") == [1, 0]
            assert answer.headers["x-should-retry"] == "false" and answer.headers["x-request-id"]

    run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_a_chain_that_failed_says_so_with_its_walk(simulator: ProviderSimulator, stream: bool) -> None:
    async def main() -> None:
        for fault, status, kind in (
            ("429", 429, "rate_limit_error"),
            ("529", 503, "overloaded_error"),
            ("silence", 504, "timeout_error"),
            ("404", 404, "not_found_error"),
            ("garbage", 502, "api_error"),
        ):
            async with chain_stage(simulator, {"a": "openai", "b": "anthropic"}) as stage:
                for name in ("a", "b"):
                    stage.schedule(name, then=fault)
                answer = await ask(stage, stream=stream, crossfade={"trace": True})
                assert answer.error is not None
                assert (answer.status, answer.error["type"]) == (status, kind), fault
                assert answer.error["code"] == "chain_exhausted"
                assert len(answer.extra["attempts"]) >= 2

    run(main())


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": None}, "model"),
    "no limit": ({"max_tokens": None}, "max_tokens"),
    "no messages": ({"messages": []}, "messages"),
    "a word for a number": ({"max_tokens": "many"}, "max_tokens"),
    "an option of ours": ({"crossfade": {"no_such": 1}}, "crossfade.no_such"),
    "an unknown model": ({"model": "no-such-model"}, "model"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_request_names_its_field(simulator: ProviderSimulator, what: str) -> None:
    async def main() -> None:
        fields, param = BAD[what]
        async with chain_stage(simulator, {"a": "openai"}) as stage:
            answer = await ask(stage, **fields)
            assert answer.error is not None and answer.error["param"] == param
            assert answer.status == (404 if what == "an unknown model" else 400)
            assert stage.calls("a") == [0]

    run(main())


def test_what_the_door_refuses_is_in_the_callers_envelope(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai"}) as stage:
            response = await post(stage, b"{}", headers={"content-type": "text/plain"})
            assert response.status_code == 415
            assert error_of(response.json()) == {
                "type": "invalid_request_error",
                "message": "The body must be `application/json`.",
                "code": "unsupported_media_type",
            }
            response = await post(stage, b"{}", "/v1/messages/batches")
            assert response.status_code == 404 and error_of(response.json())["type"] == "not_found_error"
            response = await post(stage, b'{"model": "chat", ')
            assert response.status_code == 400 and error_of(response.json())["type"] == "invalid_request_error"

    run(main())


def test_a_gateway_key_comes_either_way(simulator: ProviderSimulator) -> None:
    key = "cf-0123456789abcdef0123456789abcdef"

    async def main() -> None:
        hashed = hashlib.sha256(key.encode()).hexdigest()
        tail = f"gateway_keys: [{{name: web, hash: 'sha256:{hashed}'}}]"
        async with chain_stage(simulator, {"a": "anthropic"}, tail=tail) as stage:
            for headers in ({"x-api-key": key}, {"x-api-key": "", "authorization": f"Bearer {key}"}):
                answer = await ask(stage, headers=headers)
                assert answer.text == TEXT and stage.record.last.key == "web"
                assert key not in str(stage.counts("a")["requests"][-1]["headers"])
            answer = await ask(stage, headers={"x-api-key": "cf-other"})
            assert answer.error is not None and (answer.status, answer.error["type"]) == (401, "authentication_error")

    run(main())


# --- ours ----------------------------------------------------------------------------------------------------


def test_our_own_fields_and_headers_are_read_as_everywhere(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai", "b": "anthropic", "c": "gemini"}) as stage:
            last = f"{stage.mark}c/gemini-3.8-flash"
            stage.schedule("a", then="503")
            answer = await ask(stage, fallback_models=[last], crossfade={"trace": True, "tags": ["t"]})
            assert answer.text == TEXT and stage.record.last.served == last and stage.record.last.tags == ("t",)
            assert [entry["target"] for entry in answer.extra["attempts"]][-1] == last
            answer = await ask(stage, stream=True, crossfade={"trace": True})
            assert answer.text == TEXT and answer.extra["attempts"]
            answer = await ask(stage, headers={"x-crossfade-fallback-models": last})
            assert stage.record.last.served == last
            answer = await ask(stage, model=None, headers={"x-crossfade-route": "chat"})
            assert answer.text == TEXT
            answer = await ask(stage, fallback_on=["timeout"])
            assert answer.error is not None and answer.status == 503
            assert all("crossfade" not in seen["body"] for seen in stage.counts("b")["requests"])

    run(main())


def often_alive(route: Route) -> Route:
    stream = msgspec.structs.replace(route.policy.stream, keep_alive=0.1)
    return msgspec.structs.replace(route, policy=msgspec.structs.replace(route.policy, stream=stream))


def test_a_silent_stream_is_kept_alive_by_pings(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        script = [EVENT_STREAM, 0.5, chunk({"role": "assistant", "content": "Hi"}), chunk(None, "stop"), DONE]
        raw = RawProvider()
        async with (
            raw.serving(script),
            chain_stage(simulator, {"a": "openai"}, "", more={"a": raw.yaml}, tune=often_alive) as stage,
        ):
            answer = await ask(stage, stream=True)
            assert answer.text == "Hi" and answer.raw.startswith(b'event: ping\ndata: {"type": "ping"}\n\n')

    run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_of_the_model_is_text_with_its_stop_reason(simulator: ProviderSimulator, stream: bool) -> None:
    async def main() -> None:
        for dialect in DIALECTS:
            async with chain_stage(simulator, {"a": dialect}) as stage:
                stage.schedule("a", then="filter")
                answer = await ask(stage, stream=stream)
                assert answer.stop_reason == "refusal" and answer.error is None, dialect
                if dialect == "openai":
                    stage.schedule("a", then="refusal")
                    answer = await ask(stage, stream=stream)
                    assert answer.stop_reason == "refusal" and answer.text and kinds(answer) == ["text"]

    run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_sequence_is_said_where_the_provider_says_it(simulator: ProviderSimulator, stream: bool) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "anthropic", "b": "openai"}) as stage:
            word = TEXT.split()[20]
            answer = await ask(stage, stream=stream, stop_sequences=[word])
            assert answer.text == TEXT[: TEXT.index(word)] and answer.stop_reason == "stop_sequence"
            assert f'"stop_sequence":"{word}"'.encode() in answer.raw
            assert stage.counts("a")["requests"][-1]["body"].get("stream", False) is stream, "it would be lost"

    run(main())


# --- what the gateway answers by itself ----------------------------------------------------------------------


def test_tokens_are_counted_without_asking_anyone(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "anthropic"}) as stage:
            path = "/v1/messages/count_tokens"
            body: dict[str, Any] = {"model": "chat", "messages": says("word " * 400)}
            small = (await post(stage, body, path)).json()
            assert small.keys() == {"input_tokens"} and 400 <= small["input_tokens"] <= 600
            body["messages"].append(
                {"role": "user", "content": [{**IMAGE, "source": {**IMAGE["source"], "data": "A" * 99_999}}]}
            )
            with_image = (await post(stage, body, path)).json()
            assert small["input_tokens"] < with_image["input_tokens"] < small["input_tokens"] + 100, "base64 is no text"
            bad = await post(stage, {**body, "model": "no-such-model"}, path)
            assert bad.status_code == 404 and error_of(bad.json())["type"] == "not_found_error"
            bad = await post(stage, {"model": "chat"}, path)
            assert bad.status_code == 400 and error_of(bad.json())["param"] == "messages"
            assert (await post(stage, body, "/messages/count_tokens")).status_code == 200
            assert stage.calls("a") == [0] and stage.record.ended == []

    run(main())


def test_the_caller_leaves_and_the_upstream_call_ends(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        raw = RawProvider()
        async with (
            raw.serving([EVENT_STREAM, chunk({"role": "assistant", "content": "Hi"}), HANG]),
            chain_stage(simulator, {"a": "openai"}, "", more={"a": raw.yaml}) as stage,
        ):
            body = {"model": "chat", "max_tokens": 9, "messages": says("x"), "stream": True}
            async with httpx2.AsyncClient(trust_env=False) as client:
                async with client.stream("POST", f"{stage.url}/v1/messages", json=body) as response:
                    async for line in response.aiter_lines():
                        if "Hi" in line:
                            break
            await until(lambda: bool(stage.record.ended))
            assert stage.record.last.error == R.CANCELLED

    run(main())


def test_an_answer_that_is_no_json_object_of_a_call_stays_readable(simulator: ProviderSimulator) -> None:
    """Calls of hosted tools are not judged; whatever their arguments are, the caller can read the answer."""

    async def main() -> None:
        call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        script = [JSON_BODY, json.dumps({"id": "x", "model": "m", "created": 1, "choices": [choice]}).encode()]
        raw = RawProvider()
        async with raw.serving(script), chain_stage(simulator, {"a": "openai"}, "", more={"a": raw.yaml}) as stage:
            answer = await ask(stage, tools=[WEATHER])
            assert answer.calls == [("weather", {})] and answer.stop_reason == "tool_use"

    run(main())


def event(body: dict[str, Any]) -> bytes:
    """One event of an Anthropic stream."""
    return f"event: {body['type']}\ndata: {json.dumps(body)}\n\n".encode()


COUNTS = {"input_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1}
START = event(
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": COUNTS,
        },
    }
)


def test_a_long_call_of_a_passed_stream_is_held_by_its_content_and_not_by_its_envelopes(
    simulator: ProviderSimulator,
) -> None:
    """5 MB of events with 120 kB of arguments: what is put together meanwhile leaves among events that pass."""

    async def main() -> None:
        city = "a town of many names " * 6000
        arguments = json.dumps({"city": city, "days": 3})
        call = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
        pieces = [arguments[i : i + 3] for i in range(0, len(arguments), 3)]
        deltas = [
            event({"type": "content_block_delta", "index": 1,
                   "delta": {"type": "input_json_delta", "partial_json": piece}})
            for piece in pieces
        ]  # fmt: skip
        events = [
            START,
            event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Well"}}),
            event({"type": "content_block_stop", "index": 0}),
            event({"type": "content_block_start", "index": 1, "content_block": call}),
            *[b"".join(deltas[i : i + 200]) for i in range(0, len(deltas), 200)],
            event({"type": "content_block_stop", "index": 1}),
            event({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
                   "usage": {**COUNTS, "output_tokens": 30_000}}),
            event({"type": "message_stop"}),
        ]  # fmt: skip
        assert sum(map(len, events)) > 5 * 1024 * 1024
        raw = RawProvider()
        async with (
            raw.serving([EVENT_STREAM, *events]),
            chain_stage(simulator, {"a": "anthropic"}, "", more={"a": raw.yaml}) as stage,
        ):
            answer = await ask(stage, stream=True, tools=[WEATHER])
            assert answer.calls == [("weather", {"city": city, "days": 3})] and answer.call_ids == ["toolu_1"]
            assert kinds(answer) == ["text", "tool_use"] and answer.usage["output_tokens"] == 30_000
            assert len(answer.raw) < 1024 * 1024, "the pieces were put together"

    run(main())


def test_a_cut_in_a_passed_stream_leaves_no_half_event(simulator: ProviderSimulator) -> None:
    """The upstream broke off within an event: what left before it is whole events, and the rest comes from another."""

    async def main() -> None:
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        words = [f"{word} " for word in TEXT.split(" ")[:30]]
        deltas = [
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in words
        ]
        events = [START, event(block), *map(event, deltas)]
        script: list[Any] = [EVENT_STREAM, *events[:-1], events[-1][:60], CUT]
        raw = RawProvider()
        chain = {"a": "anthropic", "b": "openai"}
        async with raw.serving(script), chain_stage(simulator, chain, more={"a": raw.yaml}) as stage:
            answer = await ask(stage, stream=True)
            assert answer.text == TEXT and kinds(answer) == ["text"] and answer.id == "msg_1"
            assert answer.usage["output_tokens"] > 1
            assert len(re.findall(rb"event: message_start", answer.raw)) == 1

    run(main())
