from __future__ import annotations

import json

import pytest

from crossfade.core.failure import FailureReason as R
from crossfade.providers.error_words import CODES
from crossfade.providers.errors import (
    classify,
    failure_of,
    read_error,
    read_error_value,
    redacted,
    retry_after,
    retry_in_body,
)
from crossfade.providers.waiting import parse_reset
from tests.recordings import RECORDINGS, load, needs_recordings

# --- reading -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "kind", "message"),
    [
        (b'{"error":{"message":"m","type":"t","param":null,"code":"c"}}', "c", "t", "m"),
        (b'{"error":{"message":"m","code":429}}', "429", None, "m"),
        (b'{"error":"Specified model not found: x"}', None, None, "Specified model not found: x"),
        (b'{"code":"invalid-argument","error":"Incorrect API key"}', "invalid-argument", None, "Incorrect API key"),
        (b'{"object":"error","message":"m","type":"invalid_model","code":"1500"}', "1500", "invalid_model", "m"),
        (b'{"detail":"Invalid API Key"}', None, None, "Invalid API Key"),
        (b'{"detail":[{"loc":["body"],"msg":"field required"},{"msg":"b"}]}', None, None, "field required; b"),
        (b'{"errors":[{"code":7003,"message":"no route"}],"success":false}', "7003", None, "no route"),
        (b'[{"error":{"code":404,"status":"NOT_FOUND","message":"m"}}]', "404", "NOT_FOUND", "m"),
        (b"<html><head><title>502 Bad Gateway</title></head></html>", None, None, "502 Bad Gateway"),
        (b"<html>no title</html>", None, None, ""),
        (b"upstream connect error", None, None, "upstream connect error"),
        (b'\n   \n{"error":{"message":"m"}}', None, None, "m"),
        (b'event: error\ndata: {"error":{"message":"m","code":"c"}}\n\ndata: [DONE]\n\n', "c", None, "m"),
        (b'"just text"', None, None, "just text"),
        (b"", None, None, ""),
        (b"[]", None, None, ""),
        (b"\xff\xfe", None, None, "��"),
        (b"[" * 100_000, None, None, "[" * 2000),
    ],
)
def test_a_body_of_any_shape_is_read(body: bytes, code: str | None, kind: str | None, message: str) -> None:
    found = read_error(body)
    assert (found.code, found.type, found.message) == (code, kind, message)


def test_a_routed_error_says_what_the_provider_behind_said() -> None:
    raw = json.dumps({"error": {"message": "too long", "code": "context_length_exceeded"}})
    body = {"error": {"code": 400, "message": "Provider returned error", "metadata": {"raw": raw}}}
    found = read_error_value(body)
    assert (found.code, found.status) == ("context_length_exceeded", 400)
    assert found.message == "Provider returned error: too long"


def test_a_status_inside_the_body_is_found() -> None:
    assert read_error(b'{"error":{"message":"m","status_code":400}}').status == 400
    assert read_error(b'{"object":"error","raw_status_code":422}').status == 422
    assert read_error(b'{"error":{"message":"m"},"status":401}').status == 401
    assert read_error(b'{"error":{"code":true}}').status is None


# --- classes -------------------------------------------------------------------------------------------------

TPM = "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 31538."
PER_MINUTE = "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 1."


