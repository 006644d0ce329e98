"""Reads the answers of Ollama's own chat API, whole or streamed, into the canonical exchange.

Decides what content, finish reasons and counts mean. It must not know what errors are worth: an error inside an answer
is handed to the `ErrorReader` that the caller brings. Requests are written in `ollama_request.py`.

A stream is a JSON object on each line; it is complete when one has come that says `"done": true`, with the finish
reason and the counts. An error after the head is a line of its own, `{"error": "..."}`, and the last
(github.com/ollama/ollama, `docs/api/errors.mdx`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from crossfade.core.exchange import Choice, Completion, Finish, StreamEvent, ToolCall, ToolDelta, Usage
from crossfade.core.failure import Failure, FailureReason, Origin
from crossfade.wire.bounds import whole
from crossfade.wire.ndjson import NDJSON, LineSplitter
from crossfade.wire.reader import Framing
from crossfade.wire.sse import MAX_EVENT
from crossfade.wire.tool_calls import arguments_text, made_call_id

ErrorReader = Callable[[bytes], Failure]
"""Gives the failure that a JSON body with an `error` in it stands for."""

FINISHES: Final[Mapping[str, Finish]] = MappingProxyType({"stop": Finish.STOP, "length": Finish.LENGTH})
"""The words of `done_reason` for an answer. A `stop` after tool calls is `tool_calls`; words that are not here (`load`
and `unload` are of requests without any message) are a stop if there is content and an empty output if not."""

_UNDECODABLE: Final = (ValueError, RecursionError)  # msgspec's errors are ValueErrors; so are broken UTF-8 and numbers


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
    images: list[Any] | None = None


class _Answer(msgspec.Struct, gc=False):
    """A whole answer, and each line of a stream."""

    model: str | None = None
    created_at: str | None = None
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: float | None = None
    eval_count: float | None = None
    error: Any = None

    def usage(self) -> Usage | None:
        """The counts, which stand in the last line; None where none came. A prompt that was known is not counted by
        old versions."""
        if self.prompt_eval_count is None and self.eval_count is None:
            return None
        return Usage(prompt=whole(self.prompt_eval_count), completion=whole(self.eval_count))


_decode = msgspec.json.Decoder(_Answer).decode
_decode_text = msgspec.json.Decoder(str).decode


# --- what is common to whole answers and streams -------------------------------------------------------------


def _ending(word: str | None, *, has_calls: bool, has_content: bool) -> Finish | Failure:
    """What a `done_reason` amounts to; old versions give none. `has_content` does not count thinking."""
    finish = FINISHES.get(word or "stop")
    if finish is None:
        if not has_content:
            return Failure(reason=FailureReason.EMPTY_OUTPUT, detail="no content and an unknown finish reason")
        finish = Finish.STOP
    return Finish.TOOL_CALLS if finish is Finish.STOP and has_calls else finish


def _calls(answer: _Answer, first: int) -> tuple[ToolCall, ...]:
    """The calls, with ids of our making where they have none; the number of the first is `first`. Arguments in a string
    are taken as they are. Raises ValueError for those that are no UTF-8."""
    found: list[ToolCall] = []
    for call in (answer.message.tool_calls if answer.message is not None else None) or ():
        function = call.function or _Function()
        name, given = function.name or "", bytes(function.arguments)
        arguments = _decode_text(given) or "{}" if given[:1] == b'"' else arguments_text(given)
        source = f"{answer.created_at}/{answer.model}"
        call_id = call.id or made_call_id(10, source, 0, first + len(found), name, arguments)
        found.append(ToolCall(call_id, name, arguments))
    return tuple(found)


def _malformed(detail: str) -> Failure:
    return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail=detail)


# --- whole answers -------------------------------------------------------------------------------------------


def read_completion(body: bytes, on_error: ErrorReader) -> Completion | Failure:
    """A 2xx body; a Failure for an error in it, for what is no answer, and for one that says that it is not done."""
    try:
        answer = _decode(body)
        calls = _calls(answer, 0)
    except _UNDECODABLE:
        return _malformed("the body is no answer of Ollama's")
    if answer.error:
        return on_error(body)
    message = answer.message
    if message is None:
        return _malformed("no message in the body")
    if not answer.done:
        detail = "an answer that is not done"
        return Failure(reason=FailureReason.STREAM_INTERRUPTED, origin=Origin.LOCAL, detail=detail)
    choice = Choice(text=message.content or "", reasoning=message.thinking or "", raw_finish=answer.done_reason)
    choice.tool_calls, choice.has_other_content = calls, bool(message.images)
    has_content = bool(choice.text or calls or message.images)
    ending = _ending(answer.done_reason, has_calls=bool(calls), has_content=has_content)
    if isinstance(ending, Failure):
        choice.failure = ending
    else:
        choice.finish = ending
    return Completion(model=answer.model or "", choices=[choice], usage=answer.usage())


# --- streams -------------------------------------------------------------------------------------------------


class OllamaReader:
    """Reads one stream of a chat. See `wire.reader.StreamReader` for the contract.

    Calls come whole. Thinking leaves its block open, since nothing marks its end but what follows.
    """

    def __init__(self, on_error: ErrorReader) -> None:
        self._on_error = on_error
        self._splitter = LineSplitter()
        self._calls = 0
        self._has_content = False
        self._is_done = False
        self._is_broken = False
        self.undecodable = 0

    def __repr__(self) -> str:
        state = "broken" if self._is_broken else "complete" if self._is_done else "open"
        return f"<OllamaReader {state}, {self._calls} calls, {self.undecodable} undecodable>"

    @property
    def framing(self) -> Framing:
        return NDJSON

    @property
    def is_complete(self) -> bool:
        """Whether the generation has ended, and well."""
        return self._is_done and not self._is_broken

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
        if self._is_broken or self._is_done:
            return
        try:
            answer = _decode(line)
            calls = _calls(answer, self._calls)
        except _UNDECODABLE:
            self.undecodable += 1
            return
        if answer.error:
            self._is_broken = True
            out.append(StreamEvent(failure=self._on_error(line)))
            return
        out.append(self._piece(answer, answer.message or _Message(), calls))
        if answer.done:
            self._is_done = True
            out.append(self._end(answer))
            out.append(StreamEvent(is_end=True))

    def _piece(self, answer: _Answer, message: _Message, calls: Sequence[ToolCall]) -> StreamEvent:
        first = self._calls
        self._calls += len(calls)
        self._has_content = self._has_content or bool(message.content or calls or message.images)
        return StreamEvent(
            text=message.content or "",
            reasoning=message.thinking or "",
            tools=tuple([_delta(first + number, call) for number, call in enumerate(calls)]),
            has_other_content=bool(message.images),
            in_block=bool(message.thinking) and not message.content and not calls,
            model=answer.model or "",
        )

    def _end(self, answer: _Answer) -> StreamEvent:
        ending = _ending(answer.done_reason, has_calls=self._calls > 0, has_content=self._has_content)
        event = StreamEvent(raw_finish=answer.done_reason, usage=answer.usage(), model=answer.model or "")
        if isinstance(ending, Failure):
            event.failure = ending
        else:
            event.finish = ending
        return event


def _delta(index: int, call: ToolCall) -> ToolDelta:
    return ToolDelta(index=index, id=call.id, name=call.name, arguments=call.arguments)
