"""What is written down of a request when it is over, and what of it the caller is told."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from crossfade.core.dispatch import Dispatch
from crossfade.core.events import AttemptRow, RequestEnded
from crossfade.core.exchange import Usage
from crossfade.core.policy import RoutePolicy
from crossfade.core.stream import Check, Transcript
from crossfade.core.target import Target
from crossfade.core.walk import AttemptRecord
from crossfade.engine.ports import CallerDialect
from crossfade.providers.base import Inbound

_encode: Final = msgspec.json.Encoder().encode


class Job:
    """One request, as the edge hands it over. `received_at` is by `time.perf_counter()`. `primary` is the route's, and
    `rule` the one by which the request has another chain than the route's own."""

    __slots__ = (
        "check",
        "dialect",
        "endpoint",
        "id",
        "inbound",
        "key",
        "model",
        "policy",
        "primary",
        "project",
        "received_at",
        "route",
        "rule",
        "tags",
        "wants_trace",
    )

    def __init__(
        self,
        id: str,  # noqa: A002 - the row's own name
        route: str,
        model: str,
        endpoint: str,
        key: str | None,
        inbound: Inbound,
        dialect: CallerDialect,
        policy: RoutePolicy,
        check: Check,
        received_at: float,
        wants_trace: bool = False,
        tags: tuple[str, ...] = (),
        primary: Target | None = None,
        rule: str | None = None,
        project: str | None = None,
    ) -> None:
        self.id = id
        self.route = route
        self.model = model
        self.endpoint = endpoint
        self.key = key
        self.inbound = inbound
        self.dialect = dialect
        self.policy = policy
        self.check = check
        self.received_at = received_at
        self.wants_trace = wants_trace
        self.tags = tags
        self.primary = primary
        self.rule = rule
        self.project = project


class Outcome:
    """What the caller got. `status` 499: it had gone. `attempt` is the one whose answer was delivered, whole, by the
    target `served`."""

    __slots__ = (
        "attempt",
        "error",
        "flagged",
        "in_band_error",
        "served",
        "status",
        "usage",
    )

    def __init__(
        self,
        status: int,
        attempt: int | None = None,
        served: str | None = None,
        error: str | None = None,
        flagged: str | None = None,
        in_band_error: bool = False,
        usage: Usage | None = None,
    ) -> None:
        self.status = status
        self.attempt = attempt
        self.served = served
        self.error = error
        self.flagged = flagged
        self.in_band_error = in_band_error
        self.usage = usage


def request_row(
    job: Job,
    dispatch: Dispatch,
    outcome: Outcome,
    first_out_at: float | None,
    bytes_out: int,
    delivered: Mapping[int, int],
    now: float,
) -> RequestEnded:
    """The row of one request with its attempts. `delivered` is the text in characters that left of each, by number."""
    records = dispatch.records
    usage, received_at = outcome.usage, job.received_at
    if len(records) == 1 and outcome.attempt is not None:
        row = _attempt_row(records[0], delivered.get(1, 0))
        rows: tuple[AttemptRow, ...] = (row,)
        lost, cost_usd, wasted_usd = 0.0, row.cost_usd, None
    else:
        rows = tuple([_attempt_row(record, delivered.get(record.number, 0)) for record in records])
        lost, cost_usd, wasted_usd = _sums(rows, outcome.attempt)
    primary = _other_primary(job, outcome.served)
    # By position: so many names cost more to pass than all else here.
    return RequestEnded(
        job.id,
        time.time(),
        job.route,
        job.model,
        job.endpoint,
        job.key,
        job.inbound.facts.stream,
        outcome.status,
        outcome.served,
        int((now - received_at) * 1e6) / 1e6,  # to the microsecond; `round` takes three times as long
        None if first_out_at is None else int((first_out_at - received_at) * 1e6) / 1e6,
        lost,
        dispatch.fallbacks,
        rows,
        bytes_out,
        outcome.error,
        outcome.flagged,
        len(dispatch.joins),
        outcome.in_band_error,
        None if usage is None else usage.prompt,
        None if usage is None else usage.completion,
        cost_usd,
        None if primary is None or usage is None else _usd(usage, primary.price_in, primary.price_out),
        wasted_usd,
        job.tags,
        job.rule,
        None if primary is None else primary.name,
        job.project,
    )


