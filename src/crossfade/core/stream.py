"""What of a stream may leave, when, and what its end amounts to.

A `StreamGate` stands in one attempt's stream: it holds events back until the commit point, holds tool calls and
JSON to the stream's own end, and judges the end. The `Transcript` belongs to the request: it is what has been
delivered, and whether another stream may be joined to it. Both know events, not bytes of any dialect: `write`
turns an event into what the caller reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from crossfade.core.assembly import Assembly, MadeEvent, merged
from crossfade.core.exchange import Completion, Continuation, JoinNote, RequestFacts, StreamEvent, Usage
from crossfade.core.failure import Failure, FailureReason, Origin
from crossfade.core.join import Joiner, JoinState, continuation_of
from crossfade.core.policy import StreamPolicy
from crossfade.core.verdict import Accepted, Rejected, Verdict

Check = Callable[[Completion], Failure | None]
Write = Callable[[StreamEvent], bytes]

MERGE_ABOVE: Final = 256 * 1024
"""Bytes of held events above which their small pieces are put together: a piece of five characters has an envelope of
250, and it is content that the limit is meant for."""
_EVENT_SIZE: Final = 200
"""What an event without `raw` is reckoned to take beside its content."""
_OF_WHOLE_TEXT: Final = frozenset({FailureReason.INVALID_JSON, FailureReason.REJECTED_OUTPUT})


class Transcript:
    """What of a streamed answer has been delivered downstream so far."""

    __slots__ = ("_barrier", "_is_json", "answer", "chars", "is_overlong", "joins", "limit")

    def __init__(self, facts: RequestFacts, policy: StreamPolicy):
        self.answer = Assembly()
        self.chars = 0
        self.joins: list[JoinNote] = []
        self.is_overlong = False  # some of the text is no longer kept
        self.limit = policy.max_transcript
        self._is_json = facts.output is not None
        self._barrier = _barrier_of_request(facts)

    def add(self, event: StreamEvent) -> None:
        """Notes an event that leaves now."""
        self.answer.add(event)
        if event.text:
            self.chars += len(event.text)
            if self.chars > self.limit:
                self.drop_text()
            elif self._is_json:
                self._barrier = "inside JSON"
        if event.tools:
            self._barrier = "inside a tool call"
        elif event.refusal:
            self._barrier = "after a refusal"
        elif event.has_other_content:
            self._barrier = "behind audio or citations"

    def drop_text(self) -> None:
        """Forgets the text, which is more than is kept, and with it any second stream."""
        self.is_overlong = True
        self.answer.drop_text()
        self._barrier = "in an answer too long to be kept for it"

    def forbid(self, why: str) -> None:
        self._barrier = why

    @property
    def barrier(self) -> str | None:
        """Why no second stream can be joined to this text; None if one can."""
        return self._barrier

    def continuation(self, *, prefill: bool) -> Continuation | None:
        """What a second stream is asked for; None where only reasoning was delivered: a clean start."""
        return continuation_of(self.answer.text(), prefill=prefill) if self.chars else None


def _barrier_of_request(facts: RequestFacts) -> str | None:
    if facts.n > 1:
        return "with several choices"
    if facts.logprobs:
        return "with logprobs"
    if facts.audio:
        return "with audio"
    return None


class StreamGate:
    """Passes one attempt's events on when they may leave.

    `feed` gives the bytes that may leave now. `end` judges the stream; after an Accepted verdict (or a soft
    failure that the caller is to see) `release` gives the rest. `committed` says that something has left, `chars` how
    much text of this stream.
    `join` is what the caller is told of a stream that goes on from another one, and says that one was begun.
    `write` writes events as they came; `write_anew` those that did not come in this form (default: the same).
    `passes`: what `write` writes are the events' own bytes. Then the gate stands open (`is_open`) behind text that has
    left: as long as nothing but more of it comes, it may leave at once, and only `pass_text` has to hear of it.
    `merges`: held events may be put together and leave among others that pass.

    Reasoning that passes and has to be signed (`RequestFacts.wants_signatures`) is held to the end of its block: what
    broke off within it would be refused by its maker when the caller sends it back.
    """

    __slots__ = (
        "_can_merge",
        "_check",
        "_counted",
        "_holding",
        "_holds_json",
        "_holds_thinking",
        "_is_thinking",
        "_joiner",
        "_may_open",
        "_merge_at",
        "_note",
        "_passes",
        "_pending",
        "_policy",
        "_seen",
        "_size",
        "_started_at",
        "_text",
        "_transcript",
        "_write",
        "_write_anew",
        "chars",
        "committed",
        "content_at",
        "failure",
        "finished",
        "is_open",
        "usage",
    )

    def __init__(
        self,
        facts: RequestFacts,
        policy: StreamPolicy,
        transcript: Transcript,
        write: Write,
        check: Check,
        started_at: float,
        continuation: Continuation | None = None,
        join: JoinNote | None = None,
        write_anew: Write | None = None,
        *,
        passes: bool = False,
        merges: bool = True,
    ):
        self._note = join
        self._policy = policy
        self._transcript = transcript
        self._write = write
        self._write_anew = write_anew or write
        self._check = check
        self._started_at = started_at
        self._joiner = Joiner(continuation) if continuation is not None else None
        self._holds_json = policy.hold_json and facts.output is not None
        self._holds_thinking = passes and facts.wants_signatures
        self._is_thinking = False  # within a block of reasoning that is held to its end
        self._holding = False  # from here on everything stays until the end
        self._pending: list[StreamEvent] = []
        self._counted: StreamEvent | None = None  # the last event that only counts tokens: it belongs to the end
        self._passes = passes
        self._may_open = passes and continuation is None and not self._holds_json
        self._can_merge = merges and facts.n == 1 and not facts.logprobs and not facts.audio
        self._merge_at = MERGE_ABOVE
        self._size = 0
        self._text = 0  # characters that count towards `commit: {chars: N}`
        self._seen = False  # text that is more than white space, reasoning, or the like has come
        self.committed = join is not None
        self.is_open = False
        self.failure: Failure | None = None
        self.finished = False
        self.content_at = 0.0
        self.usage: Usage | None = None
        self.chars = 0

    # --- events ----------------------------------------------------------------------------------------------

    def feed(self, event: StreamEvent, now: float) -> bytes:
        """Takes the next event; gives what may leave because of it."""
        self.is_open = False
        if self.failure is not None:
            return b""
        if event.failure is not None:
            self.failure = event.failure
            return b""
        if event.usage is not None:
            self.usage = event.usage
        if event.finish is not None or event.raw_finish is not None:
            self.finished = True
        if event.has_content:
            self.content_at = now  # a repeated part is content too: the upstream is at work
        elif event.usage is not None and self.content_at and not self._must_hold(event):
            # Written now it would leave before the finish reason, and a second time if another stream goes on.
            self._counted = event
            return b""
        if self._joiner is not None:
            joined = self._join(event)
            if joined is None:
                return b""
            event = joined
        if self._holds_thinking and self._goes_on_thinking(event):
            return self._hold_back(event, now)
        if self.committed and not self._holding and not self._pending and not self._must_hold(event):
            if self._note is not None and event.has_content:
                self._tell_join()
            self._transcript.add(event)
            self.chars += len(event.text)
            self.is_open = self._may_open and bool(event.text and event.raw) and not (event.choice or event.in_block)
            return self._written(event)
        return self._hold_back(event, now)

    def pass_text(self, text: str) -> None:
        """Hears of more text of the first choice that leaves as it came; only while `is_open`."""
        transcript, size = self._transcript, len(text)
        transcript.answer.first_text.append(text)
        transcript.chars += size
        self.chars += size
        if transcript.chars > transcript.limit:
            transcript.drop_text()

    def _written(self, event: StreamEvent) -> bytes:
        return self._write_anew(event) if type(event) is MadeEvent else self._write(event)

    @property
    def held(self) -> int:
        """Bytes that are held back."""
        return self._size

    def poll(self, now: float) -> bytes:
        """What may leave because time has passed (`commit: {seconds: T}`)."""
        if not self.committed and self._may_commit(now):
            return self._commit()
        return b""

    def _goes_on_thinking(self, event: StreamEvent) -> bool:
        """Whether `event` leaves a block of reasoning open; the one that closes it comes with it."""
        begins = event.reasoning or (event.is_open and not event.tools and not event.has_other_content)
        self._is_thinking = event.in_block and (self._is_thinking or bool(begins))
        return self._is_thinking

    def _must_hold(self, event: StreamEvent) -> bool:
        return (
            event.finish is not None
            or event.raw_finish is not None
            or event.is_end
            or (self._holds_json and bool(event.text))
            or (bool(event.tools) and self._policy.hold_tool_calls)
        )

    def _hold_back(self, event: StreamEvent, now: float) -> bytes:
        if event.is_end:
            # The end is written anew, once, however often the upstream said it; the end of a join may bring text.
            if not event.text:
                return b""
            event = StreamEvent(text=event.text, choice=event.choice)
        self._size += _size(event)
        if self._size > self._merge_at and self._can_merge:
            self._pending = merged(self._pending)
            self._size = sum([_size(held) for held in self._pending]) + _size(event)
            self._merge_at = self._size + MERGE_ABOVE
        if self._size > self._policy.max_held:
            self._pending.clear()
            self.failure = _too_much(self._policy.max_held)
            return b""
        if not self._holding and self._must_hold(event):
            out = self.poll(now)
            self._holding = True
            self._pending.append(event)
            return out
        self._pending.append(event)
        if self._holding:
            return b""
        self._text += len(event.text) + len(event.reasoning)
        if not self._seen:
            self._seen = bool(event.reasoning or event.refusal or event.tools) or (
                # Written in another dialect these say nothing: to commit to them would be to commit to nothing.
                (self._passes and (event.has_other_content or event.is_open))
                or (bool(event.text) and not event.text.isspace())
            )
        return self._commit() if self._may_commit(now) else b""

    def _may_commit(self, now: float) -> bool:
        if not self._seen or self._holding or self._is_thinking:
            return False
        if self.committed:
            return True
        commit = self._policy.commit
        if commit.at == "first_content":
            return True
        if commit.at == "chars":
            return self._text >= commit.value
        return commit.at == "seconds" and now - self._started_at >= commit.value

    def _commit(self) -> bytes:
        self.committed = True
        return self._flush()

    def _flush(self) -> bytes:
        out = bytearray()
        self._tell_join()
        for event in self._pending:
            self._transcript.add(event)
            self.chars += len(event.text)
            out += self._written(event)
        self._pending.clear()
        self._size = 0
        return bytes(out)

    def _tell_join(self) -> None:
        """A second stream adds to the first one from now on."""
        if self._note is not None:
            self._transcript.joins.append(self._note)
            self._note = None

    # --- joining ---------------------------------------------------------------------------------------------

    def _join(self, event: StreamEvent) -> StreamEvent | None:
        """The event with only its new text; None while the join is open, or has been refused."""
        joiner = self._joiner
        assert joiner is not None
        is_turning = bool(event.tools) or bool(event.refusal) or event.finish is not None or event.is_end
        was_open = joiner.state is JoinState.OPEN
        text = joiner.feed(event.text) if event.text else ""
        if was_open and is_turning and joiner.state is JoinState.OPEN:
            text += joiner.finish(goes_on=bool(event.tools))
        if joiner.state is JoinState.REFUSED:
            self.failure = _refused(joiner.why)
            return None
        if joiner.state is JoinState.OPEN:
            return None
        # Reasoning that led to the repeated part, and a second role, are nothing the caller has asked for.
        return msgspec.structs.replace(event, raw=b"", text=text, reasoning="")

    # --- the end ---------------------------------------------------------------------------------------------

    def end(self, is_complete: bool, undecodable: int = 0) -> Verdict:
        """What the stream amounted to, now that nothing more will come."""
        if self._joiner is not None and self.failure is None and is_complete:
            self._finish_join(self._joiner)
        failure = self.failure or broken(is_complete, undecodable, has_content=self.content_at > 0)
        if failure is None:
            failure = self._check(self.completion())
            if failure is not None and self._transcript.is_overlong and failure.reason in _OF_WHOLE_TEXT:
                failure = None  # the text that was judged is only what is still kept of it
        if failure is not None:
            return Rejected(failure=failure, usage=self.usage)
        return Accepted(usage=self.usage)

    def _finish_join(self, joiner: Joiner) -> None:
        """The second stream ended without a word that its text was whole."""
        text = joiner.finish()
        if joiner.state is JoinState.REFUSED:
            self.failure = _refused(joiner.why)
        elif text:
            self._pending.insert(0, StreamEvent(text=text))

    @property
    def repeated(self) -> int:
        """Characters of this stream that the caller has had from an earlier one."""
        return 0 if self._joiner is None else self._joiner.repeated

    def completion(self) -> Completion:
        """The whole answer as the caller will have it: what was delivered and what is held."""
        answer = self._transcript.answer.fork() if self.committed else Assembly()
        for event in self._pending:
            answer.add(event)
        return answer.completion()

    def release(self) -> bytes:
        """All that is still held, in order."""
        self.committed = True
        if self._counted is not None:
            self._pending.append(self._counted)
            self._counted = None
        return self._flush()


def broken(is_complete: bool, undecodable: int, *, has_content: bool) -> Failure | None:
    """Why a stream that has stopped coming is no answer; None if it has come to its provider's end."""
    if is_complete:
        return None
    if undecodable:
        return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail="events that could not be decoded, and no end")
    what = "before its end" if has_content else "before any content"
    return Failure(reason=FailureReason.STREAM_INTERRUPTED, origin=Origin.LOCAL, detail=f"the stream ended {what}")


