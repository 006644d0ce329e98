"""No setting is passed over in silence, no key gets out, and whatever comes in, crossfade takes what goes out."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.config.litellm.prefixes import PREFIXES, UNSUPPORTED
from crossfade.config.litellm.reasons import REASONS
from crossfade.config.litellm.translate import Translation
from crossfade.config.problems import ConfigErrors, dotted
from crossfade.config.problems import Path as Place
from crossfade.providers.compatible import VENDORS
from tests.config.litellm.samples import FOLDER, NAMES, loaded, made, of

SECRETS = re.compile(r"sk-[\w-]{4,}|passw0rd|AKIA\w+|wJalr\S+|eyJ\w+|PRIVATE KEY|pk-lf\S+|some-secret-value")


def all_text(translation: Translation) -> str:
    """Everything that gets out of an import."""
    return repr(translation) + (translation.text or "")


def setting_paths(value: object, path: Place = ()) -> Iterator[Place]:
    """Every key of every mapping, the inner ones too."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from setting_paths(inner, (*path, name))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from setting_paths(inner, (*path, i))


def otherwise(value: Any, path: Place) -> Iterator[Any]:
    """Without the setting at `path`; and with another value, where leaving it out could mean just what it says."""
    other = {"api_key": "os.environ/ANOTHER_KEY", "api_base": "https://another.acme.example/v1"}
    other["routing_strategy"] = "least-busy"
    for change in (None, other.get(str(path[-1]))):
        result = copy.deepcopy(value)
        place = result
        for part in path[:-1]:
            place = place[part]
        if change is None:
            del place[path[-1]]
        else:
            place[path[-1]] = change
        yield result


def outcome(value: Any) -> object:
    try:
        translation = of(yaml.safe_dump(value, sort_keys=False))
    except ConfigErrors:
        return None
    return translation.text, translation.lost


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_that_nothing_is_said_of_has_an_effect(name: str) -> None:
    value = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    whole = of(yaml.safe_dump(value, sort_keys=False))
    told = {one.setting for one in whole.remarks}
    for path in setting_paths(value):
        if any(dotted(path[:length]) in told for length in range(1, len(path) + 1)):
            continue
        has_effect = any(outcome(other) != (whole.text, whole.lost) for other in otherwise(value, path))
        is_told_inside = any(one.startswith(dotted(path)) for one in told)
        assert has_effect or is_told_inside, f"{dotted(path)} could be left out, and nobody says so"


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_setting_anywhere_is_told_with_its_line(name: str) -> None:
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    tried = 0
    for i, line in enumerate(lines):
        match = re.match(r"( *)(?:model|litellm_params|(?:router|litellm|general)_settings):", line)
        if match is None or "{" in line:
            continue
        if line.rstrip().endswith(":"):
            indent = match[1] + "  " * (1 if "settings" in line else 0)
            at = i + 1 if "settings" in line else i
        else:
            indent, at = match[1], i + 1
        text = "\n".join([*lines[:at], f"{indent}quite_unheard_of: 1", *lines[at:]])
        remarks = of(text).remarks
        own = [one for one in remarks if "quite_unheard_of" in one.setting]
        lost = [
            one
            for one in remarks
            if one.kind in ("lost", "dropped") and re.fullmatch(r"model_list\[\d+\]", one.setting)
        ]
        assert [one.line for one in own] == [at + 1] or lost, line
        tried += bool(own)
    assert tried > 1


@pytest.mark.parametrize("name", NAMES)
def test_no_key_of_the_input_gets_out(name: str) -> None:
    secrets = set(SECRETS.findall((FOLDER / f"{name}.yaml").read_text()))
    out = all_text(made(name))
    assert [one for one in secrets if one in out] == []


def test_the_samples_have_keys_that_could_get_out() -> None:
    found = {one for name in NAMES for one in SECRETS.findall((FOLDER / f"{name}.yaml").read_text())}
    assert len(found) > 10


@pytest.mark.parametrize(
    "more",
    [
        "extra_body: {upstream_api_key: hidden-1234}",
        "extra_body: {nested: {password: hidden-1234}}",
        "user: sk-hidden-1234",
        "timeout: hidden-1234",
        "timeout: [hidden-1234]",
        "api_base: 'https://me:hidden-1234@llm.example/v1'",
        "api_base: 'https://llm.example/v1?key=hidden-1234'",
        "aws_secret_access_key: hidden-1234",
        "extra_headers: {Authorization: hidden-1234}",
    ],
)
def test_a_key_in_an_unlikely_place_does_not_get_out(more: str) -> None:
    params = f"{{model: openai/gpt-4o, api_key: os.environ/KEY, max_tokens: 5, {more}}}"
    translation = of(f"model_list:\n  - model_name: m\n    litellm_params: {params}\n")
    assert "hidden-1234" not in all_text(translation)
    assert translation.lost or "set: {max_tokens: 5}" in (translation.text or "")


