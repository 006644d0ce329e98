"""From what a caller asked to a walk: the route, the chain, and the policy that results from both.

Pure but for the caches of compiled expressions, and the time of day, which rules may ask for. A caller may narrow what
the route allows, never widen it: it cannot name a host, nor a target outside of the route's `allow`, nor undo
`recover: error`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Self

import msgspec
import re2

from crossfade.config.directory import CACHED_NAMES, Directory
from crossfade.config.settings import DEFAULT_ROUTE
from crossfade.core import policy as defaults
from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import RequestFacts
from crossfade.core.failure import fallback_reasons
from crossfade.core.policy import HedgePolicy, RoutePolicy, TimeoutPolicy, ValidationPolicy
from crossfade.core.rules import NO_RULE, Ask, Rules
from crossfade.core.stream import Check
from crossfade.core.target import Route, Rung, rungs_of
from crossfade.core.validation import OutputCheck, Validators
from crossfade.edge.auth import Key
from crossfade.edge.hardness import score_of
from crossfade.wire.openai_chat import FallbackModel, Options, Ours, has_our_headers

SDK_MARGIN: Final = 0.5
"""Seconds before the moment at which the caller's SDK would give up."""
_NO_LIMITS: Final = TimeoutPolicy()
_NO_KEY: Final = Key("")
MAX_PATTERN_MEMORY: Final = 1 << 20
"""Bytes that one compiled expression may take."""
MAX_CALLER_PATTERNS: Final = 32
"""So many expressions of callers are kept compiled, apart from those of routes; others are compiled again for use."""


class Caller:
    """What the head of a request tells: who asks, and what the headers say. `patience` is the time in seconds within
    which the caller's SDK must have a buffered answer; None where it announces none."""

    __slots__ = ("has_our_headers", "headers", "key", "patience")

    def __init__(
        self, key: Key | None, headers: Mapping[str, str], patience: float | None = None, has_our_headers: bool = False
    ) -> None:
        self.key = key
        self.headers = headers
        self.patience = patience
        self.has_our_headers = has_our_headers

    @classmethod
    def of(cls, headers: Mapping[str, str], key: Key | None) -> Self:
        """From headers with lower-case names."""
        return cls(key, headers, _patience(headers), has_our_headers(headers))


class Admitted:
    """What a request amounts to. `limits` are those the request gave; `overall` is its deadline in seconds. `rule` is
    the name of the one that put another chain in the place of the route's own."""

    __slots__ = (
        "is_repeatable",
        "limits",
        "overall",
        "policy",
        "route",
        "rule",
        "tags",
        "validators",
        "wants_trace",
    )

    def __init__(
        self,
        route: Route,
        policy: RoutePolicy,
        limits: TimeoutPolicy,
        overall: float,
        validators: tuple[Validators, ...],
        is_repeatable: bool,
        wants_trace: bool,
        tags: tuple[str, ...],
        rule: str | None = None,
    ) -> None:
        self.route = route
        self.policy = policy
        self.limits = limits
        self.overall = overall
        self.validators = validators
        self.is_repeatable = is_repeatable
        self.wants_trace = wants_trace
        self.tags = tags
        self.rule = rule

    def check(self, facts: RequestFacts) -> Check:
        """What judges the answers to a request with `facts`."""
        return OutputCheck(facts, self.validators, self.policy.fallback_on)


class Intake:
    """Resolves requests by one configuration's names. What a request without any wishes of its own amounts to hangs
    on few things, and is remembered. `wall` tells Unix time."""

    def __init__(self, directory: Directory, wall: Callable[[], float] = time.time):
        self.directory = directory
        self._wall = wall
        self._usual: dict[tuple[str, bool, float | None, str, int], Admitted] = {}
        self._rules: dict[str, Rules] = {}

    def admit(self, ours: Ours, facts: RequestFacts, caller: Caller, body: bytes) -> Admitted:
        """The route of the caller's key, if it is bound to one, serves whatever model is named. `body` is looked into
        where a rule wants to know how hard the request is.

        Raises UnknownRoute and InvalidRequest, naming the field.
        """
        admitted = self._admitted(ours, facts, caller, body)
        if facts.state:
            _check_state(self.directory, admitted.route, facts.state)
        return admitted

    def ask(self, ours: Ours, facts: RequestFacts, caller: Caller, body: bytes) -> Ask:
        """The request as rules see it."""
        tags = () if ours.options is None or ours.options.tags is None else ours.options.tags
        key = caller.key or _NO_KEY
        score = partial(score_of, facts, body)
        return Ask(facts, ours.model, tags, key.name, key.project or "", caller.headers, self._wall(), score)

    def _admitted(self, ours: Ours, facts: RequestFacts, caller: Caller, body: bytes) -> Admitted:
        bound = None if caller.key is None else caller.key.route
        if ours.route or ours.options or ours.fallback_models is not None or ours.fallback_on is not None:
            route = _named_route(self.directory, bound or ours.route or ours.model)
            rule = self._rule(route, ours, facts, caller, body)
            return _admit(self.directory, ours, facts, caller.patience, route, rule)
        known = self._reckoned(bound or ours.model, None, NO_RULE, ours, facts, caller)
        if known.route.rules:
            rule = self._rule(known.route, ours, facts, caller, body)
            if rule != NO_RULE:
                return self._reckoned(bound or ours.model, known.route, rule, ours, facts, caller)
        return known

    def _reckoned(
        self, name: str, route: Route | None, rule: int, ours: Ours, facts: RequestFacts, caller: Caller
    ) -> Admitted:
        """What a request for `name` without wishes amounts to, by a rule of its route; reckoned where it is not known.
        Without `route` it is that of the name."""
        usual = (name, facts.stream, caller.patience, facts.asks, rule)
        known = self._usual.get(usual)
        if known is None:
            if len(self._usual) >= CACHED_NAMES:
                self._usual.clear()
            if route is None:
                route = _named_route(self.directory, name)
            known = self._usual[usual] = _admit(self.directory, ours, facts, caller.patience, route, rule)
        return known

    def _rule(self, route: Route, ours: Ours, facts: RequestFacts, caller: Caller, body: bytes) -> int:
        """The place of the first rule of the route that holds."""
        if not route.rules:
            return NO_RULE
        rules = self._rules.get(route.name)
        if rules is None:
            rules = self._rules[route.name] = Rules([rule.when for rule in route.rules])
        return rules.pick(self.ask(ours, facts, caller, body))