@pytest.mark.parametrize(
    ("status", "code", "kind", "message", "reason"),
    [
        # money, rate, and requests that no waiting helps
        (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota", R.QUOTA_EXHAUSTED),
        (429, "credit_balance_exhausted", "insufficient_quota", "", R.QUOTA_EXHAUSTED),
        (429, "rate_limit_exceeded", "tokens", PER_MINUTE, R.RATE_LIMIT),
        (429, "rate_limit_exceeded", "tokens", TPM, R.CONTEXT_OVERFLOW),
        (413, "rate_limit_exceeded", "tokens", "Request too large for model `m`", R.CONTEXT_OVERFLOW),
        (413, None, None, "", R.INVALID_REQUEST),
        (429, "1300", "rate_limited", "Rate limit exceeded", R.RATE_LIMIT),
        (429, None, None, "Service tier capacity exceeded for this model.", R.OVERLOADED),
        (503, None, None, "Service tier capacity exceeded for this model.", R.OVERLOADED),
        (429, "429", None, "Requests have exceeded token rate limit. Please retry after 86400 seconds", R.RATE_LIMIT),
        (429, None, None, "Need more tokens? Upgrade at https://console.groq.com/settings/billing", R.RATE_LIMIT),
        (402, None, None, "Insufficient Balance", R.QUOTA_EXHAUSTED),
        (400, None, "invalid_request_error", "Your credit balance is too low", R.QUOTA_EXHAUSTED),
        # the model
        (404, "model_not_found", "invalid_request_error", "", R.MODEL_UNAVAILABLE),
        (400, "model_not_found", "invalid_request_error", "", R.MODEL_UNAVAILABLE),
        (400, "1500", "invalid_model", "Invalid model: x", R.MODEL_UNAVAILABLE),
        (400, "400", None, "x is not a valid model ID", R.MODEL_UNAVAILABLE),
        (400, "400", None, "Model no-such/x does not exist", R.MODEL_UNAVAILABLE),
        (400, "invalid-argument", None, "Model not found: grok-9", R.MODEL_UNAVAILABLE),
        (404, None, None, "404 page not found", R.MODEL_UNAVAILABLE),
        (404, "DeploymentNotFound", None, "", R.MODEL_UNAVAILABLE),
        (404, None, "not_found_error", "File not found: file_abc", R.INVALID_REQUEST),
        (404, "404", None, "No endpoints found that support image input", R.SERVER_ERROR),
        (410, None, None, "", R.MODEL_UNAVAILABLE),
        # the credential
        (401, "401", None, "Access denied due to invalid subscription key", R.AUTH_ERROR),
        (401, None, "api_error", "Unauthorized", R.AUTH_ERROR),
        (401, "invalid_request_error", "authentication_error", "", R.AUTH_ERROR),
        (403, "forbidden", "invalid_request_error", "Forbidden", R.AUTH_ERROR),
        (400, "invalid-argument", None, "Incorrect API key provided. You can obtain", R.AUTH_ERROR),
        (498, None, None, "", R.AUTH_ERROR),
        # the prompt
        (400, "context_length_exceeded", "invalid_request_error", "", R.CONTEXT_OVERFLOW),
        (
            400,
            "invalid_request_error",
            None,
            "This model's maximum context length is 1048565 tokens",
            R.CONTEXT_OVERFLOW,
        ),
        (400, "400", None, "This endpoint's maximum context length is 200000 tokens", R.CONTEXT_OVERFLOW),
        (400, "400", "exceed_context_size_error", "", R.CONTEXT_OVERFLOW),
        (400, "400", "too_many_prompt_tokens", "", R.CONTEXT_OVERFLOW),
        (400, None, None, "prompt too long; exceeded max context length by 9 tokens", R.CONTEXT_OVERFLOW),
        (403, None, None, "`inputs` tokens + `max_new_tokens` must be <= 4097", R.CONTEXT_OVERFLOW),
        (400, None, None, "prompt is too long: 3333404 tokens > 200000 maximum", R.CONTEXT_OVERFLOW),
        (400, "content_filter", None, "", R.CONTENT_FILTER),
        (403, "403", "moderation", "", R.CONTENT_FILTER),
        (400, None, "invalid_request_error", "temperature: range: 0..1", R.INVALID_REQUEST),
        (422, None, None, "", R.INVALID_REQUEST),
        (405, None, None, "", R.INVALID_REQUEST),
        # what the model wrote
        (400, "tool_use_failed", "invalid_request_error", "", R.INVALID_TOOL_CALL),
        # faults of the server are never the caller's
        (500, "context_length_exceeded", None, "maximum context length", R.SERVER_ERROR),
        (500, "invalid_request_error", "invalid_request_error", "", R.SERVER_ERROR),
        (500, "model_not_found", None, "", R.SERVER_ERROR),
        (500, None, None, "The engine overloaded", R.OVERLOADED),
        (500, "insufficient_quota", None, "", R.QUOTA_EXHAUSTED),
        (501, None, "not_supported_error", "", R.SERVER_ERROR),
        (502, None, None, "", R.SERVER_ERROR),
        (503, None, None, "", R.OVERLOADED),
        (503, "server_is_overloaded", "service_unavailable_error", "", R.OVERLOADED),
        (529, None, "overloaded_error", "Overloaded", R.OVERLOADED),
        (504, None, None, "", R.SERVER_ERROR),
        (599, None, None, "", R.SERVER_ERROR),
        (408, None, None, "", R.SERVER_ERROR),
        (409, None, None, "", R.SERVER_ERROR),
        (424, None, None, "", R.SERVER_ERROR),
        (425, None, None, "", R.SERVER_ERROR),
        (499, None, "CANCELLED", "", R.SERVER_ERROR),
        # no answers of an API
        (301, None, None, "", R.PROTOCOL_ERROR),
        (101, None, None, "", R.PROTOCOL_ERROR),
        # inside a 200: the class it would have had as a status
        (200, None, "server_error", "", R.SERVER_ERROR),
        (None, "context_length_exceeded", None, "", R.CONTEXT_OVERFLOW),
        (None, None, None, "This model's maximum context length is 10 tokens", R.CONTEXT_OVERFLOW),
        (None, "502", None, "Provider disconnected", R.SERVER_ERROR),
        (None, "429", None, "", R.RATE_LIMIT),
        (None, None, "invalid_request_error", "bad", R.INVALID_REQUEST),
        (None, None, None, "Model is overloaded", R.OVERLOADED),
        (None, None, "UNAVAILABLE", "", R.OVERLOADED),
        (None, None, None, "something new", R.SERVER_ERROR),
        (200, "rate_limit_exceeded", None, "", R.RATE_LIMIT),
    ],
)
def test_classes(status: int | None, code: str | None, kind: str | None, message: str, reason: R) -> None:
    assert classify(status, code, kind, message) is reason


@pytest.mark.parametrize("word", sorted(CODES))
def test_a_known_code_is_read_in_any_case_and_as_a_type(word: str) -> None:
    assert classify(400, word.upper(), None, "") is CODES[word]
    assert classify(400, None, word, "") is CODES[word]


@pytest.mark.parametrize("word", [*sorted(CODES), "anything"])
def test_no_5xx_becomes_the_callers_fault(word: str) -> None:
    message = "prompt is too long; invalid api key; model not found; content policy"
    found = {classify(status, word, None, message) for status in range(500, 600)}
    fit = {R.SERVER_ERROR, R.OVERLOADED, R.RATE_LIMIT, R.QUOTA_EXHAUSTED, R.INVALID_TOOL_CALL, R.INVALID_JSON}
    assert found <= fit


# --- waiting -------------------------------------------------------------------------------------------------

NOW = 1_771_438_841.0  # 2026-02-18T18:20:41Z
DATE = "Wed, 18 Feb 2026 18:20:41 GMT"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20", 20.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("8.64s", 8.64),
        ("17.399999999s", 17.399999999),
        ("12ms", 0.012),
        ("1m2s", 62.0),
        ("6m0s", 360.0),
        ("1h0m0.5s", 3600.5),
        ("2m", 120.0),
        ("1d2h", 93600.0),
        ("2026-02-18T18:21:01Z", 20.0),
        ("2026-02-18T19:21:01+01:00", 20.0),
        ("Wed, 18 Feb 2026 18:21:01 GMT", 20.0),
        ("1771438861", 20.0),
        ("1771438861000", 20.0),
        ("Wed, 18 Feb 2026 18:20:01 GMT", 0.0),
        ("1771438000", 0.0),
        ("-5", None),
        ("", None),
        ("soon", None),
        ("1e9", 1e9),
        ("1000000000", 1e9),  # no moment of our time, so a very long wait
        ("NaN", None),
        ("٣", None),
        ("5 apples", None),
        ("1" * 65, None),
        ("2026-99-99T00:00:00Z", None),
    ],
)
def test_forms_of_a_reset(text: str, seconds: float | None) -> None:
    found = parse_reset(text, NOW)
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_absolute_times_say_nothing_without_a_reference() -> None:
    assert parse_reset("1771438861") is None
    assert parse_reset("2026-02-18T18:21:01Z") is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "0", "retry-after": "1"}, 1.0),  # Azure says both
        ({"retry-after": "Wed, 18 Feb 2026 18:21:01 GMT", "date": DATE}, 20.0),
        ({"retry-after": "Wed, 18 Feb 2026 18:21:01 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "garbage", "x-ratelimit-reset": "5"}, 5.0),
        (
            {
                "x-ratelimit-remaining-requests": "99",
                "x-ratelimit-reset-requests": "8.64s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "1m2s",
            },
            62.0,
        ),
        ({"x-ratelimit-remaining-requests": "9", "x-ratelimit-reset-requests": "9s"}, None),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-02-18T18:21:01Z",
                "date": DATE,
            },
            20.0,
        ),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1771438861000", "date": DATE}, 20.0),
        ({"x-ratelimit-remaining": "many", "x-ratelimit-reset": "5"}, None),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "60000",
                "x-ratelimit-renewalperiod-requests": "60",
            },
            60.0,
        ),
        # Mistral's tokens per minute, with what the request would have taken of them
        ({"ratelimitbysize-remaining": "0", "ratelimitbysize-reset": "46"}, 46.0),
        (
            {
                "ratelimitbysize-remaining": "100",
                "ratelimitbysize-query-cost": "101",
                "ratelimitbysize-reset": "46",
                "x-ratelimit-remaining": "100",
                "x-ratelimit-reset": "90",
            },
            46.0,
        ),
        (
            {
                "ratelimitbysize-remaining": "101",
                "ratelimitbysize-query-cost": "101",
                "ratelimitbysize-reset": "46",
            },
            None,
        ),
    ],
)
def test_waiting_times_in_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_given_time_stands_in_for_a_missing_date() -> None:
    assert retry_after({"retry-after": "Wed, 18 Feb 2026 18:21:01 GMT"}, NOW) == 20.0


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Please try again in 18.642s.", 18.642),
        ("Please try again in 1m4.77s. Visit", 64.77),
        ("Please try again in 130ms.", 0.13),
        ("Please retry in 48.939935699s.", 48.939935699),
        ("Please retry after 86400 seconds", 86400.0),
        ("Please retry after 20 seconds", 20.0),
        ("try again in 2 minutes", 120.0),
        ("try again in 20 milliseconds", 0.02),
        ("try again in 3 moons", None),
        ("nothing", None),
    ],
)
def test_waiting_times_in_words(message: str, seconds: float | None) -> None:
    assert retry_in_body(read_error_value({"error": {"message": message}})) == seconds


