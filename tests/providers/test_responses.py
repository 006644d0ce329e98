"""The Responses API as a provider: what goes on the wire, what its answers, streams and errors mean."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from crossfade.core.assembly import Assembly
from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import (
    ChatRequest,
    Choice,
    Completion,
    Continuation,
    Finish,
    Message,
    RequestFacts,
    StreamEvent,
    TextPart,
    ToolCall,
    Usage,
)
from crossfade.core.failure import Failure, FailureReason
from crossfade.core.target import Dialect, Target
from crossfade.providers.compatible import VENDORS
from crossfade.providers.openai_responses import ResponsesProvider
from crossfade.wire.responses_request import ResponsesInbound, read_request
from crossfade.wire.responses_stream import MAX_EVENT
from tests.recordings import RECORDINGS, load, names, needs_recordings
from tests.wire.responses_recorded import Answer, can_be_sent, events_of, in_one_spelling

_R = FailureReason

VENDOR = msgspec.structs.replace(VENDORS["openai"], dialect="responses")
PROVIDER = ResponsesProvider(VENDOR)
TARGET = Target(key="openai/m#0", name="openai/m", provider="openai", model="gpt-5.4")
CUT = Continuation(text="1, 2 ", anchor="2 ", prefill=False, delivered_tokens=10)
MAKERS = sorted(path.name for path in RECORDINGS.iterdir() if path.is_dir()) if RECORDINGS is not None else []
ALL = [name for maker in MAKERS for name in names(maker, "responses")]
ERRORS = [name for name in ALL if "-error-" in name]
STREAMS = [name for name in ALL if "-stream-" in name and "-error-" not in name]
REQUESTS = [name for name in ALL if (load(name)["request"]["body"] or {}).get("model")]
"""But for errors whose request was not recorded, and two that leave the model to a stored prompt."""
BODIES = [name for name in ALL if "-stream-" not in name and "-error-" not in name]


class Caller:
    """A request of another dialect as the edge would hand it over."""

    dialect: Dialect = "anthropic"

    def __init__(self, **fields: Any):
        self.facts = RequestFacts()
        self.request = ChatRequest(messages=(Message(role="user", parts=(TextPart("hi"),)),), **fields)

    def canonical(self) -> ChatRequest:
        return self.request

    def body(self, target: Target, stream: bool, include_usage: bool, continuation: Continuation | None) -> bytes:
        raise AssertionError("another dialect's bytes")


def inbound_of(name: str) -> ResponsesInbound:
    return read_request(json.dumps(load(name)["request"]["body"]).encode(), {})


# --- requests ------------------------------------------------------------------------------------------------


def test_another_dialect_is_translated_and_nothing_is_stored() -> None:
    made = PROVIDER.request(Caller(seed=1, max_tokens=5, stop=("x",)), TARGET, "key", stream=True)
    assert made.path == "/responses"
    assert dict(made.headers) == {"content-type": "application/json", "authorization": "Bearer key"}
    assert json.loads(made.body) == {
        "model": "gpt-5.4",
        "input": [{"role": "user", "content": "hi"}],
        "max_output_tokens": 16,
        "store": False,
        "stream": True,
    }
    assert made.dropped == ("max_tokens<16", "stop", "seed")


def test_the_key_goes_where_the_vendor_wants_it() -> None:
    azure = ResponsesProvider(msgspec.structs.replace(VENDORS["azure"], dialect="responses"))
    assert dict(azure.request(Caller(), TARGET, "k", stream=False).headers)["api-key"] == "k"
    assert "azure" in repr(azure)
    open_one = ResponsesProvider(msgspec.structs.replace(VENDOR, auth="none"))
    assert [name for name, _ in open_one.request(Caller(), TARGET, "k", stream=False).headers] == ["content-type"]


def test_a_continuation_of_another_dialect_adds_its_turns() -> None:
    made = json.loads(PROVIDER.request(Caller(max_tokens=50), TARGET, "k", stream=True, continuation=CUT).body)
    assert [item["role"] for item in made["input"]] == ["user", "assistant", "user"]
    assert made["input"][1]["content"] == "1, 2 " and made["max_output_tokens"] == 40


def test_several_answers_cannot_be_asked_for() -> None:
    with pytest.raises(InvalidRequest) as caught:
        PROVIDER.request(Caller(n=2), TARGET, "k", stream=False)
    assert caught.value.param == "n"


def test_the_target_sets_and_drops_parameters() -> None:
    target = msgspec.structs.replace(TARGET, set_params=(("store", b"true"),), drop_params=("temperature",))
    made = json.loads(PROVIDER.request(Caller(temperature=0.5), target, "k", stream=False).body)
    assert made["store"] is True and "temperature" not in made


@needs_recordings
def test_the_recordings_are_here() -> None:
    assert (len(REQUESTS), len(BODIES), len(STREAMS), len(ERRORS)) == (166, 88, 64, 18)


@needs_recordings
@pytest.mark.parametrize("name", REQUESTS)
def test_a_recorded_request_passes_as_it_came(name: str) -> None:
    """But for the model's name, where it is another."""
    body = load(name)["request"]["body"]
    inbound = inbound_of(name)
    stream = body.get("stream") is True
    same = msgspec.structs.replace(TARGET, model=body["model"])
    assert PROVIDER.request(inbound, same, "k", stream).body == inbound.members.raw
    other = json.loads(PROVIDER.request(inbound, TARGET, "k", stream).body)
    assert other == body | {"model": "gpt-5.4"}


