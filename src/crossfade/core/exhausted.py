"""What the caller is told when nobody answered: the ends of a walk that are no answer, in words and statuses."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from crossfade.core.failure import DISPOSITIONS, Failure, FailureReason
from crossfade.core.steps import GiveUp

_R = FailureReason
_LIMITED = frozenset({_R.RATE_LIMIT, _R.QUOTA_EXHAUSTED})
_SILENT = frozenset({_R.TIMEOUT, _R.STREAM_STALLED})
_NEEDS_MENDING = frozenset({_R.AUTH_ERROR, _R.MODEL_UNAVAILABLE})
"""Ejections that end by themselves but cure nothing: no caller is told to come back for them."""


class RungEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How the walk ended at one rung: a failure, a skip in words, or why its turn never came.

    `back_at` is when the target may be tried again, where that is known; `out` is what a skipped one is out for.
    """

    target: str
    failure: Failure | None = None
    skip: str | None = None
    out: str | None = None
    back_at: float | None = None
    untried: str | None = None

    def words(self, now: float) -> str:
        back = "" if self.back_at is None else f"{max(1, round(self.back_at - now))} s"
        if self.untried is not None:
            return f"{self.target} not tried: {self.untried}"
        if self.failure is None:
            return f"{self.target} skipped: {self.skip}" + (f" {back} more" if back else "")
        notes = [self.failure.detail or (str(self.failure.status) if self.failure.status else "")]
        if back:
            notes.append(f"back in {back}")
        said = ", ".join(note for note in notes if note)
        return f"{self.target} {self.failure.reason}" + (f" ({said})" if said else "")


# --- every rung ----------------------------------------------------------------------------------------------


def exhausted(route: str, ends: Sequence[RungEnd], now: float) -> GiveUp:
    """One honest error that names every rung, with the status of design section 1."""
    status = _status(ends)
    retry_after = None
    if status in (429, 503):
        times = [end.back_at - now for end in ends if end.back_at is not None and end.out not in _NEEDS_MENDING]
        retry_after = max(1.0, min(times, default=1.0))
    count = f"All {len(ends)} targets" if len(ends) != 1 else "The only target"
    said = "; ".join(end.words(now) for end in ends)
    return GiveUp(
        status=status,
        code="chain_exhausted",
        message=f"{count} of route {route!r} failed: {said}" if ends else f"Route {route!r} has no targets",
        retry_after=retry_after,
    )


def _status(ends: Sequence[RungEnd]) -> int:
    kinds = {_kind(end) for end in ends}
    if kinds == {"limited"}:
        return 429
    tried = kinds - {"untried"}
    if ends and tried <= {"silent"}:
        return 504  # also where the deadline left no time to try any
    if tried == {"refused"}:
        return _refusal_status(ends)
    return 503 if kinds & {"limited", "out", "busy"} else 502


def _kind(end: RungEnd) -> str:
    if end.untried is not None:
        return "untried"
    if end.failure is not None:
        return _kind_of(end.failure.reason, end.failure.status, has_time=end.back_at is not None)
    if end.out is None:
        return "refused"  # for want of ability
    return _kind_of(FailureReason(end.out), None, has_time=False) if end.out in _REASONS else "out"


_REASONS = frozenset(FailureReason)


def _kind_of(reason: FailureReason, given: int | None, *, has_time: bool) -> str:
    if reason in _LIMITED:
        return "limited"
    if reason in _SILENT:
        return "silent"
    if reason is _R.OVERLOADED:
        return "busy"
    status = DISPOSITIONS[reason].status or given or 502
    if 400 <= status < 500:
        return "refused"
    return "busy" if has_time else "failed"


def _refusal_status(ends: Sequence[RungEnd]) -> int:
    """The status of the first that was really asked; a skip for want of ability is a 400."""
    for end in ends:
        if end.failure is not None:
            return DISPOSITIONS[end.failure.reason].status or end.failure.status or 400
    ejected = [DISPOSITIONS[FailureReason(end.out)].status for end in ends if end.out is not None]
    return ejected[0] or 400 if len(ejected) == len(ends) else 400


# --- one rung ------------------------------------------------------------------------------------------------


def declined(target: str, failure: Failure) -> GiveUp:
    """One target's failure that ends the walk: its own error as received, or ours for it."""
    row = DISPOSITIONS[failure.reason]
    if failure.reason is _R.AUTH_ERROR:
        return GiveUp(
            status=502,
            code="upstream_auth_error",
            message=f"{target} refused the credential that is configured for it ({failure.status})",
        )
    if failure.status is not None and 400 <= failure.status < 500 and (row.status is None or row.status < 500):
        return GiveUp(
            status=failure.status if row.status is None else row.status,
            code=failure.code or failure.reason,
            message=failure.message or f"{target}: {said(failure)}",
            failure=failure,
            retry_after=failure.retry_after,
        )
    return GiveUp(
        status=row.status or 502,
        code=failure.reason,
        message=f"{target} failed: {said(failure)}",
        retry_after=failure.retry_after,
    )


def passed_over(route: str, end: RungEnd, reason: FailureReason, now: float) -> GiveUp:
    """A target is ejected for `reason`, and the route does not go on to another one for that."""
    back = None if end.back_at is None or reason in _NEEDS_MENDING else max(1.0, end.back_at - now)
    return GiveUp(
        status=DISPOSITIONS[reason].status or 502,
        code=reason,
        message=f"{end.words(now)}, and route {route!r} does not fall back on {reason}",
        retry_after=back,
    )


def agreed(reason: FailureReason, one: str, other: str) -> GiveUp:
    """Two providers gave the same soft failure."""
    return GiveUp(
        status=502,
        code="soft_agreement",
        message=f"Two providers gave the same unusable answer ({reason}): {one} and {other};"
        " the request is the likely cause",
    )


def broken_off(target: str, failure: Failure, why: str) -> GiveUp:
    """Part of the answer has been delivered, and no other stream may or could be joined to it."""
    return GiveUp(
        status=DISPOSITIONS[failure.reason].status or 502,
        code=failure.reason,
        message=f"The answer of {target} broke off ({said(failure)}) and {why}",
    )


def said(failure: Failure) -> str:
    return f"{failure.reason}: {failure.detail}" if failure.detail else str(failure.reason)
