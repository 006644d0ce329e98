"""Vertex AI: addresses, what differs in bodies, errors of either maker, embeddings, and the recorded exchanges."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Completion, RequestFacts
from crossfade.core.failure import Failure
from crossfade.core.failure import FailureReason as R
from crossfade.providers.base import ProviderRequest
from crossfade.providers.compatible import VENDORS
from crossfade.providers.registry import provider_for, versioned
from crossfade.wire import anthropic_request
from crossfade.wire.openai_chat import read_request
from crossfade.wire.openai_embeddings import read_request as read_embeddings
from tests.providers.test_openai import target
from tests.recordings import load, names, needs_recordings

BASE = "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5"
GEMINI = provider_for(msgspec.structs.replace(VENDORS["vertex"], base_url=BASE))
CLAUDE = provider_for(msgspec.structs.replace(VENDORS["vertex-claude"], base_url=BASE))
HELLO: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


def request(provider: Any, model: str, *, stream: bool = False, **fields: Any) -> ProviderRequest:
    inbound = read_request(json.dumps({**HELLO, **fields}).encode(), {})
    sent: ProviderRequest = provider.request(inbound, target(model), "a-token", stream)
    return sent


# --- addresses -----------------------------------------------------------------------------------------------


def test_the_model_is_one_segment_of_the_path_and_the_token_is_a_bearers() -> None:
    paths = [request(GEMINI, "gemini-2.5-pro", stream=stream).path for stream in (False, True)]
    assert paths == [
        "/publishers/google/models/gemini-2.5-pro:generateContent",
        "/publishers/google/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
    ]
    paths = [request(CLAUDE, "claude-opus-4-1@20250805", stream=stream).path for stream in (False, True)]
    assert paths == [
        "/publishers/anthropic/models/claude-opus-4-1@20250805:rawPredict",
        "/publishers/anthropic/models/claude-opus-4-1@20250805:streamRawPredict",
    ]
    for provider in (GEMINI, CLAUDE):
        sent = request(provider, "../x?y")
        assert "/..%2Fx%3Fy:" in sent.path
        assert [value for name, value in sent.headers if name == "authorization"] == ["Bearer a-token"]
    for name in ("vertex", "vertex-claude"):
        assert versioned(msgspec.structs.replace(VENDORS[name], base_url=BASE)) == BASE


def test_claude_is_asked_in_its_own_words_with_the_version_in_the_body() -> None:
    body = {"model": "chat", "max_tokens": 5, "messages": HELLO["messages"], "new_member": 1.50}
    raw = json.dumps(body).replace("1.5", "1.50").encode()
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "context-1m-2025-08-07"}
    inbound = anthropic_request.read_request(raw, headers)
    for stream in (False, True):
        sent = CLAUDE.request(inbound, target("claude-opus-4-1@20250805"), "a-token", stream)
        given = json.loads(sent.body)
        assert given.pop("anthropic_version") == "vertex-2023-10-16"
        assert given.pop("stream", False) is stream
        assert given == {"max_tokens": 5, "messages": HELLO["messages"], "new_member": 1.5}
        assert b'"new_member":1.50' in sent.body.replace(b": ", b":"), "every other value keeps its bytes"
        assert ("anthropic-beta", "context-1m-2025-08-07") in sent.headers
        assert "anthropic-version" not in dict(sent.headers)


# --- errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (429, {"error": {"code": 429, "message": "Resource exhausted.", "status": "RESOURCE_EXHAUSTED"}}, R.RATE_LIMIT),
        (
            403,
            {"error": {"code": 403, "message": "Permission denied on resource (or it may not exist).", "status": "X"}},
            R.MODEL_UNAVAILABLE,
        ),
        (404, [{"error": {"code": 404, "message": "not found", "status": "NOT_FOUND"}}], R.MODEL_UNAVAILABLE),
        (
            400,
            {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 1"}},
            R.CONTEXT_OVERFLOW,
        ),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, R.OVERLOADED),
        (401, {"error": {"code": 401, "message": "invalid credentials", "status": "UNAUTHENTICATED"}}, R.AUTH_ERROR),
    ],
)
def test_errors_of_either_maker_are_read(status: int, body: Any, reason: R) -> None:
    assert CLAUDE.failure(status, {}, json.dumps(body).encode()).reason is reason


def test_an_error_of_googles_inside_a_200_is_a_failure() -> None:
    body = b'{"error":{"code":429,"message":"Resource exhausted.","status":"RESOURCE_EXHAUSTED"}}'
    found = CLAUDE.completion(body, RequestFacts())
    assert isinstance(found, Failure) and found.reason is R.RATE_LIMIT


# --- embeddings ----------------------------------------------------------------------------------------------


def embed(model: str, *texts: str, **fields: Any) -> ProviderRequest:
    given = {"model": "e", "input": list(texts), **fields}
    return GEMINI.request(read_embeddings(json.dumps(given).encode(), {}), target(model), "a-token", False)


def test_texts_are_embedded_by_what_the_model_takes() -> None:
    sent = embed("text-embedding-005", "a", "b", dimensions=2)
    assert sent.path == "/publishers/google/models/text-embedding-005:predict"
    assert json.loads(sent.body) == {
        "instances": [{"content": "a"}, {"content": "b"}],
        "parameters": {"outputDimensionality": 2},
    }
    sent = embed("gemini-embedding-2", "a", dimensions=2)
    assert sent.path.endswith("gemini-embedding-2:embedContent")
    assert json.loads(sent.body) == {"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 2}
    assert embed("gemini-embedding-001", "a").path.endswith("gemini-embedding-001:predict")


@pytest.mark.parametrize("model", ["gemini-embedding-001", "gemini-embedding-2", "text-embedding-005"])
def test_too_many_texts_are_refused(model: str) -> None:
    texts = ["a"] * (251 if model.startswith("text") else 2)
    with pytest.raises(InvalidRequest, match=r"a call at Vertex AI") as refused:
        embed(model, *texts)
    assert refused.value.param == "input"


@pytest.mark.parametrize(
    ("answer", "vectors", "tokens"),
    [
        (
            {
                "predictions": [
                    {"embeddings": {"values": [0.5], "statistics": {"token_count": 3}}},
                    {"embeddings": {"values": [0.25], "statistics": {"token_count": 4}}},
                ]
            },
            (b"[0.5]", b"[0.25]"),
            7,
        ),
        ({"embedding": {"values": [0.5]}, "usageMetadata": {"promptTokenCount": 2}}, (b"[0.5]",), 2),
    ],
)
def test_vectors_are_read(answer: dict[str, Any], vectors: tuple[bytes, ...], tokens: int) -> None:
    body = json.dumps(answer, separators=(",", ":")).encode()
    found = GEMINI.completion(body, RequestFacts(asks="embeddings"))
    assert isinstance(found, Completion) and found.usage is not None
    assert (found.vectors, found.usage.prompt) == (vectors, tokens)


@pytest.mark.parametrize("body", [b"no", b"{}", b'{"embedding":{"values":["a"]}}'])
def test_what_is_no_answer_with_vectors_is_told_from_one(body: bytes) -> None:
    found = GEMINI.completion(body, RequestFacts(asks="embeddings"))
    assert isinstance(found, Failure) and found.reason is R.MALFORMED_OUTPUT


# --- recordings ----------------------------------------------------------------------------------------------


@needs_recordings
@pytest.mark.parametrize("name", names("vertex", "anthropic-messages"))
def test_a_recorded_message_is_asked_as_it_was(name: str) -> None:
    recording = load(name)
    given, path = recording["request"]["body"], urlsplit(recording["request"]["url"]).path
    model = path.rpartition("/models/")[2].partition(":")[0]
    inbound = anthropic_request.read_request(json.dumps({**given, "model": model}).encode(), {})
    sent = CLAUDE.request(inbound, target(model), "a-token", path.endswith("streamRawPredict"))
    assert path.endswith(sent.path)
    assert json.loads(sent.body) == given


@needs_recordings
@pytest.mark.parametrize("name", names("vertex", "generate"))
def test_a_recorded_address_is_asked(name: str) -> None:
    url = urlsplit(load(name)["request"]["url"])
    model, _, method = url.path.rpartition("/models/")[2].partition(":")
    sent = request(GEMINI, model, stream=method.startswith("stream"))
    assert url.path.endswith(sent.path.partition("?")[0])


@needs_recordings
@pytest.mark.parametrize("name", names("vertex", "embeddings"))
def test_a_recorded_request_for_vectors_is_asked_and_its_answer_read(name: str) -> None:
    recording = load(name)
    (part,) = recording["request"]["body"]["content"]["parts"]
    path = urlsplit(recording["request"]["url"]).path
    sent = embed(path.rpartition("/models/")[2].partition(":")[0], part["text"])
    assert path.endswith(sent.path)
    assert json.loads(sent.body) == recording["request"]["body"]
    said = json.loads(recording["response"]["body"])
    found = GEMINI.completion(recording["response"]["body"].encode(), RequestFacts(asks="embeddings"))
    assert isinstance(found, Completion) and found.usage is not None
    assert json.loads(found.vectors[0]) == said["embedding"]["values"]
    assert found.usage.prompt == said["usageMetadata"]["promptTokenCount"]
