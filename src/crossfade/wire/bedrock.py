"""Reads the answers of Bedrock's Converse and ConverseStream into the canonical exchange.

Decides what content blocks, stop reasons and counts mean. It must not know what errors are worth: an exception inside a
stream is handed to the `ExceptionReader` that the caller brings. Requests are written in `bedrock_request.py`.

A stream is complete when `messageStop` has come with its reason; `metadata`, which has the usage, comes behind it and
is the last event.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from crossfade.core.exchange import Choice, Completion, Finish, StreamEvent, ToolCall, Usage
from crossfade.core.failure import Failure, FailureReason
from crossfade.wire.bounds import whole
from crossfade.wire.framed import ExceptionReader, FramedReader
from crossfade.wire.open_calls import OpenCalls

FINISHES: Final[Mapping[str, Finish]] = MappingProxyType(
    {
        "end_turn": Finish.STOP,
        "stop_sequence": Finish.STOP,
        "tool_use": Finish.TOOL_CALLS,
        "max_tokens": Finish.LENGTH,
        "model_context_window_exceeded": Finish.LENGTH,
        "guardrail_intervened": Finish.CONTENT_FILTER,
        "content_filtered": Finish.CONTENT_FILTER,
    }
)
"""Stop reasons with a meaning of their own. An `end_turn` after tool calls is `tool_calls`; words that are not here and
not in `BROKEN` are a stop if there is content and an empty output if not."""

BROKEN: Final[Mapping[str, FailureReason]] = MappingProxyType(
    {
        "malformed_model_output": FailureReason.MALFORMED_OUTPUT,
        "malformed_tool_use": FailureReason.INVALID_TOOL_CALL,
    }
)
"""Stop reasons that say that what the model wrote cannot be used."""

_NOTHING: Final = msgspec.Raw()
_EMPTY: Final = (b"", b"null", b"{}", b"[]")
_UNDECODABLE: Final = (ValueError, RecursionError)  # msgspec's errors are ValueErrors; so are broken UTF-8 and numbers


def _is_given(value: msgspec.Raw) -> bool:
    return bytes(value) not in _EMPTY


# --- the wire's own shapes -----------------------------------------------------------------------------------


class _Shape(msgspec.Struct, rename="camel", gc=False):
    """The API's names are camelCase."""


class _ToolUse(_Shape):
    tool_use_id: str | None = None
    name: str | None = None
    input: msgspec.Raw = _NOTHING


class _Thought(_Shape):
    text: str | None = None


class _Reasoning(_Shape):
    reasoning_text: _Thought | None = None


class _Cited(_Shape):
    text: str | None = None


class _Citations(_Shape):
    content: list[_Cited] | None = None
    citations: msgspec.Raw = _NOTHING


class _Block(_Shape):
    text: str | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning | None = None
    citations_content: _Citations | None = None
    image: msgspec.Raw = _NOTHING
    audio: msgspec.Raw = _NOTHING
    video: msgspec.Raw = _NOTHING
    document: msgspec.Raw = _NOTHING
    tool_result: msgspec.Raw = _NOTHING

    @property
    def is_other(self) -> bool:
        """Whether it is content that the canonical answer has no field for."""
        others = (self.image, self.audio, self.video, self.document, self.tool_result)
        return any(_is_given(value) for value in others)


class _Message(_Shape):
    content: list[_Block] | None = None


class _Output(_Shape):
    message: _Message | None = None


class _Usage(_Shape):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None

    def canonical(self) -> Usage:
        cached, written = whole(self.cache_read_input_tokens), whole(self.cache_write_input_tokens)
        return Usage(
            prompt=whole(self.input_tokens) + cached + written,
            completion=whole(self.output_tokens),
            cached=cached,
            cache_write=written,
        )


class _Answer(_Shape):
    output: _Output | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None


class _Start(_Shape):
    tool_use: _ToolUse | None = None
    tool_result: msgspec.Raw = _NOTHING
    image: msgspec.Raw = _NOTHING


