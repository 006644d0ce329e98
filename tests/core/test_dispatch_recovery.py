"""After the commit: what may go on from a stream that broke off, in which order, and how it ends where nothing may."""

from __future__ import annotations

from typing import Any

import pytest

from crossfade.core.exchange import JoinNote, OutputFormat, RequestFacts, StreamEvent, ToolDelta
from crossfade.core.failure import Phase
from crossfade.core.steps import Deliver
from crossfade.core.target import Skip
from tests.core.walking import START, Course, eject, failure, new_board, open_breaker, rung, target

TEXT = "It was a bright cold day in April, and the clocks were striking thirteen. "


def streaming(*chain: Any, text: str = TEXT, **options: Any) -> Course:
    """A stream of which `text` has been delivered, by the first target."""
    course = Course(*(chain or ("a/m", "b/m", "c/m")), **{"stream": True, **options})
    course.send()
    assert course.commit(text)
    return course


@pytest.mark.parametrize("reason", ["stream_interrupted", "stream_stalled", "server_error", "overloaded", "rate_limit"])
def test_stream_that_breaks_off_is_gone_on_from_by_the_next_target(reason: str) -> None:
    course = streaming()
    course.fail(reason)
    step = course.send("b/m")
    assert step.mode == "continue"
    assert step.join == JoinNote(len(TEXT), "a/m", "b/m", reason)
    assert step.continuation is not None
    assert step.continuation.text == TEXT
    assert course.dispatch.on_commit(2, course.now)
    course.accept()
    assert course.delivered() == Deliver(2)
    assert course.fallbacks() == [("a/m", "b/m", reason, "continue")]
    assert course.in_flight() == 0


@pytest.mark.parametrize("prefill", [True, False])
def test_continuation_is_asked_for_as_the_target_can(prefill: bool) -> None:
    course = streaming("a/m", rung("b/m", prefill=prefill))
    course.fail("stream_interrupted")
    step = course.send("b/m")
    assert step.continuation is not None
    assert step.continuation.prefill is prefill


def test_after_reasoning_alone_recovery_is_a_clean_start() -> None:
    course = streaming(text="")
    course.dispatch.transcript.add(StreamEvent(reasoning="let me think"))
    course.fail("stream_interrupted")
    step = course.send("b/m")
    assert step.continuation is None
    assert step.join is not None
    assert step.mode == "continue"


@pytest.mark.parametrize(
    "facts, events, why",
    [
        (RequestFacts(stream=True, n=2), (), "with several choices"),
        (RequestFacts(stream=True, logprobs=True), (), "with logprobs"),
        (RequestFacts(stream=True, audio=True), (), "with audio"),
        (RequestFacts(stream=True, output=OutputFormat(kind="json_object")), (), "inside JSON"),
        (None, (StreamEvent(tools=(ToolDelta(index=0, name="f"),)),), "inside a tool call"),
        (None, (StreamEvent(refusal="no"),), "after a refusal"),
        (None, (StreamEvent(has_other_content=True),), "behind audio or citations"),
    ],
)
def test_never_joined(facts: RequestFacts | None, events: tuple[StreamEvent, ...], why: str) -> None:
    course = streaming(facts=facts)
    for event in events:
        course.dispatch.transcript.add(event)
    course.fail("stream_interrupted", detail="reset")
    end = course.given_up()
    assert (end.status, end.code) == (502, "stream_interrupted")
    assert end.message == (f"The answer of a/m broke off (stream_interrupted: reset) and could not be continued {why}")
    assert course.called() == ["a/m"]
    assert course.in_flight() == 0


def test_route_may_want_an_error_instead() -> None:
    course = streaming(recover="error")
    course.fail("stream_stalled")
    end = course.given_up()
    assert (end.status, end.code) == (504, "stream_stalled")
    assert "`recover` is `error`" in end.message


@pytest.mark.parametrize("reason", ["invalid_request", "auth_error", "internal_error", "rejected_output"])
def test_failures_that_would_not_fall_back_are_told(reason: str) -> None:
    course = streaming()
    course.fail(reason)
    assert course.given_up().code == reason


def test_fallback_on_governs_up_to_the_commit_only() -> None:
    course = streaming(fallback_on=["rate_limit"])
    course.fail("stream_interrupted")
    course.send("b/m")


@pytest.mark.parametrize("reason", ["truncated_output", "content_filter"])
def test_cut_short_answers_that_the_provider_ended_are_delivered(reason: str) -> None:
    course = streaming(fallback_on=["default", reason])
    course.fail(reason)
    assert course.delivered() == Deliver(1)


