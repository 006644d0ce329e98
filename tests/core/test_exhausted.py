"""What the caller is told when nobody answered: its status, and a message that names every rung."""

from __future__ import annotations

from typing import Any

import pytest

from crossfade.core.exhausted import RungEnd, agreed, broken_off, declined, exhausted, passed_over
from crossfade.core.failure import FailureReason
from tests.core.walking import failure

NOW = 50.0


def failed(reason: str, name: str = "a/m", back: float | None = None, **fields: Any) -> RungEnd:
    back_at = None if back is None else NOW + back
    return RungEnd(target=name, failure=failure(reason, **fields), back_at=back_at)


def skipped(why: str, out: str | None = None, back: float | None = None, name: str = "a/m") -> RungEnd:
    return RungEnd(target=name, skip=why, out=out, back_at=None if back is None else NOW + back)


def untried(why: str = "no time was left") -> RungEnd:
    return RungEnd(target="z/m", untried=why)


OPEN = skipped("breaker open", "breaker_open", 21.0)
UNABLE = skipped("no vision")


def test_message_names_every_rung() -> None:
    ends = [
        failed("timeout", "anthropic/claude-opus-5", detail="no content in 12.0 s"),
        failed("rate_limit", "openai/gpt-5.4", back=14.0),
        skipped("breaker open", "breaker_open", 21.0, "google/gemini-3.8-flash"),
    ]
    end = exhausted("chat", ends, NOW)
    assert end.message == (
        "All 3 targets of route 'chat' failed: anthropic/claude-opus-5 timeout (no content in 12.0 s);"
        " openai/gpt-5.4 rate_limit (429, back in 14 s); google/gemini-3.8-flash skipped: breaker open 21 s more"
    )
    assert (end.status, end.code, end.retry_after, end.failure) == (503, "chain_exhausted", 14.0, None)


@pytest.mark.parametrize(
    "ends, status, retry_after",
    [
        ([failed("rate_limit")], 429, 1.0),
        ([failed("rate_limit", back=14.0), failed("quota_exhausted", back=900.0)], 429, 14.0),
        ([failed("rate_limit", back=14.0), skipped("rate_limit", "rate_limit", 7.0)], 429, 7.0),
        ([failed("rate_limit", back=14.0), UNABLE], 503, 14.0),
        ([failed("rate_limit", back=14.0), untried()], 503, 14.0),
        ([failed("rate_limit", back=0.2)], 429, 1.0),
        ([failed("timeout"), failed("stream_stalled")], 504, None),
        ([failed("timeout"), untried()], 504, None),
        ([untried()], 504, None),
        ([failed("timeout"), UNABLE], 502, None),
        ([failed("timeout"), failed("rate_limit", back=30.0)], 503, 30.0),
        ([failed("timeout"), OPEN], 503, 21.0),
        ([failed("overloaded")], 503, 1.0),
        ([failed("overloaded", back=8.0), failed("server_error")], 503, 8.0),
        ([failed("server_error", back=5.0)], 503, 5.0),
        ([OPEN], 503, 21.0),
        ([skipped("on trial", "trial_in_flight")], 503, 1.0),
        ([failed("server_error"), failed("timeout")], 502, None),
        ([failed("server_error"), UNABLE], 502, None),
        ([failed("auth_error"), failed("server_error")], 502, None),
        ([skipped("auth_error", "auth_error", 900.0)], 502, None),
        ([skipped("auth_error", "auth_error", 900.0), failed("overloaded", back=5.0)], 503, 5.0),
        ([skipped("auth_error", "auth_error", 2.0), failed("overloaded", back=5.0)], 503, 5.0),
        ([skipped("model_unavailable", "model_unavailable", 900.0)], 404, None),
        ([failed("context_overflow"), UNABLE], 400, None),
        ([failed("invalid_request", status=422), failed("model_unavailable")], 422, None),
        ([failed("invalid_request", status=422), failed("server_error")], 502, None),
        ([failed("invalid_request", back=5.0)], 400, None),
        ([UNABLE, UNABLE], 400, None),
        ([UNABLE, skipped("model_unavailable", "model_unavailable", 9.0)], 400, None),
        ([UNABLE, failed("model_unavailable")], 404, None),
        ([], 502, None),
    ],
)
def test_status_of_many(ends: list[RungEnd], status: int, retry_after: float | None) -> None:
    end = exhausted("chat", ends, NOW)
    assert (end.status, end.retry_after) == (status, retry_after)


@pytest.mark.parametrize(
    "end, words",
    [
        (failed("server_error"), "a/m server_error (500)"),
        (failed("server_error", detail="500 (boom)"), "a/m server_error (500 (boom))"),
        (failed("connect_error"), "a/m connect_error"),
        (failed("rate_limit", back=0.1), "a/m rate_limit (429, back in 1 s)"),
        (UNABLE, "a/m skipped: no vision"),
        (skipped("on trial", "trial_in_flight"), "a/m skipped: on trial"),
        (untried("max_attempts (5) was reached"), "z/m not tried: max_attempts (5) was reached"),
    ],
)
def test_words_of_one(end: RungEnd, words: str) -> None:
    assert end.words(NOW) == words


def test_chain_of_one_and_of_none() -> None:
    assert exhausted("chat", [OPEN], NOW).message == (
        "The only target of route 'chat' failed: a/m skipped: breaker open 21 s more"
    )
    assert exhausted("chat", [], NOW).message == "Route 'chat' has no targets"


def test_messages_hold_nothing_an_upstream_wrote() -> None:
    end = exhausted("chat", [failed("server_error", message="prompt and key")], NOW)
    assert "prompt" not in end.message


@pytest.mark.parametrize(
    "reason, fields, status, code",
    [
        ("invalid_request", {"status": 413, "code": "too_big"}, 413, "too_big"),
        ("invalid_request", {}, 400, "invalid_request"),
        ("model_unavailable", {"status": 403}, 404, "model_unavailable"),
        ("quota_exhausted", {"status": 402}, 429, "quota_exhausted"),
        ("content_filter", {"status": 400}, 400, "content_filter"),
        ("server_error", {"status": 409}, 502, "server_error"),
        ("timeout", {}, 504, "timeout"),
        ("auth_error", {"status": 403}, 502, "upstream_auth_error"),
    ],
)
def test_status_of_one_alone(reason: str, fields: dict[str, Any], status: int, code: str) -> None:
    end = declined("a/m", failure(reason, **fields))
    assert (end.status, end.code) == (status, code)
    assert (end.failure is not None) is (400 <= status < 500), "theirs goes on as received, ours does not pretend"


def test_rate_limit_of_one_alone_says_when() -> None:
    assert declined("a/m", failure("rate_limit", retry_after=3.0)).retry_after == 3.0


def test_other_ends() -> None:
    over = passed_over("chat", skipped("rate_limit", "rate_limit", 0.3), FailureReason.RATE_LIMIT, NOW)
    assert (over.status, over.retry_after) == (429, 1.0)
    assert agreed(FailureReason.INVALID_JSON, "a", "b/m").message == (
        "Two providers gave the same unusable answer (invalid_json): a and b/m; the request is the likely cause"
    )
    broken = broken_off("a/m", failure("stream_stalled", detail="silent for 20.0 s"), "why")
    assert (broken.status, broken.code) == (504, "stream_stalled")
    assert broken.message == "The answer of a/m broke off (stream_stalled: silent for 20.0 s) and why"
