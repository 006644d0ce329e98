from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from crossfade.core.breaker import LOST_TRIAL, Breaker, Permit, Window
from crossfade.core.policy import BreakerPolicy
from crossfade.core.standing import BreakerChange
from tests.compiled import fields_of

POLICY = BreakerPolicy()


def breaker(policy: BreakerPolicy = POLICY, draw: float = 0.5) -> Breaker:
    return Breaker(policy, lambda: draw)


def taken(machine: Breaker, now: float) -> Permit:
    permit = machine.permit(now)
    assert permit is not None
    return permit


def fail(
    machine: Breaker, now: float, request: str | bytes | int = "r", is_silence: bool = False
) -> BreakerChange | None:
    return machine.fail(taken(machine, now), now, request, is_silence)


def opened(now: float = 0.0, policy: BreakerPolicy = POLICY, is_silence: bool = False) -> Breaker:
    machine = breaker(policy)
    if is_silence:
        for n in range(policy.consecutive_silences):
            fail(machine, now, n, True)
    else:
        for n in range(policy.consecutive_failures):
            fail(machine, now, n)
    assert machine.state(now) == "open"
    return machine


def all_of(machine: Breaker) -> dict[str, Any]:
    """Everything that the breaker holds, copied."""
    parts = {name: getattr(machine, name) for name in fields_of(Breaker) if name != "_window"}
    window = machine._window
    return parts | {name: getattr(window, name) for name in fields_of(Window)}


# --- opening -------------------------------------------------------------------------------------------------


def test_five_failures_in_a_row_of_two_requests_open_it() -> None:
    machine = breaker()
    assert [fail(machine, float(n), "a") for n in range(4)] == [None] * 4
    assert fail(machine, 4.0, "b") == BreakerChange("closed", "open", 19.0)
    assert machine.state(18.9) == "open"
    assert machine.state(19.0) == "half_open"
    assert not machine.opened_by_silence


# --- one request that fails again and again ----------------------------------------------------------------


@pytest.mark.parametrize("is_silence", [False, True])
def test_one_request_alone_opens_it_for_itself_and_for_nobody_else(is_silence: bool) -> None:
    machine = breaker()
    needed = 2 if is_silence else 5
    changes = [fail(machine, 0.0, b"poison", is_silence) for _ in range(needed)]
    assert [change is not None for change in changes] == [False] * (needed - 1) + [True]
    assert machine.is_for_one and machine.state(0.0) == "open"
    assert machine.permit(1.0, b"poison") is None
    for number in range(20):
        permit = machine.permit(1.0, number)
        assert permit is not None and not permit.is_trial
        assert machine.succeed(permit, 1.0) is None
    assert machine.permit(1.0, b"poison") is None


def test_when_its_time_is_over_that_request_has_one_trial_at_a_time() -> None:
    machine = breaker()
    for _ in range(5):
        fail(machine, 0.0, b"poison")
    trial = machine.permit(15.0, b"poison")
    assert trial is not None and trial.is_trial
    assert machine.permit(15.0, b"poison") is None and machine.permit(15.0, b"other") is not None
    change = machine.fail(trial, 15.0, b"poison", False)
    assert change == BreakerChange("half_open", "open", 45.0)
    assert machine.is_for_one and machine.permit(44.0, b"poison") is None


def test_another_request_that_fails_as_well_opens_it_for_all() -> None:
    machine = breaker()
    for _ in range(5):
        fail(machine, 0.0, b"poison")
    early = machine.permit(1.0, b"early")
    permit = machine.permit(1.0, b"other")
    assert permit is not None and early is not None
    assert machine.fail(permit, 1.0, b"other", False) == BreakerChange("closed", "open", 16.0)
    assert not machine.is_for_one and machine.permit(1.0, b"third") is None
    assert machine.succeed(early, 2.0) is None and machine.state(2.0) == "open", "a result from before"


