"""What is let in: bounds that hold at once, and a share that follows how late the clock runs."""

from __future__ import annotations

import random

import pytest

from crossfade.core.policy import OverloadPolicy
from crossfade.core.shedding import FEWEST, LEAST, MORE, STANDING, SUDDEN, Shedding

MANY = 100
LOOK = 0.05


def shedding(draw: float = 0.5, **policy: float) -> Shedding:
    return Shedding(OverloadPolicy(**policy), lambda: draw)  # type: ignore[arg-type]


def late(of: Shedding, seconds: float, delay: float = 0.04, start: float = 0.0) -> float:
    """Looks at a clock that is `delay` late for so long; the time of the last look."""
    now = start
    while now <= start + seconds:
        of.note_delay(delay, now)
        now += LOOK
    return now


def test_with_nothing_wrong_all_are_let_in() -> None:
    of = shedding()
    late(of, 10.0, delay=0.01)
    assert of.share == 1.0
    assert of.shortage(4_999, 0, 10, 0.0) is None


def test_bounds_hold_at_once() -> None:
    of = shedding(max_requests=10)
    assert of.shortage(9, 10, 10, 0.0) is None
    assert of.shortage(10, 0, 10, 0.0) == "requests"
    assert of.shortage(9, 11, 10, 0.0) == "bytes"


def test_a_clock_that_is_late_for_a_moment_says_nothing() -> None:
    of = shedding()
    for look in range(200):
        of.note_delay(0.04 if look % 2 else 0.0, look * LOOK)
    assert of.share == 1.0


def test_a_clock_that_stays_late_lets_fewer_in_until_hardly_any() -> None:
    of = shedding()
    late(of, STANDING - 0.05)
    assert of.share == 1.0
    shares = []
    for number in range(100):
        of.note_delay(0.04, STANDING + number * LOOK)
        shares.append(of.share)
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == LEAST


def test_a_share_is_let_in_by_lot() -> None:
    of = Shedding(OverloadPolicy(), random.Random(7).random)
    late(of, STANDING + 4 * LOOK)
    let_in = sum(of.shortage(MANY, 0, 1, 0.0) is None for _ in range(4_000)) / 4_000
    assert let_in == pytest.approx(of.share, abs=0.05)
    assert 0.2 < of.share < 0.6


def test_few_requests_under_way_are_not_the_cause_of_a_late_clock() -> None:
    of = shedding(draw=0.99)
    late(of, 3.0)
    assert of.shortage(FEWEST - 1, 0, 1, 0.0) is None
    assert of.shortage(FEWEST, 0, 1, 0.0) == "delay"


def test_on_time_again_more_are_let_in_by_and_by_and_with_nothing_under_way_all() -> None:
    of = shedding(draw=0.99)
    end = late(of, 3.0)
    of.note_delay(0.0, end)
    assert of.share == pytest.approx(LEAST + MORE * LOOK)
    late(of, 5.0, delay=0.0, start=end)
    assert of.share == 1.0
    late(of, 3.0, start=end + 10)
    of.rest()
    assert of.shortage(MANY, 0, 1, 0.0) is None


def test_one_turn_of_the_loop_may_not_take_on_too_much() -> None:
    of = shedding(draw=0.0)
    assert of.shortage(MANY, 0, 1, SUDDEN) is None
    assert of.shortage(MANY, 0, 1, SUDDEN + 0.01) == "delay"
    assert of.shortage(FEWEST - 1, 0, 1, 1.0) is None
    late(of, 1.0)
    assert of.shortage(MANY, 0, 1, 0.01) is None
    assert of.shortage(MANY, 0, 1, 0.02) == "delay"


def test_a_clock_that_is_very_late_has_stayed_late_for_as_long() -> None:
    of = shedding()
    of.note_delay(0.0, 1.0)
    of.note_delay(2.0, 3.0)
    assert of.share == LEAST


def test_the_clock_is_nobodys_business_where_it_is_turned_off() -> None:
    of = shedding(draw=0.99, max_delay=0.0)
    late(of, 3.0)
    assert of.shortage(MANY, 0, 1, 0.0) is None
    on = shedding(draw=0.99)
    late(on, 3.0)
    on.retune(OverloadPolicy(max_delay=0.0))
    assert on.shortage(MANY, 0, 1, 0.0) is None


def test_what_was_refused_is_counted_once() -> None:
    of = shedding()
    for _ in range(3):
        of.note_refused("delay")
    of.note_refused("bytes")
    assert of.take_refused() == {"delay": 3, "bytes": 1}
    assert of.take_refused() == {}


def test_four_times_what_can_be_done_settles_near_what_can() -> None:
    """A worker that can do 1,000 a second and is asked for 4,000: how late it is grows with what it has let in."""
    draw = random.Random(1)
    of = Shedding(OverloadPolicy(), draw.random)
    backlog, done, refused = 0.0, 0.0, 0
    for look in range(5_000):
        for _ in range(40):
            if of.shortage(MANY, 0, 1, 0.0) is None:
                backlog += 1.0
            else:
                refused += 1
        worked = min(backlog, 10.0)
        backlog -= worked
        done += worked
        of.note_delay(backlog / 1_000.0, look * 0.01)
        if look > 500:
            assert backlog / 1_000.0 < 0.1, "callers that were let in never wait for long"
    assert done > 0.9 * 5_000 * 10
    assert refused > 0.7 * 5_000 * 40
