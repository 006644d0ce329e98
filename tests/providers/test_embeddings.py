"""Recorded exchanges about embeddings, rebuilt and read; and what each dialect makes of a request."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Completion
from crossfade.core.failure import Failure
from crossfade.core.failure import FailureReason as R
from crossfade.core.target import Target
from crossfade.core.validation import check_completion
from crossfade.providers.compatible import VENDORS
from crossfade.providers.registry import provider_for
from crossfade.wire.openai_embeddings import EmbeddingsInbound, read_request
from tests.recordings import RECORDINGS, load, names, needs_recordings

ALL = [
    name
    for provider in sorted(VENDORS)
    for name in names(provider, "embeddings")
    if name != "ollama/embeddings-single-02.json"  # Ollama's own API, before `/api/embed`
]
OPENAI = [name for name in ALL if VENDORS[name.partition("/")[0]].dialect == "openai"]
GEMINI = [name for name in ALL if name.startswith("gemini/")]
COHERE = [name for name in ALL if name.startswith("cohere/")]
ERRORS = {
    "error-400-invalid-request": R.INVALID_REQUEST, "error-400-model-not-found": R.MODEL_UNAVAILABLE,
    "error-401-auth": R.AUTH_ERROR, "error-404-model-not-found": R.MODEL_UNAVAILABLE,
    "error-501-server-error": R.SERVER_ERROR,
}  # fmt: skip


def target(model: str = "m", **more: Any) -> Target:
    return Target(key=f"p/{model}#0", name=f"p/{model}", provider="p", model=model, **more)


def inbound_of(body: dict[str, Any]) -> EmbeddingsInbound:
    return read_request(json.dumps({"model": "m", "input": "x", **body}).encode(), {})


def provider_of(name: str) -> Any:
    return provider_for(VENDORS[name.partition("/")[0]])


@needs_recordings
def test_the_recorded_exchanges_of_all_dialects_are_here() -> None:
    assert (len(OPENAI), len(GEMINI), len(COHERE)) == (43, 7, 4)


def rebuilt(name: str) -> EmbeddingsInbound:
    """A recorded request of OpenAI's dialect as a caller's, after a look at what the provider makes of it."""
    given = load(name)["request"]
    body = given["body"]
    asked = inbound_of(body)
    sent = provider_of(name).request(asked, target(body.get("model", "m")), "key", False)
    assert json.loads(sent.body) == ({"model": "m"} | body)
    assert urlsplit(given["url"]).path.endswith(sent.path)
    return asked


@pytest.mark.parametrize("name", [name for name in OPENAI if "error" not in name])
def test_a_recorded_request_is_rebuilt_and_its_answer_read(name: str) -> None:
    recording = load(name)
    asked = rebuilt(name)
    found = provider_of(name).completion(recording["response"]["body"].encode(), asked.facts)
    assert isinstance(found, Completion) and check_completion(found, asked.facts) is None
    assert found.is_as_asked and found.usage is not None and found.model
    assert len(found.vectors) == asked.facts.inputs


@pytest.mark.parametrize("name", [name for name in ALL if "error" in name])
def test_a_recorded_error_has_its_reason(name: str) -> None:
    response = load(name)["response"]
    headers = {key.lower(): value for key, value in response["headers"].items()}
    case = name.partition("embeddings-")[2].rpartition("-")[0]
    found = provider_of(name).failure(response["status"], headers, response["body"].encode())
    assert found.reason is ERRORS[case]


def rebuilt_from_texts(name: str) -> EmbeddingsInbound:
    """A recorded request of Gemini's as a caller's of OpenAI's, after a look at what the provider makes of it."""
    recording = load(name)
    given = recording["request"]["body"]
    texts = ["".join(part["text"] for part in one["content"]["parts"]) for one in given["requests"]]
    asked = inbound_of({"input": texts, "dimensions": given["requests"][0].get("outputDimensionality")})
    model = given["requests"][0]["model"].removeprefix("models/")
    sent = provider_of(name).request(asked, target(model), "key", False)
    wanted = [{**one, "content": {"parts": one["content"]["parts"]}} for one in given["requests"]]
    made = json.loads(sent.body)["requests"]
    assert [{key: one.get(key) for key in two} for one, two in zip(wanted, made, strict=True)] == made
    assert urlsplit(recording["request"]["url"]).path.endswith(sent.path)
    return asked


@pytest.mark.parametrize("name", [name for name in GEMINI if "error" not in name])
def test_a_recorded_gemini_request_is_rebuilt_from_texts_and_its_answer_read(name: str) -> None:
    asked = rebuilt_from_texts(name)
    found = provider_of(name).completion(load(name)["response"]["body"].encode(), asked.facts)
    assert isinstance(found, Completion) and check_completion(found, asked.facts) is None


