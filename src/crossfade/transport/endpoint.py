"""Where a provider is reached: what connections are kept by."""

from __future__ import annotations

from typing import Literal

import msgspec


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

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host and not self.host.startswith("[") else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"
