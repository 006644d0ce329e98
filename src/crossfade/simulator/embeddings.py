"""Embeddings as the simulator speaks them, by four APIs: a text has the same vector in each.

It knows nothing of faults or sockets. What they have in common with chats, errors and headers, is the chats'.
"""

from __future__ import annotations

import base64
import hashlib
import re
from array import array
from typing import Any, Final
from urllib.parse import unquote

from crossfade.simulator.answers import Answer
from crossfade.simulator.ask import Ask, BadAsk, Turn, as_count, as_dict, as_list, as_text
from crossfade.simulator.cohere import Cohere
from crossfade.simulator.dialect import Event
from crossfade.simulator.gemini import Gemini
from crossfade.simulator.ollama import Ollama
from crossfade.simulator.openai import OpenAI

DIMENSIONS: Final = 8
COHERE_PATH: Final = re.compile(r"/v2/embed$")
OLLAMA_PATH: Final = re.compile(r"/api/embed$")
VERTEX_PATH: Final = re.compile(r"/publishers/google/models/([^/:]+):predict$")
GEMINI_PATH: Final = re.compile(r"/models/([^/:]+):(embedContent|batchEmbedContents)$")


class EmbeddingAsk(Ask, kw_only=True):
    """A request for vectors; its turns are the texts."""

    dimensions: int = DIMENSIONS
    is_base64: bool = False
    is_single: bool = False


