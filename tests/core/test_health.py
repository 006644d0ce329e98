from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from crossfade.core.breaker import Breaker, Permit, Window
from crossfade.core.ejection import DEMOTION_TIME, SEEN_TOGETHER, RouteRecord
from crossfade.core.failure import DISPOSITIONS, Failure, FailureReason, HealthEffect
from crossfade.core.health import HealthBoard, TargetHealth
from crossfade.core.policy import BreakerPolicy, HealthPolicy
from crossfade.core.standing import AVAILABLE, TRIAL_DUE, Available, BreakerChanged, Change, Ejected, Out, Returned
from crossfade.core.target import Route, Rung, Target
from tests.compiled import fields_of

R = FailureReason
POLICY = HealthPolicy()


def health(routes_using: int = 1, policy: HealthPolicy = POLICY) -> TargetHealth:
    return TargetHealth("openai/gpt#0", policy, lambda: 0.5, routes_using=routes_using)


def failure(reason: FailureReason, **fields: Any) -> Failure:
    return Failure(reason=reason, origin=DISPOSITIONS[reason].origin, **fields)


def call(
    subject: TargetHealth,
    now: float,
    why: Failure | FailureReason | None = None,
    route: str = "chat",
    request: str = "r",
) -> tuple[Change, ...]:
    """One whole call."""
    permit = subject.take(now)
    assert permit is not None
    why = failure(why) if isinstance(why, FailureReason) else why
    return subject.settle(permit, why, now, request=request, route=route)


def target(provider: str = "openai", model: str = "gpt", credential: int = 0) -> Target:
    name = f"{provider}/{model}"
    return Target(key=f"{name}#{credential}", name=name, provider=provider, model=model, credential=credential)


def route(name: str, *targets: Target) -> Route:
    return Route(name=name, chain=tuple(Rung((one,)) for one in targets))


def all_of(subject: TargetHealth) -> list[Any]:
    """Everything that it holds, copied."""
    breaker = subject.breaker
    parts: list[Any] = [getattr(breaker, name) for name in fields_of(Breaker) if name != "_window"]
    parts += [getattr(breaker._window, name) for name in fields_of(Window)]
    parts += [
        dict(subject._ejections),
        *map(dict, (subject.limits, subject.credential, subject.account)),
        subject.in_flight,
    ]
    for name, record in subject._routes.items():
        parts += [name, [getattr(record, slot) for slot in fields_of(RouteRecord)]]
    return parts


# --- every row of the table ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", list(FailureReason))
def test_every_reason_does_to_health_what_its_row_says(reason: FailureReason) -> None:
    subject = health()
    changes = call(subject, 100.0, reason)
    effect = DISPOSITIONS[reason].health
    is_heard = effect in (HealthEffect.FAILURE, HealthEffect.ROUTE_AND_BREAKER)
    assert subject.consecutive_failures == (1 if is_heard else 0)
    ejections = {
        HealthEffect.EJECT: 110.0,
        HealthEffect.EJECT_LONG: 1000.0,
        HealthEffect.EJECT_CREDENTIAL: 1000.0,
    }
    if effect in ejections:
        assert subject.standing(100.0) == Out(reason, ejections[effect])
        assert isinstance(changes[0], Ejected)
        assert subject.take(100.0) is None
        assert subject.take_early(100.0) is None, "an ejection is never tried early"
    else:
        assert changes == ()
        assert subject.standing(100.0) is AVAILABLE
    assert subject.in_flight == 0


@pytest.mark.parametrize("reason", list(FailureReason))
def test_what_a_caller_s_own_limit_cut_short_says_nothing(reason: FailureReason) -> None:
    subject = health()
    assert call(subject, 0.0, failure(reason, is_caller_limit=True)) == ()
    assert subject.standing(0.0) is AVAILABLE
    assert not subject.is_failing
    assert subject.breaker.recent(0.0) == (0, 0)


