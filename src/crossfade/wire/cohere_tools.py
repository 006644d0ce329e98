"""What Cohere takes of tools' names and of JSON Schemas, and how those of others are brought into it.

A name is of letters, digits and `_`, and does not begin with a digit; others are changed on the way, and back in
answers. A schema that a model is held to has to be of an object, with a member required in each object, a type for each
property, and nothing of what Cohere's page on structured outputs lists as unsupported. Bounds are left out: whether an
answer keeps to them is looked at anyway.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from hashlib import blake2b
from typing import Any, Final

MOST_DEPTH: Final = 64
"""Levels of a schema below which it is not looked at, nor used."""

_OTHER: Final = re.compile(r"[^A-Za-z0-9_]", re.ASCII)
_BOUNDS: Final = frozenset(
    "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minItems maxItems minLength maxLength uniqueItems"
    " minProperties maxProperties".split()
)
_UNSAID: Final = frozenset(
    "allOf oneOf not if then else patternProperties propertyNames prefixItems contains dependentSchemas"
    " dependentRequired unevaluatedProperties unevaluatedItems $dynamicRef".split()
)
_FORMATS: Final = frozenset({"date-time", "uuid", "date", "time"})
_ANCHORS: Final = re.compile(r"\^|\$|\(\?[=!]")
_TYPED: Final = frozenset({"type", "anyOf", "$ref"})
_MAPS: Final = ("properties", "$defs", "definitions")


def plain_name(name: str) -> str:
    """The name in the signs that are taken."""
    plain = _OTHER.sub("_", name)
    return f"_{plain}" if plain[:1].isdigit() else plain


def plain_names(names: Collection[str]) -> dict[str, str]:
    """The plain names of a request's tools, by their own. Each is another one, and the same for the same tools."""
    taken = {name for name in names if plain_name(name) == name}
    found: dict[str, str] = {}
    for name in sorted(names):
        plain = plain_name(name)
        if plain != name and plain in taken:
            plain = f"{plain}_{blake2b(name.encode('utf-8', 'replace'), digest_size=4).hexdigest()}"
        taken.add(plain)
        found[name] = plain
    return found


def own_names(names: Collection[str]) -> dict[str, str]:
    """The reverse of `plain_names`, of the names that were changed."""
    return {plain: name for name, plain in plain_names(names).items() if plain != name}


class _Unsaid(Exception):
    """A schema that Cohere has no words for."""


def held_schema(schema: Any) -> dict[str, Any] | None:
    """The schema as a model can be held to it, without bounds; None where that is another one, or none at all."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return None
    try:
        held = _held(schema, 0)
    except _Unsaid:
        return None
    return held if isinstance(held, dict) else None


def _held(schema: Any, depth: int) -> Any:
    if not isinstance(schema, dict):
        return schema  # `additionalProperties: false`
    if depth > MOST_DEPTH or not _UNSAID.isdisjoint(schema):
        raise _Unsaid
    if schema.get("type") == "object" and not schema.get("required"):
        raise _Unsaid
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _BOUNDS or (key == "format" and value not in _FORMATS):
            continue
        if key == "pattern" and _ANCHORS.search(str(value)):
            continue
        if key in _MAPS and isinstance(value, dict):
            value = {name: _member(inner, depth + 1) for name, inner in value.items()}
        elif key in ("items", "additionalProperties"):
            value = _held(value, depth + 1)
        elif key == "anyOf" and isinstance(value, list):
            value = [_held(inner, depth + 1) for inner in value]
        found[key] = value
    return found


def _member(schema: Any, depth: int) -> Any:
    if not isinstance(schema, dict) or _TYPED.isdisjoint(schema):
        raise _Unsaid
    return _held(schema, depth)
