"""Faults put into the engine on purpose. A simulation that does not notice one of them would not notice a real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from crossfade.core import balancer
from crossfade.core.breaker import Breaker
from crossfade.core.dispatch import Dispatch
from crossfade.core.health import HealthBoard, TargetHealth
from crossfade.core.load import TargetLoad
from crossfade.core.planner import plan
from crossfade.core.slots import Slots, Ticket
from tests.simulation import caller


def _never(*_: Any, **__: Any) -> bool:
    return False


def _always(*_: Any, **__: Any) -> bool:
    return True


def _none(*_: Any, **__: Any) -> None:
    return None


def _without_deadline(may_call: Callable[[Dispatch, float], bool]) -> Callable[[Dispatch, float], bool]:
    return lambda self, now: may_call(self, min(now, self.deadline - 0.001))


def _without_count(may_call: Callable[[Dispatch, float], bool]) -> Callable[[Dispatch, float], bool]:
    def mutant(self: Dispatch, now: float) -> bool:
        self._most_calls = 99
        return may_call(self, now)

    return mutant


def _blaming(judge: Callable[..., Any]) -> Callable[..., Any]:
    def mutant(self: TargetHealth, permit: Any, failure: Any, *rest: Any) -> Any:
        return judge(self, permit, msgspec.structs.replace(failure, is_caller_limit=False), *rest)

    return mutant


def _of_anybody(fail: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, permit, now, request, is_silence: fail(self, permit, now, None, is_silence)


def _hedging_on(send: Callable[..., Any]) -> Callable[..., Any]:
    def mutant(self: Dispatch, *args: Any) -> Any:
        self._has_hedged = False
        return send(self, *args)

    return mutant


def _planless(_: Any) -> Callable[..., Any]:
    def mutant(route: Any, facts: Any, *rest: Any, **more: Any) -> Any:
        made = plan(route, facts, *rest, **more)
        return msgspec.structs.replace(made, rungs=(*made.rungs, *(skip.rung for skip in made.skips)))

    return mutant


MUTANTS: Final[dict[str, tuple[Any, str, Callable[[Any], Any]]]] = {
    "unused permits are not returned": (TargetHealth, "settle_unused", lambda _: _none),
    "a target may have two trials": (Breaker, "has_trial", lambda _: _never),
    "the deadline is ignored": (Dispatch, "_may_call", _without_deadline),
    "max_attempts is ignored": (Dispatch, "_may_call", _without_count),
    "any stream is gone on from": (Dispatch, "_barrier", lambda _: _none),
    "a drained target is called": (HealthBoard, "_is_drained", lambda _: _never),
    "an ejection is ignored": (TargetHealth, "_ejected", lambda _: _none),
    "a second stream may commit": (Dispatch, "on_commit", lambda _: _always),
    "losers go on": (Dispatch, "_drop_losers", lambda _: _none),
    "a caller that leaves is a timeout": (Dispatch, "_patience", lambda _: lambda self, attempt: 0.0),
    "a caller's own limit is the target's fault": (TargetHealth, "_judge", _blaming),
    "the retry budget is ignored": (Dispatch, "_may_spend", lambda _: _always),
    "one request opens a breaker": (Breaker, "fail", _of_anybody),
    "hedge after hedge": (Dispatch, "_send", _hedging_on),
    "weights of nothing are ignored": (balancer, "_place", lambda _: lambda choice: (choice.state, choice.rank)),
    "calls are not counted down": (TargetLoad, "end", lambda _: _none),
    "nobody gets a last resort": (Dispatch, "_second_look", lambda _: _none),
    "whatever failed, the walk goes on": (Dispatch, "_decide", lambda _: Dispatch._fall),
    "what a rung lacks is ignored": (caller, "plan", _planless),
    "a full target is called": (TargetHealth, "is_full", lambda _: property(_never)),
    "room is not passed on": (Slots, "offer", lambda _: _none),
    "who goes keeps its place": (Ticket, "leave", lambda _: _none),
    "nobody waits for room": (Dispatch, "_queued", lambda _: _none),
}
"""By what goes wrong: where, and how it is changed."""


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """The engine with one fault."""
    where, attribute, change = MUTANTS[name]
    sound = getattr(where, attribute)
    setattr(where, attribute, change(sound))
    try:
        yield
    finally:
        setattr(where, attribute, sound)
