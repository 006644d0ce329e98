"""Answers written as responses of the Responses API: whole, streamed, behind a stream that passed, and errors."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import openai.types.responses as sdk
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from crossfade.core.assembly import Assembly
from crossfade.core.exchange import Choice, Completion, Finish, StreamEvent, ToolCall, ToolDelta, Usage
from crossfade.core.failure import Failure
from crossfade.wire.responses_answer import read_completion
from crossfade.wire.responses_objects import write_completion
from crossfade.wire.responses_request import OUR_REASONING, read_request
from crossfade.wire.responses_shapes import Event
from crossfade.wire.responses_stream import ResponsesStreamReader
from crossfade.wire.responses_writer import MAX_KEPT, ResponseWriter
from tests.recordings import load, needs_recordings, streams
from tests.wire.responses_recorded import Answer, events_of
from tests.wire.strategies import events, finishes, pieces, said

ECHO = read_request(b'{"model":"m","input":"x","temperature":0.5}', {}).facts.echo
USAGE = Usage(prompt=10, completion=7, cached=4, cache_write=2, reasoning=3)
EVENT: TypeAdapter[Any] = TypeAdapter(sdk.ResponseStreamEvent)
STREAMS = [name for name in streams("responses") if "-error-" not in name]


def no_failure(data: bytes) -> Failure:
    raise AssertionError(data)


def whole(choice: Choice, **fields: Any) -> dict[str, Any]:
    completion = Completion(**{"id": "chatcmpl-1", "model": "m", "created": 5, "choices": [choice], **fields})
    made: dict[str, Any] = json.loads(write_completion(completion, ECHO, default_id="resp_d", default_created=9))
    sdk.Response.model_validate(made)
    return made


def new_writer() -> ResponseWriter:
    writer = ResponseWriter(ECHO)
    writer.be("resp_chatcmpl-1", "m", 5)
    return writer


def streamed(*events: StreamEvent, member: bytes | None = None, usage: Usage | None = None) -> list[dict[str, Any]]:
    writer = new_writer()
    out = b"".join([writer.write(event) for event in events])
    writer.usage = usage or writer.usage
    return checked(out + writer.end(member))


def checked(body: bytes) -> list[dict[str, Any]]:
    """The events, after a look at what holds of every stream: names, numbers, the SDK's own types, the order."""
    names = [line[7:] for line in body.decode().split("\n") if line.startswith("event: ")]
    events = events_of(body.decode())
    assert names == [event["type"] for event in events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        EVENT.validate_python(event)
    check_order(events)
    return events


def check_order(events: list[dict[str, Any]]) -> None:
    """Items and parts open once, take pieces only while they are open, end with all of them, and are in the end."""
    items: dict[int, dict[str, Any]] = {}
    done: dict[int, dict[str, Any]] = {}
    parts: dict[tuple[int, int], str] = {}
    for event in events:
        kind, at = event["type"], event.get("output_index", -1)
        if kind == "response.output_item.added":
            assert at == len(items)
            items[at] = event["item"]
        elif kind == "response.output_item.done":
            assert at in items and at not in done and not [key for key in parts if key[0] == at]
            assert event["item"]["id"] == items[at]["id"]
            done[at] = event["item"]
        elif at >= 0:
            assert at in items and at not in done and event["item_id"] == items[at]["id"]
            key = (at, event.get("content_index", event.get("summary_index", 0)))
            if kind.endswith("part.added"):
                assert key not in parts
                parts[key] = ""
            elif kind.endswith(".delta"):
                parts[key] = parts.get(key, "") + event["delta"]
            elif kind.endswith("part.done"):
                text = parts.pop(key)
                assert text == event["part"].get("text", event["part"].get("refusal"))
            elif kind.endswith("arguments.done"):
                assert parts.pop(key) == event["arguments"]
            else:
                assert parts[key] == event.get("text", event.get("refusal"))
    assert items.keys() == done.keys() and not parts
    if events[-1]["type"] != "response.failed":
        assert events[-1]["response"]["output"] == [done[at] for at in sorted(done)]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


# --- whole answers -------------------------------------------------------------------------------------------


def test_a_text() -> None:
    made = whole(Choice(text="hello", finish=Finish.STOP), usage=USAGE)
    assert (made["id"], made["object"], made["created_at"], made["model"]) == ("resp_chatcmpl-1", "response", 5, "m")
    assert (made["status"], made["error"], made["incomplete_details"]) == ("completed", None, None)
    (item,) = made["output"]
    assert item.pop("id").startswith("msg_")
    assert item == {
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "hello"}],
    }
    assert made["temperature"] == 0.5 and made["store"] is False and made["tools"] == []


