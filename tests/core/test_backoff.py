from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.backoff import DELAY_CAP, clamp_retry_after, doubled, jittered, next_delay
from crossfade.core.policy import HealthPolicy

repeatable = settings(derandomize=True, deadline=None)


def test_the_first_delay_is_drawn_from_half_to_one_and_a_half_of_the_base() -> None:
    assert next_delay(1, 0.0, base=0.25) == 0.125
    assert next_delay(1, 0.5, base=0.25) == 0.25
    assert next_delay(1, 0.999999, base=0.25) == pytest.approx(0.375, abs=1e-5)


def test_later_delays_double_up_to_the_cap() -> None:
    assert [next_delay(n, 0.5, base=1.0, cap=5.0) for n in (1, 2, 3, 4, 5000)] == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_base_of_zero_waits_not_at_all() -> None:
    assert next_delay(7, 0.9, base=0.0) == 0.0


@repeatable
@given(st.integers(-5, 10_000), st.floats(0.0, 1.0, exclude_max=True), st.floats(0.0, 1e6))
def test_no_delay_is_negative_or_above_the_cap(attempt: int, draw: float, base: float) -> None:
    assert 0.0 <= next_delay(attempt, draw, base) <= DELAY_CAP


def test_doubling_stops_at_the_cap_however_often_it_is_done() -> None:
    assert [doubled(15.0, n, 300.0) for n in (0, 1, 4, 5, 10**9)] == [15.0, 30.0, 240.0, 300.0, 300.0]


def test_jitter_is_a_tenth_to_either_side() -> None:
    assert jittered(100.0, 0.0) == pytest.approx(90.0)
    assert jittered(100.0, 0.5) == pytest.approx(100.0)
    assert jittered(100.0, 0.999999) == pytest.approx(110.0, abs=0.01)


@pytest.mark.parametrize(
    ("said", "ejected"),
    [
        (None, 10.0),
        (math.nan, 10.0),
        (0.0, 1.0),
        (1.0, 1.0),
        (0.3, 1.0),
        (30.0, 30.0),
        (900.0, 900.0),
        (1e9, 900.0),
        (math.inf, 900.0),
        (-5.0, 1.0),
        (-math.inf, 1.0),
    ],
)
def test_what_a_provider_says_is_brought_into_bounds(said: float | None, ejected: float) -> None:
    assert clamp_retry_after(said, HealthPolicy()) == ejected


def test_the_bounds_are_the_policy_s() -> None:
    policy = HealthPolicy(min_rate_limit=2.0, max_rate_limit=4.0, default_rate_limit=3.0)
    assert [clamp_retry_after(said, policy) for said in (None, 0.0, 100.0)] == [3.0, 2.0, 4.0]
