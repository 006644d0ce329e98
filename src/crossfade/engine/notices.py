"""What dispatch and health have to tell, as events for logs, metrics and alerts. Pure: times are arguments."""

from __future__ import annotations

from crossfade.core.events import (
    BreakerMoved,
    Event,
    FallbackTriggered,
    RungDefective,
    TargetEjected,
    TargetReturned,
)
from crossfade.core.standing import BreakerChanged, Change, Ejected
from crossfade.core.steps import Defect, Fallback


def notice_event(notice: Fallback | Defect, *, request: str, route: str, after: float, at: float) -> Event:
    """`after`: seconds since the request came; `at`: Unix time."""
    if isinstance(notice, Fallback):
        after_s = int(after * 1e4) / 1e4  # `round` takes three times as long
        # By position: so many names cost more to pass than all else here.
        return FallbackTriggered(request, at, route, notice.source, notice.target, notice.reason, after_s, notice.mode)
    failure = notice.failure
    return RungDefective(
        id=request,
        at=at,
        route=route,
        target=notice.target,
        reason=failure.reason,
        status=failure.status,
        code=failure.code,
    )


def change_event(change: Change, now: float, *, at: float) -> Event:
    """`now` is by the clock of the change's own times; `at`: Unix time."""
    if isinstance(change, BreakerChanged):
        left = None if change.until is None else round(change.until - now, 1)
        return BreakerMoved(at=at, target=change.target, before=change.before, state=change.after, until_s=left)
    if isinstance(change, Ejected):
        left = round(change.until - now, 1)
        return TargetEjected(at=at, target=change.target, reason=change.reason, for_s=left, scope=change.scope)
    return TargetReturned(at=at, target=change.target, reason=change.reason, scope=change.scope)
