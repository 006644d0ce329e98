from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Ability, Continuation
from crossfade.core.policy import CommitPolicy, HedgePolicy, ValidationPolicy
from crossfade.core.target import Target
from crossfade.wire.openai_chat import ChatInbound, FallbackModel, Options, read_request

HELLO: dict[str, Any] = {"model": "gpt-5.4", "messages": [{"role": "user", "content": "hello"}]}


def target(model: str = "gpt-5.4", **more: Any) -> Target:
    return Target(key=f"p/{model}#0", name=f"p/{model}", provider="p", model=model, **more)


def inbound(headers: dict[str, str] | None = None, **fields: Any) -> ChatInbound:
    return read_request(json.dumps(HELLO | fields).encode(), headers or {})


def sent(request: ChatInbound, to: Target, *, stream: bool = False, usage: bool = False, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(request.body(to, stream=stream, include_usage=usage, **more))
    return body


def rejected(body: bytes | dict[str, Any], headers: dict[str, str] | None = None) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read_request(body if isinstance(body, bytes) else json.dumps(body).encode(), headers or {})
    return caught.value


# --- bytes ---------------------------------------------------------------------------------------------------

SPACED = b'\n { "messages" : [ {"role":"user", "content":"\xc3\xa9 \\u00e9 1e2"} ] ,\t"model" : "a/b" , "x": 1.00 }\n'


def test_the_bytes_pass_untouched_for_the_same_model() -> None:
    assert read_request(SPACED, {}).body(target("a/b"), stream=False, include_usage=False) == SPACED


def test_only_the_model_name_changes() -> None:
    body = read_request(SPACED, {}).body(target('c"d'), stream=False, include_usage=False)
    assert body == SPACED.replace(b'"a/b"', b'"c\\"d"')


@pytest.mark.parametrize(
    "content", ['"model":"gpt-5.4"', '{"model": "gpt-5.4", "model": 1}', '"stream_options"', "model", "\\", '"', "}"]
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_a_text_that_looks_like_a_member_is_left_alone(content: str, separators: tuple[str, str]) -> None:
    body = {"messages": [{"role": "user", "content": content}], "stop": [content], "model": "gpt-5.4", "stream": True}
    request = read_request(json.dumps(body, separators=separators).encode(), {})
    assert sent(request, target("other"), stream=True) == body | {"model": "other"}


def test_values_keep_their_bytes_when_members_are_taken_out() -> None:
    body = b'{"model":"m","fallback_models":[],"messages":[ {"role":"user","content":"\\u00e9"} ],"seed":1.0e2}'
    out = read_request(body, {}).body(target("m"), stream=False, include_usage=False)
    assert out == b'{"model":"m","messages":[ {"role":"user","content":"\\u00e9"} ],"seed":1.0e2}'


def test_unknown_members_go_upstream_and_ours_do_not() -> None:
    ours = {"fallback_models": ["b"], "fallback_on": ["default"], "crossfade": {"timeout": 3}}
    assert sent(inbound(**ours, metadata={"a": 1}, x=None), target()) == HELLO | {"metadata": {"a": 1}, "x": None}
    nothing = dict.fromkeys(["fallback_models", "models", "fallbacks", "fallback_on", "crossfade"])
    assert sent(inbound(**nothing), target()) == HELLO


USAGE = {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    ("fields", "stream", "usage", "expected"),
    [
        ({}, False, False, {}),
        ({}, True, True, {"stream": True} | USAGE),
        ({}, True, False, {"stream": True}),
        ({"stream": True}, True, True, {"stream": True} | USAGE),
        ({"stream": True}, True, False, {"stream": True}),
        ({"stream": True}, False, False, {"stream": False}),
        ({"stream": False}, True, True, {"stream": True} | USAGE),
        ({"stream": False}, False, False, {"stream": False}),
        ({"stream": None}, True, True, {"stream": True} | USAGE),
        ({"stream": None}, False, False, {"stream": None}),
        ({"stream": True} | USAGE, True, True, {"stream": True} | USAGE),
        ({"stream": True} | USAGE, True, False, {"stream": True}),
        ({"stream": True} | USAGE, False, False, {"stream": False}),
        ({"stream": True, "stream_options": None}, True, True, {"stream": True} | USAGE),
        (
            {"stream": True, "stream_options": {"include_usage": False, "include_obfuscation": False}},
            True,
            True,
            {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
        ),
    ],
)
@pytest.mark.parametrize("model", ["gpt-5.4", "other"])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_the_options_of_a_stream(
    fields: dict[str, Any],
    stream: bool,
    usage: bool,
    expected: dict[str, Any],
    model: str,
    separators: tuple[str, str],
) -> None:
    request = read_request(json.dumps(HELLO | fields, separators=separators).encode(), {})
    assert sent(request, target(model), stream=stream, usage=usage) == HELLO | {"model": model} | expected


def test_a_target_sets_and_drops_parameters() -> None:
    to = target(set_params=(("temperature", b"0.5"), ("seed", b"7")), drop_params=("top_p",))
    assert sent(inbound(temperature=1, top_p=0.1), to) == HELLO | {"temperature": 0.5, "seed": 7}


def test_a_continuation_adds_turns_and_takes_what_was_delivered_off_the_limit() -> None:
    rest = Continuation(text="One, two ", anchor="two ", prefill=False, delivered_tokens=4)
    body = sent(inbound(max_tokens=10, max_completion_tokens=3), target(), continuation=rest)
    assert body["max_tokens"] == 6
    assert body["max_completion_tokens"] == 1
    assert body["messages"][1] == {"role": "assistant", "content": "One, two "}
    assert body["messages"][2]["role"] == "user"
    assert body["messages"][2]["content"].endswith("two ")


def test_a_prefill_is_the_last_turn_without_trailing_blanks() -> None:
    rest = Continuation(text="One, two ", anchor="", prefill=True, delivered_tokens=4)
    assert sent(inbound(), target(), continuation=rest)["messages"][1:] == [
        {"role": "assistant", "content": "One, two"}
    ]
    marked = sent(inbound(), target(), continuation=rest, marks_prefix=True)["messages"][1:]
    assert marked == [{"role": "assistant", "content": "One, two", "prefix": True}]


def test_a_byte_order_mark_and_blanks_are_tolerated() -> None:
    body = b"\xef\xbb\xbf \r\n" + json.dumps(HELLO).encode()
    assert sent(read_request(body, {}), target("x")) == HELLO | {"model": "x"}


names = st.sampled_from(
    ["model", "stream", "n", "x", "messages", "stream_options", "fallback_models", "mod\u00e9l", ""]
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(names, st.text(max_size=8) | st.integers() | st.none(), max_size=5),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")]),
    st.booleans(),
    st.permutations(["model", "messages"]),
)
def test_any_body_is_the_same_but_for_what_was_changed(
    more: dict[str, Any], separators: tuple[str, str], ascii_only: bool, order: list[str]
) -> None:
    fields = {name: more[name] for name in more if name not in HELLO} | {name: HELLO[name] for name in order}
    fields.pop("fallback_models", None)
    fields |= {"n": 1} if "n" in fields else {}
    fields |= {"stream": True} if "stream" in fields else {}
    fields.pop("stream_options", None)
    request = read_request(json.dumps(fields, separators=separators, ensure_ascii=ascii_only).encode(), {})
    assert sent(request, target("other"), stream="stream" in fields) == fields | {"model": "other"}


# --- what is refused -----------------------------------------------------------------------------------------

DECIDING = ["model", "messages", "stream", "n", "tools", "response_format", "stream_options"]
OURS = ["fallback_models", "models", "fallbacks", "fallback_on", "crossfade"]


@pytest.mark.parametrize("name", DECIDING + OURS)
@pytest.mark.parametrize("spelling", ["plain", "escaped"])
@pytest.mark.parametrize("place", ["front", "end"])
def test_a_deciding_field_given_twice_is_refused_by_name(name: str, spelling: str, place: str) -> None:
    values: dict[str, Any] = {"model": "gpt-5.4", "messages": HELLO["messages"], "stream": True, "n": 1, "tools": []}
    values |= {"response_format": {"type": "text"}, "stream_options": {}, "crossfade": {}}
    value = json.dumps(values.get(name, []))
    key = f'"{name}"' if spelling == "plain" else f'"{name[:-1]}\\u{ord(name[-1]):04x}"'
    first = json.dumps(HELLO | ({name: json.loads(value)} if name not in HELLO else {}))
    twice = f"{{{key}:{value},{first[1:]}" if place == "front" else f"{first[:-1]},{key}:{value}}}"
    error = rejected(twice.encode())
    assert error.param == name
    assert "twice" in error.message


def test_a_repeated_key_of_another_length_is_found_too() -> None:
    for second in ('"x"', '"gpt-5.4"', '"gpt-5.4-longer"'):
        body = f'{{"model":"gpt-5.4","messages":[{{"role":"user"}}],"model":{second}}}'
        assert rejected(body.encode()).param == "model"
    assert rejected(b'{"n":12,"model":"m","messages":[{"role":"user"}],"n":1}').param == "n"


def test_a_field_that_decides_nothing_may_repeat_and_the_last_one_counts() -> None:
    request = read_request(b'{"x":1,"model":"gpt-5.4","messages":[{"role":"user","content":"hello"}],"x":2}', {})
    assert sent(request, target("y")) == HELLO | {"model": "y", "x": 2}


def test_an_escaped_key_given_once_is_that_key() -> None:
    request = read_request(b'{"mod\\u0065l":"a","messages":[{"role":"user","content":"hello"}]}', {})
    assert request.ours.model == "a"
    assert sent(request, target("y")) == HELLO | {"model": "y"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"[]", None),
        (b"null", None),
        (b'"text"', None),
        (b"{", None),
        (json.dumps(HELLO).encode() + b" {}", None),
        (b'{"model":"m","messages":[{"role":"user"}],"x":"\xff"}', None),
        (b'{"model":"m","messages":[{"role":"user"}],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
        (b'{"a":' * 100_000, None),
        ({"messages": HELLO["messages"]}, "model"),
        (HELLO | {"model": ""}, "model"),
        (HELLO | {"model": None}, "model"),
        (HELLO | {"model": 5}, "model"),
        ({"model": "m"}, "messages"),
        ({"model": "m", "messages": []}, "messages"),
        ({"model": "m", "messages": "hi"}, "messages"),
        ({"model": "m", "messages": [{"role": "user", "content": "a"}, {"content": "b"}]}, "messages[1].role"),
        ({"model": "m", "messages": [{"role": "user", "content": "a"}, "b"]}, "messages[1]"),
        ({"model": "m", "messages": [{"role": "user", "content": {"a": 1}}]}, "messages[0].content"),
        (HELLO | {"stream": "yes"}, "stream"),
        (HELLO | {"n": "2"}, "n"),
        (HELLO | {"n": 0}, "n"),
        (HELLO | {"n": 1000}, "n"),
        (HELLO | {"tools": {}}, "tools"),
        (HELLO | {"tools": [{"type": "function"}]}, "tools[0].function"),
        (HELLO | {"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (HELLO | {"response_format": {}}, "response_format"),
        (HELLO | {"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        (HELLO | {"max_tokens": "5"}, "max_tokens"),
    ],
)
def test_a_body_that_cannot_be_used_names_the_field(body: bytes | dict[str, Any], param: str | None) -> None:
    error = rejected(body)
    assert error.param == param
    assert error.message


# --- facts ---------------------------------------------------------------------------------------------------


def test_the_facts_of_a_plain_request() -> None:
    facts = inbound().facts
    assert facts.stream is False
    assert facts.n == 1
    assert facts.needs == frozenset()
    assert facts.tools == frozenset()
    assert facts.output is None
    assert facts.after_tool_result is False
    assert 10 <= facts.input_tokens <= 30
    assert inbound().dialect == "openai"


def test_the_facts_of_a_rich_request() -> None:
    facts = inbound(
        stream=True,
        n=2,
        stream_options={"include_usage": True},
        max_tokens=5,
        max_completion_tokens=7,
        stop=["x"],
        logprobs=True,
        modalities=["text", "audio"],
        reasoning_effort="high",
        tools=[
            {"type": "function", "function": {"name": "f", "parameters": {}}},
            {"type": "custom", "custom": {"name": "c"}},
        ],
        tool_choice="required",
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "o", "schema": {"type": "object"}, "strict": True},
        },
    ).facts
    assert (facts.stream, facts.n, facts.include_usage, facts.max_tokens) == (True, 2, True, 7)
    assert facts.has_stop and facts.logprobs and facts.audio and facts.thinking and facts.has_other_tools
    assert facts.tools == {"f"}
    assert facts.tool_choice == "required"
    assert facts.needs == {Ability.TOOLS, Ability.JSON_SCHEMA, Ability.AUDIO}
    assert facts.output is not None
    assert facts.output.strict and json.loads(facts.output.schema or b"") == {"type": "object"}


@pytest.mark.parametrize(
    ("part", "ability"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x/y.png"}}, Ability.VISION),
        ({"type": "image_url", "image_url": "https://x/y.png"}, Ability.VISION),
        ({"type": "file", "file": {"file_id": "f"}}, Ability.FILES),
        ({"type": "document_url", "document_url": "https://x/y.pdf"}, Ability.FILES),
        ({"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}}, Ability.AUDIO),
    ],
)
def test_what_content_parts_need(part: dict[str, Any], ability: Ability) -> None:
    assert inbound(messages=[{"role": "user", "content": [part]}]).facts.needs == {ability}


def test_the_word_image_url_in_a_text_needs_nothing() -> None:
    text = 'put "image_url" there'
    assert inbound(messages=[{"role": "user", "content": text}]).facts.needs == frozenset()
    assert inbound(messages=[{"role": "user", "content": [{"type": "text", "text": text}]}]).facts.needs == frozenset()


def test_base64_data_are_no_tokens() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    audio = {"type": "input_audio", "input_audio": {"data": "A" * 100_000, "format": "wav"}}
    facts = inbound(messages=[{"role": "user", "content": [image, audio, image]}]).facts
    assert facts.input_tokens < 200


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, False),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "low"}, True),
        ({"reasoning": {"effort": "high"}}, True),
        ({"reasoning": {"enabled": False, "effort": "high"}}, False),
        ({"reasoning": {"max_tokens": 100}}, True),
        ({"thinking": {"type": "enabled"}}, True),
        ({"thinking": {"type": "disabled"}}, False),
    ],
)
def test_whether_the_request_asks_for_thinking(fields: dict[str, Any], expected: bool) -> None:
    assert inbound(**fields).facts.thinking is expected


@pytest.mark.parametrize(
    ("choice", "mode"),
    [
        (None, "auto"),
        ("none", "none"),
        ("auto", "auto"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "f"}}, "named"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}, "required"),
    ],
)
def test_tool_choice(choice: Any, mode: str) -> None:
    assert inbound(tool_choice=choice).facts.tool_choice == mode