def test_googles_retry_delay() -> None:
    details = [{"@type": "x"}, {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "48s"}]
    assert retry_in_body(read_error_value({"error": {"details": details}})) == 48.0


# --- together ------------------------------------------------------------------------------------------------


def test_a_failure_carries_code_wait_and_request_id_but_no_prompt_in_its_detail() -> None:
    error = {"message": "You said: my secret prompt. Try again in 2s", "type": "tokens", "code": "rate_limit_exceeded"}
    failure = failure_of(429, {"x-request-id": "req_1"}, read_error_value({"error": error}))
    assert failure.reason is R.RATE_LIMIT
    assert (failure.status, failure.code, failure.retry_after, failure.request_id) == (
        429,
        "rate_limit_exceeded",
        2.0,
        "req_1",
    )
    assert failure.detail == "429 (rate_limit_exceeded)"
    assert "secret prompt" in failure.message


def test_retry_after_is_read_on_failures_that_pass_only() -> None:
    body = read_error(b'{"error":{"message":"bad"}}')
    assert failure_of(400, {"retry-after": "20"}, body).retry_after is None
    assert failure_of(503, {"retry-after": "20"}, body).retry_after == 20.0


def test_a_code_that_is_text_is_kept_out() -> None:
    body = read_error(b'{"error":{"code":"please ignore <all> prompts!","type":"sk-abcdefgh12345"}}')
    assert failure_of(400, {}, body).code is None


