"""The request contract over real sockets: names, chains, `fallback_on`, the `crossfade` object, headers, refusals."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from crossfade.core.failure import FailureReason as R
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import (
    CUT,
    EVENT_STREAM,
    JSON_SCHEMA,
    MESSAGES,
    PROMPT,
    QUICK,
    TEXT,
    WEATHER,
    RawProvider,
    Stage,
    chain_stage,
    chunk,
    run,
)

THREE = {"a": "openai", "b": "anthropic", "c": "gemini"}
TAIL = """
  other: {chain: ['{mark}c/gemini-3.8-flash'], match: [otter-*, 'exact/name']}
fallbacks: {"*": ['{mark}b/claude-opus-5']}
"""


async def served_by(stage: Stage, **fields: Any) -> str:
    """The short name of the provider that answers."""
    answer = await stage.ask(**fields)
    assert answer.text == TEXT
    return answer.headers["x-crossfade-provider"].removeprefix(stage.mark)


async def bad_request(stage: Stage, body: Any, status: int = 400, **fields: Any) -> dict[str, Any]:
    response = await stage.post(body, **fields)
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert sum(stage.calls("a", "b", "c")) == 0
    return error


# --- names ---------------------------------------------------------------------------------------------------


def test_model_names(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE, more={"a": "vendor: openai"}, tail=TAIL) as stage:
            assert await served_by(stage, model="chat") == "a"
            assert await served_by(stage, model="other") == "c"
            assert await served_by(stage, model="otter-9") == "c"
            assert await served_by(stage, model="exact/name") == "c"
            assert await served_by(stage, model=f"{stage.mark}b/anything") == "b"
            assert stage.counts("b")["requests"][-1]["model"] == "anything"
            assert await served_by(stage, model="gpt-5.4") == "a"
            chain = f"{stage.mark}a/x, {stage.mark}b/y,{stage.mark}c/z"
            stage.schedule("a", "503")
            stage.schedule("b", "503")
            assert await served_by(stage, model=chain) == "c"
            stage.schedule("c", "503")  # names without a route fall back on `fallbacks`
            assert await served_by(stage, model=f"{stage.mark}c/w") == "b"
            assert stage.record.last.route == "*"

    run(main())


def test_what_an_answer_cost_is_reckoned_by_the_prices_of_the_file(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        more = {"a": "models: {gpt-5.4: {price_in: 1000, price_out: 3000}}"}
        async with chain_stage(simulator, {"a": "openai"}, more=more) as stage:
            usage = (await stage.ask()).usage
            expected = usage.prompt_tokens * 0.001 + usage.completion_tokens * 0.003
            assert stage.record.last.cost_usd == pytest.approx(expected)
            found = await stage.client.models.retrieve(f"{stage.mark}a/gpt-5.4")
            shown = (found.model_extra or {})["crossfade"]["targets"][0]
            assert (shown["usd_per_input_token"], shown["usd_per_output_token"]) == (0.001, 0.003)

    run(main())


def test_the_answer_names_the_served_model(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            stage.schedule("a", then="503")
            for stream in (False, True):
                answer = await stage.ask(stream=stream)
                assert answer.model == "claude-opus-5"
                headers = answer.headers
                assert headers["x-crossfade-model"] == "claude-opus-5"
                assert headers["x-crossfade-fallback-reason"] == R.OVERLOADED
                assert (headers["x-crossfade-attempts"], headers["x-crossfade-fallbacks"]) == ("2", "1")
                assert float(headers["x-crossfade-overhead-ms"]) < 500

    run(main())


# --- the rest of the chain -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fallback_models", "models", "fallbacks", "header", "objects"])
def test_the_caller_s_own_chain(simulator: ProviderSimulator, how: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            stage.schedule("a", then="503")
            last = f"{stage.mark}c/gemini-3.8-flash"
            fields: dict[str, Any] = {"extra_body": {how: [last]}}
            if how == "header":
                fields = {"extra_headers": {"x-crossfade-fallback-models": f"{last} , {stage.mark}b/claude-opus-5"}}
            elif how == "objects":
                fields = {"extra_body": {"fallback_models": [{"model": last, "temperature": 0.1, "top_p": None}]}}
            assert await served_by(stage, top_p=0.5, temperature=0.9, **fields) == "c"
            assert stage.calls("a", "b", "c") == [1, 0, 1]
            config = stage.counts("c")["requests"][-1]["body"]["generationConfig"]
            wanted = {"temperature": 0.1} if how == "objects" else {"temperature": 0.9, "topP": 0.5}
            assert {k: v for k, v in config.items() if k in ("temperature", "topP")} == wanted
            sent = stage.counts("a")["requests"][-1]
            assert not {"fallback_models", "models", "fallbacks", "crossfade", "fallback_on"} & set(sent["body"])
            assert not [name for name in sent["headers"] if name.startswith("x-crossfade")]

    run(main())


def test_no_chain_at_all(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE, f"{QUICK}, retry: {{delay: 0s}}") as stage:
            stage.schedule("a", then="500")
            with pytest.raises(openai.InternalServerError, match="The only target"):
                await stage.ask(extra_body={"fallback_models": []})
            assert stage.calls("a", "b", "c") == [1, 0, 0]

    run(main())


def test_parameters_are_set_and_dropped_for_one_rung(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai", "b": "openai:gpt-x"}, QUICK, tail="") as stage:
            stage.schedule("a", then="503")
            entry = {"model": f"{stage.mark}b/gpt-x", "seed": 7, "temperature": None, "reasoning_effort": "low"}
            for stream in (False, True):
                await stage.ask(stream=stream, temperature=0.9, extra_body={"fallback_models": [entry]})
                first = stage.counts("a")["requests"][-1]["body"]
                second = stage.counts("b")["requests"][-1]["body"]
                assert first["temperature"] == 0.9 and "seed" not in first
                assert second["seed"] == 7 and second["reasoning_effort"] == "low" and "temperature" not in second
                stage.forget_health()

    run(main())


# --- fallback_on ---------------------------------------------------------------------------------------------

WORDS: list[tuple[list[str], str, bool]] = [
    (["default"], "500", True),
    (["server_error"], "500", True),
    (["server_error"], "503", True),
    (["server_error"], "reset", True),
    (["server_error"], "cut@start", True),
    (["server_error"], "404", True),
    (["server_error"], "429", False),
    (["server_error"], "silence", False),
    (["timeout"], "silence", True),
    (["timeout"], "500", False),
    (["rate_limit"], "429", True),
    (["rate_limit"], "quota", True),
    (["rate_limit"], "503", False),
    (["default", "-rate_limit"], "429", False),
    (["-timeout"], "silence", False),
    (["-timeout"], "500", True),
    (["overloaded"], "503", True),
    (["overloaded"], "500", False),
    (["default", "auth_error"], "401", True),
    (["soft"], "empty", True),
]


@pytest.mark.parametrize(("words", "fault", "falls"), WORDS, ids=str)
def test_fallback_on(simulator: ProviderSimulator, words: list[str], fault: str, falls: bool) -> None:
    async def one(stream: bool, in_header: bool) -> None:
        route = QUICK.replace("2s", "800ms") + ", retry: {delay: 0s}"
        fields: dict[str, Any] = {"extra_body": {"fallback_on": words}}
        if in_header:
            fields = {"extra_headers": {"x-crossfade-fallback-on": ", ".join(words)}}
        async with chain_stage(simulator, THREE, route) as stage:
            stage.schedule("a", then=fault)
            if falls:
                assert await served_by(stage, stream=stream, **fields) == "b"
            else:
                with pytest.raises(openai.APIStatusError):
                    await stage.ask(stream=stream, **fields)
                assert stage.calls("b", "c") == [0, 0]

    async def main() -> None:
        await asyncio.gather(*(one(stream, in_header) for stream in (False, True) for in_header in (False, True)))

    run(main())


SOFT: list[tuple[str, dict[str, Any], R]] = [
    ("empty", {}, R.EMPTY_OUTPUT),
    ("invalid_json", {"response_format": {"type": "json_object"}}, R.INVALID_JSON),
    ("invalid_json", {"response_format": JSON_SCHEMA}, R.INVALID_JSON),
    ("bad_tool_args", {"tools": [WEATHER]}, R.INVALID_TOOL_CALL),
    ("unknown_tool", {"tools": [WEATHER]}, R.INVALID_TOOL_CALL),
]


@pytest.mark.parametrize("mode", ["buffered", "assembled", "streamed"])
@pytest.mark.parametrize(("fault", "asked", "reason"), SOFT, ids=lambda value: str(value)[:20])
def test_a_soft_failure_that_is_not_listed_is_delivered_flagged(
    simulator: ProviderSimulator, fault: str, asked: dict[str, Any], reason: R, mode: str
) -> None:
    async def main() -> None:
        upstream = "" if mode == "streamed" else f", stream_upstream: {'true' if mode == 'assembled' else 'false'}"
        for dialect in ("openai", "responses", "anthropic", "gemini"):
            if fault == "bad_tool_args" and dialect == "gemini":
                continue  # its arguments are an object, which cannot be half of one
            async with chain_stage(simulator, {"a": dialect, "b": "openai"}, QUICK + upstream) as stage:
                stage.schedule("a", then=fault)
                answer = await stage.ask(
                    stream=mode == "streamed", extra_body={"fallback_on": ["server_error"]}, **asked
                )
                assert answer.headers["x-crossfade-flagged"] == reason, dialect
                assert stage.record.last.flagged == reason and stage.calls("b") == [0]
                assert len(answer.finishes) == 1

    run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_two_vendors_with_the_same_soft_failure_agree(simulator: ProviderSimulator, stream: bool) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            for name in "abc":
                stage.schedule(name, then="invalid_json")
            with pytest.raises(openai.InternalServerError) as caught:
                await stage.ask(stream=stream, response_format={"type": "json_object"})
            assert caught.value.code == "soft_agreement" and caught.value.status_code == 502
            assert stage.calls("a", "b", "c") == [1, 1, 0]

    run(main())


# --- the `crossfade` object ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "commit", ["complete", {"chars": 120}, {"seconds": 1.5}, "first_content", {"chars": 100_000}], ids=str
)
def test_commit(simulator: ProviderSimulator, commit: Any) -> None:
    """What is held is whole all the same; and what fails before the commit point is invisible."""

    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            extra = {"crossfade": {"commit": commit, "recover": "error"}}
            answer = await stage.ask(stream=True, extra_body=extra)
            assert answer.text == TEXT and answer.finishes == ["stop"]
            stage.schedule("a", "cut@first")
            if commit == "first_content":
                with pytest.raises(openai.APIError):
                    await stage.ask(stream=True, extra_body=extra)
            else:
                answer = await stage.ask(stream=True, extra_body=extra)
                assert answer.text == TEXT and answer.extra == {}
                assert answer.headers["x-crossfade-fallbacks"] == "1"

    run(main())


def test_commit_after_some_time(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            stage.schedule("a", then="ok; pace=0.02")
            stream = await stage.client.chat.completions.create(
                model="chat", messages=MESSAGES, stream=True, extra_body={"crossfade": {"commit": {"seconds": 0.5}}}
            )
            first = None
            async for chunk in stream:
                if first is None and chunk.choices and chunk.choices[0].delta.content:
                    first = stage.record.commits[-1]
                    assert not stage.record.ended, "it left long before the end"
            row = stage.record.last
            assert row.time_to_first_chunk_s is not None and 0.45 <= row.time_to_first_chunk_s < row.latency_s

    run(main())


@pytest.mark.parametrize("mode", ["buffered", "streamed"])
@pytest.mark.parametrize(
    "check",
    [{"min_chars": 1000}, {"match": "^Saw"}, {"not_match": "otters"}, {"finish": ["length"]}],
    ids=lambda check: next(iter(check)),
)
def test_validate(simulator: ProviderSimulator, check: dict[str, Any], mode: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            extra = {"crossfade": {"validate": check, "commit": "complete"}}
            stage.schedule("b", then={"kind": "ok", "text": "Saw " + "x" * 1000})
            stage.schedule("c", then="length")
            if check == {"finish": ["length"]}:
                extra["fallback_models"] = [f"{stage.mark}c/gemini-3.8-flash"]  # type: ignore[assignment]
            answer = await stage.ask(stream=mode == "streamed", extra_body=extra)
            assert stage.record.reasons()[0][1] == R.REJECTED_OUTPUT
            assert answer.text.startswith("Saw x") or answer.finishes == ["length"]
            # After the commit it is an error: what is out is out.
            if mode == "streamed":
                with pytest.raises(openai.APIError, match="rejected_output"):
                    await stage.ask(stream=True, extra_body={"crossfade": {"validate": check}})

    run(main())


def test_max_attempts_timeout_and_tags(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            for name in "abc":
                stage.schedule(name, then="503")
            with pytest.raises(openai.APIStatusError):
                await stage.ask(extra_body={"crossfade": {"max_attempts": 2, "tags": ["team:otters", "x"]}})
            assert stage.calls("a", "b", "c") == [1, 1, 0]
            assert stage.record.last.tags == ("team:otters", "x")
            stage.forget_health()
            for name in "abc":
                stage.schedule(name, then="silence")
            for fields in (
                {"extra_body": {"crossfade": {"timeout": 0.8}}},
                {"extra_headers": {"x-crossfade-timeout": "800ms", "x-crossfade-tags": "one, two"}},
            ):
                with pytest.raises(openai.InternalServerError) as caught:
                    await stage.ask(stream=True, **fields)
                assert caught.value.status_code == 504 and stage.record.last.latency_s < 1.6
            assert stage.record.last.tags == ("one", "two")
            stage.schedule("b", then="ok")
            extra = {"crossfade": {"first_content_timeout": "300ms", "attempt_timeout": 5}}
            assert await served_by(stage, stream=True, extra_body=extra) == "b"
            assert stage.record.last.latency_s < 1.5

    run(main())


def test_idle_timeout(simulator: ProviderSimulator) -> None:
    """Comments are no content."""

    async def main() -> None:
        beats: list[Any] = [item for _ in range(60) for item in (b": here\n\n", 0.1)]
        raw = RawProvider()
        async with (
            raw.serving([EVENT_STREAM, chunk({"content": TEXT[:100]}), *beats, CUT]),
            chain_stage(simulator, THREE, more={"a": raw.yaml}) as stage,
        ):
            answer = await stage.ask(stream=True, extra_body={"crossfade": {"idle_timeout": 0.5}})
            assert answer.text == TEXT
            cut = stage.record.last.attempts[0]
            assert cut.reason == R.STREAM_STALLED and cut.latency_s < 1.5

    run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_trace(simulator: ProviderSimulator, stream: bool) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            stage.schedule("a", then="500")
            stage.schedule("b", then="429")
            answer = await stage.ask(stream=stream, extra_body={"crossfade": {"trace": True}})
            attempts = answer.extra["attempts"]
            assert [(a["target"].partition("-")[2][0], a.get("reason"), a["called"]) for a in attempts] == [
                ("a", "server_error", True),
                ("a", "server_error", True),
                ("b", "rate_limit", True),
                ("c", None, True),
            ]
            assert [a["status"] for a in attempts] == [500, 500, 429, 200]
            assert all(a["latency_s"] >= 0 and a["request_id"] for a in attempts[:3])
            assert TEXT not in str(attempts) and PROMPT not in str(attempts)
            answer = await stage.ask(stream=stream, extra_body={"crossfade": {"trace": True}})
            assert [a.get("skipped") for a in answer.extra["attempts"] if not a["called"]] == ["rate_limit"]
            assert (await stage.ask(stream=stream)).extra == {}
            for name in "abc":
                stage.schedule(name, then="503")
            response = await stage.post(
                {"model": "chat", "messages": MESSAGES, "stream": stream, "crossfade": {"trace": True}}
            )
            assert response.status_code == 503
            traced = response.json()["crossfade"]["attempts"]
            assert {a["target"].partition("-")[2][0] for a in traced} == {"a", "b", "c"}

    run(main())


# --- refusals ------------------------------------------------------------------------------------------------

BAD: list[tuple[str, dict[str, Any], int, str | None]] = [
    ("unknown model", {"model": "no-such-model-anywhere"}, 404, "model"),
    ("unknown fallback", {"fallback_models": ["no-such-model-anywhere"]}, 404, "fallback_models[0]"),
    ("no model", {"model": None}, 400, "model"),
    ("unknown key", {"crossfade": {"comit": "complete"}}, 400, "crossfade.comit"),
    ("bad value", {"crossfade": {"commit": "sometimes"}}, 400, "crossfade.commit"),
    ("bad timeout", {"crossfade": {"timeout": -1}}, 400, "crossfade.timeout"),
    ("bad pattern", {"crossfade": {"validate": {"match": "("}}}, 400, "crossfade.validate"),
    ("unknown word", {"fallback_on": ["sever_error"]}, 400, "fallback_on"),
    ("word that never falls back", {"fallback_on": ["invalid_request"]}, 400, "fallback_on"),
    ("object without model", {"fallback_models": [{"temperature": 1}]}, 400, "fallback_models[0].model"),
    ("no messages", {"messages": []}, 400, "messages"),
    ("stream is no flag", {"stream": "yes"}, 400, "stream"),
    ("n", {"n": 0}, 400, "n"),
]


@pytest.mark.parametrize(("what", "fields", "status", "param"), BAD, ids=lambda value: str(value)[:24])
def test_refusals_name_the_field(
    simulator: ProviderSimulator, what: str, fields: dict[str, Any], status: int, param: str | None
) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            body = {"model": "chat", "messages": MESSAGES, **fields}
            error = await bad_request(stage, {k: v for k, v in body.items() if v is not None}, status)
            assert error["param"] == param
            assert not stage.record.ended

    run(main())


@pytest.mark.parametrize("key", ["model", "stream", "n", "crossfade", "fallback_models", "fallback_on", "messages"])
def test_duplicate_keys_of_what_decides(simulator: ProviderSimulator, key: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            values = {"model": b'"chat"', "stream": b"false", "n": b"1", "crossfade": b"{}", "messages": b"[]"}
            value = values.get(key, b"[]")
            text = b'{"model":"chat","messages":[{"role":"user","content":"x"}],"' + key.encode() + b'":' + value
            text += b',"' + key.encode() + b'":' + value + b"}"
            error = await bad_request(stage, text)
            assert key in error["message"] and error["param"] == key

    run(main())


def test_what_is_not_json_at_all(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            for body in (b"", b"{", b"[]", b"\xff\xfe{}", b"null", b'{"model": "chat", "messages": {}}'):
                await bad_request(stage, body)
            response = await stage.post(b"{}", headers={"content-type": "text/plain"})
            assert response.status_code == 415

    run(main())


def test_unknown_fields_pass_untouched(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE) as stage:
            await stage.ask(extra_body={"some_new_option": {"deep": [1, 2.50, "é"]}, "store": True})
            sent = stage.counts("a")["requests"][-1]["body"]
            assert sent["some_new_option"] == {"deep": [1, 2.5, "é"]} and sent["store"] is True

    run(main())


def test_gateway_keys_and_their_routes(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        tail = "  other: {chain: ['{mark}c/gemini-3.8-flash']}\n" + (
            "gateway_keys:\n  - {name: web, key: env:WEB_KEY}\n  - {name: bound, key: env:BOUND_KEY, route: other}\n"
        )
        keys = {"WEB_KEY": "cf-" + "w" * 40, "BOUND_KEY": "cf-" + "b" * 40}
        async with chain_stage(simulator, THREE, tail=tail, environ=keys) as stage:
            with pytest.raises(openai.AuthenticationError):
                await stage.ask()
            web = stage.client.with_options(api_key=keys["WEB_KEY"])
            assert await served_by(stage, client=web) == "a"
            assert stage.record.last.key == "web"
            bound = stage.client.with_options(api_key=keys["BOUND_KEY"])
            assert await served_by(stage, client=bound, model="whatever-the-application-says") == "c"
            for name in "ac":
                assert keys["WEB_KEY"] not in str(stage.counts(name)["requests"])

    run(main())
