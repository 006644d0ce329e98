"""What is left of rate limits, read from the heads that vendors were recorded to send, by their rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfade.providers.compatible import VENDORS
from crossfade.providers.rate_limits import read_limits
from tests.recordings import RECORDINGS, load, needs_recordings

NOW = 1000.0
DATE = "Wed, 18 Feb 2026 18:20:41 GMT"
WALL = 1771438841.0

UNREAD = {
    "x-ratelimit-remaining-input-images",  # few requests have any, and none says how many before
    "x-ratelimit-limit-input-images",
    "x-ratelimit-reset-input-images",
    "x-ratelimit-abusepenalty-active",
    "x-ratelimit-renewalperiod-requests",
    "x-ratelimit-renewalperiod-tokens",
    "x-ratelimit-tokens-query-cost",  # what the request took, which is counted in what is left
    "ratelimitbysize-query-cost",
    "x-ratelimit-requests",
    "x-ratelimit-tokens",
}

Said = dict[str, tuple[float, float | None, float]]


def read(vendor: str, headers: dict[str, str]) -> Said:
    """What is left, of how much, and for how long, by the limit's name."""
    found = read_limits(VENDORS[vendor].limits, headers, NOW, WALL)
    return {limit.name: (limit.left, limit.most, round(limit.until - NOW, 3)) for limit in found}


CASES: list[tuple[str, dict[str, str], Said]] = [
    (
        "openai",
        {
            "x-ratelimit-limit-requests": "500",
            "x-ratelimit-limit-tokens": "200000",
            "x-ratelimit-remaining-requests": "499",
            "x-ratelimit-remaining-tokens": "199998",
            "x-ratelimit-reset-requests": "120ms",
            "x-ratelimit-reset-tokens": "6m0s",
        },
        {"requests": (499, 500, 0.12), "tokens": (199998, 200000, 360)},
    ),
    (
        "groq",
        {
            "x-ratelimit-limit-requests": "14400",
            "x-ratelimit-remaining-requests": "14397",
            "x-ratelimit-reset-requests": "17.399999999s",
        },
        {"requests": (14397, 14400, 17.4)},
    ),
    (
        "azure",  # 14 tokens of 120,000 a minute are back after 7 ms
        {
            "x-ratelimit-limit-tokens": "120000",
            "x-ratelimit-remaining-tokens": "119986",
            "x-ratelimit-reset-tokens": "7",
            "x-ratelimit-remaining-requests": "119",
        },
        {"tokens": (119986, 120000, 0.007), "requests": (119, None, 60)},
    ),
    (
        "anthropic",
        {
            "date": DATE,
            "anthropic-ratelimit-requests-limit": "5",
            "anthropic-ratelimit-requests-remaining": "1",
            "anthropic-ratelimit-requests-reset": "2026-02-18T18:21:15Z",
            "anthropic-ratelimit-input-tokens-remaining": "0",
            "anthropic-ratelimit-input-tokens-reset": "2026-02-18T18:20:39Z",
            "anthropic-ratelimit-output-tokens-remaining": "400000",
        },
        {"requests": (1, 5, 34), "input tokens": (0, None, 0), "output tokens": (400000, None, 60)},
    ),
    (
        "openrouter",
        {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1771438861000"},
        {"requests": (0, 20, 20)},
    ),
    (
        "mistral",
        {
            "x-ratelimit-limit-req-10-second": "60",
            "x-ratelimit-remaining-req-10-second": "57",
            "x-ratelimit-remaining-tokens-minute": "0",
        },
        {"requests per 10-second": (57, 60, 10), "tokens per minute": (0, None, 60)},
    ),
    (
        "cerebras",
        {
            "x-ratelimit-limit-requests-day": "14400",
            "x-ratelimit-remaining-requests-day": "14399",
            "x-ratelimit-reset-requests-day": "33011.382867",
            "x-ratelimit-remaining-tokens-minute": "9223372036854767616",
        },
        {"requests per day": (14399, 14400, 33011.383), "tokens per minute": (9223372036854767616, None, 60)},
    ),
    ("openai", {"x-ratelimit-remaining-requests": "many", "x-ratelimit-remaining-tokens": "-1"}, {}),
    (
        "openai",
        {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "soon"},
        {"requests": (1, None, 60)},
    ),
    ("openai", {"x-ratelimit-remaining-requests": "1, 2"}, {}),
    ("openai", {"x-ratelimit-remaining-requests": "nan", "x-ratelimit-remaining-tokens": "٣"}, {}),
    ("deepseek", {"x-ratelimit-remaining-requests": "0"}, {}),
]


@pytest.mark.parametrize(("vendor", "headers", "said"), CASES)
def test_what_is_left_is_read_by_the_vendors_row(vendor: str, headers: dict[str, str], said: Said) -> None:
    assert read(vendor, headers) == {
        name: (left, most, pytest.approx(ahead)) for name, (left, most, ahead) in said.items()
    }


def test_every_name_in_a_row_is_another_limits_and_in_lower_case() -> None:
    for vendor in VENDORS.values():
        lefts = [row.left for row in vendor.limits]
        assert len(set(lefts)) == len(lefts)
        for row in vendor.limits:
            assert row.left == row.left.lower() and row.counts == {"r": "requests", "o": "output"}.get(
                row.name[0], "tokens"
            )


@needs_recordings
def test_no_recorded_header_of_a_rate_limit_is_left_unread() -> None:
    """Each vendor's recorded answers against its row: nothing it says of its limits goes unnoticed."""
    assert RECORDINGS is not None
    heard: set[str] = set()
    for vendor in VENDORS.values():
        known = {name for row in vendor.limits for name in (row.left, row.most, row.reset)}
        for path in sorted(Path(RECORDINGS / vendor.name).glob("*.json")):
            headers = load(f"{vendor.name}/{path.name}")["response"].get("headers") or {}
            said = {name.lower(): value for name, value in headers.items()}
            limits = {name for name in said if "ratelimit" in name or "call-remaining" in name} - UNREAD
            if vendor.name == "anthropic":  # one was recorded of its OpenAI-like API, whose headers are OpenAI's
                limits = {name for name in limits if not name.startswith("x-")}
            assert limits <= known, (path, limits - known)
            if limits:
                heard.add(vendor.name)
                found = read_limits(vendor.limits, said, NOW, WALL)
                assert found and all(limit.left > 0 and limit.until - NOW >= 0 for limit in found), path
    assert heard == {
        "openai",
        "anthropic",
        "azure",
        "cohere",
        "groq",
        "huggingface",
        "mistral",
        "together",
        "xai",
    }
