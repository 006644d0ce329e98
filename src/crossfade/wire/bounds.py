"""How much work a text may make before it is read: cheap looks at bytes, without reading them.

Knows nothing of what the text says. A body is read in one turn of the loop, so what is small to send and slow to read
(lists of millions of empty lists) has to be seen first.
"""

from __future__ import annotations

import codecs
import math
from typing import Final

_WINDOW: Final = 64 * 1024
_MARKS: Final = b"[{,"
_MOST: Final = 10**12


def has_more_parts(text: bytes, most: int) -> bool:
    """Whether a JSON text has more than `most` commas and opening brackets: a bound on the values in it, strings and
    all. Takes a millisecond for a megabyte or two."""
    seen = 0
    for at in range(0, len(text), _WINDOW):
        window = text[at : at + _WINDOW]
        seen += len(window) - len(window.translate(None, _MARKS))
        if seen > most:
            return True
    return False


def whole(number: float | None) -> int:
    """A count or a time as servers say it, as a whole number from 0 to 10^12: no record holds 1e300 tokens."""
    return 0 if number is None or math.isnan(number) else int(min(max(number, 0), _MOST))


def is_utf8(text: bytes) -> bool:
    """Whether a text is UTF-8, found out without a copy of all of it."""
    if text.isascii():
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(text), _WINDOW):
            decoder.decode(text[at : at + _WINDOW])
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return False
    return True