@needs_recordings
@pytest.mark.parametrize("name", [name for name in REQUESTS if "-error-" not in name])
def test_a_recorded_request_is_rebuilt_without_any_loss_but_the_documented_ones(name: str) -> None:
    body = load(name)["request"]["body"]
    inbound = inbound_of(name)
    if not can_be_sent(body):
        with pytest.raises(InvalidRequest) as caught:
            inbound.canonical()
        assert caught.value.param
        return
    caller = Caller()
    caller.request = inbound.canonical()
    target = msgspec.structs.replace(TARGET, model=body["model"])
    made = json.loads(PROVIDER.request(caller, target, "k", stream=False).body)
    assert in_one_spelling(made) == in_one_spelling(body)


# --- answers -------------------------------------------------------------------------------------------------


def completion_of(body: str) -> Completion:
    answer = PROVIDER.completion(body.encode(), RequestFacts())
    assert isinstance(answer, Completion), answer
    return answer


def stream_of(body: bytes) -> tuple[list[StreamEvent], Completion, Usage | None]:
    reader = PROVIDER.reader(RequestFacts())
    events = [*reader.feed(body), *reader.close()]
    assert reader.is_complete and reader.undecodable == 0
    answer = Assembly()
    for event in events:
        answer.add(event)
    usage = [event.usage for event in events if event.usage is not None]
    assert len(usage) <= 1
    return events, answer.completion(), usage[0] if usage else None


def check(choice: Choice, usage: Usage | None, said: Answer) -> None:
    assert (choice.text, choice.refusal, choice.reasoning) == (said.text, said.refusal, said.reasoning)
    assert [(call.id, call.name, call.arguments) for call in choice.tool_calls] == said.calls
    assert choice.finish == said.finish
    assert choice.has_other_content == said.has_other
    assert usage is not None
    assert (usage.prompt, usage.completion, usage.cached, usage.cache_write, usage.reasoning) == said.tokens


@needs_recordings
@pytest.mark.parametrize("name", BODIES)
def test_a_recorded_answer_says_what_it_says(name: str) -> None:
    body = load(name)["response"]["body"]
    completion, said = completion_of(body), Answer.of_body(body)
    assert (completion.id, completion.model, completion.created) == (said.id, said.model, said.created)
    check(completion.choices[0], completion.usage, said)


@needs_recordings
@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_says_what_it_says(name: str) -> None:
    body = load(name)["response"]["body"]
    events, completion, usage = stream_of(body.encode())
    check(completion.choices[0], usage, Answer.of_stream(body))
    assert events[-1].is_end and events[-2].finish is not None
    assert events[0].id == events_of(body)[0]["response"]["id"]


@needs_recordings
@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_without_its_end_is_not_complete(name: str) -> None:
    body = load(name)["response"]["body"]
    at = max(body.rfind('data: {"type":"response.completed"'), body.rfind('data: {"type":"response.incomplete"'))
    at = at if at >= 0 else body.rstrip().rfind("\n\n")
    reader = PROVIDER.reader(RequestFacts())
    reader.feed(body[:at].encode())
    reader.close()
    assert not reader.is_complete


def response(**fields: Any) -> dict[str, Any]:
    whole = {"id": "resp_1", "object": "response", "model": "m", "created_at": 7, "status": "completed", "output": []}
    return whole | fields


def incomplete(reason: str) -> dict[str, Any]:
    return response(status="incomplete", incomplete_details={"reason": reason})


def failed(code: str) -> bytes:
    return json.dumps(response(status="failed", error={"code": code, "message": "x"})).encode()


