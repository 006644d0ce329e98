"""OpenAI chat streams: chunks of any server of the dialect read into events.

A piece of text behind another one, the event that most of any stream is, takes a short way; all else the long one.
What makes a stream complete is the vendor's, and is handed in; so is what an error means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from crossfade.core.exchange import RequestFacts, StreamEvent, ToolDelta
from crossfade.core.failure import Failure, FailureReason
from crossfade.core.target import StreamEnd
from crossfade.wire import openai_stream_shapes as shapes
from crossfade.wire.bounds import whole
from crossfade.wire.openai_response import (
    MAX_CHOICES,
    ReadError,
    arguments_of,
    finish_of,
    is_stop_sequence,
    reasoning_of,
    text_of,
)
from crossfade.wire.openai_usage import read_usage
from crossfade.wire.reader import Framing, StreamReader
from crossfade.wire.sse import SSE, EventSplitter, fields_of, without_comments
from crossfade.wire.text_run import TextRun

_decode_text: Final = msgspec.json.Decoder(shapes.TextChunk).decode
_decode_chunk: Final = msgspec.json.Decoder(shapes.Chunk).decode
_decode_any: Final = msgspec.json.Decoder().decode
_FIRST_ONLY: Final = frozenset({0})
_NONE: Final[tuple[StreamEvent, ...]] = ()
_DONE: Final = b"[DONE]"
_CONTENT: Final = b'"content":'
_NULL_USAGE: Final = b',"usage":null'
"""Inside a JSON string these quotes would be escaped, so where it stands it is a member and no text."""


def _text_chunk(event: bytes) -> shapes.TextChunk | None:
    """What an event of one line of data says, where it is a piece of text and nothing else."""
    if event[:6] != b"data: " or event[-2:] != b"\n\n" or event.find(_CONTENT) < 0:
        return None  # without its member, decoding would fail: an exception costs more than to look
    line = event[6:-2]
    if 10 in line:  # a line feed, by its number: looked for as bytes, it costs an exception inside CPython
        return None
    try:
        return _decode_text(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _text_of(event: bytes) -> str | None:
    chunk = _text_chunk(event)
    return None if chunk is None else chunk.choices[0].delta.content


def _without_usage(raw: bytes) -> bytes:
    """An event without its `"usage":null`, which is near the end where there is one."""
    at = raw.rfind(_NULL_USAGE)
    return raw if at < 0 else raw[:at] + raw[at + len(_NULL_USAGE) :]


class ChunkReader(StreamReader):
    """Reads one stream of chat completion chunks; a `StreamReader`.

    `strip_usage`: the usage option was ours, not the caller's, so the usage chunk and the `"usage":null` of the
    others are taken out of the raw events. `excludes_reasoning`: see `read_usage`.
    """

    __slots__ = (
        "_calls",
        "_excludes_reasoning",
        "_finished",
        "_has_failed",
        "_has_marker",
        "_has_null_usage",
        "_head",
        "_in_block",
        "_n",
        "_open",
        "_read_error",
        "_run",
        "_splitter",
        "_stream_end",
        "_strip_usage",
        "undecodable",
    )

    def __init__(
        self,
        facts: RequestFacts,
        *,
        read_error: ReadError,
        stream_end: StreamEnd = StreamEnd.FINISH,
        strip_usage: bool = False,
        excludes_reasoning: bool = False,
    ):
        self._read_error = read_error
        self._stream_end = stream_end
        self._strip_usage = strip_usage
        self._excludes_reasoning = excludes_reasoning
        self._n = facts.n
        self._splitter = EventSplitter()
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self._calls: dict[int, dict[str, int]] = {}
        self._head: tuple[str, str, int] | None = None
        """Id, model and time of creation where the last event was a piece of text of the only choice, which goes on."""
        self._run = TextRun(_CONTENT, _text_of)
        self._has_null_usage = False  # as the event did that `_run` has learned from
        self._in_block = False
        self._has_marker = False
        self._has_failed = False
        self.undecodable = 0

    def __repr__(self) -> str:
        state = "failed" if self._has_failed else "complete" if self.is_complete else "running"
        return f"<ChunkReader {state} open={sorted(self._open)} finished={sorted(self._finished)}>"

    @property
    def framing(self) -> Framing:
        return SSE

    @property
    def is_complete(self) -> bool:
        """Whether the vendor's own end has come, and no error."""
        if self._has_failed:
            return False
        finished = len(self._finished) >= self._n and not self._open
        match self._stream_end:
            case StreamEnd.FINISH:
                return finished
            case StreamEnd.MARKER:
                return self._has_marker
            case StreamEnd.FINISH_AND_MARKER:
                return finished and self._has_marker
            case StreamEnd.FINISH_OR_MARKER:
                return finished or self._has_marker

    def more_text(self, data: bytes) -> tuple[bytes, str] | None:
        """The event and its text where `data` is one whole event that only goes on with the text before it; None, and
        nothing is taken, otherwise."""
        return None if self._splitter.pending else self._more_text(data)

    def _more_text(self, data: bytes) -> tuple[bytes, str] | None:
        if self._head is None:
            return None
        text = self._run.text(data)
        if text is None:
            chunk = _text_chunk(data)
            if chunk is None:
                return None
            text = chunk.choices[0].delta.content
            self._has_null_usage = chunk.usage is None
            self._run.learn(data, text)
        if not text:
            return None
        return _without_usage(data) if self._has_null_usage and self._strip_usage else data, text

    def feed(self, data: bytes) -> Sequence[StreamEvent]:
        """The events that `data` completes."""
        if (
            data[:6] == b"data: "
            and data.find(b"\n") == len(data) - 2
            and data[-1] == 10
            and not self._splitter.pending
        ):
            return self._read_line(data)
        blocks = self._splitter.feed(data)
        if len(blocks) == 1 and not self._splitter.is_overlong:
            return self._read(blocks[0])
        events: list[StreamEvent] = []
        for block in blocks:
            events.extend(self._read(block))
        if self._splitter.is_overlong and not self._has_failed:
            events.append(self._failed(_malformed("more than 1 MiB without the end of an event"), b""))
        return events

    def close(self) -> Sequence[StreamEvent]:
        """What the end of the body completes."""
        rest = self._splitter.rest()
        if not rest:
            return _NONE
        if rest[:1] in (b"{", b"["):  # a JSON body where a stream was asked for: an error, or it is nothing
            return self._bare(rest)
        return self._read(rest + b"\n\n")

    # --- one event ---

    def _read(self, raw: bytes) -> Sequence[StreamEvent]:
        if raw[:6] == b"data: " and raw.find(b"\n") == len(raw) - 2 and raw[-1] == 10:
            return self._read_line(raw)
        raw = without_comments(raw)
        name, data = fields_of(raw)
        return self._read_data(name, data.strip(), raw)

    def _read_line(self, raw: bytes) -> Sequence[StreamEvent]:
        """An event of one line of data. Ids and the like are taken from the event before: the first ones count."""
        if self._head is not None and (more := self._more_text(raw)) is not None:
            name, model, created = self._head
            return (StreamEvent(raw=more[0], text=more[1], id=name, model=model, created=created),)
        return self._read_data("", raw[6:-2].strip(), raw)

    def _read_data(self, name: str, data: bytes, raw: bytes) -> Sequence[StreamEvent]:
        before, self._head = self._head, None
        if data[:1] != b"{" or name == "error":
            return self._special(name, data, raw)
        try:
            chunk = _decode_chunk(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._undecodable(data, raw)
        choices = chunk.choices
        if choices is not None and len(choices) > MAX_CHOICES:
            return (self._failed(_malformed(f"more than {MAX_CHOICES} choices"), raw),)
        if chunk.error or chunk.x_groq is not None or choices is None:
            if (failure := self._failure_in(chunk, data)) is not None:
                event = self._failed(failure, raw)
                event.usage = (
                    None if chunk.usage is shapes.NO_RAW else read_usage(chunk.usage, self._excludes_reasoning)
                )
                return (event,)
        if choices is None or len(choices) != 1:
            return self._other_events(chunk, choices or [], raw)
        if self._strip_usage and chunk.usage is not shapes.NO_RAW:
            raw = _without_usage(raw)
        event = self._event(chunk, choices[0], raw)
        if event.text and event.failure is None and self._open == _FIRST_ONLY and not event.choice:
            if before is not None:  # as in `_read_line`: how the bytes were split makes no difference
                event.id, event.model, event.created = before
            self._head = event.id, event.model, event.created
        return (event,)

    def _event(self, chunk: shapes.Chunk, choice: shapes.Choice, raw: bytes) -> StreamEvent:
        index = choice.index or 0
        event = StreamEvent(
            raw=raw, choice=index, id=chunk.id or "", model=chunk.model or "", created=whole(chunk.created)
        )
        delta = choice.delta
        if delta is not None:
            content = delta.content
            if type(content) is str:
                event.text = content
            elif content is not None:
                event.text, event.reasoning = text_of(content)
            self._read_rest(event, delta)
        if chunk.citations:
            event.has_other_content = True
        if event.text:
            self._in_block = False
        elif event.reasoning or event.tools:
            self._in_block = True
        if choice.finish_reason:
            self._finish(event, choice)
        elif index not in self._finished:
            self._open.add(index)
        event.in_block = self._in_block
        if choice.error:
            event.failure = self._read_error(choice.error)
            self._has_failed = True
        if chunk.usage is not shapes.NO_RAW:
            event.usage = read_usage(chunk.usage, self._excludes_reasoning)
        return event

    def _read_rest(self, event: StreamEvent, delta: shapes.Delta) -> None:
        if delta.reasoning_content or delta.reasoning or delta.reasoning_details:
            event.reasoning += reasoning_of(delta.reasoning_content, delta.reasoning, delta.reasoning_details)
        if delta.refusal:
            event.refusal = text_of(delta.refusal)[0]
        if delta.tool_calls:
            self._read_calls(event, delta.tool_calls)
        elif (legacy := delta.function_call) is not None and (legacy.name or legacy.arguments):
            self._read_calls(event, [shapes.Call(index=0, function=legacy)])
        if delta.audio or delta.annotations or delta.images:
            event.has_other_content = True

    def _read_calls(self, event: StreamEvent, calls: list[shapes.Call]) -> None:
        known = self._calls.setdefault(event.choice, {})
        tools = []
        for call in calls:
            if call.custom:
                event.has_other_content = True
            if (function := call.function) is None:
                continue
            index = _call_index(call, known)
            key = f"#{index}"
            if key not in known:
                known[key] = index
                event.is_open = True
            if call.id:
                known[call.id] = index
            tools.append(
                ToolDelta(
                    index=index,
                    id=call.id or "",
                    name=function.name or "",
                    arguments=arguments_of(function.arguments),
                )
            )
        event.tools = tuple(tools)

    def _finish(self, event: StreamEvent, choice: shapes.Choice) -> None:
        event.raw_finish = word = choice.finish_reason or ""
        event.finish, event.failure = finish_of(word)
        event.stopped_by_sequence = is_stop_sequence(choice.stop_reason, choice.native_finish_reason)
        self._in_block = False
        if event.failure is not None:
            self._has_failed = True
            return
        self._finished.add(event.choice)
        self._open.discard(event.choice)

    def _other_events(self, chunk: shapes.Chunk, choices: list[shapes.Choice], raw: bytes) -> list[StreamEvent]:
        """A chunk of no choice (usage, filter results) or of several."""
        if self._strip_usage:
            is_usage = not choices and chunk.usage is not shapes.NO_RAW and bytes(chunk.usage) != b"null"
            raw = b"" if is_usage else _without_usage(raw)
        if choices:
            events = [self._event(chunk, choice, b"") for choice in choices]
            events[0].raw = raw
            for event in events[1:]:
                event.usage = None
            return events
        event = StreamEvent(raw=raw, id=chunk.id or "", model=chunk.model or "", created=whole(chunk.created))
        event.in_block = self._in_block
        if chunk.usage is not shapes.NO_RAW:
            event.usage = read_usage(chunk.usage, self._excludes_reasoning)
        return [event]

    # --- what is no chunk ---

    def _special(self, name: str, data: bytes, raw: bytes) -> Sequence[StreamEvent]:
        if data == _DONE:
            self._has_marker = True
            return (StreamEvent(raw=raw, is_end=True),)
        if name == "error":
            return (self._failed(self._read_error(_value(data)), raw),)
        return self._undecodable(data, raw) if data else _NONE

    def _undecodable(self, data: bytes, raw: bytes) -> Sequence[StreamEvent]:
        """Valid JSON of a wrong form may still be an error; anything else is skipped and counted."""
        value = _value(data)
        if isinstance(value, dict) and (value.get("error") or value.get("object") == "error"):
            return (self._failed(self._read_error(value), raw),)
        self.undecodable += 1
        return _NONE

    def _bare(self, rest: bytes) -> Sequence[StreamEvent]:
        value = _value(rest)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, dict) and "choices" not in value:
            return (self._failed(self._read_error(value), b""),)
        self.undecodable += 1
        return _NONE

    def _failure_in(self, chunk: shapes.Chunk, data: bytes) -> Failure | None:
        groq = chunk.x_groq is not None and bool(chunk.x_groq.error)
        is_flat = chunk.choices is None and chunk.usage is shapes.NO_RAW and bool(chunk.message or chunk.detail)
        if chunk.error or chunk.object == "error" or is_flat:
            return self._read_error(_value(data))
        if groq and chunk.x_groq is not None:
            return self._read_error({"error": chunk.x_groq.error})
        return None

    def _failed(self, failure: Failure, raw: bytes) -> StreamEvent:
        self._has_failed = True
        return StreamEvent(raw=raw, failure=failure)


def _call_index(call: shapes.Call, known: dict[str, int]) -> int:
    """The place of a call among those of its choice: as said, else by its id, else after or at the last one."""
    if isinstance(call.index, int) and not isinstance(call.index, bool) and call.index >= 0:
        return call.index
    last = max(known.values(), default=-1)
    if call.id:
        return known.get(call.id, last + 1)
    is_new = bool(call.function and call.function.name)
    return last + 1 if is_new or last < 0 else last


def _value(data: bytes) -> Any:
    try:
        return _decode_any(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return data[:2000].decode("utf-8", "replace")


def _malformed(detail: str) -> Failure:
    return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail=detail)
