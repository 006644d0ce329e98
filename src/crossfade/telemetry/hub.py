"""Where every event arrives, and who hears of it: the journal first, then the log, then the other sinks.

Decides the order and that no sink's fault reaches the caller. Knows nothing of what sinks do with an event.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

from crossfade.core.events import Event
from crossfade.telemetry.logs import Logs
from crossfade.telemetry.notes import is_quiet


class Keeper(Protocol):
    """The journal, as far as the hub needs it. It calls `then` when the event is kept, or cannot be."""

    def append(self, event: Event, then: Callable[[], None] | None = None, *, may_wait: bool = False) -> None: ...

    def settle(self) -> None: ...

    def close(self) -> None: ...


class Sink(Protocol):
    """Metrics, traces, alerts. What it raises is logged, and the event goes on to the others."""

    def on_event(self, event: Event) -> None: ...


class Hub:
    """The engine's recorder. Everything is kept in the journal: requests and commits by `record`, which has `then`
    called once the line is with the kernel, and fallbacks, breakers, ejections and defects by `tell`."""

    def __init__(self, journal: Keeper, logs: Logs, *sinks: Sink) -> None:
        self._journal = journal
        self._logs = logs
        self._sinks = sinks
        self._logs_all = logs.is_debug

    def record(self, event: Event, then: Callable[[], None] | None = None) -> None:
        self._keep(event, then, False)

    def _keep(self, event: Event, then: Callable[[], None] | None, may_wait: bool) -> None:
        try:
            self._journal.append(event, then, may_wait=may_wait)
        except Exception as error:  # a fault of the journal's own, before it took `then`
            self._on_fault(self._journal, error)
            self._call(then)
        if self._logs_all or not is_quiet(event):
            self._send(self._logs, event)
        for sink in self._sinks:
            self._send(sink, event)

    def settle(self) -> None:
        self._journal.settle()

    def tell(self, event: Event) -> None:
        self._keep(event, None, True)

    def close(self) -> None:
        """Writes all there is. Blocks, for seconds at most."""
        self._journal.close()
        self._logs.close()

    def _send(self, sink: Sink, event: Event) -> None:
        try:
            sink.on_event(event)
        except Exception as error:
            self._on_fault(sink, error)

    def _call(self, then: Callable[[], None] | None) -> None:
        try:
            if then is not None:
                then()
        except Exception as error:
            self._on_fault(then, error)

    def _on_fault(self, sink: object, error: Exception) -> None:
        with contextlib.suppress(Exception):  # the log itself may be at fault: there is nobody left to tell
            self._logs.say("error", f"{type(sink).__name__} cannot take an event", error)
