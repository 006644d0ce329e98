"""What a LiteLLM configuration becomes: names that go on working, chains, keys, times."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from crossfade.config.directory import Directory
from crossfade.config.schema import FileShape
from crossfade.config.settings import Config
from crossfade.config.shape import json_schema
from crossfade.core.errors import ConfigError
from crossfade.core.failure import DEFAULT_FALLBACK, FailureReason
from crossfade.core.policy import ConcurrencyPolicy
from crossfade.core.target import Pool
from tests.config.litellm.samples import EXPECTED, FOLDER, NAMES, loaded, made, model, of, said

ONE = "model_list:\n" + model("gpt-4o", "openai/gpt-4o", api_key="os.environ/OPENAI_API_KEY")


def targets(directory: Directory, name: str) -> list[str]:
    route = directory.route_for(name)
    return [] if route is None else [rung.name for rung in route.chain]


@pytest.mark.parametrize("name", NAMES)
def test_the_output_is_what_a_person_would_have_written(name: str) -> None:
    assert made(name).text == (EXPECTED / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_the_output_passes_the_check_without_a_word_about_keys(name: str, tmp_path: Path) -> None:
    config = loaded(made(name), tmp_path)
    assert not [warning for warning in config.warnings if "unencrypted" in warning or "auth" in warning]


@pytest.mark.parametrize("name", NAMES)
def test_the_output_fits_the_published_schema(name: str) -> None:
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    validator = jsonschema_rs.validator_for(json_schema(FileShape, "crossfade.yaml"))
    validator.validate(yaml.safe_load(made(name).text or ""))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_that_applications_send_is_served_or_said_to_be_lost(name: str, tmp_path: Path) -> None:
    translation = made(name)
    directory = Directory(loaded(translation, tmp_path))
    items = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["model_list"]
    lost = {one.setting for one in translation.lost}
    served = {item["model_name"] for i, item in enumerate(items) if f"model_list[{i}]" not in lost}
    for i, item in enumerate(items):
        sent = item["model_name"].replace("*", "gpt-4o" if "openai" in item["model_name"] else "3-5-sonnet")
        assert bool(targets(directory, sent)) or item["model_name"] not in served, f"{i}: {sent}"
    assert served


def test_a_single_provider_needs_no_more_than_its_key(tmp_path: Path) -> None:
    config = loaded(of(ONE), tmp_path)
    assert [str(key) for key in config.providers["openai"].api_keys] == ["env:OPENAI_API_KEY"]
    assert targets(Directory(config), "gpt-4o") == ["openai/gpt-4o"]


def test_several_deployments_are_pools_by_order(tmp_path: Path) -> None:
    config = loaded(made("deployments"), tmp_path)
    directory = Directory(config)
    chain = ["azure-acme-france/gpt-4o-fr", "azure-acme-canada/gpt-4o-ca", "openai/gpt-4o"]
    assert targets(directory, "gpt-4o") == chain
    assert targets(directory, "gpt-4") == chain, "the name of an alias"
    pool, last = config.routes["gpt-4o"].links
    assert isinstance(pool, Pool) and pool.policy == "headroom" and last.name == "openai/gpt-4o"
    assert [member.link.name for member in pool.members] == chain[:2]
    ((line, kind, reason),) = said(made("deployments"), "router_settings.routing_strategy")
    assert (line, kind) == (56, "changed") and "left of their limits" in reason
    ((_, kind, _),) = said(made("deployments"), "model_list[0].litellm_params.weight")
    assert kind == "dropped", "that strategy looks at no weights"


def weights(config: Config, name: str) -> dict[str, float]:
    (pool,) = config.routes[name].links
    assert isinstance(pool, Pool) and pool.policy == "weighted"
    return {member.link.name: member.weight for member in pool.members}


def test_requests_are_shared_as_they_were(tmp_path: Path) -> None:
    config = loaded(made("pools"), tmp_path)
    assert weights(config, "by-weight") == {"openai/gpt-4o": 1.0, "xai/grok-4": 3.0, "deepseek/deepseek-chat": 0.0}
    assert weights(config, "by-rpm") == {"openai/gpt-4o": 600.0, "xai/grok-4": 1200.0}
    assert weights(config, "twice") == {"openai/gpt-4o": 2.0, "xai/grok-4": 1.0}
    assert weights(config, "alike") == {"openai/gpt-4o": 1.0, "xai/grok-4": 1.0}
    ((_, kind, reason),) = said(made("pools"), "model_list[3].litellm_params.rpm")
    assert kind == "changed" and "no limit" in reason
    fallback = config.routes["solo"].links
    assert [link.name for link in fallback] == ["mistral/mistral-small-latest", "routes.solo.chain[1]"]
    assert config.routes["bounded"].chain[0].targets[0].concurrency == ConcurrencyPolicy(4, 4)


@pytest.mark.parametrize(
    ("strategy", "policy", "kind"),
    [
        ("simple-shuffle", "weighted", None),
        ("least-busy", "least_requests", None),
        ("latency-based-routing", "fastest", "changed"),
        ("usage-based-routing-v2", "headroom", "changed"),
        ("cost-based-routing", "cheapest", None),
        ("of-tomorrow", "weighted", "dropped"),
    ],
)
def test_a_strategy_is_the_policy_of_the_pools(strategy: str, policy: str, kind: str | None, tmp_path: Path) -> None:
    two = model("m", "openai/gpt-4o") + model("m", "xai/grok-4")
    translation = of(f"model_list:\n{two}router_settings: {{routing_strategy: {strategy}}}\n")
    (pool,) = loaded(translation, tmp_path).routes["m"].links
    assert isinstance(pool, Pool) and pool.policy == policy
    assert [one[1] for one in said(translation, "router_settings.routing_strategy")] == ([kind] if kind else [])
    alone = of(f"model_list:\n{model('m', 'openai/gpt-4o')}router_settings: {{routing_strategy: {strategy}}}\n")
    assert [one[1] for one in said(alone, "router_settings.routing_strategy")] == ["dropped"]


def test_keys_that_do_the_same_share_one_target_and_others_do_not(tmp_path: Path) -> None:
    config = loaded(made("deployments"), tmp_path)
    assert [len(rung.targets) for rung in config.routes["mini"].chain] == [2]
    assert [rung.name.partition("/")[0] for rung in config.routes["teams"].chain] == ["mistral", "mistral-2"]
    assert [str(key) for key in config.providers["mistral"].api_keys] == ["env:MISTRAL_KEY_A"]


def test_a_long_chain_can_be_asked_to_its_end(tmp_path: Path) -> None:
    route = loaded(made("deployments"), tmp_path).routes["everything"]
    assert len(route.chain) == 5 and route.policy.retry.max_attempts == 6


def test_fallbacks_go_on_to_the_fallbacks_of_the_name_they_reach(tmp_path: Path) -> None:
    config = loaded(made("fallbacks"), tmp_path)
    smart = ["anthropic/claude-opus-4-1", "gemini/gemini-2.5-pro", "mistral/mistral-large-latest"]
    assert [rung.name for rung in config.routes["fast"].chain] == ["openai/gpt-4o-mini", *smart]
    assert [rung.name for rung in config.routes["alone"].chain] == ["groq/llama-3.3-70b-versatile"]
    assert [rung.name for rung in config.fallbacks["*"]] == ["openai/gpt-4o-mini", *smart]


def test_fallbacks_for_one_failure_only_stay_for_that_failure(tmp_path: Path) -> None:
    routes = loaded(made("fallbacks"), tmp_path).routes
    assert routes["narrow"].policy.fallback_on == {FailureReason.CONTEXT_OVERFLOW}
    assert routes["strict"].policy.fallback_on == {FailureReason.CONTENT_FILTER}
    assert routes["fast"].policy.fallback_on == {*DEFAULT_FALLBACK, FailureReason.CONTENT_FILTER}
    assert routes["smart"].policy.fallback_on == DEFAULT_FALLBACK
    assert [kind for _, kind, _ in said(made("fallbacks"), "litellm_settings.context_window_fallbacks[0].fast[0]")] == [
        "changed"
    ]
    assert not said(made("fallbacks"), "litellm_settings.context_window_fallbacks[1].narrow[0]")


def test_default_fallbacks_are_behind_names_without_their_own(tmp_path: Path) -> None:
    text = (
        "model_list:\n"
        + model("a", "openai/gpt-4o", api_key="os.environ/KEY")
        + model("b", "anthropic/claude-opus-4-1", api_key="os.environ/KEY")
        + model("c", "gemini/gemini-2.5-pro", api_key="os.environ/KEY")
        + "litellm_settings: {default_fallbacks: [c], fallbacks: [{a: [b]}]}\n"
    )
    directory = Directory(loaded(of(text), tmp_path))
    chain = ["openai/gpt-4o", "anthropic/claude-opus-4-1", "gemini/gemini-2.5-pro"]
    assert targets(directory, "a") == chain, "and behind its fallbacks, as LiteLLM goes on"
    assert targets(directory, "b") == ["anthropic/claude-opus-4-1", "gemini/gemini-2.5-pro"]
    assert targets(directory, "never-heard-of") == ["gemini/gemini-2.5-pro"]


def test_the_router_s_settings_win_over_litellm_s() -> None:
    text = (
        ONE + "router_settings: {timeout: 9, num_retries: 0}\nlitellm_settings: {request_timeout: 60, num_retries: 3}\n"
    )
    translation = of(text)
    assert "attempt_timeout: 9s" in (translation.text or "") and "60s" not in (translation.text or "")
    assert said(translation, "litellm_settings.request_timeout")[0][1] == "dropped"
    assert "retry: {max_wait: 0s, delay: 0s}" in (translation.text or "")


def test_wildcards_are_served_by_the_name_of_the_provider(tmp_path: Path) -> None:
    directory = Directory(loaded(made("wildcards"), tmp_path))
    behind = ["house/llama-3.3"]
    assert targets(directory, "together_ai/meta-llama/Llama-3") == ["together_ai/meta-llama/Llama-3", *behind]
    assert targets(directory, "house/anything") == ["house/anything", *behind]
    assert targets(directory, "claude-3-5-sonnet") == ["anthropic/claude-3-5-sonnet", *behind]
    assert targets(directory, "gpt-3.5-turbo-16k") == ["openai/gpt-4o-mini", *behind]
    assert targets(directory, "openai/gpt-4o")[:2] == ["openai/gpt-4o", "anthropic/claude-sonnet-4-5"]
    assert targets(directory, "openai/gpt-4.1") == ["openai/gpt-4.1", *behind]
    assert {one.setting for one in made("wildcards").lost} == {"model_list[6]", "model_list[7]"}


def test_azure_is_called_by_its_undated_api(tmp_path: Path) -> None:
    config = loaded(made("azure"), tmp_path)
    urls = {name: provider.vendor.base_url for name, provider in config.providers.items()}
    assert urls == {
        "azure-acme-eu": "https://acme-eu.openai.azure.com/openai/v1",
        "azure-acme-us": "https://acme-us.openai.azure.com/openai/v1",
        "azure": "https://set.acme.example/openai/v1",
    }
    assert {provider.vendor.auth for provider in config.providers.values()} == {"api-key"}
    assert said(made("azure"), "model_list[0].litellm_params.api_version")[0][:2] == (7, "dropped")


def test_cohere_is_called_by_its_own_api(tmp_path: Path) -> None:
    text = "model_list:\n" + "".join(
        model(name, "cohere_chat/command-a-03-2025", api_key="os.environ/CO", **at)
        for name, at in (
            ("a", {}),
            ("b", {"api_base": "https://api.cohere.com/v2/chat"}),
            ("c", {"api_base": "https://gate.example/cohere/v1/chat"}),
        )
    )
    text += model("d", "cohere/command-r-08-2024", api_base="os.environ/AT", api_key="os.environ/CO")
    providers = loaded(of(text), tmp_path).providers
    found = {one.vendor.base_url for one in providers.values()}
    assert found == {"https://api.cohere.com/v2", "https://gate.example/cohere"}
    assert {one.vendor.dialect for one in providers.values()} == {"cohere"}
    assert [one.setting for one in of(text).lost] == ["model_list[3]"]


def test_servers_of_the_house_may_have_private_addresses(tmp_path: Path) -> None:
    providers = loaded(made("local"), tmp_path).providers
    assert {name for name, one in providers.items() if one.network == "private"} == {"vllm", "lm_studio"}
    assert providers["local-8001"].vendor.base_url == "http://127.0.0.1:8001/v1"
    assert providers["local-8001"].models["Qwen/Qwen2.5-72B-Instruct"].window == 32768


def test_no_key_goes_to_an_address_that_the_file_names_none_for(tmp_path: Path) -> None:
    providers = loaded(made("local"), tmp_path).providers
    keyed = {name for name, one in providers.items() if one.api_keys}
    assert keyed == {"llm", "nvidia_nim"}
    assert said(made("local"), "model_list[7].litellm_params.api_base")[0][1] == "changed"


def test_parameters_and_times_of_a_deployment_are_its_target_s(tmp_path: Path) -> None:
    routes = loaded(made("single"), tmp_path).routes
    mini, reasoner = (routes[name].chain[0].targets[0] for name in ("gpt-4o-mini", "reasoner"))
    assert dict(mini.set_params) == {"temperature": b"0.2", "max_tokens": b"800"}
    assert mini.timeouts.attempt == 60.0, "the default of all"
    assert (reasoner.timeouts.attempt, reasoner.timeouts.first_content) == (300.0, 90.0)
    assert reasoner.drop_params == ("temperature", "top_p") and reasoner.window == 200_000


def test_times_from_the_environment_stay_there(tmp_path: Path) -> None:
    text = "model_list:\n" + model("m", "openai/gpt-4o", api_key="os.environ/KEY", timeout="os.environ/MY_TIMEOUT")
    translation = of(text)
    assert translation.variables == ("KEY", "MY_TIMEOUT")
    assert loaded(translation, tmp_path).routes["m"].chain[0].targets[0].timeouts.attempt == 7.0


def test_the_master_key_is_a_gateway_key_by_reference(tmp_path: Path) -> None:
    text = ONE + "general_settings: {master_key: os.environ/PROXY_KEY}\n"
    config = loaded(of(text), tmp_path)
    assert [key.name for key in config.gateway_keys] == ["master"] and config.wants_keys
    assert "{name: master, key: env:PROXY_KEY}" in (of(text).text or "")
    from_variables = ONE + "environment_variables: {LITELLM_MASTER_KEY: os.environ/OTHER}\n"
    assert "key: env:LITELLM_MASTER_KEY" in (of(from_variables).text or "")
    assert said(of(from_variables), "environment_variables.LITELLM_MASTER_KEY")[0][1] == "to_do"


def test_a_master_key_that_crossfade_would_refuse_is_told() -> None:
    ((line, kind, reason),) = said(made("keys"), "general_settings.master_key")
    assert (line, kind) == (34, "to_do") and "fewer than 20 characters" in reason


def test_a_credential_by_name_is_the_deployment_s(tmp_path: Path) -> None:
    config = loaded(made("keys"), tmp_path)
    assert [str(key) for key in config.providers["anthropic"].api_keys] == ["env:ANTHROPIC_API_KEY"]
    assert said(made("keys"), "credential_list[1]")[0][1] == "dropped"


def test_a_model_that_nothing_serves_has_no_route(tmp_path: Path) -> None:
    translation = made("clouds")
    assert list(loaded(translation, tmp_path).routes) == ["gpt-4o"]
    assert [one.line for one in translation.lost] == [3, 9, 24, 28, 31, 35]
    ((_, kind, reason),) = said(translation, "model_list[3]")
    assert kind == "dropped" and "which others serve" in reason


def test_an_input_without_a_model_for_crossfade_has_no_output() -> None:
    translation = of("model_list:\n" + model("claude", "bedrock/anthropic.claude-v2"))
    assert translation.text is None and len(translation.lost) == 1


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, "model_list: has no list of models"),
        ("model_list: []\n", 1, "model_list: has no list of models"),
        ("litellm_settings: {}\nmodel_list:\n", 2, "model_list: has no list of models"),
        ("- a\n", 1, "is no LiteLLM configuration"),
        ("model_list:\n  - litellm_params: {model: a}\n", 2, "model_list[0]: has no model_name"),
        ("model_list:\n  - model_name: a\n", 2, "model_list[0]: has no litellm_params.model"),
        ("model_list:\n  - {model_name: a, litellm_params: {model: 7}}\n", 2, "has no litellm_params.model"),
        ("model_list:\n\t- a\n", 2, "indented with a tab"),
        ("a: 1\na: 2\n", 2, "a: this key is here twice"),
        ("model_list: [\n", 2, "not valid YAML"),
    ],
)
def test_what_is_no_configuration_is_told_by_line(text: str, line: int | None, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of(text)
    first = str(caught.value).splitlines()[0]
    assert first.startswith("config.yaml: " if line is None else f"config.yaml:{line}: ") and words in first


@pytest.mark.parametrize("name", ["<model>", "#1", "modèle", "-x-", "a|b"])
def test_a_name_that_no_route_can_have_is_matched_by_one(name: str, tmp_path: Path) -> None:
    text = "model_list:\n" + model(name, "openai/gpt-4o", api_key="os.environ/KEY")
    assert targets(Directory(loaded(of(text), tmp_path)), name) == ["openai/gpt-4o"]


def test_dollar_signs_of_the_input_stand_for_themselves(tmp_path: Path) -> None:
    text = "model_list:\n" + model("${HOME}", "openai/gpt-4o", api_key="os.environ/KEY", stop='["${X}"]', seed=3)
    translation = of(text)
    assert targets(Directory(loaded(translation, tmp_path)), "${HOME}") == ["openai/gpt-4o"]
    assert said(translation, "model_list[0].litellm_params.stop")[0][1] == "dropped"


def test_anchors_and_merge_keys_are_read_as_litellm_reads_them(tmp_path: Path) -> None:
    text = """\
base: &base {api_key: os.environ/OPENAI_API_KEY, timeout: 20}
model_list:
  - model_name: one
    litellm_params: {<<: *base, model: openai/gpt-4o}
  - model_name: two
    litellm_params: {<<: *base, model: openai/gpt-4.1, timeout: 5}
"""
    routes = loaded(of(text), tmp_path).routes
    assert [route.chain[0].targets[0].timeouts.attempt for route in routes.values()] == [20.0, 5.0]