def test_usage_is_by_the_rules_of_the_api() -> None:
    assert whole(Choice(text="x"), usage=USAGE)["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 17,
    }
    assert whole(Choice(text="x"))["usage"] is None


def test_an_answer_without_identity_gets_one() -> None:
    made = whole(Choice(text="x"), id="", created=0)
    assert (made["id"], made["created_at"]) == ("resp_d", 9)
    assert whole(Choice(text="x"), id="resp_1")["id"] == "resp_1"


def test_reasoning_a_refusal_and_calls_are_items() -> None:
    calls = (ToolCall("c1", "f", '{"a":1}'), ToolCall("", "g", ""))
    made = whole(Choice(reasoning="hm", text="a", refusal="no", tool_calls=calls, finish=Finish.TOOL_CALLS))
    reasoning, message, first, second = made["output"]
    assert made["status"] == "completed"
    assert reasoning["id"].startswith(OUR_REASONING)
    assert reasoning["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert [part["type"] for part in message["content"]] == ["output_text", "refusal"]
    assert (first["id"][:3], first["call_id"], first["name"], first["arguments"]) == ("fc_", "c1", "f", '{"a":1}')
    assert second["call_id"].startswith("call_") and second["arguments"] == "{}"
    assert len({item["id"] for item in made["output"]}) == 4
    assert all(len(item["id"]) <= 64 for item in made["output"])


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        (Finish.STOP, "completed", None),
        (Finish.TOOL_CALLS, "completed", None),
        (None, "completed", None),
        (Finish.LENGTH, "incomplete", "max_output_tokens"),
        (Finish.CONTENT_FILTER, "incomplete", "content_filter"),
    ],
)
def test_how_it_ended(finish: Finish | None, status: str, reason: str | None) -> None:
    details = None if reason is None else {"reason": reason}
    made = whole(Choice(reasoning="r", text="x", finish=finish))
    assert (made["status"], made["incomplete_details"]) == (status, details)
    assert made["output"][-1]["status"] == status
    last = streamed(StreamEvent(text="x"), StreamEvent(finish=finish))[-1]
    assert last["type"] == f"response.{status}"
    assert (last["response"]["status"], last["response"]["incomplete_details"]) == (status, details)
    assert last["response"]["output"][-1]["status"] == status


def test_an_answer_of_nothing_has_no_items() -> None:
    assert whole(Choice())["output"] == [] and whole(Choice(), choices=[])["output"] == []


# --- streams -------------------------------------------------------------------------------------------------


def test_the_events_of_a_text() -> None:
    events = streamed(StreamEvent(text="a"), StreamEvent(text="b"), StreamEvent(finish=Finish.STOP, usage=USAGE))
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert events[0]["response"]["status"] == "in_progress" and events[0]["response"]["output"] == []
    assert events[6]["text"] == "ab" and events[-1]["response"]["usage"]["total_tokens"] == 17


def test_the_events_of_reasoning_a_refusal_and_calls() -> None:
    events = streamed(
        StreamEvent(reasoning="h"),
        StreamEvent(reasoning="m"),
        StreamEvent(text="a"),
        StreamEvent(refusal="no"),
        StreamEvent(tools=(ToolDelta(index=0, id="c1", name="f"),)),
        StreamEvent(tools=(ToolDelta(index=1, id="c2", name="g", arguments="{"),)),
        StreamEvent(tools=(ToolDelta(index=0, arguments="[]"),)),
        StreamEvent(tools=(ToolDelta(index=1, arguments="}"),)),
        StreamEvent(finish=Finish.TOOL_CALLS),
    )
    assert kinds(events)[2:-1] == [
        *("output_item.added", "reasoning_summary_part.added"),
        *("reasoning_summary_text.delta", "reasoning_summary_text.delta"),
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done"),
        *("content_part.added", "refusal.delta", "refusal.done", "content_part.done", "output_item.done"),
        *("output_item.added", "output_item.added", "function_call_arguments.delta"),
        *("function_call_arguments.delta", "function_call_arguments.delta"),
        *("function_call_arguments.done", "output_item.done") * 2,
    ]
    said = Answer.of_response(events[-1]["response"] | {"usage": {}})
    assert (said.reasoning, said.text, said.refusal) == ("hm", "a", "no")
    assert said.calls == [("c1", "f", "[]"), ("c2", "g", "{}")]


