"""Answers of any provider written as Anthropic messages, for a caller of that dialect: whole, streamed, and errors.

Reasoning of another provider becomes a thinking block without a signature, which `anthropic_request` takes out again
when the caller sends it back. A refusal is text, and the stop reason says that it is one.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from crossfade.core.exchange import Choice, Completion, Finish, StreamEvent, ToolDelta, Usage
from crossfade.wire.anthropic_answer import FINISHES
from crossfade.wire.anthropic_stream import BlockEdge
from crossfade.wire.openai_response import made_up_call_id

_encode = msgspec.json.encode

STOP_REASONS: Final = {
    Finish.STOP: "end_turn",
    Finish.LENGTH: "max_tokens",
    Finish.TOOL_CALLS: "tool_use",
    Finish.CONTENT_FILTER: "refusal",
}
ERROR_TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Anthropic's names for what a status means; the other 4xx are `invalid_request_error`, the rest `api_error`."""
PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'

_BAD_ID: Final = re.compile(r"[^a-zA-Z0-9_-]")
_NO_USAGE: Final = Usage()


def usage_json(usage: Usage) -> bytes:
    """The `usage` member: input without what came from a cache or went into one."""
    return b'{"input_tokens":%d,"cache_creation_input_tokens":%d,"cache_read_input_tokens":%d,"output_tokens":%d%s}' % (
        max(0, usage.prompt - usage.cached - usage.cache_write),
        usage.cache_write,
        usage.cached,
        usage.completion,
        b',"output_tokens_details":{"thinking_tokens":%d}' % usage.reasoning if usage.reasoning else b"",
    )


def stop_reason_of(
    finish: Finish | None, raw: str | None, *, by_sequence: bool, has_calls: bool, is_refusal: bool
) -> str:
    """Why the answer ended. `raw` is the provider's own word, which counts where it is one of Anthropic's."""
    if is_refusal or finish is Finish.CONTENT_FILTER:
        return "refusal"
    if by_sequence:
        return "stop_sequence"
    if has_calls and finish in (None, Finish.STOP):
        return "tool_use"  # some say `stop` where the call was asked for
    if finish is None:
        return "end_turn"
    return raw if raw is not None and FINISHES.get(raw) is finish else STOP_REASONS[finish]


def call_id_of(given: str, message: str, index: int) -> str:
    """The id of a tool call: the provider's, without characters that Anthropic would refuse in the next request."""
    return _BAD_ID.sub("_", given) if given else made_up_call_id(message, 0, index)


# --- whole answers -------------------------------------------------------------------------------------------


def write_completion(completion: Completion, *, default_id: str) -> bytes:
    """A `message` body, of the first choice. `default_id` stands in where the provider gave no id."""
    choice = completion.choices[0] if completion.choices else Choice()
    name = completion.id or default_id
    stop_reason = stop_reason_of(
        choice.finish,
        choice.raw_finish,
        by_sequence=choice.stopped_by_sequence,
        has_calls=bool(choice.tool_calls),
        is_refusal=bool(choice.refusal),
    )
    return (
        b'{"id":%s,"type":"message","role":"assistant","model":%s,"content":[%s],"stop_reason":%s,'
        b'"stop_sequence":null,"usage":%s}'
    ) % (
        _encode(name),
        _encode(completion.model),
        b",".join(_blocks(choice, name)),
        _encode(stop_reason),
        usage_json(completion.usage or _NO_USAGE),
    )


def _blocks(choice: Choice, name: str) -> list[bytes]:
    blocks = []
    if choice.reasoning:
        blocks.append(b'{"type":"thinking","thinking":%s,"signature":""}' % _encode(choice.reasoning))
    if choice.text or choice.refusal:
        blocks.append(b'{"type":"text","text":%s}' % _encode(choice.text + choice.refusal))
    for index, call in enumerate(choice.tool_calls):
        blocks.append(
            b'{"type":"tool_use","id":%s,"name":%s,"input":%s}'
            % (_encode(call_id_of(call.id, name, index)), _encode(call.name), _input(call.arguments))
        )
    return blocks


def _input(arguments: str) -> bytes:
    """The arguments as an object. What a model wrote and is none is kept as text inside one."""
    text = arguments.strip()
    if not text:
        return b"{}"
    try:
        is_object = isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, RecursionError):
        is_object = False
    return text.encode() if is_object else _encode({"arguments": arguments})