def _admit(
    directory: Directory,
    ours: Ours,
    facts: RequestFacts,
    patience: float | None,
    route: Route,
    rule: int,
) -> Admitted:
    name = None
    if rule != NO_RULE:
        name = route.rules[rule].name
        route = route.by(route.rules[rule])
    if ours.fallback_models is not None:
        route = _with_fallbacks(directory, route, ours.fallback_models)
    if facts.asks == "embeddings":
        route = _of_one_model(route, ours)
    policy = route.policy
    options = ours.options
    if ours.fallback_on is not None:
        policy = msgspec.structs.replace(policy, fallback_on=fallback_reasons(ours.fallback_on))
    validators = operators_validators(policy.validation)
    limits = _NO_LIMITS
    if options is not None:
        limits = _caller_limits(options, policy.timeouts)
        policy = _narrowed(policy, options)
        if options.validate is not None:
            validators += _callers_validators(options.validate)
    return Admitted(
        route=route,
        policy=policy,
        limits=limits,
        overall=_overall(policy, limits, None if facts.stream else patience),
        validators=validators,
        is_repeatable=policy.repeatable and (options is None or options.repeatable is not False),
        wants_trace=route.trace or (options is not None and options.trace is True),
        tags=() if options is None or options.tags is None else options.tags,
        rule=name,
    )


# --- the chain -----------------------------------------------------------------------------------------------


def _named_route(directory: Directory, name: str) -> Route:
    route = directory.route_for(name)
    if route is None or not route.chain:
        raise directory.unknown(name)
    return route


def _with_fallbacks(directory: Directory, route: Route, models: tuple[FallbackModel, ...]) -> Route:
    """The route with the head of its chain (a target or a pool), and behind it what the request names."""
    chain = list(rungs_of(route.links[0])) if route.links else [route.chain[0]]
    names = {rung.name for rung in chain}
    head = len(chain)
    for place, model in enumerate(models):
        found = directory.rungs_for(model.name)
        if not found:
            raise directory.unknown(model.name, param=f"fallback_models[{place}]")
        for rung in found:
            if (objection := directory.objection(route, rung)) is not None:
                param = f"fallback_models[{place}]"
                raise InvalidRequest(f"`{param}`: {objection}.", param=param)
            if rung.name not in names:
                names.add(rung.name)
                chain.append(_with_params(rung, model))
    links = (route.links[0], *chain[head:]) if route.links else ()
    return msgspec.structs.replace(route, chain=tuple(chain), links=links)


def _of_one_model(route: Route, ours: Ours) -> Route:
    """The route as far as its vectors can be mixed. Fallbacks behind any other model were given for chats."""
    first = route.chain[0].targets[0].embedding
    same = tuple([rung for rung in route.chain if rung.targets[0].embedding == first])
    if len(same) == len(route.chain):
        return route
    if ours.fallback_models is None and route.name == DEFAULT_ROUTE and "," not in ours.model:
        return msgspec.structs.replace(route, chain=same)  # it has no pools
    other = next(rung for rung in route.chain if rung not in same)
    raise InvalidRequest(
        f"{other.name!r} embeds with another model than {route.chain[0].name!r}, and vectors of two models cannot be"
        " mixed.",
        param="model" if ours.fallback_models is None else "fallback_models",
    )


def _check_state(directory: Directory, route: Route, field: str) -> None:
    """Raises InvalidRequest unless one provider alone is asked, in the API that keeps what the field names."""
    providers = {rung.targets[0].provider for rung in route.chain}
    if len(providers) > 1 or directory.dialects.get(providers.pop()) != "responses":
        raise InvalidRequest(
            f"`{field}` names what only one provider keeps, and not every target of route {route.name!r} is at a single"
            " provider of the Responses API. Send the whole conversation as `input`.",
            param=field,
        )


