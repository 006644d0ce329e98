"""Claude's own messages by Bedrock's InvokeModel: what differs in a request (`anthropic_carried.py`), and its stream.

A body is Anthropic's but for `model` and `stream`, which the address says, and for the version and betas, which are
members and no headers. A stream has Anthropic's events, each in a frame of Amazon's; out of it they come as Anthropic
would have sent them, so that a caller of the messages API gets them as they are.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from crossfade.core.exchange import StreamEvent
from crossfade.wire.anthropic_answer import FailureReader
from crossfade.wire.anthropic_stream import AnthropicStreamReader
from crossfade.wire.framed import ExceptionReader, FramedReader

VERSION: Final = "bedrock-2023-05-31"
ADDRESSED: Final = ("model", "stream")


class _Chunk(msgspec.Struct, gc=False):
    data: bytes = msgspec.field(name="bytes")


class _Named(msgspec.Struct, gc=False):
    type: str = ""


_NAME: Final = re.compile(r"[a-z_]{1,64}", re.ASCII)
_decode_chunk: Final = msgspec.json.Decoder(_Chunk).decode
_decode_name: Final = msgspec.json.Decoder(_Named).decode


class InvokeReader(FramedReader):
    """Reads one stream of InvokeModel. See `wire.reader.StreamReader` for the contract."""

    def __init__(self, read_exception: ExceptionReader, read_failure: FailureReader) -> None:
        super().__init__(read_exception)
        self._inner = AnthropicStreamReader(read_failure)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'broken' if self._is_broken else 'of'} {self._inner!r}>"

    @property
    def is_complete(self) -> bool:
        return self._inner.is_complete and not self._is_broken

    def _event(self, kind: str, payload: bytes, out: list[StreamEvent]) -> None:
        if kind != "chunk":
            return
        try:
            data = _decode_chunk(payload).data
            name = _decode_name(data).type
        except (ValueError, RecursionError):
            self.undecodable += 1
            return
        if _NAME.fullmatch(name) is None:  # it would stand in a line of its own
            self.undecodable += 1
            return
        known = self._inner.undecodable
        out += self._inner.feed(b"event: %b\ndata: %b\n\n" % (name.encode(), b" ".join(data.split(b"\n"))))
        self.undecodable += self._inner.undecodable - known
