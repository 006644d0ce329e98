"""Two attempts at once (a trial and its companion), facts that come too late, and clients that leave."""

from __future__ import annotations

import pytest

from crossfade.core.budget import RetryBudget
from crossfade.core.exchange import RequestFacts
from crossfade.core.failure import FailureReason, Origin
from crossfade.core.policy import TimeoutPolicy
from crossfade.core.steps import Deliver
from crossfade.core.verdict import Accepted, Rejected
from tests.core.walking import START, Course, failure, new_board, open_breaker, rung, target


def on_trial(**options: object) -> Course:
    """A walk whose first target's breaker is due for a trial, which has been sent."""
    board = new_board()
    open_breaker(board, "a/m", START - 20.0)
    chain = options.pop("chain", ("a/m", "b/m", "c/m"))
    course = Course(*chain, board=board, **options)  # type: ignore[misc,arg-type]  # options of Course
    assert course.send("a/m").mode == "trial"
    return course


def with_companion(**options: object) -> Course:
    course = on_trial(**options)
    course.now += 2.0
    course.send("b/m")
    return course


# --- the companion -------------------------------------------------------------------------------------------


def test_target_on_trial_gets_company_after_two_seconds() -> None:
    course = on_trial()
    assert course.pending() == START + 2.0
    course.now = START + 1.9
    assert course.pending() == START + 2.0
    course.now = START + 2.0
    course.send("b/m")
    assert course.pending() is None, "one companion is enough"
    assert course.fallbacks() == [("a/m", "b/m", "slow_trial", "fresh")]


def test_trial_without_another_target_or_of_an_unrepeatable_request_stays_alone() -> None:
    assert on_trial(chain=("a/m",)).pending() is None
    assert on_trial(is_repeatable=False).pending() is None


def test_companion_that_is_on_trial_itself_gets_none() -> None:
    board = new_board()
    for name in ("a/m", "b/m"):
        open_breaker(board, name, START - 20.0)
    course = Course("a/m", "b/m", "c/m", board=board)
    course.send("a/m")
    course.now += 2.0
    assert course.send("b/m").mode == "trial"
    course.now += 2.0
    assert course.pending() is None


def test_trial_that_fails_soon_gets_no_company_and_neither_does_the_next_attempt() -> None:
    course = on_trial()
    course.fail("timeout", after=0.5)
    course.send("b/m")
    course.now = START + 3.0
    assert course.pending() is None
    assert course.called() == ["a/m", "b/m"]


def test_trial_that_has_begun_to_answer_gets_no_company() -> None:
    course = on_trial()
    course.content(1, after=1.0)
    course.now = START + 3.0
    assert course.pending() is None


def test_companion_is_not_sent_where_the_budget_is_spent_and_may_be_later() -> None:
    budget = RetryBudget(ratio=0.0, floor=0.0)
    course = on_trial(chain=("a/m", "b/m"), budget=budget)
    health = course.board.of(target("b/m"))
    health.settle(health.take(START), failure("server_error"), START, request="other", route="chat")
    course.now += 2.0
    assert course.pending() is None
    assert health.in_flight == 0
    health.settle(health.take(START), None, START, request="other", route="chat")
    course.fail("timeout", 1)
    course.send("b/m")


@pytest.mark.parametrize("stream", [False, True], ids=["buffered", "streamed"])
def test_companion_that_is_first_wins_and_the_silent_trial_counts_as_a_timeout(stream: bool) -> None:
    course = with_companion(stream=stream)
    if stream:
        assert course.commit(number=2)
        assert not course.dispatch.on_commit(1, course.now)
    course.accept(2)
    assert course.delivered() == Deliver(2)
    lost = course.record(1)
    assert lost.failure is not None
    assert (lost.failure.reason, lost.failure.detail) == (FailureReason.TIMEOUT, "another target was faster")
    assert course.breaker("a/m") == "open"
    assert course.in_flight() == 0


