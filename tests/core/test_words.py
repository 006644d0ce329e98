"""The words of settings that files and requests share."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.policy import CommitPolicy
from crossfade.core.words import MAX_DURATION, parse_commit, parse_duration, parse_hold

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=7), inner, max_size=2),
)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("500ms", 0.5), ("2s", 2), ("1.5m", 90), ("1h", 3600), ("7", 7), (7, 7), (0.25, 0.25), (0, 0), (" 2 s ", 2)],
)
def test_durations(value: object, seconds: float) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize(
    "value", ["", "s", "-1s", "1d", "1s2", "1e3", "٣s", -1, True, None, [], math.nan, math.inf, "1000h", 10**400]
)
def test_no_durations(value: object) -> None:
    with pytest.raises(ValueError):
        parse_duration(value)


@given(JSON)
def test_any_value_is_a_duration_in_bounds_or_refused(value: object) -> None:
    try:
        seconds = parse_duration(value)
    except ValueError:
        return
    assert 0 <= seconds <= MAX_DURATION


def test_commit_points() -> None:
    assert parse_commit("first_content") == CommitPolicy()
    assert parse_commit("complete") == CommitPolicy(at="complete")
    assert parse_commit({"chars": 40}) == CommitPolicy(at="chars", value=40)
    assert parse_commit({"seconds": "500ms"}) == CommitPolicy(at="seconds", value=0.5)


@pytest.mark.parametrize(
    "value", ["chars", "", 3, None, [], {}, {"chars": 0}, {"chars": True}, {"chars": 1, "seconds": 1}, {"x": 1}]
)
def test_no_commit_points(value: object) -> None:
    with pytest.raises(ValueError):
        parse_commit(value)


def test_what_is_held() -> None:
    assert parse_hold([]) == (False, False)
    assert parse_hold(["json"]) == (False, True)
    assert parse_hold(["tool_calls", "json"]) == (True, True)
    for wrong in ("json", ["text"], [["json"]], None):
        with pytest.raises(ValueError):
            parse_hold(wrong)
