"""The words of settings that files and requests share: durations, `commit`, `hold`, `hedge_after`.

Raises ValueError with a sentence for people; who calls adds the place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from crossfade.core.policy import CommitPolicy, HedgePolicy

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)?\s*", re.ASCII)
_PERCENTILE = re.compile(r"p([1-9]\d?(?:\.\d{1,2})?)", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
MAX_DURATION = 7 * 24 * 3600.0

HOLD_WORDS = ("tool_calls", "json")


def parse_duration(value: object) -> float:
    """Seconds: a number, or text such as `500ms`, `2s`, `1m`, `1h`. Raises ValueError for anything else, for
    negative durations and for more than a week."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        seconds = float(match.group(1)) * _UNITS[match.group(2)] if match else math.nan
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value) if abs(value) <= MAX_DURATION else math.inf
    else:
        seconds = math.nan
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"{value!r} is no duration; write a number of seconds, or 500ms, 2s, 1m, 1h")
    if seconds > MAX_DURATION:
        raise ValueError(f"{value!r} is more than a week; the longest duration is 168h")
    return seconds


def parse_commit(value: object) -> CommitPolicy:
    """`first_content`, `complete`, `{chars: N}` or `{seconds: T}`. Raises ValueError for anything else."""
    wrong = f"{value!r} is no commit point; write first_content, complete, {{chars: N}} or {{seconds: T}}"
    if value == "first_content":
        return CommitPolicy()
    if value == "complete":
        return CommitPolicy(at="complete")
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ValueError(wrong)
    ((word, amount),) = value.items()
    if word == "chars":
        if isinstance(amount, bool) or not isinstance(amount, int) or amount < 1:
            raise ValueError(f"chars: {amount!r} is no number of characters; write a whole number from 1")
        return CommitPolicy(at="chars", value=float(amount))
    if word == "seconds":
        return CommitPolicy(at="seconds", value=parse_duration(amount))
    raise ValueError(wrong)


def parse_hedge(value: object) -> HedgePolicy:
    """A duration above zero, `p95` (a percentile of the target's own times), or `never`. Raises ValueError for anything
    else."""
    if value == "never":
        return HedgePolicy(is_forbidden=True)
    if isinstance(value, str) and (match := _PERCENTILE.fullmatch(value)):
        return HedgePolicy(percentile=float(match[1]) / 100)
    try:
        seconds = parse_duration(value)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise ValueError(f"{value!r} is no time for a hedge; write a duration above 0 as in 2s, p95, or never")
    return HedgePolicy(after=seconds)


def parse_hold(value: object) -> tuple[bool, bool]:
    """Whether tool calls and whether JSON are held, from a list of `tool_calls` and `json` (empty: neither)."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{value!r} is no list; write [tool_calls, json], one of them, or []")
    for word in value:
        if word not in HOLD_WORDS:
            raise ValueError(f"unknown word {word!r}; known are {', '.join(HOLD_WORDS)}")
    return "tool_calls" in value, "json" in value
