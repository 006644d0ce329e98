"""What the families of models behind Bedrock's Converse take beyond what Converse has fields for, as a table.

Bedrock rejects a whole request for one member that a model does not know, so that what is not listed here is not asked.
Claude's own rules are those of `anthropic_models`. Only names are read here; the request is not.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

Maker = Literal["claude", "nova-2", "nova", "other"]


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """What one family takes.

    `top_k`: the member of `additionalModelRequestFields` that it stands in, with dots for its place. `effort`: how it
    is told to think. `structured`: `outputConfig.textFormat`. `caches`: `cachePoint` blocks.
    """

    maker: Maker = "other"
    top_k: str = ""
    effort: Literal["", "claude", "nova", "plain"] = ""
    structured: bool = False
    caches: bool = False


_OPEN = Family(structured=True)
UNKNOWN: Final = Family()
FAMILIES: Final[tuple[tuple[str, Family], ...]] = (
    ("anthropic.claude-v", Family(maker="claude", top_k="top_k")),
    ("anthropic.claude-instant", Family(maker="claude", top_k="top_k")),
    ("anthropic.claude-3-7", Family(maker="claude", top_k="top_k", effort="claude", caches=True)),
    ("anthropic.claude-3", Family(maker="claude", top_k="top_k")),
    ("anthropic.", Family(maker="claude", top_k="top_k", effort="claude", structured=True, caches=True)),
    ("amazon.nova-2", Family(maker="nova-2", top_k="inferenceConfig.topK", effort="nova", caches=True)),
    ("amazon.nova", Family(maker="nova", top_k="inferenceConfig.topK", caches=True)),
    ("mistral.", Family(top_k="top_k", structured=True)),
    ("openai.gpt-oss", Family(effort="plain", structured=True)),
    ("deepseek.v3", _OPEN),
    ("google.gemma-3", _OPEN),
    ("minimax.", _OPEN),
    ("moonshot", _OPEN),
    ("nvidia.", _OPEN),
    ("qwen.", _OPEN),
)
"""The first row whose words begin the name counts; `structured` of Claude says less than `anthropic_models` does."""

_PROFILE: Final = re.compile(r"(?:us|eu|apac|ap|jp|au|ca|sa|me|us-gov|global)\.(?=[a-z0-9]+\.)")
_RESOURCE: Final = re.compile(r"arn:[^/]*/")


def plain_name(model: str) -> str:
    """The model's own id: without the region of an inference profile, and without the address of a resource."""
    return _PROFILE.sub("", _RESOURCE.sub("", model, count=1), count=1)


def family_of(model: str) -> Family:
    """What `model` takes; of an id that names no model (a profile of one's own) nothing is known."""
    name = plain_name(model)
    return next((family for prefix, family in FAMILIES if name.startswith(prefix)), UNKNOWN)