class _ToolInput(_Shape):
    input: str | None = None


class _Delta(_Shape):
    text: str | None = None
    tool_use: _ToolInput | None = None
    reasoning_content: _Thought | None = None
    citation: msgspec.Raw = _NOTHING
    tool_result: msgspec.Raw = _NOTHING
    image: msgspec.Raw = _NOTHING


class _Event(_Shape):
    """Every event in one struct; the frame says which it is."""

    content_block_index: int = 0
    start: _Start | None = None
    delta: _Delta | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_event = msgspec.json.Decoder(_Event).decode


# --- what is common to whole answers and streams -------------------------------------------------------------


def _ending(word: str, *, has_calls: bool, has_content: bool) -> Finish | Failure:
    """What a stop reason amounts to, given what came before it. `has_content` does not count reasoning."""
    if (reason := BROKEN.get(word)) is not None:
        return Failure(reason=reason, code=word, detail=f"stop reason {word}")
    finish = FINISHES.get(word)
    if finish is None:
        if not has_content:
            return Failure(reason=FailureReason.EMPTY_OUTPUT, detail="no content and an unknown stop reason")
        finish = Finish.STOP
    return Finish.TOOL_CALLS if finish is Finish.STOP and has_calls else finish


def _malformed(detail: str) -> Failure:
    return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail=detail)


# --- whole answers -------------------------------------------------------------------------------------------


def read_completion(body: bytes, read_exception: ExceptionReader) -> Completion | Failure:
    """A 2xx body; a Failure for an error in it, and for what is no answer. It names neither itself nor its model."""
    try:
        answer = _decode_answer(body)
    except _UNDECODABLE:
        return _malformed("the body is no Converse answer")
    if answer.output is None or answer.output.message is None:
        return read_exception("", body) if is_error(body) else _malformed("no output in the body")
    choice = _choice(answer.output.message.content or [], answer.stop_reason)
    return Completion(choices=[choice], usage=answer.usage.canonical() if answer.usage else None)


def is_error(body: bytes) -> bool:
    """Whether a JSON body is an error, in AWS's shape or in that of a server before it."""
    try:
        value = msgspec.json.decode(body)
    except _UNDECODABLE:  # in a member that is not looked at otherwise
        return False
    return isinstance(value, dict) and any(value.get(name) for name in ("message", "Message", "__type", "error"))


def _choice(blocks: list[_Block], word: str | None) -> Choice:
    choice = Choice()
    calls: list[ToolCall] = []
    for block in blocks:
        if block.text:
            choice.text += block.text
        elif (call := block.tool_use) is not None:
            calls.append(ToolCall(call.tool_use_id or "", call.name or "", _arguments(call.input)))
        elif (thought := block.reasoning_content) is not None:
            choice.reasoning += (thought.reasoning_text.text or "") if thought.reasoning_text else ""
        elif (cited := block.citations_content) is not None:
            choice.text += "".join(part.text or "" for part in cited.content or ())
            choice.has_other_content = choice.has_other_content or _is_given(cited.citations)
        elif block.is_other:
            choice.has_other_content = True
    choice.tool_calls = tuple(calls)
    if word is not None:
        has_content = bool(choice.text or calls or choice.has_other_content)
        ending = _ending(word, has_calls=bool(calls), has_content=has_content)
        choice.raw_finish = word
        choice.stopped_by_sequence = word == "stop_sequence"
        if isinstance(ending, Failure):
            choice.failure = ending
        else:
            choice.finish = ending
    return choice


def _arguments(value: msgspec.Raw) -> str:
    """A call's input as compact JSON text, digits untouched; `{}` where none came."""
    return msgspec.json.format(bytes(value), indent=-1).decode() if _is_given(value) else "{}"


# --- streams -------------------------------------------------------------------------------------------------


