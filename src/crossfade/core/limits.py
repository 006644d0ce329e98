"""The time limits of one attempt, and whether one of them has run out.

Pure: whoever watches the attempt notes what happened in `AttemptTimers` and asks `overdue(now)` now and then.
This file does not know what an upstream is.
"""

from __future__ import annotations

from typing import Final

import msgspec

from crossfade.core import policy as defaults
from crossfade.core.exchange import RequestFacts
from crossfade.core.failure import Failure, FailureReason, Origin, Phase
from crossfade.core.policy import AttemptLimits, TimeoutPolicy
from crossfade.core.target import Target

_NEVER: Final = float("inf")


_Known = tuple[Target, TimeoutPolicy, TimeoutPolicy, AttemptLimits]
_MOST_KNOWN: Final = 4096
_known: Final[dict[tuple[str, bool, bool, bool, int], _Known]] = {}
"""Limits are the same for most requests to a target; an entry holds for the very records it was made from."""


def attempt_limits(
    target: Target,
    facts: RequestFacts,
    policy: TimeoutPolicy,
    caller: TimeoutPolicy,
    is_streamed: bool,
    remaining: float,
) -> AttemptLimits:
    """The limits of an attempt: the caller's, else the target's, else the route's, else the defaults.

    `remaining` is what the deadline leaves to this attempt once later rungs have their reserve.
    """
    has_tools = facts.has_other_tools or bool(facts.tools)
    key = (target.key, is_streamed, facts.thinking, has_tools, facts.input_tokens // 10_000)
    known = _known.get(key)
    if known is None or known[0] is not target or known[1] is not policy or known[2] is not caller:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        limits = _limits(target, facts, policy, caller, is_streamed)
        _known[key] = (target, policy, caller, limits)
    else:
        limits = known[3]
    return limits if limits.to_commit <= remaining else msgspec.structs.replace(limits, to_commit=remaining)


def _limits(
    target: Target, facts: RequestFacts, policy: TimeoutPolicy, caller: TimeoutPolicy, is_streamed: bool
) -> AttemptLimits:
    configured = target.timeouts.over(policy)
    own_attempt = _or(configured.attempt, defaults.ATTEMPT_TIMEOUT)
    own_first = _first_content(configured, target, facts) if is_streamed else _NEVER
    own_idle = _idle(configured, target, facts) if is_streamed else _NEVER
    return AttemptLimits(
        connect=_or(caller.connect, _or(configured.connect, defaults.CONNECT_TIMEOUT)),
        first_content=_or(caller.first_content, own_first) if is_streamed else _NEVER,
        silence=_silence(configured, target, facts) if is_streamed else _NEVER,
        idle=_or(caller.idle, own_idle) if is_streamed else _NEVER,
        to_commit=_or(caller.attempt, own_attempt),
        max_stream=_or(configured.max_stream, defaults.MAX_STREAM),
        own_attempt=own_attempt,
        own_first_content=own_first,
        own_idle=own_idle,
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


def _silence(configured: TimeoutPolicy, target: Target, facts: RequestFacts) -> float:
    """Not every provider sends a sign of life while its model thinks, so the wait for content is the wait for bytes."""
    if configured.silence is not None:
        return configured.silence
    if target.is_slow:
        return defaults.FIRST_CONTENT_SLOW
    if facts.thinking or target.always_thinks:
        return max(defaults.FIRST_CONTENT_THINKING, defaults.IDLE_THINKING)
    return defaults.SILENCE_TIMEOUT


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
        "_in_block",
        "_looked_at",
        "committed_at",
        "finished_at",
        "first_byte_at",
        "first_content_at",
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
        self._in_block = False
        self._looked_at = now

    def on_bytes(self, now: float) -> None:
        if self.first_byte_at is None:
            self.first_byte_at = now
        self.last_byte_at = now

    def on_content(self, now: float) -> None:
        if self.first_content_at is None:
            self.first_content_at = now
        self.last_content_at = now

    @property
    def in_block(self) -> bool:
        """Whether a tool call or a thinking block is open."""
        return self._in_block

    @in_block.setter
    def in_block(self, is_open: bool) -> None:
        if self._in_block and not is_open:
            # The shorter limit that holds again must not be counted from before the end of the block.
            self.last_content_at = max(self.last_content_at, self.last_byte_at)
        self._in_block = is_open

    def on_pause(self, now: float) -> None:
        """We have stopped reading: until `on_resume` the limits on the upstream stand still."""
        if self.paused_at is None:
            self.paused_at = now

    def on_resume(self, now: float) -> None:
        if self.paused_at is not None:
            stood_still = now - self.paused_at
            self.last_byte_at += stood_still
            self.last_content_at += stood_still
            if self.finished_at is not None:
                self.finished_at += stood_still
            self.paused_at = None

    @property
    def silent_since(self) -> float:
        """When the upstream last gave a sign of life, or was asked."""
        return self.last_byte_at if self.first_byte_at is not None else (self.sent_at or self.started_at)

    def is_over(self, now: float) -> bool:
        """The finish reason came, and nothing is worth waiting for behind it: the stream has ended without closing."""
        if self.finished_at is None:
            return False
        if self.committed_at is None and now - self.started_at >= self.limits.to_commit:
            return True
        if self.paused_at is not None:
            return False
        # Silence, or bytes that do no more than keep the connection open.
        return now - self.last_byte_at >= defaults.END_GRACE or now - self.finished_at >= self.limits.idle

    def due(self) -> float:
        """No limit can run out before this time, whatever happens until then but a finish reason or a resumption.

        So it need not be asked for at every event. A first byte or content brings limits that may be shorter than
        those before: they are reckoned as if it came right after the last look.
        """
        limits = self.limits
        if self.committed_at is None:
            due = min(self.started_at + limits.to_commit, self._looked_at + limits.max_stream)
        else:
            due = self.committed_at + limits.max_stream
        if self.paused_at is not None:
            return due if self.committed_at is None else _NEVER
        if self.finished_at is not None:
            return min(due, self.last_byte_at + defaults.END_GRACE, self.finished_at + limits.idle)
        earliest = max(self._looked_at, self.sent_at or self.started_at)
        if self.first_byte_at is None:
            due = min(due, earliest + limits.silence)
        else:
            due = min(due, self.last_byte_at + limits.silence)
        if self.first_content_at is None:
            asked_at = earliest if self.sent_at is None else self.sent_at
            return min(due, asked_at + limits.first_content, earliest + limits.idle)
        if self._in_block:
            due = min(due, max(self._looked_at, self.last_content_at) + limits.idle)
        return min(due, self.last_content_at + self._idle_limit())

    def overdue(self, now: float) -> Failure | None:
        """The limit that has run out, as a failure."""
        limits = self.limits
        self._looked_at = now
        if self.finished_at is not None:
            return self._never_ending(now)
        if self.committed_at is None and now - self.started_at >= limits.to_commit:
            return self._timed_out(Phase.ATTEMPT, limits.to_commit, now)
        if self.sent_at is None or self.paused_at is not None:
            return None
        if self.first_content_at is None and now - self.sent_at >= limits.first_content:
            return self._timed_out(Phase.FIRST_CONTENT, limits.first_content, now)
        if self.first_byte_at is not None and now - self.last_byte_at >= limits.silence:
            return self._stalled(Phase.SILENCE, limits.silence)
        if self.first_content_at is not None and now - self.last_content_at >= self._idle_limit():
            is_callers = now - self.last_content_at < limits.own_idle
            return self._stalled(Phase.IDLE, self._idle_limit(), is_callers)
        return self._never_ending(now)

    def _never_ending(self, now: float) -> Failure | None:
        if self.committed_at is None or self.paused_at is not None:
            return None
        if now - self.committed_at < self.limits.max_stream:
            return None
        return self._stalled(Phase.MAX_STREAM, self.limits.max_stream)

    def _idle_limit(self) -> float:
        """An open tool call or thinking block may go without content for the longer of the two defaults."""
        idle = self.limits.idle
        return defaults.IDLE_THINKING if self._in_block and idle == defaults.IDLE_TIMEOUT else idle

    def _has_own_limit_run_out(self, now: float) -> bool:
        """Whether the target had all the time that its own settings give it."""
        if now - self.started_at >= self.limits.own_attempt:
            return True
        if self.first_content_at is not None or self.sent_at is None:
            return False
        return now - self.sent_at >= self.limits.own_first_content

    def _timed_out(self, phase: Phase, limit: float, now: float) -> Failure:
        what = "no content" if self.first_byte_at is None or phase is Phase.FIRST_CONTENT else "no whole answer"
        return Failure(
            reason=FailureReason.TIMEOUT,
            origin=Origin.LOCAL,
            phase=phase,
            detail=f"{what} in {limit:.1f} s",
            is_caller_limit=not self._has_own_limit_run_out(now),
        )

    def _stalled(self, phase: Phase, limit: float, is_callers: bool = False) -> Failure:
        what = {Phase.SILENCE: "silent for", Phase.IDLE: "no content for"}.get(phase, "still not ended after")
        return Failure(
            reason=FailureReason.TIMEOUT if self.first_content_at is None else FailureReason.STREAM_STALLED,
            origin=Origin.LOCAL,
            phase=phase,
            detail=f"{what} {limit:.1f} s",
            is_caller_limit=is_callers,
        )
