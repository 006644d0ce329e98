"""The plan: what is skipped for good and why, and in which order the rest stands."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from crossfade.core.exchange import Ability, RequestFacts
from crossfade.core.planner import plan, unfitness
from crossfade.core.policy import MaxCost
from crossfade.core.target import Plan, Route, Target
from tests.core.walking import rung, target

PLAIN = RequestFacts()
SEES = RequestFacts(needs=frozenset({Ability.VISION}))


def route(*chain: object) -> Route:
    return Route(name="chat", chain=tuple(rung(one) if isinstance(one, str) else one for one in chain))  # type: ignore[misc]


def named(name: str) -> Callable[[Target], bool]:
    return lambda one: one.name == name


def names(made: Plan) -> list[str]:
    return [one.name for one in made.rungs]


def test_plan_of_a_plain_request_is_the_chain() -> None:
    made = route("a/m", "b/m")
    assert plan(made, PLAIN) == Plan(made.chain)
    assert plan(made, PLAIN).rungs is made.chain


@pytest.mark.parametrize(
    "ability, words",
    [
        (Ability.VISION, "no vision"),
        (Ability.FILES, "no files"),
        (Ability.AUDIO, "no audio"),
        (Ability.TOOLS, "no tools"),
        (Ability.JSON_SCHEMA, "no json_schema"),
    ],
)
def test_target_without_an_ability_is_skipped_in_words(ability: Ability, words: str) -> None:
    made = plan(route(rung("a/m", lacks=frozenset({ability})), "b/m"), RequestFacts(needs=frozenset({ability})))
    assert names(made) == ["b/m"]
    assert [(skip.rung.name, skip.position, skip.why) for skip in made.skips] == [("a/m", 0, words)]


def test_every_ability_has_its_words() -> None:
    everything = frozenset(Ability)
    why = unfitness(target("a/m", lacks=everything), RequestFacts(needs=everything))
    assert why == "no audio or files or json_schema or tools or vision"


def test_ability_that_is_not_needed_does_not_matter() -> None:
    assert names(plan(route(rung("a/m", lacks=frozenset(Ability))), PLAIN)) == ["a/m"]
    assert names(plan(route(rung("a/m", lacks=frozenset({Ability.TOOLS}))), SEES)) == ["a/m"]


@pytest.mark.parametrize(
    "window, tokens, is_skipped",
    [
        (1000, 2000, False),
        (1000, 2001, True),
        (512, 1100, True),  # windows of embedding models
        (None, 10**7, False),
        (128_000, 250_000, False),
        (128_000, 260_000, True),
    ],
)
def test_window_may_be_exceeded_by_what_an_estimate_may_be_wrong(
    window: int | None, tokens: int, is_skipped: bool
) -> None:
    made = plan(route(rung("a/m", window=window), "b/m"), RequestFacts(input_tokens=tokens))
    assert bool(made.skips) is is_skipped
    if is_skipped:
        assert made.skips[0].why == f"window of {window} tokens for about {tokens}"


def test_skips_keep_their_places_in_the_chain() -> None:
    blind = frozenset({Ability.VISION})
    made = plan(route("a/m", rung("b/m", lacks=blind), "c/m", rung("d/m", lacks=blind)), SEES)
    assert names(made) == ["a/m", "c/m"]
    assert [(skip.rung.name, skip.position) for skip in made.skips] == [("b/m", 1), ("d/m", 3)]


def test_targets_whose_answers_lately_did_not_suit_come_later() -> None:
    def rank(one: Target) -> int:
        return int(one.name in ("a/m", "c/m"))

    assert names(plan(route("a/m", "b/m", "c/m", "d/m"), PLAIN, rank)) == ["b/m", "d/m", "a/m", "c/m"]


def test_order_stands_where_all_suit_or_none_does() -> None:
    assert names(plan(route("a/m", "b/m"), PLAIN, lambda one: 0)) == ["a/m", "b/m"]
    assert names(plan(route("a/m", "b/m"), PLAIN, lambda one: 1)) == ["a/m", "b/m"]


def test_maker_of_the_tool_call_comes_first() -> None:
    assert names(plan(route("a/m", "b/m", "c/m"), PLAIN, prefers=named("c/m"))) == ["c/m", "a/m", "b/m"]
    assert names(plan(route("a/m", "b/m"), PLAIN, prefers=named("x/m"))) == ["a/m", "b/m"]


def test_maker_of_the_tool_call_comes_first_though_it_was_demoted() -> None:
    made = plan(route("a/m", "b/m"), PLAIN, lambda one: int(one.name == "a/m"), named("a/m"))
    assert names(made) == ["a/m", "b/m"]


def test_nobody_may_be_left() -> None:
    made = plan(route(rung("a/m", lacks=frozenset({Ability.VISION}))), SEES, lambda one: 0, named("a/m"))
    assert (made.rungs, len(made.skips)) == ((), 1)


DEAR, CHEAP = {"price_in": 10e-6, "price_out": 30e-6}, {"price_in": 1e-6, "price_out": 3e-6}


@pytest.mark.parametrize(
    ("bound", "left"),
    [
        (None, ["a/m", "b/m", "c/m"]),
        (MaxCost(times=3.0), ["a/m", "c/m"]),
        (MaxCost(times=10.0), ["a/m", "b/m", "c/m"]),
        (MaxCost(usd=0.01), ["a/m", "c/m"]),
        (MaxCost(usd=0.0001), ["c/m"]),
    ],
)
def test_targets_that_cost_more_than_they_may_are_skipped_and_those_without_a_price_are_not(
    bound: MaxCost | None, left: list[str]
) -> None:
    chain = (rung("a/m", **CHEAP), rung("b/m", **DEAR), rung("c/m"))
    made = plan(Route(name="chat", chain=chain, max_cost=bound), RequestFacts(input_tokens=1000))
    assert names(made) == left
    assert all(skip.why.startswith("max_cost: about ") for skip in made.skips)


def test_cost_is_of_the_answer_that_the_request_allows() -> None:
    chain = (rung("a/m", **CHEAP), rung("b/m", price_in=1e-6, price_out=30e-6))
    bounded = Route(name="chat", chain=chain, max_cost=MaxCost(times=2.0))
    assert names(plan(bounded, RequestFacts(input_tokens=1000))) == ["a/m"]
    assert names(plan(bounded, RequestFacts(input_tokens=1000, max_tokens=10))) == ["a/m", "b/m"]


def test_cost_is_measured_against_the_primary_of_the_route_whatever_the_chain() -> None:
    chain = (rung("b/m", **DEAR), rung("a/m", **CHEAP))
    by_rule = Route(name="chat", chain=chain, max_cost=MaxCost(times=2.0), primary=target("a/m", **CHEAP))
    made = plan(by_rule, RequestFacts(input_tokens=1000))
    assert names(made) == ["a/m"]
    assert made.skips[0].why == "max_cost: about 10x of the primary, 2x is allowed"


def test_without_a_price_of_the_primary_there_is_no_multiple_of_it() -> None:
    chain = (rung("a/m"), rung("b/m", **DEAR))
    assert names(plan(Route(name="chat", chain=chain, max_cost=MaxCost(times=1.0)), PLAIN)) == ["a/m", "b/m"]
