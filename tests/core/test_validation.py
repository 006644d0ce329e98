from __future__ import annotations

import json
import math
from typing import Any

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.exchange import Choice, Completion, Finish, OutputFormat, RequestFacts, ToolCall
from crossfade.core.failure import DISPOSITIONS, Failure, FailureReason
from crossfade.core.policy import ValidationPolicy
from crossfade.core.validation import (
    MAX_SCHEMA,
    Validators,
    _compiled,
    _large,
    _small,
    check_completion,
    check_format,
    check_text_json,
    check_tool_call,
)

R = FailureReason
JSON_OBJECT = OutputFormat(kind="json_object")
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}
DEEP = "[" * 100_000 + "]" * 100_000


def schema(value: Any, strict: bool = True) -> OutputFormat:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return OutputFormat(kind="json_schema", schema=text, strict=strict)


def answer(text: str = "", finish: Finish | None = Finish.STOP, **fields: Any) -> Completion:
    return Completion(choices=[Choice(text=text, finish=finish, **fields)])


def calling(*calls: tuple[str, str], finish: Finish = Finish.TOOL_CALLS, text: str = "") -> Completion:
    return answer(text, finish, tool_calls=tuple(ToolCall(f"call_{n}", *call) for n, call in enumerate(calls)))


def reason(
    completion: Completion,
    facts: RequestFacts = RequestFacts(),  # noqa: B008 - frozen
    validators: Validators | None = None,
    listed: frozenset[FailureReason] | None = None,
) -> FailureReason | None:
    failure = check_completion(completion, facts, validators, listed)
    return None if failure is None else failure.reason


def validators(**options: Any) -> Validators:
    policy = ValidationPolicy(**options)
    patterns = {name: re2.compile(options[name]) for name in ("match", "not_match") if name in options}
    return Validators(policy, **patterns)


# --- empty ---------------------------------------------------------------------------------------------------


def test_a_plain_answer_passes() -> None:
    assert check_completion(answer("Hello."), RequestFacts()) is None


def test_no_choices_is_malformed() -> None:
    failure = check_completion(Completion(), RequestFacts(n=3))
    assert failure is not None
    assert failure.reason is R.MALFORMED_OUTPUT
    assert failure.origin is DISPOSITIONS[R.MALFORMED_OUTPUT].origin


@pytest.mark.parametrize("text", ["", " ", "\n\n \t"])
@pytest.mark.parametrize("finish", [Finish.STOP, Finish.TOOL_CALLS, None])
def test_nothing_to_use_is_empty_whatever_was_said_of_the_end(text: str, finish: Finish | None) -> None:
    assert reason(answer(text, finish)) is R.EMPTY_OUTPUT


def test_reasoning_without_an_answer_is_empty() -> None:
    failure = check_completion(answer("", reasoning="Let me think."), RequestFacts())
    assert failure is not None
    assert failure.reason is R.EMPTY_OUTPUT
    assert failure.detail == "no content but reasoning, finish reason 'stop'", "and nothing of the reasoning itself"


EXCUSES = [
    RequestFacts(after_tool_result=True),
    RequestFacts(has_stop=True),
    RequestFacts(tool_choice="none", tools=frozenset({"f"})),
]


@pytest.mark.parametrize("facts", EXCUSES)
def test_an_empty_natural_stop_may_be_right(facts: RequestFacts) -> None:
    assert reason(answer(""), facts) is None
    assert reason(answer("", None), facts) is R.EMPTY_OUTPUT, "no finish reason is no natural stop"
    assert reason(answer("", Finish.TOOL_CALLS), facts) is R.EMPTY_OUTPUT


@pytest.mark.parametrize("fields", [{"stopped_by_sequence": True}, {"has_other_content": True}])
def test_a_stop_sequence_or_other_content_makes_an_empty_text_right(fields: dict[str, Any]) -> None:
    assert reason(answer("", **fields)) is None


def test_json_is_not_asked_of_other_content() -> None:
    assert reason(answer("", has_other_content=True), RequestFacts(output=JSON_OBJECT)) is None


