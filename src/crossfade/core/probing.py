"""When a provider is worth a probe, and what its outcome is good for.

A probe finds out what traffic does not tell: whether a provider that was out of reach can be reached again, and whether
one that nobody has asked for long still can. The free call of a provider (its list of models) tells that much and no
more: one that was within reach all the time, while its models failed, is left to trials by requests, or to paid probes
where the operator allows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from crossfade.core.backoff import jittered
from crossfade.core.health import HealthBoard
from crossfade.core.policy import ProbePolicy
from crossfade.core.standing import Out
from crossfade.core.target import Target

PAID_INPUT: Final = 20
PAID_OUTPUT: Final = 16
"""Tokens that a paid probe is reckoned with."""
DAY: Final = 86_400.0

Member = tuple[str, int]
"""A provider and the number of one of its credentials."""


class Outcome:
    """What the probes of one provider and credential have found. `is_well` is None before the first."""

    __slots__ = ("at", "detail", "is_well", "probes", "under_way")

    def __init__(self) -> None:
        self.at = float("-inf")
        self.is_well: bool | None = None
        self.detail = ""
        self.probes = 0
        self.under_way = False


class Probing:
    """What is to be probed now. `members` are the targets of the configuration."""

    def __init__(self, members: Mapping[Member, Sequence[Target]], policy: ProbePolicy, now: float) -> None:
        self.members = members
        self.policy = policy
        self.outcomes: dict[Member, Outcome] = {member: Outcome() for member in members}
        self.paid_probes = 0
        self.spent = 0.0
        """USD of paid probes within the last day, as far as prices are known."""
        self._day_began = now
        self._started_at = now

    def free_due(self, board: HealthBoard, now: float, draw: float) -> list[Member]:
        """Who is to be asked by the free call. `draw` from [0, 1) spreads them."""
        every, idle = self.policy.every, self.policy.idle
        found = []
        for member, targets in self.members.items():
            outcome = self.outcomes[member]
            if outcome.under_way:
                continue
            since = now - outcome.at
            if any(not board.of(target).breaker.is_closed for target in targets):
                is_due = every > 0 and since >= jittered(every, draw)
            else:
                last = max(board.of(target).load.measured_at for target in targets)
                is_due = 0 < idle <= min(since, now - last, now - self._started_at)
            if is_due:
                outcome.under_way = True
                found.append(member)
        return found

    def on_free(self, member: Member, is_well: bool, detail: str, board: HealthBoard, now: float) -> bool:
        """Takes an outcome; whether it is news. One that can be reached again is worth a trial at once."""
        outcome = self.outcomes.get(member)
        if outcome is None:  # there was a reload
            return False
        was_well, outcome.is_well = outcome.is_well, is_well
        outcome.at, outcome.detail, outcome.under_way = now, detail, False
        outcome.probes += 1
        if is_well and was_well is False:
            for target in self.members[member]:
                board.of(target).breaker.hasten(now)
        return was_well is not is_well and not (was_well is None and is_well)

    def paid_due(self, board: HealthBoard, now: float) -> list[Target]:
        """The targets that silence has put out and that are due for a trial, as far as the money goes: a caller would
        have to wait for them."""
        if self.policy.paid_usd <= 0:
            return []
        if now - self._day_began >= DAY:
            self._day_began, self.spent = now, 0.0
        found = []
        for targets in self.members.values():
            for target in targets:
                health = board.of(target)
                standing = health.standing(now)
                if not health.breaker.opened_by_silence or isinstance(standing, Out) or not standing.is_trial:
                    continue
                price = self._price(target)
                if price is not None and self.spent + price <= self.policy.paid_usd:
                    self.spent += price
                    self.paid_probes += 1
                    found.append(target)
        return found

    def _price(self, target: Target) -> float | None:
        if target.price_in is None or target.price_out is None or target.is_embedding:
            return None
        return PAID_INPUT * target.price_in + PAID_OUTPUT * target.price_out
