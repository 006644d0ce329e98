"""The port to the outside: what an upstream call is asked with and what it reports.

A call never raises and never blocks: `Transport.send` returns at once and the sink hears, in this order,
`on_sent` (the request is with the kernel of a connected socket), `on_head`, any number of `on_body`, and then
exactly one of `on_end` and `on_failure`. After `Call.abort` it hears nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from crossfade.core.errors import TransportError


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """Where a provider is reached. Connections are shared by equal endpoints.

    `network`: `public` refuses private addresses at dial time unless `host` is itself such a literal;
    `private` allows them. Link-local and metadata addresses are always refused. `keep_idle` is how many
    seconds an idle connection may be used again. `proxy` is an `http://` proxy address or None.
    """

    scheme: Literal["http", "https"]
    host: str
    port: int
    network: Literal["public", "private"] = "public"
    keep_idle: float = 4.0
    connect_timeout: float = 5.0
    proxy: str | None = None


class UpstreamRequest:
    """One request on the wire. `path` has the query; `headers` are without Host, Content-Length and Connection,
    which the transport writes itself (and `accept-encoding: identity`). A tuple of headers is rendered once."""

    __slots__ = (
        "body",
        "connect_timeout",
        "endpoint",
        "headers",
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
    ) -> None:
        self.endpoint = endpoint
        self.path = path
        self.headers = headers
        self.body = body
        self.method = method
        self.connect_timeout = connect_timeout
        self.target = target


class ResponseHead:
    """Status and headers of an upstream response; names are lower case, repeated ones joined with `, `."""

    __slots__ = (
        "headers",
        "status",
    )

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
    ) -> None:
        self.status = status
        self.headers = headers


class ResponseSink(Protocol):
    """What hears of an upstream call. Every method returns quickly and never raises."""

    def on_sent(self) -> None: ...

    def on_head(self, head: ResponseHead) -> None: ...

    def on_body(self, data: bytes) -> None: ...

    def on_end(self) -> None: ...

    def on_failure(self, error: TransportError) -> None: ...


class Call(Protocol):
    """A running upstream call."""

    def abort(self) -> None:
        """Ends the call at once; the connection is closed without a farewell. Twice is harmless."""

    def pause(self) -> None:
        """Stops reading from the upstream until `resume`."""

    def resume(self) -> None: ...


class Transport(Protocol):
    """Performs upstream calls."""

    def send(self, request: UpstreamRequest, sink: ResponseSink) -> Call: ...

    def close(self) -> None:
        """Closes idle connections and refuses new calls."""
