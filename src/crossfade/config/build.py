"""From the shape of the file to the values the program runs on: what its parts mean together.

Decides which vendor a provider is of, what a chain's names mean, which settings contradict each other. Notes
every problem at its place and goes on, so that one run tells all of them. Routes are made in `chains`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

import msgspec

from crossfade.config.addresses import is_own_host, missing, placed
from crossfade.config.problems import Path, Problems, did_you_mean
from crossfade.config.schema import (
    GatewayKeyFile,
    LimitsFile,
    ModelFile,
    OverloadFile,
    ProbesFile,
    ProviderFile,
    ServerFile,
    TimersFile,
)
from crossfade.config.secrets import MIN_KEY_LENGTH, ApiKey, SecretRef, hash_key
from crossfade.config.settings import GatewayKey, ModelSettings, ProviderConfig, ServerConfig, ServerLimits
from crossfade.config.shape import Block
from crossfade.core.exchange import Ability
from crossfade.core.policy import OverloadPolicy, ProbePolicy, TimeoutPolicy
from crossfade.core.residency import Residence
from crossfade.core.target import Vendor

UNKNOWN_SERVER = Vendor(name="compatible", dialect="openai", base_url="")
"""The row of an unknown server that speaks the openai dialect, where the vendors given have none."""


class ProviderBuilder:
    """Makes providers of their part of the file."""

    def __init__(self, vendors: Mapping[str, Vendor], environ: Mapping[str, str], folder: FilePath, problems: Problems):
        self._vendors, self._environ, self._folder, self._problems = vendors, environ, folder, problems

    def providers(self, files: Mapping[str, ProviderFile]) -> dict[str, ProviderConfig]:
        """Those that are right; of the others the problems are noted."""
        built = {}
        for name, file in files.items():
            self._check_name(name, ("providers", name))
            provider = self._provider(name, file, ("providers", name))
            if provider is not None:
                built[name] = provider
        return built

    def _check_name(self, name: str, path: Path) -> None:
        if (not is_plain_name(name) or "/" in name) and not self._problems.has(path):
            message = "is no name for a provider; use letters, digits and -_.:@+, beginning with a letter or digit"
            self._problems.add(path, message)

    def _provider(self, name: str, file: ProviderFile, path: Path) -> ProviderConfig | None:
        vendor = self._vendor(name, file, path)
        keys = self._keys(file, vendor, path)
        if vendor is None:
            return None
        if vendor.auth == "none" and keys:  # a local server's row, but this one stands behind something with keys
            vendor = msgspec.structs.replace(vendor, auth="bearer")
        if file.prefill is not None:
            vendor = msgspec.structs.replace(vendor, prefill=file.prefill)
        return ProviderConfig(
            name=name,
            vendor=vendor,
            api_keys=tuple([given.key for given in keys]),
            accounts=tuple([given.account for given in keys]),
            timeouts=timeouts_of(file),
            network=file.network,
            residence=Residence(region=file.region or "", retention=file.retention, tags=file.tags),
            models={model: _model(settings) for model, settings in file.models.items()},
        )

    # --- which vendor ---

    def _vendor(self, name: str, file: ProviderFile, path: Path) -> Vendor | None:
        is_responses = file.dialect == "responses"  # the other API of the same vendors, whose rows are of chat
        row = self._row(name, msgspec.structs.replace(file, dialect="openai") if is_responses else file, path)
        if row is None:
            return None
        if is_responses:
            row = msgspec.structs.replace(row, dialect="responses", assembles=False, prefill=False)
        base_url = file.base_url or row.base_url
        if not base_url:
            if not self._problems.has((*path, "base_url")):
                self._problems.add(path, missing(row))
            return None
        if self._problems.has((*path, "api_version")):
            return None
        try:
            return placed(row, base_url.rstrip("/"), file.api_version)
        except ValueError as error:
            self._problems.add((*path, "base_url" if file.api_version is None else "api_version"), str(error))
            return None

    def _row(self, name: str, file: ProviderFile, path: Path) -> Vendor | None:
        rows = self._vendors
        if file.vendor is not None:
            return self._named_row(file, file.vendor, path)
        if self._problems.has((*path, "vendor")) or self._problems.has((*path, "dialect")):
            return None
        fits = [row for row in rows.values() if file.dialect in (None, row.dialect)]
        for row in fits:
            if row.name == name:
                return row
        for row in fits:
            if file.base_url and is_own_host(row, file.base_url):
                return row
        if file.dialect == "openai":
            return rows.get("compatible", UNKNOWN_SERVER)
        if file.dialect is not None:
            return next((row for row in fits if row.name == file.dialect), next(iter(fits), None))
        if self._problems.has((*path, "base_url")):
            return None  # it might have said
        message = (
            "dialect is missing, and the name is no vendor's; write dialect: openai, responses, anthropic, gemini,"
            " bedrock, cohere or ollama"
        )
        self._problems.add(path, message + did_you_mean(name, rows))
        return None

    def _named_row(self, file: ProviderFile, vendor: str, path: Path) -> Vendor | None:
        row = self._vendors.get(vendor)
        if row is None:
            near = did_you_mean(vendor, self._vendors) or f"; known are {', '.join(self._vendors)}"
            self._problems.add((*path, "vendor"), f"unknown vendor {vendor!r}{near}")
        elif file.dialect not in (None, row.dialect):
            message = f"vendor {vendor!r} speaks {row.dialect!r}; remove the dialect, or the vendor"
            self._problems.add((*path, "dialect"), message)
            return None
        return row

    # --- which keys ---

    def _keys(self, file: ProviderFile, vendor: Vendor | None, path: Path) -> tuple[ApiKey, ...]:
        if file.api_keys is None:
            if vendor is None or self._problems.has((*path, "api_keys")):
                return ()
            return tuple([ApiKey(key) for key in self._vendors_key(file, vendor, path)])
        taken: list[ApiKey] = []
        for i, given in enumerate(file.api_keys):
            place = (*path, "api_keys", i)
            if self._problems.has(place) or not given.key.name:
                continue
            ref = self.absolute(given.key)
            if any(ref == other.key for other in taken):
                self._problems.add(place, f"{given} is here twice; remove one")
            self._check_secret(ref, place)
            taken.append(ApiKey(ref, given.account))
        return tuple(taken)

    def _vendors_key(self, file: ProviderFile, vendor: Vendor, path: Path) -> tuple[SecretRef, ...]:
        """The vendor's own variable, but only for the vendor's own host: no key goes where the file did not say."""
        own = self._vendors.get(vendor.name)
        if not vendor.env or vendor.auth == "none" or own is None or not is_own_host(own, vendor.base_url):
            return ()
        for variable in vendor.env:
            if self._environ.get(variable):
                ref = SecretRef("env", variable)
                self._check_secret(ref, path)
                return (ref,)
        names = " or ".join(repr(variable) for variable in vendor.env)
        message = f"no key: the environment variable {names} is not set; export it, or name another under api_keys"
        self._problems.add(path, message)
        return ()

    def absolute(self, ref: SecretRef) -> SecretRef:
        """The same secret; a relative path counts from the folder of the configuration."""
        if ref.kind == "env":
            return ref
        return SecretRef("file", str(self._folder / FilePath(ref.name).expanduser()))

    def _check_secret(self, ref: SecretRef, path: Path) -> str | None:
        try:
            return ref.read(self._environ)
        except ValueError as error:
            self._problems.add(path, str(error))
            return None

    # --- the keys of applications ---

    def gateway_keys(self, files: tuple[GatewayKeyFile, ...], routes: Mapping[str, object]) -> tuple[GatewayKey, ...]:
        """The keys with their hashes; names, keys and routes are checked."""
        names: dict[str, int] = {}
        hashes: dict[str, int] = {}
        built = []
        for i, file in enumerate(files):
            path: Path = ("gateway_keys", i)
            if not file.name:
                if not self._problems.has((*path, "name")):
                    self._problems.add(path, "name is missing; logs and events call the key by it")
            elif file.name in names:
                other = f"gateway_keys[{names[file.name]}]"
                self._problems.add((*path, "name"), f"{file.name!r} is the name of {other} too; use another")
            names.setdefault(file.name, i)
            self._check_route(file, routes, path)
            digest = self._digest(file, path)
            if digest is None:
                continue
            if digest in hashes:
                self._problems.add(path, f"is the same key as gateway_keys[{hashes[digest]}]; remove one")
            hashes.setdefault(digest, i)
            built.append(GatewayKey(name=file.name, hash=digest, route=file.route))
        return tuple(built)

    def _check_route(self, file: GatewayKeyFile, routes: Mapping[str, object], path: Path) -> None:
        if file.route is not None and file.route not in routes:
            near = did_you_mean(file.route, routes) or "; name one under routes"
            self._problems.add((*path, "route"), f"unknown route {file.route!r}{near}")

    def _digest(self, file: GatewayKeyFile, path: Path) -> str | None:
        if self._problems.has((*path, "hash")) or self._problems.has((*path, "key")):
            return None
        if (file.hash is None) == (file.key is None):
            what = "neither" if file.hash is None else "both"
            message = f"has {what} of hash and key; give one (`crossfade keys new` makes a key and prints its hash)"
            self._problems.add(path, message)
            return None
        if file.key is None:
            return file.hash
        key = self._check_secret(self.absolute(file.key), (*path, "key"))
        if key is not None and len(key) < MIN_KEY_LENGTH:
            message = f"{file.key} has fewer than {MIN_KEY_LENGTH} characters; make a key with `crossfade keys new`"
            self._problems.add((*path, "key"), message)
        return None if key is None else hash_key(key)


def server_of(file: ServerFile, has_keys: bool, problems: Problems) -> ServerConfig:
    """The listeners; they differ, and keys are not configured for nothing."""
    defaults = ServerConfig()
    listen, admin = file.listen or defaults.listen, file.admin or defaults.admin
    if listen == admin and listen.port != 0:
        place = ("server", "admin") if file.admin else ("server", "listen")
        other = "server.listen" if file.admin else "the default of server.admin"
        problems.add(place, f"{listen} is {other} too; use another port")
    if file.auth == "none" and has_keys:
        problems.add(("server", "auth"), "is none, so that gateway_keys would be ignored; remove one of the two")
    return ServerConfig(listen=listen, admin=admin, auth=file.auth or "auto")


def overload_of(file: OverloadFile) -> OverloadPolicy:
    """What is taken on at most, with the defaults."""
    return OverloadPolicy(**_given(file))


def probes_of(file: ProbesFile) -> ProbePolicy:
    """The probes, with their defaults."""
    return ProbePolicy(**_given(file))


def limits_of(file: LimitsFile) -> ServerLimits:
    """The limits with their defaults."""
    given = _given(file)
    if "body_rate" in given:
        given["body_rate"] = float(given["body_rate"])
    return ServerLimits(**given)


def _given(file: Block) -> dict[str, Any]:
    """What the file says of a block whose keys are the fields of what is made of it."""
    return {name: value for name, value in msgspec.structs.asdict(file).items() if value is not None}


def timeouts_of(file: TimersFile, overall: float | None = None, max_stream: float | None = None) -> TimeoutPolicy:
    """The timers of one part of the file."""
    return TimeoutPolicy(
        connect=file.connect_timeout,
        first_content=file.first_content_timeout,
        silence=file.silence_timeout,
        idle=file.idle_timeout,
        attempt=file.attempt_timeout,
        overall=overall,
        max_stream=max_stream,
    )


def _model(file: ModelFile) -> ModelSettings:
    said: dict[Ability, bool | None] = {
        Ability.VISION: file.vision,
        Ability.FILES: file.files,
        Ability.AUDIO: file.audio,
        Ability.TOOLS: file.tools,
        Ability.JSON_SCHEMA: file.json_schema,
    }
    return ModelSettings(
        window=file.window,
        has=frozenset(ability for ability, value in said.items() if value is True),
        lacks=frozenset(ability for ability, value in said.items() if value is False),
        always_thinks=file.thinking,
        is_slow=file.slow,
        price_in=_per_token(file.price_in),
        price_out=_per_token(file.price_out),
        prefill=file.prefill,
        embedding=file.embedding,
        deployment=file.deployment,
        timeouts=timeouts_of(file),
    )


def _per_token(per_million: float | None) -> float | None:
    return None if per_million is None else round(per_million / 1_000_000, 15)


def is_plain_name(name: str) -> bool:
    """Whether `name` can stand in chains, headers and labels: printable ASCII without space, comma, `*`, `#`."""
    return (
        0 < len(name) <= 200
        and name.isascii()
        and name[0].isalnum()
        and all(mark.isalnum() or mark in "-_./:@+" for mark in name)
    )