def test_only_a_timeout_is_silence() -> None:
    subject = health()
    call(subject, 0.0, R.STREAM_STALLED, request="a")
    assert call(subject, 0.0, R.STREAM_STALLED, request="b") == ()
    call(subject, 0.0, R.TIMEOUT, request="c")
    assert call(subject, 0.0, R.TIMEOUT, request="d") == (BreakerChanged(subject.key, "closed", "open", 15.0),)
    assert subject.breaker.opened_by_silence


# --- ejections -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "ejected"),
    [(0.0, 1.0), (1.0, 1.0), (30.0, 30.0), (1e9, 900.0), (-5.0, 1.0), (None, 10.0), (math.nan, 10.0)],
)
def test_a_rate_limit_ejects_for_what_was_said_within_bounds(said: float | None, ejected: float) -> None:
    subject = health()
    call(subject, 100.0, failure(R.RATE_LIMIT, retry_after=said))
    assert subject.standing(100.0) == Out(R.RATE_LIMIT, 100.0 + ejected)
    assert subject.out_until(100.0) == 100.0 + ejected
    assert subject.standing(100.0 + ejected) is AVAILABLE
    assert subject.out_until(100.0 + ejected) is None
    assert subject.take(100.0 + ejected) is not None


def test_an_ejection_is_told_once_and_its_end_with_the_first_good_answer() -> None:
    subject = health()
    permits = [subject.take(0.0) for _ in range(3)]
    limited = failure(R.RATE_LIMIT, retry_after=20.0)
    told = [subject.settle(permit, limited, 0.0, request="r", route="chat") for permit in permits]
    assert told == [(Ejected(subject.key, R.RATE_LIMIT, 20.0, "target"),), (), ()]
    assert call(subject, 20.0, R.SERVER_ERROR) == ()
    assert call(subject, 21.0) == (Returned(subject.key, R.RATE_LIMIT, "target"),)
    assert call(subject, 22.0) == ()


def test_an_ejection_after_one_that_had_run_out_is_told_again() -> None:
    subject = health()
    call(subject, 0.0, R.RATE_LIMIT)
    assert call(subject, 15.0, R.RATE_LIMIT) == (Ejected(subject.key, R.RATE_LIMIT, 25.0, "target"),)


def test_a_good_answer_while_the_limit_still_holds_ends_nothing() -> None:
    subject = health()
    slow = subject.take(0.0)
    call(subject, 0.0, failure(R.RATE_LIMIT, retry_after=20.0))
    assert subject.settle(slow, None, 5.0, request="r", route="chat") == ()
    assert subject.standing(5.0) == Out(R.RATE_LIMIT, 20.0)


def test_the_longest_wait_counts_and_a_short_reason_does_not_hide_a_long_one() -> None:
    subject = health()
    permits = [subject.take(0.0) for _ in range(3)]
    for permit, said in zip(permits, (60.0, 5.0, 30.0), strict=True):
        subject.settle(permit, failure(R.RATE_LIMIT, retry_after=said), 0.0, request="r", route="chat")
    assert subject.standing(0.0) == Out(R.RATE_LIMIT, 60.0)
    subject.eject(R.MODEL_UNAVAILABLE, 900.0, 0.0)
    assert subject.standing(0.0) == Out(R.MODEL_UNAVAILABLE, 900.0)
    assert subject.view(0.0).ejections == ((R.RATE_LIMIT, 60.0), (R.MODEL_UNAVAILABLE, 900.0))


@pytest.mark.parametrize(("model_until", "named"), [(100.0, R.QUOTA_EXHAUSTED), (2000.0, R.MODEL_UNAVAILABLE)])
def test_of_its_own_and_its_credential_s_reasons_the_longest_is_named(model_until: float, named: FailureReason) -> None:
    subject = health()
    subject.eject(R.MODEL_UNAVAILABLE, model_until, 0.0)
    subject.eject(R.QUOTA_EXHAUSTED, 900.0, 0.0)
    assert subject.standing(0.0) == Out(named, max(model_until, 900.0))


def test_a_spent_quota_is_not_believed_when_it_speaks_of_seconds() -> None:
    subject = health()
    call(subject, 0.0, failure(R.QUOTA_EXHAUSTED, retry_after=48.0))
    assert subject.standing(0.0) == Out(R.QUOTA_EXHAUSTED, 900.0)


