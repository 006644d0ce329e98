"""What is nobody's to mend comes back as it is, at once and from one target; what every target failed at comes back as
one honest error."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import openai
import pytest

from crossfade.core.events import RungDefective, TargetEjected
from crossfade.core.failure import FailureReason as R
from crossfade.core.policy import BreakerPolicy, HealthPolicy
from crossfade.engine.targets import Upstream
from crossfade.simulator.thread import ProviderSimulator
from crossfade.wire.sse import SSE
from tests.e2e.harness import (
    DONE,
    EVENT_STREAM,
    JSON_BODY,
    MESSAGES,
    QUICK,
    TEXT,
    RawProvider,
    Stage,
    chain_stage,
    chunk,
    run,
)

THREE = {"a": "openai", "b": "anthropic", "c": "gemini"}
MODES = ("buffered", "assembled", "streamed")


def route(mode: str) -> str:
    return QUICK if mode == "streamed" else f"{QUICK}, stream_upstream: {'true' if mode == 'assembled' else 'false'}"


async def refused(stage: Stage, **fields: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        await stage.ask(**fields)
    error = caught.value
    body: Any = error.body
    assert {"message", "type", "param", "code"} == set(body) and body["message"], "not OpenAI's envelope"
    assert error.response.headers["x-request-id"]
    return error


# --- the first target's word ---------------------------------------------------------------------------------

FIRST = {
    "400": (400, R.INVALID_REQUEST, openai.BadRequestError),
    "413": (413, R.INVALID_REQUEST, openai.APIStatusError),
    "422": (422, R.INVALID_REQUEST, openai.APIStatusError),
    "status; status=418": (418, R.INVALID_REQUEST, openai.APIStatusError),
    "401": (502, R.AUTH_ERROR, openai.InternalServerError),
    "403": (502, R.AUTH_ERROR, openai.InternalServerError),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", FIRST)
def test_the_first_target_s_refusal_is_the_answer(simulator: ProviderSimulator, fault: str, mode: str) -> None:
    async def main() -> None:
        status, reason, kind = FIRST[fault]
        for dialect in ("openai", "responses", "anthropic", "gemini"):
            async with chain_stage(simulator, {"a": dialect, "b": "openai"}, route(mode)) as stage:
                stage.schedule("a", then=fault)
                error = await refused(stage, stream=mode == "streamed")
                assert isinstance(error, kind) and error.status_code == status, dialect
                assert stage.calls("a", "b") == [1, 0], dialect
                row = stage.record.last
                assert (row.status, row.served, row.fallbacks) == (status, None, 0)
                assert [a.reason for a in row.attempts] == [reason]
                assert error.response.headers["x-should-retry"] == "false"
                if reason is R.AUTH_ERROR:
                    assert error.code == "upstream_auth_error" and stage.record.told_of(TargetEjected)
                    # The key is known to be bad from now on: later requests go past it.
                    assert (await stage.ask(stream=mode == "streamed")).text == TEXT
                    assert stage.calls("a", "b") == [1, 1]

    run(main())


@pytest.mark.parametrize("mode", MODES)
def test_a_blocked_prompt_is_the_answer(simulator: ProviderSimulator, mode: str) -> None:
    """OpenAI refuses with a 400, Anthropic and Gemini in the answer; no other provider sees the prompt."""

    async def main() -> None:
        for dialect in ("openai", "responses", "anthropic", "gemini"):
            async with chain_stage(simulator, {"a": dialect, "b": "openai"}, route(mode)) as stage:
                stage.schedule("a", then="content_filter")
                if dialect in ("openai", "responses"):
                    error = await refused(stage, stream=mode == "streamed")
                    assert error.status_code == 400 and error.code == "content_filter"
                else:
                    answer = await stage.ask(stream=mode == "streamed")
                    assert answer.finishes == ["content_filter"], dialect
                    assert answer.text == "" or TEXT.startswith(answer.text) or answer.refusal
                assert stage.calls("a", "b") == [1, 0]
                extra = {"fallback_on": ["default", "content_filter"], "crossfade": {"commit": "complete"}}
                answer = await stage.ask(stream=mode == "streamed", extra_body=extra)
                assert answer.text == TEXT and stage.calls("b") == [1]

    run(main())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("error", ["400", "401"])
def test_an_error_in_a_200_that_does_not_fall_back_is_an_error(
    simulator: ProviderSimulator, error: str, mode: str
) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai", "b": "openai"}, route(mode)) as stage:
            stage.schedule("a", then=f"error_in_200; error={error}")
            caught = await refused(stage, stream=mode == "streamed")
            assert caught.status_code >= 400 and stage.calls("a", "b") == [1, 0]
            assert stage.record.last.served is None

    run(main())


FILTERED: dict[str, Any] = {
    "error": {"message": "The response was filtered.", "type": None, "param": "prompt", "code": "content_filter"}
}


@pytest.mark.parametrize("mode", ["body", "first event", "in mid-stream"])
def test_a_filter_s_error_in_a_200_is_no_answer(simulator: ProviderSimulator, mode: str) -> None:
    """However harmless the reason: there is nothing that could be delivered as it was received."""

    async def main() -> None:
        event = b"data: " + msgspec.json.encode(FILTERED) + b"\n\n"
        script: list[Any] = [JSON_BODY, msgspec.json.encode(FILTERED)]
        if mode != "body":
            text = [chunk({"content": "Otters"})] if mode == "in mid-stream" else []
            script = [EVENT_STREAM, *text, event, DONE]
        raw = RawProvider()
        async with (
            raw.serving(script),
            chain_stage(simulator, {"a": "openai", "b": "openai"}, more={"a": raw.yaml}) as stage,
        ):
            with pytest.raises(openai.APIError):
                await stage.ask(stream=mode != "body")
            row = stage.record.last
            assert row.in_band_error == (mode == "in mid-stream") and row.served is None
            assert [a.reason for a in row.attempts] == [R.CONTENT_FILTER] and stage.calls("b") == [0]
            extra = {"fallback_on": ["default", "content_filter"], "crossfade": {"commit": "complete"}}
            assert (await stage.ask(stream=mode != "body", extra_body=extra)).text == TEXT

    run(main())


# --- a later rung's word -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", ["400", "401", "403", "404", "413", "422", "status; status=418"])
def test_a_later_rung_s_refusal_is_its_own_defect(simulator: ProviderSimulator, fault: str, mode: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE, route(mode)) as stage:
            stage.schedule("a", then="503")
            stage.schedule("b", then=fault)
            answer = await stage.ask(stream=mode == "streamed")
            assert answer.text == TEXT and stage.calls("a", "b", "c") == [1, 1, 1]
            defects = stage.record.told_of(RungDefective)
            assert [(d.target, d.reason) for d in defects] == [
                (stage.record.last.attempts[1].target, stage.record.last.attempts[1].reason)
            ]

    run(main())


def test_what_one_dialect_cannot_say_is_that_rung_s_defect_too(simulator: ProviderSimulator) -> None:
    """Two answers at once are nothing Anthropic can be asked for."""

    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai", "b": "anthropic", "c": "openai:gpt-x"}) as stage:
            stage.schedule("a", then="503")
            for stream in (False, True):
                answer = await stage.ask(stream=stream, n=2)
                assert answer.text == TEXT
                assert [c for c in stage.calls("b", "c") if c], "nobody answered"

    run(main())


# --- all of them ---------------------------------------------------------------------------------------------

ALL_DOWN: dict[str, tuple[tuple[str, str, str], int]] = {
    "server errors": (("500", "502", "500"), 502),
    "all limited": (("429; retry_after=30", "429; retry_after=60", "quota"), 429),
    "all silent": (("silence", "silence", "comments_only; seconds=0.2"), 504),
    "one may be back": (("500", "429; retry_after=30", "500"), 503),
    "overloaded": (("503", "529", "503"), 503),
    "all say no": (("context", "context", "context"), 400),
    "broken": (("cut@start", "html", "garbage"), 502),
}


@pytest.mark.parametrize("mode", ["buffered", "streamed"])
@pytest.mark.parametrize("what", ALL_DOWN)
def test_all_down_is_one_error_that_names_every_rung(simulator: ProviderSimulator, what: str, mode: str) -> None:
    async def main() -> None:
        faults, status = ALL_DOWN[what]
        short = QUICK.replace("2s", "500ms") + ", retry: {max_wait: 0s, delay: 10ms}"
        async with chain_stage(simulator, THREE, short) as stage:
            for name, fault in zip("abc", faults, strict=True):
                stage.schedule(name, then=fault)
            error = await refused(stage, stream=mode == "streamed")
            assert error.status_code == status, str(error)
            assert error.code == "chain_exhausted"
            message = str(error.body["message"])  # type: ignore[index]  # checked by `refused`
            assert message.startswith("All 3 targets of route 'chat' failed: ")
            places = [message.find(f"{stage.mark}{name}/") for name in "abc"]
            assert -1 not in places and places == sorted(places)
            assert "sk-" not in message and "otters" not in message
            headers = error.response.headers
            assert headers["x-should-retry"] == "false" and headers["x-crossfade-fallbacks"] == "2"
            assert ("retry-after" in headers) == (status in (429, 503))
            row = stage.record.last
            assert (row.status, row.error, row.served) == (status, "chain_exhausted", None)
            assert {a.target.partition("/")[0][-1] for a in row.attempts} == set("abc")

    run(main())


def test_when_all_breakers_are_open_errors_come_at_once_and_upstream_hears_little(
    simulator: ProviderSimulator,
) -> None:
    """Trials before their time are paid by the route's retry budget: a share of its requests and some a second."""

    async def main() -> None:
        health = HealthPolicy(breaker=BreakerPolicy(consecutive_failures=2, open_time=30.0))
        async with chain_stage(simulator, THREE, f"{QUICK}, retry: {{delay: 0s}}", health=health) as stage:
            for name in "abc":
                stage.schedule(name, then="500")
            for _ in range(2):
                await refused(stage)
            before = sum(stage.calls("a", "b", "c"))
            began = time.monotonic()
            for _ in range(80):
                error = await refused(stage)
                row = stage.record.last
                if not any(attempt.number for attempt in row.attempts):
                    assert error.status_code == 503 and int(error.response.headers["retry-after"]) >= 1
                    assert str(error).count("breaker open") == 3
            seconds = time.monotonic() - began
            # A floor of 10 a second and one second more, a fifth of the requests, and each request's first trial.
            calls = sum(stage.calls("a", "b", "c")) - before
            first = len([row for row in stage.record.ended[2:] if any(attempt.number for attempt in row.attempts)])
            assert calls - first <= 10 + 10 * seconds + 0.2 * 82 + 1
            assert all(row.latency_s < 1.5 for row in stage.record.ended)

    run(main())


