"""The journal: what happened, as lines that are with the kernel before the answers they speak of have left.

Decides when lines are written and how long an answer may wait for that. In a good hour the lines of one turn of the
loop go out in one write, then the answers' last bytes. When a write fails or is slow, lines go to a backlog in memory
that a thread writes, and answers wait for nothing, until the disk has been calm for a while. Knows nothing of requests,
nor of who reads. All methods are for the loop's thread.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from crossfade.core.events import Event
from crossfade.store.backlog import LIMIT_BYTES, Backlog
from crossfade.store.base import Disk, Report
from crossfade.store.file import MAX_BYTES, JournalFile

SLOW_WRITE: Final = 0.05
"""Seconds. The loop stands still during a write; after a longer one a thread takes over."""
SYNC_LIMIT: Final = 1.0
"""Seconds that answers wait for the disk with `fsync`; then they go, and wait no more until the disk is fast again."""
TOLD_WITHIN: Final = 0.05
"""Seconds that a line which no answer speaks of may wait for others to be written with."""
REPORT_EVERY: Final = 60.0
"""Seconds between two reports of lost lines."""
LOOK_EVERY: Final = 1.0
"""Seconds between looks at a disk in trouble."""

Then = Callable[[], None]

_NEWLINE: Final = 10


class Loop(Protocol):
    """What the journal needs of an asyncio event loop."""

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> object: ...

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> Timer: ...

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any) -> object: ...

    def call_exception_handler(self, context: dict[str, Any]) -> None: ...


class Timer(Protocol):
    """What `call_later` returns."""

    def cancel(self) -> None: ...


class _Group:
    """Answers that wait for the block of `number` to be on the disk, until `until` at most."""

    __slots__ = ("number", "thens", "until")

    def __init__(self, number: int, until: float, thens: list[Then]) -> None:
        self.number = number
        self.until = until
        self.thens = thens


class Journal:
    """Appends events to a file of its own in `folder`, which is made if need be.

    `version` is the configuration's. With `fsync`, answers wait until their lines are on the disk, SYNC_LIMIT seconds
    at most. `report` hears of trouble: when it begins and ends, and what was lost. Nothing here raises for the disk's
    sake, not even at the start: `is_degraded` says whether the disk is in trouble, `lost` counts lines that are not on
    record.
    """

    def __init__(
        self,
        folder: Path,
        *,
        version: str,
        loop: Loop | asyncio.AbstractEventLoop,
        fsync: bool = False,
        report: Report = lambda level, text: None,
        now: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
        disk: Disk | None = None,
        max_bytes: int = MAX_BYTES,
        memory: int = LIMIT_BYTES,
    ) -> None:
        self.lost = 0
        self.is_degraded = False
        self._loop = loop
        self._fsync = fsync
        self._report = report
        self._timer = timer
        self._encode_into = msgspec.json.Encoder().encode_into
        self._call_soon = loop.call_soon
        self._file = JournalFile(folder, version=version, disk=disk or Disk(), now=now, max_bytes=max_bytes)
        self._put = self._file.put
        self._backlog = Backlog(
            self._file,
            sync=fsync,
            slow=SYNC_LIMIT if fsync else SLOW_WRITE,
            timer=timer,
            limit=memory,
            on_written=self._from_thread_written,
            on_failed=self._from_thread_failed,
        )
        self._lines = bytearray()
        self._thens: list[Then] = []
        self._is_scheduled = False
        self._is_waiting = False  # a timer runs for lines that may wait
        self._is_closed = False
        self._waiting: deque[_Group] = deque()
        self._look: Timer | None = None
        self._reported_lost = 0
        self._reported_at = float("-inf")
        try:
            self._file.begin()
        except OSError as error:
            self._degrade(f"cannot be begun: {error}")

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "degraded" if self.is_degraded else "direct"
        return f"<Journal {state} {self._file.path} lost={self.lost}>"

    @property
    def path(self) -> Path | None:
        """The file that is being written; None before the first could be begun."""
        return self._file.path

    def append(self, event: Event, then: Then | None = None, *, may_wait: bool = False) -> None:
        """Writes `event` at the end of this turn of the loop. `then` is called when the line is with the kernel, or
        when it is known that nobody should wait for that. A line that `may_wait`, as no answer speaks of it yet, goes
        with the next that may not, TOLD_WITHIN seconds from now at the latest."""
        lines = self._lines
        start = len(lines)
        try:
            self._encode_into(event, lines, -1)
            lines.append(_NEWLINE)
        except Exception as error:  # text that is no Unicode, say: this line is lost, its answer is not
            del lines[start:]
            self._lose(1, f"an event of type {type(event).__name__} cannot be written: {error}")
        if then is not None:
            self._thens.append(then)
        if self._is_scheduled or (may_wait and self._is_waiting):
            return
        try:
            if may_wait:
                self._is_waiting = True
                self._loop.call_later(TOLD_WITHIN, self._on_waited)
            else:
                self._is_scheduled = True
                self._call_soon(self._flush)
        except RuntimeError:  # the loop is closed
            self._flush()

    def settle(self) -> None:
        """Writes now what was appended in this turn of the loop."""
        if self._is_scheduled:
            self._flush()

    def _on_waited(self) -> None:
        self._is_waiting = False
        if not self._is_scheduled:
            self._flush()

    def flush(self, timeout: float = 5.0) -> bool:
        """Writes all there is, with `timeout` seconds for a disk in trouble; whether all is written. Blocks."""
        self._flush()
        is_written = self._backlog.drain(timeout)
        self._release(len(self._waiting))
        return is_written

    def close(self, timeout: float = 5.0) -> None:
        """Writes all there is, with one more try and `timeout` seconds for a disk in trouble. Blocks. What is appended
        later is lost, and its `then` called at once."""
        if self._is_closed:
            return
        self._flush()
        self._is_closed = True
        left = self._backlog.close(timeout)
        self._release(len(self._waiting))
        if self._look is not None:
            self._look.cancel()
        if self._backlog.is_empty:  # else the thread may still be inside a write
            self._file.close()
        self._reported_at = float("-inf")
        self._lose(left, "could not be written until the end" if left else "")

    # --- writing ---------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._is_scheduled = False
        lines, thens = self._lines, self._thens
        self._lines, self._thens = bytearray(), []
        try:
            if self._fsync or self.is_degraded or self._is_closed:
                if self._hand_over(lines, thens):
                    thens = []
            elif lines:
                self._write(lines)
        finally:
            for then in thens:
                self._call(then)

    def _write(self, lines: bytearray) -> None:
        began_at = self._timer()
        try:
            self._put(lines)
        except OSError as error:
            self._backlog.add(lines, self._file.done)
            self._degrade(f"cannot be written: {error}")
            return
        took = self._timer() - began_at
        if took > SLOW_WRITE:
            self._degrade(f"is slow: a write took {took * 1000:.0f} ms")

    def _hand_over(self, lines: bytearray, thens: list[Then]) -> bool:
        """Leaves the lines to the thread; whether the answers are to wait for it."""
        number = None
        if lines:
            number = None if self._is_closed else self._backlog.add(lines)
            if number is None:
                self._lose(lines.count(_NEWLINE), "the journal is closed" if self._is_closed else "memory is full")
        if self.is_degraded or self._is_closed:
            return False
        if number is None:
            if not lines and self._waiting:  # an event that could not be written: its answer keeps its place
                self._waiting[-1].thens += thens
                return True
            if lines:
                self._degrade("does not keep up")
            return False
        self._waiting.append(_Group(number, self._timer() + SYNC_LIMIT, thens))
        self._look_again(SYNC_LIMIT)
        return True

    def _call(self, then: Then) -> None:
        try:
            then()
        except (Exception, asyncio.CancelledError) as error:
            message = "an answer could not be ended after its line was written"
            self._loop.call_exception_handler({"message": message, "exception": error})

    # --- the thread's news -----------------------------------------------------------------------------------

    def _from_thread_written(self, number: int) -> None:
        if self._fsync:
            self._on_loop(self._on_written, number)

    def _from_thread_failed(self, error: OSError) -> None:
        if not self.is_degraded:
            self._on_loop(self._degrade, f"cannot be written: {error}")

    def _on_loop(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop is closed: nobody is left to hear of it
            pass

    def _on_written(self, number: int) -> None:
        done = 0
        for group in self._waiting:
            if group.number > number:
                break
            done += 1
        self._release(done)

    def _release(self, count: int) -> None:
        """Lets the answers of the first `count` groups go."""
        for group in [self._waiting.popleft() for _ in range(count)]:
            for then in group.thens:
                self._call(then)

    # --- trouble ---------------------------------------------------------------------------------------------

    def _degrade(self, what: str) -> None:
        if self.is_degraded or self._is_closed:
            return
        self.is_degraded = True
        self._backlog.note_trouble()
        self._report("error", f"journal {self._file.folder} {what}; lines wait in memory, answers do not wait")
        self._release(len(self._waiting))
        self._look_again(LOOK_EVERY)

    def _look_again(self, seconds: float) -> None:
        """Has `_on_look` called then, unless it will be anyway."""
        if self._look is None:
            self._look = self._loop.call_later(seconds, self._on_look)

    def _on_look(self) -> None:
        """Once in a while: has the disk recovered, have answers waited too long, is there a loss to report?"""
        self._look = None
        if self._is_closed:
            return
        now = self._timer()
        if self.is_degraded:
            self._lose(0, "")
            if self._backlog.is_calm:
                self.is_degraded = False
                self._report("info", f"journal {self._file.folder} is written as usual again")
        elif self._waiting and self._waiting[0].until <= now:
            self._degrade(f"is slow: the disk took more than {SYNC_LIMIT:g} s")
        if self.is_degraded:
            self._look_again(LOOK_EVERY)
        elif self._waiting:
            self._look_again(max(0.001, self._waiting[0].until - now))

    def _lose(self, count: int, why: str) -> None:
        """Counts lost lines, and reports those not reported yet, once a minute."""
        self.lost += count
        fresh = self.lost - self._reported_lost
        if fresh and self._timer() - self._reported_at >= REPORT_EVERY:
            self._reported_lost = self.lost
            self._reported_at = self._timer()
            cause = f" ({why})" if why else ""
            self._report("error", f"journal {self._file.folder}: lines lost: {fresh}{cause}, {self.lost} in all")