def test_a_success_of_another_in_between_makes_a_new_row() -> None:
    machine = breaker()
    for _ in range(5):
        fail(machine, 0.0, b"poison")
    for number in range(20):
        good = machine.permit(1.0, number)
        assert good is not None
        machine.succeed(good, 1.0)
    permits = [machine.permit(1.0, number) for number in range(5)]
    changes = [permit and machine.fail(permit, 1.0, number, False) for number, permit in enumerate(permits)]
    assert [change is not None for change in changes] == [False] * 4 + [True]
    assert not machine.is_for_one


def test_others_that_are_well_close_it_for_that_request_too_once_its_time_is_over() -> None:
    machine = breaker()
    for _ in range(5):
        fail(machine, 0.0, b"poison")
    early, late = machine.permit(1.0, 1), machine.permit(15.0, 2)
    assert early is not None and late is not None
    assert machine.succeed(early, 1.0) is None
    assert machine.succeed(late, 15.0) == BreakerChange("half_open", "closed")
    assert machine.permit(15.0, b"poison") is not None


def test_the_share_of_failures_opens_it_for_one_request_where_all_were_of_that_one() -> None:
    machine = breaker()
    for _ in range(5):
        machine.succeed(taken(machine, 0.0), 0.0)
        fail(machine, 0.0, b"poison")
    assert machine.is_for_one and machine.permit(0.0, b"other") is not None
    mixed = breaker()
    for number in range(5):
        mixed.succeed(taken(mixed, 0.0), 0.0)
        fail(mixed, 0.0, b"poison" if number % 2 else number)
    assert mixed.state(0.0) == "open" and not mixed.is_for_one


def test_what_no_request_can_be_the_cause_of_opens_it_for_all() -> None:
    machine = breaker()
    for _ in range(5):
        permit = machine.permit(0.0, b"same")
        assert permit is not None
        machine.fail(permit, 0.0, None, False)
    assert machine.state(0.0) == "open" and not machine.is_for_one


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 20.0), st.booleans()), max_size=200))
def test_one_request_never_takes_it_from_others_that_are_answered_well(
    steps: list[tuple[bool, float, bool]],
) -> None:
    """Whatever the order: failures of one request, successes of others, and time between them."""
    machine, now = breaker(), 0.0
    for number, (is_poison, wait, is_silence) in enumerate(steps):
        now += wait
        permit = machine.permit(now, b"poison" if is_poison else number)
        if not is_poison:
            assert permit is not None and not permit.is_trial
            machine.succeed(permit, now)
        elif permit is not None:
            machine.fail(permit, now, b"poison", is_silence)


def test_where_one_failure_is_to_be_enough_it_is() -> None:
    machine = breaker(BreakerPolicy(consecutive_failures=1))
    assert fail(machine, 0.0, "a") is not None


def test_a_success_in_between_starts_the_row_anew() -> None:
    machine = breaker()
    for n in range(4):
        fail(machine, 0.0, n)
    machine.succeed(taken(machine, 0.0), 0.0)
    assert machine.consecutive_failures == 0
    assert not any(fail(machine, 0.0, n) for n in range(4))
    assert fail(machine, 0.0, 9) is not None


def test_two_silences_in_a_row_open_it_and_that_is_remembered() -> None:
    machine = breaker()
    assert fail(machine, 0.0, "a", True) is None
    assert fail(machine, 1.0, "b", True) is not None
    assert machine.opened_by_silence


@pytest.mark.parametrize("between", ["failure", "success"])
def test_silences_with_another_outcome_between_are_not_in_a_row(between: str) -> None:
    machine = breaker()
    fail(machine, 0.0, 1, True)
    if between == "failure":
        fail(machine, 0.0, 2)
    else:
        machine.succeed(taken(machine, 0.0), 0.0)
    assert fail(machine, 0.0, 3, True) is None


def test_half_of_ten_calls_within_the_window_open_it() -> None:
    machine = breaker()
    for n in range(4):
        assert fail(machine, float(n), n) is None
        machine.succeed(taken(machine, float(n)), float(n))
    machine.succeed(taken(machine, 4.0), 4.0)
    assert fail(machine, 5.0, 9) is not None
    assert machine.state(5.0) == "open"


