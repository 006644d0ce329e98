"""Reading plain values into the structs of `schema`, and describing those structs: JSON Schema, table of keys.

Decides how a shape is checked: unknown keys, wrong types, empty values, all of them noted and none raised.
A struct's field says by its type what it takes, by `Leaf` how a single value is read, by `Key` what it means.
Knows no setting by name.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec

from crossfade.config.lines import UNSET, FromEnvironment, typed
from crossfade.config.problems import Path, Problems, did_you_mean


class Leaf(msgspec.Struct, frozen=True, eq=False):
    """How one value is read. `parse` raises ValueError with a sentence for people; `schema` is its JSON Schema.
    `blank` stands for an item that was wrong, where positions in the list count."""

    parse: Callable[[object], Any]
    schema: Mapping[str, Any]
    blank: Any = None


class Key(msgspec.Struct, frozen=True):
    """What the docs say of a key: its default in words ("" for none) and its meaning."""

    default: str
    meaning: str


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping of the file. Every key has a default here, so that one mistake does not hide the others."""

    planned: ClassVar[Mapping[str, str]] = {}
    """Keys of later versions and what they are: refused as such, not as unknown."""
    shorthand: ClassVar[str | None] = None
    """The key that a plain text in place of the mapping stands for."""


B = TypeVar("B", bound=Block)
_BAD = object()


def read_block(shape: type[B], value: object, path: Path, problems: Problems) -> B:
    """The struct for `value`. What is wrong is noted, and has its default."""
    if shape.shorthand is not None and isinstance(value, str):
        value = {shape.shorthand: value}
    if value is None or value is UNSET:
        return shape()
    if not isinstance(value, dict):
        problems.add(path, f"is {_kind(value)}; it takes keys: {', '.join(_fields(shape))}")
        return shape()
    taken: dict[str, Any] = {}
    for name, inner in value.items():
        place = (*path, name)
        if name in shape.planned:
            problems.add(place, f"{shape.planned[name]} not supported yet; remove {name!r}")
        elif name not in _fields(shape):
            known = _fields(shape)
            near = did_you_mean(name, known) or f"; known are {', '.join(known)}"
            problems.add(place, f"unknown key {name!r}{near}")
        elif (found := _read(_fields(shape)[name].type, inner, place, problems)) is not _BAD:
            taken[name] = found
    return shape(**taken)


def _read(form: _Form, value: object, path: Path, problems: Problems) -> Any:
    if value is UNSET:
        return _BAD
    if isinstance(form, _BlockForm):
        return read_block(form.shape, value, path, problems)
    if value is None:
        problems.add(path, "has no value; give one, or remove the line")
        return _BAD
    if isinstance(form, Leaf):
        return _read_leaf(form, value, path, problems)
    if isinstance(form, _MapForm):
        if not isinstance(value, dict):
            problems.add(path, f"is {_kind(value)}; it takes names, each with its settings")
            return _BAD
        read = {name: _read(form.item, inner, (*path, name), problems) for name, inner in value.items()}
        return {name: inner for name, inner in read.items() if inner is not _BAD}
    if not isinstance(value, list):
        # Without the value: it may be a key, written where a list of references belongs.
        problems.add(path, f"is {_kind(value)}; it takes a list, in [ ] or as lines that begin with '- '")
        return _BAD
    items = [_read(form.item, inner, (*path, i), problems) for i, inner in enumerate(value)]
    blank = form.item.blank if isinstance(form.item, Leaf) else None
    return tuple(blank if item is _BAD else item for item in items if item is not _BAD or blank is not None)


def _read_leaf(leaf: Leaf, value: object, path: Path, problems: Problems) -> Any:
    try:
        return leaf.parse(value)
    except ValueError as error:
        if isinstance(value, FromEnvironment) and not isinstance(again := typed(value), str):
            return _read_leaf(leaf, again, path, problems)  # quotes around a reference say nothing of its type
        problems.add(path, str(error))
        return _BAD


def _kind(value: object) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return "text"
    if value is None:
        return "empty"
    return str(value).lower() if isinstance(value, bool) else f"the number {value}"


# --- what a field's annotation says ---------------------------------------------------------------------------


class _BlockForm(msgspec.Struct, frozen=True):
    shape: type[Block]


class _ListForm(msgspec.Struct, frozen=True):
    item: Any


class _MapForm(msgspec.Struct, frozen=True):
    item: Any


_Form = Leaf | _BlockForm | _ListForm | _MapForm


class _Field(msgspec.Struct, frozen=True):
    type: _Form
    key: Key


