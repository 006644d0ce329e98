"""What a `base_url` amounts to: whose host it is, and which of a vendor's APIs lies behind it.

Azure has several: one with `/openai/v1`, which is OpenAI's own but for the key's header; an older one with a version
by date, where the model is a deployment in the path; and one with `/models` for the models of other makers, which wants
the date too. Knows nothing of keys.
"""

from __future__ import annotations

import ipaddress
import re
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import urlsplit

import msgspec

from crossfade.core.target import Vendor

AZURE_V1: Final = "https://RESOURCE.openai.azure.com/openai/v1"
VERTEX_AI: Final = "https://us-east5-aiplatform.googleapis.com/v1/projects/PROJECT/locations/us-east5"
VERTEX: Final = ("vertex", "raw_predict")
_IN_A_PROJECT: Final = re.compile(r"/v1(?:beta1)?/projects/[^/]+/locations/[^/]+$")
AZURE_DATED: Final = "https://RESOURCE.openai.azure.com/openai"
_NEWER_PARAMETERS: Final = "2024-09-01"
"""Versions of Azure's API before this day refuse `stream_options` and `max_completion_tokens`."""


def placed(row: Vendor, base_url: str, api_version: str | None) -> Vendor:
    """The row of a vendor at `base_url`, which has no slash at its end. Raises ValueError saying what to write."""
    if row.dialect == "cohere" and "/compatibility/" in f"{urlsplit(base_url).path}/":
        raise ValueError(
            "there Cohere speaks OpenAI's dialect, not its own; add dialect: openai, or write https://api.cohere.com/v2"
        )
    if row.dialect == "ollama" and urlsplit(base_url).path.endswith("/v1"):
        raise ValueError("there Ollama speaks OpenAI's dialect, not its own; write dialect: openai, or remove the /v1")
    if row.name == "ollama" and urlsplit(base_url).path.endswith("/api"):
        raise ValueError("that is Ollama's own API; add dialect: ollama, or end it with /v1")
    if row.via in VERTEX and not _IN_A_PROJECT.search(urlsplit(base_url).path):
        raise ValueError(f"base_url names no project and location; write it as in {VERTEX_AI}")
    if not row.dated_versions:
        if api_version is not None:
            raise ValueError(f"only Azure's API has such versions, and this is the vendor {row.name!r}; remove it")
        return msgspec.structs.replace(row, base_url=base_url)
    path = urlsplit(base_url).path
    if api_version is None:
        if path in ("", "/openai"):
            raise ValueError(
                f"base_url names no API of Azure's; end it with /openai/v1, as in {AZURE_V1}, or add api_version:"
                " 2024-10-21 for the API with deployments in the path"
            )
        if path == "/models":
            raise ValueError("this API of Azure's wants a version; add api_version: 2024-05-01-preview")
        return msgspec.structs.replace(row, base_url=base_url)
    if api_version < _NEWER_PARAMETERS:
        row = msgspec.structs.replace(row, include_usage=False, max_tokens_field="max_tokens")
    if path.endswith(("/v1", "/models")):
        return msgspec.structs.replace(row, base_url=base_url, api_version=api_version)
    base_url = base_url if path.endswith("/openai") else f"{base_url}/openai"
    return msgspec.structs.replace(row, base_url=base_url, api_version=api_version, model_in_path=True)


def missing(row: Vendor) -> str:
    """The sentence for a provider of this row without any `base_url`."""
    if row.dated_versions:
        return (
            f"base_url is missing; say where the resource is, as in {AZURE_V1}, or {AZURE_DATED} with api_version:"
            " 2024-10-21"
        )
    if row.dialect == "bedrock" or row.via == "invoke_model":
        return f"base_url is missing; say in which region, as in https://{row.hosts[0].replace('*', 'us-east-1')}"
    if row.via in VERTEX:
        return f"base_url is missing; say in which project and location, as in {VERTEX_AI}"
    return "base_url is missing; say where the API is, as in https://host/v1"


def is_own_host(row: Vendor, url: str) -> bool:
    """Whether a URL leads to the vendor itself."""
    if row.base_url and origin_of(row.base_url) == origin_of(url):
        return True
    scheme, host, port = origin_of(url)
    return (scheme, port) == ("https", 443) and any(fnmatchcase(host, pattern) for pattern in row.hosts)


def host_of(url: str) -> str:
    """The host of a URL, lower case; empty where it has none."""
    return urlsplit(url).hostname or ""


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)


def is_local_host(host: str) -> bool:
    """Whether a host is this machine or a literal of a private network."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".internal", ".local"))
    return address.is_loopback or address.is_private