@pytest.mark.parametrize("stream", [False, True], ids=["buffered", "streamed"])
def test_trial_that_is_first_wins_and_its_companion_is_not_blamed(stream: bool) -> None:
    course = with_companion(stream=stream)
    if stream:
        assert course.commit(number=1)
        assert not course.dispatch.on_commit(2, course.now)
    course.accept(1)
    assert course.delivered() == Deliver(1)
    unlucky = course.record(2)
    assert unlucky.failure is not None
    assert (unlucky.failure.reason, unlucky.failure.origin) == (FailureReason.CANCELLED, Origin.LOCAL)
    view = course.board.of(target("b/m")).view(course.now)
    assert (view.calls, view.failures, view.in_flight) == (0, 0, 0)


def test_loser_that_had_begun_to_answer_is_not_blamed() -> None:
    course = with_companion(stream=True)
    course.content(1)
    assert course.commit(number=2)
    assert course.breaker("a/m") == "half_open"
    assert course.in_flight() == 0


@pytest.mark.parametrize("first, second", [(1, 2), (2, 1)])
def test_either_may_fail_while_the_other_answers(first: int, second: int) -> None:
    course = with_companion()
    course.fail("server_error", first)
    assert course.pending() is None
    course.accept(second)
    assert course.delivered() == Deliver(second)


def test_both_fail_and_the_walk_goes_on() -> None:
    course = with_companion()
    course.fail("timeout", 1)
    course.fail("timeout", 2)
    course.send("c/m")
    course.fail("timeout")
    end = course.given_up()
    assert end.status == 504
    assert end.message.count("timeout") == 3


def test_callers_mistake_found_by_one_waits_for_the_other() -> None:
    course = with_companion()
    course.fail("invalid_request", 1, message="theirs")
    assert course.pending() is None
    course.accept(2)
    assert course.delivered() == Deliver(2)


def test_nothing_is_retried_while_another_attempt_is_under_way() -> None:
    course = with_companion()
    course.fail("connect_error", 2)
    course.fail("timeout", 1)
    course.send("c/m")


@pytest.mark.parametrize("other", ["timeout", "invalid_request", "connect_error"])
def test_callers_mistake_found_by_the_first_is_the_end_if_the_other_fails_too(other: str) -> None:
    course = with_companion()
    course.fail("invalid_request", 1, message="theirs")
    course.fail(other, 2, message="other")
    end = course.given_up()
    assert (end.status, end.message) == (400, "theirs")
    assert course.defects() == []


def test_soft_agreement_waits_for_an_attempt_under_way() -> None:
    board = new_board()
    open_breaker(board, "b/m", START - 20.0)
    course = Course("a/m", "b/m", "c/m", "d/m", board=board)
    course.send("a/m")
    course.fail("empty_output", 1)
    assert course.send("b/m").mode == "trial"
    course.now += 2.0
    course.send("c/m")
    course.fail("empty_output", 2)
    assert course.pending() is None
    course.accept(3)
    assert course.delivered() == Deliver(3)


def test_companions_that_agree_end_the_walk() -> None:
    course = with_companion()
    course.fail("empty_output", 1)
    course.fail("empty_output", 2)
    assert course.given_up().code == "soft_agreement"
    assert course.in_flight() == 0


def test_fault_of_ours_ends_both() -> None:
    course = with_companion()
    course.fail("internal_error", 1)
    assert course.given_up().status == 500
    assert course.in_flight() == 0
    ended = course.record(2).failure
    assert ended is not None
    assert ended.reason is FailureReason.CANCELLED


# --- facts that come too late --------------------------------------------------------------------------------


def test_facts_about_an_attempt_that_is_over_or_never_was_change_nothing() -> None:
    course = Course("a/m", "b/m", stream=True)
    course.send("a/m")
    course.fail("timeout")
    course.send("b/m")
    before = (course.record(1).latency_s, course.record(1).failure, course.in_flight())
    for number in (1, 7):
        course.dispatch.on_verdict(number, Accepted(), course.now + 1.0)
        course.dispatch.on_verdict(number, Rejected(failure=failure("internal_error")), course.now + 1.0)
        course.dispatch.on_content(number, course.now)
        course.dispatch.on_head(number, 200, "late")
        course.dispatch.on_dropped(number, ("seed",))
        assert not course.dispatch.on_commit(number, course.now)
    assert (course.record(1).latency_s, course.record(1).failure, course.in_flight()) == before
    assert course.record(1).request_id is None
    assert course.pending() is None