def test_below_ten_calls_or_below_half_the_ratio_says_nothing() -> None:
    machine = breaker()
    for n in range(200):
        if n % 5 < 3:
            machine.succeed(taken(machine, 0.0), 0.0)
        else:
            assert fail(machine, 0.0, n) is None
    few = breaker()
    for n in range(4):
        fail(few, 0.0, n)
        few.succeed(taken(few, 0.0), 0.0)
    assert fail(few, 0.0, 9) is None, "nine calls"


def test_calls_before_the_window_do_not_count() -> None:
    machine = breaker()
    for _ in range(100):
        machine.succeed(taken(machine, 0.0), 0.0)
    assert machine.recent(0.0) == (100, 0)
    assert machine.recent(29.9)[0] in (0, 100)
    assert machine.recent(30.1) == (0, 0)
    for n in range(5):
        if n:
            machine.succeed(taken(machine, 40.0), 40.0)
        fail(machine, 40.0, n)
    assert machine.state(40.0) == "closed"
    machine.succeed(taken(machine, 40.0), 40.0)
    assert fail(machine, 40.0, 99) is not None, "six of eleven, and none of the hundred"


def test_the_window_is_no_longer_where_calls_come_slowly() -> None:
    machine = breaker()
    for n in range(40):
        machine.succeed(taken(machine, n * 5.9), n * 5.9)
        assert machine.recent(n * 5.9)[0] <= 6


# --- open and half-open --------------------------------------------------------------------------------------


def test_open_gives_no_permit_until_it_is_due_and_then_one_at_a_time() -> None:
    machine = opened(0.0)
    assert machine.due(1.0) == 15.0
    assert machine.permit(14.9) is None
    trial = taken(machine, 15.0)
    assert trial.is_trial
    assert machine.permit(15.0) is None
    assert machine.permit_early(15.0) is None
    assert machine.due(15.0) is None
    assert machine.has_trial(15.0)


def test_two_successful_trials_close_it_and_everything_counted_is_forgotten() -> None:
    machine = opened(0.0)
    assert machine.succeed(taken(machine, 15.0), 16.0) is None
    assert machine.state(16.0) == "half_open"
    assert machine.succeed(taken(machine, 16.0), 17.0) == BreakerChange("half_open", "closed")
    assert machine.closed_at == 17.0
    assert machine.recent(17.0) == (0, 0)
    assert not any(fail(machine, 17.0, n) for n in range(4))


def test_each_failed_trial_doubles_the_open_time_up_to_its_limit() -> None:
    machine = opened(0.0)
    now, waits = 0.0, []
    for _ in range(7):
        due = machine.due(now)
        assert due is not None
        waits.append(due - now)
        now = due
        change = fail(machine, now)
        assert change is not None
        assert (change.before, change.after) == ("half_open", "open")
    assert waits == [15.0, 30.0, 60.0, 120.0, 240.0, 300.0, 300.0]


def test_after_closing_the_open_time_begins_small_again() -> None:
    machine = opened(0.0)
    fail(machine, 15.0)
    for now in (45.0, 46.0):
        machine.succeed(taken(machine, now), now)
    for n in range(5):
        fail(machine, 50.0, n)
    assert machine.due(50.0) == 65.0


@pytest.mark.parametrize(("draw", "due"), [(0.0, 13.5), (0.5, 15.0), (0.999999999, 16.5)])
def test_the_open_time_is_jittered_by_a_tenth(draw: float, due: float) -> None:
    machine = breaker(draw=draw)
    for n in range(5):
        fail(machine, 0.0, n)
    assert machine.due(0.0) == pytest.approx(due)


def test_a_failed_trial_says_anew_whether_it_was_silence() -> None:
    machine = opened(0.0, is_silence=True)
    fail(machine, 15.0)
    assert not machine.opened_by_silence
    fail(machine, 45.0, is_silence=True)
    assert machine.opened_by_silence


def test_a_released_trial_leaves_room_for_the_next() -> None:
    machine = opened(0.0)
    assert machine.release(taken(machine, 15.0), 16.0) is None
    assert machine.state(16.0) == "half_open"
    assert taken(machine, 16.0).is_trial


