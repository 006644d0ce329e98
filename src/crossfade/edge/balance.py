"""What an operator changes of the balance while the gateway runs: targets that are drained, weights in pools.

It holds until it is changed again or the process ends; a reload of the configuration leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from crossfade.core.balancer import Balancer
from crossfade.core.errors import InvalidRequest
from crossfade.core.health import HealthBoard
from crossfade.core.target import Link, Pool, Route

MAX_WEIGHT = 1_000_000


class WeightAsked(msgspec.Struct, forbid_unknown_fields=True):
    """`pool` by its place in the configuration, `member` by its target or its own place."""

    pool: str
    member: str
    weight: float


class BalanceAsked(msgspec.Struct, forbid_unknown_fields=True):
    """All that is to differ from the configuration. `drained` are providers, `provider/model`, or patterns."""

    drained: list[str] = []
    weights: list[WeightAsked] = []


class Balance:
    """The changes to one gateway's balance. `routes` gives those of the present configuration."""

    def __init__(self, board: HealthBoard, balancer: Balancer, routes: Callable[[], Mapping[str, Route]]) -> None:
        self._board = board
        self._balancer = balancer
        self._routes = routes
        self._weights: tuple[WeightAsked, ...] = ()

    def set(self, body: bytes) -> None:
        """Replaces all changes. Raises InvalidRequest naming the field, and then everything is as it was."""
        try:
            asked = msgspec.json.decode(body, type=BalanceAsked)
        except msgspec.DecodeError as error:
            raise InvalidRequest(f"The body must have `drained` and `weights`: {error}.", param="body") from None
        self._check(asked)
        self._apply(tuple(asked.drained), tuple(asked.weights))

    def reset(self) -> None:
        """Takes all changes back."""
        self._apply((), ())

    def shown(self) -> dict[str, Any]:
        """What is drained, and every pool with its weights as they are now."""
        return {
            "drained": list(self._board.drained),
            "pools": [
                {
                    "pool": pool.name,
                    "policy": pool.policy,
                    "members": [
                        {
                            "member": member.link.name,
                            "weight": self._balancer.weight(pool, member),
                            "configured": member.weight,
                        }
                        for member in pool.members
                    ],
                }
                for pool in self._pools()
            ],
        }

    def _apply(self, drained: tuple[str, ...], weights: tuple[WeightAsked, ...]) -> None:
        for old in self._weights:
            self._balancer.reweigh(old.pool, old.member, None)
        for new in weights:
            self._balancer.reweigh(new.pool, new.member, new.weight)
        self._weights = weights
        self._board.drain(drained)

    def _check(self, asked: BalanceAsked) -> None:
        rungs = {rung.name for route in self._routes().values() for rung in route.every_rung()}
        for place, pattern in enumerate(asked.drained):
            if not any(fnmatchcase(name, pattern) or fnmatchcase(name.partition("/")[0], pattern) for name in rungs):
                known = ", ".join(sorted(rungs))
                message = f"`drained[{place}]`: {pattern!r} is no target of any route; there are {known}."
                raise InvalidRequest(message, param=f"drained[{place}]")
        pools = {pool.name: pool for pool in self._pools()}
        for place, one in enumerate(asked.weights):
            param = f"weights[{place}]"
            if (pool := pools.get(one.pool)) is None:
                known = ", ".join(pools) or "none"
                raise InvalidRequest(f"`{param}.pool`: there is no pool {one.pool!r}; there are {known}.", param=param)
            members = {member.link.name: member for member in pool.members}
            if one.member not in members:
                known = ", ".join(members)
                message = f"`{param}.member`: {one.member!r} is none of {known}."
                raise InvalidRequest(message, param=param)
            if not 0 <= one.weight <= MAX_WEIGHT:
                raise InvalidRequest(f"`{param}.weight` must be from 0 to {MAX_WEIGHT}.", param=param)

    def _pools(self) -> Iterator[Pool]:
        for route in self._routes().values():
            yield from _pools_of(route.every_link())


def _pools_of(links: Iterable[Link]) -> Iterator[Pool]:
    for link in links:
        if isinstance(link, Pool):
            yield link
            yield from _pools_of([member.link for member in link.members])
