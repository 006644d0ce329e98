"""One attempt's answer, from the first fact of the transport to the verdict.

A `Relay` is the sink of one upstream call. It reads what comes by the provider's adapter, lets the gate say what may
leave, and ends in exactly one verdict. It decides nothing itself and knows nothing of other attempts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from email.utils import formatdate
from time import perf_counter
from typing import TYPE_CHECKING, Final

import msgspec

from crossfade.core.assembly import MadeEvent
from crossfade.core.errors import TimedOut, TransportError
from crossfade.core.exchange import Completion, Finish, StreamEvent, ToolDelta
from crossfade.core.failure import Failure, FailureReason, Origin
from crossfade.core.limits import AttemptTimers
from crossfade.core.steps import Send
from crossfade.core.stream import StreamCollector, StreamGate
from crossfade.core.verdict import Accepted, Rejected, Verdict
from crossfade.engine.targets import Upstream
from crossfade.transport.base import Call, ResponseHead, ResponseSink
from crossfade.wire.reader import StreamReader

if TYPE_CHECKING:
    from crossfade.engine.runner import Runner

_now: Final = perf_counter  # a constant: compiled code looks a global up each time
MAX_BODY: Final = 32 * 1024 * 1024
MAX_ERROR_BODY: Final = 64 * 1024
ERROR_BODY_TIME: Final = 2.0
"""Seconds an error's body is waited for: its status is enough to go on with."""
MAX_PIECES: Final = 64
"""Pieces of a body that are kept as they came; more are put together, for a tiny one costs twenty times its bytes."""
DRAIN_TIME: Final = 5.0
"""Seconds the body of a stream may take to close behind its end marker."""

Gate = StreamGate | StreamCollector

# How the body of a response is taken.
_WHOLE, _EVENTS, _ERROR, _UNKNOWN = range(4)


