"""Gemini's answers, whole and streamed: hand-written cases, and every recorded exchange."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from crossfade.core.exchange import Choice, Completion, Finish, RequestFacts, StreamEvent, ToolCall, ToolDelta, Usage
from crossfade.core.failure import Failure, FailureReason
from crossfade.wire.gemini import FINISHES, GeminiReader, read_completion
from crossfade.wire.gemini_array import ArraySplitter
from tests.recordings import load, names, needs_recordings

READ_ERROR = Failure(reason=FailureReason.OVERLOADED, code="read by the provider")
RECORDED = [*names("gemini", "generate"), *names("vertex", "generate")]


def answers(*, stream: bool) -> list[str]:
    """The recordings of answers that came with a 200."""
    return [
        name for name in RECORDED if load(name)["response"]["status"] == 200 and bool(load(name)["stream"]) is stream
    ]


def on_error(body: bytes) -> Failure:
    assert b"error" in body
    return READ_ERROR


def whole(body: Any) -> Completion | Failure:
    return read_completion(body if isinstance(body, bytes) else json.dumps(body).encode(), on_error)


def choice_of(body: Any) -> Choice:
    answer = whole(body)
    assert isinstance(answer, Completion), answer
    (choice,) = answer.choices
    return choice


def candidate(*parts: dict[str, Any], finish: Any = "STOP", **more: Any) -> dict[str, Any]:
    return {"content": {"parts": list(parts), "role": "model"}, "finishReason": finish, **more}


def answer(*candidates: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"candidates": list(candidates), "responseId": "r-1", "modelVersion": "gemini-test", **more}


def chunk(*parts: dict[str, Any], finish: Any = None, **more: Any) -> bytes:
    body: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish is not None:
        body["finishReason"] = finish
    return sse(answer(body, **more))


def sse(body: Any) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\r\n\r\n"


def read(*pieces: bytes, n: int = 1) -> tuple[GeminiReader, list[StreamEvent]]:
    """A reader after all pieces and the end of the body, and what it gave."""
    reader = GeminiReader(RequestFacts(stream=True, n=n), on_error)
    events = [event for piece in pieces for event in reader.feed(piece)]
    return reader, [*events, *reader.close()]


TEXT = {"text": "hello"}
CALL = {"functionCall": {"name": "look", "args": {"at": "sky", "n": 1.50}}}


# --- whole answers: hand-written -----------------------------------------------------------------------------


def test_an_answer_is_read_whole() -> None:
    usage = {
        "promptTokenCount": 10,
        "toolUsePromptTokenCount": 3,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 7,
        "cachedContentTokenCount": 4,
        "totalTokenCount": 25,
    }
    body = answer(candidate({"text": "hm", "thought": True}, {"text": "a"}, {"text": "b"}), usageMetadata=usage)
    assert whole(body) == Completion(
        id="r-1",
        model="gemini-test",
        created=0,
        choices=[Choice(text="ab", reasoning="hm", finish=Finish.STOP, raw_finish="STOP")],
        usage=Usage(prompt=13, completion=12, cached=4, reasoning=7),
    )


def test_candidates_become_choices_by_index() -> None:
    completion = whole(answer(candidate({"text": "b"}, index=1), candidate({"text": "a"}, index=0)))
    assert isinstance(completion, Completion)
    assert [(choice.index, choice.text) for choice in completion.choices] == [(1, "b"), (0, "a")]
    unnumbered = whole(answer(candidate({"text": "a"}), candidate({"text": "b"})))
    assert isinstance(unnumbered, Completion)
    assert [(choice.index, choice.text) for choice in unnumbered.choices] == [(0, "a"), (1, "b")]


def test_a_function_call_ends_as_tool_calls_with_its_arguments_as_text() -> None:
    choice = choice_of(b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","id":"x1","args":'
                       b'{\n  "big": 12345678901234567890123,\n  "s": "a b"}}}]},"finishReason":"STOP"}]}')  # fmt: skip
    assert choice.tool_calls == (ToolCall("x1", "f", '{"big":12345678901234567890123,"s":"a b"}'),)
    assert choice.finish is Finish.TOOL_CALLS
    assert choice.raw_finish == "STOP"


@pytest.mark.parametrize("args", [{}, None, "absent"])
def test_a_call_without_arguments_has_an_empty_object(args: Any) -> None:
    call = {"name": "f"} if args == "absent" else {"name": "f", "args": args}
    assert choice_of(answer(candidate({"functionCall": call}))).tool_calls[0].arguments == "{}"


def test_made_up_call_ids_are_stable_unique_and_fit_for_every_provider() -> None:
    body = answer(candidate(CALL, CALL), candidate(CALL, index=1))
    first, again = whole(body), whole(body)
    other = whole({**body, "responseId": "r-2"})
    nameless = {key: value for key, value in body.items() if key != "responseId"}
    earlier = whole({**nameless, "usageMetadata": {"promptTokenCount": 1}})
    later = whole({**nameless, "usageMetadata": {"promptTokenCount": 9}})

    def ids(completion: Completion | Failure) -> list[str]:
        assert isinstance(completion, Completion)
        return [call.id for choice in completion.choices for call in choice.tool_calls]

    assert ids(first) == ids(again)
    every = [*ids(first), *ids(other), *ids(earlier), *ids(later)]
    assert len(set(every)) == 12
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,40}", call_id) for call_id in every)


def test_streamed_and_whole_answers_make_up_the_same_ids() -> None:
    (made,) = choice_of(answer(candidate(CALL))).tool_calls
    _, events = read(chunk(CALL, finish="STOP"))
    assert events[0].tools == (ToolDelta(index=0, id=made.id, name="look", arguments='{"at":"sky","n":1.5}'),)


@pytest.mark.parametrize("word", sorted(FINISHES))
def test_known_finish_reasons_keep_their_meaning(word: str) -> None:
    choice = choice_of(answer(candidate(TEXT, finish=word)))
    assert (choice.finish, choice.raw_finish, choice.failure) == (FINISHES[word], word, None)
    assert choice_of(answer({"finishReason": word})).finish is FINISHES[word]


@pytest.mark.parametrize("word", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"])
@pytest.mark.parametrize("parts", [(), (TEXT,), (CALL,)])
def test_a_broken_call_is_a_failure_whatever_came_with_it(word: str, parts: tuple[dict[str, Any], ...]) -> None:
    choice = choice_of(answer(candidate(*parts, finish=word, finishMessage="Malformed function call: secret prompt")))
    assert choice.failure is not None
    assert (choice.failure.reason, choice.failure.code) == (FailureReason.INVALID_TOOL_CALL, word)
    assert choice.finish is None
    assert "secret" not in repr(choice.failure)
    _, events = read(chunk(*parts, finish=word))
    assert events[-1].failure == choice.failure


@pytest.mark.parametrize("word", ["OTHER", "FINISH_REASON_UNSPECIFIED", "NO_IMAGE", "SOMETHING_NEW", "odd\nword", ""])
def test_an_unknown_finish_reason_is_a_stop_with_content_and_empty_output_without(word: str) -> None:
    assert choice_of(answer(candidate(TEXT, finish=word))).finish is Finish.STOP
    assert choice_of(answer(candidate(CALL, finish=word))).finish is Finish.TOOL_CALLS
    thinking = {"text": "hm", "thought": True}
    for empty in (candidate(finish=word), {"finishReason": word}, candidate(thinking, finish=word)):
        choice = choice_of(answer(empty))
        assert choice.failure is not None
        assert choice.failure.reason is FailureReason.EMPTY_OUTPUT
        assert "\n" not in choice.failure.detail
        _, events = read(sse(answer(empty)))
        assert events[-1].failure == choice.failure


@pytest.mark.parametrize(
    "number,finish",
    [(1, Finish.STOP), (2, Finish.LENGTH), (3, Finish.CONTENT_FILTER), (5, Finish.STOP), (77, Finish.STOP)],
)
def test_integer_enums_are_understood(number: int, finish: Finish) -> None:
    assert choice_of(answer(candidate(TEXT, finish=number))).finish is finish


def test_no_finish_reason_is_none_made_up() -> None:
    choice = choice_of(answer({"content": {"parts": [TEXT]}}))
    assert (choice.finish, choice.raw_finish, choice.failure) == (None, None, None)


@pytest.mark.parametrize("reason", ["SAFETY", "PROHIBITED_CONTENT", "JAILBREAK", 4])
def test_a_blocked_prompt_is_a_filtered_answer_and_no_failure(reason: Any) -> None:
    blocked = {"promptFeedback": {"blockReason": reason}, "usageMetadata": {"promptTokenCount": 3}}
    completion = whole(blocked)
    assert isinstance(completion, Completion)
    assert completion.choices == [Choice(finish=Finish.CONTENT_FILTER, raw_finish=f"BLOCKED:{reason}")]
    assert completion.usage == Usage(prompt=3)
    reader, events = read(sse(blocked))
    assert reader.is_complete
    assert [(event.finish, event.raw_finish) for event in events] == [(Finish.CONTENT_FILTER, f"BLOCKED:{reason}")]


def test_feedback_on_a_prompt_that_was_let_through_changes_nothing() -> None:
    assert choice_of(answer(candidate(TEXT), promptFeedback={"safetyRatings": []})).finish is Finish.STOP


@pytest.mark.parametrize(
    "more",
    [
        {"parts": [{"inlineData": {"mimeType": "image/png", "data": "AA=="}}]},
        {"parts": [{"executableCode": {"code": "1"}}]},
        {"parts": [{"codeExecutionResult": {"output": "1"}}]},
        {"parts": [{"fileData": {"fileUri": "x"}}]},
        {"citationMetadata": {"citationSources": [{"uri": "https://example.com"}]}},
        {"groundingMetadata": {"groundingChunks": [{}]}},
    ],
)
def test_content_without_a_field_of_its_own_is_noted(more: dict[str, Any]) -> None:
    body = answer({"content": {"parts": more.pop("parts", [])}, "finishReason": "OTHER", **more})
    choice = choice_of(body)
    assert (choice.has_other_content, choice.finish) == (True, Finish.STOP)
    _, events = read(sse(body))
    assert [event.has_other_content for event in events] == [True, False]
    assert events[-1].finish is Finish.STOP


def test_empty_metadata_is_no_content() -> None:
    choice = choice_of(answer(candidate(TEXT, groundingMetadata={}, citationMetadata=None)))
    assert choice.has_other_content is False


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>busy</html>",
        b"[]",
        b"null",
        b'{"candidates"',
        b'{"candidates":[{"content":"text"}]}',
        b"\xff\xfe",
        b'{"candidates":[{"content":{"parts":[{"text":"\xff"}]}}]}',
        b'{"x":' + b"[" * 100_000,
        b"{}",
        b'{"candidates":[]}',
        b'{"usageMetadata":{"promptTokenCount":3}}',
        b'{"promptFeedback":{"safetyRatings":[]}}',
    ],
)
def test_what_is_no_answer_is_malformed(body: bytes) -> None:
    failure = whole(body)
    assert isinstance(failure, Failure)
    assert failure.reason is FailureReason.MALFORMED_OUTPUT


def test_an_error_in_a_200_is_read_by_the_provider() -> None:
    assert whole({"error": {"code": 503, "status": "UNAVAILABLE"}}) is READ_ERROR


# --- streams: hand-written -----------------------------------------------------------------------------------


def test_parts_become_events_in_their_order() -> None:
    usage = {"promptTokenCount": 2, "candidatesTokenCount": 3}
    parts = ({"text": "t", "thought": True}, {"text": "a"}, {"text": "b"}, CALL, CALL, {"text": "c"})
    piece = chunk(*parts, finish="STOP", usageMetadata=usage)
    reader, events = read(piece)
    assert [(e.reasoning, e.text, len(e.tools), e.finish) for e in events] == [
        ("t", "", 0, None),
        ("", "ab", 0, None),
        ("", "", 2, None),
        ("", "c", 0, None),
        ("", "", 0, Finish.TOOL_CALLS),
    ]
    assert [tool.index for tool in events[2].tools] == [0, 1]
    assert [event.in_block for event in events] == [True, False, False, False, False]
    assert [event.usage for event in events] == [None, None, None, None, Usage(prompt=2, completion=3)]
    assert all((event.id, event.model, event.created) == ("r-1", "gemini-test", 0) for event in events)
    assert events[0].raw == piece
    assert not any(event.raw for event in events[1:])
    assert reader.is_complete
    assert "complete" in repr(reader)


def test_calls_are_counted_over_chunks_and_end_as_tool_calls() -> None:
    reader, events = read(chunk(CALL), chunk(CALL), chunk({"text": "", "thoughtSignature": "s"}, finish="STOP"))
    assert [tool.index for event in events for tool in event.tools] == [0, 1]
    assert len({tool.id for event in events for tool in event.tools}) == 2
    assert events[-1].finish is Finish.TOOL_CALLS
    assert reader.is_complete


def test_a_cut_inside_of_calls_keeps_its_reason() -> None:
    _, events = read(chunk(CALL, finish="MAX_TOKENS"))
    assert events[-1].finish is Finish.LENGTH


def test_the_last_chunk_may_have_no_content() -> None:
    reader, events = read(chunk(TEXT), sse({"candidates": [{"finishReason": "STOP", "index": 0}]}))
    assert events[-1].finish is Finish.STOP
    assert reader.is_complete


def test_a_stream_without_its_finish_reason_is_not_complete() -> None:
    reader, events = read(chunk(TEXT), chunk(TEXT))
    assert not reader.is_complete
    assert "open" in repr(reader)
    assert [event.finish for event in events] == [None, None]
    assert not GeminiReader(RequestFacts(), on_error).is_complete


def test_completeness_waits_for_every_candidate() -> None:
    both = sse(answer({"index": 0, "finishReason": "STOP"}, {"index": 1, "content": {"parts": [TEXT]}}))
    reader, _ = read(both, n=2)
    assert not reader.is_complete
    reader, events = read(both, sse(answer({"index": 1, "finishReason": "MAX_TOKENS"})), n=2)
    assert reader.is_complete
    assert [(event.choice, event.finish) for event in events if event.finish] == [(0, Finish.STOP), (1, Finish.LENGTH)]
    one_only, _ = read(chunk(TEXT, finish="STOP"), n=2)
    assert not one_only.is_complete


def test_text_after_a_finish_reason_opens_the_candidate_again() -> None:
    reader, _ = read(chunk(TEXT, finish="STOP"), chunk(TEXT))
    assert not reader.is_complete


def test_a_chunk_of_counts_alone_is_an_event_without_content() -> None:
    _, events = read(sse({"usageMetadata": {"promptTokenCount": 4}}))
    assert [(event.has_content, event.usage) for event in events] == [(False, Usage(prompt=4))]


def test_an_error_event_is_a_failure_and_the_end_of_reading() -> None:
    error = sse({"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}})
    reader, events = read(chunk(TEXT, finish="STOP"), error, chunk(TEXT))
    assert [event.failure for event in events] == [None, None, READ_ERROR]
    assert not reader.is_complete
    assert "broken" in repr(reader)


@pytest.mark.parametrize("frame", ["bare", "array"])
def test_an_error_outside_of_events_is_a_failure(frame: str) -> None:
    body = json.dumps({"error": {"code": 503, "message": 'a } in a " string'}}, indent=2).encode()
    reader, events = read(body if frame == "bare" else b"[" + body + b"\n]")
    assert [event.failure for event in events] == [READ_ERROR]
    assert not reader.is_complete


def test_undecodable_events_are_skipped_and_counted() -> None:
    reader, events = read(chunk(TEXT), b"data: {broken\r\n\r\n", b"nonsense\r\n\r\n", chunk(TEXT, finish="STOP"))
    assert reader.undecodable == 2
    assert reader.is_complete
    assert "".join(event.text for event in events) == "hellohello"


def test_comments_other_fields_and_a_done_marker_are_no_events() -> None:
    reader, events = read(
        b": wait\r\n\r\n", b"event: ping\r\n\r\n", chunk(TEXT, finish="STOP"), b"data: [DONE]\r\n\r\n"
    )
    assert [bool(event.text) for event in events] == [True, False]
    assert (reader.undecodable, reader.is_complete) == (0, True)


@pytest.mark.parametrize("ending", [b"\n\n", b"\r\n\r\n", b"\n", b""])
def test_line_ends_and_a_missing_blank_line_do_not_matter(ending: bytes) -> None:
    reader, events = read(chunk(TEXT).rstrip() + b"\n\n", chunk(TEXT, finish="STOP").rstrip() + ending)
    assert "".join(event.text for event in events) == "hellohello"
    assert reader.is_complete


def test_an_event_without_an_end_is_given_up() -> None:
    for start in (b"data: ", b"[{"):
        reader = GeminiReader(RequestFacts(), on_error)
        events = [*reader.feed(start + b"x" * 2**19), *reader.feed(b"x" * (2**19 + 1)), *reader.feed(chunk(TEXT))]
        assert [event.failure.reason for event in events if event.failure] == [FailureReason.MALFORMED_OUTPUT]
        assert len(events) == 1
        assert not reader.is_complete
        assert not reader.close()


def test_an_array_is_cut_at_every_byte() -> None:
    objects = [{"a": '}"{\\'}, {"b": {"c": "\\\\"}}, {}]
    body = b"[" + b"\n,\r\n".join(json.dumps(item).encode() for item in objects) + b"\n]\n"
    for step in range(1, len(body) + 1):
        splitter = ArraySplitter()
        found = [json.loads(item) for at in range(0, len(body), step) for item in splitter.feed(body[at : at + step])]
        assert found == objects
        assert splitter.rest() == b""
    assert ArraySplitter().feed(b"[{}, {") == [b"{}"]


# --- recordings ----------------------------------------------------------------------------------------------


def chunks_of(recording: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of a recorded stream by another way than the reader's."""
    body = recording["response"]["body"]
    if body.lstrip()[:1] == "[":
        chunks: list[dict[str, Any]] = json.loads(body)
        return chunks
    return [json.loads(line[5:]) for line in body.splitlines() if line.startswith("data:")]


