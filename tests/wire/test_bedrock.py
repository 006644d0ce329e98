"""Converse's answers that were not recorded: odd blocks, words and orders, damage."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from crossfade.core.exchange import Completion, Finish, StreamEvent, ToolDelta, Usage
from crossfade.core.failure import Failure
from crossfade.core.failure import FailureReason as R
from crossfade.wire.bedrock import ConverseReader, read_completion
from crossfade.wire.bedrock_invoke import InvokeReader
from crossfade.wire.event_stream import write_frame

FAILED = Failure(reason=R.SERVER_ERROR)


def completion(*content: Any, word: str | None = "end_turn", **fields: Any) -> Completion | Failure:
    body = {"output": {"message": {"role": "assistant", "content": list(content)}}, "stopReason": word, **fields}
    return read_completion(json.dumps(body).encode(), lambda kind, data: FAILED)


def choice(*content: Any, word: str | None = "end_turn") -> Any:
    found = completion(*content, word=word)
    assert isinstance(found, Completion)
    return found.choices[0]


def event(kind: str, **fields: Any) -> bytes:
    return frame(kind, json.dumps(fields).encode())


def frame(kind: str, payload: bytes) -> bytes:
    return write_frame({":event-type": kind, ":message-type": "event"}, payload)


def delta(index: int, **fields: Any) -> bytes:
    return event("contentBlockDelta", contentBlockIndex=index, delta=fields)


def read(*data: bytes) -> tuple[list[StreamEvent], ConverseReader]:
    reader = ConverseReader(lambda kind, data: FAILED)
    return [*reader.feed(b"".join(data)), *reader.close()], reader


STOP = event("messageStop", stopReason="end_turn")
USAGE = {"inputTokens": 3, "outputTokens": 5, "totalTokens": 15, "cacheReadInputTokens": 4, "cacheWriteInputTokens": 3}
METADATA = event("metadata", usage=USAGE, metrics={"latencyMs": 1})


# --- whole answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "finish", "reason"),
    [
        ("end_turn", Finish.STOP, None),
        ("stop_sequence", Finish.STOP, None),
        ("max_tokens", Finish.LENGTH, None),
        ("model_context_window_exceeded", Finish.LENGTH, None),
        ("guardrail_intervened", Finish.CONTENT_FILTER, None),
        ("content_filtered", Finish.CONTENT_FILTER, None),
        ("malformed_model_output", None, R.MALFORMED_OUTPUT),
        ("malformed_tool_use", None, R.INVALID_TOOL_CALL),
        ("out_of_cheese", Finish.STOP, None),
        (None, None, None),
    ],
)
def test_the_words_of_the_end(word: str | None, finish: Finish | None, reason: R | None) -> None:
    found = choice({"text": "hi"}, word=word)
    assert (found.finish, found.raw_finish) == (finish, word)
    assert (found.failure.reason if found.failure else None) == reason
    assert found.stopped_by_sequence == (word == "stop_sequence")


def test_an_unknown_word_without_content_is_an_empty_output() -> None:
    thought = {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}}
    found = choice(thought, word="out_of_cheese")
    assert found.failure.reason is R.EMPTY_OUTPUT and found.reasoning == "hm" and found.text == ""


def test_blocks_of_all_kinds() -> None:
    call = {"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1.50}}}
    bare = {"toolUse": {"toolUseId": "u", "name": "g"}}
    cited = {"citationsContent": {"content": [{"text": "b"}, {"text": "c"}], "citations": [{"title": "x"}]}}
    redacted = {"reasoningContent": {"redactedContent": "AAAA"}}
    found = choice({"text": "a"}, cited, redacted, call, bare, {"image": {"format": "png"}}, {"newKind": {}})
    assert (found.text, found.reasoning, found.has_other_content) == ("abc", "", True)
    assert [(one.id, one.name, one.arguments) for one in found.tool_calls] == [
        ("t", "f", '{"a":1.5}'),
        ("u", "g", "{}"),
    ]
    assert found.finish is Finish.TOOL_CALLS  # an `end_turn` behind calls
    assert not choice({"citationsContent": {"content": [{"text": "b"}], "citations": []}}).has_other_content


def test_usage_counts_what_came_from_a_cache_and_went_into_one() -> None:
    found = completion({"text": "a"}, usage=USAGE)
    assert isinstance(found, Completion)
    assert found.usage == Usage(prompt=10, completion=5, cached=4, cache_write=3)


# --- streams -------------------------------------------------------------------------------------------------


def test_a_stream_ends_with_its_stop_reason_and_the_usage_behind_it() -> None:
    events, reader = read(event("messageStart", role="assistant"), delta(0, text="hi"), STOP)
    assert reader.is_complete and not any(one.is_end for one in events) and "complete" in repr(reader)
    events, reader = read(delta(0, text="hi"), STOP, METADATA)
    assert [one.is_end for one in events] == [False, False, False, True]
    assert events[2].usage == Usage(prompt=10, completion=5, cached=4, cache_write=3) and events[3].usage is None
    events, reader = read(delta(0, text="hi"), METADATA)
    assert not reader.is_complete and not any(one.is_end for one in events) and "open" in repr(reader)


def test_a_block_is_open_until_it_stops() -> None:
    events, _ = read(
        delta(0, reasoningContent={"text": "h"}),
        delta(0, reasoningContent={"text": "m"}),
        delta(0, reasoningContent={"signature": "s"}),
        delta(0, reasoningContent={"redactedContent": "AA"}),
        event("contentBlockStop", contentBlockIndex=0),
        delta(1, text="So"),
        event("contentBlockStart", contentBlockIndex=2, start={"toolUse": {"toolUseId": "t", "name": "f"}}),
        delta(2, toolUse={"input": ""}),
        delta(2, toolUse={"input": '{"a":1}'}),
        event("contentBlockStop", contentBlockIndex=2),
    )
    assert [one.in_block for one in events] == [True, True, True, True, False, False, True, True, True, False]
    assert [one.is_open for one in events] == [True, False, False, False, False, False, True, False, False, False]
    assert "".join(one.reasoning for one in events) == "hm"
    assert [one.tools for one in events if one.tools] == [
        (ToolDelta(index=0, id="t", name="f"),),
        (ToolDelta(index=0, arguments='{"a":1}'),),
    ]


def test_calls_may_be_interleaved_and_one_without_arguments_has_an_empty_object() -> None:
    starts = [
        event("contentBlockStart", contentBlockIndex=n, start={"toolUse": {"toolUseId": f"t{n}", "name": "f"}})
        for n in (4, 7)
    ]
    events, reader = read(
        *starts,
        delta(7, toolUse={"input": "{}"}),
        event("contentBlockStop", contentBlockIndex=4),
        event("contentBlockStop", contentBlockIndex=7),
        STOP,
    )
    found = [delta for one in events for delta in one.tools]
    assert [(one.index, one.arguments) for one in found] == [(0, ""), (1, ""), (1, "{}"), (0, "{}")]
    assert events[-1].finish is Finish.TOOL_CALLS and reader.is_complete


def test_other_content_counts() -> None:
    events, _ = read(
        delta(0, citation={"title": "x"}),
        event("contentBlockStart", contentBlockIndex=1, start={"image": {"format": "png"}}),
        delta(1, image={"source": {"bytes": "AA"}}),
        delta(9, toolUse={"input": "{}"}),
        event("messageStop", stopReason="out_of_cheese"),
    )
    assert [one.has_other_content for one in events] == [True, True, True, True, False]
    assert events[-1].finish is Finish.STOP


def test_what_cannot_be_decoded_is_counted_and_the_stream_goes_on() -> None:
    events, reader = read(frame("contentBlockDelta", b"{nonsense"), frame("newEvent", b"{}"), delta(0, text="hi"), STOP)
    assert reader.undecodable == 1 and reader.is_complete and "".join(one.text for one in events) == "hi"


def test_a_damaged_frame_ends_the_stream() -> None:
    damaged = delta(0, text="there").replace(b"there", b"thera")
    events, reader = read(delta(0, text="hi"), damaged, delta(0, text="!"), STOP, METADATA)
    assert [one.text for one in events] == ["hi", ""] and not reader.is_complete and "broken" in repr(reader)
    assert events[-1].failure is not None and events[-1].failure.reason is R.MALFORMED_OUTPUT
    assert not reader.feed(STOP)


def test_nothing_behind_an_exception_counts() -> None:
    broken = write_frame({":message-type": "exception", ":exception-type": "throttlingException"}, b"{}")
    events, reader = read(STOP, broken, METADATA)
    assert [one.failure for one in events] == [None, FAILED] and not reader.is_complete


def test_half_a_frame_at_the_end_is_counted() -> None:
    _, reader = read(delta(0, text="hi")[:-3])
    assert reader.undecodable == 1 and not reader.is_complete and reader.more_text(b"") is None


# --- Claude's own stream in frames ---------------------------------------------------------------------------


def chunk(event: Any) -> bytes:
    data = event if isinstance(event, bytes) else json.dumps(event).encode()
    return frame("chunk", json.dumps({"bytes": base64.b64encode(data).decode(), "p": "abc"}).encode())


def test_a_chunk_is_an_event_of_anthropics() -> None:
    reader = InvokeReader(lambda kind, data: FAILED, lambda data: FAILED)
    said = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}
    (event,) = reader.feed(chunk(said))
    assert event.text == "hi"
    assert event.raw == b"event: content_block_delta\ndata: " + json.dumps(said).encode() + b"\n\n"
    assert "InvokeReader" in repr(reader) and not reader.is_complete


def test_chunks_that_say_nothing_are_counted_and_no_line_comes_out_of_them() -> None:
    reader = InvokeReader(lambda kind, data: FAILED, lambda data: FAILED)
    bad = [b"{nonsense", {"type": "a\nevent: error"}, {"type": 5}, {"type": ""}]
    assert not [event for one in bad for event in reader.feed(chunk(one))] and reader.undecodable == len(bad)
    assert not reader.feed(frame("chunk", b'{"bytes":"%%%"}')) and reader.undecodable == len(bad) + 1
    assert not reader.feed(frame("newEvent", b"{}")) and reader.undecodable == len(bad) + 1
    (event,) = reader.feed(chunk(b'{"type":"ping",\n"x":1}'))
    assert event.raw == b'event: ping\ndata: {"type":"ping", "x":1}\n\n'
    reader.feed(chunk({"type": "content_block_delta", "index": "no number"}))
    assert reader.undecodable == len(bad) + 2