def test_the_ids_of_trailing_tool_results() -> None:
    messages = [
        {"role": "user", "content": "x"},
        {"role": "tool", "tool_call_id": "old", "content": "0"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "2"}]},
    ]
    facts = inbound(messages=messages).facts
    assert facts.after_tool_result
    assert facts.tool_call_ids == ("a", "b")


@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_that_is_none(value: int) -> None:
    assert inbound(max_tokens=value).facts.max_tokens is None
    assert sent(inbound(max_tokens=value), target())["max_tokens"] == value


# --- ours ----------------------------------------------------------------------------------------------------


def test_the_rest_of_the_chain_in_every_spelling() -> None:
    assert inbound().ours.fallback_models is None
    assert inbound(fallback_models=[]).ours.fallback_models == ()
    assert inbound(fallback_models=["b", "c"]).ours.fallback_models == (FallbackModel("b"), FallbackModel("c"))
    assert inbound(models=["gpt-5.4", "c"]).ours.fallback_models == (FallbackModel("c"),)
    assert inbound(models=["b", "c"]).ours.fallback_models == (FallbackModel("b"), FallbackModel("c"))
    rich = inbound(fallbacks=["b", {"model": "c", "temperature": 0, "top_p": None}]).ours.fallback_models
    assert rich == (FallbackModel("b"), FallbackModel("c", (("temperature", b"0"),), ("top_p",)))


