"""Which class speaks which dialect."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from crossfade.core.target import Dialect, Vendor
from crossfade.providers.anthropic import AnthropicProvider
from crossfade.providers.base import Provider
from crossfade.providers.bedrock import BedrockClaudeProvider, BedrockProvider
from crossfade.providers.cohere import CohereProvider
from crossfade.providers.compatible import VENDORS
from crossfade.providers.gemini import GeminiProvider
from crossfade.providers.ollama import OllamaProvider
from crossfade.providers.openai import OpenAIProvider
from crossfade.providers.openai_responses import ResponsesProvider
from crossfade.providers.vertex import VertexClaudeProvider, VertexProvider

__all__ = ["VENDORS", "provider_for", "versioned"]

_BY_DIALECT: Final[Mapping[Dialect, Callable[[Vendor], Provider]]] = MappingProxyType(
    {
        "openai": OpenAIProvider,
        "responses": ResponsesProvider,
        "anthropic": AnthropicProvider,
        "gemini": GeminiProvider,
        "bedrock": BedrockProvider,
        "cohere": CohereProvider,
        "ollama": OllamaProvider,
    }
)
_BY_CLOUD: Final[Mapping[str, Callable[[Vendor], Provider]]] = MappingProxyType(
    {"invoke_model": BedrockClaudeProvider, "vertex": VertexProvider, "raw_predict": VertexClaudeProvider}
)
"""Those of a cloud that carries a dialect's bodies by an API of its own (`Vendor.via`)."""


_VERSIONS: Final[Mapping[Dialect, str]] = MappingProxyType(
    {"anthropic": "/v1", "gemini": "/v1beta", "cohere": "/v2", "ollama": "/api"}
)
_VERSION: Final = re.compile(r"/v\d+(?:(?:alpha|beta)\d*)?$")


def versioned(vendor: Vendor) -> str:
    """A vendor's `base_url` with the API's version, or what stands for one, at its end. The vendors' own SDKs take base
    URLs without it and add it themselves (Anthropic's `/v1`, Google's `/v1beta`, Cohere's `/v2`, Ollama's `/api`), so
    people have both; OpenAI's is part of the base URL, and the paths of clouds have their own."""
    base_url = vendor.base_url.rstrip("/")
    version = None if vendor.via else _VERSIONS.get(vendor.dialect)
    is_there = version is None or base_url.endswith(version) or _VERSION.search(base_url)
    return base_url if version is None or is_there else base_url + version


def provider_for(vendor: Vendor) -> Provider:
    """The provider of a vendor's row (its own, or one changed by configuration, such as another base URL)."""
    return (_BY_CLOUD[vendor.via] if vendor.via else _BY_DIALECT[vendor.dialect])(vendor)
