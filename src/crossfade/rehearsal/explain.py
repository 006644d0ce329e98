"""What would become of a request if some targets failed: the real walk under a clock that is only counted on.

Pure: nothing is called. The dispatch, the health board and the limits are those of a running gateway; what an upstream
would say is assumed.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal

import msgspec

from crossfade.core.dispatch import Dispatch
from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import StreamEvent
from crossfade.core.failure import Failure, FailureReason, Origin, Phase
from crossfade.core.health import HealthBoard
from crossfade.core.steps import Deliver, GiveUp, Send
from crossfade.core.target import Target
from crossfade.core.verdict import Accepted, Rejected
from crossfade.core.words import parse_duration
from crossfade.providers.base import Provider

SAYS_NO: Final = 0.3
"""Seconds that an upstream takes to answer with an error."""
BEGINS: Final = 0.8
"""Seconds to the first content of an answer,"""
ENDS: Final = 2.0
"""and to its end."""
REFUSES: Final = 0.05
"""Seconds after which a connection is refused."""

OPEN: Final = "open"
SLOW: Final = "slow"
CUT: Final = "cut"
_R = FailureReason
_STATUSES: Final = {
    _R.SERVER_ERROR: 500,
    _R.OVERLOADED: 503,
    _R.RATE_LIMIT: 429,
    _R.QUOTA_EXHAUSTED: 429,
    _R.AUTH_ERROR: 401,
    _R.INVALID_REQUEST: 400,
    _R.CONTEXT_OVERFLOW: 400,
    _R.MODEL_UNAVAILABLE: 404,
}
_LOCAL: Final = (_R.CONNECT_ERROR, _R.TIMEOUT, _R.PROTOCOL_ERROR, _R.STREAM_INTERRUPTED, _R.STREAM_STALLED)
_REASONS: Final = tuple(reason for reason in _R if reason not in (_R.CANCELLED, _R.INTERNAL_ERROR))
WORDS: Final = ("a status", OPEN, f"{SLOW}:5s", CUT, *_REASONS)


class Assumption(msgspec.Struct, frozen=True):
    """What is assumed of the targets that `pattern` names: a provider, `provider/model`, or either with `*`. `seconds`
    is the `retry-after` of a limit, or how slow it is to begin."""

    pattern: str
    word: str
    seconds: float | None = None

    def is_of(self, target: Target) -> bool:
        return fnmatchcase(target.name, self.pattern) or fnmatchcase(target.provider, self.pattern)


def parse_assumption(text: str) -> Assumption:
    """`openai=503`, `anthropic/claude-opus-5=timeout`, `groq=429:30s`, `openai=slow:5s`, `google=open`. Raises
    InvalidRequest, saying what is right."""
    pattern, mark, rest = text.rpartition("=")
    word, colon, amount = rest.partition(":")
    if not mark or not pattern:
        raise InvalidRequest(f"{text!r} is no assumption; write TARGET=WORD, as in openai=503")
    is_status = word.isascii() and word.isdigit() and 400 <= int(word) <= 599
    if not is_status and word not in (OPEN, SLOW, CUT, *_REASONS):
        raise InvalidRequest(f"{word!r} cannot be assumed; known are {', '.join(WORDS)}")
    try:
        seconds = parse_duration(amount) if colon else None
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    if word == SLOW and seconds is None:
        raise InvalidRequest(f"{text!r} does not say how slow; write it as {SLOW}:5s")
    return Assumption(pattern, word, seconds)


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happens, so many seconds after the request came."""

    at_s: float
    what: Literal["call", "skip", "begin", "fail", "end"]
    target: str
    words: str = ""
    mode: str = ""


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """The whole walk: what the caller gets, from whom, and when. Once an answer has begun to go out, a `code` is of an
    error inside the stream."""

    status: int
    served: str | None = None
    code: str | None = None
    message: str = ""
    lines: tuple[Line, ...]
    seconds: float
    fallbacks: int
    calls: int


def open_breakers(board: HealthBoard, targets: Sequence[Target], assumptions: Sequence[Assumption], now: float) -> None:
    """Opens the breakers of those that are assumed to be open."""
    failure = Failure(reason=_R.SERVER_ERROR, status=500)
    for target in targets:
        if any(one.word == OPEN and one.is_of(target) for one in assumptions):
            health = board.of(target)
            request = 0
            while health.breaker.is_closed:
                request += 1
                health.settle(health.take(now), failure, now, request, "")