def _size(event: StreamEvent) -> int:
    if event.raw:
        return len(event.raw)
    size = _EVENT_SIZE + len(event.text) + len(event.reasoning) + len(event.refusal)
    for delta in event.tools:
        size += len(delta.arguments)
    return size


def _too_much(limit: int) -> Failure:
    detail = f"more than {limit} bytes had to be held back"
    return Failure(reason=FailureReason.MALFORMED_OUTPUT, origin=Origin.LOCAL, detail=detail)


def _refused(why: str) -> Failure:
    return Failure(reason=FailureReason.STREAM_INTERRUPTED, origin=Origin.LOCAL, code="join_refused", detail=why)


class StreamCollector:
    """Stands in the place of a gate where a stream is put together into a buffered answer: nothing leaves."""

    __slots__ = ("_answer", "_check", "_max_size", "_size", "content_at", "failure", "finished", "usage")

    committed = False

    def __init__(self, check: Check, max_size: int):
        self._answer = Assembly()
        self._check = check
        self._max_size = max_size
        self._size = 0
        self.content_at = 0.0
        self.failure: Failure | None = None
        self.finished = False
        self.usage: Usage | None = None

    def feed(self, event: StreamEvent, now: float) -> bytes:
        """Takes the next event; nothing ever leaves."""
        if self.failure is not None:
            return b""
        if event.failure is not None:
            self.failure = event.failure
            return b""
        if event.usage is not None:
            self.usage = event.usage
        if event.finish is not None or event.raw_finish is not None:
            self.finished = True
        if event.has_content:
            self.content_at = now
            self._size += len(event.text) + len(event.reasoning) + sum(len(tool.arguments) for tool in event.tools)
            if self._size > self._max_size:
                self.failure = _too_much(self._max_size)
        self._answer.add(event)
        return b""

    @property
    def held(self) -> int:
        """Bytes of the answer so far: all of it is held."""
        return self._size

    def poll(self, now: float) -> bytes:
        return b""

    def end(self, is_complete: bool, undecodable: int = 0) -> Verdict:
        """What the stream amounted to, now that nothing more will come."""
        failure = self.failure or broken(is_complete, undecodable, has_content=self.content_at > 0)
        completion = self._answer.completion()
        failure = failure or self._check(completion)
        if failure is not None:
            return Rejected(failure=failure, usage=self.usage)
        return Accepted(usage=self.usage, completion=completion)

    def completion(self) -> Completion:
        return self._answer.completion()
