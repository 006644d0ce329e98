"""Which rule holds: each condition, their order, and that texts are only looked at where somebody asks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.exchange import Ability, OutputFormat, RequestFacts
from crossfade.core.rules import NO_RULE, Ask, Rules
from crossfade.core.when import Hours, Range, When

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC).timestamp()
BERLIN = ZoneInfo("Europe/Berlin")


def ask(score: float | None = 0.5, **given_: Any) -> Ask:
    facts = given_.pop("facts", RequestFacts())
    fields: dict[str, Any] = {
        "model": "chat",
        "tags": (),
        "key": "",
        "project": "",
        "headers": {},
        "wall": NOON,
        **given_,
    }

    def reckon() -> float:
        assert score is not None, "nobody may look at the text"
        return score

    return Ask(facts, score=reckon, **fields)


def holds(when: When, one: Ask) -> bool:
    return Rules([when]).pick(one) == 0


FULL = RequestFacts(
    input_tokens=500,
    needs=frozenset({Ability.VISION, Ability.TOOLS}),
    tools=frozenset({"look"}),
    stream=True,
    output=OutputFormat(kind="json_schema", schema=b"{}"),
)
HOLDING: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({"input_tokens": Range(above=499)}, {"facts": FULL}, True),
    ({"input_tokens": Range(above=500)}, {"facts": FULL}, False),
    ({"input_tokens": Range(below=500)}, {"facts": FULL}, False),
    ({"input_tokens": Range(above=100, below=501)}, {"facts": FULL}, True),
    ({"complexity": Range(above=0.4, below=0.6)}, {}, True),
    ({"complexity": Range(below=0.5)}, {}, False),
    ({"tools": True}, {"facts": FULL}, True),
    ({"tools": True}, {}, False),
    ({"tools": False}, {}, True),
    ({"tools": True}, {"facts": RequestFacts(has_other_tools=True)}, True),
    ({"images": True}, {"facts": FULL}, True),
    ({"images": False}, {"facts": FULL}, False),
    ({"files": False}, {"facts": FULL}, True),
    ({"files": True}, {"facts": FULL}, False),
    ({"stream": True}, {"facts": FULL}, True),
    ({"stream": True}, {}, False),
    ({"response_format": ("json_schema", "json_object")}, {"facts": FULL}, True),
    ({"response_format": ("text",)}, {"facts": FULL}, False),
    ({"response_format": ("text",)}, {}, True),
    ({"model": ("gpt-*",)}, {"model": "gpt-5.4"}, True),
    ({"model": ("gpt",)}, {"model": "gpt-5.4"}, False),
    ({"tags": ("batch-*", "nightly")}, {"tags": ("web", "nightly")}, True),
    ({"tags": ("batch-*",)}, {"tags": ("web", "batch-7")}, True),
    ({"tags": ("batch-*",)}, {"tags": ("web",)}, False),
    ({"tags": ("*",)}, {}, False),
    ({"key": ("web", "app-*")}, {"key": "app-2"}, True),
    ({"key": ("*",)}, {}, False),
    ({"project": ("web", "app-*")}, {"project": "app-2"}, True),
    ({"project": ("*",)}, {"key": "web"}, False),
    ({"headers": (("x-tier", "gold"), ("x-team", "*"))}, {"headers": {"x-tier": "gold", "x-team": "a"}}, True),
    ({"headers": (("x-tier", "gold"), ("x-team", "*"))}, {"headers": {"x-tier": "gold"}}, False),
    ({"hours": Hours(9 * 60, 17 * 60, UTC)}, {}, True),
    ({"hours": Hours(12 * 60, 13 * 60, UTC)}, {}, True),
    ({"hours": Hours(9 * 60, 12 * 60, UTC)}, {}, False),
    ({"hours": Hours(22 * 60, 6 * 60, UTC)}, {}, False),
    ({"hours": Hours(22 * 60, 6 * 60, UTC)}, {"wall": NOON + 11 * 3600}, True),
    ({"hours": Hours(22 * 60, 6 * 60, UTC)}, {"wall": NOON + 17 * 3600}, True),
    ({"hours": Hours(22 * 60, 6 * 60, UTC)}, {"wall": NOON + 18 * 3600}, False),
    ({"hours": Hours(0, 24 * 60, UTC)}, {}, True),
    ({"hours": Hours(14 * 60, 15 * 60, BERLIN)}, {}, True),  # two hours ahead in summer
    ({"tools": True, "stream": False}, {"facts": FULL}, False),
]


@pytest.mark.parametrize(("conditions", "given_", "is_held"), HOLDING, ids=lambda value: str(value)[:50])
def test_a_rule_holds_if_all_of_its_conditions_do(
    conditions: dict[str, Any], given_: dict[str, Any], is_held: bool
) -> None:
    assert holds(When(**conditions), ask(**given_)) is is_held


def test_every_condition_is_tested_both_ways() -> None:
    seen = {(name, is_held) for conditions, _, is_held in HOLDING for name in conditions if len(conditions) == 1}
    assert seen == {(name, is_held) for name in When.__struct_fields__ for is_held in (True, False)}


def test_the_first_that_holds_is_taken() -> None:
    rules = Rules([When(tools=True), When(stream=False), When(tools=False)])
    assert rules.pick(ask()) == 1
    assert rules.pick(ask(facts=FULL)) == 0
    assert Rules([]).pick(ask()) == NO_RULE
    assert Rules([When(images=True)]).pick(ask()) == NO_RULE


def test_a_text_is_looked_at_only_where_a_rule_wants_it_and_the_rest_of_the_rule_holds() -> None:
    hard = When(complexity=Range(above=0.7))
    assert Rules([When(stream=False), hard]).pick(ask(score=None)) == 0
    assert Rules([When(tools=True, complexity=Range(above=0.7))]).pick(ask(score=None)) == NO_RULE


def test_a_text_is_looked_at_once() -> None:
    calls: list[int] = []

    def reckon() -> float:
        calls.append(1)
        return 0.5

    one = Ask(RequestFacts(), "chat", (), "", "", {}, NOON, reckon)
    assert Rules([When(complexity=Range(above=0.7)), When(complexity=Range(below=0.3))]).pick(one) == NO_RULE
    assert one.complexity == 0.5
    assert calls == [1]


@settings(deadline=None)
@given(st.text("ab*", max_size=6), st.text("ab", max_size=8))
def test_patterns_fit_as_the_words_say(pattern: str, text: str) -> None:
    def fits(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return any(fits(pattern[1:], text[cut:]) for cut in range(len(text) + 1))
        return text[:1] == pattern[0] and fits(pattern[1:], text[1:])

    assert holds(When(model=(pattern,)), ask(model=text)) is fits(pattern, text)
