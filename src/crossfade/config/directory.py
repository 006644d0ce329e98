"""What a model name that a caller sends stands for: pure, and bounded whatever callers make up.

The order: a route's name; a name in a route's `match`, exact before wildcards, of these the longest beginning
first; `provider/model`; a bare model id. Behind the last two come the `fallbacks` of that name, else those of `*`.
A caller can never name a host, only providers of the file.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from crossfade.config.naming import resolve_name
from crossfade.config.problems import did_you_mean
from crossfade.config.rungs import make_rung
from crossfade.config.settings import DEFAULT_ROUTE, Config
from crossfade.core.errors import UnknownRoute
from crossfade.core.residency import Residence
from crossfade.core.rules import matches
from crossfade.core.target import Route, Rung

MAX_NAME = 1024
"""Characters of a name, or of a chain of names; longer ones are unknown."""
MAX_CHAIN = 32
"""Names in `a, b, c`, as in any chain of a request."""
CACHED_NAMES = 1024
_NOWHERE = Residence()


class Directory:
    """Finds routes and rungs by name for one configuration. Routes that callers name ad hoc are called `*`."""

    def __init__(self, config: Config):
        self._config = config
        self.vendors = {name: provider.vendor.name for name, provider in config.providers.items()}
        """The vendor of each provider."""
        self.passthrough = config.passthrough
        self.dialects = {name: provider.vendor.dialect for name, provider in config.providers.items()}
        """The dialect that each provider speaks."""
        self._places = {name: provider.residence for name, provider in config.providers.items()}
        self._exact: dict[str, Route] = {}
        wildcards: list[tuple[str, Route]] = []
        for route in config.routes.values():
            for pattern in route.match:
                if "*" in pattern:
                    wildcards.append((pattern, route))
                else:
                    self._exact.setdefault(pattern, route)
        # Sorting is stable: of equally long beginnings the longer pattern, then the first in the file, wins.
        wildcards.sort(key=lambda one: (-len(one[0].partition("*")[0]), -len(one[0])))
        self._wildcards = tuple((tuple(pattern.split("*")), route) for pattern, route in wildcards)
        chains = [route.every_rung() for route in config.routes.values()] + list(config.fallbacks.values())
        self._named: dict[str, Rung] = {}
        for chain in chains:
            for rung in chain:
                self._named.setdefault(rung.name, rung)
        self._routes = functools.lru_cache(CACHED_NAMES)(self._find_route)
        self._rungs = functools.lru_cache(CACHED_NAMES)(self._find_rung)

    def route_for(self, name: str) -> Route | None:
        """The route of a model name, or of a chain of them (`a, b, c`); None if one of them is unknown."""
        return self._routes(name) if len(name) <= MAX_NAME else None

    def rung_for(self, name: str) -> Rung | None:
        """The rung of a `provider/model` or a bare model id; None for unknown names. Looks at no route: a name in
        `fallback_models` may be one, and is then several rungs (`rungs_for`)."""
        return self._rungs(name.strip()) if len(name) <= MAX_NAME else None

    def rungs_for(self, name: str) -> tuple[Rung, ...]:
        """The rungs of any single name; a route's are its chain. Empty for unknown names."""
        if len(name) > MAX_NAME:
            return ()
        name = name.strip()
        if (route := self._configured(name)) is not None:
            return route.chain
        rung = self._rungs(name)
        return () if rung is None else (rung,)

    def chain(self, names: str) -> tuple[Rung, ...]:
        """The rungs of `a, b, c`, none twice. Raises UnknownRoute for the first name that is unknown."""
        rungs: list[Rung] = []
        if names.count(",") >= MAX_CHAIN:
            raise self.unknown(names)
        for name in names.split(","):
            found = self.rungs_for(name)
            if not found:
                raise self.unknown(name.strip())
            rungs += found
        return _distinct(rungs)

    def unknown(self, name: str, param: str = "model", among: Sequence[str] = ()) -> UnknownRoute:
        """The error for a name that stands for nothing, with the nearest that does. `among`: the only names that
        the caller may be told of."""
        shown = name if len(name) <= 80 else name[:77] + "..."
        if len(name) > MAX_NAME:
            return UnknownRoute(f"the model name {shown!r} has more than {MAX_NAME} characters", param=param)
        if name.count(",") >= MAX_CHAIN:
            return UnknownRoute(f"the chain {shown!r} has more than {MAX_CHAIN} names", param=param)
        hint = (
            f"; known are {', '.join(among)}" if among else "; name a route, a model of a provider, or provider/model"
        )
        near = did_you_mean(name, among or self.models()) or hint
        return UnknownRoute(f"unknown model {shown!r}{near}", param=param)

    def objection(self, route: Route, rung: Rung) -> str | None:
        """Why a caller of `route` may not add `rung` by `fallback_models`, in words; None if it may."""
        if route.name == DEFAULT_ROUTE:
            return None  # these callers name their targets themselves
        if route.allow is None:
            is_allowed = rung.name in self._named
        else:
            is_allowed = any(matches(tuple(pattern.split("*")), rung.name) for pattern in route.allow)
        if not is_allowed:
            return f"route {route.name!r} does not allow {rung.name!r}"
        unmet = route.require.unmet(self._places.get(rung.targets[0].provider, _NOWHERE))
        return None if unmet is None else f"route {route.name!r} does not allow {rung.name!r}: {unmet}"

    def models(self) -> tuple[str, ...]:
        """The names that work here, each once: routes, exact matches, targets in chains, declared models."""
        names: list[str] = [*self._config.routes, *self._exact, *self._named]
        for provider in self._config.providers.values():
            names += [f"{provider.name}/{model}" for model in provider.models]
        names += [name for name in self._config.fallbacks if name != "*"]
        return tuple(dict.fromkeys(names))

    def _configured(self, name: str) -> Route | None:
        route = self._config.routes.get(name) or self._exact.get(name)
        if route is not None:
            return route
        return next((route for pieces, route in self._wildcards if matches(pieces, name)), None)

    def _find_route(self, name: str) -> Route | None:
        if "," in name:  # first: a wildcard would take the whole list for one name
            return self._several(name)
        name = name.strip()
        route = self._configured(name)
        if route is not None or name in ("", "*"):
            return route
        rung = self._rungs(name)
        chain = _distinct([*(() if rung is None else (rung,)), *self._behind(name, rung)])
        return self._ad_hoc(chain) if chain else None

    def _behind(self, name: str, rung: Rung | None) -> tuple[Rung, ...]:
        fallbacks = self._config.fallbacks
        for key in (name, "" if rung is None else rung.name, "*"):
            if key in fallbacks:
                return fallbacks[key]  # an empty chain of its own means: none, whatever `*` says
        return ()

    def _several(self, names: str) -> Route | None:
        try:
            return self._ad_hoc(self.chain(names))
        except UnknownRoute:
            return None

    def _ad_hoc(self, chain: tuple[Rung, ...]) -> Route:
        return Route(name=DEFAULT_ROUTE, chain=chain, policy=self._config.default_policy)

    def _find_rung(self, name: str) -> Rung | None:
        parts = resolve_name(name, self._config.providers, self._config.facts)
        if parts is None:
            return None
        return make_rung(self._config.providers[parts[0]], parts[1], self._config.facts)


def _distinct(rungs: Iterable[Rung]) -> tuple[Rung, ...]:
    found: dict[str, Rung] = {}
    for rung in rungs:
        found.setdefault(rung.name, rung)
    return tuple(found.values())
