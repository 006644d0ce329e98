"""The simulation holds for the first seeds, replays to the letter, bites, and finds every fault that is put in."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.compiled import interpreted_only
from tests.simulation.invariants import Broken
from tests.simulation.mutants import MUTANTS, mutated
from tests.simulation.world import World

SEEDS = 300
WANTED = {
    *(f"call: {mode}" for mode in ("fresh", "retry", "trial", "hedge", "continue")),
    *(f"end: {code}" for code in ("answered", "chain_exhausted", "cancelled", "invalid_request", "timeout")),
    *(f"skip: {why}" for why in ("breaker open", "on trial", "rate_limit", "quota_exhausted", "auth_error", "drained")),
    "skip: full",
    "room",
    *("fallbacks", "joins", "trials", "commits"),
}


@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_nothing_is_broken(first: int) -> None:
    for seed in range(first, first + 50):
        World(seed).run()


@pytest.mark.parametrize("seed", [3, 77])
def test_a_seed_gives_the_same_trace_again(seed: int) -> None:
    one, two = World(seed, traces=True).run(), World(seed, traces=True).run()
    assert one.trace == two.trace and one.counts == two.counts


def test_it_reaches_what_it_is_for() -> None:
    seen: Counter[str] = Counter()
    for seed in range(60):
        seen += World(seed).run().counts
    assert set(seen) >= WANTED, WANTED - set(seen)
    assert 0.5 < seen["end: answered"] / seen["requests"] < 0.95


@interpreted_only
@pytest.mark.parametrize("name", MUTANTS)
def test_a_fault_is_found(name: str) -> None:
    with mutated(name), pytest.raises(Broken):
        for seed in range(SEEDS):
            World(seed).run()
