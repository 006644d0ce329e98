"""Which proxy a call goes through, and calls through real ones."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from crossfade.core.errors import ConnectFailed
from crossfade.transport.endpoint import Endpoint
from crossfade.transport.http import HttpTransport
from crossfade.transport.proxies import Proxy, ProxySettings, read_proxy
from tests.support import run
from tests.transport.support import Server, Sink, answers, endpoint, request_to, serving

PROXY = "http://proxy.example:3128"


def chosen(environment: dict[str, str], host: str = "api.example.com", port: int = 443) -> Proxy | None:
    return ProxySettings(environment).proxy_for(Endpoint(scheme="https", host=host, port=port))


def test_the_environment_names_proxies_by_scheme_lower_case_first() -> None:
    environment = {"HTTP_PROXY": "http://a:1", "HTTPS_PROXY": "http://b:2", "https_proxy": "http://c:3"}
    settings = ProxySettings(environment)
    assert settings.proxy_for(endpoint(80, host="api.example.com")) == Proxy("a", 1)
    assert settings.proxy_for(endpoint(443, host="api.example.com", scheme="https")) == Proxy("c", 3)
    assert chosen({"ALL_PROXY": "d:4"}) == Proxy("d", 4)
    assert chosen({"HTTP_PROXY": PROXY}) is None
    assert chosen({}) is None


def test_the_proxy_of_the_endpoint_wins() -> None:
    settings = ProxySettings({"HTTPS_PROXY": PROXY, "NO_PROXY": "*"})
    given = endpoint(443, host="api.example.com", scheme="https", proxy="http://own:1")
    assert settings.proxy_for(given) == Proxy("own", 1)


@pytest.mark.parametrize(
    ("no_proxy", "host", "is_exempt"),
    [
        ("*", "api.example.com", True),
        ("example.com", "api.example.com", True),
        ("example.com", "example.com", True),
        (".example.com", "api.example.com", True),
        ("*.example.com", "api.example.com", True),
        ("EXAMPLE.com", "API.example.COM", True),
        ("ample.com", "api.example.com", False),
        ("api.example.com:443", "api.example.com", True),
        ("api.example.com:80", "api.example.com", False),
        ("other.com, example.com", "api.example.com", True),
        ("other.com example.com", "api.example.com", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "api.example.com", False),
        ("nonsense/8", "10.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:443", "10.1.2.3", True),
        ("10.1.2.3:80", "10.1.2.3", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("[2001:db8::1]:443", "2001:db8::1", True),
        ("2001:db8::1", "[2001:db8::1]", True),
        ("", "127.0.0.1", True),
        ("", "localhost", True),
        ("", "::1", True),
        (".", "api.example.com", False),
        ("", "api.example.com", False),
    ],
)
def test_no_proxy(no_proxy: str, host: str, is_exempt: bool) -> None:
    assert (chosen({"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy}, host) is None) is is_exempt


def test_credentials_of_a_proxy_are_decoded_and_not_shown() -> None:
    proxy = read_proxy("http://us%40er:p%3Aw@proxy.example:3128")
    assert proxy.authorization == "Basic dXNAZXI6cDp3"
    assert "dXN" not in repr(proxy)


@pytest.mark.parametrize("address", ["socks5://user:secret@p:1", "https://p", "http://", "http://p:nonsense"])
def test_other_proxies_are_refused_without_quoting_them(address: str) -> None:
    with pytest.raises(ConnectFailed) as caught:
        read_proxy(address)
    assert "secret" not in caught.value.detail


async def tunnels(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A CONNECT proxy that leads every name to loopback."""
    request = await server.request(reader)
    port = int(request.split(b" ")[1].rpartition(b":")[2])
    there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")

    async def pump(source: asyncio.StreamReader, drain: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            drain.write(data)
        drain.close()

    try:
        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))
    finally:
        there_writer.transport.abort()


