"""What is told of a request and of health: frozen records for the journal, logs, metrics and alerts.

Nothing here may hold a prompt, an answer, a credential or a provider's own message.
Times named `at` are Unix seconds; everything else that leaves the process carries its unit.
"""

from __future__ import annotations

import msgspec


class AttemptRow(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One call or skip of a walk, as it is recorded. `number` is 0 for a skip, whose cause is `skip`."""

    number: int
    target: str
    mode: str = "fresh"
    reason: str | None = None
    skip: str | None = None
    status: int | None = None
    code: str | None = None
    upstream_request_id: str | None = None
    started_s: float = 0.0
    latency_s: float = 0.0
    time_to_first_chunk_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    delivered_chars: int = 0
    detail: str = ""
    dropped: tuple[str, ...] = ()


class RequestEnded(msgspec.Struct, frozen=True, tag="request", tag_field="event", omit_defaults=True, gc=False):
    """The end of a request. `status` is what the caller got (499: it left); `error` is the code of its envelope.

    `served` is the target that answered, None where none did. `time_lost_s` is what failed attempts and waits
    cost before the answer; `wasted_usd` what failed attempts cost; `primary_usd` what the route's `primary`
    would have, where another target answered. `rule` put another chain in the place of the route's own.
    """

    id: str
    at: float
    route: str
    model: str
    endpoint: str
    key: str | None
    stream: bool
    status: int
    served: str | None
    latency_s: float
    time_to_first_chunk_s: float | None
    time_lost_s: float
    fallbacks: int
    attempts: tuple[AttemptRow, ...]
    bytes_out: int = 0
    error: str | None = None
    flagged: str | None = None
    joined: int = 0
    in_band_error: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    primary_usd: float | None = None
    wasted_usd: float | None = None
    tags: tuple[str, ...] = ()
    rule: str | None = None
    primary: str | None = None
    project: str | None = None


class StreamCommitted(msgspec.Struct, frozen=True, kw_only=True, tag="commit", tag_field="event"):
    """A stream's first bytes are about to leave; its `RequestEnded` follows unless the process dies."""

    id: str
    at: float
    route: str
    target: str
    attempts: int


class FallbackTriggered(msgspec.Struct, frozen=True, tag="fallback", tag_field="event", gc=False):
    """The walk goes on to another target. `after_s` counts from the request's start."""

    id: str
    at: float
    route: str
    source: str
    target: str
    reason: str
    after_s: float
    mode: str = "fresh"


class BreakerMoved(msgspec.Struct, frozen=True, kw_only=True, tag="breaker", tag_field="event"):
    """A target's breaker changed state; an open one may be tried again in `until_s` seconds."""

    at: float
    target: str
    before: str
    state: str
    until_s: float | None = None


class TargetEjected(msgspec.Struct, frozen=True, kw_only=True, tag="ejected", tag_field="event"):
    """A target is left out for `for_s` seconds because of `reason`; with scope `credential` all of its key are, with
    `account` those of the keys of its account, of the same model if it is a rate limit."""

    at: float
    target: str
    reason: str
    for_s: float
    scope: str = "target"


class TargetReturned(msgspec.Struct, frozen=True, kw_only=True, tag="returned", tag_field="event"):
    """The first good answer of a target after an ejection."""

    at: float
    target: str
    reason: str
    scope: str = "target"


class RungDefective(msgspec.Struct, frozen=True, kw_only=True, tag="defect", tag_field="event"):
    """A later rung refused what an earlier one took: its own defect, to be mended before it is needed."""

    id: str
    at: float
    route: str
    target: str
    reason: str
    status: int | None = None
    code: str | None = None


class ProviderProbed(msgspec.Struct, frozen=True, kw_only=True, tag="probe", tag_field="event"):
    """A provider's free call has another outcome than before. `detail` says why it failed; `key` is the number of the
    provider's key."""

    at: float
    provider: str
    key: int
    is_well: bool
    detail: str = ""


class RequestsShed(msgspec.Struct, frozen=True, kw_only=True, tag="shed", tag_field="event"):
    """New requests were refused at once for want of `shortage` (requests, bytes, delay), `count` of them since the last
    such line; none of them has a row of its own."""

    at: float
    shortage: str
    count: int


Event = (
    RequestEnded
    | StreamCommitted
    | FallbackTriggered
    | BreakerMoved
    | TargetEjected
    | TargetReturned
    | RungDefective
    | ProviderProbed
    | RequestsShed
)
