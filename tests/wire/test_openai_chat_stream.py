from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.exchange import Finish, RequestFacts, StreamEvent, ToolDelta, Usage
from crossfade.core.failure import Failure, FailureReason
from crossfade.core.target import StreamEnd
from crossfade.wire.openai_chat import ChunkReader, ChunkWriter

DONE = b"data: [DONE]\n\n"


def read_error(value: Any) -> Failure:
    return Failure(reason=FailureReason.SERVER_ERROR, message=json.dumps(value))


def reader(n: int = 1, **options: Any) -> ChunkReader:
    return ChunkReader(RequestFacts(stream=True, n=n), read_error=read_error, **options)


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **fields: Any) -> bytes:
    choice: dict[str, Any] = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    body = {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m", "choices": [choice]} | fields
    return f"data: {json.dumps(body, separators=(',', ':'))}\n\n".encode()


def events(*pieces: bytes, on: ChunkReader | None = None) -> list[StreamEvent]:
    on = on or reader()
    found: list[StreamEvent] = []
    for piece in pieces:
        found.extend(on.feed(piece))
    return found


def only(raw: bytes, on: ChunkReader | None = None) -> StreamEvent:
    (event,) = events(raw, on=on)
    return event


STREAM = (
    b": comment\n\n"
    + chunk({"role": "assistant", "content": ""})
    + chunk({"content": "h\u00e9llo"}).replace(b"\\u00e9", "é".encode())
    + chunk({"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}]})
    + chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}).replace(b"\n", b"\r\n")
    + chunk(finish="tool_calls")
    + b'data:{"choices":[],\ndata:"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
    + DONE
)


def summary(found: Sequence[StreamEvent]) -> list[StreamEvent]:
    return list(found)


def test_a_stream_cut_anywhere_means_the_same() -> None:
    whole = events(STREAM)
    assert [event.text for event in whole] == ["", "héllo", "", "", "", "", ""]
    assert whole[4].finish is Finish.TOOL_CALLS
    assert whole[5].usage == Usage(prompt=1, completion=2)
    assert whole[6].is_end
    assert b"".join(event.raw for event in whole) == STREAM.removeprefix(b": comment\n\n")
    for at in range(len(STREAM) + 1):
        on = reader()
        assert events(STREAM[:at], STREAM[at:], on=on) == whole, at
        assert on.is_complete
    assert events(*(STREAM[i : i + 1] for i in range(len(STREAM)))) == whole


def test_every_event_of_its_own_read_means_the_same() -> None:
    blocks = [block + b"\n\n" for block in STREAM.split(b"\n\n") if block]
    assert events(*blocks) == events(STREAM)


ODD_CHUNKS = [
    chunk({"content": ""}),
    chunk({"content": '\u00e9\n"\\'}),
    chunk({"content": None}),
    chunk({"content": [{"type": "text", "text": "a"}]}),
    chunk({"content": "a", "reasoning_content": None, "refusal": "", "tool_calls": None}),
    *(chunk({"content": "a", name: "r"}) for name in ("reasoning_content", "reasoning", "refusal")),
    chunk({"content": "a", "reasoning_details": [{"text": "d"}]}),
    chunk({"content": "a", "tool_calls": [{"index": 0, "function": {"name": "f"}}]}),
    chunk({"content": "a", "function_call": {"name": "f"}}),
    *(chunk({"content": "a", name: [{}]}) for name in ("audio", "annotations", "images")),
    *(chunk({"content": "a"}, word) for word in ("stop", "error", "")),
    chunk({"content": "a"}, error={"message": "no"}),
    chunk({"content": "a"}, error=None, usage=None, citations=[]),
    chunk({"content": "a"}, usage={"prompt_tokens": 1, "completion_tokens": 2.0}),
    chunk({"content": "a"}, citations=["x"]),
    chunk({"content": "a"}, x_groq={"error": "no"}),
    chunk({"content": "a"}, x_groq={"id": "r"}),
    chunk(choices=[]),
    chunk(choices=[], usage={"prompt_tokens": 1}),
    chunk(choices=[{"index": 1, "delta": {"content": "a"}}]),
    chunk(choices=[{"delta": {"content": "a"}}]),
    chunk(choices=[{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]),
    chunk(choices=[{"index": 0, "delta": {"content": "a"}, "error": {"message": "no"}}]),
    chunk(choices=[{"index": 0, "delta": {"content": "a"}, "stop_reason": "x", "finish_reason": "stop"}]),
    chunk(choices=None, message="no"),
    chunk({"content": "\ud800"}),
    chunk({"content": "a"})[:-4] + b"\n\n",
    b'data: {"choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n',
    b'data: {"error":"no"}\n\n',
    DONE,
]


@pytest.mark.parametrize("strip_usage", [False, True])
@pytest.mark.parametrize("odd", ODD_CHUNKS)
def test_a_chunk_behind_a_piece_of_text_is_read_as_any_other(odd: bytes, strip_usage: bool) -> None:
    # Written without the blank an event does not take the short way.
    raw = [chunk({"content": "x"}), chunk({"content": "y"}), odd, chunk({"content": "z"}), odd, chunk(finish="stop")]
    long = [event.replace(b"data: ", b"data:", 1) for event in raw]
    on, on_long = reader(strip_usage=strip_usage), reader(strip_usage=strip_usage)
    found, expected = events(*raw, on=on), events(*long, on=on_long)
    assert [event.raw.replace(b"data: ", b"data:", 1) for event in found] == [event.raw for event in expected]
    for event in (*found, *expected):
        event.raw = b""
    assert found == expected
    assert (on.is_complete, on.undecodable) == (on_long.is_complete, on_long.undecodable)


def test_a_piece_of_text_has_the_ids_of_the_one_before() -> None:
    on = reader()
    found = events(chunk({"content": "x"}), chunk({"content": "y"}, id="c2"), chunk({"content": "z"}, model="n"), on=on)
    assert [(event.text, event.id, event.model, event.created) for event in found] == [
        ("x", "c1", "m", 5),
        ("y", "c1", "m", 5),
        ("z", "c1", "m", 5),
    ]


# --- what only some servers send -----------------------------------------------------------------------------


def test_ids_and_names_of_the_stream() -> None:
    event = only(chunk({"content": "x"}))
    assert (event.id, event.model, event.created) == ("c1", "m", 5)


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({"content": "a"}, {"text": "a"}),
        ({"content": None}, {}),
        ({"reasoning_content": "r", "content": None}, {"reasoning": "r", "in_block": True}),
        ({"reasoning": "r"}, {"reasoning": "r", "in_block": True}),
        (
            {"reasoning": "r", "reasoning_details": [{"type": "reasoning.text", "text": "r"}]},
            {"reasoning": "r", "in_block": True},
        ),
        ({"reasoning_details": [{"text": "a"}, {"summary": "b"}]}, {"reasoning": "ab", "in_block": True}),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}, {}),
        ({"content": [{"type": "text", "text": "a"}, "b"]}, {"text": "ab"}),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}]},
            {"reasoning": "t", "in_block": True},
        ),
        ({"content": {"a": 1}}, {"text": '{"a":1}'}),
        ({"refusal": "no"}, {"refusal": "no"}),
        ({"audio": {"data": "x"}}, {"has_other_content": True}),
        ({"annotations": [{"type": "url_citation"}]}, {"has_other_content": True}),
        ({"images": [{}]}, {"has_other_content": True}),
        (
            {"function_call": {"name": "f", "arguments": "{"}},
            {"tools": (ToolDelta(index=0, name="f", arguments="{"),), "is_open": True, "in_block": True},
        ),
        (
            {"tool_calls": [{"id": "t", "function": {"name": "f", "arguments": {"a": 1}}}]},
            {"tools": (ToolDelta(index=0, id="t", name="f", arguments='{"a":1}'),), "is_open": True, "in_block": True},
        ),
    ],
)
def test_forms_of_a_delta(delta: dict[str, Any], expected: dict[str, Any]) -> None:
    raw = chunk(delta)
    assert only(raw) == StreamEvent(raw=raw, id="c1", model="m", created=5, **expected)


