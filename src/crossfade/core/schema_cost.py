"""How long a check against a JSON schema may take, seen before it is made: nobody can stop it once it runs.

A schema of a caller and an answer that it can have written are both in the caller's hand, and a thousand alternatives
for each of a hundred thousand items keep every other request waiting for minutes. Pure; only an estimate, on the safe
side. Knows the words of JSON Schema and nothing of the library that checks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from crossfade.core.patterns import work_of

MAX_STEPS: Final = 4_000_000
"""Steps of some 20 ns that one check may take."""
MAX_PATTERNS: Final = 20_000.0
"""What the patterns of one schema may come to, as `work_of` counts them; compiling them takes time too."""

_COMPARED: Final = 12  # steps to compare with a value that is not looked up
_LOOKED_UP: Final = ({str}, {int})
_DIVIDED: Final = 40
_UNIQUE: Final = 100
_MATCHED: Final = 5
_CHARS_A_STEP: Final = 4  # a matcher's step is so much shorter than ours

_HERE_LISTS: Final = ("allOf", "anyOf", "oneOf")
_HERE_ONES: Final = ("not", "if", "then", "else", "propertyNames")
_HERE_MAPS: Final = ("dependentSchemas", "dependencies")
_BELOW_ONES: Final = (
    "additionalProperties",
    "additionalItems",
    "contains",
    "unevaluatedProperties",
    "unevaluatedItems",
)


class SchemaCost(msgspec.Struct, frozen=True):
    """`width`: steps for each value of an answer; `patterns`: the work of all patterns for each of its characters."""

    width: int
    patterns: float

    def is_bearable(self, text: str) -> bool:
        """Whether a check of `text` (JSON) surely takes no longer than MAX_STEPS."""
        left = MAX_STEPS - len(text) * self.patterns / _CHARS_A_STEP
        if (len(text) // 2 + 1) * self.width <= left:
            return True  # no text has more values than that
        values = 1 + text.count(",") + text.count("[") + text.count("{")
        return values * self.width <= left


def cost_of(root: Any) -> SchemaCost:
    """What `root`, a schema as decoded JSON, asks for. Each `$ref` must be a pointer into it (else ValueError)."""
    walk = _Walk(root)
    return SchemaCost(max(walk.of(root)), walk.patterns)


class _Walk:
    """Adds up, for each part of a schema, the steps at one place of an answer and the most at any place below it.

    What refers back to itself is counted once: validators remember that they have been there.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        self._known: dict[int, tuple[int, int]] = {}
        self.patterns = 0.0

    def of(self, node: Any) -> tuple[int, int]:
        if not isinstance(node, dict):
            return 1, 0
        found = self._known.get(id(node))
        if found is None:
            self._known[id(node)] = 0, 0
            found = self._known[id(node)] = self._count(node)
        return found

    def _count(self, node: dict[str, Any]) -> tuple[int, int]:
        here, below = _own(node), 0
        for part in self._parts_here(node):
            part_here, part_below = self.of(part)
            here += part_here
            below += part_below
        for name in ("properties", "prefixItems", "items"):
            below += max(map(self._deepest, _values(node.get(name), is_one=name == "items")), default=0)
        for part in (*(node[name] for name in _BELOW_ONES if name in node), *_values(node.get("patternProperties"))):
            below += self._deepest(part)
        for pattern in (node.get("pattern"), *_keys(node.get("patternProperties"))):
            if isinstance(pattern, str):
                self.patterns += work_of(pattern)
                below += _MATCHED
        if node.get("uniqueItems") is True:
            below += _UNIQUE
        if "unevaluatedProperties" in node or "unevaluatedItems" in node:
            below += here  # what is left over is found by asking all parts for each value
        return here, below

    def _deepest(self, node: Any) -> int:
        return max(self.of(node))

    def _parts_here(self, node: dict[str, Any]) -> Iterable[Any]:
        for name in _HERE_LISTS:
            if isinstance(parts := node.get(name), list):
                yield from parts
        for name in _HERE_ONES:
            if name in node:
                yield node[name]
        for name in _HERE_MAPS:
            yield from _values(node.get(name))
        if isinstance(reference := node.get("$ref"), str):
            yield resolved(self._root, reference)


def _own(node: dict[str, Any]) -> int:
    steps = 1 + len(node)
    for name in ("properties", "required"):
        if isinstance(several := node.get(name), dict | list):
            steps += len(several)
    if "const" in node:
        steps += _COMPARED + _size(node["const"])
    if isinstance(values := node.get("enum"), list) and {type(value) for value in values} not in _LOOKED_UP:
        steps += sum(_COMPARED + _size(value) for value in values)
    if "multipleOf" in node:
        steps += _DIVIDED
    return steps


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_size, value.values()))
    return 1 + sum(map(_size, value)) if isinstance(value, list) else 1


def _values(given: Any, *, is_one: bool = False) -> Iterable[Any]:
    """The parts under a word: of a list, of a mapping, or (`is_one`) the mapping as the only one."""
    if isinstance(given, dict):
        return (given,) if is_one else given.values()
    return given if isinstance(given, list) else ()


def _keys(given: Any) -> Iterable[str]:
    return given if isinstance(given, dict) else ()


def resolved(root: Any, reference: str) -> Any:
    """The part of `root` that a `$ref` points to. Raises ValueError for one that is no pointer into the document."""
    if reference != "#" and not reference.startswith("#/"):
        raise ValueError("a reference that is no pointer into the document")
    node = root
    for part in reference.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        node = node[int(name)] if isinstance(node, list) else node.get(name) if isinstance(node, dict) else None
    return node
