"""The port to a provider's API: building requests to it, reading what it answers. Pure: no I/O, no clock.

One `Provider` is made per configured provider. Everything that it reads becomes canonical (`core.exchange`)
or a `Failure`; it never raises for what an upstream sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from crossfade.core.exchange import ChatRequest, Completion, Continuation, RequestFacts, StreamEvent
from crossfade.core.failure import Failure
from crossfade.core.target import Dialect, Target


class Inbound(Protocol):
    """The caller's request. The same dialect passes its bytes; another one is built from `canonical`."""

    @property
    def dialect(self) -> Dialect: ...

    @property
    def facts(self) -> RequestFacts: ...

    def canonical(self) -> ChatRequest:
        """The whole request, read once and kept. Raises InvalidRequest naming the field."""

    def body(self, target: Target, stream: bool, include_usage: bool, continuation: Continuation | None) -> bytes:
        """The caller's own bytes with what must differ for `target`: the model name, `stream`, the usage option,
        the target's set and dropped parameters, the turns of a continuation."""


class ProviderRequest:
    """What goes on the wire. `path` is relative to the provider's base URL and has the query.
    `dropped` names the caller's parameters that this dialect cannot express."""

    __slots__ = (
        "body",
        "dropped",
        "headers",
        "path",
    )

    def __init__(
        self,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        dropped: tuple[str, ...] = (),
    ) -> None:
        self.path = path
        self.headers = headers
        self.body = body
        self.dropped = dropped


class StreamReader(Protocol):
    """Reads one stream. Bytes in, events out; tolerant of any split of the bytes."""

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

    @property
    def undecodable(self) -> int: ...


class Provider(Protocol):
    """One provider's API."""

    dialect: Dialect

    def request(
        self,
        inbound: Inbound,
        target: Target,
        secret: str | None,
        stream: bool,
        continuation: Continuation | None = None,
    ) -> ProviderRequest:
        """Raises InvalidRequest where the request cannot be put into this dialect at all."""

    def request_id(self, headers: Mapping[str, str]) -> str | None:
        """The provider's own name of an exchange, from the head of its answer; without any key that was sent."""

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an answer with a status other than 2xx means, by the provider's own code, type and message."""

    def completion(self, body: bytes) -> Completion | Failure:
        """A 2xx body; a Failure for one that is no answer (an error in a 200, no JSON, no choices)."""

    def reader(self, facts: RequestFacts) -> StreamReader: ...
