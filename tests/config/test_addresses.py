"""Which API a `base_url` leads to: Azure's several ones, and whose host it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfade.cli.check import summary
from crossfade.config.addresses import is_own_host
from crossfade.config.catalogue import facts_of
from crossfade.config.loader import load_config
from crossfade.config.problems import ConfigErrors
from crossfade.config.secrets import SecretRef
from crossfade.config.settings import Config
from crossfade.core.target import Vendor
from crossfade.providers.compatible import VENDORS

ENVIRON = {"AZURE_OPENAI_API_KEY": "azure-0123456789", "HOME": "/nowhere"}
RESOURCE = "https://r.openai.azure.com"


def load(folder: Path, text: str) -> Config:
    file = folder / "crossfade.yaml"
    file.write_text(text)
    return load_config(file, ENVIRON, VENDORS)


def vendor_of(folder: Path, settings: str, name: str = "azure") -> Vendor:
    (provider,) = load(folder, f"providers: {{{name}: {{{settings}}}}}").providers.values()
    return provider.vendor


@pytest.mark.parametrize(
    ("settings", "base_url", "api_version", "model_in_path"),
    [
        (f"base_url: {RESOURCE}/openai/v1/", f"{RESOURCE}/openai/v1", "", False),
        (f"base_url: {RESOURCE}/openai/v1, api_version: preview", f"{RESOURCE}/openai/v1", "preview", False),
        (f"base_url: {RESOURCE}, api_version: 2024-10-21", f"{RESOURCE}/openai", "2024-10-21", True),
        (f"base_url: {RESOURCE}/openai/, api_version: 2024-10-21", f"{RESOURCE}/openai", "2024-10-21", True),
        (
            "base_url: https://r.services.ai.azure.com/models, api_version: 2024-05-01-preview",
            "https://r.services.ai.azure.com/models", "2024-05-01-preview", False,
        ),
        (  # a gateway of one's own in front, as the vendor's SDK takes it
            "base_url: https://gate.example/team, api_version: 2024-10-21, api_keys: []",
            "https://gate.example/team/openai", "2024-10-21", True,
        ),
        ("base_url: https://gate.example/team, api_keys: []", "https://gate.example/team", "", False),
    ],
)  # fmt: skip
def test_the_apis_of_azure(tmp_path: Path, settings: str, base_url: str, api_version: str, model_in_path: bool) -> None:
    vendor = vendor_of(tmp_path, settings)
    assert (vendor.base_url, vendor.api_version, vendor.model_in_path) == (base_url, api_version, model_in_path)
    assert vendor.auth == "api-key"


@pytest.mark.parametrize(
    ("api_version", "is_new"),
    [("2024-02-01", False), ("2024-08-01-preview", False), ("2024-09-01-preview", True), ("2024-10-21", True),
     ("preview", True), ("latest", True), ("v1", True)],
)  # fmt: skip
def test_old_versions_get_no_newer_parameters(tmp_path: Path, api_version: str, is_new: bool) -> None:
    vendor = vendor_of(tmp_path, f"base_url: {RESOURCE}, api_version: {api_version}")
    assert vendor.include_usage is is_new
    assert vendor.max_tokens_field == ("max_completion_tokens" if is_new else "max_tokens")


@pytest.mark.parametrize(
    ("settings", "field", "words"),
    [
        ("", "", "base_url is missing; say where the resource is, as in https://RESOURCE.openai.azure.com/openai/v1"),
        (f"base_url: {RESOURCE}", ".base_url", "end it with /openai/v1"),
        (f"base_url: {RESOURCE}/openai", ".base_url", "add api_version: 2024-10-21 for the API with deployments"),
        ("base_url: https://r.services.ai.azure.com/models", ".base_url", "add api_version: 2024-05-01-preview"),
        (
            f"base_url: '{RESOURCE}/openai/deployments/d/chat/completions?api-version=2024-10-21'",
            ".base_url",
            "write https://RESOURCE.openai.azure.com/openai here, the version beside it, as api_version: 2024-10-21,"
            " and the deployment as the model of a target, as in azure/DEPLOYMENT",
        ),
        (f"base_url: {RESOURCE}/openai/deployments/d", ".base_url", "base_url names a deployment"),
        (f"base_url: {RESOURCE}/openai/deployments", ".base_url", "base_url names a deployment"),
        (f"base_url: '{RESOURCE}/openai/v1?api-version=preview'", ".base_url", "beside it, as api_version: 2"),
        (f"base_url: {RESOURCE}, api_version: soon", ".api_version", "is no version of Azure's API; write its date"),
        (f"base_url: {RESOURCE}, api_version: 2024", ".api_version", "is no version of Azure's API; write its date"),
        ("vendor: openai, api_keys: [], api_version: 2024-10-21", ".api_version", "only Azure's API has such versions"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_what_to_write(
    tmp_path: Path, settings: str, field: str, words: str
) -> None:
    with pytest.raises(ConfigErrors) as caught:
        vendor_of(tmp_path, settings)
    (error,) = caught.value.errors
    assert error.field == f"providers.azure{field}" and words in error.message
    assert "r.openai.azure" not in error.message, "a URL may hold a password, and is in no message"


def test_a_deployment_is_asked_for_and_its_model_is_known(tmp_path: Path) -> None:
    text = f"""\
