"""`GET /v1/models`: the names that a caller's key may use, and what is known of the chain behind each.

Decides what of a directory a key sees, and how it is shown: in OpenAI's shape, or in Anthropic's. Pure: it asks no
provider and knows nothing of health, so a name stays while every target of it is down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, unquote

import msgspec

from crossfade.config.directory import Directory
from crossfade.config.settings import DEFAULT_ROUTE
from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Ability
from crossfade.core.rules import matches
from crossfade.core.target import Route, Target

DEFAULT_PAGE: Final = 20
"""Models on a page of Anthropic's list where the caller gives no `limit`."""
MAX_PAGE: Final = 1000
"""The highest `limit` of Anthropic's list."""

_PATHS: Final = ("/v1/models", "/models")
_OURS: Final = "crossfade"
_UNKNOWN_DAY: Final = "1970-01-01T00:00:00Z"
"""What Anthropic's API gives where it does not know when a model was released. Of a chain nobody knows it."""


def model_of(path: str) -> str | None:
    """The id that a path, as sent, asks for; "" for the list of all, None where the path is not of this endpoint."""
    for prefix in _PATHS:
        if path == prefix:
            return ""
        if path.startswith(prefix + "/"):
            return unquote(path[len(prefix) + 1 :]) or None
    return None


class Models:
    """The answers for one directory. What a kind of key sees is worked out once: there are as many kinds as routes
    that keys are bound to, and one more."""

    __slots__ = ("_seen", "directory")

    def __init__(self, directory: Directory):
        self.directory = directory
        self._seen: dict[str | None, _Seen] = {}

    def answer(self, model: str, query: str, *, bound_route: str | None, is_anthropic: bool) -> bytes:
        """The body for one model, or for the list where `model` is "". `bound_route` is that of the caller's key.

        Raises UnknownRoute for a name that this key cannot use, and InvalidRequest for impossible pages.
        """
        seen = self._seen.get(bound_route)
        if seen is None:
            seen = self._seen[bound_route] = _Seen(self.directory, bound_route)
        if model:
            return seen.one(model, is_anthropic)
        return seen.page(query) if is_anthropic else seen.list


class _Seen:
    """What one kind of key sees. `list` is the whole list in OpenAI's shape."""

    __slots__ = ("_bound", "_directory", "_names", "list")

    def __init__(self, directory: Directory, bound_route: str | None):
        self._directory = directory
        self._bound: Route | None = None
        if bound_route is None:
            found = {name: directory.route_for(name) for name in directory.models()}
            routes = {name: route for name, route in found.items() if route is not None}
        else:
            self._bound = route = directory.route_for(bound_route)
            if route is None:
                raise directory.unknown(bound_route)
            names = (route.name, *(pattern for pattern in route.match if "*" not in pattern))
            routes = dict.fromkeys(names, route)
        self._names = tuple(routes)
        models = [_model(name, route) for name, route in routes.items()]
        self.list: Final = msgspec.json.encode({"object": "list", "data": models})

    def one(self, name: str, is_anthropic: bool) -> bytes:
        """A name that would be served is there, listed or not: wildcards and `provider/model` take endless ones."""
        route = self._find(name)
        if route is None:
            raise self._directory.unknown(name, among=() if self._bound is None else self._names)
        return msgspec.json.encode(_anthropic_model(name) if is_anthropic else _model(name, route))

    def _find(self, name: str) -> Route | None:
        if self._bound is None:
            return self._directory.route_for(name)
        if name in self._names or any(matches(tuple(pattern.split("*")), name) for pattern in self._bound.match):
            return self._bound
        return None

    def page(self, query: str) -> bytes:
        """A page of Anthropic's list; `has_more` speaks of the direction that is being paged in."""
        said = dict(parse_qsl(query))
        limit = _limit(said)
        names = self._names
        if "before_id" in said:
            if "after_id" in said:
                raise InvalidRequest("Give `after_id` or `before_id`, not both.", param="before_id")
            end = self._place(said, "before_id")
            begin = max(0, end - limit)
            has_more = begin > 0
        else:
            begin = self._place(said, "after_id") + 1 if "after_id" in said else 0
            end = begin + limit
            has_more = end < len(names)
        shown = names[begin:end]
        return msgspec.json.encode(
            {
                "data": [_anthropic_model(name) for name in shown],
                "has_more": has_more,
                "first_id": shown[0] if shown else None,
                "last_id": shown[-1] if shown else None,
            }
        )

    def _place(self, said: Mapping[str, str], param: str) -> int:
        try:
            return self._names.index(said[param])
        except ValueError:
            raise InvalidRequest(f"`{param}` is no id of this list.", param=param) from None


def _limit(said: Mapping[str, str]) -> int:
    text = said.get("limit", str(DEFAULT_PAGE))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_PAGE):
        raise InvalidRequest(f"`limit` is a whole number from 1 to {MAX_PAGE}.", param="limit")
    return int(text)


# --- what is shown -------------------------------------------------------------------------------------------


class _TargetShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    target: str
    window_tokens: int | None = None
    abilities: dict[str, bool]
    always_thinks: bool
    usd_per_input_token: float | None = None
    usd_per_output_token: float | None = None


class _ChainShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    route: str | None = None
    chain: list[str]
    window_tokens: int | None = None  # the smallest that is known
    largest_window_tokens: int | None = None
    abilities: dict[str, bool]
    always_thinks: bool
    targets: list[_TargetShown]


class _Model(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["model"] = "model"
    created: int = 0  # Unix seconds; of a chain nobody knows
    owned_by: str
    crossfade: _ChainShown


def _model(name: str, route: Route) -> _Model:
    is_ours = route.name != DEFAULT_ROUTE
    return _Model(
        id=name,
        owned_by=_OURS if is_ours else route.chain[0].targets[0].provider,
        crossfade=_chain(route, route.name if is_ours else None),
    )


def _chain(route: Route, name: str | None) -> _ChainShown:
    targets = [rung.targets[0] for rung in route.chain]  # the others of a rung differ in the key alone
    windows = [target.window for target in targets if target.window is not None]
    return _ChainShown(
        route=name,
        chain=[target.name for target in targets],
        window_tokens=min(windows, default=None),
        largest_window_tokens=max(windows, default=None),
        abilities=_abilities(frozenset[Ability]().union(*(target.lacks for target in targets))),
        always_thinks=all(target.always_thinks for target in targets),
        targets=[_target(target) for target in targets],
    )


def _target(target: Target) -> _TargetShown:
    return _TargetShown(
        target=target.name,
        window_tokens=target.window,
        abilities=_abilities(target.lacks),
        always_thinks=target.always_thinks,
        usd_per_input_token=target.price_in,
        usd_per_output_token=target.price_out,
    )


def _abilities(lacks: frozenset[Ability]) -> dict[str, bool]:
    """As the planner sees them: what is not known to be missing is there."""
    return {ability.value: ability not in lacks for ability in Ability}


def _anthropic_model(name: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": _UNKNOWN_DAY}