def test_citations_beside_the_choices_are_content() -> None:
    assert only(chunk({"content": "a"}, citations=["https://x"])).has_other_content


def test_a_block_is_open_until_text_or_the_finish() -> None:
    found = events(
        chunk({"reasoning": "r"}),
        chunk({"content": ""}),
        chunk({"content": "a"}),
        chunk({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}),
        chunk({}),
        chunk(finish="tool_calls"),
    )
    assert [event.in_block for event in found] == [True, True, False, True, True, False]


def test_calls_without_an_index_are_told_apart() -> None:
    found = events(
        chunk({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{"}}]}),
        chunk({"tool_calls": [{"function": {"arguments": "}"}}]}),
        chunk({"tool_calls": [{"id": "b", "function": {"name": "f", "arguments": ""}}]}),
        chunk({"tool_calls": [{"id": "a", "function": {"arguments": " "}}]}),
        chunk({"tool_calls": [{"function": {"name": "g", "arguments": "{}"}}]}),
    )
    assert [event.tools[0].index for event in found] == [0, 0, 1, 0, 2]
    assert [event.is_open for event in found] == [True, False, True, False, True]


def test_two_choices_in_a_chunk_are_two_events_and_the_first_has_the_bytes() -> None:
    choices = [{"index": i, "delta": {"content": str(i)}, "finish_reason": None} for i in (0, 1)]
    raw = chunk(choices=choices, usage={"prompt_tokens": 1})
    first, second = events(raw, on=reader(n=2))
    assert (first.choice, first.text, first.raw) == (0, "0", raw)
    assert (second.choice, second.text, second.raw) == (1, "1", b"")
    assert first.usage is not None
    assert second.usage is None


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("stop", Finish.STOP),
        ("length", Finish.LENGTH),
        ("model_length", Finish.LENGTH),
        ("tool_calls", Finish.TOOL_CALLS),
        ("function_call", Finish.TOOL_CALLS),
        ("content_filter", Finish.CONTENT_FILTER),
        ("eos", Finish.STOP),
        ("something_new", Finish.STOP),
    ],
)
def test_finish_reasons(word: str, finish: Finish) -> None:
    on = reader()
    event = only(chunk({"content": "x"}, word), on)
    assert (event.finish, event.raw_finish, event.text, event.failure) == (finish, word, "x", None)
    assert on.is_complete


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("error", FailureReason.SERVER_ERROR),
        ("insufficient_system_resource", FailureReason.OVERLOADED),
        ("model_context_window_exceeded", FailureReason.CONTEXT_OVERFLOW),
    ],
)
def test_finish_reasons_that_are_failures(word: str, reason: FailureReason) -> None:
    on = reader()
    event = only(chunk({}, word), on)
    assert event.failure is not None
    assert event.failure.reason is reason
    assert (event.finish, event.raw_finish) == (None, word)
    events(DONE, on=on)
    assert not on.is_complete


