"""Which member of a pool is asked first, and in which order the others stand behind it.

    priority        as written
    weighted        by lot, in proportion to the weights
    round_robin     each in turn
    least_requests  the one with the fewest calls under way, for its weight
    fastest         the one that is expected to begin its answer first
    cheapest        the one that costs least for a request like this
    headroom        the one that is furthest from its rate limits
    sticky          the same for the same session, as long as it is there

Whatever the policy, members that are out just now stand behind all others, and one whose breaker is due for a trial
stands first, so that it is found out; after its breaker has closed it comes back by and by. Pure: what is known comes
from the health board, chance from `draw`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from math import log
from typing import Final, assert_never

from crossfade.core.health import HealthBoard, TargetHealth
from crossfade.core.price import price_of
from crossfade.core.standing import Out
from crossfade.core.target import Link, Member, Pool, Rung

EXPLORE: Final = 0.05
"""`fastest` spends at most this share of its mean time on finding out about members that it has not asked of late."""
STALE: Final = 5.0
"""Seconds after which what is known of a member's speed is worth finding out anew."""

_LAST: Final = float("inf")
_TRIAL, _IN, _OUT = 0, 1, 2


class Demand:
    """What a choice needs to know of a request. `session` finds out which it belongs to; an empty one sticks to
    nothing."""

    __slots__ = ("input_tokens", "max_tokens", "session")

    def __init__(self, input_tokens: int = 0, max_tokens: int | None = None, session: Callable[[], str] = str) -> None:
        self.input_tokens = input_tokens
        self.max_tokens = max_tokens
        self.session = session


