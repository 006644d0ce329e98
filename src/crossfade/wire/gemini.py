"""Reads Gemini's answers, whole or streamed, into the canonical exchange.

Decides what Gemini's parts, finish reasons and counts mean. It must not know which errors are worth what: an error
inside an answer is handed to the `ErrorReader` that the caller brings. Requests are written in `gemini_request.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from crossfade.core.exchange import Choice, Completion, Finish, RequestFacts, StreamEvent, ToolCall, ToolDelta, Usage
from crossfade.core.failure import Failure, FailureReason
from crossfade.wire.bounds import whole
from crossfade.wire.gemini_array import ArraySplitter
from crossfade.wire.gemini_shapes import NOTHING, Answer, Call, Candidate, Part, WireUsage
from crossfade.wire.reader import Framing
from crossfade.wire.sse import MAX_EVENT, SSE, EventSplitter, fields_of
from crossfade.wire.tool_calls import arguments_text, made_call_id

ErrorReader = Callable[[bytes], Failure]
"""Gives the failure that a JSON body with an `error` in it stands for."""

FINISHES: Final[Mapping[str, Finish]] = MappingProxyType(
    {
        "STOP": Finish.STOP,
        "MAX_TOKENS": Finish.LENGTH,
        "SAFETY": Finish.CONTENT_FILTER,
        "RECITATION": Finish.CONTENT_FILTER,
        "LANGUAGE": Finish.CONTENT_FILTER,
        "BLOCKLIST": Finish.CONTENT_FILTER,
        "PROHIBITED_CONTENT": Finish.CONTENT_FILTER,
        "SPII": Finish.CONTENT_FILTER,
        "MODEL_ARMOR": Finish.CONTENT_FILTER,
        "IMAGE_SAFETY": Finish.CONTENT_FILTER,
        "IMAGE_PROHIBITED_CONTENT": Finish.CONTENT_FILTER,
        "IMAGE_RECITATION": Finish.CONTENT_FILTER,
        "IMAGE_OTHER": Finish.CONTENT_FILTER,
    }
)
"""Finish reasons with a meaning of their own. A STOP after function calls is `tool_calls`; words that are not here
(OTHER, FINISH_REASON_UNSPECIFIED, new ones) are a stop if there is content and an empty output if not."""

BROKEN_CALLS: Final = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"})
"""Finish reasons that say that the model's tool call cannot be used."""

_NUMBERED: Final = ("FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER")
"""The numbers of integer enums that mean the same in the Gemini API and on Vertex; the two part ways after these."""

_WORD: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII)


_decoder = msgspec.json.Decoder(Answer)
_EMPTY: Final = (b"", b"null", b"{}", b"[]")
_OTHER_FIELDS: Final = (b"event:", b"id:", b"retry:", b":")
_UNDECODABLE: Final = (ValueError, RecursionError)  # msgspec's errors are ValueErrors; so are broken UTF-8 and numbers


# --- what is common to whole answers and chunks --------------------------------------------------------------


def _is_given(value: msgspec.Raw) -> bool:
    return value is not NOTHING and bytes(value) not in _EMPTY


def _blocked(answer: Answer) -> str | None:
    """`BLOCKED:` and the reason, where the prompt itself was refused."""
    if answer.candidates or answer.prompt_feedback is None or not answer.prompt_feedback.block_reason:
        return None
    return f"BLOCKED:{answer.prompt_feedback.block_reason}"


def _parts(candidate: Candidate) -> Sequence[Part]:
    return (candidate.content.parts or ()) if candidate.content is not None else ()


def _has_sources(candidate: Candidate) -> bool:
    return _is_given(candidate.citation_metadata) or _is_given(candidate.grounding_metadata)


def _is_other(part: Part) -> bool:
    """Whether it is content that the canonical answer has no field for."""
    return (
        _is_given(part.inline_data)
        or _is_given(part.file_data)
        or _is_given(part.executable_code)
        or _is_given(part.code_execution_result)
    )


def _usage(given: WireUsage | None) -> Usage | None:
    if given is None:
        return None
    thoughts = whole(given.thoughts_token_count)
    return Usage(
        prompt=whole(given.prompt_token_count) + whole(given.tool_use_prompt_token_count),
        completion=whole(given.candidates_token_count) + thoughts,
        cached=whole(given.cached_content_token_count),
        reasoning=thoughts,
    )


def _arguments(call: Call) -> str:
    """The arguments as compact JSON text; "{}" where none came."""
    return arguments_text(bytes(call.args)) if call.args is not NOTHING else "{}"


def _call_id(answer: Answer, choice: int, number: int, name: str, arguments: str) -> str:
    """An id for a call that came without one, made of the answer's `responseId`; where that is missing, of its time and
    prompt length."""
    source = answer.response_id
    if not source:
        usage = answer.usage_metadata
        source = f"{answer.create_time}/{usage.prompt_token_count if usage is not None else None}"
    return made_call_id(12, source, choice, number, name, arguments)