def test_a_stop_sequence_is_known_where_the_server_says_so() -> None:
    choice = {"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "END"}
    assert only(chunk(choices=[choice])).stopped_by_sequence
    assert not only(chunk(choices=[choice | {"stop_reason": None}])).stopped_by_sequence
    assert only(
        chunk(choices=[choice | {"stop_reason": None, "native_finish_reason": "stop_sequence"}])
    ).stopped_by_sequence


# --- usage ---------------------------------------------------------------------------------------------------


def test_usage_in_all_its_forms() -> None:
    details = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    assert only(chunk(usage=details)).usage == Usage(prompt=10, completion=5, cached=4, cache_write=2, reasoning=3)
    assert only(chunk(usage={"prompt_tokens": 10, "prompt_cache_hit_tokens": 7})).usage == Usage(prompt=10, cached=7)
    assert only(chunk(usage={"prompt_tokens": 1.0, "prompt_tokens_details": None})).usage == Usage(prompt=1)
    assert only(chunk(usage=None)).usage is None
    assert only(chunk(usage="many")).usage is None


def test_reasoning_left_out_of_completion_tokens_is_added() -> None:
    usage = {
        "prompt_tokens": 288,
        "completion_tokens": 27,
        "total_tokens": 628,
        "completion_tokens_details": {"reasoning_tokens": 313},
    }
    on = reader(excludes_reasoning=True)
    assert only(chunk(usage=usage), on).usage == Usage(prompt=288, completion=340, reasoning=313)
    included = usage | {"completion_tokens": 340}
    assert only(chunk(usage=included), on).usage == Usage(prompt=288, completion=340, reasoning=313)
    assert only(chunk(usage=usage)).usage == Usage(prompt=288, completion=27, reasoning=313)


def test_usage_that_only_we_asked_for_is_taken_out_of_the_bytes() -> None:
    on = reader(strip_usage=True)
    text = chunk({"content": 'a,"usage":null'}, usage=None)
    first, second, last, tail = events(
        text,
        chunk(usage={"prompt_tokens": 1}),
        chunk(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 1}),
        chunk(choices=[], usage=None, prompt_filter_results=[]),
        on=on,
    )
    assert first.raw == text.replace(b',"usage":null', b"")
    assert first.text == 'a,"usage":null'
    assert second.raw == chunk(usage={"prompt_tokens": 1})
    assert last.raw == b""
    assert last.usage == Usage(prompt=1, completion=1)
    assert tail.raw == chunk(choices=[], prompt_filter_results=[])
    assert only(text).raw == text


