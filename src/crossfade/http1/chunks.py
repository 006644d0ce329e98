"""The chunks of a body: written, taken off a request's body, and one alone recognised.

Pure: bytes in, bytes or `BadMessage` out. Bounds are on what framing may cost; content is counted by the caller.
"""

from __future__ import annotations

import re
from typing import Final

from crossfade.http1.head import TOKEN, BadMessage

CHUNK_LINE_BYTES: Final = 256
"""Bound on a chunk-size line with its extensions."""

CHUNK_EXCESS_BYTES: Final = 16 * 1024
"""Bound on framing out of proportion: what chunk lines took beyond 16 bytes a chunk and two bytes a content byte."""

CHUNK_COUNT: Final = 50_000
"""Bound on the chunks of a body, and one more for each CHUNK_BYTES of content: each costs as much as a kilobyte."""

CHUNK_BYTES: Final = 256

TRAILER_BYTES: Final = 8 * 1024
"""Bound on all trailer lines of a message together."""

_KNOWN_CHUNKS: Final = 2048
"""Length below which the first line of a chunk is kept ready; events of streams seldom are longer."""

_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER_LINE: Final = re.compile(rf"{TOKEN}:[^\x00-\x08\x0a-\x1f\x7f]*".encode())


def _ready_lines() -> list[bytes]:
    """By the length of a whole chunk, framing included, the line it begins with when written as `chunk` does. Where
    no chunk has that length, something longer than it, which nothing of that length can begin with."""
    lines = [b"-" * (length + 1) for length in range(_KNOWN_CHUNKS)]
    for size in range(1, _KNOWN_CHUNKS):
        line = b"%x\r\n" % size
        if (length := len(line) + size + 2) < _KNOWN_CHUNKS:
            lines[length] = line
    return lines


_LINE_OF_CHUNK: Final[list[bytes]] = _ready_lines()
_LINE_OF_SIZE: Final[list[bytes]] = [b"%x\r\n" % size for size in range(_KNOWN_CHUNKS)]


def chunk(content: bytes) -> bytes:
    """`content` as one chunk; it may not be empty, for that would be the last one."""
    size = len(content)
    line = _LINE_OF_SIZE[size] if size < _KNOWN_CHUNKS else b"%x\r\n" % size
    return line + content + b"\r\n"


def content_of_chunk(data: bytes) -> bytes | None:
    """The content of `data` where it is one whole chunk written as most servers do, lower case and nothing more; None
    where it is anything else, or long. Only for the bytes that follow a whole chunk or the head."""
    length = len(data)
    if length >= _KNOWN_CHUNKS:
        return None
    line = _LINE_OF_CHUNK[length]
    if not data.startswith(line) or not data.endswith(b"\r\n"):
        return None
    return data[len(line) : length - 2]


class ChunkedBody:
    """Takes the chunked framing off a body, bounded and strict; trailers are read, checked and dropped.

    `feed` returns the content in what it was given. After the end `is_complete` is True and `rest` holds the bytes
    behind the message. Chunk sizes have no bound of their own: nothing is reserved for them, the caller counts content.
    """

    __slots__ = (
        "_chunks_left",
        "_excess",
        "_is_chunk_open",
        "_left",
        "_pending",
        "_trailer_bytes",
        "is_complete",
        "rest",
    )

    def __init__(self) -> None:
        self._pending = b""  # the beginning of a line
        self._left = 0  # content bytes still to come of the open chunk
        self._is_chunk_open = False  # the CR LF behind the chunk's content is still to come
        self._excess = 0
        self._chunks_left = float(CHUNK_COUNT)
        self._trailer_bytes = -1  # -1: the last chunk has not been seen
        self.is_complete = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """The content within `data`, the next bytes of the body. Raises BadMessage (400) for broken framing."""
        content: list[bytes] = []
        if self._pending:
            data, self._pending = self._pending + data, b""
        at, size = 0, len(data)
        while not self.is_complete:
            if self._left:
                if at == size:
                    break
                piece = data[at : at + self._left]
                content.append(piece)
                at += len(piece)
                self._left -= len(piece)
                continue
            line_end = data.find(b"\r\n", at, at + CHUNK_LINE_BYTES + 2 if self._trailer_bytes < 0 else size)
            if line_end < 0:
                self._keep(data[at:])
                return b"".join(content)
            self._take_line(data[at:line_end])
            at = line_end + 2
        self.rest = data[at:]
        return content[0] if len(content) == 1 else b"".join(content)

    def _keep(self, pending: bytes) -> None:
        bound = CHUNK_LINE_BYTES if self._trailer_bytes < 0 else TRAILER_BYTES - self._trailer_bytes
        if len(pending) > bound + 1 or b"\n" in pending:
            raise BadMessage(400, "a chunk or trailer line is malformed or too long")
        if self._is_chunk_open and pending not in (b"", b"\r"):
            raise BadMessage(400, "a chunk is longer than its size says")
        self._pending = pending

    def _take_line(self, line: bytes) -> None:
        if self._is_chunk_open:
            if line:
                raise BadMessage(400, "a chunk is longer than its size says")
            self._is_chunk_open = False
        elif self._trailer_bytes >= 0:
            self._take_trailer(line)
        else:
            self._take_size(line)

    def _take_size(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None or len(line) > CHUNK_LINE_BYTES:
            raise BadMessage(400, "a chunk size is malformed")
        size = int(match[1], 16)
        # The allowance of Go's net/http: tiny chunks with long extensions must not make work without end.
        self._excess = max(0, self._excess + len(line) + 2 - 16 - 2 * size)
        self._chunks_left += size / CHUNK_BYTES - 1
        if self._excess > CHUNK_EXCESS_BYTES or self._chunks_left < 0:
            raise BadMessage(400, "the chunks of the body hold too little content")
        if size:
            self._left, self._is_chunk_open = size, True
        else:
            self._trailer_bytes = 0

    def _take_trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line) + 2
        if self._trailer_bytes > TRAILER_BYTES + 2:
            raise BadMessage(400, f"the trailers are longer than {TRAILER_BYTES} bytes")
        if not line:
            self.is_complete = True
        elif not _TRAILER_LINE.fullmatch(line):
            raise BadMessage(400, "a trailer line is malformed")
