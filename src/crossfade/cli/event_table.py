"""Events as lines of a table for people, and what they come to.

Pure. Text that callers can influence is printed without control characters, so that it cannot move the cursor.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from crossfade.core.events import (
    AttemptRow,
    BreakerMoved,
    Event,
    FallbackTriggered,
    ProviderProbed,
    RequestEnded,
    RequestsShed,
    RungDefective,
    StreamCommitted,
    TargetEjected,
)

HEADINGS = ("TIME (UTC)", "REQUEST", "ROUTE", "SERVED BY", "STATUS", "LATENCY", "WALK")
CALLER_LEFT = 499
_SHORTAGES = {"requests": "under way", "bytes": "held back", "delay": "to do"}

Row = tuple[str, ...]


class Table:
    """Columns that grow with what is in them; the last one is as long as it is."""

    def __init__(self) -> None:
        self._widths = [len(heading) for heading in HEADINGS]
        self._is_begun = False

    def lines(self, rows: list[Row]) -> Iterator[str]:
        for row in rows:
            self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, row, strict=True)]
        if not self._is_begun:
            self._is_begun = True
            yield self._line(HEADINGS)
        for row in rows:
            yield self._line(row)

    def _line(self, row: Row) -> str:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], self._widths[:-1], strict=True)]
        return "  ".join((*cells, row[-1])).rstrip()


class Totals:
    """Counts events as they pass by."""

    def __init__(self) -> None:
        self.events = 0
        self.requests = 0
        self.fell_back = 0
        self.failed = 0
        self.unfinished = 0

    def add(self, event: Event, is_unfinished: bool = False) -> None:
        self.events += 1
        self.unfinished += is_unfinished
        if isinstance(event, RequestEnded):
            self.requests += 1
            self.fell_back += event.fallbacks > 0
            self.failed += event.in_band_error or (event.status >= 400 and event.status != CALLER_LEFT)

    def words(self, shown: int) -> str:
        said = [
            count(self.requests, "request"),
            f"{self.fell_back} fell back",
            f"{self.failed} ended in an error",
        ]
        if self.unfinished:
            said.append(f"{self.unfinished} unfinished")
        if others := self.events - self.requests - self.unfinished:
            said.append(count(others, "other event"))
        newest = f"; the newest {shown} are shown (--limit 0 for all)" if shown < self.events else ""
        return ", ".join(said) + newest


def row_of(event: Event, is_unfinished: bool = False) -> Row:
    """The cells of one event. `is_unfinished`: a commit that nothing has followed."""
    if isinstance(event, RequestEnded):
        status = f"{event.status} cut" if event.in_band_error else str(event.status)
        cells = [event.id, event.route, event.served or "-", status, _seconds(event.latency_s), _walk(event)]
    elif isinstance(event, StreamCommitted):
        words = f"{event.target} began to answer" + (", no end is on record" if is_unfinished else "")
        cells = [event.id, event.route, event.target, "unfinished" if is_unfinished else "-", "-", words]
    else:
        cells = [getattr(event, "id", "-"), getattr(event, "route", "-"), "-", "-", "-", _words(event)]
    at = datetime.fromtimestamp(event.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return tuple(printable(cell) for cell in (at, *cells))


def printable(text: str) -> str:
    """What callers may have made up, so that it cannot move the cursor."""
    return "".join(mark if mark.isprintable() else "?" for mark in text)


def _walk(event: RequestEnded) -> str:
    """`openai/gpt-5.4 timeout 12.0s > anthropic/claude-opus-5 ok 1.2s`"""
    steps = [_step(row) for row in event.attempts]
    if event.flagged:
        steps.append(f"flagged {event.flagged}")
    if event.error and not any(row.reason == event.error for row in event.attempts):
        steps.append(event.error)
    return " > ".join(steps) or "-"


def _step(row: AttemptRow) -> str:
    if row.skip is not None:
        return f"{row.target} skipped ({row.skip})"
    mode = "" if row.mode == "fresh" else f" ({row.mode})"
    status = f" {row.status}" if row.reason is not None and row.status is not None and row.status >= 400 else ""
    return f"{row.target}{mode} {row.reason or 'ok'}{status} {_seconds(row.latency_s)}"


def _words(event: Event) -> str:
    if isinstance(event, FallbackTriggered):
        after = _seconds(event.after_s)
        return f"fallback: {event.source} {event.reason} > {event.target} after {after}"
    if isinstance(event, BreakerMoved):
        again = f", next trial in {_seconds(event.until_s)}" if event.until_s is not None else ""
        return f"breaker of {event.target}: {event.before} > {event.state}{again}"
    if isinstance(event, RungDefective):
        said = "".join(f" {part}" for part in (event.status, event.code) if part is not None)
        return f"defect of {event.target}: {event.reason}{said}"
    if isinstance(event, RequestsShed):
        return f"{count(event.count, 'request')} refused at once: too much {_SHORTAGES[event.shortage]}"
    if isinstance(event, ProviderProbed):
        found = "can be reached again" if event.is_well else event.detail
        return f"probe: {event.provider} with its key {event.key}, {found}"
    assert not isinstance(event, (RequestEnded, StreamCommitted))
    named = event.target + (f" and all others of its {event.scope}" if event.scope != "target" else "")
    if isinstance(event, TargetEjected):
        return f"ejected: {named}, {event.reason}, for {_seconds(event.for_s)}"
    return f"returned: {named}, was out for {event.reason}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds >= 1 else f"{seconds * 1000:.0f}ms"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