def test_without_a_finish_reason_content_passes() -> None:
    assert reason(answer("Hello.", None)) is None
    tools = RequestFacts(tools=frozenset({"f"}))
    assert reason(answer("", None, tool_calls=(ToolCall("1", "f", "{}"),)), tools) is None


# --- what outranks what --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoilt",
    [
        {"text": ""},
        {"text": '{"name": "Jo'},
        {"tool_calls": (ToolCall("1", "f", '{"a": '),)},
        {"tool_calls": (ToolCall("1", "unknown", "{}"),)},
    ],
)
@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ({"finish": Finish.LENGTH}, R.TRUNCATED_OUTPUT),
        ({"finish": Finish.CONTENT_FILTER}, R.CONTENT_FILTER),
        ({"finish": Finish.STOP, "refusal": "I can't help with that."}, R.CONTENT_FILTER),
        ({"finish": Finish.LENGTH, "refusal": "I can't"}, R.CONTENT_FILTER),
    ],
)
def test_how_it_ended_outranks_what_that_did_to_the_content(
    spoilt: dict[str, Any], end: dict[str, Any], expected: FailureReason
) -> None:
    facts = RequestFacts(output=schema(PERSON), tools=frozenset({"f"}))
    assert reason(Completion(choices=[Choice(**spoilt, **end)]), facts) is expected


def test_a_finish_reason_that_its_reader_called_a_failure_is_that_failure() -> None:
    broken = Failure(reason=R.INVALID_TOOL_CALL, code="MALFORMED_FUNCTION_CALL")
    assert check_completion(answer("", Finish.LENGTH, failure=broken), RequestFacts()) is broken


def test_the_failure_that_the_route_falls_back_on_comes_before_one_that_it_does_not() -> None:
    cut = answer("Hello", Finish.LENGTH)
    picky = validators(min_chars=10)
    assert reason(cut, validators=picky) is R.REJECTED_OUTPUT
    assert reason(cut, validators=picky, listed=frozenset({R.TRUNCATED_OUTPUT})) is R.TRUNCATED_OUTPUT
    assert reason(cut, validators=picky, listed=frozenset({R.REJECTED_OUTPUT})) is R.REJECTED_OUTPUT
    assert reason(cut, validators=picky, listed=frozenset()) is R.REJECTED_OUTPUT
    assert reason(answer("Hello there, you."), validators=picky, listed=frozenset()) is None


# --- choices -------------------------------------------------------------------------------------------------


def test_each_choice_is_checked() -> None:
    good, cut, empty = Choice(text="a"), Choice(text="b", finish=Finish.LENGTH), Choice()
    assert reason(Completion(choices=[good, good]), RequestFacts(n=2)) is None
    assert reason(Completion(choices=[good, empty]), RequestFacts(n=2)) is R.EMPTY_OUTPUT
    assert reason(Completion(choices=[cut, empty]), listed=frozenset({R.EMPTY_OUTPUT})) is R.EMPTY_OUTPUT
    assert reason(Completion(choices=[cut, empty])) is R.TRUNCATED_OUTPUT


def test_fewer_choices_than_asked_for_are_no_failure() -> None:
    assert reason(answer("one"), RequestFacts(n=4)) is None


# --- JSON ----------------------------------------------------------------------------------------------------

JSON_TEXTS = ["{}", ' {"a": [1, 2.5e3, null, true]} \n', "[]", '"x"', "null", "0", "-1.5", "1e999", "9" * 5000]
NO_JSON = [
    "",
    " ",
    "{",
    '{"a": 1',
    '{"a": 1,}',
    "{'a': 1}",
    "{a: 1}",
    '```json\n{"a": 1}\n```',
    'Here it is: {"a": 1}',
    '{"a": 1} I hope this helps',
    "{}{}",
    "NaN",
    '{"a": NaN}',
    '{"a": -Infinity}',
    '"\t"',
    '{"a": 01}',
    "\ufeff{}",
    "True",
    DEEP,
    '{"a":' * 50_000 + "1" + "}" * 50_000,
    '{"a": "\\ud83d", "b": NaN}',
    '{"a": "\\ud83d"',
    "\ud800",
]