def test_a_credential_that_the_caller_brought_is_not_ejected_when_it_is_refused() -> None:
    subject = health()
    permit = subject.take(0.0)
    refused = failure(R.AUTH_ERROR, status=401)
    assert subject.settle(permit, refused, 0.0, request="r", route="chat", passed_through=True) == ()
    assert subject.standing(0.0) is AVAILABLE
    assert subject.in_flight == 0


def test_an_ejection_is_named_before_the_breaker() -> None:
    subject = health()
    for n in range(5):
        call(subject, 0.0, R.SERVER_ERROR, request=str(n))
    subject.eject(R.RATE_LIMIT, 5.0, 0.0)
    assert subject.standing(0.0) == Out(R.RATE_LIMIT, 5.0)
    assert subject.standing(5.0) == Out("breaker_open", 15.0)


# --- breaker -------------------------------------------------------------------------------------------------


def test_standing_says_what_the_breaker_allows() -> None:
    subject = health()
    for n in range(5):
        call(subject, 0.0, R.SERVER_ERROR, request=str(n))
    assert subject.standing(1.0) == Out("breaker_open", 15.0)
    early = subject.take_early(1.0)
    assert early is not None
    assert subject.standing(1.0) == Out("trial_in_flight", 15.0)
    subject.settle_unused(early, 1.0)
    assert subject.standing(15.0) is TRIAL_DUE
    trial = subject.take(15.0)
    assert trial is not None
    assert trial.is_trial
    assert subject.standing(15.0) == Out("trial_in_flight", None)
    assert subject.take(15.0) is None
    assert subject.settle(trial, None, 16.0, request="r", route="chat") == ()
    assert call(subject, 16.0) == (BreakerChanged(subject.key, "half_open", "closed"),)
    assert subject.standing(16.0) is AVAILABLE


@pytest.mark.parametrize(
    "reason", [reason for reason in R if DISPOSITIONS[reason].health not in (HealthEffect.FAILURE, HealthEffect.ROUTE)]
)
def test_what_is_no_failure_of_the_target_leaves_a_trial_undecided(reason: FailureReason) -> None:
    subject = health(routes_using=2)
    for n in range(5):
        call(subject, 0.0, R.SERVER_ERROR, request=str(n))
    call(subject, 15.0, reason)
    assert subject.breaker.state(15.0) == "half_open"
    assert not subject.breaker.has_trial(15.0), "the trial was given back"


def test_an_answer_that_does_not_suit_one_route_is_still_a_successful_trial() -> None:
    subject = health()
    for n in range(5):
        call(subject, 0.0, R.SERVER_ERROR, request=str(n))
    call(subject, 15.0, R.INVALID_JSON)
    assert call(subject, 16.0, R.INVALID_TOOL_CALL) == (BreakerChanged(subject.key, "half_open", "closed"),)


def test_a_second_settlement_changes_nothing() -> None:
    subject = health()
    permit = subject.take(0.0)
    subject.settle(permit, failure(R.SERVER_ERROR), 0.0, request="r", route="chat")
    before = all_of(subject)
    for why in (None, failure(R.SERVER_ERROR), failure(R.RATE_LIMIT), failure(R.AUTH_ERROR)):
        assert subject.settle(permit, why, 0.0, request="r", route="chat") == ()
    assert permit is not None
    subject.settle_unused(permit, 0.0)
    assert all_of(subject) == before


def test_a_failure_after_the_first_content_takes_the_success_back_once() -> None:
    subject = health()
    for n in range(5):
        permit = subject.take(0.0)
        assert subject.settle(permit, None, 0.0, request=str(n), route="chat") == ()
        changes = subject.settle(permit, failure(R.STREAM_INTERRUPTED), 1.0, request=str(n), route="chat")
        assert subject.settle(permit, failure(R.STREAM_INTERRUPTED), 1.0, request=str(n), route="chat") == ()
    assert changes == (BreakerChanged(subject.key, "closed", "open", 16.0),)
    assert subject.in_flight == 0


