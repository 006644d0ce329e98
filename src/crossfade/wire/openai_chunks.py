"""Events of any provider's stream written as OpenAI chat chunks, for a caller of that dialect."""

from __future__ import annotations

import msgspec

from crossfade.core.exchange import StreamEvent, ToolDelta, Usage
from crossfade.wire.openai_response import made_up_call_id
from crossfade.wire.openai_usage import usage_json

_encode = msgspec.json.encode


class ChunkWriter:
    """Writes one downstream stream. Its id, model and creation time are fixed at the start.

    `usage` is what the usage chunk will say: the last one written, unless the owner sets a better sum before
    `end`. `is_continuing`: the stream has already begun by other means, so no role chunk goes out.
    """

    __slots__ = (
        "_finished",
        "_head",
        "_id",
        "_include_usage",
        "_is_continuing",
        "_named",
        "_started",
        "_tail",
        "usage",
    )

    def __init__(self, *, id: str, model: str, created: int, include_usage: bool, is_continuing: bool = False):  # noqa: A002 - the member's own name
        self._id = id
        self._include_usage = include_usage
        self._is_continuing = is_continuing
        self._started: set[int] = set()
        self._finished: set[int] = set()
        self._named: set[tuple[int, int]] = set()
        self.usage: Usage | None = None
        self._head = b'data: {"id":%s,"object":"chat.completion.chunk","created":%d,"model":%s,"choices":[' % (
            _encode(id),
            created,
            _encode(model),
        )
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"

    def __repr__(self) -> str:
        return f"<ChunkWriter {self._id} started={sorted(self._started)} finished={sorted(self._finished)}>"

    def write(self, event: StreamEvent) -> bytes:
        """The chunks that say what `event` says; b"" if it says nothing a caller of this dialect can hear."""
        if event.usage is not None:
            self.usage = event.usage
        pieces: list[bytes] = []
        if event.text:
            pieces.append(self._chunk(event.choice, b'"content":' + _encode(event.text)))
        if event.reasoning:
            pieces.append(self._chunk(event.choice, b'"reasoning_content":' + _encode(event.reasoning)))
        if event.refusal:
            pieces.append(self._chunk(event.choice, b'"refusal":' + _encode(event.refusal)))
        if event.tools:
            calls = b",".join([self._call(event.choice, delta) for delta in event.tools])
            pieces.append(self._chunk(event.choice, b'"tool_calls":[%s]' % calls))
        if event.finish is not None and event.choice not in self._finished:
            self._finished.add(event.choice)
            pieces.append(self._chunk(event.choice, b"", _encode(event.finish)))
        if not pieces:
            return b""
        if event.choice not in self._started:
            self._started.add(event.choice)
            if not self._is_continuing:
                # An empty text before a call would be a part of the answer to clients that keep parts.
                content = b"null" if event.tools and not event.text else b'""'
                pieces.insert(0, self._chunk(event.choice, b'"role":"assistant","content":' + content))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def end(self, note: bytes | None = None) -> bytes:
        """The end of the stream: the usage chunk if it was asked for, the note as a `crossfade` member of a last
        chunk without choices, and the marker. `note` is JSON text."""
        pieces = []
        if self._include_usage and self.usage is not None:
            pieces.append(self._head + b'],"usage":%s}\n\n' % usage_json(self.usage))
        if note is not None:
            pieces.append(self._head + b'],"crossfade":%s}\n\n' % note)
        pieces.append(b"data: [DONE]\n\n")
        return b"".join(pieces)

    def _chunk(self, choice: int, delta: bytes, finish: bytes = b"null") -> bytes:
        return b'%s{"index":%d,"delta":{%s},"logprobs":null,"finish_reason":%s}%s' % (
            self._head,
            choice,
            delta,
            finish,
            self._tail,
        )

    def _call(self, choice: int, delta: ToolDelta) -> bytes:
        if (choice, delta.index) in self._named:
            return b'{"index":%d,"function":{"arguments":%s}}' % (delta.index, _encode(delta.arguments))
        self._named.add((choice, delta.index))
        call_id = delta.id or made_up_call_id(self._id, choice, delta.index)
        return b'{"index":%d,"id":%s,"type":"function","function":{"name":%s,"arguments":%s}}' % (
            delta.index,
            _encode(call_id),
            _encode(delta.name),
            _encode(delta.arguments),
        )
