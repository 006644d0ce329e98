from __future__ import annotations

import json
from typing import Any

import pytest

from crossfade.core.credential import AwsKeys
from crossfade.core.exchange import RequestFacts
from crossfade.core.failure import Failure, FailureReason
from crossfade.providers.compatible import VENDORS
from crossfade.providers.errors import MAX_MESSAGE
from crossfade.providers.registry import provider_for
from crossfade.providers.secrecy import Secrets
from crossfade.wire.openai_chat import read_request
from tests.providers.test_openai import HELLO, target

KEY = "zk9+Plain/Key=of-no-known-shape"
QUOTED = "zk9%2BPlain%2FKey%3Dof-no-known-shape"

SENTENCES = [f"token {KEY} is not valid", f"no such page: /v1?key={QUOTED}", f'key="{KEY}"', KEY, f"{KEY}{KEY}"]


def asked(vendor: str) -> Any:
    provider = provider_for(VENDORS[vendor])
    provider.request(read_request(json.dumps(HELLO).encode(), {}), target(), KEY, stream=False)
    return provider


def said(failure: object) -> str:
    assert isinstance(failure, Failure)
    return repr(failure)


@pytest.mark.parametrize("vendor", ["openai", "anthropic", "gemini", "azure"])
@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_server_that_repeats_the_key_it_was_sent_does_not_give_it_away(vendor: str, sentence: str) -> None:
    provider = asked(vendor)
    error = {"message": sentence, "type": KEY, "code": KEY, "param": KEY, "status": KEY}
    body = json.dumps({"error": error, "request_id": KEY}).encode()
    for status in (400, 401, 404, 422, 429, 500):
        for text in (said(provider.failure(status, {"x-request-id": KEY}, body)),) * 2:
            assert KEY not in text and QUOTED not in text
    assert KEY not in said(provider.completion(body, RequestFacts()))
    reader = provider.reader(RequestFacts(stream=True))
    events = [*reader.feed(b"event: error\ndata: " + body + b"\n\n"), *reader.close()]
    failures = [event.failure for event in events if event.failure is not None]
    assert failures
    assert KEY not in "".join(map(said, failures))


def test_a_key_that_the_bound_of_a_message_cuts_is_masked_as_far_as_it_goes() -> None:
    provider = asked("openai")
    message = "x" * (MAX_MESSAGE - 12) + KEY
    failure = provider.failure(400, {}, json.dumps({"error": {"message": message}}).encode())
    assert failure.message == "x" * (MAX_MESSAGE - 12) + "[redacted]"


def test_ordinary_words_stay() -> None:
    secrets = Secrets()
    secrets.learn(None)
    secrets.learn("key")  # too short to be told from a word
    secrets.learn(KEY)
    failure = Failure(reason=FailureReason.SERVER_ERROR, message="the key is zk9", code="bad_key")
    assert secrets.cleaned(failure) is failure


def test_every_part_of_a_key_pair_is_a_secret() -> None:
    secrets = Secrets()
    keys = AwsKeys("AKIDEXAMPLE0000000", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "IQoJb3JpZ2luX2VjEXAMPLE//TOKEN==")
    secrets.learn(keys)
    parts = (keys.access_key_id, keys.secret_access_key, keys.session_token or "")
    said = secrets.cleaned(Failure(reason=FailureReason.AUTH_ERROR, message=" and ".join(parts), request_id=parts[2]))
    assert said.message == "[redacted] and [redacted] and [redacted]" and said.request_id is None
    assert not any(part in f"{secrets!r} {keys!r}" for part in parts)
    secrets.learn(AwsKeys("AKIDEXAMPLE0000000", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"))


def test_of_keys_that_are_refreshed_the_latest_are_remembered() -> None:
    secrets = Secrets()
    for number in range(1000):
        secrets.learn(f"token-{number:04d}")
    assert secrets.kept_out_of("about token-0999") is None
    assert "1000" not in repr(secrets) and repr(secrets) == "<Secrets 256>"
    assert secrets.cleaned(Failure(reason=FailureReason.AUTH_ERROR, message="token-0999")).message == "[redacted]"


@pytest.mark.parametrize("delay", ["9" * 400 + "s", "9" * 400 + "h", "99999999999999999999s"])
def test_a_waiting_time_without_end_says_nothing(delay: str) -> None:
    error = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": delay}]}}
    for vendor in ("gemini", "openai"):
        failure = asked(vendor).failure(429, {}, json.dumps(error).encode())
        assert failure.retry_after is None


@pytest.mark.parametrize("name", ["x-request-id", "request-id", "cf-ray"])
@pytest.mark.parametrize("vendor", ["openai", "azure", "anthropic", "gemini"])
def test_an_id_that_repeats_the_key_is_no_id(vendor: str, name: str) -> None:
    provider = asked(vendor)
    assert provider.request_id({name: "req-1"}) == "req-1"
    assert provider.request_id({name: f"req-{KEY}-1"}) is None
    assert provider.request_id({name: f"req-{KEY[:9]}"}) is None
    assert provider.request_id({name: f"req-{QUOTED}"}) is None
    assert provider.request_id({}) is None
