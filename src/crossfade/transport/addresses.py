"""The address guard: which addresses a call may go to. Pure; asked at dial time with the address to be dialled.

A name says nothing, so the guard judges what it resolved to, each time it is dialled: a caller, a configuration or a
DNS answer must not lead the gateway to a cloud's metadata service or into the network behind it.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, Literal

IpAddress = IPv4Address | IPv6Address

_METADATA: Final = frozenset(
    ip_address(literal)
    for literal in (
        "169.254.169.254",
        "fd00:ec2::254",  # AWS
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's wire server: a public address that only a virtual machine reaches
    )
)
_THIS_NETWORK: Final = IPv4Network("0.0.0.0/8")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_SITE_LOCAL: Final = IPv6Network("fec0::/10")


def literal_address(host: str) -> IpAddress | None:
    """The address that `host` spells, brackets allowed; None for a name."""
    try:
        return ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def refusal(address: str, host: str, network: Literal["public", "private"]) -> str | None:
    """Why `address`, which `host` stands for, may not be dialled; None where it may.

    Link-local, metadata, multicast, unspecified and reserved addresses never may. Private ones (loopback, RFC 1918,
    unique local, carrier-grade NAT: all that is not globally reachable) may where `network` is `private`, or `host`
    is itself the literal, or is `localhost` and the address loopback.
    """
    try:
        ip = _unwrap(ip_address(address))
    except ValueError:
        return f"{address!r} is no IP address"
    if ip in _METADATA:
        return f"{ip} is a metadata address, which is never called"
    if ip.is_link_local:
        return f"{ip} is a link-local address, which is never called"
    if ip.is_multicast or ip.is_unspecified or _is_reserved(ip):
        return f"{ip} is no address of one host"
    if network == "private" or _is_reachable_from_anywhere(ip):
        return None
    if literal_address(host) is not None or (host.lower() == "localhost" and ip.is_loopback):
        return None
    return f"{ip} is a private address; `network: private` on the provider allows it"


def _is_reserved(ip: IpAddress) -> bool:
    if isinstance(ip, IPv6Address):
        return False  # what is not assigned is not globally reachable either
    return ip in _THIS_NETWORK or ip.is_reserved  # 240.0.0.0/4 with the broadcast address


def _is_reachable_from_anywhere(ip: IpAddress) -> bool:
    return ip.is_global and not (isinstance(ip, IPv6Address) and ip in _SITE_LOCAL)


def _unwrap(ip: IpAddress) -> IpAddress:
    """The IPv4 address that an IPv6 one carries (mapped, compatible, NAT64, 6to4, Teredo), or `ip` itself."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip.teredo is not None:
        return ip.teredo[1]
    if 1 < int(ip) < 1 << 32:
        return IPv4Address(int(ip))  # ::a.b.c.d; :: and ::1 stay what they are
    return ip
