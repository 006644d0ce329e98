"""Options of every policy with their defaults. All durations are float seconds."""

from __future__ import annotations

from typing import Literal

import msgspec

from crossfade.core.failure import DEFAULT_FALLBACK, FailureReason


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When the same target is asked again."""

    max_wait: float = 20.0
    """The longest `Retry-After` waited out, and only where no other target is left. 0: never wait."""
    delay: float = 0.25
    """The middle of the jittered delay before a single 5xx is retried (drawn from half to one and a half of it).
    0: such a failure is never retried on the same target."""
    max_attempts: int | None = None
    """Calls per request; None: targets + 1, at most 5. The redial of a reused connection is none."""
    budget_ratio: float = 0.2
    """Extra attempts while all targets of the route are failing, as a share of its requests."""
    budget_floor: float = 10.0
    """Extra attempts a second that are always allowed."""


class TimeoutPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a request and its attempts; None means: the wider setting's, in the end the default."""

    connect: float | None = None
    first_content: float | None = None
    silence: float | None = None
    idle: float | None = None
    attempt: float | None = None
    overall: float | None = None
    max_stream: float | None = None

    def over(self, wider: TimeoutPolicy) -> TimeoutPolicy:
        """This policy where it says something, `wider` where it does not."""
        return TimeoutPolicy(
            connect=wider.connect if self.connect is None else self.connect,
            first_content=wider.first_content if self.first_content is None else self.first_content,
            silence=wider.silence if self.silence is None else self.silence,
            idle=wider.idle if self.idle is None else self.idle,
            attempt=wider.attempt if self.attempt is None else self.attempt,
            overall=wider.overall if self.overall is None else self.overall,
            max_stream=wider.max_stream if self.max_stream is None else self.max_stream,
        )


CONNECT_TIMEOUT = 5.0
FIRST_CONTENT_TIMEOUT = 12.0
FIRST_CONTENT_PER_10K_TOKENS = 1.0
FIRST_CONTENT_THINKING = 120.0
FIRST_CONTENT_SLOW = 600.0
SILENCE_TIMEOUT = 20.0
IDLE_TIMEOUT = 30.0
IDLE_THINKING = 120.0
ATTEMPT_TIMEOUT = 300.0
MAX_STREAM = 3600.0
OVERALL_TIMEOUT = 600.0
END_GRACE = 5.0
"""Silence after the finish reason that ends a stream."""
RESERVE = 10.0
"""The most that each later rung keeps of the deadline."""
TRIAL_COMPANION_DELAY = 2.0
"""An interactive request on trial gets the next target started beside it after this."""
SILENT_BUFFERED = 30.0
SILENT_BUFFERED_THINKING = 120.0
"""A client that leaves a buffered call after this much upstream silence leaves a `timeout` in health."""


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a target is left alone, and for how long."""

    consecutive_failures: int = 5
    """Opens after this many in a row, from at least two distinct requests."""
    consecutive_silences: int = 2
    """Opens after this many timeouts in a row."""
    failure_ratio: float = 0.5
    minimum_calls: int = 10
    window: float = 30.0
    """Opens at this ratio of at least `minimum_calls` within `window` seconds."""
    open_time: float = 15.0
    max_open_time: float = 300.0
    """Open for `open_time`, doubled at each failed trial up to `max_open_time`, jittered by +-10 %."""
    successes_to_close: int = 2
    ramp: float = 10.0
    """Seconds over which its traffic grows again after it has closed."""


class HealthPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Ejections, which no breaker decides."""

    min_rate_limit: float = 1.0
    max_rate_limit: float = 900.0
    default_rate_limit: float = 10.0
    """A 429 ejects until the reset it names, clamped; without one for `default_rate_limit`."""
    quota: float = 900.0
    credential: float = 900.0
    model: float = 900.0
    breaker: BreakerPolicy = BreakerPolicy()


class ConcurrencyPolicy(msgspec.Struct, frozen=True):
    """How many calls a target has under way at once: `most` of them; with a smaller `least` as many as it turns out to
    take, and never fewer than that."""

    most: int = 1_000
    least: int = 1


class QueuePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a request for which no target has room that could be asked otherwise."""

    size: int = 100
    """So many may wait for one target; 0: none waits."""
    wait: float = 10.0
    """Seconds that each of them waits at most."""


class OverloadPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker takes on at most."""

    max_requests: int = 5_000
    """Requests under way."""
    max_delay: float = 0.01
    """Seconds that its clock may run late before it refuses a share of new requests; 0: it never does."""


class ProbePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What is found out beside traffic."""

    every: float = 5.0
    """Seconds between two free calls to a provider with an open breaker; 0: none."""
    idle: float = 600.0
    """Seconds without traffic after which a provider is asked by its free call; 0: never."""
    paid_usd: float = 0.0
    """USD a day that tiny requests may cost which take a caller's place on trial, where silence opened a breaker; 0:
    none are sent. Targets without prices get none."""


class ValidationPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Opt-in checks of an answer, beside those that follow from the request itself (always on)."""

    min_chars: int | None = None
    finish: tuple[str, ...] | None = None
    """Finish reasons that are good, such as `[stop, tool_calls]`."""
    match: str | None = None
    not_match: str | None = None
    """Linear-time regular expressions (RE2 syntax), searched in the text."""

    @property
    def is_empty(self) -> bool:
        return self.min_chars is None and self.finish is None and self.match is None and self.not_match is None


class CommitPolicy(msgspec.Struct, frozen=True):
    """When the first byte of a stream may go downstream."""

    at: Literal["first_content", "chars", "seconds", "complete"] = "first_content"
    value: float = 0.0


class StreamPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream is held, committed and recovered."""

    commit: CommitPolicy = CommitPolicy()
    hold_tool_calls: bool = True
    hold_json: bool = True
    recover: Literal["continue", "error"] = "continue"
    max_held: int = 4 * 1024 * 1024
    """Bytes a request may hold back; above it what is held is a `malformed_output`."""
    max_transcript: int = 1024 * 1024
    """Characters of delivered text kept for recovery; above it a cut stream is not recovered."""
    keep_alive: float = 10.0


class HedgePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When the next target is started beside one that has not begun to answer. At most one of `after` and `percentile`
    is given; without any there are no hedges."""

    after: float | None = None
    """Seconds since the first call."""
    percentile: float | None = None
    """From 0 to 1: that of the target's own times to first content of late, once enough of them were seen."""
    is_callers: bool = False
    """It was the caller's wish, from which nothing is learnt about targets."""
    is_forbidden: bool = False
    """Callers cannot ask for it either."""


class MaxCost(msgspec.Struct, frozen=True):
    """The most that one call may cost: `times` what the route's primary would, or so many `usd`."""

    times: float | None = None
    usd: float | None = None


class RoutePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides about one request; the route's, narrowed by what the request says."""

    fallback_on: frozenset[FailureReason] = DEFAULT_FALLBACK
    retry: RetryPolicy = RetryPolicy()
    timeouts: TimeoutPolicy = TimeoutPolicy()
    stream: StreamPolicy = StreamPolicy()
    validation: ValidationPolicy = ValidationPolicy()
    stream_upstream: Literal["auto", "true", "false"] = "auto"
    hedge: HedgePolicy = HedgePolicy()
    queue: QueuePolicy = QueuePolicy()
    repeatable: bool = True
    """Whether two calls for the same request may be under way at once."""


class AttemptLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds for each phase; `first_content`, `silence` and `idle` hold for streamed upstream calls only.

    `to_commit` bounds the time to the commit: what the deadline leaves, or the limit of an attempt. `own_attempt`,
    `own_first_content` and `own_idle` are what the target's own settings allow: running into a limit of the caller's
    before one of these has run out says nothing of the target.
    """

    connect: float
    first_content: float
    silence: float
    idle: float
    to_commit: float
    max_stream: float
    own_attempt: float = 0.0
    own_first_content: float = 0.0
    own_idle: float = 0.0
