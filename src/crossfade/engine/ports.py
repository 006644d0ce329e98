"""What the engine needs of those around it: the caller's dialect, the record keeper. The caller's connection is a
`Downstream`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from crossfade.core.events import Event
from crossfade.core.exchange import Completion, RequestFacts, StreamEvent, Usage


class EventWriter(Protocol):
    """Writes one downstream stream, whatever number of upstream streams it is made of."""

    def leg(self, passes: bool) -> Callable[[StreamEvent], bytes]:
        """The writer of one upstream stream's events. `passes`: its events are in the caller's dialect, and their
        `raw` bytes go on as they are; otherwise they are written anew under the identity (id, model, created) of
        the stream that was first written."""

    def end(self, usage: Usage | None, member: bytes | None) -> bytes:
        """What closes the stream: `usage`, if given and asked for, replaces what the upstreams counted; `member` is
        the JSON of a `crossfade` member that a last chunk carries; then the end marker."""

    def error(self, status: int, code: str, message: str) -> bytes:
        """An error in the place of the end."""
        ...


class CallerDialect(Protocol):
    """How the caller reads answers."""

    @property
    def name(self) -> str:
        """Answers of a provider whose dialect has the same name go on as they came."""
        ...

    @property
    def has_loose_events(self) -> bool:
        """Whether each event of a stream stands for itself, so that some may pass as they came and others between them
        be written anew."""
        ...

    @property
    def keep_alive(self) -> bytes:
        """Bytes that say nothing, for callers who would take silence for death."""
        ...

    def writer(self, facts: RequestFacts, request: str) -> EventWriter:
        """`request` is the request's id, for answers whose provider gave none."""
        ...

    def completion(self, completion: Completion, facts: RequestFacts, request: str) -> bytes: ...

    def with_member(self, body: bytes, member: bytes) -> bytes:
        """A buffered answer with the `crossfade` member added."""
        ...

    def comment(self, text: str) -> bytes: ...

    def error(
        self, status: int, code: str | None, message: str, member: bytes | None = None, param: str | None = None
    ) -> bytes:
        """The body of an error. `member` is JSON text, of a `crossfade` member; `param` names the field at fault."""
        ...


class Recorder(Protocol):
    """Keeps the record. `record` calls `then` once the line is with the kernel (or is known to be lost)."""

    def record(self, event: Event, then: Callable[[], None] | None = None) -> None: ...

    def settle(self) -> None:
        """Has all that was recorded in this turn of the loop with the kernel now, as far as the disk allows."""

    def tell(self, event: Event) -> None:
        """Logs, metrics and alerts hear of it; it is not part of the journal's rows of requests."""
