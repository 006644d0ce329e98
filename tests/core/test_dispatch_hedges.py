"""Hedges: when the next target is asked beside a slow one, who pays, who wins, and what the loser's health hears."""

from __future__ import annotations

import pytest

from crossfade.core.budget import RetryBudget
from crossfade.core.exchange import RequestFacts
from crossfade.core.failure import FailureReason
from crossfade.core.load import SAMPLES
from crossfade.core.policy import HedgePolicy
from tests.core.walking import START, Course, eject, rung

TWO_SECONDS = HedgePolicy(after=2.0)


def hedged(**options: object) -> Course:
    """A walk whose first target has been silent for the time after which it is hedged."""
    options.setdefault("hedge", TWO_SECONDS)
    course = Course("a/m", "b/m", "c/m", **options)  # type: ignore[arg-type]
    course.send("a/m")
    course.now += 2.0
    return course


def failures_of(course: Course, name: str) -> int:
    return course.board.of(rung(name).targets[0]).consecutive_failures


def test_the_next_target_is_started_once_after_the_time() -> None:
    course = Course("a/m", "b/m", "c/m", hedge=TWO_SECONDS)
    course.send("a/m")
    assert course.pending() == START + 2.0
    course.now = START + 2.0
    assert course.send("b/m").mode == "hedge"
    assert course.pending() is None
    assert course.fallbacks() == [("a/m", "b/m", "hedged", "hedge")]


def test_there_are_none_by_default() -> None:
    course = Course("a/m", "b/m")
    course.send("a/m")
    assert course.pending() is None


def test_a_target_that_has_begun_is_not_hedged() -> None:
    course = Course("a/m", "b/m", hedge=TWO_SECONDS)
    course.send("a/m")
    course.content(after=1.0)
    assert course.pending() is None


def test_the_first_answer_wins_and_a_silent_loser_counts_as_a_timeout() -> None:
    course = hedged()
    course.send("b/m")
    course.accept(2)
    assert course.delivered().attempt == 2
    assert failures_of(course, "a/m") == 1
    assert course.dispatch.records[0].failure.reason is FailureReason.TIMEOUT  # type: ignore[union-attr]


def test_the_primary_may_still_win_and_the_hedge_is_not_blamed() -> None:
    course = hedged()
    course.send("b/m")
    course.accept(1)
    assert course.delivered().attempt == 1
    assert (failures_of(course, "a/m"), failures_of(course, "b/m")) == (0, 0)


@pytest.mark.parametrize("hedge", [HedgePolicy(after=2.0, is_callers=True), HedgePolicy(percentile=0.95)])
def test_what_a_caller_or_a_percentile_calls_slow_is_no_fault(hedge: HedgePolicy) -> None:
    course = Course("a/m", "b/m", hedge=hedge)
    load = course.board.of(rung("a/m").targets[0]).load
    load.percentile(0.5)
    for _ in range(SAMPLES):
        load.observe(1.5, START)
    course.send("a/m")
    course.now += 2.0
    course.send("b/m")
    course.accept(2)
    assert failures_of(course, "a/m") == 0


def test_a_percentile_is_of_the_targets_own_times() -> None:
    course = Course("a/m", "b/m", hedge=HedgePolicy(percentile=0.9))
    load = course.board.of(rung("a/m").targets[0]).load
    assert load.percentile(0.9) is None
    for number in range(100):
        load.observe(1.0 if number % 20 else 8.0, START)
    assert load.percentile(0.9) == pytest.approx(1.0, rel=0.16)
    assert load.percentile(0.97) == pytest.approx(8.0, rel=0.16)
    course.send("a/m")
    at = course.pending()
    assert at is not None
    assert at - START == pytest.approx(1.0, rel=0.16)


def test_without_enough_samples_a_percentile_hedges_nothing() -> None:
    course = Course("a/m", "b/m", hedge=HedgePolicy(percentile=0.9))
    course.send("a/m")
    assert course.pending() is None


def test_old_times_are_forgotten() -> None:
    load = Course("a/m").board.of(rung("a/m").targets[0]).load
    load.percentile(0.5)
    for _ in range(1000):
        load.observe(5.0, START)
    for _ in range(2000):
        load.observe(0.1, START)
    assert load.percentile(0.95) == pytest.approx(0.1, rel=0.16)


@pytest.mark.parametrize(
    "facts", [RequestFacts(has_other_tools=True), RequestFacts(is_stored=True)], ids=["hosted tools", "stored"]
)
def test_what_would_be_done_or_kept_twice_is_not_hedged(facts: RequestFacts) -> None:
    assert hedged(facts=facts).pending() is None


def test_an_unrepeatable_request_is_not_hedged() -> None:
    assert hedged(is_repeatable=False).pending() is None


def test_hedges_are_paid_for_even_while_all_is_well() -> None:
    budget = RetryBudget(ratio=0.0, floor=1.0)
    first, second = hedged(budget=budget), hedged(budget=budget)
    assert first.send("b/m").mode == "hedge"
    assert second.pending() is None, "nothing is left to pay for it"


def test_both_fail_and_the_walk_goes_on() -> None:
    course = hedged()
    course.send("b/m")
    course.fail("server_error", 2)
    assert course.pending() is None
    course.fail("timeout", 1)
    assert course.send("c/m").mode == "fresh"


def test_the_last_target_has_nobody_beside_it() -> None:
    course = Course("a/m", hedge=TWO_SECONDS)
    course.send("a/m")
    assert course.pending() is None


def test_after_a_fallback_the_next_target_is_hedged_as_well() -> None:
    course = Course("a/m", "b/m", "c/m", hedge=TWO_SECONDS)
    course.send("a/m")
    course.fail("overloaded")
    course.send("b/m")
    assert course.pending() == course.now + 2.0


def test_a_hedge_is_paid_for_once_also_in_an_outage() -> None:
    budget = RetryBudget(ratio=0.0, floor=2.0)
    course = hedged(budget=budget)
    for name in ("a/m", "b/m", "c/m"):
        course.board.of(rung(name).targets[0]).breaker.suspect()  # as if its last calls had failed
    before = budget.balance(course.now)
    assert course.send("b/m").mode == "hedge"
    assert before - budget.balance(course.now) == pytest.approx(1.0)


def test_a_hedge_that_nobody_could_take_is_not_paid_for() -> None:
    budget = RetryBudget(ratio=0.0, floor=1.0)
    course = hedged(budget=budget)
    for name in ("b/m", "c/m"):
        eject(course.board, name, "rate_limit", course.now + 60.0, course.now)
    assert course.pending() is None
    assert budget.balance(course.now) == pytest.approx(1.0)


def test_a_request_is_hedged_once() -> None:
    course = hedged()
    course.send("b/m")
    course.fail("overloaded", 1)
    course.fail("overloaded", 2)
    assert course.send("c/m").mode == "fresh"
    assert course.pending() is None