class Relay(ResponseSink):
    """The sink of one upstream call. `is_over` once its verdict is given; `body` is a buffered answer's bytes."""

    __slots__ = (
        "_error_due",
        "_is_named",
        "_mode",
        "_open",
        "_pieces",
        "_size",
        "body",
        "call",
        "completion",
        "gate",
        "head",
        "is_closed",
        "is_over",
        "must_announce",
        "reader",
        "runner",
        "send",
        "timers",
        "upstream",
    )

    def __init__(self, runner: Runner, send: Send, upstream: Upstream, gate: Gate | None, now: float):
        self.runner = runner
        self.send = send
        self.upstream = upstream
        self.gate = gate
        self.timers = AttemptTimers(send.limits, now)
        self.reader: StreamReader | None = None
        self.call: Call | None = None
        self.head: ResponseHead | None = None
        self.body = b""
        self.completion: Completion | None = None
        self.must_announce = send.join is not None  # the caller is to be told that this stream goes on from another
        self.is_over = False  # the verdict is given
        self.is_closed = False  # the transport will say nothing more
        self._pieces: list[bytes | bytearray] = []
        self._size = 0
        self._error_due: float | None = None
        self._mode = _WHOLE
        self._is_named = False  # the first event of the stream has come
        self._open: StreamGate | None = None  # the gate, while it stands open and this attempt is not over

    @property
    def held(self) -> int:
        """Bytes of the answer that are held back."""
        return self._size if self.gate is None else self._size + self.gate.held

    @property
    def is_error(self) -> bool:
        """Whether the answer has an error's status."""
        return self._mode == _ERROR

    # --- facts of the transport ------------------------------------------------------------------------------

    def on_sent(self) -> None:
        self.timers.sent_at = _now()
        if self.send.stream:
            self.runner.wake_by(self.timers.due())  # the limits of a stream count from here, not from the dial

    def on_head(self, head: ResponseHead) -> None:
        if self.is_over:
            return
        now = _now()
        self.head = head
        self.timers.on_bytes(now)
        if self.upstream.limits:
            self.runner.on_limits(self, head.headers, now)
        if not 200 <= head.status < 300:
            self._mode = _ERROR
            self._error_due = now + ERROR_BODY_TIME
            self.runner.wake_by(self._error_due)
        elif self.send.stream:
            self.reader = reader = self.upstream.provider.reader(self.runner.facts)
            is_stream = head.headers.get("content-type", "").startswith(reader.framing.media_type)
            self._mode = _EVENTS if is_stream else _UNKNOWN
            self.runner.wake_by(self.timers.due())  # from the first byte on, silence counts

    def on_body(self, data: bytes) -> None:
        gate, reader = self._open, self.reader
        try:
            if gate is None or reader is None or (more := reader.more_text(data)) is None:
                self._take(data)
                return
            # All that `_take_events` comes to: first content and commit are behind us, no block is open, and more text
            # is neither an end nor a failure.
            out, text = more
            now = _now()
            timers = self.timers
            timers.last_byte_at = timers.last_content_at = now
            gate.pass_text(text)
            self.runner.write(self, out, now)
        except Exception as error:  # a fault of ours must end the request, and reach no other
            self._on_fault(error)

    def _take(self, data: bytes) -> None:
        if self.is_over:
            return
        if self._mode == _EVENTS:
            self._take_events(data)
        elif self._mode == _WHOLE:
            self._take_whole(data)
        elif self._mode == _ERROR:
            self._take_error(data)
        else:
            self._take_unknown(data)

    def on_end(self) -> None:
        self.is_closed = True
        if self.is_over:
            self.runner.engine.draining.pop(self, None)
            return
        try:
            self._take_end(_now())
        except Exception as error:  # as above
            self._on_fault(error)

    def on_failure(self, error: TransportError) -> None:
        self.is_closed = True
        if self.is_over:
            self.runner.engine.draining.pop(self, None)
            return
        try:
            self._take_failure(error, _now())
        except Exception as fault:  # as above
            self._on_fault(fault)

    def _take_end(self, now: float) -> None:
        if self._mode == _EVENTS:
            assert self.reader is not None
            self._pass(self._rest(), now)
            if not self.is_over:
                self._conclude(self._end_of_stream(), now)
        elif self._mode == _ERROR:
            self._conclude(self._read_error(), now)
        else:
            self._conclude(self._read_whole(), now)

    def _take_failure(self, error: TransportError, now: float) -> None:
        if self._mode == _ERROR:
            self._conclude(self._read_error(), now)
        elif self._mode == _EVENTS and self.reader is not None and self.reader.is_complete:
            # The provider's own end has come; how the connection ended says nothing of the answer.
            self._conclude(self._end_of_stream(), now)
        else:
            self._conclude(Rejected(failure=failure_of(error)), now)

    def _on_fault(self, error: Exception) -> None:
        """Something of ours failed while it handled this answer: the attempt is over, and with it the request."""
        self.runner.engine.report(error)
        if self.is_over:
            self.runner.on_fault(_now())
            return
        failure = Failure(reason=FailureReason.INTERNAL_ERROR, origin=Origin.LOCAL, detail=type(error).__name__)
        try:
            self._conclude(Rejected(failure=failure), _now())
        except Exception as second:  # even saying so failed
            self.runner.engine.report(second)
            self.runner.on_fault(_now())

    # --- bodies ----------------------------------------------------------------------------------------------

    def _take_whole(self, data: bytes) -> None:
        self.timers.on_bytes(_now())
        self._keep(data, MAX_BODY)

    def _take_error(self, data: bytes) -> None:
        if self._size < MAX_ERROR_BODY:
            self._collect(data[: MAX_ERROR_BODY - self._size])

    def _take_unknown(self, data: bytes) -> None:
        """A stream was asked for and none was announced: the first bytes behind white space tell what it is."""
        self.timers.on_bytes(_now())
        assert self.reader is not None
        framing = self.reader.framing
        start = b"".join((*self._pieces, data)).lstrip()
        self._pieces.clear()
        self._size = 0
        if start.startswith(framing.starts):
            self._mode = _EVENTS
            self._take_events(start)
            return
        if len(start) >= framing.longest:
            self._mode = _WHOLE
        self._keep(start, MAX_BODY)

    def _collect(self, data: bytes) -> None:
        pieces = self._pieces
        pieces.append(data)
        self._size += len(data)
        if len(pieces) > MAX_PIECES:
            whole = pieces[0] if isinstance(pieces[0], bytearray) else bytearray(pieces[0])
            whole += b"".join(pieces[1:])
            pieces[:] = [whole]

    def _keep(self, data: bytes, limit: int) -> None:
        self._collect(data)
        if self._size > limit:
            failure = Failure(
                reason=FailureReason.MALFORMED_OUTPUT,
                origin=Origin.LOCAL,
                detail=f"an answer of more than {limit} bytes",
            )
            self._conclude(Rejected(failure=failure), _now())

    def _take_events(self, data: bytes) -> None:
        now = _now()
        self.timers.on_bytes(now)
        self._pass(self._read(data), now)

    def _read(self, data: bytes) -> Sequence[StreamEvent]:
        """What `data` says. An adapter that cannot cope with it has met bytes that nobody foresaw: it is reported, and
        the answer is a malformed one, so that the next target is asked."""
        assert self.reader is not None
        try:
            return self.reader.feed(data)
        except Exception as error:  # see above
            return (self._unreadable(error),)

    def _rest(self) -> Sequence[StreamEvent]:
        assert self.reader is not None
        try:
            return self.reader.close()
        except Exception as error:  # as in `_read`
            return (self._unreadable(error),)

    def _unreadable(self, error: Exception) -> StreamEvent:
        self.runner.engine.report(error)
        return StreamEvent(failure=_unreadable(error))

    def _pass(self, events: Sequence[StreamEvent], now: float) -> None:
        """Lets the gate have `events` and the caller what may leave because of them."""
        gate, timers = self.gate, self.timers
        assert gate is not None
        if events and not self._is_named:
            self._is_named = True
            if not events[0].model:  # a provider that does not say who answers was asked for one
                events[0].model = self.send.target.model
        out = b""
        is_ended = False
        for event in events:
            piece = gate.feed(event, now)
            if piece:
                out = out + piece if out else piece
            if event.is_end:
                is_ended = True
                break
            timers.in_block = event.in_block
        self._open = gate if isinstance(gate, StreamGate) and gate.is_open else None
        if gate.content_at == now:
            is_first = timers.first_content_at is None
            timers.on_content(now)
            if is_first:
                self.runner.on_content(self, now)
                self.runner.wake_by(timers.due())
        if gate.finished and timers.finished_at is None:
            self._on_finish(now)
        if out and not self._let_out(out, now):
            return
        if gate.failure is not None or is_ended:
            self._conclude(self._end_of_stream(), now)

    def _on_finish(self, now: float) -> None:
        assert self.reader is not None
        if self.reader.is_complete:
            self.timers.finished_at = now
            self.runner.wake_by(self.timers.due())

    def _let_out(self, out: bytes, now: float) -> bool:
        """Sends what the gate let out; False if another attempt has won and this one is over."""
        if self.timers.committed_at is None:
            if not self.runner.on_commit(self, now):
                return False
            self.timers.committed_at = now
        self.runner.write(self, out, now)
        return True

    def _end_of_stream(self) -> Verdict:
        assert self.reader is not None
        assert self.gate is not None
        verdict = self.gate.end(self.reader.is_complete, self.reader.undecodable)
        if isinstance(verdict, Rejected) and verdict.failure is self.gate.failure:
            return Rejected(failure=self._as_said(verdict.failure), usage=verdict.usage)
        return verdict

    def _as_said(self, failure: Failure) -> Failure:
        """An error that the provider gave in the place of an answer, with the status it came under: however harmless
        its reason, there is no answer that could be delivered as it was received."""
        if failure.status is not None or failure.origin is not Origin.UPSTREAM or self.head is None:
            return failure
        return msgspec.structs.replace(failure, status=self.head.status)

    def _read_error(self) -> Verdict:
        assert self.head is not None
        headers = self.head.headers
        if (self.head.status == 429 or "retry-after" in headers) and "date" not in headers:
            # What the moments among them are reckoned from.
            headers = {**headers, "date": formatdate(time.time(), usegmt=True)}
        failure = self.upstream.provider.failure(self.head.status, headers, b"".join(self._pieces))
        return Rejected(failure=failure)

    def _read_whole(self) -> Verdict:
        """The verdict on a buffered body; in the place of a stream it is turned into one."""
        self.body = b"".join(self._pieces)
        self._pieces.clear()
        try:
            answer = self.upstream.provider.completion(self.body, self.runner.facts)
        except Exception as error:  # as in `_read`
            self.runner.engine.report(error)
            answer = _unreadable(error)
        if isinstance(answer, Failure):
            return Rejected(failure=self._as_said(answer))
        self.completion = answer
        if self.gate is not None:
            return self._stream_whole(answer)
        failure = self.runner.job.check(answer)
        if failure is not None:
            return Rejected(failure=failure, usage=answer.usage)
        return Accepted(answer.usage, answer)

    def _stream_whole(self, answer: Completion) -> Verdict:
        now = _now()
        self._pass(events_of(answer), now)
        assert self.gate is not None
        return self.gate.end(True)

    @property
    def delivered_chars(self) -> int:
        """Characters of text that the caller has of this attempt's stream."""
        return self.gate.chars if isinstance(self.gate, StreamGate) else 0

    def whole(self) -> Completion:
        """The buffered answer: as it came, or put together from the stream it came as."""
        if self.completion is None:
            assert self.gate is not None
            self.completion = self.gate.completion()
        return self.completion

    # --- time ------------------------------------------------------------------------------------------------

    def on_tick(self, now: float) -> None:
        """Looks whether a limit has run out."""
        timers = self.timers
        if self._error_due is not None and now >= self._error_due:
            self._conclude(self._read_error(), now)
            return
        if self.gate is not None:
            if timers.is_over(now):
                self._conclude(self._end_of_stream(), now)
                return
            out = self.gate.poll(now)
            if out and not self._let_out(out, now):
                return
        failure = timers.overdue(now)
        if failure is not None:
            self._conclude(Rejected(failure=failure), now)

    def due(self, now: float) -> float:
        """When `on_tick` may next have something to do."""
        if self._error_due is not None:
            return self._error_due
        if self.gate is None:
            return self.timers.started_at + self.timers.limits.to_commit  # a buffered call has no other limit
        policy = self.runner.policy.stream.commit
        if policy.at == "seconds" and self.timers.committed_at is None and self.gate is not None:
            return min(self.timers.due(), now + 0.1)
        return self.timers.due()

    # --- the end ---------------------------------------------------------------------------------------------

    def _conclude(self, verdict: Verdict, now: float) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._open = None
        if not self.is_closed:
            if isinstance(verdict, Accepted):
                self.runner.engine.drain(self, now + DRAIN_TIME)
            else:
                self.abort()
        self.runner.on_verdict(self, verdict, now)

    def abort(self) -> None:
        """Ends the upstream call; nothing more is heard of it."""
        self.is_over = self.is_closed = True
        self._open = None
        if self.call is not None:
            self.call.abort()

    def pause(self, now: float) -> None:
        if self.call is not None and not self.is_closed:
            self.call.pause()
            self.timers.on_pause(now)

    def silent_for(self, now: float) -> float:
        """Seconds without a sign of life from the upstream; what came while nobody read is not known."""
        paused_at = self.timers.paused_at
        return max(0.0, (now if paused_at is None else paused_at) - self.timers.silent_since)

    def resume(self, now: float) -> None:
        if self.call is not None and not self.is_closed:
            self.call.resume()
            self.timers.on_resume(now)