def test_a_trial_before_its_time_closes_like_any_other() -> None:
    machine = opened(0.0)
    early = machine.permit_early(5.0)
    assert early is not None
    assert early.is_trial
    assert machine.permit_early(5.0) is None
    assert machine.succeed(early, 6.0) == BreakerChange("open", "half_open")
    assert machine.succeed(taken(machine, 6.0), 7.0) == BreakerChange("half_open", "closed")


def test_a_failed_trial_before_its_time_does_not_lengthen_the_open_time() -> None:
    machine = opened(0.0)
    for now in (1.0, 2.0, 3.0):
        early = machine.permit_early(now)
        assert early is not None
        assert machine.fail(early, now, "r", False) is None
        assert machine.due(now) == 15.0


def test_an_early_trial_that_fails_when_the_time_is_over_counts_as_due() -> None:
    machine = opened(0.0)
    early = machine.permit_early(14.0)
    assert early is not None
    assert machine.fail(early, 20.0, "r", True) == BreakerChange("half_open", "open", 50.0)


def test_early_on_a_closed_breaker_is_an_ordinary_permit() -> None:
    permit = breaker().permit_early(0.0)
    assert permit is not None
    assert not permit.is_trial


@pytest.mark.parametrize("how", ["succeed", "fail", "release"])
def test_a_lost_trial_does_not_keep_the_target_out_and_comes_back_to_nothing(how: str) -> None:
    machine = opened(0.0)
    lost = taken(machine, 15.0)
    assert machine.permit(15.0 + LOST_TRIAL - 1) is None
    second = taken(machine, 15.0 + LOST_TRIAL)
    before = all_of(machine)
    if how == "fail":
        machine.fail(lost, 920.0, "r", True)
    elif how == "succeed":
        machine.succeed(lost, 920.0)
    else:
        machine.release(lost, 920.0)
    assert all_of(machine) == before
    machine.succeed(second, 920.0)
    assert not machine.has_trial(920.0)


# --- permits -------------------------------------------------------------------------------------------------


def test_a_late_result_from_before_the_opening_changes_nothing() -> None:
    machine = breaker()
    late = [taken(machine, 0.0) for _ in range(3)]
    for n in range(5):
        fail(machine, 0.0, n)
    before = all_of(machine)
    assert machine.succeed(late[0], 15.0) is None
    assert machine.fail(late[1], 15.0, "r", True) is None
    assert machine.release(late[2], 15.0) is None
    assert all_of(machine) == before


@pytest.mark.parametrize("first", ["succeed", "fail", "release"])
@pytest.mark.parametrize("second", ["succeed", "fail", "release"])
def test_a_permit_is_returned_only_once(first: str, second: str) -> None:
    def settle(machine: Breaker, permit: Permit, how: str) -> BreakerChange | None:
        if how == "fail":
            return machine.fail(permit, 1.0, "r", False)
        return machine.succeed(permit, 1.0) if how == "succeed" else machine.release(permit, 1.0)

    machine = breaker()
    permit = taken(machine, 0.0)
    settle(machine, permit, first)
    before = all_of(machine)
    assert settle(machine, permit, second) is None
    assert all_of(machine) == before


# --- answers that break off ----------------------------------------------------------------------------------


def test_a_target_that_begins_every_answer_and_ends_none_opens_like_one_that_never_answers() -> None:
    machine = breaker()
    changes = []
    for n in range(5):
        permit = taken(machine, float(n))
        machine.succeed(permit, float(n))
        changes.append(machine.fail_late(permit, n + 0.5, n, False))
    assert [change is not None for change in changes] == [False] * 4 + [True]


def test_a_success_of_another_call_in_between_ends_the_row() -> None:
    machine = breaker()
    for n in range(4):
        fail(machine, 0.0, n)
    broken, whole = taken(machine, 0.0), taken(machine, 0.0)
    machine.succeed(broken, 0.0)
    machine.succeed(whole, 0.0)
    assert machine.fail_late(broken, 1.0, 9, False) is None
    assert machine.consecutive_failures == 1


