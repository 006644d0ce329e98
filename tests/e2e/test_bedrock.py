"""Bedrock end to end: callers of all dialects, fallback from it and to it, keys and signatures."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import anthropic
import httpx2
import msgspec
import openai
import pytest

from crossfade.core.credential import AwsKeys
from crossfade.core.failure import FailureReason as R
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e import messages
from tests.e2e.harness import MESSAGES, PROMPT, QUICK, TEXT, Stage, chain_stage, check_usage, run
from tests.e2e.test_dialects import asked, check

KEYS = AwsKeys("AKIDEXAMPLE0000000", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "a+session/token==")


# --- callers -------------------------------------------------------------------------------------------------

ORDERS = [
    ("bedrock", "openai"),
    ("openai", "bedrock"),
    ("gemini", "bedrock"),
    ("bedrock-claude", "openai"),
    ("openai", "bedrock-claude"),
    ("bedrock", "bedrock-claude"),
    ("bedrock-claude", "bedrock"),
]


@pytest.mark.parametrize("mode", ["buffered", "assembled", "streamed"])
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_chat_callers_get_the_same_from_either(simulator: ProviderSimulator, order: tuple[str, str], mode: str) -> None:
    """Images, tools, parallel calls, a JSON Schema and thinking, of the first target and after a fallback."""

    async def main() -> None:
        upstream = "" if mode == "streamed" else f", stream_upstream: {'true' if mode == 'assembled' else 'false'}"
        chain = dict(zip("ab", order, strict=True))
        async with chain_stage(simulator, chain, QUICK + upstream) as stage:
            for what, broken in itertools.product(("image", "tools", "parallel", "json", "thinking"), (False, True)):
                stage.forget_health()
                if broken:
                    stage.schedule("a", "503")
                answer = await stage.ask(stream=mode == "streamed", **asked(what))
                check(what, answer)
                assert answer.model
                assert answer.headers["x-crossfade-provider"] == stage.mark + ("b" if broken else "a")

    run(main())


def messages_sdk(stage: Stage) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=stage.url, api_key="unused", max_retries=0)


ASKED: dict[str, Any] = {"model": "chat", "max_tokens": 300, "messages": MESSAGES}


@pytest.mark.parametrize("dialect", ["bedrock", "bedrock-claude"])
def test_messages_callers_with_anthropics_own_sdk(simulator: ProviderSimulator, dialect: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "anthropic", "b": dialect}) as stage, messages_sdk(stage) as client:
            stage.schedule("a", then="529")
            message = await client.messages.create(**ASKED)
            assert message.content[0].type == "text" and message.content[0].text == TEXT
            assert message.stop_reason == "end_turn" and message.usage.output_tokens > 0
            async with client.messages.stream(**ASKED) as stream:
                final = await stream.get_final_message()
            assert final.content[0].type == "text" and final.content[0].text == TEXT
            assert final.stop_reason == "end_turn" and final.usage.output_tokens > 0

    run(main())


@pytest.mark.parametrize("mode", ["buffered", "assembled", "streamed"])
@pytest.mark.parametrize("dialect", ["bedrock", "bedrock-claude"])
def test_messages_callers_are_answered_in_their_own_form(simulator: ProviderSimulator, dialect: str, mode: str) -> None:
    """`messages.ask` checks each rule of the form. Signatures come through from Claude itself alone."""

    async def main() -> None:
        upstream = "" if mode == "streamed" else f", stream_upstream: {'true' if mode == 'assembled' else 'false'}"
        async with chain_stage(simulator, {"a": dialect, "b": "anthropic"}, QUICK + upstream) as stage:
            stream = mode == "streamed"
            answer = await messages.ask(stage, stream=stream, tools=[messages.WEATHER], tool_choice={"type": "any"})
            assert answer.calls == [("weather", {"city": "text", "days": 1})] and answer.stop_reason == "tool_use"
            assert answer.model == stage.counts("a")["requests"][-1]["model"]
            seen = [{"role": "user", "content": [{"type": "text", "text": PROMPT}, messages.IMAGE]}]
            assert (await messages.ask(stage, stream=stream, messages=seen)).text == f"Saw 1 image. {TEXT}"
            answer = await messages.ask(stage, stream=stream, output_config=messages.FORMAT)
            assert json.loads(answer.text) == {"name": "text", "age": 1}
            asked_for = [{"role": "user", "content": f"{PROMPT} [[think]]"}]
            answer = await messages.ask(stage, stream=stream, messages=asked_for)
            assert answer.thinking and answer.text == TEXT
            assert bool(answer.blocks[0]["signature"]) == (dialect == "bedrock-claude" and mode != "assembled")
            assert stage.calls("b") == [0]
            if stream:
                stage.schedule("a", "cut@middle")
                answer = await messages.ask(stage, stream=True)
                assert answer.text == TEXT and len(answer.extra["joined"]) == 1

    run(main())


def test_messages_pass_to_claude_on_bedrock_as_they_came(simulator: ProviderSimulator) -> None:
    """Body and stream: nothing is translated, and what Anthropic's header says stands in the body."""

    async def main() -> None:
        async with chain_stage(simulator, {"a": "bedrock-claude"}) as stage, messages_sdk(stage) as client:
            odd: dict[str, Any] = {"metadata": {"user_id": "u-1"}}
            fields = {
                **ASKED,
                "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            }
            stream = await client.beta.messages.create(stream=True, betas=["context-1m-2025-08-07"], **fields, **odd)
            kinds = [event.type async for event in stream]
            assert kinds[0] == "message_start" and kinds[-1] == "message_stop" and "ping" not in kinds[2:]
            (seen,) = stage.counts("a")["requests"]
            assert seen["path"].endswith("/invoke-with-response-stream") and "%3A0/" in seen["path"]
            assert seen["body"] == {
                **{name: value for name, value in fields.items() if name != "model"},
                **odd,
                "anthropic_version": "bedrock-2023-05-31",
                "anthropic_beta": ["context-1m-2025-08-07"],
            }
            assert "anthropic-beta" not in seen["headers"] and "anthropic-version" not in seen["headers"]

    run(main())


@pytest.mark.parametrize("dialect", ["bedrock", "bedrock-claude"])
def test_responses_callers(simulator: ProviderSimulator, dialect: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai", "b": dialect}) as stage:
            stage.schedule("a", then="500")
            asked_for: dict[str, Any] = {"model": "chat", "input": MESSAGES[0]["content"]}
            whole = await stage.client.responses.create(**asked_for)
            assert whole.output_text == TEXT and whole.status == "completed"
            events = [event async for event in await stage.client.responses.create(stream=True, **asked_for)]
            assert events[-1].type == "response.completed" and events[-1].response.output_text == TEXT

    run(main())


@pytest.mark.parametrize("order", [("bedrock", "openai"), ("bedrock-claude", "openai"), ("openai", "bedrock")])
def test_a_cut_stream_is_joined(simulator: ProviderSimulator, order: tuple[str, str]) -> None:
    async def main() -> None:
        async with chain_stage(simulator, dict(zip("ab", order, strict=True))) as stage:
            stage.schedule("a", "cut@middle")
            answer = await stage.ask(stream=True)
            assert answer.text == TEXT and answer.finishes == ["stop"]
            assert len(answer.extra["joined"]) == 1 and stage.record.last.joined == 1
            check_usage(answer)

    run(main())


@pytest.mark.parametrize("dialect", ["bedrock", "bedrock-claude"])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("429", R.RATE_LIMIT),
        ("quota", R.QUOTA_EXHAUSTED),
        ("503", R.OVERLOADED),
        ("408", R.SERVER_ERROR),
        ("context", R.CONTEXT_OVERFLOW),
        ("404", R.MODEL_UNAVAILABLE),
    ],
)
def test_an_exception_in_a_stream_has_the_reason_of_its_type(
    simulator: ProviderSimulator, dialect: str, error: str, reason: R
) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": dialect, "b": "openai"}) as stage:
            stage.schedule("a", then=f"error_event@start; error={error}")
            answer = await stage.ask(stream=True)
            assert answer.text == TEXT
            calls = stage.record.reasons()  # a server error is tried again once
            assert {*calls[:-1]} == {(f"{stage.mark}a", reason)} and calls[-1] == (f"{stage.mark}b", None)

    run(main())


