"""Lines of JSON: cutting a byte stream into lines. Tolerates any split of the bytes, LF and CRLF, and empty lines. It
does not look into the lines."""

from __future__ import annotations

from typing import Final

from crossfade.wire.reader import Framing
from crossfade.wire.sse import MAX_EVENT

NDJSON: Final = Framing("application/x-ndjson", (b"{",))


class LineSplitter:
    """Cuts bytes into lines, without their ends; those that hold white space alone do not come out.

    `is_overlong` once more than `limit` bytes came without a line's end; nothing more comes out then.
    """

    __slots__ = ("_buffer", "_limit", "is_overlong")

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self.is_overlong = False

    def __repr__(self) -> str:
        return f"<LineSplitter buffered={len(self._buffer)}>"

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes."""
        at = data.rfind(b"\n")
        if at < 0:
            self._buffer += data
            found: list[bytes] = []
        else:
            whole = bytes(self._buffer) + data[:at]
            self._buffer = bytearray(data[at + 1 :])
            found = [line for part in whole.split(b"\n") if (line := part.strip())]
        if len(self._buffer) > self._limit:
            self.is_overlong = True
            self._buffer.clear()
        return found

    def rest(self) -> bytes:
        """What came after the last line, for the end of the body: a last line may lack its end."""
        rest = bytes(self._buffer).strip()
        self._buffer.clear()
        return rest
