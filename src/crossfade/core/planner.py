"""Which targets a request may go to, in which order, before anything is called.

Pure: what cannot serve the request is skipped with the reason on record. Whether a target is out just now
is asked by dispatch when it comes to it, since that changes while the walk is under way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from crossfade.core.exchange import Ability, RequestFacts
from crossfade.core.price import CostBound
from crossfade.core.target import Plan, Route, Rung, Skip, Target

WINDOW_TOLERANCE: Final = 2.0
"""An estimate of the input may exceed a window by this much before the target is passed over: a call that is refused
costs little, and a target that is passed over for nothing may have been the last."""


def plan(
    route: Route,
    facts: RequestFacts,
    rank: Callable[[Target], int] | None = None,
    prefers: Callable[[Target], bool] | None = None,
    chain: tuple[Rung, ...] | None = None,
) -> Plan:
    """The plan of a request on `route`.

    `rank(target)` is how late a target should come (`HealthBoard.ranks`); equal ones stay as they are.
    `prefers(target)` says that a target made the tool calls this request answers: it comes first. `chain` is that of
    the route in the order that its pools give it for this request, where it has pools.
    """
    bound = None
    if route.max_cost is not None:
        bound = CostBound(route.max_cost, route.first(), facts.input_tokens, facts.max_tokens)
    kept, skips = _able(route.chain if chain is None else chain, facts, bound)
    if rank is not None and len(kept) > 1:
        kept = _by_rank(kept, rank)
    if prefers is not None and len(kept) > 1:
        kept = tuple(sorted(kept, key=lambda rung: not prefers(rung.targets[0])))
    return Plan(kept, skips)


def _able(
    rungs: tuple[Rung, ...], facts: RequestFacts, bound: CostBound | None
) -> tuple[tuple[Rung, ...], tuple[Skip, ...]]:
    needs, tokens = facts.needs, facts.input_tokens
    for rung in rungs:
        target = rung.targets[0]
        is_too_small = target.window is not None and tokens > target.window * WINDOW_TOLERANCE
        if is_too_small or (needs and needs & target.lacks) or bound is not None:
            break
    else:
        return rungs, ()  # nearly every request ends here, so nothing is made for it
    found = [(rung, position, _objection(rung.targets[0], facts, bound)) for position, rung in enumerate(rungs)]
    kept = tuple([rung for rung, _, why in found if why is None])
    return kept, tuple([Skip(rung, position, why) for rung, position, why in found if why is not None])


def _objection(target: Target, facts: RequestFacts, bound: CostBound | None) -> str | None:
    return unfitness(target, facts) or (None if bound is None else bound.exceeded(target))


def unfitness(target: Target, facts: RequestFacts) -> str | None:
    """Why `target` cannot serve the request, in words; None if it can."""
    missing = facts.needs & target.lacks
    if missing:
        return "no " + " or ".join(sorted(_WORDS[ability] for ability in missing))
    if target.window is not None and facts.input_tokens > target.window * WINDOW_TOLERANCE:
        return f"window of {target.window} tokens for about {facts.input_tokens}"
    return None


_WORDS: Final = {
    Ability.VISION: "vision",
    Ability.FILES: "files",
    Ability.AUDIO: "audio",
    Ability.TOOLS: "tools",
    Ability.JSON_SCHEMA: "json_schema",
}


def _by_rank(rungs: tuple[Rung, ...], rank: Callable[[Target], int]) -> tuple[Rung, ...]:
    ranks = [min([rank(target) for target in rung.targets]) for rung in rungs]
    if not any(ranks):
        return rungs
    order = sorted(range(len(rungs)), key=ranks.__getitem__)
    return tuple(rungs[i] for i in order)
