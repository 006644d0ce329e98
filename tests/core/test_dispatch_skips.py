"""Rungs that are out: how they are skipped, when that ends the walk, and what is tried when none is eligible."""

from __future__ import annotations

import pytest

from crossfade.core.budget import RetryBudget
from crossfade.core.steps import Deliver
from crossfade.core.target import Skip
from tests.core.walking import START, Course, eject, new_board, open_breaker, rung, target

# --- ejections -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason, listed, unlisted, status",
    [
        ("rate_limit", "rate_limit", "server_error", 429),
        ("quota_exhausted", "rate_limit", "server_error", 429),
        ("model_unavailable", "server_error", "timeout", 404),
    ],
)
def test_ejection_is_skipped_where_its_reason_is_listed_and_ends_the_walk_where_not(
    reason: str, listed: str, unlisted: str, status: int
) -> None:
    board = new_board()
    eject(board, "a/m", reason, START + 14.0, START)
    course = Course("a/m", "b/m", board=board, fallback_on=[listed])
    course.send("b/m")
    assert course.skipped() == [("a/m", reason)]
    assert course.fallbacks() == [("a/m", "b/m", reason, "fresh")]

    strict = Course("a/m", "b/m", board=board, fallback_on=[unlisted])
    end = strict.given_up()
    assert (end.status, end.code) == (status, reason)
    assert end.message == f"a/m skipped: {reason} 14 s more, and route 'chat' does not fall back on {reason}"
    assert end.retry_after == (14.0 if status == 429 else None)
    assert strict.called() == []


def test_refused_credential_is_skipped_whatever_is_listed() -> None:
    board = new_board()
    eject(board, "a/m", "auth_error", START + 900.0, START)
    course = Course("a/m", "b/m", board=board, fallback_on=["timeout"])
    course.send("b/m")
    assert course.skipped() == [("a/m", "auth_error")]


def test_ejection_on_a_later_rung_ends_the_walk_as_its_failure_would_have() -> None:
    board = new_board()
    eject(board, "b/m", "rate_limit", START + 60.0, START)
    course = Course("a/m", "b/m", "c/m", board=board, fallback_on=["timeout"])
    course.send("a/m")
    course.fail("timeout")
    assert course.given_up().status == 429
    assert course.called() == ["a/m"]


def test_ejected_model_of_a_later_rung_is_passed_like_any_defect_of_it() -> None:
    board = new_board()
    eject(board, "b/m", "model_unavailable", START + 60.0, START)
    course = Course("a/m", "b/m", "c/m", board=board, fallback_on=["timeout"])
    course.send("a/m")
    course.fail("timeout")
    course.send("c/m")


def test_an_answer_at_hand_is_delivered_rather_than_an_ejection() -> None:
    board = new_board()
    eject(board, "b/m", "rate_limit", START + 60.0, START)
    course = Course("a/m", "b/m", board=board, fallback_on=["truncated_output"])
    course.send("a/m")
    course.fail("truncated_output")
    assert course.delivered() == Deliver(1)


def test_ejections_are_never_tried_early() -> None:
    board = new_board()
    for name, reason in [("a/m", "rate_limit"), ("b/m", "quota_exhausted")]:
        eject(board, name, reason, START + 30.0, START)
    course = Course("a/m", "b/m", board=board)
    end = course.given_up()
    assert (end.status, end.code, end.retry_after) == (429, "chain_exhausted", 30.0)
    assert course.called() == []


# --- open breakers -------------------------------------------------------------------------------------------


def test_open_breaker_is_skipped_with_words() -> None:
    board = new_board()
    open_breaker(board, "a/m", START)
    course = Course("a/m", "b/m", board=board)
    course.send("b/m")
    assert course.skipped() == [("a/m", "breaker open")]
    assert course.fallbacks() == [("a/m", "b/m", "breaker_open", "fresh")]
    assert course.dispatch.last_reason == "breaker_open"


@pytest.mark.parametrize("word", ["server_error", "timeout", "malformed_output", "empty_output"])
def test_open_breaker_falls_back_for_any_reason_that_may_have_opened_it(word: str) -> None:
    board = new_board()
    open_breaker(board, "a/m", START)
    Course("a/m", "b/m", board=board, fallback_on=[word]).send("b/m")


def test_open_breaker_of_a_route_that_falls_back_on_no_outage_is_its_own_last_resort() -> None:
    board = new_board()
    open_breaker(board, "a/m", START)
    course = Course("a/m", "b/m", board=board, fallback_on=["rate_limit"])
    assert course.send("a/m").mode == "trial"
    course.fail("timeout")
    assert course.given_up().status == 504
    assert course.called() == ["a/m"]


# --- no eligible target --------------------------------------------------------------------------------------


def test_breaker_that_is_due_first_gets_one_trial_before_its_time() -> None:
    board = new_board()
    open_breaker(board, "a/m", START)
    open_breaker(board, "b/m", START - 5.0)
    course = Course("a/m", "b/m", board=board)
    assert course.send("b/m").mode == "trial"
    course.accept()
    assert course.delivered() == Deliver(1)
    assert course.breaker("b/m") == "half_open"


