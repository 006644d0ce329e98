"""The rows of vendors against what was recorded of them, fact by fact."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from crossfade.config.addresses import is_own_host, placed
from crossfade.config.catalogue import no_facts
from crossfade.config.rungs import make_rung
from crossfade.config.settings import ProviderConfig
from crossfade.core.exchange import Continuation, Finish, RequestFacts
from crossfade.core.failure import FailureReason as R
from crossfade.core.target import StreamEnd, Vendor
from crossfade.providers.compatible import VENDORS
from crossfade.providers.openai import OpenAIProvider
from crossfade.providers.registry import provider_for
from crossfade.wire import openai_embeddings
from crossfade.wire.openai_chat import read_request
from tests.providers.test_openai import HELLO, sent, target
from tests.recordings import load, names, needs_recordings

COMPATIBLE = [row for row in VENDORS.values() if row.dialect == "openai" and row.name != "compatible"]
CUT = Continuation(text="so far", anchor="so far", prefill=True, delivered_tokens=1)


def recordings(vendor: str, *apis: str, stream: bool | None = None) -> Iterator[dict[str, Any]]:
    """The recorded exchanges of a vendor in OpenAI's dialect that went well."""
    for api in apis or ("chat", "embeddings"):
        for name in names(vendor, api):
            recording = load(name)
            if name == "ollama/embeddings-single-02.json" or recording["response"]["status"] != 200:
                continue  # the former is Ollama's native API
            if stream is None or recording["stream"] is stream:
                yield recording


