"""Opens upstream connections: address guard, staggered connecting, proxies, TLS, all within one limit of time.

Decides in which order addresses are tried and when the next one starts. It knows nothing of pools, requests or
responses: what it hands over is a connected protocol. Foreign exceptions become ours here and nowhere else.

Whatever ends `open` (a winner, a failure, the limit, a cancellation), every socket but the winner's is closed.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, cast

from crossfade.core.errors import ConnectFailed, TimedOut
from crossfade.core.failure import Phase
from crossfade.transport.addresses import literal_address, refusal
from crossfade.transport.endpoint import Endpoint
from crossfade.transport.proxies import Proxy
from crossfade.transport.resolve import Address, Lookup, Resolver

NEXT_ADDRESS_AFTER: Final = 0.25
"""Seconds for which an address may connect before the next one is started beside it."""

THREADS: Final = 6
"""Threads for what blocks: name lookups, and reading the trust store once per endpoint."""

_PROXY_ANSWER_BYTES: Final = 16 * 1024
_KEEPALIVE_AFTER: Final = 60  # seconds of silence before the kernel asks whether the peer is still there

P = TypeVar("P")
"""What asyncio takes for a protocol."""


class Dialler:
    """Dials endpoints. `ca_file` is trusted beside the default store (which honours SSL_CERT_FILE).

    `lookup` replaces the system's resolver: host and port to addresses; it may block.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, ca_file: str | None = None, lookup: Lookup | None = None
    ) -> None:
        self._loop, self._ca_file = loop, ca_file
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="crossfade-dial")
        self._resolver = Resolver(loop, self._executor, lookup)
        self._contexts: dict[tuple[str, int], asyncio.Future[ssl.SSLContext]] = {}
        self._is_closed = False

    async def open(self, endpoint: Endpoint, proxy: Proxy | None, limit: float, factory: Callable[[], P]) -> P:
        """A connected protocol, TLS and proxy included. Raises ConnectFailed, or TimedOut after `limit` seconds."""
        if self._is_closed:
            raise ConnectFailed("the transport is closed")
        try:
            async with asyncio.timeout(limit):
                return await self._open(endpoint, proxy, factory)
        except TimeoutError:
            raise TimedOut(f"no connection to {_name(endpoint)} within {limit:g} s", Phase.CONNECT) from None
        except ssl.SSLCertVerificationError as error:
            raise ConnectFailed(f"TLS with {_name(endpoint)} failed: {error.verify_message}") from error
        except ssl.SSLError as error:
            raise ConnectFailed(f"TLS with {_name(endpoint)} failed: {error.reason or error}") from error
        except OSError as error:
            raise ConnectFailed(f"cannot connect to {_name(endpoint)}: {error.strerror or error}") from error

    def close(self) -> None:
        """Refuses further dials and lets the threads go; a lookup that hangs is not waited for."""
        self._is_closed = True
        self._resolver.close()
        for context in self._contexts.values():
            context.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _open(self, endpoint: Endpoint, proxy: Proxy | None, factory: Callable[[], P]) -> P:
        context = await self._context(endpoint) if endpoint.scheme == "https" else None
        if proxy is None:
            found = await self._resolver.addresses(endpoint.host, endpoint.port)
            addresses: Sequence[Address] = _allowed(endpoint, found)
        else:
            _check_literal(endpoint)
            addresses = await self._resolver.addresses(proxy.host, proxy.port)
        connected = await first_connected(addresses, self._connect)
        try:
            if proxy is not None and context is not None:
                await self._tunnel(connected, endpoint, proxy)
            server_name = endpoint.host.strip("[]") if context is not None else None
            _, protocol = await self._loop.create_connection(
                cast(Callable[[], asyncio.Protocol], factory), sock=connected, ssl=context, server_hostname=server_name
            )
        except BaseException:
            connected.close()
            raise
        return cast(P, protocol)

    async def _connect(self, address: Address) -> socket.socket:
        family, socket_address = address
        connecting = socket.socket(family, socket.SOCK_STREAM)
        try:
            connecting.setblocking(False)
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):
                connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_AFTER)
            await self._loop.sock_connect(connecting, socket_address)
        except BaseException:
            connecting.close()
            raise
        return connecting

    async def _tunnel(self, connected: socket.socket, endpoint: Endpoint, proxy: Proxy) -> None:
        """CONNECT through the proxy. What it says behind its 200 would be read as the target's TLS, so there must be
        nothing."""
        authority = f"{_bracketed(endpoint.host)}:{endpoint.port}"
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        await self._loop.sock_sendall(connected, "\r\n".join([*lines, "", ""]).encode("ascii"))
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = await self._loop.sock_recv(connected, _PROXY_ANSWER_BYTES)
            answer += data
            if not data or len(answer) > _PROXY_ANSWER_BYTES:
                raise ConnectFailed(f"the proxy {proxy.host}:{proxy.port} gave no answer to CONNECT")
        version, _, rest = answer.partition(b" ")
        status = rest[:3].decode("latin-1")
        if version not in (b"HTTP/1.1", b"HTTP/1.0") or status != "200" or not answer.endswith(b"\r\n\r\n"):
            raise ConnectFailed(f"the proxy {proxy.host}:{proxy.port} refused to connect to {authority}: {status!r}")

    async def _context(self, endpoint: Endpoint) -> ssl.SSLContext:
        """The context of the endpoint, made in a thread: reading a trust store takes tens of milliseconds."""
        key = (endpoint.host, endpoint.port)
        making = self._contexts.get(key)
        if making is None or (making.done() and (making.cancelled() or making.exception() is not None)):
            made = self._executor.submit(client_context, self._ca_file)
            making = self._contexts[key] = asyncio.wrap_future(made, loop=self._loop)
        await asyncio.wait((making,))
        if making.cancelled():
            raise ConnectFailed("the transport is closed")
        if isinstance(error := making.exception(), OSError):  # an unreadable file, or one without certificates
            raise ConnectFailed(f"the trusted certificates cannot be read: {error.strerror or error}") from error
        return making.result()


