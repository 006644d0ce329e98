"""Lines that wait in bounded memory for a disk that is slow, full or gone, and the thread that writes them.

Keeps the order of lines and loses none that it took, unless the process ends before the disk recovers. Knows nothing of
answers: it says how far it has come, and who waits decides for how long. The thread is a daemon and speaks to nobody.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from crossfade.store.file import JournalFile

LIMIT_BYTES = 8 * 1024 * 1024
"""Memory for lines that wait."""
CALM_AFTER = 5.0
"""Seconds without a slow or failed write after which the disk is trusted again."""
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds between tries on a disk that fails; they double from the first to the longest."""

_BATCH_BYTES = 1024 * 1024


class Backlog:
    """What is added is written, in order, by a thread of its own, which begins with the first addition.

    `on_written(number)` says that the block of that number, and all before it, are written (with `sync`: on the disk);
    `on_failed(error)` that a try failed. Both are called on the thread. A write that takes longer than `slow` seconds
    by `timer` is trouble as a failed one is.
    """

    def __init__(
        self,
        file: JournalFile,
        *,
        sync: bool,
        slow: float,
        timer: Callable[[], float],
        on_written: Callable[[int], None],
        on_failed: Callable[[OSError], None],
        limit: int = LIMIT_BYTES,
    ) -> None:
        self._file = file
        self._sync = sync
        self._slow = slow
        self._timer = timer
        self._on_written = on_written
        self._on_failed = on_failed
        self._limit = limit
        self._changed = threading.Condition()
        self._blocks: deque[bytes | bytearray] = deque()
        self._begun = 0  # bytes of the first block that are in the file already
        self._size = 0
        self._count = 0
        self._is_closing = False
        self._troubled_at = timer()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Backlog {self._size} bytes in {len(self._blocks)} blocks>"

    @property
    def is_empty(self) -> bool:
        return not self._blocks

    @property
    def is_calm(self) -> bool:
        """Everything is written, and writes have been fast for a while: whoever adds may write by itself again."""
        with self._changed:
            return not self._blocks and self._timer() - self._troubled_at >= CALM_AFTER

    def note_trouble(self) -> None:
        self._troubled_at = self._timer()

    def add(self, data: bytes | bytearray, done: int = 0) -> int | None:
        """The block's number, or None where there is no room for it. `done` bytes of it are in the file already."""
        with self._changed:
            if self._blocks and self._size + len(data) > self._limit:
                return None
            if not self._blocks:
                self._begun = done
            self._blocks.append(data)
            self._size += len(data)
            self._count += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="crossfade-journal", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            return self._count

    def drain(self, timeout: float) -> bool:
        """Waits until all is written, for `timeout` seconds at most; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._blocks, timeout)

    def close(self, timeout: float) -> int:
        """Gives every block one more try, for `timeout` seconds at most; the number of lines that are left over."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)
        with self._changed:
            return b"".join(self._blocks).count(b"\n", self._begun)

    # --- the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            data, blocks, begun, number = batch
            if not self._write(data, begun):
                return
            with self._changed:
                for _ in range(blocks):
                    self._size -= len(self._blocks.popleft())
                self._begun = 0
                self._changed.notify_all()
            self._on_written(number)

    def _next_batch(self) -> tuple[bytes, int, int, int] | None:
        """Blocks to be written in one go; None at the end. They stay in `_blocks` until they are written."""
        with self._changed:
            self._changed.wait_for(lambda: self._blocks or self._is_closing)
            if not self._blocks:
                return None
            size = 0
            taken: list[bytes | bytearray] = []
            for block in self._blocks:
                if taken and size + len(block) > _BATCH_BYTES:
                    break
                taken.append(block)
                size += len(block)
            number = self._count - len(self._blocks) + len(taken)
            return b"".join(taken), len(taken), self._begun, number

    def _write(self, data: bytes, done: int) -> bool:
        """Tries until `data` is written. False: the journal is being closed, and the last try failed."""
        pause = FIRST_PAUSE
        while True:
            began_at = self._timer()
            try:
                self._file.put(data, done)
                done = len(data)
                if self._sync:
                    self._file.sync()
            except OSError as error:
                done = self._file.done
                self._on_failed(error)
            else:
                if self._timer() - began_at > self._slow:
                    self.note_trouble()
                return True
            with self._changed:
                self._troubled_at = self._timer()
                self._begun = done
                if self._is_closing:
                    return False
                self._changed.wait_for(lambda: self._is_closing, pause)
            pause = min(pause * 2, LONGEST_PAUSE)
