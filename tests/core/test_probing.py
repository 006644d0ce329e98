"""Who is probed and when, what an outcome changes, and what paid probes may cost."""

from __future__ import annotations

import pytest

from crossfade.core.health import HealthBoard
from crossfade.core.policy import ProbePolicy
from crossfade.core.probing import DAY, Probing
from crossfade.core.target import Target
from tests.core.walking import HALF, START, failure, new_board, target

A, A2, B = target("a/m"), target("a/n"), target("b/m")
MEMBERS = {("a", 0): (A, A2), ("b", 0): (B,)}


def made(**fields: float) -> Probing:
    return Probing(MEMBERS, ProbePolicy(**fields), START)


def opened(reason: str = "connect_error", one: Target = A) -> HealthBoard:
    board = new_board()
    health = board.of(one)
    for request in range(5):
        health.settle(health.take(START), failure(reason), START, str(request), "chat")
    assert not health.breaker.is_closed
    return board


def test_only_a_provider_with_an_open_breaker_is_probed_and_not_twice_at_once() -> None:
    probing, board = made(), opened()
    assert probing.free_due(board, START, HALF) == [("a", 0)]
    assert probing.free_due(board, START + 60, HALF) == [], "its call is under way"
    probing.on_free(("a", 0), False, "connect_error", board, START + 60)
    assert probing.free_due(board, START + 64, HALF) == []
    assert probing.free_due(board, START + 65, HALF) == [("a", 0)]


def test_probes_can_be_switched_off() -> None:
    assert made(every=0, idle=0).free_due(opened(), START + 1e6, HALF) == []


def test_an_idle_provider_is_asked_now_and_then_and_a_busy_one_never() -> None:
    probing, board = made(idle=600), new_board()
    board.of(B).load.observe(0.1, START + 500)
    assert probing.free_due(board, START + 599, HALF) == []
    assert probing.free_due(board, START + 600, HALF) == [("a", 0)]
    probing.on_free(("a", 0), True, "", board, START + 600)
    assert probing.free_due(board, START + 1099, HALF) == []
    assert probing.free_due(board, START + 1100, HALF) == [("b", 0)]


def test_one_that_can_be_reached_again_is_worth_a_trial_at_once() -> None:
    probing, board = made(), opened()
    health = board.of(A)
    assert probing.on_free(("a", 0), False, "refused", board, START + 1), "the first failure is news"
    assert not probing.on_free(("a", 0), False, "refused", board, START + 6)
    assert health.take(START + 7) is None
    assert probing.on_free(("a", 0), True, "", board, START + 7)
    permit = health.take(START + 7)
    assert permit is not None
    assert permit.is_trial
    assert health.take(START + 7) is None, "one trial at a time"


def test_one_that_could_be_reached_all_the_time_waits_for_its_time() -> None:
    probing, board = made(), opened("server_error")
    assert not probing.on_free(("a", 0), True, "", board, START + 1), "no news"
    assert board.of(A).take(START + 2) is None


def test_a_free_call_opens_no_breaker() -> None:
    probing, board = made(), new_board()
    for second in range(100):
        probing.on_free(("b", 0), False, "refused", board, START + second)
    assert board.of(B).breaker.is_closed


def test_an_outcome_of_an_earlier_configuration_changes_nothing() -> None:
    assert not made().on_free(("gone", 0), False, "refused", new_board(), START)


# --- paid ----------------------------------------------------------------------------------------------------


def silent(one: Target) -> HealthBoard:
    board = new_board()
    health = board.of(one)
    for request in range(2):
        health.settle(health.take(START), failure("timeout"), START, str(request), "chat")
    assert health.breaker.opened_by_silence
    return board


PRICED = target("a/m", price_in=1e-6, price_out=4e-6)


def test_a_silent_target_that_is_due_gets_a_paid_probe_in_a_callers_place() -> None:
    probing = Probing({("a", 0): (PRICED,)}, ProbePolicy(paid_usd=1.0), START)
    board = silent(PRICED)
    assert probing.paid_due(board, START + 1) == [], "it is not due"
    assert probing.paid_due(board, START + 60) == [PRICED]
    assert probing.spent == pytest.approx(20e-6 + 64e-6)
    board.of(PRICED).take(START + 60)
    assert probing.paid_due(board, START + 61) == [], "it is on trial"


def test_there_are_none_unless_they_are_allowed_and_priced_and_silence_was_the_cause() -> None:
    board = silent(PRICED)
    assert Probing({("a", 0): (PRICED,)}, ProbePolicy(), START).paid_due(board, START + 60) == []
    unpriced = Probing({("a", 0): (A,)}, ProbePolicy(paid_usd=1.0), START)
    assert unpriced.paid_due(silent(A), START + 60) == []
    failing = Probing({("a", 0): (PRICED,)}, ProbePolicy(paid_usd=1.0), START)
    assert failing.paid_due(opened("server_error", PRICED), START + 60) == []


def test_what_they_cost_is_capped_by_the_day() -> None:
    probing = Probing({("a", 0): (PRICED,)}, ProbePolicy(paid_usd=200e-6), START)
    board = silent(PRICED)
    asked = sum(len(probing.paid_due(board, START + 60 + second)) for second in range(50))
    assert asked == 2
    assert probing.spent <= 200e-6
    assert probing.paid_due(board, START + DAY + 60) == [PRICED]
