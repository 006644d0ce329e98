"""Every reason, on the first rung called and on a later one, buffered and streamed: who is called next, what the caller
gets, and what health hears."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from crossfade.core.failure import FailureReason
from crossfade.core.steps import Deliver, GiveUp, Send, Wait
from tests.core.walking import STATUS, Course, target


class Row(NamedTuple):
    """`first`, `later`: what follows with the default list on the first target called, and on one after it: the `next`
    rung, `again` (and then the next), the next as a `defect`, the `end`, or `deliver` as received. `alone`: the status
    where no other is left (0: delivered). `health`: what the target's health looks like then."""

    first: str
    later: str
    alone: int
    health: str


TABLE = {
    "connect_error": Row("again", "again", 502, "failure"),
    "timeout": Row("next", "next", 504, "failure"),
    "server_error": Row("again", "again", 502, "failure"),
    "overloaded": Row("next", "next", 503, "failure"),
    "rate_limit": Row("next", "next", 429, "ejected"),
    "quota_exhausted": Row("next", "next", 429, "credential"),
    "protocol_error": Row("next", "next", 502, "failure"),
    "stream_interrupted": Row("next", "next", 502, "failure"),
    "stream_stalled": Row("next", "next", 504, "failure"),
    "malformed_output": Row("next", "next", 502, "failure"),
    "empty_output": Row("next", "next", 502, "failure"),  # the route is the target's only one
    "invalid_json": Row("next", "next", 502, "well"),
    "invalid_tool_call": Row("next", "next", 502, "well"),
    "rejected_output": Row("next", "next", 502, "well"),
    "truncated_output": Row("deliver", "deliver", 0, "well"),
    "model_unavailable": Row("next", "defect", 404, "ejected"),
    "context_overflow": Row("next", "next", 400, "well"),
    "content_filter": Row("deliver", "deliver", 0, "well"),
    "invalid_request": Row("end", "defect", 400, "well"),
    "auth_error": Row("end", "defect", 502, "credential"),
    "cancelled": Row("end", "end", 499, "well"),
    "internal_error": Row("end", "end", 500, "well"),
}
RETRY_WAIT = {"connect_error": 0.0, "server_error": 0.25}

every_row = pytest.mark.parametrize("reason", sorted(TABLE))
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["buffered", "streamed"])


def test_table_has_every_reason() -> None:
    assert set(TABLE) == {str(reason) for reason in FailureReason}


def assert_follows(course: Course, reason: str, what: str, here: str, after: str, number: int) -> None:
    """After `reason` at `here`, which was attempt `number`, the walk does `what`."""
    if what == "again":
        if RETRY_WAIT[reason]:
            assert course.wait() == pytest.approx(RETRY_WAIT[reason])
        assert course.send(here).mode == "retry"
        course.fail(reason)
        what = "next"
    if what in ("next", "defect"):
        course.send(after)
        assert course.dispatch.last_reason == reason
        assert course.fallbacks()[-1][:3] == (here, after, reason)
    elif what == "deliver":
        assert course.delivered() == Deliver(number)
    else:
        assert isinstance(course.step(), GiveUp)
        assert course.called()[-1] == here
    assert bool(course.defects()) is (what == "defect")


@every_row
@both_ways
def test_first_rung(reason: str, stream: bool) -> None:
    course = Course("a/m", "b/m", "c/m", stream=stream)
    course.send("a/m")
    course.fail(reason)
    assert_follows(course, reason, TABLE[reason].first, "a/m", "b/m", 1)


@every_row
@both_ways
def test_later_rung_after_a_failure_that_falls_back(reason: str, stream: bool) -> None:
    course = Course("a/m", "b/m", "c/m", stream=stream)
    course.send("a/m")
    course.fail("timeout")
    course.send("b/m")
    course.fail(reason)
    assert_follows(course, reason, TABLE[reason].later, "b/m", "c/m", 2)


