"""Reads the answers of Ollama's own chat, whole or streamed, into the canonical exchange.

Decides what content, thoughts, calls, reasons and counts mean. It must not know what errors are worth: an error inside
an answer is handed to the `ErrorReader` that the caller brings. Requests are written in `ollama_request.py`.

A stream is complete with the line that says `done`; it has the reason and the counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from crossfade.core.exchange import Choice, Completion, Finish, StreamEvent, ToolCall, ToolDelta, Usage
from crossfade.core.failure import Failure, FailureReason
from crossfade.wire.bounds import whole
from crossfade.wire.ndjson import NDJSON, LineSplitter
from crossfade.wire.open_calls import made_id
from crossfade.wire.reader import Framing
from crossfade.wire.sse import MAX_EVENT

ErrorReader = Callable[[bytes], Failure]
"""Gives the failure that a JSON body, or a line, with an error in it stands for."""

FINISHES: Final[Mapping[str, Finish]] = MappingProxyType({"stop": Finish.STOP, "length": Finish.LENGTH})
"""Reasons with a meaning of their own (ollama/ollama, docs/api.md). A `stop` after calls is `tool_calls`; words that
are not here are a stop if there is content and an empty output if not."""

IDLE: Final = frozenset({"load", "unload"})
"""Reasons of answers that say no more than that the model was loaded, or was not."""

_UNDECODABLE: Final = (ValueError, RecursionError)


# --- the wire's own shapes -----------------------------------------------------------------------------------


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: msgspec.Raw = msgspec.Raw(b"")


class _Call(msgspec.Struct, gc=False):
    id: str | None = None
    function: _Function | None = None


class _Message(msgspec.Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Answer(msgspec.Struct, gc=False):
    """A whole answer, or one line of a streamed one."""

    model: str | None = None
    created_at: str | None = None
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: float | None = None
    eval_count: float | None = None
    error: Any = None

    def usage(self) -> Usage | None:
        """None where nothing was counted."""
        if self.prompt_eval_count is None and self.eval_count is None:
            return None
        return Usage(prompt=whole(self.prompt_eval_count), completion=whole(self.eval_count))


_decode: Final = msgspec.json.Decoder(_Answer).decode


def _ending(word: str, *, has_calls: bool, has_content: bool) -> Finish | Failure:
    """What a reason amounts to. `has_content` does not count reasoning."""
    if word in IDLE:
        return Failure(reason=FailureReason.EMPTY_OUTPUT, detail=f"no answer, but the reason {word!r}")
    finish = FINISHES.get(word)
    if finish is None:
        if not has_content:
            return Failure(reason=FailureReason.EMPTY_OUTPUT, detail="no content and an unknown reason of the end")
        finish = Finish.STOP
    return Finish.TOOL_CALLS if finish is Finish.STOP and has_calls else finish


def _arguments(function: _Function) -> str:
    """The arguments as compact JSON text, digits untouched; `{}` where none came. A text there is what the model wrote,
    and could not be read."""
    text = bytes(function.arguments)
    if text[:1] == b'"':
        return str(msgspec.json.decode(text))
    return "{}" if text in (b"", b"null") else msgspec.json.format(text, indent=-1).decode()


def _read_call(answer: _Answer, call: _Call, number: int) -> ToolCall:
    function = call.function or _Function()
    name, arguments = function.name or "", _arguments(function)
    call_id = call.id or made_id(10, answer.model, answer.created_at, number, name, arguments)
    return ToolCall(call_id, name, arguments)


def _malformed(detail: str) -> Failure:
    return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail=detail)


# --- whole answers -------------------------------------------------------------------------------------------


def read_completion(body: bytes, on_error: ErrorReader) -> Completion | Failure:
    """A 2xx body; a Failure for an error in it, and for what is no answer. Answers have no id."""
    try:
        answer = _decode(body)
    except _UNDECODABLE:
        return _malformed("the body is no answer of Ollama's")
    if answer.error:
        return on_error(body)
    message = answer.message
    if message is None:
        return _malformed("no message in the body")
    calls = [_read_call(answer, call, number) for number, call in enumerate(message.tool_calls or ())]
    choice = Choice(text=message.content or "", reasoning=message.thinking or "", tool_calls=tuple(calls))
    if answer.done:
        word = answer.done_reason or "stop"  # which older servers leave out
        ending = _ending(word, has_calls=bool(calls), has_content=bool(choice.text or calls))
        choice.raw_finish = word
        if isinstance(ending, Failure):
            choice.failure = ending
        else:
            choice.finish = ending
    return Completion(model=answer.model or "", choices=[choice], usage=answer.usage())


# --- streams -------------------------------------------------------------------------------------------------


class OllamaReader:
    """Reads one stream of a chat. See `wire.reader.StreamReader` for the contract. Calls come whole."""

    def __init__(self, on_error: ErrorReader) -> None:
        self._on_error = on_error
        self._splitter = LineSplitter()
        self._calls = 0
        self._has_content = False
        self._has_finish = False
        self._is_broken = False
        self.undecodable = 0

    def __repr__(self) -> str:
        state = "broken" if self._is_broken else "complete" if self.is_complete else "open"
        return f"<OllamaReader {state}, {self._calls} calls, {self.undecodable} undecodable>"

    @property
    def framing(self) -> Framing:
        return NDJSON

    @property
    def is_complete(self) -> bool:
        """Whether the generation has ended, and well."""
        return self._has_finish and not self._is_broken

    def feed(self, data: bytes) -> Sequence[StreamEvent]:
        """The events that `data` completes."""
        out: list[StreamEvent] = []
        for line in self._splitter.feed(data):
            self._line(line, out)
        if self._splitter.is_overlong and not self._is_broken:
            self._is_broken = True
            out.append(StreamEvent(failure=_malformed(f"a line of more than {MAX_EVENT} bytes")))
        return out

    def more_text(self, data: bytes) -> None:
        """Nothing is passed on as it came, so there is no short way."""

    def close(self) -> Sequence[StreamEvent]:
        """What a last line without its end holds."""
        out: list[StreamEvent] = []
        if rest := self._splitter.rest():
            self._line(rest, out)
        return out

    def _line(self, line: bytes, out: list[StreamEvent]) -> None:
        if self._is_broken:
            return
        try:
            answer = _decode(line)
        except _UNDECODABLE:
            self.undecodable += 1
            return
        if answer.error:
            self._is_broken = True
            out.append(StreamEvent(failure=self._on_error(line)))
        else:
            self._answer(answer, out)

    def _answer(self, answer: _Answer, out: list[StreamEvent]) -> None:
        message = answer.message or _Message()
        event = StreamEvent(text=message.content or "", reasoning=message.thinking or "", model=answer.model or "")
        if message.tool_calls:
            event.tools = tuple([self._call(answer, call) for call in message.tool_calls])
        self._has_content = self._has_content or bool(event.text or event.tools)
        if answer.done:
            self._has_finish = True
            word = answer.done_reason or "stop"
            ending = _ending(word, has_calls=bool(self._calls), has_content=self._has_content)
            event.raw_finish = word
            event.usage = answer.usage()
            if isinstance(ending, Failure):
                event.failure = ending
            else:
                event.finish = ending
        out.append(event)
        if answer.done:
            out.append(StreamEvent(is_end=True))

    def _call(self, answer: _Answer, call: _Call) -> ToolDelta:
        read = _read_call(answer, call, self._calls)
        delta = ToolDelta(index=self._calls, id=read.id, name=read.name, arguments=read.arguments)
        self._calls += 1
        return delta
