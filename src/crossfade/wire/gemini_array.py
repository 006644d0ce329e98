"""Cuts the stream that Gemini sends without `alt=sse`, one JSON array, into its objects as they become whole.

Knows strings and braces, and no more of JSON; what is in an object is read in `gemini.py`.
"""

from __future__ import annotations

import re
from typing import Final

from crossfade.wire.sse import MAX_EVENT

_OUTSIDE: Final = re.compile(rb'["{}]')
_INSIDE: Final = re.compile(rb'["\\]')


class ArraySplitter:
    """The outermost objects of a JSON array that is still arriving, or a bare object. Tolerates any split.

    `is_overlong` once more than `limit` bytes came without the end of an object; nothing more comes out then.
    """

    __slots__ = ("_at", "_buffer", "_depth", "_in_string", "_limit", "is_overlong")

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._buffer = bytearray()
        self._at = 0  # up to where the buffer was looked at
        self._depth = 0
        self._in_string = False
        self._limit = limit
        self.is_overlong = False

    def __repr__(self) -> str:
        return f"<ArraySplitter buffered={len(self._buffer)} depth={self._depth}>"

    def feed(self, data: bytes) -> list[bytes]:
        """The objects that `data` completes."""
        self._buffer += data
        found: list[bytes] = []
        begin = 0
        while (mark := self._next_brace()) is not None:
            if mark == b"{":
                self._depth += 1
                if self._depth == 1:
                    begin = self._at - 1
            elif self._depth:
                self._depth -= 1
                if self._depth == 0:
                    found.append(bytes(self._buffer[begin : self._at]))
                    begin = self._at
        if not self._depth:
            begin = self._at  # commas and brackets between the objects
        del self._buffer[:begin]
        self._at -= begin
        if len(self._buffer) > self._limit:
            self.is_overlong = True
            self._buffer.clear()
        return found

    def rest(self) -> bytes:
        """What is left of an object that the end of the body has cut."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _next_brace(self) -> bytes | None:
        """The next brace outside of strings; None at the end of what came."""
        while True:
            match = (_INSIDE if self._in_string else _OUTSIDE).search(self._buffer, self._at)
            if match is None:
                self._at = len(self._buffer)
                return None
            mark = match[0]
            if mark == b"\\":
                if match.end() == len(self._buffer):
                    self._at = match.start()  # what it escapes has not come
                    return None
                self._at = match.end() + 1
                continue
            self._at = match.end()
            if mark != b'"':
                return mark
            self._in_string = not self._in_string
