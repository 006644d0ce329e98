"""The port to a provider's API: building requests to it, reading what it answers. Pure: no I/O, no clock.

One `Provider` is made per configured provider. Everything that it reads becomes canonical (`core.exchange`)
or a `Failure`; it never raises for what an upstream sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from crossfade.core.credential import Secret
from crossfade.core.exchange import ChatRequest, Completion, Continuation, RequestFacts
from crossfade.core.failure import Failure
from crossfade.core.target import Dialect, Target
from crossfade.wire.reader import StreamReader


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


Sign = Callable[[float, str, str], Sequence[tuple[str, str]]]
"""Gives the headers that prove a request, for the Unix time, the Host header and the whole path it is sent with."""


class ProviderRequest:
    """What goes on the wire. `path` is relative to the provider's base URL and has the query.
    `dropped` names the caller's parameters that this dialect cannot express. `sign` is there where a request is proven
    by a signature: what it gives is sent beside `headers`."""

    __slots__ = (
        "body",
        "dropped",
        "headers",
        "path",
        "sign",
    )

    def __init__(
        self,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        dropped: tuple[str, ...] = (),
        sign: Sign | None = None,
    ) -> None:
        self.path = path
        self.headers = headers
        self.body = body
        self.dropped = dropped
        self.sign = sign


class Provider(Protocol):
    """One provider's API."""

    __slots__ = ()

    dialect: Dialect

    def request(
        self,
        inbound: Inbound,
        target: Target,
        secret: Secret | None,
        stream: bool,
        continuation: Continuation | None = None,
    ) -> ProviderRequest:
        """Raises InvalidRequest where the request cannot be put into this dialect at all."""

    def credential(self, secret: Secret | None) -> Sequence[tuple[str, str]]:
        """The headers that a key is sent in; none for what signs."""

    def request_id(self, headers: Mapping[str, str]) -> str | None:
        """The provider's own name of an exchange, from the head of its answer; without any key that was sent."""

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an answer with a status other than 2xx means, by the provider's own code, type and message."""

    def completion(self, body: bytes, facts: RequestFacts) -> Completion | Failure:
        """A 2xx body; a Failure for one that is no answer (an error in a 200, no JSON, no choices)."""

    def reader(self, facts: RequestFacts) -> StreamReader: ...
