"""Token counts of OpenAI chat, of whole answers and of streams: read from any server of the dialect, and written.

Most servers write whole numbers, which take the short way. It knows nothing of what else an answer has.
"""

from __future__ import annotations

from typing import Final

import msgspec

from crossfade.core.exchange import Usage
from crossfade.wire import openai_usage_shapes as shapes
from crossfade.wire.bounds import whole

_decode: Final = msgspec.json.Decoder(shapes.GivenUsage).decode
_decode_loosely: Final = msgspec.json.Decoder(shapes.LooseUsage, strict=False).decode


def read_usage(raw: bytes | msgspec.Raw, excludes_reasoning: bool) -> Usage | None:
    """Usage by OpenAI's rules from JSON text; None for null and for what cannot be read. See `usage_of`."""
    given = given_usage(raw)
    return None if given is None else usage_of(given, excludes_reasoning)


def given_usage(raw: bytes | msgspec.Raw) -> shapes.GivenUsage | None:
    """The numbers in JSON text; None for null and for what cannot be read."""
    if bytes(raw) in (b"", b"null"):
        return None
    try:
        return _decode(raw)
    except (msgspec.DecodeError, RecursionError):
        pass  # fractions, texts, numbers out of all bounds
    try:
        return _tidied(_decode_loosely(raw))
    except (msgspec.DecodeError, RecursionError):
        return None


def usage_of(given: shapes.GivenUsage, excludes_reasoning: bool) -> Usage:
    """Usage by OpenAI's rules. `excludes_reasoning`: this vendor's completion tokens leave out reasoning, as its total
    shows."""
    prompt, completion, reasoning = given.prompt_tokens or 0, given.completion_tokens or 0, given.reasoning_tokens or 0
    if (outputs := given.completion_tokens_details) is not None:
        reasoning = outputs.reasoning_tokens or reasoning
    cached, cache_write = given.prompt_cache_hit_tokens or 0, 0
    if (inputs := given.prompt_tokens_details) is not None:
        cached, cache_write = inputs.cached_tokens or cached, inputs.cache_write_tokens or 0
    if excludes_reasoning and (given.total_tokens is None or given.total_tokens >= prompt + completion + reasoning):
        completion += reasoning
    return Usage(prompt=prompt, completion=completion, cached=cached, cache_write=cache_write, reasoning=reasoning)


def _tidied(given: shapes.LooseUsage) -> shapes.GivenUsage:
    inputs, outputs = given.prompt_tokens_details, given.completion_tokens_details
    return shapes.GivenUsage(
        prompt_tokens=whole(given.prompt_tokens),
        completion_tokens=whole(given.completion_tokens),
        total_tokens=None if given.total_tokens is None else whole(given.total_tokens),
        prompt_tokens_details=None
        if inputs is None
        else shapes.PromptDetails(whole(inputs.cached_tokens), whole(inputs.cache_write_tokens)),
        completion_tokens_details=None
        if outputs is None
        else shapes.CompletionDetails(whole(outputs.reasoning_tokens)),
        prompt_cache_hit_tokens=whole(given.prompt_cache_hit_tokens),
        reasoning_tokens=whole(given.reasoning_tokens),
    )


def usage_json(usage: Usage) -> bytes:
    """The `usage` member of OpenAI chat."""
    return (
        b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d%s},'
        b'"completion_tokens_details":{"reasoning_tokens":%d}}'
    ) % (
        usage.prompt,
        usage.completion,
        usage.prompt + usage.completion,
        usage.cached,
        b',"cache_write_tokens":%d' % usage.cache_write if usage.cache_write else b"",
        usage.reasoning,
    )
