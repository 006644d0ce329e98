"""Performs the steps of one request's dispatch, and passes on what the winning attempt lets out.

There is no task and no timer per request: facts arrive by callbacks and end in `_advance`, and a worker-wide ticker
looks after limits. Everything is decided in core; here it is only done, and written into the record.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from time import perf_counter
from typing import Final

from crossfade.core.dispatch import Dispatch
from crossfade.core.errors import InvalidRequest
from crossfade.core.events import StreamCommitted
from crossfade.core.exchange import RequestFacts
from crossfade.core.failure import Failure, FailureReason, Origin
from crossfade.core.steps import Deliver, GiveUp, Queued, Send
from crossfade.core.stream import StreamCollector, StreamGate
from crossfade.core.verdict import Rejected, Verdict
from crossfade.engine import headers
from crossfade.engine.engine import Engine
from crossfade.engine.notices import change_event, notice_event
from crossfade.engine.ports import EventWriter
from crossfade.engine.record import Job, Outcome, joined_usage, request_row, trace_member
from crossfade.engine.relay import MAX_BODY, Gate, Relay
from crossfade.engine.under_way import UnderWay
from crossfade.http1.downstream import Downstream
from crossfade.http1.head import Fields
from crossfade.providers.rate_limits import read_limits
from crossfade.transport.base import UpstreamRequest

_now: Final = perf_counter  # a constant: compiled code looks a global up each time
_NEVER: Final = float("inf")
_NOTHING: Final[Mapping[int, int]] = {}


class Answer:
    """The end of an answer, given once its line is on record. `fields` is None where the answer has begun."""

    __slots__ = (
        "body",
        "downstream",
        "fields",
        "status",
    )

    def __init__(
        self,
        downstream: Downstream,
        status: int,
        fields: Fields | None,
        body: bytes,
    ) -> None:
        self.downstream = downstream
        self.status = status
        self.fields = fields
        self.body = body

    def __call__(self) -> None:
        try:
            if self.fields is None:
                self.downstream.finish(self.body)
            else:
                self.downstream.respond(self.status, self.fields, self.body)
        except Exception as error:  # whatever it was, the caller must not wait for ever
            self.downstream.fail(error)


class Runner(UnderWay):
    """One request under way. Begun by `begin`; `on_gone` and `on_pressure` come from the caller's connection."""

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
        "engine",
        "facts",
        "first_out_at",
        "job",
        "policy",
    )

    def __init__(self, engine: Engine, job: Job, dispatch: Dispatch, downstream: Downstream):
        super().__init__()
        self.engine = engine
        self.job = job
        self.dispatch = dispatch
        self.downstream = downstream
        self.facts: RequestFacts = job.inbound.facts
        self.policy = job.policy
        self._upstreams = engine.upstreams  # a reload is for requests that begin after it
        self._last_write = job.received_at
        self.bytes_out = 0
        self.first_out_at: float | None = None
        self._relays: dict[int, Relay] = {}
        self._winner: Relay | None = None
        self._writer: EventWriter | None = None
        self._is_started = False  # the head of a streamed answer is sent
        self._is_pressed = False
        self._advancing = False
        self._again = False
        self._wait_until = _NEVER

    def begin(self, now: float) -> None:
        """Takes the first steps; the request may be over already then."""
        if self.facts.stream:
            self.due = self._last_write + self.policy.stream.keep_alive
        self.engine.watch(self)
        try:
            self._advance(now)
        except Exception as error:  # a fault of ours: the request ends with it, on record, and holds nothing any more
            self.engine.report(error)
            self.on_fault(now)

    def __repr__(self) -> str:
        state = "done" if self.is_done else "started" if self._is_started else "under way"
        return f"<Runner {self.job.id} {state} relays={len(self._relays)}>"

    @property
    def held(self) -> int:
        """Bytes of the request's body, and of answers that it holds back or has not yet got rid of."""
        asked = self.dispatch.walk.request
        body = len(asked) if isinstance(asked, bytes) else 0
        return sum([relay.held for relay in self._relays.values()]) + self.downstream.unsent + body

    # --- steps -----------------------------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        """Performs steps until there is nothing to do but wait."""
        if self._advancing:
            self._again = True  # a fact came while a step was being performed
            return
        self._advancing = True
        dispatch = self.dispatch
        try:
            while not self.is_done:
                self._again = False
                step = dispatch.next_step(now)
                if dispatch.notices or dispatch.changes:
                    self._tell(now)
                self._wait_until = _NEVER
                if type(step) is Send:  # `isinstance` asks the metaclass of these records where it is not
                    self._send(step, now)
                elif isinstance(step, Deliver):
                    self._deliver(step, now)
                    return
                elif isinstance(step, GiveUp):
                    self._give_up(step, now)
                    return
                elif isinstance(step, Queued):
                    step.ticket.tell = self._on_room
                if step.until is not None:
                    self._wait_until = step.until
                    self.wake_by(step.until)
                if not self._again:
                    return
        finally:
            self._advancing = False

    def _send(self, step: Send, now: float) -> None:
        target = step.target
        upstream = self._upstreams.of(target)
        provider = upstream.provider
        gate = self._gate(step, provider.dialect) if step.stream else None
        relay = Relay(self, step, upstream, gate, now)
        self._relays[step.attempt] = relay
        try:
            asked = provider.request(self.job.inbound, target, upstream.secret, step.stream, step.continuation)
        except InvalidRequest as error:
            relay.abort()
            self.on_verdict(relay, Rejected(failure=_inexpressible(error)), now)
            return
        if asked.dropped:
            self.dispatch.on_dropped(step.attempt, asked.dropped)
        path, fields = upstream.base_path + asked.path, asked.headers
        if asked.sign is not None:
            fields = [*fields, *asked.sign(time.time(), upstream.endpoint.authority, path)]
        request = UpstreamRequest(
            upstream.endpoint,
            path,
            fields,
            asked.body,
            connect_timeout=step.limits.connect,
            target=target.name,
            is_relayed=self.facts.stream and step.stream,
        )
        relay.call = call = self.engine.transport.send(request, relay)
        if relay.is_closed:
            call.abort()
        elif not relay.is_over and (due := relay.due(now)) < self.due:
            self.due = due

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
            merges=not passes or self.job.dialect.has_loose_events,
        )

    # --- facts from relays -----------------------------------------------------------------------------------

    def on_limits(self, relay: Relay, headers: Mapping[str, str], now: float) -> None:
        """The head of an answer has come, of a provider that says there what is left of its rate limits."""
        said = read_limits(relay.upstream.limits, headers, now, time.time())
        if said:
            self.dispatch.on_limits(relay.send.attempt, said, now)

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
            self._start(now, relay)
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
        number, head, dispatch = relay.send.attempt, relay.head, self.dispatch
        if head is not None:
            # An error that was read names its exchange by itself, if that has a name.
            name = None if relay.is_error else relay.upstream.provider.request_id(head.headers)
            dispatch.on_head(number, head.status, name)
        if self._winner is relay:
            self._winner = None
        dispatch.on_verdict(number, verdict, now)
        self._advance(now)

    # --- facts from the caller's connection, and time --------------------------------------------------------

    def on_gone(self) -> None:
        """The caller has gone: every upstream call is ended."""
        if self.is_done:
            return
        now = _now()
        silent = {n: relay.silent_for(now) for n, relay in self._relays.items() if not relay.is_over}
        self.dispatch.on_cancel(now, silent)
        self._tell(now)
        self._record(Outcome(status=499, error=FailureReason.CANCELLED), now)
        self._finish()

    def on_fault(self, now: float) -> None:
        """Something of ours failed, so that no step can be relied on: the request ends with what can still be said."""
        if self.is_done:
            return
        step = GiveUp(
            status=500, code=FailureReason.INTERNAL_ERROR, message="The gateway failed to handle this request."
        )
        self._stop(step, "the gateway failed", headers.FAILED, now)

    def on_shutdown(self, now: float) -> None:
        """The gateway stops, and the time that this request had to end is up."""
        if not self.is_done:
            message = "The gateway was stopped before the answer was complete."
            step = GiveUp(status=503, code="shutting_down", message=message, retry_after=1.0)
            self._stop(step, "the gateway was stopped", headers.WHOLE, now)

    def _stop(self, step: GiveUp, why: str, first: str, now: float) -> None:
        """Ends the request whatever its walk would do; `first` are the headers to begin with."""
        self.dispatch.on_cancel(now, {}, why)
        try:
            self._give_up(step, now, first)
        except Exception as error:  # then nothing can be said
            self._finish()
            self.downstream.fail(error)

    def _on_room(self) -> None:
        """A target that the request waits for has room. This is told while another request is at work."""
        self._wait_until = self.due = 0.0
        self.engine.look_after(self)

    def on_pressure(self, is_pressed: bool) -> None:
        """The caller reads slower than the upstream writes, or no longer does. Only a committed stream is held."""
        self._is_pressed = is_pressed
        if self._winner is not None:
            if is_pressed:
                self._winner.pause(_now())
            else:
                self._winner.resume(_now())
                self.wake_by(self._winner.due(_now()))

    def wake_by(self, at: float) -> None:
        """Has `on_tick` called at `at` or before."""
        if at < self.due:
            self.due = at

    def on_tick(self, now: float) -> None:
        """Looks after every limit of the request; called when `due` has come."""
        for relay in [r for r in self._relays.values() if not r.is_over]:
            relay.on_tick(now)
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
            self._start(now, self._winner)
        self._last_write = now
        self.downstream.write(self.job.dialect.keep_alive)

    # --- answering -------------------------------------------------------------------------------------------

    def write(self, relay: Relay, out: bytes, now: float) -> None:
        """Sends bytes of the answer."""
        if relay.must_announce:
            out = self._announced(relay, out)
        self.bytes_out += len(out)
        self._last_write = now
        if self.first_out_at is None:
            self.first_out_at = now
        self.downstream.write(out)

    def _announced(self, relay: Relay, out: bytes) -> bytes:
        """Before the first bytes of a joined stream, a comment that names the target they come from."""
        join = relay.send.join
        if join is None or not relay.must_announce or not out:
            return out
        relay.must_announce = False
        return self.job.dialect.comment(f"continued by {join.target} after {join.reason} of {join.source}") + out

    def _start(self, now: float, relay: Relay | None, flagged: FailureReason | None = None) -> None:
        self._is_started = True
        self.downstream.start(200, self._headers(headers.STREAMED, now, relay, flagged))

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
            self._start(now, relay, flagged)
        tail = relay.gate.release()
        transcript = self.dispatch.transcript
        usage = joined_usage(transcript, relay.gate.usage, relay.gate.repeated)
        served, job = relay.send.target, self.job
        member = trace_member(job, self.dispatch, job.wants_trace, served, usage)
        tail += self._writer.end(usage if transcript.joins else None, member)
        tail = self._announced(relay, tail)
        self.bytes_out += len(tail)
        if self.first_out_at is None:
            self.first_out_at = now
        outcome = Outcome(status=200, attempt=relay.send.attempt, served=served.name, flagged=flagged, usage=usage)
        self._record(outcome, now, Answer(self.downstream, 200, None, tail))
        self._finish()

    def _deliver_whole(self, relay: Relay, flagged: FailureReason | None, now: float) -> None:
        job, send = self.job, relay.send
        completion = relay.completion or relay.whole()
        body = relay.body
        if not body or not completion.is_as_asked or relay.upstream.provider.dialect != job.dialect.name:
            completion.model = completion.model or send.target.model
            body = job.dialect.completion(completion, self.facts, job.id)
        if job.wants_trace and (member := trace_member(job, self.dispatch, True, send.target, completion.usage)):
            body = job.dialect.with_member(body, member)
        fields = self._headers(headers.WHOLE, now, relay, flagged)
        self.bytes_out = len(body)
        self.first_out_at = now
        outcome = Outcome(200, send.attempt, send.target.name, None, flagged, False, completion.usage)
        self._record(outcome, now, Answer(self.downstream, 200, fields, body))
        self._finish()

    def _give_up(self, step: GiveUp, now: float, first: str = headers.FAILED) -> None:
        dialect = self.job.dialect
        if self._is_started:
            writer = self._writer or dialect.writer(self.facts, self.job.id)
            data = writer.error(step.status, step.code, step.message)
            outcome = Outcome(status=200, error=step.code, in_band_error=True)
            self._record(outcome, now, Answer(self.downstream, 200, None, data))
        else:
            member = trace_member(self.job, self.dispatch, True) if self.job.wants_trace else None
            body = dialect.error(step.status, step.code, step.message, member)
            retry_after = "" if step.retry_after is None else f"retry-after: {max(1, round(step.retry_after))}\r\n"
            fields = self._headers(first, now, self._winner, None, retry_after)
            outcome = Outcome(status=step.status, error=step.code)
            self._record(outcome, now, Answer(self.downstream, step.status, fields, body))
        self._finish()

    def _headers(
        self, first: str, now: float, relay: Relay | None, flagged: FailureReason | None, more: str = ""
    ) -> Fields:
        """Our headers of the answer; of a stream, as far as they are known when it starts."""
        dispatch, job = self.dispatch, self.job
        if flagged is not None:
            more = f"{more}x-crossfade-flagged: {flagged}\r\n"
        return self.engine.headers.render(
            first,
            job.id,
            job.route,
            None if relay is None else relay.send.target,
            dispatch.calls,
            dispatch.fallbacks,
            self._overhead(now),
            dispatch.last_reason,
            more,
        )

    def _overhead(self, now: float) -> float:
        """Seconds that passed while no upstream was being waited for."""
        seconds = now - self.job.received_at
        for record in self.dispatch.records:
            seconds -= record.latency_s
        under_way = [relay.timers.started_at for relay in self._relays.values() if not relay.is_over]
        if under_way:
            seconds -= now - min(under_way)
        return seconds if seconds > 0 else 0.0

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

    def _record(self, outcome: Outcome, now: float, answer: Answer | None = None) -> None:
        delivered = _NOTHING
        if self.facts.stream:
            delivered = {number: relay.delivered_chars for number, relay in self._relays.items()}
        row = request_row(self.job, self.dispatch, outcome, self.first_out_at, self.bytes_out, delivered, now)
        self.engine.recorder.record(row, answer)

    def _tell(self, now: float) -> None:
        """Passes on what dispatch and health have to tell."""
        dispatch, job, tell, at = self.dispatch, self.job, self.engine.recorder.tell, time.time()
        for notice in dispatch.notices:
            tell(notice_event(notice, request=job.id, route=job.route, after=now - job.received_at, at=at))
        dispatch.notices.clear()
        for change in dispatch.changes:
            tell(change_event(change, now, at=at))
        dispatch.changes.clear()


def _inexpressible(error: InvalidRequest) -> Failure:
    """The target's dialect cannot say what the caller asked for: that rung's defect, known before any call."""
    what = f"cannot be asked for {error.param}" if error.param else "cannot be asked for this"
    return Failure(
        reason=FailureReason.INVALID_REQUEST, origin=Origin.LOCAL, status=400, detail=what, message=error.message
    )
