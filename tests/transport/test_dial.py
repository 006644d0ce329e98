"""Dialling: staggered addresses, names, the guard in use, TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from crossfade.core.errors import ConnectFailed, TimedOut
from crossfade.transport import dial, resolve
from crossfade.transport.dial import Dialler, client_context, first_connected
from crossfade.transport.http import HttpTransport
from crossfade.transport.resolve import Address, Resolver, interleaved
from tests.support import run
from tests.transport.support import (
    FullBacklog,
    Leftovers,
    Server,
    Sink,
    answers,
    endpoint,
    free_port,
    request_to,
    serving,
    until,
)


def at(port: int, host: str = "127.0.0.1") -> Address:
    return (socket.AF_INET, (host, port))


async def asked(transport: HttpTransport, port: int, **changes: Any) -> Sink:
    sink = Sink()
    transport.send(request_to(port, **changes), sink)
    await sink.over.wait()
    return sink


# -- addresses


def test_families_are_interleaved_beginning_with_the_preferred_one() -> None:
    six = [(socket.AF_INET6, (f"::{n}", 1, 0, 0)) for n in range(3)]
    four = [(socket.AF_INET, (f"10.0.0.{n}", 1)) for n in range(2)]
    assert interleaved([*six, *four]) == [six[0], four[0], six[1], four[1], six[2]]
    assert interleaved([*four, *six]) == [four[0], six[0], four[1], six[1], six[2]]
    assert interleaved([]) == []


def test_the_next_address_starts_at_once_when_one_is_refused() -> None:
    async def main() -> None:
        async with serving(answers) as server:
            found = [at(free_port()), at(free_port()), at(server.port)]
            transport = HttpTransport(loop=asyncio.get_running_loop(), lookup=lambda host, port: found)
            assert (await asked(transport, 80, host="api.example.com", network="private")).body == b"ok"
            transport.close()

    run(main())


def test_an_address_that_does_not_answer_does_not_hold_up_the_next_one() -> None:
    async def main() -> None:
        left = Leftovers()
        async with serving(answers) as server:
            with FullBacklog() as full:
                found = [at(full.port), at(server.port)]
                transport = HttpTransport(loop=asyncio.get_running_loop(), lookup=lambda host, port: found)
                sink = await asked(transport, 80, host="a.example", network="private", connect_timeout=15.0)
                assert sink.body == b"ok"
                transport.close()
        await left.are_gone()

    run(main())


def test_the_first_to_connect_wins_and_the_others_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "NEXT_ADDRESS_AFTER", 0.0)

    async def main() -> None:
        made: dict[int, socket.socket] = {}
        started: list[int] = []
        go_on: dict[int, asyncio.Event] = {n: asyncio.Event() for n in range(3)}

        async def connect(address: Address) -> socket.socket:
            number: int = address[1][1]
            started.append(number)
            await go_on[number].wait()
            made[number] = socket.socket()
            return made[number]

        winning = asyncio.create_task(first_connected([at(0), at(1), at(2)], connect))
        await until(lambda: len(started) == 3, "all started")
        assert started == [0, 1, 2]
        go_on[1].set()
        go_on[2].set()
        winner = await winning
        assert winner in made.values()
        await until(lambda: all(each.fileno() == -1 for each in made.values() if each is not winner), "closed")
        assert winner.fileno() != -1
        winner.close()

    run(main())


def test_all_refused_gives_the_last_error() -> None:
    async def main() -> None:
        found = [at(free_port()), at(free_port())]
        transport = HttpTransport(loop=asyncio.get_running_loop(), lookup=lambda host, port: found)
        sink = await asked(transport, 80, host="api.example.com", network="private")
        assert isinstance(sink.error, ConnectFailed)
        assert "api.example.com:80" in sink.error.detail
        transport.close()

    run(main())


def test_sockets_have_no_delay_and_are_kept_alive() -> None:
    async def main() -> None:
        async with serving(answers) as server:
            dialler = Dialler(asyncio.get_running_loop())
            connected = await dialler._connect(at(server.port))
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            connected.close()
            dialler.close()

    run(main())


# -- the guard


def test_a_name_that_leads_inside_is_refused_unless_the_network_is_private() -> None:
    async def main() -> None:
        async with serving(answers) as server:
            transport = HttpTransport(loop=asyncio.get_running_loop(), lookup=lambda host, port: [at(server.port)])
            sink = await asked(transport, 80, host="api.example.com")
            assert isinstance(sink.error, ConnectFailed)
            assert "network: private" in sink.error.detail
            assert server.accepted == 0
            assert (await asked(transport, 80, host="api.example.com", network="private")).body == b"ok"
            transport.close()

    run(main())


def test_only_the_allowed_addresses_of_a_name_are_dialled() -> None:
    async def main() -> None:
        async with serving(answers) as server:
            found = [at(80, "169.254.169.254"), at(server.port)]
            transport = HttpTransport(loop=asyncio.get_running_loop(), lookup=lambda host, port: found)
            assert (await asked(transport, 80, host="api.example.com", network="private")).body == b"ok"
            transport.close()

    run(main())


@pytest.mark.parametrize("host", ["169.254.169.254", "[fd00:ec2::254]", "0.0.0.0", "::ffff:169.254.169.254"])
def test_literals_that_are_never_called(host: str) -> None:
    async def main() -> None:
        transport = HttpTransport(loop=asyncio.get_running_loop())
        sink = await asked(transport, 80, host=host, network="private")
        assert isinstance(sink.error, ConnectFailed)
        assert "is not called" in sink.error.detail
        transport.close()

    run(main())


# -- names


class CountingLookup:
    """Answers, or raises, what the test says; holds while `gate` is shut."""

    def __init__(self) -> None:
        self.count = 0
        self.answer: Sequence[Address] | Exception = [at(1)]
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.count += 1
        self.gate.wait(10)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def resolving(body: Callable[[Resolver, CountingLookup], object]) -> None:
    async def main() -> None:
        lookup = CountingLookup()
        with ThreadPoolExecutor(2) as executor:
            resolver = Resolver(asyncio.get_running_loop(), executor, lookup)
            await body(resolver, lookup)  # type: ignore[misc]

    run(main())


def test_concurrent_lookups_of_one_host_share_one_and_the_answer_is_kept() -> None:
    async def body(resolver: Resolver, lookup: CountingLookup) -> None:
        lookup.gate.clear()
        both = asyncio.gather(resolver.addresses("a.example", 1), resolver.addresses("A.example", 1))
        await until(lambda: lookup.count == 1, "asked")
        lookup.gate.set()
        assert list(await both) == [[at(1)], [at(1)]]
        await resolver.addresses("a.example", 1)
        assert lookup.count == 1

    resolving(body)


def test_a_lookup_goes_on_for_the_others_when_one_leaves() -> None:
    async def body(resolver: Resolver, lookup: CountingLookup) -> None:
        lookup.gate.clear()
        leaving = asyncio.create_task(resolver.addresses("a.example", 1))
        staying = asyncio.create_task(resolver.addresses("a.example", 1))
        await until(lambda: lookup.count == 1, "asked")
        leaving.cancel()
        await asyncio.sleep(0)
        lookup.gate.set()
        assert await staying == [at(1)]
        assert leaving.cancelled()

    resolving(body)


def test_the_last_good_addresses_are_used_when_a_later_lookup_fails_or_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "KEEP_ADDRESSES", 0.0)
    monkeypatch.setattr(resolve, "STALE_AFTER", 0.01)

    async def body(resolver: Resolver, lookup: CountingLookup) -> None:
        await resolver.addresses("a.example", 1)
        lookup.answer = socket.gaierror(-2, "Name or service not known")
        await until(lambda: resolver._loop.time() > 0)
        assert await resolver.addresses("a.example", 1) == [at(1)]
        lookup.gate.clear()
        assert await resolver.addresses("a.example", 1) == [at(1)]
        lookup.gate.set()
        assert lookup.count == 3

    resolving(body)


def test_a_failed_lookup_is_a_connect_error_and_is_asked_again() -> None:
    async def body(resolver: Resolver, lookup: CountingLookup) -> None:
        failures: list[Sequence[Address] | Exception] = [
            socket.gaierror(-2, "Name or service not known"),
            UnicodeError("label too long"),
            [],
        ]
        for lookup.answer in failures:
            with pytest.raises(ConnectFailed, match=r"'a\.example' cannot be resolved"):
                await resolver.addresses("a.example", 1)
        assert lookup.count == 3

    resolving(body)


def test_a_lookup_that_hangs_ends_at_the_connect_limit() -> None:
    async def main() -> None:
        lookup = CountingLookup()
        lookup.gate.clear()
        transport = HttpTransport(loop=asyncio.get_running_loop(), lookup=lookup)
        sink = await asked(transport, 80, host="a.example", connect_timeout=0.05)
        assert isinstance(sink.error, TimedOut)
        transport.close()
        lookup.gate.set()

    run(main())


def test_literals_are_not_looked_up() -> None:
    async def body(resolver: Resolver, lookup: CountingLookup) -> None:
        assert await resolver.addresses("127.0.0.1", 5) == [(socket.AF_INET, ("127.0.0.1", 5))]
        assert await resolver.addresses("[::1]", 5) == [(socket.AF_INET6, ("::1", 5, 0, 0))]
        assert lookup.count == 0

    resolving(body)


# -- TLS


def test_tls_with_a_private_authority_is_verified_and_reused(ca_file: str, server_tls: ssl.SSLContext) -> None:
    async def main() -> None:
        async with serving(answers, ssl=server_tls) as server:
            transport = HttpTransport(loop=asyncio.get_running_loop(), ca_file=ca_file)
            for _ in range(3):
                assert (await asked(transport, server.port, scheme="https", host="localhost")).body == b"ok"
            assert server.accepted == 1
            transport.close()

    run(main())


def test_ssl_cert_file_is_honoured(ca_file: str, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)

    async def main() -> None:
        async with serving(answers, ssl=server_tls) as server:
            transport = HttpTransport(loop=asyncio.get_running_loop())
            assert (await asked(transport, server.port, scheme="https", host="localhost")).body == b"ok"
            transport.close()

    run(main())


def test_the_server_hears_the_name_it_is_asked_for(ca_file: str, server_tls: ssl.SSLContext) -> None:
    names: list[str | None] = []
    server_tls.sni_callback = lambda connection, name, context: names.append(name)

    async def main() -> None:
        async with serving(answers, ssl=server_tls) as server:
            transport = HttpTransport(
                loop=asyncio.get_running_loop(), ca_file=ca_file, lookup=lambda host, port: [at(server.port)]
            )
            sink = await asked(transport, 443, scheme="https", host="api.example.com", network="private")
            assert sink.body == b"ok"
            assert names == ["api.example.com"]
            assert b"\r\nHost: api.example.com\r\n" in server.requests[0]
            transport.close()

    try:
        run(main())
    finally:
        server_tls.sni_callback = None


@pytest.mark.parametrize("is_trusted", [True, False])
def test_an_unknown_authority_or_another_name_is_a_connect_error(
    is_trusted: bool, ca_file: str, server_tls: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with serving(answers, ssl=server_tls) as server:
            left = Leftovers()
            transport = HttpTransport(loop=asyncio.get_running_loop(), ca_file=ca_file if is_trusted else None)
            host = "127.0.0.1" if is_trusted else "localhost"
            sink = await asked(transport, server.port, scheme="https", host=host)
            assert isinstance(sink.error, ConnectFailed)
            assert sink.error.detail.startswith("TLS with")
            assert server.requests == []
            await left.are_gone()
            transport.close()

    run(main())


def test_a_server_without_tls_is_a_connect_error() -> None:
    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 The plain HTTP request was sent to HTTPS port\r\n\r\n")

    async def main() -> None:
        async with serving(handle) as server:
            transport = HttpTransport(loop=asyncio.get_running_loop())
            sink = await asked(transport, server.port, scheme="https")
            assert sink.facts == [("failure", "ConnectFailed")]
            transport.close()

    run(main())


def test_a_handshake_that_hangs_ends_at_the_connect_limit() -> None:
    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        async with serving(handle) as server:
            left = Leftovers()
            transport = HttpTransport(loop=asyncio.get_running_loop())
            sink = await asked(transport, server.port, scheme="https", connect_timeout=0.3)
            assert isinstance(sink.error, TimedOut)
            await left.are_gone()
            transport.close()

    run(main())


@pytest.mark.parametrize("is_rude", [True, False])
def test_a_tls_body_that_ends_without_a_farewell_is_an_interruption(
    is_rude: bool, ca_file: str, server_tls: ssl.SSLContext
) -> None:
    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nok")
        await told.wait()
        if is_rude:
            writer.transport.abort()

    async def main() -> None:
        async with serving(handle, ssl=server_tls) as server:
            transport = HttpTransport(loop=asyncio.get_running_loop(), ca_file=ca_file)
            sink = Sink()
            transport.send(request_to(server.port, scheme="https", host="localhost"), sink)
            await sink.reaches("body")
            told.set()
            await sink.over.wait()
            end = ("failure", "Interrupted") if is_rude else ("end", None)
            assert sink.facts[1:] == [("head", 200), ("body", b"ok"), end]
            transport.close()

    told = asyncio.Event()
    run(main())


def test_contexts_verify_and_speak_tls_1_2_at_least() -> None:
    context = client_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_an_authority_that_cannot_be_read_is_a_connect_error() -> None:
    async def main() -> None:
        async with serving(answers) as server:
            transport = HttpTransport(loop=asyncio.get_running_loop(), ca_file="/nowhere/ca.pem")
            for _ in range(2):
                sink = await asked(transport, server.port, scheme="https")
                assert isinstance(sink.error, ConnectFailed)
                assert "trusted certificates" in sink.error.detail
            transport.close()

    run(main())


def test_ipv6_literals_are_bracketed_in_host() -> None:
    assert endpoint(1).host == "127.0.0.1"

    async def main() -> None:
        listener = await asyncio.start_server(handle, "::1", 0)
        transport = HttpTransport(loop=asyncio.get_running_loop())
        port = listener.sockets[0].getsockname()[1]
        assert (await asked(transport, port, host="::1")).body == b"ok"
        assert b"\r\nHost: [::1]:%d\r\n" % port in heads[0]
        transport.close()
        listener.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    heads: list[bytes] = []
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on loopback")
    run(main())
