"""What a configuration amounts to: frozen values that the rest of the program is built from.

Decides nothing; `build` fills it. Secrets are references here (`SecretRef`), gateway keys are hashes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from crossfade.config.catalogue import Facts, facts_of
from crossfade.config.leaves import Address
from crossfade.config.secrets import SecretRef
from crossfade.core.exchange import Ability
from crossfade.core.policy import ConcurrencyPolicy, OverloadPolicy, ProbePolicy, RoutePolicy, TimeoutPolicy
from crossfade.core.residency import Residence
from crossfade.core.target import Route, Rung, Vendor

DEFAULT_ROUTE = "*"
"""What requests are recorded under whose model name no route serves. No route can have this name."""


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where crossfade listens. `auth`: `auto` wants keys where one is configured or `listen` is not loopback."""

    listen: Address = Address("127.0.0.1", 4000)
    admin: Address = Address("127.0.0.1", 4001)
    auth: Literal["auto", "keys", "none"] = "auto"


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one client may take: the fields and defaults of the HTTP server's own limits (bytes, seconds)."""

    head_bytes: int = 32 * 1024
    header_count: int = 100
    body_bytes: int = 32 * 1024 * 1024
    head_timeout: float = 10.0
    body_timeout: float = 20.0
    body_rate: float = 10 * 1024.0
    idle_timeout: float = 75.0
    write_timeout: float = 60.0
    max_connections: int = 10_000
    bodies_bytes: int = 512 * 1024 * 1024


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says of a model, over the catalogue. None: nothing. `has` and `lacks` are disjoint. Prices are
    in USD per token. `deployment` is what the provider calls it, where that is another name."""

    window: int | None = None
    has: frozenset[Ability] = frozenset()
    lacks: frozenset[Ability] = frozenset()
    always_thinks: bool | None = None
    is_slow: bool | None = None
    price_in: float | None = None
    price_out: float | None = None
    prefill: bool | None = None
    embedding: str | None = None
    deployment: str | None = None
    concurrency: ConcurrencyPolicy | None = None
    timeouts: TimeoutPolicy = TimeoutPolicy()


class ProviderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One provider. `vendor` is its row of facts with the provider's own base URL, without a slash at its end.
    Without `api_keys` nothing is sent. `accounts` are those of the keys, "" where a key is an
    account of its own. `network` is `private` where its name may lead to private addresses."""

    name: str
    vendor: Vendor
    api_keys: tuple[SecretRef, ...] = ()
    accounts: tuple[str, ...] = ()
    timeouts: TimeoutPolicy = TimeoutPolicy()
    network: Literal["public", "private"] = "public"
    residence: Residence = Residence()
    concurrency: ConcurrencyPolicy | None = None
    models: Mapping[str, ModelSettings] = {}


class GatewayKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that applications use: the `sha256:` hash of it, the route it is bound to, the project it is of."""

    name: str
    hash: str
    route: str | None = None
    project: str | None = None


class JournalConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where requests are recorded, and whether each write waits for the disk."""

    path: Path
    fsync: bool = False


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What is printed, and how."""

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A whole, valid configuration.

    `version` changes with every value in the file, not with comments and layout. `fallbacks` are chains behind
    model names that no route serves, `*` being all others. `notes` is what start-up tells, `warnings` is what is
    probably a mistake. `passthrough` is the provider of endpoints that are passed on as they are. `facts` is the model
    catalogue that targets named by callers are made with.
    """

    version: str
    file: str | None = None
    server: ServerConfig = ServerConfig()
    providers: Mapping[str, ProviderConfig]
    routes: Mapping[str, Route] = {}
    fallbacks: Mapping[str, tuple[Rung, ...]] = {}
    default_policy: RoutePolicy = RoutePolicy()
    passthrough: str | None = None
    gateway_keys: tuple[GatewayKey, ...] = ()
    state_dir: Path
    journal: JournalConfig
    log: LogConfig = LogConfig()
    limits: ServerLimits = ServerLimits()
    overload: OverloadPolicy = OverloadPolicy()
    probes: ProbePolicy = ProbePolicy()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    facts: Facts = facts_of

    @property
    def wants_keys(self) -> bool:
        """Whether applications need a gateway key. Where this is true and there is none, one has to be made."""
        if self.server.auth == "auto":
            return bool(self.gateway_keys) or not self.server.listen.is_loopback
        return self.server.auth == "keys"
