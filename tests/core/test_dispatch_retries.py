"""When the same target, or another credential of it, is asked again; and how many calls a request may make."""

from __future__ import annotations

import pytest

from crossfade.core.budget import RetryBudget
from crossfade.core.policy import BreakerPolicy, HealthPolicy, RetryPolicy
from crossfade.core.steps import Deliver, Send
from tests.core.walking import Course, eject, failure, new_board, open_breaker, rung, target


def test_connect_error_is_retried_once_and_at_once() -> None:
    course = Course("a/m", "b/m")
    course.send("a/m")
    course.fail("connect_error")
    assert course.send("a/m").mode == "retry"
    course.fail("connect_error")
    course.send("b/m")
    assert course.dispatch.fallbacks == 1


def test_single_server_error_is_retried_once_after_a_jittered_delay() -> None:
    course = Course("a/m", "b/m", retry=RetryPolicy(delay=0.4))
    course.send("a/m")
    course.fail("server_error")
    assert course.wait() == pytest.approx(0.4), "the draw is a half, which is the middle"
    course.send("a/m")
    course.fail("server_error")
    course.send("b/m")


def test_steps_do_not_change_while_waiting() -> None:
    course = Course("a/m")
    course.send()
    course.fail("server_error")
    assert course.step() == course.step()
    course.wait()
    course.send("a/m")


@pytest.mark.parametrize("other", ["connect_error", "server_error"])
def test_a_retry_is_never_retried(other: str) -> None:
    course = Course("a/m", "b/m", "c/m", retry=RetryPolicy(max_attempts=9))
    course.send("a/m")
    course.fail("connect_error")
    course.send("a/m")
    course.fail(other)
    course.send("b/m")


def test_not_implemented_is_never_retried() -> None:
    course = Course("a/m", "b/m")
    course.send("a/m")
    course.fail("server_error", status=501)
    course.send("b/m")


def test_a_delay_of_zero_turns_the_retry_of_server_errors_off() -> None:
    course = Course("a/m", "b/m", retry=RetryPolicy(delay=0.0))
    course.send("a/m")
    course.fail("server_error")
    course.send("b/m")


def test_a_server_error_that_is_not_the_first_is_no_single_one() -> None:
    board = new_board()
    health = board.of(target("a/m"))
    health.settle(health.take(0.0), failure("server_error"), 0.0, request="other", route="chat")
    course = Course("a/m", "b/m", board=board)
    course.send("a/m")
    course.fail("server_error")
    course.send("b/m")


@pytest.mark.parametrize("reason", ["timeout", "overloaded", "stream_stalled", "protocol_error", "malformed_output"])
def test_silence_overload_and_bad_answers_are_never_retried(reason: str) -> None:
    course = Course("a/m", "b/m")
    course.send("a/m")
    course.fail(reason)
    course.send("b/m")


def test_a_failure_that_opened_the_breaker_is_not_waited_out() -> None:
    board = new_board()
    open_breaker(board, "a/m", 900.0)
    course = Course("a/m", "b/m", board=board, now=1000.0)
    assert course.send("a/m").mode == "trial"
    course.fail("connect_error")
    course.send("b/m")


def test_server_error_that_opened_the_breaker_is_not_retried() -> None:
    course = Course("a/m", "b/m", health=HealthPolicy(breaker=BreakerPolicy(consecutive_failures=1)))
    course.send("a/m")
    course.fail("server_error")
    course.send("b/m")


def test_other_credentials_server_error_is_no_reason_for_a_third_call() -> None:
    course = Course(rung("a/m", credentials=2), "b/m", retry=RetryPolicy(max_attempts=9))
    for reason in ("rate_limit", "server_error"):
        course.send("a/m")
        course.fail(reason)
    course.send("b/m")


# --- every other rung keeps its call -------------------------------------------------------------------------