def _word(reason: str | int) -> str:
    if isinstance(reason, int):
        return _NUMBERED[reason] if 0 <= reason < len(_NUMBERED) else f"FINISH_REASON_{reason}"
    return reason


def _ending(word: str, *, has_calls: bool, has_content: bool) -> Finish | Failure:
    """What a finish reason amounts to, given what came before it. `has_content` does not count thoughts."""
    finish = FINISHES.get(word)
    if finish is None:
        code = word if _WORD.fullmatch(word) else None
        if word in BROKEN_CALLS:
            return Failure(reason=FailureReason.INVALID_TOOL_CALL, code=code, detail=f"finish reason {word}")
        if not has_content:
            detail = f"finish reason {code or 'unknown'} without content"
            return Failure(reason=FailureReason.EMPTY_OUTPUT, code=code, detail=detail)
        finish = Finish.STOP
    return Finish.TOOL_CALLS if finish is Finish.STOP and has_calls else finish


def _malformed(detail: str) -> Failure:
    return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail=detail)


# --- whole answers -------------------------------------------------------------------------------------------


def read_completion(body: bytes, on_error: ErrorReader) -> Completion | Failure:
    """The answer in a 2xx body. A blocked prompt is an answer with the finish `content_filter`.

    A Failure for an `error` in it, for what is no JSON of Gemini's, and where there are neither candidates nor a
    reason for their absence.
    """
    try:
        answer = _decoder.decode(body)
    except _UNDECODABLE:
        return _malformed("the body is no Gemini answer")
    if _is_given(answer.error):
        return on_error(body)
    if blocked := _blocked(answer):
        choices = [Choice(finish=Finish.CONTENT_FILTER, raw_finish=blocked)]
    elif answer.candidates:
        choices = [_choice(answer, candidate, place) for place, candidate in enumerate(answer.candidates)]
    else:
        return _malformed("an answer without candidates")
    return Completion(
        id=answer.response_id or "",
        model=answer.model_version or "",
        choices=choices,
        usage=_usage(answer.usage_metadata),
    )


def _choice(answer: Answer, candidate: Candidate, place: int) -> Choice:
    choice = Choice(index=place if candidate.index is None else candidate.index)
    calls: list[ToolCall] = []
    for part in _parts(candidate):
        if (call := part.function_call) is not None:
            name, arguments = call.name or "", _arguments(call)
            call_id = call.id or _call_id(answer, choice.index, len(calls), name, arguments)
            calls.append(ToolCall(call_id, name, arguments))
        elif part.text:
            if part.thought:
                choice.reasoning += part.text
            else:
                choice.text += part.text
        elif _is_other(part):
            choice.has_other_content = True
    choice.tool_calls = tuple(calls)
    choice.has_other_content = choice.has_other_content or _has_sources(candidate)
    if candidate.finish_reason is not None:
        choice.raw_finish = _word(candidate.finish_reason)
        has_content = bool(choice.text or calls or choice.has_other_content)
        ending = _ending(choice.raw_finish, has_calls=bool(calls), has_content=has_content)
        if isinstance(ending, Failure):
            choice.failure = ending
        else:
            choice.finish = ending
    return choice


# --- streams -------------------------------------------------------------------------------------------------


class _Progress:
    """What came of one candidate so far."""

    __slots__ = ("calls", "has_content", "is_finished")

    def __init__(self) -> None:
        self.calls = 0
        self.has_content = False
        self.is_finished = False


