"""Cohere's own API: addresses, keys, errors, and every recorded exchange asked and read."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from crossfade.core.exchange import ChatRequest, Completion, Continuation, RequestFacts, StreamEvent
from crossfade.core.failure import Failure
from crossfade.core.failure import FailureReason as R
from crossfade.core.target import Dialect
from crossfade.providers.base import ProviderRequest
from crossfade.providers.compatible import VENDORS
from crossfade.providers.registry import provider_for, versioned
from crossfade.wire.cohere import FINISHES
from crossfade.wire.openai_chat import read_request
from tests.providers.test_openai import target
from tests.recordings import load, names, needs_recordings
from tests.wire import cohere_recorded as recorded
from tests.wire.cohere_read import read_canonical

COHERE = provider_for(VENDORS["cohere"])
MODEL = "command-a-03-2025"
HELLO = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


def request(stream: bool = False, continuation: Continuation | None = None, **fields: Any) -> ProviderRequest:
    inbound = read_request(json.dumps({**HELLO, **fields}).encode(), {})
    return COHERE.request(inbound, target(MODEL), "a-key-of-cohere", stream, continuation)


# --- addresses and keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "full"),
    [
        ("https://api.cohere.com", "https://api.cohere.com/v2"),
        ("https://api.cohere.com/v2/", "https://api.cohere.com/v2"),
        ("https://gate.example/cohere", "https://gate.example/cohere/v2"),
    ],
)
def test_the_version_is_at_the_end_of_the_address(base_url: str, full: str) -> None:
    assert versioned(msgspec.structs.replace(VENDORS["cohere"], base_url=base_url)) == full


def test_a_chat_is_asked_with_the_key() -> None:
    sent = request()
    assert sent.path == "/chat" and ("authorization", "Bearer a-key-of-cohere") in sent.headers
    assert json.loads(sent.body) == {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    assert json.loads(request(stream=True).body)["stream"] is True
    assert COHERE.credential(None) == []
    keyless = provider_for(msgspec.structs.replace(VENDORS["cohere"], auth="none"))
    assert keyless.credential("k") == []


def test_a_continuation_is_asked_for_in_turns() -> None:
    rest = Continuation(text="so far", anchor="so far", prefill=False, delivered_tokens=10)
    body = json.loads(request(True, rest, max_tokens=100).body)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == "so far" and body["messages"][2]["content"].endswith("so far")
    assert body["max_tokens"] == 90


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


@needs_recordings
@pytest.mark.parametrize("name", names("cohere", "chat"))
def test_a_recorded_chat_is_asked_as_it_was(name: str) -> None:
    given = load(name)["request"]["body"]
    sent = COHERE.request(
        Chat(read_canonical(json.dumps(given).encode())), target(given["model"]), "key", load(name)["stream"]
    )
    assert load(name)["request"]["url"] == f"https://api.cohere.com/v2{sent.path}"
    assert recorded.plain(json.loads(sent.body)) == recorded.plain(given)
    assert not sent.dropped


# --- what is answered ----------------------------------------------------------------------------------------


def events_of(data: bytes) -> tuple[list[StreamEvent], bool]:
    reader = COHERE.reader(RequestFacts(stream=True))
    events = [*reader.feed(data), *reader.close()]
    assert reader.undecodable == 0
    return events, reader.is_complete


def calls_of(events: list[StreamEvent]) -> list[tuple[str, str, str]]:
    calls: dict[int, list[str]] = {}
    for event in events:
        for delta in event.tools:
            call = calls.setdefault(delta.index, ["", "", ""])
            call[0] += delta.id
            call[1] += delta.name
            call[2] += delta.arguments
    return [(one, name, text) for _, (one, name, text) in sorted(calls.items())]


def answers(name: str) -> tuple[Any, ...]:
    """What the provider makes of a recorded answer, whole or streamed."""
    data = recorded.body_of(name)
    if load(name)["stream"]:
        events, is_complete = events_of(data)
        assert is_complete and events[-1].is_end and events[0].id and not any(event.failure for event in events)
        (last,) = [event for event in events if event.raw_finish]
        assert last.usage is not None and not last.in_block
        return (
            "".join(event.text for event in events),
            "".join(event.reasoning for event in events),
            calls_of(events),
            last.raw_finish,
            last.finish,
            (last.usage.prompt, last.usage.completion, last.usage.cached, last.usage.reasoning),
            any(event.has_other_content for event in events),
        )
    found = COHERE.completion(data, RequestFacts())
    assert isinstance(found, Completion) and found.usage is not None and found.id
    (choice,) = found.choices
    return (
        choice.text,
        choice.reasoning,
        [(call.id, call.name, call.arguments) for call in choice.tool_calls],
        choice.raw_finish,
        choice.finish,
        (found.usage.prompt, found.usage.completion, found.usage.cached, found.usage.reasoning),
        choice.has_other_content,
    )


@needs_recordings
@pytest.mark.parametrize("name", [name for name in names("cohere", "chat") if "error" not in name])
def test_a_recorded_answer_says_what_it_says(name: str) -> None:
    wanted = recorded.answer_of(name)
    assert answers(name) == (
        wanted.text,
        wanted.reasoning,
        wanted.calls,
        wanted.finish,
        FINISHES[wanted.finish],
        wanted.tokens,
        wanted.cites,
    )
    assert load(name)["finish_reasons"] == [wanted.finish]


# --- errors --------------------------------------------------------------------------------------------------

REASONS = {"context-length": R.CONTEXT_OVERFLOW, "model-not-found": R.MODEL_UNAVAILABLE}


@needs_recordings
@pytest.mark.parametrize("name", [name for name in names("cohere", "chat") if "error" in name])
def test_recorded_errors_have_their_reasons(name: str) -> None:
    response = load(name)["response"]
    if load(name)["stream"]:
        *before, last, end = events_of(recorded.body_of(name))[0]
        assert end.is_end is False and last.is_end is False
        assert not any(event.failure for event in before)
        failure = end.failure
        assert failure is not None and failure.reason is R.INVALID_TOOL_CALL
        assert failure.code == "INVALID_TOOL_GENERATION" and "invalid tool generation" in failure.message
        assert not events_of(recorded.body_of(name))[1]
        return
    failure = COHERE.failure(response["status"], {}, recorded.body_of(name))
    assert failure.reason is REASONS[load(name)["case"].removeprefix("error-").split("-", 1)[1]]
    assert failure.status == response["status"]


LIMITED = "You are using a Trial key, which is limited to {}. You can continue to use the Trial key for free."
CASES = [
    (400, None, "invalid request: temperature must be between 0 and 1.0 inclusive.", R.INVALID_REQUEST),
    (400, "TOO_MANY_TOKENS", "too many tokens: size limit exceeded by 25836 tokens.", R.CONTEXT_OVERFLOW),
    (400, None, "too many tokens: size limit exceeded by 25836 tokens.", R.CONTEXT_OVERFLOW),
    (401, None, "Incorrect API key provided: ***", R.AUTH_ERROR),
    (402, None, "please add or update your payment method", R.QUOTA_EXHAUSTED),
    (403, None, "forbidden", R.AUTH_ERROR),
    (404, None, "model 'x' not found, make sure the correct model ID was used", R.MODEL_UNAVAILABLE),
    (422, None, "unprocessable", R.INVALID_REQUEST),
    (422, "INVALID_TOOL_GENERATION", "your request resulted in an invalid tool generation", R.INVALID_TOOL_CALL),
    (429, None, LIMITED.format("40 API calls / minute"), R.RATE_LIMIT),
    (429, None, LIMITED.format("1000 API calls / month"), R.QUOTA_EXHAUSTED),
    (498, None, "invalid token", R.AUTH_ERROR),
    (499, None, "client closed request", R.SERVER_ERROR),
    (500, None, "internal server error", R.SERVER_ERROR),
    (503, None, "service unavailable", R.OVERLOADED),
    (504, None, "gateway timeout", R.SERVER_ERROR),
]


@pytest.mark.parametrize(("status", "kind", "message", "reason"), CASES)
def test_errors_by_their_status_and_words(status: int, kind: str | None, message: str, reason: R) -> None:
    body = {"id": "e", "message": message} | ({} if kind is None else {"error_type": kind})
    failure = COHERE.failure(status, {"x-debug-trace-id": "t"}, json.dumps(body).encode())
    assert (failure.reason, failure.status, failure.code) == (reason, status, kind)
    assert failure.request_id == COHERE.request_id({"x-debug-trace-id": "t"}) == "t"


def ended(**delta: Any) -> bytes:
    return b"data: %s\n\ndata: [DONE]\n\n" % json.dumps({"type": "message-end", "delta": delta}).encode()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"error_type": "TOO_MANY_TOKENS", "error": "too many tokens"}, R.CONTEXT_OVERFLOW),
        ({"error": LIMITED.format("40 API calls / minute")}, R.RATE_LIMIT),
        ({"error": LIMITED.format("1000 API calls / month")}, R.QUOTA_EXHAUSTED),
        ({"error": "something went wrong"}, R.SERVER_ERROR),
        ({}, R.SERVER_ERROR),
    ],
)
def test_a_generation_that_failed_says_why(said: dict[str, Any], reason: R) -> None:
    events, is_complete = events_of(ended(finish_reason="ERROR", usage={}, **said))
    assert [event.failure and event.failure.reason for event in events] == [reason] and not is_complete
    body = {"id": "a", "message": {"role": "assistant", "content": []}, "finish_reason": "ERROR", **said}
    found = COHERE.completion(json.dumps(body).encode(), RequestFacts())
    assert isinstance(found, Completion)
    assert found.choices[0].failure is not None and found.choices[0].failure.reason is reason


def test_an_error_in_the_place_of_an_answer() -> None:
    said = json.dumps({"id": "e", "message": LIMITED.format("40 API calls / minute")}).encode()
    failure = COHERE.completion(said, RequestFacts())
    assert isinstance(failure, Failure) and failure.reason is R.RATE_LIMIT
    (event,) = events_of(b"data: %s\n\n" % said)[0]
    assert event.failure is not None and event.failure.reason is R.RATE_LIMIT
    for nothing in (b"{}", b"[]", b"<html>", b"", b'{"message":null}', b'{"id":"a","usage":{}}'):
        failure = COHERE.completion(nothing, RequestFacts())
        assert isinstance(failure, Failure) and failure.reason is R.MALFORMED_OUTPUT


def test_the_key_is_kept_out_of_what_is_said() -> None:
    request()
    body = json.dumps({"message": "no such key: a-key-of-cohere"}).encode()
    failure = COHERE.failure(401, {"x-debug-trace-id": "a-key-of-cohere"}, body)
    assert "a-key-of-cohere" not in f"{failure} {COHERE!r}" and failure.request_id is None
    (event, _) = events_of(ended(finish_reason="ERROR", error="no such key: a-key-of-cohere"))[0] + [None]
    assert isinstance(event, StreamEvent) and event.failure is not None
    assert "a-key-of-cohere" not in event.failure.message
