"""Upstream calls over HTTP/1.1: pooled connections, dialled where none is idle.

Decides which connection a call goes out on and what its sink hears. It knows nothing of providers, of what an answer
means, or of limits of time but the connect limit. On a pooled connection a call costs no task and no timer: `send`
writes, and facts reach the sink from within the connection's `data_received`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from crossfade.core.errors import ConnectFailed, TransportError
from crossfade.http1.client import ClientConnection, Exchange, RequestWriter
from crossfade.http1.outbox import Outbox
from crossfade.transport.base import Call, ResponseHead, ResponseSink, Transport, UpstreamRequest
from crossfade.transport.dial import Dialler
from crossfade.transport.endpoint import Endpoint
from crossfade.transport.pool import Lane, Pool, PoolLimits
from crossfade.transport.proxies import Proxy, ProxySettings
from crossfade.transport.resolve import Lookup

SWEEP_EVERY: Final = 1.0
"""Seconds between looks for connections that have idled too long; none are taken while none idles."""

_MANY_ROADS: Final = 1024  # endpoints come from the configuration; reloads leave old ones behind


class HttpTransport(Transport):
    """The transport over real sockets.

    `proxies` is an environment (HTTP_PROXY and its kin; empty: direct connections); `ca_file` is trusted beside the
    default store; `lookup` replaces the system's resolver. `repr` shows how many connections are in which state.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        limits: PoolLimits | None = None,
        proxies: Mapping[str, str] | None = None,
        ca_file: str | None = None,
        lookup: Lookup | None = None,
    ) -> None:
        self.loop = loop
        self.outbox = Outbox(loop)
        self.dialler = Dialler(loop, ca_file=ca_file, lookup=lookup)
        self._pool: Pool[ClientConnection] = Pool(limits or PoolLimits(), loop.time, self._watch_idle)
        self._proxies = ProxySettings(proxies or {})
        self._roads: dict[Endpoint, _Road] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"HttpTransport({self._pool!r})"

    def send(self, request: UpstreamRequest, sink: ResponseSink) -> Call:
        """Sends on an idle connection, at once, or dials, or waits for its turn. Never raises: what is wrong with the
        request itself is a ConnectFailed that the sink hears after `send` has returned."""
        try:
            road = self._roads.get(request.endpoint) or self._new_road(request.endpoint)
            head = road.writer.head(request.method, request.path, request.headers, len(request.body))
        except ConnectFailed as error:
            return _FailedCall(self.loop, sink, error)
        except ValueError as error:
            return _FailedCall(self.loop, sink, ConnectFailed(f"the request cannot be sent: {error}"))
        call = HttpCall(self, road, request, head, sink)
        connection = road.lane.take(self.loop.time())
        if connection is not None:
            call.use(connection)
        else:
            road.lane.claim(call)
        return call

    def close(self) -> None:
        """Closes idle connections, refuses new calls and dials; calls in work may end. Twice is harmless."""
        self._is_closed = True
        self._pool.close()
        self.dialler.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _new_road(self, endpoint: Endpoint) -> _Road:
        if self._is_closed:
            raise ConnectFailed("the transport is closed")
        if len(self._roads) >= _MANY_ROADS:
            kept = set(map(id, self._pool.remove_empty()))
            self._roads = {known: road for known, road in self._roads.items() if id(road.lane) in kept}
        proxy = self._proxies.proxy_for(endpoint)
        road = _Road(endpoint, proxy, self._pool.add(endpoint.keep_idle))
        self._roads[endpoint] = road
        return road

    def _watch_idle(self) -> None:
        self._sweeper = self.loop.call_later(SWEEP_EVERY, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        if self._pool.close_expired():
            self._watch_idle()


class _Road:
    """What all calls to one endpoint share: its connections, its proxy, its rendered head."""

    __slots__ = ("endpoint", "is_forwarded", "lane", "proxy", "writer")

    def __init__(self, endpoint: Endpoint, proxy: Proxy | None, lane: Lane[ClientConnection]) -> None:
        self.endpoint, self.proxy, self.lane = endpoint, proxy, lane
        # http targets behind a proxy are asked for in absolute form; https ones through a tunnel, as if direct.
        self.is_forwarded = proxy is not None and endpoint.scheme == "http"
        authority = endpoint.authority
        fixed: tuple[tuple[str, str], ...] = ()
        if self.is_forwarded and proxy is not None and proxy.authorization is not None:
            fixed = (("Proxy-Authorization", proxy.authorization),)
        prefix = f"http://{authority}" if self.is_forwarded else ""
        self.writer = RequestWriter(authority, target_prefix=prefix, fixed=fixed)


class _Nobody(ResponseSink):
    """The sink of a call that is over."""

    def on_sent(self) -> None: ...

    def on_head(self, head: ResponseHead) -> None: ...

    def on_body(self, data: bytes) -> None: ...

    def on_end(self) -> None: ...

    def on_failure(self, error: TransportError) -> None: ...


_NOBODY: Final = _Nobody()


class HttpCall(Exchange, Call):
    """One call: a claimant of a connection, then the exchange on it. At any moment it has at most one of: a place in
    the queue, a task that dials, a connection."""

    __slots__ = ("_connection", "_head", "_is_over", "_is_paused", "_is_sent", "_request", "_road", "_sink", "_task",
                 "_transport")  # fmt: skip

    def __init__(
        self, transport: HttpTransport, road: _Road, request: UpstreamRequest, head: bytes, sink: ResponseSink
    ) -> None:
        self._transport, self._road, self._request, self._head, self._sink = transport, road, request, head, sink
        self._connection: ClientConnection | None = None
        self._task: asyncio.Task[ClientConnection] | None = None
        self._is_over = self._is_paused = self._is_sent = False

    # -- the caller's side (Call)

    def abort(self) -> None:
        """Ends the call at once, whatever it waits for; the sink hears nothing more. Twice is harmless."""
        if self._is_over:
            return
        self._is_over = True
        self._sink = _NOBODY
        self._road.lane.leave(self)
        if self._task is not None:
            self._task.cancel()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def pause(self) -> None:
        """Stops reading until `resume`; before there is a connection, it will not be read at first."""
        self._is_paused = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Reads on."""
        self._is_paused = False
        if self._connection is not None:
            self._connection.resume()

    # -- the lane's side (Claimant)

    def use(self, connection: ClientConnection) -> None:
        """Sends the request on `connection`."""
        self._connection = connection
        request = self._request
        is_head = request.method == "HEAD"
        connection.start(self._head, request.body, self, self._sink.on_body, is_head, request.is_relayed)
        if self._is_paused:
            connection.pause()
        if not self._is_sent:  # a redial is nobody's affair
            self._is_sent = True
            self._sink.on_sent()

    def dial(self) -> None:
        """Starts to dial; the lane has counted it already."""
        self._task = self._transport.loop.create_task(self._open())
        self._task.add_done_callback(self._on_dialled)

    # -- the connection's side (Exchange)

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        """The response has begun."""
        if status == 407 and self._road.is_forwarded:
            if self._connection is not None:
                self._connection.close()
            self.on_failure(ConnectFailed("the proxy wants other credentials (407)"))
            return
        self._sink.on_head(ResponseHead(status, headers))

    def on_end(self) -> None:
        """The response is whole."""
        self._let_go().on_end()

    def on_failure(self, error: TransportError) -> None:
        """The call has failed."""
        if not self._is_over:
            self._let_go().on_failure(error)

    def _let_go(self) -> ResponseSink:
        """The sink, for the last it hears. It knows this call: a cycle would keep both until the collector comes."""
        self._is_over = True
        self._connection = None
        sink, self._sink = self._sink, _NOBODY
        return sink

    def on_stale(self) -> None:
        """The reused connection had been closed by its server: once more, on a new one, which cannot be stale."""
        self._connection = None
        self._road.lane.begin_redial()
        self.dial()

    # -- dialling

    def _on_dialled(self, task: asyncio.Task[ClientConnection]) -> None:
        # A callback of the task and not its last lines: those do not run in a task that is cancelled before it starts.
        self._task = None
        connection = None if task.cancelled() or task.exception() is not None else task.result()
        if connection is not None and (self._is_over or not connection.is_usable):
            connection.close()
            connection = None
        self._road.lane.end_dial(connection)
        if self._is_over:
            return
        if connection is not None:
            self.use(connection)
        else:
            self.on_failure(self._dial_failure(task))

    def _dial_failure(self, task: asyncio.Task[ClientConnection]) -> TransportError:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if isinstance(error, TransportError):
            return error
        if error is None:
            authority = self._road.endpoint.authority
            return ConnectFailed(f"{authority} closed the connection before the request was sent")
        # A fault of ours: reported, and the sink must hear an end all the same.
        self._transport.loop.call_exception_handler({"message": "dialling failed", "exception": error})
        return ConnectFailed(f"dialling failed: {type(error).__name__}")

    async def _open(self) -> ClientConnection:
        road, limit, transport = self._road, self._request.connect_timeout, self._transport
        limit = road.endpoint.connect_timeout if limit is None else limit
        return await transport.dialler.open(
            road.endpoint, road.proxy, limit, lambda: ClientConnection(road.lane, transport.outbox)
        )


class _FailedCall(Call):
    """A call that cannot even begin; its sink hears so in the next turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sink: ResponseSink, error: TransportError) -> None:
        self._handle = loop.call_soon(sink.on_failure, error)

    def abort(self) -> None:
        self._handle.cancel()

    def pause(self) -> None:
        """There is nothing to read."""

    def resume(self) -> None:
        """There is nothing to read."""
