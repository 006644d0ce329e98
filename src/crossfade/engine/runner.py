"""Performs the steps of one request's dispatch, and passes on what the winning attempt lets out.

There is no task and no timer per request: facts arrive by callbacks and end in `_advance`, and a worker-wide ticker
looks after limits. Everything is decided in core; here it is only done, and written into the record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from time import perf_counter

import msgspec

from crossfade.core.dispatch import Dispatch
from crossfade.core.errors import InvalidRequest
from crossfade.core.events import (
    BreakerMoved,
    FallbackTriggered,
    RungDefective,
    StreamCommitted,
    TargetEjected,
    TargetReturned,
)
from crossfade.core.exchange import RequestFacts
from crossfade.core.failure import Failure, FailureReason, Origin
from crossfade.core.health import BreakerChanged, Change, Ejected
from crossfade.core.policy import RoutePolicy
from crossfade.core.steps import Defect, Deliver, Fallback, GiveUp, Pending, Send, Wait
from crossfade.core.stream import Check, StreamCollector, StreamGate
from crossfade.core.verdict import Rejected, Verdict
from crossfade.engine.engine import Engine
from crossfade.engine.ports import CallerDialect, Downstream, EventWriter
from crossfade.engine.record import Outcome, joined_usage, request_row, trace_member
from crossfade.engine.relay import MAX_BODY, Gate, Relay
from crossfade.providers.base import Inbound
from crossfade.transport.base import UpstreamRequest

_NEVER = float("inf")
_NOTHING: Mapping[int, int] = {}
_JSON = ("content-type", "application/json")
_EVENT_STREAM = ("content-type", "text/event-stream; charset=utf-8")
_NO_CACHE = ("cache-control", "no-cache")
_NO_RETRY = ("x-should-retry", "false")
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id", "x-goog-request-id", "mistral-correlation-id")


class Job(msgspec.Struct, kw_only=True):
    """One request, as the edge hands it over. `received_at` is by `time.perf_counter()`."""

    id: str
    route: str
    model: str
    endpoint: str
    key: str | None
    inbound: Inbound
    dialect: CallerDialect
    policy: RoutePolicy
    check: Check
    received_at: float
    wants_trace: bool = False
    tags: tuple[str, ...] = ()


class Runner:
    """One request under way. Made, it has begun; `on_gone` and `on_pressure` come from the caller's connection."""

    __slots__ = (
        "_advancing",
        "_again",
        "_is_pressed",
        "_is_started",
        "_last_write",
        "_relays",
        "_upstreams",
        "_wait_until",
        "_winner",
        "_writer",
        "bytes_out",
        "dispatch",
        "downstream",
        "due",
        "engine",
        "facts",
        "first_out_at",
        "is_done",
        "job",
        "policy",
    )

    def __init__(self, engine: Engine, job: Job, dispatch: Dispatch, downstream: Downstream):
        self.engine = engine
        self.job = job
        self.dispatch = dispatch
        self.downstream = downstream
        self.facts: RequestFacts = job.inbound.facts
        self.policy = job.policy
        self.due = _NEVER
        self.is_done = False
        self.bytes_out = 0
        self.first_out_at: float | None = None
        self._relays: dict[int, Relay] = {}
        self._upstreams = engine.upstreams  # a reload is for requests that begin after it
        self._winner: Relay | None = None
        self._writer: EventWriter | None = None
        self._is_started = False  # the head of a streamed answer is sent
        self._is_pressed = False
        self._advancing = False
        self._again = False
        self._wait_until = _NEVER
        self._last_write = job.received_at
        if self.facts.stream:
            self.wake_by(job.received_at + self.policy.stream.keep_alive)
        engine.watch(self)
        self._advance(perf_counter())

    def __repr__(self) -> str:
        state = "done" if self.is_done else "started" if self._is_started else "under way"
        return f"<Runner {self.job.id} {state} relays={len(self._relays)}>"

    @property
    def held(self) -> int:
        """Bytes of answers that this request holds back, or has not yet got rid of."""
        return sum([relay.held for relay in self._relays.values()]) + self.downstream.unsent

    # --- steps -----------------------------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        """Performs steps until there is nothing to do but wait."""
        if self._advancing:
            self._again = True  # a fact came while a step was being performed
            return
        self._advancing = True
        try:
            while not self.is_done:
                self._again = False
                step = self.dispatch.next_step(now)
                self._tell()
                if not self._perform(step, now) and not self._again:
                    return
                now = perf_counter()
        finally:
            self._advancing = False

    def _perform(self, step: Send | Wait | Pending | Deliver | GiveUp, now: float) -> bool:
        """Does one step; False if there is nothing more to do for now."""
        self._wait_until = _NEVER
        if isinstance(step, Send):
            self._send(step, now)
            return True
        if isinstance(step, Deliver):
            self._deliver(step, now)
        elif isinstance(step, GiveUp):
            self._give_up(step, now)
        elif step.until is not None:
            self._wait_until = step.until
            self.wake_by(step.until)
        return False

    def _send(self, step: Send, now: float) -> None:
        upstream = self._upstreams.of(step.target)
        gate = self._gate(step, upstream.provider.dialect) if step.stream else None
        relay = Relay(self, step, upstream, gate, now)
        self._relays[step.attempt] = relay
        try:
            asked = upstream.provider.request(
                self.job.inbound,
                step.target,
                upstream.secret,
                stream=step.stream,
                continuation=step.continuation,
            )
        except InvalidRequest as error:
            relay.abort()
            self.on_verdict(relay, Rejected(failure=_inexpressible(error)), now)
            return
        if asked.dropped:
            self.dispatch.on_dropped(step.attempt, asked.dropped)
        request = UpstreamRequest(
            endpoint=upstream.endpoint,
            path=upstream.base_path + asked.path,
            headers=asked.headers,
            body=asked.body,
            connect_timeout=step.limits.connect,
            target=step.target.name,
        )
        relay.call = self.engine.transport.send(request, relay)
        if relay.is_closed:
            relay.call.abort()
        elif not relay.is_over:
            self.wake_by(relay.due(now))

    def _gate(self, step: Send, dialect: str) -> Gate:
        if not self.facts.stream:
            return StreamCollector(self.job.check, MAX_BODY)
        if self._writer is None:
            self._writer = self.job.dialect.writer(self.facts, self.job.id)
        passes = dialect == self.job.dialect.name and step.join is None
        return StreamGate(
            self.facts,
            self.policy.stream,
            self.dispatch.transcript,
            self._writer.leg(passes),
            self.job.check,
            self.job.received_at,
            step.continuation,
            step.join,
            self._writer.leg(False),
            passes=passes,
        )

    # --- facts from relays -----------------------------------------------------------------------------------

    def on_content(self, relay: Relay, now: float) -> None:
        self.dispatch.on_content(relay.send.attempt, now)

    def on_commit(self, relay: Relay, now: float) -> bool:
        """The first bytes of an attempt want to leave. False, and the attempt is ended, if another one has won."""
        if not self.dispatch.on_commit(relay.send.attempt, now):
            relay.abort()
            return False
        self._winner = relay
        self._end_others(relay)
        if not self._is_started:
            self._start(self._headers(now))
        if relay.send.join is None:
            self.engine.recorder.record(
                StreamCommitted(
                    id=self.job.id,
                    at=time.time(),
                    route=self.job.route,
                    target=relay.send.target.name,
                    attempts=self.dispatch.calls,
                )
            )
        if self._is_pressed:
            relay.pause(now)
        return True

    def on_verdict(self, relay: Relay, verdict: Verdict, now: float) -> None:
        number = relay.send.attempt
        if relay.head is not None:
            self.dispatch.on_head(number, relay.head.status, _request_id(relay.head.headers))
        if self._winner is relay:
            self._winner = None
        self.dispatch.on_verdict(number, verdict, now)
        self._advance(now)

    # --- facts from the caller's connection, and time --------------------------------------------------------

    def on_gone(self) -> None:
        """The caller has gone: every upstream call is ended."""
        if self.is_done:
            return
        now = perf_counter()
        silent = {n: relay.silent_for(now) for n, relay in self._relays.items() if not relay.is_over}
        self.dispatch.on_cancel(now, silent)
        self._tell()
        self._record(Outcome(status=499, error=FailureReason.CANCELLED), now)
        self._finish()

    def on_fault(self, now: float) -> None:
        """Something of ours failed, so that no step can be relied on: the request ends with what can still be said."""
        if self.is_done:
            return
        self.dispatch.on_cancel(now, {})
        step = GiveUp(
            status=500, code=FailureReason.INTERNAL_ERROR, message="The gateway failed to handle this request."
        )
        try:
            self._give_up(step, now)
        except Exception as error:  # then nothing can be said
            self.engine.report(error)
            self._finish()

    def on_pressure(self, is_pressed: bool) -> None:
        """The caller reads slower than the upstream writes, or no longer does. Only a committed stream is held."""
        self._is_pressed = is_pressed
        if self._winner is not None:
            if is_pressed:
                self._winner.pause(perf_counter())
            else:
                self._winner.resume(perf_counter())
                self.wake_by(self._winner.due(perf_counter()))

    def wake_by(self, at: float) -> None:
        """Has `on_tick` called at `at` or before."""
        if at < self.due:
            self.due = at

    def on_tick(self, now: float) -> None:
        """Looks after every limit of the request; called when `due` has come."""
        for relay in [r for r in self._relays.values() if not r.is_over]:
            relay.on_tick(now)
        if self.is_done:
            return
        if now >= self._wait_until:
            self._advance(now)
        if self.is_done:
            return
        if self.facts.stream and now - self._last_write >= self.policy.stream.keep_alive:
            self._keep_alive(now)
        self.due = self._next_due(now)

    def _next_due(self, now: float) -> float:
        due = self._wait_until
        if self.facts.stream:
            due = min(due, self._last_write + self.policy.stream.keep_alive)
        for relay in self._relays.values():
            if not relay.is_over:
                due = min(due, relay.due(now))
        return due

    def _keep_alive(self, now: float) -> None:
        if not self._is_started:
            self._start(self._headers(now))
        self._last_write = now
        self.downstream.write(self.job.dialect.keep_alive)

    # --- answering -------------------------------------------------------------------------------------------

    def write(self, relay: Relay, out: bytes, now: float) -> None:
        """Sends bytes of the answer."""
        if relay.send.join is not None:
            out = self._announced(relay, out)
        self.bytes_out += len(out)
        self._last_write = now
        if self.first_out_at is None:
            self.first_out_at = now
        self.downstream.write(out)

    def _announced(self, relay: Relay, out: bytes) -> bytes:
        """Before the first bytes of a joined stream, a comment that names the target they come from."""
        join = relay.send.join
        if join is None or relay.is_announced or not out:
            return out
        relay.is_announced = True
        return self.job.dialect.comment(f"continued by {join.target} after {join.reason} of {join.source}") + out

    def _start(self, headers: list[tuple[str, str]]) -> None:
        self._is_started = True
        self.downstream.start(200, [_EVENT_STREAM, _NO_CACHE, *headers])

    def _deliver(self, step: Deliver, now: float) -> None:
        relay = self._relays[step.attempt]
        if self.facts.stream:
            self._deliver_stream(relay, step.flagged, now)
        else:
            self._deliver_whole(relay, step.flagged, now)

    def _deliver_stream(self, relay: Relay, flagged: FailureReason | None, now: float) -> None:
        """What was held leaves with the end, once the record is with the kernel."""
        assert isinstance(relay.gate, StreamGate)
        assert self._writer is not None
        if not self._is_started:
            self._start(self._headers(now, relay, flagged))
        tail = self._announced(relay, relay.gate.release())
        transcript = self.dispatch.transcript
        usage = joined_usage(transcript, relay.gate.usage, relay.gate.repeated)
        tail += self._writer.end(usage if transcript.joins else None, trace_member(self.dispatch, self.job.wants_trace))
        self.bytes_out += len(tail)
        if self.first_out_at is None:
            self.first_out_at = now
        outcome = Outcome(
            status=200, attempt=relay.send.attempt, served=relay.send.target.name, flagged=flagged, usage=usage
        )
        downstream = self.downstream
        self._record(outcome, now, lambda: downstream.finish(tail))
        self._finish()

    def _deliver_whole(self, relay: Relay, flagged: FailureReason | None, now: float) -> None:
        completion = relay.whole()
        dialect = self.job.dialect
        is_same = relay.upstream.provider.dialect == dialect.name and relay.body
        body = relay.body if is_same else dialect.completion(completion, self.job.id)
        member = trace_member(self.dispatch, True) if self.job.wants_trace else None
        if member is not None:
            body = dialect.with_member(body, member)
        headers = [_JSON, *self._headers(now, relay, flagged)]
        self.bytes_out = len(body)
        self.first_out_at = now
        outcome = Outcome(
            status=200,
            attempt=relay.send.attempt,
            served=relay.send.target.name,
            flagged=flagged,
            usage=completion.usage,
        )
        downstream = self.downstream
        self._record(outcome, now, lambda: downstream.respond(200, headers, body))
        self._finish()

    def _give_up(self, step: GiveUp, now: float) -> None:
        dialect = self.job.dialect
        downstream = self.downstream
        if self._is_started:
            data = dialect.error_event(step.status, step.code, step.message)
            outcome = Outcome(status=200, error=step.code, in_band_error=True)
            self._record(outcome, now, lambda: downstream.finish(data))
        else:
            member = trace_member(self.dispatch, True) if self.job.wants_trace else None
            body = dialect.error(step.status, step.code, step.message, member)
            headers = [_JSON, _NO_RETRY, *self._headers(now)]
            if step.retry_after is not None:
                headers.append(("retry-after", str(max(1, round(step.retry_after)))))
            outcome = Outcome(status=step.status, error=step.code)
            self._record(outcome, now, lambda: downstream.respond(step.status, headers, body))
        self._finish()

    def _headers(
        self, now: float, relay: Relay | None = None, flagged: FailureReason | None = None
    ) -> list[tuple[str, str]]:
        """Our headers of the answer; of a stream, as far as they are known when it starts."""
        relay = relay or self._winner
        dispatch, job = self.dispatch, self.job
        headers = [
            ("x-request-id", job.id),
            ("x-crossfade-route", job.route),
            ("x-crossfade-attempts", str(dispatch.calls)),
            ("x-crossfade-fallbacks", str(dispatch.fallbacks)),
            ("x-crossfade-overhead-ms", "%.2f" % (self._overhead(now) * 1000)),
        ]
        if relay is not None:
            target = relay.send.target
            headers += (("x-crossfade-provider", target.provider), ("x-crossfade-model", target.model))
        if dispatch.last_reason is not None:
            headers.append(("x-crossfade-fallback-reason", dispatch.last_reason))
        if flagged is not None:
            headers.append(("x-crossfade-flagged", flagged))
        return headers

    def _overhead(self, now: float) -> float:
        """Seconds that passed while no upstream was being waited for."""
        waited = 0.0
        for record in self.dispatch.records:
            waited += record.latency_s
        if self._winner is not None:
            waited += now - self._winner.timers.started_at
        return max(0.0, now - self.job.received_at - waited)

    # --- the end ---------------------------------------------------------------------------------------------

    def _end_others(self, winner: Relay) -> None:
        for relay in self._relays.values():
            if relay is not winner and not relay.is_over:
                relay.abort()

    def _finish(self) -> None:
        self.is_done = True
        self.engine.forget(self)
        for relay in self._relays.values():
            if not relay.is_over:
                relay.abort()
        self._relays.clear()
        self._winner = None

    def _record(self, outcome: Outcome, now: float, then: Callable[[], None] | None = None) -> None:
        job = self.job
        row = request_row(
            id=job.id,
            route=job.route,
            model=job.model,
            endpoint=job.endpoint,
            key=job.key,
            stream=self.facts.stream,
            tags=job.tags,
            dispatch=self.dispatch,
            outcome=outcome,
            received_at=job.received_at,
            first_out_at=self.first_out_at,
            bytes_out=self.bytes_out,
            delivered={n: relay.delivered_chars for n, relay in self._relays.items()}
            if self.facts.stream
            else _NOTHING,
            now=now,
        )
        self.engine.recorder.record(row, then)

    def _tell(self) -> None:
        """Passes on what dispatch and health have to tell."""
        dispatch = self.dispatch
        if dispatch.notices:
            for notice in dispatch.notices:
                self._tell_notice(notice)
            dispatch.notices.clear()
        if dispatch.changes:
            for change in dispatch.changes:
                self._tell_change(change)
            dispatch.changes.clear()

    def _tell_notice(self, notice: Fallback | Defect) -> None:
        job, now = self.job, time.time()
        if isinstance(notice, Fallback):
            self.engine.recorder.tell(
                FallbackTriggered(
                    id=job.id,
                    at=now,
                    route=job.route,
                    source=notice.source,
                    target=notice.target,
                    reason=notice.reason,
                    after_s=round(perf_counter() - job.received_at, 4),
                    mode=notice.mode,
                )
            )
            return
        failure = notice.failure
        self.engine.recorder.tell(
            RungDefective(
                id=job.id,
                at=now,
                route=job.route,
                target=notice.target,
                reason=failure.reason,
                status=failure.status,
                code=failure.code,
            )
        )

    def _tell_change(self, change: Change) -> None:
        now = perf_counter()
        if isinstance(change, BreakerChanged):
            left = None if change.until is None else round(change.until - now, 1)
            event = BreakerMoved(
                at=time.time(), target=change.target, before=change.before, state=change.after, until_s=left
            )
            self.engine.recorder.tell(event)
        elif isinstance(change, Ejected):
            ejected = TargetEjected(
                at=time.time(),
                target=change.target,
                reason=change.reason,
                for_s=round(change.until - now, 1),
                scope=change.scope,
            )
            self.engine.recorder.tell(ejected)
        else:
            self.engine.recorder.tell(
                TargetReturned(at=time.time(), target=change.target, reason=change.reason, scope=change.scope)
            )


def _request_id(headers: Mapping[str, str]) -> str | None:
    for name in _REQUEST_ID_HEADERS:
        if (value := headers.get(name)) is not None:
            return value[:128]
    return None


def _inexpressible(error: InvalidRequest) -> Failure:
    """The target's dialect cannot say what the caller asked for: that rung's defect, known before any call."""
    what = f"cannot be asked for {error.param}" if error.param else "cannot be asked for this"
    return Failure(
        reason=FailureReason.INVALID_REQUEST, origin=Origin.LOCAL, status=400, detail=what, message=error.message
    )