# --- errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b'data: {"error":{"message":"m"}}\n\n',
        b'data: {"error":"m"}\n\n',
        b'data: {"object":"error","message":"m"}\n\n',
        b'data: {"message":"m","code":500}\n\n',
        b'data: {"detail":"m"}\n\n',
        b'event: error\ndata: {"message":"m"}\n\n',
        b"event: error\ndata: m\n\n",
        b'data: {"error":{"message":"m"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":null}]}\n\n',
        b'data: {"error":{"message":"m"},"choices":"none"}\n\n',
        b'data: {"choices":[],"x_groq":{"error":"m"}}\n\n',
        b'data: {"choices":[{"index":0,"delta":{},"error":{"message":"m"}}]}\n\n',
    ],
)
def test_an_error_inside_the_stream(raw: bytes) -> None:
    on = reader(stream_end=StreamEnd.FINISH_OR_MARKER)
    events(chunk({"content": "x"}), on=on)
    event = only(raw, on)
    assert event.failure is not None
    assert '"m"' in event.failure.message
    events(chunk(finish="stop"), DONE, on=on)
    assert not on.is_complete


def test_an_error_member_that_says_nothing_is_none() -> None:
    assert only(chunk({"content": "x"}, error=None)).failure is None
    assert only(chunk({"content": "x"}, error={})).failure is None


def test_a_bare_json_error_where_a_stream_was_asked_for() -> None:
    on = reader()
    assert events(b'{"error": {"message":\n "m"}}', on=on) == []
    (event,) = on.close()
    assert event.failure is not None
    assert not on.is_complete


def test_a_whole_answer_where_a_stream_was_asked_for_is_no_stream() -> None:
    on = reader()
    assert events(b'{"choices": []}', on=on) == []
    assert list(on.close()) == []
    assert on.undecodable == 1


def test_an_undecodable_event_is_skipped_and_counted() -> None:
    on = reader()
    found = events(b'data: {"id":\n\n', chunk({"content": "x"}), b"data: \xff\n\n", chunk(finish="stop"), on=on)
    assert [event.text for event in found] == ["x", ""]
    assert on.undecodable == 2
    assert on.is_complete
    assert events(b"data: \n\n", b"event: ping\n\n", on=on) == []
    assert on.undecodable == 2


