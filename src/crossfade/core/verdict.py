"""What one attempt amounted to."""

from __future__ import annotations

import msgspec

from crossfade.core.exchange import Completion, Usage
from crossfade.core.failure import Failure


class Accepted(msgspec.Struct):
    """A whole, valid answer. `usage` is the provider's count, where it gave one."""

    usage: Usage | None = None
    completion: Completion | None = None


class Rejected(msgspec.Struct):
    """No answer that may pass. `completion` is there where a soft failure may still be delivered as received."""

    failure: Failure
    usage: Usage | None = None


Verdict = Accepted | Rejected


class AttemptRecord:
    """One line of a walk: a call, or a skip (`number` 0). Times are seconds; `started_s` counts from the request's
    start. `mode` is fresh, retry, trial or continue. The prices are the target's, in USD per token."""

    __slots__ = (
        "dropped",
        "failure",
        "latency_s",
        "mode",
        "number",
        "price_in",
        "price_out",
        "request_id",
        "rung",
        "skip",
        "started_s",
        "status",
        "target",
        "time_to_first_chunk_s",
        "usage",
    )

    def __init__(
        self,
        number: int,
        target: str,
        rung: int,
        started_s: float,
        mode: str = "fresh",
        price_in: float | None = None,
        price_out: float | None = None,
        latency_s: float = 0.0,
        time_to_first_chunk_s: float | None = None,
        failure: Failure | None = None,
        skip: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        usage: Usage | None = None,
        dropped: tuple[str, ...] = (),
    ) -> None:
        self.number = number
        self.target = target
        self.rung = rung
        self.started_s = started_s
        self.mode = mode
        self.price_in = price_in
        self.price_out = price_out
        self.latency_s = latency_s
        self.time_to_first_chunk_s = time_to_first_chunk_s
        self.failure = failure
        self.skip = skip
        self.status = status
        self.request_id = request_id
        self.usage = usage
        self.dropped = dropped
