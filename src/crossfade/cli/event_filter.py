"""Which events `crossfade events` shows, and the words that say so.

Pure. Knows the fields of events and nothing of files, tables and click.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec

from crossfade.core.dispatch import HEDGED, SLOW_TRIAL
from crossfade.core.events import (
    BreakerMoved,
    Event,
    FallbackTriggered,
    ProviderProbed,
    RequestEnded,
    RequestsShed,
    RungDefective,
    StreamCommitted,
    TargetEjected,
    TargetReturned,
)
from crossfade.core.failure import FailureReason

KINDS: dict[str, type] = {
    "request": RequestEnded,
    "commit": StreamCommitted,
    "fallback": FallbackTriggered,
    "breaker": BreakerMoved,
    "ejected": TargetEjected,
    "returned": TargetReturned,
    "defect": RungDefective,
    "probe": ProviderProbed,
    "shed": RequestsShed,
}
_SKIPS = {"breaker open": "breaker_open", "on trial": "trial_in_flight"}
REASONS = (
    *(reason.value for reason in FailureReason),
    *_SKIPS.values(),
    "drained",
    "full",
    "max_cost",
    SLOW_TRIAL,
    HEDGED,
)

_AGO = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d|w)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_STATUS = re.compile(r"[1-5](?:xx|\d\d)")


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What an event must have to be shown: one of each non-empty tuple. Times are Unix seconds, `until` excluded."""

    kinds: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    since: float = float("-inf")
    until: float = float("inf")
    fallbacks_only: bool = False

    def passes(self, event: Event) -> bool:
        if self.kinds and not isinstance(event, tuple(KINDS[kind] for kind in self.kinds)):
            return False
        return self.passes_time(event) and self.passes_facts(event)

    def passes_time(self, event: Event) -> bool:
        return self.since <= event.at < self.until

    def passes_facts(self, event: Event) -> bool:
        """Whether all but time and kind fits."""
        if self.requests and getattr(event, "id", None) not in self.requests:
            return False
        if self.routes and getattr(event, "route", None) not in self.routes:
            return False
        if self.projects and getattr(event, "project", None) not in self.projects:
            return False
        if self.statuses and not _has_status(event, self.statuses):
            return False
        if self.fallbacks_only and not _fell_back(event):
            return False
        if self.targets and not any(_is_of(target, self.targets) for target in _targets(event)):
            return False
        return not self.reasons or not _reasons(event).isdisjoint(self.reasons)


def parse_time(text: str, now: float) -> float:
    """Unix seconds: `90s`, `10m`, `2h`, `1d`, `1w` before `now`, or an ISO 8601 time, in UTC unless it says otherwise.
    Raises ValueError, saying what is right."""
    if match := _AGO.fullmatch(text.strip()):
        return now - float(match.group(1)) * _UNITS[match.group(2)]
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text!r} is no time; write how long ago (90s, 10m, 2h, 1d, 1w) or a time such as 2026-01-31T08:00"
        ) from None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def parse_status(text: str) -> str:
    """A status such as `429`, or a class of them such as `5xx`. Raises ValueError."""
    word = text.strip().lower()
    if not _STATUS.fullmatch(word):
        raise ValueError(f"{text!r} is no status; write one such as 429, or 2xx, 4xx, 5xx")
    return word


def _targets(event: Event) -> tuple[str, ...]:
    if isinstance(event, RequestEnded):
        return tuple(row.target for row in event.attempts)
    if isinstance(event, FallbackTriggered):
        return (event.source, event.target)
    if isinstance(event, RequestsShed):
        return ()
    return (event.provider,) if isinstance(event, ProviderProbed) else (event.target,)


def _is_of(target: str, wanted: tuple[str, ...]) -> bool:
    """A target is found by its whole name and by its provider's."""
    return target in wanted or target.partition("/")[0] in wanted


def _reasons(event: Event) -> set[str | None]:
    if isinstance(event, RequestEnded):
        found: set[str | None] = {event.error, event.flagged}
        for row in event.attempts:
            skip = (row.skip or "").partition(":")[0]  # behind it, what is left of a rate limit
            found |= {row.reason, _SKIPS.get(skip, skip or None)}
        return found
    return {getattr(event, "reason", None)}


def _has_status(event: Event, statuses: tuple[str, ...]) -> bool:
    return isinstance(event, RequestEnded) and any(
        status in (str(event.status), f"{event.status // 100}xx") for status in statuses
    )


def _fell_back(event: Event) -> bool:
    return isinstance(event, FallbackTriggered) or (isinstance(event, RequestEnded) and event.fallbacks > 0)
