"""Cohere's answers and streams: what each piece of them is, in whatever pieces they come."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crossfade.core.assembly import Assembly
from crossfade.core.exchange import Completion, Finish, StreamEvent, ToolDelta, Usage
from crossfade.core.failure import Failure
from crossfade.core.failure import FailureReason as R
from crossfade.wire.cohere import CohereReader, read_completion
from crossfade.wire.sse import MAX_EVENT, SSE

Json = dict[str, Any]


def on_error(body: bytes) -> Failure:
    return Failure(reason=R.SERVER_ERROR, message=body.decode())


def event(kind: str, delta: Json | None = None, **more: Any) -> bytes:
    body: Json = {"type": kind, **more} | ({} if delta is None else {"delta": delta})
    return f"event: {kind}\ndata: {json.dumps(body)}\n\n".encode()


def content(index: int, **piece: str) -> bytes:
    return event("content-delta", {"message": {"content": piece}}, index=index)


def call(kind: str, index: int, **fields: Any) -> bytes:
    return event(f"tool-call-{kind}", {"message": {"tool_calls": fields}} if fields else None, index=index)


def plan(text: str) -> bytes:
    return event("tool-plan-delta", {"message": {"tool_plan": text}})


def end(word: str = "COMPLETE", **more: Any) -> bytes:
    return event("message-end", {"finish_reason": word, "usage": {}, **more})


START = event("message-start", {"message": {"role": "assistant", "content": [], "tool_calls": []}}, id="id-1")
DONE = b"data: [DONE]\n\n"


def read(*data: bytes, undecodable: int = 0) -> tuple[list[StreamEvent], bool]:
    reader = CohereReader(on_error)
    events = [event for one in data for event in reader.feed(one)]
    events += reader.close()
    assert reader.undecodable == undecodable
    return events, reader.is_complete


def test_text_begins_with_its_first_piece_and_ends_with_the_generation() -> None:
    opened = event("content-start", {"message": {"content": {"type": "text", "text": ""}}}, index=0)
    events, is_complete = read(START, opened, content(0, text="Hi"), event("content-end", index=0), end(), DONE)
    assert [one.text for one in events] == ["", "", "Hi", "", "", ""] and is_complete
    assert events[0].id == "id-1" and not any(one.in_block or one.is_open for one in events)
    assert (events[-2].finish, events[-2].raw_finish, events[-1].is_end) == (Finish.STOP, "COMPLETE", True)


def test_thoughts_and_plans_are_reasoning_in_a_block_of_their_own() -> None:
    opened = event("content-start", {"message": {"content": {"type": "thinking", "thinking": ""}}}, index=0)
    events, _ = read(opened, content(0, thinking="Hm"), event("content-end", index=0), plan("I"), plan(" will"))
    assert [(one.reasoning, one.is_open, one.in_block) for one in events] == [
        ("", True, True),
        ("Hm", False, True),
        ("", False, False),
        ("I", True, True),
        (" will", False, True),
    ]
    *_, text = read(plan("I"), content(0, text="Done"))[0]
    assert text.text == "Done" and not text.in_block


def test_calls_come_in_pieces_and_are_numbered_in_their_order() -> None:
    events, is_complete = read(
        plan("Look"),
        call("start", 0, id="f_1", type="function", function={"name": "f", "arguments": ""}),
        call("delta", 0, function={"arguments": '{"a"'}),
        call("delta", 0, function={"arguments": ":1}"}),
        call("end", 0),
        call("start", 3, id="g_1", type="function", function={"name": "g", "arguments": ""}),
        call("end", 3),
        end("TOOL_CALL"),
    )
    answer = Assembly()
    for one in events:
        answer.add(one)
    (choice,) = answer.completion().choices
    assert [(one.id, one.name, one.arguments) for one in choice.tool_calls] == [
        ("f_1", "f", '{"a":1}'),
        ("g_1", "g", "{}"),
    ]
    assert choice.finish is Finish.TOOL_CALLS and choice.reasoning == "Look" and is_complete
    assert [one.in_block for one in events] == [True, True, True, True, False, True, False, False]
    assert [one.is_open for one in events] == [True, True, False, False, False, True, False, False]


def test_names_of_tools_come_back_as_the_caller_has_them() -> None:
    names = {"get_it": "get-it"}
    reader = CohereReader(on_error, names)
    (opened,) = reader.feed(call("start", 0, id="c", function={"name": "get_it"}))
    assert opened.tools[0].name == "get-it"
    calls = [{"id": "c", "function": {"name": name, "arguments": "{}"}} for name in ("get_it", "other")]
    body = {"message": {"tool_calls": calls}, "finish_reason": "TOOL_CALL"}
    found = read_completion(json.dumps(body).encode(), on_error, names)
    assert isinstance(found, Completion)
    assert [one.name for one in found.choices[0].tool_calls] == ["get-it", "other"]


def test_a_call_may_come_whole_with_its_start() -> None:
    events, _ = read(call("start", 0, id="c", function={"name": "f", "arguments": "{}"}), call("end", 0))
    assert [one.tools for one in events] == [(ToolDelta(index=0, id="c", name="f", arguments="{}"),), ()]


def test_arguments_of_a_call_that_never_began_are_counted_and_are_content() -> None:
    events, _ = read(call("delta", 1, function={"arguments": "{}"}), undecodable=1)
    assert events[0].has_other_content and not events[0].tools


def test_a_citation_is_content_that_is_not_delivered() -> None:
    cited = {"message": {"citations": {"start": 0, "end": 2, "text": "Hi"}}}
    events, _ = read(event("citation-start", cited, index=0), event("citation-end", index=0))
    assert [one.has_other_content for one in events] == [True, False]
    body = {"id": "a", "message": {"content": [], "citations": [{"text": "x"}]}, "finish_reason": "COMPLETE"}
    found = read_completion(json.dumps(body).encode(), on_error)
    assert isinstance(found, Completion) and found.choices[0].has_other_content


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (end("ERROR", error="broken"), '"error": "broken"'),
        (end("ERROR"), '"finish_reason": "ERROR"'),
        (b'data: {"message":"too fast"}\n\n', "too fast"),
        (event("error", error={"message": "gone"}), "gone"),
    ],
)
def test_errors_in_a_stream_are_handed_on_as_they_are_and_end_it(data: bytes, said: str) -> None:
    events, is_complete = read(START, data, content(0, text="late"), DONE)
    assert len(events) == 2 and not is_complete
    assert events[1].failure is not None and said in events[1].failure.message


def test_a_timeout_of_the_generation_is_the_servers_fault() -> None:
    events, is_complete = read(content(0, text="a"), end("TIMEOUT"))
    assert events[1].failure is not None and events[1].failure.reason is R.SERVER_ERROR and not is_complete


def test_bytes_that_are_no_event_are_passed_over_and_counted() -> None:
    events, is_complete = read(START, b"event: x\ndata: {nonsense\n\n", end(), undecodable=1)
    assert len(events) == 2 and is_complete
    assert read(b": keep-alive\n\n", b"event: ping\n\n", event("new-kind", {"x": 1}))[0] == [StreamEvent()]


def test_a_last_event_may_lack_its_blank_line() -> None:
    events, is_complete = read(content(0, text="a"), end().rstrip())
    assert events[-1].finish is Finish.STOP and is_complete


def test_an_event_that_never_ends_breaks_the_stream() -> None:
    reader = CohereReader(on_error)
    (event,) = reader.feed(b"data: " + b"x" * (MAX_EVENT + 1))
    assert event.failure is not None and event.failure.reason is R.MALFORMED_OUTPUT
    assert not reader.is_complete and "broken" in repr(reader)
    assert not reader.feed(content(0, text="a")) and reader.framing is SSE


def test_what_is_billed_counts_where_nothing_else_is_said() -> None:
    def usage(**given: Any) -> Usage | None:
        return read(end(usage=given))[0][0].usage

    billed = {"input_tokens": 5, "output_tokens": 6}
    tokens = {"input_tokens": 500, "output_tokens": 60, "reasoning_tokens": 20}
    counted = Usage(prompt=500, completion=60, cached=480, reasoning=20)
    assert usage(billed_units=billed, tokens=tokens, cached_tokens=480) == counted
    assert usage(billed_units=billed) == Usage(prompt=5, completion=6)
    assert usage() is None
    # One model counts its images apart, another within.
    assert usage(tokens={"input_tokens": 34, "image_tokens": 259, "output_tokens": 1}) == Usage(
        prompt=293, completion=1
    )
    assert usage(tokens={"input_tokens": 499, "image_tokens": 259}) == Usage(prompt=499)
