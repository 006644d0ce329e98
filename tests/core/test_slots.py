"""Who gets room that becomes free, and what a walk does where no target has any."""

from __future__ import annotations

from typing import Any

import pytest

from crossfade.core.budget import RetryBudget
from crossfade.core.health import HealthBoard
from crossfade.core.load import TargetLoad
from crossfade.core.policy import ConcurrencyPolicy, HedgePolicy, QueuePolicy
from crossfade.core.slots import Slots, Ticket
from crossfade.core.standing import FULL
from crossfade.core.steps import Queued
from crossfade.core.target import Rung
from tests.core.walking import Course, rung

ONE = ConcurrencyPolicy(1, 1)


def slots(most: int = 1, active: int = 0) -> tuple[Slots, TargetLoad]:
    load = TargetLoad()
    for _ in range(active):
        load.begin(0.0)
    return Slots(ConcurrencyPolicy(most, most), load), load


def ticket(*queues: Slots, told: list[str] | None = None, name: str = "") -> Ticket:
    made = Ticket(queues)
    if told is not None:
        made.tell = lambda: told.append(name)
    return made


# --- room ----------------------------------------------------------------------------------------------------


def test_room_is_kept_for_who_waited_longest_and_no_newcomer_overtakes() -> None:
    subject, load = slots(1, active=1)
    told: list[str] = []
    first = ticket(subject, told=told, name="first")
    second = ticket(subject, told=told, name="second")
    load.end(True)
    subject.offer()
    assert told == ["first"] and subject.is_full and subject.waiting == 1
    assert first.granted is subject and second.granted is None
    assert first.use() is subject and not subject.is_full
    load.begin(1.0)
    subject.offer()
    assert told == ["first"]


def test_who_leaves_gives_the_room_on_that_was_kept_for_it() -> None:
    subject, load = slots(1, active=1)
    told: list[str] = []
    tickets = [ticket(subject, told=told, name=name) for name in "abc"]
    tickets[1].leave()
    load.end(True)
    subject.offer()
    tickets[0].leave()
    assert told == ["a", "c"]
    tickets[2].leave()
    assert (subject.reserved, subject.waiting, subject.is_full) == (0, 0, False)


def test_a_ticket_of_two_queues_is_out_of_both_once_one_has_room() -> None:
    one, load = slots(1, active=1)
    other, _ = slots(1, active=1)
    waiting = ticket(one, other)
    load.end(True)
    one.offer()
    assert waiting.granted is one and other.waiting == 0
    waiting.leave()
    assert one.reserved == 0


def test_more_room_and_no_bound_at_all_are_told_at_once() -> None:
    subject, _ = slots(1, active=1)
    told: list[str] = []
    for name in "abcd":
        ticket(subject, told=told, name=name)
    subject.retune(ConcurrencyPolicy(3, 3))
    assert told == ["a", "b"]
    subject.open_up()
    assert told == ["a", "b", "c", "d"]


def test_a_reload_bounds_a_target_and_frees_it_again() -> None:
    board = HealthBoard(lambda: 0.5)
    health = board.of(rung("a/m").targets[0])
    health.load.begin(0.0)
    assert not health.is_full
    health.bound(ONE)
    assert health.is_full and health.standing(1.0) == FULL and health.take(1.0) is None
    told: list[str] = []
    assert health.slots is not None
    waiting = ticket(health.slots, told=told, name="x")
    health.bound(None)
    assert told == ["x"] and health.slots is None and not health.is_full
    waiting.leave()


# --- the walk ------------------------------------------------------------------------------------------------


def course(*chain: str | Rung, queue: QueuePolicy | None = None, **more: Any) -> Course:
    return Course(*chain, queue=queue or QueuePolicy(), **more)


def bounded(name: str) -> Rung:
    return rung(name, concurrency=ONE)


def queued(walk: Course) -> Queued:
    step = walk.step()
    assert isinstance(step, Queued), step
    return step


def test_a_full_target_is_passed_over_at_once_and_the_skip_is_on_record() -> None:
    first = course(bounded("a/m"), "b/m")
    first.send("a/m")
    second = course(bounded("a/m"), "b/m", board=first.board)
    second.send("b/m")
    assert [(one.target, one.skip) for one in second.dispatch.records] == [("a/m", "full"), ("b/m", None)]
    assert [(one.source, one.target, one.reason) for one in second.dispatch.notices] == [("a/m", "b/m", "full")]


def test_where_nothing_else_is_left_it_waits_and_calls_when_told() -> None:
    first = course(bounded("a/m"))
    first.send("a/m")
    second = course(bounded("a/m"), board=first.board)
    told: list[str] = []
    step = queued(second)
    assert step.until == second.now + 10.0
    step.ticket.tell = lambda: told.append("now")
    first.accept()
    first.delivered()
    assert told == ["now"]
    third = course(bounded("a/m"), board=first.board)
    queued(third)  # the room is not the newcomer's
    second.now += 1.0
    second.send("a/m")
    second.accept()
    second.delivered()
    third.send("a/m")
    third.accept()
    third.delivered()
    health = first.board.of(first.rungs[0].targets[0])
    assert health.slots is not None and (health.slots.reserved, health.slots.waiting, health.load.active) == (0, 0, 0)


