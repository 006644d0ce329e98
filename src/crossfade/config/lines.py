"""YAML text to plain values, remembering the line of every key and list item, with `${ENV}` references filled in.

Decides what YAML is taken: one document, text keys, no key twice, anchors and merge keys within bounds, no tags.
Knows nothing of what the keys mean. Values from the environment show as their reference in messages (`repr`), so
that no error prints a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from crossfade.config.problems import Path, Problems
from crossfade.core.errors import ConfigError

MAX_BYTES = 1024 * 1024
MAX_VALUES = 50_000
"""Keys and values after anchors are expanded; a few lines of aliases can stand for billions."""
MAX_DEPTH = 24

_TAG = "tag:yaml.org,2002:"
_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{[^}]*\}?")
_KINDS = {_TAG + "int": "a number", _TAG + "float": "a number", _TAG + "bool": "true or false", _TAG + "null": "empty"}

_SCALARS = {*_KINDS, _TAG + "str", _TAG + "timestamp", _TAG + "value"}


class FromEnvironment(str):
    """Text with environment variables filled in; its `repr` is what the file says."""

    __slots__ = ("source",)
    source: str

    def __repr__(self) -> str:
        return repr(self.source)


class Unset:
    """Stands where a value could not be made; the problem is already noted."""

    def __repr__(self) -> str:
        return "<unset>"


UNSET = Unset()


class Document:
    """The values of a file and their lines."""

    def __init__(self, value: object, lines: Mapping[Path, int]):
        self.value, self._lines = value, lines

    def line_of(self, path: Path) -> int | None:
        """The 1-based line of a key or item, else that of the nearest thing around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path)


def read_document(data: bytes, environ: Mapping[str, str], problems: Problems) -> Document:
    """The document in `data`. Notes duplicate keys, other keys than text and unset variables in `problems` and
    goes on; raises ConfigError for what cannot be read at all."""
    builder = _Builder(environ, problems)
    try:
        node = _compose(_text_of(data))
        value = {} if node is None else builder.value(node, ())
    except _Unreadable as error:
        raise ConfigError(str(error), file=problems.file, line=error.line) from None
    document = Document(value, builder.lines)
    problems.line_of = document.line_of
    return document


class _Unreadable(Exception):
    def __init__(self, message: str, line: int):
        super().__init__(message)
        self.line = line