def test_the_first_of_models_stands_in_for_a_missing_model() -> None:
    request = read_request(json.dumps({"messages": HELLO["messages"], "models": ["a", "b"]}).encode(), {})
    assert request.ours.model == "a"
    assert request.ours.fallback_models == (FallbackModel("b"),)
    assert sent(request, target("z")) == {"messages": HELLO["messages"], "model": "z"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"fallback_models": "a", "models": ["b"]}, "models"),
        ({"fallback_models": 5}, "fallback_models"),
        ({"fallback_models": [5]}, "fallback_models[0]"),
        ({"fallback_models": ["a", {"temperature": 1}]}, "fallback_models[1].model"),
        ({"fallback_models": [{"model": "a", "stream": True}]}, "fallback_models[0].stream"),
        ({"fallback_models": [{"model": "a", "messages": []}]}, "fallback_models[0].messages"),
        ({"fallback_models": ["a"] * 33}, "fallback_models"),
        ({"fallback_on": ["nonsense"]}, "fallback_on"),
        ({"fallback_on": ["invalid_request"]}, "fallback_on"),
        ({"fallback_on": 5}, "fallback_on"),
        ({"crossfade": []}, "crossfade"),
        ({"crossfade": {"tiemout": 1}}, "crossfade.tiemout"),
        ({"crossfade": {"timeout": "soon"}}, "crossfade.timeout"),
        ({"crossfade": {"timeout": 0}}, "crossfade.timeout"),
        ({"crossfade": {"timeout": True}}, "crossfade.timeout"),
        ({"crossfade": {"max_attempts": 0}}, "crossfade.max_attempts"),
        ({"crossfade": {"commit": "later"}}, "crossfade.commit"),
        ({"crossfade": {"recover": "maybe"}}, "crossfade.recover"),
        ({"crossfade": {"hold": ["tea"]}}, "crossfade.hold"),
        ({"crossfade": {"validate": {"max_chars": 1}}}, "crossfade.validate"),
        ({"crossfade": {"validate": {"finish": ["done"]}}}, "crossfade.validate"),
        ({"crossfade": {"repeatable": "no"}}, "crossfade.repeatable"),
        ({"crossfade": {"tags": "a"}}, "crossfade.tags"),
        ({"crossfade": {"tags": [""]}}, "crossfade.tags"),
        ({"crossfade": {"trace": 1}}, "crossfade.trace"),
    ],
)
def test_a_field_of_ours_that_cannot_be_used_is_named(fields: dict[str, Any], param: str) -> None:
    assert rejected(HELLO | fields).param == param


