"""Reads the answers of Cohere's chat (v2), whole or streamed, into the canonical exchange.

Decides what content, plans, finish reasons and counts mean. It must not know what errors are worth: an error inside an
answer is handed to the `ErrorReader` that the caller brings. Requests are written in `cohere_request.py`.

A stream is complete when `message-end` has come, which has the finish reason and the usage; `[DONE]` comes behind it,
behind a generation that failed as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from crossfade.core.exchange import Choice, Completion, Finish, StreamEvent, ToolCall, Usage
from crossfade.core.failure import Failure, FailureReason
from crossfade.wire.bounds import whole
from crossfade.wire.open_calls import OpenCalls
from crossfade.wire.reader import Framing
from crossfade.wire.sse import MAX_EVENT, SSE, EventSplitter, fields_of

ErrorReader = Callable[[bytes], Failure]
"""Gives the failure that a JSON body, or the end of a generation, with an error in it stands for."""

FINISHES: Final[Mapping[str, Finish]] = MappingProxyType(
    {
        "COMPLETE": Finish.STOP,
        "STOP_SEQUENCE": Finish.STOP,
        "MAX_TOKENS": Finish.LENGTH,
        "TOOL_CALL": Finish.TOOL_CALLS,
        "ERROR_TOXIC": Finish.CONTENT_FILTER,
    }
)
"""Finish reasons with a meaning of their own (cohere-python, `types/chat_finish_reason.py`; `ERROR_TOXIC` is one of the
API before, `types/finish_reason.py`). A `COMPLETE` after tool calls is `tool_calls`; words that are not here are a stop
if there is content and an empty output if not."""

FAILED: Final = frozenset({"ERROR", "TIMEOUT"})
"""Finish reasons of generations that failed; beside `ERROR` stands what failed."""

_UNDECODABLE: Final = (ValueError, RecursionError)  # msgspec's errors are ValueErrors; so are broken UTF-8 and numbers
_OTHER_FIELDS: Final = (b"event:", b"id:", b"retry:", b":")


# --- the wire's own shapes -----------------------------------------------------------------------------------


class _Piece(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct, gc=False):
    id: str | None = None
    function: _Function | None = None


class _Message(msgspec.Struct, gc=False):
    """A message of a whole answer, and of the events of a stream: there each list is one of its members."""

    content: list[_Piece] | _Piece | None = None
    tool_plan: str | None = None
    tool_calls: list[_Call] | _Call | None = None
    citations: list[Any] | dict[str, Any] | None = None


class _Counts(msgspec.Struct, gc=False):
    input_tokens: float | None = None
    output_tokens: float | None = None
    reasoning_tokens: float | None = None
    image_tokens: float | None = None


class _Usage(msgspec.Struct, gc=False):
    tokens: _Counts | None = None
    billed_units: _Counts | None = None
    cached_tokens: float | None = None

    def canonical(self) -> Usage | None:
        """Tokens as the model had them; what is billed leaves Cohere's own instructions out. None where none came."""
        counts = self.tokens or self.billed_units
        if counts is None:
            return None
        prompt, images = whole(counts.input_tokens), whole(counts.image_tokens)
        return Usage(
            prompt=prompt + images if images > prompt else prompt,  # some models count images apart
            completion=whole(counts.output_tokens),
            cached=whole(self.cached_tokens),
            reasoning=whole(counts.reasoning_tokens),
        )


class _Answer(msgspec.Struct, gc=False):
    """`message` is a text where the body is an error."""

    id: str | None = None
    message: _Message | str | None = None
    finish_reason: str | None = None
    usage: _Usage | None = None
    error: Any = None


class _Delta(msgspec.Struct, gc=False):
    message: _Message | None = None
    finish_reason: str | None = None
    usage: _Usage | None = None


class _Event(msgspec.Struct, gc=False):
    """Every event in one struct: a tagged union would refuse the types that are not known yet."""

    type: str | None = None
    id: str | None = None
    index: int = 0
    delta: _Delta | None = None
    message: Any = None
    error: Any = None


class _Ending(msgspec.Struct, gc=False):
    """The end of a stream again, for what failed there."""

    delta: msgspec.Raw = msgspec.Raw(b"{}")


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_ending = msgspec.json.Decoder(_Ending).decode


# --- what is common to whole answers and streams -------------------------------------------------------------


