"""Ollama's own API: addresses, what can be said in it, errors, and every recorded exchange asked and read."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import ChatRequest, Completion, Continuation, Finish, RequestFacts, StreamEvent
from crossfade.core.failure import Failure
from crossfade.core.failure import FailureReason as R
from crossfade.core.target import Dialect
from crossfade.providers.base import ProviderRequest
from crossfade.providers.compatible import VENDORS
from crossfade.providers.registry import provider_for, versioned
from crossfade.wire.ndjson import LineSplitter
from crossfade.wire.ollama import FINISHES
from crossfade.wire.openai_chat import read_request
from crossfade.wire.openai_embeddings import read_request as read_embeddings
from tests.providers.test_openai import target
from tests.recordings import load, names, needs_recordings
from tests.wire import ollama_recorded as recorded

OLLAMA = provider_for(VENDORS["ollama-native"])
HELLO = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
PIXEL = "iVBORw0KGgo="
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
FILE = {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA=="}}
OTHER = {"type": "function", "function": {"name": "other", "description": "Another.", "parameters": {}}}


def request(stream: bool = False, rest: Continuation | None = None, model: str = "m", **fields: Any) -> ProviderRequest:
    inbound = read_request(json.dumps({**HELLO, **fields}).encode(), {})
    return OLLAMA.request(inbound, target(model), None, stream, rest)


def body(**fields: Any) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(request(**fields).body)
    return sent


# --- addresses and keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "base_url", ["http://127.0.0.1:11434", "http://127.0.0.1:11434/", "http://127.0.0.1:11434/api"]
)
def test_the_api_is_at_the_end_of_the_address(base_url: str) -> None:
    assert versioned(msgspec.structs.replace(VENDORS["ollama-native"], base_url=base_url)).endswith(":11434/api")


def test_a_chat_is_asked_and_says_whether_it_is_a_stream() -> None:
    sent = request()
    assert sent.path == "/chat" and "authorization" not in dict(sent.headers)
    assert json.loads(sent.body) == {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": False}
    assert body(stream=True)["stream"] is True
    keyed = provider_for(msgspec.structs.replace(VENDORS["ollama-native"], auth="bearer"))
    assert keyed.credential("k") == [("authorization", "Bearer k")]


# --- what is asked -------------------------------------------------------------------------------------------


def test_pictures_calls_and_results() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":1.50}'}}
    parts = [
        {"type": "text", "text": "one"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        {"type": "text", "text": "two"},
    ]
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "an otter"},
        {"role": "assistant", "content": ""},
    ]
    sent = request(messages=messages)
    assert json.loads(sent.body)["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one\n\ntwo", "images": [PIXEL]},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "look", "arguments": {"at": 1.5}}}]},
        {"role": "tool", "content": "an otter", "tool_name": "look"},
    ]
    assert b'"arguments":{"at":1.50}' in sent.body, "digits stay as they are"


def test_options_format_and_tools() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    sent = body(
        max_tokens=9,
        temperature=0.5,
        top_p=0.9,
        seed=7,
        stop=["x"],
        presence_penalty=0.1,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
        tools=[TOOL, OTHER],
        tool_choice={"type": "function", "function": {"name": "other"}},
    )
    assert sent["options"] == {
        "num_predict": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["x"],
        "presence_penalty": 0.1,
    }
    assert sent["format"] == schema
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["other"]
    assert "tools" not in body(tools=[TOOL], tool_choice="none")
    assert body(response_format={"type": "json_object"})["format"] == "json"


@pytest.mark.parametrize(
    ("model", "effort", "think", "is_dropped"),
    [
        ("qwen3:8b", "low", True, False),
        ("qwen3:8b", "none", False, False),
        ("gpt-oss:20b", "minimal", "low", False),
        ("gpt-oss:20b", "xhigh", "high", False),
        ("gpt-oss:20b", "none", "low", False),
        ("hf.co/acme/deepseek-r1:7b", "high", True, False),
        ("llama3.1", "high", None, True),
        ("llama3.1", "none", None, False),
        ("qwen3-coder:30b", "high", None, True),
    ],
)
def test_only_models_that_think_are_told_to(model: str, effort: str, think: Any, is_dropped: bool) -> None:
    sent = request(model=model, reasoning_effort=effort)
    assert json.loads(sent.body).get("think") == think
    assert ("reasoning_effort" in sent.dropped) is is_dropped


def test_what_cannot_be_said_is_named() -> None:
    sent = request(
        tools=[{**TOOL, "function": {**TOOL["function"], "strict": True}}],  # type: ignore[dict-item]
        tool_choice="required",
        parallel_tool_calls=False,
        logprobs=True,
        top_logprobs=2,
        user="u",
    )
    wanted = {"tool_choice", "parallel_tool_calls", "tools.strict", "logprobs", "top_logprobs", "user"}
    assert set(sent.dropped) == wanted


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}],
                    }
                ]
            },
            "messages",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}],
                    }
                ]
            },
            "messages",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "file", "file": {"file_data": "data:application/pdf;base64,AA=="}}],
                    }
                ]
            },
            "messages",
        ),
    ],
)
def test_what_would_mean_something_else_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        request(**fields)
    assert refused.value.param == param


def test_a_continuation_is_asked_for_in_turns() -> None:
    rest = Continuation(text="so far", anchor="so far", prefill=False, delivered_tokens=10)
    sent = body(stream=True, rest=rest, max_tokens=100)
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert sent["options"]["num_predict"] == 90


# --- embeddings ----------------------------------------------------------------------------------------------


def test_texts_are_embedded_in_one_call() -> None:
    given = {"model": "e", "input": ["a", "b"], "dimensions": 2, "truncate": True, "user": "u"}
    inbound = read_embeddings(json.dumps(given).encode(), {})
    sent = OLLAMA.request(inbound, target("nomic-embed-text"), None, False)
    assert sent.path == "/embed" and sent.dropped == ("user",)
    assert json.loads(sent.body) == {
        "model": "nomic-embed-text",
        "input": ["a", "b"],
        "truncate": True,
        "dimensions": 2,
    }
    answer = b'{"model":"nomic-embed-text","embeddings":[[0.5,1],[0.25,-1]],"prompt_eval_count":7}'
    found = OLLAMA.completion(answer, inbound.facts)
    assert isinstance(found, Completion) and found.usage is not None
    assert found.vectors == (b"[0.5,1]", b"[0.25,-1]") and found.usage.prompt == 7


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"no", R.MALFORMED_OUTPUT),
        (b"{}", R.MALFORMED_OUTPUT),
        (b'{"embeddings":[["a"]]}', R.MALFORMED_OUTPUT),
        (b'{"error":"server busy"}', R.OVERLOADED),
    ],
)
def test_what_is_no_answer_with_vectors_is_told_from_one(answer: bytes, reason: R) -> None:
    found = OLLAMA.completion(answer, RequestFacts(asks="embeddings"))
    assert isinstance(found, Failure) and found.reason is reason


# --- what is answered ----------------------------------------------------------------------------------------


def line(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "created_at": "t", **fields}).encode() + b"\n"


def events_of(data: bytes) -> tuple[list[StreamEvent], bool]:
    reader = OLLAMA.reader(RequestFacts(stream=True))
    events = [*reader.feed(data), *reader.close()]
    assert reader.undecodable == 0
    return events, reader.is_complete


@pytest.mark.parametrize(
    ("word", "has", "end"),
    [
        ("stop", "text", Finish.STOP),
        ("stop", "call", Finish.TOOL_CALLS),
        ("stop", "nothing", Finish.STOP),
        ("length", "text", Finish.LENGTH),
        ("length", "call", Finish.LENGTH),
        (None, "text", Finish.STOP),
        ("a_new_word", "text", Finish.STOP),
        ("a_new_word", "nothing", R.EMPTY_OUTPUT),
        ("load", "nothing", R.EMPTY_OUTPUT),
        ("unload", "nothing", R.EMPTY_OUTPUT),
    ],
)
def test_every_reason_of_an_end_whole_and_streamed(word: str | None, has: str, end: Finish | R) -> None:
    message: dict[str, Any] = {"role": "assistant", "content": "hi" if has == "text" else ""}
    if has == "call":
        message["tool_calls"] = [{"function": {"name": "look", "arguments": {"a": 1}}}]
    last = {"done": True} | ({} if word is None else {"done_reason": word})
    found = OLLAMA.completion(line(message=message, **last), RequestFacts())
    assert isinstance(found, Completion)
    choice = found.choices[0]
    (event,) = [one for one in events_of(line(message=message, done=False) + line(**last))[0] if one.raw_finish]
    for finish, failure in ((choice.finish, choice.failure), (event.finish, event.failure)):
        assert (finish if failure is None else failure.reason) == end


def test_calls_without_ids_have_the_same_ids_again_and_others_in_other_answers() -> None:
    def ids(created: str, stream: bool) -> list[str]:
        calls = [{"function": {"name": "look", "arguments": {"a": n}}} for n in (1, 1)]
        data = line(created_at=created, message={"content": "", "tool_calls": calls}, done=True, done_reason="stop")
        if stream:
            return [delta.id for event in events_of(data)[0] for delta in event.tools]
        found = OLLAMA.completion(data, RequestFacts())
        assert isinstance(found, Completion)
        return [call.id for call in found.choices[0].tool_calls]

    assert ids("t1", False) == ids("t1", True) != ids("t2", False)
    assert len(set(ids("t1", False))) == 2


def test_arguments_that_are_no_object_are_what_the_model_wrote() -> None:
    data = line(message={"tool_calls": [{"function": {"name": "look", "arguments": '{"a": '}}]}, done=True)
    found = OLLAMA.completion(data, RequestFacts())
    assert isinstance(found, Completion) and found.choices[0].tool_calls[0].arguments == '{"a": '


def test_an_error_in_the_middle_ends_the_stream() -> None:
    events, is_complete = events_of(line(message={"content": "a"}, done=False) + b'{"error":"CUDA error"}\n')
    assert not is_complete and events[-1].failure is not None and events[-1].failure.reason is R.SERVER_ERROR
    assert events_of(line(message={"content": "a"}, done=False))[1] is False


@pytest.mark.parametrize("size", [1, 2, 7])
def test_lines_are_cut_wherever_the_bytes_are(size: int) -> None:
    data = b'\r\n{"a":1}\r\n\n{"b":2}\n {"c":3}'
    splitter = LineSplitter()
    found = [one for at in range(0, len(data), size) for one in splitter.feed(data[at : at + size])]
    assert [*found, splitter.rest()] == [b'{"a":1}', b'{"b":2}', b'{"c":3}']
    small = LineSplitter(limit=4)
    assert small.feed(b"12345") == [] and small.is_overlong


# --- errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        (404, "model 'x' not found", R.MODEL_UNAVAILABLE),
        (400, "prompt too long; exceeded max context length by 7 tokens", R.CONTEXT_OVERFLOW),
        (400, "invalid options", R.INVALID_REQUEST),
        (401, "unauthorized", R.AUTH_ERROR),
        (429, "too many concurrent requests", R.RATE_LIMIT),
        (429, "you've reached your weekly usage limit", R.QUOTA_EXHAUSTED),
        (503, "server busy, please try again.  maximum pending requests exceeded", R.OVERLOADED),
        (500, "llama runner process has terminated", R.SERVER_ERROR),
        (200, "too many requests", R.RATE_LIMIT),
    ],
)
def test_errors_have_their_reasons(status: int, message: str, reason: R) -> None:
    assert OLLAMA.failure(status, {}, json.dumps({"error": message}).encode()).reason is reason


# --- recordings ----------------------------------------------------------------------------------------------


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
@pytest.mark.parametrize("name", names("ollama", "native-chat"))
def test_a_recorded_chat_is_asked_as_it_was(name: str) -> None:
    given = load(name)["request"]["body"]
    sent = OLLAMA.request(Chat(recorded.chat_of(given)), target(given["model"]), None, load(name)["stream"])
    assert load(name)["request"]["url"].endswith(f":11434/api{sent.path}")
    names_results = any("tool_name" in message for message in given["messages"])
    wanted = recorded.plain(given, names_results=names_results)
    assert recorded.plain(json.loads(sent.body), names_results=names_results) == wanted
    assert not sent.dropped


def read(name: str) -> tuple[Any, ...]:
    """What the provider makes of a recorded answer, whole or streamed."""
    data = recorded.body_of(name)
    calls: list[tuple[str, Any]]
    if load(name)["stream"]:
        events, is_complete = events_of(data)
        assert is_complete and events[-1].is_end and not any(event.failure for event in events)
        (last,) = [event for event in events if event.raw_finish]
        calls = [(delta.name, json.loads(delta.arguments)) for event in events for delta in event.tools]
        text, reasoning = ("".join(getattr(event, part) for event in events) for part in ("text", "reasoning"))
        word, finish, usage = last.raw_finish, last.finish, last.usage
    else:
        found = OLLAMA.completion(data, RequestFacts())
        assert isinstance(found, Completion)
        (choice,) = found.choices
        calls = [(call.name, json.loads(call.arguments)) for call in choice.tool_calls]
        text, reasoning, word, finish = choice.text, choice.reasoning, choice.raw_finish, choice.finish
        usage = found.usage
    assert usage is not None
    return text, reasoning, calls, word, finish, (usage.prompt, usage.completion)


@needs_recordings
@pytest.mark.parametrize("name", names("ollama", "native-chat"))
def test_a_recorded_answer_says_what_it_says(name: str) -> None:
    wanted = recorded.answer_of(name)
    finish = FINISHES[wanted.finish]
    if wanted.calls and finish is Finish.STOP:
        finish = Finish.TOOL_CALLS
    assert read(name) == (wanted.text, wanted.reasoning, wanted.calls, wanted.finish, finish, wanted.tokens)
