"""The beginnings of LiteLLM's model names (`azure/...`), and where each leads in crossfade.

A row says only what LiteLLM's documentation says of the prefix: its key variable, its address. What crossfade has no
dialect for is named with the reason.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

import msgspec

from crossfade.config.addresses import is_own_host
from crossfade.core.target import Vendor


class Prefix(msgspec.Struct, frozen=True, kw_only=True):
    """One prefix. `vendor` is crossfade's row. `key` is the variable that LiteLLM reads without `api_key`; None where
    servers commonly need no key. `base_url` is the address of vendors that crossfade has no row of; `base_variable`
    is where LiteLLM reads it without `api_base`. `path` ends an `api_base`, which LiteLLM takes without it."""

    vendor: str
    key: str | None = None
    base_url: str | None = None
    base_variable: str | None = None
    path: str = ""
    is_local: bool = False


def _compatible(key: str, base_url: str) -> Prefix:
    return Prefix(vendor="compatible", key=key, base_url=base_url)


PREFIXES: Final[Mapping[str, Prefix]] = MappingProxyType(
    {
        "openai": Prefix(vendor="openai", key="OPENAI_API_KEY"),
        "azure": Prefix(vendor="azure", key="AZURE_API_KEY", base_variable="AZURE_API_BASE", path="/openai/v1"),
        "anthropic": Prefix(vendor="anthropic", key="ANTHROPIC_API_KEY"),
        "gemini": Prefix(vendor="gemini", key="GEMINI_API_KEY"),
        "mistral": Prefix(vendor="mistral", key="MISTRAL_API_KEY"),
        "groq": Prefix(vendor="groq", key="GROQ_API_KEY"),
        "deepseek": Prefix(vendor="deepseek", key="DEEPSEEK_API_KEY"),
        "xai": Prefix(vendor="xai", key="XAI_API_KEY"),
        "openrouter": Prefix(vendor="openrouter", key="OPENROUTER_API_KEY"),
        "together_ai": Prefix(vendor="together", key="TOGETHERAI_API_KEY"),
        "fireworks_ai": Prefix(vendor="fireworks", key="FIREWORKS_AI_API_KEY"),
        "cerebras": Prefix(vendor="cerebras", key="CEREBRAS_API_KEY"),
        "perplexity": Prefix(vendor="perplexity", key="PERPLEXITYAI_API_KEY"),
        "cohere": Prefix(vendor="cohere", key="COHERE_API_KEY"),
        "cohere_chat": Prefix(vendor="cohere", key="COHERE_API_KEY"),
        "moonshot": Prefix(vendor="moonshot", key="MOONSHOT_API_KEY"),
        "zai": Prefix(vendor="zai", key="ZAI_API_KEY"),
        "vercel_ai_gateway": Prefix(vendor="vercel-gateway", key="VERCEL_AI_GATEWAY_API_KEY"),
        "databricks": Prefix(vendor="databricks", key="DATABRICKS_API_KEY", base_variable="DATABRICKS_API_BASE"),
        "ollama": Prefix(vendor="ollama-native", path="/api", is_local=True),
        "ollama_chat": Prefix(vendor="ollama-native", path="/api", is_local=True),
        "hosted_vllm": Prefix(vendor="vllm", base_variable="HOSTED_VLLM_API_BASE", is_local=True),
        "llamafile": Prefix(vendor="llamacpp", is_local=True),
        "lm_studio": Prefix(vendor="compatible", base_variable="LM_STUDIO_API_BASE", is_local=True),
        "litellm_proxy": Prefix(
            vendor="compatible", key="LITELLM_PROXY_API_KEY", base_variable="LITELLM_PROXY_API_BASE", is_local=True
        ),
        "xinference": Prefix(vendor="compatible", is_local=True),
        "openai_like": Prefix(vendor="compatible"),
        "custom_openai": Prefix(vendor="compatible"),
        "nvidia_nim": _compatible("NVIDIA_NIM_API_KEY", "https://integrate.api.nvidia.com/v1"),
        "sambanova": _compatible("SAMBANOVA_API_KEY", "https://api.sambanova.ai/v1"),
        "deepinfra": _compatible("DEEPINFRA_API_KEY", "https://api.deepinfra.com/v1/openai"),
        "meta_llama": _compatible("LLAMA_API_KEY", "https://api.llama.com/compat/v1"),
        "volcengine": _compatible("VOLCENGINE_API_KEY", "https://ark.cn-beijing.volces.com/api/v3"),
        "codestral": _compatible("CODESTRAL_API_KEY", "https://codestral.mistral.ai/v1"),
        "github": _compatible("GITHUB_API_KEY", "https://models.inference.ai.azure.com"),
        "friendliai": _compatible("FRIENDLI_TOKEN", "https://api.friendli.ai/serverless/v1"),
    }
)
"""Prefixes that can be carried over."""

_BEDROCK: Final = "LiteLLM's name says neither region nor key; add a provider with vendor bedrock by hand"
_SAGEMAKER: Final = "crossfade does not speak SageMaker's API"
_VERTEX: Final = "Vertex AI needs a Google service account, which crossfade does not sign in with yet; the same models"
UNSUPPORTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "bedrock": _BEDROCK,
        "bedrock_converse": _BEDROCK,
        "sagemaker": _SAGEMAKER,
        "sagemaker_chat": _SAGEMAKER,
        "vertex_ai": f"{_VERTEX} are at Gemini's own API (gemini/...) with a key",
        "vertex_ai_beta": f"{_VERTEX} are at Gemini's own API (gemini/...) with a key",
        "azure_ai": "Azure AI Foundry is not in crossfade's rows; add a provider with its OpenAI-compatible base_url",
        "azure_text": "it is called by the completions API, and crossfade takes chat only",
        "text-completion-openai": "it is called by the completions API, and crossfade takes chat only",
        "huggingface": "LiteLLM's names there have an inference provider in them; add vendor huggingface by hand",
        "cloudflare": "LiteLLM calls Cloudflare's own API; add vendor cloudflare with its OpenAI-compatible base_url",
        "snowflake": "LiteLLM calls Snowflake's own API; add vendor snowflake with its OpenAI-compatible base_url",
        "vllm": "LiteLLM runs the model in its own process; crossfade calls servers only (`vllm serve`)",
    }
)
"""Prefixes that cannot, and why."""

_INFERRED: Final = {
    **dict.fromkeys(("ft:gpt-", "gpt-", "chatgpt-", "o1", "o3", "o4"), "openai"),
    "claude-": "anthropic",
    "command-": "cohere_chat",
}
"""Beginnings of names that LiteLLM knows without a prefix."""
_NO_CHAT: Final = re.compile(r"embed|rerank|moderation|dall-e|gpt-image|whisper|transcribe|(^|[-/])tts(-|$)")
GENERIC: Final = frozenset({"openai", "openai_like", "custom_openai"})
"""Prefixes that say nothing of whose server it is."""
CHAT_MODES: Final = ("chat", "completion", "responses")


def split_model(model: str, provider: object) -> tuple[str | None, str]:
    """LiteLLM's prefix of `model` and the model's own id; `provider` is `custom_llm_provider`. The prefix is None
    where nothing says it."""
    head, slash, rest = model.partition("/")
    if isinstance(provider, str) and provider:
        return provider, rest if slash and head == provider else model
    if slash and rest and (head in PREFIXES or head in UNSUPPORTED):
        return head, rest
    for beginning, prefix in _INFERRED.items():
        if model.startswith(beginning):
            return prefix, model
    return (head, rest) if slash and rest else (None, model)


def is_chat(model: str, mode: object) -> bool:
    """Whether a model answers chats: by its `mode`, else by the look of its name."""
    return mode in CHAT_MODES if isinstance(mode, str) else _NO_CHAT.search(model.lower()) is None


def vendor_at(base_url: str, host: str, vendors: Mapping[str, Vendor]) -> str | None:
    """The vendor whose own API `base_url` with `host` is."""
    for row in vendors.values():
        if is_own_host(row, base_url) and ":" not in host and row.auth != "none":
            return row.name
    return None


def host_label(base_url: str | None) -> str | None:
    """What tells a server from others: the first telling part of its name, or its port; None where only the
    environment knows."""
    parts = urlsplit(base_url or "")
    host = parts.hostname or ""
    if not host or "$" in host:
        return None
    try:
        ipaddress.ip_address(host)
    except ValueError:
        labels = [part for part in host.split(".")[:-1] if part not in ("api", "www")]
        label = labels[0] if labels else host.split(".")[0]
        if host != "localhost" and label[:1].isalnum() and label.isascii():
            return label
    return str(parts.port or 80)