def test_https_goes_through_a_tunnel_and_the_proxy_sees_no_request(ca_file: str, server_tls: ssl.SSLContext) -> None:
    async def main() -> None:
        async with serving(answers, ssl=server_tls) as server, serving(tunnels) as proxy:
            environment = {"HTTPS_PROXY": f"http://user:secret@127.0.0.1:{proxy.port}"}
            transport = HttpTransport(loop=asyncio.get_running_loop(), ca_file=ca_file, proxies=environment)
            request = request_to(server.port, scheme="https", host="api.example.com")
            for _ in range(2):
                sink = Sink()
                transport.send(request, sink)
                await sink.over.wait()
                assert sink.body == b"ok"
            assert proxy.requests == [
                b"CONNECT api.example.com:%d HTTP/1.1\r\nHost: api.example.com:%d\r\n"
                b"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n" % (server.port, server.port)
            ]
            assert server.accepted == 1
            assert b"Proxy-Authorization" not in server.requests[0]
            transport.close()

    run(main())


def test_http_is_asked_of_the_proxy_in_absolute_form() -> None:
    async def main() -> None:
        async with serving(answers) as proxy:
            environment = {"http_proxy": f"http://user:secret@127.0.0.1:{proxy.port}"}
            transport = HttpTransport(loop=asyncio.get_running_loop(), proxies=environment)
            sink = Sink()
            transport.send(request_to(8080, host="api.example.com"), sink)
            await sink.over.wait()
            assert sink.body == b"ok"
            assert proxy.requests[0].startswith(
                b"POST http://api.example.com:8080/v1/x HTTP/1.1\r\nHost: api.example.com:8080\r\n"
            )
            assert b"\r\nProxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n" in proxy.requests[0]
            transport.close()

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nsomething behind it",
        b"HTTP/1.1 2000 OK",
        b"SSH-2.0-x\r\n\r\n",
        b"x" * 20_000,
        b"",
    ],
)
def test_a_proxy_that_refuses_a_tunnel_is_a_connect_error(answer: bytes) -> None:
    async def refuses(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(answer)

    async def main() -> None:
        async with serving(refuses) as proxy:
            transport = HttpTransport(loop=asyncio.get_running_loop())
            sink = Sink()
            given = f"http://127.0.0.1:{proxy.port}"
            transport.send(request_to(443, scheme="https", host="api.example.com", proxy=given), sink)
            await sink.over.wait()
            assert sink.facts == [("failure", "ConnectFailed")]
            assert sink.error is not None
            assert "proxy" in sink.error.detail
            assert repr(transport) == "HttpTransport(idle=0 busy=0 dialling=0 waiting=0)"
            transport.close()

    run(main())


def test_a_forwarding_proxy_that_wants_credentials_is_a_connect_error() -> None:
    async def refuses(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno")
        await reader.read()

    async def main() -> None:
        async with serving(refuses) as proxy:
            transport = HttpTransport(loop=asyncio.get_running_loop())
            sink = Sink()
            given = f"http://127.0.0.1:{proxy.port}"
            transport.send(request_to(80, host="api.example.com", proxy=given), sink)
            await sink.over.wait()
            assert sink.facts == [("sent", None), ("failure", "ConnectFailed")]
            assert repr(transport) == "HttpTransport(idle=0 busy=0 dialling=0 waiting=0)"
            transport.close()

    run(main())


def test_metadata_literals_are_refused_behind_a_proxy_too() -> None:
    async def main() -> None:
        async with serving(answers) as proxy:
            transport = HttpTransport(loop=asyncio.get_running_loop())
            given = f"http://127.0.0.1:{proxy.port}"
            for host, is_called in (("169.254.169.254", False), ("fe80::1", False), ("10.0.0.1", True)):
                sink = Sink()
                transport.send(request_to(80, host=host, proxy=given), sink)
                await sink.over.wait()
                assert sink.names[0] == ("sent" if is_called else "failure")
            assert len(proxy.requests) == 1
            transport.close()

    run(main())


def test_a_proxy_that_cannot_be_spoken_to_is_a_connect_error() -> None:
    async def main() -> None:
        transport = HttpTransport(loop=asyncio.get_running_loop(), proxies={"ALL_PROXY": "socks5://p:1"})
        sink = Sink()
        transport.send(request_to(80, host="api.example.com"), sink)
        await sink.over.wait()
        assert sink.error is not None
        assert "socks5" in sink.error.detail
        transport.close()

    run(main())