def test_an_answer_that_broke_off_is_one_call_and_not_two() -> None:
    machine = breaker()
    permit = taken(machine, 0.0)
    machine.succeed(permit, 0.0)
    machine.fail_late(permit, 1.0, "r", False)
    assert machine.recent(1.0) == (1, 1)
    assert machine.fail_late(permit, 1.0, "r", False) is None
    assert machine.recent(1.0) == (1, 1)


def test_one_that_broke_off_after_the_window_is_counted_whole() -> None:
    machine = breaker()
    permit = taken(machine, 0.0)
    machine.succeed(permit, 0.0)
    machine.fail_late(permit, 100.0, "r", False)
    assert machine.recent(100.0) == (1, 1)


def test_a_trial_that_broke_off_opens_it_again() -> None:
    machine = opened(0.0)
    permit = taken(machine, 15.0)
    machine.succeed(permit, 15.0)
    assert machine.fail_late(permit, 16.0, "r", False) == BreakerChange("half_open", "open", 46.0)


@pytest.mark.parametrize("how", ["unsettled", "released", "failed", "of an older generation"])
def test_only_a_counted_success_can_be_taken_back(how: str) -> None:
    machine = breaker()
    permit = taken(machine, 0.0)
    if how == "released":
        machine.release(permit, 0.0)
    elif how == "failed":
        machine.fail(permit, 0.0, "r", False)
    elif how == "of an older generation":
        machine.succeed(permit, 0.0)
        for n in range(5):
            fail(machine, 0.0, n)
    before = all_of(machine)
    assert machine.fail_late(permit, 1.0, "r", True) is None
    assert all_of(machine) == before


# --- configuration -------------------------------------------------------------------------------------------


def test_new_thresholds_keep_the_state() -> None:
    machine = breaker()
    for n in range(4):
        fail(machine, 0.0, n)
    machine.retune(BreakerPolicy(consecutive_failures=6))
    assert fail(machine, 0.0, 5) is None
    assert fail(machine, 0.0, 6) is not None
    assert machine.state(1.0) == "open"


def test_a_new_window_length_starts_the_window_anew() -> None:
    machine = breaker()
    machine.succeed(taken(machine, 0.0), 0.0)
    machine.retune(BreakerPolicy(window=60.0))
    assert machine.recent(0.0) == (0, 0)


def test_after_a_reset_results_of_calls_under_way_are_ignored() -> None:
    machine = breaker(BreakerPolicy(consecutive_failures=1))
    permit = taken(machine, 0.0)
    machine.reset()
    assert machine.fail(permit, 0.0, "r", True) is None
    assert machine.state(0.0) == "closed"


# --- any sequence --------------------------------------------------------------------------------------------

moments = st.one_of(st.just(0.0), st.floats(0.0, 3.0), st.floats(0.0, 40.0), st.floats(0.0, 2000.0))


