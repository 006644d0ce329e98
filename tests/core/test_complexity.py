"""The complexity score: what it tells apart, and that it is total, bounded and does not fall where there is more."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.complexity import BIAS, ENDS, SEEN, WEIGHTS, complexity, features
from tests.complexity.__main__ import fit
from tests.complexity.asks import auc, read_asks

ASKS = read_asks()


def test_there_are_200_asks_as_many_hard_as_simple_and_none_twice() -> None:
    assert Counter((one.label, one.half) for one in ASKS) == {
        ("simple", "fit"): 70,
        ("simple", "held_out"): 30,
        ("hard", "fit"): 70,
        ("hard", "held_out"): 30,
    }
    assert len({one.ask for one in ASKS}) == 200
    assert len({one.language for one in ASKS}) >= 8


def test_it_tells_hard_asks_from_simple_ones_that_it_was_not_fitted_to() -> None:
    held_out = [one for one in ASKS if one.half == "held_out"]
    assert auc(held_out, complexity) > 0.95
    assert auc(held_out, complexity) > auc(held_out, len) + 0.1


def test_the_weights_are_those_that_the_fit_gives() -> None:
    assert fit() == (BIAS, WEIGHTS)


@settings(deadline=None)
@given(st.text())
def test_any_text_has_a_score_and_features_are_shares(text: str) -> None:
    assert 0.0 < complexity(text) < 1.0
    assert all(0.0 <= value <= 1.0 for value in features(text).values())


@settings(deadline=None)
@given(st.text(max_size=300), st.integers(0, 20), st.integers(0, 20), st.integers(0, 9))
def test_more_of_a_shape_never_makes_it_simpler(text: str, turns: int, tools: int, images: int) -> None:
    less = complexity(text, turns=turns, tools=tools, images=images)
    more = complexity(text, turns=turns + 1, tools=tools + 1, images=images + 1, has_schema=True)
    assert more >= less


def test_the_middle_of_a_long_text_is_not_looked_at() -> None:
    ends = "x" * SEEN
    assert features(ends + "prove {} translate ∑ " * 50 + ends)["hard"] == 0
    plain, marked = features(ends + " " * 100 + ends), features(ends + "{}∑?\n- " * 14 + "  " + ends)
    assert {name: plain[name] for name in plain if name != "length"} == {
        name: marked[name] for name in marked if name != "length"
    }
    assert 2 * ENDS < SEEN