@pytest.mark.parametrize("wish", ["0s", 0, "p0", "p100", "soon", "-1s", [], {}])
def test_a_time_for_hedges_is_one(wish: Any) -> None:
    error = rejected(HELLO | {"crossfade": {"hedge_after": wish}})
    assert error.param == "crossfade.hedge_after"
    assert "write a duration above 0" in error.message


def test_all_options() -> None:
    options = inbound(
        crossfade={
            "timeout": "1m",
            "attempt_timeout": 2,
            "first_content_timeout": "500ms",
            "idle_timeout": "2.5s",
            "max_attempts": 3,
            "commit": {"chars": 20},
            "recover": "error",
            "hold": ["json"],
            "validate": {"min_chars": 2, "finish": ["stop"], "match": "a", "not_match": "b"},
            "repeatable": False,
            "tags": ["x", "y"],
            "trace": True,
            "session": "s1",
            "hedge_after": "p99.5",
        }
    ).ours.options
    assert options == Options(
        timeout=60.0,
        attempt_timeout=2.0,
        first_content_timeout=0.5,
        idle_timeout=2.5,
        max_attempts=3,
        commit=CommitPolicy("chars", 20.0),
        recover="error",
        hold=(False, True),
        validate=ValidationPolicy(min_chars=2, finish=("stop",), match="a", not_match="b"),
        repeatable=False,
        tags=("x", "y"),
        trace=True,
        session="s1",
        hedge_after=HedgePolicy(percentile=0.995),
    )


