"""Makes routes of LiteLLM's model names: who answers each, in which order, and after which failures.

LiteLLM shares the requests for a name among its deployments and then goes on to the names under `fallbacks`; here both
are one chain, which begins with a pool.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any, Final

import msgspec

from crossfade.config.build import is_plain_name
from crossfade.config.litellm.deployments import SHARES, Deployment
from crossfade.config.litellm.providers import wildcard_head
from crossfade.config.litellm.report import Ledger
from crossfade.config.problems import Path
from crossfade.core.target import Vendor

ANY: Final = "*"
GENERAL: Final = "fallbacks"
CONTEXT: Final = "context_window_fallbacks"
CONTENT: Final = "content_policy_fallbacks"
DEFAULTS: Final = "default_fallbacks"
WEIGHTED: Final = "weighted"
STRATEGIES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "simple-shuffle": (WEIGHTED, ""),
        "least-busy": ("least_requests", ""),
        "latency-based-routing": ("fastest", "pools go by the time to first content"),
        "usage-based-routing": ("headroom", "pools go by what providers say is left of their limits"),
        "usage-based-routing-v2": ("headroom", "pools go by what providers say is left of their limits"),
        "cost-based-routing": ("cheapest", ""),
    }
)
"""What LiteLLM calls the ways to share requests: the policy of a pool that does so, and what is different."""
MOST_SHARE: Final = 100_000.0
_SECTIONS: Final = ("router_settings", "litellm_settings")


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """An item of a chain: its target, its own settings, and the LiteLLM name that it falls back to ("": its own).
    Neighbours with the same `pool` share the requests, by `share` where that is not None."""

    target: str
    settings: Mapping[str, Any]
    via: str = ""
    pool: str = ""
    share: float | None = None


class RoutePart(msgspec.Struct, frozen=True, kw_only=True):
    """A route of the output. `fallback_on` is empty for the default."""

    name: str
    match: tuple[str, ...]
    chain: tuple[Item, ...]
    fallback_on: tuple[str, ...]


class _Entry(msgspec.Struct, frozen=True):
    """One name of a list of fallbacks and its place."""

    name: str
    path: Path


_Table = Mapping[str, Sequence[_Entry]]


class Chains:
    """The routes and fallbacks of the output. `providers` names the provider of each deployment's place."""

    def __init__(
        self,
        found: Sequence[Deployment],
        providers: Mapping[Path, str],
        vendors: Mapping[str, Vendor],
        ledger: Ledger,
    ):
        self._providers, self._vendors, self._ledger = providers, vendors, ledger
        self._groups: dict[str, list[Deployment]] = {}
        self._wild: list[Deployment] = []
        for one in found:
            if "*" in one.model:
                self._wild.append(one)
            else:
                self._groups.setdefault(one.group, []).append(one)
        self._ids = {one.id: one for one in found if one.id is not None and "*" not in one.model}
        self._heads = {providers[one.path] for one in self._wild if wildcard_head(one) == providers[one.path]}
        self._aliases = self._read_aliases()
        self._tables = {kind: self._table(kind) for kind in (GENERAL, CONTEXT, CONTENT)}
        self._defaults = self._read_defaults()
        self.policy = self._read_policy()
        """By what the pools of the output share the requests."""

    # --- the output ---

    def routes(self) -> tuple[RoutePart, ...]:
        """A route for every model name, in the order of the file. Names that no route can serve are remarks."""
        made: dict[str, RoutePart] = {}
        for group in self._groups:
            route = self._route(group, made)
            if route is not None:
                made[route.name] = route
        return tuple(made.values())

    def fallbacks(self, routes: Sequence[RoutePart]) -> dict[str, tuple[Item, ...]]:
        """The chains behind names that none of the routes serves."""
        made = {}
        served = {name for route in routes for name in (route.name, *route.match)}
        for key, entries in self._tables[GENERAL].items():
            if key == ANY or key in self._groups:
                continue
            names = [name for name in self._names_behind(key) if name not in served]
            for name in names:
                made[name] = self._items(self._behind(entries, {key}), set())
            if not names and entries:
                what = f"no model of the file that was carried over has the name {key!r} to itself"
                if "*" in key:
                    what = "behind a wildcard crossfade takes exact names, or '*' for all that no route serves"
                self._ledger.say("dropped", entries[0].path[:-1], what)
        if self._defaults:
            made[ANY] = self._items(self._behind(self._defaults, set()), set())
        return {name: chain for name, chain in made.items() if chain}

    def check_wildcards(self) -> None:
        """Remarks on the wildcards: which of the names they serve are served here."""
        for one in self._wild:
            path, name = (*one.path, "model_name"), self._providers[one.path]
            head = wildcard_head(one)
            if head is not None and head == name:
                self._ledger.use(path)
                continue
            row = self._vendors.get(one.vendor)
            beginnings = row.model_prefixes if row is not None and one.base_url is None else ()
            start = one.group.partition("*")[0]
            is_own = one.group == one.model and start.startswith(beginnings) if beginnings else False
            if is_own or (one.group == one.model == ANY and beginnings):
                what = f"names are served as far as crossfade knows them for models of {one.vendor}'s"
                self._ledger.say("changed", path, f"{what}; {name}/MODEL always works")
            else:
                what = f"{one.group!r} is rewritten to {one.model!r}, which a chain cannot say"
                self._ledger.say("lost", one.path, f"{what}; applications can send {name}/MODEL")

    def served(self) -> list[str]:
        """The wildcard names that are served without a route."""
        return [one.group for one in self._wild if wildcard_head(one) == self._providers[one.path]]

    # --- one route ---

    def _route(self, group: str, made: Mapping[str, RoutePart]) -> RoutePart | None:
        own = self._own(group)
        name, match = group, list(self._aliases.get(group, ()))
        if not is_plain_name(group):
            if not group.isprintable() or any(mark in ", " for mark in group):
                what = f"{group!r} has a space or comma, which crossfade takes for a list of names; rename it"
                self._ledger.say("lost", own[0].path, what)
                return None
            taken = {*made, *self._groups, *(alias for names in self._aliases.values() for alias in names)}
            name, match = _clean(group, taken), [group, *match]
        general, context, content = (self._after(group, kind) for kind in (GENERAL, CONTEXT, CONTENT))
        seen: set[str] = set()
        chain = self._items(self._of(own, ""), seen)
        is_general = len(chain) > 1
        more = self._items(self._behind(general, {group}), seen)
        is_general = is_general or bool(more)
        for_context, for_content = list(self._direct(context)), list(self._direct(content))
        special = self._items(iter([*for_context, *for_content]), seen)
        self._remark(own, [*context, *content], is_general)
        return RoutePart(
            name=name,
            match=tuple(match),
            chain=(*chain, *more, *special),
            fallback_on=_words(is_general, bool(for_context), bool(for_content)),
        )

    def _own(self, group: str) -> list[Deployment]:
        """The deployments of a name: lower `order`, then heavier `weight`, then the order of the file."""
        return sorted(self._groups[group], key=lambda one: (one.order, -one.shares.get("weight", 1.0)))

    def _remark(self, own: Sequence[Deployment], special: Sequence[_Entry], is_general: bool) -> None:
        if len(own) > 1:
            targets = len({self._target(one) for one in own})
            if targets == 1:
                what = f"the {len(own)} deployments of {own[0].group!r} are one target with their keys, which share the"
                first = min(own, key=lambda one: one.path)
                self._ledger.say("changed", (*first.path, "model_name"), f"{what} load")
            for one in own:
                if one.order:
                    self._ledger.use((*one.path, "litellm_params", "order"))
        if is_general:
            for entry in special:
                what = "comes last in the chain, and is asked after any other failure too"
                self._ledger.say("changed", entry.path, what)

    # --- who is behind a name ---

    def _of(self, members: Sequence[Deployment], via: str) -> Iterator[Item]:
        """The deployments of a name: a pool of those with the same `order`, one after the other."""
        for order, alike in groupby(members, key=lambda one: one.order):
            group = list(alike)
            shares = self._shares(group)
            pool = f"{group[0].group} {order:g}"
            for one in group:
                target = self._target(one)
                yield Item(target=target, settings=one.settings, via=via, pool=pool, share=shares.get(target))

    def _shares(self, group: Sequence[Deployment]) -> dict[str, float]:
        """How the requests are shared, by target, where not all have the same: by the first of `weight`, `rpm` and
        `tpm` that the first of them has, and else by how often each is there."""
        first = min(group, key=lambda one: one.path)
        by = next((key for key in SHARES if key in first.shares), None) if self.policy == WEIGHTED else None
        found: dict[str, float] = {}
        for one in group:
            share = 1.0 if by is None else one.shares.get(by, 0.0)
            found[self._target(one)] = found.get(self._target(one), 0.0) + share
        if len(found) > 1 and by is not None:
            for one in group:
                path = (*one.path, "litellm_params", by)
                if by == "weight":
                    self._ledger.use(path)
                elif by in one.shares:
                    self._ledger.say("changed", path, "the weight in the pool, and no limit: crossfade keeps none")
        if self.policy != WEIGHTED or len(set(found.values())) == 1 or max(found.values()) <= 0.0:
            return {}
        most = max(found.values())
        scale = MOST_SHARE / most if most > MOST_SHARE else 1.0
        return {target: round(share * scale, 3) for target, share in found.items()}

    def _target(self, one: Deployment) -> str:
        return f"{self._providers[one.path]}/{one.model}"

    def _behind(self, entries: Sequence[_Entry], seen: set[str]) -> Iterator[Item]:
        """The targets of some names and of the names that these fall back to in turn, as LiteLLM goes on."""
        for entry in entries:
            name = self._resolved(entry.name)
            if name in seen:
                continue
            seen.add(name)
            yield from self._direct([entry])
            yield from self._behind(self._after(name, GENERAL), seen)

    def _direct(self, entries: Sequence[_Entry]) -> Iterator[Item]:
        for entry in entries:
            name = self._resolved(entry.name)
            provider, _, model = name.partition("/")
            if name in self._groups:
                yield from self._of(self._own(name), name)
            elif name in self._ids:
                yield from self._of([self._ids[name]], name)
            elif provider in self._heads and model and "*" not in name:
                yield Item(target=name, settings={}, via=name)
            else:
                what = f"nothing of {entry.name!r} was carried over, so nothing falls back to it"
                self._ledger.say("dropped", entry.path, what)

    def _items(self, items: Iterator[Item], seen: set[str]) -> tuple[Item, ...]:
        """The items whose targets are new. A chain asks a target once."""
        taken = []
        for item in items:
            if item.target not in seen:
                seen.add(item.target)
                taken.append(item)
        return tuple(taken)

    def _after(self, group: str, kind: str) -> Sequence[_Entry]:
        table = self._tables[kind]
        found = table.get(group)
        if found is None:
            found = table.get(ANY)
        return self._defaults if found is None and kind == GENERAL else found or ()

    def _resolved(self, name: str) -> str:
        if name in self._groups:
            return name
        return next((group for group, names in self._aliases.items() if name in names), name)

    def _names_behind(self, key: str) -> list[str]:
        """What applications send for the wildcard name that some fallbacks are for."""
        provider, slash, model = key.partition("/")
        if "*" in key or "," in key or not key.strip() or not key.isprintable():
            return []
        if slash and model and provider in self._heads:
            return [key]
        owners = {
            name
            for one in self._wild
            if (row := self._vendors.get(one.vendor)) is not None and key.startswith(row.model_prefixes or ("\0",))
            for name in (self._providers[one.path],)
        }
        return [key, *(f"{name}/{key}" for name in sorted(owners))] if owners else []

    # --- the settings ---

    def _setting(self, name: str) -> tuple[Any, Path] | None:
        """A setting of the router, else of LiteLLM as a whole, with its place."""
        root = self._ledger.value
        for section in _SECTIONS:
            values = root.get(section) if isinstance(root, dict) else None
            if isinstance(values, dict) and values.get(name) is not None:
                return values[name], (section, name)
        return None

    def _table(self, kind: str) -> dict[str, list[_Entry]]:
        """`[{name: [names]}, ...]` as a mapping."""
        found: dict[str, list[_Entry]] = {}
        value, path = self._setting(kind) or (None, ())
        for i, one in enumerate(value if isinstance(value, list) else []):
            for name, names in one.items() if isinstance(one, dict) else ():
                found[name] = self._entries(names, (*path, i, name))
                self._ledger.use(path)
        return found

    def _entries(self, names: object, path: Path) -> list[_Entry]:
        entries = []
        for i, name in enumerate(names if isinstance(names, list) else [names]):
            place = (*path, i)
            if isinstance(name, dict) and isinstance(name.get("model"), str):
                what = "parameters of a fallback are not carried; give them under `set` of the target"
                self._ledger.say("changed", place, what)
                name = name["model"]
            if isinstance(name, str) and name:
                entries.append(_Entry(name, place))
            else:
                self._ledger.say("dropped", place, "names no model")
        return entries

    def _read_policy(self) -> str:
        """The policy of pools that does what `routing_strategy` says."""
        value, path = self._setting("routing_strategy") or (None, ())
        if value is None:
            return WEIGHTED
        policy, note = STRATEGIES.get(str(value), (None, ""))
        if policy is None:
            self._ledger.say("dropped", path, "not known to the import; pools share the requests by weight")
            return WEIGHTED
        if not any(len({self._target(one) for one in group}) > 1 for group in self._groups.values()):
            self._ledger.say("dropped", path, "no model of the file that was carried over has several deployments")
        elif note:
            self._ledger.say("changed", path, note)
        else:
            self._ledger.use(path)
        return policy

    def _read_defaults(self) -> Sequence[_Entry]:
        value, path = self._setting(DEFAULTS) or (None, ())
        if value is not None:
            self._ledger.use(path)
            return self._entries(value, path)
        return self._tables[GENERAL].get(ANY, ())

    def _read_aliases(self) -> dict[str, list[str]]:
        """The other names of each group."""
        found: dict[str, list[str]] = {}
        value, path = self._setting("model_group_alias") or (None, ())
        taken: set[str] = set()
        for alias, target in value.items() if isinstance(value, dict) else ():
            self._ledger.use(path)
            place = (*path, alias)
            name = target.get("model") if isinstance(target, dict) else target
            for key in target if isinstance(target, dict) else ():
                if key != "model":
                    what = (
                        "crossfade lists every name that a key may use"
                        if key == "hidden"
                        else "not known to the import"
                    )
                    self._ledger.say("dropped", (*place, key), what)
            if not isinstance(name, str) or name not in self._groups:
                self._ledger.say("dropped", place, f"no model of the file that was carried over is called {name!r}")
            elif alias in self._groups or alias in taken:
                self._ledger.say("dropped", place, "a model has this name itself, and its route serves it")
            elif not alias.isprintable() or not alias or any(mark in ", " for mark in alias):
                self._ledger.say("dropped", place, "has a space or comma, which model names have not here")
            else:
                taken.add(alias)
                found.setdefault(str(name), []).append(alias)
        return found


def _words(is_general: bool, has_context: bool, has_content: bool) -> tuple[str, ...]:
    """`fallback_on` of a route; empty for the default."""
    if is_general:
        return ("default", "content_filter") if has_content else ()
    return tuple(
        word for word, is_there in (("context_overflow", has_context), ("content_filter", has_content)) if is_there
    )


def _clean(name: str, taken: set[str]) -> str:
    """A name for the route of a pattern, or of a name that routes cannot have."""
    plain = re.sub(r"[^A-Za-z0-9._/:@+-]+", "-", name).strip("-_./:@+")[:100]
    base = plain or ("any" if name == ANY else "model")
    result, number = base, 2
    while result in taken:
        result, number = f"{base}-{number}", number + 1
    return result