def test_gemini_takes_texts_and_no_tokens() -> None:
    provider = provider_for(VENDORS["gemini"])
    sent = provider.request(inbound_of({"input": ["a", "b"], "dimensions": 4, "user": "u"}), target(), "key", False)
    text = {"model": "models/m", "outputDimensionality": 4}
    assert json.loads(sent.body) == {
        "requests": [{**text, "content": {"parts": [{"text": text_}]}} for text_ in ("a", "b")]
    }
    assert sent.path == "/models/m:batchEmbedContents" and sent.dropped == ("user",)
    edited = target(set_params=(("taskType", b'"QUERY"'),), drop_params=("outputDimensionality",))
    sent = provider.request(inbound_of({"dimensions": 4}), edited, "key", False)
    assert json.loads(sent.body)["requests"][0] == {
        "model": "models/m", "taskType": "QUERY", "content": {"parts": [{"text": "x"}]},
    }  # fmt: skip
    with pytest.raises(InvalidRequest) as caught:
        provider.request(inbound_of({"input": [1, 2]}), target(), "key", False)
    assert caught.value.param == "input"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"embeddings":[{"values":[1,2]}]}', None), (b'{"embeddings":[]}', R.EMPTY_OUTPUT), (b"{}", R.EMPTY_OUTPUT),
        (b'{"embeddings":[{"values":[]}]}', R.MALFORMED_OUTPUT), (b'{"embeddings":[{"values":["a"]}]}',
        R.MALFORMED_OUTPUT), (b"nonsense", R.MALFORMED_OUTPUT), (b'{"embeddings":[{}]}', R.MALFORMED_OUTPUT),
        (b'{"error":{"code":503,"status":"UNAVAILABLE","message":"x"}}', R.OVERLOADED),
    ],
)  # fmt: skip
def test_what_is_no_answer_of_gemini_is_told_from_one(body: bytes, reason: R | None) -> None:
    facts = inbound_of({}).facts
    found = provider_for(VENDORS["gemini"]).completion(body, facts)
    wrong = found if isinstance(found, Failure) else check_completion(found, facts)
    assert (None if wrong is None else wrong.reason) == reason


# --- Cohere --------------------------------------------------------------------------------------------------


def rebuilt_for_cohere(name: str) -> EmbeddingsInbound:
    """A recorded request of Cohere's as a caller's of OpenAI's, after a look at what the provider makes of it."""
    given = load(name)["request"]["body"]
    asked = inbound_of({"input": given["texts"], "dimensions": given.get("output_dimension")})
    sent = provider_of(name).request(asked, target(given["model"]), "key", False)
    assert json.loads(sent.body) == {"embedding_types": ["float"], **given}
    assert load(name)["request"]["url"].endswith(f"/v2{sent.path}")
    return asked


@pytest.mark.parametrize("name", COHERE)
def test_a_recorded_request_of_coheres_is_rebuilt_and_its_answer_read(name: str) -> None:
    asked = rebuilt_for_cohere(name)
    body = load(name)["response"]["body"]
    found = provider_of(name).completion(body.encode(), asked.facts)
    assert isinstance(found, Completion) and check_completion(found, asked.facts) is None
    answer = json.loads(body)
    assert [json.loads(vector) for vector in found.vectors] == answer["embeddings"]["float"]
    assert found.usage is not None and found.usage.prompt == answer["meta"]["billed_units"]["input_tokens"]


def embed(body: dict[str, Any], to: Target | None = None) -> tuple[dict[str, Any], tuple[str, ...]]:
    sent = provider_for(VENDORS["cohere"]).request(inbound_of(body), to or target(), "key", False)
    return json.loads(sent.body), sent.dropped


def test_cohere_is_told_what_texts_are_for() -> None:
    plain = {"model": "m", "texts": ["x"], "input_type": "search_document", "embedding_types": ["float"]}
    assert embed({"user": "u"}) == (plain, ("user",))
    assert embed({"encoding_format": "base64"})[0] == plain
    asked = {"input_type": "search_query", "truncate": "NONE"}
    assert embed(asked) == (plain | asked, ())
    assert embed({"encoding_format": "int8"})[0]["embedding_types"] == ["int8"]
    edited = target(set_params=(("input_type", b'"clustering"'),), drop_params=("output_dimension",))
    assert embed({"dimensions": 4}, edited)[0] == plain | {"input_type": "clustering"}


