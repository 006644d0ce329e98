"""What the caller is told when every target of a chain has failed or was passed over."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from crossfade.core.failure import DISPOSITIONS, Failure, FailureReason
from crossfade.core.steps import GiveUp

_LIMITED = frozenset({FailureReason.RATE_LIMIT, FailureReason.QUOTA_EXHAUSTED})
_SILENT = frozenset({FailureReason.TIMEOUT, FailureReason.STREAM_STALLED})


class RungEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How the walk ended at one rung: a failure, or a skip in words.

    `back_at` is when the target may be tried again, where that is known; `out` is the reason of an ejection.
    """

    target: str
    failure: Failure | None = None
    skip: str | None = None
    out: str | None = None
    back_at: float | None = None

    def words(self, now: float) -> str:
        back = "" if self.back_at is None else f"{max(1, round(self.back_at - now))} s"
        if self.failure is None:
            return f"{self.target} skipped: {self.skip}" + (f" {back} more" if back else "")
        notes = [self.failure.detail or (str(self.failure.status) if self.failure.status else "")]
        if back:
            notes.append(f"back in {back}")
        said = ", ".join(note for note in notes if note)
        return f"{self.target} {self.failure.reason}" + (f" ({said})" if said else "")


def exhausted(route: str, ends: Sequence[RungEnd], now: float) -> GiveUp:
    """One honest error that names every rung, with the status of design section 1."""
    status = _status(ends)
    times = [end.back_at - now for end in ends if end.back_at is not None]
    retry_after = max(1.0, min(times)) if times and status in (429, 503) else None
    count = f"All {len(ends)} targets" if len(ends) != 1 else "The only target"
    said = "; ".join(end.words(now) for end in ends) or "none could be tried"
    return GiveUp(
        status=status,
        code="chain_exhausted",
        message=f"{count} of route {route!r} failed: {said}",
        retry_after=retry_after,
    )


def _status(ends: Sequence[RungEnd]) -> int:
    kinds = [_kind(end) for end in ends]
    if kinds and all(kind == "limited" for kind in kinds):
        return 429
    if kinds and all(kind == "silent" for kind in kinds):
        return 504
    refusals = [end for end, kind in zip(ends, kinds, strict=True) if kind == "refused"]
    if ends and len(refusals) == len(ends):
        return _refusal_status(refusals)
    if any(end.back_at is not None for end in ends) or "overloaded" in kinds:
        return 503
    return 502


def _kind(end: RungEnd) -> str:
    if end.failure is None:
        if end.out in (FailureReason.RATE_LIMIT, FailureReason.QUOTA_EXHAUSTED):
            return "limited"
        return "out" if end.out is not None else "refused"
    reason = end.failure.reason
    if reason in _LIMITED:
        return "limited"
    if reason in _SILENT:
        return "silent"
    if reason is FailureReason.OVERLOADED:
        return "overloaded"
    status = DISPOSITIONS[reason].status or end.failure.status or 502
    return "refused" if 400 <= status < 500 else "failed"


def _refusal_status(refusals: Sequence[RungEnd]) -> int:
    """The status of the first that was really asked; a skip for want of ability is a 400."""
    for end in refusals:
        if end.failure is not None:
            return DISPOSITIONS[end.failure.reason].status or end.failure.status or 400
    return 400
