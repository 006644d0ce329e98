"""Embeddings in Gemini's dialect: texts to the body of `batchEmbedContents`, and its answer back to vectors.

Knows nothing of addresses or keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from crossfade.core.exchange import Completion, RequestFacts, Usage
from crossfade.core.failure import Failure, FailureReason
from crossfade.wire.bounds import whole
from crossfade.wire.openai_embeddings import is_numbers, vector_as


class _Vector(msgspec.Struct, gc=False):
    values: msgspec.Raw


class _Usage(msgspec.Struct, gc=False):
    promptTokenCount: float | None = None  # noqa: N815 - the member's own name


class _Answer(msgspec.Struct, gc=False):
    embeddings: list[_Vector] | None = None
    usageMetadata: _Usage | None = None  # noqa: N815 - the member's own name
    error: Any = None


_decode: Final = msgspec.json.Decoder(_Answer).decode


def write_embeddings(
    texts: Sequence[str],
    model: str,
    dimensions: int | None,
    *,
    set_params: Sequence[tuple[str, bytes]] = (),
    drop_params: Sequence[str] = (),
) -> bytes:
    """The body of one call for all `texts`. Parameters (`set_params` is JSON text) are those of each text."""
    common: dict[str, Any] = {"model": f"models/{model.removeprefix('models/')}"}
    if dimensions is not None:
        common["outputDimensionality"] = dimensions
    for name in drop_params:
        common.pop(name, None)
    common.update((name, msgspec.Raw(value)) for name, value in set_params)
    return msgspec.json.encode({"requests": [{**common, "content": {"parts": [{"text": text}]}} for text in texts]})


def read_embeddings(body: bytes, read_failure: Callable[[bytes], Failure], facts: RequestFacts) -> Completion | Failure:
    """The vectors of a 2xx body, in the order of the texts; or the failure that it is."""
    try:
        given = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _malformed("a body that is no list of embeddings")
    if given.error:
        return read_failure(body)
    vectors = tuple([bytes(vector.values) for vector in given.embeddings or ()])
    if not all(map(is_numbers, vectors)):
        return _malformed("a vector that is none")
    usage = None if given.usageMetadata is None else Usage(prompt=whole(given.usageMetadata.promptTokenCount))
    return Completion(vectors=tuple([vector_as(vector, facts.encoding) for vector in vectors]), usage=usage)


def _malformed(detail: str) -> Failure:
    return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail=detail)
