"""The deadline: what each call gets of it, and that no limit of a caller's is held against a target."""

from __future__ import annotations

import pytest

from crossfade.core.exchange import RequestFacts
from crossfade.core.failure import FailureReason
from crossfade.core.limits import AttemptTimers
from crossfade.core.policy import TimeoutPolicy
from crossfade.core.steps import Send
from crossfade.core.verdict import Rejected
from tests.core.walking import START, Course, rung, target


def time_out(course: Course, step: Send) -> None:
    """The upstream stays silent until one of the attempt's limits runs out."""
    timers = AttemptTimers(step.limits, course.now)
    timers.sent_at = course.now
    while (failed := timers.overdue(course.now)) is None:
        course.now = max(timers.due(), course.now + 0.001)
    course.dispatch.on_verdict(step.attempt, Rejected(failure=failed), course.now)


@pytest.mark.parametrize("stream_upstream", ["true", "false"])
def test_chain_of_two_fits_into_the_patience_of_a_client_that_waits_20_seconds(stream_upstream: str) -> None:
    course = Course("a/m", "b/m", overall=19.5, stream_upstream=stream_upstream)
    first = course.send("a/m")
    assert first.limits.to_commit == pytest.approx(13.0)
    time_out(course, first)
    assert course.now <= START + 13.01
    second = course.send("b/m")
    assert 6.4 <= second.limits.to_commit == pytest.approx(START + 19.5 - course.now)
    time_out(course, second)
    assert course.given_up().status == 504
    assert course.now <= START + 19.51


@pytest.mark.parametrize("rungs", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("overall", [2.0, 19.5, 60.0, 600.0])
def test_every_rung_gets_its_reserve_though_all_before_it_were_silent(rungs: int, overall: float) -> None:
    course = Course(*(f"{name}/m" for name in "abcde"[:rungs]), overall=overall, stream_upstream="false")
    least = min(10.0, overall / (rungs + 1))
    for _ in range(rungs):
        step = course.send()
        assert step.limits.to_commit >= least - 0.05 * rungs
        time_out(course, step)
    assert course.given_up().status == 504
    assert course.now <= START + overall + 0.1


def test_last_target_has_no_more_than_the_deadline_and_no_more_than_its_own_limit() -> None:
    assert Course("a/m", overall=40.0).send().limits.to_commit == 40.0
    assert Course("a/m", overall=4000.0).send().limits.to_commit == 300.0
    assert Course("a/m", overall=40.0, caller=TimeoutPolicy(attempt=7.0)).send().limits.to_commit == 7.0


def test_nobody_is_called_at_the_deadline_or_after_it() -> None:
    course = Course("a/m", "b/m", overall=10.0)
    course.send("a/m")
    course.fail("timeout", after=10.0)
    end = course.given_up()
    assert end.status == 504
    assert end.message == "All 2 targets of route 'chat' failed: a/m timeout; b/m not tried: no time was left"
    assert course.called() == ["a/m"]


def test_no_time_at_all_is_a_timeout() -> None:
    assert Course("a/m", overall=0.0).given_up().status == 504


def test_answer_that_comes_after_the_deadline_is_still_the_answer() -> None:
    course = Course("a/m", overall=10.0)
    course.send("a/m")
    course.accept(after=10.2)
    course.delivered()


def test_retry_does_not_eat_the_reserve_of_later_rungs() -> None:
    course = Course("a/m", "b/m", overall=12.0)  # a reserve of 4 s
    course.send("a/m")
    course.fail("connect_error", after=8.5)
    course.send("b/m")


def test_call_that_starts_late_shares_what_is_left_with_the_rungs_behind_it() -> None:
    course = Course("a/m", "b/m", "c/m", overall=12.0)  # a reserve of 3 s
    course.send("a/m")
    course.fail("timeout", after=8.0)
    assert course.send("b/m").limits.to_commit == pytest.approx(2.0)


# --- what counts against health ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, counts",
    [
        ({"overall": 19.5}, True),  # 12 s without content are the target's own
        ({"overall": 10.0}, False),
        ({"caller": TimeoutPolicy(first_content=3.0)}, False),
        ({"caller": TimeoutPolicy(attempt=3.0)}, False),
        ({"caller": TimeoutPolicy(first_content=30.0)}, True),
        ({"timeouts": TimeoutPolicy(first_content=3.0)}, True),
        ({"facts": RequestFacts(stream=True, thinking=True), "overall": 100.0}, False),
    ],
)
def test_limit_of_a_caller_never_counts_against_health(options: dict[str, object], counts: bool) -> None:
    course = Course("a/m", **{"stream": True, **options})  # type: ignore[arg-type]  # options of Course
    time_out(course, course.send())
    failed = course.record(1).failure
    assert failed is not None
    assert failed.reason is FailureReason.TIMEOUT
    assert course.board.of(target("a/m")).view(course.now).failures == int(counts)
    assert course.in_flight() == 0


def test_held_answer_that_was_flowing_at_the_deadline_is_not_held_against_the_target() -> None:
    course = Course("a/m", stream=True, overall=30.0)
    step = course.send()
    timers = AttemptTimers(step.limits, course.now)
    timers.sent_at = course.now
    while (failed := timers.overdue(course.now)) is None:
        course.now += 1.0
        timers.on_bytes(course.now)
        timers.on_content(course.now)
    assert course.now == START + 30.0
    course.content()
    course.dispatch.on_verdict(1, Rejected(failure=failed), course.now)
    assert course.board.of(target("a/m")).view(course.now).failures == 0


# --- streams upstream ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chain, facts, wish, is_stream",
    [
        ((rung("a/m", assembles=True), "b/m"), RequestFacts(), "auto", True),
        ((rung("a/m", assembles=True),), RequestFacts(), "auto", False),
        ((rung("a/m"), "b/m"), RequestFacts(), "auto", False),
        ((rung("a/m", assembles=True), "b/m"), RequestFacts(n=2), "auto", False),
        ((rung("a/m", assembles=True), "b/m"), RequestFacts(logprobs=True), "auto", False),
        ((rung("a/m", assembles=True), "b/m"), RequestFacts(audio=True), "auto", False),
        ((rung("a/m", assembles=True), "b/m"), RequestFacts(wants_whole=True), "auto", False),
        ((rung("a/m", assembles=True), "b/m"), RequestFacts(), "false", False),
        ((rung("a/m"),), RequestFacts(), "true", True),
        ((rung("a/m"),), RequestFacts(stream=True), "false", True),
    ],
)
def test_buffered_calls_are_streamed_upstream_where_that_loses_nothing(
    chain: tuple[object, ...], facts: RequestFacts, wish: str, is_stream: bool
) -> None:
    course = Course(*chain, facts=facts, stream_upstream=wish)  # type: ignore[arg-type]  # rungs and names
    assert course.send().stream is is_stream
