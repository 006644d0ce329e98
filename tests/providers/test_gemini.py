"""The Gemini provider: addresses, headers, and what Google's errors mean."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import ChatRequest, Completion, Continuation, Finish, Message, RequestFacts, TextPart
from crossfade.core.failure import Failure, FailureReason
from crossfade.core.target import Dialect, Target, Vendor
from crossfade.providers.base import Inbound, Provider, ProviderRequest
from crossfade.providers.gemini import BASE_URL, GeminiProvider, path_of
from tests.recordings import load, names, needs_recordings

R = FailureReason
VENDOR = Vendor(name="gemini", dialect="gemini", base_url=BASE_URL, auth="x-goog-api-key")
PROVIDER: Provider = GeminiProvider(VENDOR)
TARGET = Target(
    key="google/gemini-3.8-flash#0", name="google/gemini-3.8-flash", provider="google", model="gemini-3.8-flash"
)


class Chat:
    """A caller of another dialect."""

    dialect: Dialect = "openai"
    facts = RequestFacts()

    def __init__(self, *messages: Message, **fields: Any) -> None:
        self._request = ChatRequest(messages=messages or (said_by_user("hi"),), **fields)

    def canonical(self) -> ChatRequest:
        return self._request

    def body(self, target: Target, *, stream: bool, include_usage: bool, continuation: Continuation | None) -> bytes:
        raise AssertionError("the caller's own bytes are of another dialect")


def said_by_user(text: str) -> Message:
    return Message(role="user", parts=(TextPart(text),))


def request(
    chat: Inbound | None = None,
    target: Target = TARGET,
    secret: str | None = "key",
    *,
    stream: bool = False,
    **more: Any,
) -> ProviderRequest:
    return PROVIDER.request(chat or Chat(), target, secret, stream=stream, **more)


# --- requests ------------------------------------------------------------------------------------------------


def test_a_request_names_its_model_in_the_path_alone() -> None:
    buffered, streamed = request(), request(stream=True)
    assert buffered.path == "/models/gemini-3.8-flash:generateContent"
    assert streamed.path == "/models/gemini-3.8-flash:streamGenerateContent?alt=sse"
    assert buffered.body == streamed.body
    assert json.loads(buffered.body) == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


@pytest.mark.parametrize(
    "auth,secret,header",
    [
        ("x-goog-api-key", "key", ("x-goog-api-key", "key")),
        ("bearer", "key", ("authorization", "Bearer key")),
        ("api-key", "key", ("api-key", "key")),
        ("none", "key", None),
        ("x-goog-api-key", None, None),
    ],
)
def test_the_credential_goes_where_the_vendor_wants_it(auth: Any, secret: str | None, header: Any) -> None:
    provider = GeminiProvider(msgspec.structs.replace(VENDOR, auth=auth))
    headers = provider.request(Chat(), TARGET, secret, stream=False).headers
    assert headers == [("content-type", "application/json"), *([header] if header else [])]
    assert "gemini" in repr(provider)


@given(st.text())
def test_a_model_name_cannot_leave_its_segment(model: str) -> None:
    for stream in (False, True):
        path = path_of(model, "streamGenerateContent?alt=sse" if stream else "generateContent")
        assert path.isascii()
        assert path.count("/") == 2
        assert path.count("?") == (1 if stream else 0)
        parts = urlsplit("http://h/v1beta" + path)
        assert (parts.netloc, parts.fragment) == ("h", "")
        segment = parts.path.removeprefix("/v1beta/models/").rpartition(":")[0]
        assert ":" not in segment
        assert "\n" not in segment and " " not in segment
        assert segment == "" or unquote(segment) == model.removeprefix("models/")


@pytest.mark.parametrize("model", ["../../v1/secrets", "a?key=b", "a#b", "a%2fb", "x:batchEmbedContents", "a\r\nb: c"])
def test_hostile_model_names(model: str) -> None:
    path = request(target=msgspec.structs.replace(TARGET, model=model)).path
    assert path.startswith("/models/")
    assert path.endswith(":generateContent")
    assert not set("/?#\r\n:") & set(path.removeprefix("/models/").removesuffix(":generateContent"))


def test_the_name_as_google_lists_it_is_the_model() -> None:
    assert path_of("models/gemini-3.8-flash", "x") == path_of("gemini-3.8-flash", "x")


def test_a_continuation_adds_its_turns() -> None:
    rest = Continuation(text="so far", anchor="far", prefill=False, delivered_tokens=5)
    body = json.loads(request(Chat(max_tokens=20), continuation=rest).body)
    assert [turn["role"] for turn in body["contents"]] == ["user", "model", "user"]
    assert body["contents"][1]["parts"] == [{"text": "so far"}]
    assert body["contents"][2]["parts"][0]["text"].endswith("far")
    assert body["generationConfig"]["maxOutputTokens"] == 15
    prefilled = json.loads(request(continuation=msgspec.structs.replace(rest, prefill=True)).body)
    assert prefilled["contents"][-1] == {"role": "model", "parts": [{"text": "so far"}]}


def test_a_targets_parameters_and_the_losses_are_passed_on() -> None:
    target = msgspec.structs.replace(TARGET, set_params=(("safetySettings", b"[]"),), drop_params=("seed",))
    made = request(Chat(user="u", seed=4), target)
    assert json.loads(made.body)["safetySettings"] == []
    assert "generationConfig" not in json.loads(made.body)
    assert made.dropped == ("user",)


def test_what_cannot_be_said_is_raised() -> None:
    with pytest.raises(InvalidRequest):
        request(Chat(Message(role="tool", call_id="nobody", parts=(TextPart("x"),))))


# --- errors --------------------------------------------------------------------------------------------------


def error(code: int, status: str | None, message: str, *details: dict[str, Any]) -> bytes:
    return json.dumps(
        {"error": {"code": code, "message": message, "status": status, "details": list(details)}}
    ).encode()


def quota(quota_id: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota_id}]}


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "48s"}
EXCEEDED = "You exceeded your current quota, please check your plan and billing details."
CASES = [
    (400, error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."), R.AUTH_ERROR),
    (400, error(400, "INVALID_ARGUMENT", "Renew it.", {"reason": "API_KEY_INVALID"}), R.AUTH_ERROR),
    (400, error(400, "INVALID_ARGUMENT", "API key expired. Please renew the API key."), R.AUTH_ERROR),
    (400, error(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), R.AUTH_ERROR),
    (
        400,
        error(
            400, "FAILED_PRECONDITION", "Gemini API free tier is not available in your country. Please enable billing."
        ),
        R.AUTH_ERROR,
    ),
    (400, error(400, "FAILED_PRECONDITION", "The File x is not in an ACTIVE state."), R.INVALID_REQUEST),
    (400, error(400, "INVALID_ARGUMENT", "Please use a valid role: user, model."), R.INVALID_REQUEST),
    (
        400,
        error(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens allowed (8)."),
        R.CONTEXT_OVERFLOW,
    ),
    (402, error(402, "RESOURCE_EXHAUSTED", "Payment required."), R.QUOTA_EXHAUSTED),
    (403, error(403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers"), R.AUTH_ERROR),
    (403, error(403, "PERMISSION_DENIED", "API has not been used", {"reason": "SERVICE_DISABLED"}), R.AUTH_ERROR),
    (403, error(403, "PERMISSION_DENIED", "denied on resource 'm' (or it may not exist)."), R.MODEL_UNAVAILABLE),
    (404, error(404, "NOT_FOUND", "models/x is not found for API version v1beta"), R.MODEL_UNAVAILABLE),
    (404, b"", R.MODEL_UNAVAILABLE),
    (429, error(429, "RESOURCE_EXHAUSTED", EXCEEDED, quota("GenerateRequestsPerDayPerProject")), R.QUOTA_EXHAUSTED),
    (429, error(429, "RESOURCE_EXHAUSTED", EXCEEDED, quota("GenerateRequestsPerMinutePerProject")), R.RATE_LIMIT),
    (429, error(429, "RESOURCE_EXHAUSTED", EXCEEDED), R.RATE_LIMIT),
    (429, error(429, "RESOURCE_EXHAUSTED", "x", {"metadata": {"quota_limit": "RequestsPerDay"}}), R.QUOTA_EXHAUSTED),
    (429, error(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted."), R.QUOTA_EXHAUSTED),
    (429, b"<html>slow down</html>", R.RATE_LIMIT),
    (499, error(499, "CANCELLED", "The operation was cancelled."), R.SERVER_ERROR),
    (500, error(500, "INTERNAL", "An internal error has occurred."), R.SERVER_ERROR),
    (500, error(500, "INTERNAL", "API key not valid.", {"reason": "API_KEY_INVALID"}), R.SERVER_ERROR),
    (503, error(503, "UNAVAILABLE", "The model is overloaded. Please try again later."), R.OVERLOADED),
    (504, error(504, "DEADLINE_EXCEEDED", "Gateway timeout"), R.SERVER_ERROR),
    (504, b"", R.SERVER_ERROR),
]


@pytest.mark.parametrize("status,body,reason", CASES)
def test_errors_have_their_reasons_as_a_status_in_a_body_and_in_a_stream(
    status: int, body: bytes, reason: FailureReason
) -> None:
    failure = PROVIDER.failure(status, {}, body)
    assert (failure.reason, failure.status) == (reason, status)
    assert PROVIDER.failure(status, {}, b"[" + body + b"]").reason is reason
    if not body.startswith(b"{"):
        return
    in_body = PROVIDER.completion(body, RequestFacts())
    assert isinstance(in_body, Failure)
    assert (in_body.reason, in_body.status) == (reason, status)
    reader = PROVIDER.reader(RequestFacts(stream=True))
    (event,) = reader.feed(b"data: " + body + b"\r\n\r\n")
    assert event.failure == in_body
    assert not reader.is_complete


def test_the_waiting_time_is_in_the_details_or_the_words() -> None:
    def wait(*details: dict[str, Any], message: str = EXCEEDED) -> float | None:
        body = error(429, "RESOURCE_EXHAUSTED", message, *details)
        return PROVIDER.failure(429, {}, body).retry_after

    assert wait(quota("PerMinute"), RETRY) == 48.0
    assert wait(message="Please retry in 48.9s.") == 48.9
    assert wait() is None
    assert PROVIDER.failure(429, {"retry-after": "7"}, error(429, None, "x", RETRY)).retry_after == 7.0


@pytest.mark.parametrize(
    "value", [None, 3, "text", [], [3], {"details": "x"}, {"details": [3, {"violations": "x"}]}, {"message": {"a": 1}}]
)
def test_odd_errors_still_have_a_reason(value: Any) -> None:
    assert PROVIDER.failure(429, {}, json.dumps({"error": value}).encode()).reason is R.RATE_LIMIT
    assert PROVIDER.failure(503, {}, json.dumps(value).encode()).reason is R.OVERLOADED


def test_the_more_telling_code_is_kept_and_the_message_is_not_in_the_detail() -> None:
    failure = PROVIDER.failure(400, {}, error(400, "INVALID_ARGUMENT", "secret", {"reason": "API_KEY_INVALID"}))
    assert failure.code == "API_KEY_INVALID"
    assert "secret" not in failure.detail
    assert PROVIDER.failure(404, {}, error(404, "NOT_FOUND", "x")).code == "NOT_FOUND"


# --- recordings ----------------------------------------------------------------------------------------------

ERRORS = [name for name in (*names("gemini", "generate"), *names("vertex", "generate")) if "-error-" in name]
REASONS = {
    "error-400-auth": R.AUTH_ERROR,
    "error-403-forbidden": R.AUTH_ERROR,
    "error-404-model-not-found": R.MODEL_UNAVAILABLE,
    "error-403-model-not-found": R.MODEL_UNAVAILABLE,
    "error-429-quota": R.RATE_LIMIT,  # its quotaId says per minute
    "error-429-rate-limit": R.RATE_LIMIT,
    "error-400-context-length": R.CONTEXT_OVERFLOW,
    "error-400-invalid-request": R.INVALID_REQUEST,
}
LOCATION = "vertex/generate-error-400-invalid-request-02.json"  # "User location is not supported for the API use."


@needs_recordings
@pytest.mark.parametrize("name", ERRORS)
def test_recorded_errors_have_their_reasons(name: str) -> None:
    recording = load(name)
    response = recording["response"]
    failure = PROVIDER.failure(response["status"], response["headers"], response["body"].encode())
    assert failure.reason is (R.AUTH_ERROR if name == LOCATION else REASONS[recording["case"]])
    assert failure.status == response["status"]
    assert failure.code is not None
    assert failure.retry_after == (48.0 if recording["case"] == "error-429-quota" else None)


@needs_recordings
def test_recorded_answers_pass_through_the_provider() -> None:
    body = load("gemini/generate-text-02.json")["response"]["body"].encode()
    completion = PROVIDER.completion(body, RequestFacts())
    assert isinstance(completion, Completion)
    assert completion.choices[0].finish is Finish.STOP
    reader = PROVIDER.reader(RequestFacts(stream=True))
    stream = load("gemini/generate-text-stream-02.json")["response"]["body"].encode()
    assert [*reader.feed(stream), *reader.close()]
    assert reader.is_complete
