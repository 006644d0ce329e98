"""What chat requests of every dialect are read with: bounds of the work that one may make, and words for what is wrong
with a body. Knows no dialect's fields.

A request is read in one go, while all others wait: what is small to send and slow to read is refused first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from crossfade.core.errors import InvalidRequest
from crossfade.wire.bounds import has_more_parts, is_utf8
from crossfade.wire.ours import MAX_FIELD

MAX_PARTS: Final = 1_000_000
"""Commas and opening brackets of a body; ten times what fills the largest window."""
MAX_MESSAGES: Final = 20_000
MAX_TOOLS: Final = 4096
BOM: Final = b"\xef\xbb\xbf"
_LARGE: Final = 256 * 1024

NO: Final = msgspec.Raw()
"""The default of fields that are left as JSON text."""

_decode_any: Final = msgspec.json.Decoder().decode


def check_size(body: bytes) -> None:
    """Raises InvalidRequest for a body of too many values, and for one that is not UTF-8."""
    if len(body) > _LARGE and has_more_parts(body, MAX_PARTS):
        raise InvalidRequest(f"The body has more than {MAX_PARTS:,} values.")
    if not (body.isascii() or is_utf8(body)):
        raise InvalidRequest("The body is not UTF-8.")


def value_of(raw: msgspec.Raw, field: str) -> Any:
    """The value of a field that was left as JSON text; None where there is none. Raises InvalidRequest."""
    if raw is NO:
        return None
    if len(raw) > MAX_FIELD:
        raise InvalidRequest(f"`{field}` is longer than {MAX_FIELD // 1024} KiB.", param=field)
    try:
        return _decode_any(raw)
    except (msgspec.DecodeError, RecursionError):  # a number that is out of all bounds passes as text at first
        raise InvalidRequest(f"`{field}` cannot be read.", param=field) from None


_WHERE: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)


def unreadable(
    body: bytes,
    error: msgspec.DecodeError,
    read_whole: Callable[[bytes], object],
    lists: tuple[str, ...] = ("messages", "tools"),
) -> InvalidRequest:
    """What is wrong with a body that could not be decoded. `read_whole` raises InvalidRequest with the exact place,
    which for what is in `lists` the decoder does not know."""
    if not isinstance(error, msgspec.ValidationError):
        return InvalidRequest(f"The body is no JSON: {str(error).removeprefix('JSON is malformed: ')}.")
    match = _WHERE.match(str(error))
    assert match is not None
    path = match["path"]
    if not path:
        missing = re.search(r"missing required field `(\w+)`", str(error))
        if missing is not None:
            return InvalidRequest(f"`{missing[1]}` is missing.", param=missing[1], code="missing_required_parameter")
        return InvalidRequest("The body must be a JSON object.")
    if path.startswith(lists) and len(body) <= 4 * _LARGE:
        try:
            read_whole(body)  # it knows the number of the message
        except InvalidRequest as exact:
            return exact
    place = path.replace("[...]", "[]")
    return InvalidRequest(f"`{place}`: {match['what'][:1].lower()}{match['what'][1:]}.", param=place)
