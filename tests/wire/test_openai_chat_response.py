from __future__ import annotations

import json
from typing import Any

import pytest

from crossfade.core.exchange import Choice, Completion, Finish, ToolCall, Usage
from crossfade.core.failure import Failure, FailureReason
from crossfade.wire.openai_chat import error_body, error_event, read_completion, with_member, write_completion


def read_error(value: Any) -> Failure:
    return Failure(reason=FailureReason.SERVER_ERROR, message=json.dumps(value))


def body(message: dict[str, Any] | None = None, finish: str | None = "stop", **fields: Any) -> bytes:
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
    if message is not None:
        choice["message"] = message
    return json.dumps({"id": "c", "model": "m", "created": 5, "choices": [choice]} | fields).encode()


def choice(raw: bytes) -> Choice:
    completion = read_completion(raw, read_error)
    assert isinstance(completion, Completion)
    return completion.choices[0]


def failure(raw: bytes) -> Failure:
    found = read_completion(raw, read_error)
    assert isinstance(found, Failure)
    return found


def test_a_plain_answer() -> None:
    raw = b"\n         \n" + body(
        {"role": "assistant", "content": "hi"}, usage={"prompt_tokens": 1, "completion_tokens": 2}
    )
    assert read_completion(raw, read_error) == Completion(
        id="c",
        model="m",
        created=5,
        choices=[Choice(text="hi", finish=Finish.STOP, raw_finish="stop")],
        usage=Usage(prompt=1, completion=2),
    )


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": None, "refusal": "no"}, {"refusal": "no"}),
        (
            {"content": [{"type": "thinking", "thinking": [{"text": "t"}]}, {"type": "text", "text": "a"}]},
            {"text": "a", "reasoning": "t"},
        ),
        ({"content": {"a": 1}}, {"text": '{"a":1}'}),
        ({"reasoning_content": "r", "content": "a"}, {"text": "a", "reasoning": "r"}),
        ({"reasoning": "r"}, {"reasoning": "r"}),
        ({"audio": {"id": "x"}, "content": None}, {"has_other_content": True}),
        ({"content": "a", "annotations": [{}]}, {"text": "a", "has_other_content": True}),
        ({"content": "a", "annotations": []}, {"text": "a"}),
        ({"function_call": {"name": "f", "arguments": "{}"}}, {"tool_calls": (ToolCall("", "f", "{}"),)}),
        (
            {"tool_calls": [{"id": "t", "function": {"name": "f", "arguments": {"a": 1}}}]},
            {"tool_calls": (ToolCall("t", "f", '{"a":1}'),)},
        ),
        ({"tool_calls": [{"id": "t", "type": "custom", "custom": {"name": "c"}}]}, {"has_other_content": True}),
        ({}, {}),
        (None, {}),
    ],
)
def test_forms_of_a_message(message: dict[str, Any] | None, expected: dict[str, Any]) -> None:
    assert choice(body(message)) == Choice(finish=Finish.STOP, raw_finish="stop", **expected)


def test_a_filtered_answer_without_a_message() -> None:
    found = choice(body(None, "content_filter"))
    assert (found.finish, found.text) == (Finish.CONTENT_FILTER, "")


def test_finish_reasons() -> None:
    assert choice(body({"content": "a"}, "something_new")).finish is Finish.STOP
    assert choice(body({"content": "a"}, None)).finish is None
    bad = choice(body({"content": "a"}, "error"))
    assert bad.finish is None
    assert bad.failure is not None
    assert bad.failure.reason is FailureReason.SERVER_ERROR


@pytest.mark.parametrize(
    "raw",
    [
        b'{"error":{"message":"m"}}',
        b'{"error":"m"}',
        b'{"object":"error","message":"m"}',
        b'{"message":"m"}',
        b'{"detail":"m"}',
        b'{"error":{"message":"m"},"choices":[]}',
        b'{"choices":[{"index":0,"error":{"message":"m"}}]}',
    ],
)
def test_an_error_inside_a_200(raw: bytes) -> None:
    assert failure(raw).reason is FailureReason.SERVER_ERROR
    assert '"m"' in failure(raw).message


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" \n ",
        b"<html>",
        b"[]",
        b"5",
        b"{}",
        b'{"id":"x"}',
        b'{"choices":[]}',
        b'{"choices":null}',
        b'{"choices":"none"}',
        b'{"choices":[{"message":{"content":"cu',
        b'{"choices":' + b"[" * 100_000,
        b'{"choices":[{"message":{"content":"\xff"}}]}',
    ],
)
def test_a_body_that_is_no_answer(raw: bytes) -> None:
    assert failure(raw).reason is FailureReason.MALFORMED_OUTPUT


# --- writing -------------------------------------------------------------------------------------------------


def test_what_is_written_reads_the_same() -> None:
    completion = Completion(
        id="c",
        model="m",
        created=5,
        choices=[
            Choice(text='a "b"', reasoning="r", finish=Finish.STOP, raw_finish="stop"),
            Choice(
                index=1,
                tool_calls=(ToolCall("t", "f", '{"a":1}'), ToolCall("u", "g", "{}")),
                finish=Finish.TOOL_CALLS,
                raw_finish="tool_calls",
            ),
            Choice(index=2, refusal="no", finish=Finish.STOP, raw_finish="stop"),
        ],
        usage=Usage(prompt=3, completion=2, cached=1, cache_write=1, reasoning=1),
    )
    raw = write_completion(completion, extra={"crossfade": b'{"a":1}'})
    assert read_completion(raw, read_error) == completion
    value = json.loads(raw)
    assert value["object"] == "chat.completion"
    assert value["crossfade"] == {"a": 1}
    assert value["usage"]["total_tokens"] == 5
    assert value["choices"][1]["message"]["content"] is None
    assert value["choices"][1]["message"]["tool_calls"][0]["type"] == "function"
    assert value["choices"][0]["logprobs"] is None


def test_what_is_missing_is_made_up() -> None:
    completion = Completion(
        model="m", choices=[Choice(tool_calls=(ToolCall("", "f", ""), ToolCall("", "f", "")), finish=Finish.TOOL_CALLS)]
    )
    value = json.loads(write_completion(completion, default_created=7))
    calls = value["choices"][0]["message"]["tool_calls"]
    assert value["id"].startswith("chatcmpl-")
    assert value["created"] == 7
    assert len({call["id"] for call in calls}) == 2
    assert calls[0]["function"]["arguments"] == "{}"
    assert json.loads(write_completion(completion, default_id="chatcmpl-9"))["id"] == "chatcmpl-9"
    assert "usage" not in value


def test_an_empty_text_is_a_text() -> None:
    value = json.loads(write_completion(Completion(choices=[Choice(finish=Finish.LENGTH)])))
    assert value["choices"][0]["message"]["content"] == ""


def test_errors() -> None:
    expected = {"error": {"message": "m", "type": "t", "param": "p", "code": "c"}}
    assert json.loads(error_body("m", type="t", code="c", param="p")) == expected
    event = error_event("m", type="t", code="c", param="p")
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert json.loads(event[6:]) == expected


def test_a_member_is_added_and_no_other_byte_changes() -> None:
    assert with_member(b'{"a": 1 }', "x", b"[2]") == b'{"a": 1,"x":[2]}'
    assert with_member(b" { } \n", "x", b"1") == b' {"x":1}'
    assert with_member(b"[1]", "x", b"1") == b"[1]"
