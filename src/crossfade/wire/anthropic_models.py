"""What the families of Claude models accept, as a table: the facts that decide how a request is written for one.

The API rejects a whole request for one parameter that a model has outgrown (`temperature` on the newest, an effort on
the older ones), so a translated request must know its model. Only names are read here; the request is not.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec


class ModelTraits(msgspec.Struct, frozen=True, kw_only=True):
    """What one family accepts.

    `max_output` is the most output tokens, None where it is not known (then nothing is clamped). `sampling`: of
    temperature and top_p it takes both, one of them, or none (nor top_k). `thinking`: not at all, by a token budget,
    by itself when asked (`adaptive`), or in every answer (`always`). `efforts` are the words of
    `output_config.effort`, weakest first. `structured`: `output_config.format` and strict tools. `forced_tools`: a
    tool choice may force a call.
    """

    max_output: int | None = None
    sampling: Literal["both", "one", "none"] = "both"
    thinking: Literal["none", "budget", "adaptive", "always"] = "none"
    efforts: tuple[str, ...] = ()
    structured: bool = False
    forced_tools: bool = True


_BASIC = ("low", "medium", "high")
_ALL = (*_BASIC, "xhigh", "max")

UNKNOWN: Final = ModelTraits()
"""A model of another maker behind this API: only what every server of the dialect has."""

_NEWEST = ModelTraits(max_output=128_000, sampling="none", thinking="adaptive", efforts=_ALL, structured=True)
_ALWAYS = msgspec.structs.replace(_NEWEST, thinking="always")
_4_6 = ModelTraits(max_output=64_000, sampling="one", thinking="adaptive", efforts=_BASIC, structured=True)
_4_5 = ModelTraits(max_output=64_000, sampling="one", thinking="budget", structured=True)
_4_0 = ModelTraits(max_output=64_000, thinking="budget")

FAMILIES: Final[tuple[tuple[str, ModelTraits], ...]] = (
    ("claude-3-7", _4_0),
    ("claude-3-5", ModelTraits(max_output=8_192)),
    ("claude-3", ModelTraits(max_output=4_096)),
    ("claude-haiku-4", _4_5),
    ("claude-sonnet-4-5", _4_5),
    ("claude-sonnet-4-6", _4_6),
    ("claude-sonnet-4", _4_0),
    ("claude-opus-4-1", msgspec.structs.replace(_4_5, max_output=32_000)),
    ("claude-opus-4-5", msgspec.structs.replace(_4_5, efforts=_BASIC)),
    ("claude-opus-4-6", msgspec.structs.replace(_4_6, max_output=128_000, efforts=(*_BASIC, "max"))),
    ("claude-opus-4-7", _NEWEST),
    ("claude-opus-4-8", _NEWEST),
    ("claude-opus-4", msgspec.structs.replace(_4_0, max_output=32_000)),
    ("claude-fable-5-1", msgspec.structs.replace(_ALWAYS, forced_tools=False)),
    ("claude-mythos-5-1", msgspec.structs.replace(_ALWAYS, forced_tools=False)),
    ("claude-mythos-preview", msgspec.structs.replace(_ALWAYS, efforts=_BASIC, forced_tools=False)),
    ("claude-fable", _ALWAYS),
    ("claude-mythos", _ALWAYS),
    ("claude-haiku", msgspec.structs.replace(_NEWEST, efforts=_BASIC)),
    ("claude-", _NEWEST),
)
"""The first row whose words begin the name counts; a Claude that is not listed is taken to be like the newest,
whose rules are the narrowest: leaving a parameter out never fails a request."""


def traits_of(model: str) -> ModelTraits:
    """What `model` accepts; what stands before `claude-` (`us.anthropic.`) is skipped."""
    start = model.find("claude-")
    if start < 0:
        return UNKNOWN
    name = model[start:].replace(".", "-")  # some write claude-sonnet-4.5
    for prefix, traits in FAMILIES:
        if name.startswith(prefix):
            return traits
    return UNKNOWN
