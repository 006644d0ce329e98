"""The file that is being written: its name, its header, when a new one is begun, what happens after an error.

Knows one file at a time and blocks as long as the disk does. Whoever calls decides on which thread; never on two at
once. No line is lost to an error: it goes on in the same file, or starts over in a new one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from crossfade.store.base import Disk, JournalHeader, file_name

MAX_BYTES = 256 * 1024 * 1024
"""A file that has grown to this is followed by a new one."""
LOOK_EVERY = 1.0
"""Seconds after which it is looked whether the file is still there. A removed file takes writes without an error."""
PATIENCE = 60.0
"""Seconds between tries to begin the next file, where that fails and the present one still serves."""

_DAY = 86_400.0
_CLOSED = -1


class JournalFile:
    """Appends blocks of whole lines. `done` is how much of the last block is in the file.

    A new file is begun at `max_bytes` and at midnight UTC. Where that fails, the present one is used on.
    """

    def __init__(
        self,
        folder: Path,
        *,
        version: str,
        disk: Disk,
        now: Callable[[], float],
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.folder = folder
        self.path: Path | None = None
        self.done = 0
        self._version = version
        self._disk = disk
        self._write = disk.write
        self._now = now
        self._max_bytes = max_bytes
        self._fd = _CLOSED
        self._identity: tuple[int, int] | None = None
        self._size = 0
        self._header = b""  # what of the header is still to be written
        self._is_doubtful = False  # the last call failed
        self._is_new = False  # its name is not known to be on the disk
        self._look_at = 0.0
        self._next_day = 0.0
        self._no_new_before = 0.0

    def __repr__(self) -> str:
        return f"<JournalFile {self.path} {self._size} bytes{' doubtful' if self._is_doubtful else ''}>"

    def put(self, data: bytes | bytearray, done: int = 0) -> None:
        """Appends `data` from `done` on. Raises OSError, with `done` saying what to go on from."""
        self.done = done
        now = self._now()
        try:
            if self._fd == _CLOSED or self._is_doubtful or now >= self._look_at or self._size >= self._max_bytes:
                self._make_ready(data, now)
            if self._header:
                self._put_header()
            count = self._write(self._fd, memoryview(data)[self.done :] if self.done else data)
            self.done += count
            self._size += count
            if self.done < len(data):
                self._put_rest(data, count)
        except InterruptedError:
            self.put(data, self.done)
        except OSError:
            self._is_doubtful = True
            raise

    def sync(self) -> None:
        """Has the kernel bring what was put to the disk. Raises OSError."""
        try:
            self._disk.sync(self._fd)
            if self._is_new:
                self._disk.sync_folder(self.folder)
                self._is_new = False
        except OSError:
            self._is_doubtful = True
            raise

    def begin(self) -> None:
        """Makes the folder, the first file and its header, so that what is wrong shows at once. Raises OSError."""
        self.put(b"")

    def close(self) -> None:
        fd, self._fd = self._fd, _CLOSED
        if fd != _CLOSED:
            try:
                self._disk.close(fd)
            except OSError:  # nothing can be done about it, and the lines are with the kernel
                pass

    # --- what is rare ----------------------------------------------------------------------------------------

    def _put_rest(self, data: bytes | bytearray, count: int) -> None:
        """The kernel took a part: the disk is nearly full, or a signal came. The next write takes more or says why."""
        while self.done < len(data):
            if count == 0:
                raise OSError(errno.EIO, "the file takes no bytes")
            count = self._write(self._fd, memoryview(data)[self.done :])
            self.done += count
            self._size += count

    def _put_header(self) -> None:
        while self._header:
            count = self._write(self._fd, self._header)
            if count == 0:
                raise OSError(errno.EIO, "the file takes no bytes")
            self._header = self._header[count:]
            self._size += count

    def _make_ready(self, data: bytes | bytearray, now: float) -> None:
        """A file that can be written to: the present one, opened anew after an error, or a new one."""
        if self._fd == _CLOSED or not self._is_there():
            self._begin_file(data, now)
        elif self.done == 0 and (self._size >= self._max_bytes or now >= self._next_day) and now >= self._no_new_before:
            try:
                self._begin_file(data, now)
            except OSError:  # no more descriptors, no more inodes: the present file does as well
                self._no_new_before = now + PATIENCE
        self._is_doubtful = False
        self._look_at = now + LOOK_EVERY if now >= self._next_day else min(now + LOOK_EVERY, self._next_day)

    def _is_there(self) -> bool:
        """Whether the file still has a name. After an error it is opened anew: some errors stick to a descriptor."""
        assert self.path is not None
        if self._is_doubtful:
            try:
                fd = self._disk.reopen(self.path)
            except FileNotFoundError:
                return False
            self.close()
            self._fd = fd
        return self._disk.identity(self._fd) == self._identity

    def _begin_file(self, data: bytes | bytearray, now: float) -> None:
        """A new file. A line that the last one holds only the beginning of starts over."""
        self._disk.make_folder(self.folder)
        path, fd = self._create(now)
        identity = self._disk.identity(fd)
        self.close()
        self.path, self._fd, self._identity = path, fd, identity
        header = JournalHeader(version=self._version, pid=os.getpid(), started_at=round(now, 6))
        self._header = msgspec.json.encode(header) + b"\n"
        self._size = 0
        self._next_day = (now // _DAY + 1) * _DAY
        self._is_new = True
        self.done = data.rfind(b"\n", 0, self.done) + 1

    def _create(self, now: float) -> tuple[Path, int]:
        copy = 0
        while True:
            path = self.folder / file_name(now, os.getpid(), copy)
            try:
                return path, self._disk.create(path)
            except FileExistsError:  # begun in the same second, or by a namesake in another container
                copy += 1