def parts_of(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        part
        for c in chunks
        for cand in c.get("candidates", ())
        for part in (cand.get("content") or {}).get("parts", ())
    ]


def text_of(chunks: list[dict[str, Any]], *, thought: bool) -> str:
    return "".join(part.get("text", "") for part in parts_of(chunks) if part.get("thought", False) is thought)


def expected_finish(chunks: list[dict[str, Any]], word: str) -> Finish:
    if any("functionCall" in part for part in parts_of(chunks)) and word == "STOP":
        return Finish.TOOL_CALLS
    return Finish.CONTENT_FILTER if word.startswith("BLOCKED") else FINISHES[word]


def calls_of(chunks: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    calls = [part["functionCall"] for part in parts_of(chunks) if "functionCall" in part]
    return [(call["name"], call.get("args", {})) for call in calls]


def check_usage(usage: Usage | None, given: dict[str, Any] | None) -> None:
    if given is None:
        assert usage is None
        return
    assert usage is not None
    assert usage.prompt + usage.completion == given["totalTokenCount"]
    assert usage.reasoning == given.get("thoughtsTokenCount", 0)
    assert usage.cached == given.get("cachedContentTokenCount", 0)


@needs_recordings
@pytest.mark.parametrize("name", answers(stream=False))
def test_recorded_answers_are_read(name: str) -> None:
    recording = load(name)
    body = recording["response"]["body"].encode()
    given = json.loads(body)
    choice = choice_of(body)
    (word,) = recording["finish_reasons"]
    assert choice.raw_finish == word
    assert choice.finish is expected_finish([given], word)
    assert choice.failure is None
    assert choice.text == text_of([given], thought=False)
    assert choice.reasoning == text_of([given], thought=True)
    assert [(call.name, json.loads(call.arguments)) for call in choice.tool_calls] == calls_of([given])
    assert len({call.id for call in choice.tool_calls}) == len(choice.tool_calls)
    completion = whole(body)
    assert isinstance(completion, Completion)
    assert (completion.id, completion.model) == (given.get("responseId", ""), given.get("modelVersion", ""))
    check_usage(completion.usage, given.get("usageMetadata"))


@needs_recordings
@pytest.mark.parametrize("name", answers(stream=True))
def test_recorded_streams_are_read(name: str) -> None:
    recording = load(name)
    chunks = chunks_of(recording)
    reader, events = read(recording["response"]["body"].encode())
    assert reader.is_complete
    assert reader.undecodable == 0
    assert [event.raw_finish for event in events if event.raw_finish] == recording["finish_reasons"]
    assert [event.finish for event in events if event.finish][-1] is expected_finish(
        chunks, recording["finish_reasons"][-1]
    )
    assert not any(event.failure for event in events)
    assert "".join(event.text for event in events) == text_of(chunks, thought=False)
    assert "".join(event.reasoning for event in events) == text_of(chunks, thought=True)
    tools = [tool for event in events for tool in event.tools]
    assert [(tool.name, json.loads(tool.arguments)) for tool in tools] == calls_of(chunks)
    assert [tool.index for tool in tools] == list(range(len(tools)))
    assert len({tool.id for tool in tools}) == len(tools)
    counts = [event.usage for event in events if event.usage is not None]
    check_usage(counts[-1] if counts else None, chunks[-1].get("usageMetadata") if counts else None)


SAYS_STOP_IN_EVERY_CHUNK = "vertex/generate-finish-recitation-stream-01.json"


@needs_recordings
@pytest.mark.parametrize("name", [name for name in answers(stream=True) if name != SAYS_STOP_IN_EVERY_CHUNK])
def test_recorded_streams_cut_before_their_last_event_are_not_complete(name: str) -> None:
    body = load(name)["response"]["body"].encode()
    last = max(body.rfind(b"data:"), body.rfind(b"\n,\r\n"), 1)
    for at in {1, last // 2, last, (last + len(body)) // 2, len(body.rstrip().rstrip(b"]").rstrip()) - 1}:
        reader, events = read(body[:at])
        assert not reader.is_complete, at
        assert not any(event.failure for event in events)