@pytest.mark.parametrize("most, is_retried", [(2, False), (3, False), (4, True), (None, True)])
def test_retry_leaves_every_other_rung_its_call(most: int | None, is_retried: bool) -> None:
    course = Course("a/m", "b/m", "c/m", retry=RetryPolicy(max_attempts=most))
    course.send("a/m")
    course.fail("connect_error")
    course.send("a/m" if is_retried else "b/m")


@pytest.mark.parametrize("rungs, most", [(1, 2), (2, 3), (3, 4), (4, 5), (5, 5), (7, 5)])
def test_calls_are_at_most_the_targets_and_one_and_never_more_than_five(rungs: int, most: int) -> None:
    course = Course(*(f"{name}/m" for name in "abcdefg"[:rungs]), budget=RetryBudget(floor=1000.0))
    step = course.step()
    while isinstance(step, Send):
        course.fail("connect_error")
        step = course.step()
    assert course.dispatch.calls == most
    assert len(set(course.called())) == min(rungs, most)


def test_credentials_count_as_targets() -> None:
    course = Course(rung("a/m", credentials=3), "b/m", retry=RetryPolicy())
    for _ in range(3):
        course.send("a/m")
        course.fail("rate_limit")
    course.send("b/m")
    course.fail("connect_error")
    course.send("b/m")


def test_one_attempt_means_one() -> None:
    course = Course("a/m", "b/m", retry=RetryPolicy(max_attempts=1))
    course.send("a/m")
    course.fail("timeout")
    assert course.given_up().message.endswith("b/m not tried: max_attempts (1) was reached")


# --- other credentials ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["auth_error", "quota_exhausted", "rate_limit"])
def test_other_credential_is_asked_for_what_lies_with_the_key(reason: str) -> None:
    course = Course(rung("a/m", credentials=2), "b/m")
    assert course.send("a/m").target.credential == 0
    course.fail(reason)
    again = course.send("a/m")
    assert (again.target.credential, again.mode) == (1, "retry")
    course.accept()
    assert course.delivered() == Deliver(2)
    assert course.dispatch.fallbacks == 0


@pytest.mark.parametrize("reason", ["server_error", "connect_error"])
def test_other_credential_is_no_answer_to_what_does_not_lie_with_the_key(reason: str) -> None:
    course = Course(rung("a/m", credentials=2), "b/m")
    course.send("a/m")
    course.fail(reason)
    if reason == "server_error":
        course.wait()
    assert course.send("a/m").target.credential == 0


def test_credential_that_is_out_is_not_asked() -> None:
    board = new_board()
    open_breaker(board, "a/m", 1000.0, credential=1)
    course = Course(rung("a/m", credentials=2), "b/m", board=board)
    course.send("a/m")
    course.fail("quota_exhausted")
    course.send("b/m")


def test_all_credentials_refused_on_the_first_target_end_the_walk() -> None:
    course = Course(rung("a/m", credentials=2), "b/m")
    for _ in range(2):
        course.send("a/m")
        course.fail("auth_error")
    assert course.given_up().code == "upstream_auth_error"


def test_rotation_spreads_requests_over_credentials() -> None:
    courses = [Course(rung("a/m", credentials=3), rotation=turn) for turn in range(5)]
    assert [course.send().target.credential for course in courses] == [0, 1, 2, 0, 1]


def test_rotation_goes_past_a_credential_that_is_out() -> None:
    board = new_board()
    open_breaker(board, "a/m", 1000.0, credential=1)
    course = Course(rung("a/m", credentials=3), rotation=1, board=board)
    assert course.send().target.credential == 2
    assert course.skipped() == []


# --- Retry-After ---------------------------------------------------------------------------------------------


def test_rate_limit_of_the_last_rung_is_waited_out() -> None:
    course = Course("a/m", "b/m")
    course.send("a/m")
    course.fail("timeout")
    course.send("b/m")
    course.fail("rate_limit", retry_after=14.0)
    assert course.wait() == pytest.approx(14.0)
    assert course.send("b/m").mode == "retry"
    course.accept()
    assert course.delivered() == Deliver(3)
    assert course.in_flight() == 0


