"""When a provider may be asked again: waiting times read out of headers, in all the forms that providers use.

Pure: no clock is read, and nothing is clamped; what is too long or too short is decided elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final

_DURATION: Final = re.compile(
    r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m(?!s))?(?:(\d{1,12}(?:\.\d+)?)s)?(?:(\d{1,15}(?:\.\d+)?)ms)?",
    re.ASCII,
)
_NUMBER: Final = re.compile(r"\d{1,20}(?:\.\d{1,12})?(?:[eE]\+?\d{1,2})?", re.ASCII)
_RESET_BY_SIZE: Final = "ratelimitbysize-reset"
_QUERY_COST: Final = "ratelimitbysize-query-cost"
_EPOCH_S, _EPOCH_MS = 1_000_000_000.0, 1_000_000_000_000.0
_SINCE, _NEAR = 1_600_000_000.0, 366 * 86_400.0
"""A number is the Unix time of a reset only behind this one, and so close to the present; else it is a long wait."""
_LIMITS: Final = (
    "requests",
    "tokens",
    "input-tokens",
    "output-tokens",
    "input-images",
    "project-tokens",
)


def retry_after(headers: Mapping[str, str], wall: float | None = None, *, is_limited: bool = True) -> float | None:
    """Seconds until the provider may be asked again, by its headers (names in lower case); None if they do not say.

    `retry-after-ms`, then `retry-after`, then, where the failure `is_limited` (a limit was run into), the reset
    headers of those limits that have nothing remaining, the longest of them. Absolute times are taken against the
    response's own `date`, else against `wall` (Unix seconds), else not at all. Negative and garbled values say nothing.
    """
    if (given := headers.get("retry-after-ms")) and (ms := parse_number(given)):
        return ms / 1000
    if given := headers.get("retry-after"):
        found = parse_reset(given, reference(headers, wall))
        if found is not None:
            return found
    return _by_resets(headers, wall) if is_limited else None


def _by_resets(headers: Mapping[str, str], wall: float | None) -> float | None:
    used_up: list[float] = []
    others: list[float] = []
    for remaining_name, reset_name, in_ms in _RESET_HEADERS:
        if (reset := headers.get(reset_name)) is None:
            continue
        remaining = headers.get(remaining_name)
        if remaining is not None and not _is_used_up(parse_number(remaining), _cost(headers, reset_name)):
            continue
        seconds = parse_reset(reset, reference(headers, wall))
        if seconds is not None:
            if in_ms in headers:
                seconds /= 1000
            (others if remaining is None else used_up).append(seconds)
    if used_up:
        return max(used_up)
    return min(others) if others else None


def _is_used_up(left: float | None, cost: float) -> bool:
    return left is not None and (left == 0 or left < cost)


def _cost(headers: Mapping[str, str], reset_name: str) -> float:
    """What the refused request would have taken of a limit, where the provider says so (Mistral's, in tokens)."""
    return (parse_number(headers.get(_QUERY_COST, "")) or 0) if reset_name == _RESET_BY_SIZE else 0


_RESET_HEADERS: Final = tuple(
    # Azure alone sends the last of them, and its bare numbers are milliseconds.
    (f"{prefix}-{first}", f"{prefix}-{second}", f"{prefix}-{second.replace('reset', 'renewalperiod')}")
    for prefix, pairs in (
        ("x-ratelimit", [("remaining", "reset"), *((f"remaining-{name}", f"reset-{name}") for name in _LIMITS)]),
        ("anthropic-ratelimit", [(f"{name}-remaining", f"{name}-reset") for name in _LIMITS]),
        ("ratelimit", [("remaining", "reset")]),
        ("ratelimitbysize", [("remaining", "reset")]),
    )
    for first, second in pairs
)


def parse_reset(text: str, reference: float | None = None) -> float | None:
    """One value of a reset or `retry-after` header in seconds from now: a number of seconds, a duration
    (`8.64s`, `1m2s`, `12ms`), Unix time in seconds or milliseconds, RFC 3339, or an HTTP date.

    Absolute forms need `reference`, the Unix time of "now"; a moment that has passed is 0. None for what is garbled.
    """
    text = text.strip()
    if not text or len(text) > 64:
        return None
    number = parse_number(text)
    if number is not None:
        return number if number < _EPOCH_S else _from_epoch(number, reference)
    if text[4:5] != "-" and (duration := parse_duration(text)) is not None:
        return duration
    return _until(_moment(text), reference)


def _from_epoch(number: float, reference: float | None) -> float | None:
    moment = number / 1000 if number >= _EPOCH_MS else number
    if moment < _SINCE or (reference is not None and abs(moment - reference) > _NEAR):
        return number
    return _until(moment, reference)


def parse_number(text: str) -> float | None:
    """A number that is not negative; None for anything else."""
    if len(text) <= 20 and text.isdigit() and text.isascii():  # nearly all of them
        return float(text)
    text = text.strip()
    return float(text) if text[-1:].isdigit() and _NUMBER.fullmatch(text) else None


@lru_cache(maxsize=256)  # most are 0s, or a few milliseconds
def parse_duration(text: str) -> float | None:
    """Seconds of `8.64s`, `1m2s`, `12ms`, `1h`; None for anything else."""
    match = _DURATION.fullmatch(text)
    if match is None or not match[0]:
        return None
    days, hours, minutes, seconds, ms = (float(group) if group else 0.0 for group in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds + ms / 1000


@lru_cache(maxsize=64)  # the answers of one second all have the same
def _moment(text: str) -> float | None:
    """Unix time of an RFC 3339 or HTTP date."""
    try:
        parsed = datetime.fromisoformat(text) if text[:1].isdigit() else parsedate_to_datetime(text)
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=UTC)
        return parsed.timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def reference(headers: Mapping[str, str], wall: float | None) -> float | None:
    """The Unix time of "now" by an answer's own `date`, else `wall`."""
    date = headers.get("date")
    moment = _moment(date) if date else None
    return moment if moment is not None else wall


def _until(moment: float | None, reference: float | None) -> float | None:
    if moment is None or reference is None:
        return None
    return max(0.0, moment - reference)
