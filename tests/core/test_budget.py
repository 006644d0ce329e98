from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.budget import DEPOSIT_LIFE, RetryBudget

repeatable = settings(derandomize=True, deadline=None, max_examples=200)


def drained(budget: RetryBudget, now: float, most: int = 10_000) -> int:
    taken = 0
    while taken < most and budget.try_withdraw(now):
        taken += 1
    return taken


def test_a_quiet_route_has_its_floor_and_gets_it_back_within_a_second() -> None:
    budget = RetryBudget(0.2, 10.0)
    assert drained(budget, 100.0) == 10
    assert drained(budget, 100.5) == 5
    assert drained(budget, 101.5) == 10
    assert drained(budget, 200.0) == 10


def test_requests_pay_for_a_fifth_of_themselves() -> None:
    budget = RetryBudget(0.2, 0.0)
    assert not budget.try_withdraw(0.0)
    for _ in range(100):
        budget.deposit(0.0)
    assert drained(budget, 0.0) == 20


def test_ten_tenths_make_a_whole_attempt() -> None:
    budget = RetryBudget(0.1, 0.0)
    for _ in range(10):
        budget.deposit(0.0)
    assert drained(budget, 0.0) == 1


def test_deposits_are_gone_after_their_life() -> None:
    budget = RetryBudget(1.0, 0.0)
    for _ in range(5):
        budget.deposit(0.0)
    assert budget.balance(DEPOSIT_LIFE - 1.01) == 5.0
    assert drained(budget, DEPOSIT_LIFE) == 0
    assert drained(budget, 1e9) == 0


def test_deposits_do_not_live_longer_where_they_come_slowly() -> None:
    budget = RetryBudget(1.0, 0.0)
    for n in range(20):
        budget.deposit(n * 1.9)
        assert budget.balance(n * 1.9) <= DEPOSIT_LIFE / 1.9 + 1


def test_the_oldest_deposits_are_spent_first() -> None:
    budget = RetryBudget(1.0, 0.0)
    budget.deposit(0.0)
    budget.deposit(5.0)
    assert budget.try_withdraw(5.0)
    assert budget.try_withdraw(12.0), "the younger deposit was left"


def test_a_floor_below_one_saves_up_whole_attempts() -> None:
    budget = RetryBudget(0.0, 0.1)
    assert drained(budget, 0.0) == 1
    assert drained(budget, 5.0) == 0
    assert drained(budget, 10.0) == 1


def test_a_ratio_and_floor_of_zero_allow_nothing() -> None:
    budget = RetryBudget(0.0, 0.0)
    for _ in range(1000):
        budget.deposit(1.0)
    assert drained(budget, 1.0) == 0


def test_reading_the_balance_changes_nothing() -> None:
    budget = RetryBudget(0.2, 10.0)
    for _ in range(10):
        budget.deposit(0.0)
    assert budget.balance(0.0) == 12.0
    assert budget.balance(50.0) == 10.0
    assert budget.balance(0.0) == 12.0
    assert drained(budget, 0.0) == 12


steps = st.lists(
    st.tuples(
        st.one_of(st.just(0.0), st.floats(0.0, 0.2), st.floats(0.0, 30.0)),
        st.sampled_from(["deposit", "withdraw", "drain"]),
    ),
    max_size=80,
)


@repeatable
@given(steps, st.sampled_from([0.0, 0.1, 0.2, 1.0]), st.sampled_from([0.0, 0.5, 10.0]))
def test_within_any_stretch_of_time_the_bound_holds(
    script: list[tuple[float, str]], ratio: float, floor: float
) -> None:
    """Extra attempts from any moment to any other: at most the ratio of the requests that could have paid, and the
    floor per second and one second's worth more."""
    budget = RetryBudget(ratio, floor)
    now = 1000.0
    requests: list[float] = []
    extras: list[float] = []
    for wait, what in script:
        now += wait
        if what == "deposit":
            budget.deposit(now)
            requests.append(now)
        else:
            extras += [now] * drained(budget, now, most=1 if what == "withdraw" else 100)
    saved = max(floor, 1.0) if floor else 0.0
    for start in set(extras):
        for end in {moment for moment in extras if moment >= start}:
            paying = sum(start - DEPOSIT_LIFE <= moment <= end for moment in requests)
            withdrawn = sum(start <= moment <= end for moment in extras)
            assert withdrawn <= ratio * paying + floor * (end - start) + saved + 1e-6


@repeatable
@given(steps)
def test_what_the_balance_promises_can_be_withdrawn(script: list[tuple[float, str]]) -> None:
    budget = RetryBudget(0.2, 10.0)
    now = 0.0
    for wait, what in script:
        now += wait
        if what == "deposit":
            budget.deposit(now)
        elif what == "withdraw":
            budget.try_withdraw(now)
        else:
            promised = budget.balance(now)
            # Two purses, each with perhaps a part of an attempt that cannot be taken.
            assert promised - 2.0 < drained(budget, now) <= promised + 1e-6
