"""Ollama's own API: addresses, keys, errors, and every recorded exchange asked and read."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from crossfade.core.exchange import Completion, Continuation, Finish, RequestFacts, StreamEvent
from crossfade.core.failure import Failure
from crossfade.core.failure import FailureReason as R
from crossfade.providers.base import ProviderRequest
from crossfade.providers.compatible import VENDORS
from crossfade.providers.registry import provider_for, versioned
from crossfade.wire.openai_chat import read_request
from tests.providers.test_cohere import Chat, calls_of
from tests.providers.test_openai import target
from tests.recordings import load, names, needs_recordings
from tests.wire import ollama_recorded as recorded
from tests.wire.ollama_read import read_canonical

ROW = VENDORS["ollama-native"]
OLLAMA = provider_for(ROW)
MODEL = "qwen3:4b"
HELLO = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


def request(stream: bool = False, continuation: Continuation | None = None, **fields: Any) -> ProviderRequest:
    inbound = read_request(json.dumps({**HELLO, **fields}).encode(), {})
    keyed = provider_for(msgspec.structs.replace(ROW, auth="bearer"))
    return keyed.request(inbound, target(MODEL), "a-key-of-ollama", stream, continuation)


# --- addresses and keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "full"),
    [
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434/api"),
        ("http://127.0.0.1:11434/api/", "http://127.0.0.1:11434/api"),
        ("https://ollama.com", "https://ollama.com/api"),
        ("https://gate.example/ollama", "https://gate.example/ollama/api"),
    ],
)
def test_the_path_of_the_api_is_at_the_end_of_the_address(base_url: str, full: str) -> None:
    assert versioned(msgspec.structs.replace(ROW, base_url=base_url)) == full


def test_a_chat_is_asked_with_the_key_where_there_is_one() -> None:
    sent = request()
    assert sent.path == "/chat" and ("authorization", "Bearer a-key-of-ollama") in sent.headers
    said = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": False, "truncate": False}
    assert json.loads(sent.body) == said
    assert json.loads(request(stream=True).body)["stream"] is True
    assert OLLAMA.credential("k") == OLLAMA.credential(None) == []


def test_a_continuation_is_asked_for_in_turns() -> None:
    rest = Continuation(text="so far", anchor="so far", prefill=False, delivered_tokens=10)
    body = json.loads(request(True, rest, max_tokens=100).body)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == "so far" and body["messages"][2]["content"].endswith("so far")
    assert body["options"] == {"num_predict": 90}


# --- what is asked -------------------------------------------------------------------------------------------

NATIVE = names("ollama", "native-chat")


@needs_recordings
def test_the_recordings_are_all_here() -> None:
    assert len(NATIVE) == 23


@needs_recordings
@pytest.mark.parametrize("name", NATIVE)
def test_a_recorded_chat_is_asked_as_it_was(name: str) -> None:
    given = load(name)["request"]["body"]
    chat = Chat(read_canonical(json.dumps({"options": {}, **given}).encode()))
    sent = OLLAMA.request(chat, target(given["model"]), None, load(name)["stream"])
    assert load(name)["request"]["url"].endswith(f"/api{sent.path}")
    assert recorded.plain(json.loads(sent.body)) == recorded.plain(given)
    assert not sent.dropped


# --- what is answered ----------------------------------------------------------------------------------------


def events_of(data: bytes) -> tuple[list[StreamEvent], bool]:
    reader = OLLAMA.reader(RequestFacts(stream=True))
    events = [*reader.feed(data), *reader.close()]
    assert reader.undecodable == 0
    return events, reader.is_complete


def answers(name: str) -> tuple[Any, ...]:
    """What the provider makes of a recorded answer, whole or streamed."""
    data = recorded.body_of(name)
    if load(name)["stream"]:
        events, is_complete = events_of(data)
        assert is_complete and events[-1].is_end and events[0].model and not any(event.failure for event in events)
        (last,) = [event for event in events if event.raw_finish]
        assert last.usage is not None and not last.in_block
        text, reasoning = ("".join(getattr(event, kind) for event in events) for kind in ("text", "reasoning"))
        return text, reasoning, calls_of(events), last.raw_finish, last.finish, last.usage.prompt, last.usage.completion
    found = OLLAMA.completion(data, RequestFacts())
    assert isinstance(found, Completion) and found.usage is not None and found.model
    (choice,) = found.choices
    calls = [(call.id, call.name, call.arguments) for call in choice.tool_calls]
    said = (choice.text, choice.reasoning, calls, choice.raw_finish, choice.finish)
    return (*said, found.usage.prompt, found.usage.completion)


@needs_recordings
@pytest.mark.parametrize("name", NATIVE)
def test_a_recorded_answer_says_what_it_says(name: str) -> None:
    wanted = recorded.answer_of(name)
    text, reasoning, calls, *end = answers(name)
    assert (text, reasoning) == (wanted.text, wanted.reasoning)
    assert [(one, called, json.loads(arguments)) for one, called, arguments in calls] == wanted.calls
    finish = {"stop": Finish.TOOL_CALLS if wanted.calls else Finish.STOP, "length": Finish.LENGTH}[wanted.finish]
    assert end == [wanted.finish, finish, *wanted.tokens]
    assert load(name)["finish_reasons"] == [wanted.finish]


# --- errors --------------------------------------------------------------------------------------------------

LIMITED = "you (ann) have reached your {} usage limit, please wait or upgrade to continue"
CASES = [
    (400, "invalid option provided", R.INVALID_REQUEST),
    (400, '"llama3.2" does not support thinking', R.INVALID_REQUEST),
    (400, "the prompt is longer than the context length currently available to the model; shorten the prompt",
     R.CONTEXT_OVERFLOW),
    (400, "the input length exceeds the context length", R.CONTEXT_OVERFLOW),
    (400, "prompt too long; exceeded max context length by 12 tokens", R.CONTEXT_OVERFLOW),
    (401, "unauthorized", R.AUTH_ERROR),
    (402, "this model requires a subscription", R.QUOTA_EXHAUSTED),
    (403, "remote model is unavailable", R.AUTH_ERROR),
    (404, "model 'x' not found", R.MODEL_UNAVAILABLE),
    (429, LIMITED.format("hourly"), R.RATE_LIMIT),
    (429, LIMITED.format("session"), R.QUOTA_EXHAUSTED),
    (429, LIMITED.format("weekly"), R.QUOTA_EXHAUSTED),
    (499, "request canceled", R.SERVER_ERROR),
    (500, "llama runner process has terminated: exit status 2", R.SERVER_ERROR),
    (500, "error parsing tool call: raw='{', err=unexpected end of JSON input", R.INVALID_TOOL_CALL),
    (502, "cloud model cannot be reached", R.SERVER_ERROR),
    (503, "server busy, please try again.  maximum pending requests exceeded", R.OVERLOADED),
]  # fmt: skip


@pytest.mark.parametrize(("status", "message", "reason"), CASES)
def test_errors_by_their_status_and_words(status: int, message: str, reason: R) -> None:
    failure = OLLAMA.failure(status, {"x-request-id": "r"}, json.dumps({"error": message}).encode())
    assert (failure.reason, failure.status, failure.message) == (reason, status, message)
    assert failure.request_id == OLLAMA.request_id({"x-request-id": "r"}) == "r"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("an error was encountered while running the model", R.SERVER_ERROR),
        ("the input length exceeds the context length", R.CONTEXT_OVERFLOW),
        ("error parsing tool call: raw='{', err=unexpected end of JSON input", R.INVALID_TOOL_CALL),
        ("server busy, please try again.  maximum pending requests exceeded", R.OVERLOADED),
        (LIMITED.format("hourly"), R.RATE_LIMIT),
        ("too many concurrent requests", R.RATE_LIMIT),
        (LIMITED.format("monthly"), R.QUOTA_EXHAUSTED),
    ],
)
def test_an_error_inside_a_200_is_what_its_words_say(message: str, reason: R) -> None:
    said = json.dumps({"error": message}).encode()
    failure = OLLAMA.completion(said, RequestFacts())
    assert isinstance(failure, Failure) and failure.reason is reason
    piece = b'{"model":"m","message":{"content":"a"},"done":false}\n'
    events, is_complete = events_of(piece + said)
    assert events[-1].failure is not None and events[-1].failure.reason is reason and not is_complete


@pytest.mark.parametrize("nothing", [b"{}", b"[]", b"<html>", b"", b'{"message":null}', b'{"model":"m","done":true}'])
def test_what_is_no_answer_is_malformed(nothing: bytes) -> None:
    failure = OLLAMA.completion(nothing, RequestFacts())
    assert isinstance(failure, Failure) and failure.reason is R.MALFORMED_OUTPUT


def test_the_key_is_kept_out_of_what_is_said() -> None:
    keyed = provider_for(msgspec.structs.replace(ROW, auth="bearer"))
    keyed.request(read_request(json.dumps(HELLO).encode(), {}), target(MODEL), "a-key-of-ollama", False)
    body = json.dumps({"error": "no such key: a-key-of-ollama"}).encode()
    failure = keyed.failure(401, {"x-request-id": "a-key-of-ollama"}, body)
    assert "a-key-of-ollama" not in f"{failure} {keyed!r}" and failure.request_id is None
    (event,) = keyed.reader(RequestFacts()).feed(body + b"\n")
    assert event.failure is not None and "a-key-of-ollama" not in event.failure.message
