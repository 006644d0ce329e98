"""Embeddings as Vertex AI takes them: older models by `predict`, newer ones by `embedContent`.

Knows nothing of addresses or keys. Facts: cloud.google.com, Vertex AI text embeddings API; a recorded exchange.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Completion, RequestFacts, Usage
from crossfade.core.failure import Failure, FailureReason
from crossfade.wire.bounds import whole
from crossfade.wire.openai_embeddings import is_numbers, vector_as

MOST_TEXTS: Final = 250
"""Texts of one call of `predict`."""
_BY_CONTENT: Final = re.compile(r"gemini-embedding-(?:[2-9]|exp)(?!\d)")
_ONE_AT_A_TIME: Final = re.compile(r"gemini-embedding")


class _Counted(msgspec.Struct, gc=False):
    token_count: float | None = None


class _Vector(msgspec.Struct, gc=False):
    values: msgspec.Raw
    statistics: _Counted | None = None


class _Prediction(msgspec.Struct, gc=False):
    embeddings: _Vector


class _Usage(msgspec.Struct, gc=False):
    promptTokenCount: float | None = None  # noqa: N815 - the member's own name


class _Answer(msgspec.Struct, gc=False):
    predictions: list[_Prediction] | None = None
    embedding: _Vector | None = None
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
) -> tuple[str, bytes]:
    """The method, and the body of one call for all `texts`. Parameters (`set_params` is JSON text) act on the top level
    of `embedContent`, and on the `parameters` of `predict`. Raises InvalidRequest for too many texts."""
    most = 1 if _ONE_AT_A_TIME.match(model) else MOST_TEXTS
    if len(texts) > most:
        many = "one text" if most == 1 else f"{most} texts"
        raise InvalidRequest(f"{model} takes {many} a call at Vertex AI", param="input")
    given: dict[str, Any] = {} if dimensions is None else {"outputDimensionality": dimensions}
    for name in drop_params:
        given.pop(name, None)
    given.update((name, msgspec.Raw(value)) for name, value in set_params)
    if _BY_CONTENT.match(model):
        return "embedContent", msgspec.json.encode({"content": {"parts": [{"text": texts[0]}]}, **given})
    body: dict[str, Any] = {"instances": [{"content": text} for text in texts]}
    if given:
        body["parameters"] = given
    return "predict", msgspec.json.encode(body)


def read_embeddings(body: bytes, read_failure: Callable[[bytes], Failure], facts: RequestFacts) -> Completion | Failure:
    """The vectors of a 2xx body, in the order of the texts; or the failure that it is."""
    try:
        given = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _malformed("a body that is no list of embeddings")
    if given.error:
        return read_failure(body)
    found = [one.embeddings for one in given.predictions or ()]
    if given.embedding is not None:
        found = [given.embedding]
    if given.predictions is None and given.embedding is None:
        return _malformed("no embeddings in the body")
    vectors = [bytes(one.values) for one in found]
    if not all(map(is_numbers, vectors)):
        return _malformed("a vector that is none")
    counts = [one.statistics.token_count for one in found if one.statistics is not None]
    if given.usageMetadata is not None:
        counts = [given.usageMetadata.promptTokenCount]
    return Completion(
        vectors=tuple([vector_as(vector, facts.encoding) for vector in vectors]),
        usage=Usage(prompt=sum(map(whole, counts))) if counts else None,
    )


def _malformed(detail: str) -> Failure:
    return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail=detail)