def test_rate_limit_is_not_waited_out_while_another_rung_is_left() -> None:
    course = Course("a/m", "b/m")
    course.send("a/m")
    course.fail("rate_limit", retry_after=1.0)
    course.send("b/m")


@pytest.mark.parametrize(
    "retry_after, max_wait, overall, waits",
    [
        (20.0, 20.0, 600.0, True),
        (20.5, 20.0, 600.0, False),
        (5.0, 2.0, 600.0, False),
        (0.0, 0.0, 600.0, False),  # an ejection lasts a second at least, and no wait was allowed
        (0.0, 1.0, 600.0, True),
        (14.0, 20.0, 10.0, False),
        (None, 20.0, 600.0, False),
    ],
)
def test_wait_is_bounded_by_policy_and_deadline(
    retry_after: float | None, max_wait: float, overall: float, waits: bool
) -> None:
    course = Course("a/m", retry=RetryPolicy(max_wait=max_wait), overall=overall)
    course.send("a/m")
    course.fail("rate_limit", retry_after=retry_after)
    if waits:
        assert course.wait() <= max(1.0, retry_after or 0.0)
        course.send("a/m")
    else:
        assert course.given_up().status == 429


def test_a_longer_ejection_than_the_wait_allowed_is_not_waited_out() -> None:
    course = Course("a/m", overall=3600.0)
    course.send("a/m")
    course.board.of(target("a/m")).eject(failure("rate_limit").reason, course.now + 300.0, course.now)
    course.fail("rate_limit", retry_after=5.0)
    assert course.given_up().status == 429


def test_rate_limit_is_waited_out_where_the_other_credential_is_out() -> None:
    course = Course(rung("a/m", credentials=2))
    course.board.of(target("a/m", 1)).eject(failure("auth_error").reason, course.now + 900.0, course.now)
    course.send("a/m")
    course.fail("rate_limit", retry_after=5.0)
    assert course.wait() == pytest.approx(5.0)
    assert course.send("a/m").target.credential == 0


@pytest.mark.parametrize(
    "reason, said, back",
    [
        ("rate_limit", None, 10.0),
        ("rate_limit", 40.0, 40.0),
        ("rate_limit", 1e9, 900.0),
        ("quota_exhausted", 5.0, 900.0),
    ],
)
def test_caller_is_told_when_a_limit_ends(reason: str, said: float | None, back: float) -> None:
    course = Course("a/m")
    course.send("a/m")
    course.fail(reason, retry_after=said)
    end = course.given_up()
    assert end.status == 429
    assert end.retry_after == pytest.approx(back)
    assert f"(429, back in {back:.0f} s)" in end.message


def test_overload_is_never_waited_out() -> None:
    course = Course("a/m")
    course.send("a/m")
    course.fail("overloaded", retry_after=2.0)
    end = course.given_up()
    assert (end.status, end.retry_after) == (503, 2.0)


def test_wait_that_ends_behind_the_deadline_calls_nobody() -> None:
    course = Course("a/m", overall=30.0)
    course.send("a/m")
    course.fail("rate_limit", retry_after=14.0)
    course.wait()
    course.now += 30.0  # whoever performs the steps came late
    assert course.given_up().status == 429
    assert course.called() == ["a/m"]
    assert course.in_flight() == 0


def test_target_that_was_taken_out_while_waiting_is_not_called() -> None:
    course = Course("a/m", "b/m")
    course.send("a/m")
    course.fail("server_error")
    open_breaker(course.board, "a/m", course.now)
    course.wait()
    course.send("b/m")


def test_retry_that_cannot_be_made_leaves_the_decision_to_its_failure() -> None:
    """Whether a failure falls back is asked when the retry turns out to be impossible, not forgotten."""
    course = Course("a/m", "b/m", fallback_on=["rate_limit"])
    course.send("a/m")
    course.fail("server_error")
    open_breaker(course.board, "a/m", course.now)
    course.wait()
    assert course.given_up().code == "server_error"
    assert course.called() == ["a/m"]

    defect = Course("a/m", "b/m", "c/m")
    defect.send("a/m")
    defect.fail("server_error")
    open_breaker(defect.board, "a/m", defect.now)
    defect.wait()
    defect.send("b/m")
    defect.fail("invalid_request")
    defect.send("c/m")


