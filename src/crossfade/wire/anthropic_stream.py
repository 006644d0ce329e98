"""Anthropic messages, outbound: the events of a streamed answer.

Made for speed: one event costs one decode into small structs and one `StreamEvent`. The stream is complete when a
`message_delta` has named a stop reason and `message_stop` has come; an `error` event is the failure that the same
error would be as a status. What follows from either is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from crossfade.core.exchange import StreamEvent, ToolDelta, Usage
from crossfade.core.failure import Failure, FailureReason
from crossfade.wire.anthropic_answer import FailureReader, WireUsage, arguments_of, finish_of
from crossfade.wire.reader import Framing
from crossfade.wire.sse import MAX_EVENT, SSE, EventSplitter, fields_of
from crossfade.wire.text_run import TextRun


class _Delta(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    stop_reason: str | None = None


class _StartedBlock(msgspec.Struct, gc=False):
    type: str
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw()


class _Message(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    usage: WireUsage | None = None


class _Event(msgspec.Struct, gc=False):
    """Every event in one struct: a tagged union would refuse the types that are not known yet."""

    type: str | None = None
    index: int = 0
    delta: _Delta | None = None
    content_block: _StartedBlock | None = None
    message: _Message | None = None
    usage: WireUsage | None = None
    error: msgspec.Raw = msgspec.Raw()


class BlockEdge(msgspec.Struct, frozen=True, gc=False):
    """Where a block begins (`opens` is its type) or ends (`opens` is empty): what a writer must know of events that
    pass, to go on behind them."""

    index: int
    opens: str = ""


class _Tool(msgspec.Struct, gc=False):
    """A tool block that is open: its number among the calls, and what its start had as input."""

    number: int
    initial: str
    has_arguments: bool = False


class _Piece(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    type: Literal["text_delta"]
    text: str


class _TextEvent(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An event that is a piece of text and nothing else."""

    type: Literal["content_block_delta"]
    delta: _Piece
    index: int


_decode = msgspec.json.Decoder(_Event).decode
_decode_text = msgspec.json.Decoder(_TextEvent).decode
_TEXT: Final = b'"text":'
_HEAD: Final = b"event: content_block_delta\ndata: {"


