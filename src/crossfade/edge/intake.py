"""From what a caller asked to a walk: the route, the chain, and the policy that results from both.

Pure but for the caches of compiled expressions. A caller may narrow what the route allows, never widen it: it cannot
name a host, nor a target outside of the route's `allow`, nor undo `recover: error`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

import msgspec
import re2

from crossfade.config.directory import Directory
from crossfade.core import policy as defaults
from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Completion, RequestFacts
from crossfade.core.failure import Failure, FailureReason, fallback_reasons
from crossfade.core.policy import RoutePolicy, TimeoutPolicy, ValidationPolicy
from crossfade.core.stream import Check
from crossfade.core.target import Route, Rung
from crossfade.core.validation import Validators, check_completion
from crossfade.wire.openai_chat import FallbackModel, Options, Ours

SDK_MARGIN: Final = 0.5
"""Seconds before the moment at which the caller's SDK would give up."""
_NO_LIMITS: Final = TimeoutPolicy()
MAX_PATTERN_MEMORY: Final = 1 << 20
"""Bytes that one compiled expression may take."""
MAX_CALLER_PATTERNS: Final = 32
"""So many expressions of callers are kept compiled, apart from those of routes; others are compiled again for use."""


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """What a request amounts to. `caller` are the limits the request gave; `overall` is its deadline in seconds."""

    route: Route
    policy: RoutePolicy
    caller: TimeoutPolicy
    overall: float
    check: Check
    is_repeatable: bool
    wants_trace: bool
    tags: tuple[str, ...]


def admit(
    directory: Directory,
    ours: Ours,
    facts: RequestFacts,
    headers: Mapping[str, str],
    bound_route: str | None,
) -> Admitted:
    """Resolves a request. `bound_route` is the route of the caller's key: then it serves whatever model is named.

    Raises UnknownRoute and InvalidRequest, naming the field.
    """
    route = _route(directory, ours, bound_route)
    if ours.fallback_models is not None:
        route = msgspec.structs.replace(route, chain=_chain(directory, route, ours.fallback_models))
    policy = route.policy
    options = ours.options
    if ours.fallback_on is not None:
        policy = msgspec.structs.replace(policy, fallback_on=fallback_reasons(ours.fallback_on))
    validators = operators_validators(policy.validation)
    caller = _NO_LIMITS
    if options is not None:
        caller = _caller_limits(options, policy.timeouts)
        policy = _narrowed(policy, options)
        if options.validate is not None:
            validators += _callers_validators(options.validate)
    return Admitted(
        route=route,
        policy=policy,
        caller=caller,
        overall=_overall(policy, caller, facts, headers),
        check=_check(facts, validators, policy.fallback_on),
        is_repeatable=options is None or options.repeatable is not False,
        wants_trace=route.trace or (options is not None and options.trace is True),
        tags=() if options is None or options.tags is None else options.tags,
    )


# --- the chain -----------------------------------------------------------------------------------------------


def _route(directory: Directory, ours: Ours, bound_route: str | None) -> Route:
    name = bound_route or ours.route or ours.model
    route = directory.route_for(name)
    if route is None or not route.chain:
        raise directory.unknown(name)
    return route


def _chain(directory: Directory, route: Route, models: tuple[FallbackModel, ...]) -> tuple[Rung, ...]:
    """The head of the route's chain, and behind it what the request names."""
    chain = [route.chain[0]]
    names = {route.chain[0].name}
    for place, model in enumerate(models):
        found = directory.rungs_for(model.name)
        if not found:
            raise directory.unknown(model.name, param=f"fallback_models[{place}]")
        for rung in found:
            if not directory.allows(route, rung):
                raise InvalidRequest(
                    f"`fallback_models[{place}]`: route {route.name!r} does not allow {rung.name!r}.",
                    param=f"fallback_models[{place}]",
                )
            if rung.name not in names:
                names.add(rung.name)
                chain.append(_with_params(rung, model))
    return tuple(chain)


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
    return msgspec.structs.replace(policy, stream=stream, retry=retry)


def _overall(policy: RoutePolicy, caller: TimeoutPolicy, facts: RequestFacts, headers: Mapping[str, str]) -> float:
    """The deadline: the request's, else the route's; for buffered calls within the patience that the SDK announces."""
    overall = caller.overall or policy.timeouts.overall or defaults.OVERALL_TIMEOUT
    if facts.stream:
        return overall
    announced = headers.get("x-stainless-read-timeout") or headers.get("x-stainless-timeout")
    if announced is None:
        return overall
    try:
        patience = float(announced)
    except ValueError:
        return overall
    if not 0 < patience < 1e6:
        return overall
    return min(overall, max(patience - SDK_MARGIN, patience / 2))


# --- validation ----------------------------------------------------------------------------------------------


def _check(facts: RequestFacts, validators: tuple[Validators, ...], listed: frozenset[FailureReason]) -> Check:
    if len(validators) < 2:
        only = validators[0] if validators else None
        return functools.partial(check_completion, facts=facts, validators=only, listed=listed)

    def check(completion: Completion) -> Failure | None:
        for one in validators:
            if (failure := check_completion(completion, facts, one, listed)) is not None:
                return failure
        return None

    return check


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
