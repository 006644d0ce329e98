"""Makes the rungs of chains: one target per key of the provider, with all that is known of the model.

What the file says of a model outranks the catalogue. Timers nearer to the target win: the chain's entry, the
model, the provider.
"""

from __future__ import annotations

from collections.abc import Sequence

from crossfade.config.catalogue import Facts, ModelFacts
from crossfade.config.settings import ModelSettings, ProviderConfig
from crossfade.core.policy import TimeoutPolicy
from crossfade.core.target import Rung, Target

_NOTHING = ModelSettings()
_UNKNOWN = ModelFacts()
_NO_LIMITS = TimeoutPolicy()


def make_rung(
    provider: ProviderConfig,
    model: str,
    facts: Facts,
    *,
    timeouts: TimeoutPolicy = _NO_LIMITS,
    set_params: tuple[tuple[str, bytes], ...] = (),
    drop_params: tuple[str, ...] = (),
) -> Rung:
    """The rung of `provider/model`; a provider without keys has one target, which sends none."""
    said = provider.models.get(model, _NOTHING)
    known = facts(provider.vendor.name, model) or _UNKNOWN
    name = f"{provider.name}/{model}"
    bound = said.concurrency or provider.concurrency
    limits = timeouts.over(said.timeouts).over(provider.timeouts)
    return Rung(
        tuple(
            Target(
                key=f"{name}#{credential}",
                name=name,
                provider=provider.name,
                model=said.deployment or model,
                credential=credential,
                account=provider.accounts[credential] if provider.accounts else "",
                window=known.window if said.window is None else said.window,
                lacks=(known.lacks | said.lacks) - said.has,
                always_thinks=known.always_thinks if said.always_thinks is None else said.always_thinks,
                is_slow=known.is_slow if said.is_slow is None else said.is_slow,
                prefill=provider.vendor.prefill if said.prefill is None else said.prefill,
                assembles=provider.vendor.assembles and not model.startswith(provider.vendor.asked_whole),
                timeouts=limits,
                concurrency=bound if bound is not None and bound.most else None,
                price_in=known.price_in if said.price_in is None else said.price_in,
                price_out=known.price_out if said.price_out is None else said.price_out,
                embedding=embedding_of(model if said.embedding is None else said.embedding),
                is_embedding=known.is_embedding or said.embedding is not None,
                set_params=set_params,
                drop_params=drop_params,
            )
            for credential in range(max(1, len(provider.api_keys)))
        )
    )


def embedding_of(model: str) -> str:
    """An embedding model by its own name, whoever serves it: without the maker that some put in front."""
    return model.rpartition("/")[2].lower()


def stranger(chain: Sequence[Rung]) -> int | None:
    """The place of the first rung in a chain of embedding models whose vectors do not fit those of the rungs before it;
    None where all fit, or none is known to be one."""
    if not any(rung.targets[0].is_embedding for rung in chain):
        return None
    first = chain[0].targets[0].embedding
    return next((place for place, rung in enumerate(chain) if rung.targets[0].embedding != first), None)
