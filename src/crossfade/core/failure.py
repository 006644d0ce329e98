"""What can go wrong with an attempt, and what follows from it, as data.

`DISPOSITIONS` is the whole behaviour: dispatch, health, the docs and the tests read it row by row.
This file knows nothing of providers, HTTP or time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec


class FailureReason(StrEnum):
    """Why an attempt did not give a usable answer. The values are the public words of `fallback_on`."""

    CONNECT_ERROR = "connect_error"
    TIMEOUT = "timeout"
    SERVER_ERROR = "server_error"
    OVERLOADED = "overloaded"
    RATE_LIMIT = "rate_limit"
    QUOTA_EXHAUSTED = "quota_exhausted"
    PROTOCOL_ERROR = "protocol_error"
    STREAM_INTERRUPTED = "stream_interrupted"
    STREAM_STALLED = "stream_stalled"
    MALFORMED_OUTPUT = "malformed_output"
    EMPTY_OUTPUT = "empty_output"
    INVALID_JSON = "invalid_json"
    INVALID_TOOL_CALL = "invalid_tool_call"
    REJECTED_OUTPUT = "rejected_output"
    TRUNCATED_OUTPUT = "truncated_output"
    MODEL_UNAVAILABLE = "model_unavailable"
    CONTEXT_OVERFLOW = "context_overflow"
    CONTENT_FILTER = "content_filter"
    INVALID_REQUEST = "invalid_request"
    AUTH_ERROR = "auth_error"
    CANCELLED = "cancelled"
    INTERNAL_ERROR = "internal_error"


class Origin(StrEnum):
    """Who said so: the upstream answered with it, we saw it ourselves, or the downstream left."""

    UPSTREAM = "upstream"
    LOCAL = "local"
    DOWNSTREAM = "downstream"


class Phase(StrEnum):
    """Which limit a `timeout` or `stream_stalled` ran into."""

    CONNECT = "connect"
    FIRST_CONTENT = "first_content"
    SILENCE = "silence"
    IDLE = "idle"
    ATTEMPT = "attempt"
    MAX_STREAM = "max_stream"
    DEADLINE = "deadline"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One failed attempt.

    `status` is the upstream's HTTP status where it gave one. `retry_after` is in seconds from the moment
    the failure was read. `code` is the provider's own error code or type, `detail` a short text for people
    (never a prompt, an answer or a key), `body` the upstream's error body for errors delivered as received.
    `is_caller_limit`: a timeout shorter than the target's configured limit, which says nothing of its health.
    """

    reason: FailureReason
    origin: Origin = Origin.UPSTREAM
    status: int | None = None
    retry_after: float | None = None
    code: str | None = None
    detail: str = ""
    message: str = ""
    request_id: str | None = None
    phase: Phase | None = None
    is_caller_limit: bool = False


class Retry(StrEnum):
    """Whether the same target may be asked once more."""

    NO = "no"
    ONCE = "once"  # at once: nothing was sent
    ONCE_DELAYED = "once_delayed"  # after a short jittered delay
    OTHER_CREDENTIAL = "other_credential"  # another key or account of the provider
    LIMITED = "limited"  # another credential, or the same one within `retry.max_wait`


class FallBack(StrEnum):
    """Whether the walk may go on to the next target."""

    DEFAULT = "default"
    LARGER_WINDOW = "larger_window"
    OPT_IN = "opt_in"
    NEVER = "never"


class HealthEffect(StrEnum):
    """What health hears of the failure."""

    FAILURE = "failure"
    ROUTE_AND_BREAKER = "route_and_breaker"  # per route; the breaker when two routes, or its only one, see it
    ROUTE = "route"
    EJECT = "eject"  # until the reset said by the provider
    EJECT_LONG = "eject_long"
    EJECT_CREDENTIAL = "eject_credential"
    NONE = "none"


