"""Which provider a model name means.

A name is `provider/model`, or the bare id of a model. For bare ids, providers rank: the vendor's own API that is
known to have the model, then any that is known to have it, then the vendor's own API by the look of the name.
What is known outranks what is guessed, so that adding a provider never takes a working name away from the
provider that has the model and gives it to one that has not.
"""

from __future__ import annotations

from collections.abc import Mapping

from crossfade.config.catalogue import Facts
from crossfade.config.settings import ProviderConfig

Providers = Mapping[str, ProviderConfig]


def split_name(name: str, providers: Providers) -> tuple[str, str] | None:
    """Provider and model of `provider/model`, split at the first slash; None where that is no provider."""
    provider, slash, model = name.partition("/")
    return (provider, model) if slash and model and provider in providers else None


def providers_of(model: str, providers: Providers, facts: Facts) -> tuple[str, ...]:
    """The providers that the bare id `model` can mean equally well, in the order of the file; none if unknown."""
    own = _owners(model, providers)
    known = tuple(name for name, provider in providers.items() if has_model(provider, model, facts))
    both = tuple(name for name in own if name in known)
    return both or known or own


def resolve_name(name: str, providers: Providers, facts: Facts) -> tuple[str, str] | None:
    """Provider and model for a name that a caller sends; None for an unknown one."""
    if (parts := split_name(name, providers)) is not None:
        # `openai/gpt-oss-120b` is also how some providers call one of their own models.
        if not has_model(providers[parts[0]], parts[1], facts):
            for provider in providers.values():
                if has_model(provider, name, facts):
                    return provider.name, name
        return parts
    found = providers_of(name, providers, facts)
    return (found[0], name) if found else None


def has_model(provider: ProviderConfig, model: str, facts: Facts) -> bool:
    """Whether the provider is known to have the model, by the file or the catalogue."""
    return model in provider.models or facts(provider.vendor.name, model) is not None


def _owners(model: str, providers: Providers) -> tuple[str, ...]:
    """The providers whose vendor names its own models so; the longest beginning decides."""
    lengths = {
        name: max((len(p) for p in provider.vendor.model_prefixes if model.startswith(p)), default=0)
        for name, provider in providers.items()
    }
    longest = max(lengths.values(), default=0)
    return tuple(name for name, length in lengths.items() if length == longest) if longest else ()
