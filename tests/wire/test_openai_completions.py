"""Legacy completions read and written: whatever comes is a chat or an error that names its field."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Choice, Completion, Finish, StreamEvent, Usage
from crossfade.wire.openai_completions import CompletionsWriter, read_completions_request, write_completions_answer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ("model", "prompt", "n", "best_of", "suffix", "echo", "logprobs", "stream", "max_tokens", "stop", "messages", "x")
)


def read(**fields: Any) -> Any:
    return json.loads(read_completions_request(json.dumps({"model": "m", **fields}).encode(), {}).members.raw)


@settings(deadline=None)
@given(st.dictionaries(FIELDS, JSON, max_size=8))
def test_any_object_is_a_chat_or_an_error_that_names_a_field(body: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidRequest):  # and nothing else
        read_completions_request(msgspec.json.encode(body), {}).canonical()


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_no_more_than_an_error(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_completions_request(body, {})


def test_a_prompt_is_a_turn_and_the_rest_passes() -> None:
    assert read(prompt="Hi", temperature=0, max_tokens=5, echo=False, best_of=1, logit_bias={"1": 2}) == {
        "model": "m",
        "temperature": 0,
        "max_tokens": 5,
        "logit_bias": {"1": 2},
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_a_field_that_comes_twice_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="prompt"):
        read_completions_request(b'{"model": "m", "prompt": "a", "prompt": "b"}', {})


def test_a_mark_of_byte_order_is_no_part_of_it() -> None:
    assert read_completions_request(b'\xef\xbb\xbf{"model": "m", "prompt": "a"}', {}).ours.model == "m"


@pytest.mark.parametrize(
    ("finish", "word"), [(Finish.TOOL_CALLS, "stop"), *((one, one.value) for one in Finish if one != Finish.TOOL_CALLS)]
)
def test_every_finish_reason_is_one_of_completions(finish: Finish, word: str) -> None:
    answer = Completion(choices=[Choice(text="a", finish=finish)], usage=Usage(prompt=1, completion=2))
    written = json.loads(write_completions_answer(answer, default_id="cmpl-1", default_created=7))
    assert written["choices"] == [{"text": "a", "index": 0, "logprobs": None, "finish_reason": word}]
    assert (written["id"], written["created"], written["usage"]["total_tokens"]) == ("cmpl-1", 7, 3)


def test_a_stream_says_text_one_finish_and_usage_where_it_was_asked_for() -> None:
    writer = CompletionsWriter(id="cmpl-1", model="m", created=7, include_usage=True)
    events = [
        StreamEvent(reasoning="hm"),
        StreamEvent(text="a"),
        StreamEvent(text="b", finish=Finish.LENGTH, usage=Usage(prompt=1, completion=2)),
        StreamEvent(finish=Finish.STOP),
    ]
    chunks = [writer.write(event) for event in events]
    assert [bool(chunk) for chunk in chunks] == [False, True, True, False]
    said = [json.loads(chunk.removeprefix(b"data: ")) for chunk in chunks if chunk]
    assert [(one["choices"][0]["text"], one["choices"][0]["finish_reason"]) for one in said] == [
        ("a", None),
        ("b", "length"),
    ]
    assert {one["usage"] for one in said} == {None}
    *rest, done, nothing = writer.end(b'{"joined":[]}').split(b"\n\n")
    assert (done, nothing) == (b"data: [DONE]", b"")
    usage, member = [json.loads(one.removeprefix(b"data: ")) for one in rest]
    assert (usage["choices"], usage["usage"]["completion_tokens"], member["crossfade"]) == ([], 2, {"joined": []})
