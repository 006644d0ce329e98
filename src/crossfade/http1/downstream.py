"""The port by which an answer is given, whoever asked for it."""

from __future__ import annotations

from typing import Protocol

from crossfade.http1.head import Fields


class Downstream(Protocol):
    """The caller's connection, as far as an answer needs it. All methods do nothing once the caller has gone."""

    __slots__ = ()

    @property
    def unsent(self) -> int:
        """Bytes written that the caller has not yet taken."""
        ...

    def respond(self, status: int, headers: Fields, body: bytes) -> None: ...

    def start(self, status: int, headers: Fields) -> None: ...

    def write(self, data: bytes) -> None: ...

    def finish(self, data: bytes = b"") -> None: ...

    def fail(self, error: Exception) -> None:
        """Ends an answer that could not be written, because of `error`, which is reported: as a 500 if nothing of it
        has left, else so that the caller sees that it has no end."""