def _ending(word: str, *, has_calls: bool, has_content: bool) -> Finish | Failure:
    """What a finish reason amounts to, but for those of `FAILED`. `has_content` does not count reasoning."""
    finish = FINISHES.get(word)
    if finish is None:
        if not has_content:
            return Failure(reason=FailureReason.EMPTY_OUTPUT, detail="no content and an unknown finish reason")
        finish = Finish.STOP
    return Finish.TOOL_CALLS if finish is Finish.STOP and has_calls else finish


def _failed(word: str, said: bytes, on_error: ErrorReader) -> Failure:
    """The failure of a generation, by what is said beside its finish reason."""
    if word == "TIMEOUT":
        return Failure(reason=FailureReason.SERVER_ERROR, code=word, detail="finish reason TIMEOUT")
    return on_error(said)


def _malformed(detail: str) -> Failure:
    return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail=detail)


# --- whole answers -------------------------------------------------------------------------------------------


def read_completion(
    body: bytes, on_error: ErrorReader, names: Mapping[str, str] = MappingProxyType({})
) -> Completion | Failure:
    """A 2xx body; a Failure for an error in it, and for what is no answer. It does not name its model.

    `names` has the callers' own names of tools that were changed on the way.
    """
    try:
        answer = _decode_answer(body)
    except _UNDECODABLE:
        return _malformed("the body is no answer of Cohere's")
    if not isinstance(answer.message, _Message):
        return on_error(body) if answer.message or answer.error else _malformed("no message in the body")
    usage = answer.usage.canonical() if answer.usage is not None else None
    choice = _choice(answer.message, answer.finish_reason, body, on_error)
    choice.tool_calls = tuple([_call(call, names) for call in _all(answer.message.tool_calls)])
    return Completion(id=answer.id or "", choices=[choice], usage=usage)


def _all(calls: list[_Call] | _Call | None) -> list[_Call]:
    return calls if isinstance(calls, list) else []


def _choice(message: _Message, word: str | None, body: bytes, on_error: ErrorReader) -> Choice:
    choice = Choice(reasoning=message.tool_plan or "")
    for piece in message.content if isinstance(message.content, list) else ():
        choice.text += piece.text or ""
        choice.reasoning += piece.thinking or ""
    calls = _all(message.tool_calls)
    choice.has_other_content = bool(message.citations)
    if word is not None:
        has_content = bool(choice.text or calls or choice.has_other_content)
        ending: Finish | Failure
        if word in FAILED:
            ending = _failed(word, body, on_error)
        else:
            ending = _ending(word, has_calls=bool(calls), has_content=has_content)
        choice.raw_finish = word
        choice.stopped_by_sequence = word == "STOP_SEQUENCE"
        if isinstance(ending, Failure):
            choice.failure = ending
        else:
            choice.finish = ending
    return choice


def _call(call: _Call, names: Mapping[str, str]) -> ToolCall:
    function = call.function or _Function()
    name = function.name or ""
    return ToolCall(call.id or "", names.get(name, name), function.arguments or "{}")


# --- streams -------------------------------------------------------------------------------------------------


