"""What start-up and `crossfade check` tell of a valid configuration: notes, and warnings of probable mistakes.

Decides nothing that changes how requests are served.
"""

from __future__ import annotations

from collections.abc import Iterator

from crossfade.config.addresses import host_of, is_local_host
from crossfade.config.settings import Config, ProviderConfig
from crossfade.core.policy import FIRST_CONTENT_SLOW, FIRST_CONTENT_THINKING, FIRST_CONTENT_TIMEOUT
from crossfade.core.target import Route, Rung, Target

NO_CHAIN = "no chain configured: nothing to fall back to; add routes or send fallback_models"


def notes_of(config: Config) -> tuple[str, ...]:
    """What start-up prints."""
    notes = []
    if config.file is None:
        used = ", ".join(f"{p.name} ({p.api_keys[0]})" for p in config.providers.values() if p.api_keys)
        notes.append(f"no configuration file: providers from the environment: {used}")
    if not config.routes and not any(config.fallbacks.values()):  # of a route with one target the warnings tell
        notes.append(NO_CHAIN)
    if config.wants_keys and not config.gateway_keys:
        where = "is not a loopback address" if config.server.auth == "auto" else "auth: keys is set"
        notes.append(f"no gateway key configured and {config.server.listen} {where}: one is made at the first start")
    return tuple(notes)


def warnings_of(config: Config) -> tuple[str, ...]:
    """What is allowed but probably a mistake."""
    found: list[str] = []
    for provider in config.providers.values():
        found += _of_provider(provider)
    for route in config.routes.values():
        found += _of_route(route)
    for rung in _rungs(config):
        provider_name, _, model = rung.name.partition("/")
        vendor = config.providers[provider_name].vendor
        known = config.facts(vendor.name, model)
        if known is not None and known.only_responses and vendor.dialect != "responses":
            found.append(
                f"{rung.name} is served by the Responses API only, and chat requests to it will fail: give its provider"
                " `dialect: responses`"
            )
    if config.server.auth == "none" and not config.server.listen.is_loopback:
        listen = config.server.listen
        found.append(f"server.auth is none and {listen} is no loopback: anybody who reaches it spends your keys")
    return tuple(dict.fromkeys(found))


def _of_provider(provider: ProviderConfig) -> Iterator[str]:
    url = provider.vendor.base_url
    if url.startswith("http://") and provider.api_keys and not is_local_host(host_of(url)):
        yield f"provider {provider.name!r} sends its key unencrypted: base_url begins with http://"
    if provider.vendor.name == "compatible" and url.count("/") == 2:
        yield f"provider {provider.name!r}: base_url has no path; most such servers want /v1 at its end"


def _of_route(route: Route) -> Iterator[str]:
    for rule in route.rules:
        if len(rule.chain) == 1:
            yield f"rule {rule.name!r} of route {route.name!r} has one target: nothing to fall back to"
    if route.max_cost is not None:
        unpriced = dict.fromkeys(rung.name for rung in route.every_rung() if rung.targets[0].price_in is None)
        if unpriced:
            yield f"route {route.name!r} has max_cost, which bounds nothing without prices: {', '.join(unpriced)}"
    if len(route.chain) == 1:
        yield f"route {route.name!r} has one target: nothing to fall back to"
        return
    providers = {rung.targets[0].provider for rung in route.chain}
    if len(providers) == 1:
        yield f"all targets of route {route.name!r} are at {providers.pop()!r}: its outage takes all of them"
    if not route.policy.fallback_on:
        yield f"route {route.name!r} has an empty fallback_on: only its first target is ever asked"
    overall, first = route.policy.timeouts.overall, _first_content(route.chain[0].targets[0], route)
    if overall is not None and overall <= first:
        yield (
            f"route {route.name!r}: timeout ({overall:g} s) is no longer than the first target's first_content_timeout"
            f" ({first:g} s): a silent provider leaves no time for a fallback"
        )


def _first_content(target: Target, route: Route) -> float:
    given = target.timeouts.over(route.policy.timeouts).first_content
    if given is not None:
        return given
    if target.is_slow:
        return FIRST_CONTENT_SLOW
    return FIRST_CONTENT_THINKING if target.always_thinks else FIRST_CONTENT_TIMEOUT


def _rungs(config: Config) -> Iterator[Rung]:
    for route in config.routes.values():
        yield from route.every_rung()
    for chain in config.fallbacks.values():
        yield from chain
