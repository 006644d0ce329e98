"""What one request's walk is made of, what one call of it is while it lasts, and what is put on record of it.

Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from crossfade.core.breaker import Asked, Permit
from crossfade.core.budget import RetryBudget
from crossfade.core.exchange import RequestFacts, Usage
from crossfade.core.failure import Failure
from crossfade.core.health import HealthBoard, TargetHealth
from crossfade.core.policy import AttemptLimits, RoutePolicy, TimeoutPolicy
from crossfade.core.target import Plan, Rung, Target


class AttemptRecord:
    """One line of a walk: a call, or a skip (`number` 0). Times are seconds; `started_s` counts from the request's
    start. `mode` is fresh, retry, trial, hedge or continue. The prices are the target's, in USD per token."""

    __slots__ = (
        "dropped",
        "failure",
        "latency_s",
        "mode",
        "number",
        "price_in",
        "price_out",
        "request_id",
        "rung",
        "skip",
        "started_s",
        "status",
        "target",
        "time_to_first_chunk_s",
        "usage",
    )

    def __init__(
        self,
        number: int,
        target: str,
        rung: int,
        started_s: float,
        mode: str = "fresh",
        price_in: float | None = None,
        price_out: float | None = None,
        latency_s: float = 0.0,
        time_to_first_chunk_s: float | None = None,
        failure: Failure | None = None,
        skip: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        usage: Usage | None = None,
        dropped: tuple[str, ...] = (),
    ) -> None:
        self.number = number
        self.target = target
        self.rung = rung
        self.started_s = started_s
        self.mode = mode
        self.price_in = price_in
        self.price_out = price_out
        self.latency_s = latency_s
        self.time_to_first_chunk_s = time_to_first_chunk_s
        self.failure = failure
        self.skip = skip
        self.status = status
        self.request_id = request_id
        self.usage = usage
        self.dropped = dropped


class Walk:
    """What a dispatch is made of. `request` is what is asked, by which health knows one that is repeated. `caller` are
    the limits that the request itself gave; `overall` is the deadline in seconds from `now`; `draw` gives numbers in
    [0, 1) for jitter and `rotation` picks among credentials. Not `is_repeatable`: never two attempts at once."""

    __slots__ = (
        "board",
        "budget",
        "caller",
        "draw",
        "facts",
        "is_repeatable",
        "overall",
        "plan",
        "policy",
        "request",
        "rotation",
        "route",
    )

    def __init__(
        self,
        request: Asked,
        route: str,
        plan: Plan,
        facts: RequestFacts,
        policy: RoutePolicy,
        caller: TimeoutPolicy,
        overall: float,
        board: HealthBoard,
        budget: RetryBudget,
        draw: Callable[[], float],
        rotation: int = 0,
        is_repeatable: bool = True,
    ) -> None:
        self.request = request
        self.route = route
        self.plan = plan
        self.facts = facts
        self.policy = policy
        self.caller = caller
        self.overall = overall
        self.board = board
        self.budget = budget
        self.draw = draw
        self.rotation = rotation
        self.is_repeatable = is_repeatable


class Attempt:
    """One call under way, or one that is over. `place` is that of its rung in the walk, from 1. `calls` and `tokens`
    are those of the target's headroom once it was sent, `crowd` all that the target had under way then."""

    __slots__ = (
        "calls",
        "crowd",
        "health",
        "limits",
        "number",
        "permit",
        "place",
        "record",
        "rung",
        "stream",
        "target",
        "tokens",
    )

    def __init__(
        self,
        number: int,
        place: int,
        rung: Rung,
        target: Target,
        health: TargetHealth,
        permit: Permit | None,
        limits: AttemptLimits,
        stream: bool,
        record: AttemptRecord,
    ) -> None:
        self.number = number
        self.place = place
        self.rung = rung
        self.target = target
        self.health = health
        self.permit = permit
        self.limits = limits
        self.stream = stream
        self.record = record
        self.calls = health.headroom.calls
        self.tokens = health.headroom.tokens
        self.crowd = health.load.active
