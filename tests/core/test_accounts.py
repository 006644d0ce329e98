"""Several keys of a provider: those of one declared account share its limits, all others are accounts of their own."""

from __future__ import annotations

import pytest

from crossfade.core.failure import FailureReason as R
from crossfade.core.headroom import Limit
from crossfade.core.health import HealthBoard, TargetHealth
from crossfade.core.standing import AVAILABLE, Change, Ejected, Out, Returned
from crossfade.core.target import Route, Rung, Target
from tests.core.walking import START, Course, failure, new_board

ACCOUNTS = ("team", "team", "", "other")


def target(model: str, credential: int, account: str = "") -> Target:
    name = f"a/{model}"
    return Target(
        key=f"{name}#{credential}", name=name, provider="a", model=model, credential=credential, account=account
    )


def rung(model: str = "m", accounts: tuple[str, ...] = ACCOUNTS) -> Rung:
    return Rung(tuple(target(model, number, account) for number, account in enumerate(accounts)))


def all_of(board: HealthBoard, *models: str) -> list[TargetHealth]:
    return [board.of(one) for model in models for one in rung(model).targets]


def call(subject: TargetHealth, reason: R | None, now: float = START) -> tuple[Change, ...]:
    permit = subject.take(now)
    assert permit is not None
    why = None if reason is None else failure(reason, retry_after=30.0)
    return subject.settle(permit, why, now, request="r", route="chat")


@pytest.mark.parametrize(
    ("reason", "scope", "models", "keys"),
    [
        (R.RATE_LIMIT, "account", "m", (0, 1)),
        (R.QUOTA_EXHAUSTED, "account", "mn", (0, 1)),
        (R.AUTH_ERROR, "credential", "mn", (0,)),
        (R.MODEL_UNAVAILABLE, "target", "m", (0,)),
    ],
)
def test_what_becomes_of_one_key_of_an_account(reason: R, scope: str, models: str, keys: tuple[int, ...]) -> None:
    board = new_board()
    subject = board.of(rung().targets[0])
    (told,) = call(subject, reason)
    assert isinstance(told, Ejected)
    assert told.scope == scope
    out = {health.key for health in all_of(board, "m", "n") if isinstance(health.standing(START), Out)}
    assert out == {f"a/{model}#{key}" for model in models for key in keys}


@pytest.mark.parametrize("reason", [R.RATE_LIMIT, R.QUOTA_EXHAUSTED])
def test_a_key_without_an_account_is_one_of_its_own(reason: R) -> None:
    board = new_board()
    call(board.of(rung().targets[2]), reason)
    out = [health.key for health in all_of(board, "m") if isinstance(health.standing(START), Out)]
    assert out == ["a/m#2"]


def test_the_first_good_answer_of_any_of_its_keys_ends_the_ejection_of_an_account() -> None:
    board = new_board()
    first, second, *_ = all_of(board, "m")
    call(first, R.RATE_LIMIT)
    assert call(second, None, START + 30) == (Returned("a/m#1", R.RATE_LIMIT, "account"),)
    assert call(first, None, START + 30) == ()


def test_what_is_left_to_one_key_is_left_to_all_of_its_account() -> None:
    board = new_board()
    first, second, third, fourth = all_of(board, "m")
    second.headroom.spend(10)
    first.note_limits([Limit("requests", "requests", 10, 1, START + 60)], 1, 10, START)
    assert second.headroom.missing(1, START) is None
    second.headroom.spend(10)
    assert [one.headroom.missing(1, START) is None for one in (first, second, third, fourth)] == [0, 0, 1, 1]
    assert board.of(target("n", 0, "team")).headroom.missing(1, START) is None, "limits are each model's own"
    assert [board.snapshot(START)[f"a/m#{number}"].headroom for number in range(4)] == [0.0, 0.0, 1.0, 1.0]


def test_after_a_429_the_next_key_is_one_of_another_account() -> None:
    course = Course(rung(accounts=("team", "team", "other")))
    assert course.send().target.credential == 0
    course.fail("rate_limit", retry_after=30.0)
    assert course.send().target.credential == 2


def test_after_a_refusal_the_next_key_may_be_of_the_same_account() -> None:
    course = Course(rung(accounts=("team", "team", "other")))
    assert course.send().target.credential == 0
    course.fail("auth_error")
    assert course.send().target.credential == 1


def test_where_all_keys_are_of_one_account_its_429_is_waited_out_once() -> None:
    course = Course(rung(accounts=("team", "team")))
    course.send()
    course.fail("rate_limit", retry_after=5.0)
    assert course.wait() == 5.0
    course.send()


def test_a_reload_that_declares_an_account_joins_its_keys() -> None:
    board = new_board()
    apart, joined = rung(accounts=("", "")), rung(accounts=("team", "team"))
    board.configure([Route(name="chat", chain=(apart,))])
    under_way = Course(apart, board=board)
    sent = under_way.send()
    board.configure([Route(name="chat", chain=(joined,))])
    first, second = (board.of(one) for one in joined.targets)
    under_way.dispatch.on_limits(sent.attempt, [Limit("requests", "requests", 10, 1, START + 60)], START)
    assert second.headroom.missing(1, START) is None, "calls that were made before are not counted twice"
    call(first, R.RATE_LIMIT)
    assert isinstance(second.standing(START), Out)
    board.configure([Route(name="chat", chain=(apart,))])
    assert [board.of(one).standing(START) for one in apart.targets] == [AVAILABLE, AVAILABLE]


def test_nothing_is_kept_of_accounts_of_targets_that_are_forgotten() -> None:
    board = HealthBoard(lambda: 0.5, most=20)
    for number in range(200):
        call(board.of(target(f"guess-{number}", 0, "team")), R.RATE_LIMIT)
    assert len(board._limits) <= len(board.targets) + 1