def test_an_event_without_an_end_is_a_failure_once() -> None:
    on = reader()
    found = events(b"data: " + b"x" * (1024 * 1024 + 1), b"y" * 2_000_000, on=on)
    assert [event.failure.reason for event in found if event.failure] == [FailureReason.MALFORMED_OUTPUT]


# --- the end -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "finish", "marker", "both"),
    [
        (StreamEnd.FINISH, True, False, True),
        (StreamEnd.MARKER, False, True, True),
        (StreamEnd.FINISH_AND_MARKER, False, False, True),
        (StreamEnd.FINISH_OR_MARKER, True, True, True),
    ],
)
def test_what_ends_a_stream_is_the_vendors(end: StreamEnd, finish: bool, marker: bool, both: bool) -> None:
    for pieces, expected in (
        ([chunk({"content": "x"})], False),
        ([chunk({"content": "x"}), chunk(finish="stop")], finish),
        ([chunk({"content": "x"}), DONE], marker),
        ([chunk({"content": "x"}), chunk(finish="stop"), DONE], both),
    ):
        on = reader(stream_end=end)
        events(*pieces, on=on)
        assert on.is_complete is expected


def test_every_choice_must_finish() -> None:
    def of(index: int, finish: str | None = None) -> bytes:
        return chunk(choices=[{"index": index, "delta": {"content": "x"}, "finish_reason": finish}])

    on = reader(n=2)
    events(of(0), of(0, "stop"), on=on)
    assert not on.is_complete
    events(of(1), on=on)
    assert not on.is_complete
    events(of(1, "stop"), on=on)
    assert on.is_complete
    more = reader(n=1)
    events(of(0, "stop"), of(1), on=more)
    assert not more.is_complete


def test_a_finish_may_come_twice() -> None:
    on = reader()
    events(chunk(finish="stop"), chunk(finish="stop"), on=on)
    assert on.is_complete


def test_the_last_event_may_lack_its_blank_line() -> None:
    on = reader()
    assert events(chunk(finish="stop"), b"data: [DONE]", on=on)[0].finish is Finish.STOP
    (end,) = on.close()
    assert end.is_end
    assert end.raw == DONE
    assert list(on.close()) == []


def test_a_cut_last_event_is_counted_and_the_stream_is_not_complete() -> None:
    on = reader()
    events(chunk({"content": "x"}), chunk(finish="stop")[:-20], on=on)
    assert list(on.close()) == []
    assert on.undecodable == 1
    assert not on.is_complete


# --- writing -------------------------------------------------------------------------------------------------


def written(pieces: bytes) -> list[dict[str, Any]]:
    blocks = [block for block in pieces.split(b"\n\n") if block]
    assert all(block.startswith(b"data: ") for block in blocks)
    return [json.loads(block[6:]) for block in blocks if block != b"data: [DONE]"]


def writer(include_usage: bool = False, **more: Any) -> ChunkWriter:
    return ChunkWriter(id="c1", model="m", created=5, include_usage=include_usage, **more)


def test_what_is_written_reads_the_same() -> None:
    sent = [
        StreamEvent(text="a"),
        StreamEvent(reasoning="r"),
        StreamEvent(refusal="no"),
        StreamEvent(tools=(ToolDelta(index=0, id="t", name="f"),)),
        StreamEvent(tools=(ToolDelta(index=0, arguments='{"a":'),)),
        StreamEvent(tools=(ToolDelta(index=0, arguments="1}"), ToolDelta(index=1, id="u", name="g", arguments="{}"))),
        StreamEvent(finish=Finish.TOOL_CALLS),
    ]
    on = writer()
    got = events(*[on.write(event) for event in sent], on.end())
    fields = ("text", "reasoning", "refusal", "tools", "finish")
    meant = [tuple(getattr(event, name) for name in fields) for event in got if event.has_content or event.finish]
    assert meant == [tuple(getattr(event, name) for name in fields) for event in sent]
    assert got[-1].is_end
    assert {(event.id, event.model, event.created) for event in got[:-1]} == {("c1", "m", 5)}


