"""The top level of a JSON object that passes through: its members as JSON text, where they stand, and edits of them.

Values keep their bytes. Knows no dialect: which members there are, and what may replace them, it is told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from crossfade.core.errors import InvalidRequest

_encode: Final = msgspec.json.Encoder().encode
_decode_top: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_NO_PLACES: Final[dict[str, tuple[int, int]]] = {}
_BLANKS: Final = re.compile(rb"[ \t\r\n]*")
_MOST_MEMBERS: Final = 1000
"""Members whose places are looked for; no API has as many."""
MAX_ODD: Final = 1024 * 1024
"""Bytes of a body whose keys come twice or are spelled with escapes. Finding out which takes long."""


class Members:
    """The top level of a JSON object: `values` as JSON text, and where they stand. Made by `read_members`.

    `is_compact`: it is as it would be written here, without blanks, and so without room for another member.
    `can_splice`: every key occurs once and is spelled plainly, so that values can be replaced in place and no two
    readers can see two objects.
    """

    __slots__ = ("can_splice", "is_compact", "places", "raw", "values")

    def __init__(
        self,
        raw: bytes,
        values: dict[str, msgspec.Raw],
        is_compact: bool,
        can_splice: bool,
        places: dict[str, tuple[int, int]],
    ) -> None:
        self.raw = raw
        self.values = values
        self.is_compact = is_compact
        self.can_splice = can_splice
        self.places = places

    def __repr__(self) -> str:
        return f"<Members {', '.join(self.values)}>"

    def find_places(self) -> bool:
        """Walks along the members. The JSON is valid and `values` has the last value of each key, so as long as key
        and value are what stands there, the next quote begins the next key; a repeated key leaves a rest."""
        raw = self.raw
        if len(self.values) > _MOST_MEMBERS:
            return False
        places = self.places
        find = raw.find
        at = find(b"{") + 1
        for name, value in self.values.items():
            key = name.encode()
            begin = find(b'"', at) + 1
            end = begin + len(key)
            if raw[begin:end] != key or raw[end] != 34:
                return False
            at = _end_of_blanks(raw, find(b":", end) + 1)
            text = bytes(value)
            end = at + len(text)
            if raw[at:end] != text:
                return False
            places[name] = (at, end)
            at = end
        return raw[at:].strip() == b"}"

    def check_repeated(self, names: Iterable[str]) -> None:
        """Raises InvalidRequest where one of `names` is a key twice, in whatever spelling."""
        if len(self.raw) > MAX_ODD:
            raise InvalidRequest("A body of more than 1 MiB must have each key once, spelled without escapes.")
        try:
            seen: list[str] = json.loads(self.raw, object_pairs_hook=_keys_of)
        except (ValueError, RecursionError):
            raise InvalidRequest("The body cannot be read as JSON.") from None
        for name in names:
            if seen.count(name) > 1:
                raise InvalidRequest(f"`{name}` is given twice.", param=name)

    def spliced(self, edits: Mapping[str, object]) -> bytes:
        """The bytes with some values replaced, and with those put in whose names are not there."""
        if self.is_compact:
            return _encode({**self.values, **edits})
        raw, places = self.raw, self.places
        at = raw.find(b"{") + 1
        pieces = [raw[:at]]
        pieces += [b"%s:%s," % (_encode(name), _encode(edits[name])) for name in edits if name not in places]
        for (begin, end), value in sorted([(places[name], _encode(edits[name])) for name in edits if name in places]):
            pieces += (raw[at:begin], value)
            at = end
        pieces.append(raw[at:])
        return b"".join(pieces)


def read_members(raw: bytes) -> Members:
    """Raises msgspec.DecodeError and RecursionError for what is no JSON object."""
    values = _decode_top(raw)
    if _encode(values) == raw:  # as most bodies come
        return Members(raw, values, True, True, _NO_PLACES)
    members = Members(raw, values, False, False, {})
    members.can_splice = members.find_places()
    return members


def _keys_of(pairs: list[tuple[str, Any]]) -> list[str]:
    return [name for name, _ in pairs]


def _end_of_blanks(raw: bytes, at: int) -> int:
    blanks = _BLANKS.match(raw, at)
    return at if blanks is None else blanks.end()


def joined(fields: dict[str, bytes]) -> bytes:
    """A JSON object of members that are JSON text."""
    return b"{%s}" % b",".join([b"%s:%s" % (_encode(name), value) for name, value in fields.items()])


def with_member(body: bytes, name: str, value: bytes) -> bytes:
    """`body`, a JSON object, with one more top-level member; `value` is JSON text. Other bytes stay as they are."""
    text = body.rstrip()
    if text[-1:] != b"}":
        return body
    rest = text[:-1].rstrip()
    return b"%s%s%s:%s}" % (rest, b"" if rest[-1:] == b"{" else b",", _encode(name), value)