def test_an_error_behind_a_keep_alive_is_in_band(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE, f"{QUICK}, retry: {{delay: 0s}}", tune=keep_alive(0.2)) as stage:
            stage.schedule("a", then={"kind": "500", "delay": 0.4})
            for name in "bc":
                stage.schedule(name, then="500")
            response = await stage.post({"model": "chat", "messages": MESSAGES, "stream": True})
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.text.startswith(": keep-alive\n\n")
            assert "[DONE]" not in response.text and '"chain_exhausted"' in response.text
            assert response.text.count("data:") == 1
            with pytest.raises(openai.APIError, match="All 3 targets") as caught:
                await stage.ask(stream=True)
            assert caught.value.code == "chain_exhausted"
            assert stage.record.last.in_band_error

    run(main())


def keep_alive(seconds: float) -> Any:
    def tune(route: Any) -> Any:
        stream = msgspec.structs.replace(route.policy.stream, keep_alive=seconds)
        return msgspec.structs.replace(route, policy=msgspec.structs.replace(route.policy, stream=stream))

    return tune


def test_keep_alives_before_and_after_the_commit_are_no_part_of_the_answer(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        head = [EVENT_STREAM, 0.3, chunk({"role": "assistant", "content": "Otters"}), 0.3]
        raw = RawProvider()
        async with (
            raw.serving([*head, chunk({"content": " sleep."}), chunk(None, "stop"), b"data: [DONE]\n\n"]),
            chain_stage(
                simulator,
                {"a": "openai"},
                f"{QUICK}, stream_upstream: true",
                more={"a": raw.yaml},
                tune=keep_alive(0.08),
            ) as stage,
        ):
            response = await stage.post({"model": "chat", "messages": MESSAGES, "stream": True})
            before, _, after = response.text.partition('"Otters"')
            assert before.count(": keep-alive\n\n") >= 2 and after.count(": keep-alive\n\n") >= 2
            assert "x-crossfade-provider" not in response.headers, "nobody knew who would answer"
            answer = await stage.ask(stream=True)
            assert answer.text == "Otters sleep." and answer.finishes == ["stop"]
            # A buffered caller gets none.
            plain = await stage.post({"model": "chat", "messages": MESSAGES})
            assert plain.json()["choices"][0]["message"]["content"] == "Otters sleep."

    run(main())


def test_a_fault_of_ours_ends_the_request_and_no_other(simulator: ProviderSimulator) -> None:
    """An adapter that raises has met what nobody foresaw: reported, and the next target is asked. If even the answer
    cannot be written, the request ends with a 500, and the clock of the others goes on."""

    async def main() -> None:
        faults: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: faults.append(type(context["exception"]).__name__))
        async with chain_stage(simulator, {"a": "openai", "b": "anthropic"}) as stage:
            provider: Any = stage.gateway.engine.upstreams._by_provider[f"{stage.mark}a"][0].provider

            class Broken:
                dialect, vendor = provider.dialect, provider.vendor
                request, request_id = provider.request, provider.request_id

                def reader(self, facts: Any) -> Any:
                    class Reader:
                        is_complete, undecodable, framing = False, 0, SSE

                        def feed(self, data: bytes) -> Any:
                            raise KeyError("unforeseen")

                    return Reader()

                def completion(self, body: bytes, facts: Any) -> Any:
                    raise IndexError("unforeseen")

                def failure(self, *_: Any) -> Any:
                    raise ZeroDivisionError

            by_provider: Any = stage.gateway.engine.upstreams._by_provider
            upstream = by_provider[f"{stage.mark}a"][0]
            by_provider[f"{stage.mark}a"] = (
                Upstream(Broken(), upstream.endpoint, upstream.base_path, upstream.secret),
            )
            for stream in (False, True):
                assert (await stage.ask(stream=stream)).text == TEXT
                assert stage.record.reasons()[0][1] == R.MALFORMED_OUTPUT
            assert faults == ["IndexError", "KeyError"]
            stage.schedule("a", then="500")
            error = await refused(stage)
            assert error.status_code == 500 and error.code == "internal_error"
            assert faults[2:] == ["ZeroDivisionError"] and not stage.gateway.engine.runners
            assert stage.record.last.attempts[0].reason == R.INTERNAL_ERROR

    run(main())
