"""The retry budget: how many extra attempts the requests of a route pay for while all its targets are failing.

Finagle's rule: every request deposits a share of an attempt, which is gone after ten seconds if not withdrawn;
besides, a floor of attempts a second is always there, so that a quiet route can still recover. Who has to ask it,
and when, is decided elsewhere.
"""

from __future__ import annotations

from typing import Final

from crossfade.core.policy import RetryPolicy

DEPOSIT_LIFE: Final = 10.0
"""Seconds that a deposit can be drawn on."""

_SLOTS: Final = 10
_WIDTH: Final = DEPOSIT_LIFE / _SLOTS
_ALMOST: Final = 1.0 - 1e-9  # ten deposits of a tenth make one attempt, whatever floating point says


class RetryBudget:
    """Within any stretch of time the attempts withdrawn are at most `ratio` of the requests deposited in it and in
    the ten seconds before, and `floor` per second of it and one second more."""

    __slots__ = ("_deposits", "_floor", "_floor_at", "_floor_left", "_ratio", "_slot_end")

    def __init__(self, ratio: float = RetryPolicy().budget_ratio, floor: float = RetryPolicy().budget_floor) -> None:
        self._ratio = ratio
        self._floor = floor
        self._floor_left = max(floor, 1.0) if floor > 0 else 0.0
        self._floor_at = float("-inf")
        self._deposits = [0.0] * _SLOTS  # newest last; attempts that may still be withdrawn
        self._slot_end = float("-inf")

    def deposit(self, now: float) -> None:
        """One request has come."""
        if now >= self._slot_end:
            self._turn(now)
        self._deposits[-1] += self._ratio

    def try_withdraw(self, now: float) -> bool:
        """Takes one extra attempt if there is one: from the deposits first, since the floor comes back by itself."""
        if now >= self._slot_end:
            self._turn(now)
        if sum(self._deposits) >= _ALMOST:
            self._spend_oldest()
            return True
        self._refill(now)
        if self._floor_left >= _ALMOST:
            self._floor_left = max(0.0, self._floor_left - 1.0)
            return True
        return False

    def balance(self, now: float) -> float:
        """Extra attempts that could be withdrawn at `now`; changes nothing."""
        kept = max(0, _SLOTS - self._slots_past(now))
        deposits = sum(self._deposits[_SLOTS - kept :]) if kept else 0.0
        return deposits + self._floor_at_now(now)

    def _spend_oldest(self) -> None:
        owed = 1.0
        for slot, left in enumerate(self._deposits):
            spent = min(left, owed)
            self._deposits[slot] = left - spent
            owed -= spent

    def _slots_past(self, now: float) -> int:
        if now < self._slot_end:
            return 0
        past = (now - self._slot_end) / _WIDTH  # infinite before the first deposit
        return _SLOTS if past >= _SLOTS else int(past) + 1

    def _turn(self, now: float) -> None:
        past = self._slots_past(now)
        self._deposits = self._deposits[past:] + [0.0] * past
        self._slot_end = now + _WIDTH if past >= _SLOTS else self._slot_end + past * _WIDTH

    def _floor_at_now(self, now: float) -> float:
        # A floor below one a second must still be able to save up a whole attempt.
        most = max(self._floor, 1.0) if self._floor > 0 else 0.0
        if now <= self._floor_at:
            return self._floor_left
        gained = (now - self._floor_at) * self._floor if self._floor > 0 else 0.0
        return min(most, self._floor_left + gained)

    def _refill(self, now: float) -> None:
        self._floor_left = self._floor_at_now(now)
        self._floor_at = max(self._floor_at, now)
