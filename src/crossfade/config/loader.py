"""Loads a configuration: a file, or the environment where there is none.

Reads files and nothing else of the world; the environment and the vendors come as arguments. Everything that is
wrong comes in one ConfigErrors. Nothing is served from a configuration that has a problem.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from crossfade.config.advice import notes_of, warnings_of
from crossfade.config.build import ProviderBuilder, limits_of, overload_of, probes_of, server_of
from crossfade.config.catalogue import Facts, facts_of
from crossfade.config.chains import ChainBuilder
from crossfade.config.lines import MAX_BYTES, read_document
from crossfade.config.problems import ConfigErrors, Problems, did_you_mean
from crossfade.config.schema import FileShape, ProviderFile
from crossfade.config.settings import Config, JournalConfig, LogConfig, ProviderConfig
from crossfade.config.shape import read_block
from crossfade.core.errors import ConfigError
from crossfade.core.target import Vendor

FILE_NAME = "crossfade.yaml"
FILE_VARIABLE = "CROSSFADE_CONFIG"


def find_config(given: Path | None, environ: Mapping[str, str], folder: Path) -> Path | None:
    """The file to load: the one given, else the one `CROSSFADE_CONFIG` names, else `crossfade.yaml` in `folder` if
    it is there; None: there is none."""
    if given is not None:
        return given
    if named := environ.get(FILE_VARIABLE):
        return Path(named)
    usual = folder / FILE_NAME
    return usual if usual.exists() else None


def load_config(
    path: Path | None, environ: Mapping[str, str], vendors: Mapping[str, Vendor], facts: Facts = facts_of
) -> Config:
    """The configuration of the file at `path`, or of the environment where it is None.

    Raises ConfigErrors with everything that is wrong. Relative paths in the file count from its folder.
    """
    problems = Problems(None if path is None else str(path))
    if path is None:
        found = _from_environment(environ, vendors)
        shape = FileShape(providers={name: ProviderFile(vendor=name) for name in found})
        version, folder = _version(found), Path.cwd()
    else:
        try:
            document = read_document(_read(path), environ, problems)
        except ConfigError as error:
            raise ConfigErrors([error]) from None
        shape = read_block(FileShape, document.value, (), problems)
        version, folder = _version(document.value), path.absolute().parent
    return _build(shape, version, folder, environ, vendors, facts, problems)


def located(errors: ConfigErrors, environ: Mapping[str, str]) -> ConfigErrors:
    """The errors of parts that were started from a file, with the lines of the fields they name."""
    return ConfigErrors([_located(error, environ) for error in errors.errors])


def _located(error: ConfigError, environ: Mapping[str, str]) -> ConfigError:
    if error.file is None or error.field is None or error.line is not None:
        return error
    path = tuple(int(part) if part.isdigit() else part for part in re.split(r"[.\[\]]+", error.field) if part)
    try:
        document = read_document(_read(Path(error.file)), environ, Problems(error.file))
    except ConfigError:
        return error  # it was changed meanwhile
    return ConfigError(error.message, file=error.file, line=document.line_of(path), field=error.field)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        message = f"cannot be read: {why}; check the path and its permissions, or make one with `crossfade init`"
        raise ConfigError(message, file=str(path)) from None


def _build(
    shape: FileShape,
    version: str,
    folder: Path,
    environ: Mapping[str, str],
    vendors: Mapping[str, Vendor],
    facts: Facts,
    problems: Problems,
) -> Config:
    makers = ProviderBuilder(vendors, environ, folder, problems)
    if not shape.providers and not problems.has(()) and not problems.has_within(("providers",)):
        example = "openai: {api_keys: [env:OPENAI_API_KEY]}"
        problems.add(("providers",), f"there are none; name at least one, as in {example}")
    providers = makers.providers(shape.providers)
    projects = frozenset([key.project for key in shape.gateway_keys if key.project is not None])
    chains = ChainBuilder(providers, tuple(shape.providers), facts, projects, problems)
    routes = chains.routes(shape.routes)
    fallbacks = chains.fallbacks(shape.fallbacks, shape.routes)
    keys = makers.gateway_keys(shape.gateway_keys, shape.routes)
    _check_passthrough(shape, providers, problems)
    server = server_of(shape.server, bool(shape.gateway_keys), problems)
    problems.raise_any()
    state_dir = _folder(shape.state_dir, folder, _state_dir(environ))
    config = Config(
        version=version,
        file=problems.file,
        server=server,
        providers=providers,
        routes=routes,
        fallbacks=fallbacks,
        passthrough=shape.passthrough,
        gateway_keys=keys,
        state_dir=state_dir,
        journal=JournalConfig(
            path=_folder(shape.journal.path, folder, state_dir / "journal"), fsync=shape.journal.fsync
        ),
        log=LogConfig(format=shape.log.format, level=shape.log.level),
        limits=limits_of(shape.limits),
        overload=overload_of(shape.overload),
        probes=probes_of(shape.probes),
        facts=facts,
    )
    return msgspec.structs.replace(config, notes=notes_of(config), warnings=warnings_of(config))


def _check_passthrough(shape: FileShape, providers: Mapping[str, ProviderConfig], problems: Problems) -> None:
    name = shape.passthrough
    if name is None:
        return
    if name not in shape.providers:
        near = did_you_mean(name, shape.providers) or "; name one under providers"
        problems.add(("passthrough",), f"unknown provider {name!r}{near}")
    elif name in providers and providers[name].vendor.dialect not in ("openai", "responses"):
        speaks = providers[name].vendor.dialect
        problems.add(("passthrough",), f"{name!r} speaks {speaks!r}, and these endpoints are OpenAI's; name another")


def _from_environment(environ: Mapping[str, str], vendors: Mapping[str, Vendor]) -> dict[str, str]:
    """The vendors whose key is in the environment, and its variable; of two with the same variable the first."""
    found: dict[str, str] = {}
    for row in vendors.values():
        variable = next((name for name in row.env if environ.get(name)), None)
        if variable is not None and variable not in found.values() and row.base_url:
            found[row.name] = variable
    if not found:
        known = ", ".join(row.env[0] for row in list(vendors.values())[:3] if row.env)
        message = f"no configuration file and no provider's key in the environment; export one ({known}, ...)"
        raise ConfigErrors([ConfigError(f"{message}, or make a file with `crossfade init`")])
    return found


def _version(value: object) -> str:
    """Twelve hex digits that change with the values of the file, variables filled in."""
    return hashlib.sha256(msgspec.json.encode(_plain(value), order="deterministic")).hexdigest()[:12]


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, (bool, float)) else str(value)


def _folder(given: str | None, base: Path, default: Path) -> Path:
    return default if given is None else base / Path(given).expanduser()


def _state_dir(environ: Mapping[str, str]) -> Path:
    if state := environ.get("XDG_STATE_HOME"):
        return Path(state) / "crossfade"
    return Path(environ.get("HOME") or "~").expanduser() / ".local" / "state" / "crossfade"