@functools.cache
def _fields(shape: type[Block]) -> dict[str, _Field]:
    hints = typing.get_type_hints(shape, include_extras=True)
    return {name: _Field(_form(hints[name]), _key(hints[name], name)) for name in shape.__struct_fields__}


def _key(hint: Any, name: str) -> Key:
    for extra in getattr(hint, "__metadata__", ()):
        if isinstance(extra, Key):
            return extra
    raise TypeError(f"{name} has no Key: every setting says what it means")


def _form(hint: Any) -> _Form:
    if typing.get_origin(hint) is Annotated:
        for extra in hint.__metadata__:
            if isinstance(extra, Leaf):
                return extra
        return _form(hint.__origin__)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (a for a in arguments if a is not types.NoneType)
        return _form(inner)
    if origin is tuple:
        return _ListForm(_form(arguments[0]))
    if origin is dict:
        return _MapForm(_form(arguments[1]))
    if origin is Literal:
        return one_of(*arguments)
    if hint is bool:
        return FLAG
    if hint is str:
        return TEXT
    if isinstance(hint, type) and issubclass(hint, Block):
        return _BlockForm(hint)
    raise TypeError(f"no way to read {hint!r}")


# --- leaves of general use ------------------------------------------------------------------------------------


def one_of(*words: str) -> Leaf:
    """One of some words."""

    def parse(value: object) -> str:
        word = str(value).lower() if isinstance(value, bool) else value  # YAML reads `true` as no text
        if not isinstance(word, str) or word not in words:
            near = did_you_mean(word, words) if isinstance(word, str) else ""
            raise ValueError(f"{value!r} is not one of {', '.join(words)}{near}")
        return str(word)

    values: list[Any] = list(words)
    values += [word == "true" for word in words if word in ("true", "false")]
    return Leaf(parse, {"enum": values})


def _parse_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"is {_kind(value)}, not text; put it in quotes")
    if not value.strip():
        raise ValueError("is empty; give a text, or remove it")
    return str(value)


def _parse_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def whole_number(least: int = 1) -> Leaf:
    """A whole number from `least` up."""

    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**53:
            raise ValueError(f"{value!r} is no whole number from {least} up")
        return value

    return Leaf(parse, {"type": "integer", "minimum": least})


TEXT = Leaf(_parse_text, {"type": "string", "minLength": 1}, blank="")
FLAG = Leaf(_parse_flag, {"type": "boolean"})


# --- descriptions ---------------------------------------------------------------------------------------------


def json_schema(shape: type[Block], title: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of files with this shape, before variables are filled in."""
    definitions: dict[str, Any] = {"variable": {"type": "string", "pattern": r"\$\{", "description": "from ${ENV}"}}
    body = _block_schema(shape, definitions)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **body, "$defs": definitions}


def _block_schema(shape: type[Block], definitions: dict[str, Any]) -> dict[str, Any]:
    properties = {}
    for name, field in _fields(shape).items():
        about = field.key.meaning + (f" Default: {field.key.default}." if field.key.default else "")
        properties[name] = {"description": about, **_form_schema(field.type, definitions)}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _form_schema(form: _Form, definitions: dict[str, Any]) -> dict[str, Any]:
    if isinstance(form, _BlockForm):
        name = form.shape.__name__
        if name not in definitions:
            definitions[name] = {}
            definitions[name] = _block_schema(form.shape, definitions)
        reference = {"$ref": f"#/$defs/{name}"}
        other = {"type": "string", "minLength": 1} if form.shape.shorthand else {"type": "null"}
        return {"anyOf": [reference, other]}
    if isinstance(form, _ListForm):
        return {"type": "array", "items": _form_schema(form.item, definitions)}
    if isinstance(form, _MapForm):
        return {"type": "object", "additionalProperties": _form_schema(form.item, definitions)}
    if form.schema.get("type") == "string" and "pattern" not in form.schema:
        return dict(form.schema)
    return {"anyOf": [dict(form.schema), {"$ref": "#/$defs/variable"}]}


def key_rows(
    shape: type[Block], prefix: str = "", above: tuple[type[Block], ...] = ()
) -> Iterator[tuple[str, str, str]]:
    """Every key with its default and meaning; `NAME` stands for names of the operator's, `[]` for list items. What
    stands in itself (a pool in a pool) is told once. `above` is what the shape stands in."""
    for name, field in _fields(shape).items():
        yield f"{prefix}{name}", field.key.default, field.key.meaning
        form, place = field.type, f"{prefix}{name}"
        while isinstance(form, (_ListForm, _MapForm)):
            place += "[]" if isinstance(form, _ListForm) else ".NAME"
            form = form.item
        if isinstance(form, _BlockForm) and form.shape not in (shape, *above):
            yield from key_rows(form.shape, f"{place}.", (shape, *above))