def test_trial_under_way_elsewhere_leaves_the_last_resort_to_the_budget() -> None:
    board = new_board()
    open_breaker(board, "a/m", START, "server_error")
    first = Course("a/m", board=board, request="r1")
    assert first.send("a/m").mode == "trial"

    poor = Course("a/m", board=board, request="r2", budget=RetryBudget(ratio=0.0, floor=0.0))
    end = poor.given_up()
    assert (end.status, end.code, end.retry_after) == (503, "chain_exhausted", 15.0)
    assert end.message == "The only target of route 'chat' failed: a/m skipped: on trial 15 s more"

    rich = Course("a/m", board=board, request="r3", budget=RetryBudget(ratio=1.0, floor=0.0))
    rich.send("a/m")
    rich.fail("timeout")
    assert rich.given_up().status == 504
    first.accept()
    assert first.delivered() == Deliver(1)
    assert board.of(target("a/m")).in_flight == 0


def test_nobody_waits_beside_the_trial_of_a_silent_target() -> None:
    board = new_board()
    open_breaker(board, "a/m", START, "timeout")
    assert Course("a/m", board=board, request="r1").send("a/m").mode == "trial"
    rich = Course("a/m", board=board, request="r2", budget=RetryBudget(ratio=1.0, floor=0.0))
    assert rich.given_up().code == "chain_exhausted"


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_there_is_one_last_resort_a_request(ratio: float) -> None:
    board = new_board()
    for name in ("a/m", "b/m"):
        open_breaker(board, name, START)
    course = Course("a/m", "b/m", board=board, budget=RetryBudget(ratio=ratio, floor=0.0))
    course.send("a/m")
    course.fail("timeout")
    end = course.given_up()
    assert end.code == "chain_exhausted"
    assert "b/m skipped: breaker open" in end.message
    assert course.in_flight() == 0


def test_last_resort_finds_the_credential_whose_breaker_is_open() -> None:
    board = new_board()
    eject(board, "a/m", "auth_error", START + 900.0, START, credential=0)
    open_breaker(board, "a/m", START, credential=1)
    course = Course(rung("a/m", credentials=2), board=board)
    assert course.send("a/m").target.credential == 1


def test_rung_that_is_back_at_the_end_of_the_chain_gets_its_call() -> None:
    board = new_board()
    eject(board, "a/m", "rate_limit", START + 5.0, START)
    course = Course("a/m", "b/m", board=board)
    course.send("b/m")
    course.fail("timeout", after=12.0)
    assert course.send("a/m").mode == "fresh"
    course.accept()
    assert course.delivered() == Deliver(2)


def test_a_target_is_called_at_the_end_of_the_chain_only_if_it_has_not_been() -> None:
    course = Course("a/m", "b/m", "a/m")
    for name in ("a/m", "b/m"):
        course.send(name)
        course.fail("timeout")
    end = course.given_up()
    assert course.skipped() == [("a/m", "it was called before")]
    assert end.status == 504
    assert end.message.startswith("All 2 targets of route 'chat' failed: a/m timeout; b/m timeout")


# --- want of ability -----------------------------------------------------------------------------------------


def test_primary_that_lacks_an_ability_is_a_fallback_on_record() -> None:
    course = Course("b/m", skips=(Skip(rung("a/m"), 0, "no vision"),))
    course.send("b/m")
    assert course.skipped() == [("a/m", "no vision")]
    assert course.fallbacks() == [("a/m", "b/m", "unfit", "fresh")]
    assert course.dispatch.records[0].rung == 1


def test_later_rung_that_lacks_an_ability_is_on_record_behind_the_call_and_no_fallback() -> None:
    course = Course("a/m", skips=(Skip(rung("b/m"), 1, "no vision"),))
    course.send("a/m")
    course.accept()
    assert course.delivered() == Deliver(1)
    assert course.fallbacks() == []
    assert [(r.number, r.target, r.rung) for r in course.dispatch.records] == [(1, "a/m", 1), (0, "b/m", 2)]


def test_rungs_without_ability_are_named_in_their_place() -> None:
    skips = (Skip(rung("b/m"), 1, "no vision"), Skip(rung("d/m"), 3, "no tools"))
    course = Course("a/m", "c/m", skips=skips)
    for name in ("a/m", "c/m"):
        course.send(name)
        course.fail("overloaded", retry_after=9.0)
    message = course.given_up().message
    places = [message.index(name) for name in ("a/m", "b/m skipped: no vision", "c/m", "d/m skipped: no tools")]
    assert places == sorted(places)
    assert message.startswith("All 4 targets")


def test_rung_without_ability_is_named_though_nobody_was_called() -> None:
    board = new_board()
    eject(board, "a/m", "rate_limit", START + 30.0, START)
    course = Course("a/m", board=board, skips=(Skip(rung("b/m"), 1, "no vision"),))
    assert "b/m skipped: no vision" in course.given_up().message
    assert course.skipped() == [("a/m", "rate_limit"), ("b/m", "no vision")]


def test_chain_in_which_nobody_is_able_is_the_requests_fault() -> None:
    course = Course(skips=(Skip(rung("a/m"), 0, "no vision"), Skip(rung("b/m"), 1, "no vision")))
    end = course.given_up()
    assert (end.status, end.retry_after) == (400, None)
    assert end.message == ("All 2 targets of route 'chat' failed: a/m skipped: no vision; b/m skipped: no vision")
