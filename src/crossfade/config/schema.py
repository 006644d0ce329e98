"""The shape of `crossfade.yaml`: every key, what it takes, its default and its meaning.

The one place that names the keys: reading, `crossfade schema` and the table in the docs all come from here.
What they mean together (is that provider there?) is decided in `build`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from crossfade.config.leaves import (
    ADDRESS,
    API_KEY,
    API_VERSION,
    BASE_URL,
    COMMIT,
    DURATION,
    EXPRESSION,
    FALLBACK_ON,
    HASH,
    HEDGE,
    HOLD,
    HOURS,
    LIMIT,
    MAX_COST,
    NUMBER,
    OUTPUT_KINDS,
    PARAMETERS,
    PRICE,
    RETENTION,
    SECRET,
    SHARE,
    SIZE,
    USD,
    WEIGHT,
    WORDS,
    Address,
)
from crossfade.config.secrets import ApiKey, SecretRef
from crossfade.config.shape import Block, Key, whole_number
from crossfade.core.failure import FailureReason
from crossfade.core.policy import CommitPolicy, HedgePolicy, MaxCost
from crossfade.core.when import OutputKind

Duration = Annotated[float, DURATION]
Limit = Annotated[float, LIMIT]
Size = Annotated[int, SIZE]
Count = Annotated[int, whole_number()]
ProviderKey = Annotated[ApiKey, API_KEY]


class ServerFile(Block, frozen=True, kw_only=True):
    """`server`: where and for whom crossfade listens."""

    listen: Annotated[
        Address | None, ADDRESS, Key("127.0.0.1:4000", "Where applications connect: `HOST:PORT`, IPv6 in brackets.")
    ] = None
    admin: Annotated[
        Address | None, ADDRESS, Key("127.0.0.1:4001", "Where the admin endpoints listen, apart from the data.")
    ] = None
    auth: Annotated[
        Literal["keys", "none"] | None,
        Key(
            "",
            "`keys`: applications need a gateway key. `none`: they need none. Not given: `keys` where a key is"
            " configured or the listener is not loopback (a key is then made and printed once), else `none`.",
        ),
    ] = None


class TimersFile(Block, frozen=True, kw_only=True):
    """The timers that providers, models, targets and routes have."""

    connect_timeout: Annotated[Limit | None, Key("5s", "Longest time to reach the provider: name, address, TLS.")] = (
        None
    )
    first_content_timeout: Annotated[
        Limit | None,
        Key(
            "12s",
            "Streamed upstream calls: longest time from sending to the first content. The default grows by 1 s per"
            " 10,000 estimated input tokens, and is 120 s where the model thinks, 600 s where it is `slow`.",
        ),
    ] = None
    silence_timeout: Annotated[
        Limit | None,
        Key(
            "20s",
            "Streamed upstream calls: longest time without any byte after the first."
            " By default 120 s where the model thinks, 600 s where it is `slow`.",
        ),
    ] = None
    idle_timeout: Annotated[
        Limit | None,
        Key("30s", "Streamed upstream calls: longest time without content. By default 120 s with tools or thinking."),
    ] = None
    attempt_timeout: Annotated[
        Limit | None, Key("300s", "Longest time of one attempt until its answer begins to go to the application.")
    ] = None


class ModelFile(TimersFile, frozen=True, kw_only=True):
    """`providers.NAME.models.NAME`: facts of one model."""

    window: Annotated[Count | None, Key("from the catalogue", "Most input tokens the model takes.")] = None
    vision: Annotated[bool | None, Key("from the catalogue", "Whether the model reads images.")] = None
    files: Annotated[bool | None, Key("from the catalogue", "Whether the model reads documents.")] = None
    audio: Annotated[bool | None, Key("from the catalogue", "Whether the model hears audio.")] = None
    tools: Annotated[bool | None, Key("from the catalogue", "Whether the model calls tools.")] = None
    json_schema: Annotated[bool | None, Key("from the catalogue", "Whether the model honours a JSON Schema.")] = None
    thinking: Annotated[
        bool | None, Key("from the catalogue", "Whether the model always thinks first; it is then given more time.")
    ] = None
    slow: Annotated[
        bool | None, Key("from the catalogue", "Whether the model may take minutes to begin (deep research).")
    ] = None
    price_in: Annotated[
        float | None, PRICE, Key("from the catalogue", "Price of input in USD per million tokens, for the record.")
    ] = None
    price_out: Annotated[
        float | None, PRICE, Key("from the catalogue", "Price of output in USD per million tokens, for the record.")
    ] = None
    prefill: Annotated[
        bool | None, Key("the provider's", "Whether the model goes on from an assistant turn at the end.")
    ] = None
    embedding: Annotated[
        str | None,
        Key(
            "the model's name",
            "Which embedding model this is, where its name here does not say so (an Azure deployment). Targets with the"
            " same one may stand in for each other.",
        ),
    ] = None
    deployment: Annotated[
        str | None,
        Key("the model's name", "What the provider is asked for, where it calls the model otherwise: a deployment."),
    ] = None


class ProviderFile(TimersFile, frozen=True, kw_only=True):
    """`providers.NAME`: one provider."""

    planned: ClassVar[Mapping[str, str]] = {
        "proxy": "a proxy of its own for a provider is",
        "headers": "headers of its own for a provider are",
        "limits": "rate limits for a provider are",
    }
    dialect: Annotated[
        Literal["openai", "responses", "anthropic", "gemini", "bedrock", "cohere", "ollama"] | None,
        Key("the vendor's", "The API that the provider speaks. `responses`: the other API of an `openai` vendor."),
    ] = None
    vendor: Annotated[
        str | None,
        Key(
            "found by the provider's name, else by the host of `base_url`, else `compatible`",
            "Whose row of facts (end of streams, parameters, key variables) holds for the provider.",
        ),
    ] = None
    base_url: Annotated[
        str | None, BASE_URL, Key("the vendor's", "Where the API is, with its version path (`https://host/v1`).")
    ] = None
    api_version: Annotated[
        str | None,
        API_VERSION,
        Key("", "Azure only: the version of its older API, which has deployments in the path, as in `2024-10-21`."),
    ] = None
    api_keys: Annotated[
        tuple[ProviderKey, ...] | None,
        Key(
            "the vendor's own variable, at the vendor's own host only",
            "References to keys: `env:VARIABLE` or `file:PATH`. Several share the load; `[]` sends none. As"
            " `{key: REFERENCE, account: NAME}`, all keys of one account share its limits.",
        ),
    ] = None
    network: Annotated[
        Literal["public", "private"],
        Key("public", "`private`: the name in `base_url` may lead to private addresses. Link-local never."),
    ] = "public"
    region: Annotated[str | None, Key("", "Where the provider is, for routes that require it: `eu`, `us-east-1`.")] = (
        None
    )
    retention: Annotated[
        float | None, RETENTION, Key("", "How long it keeps prompts, for routes that require it: `none`, `30d`.")
    ] = None
    tags: Annotated[tuple[str, ...], Key("", "Words of your own that routes may require.")] = ()
    prefill: Annotated[
        bool | None, Key("the vendor's", "Whether its models go on from an assistant turn at the end.")
    ] = None
    models: Annotated[
        dict[str, ModelFile], Key("", "Facts of single models that differ from the catalogue, or are not in it.")
    ] = {}


class TargetFile(TimersFile, frozen=True, kw_only=True):
    """An item of a chain: `provider/model` alone, or with settings of its own; or a pool of them."""

    shorthand: ClassVar[str | None] = "target"
    target: Annotated[str, Key("", "`provider/model`; the model alone where only one provider can be meant.")] = ""
    pool: Annotated[
        Literal["priority", "weighted", "round_robin", "least_requests", "fastest", "cheapest", "headroom", "sticky"]
        | None,
        Key("", "Instead of `target`: by what one of those under `of` is chosen for each request."),
    ] = None
    of: Annotated[
        tuple[TargetFile, ...], Key("", "The members of the pool: targets, or pools again, each with its `weight`.")
    ] = ()
    weight: Annotated[
        float | None,
        WEIGHT,
        Key("1", "In a pool: its share of the requests, beside those of the others. 0: only where no other can."),
    ] = None
    set: Annotated[
        tuple[tuple[str, bytes], ...], PARAMETERS, Key("", "Parameters that this target gets instead of the caller's.")
    ] = ()
    drop: Annotated[tuple[str, ...], Key("", "Parameters of the caller's that this target does not get.")] = ()


class RetryFile(Block, frozen=True, kw_only=True):
    """`routes.NAME.retry`."""

    max_wait: Annotated[
        Duration | None,
        Key("20s", "Longest `Retry-After` that is waited out, where no other target is left. 0: never wait."),
    ] = None
    delay: Annotated[
        Duration | None,
        Key("250ms", "Middle of the jittered delay before a single 5xx is tried again. 0: it is not."),
    ] = None
    max_attempts: Annotated[Count | None, Key("targets + 1, at most 5", "Most upstream calls for one request.")] = None
    budget: Annotated[
        float | None,
        SHARE,
        Key("20%", "Extra attempts, as a share of requests, while all targets of the route are failing."),
    ] = None


class ValidateFile(Block, frozen=True, kw_only=True):
    """`routes.NAME.validate`."""

    planned: ClassVar[Mapping[str, str]] = {"entry_point": "validators written in Python are"}
    min_chars: Annotated[Count | None, Key("", "Fewest characters of a good answer.")] = None
    finish: Annotated[
        tuple[Literal["stop", "length", "tool_calls", "content_filter"], ...] | None,
        Key("", "Finish reasons of a good answer, such as `[stop, tool_calls]`."),
    ] = None
    match: Annotated[str | None, EXPRESSION, Key("", "Regular expression (RE2) that a good answer has.")] = None
    not_match: Annotated[str | None, EXPRESSION, Key("", "Regular expression (RE2) that no good answer has.")] = None


class RequireFile(Block, frozen=True, kw_only=True):
    """`routes.NAME.require`."""

    region: Annotated[
        tuple[str, ...] | None,
        WORDS,
        Key("any", "Where providers have to be: `eu` takes `eu-west-1` as well. Of several one is enough."),
    ] = None
    retention: Annotated[
        float | None, RETENTION, Key("any", "How long they may keep prompts at most: `none`, or as in `30d`.")
    ] = None
    tags: Annotated[tuple[str, ...], Key("", "Tags that they all have to have.")] = ()


class RangeFile(Block, frozen=True, kw_only=True):
    """A range of numbers."""

    above: Annotated[float | None, NUMBER, Key("", "More than this.")] = None
    below: Annotated[float | None, NUMBER, Key("", "Less than this.")] = None


class WhenFile(Block, frozen=True, kw_only=True):
    """`routes.NAME.rules[].when`."""

    planned: ClassVar[Mapping[str, str]] = {"project": "projects are"}
    input_tokens: Annotated[RangeFile, Key("", "The estimate of the tokens of the input.")] = RangeFile()
    complexity: Annotated[RangeFile, Key("", "How hard the request seems, from 0 (simple) to 1 (hard).")] = RangeFile()
    tools: Annotated[bool | None, Key("", "Whether it has tools.")] = None
    images: Annotated[bool | None, Key("", "Whether it has pictures.")] = None
    files: Annotated[bool | None, Key("", "Whether it has documents.")] = None
    stream: Annotated[bool | None, Key("", "Whether a stream is asked for.")] = None
    response_format: Annotated[
        tuple[OutputKind, ...] | None,
        OUTPUT_KINDS,
        Key("", "`text`, `json_object` or `json_schema`; or a list of them."),
    ] = None
    model: Annotated[
        tuple[str, ...] | None,
        WORDS,
        Key("", "The model name that the application sent, or a list; `*` is a wildcard."),
    ] = None
    tags: Annotated[
        tuple[str, ...] | None, WORDS, Key("", "One of the request's tags, or a list; `*` is a wildcard.")
    ] = None
    key: Annotated[
        tuple[str, ...] | None, WORDS, Key("", "The name of its gateway key, or a list; `*` is a wildcard.")
    ] = None
    headers: Annotated[
        dict[str, str], Key("", "Headers that it must have, with what they say; `*` is a wildcard.")
    ] = {}
    hours: Annotated[
        tuple[int, int] | None, HOURS, Key("", "The time of day, as `22:00-06:00`; its end is not within.")
    ] = None
    zone: Annotated[str | None, Key("UTC", "The time zone of `hours`, as in `Europe/Berlin`.")] = None


class RuleFile(Block, frozen=True, kw_only=True):
    """An item of `routes.NAME.rules`."""

    name: Annotated[str | None, Key("its place, as `rules[0]`", "What the record calls the rule.")] = None
    when: Annotated[WhenFile, Key("", "Required. Conditions, all of which have to hold.")] = WhenFile()
    chain: Annotated[
        tuple[TargetFile, ...] | None, Key("", "Required. The chain of such requests, in the place of the route's own.")
    ] = None


class RouteFile(TimersFile, frozen=True, kw_only=True):
    """`routes.NAME`: a chain and its policies."""

    planned: ClassVar[Mapping[str, str]] = {
        "shadow": "shadow traffic is",
        "drill": "scheduled drills are",
        "record": "recording of prompts is",
        "limits": "limits per route are",
    }
    match: Annotated[
        tuple[str, ...], Key("", "Model names that applications send and this route serves; `*` is a wildcard.")
    ] = ()
    chain: Annotated[
        tuple[TargetFile, ...] | None,
        Key("", "Required. Targets and pools in order: the first is the primary, the others its fallbacks."),
    ] = None
    rules: Annotated[
        tuple[RuleFile, ...],
        Key("", "Other chains for some requests: the first rule that holds is taken, the route's chain if none does."),
    ] = ()
    require: Annotated[
        RequireFile, Key("", "What the provider of every target must meet, also of those that callers name.")
    ] = RequireFile()
    max_cost: Annotated[
        MaxCost | None,
        MAX_COST,
        Key(
            "no bound", "Targets whose call would cost more are skipped: `3x` what the primary would, or USD as `0.05`."
        ),
    ] = None
    fallback_on: Annotated[
        frozenset[FailureReason] | None, FALLBACK_ON, Key("[default]", "What sends a request to the next target.")
    ] = None
    timeout: Annotated[
        Limit | None, Key("600s", "Longest time of a whole request until its answer begins, all attempts included.")
    ] = None
    max_stream: Annotated[Limit | None, Key("1h", "Longest time of a stream after its answer began.")] = None
    commit: Annotated[
        CommitPolicy | None,
        COMMIT,
        Key(
            "first_content",
            "When an answer begins to go out: `first_content`, `{chars: N}`, `{seconds: T}`, `complete`.",
        ),
    ] = None
    hold: Annotated[
        tuple[bool, bool] | None,
        HOLD,
        Key("[tool_calls, json]", "What is held until it is whole, whatever `commit` says."),
    ] = None
    recover: Annotated[
        Literal["continue", "error"] | None,
        Key("continue", "After a stream broke off in mid-answer: `continue` at the next target, or end in an `error`."),
    ] = None
    validate: Annotated[
        ValidateFile, Key("", "What an answer must be like beyond being whole; otherwise the next target is asked.")
    ] = ValidateFile()
    stream_upstream: Annotated[
        Literal["auto", "true", "false"] | None,
        Key("auto", "Whether buffered requests are sent upstream as streams, so that silence is noticed in seconds."),
    ] = None
    retry: Annotated[RetryFile, Key("", "When the same target is asked again.")] = RetryFile()
    hedge_after: Annotated[
        HedgePolicy | None,
        HEDGE,
        Key(
            "no hedges",
            "When the next target is started beside one that has not begun to answer: a time, or `p95`, a percentile of"
            " the target's own times. `never`: callers cannot ask for it either.",
        ),
    ] = None
    repeatable: Annotated[
        bool, Key("true", "`false`: never two calls at once for one request, not even beside a target on trial.")
    ] = True
    allow: Annotated[
        tuple[str, ...] | None,
        Key("targets of any route", "Patterns (`provider/*`) of what callers may name in `fallback_models`."),
    ] = None
    trace: Annotated[bool, Key("false", "Whether every answer carries the list of its attempts.")] = False


class GatewayKeyFile(Block, frozen=True, kw_only=True):
    """An item of `gateway_keys`."""

    planned: ClassVar[Mapping[str, str]] = {
        "project": "projects are",
        "limits": "limits of gateway keys are",
        "models": "models of gateway keys are",
        "budget": "budgets of gateway keys are",
    }
    name: Annotated[str, Key("", "Required. What logs and events call the key.")] = ""
    hash: Annotated[str | None, HASH, Key("", "Its hash, from `crossfade keys new`. Either this or `key`.")] = None
    key: Annotated[SecretRef | None, SECRET, Key("", "A reference to the key itself, `env:` or `file:`.")] = None
    route: Annotated[
        str | None, Key("", "The route that serves every request with this key, whatever model it names.")
    ] = None


class JournalFile(Block, frozen=True, kw_only=True):
    """`journal`."""

    path: Annotated[str | None, Key("`journal` in `state_dir`", "Folder of the journal's files.")] = None
    fsync: Annotated[bool, Key("false", "Whether every write waits for the disk (power loss), at a cost in time.")] = (
        False
    )


class LogFile(Block, frozen=True, kw_only=True):
    """`log`."""

    format: Annotated[Literal["console", "json"], Key("console", "Lines for people, or JSON.")] = "console"
    level: Annotated[Literal["debug", "info", "warning", "error"], Key("info", "The least that is logged.")] = "info"


class LimitsFile(Block, frozen=True, kw_only=True):
    """`limits`: what one client may take."""

    head_bytes: Annotated[Size | None, Key("32KiB", "Request line and headers together.")] = None
    header_count: Annotated[Count | None, Key("100", "Headers of a request.")] = None
    body_bytes: Annotated[Size | None, Key("32MiB", "Body of a request.")] = None
    head_timeout: Annotated[Limit | None, Key("10s", "From the first byte of a request to the end of its head.")] = None
    body_timeout: Annotated[Limit | None, Key("20s", "Without any byte of a body.")] = None
    body_rate: Annotated[Size | None, Key("10KiB", "Bytes a second that a body must come with after that.")] = None
    idle_timeout: Annotated[Limit | None, Key("75s", "Between an answer and the next request.")] = None
    write_timeout: Annotated[Limit | None, Key("60s", "Without the application taking a byte of its answer.")] = None
    max_connections: Annotated[
        Count | None,
        Key("10000", "Connections of a listener; at most half of the files that the process may have open."),
    ] = None
    bodies_bytes: Annotated[
        Size | None, Key("512MiB", "All bodies that are being received together; what would be more is answered 503.")
    ] = None


class OverloadFile(Block, frozen=True, kw_only=True):
    """`overload`: what the gateway takes on at most."""

    max_requests: Annotated[
        Count | None, Key("5000", "Requests under way; more are answered 503 at once, with `retry-after`.")
    ] = None
    max_delay: Annotated[
        Duration | None,
        Key(
            "10ms",
            "How late its clock may run for a tenth of a second, before a share of new requests is answered 503. 0: no"
            " request is.",
        ),
    ] = None


class ProbesFile(Block, frozen=True, kw_only=True):
    """`probes`: what is found out beside traffic."""

    every: Annotated[
        Duration | None,
        Key("5s", "Between two free calls to a provider with an open breaker. 0: none are made."),
    ] = None
    idle: Annotated[
        Duration | None, Key("10m", "Without traffic for so long, a provider of a chain gets a free call. 0: never.")
    ] = None
    paid_usd: Annotated[
        float | None,
        USD,
        Key("0", "USD a day for tiny requests that take a caller's place on trial where silence opened a breaker."),
    ] = None


class FileShape(Block, frozen=True, kw_only=True):
    """The whole file."""

    planned: ClassVar[Mapping[str, str]] = {
        "rules": "rules outside of routes are",
        "projects": "projects are",
        "alerts": "alerts are",
        "store": "a database is",
        "bus": "several machines are",
        "vault": "the vault is",
        "metrics": "settings for metrics are",
        "tracing": "tracing is",
        "telemetry": "telemetry settings are",
        "drill": "scheduled drills are",
        "shadow": "shadow traffic is",
        "workers": "several workers are",
    }
    server: Annotated[ServerFile, Key("", "Where and for whom crossfade listens.")] = ServerFile()
    providers: Annotated[
        dict[str, ProviderFile], Key("", "Required. Where requests can go, by a name of your choice.")
    ] = {}
    routes: Annotated[dict[str, RouteFile], Key("", "Chains of targets, by the name that applications send.")] = {}
    fallbacks: Annotated[
        dict[str, tuple[TargetFile, ...]],
        Key("", "Chains behind model names that no route serves; the name `*` stands for all others."),
    ] = {}
    passthrough: Annotated[
        str | None,
        Key(
            "",
            "The provider that OpenAI's other endpoints (audio, images, files, moderations and the like) are passed to,"
            " as they are and without any fallback.",
        ),
    ] = None
    gateway_keys: Annotated[tuple[GatewayKeyFile, ...], Key("", "The keys that applications use.")] = ()
    state_dir: Annotated[
        str | None, Key("~/.local/state/crossfade", "Folder for what crossfade keeps: journal, made keys.")
    ] = None
    journal: Annotated[JournalFile, Key("", "The record of every request and attempt.")] = JournalFile()
    log: Annotated[LogFile, Key("", "What is printed.")] = LogFile()
    limits: Annotated[LimitsFile, Key("", "What one application may take of the server.")] = LimitsFile()
    overload: Annotated[OverloadFile, Key("", "What the gateway takes on at most.")] = OverloadFile()
    probes: Annotated[ProbesFile, Key("", "What is found out of providers beside traffic.")] = ProbesFile()
