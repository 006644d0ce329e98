"""Where attempts can go: targets, rungs, routes. What a vendor is, as a row of facts."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from crossfade.core.exchange import Ability
from crossfade.core.policy import MaxCost, RoutePolicy, TimeoutPolicy
from crossfade.core.residency import Requirement
from crossfade.core.when import When

Dialect = Literal["openai", "responses", "anthropic", "gemini", "bedrock", "cohere", "ollama"]


class StreamEnd(StrEnum):
    """What makes a stream of a vendor complete."""

    FINISH = "finish"  # a finish reason for every choice; then its marker or the end of the body
    MARKER = "marker"  # its end marker alone (some never send a finish reason)
    FINISH_AND_MARKER = "finish_and_marker"
    FINISH_OR_MARKER = "finish_or_marker"


class LimitHeaders(msgspec.Struct, frozen=True, kw_only=True):
    """The headers in which a vendor says what is left of one rate limit.

    `name` is what people see. `counts` is what the limit is of: requests, tokens, or tokens of output alone. `left`,
    `most` and `reset` name the headers; the latter two may be missing. `reset_in_ms`: a bare number there is
    milliseconds. `window` is for how many seconds the word holds where no reset is said.
    """

    name: str
    counts: Literal["requests", "tokens", "output"]
    left: str
    most: str = ""
    reset: str = ""
    reset_in_ms: bool = False
    window: float = 60.0


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of one vendor's API; the row for an unknown compatible server is named `compatible`.

    `env` are the environment variables that vendors and their SDKs read the key from. `assembles`: assembling a
    stream of it into a buffered answer loses nothing, but for models whose names begin as `asked_whole` says.
    `prefill`: an assistant turn at the end is gone on from; `marks_prefix`: if it is marked with `prefix: true`.
    `include_usage`: `stream_options.include_usage` is understood, and needed. `max_tokens_field`: its name for the
    limit of output tokens. `model_prefixes`: how the names of its own models begin, for bare model ids.
    `call_id_length`: ids of tool calls must be exactly so many letters and digits; None: any will do. `takes_top_k`:
    `top_k` is known to be understood.

    `hosts` are further hosts of its own, `*` standing for an account's part: of a row without `base_url` all that there
    are. `dated_versions`: it has APIs that want a version by date, which configuration names. That is then
    `api_version`, which goes with every request as `?api-version=`; `model_in_path`: the model is the name of a
    deployment, and stands in the path, `/deployments/NAME/chat/completions`.

    `limits`: the headers of its answers that say what is left of its rate limits; none where it has no such headers.

    `via`: the API of a cloud that carries the dialect's bodies, in place of the vendor's own. `aws_region`: where
    requests to AWS are signed for, if the host does not say it.
    """

    name: str
    dialect: Dialect
    base_url: str
    env: tuple[str, ...] = ()
    auth: Literal["bearer", "x-api-key", "x-goog-api-key", "api-key", "none"] = "bearer"
    stream_end: StreamEnd = StreamEnd.FINISH
    assembles: bool = False
    prefill: bool = False
    include_usage: bool = True
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = "max_tokens"
    model_prefixes: tuple[str, ...] = ()
    keep_idle: float = 4.0
    completion_excludes_reasoning: bool = False
    call_id_length: int | None = None
    takes_top_k: bool = False
    asked_whole: tuple[str, ...] = ()
    marks_prefix: bool = False
    embeddings_path: str = "/embeddings"
    hosts: tuple[str, ...] = ()
    dated_versions: bool = False
    api_version: str = ""
    model_in_path: bool = False
    via: Literal["", "invoke_model"] = ""
    aws_region: str = ""
    limits: tuple[LimitHeaders, ...] = ()


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Provider, model and credential: one place an attempt can go.

    `account` names the account of its key; keys of one share its limits. Without a name each key is its own.
    `key` names it uniquely (`openai/gpt-5.4#0`: provider, model, number of the key), `name` is what people see
    (`openai/gpt-5.4`). `model` is what the provider is asked for: the model of the name, or its deployment.
    Abilities in `lacks` are known to be missing; all others are taken to be there.
    `window` is the most input tokens, None if unknown. `prices` are USD per input and output token.
    `embedding` names the embedding model that it is, if it is one: vectors of equal names can be mixed, and no others.
    `is_embedding`: it is known to be one.
    """

    key: str
    name: str
    provider: str
    model: str
    credential: int = 0
    account: str = ""
    window: int | None = None
    lacks: frozenset[Ability] = frozenset()
    always_thinks: bool = False
    is_slow: bool = False
    prefill: bool = False
    assembles: bool = False
    timeouts: TimeoutPolicy = TimeoutPolicy()
    price_in: float | None = None
    price_out: float | None = None
    embedding: str = ""
    is_embedding: bool = False
    set_params: tuple[tuple[str, bytes], ...] = ()
    """Top-level parameters (JSON text) this target gets instead of the caller's."""
    drop_params: tuple[str, ...] = ()