# --- errors --------------------------------------------------------------------------------------------------


def error_body(status: int, message: str, *, code: str | None, param: str | None = None) -> bytes:
    """An error in Anthropic's envelope; `code` and `param` are ours, and only there if they say something."""
    error: dict[str, str] = {"type": _type_of(status), "message": message}
    if code is not None:
        error["code"] = code
    if param is not None:
        error["param"] = param
    return _encode({"type": "error", "error": error})


def error_event(status: int, message: str, *, code: str | None) -> bytes:
    """An error as an event of a stream that has begun. No `message_stop` follows it."""
    return b"event: error\ndata: %s\n\n" % error_body(status, message, code=code)


def _type_of(status: int) -> str:
    return ERROR_TYPES.get(status) or ("invalid_request_error" if 400 <= status < 500 else "api_error")


# --- streams -------------------------------------------------------------------------------------------------


class MessageWriter:
    """Writes one downstream stream; its id and model are fixed when it begins.

    Events that pass as they came are told by `on_passed`, so that what is written between and behind them goes on where
    they stopped: in the block that is open, or in the next one. `usage` is what the end will say: the last one written,
    unless the owner sets a better sum before `end`.

    Blocks come one after the other here, while other dialects may take turns between calls and text. So the first call
    flows, and what else comes from then on waits for the end of the answer.
    """

    __slots__ = (
        "_behind",
        "_block",
        "_by_sequence",
        "_finish",
        "_has_calls",
        "_has_ended",
        "_has_started",
        "_id",
        "_index",
        "_is_refusal",
        "_late",
        "_live",
        "_model",
        "_raw_finish",
        "usage",
    )

    def __init__(self) -> None:
        self._id = ""
        self._model = ""
        self._has_started = False
        self._has_ended = False  # the stop reason is out
        self._index = 0  # of the open block, else of the next one
        self._block = ""  # the type of the open block
        self._live: int | None = None  # the call that flows
        self._late: dict[int, list[str]] = {}  # calls that wait: [id, name, piece, piece, ...]
        self._behind: list[StreamEvent] = []  # what came while a call was flowing
        self._has_calls = False
        self._finish: Finish | None = None
        self._raw_finish: str | None = None
        self._by_sequence = False
        self._is_refusal = False
        self.usage: Usage | None = None

    def __repr__(self) -> str:
        state = "ended" if self._has_ended else "started" if self._has_started else "new"
        return f"<MessageWriter {self._id} {state} at {self._index} {self._block}>"

    def be(self, id: str, model: str) -> None:  # noqa: A002 - the member's own name
        """Fixes the identity, as far as it is not fixed yet."""
        self._id = self._id or id
        self._model = self._model or model

    def on_passed(self, event: StreamEvent) -> None:
        """Hears of an event whose bytes go out as they came."""
        self._has_started = True
        if event.finish is not None or event.raw_finish is not None:
            self._has_ended = True
        if type(event.native) is BlockEdge:
            edge = event.native
            self._block = edge.opens
            self._index = edge.index if edge.opens else edge.index + 1
            self._live = event.tools[0].index if edge.opens == "tool_use" and event.tools else None

    def write(self, event: StreamEvent) -> bytes:
        """The events that say what `event` says; b"" if it says nothing a caller of this dialect can hear yet."""
        if event.usage is not None:
            self.usage = event.usage
        pieces: list[bytes] = []
        if event.text or event.reasoning or event.refusal:
            if self._live is None and not self._late:
                self._add_words(pieces, event)
            else:
                self._behind.append(event)
        for delta in event.tools:
            self._add_call(pieces, delta)
        if event.finish is not None or event.raw_finish is not None:
            self._finish = event.finish or self._finish
            self._raw_finish = event.raw_finish or self._raw_finish
            self._by_sequence = self._by_sequence or event.stopped_by_sequence
            self._add_waiting(pieces)
        return b"".join(pieces)

    def end(self, member: bytes | None = None) -> bytes:
        """The end of the stream: why it ended and what it used, then the marker, which carries `member` (JSON text) as
        its `crossfade`."""
        pieces: list[bytes] = []
        self._start(pieces)
        if not self._has_ended:
            self._has_ended = True
            self._add_waiting(pieces)
            self._close(pieces)
            pieces.append(self._ending())
        note = b"" if member is None else b',"crossfade":%s' % member
        pieces.append(_event(b"message_stop", b'{"type":"message_stop"%s}' % note))
        return b"".join(pieces)

    # --- pieces ---

    def _start(self, pieces: list[bytes]) -> None:
        if self._has_started:
            return
        self._has_started = True
        data = (
            b'{"type":"message_start","message":{"id":%s,"type":"message","role":"assistant","model":%s,"content":[],'
            b'"stop_reason":null,"stop_sequence":null,"usage":%s}}'
        ) % (_encode(self._id), _encode(self._model), usage_json(self.usage or _NO_USAGE))
        pieces.append(_event(b"message_start", data))

    def _add_words(self, pieces: list[bytes], event: StreamEvent) -> None:
        if event.reasoning:
            self._add(pieces, "thinking", b'{"type":"thinking_delta","thinking":%s}' % _encode(event.reasoning))
        if event.text:
            self._add(pieces, "text", b'{"type":"text_delta","text":%s}' % _encode(event.text))
        if event.refusal:
            self._is_refusal = True
            self._add(pieces, "text", b'{"type":"text_delta","text":%s}' % _encode(event.refusal))

    def _add(self, pieces: list[bytes], kind: str, delta: bytes) -> None:
        if self._block != kind:
            self._open(pieces, kind, _EMPTY[kind])
        pieces.append(self._delta(delta))

    def _add_call(self, pieces: list[bytes], delta: ToolDelta) -> None:
        if self._live is None and not self._late and delta.name:
            self._live = delta.index
            self._open_call(pieces, delta.index, delta.id, delta.name)
        if delta.index == self._live:
            self._add_arguments(pieces, delta.arguments)
            return
        call = self._late.setdefault(delta.index, ["", ""])
        call[0] = call[0] or delta.id
        call[1] = call[1] or delta.name
        call.append(delta.arguments)

    def _add_waiting(self, pieces: list[bytes]) -> None:
        for index, call in sorted(self._late.items()):
            self._open_call(pieces, index, call[0], call[1])
            self._add_arguments(pieces, "".join(call[2:]))
        for event in self._behind:
            self._add_words(pieces, event)
        self._late.clear()
        self._behind.clear()
        self._live = None

    def _open_call(self, pieces: list[bytes], index: int, call_id: str, name: str) -> None:
        self._has_calls = True
        block = b'{"type":"tool_use","id":%s,"name":%s,"input":{}}' % (
            _encode(call_id_of(call_id, self._id, index)),
            _encode(name),
        )
        self._open(pieces, "tool_use", block)

    def _add_arguments(self, pieces: list[bytes], arguments: str) -> None:
        if arguments:
            pieces.append(self._delta(b'{"type":"input_json_delta","partial_json":%s}' % _encode(arguments)))

    def _open(self, pieces: list[bytes], kind: str, block: bytes) -> None:
        self._start(pieces)
        self._close(pieces)
        self._block = kind
        data = b'{"type":"content_block_start","index":%d,"content_block":%s}' % (self._index, block)
        pieces.append(_event(b"content_block_start", data))

    def _close(self, pieces: list[bytes]) -> None:
        if self._block:
            self._block = ""
            data = b'{"type":"content_block_stop","index":%d}' % self._index
            pieces.append(_event(b"content_block_stop", data))
            self._index += 1

    def _delta(self, delta: bytes) -> bytes:
        data = b'{"type":"content_block_delta","index":%d,"delta":%s}' % (self._index, delta)
        return _event(b"content_block_delta", data)

    def _ending(self) -> bytes:
        reason = stop_reason_of(
            self._finish,
            self._raw_finish,
            by_sequence=self._by_sequence,
            has_calls=self._has_calls,
            is_refusal=self._is_refusal,
        )
        data = b'{"type":"message_delta","delta":{"stop_reason":%s,"stop_sequence":null},"usage":%s}' % (
            _encode(reason),
            usage_json(self.usage or _NO_USAGE),
        )
        return _event(b"message_delta", data)


_EMPTY: Final = {
    "text": b'{"type":"text","text":""}',
    "thinking": b'{"type":"thinking","thinking":"","signature":""}',
}
"""Blocks as they begin."""


def _event(name: bytes, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name, data)
