"""Streams of any provider written as events of the Responses API, for a caller of that dialect, and what ends them."""

from __future__ import annotations

from typing import Final

import msgspec

from crossfade.core.exchange import Finish, StreamEvent, ToolDelta, Usage
from crossfade.wire.members import with_member
from crossfade.wire.openai_response import made_up_call_id
from crossfade.wire.responses_answer import is_given, read_item
from crossfade.wire.responses_objects import (
    BEGUN,
    CALL_ID,
    CUT,
    DONE,
    INCOMPLETE,
    MESSAGE_ID,
    call_item,
    item_id,
    message_item,
    reasoning_item,
    response_json,
    summary_part,
    text_part,
)
from crossfade.wire.responses_request import OUR_REASONING
from crossfade.wire.responses_shapes import Event, LooseItem

_encode = msgspec.json.encode
_decode_loosely = msgspec.json.Decoder(LooseItem).decode

MAX_KEPT: Final = 32 * 1024 * 1024
"""Characters of a streamed answer that are kept for its end; no model writes as many."""


class _Words:
    """An item of words that is open: a message or reasoning. `part` is the type of its open part, if there is one."""

    __slots__ = ("index", "is_reasoning", "name", "part", "parts", "pieces")

    def __init__(self, index: int, name: str, *, is_reasoning: bool = False) -> None:
        self.index = index
        self.name = name
        self.is_reasoning = is_reasoning
        self.part = ""
        self.pieces: list[str] = []
        self.parts: list[bytes] = []


class _OpenCall:
    """A call that is open. `index` is its place in the output."""

    __slots__ = ("call_id", "function", "index", "name", "pieces")

    def __init__(self, index: int, name: str, call_id: str, function: str) -> None:
        self.index = index
        self.name = name
        self.call_id = call_id
        self.function = function
        self.pieces: list[str] = []


