"""What is said of an event in the log: how loud, in which words, with which facts.

Pure. The words are for people, the facts for both; formats and floods are the business of `logs.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

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
    TargetReturned,
)
from crossfade.core.failure import FailureReason
from crossfade.telemetry.note import Level, Note

Kind = tuple[object, ...]

_FALLBACK: Final = "fallback"
NEEDS_A_PERSON: frozenset[str] = frozenset(
    {FailureReason.AUTH_ERROR, FailureReason.QUOTA_EXHAUSTED, FailureReason.MODEL_UNAVAILABLE}
)
"""Reasons of an ejection that do not pass by themselves."""


def is_quiet(event: Event) -> bool:
    """Whether the event is no news to people: requests that went well, or not well by no fault of the chain."""
    if type(event) is RequestEnded:
        return event.error != "chain_exhausted" and event.error != "internal_error" and not event.in_band_error
    return type(event) is StreamCommitted


def note_of(event: Event) -> Note:
    return _NOTES[type(event)](event)


def kind_of(event: Event) -> Kind:
    """What lines that are summed up in a flood have in common: the text of the note and the values of its `kind`. Of a
    fallback, which there may be thousands of in a second, without making the note."""
    if type(event) is FallbackTriggered:
        return (_FALLBACK, event.route, event.source, event.target, event.reason)
    note = note_of(event)
    return (note.text, *[value for _, value in note.kind])


def walk_words(attempts: tuple[AttemptRow, ...]) -> str:
    """A walk in one line: `openai/gpt-5.4 timeout, google/gemini-3.8-flash skipped (breaker open)`."""
    return ", ".join(_attempt_words(row) for row in attempts) or "nothing could be tried"


def _attempt_words(row: AttemptRow) -> str:
    if row.skip is not None:
        return f"{row.target} skipped ({row.skip})"
    status = f" {row.status}" if row.reason and row.status else ""
    return f"{row.target} {row.reason or 'ok'}{status}"


def _on_request(event: RequestEnded) -> Note:
    route = ("route", event.route)
    facts: tuple[tuple[str, object], ...] = (route, ("status", event.status), ("code", event.error))
    if event.error == "chain_exhausted":
        tried = ("tried", walk_words(event.attempts))
        in_band = ("in_band", True if event.in_band_error else None)
        return Note("error", "chain exhausted", (*facts, ("request", event.id), tried, in_band), facts)
    if event.error == "internal_error":
        return Note("error", "internal error", (*facts, ("request", event.id)), facts)
    if event.in_band_error:
        tried = ("tried", walk_words(event.attempts))
        return Note("warning", "error inside a stream", (route, facts[2], ("request", event.id), tried), facts)
    more = (
        ("served", event.served),
        ("flagged", event.flagged),
        ("fallbacks", event.fallbacks),
        ("latency_s", event.latency_s),
        ("request", event.id),
    )
    return Note("debug", "request", (*facts, *more), facts)


def _on_commit(event: StreamCommitted) -> Note:
    kind = (("route", event.route), ("target", event.target))
    return Note("debug", "stream committed", (*kind, ("request", event.id)), kind)


def _on_fallback(event: FallbackTriggered) -> Note:
    kind = (("route", event.route), ("from", event.source), ("to", event.target), ("reason", event.reason))
    return Note("warning", _FALLBACK, (*kind, ("after_s", event.after_s), ("request", event.id)), kind)


def _on_breaker(event: BreakerMoved) -> Note:
    kind = (("target", event.target),)
    if event.state == "open":
        return Note("warning", "breaker opened", (*kind, ("next_trial_s", event.until_s)), kind)
    if event.state == "closed":
        return Note("info", "breaker closed", kind, kind)
    return Note("info", "breaker on trial", (*kind, ("state", event.state)), kind)


def _on_ejected(event: TargetEjected) -> Note:
    kind = (("target", event.target), ("reason", event.reason), ("scope", event.scope))
    level: Level = "error" if event.reason in NEEDS_A_PERSON else "warning"
    return Note(level, "ejected", (*kind, ("for_s", event.for_s)), kind)


def _on_returned(event: TargetReturned) -> Note:
    kind = (("target", event.target), ("reason", event.reason), ("scope", event.scope))
    return Note("info", "returned", kind, kind)


def _on_defect(event: RungDefective) -> Note:
    kind = (("route", event.route), ("target", event.target), ("reason", event.reason))
    more = (("status", event.status), ("code", event.code), ("request", event.id))
    return Note("warning", "defective rung", (*kind, *more), kind)


def _on_probe(event: ProviderProbed) -> Note:
    kind = (("provider", event.provider), ("key", event.key))
    if event.is_well:
        return Note("info", "probe reached the provider again", kind, kind)
    return Note("warning", "probe failed", (*kind, ("detail", event.detail)), kind)


def _on_shed(event: RequestsShed) -> Note:
    kind = (("shortage", event.shortage),)
    return Note("warning", "requests shed", (*kind, ("count", event.count)), kind)


_NOTES: dict[type, Callable[[Any], Note]] = {
    RequestEnded: _on_request,
    StreamCommitted: _on_commit,
    FallbackTriggered: _on_fallback,
    BreakerMoved: _on_breaker,
    TargetEjected: _on_ejected,
    TargetReturned: _on_returned,
    RungDefective: _on_defect,
    ProviderProbed: _on_probe,
    RequestsShed: _on_shed,
}
