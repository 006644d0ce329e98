"""Reads a connection a few bytes at a time, in the place of the connection itself.

The loop reads up to 256 KiB at once, and what has been read has to be kept until a slow reader takes it. Decides
nothing; it costs a little for each read, so it is for connections that need it.
"""

from __future__ import annotations

from typing import Protocol


class Reading(Protocol):
    """The connection that is read for."""

    __slots__ = ()

    def on_small_read(self, data: bytes, is_full: bool) -> None:
        """`is_full`: there is probably more."""
        ...

    def eof_received(self) -> None: ...

    def connection_lost(self, error: Exception | None) -> None: ...


class SmallReads:
    """An `asyncio.BufferedProtocol` in all but its base. Reads at most `size` bytes at once."""

    __slots__ = ("_buffer", "_connection")

    def __init__(self, connection: Reading, size: int) -> None:
        self._connection = connection
        self._buffer = bytearray(size)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        buffer = self._buffer
        self._connection.on_small_read(bytes(buffer[:count]), count == len(buffer))

    def eof_received(self) -> None:
        self._connection.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._connection.connection_lost(error)

    def pause_writing(self) -> None:
        """A request is written whole, whatever its size."""

    def resume_writing(self) -> None:
        """As above."""
