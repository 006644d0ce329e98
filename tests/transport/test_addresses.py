"""The address guard, row by row."""

from __future__ import annotations

import pytest

from crossfade.transport.addresses import literal_address, refusal

NEVER = [
    "169.254.169.254",
    "169.254.1.1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "ff02::1",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::169.254.169.254",
    "2002:a9fe:a9fe::1",
    "::ffff:0.0.0.0",
]
PRIVATE = [
    "127.0.0.1",
    "127.8.9.1",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "::1",
    "fc00::1",
    "fd12::1",
    "fec0::1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::10.0.0.1",
    "2002:0a00:0001::1",
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"]


@pytest.mark.parametrize("address", NEVER)
def test_these_are_never_called(address: str) -> None:
    for host in ("api.example.com", "localhost", address):
        assert refusal(address, host, "public") is not None
        assert refusal(address, host, "private") is not None


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_need_a_literal_or_the_word_private(address: str) -> None:
    assert "private" in (refusal(address, "api.example.com", "public") or "")
    assert refusal(address, "api.example.com", "private") is None
    assert refusal(address, address, "public") is None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_called(address: str) -> None:
    assert refusal(address, "api.example.com", "public") is None


def test_localhost_stands_for_loopback_and_nothing_else() -> None:
    assert refusal("127.0.0.1", "LocalHost", "public") is None
    assert refusal("::1", "localhost", "public") is None
    assert refusal("10.0.0.1", "localhost", "public") is not None


def test_what_is_no_address_is_refused() -> None:
    assert refusal("nonsense", "api.example.com", "private") is not None


def test_only_canonical_spellings_are_literals() -> None:
    assert str(literal_address("[::1]")) == "::1"
    for host in ("127.1", "0x7f.0.0.1", "2130706433", "0177.0.0.1", "api.example.com", ""):
        assert literal_address(host) is None
