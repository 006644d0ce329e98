"""What is sent in answer to a call: bytes, pauses, and what becomes of the connection. Pure.

It knows nothing of faults or dialects; `playbook.py` writes scripts, `server.py` performs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from http import HTTPStatus

import msgspec

Headers = tuple[tuple[str, str], ...]


LAST_CHUNK = b"0\r\n\r\n"


class Ending(StrEnum):
    """What becomes of the connection when everything is sent."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"
    HANG = "hang"


class Script(msgspec.Struct):
    """What to send: bytes, and floats for seconds to wait. May be endless."""

    items: Iterable[bytes | float]
    ending: Ending = Ending.KEEP


def head(status: int, headers: Headers, framing: str) -> bytes:
    """A response head; `framing` is the header line that says where the body ends, or nothing."""
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", "server: crossfade-simulator"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += [framing] if framing else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


def message(status: int, headers: Headers, body: bytes) -> Script:
    """A whole answer with a length."""
    return Script([whole_message(status, headers, body)])


def whole_message(status: int, headers: Headers, body: bytes) -> bytes:
    return head(status, headers, f"content-length: {len(body)}") + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def paced(pieces: list[bytes], pause: float) -> Iterator[bytes | float]:
    """The pieces with pauses between them; without pauses, one piece: one write."""
    if not pause:
        yield b"".join(pieces)
        return
    for number, piece in enumerate(pieces):
        if number:
            yield pause
        yield piece
