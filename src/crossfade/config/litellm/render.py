"""Writes a crossfade.yaml as a person would: short, in the order of the input, with a comment where one is due.

Decides layout and quoting only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import msgspec
import yaml

from crossfade.config.addresses import is_own_host
from crossfade.config.litellm.chains import Item, RoutePart
from crossfade.config.litellm.providers import ProviderPart
from crossfade.core.target import Vendor

MAX_DEFAULT_ATTEMPTS: Final = 5
"""The most calls of a request that a route makes without being told (`retry.max_attempts`)."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./](?:[A-Za-z0-9_./@+:-]*[A-Za-z0-9_./@+-])?")
_LINE: Final = 100


class FilePart(msgspec.Struct, frozen=True, kw_only=True):
    """All that the output says. `timers` are those of every provider; `log` has the changed keys of `log`."""

    source: str
    providers: Sequence[ProviderPart]
    timers: Mapping[str, str]
    routes: Sequence[RoutePart]
    policy: str
    fallbacks: Mapping[str, Sequence[Item]]
    wildcards: Sequence[str]
    has_retries: bool
    master: str | None
    log: Mapping[str, str]


def render(part: FilePart, vendors: Mapping[str, Vendor]) -> str:
    """The text of the file."""
    keys = {provider.name: max(1, len(provider.variables)) for provider in part.providers}
    lines = [
        *_head(part.source),
        *_providers(part, vendors),
        *_routes(part, keys),
        *_fallbacks(part.fallbacks),
        *_keys(part.master),
    ]
    if part.log:
        lines += ["", f"log: {_flow(part.log)}"]
    return "\n".join(lines) + "\n"


def _head(source: str) -> Iterator[str]:
    shown = "".join(mark if mark.isprintable() else "?" for mark in source)
    yield f"# crossfade.yaml, from LiteLLM's {shown} by `crossfade import litellm`."
    yield "# Check it:  crossfade check        Run it:  crossfade serve        All keys:  docs/configuration.md"
    yield ""
    yield "server:"
    yield "  listen: 127.0.0.1:4000        # LiteLLM's port; 0.0.0.0:4000 lets other machines in, as LiteLLM does"
    yield "  admin: 127.0.0.1:4001"


def _providers(part: FilePart, vendors: Mapping[str, Vendor]) -> Iterator[str]:
    yield ""
    yield "providers:"
    for one in part.providers:
        settings = dict(_provider(one, part.timers, vendors))
        yield f"  {scalar(one.name)}:" + ("" if settings else " {}")
        for key, value in settings.items():
            if key != "models":
                yield f"    {key}: {value}"
        if "models" in settings:
            yield "    models:"
            for model, facts in one.models.items():
                yield f"      {scalar(model)}: {_flow(facts)}"


def _provider(one: ProviderPart, timers: Mapping[str, str], vendors: Mapping[str, Vendor]) -> Iterator[tuple[str, str]]:
    if one.vendor == "compatible" and one.name not in vendors:
        yield "dialect", "openai"
    elif one.vendor != one.name:
        yield "vendor", one.vendor
    if one.base_url is not None:
        yield "base_url", _reference(one.base_url)
    if one.is_private:
        yield "network", "private            # the host may have a private address"
    row = vendors.get(one.vendor)
    if one.variables:
        shared = "    # they share the load" if len(one.variables) > 1 else ""
        yield "api_keys", f"[{', '.join(f'env:{name}' for name in one.variables)}]{shared}"
    elif row is not None and row.env and (one.base_url is None or is_own_host(row, one.base_url)):
        yield "api_keys", "[]"
    for name, value in timers.items():
        yield name, _reference(value)
    if one.models:
        yield "models", ""


def _routes(part: FilePart, keys: Mapping[str, int]) -> Iterator[str]:
    if part.wildcards:
        yield ""
        yield f"# {', '.join(part.wildcards)}: provider/model names need no route."
    if not part.routes:
        return
    if not part.wildcards:
        yield ""
    yield "routes:"
    for route in part.routes:
        yield f"  {scalar(route.name)}:"
        if route.match:
            yield f"    match: [{', '.join(map(scalar, route.match))}]"
        yield from _chain(route.chain, part.policy, "    ")
        if route.fallback_on:
            yield f"    fallback_on: [{', '.join(route.fallback_on)}]"
        retry = dict(_retry(route, part.has_retries, keys))
        if retry:
            why = "        # every target can be asked" if "max_attempts" in retry else ""
            yield f"    retry: {_flow(retry)}{why}"


