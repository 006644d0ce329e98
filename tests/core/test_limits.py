"""The timers of an attempt: their defaults, who may shorten them, and that none is noticed too late."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crossfade.core.exchange import RequestFacts
from crossfade.core.failure import FailureReason, Phase
from crossfade.core.limits import AttemptTimers, attempt_limits, reserve
from crossfade.core.policy import AttemptLimits, TimeoutPolicy
from tests.core.walking import target

NONE = TimeoutPolicy()
FACTS = RequestFacts(stream=True)


def limits(
    facts: RequestFacts = FACTS,
    route: TimeoutPolicy = NONE,
    caller: TimeoutPolicy = NONE,
    *,
    is_streamed: bool = True,
    remaining: float = 600.0,
    **fields: Any,
) -> AttemptLimits:
    return attempt_limits(target("a/m", **fields), facts, route, caller, is_streamed=is_streamed, remaining=remaining)


def timers(*, is_sent: bool = True, **fields: Any) -> AttemptTimers:
    """An attempt begun and sent at 0 with the default limits but for `fields`."""
    given_limits = {
        "connect": 5.0,
        "first_content": 12.0,
        "silence": 20.0,
        "idle": 30.0,
        "to_commit": 300.0,
        "max_stream": 3600.0,
        "own_attempt": 300.0,
        "own_first_content": 12.0,
        "own_idle": 30.0,
    }
    made = AttemptTimers(AttemptLimits(**{**given_limits, **fields}), 0.0)
    made.sent_at = 0.0 if is_sent else None
    return made


# --- defaults ------------------------------------------------------------------------------------------------


def test_defaults_of_a_streamed_upstream_call() -> None:
    made = limits()
    assert (made.connect, made.first_content, made.silence, made.idle) == (5.0, 12.0, 20.0, 30.0)
    assert (made.to_commit, made.max_stream) == (300.0, 3600.0)
    assert (made.own_attempt, made.own_first_content, made.own_idle) == (300.0, 12.0, 30.0)


def test_buffered_upstream_call_has_the_limit_of_an_attempt_alone() -> None:
    made = limits(is_streamed=False)
    assert (made.connect, made.to_commit) == (5.0, 300.0)
    assert made.first_content == made.silence == made.idle == math.inf


@pytest.mark.parametrize(
    "facts, fields, first_content, idle",
    [
        (RequestFacts(input_tokens=9_999), {}, 12.0, 30.0),
        (RequestFacts(input_tokens=10_000), {}, 13.0, 30.0),
        (RequestFacts(input_tokens=200_000), {}, 32.0, 30.0),
        (RequestFacts(thinking=True), {}, 120.0, 120.0),
        (RequestFacts(), {"always_thinks": True}, 120.0, 120.0),
        (RequestFacts(), {"is_slow": True}, 600.0, 30.0),
        (RequestFacts(thinking=True), {"is_slow": True}, 600.0, 120.0),
        (RequestFacts(tools=frozenset({"f"})), {}, 12.0, 120.0),
        (RequestFacts(has_other_tools=True), {}, 12.0, 120.0),
    ],
)
def test_first_content_and_idle(facts: RequestFacts, fields: dict[str, Any], first_content: float, idle: float) -> None:
    made = limits(facts, **fields)
    assert (made.first_content, made.idle) == (first_content, idle)


@pytest.mark.parametrize(
    ("facts", "fields", "silence"),
    [
        (RequestFacts(), {}, 20.0),
        (RequestFacts(thinking=True), {}, 120.0),
        (RequestFacts(), {"always_thinks": True}, 120.0),
        (RequestFacts(), {"is_slow": True}, 600.0),
        (RequestFacts(thinking=True), {"timeouts": TimeoutPolicy(silence=7.0)}, 7.0),
    ],
)
def test_a_model_that_thinks_may_be_silent(facts: RequestFacts, fields: dict[str, Any], silence: float) -> None:
    assert limits(facts, **fields).silence == silence


def test_narrower_settings_come_first() -> None:
    route = TimeoutPolicy(connect=1.0, first_content=2.0, silence=3.0, idle=4.0, attempt=5.0, max_stream=6.0)
    made = limits(route=route)
    assert (made.connect, made.first_content, made.silence, made.idle) == (1.0, 2.0, 3.0, 4.0)
    assert (made.to_commit, made.max_stream) == (5.0, 6.0)
    own = TimeoutPolicy(first_content=20.0, idle=40.0)
    made = limits(route=route, timeouts=own)
    assert (made.first_content, made.idle, made.silence) == (20.0, 40.0, 3.0)
    made = limits(route=route, timeouts=own, caller=TimeoutPolicy(first_content=7.0, idle=8.0, attempt=9.0))
    assert (made.first_content, made.idle, made.to_commit) == (7.0, 8.0, 9.0)
    assert (made.own_first_content, made.own_idle, made.own_attempt) == (20.0, 40.0, 5.0)


def test_what_the_deadline_leaves_bounds_the_time_to_the_commit() -> None:
    assert limits(remaining=13.0).to_commit == 13.0
    assert limits(remaining=13.0).own_attempt == 300.0


def test_limits_are_those_of_the_very_target_and_policies_given() -> None:
    """They are remembered by the target's key, which outlives changes of the configuration."""
    assert limits(timeouts=TimeoutPolicy(idle=1.0)).idle == 1.0
    assert limits(timeouts=TimeoutPolicy(idle=2.0)).idle == 2.0
    assert limits(route=TimeoutPolicy(idle=3.0)).idle == 3.0
    assert limits(caller=TimeoutPolicy(idle=4.0)).idle == 4.0
    one = target("a/m")
    for idle in (5.0, 6.0):
        own = TimeoutPolicy(idle=idle)
        assert attempt_limits(one, FACTS, own, NONE, is_streamed=True, remaining=600.0).idle == idle
    for idle in (5.0, 6.0):
        own = TimeoutPolicy(idle=idle)
        assert attempt_limits(one, FACTS, NONE, own, is_streamed=True, remaining=600.0).idle == idle
    again = [attempt_limits(one, FACTS, NONE, NONE, is_streamed=True, remaining=r) for r in (600.0, 10.0, 600.0)]
    assert [made.to_commit for made in again] == [300.0, 10.0, 300.0]
    assert again[0] is again[2]


