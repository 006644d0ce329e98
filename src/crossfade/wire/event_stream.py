"""Amazon's event stream (`application/vnd.amazon.eventstream`): cutting bytes into frames, reading one, writing one.

A frame is a prelude (its length, the length of its headers, a CRC-32 of both), typed headers, a payload, and a CRC-32
of all before. Nothing marks where the next one begins, so a wrong sum ends the stream: behind it no byte can be
trusted. Knows no dialect; what headers and payloads say is read elsewhere.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple
from zlib import crc32

from crossfade.wire.reader import Framing
from crossfade.wire.sse import MAX_EVENT

FRAMES: Final = Framing("application/vnd.amazon.eventstream", (b"\x00",))
"""Lengths are far below 16 MiB, so that the first byte of a frame is 0: no text that a server answers begins so."""

_PRELUDE: Final = struct.Struct(">III")
_SUM: Final = struct.Struct(">I")
_LENGTH: Final = struct.Struct(">H")
_LEAST: Final = _PRELUDE.size + _SUM.size
_NUMBERS: Final[Mapping[int, struct.Struct]] = {
    2: struct.Struct(">b"),
    3: struct.Struct(">h"),
    4: struct.Struct(">i"),
    5: struct.Struct(">q"),
    8: struct.Struct(">q"),  # a time in milliseconds
}
_TRUE, _FALSE, _BYTES, _TEXT, _UUID = 0, 1, 6, 7, 9

HeaderValue = bool | int | bytes | str


class Frame(NamedTuple):
    """One frame. `headers` have the names that were sent, `:event-type` among them; a UUID is 16 bytes."""

    headers: Mapping[str, HeaderValue]
    payload: bytes

    def text(self, name: str) -> str:
        """A header that is text; empty where there is none."""
        value = self.headers.get(name)
        return value if isinstance(value, str) else ""


class BadFrame(ValueError):
    """The bytes are no frame; the message says why, without any of them."""


class FrameSplitter:
    """Cuts bytes into frames. Tolerates any split.

    `fault` says why no more frames come once one was damaged or longer than `limit`; nothing more comes out then.
    """

    __slots__ = ("_buffer", "_limit", "_wanted", "fault")

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self._wanted = 0  # bytes of the frame that is arriving, once its prelude has been read
        self.fault: str | None = None

    def __repr__(self) -> str:
        return f"<FrameSplitter buffered={len(self._buffer)}{f' {self.fault}' if self.fault else ''}>"

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes."""
        if self.fault is not None:
            return []
        self._buffer += data
        found: list[Frame] = []
        try:
            while (frame := self._next()) is not None:
                found.append(frame)
        except BadFrame as error:
            self.fault = str(error)
            self._buffer.clear()
        return found

    def rest(self) -> bytes:
        """What the end of the body has left of a frame."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._wanted = 0
        return rest

    def _next(self) -> Frame | None:
        buffer = self._buffer
        if not self._wanted:
            if len(buffer) < _PRELUDE.size:
                return None
            self._wanted = _length_of(buffer, self._limit)
        if len(buffer) < self._wanted:
            return None
        raw = bytes(buffer[: self._wanted])
        del buffer[: self._wanted]
        self._wanted = 0
        return read_frame(raw)


def _length_of(prelude: bytes | bytearray, limit: int) -> int:
    """The length of the frame that begins so. Raises BadFrame."""
    total, headers, checksum = _PRELUDE.unpack_from(prelude)
    if crc32(prelude[:8]) != checksum:
        raise BadFrame("a frame with a wrong checksum of its lengths")
    if total > limit:
        raise BadFrame(f"a frame of more than {limit} bytes")
    if total < _LEAST + headers:
        raise BadFrame("a frame that is shorter than its headers")
    return int(total)


def read_frame(raw: bytes) -> Frame:
    """One whole frame. Raises BadFrame."""
    if len(raw) < _LEAST or _length_of(raw, len(raw)) != len(raw):
        raise BadFrame("a frame of another length than it says")
    _, size, _ = _PRELUDE.unpack_from(raw)
    if crc32(raw[:-4]) != _SUM.unpack_from(raw, len(raw) - 4)[0]:
        raise BadFrame("a frame with a wrong checksum")
    end = _PRELUDE.size + size
    return Frame(_headers(raw[_PRELUDE.size : end]), raw[end:-4])


def _headers(block: bytes) -> dict[str, HeaderValue]:
    found: dict[str, HeaderValue] = {}
    at = 0
    try:
        while at < len(block):
            end = at + 1 + block[at]
            name = block[at + 1 : end].decode()
            found[name], at = _value(block, end)
    except (IndexError, struct.error, UnicodeDecodeError):
        raise BadFrame("a frame with headers that cannot be read") from None
    return found


def _value(block: bytes, at: int) -> tuple[HeaderValue, int]:
    """The value that begins with its type at `at`, and where the next header begins."""
    kind = block[at]
    at += 1
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, at
    if (number := _NUMBERS.get(kind)) is not None:
        return int(number.unpack_from(block, at)[0]), at + number.size
    if kind == _UUID:
        end = at + 16
    elif kind in (_BYTES, _TEXT):
        at, end = at + 2, at + 2 + _LENGTH.unpack_from(block, at)[0]
    else:
        raise BadFrame("a frame with a header of an unknown type")
    if end > len(block):
        raise BadFrame("a frame with headers that cannot be read")
    value = block[at:end]
    return (value.decode() if kind == _TEXT else value), end


def write_frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """A frame whose headers are all text."""
    block = b"".join(_written(name.encode(), value.encode()) for name, value in headers.items())
    prelude = struct.pack(">II", _LEAST + len(block) + len(payload), len(block))
    body = b"".join((prelude, _SUM.pack(crc32(prelude)), block, payload))
    return body + _SUM.pack(crc32(body))


def _written(name: bytes, value: bytes) -> bytes:
    return b"".join((bytes([len(name)]), name, bytes([_TEXT]), _LENGTH.pack(len(value)), value))