class GeminiReader:
    """Reads a stream, as server-sent events or, as it comes without `alt=sse`, as a JSON array.

    Gemini sends no end marker: the stream is complete when every candidate has given its finish reason (or the
    prompt was blocked), and whether it is has to be asked when the body has ended. Function calls arrive whole and
    give one tool delta each. Runs of parts of one kind give one event, the finish reason an event of its own; the
    last event of a chunk has the usage so far, and thoughts leave their block open, since nothing marks its end.
    """

    def __init__(self, facts: RequestFacts, on_error: ErrorReader) -> None:
        self._expected = max(1, facts.n)
        self._on_error = on_error
        self._splitter: EventSplitter | ArraySplitter | None = None
        self._candidates: dict[int, _Progress] = {}
        self._is_blocked = False
        self._is_broken = False
        self.undecodable = 0

    def __repr__(self) -> str:
        state = "broken" if self._is_broken else "complete" if self.is_complete else "open"
        return f"<GeminiReader {state}, {len(self._candidates)} candidates, {self.undecodable} undecodable>"

    @property
    def framing(self) -> Framing:
        return SSE

    @property
    def is_complete(self) -> bool:
        """Whether the prompt was blocked or all candidates asked for have finished; never after a failure."""
        if self._is_broken:
            return False
        if self._is_blocked:
            return True
        found = self._candidates
        return len(found) >= self._expected and all(candidate.is_finished for candidate in found.values())

    def feed(self, data: bytes) -> Sequence[StreamEvent]:
        """The events that `data` completes."""
        splitter = self._splitter
        if splitter is None:
            data = data.lstrip()
            if not data:
                return ()
            splitter = self._splitter = ArraySplitter() if data[:1] in (b"[", b"{") else EventSplitter()
        out: list[StreamEvent] = []
        for event in splitter.feed(data):
            self._event(event, out)
        if splitter.is_overlong and not self._is_broken:
            self._is_broken = True
            out.append(StreamEvent(failure=_malformed(f"an event of more than {MAX_EVENT} bytes")))
        return out

    def more_text(self, data: bytes) -> None:
        """Nothing is passed on as it came, so there is no short way."""

    def close(self) -> Sequence[StreamEvent]:
        """What a last event without its blank line holds."""
        out: list[StreamEvent] = []
        if self._splitter is not None and (rest := self._splitter.rest()):
            self._event(rest, out)
        return out

    def _event(self, raw: bytes, out: list[StreamEvent]) -> None:
        if self._is_broken:
            return
        data = raw
        if isinstance(self._splitter, EventSplitter):
            data = fields_of(raw)[1]
            if data == b"[DONE]" or (not data and raw.startswith(_OTHER_FIELDS)):
                return  # Gemini sends neither, proxies may
        try:
            answer = _decoder.decode(data)
        except _UNDECODABLE:
            self.undecodable += 1
            return
        first = len(out)
        self._chunk(answer, data, out)
        if data is not raw:
            out[first].raw = raw

    def _chunk(self, answer: Answer, data: bytes, out: list[StreamEvent]) -> None:
        first = len(out)
        if _is_given(answer.error):
            self._is_broken = True
            out.append(StreamEvent(failure=self._on_error(data)))
        elif blocked := _blocked(answer):
            self._is_blocked = True
            out.append(StreamEvent(finish=Finish.CONTENT_FILTER, raw_finish=blocked))
        else:
            for place, candidate in enumerate(answer.candidates or ()):
                self._candidate(answer, candidate, place if candidate.index is None else candidate.index, out)
        if len(out) == first:
            out.append(StreamEvent())
        out[-1].usage = _usage(answer.usage_metadata)
        for event in out[first:]:
            event.id, event.model = answer.response_id or "", answer.model_version or ""

    def _candidate(self, answer: Answer, candidate: Candidate, choice: int, out: list[StreamEvent]) -> None:
        progress = self._candidates.get(choice)
        if progress is None:
            progress = self._candidates[choice] = _Progress()
        event: StreamEvent | None = None
        for part in _parts(candidate):
            piece = _piece(answer, part, choice, progress)
            if piece is not None and (event is None or not _join(event, piece)):
                out.append(event := piece)
        if _has_sources(candidate):
            progress.has_content = True
            if event is None:
                out.append(event := StreamEvent(choice=choice))
            event.has_other_content = True
        # Early models said STOP in every chunk: only what the latest chunk says can hold.
        progress.is_finished = candidate.finish_reason is not None
        if candidate.finish_reason is not None:
            out.append(_finish_event(candidate.finish_reason, choice, progress))


def _piece(answer: Answer, part: Part, choice: int, progress: _Progress) -> StreamEvent | None:
    """The event that one part stands for; None for a part without content (a bare signature)."""
    if (call := part.function_call) is not None:
        name, arguments = call.name or "", _arguments(call)
        call_id = call.id or _call_id(answer, choice, progress.calls, name, arguments)
        delta = ToolDelta(index=progress.calls, id=call_id, name=name, arguments=arguments)
        progress.calls += 1
        progress.has_content = True
        return StreamEvent(choice=choice, tools=(delta,))
    if part.text:
        if part.thought:
            return StreamEvent(choice=choice, reasoning=part.text, in_block=True)
        progress.has_content = True
        return StreamEvent(choice=choice, text=part.text)
    if _is_other(part):
        progress.has_content = True
        return StreamEvent(choice=choice, has_other_content=True)
    return None


def _join(event: StreamEvent, piece: StreamEvent) -> bool:
    """Adds a piece to the event before it if both are of one kind; whether it did."""
    if piece.text and event.text:
        event.text += piece.text
    elif piece.reasoning and event.reasoning:
        event.reasoning += piece.reasoning
    elif piece.tools and event.tools:
        event.tools += piece.tools
    else:
        return False
    return True


def _finish_event(reason: str | int, choice: int, progress: _Progress) -> StreamEvent:
    word = _word(reason)
    ending = _ending(word, has_calls=progress.calls > 0, has_content=progress.has_content)
    if isinstance(ending, Failure):
        return StreamEvent(choice=choice, raw_finish=word, failure=ending)
    return StreamEvent(choice=choice, raw_finish=word, finish=ending)