class Disposition(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from one reason. `status` is what the caller gets if it ends there; None: as received."""

    origin: Origin
    retry: Retry = Retry.NO
    fall_back: FallBack = FallBack.DEFAULT
    health: HealthEffect = HealthEffect.FAILURE
    status: int | None = 502
    is_alert: bool = False
    is_soft: bool = False  # a 2xx whose content failed validation: delivered flagged where not listed
    is_defect: bool = False  # from a later rung: that rung's defect, and the walk goes on


_R = FailureReason
_UP, _LOCAL = Origin.UPSTREAM, Origin.LOCAL

DISPOSITIONS: Mapping[FailureReason, Disposition] = MappingProxyType(
    {
        _R.CONNECT_ERROR: Disposition(origin=_LOCAL, retry=Retry.ONCE),
        _R.TIMEOUT: Disposition(origin=_LOCAL, status=504),
        _R.SERVER_ERROR: Disposition(origin=_UP, retry=Retry.ONCE_DELAYED),
        _R.OVERLOADED: Disposition(origin=_UP, status=503),
        _R.RATE_LIMIT: Disposition(origin=_UP, retry=Retry.LIMITED, health=HealthEffect.EJECT, status=429),
        _R.QUOTA_EXHAUSTED: Disposition(
            origin=_UP, retry=Retry.OTHER_CREDENTIAL, health=HealthEffect.EJECT_LONG, status=429, is_alert=True
        ),
        _R.PROTOCOL_ERROR: Disposition(origin=_LOCAL),
        _R.STREAM_INTERRUPTED: Disposition(origin=_LOCAL),
        _R.STREAM_STALLED: Disposition(origin=_LOCAL, status=504),
        _R.MALFORMED_OUTPUT: Disposition(origin=_UP),
        _R.EMPTY_OUTPUT: Disposition(origin=_UP, health=HealthEffect.ROUTE_AND_BREAKER, is_soft=True),
        _R.INVALID_JSON: Disposition(origin=_UP, health=HealthEffect.ROUTE, is_soft=True),
        _R.INVALID_TOOL_CALL: Disposition(origin=_UP, health=HealthEffect.ROUTE, is_soft=True),
        _R.REJECTED_OUTPUT: Disposition(origin=_LOCAL, health=HealthEffect.ROUTE, is_soft=True),
        _R.TRUNCATED_OUTPUT: Disposition(
            origin=_UP, fall_back=FallBack.OPT_IN, health=HealthEffect.NONE, status=None, is_soft=True
        ),
        _R.MODEL_UNAVAILABLE: Disposition(
            origin=_UP, health=HealthEffect.EJECT_LONG, status=404, is_alert=True, is_defect=True
        ),
        _R.CONTEXT_OVERFLOW: Disposition(
            origin=_UP, fall_back=FallBack.LARGER_WINDOW, health=HealthEffect.NONE, status=400
        ),
        _R.CONTENT_FILTER: Disposition(
            origin=_UP, fall_back=FallBack.OPT_IN, health=HealthEffect.NONE, status=None, is_soft=True
        ),
        _R.INVALID_REQUEST: Disposition(
            origin=_UP, fall_back=FallBack.NEVER, health=HealthEffect.NONE, status=None, is_defect=True
        ),
        _R.AUTH_ERROR: Disposition(
            origin=_UP,
            retry=Retry.OTHER_CREDENTIAL,
            fall_back=FallBack.OPT_IN,
            health=HealthEffect.EJECT_CREDENTIAL,
            is_alert=True,
            is_defect=True,
        ),
        _R.CANCELLED: Disposition(
            origin=Origin.DOWNSTREAM, fall_back=FallBack.NEVER, health=HealthEffect.NONE, status=499
        ),
        _R.INTERNAL_ERROR: Disposition(
            origin=_LOCAL, fall_back=FallBack.NEVER, health=HealthEffect.NONE, status=500, is_alert=True
        ),
    }
)

FALLBACK_WORDS: Mapping[str, frozenset[FailureReason]] = MappingProxyType(
    {
        "server_error": frozenset(
            {
                _R.SERVER_ERROR,
                _R.CONNECT_ERROR,
                _R.OVERLOADED,
                _R.PROTOCOL_ERROR,
                _R.STREAM_INTERRUPTED,
                _R.MALFORMED_OUTPUT,
                _R.MODEL_UNAVAILABLE,
            }
        ),
        "timeout": frozenset({_R.TIMEOUT, _R.STREAM_STALLED}),
        "rate_limit": frozenset({_R.RATE_LIMIT, _R.QUOTA_EXHAUSTED}),
        "soft": frozenset({_R.EMPTY_OUTPUT, _R.INVALID_JSON, _R.INVALID_TOOL_CALL, _R.REJECTED_OUTPUT}),
        "default": frozenset(
            reason
            for reason, row in DISPOSITIONS.items()
            if row.fall_back in (FallBack.DEFAULT, FallBack.LARGER_WINDOW)
        ),
    }
)

DEFAULT_FALLBACK = FALLBACK_WORDS["default"]


def fallback_reasons(words: Iterable[str]) -> frozenset[FailureReason]:
    """The reasons that a `fallback_on` list stands for; a leading `-` takes a word's reasons away.

    Raises ValueError, naming the word, for an unknown one and for reasons that never fall back.
    A list that only takes away starts from `default`.
    """
    given = list(words)
    chosen: set[FailureReason] = set(DEFAULT_FALLBACK) if given and all(w.startswith("-") for w in given) else set()
    for word in given:
        reasons = _reasons_of(word.removeprefix("-"))
        if word.startswith("-"):
            chosen -= reasons
        else:
            chosen |= reasons
    return frozenset(chosen)


def _reasons_of(word: str) -> frozenset[FailureReason]:
    if (group := FALLBACK_WORDS.get(word)) is not None:
        return group
    try:
        reason = FailureReason(word)
    except ValueError:
        known = sorted({*FALLBACK_WORDS, *(r for r in FailureReason if _may_be_listed(r))})
        raise ValueError(f"unknown word {word!r}; known are {', '.join(known)}") from None
    if not _may_be_listed(reason):
        raise ValueError(f"{word!r} never falls back: it would fail anywhere, or is no failure of the target")
    return frozenset({reason})


def _may_be_listed(reason: FailureReason) -> bool:
    return DISPOSITIONS[reason].fall_back is not FallBack.NEVER
