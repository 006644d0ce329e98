"""The port to the outside: what an upstream call is asked with and what it reports.

A call never raises and never blocks: `Transport.send` returns at once and the sink hears, in this order,
`on_sent` (the request is with the kernel of a connected socket), `on_head`, any number of `on_body`, and then
exactly one of `on_end` and `on_failure`. After `Call.abort` it hears nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from crossfade.core.errors import TransportError
from crossfade.transport.endpoint import Endpoint


class UpstreamRequest:
    """One request on the wire. `path` has the query; `headers` are without Host, Content-Length and Connection,
    which the transport writes itself (and `accept-encoding: identity`). A tuple of headers is rendered once.
    `connect_timeout` None: the endpoint's. `target` (`provider/model`) is for fault injection only; it never reaches
    the wire. `is_relayed`: the answer is passed on as it comes, so no more of it is read than is being passed on."""

    __slots__ = (
        "body",
        "connect_timeout",
        "endpoint",
        "headers",
        "is_relayed",
        "method",
        "path",
        "target",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        method: str = "POST",
        connect_timeout: float | None = None,
        target: str = "",
        is_relayed: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self.path = path
        self.headers = headers
        self.body = body
        self.method = method
        self.connect_timeout = connect_timeout
        self.target = target
        self.is_relayed = is_relayed


class ResponseHead:
    """Status and headers of an upstream response; names are lower case, repeated ones joined with `, `."""

    __slots__ = ("headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers


class ResponseSink(Protocol):
    """What hears of an upstream call. Every method returns quickly and never raises."""

    __slots__ = ()

    def on_sent(self) -> None: ...

    def on_head(self, head: ResponseHead) -> None: ...

    def on_body(self, data: bytes) -> None: ...

    def on_end(self) -> None: ...

    def on_failure(self, error: TransportError) -> None: ...


class Call(Protocol):
    """A running upstream call."""

    __slots__ = ()

    def abort(self) -> None:
        """Ends the call at once; the connection is closed without a farewell. Twice is harmless."""

    def pause(self) -> None:
        """Stops reading from the upstream until `resume`."""

    def resume(self) -> None: ...


class Transport(Protocol):
    """Performs upstream calls."""

    __slots__ = ()

    def send(self, request: UpstreamRequest, sink: ResponseSink) -> Call: ...

    def close(self) -> None:
        """Closes idle connections and refuses new calls."""