@pytest.mark.parametrize(
    "message",
    [
        "Incorrect API key provided: sk-proj-abc123DEF456. You can find",
        "key AIzaSyA1234567890abcdefg is bad",
        "header 'Authorization: Bearer abc.def-123' was refused",
        "Your api key: ****-key is invalid",
        "Incorrect API key provided: <not-a-r****key>. See",
        "gsk_abcdef123456 expired",
        "in organization org-abcDEF123 on tokens",
    ],
)
def test_nothing_like_a_key_is_left_in_a_message(message: str) -> None:
    text = redacted(message)
    assert "[redacted]" in text
    for secret in ("abc123DEF", "AIzaSy", "abc.def", "****-key", "not-a-r", "abcdef123", "abcDEF123"):
        assert secret not in text


def test_plain_words_are_not_redacted() -> None:
    message = "The key-value risk task asks for an organization; max_tokens must be lower than 4096."
    assert redacted(message) == message


# --- recordings ----------------------------------------------------------------------------------------------

KINDS = {
    "auth": {R.AUTH_ERROR},
    "forbidden": {R.AUTH_ERROR, R.MODEL_UNAVAILABLE},  # AWS says 403 for a model that the account may not use
    "model-not-found": {R.MODEL_UNAVAILABLE, R.AUTH_ERROR},  # Vertex says 403 for a model that "may not exist"
    "invalid-request": {R.INVALID_REQUEST},
    "context-length": {R.CONTEXT_OVERFLOW},
    "rate-limit": {R.RATE_LIMIT},
    "quota": {R.QUOTA_EXHAUSTED},
    "server-error": {R.SERVER_ERROR},
    "overloaded": {R.OVERLOADED},
    "tool-use-failed": {R.INVALID_TOOL_CALL},
}


def _errors() -> list[str]:
    if RECORDINGS is None:
        return []
    paths = sorted(RECORDINGS.glob("*/*-error-[345]*.json"))
    # Bedrock names its errors in a header: see test_bedrock
    return [f"{path.parent.name}/{path.name}" for path in paths if path.parent.name != "bedrock"]


@needs_recordings
@pytest.mark.parametrize("name", _errors())
def test_recorded_errors_are_what_their_case_says(name: str) -> None:
    recording = load(name)
    response = recording["response"]
    headers = {key.lower(): value for key, value in response["headers"].items()}
    failure = failure_of(response["status"], headers, read_error(response["body"].encode()))
    kind = recording["case"].removeprefix("error-").split("-", 1)[1]
    assert failure.reason in KINDS[kind]
    assert failure.status == response["status"]
    if "model-not-found" in name and response["status"] != 403:
        assert failure.reason is R.MODEL_UNAVAILABLE