def test_the_role_goes_out_once_per_choice_and_not_when_continuing() -> None:
    on = writer()
    chunks = written(on.write(StreamEvent(text="a")) + on.write(StreamEvent(text="b")))
    assert [one["choices"][0]["delta"] for one in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "a"},
        {"content": "b"},
    ]
    assert written(on.write(StreamEvent(choice=1, text="c")))[0]["choices"][0] == {
        "index": 1,
        "delta": {"role": "assistant", "content": ""},
        "logprobs": None,
        "finish_reason": None,
    }
    assert len(written(writer(is_continuing=True).write(StreamEvent(text="a")))) == 1


def test_an_answer_that_begins_with_a_call_has_no_empty_text() -> None:
    call = ToolDelta(index=0, id="call_1", name="weather", arguments="{}")
    first, second = written(writer().write(StreamEvent(tools=(call,))))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert second["choices"][0]["delta"]["tool_calls"][0]["id"] == "call_1"


def test_nothing_to_say_is_no_bytes() -> None:
    on = writer()
    assert on.write(StreamEvent(id="x", usage=Usage(prompt=1))) == b""
    assert on.write(StreamEvent(is_end=True)) == b""
    assert on.write(StreamEvent(finish=Finish.STOP)) != b""
    assert on.write(StreamEvent(finish=Finish.STOP)) == b""


def test_a_call_without_an_id_gets_one_of_its_own() -> None:
    on = writer()
    chunks = written(
        on.write(StreamEvent(tools=(ToolDelta(index=0, name="f"), ToolDelta(index=1, name="f"))))
        + on.write(StreamEvent(tools=(ToolDelta(index=0, arguments="{}"),)))
    )
    calls = chunks[1]["choices"][0]["delta"]["tool_calls"]
    assert len({call["id"] for call in calls}) == 2
    assert all(call["id"].startswith("call_") for call in calls)
    assert chunks[2]["choices"][0]["delta"]["tool_calls"] == [{"index": 0, "function": {"arguments": "{}"}}]


def test_the_usage_chunk_comes_last_and_only_if_asked_for() -> None:
    on = writer(include_usage=True)
    first = written(on.write(StreamEvent(text="a", usage=Usage(prompt=1))))
    assert all(one["usage"] is None for one in first)
    on.write(StreamEvent(usage=Usage(prompt=3, completion=2, cached=1, reasoning=1)))
    (last,) = written(on.end())
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    silent = writer()
    silent.write(StreamEvent(text="a", usage=Usage(prompt=1)))
    assert silent.end() == DONE


def test_the_owner_may_set_a_better_sum() -> None:
    on = writer(include_usage=True)
    on.write(StreamEvent(usage=Usage(prompt=1, completion=1)))
    on.usage = Usage(prompt=1, completion=9)
    assert written(on.end())[0]["usage"]["completion_tokens"] == 9


def test_a_note_rides_on_a_last_chunk() -> None:
    end = writer().end(b'{"joined":[]}')
    assert end.endswith(DONE)
    (last,) = written(end)
    assert last["crossfade"] == {"joined": []}
    assert last["choices"] == []
    assert last["id"] == "c1"


# --- the short way -------------------------------------------------------------------------------------------