class Rung(msgspec.Struct, frozen=True):
    """One place in a chain: the same provider and model under each of its credentials."""

    targets: tuple[Target, ...]

    @property
    def name(self) -> str:
        return self.targets[0].name


PoolPolicy = Literal[
    "priority", "weighted", "round_robin", "least_requests", "fastest", "cheapest", "headroom", "sticky"
]


class Member(msgspec.Struct, frozen=True):
    """What stands in a pool, and its weight there; 0: it is asked only after all others."""

    link: Link
    weight: float = 1.0


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """Targets that share the requests: `policy` says which of them is asked first; the others are its fallbacks, before
    whatever the chain has behind the pool. `name` is its place in the configuration."""

    name: str
    policy: PoolPolicy
    members: tuple[Member, ...]


Link = Rung | Pool
"""What a chain is made of."""


def rungs_of(link: Link) -> tuple[Rung, ...]:
    """All rungs of a part of a chain, in the order in which they are written."""
    if isinstance(link, Rung):
        return (link,)
    return tuple([rung for member in link.members for rung in rungs_of(member.link)])


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """The chain that requests take for which `when` holds; `chain` and `links` are as those of a route."""

    name: str
    when: When
    chain: tuple[Rung, ...]
    links: tuple[Link, ...] = ()


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A named chain with its policies. `match`: names that applications send, `*` as a wildcard.
    `allow`: patterns of targets that callers' `fallback_models` may name; None: those of any route.
    `links` is the chain with its pools, and empty where it has none; `chain` has every rung of it as written.
    `rules`: the first that holds for a request puts its own chain in the place of these. `require`: what the provider
    of every target has to meet. `max_cost` bounds what a call may cost. The primary is the first target as written;
    `primary` names it where a rule has put another chain in its place."""

    name: str
    chain: tuple[Rung, ...]
    links: tuple[Link, ...] = ()
    policy: RoutePolicy = RoutePolicy()
    match: tuple[str, ...] = ()
    allow: tuple[str, ...] | None = None
    trace: bool = False
    rules: tuple[Rule, ...] = ()
    require: Requirement = Requirement()
    max_cost: MaxCost | None = None
    primary: Target | None = None

    def first(self) -> Target:
        """The primary."""
        return self.chain[0].targets[0] if self.primary is None else self.primary

    def by(self, rule: Rule) -> Route:
        """The route as it is for requests that `rule` holds for."""
        return msgspec.structs.replace(self, chain=rule.chain, links=rule.links, rules=(), primary=self.first())

    def every_rung(self) -> tuple[Rung, ...]:
        """The rungs of the chain, and of those of the rules."""
        if not self.rules:
            return self.chain
        return (*self.chain, *[rung for rule in self.rules for rung in rule.chain])

    def every_link(self) -> tuple[Link, ...]:
        """All chains that have pools, with them."""
        return (*self.links, *[link for rule in self.rules for link in rule.links])


class Skip(msgspec.Struct, frozen=True):
    """A rung passed over for good: it lacks an ability, or its window is too small."""

    rung: Rung
    position: int
    why: str


class Plan(msgspec.Struct, frozen=True):
    """The rungs to try in order, and those that never will be for this request."""

    rungs: tuple[Rung, ...]
    skips: tuple[Skip, ...] = ()
