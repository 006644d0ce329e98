"""An outage of a whole provider is found out once, not by each of its targets."""

from __future__ import annotations

import pytest

from crossfade.core.health import HealthBoard
from crossfade.core.siblings import TOGETHER
from crossfade.core.target import Target
from tests.core.walking import START, failure, new_board, target

SMALL, LARGE, OTHER = target("a/small"), target("a/large"), target("a/other")
SECOND_KEY, ELSEWHERE = target("a/small", credential=1), target("b/small")
ALL = (SMALL, LARGE, OTHER, SECOND_KEY, ELSEWHERE)


@pytest.fixture
def board() -> HealthBoard:
    made = new_board()
    for one in ALL:
        made.of(one)
    return made


def fail(board: HealthBoard, one: Target, times: int, reason: str = "server_error", at: float = START) -> None:
    for number in range(times):
        health = board.of(one)
        health.settle(health.take(at), failure(reason), at, f"{one.key}-{number}", "chat")


def is_open(board: HealthBoard, one: Target) -> bool:
    return not board.of(one).breaker.is_closed


def test_two_models_in_trouble_make_the_third_suspect(board: HealthBoard) -> None:
    fail(board, SMALL, 5)
    fail(board, LARGE, 5)
    assert [is_open(board, one) for one in ALL] == [True, True, False, False, False]
    fail(board, OTHER, 1)
    assert is_open(board, OTHER)


def test_one_model_alone_may_have_its_own_trouble(board: HealthBoard) -> None:
    fail(board, SMALL, 5)
    fail(board, LARGE, 4)
    assert not is_open(board, LARGE)


def test_the_same_model_with_another_key_is_no_second_model(board: HealthBoard) -> None:
    fail(board, SMALL, 5)
    fail(board, SECOND_KEY, 5)
    fail(board, OTHER, 1)
    assert not is_open(board, OTHER)


def test_where_no_connection_can_be_made_one_is_enough(board: HealthBoard) -> None:
    fail(board, SMALL, 5, "connect_error")
    fail(board, OTHER, 1)
    assert is_open(board, OTHER)


def test_suspicion_takes_nobody_out_and_a_success_clears_it(board: HealthBoard) -> None:
    fail(board, SMALL, 5, "connect_error")
    health = board.of(OTHER)
    permit = health.take(START)
    assert permit is not None
    assert not permit.is_trial
    health.settle(permit, None, START, "r", "chat")
    fail(board, OTHER, 4)
    assert not is_open(board, OTHER)


def test_another_provider_is_not_concerned(board: HealthBoard) -> None:
    fail(board, SMALL, 5, "connect_error")
    fail(board, ELSEWHERE, 4)
    assert not is_open(board, ELSEWHERE)


def test_troubles_far_apart_are_two(board: HealthBoard) -> None:
    fail(board, SMALL, 5)
    fail(board, LARGE, 5, at=START + TOGETHER + 1)
    fail(board, OTHER, 1, at=START + TOGETHER + 2)
    assert not is_open(board, OTHER)


def test_a_silence_is_enough_for_one_that_is_suspected(board: HealthBoard) -> None:
    fail(board, SMALL, 5, "connect_error")
    fail(board, OTHER, 1, "timeout")
    assert is_open(board, OTHER)
