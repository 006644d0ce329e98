"""What dispatch asks of the runner, and what it has to tell beside that."""

from __future__ import annotations

import msgspec

from crossfade.core.exchange import Continuation, JoinNote
from crossfade.core.failure import Failure, FailureReason
from crossfade.core.policy import AttemptLimits
from crossfade.core.slots import Ticket
from crossfade.core.target import Target


class Send(msgspec.Struct, frozen=True, gc=False):
    """Call `target` now. `stream`: ask it for a stream, whatever the caller asked for.

    `join` is there where this stream is to go on from one that was delivered in part and broke off; `continuation`
    is then what to ask for, None for a clean start since only reasoning was delivered. `until` is when to ask for a
    step beside this one, if no fact comes before.
    """

    attempt: int
    target: Target
    limits: AttemptLimits
    stream: bool
    mode: str = "fresh"
    until: float | None = None
    continuation: Continuation | None = None
    join: JoinNote | None = None


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Nothing to do until the time `until`."""

    until: float


class Queued(msgspec.Struct, frozen=True, gc=False):
    """No target has room: ask again once `ticket` is told that one has, or at `until`."""

    until: float
    ticket: Ticket


class Pending(msgspec.Struct, frozen=True, gc=False):
    """Attempts are under way; ask again after a fact, or at `until`."""

    until: float | None = None


class Deliver(msgspec.Struct, frozen=True, gc=False):
    """The answer of `attempt` is the answer. `flagged`: it has a soft failure that the route does not fall back on."""

    attempt: int
    flagged: FailureReason | None = None


class GiveUp(msgspec.Struct, frozen=True, kw_only=True):
    """There is no answer. `failure` is set where one upstream's own error is to be delivered as it was received."""

    status: int
    code: str
    message: str
    failure: Failure | None = None
    retry_after: float | None = None


Step = Send | Wait | Queued | Pending | Deliver | GiveUp


class Fallback(msgspec.Struct, frozen=True):
    """The walk goes on from `source` to `target`; `reason` is a failure's, or why a rung was skipped."""

    source: str
    target: str
    reason: str
    mode: str


class Defect(msgspec.Struct, frozen=True):
    """A later rung refused what an earlier one took."""

    target: str
    failure: Failure
