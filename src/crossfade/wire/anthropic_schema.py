"""JSON Schemas as Anthropic's grammars take them: closed objects, no bounds, no recursion, limited choice.

OpenAI takes schemas that Anthropic answers with a 400. What can be said otherwise is (a bound becomes words of the
description); for the rest the answer is None and the caller of this file asks in words instead. A closed schema only
ever narrows: what fits it fits the original, bounds apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

_KEPT: Final = frozenset(
    [
        "type",
        "description",
        "title",
        "enum",
        "const",
        "$ref",
        "$schema",
        "$id",
        "anyOf",
        "allOf",
        "properties",
        "required",
        "items",
        "default",
        "format",
    ]
)
_DEFINITIONS = ("$defs", "definitions")
_INEXPRESSIBLE: Final = frozenset(
    [
        "not",
        "if",
        "then",
        "else",
        "prefixItems",
        "patternProperties",
        "dependentSchemas",
        "dependentRequired",
        "contains",
        "propertyNames",
        "unevaluatedProperties",
        "unevaluatedItems",
        "additionalItems",
        "$dynamicRef",
        "$recursiveRef",
    ]
)
_FORMATS: Final = frozenset(
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"]
)

MAX_STRICT_TOOLS: Final = 20
MAX_OPTIONAL: Final = 24
MAX_UNIONS: Final = 16
"""Limits of the API over all strict schemas of a request together."""


class _Inexpressible(Exception):
    """Something in the schema has no counterpart."""


def closed_schema(schema: Any) -> dict[str, Any] | None:
    """The schema with every object closed and every bound in words; None where it cannot be said."""
    if not isinstance(schema, dict) or _is_recursive(schema):
        return None
    try:
        return _closed(schema)
    except (_Inexpressible, RecursionError):
        return None


def fits_limits(schemas: Iterable[dict[str, Any]]) -> bool:
    """Whether closed schemas may go together into one request."""
    optional = unions = 0
    for schema in schemas:
        for node in _nodes(schema):
            if isinstance(properties := node.get("properties"), dict):
                optional += len(properties.keys() - set(node.get("required") or ()))
            unions += isinstance(node.get("type"), list) or "anyOf" in node
    return optional <= MAX_OPTIONAL and unions <= MAX_UNIONS


def _closed(node: Any) -> dict[str, Any]:
    if not isinstance(node, dict) or not _INEXPRESSIBLE.isdisjoint(node):
        raise _Inexpressible
    closed: dict[str, Any] = {}
    words: list[str] = []
    for key, value in node.items():
        if key in ("anyOf", "allOf", "oneOf"):
            closed["anyOf" if key == "oneOf" else key] = [_closed(item) for item in _list(value)]
        elif key == "properties" or key in _DEFINITIONS:
            closed[key] = {name: _closed(item) for name, item in _dict(value).items()}
        elif key == "items":
            closed[key] = _closed(value)
        elif key == "additionalProperties":
            continue  # written below
        elif (key in _KEPT and (key != "format" or value in _FORMATS)) or (key == "minItems" and value in (0, 1)):
            closed[key] = value
        else:
            words.append(f"{key}: {value}")
    if words:
        said = f"({', '.join(words)})"
        closed["description"] = f"{closed['description']} {said}" if closed.get("description") else said
    _add_type(closed)
    if closed.get("type") == "object" or "properties" in closed:
        _close_object(node, closed)
    return closed


def _add_type(closed: dict[str, Any]) -> None:
    """A value of any type has no grammar; a choice of strings says its type by itself."""
    if not closed.keys().isdisjoint(("type", "$ref", "anyOf", "allOf")):
        return
    values = closed.get("enum") or ([closed["const"]] if "const" in closed else [])
    if "properties" in closed:
        closed["type"] = "object"
    elif values and all(isinstance(value, str) for value in values):
        closed["type"] = "string"
    else:
        raise _Inexpressible


def _close_object(node: dict[str, Any], closed: dict[str, Any]) -> None:
    if not closed.get("properties") and node.get("additionalProperties", True) is not False:
        raise _Inexpressible  # a free map: closed, it could only be empty
    closed["additionalProperties"] = False


def _is_recursive(schema: dict[str, Any]) -> bool:
    """Whether a definition comes back to itself, or a reference leads anywhere but to a definition."""
    uses = {
        f"#/{place}/{name}": set(_references(item))
        for place in _DEFINITIONS
        if isinstance(schema.get(place), dict)
        for name, item in schema[place].items()
    }
    if not uses.keys() >= set(_references(schema)):
        return True
    done: set[str] = set()
    while ready := {name for name in uses.keys() - done if uses[name] <= done}:
        done |= ready
    return len(done) < len(uses)


def _references(node: Any) -> Iterable[str]:
    return (item["$ref"] for item in _nodes(node) if isinstance(item.get("$ref"), str))


def _nodes(node: Any) -> Iterable[dict[str, Any]]:
    """Every object inside, without recursion: schemas come from outside and may be deep."""
    waiting = [node]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _Inexpressible
    return value


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Inexpressible
    return value
