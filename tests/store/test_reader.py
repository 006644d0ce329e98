"""What is read of journals, whatever state their files are in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crossfade.core.events import Event
from crossfade.store.base import JournalHeader
from crossfade.store.reader import MAX_LINE, JournalReader, journal_files, read_events
from tests.store.samples import NOON, fallback, request, write_lines

HEADER = msgspec.json.encode(JournalHeader(version="1", pid=7, started_at=NOON)) + b"\n"
FIRST = "journal-20260528T120000Z-7.jsonl"
LATER = "journal-20260529T000000Z-7.jsonl"
DAY_AFTER = 43_200.0


def times(events: Any) -> list[float]:
    return [event.at - NOON for event in events]


def test_files_are_merged_by_time(tmp_path: Path) -> None:
    write_lines(tmp_path / FIRST, HEADER, request(1, NOON), request(3, NOON + 2), request(5, NOON + 4))
    write_lines(tmp_path / "journal-20260528T120001Z-8.jsonl", HEADER, request(2, NOON + 1), request(4, NOON + 3))
    write_lines(tmp_path / "notes.txt", b"nothing of ours\n")
    reader = JournalReader([tmp_path])
    assert times(stored.event for stored in reader.read()) == [0, 1, 2, 3, 4]
    assert (reader.foreign, reader.torn) == (0, 0)


def test_a_line_comes_with_its_bytes_as_stored(tmp_path: Path) -> None:
    raw = b'{"from_a_later_version":1,' + msgspec.json.encode(fallback())[1:]
    write_lines(tmp_path / FIRST, HEADER, raw + b"\n")
    (stored,) = JournalReader([tmp_path]).read()
    assert stored.raw == raw
    assert stored.event == fallback()


def test_a_torn_last_line_is_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    torn = msgspec.json.encode(request(2))[:-20]
    write_lines(tmp_path / FIRST, HEADER, request(1), torn)
    reader = JournalReader([tmp_path])
    assert [stored.event for stored in reader.read()] == [request(1)]
    assert (reader.foreign, reader.torn) == (0, 1)


def test_a_last_line_that_lacks_only_its_break_is_read(tmp_path: Path) -> None:
    write_lines(tmp_path / FIRST, HEADER, msgspec.json.encode(request(2)))
    assert list(read_events([tmp_path])) == [request(2)]


@pytest.mark.parametrize(
    "line",
    [
        b"\x00\x00\x00\x00\n",
        b"\n",
        b'{"event":"of a later version","at":1}\n',
        b'{"event":"commit"}\n',
        b"\xff\xfe\n",
        b"[" * 5000 + b"\n",
        b"x" * (2 * MAX_LINE + 7) + b"\n",
        b'["event"]\n',
    ],
    ids=["zeros", "empty", "unknown event", "missing fields", "no UTF-8", "deep", "long", "no object"],
)
def test_foreign_lines_are_counted_and_left_out(tmp_path: Path, line: bytes) -> None:
    write_lines(tmp_path / FIRST, HEADER, request(1), line, request(2))
    reader = JournalReader([tmp_path])
    assert [stored.event for stored in reader.read()] == [request(1), request(2)]
    assert (reader.foreign, reader.torn) == (1, 0)


def test_a_file_is_opened_when_its_time_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lines(tmp_path / FIRST, HEADER, *(request(n, NOON + n) for n in range(3)))
    write_lines(tmp_path / LATER, HEADER, request(9, NOON + DAY_AFTER))
    opened: list[str] = []
    real_open = Path.open

    def noting(path: Path, *given: Any, **named: Any) -> Any:
        opened.append(path.name)
        return real_open(path, *given, **named)

    monkeypatch.setattr(Path, "open", noting)
    found = [(event.at - NOON, len(opened)) for event in read_events([tmp_path])]
    assert found == [(0, 1), (1, 1), (2, 1), (DAY_AFTER, 2)]


def test_files_from_before_are_left_closed(tmp_path: Path) -> None:
    old, new = write_lines(tmp_path / FIRST, request(1)), write_lines(tmp_path / LATER, request(2, NOON + DAY_AFTER))
    os.utime(old, (NOON, NOON))
    os.utime(new, (NOON + DAY_AFTER, NOON + DAY_AFTER))
    assert journal_files([tmp_path], NOON + 1) == [new]
    assert list(read_events([tmp_path], NOON + 1)) == [request(2, NOON + DAY_AFTER)]


def test_what_comes_later_is_read_once_and_only_in_whole_lines(tmp_path: Path) -> None:
    path = write_lines(tmp_path / FIRST, HEADER, request(1), msgspec.json.encode(request(2))[:50])
    reader = JournalReader([tmp_path])
    seen: list[Event] = [stored.event for stored in reader.read(is_growing=True)]
    assert seen == [request(1)]
    assert reader.read_new() == []
    with path.open("ab") as file:
        file.write(msgspec.json.encode(request(2))[50:] + b"\n")
    write_lines(tmp_path / LATER, HEADER, request(3))
    assert [stored.event for stored in reader.read_new()] == [request(2), request(3)]
    assert reader.read_new() == []
    assert (reader.foreign, reader.torn) == (0, 0)


def test_a_single_file_of_any_name_can_be_read(tmp_path: Path) -> None:
    assert list(read_events([write_lines(tmp_path / "saved", request(1))])) == [request(1)]


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_events([tmp_path / "nowhere"]))
