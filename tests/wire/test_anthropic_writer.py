"""Answers written as Anthropic messages: whole, streamed, and errors."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crossfade.core.assembly import Assembly
from crossfade.core.exchange import Choice, Completion, Finish, StreamEvent, ToolCall, ToolDelta, Usage
from crossfade.core.failure import Failure, FailureReason
from crossfade.wire.anthropic_answer import FINISHES, read_completion
from crossfade.wire.anthropic_writer import (
    ERROR_TYPES,
    PING,
    STOP_REASONS,
    MessageWriter,
    error_body,
    error_event,
    stop_reason_of,
    usage_json,
    write_completion,
)
from tests.e2e.messages import Answer, of_message, of_stream
from tests.recordings import load, names, needs_recordings
from tests.wire.anthropic_recorded import Answer as Recorded

RECORDED = names("anthropic", "messages") + names("vertex", "anthropic-messages")
BODIES = [n for n in RECORDED if "-stream-" not in n and "-error-" not in n]


def failed(data: bytes) -> Failure:
    return Failure(reason=FailureReason.OVERLOADED)


def written(choice: Choice, **fields: Any) -> dict[str, Any]:
    completion = Completion(id="msg_1", model="m", choices=[choice], **fields)
    body: dict[str, Any] = json.loads(write_completion(completion, default_id="msg_default"))
    of_message(body)
    return body


def streamed(*events: StreamEvent, member: bytes | None = None) -> Answer:
    writer = MessageWriter()
    writer.be("msg_1", "m")
    return of_stream(b"".join([writer.write(event) for event in events]) + writer.end(member))


def delta(arguments: str = "", index: int = 0, **fields: str) -> StreamEvent:
    return StreamEvent(tools=(ToolDelta(index=index, arguments=arguments, **fields),))


# --- words ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("finish", list(Finish))
def test_every_finish_has_a_stop_reason_that_is_read_back_as_it(finish: Finish) -> None:
    assert FINISHES[STOP_REASONS[finish]] is finish
    body = written(Choice(text="x", finish=finish))
    assert body["stop_reason"] == STOP_REASONS[finish]
    answer = streamed(StreamEvent(text="x"), StreamEvent(finish=finish, raw_finish="some_word"))
    assert answer.stop_reason == STOP_REASONS[finish]


@pytest.mark.parametrize("word", FINISHES)
def test_anthropics_own_words_stay(word: str) -> None:
    found = stop_reason_of(FINISHES[word], word, by_sequence=word == "stop_sequence", has_calls=False, is_refusal=False)
    assert found == word


@pytest.mark.parametrize(
    ("finish", "raw", "flags", "expected"),
    [
        (Finish.STOP, "stop", {"has_calls": True}, "tool_use"),
        (Finish.STOP, "stop", {"by_sequence": True}, "stop_sequence"),
        (Finish.STOP, "stop", {"is_refusal": True}, "refusal"),
        (Finish.STOP, "model_context_window_exceeded", {}, "end_turn"),
        (Finish.LENGTH, "model_context_window_exceeded", {}, "model_context_window_exceeded"),
        (Finish.LENGTH, "length", {"has_calls": True}, "max_tokens"),
        (None, None, {}, "end_turn"),
        (None, None, {"has_calls": True}, "tool_use"),
    ],
)
def test_stop_reasons(finish: Finish | None, raw: str | None, flags: dict[str, bool], expected: str) -> None:
    flags = {"by_sequence": False, "has_calls": False, "is_refusal": False, **flags}
    assert stop_reason_of(finish, raw, **flags) == expected


COUNTS = st.integers(0, 10**9)


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_usage_is_read_back_as_it_was(fresh: int, cached: int, written_: int, out: int, reasoning: int) -> None:
    usage = Usage(
        prompt=fresh + cached + written_, completion=out, cached=cached, cache_write=written_, reasoning=reasoning
    )
    said = json.loads(usage_json(usage))
    assert (said["input_tokens"], said["output_tokens"]) == (fresh, out)
    body = write_completion(Completion(choices=[Choice(text="x", finish=Finish.STOP)], usage=usage), default_id="m")
    read = read_completion(body, failed)
    assert isinstance(read, Completion) and read.usage == usage


def test_usage_that_does_not_add_up_is_never_negative() -> None:
    assert json.loads(usage_json(Usage(prompt=1, cached=5)))["input_tokens"] == 0


# --- whole answers -------------------------------------------------------------------------------------------


def test_a_whole_answer() -> None:
    calls = (ToolCall("toolu_1", "f", '{"a":1}'), ToolCall("", "g", ""), ToolCall("a.b:0", "h", "[1]"))
    body = written(
        Choice(reasoning="hm", text="well", tool_calls=calls, finish=Finish.TOOL_CALLS, raw_finish="tool_calls"),
        usage=Usage(prompt=9, completion=3, cached=4, cache_write=1, reasoning=2),
    )
    thinking, text, first, second, third = body.pop("content")
    assert thinking == {"type": "thinking", "thinking": "hm", "signature": ""}
    assert text == {"type": "text", "text": "well"}
    assert first == {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}
    assert (second["input"], third["id"], third["input"]) == ({}, "a_b_0", {"arguments": "[1]"})
    assert second["id"].startswith("call_")
    assert body == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 4,
            "cache_creation_input_tokens": 1,
            "cache_read_input_tokens": 4,
            "output_tokens": 3,
            "output_tokens_details": {"thinking_tokens": 2},
        },
    }


def test_an_answer_that_gave_nothing_but_its_end() -> None:
    body = json.loads(write_completion(Completion(choices=[]), default_id="msg_default"))
    assert (body["id"], body["content"], body["stop_reason"]) == ("msg_default", [], "end_turn")
    assert body["usage"]["output_tokens"] == 0


def test_a_refusal_is_text() -> None:
    body = written(Choice(refusal="I will not", finish=Finish.STOP))
    assert body["content"] == [{"type": "text", "text": "I will not"}] and body["stop_reason"] == "refusal"
    answer = streamed(StreamEvent(refusal="I will"), StreamEvent(refusal=" not"), StreamEvent(finish=Finish.STOP))
    assert answer.text == "I will not" and answer.stop_reason == "refusal" and len(answer.blocks) == 1


@needs_recordings
@pytest.mark.parametrize("name", BODIES)
def test_recorded_answers_mean_the_same_when_written_anew(name: str) -> None:
    body = load(name)["response"]["body"]
    read = read_completion(body.encode(), failed)
    assert isinstance(read, Completion)
    again = Recorded.of_body(write_completion(read, default_id="msg_default").decode())
    recorded = Recorded.of_body(body)
    assert (again.id, again.model, again.text, again.reasoning) == (
        recorded.id, recorded.model, recorded.text, recorded.reasoning,
    )  # fmt: skip
    assert again.calls == recorded.calls and again.tokens == recorded.tokens
    assert again.stop_reason == recorded.stop_reason


# --- errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 418, 422, 429, 500, 502, 503, 504, 529])
def test_an_error_has_the_type_of_its_status(status: int) -> None:
    value = json.loads(error_body(status, "broken", code=None))
    assert value.keys() == {"type", "error"} and value["error"].keys() == {"type", "message"}
    expected = ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    assert (value["type"], value["error"]["type"]) == ("error", expected)


def test_an_error_keeps_our_code_and_the_field() -> None:
    event = error_event(504, "too long", code="timeout")
    assert event.startswith(b"event: error\ndata: {") and event.endswith(b"}\n\n")
    assert of_stream(event).error == {"type": "timeout_error", "message": "too long", "code": "timeout"}
    assert json.loads(error_body(400, "bad", code="c", param="max_tokens"))["error"]["param"] == "max_tokens"


# --- streams -------------------------------------------------------------------------------------------------


def test_a_stream_with_everything() -> None:
    answer = streamed(
        StreamEvent(reasoning="h", in_block=True),
        StreamEvent(reasoning="m", in_block=True),
        StreamEvent(text="Let "),
        StreamEvent(text="me see", usage=Usage(prompt=1, completion=1)),
        delta(id="call_1", name="f"),
        delta('{"a":'),
        delta("1}"),
        delta(index=1, id="call.2", name="g"),
        StreamEvent(finish=Finish.TOOL_CALLS, raw_finish="tool_calls"),
        StreamEvent(usage=Usage(prompt=9, completion=3, cached=4)),
        member=b'{"joined":[]}',
    )
    assert answer.blocks == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "Let me see"},
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "call_2", "name": "g", "input": {}},
    ]
    assert (answer.id, answer.model, answer.stop_reason) == ("msg_1", "m", "tool_use")
    assert (answer.usage["input_tokens"], answer.usage["output_tokens"]) == (5, 3)
    assert answer.extra == {"joined": []}


def test_a_stream_of_nothing_but_its_end_has_no_blocks() -> None:
    answer = streamed(StreamEvent(finish=Finish.STOP, raw_finish="stop_sequence", stopped_by_sequence=True))
    assert answer.blocks == [] and answer.stop_reason == "stop_sequence"


def test_what_says_nothing_writes_nothing() -> None:
    writer = MessageWriter()
    assert writer.write(StreamEvent(id="x", model="m", usage=Usage(prompt=1))) == b""
    assert writer.write(StreamEvent(is_open=True, in_block=True)) == b""


def test_the_first_call_flows_and_all_else_waits_for_the_end() -> None:
    writer = MessageWriter()
    writer.be("msg_1", "m")
    out = writer.write(delta('{"a"', id="c1", name="f"))
    assert b"tool_use" in out and b"partial_json" in out
    assert writer.write(delta('{"b"', index=1, id="c2", name="g")) == b""
    assert writer.write(StreamEvent(text="by the way")) == b""
    assert b'":1}' in writer.write(delta(":1}")).replace(b"\\", b"")
    assert writer.write(delta(":2}", index=1)) == b""
    answer_bytes = writer.write(StreamEvent(finish=Finish.TOOL_CALLS)) + writer.end()
    assert answer_bytes.index(b'"c2"') < answer_bytes.index(b"by the way")


def test_a_ping_is_an_event_of_its_own() -> None:
    assert PING == b'event: ping\ndata: {"type": "ping"}\n\n'


SAID = st.sampled_from(
    [
        *[StreamEvent(text=word) for word in ("a", "\n", "ä")],
        StreamEvent(reasoning="hm"),
        StreamEvent(refusal="no"),
        StreamEvent(text="x", reasoning="y", refusal="z"),
        StreamEvent(usage=Usage(prompt=7, completion=1)),
        StreamEvent(usage=Usage(prompt=9, completion=2, cached=4)),
        *[delta(index=index) for index in range(3)],
    ]
)
"""What providers may send; of a call it is the next piece."""


@st.composite
def streams(draw: st.DrawFn) -> list[StreamEvent]:
    """Events in any order: words of all kinds, and the pieces of calls by turns."""
    pieces = {n: iter(["", '{"a"', f":{n}", "}"]) for n in range(3)}
    events: list[StreamEvent] = []
    for event in [
        *draw(st.lists(SAID, max_size=12)),
        *[delta(index=n) for n in range(draw(st.integers(0, 3))) for _ in "1234"],
    ]:
        if not event.tools:
            events.append(event)
            continue
        n = event.tools[0].index
        piece = next(pieces[n], None)
        if piece is not None:
            name = {} if piece else {"id": f"c{n}", "name": "f"}
            events.append(delta(piece, n, **name))
    return [*events, StreamEvent(finish=draw(st.sampled_from(list(Finish))))]


@given(streams())
def test_any_stream_is_well_formed_and_says_what_was_said(events: list[StreamEvent]) -> None:
    said = Assembly()
    for event in events:
        said.add(event)
    choice = said.completion().choices[0]
    assume(all(call.arguments == "" or call.arguments.endswith("}") for call in choice.tool_calls))
    answer = streamed(*events)
    assert answer.thinking == choice.reasoning
    assert sorted(answer.text) == sorted(choice.text + choice.refusal)
    calls = [("f", msgspec.json.decode(call.arguments or "{}")) for call in choice.tool_calls]
    assert sorted(answer.calls, key=str) == sorted(calls, key=str)
    if said.usage is not None:
        assert answer.usage["input_tokens"] == said.usage.prompt - said.usage.cached
