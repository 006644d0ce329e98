"""Standard error may stand still; the process never does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from crossfade.telemetry.outlet import Outlet

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:  # the test has closed it
            pass


def read_until(reader: int, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        data += os.read(reader, 65536)
    return data


def read_all(reader: int, outlet: Outlet) -> bytes:
    """Reads until the outlet has nothing left."""
    os.set_blocking(reader, False)
    data = b""
    is_over = False
    while True:
        try:
            data += os.read(reader, 65536)
        except BlockingIOError:
            if is_over:
                return data
            is_over = outlet.flush(timeout=0.01)


def lost_line(count: int) -> bytes:
    return b"%d lost\n" % count


def test_a_line_is_written_at_once_where_there_is_room(pipe: tuple[int, int]) -> None:
    outlet = Outlet(pipe[1], lost_line)
    outlet.write(LINE)
    assert os.read(pipe[0], 1000) == LINE


def test_a_pipe_that_nobody_reads_blocks_nobody_and_loses_nothing_that_fits(pipe: tuple[int, int]) -> None:
    outlet = Outlet(pipe[1], lost_line)
    for number in range(5000):
        outlet.write(b"%d\n" % number + LINE)
    assert not outlet.flush(timeout=0)
    data = read_until(pipe[0], b"4999\n" + LINE)
    assert data == b"".join(b"%d\n" % number + LINE for number in range(5000))
    assert outlet.flush(timeout=15)
    assert outlet.lost == 0


def test_what_finds_no_room_is_counted_and_told(pipe: tuple[int, int]) -> None:
    outlet = Outlet(pipe[1], lost_line, limit=1000)
    for _ in range(3000):
        outlet.write(LINE)
    assert outlet.lost > 2000
    lines = read_all(pipe[0], outlet).splitlines(keepends=True)
    told = [int(line.split()[0]) for line in lines if line != LINE]
    assert sum(told) == outlet.lost == 3000 - lines.count(LINE)
    outlet.write(LINE)
    assert os.read(pipe[0], 1000) == LINE


def test_a_line_longer_than_a_pipe_takes_at_once_arrives_whole(pipe: tuple[int, int]) -> None:
    outlet = Outlet(pipe[1], lost_line)
    long = b"y" * 300_000 + b"\n"
    outlet.write(LINE)
    outlet.write(long)
    outlet.write(LINE)
    data = b""
    while len(data) < len(long) + 2 * len(LINE):
        data += os.read(pipe[0], 65536)
    assert data == LINE + long + LINE


def test_a_pipe_that_does_not_block_loses_nothing(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    outlet = Outlet(pipe[1], lost_line)
    for _ in range(2000):
        outlet.write(LINE)
    data = b""
    while len(data) < 2000 * len(LINE):
        data += os.read(pipe[0], 65536)
    assert data == 2000 * LINE
    assert outlet.lost == 0


def test_a_reader_that_has_gone_is_nobodys_loss(pipe: tuple[int, int]) -> None:
    outlet = Outlet(pipe[1], lost_line)
    os.close(pipe[0])
    outlet.write(LINE)
    assert outlet.lost == 1


def test_without_standard_error_the_log_is_silent() -> None:
    code = "import os; os.close(2); from crossfade.telemetry.logs import Logs; Logs().say('error', 'x'); print('good')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "good\n"
