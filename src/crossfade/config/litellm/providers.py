"""Makes providers of deployments: which share one, what each is called.

Deployments at one address whose keys are used for the very same things are one provider with several keys, which
share the load; all others are providers of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from crossfade.config.build import is_plain_name
from crossfade.config.litellm.deployments import Deployment
from crossfade.config.litellm.prefixes import GENERIC, host_label
from crossfade.config.problems import Path


class ProviderPart(msgspec.Struct, frozen=True, kw_only=True):
    """A provider of the output. `variables` are those of its keys; `models` holds facts by model."""

    name: str
    vendor: str
    base_url: str | None
    is_private: bool
    variables: tuple[str, ...]
    models: Mapping[str, Mapping[str, Any]]


def wildcard_head(one: Deployment) -> str | None:
    """`P` where the deployment serves `P/x*` with its own `x*`: then a provider named `P` serves the same names."""
    head, slash, rest = one.group.partition("/")
    return head if "*" in one.model and slash and rest == one.model and _is_provider_name(head) else None


def make_providers(found: Sequence[Deployment]) -> tuple[tuple[ProviderPart, ...], Mapping[Path, str]]:
    """The providers in the order of the file, and the name of each deployment's."""
    sets = _shared(found)
    names = _names(sets)
    parts, of = [], {}
    for members, name in zip(sets, names, strict=True):
        first = members[0]
        models: dict[str, dict[str, Any]] = {}
        for one in members:
            of[one.path] = name
            if one.facts:
                models.setdefault(one.model, {}).update(
                    {key: value for key, value in one.facts.items() if key not in models.get(one.model, {})}
                )
        parts.append(
            ProviderPart(
                name=name,
                vendor=first.vendor,
                base_url=first.base_url,
                is_private=first.is_private,
                variables=tuple(dict.fromkeys(one.variable for one in members if one.variable)),
                models=models,
            )
        )
    return tuple(parts), of


def _shared(found: Sequence[Deployment]) -> list[list[Deployment]]:
    """The deployments by provider."""
    by_key: dict[tuple[str, str | None, str | None], list[Deployment]] = {}
    for one in found:
        by_key.setdefault((one.vendor, one.base_url, one.variable), []).append(one)
    shared: dict[object, list[Deployment]] = {}
    for (vendor, base_url, variable), members in by_key.items():
        uses = frozenset((one.group, one.model, one.order, repr(one.settings)) for one in members)
        # Without a key there is nothing to share, and a server is not another one for being named twice.
        shared.setdefault((vendor, base_url, variable is None, uses), []).extend(members)
    return list(shared.values())


def _names(sets: Sequence[Sequence[Deployment]]) -> list[str]:
    heads = [next((head for one in members if (head := wildcard_head(one))), None) for members in sets]
    wanted = [_wanted(members[0]) for members in sets]
    often = Counter(want for want, head in zip(wanted, heads, strict=True) if head is None)
    taken: set[str] = set()
    names: dict[int, str] = {}
    for i in sorted(range(len(sets)), key=lambda i: heads[i] is None):
        name = heads[i] or wanted[i]
        if heads[i] is None and (often[name] > 1 or name in taken) and (label := host_label(sets[i][0].base_url)):
            name = name if name.endswith(label) else f"{name}-{label}"
        base, number = name, 2
        while name in taken:
            name, number = f"{base}-{number}", number + 1
        taken.add(name)
        names[i] = name
    return [names[i] for i in range(len(sets))]


def _wanted(one: Deployment) -> str:
    if one.vendor != "compatible":
        return one.vendor
    if one.prefix not in GENERIC:
        return one.prefix
    label = host_label(one.base_url)
    return label if label and label[0].isalpha() else "local" if label else "server"


def _is_provider_name(name: str) -> bool:
    return is_plain_name(name) and "/" not in name
