"""The Responses API, outbound: the events of a streamed answer.

The stream is complete when `response.completed` or `response.incomplete` has come, whatever follows; `response.failed`
and an `error` event are the failure that the same error would be as a status. What follows from either is decided
elsewhere. Each event takes its decoded form along (`native`), for the writer of this dialect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from crossfade.core.exchange import StreamEvent, ToolDelta
from crossfade.core.failure import Failure, FailureReason
from crossfade.wire import responses_shapes as shapes
from crossfade.wire.bounds import whole
from crossfade.wire.reader import Framing
from crossfade.wire.responses_answer import (
    BETWEEN_PARTS,
    FailureReader,
    failure_of_status,
    finish_of,
    is_given,
    read_item,
    reasoning_of,
    usage_of,
    words_of,
)
from crossfade.wire.sse import SSE, EventSplitter, fields_of

_decode = msgspec.json.Decoder(shapes.Event).decode
_decode_response = msgspec.json.Decoder(shapes.Response).decode

MAX_EVENT: Final = 4 * 1024 * 1024
"""Bytes of one event. The last one has the whole answer and repeats the request; a gate holds no more."""

_STARTS = frozenset({"response.created", "response.in_progress", "response.queued"})
_ENDS = frozenset({"response.completed", "response.incomplete"})
_FAILURES = frozenset({"error", "response.failed", "response.cancelled"})
_THOUGHTS = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})


class ResponsesStreamReader:
    """Reads one stream of response events. See `wire.reader.StreamReader` for the contract."""

    def __init__(self, read_failure: FailureReader):
        self._read_failure = read_failure
        self._splitter = EventSplitter(MAX_EVENT)
        self._open: set[int] = set()  # items that are no message and not done, by their place in the output
        self._calls: dict[int, int] = {}  # calls of functions by their place in the output: their number
        self._has_pieces: set[int] = set()  # items of which pieces have come
        self._has_end = False
        self._is_broken = False
        self.undecodable = 0

    def __repr__(self) -> str:
        state = "broken" if self._is_broken else "complete" if self.is_complete else "open"
        return f"<{type(self).__name__} {state}, {len(self._calls)} calls, {self.undecodable} undecodable>"

    @property
    def framing(self) -> Framing:
        return SSE

    @property
    def is_complete(self) -> bool:
        return self._has_end and not self._is_broken

    def feed(self, data: bytes) -> Sequence[StreamEvent]:
        """The events that `data` completes."""
        if self._is_broken or self._has_end:
            return ()
        events: list[StreamEvent] = []
        for raw in self._splitter.feed(data):
            self._read(raw, events)
        if self._splitter.is_overlong and not self._has_end:
            self._is_broken = True
            detail = f"an event of more than {MAX_EVENT} bytes"
            events.append(StreamEvent(failure=Failure(reason=FailureReason.MALFORMED_OUTPUT, detail=detail)))
        return events

    def more_text(self, data: bytes) -> None:
        """The writer has to hear of every event, so there is no short way."""

    def close(self) -> Sequence[StreamEvent]:
        """What the end of the body completes: a last event without its blank line, an error that was no stream."""
        rest = self._splitter.rest()
        if not rest or self._is_broken or self._has_end:
            return ()
        if rest.startswith(b"{"):
            rest = b"data: " + b"".join(rest.splitlines())
        events: list[StreamEvent] = []
        self._read(rest + b"\n\n", events)
        return events

    def _read(self, raw: bytes, events: list[StreamEvent]) -> None:
        """Adds what one block of the stream says. Behind the end or a failure nothing is read."""
        if self._is_broken or self._has_end:
            return
        data = fields_of(raw)[1].strip()
        if not data or data == b"[DONE]":
            return
        try:
            event = _decode(data)
            made = self._event(raw, data, event)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if raw.startswith(b"event: error"):
                self._is_broken = True
                events.append(StreamEvent(raw=raw, failure=self._read_failure(data)))
            else:
                self.undecodable += 1
            return
        made.native = event
        events.append(made)
        if event.type in _ENDS and made.failure is None:
            self._has_end = True
            events.append(StreamEvent(is_end=True))

    def _event(self, raw: bytes, data: bytes, event: shapes.Event) -> StreamEvent:
        kind = event.type
        if kind == "response.output_text.delta":
            return self._piece(raw, event, StreamEvent(text=_text(event.delta)))
        if kind in _THOUGHTS:
            return self._piece(raw, event, StreamEvent(reasoning=_text(event.delta)))
        if kind == "response.function_call_arguments.delta":
            return self._on_arguments(raw, event)
        if kind == "response.output_item.added":
            return self._on_item(raw, event)
        if kind == "response.output_item.done":
            return self._on_done(raw, event)
        if kind == "response.refusal.delta":
            return self._piece(raw, event, StreamEvent(refusal=_text(event.delta)))
        if kind == "response.reasoning_summary_part.added" and event.summary_index > 0:
            return self._piece(raw, event, StreamEvent(reasoning=BETWEEN_PARTS))
        if kind in _STARTS:
            response = _decode_response(event.response)
            return StreamEvent(
                raw=raw, id=response.id or "", model=response.model or "", created=whole(response.created_at)
            )
        if kind in _ENDS:
            return self._on_end(raw, event)
        if kind in _FAILURES or (is_given(event.error) and not kind.startswith("response.")):
            return self._on_failure(raw, data, event)
        is_note = kind == "response.output_text.annotation.added"
        return StreamEvent(raw=raw, has_other_content=is_note, in_block=bool(self._open))

    def _piece(self, raw: bytes, event: shapes.Event, made: StreamEvent) -> StreamEvent:
        self._has_pieces.add(event.output_index)
        made.raw = raw
        made.in_block = not (made.text or made.refusal)  # words end whatever was open before, said to be done or not
        return made

    def _on_arguments(self, raw: bytes, event: shapes.Event) -> StreamEvent:
        number = self._calls.get(event.output_index)
        piece = _text(event.delta)
        if number is None:
            self.undecodable += 1  # the item that it belongs to is missing
        if number is None or not piece:
            return StreamEvent(raw=raw, has_other_content=bool(piece), in_block=bool(self._open))
        return self._piece(raw, event, StreamEvent(tools=(ToolDelta(index=number, arguments=piece),)))

    def _on_item(self, raw: bytes, event: shapes.Event) -> StreamEvent:
        item = read_item(event.item)
        if item.type == "message":
            return StreamEvent(raw=raw, in_block=bool(self._open))
        self._open.add(event.output_index)
        if item.type == "reasoning":
            return StreamEvent(raw=raw, is_open=True, in_block=True)
        if item.type != "function_call":
            return StreamEvent(raw=raw, has_other_content=True, in_block=True)
        number = self._calls[event.output_index] = len(self._calls)
        opened = ToolDelta(index=number, id=item.call_id or item.id or "", name=item.name or "")
        return StreamEvent(raw=raw, tools=(opened,), is_open=True, in_block=True)

    def _on_done(self, raw: bytes, event: shapes.Event) -> StreamEvent:
        """The end of an item, with what it says where no piece of it has come."""
        item = read_item(event.item)
        at = event.output_index
        self._open.discard(at)
        made = StreamEvent(raw=raw, in_block=bool(self._open))
        if at in self._has_pieces:
            return made
        if item.type == "message":
            made.text, made.refusal = words_of(item)
        elif item.type == "reasoning":
            made.reasoning = reasoning_of(item)
        elif item.type == "function_call" and (number := self._calls.get(at)) is not None and item.arguments:
            made.tools = (ToolDelta(index=number, arguments=item.arguments),)
        return made

    def _on_end(self, raw: bytes, event: shapes.Event) -> StreamEvent:
        response = _decode_response(event.response)
        if (failure := failure_of_status(response)) is not None:
            self._is_broken = True
            return StreamEvent(raw=raw, failure=failure)
        if event.type == "response.incomplete":
            response.status = "incomplete"
        finish, word = finish_of(response, has_calls=bool(self._calls))
        usage = None if response.usage is None else usage_of(response.usage)
        return StreamEvent(raw=raw, finish=finish, raw_finish=word, usage=usage)

    def _on_failure(self, raw: bytes, data: bytes, event: shapes.Event) -> StreamEvent:
        self._is_broken = True
        if is_given(event.response):
            data = bytes(event.response)  # the error stands in it
        return StreamEvent(raw=raw, failure=self._read_failure(data))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