def test_a_call_without_arguments_has_empty_ones() -> None:
    events = streamed(StreamEvent(tools=(ToolDelta(index=0, name="f"),)), StreamEvent(finish=Finish.STOP))
    (item,) = events[-1]["response"]["output"]
    assert item["arguments"] == "{}" and item["call_id"].startswith("call_")


def test_words_behind_calls_are_a_message_of_their_own() -> None:
    call = ToolDelta(index=0, id="c", name="f", arguments="{}")
    events = streamed(StreamEvent(text="a"), StreamEvent(tools=(call,)), StreamEvent(text="b"))
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["message", "function_call", "message"]


def test_what_an_answer_of_nothing_is() -> None:
    assert kinds(streamed()) == ["created", "in_progress", "completed"]


def test_the_last_event_has_our_member_and_the_owners_sum() -> None:
    events = streamed(StreamEvent(text="a", usage=USAGE), member=b'{"joined":[]}', usage=Usage(prompt=1, completion=2))
    assert events[-1]["response"]["crossfade"] == {"joined": []}
    assert events[-1]["response"]["usage"]["total_tokens"] == 3
    assert not any("crossfade" in event.get("response", {}) for event in events[:-1])


def test_an_error_is_said_in_both_ways_of_the_api() -> None:
    writer = new_writer()
    body = writer.write(StreamEvent(text="a")) + writer.error("broken", "server_error", "stream_interrupted")
    error, failed = events_of(body.decode())[-2:]
    assert (error["type"], error["code"], error["message"], error["param"]) == (
        *("error", "stream_interrupted", "broken"),
        None,
    )
    assert error["error"] == {
        "type": "server_error",
        "code": "stream_interrupted",
        "message": "broken",
        "param": None,
    }
    assert failed["type"] == "response.failed" and failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": "stream_interrupted", "message": "broken"}
    assert (error["sequence_number"], failed["sequence_number"]) == (5, 6)
    assert "started" in repr(writer) and "new" in repr(new_writer())


# --- read back -----------------------------------------------------------------------------------------------

FINISHES = finishes.filter(lambda finish: finish is not Finish.TOOL_CALLS)


def folded(events: list[StreamEvent]) -> Completion:
    answer = Assembly()
    for event in events:
        answer.add(event)
    return answer.completion()


def meaning(choice: Choice) -> tuple[Any, ...]:
    calls = sorted((call.id, call.name, call.arguments) for call in choice.tool_calls)
    return choice.text, choice.reasoning, choice.refusal, calls


@given(events, FINISHES)
def test_a_stream_reads_back_as_it_was_written(given_events: list[StreamEvent], finish: Finish) -> None:
    given_events = [*given_events, StreamEvent(finish=finish, usage=USAGE)]
    writer = new_writer()
    body = b"".join([writer.write(event) for event in given_events]) + writer.end()
    last = checked(body)[-1]["response"]
    reader = ResponsesStreamReader(no_failure)
    read = [*reader.feed(body)]
    assert reader.is_complete and reader.undecodable == 0
    wanted = folded(given_events).choices[0]
    got = folded(read).choices[0]
    assert meaning(got) == meaning(wanted)
    if finish is not Finish.STOP or not wanted.tool_calls:
        assert got.finish is finish
    assert [event.usage for event in read if event.usage is not None] == [USAGE]
    completed = read_completion(json.dumps(last).encode(), no_failure)
    assert isinstance(completed, Completion) and completed.usage == USAGE
    assert meaning(completed.choices[0]) == meaning(wanted)


@given(
    st.builds(
        Choice,
        text=said,
        reasoning=said,
        refusal=said,
        tool_calls=st.lists(st.builds(ToolCall, st.uuids().map(str), said, pieces), max_size=2).map(tuple),
        finish=FINISHES,
    )
)
def test_a_whole_answer_reads_back_as_it_was_written(choice: Choice) -> None:
    body = json.dumps(whole(choice, usage=USAGE)).encode()
    completion = read_completion(body, no_failure)
    assert isinstance(completion, Completion)
    assert meaning(completion.choices[0]) == meaning(choice) and completion.usage == USAGE
    assert (completion.id, completion.model, completion.created) == ("resp_chatcmpl-1", "m", 5)


# --- behind a stream that passed -------------------------------------------------------------------------------


def read(name: str) -> list[StreamEvent]:
    return [*ResponsesStreamReader(no_failure).feed(load(name)["response"]["body"].encode())]


