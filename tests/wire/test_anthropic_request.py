"""Callers' Anthropic requests: what is decided of them, their bytes for a target of the same dialect, and the whole."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import (
    Ability,
    ChatRequest,
    Continuation,
    FilePart,
    ImagePart,
    Message,
    OutputFormat,
    RequestFacts,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)
from crossfade.core.target import Target
from crossfade.wire.anthropic_canonical import read_canonical
from crossfade.wire.anthropic_messages import BUDGETS, write_request
from crossfade.wire.anthropic_request import MessagesInbound, read_request
from crossfade.wire.members import MAX_ODD
from crossfade.wire.ours import MAX_FIELD, MAX_MODEL
from crossfade.wire.reading import MAX_MESSAGES, MAX_PARTS, MAX_TOOLS
from tests.recordings import load, names, needs_recordings
from tests.wire.anthropic_recorded import NotCanonical, canonical, without_losses

ASKED = [
    n for n in names("anthropic", "messages") + names("vertex", "anthropic-messages") if load(n)["request"]["body"]
]
ODD = "anthropic/messages-error-400-invalid-request-01.json"
"""The request that was refused for a message that is no object."""

TARGET = Target(key="a/m#0", name="a/m", provider="a", model="m")
USER = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
TOOL = {"name": "f", "description": "d", "input_schema": SCHEMA}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}
SIGNED = {"type": "thinking", "thinking": "hm", "signature": "sig"}
UNSIGNED = {"type": "thinking", "thinking": "hm", "signature": ""}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}}


def result(content: Any = "1", call: str = "toolu_1", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call, "content": content, **fields}


def made(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 10, "messages": list(messages) or [USER], **fields}


def read(*messages: Any, headers: dict[str, str] | None = None, **fields: Any) -> MessagesInbound:
    return read_request(json.dumps(made(*messages, **fields)).encode(), headers or {})


def facts(*messages: Any, **fields: Any) -> RequestFacts:
    return read(*messages, **fields).facts


def whole(*messages: Any, **fields: Any) -> ChatRequest:
    return read_canonical(json.dumps(made(*messages, **fields)).encode())


def sent(inbound: MessagesInbound, target: Target = TARGET, stream: bool = False, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(inbound.body(target, stream, False, **fields))
    return body


# --- facts ---------------------------------------------------------------------------------------------------


def test_the_facts_of_a_plain_request() -> None:
    assert facts() == RequestFacts(
        include_usage=True, input_tokens=len(json.dumps(made())) // 4, max_tokens=10, wants_signatures=True
    )
    assert facts(stream=True).stream and not facts(stream=False).stream


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, {"needs": {Ability.VISION}}),
        ({"messages": [{"role": "user", "content": [PDF]}]}, {"needs": {Ability.FILES}}),
        (
            {"messages": [{"role": "user", "content": [result([IMAGE])]}]},
            {"needs": {Ability.VISION}, "after_tool_result": True, "tool_call_ids": ("toolu_1",)},
        ),
        ({"tools": [TOOL]}, {"needs": {Ability.TOOLS}, "tools": {"f"}, "has_other_tools": False}),
        (
            {"tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}]},
            {"needs": {Ability.TOOLS}, "tools": {"f"}, "has_other_tools": True, "wants_whole": True},
        ),
        ({"tools": [{**TOOL, "type": "custom"}]}, {"tools": {"f"}, "has_other_tools": False}),
        ({"mcp_servers": [{"type": "url", "url": "https://x"}]}, {"has_other_tools": True, "needs": {Ability.TOOLS}}),
        ({"tools": [], "mcp_servers": []}, {"has_other_tools": False, "needs": set()}),
        ({"tool_choice": {"type": "any"}}, {"tool_choice": "required"}),
        ({"tool_choice": {"type": "tool", "name": "f"}}, {"tool_choice": "named"}),
        ({"tool_choice": {"type": "none"}}, {"tool_choice": "none"}),
        ({"tool_choice": {"type": "auto"}}, {"tool_choice": "auto"}),
        ({"tool_choice": {"type": ["new"]}}, {"tool_choice": "auto"}),
        ({"stop_sequences": ["x"]}, {"has_stop": True, "wants_whole": True}),
        ({"stop_sequences": []}, {"has_stop": False, "wants_whole": False}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"thinking": True, "wants_whole": True}),
        ({"thinking": {"type": "adaptive"}}, {"thinking": True}),
        ({"thinking": {"type": "disabled"}}, {"thinking": False, "wants_whole": False}),
        ({"output_config": {"effort": "low"}}, {"thinking": True, "output": None}),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, {"thinking": False}),
        (
            {"messages": [{"role": "user", "content": [{**PDF, "citations": {"enabled": True}}]}]},
            {"wants_whole": True},
        ),
        (
            {
                "messages": [
                    USER,
                    {"role": "assistant", "content": [CALL]},
                    {"role": "user", "content": [result()]},
                    USER,
                ]
            },
            {"after_tool_result": False, "tool_call_ids": ()},
        ),
        (
            {"messages": [USER, {"role": "user", "content": [result()]}, {"role": "system", "content": "Be brief."}]},
            {"after_tool_result": True, "tool_call_ids": ("toolu_1",)},
        ),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, {"after_tool_result": False}),
    ],
)
def test_facts(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    messages = fields.pop("messages", [])
    found = facts(*messages, **fields)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_a_schema_is_wanted_under_either_name_and_kept_as_text(field: str) -> None:
    text = b'{ "type" : "object" }'
    format_ = b'{"type":"json_schema","schema":%s}' % text
    value = format_ if field == "output_format" else b'{"format":%s}' % format_
    body = b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"%s":%s}' % (field.encode(), value)
    found = read_request(body, {}).facts
    assert found.output == OutputFormat(kind="json_schema", schema=text, strict=True)
    assert Ability.JSON_SCHEMA in found.needs


def test_media_in_base64_are_no_tokens_and_text_is() -> None:
    data = "A" * 40_000
    large = {"type": "base64", "media_type": "image/png", "data": data}
    nested = result([{"type": "image", "source": large}])
    for block in ({"type": "image", "source": large}, {**PDF, "source": large}, nested):
        assert facts({"role": "user", "content": [block]}).input_tokens < 100
    text = {"type": "text", "media_type": "text/plain", "data": data}
    assert facts({"role": "user", "content": [{**PDF, "source": text}]}).input_tokens > 10_000


# --- ours ----------------------------------------------------------------------------------------------------


def test_our_fields_are_read_and_do_not_go_upstream() -> None:
    inbound = read(fallback_models=["b"], fallback_on=["timeout"], crossfade={"timeout": "3s"}, new=1)
    ours = inbound.ours
    assert (ours.model, [model.name for model in ours.fallback_models or ()]) == ("m", ["b"])
    assert ours.fallback_on == ("timeout",) and ours.options is not None and ours.options.timeout == 3
    assert sent(inbound) == {**made(), "new": 1}
    assert read(models=["m", "b"]).ours.fallback_models == read(fallbacks=["b"]).ours.fallback_models
    headers = {"x-crossfade-route": "r", "x-crossfade-tags": "a, b", "x-crossfade-fallback-on": "timeout"}
    ours = read(headers=headers).ours
    assert (ours.route, ours.fallback_on) == ("r", ("timeout",))
    assert ours.options is not None and ours.options.tags == ("a", "b")


def test_headers_are_forwarded_byte_for_byte_and_only_those_about_the_api() -> None:
    headers = {"anthropic-version": " 2023-06-01", "anthropic-beta": "a,b , c", "x-api-key": "k", "cookie": "c"}
    assert read(headers=headers).forwarded == (("anthropic-version", " 2023-06-01"), ("anthropic-beta", "a,b , c"))
    assert read().forwarded == ()


# --- bytes for the same dialect ------------------------------------------------------------------------------

BODY = (
    b'{ "max_tokens":10,\n"model" : "chat" ,"x":{"b":1.50,"a":"\\u00e9"},'
    b'"messages":[ {"content":"hi","role":"user"} ] , "stream":false}\n'
)


def test_bytes_pass_but_for_what_must_differ() -> None:
    inbound = read_request(BODY, {})
    same = inbound.body(Target(key="", name="", provider="", model="chat"), False, False)
    assert same == BODY
    assert inbound.body(TARGET, False, False) == BODY.replace(b'"chat"', b'"m"')
    assert inbound.body(TARGET, True, False) == BODY.replace(b'"chat"', b'"m"').replace(b"false", b"true")
    streamed = read_request(BODY.replace(b"false", b"true"), {})
    assert streamed.body(TARGET, True, False) == BODY.replace(b'"chat"', b'"m"').replace(b"false", b"true")


def test_a_target_sets_and_drops_parameters() -> None:
    target = Target(
        key="", name="", provider="", model="m", set_params=(("top_k", b"[ 5 ]"),), drop_params=("temperature",)
    )
    assert sent(read(temperature=0.5), target, stream=True) == {**made(), "top_k": [5], "stream": True}


def test_unsigned_thinking_is_taken_out_and_nothing_else_is_touched() -> None:
    kept = {"role": "assistant", "content": [SIGNED, {"type": "redacted_thinking", "data": "x"}, CALL]}
    mixed = {"role": "assistant", "content": [UNSIGNED, {"type": "text", "text": "a", "new": 1.5}, CALL], "new": [1]}
    only = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}]}
    body = sent(read(USER, kept, USER, mixed, USER, only, USER))
    stripped = {**mixed, "content": mixed["content"][1:]}  # type: ignore[index]
    assert body["messages"] == [USER, kept, USER, stripped, USER, USER]
    raw = json.dumps(made(USER, kept, USER)).encode()
    assert read_request(raw, {}).body(TARGET, False, False) == raw


BUDGET = {"type": "enabled", "budget_tokens": 1024}
FOREIGN = {**CALL, "id": "call_1"}
ANSWERED = {"role": "user", "content": [result(call="call_1")]}


@pytest.mark.parametrize(
    ("turn", "last", "thinking", "is_lost"),
    [
        ([FOREIGN], ANSWERED, BUDGET, True),
        ([UNSIGNED, FOREIGN], ANSWERED, BUDGET, True),
        ([SIGNED, FOREIGN], ANSWERED, BUDGET, False),
        ([CALL], ANSWERED, BUDGET, False),
        ([FOREIGN], USER, BUDGET, False),
        ([FOREIGN], ANSWERED, {"type": "adaptive"}, False),
        ("words", ANSWERED, BUDGET, False),
    ],
)
def test_a_budget_behind_a_call_of_another_provider_is_left_out(
    turn: Any, last: Any, thinking: Any, is_lost: bool
) -> None:
    inbound = read(USER, {"role": "assistant", "content": turn}, last, thinking=thinking)
    assert inbound.lost == (("thinking",) if is_lost else ())
    assert ("thinking" in sent(inbound)) != is_lost


def cut(*, prefill: bool, delivered: int = 4) -> Continuation:
    return Continuation(text="1, 2 ", anchor="2 ", prefill=prefill, delivered_tokens=delivered)


def test_a_continuation_adds_its_turns_and_takes_off_what_was_delivered() -> None:
    body = sent(read(), stream=True, continuation=cut(prefill=True))
    assert body["messages"] == [USER, {"role": "assistant", "content": "1, 2"}]
    assert (body["max_tokens"], body["stream"]) == (6, True)
    body = sent(read(), stream=True, continuation=cut(prefill=False, delivered=400))
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][2]["content"].endswith("2 ") and body["max_tokens"] == 1


def test_a_continuation_of_a_request_whose_target_drops_the_limit() -> None:
    target = Target(key="", name="", provider="", model="m", drop_params=("max_tokens",))
    assert "max_tokens" not in sent(read(), target, continuation=cut(prefill=False))


def test_a_continuation_leaves_thinking_a_place_or_does_without() -> None:
    inbound = read(max_tokens=2000, thinking=BUDGET)
    body = sent(inbound, continuation=cut(prefill=False, delivered=1500))
    assert (body["max_tokens"], body["thinking"]) == (1025, BUDGET)
    body = sent(inbound, continuation=cut(prefill=True, delivered=1500))
    assert body["max_tokens"] == 500 and "thinking" not in body
    off = {"type": "disabled"}
    assert sent(read(thinking=off), continuation=cut(prefill=True))["thinking"] == off


@needs_recordings
@pytest.mark.parametrize("name", [name for name in ASKED if name != ODD])
def test_recorded_requests_pass_value_for_value(name: str) -> None:
    body = load(name)["request"]["body"]
    model = body.get("model") or "m"  # Vertex has it in the path
    raw = json.dumps({**body, "model": model}, indent=1).encode()
    inbound = read_request(raw, {})
    assert inbound.body(Target(key="", name="", provider="", model=model), inbound.facts.stream, False) == raw
    changed = sent(inbound, stream=not inbound.facts.stream)
    assert changed == {**body, "model": "m", "stream": not inbound.facts.stream}


# --- what is refused -----------------------------------------------------------------------------------------


def refused(body: bytes | dict[str, Any], headers: dict[str, str] | None = None) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read_request(body if isinstance(body, bytes) else json.dumps(body).encode(), headers or {})
    return caught.value


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": 5}, "model"),
        ({"model": "m" * (MAX_MODEL + 1)}, "model"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [USER, {"role": "user"}]}, "messages[1]"),
        ({"messages": [USER, {"content": "x"}]}, "messages[1]"),
        ({"messages": [USER, {"role": 5, "content": "x"}]}, "messages[1].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "search_result", "content": []}, {"type": 5}]}]},
            "messages[0].content[1].type",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}, {"name": 5}]}, "tools[1].name"),
        ({"tools": [{"name": "f"}, "f"]}, "tools[1]"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{**IMAGE, "source": "x"}]}]}, "messages[0].content[0].source"),
        ({"messages": [{"role": "user", "content": [result([5])]}]}, "messages[0].content[0].content"),
        (
            {"messages": [{"role": "user", "content": [result([{**IMAGE, "source": 1}])]}]},
            "messages[0].content[0].content[0].source",
        ),
        ({"stream": "yes"}, "stream"),
        ({"system": 5}, "system"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": {"type": "x" * MAX_FIELD}}, "tool_choice"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"thinking": "on"}, "thinking"),
        ({"output_config": {"format": "x"}}, "output_config.format"),
        ({"crossfade": {"x": 1}}, "crossfade.x"),
        ({"fallback_models": 5}, "fallback_models"),
        ({"models": ["a"], "fallbacks": ["b"]}, "fallbacks"),
        ({"fallback_on": ["nothing"]}, "fallback_on"),
        ({"messages": [USER] * (MAX_MESSAGES + 1)}, "messages"),
        ({"tools": [TOOL] * (MAX_TOOLS + 1)}, "tools"),
    ],
)
def test_a_bad_request_names_its_field(change: dict[str, Any], param: str) -> None:
    assert refused(made() | change).param == param


@pytest.mark.parametrize("missing", ["model", "max_tokens", "messages"])
def test_a_missing_field_is_named_with_its_code(missing: str) -> None:
    body = made()
    del body[missing]
    error = refused(body)
    assert (error.param, error.code, error.status) == (missing, "missing_required_parameter", 400)


def test_a_count_needs_no_limit() -> None:
    body = made()
    del body["max_tokens"]
    assert read_request(json.dumps(body).encode(), {}, needs_limit=False).facts.max_tokens is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"x"',
        b"{",
        b'{"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "\xff"}]}',
        b'{"model":"m","max_tokens":1,"messages":' + b"[" * 100_000,
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"model":"m","max_tokens":1,"messages":[]}',
        b'{"model":"m","max_tokens":1,"messages":[' + b"{}," * (MAX_PARTS // 2) + b"{}]}",
        b'{"model":"m","max_tokens":1e999,"messages":[{"role":"user","content":"x"}]}',
    ],
)
def test_what_is_no_request_is_a_plain_refusal(body: bytes) -> None:
    assert refused(body).status == 400


@pytest.mark.parametrize("name", ["model", "max_tokens", "messages", "stream", "thinking", "crossfade"])
@pytest.mark.parametrize("spelling", ["{}", "\\u00{:02x}"])
def test_what_decides_may_not_come_twice(name: str, spelling: str) -> None:
    key = name if spelling == "{}" else spelling.format(ord(name[0])) + name[1:]
    body = json.dumps(made(thinking={"type": "disabled"}, stream=False, crossfade={}))
    twice = f'{{"{key}": {json.dumps(json.loads(body)[name])}, {body[1:]}'.encode()
    error = refused(twice)
    assert error.param == name and "twice" in error.message


def test_a_long_body_has_each_key_once() -> None:
    body = made(pad="x" * MAX_ODD)
    text = json.dumps(body).replace('"pad"', '"\\u0070ad"').encode()
    assert "1 MiB" in refused(text).message


def test_a_byte_order_mark_is_no_fault() -> None:
    assert read_request(b"\xef\xbb\xbf" + BODY, {}).ours.model == "chat"


# --- the whole request ---------------------------------------------------------------------------------------


def test_a_whole_request() -> None:
    request = whole(
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look", "cache_control": {"type": "ephemeral"}},
                IMAGE,
                {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
                {**PDF, "title": "a.pdf"},
                {"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "é"}},
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "in"}, IMAGE]}},
            ],
        },
        {"role": "assistant", "content": [SIGNED, {"type": "text", "text": "well"}, CALL, {**CALL, "id": "toolu_2"}]},
        {
            "role": "user",
            "content": [
                result([{"type": "text", "text": "1"}, IMAGE]),
                result(None, "toolu_2", is_error=True),
                {"type": "text", "text": "so?"},
            ],
        },
        {"role": "system", "content": "and now"},
        {"role": "assistant", "content": "yes"},
        system=[{"type": "text", "text": "be brief"}, {"type": "text", "text": "be kind"}],
        tools=[{**TOOL, "strict": True, "defer_loading": True}, {"name": "g", "input_schema": {}}],
        tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        output_config={"format": {"type": "json_schema", "schema": SCHEMA}, "effort": "max"},
        thinking={"type": "adaptive"},
        stop_sequences=["x", "y"],
        temperature=1,
        top_p=0.5,
        top_k=3,
        metadata={"user_id": "u"},
        service_tier="standard_only",
        container=None,
        stream=True,
        crossfade={},
        new={"a": 1},
    )
    schema = json.dumps(SCHEMA, separators=(",", ":")).encode()
    assert request == ChatRequest(
        messages=(
            Message(role="system", parts=(TextPart("be brief"), TextPart("be kind"))),
            Message(
                role="user",
                parts=(
                    TextPart("look"),
                    ImagePart(media_type="image/png", data="AAAA"),
                    ImagePart(url="https://x/y.png"),
                    FilePart(name="a.pdf", media_type="application/pdf", data="BBBB"),
                    FilePart(url="https://x/a.pdf"),
                    FilePart(media_type="text/plain", data=base64.b64encode("é".encode()).decode()),
                    TextPart("in"),
                    ImagePart(media_type="image/png", data="AAAA"),
                ),
            ),
            Message(
                role="assistant",
                parts=(TextPart("well"),),
                tool_calls=(ToolCall("toolu_1", "f", '{"a":1}'), ToolCall("toolu_2", "f", '{"a":1}')),
            ),
            Message(
                role="tool",
                call_id="toolu_1",
                parts=(TextPart("1"), ImagePart(media_type="image/png", data="AAAA")),
            ),
            Message(role="tool", call_id="toolu_2", parts=(TextPart("Error"),)),
            Message(role="user", parts=(TextPart("so?"),)),
            Message(role="system", parts=(TextPart("and now"),)),
            Message(role="assistant", parts=(TextPart("yes"),)),
        ),
        tools=(
            Tool(name="f", description="d", parameters=schema, strict=True),
            Tool(name="g", parameters=b"{}"),
        ),
        tool_choice=ToolChoice("named", "f"),
        parallel_tool_calls=False,
        output=OutputFormat(kind="json_schema", schema=schema, strict=True),
        max_tokens=10,
        temperature=1.0,
        top_p=0.5,
        top_k=3,
        stop=("x", "y"),
        reasoning_effort="max",
        user="u",
        others=("service_tier", "new", "cache_control", "is_error", "tools.defer_loading"),
    )


def test_tools_that_a_search_found_are_named_in_words() -> None:
    found = [{"type": "tool_reference", "tool_name": name} for name in ("fetch", "find")]
    turns = [USER, {"role": "assistant", "content": [CALL]}, {"role": "user", "content": [result(found)]}]
    said = tuple(TextPart(f"The tool {name} can be called now.") for name in ("fetch", "find"))
    assert whole(*turns).messages[-1] == Message(role="tool", call_id="toolu_1", parts=said)
    assert sent(read(*turns))["messages"] == turns


@pytest.mark.parametrize(
    ("fields", "effort", "others"),
    [
        ({}, None, ()),
        ({"thinking": {"type": "disabled"}}, None, ()),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, None, ("output_config.effort",)),
        ({"thinking": {"type": "adaptive"}}, "medium", ()),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low", ()),
        ({"output_config": {"effort": "high"}}, "high", ()),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low", ()),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "low", ()),
        ({"thinking": {"type": "enabled", "budget_tokens": 2049}}, "medium", ()),
        ({"thinking": {"type": "enabled", "budget_tokens": 8192}}, "medium", ()),
        ({"thinking": {"type": "enabled", "budget_tokens": 60_000}}, "high", ()),
    ],
)
def test_thinking_and_effort_are_one_word(fields: dict[str, Any], effort: str | None, others: tuple[str, ...]) -> None:
    request = whole(**fields)
    assert (request.reasoning_effort, request.others) == (effort, others)
    assert effort is None or effort in BUDGETS


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": [{**TOOL, "strict": 1}]}, "tools[0].strict"),
        ({"mcp_servers": [{"name": "x"}]}, "mcp_servers"),
        ({"tool_choice": {"type": "new"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"thinking": {"type": "new"}}, "thinking.type"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"output_config": {"format": {"type": "new"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"metadata": "u"}, "metadata"),
        ({"temperature": "warm"}, "temperature"),
        ({"top_k": 1.5}, "top_k"),
        ({"system": [IMAGE]}, "system[0].type"),
    ],
)
def test_what_cannot_be_translated_is_named(fields: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        whole(**fields)
    assert caught.value.param == place


@pytest.mark.parametrize(
    ("role", "block", "place"),
    [
        ("user", {"type": "search_result", "source": "https://x", "title": "t", "content": []}, "type"),
        ("user", {"type": "container_upload", "file_id": "f"}, "type"),
        ("user", {"type": "document", "source": {"type": "file", "file_id": "f"}}, "source.type"),
        ("user", {"type": "image", "source": {"type": "file", "file_id": "f"}}, "source.type"),
        ("user", {"type": "image"}, "source"),
        ("user", result([{"type": "search_result"}]), "content[0].type"),
        ("user", result([{"type": "tool_reference"}]), "content[0].tool_name"),
        ("assistant", {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, "type"),
        ("assistant", {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}, "type"),
        ("assistant", {"type": "tool_use", "id": "t", "name": "f", "input": "x"}, "input"),
        ("assistant", {"type": "tool_use", "name": "f", "input": {}}, "id"),
        ("user", {"type": "text"}, "text"),
    ],
)
def test_blocks_that_cannot_be_translated_are_named_and_pass_in_their_own_dialect(
    role: str, block: dict[str, Any], place: str
) -> None:
    turns = [USER, {"role": role, "content": [block]}]
    with pytest.raises(InvalidRequest) as caught:
        whole(*turns)
    assert caught.value.param == f"messages[1].content[0].{place}"
    if block["type"] != "image" or "source" in block:
        assert sent(read(*turns))["messages"] == turns


@needs_recordings
@pytest.mark.parametrize("name", [name for name in ASKED if name != ODD])
def test_recorded_requests_are_read_as_an_independent_reader_reads_them(name: str) -> None:
    body = load(name)["request"]["body"]
    text = json.dumps(body).encode()
    try:
        expected = canonical(body)
    except NotCanonical:
        with pytest.raises(InvalidRequest):
            read_canonical(text)
        return
    found = read_canonical(text)
    assert comparable(found) == comparable(expected)


def comparable(request: ChatRequest) -> Any:
    """A request without what the other reader does not look at, its JSON decoded."""
    value = {name: getattr(request, name) for name in request.__struct_fields__}
    del value["reasoning_effort"], value["others"]
    value["messages"] = [
        (
            message.role,
            [part for part in message.parts if part != TextPart("")],
            message.call_id,
            [(call.id, call.name, json.loads(call.arguments)) for call in message.tool_calls],
        )
        for message in request.messages
    ]
    value["tools"] = [(t.name, t.description, json.loads(t.parameters or b"{}"), t.strict) for t in request.tools]
    value["output"] = None if request.output is None else json.loads(request.output.schema or b"{}")
    return value


# --- there and back ------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12).filter(str.strip)
ID = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
OBJECTS = st.dictionaries(
    TEXT, st.one_of(st.integers(-9, 9), TEXT, st.booleans(), st.none(), st.lists(TEXT, max_size=2))
)
TEXTS = TEXT.map(lambda text: {"type": "text", "text": text})
IMAGES = st.one_of(
    st.binary(min_size=1, max_size=9).map(
        lambda data: {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(data).decode()},
        }
    ),
    TEXT.map(lambda text: {"type": "image", "source": {"type": "url", "url": text}}),
)
DOCUMENTS = st.builds(
    lambda title, source: {"type": "document", "source": source, **({"title": title} if title else {})},
    st.none() | TEXT,
    st.one_of(
        st.just(PDF["source"]),
        TEXT.map(lambda text: {"type": "text", "media_type": "text/plain", "data": text}),
        TEXT.map(lambda text: {"type": "url", "url": text}),
    ),
)
RESULTS = st.builds(
    lambda call, content: result(content, call), ID, TEXT | st.lists(TEXTS | IMAGES, min_size=1, max_size=2)
)
CALLS = st.builds(lambda i, name, value: {"type": "tool_use", "id": i, "name": name, "input": value}, ID, ID, OBJECTS)
THOUGHTS = st.just(SIGNED)
USER_TURNS = st.builds(
    lambda results, rest: {"role": "user", "content": [*results, *rest]},
    st.lists(RESULTS, max_size=2),
    st.lists(TEXTS | IMAGES | DOCUMENTS, min_size=1, max_size=3),
) | TEXT.map(lambda text: {"role": "user", "content": text})
ASSISTANT_TURNS = st.builds(
    lambda thoughts, texts, calls: {"role": "assistant", "content": [*thoughts, *texts, *calls]},
    st.lists(THOUGHTS, max_size=1),
    st.lists(TEXTS, min_size=1, max_size=2),
    st.lists(CALLS, max_size=2),
)


@st.composite
def conversations(draw: st.DrawFn) -> dict[str, Any]:
    turns = [draw(USER_TURNS)]
    for _ in range(draw(st.integers(0, 2))):
        turns += [draw(ASSISTANT_TURNS), draw(USER_TURNS)]
    body = made(*turns)
    optional = {
        "system": TEXT | st.lists(TEXTS, min_size=1, max_size=2),
        "temperature": st.floats(0, 1),
        "top_k": st.integers(1, 99),
        "stop_sequences": st.lists(TEXT, min_size=1, max_size=3),
        "metadata": ID.map(lambda i: {"user_id": f"u{i}"}),
        "tools": st.lists(ID, min_size=1, max_size=3, unique=True).map(
            lambda found: [{"name": name, "description": "d", "input_schema": SCHEMA} for name in found]
        ),
    }
    for name, values in optional.items():
        if draw(st.booleans()):
            body[name] = draw(values)
    if "tools" in body and draw(st.booleans()):
        choice: dict[str, Any] = draw(st.sampled_from([{"type": "any"}, {"type": "none"}, {"type": "auto"}]))
        body["tool_choice"] = {**choice}
        if choice["type"] != "none" and draw(st.booleans()):
            body["tool_choice"]["disable_parallel_tool_use"] = True
    return body


@given(conversations())
def test_a_conversation_comes_back_as_it_was_but_for_the_documented_losses(body: dict[str, Any]) -> None:
    if "tools" not in body and any(
        block["type"] == "tool_use"
        for turn in body["messages"]
        if turn["role"] == "assistant"
        for block in turn["content"]
    ):
        body["tools"] = [TOOL]  # calls without definitions get some, which no caller has said
    request = read_canonical(json.dumps(body).encode())
    back = write_request(request, model="claude-sonnet-4-0", stream=False)
    expected = without_losses(body)
    found = without_losses(json.loads(back.body))
    assert found == expected
    assert back.dropped == ()