providers:
  azure:
    base_url: {RESOURCE}/openai/v1
    models: {{gpt-4o-mini: {{deployment: prod-chat}}, text-embedding-3-small: {{deployment: prod-vectors}}}}
  other: {{dialect: openai, base_url: https://x.example/v1, api_keys: []}}
routes:
  chat: {{chain: [azure/gpt-4o-mini, azure/prod-chat]}}
  search: {{chain: [azure/text-embedding-3-small, other/text-embedding-3-small]}}
"""
    config = load(tmp_path, text)
    named, bare = (rung.targets[0] for rung in config.routes["chat"].chain)
    assert (named.name, named.model) == ("azure/gpt-4o-mini", "prod-chat")
    assert (bare.name, bare.model) == ("azure/prod-chat", "prod-chat")
    facts = facts_of("azure", "gpt-4o-mini")
    assert facts is not None and facts.window is not None
    assert (named.window, bare.window) == (facts.window, None)
    vectors = config.routes["search"].chain[0].targets[0]
    assert (vectors.model, vectors.embedding) == ("prod-vectors", "text-embedding-3-small")


def test_check_shows_where_requests_go(tmp_path: Path) -> None:
    text = f"providers: {{azure: {{base_url: {RESOURCE}, api_version: 2024-10-21}}}}"
    shown = "\n".join(summary(load(tmp_path, text)))
    assert f"azure: openai, {RESOURCE}/openai/deployments/MODEL?api-version=2024-10-21, 1 key" in shown


@pytest.mark.parametrize(
    ("url", "vendor"),
    [
        (f"{RESOURCE}/openai/v1", "azure"),
        ("https://r.services.ai.azure.com/openai/v1", "azure"),
        ("https://r.cognitiveservices.azure.com/openai/v1", "azure"),
        ("https://adb-1.2.azuredatabricks.net/serving-endpoints", "databricks"),
        ("https://a.snowflakecomputing.com/api/v2/cortex/v1", "snowflake"),
        ("https://api.cloudflare.com/client/v4/accounts/a/ai/v1", "cloudflare"),
        ("https://bedrock-mantle.us-east-1.api.aws/v1", "bedrock-mantle"),
        ("https://api.together.ai/v1", "together"),
        ("https://router.huggingface.co/together/v1", "huggingface"),
        ("https://api.z.ai/api/coding/paas/v4", "zai"),
        ("https://ollama.com/v1", "ollama"),
    ],
)
def test_a_host_tells_the_vendor(tmp_path: Path, url: str, vendor: str) -> None:
    assert vendor_of(tmp_path, f"base_url: {url}, api_keys: []", "work").name == vendor
    assert [row.name for row in VENDORS.values() if is_own_host(row, url)] == [vendor]


BEDROCK = "https://bedrock-runtime.eu-central-1.amazonaws.com"


@pytest.mark.parametrize(
    ("name", "settings", "vendor"),
    [
        ("work", f"base_url: {BEDROCK}, api_keys: []", "bedrock"),
        ("work", f"base_url: {BEDROCK}, dialect: bedrock, api_keys: []", "bedrock"),
        ("work", f"base_url: {BEDROCK}, dialect: anthropic, api_keys: []", "bedrock-claude"),
        ("work", f"base_url: {BEDROCK}, vendor: bedrock-claude, api_keys: []", "bedrock-claude"),
        ("bedrock-claude", "base_url: 'https://gate.example/aws', api_keys: []", "bedrock-claude"),
        ("bedrock", "base_url: 'https://gate.example/aws', api_keys: []", "bedrock"),
    ],
)
def test_the_apis_of_bedrock(tmp_path: Path, name: str, settings: str, vendor: str) -> None:
    assert vendor_of(tmp_path, settings, name).name == vendor


@pytest.mark.parametrize("name", ["bedrock", "bedrock-claude"])
def test_bedrock_needs_a_region(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigErrors, match=r"say in which region, as in https://bedrock-runtime.us-east-1.amazonaws"):
        load(tmp_path, f"providers: {{{name}: {{api_keys: []}}}}")


VERTEX = "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5"


@pytest.mark.parametrize(
    ("name", "settings", "vendor"),
    [
        ("work", f"base_url: {VERTEX}, dialect: gemini, api_keys: []", "vertex"),
        ("work", f"base_url: {VERTEX}, dialect: anthropic, api_keys: []", "vertex-claude"),
        ("vertex", "base_url: 'https://gate.example/v1beta1/projects/p/locations/global', api_keys: []", "vertex"),
        ("vertex-claude", f"base_url: {VERTEX}/, api_keys: []", "vertex-claude"),
    ],
)
def test_the_apis_of_vertex(tmp_path: Path, name: str, settings: str, vendor: str) -> None:
    assert vendor_of(tmp_path, settings, name).name == vendor


@pytest.mark.parametrize("name", ["vertex", "vertex-claude"])
def test_vertex_needs_a_project_and_a_location(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigErrors, match=r"say in which project and location, as in https://us-east5-aiplatform"):
        load(tmp_path, f"providers: {{{name}: {{api_keys: []}}}}")
    for path in ("", "/v1", "/v1/projects/p", "/v1/projects/p/locations/l/publishers/google"):
        text = f"providers: {{{name}: {{base_url: 'https://aiplatform.googleapis.com{path}', api_keys: []}}}}"
        with pytest.raises(ConfigErrors, match=r"base_url: base_url names no project and location"):
            load(tmp_path, text)


def test_bedrocks_own_key_goes_to_bedrock_alone(tmp_path: Path) -> None:
    own, other = load_config(
        written(
            tmp_path,
            f"providers: {{bedrock: {{base_url: {BEDROCK}}}, bedrock-claude: {{base_url: https://gate.example}}}}",
        ),
        {"AWS_BEARER_TOKEN_BEDROCK": "a-key-of-bedrock"},
        VENDORS,
    ).providers.values()
    assert own.api_keys == (SecretRef("env", "AWS_BEARER_TOKEN_BEDROCK"),) and other.api_keys == ()


def written(folder: Path, text: str) -> Path:
    file = folder / "crossfade.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    "url",
    ["https://openai.azure.com.example/v1", "https://xopenai.azure.com/v1", f"http{RESOURCE[5:]}/openai/v1",
     "https://r.openai.azure.com:8443/openai/v1", "https://api.cloudflare.com.example/v1"],
)  # fmt: skip
def test_no_other_host_is_taken_for_a_vendors(url: str) -> None:
    assert not [row.name for row in VENDORS.values() if is_own_host(row, url)]


def test_the_vendors_own_key_goes_to_an_account_of_the_vendors(tmp_path: Path) -> None:
    own, other = load(
        tmp_path,
        f"providers: {{azure: {{base_url: {RESOURCE}/openai/v1}}, gate: {{vendor: azure, base_url: https://g.example/a}}}}",
    ).providers.values()
    assert own.api_keys == (SecretRef("env", "AZURE_OPENAI_API_KEY"),)
    assert other.api_keys == ()


def test_coheres_other_api_speaks_openais_dialect(tmp_path: Path) -> None:
    other = "base_url: https://api.cohere.ai/compatibility/v1, api_keys: []"
    assert vendor_of(tmp_path, f"{other}, dialect: openai", "cohere").name == "compatible"
    for settings in (other, f"{other}, vendor: cohere", f"{other}, dialect: cohere"):
        with pytest.raises(ConfigErrors, match="add dialect: openai"):
            vendor_of(tmp_path, settings, "work")
    assert vendor_of(tmp_path, "base_url: https://api.cohere.ai, api_keys: []", "work").name == "cohere"


def test_ollamas_own_api_is_a_server_of_ones_own_and_with_a_key_the_cloud(tmp_path: Path) -> None:
    local = vendor_of(tmp_path, "dialect: ollama", "box")
    assert (local.dialect, local.base_url, local.auth) == ("ollama", "http://127.0.0.1:11434/api", "none")
    settings = "dialect: ollama, base_url: 'https://ollama.com', api_keys: [env:AZURE_OPENAI_API_KEY]"
    cloud = vendor_of(tmp_path, settings, "box")
    assert (cloud.dialect, cloud.base_url, cloud.auth) == ("ollama", "https://ollama.com", "bearer")
    assert vendor_of(tmp_path, "dialect: ollama", "ollama").dialect == "ollama"
    assert vendor_of(tmp_path, "vendor: ollama", "box").dialect == "openai"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("dialect: ollama, base_url: 'http://127.0.0.1:11434/v1'", "write dialect: openai, or remove the /v1"),
        ("vendor: ollama, base_url: 'http://127.0.0.1:11434/api'", "add dialect: ollama, or end it with /v1"),
        ("base_url: 'https://ollama.com/api'", "add dialect: ollama, or end it with /v1"),
    ],
)
def test_an_address_of_the_other_api_of_ollama_is_refused(tmp_path: Path, settings: str, words: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        vendor_of(tmp_path, settings, "box")
    (error,) = caught.value.errors
    assert error.field == "providers.box.base_url" and words in error.message