@pytest.mark.parametrize("text", JSON_TEXTS, ids=lambda text: text[:20])
def test_json_is_json(text: str) -> None:
    assert check_text_json(text)


@pytest.mark.parametrize("text", NO_JSON, ids=lambda text: ascii(text[:24]))
def test_what_is_no_json_is_not(text: str) -> None:
    assert not check_text_json(text)
    assert reason(answer(text or "x"), RequestFacts(output=JSON_OBJECT)) in (R.INVALID_JSON, R.EMPTY_OUTPUT)


@pytest.mark.parametrize(
    "text", ['{"a": "\\ud83d", "n": %s}' % ("9" * 5000), '{"a": "\\ud83d"}', '{"a": "\\uD83D"}', '{"a": "\ud83d"}']
)
def test_half_a_surrogate_pair_is_within_the_grammar(text: str) -> None:
    assert check_text_json(text)
    assert reason(answer(text), RequestFacts(output=JSON_OBJECT)) is None
    assert reason(answer(text), RequestFacts(output=schema({"type": "object"}))) is None


@settings(derandomize=True, deadline=None)
@given(st.text(alphabet=st.sampled_from(list('{}[]":,\\ud8 \n019.eE+-tfnrualsNI\u00e9')), max_size=12))
def test_it_agrees_with_the_standard_library(text: str) -> None:
    def refuse(_: str) -> None:
        raise ValueError

    try:
        json.loads(text, parse_constant=refuse)
        expected = True
    except ValueError:
        expected = False
    assert check_text_json(text) == expected


@settings(derandomize=True, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.data(),
)
def test_any_value_is_json_and_no_object_cut_short_is(value: Any, data: st.DataObject) -> None:
    text = json.dumps({"value": value})
    assert check_text_json(text)
    assert not check_text_json(text[: data.draw(st.integers(0, len(text) - 1))])


@pytest.mark.parametrize("text", ["[]", '"x"', "null", "1", ' [{"a": 1}]'])
def test_a_json_object_must_be_an_object(text: str) -> None:
    assert reason(answer(text), RequestFacts(output=JSON_OBJECT)) is R.INVALID_JSON
    assert reason(answer(text), RequestFacts(output=schema(PERSON, strict=False))) is None
    assert reason(answer('\n {"a": 1}'), RequestFacts(output=JSON_OBJECT)) is None


def test_json_is_not_asked_of_tool_calls() -> None:
    facts = RequestFacts(output=JSON_OBJECT, tools=frozenset({"f"}))
    assert reason(calling(("f", "{}"), text="Let me look."), facts) is None


@pytest.mark.parametrize("facts", EXCUSES)
def test_a_good_reason_to_be_empty_excuses_no_missing_json(facts: RequestFacts) -> None:
    asked = RequestFacts(
        after_tool_result=facts.after_tool_result,
        has_stop=facts.has_stop,
        tool_choice=facts.tool_choice,
        output=JSON_OBJECT,
    )
    assert reason(answer(""), asked) is R.INVALID_JSON


# --- schemas -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('{"name": "Jo", "age": 3}', True),
        ('{"name": "Jo", "age": 3.0}', True),
        ('{"name": "Jo", "age": 3.5}', False),
        ('{"name": "Jo", "age": "3"}', False),
        ('{"age": 3}', False),
        ('{"name": "Jo", "more": 1}', False),
        ("[]", False),
    ],
)
def test_a_strict_schema_is_checked_and_another_asks_for_json_only(text: str, fits: bool) -> None:
    assert (reason(answer(text), RequestFacts(output=schema(PERSON))) is None) == fits
    assert reason(answer(text), RequestFacts(output=schema(PERSON, strict=False))) is None
    assert reason(answer(text[:-1]), RequestFacts(output=schema(PERSON, strict=False))) is R.INVALID_JSON