@pytest.mark.parametrize("deadline, rungs, kept", [(600.0, 3, 10.0), (19.5, 2, 6.5), (10.0, 1, 5.0)])
def test_reserve(deadline: float, rungs: int, kept: float) -> None:
    assert reserve(deadline, rungs) == kept


# --- one limit after the other -------------------------------------------------------------------------------


def assert_runs_out(made: AttemptTimers, at: float, reason: str, phase: Phase, detail: str) -> None:
    assert made.overdue(at - 0.01) is None
    assert made.due() <= at
    failed = made.overdue(at)
    assert failed is not None
    assert (failed.reason, failed.phase, failed.detail) == (FailureReason(reason), phase, detail)


def test_first_content() -> None:
    assert_runs_out(timers(), 12.0, "timeout", Phase.FIRST_CONTENT, "no content in 12.0 s")


def test_first_content_is_counted_from_sending() -> None:
    made = timers(is_sent=False)
    assert made.overdue(100.0) is None
    made.sent_at = 3.0
    assert_runs_out(made, 15.0, "timeout", Phase.FIRST_CONTENT, "no content in 12.0 s")


def test_bytes_without_content_do_not_satisfy_it() -> None:
    made = timers()
    for second in range(1, 12):
        made.on_bytes(float(second))
    assert_runs_out(made, 12.0, "timeout", Phase.FIRST_CONTENT, "no content in 12.0 s")


def test_silence_after_the_first_byte() -> None:
    made = timers(first_content=120.0)
    made.on_bytes(5.0)
    assert_runs_out(made, 25.0, "timeout", Phase.SILENCE, "silent for 20.0 s")


def test_silence_after_content() -> None:
    made = timers()
    made.on_bytes(5.0)
    made.on_content(5.0)
    assert_runs_out(made, 25.0, "stream_stalled", Phase.SILENCE, "silent for 20.0 s")


def test_idle_though_bytes_come() -> None:
    made = timers()
    made.on_content(5.0)
    for second in range(5, 35):
        made.on_bytes(float(second))
    assert_runs_out(made, 35.0, "stream_stalled", Phase.IDLE, "no content for 30.0 s")


def test_open_block_may_be_idle_for_longer() -> None:
    made = timers(silence=1e6)
    made.on_bytes(5.0)
    made.on_content(5.0)
    made.in_block = True
    assert_runs_out(made, 125.0, "stream_stalled", Phase.IDLE, "no content for 120.0 s")


def test_end_of_a_long_block_is_not_idle_at_once() -> None:
    made = timers(silence=1e6)
    made.on_bytes(5.0)
    made.on_content(5.0)
    made.in_block = True
    made.on_bytes(60.0)
    made.in_block = False
    assert_runs_out(made, 90.0, "stream_stalled", Phase.IDLE, "no content for 30.0 s")