def test_a_trial_whose_stream_breaks_off_opens_the_breaker_again() -> None:
    subject = health()
    for n in range(5):
        call(subject, 0.0, R.SERVER_ERROR, request=str(n))
    trial = subject.take(15.0)
    subject.settle(trial, None, 15.0, request="r", route="chat")
    changes = subject.settle(trial, failure(R.STREAM_INTERRUPTED), 16.0, request="r", route="chat")
    assert changes == (BreakerChanged(subject.key, "half_open", "open", 46.0),)


def test_a_failure_without_a_permit_counts_only_while_the_breaker_is_closed() -> None:
    subject = health()
    broken = failure(R.STREAM_INTERRUPTED)
    for n in range(4):
        assert subject.settle(None, broken, 0.0, request=str(n), route="chat") == ()
    assert subject.settle(None, broken, 0.0, request="5", route="chat") != ()
    before = all_of(subject)
    assert subject.settle(None, broken, 20.0, request="6", route="chat") == ()
    assert subject.settle(None, None, 20.0, request="6", route="chat") == ()
    assert all_of(subject) == before


def test_an_unused_permit_leaves_nothing_behind() -> None:
    subject = health()
    permit = subject.take(0.0)
    assert permit is not None
    assert subject.in_flight == 1
    subject.settle_unused(permit, 0.0)
    assert subject.in_flight == 0
    assert subject.breaker.recent(0.0) == (0, 0)


def test_it_is_failing_until_something_good_is_heard() -> None:
    subject = health()
    assert not subject.is_failing
    call(subject, 0.0, R.SERVER_ERROR)
    assert subject.is_failing
    call(subject, 0.0)
    assert not subject.is_failing
    call(subject, 0.0, R.RATE_LIMIT)
    assert subject.is_failing
    call(subject, 10.0)
    assert not subject.is_failing


# --- per route -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [R.EMPTY_OUTPUT, R.INVALID_JSON, R.INVALID_TOOL_CALL, R.REJECTED_OUTPUT])
def test_three_soft_failures_order_a_target_later_on_that_route_for_a_while(reason: FailureReason) -> None:
    subject = health(routes_using=2)
    ranks = []
    for now in (0.0, 5.0, 10.0):
        call(subject, now, reason, route="strict")
        ranks.append(subject.soft_rank("strict", now))
    assert ranks == [0, 0, 1]
    assert subject.soft_rank("other", 10.0) == 0
    assert subject.view(10.0).demoted_on == (("strict", 10.0 + DEMOTION_TIME),)
    assert subject.soft_rank("strict", 9.9 + DEMOTION_TIME) == 1
    assert subject.soft_rank("strict", 10.0 + DEMOTION_TIME) == 0
    assert subject.standing(10.0) is AVAILABLE
    assert subject.breaker.recent(10.0)[1] == 0


def test_a_few_soft_failures_among_many_good_answers_order_nothing() -> None:
    subject = health()
    for n in range(500):
        call(subject, n * 0.01, R.INVALID_JSON if n % 10 == 0 else None)
        assert subject.soft_rank("chat", n * 0.01) == 0


def test_rare_soft_failures_order_nothing() -> None:
    subject = health()
    for n in range(20):
        call(subject, n * 120.0, R.INVALID_JSON)
        assert subject.soft_rank("chat", n * 120.0) == 0


def test_an_answer_that_turned_out_unfit_is_no_longer_a_good_one() -> None:
    subject = health()
    call(subject, 0.0, R.INVALID_JSON)
    call(subject, 0.0)
    call(subject, 0.0)
    for _ in range(2):
        permit = subject.take(0.0)
        subject.settle(permit, None, 0.0, request="r", route="chat")
        subject.settle(permit, failure(R.INVALID_JSON), 0.0, request="r", route="chat")
    assert subject.soft_rank("chat", 0.0) == 1, "three of five"


def test_good_answers_of_long_ago_outweigh_nothing() -> None:
    subject = health()
    call(subject, 0.0, R.INVALID_JSON)
    for _ in range(100):
        call(subject, 0.0)
    for _ in range(3):
        call(subject, 600.0, R.INVALID_JSON)
    assert subject.soft_rank("chat", 600.0) == 1