class AnySequence(RuleBasedStateMachine):
    """The breaker beside a plain account of what has happened since it last changed its state."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.requests = 0
        self.subject = breaker()
        self.live: list[Permit] = []  # unsettled, of the present state
        self.stale: list[Permit] = []  # unsettled, of an earlier one
        self.good: list[Permit] = []  # settled as successes in the present state
        self.trial: Permit | None = None  # unsettled, of whatever state
        self.trial_since = 0.0
        self.trial_successes = 0
        self.row: list[tuple[int, bool]] = []  # failures in a row
        self.rows_before: dict[int, list[tuple[int, bool]]] = {}
        self.last_good: Permit | None = None
        self.counts: list[tuple[float, int, int]] = []  # time, calls, failures

    @initialize(draw=st.floats(0.0, 1.0, exclude_max=True))
    def begin(self, draw: float) -> None:
        self.subject = breaker(draw=draw)

    def another_request(self) -> int:
        self.requests += 1
        return self.requests

    # --- account -------------------------------------------------------------------------------------------

    def forget(self, change: BreakerChange | None) -> None:
        """A change of state: all permits under way belong to the past."""
        if change is None or change.after == "half_open":
            return
        self.stale += self.live
        self.live, self.good, self.row, self.counts = [], [], [], []
        self.trial_successes, self.last_good = 0, None

    def has_trial(self) -> bool:
        return self.trial is not None and self.now - self.trial_since < LOST_TRIAL

    def is_over(self, permit: Permit) -> None:
        """A trial is over once it is settled, whatever its result is worth."""
        if permit is self.trial:
            self.trial = None

    def ratio_opens(self) -> set[bool]:
        """Whether the ratio rule opens, for every length that a window of ten slots may have just now."""
        ages = {self.now - time for time, _, _ in self.counts}
        lengths = {27.0, 30.0} | {age + nudge for age in ages if 27.0 <= age <= 30.0 for nudge in (-1e-6, 1e-6)}
        answers = set()
        for length in lengths:
            kept = [count for count in self.counts if self.now - count[0] < length]
            calls, failures = sum(count[1] for count in kept), sum(count[2] for count in kept)
            answers.add(calls >= 10 and failures >= 0.5 * calls)
        return answers

    def judge_failure(self, change: BreakerChange | None) -> None:
        silences = len(self.row) >= 2 and all(silent for _, silent in self.row[-2:])
        in_row = len(self.row) >= 5
        ratio = self.ratio_opens()
        if change is None:
            assert not silences
            assert not in_row
            assert ratio != {True}
        else:
            assert (change.before, change.after) == ("closed", "open")
            assert silences or in_row or True in ratio

    # --- rules ---------------------------------------------------------------------------------------------

    @rule(wait=moments)
    def time_passes(self, wait: float) -> None:
        self.now += wait

    @rule(early=st.booleans())
    def take(self, early: bool) -> None:
        state = self.subject.state(self.now)
        permit = self.subject.permit_early(self.now) if early else self.subject.permit(self.now)
        if state == "closed":
            assert permit is not None
            assert not permit.is_trial
        elif self.has_trial() or (state == "open" and not early):
            assert permit is None
        else:
            assert permit is not None, "nothing keeps a trial from starting"
            assert permit.is_trial
            self.stale += self.live  # a trial that got lost
            self.good = [] if self.trial is not None else self.good
            self.live, self.trial, self.trial_since = [], permit, self.now
        if permit is not None:
            self.live.append(permit)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        permit = self.live.pop(data.draw(st.integers(0, len(self.live) - 1)))
        was_closed = self.subject.is_closed
        change = self.subject.succeed(permit, self.now)
        self.is_over(permit)
        self.good.append(permit)
        if was_closed:
            assert change is None
            self.rows_before[id(permit)], self.row, self.last_good = self.row, [], permit
            self.counts.append((self.now, 1, 0))
            return
        self.trial_successes += 1
        assert self.subject.is_closed == (self.trial_successes == POLICY.successes_to_close)
        self.forget(change)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), is_silence=st.booleans())
    def fail(self, data: st.DataObject, is_silence: bool) -> None:
        request = self.another_request()
        permit = self.live.pop(data.draw(st.integers(0, len(self.live) - 1)))
        was_closed, due = self.subject.is_closed, self.subject._until
        change = self.subject.fail(permit, self.now, request, is_silence)
        self.is_over(permit)
        if was_closed:
            self.row.append((request, is_silence))
            self.counts.append((self.now, 1, 1))
            self.judge_failure(change)
        else:
            assert (change is not None) == (self.now >= due)
        self.forget(change)

    @precondition(lambda self: self.good)
    @rule(data=st.data(), is_silence=st.booleans())
    def break_off(self, data: st.DataObject, is_silence: bool) -> None:
        request = self.another_request()
        permit = self.good.pop(data.draw(st.integers(0, len(self.good) - 1)))
        was_closed, succeeded_at = self.subject.is_closed, permit.succeeded_at
        assert succeeded_at is not None
        change = self.subject.fail_late(permit, self.now, request, is_silence)
        if was_closed:
            if permit is self.last_good:
                # Silences are not in a row over an answer that had begun.
                self.row = [*((earlier, False) for earlier, _ in self.rows_before[id(permit)]), *self.row]
            self.row.append((request, is_silence))
            self.counts.append((self.now, int(self.now - succeeded_at >= 27.0), 1))
            self.judge_failure(change)
        else:
            assert change is not None
            assert change.after == "open"
        self.forget(change)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        permit = self.live.pop(data.draw(st.integers(0, len(self.live) - 1)))
        state = self.subject.state(self.now)
        assert self.subject.release(permit, self.now) is None
        assert self.subject.state(self.now) == state
        self.is_over(permit)

    @precondition(lambda self: self.stale)
    @rule(data=st.data(), how=st.sampled_from(["succeed", "fail", "release"]))
    def a_late_result_is_ignored(self, data: st.DataObject, how: str) -> None:
        permit = self.stale.pop(data.draw(st.integers(0, len(self.stale) - 1)))
        if permit is self.trial:  # but for that it is over
            self.subject._trial = None
            self.is_over(permit)
        before = all_of(self.subject)
        for _ in range(2):
            if how == "fail":
                assert self.subject.fail(permit, self.now, "x", True) is None
            elif how == "succeed":
                assert self.subject.succeed(permit, self.now) is None
            else:
                assert self.subject.release(permit, self.now) is None
            assert self.subject.fail_late(permit, self.now, "x", True) is None
        assert all_of(self.subject) == before

    # --- invariants ----------------------------------------------------------------------------------------

    @invariant()
    def reading_changes_nothing(self) -> None:
        before = all_of(self.subject)
        for now in (self.now, self.now + 1e6):
            self.subject.state(now), self.subject.due(now), self.subject.until(now)
            self.subject.has_trial(now), self.subject.recent(now), repr(self.subject)
        assert all_of(self.subject) == before

    @invariant()
    def at_most_one_trial_is_believed_in(self) -> None:
        assert sum(permit.is_trial for permit in self.live) <= 1
        assert self.subject.has_trial(self.now) == self.has_trial()

    @invariant()
    def it_is_never_out_for_long(self) -> None:
        due = self.subject.due(self.now)
        if due is not None:
            assert due <= self.now + POLICY.max_open_time * 1.1
        if self.subject.is_closed:
            assert self.subject.permit(self.now) is not None

    def teardown(self) -> None:
        """Whatever has happened: left alone for its time, two good answers bring it back."""
        self.now += POLICY.max_open_time * 1.1 + LOST_TRIAL
        for _ in range(2):
            permit = self.subject.permit(self.now)
            assert permit is not None
            self.subject.succeed(permit, self.now)
        assert self.subject.state(self.now) == "closed"


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(derandomize=True, deadline=None, max_examples=80, stateful_step_count=40)


def test_a_trial_that_breaks_off_late_makes_no_room_beside_the_next_one() -> None:
    machine = opened()
    at = machine.until(0.0) or 0.0
    first = taken(machine, at)
    machine.succeed(first, at + 1.0)
    second = taken(machine, at + 1.0)
    machine.fail_late(first, at + 2.0, "r", False)
    assert machine.state(at + 2.0) == "open"
    assert machine.permit_early(at + 2.0) is None, "the second trial is still under way"
    machine.succeed(second, at + 3.0)
    assert machine.state(at + 3.0) == "open", "it was begun before the last change"
    assert machine.permit_early(at + 3.0) is not None


def test_opened_for_all_the_trial_of_the_one_request_is_still_the_only_one() -> None:
    machine = breaker()
    for _ in range(POLICY.consecutive_failures):
        fail(machine, 0.0, "poison")
    assert machine.is_for_one
    trial = machine.permit_early(1.0, "poison")
    assert trial is not None and trial.is_trial
    other = machine.permit(1.0, "other")
    assert other is not None
    machine.fail(other, 2.0, "other", False)
    assert not machine.is_for_one
    assert machine.permit_early(3.0, "third") is None
    machine.fail(trial, 4.0, "poison", False)
    assert machine.permit_early(4.0, "third") is not None
