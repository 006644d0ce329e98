"""`POST /v1/embeddings`: how callers of OpenAI's embeddings API are read and answered."""

from __future__ import annotations

from typing import Final

from crossfade.core.exchange import Completion, RequestFacts
from crossfade.edge.endpoint import Endpoint
from crossfade.edge.intake import Caller
from crossfade.edge.openai_chat import ChatDialect
from crossfade.wire.openai_embeddings import EmbeddingsInbound, read_request, write_embeddings


class EmbeddingsDialect(ChatDialect):
    """How callers read vectors; errors are as everywhere at OpenAI."""

    def completion(self, completion: Completion, facts: RequestFacts, request: str) -> bytes:
        return write_embeddings(completion)


def _read(body: bytes, caller: Caller) -> EmbeddingsInbound:
    return read_request(body, caller.headers)


EMBEDDINGS: Final = Endpoint("embeddings", EmbeddingsDialect(), _read)