def test_equal_keys_are_one_variable_and_others_are_not() -> None:
    text = made("keys").text or ""
    assert made("keys").variables == tuple(
        "OPENAI_API_KEY_2 OPENAI_API_KEY_3 OPENAI_API_KEY ANTHROPIC_API_KEY LITELLM_MASTER_KEY".split()
    )
    assert text.count("OPENAI_API_KEY_2") == 1


def test_prefixes_name_vendors_that_are_there_and_none_twice() -> None:
    assert {row.vendor for row in PREFIXES.values()} <= VENDORS.keys()
    assert not PREFIXES.keys() & UNSUPPORTED.keys()


def test_reasons_are_sentences_for_people() -> None:
    reasons = {reason for section in REASONS.values() for reason in section.values()}
    assert all(len(reason) > 15 and not reason.endswith(".") for reason in reasons)


# --- whatever comes in ----------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=12)
NAMES_SENT = ["gpt-4o", "gpt-4", "a/b", "openai/*", "*", "claude-*", "1", "true", "a b", "x,y", "12:30", "#c"]
NAME = st.one_of(st.sampled_from(NAMES_SENT), TEXT)
MODEL = st.one_of(
    st.builds(
        "{}/{}".format,
        st.sampled_from([*PREFIXES, *UNSUPPORTED, "unheard-of"]),
        st.one_of(st.sampled_from(["m", "*", "gpt-4o", "org/model:8b", "a b", "claude-*"]), TEXT),
    ),
    NAME,
)
SCALAR = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**6), st.floats(), TEXT, st.just("os.environ/SOME_TIMEOUT")
)
VALUE = st.recursive(
    SCALAR, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3))
)
BASES: list[object] = [None, "nonsense", 7, "http://x", "os.environ/MY_BASE", "http://[::1]:9/v1", "http://0.0.0.0:5"]
BASES += ["http://localhost:1/v1", "https://a.openai.azure.com/", "https://llm.example.com"]
BASES += ["https://user:pass@h/v1", "https://h/v1?key=secret"]
BASE = st.sampled_from(BASES)
KEYS = st.sampled_from(["os.environ/A_KEY", "os.environ/B_KEY", "sk-very-secret", "none", "", 12, "os.environ/"])
INFO = st.dictionaries(st.sampled_from(["id", "mode", "max_input_tokens", "supports_vision"]), SCALAR)
PARAMS = st.fixed_dictionaries(
    {"model": MODEL},
    optional={
        "api_key": KEYS,
        "api_base": BASE,
        "timeout": VALUE,
        "stream_timeout": SCALAR,
        "temperature": VALUE,
        "stop": VALUE,
        "extra_body": VALUE,
        "additional_drop_params": st.lists(TEXT, max_size=3),
        "order": SCALAR,
        "weight": SCALAR,
        "rpm": VALUE,
        "custom_llm_provider": st.sampled_from([None, "openai", "azure", "x"]),
    },
)
ITEM = st.fixed_dictionaries({"model_name": NAME, "litellm_params": PARAMS}, optional={"model_info": INFO})
FALLBACKS = st.lists(st.dictionaries(NAME, st.lists(NAME, max_size=3), max_size=2), max_size=3)
ROUTER = st.fixed_dictionaries(
    {},
    optional={
        "fallbacks": FALLBACKS,
        "context_window_fallbacks": FALLBACKS,
        "content_policy_fallbacks": st.one_of(FALLBACKS, VALUE),
        "default_fallbacks": st.one_of(st.lists(NAME, max_size=3), VALUE),
        "model_group_alias": st.dictionaries(NAME, st.one_of(NAME, VALUE), max_size=3),
        "timeout": SCALAR,
        "num_retries": SCALAR,
    },
)
CONFIG = st.fixed_dictionaries(
    {"model_list": st.lists(ITEM, min_size=1, max_size=5)},
    optional={
        "router_settings": ROUTER,
        "litellm_settings": ROUTER,
        "general_settings": st.fixed_dictionaries({"master_key": KEYS}),
        "environment_variables": st.dictionaries(TEXT, SCALAR, max_size=2),
        "credential_list": VALUE,
    },
)


@settings(max_examples=300, deadline=None)
@given(value=CONFIG)
def test_whatever_comes_in_crossfade_takes_what_goes_out(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    try:
        translation = of(yaml.safe_dump(value, allow_unicode=True, sort_keys=False))
    except ConfigErrors:
        return
    assert "sk-very-secret" not in all_text(translation)
    if translation.text is None:
        assert translation.lost
    else:
        loaded(translation, _folder(tmp_path_factory))


def _folder(factory: pytest.TempPathFactory) -> Path:
    folder = factory.getbasetemp() / "imported"
    folder.mkdir(exist_ok=True)
    return folder
