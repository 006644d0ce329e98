"""Embeddings in Cohere's dialect: texts to the body of `embed`, and its answer back to vectors.

Knows nothing of addresses or keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Completion, RequestFacts, Usage
from crossfade.core.failure import Failure, FailureReason
from crossfade.wire.bounds import whole
from crossfade.wire.openai_embeddings import EmbeddingsInbound, is_numbers, vector_as
from crossfade.wire.written import Written

INPUT_TYPE: Final = "search_document"
"""What texts are taken to be for where nobody says it; Cohere's models since version 3 want to know."""
OWN: Final = ("input_type", "truncate")
"""Members of Cohere's that a caller may give beside OpenAI's."""
TYPES: Final = frozenset({"int8", "uint8", "binary", "ubinary"})
"""Forms of vectors that only Cohere has; a caller may ask for them as an `encoding_format`."""
MOST_TEXTS: Final = 96
"""Texts of one call (docs.cohere.com/reference/embed)."""


class _Billed(msgspec.Struct, gc=False):
    input_tokens: float | None = None
    image_tokens: float | None = None


class _Meta(msgspec.Struct, gc=False):
    billed_units: _Billed | None = None


class _Answer(msgspec.Struct, gc=False):
    id: str | None = None
    embeddings: dict[str, list[msgspec.Raw] | None] | None = None
    meta: _Meta | None = None
    message: Any = None


_decode: Final = msgspec.json.Decoder(_Answer).decode
_decode_any: Final = msgspec.json.Decoder().decode


def write_embeddings(
    inbound: EmbeddingsInbound,
    model: str,
    *,
    set_params: Sequence[tuple[str, bytes]] = (),
    drop_params: Sequence[str] = (),
) -> Written:
    """The body of one call for all texts.

    Numbers are asked for where base64 is wanted, too: what Cohere's base64 holds is nowhere said. Parameters
    (`set_params` is JSON text) act on the top level. Raises InvalidRequest for tokens, too many texts, and forms of
    vectors that Cohere does not have.
    """
    if inbound.texts is None:
        raise InvalidRequest("Cohere embeds texts, not tokens of another provider's models", param="input")
    if len(inbound.texts) > MOST_TEXTS:
        raise InvalidRequest(f"Cohere embeds {MOST_TEXTS} texts at a time at most", param="input")
    own = {name: value for name in OWN if (value := inbound.member(name)) is not None}
    body: dict[str, Any] = {
        "model": model,
        "texts": inbound.texts,
        "input_type": INPUT_TYPE,
        "embedding_types": [_type_of(inbound)],
    }
    body.update((name, msgspec.Raw(value)) for name, value in own.items())
    if inbound.facts.dimensions is not None:
        body["output_dimension"] = inbound.facts.dimensions
    for name in drop_params:
        body.pop(name, None)
    body.update((name, msgspec.Raw(value)) for name, value in set_params)
    return Written(msgspec.json.encode(body), tuple([name for name in inbound.others if name not in own]))


def _type_of(inbound: EmbeddingsInbound) -> str:
    if inbound.facts.encoding != "other":
        return "float"
    word = _decode_any(inbound.member("encoding_format") or b"null")
    if word not in TYPES:
        raise InvalidRequest(f"Cohere has no vectors of the form {word!r}", param="encoding_format")
    return str(word)


def read_embeddings(body: bytes, read_failure: Callable[[bytes], Failure], facts: RequestFacts) -> Completion | Failure:
    """The vectors of a 2xx body, in the order of the texts; or the failure that it is."""
    try:
        given = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _malformed("a body that is no list of embeddings")
    if given.embeddings is None:
        return read_failure(body) if given.message else _malformed("no embeddings in the body")
    found = next((vectors for vectors in given.embeddings.values() if vectors), [])
    vectors = tuple([bytes(vector) for vector in found])
    if not all(map(is_numbers, vectors)):
        return _malformed("a vector that is none")
    billed = given.meta.billed_units if given.meta is not None else None
    return Completion(
        id=given.id or "",
        vectors=tuple([vector_as(vector, facts.encoding) for vector in vectors]),
        usage=None if billed is None else Usage(prompt=whole(billed.input_tokens) + whole(billed.image_tokens)),
    )


def _malformed(detail: str) -> Failure:
    return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail=detail)
