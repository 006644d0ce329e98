"""How targets are called: for each configured provider its dialect, its place on the network, its credentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

from crossfade.core.credential import Secret
from crossfade.core.target import LimitHeaders, Target
from crossfade.providers.base import Provider
from crossfade.transport.endpoint import Endpoint


class Upstream:
    """How a target is called. `base_path` goes before the path that the provider's dialect gives. `limits` are the
    headers in which it says what is left of its rate limits."""

    __slots__ = (
        "base_path",
        "endpoint",
        "limits",
        "provider",
        "secret",
    )

    def __init__(
        self,
        provider: Provider,
        endpoint: Endpoint,
        base_path: str,
        secret: Secret | None,
        limits: tuple[LimitHeaders, ...] = (),
    ) -> None:
        self.provider = provider
        self.endpoint = endpoint
        self.base_path = base_path
        self.secret = secret
        self.limits = limits


class Upstreams:
    """The upstreams of a configuration, by a target's provider and credential: targets that callers name need no
    entry of their own."""

    def __init__(self, by_provider: Mapping[str, Sequence[Upstream]]):
        self._by_provider = by_provider

    def of(self, target: Target) -> Upstream:
        return self._by_provider[target.provider][target.credential]

    def at(self, member: tuple[str, int]) -> Upstream:
        """How a provider is called with the credential of that number."""
        return self._by_provider[member[0]][member[1]]

    def first_of(self, provider: str) -> Upstream:
        """How a provider is called where no target is meant."""
        return self._by_provider[provider][0]

    def secrets_of(self, provider: str) -> list[Secret | None]:
        """The keys that a provider is called with."""
        return [upstream.secret for upstream in self._by_provider[provider]]


def upstreams_of(
    provider: Provider,
    base_url: str,
    secrets: Sequence[Secret],
    *,
    network: Literal["public", "private"],
    keep_idle: float,
    limits: tuple[LimitHeaders, ...] = (),
) -> tuple[Upstream, ...]:
    """One upstream for each secret of a provider; one without a secret where it has none."""
    url = urlsplit(base_url)
    endpoint = Endpoint(
        scheme="https" if url.scheme == "https" else "http",
        host=url.hostname or "",
        port=url.port or (443 if url.scheme == "https" else 80),
        network=network,
        keep_idle=keep_idle,
    )
    base_path = url.path.rstrip("/")
    return tuple(
        Upstream(provider=provider, endpoint=endpoint, base_path=base_path, secret=secret, limits=limits)
        for secret in (secrets or (None,))
    )