class CohereReader:
    """Reads one stream of a chat. See `wire.reader.StreamReader` for the contract.

    Thoughts and the plan of what tools are for are reasoning; a plan has no end of its own, and ends where something
    else begins. A call without arguments has `{}` when it ends.
    """

    def __init__(self, on_error: ErrorReader, names: Mapping[str, str] = MappingProxyType({})) -> None:
        self._on_error = on_error
        self._names = names
        self._splitter = EventSplitter()
        self._calls = OpenCalls()
        self._thoughts: set[int] = set()  # open thoughts by their index
        self._is_planning = False
        self._has_content = False
        self._has_finish = False
        self._is_broken = False
        self.undecodable = 0

    def __repr__(self) -> str:
        state = "broken" if self._is_broken else "complete" if self.is_complete else "open"
        return f"<CohereReader {state}, {self._calls.count} calls, {self.undecodable} undecodable>"

    @property
    def framing(self) -> Framing:
        return SSE

    @property
    def is_complete(self) -> bool:
        """Whether the generation has ended, and well."""
        return self._has_finish and not self._is_broken

    def feed(self, data: bytes) -> Sequence[StreamEvent]:
        """The events that `data` completes."""
        out: list[StreamEvent] = []
        for event in self._splitter.feed(data):
            self._event(event, out)
        if self._splitter.is_overlong and not self._is_broken:
            self._is_broken = True
            out.append(StreamEvent(failure=_malformed(f"an event of more than {MAX_EVENT} bytes")))
        return out

    def more_text(self, data: bytes) -> None:
        """Nothing is passed on as it came, so there is no short way."""

    def close(self) -> Sequence[StreamEvent]:
        """What a last event without its blank line holds."""
        out: list[StreamEvent] = []
        if rest := self._splitter.rest():
            self._event(rest, out)
        return out

    def _event(self, raw: bytes, out: list[StreamEvent]) -> None:
        if self._is_broken:
            return
        name, data = fields_of(raw)
        if data == b"[DONE]":
            out.append(StreamEvent(is_end=True))
            return
        if not data and raw.startswith(_OTHER_FIELDS):
            return
        try:
            event = _decode_event(data)
        except _UNDECODABLE:
            self.undecodable += 1
            return
        if event.error or (event.message and event.type is None):
            self._is_broken = True
            out.append(StreamEvent(failure=self._on_error(data)))
        elif event.delta is not None and event.delta.finish_reason is not None:
            out.append(self._on_end(event.delta, event.delta.finish_reason, data))
        else:
            out.append(self._on_event(event.type or name, event))

    @property
    def _in_block(self) -> bool:
        return bool(self._calls or self._thoughts) or self._is_planning

    def _on_event(self, kind: str, event: _Event) -> StreamEvent:
        message = event.delta.message if event.delta is not None else None
        if kind == "tool-plan-delta":
            return self._on_plan(message)
        if kind in ("content-start", "content-delta"):
            piece = message.content if message is not None else None
            if isinstance(piece, _Piece):
                return self._on_piece(event.index, piece)
        elif kind in ("tool-call-start", "tool-call-delta"):
            call = message.tool_calls if message is not None else None
            if isinstance(call, _Call):
                is_start = kind == "tool-call-start"
                return self._on_call(event.index, call) if is_start else self._on_arguments(event.index, call)
        elif kind == "content-end":
            self._thoughts.discard(event.index)
        elif kind == "tool-call-end":
            return self._on_call_end(event.index)
        elif kind == "citation-start":
            self._has_content = True
            return StreamEvent(has_other_content=True, in_block=self._in_block)
        elif kind == "message-start":
            return StreamEvent(id=event.id or "")
        return StreamEvent(in_block=self._in_block)  # types that are not known yet

    def _on_plan(self, message: _Message | None) -> StreamEvent:
        plan = (message.tool_plan if message is not None else None) or ""
        begins = not self._is_planning
        self._is_planning = True
        return StreamEvent(reasoning=plan, is_open=begins, in_block=True)

    def _on_piece(self, index: int, piece: _Piece) -> StreamEvent:
        self._is_planning = False
        if piece.thinking is not None:
            begins = index not in self._thoughts
            self._thoughts.add(index)
            return StreamEvent(reasoning=piece.thinking, is_open=begins, in_block=True)
        text = piece.text or ""
        self._has_content = self._has_content or bool(text)
        return StreamEvent(text=text, in_block=self._in_block)

    def _on_call(self, index: int, call: _Call) -> StreamEvent:
        self._is_planning = False
        function = call.function or _Function()
        self._has_content = True
        name = function.name or ""
        opened = self._calls.begin(index, call.id or "", self._names.get(name, name), function.arguments or "")
        return StreamEvent(tools=(opened,), is_open=True, in_block=True)

    def _on_arguments(self, index: int, call: _Call) -> StreamEvent:
        piece = (call.function.arguments if call.function is not None else None) or ""
        deltas = self._calls.piece(index, piece)
        if deltas is None:  # the start of the call is missing
            self.undecodable += 1
            return StreamEvent(has_other_content=bool(piece), in_block=self._in_block)
        return StreamEvent(tools=deltas, in_block=True)

    def _on_call_end(self, index: int) -> StreamEvent:
        tools = self._calls.end(index)
        return StreamEvent(tools=tools, in_block=self._in_block)

    def _on_end(self, delta: _Delta, word: str, data: bytes) -> StreamEvent:
        usage = delta.usage.canonical() if delta.usage is not None else None
        if word in FAILED:
            self._is_broken = True
            failure = _failed(word, bytes(_decode_ending(data).delta), self._on_error)
            return StreamEvent(raw_finish=word, failure=failure, usage=usage)
        self._has_finish = True
        ending = _ending(word, has_calls=self._calls.count > 0, has_content=self._has_content)
        if isinstance(ending, Failure):
            return StreamEvent(raw_finish=word, failure=ending, usage=usage)
        return StreamEvent(raw_finish=word, finish=ending, stopped_by_sequence=word == "STOP_SEQUENCE", usage=usage)
