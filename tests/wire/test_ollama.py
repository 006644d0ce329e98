"""Ollama's answers and streams: what each line of them is, in whatever pieces they come."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crossfade.core.assembly import Assembly
from crossfade.core.exchange import Completion, Finish, StreamEvent, Usage
from crossfade.core.failure import Failure, Origin
from crossfade.core.failure import FailureReason as R
from crossfade.edge.affinity import maker_of
from crossfade.wire.ndjson import NDJSON
from crossfade.wire.ollama import OllamaReader, read_completion
from crossfade.wire.sse import MAX_EVENT

Json = dict[str, Any]
HEAD: Json = {"model": "m", "created_at": "2026-01-01T00:00:00.5Z"}


def on_error(body: bytes) -> Failure:
    return Failure(reason=R.SERVER_ERROR, message=body.decode())


def line(message: Json | None = None, done: bool = False, **more: Any) -> bytes:
    said = {} if message is None else {"message": {"role": "assistant", "content": "", **message}}
    return json.dumps({**HEAD, **said, "done": done, **more}).encode() + b"\n"


def call(name: str, arguments: Any, **more: Any) -> Json:
    return {**more, "function": {"name": name, "arguments": arguments}}


def end(word: str | None = "stop", **more: Any) -> bytes:
    return line({}, True, **({} if word is None else {"done_reason": word}), **more)


def read(*data: bytes, undecodable: int = 0) -> tuple[list[StreamEvent], bool]:
    reader = OllamaReader(on_error)
    events = [event for one in data for event in reader.feed(one)]
    events += reader.close()
    assert reader.undecodable == undecodable
    return events, reader.is_complete


def test_thoughts_are_a_block_that_ends_with_what_follows() -> None:
    events, is_complete = read(
        line({"thinking": "Hm"}), line({"content": "Hi"}), end(prompt_eval_count=7, eval_count=3)
    )
    assert [(one.reasoning, one.text, one.in_block) for one in events[:2]] == [("Hm", "", True), ("", "Hi", False)]
    assert is_complete and events[-1].is_end and all(one.model == "m" for one in events[:-1])
    ending = events[-2]
    assert (ending.finish, ending.raw_finish, ending.usage) == (Finish.STOP, "stop", Usage(prompt=7, completion=3))


def test_calls_come_whole_and_are_numbered_in_their_order() -> None:
    given = [call("f", {"a": 1.50, "b": []}, id="call_x"), call("g", {}), call("f", None)]
    data = [line({"tool_calls": [given[0]]}), line({"tool_calls": given[1:]}), end()]
    answer = Assembly()
    for one in read(*data)[0]:
        answer.add(one)
    (streamed,) = answer.completion().choices
    body = {**HEAD, "message": {"role": "assistant", "tool_calls": given}, "done": True, "done_reason": "stop"}
    found = read_completion(json.dumps(body).encode(), on_error)
    assert isinstance(found, Completion)
    for choice in (streamed, found.choices[0]):
        assert [(one.name, one.arguments) for one in choice.tool_calls] == [
            ("f", '{"a":1.5,"b":[]}'),
            ("g", "{}"),
            ("f", "{}"),
        ]
        assert choice.tool_calls[0].id == "call_x" and choice.finish is Finish.TOOL_CALLS


def test_digits_of_arguments_are_as_they_came() -> None:
    raw = (
        b'{"model":"m","message":{"tool_calls":[{"function":{"name":"f","arguments":{ "a" : 1.50 }}}]},"done":false}\n'
    )
    assert read(raw)[0][0].tools[0].arguments == '{"a":1.50}'
    raw = raw.replace(b'{ "a" : 1.50 }', b'"{\\"a\\":1}"')
    assert read(raw)[0][0].tools[0].arguments == '{"a":1}'


def test_ids_that_are_made_are_the_same_for_the_same_bytes_and_others_elsewhere() -> None:
    def ids(*data: bytes) -> list[str]:
        return [tool.id for event in read(*data)[0] for tool in event.tools]

    twice = line({"tool_calls": [call("f", {"a": 1}), call("f", {"a": 1})]})
    made = ids(twice)
    assert len(set(made)) == 2 and made == ids(twice)
    assert all(one.startswith("call_") and len(one) == 25 for one in made)
    assert maker_of(made) == "ollama-native", "they are taken for no other vendor's"
    later = twice.replace(b"00.5Z", b"00.6Z")
    assert set(ids(later)).isdisjoint(made)
    assert len(set(ids(twice, later))) == 4


def test_an_image_is_content_that_is_not_delivered() -> None:
    assert read(line({"images": ["aGk="]}))[0][0].has_other_content
    body = {**HEAD, "message": {"content": "", "images": ["aGk="]}, "done": True}
    found = read_completion(json.dumps(body).encode(), on_error)
    assert isinstance(found, Completion) and found.choices[0].has_other_content


@pytest.mark.parametrize("error", ["gone", {"message": "gone"}])
def test_errors_in_a_stream_are_handed_on_as_they_are_and_end_it(error: Any) -> None:
    said = json.dumps({"error": error}).encode()
    for data in (said + b"\n", said):
        events, is_complete = read(line({"content": "a"}), data)
        assert len(events) == 2 and not is_complete
        assert events[1].failure is not None and events[1].failure.message == said.decode()
    assert len(read(said + b"\n", line({"content": "late"}), end())[0]) == 1


def test_a_stream_without_its_last_line_is_cut() -> None:
    events, is_complete = read(line({"content": "a"}))
    assert not is_complete and not any(event.finish or event.is_end for event in events)
    whole = end()
    for cut in range(len(whole) - 2):
        _, is_complete = read(line({"content": "a"}), whole[:cut], undecodable=1 if cut else 0)
        assert not is_complete
    assert read(line({"content": "a"}), whole[:-1])[1], "the end of the line may be missing"


def test_an_answer_that_is_not_done_is_cut() -> None:
    body = {**HEAD, "message": {"role": "assistant", "content": "a"}, "done": False}
    failure = read_completion(json.dumps(body).encode(), on_error)
    assert isinstance(failure, Failure)
    assert (failure.reason, failure.origin) == (R.STREAM_INTERRUPTED, Origin.LOCAL)


def test_bytes_that_are_no_line_are_passed_over_and_counted() -> None:
    broken = [b"nonsense\n", b"[]\n", b'{"model":"m","message":{"content":\n', b"data: {}\n"]
    torn = line({"tool_calls": [call("f", {"a": "x"})]}).replace(b'"x"', b'"\xff"')
    events, is_complete = read(*broken, torn, b"\n\r\n", line({"content": "a"}), end(), undecodable=5)
    assert is_complete and events[0].text == "a"


def test_an_end_without_a_word_is_a_stop() -> None:
    ending = read(line({"content": "a"}), end(None))[0][-2]
    assert (ending.finish, ending.raw_finish) == (Finish.STOP, None)


def test_nothing_counts_behind_the_end() -> None:
    events, _ = read(line({"content": "a"}), end(), end("length"), line({"content": "late"}))
    assert [event.is_end for event in events] == [False, False, False, True]


def test_a_line_that_never_ends_breaks_the_stream() -> None:
    reader = OllamaReader(on_error)
    (event,) = reader.feed(b'{"model":' + b"x" * (MAX_EVENT + 1))
    assert event.failure is not None and event.failure.reason is R.MALFORMED_OUTPUT
    assert not reader.is_complete and "broken" in repr(reader)
    assert not reader.feed(line({"content": "a"})) and reader.framing is NDJSON


def test_what_is_not_counted_counts_for_nothing() -> None:
    assert read(end())[0][-2].usage is None
    assert read(end(eval_count=3))[0][-2].usage == Usage(completion=3)