def vector_of(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """The vector of a text: numbers that four bytes hold exactly."""
    seed = b"".join(hashlib.sha256(f"{n}:{text}".encode()).digest() for n in range(dimensions // 32 + 1))
    return [(byte - 128) / 128 for byte in seed[:dimensions]]


def _vectors(ask: Ask, answer: Answer) -> list[list[float]]:
    """None where the answer is to be empty."""
    assert isinstance(ask, EmbeddingAsk)
    return [vector_of(turn.text, ask.dimensions) for turn in ask.turns] if answer.text.strip() else []


class OpenAIEmbeddings(OpenAI):
    """`POST /embeddings`."""

    def read(self, path: str, query: str, body: dict[str, Any]) -> Ask:
        given = body.get("input")
        inputs = as_list(given) if isinstance(given, list) and not all(type(one) is int for one in given) else [given]
        texts = [one if isinstance(one, str) else repr(one) for one in inputs if one not in ("", None, [])]
        return EmbeddingAsk(
            model=as_text(body.get("model")),
            turns=tuple(Turn(role="user", text=text) for text in texts),
            dimensions=as_count(body.get("dimensions")) or DIMENSIONS,
            is_base64=body.get("encoding_format") == "base64",
        )

    def whole(self, ask: Ask, answer: Answer, number: int) -> dict[str, Any]:
        assert isinstance(ask, EmbeddingAsk)
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(array("f", vector).tobytes()).decode() if ask.is_base64 else vector,
            }
            for index, vector in enumerate(_vectors(ask, answer))
        ]
        usage = {"prompt_tokens": ask.prompt_tokens, "total_tokens": ask.prompt_tokens}
        return {"object": "list", "data": data, "model": ask.model, "usage": usage}

    def no_choices(self, ask: Ask, number: int) -> dict[str, Any]:
        return self.whole(ask, Answer(), number)

    def events(self, ask: Ask, answer: Answer, number: int) -> list[Event]:
        raise BadAsk("Embeddings are not streamed.")


class GeminiEmbeddings(Gemini):
    """`:embedContent` and `:batchEmbedContents`."""

    def read(self, path: str, query: str, body: dict[str, Any]) -> Ask:
        found = GEMINI_PATH.search(path)
        if found is None:
            raise BadAsk("The path names no model.")
        is_single = found[2] == "embedContent"
        requests = [body] if is_single else [as_dict(one) for one in as_list(body.get("requests"))]
        parts = [as_list(as_dict(one.get("content")).get("parts")) for one in requests]
        texts = ["".join(as_text(as_dict(part).get("text")) for part in content) for content in parts]
        sizes = [as_count(one.get("outputDimensionality")) for one in requests]
        return EmbeddingAsk(
            model=unquote(found[1]),
            turns=tuple(Turn(role="user", text=text) for text in texts),
            dimensions=(sizes[0] if sizes else None) or DIMENSIONS,
            is_single=is_single,
        )

    def whole(self, ask: Ask, answer: Answer, number: int) -> dict[str, Any]:
        assert isinstance(ask, EmbeddingAsk)
        vectors = [{"values": vector} for vector in _vectors(ask, answer)]
        return {"embedding": vectors[0] if vectors else {}} if ask.is_single else {"embeddings": vectors}

    def no_choices(self, ask: Ask, number: int) -> dict[str, Any]:
        return self.whole(ask, Answer(), number)

    def events(self, ask: Ask, answer: Answer, number: int) -> list[Event]:
        raise BadAsk("Embeddings are not streamed.")


class VertexEmbeddings(GeminiEmbeddings):
    """Vertex AI's `:predict`; its `:embedContent` is Gemini's."""

    def read(self, path: str, query: str, body: dict[str, Any]) -> Ask:
        found = VERTEX_PATH.search(path)
        if found is None:
            raise BadAsk("The path names no model.")
        texts = [as_text(as_dict(one).get("content")) for one in as_list(body.get("instances"))]
        return EmbeddingAsk(
            model=unquote(found[1]),
            turns=tuple(Turn(role="user", text=text) for text in texts),
            dimensions=as_count(as_dict(body.get("parameters")).get("outputDimensionality")) or DIMENSIONS,
        )

    def whole(self, ask: Ask, answer: Answer, number: int) -> dict[str, Any]:
        vectors = _vectors(ask, answer)
        counts = {"statistics": {"truncated": False, "token_count": ask.prompt_tokens // max(1, len(vectors))}}
        return {"predictions": [{"embeddings": {"values": vector, **counts}} for vector in vectors]}


class CohereEmbeddings(Cohere):
    """`POST /v2/embed`."""

    def read(self, path: str, query: str, body: dict[str, Any]) -> Ask:
        if not as_text(body.get("input_type")) or as_list(body.get("embedding_types")) != ["float"]:
            raise BadAsk("invalid request: input_type is required, and floats are all that is simulated")
        return EmbeddingAsk(
            model=as_text(body.get("model")),
            turns=tuple(Turn(role="user", text=as_text(text)) for text in as_list(body.get("texts"))),
            dimensions=as_count(body.get("output_dimension")) or DIMENSIONS,
        )

    def whole(self, ask: Ask, answer: Answer, number: int) -> dict[str, Any]:
        meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": ask.prompt_tokens}}
        return {
            "id": f"00000000-0000-4000-8000-{number:012d}",
            "texts": [turn.text for turn in ask.turns],
            "embeddings": {"float": _vectors(ask, answer)},
            "meta": meta,
            "response_type": "embeddings_by_type",
        }

    def no_choices(self, ask: Ask, number: int) -> dict[str, Any]:
        return self.whole(ask, Answer(), number)

    def events(self, ask: Ask, answer: Answer, number: int) -> list[Event]:
        raise BadAsk("Embeddings are not streamed.")


class OllamaEmbeddings(Ollama):
    """`POST /api/embed`."""

    def read(self, path: str, query: str, body: dict[str, Any]) -> Ask:
        given = body.get("input")
        inputs = [given] if isinstance(given, str) else as_list(given)
        if not all(isinstance(one, str) for one in inputs):
            raise BadAsk("invalid input type")
        return EmbeddingAsk(
            model=as_text(body.get("model")),
            turns=tuple(Turn(role="user", text=text) for text in inputs),
            dimensions=as_count(body.get("dimensions")) or DIMENSIONS,
        )

    def whole(self, ask: Ask, answer: Answer, number: int) -> dict[str, Any]:
        counts = {"total_duration": 7_000_000, "prompt_eval_count": ask.prompt_tokens}
        return {"model": ask.model, "embeddings": _vectors(ask, answer), **counts}

    def no_choices(self, ask: Ask, number: int) -> dict[str, Any]:
        return self.whole(ask, Answer(), number)

    def events(self, ask: Ask, answer: Answer, number: int) -> list[Event]:
        raise BadAsk("Embeddings are not streamed.")