@every_row
@both_ways
def test_alone(reason: str, stream: bool) -> None:
    course = Course("a/m", stream=stream)
    step = course.step()
    while isinstance(step, (Send, Wait)):
        if isinstance(step, Wait):
            course.now = step.until
        else:
            course.fail(reason)
        step = course.step()
    if TABLE[reason].alone == 0:
        assert step == Deliver(1)
    else:
        assert isinstance(step, GiveUp)
        assert step.status == TABLE[reason].alone
        assert course.step() is step, "an end is final"


@every_row
@both_ways
def test_health_hears_of_it(reason: str, stream: bool) -> None:
    course = Course("a/m", "b/m", stream=stream)
    course.send("a/m")
    course.fail(reason)
    view = course.board.of(target("a/m")).view(course.now)
    sibling = course.board.of(target("a/other")).view(course.now)
    ejected = {str(ejection) for ejection, _ in view.ejections}
    expected = TABLE[reason].health
    assert (view.calls, view.failures) == {"failure": (1, 1)}.get(expected, (1, 0) if soft(reason) else (0, 0))
    assert ejected == ({reason} if expected in ("ejected", "credential") else set())
    assert bool(sibling.ejections) is (expected == "credential"), "what lies with the key concerns its other targets"
    assert view.in_flight == 0


def soft(reason: str) -> bool:
    """A target that gave an answer one route cannot use did answer."""
    return reason in ("invalid_json", "invalid_tool_call", "rejected_output")


@pytest.mark.parametrize("reason", ["empty_output", "invalid_json", "invalid_tool_call", "rejected_output"])
@both_ways
def test_soft_failure_that_is_not_listed_is_delivered_flagged(reason: str, stream: bool) -> None:
    course = Course("a/m", "b/m", stream=stream, fallback_on=["server_error"])
    course.send("a/m")
    course.fail(reason)
    assert course.delivered() == Deliver(1, FailureReason(reason))
    assert course.called() == ["a/m"]


@pytest.mark.parametrize("reason", ["malformed_output", "stream_interrupted", "timeout", "overloaded", "rate_limit"])
@both_ways
def test_hard_failure_that_is_not_listed_ends_as_an_honest_error(reason: str, stream: bool) -> None:
    course = Course("a/m", "b/m", stream=stream, fallback_on=["soft"])
    course.send("a/m")
    course.fail(reason, message="theirs" if reason == "rate_limit" else "")
    end = course.given_up()
    assert (end.status, end.code) == (TABLE[reason].alone, reason)
    assert "a/m" in end.message or end.message == "theirs"
    assert course.called() == ["a/m"]


def test_soft_failure_that_came_as_an_error_cannot_be_delivered() -> None:
    course = Course("a/m", "b/m", fallback_on=["server_error"])
    course.send("a/m")
    course.fail("invalid_tool_call", status=400, code="tool_use_failed")
    assert course.given_up().status == 502


def test_callers_own_mistake_comes_back_as_the_upstream_said_it() -> None:
    course = Course("a/m", "b/m")
    course.send("a/m")
    said: dict[str, Any] = {"status": 422, "code": "bad_param", "message": "no such parameter", "request_id": "up-1"}
    course.fail("invalid_request", **said)
    end = course.given_up()
    assert (end.status, end.code, end.message) == (422, "bad_param", "no such parameter")
    assert end.failure is not None
    assert end.failure.request_id == "up-1"


def test_refused_credential_of_ours_is_our_fault_and_its_words_do_not_leave() -> None:
    course = Course("a/m", "b/m")
    course.send("a/m")
    course.fail("auth_error", message="bad key sk-123")
    end = course.given_up()
    assert (end.status, end.code) == (502, "upstream_auth_error")
    assert "sk-123" not in end.message


def test_statuses_used_here_are_those_of_failing_upstreams() -> None:
    assert all(status >= 400 for status in STATUS.values())