def _with_params(rung: Rung, model: FallbackModel) -> Rung:
    if not model.set_params and not model.drop_params:
        return rung
    return Rung(
        tuple(
            msgspec.structs.replace(
                target,
                set_params=(*target.set_params, *model.set_params),
                drop_params=(*target.drop_params, *model.drop_params),
            )
            for target in rung.targets
        )
    )


# --- the policy ----------------------------------------------------------------------------------------------


def _caller_limits(options: Options, allowed: TimeoutPolicy) -> TimeoutPolicy:
    return TimeoutPolicy(
        overall=_at_most(options.timeout, allowed.overall),
        attempt=_at_most(options.attempt_timeout, allowed.attempt),
        first_content=_at_most(options.first_content_timeout, allowed.first_content),
        idle=_at_most(options.idle_timeout, allowed.idle),
    )


def _at_most(wish: float | None, allowed: float | None) -> float | None:
    """What the caller wishes, within what the route says where it says something."""
    return wish if wish is None or allowed is None else min(wish, allowed)


def _narrowed(policy: RoutePolicy, options: Options) -> RoutePolicy:
    stream, retry = policy.stream, policy.retry
    if options.commit is not None:
        stream = msgspec.structs.replace(stream, commit=options.commit)
    if options.hold is not None:
        stream = msgspec.structs.replace(stream, hold_tool_calls=options.hold[0], hold_json=options.hold[1])
    if options.recover is not None and stream.recover != "error":
        stream = msgspec.structs.replace(stream, recover=options.recover)
    if options.max_attempts is not None:
        most = options.max_attempts if retry.max_attempts is None else min(options.max_attempts, retry.max_attempts)
        retry = msgspec.structs.replace(retry, max_attempts=most)
    hedge = policy.hedge if options.hedge_after is None else _callers_hedge(options.hedge_after, policy.hedge)
    return msgspec.structs.replace(policy, stream=stream, retry=retry, hedge=hedge)


def _callers_hedge(wish: HedgePolicy, route: HedgePolicy) -> HedgePolicy:
    """No sooner than the route says, where it says something."""
    if wish.is_forbidden:
        return HedgePolicy()
    if route.is_forbidden or route.percentile is not None:
        return route
    if route.after is not None and (wish.after is None or wish.after <= route.after):
        return route
    return HedgePolicy(after=wish.after, percentile=wish.percentile, is_callers=True)


def _overall(policy: RoutePolicy, limits: TimeoutPolicy, patience: float | None) -> float:
    """The deadline: the request's, else the route's, but no later than the caller's patience."""
    overall = limits.overall or policy.timeouts.overall or defaults.OVERALL_TIMEOUT
    return overall if patience is None else min(overall, patience)


def _patience(headers: Mapping[str, str]) -> float | None:
    """What the SDK announces, with a margin so that the answer is there before it gives up."""
    announced = headers.get("x-stainless-read-timeout") or headers.get("x-stainless-timeout")
    if announced is None:
        return None
    try:
        patience = float(announced)
    except ValueError:
        return None
    return max(patience - SDK_MARGIN, patience / 2) if 0 < patience < 1e6 else None


# --- validation ----------------------------------------------------------------------------------------------


@functools.lru_cache(256)
def operators_validators(policy: ValidationPolicy) -> tuple[Validators, ...]:
    """The checks of a route, kept ready."""
    if policy.is_empty:
        return ()
    match, not_match = [None if pattern is None else _compiled(pattern) for pattern in (policy.match, policy.not_match)]
    return (Validators(policy, match=match, not_match=not_match),)


def _callers_validators(policy: ValidationPolicy) -> tuple[Validators, ...]:
    """The checks of one request. Its expressions are tried now, and kept as texts."""
    match, not_match = [
        None if pattern is None else _CallersPattern(pattern) for pattern in (policy.match, policy.not_match)
    ]
    return () if policy.is_empty else (Validators(policy, match=match, not_match=not_match),)


class _CallersPattern:
    """A caller's expression. Thousands of requests may be under way, each with another one."""

    __slots__ = ("_text",)

    def __init__(self, text: str):
        self._text = text
        try:
            callers_pattern(text)
        except re2.error as error:
            raise InvalidRequest(
                f"`crossfade.validate`: the expression cannot be used: {error}.", param="crossfade.validate"
            ) from None

    def search(self, text: str, /) -> object | None:
        found: object | None = callers_pattern(self._text).search(text)
        return found


@functools.lru_cache(MAX_CALLER_PATTERNS)
def callers_pattern(pattern: str) -> re2.Pattern:
    """A caller's expression, compiled. Raises re2.error."""
    return _compiled(pattern)


def _compiled(pattern: str) -> re2.Pattern:
    options = re2.Options()
    options.max_mem = MAX_PATTERN_MEMORY
    options.log_errors = False
    return re2.compile(pattern, options=options)