def test_references_within_the_schema_are_followed() -> None:
    tree = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
                "required": ["children"],
            }
        },
    }
    assert check_format('{"children": [{"children": []}]}', schema(tree)) is None
    assert check_format('{"children": [{"children": [{}]}]}', schema(tree)) is not None
    assert check_format('{"a~/": [1]}', schema({"properties": {"a~/": {"items": {"$ref": "#"}}}, "type": "object"}))
    assert _compiled(b'{"$ref": "#/$defs/a~1b~0c", "$defs": {"a/b~c": {"type": "object"}}}') is not None


def doubling(name: str, reference: str, anchored: bool = False) -> dict[str, Any]:
    """A small schema with 2 ** 60 parts, were its references written out."""
    parts: dict[str, dict[str, Any]] = {
        f"{name}{n}": {"allOf": [{"$ref": f"{reference}{n + 1}"}] * 2} for n in range(60)
    }
    parts[f"{name}60"] = {"type": "string"}
    if anchored:
        parts = {key: {"$anchor": key, **part} for key, part in parts.items()}
    return {"$ref": f"{reference}0", "$defs": parts}


UNUSABLE: list[Any] = [
    {"$ref": "http://127.0.0.1:1/schema.json"},
    {"properties": {"a": {"$ref": "https://example.com/a#/b"}}, "type": "string"},
    {"$ref": "file:///etc/hostname"},
    {"$ref": "other.json", "type": "string"},
    {"$ref": "#/$defs/missing", "type": "string"},
    {"$ref": "#/$defs/list/7", "$defs": {"list": [True]}, "type": "string"},
    {"$ref": "#/$defs/list/x", "$defs": {"list": [True]}, "type": "string"},
    {"$schema": "http://example.com/own-dialect", "type": "string"},
    {"$defs": {"a": {"$id": "http://example.com/a", "type": "string"}}, "type": "string"},
    {"type": 5},
    {"type": "nonsense"},
    {"type": "string", "pattern": "("},
    {"type": "string", "pattern": "(?=a)a"},
    {"type": "string", "pattern": "((a{1000}){1000}){1000}"},
    b"no json",
    b"\xff\xfe",
    b"[1, 2]",
    b"7",
    b'{"not":' * 100_000 + b"{}" + b"}" * 100_000,
    {"type": "string", "description": "x" * MAX_SCHEMA},
    doubling("a", "#/$defs/a"),
    doubling("a~/", "#/$defs/a~0~1"),
    doubling("a", "#a", anchored=True),
    {"$ref": "#/$defs/a0", "$defs": {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(3000)}},
]


@pytest.mark.parametrize("unusable", UNUSABLE, ids=lambda value: str(value)[:50])
def test_a_schema_that_cannot_be_used_asks_for_json_and_no_more(unusable: Any) -> None:
    facts = RequestFacts(output=schema(unusable))
    for _ in range(2):
        assert check_completion(answer('{"a": 1}'), facts) is None
        assert reason(answer('{"a": 1'), facts) is R.INVALID_JSON


