"""What a dialect must be able to say for the simulator, and how an event stream is made of it.

It knows nothing of faults or sockets.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import msgspec

from crossfade.simulator.answers import Answer
from crossfade.simulator.ask import Ask

Part = Literal["opening", "content", "closing", "finish", "usage", "marker"]

CREATED = 1_767_225_600  # every answer is of the same second, so that equal calls have equal answers


class Event(msgspec.Struct, frozen=True):
    """One event of a stream as its bytes, and which part of the answer it is."""

    data: bytes
    part: Part


class ErrorReply(msgspec.Struct, frozen=True):
    """An error as the dialect words it."""

    status: int
    body: dict[str, Any]
    headers: tuple[tuple[str, str], ...] = ()


class Wait(msgspec.Struct, frozen=True):
    """A hint for how long to stay away: seconds, and whether header or body give it, as `faults.Step` says."""

    seconds: float
    form: str = "native"


class Dialect(Protocol):
    """One provider API. `number` counts the calls of the simulator and makes ids."""

    name: str

    def read(self, path: str, query: str, body: dict[str, Any]) -> Ask:
        """The request. Raises BadAsk with words for the caller."""
        ...

    def whole(self, ask: Ask, answer: Answer, number: int) -> dict[str, Any]:
        """The body of a buffered answer."""
        ...

    def no_choices(self, ask: Ask, number: int) -> dict[str, Any]:
        """The envelope of an answer without any answer in it."""
        ...

    def events(self, ask: Ask, answer: Answer, number: int) -> list[Event]: ...

    def event(self, ask: Ask, text: bytes) -> bytes:
        """Any text as one event."""
        ...

    def stream_type(self, ask: Ask) -> str:
        """The content type of a stream."""
        ...

    def comment(self, ask: Ask) -> bytes:
        """A keep-alive."""
        ...

    def error(self, name: str, ask: Ask | None, message: str | None = None, wait: Wait | None = None) -> ErrorReply:
        """What the status fault `name` looks like here."""
        ...

    def error_event(self, ask: Ask, error: ErrorReply) -> bytes:
        """The error inside a stream, with all that follows it."""
        ...

    def blocked(self, ask: Ask, number: int) -> ErrorReply | Answer:
        """A blocked prompt: a refusing answer, or a reply (of status 200 where that is the provider's way)."""
        ...

    def headers(self, number: int) -> tuple[tuple[str, str], ...]:
        """The headers of every response."""
        ...


def encode(value: object) -> bytes:
    """Compact JSON."""
    return msgspec.json.encode(value)


def sse(data: bytes, event: str = "", end: bytes = b"\n") -> bytes:
    """One server-sent event."""
    name = b"event: " + event.encode() + end if event else b""
    return name + b"data: " + data + end + end


def in_seconds(seconds: float) -> str:
    """A duration without a needless fraction: `7`, `0.25`."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".")