class ConverseReader(FramedReader):
    """Reads one ConverseStream. See `wire.reader.StreamReader` for the contract.

    Only blocks of tools announce themselves; text and reasoning begin with their first piece. A call without arguments
    brings no piece of JSON, and has `{}` when its block ends. Signatures and redacted reasoning keep their block open
    and are bound to the model that made them: nothing of them goes on.
    """

    def __init__(self, read_exception: ExceptionReader) -> None:
        super().__init__(read_exception)
        self._calls = OpenCalls()
        self._thinking: int | None = None  # the block of reasoning that is open
        self._has_content = False
        self._has_finish = False

    def __repr__(self) -> str:
        state = "broken" if self._is_broken else "complete" if self.is_complete else "open"
        return f"<{type(self).__name__} {state}, {self._calls.count} calls, {self.undecodable} undecodable>"

    @property
    def is_complete(self) -> bool:
        """Whether the stop reason has come, and no exception."""
        return self._has_finish and not self._is_broken

    def _event(self, kind: str, payload: bytes, out: list[StreamEvent]) -> None:
        try:
            event = _decode_event(payload)
        except _UNDECODABLE:
            self.undecodable += 1
            return
        if kind == "contentBlockDelta" and event.delta is not None:
            out.append(self._on_delta(event.content_block_index, event.delta))
        elif kind == "contentBlockStart" and event.start is not None:
            out.append(self._on_start(event.content_block_index, event.start))
        elif kind == "contentBlockStop":
            out.append(self._on_stop(event.content_block_index))
        elif kind == "messageStop" and event.stop_reason is not None:
            out.append(self._on_finish(event.stop_reason))
        elif kind == "metadata":
            out.append(StreamEvent(usage=event.usage.canonical() if event.usage else None))
            if self._has_finish:
                out.append(StreamEvent(is_end=True))  # an end is written anew, and would take the usage with it
        else:
            out.append(StreamEvent(in_block=self._in_block))  # messageStart, and types that are not known yet

    @property
    def _in_block(self) -> bool:
        return bool(self._calls) or self._thinking is not None

    def _on_start(self, index: int, start: _Start) -> StreamEvent:
        call = start.tool_use
        if call is None:
            is_other = _is_given(start.tool_result) or _is_given(start.image)
            self._has_content = self._has_content or is_other
            return StreamEvent(has_other_content=is_other, in_block=self._in_block)
        self._has_content = True
        opened = self._calls.begin(index, call.tool_use_id or "", call.name or "")
        return StreamEvent(tools=(opened,), is_open=True, in_block=True)

    def _on_delta(self, index: int, delta: _Delta) -> StreamEvent:
        if delta.text is not None:
            self._has_content = self._has_content or bool(delta.text)
            return StreamEvent(text=delta.text, in_block=self._in_block)
        if delta.tool_use is not None:
            return self._on_arguments(index, delta.tool_use.input or "")
        if delta.reasoning_content is not None:
            begins = self._thinking != index
            self._thinking = index
            return StreamEvent(reasoning=delta.reasoning_content.text or "", is_open=begins, in_block=True)
        is_other = _is_given(delta.citation) or _is_given(delta.tool_result) or _is_given(delta.image)
        self._has_content = self._has_content or is_other
        return StreamEvent(has_other_content=is_other, in_block=self._in_block)

    def _on_arguments(self, index: int, piece: str) -> StreamEvent:
        deltas = self._calls.piece(index, piece)
        if deltas is None:  # the start of its block is missing
            self.undecodable += 1
            return StreamEvent(has_other_content=bool(piece), in_block=self._in_block)
        return StreamEvent(tools=deltas, in_block=True)

    def _on_stop(self, index: int) -> StreamEvent:
        tools = self._calls.end(index)
        if self._thinking == index:
            self._thinking = None
        return StreamEvent(tools=tools, in_block=self._in_block)

    def _on_finish(self, word: str) -> StreamEvent:
        self._has_finish = True
        ending = _ending(word, has_calls=self._calls.count > 0, has_content=self._has_content)
        if isinstance(ending, Failure):
            return StreamEvent(raw_finish=word, failure=ending)
        return StreamEvent(raw_finish=word, finish=ending, stopped_by_sequence=word == "stop_sequence")
