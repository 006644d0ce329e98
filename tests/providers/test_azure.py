"""Azure OpenAI: where its requests go, and what only it says."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.config.addresses import placed
from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Completion, Finish, RequestFacts
from crossfade.core.failure import FailureReason as R
from crossfade.core.validation import check_completion
from crossfade.providers.compatible import VENDORS
from crossfade.providers.openai import OpenAIProvider
from crossfade.wire import openai_embeddings
from crossfade.wire.openai_chat import read_request
from tests.providers.test_openai import HELLO, target
from tests.recordings import load, names, needs_recordings

RESOURCE = "https://r.openai.azure.com"
V1 = OpenAIProvider(placed(VENDORS["azure"], f"{RESOURCE}/openai/v1", None))
DATED = OpenAIProvider(placed(VENDORS["azure"], RESOURCE, "2024-10-21"))
CHAT = read_request(json.dumps(HELLO).encode(), {})
VECTORS = openai_embeddings.read_request(b'{"model":"m","input":"x"}', {})


@pytest.mark.parametrize("inbound", [CHAT, VECTORS], ids=["chat", "embeddings"])
def test_the_deployment_is_in_the_path_of_the_dated_api_alone(inbound: Any) -> None:
    endpoint = "/chat/completions" if inbound is CHAT else "/embeddings"
    for provider, path in ((V1, endpoint), (DATED, f"/deployments/my%20chat{endpoint}?api-version=2024-10-21")):
        request = provider.request(inbound, target("my chat"), "key", False)
        assert (request.path, json.loads(request.body)["model"]) == (path, "my chat")
        assert ("api-key", "key") in request.headers


@given(st.text())
def test_the_name_of_a_deployment_cannot_leave_its_segment(name: str) -> None:
    if name in (".", ".."):
        with pytest.raises(InvalidRequest):
            DATED.request(CHAT, target(name), "key", False)
        return
    path = DATED.request(CHAT, target(name), "key", False).path
    assert path.isascii() and " " not in path
    parts = urlsplit("http://h" + path)
    assert (parts.netloc, parts.fragment, parts.query) == ("h", "", "api-version=2024-10-21")
    assert re.fullmatch(r"/deployments/[\w.~%-]*/chat/completions", parts.path)


@pytest.mark.parametrize("name", [".", "..", "../../admin", "a?b=c", "a#b", "a%2fb", "a\r\nb: c", "\ud800"])
def test_hostile_names_of_deployments(name: str) -> None:
    try:
        path = DATED.request(CHAT, target(name.encode("utf-8", "replace").decode()), "key", False).path
    except InvalidRequest:
        assert name in (".", "..")
        return
    assert path.count("/") == 4 and path.count("?") == 1 and "\r" not in path and "#" not in path


def test_old_versions_get_the_parameters_that_they_know() -> None:
    old = OpenAIProvider(placed(VENDORS["azure"], RESOURCE, "2024-02-01"))
    asked = read_request(json.dumps(HELLO | {"max_completion_tokens": 5, "stream": True}).encode(), {})
    assert json.loads(old.request(asked, target(), "k", stream=True).body) == HELLO | {"max_tokens": 5, "stream": True}
    new = json.loads(DATED.request(asked, target(), "k", stream=True).body)
    assert new["max_completion_tokens"] == 5 and new["stream_options"] == {"include_usage": True}


# --- what it says --------------------------------------------------------------------------------------------

S0 = (
    "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-02-01 have exceeded token"
    " rate limit of your current OpenAI S0 pricing tier. Please retry after 86400 seconds."
)
BUSY = "The system is currently experiencing high demand and cannot process your request. Please retry after 20 seconds"
FILTERED = {
    "code": "content_filter", "message": "The response was filtered", "param": "prompt", "status": 400, "type": None,
    "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "headers", "error", "reason", "wait"),
    [
        (401, {}, {"code": "401", "message": "Access denied due to invalid subscription key"}, R.AUTH_ERROR, None),
        (401, {}, {"code": "PermissionDenied", "message": "The principal lacks the action"}, R.AUTH_ERROR, None),
        (404, {}, {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."},
         R.MODEL_UNAVAILABLE, None),
        (404, {}, {"code": "404", "message": "Resource not found"}, R.MODEL_UNAVAILABLE, None),
        (429, {}, {"code": "429", "message": S0}, R.RATE_LIMIT, 86400.0),
        (429, {}, {"code": "429", "message": BUSY}, R.OVERLOADED, 20.0),
        (429, {"retry-after": "1", "retry-after-ms": "0"}, {"code": "RateLimitReached"}, R.RATE_LIMIT, 1.0),
        (429, {"retry-after-ms": "1500", "retry-after": "2"}, {"code": "429"}, R.RATE_LIMIT, 1.5),
        (429, {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "37"}, {"code": "429"}, R.RATE_LIMIT,
         37.0),
        (400, {}, FILTERED, R.CONTENT_FILTER, None),
        (400, {}, {"message": "Unknown parameter: 'stream_options'.", "code": "unknown_parameter"}, R.INVALID_REQUEST,
         None),
    ],
)  # fmt: skip
def test_its_errors_have_their_reasons(
    status: int, headers: dict[str, str], error: dict[str, Any], reason: R, wait: float | None
) -> None:
    failure = DATED.failure(status, {"apim-request-id": "id", **headers}, json.dumps({"error": error}).encode())
    assert (failure.reason, failure.status, failure.retry_after, failure.request_id) == (reason, status, wait, "id")


def test_a_filtered_answer_has_no_message() -> None:
    body = json.dumps({"id": "c", "choices": [{"index": 0, "finish_reason": "content_filter"}]}).encode()
    found = DATED.completion(body, RequestFacts())
    assert isinstance(found, Completion) and found.choices[0].finish is Finish.CONTENT_FILTER
    wrong = check_completion(found, RequestFacts())
    assert wrong is not None and wrong.reason is R.CONTENT_FILTER


# --- recordings ----------------------------------------------------------------------------------------------

RECORDED = [*names("azure", "chat"), *names("azure", "embeddings")]


@needs_recordings
@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_request_goes_where_it_went(name: str) -> None:
    """A provider configured as the documentation says asks the very URL that was recorded."""
    given = load(name)["request"]
    url = urlsplit(given["url"])
    base, _, rest = url.path.partition("/deployments/")
    deployment = rest.partition("/")[0] if rest else given["body"]["model"]
    base = re.sub(r"/(chat/completions|embeddings)$", "", base)
    version = url.query.removeprefix("api-version=") or None
    vendor = placed(VENDORS["azure"], f"https://{url.netloc}{base}", version)
    body = json.dumps(given["body"]).encode()
    inbound: Any = read_request(body, {}) if "/chat-" in name else openai_embeddings.read_request(body, {})
    request = OpenAIProvider(vendor).request(inbound, target(deployment), "key", inbound.facts.stream)
    assert vendor.base_url + request.path == given["url"]
    assert json.loads(request.body) | {"model": 0} == given["body"] | {"model": 0}


@needs_recordings
@pytest.mark.parametrize("name", [name for name in RECORDED if "-stream-" in name])
def test_a_recorded_stream_begins_with_what_is_no_content(name: str) -> None:
    reader = DATED.reader(RequestFacts(stream=True, include_usage=True))
    first, *rest = [*reader.feed(load(name)["response"]["body"].encode()), *reader.close()]
    assert b"prompt_filter_results" in first.raw and first.failure is None and not (first.text or first.tools)
    assert any(event.text or event.tools for event in rest) and reader.is_complete