def events(recording: dict[str, Any]) -> list[dict[str, Any]]:
    lines = [line[5:].strip() for line in recording["response"]["body"].splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


# --- addresses and credentials -------------------------------------------------------------------------------

ELSEWHERE = {
    "openrouter": "api.openai.com",  # rewritten by whoever recorded it
    "ollama": "localhost:11434",
    "llamacpp": "localhost:8080",
}


@needs_recordings
@pytest.mark.parametrize("vendor", COMPATIBLE, ids=lambda row: row.name)
def test_the_recorded_addresses_are_the_rows(vendor: Vendor) -> None:
    """Each vendor's own host, and below it the path that the row and the dialect make together."""
    for recording in recordings(vendor.name):
        url = urlsplit(recording["request"]["url"])
        own = is_own_host(vendor, recording["request"]["url"])
        assert own or url.netloc == ELSEWHERE.get(vendor.name), url.netloc
        if vendor.base_url:
            row = urlsplit(vendor.base_url)
            endpoint = vendor.embeddings_path if recording["api"] == "embeddings" else "/chat/completions"
            if url.netloc in (row.netloc, ELSEWHERE.get(vendor.name)) and url.netloc != "api.openai.com":
                assert url.path in {row.path + endpoint, *OTHER_PATHS.get(vendor.name, ())}


OTHER_PATHS = {
    "deepseek": ("/beta/chat/completions",),
    "huggingface": (
        *(f"/{name}/v1/chat/completions" for name in ("together", "nebius", "hyperbolic")),
        "/novita/v3/openai/chat/completions",
    ),
    "zai": ("/api/coding/paas/v4/chat/completions",),
}
"""What a `base_url` of one's own can say."""


def test_embeddings_of_perplexity_have_a_path_of_their_own() -> None:
    inbound = openai_embeddings.read_request(b'{"model":"m","input":"x"}', {})
    for name, row in VENDORS.items():
        if row.dialect == "openai":
            expected = "/v1/embeddings" if name == "perplexity" else "/embeddings"
            assert provider_for(row).request(inbound, target(), "k", False).path == expected


@needs_recordings
@pytest.mark.parametrize("vendor", COMPATIBLE, ids=lambda row: row.name)
def test_the_recorded_credentials_are_in_the_rows_header(vendor: Vendor) -> None:
    header = {"bearer": "authorization", "none": "authorization", "api-key": "api-key"}[vendor.auth]
    for recording in recordings(vendor.name):
        given = {name.lower() for name in recording["request"]["headers"]}
        assert given & {"authorization", "api-key", "x-api-key", "x-goog-api-key"} <= {header}


# --- streams -------------------------------------------------------------------------------------------------


@needs_recordings
@pytest.mark.parametrize("vendor", [row for row in COMPATIBLE if not row.include_usage], ids=lambda row: row.name)
def test_usage_that_is_not_asked_for_comes_all_the_same(vendor: Vendor) -> None:
    found = [
        any(chunk.get("usage") for chunk in events(recording))
        for recording in recordings(vendor.name, "chat", stream=True)
        if "stream_options" not in recording["request"]["body"]
    ]
    assert len(found) >= 3 and all(found)


@needs_recordings
def test_the_rows_that_ask_for_usage_were_seen_to_be_answered() -> None:
    asked = {
        row.name
        for row in COMPATIBLE
        for recording in recordings(row.name, "chat", stream=True)
        if recording["request"]["body"].get("stream_options") and any(one.get("usage") for one in events(recording))
    }
    unseen = {row.name for row in COMPATIBLE if row.include_usage} - asked
    # By their documentation; no stream of theirs was recorded with the option.
    assert unseen == {"together", "fireworks", "cerebras", "moonshot", "bedrock-mantle", "vllm"}


@needs_recordings
@pytest.mark.parametrize("vendor", COMPATIBLE, ids=lambda row: row.name)
def test_every_recorded_end_of_a_stream_is_the_rows(vendor: Vendor) -> None:
    without_marker = with_finish = count = 0
    for recording in recordings(vendor.name, "chat", stream=True):
        if recording["case"] in ("error-in-stream", "no-finish-reason") and vendor.stream_end is StreamEnd.FINISH:
            continue
        body = recording["response"]["body"]
        count += 1
        without_marker += "[DONE]" not in body
        with_finish += bool(recording["finish_reasons"])
        facts = RequestFacts(stream=True, n=recording["request"]["body"].get("n") or 1)
        reader = provider_for(vendor).reader(facts)
        reader.feed(body.encode())
        reader.close()
        assert reader.is_complete
        # Without what ends it, the same stream is not complete.
        cut = body[: body.index('"finish_reason": "')] if '"finish_reason": "' in body else None
        cut = body[: body.index('"finish_reason":"')] if '"finish_reason":"' in body else cut
        if vendor.stream_end is StreamEnd.MARKER:
            cut = body.replace("data: [DONE]", "")
        assert cut is not None
        reader = provider_for(vendor).reader(facts)
        reader.feed(cut.encode())
        reader.close()
        assert not reader.is_complete
    assert with_finish == (0 if vendor.stream_end is StreamEnd.MARKER else count)
    assert bool(without_marker) == (vendor.name in ("perplexity", "huggingface"))


CARRIED = {
    "role", "content", "refusal", "reasoning", "reasoning_content", "tool_calls", "function_call",
    "index", "finish_reason", "message", "delta", "annotations",
    "logprobs",  # a request that asks for them is not assembled
    "channel",  # which of Groq's texts is reasoning
}  # fmt: skip


@needs_recordings
@pytest.mark.parametrize("vendor", COMPATIBLE, ids=lambda row: row.name)
def test_where_streams_are_assembled_no_member_of_a_recorded_answer_is_lost(vendor: Vendor) -> None:
    config = ProviderConfig(name="p", vendor=vendor)
    for recording in recordings(vendor.name, "chat"):
        model = recording["request"]["body"]["model"] if recording["request"]["body"] else "m"
        body = recording["response"]["body"]
        answers = events(recording) if recording["stream"] else [json.loads(body)]
        members = {
            name
            for answer in answers
            for choice in answer.get("choices") or ()
            for part in (choice, choice.get("message") or {}, choice.get("delta") or {})
            for name, value in part.items()
            if value not in (None, [], {}, "")
        }
        if make_rung(config, model, no_facts).targets[0].assembles:
            assert members <= CARRIED, recording["case"]


@pytest.mark.parametrize(
    ("vendor", "model", "assembles"),
    [
        ("openai", "gpt-5.4", True), ("openai", "gpt-4o-search-preview", False), ("groq", "llama-3.3-70b", True),
        ("groq", "compound-beta", False), ("groq", "groq/compound-mini", False), ("azure", "gpt-5.4", False),
        ("mistral", "m", True), ("deepseek", "m", True), ("xai", "m", True), ("perplexity", "sonar", False),
        ("openrouter", "m", False), ("compatible", "m", False),
    ],
)  # fmt: skip
def test_what_is_asked_for_whole(vendor: str, model: str, assembles: bool) -> None:
    config = ProviderConfig(name="p", vendor=VENDORS[vendor])
    assert make_rung(config, model, no_facts).targets[0].assembles is assembles


# --- parameters ----------------------------------------------------------------------------------------------


def test_who_takes_a_prefill_and_who_wants_it_marked() -> None:
    assert {row.name for row in COMPATIBLE if row.prefill} == {"mistral", "groq"}
    assert {row.name for row in COMPATIBLE if row.marks_prefix} == {"mistral", "deepseek"}
    for row in COMPATIBLE:
        last = sent(row.name, {}, continuation=CUT)["messages"][-1]
        assert last == {"role": "assistant", "content": "so far"} | ({"prefix": True} if row.marks_prefix else {})


@needs_recordings
def test_no_recorded_parameter_is_one_that_its_row_renames() -> None:
    """Where a row renames `max_completion_tokens`, nobody was seen to take it."""
    took = {
        row.name
        for row in COMPATIBLE
        for recording in recordings(row.name, "chat")
        if "max_completion_tokens" in (recording["request"]["body"] or {}) and row.max_tokens_field == "max_tokens"
    }
    # These take both names, and are called by the one that every server of the dialect knows.
    assert took == {"llamacpp", "openrouter", "vercel-gateway"}


# --- errors that no recording has ----------------------------------------------------------------------------

ERRORS: list[tuple[str, int, dict[str, Any], R]] = [
    ("mistral", 400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"},
     R.MODEL_UNAVAILABLE),
    ("mistral", 401, {"detail": "Invalid API Key"}, R.AUTH_ERROR),
    ("mistral", 422, {"detail": [{"loc": ["body", "x"], "msg": "Field required"}]}, R.INVALID_REQUEST),
    ("mistral", 429, {"object": "error", "message": "Rate limit exceeded", "type": "rate_limited", "code": "1300"},
     R.RATE_LIMIT),
    ("mistral", 429, {"message": "Requests rate limit exceeded"}, R.RATE_LIMIT),
    ("mistral", 429, {"message": "Service tier capacity exceeded for this model."}, R.OVERLOADED),
    ("mistral", 402, {"message": "Payment required"}, R.QUOTA_EXHAUSTED),
    ("groq", 413, {"error": {"message": "Request too large for model `m`", "type": "tokens",
                             "code": "rate_limit_exceeded"}}, R.CONTEXT_OVERFLOW),
    ("groq", 429, {"error": {"message": "Rate limit reached for model `m`. Please try again in 4.77s.",
                             "type": "tokens", "code": "rate_limit_exceeded"}}, R.RATE_LIMIT),
    ("deepseek", 402, {"error": {"message": "Insufficient Balance", "type": "unknown_error",
                                 "code": "invalid_request_error"}}, R.QUOTA_EXHAUSTED),
    ("deepseek", 400, {"error": {"message": "The supported API model names are a or b, but you passed c.",
                                 "code": "invalid_request_error"}}, R.MODEL_UNAVAILABLE),
    ("xai", 400, {"code": "invalid-argument", "error": "Incorrect API key provided: x"}, R.AUTH_ERROR),
    ("xai", 400, {"code": "invalid-argument", "error": "Model not found: x"}, R.MODEL_UNAVAILABLE),
    ("openrouter", 401, {"error": {"message": "Missing Authentication header", "code": 401}}, R.AUTH_ERROR),
    ("openrouter", 402, {"error": {"message": "This request requires more credits", "code": 402}}, R.QUOTA_EXHAUSTED),
    ("openrouter", 403, {"error": {"message": "Flagged", "code": 403, "metadata": {"reasons": ["violence"]}}},
     R.CONTENT_FILTER),
    ("openrouter", 408, {"error": {"message": "Request timed out", "code": 408}}, R.SERVER_ERROR),
    ("openrouter", 502, {"error": {"message": "Provider returned error", "code": 502}}, R.SERVER_ERROR),
    ("openrouter", 503, {"error": {"message": "No allowed providers are available", "code": 503}}, R.OVERLOADED),
    ("ollama", 404, {"error": "model 'x' not found"}, R.MODEL_UNAVAILABLE),
    ("ollama", 401, {"error": {"message": "Unauthorized", "type": "api_error"}}, R.AUTH_ERROR),
    ("vllm", 400, {"object": "error", "message": "This model's maximum context length is 16384 tokens. However, you"
                   " requested 122946 tokens", "type": "BadRequestError", "code": 400}, R.CONTEXT_OVERFLOW),
    ("vllm", 400, {"error": {"message": "You passed 1015 input tokens and requested 10 output tokens. However, the"
                             " model's context length is only 1024 tokens", "type": "BadRequestError", "code": 400}},
     R.CONTEXT_OVERFLOW),
    ("llamacpp", 501, {"error": {"code": 501, "message": "This server does not support embeddings.",
                                 "type": "not_supported_error"}}, R.SERVER_ERROR),
    ("perplexity", 401, {"error": {"message": "Invalid API key", "type": "invalid_api_key", "code": 401}},
     R.AUTH_ERROR),
    ("together", 403, {"error": {"message": "`inputs` tokens + `max_new_tokens` must be <= 4097"}},
     R.CONTEXT_OVERFLOW),
    ("together", 402, {"error": {"message": "You have reached your spending limit"}}, R.QUOTA_EXHAUSTED),
    ("together", 503, {"error": {"message": "Engine Overloaded"}}, R.OVERLOADED),
    ("venice", 404, {"error": "Specified model not found: x. Did you mean: y"}, R.MODEL_UNAVAILABLE),
    ("doubleword", 400, {"code": 400, "message": "Validation: bad", "type": "Bad Request"}, R.INVALID_REQUEST),
    ("doubleword", 403, {"error": {"code": "forbidden", "message": "Forbidden"}}, R.AUTH_ERROR),
    ("cohere", 498, {"message": "invalid token"}, R.AUTH_ERROR),
]  # fmt: skip


@pytest.mark.parametrize(("vendor", "status", "body", "reason"), ERRORS)
def test_errors_that_each_vendor_is_known_to_give(vendor: str, status: int, body: dict[str, Any], reason: R) -> None:
    assert provider_for(VENDORS[vendor]).failure(status, {}, json.dumps(body).encode()).reason is reason


@pytest.mark.parametrize(
    ("vendor", "data", "reason"),
    [
        ("vllm", {"object": "error", "message": "out of memory", "code": 500}, R.SERVER_ERROR),
        ("vllm", {"error": {"message": "The model's context length is only 9 tokens"}}, R.CONTEXT_OVERFLOW),
        ("openai", {"error": {"message": "x", "type": "server_error", "code": None}}, R.SERVER_ERROR),
        ("openrouter", {"choices": [], "error": {"code": 502, "message": "Provider disconnected"}}, R.SERVER_ERROR),
    ],
)
def test_errors_inside_a_stream(vendor: str, data: dict[str, Any], reason: R) -> None:
    reader = provider_for(VENDORS[vendor]).reader(RequestFacts(stream=True))
    found = [*reader.feed(b"data: " + json.dumps(data).encode() + b"\n\n"), *reader.close()]
    assert [event.failure.reason for event in found if event.failure] == [reason] and not reader.is_complete


@pytest.mark.parametrize(
    ("vendor", "word", "finish", "reason"),
    [
        ("mistral", "model_length", Finish.LENGTH, None),
        ("mistral", "error", None, R.SERVER_ERROR),
        ("deepseek", "insufficient_system_resource", None, R.OVERLOADED),
        ("azure", "content_filter", Finish.CONTENT_FILTER, None),
    ],
)
def test_words_for_an_end_that_only_some_have(vendor: str, word: str, finish: Finish | None, reason: R | None) -> None:
    reader = provider_for(VENDORS[vendor]).reader(RequestFacts(stream=True))
    choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": word}
    (event,) = [e for e in reader.feed(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n") if e.text]
    assert (event.finish, event.failure and event.failure.reason) == (finish, reason)


def test_waiting_times_in_the_forms_of_each_vendor() -> None:
    limited = b'{"error":{"message":"x"}}'
    date = "Wed, 18 Feb 2026 18:20:41 GMT"
    for vendor, headers, seconds in (
        ("openai", {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "8.64s"}, 8.64),
        ("azure", {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "10"}, 10.0),
        ("groq", {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "130ms"}, 0.13),
        ("mistral", {"ratelimitbysize-remaining": "0", "ratelimitbysize-reset": "46"}, 46.0),
        ("together", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2"}, 2.0),
        ("openrouter", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1771438861000", "date": date}, 20.0),
        ("xai", {"x-ratelimit-remaining-requests": "0"}, None),
    ):
        assert provider_for(VENDORS[vendor]).failure(429, headers, limited).retry_after == seconds, vendor


def test_a_request_of_every_row_goes_to_the_rows_path_with_its_key() -> None:
    for row in COMPATIBLE:
        vendor = row if row.base_url else placed(row, "https://account.example/v1", None)
        request = OpenAIProvider(vendor).request(read_request(json.dumps(HELLO).encode(), {}), target(), "k", False)
        assert request.path == "/chat/completions"
        shown = dict(request.headers)
        del shown["content-type"]
        assert shown == {"bearer": {"authorization": "Bearer k"}, "api-key": {"api-key": "k"}, "none": {}}[row.auth]
