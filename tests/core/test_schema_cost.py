from __future__ import annotations

import json
from typing import Any

import pytest

from crossfade.core.exchange import OutputFormat
from crossfade.core.failure import FailureReason
from crossfade.core.schema_cost import MAX_STEPS, cost_of
from crossfade.core.validation import check_format


def objected(schema: Any, value: Any) -> bool:
    text = value if isinstance(value, str) else json.dumps(value)
    output = OutputFormat(kind="json_schema", strict=True, schema=json.dumps(schema).encode())
    failure = check_format(text, output)
    assert failure is None or failure.reason is FailureReason.INVALID_JSON
    return failure is not None


BAD = ["not an integer"]
"""What none of the schemas below allows, as the first of many items."""


@pytest.mark.parametrize(
    "of_item",
    [
        {"allOf": [{"type": "integer"}] * 5000},
        {"type": "integer", "not": {"enum": [{"v": number} for number in range(5000)]}},
        {"type": "integer", "not": {"anyOf": [{"const": [number]} for number in range(2000)]}},
        {"$ref": "#/$defs/d0"},
    ],
    ids=["alternatives", "enum of objects", "constants", "references"],
)
def test_a_check_that_would_take_minutes_is_not_made(of_item: Any) -> None:
    doubled: dict[str, Any] = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(11)}
    schema = {"type": "array", "items": of_item, "$defs": {**doubled, "d11": {"type": "integer"}}}
    assert objected(schema, BAD), "a small answer is checked"
    assert not objected(schema, BAD + [1] * 100_000), "a large one must only be JSON"


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "[ab]*a[ab]{900}c"},
        {"items": {"allOf": [{"pattern": f"[a-z]{{50}}{number}"} for number in range(100)]}},
    ],
)
def test_patterns_are_not_matched_with_long_texts(schema: Any) -> None:
    assert not cost_of(schema).is_bearable(json.dumps("ab" * 100_000))
    assert cost_of(schema).is_bearable(json.dumps("ab" * 1000))


def test_patterns_that_take_long_to_compile_are_not_compiled() -> None:
    schema = {"type": "integer", "allOf": [{"pattern": f"[a-z]{{900}}{number}"} for number in range(100)]}
    assert not objected(schema, '"x"')


def test_recursion_that_branches_at_one_place_ends() -> None:
    again = {"$ref": "#/$defs/e"}
    branches = [{"properties": {"a": again}}, {"patternProperties": {"^a": again}}, {"additionalProperties": again}]
    schema = {"$defs": {"e": {"type": "object", "allOf": branches}}, "$ref": "#/$defs/e"}
    value: Any = {}
    for _ in range(300):
        value = {"a": value}
    assert not objected(schema, value)
    assert objected(schema, {"a": {"a": 1}})


def test_usual_schemas_and_answers_stay_checked() -> None:
    properties = {f"field_{n}": {"type": "string", "enum": ["one", "two", "three"]} for n in range(40)}
    row = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    schema = {"type": "object", "properties": {"rows": {"type": "array", "items": row}}}
    good = dict.fromkeys(properties, "two")
    rows = [good] * 500
    assert not objected(schema, {"rows": rows})
    assert objected(schema, {"rows": [*rows, {**good, "field_7": "four"}]})


def test_parts_at_different_places_are_not_added_up() -> None:
    wide = {"type": "object", "properties": {f"p{n}": {"type": "object", "properties": {"x": {}}} for n in range(100)}}
    assert cost_of(wide).width < 250
    assert cost_of({"items": {"allOf": [wide] * 10}}).width > 1000
    assert cost_of(True).width == 1


def test_an_answer_of_many_values_is_not_even_read() -> None:
    assert not cost_of({"type": "array"}).is_bearable("[" + "[]," * (MAX_STEPS // 2) + "[]]")


def test_half_a_surrogate_pair_is_looked_at_closely_in_short_texts_only() -> None:
    short = '["\\ud800"]'
    assert not objected({}, short)
    assert objected({}, '["\\ud800"' + ",[]" * 400_000 + "]")
