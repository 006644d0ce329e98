"""What an embeddings request and its answer may look like, for decoding. Decides nothing."""

from __future__ import annotations

from typing import Any

import msgspec

from crossfade.wire.openai_usage_shapes import Count


class Request(msgspec.Struct, gc=False):
    model: str | None = None
    input: str | list[str | int | list[int]] = ""
    encoding_format: str | None = None
    dimensions: Count = None


class Vector(msgspec.Struct, gc=False):
    embedding: msgspec.Raw
    index: int | None = None


class Usage(msgspec.Struct, gc=False):
    prompt_tokens: Count = None
    total_tokens: Count = None


class Answer(msgspec.Struct, gc=False):
    data: list[Vector] | None = None
    model: str | None = None
    usage: Usage | None = None
    error: Any = None
    object: str | None = None