def _retry(route: RoutePart, has_retries: bool, keys: Mapping[str, int]) -> Iterator[tuple[str, object]]:
    if not has_retries:
        yield from (("max_wait", "0s"), ("delay", "0s"))
    targets = sum(keys.get(item.target.partition("/")[0], 1) for item in route.chain)
    if targets >= MAX_DEFAULT_ATTEMPTS:
        yield "max_attempts", targets + 1


def _chain(chain: Sequence[Item], policy: str, indent: str) -> Iterator[str]:
    plain = ", ".join(scalar(item.target) for item in chain)
    if not any(item.settings for item in chain) and len(plain) < _LINE and len(chain) == 1:
        yield f"{indent}chain: [{plain}]"
        return
    yield f"{indent}chain:"
    via = ""
    for pool, members in groupby(chain, key=lambda item: item.pool or item.target):
        group = list(members)
        note = _note(group[0], via)
        via = group[-1].via
        if len(group) > 1 and pool:
            yield f"{indent}  - pool: {policy}{note}"
            yield f"{indent}    of:"
            yield from (f"{indent}      - {_item(item, item.share)}" for item in group)
        else:
            yield f"{indent}  - {_item(group[0])}{note}"


def _item(item: Item, share: float | None = None) -> str:
    settings = (
        item.settings if share is None else {"weight": int(share) if share == int(share) else share, **item.settings}
    )
    return _flow({"target": item.target, **settings}) if settings else scalar(item.target)


def _note(item: Item, via: str) -> str:
    """Says where a chain goes on to the targets of another name."""
    return f"    # fallback: {_comment(item.via)}" if item.via != via and item.via not in ("", item.target) else ""


def _flat(chain: Sequence[Item], indent: str) -> Iterator[str]:
    """A chain that has no pools."""
    via = ""
    for item in chain:
        yield f"{indent}- {_item(item)}{_note(item, via)}"
        via = item.via


def _fallbacks(fallbacks: Mapping[str, Sequence[Item]]) -> Iterator[str]:
    if not fallbacks:
        return
    yield ""
    yield "fallbacks:                      # behind names that no route serves"
    for name, chain in fallbacks.items():
        yield f"  {scalar(name)}:"
        yield from _flat(chain, "    ")


def _keys(master: str | None) -> Iterator[str]:
    if master is not None:
        yield ""
        yield "gateway_keys:                   # more of them:  crossfade keys new --name NAME"
        yield f"  - {{name: master, key: env:{master}}}"


# --- values ---------------------------------------------------------------------------------------------------


def scalar(text: str) -> str:
    """A text as YAML, quoted where it would be read as something else."""
    if _PLAIN.fullmatch(text) and _is_text(text):
        return text
    return _quoted(text.replace("${", "$${"))


def _is_text(text: str) -> bool:
    resolver: Any = yaml.SafeLoader("")
    return bool(resolver.resolve(yaml.ScalarNode, text, (True, False)) == "tag:yaml.org,2002:str")


def _quoted(text: str) -> str:
    def escaped(mark: str) -> str:
        if mark in '"\\':
            return "\\" + mark
        return mark if mark.isprintable() else f"\\U{ord(mark):08x}"

    return '"' + "".join(map(escaped, text)) + '"'


def _reference(text: str) -> str:
    """A value that refers to the environment, or a plain one."""
    return _quoted(text) if text.startswith("${") else scalar(text)


def _comment(text: str) -> str:
    return "".join(mark if mark.isprintable() else "?" for mark in text)


def _flow(value: object) -> str:
    """A value in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(str(key))}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return _reference(value)
    if isinstance(value, float):
        text = repr(value)
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    return "null" if value is None else str(value).lower()
