"""Ids of tool calls that fit a vendor: the same for the same, none for two, and everything else as it was."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.exchange import Message, TextPart, ToolCall
from crossfade.wire import openai_call_ids
from crossfade.wire.openai_call_ids import short_ids, shortened, with_short_ids

FITS = re.compile(r"[0-9A-Za-z]{9}")
HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": "What is the weather?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_abcdefghijklmnopqrstuvwx", "type": "function", "function": {"name": "w", "arguments": "{}"}},
            {"id": "toolu_01A09q90qw90lq917835lq9", "type": "function", "function": {"name": "w", "arguments": "{}"}},
            {"id": "D681PevKs", "type": "function", "function": {"name": "w", "arguments": "{}"}},
        ],
    },
    {"role": "tool", "tool_call_id": "call_abcdefghijklmnopqrstuvwx", "content": "warm"},
    {"role": "tool", "tool_call_id": "D681PevKs", "content": "cold"},
    {"role": "tool", "tool_call_id": "toolu_01A09q90qw90lq917835lq9", "content": [{"type": "text", "text": "wet"}]},
    {"role": "assistant", "content": "", "tool_calls": None},
]


def ids_of(messages: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    calls = [call["id"] for message in messages for call in message.get("tool_calls") or ()]
    return calls, [message["tool_call_id"] for message in messages if "tool_call_id" in message]


def rewritten(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    made = with_short_ids(json.dumps(messages).encode(), 9)
    assert made is not None
    value: list[dict[str, Any]] = json.loads(made)
    return value


@given(st.lists(st.text(max_size=12) | st.from_regex(FITS, fullmatch=True), max_size=8))
def test_each_id_gets_one_that_fits_and_no_other_has(ids: list[str]) -> None:
    short = short_ids(ids, 9)
    used = [short.get(one, one) for one in dict.fromkeys(ids)]
    assert len(set(used)) == len(used)
    assert all(FITS.fullmatch(one) for one in used)
    assert not any(FITS.fullmatch(one) for one in short)


def test_an_id_is_the_same_in_every_request() -> None:
    assert short_ids(["call_2", "x", "call_1"], 9)["call_1"] == short_ids(["call_1"], 9)["call_1"] == "rKSxKBV4V"


def test_an_id_that_is_taken_is_not_given_again(monkeypatch: Any) -> None:
    first = short_ids(["call_1"], 9)["call_1"]
    short = short_ids(["call_1", first], 9)
    assert list(short) == ["call_1"]
    assert short["call_1"] != first
    monkeypatch.setattr(openai_call_ids, "_short", lambda text, length: text[-1] * length)
    assert short_ids(["a1", "b1", "c1"], 9) == {"a1": "1" * 9, "b1": "2" * 9, "c1": "3" * 9}


def test_calls_and_results_of_a_body_are_changed_alike_and_nothing_else_is() -> None:
    made = rewritten(HISTORY)
    calls, results = ids_of(made)
    assert sorted(calls) == sorted(results)
    assert calls[2] == "D681PevKs"
    assert all(FITS.fullmatch(one) for one in calls)
    back = dict(zip(calls, ids_of(HISTORY)[0], strict=True))
    for message in made:
        for call in message.get("tool_calls") or ():
            call["id"] = back[call["id"]]
        if "tool_call_id" in message:
            message["tool_call_id"] = back[message["tool_call_id"]]
    assert made == HISTORY


def test_what_fits_or_cannot_be_read_is_left_alone() -> None:
    for messages in ([], HISTORY[:1], [HISTORY[3]], [{"role": "assistant", "tool_calls": [{"type": "function"}]}]):
        assert with_short_ids(json.dumps(messages).encode(), 9) is None
    for odd in (b'[{"role": "tool", "tool_call_id": 5}]', b'[{"tool_calls": "none"}]', b'"text"'):
        assert with_short_ids(odd, 9) is None


def test_values_keep_their_bytes() -> None:
    content = b'"\\u00e9 1.10"'
    made = with_short_ids(b'[{"role":"tool","tool_call_id":"call_1","content":%b,"x":1.10}]' % content, 9)
    assert made == b'[{"role":"tool","tool_call_id":"rKSxKBV4V","content":%b,"x":1.10}]' % content


def test_canonical_messages_get_the_same_ids_as_bodies() -> None:
    messages = (
        Message(role="user", parts=(TextPart("hello"),)),
        Message(role="assistant", tool_calls=(ToolCall("call_1", "w", "{}"), ToolCall("D681PevKs", "w", "{}"))),
        Message(role="tool", call_id="call_1", parts=(TextPart("warm"),)),
        Message(role="tool", call_id="D681PevKs", parts=(TextPart("cold"),)),
    )
    made = shortened(messages, 9)
    assert [call.id for call in made[1].tool_calls] == ["rKSxKBV4V", "D681PevKs"]
    assert [message.call_id for message in made] == ["", "", "rKSxKBV4V", "D681PevKs"]
    assert shortened(made, 9) is made
