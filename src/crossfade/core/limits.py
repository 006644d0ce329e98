"""The time limits of one attempt, and whether one of them has run out.

Pure: whoever watches the attempt notes what happened in `AttemptTimers` and asks `overdue(now)` now and then.
This file does not know what an upstream is.
"""

from __future__ import annotations

import msgspec

from crossfade.core import policy as defaults
from crossfade.core.exchange import RequestFacts
from crossfade.core.failure import Failure, FailureReason, Origin, Phase
from crossfade.core.policy import TimeoutPolicy
from crossfade.core.target import Target

_NEVER = float("inf")


class AttemptLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds for each phase; `first_content`, `silence` and `idle` hold for streamed upstream calls only.

    `to_commit` bounds the time to the commit; `is_shortened` says that the caller's deadline made it shorter
    than the target's own limit, so that running into it says nothing of the target.
    """

    connect: float
    first_content: float
    silence: float
    idle: float
    to_commit: float
    max_stream: float
    is_shortened: bool = False
    own_first_content: float = 0.0
    """What the target's own settings allow for the first content; a shorter one from a caller is no fault of it."""


def attempt_limits(
    target: Target, facts: RequestFacts, policy: TimeoutPolicy, caller: TimeoutPolicy, *, is_streamed: bool, remaining: float
) -> AttemptLimits:
    """The limits of an attempt: the caller's, else the target's, else the route's, else the defaults.

    `remaining` is what the deadline leaves to this attempt once later rungs have their reserve.
    """
    configured = target.timeouts.over(policy)
    own_first = _first_content(configured, target, facts)
    own_attempt = _or(configured.attempt, defaults.ATTEMPT_TIMEOUT)
    attempt = _or(caller.attempt, own_attempt)
    first_content = _or(caller.first_content, own_first) if is_streamed else _NEVER
    to_commit = min(attempt, remaining)
    own = min(own_attempt, own_first) if is_streamed else own_attempt
    return AttemptLimits(
        connect=_or(caller.connect, _or(configured.connect, defaults.CONNECT_TIMEOUT)),
        first_content=first_content,
        silence=_or(configured.silence, defaults.SILENCE_TIMEOUT) if is_streamed else _NEVER,
        idle=_or(caller.idle, _idle(configured, target, facts)) if is_streamed else _NEVER,
        to_commit=to_commit,
        max_stream=_or(configured.max_stream, defaults.MAX_STREAM),
        is_shortened=to_commit < own,
        own_first_content=own_first if is_streamed else _NEVER,
    )


def reserve(deadline: float, rungs: int) -> float:
    """What each later rung keeps of a deadline of so many seconds."""
    return min(defaults.RESERVE, deadline / (rungs + 1))