def test_idle_that_was_set_holds_in_a_block_too() -> None:
    made = timers(idle=10.0)
    made.on_bytes(5.0)
    made.on_content(5.0)
    made.in_block = True
    assert_runs_out(made, 15.0, "stream_stalled", Phase.IDLE, "no content for 10.0 s")


@pytest.mark.parametrize("has_bytes, what", [(False, "no content"), (True, "no whole answer")])
def test_attempt(has_bytes: bool, what: str) -> None:
    made = timers(first_content=math.inf, silence=math.inf, idle=math.inf, to_commit=300.0)
    if has_bytes:
        made.on_bytes(1.0)
    assert_runs_out(made, 300.0, "timeout", Phase.ATTEMPT, f"{what} in 300.0 s")


def test_after_the_commit_the_attempt_and_the_deadline_bind_no_more() -> None:
    made = timers(to_commit=10.0, max_stream=100.0, idle=1e6, silence=1e6)
    made.on_bytes(5.0)
    made.on_content(5.0)
    made.committed_at = 5.0
    assert_runs_out(made, 105.0, "stream_stalled", Phase.MAX_STREAM, "still not ended after 100.0 s")


def test_pause_of_ours_stands_still() -> None:
    made = timers()
    made.on_bytes(5.0)
    made.on_content(5.0)
    made.committed_at = 5.0
    made.on_pause(15.0)
    made.on_pause(16.0)
    assert made.overdue(1000.0) is None
    assert made.due() == math.inf
    made.on_resume(1000.0)
    made.on_resume(1001.0)
    assert_runs_out(made, 1010.0, "stream_stalled", Phase.SILENCE, "silent for 20.0 s")


# --- the end -------------------------------------------------------------------------------------------------


def finished(**fields: Any) -> AttemptTimers:
    made = timers(**fields)
    made.on_bytes(8.0)
    made.on_content(8.0)
    made.finished_at = 8.0
    return made


def test_silence_of_five_seconds_after_the_finish_reason_is_the_end() -> None:
    made = finished()
    assert not made.is_over(12.9)
    assert made.due() == 13.0
    assert made.is_over(13.0)
    assert made.overdue(13.0) is None


def test_bytes_after_the_finish_reason_keep_it_open_for_a_while_only() -> None:
    made = finished()
    for second in range(9, 38):
        made.on_bytes(float(second))
        assert not made.is_over(float(second))
    assert made.due() <= 38.0
    assert made.is_over(38.0)


def test_finished_answer_is_not_thrown_away_at_the_deadline() -> None:
    made = finished(to_commit=10.0)
    assert made.due() == 10.0
    assert made.overdue(10.0) is None
    assert made.is_over(10.0)


def test_end_is_not_seen_while_we_do_not_read() -> None:
    made = finished()
    made.committed_at = 8.0
    made.on_pause(9.0)
    assert not made.is_over(100.0)
    made.on_resume(100.0)
    assert not made.is_over(103.9)
    assert made.is_over(104.0)


def test_stream_that_has_not_finished_is_not_over() -> None:
    assert not timers().is_over(1e9)


# --- whose limit it was --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, at, is_callers",
    [
        ({"first_content": 12.0, "own_first_content": 12.0}, 12.0, False),
        ({"first_content": 3.0, "own_first_content": 12.0}, 3.0, True),
        ({"first_content": 60.0, "own_first_content": 12.0}, 60.0, False),
        ({"to_commit": 11.0}, 11.0, True),
        ({"to_commit": 13.0, "first_content": 20.0}, 13.0, False),
        ({"to_commit": 13.0, "first_content": math.inf, "own_first_content": math.inf}, 13.0, True),
        ({"to_commit": 300.0, "first_content": math.inf, "own_first_content": math.inf}, 300.0, False),
    ],
)
def test_timeout_counts_only_if_the_target_had_all_its_time(
    fields: dict[str, Any], at: float, is_callers: bool
) -> None:
    made = timers(**fields)
    failed = made.overdue(at)
    assert failed is not None
    assert failed.is_caller_limit is is_callers


def test_slow_connection_leaves_the_target_its_time() -> None:
    made = timers(is_sent=False, to_commit=13.0)
    made.sent_at = 4.0
    failed = made.overdue(13.0)
    assert failed is not None
    assert failed.is_caller_limit


def test_deadline_that_finds_content_flowing_is_the_callers() -> None:
    made = timers(to_commit=100.0)
    made.on_bytes(99.0)
    made.on_content(99.0)
    failed = made.overdue(100.0)
    assert failed is not None
    assert (failed.phase, failed.is_caller_limit) == (Phase.ATTEMPT, True)