def test_it_waits_for_so_long_and_the_error_says_so() -> None:
    first = course(bounded("a/m"))
    first.send("a/m")
    second = course(bounded("a/m"), board=first.board, queue=QueuePolicy(wait=3.0))
    second.now = queued(second).until
    end = second.given_up()
    assert (end.status, end.code) == (503, "chain_exhausted")
    assert "a/m skipped: full, and no room came in time" in end.message and end.retry_after == 1.0


def test_only_so_many_wait() -> None:
    first = course(bounded("a/m"))
    first.send("a/m")
    second = course(bounded("a/m"), board=first.board, queue=QueuePolicy(size=1))
    queued(second)
    third = course(bounded("a/m"), board=first.board, queue=QueuePolicy(size=1))
    assert "a/m skipped: full, and 1 others wait for it" in third.given_up().message
    none = course(bounded("a/m"), board=first.board, queue=QueuePolicy(size=0))
    assert "a/m skipped: full" in none.given_up().message


def test_no_wait_goes_on_so_long_that_no_time_is_left_to_call() -> None:
    first = course(bounded("a/m"))
    first.send("a/m")
    second = course(bounded("a/m"), board=first.board, overall=4.0)
    step = queued(second)
    assert second.now < step.until < second.now + 4.0


def test_who_goes_away_while_waiting_leaves_its_place() -> None:
    first = course(bounded("a/m"))
    first.send("a/m")
    second, third = (course(bounded("a/m"), board=first.board) for _ in range(2))
    queued(second)
    step = queued(third)
    told: list[str] = []
    step.ticket.tell = lambda: told.append("third")
    second.dispatch.on_cancel(second.now, {})
    first.accept()
    assert told == ["third"]
    third.dispatch.on_cancel(third.now, {})
    health = first.board.of(first.rungs[0].targets[0])
    assert health.slots is not None and health.slots.reserved == 0


def test_a_failed_call_is_followed_by_a_wait_for_the_rung_that_was_full() -> None:
    first = course(bounded("a/m"))
    first.send("a/m")
    second = course(bounded("a/m"), "b/m", board=first.board)
    second.send("b/m")
    second.fail("overloaded")
    queued(second)
    first.accept()
    second.send("a/m")


def test_a_target_that_comes_back_meanwhile_is_asked_then() -> None:
    first = course(bounded("a/m"))
    first.send("a/m")
    limited = course("b/m", board=first.board)
    limited.send("b/m")
    limited.fail("rate_limit", retry_after=2.0)
    second = course(bounded("a/m"), "b/m", board=first.board, now=limited.now)
    step = queued(second)
    assert step.until == pytest.approx(limited.now + 2.0)
    second.now = step.until
    second.send("b/m")


def test_a_route_that_does_not_fall_back_on_overload_waits_for_the_first_and_then_goes_on_as_usual() -> None:
    first = course(bounded("a/m"), "b/m")
    first.send("a/m")
    second = course(bounded("a/m"), "b/m", board=first.board, fallback_on=("timeout",))
    queued(second)
    first.accept()
    second.send("a/m")
    second.fail("timeout")
    second.send("b/m")


def test_a_hedge_is_not_sent_to_a_full_target() -> None:
    first = course(bounded("b/m"))
    first.send("b/m")
    second = course("a/m", bounded("b/m"), board=first.board, hedge=HedgePolicy(after=1.0))
    assert second.send("a/m").until == second.now + 1.0
    second.now += 1.0
    assert second.pending() is None
    second.fail("timeout")
    queued(second)


def test_the_same_target_is_not_asked_again_over_the_head_of_who_waits() -> None:
    first = course(bounded("a/m"))
    first.send("a/m")
    second = course(bounded("a/m"), board=first.board)
    queued(second)
    first.fail("connect_error")
    second.send("a/m")
    queued_or_over = first.step()
    assert not hasattr(queued_or_over, "attempt"), queued_or_over


def test_room_that_cannot_be_used_is_the_next_ones_and_is_not_waited_for_again() -> None:
    """Two that wait, and whose budget pays for no call: each is told once, and both end."""
    chain = (rung("b/m"), bounded("a/m"))
    board = HealthBoard(lambda: 0.5)
    budget = RetryBudget(0.0, 0.0)
    first = course(bounded("a/m"), board=board)
    first.send("a/m")
    others = [course(*chain, board=board, budget=budget) for _ in range(2)]
    told: list[int] = []
    for number, other in enumerate(others):
        other.send("b/m")
        other.fail("timeout", after=0.0)
        queued(other).ticket.tell = lambda number=number: told.append(number)  # type: ignore[misc]
    first.fail("timeout")
    for other in others:
        other.now = first.now
    assert told == [0]
    assert "a/m skipped: full" in others[0].given_up().message
    assert told == [0, 1]
    others[1].given_up()
    health = board.of(first.rungs[0].targets[0])
    assert health.slots is not None and (health.slots.reserved, health.slots.waiting) == (0, 0)


def test_keys_of_a_provider_have_room_each_of_its_own() -> None:
    chain = rung("a/m", credentials=2, concurrency=ONE)
    board = HealthBoard(lambda: 0.5)
    calls = [course(chain, board=board, rotation=number) for number in range(3)]
    assert {calls[0].send("a/m").target.credential, calls[1].send("a/m").target.credential} == {0, 1}
    queued(calls[2])