# --- the retry budget ----------------------------------------------------------------------------------------


def spent_budget() -> RetryBudget:
    return RetryBudget(ratio=0.0, floor=0.0)


def test_extra_attempts_are_free_while_a_target_of_the_route_is_well() -> None:
    course = Course("a/m", "b/m", "c/m", budget=spent_budget())
    course.send("a/m")
    course.fail("connect_error")
    course.send("a/m")
    course.fail("connect_error")
    course.send("b/m")
    course.fail("timeout")
    course.send("c/m")


def test_extra_attempts_stop_when_all_targets_fail_and_the_budget_is_spent() -> None:
    board = new_board()
    for name in ("a/m", "b/m", "c/m"):
        health = board.of(target(name))
        health.settle(health.take(999.0), failure("server_error"), 999.0, request="other", route="chat")
    course = Course("a/m", "b/m", "c/m", board=board, budget=spent_budget())
    course.send("a/m")
    course.fail("timeout")
    end = course.given_up()
    assert "b/m not tried: the route's retry budget is spent; c/m not tried" in end.message
    assert course.in_flight() == 0


def test_extra_attempts_in_an_outage_are_taken_from_the_budget() -> None:
    board = new_board()
    for name in ("a/m", "b/m", "c/m"):
        health = board.of(target(name))
        health.settle(health.take(999.0), failure("server_error"), 999.0, request="other", route="chat")
    budget = RetryBudget(ratio=1.0, floor=0.0)
    course = Course("a/m", "b/m", "c/m", board=board, budget=budget)  # deposits one
    assert budget.balance(course.now) == pytest.approx(1.0)
    course.send("a/m")
    course.fail("timeout")
    course.send("b/m")
    assert budget.balance(course.now) == pytest.approx(0.0)
    course.fail("timeout")
    assert course.given_up().code == "chain_exhausted"


def test_retry_of_an_only_target_is_an_extra_attempt_of_an_outage() -> None:
    course = Course("a/m", budget=spent_budget())
    course.send("a/m")
    course.fail("connect_error")
    assert course.given_up().status == 502
    assert course.called() == ["a/m"]


def test_a_credential_that_is_well_is_a_target_that_is_well() -> None:
    board = new_board()
    course = Course(rung("a/m", credentials=2), budget=spent_budget(), board=board)
    course.send("a/m")
    course.fail("rate_limit")
    assert course.send("a/m").target.credential == 1


def test_a_retry_that_no_target_can_take_is_not_paid_for() -> None:
    budget = RetryBudget(ratio=0.0, floor=5.0)
    course = Course("a/m", budget=budget)
    course.send("a/m")
    course.fail("rate_limit", retry_after=2.0)
    course.wait()
    eject(course.board, "a/m", "rate_limit", course.now + 60.0, course.now)
    before = budget.balance(course.now)
    course.given_up()
    assert budget.balance(course.now) == before


def test_a_second_keys_refusal_does_not_end_what_fell_back_from_the_first() -> None:
    course = Course(rung("a/m", credentials=2), "b/m")
    course.send("a/m")
    course.fail("rate_limit", retry_after=60.0)
    assert course.send("a/m").mode == "retry"
    course.fail("auth_error")
    course.send("b/m")
    assert course.defects() == [("a/m", "auth_error")]


def test_what_is_the_callers_fault_ends_the_walk_at_the_second_key_too() -> None:
    course = Course(rung("a/m", credentials=2), "b/m")
    course.send("a/m")
    course.fail("rate_limit", retry_after=60.0)
    course.send("a/m")
    course.fail("invalid_request")
    assert course.given_up().code == "invalid_request"
