"""The port by which a stream is read, whatever dialect and framing it is in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from crossfade.core.exchange import StreamEvent


class Framing:
    """How a stream is cut into events on the wire. `media_type` is what a body of it is announced as; `starts`: how
    one begins that is announced as something else."""

    __slots__ = ("longest", "media_type", "starts")

    def __init__(self, media_type: str, starts: tuple[bytes, ...]) -> None:
        self.media_type = media_type
        self.starts = starts
        self.longest = max([len(start) for start in starts])
        """Bytes after which it is known whether a body begins so."""

    def __repr__(self) -> str:
        return f"<Framing {self.media_type}>"


class StreamReader(Protocol):
    """Reads one stream. Bytes in, events out; tolerant of any split of the bytes."""

    __slots__ = ()

    undecodable: int

    @property
    def framing(self) -> Framing:
        """What the bytes of such a stream look like before they are read."""

    def feed(self, data: bytes) -> Sequence[StreamEvent]:
        """The events that `data` completes. An event that cannot be decoded is skipped and counted in
        `undecodable`; more than 1 MiB without an event's end gives an event with a failure."""

    def more_text(self, data: bytes) -> tuple[bytes, str] | None:
        """The event and its text where `data` is one whole event that only goes on with the text of the event before:
        `feed` would give it with this `raw` and `text`, and nothing more to decide on. None otherwise, and then
        nothing is taken. Never raises. It is for streams that are passed on, and may be None always."""

    def close(self) -> Sequence[StreamEvent]:
        """What the end of the body completes (a last event without its blank line)."""

    @property
    def is_complete(self) -> bool:
        """Whether the stream has come to the provider's own end; true before the body's end where a marker says so."""