def test_an_option_that_is_null_was_not_said() -> None:
    assert inbound(crossfade=dict.fromkeys(msgspec.structs.asdict(Options()))).ours.options == Options()


def test_headers_say_the_same_and_the_body_wins() -> None:
    headers = {
        "x-crossfade-route": "chat",
        "x-crossfade-fallback-models": "a, b",
        "x-crossfade-fallback-on": "timeout,-rate_limit",
        "x-crossfade-timeout": "5s",
        "x-crossfade-tags": "x, y",
    }
    ours = inbound(headers).ours
    assert ours.route == "chat"
    assert ours.fallback_models == (FallbackModel("a"), FallbackModel("b"))
    assert ours.fallback_on == ("timeout", "-rate_limit")
    assert ours.options == Options(timeout=5.0, tags=("x", "y"))
    body = inbound(headers, fallback_models=[], fallback_on=["soft"], crossfade={"timeout": 1, "tags": []}).ours
    assert (body.fallback_models, body.fallback_on) == ((), ("soft",))
    assert body.options == Options(timeout=1.0, tags=())
    assert rejected(HELLO, {"x-crossfade-timeout": "soon"}).param == "x-crossfade-timeout"
    assert rejected(HELLO, {"x-crossfade-fallback-on": "nonsense"}).param == "x-crossfade-fallback-on"


def test_a_route_header_stands_in_for_a_missing_model() -> None:
    request = read_request(json.dumps({"messages": HELLO["messages"]}).encode(), {"x-crossfade-route": "chat"})
    assert request.ours.model == ""
    assert sent(request, target("z")) == {"messages": HELLO["messages"], "model": "z"}


@pytest.mark.parametrize(
    "field", ["stop", "tool_choice", "reasoning_effort", "thinking", "crossfade", "fallback_models"]
)
@pytest.mark.parametrize("number", ["1e400", "9" * 5000])
def test_a_number_that_nothing_can_hold_is_refused_with_its_field(field: str, number: str) -> None:
    body = f'{{"model":"m","messages":[{{"role":"user","content":"x"}}],"{field}":{number}}}'.encode()
    with pytest.raises(InvalidRequest) as refused:
        read_request(body, {})
    assert refused.value.param == field
