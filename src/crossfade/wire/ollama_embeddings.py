"""Embeddings in Ollama's own dialect: texts to the body of `embed`, and its answer back to vectors.

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

OWN: Final = ("truncate",)
"""Members of Ollama's that a caller may give beside OpenAI's."""


class _Answer(msgspec.Struct, gc=False):
    model: str | None = None
    embeddings: list[msgspec.Raw] | None = None
    prompt_eval_count: float | None = None
    error: Any = None


_decode: Final = msgspec.json.Decoder(_Answer).decode


def write_embeddings(
    inbound: EmbeddingsInbound,
    model: str,
    *,
    set_params: Sequence[tuple[str, bytes]] = (),
    drop_params: Sequence[str] = (),
) -> Written:
    """The body of one call for all texts.

    A text that is longer than the model's window is to be an error, as everywhere, unless the caller or the target says
    `truncate`: left out, Ollama would cut it silently. Parameters (`set_params` is JSON text) act on the top level.
    Raises InvalidRequest for tokens and for forms of vectors that Ollama does not have.
    """
    if inbound.texts is None:
        raise InvalidRequest("Ollama embeds texts, not tokens of another provider's models", param="input")
    if inbound.facts.encoding == "other":
        raise InvalidRequest("Ollama has no vectors but those of numbers", param="encoding_format")
    own = {name: msgspec.Raw(value) for name in OWN if (value := inbound.member(name)) is not None}
    body: dict[str, Any] = {"model": model, "input": inbound.texts, "truncate": False, **own}
    if inbound.facts.dimensions is not None:
        body["dimensions"] = inbound.facts.dimensions
    for name in drop_params:
        body.pop(name, None)
    body.update((name, msgspec.Raw(value)) for name, value in set_params)
    return Written(msgspec.json.encode(body), tuple([name for name in inbound.others if name not in own]))


def read_embeddings(body: bytes, read_failure: Callable[[bytes], Failure], facts: RequestFacts) -> Completion | Failure:
    """The vectors of a 2xx body, in the order of the texts; or the failure that it is."""
    try:
        given = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _malformed("a body that is no list of embeddings")
    if given.error:
        return read_failure(body)
    if given.embeddings is None:
        return _malformed("no embeddings in the body")
    vectors = [bytes(vector) for vector in given.embeddings]
    if not all(map(is_numbers, vectors)):
        return _malformed("a vector that is none")
    return Completion(
        model=given.model or "",
        vectors=tuple([vector_as(vector, facts.encoding) for vector in vectors]),
        usage=None if given.prompt_eval_count is None else Usage(prompt=whole(given.prompt_eval_count)),
    )


def _malformed(detail: str) -> Failure:
    return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail=detail)