def _first_content(configured: TimeoutPolicy, target: Target, facts: RequestFacts) -> float:
    if configured.first_content is not None:
        return configured.first_content
    if target.is_slow:
        return defaults.FIRST_CONTENT_SLOW
    if facts.thinking or target.always_thinks:
        return defaults.FIRST_CONTENT_THINKING
    return defaults.FIRST_CONTENT_TIMEOUT + defaults.FIRST_CONTENT_PER_10K_TOKENS * (facts.input_tokens // 10_000)


def _idle(configured: TimeoutPolicy, target: Target, facts: RequestFacts) -> float:
    if configured.idle is not None:
        return configured.idle
    if facts.tools or facts.has_other_tools or facts.thinking or target.always_thinks:
        return defaults.IDLE_THINKING
    return defaults.IDLE_TIMEOUT


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


class AttemptTimers:
    """What happened when in one attempt. All times are absolute, in seconds of the caller's clock."""

    __slots__ = (
        "committed_at",
        "finished_at",
        "first_byte_at",
        "first_content_at",
        "in_block",
        "last_byte_at",
        "last_content_at",
        "limits",
        "paused_at",
        "sent_at",
        "started_at",
    )

    def __init__(self, limits: AttemptLimits, now: float):
        self.limits = limits
        self.started_at = now
        self.sent_at: float | None = None
        self.first_byte_at: float | None = None
        self.last_byte_at = now
        self.first_content_at: float | None = None
        self.last_content_at = now
        self.committed_at: float | None = None
        self.finished_at: float | None = None
        self.paused_at: float | None = None
        self.in_block = False

    def on_bytes(self, now: float) -> None:
        if self.first_byte_at is None:
            self.first_byte_at = now
        self.last_byte_at = now

    def on_content(self, now: float) -> None:
        if self.first_content_at is None:
            self.first_content_at = now
        self.last_content_at = now

    def on_pause(self, now: float) -> None:
        """We have stopped reading: until `on_resume` the limits on the upstream stand still."""
        if self.paused_at is None:
            self.paused_at = now

    def on_resume(self, now: float) -> None:
        if self.paused_at is not None:
            stood_still = now - self.paused_at
            self.last_byte_at += stood_still
            self.last_content_at += stood_still
            self.paused_at = None

    @property
    def silent_since(self) -> float:
        """When the upstream last gave a sign of life, or was asked."""
        return self.last_byte_at if self.first_byte_at is not None else (self.sent_at or self.started_at)

    def is_over(self, now: float) -> bool:
        """The finish reason came and silence followed: the stream has ended without closing."""
        return self.finished_at is not None and now - self.last_byte_at >= defaults.END_GRACE

    def due(self) -> float:
        """The earliest time at which a limit can have run out, as things are; what happens later only moves it on."""
        limits = self.limits
        due = _NEVER
        if self.committed_at is None:
            due = self.started_at + limits.to_commit
        else:
            due = self.committed_at + limits.max_stream
        if self.finished_at is not None:
            return min(due, self.last_byte_at + defaults.END_GRACE)
        if self.sent_at is None or self.paused_at is not None:
            return due
        if self.first_content_at is None:
            due = min(due, self.sent_at + limits.first_content)
        else:
            due = min(due, self.last_content_at + limits.idle)
        if self.first_byte_at is not None:
            due = min(due, self.last_byte_at + limits.silence)
        return due

    def overdue(self, now: float) -> Failure | None:
        """The limit that has run out, as a failure."""
        limits = self.limits
        if self.committed_at is None and now - self.started_at >= limits.to_commit:
            return self._timed_out(Phase.ATTEMPT, limits.to_commit, limits.is_shortened)
        if self.sent_at is None or self.finished_at is not None:
            return None
        if self.first_content_at is None and now - self.sent_at >= limits.first_content:
            is_callers = limits.first_content < limits.own_first_content
            return self._timed_out(Phase.FIRST_CONTENT, limits.first_content, is_callers)
        if self.paused_at is not None:
            return None
        if self.first_byte_at is not None and now - self.last_byte_at >= limits.silence:
            return self._stalled(Phase.SILENCE, limits.silence)
        if self.first_content_at is not None and now - self.last_content_at >= self._idle_limit():
            return self._stalled(Phase.IDLE, self._idle_limit())
        if self.committed_at is not None and now - self.committed_at >= limits.max_stream:
            return self._stalled(Phase.MAX_STREAM, limits.max_stream)
        return None

    def _idle_limit(self) -> float:
        """An open tool call or thinking block may go without content for the longer of the two defaults."""
        idle = self.limits.idle
        return defaults.IDLE_THINKING if self.in_block and idle == defaults.IDLE_TIMEOUT else idle

    def _timed_out(self, phase: Phase, limit: float, is_callers: bool) -> Failure:
        what = "no content" if self.first_byte_at is None or phase is Phase.FIRST_CONTENT else "no whole answer"
        return Failure(
            reason=FailureReason.TIMEOUT,
            origin=Origin.LOCAL,
            phase=phase,
            detail=f"{what} in {limit:.1f} s",
            is_caller_limit=is_callers,
        )

    def _stalled(self, phase: Phase, limit: float) -> Failure:
        what = {Phase.SILENCE: "silent for", Phase.IDLE: "no content for"}.get(phase, "still not ended after")
        reason = FailureReason.TIMEOUT if self.first_content_at is None else FailureReason.STREAM_STALLED
        return Failure(reason=reason, origin=Origin.LOCAL, phase=phase, detail=f"{what} {limit:.1f} s")