def passed(events: list[StreamEvent]) -> tuple[ResponseWriter, bytes]:
    writer = ResponseWriter(ECHO)
    out = b""
    for event in events:
        if event.id:
            writer.be(event.id, event.model, event.created)
        if event.raw:
            out += writer.on_passed(event)
    return writer, out


@needs_recordings
@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_passes_as_it_came(name: str) -> None:
    """But for comments, and for the envelope of the last event, which is written anew to hold our member."""
    body = load(name)["response"]["body"]
    writer, out = passed(read(name))
    said, plain = out + writer.end(), events_of(body)
    assert body.encode().replace(b": \n\n", b"").startswith(out.rstrip())
    assert events_of(out.decode()) == plain[:-1]
    assert events_of(said.decode()) == plain
    last = events_of((out + writer.end(b'{"a":1}')).decode())[-1]
    assert last == plain[-1] | {"response": plain[-1]["response"] | {"crossfade": {"a": 1}}}


TEXTS = [name for name in STREAMS if Answer.of_stream(load(name)["response"]["body"]).calls == []]


@needs_recordings
@pytest.mark.parametrize("name", TEXTS)
def test_a_recorded_stream_is_gone_on_with_behind_any_piece_of_its_text(name: str) -> None:
    """In the same item and part, with the next number; what is whole stays as it came."""
    events = read(name)
    cuts = [number + 1 for number, event in enumerate(events) if event.text]
    for cut in cuts[:3] + cuts[-2:]:
        writer, out = passed(events[:cut])
        out += writer.write(StreamEvent(text="+ more")) + writer.write(StreamEvent(finish=Finish.STOP)) + writer.end()
        made = events_of(out.decode())
        numbers = [event.get("sequence_number") for event in made]
        assert None in numbers or numbers == list(range(len(made)))
        check_order(made)
        answer = made[-1]["response"]
        assert answer["id"] == events[0].id and answer["status"] == "completed"
        said = "".join(part.get("text", "") for item in answer["output"] for part in item.get("content") or ())
        assert said.endswith("".join(event.text for event in events[:cut]) + "+ more")
        whole_items = [e["item"] for e in made if e["type"] == "response.output_item.done"]
        assert answer["output"] == whole_items


def event_of(kind: str, **members: Any) -> StreamEvent:
    data = json.dumps({"type": f"response.{kind}", **members}).encode()
    return StreamEvent(raw=b"data: %s\n\n" % data, native=msgspec.json.decode(data, type=Event))


def test_what_passes_oddly_is_gone_on_with_all_the_same() -> None:
    """Items of unknown kinds, parts that are missing at their begin or end, no numbers: each seen of some server."""
    search = {"type": "web_search_call", "id": "ws", "content": "of another kind"}
    writer, out = passed(
        [
            event_of("created", response={"id": "x"}),
            event_of("output_item.added", output_index=0, item=search),
            event_of("output_item.done", output_index=0, item=search),
            event_of("output_item.added", output_index=1, item={"type": "message", "id": 'm"1'}),
            event_of("content_part.added", output_index=1),
            event_of("output_text.delta", output_index=1, delta="a"),
            event_of("content_part.done", output_index=1, content_index=0),
            event_of("output_text.delta", output_index=1, content_index=1, delta="b"),
            event_of("output_text.delta", output_index=7, delta="of no item"),
            event_of("output_text.delta", output_index=1, content_index=1, delta=None),
        ]
    )
    writer.be("resp_x", "m", 5)
    end = writer.write(StreamEvent(text="c")) + writer.write(StreamEvent(finish=Finish.STOP)) + writer.end()
    made = events_of((out + end).decode())
    assert [event.get("sequence_number") for event in made[10:]] == list(range(10, 15))
    message = made[-1]["response"]["output"][1]
    assert made[-1]["response"]["output"][0] == search
    assert message["id"] == 'm"1' and [part["text"] for part in message["content"]] == ["a", "bc"]


@pytest.mark.parametrize("passes", [False, True])
def test_an_answer_without_end_is_not_kept(passes: bool) -> None:
    writer = new_writer()
    piece = "x" * (MAX_KEPT // 4)
    delta = event_of("output_text.delta", output_index=0, delta=piece)
    writer.on_passed(event_of("output_item.added", output_index=0, item={"type": "message", "id": "m"}))
    for _ in range(4):
        writer.on_passed(delta) if passes else writer.write(StreamEvent(text=piece))
    with pytest.raises(ValueError, match="more than"):
        writer.on_passed(delta) if passes else writer.write(StreamEvent(text="x"))
