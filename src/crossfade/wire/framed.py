"""What readers of streams in Amazon's frames share: cutting, damage, and exceptions in the place of events.

Knows what a frame says it is, and nothing of what an event holds. What an exception means is said by the provider.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from crossfade.core.exchange import StreamEvent
from crossfade.core.failure import Failure, FailureReason
from crossfade.wire.event_stream import FRAMES, Frame, FrameSplitter
from crossfade.wire.reader import Framing

ExceptionReader = Callable[[str, bytes], Failure]
"""What an error inside a 200 means, by the type that its frame names (empty for a body) and its JSON."""

_TYPE: Final = ":message-type"


class FramedReader:
    """Reads one stream of frames; a `StreamReader` but for what events mean, which `_event` says."""

    def __init__(self, read_exception: ExceptionReader) -> None:
        self._read_exception = read_exception
        self._splitter = FrameSplitter()
        self._is_broken = False
        self.undecodable = 0

    @property
    def framing(self) -> Framing:
        return FRAMES

    def feed(self, data: bytes) -> Sequence[StreamEvent]:
        """The events that `data` completes."""
        out: list[StreamEvent] = []
        for frame in self._splitter.feed(data):
            if not self._is_broken:
                self._frame(frame, out)
        if self._splitter.fault is not None and not self._is_broken:
            self._is_broken = True
            out.append(StreamEvent(failure=Failure(reason=FailureReason.MALFORMED_OUTPUT, detail=self._splitter.fault)))
        return out

    def more_text(self, data: bytes) -> tuple[bytes, str] | None:
        """No frame is passed on as it came, so there is no short way."""
        return None

    def close(self) -> Sequence[StreamEvent]:
        """Half a frame says nothing, and is counted."""
        if self._splitter.rest() and not self._is_broken:
            self.undecodable += 1
        return ()

    def _frame(self, frame: Frame, out: list[StreamEvent]) -> None:
        kind = frame.text(_TYPE)
        if kind == "exception":
            self._fail(frame.text(":exception-type"), frame.payload, out)
        elif kind == "error":  # one that the service has no shape for says so in its headers alone
            message = msgspec.json.encode({"message": frame.text(":error-message")})
            self._fail(frame.text(":error-code"), message, out)
        else:
            self._event(frame.text(":event-type"), frame.payload, out)

    def _fail(self, kind: str, payload: bytes, out: list[StreamEvent]) -> None:
        self._is_broken = True
        out.append(StreamEvent(failure=self._read_exception(kind, payload)))

    def _event(self, kind: str, payload: bytes, out: list[StreamEvent]) -> None:
        """Adds to `out` what an event of the type `kind` says; what cannot be decoded is counted."""
        raise NotImplementedError
