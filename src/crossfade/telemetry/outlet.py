"""Where log lines leave the process, without ever keeping it waiting.

A terminal that is stopped, or a pipe that nobody reads, blocks who writes to it. So a line is written at once only
where there is room for it; otherwise it waits in bounded memory for a thread. Knows nothing of what lines say.
"""

from __future__ import annotations

import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable

LIMIT_BYTES = 1024 * 1024
"""Memory for lines that wait."""

_SURE_BYTES = select.PIPE_BUF
_POLL_MS = 1000


class Outlet:
    """Writes lines to the descriptor `fd`. What finds no room in `limit` bytes of memory is lost and counted; as soon
    as there is room again, `lost_line(count)` says so in its place."""

    def __init__(self, fd: int, lost_line: Callable[[int], bytes], limit: int = LIMIT_BYTES) -> None:
        self.lost = 0
        self._fd = fd
        self._lost_line = lost_line
        self._limit = limit
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._untold = 0
        self._thread: threading.Thread | None = None
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        try:
            self._is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        except OSError:
            self._is_file = False

    def write(self, line: bytes) -> None:
        """Writes `line`, or has it written soon. Never raises, never waits."""
        with self._changed:
            if not self._waiting and self._untold == 0:
                line = self._try(line)
                if not line:
                    return
            if self._waiting and self._size + len(line) > self._limit:
                self.lost += 1
                self._untold += 1
                return
            self._waiting.append(line)
            self._size += len(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="crossfade-logs", daemon=True)
                self._thread.start()

    def flush(self, timeout: float) -> bool:
        """Waits until all is written, for `timeout` seconds at most; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None, timeout)

    def _try(self, line: bytes) -> bytes:
        """What is left of `line` after as much as there is surely room for. What nobody can ever read is dropped."""
        if not self._is_file and (len(line) > _SURE_BYTES or not self._poll.poll(0)):
            return line
        try:
            return line[os.write(self._fd, line) :]
        except BlockingIOError:
            return line
        except OSError:
            self.lost += 1
            return b""

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._untold and not self._waiting:
                    self._waiting.append(self._lost_line(self._untold))
                    self._size += len(self._waiting[0])
                    self._untold = 0
                if not self._waiting:
                    self._thread = None
                    self._changed.notify_all()
                    return
                line = self._waiting[0]
            self._write_all(line)
            with self._changed:
                self._waiting.popleft()
                self._size -= len(line)

    def _write_all(self, line: bytes) -> None:
        while line:
            try:
                line = line[os.write(self._fd, line) :]
            except BlockingIOError:
                self._poll.poll(_POLL_MS)
            except OSError:
                self.lost += 1
                return