class _Loader(yaml.SafeLoader):
    """Refuses nesting that would exhaust the stack, with its line, and more values than are ever taken."""

    depth = 0
    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        self.nodes += 1
        try:
            line = 1 if parent is None else _line(parent)
            if self.nodes > 2 * MAX_VALUES:  # keys are nodes too
                raise _Unreadable(f"more than {MAX_VALUES} values; a configuration has fewer", line)
            if self.depth > MAX_DEPTH:
                raise _Unreadable(f"nested deeper than {MAX_DEPTH} levels; no setting needs that", line)
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _text_of(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise _Unreadable(f"the file has more than {MAX_BYTES} bytes; split what is no configuration off", 1)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _Unreadable("not UTF-8 text; save the file as UTF-8", data.count(b"\n", 0, error.start) + 1) from None


def _compose(text: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = _Loader(text).get_single_node()
        return node
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _Unreadable("has a control character; remove it", line) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise _Unreadable(_syntax_message(error, text.splitlines()[line - 1 : line]), line) from None


def _syntax_message(error: yaml.MarkedYAMLError, line: list[str]) -> str:
    problem = error.problem or "not valid YAML"
    if "\\t" in problem or "\t" in problem:
        return "not valid YAML: indented with a tab; use spaces"
    if "expected a single document" in (error.context or ""):
        return "a second YAML document begins here; the configuration is one document (remove the '---')"
    hint = ""
    if "could not find expected ':'" in problem or "mapping values are not allowed" in problem:
        hint = "; check the indentation, the space after ':', and quotes around text with ': ' in it"
    if any("${" in one for one in line):
        hint = '; inside { } and [ ] a reference needs quotes: "${NAME}"'
    context = f" ({error.context})" if error.context else ""
    return f"not valid YAML: {problem}{context}{hint}"


class _Builder:
    """Makes values of nodes, in one walk."""

    def __init__(self, environ: Mapping[str, str], problems: Problems):
        self.lines: dict[Path, int] = {}
        self._environ, self._problems = environ, problems
        self._count = 0

    def value(self, node: yaml.Node, path: Path) -> object:
        line = _line(node)
        self._bound(path, line)
        self.lines.setdefault(path, line)
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._problems.add(path, f"the YAML tag {node.tag.replace(_TAG, '!!')!r} is not taken; remove it", line)
        return UNSET

    def _bound(self, path: Path, line: int) -> None:
        self._count += 1
        if self._count > MAX_VALUES:
            raise _Unreadable(f"more than {MAX_VALUES} values once aliases are expanded; use fewer aliases", line)
        if len(path) > MAX_DEPTH:
            raise _Unreadable(f"nested deeper than {MAX_DEPTH} levels; does an alias contain itself?", line)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, object]:
        result: dict[str, object] = {}
        merges: list[yaml.Node] = []
        own: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = _line(key_node)
            if key_node.tag == _TAG + "merge":
                merges.append(value_node)
                continue
            key = self._key(key_node, path)
            if key is None:
                continue
            if key in own:
                message = f"this key is here twice (first in line {own[key]}); remove one"
                self._problems.add((*path, key), message, line)
                continue
            own[key] = line
            self.lines[*path, key] = line
            result[key] = self.value(value_node, (*path, key))
        for merge in merges:
            self._merge(merge, path, result)
        return result

    def _merge(self, node: yaml.Node, path: Path, into: dict[str, object]) -> None:
        """`<<: *base`: what the mapping does not say itself comes from `base`."""
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for part in parts:
            if not isinstance(part, yaml.MappingNode):
                self._problems.add(path, "'<<' takes an alias of a mapping, or a list of such", _line(node))
                continue
            self._bound((*path, "<<"), _line(part))
            lines, self.lines = self.lines, {}
            try:
                # One level deeper than it is, so that a mapping that merges itself comes to an end.
                merged = self._mapping(part, (*path, "<<"))
            finally:
                found, self.lines = self.lines, lines
            for key, value in merged.items():
                if key not in into:
                    into[key] = value
                    self._take_lines(found, (*path, "<<", key), (*path, key))

    def _take_lines(self, found: Mapping[Path, int], old: Path, new: Path) -> None:
        for place, line in found.items():
            if place[: len(old)] == old:
                self.lines[(*new, *place[len(old) :])] = line

    def _key(self, node: yaml.Node, path: Path) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._problems.add(path, "a key here is a list or a mapping; keys are text", _line(node))
            return None
        text = str(node.value)
        if node.tag in _KINDS:
            message = f"the key {text!r} is read as {_KINDS[node.tag]}; put it in quotes"
            self._problems.add((*path, text), message, _line(node))
        elif "${" in text:
            self._problems.add((*path, text), "variables are filled into values, not into keys", _line(node))
        return text

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> object:
        tag, text = node.tag, str(node.value)
        if "${" in text:
            expanded = self._expanded(text, path, _line(node))
            if expanded is None:
                return UNSET
            tag = _resolved_tag(expanded) if node.style is None else tag
            text = expanded
        if tag not in _SCALARS:
            self._problems.add(path, f"the YAML tag {tag.replace(_TAG, '!!')!r} is not taken; remove it", _line(node))
            return UNSET
        return _typed(tag, text)

    def _expanded(self, text: str, path: Path, line: int) -> FromEnvironment | None:
        missing: list[str] = []

        def fill(match: re.Match[str]) -> str:
            if match.group() == "$${":
                return "${"
            if match.group(1) is None:
                missing.append(f"{match.group()!r} is no reference; write ${{NAME}} or ${{NAME:-default}}")
                return ""
            name, default = match.group(1), match.group(2)
            value = self._environ.get(name)
            if default is not None:
                return value or default
            if value is None:
                hint = f"export it, or write ${{{name}:-default}}"
                missing.append(f"the environment variable {name!r} is not set; {hint}")
            return value or ""

        filled = FromEnvironment(_REFERENCE.sub(fill, text))
        filled.source = text
        for message in missing:
            self._problems.add(path, message, line)
        return None if missing else filled


def _resolved_tag(text: str) -> str:
    resolver: Any = yaml.SafeLoader("")
    return str(resolver.resolve(yaml.ScalarNode, text, (True, False)))


def typed(text: FromEnvironment) -> object:
    """What the text would be without quotes: a number, true or false, or itself."""
    return _typed(_resolved_tag(text), text)


def _typed(tag: str, text: str) -> object:
    if tag == _TAG + "null":
        return None
    if tag == _TAG + "bool":
        return text.lower() in ("yes", "true", "on", "y")
    return _number(tag, text) if tag in (_TAG + "int", _TAG + "float") else text


def _number(tag: str, text: str) -> object:
    try:
        node = yaml.ScalarNode(tag, text)
        constructor = yaml.constructor.SafeConstructor()
        value = constructor.construct_yaml_int(node) if tag.endswith("int") else constructor.construct_yaml_float(node)
    except ValueError:
        return text  # `!!int abc`, or thousands of digits
    number: object = value
    return number


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