def _text_of(stem: bytes) -> str | None:
    """The text of an event that is a piece of text and nothing else; None for any other. `stem` is the event without
    its last bracket and the blanks on both sides of it: Anthropic puts some more of them, and some fewer."""
    if not stem.startswith(_HEAD) or stem.find(_TEXT) < 0 or stem.find(b"\n", len(_HEAD)) >= 0:
        return None
    try:
        return _decode_text(stem[len(_HEAD) - 1 :] + b"}").delta.text
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class AnthropicStreamReader:
    """Reads one stream of messages events. See `providers.base.StreamReader` for the contract."""

    def __init__(self, read_failure: FailureReader):
        self._read_failure = read_failure
        self._splitter = EventSplitter()
        self._usage: WireUsage | None = None
        self._tools: dict[int, _Tool] = {}  # open tool blocks by the index of the block
        self._tool_count = 0
        self._in_block = False
        self._is_in_text = False  # the event before was a piece of text
        self._run = TextRun(_TEXT, _text_of)
        self._is_hosted = False  # the block that began last is a hosted tool's call
        self._has_content = False
        self._has_finish = False
        self._has_end = False
        self._is_broken = False
        self.undecodable = 0

    def __repr__(self) -> str:
        state = "broken" if self._is_broken else "complete" if self.is_complete else "open"
        return f"<{type(self).__name__} {state}, {self._tool_count} tools, {self.undecodable} undecodable>"

    @property
    def framing(self) -> Framing:
        return SSE

    @property
    def is_complete(self) -> bool:
        return self._has_finish and self._has_end and not self._is_broken

    def feed(self, data: bytes) -> Sequence[StreamEvent]:
        """The events that `data` completes."""
        if self._is_broken:
            return ()
        events = [event for raw in self._splitter.feed(data) if (event := self._event(raw)) is not None]
        if self._splitter.is_overlong:
            self._is_broken, self._is_in_text = True, False
            detail = f"an event of more than {MAX_EVENT} bytes"
            events.append(StreamEvent(failure=Failure(reason=FailureReason.MALFORMED_OUTPUT, detail=detail)))
        return events

    def more_text(self, data: bytes) -> tuple[bytes, str] | None:
        """The event and its text where `data` is one whole event that only goes on with the text before it; None, and
        nothing is taken, otherwise."""
        if not self._is_in_text or self._splitter.pending or data[-2:] != b"\n\n":
            return None
        event = data[:-2].rstrip(b" ")
        if event[-1:] != b"}":
            return None
        stem = event[:-1].rstrip(b" ")
        text = self._run.text(stem)
        if text is None:
            text = _text_of(stem)
            if text is None:
                return None
            self._run.learn(stem, text)
        return (data, text) if text else None

    def close(self) -> Sequence[StreamEvent]:
        """What the end of the body completes: a last event without its blank line, an error that was no stream."""
        rest = self._splitter.rest()
        if not rest or self._is_broken:
            return ()
        if rest.startswith(b"{"):
            rest = b"data: " + b"".join(rest.splitlines())
        event = self._event(rest + b"\n\n")
        return () if event is None else (event,)

    def _event(self, raw: bytes) -> StreamEvent | None:
        """One block of the stream; None where it says nothing: a comment, or what cannot be decoded."""
        data = _data_of(raw)
        if not data:
            return None
        self._is_in_text = False
        try:
            event = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._undecoded(raw, data)
        kind = event.type
        if kind == "content_block_delta" and event.delta is not None:
            return self._on_delta(raw, event.index, event.delta)
        if kind == "error" or bytes(event.error) not in (b"", b"null"):
            self._is_broken = True
            return StreamEvent(raw=raw, failure=self._read_failure(data))
        if kind == "content_block_start" and event.content_block is not None:
            return self._on_start(raw, event.index, event.content_block)
        if kind == "content_block_stop":
            return self._on_stop(raw, event.index)
        if kind == "message_start" and event.message is not None:
            return self._on_message(raw, event.message)
        if kind == "message_delta":
            return self._on_end_of_message(raw, event)
        if kind == "message_stop":
            self._has_end = True
            return StreamEvent(raw=raw, is_end=True)
        return StreamEvent(raw=raw, in_block=self._in_block)  # ping, and types that are not known yet

    def _undecoded(self, raw: bytes, data: bytes) -> StreamEvent | None:
        """An error of another shape is still an error; all else is counted and passed over."""
        if data == b"[DONE]":  # the habit of servers that speak several dialects
            return None
        if raw.startswith(b"event: error"):
            self._is_broken = True
            return StreamEvent(raw=raw, failure=self._read_failure(data))
        self.undecodable += 1
        return None

    def _on_delta(self, raw: bytes, index: int, delta: _Delta) -> StreamEvent:
        kind = delta.type
        if kind == "text_delta":
            text = delta.text or ""
            if text:
                self._has_content = True
                self._is_in_text = not self._in_block
            return StreamEvent(raw=raw, text=text, in_block=self._in_block)
        if kind == "thinking_delta":
            return StreamEvent(raw=raw, reasoning=delta.thinking or "", in_block=True)
        if kind == "input_json_delta":
            return self._on_arguments(raw, index, delta.partial_json or "")
        if kind == "citations_delta":
            self._has_content = True
            return StreamEvent(raw=raw, has_other_content=True, in_block=self._in_block)
        return StreamEvent(raw=raw, in_block=self._in_block)  # a signature, or what is not known yet

    def _on_arguments(self, raw: bytes, index: int, piece: str) -> StreamEvent:
        tool = self._tools.get(index)
        if tool is None:
            if not self._is_hosted:  # the start of its block is missing
                self.undecodable += 1
            return StreamEvent(raw=raw, has_other_content=bool(piece), in_block=self._in_block)
        if not piece:
            return StreamEvent(raw=raw, in_block=True)
        tool.has_arguments = True
        return StreamEvent(raw=raw, tools=(ToolDelta(index=tool.number, arguments=piece),), in_block=True)

    def _on_start(self, raw: bytes, index: int, block: _StartedBlock) -> StreamEvent:
        kind = block.type
        edge = BlockEdge(index, kind)
        self._in_block, self._is_hosted = kind != "text", False
        if kind == "text":
            text = block.text or ""
            self._has_content = self._has_content or bool(text)
            return StreamEvent(raw=raw, text=text, native=edge)
        if kind == "thinking":
            return StreamEvent(raw=raw, reasoning=block.thinking or "", is_open=True, in_block=True, native=edge)
        if kind == "redacted_thinking":
            return StreamEvent(raw=raw, is_open=True, in_block=True, native=edge)
        self._has_content = True
        if kind == "tool_use":
            tool = _Tool(self._tool_count, arguments_of(block.input))
            self._tools[index] = tool
            self._tool_count += 1
            opened = ToolDelta(index=tool.number, id=block.id or "", name=block.name or "")
            return StreamEvent(raw=raw, tools=(opened,), is_open=True, in_block=True, native=edge)
        self._in_block = self._is_hosted = kind.endswith("tool_use")
        return StreamEvent(raw=raw, has_other_content=True, in_block=self._in_block, native=edge)

    def _on_stop(self, raw: bytes, index: int) -> StreamEvent:
        tool = self._tools.pop(index, None)
        edge = BlockEdge(index)
        self._in_block = self._is_hosted  # a hosted tool works on in silence until the next block begins
        if tool is None:
            return StreamEvent(raw=raw, in_block=self._in_block, native=edge)
        if tool.has_arguments:
            return StreamEvent(raw=raw, native=edge)
        # A call without arguments may bring no piece of JSON at all.
        return StreamEvent(raw=raw, tools=(ToolDelta(index=tool.number, arguments=tool.initial),), native=edge)

    def _on_message(self, raw: bytes, message: _Message) -> StreamEvent:
        usage = self._count(message.usage)
        return StreamEvent(raw=raw, id=message.id or "", model=message.model or "", usage=usage)

    def _on_end_of_message(self, raw: bytes, event: _Event) -> StreamEvent:
        word = event.delta.stop_reason if event.delta is not None else None
        finish, failure = finish_of(word, has_content=self._has_content)
        if word is not None:
            self._has_finish = True
        return StreamEvent(
            raw=raw,
            finish=finish,
            raw_finish=word,
            stopped_by_sequence=word == "stop_sequence",
            failure=failure,
            usage=self._count(event.usage),
        )

    def _count(self, usage: WireUsage | None) -> Usage | None:
        """All that is known of the usage so far: input comes with the start, the final output with the end."""
        if usage is None:
            return None
        self._usage = usage.over(self._usage)
        return self._usage.canonical()


def _data_of(raw: bytes) -> bytes:
    """The data of one block, which ends in its blank line; empty for a comment or an event without data."""
    start = raw.find(b"\n") + 1 if raw.startswith(b"event:") else 0
    if raw.startswith(b"data:", start):
        end = raw.find(b"\n", start)
        if len(raw) - end <= 3:  # one line of data and nothing more: as good as always
            return raw[start + 5 : end].strip()
    return fields_of(raw)[1].strip()
