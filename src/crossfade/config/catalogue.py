"""The model catalogue: what is publicly known of models, by vendor row and model id.

The data (`models.json`, its source and licence are noted inside) are read once, when first asked for. Decides
which of them are trusted: a wrong "cannot" takes a working target out of every chain, a missing one costs a
refused attempt at most, so doubtful gaps of the table are not taken as facts.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from importlib import resources

import msgspec

from crossfade.core.exchange import Ability


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one model. `window` in input tokens, prices in USD per token, None where unknown.
    `retires`: the day (ISO) its vendor has announced, if any. `only_responses`: not served by the chat API."""

    window: int | None = None
    lacks: frozenset[Ability] = frozenset()
    always_thinks: bool = False
    is_slow: bool = False
    price_in: float | None = None
    price_out: float | None = None
    is_chat: bool = True
    is_embedding: bool = False
    only_responses: bool = False
    retires: str | None = None


Facts = Callable[[str, str], ModelFacts | None]
"""(vendor row, model id) -> what is known of it."""


def no_facts(vendor: str, model: str) -> ModelFacts | None:
    """A catalogue without any model."""
    return None


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    window: int | None = None
    price_in: float | None = None
    price_out: float | None = None
    mode: str = "chat"
    without: tuple[Ability, ...] = ()
    thinks: bool = False
    responses_only: bool = False
    retires: str | None = None


class _File(msgspec.Struct, frozen=True):
    models: dict[str, dict[str, _Row]]


_HOSTERS = {"bedrock", "fireworks", "together"}
"""Vendors of other vendors' models: for them the table leaves abilities out that the models have."""
_SAYS_JSON_SCHEMA = {"anthropic", "deepseek", "gemini", "openai", "xai"}
_SAYS_TOOLS = {"anthropic", "gemini", "openai", "perplexity", "xai"}

_OTHER_NAMES = {
    "google": "gemini",
    "google_ai": "gemini",
    "fireworks_ai": "fireworks",
    "together_ai": "together",
    "togetherai": "together",
    "azure_openai": "azure",
    "moonshotai": "moonshot",
    "kimi": "moonshot",
    "grok": "xai",
    "bedrock-claude": "bedrock",
    "vertex": "gemini",
    "vertex-claude": "anthropic",
}
_PROFILE = re.compile(r"(?:us|eu|apac|ap|jp|au|ca|sa|me|us-gov|global)\.(?=[a-z0-9]+\.)")
"""The regions of one of Bedrock's inference profiles, before the model's id."""
_VERSION = re.compile(r"[-@](?:\d{8}|\d{4}-\d{2}-\d{2}|latest|default)$")

_ALWAYS_THINKS = re.compile(
    r"(?:^|/)o[134](?:-|$)|gpt-5(?:-mini|-nano)?$|gpt-\d[\d.]*-(?:pro|codex)|gpt-oss|deepseek[-.]r(?:1|easoner)"
    r"|gemini-(?!.*lite)|grok-|magistral|sonar-reasoning|-thinking"
)
"""Of the models that can think: those that do so without being asked, and are silent meanwhile."""
_SLOW = re.compile(r"deep-research|(?:^|/)(?:o\d|gpt-\d[\d.]*)-pro")


@functools.cache
def _rows() -> dict[str, dict[str, _Row]]:
    data = resources.files("crossfade.config").joinpath("models.json").read_bytes()
    return msgspec.json.decode(data, type=_File).models


def _known_as(vendor: str) -> str:
    return _OTHER_NAMES.get(vendor, vendor)


@functools.lru_cache(maxsize=1024)
def facts_of(vendor: str, model: str) -> ModelFacts | None:
    """What is known of a model, also under an id with the date of a version behind it; None for unknown ones."""
    vendor = _known_as(vendor)
    rows = _rows().get(vendor, {})
    model = _PROFILE.sub("", model, count=1) if vendor == "bedrock" else model
    row = rows.get(model) or rows.get(_VERSION.sub("", model))
    if row is None:
        return None
    return ModelFacts(
        window=row.window,
        lacks=frozenset(ability for ability in row.without if _is_trusted(vendor, ability)),
        always_thinks=row.thinks and bool(_ALWAYS_THINKS.search(_VERSION.sub("", model))),
        is_slow=bool(_SLOW.search(model)),
        price_in=row.price_in,
        price_out=row.price_out,
        is_chat=row.mode == "chat",
        is_embedding=row.mode == "embedding",
        only_responses=row.responses_only,
        retires=row.retires,
    )


def _is_trusted(vendor: str, ability: Ability) -> bool:
    if ability is Ability.JSON_SCHEMA:
        return vendor in _SAYS_JSON_SCHEMA
    if ability is Ability.TOOLS:
        return vendor in _SAYS_TOOLS
    return vendor not in _HOSTERS


def models_of(vendor: str) -> Iterator[str]:
    """The ids of the chat models known of a vendor."""
    for model, row in _rows().get(_known_as(vendor), {}).items():
        if row.mode == "chat" and not row.responses_only:
            yield model