def test_schemas_that_go_in_circles_end() -> None:
    circles: list[Any] = [
        {"$ref": "#"},
        {"not": {"$ref": "#"}},
        {
            "$ref": "#/$defs/a",
            "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}},
        },
        {"allOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]},
    ]
    for circle in circles:
        check_completion(answer("[" * 60 + "]" * 60), RequestFacts(output=schema(circle)))


def test_a_pattern_that_backtracks_elsewhere_takes_no_time_here() -> None:
    asked = schema({"type": "string", "pattern": "^(a+)+$"})
    assert check_format(json.dumps("a" * 50_000 + "b"), asked) is not None
    assert check_format(json.dumps("a" * 50_000), asked) is None


def test_values_that_cannot_be_held_are_not_judged_by_the_schema() -> None:
    for text in ('{"name": 1e999}', '{"name": %s}' % ("9" * 5000), '{"name": "\\ud800"}'):
        assert check_format(text, schema(PERSON)) is None


def test_compiled_schemas_are_kept_and_bounded() -> None:
    before = _small.cache_info()
    for n in range(400):
        assert check_format("1", schema({"const": n})) is None or n != 1
    info = _small.cache_info()
    assert info.misses - before.misses >= 399
    assert info.currsize <= 256
    check_format("1", schema({"const": 399}))
    assert _small.cache_info().hits == info.hits + 1
    for n in range(40):
        check_format("1", schema({"const": n, "description": "x" * 20_000}))
    assert 0 < _large.cache_info().currsize <= 32
    assert _large.cache_info().misses >= 40


# --- tool calls ----------------------------------------------------------------------------------------------

OWN = RequestFacts(tools=frozenset({"f", "g"}))


@pytest.mark.parametrize("arguments", ["", "{}", "null", ' {"a": 1} ', '{"a": {"b": [1]}}'])
@pytest.mark.parametrize("finish", [Finish.TOOL_CALLS, Finish.STOP])
def test_a_sound_tool_call_passes_though_a_forced_one_ends_with_stop(arguments: str, finish: Finish) -> None:
    assert reason(calling(("f", "{}"), ("g", arguments), finish=finish), OWN) is None


@pytest.mark.parametrize(
    "arguments", ["{", '{"a": 1', "city=Paris", '{"a": NaN}', " ", "[]", '"{}"', "7", DEEP], ids=lambda text: text[:12]
)
def test_arguments_that_are_no_json_object_are_a_bad_call(arguments: str) -> None:
    assert reason(calling(("f", "{}"), ("g", arguments)), OWN) is R.INVALID_TOOL_CALL


def test_a_name_that_the_request_does_not_have_is_a_bad_call() -> None:
    failure = check_completion(calling(("delete_everything", "{}")), OWN)
    assert failure is not None
    assert failure.reason is R.INVALID_TOOL_CALL
    assert "delete" not in failure.detail, "what a model said is not repeated"


def test_a_call_where_the_request_has_no_tools_is_a_bad_call() -> None:
    assert reason(calling(("f", "{}"))) is R.INVALID_TOOL_CALL


def test_calls_of_other_kinds_of_tools_are_not_looked_into() -> None:
    facts = RequestFacts(tools=frozenset({"f"}), has_other_tools=True)
    assert check_tool_call(ToolCall("1", "shell", "ls -l"), facts) is None
    assert reason(calling(("shell", "ls -l"), ("f", "{}")), facts) is None
    assert reason(calling(("shell", "ls -l"), ("f", "{")), facts) is R.INVALID_TOOL_CALL


# --- a route's own checks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "good", "bad"),
    [
        ({"min_chars": 5}, "hello", "hell"),
        ({"match": "END$"}, "this is the END", "this is the EN"),
        ({"not_match": "(?i)as an ai"}, "Paris.", "Well, as an AI model"),
        ({"min_chars": 3, "match": "^a", "not_match": "b"}, "aaa", "aab"),
    ],
)
def test_the_text_is_what_the_route_wants(options: dict[str, Any], good: str, bad: str) -> None:
    checks = validators(**options)
    assert reason(answer(good), validators=checks) is None
    assert reason(answer(bad), validators=checks) is R.REJECTED_OUTPUT
    failure = check_completion(answer(bad), RequestFacts(), checks)
    assert failure is not None
    assert bad not in failure.detail


@pytest.mark.parametrize(
    ("finish", "passes"),
    [(Finish.STOP, True), (None, True), (Finish.LENGTH, False), (Finish.CONTENT_FILTER, False)],
)
def test_good_finish_reasons(finish: Finish | None, passes: bool) -> None:
    found = reason(answer("Hello.", finish), validators=validators(finish=("stop", "tool_calls")))
    assert found is (None if passes else R.REJECTED_OUTPUT)


