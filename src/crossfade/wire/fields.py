"""The fields of a whole request, read one by one for translation: what a field must be, in words that name it.

Strict: what is read is understood, and what cannot be is a fault. Knows no dialect's fields.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from crossfade.core.errors import InvalidRequest

_MOST_NUMBER: Final = 2**63
"""What no parameter of any API comes near, and every one of them can be written as."""

_decode = msgspec.json.Decoder().decode
_decode_top = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def fault(place: str, what: str) -> InvalidRequest:
    """A fault of the caller's, at the field `place`."""
    return InvalidRequest(f"`{place}` {what}.", param=place)


def string(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise fault(place, "must be a string that is not empty")
    return value


def string_or_none(value: Any, place: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise fault(place, "must be a string")
    return value


def data_url(url: str, place: str) -> tuple[str, str] | None:
    """Media type and base64 text of a `data:` URL; None for another URL."""
    if not url.startswith("data:"):
        return None
    head, comma, data = url[5:].partition(",")
    media_type, *options = head.split(";")
    if not comma or "base64" not in options:
        raise fault(place, "must be base64 where it is a data URL")
    return media_type or "application/octet-stream", data


def fields_of_body(body: bytes) -> dict[str, Any]:
    """The decoded fields of a JSON object. Raises InvalidRequest."""
    try:
        return {name: _decode(value) for name, value in _decode_top(body).items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("The body must be a JSON object.") from None


class FieldReader:
    """Reads the fields of one request and remembers which it has read. All of its methods raise InvalidRequest."""

    def __init__(self, fields: dict[str, Any]):
        self._fields = fields
        self._read: set[str] = set()

    def take(self, name: str) -> Any:
        self._read.add(name)
        return self._fields.get(name)

    def bool(self, name: str) -> bool | None:
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            raise fault(name, "must be true or false")
        return value

    def number(self, name: str) -> float | None:
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise fault(name, "must be a number")
        if abs(value) > _MOST_NUMBER:
            raise fault(name, "is out of all bounds")
        return float(value)

    def whole(self, name: str) -> int | None:
        value = self.take(name)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MOST_NUMBER:
            return value  # as it is: not every whole number is a float
        number = self.number(name)
        if number is None:
            return None
        if number != number // 1:
            raise fault(name, "must be a whole number")
        return int(number)

    def text(self, name: str) -> str | None:
        return string_or_none(self.take(name), name)

    def items(self, name: str) -> list[Any]:
        """A list that has something in it."""
        value = self.take(name)
        if value is None:
            raise InvalidRequest(f"`{name}` is missing.", param=name, code="missing_required_parameter")
        if not isinstance(value, list):
            raise fault(name, "must be a list")
        if not value:
            raise fault(name, "must have at least one message")
        return value

    def others(self, silent: Collection[str], neutral: Mapping[str, Any]) -> tuple[str, ...]:
        """The fields that were not read, but for `silent` ones and those whose value (as `neutral` has it) asks for
        nothing."""
        return tuple(
            name
            for name, value in self._fields.items()
            if name not in self._read and name not in silent and value is not None and neutral.get(name) != value
        )