def client_context(ca_file: str | None = None) -> ssl.SSLContext:
    """A context that verifies chain and host name, TLS 1.2 at least. Raises OSError where `ca_file` cannot be read."""
    context = ssl.create_default_context()  # the default store, or what SSL_CERT_FILE and SSL_CERT_DIR name
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


async def first_connected(
    addresses: Sequence[Address], connect: Callable[[Address], Awaitable[socket.socket]]
) -> socket.socket:
    """The socket of the address that connects first. The next address starts when one has failed, or has taken
    `NEXT_ADDRESS_AFTER` seconds. Raises the last OSError when all have failed."""
    if len(addresses) == 1:
        return await connect(addresses[0])
    waiting = deque(addresses)
    running: set[asyncio.Future[socket.socket]] = set()
    last_error: BaseException = OSError("no address")
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.ensure_future(connect(waiting.popleft())))
            timeout = NEXT_ADDRESS_AFTER if waiting else None
            done, _ = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                if (error := attempt.exception()) is None:
                    running.discard(attempt)
                    return attempt.result()
                running.discard(attempt)
                last_error = error
        raise last_error
    finally:
        _end_all(running)


def _end_all(attempts: set[asyncio.Future[socket.socket]]) -> None:
    """Cancels attempts and closes what they have connected, or are just connecting. Waiting for them here could be
    cancelled itself, and the winner's socket would be lost with it."""
    for attempt in attempts:
        attempt.add_done_callback(_close_result)
        attempt.cancel()


def _close_result(attempt: asyncio.Future[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _allowed(endpoint: Endpoint, addresses: Sequence[Address]) -> list[Address]:
    refusals = [refusal(str(address[1][0]), endpoint.host, endpoint.network) for address in addresses]
    allowed = [address for address, refused in zip(addresses, refusals, strict=True) if refused is None]
    if not allowed:
        why = next(filter(None, refusals), "it has no address")
        raise ConnectFailed(f"{_name(endpoint)} is not called: {why}")
    return allowed


def _check_literal(endpoint: Endpoint) -> None:
    """Behind a proxy a name's address is the proxy's affair, and reaching private ones may be its purpose; a literal
    that is never called is refused all the same."""
    if literal_address(endpoint.host) is not None and (why := refusal(endpoint.host, endpoint.host, "private")):
        raise ConnectFailed(f"{_name(endpoint)} is not called: {why}")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _name(endpoint: Endpoint) -> str:
    return f"{_bracketed(endpoint.host)}:{endpoint.port}"
