"""Newline-delimited JSON: cutting a byte stream into its lines. It does not look into them and knows no dialect."""

from __future__ import annotations

from typing import Final

from crossfade.wire.reader import Framing
from crossfade.wire.sse import MAX_EVENT

NDJSON: Final = Framing("application/x-ndjson", (b'{"model":',))
"""A stream that is announced as something else is known by how each line of an answer begins; an error does not."""


class LineSplitter:
    """Cuts bytes into lines, without their ends; those of white space alone are left out. Tolerates any split.

    `is_overlong` once more than `limit` bytes came without a line's end; nothing more comes out then.
    """

    __slots__ = ("_buffer", "_limit", "is_overlong")

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self.is_overlong = False

    def __repr__(self) -> str:
        return f"<LineSplitter buffered={len(self._buffer)}{' overlong' if self.is_overlong else ''}>"

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes."""
        head, end, rest = data.rpartition(b"\n")
        found: list[bytes] = []
        if end:
            self._buffer += head
            found = [line for part in bytes(self._buffer).split(b"\n") if (line := part.strip())]
            self._buffer.clear()
        self._buffer += rest
        if len(self._buffer) > self._limit:
            self.is_overlong = True
            self._buffer.clear()
        return found

    def rest(self) -> bytes:
        """What came after the last line's end, for the end of the body: a last line may lack it."""
        rest = bytes(self._buffer).strip()
        self._buffer.clear()
        return rest
