"""The model catalogue and what of it is trusted."""

from __future__ import annotations

import json
import re
from importlib import resources

import pytest

from crossfade.config.catalogue import facts_of, models_of
from crossfade.core.exchange import Ability
from crossfade.providers.compatible import VENDORS


def test_a_known_model_has_window_and_prices() -> None:
    known = facts_of("openai", "gpt-5.4")
    assert known is not None
    assert known.window is not None
    assert known.window > 100_000
    assert known.price_in is not None
    assert known.price_out is not None
    assert 0 < known.price_in < known.price_out < 0.001
    assert not known.lacks


def test_the_date_of_a_version_is_no_other_model() -> None:
    assert facts_of("openai", "gpt-5.4-2026-03-05") == facts_of("openai", "gpt-5.4")
    assert facts_of("anthropic", "claude-haiku-4-5-20251001") == facts_of("anthropic", "claude-haiku-4-5")
    assert facts_of("google", "gemini-2.5-pro") == facts_of("gemini", "gemini-2.5-pro") is not None
    assert facts_of("openai", "no-such-model") is None
    assert facts_of("no-such-vendor", "gpt-5.4") is None


@pytest.mark.parametrize(
    ("vendor", "model", "thinks", "slow"),
    [
        ("openai", "o3", True, False),
        ("openai", "gpt-5", True, False),
        ("openai", "gpt-5.4", False, False),
        ("openai", "gpt-5-chat", False, False),
        ("openai", "gpt-4o", False, False),
        ("openai", "o3-pro", True, True),
        ("openai", "gpt-5.4-pro", True, True),
        ("anthropic", "claude-opus-5", False, False),
        ("gemini", "gemini-2.5-pro", True, False),
        ("gemini", "gemini-2.5-flash-lite", False, False),
        ("xai", "grok-4.20-non-reasoning", False, False),
        ("deepseek", "deepseek-reasoner", True, False),
        ("groq", "openai/gpt-oss-120b", True, False),
    ],
)
def test_models_that_always_think_are_known(vendor: str, model: str, thinks: bool, slow: bool) -> None:
    known = facts_of(vendor, model)
    assert known is not None
    assert (known.always_thinks, known.is_slow) == (thinks, slow)


def test_doubtful_gaps_are_no_facts() -> None:
    together = facts_of("together", "moonshotai/Kimi-K2.6")
    perplexity, embedding = facts_of("perplexity", "sonar"), facts_of("openai", "text-embedding-3-large")
    assert together is not None
    assert perplexity is not None
    assert embedding is not None
    assert together.lacks == frozenset()
    assert Ability.TOOLS in perplexity.lacks
    assert not embedding.is_chat


def test_models_that_the_chat_api_does_not_serve_are_marked() -> None:
    known = facts_of("openai", "o3-pro")
    assert known is not None
    assert known.only_responses
    assert "o3-pro" not in list(models_of("openai"))
    assert "text-embedding-3-large" not in list(models_of("openai"))


def test_the_data_name_their_source_and_licence() -> None:
    data = json.loads(resources.files("crossfade.config").joinpath("models.json").read_text())
    assert {"package", "licence", "copyright"} <= data["source"].keys()
    assert sum(len(models) for models in data["models"].values()) > 200


@pytest.mark.parametrize("vendor", [row.name for row in VENDORS.values() if row.model_prefixes])
def test_vendors_with_names_of_their_own_recognise_their_models(vendor: str) -> None:
    prefixes = VENDORS[vendor].model_prefixes
    models = list(models_of(vendor))
    assert not models or any(re.match("|".join(map(re.escape, prefixes)), model) for model in models)
