"""Names and schemas as Cohere takes them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.wire.cohere_tools import MOST_DEPTH, held_schema, own_names, plain_names

NAMES = st.frozensets(st.text("ab_-.9é", min_size=1, max_size=4), max_size=6)


@given(NAMES)
def test_every_name_becomes_another_one_that_is_taken_and_is_found_again(names: frozenset[str]) -> None:
    plain = plain_names(names)
    assert plain.keys() == names and len({*plain.values()}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII) for name in plain.values())
    assert {own_names(names).get(name, name) for name in plain.values()} == names


def test_good_names_stay_whatever_others_become() -> None:
    names = plain_names({"a-b", "a_b", "a.b", "9"})
    assert names["a_b"] == "a_b" and names["9"] == "_9"
    assert names["a-b"].startswith("a_b_") and names["a.b"].startswith("a_b_")
    assert own_names({"fine"}) == {}


def of(**members: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], **members}


@pytest.mark.parametrize(
    "schema",
    [
        of(),
        of(additionalProperties=False),
        of(properties={"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "not": {"type": "integer"}}),
        of(properties={"a": {"type": "array", "items": of()}, "b": {"$ref": "#/$defs/B"}}, **{"$defs": {"B": of()}}),
        of(properties={"a": {"type": "string", "format": "date", "pattern": "[A-Z]{3}"}}),
        of(properties={"a": {"type": "string", "enum": ["x"], "const": "x"}}),
    ],
)
def test_what_a_model_can_be_held_to_stays(schema: dict[str, Any]) -> None:
    assert held_schema(schema) == schema


@pytest.mark.parametrize(
    "member",
    [
        {"type": "integer", "minimum": 1, "maximum": 2}, {"type": "string", "minLength": 1, "maxLength": 2},
        {"type": "array", "minItems": 1, "uniqueItems": True}, {"type": "string", "format": "email"},
        {"type": "string", "pattern": "^a$"}, {"type": "string", "pattern": "(?!b)"},
    ],
)  # fmt: skip
def test_bounds_are_left_out(member: dict[str, Any]) -> None:
    expected = of(properties={"a": {"type": member["type"]}})
    assert held_schema(of(properties={"a": member})) == expected


def nested(levels: int) -> dict[str, Any]:
    schema = of()
    for _ in range(levels):
        schema = of(properties={"a": schema})
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        None, True, {"type": "array"}, {"properties": {}}, of(required=[]), of(oneOf=[]), of(**{"not": {}}),
        of(properties={"a": {"enum": ["x"]}}), of(properties={"a": True}), of(properties={"a": {"type": "object"}}),
        of(properties={"a": {"anyOf": [{"type": "object"}]}}), of(additionalProperties={"allOf": []}),
        of(**{"$defs": {"B": {"type": "object"}}}), nested(MOST_DEPTH + 1),
    ],
)  # fmt: skip
def test_what_no_model_can_be_held_to_is_none(schema: Any) -> None:
    assert held_schema(schema) is None


def test_depth_alone_is_no_reason() -> None:
    assert held_schema(nested(MOST_DEPTH - 1)) == nested(MOST_DEPTH - 1)
