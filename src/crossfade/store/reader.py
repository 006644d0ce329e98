"""Reads journals: all their lines in the order of time, and those that come later.

Takes what a dying process, a full disk or a careless hand may leave: a torn last line, lines that are none of ours,
files that go away. They are counted, never guessed at. Knows nothing of filters and tables.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from crossfade.core.events import Event
from crossfade.store.base import FILE_PATTERN, JournalHeader, Line, started_at

MAX_LINE = 1024 * 1024
"""Bytes of the longest line that is taken for one of ours."""

_decode = msgspec.json.Decoder(Line).decode


class Stored(msgspec.Struct, frozen=True):
    """An event, and its line as it is in the file, without the line break."""

    event: Event
    raw: bytes


def journal_files(paths: Iterable[Path], since: float = 0.0) -> list[Path]:
    """The files of the given folders, and the given files, oldest first. Files last written before `since` (Unix
    seconds) are left out. Raises FileNotFoundError for a path that is not there."""
    found: set[Path] = set()
    for path in paths:
        if path.is_dir():
            found.update(one for one in path.glob(FILE_PATTERN) if one.is_file())
        else:
            path.stat()
            found.add(path)
    return sorted((path for path in found if _changed_at(path) >= since), key=lambda path: (started_at(path), path))


def read_events(paths: Iterable[Path], since: float = 0.0) -> Iterator[Event]:
    """The events of journals (folders or files) in the order of time, as far as clocks went forward."""
    return (stored.event for stored in JournalReader(paths, since).read())


class JournalReader:
    """One reading of some journals. `foreign` counts lines that are none of ours, `torn` last lines without an end.

    Files that can hold nothing since `since` (Unix seconds) are not opened; lines are not filtered.
    """

    def __init__(self, paths: Iterable[Path], since: float = 0.0) -> None:
        self.foreign = 0
        self.torn = 0
        self._paths = tuple(paths)
        self._since = since
        self._ends: dict[Path, int] = {}  # how far each file has been read, in whole lines

    def read(self, *, is_growing: bool = False) -> Iterator[Stored]:
        """Every line, merged by `at`. No file is opened before its time has come, so that years of files can be read.
        In a journal that `is_growing` a last line without an end is left for `read_new`."""
        waiting = journal_files(self._paths, self._since)[::-1]
        heap: list[tuple[float, int, Stored, Iterator[Stored]]] = []
        order = 0
        while waiting or heap:
            while waiting and (not heap or started_at(waiting[-1]) <= heap[0][0]):
                order += 1
                lines = self._events(waiting.pop(), is_growing)
                if (first := next(lines, None)) is not None:
                    heapq.heappush(heap, (first.event.at, order, first, lines))
            if not heap:
                return
            _, number, stored, lines = heap[0]
            yield stored
            if (following := next(lines, None)) is not None:
                heapq.heapreplace(heap, (following.event.at, number, following, lines))
            else:
                heapq.heappop(heap)

    def read_new(self) -> list[Stored]:
        """What has come since everything was read, merged by `at`."""
        found = [stored for path in journal_files(self._paths, self._since) for stored in self._events(path, True)]
        return sorted(found, key=lambda stored: stored.event.at)

    def _events(self, path: Path, is_growing: bool) -> Iterator[Stored]:
        for line in self._lines(path, is_growing):
            try:
                decoded = _decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                if line.endswith(b"\n"):
                    self.foreign += 1
                else:
                    self.torn += 1
                continue
            if not isinstance(decoded, JournalHeader):
                yield Stored(decoded, line.rstrip(b"\n"))

    def _lines(self, path: Path, is_growing: bool) -> Iterator[bytes]:
        try:
            file = path.open("rb")
        except FileNotFoundError:  # removed since it was listed
            return
        with file:
            file.seek(self._ends.setdefault(path, 0))
            while line := file.readline(MAX_LINE):
                is_whole = line.endswith(b"\n")
                if not is_whole and is_growing and len(line) < MAX_LINE:
                    return
                self._ends[path] += len(line)
                if is_whole or len(line) < MAX_LINE:
                    yield line
                else:
                    self.foreign += 1
                    self._ends[path] += _skip_line(file)


def _skip_line(file: BinaryIO) -> int:
    """Reads on to the end of an overlong line; how many bytes that was."""
    skipped = 0
    while part := file.readline(MAX_LINE):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("-inf")
