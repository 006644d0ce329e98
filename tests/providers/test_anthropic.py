"""Anthropic as a provider: what goes on the wire, and what its errors mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import ChatRequest, Completion, Continuation, Message, RequestFacts, TextPart
from crossfade.core.failure import Failure, FailureReason
from crossfade.core.target import Dialect, Target, Vendor
from crossfade.providers.anthropic import AnthropicProvider
from crossfade.providers.base import Inbound, Provider
from crossfade.wire.anthropic_request import MessagesInbound, read_request
from tests.recordings import load, names, needs_recordings

_R = FailureReason

VENDOR = Vendor(
    name="anthropic", dialect="anthropic", base_url="https://api.anthropic.com/v1", auth="x-api-key", prefill=True
)
TARGET = Target(key="anthropic/m#0", name="anthropic/m", provider="anthropic", model="claude-sonnet-4-6")
PROVIDER: Provider = AnthropicProvider(VENDOR)
ERRORS = [n for n in names("anthropic", "messages") + names("vertex", "anthropic-messages") if "-error-" in n]


class Caller:
    """A request as the edge would hand it over."""

    def __init__(self, dialect: Dialect = "openai", **fields: Any):
        self.dialect: Dialect = dialect
        self.facts = RequestFacts(input_tokens=100_000)
        self.request = ChatRequest(messages=(Message(role="user", parts=(TextPart("hi"),)),), **fields)
        self.asked: dict[str, Any] = {}

    def canonical(self) -> ChatRequest:
        assert self.dialect != "anthropic", "the same dialect passes its bytes"
        return self.request

    def body(self, target: Target, *, stream: bool, include_usage: bool, continuation: Continuation | None) -> bytes:
        self.asked = {"stream": stream, "include_usage": include_usage, "continuation": continuation}
        return f'{{"model": "{target.model}"}}'.encode()


CUT = Continuation(text="1, 2 ", anchor="2 ", prefill=True, delivered_tokens=10)


def test_another_dialect_is_translated() -> None:
    inbound: Inbound = Caller(seed=1, max_tokens=50)
    made = PROVIDER.request(inbound, TARGET, "key", stream=True)
    assert made.path == "/messages"
    assert dict(made.headers) == {
        "content-type": "application/json",
        "anthropic-version": "2023-06-01",
        "x-api-key": "key",
    }
    assert json.loads(made.body) == {
        "model": "claude-sonnet-4-6",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
    }
    assert made.dropped == ("seed",)


def messages(headers: dict[str, str] | None = None, **fields: Any) -> MessagesInbound:
    body = {"model": "chat", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}], **fields}
    return read_request(json.dumps(body).encode(), headers or {})


def test_the_same_dialect_passes_its_bytes() -> None:
    inbound = messages()
    made = PROVIDER.request(inbound, TARGET, "key", stream=False)
    assert made.body == inbound.members.raw.replace(b'"chat"', b'"claude-sonnet-4-6"')
    assert (made.path, made.dropped) == ("/messages", ())
    made = PROVIDER.request(inbound, TARGET, "key", stream=True, continuation=CUT)
    body = json.loads(made.body)
    assert body["stream"] is True and body["messages"][-1] == {"role": "assistant", "content": "1, 2"}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, {"anthropic-version": "2023-06-01"}),
        ({"anthropic-version": "2099-01-01"}, {"anthropic-version": "2099-01-01"}),
        (
            {"anthropic-beta": "a-1,  b-2", "x-other": "no", "authorization": "Bearer gateway", "cookie": "c"},
            {"anthropic-version": "2023-06-01", "anthropic-beta": "a-1,  b-2"},
        ),
    ],
)
def test_the_callers_words_about_the_api_are_passed_on(given: dict[str, str], sent: dict[str, str]) -> None:
    made = PROVIDER.request(messages(given), TARGET, "key", stream=False)
    assert dict(made.headers) == {"content-type": "application/json", "x-api-key": "key", **sent}


def test_a_wish_to_think_that_would_be_refused_is_dropped_by_name() -> None:
    call = {"type": "tool_use", "id": "call_abc", "name": "f", "input": {}}
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": ""}, call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_abc", "content": "1"}]},
    ]
    made = PROVIDER.request(
        messages(messages=turns, thinking={"type": "enabled", "budget_tokens": 1024}), TARGET, "k", False
    )
    body = json.loads(made.body)
    assert made.dropped == ("thinking",) and "thinking" not in body
    assert body["messages"][1]["content"] == [call]


def test_a_continuation_adds_its_turns() -> None:
    body = json.loads(PROVIDER.request(Caller(max_tokens=50), TARGET, "k", stream=True, continuation=CUT).body)
    assert body["messages"][-1] == {"role": "assistant", "content": "1, 2"}
    assert body["max_tokens"] == 40


def test_the_target_decides_window_and_parameters() -> None:
    target = Target(
        key="k", name="n", provider="p", model="claude-haiku-4-5", window=150_000,
        set_params=(("service_tier", b'"auto"'),), drop_params=("temperature",),
    )  # fmt: skip
    body = json.loads(PROVIDER.request(Caller(temperature=0.1), target, "k", stream=False).body)
    assert body == {
        "model": "claude-haiku-4-5",
        "max_tokens": 25_000,
        "messages": [{"role": "user", "content": "hi"}],
        "service_tier": "auto",
    }


@pytest.mark.parametrize(
    ("auth", "secret", "expected"),
    [
        ("x-api-key", "k", {"x-api-key": "k"}),
        ("bearer", "k", {"authorization": "Bearer k"}),
        ("api-key", "k", {"api-key": "k"}),
        ("none", "k", {}),
        ("x-api-key", None, {}),
    ],
)
def test_the_key_goes_where_the_vendor_wants_it(auth: Any, secret: str | None, expected: dict[str, str]) -> None:
    vendor = Vendor(name="v", dialect="anthropic", base_url="http://x/v1", auth=auth)
    headers = dict(AnthropicProvider(vendor).request(Caller(), TARGET, secret, stream=False).headers)
    assert {
        name: value for name, value in headers.items() if name not in ("content-type", "anthropic-version")
    } == expected
    assert "v" in repr(AnthropicProvider(vendor))


def test_what_cannot_be_said_leaves_as_an_exception() -> None:
    with pytest.raises(InvalidRequest):
        PROVIDER.request(Caller(n=2), TARGET, "k", stream=False)


# --- errors --------------------------------------------------------------------------------------------------

RECORDED = {
    "400-context-length": _R.CONTEXT_OVERFLOW,
    "400-invalid-request": _R.INVALID_REQUEST,
    "401-auth": _R.AUTH_ERROR,
    "404-model-not-found": _R.MODEL_UNAVAILABLE,
    "529-overloaded": _R.OVERLOADED,
    "in-stream": _R.OVERLOADED,
}


@needs_recordings
@pytest.mark.parametrize("name", ERRORS)
def test_recorded_errors_have_their_reason(name: str) -> None:
    recording = load(name)
    case = name.split("-error-")[1].rsplit("-", 1)[0]
    response = recording["response"]
    if response["status"] == 200:
        reader = PROVIDER.reader(RequestFacts())
        (event,) = [*reader.feed(response["body"].encode()), *reader.close()]
        failure = event.failure
        assert failure is not None and not reader.is_complete
    else:
        failure = PROVIDER.failure(response["status"], response["headers"], response["body"].encode())
        assert failure.status == response["status"]
        body = json.loads(response["body"])
        assert failure.code == body["error"]["type"]
        assert failure.request_id == response["headers"].get("request-id", body.get("request_id"))
    assert failure.reason is RECORDED[case]


def envelope(kind: str, message: str = "x", **fields: Any) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}, **fields}).encode()


ROWS = [
    (400, "invalid_request_error", "messages: at least one message is required", _R.INVALID_REQUEST),
    (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", _R.CONTEXT_OVERFLOW),
    (
        400,
        "invalid_request_error",
        "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease input length or"
        " `max_tokens` and try again",
        _R.CONTEXT_OVERFLOW,
    ),
    (
        400,
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade.",
        _R.QUOTA_EXHAUSTED,
    ),
    (
        400,
        "invalid_request_error",
        "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
        _R.QUOTA_EXHAUSTED,
    ),
    (400, "invalid_request_error", "This workspace has reached its spend limit.", _R.QUOTA_EXHAUSTED),
    (400, "invalid_request_error", "This organization has been disabled.", _R.AUTH_ERROR),
    (400, "invalid_request_error", "Output blocked by content filtering policy", _R.CONTENT_FILTER),
    (
        400,
        "invalid_request_error",
        "This model does not support assistant message prefill. The conversation must end with a user message.",
        _R.INVALID_REQUEST,
    ),
    (400, "invalid_request_error", "`temperature` is deprecated for this model.", _R.INVALID_REQUEST),
    (401, "authentication_error", "invalid x-api-key", _R.AUTH_ERROR),
    (402, "billing_error", "x", _R.QUOTA_EXHAUSTED),
    (403, "permission_error", "x", _R.AUTH_ERROR),
    (404, "not_found_error", "model: claude-none", _R.MODEL_UNAVAILABLE),
    (409, "conflict_error", "x", _R.SERVER_ERROR),
    (413, "request_too_large", "Request too large: exceeds the maximum allowed number of bytes", _R.INVALID_REQUEST),
    (429, "rate_limit_error", "This request would exceed your account's rate limit.", _R.RATE_LIMIT),
    (429, "enforced_spend_limit_reached", "x", _R.QUOTA_EXHAUSTED),
    (500, "api_error", "Internal server error", _R.SERVER_ERROR),
    (504, "timeout_error", "x", _R.SERVER_ERROR),
    (529, "overloaded_error", "Overloaded", _R.OVERLOADED),
]


@pytest.mark.parametrize(("status", "kind", "message", "reason"), ROWS)
def test_errors_by_status_type_and_message(status: int, kind: str, message: str, reason: FailureReason) -> None:
    failure = PROVIDER.failure(status, {}, envelope(kind, message))
    assert (failure.reason, failure.status, failure.code) == (reason, status, kind)


@pytest.mark.parametrize(("status", "kind", "message", "reason"), [row for row in ROWS if row[1] != "conflict_error"])
def test_an_error_inside_a_200_has_the_class_of_its_status(
    status: int, kind: str, message: str, reason: FailureReason
) -> None:
    body = envelope(kind, message, request_id="req_1")
    found = PROVIDER.completion(body, RequestFacts())
    assert isinstance(found, Failure)
    assert (found.reason, found.request_id) == (reason, "req_1")
    reader = PROVIDER.reader(RequestFacts())
    (event,) = reader.feed(b"event: error\ndata: " + body + b"\n\n")
    assert event.failure is not None
    assert event.failure.reason is reason


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (502, b"<html><title>502 Bad Gateway</title></html>", _R.SERVER_ERROR),
        (413, b"<html><title>413 Request Entity Too Large</title></html>", _R.INVALID_REQUEST),
        (529, b"", _R.OVERLOADED),
        (429, b"slow down", _R.RATE_LIMIT),
        (400, b'"text"', _R.INVALID_REQUEST),
        (500, envelope("invalid_request_error", "prompt is too long: it seems"), _R.SERVER_ERROR),
    ],
)
def test_errors_that_are_none_of_its_own_shape(status: int, body: bytes, reason: FailureReason) -> None:
    assert PROVIDER.failure(status, {}, body).reason is reason


def test_when_to_come_back() -> None:
    limited = envelope("rate_limit_error")
    assert PROVIDER.failure(429, {"retry-after": "20"}, limited).retry_after == 20
    resets = {
        "date": "Tue, 14 Jul 2026 01:07:54 GMT",
        "anthropic-ratelimit-requests-remaining": "10",
        "anthropic-ratelimit-requests-reset": "2026-07-14T01:07:55Z",
        "anthropic-ratelimit-input-tokens-remaining": "0",
        "anthropic-ratelimit-input-tokens-reset": "2026-07-14T01:08:24Z",
    }
    assert PROVIDER.failure(429, resets, limited).retry_after == 30
    assert PROVIDER.failure(401, {"retry-after": "20"}, envelope("authentication_error")).retry_after is None


def test_the_request_id_is_the_header_or_the_bodys() -> None:
    body = envelope("api_error", request_id="req_body")
    assert PROVIDER.failure(500, {"request-id": "req_head"}, body).request_id == "req_head"
    assert PROVIDER.failure(500, {}, body).request_id == "req_body"
    assert PROVIDER.failure(500, {}, envelope("api_error", request_id=7)).request_id is None


def test_a_whole_answer_is_a_completion() -> None:
    body = b'{"type":"message","id":"m","content":[{"type":"text","text":"x"}],"stop_reason":"end_turn"}'
    found = PROVIDER.completion(body, RequestFacts())
    assert isinstance(found, Completion)
    assert found.choices[0].text == "x"