def test_a_tool_call_that_ends_with_stop_has_a_good_finish_where_tool_calls_have() -> None:
    forced = calling(("f", "{}"), finish=Finish.STOP)
    assert reason(forced, OWN, validators(finish=("tool_calls",))) is None
    assert reason(answer("Hello."), OWN, validators(finish=("tool_calls",))) is R.REJECTED_OUTPUT
    cut = calling(("f", '{"a": '), finish=Finish.LENGTH)
    assert reason(cut, OWN, validators(finish=("tool_calls",))) is R.REJECTED_OUTPUT


def test_tool_calls_need_no_text() -> None:
    checks = validators(min_chars=100, match="x")
    assert reason(calling(("f", "{}")), OWN, checks) is None
    assert reason(calling(("f", "{}"), text="bad words"), OWN, validators(not_match="bad")) is R.REJECTED_OUTPUT


def test_a_refusal_is_left_to_content_filter_by_the_checks_of_text() -> None:
    refused = answer("", refusal="I can't help with that.")
    assert reason(refused, validators=validators(min_chars=100, match="x")) is R.CONTENT_FILTER


def test_the_request_s_own_checks_come_first() -> None:
    facts = RequestFacts(output=JSON_OBJECT)
    assert reason(answer("no"), facts, validators(min_chars=100)) is R.INVALID_JSON
    assert reason(answer("{}"), facts, validators(min_chars=100)) is R.REJECTED_OUTPUT
    assert reason(answer(""), validators=validators(min_chars=1)) is R.EMPTY_OUTPUT


def test_no_options_object_to_nothing() -> None:
    assert Validators(ValidationPolicy()).objection(Choice()) is None


def test_an_expression_without_its_pattern_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="compiled pattern"):
        Validators(ValidationPolicy(match="x"))
    with pytest.raises(ValueError, match="compiled pattern"):
        Validators(ValidationPolicy(), not_match=re2.compile("x"))


class Broken:
    def search(self, text: str, /) -> object | None:
        raise RuntimeError(f"cannot search {text}")


def test_a_check_that_breaks_is_our_fault_and_says_nothing_of_the_answer() -> None:
    checks = Validators(ValidationPolicy(match="x"), match=Broken())
    failure = check_completion(answer("a secret"), RequestFacts(), checks)
    assert failure is not None
    assert failure.reason is R.INTERNAL_ERROR
    assert "secret" not in failure.detail


# --- anything ------------------------------------------------------------------------------------------------

texts = st.one_of(st.text(max_size=20), st.sampled_from([*JSON_TEXTS, *NO_JSON]))
choices = st.builds(
    Choice,
    text=texts,
    reasoning=st.sampled_from(["", "hm"]),
    refusal=st.sampled_from(["", "", "no"]),
    tool_calls=st.lists(st.builds(ToolCall, st.just("1"), st.sampled_from("fx"), texts), max_size=2).map(tuple),
    finish=st.sampled_from([None, *Finish]),
    stopped_by_sequence=st.booleans(),
    has_other_content=st.booleans(),
)
requests = st.builds(
    RequestFacts,
    tools=st.sampled_from([frozenset(), frozenset({"f"})]),
    has_other_tools=st.booleans(),
    tool_choice=st.sampled_from(["auto", "none", "required"]),
    output=st.sampled_from([None, JSON_OBJECT, schema(PERSON), schema({"type": math.pi})]),
    has_stop=st.booleans(),
    after_tool_result=st.booleans(),
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(choices, max_size=3), requests)
def test_whatever_comes_there_is_a_verdict_that_follows_the_rules(
    given_choices: list[Choice], facts: RequestFacts
) -> None:
    failure = check_completion(Completion(choices=given_choices), facts)
    assert failure is None or failure.reason is not R.INTERNAL_ERROR
    if failure is None:
        assert given_choices
        for choice in given_choices:
            assert choice.finish not in (Finish.LENGTH, Finish.CONTENT_FILTER)
            assert not choice.refusal
            has_json = bool(choice.text.strip()) and not choice.tool_calls and facts.output is not None
            assert not has_json or check_text_json(choice.text)
            assert facts.has_other_tools or all(call.name in facts.tools for call in choice.tool_calls)