@pytest.mark.parametrize("own_idle, is_callers", [(10.0, False), (30.0, True)])
def test_idle_of_a_caller_is_no_fault_of_the_target(own_idle: float, is_callers: bool) -> None:
    made = timers(idle=10.0, own_idle=own_idle)
    made.on_bytes(5.0)
    made.on_content(5.0)
    failed = made.overdue(15.0)
    assert failed is not None
    assert failed.is_caller_limit is is_callers


# --- due -----------------------------------------------------------------------------------------------------

HAPPENINGS = ["bytes", "content", "open", "close", "commit", "pause", "finish"]
EVENTS = st.lists(st.tuples(st.floats(0.01, 60.0), st.sampled_from(HAPPENINGS)), max_size=25)
LIMITS = st.fixed_dictionaries(
    {
        "first_content": st.sampled_from([1.0, 12.0, 120.0, math.inf]),
        "silence": st.sampled_from([2.0, 20.0, math.inf]),
        "idle": st.sampled_from([3.0, 30.0, 120.0, math.inf]),
        "to_commit": st.sampled_from([5.0, 13.0, 300.0]),
        "max_stream": st.sampled_from([4.0, 50.0, 3600.0]),
    }
)


def has_run_out(made: AttemptTimers, now: float) -> bool:
    return made.is_over(now) or made.overdue(now) is not None


def first_overdue(made: AttemptTimers, since: float, until: float) -> float | None:
    """When a limit runs out if nothing happens between `since` and `until`."""
    if not has_run_out(made, until):
        return None
    for _ in range(60):
        middle = (since + until) / 2
        since, until = (since, middle) if has_run_out(made, middle) else (middle, until)
    return until


@settings(max_examples=400, deadline=None)
@given(events=EVENTS, fields=LIMITS, sent_after=st.floats(0.0, 8.0))
@example(  # the end of a block brings back the shorter limit
    events=[(5.0, "open"), (10.0, "commit"), (45.0, "close")],
    fields={"first_content": 12.0, "silence": math.inf, "idle": 30.0, "to_commit": 300.0, "max_stream": 3600.0},
    sent_after=0.0,
)
@example(  # the commit brings a shorter limit than those before it
    events=[(1.0, "content"), (1.0, "commit")],
    fields={"first_content": 12.0, "silence": math.inf, "idle": math.inf, "to_commit": 300.0, "max_stream": 4.0},
    sent_after=0.0,
)
def test_watcher_that_looks_when_due_is_never_late(
    events: list[tuple[float, str]], fields: dict[str, float], sent_after: float
) -> None:
    """Two see the same events. One knows at every moment whether a limit has run out; the other looks only when `due`
    said so at its last look, at the finish reason, and when reading goes on. The second is never late."""
    watched, lazy = timers(is_sent=False, **fields), timers(is_sent=False, **fields)
    times = [sum(gap for gap, _ in events[: count + 1]) for count in range(len(events))]
    script = sorted([(sent_after, "sent"), *zip(times, (what for _, what in events), strict=True)])
    due, now, looks = lazy.due(), 0.0, 0
    for at, what in [*script, (script[-1][0] + 1e4, "end")]:
        overdue_at = first_overdue(watched, now, at)
        while due < at and (overdue_at is None or due < overdue_at - 1e-6):
            assert not has_run_out(lazy, due)
            after = lazy.due()
            assert after > due - 0.06, "it would be looked at all the time"
            due, looks = max(after, due + 0.05), looks + 1
        now = at
        if overdue_at is not None:
            assert due <= overdue_at + 0.05 + 1e-6
            return
        for made in (watched, lazy):
            happen(made, what, now)
        if what in ("finish", "pause"):
            due = max(now, min(due, lazy.due()))
    assert math.isinf(due) or looks < 10_000


def happen(made: AttemptTimers, what: str, now: float) -> None:
    if what == "sent":
        made.sent_at = now
        return
    if what == "pause":
        if made.paused_at is None and made.committed_at is not None:
            made.on_pause(now)
        else:
            made.on_resume(now)
        return
    if made.sent_at is None or made.paused_at is not None:
        return  # nothing is read
    made.on_bytes(now)
    if what in ("content", "open"):
        made.on_content(now)
        made.in_block = what == "open"
    elif what == "close":
        made.in_block = False
    elif what == "commit" and made.committed_at is None and made.first_content_at is not None:
        made.committed_at = now
    elif what == "finish" and made.finished_at is None:
        made.finished_at = now
