"""How many calls at once a target turns out to take: by a model of a server with so many places, under a clock of its
own; and each thing that moves the limit."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

import pytest

from crossfade.core.concurrency import CUT, FIRST, LEAP, ROUND, ConcurrencyLimit
from crossfade.core.failure import Failure, FailureReason
from crossfade.core.health import HealthBoard
from crossfade.core.load import TargetLoad
from crossfade.core.policy import ConcurrencyPolicy
from crossfade.core.slots import Slots
from tests.core.walking import rung

AUTO = ConcurrencyPolicy()
OVERLOADED = Failure(reason=FailureReason.OVERLOADED, status=503)


def limit(least: int = 1, most: int = 1000) -> ConcurrencyLimit:
    return ConcurrencyLimit(ConcurrencyPolicy(most, least))


def answer(subject: ConcurrencyLimit, seconds: float, crowd: int, now: float, times: int = 1) -> None:
    for _ in range(times):
        subject.note_content(seconds, crowd, now)


# --- each thing that moves it --------------------------------------------------------------------------------


def test_it_begins_within_its_bounds() -> None:
    assert limit().value == FIRST
    assert limit(most=3).value == 3
    assert limit(least=20).value == 20


def test_a_crowd_that_takes_no_longer_lets_it_grow_by_leaps_and_then_by_steps() -> None:
    subject = limit()
    answer(subject, 1.0, 1, 10.0)
    answer(subject, 1.0, 8, 11.0, ROUND)
    assert subject.value == FIRST * LEAP
    subject.note_failure(OVERLOADED, 0.5, 12.0)
    before = subject.value
    answer(subject, 1.0, int(before), 14.0, ROUND)
    assert subject.value == before + 1


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    subject = limit()
    answer(subject, 1.0, 1, 10.0, 100)
    answer(subject, 1.0, 7, 10.0, 100)
    assert subject.value == FIRST


@pytest.mark.parametrize(
    ("seconds", "crowd", "value"),
    [(2.0, 8, FIRST * LEAP), (2.1, 8, 7.2), (2.4, 8, FIRST * 2.0 / 2.4), (50.0, 8, 6.4), (50.0, 5, 4.0)],
)
def test_a_crowd_that_takes_longer_lowers_it_from_its_size_in_proportion_and_by_a_fifth_at_most(
    seconds: float, crowd: int, value: float
) -> None:
    subject = limit()
    answer(subject, 1.0, 1, 10.0)
    answer(subject, seconds, crowd, 70.0, ROUND)
    assert subject.value == pytest.approx(value)


def test_what_always_takes_longer_comes_to_be_what_is_usual() -> None:
    subject = limit(least=6)
    answer(subject, 1.0, 1, 10.0)
    for number in range(60):
        answer(subject, 5.0, 6, 100.0 * number, ROUND)
    assert subject.value > 6
    assert subject.calm == pytest.approx(2.5, rel=0.05)


def test_what_began_before_it_went_down_does_not_lower_it_again() -> None:
    subject = limit()
    answer(subject, 1.0, 1, 10.0)
    for _ in range(8):
        subject.note_failure(OVERLOADED, 1.0, 20.0)
    assert subject.value == FIRST * CUT
    answer(subject, 9.0, 8, 25.0, 100)  # they began at 16
    assert subject.value == FIRST * CUT
    subject.note_failure(OVERLOADED, 1.0, 22.0)
    assert subject.value == FIRST * CUT * CUT


@pytest.mark.parametrize(
    ("failure", "is_heard"),
    [
        (OVERLOADED, True),
        (Failure(reason=FailureReason.RATE_LIMIT, status=429), True),
        (Failure(reason=FailureReason.TIMEOUT), True),
        (Failure(reason=FailureReason.TIMEOUT, is_caller_limit=True), False),
        (Failure(reason=FailureReason.SERVER_ERROR, status=500), False),
        (Failure(reason=FailureReason.INVALID_REQUEST, status=400), False),
        (Failure(reason=FailureReason.CANCELLED), False),
    ],
)
def test_only_failures_that_speak_of_too_many_calls_lower_it(failure: Failure, is_heard: bool) -> None:
    subject = limit()
    subject.note_failure(failure, 1.0, 10.0)
    assert (subject.value < FIRST) is is_heard


def test_it_stays_within_its_bounds_and_a_fixed_one_never_moves() -> None:
    subject = limit(least=3, most=20)
    for now in range(10, 60, 2):
        subject.note_failure(OVERLOADED, 1.0, float(now))
    assert subject.value == 3
    for now in range(100, 4000, 2):
        answer(subject, 1.0, int(subject.value), float(now))
    assert subject.value == 20
    fixed = limit(least=5, most=5)
    fixed.note_failure(OVERLOADED, 1.0, 10.0)
    answer(fixed, 9.0, 5, 30.0, 100)
    assert fixed.value == 5


def test_a_first_call_that_took_long_is_forgotten_once_a_crowd_is_faster() -> None:
    subject = limit()
    answer(subject, 60.0, 1, 60.0)  # its model was being loaded
    answer(subject, 1.0, 8, 70.0, ROUND)
    assert subject.calm == 1.0


def test_a_target_at_another_address_begins_anew() -> None:
    board = HealthBoard(lambda: 0.5)
    one = rung("a/m", concurrency=AUTO).targets[0]
    health = board.of(one)
    assert health.slots is not None
    health.slots.limit.note_failure(OVERLOADED, 1.0, 10.0)
    assert health.slots.limit.value < FIRST
    board.forget("a")
    assert health.slots.limit.value == FIRST


def test_new_bounds_keep_what_was_found_out() -> None:
    subject = limit()
    subject.note_failure(OVERLOADED, 1.0, 10.0)
    subject.retune(ConcurrencyPolicy(100, 2))
    assert subject.value == FIRST * CUT
    subject.retune(ConcurrencyPolicy(4, 2))
    assert subject.value == 4


# --- a server with so many places ----------------------------------------------------------------------------


class Server:
    """Works on `places` requests at once, each for about `seconds`; the others stand in a queue of its own, which is
    what its callers see as time to first content. Callers: `callers` of them, each asking again as soon as it has its
    answer or is told that there is no room."""

    def __init__(self, seed: int, places: int, seconds: float, callers: int, policy: ConcurrencyPolicy) -> None:
        self._draw = random.Random(seed)
        self._seconds = seconds
        self._free = places
        self._queue: list[tuple[float, int]] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.now = 0.0
        self.load = TargetLoad()
        self.slots = Slots(policy, self.load)
        self.first_contents: list[tuple[float, float]] = []
        self.limits: list[tuple[float, float]] = []
        self.answered = 0
        for _ in range(callers):
            self._at(self._draw.random(), self._ask)

    def _at(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), do))

    def _ask(self) -> None:
        if self.slots.is_full:
            self._at(0.2 * self._draw.random(), self._ask)
            return
        self.load.begin(self.now)
        began, crowd = self.now, self.load.active
        if self._free:
            self._free -= 1
            self._serve(began, crowd)
        else:
            self._queue.append((began, crowd))

    def _serve(self, began: float, crowd: int) -> None:
        work = self._seconds * self._draw.uniform(0.5, 1.5)
        self._at(0.1 * work, lambda: self._first(began, crowd))
        self._at(work, self._end)

    def _first(self, began: float, crowd: int) -> None:
        seconds = self.now - began
        self.first_contents.append((self.now, seconds))
        self.load.answered(seconds, self.now)
        self.slots.limit.note_content(seconds, crowd, self.now)
        self.limits.append((self.now, self.slots.limit.value))

    def _end(self) -> None:
        self.answered += 1
        self.load.end(True)
        if self._queue:
            self._serve(*self._queue.pop(0))
        else:
            self._free += 1
        self._at(0.0, self._ask)

    def run(self, until: float) -> Server:
        while self._events and self._events[0][0] < until:
            self.now, _, do = heapq.heappop(self._events)
            do()
        return self

    def mean(self, values: list[tuple[float, float]], since: float) -> float:
        chosen = [value for at, value in values if at >= since]
        return sum(chosen) / len(chosen)


@pytest.mark.parametrize("places", [1, 4, 16, 60])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_finds_out_how_many_places_a_server_has(places: int, seed: int) -> None:
    """Four times as many callers as places: the limit comes to lie near the places, what the server gets done is what
    it can do, and nobody waits in a queue that the gateway does not see."""
    seconds, lasts = 2.0, 600.0
    found = Server(seed, places, seconds, 4 * places, AUTO).run(lasts)
    free = Server(seed, places, seconds, 4 * places, ConcurrencyPolicy(10**6, 10**6)).run(lasts)
    value = found.mean(found.limits, lasts / 2)
    assert 0.7 * places <= value <= 1.0 + 1.7 * places, value
    assert found.answered > 0.85 * free.answered
    assert found.mean(found.first_contents, lasts / 2) < 0.25 * free.mean(free.first_contents, lasts / 2)


def test_it_follows_a_server_that_grows() -> None:
    server = Server(7, 4, 2.0, 100, AUTO).run(300.0)
    assert server.slots.limit.value < 10
    server._free += 28
    server.run(1200.0)
    assert server.slots.limit.value > 20