class _Explained:
    """One walk while it is being played."""

    def __init__(
        self,
        dispatch: Dispatch,
        assumptions: Sequence[Assumption],
        provider_of: Callable[[Target], Provider],
        now: float,
    ) -> None:
        self.dispatch = dispatch
        self.began_at = self.now = now
        self.lines: list[Line] = []
        self._assumptions = assumptions
        self._provider_of = provider_of
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._over: set[int] = set()
        self._sends: dict[int, Send] = {}
        self._committed: int | None = None
        self._skips = 0

    def at(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), do))

    def say(self, what: Literal["call", "begin", "fail", "end"], target: str, words: str = "", mode: str = "") -> None:
        self.lines.append(Line(round(self.now - self.began_at, 3), what, target, words, mode))

    def play(self) -> Deliver | GiveUp:
        while True:
            step = self.dispatch.next_step(self.now)
            self._note_skips()
            if isinstance(step, (Deliver, GiveUp)):
                return step
            if isinstance(step, Send):
                self._send(step)
                continue
            if self._events and (step.until is None or self._events[0][0] <= step.until):
                self.now, _, do = heapq.heappop(self._events)
                do()
            else:
                assert step.until is not None, "nothing is under way and nothing will be"
                self.now = step.until

    def _note_skips(self) -> None:
        skips = [record for record in self.dispatch.records if not record.number]
        for record in skips[self._skips :]:
            self.lines.append(Line(round(record.started_s, 3), "skip", record.target, record.skip or ""))
        self._skips = len(skips)

    def _send(self, step: Send) -> None:
        self._sends[step.attempt] = step
        limits = step.limits
        patience = min(limits.first_content, limits.to_commit)
        self.say("call", step.target.name, f"at most {patience:.1f} s to its first content", step.mode)
        assumed = next((one for one in self._assumptions if one.word != OPEN and one.is_of(step.target)), None)
        begins = BEGINS
        if assumed is None or assumed.word == SLOW:
            begins = BEGINS if assumed is None else assumed.seconds or 0.0
            if begins < patience:
                self._answer(step, begins, begins + ENDS - BEGINS, None)
                return
            assumed = Assumption("", _R.TIMEOUT)
        failure, after = self._failure(step, assumed)
        breaks_off = failure.reason in (_R.STREAM_INTERRUPTED, _R.STREAM_STALLED)
        if breaks_off and step.stream:
            self._answer(step, begins, begins + after, failure)
        else:
            self.at(after, lambda: self._on_verdict(step, failure))

    def _answer(self, step: Send, begins: float, ends: float, failure: Failure | None) -> None:
        if step.stream:
            self.at(begins, lambda: self._on_begin(step))
        self.at(ends, lambda: self._on_verdict(step, failure))

    def _failure(self, step: Send, assumed: Assumption) -> tuple[Failure, float]:
        limits, word, seconds = step.limits, assumed.word, assumed.seconds
        headers = {} if seconds is None else {"retry-after": f"{seconds:g}"}
        if word.isdigit():
            return self._provider_of(step.target).failure(int(word), headers, b""), SAYS_NO
        reason = _R.STREAM_INTERRUPTED if word == CUT else _R(word)
        if reason is _R.TIMEOUT:
            is_first = limits.first_content < limits.to_commit
            phase = Phase.FIRST_CONTENT if is_first else Phase.ATTEMPT
            after = min(limits.first_content, limits.to_commit)
            detail = f"no content in {after:.1f} s"
            return Failure(reason=reason, origin=Origin.LOCAL, phase=phase, detail=detail), after
        if reason is _R.CONNECT_ERROR:
            return Failure(reason=reason, origin=Origin.LOCAL, detail="refused"), REFUSES
        if (status := _STATUSES.get(reason)) is not None:
            return Failure(reason=reason, status=status, retry_after=seconds), SAYS_NO
        if reason is _R.STREAM_STALLED:
            return Failure(reason=reason, origin=Origin.LOCAL, phase=Phase.IDLE), min(limits.idle, limits.to_commit)
        return Failure(reason=reason, origin=Origin.LOCAL if reason in _LOCAL else Origin.UPSTREAM), ENDS - BEGINS

    # --- facts -----------------------------------------------------------------------------------------------

    def _on_begin(self, step: Send) -> None:
        if step.attempt in self._over:
            return
        dispatch = self.dispatch
        dispatch.on_content(step.attempt, self.now)
        if not dispatch.walk.facts.stream:
            return
        if not dispatch.on_commit(step.attempt, self.now):
            self._over.add(step.attempt)
            return
        for other in self._sends:
            if other != step.attempt:
                self._over.add(other)
        words = "its answer begins to go out" if step.join is None else "the answer is continued, if the join is proven"
        self.say("begin", step.target.name, words)
        if step.join is not None:
            dispatch.transcript.joins.append(step.join)
        dispatch.transcript.add(StreamEvent(text="so many words "))

    def _on_verdict(self, step: Send, failure: Failure | None) -> None:
        if step.attempt in self._over:
            return
        self._over.add(step.attempt)
        if failure is None:
            self.say("end", step.target.name, "answers")
            self.dispatch.on_verdict(step.attempt, Accepted(), self.now)
        else:
            self.say("fail", step.target.name, _words(failure))
            self.dispatch.on_verdict(step.attempt, Rejected(failure=failure), self.now)


def explain(
    dispatch: Dispatch, assumptions: Sequence[Assumption], provider_of: Callable[[Target], Provider], now: float
) -> Course:
    """Plays the walk of `dispatch`, made at `now`, to its end. Of several assumptions about a target the first holds;
    one of which nothing is assumed answers."""
    played = _Explained(dispatch, assumptions, provider_of, now)
    end = played.play()
    course = Course(
        status=200,
        lines=tuple(played.lines),
        seconds=round(played.now - now, 3),
        fallbacks=dispatch.fallbacks,
        calls=dispatch.calls,
    )
    if isinstance(end, GiveUp):
        return msgspec.structs.replace(course, status=end.status, code=end.code, message=end.message)
    served = next(record.target for record in dispatch.records if record.number == end.attempt)
    return msgspec.structs.replace(course, served=served)


def _words(failure: Failure) -> str:
    status = f" ({failure.status})" if failure.status else ""
    detail = f": {failure.detail}" if failure.detail else ""
    wait = "" if failure.retry_after is None else f", back in {failure.retry_after:g} s"
    return f"{failure.reason}{status}{detail}{wait}"