def test_facts_after_the_end_change_nothing() -> None:
    course = Course("a/m", "b/m", stream=True)
    course.send("a/m")
    course.accept()
    end = course.delivered()
    course.fail("internal_error", 1)
    assert not course.dispatch.on_commit(1, course.now)
    course.dispatch.on_cancel(course.now, {1: 100.0})
    assert course.step() is end
    assert course.record(1).failure is None


def test_content_is_noted_once() -> None:
    course = Course("a/m", stream=True)
    course.send()
    course.content(after=1.0)
    course.content(after=5.0)
    assert course.record(1).time_to_first_chunk_s == pytest.approx(1.0)


def test_success_at_first_content_is_taken_back_by_a_failure_behind_it() -> None:
    course = Course("a/m", "b/m", stream=True)
    course.send("a/m")
    course.content()
    assert course.board.of(target("a/m")).view(course.now).failures == 0
    course.fail("stream_interrupted")
    view = course.board.of(target("a/m")).view(course.now)
    assert (view.calls, view.failures, view.in_flight) == (1, 1, 0)
    course.send("b/m")


# --- clients that leave --------------------------------------------------------------------------------------


def cancelled(silent: float, *, facts: RequestFacts | None = None, **options: object) -> Course:
    course = Course("a/m", facts=facts, **options)  # type: ignore[arg-type]  # options of Course
    course.send("a/m")
    course.now += silent
    course.dispatch.on_cancel(course.now, {1: silent})
    return course


def test_client_that_leaves_ends_the_walk_and_is_nobodys_failure() -> None:
    course = cancelled(5.0)
    end = course.given_up()
    assert (end.status, end.code) == (499, "cancelled")
    view = course.board.of(target("a/m")).view(course.now)
    assert (view.calls, view.failures, view.in_flight) == (0, 0, 0)
    gone = course.record(1).failure
    assert gone is not None
    assert (gone.reason, gone.origin) == (FailureReason.CANCELLED, Origin.DOWNSTREAM)
    assert course.record(1).latency_s == pytest.approx(5.0)


@pytest.mark.parametrize(
    "silent, facts, counts",
    [
        (29.9, RequestFacts(), False),
        (30.0, RequestFacts(), True),
        (30.0, RequestFacts(thinking=True), False),
        (120.0, RequestFacts(thinking=True), True),
        (19.9, RequestFacts(stream=True), False),
        (20.0, RequestFacts(stream=True), True),
        (119.0, RequestFacts(stream=True, thinking=True), False),
        (120.0, RequestFacts(stream=True, thinking=True), True),
    ],
)
def test_upstream_that_hung_longer_than_its_limit_is_heard_of(silent: float, facts: RequestFacts, counts: bool) -> None:
    course = cancelled(silent, facts=facts)
    assert course.board.of(target("a/m")).view(course.now).failures == int(counts)
    gone = course.record(1).failure
    assert gone is not None
    assert gone.reason is FailureReason.CANCELLED, "on record the client left, whatever health makes of it"
    assert course.in_flight() == 0


def test_target_that_always_thinks_has_the_longer_limit() -> None:
    course = Course(rung("a/m", always_thinks=True))
    course.send()
    course.dispatch.on_cancel(course.now + 60.0, {1: 60.0})
    assert course.board.of(target("a/m")).view(course.now).failures == 0


def test_client_that_leaves_a_hanging_provider_opens_its_breaker() -> None:
    board = new_board()
    for number in range(2):
        course = Course("a/m", board=board, request=f"r{number}")
        course.send("a/m")
        course.dispatch.on_cancel(course.now + 31.0, {1: 31.0})
    assert board.of(target("a/m")).breaker.state(START + 31.0) == "open"


def test_client_that_leaves_ends_both_attempts_and_a_wait() -> None:
    course = with_companion()
    course.dispatch.on_cancel(course.now, {})
    assert course.given_up().status == 499
    assert course.in_flight() == 0

    waiting = Course("a/m", timeouts=TimeoutPolicy())
    waiting.send()
    waiting.fail("server_error")
    waiting.wait()
    waiting.dispatch.on_cancel(waiting.now, {})
    assert waiting.given_up().status == 499