# --- proof ---------------------------------------------------------------------------------------------------


def test_an_api_key_is_sent_as_a_bearer_token(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        more = dict.fromkeys("ab", "api_keys: [env:BEDROCK_KEY]")
        chain = {"a": "bedrock", "b": "bedrock-claude"}
        async with chain_stage(simulator, chain, more=more, environ={"BEDROCK_KEY": "bedrock-api-key-1"}) as stage:
            stage.schedule("a", "503")
            await stage.ask()
            for name in "ab":
                (seen,) = stage.counts(name)["requests"]
                assert seen["headers"]["authorization"] == "Bearer bedrock-api-key-1"
                assert "x-amz-date" not in seen["headers"]

    run(main())


def check_signature(seen: dict[str, Any], body: bytes, secret: str) -> list[str]:
    """Computes the signature of a request that arrived by AWS's description, from what arrived and nothing else. Gives
    the credential's scope."""
    headers = seen["headers"]
    fields = dict(part.split("=", 1) for part in headers["authorization"].removeprefix("AWS4-HMAC-SHA256 ").split(", "))
    names = fields["SignedHeaders"].split(";")
    _, *scope = fields["Credential"].split("/")
    lines = ["POST", quote(seen["path"], safe="/~"), ""]
    lines += [f"{name}:{' '.join(headers[name].split())}" for name in names]
    lines += ["", fields["SignedHeaders"], hashlib.sha256(body).hexdigest()]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    to_sign = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], "/".join(scope), digest])
    key = ("AWS4" + secret).encode()
    for part in scope:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    assert fields["Signature"] == hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    assert {"host", "x-amz-date", "x-amz-security-token", "content-type"} <= set(names)
    return scope