def failure_of(error: TransportError) -> Failure:
    """A transport's error as a failure."""
    phase = error.phase if isinstance(error, TimedOut) else None
    return Failure(reason=error.reason, origin=Origin.LOCAL, detail=error.detail, phase=phase)


def _unreadable(error: Exception) -> Failure:
    return Failure(
        reason=FailureReason.MALFORMED_OUTPUT,
        origin=Origin.LOCAL,
        detail=f"the answer could not be read ({type(error).__name__})",
    )


def events_of(answer: Completion) -> list[StreamEvent]:
    """A whole answer as a stream, for a server that gave one where a stream was asked for."""
    events: list[StreamEvent] = [MadeEvent(id=answer.id, model=answer.model, created=answer.created)]
    for choice in answer.choices:
        at = choice.index
        if choice.reasoning:
            events.append(MadeEvent(choice=at, reasoning=choice.reasoning))
        if choice.text:
            events.append(MadeEvent(choice=at, text=choice.text))
        if choice.refusal:
            events.append(MadeEvent(choice=at, refusal=choice.refusal))
        for index, call in enumerate(choice.tool_calls):
            delta = ToolDelta(index=index, id=call.id, name=call.name, arguments=call.arguments)
            events.append(MadeEvent(choice=at, tools=(delta,)))
        # A stream has to say how it ended, also where the body did not.
        natural = Finish.TOOL_CALLS if choice.tool_calls else Finish.STOP
        events.append(
            MadeEvent(
                choice=at,
                finish=choice.finish or (natural if choice.failure is None else None),
                raw_finish=choice.raw_finish or "stop",
                stopped_by_sequence=choice.stopped_by_sequence,
                failure=choice.failure,
            )
        )
    if answer.usage is not None:
        events.append(MadeEvent(usage=answer.usage))
    return events