def test_longest_time_of_a_stream_is_no_reason_to_begin_another() -> None:
    course = streaming()
    course.fail(failure("stream_stalled", phase=Phase.MAX_STREAM, detail="still not ended after 3600.0 s"))
    assert "beyond the longest time" in course.given_up().message


def test_same_target_is_not_asked_again_after_the_commit() -> None:
    course = streaming("a/m")
    course.fail("server_error")
    end = course.given_up()
    assert "no other target could continue it: a/m server_error (500)" in end.message


# --- order ---------------------------------------------------------------------------------------------------


def test_same_model_at_another_provider_comes_first() -> None:
    course = streaming("a/large", "b/small", "c/large", "d/vendor/large", "e/small")
    course.fail("stream_interrupted")
    for name in ("c/large", "d/vendor/large", "b/small", "e/small"):
        course.send(name)
        course.fail("overloaded")


def test_refused_join_goes_to_the_next_target_and_is_not_held_against_it() -> None:
    course = streaming()
    course.fail("stream_interrupted")
    course.send("b/m")
    course.content()
    course.fail("stream_interrupted", code="join_refused", detail="the answer took another way")
    assert course.board.of(target("b/m")).view(course.now).failures == 0
    step = course.send("c/m")
    assert step.join is not None
    assert (step.join.source, step.join.reason) == ("a/m", "stream_interrupted")


@pytest.mark.parametrize("reason", ["invalid_request", "timeout", "connect_error", "auth_error", "empty_output"])
def test_whatever_fails_in_recovery_goes_to_the_next_target_once(reason: str) -> None:
    course = streaming()
    course.fail("stream_interrupted")
    course.send("b/m")
    course.fail(reason)
    course.send("c/m")
    course.fail(reason)
    end = course.given_up()
    assert (end.status, end.code) == (502, "stream_interrupted")
    assert end.message.startswith("The answer of a/m broke off (stream_interrupted) and no other target")
    assert f"b/m {reason}" in end.message
    assert f"c/m {reason}" in end.message


def test_second_stream_that_breaks_off_too_is_gone_on_from_with_all_that_was_delivered() -> None:
    course = streaming()
    course.fail("stream_interrupted")
    step = course.send("b/m")
    assert step.join is not None
    course.dispatch.transcript.joins.append(step.join)
    course.dispatch.transcript.add(StreamEvent(text="Winston Smith. "))
    course.fail("stream_stalled")
    third = course.send("c/m")
    assert third.continuation is not None
    assert third.continuation.text == TEXT + "Winston Smith. "
    assert third.join is not None
    assert (third.join.source, third.join.at_chars) == ("b/m", len(TEXT) + 15)


def test_targets_that_are_out_are_passed_and_never_tried_early() -> None:
    board = new_board()
    open_breaker(board, "b/m", START)
    eject(board, "c/m", "rate_limit", START + 60, START)
    course = streaming(board=board, fallback_on=["timeout"])
    course.fail("stream_interrupted")
    end = course.given_up()
    assert "b/m skipped: breaker open" in end.message
    assert "c/m skipped: rate_limit" in end.message
    assert course.called() == ["a/m"]


def test_rung_that_was_out_before_the_commit_and_is_back_may_go_on() -> None:
    board = new_board()
    eject(board, "a/m", "rate_limit", START + 5.0, START)
    course = streaming("a/m", "b/m", board=board)
    course.fail("stream_interrupted", after=30.0)
    assert course.send("a/m").mode == "continue"


def test_rung_without_ability_does_not_go_on() -> None:
    course = streaming("a/m", skips=(Skip(rung("b/m"), 1, "no tools"),))
    course.fail("stream_interrupted")
    course.given_up()
    assert course.called() == ["a/m"]


# --- time ----------------------------------------------------------------------------------------------------


def test_deadline_bounds_the_time_to_the_commit_and_a_recovery_has_its_own() -> None:
    course = streaming(overall=20.0)
    course.fail("stream_interrupted", after=300.0)
    assert course.send("b/m").limits.to_commit == pytest.approx(20.0)
    course.fail("timeout", after=12.0)
    assert course.send("c/m").limits.to_commit == pytest.approx(8.0)
    course.fail("timeout", after=8.0)
    course.given_up()


def test_recoveries_count_as_calls() -> None:
    course = streaming("a/m", "b/m", "c/m", "d/m", "e/m", "f/m")
    course.fail("stream_interrupted")
    for _ in range(4):
        course.send()
        course.fail("timeout")
    assert "f/m not tried: max_attempts (5) was reached" in course.given_up().message


def test_client_that_leaves_during_a_recovery() -> None:
    course = streaming()
    course.fail("stream_interrupted")
    course.send("b/m")
    course.dispatch.on_cancel(course.now, {})
    assert course.given_up().status == 499
    assert course.in_flight() == 0
