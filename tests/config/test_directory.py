"""What a name that a caller sends stands for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.config.catalogue import ModelFacts
from crossfade.config.directory import CACHED_NAMES, MAX_CHAIN, MAX_NAME, Directory
from crossfade.config.naming import has_model, resolve_name
from crossfade.config.settings import DEFAULT_ROUTE, ProviderConfig
from crossfade.core.rules import matches
from crossfade.core.target import Route
from tests.config.samples import ENVIRON, VENDORS, Folder, facts

KNOWN = facts(
    {
        ("openai", "gpt-5.4"): ModelFacts(window=1000),
        ("groq", "openai/gpt-oss-120b"): ModelFacts(),
        ("groq", "llama"): ModelFacts(),
        ("cerebras", "llama"): ModelFacts(),
        ("cerebras", "gpt-oss-120b"): ModelFacts(),
    }
)
TEXT = """\
providers:
  openai: {}
  anthropic: {}
  cerebras: {}
  groq: {}
  local: {dialect: openai, base_url: http://127.0.0.1:9/v1, models: {llama3: {window: 5}}}
routes:
  chat:
    match: [gpt-4o, claude-*, claude-opus-*, "*-opus-special"]
    chain: [openai/gpt-5.4, anthropic/claude-opus-5]
  opus: {match: [claude-opus-5*, named], chain: [anthropic/claude-opus-5, openai/gpt-5.4]}
  bound: {chain: [openai/gpt-5.4], allow: [anthropic/*, groq/llama]}
fallbacks:
  gpt-5.4: [anthropic/claude-opus-5, openai/gpt-5.4]
  llama3: []
  local/other: [openai/gpt-5.4]
  alias: [openai/gpt-5.4]
"""
KEYS = {**ENVIRON, "GROQ_API_KEY": "k", "CEREBRAS_API_KEY": "k"}


@pytest.fixture
def directory(folder: Folder) -> Directory:
    return Directory(folder.load(TEXT, KEYS, KNOWN))


def found(directory: Directory, name: str) -> tuple[str, list[str]] | None:
    route = directory.route_for(name)
    return None if route is None else (route.name, [rung.name for rung in route.chain])


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("chat", "chat"),
        ("gpt-4o", "chat"),
        ("named", "opus"),
        ("claude-sonnet", "chat"),
        ("claude-opus-5", "opus"),  # the longest beginning wins
        ("claude-opus-4", "chat"),
        ("my-opus-special", "chat"),
        (" chat ", "chat"),
        ("Chat", None),
    ],
)
def test_routes_come_first(directory: Directory, name: str, route: str | None) -> None:
    got = found(directory, name)
    assert (None if got is None else got[0]) == route


@pytest.mark.parametrize(
    ("name", "chain"),
    [
        ("openai/gpt-5.4", ["openai/gpt-5.4"]),
        ("gpt-5.4", ["openai/gpt-5.4", "anthropic/claude-opus-5"]),  # its own fallbacks, itself not twice
        ("openai/some/model", ["openai/some/model"]),  # split at the first slash
        ("local/anything", ["local/anything"]),
        ("local/other", ["local/other", "openai/gpt-5.4"]),
        ("llama3", ["local/llama3"]),  # declared under models
        ("llama", ["cerebras/llama"]),  # the first in the file that has it
        ("gpt-9", ["openai/gpt-9"]),  # by the look of the name
        ("gpt-oss-120b", ["cerebras/gpt-oss-120b"]),  # known there, only guessed at openai
        ("openai/gpt-oss-120b", ["groq/openai/gpt-oss-120b"]),  # an id with a slash, not known at openai
        ("alias", ["openai/gpt-5.4"]),  # fallbacks alone
    ],
)
def test_other_names_are_targets_with_their_fallbacks(directory: Directory, name: str, chain: list[str]) -> None:
    assert found(directory, name) == (DEFAULT_ROUTE, chain)


@pytest.mark.parametrize("name", ["", " ", "*", "nothing", "nowhere/gpt-5.4", "openai/", "/x", "x" * (MAX_NAME + 1)])
def test_unknown_names_are_none(directory: Directory, name: str) -> None:
    assert directory.route_for(name) is None
    assert directory.rungs_for(name) == ()


def test_a_chain_of_names_is_as_short_as_any_other(directory: Directory) -> None:
    names = [f"openai/{number}" for number in range(MAX_CHAIN + 1)]
    route = directory.route_for(",".join(names[:-1]))
    assert route is not None
    assert len(route.chain) == MAX_CHAIN
    assert directory.route_for(",".join(names)) is None
    assert "more than 32 names" in directory.unknown(",".join(names)).message


def test_star_is_the_chain_of_all_other_names(folder: Folder) -> None:
    directory = Directory(
        folder.load("providers: {openai: {}, anthropic: {}}\nfallbacks: {'*': [openai/gpt-5.4], claude-x: []}")
    )
    assert found(directory, "claude-y") == ("*", ["anthropic/claude-y", "openai/gpt-5.4"])
    assert found(directory, "claude-x") == ("*", ["anthropic/claude-x"])
    assert found(directory, "unheard-of") == ("*", ["openai/gpt-5.4"])
    assert found(directory, "*") is None


def test_several_names_are_a_chain(directory: Directory) -> None:
    assert found(directory, "llama, gpt-5.4,  cerebras/llama") == ("*", ["cerebras/llama", "openai/gpt-5.4"])
    assert found(directory, "llama, opus") == ("*", ["cerebras/llama", "anthropic/claude-opus-5", "openai/gpt-5.4"])
    assert found(directory, "claude-a, llama") == (
        "*",
        ["openai/gpt-5.4", "anthropic/claude-opus-5", "cerebras/llama"],
    ), "a wildcard takes one name, not the list"
    assert found(directory, "llama, nothing") is None
    assert found(directory, "llama,") is None
    with pytest.raises(Exception, match="unknown model 'nothing'"):
        directory.chain("llama, nothing")


def test_unknown_names_are_told_with_the_nearest(directory: Directory) -> None:
    error = directory.unknown("chta", "fallback_models[1]")
    assert (str(error), error.param, error.status) == (
        "unknown model 'chta'; did you mean 'chat'?",
        "fallback_models[1]",
        404,
    )
    assert len(str(directory.unknown("x" * 100_000))) < 300


def test_rungs_have_what_is_known_of_the_model(directory: Directory) -> None:
    rung = directory.rung_for("gpt-5.4")
    assert rung is not None
    assert rung.targets[0].window == 1000
    assert directory.rung_for("chat") is None, "a route is several rungs"
    assert [one.name for one in directory.rungs_for("chat")] == ["openai/gpt-5.4", "anthropic/claude-opus-5"]


def test_what_callers_may_add(directory: Directory) -> None:
    routes = {name: directory.route_for(name) for name in ("chat", "bound", "llama")}
    allowed: dict[str, list[str]] = {}
    for name, route in routes.items():
        assert isinstance(route, Route)
        rungs = [directory.rung_for(m) for m in ("openai/gpt-5.4", "anthropic/x", "groq/llama", "local/llama3")]
        allowed[name] = [rung.name for rung in rungs if rung is not None and directory.objection(route, rung) is None]
    assert allowed == {
        "chat": ["openai/gpt-5.4"],  # those of any route
        "bound": ["anthropic/x", "groq/llama"],
        "llama": ["openai/gpt-5.4", "anthropic/x", "groq/llama", "local/llama3"],
    }


def test_models_are_listed_once(directory: Directory) -> None:
    names = directory.models()
    assert {"chat", "opus", "gpt-4o", "named", "openai/gpt-5.4", "local/llama3", "alias"} <= set(names)
    assert len(set(names)) == len(names)
    assert not any("*" in name for name in names)


def test_made_up_names_grow_no_memory(directory: Directory) -> None:
    for i in range(3 * CACHED_NAMES):
        assert directory.route_for(f"openai/model-{i}") is not None
    assert directory._routes.cache_info().currsize == CACHED_NAMES
    assert directory._rungs.cache_info().currsize == CACHED_NAMES


@given(
    st.lists(st.sampled_from(list(VENDORS)), unique=True, min_size=1),
    st.sampled_from(list(VENDORS)),
    st.sampled_from(["gpt-5.4", "gpt-oss-120b", "openai/gpt-oss-120b", "llama", "groq/llama", "claude-9", "o3", "x"]),
)
def test_adding_a_provider_never_turns_a_working_name_into_an_error(names: list[str], more: str, model: str) -> None:
    def resolved(some: list[str]) -> tuple[ProviderConfig, str] | None:
        providers = {name: ProviderConfig(name=name, vendor=VENDORS[name]) for name in some}
        parts = resolve_name(model, providers, KNOWN)
        return None if parts is None else (providers[parts[0]], parts[1])

    before = resolved(names)
    for after in (resolved([*names, more]), resolved([more, *(name for name in names if name != more)])):
        if before is not None:
            assert after is not None
            assert has_model(*after, KNOWN) or not has_model(*before, KNOWN)


@given(st.text("ab*", min_size=1, max_size=6), st.text("ab", max_size=8))
def test_patterns_match_as_their_star_says(pattern: str, name: str) -> None:
    def slow(pattern: str, name: str) -> bool:
        if not pattern:
            return not name
        if pattern[0] == "*":
            return slow(pattern[1:], name) or (bool(name) and slow(pattern, name[1:]))
        return bool(name) and name[0] == pattern[0] and slow(pattern[1:], name[1:])

    assert matches(tuple(pattern.split("*")), name) == slow(pattern, name)