def _sums(rows: Sequence[AttemptRow], answered: int | None) -> tuple[float, float | None, float | None]:
    """Time lost before the attempt that `answered`, what that one cost, and what the others did. An answer may be
    delivered in spite of its failure: cut at the token limit, or with a soft failure."""
    lost = 0.0
    cost_usd: float | None = None
    wasted_usd: float | None = None
    for row in rows:
        usd = row.cost_usd
        if answered is not None and row.number == answered:
            lost, cost_usd = row.started_s, usd
        elif usd is not None:
            wasted_usd = usd if wasted_usd is None else wasted_usd + usd
    return lost, cost_usd, wasted_usd


def _attempt_row(record: AttemptRecord, delivered_chars: int) -> AttemptRow:
    failure, usage, first = record.failure, record.usage, record.time_to_first_chunk_s
    return AttemptRow(
        record.number,
        record.target,
        record.mode,
        None if failure is None else failure.reason,
        record.skip,
        record.status,
        None if failure is None else failure.code,
        record.request_id,
        int(record.started_s * 1e6) / 1e6,
        int(record.latency_s * 1e6) / 1e6,
        None if first is None else int(first * 1e6) / 1e6,
        None if usage is None else usage.prompt,
        None if usage is None else usage.completion,
        None if usage is None else _usd(usage, record.price_in, record.price_out),
        delivered_chars,
        "" if failure is None else failure.detail,
        record.dropped,
    )


def _usd(usage: Usage, price_in: float | None, price_out: float | None) -> float | None:
    """USD by prices for a token; None where they are unknown."""
    if price_in is None or price_out is None:
        return None
    return round(usage.prompt * price_in + usage.completion * price_out, 9)


def _other_primary(job: Job, served: str | None) -> Target | None:
    """The route's primary, where another target answered."""
    primary = job.primary
    return None if primary is None or served is None or primary.name == served else primary


def trace_member(
    job: Job, dispatch: Dispatch, wants_trace: bool, served: Target | None = None, usage: Usage | None = None
) -> bytes | None:
    """The `crossfade` member of an answer: its joins, always; with `trace`, one entry per attempt and skip, the rule,
    and what the answer of `served` cost, and would have at the primary."""
    joins = dispatch.joins
    if not joins and not wants_trace:
        return None
    member: dict[str, Any] = {}
    if joins:
        member["joined"] = joins
    if wants_trace:
        member["attempts"] = [_trace_entry(record) for record in dispatch.records]
        if job.rule is not None:
            member["rule"] = job.rule
        if cost := _trace_cost(job, served, usage):
            member["cost"] = cost
    return _encode(member)


def _trace_cost(job: Job, served: Target | None, usage: Usage | None) -> dict[str, Any]:
    if served is None or usage is None:
        return {}
    cost: dict[str, Any] = {"usd": _usd(usage, served.price_in, served.price_out)}
    if (primary := _other_primary(job, served.name)) is not None:
        cost["primary"] = primary.name
        cost["primary_usd"] = _usd(usage, primary.price_in, primary.price_out)
    return {name: value for name, value in cost.items() if value is not None}


def _trace_entry(record: AttemptRecord) -> dict[str, Any]:
    failure = record.failure
    entry: dict[str, Any] = {
        "target": record.target,
        "called": record.number > 0,
        "mode": record.mode,
        "reason": None if failure is None else failure.reason,
        "skipped": record.skip,
        "status": record.status,
        "request_id": record.request_id,
        "latency_s": round(record.latency_s, 4),
    }
    if record.dropped:
        entry["dropped"] = record.dropped
    if failure is not None and failure.detail:
        entry["detail"] = failure.detail
    return {name: value for name, value in entry.items() if value is not None}


def joined_usage(transcript: Transcript, usage: Usage | None, repeated: int) -> Usage | None:
    """What the caller has used of a joined answer: the prompt once, and all that was delivered.

    `usage` is the last target's count, and `repeated` are the characters of its answer that the caller had before.
    The streams that broke off never said what they used, so their part is estimated at four characters a token, and
    so is the delivered text that the last target was shown again, which is taken off its count of the prompt.
    """
    if usage is None or not transcript.joins:
        return usage
    shown = transcript.joins[-1].at_chars // 4
    prompt = max(1, usage.prompt - shown)
    return Usage(
        prompt=prompt,
        completion=shown + max(0, usage.completion - repeated // 4),
        cached=min(usage.cached, prompt),
        reasoning=usage.reasoning,
    )
