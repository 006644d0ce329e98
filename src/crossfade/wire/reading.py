"""What requests of every dialect are read with: bounds of the work that one may make, the gateway's own fields, and
words for what is wrong with a body. Knows no dialect's fields.

A request is read in one go, while all others wait: what is small to send and slow to read is refused first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from crossfade.core.errors import InvalidRequest
from crossfade.wire.bounds import has_more_parts, is_utf8
from crossfade.wire.ours import (
    CHAIN_FIELDS,
    ROUTE_HEADER,
    Options,
    Ours,
    has_our_headers,
    read_chain,
    read_fallback_on,
    read_options,
    with_headers,
)
from crossfade.wire.ours_shapes import NO, OurFields

MAX_PARTS: Final = 1_000_000
"""Commas and opening brackets of a body; ten times what fills the largest window."""
MAX_MESSAGES: Final = 20_000
MAX_TOOLS: Final = 4096
MAX_MODEL: Final = 1024
"""Characters of `model`."""
MAX_FIELD: Final = 256 * 1024
"""Bytes of a field that is read whole: ours, stop sequences, `tool_choice`, the words of reasoning."""
BOM: Final = b"\xef\xbb\xbf"
_LARGE: Final = 256 * 1024

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


def read_ours(given: OurFields, headers: Mapping[str, str]) -> Ours:
    """What the caller told the gateway, in the body and (names in lower case) in headers. Raises InvalidRequest."""
    if given.model and len(given.model) <= MAX_MODEL and not _says_more(given):
        plain = Ours(model=given.model)
        return with_headers(plain, headers) if headers and has_our_headers(headers) else plain
    model = given.model or ""
    if len(model) > MAX_MODEL:
        raise InvalidRequest(f"`model` is longer than {MAX_MODEL} characters.", param="model")
    chain = None
    for field in CHAIN_FIELDS:
        if (value := value_of(getattr(given, field), field)) is None:
            continue
        if chain is not None:
            raise InvalidRequest(f"`{field}` says the same as another field of the request; give one.", param=field)
        chain = read_chain(field, value, model)
        if not model and field == "models" and chain:
            model, chain = chain[0].name, chain[1:]
    said, listed = value_of(given.crossfade, "crossfade"), value_of(given.fallback_on, "fallback_on")
    options: Options | None = None if said is None else read_options(said)
    words = None if listed is None else read_fallback_on(listed)
    if not model and ROUTE_HEADER not in headers:
        raise InvalidRequest("You must provide a `model`.", param="model", code="missing_required_parameter")
    ours = Ours(model=model, fallback_models=chain, fallback_on=words, options=options)
    return with_headers(ours, headers) if headers and has_our_headers(headers) else ours


def _says_more(given: OurFields) -> bool:
    return (
        given.fallback_models is not NO
        or given.fallback_on is not NO
        or given.crossfade is not NO
        or given.models is not NO
        or given.fallbacks is not NO
    )


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