def test_good_answers_end_a_demotion() -> None:
    subject = health()
    for _ in range(3):
        call(subject, 0.0, R.INVALID_JSON)
    for _ in range(2):
        call(subject, 1.0)
    assert subject.soft_rank("chat", 1.0) == 1
    call(subject, 1.0)
    assert subject.soft_rank("chat", 1.0) == 0


def test_an_empty_answer_on_one_route_of_two_is_not_for_the_breaker() -> None:
    subject = health(routes_using=2)
    for n in range(20):
        call(subject, 0.0, R.EMPTY_OUTPUT, route="a", request=str(n))
    assert subject.breaker.recent(0.0)[1] == 0
    assert subject.breaker.state(0.0) == "closed"


def test_empty_answers_on_two_routes_open_the_breaker() -> None:
    subject = health(routes_using=2)
    changes = [call(subject, 0.0, R.EMPTY_OUTPUT, route="ab"[n % 2], request=str(n)) for n in range(6)]
    assert [bool(change) for change in changes] == [False] * 5 + [True], "the first was seen by one route only"


@pytest.mark.parametrize("routes_using", [0, 1])
def test_empty_answers_on_a_target_s_only_route_open_the_breaker(routes_using: int) -> None:
    subject = health(routes_using)
    changes = [call(subject, 0.0, R.EMPTY_OUTPUT, request=str(n)) for n in range(5)]
    assert [bool(change) for change in changes] == [False] * 4 + [True]


@pytest.mark.parametrize("how", ["long ago", "a good answer since"])
def test_a_route_that_no_longer_sees_it_does_not_count(how: str) -> None:
    subject = health(routes_using=2)
    call(subject, 0.0, R.EMPTY_OUTPUT, route="a")
    if how == "a good answer since":
        call(subject, 1.0, route="a")
    now = SEEN_TOGETHER if how == "long ago" else 2.0
    call(subject, now, R.EMPTY_OUTPUT, route="b")
    assert subject.breaker.recent(now)[1] == 0


def test_bad_json_on_any_number_of_routes_is_never_for_the_breaker() -> None:
    subject = health(routes_using=3)
    for n in range(30):
        call(subject, 0.0, R.INVALID_JSON, route="abc"[n % 3], request=str(n))
    assert subject.breaker.recent(0.0)[1] == 0


def test_the_routes_remembered_are_bounded() -> None:
    subject = health()
    for n in range(500):
        call(subject, float(n), R.INVALID_JSON, route=f"route {n}")
    assert len(subject._routes) <= 64
    assert "route 499" in subject._routes
    assert "route 0" not in subject._routes, "the one heard of longest ago makes room"


def test_a_route_that_has_been_well_for_long_is_forgotten() -> None:
    subject = health()
    call(subject, 0.0, R.INVALID_JSON)
    call(subject, 100.0)
    assert subject._routes
    call(subject, 300.0)
    assert not subject._routes
    assert subject.is_at_rest


# --- the board -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [R.AUTH_ERROR, R.QUOTA_EXHAUSTED])
def test_what_lies_with_the_credential_ejects_all_its_targets(reason: FailureReason) -> None:
    board = HealthBoard(lambda: 0.5)
    big, small = board.of(target(model="big")), board.of(target(model="small"))
    other_key, other_provider = board.of(target(model="big", credential=1)), board.of(target("anthropic"))
    told = call(big, 0.0, reason)
    assert told == (Ejected(big.key, reason, 900.0, "credential"),)
    late = board.of(target(model="made later"))
    assert [one.standing(0.0) for one in (big, small, late)] == [Out(reason, 900.0)] * 3
    assert other_key.standing(0.0) is AVAILABLE
    assert other_provider.standing(0.0) is AVAILABLE
    assert call(small, 900.0) == (Returned(small.key, reason, "credential"),)
    assert call(big, 900.0) == ()


@pytest.mark.parametrize("reason", [R.RATE_LIMIT, R.MODEL_UNAVAILABLE])
def test_what_lies_with_the_target_ejects_it_alone(reason: FailureReason) -> None:
    board = HealthBoard(lambda: 0.5)
    big, small = board.of(target(model="big")), board.of(target(model="small"))
    call(big, 0.0, reason)
    assert isinstance(big.standing(0.0), Out)
    assert small.standing(0.0) is AVAILABLE


