"""Bedrock's two providers: addresses, proof, errors, and every recorded exchange asked and read."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.credential import AwsKeys, Secret
from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import ChatRequest, Completion, Continuation, RequestFacts, StreamEvent
from crossfade.core.failure import Failure
from crossfade.core.failure import FailureReason as R
from crossfade.core.target import Dialect, Target
from crossfade.providers.aws import TYPES, region_of
from crossfade.providers.base import Provider, ProviderRequest
from crossfade.providers.bedrock import path_of
from crossfade.providers.compatible import VENDORS
from crossfade.providers.registry import provider_for, versioned
from crossfade.wire import anthropic_request, openai_embeddings
from crossfade.wire.bedrock import FINISHES
from crossfade.wire.event_stream import write_frame
from crossfade.wire.openai_chat import read_request
from tests.providers.test_openai import target
from tests.recordings import load, names, needs_recordings
from tests.wire import bedrock_recorded as recorded
from tests.wire.anthropic_recorded import Answer as ClaudeAnswer

HOST = "bedrock-runtime.us-east-1.amazonaws.com"
AT = {"base_url": f"https://{HOST}"}
CONVERSE = provider_for(msgspec.structs.replace(VENDORS["bedrock"], **AT))
CLAUDE = provider_for(msgspec.structs.replace(VENDORS["bedrock-claude"], **AT))
BOTH = pytest.mark.parametrize("provider", [CONVERSE, CLAUDE], ids=["converse", "invoke"])

MODEL = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
KEYS = AwsKeys("AKIDEXAMPLE0000000", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session+token/with==signs")
HELLO = {"model": "chat", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}


def request(
    provider: Provider, model: str = MODEL, secret: Secret | None = None, stream: bool = False, **fields: Any
) -> ProviderRequest:
    inbound = anthropic_request.read_request(json.dumps({**HELLO, **fields}).encode(), fields.pop("headers", {}))
    return provider.request(inbound, target(model), secret, stream)


# --- addresses and proof -------------------------------------------------------------------------------------


def test_the_model_is_one_segment_of_the_path() -> None:
    asked = [request(provider, stream=stream).path for provider in (CONVERSE, CLAUDE) for stream in (False, True)]
    quoted = "/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0"
    assert asked == [
        f"{quoted}/converse",
        f"{quoted}/converse-stream",
        f"{quoted}/invoke",
        f"{quoted}/invoke-with-response-stream",
    ]
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2"
    assert request(CONVERSE, arn).path == f"/model/{arn.replace(':', '%3A').replace('/', '%2F')}/converse"


@given(st.text())
def test_a_model_name_cannot_leave_its_segment(model: str) -> None:
    if model in (".", ".."):
        with pytest.raises(InvalidRequest):
            path_of(model, "converse")
        return
    path = path_of(model, "converse")
    assert path.isascii() and path.count("/") == 3 and not set("?#\r\n ") & set(path)
    assert unquote(path.split("/")[2]) == model.encode("utf-8", "replace").decode()


@BOTH
def test_a_key_is_sent_and_a_key_pair_signs(provider: Provider) -> None:
    by_key = request(provider, secret="an-api-key")
    assert ("authorization", "Bearer an-api-key") in by_key.headers and by_key.sign is None
    by_pair = request(provider, secret=KEYS)
    assert not any(name == "authorization" for name, _ in by_pair.headers) and by_pair.sign is not None
    sent = dict(by_pair.sign(1_700_000_000.0, HOST, by_pair.path))
    assert sent["authorization"].startswith(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE0000000/20231114/us-east-1/bedrock/aws4_request,"
        " SignedHeaders=accept;content-type;host;x-amz-date;x-amz-security-token, Signature="
    )
    assert sent["x-amz-security-token"] == KEYS.session_token
    assert request(provider).sign is None and provider.credential(None) == provider.credential(KEYS) == []
    assert provider.credential("k") == [("authorization", "Bearer k")]


@BOTH
def test_without_a_region_nothing_is_signed(provider: Any) -> None:
    elsewhere = provider_for(msgspec.structs.replace(provider.vendor, base_url="https://gate.example"))
    with pytest.raises(InvalidRequest, match="region"):
        request(elsewhere, secret=KEYS)
    assert request(elsewhere, secret="key").sign is None
    there = provider_for(msgspec.structs.replace(elsewhere.vendor, aws_region="eu-west-1"))
    signed = request(there, secret=KEYS)
    assert signed.sign is not None
    assert "/eu-west-1/bedrock/" in dict(signed.sign(0.0, "gate.example", signed.path))["authorization"]


@pytest.mark.parametrize(
    ("host", "region"),
    [
        (HOST, "us-east-1"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("vpce-0a1b-2c.bedrock-runtime.ap-southeast-2.vpce.amazonaws.com", "ap-southeast-2"),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn:443", "cn-north-1"),
        ("bedrock-runtime.us-east-1.amazonaws.com.example", ""),
        ("127.0.0.1:4566", ""),
    ],
)
def test_the_host_tells_the_region(host: str, region: str) -> None:
    assert region_of(host) == region


def test_the_address_has_no_version_and_its_host_is_bedrocks() -> None:
    for name in ("bedrock", "bedrock-claude"):
        row = msgspec.structs.replace(VENDORS[name], base_url=f"https://{HOST}/")
        assert versioned(row) == f"https://{HOST}" and row.hosts[0] == "bedrock-runtime.*.amazonaws.com"


# --- what is asked -------------------------------------------------------------------------------------------


class Chat:
    """A caller of another dialect, who says what a recorded body says."""

    dialect: Dialect = "openai"
    facts = RequestFacts()

    def __init__(self, chat: ChatRequest) -> None:
        self._chat = chat

    def canonical(self) -> ChatRequest:
        return self._chat

    def body(self, *_: Any, **__: Any) -> bytes:
        raise AssertionError("the bytes of another dialect must not pass")


def target_of(name: str) -> Target:
    return msgspec.structs.replace(target(recorded.model_of(name)), set_params=recorded.set_params(asked_of(name)))


def asked_of(name: str) -> dict[str, Any]:
    body: dict[str, Any] = load(name)["request"]["body"]
    return body


def path_asked(name: str) -> str:
    return unquote(urlsplit(load(name)["request"]["url"]).path)


@needs_recordings
@pytest.mark.parametrize("name", names("bedrock", "converse"))
def test_a_recorded_chat_is_asked_as_it_was(name: str) -> None:
    given, model = asked_of(name), recorded.model_of(name)
    sent = CONVERSE.request(Chat(recorded.canonical(given)), target_of(name), "key", load(name)["stream"])
    assert unquote(sent.path) == path_asked(name)
    assert recorded.plain(json.loads(sent.body)) == recorded.losses(given, model)
    assert sent.dropped == (("response_format",) if "outputConfig" in given and "claude-3" in model else ())


@needs_recordings
@pytest.mark.parametrize("name", names("bedrock", "invoke"))
def test_a_recorded_message_is_asked_as_it_was(name: str) -> None:
    given, stream = asked_of(name), load(name)["stream"]
    callers = {**given, "model": "chat", "stream": stream}
    del callers["anthropic_version"]
    inbound = anthropic_request.read_request(json.dumps(callers).encode(), {})
    sent = CLAUDE.request(inbound, target(recorded.model_of(name)), "key", stream)
    assert unquote(sent.path) == path_asked(name)
    assert json.loads(sent.body) == given and not sent.dropped


def test_a_messages_body_keeps_the_bytes_of_its_values() -> None:
    turns = b'"messages": [ {"role":"user","content":"\\u0068i"} ]'
    body = b'{%b,"max_tokens":100,"stream":true,"model":"m","x":{"a": 1.0}}' % turns
    inbound = anthropic_request.read_request(body, {"anthropic-beta": "one, two", "anthropic-version": "2023-06-01"})
    sent = CLAUDE.request(inbound, target(MODEL), None, True)
    assert sent.body == (
        b'{"anthropic_version":"bedrock-2023-05-31","anthropic_beta":["one","two"],'
        b'"messages":[ {"role":"user","content":"\\u0068i"} ],"max_tokens":100,"x":{"a": 1.0}}'
    )
    assert [name for name, _ in sent.headers] == ["content-type", "accept"]


def test_a_version_and_betas_of_the_callers_own_stay() -> None:
    own = {"anthropic_version": "bedrock-2024-01-01", "anthropic_beta": ["mine"]}
    sent = json.loads(request(CLAUDE, headers={"anthropic-beta": "other"}, **own).body)
    assert {name: sent[name] for name in own} == own


def test_chat_callers_are_translated_for_claude() -> None:
    inbound = read_request(json.dumps({**HELLO, "n": 1, "seed": 3}).encode(), {})
    sent = CLAUDE.request(inbound, target(MODEL), None, False)
    assert json.loads(sent.body) == {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "hi"}],
    }
    assert sent.dropped == ("seed",)


@BOTH
def test_a_continuation_is_asked_for_in_turns(provider: Provider) -> None:
    rest = Continuation(text="so far", anchor="so far", prefill=True, delivered_tokens=10)
    inbound = anthropic_request.read_request(json.dumps(HELLO).encode(), {})
    body = json.loads(provider.request(inbound, target(MODEL), None, True, rest).body)
    assert body["messages"][-1]["role"] == "assistant"
    assert (body.get("max_tokens") or body["inferenceConfig"]["maxTokens"]) == 90


@BOTH
def test_embeddings_are_refused(provider: Provider) -> None:
    inbound = openai_embeddings.read_request(b'{"model":"m","input":"text"}', {})
    with pytest.raises(InvalidRequest):
        provider.request(inbound, target(MODEL), None, False)


# --- what is answered ----------------------------------------------------------------------------------------


def events_of(provider: Provider, data: bytes) -> tuple[list[StreamEvent], bool]:
    reader = provider.reader(RequestFacts(stream=True))
    assert reader.framing.media_type == "application/vnd.amazon.eventstream"
    events = [*reader.feed(data), *reader.close()]
    assert reader.undecodable == 0
    return events, reader.is_complete


def calls_of(events: list[StreamEvent]) -> list[tuple[str, str, Any]]:
    calls: dict[int, list[str]] = {}
    for event in events:
        for delta in event.tools:
            call = calls.setdefault(delta.index, ["", "", ""])
            call[0] += delta.id
            call[1] += delta.name
            call[2] += delta.arguments
    return [(one, name, json.loads(text)) for _, (one, name, text) in sorted(calls.items())]


def answers(provider: Provider, name: str) -> tuple[Any, ...]:
    """What the provider makes of a recorded answer, whole or streamed: text, reasoning, calls, the word of the end and
    its meaning, tokens, whether there is anything else."""
    data = recorded.body_of(name)
    if load(name)["stream"]:
        events, is_complete = events_of(provider, data)
        assert is_complete and not any(event.failure for event in events) and events[-1].is_end
        (last,) = [event for event in events if event.raw_finish]
        usage = [event.usage for event in events if event.usage is not None][-1]
        return (
            "".join(event.text for event in events),
            "".join(event.reasoning for event in events),
            calls_of(events),
            last.raw_finish,
            last.finish,
            (usage.prompt, usage.completion),
            any(event.has_other_content for event in events),
        )
    found = provider.completion(data, RequestFacts())
    assert isinstance(found, Completion) and found.usage is not None
    (choice,) = found.choices
    return (
        choice.text,
        choice.reasoning,
        [(call.id, call.name, json.loads(call.arguments)) for call in choice.tool_calls],
        choice.raw_finish,
        choice.finish,
        (found.usage.prompt, found.usage.completion),
        choice.has_other_content,
    )


OK_CONVERSE = [name for name in names("bedrock", "converse") if "error" not in name]
OK_INVOKE = [name for name in names("bedrock", "invoke") if "error" not in name]


@needs_recordings
@pytest.mark.parametrize("name", OK_CONVERSE)
def test_a_recorded_answer_says_what_it_says(name: str) -> None:
    wanted = recorded.answer_of(name)
    assert answers(CONVERSE, name) == (
        wanted.text,
        wanted.reasoning,
        wanted.calls,
        wanted.stop_reason,
        FINISHES[wanted.stop_reason],
        wanted.tokens,
        wanted.cites,
    )
    assert load(name)["finish_reasons"] == [wanted.stop_reason]


def claude_of(name: str) -> ClaudeAnswer:
    data = recorded.body_of(name)
    if not load(name)["stream"]:
        return ClaudeAnswer.of_body(data.decode())
    chunks = [base64.b64decode(event["bytes"]).decode() for _, event in recorded.frames(data)]
    return ClaudeAnswer.of_stream("".join(f"event: {json.loads(one)['type']}\ndata: {one}\n\n" for one in chunks))


@needs_recordings
@pytest.mark.parametrize("name", OK_INVOKE)
def test_a_recorded_message_says_what_it_says(name: str) -> None:
    wanted = claude_of(name)
    found = answers(CLAUDE, name)
    assert found[:4] == (wanted.text, wanted.reasoning, wanted.calls, wanted.stop_reason)
    assert found[5] == wanted.tokens[:2]
    assert load(name)["finish_reasons"] == [wanted.stop_reason]


@needs_recordings
@pytest.mark.parametrize("name", [name for name in OK_INVOKE if "-stream-" in name])
def test_a_recorded_stream_of_claudes_comes_out_as_anthropic_would_have_sent_it(name: str) -> None:
    events, _ = events_of(CLAUDE, recorded.body_of(name))
    assert len(events) == len(list(recorded.frames(recorded.body_of(name))))
    for event in events:
        head, data, *rest = event.raw.split(b"\n")
        assert head == b"event: " + json.loads(data.removeprefix(b"data: "))["type"].encode() and rest == [b"", b""]


# --- errors --------------------------------------------------------------------------------------------------

REASONS = {
    "context-length": R.CONTEXT_OVERFLOW,
    "invalid-request": R.INVALID_REQUEST,
    "model-not-found": R.MODEL_UNAVAILABLE,
    "auth": R.AUTH_ERROR,
    "forbidden": R.MODEL_UNAVAILABLE,
}


@needs_recordings
@pytest.mark.parametrize("name", [n for api in ("converse", "invoke") for n in names("bedrock", api) if "error" in n])
def test_recorded_errors_have_their_reasons(name: str) -> None:
    response = load(name)["response"]
    headers = {key.lower(): value for key, value in response["headers"].items()}
    failure = (CLAUDE if "/invoke" in name else CONVERSE).failure(response["status"], headers, recorded.body_of(name))
    assert failure.reason is REASONS[load(name)["case"].removeprefix("error-").split("-", 1)[1]]
    assert failure.status == response["status"]
    assert failure.code == headers.get("x-amzn-errortype", "").partition(":")[0] or "x-amzn-errortype" not in headers


CASES = [
    (429, "ThrottlingException", "Too many requests, please wait before trying again.", R.RATE_LIMIT),
    (429, "ThrottlingException", "Too many tokens, please wait before trying again.", R.RATE_LIMIT),
    (429, "ThrottlingException", "Too many tokens per day, please wait before trying again.", R.QUOTA_EXHAUSTED),
    (429, "ModelNotReadyException", "The model is not ready for inference.", R.OVERLOADED),
    (400, "ServiceQuotaExceededException", "Your request exceeds the service quota.", R.QUOTA_EXHAUSTED),
    (400, "ValidationException", "Input is too long for requested model.", R.CONTEXT_OVERFLOW),
    (400, "ValidationException", "prompt is too long: 215000 tokens > 200000 maximum", R.CONTEXT_OVERFLOW),
    (400, "ValidationException", "The provided model identifier is invalid.", R.MODEL_UNAVAILABLE),
    (400, "ValidationException", "Malformed input request: expected maxLength", R.INVALID_REQUEST),
    (400, "ValidationException", "Output blocked by content filtering policy", R.CONTENT_FILTER),
    (400, "ValidationException", "Operation not allowed", R.AUTH_ERROR),
    (403, "AccessDeniedException", "You don't have access to the model with the specified ID.", R.MODEL_UNAVAILABLE),
    (403, "AccessDeniedException", "User: arn is not authorized to perform: bedrock:InvokeModel", R.AUTH_ERROR),
    (403, "UnrecognizedClientException", "The security token included in the request is invalid.", R.AUTH_ERROR),
    (403, "ExpiredTokenException", "The security token included in the request is expired", R.AUTH_ERROR),
    (404, "ResourceNotFoundException", "This model version has reached the end of its life.", R.MODEL_UNAVAILABLE),
    (408, "ModelTimeoutException", "The model timed out.", R.SERVER_ERROR),
    (424, "ModelErrorException", "The model failed.", R.SERVER_ERROR),
    (500, "InternalServerException", "Something went wrong.", R.SERVER_ERROR),
    (503, "ServiceUnavailableException", "Try later.", R.OVERLOADED),
    (500, "ThrottlingException", "Too many requests", R.SERVER_ERROR),  # a 5xx is never the caller's fault, nor a limit
    (418, "NewException", "A new kind.", R.INVALID_REQUEST),
]  # fmt: skip


@BOTH
@pytest.mark.parametrize(("status", "kind", "message", "reason"), CASES)
def test_errors_by_their_type_and_message(provider: Provider, status: int, kind: str, message: str, reason: R) -> None:
    body = json.dumps({"message": message}).encode()
    named = {
        "x-amzn-errortype": f"{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/",
        "x-amzn-requestid": "r",
    }
    by_header = provider.failure(status, named, body)
    assert (by_header.reason, by_header.status, by_header.code) == (reason, status, kind)
    assert by_header.request_id == "r" and by_header.message == message
    by_body = provider.failure(status, {}, json.dumps({"__type": f"com.amazon#{kind}", "Message": message}).encode())
    assert by_body.reason is reason and by_body.code == kind


@BOTH
@pytest.mark.parametrize(("status", "kind", "message", "reason"), [case for case in CASES if case[1].lower() in TYPES])
def test_an_exception_in_a_stream_has_the_reason_of_its_status(
    provider: Provider, status: int, kind: str, message: str, reason: R
) -> None:
    known = TYPES[kind.lower()][0]
    headers = {":message-type": "exception", ":exception-type": kind[:1].lower() + kind[1:]}
    data = write_frame(headers, json.dumps({"message": message}).encode())
    (event,) = events_of(provider, data)[0]
    assert event.failure is not None
    assert event.failure.reason is (reason if known == status else TYPES[kind.lower()][1])
    assert event.failure.status == known and not events_of(provider, data)[1]


@BOTH
def test_what_the_model_itself_answered_counts(provider: Provider) -> None:
    for status, reason in ((429, R.RATE_LIMIT), (503, R.OVERLOADED), (500, R.SERVER_ERROR)):
        said = json.dumps({"message": "m", "originalStatusCode": status, "originalMessage": "o"}).encode()
        frame = write_frame({":message-type": "exception", ":exception-type": "modelStreamErrorException"}, said)
        (event,) = events_of(provider, frame)[0]
        assert event.failure is not None and event.failure.reason is reason


@BOTH
def test_an_error_frame_says_all_in_its_headers(provider: Provider) -> None:
    headers = {":message-type": "error", ":error-code": "ThrottlingException", ":error-message": "Slow down."}
    (event,) = events_of(provider, write_frame(headers, b""))[0]
    assert event.failure is not None
    assert (event.failure.reason, event.failure.message) == (R.RATE_LIMIT, "Slow down.")


@BOTH
def test_an_error_in_the_place_of_an_answer(provider: Provider) -> None:
    said = json.dumps({"__type": "ServiceUnavailableException", "message": "later"}).encode()
    failure = provider.completion(said, RequestFacts())
    assert isinstance(failure, Failure) and failure.reason is R.OVERLOADED
    for nothing in (b"{}", b"[]", b"<html>", b"", b'{"output":{}}'):
        failure = provider.completion(nothing, RequestFacts())
        assert isinstance(failure, Failure) and failure.reason is R.MALFORMED_OUTPUT


def test_an_error_of_anthropics_own_in_a_chunk_keeps_its_class() -> None:
    said = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
    payload = json.dumps({"bytes": base64.b64encode(said).decode()}).encode()
    (event,) = events_of(CLAUDE, write_frame({":message-type": "event", ":event-type": "chunk"}, payload))[0]
    assert event.failure is not None and event.failure.reason is R.OVERLOADED


@BOTH
def test_keys_are_kept_out_of_what_is_said(provider: Provider) -> None:
    request(provider, secret=KEYS)
    parts = (KEYS.access_key_id, KEYS.secret_access_key, KEYS.session_token or "")
    said = "The String-to-Sign should have been " + " ".join(parts)
    headers = {"x-amzn-errortype": "InvalidSignatureException", "x-amzn-requestid": parts[0]}
    failure = provider.failure(403, headers, json.dumps({"message": said}).encode())
    shown = f"{failure} {provider!r} {KEYS!r} {request(provider, secret=KEYS).headers}"
    assert failure.reason is R.AUTH_ERROR and failure.request_id is None
    assert not any(part in shown for part in parts) and "String-to-Sign" in failure.message
    frame = write_frame(
        {":message-type": "exception", ":exception-type": "validationException"}, json.dumps({"message": said}).encode()
    )
    (event,) = events_of(provider, frame)[0]
    assert event.failure is not None and not any(part in event.failure.message for part in parts)
