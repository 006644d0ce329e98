"""What token counts may look like, for decoding. Decides nothing."""

from __future__ import annotations

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)] | None
"""A number as it should be written; `bounds.whole` makes one of any other."""


class PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: Count = None
    cache_write_tokens: Count = None


class CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: Count = None


class GivenUsage(msgspec.Struct, gc=False):
    """The `usage` member, under all the names that servers have for its numbers."""

    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Count = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: Count = None
    reasoning_tokens: Count = None


class LoosePromptDetails(msgspec.Struct, gc=False):
    cached_tokens: float | None = None
    cache_write_tokens: float | None = None


class LooseCompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: float | None = None


class LooseUsage(msgspec.Struct, gc=False):
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    total_tokens: float | None = None
    prompt_tokens_details: LoosePromptDetails | None = None
    completion_tokens_details: LooseCompletionDetails | None = None
    prompt_cache_hit_tokens: float | None = None
    reasoning_tokens: float | None = None