def test_the_board_keeps_what_it_made() -> None:
    board = HealthBoard(lambda: 0.5)
    one = target()
    assert board.targets.get(one.key) is None
    assert board.of(one) is board.of(one) is board.targets[one.key]
    assert list(board.targets) == [one.key]
    assert len(board.targets) == 1


def test_state_outlives_a_new_configuration_and_options_do_not() -> None:
    board = HealthBoard(lambda: 0.5)
    one, two = target(model="one"), target(model="two")
    board.configure([route("chat", one, two)])
    for n in range(4):
        call(board.of(one), 0.0, R.SERVER_ERROR, request=str(n))
    call(board.of(two), 0.0, failure(R.RATE_LIMIT, retry_after=60.0))
    strict = HealthPolicy(breaker=BreakerPolicy(consecutive_failures=6), default_rate_limit=33.0)
    board.configure([route("chat", one), route("other", one)], policy_of=lambda _: strict)
    assert board.of(one).consecutive_failures == 4
    assert board.of(one).routes_using == 2
    assert call(board.of(one), 0.0, R.SERVER_ERROR, request="5") == ()
    assert call(board.of(one), 0.0, R.SERVER_ERROR, request="6") != ()
    assert board.of(two).standing(0.0) == Out(R.RATE_LIMIT, 60.0)
    call(board.of(two), 60.0, R.RATE_LIMIT)
    assert board.of(two).standing(60.0) == Out(R.RATE_LIMIT, 70.0), "no route has it, so the general options hold"


def test_targets_made_on_demand_are_bounded_and_those_of_routes_stay() -> None:
    board = HealthBoard(lambda: 0.5, most=20)
    kept = target(model="configured")
    board.configure([route("chat", kept)])
    busy = board.of(target(model="busy"))
    busy.take(0.0)
    for n in range(500):
        board.of(target(model=f"guess-{n}"))
    assert len(board.targets) <= 22
    assert kept.key in board.targets
    assert busy.key in board.targets, "what is not at rest is not forgotten while others are"
    for n in range(500):
        call(board.of(target(model=f"wrong-{n}")), 0.0, R.MODEL_UNAVAILABLE)
    assert len(board.targets) <= 22
    assert kept.key in board.targets


def test_a_changed_key_or_address_starts_with_a_clean_sheet() -> None:
    board = HealthBoard(lambda: 0.5)
    mine, second, other = board.of(target()), board.of(target(credential=1)), board.of(target("anthropic"))
    under_way = mine.take(0.0)
    for one in (mine, second, other):
        call(one, 0.0, R.AUTH_ERROR)
    board.forget("openai", 0)
    assert [isinstance(one.standing(0.0), Available) for one in (mine, second, other)] == [True, False, False]
    board.forget("openai")
    assert [isinstance(one.standing(0.0), Available) for one in (mine, second, other)] == [True, True, False]
    assert mine.settle(under_way, failure(R.SERVER_ERROR), 0.0, request="r", route="chat") == ()
    assert mine.consecutive_failures == 0, "that call was made to what is gone"
    assert mine.in_flight == 0


def test_the_snapshot_shows_everything_and_stays_as_it_was() -> None:
    board = HealthBoard(lambda: 0.5)
    subject = board.of(target())
    call(subject, 0.0)
    for n in range(5):
        call(subject, 0.0, R.SERVER_ERROR, request=str(n))
    before = all_of(subject)
    shown = board.snapshot(1.0)
    assert all_of(subject) == before
    view = shown[subject.key]
    assert (view.standing, view.breaker, view.breaker_until) == (Out("breaker_open", 15.0), "open", 15.0)
    assert (view.calls, view.failures, view.consecutive_failures, view.in_flight) == (6, 5, 5, 0)
    call(subject, 20.0)
    assert shown[subject.key] is view
    assert view.breaker == "open"


