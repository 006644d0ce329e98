"""What the journal's files are made of, and the few system calls that make them.

Decides the format: JSON lines, of which the first is a `JournalHeader` and every other an event of `core/events.py`.
Knows nothing of when lines are written or who reads them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from crossfade.core.events import Event

FORMAT = 1
FILE_PATTERN = "journal-*.jsonl"
FOLDER_MODE = 0o700
FILE_MODE = 0o600

Report = Callable[[Literal["info", "warning", "error"], str], None]
"""How the journal speaks of itself: a level and a sentence. Called on the loop's thread only."""


class JournalHeader(msgspec.Struct, frozen=True, kw_only=True, tag="journal", tag_field="event"):
    """The first line of every file: which configuration `version` its lines were made under, and by which process.

    `started_at` is when the file was begun, in Unix seconds. `format` grows when a reader of today would misread.
    """

    version: str
    pid: int
    started_at: float
    format: int = FORMAT


Line = Event | JournalHeader


def file_name(started_at: float, pid: int, copy: int) -> str:
    """The name of a file begun at `started_at`; `copy` tells files of the same second and process id apart."""
    stamp = datetime.fromtimestamp(started_at, UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"journal-{stamp}-{pid}{f'-{copy}' if copy else ''}.jsonl"


def started_at(path: Path) -> float:
    """When a file was begun, by its name; 0 for a name that is not ours."""
    try:
        return datetime.strptime(path.name.split("-")[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except (IndexError, ValueError):
        return 0.0


class Disk:
    """The system calls of the journal. Tests put a failing or slow one in its place."""

    def make_folder(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)

    def create(self, path: Path) -> int:
        """A new file, for appending. Raises FileExistsError if there is one."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)

    def reopen(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        return os.write(fd, data)

    def sync(self, fd: int) -> None:
        os.fdatasync(fd)

    def sync_folder(self, folder: Path) -> None:
        """Makes the names of new files last as well."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def identity(self, fd: int) -> tuple[int, int] | None:
        """What tells the file from every other; None if it has been removed."""
        found = os.fstat(fd)
        return (found.st_dev, found.st_ino) if found.st_nlink else None

    def close(self, fd: int) -> None:
        os.close(fd)
