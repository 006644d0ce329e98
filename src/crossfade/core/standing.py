"""What is said of a target's health: whether it may be called, what has changed, how it looks. Decides nothing."""

from __future__ import annotations

from typing import Literal

import msgspec

from crossfade.core.failure import FailureReason

BreakerState = Literal["closed", "open", "half_open"]


class BreakerChange(msgspec.Struct, frozen=True):
    """A breaker went from `before` to `after`; `until` is when an open one may be tried again.

    An open breaker whose failed trial opens it anew reports `half_open` to `open`.
    """

    before: BreakerState
    after: BreakerState
    until: float | None = None


Scope = Literal["target", "credential", "account"]


class Available(msgspec.Struct, frozen=True):
    """The target may be called. `is_trial`: the call would be a trial of an opened breaker."""

    is_trial: bool = False


class Out(msgspec.Struct, frozen=True):
    """The target is passed over. `until` is when that may end, None where only a running trial can tell, or a call
    under way where it is `full`, or the operator who has `drained` it."""

    reason: FailureReason | Literal["breaker_open", "trial_in_flight", "full", "drained"]
    until: float | None = None

    @property
    def is_ejection(self) -> bool:
        """Whether it is a limit, a defect or the operator's wish, which is never tried early."""
        return isinstance(self.reason, FailureReason) or self.reason in ("full", "drained")


Standing = Available | Out

AVAILABLE = Available()
DRAINED = Out("drained")
FULL = Out("full")
TRIAL_DUE = Available(is_trial=True)


class BreakerChanged(msgspec.Struct, frozen=True):
    """A target's breaker changed its state; `until` is when an open one is due for a trial."""

    target: str
    before: BreakerState
    after: BreakerState
    until: float | None = None


class Ejected(msgspec.Struct, frozen=True):
    """`target` gave the reason; with scope `credential` all targets of its provider and credential are out, with
    `account` those of the account that is declared for the credential: of the same model for a rate limit, else all."""

    target: str
    reason: FailureReason
    until: float
    scope: Scope


class Returned(msgspec.Struct, frozen=True):
    """The first good answer after an ejection had run out."""

    target: str
    reason: FailureReason
    scope: Scope


Change = BreakerChanged | Ejected | Returned


class LimitView(msgspec.Struct, frozen=True):
    """What a provider said of one rate limit: what of it is left, of how much if it said so, until when that holds."""

    name: str
    left: float
    most: float | None
    until: float


class TargetView(msgspec.Struct, frozen=True, kw_only=True):
    """One target's health as it is read by people and readiness checks. `calls` and `failures` are the window's."""

    key: str
    standing: Standing
    breaker: BreakerState
    breaker_until: float | None
    is_open_for_one: bool
    opened_by_silence: bool
    in_flight: int
    consecutive_failures: int
    calls: int
    failures: int
    ejections: tuple[tuple[FailureReason, float], ...] = ()
    demoted_on: tuple[tuple[str, float], ...] = ()
    active: int = 0
    first_content: float | None = None
    """Calls under way, and the average time to first content in seconds."""
    ramp: float = 1.0
    headroom: float = 1.0
    """The shares of its usual traffic that it should have, and of its rate limits that are left."""
    limits: tuple[LimitView, ...] = ()
    concurrency: float | None = None
    """The most calls under way at once, None where there is no bound; and who waits for room."""
    waiting: int = 0