def message(text: str, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": text}], **fields}


FUNCTION = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"}
FINISHES: list[tuple[dict[str, Any], Finish, str]] = [
    (response(output=[message("a")]), Finish.STOP, "completed"),
    (response(output=[FUNCTION]), Finish.TOOL_CALLS, "completed"),
    (incomplete("max_output_tokens"), Finish.LENGTH, "max_output_tokens"),
    (incomplete("content_filter"), Finish.CONTENT_FILTER, "content_filter"),
    (incomplete("steered"), Finish.LENGTH, "steered"),
    (response(status="incomplete"), Finish.LENGTH, "incomplete"),
    (response(status="incomplete", output=[FUNCTION]), Finish.LENGTH, "incomplete"),
]


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("body", "finish", "word"), FINISHES)
def test_how_an_answer_ended(body: dict[str, Any], finish: Finish, word: str, is_stream: bool) -> None:
    if is_stream:
        items = [
            {"type": "response.output_item.added", "output_index": n, "item": i} for n, i in enumerate(body["output"])
        ]
        end = {"type": f"response.{body['status']}", "response": body}
        choice = stream_of(b"".join(b"data: %s\n\n" % msgspec.json.encode(e) for e in [*items, end]))[1].choices[0]
    else:
        choice = completion_of(json.dumps(body)).choices[0]
    assert (choice.finish, choice.raw_finish) == (finish, word)


def test_parts_and_items_are_put_together() -> None:
    items = [
        {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": t} for t in ("one", "two")]},
        {"type": "web_search_call", "id": "ws", "action": {"type": "search"}, "content": "of another kind"},
        {"type": "message", "content": [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "no"}]},
        message("b", content=[{"type": "output_text", "text": "b", "annotations": [{"type": "url_citation"}]}]),
        FUNCTION,
        {"type": "function_call", "id": "fc_2", "name": "g"},
    ]
    choice = completion_of(json.dumps(response(output=items))).choices[0]
    assert (choice.text, choice.refusal, choice.reasoning) == ("ab", "no", "one\n\ntwo")
    assert choice.tool_calls == (ToolCall("c", "f", "{}"), ToolCall("fc_2", "g", ""))
    assert choice.has_other_content


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", _R.MALFORMED_OUTPUT),
        (b"<html>", _R.MALFORMED_OUTPUT),
        (b"[]", _R.MALFORMED_OUTPUT),
        (b'{"choices": []}', _R.MALFORMED_OUTPUT),
        (json.dumps(response(output=None)).encode(), _R.MALFORMED_OUTPUT),
        (json.dumps(response(output=[{"type": "message", "content": 1}])).encode(), _R.MALFORMED_OUTPUT),
        (json.dumps(response(status="queued")).encode(), _R.MALFORMED_OUTPUT),
        (json.dumps(response(status="cancelled")).encode(), _R.SERVER_ERROR),
        (json.dumps(response(status="failed")).encode(), _R.SERVER_ERROR),
        (failed("rate_limit_exceeded"), _R.RATE_LIMIT),
        (b'{"error": {"code": "server_is_overloaded", "message": "x"}}', _R.OVERLOADED),
        (b'{"error": {"code": "insufficient_quota"}, "output": 1}', _R.QUOTA_EXHAUSTED),
    ],
)
def test_what_is_no_answer(body: bytes, reason: FailureReason) -> None:
    answer = PROVIDER.completion(body, RequestFacts())
    assert isinstance(answer, Failure) and answer.reason is reason


# --- streams -------------------------------------------------------------------------------------------------


def events(*given: dict[str, Any] | bytes) -> bytes:
    return b"".join(b"data: %s\n\n" % (one if isinstance(one, bytes) else msgspec.json.encode(one)) for one in given)


ADDED = "response.output_item.added"
DONE = "response.output_item.done"
END = {"type": "response.completed", "response": response()}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (message("whole"), Choice(text="whole")),
        (message("", content=[{"type": "refusal", "refusal": "no"}]), Choice(refusal="no")),
        ({"type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}]}, Choice(reasoning="t")),
        (FUNCTION, Choice(tool_calls=(ToolCall("c", "f", "{}"),), finish=Finish.TOOL_CALLS)),
    ],
)
def test_an_item_without_pieces_is_read_at_its_end(item: dict[str, Any], expected: Choice) -> None:
    begun = item | {"arguments": ""} if "arguments" in item else item
    body = events({"type": ADDED, "item": begun}, {"type": DONE, "item": item}, END)
    choice = stream_of(body)[1].choices[0]
    got = (choice.text, choice.refusal, choice.reasoning, choice.tool_calls)
    assert got == (expected.text, expected.refusal, expected.reasoning, expected.tool_calls)