def test_the_rank_of_an_unknown_target_is_zero_and_makes_none() -> None:
    board = HealthBoard(lambda: 0.5)
    assert board.soft_rank("chat", target(), 0.0) == 0
    assert len(board.targets) == 0
    for _ in range(3):
        call(board.of(target()), 0.0, R.INVALID_JSON)
    assert board.soft_rank("chat", target(), 0.0) == 1


# --- any sequence --------------------------------------------------------------------------------------------

reasons = st.one_of(st.none(), st.sampled_from(list(FailureReason)))
waits = st.sampled_from([None, 0.0, 1.0, 30.0, 1e9, -5.0, math.nan, math.inf, -math.inf])


class AnySequence(RuleBasedStateMachine):
    """Whatever comes of calls, a target is never out for longer than the policy says, and reading shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.subject = health(routes_using=2)
        self.permits: list[Permit] = []
        self.settled: list[Permit] = []

    @rule(wait=st.one_of(st.floats(0.0, 5.0), st.floats(0.0, 1000.0)))
    def time_passes(self, wait: float) -> None:
        self.now += wait

    @rule(early=st.booleans())
    def take(self, early: bool) -> None:
        standing = self.subject.standing(self.now)
        permit = self.subject.take_early(self.now) if early else self.subject.take(self.now)
        if permit is None:
            assert isinstance(standing, Out)
            assert not early or standing.is_ejection or standing.reason == "trial_in_flight"
        else:
            is_resting = isinstance(standing, Out) and standing.reason == "breaker_open"
            assert standing == Available(permit.is_trial) or (early and is_resting)
            self.permits.append(permit)

    @precondition(lambda self: self.permits)
    @rule(data=st.data(), reason=reasons, said=waits, place=st.sampled_from("ab"), request=st.sampled_from("xyz"))
    def settle(
        self, data: st.DataObject, reason: FailureReason | None, said: float | None, place: str, request: str
    ) -> None:
        permit = self.permits.pop(data.draw(st.integers(0, len(self.permits) - 1)))
        why = None if reason is None else failure(reason, retry_after=said)
        self.subject.settle(permit, why, self.now, request=request, route=place)
        assert permit.settled
        self.settled.append(permit)

    @precondition(lambda self: self.settled)
    @rule(data=st.data(), reason=reasons, place=st.sampled_from("ab"))
    def settle_again(self, data: st.DataObject, reason: FailureReason | None, place: str) -> None:
        permit = data.draw(st.sampled_from(self.settled))
        can_be_taken_back = permit.succeeded_at is not None and reason is not None
        before = all_of(self.subject)
        self.subject.settle(permit, None if reason is None else failure(reason), self.now, request="late", route=place)
        if not can_be_taken_back:
            assert all_of(self.subject) == before
        assert permit.succeeded_at is None or reason is None

    @precondition(lambda self: self.permits)
    @rule()
    def give_back_unused(self) -> None:
        self.subject.settle_unused(self.permits.pop(), self.now)

    @invariant()
    def what_is_in_flight_is_counted(self) -> None:
        assert self.subject.in_flight == len(self.permits)

    @invariant()
    def reading_changes_nothing_and_no_time_is_out_of_bounds(self) -> None:
        before = all_of(self.subject)
        for now in (self.now, self.now + 1e6):
            standing = self.subject.standing(now)
            self.subject.view(now), self.subject.out_until(now), self.subject.soft_rank("a", now), repr(self.subject)
            if isinstance(standing, Out) and standing.until is not None:
                assert now < standing.until <= now + 900.0
        assert all_of(self.subject) == before
        assert isinstance(self.subject.standing(self.now + 1e6), Available)


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(derandomize=True, deadline=None, max_examples=60, stateful_step_count=40)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.booleans()), max_size=60))
def test_a_demotion_needs_three_soft_failures_and_ends_by_itself(script: list[tuple[float, bool]]) -> None:
    subject = health()
    now, soft = 0.0, 0
    for wait, is_soft in script:
        now += wait
        soft += is_soft
        call(subject, now, R.INVALID_JSON if is_soft else None)
        assert soft >= 3 or subject.soft_rank("chat", now) == 0
    assert subject.soft_rank("chat", now + DEMOTION_TIME) == 0