@pytest.mark.parametrize(
    ("body", "param"),
    [({"input": [1, 2]}, "input"), ({"input": ["x"] * 97}, "input"), ({"encoding_format": "hex"}, "encoding_format")],
)
def test_what_cohere_cannot_embed_is_refused(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        embed(body)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"embeddings":{"float":[[1,2]]}}', None), (b'{"embeddings":{"float":[]}}', R.EMPTY_OUTPUT),
        (b'{"embeddings":{}}', R.EMPTY_OUTPUT), (b'{"embeddings":{"float":[[]]}}', R.MALFORMED_OUTPUT),
        (b'{"embeddings":{"float":["a"]}}', R.MALFORMED_OUTPUT), (b"{}", R.MALFORMED_OUTPUT),
        (b"nonsense", R.MALFORMED_OUTPUT), (b'{"embeddings":[[1]]}', R.MALFORMED_OUTPUT),
        (b'{"message":"limited to 40 API calls / minute"}', R.RATE_LIMIT),
    ],
)  # fmt: skip
def test_what_is_no_answer_of_cohere_is_told_from_one(body: bytes, reason: R | None) -> None:
    facts = inbound_of({}).facts
    found = provider_for(VENDORS["cohere"]).completion(body, facts)
    wrong = found if isinstance(found, Failure) else check_completion(found, facts)
    assert (None if wrong is None else wrong.reason) == reason


# --- Ollama's own API ----------------------------------------------------------------------------------------

OWN = provider_for(VENDORS["ollama-native"])


def embedded_by_ollama(body: dict[str, Any], to: Target | None = None) -> tuple[dict[str, Any], tuple[str, ...]]:
    sent = OWN.request(inbound_of(body), to or target(), None, False)
    assert sent.path == "/embed"
    return json.loads(sent.body), sent.dropped


def test_ollama_is_told_not_to_cut_texts() -> None:
    plain = {"model": "m", "input": ["x"], "truncate": False}
    assert embedded_by_ollama({"user": "u"}) == (plain, ("user",))
    assert embedded_by_ollama({"encoding_format": "base64"})[0] == plain
    assert embedded_by_ollama({"input": ["a", "b"], "dimensions": 4}) == (
        plain | {"input": ["a", "b"], "dimensions": 4},
        (),
    )
    assert embedded_by_ollama({"truncate": True, "options": {}}) == (plain | {"truncate": True}, ("options",))
    edited = target(set_params=(("options", b'{"num_ctx":9}'),), drop_params=("truncate", "dimensions"))
    sent = {"model": "m", "input": ["x"], "options": {"num_ctx": 9}}
    assert embedded_by_ollama({"truncate": True, "dimensions": 4}, edited)[0] == sent


@pytest.mark.parametrize(
    ("body", "param"), [({"input": [1, 2]}, "input"), ({"encoding_format": "int8"}, "encoding_format")]
)
def test_what_ollama_cannot_embed_is_refused(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        embedded_by_ollama(body)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"embeddings":[[1,2]],"prompt_eval_count":2}', None), (b'{"embeddings":[]}', R.EMPTY_OUTPUT),
        (b'{"embeddings":[[]]}', R.MALFORMED_OUTPUT), (b'{"embeddings":["a"]}', R.MALFORMED_OUTPUT),
        (b'{"embeddings":[[1],[2]]}', R.MALFORMED_OUTPUT), (b"{}", R.MALFORMED_OUTPUT), (b"no", R.MALFORMED_OUTPUT),
        (b'{"error":"the input length exceeds the context length"}', R.CONTEXT_OVERFLOW),
    ],
)  # fmt: skip
def test_what_is_no_answer_of_ollama_is_told_from_one(body: bytes, reason: R | None) -> None:
    facts = inbound_of({}).facts
    found = OWN.completion(body, facts)
    wrong = found if isinstance(found, Failure) else check_completion(found, facts)
    assert (None if wrong is None else wrong.reason) == reason


@needs_recordings
def test_the_numbers_of_a_recorded_vector_of_ollama_are_read() -> None:
    """It was asked for by the API before: there one vector is the answer."""
    response = load("ollama/embeddings-single-02.json")["response"]
    vector = response["body"].strip().removeprefix('{"embedding":').removesuffix("}")
    body = b'{"model":"llama3","embeddings":[%s],"prompt_eval_count":5}' % vector.encode()
    for encoding in ("float", "base64"):
        facts = inbound_of({"encoding_format": encoding}).facts
        found = OWN.completion(body, facts)
        assert isinstance(found, Completion) and check_completion(found, facts) is None
        assert found.usage is not None and (found.model, found.usage.prompt) == ("llama3", 5)
        if encoding == "float":
            assert json.loads(found.vectors[0]) == json.loads(response["body"])["embedding"]


def test_anthropic_has_none() -> None:
    with pytest.raises(InvalidRequest, match="no embeddings"):
        provider_for(VENDORS["anthropic"]).request(inbound_of({}), target(), "key", False)


assert RECORDINGS is None or ALL
