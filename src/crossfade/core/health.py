"""What is known of every target from its own traffic: may it be called now, and if not, why and until when.

Three things keep a target out or back, and this file keeps them apart: its breaker (it fails), ejections (it said
for how long it cannot, or its credential or model is no good), and per-route demotion (its answers do not suit one
route). What each failure does is read from `DISPOSITIONS`. Reading changes nothing; nothing here knows of plans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final, assert_never

from crossfade.core.backoff import clamp_retry_after
from crossfade.core.breaker import Asked, Breaker, Permit
from crossfade.core.ejection import SEEN_TOGETHER, Ejections, RouteRecord
from crossfade.core.failure import DISPOSITIONS, Failure, FailureReason, HealthEffect
from crossfade.core.headroom import Headroom, Limit
from crossfade.core.load import TargetLoad
from crossfade.core.policy import ConcurrencyPolicy, HealthPolicy
from crossfade.core.siblings import Siblings
from crossfade.core.slots import Slots
from crossfade.core.standing import (
    AVAILABLE,
    DRAINED,
    FULL,
    TRIAL_DUE,
    BreakerChange,
    BreakerChanged,
    Change,
    Ejected,
    LimitView,
    Out,
    Returned,
    Scope,
    Standing,
    TargetView,
)
from crossfade.core.target import Route, Target

MOST_TARGETS: Final = 4096
"""Targets remembered though no route has them; callers can name models freely."""

RAMP_START: Final = 0.1
"""The share of its traffic that a target has at once when its breaker closes."""

_MOST_ROUTES: Final = 64
_NO_REQUESTS_FAULT: Final = frozenset({FailureReason.CONNECT_ERROR, FailureReason.OVERLOADED})
_NO_GENERATION: Final = -1
# Constants: an enumeration's own look-up takes compiled code longer than what follows from it.
_FAILURE: Final = HealthEffect.FAILURE
_TIMEOUT: Final = FailureReason.TIMEOUT
_DEFAULT_POLICY: Final = HealthPolicy()
_PLACES: Final = {FailureReason.RATE_LIMIT: 0, FailureReason.AUTH_ERROR: 2, FailureReason.QUOTA_EXHAUSTED: 3}
"""Where `TargetHealth._held` has what ejects for a reason; for all others it is the second."""


# --- one target ----------------------------------------------------------------------------------------------


class TargetHealth:
    """Breaker, ejections and per-route record of one target.

    `routes_using` is the number of configured routes with this target. `credential` holds the ejections that it
    shares with the other targets of its provider and credential, `account` those of the credential's account. `limits`
    and `headroom`, its rate limits run into and not yet, it shares with the same model under other keys of `named`, an
    account that was declared. `soft_routes` those routes that any target ever had a
    soft failure on, `watched` the keys of targets that should have less than their usual traffic, `siblings` the
    breakers of all targets of its provider. `in_flight` counts the permits not yet settled: calls without their first
    content, as permits are settled there. `slots` bound the calls under way, where the target has such a bound.
    """

    __slots__ = (
        "_ejections",
        "_policy",
        "_routes",
        "_siblings",
        "_soft_routes",
        "_watched",
        "account",
        "breaker",
        "credential",
        "headroom",
        "in_flight",
        "is_drained",
        "key",
        "limits",
        "load",
        "named",
        "routes_using",
        "slots",
    )

    def __init__(
        self,
        key: str,
        policy: HealthPolicy,
        draw: Callable[[], float],
        *,
        routes_using: int = 1,
        soft_routes: set[str] | None = None,
        watched: set[str] | None = None,
        siblings: Siblings | None = None,
    ) -> None:
        self.key = key
        self._siblings = Siblings() if siblings is None else siblings
        self._watched = set() if watched is None else watched
        self._soft_routes = set() if soft_routes is None else soft_routes
        self.breaker = Breaker(policy.breaker, draw)
        self._siblings.breakers[key] = self.breaker
        self.routes_using = routes_using
        self.named = ""
        self.credential = Ejections()
        self.account = Ejections()
        self.limits = Ejections()
        self.headroom = Headroom()
        self.in_flight = 0
        self.is_drained = False
        self.load = TargetLoad()
        self.slots: Slots | None = None
        self._policy = policy
        self._ejections = Ejections()
        self._routes: dict[str, RouteRecord] = {}

    # --- reading -------------------------------------------------------------------------------------------

    def standing(self, now: float, request: Asked | None = None) -> Standing:
        """Whether the target may be called at `now`, by `request` if that is known; an ejection is named before the
        breaker."""
        if self.is_drained:
            return DRAINED
        if not self.breaker.is_closed or self._was_ejected:
            out = self._ejected(now) or self._breaker_standing(now, request)
            return FULL if self.is_full and not isinstance(out, Out) else out
        return FULL if self.is_full else AVAILABLE

    @property
    def is_full(self) -> bool:
        """Whether as many calls are under way, or about to be, as it takes at once."""
        return self.slots is not None and self.slots.is_full

    def soft_rank(self, route: str, now: float) -> int:
        """0, or 1 where its answers have lately not suited `route` and it should be ordered later there."""
        record = self._routes.get(route)
        return 0 if record is None or now >= record.demoted_until else 1

    def out_until(self, now: float) -> float | None:
        """When the target may be available again; None if it is now, or nobody can tell."""
        standing = self.standing(now)
        return standing.until if isinstance(standing, Out) else None

    def note_limits(self, said: Sequence[Limit], calls: int, tokens: int, now: float) -> None:
        """The provider has said what is left of its rate limits (`Headroom.note`). No word holds longer than an
        ejection would last: what is wrong or has changed is found out then."""
        longest = now + self._policy.max_rate_limit
        for limit in said:
            limit.until = min(limit.until, longest)
        self.headroom.note(said, calls, tokens)

    def ramp(self, now: float) -> float:
        """The share of its usual traffic that the target should have: less than 1 for a while after it came back."""
        closed_at = self.breaker.closed_at
        if closed_at is None or now - closed_at >= self._policy.breaker.ramp:
            return 1.0
        return RAMP_START + (1.0 - RAMP_START) * max(0.0, now - closed_at) / self._policy.breaker.ramp

    @property
    def consecutive_failures(self) -> int:
        """Failures in a row that the breaker has heard of; 0 once it is open and closed again."""
        return self.breaker.consecutive_failures

    @property
    def is_failing(self) -> bool:
        """Whether the last that was heard of it is bad: its breaker is not closed, its last call failed, or no
        good answer has come since it was ejected."""
        breaker = self.breaker
        is_open = not (breaker.is_closed or breaker.is_for_one)
        return is_open or bool(breaker.consecutive_failures) or self._was_ejected

    def view(self, now: float) -> TargetView:
        calls, failures = self.breaker.recent(now)
        return TargetView(
            key=self.key,
            standing=self.standing(now),
            breaker=self.breaker.state(now),
            breaker_until=self.breaker.until(now),
            is_open_for_one=self.breaker.is_for_one,
            opened_by_silence=self.breaker.opened_by_silence,
            in_flight=self.in_flight,
            consecutive_failures=self.breaker.consecutive_failures,
            calls=calls,
            failures=failures,
            ejections=tuple([one for held, _ in self._held() for one in held.current(now)]),
            demoted_on=tuple((r, record.demoted_until) for r, record in self._routes.items() if self.soft_rank(r, now)),
            active=self.load.active,
            first_content=self.load.first_content,
            ramp=self.ramp(now),
            headroom=self.headroom.share(now),
            limits=tuple(
                [
                    LimitView(one.name, max(0.0, self.headroom.left(one)), one.most, one.until)
                    for one in self.headroom.current(now)
                ]
            ),
            concurrency=None if self.slots is None else self.slots.limit.value,
            waiting=0 if self.slots is None else self.slots.waiting,
        )

    @property
    def is_at_rest(self) -> bool:
        """Whether forgetting it would lose nothing: all is well, and nothing is under way."""
        return self.load.active == 0 and self.in_flight == 0 and not self._routes and not self.is_failing

    def __repr__(self) -> str:
        return f"<TargetHealth {self.key!r} {self.breaker!r}, in flight {self.in_flight}>"

    @property
    def _was_ejected(self) -> bool:
        """Whether it is ejected, or has given no good answer since."""
        return bool(self._ejections or self.limits or self.credential or self.account)

    def _held(self) -> tuple[tuple[Ejections, Scope], ...]:
        """All that may eject it, and who is out then."""
        return (
            (self.limits, "account" if self.named else "target"),
            (self._ejections, "target"),
            (self.credential, "credential"),
            (self.account, "account" if self.named else "credential"),
        )

    def _ejected(self, now: float) -> Out | None:
        found: tuple[FailureReason, float] | None = None
        for held, _ in self._held():
            longest = held.longest(now)
            if longest is not None and (found is None or longest[1] > found[1]):
                found = longest
        return None if found is None else Out(*found)

    def _breaker_standing(self, now: float, request: Asked | None) -> Standing:
        if self.breaker.lets_by(request):
            return AVAILABLE
        until = self.breaker.until(now)
        if self.breaker.has_trial(now):
            return Out("trial_in_flight", until)
        return TRIAL_DUE if until is None else Out("breaker_open", until)

    # --- permits -------------------------------------------------------------------------------------------

    def take(self, now: float, request: Asked | None = None) -> Permit | None:
        """Leave for one call; None where `standing` says so."""
        if self.is_drained or self.is_full:
            return None
        if self._was_ejected and self._ejected(now) is not None:
            return None
        permit = self.breaker.permit(now, request)
        if permit is not None:
            self.in_flight += 1
        return permit

    def take_early(self, now: float, request: Asked | None = None) -> Permit | None:
        """A trial before it is due (`Breaker.permit_early`); None while ejected, which is never tried early."""
        is_out = self.is_drained or self.is_full or self._ejected(now) is not None
        permit = None if is_out else self.breaker.permit_early(now, request)
        if permit is not None:
            self.in_flight += 1
        return permit

    def settle_unused(self, permit: Permit, now: float) -> None:
        """Returns the permit without a judgement: the call was not made, or says nothing of the target."""
        if not permit.settled:
            self.in_flight -= 1
            self.breaker.release(permit, now)

    def settle(
        self,
        permit: Permit | None,
        failure: Failure | None,
        now: float,
        request: Asked,
        route: str,
        *,
        passed_through: bool = False,
    ) -> tuple[Change, ...]:
        """Returns the permit with what came of the call: `failure`, or None for a good answer (or its beginning).

        Gives what changed, for events. With a permit already settled as good, a failure takes that back, once: the
        answer broke off or turned out unfit; everything else about a settled permit is ignored. Without a permit
        the failure counts only while the breaker is closed, as nothing tells which state it belongs to.
        `passed_through`: the credential was the caller's own, so its refusal says nothing of ours.
        """
        if permit is None:
            if failure is None:
                return ()
            return self._judge(self._stand_in(now), failure, now, request, route, False, passed_through)
        if permit.settled:
            if failure is None or permit.succeeded_at is None:
                return ()
            changes = self._judge(permit, failure, now, request, route, True, passed_through)
            permit.succeeded_at = None
            return changes
        self.in_flight -= 1
        if failure is None:
            change = self.breaker.succeed(permit, now)
            if change is None and not self._routes and not self._was_ejected:
                return ()
            return self._told(change) + self._on_success(route, now)
        changes = self._judge(permit, failure, now, request, route, False, passed_through)
        self.breaker.release(permit, now)  # what the breaker did not hear of is neither success nor failure
        return changes

    def _stand_in(self, now: float) -> Permit:
        permit = self.breaker.permit(now) if self.breaker.is_closed else None
        return Permit(_NO_GENERATION) if permit is None else permit

    # --- what follows --------------------------------------------------------------------------------------

    def _on_success(self, route: str, now: float) -> tuple[Change, ...]:
        if (record := self._routes.get(route)) is not None:
            record.add_success(now)
            if record.is_spent(now):
                del self._routes[route]
        return tuple([Returned(self.key, why, scope) for held, scope in self._held() for why in held.take_expired(now)])

    def _judge(
        self,
        permit: Permit,
        failure: Failure,
        now: float,
        request: Asked,
        route: str,
        is_late: bool,
        passed_through: bool,
    ) -> tuple[Change, ...]:
        if failure.is_caller_limit:
            return ()
        effect = DISPOSITIONS[failure.reason].health
        if effect is _FAILURE:
            return self._tell_breaker(permit, now, request, failure, is_late)
        match effect:
            case HealthEffect.NONE:
                return ()
            case HealthEffect.ROUTE:
                self._record(route, now).add_failure(now, is_late)
                # The target did answer: what one route makes of the answer must not keep a trial from succeeding.
                return () if is_late else self._told(self.breaker.succeed(permit, now))
            case HealthEffect.ROUTE_AND_BREAKER:
                self._record(route, now).add_failure(now, is_late)
                if self._is_seen_widely(route, now):
                    return self._tell_breaker(permit, now, request, failure, is_late)
                return ()
            case HealthEffect.EJECT:
                wait = clamp_retry_after(failure.retry_after, self._policy)
                return self.eject(failure.reason, now + wait, now)
            case HealthEffect.EJECT_LONG:
                # What the provider says is no help: a spent quota often comes with the seconds of a rate limit.
                is_quota = failure.reason is FailureReason.QUOTA_EXHAUSTED
                return self.eject(failure.reason, now + (self._policy.quota if is_quota else self._policy.model), now)
            case HealthEffect.EJECT_CREDENTIAL:
                return () if passed_through else self.eject(failure.reason, now + self._policy.credential, now)
            case _:
                assert_never(effect)

    def eject(self, reason: FailureReason, until: float, now: float) -> tuple[Change, ...]:
        """Keeps the target out until a time, and with it all that the reason lies with: of its credential, of its
        account, or the same model of its account."""
        held, scope = self._held()[_PLACES.get(reason, 1)]
        if not held.add(reason, until, now):
            return ()
        return (Ejected(self.key, reason, until, scope),)

    def _tell_breaker(
        self, permit: Permit, now: float, request: Asked, failure: Failure, is_late: bool
    ) -> tuple[Change, ...]:
        tell = self.breaker.fail_late if is_late else self.breaker.fail
        cause = None if failure.reason in _NO_REQUESTS_FAULT else request
        change = tell(permit, now, cause, failure.reason is _TIMEOUT)
        if change is not None and change.before == "closed" and not self.breaker.is_for_one:
            is_unreachable = failure.reason is FailureReason.CONNECT_ERROR
            self._siblings.on_opened(self.key.partition("#")[0], is_unreachable, now)
        return self._told(change)

    def _told(self, change: BreakerChange | None) -> tuple[Change, ...]:
        if change is None:
            return ()
        if change.after == "closed":
            self._watched.add(self.key)
        return (BreakerChanged(self.key, change.before, change.after, change.until),)

    def _record(self, route: str, now: float) -> RouteRecord:
        record = self._routes.get(route)
        if record is None:
            if len(self._routes) >= _MOST_ROUTES:
                del self._routes[min(self._routes, key=lambda name: self._routes[name].last_at)]
            record = self._routes[route] = RouteRecord(now)
            self._soft_routes.add(route)
        return record

    def _is_seen_widely(self, route: str, now: float) -> bool:
        self._routes[route].marked_at = now
        marks = (record.marked_at for record in self._routes.values())
        seen_by = sum(1 for mark in marks if mark is not None and now - mark < SEEN_TOGETHER)
        return seen_by >= min(2, self.routes_using)

    # --- configuration -------------------------------------------------------------------------------------

    def retune(self, policy: HealthPolicy, routes_using: int) -> None:
        """Takes new options and keeps the state."""
        self._policy = policy
        self.routes_using = routes_using
        self.breaker.retune(policy.breaker)

    def bound(self, policy: ConcurrencyPolicy | None) -> None:
        """Takes a bound of the calls under way at once; None: there is none. Whoever waits keeps its place."""
        if policy is None:
            if self.slots is not None:
                self.slots.open_up()
            self.slots = None
        elif self.slots is None:
            self.slots = Slots(policy, self.load)
        else:
            self.slots.retune(policy)

    def reset(self) -> None:
        """Forgets all of it but the calls in flight."""
        self.breaker.reset()
        for held, _ in self._held():
            held.clear()
        self.headroom.clear()
        self._routes.clear()
        if self.slots is not None:
            self.slots.limit.reset()
            self.slots.offer()


# --- all targets ---------------------------------------------------------------------------------------------


class HealthBoard:
    """The health of all targets by key, made when first asked for and kept over configuration reloads.

    `policy` is that of targets which no route has; `draw` gives numbers from [0, 1).
    """

    def __init__(
        self, draw: Callable[[], float], policy: HealthPolicy = _DEFAULT_POLICY, most: int = MOST_TARGETS
    ) -> None:
        self._draw = draw
        self._policy = policy
        self._most = most
        self.targets: dict[str, TargetHealth] = {}
        """All that are known, by key."""
        self._credentials: dict[tuple[str, int], Ejections] = {}
        self._accounts: dict[tuple[str, str], Ejections] = {}
        self._limits: dict[tuple[str, str], tuple[Ejections, Headroom]] = {}
        self._members: dict[str, tuple[str, int]] = {}
        self._routes_using: dict[str, int] = {}
        self._soft_routes: set[str] = set()
        self._watched: set[str] = set()
        self._siblings: dict[str, Siblings] = {}
        self._drained: tuple[str, ...] = ()

    @property
    def drained(self) -> tuple[str, ...]:
        """What the operator has taken out: providers, `provider/model`, or patterns of either with `*`."""
        return self._drained

    def drain(self, patterns: tuple[str, ...]) -> None:
        """Gives no new calls to the targets that `patterns` name, and to all others again."""
        self._drained = patterns
        for key, health in self.targets.items():
            health.is_drained = self._is_drained(key)

    def _is_drained(self, key: str) -> bool:
        name = key.partition("#")[0]
        provider = name.partition("/")[0]
        return any(fnmatchcase(name, one) or fnmatchcase(provider, one) for one in self._drained)

    def of(self, target: Target) -> TargetHealth:
        """The health of a target; a new one is available."""
        health = self.targets.get(target.key)
        return self._add(target, self._policy) if health is None else health

    def soft_rank(self, route: str, target: Target, now: float) -> int:
        """`TargetHealth.soft_rank`; 0 for a target never asked for."""
        health = self.targets.get(target.key)
        return 0 if health is None else health.soft_rank(route, now)

    def ramp(self, target: Target, now: float) -> float:
        """`TargetHealth.ramp`; 1 for a target never asked for."""
        health = self.targets.get(target.key)
        return 1.0 if health is None else health.ramp(now)

    def ranks(self, route: str, now: float) -> Callable[[Target], int] | None:
        """How late a target should come on `route` at `now`; None: none is to be moved.

        1: its answers have lately not suited the route, or it has just come back, and this request is none of those
        that it gets already.
        """
        if route not in self._soft_routes and not self._watched:
            return None
        return lambda target: self._rank(route, target, now)

    def _rank(self, route: str, target: Target, now: float) -> int:
        health = self.targets.get(target.key)
        if health is None:
            return 0
        if target.key in self._watched:
            ramp = health.ramp(now)
            if ramp >= 1.0:
                self._watched.discard(target.key)
            elif self._draw() >= ramp:
                return 1
        return health.soft_rank(route, now)

    def snapshot(self, now: float) -> Mapping[str, TargetView]:
        """All that is known, frozen, by key. Changes nothing."""
        return MappingProxyType({key: health.view(now) for key, health in self.targets.items()})

    def configure(
        self,
        routes: Iterable[Route],
        policy: HealthPolicy = _DEFAULT_POLICY,
        policy_of: Callable[[Target], HealthPolicy] | None = None,
    ) -> None:
        """Takes a (new) configuration: which routes use which targets, and their options. State is kept.

        `policy_of` gives the options of a target that has its own; `policy` is for all others.
        """
        self._policy = policy
        used: dict[str, set[str]] = {}
        targets: dict[str, Target] = {}
        for route in routes:
            for target in (target for rung in route.every_rung() for target in rung.targets):
                used.setdefault(target.key, set()).add(route.name)
                targets[target.key] = target
        self._routes_using = {key: len(names) for key, names in used.items()}
        for key, target in targets.items():
            if key not in self.targets:
                self._add(target, policy)
        for key, health in self.targets.items():
            if key in targets and targets[key].account != health.named:
                self._join(health, targets[key])
            own = policy_of(targets[key]) if policy_of is not None and key in targets else policy
            health.retune(own, self._routes_using.get(key, 1))
            if key in targets:
                health.bound(targets[key].concurrency)

    def forget(self, provider: str, credential: int | None = None) -> None:
        """Forgets what is known of a provider's targets, or of one credential's: its address or key was changed."""
        for key, member in self._members.items():
            if member[0] == provider and credential in (None, member[1]):
                self.targets[key].reset()

    def _add(self, target: Target, policy: HealthPolicy) -> TargetHealth:
        if len(self.targets) - len(self._routes_using) >= self._most:
            self._prune()
        routes_using = self._routes_using.get(target.key, 1)
        health = TargetHealth(
            target.key,
            policy,
            self._draw,
            routes_using=routes_using,
            soft_routes=self._soft_routes,
            watched=self._watched,
            siblings=self._siblings.setdefault(target.provider, Siblings()),
        )
        health.is_drained = bool(self._drained) and self._is_drained(target.key)
        self.targets[target.key] = health
        self._members[target.key] = (target.provider, target.credential)
        self._join(health, target)
        health.bound(target.concurrency)
        return health

    def _join(self, health: TargetHealth, target: Target) -> None:
        """Gives the target what it shares with others: by its credential, and by its account where one is declared;
        else every credential is an account of its own."""
        member, named = (target.provider, target.credential), target.account
        health.named = named
        health.credential = self._credentials.setdefault(member, Ejections())
        account = (target.provider, named or f"#{target.credential}")
        health.account = self._accounts.setdefault(account, Ejections())
        own = (Ejections(), Headroom())
        health.limits, health.headroom = self._limits.setdefault((target.name, named), own) if named else own

    def _prune(self) -> None:
        """Drops what no route has and what is at rest; where none rests, a quarter of them, oldest first."""
        spare = [key for key in self.targets if key not in self._routes_using]
        resting = [key for key in spare if self.targets[key].is_at_rest]
        for key in resting or spare[: max(1, len(spare) // 4)]:
            self._siblings[self._members[key][0]].breakers.pop(key, None)
            del self.targets[key], self._members[key]
        names = {(key.partition("#")[0], health.named) for key, health in self.targets.items()}
        self._limits = {key: shared for key, shared in self._limits.items() if key in names}