def test_open_calls_and_thoughts_are_open_blocks() -> None:
    body = events(
        {"type": ADDED, "output_index": 0, "item": {"type": "reasoning", "summary": []}},
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "t"},
        {"type": DONE, "output_index": 0, "item": {"type": "reasoning", "summary": []}},
        {"type": ADDED, "output_index": 1, "item": FUNCTION | {"arguments": ""}},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{}"},
        {"type": DONE, "output_index": 1, "item": FUNCTION},
        END,
    )
    read = stream_of(body)[0]
    assert [event.in_block for event in read[:6]] == [True, True, False, True, True, False]
    assert [event.is_open for event in read[:6]] == [True, False, False, True, False, False]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"type": "error", "code": "server_is_overloaded", "message": "x", "param": None}, _R.OVERLOADED),
        ({"type": "error", "error": {"type": "insufficient_quota", "code": "insufficient_quota"}}, _R.QUOTA_EXHAUSTED),
        ({"type": "response.failed", "response": response(error={"code": "server_error"})}, _R.SERVER_ERROR),
        ({"type": "response.failed", "response": response(error={"code": "rate_limit_exceeded"})}, _R.RATE_LIMIT),
        ({"type": "response.failed", "response": response(error={"code": "invalid_prompt"})}, _R.CONTENT_FILTER),
        ({"type": "response.failed", "response": response(error={"code": "image_too_large"})}, _R.INVALID_REQUEST),
        ({"type": "response.failed", "response": response(error={"code": "bio_policy"})}, _R.CONTENT_FILTER),
        ({"type": "response.failed", "response": response()}, _R.SERVER_ERROR),
        ({"error": {"message": "x", "code": "context_length_exceeded"}}, _R.CONTEXT_OVERFLOW),
        ({"type": "response.completed", "response": response(status="failed")}, _R.SERVER_ERROR),
    ],
)
def test_an_error_in_a_stream_is_what_it_would_be_as_a_status(event: dict[str, Any], reason: FailureReason) -> None:
    reader = PROVIDER.reader(RequestFacts())
    (made,) = reader.feed(events(event, END))
    assert made.failure is not None and made.failure.reason is reason
    assert not reader.is_complete and reader.close() == ()


def test_an_error_that_is_no_stream_is_read_at_the_end() -> None:
    reader = PROVIDER.reader(RequestFacts())
    assert not reader.feed(b'{\n"error": {"code": "rate_limit_exceeded", "message": "x"}\n}')
    (made,) = reader.close()
    assert made.failure is not None and made.failure.reason is _R.RATE_LIMIT


def test_what_cannot_be_decoded_is_counted_and_passed_over() -> None:
    reader = PROVIDER.reader(RequestFacts())
    assert not reader.feed(b"data: {nonsense\n\ndata: [DONE]\n\n: comment\n\n")
    assert reader.undecodable == 1 and "1 undecodable" in repr(reader)
    assert reader.feed(b"event: error\ndata: trouble\n\n")[0].failure is not None


def test_arguments_of_no_call_are_counted() -> None:
    reader = PROVIDER.reader(RequestFacts())
    (made,) = reader.feed(events({"type": "response.function_call_arguments.delta", "output_index": 3, "delta": "{"}))
    assert made.has_other_content and reader.undecodable == 1


def test_an_endless_event_is_a_failure() -> None:
    reader = PROVIDER.reader(RequestFacts())
    assert reader.feed(b"data: " + b"x" * (MAX_EVENT - 6)) == []
    (made,) = reader.feed(b"x")
    assert made.failure is not None and made.failure.reason is _R.MALFORMED_OUTPUT


# --- errors --------------------------------------------------------------------------------------------------

RECORDED = {
    "400-context-length": _R.CONTEXT_OVERFLOW,
    "400-invalid-request": _R.INVALID_REQUEST,
    "400-model-not-found": _R.MODEL_UNAVAILABLE,
    "400-auth": _R.AUTH_ERROR,
    "401-auth": _R.AUTH_ERROR,
    "429-quota": _R.QUOTA_EXHAUSTED,
    "in-stream": _R.QUOTA_EXHAUSTED,
}


@needs_recordings
@pytest.mark.parametrize("name", ERRORS)
def test_recorded_errors_have_their_reason(name: str) -> None:
    answer = load(name)["response"]
    body = answer["body"].encode()
    if answer["status"] == 200:
        reader = PROVIDER.reader(RequestFacts())
        failure = [*reader.feed(body), *reader.close()][-1].failure
        assert failure is not None and not reader.is_complete
    else:
        failure = PROVIDER.failure(answer["status"], answer["headers"], body)
        assert failure.status == answer["status"]
    assert failure.reason is RECORDED[name.split("-error-")[1].rsplit("-", 1)[0]]
