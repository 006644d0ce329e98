"""Which proxy a call goes through: the endpoint's own, or one from the environment. Pure.

Names as everywhere: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, lower case first. Loopback targets are never
sent to a proxy of the environment (as Go and curl's users expect of a local model server).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from ipaddress import ip_network
from urllib.parse import unquote, urlsplit

import msgspec

from crossfade.core.errors import ConnectFailed
from crossfade.transport.addresses import IpAddress, literal_address
from crossfade.transport.endpoint import Endpoint


class Proxy(msgspec.Struct, frozen=True):
    """An `http://` proxy. `authorization` is the value of Proxy-Authorization, or None."""

    host: str
    port: int
    authorization: str | None = None

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"  # never the password


class ProxySettings:
    """The proxies of an environment, read once."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        every = _value(environment, "all_proxy")
        self._by_scheme = {
            "http": _value(environment, "http_proxy") or every,
            "https": _value(environment, "https_proxy") or every,
        }
        self._exempt = [word for word in _value(environment, "no_proxy").lower().replace(",", " ").split() if word]

    def proxy_for(self, endpoint: Endpoint) -> Proxy | None:
        """The proxy for calls to `endpoint`, None for a direct connection. Raises ConnectFailed where the address of
        the proxy that applies cannot be used."""
        if endpoint.proxy is not None:
            return read_proxy(endpoint.proxy)
        address = self._by_scheme[endpoint.scheme]
        if not address or self._is_exempt(endpoint.host.lower(), endpoint.port):
            return None
        return read_proxy(address)

    def _is_exempt(self, host: str, port: int) -> bool:
        ip = literal_address(host)
        if host == "localhost" or (ip is not None and ip.is_loopback):
            return True
        return any(_is_match(word, host, port, ip) for word in self._exempt)


def read_proxy(address: str) -> Proxy:
    """The proxy that a URL, or `host:port`, names. Raises ConnectFailed, without quoting it, for any other thing."""
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        raise ConnectFailed("the address of the proxy cannot be read") from None
    if parts.scheme != "http":
        raise ConnectFailed(f"the proxy is of kind {parts.scheme!r}; only http:// proxies are spoken to")
    if not host:
        raise ConnectFailed("the address of the proxy has no host")
    if parts.username is None and parts.password is None:
        return Proxy(host, port)
    userinfo = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return Proxy(host, port, "Basic " + base64.b64encode(userinfo.encode()).decode("ascii"))


def _value(environment: Mapping[str, str], name: str) -> str:
    return (environment.get(name) or environment.get(name.upper()) or "").strip()


def _is_match(word: str, host: str, port: int, ip: IpAddress | None) -> bool:
    """Whether one word of NO_PROXY speaks of the target: `*`, a name and all below it (with or without a leading dot
    or `*.`), an address, a network in CIDR form; each but the last may end in a port."""
    if word == "*":
        return True
    if "/" in word:
        try:
            return ip is not None and ip in ip_network(word, strict=False)
        except ValueError:
            return False
    if ip is not None and literal_address(word) == ip:
        return True
    name, colon, word_port = word.rpartition(":")
    if colon and word_port.isdigit() and ("]" in name or ":" not in name):
        if int(word_port) != port:
            return False
        word = name
    if ip is not None:
        return literal_address(word) == ip
    word = word.removeprefix("*").removeprefix(".")
    return bool(word) and (host == word or host.endswith(f".{word}"))
