from __future__ import annotations

import json

import pytest

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Completion, RequestFacts
from crossfade.core.failure import Failure, FailureReason
from crossfade.providers.compatible import VENDORS
from crossfade.providers.openai import OpenAIProvider
from crossfade.wire.bounds import has_more_parts, is_utf8, whole
from crossfade.wire.openai_chat import read_request

MESSAGES = b'"messages":[{"role":"user","content":"hi"}]'
MANY = 600_000
"""So many values are small to send and slow to read."""


def refused(body: bytes, param: str | None = None) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read_request(body, {})
    assert caught.value.param == param
    return caught.value.message


def test_parts_are_counted_across_windows() -> None:
    assert not has_more_parts(b"x" * 200_000 + b"[],", 2)
    assert has_more_parts(b"x" * 200_000 + b"[],{", 2)
    assert has_more_parts(b"[" * 100_001, 100_000)


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        (b"", True),
        ("é".encode() * 70_000, True),
        (b"a" + "😀".encode() * 70_000, True),
        (b"\xff", False),
        (b"a" * 65_535 + "é".encode()[:1], False),
        (b"a" * 65_535 + "é".encode() + b"\xe9", False),
        (b"\xed\xa0\x80", False),  # half a surrogate pair
    ],
)
def test_utf8_is_told_from_other_bytes_wherever_a_window_ends(text: bytes, is_good: bool) -> None:
    assert is_utf8(text) is is_good


@pytest.mark.parametrize(
    ("given", "kept"),
    [(None, 0), (3, 3), (3.9, 3), (-5, 0), (1e300, 10**12), (float("inf"), 10**12), (float("nan"), 0)],
)
def test_numbers_of_servers_become_whole_ones_that_a_record_can_hold(given: float | None, kept: int) -> None:
    assert whole(given) == kept


@pytest.mark.parametrize(
    "member",
    [
        b'"stop":[' + b"[]," * MANY + b"[]]",
        b'"stop":[' + b'"ab",' * 3 * MANY + b'"ab"]',
        b'"zz":1,"zz":[' + b"{}," * MANY + b"{}]",
        b",".join(b'"k%07d":0' % number for number in range(3 * MANY)),
    ],
    ids=["lists", "texts", "repeated key", "keys"],
)
def test_a_body_of_a_million_values_is_refused_unread(member: bytes) -> None:
    assert "1,000,000 values" in refused(b'{"model":"m",' + MESSAGES + b"," + member + b"}")


def test_messages_and_tools_are_counted() -> None:
    messages = b",".join([b'{"role":"user","content":"hi"}'] * 20_001)
    assert "20,000 messages" in refused(b'{"model":"m","messages":[' + messages + b"]}", "messages")
    tool = b'{"type":"function","function":{"name":"f"}}'
    tools = b'"tools":[' + b",".join([tool] * 4097) + b"]"
    assert "4,096 tools" in refused(b'{"model":"m",' + MESSAGES + b"," + tools + b"}", "tools")


@pytest.mark.parametrize("field", ["stop", "tool_choice", "reasoning", "thinking", "fallback_models", "crossfade"])
def test_fields_that_are_read_whole_are_bounded(field: str) -> None:
    value = b'["' + b"x" * 256 * 1024 + b'"]'
    assert "longer than 256 KiB" in refused(b'{"model":"m",%b,"%b":%b}' % (MESSAGES, field.encode(), value), field)


def test_the_model_is_bounded_also_where_it_decides_nothing() -> None:
    body = b'{"model":"%b",%b}' % (b"m" * 1025, MESSAGES)
    with pytest.raises(InvalidRequest, match="longer than 1024"):
        read_request(body, {"x-crossfade-route": "chat"})


def test_a_large_body_has_each_key_once() -> None:
    text = b'"x":"' + b"a" * 1024 * 1024 + b'"'
    assert "each key once" in refused(b'{"model":"m",' + MESSAGES + b',"zz":1,"zz":2,' + text + b"}")
    assert read_request(b'{"model":"m",' + MESSAGES + b',"zz":1,"zz":2}', {}).ours.model == "m"


def test_blanks_between_members_cost_nothing() -> None:
    body = b'{"model":' + b" " * 2_000_000 + b'"m",' + MESSAGES + b"}"
    assert read_request(body, {}).ours.model == "m"


def test_a_callers_expression_is_bounded_in_work() -> None:
    for pattern, is_good in (("[ab]*a[ab]{900}c", False), (r"^\w{3,20}$", True)):
        options = b'{"validate":{"match":%b}}' % json.dumps(pattern).encode()
        body = b'{"model":"m",%b,"crossfade":%b}' % (MESSAGES, options)
        if is_good:
            assert read_request(body, {}).ours.options is not None
        else:
            assert "too many places" in refused(body, "crossfade.validate")


# --- answers -------------------------------------------------------------------------------------------------


def read(body: bytes) -> object:
    return OpenAIProvider(VENDORS["compatible"]).completion(body, RequestFacts())


@pytest.mark.parametrize(
    "body", [b'{"choices":[' + b"{}," * 200 + b"{}]}", b'{"choices":[' + b"{}," * 2_100_000 + b"{}]}"]
)
def test_an_answer_of_countless_choices_is_malformed(body: bytes) -> None:
    answer = read(body)
    assert isinstance(answer, Failure)
    assert answer.reason is FailureReason.MALFORMED_OUTPUT


@pytest.mark.parametrize("count", [b"1e300", b'"inf"', b"-7", b"99999999999999999999999"])
def test_usage_out_of_all_proportion_spoils_no_answer(count: bytes) -> None:
    answer = read(
        b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}],"created":1e300,'
        b'"usage":{"prompt_tokens":%b,"completion_tokens":%b}}' % (count, count)
    )
    assert isinstance(answer, Completion)
    assert answer.usage is None or 0 <= answer.usage.prompt <= 10**12