NO_USAGE = {"usage": None}
SAID = [
    chunk({"content": "more"}),
    chunk({"content": "m\u00f6re\\n\n"}, **NO_USAGE),
    chunk({"content": " "}, created=6, obfuscation="x"),
    chunk({"content": ' ,"usage":null'}, **NO_USAGE),
    chunk({"content": "kept", "refusal": None, "tool_calls": None}),
]
ELSE = [
    chunk({"content": ""}),
    chunk({"role": "assistant", "content": "again"}),
    chunk({"content": "one"}, "stop"),
    chunk({"content": "x", "reasoning": "y"}),
    chunk({"reasoning_content": "hm"}),
    chunk({"content": "x"}, usage={"prompt_tokens": 1, "completion_tokens": 1}),
    chunk({"content": "x"}, error={"message": "broken"}),
    chunk({"content": ["x"]}),
    chunk({"content": "x"}).replace(b'"index":0', b'"index":1'),
    chunk({"content": "x"}).replace(b"}]", b"},{}]"),
    chunk({"content": "x"}).replace(b"data: ", b"data:"),
    chunk({"content": "x"}).replace(b"\n", b"\r\n"),
    chunk({"content": "x"}).replace(b"data: {", b"data: {\n"),
    chunk({"content": "x"}).replace(b"data: {", b"data: {\ndata: "),
    chunk({"content": "x"})[:-1] + b": comment\n\n",
    chunk({"content": "x"})[:-2] + b" trailing\n\n",
    b": comment\n\n",
    b"data: {broken\n\n",
    b'data: "text"\n\n',
    b"data: \xff\n\n",
    b"event: error\n" + chunk({"content": "x"}),
    DONE,
]
PIECES = st.lists(st.one_of(st.sampled_from(SAID), st.sampled_from(SAID), st.sampled_from(ELSE)), max_size=12)


def facts_of(found: Sequence[StreamEvent]) -> list[StreamEvent]:
    """Events but for the ids, which only the first ones count of."""
    return [msgspec.structs.replace(event, id="", model="", created=0) for event in found]


def read(reads: list[bytes], on: ChunkReader, *, is_short: bool) -> tuple[object, ...]:
    found: list[StreamEvent] = []
    for data in reads:
        if is_short and (more := on.more_text(data)) is not None:
            found.append(StreamEvent(raw=more[0], text=more[1]))
        else:
            found.extend(on.feed(data))
    found.extend(on.close())
    return facts_of(found), on.is_complete, on.undecodable, repr(on)


@given(pieces=PIECES, cuts=st.lists(st.integers(0, 4000), max_size=4), strips=st.booleans())
def test_the_short_way_reads_the_same(pieces: list[bytes], cuts: list[int], strips: bool) -> None:
    body, ends = b"".join(pieces), list(itertools.accumulate(map(len, pieces)))
    whole = read([body] if body else [], reader(strip_usage=strips), is_short=False)
    at = sorted({0, len(body), *ends, *(cut for cut in cuts if cut < len(body))})
    reads = [body[a:b] for a, b in itertools.pairwise(at)]
    assert read(reads, reader(strip_usage=strips), is_short=True) == whole


@pytest.mark.parametrize("said", SAID)
def test_more_text_is_read_by_the_short_way(said: bytes) -> None:
    on = reader(strip_usage=True)
    assert on.more_text(said) is None, "nothing has come yet"
    first = only(chunk({"content": "first"}), on)
    assert first.text == "first"
    more = on.more_text(said)
    assert more is not None and (more[1], more[0]) == ((event := only(said, on)).text, event.raw)


@pytest.mark.parametrize("other", [raw for raw in ELSE if b'"again"' not in raw])
def test_all_else_takes_the_long_way(other: bytes) -> None:
    on = reader()
    on.feed(chunk({"content": "first"}))
    assert on.more_text(other) is None
    on.feed(other[:-1])
    assert on.more_text(SAID[0]) is None, "part of an event is waiting"


@pytest.mark.parametrize(
    "odd",
    [
        chunk({"content": "b"}).replace(b"data: ", b"data:  "), chunk({"content": "b"}).replace(b"data: ", b"data: \r"),
        chunk({"content": "b"}).replace(b'"id":"', b'"id":5,"x":"'),
        chunk({"content": "b"}).replace(b'"id":"', b'"id":"\xff'),
    ],
)  # fmt: skip
def test_an_odd_event_means_the_same_however_it_is_split(odd: bytes) -> None:
    body = b"".join([chunk({"content": "a"}), odd, chunk({"content": "c"}), chunk({}, "stop"), DONE])
    whole = read([body], reader(), is_short=False)
    assert read([body[i : i + 1] for i in range(len(body))], reader(), is_short=True) == whole
    for cut in range(1, len(body)):
        assert read([body[:cut], body[cut:]], reader(), is_short=True) == whole
