"""The headers of a response as they came: looked up where they lie, for most of them are never asked for.

Decides nothing: llhttp has passed the head before. It knows nothing of framing or of what a header means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeVar, overload

_Default = TypeVar("_Default")

_KNOWN_NAMES: Final = 1024


class ReceivedHeaders(Mapping[str, str]):
    """What `head` (status line to blank line, as llhttp lets it pass) says. Names are asked for in lower case; repeated
    headers are joined with `, `; blanks around values are no part of them."""

    __slots__ = ("_all", "_head", "_lower", "has_encoding", "has_length")

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._lower = lower = head.lower()
        # By `find`: in CPython 3.11 `in` raises and drops an exception for each bytes that it looks for.
        self.has_encoding = lower.find(b"-encoding:") >= 0
        """Whether any name may end in `-encoding`; False is certain, and cheaper than to ask for each of them."""
        self.has_length = lower.find(b"\r\ncontent-length:") >= 0
        self._all: dict[str, str] | None = None  # once one was asked for that needs all to be read

    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, /, default: str | _Default) -> str | _Default: ...
    def get(self, name: str, /, default: str | _Default | None = None) -> str | _Default | None:
        lower = self._lower
        line = _line_starts.get(name) or _line_start(name)
        at = lower.find(line)
        if at < 0:
            return default
        start = at + len(line)
        if lower.find(line, start) >= 0:
            return self._read()[name]
        return self._head[start : lower.find(b"\r", start)].decode("latin-1").strip(" \t")

    def __getitem__(self, name: str) -> str:
        return self._read()[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return f"<ReceivedHeaders {', '.join(self._read())}>"  # no values: they may be secrets

    def _read(self) -> dict[str, str]:
        headers = self._all
        if headers is None:
            headers = self._all = {}
            for line in self._head.decode("latin-1").split("\r\n")[1:-2]:
                name, _, value = line.partition(":")
                name, value = name.lower(), value.strip(" \t")
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return headers


_line_starts: Final[dict[str, bytes]] = {}


def _line_start(name: str) -> bytes:
    """How the line of a header begins, the end of the line before it included; a bounded number is remembered."""
    start = f"\r\n{name}:".encode()
    if len(_line_starts) < _KNOWN_NAMES:
        _line_starts[name] = start
    return start