class Balancer:
    """The choices of one worker; it remembers whose turn it is. `draw` gives numbers from [0, 1)."""

    __slots__ = ("_board", "_draw", "_turns", "_weights")

    def __init__(self, board: HealthBoard, draw: Callable[[], float]) -> None:
        self._board = board
        self._draw = draw
        self._turns: dict[str, int] = {}
        self._weights: dict[tuple[str, str], float] = {}

    def reweigh(self, pool: str, member: str, weight: float | None) -> None:
        """Gives a member (a rung's name, or an inner pool's) of the pool with that name another weight than the
        configured one, from now on; None: the configured one again."""
        if weight is None:
            self._weights.pop((pool, member), None)
        else:
            self._weights[pool, member] = weight

    def weight(self, pool: Pool, member: Member) -> float:
        """The weight of a member as it is now."""
        if not self._weights:
            return member.weight
        return self._weights.get((pool.name, member.link.name), member.weight)

    def order(self, links: Sequence[Link], demand: Demand, now: float) -> tuple[Rung, ...]:
        """The rungs of a chain in the order in which this request should ask them."""
        rungs: list[Rung] = []
        for link in links:
            if isinstance(link, Rung):
                rungs.append(link)
            else:
                rungs += self._order(link, demand, now)
        return tuple(rungs)

    def _order(self, pool: Pool, demand: Demand, now: float) -> list[Rung]:
        choices = [self._choice(pool, member, demand, now) for member in pool.members]
        self._rank(pool, choices, demand, now)
        choices.sort(key=_place)
        if pool.policy == "fastest":
            self._explore(choices, now)
        return [rung for choice in choices for rung in choice.rungs]

    def _choice(self, pool: Pool, member: Member, demand: Demand, now: float) -> _Choice:
        link = member.link
        rungs = [link] if isinstance(link, Rung) else self._order(link, demand, now)
        weight = self.weight(pool, member)
        states = [self._state(rung, now) for rung in rungs]
        state = min(states, default=_OUT)
        first = rungs[states.index(state)]  # what a call to this member would go to
        if state == _IN and (ramp := self._board.ramp(first.targets[0], now)) < 1.0:
            if self._draw() >= ramp:
                state = _OUT
        return _Choice(link.name, rungs, first, [self._board.of(one) for one in first.targets], weight, state)

    def _state(self, rung: Rung, now: float) -> int:
        state = _OUT
        for target in rung.targets:
            standing = self._board.of(target).standing(now)
            if not isinstance(standing, Out):
                if not standing.is_trial:
                    return _IN
                state = _TRIAL
        return state

    # --- the policies ----------------------------------------------------------------------------------------

    def _rank(self, pool: Pool, choices: list[_Choice], demand: Demand, now: float) -> None:
        """Sets how late each stands among those that are in."""
        draw = self._draw
        match pool.policy:
            case "priority":
                for place, choice in enumerate(choices):
                    choice.rank = float(place)
            case "weighted":
                for choice in choices:  # first is each in proportion to its weight, also among any of them
                    choice.rank = -log(1.0 - draw()) / choice.weight if choice.weight else _LAST
            case "round_robin":
                turn = self._turns.get(pool.name, 0)
                self._turns[pool.name] = turn + 1
                for place, choice in enumerate(choices):
                    choice.rank = float((place - turn) % len(choices))
            case "least_requests":
                for choice in choices:
                    active = sum([health.load.active for health in choice.healths])
                    choice.rank = (active + draw()) / choice.weight if choice.weight else _LAST
            case "fastest":
                for choice in choices:
                    choice.rank = _expected(choice.healths, now)
            case "cheapest":
                for choice in choices:
                    price = price_of(choice.first.targets[0], demand.input_tokens, demand.max_tokens)
                    choice.rank = _LAST if price is None else price
            case "headroom":
                for choice in choices:
                    choice.rank = -max([health.headroom.share(now) for health in choice.healths])
            case "sticky":
                session = demand.session()
                for choice in choices:
                    lot = _lot(session, choice.name) if session else draw()
                    choice.rank = -log(1.0 - lot) / choice.weight if choice.weight else _LAST
            case _:
                assert_never(pool.policy)

    def _explore(self, choices: list[_Choice], now: float) -> None:
        """Now and then puts a member first that has not been asked of late; the slower it was, the less often."""
        best = choices[0]
        if best.state != _IN or not 0.0 < best.rank < _LAST:
            return  # who is on trial or unknown is found out about already
        lot = self._draw()
        share = EXPLORE / len(choices)
        for place, choice in enumerate(choices):
            if place and _place(choice)[0] == _IN and choice.rank < _LAST and _is_stale(choice.healths, now):
                lot -= share * best.rank / choice.rank
                if lot < 0.0:
                    choices.insert(0, choices.pop(place))
                    return


class _Choice:
    """A member as it stands now."""

    __slots__ = ("first", "healths", "name", "rank", "rungs", "state", "weight")

    def __init__(
        self, name: str, rungs: list[Rung], first: Rung, healths: list[TargetHealth], weight: float, state: int
    ) -> None:
        self.name = name
        self.rungs = rungs
        self.first = first
        self.healths = healths
        self.weight = weight
        self.state = state
        self.rank = 0.0


def _place(choice: _Choice) -> tuple[int, float]:
    # A weight of nothing is the operator's wish to leave it alone, so it is no better than being out.
    return choice.state if choice.weight else _OUT, choice.rank


def _expected(healths: Sequence[TargetHealth], now: float) -> float:
    """Seconds to the first content; 0 for a member that has never been asked, and no end while that first call
    is under way."""
    least = _LAST
    for health in healths:
        seconds = health.load.expected(now)
        if seconds is None:
            seconds = _LAST if health.load.waiting else 0.0
        least = min(least, seconds)
    return least


def _is_stale(healths: Sequence[TargetHealth], now: float) -> bool:
    return not any(health.load.waiting or now - health.load.measured_at < STALE for health in healths)


def _lot(session: str, name: str) -> float:
    """A number from [0, 1) that is the same everywhere and always for a session and a member."""
    digest = blake2b(f"{session}\0{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
