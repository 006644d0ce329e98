"""Server-sent events: cutting a byte stream into events at blank lines, and reading one event's fields.

Tolerates any split of the bytes, LF and CRLF, comments, a byte order mark and stray empty lines. It does not
look into the data and knows no dialect.
"""

from __future__ import annotations

import re
from typing import Final

from crossfade.wire.reader import Framing

SSE: Final = Framing("text/event-stream", (b"data:", b"event:", b"id:", b"retry:", b":"))

MAX_EVENT: Final = 1024 * 1024
"""Bytes without an event's end above which the stream is no event stream."""

_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_BOM: Final = b"\xef\xbb\xbf"


class EventSplitter:
    """Cuts bytes into events. Each comes back as it came, with its closing blank line; comments alone do not.

    `is_overlong` once more than `limit` bytes came without an event's end; nothing more comes out then.
    """

    __slots__ = ("_limit", "_scanned", "_started", "is_overlong", "pending")

    def __init__(self, limit: int = MAX_EVENT):
        self.pending = bytearray()
        """The part of an event that waits for its rest; empty between events. Only to be looked at."""
        self._limit = limit
        self._scanned = 0
        self._started = False
        self.is_overlong = False

    def __repr__(self) -> str:
        return f"<EventSplitter buffered={len(self.pending)}{' overlong' if self.is_overlong else ''}>"

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes."""
        # By `find`: in CPython 3.11 `in` raises and drops an exception for each bytes that it looks for.
        if not self.pending and (self._started or data[:1] != b"\xef"):
            if data[-2:] == b"\n\n" and data.find(b"\r") < 0:
                self._started = True
                if data.find(b"\n\n") == len(data) - 2 and data[0] != 10:
                    return [data] if data[0] != 58 or _has_fields(data) else []
                return self._events(data.split(b"\n\n"), b"\n\n")
            if data[-4:] == b"\r\n\r\n" and data.find(b"\n") == len(data) - 3 and data[0] not in (13, 58):  # one line
                self._started = True
                return [data]
        return self._feed_slowly(data)

    def _feed_slowly(self, data: bytes) -> list[bytes]:
        buffer = self.pending
        buffer += data
        if not self._started:
            if len(buffer) < 3 and _BOM.startswith(buffer):
                return []
            if buffer.startswith(_BOM):
                del buffer[:3]
            self._started = True
        found: list[bytes] = []
        begin = 0
        for match in _BLANK_LINE.finditer(buffer, self._scanned):
            found.append(bytes(buffer[begin : match.end()]))
            begin = match.end()
        del buffer[:begin]
        self._scanned = max(0, len(buffer) - 2)  # the end of a blank line may be split anywhere
        if len(buffer) > self._limit:
            self.is_overlong = True
            buffer.clear()
        return self._events(found, b"") if found else found

    def _events(self, blocks: list[bytes], ending: bytes) -> list[bytes]:
        events = []
        for block in blocks:
            block = block.lstrip(b"\r\n")
            if block and (block[0] != 58 or _has_fields(block)):
                events.append(block + ending)
        return events

    def rest(self) -> bytes:
        """What came after the last event, for the end of the body: a last event may lack its blank line."""
        rest = bytes(self.pending).strip(b"\r\n")
        self.pending.clear()
        self._scanned = 0
        return rest


def _has_fields(block: bytes) -> bool:
    """Whether a block that begins with a comment has anything else."""
    return any(line and line[0] != 58 for line in block.splitlines())


def without_comments(event: bytes) -> bytes:
    """The event without its comment lines."""
    if event[0] != 58 and b"\n:" not in event:
        return event
    return b"".join(line for line in event.splitlines(keepends=True) if line[:1] != b":")


def fields_of(event: bytes) -> tuple[str, bytes]:
    """The name and the data of one event; the name is "" where it has none, several data lines are joined by LF."""
    name = ""
    end = event.find(b"\n")
    if event[:6] == b"data: " and end >= len(event) - 3 and end > 6 and not event[end:].strip():  # as nearly all are
        return name, event[6 : end - 1 if event[end - 1] == 13 else end]
    data: list[bytes] = []
    for line in event.split(b"\n"):
        if line[-1:] == b"\r":
            line = line[:-1]
        if line[:5] == b"data:":
            data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line == b"data":
            data.append(b"")
        elif line[:6] == b"event:":
            name = line[6:].strip().decode("utf-8", "replace")
    return name, data[0] if len(data) == 1 else b"\n".join(data)
