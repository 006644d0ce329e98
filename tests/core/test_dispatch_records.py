"""What a walk leaves behind: its records, and what is to be told."""

from __future__ import annotations

import pytest

from crossfade.core.exchange import RequestFacts, Usage
from crossfade.core.standing import BreakerChanged, Ejected
from crossfade.core.verdict import Accepted, Rejected
from tests.core.walking import START, Course, failure, new_board, open_breaker, rung


def test_records_hold_every_call_and_skip_in_order() -> None:
    board = new_board()
    open_breaker(board, "a/m", START)
    course = Course("a/m", rung("b/m", price_in=1.0, price_out=2.0), "c/m", board=board, stream=True)
    course.send("b/m")
    course.dispatch.on_dropped(1, ("seed",))
    course.dispatch.on_head(1, 503, "req-1")
    course.fail("overloaded", after=0.5, request_id="body-1")
    course.send("c/m")
    course.dispatch.on_head(2, 200, "req-2")
    course.content(after=0.25)
    course.now += 1.0
    course.dispatch.on_verdict(2, Accepted(usage=Usage(prompt=3, completion=4)), course.now)
    course.delivered()

    skip, failed, served = course.dispatch.records
    assert (skip.number, skip.target, skip.skip, skip.rung, skip.failure) == (0, "a/m", "breaker open", 1, None)
    assert (failed.number, failed.target, failed.rung, failed.mode) == (1, "b/m", 2, "fresh")
    assert (failed.status, failed.request_id, failed.dropped) == (503, "body-1", ("seed",))
    assert (failed.price_in, failed.price_out) == (1.0, 2.0)
    assert [failed.started_s, failed.latency_s] == pytest.approx([0.0, 0.5])
    assert failed.failure is not None
    assert (served.number, served.rung, served.status, served.request_id) == (2, 3, 200, "req-2")
    assert [served.started_s, served.latency_s] == pytest.approx([0.5, 1.25])
    assert served.time_to_first_chunk_s == pytest.approx(0.25)
    assert (served.failure, served.usage) == (None, Usage(prompt=3, completion=4))


def test_usage_of_an_answer_that_was_rejected_is_kept() -> None:
    course = Course("a/m", "b/m")
    course.send()
    course.dispatch.on_verdict(1, Rejected(failure=failure("empty_output"), usage=Usage(prompt=9)), course.now)
    assert course.record(1).usage == Usage(prompt=9)


def test_retries_are_no_fallbacks() -> None:
    course = Course(rung("a/m", credentials=2), "b/m")
    course.send()
    course.fail("rate_limit")
    course.send("a/m")
    assert (course.dispatch.fallbacks, course.fallbacks(), course.dispatch.last_reason) == (0, [], None)
    assert [record.mode for record in course.dispatch.records] == ["fresh", "retry"]


def test_every_fallback_is_told_with_where_it_comes_from() -> None:
    course = Course("a/m", "b/m", "c/m")
    course.send()
    course.fail("timeout")
    course.send()
    course.fail("rate_limit")
    course.send()
    assert course.fallbacks() == [("a/m", "b/m", "timeout", "fresh"), ("b/m", "c/m", "rate_limit", "fresh")]
    assert (course.dispatch.fallbacks, course.dispatch.last_reason) == (2, "rate_limit")


def test_reason_of_a_fallback_is_the_failure_before_it_not_a_skip_between() -> None:
    board = new_board()
    open_breaker(board, "b/m", START)
    course = Course("a/m", "b/m", "c/m", board=board)
    course.send("a/m")
    course.fail("timeout")
    course.send("c/m")
    assert course.fallbacks() == [("a/m", "c/m", "timeout", "fresh")]


def test_what_health_says_is_passed_on() -> None:
    course = Course("a/m", "b/m")
    course.send()
    course.fail("rate_limit", retry_after=30.0)
    assert [type(change) for change in course.dispatch.changes] == [Ejected]
    board = new_board()
    for number in range(2):
        course = Course("a/m", "b/m", board=board, request=f"r{number}")
        course.send()
        course.fail("timeout")
    (change,) = course.dispatch.changes
    assert isinstance(change, BreakerChanged)
    assert (change.target, change.before, change.after) == ("a/m#0", "closed", "open")


def test_transcript_is_made_only_when_it_is_asked_for() -> None:
    course = Course("a/m")
    course.send()
    course.accept()
    assert course.dispatch.joins == ()
    assert course.dispatch.transcript is course.dispatch.transcript


def test_request_pays_into_the_budget_once() -> None:
    course = Course("a/m", facts=RequestFacts())
    before = course.walk.budget.balance(course.now)
    course.send()
    course.accept()
    course.delivered()
    assert course.walk.budget.balance(course.now) == before
