"""`crossfade check`: is the configuration right, and what does it amount to? Calls nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from crossfade.cli.loading import load
from crossfade.config.settings import Config
from crossfade.core.target import Rung, Vendor


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
def check(file: Path | None) -> None:
    """Check FILE (default: $CROSSFADE_CONFIG, else ./crossfade.yaml, else keys in the environment).

    Prints every problem on a line of its own, as FILE:LINE: FIELD: what to do, and exits with 2; or prints what the
    configuration amounts to and exits with 0.
    """
    for line in summary(load(file)):
        click.echo(line)


def summary(config: Config) -> Iterator[str]:
    """The configuration in a few lines for people."""
    keys = "with a gateway key" if config.wants_keys else "without a key"
    yield f"{config.file or 'environment'}: good (version {config.version})"
    yield f"listen: {config.server.listen} ({keys}), admin: {config.server.admin}"
    yield "providers:"
    for provider in config.providers.values():
        count = len(provider.api_keys)
        what = "no key" if count == 0 else "1 key" if count == 1 else f"{count} keys"
        yield f"  {provider.name}: {provider.vendor.dialect}, {_address(provider.vendor)}, {what}"
    if config.routes:
        yield "routes:"
    for route in config.routes.values():
        serves = f" (also {', '.join(route.match)})" if route.match else ""
        yield f"  {route.name}{serves}: {_chain(route.chain)}"
        for rule in route.rules:
            yield f"    {rule.name}: {_chain(rule.chain)}"
    if config.fallbacks:
        yield "fallbacks:"
    for name, chain in config.fallbacks.items():
        yield f"  {name}: {_chain(chain) or 'none'}"
    for key in config.gateway_keys:
        yield f"gateway key {key.name}: " + (f"route {key.route}" if key.route else "any route")
    for note in config.notes:
        yield f"note: {note}"
    for warning in config.warnings:
        yield f"warning: {warning}"


def _address(vendor: Vendor) -> str:
    deployments = "/deployments/MODEL" if vendor.model_in_path else ""
    version = f"?api-version={vendor.api_version}" if vendor.api_version else ""
    return f"{vendor.base_url}{deployments}{version}"


def _chain(rungs: tuple[Rung, ...]) -> str:
    return " -> ".join(rung.name for rung in rungs)