class ResponseWriter:
    """Writes one downstream stream; its id, model and time are fixed when it begins.

    Events that pass as they came are told by `on_passed`, so that what is written behind them goes on where they
    stopped: in the item that is open, with the next number. The event that ends such a stream is kept for `end`.
    `usage` is what the end will say: the last one written, unless the owner sets a better sum before `end`.

    Events of this API repeat at the end of each part what its pieces were, so the whole answer is kept. `write` and
    `on_passed` raise ValueError where that is more than `MAX_KEPT`: the stream can then only end in an error.
    Words come one item after the other; calls stay open beside them until the answer ends.
    """

    __slots__ = (
        "_calls",
        "_created",
        "_done",
        "_echo",
        "_finish",
        "_has_started",
        "_id",
        "_kept",
        "_last",
        "_model",
        "_next",
        "_sequence",
        "_words",
        "usage",
    )

    def __init__(self, echo: bytes) -> None:
        self._echo = echo
        self._id = ""
        self._model = ""
        self._created = 0
        self._sequence = 0  # of the next event
        self._has_started = False
        self._next = 0  # place in the output of the next item
        self._done: dict[int, bytes] = {}  # items that are whole, by their place
        self._words: _Words | None = None
        self._calls: dict[int, _OpenCall] = {}
        self._kept = 0  # characters
        self._finish: Finish | None = None
        self._last: Event | None = None  # the end of a stream that passed
        self.usage: Usage | None = None

    def __repr__(self) -> str:
        state = "started" if self._has_started else "new"
        return f"<ResponseWriter {self._id} {state} at {self._sequence}, {len(self._done)} items>"

    def be(self, id: str, model: str, created: int) -> None:  # noqa: A002 - the member's own name
        """Fixes the identity, as far as it is not fixed yet."""
        self._id = self._id or id
        self._model = self._model or model
        self._created = self._created or created

    # --- what passes ---

    def on_passed(self, event: StreamEvent) -> bytes:
        """The bytes of an event that goes out as it came; none for the end, which `end` gives."""
        self._has_started = True
        given = event.native
        if type(given) is not Event:
            return event.raw
        if event.finish is not None:
            self._last = given
            return b""
        self._sequence = (self._sequence if given.sequence_number is None else given.sequence_number) + 1
        self._follow(given)
        return event.raw

    def _follow(self, given: Event) -> None:
        """Keeps up with the items of a stream that passes. Pieces of anything but a message are in its end again."""
        at, words = given.output_index, self._words
        is_here = words is not None and words.index == at
        match given.type:
            case "response.output_item.added":
                self._next = max(self._next, at + 1)
                item = read_item(given.item)
                if item.type == "message":
                    self._words = _Words(at, item.id or "")
            case "response.output_item.done":
                self._next = max(self._next, at + 1)
                self._keep(len(given.item))
                self._done[at] = bytes(given.item)
                if is_here:
                    self._words = None
            case "response.content_part.added" if words is not None and is_here:
                words.part = _part_type(given)
            case "response.content_part.done" if words is not None and is_here:
                part = bytes(given.part) if is_given(given.part) else text_part(words.part, "".join(words.pieces))
                words.parts.append(part)
                words.part = ""
                words.pieces.clear()
            case "response.output_text.delta" | "response.refusal.delta" if words is not None and is_here:
                if isinstance(given.delta, str):
                    self._keep(len(given.delta))
                    words.part = words.part or given.type.split(".")[1]
                    words.pieces.append(given.delta)

    def _keep(self, size: int) -> None:
        self._kept += size
        if self._kept > MAX_KEPT:
            raise ValueError(f"an answer of more than {MAX_KEPT} characters")

    # --- what is written ---

    def write(self, event: StreamEvent) -> bytes:
        """The events that say what `event` says; b"" if it says nothing a caller of this dialect can hear yet."""
        if event.usage is not None:
            self.usage = event.usage
        self._keep(len(event.text) + len(event.reasoning) + len(event.refusal))
        pieces: list[bytes] = []
        if event.reasoning:
            self._think(pieces, event.reasoning)
        if event.text:
            self._say(pieces, "output_text", event.text)
        if event.refusal:
            self._say(pieces, "refusal", event.refusal)
        for delta in event.tools:
            self._add_call(pieces, delta)
        self._finish = event.finish or self._finish
        return b"".join(pieces)

    def end(self, member: bytes | None = None) -> bytes:
        """The end of the stream: what is open is closed, and the last event has the whole response, with `member`
        (JSON text) as its `crossfade`."""
        if self._last is not None:
            return _with_member(self._last, member)
        pieces: list[bytes] = []
        self._start(pieces)
        reason = None if self._finish is None else INCOMPLETE.get(self._finish)
        self._close(pieces, DONE if reason is None else CUT)
        status = DONE if reason is None else CUT
        response = self._response(status, self.usage, reason=reason)
        if member is not None:
            response = with_member(response, "crossfade", member)
        pieces.append(self._event(b"response." + status, b'"response":%s' % response))
        return b"".join(pieces)

    def error(self, message: str, type: str, code: str) -> bytes:  # noqa: A002 - the member's own name
        """An error in the place of the end, in both of the ways in which the API says it."""
        said = _encode({"type": type, "code": code, "message": message, "param": None})
        flat = b'"code":%s,"message":%s,"param":null,"error":%s' % (_encode(code), _encode(message), said)
        error = _encode({"code": code, "message": message})
        event = self._event(b"error", flat)
        return event + self._event(b"response.failed", b'"response":%s' % self._response(b"failed", None, error=error))

    def _response(
        self, status: bytes, usage: Usage | None, *, reason: bytes | None = None, error: bytes = b"null"
    ) -> bytes:
        output = b",".join([item for _, item in sorted(self._done.items())])
        identity = (self._id, self._model, self._created)
        return response_json(identity, status, output, usage, self._echo, reason=reason, error=error)

    def _event(self, kind: bytes, members: bytes) -> bytes:
        number = self._sequence
        self._sequence = number + 1
        return b'event: %s\ndata: {"type":"%s","sequence_number":%d,%s}\n\n' % (kind, kind, number, members)

    def _start(self, pieces: list[bytes]) -> None:
        if self._has_started:
            return
        self._has_started = True
        response = b'"response":%s' % self._response(BEGUN, None)
        pieces.append(self._event(b"response.created", response))
        pieces.append(self._event(b"response.in_progress", response))

    def _add(self, pieces: list[bytes], index: int, item: bytes) -> None:
        self._start(pieces)
        pieces.append(self._event(b"response.output_item.added", b'"output_index":%d,"item":%s' % (index, item)))

    def _finish_item(self, pieces: list[bytes], index: int, item: bytes) -> None:
        self._done[index] = item
        pieces.append(self._event(b"response.output_item.done", b'"output_index":%d,"item":%s' % (index, item)))

    def _take_place(self) -> int:
        index = self._next
        self._next = index + 1
        return index

    # --- words ---

    def _think(self, pieces: list[bytes], text: str) -> None:
        words = self._words
        if words is None or not words.is_reasoning:
            self._close_words(pieces, DONE)
            index = self._take_place()
            words = self._words = _Words(index, item_id(OUR_REASONING, self._id, index), is_reasoning=True)
            self._add(pieces, index, reasoning_item(words.name, b""))
            words.part = "summary_text"
            part = b'"item_id":"%s","output_index":%d,"summary_index":0,"part":%s'
            data = part % (words.name.encode(), index, summary_part(""))
            pieces.append(self._event(b"response.reasoning_summary_part.added", data))
        words.pieces.append(text)
        place = b'"item_id":"%s","output_index":%d,"summary_index":0' % (words.name.encode(), words.index)
        pieces.append(self._event(b"response.reasoning_summary_text.delta", b'%s,"delta":%s' % (place, _encode(text))))

    def _say(self, pieces: list[bytes], kind: str, text: str) -> None:
        words = self._words
        if words is None or words.is_reasoning:
            self._close_words(pieces, DONE)
            index = self._take_place()
            words = self._words = _Words(index, item_id(MESSAGE_ID, self._id, index))
            self._add(pieces, index, message_item(words.name, BEGUN, b""))
        if words.part != kind:
            self._close_part(pieces, words)
            words.part = kind
            data = b'%s,"part":%s' % (_place(words), text_part(kind, ""))
            pieces.append(self._event(b"response.content_part.added", data))
        words.pieces.append(text)
        more = b',"logprobs":[]' if kind == "output_text" else b""
        data = b'%s,"delta":%s%s' % (_place(words), _encode(text), more)
        pieces.append(self._event(b"response.%s.delta" % kind.encode(), data))

    def _close_part(self, pieces: list[bytes], words: _Words) -> None:
        if not words.part:
            return
        text, kind = "".join(words.pieces), words.part
        words.pieces.clear()
        words.part = ""
        if words.is_reasoning:
            part = summary_part(text)
            place = b'"item_id":"%s","output_index":%d,"summary_index":0' % (words.name.encode(), words.index)
            data = b'%s,"text":%s' % (place, _encode(text))
            pieces.append(self._event(b"response.reasoning_summary_text.done", data))
            pieces.append(self._event(b"response.reasoning_summary_part.done", b'%s,"part":%s' % (place, part)))
        else:
            part, place = text_part(kind, text), _place(words)
            member = b'"refusal":%s' if kind == "refusal" else b'"logprobs":[],"text":%s'
            data = b"%s,%s" % (place, member % _encode(text))
            pieces.append(self._event(b"response.%s.done" % kind.encode(), data))
            pieces.append(self._event(b"response.content_part.done", b'%s,"part":%s' % (place, part)))
        words.parts.append(part)

    def _close_words(self, pieces: list[bytes], status: bytes) -> None:
        words = self._words
        if words is None:
            return
        self._words = None
        self._close_part(pieces, words)
        parts = b",".join(words.parts)
        item = reasoning_item(words.name, parts) if words.is_reasoning else message_item(words.name, status, parts)
        self._finish_item(pieces, words.index, item)

    # --- calls ---

    def _add_call(self, pieces: list[bytes], delta: ToolDelta) -> None:
        call = self._calls.get(delta.index)
        if call is None:
            self._close_words(pieces, DONE)
            index = self._take_place()
            call_id = delta.id or made_up_call_id(self._id, 0, delta.index)
            call = _OpenCall(index, item_id(CALL_ID, self._id, index), call_id, delta.name)
            self._calls[delta.index] = call
            self._add(pieces, index, call_item(call.name, BEGUN, call_id, delta.name, ""))
        if delta.arguments:
            self._add_arguments(pieces, call, delta.arguments)

    def _add_arguments(self, pieces: list[bytes], call: _OpenCall, arguments: str) -> None:
        self._keep(len(arguments))
        call.pieces.append(arguments)
        data = b'"item_id":"%s","output_index":%d,"delta":%s' % (call.name.encode(), call.index, _encode(arguments))
        pieces.append(self._event(b"response.function_call_arguments.delta", data))

    def _close(self, pieces: list[bytes], status: bytes) -> None:
        """Closes what is open; `status` is the state of the last item. Open words are behind all calls."""
        last = self._next - 1
        for call in self._calls.values():
            if not call.pieces:
                self._add_arguments(pieces, call, "{}")
            arguments = "".join(call.pieces)
            place = b'"item_id":"%s","output_index":%d' % (call.name.encode(), call.index)
            data = b'%s,"name":%s,"arguments":%s' % (place, _encode(call.function), _encode(arguments))
            pieces.append(self._event(b"response.function_call_arguments.done", data))
            state = status if call.index == last else DONE
            item = call_item(call.name, state, call.call_id, call.function, arguments)
            self._finish_item(pieces, call.index, item)
        self._calls.clear()
        self._close_words(pieces, status)


def _place(words: _Words) -> bytes:
    """Where the open part of a message stands."""
    return b'"item_id":%s,"output_index":%d,"content_index":%d' % (_encode(words.name), words.index, len(words.parts))


def _part_type(given: Event) -> str:
    """The type of a part that begins; of one that cannot be read, the usual one."""
    try:
        return _decode_loosely(given.part).type
    except msgspec.DecodeError:
        return "output_text"


def _with_member(last: Event, member: bytes | None) -> bytes:
    """The end of a stream that passed, with `member` in its response."""
    response = bytes(last.response)
    if member is not None:
        response = with_member(response, "crossfade", member)
    number = b"" if last.sequence_number is None else b',"sequence_number":%d' % last.sequence_number
    kind = last.type.encode()
    return b'event: %s\ndata: {"type":"%s","response":%s%s}\n\n' % (kind, kind, response, number)
