"""What one request's walk is made of, and what one call of it is while it lasts. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable

from crossfade.core.breaker import Permit
from crossfade.core.budget import RetryBudget
from crossfade.core.exchange import RequestFacts
from crossfade.core.health import HealthBoard, TargetHealth
from crossfade.core.limits import AttemptLimits
from crossfade.core.planner import Plan
from crossfade.core.policy import RoutePolicy, TimeoutPolicy
from crossfade.core.target import Rung, Target
from crossfade.core.verdict import AttemptRecord


class Walk:
    """What a dispatch is made of. `caller` are the limits that the request itself gave; `overall` is the deadline in
    seconds from `now`; `draw` gives numbers in [0, 1) for jitter and `rotation` picks among credentials. Not
    `is_repeatable`: never two attempts at once."""

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
        request: str,
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
    """One call under way, or one that is over. `place` is that of its rung in the walk, from 1."""

    __slots__ = (
        "health",
        "limits",
        "number",
        "permit",
        "place",
        "record",
        "rung",
        "stream",
        "target",
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