def give_keys(stage: Stage, name: str, keys: AwsKeys, region: str) -> None:
    """What configuration makes of an account's keys: the secret of the upstream, and the region."""
    upstream = stage.gateway.engine.upstreams.first_of(stage.mark + name)
    upstream.secret = keys
    provider: Any = upstream.provider
    provider.vendor = msgspec.structs.replace(provider.vendor, aws_region=region)


@pytest.mark.parametrize("stream", [False, True], ids=["buffered", "streamed"])
@pytest.mark.parametrize("dialect", ["bedrock", "bedrock-claude"])
def test_keys_of_an_account_sign_the_request_that_is_sent(
    simulator: ProviderSimulator, dialect: str, stream: bool
) -> None:
    """Base path, port and encoded model id are signed as they are on the wire; the time is now."""

    async def main() -> None:
        async with chain_stage(simulator, {"a": dialect}, f"{QUICK}, stream_upstream: false") as stage:
            give_keys(stage, "a", KEYS, "eu-central-1")
            answer = await stage.ask(stream=stream)
            assert answer.text == TEXT
            (seen,) = stage.counts("a")["requests"]
            # The simulator tells paths without the part that tells its providers apart.
            seen["path"] = f"/p/{stage.mark}a{seen['path']}"
            day, *scope = check_signature(seen, msgspec.json.encode(seen["body"]), KEYS.secret_access_key)
            assert scope == ["eu-central-1", "bedrock", "aws4_request"]
            sent_at = datetime.strptime(seen["headers"]["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            assert seen["headers"]["x-amz-date"].startswith(day)
            assert abs((datetime.now(UTC) - sent_at).total_seconds()) < 300
            assert seen["headers"]["x-amz-security-token"] == KEYS.session_token
            assert not any(KEYS.secret_access_key in str(value) for value in seen["headers"].values())

    run(main())


def test_a_retry_is_signed_anew_and_a_fallback_is_not_signed(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "bedrock", "b": "openai"}) as stage:
            give_keys(stage, "a", KEYS, "us-east-1")
            stage.schedule("a", then="500")
            await stage.ask()
            first, second = stage.counts("a")["requests"]
            for seen in (first, second):
                seen["path"] = f"/p/{stage.mark}a{seen['path']}"
                check_signature(seen, msgspec.json.encode(seen["body"]), KEYS.secret_access_key)
            (other,) = stage.counts("b")["requests"]
            assert "authorization" not in other["headers"] and "x-amz-date" not in other["headers"]

    run(main())


def test_the_simulator_refuses_what_is_no_signature(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with httpx2.AsyncClient(trust_env=False) as client:
            for said in ("AWS4-HMAC-SHA256 Credential=x", "AWS4-HMAC-SHA256"):
                url = f"{simulator.base_url('bedrock')}/model/m/converse"
                response = await client.post(url, json={"messages": []}, headers={"authorization": said})
                assert response.status_code == 403
                assert response.headers["x-amzn-errortype"].startswith("IncompleteSignatureException:")

    run(main())


def test_keys_without_a_region_are_told_of_before_any_call(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "bedrock"}) as stage:
            give_keys(stage, "a", KEYS, "")
            with pytest.raises(openai.BadRequestError, match="region"):
                await stage.ask()
            assert stage.calls("a") == [0]

    run(main())


@pytest.mark.parametrize("dialect", ["bedrock", "bedrock-claude"])
def test_no_part_of_the_keys_is_in_errors_or_on_record(simulator: ProviderSimulator, dialect: str) -> None:
    """AWS answers a wrong signature with the text that should have been signed, token and all."""

    async def main() -> None:
        async with chain_stage(simulator, {"a": dialect}) as stage:
            give_keys(stage, "a", KEYS, "us-east-1")
            said = (
                f"The Canonical String should have been x-amz-security-token:{KEYS.session_token} {KEYS.access_key_id}"
            )
            stage.schedule("a", then={"kind": "400", "message": f"{said} {KEYS.secret_access_key}"})
            with pytest.raises(openai.APIStatusError) as caught:
                await stage.ask()
            shown = f"{caught.value} {msgspec.json.encode(stage.record.last).decode()} {stage.record.told}"
            for part in (KEYS.access_key_id, KEYS.secret_access_key, KEYS.session_token):
                assert part is not None and part not in shown and part[:12] not in shown
            assert "Canonical String" in str(caught.value)

    run(main())
