"""When lines are written, what answers wait for, and what happens when the disk is slow, full or gone."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.events import Event, FallbackTriggered, RequestEnded
from crossfade.store import backlog
from crossfade.store.base import Disk, JournalHeader
from crossfade.store.journal import TOLD_WITHIN, Journal
from crossfade.store.reader import JournalReader, read_events
from tests.store.samples import NOON, MoodyDisk, SteppedLoop, commit, exhausted, fallback, fallen_back, others, request
from tests.support import run


class Bench:
    """A journal with everything about it in the test's hands."""

    def __init__(self, folder: Path, mood: Callable[[bytes], bytes] | None = None, **options: Any) -> None:
        self.folder = folder
        self.loop = SteppedLoop()
        self.disk = MoodyDisk(mood)
        self.wall = NOON
        self.said: list[tuple[str, str]] = []
        self.answered: list[int] = []
        self.sent = 0
        self.journal = Journal(
            folder,
            loop=self.loop,
            now=lambda: self.wall,
            timer=self.loop.now,
            report=lambda level, text: self.said.append((level, text)),
            **{"version": "c0ffee", "disk": self.disk, **options},
        )

    def send(self, count: int = 1) -> None:
        """Appends requests with numbers that go up, whose answers are noted when they leave."""
        for _ in range(count):
            self.sent += 1
            self.journal.append(request(self.sent), lambda number=self.sent: self.answered.append(number))

    def kept(self) -> list[int]:
        """The numbers of the requests in the files, in the order of the lines."""
        lines = [line for path in sorted(self.folder.glob("*.jsonl")) for line in path.read_bytes().splitlines()]
        events = [event for line in lines if (event := msgspec.json.decode(line))["event"] == "request"]
        return [int(event["id"].rpartition("-")[2], 16) for event in events]

    def levels(self) -> list[str]:
        return [level for level, _ in self.said]


def raising(number: int) -> Callable[..., bytes]:
    def mood(*data: bytes) -> bytes:
        raise OSError(number, os.strerror(number))

    return mood


# --- a good hour ---------------------------------------------------------------------------------------------------


def test_a_file_begins_with_its_header_and_is_nobody_elses_business(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "state" / "journal")
    path = bench.journal.path
    assert path is not None
    header = msgspec.json.decode(path.read_bytes(), type=JournalHeader)
    assert header == JournalHeader(version="c0ffee", pid=os.getpid(), started_at=NOON)
    assert header.format == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.name == f"journal-20260528T120000Z-{os.getpid()}.jsonl"


def test_two_journals_of_a_process_and_a_second_have_files_of_their_own(tmp_path: Path) -> None:
    assert Bench(tmp_path).journal.path != Bench(tmp_path).journal.path


def test_the_lines_of_a_turn_go_out_in_one_write_before_their_answers(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    done = bench.disk.done
    done.clear()
    for number in (1, 2, 3):
        bench.journal.append(request(number), lambda number=number: done.append(f"answer {number}"))
    bench.journal.append(fallback())
    assert done == []
    bench.loop.turn()
    assert done == ["write", "answer 1", "answer 2", "answer 3"]
    assert len(list(read_events([tmp_path]))) == 4


def test_lines_that_may_wait_go_with_the_next_that_may_not(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.disk.done.clear()
    bench.journal.append(fallback(), may_wait=True)
    bench.loop.turn()
    assert bench.disk.done == []
    bench.send()
    bench.loop.turn()
    assert bench.disk.done == ["write"]
    assert [type(event) for event in read_events([tmp_path])] == [FallbackTriggered, RequestEnded]


def test_lines_that_may_wait_do_so_for_a_moment_only(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for _ in range(2):  # the second time, a moment of its own
        bench.disk.done.clear()
        bench.journal.append(fallback(), may_wait=True)
        bench.journal.append(fallback(), may_wait=True)
        bench.loop.pass_time(TOLD_WITHIN)
        assert bench.disk.done == ["write"]
    assert len(list(read_events([tmp_path]))) == 4


def test_close_writes_lines_that_may_wait(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.journal.append(fallback(), may_wait=True)
    bench.journal.close()
    bench.loop.pass_time(TOLD_WITHIN)
    assert len(list(read_events([tmp_path]))) == 1


def test_on_a_real_loop_a_line_can_be_read_when_its_answer_leaves(tmp_path: Path) -> None:
    async def main() -> list[bytes]:
        loop = asyncio.get_running_loop()
        journal = Journal(tmp_path, version="c0ffee", loop=loop)
        seen: list[bytes] = []
        left = loop.create_future()

        def answer() -> None:
            assert journal.path is not None
            seen.extend(journal.path.read_bytes().splitlines()[1:])
            left.set_result(None)

        journal.append(request(7), answer)
        assert not seen
        await left
        journal.close()
        return seen

    assert run(main()) == [msgspec.json.encode(request(7))]


def test_an_answer_that_fails_takes_no_other_with_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.send()
    bench.journal.append(request(98), lambda: 1 // 0)
    bench.journal.append(request(99), asyncio_cancelled)
    bench.send()
    bench.loop.turn()
    assert bench.answered == [1, 2]
    assert [type(fault) for fault in bench.loop.faults] == [ZeroDivisionError, asyncio.CancelledError]


def asyncio_cancelled() -> None:
    raise asyncio.CancelledError


def test_what_an_answer_leads_to_is_written_in_the_next_turn(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.journal.append(request(90), bench.send)
    bench.loop.turn()
    assert bench.answered == []
    bench.loop.turn()
    assert bench.answered == [1]
    assert bench.kept() == [90, 1]


def test_an_event_that_cannot_be_encoded_is_counted_and_spoils_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.send()
    bench.journal.append(request(50, model="\ud800"), lambda: bench.answered.append(50))
    bench.send()
    bench.loop.turn()
    assert bench.answered == [1, 50, 2]
    assert bench.kept() == [1, 2]
    assert bench.journal.lost == 1
    assert bench.levels() == ["error"]


def test_writes_that_take_a_part_or_are_interrupted_go_on(tmp_path: Path) -> None:
    calls = iter(range(10_000))

    def mood(data: bytes) -> bytes:
        if next(calls) % 3 == 1:
            raise InterruptedError
        return data[:100]

    bench = Bench(tmp_path, mood)
    bench.send(5)
    bench.loop.turn()
    assert bench.answered == [1, 2, 3, 4, 5]
    assert bench.kept() == [1, 2, 3, 4, 5]
    assert not bench.journal.is_degraded


def test_a_new_file_with_a_header_follows_a_full_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_bytes=3000)
    for _ in range(20):
        bench.send()
        bench.loop.turn()
    bench.journal.close()
    files = list(tmp_path.iterdir())
    assert len(files) > 2
    assert all(path.stat().st_size < 4000 for path in files)
    assert all(path.read_bytes().startswith(b'{"event":"journal"') for path in files)
    assert sorted(bench.kept()) == list(range(1, 21))


def test_a_new_file_follows_at_midnight(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.send()
    bench.loop.turn()
    bench.wall += 12 * 3600
    bench.send()
    bench.loop.turn()
    assert [path.name[:16] for path in sorted(tmp_path.iterdir())] == ["journal-20260528", "journal-20260529"]
    assert bench.kept() == [1, 2]


def test_where_no_new_file_can_be_begun_the_old_one_is_used_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.disk.create_mood = raising(errno.EMFILE)
    bench.wall += 86_400
    for _ in range(3):
        bench.send()
        bench.loop.turn()
    assert not bench.journal.is_degraded
    bench.disk.create_mood = None
    bench.wall += 61
    bench.send()
    bench.loop.turn()
    assert len(list(tmp_path.iterdir())) == 2
    assert bench.kept() == [1, 2, 3, 4]


def test_a_removed_folder_is_made_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "journal")
    bench.send()
    bench.loop.turn()
    shutil.rmtree(tmp_path / "journal")
    bench.wall += 1.5
    bench.send()
    bench.loop.turn()
    assert bench.kept() == [2]
    assert not bench.journal.is_degraded


# --- a bad one -----------------------------------------------------------------------------------------------------


def test_a_full_disk_keeps_no_answer_waiting_and_loses_no_line_once_there_is_room(tmp_path: Path) -> None:
    room = [1100]  # bytes: the header, a line and a part of the next

    def mood(data: bytes) -> bytes:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "no space left on device")
        taken = data[: room[0]]
        room[0] -= len(taken)
        return taken

    bench = Bench(tmp_path, mood)
    bench.send(3)
    bench.loop.turn()
    assert bench.answered == [1, 2, 3]
    assert bench.journal.is_degraded
    bench.send(2)
    bench.loop.turn()
    assert bench.answered == [1, 2, 3, 4, 5]
    room[0] = 10**9
    assert bench.journal.flush(timeout=15)
    assert bench.kept() == [1, 2, 3, 4, 5]
    assert bench.levels() == ["error"]
    bench.loop.pass_time(10)
    assert not bench.journal.is_degraded
    assert bench.levels() == ["error", "info"]
    threads_writes = len(bench.disk.done)
    bench.send()
    bench.loop.turn()
    assert len(bench.disk.done) == threads_writes + 1  # in the loop's own turn again
    assert bench.kept() == [1, 2, 3, 4, 5, 6]


def test_the_kernels_own_full_device_is_survived(tmp_path: Path) -> None:
    class Full(Disk):
        def create(self, path: Path) -> int:
            return os.open("/dev/full", os.O_WRONLY | os.O_APPEND)

        def reopen(self, path: Path) -> int:
            return self.create(path)

    bench = Bench(tmp_path, disk=Full())
    assert bench.journal.is_degraded
    bench.send(4)
    bench.loop.turn()
    assert bench.answered == [1, 2, 3, 4]
    bench.journal.close(timeout=15)
    assert bench.journal.lost == 4
    assert "No space left on device" in bench.said[0][1]
    assert "lines lost: 4" in bench.said[-1][1]


def test_a_folder_that_cannot_be_made_does_not_keep_the_gateway_from_starting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bench = Bench(tmp_path / "file" / "journal")
    assert bench.journal.is_degraded
    bench.send()
    bench.loop.turn()
    assert bench.answered == [1]
    (tmp_path / "file").unlink()
    assert bench.journal.flush(timeout=15)
    assert bench.kept() == [1]


def test_a_line_that_began_in_a_file_that_is_gone_starts_over_in_the_next(tmp_path: Path) -> None:
    room = [700]

    def mood(data: bytes) -> bytes:
        if room[0] == 0:
            shutil.rmtree(tmp_path / "journal", ignore_errors=True)
            room[0] = 10**9
            raise OSError(errno.EIO, "input/output error")
        taken = data[: room[0]]
        room[0] -= len(taken)
        return taken

    bench = Bench(tmp_path / "journal", mood)
    bench.send(3)
    bench.loop.turn()
    assert bench.journal.flush(timeout=15)
    kept = bench.kept()
    assert kept in ([2, 3], [1, 2, 3])  # what the removed file held whole is gone with it
    assert kept[-1] == 3


def test_after_a_slow_write_a_thread_writes_and_answers_do_not_wait_for_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    is_stuck, may_write = threading.Event(), threading.Event()
    on_thread: list[str] = []

    def slow(data: bytes) -> bytes:
        bench.loop.time += 0.06
        return data

    def stuck(data: bytes) -> bytes:
        on_thread.append(threading.current_thread().name)
        is_stuck.set()
        assert may_write.wait(20)
        return data

    bench.disk.mood = slow
    bench.send()
    bench.loop.turn()
    assert bench.journal.is_degraded
    assert bench.answered == [1]
    bench.disk.mood = stuck
    bench.send(2)
    bench.loop.turn()
    assert bench.answered == [1, 2, 3]  # while the write of their lines stands still
    assert bench.kept() == [1]
    assert is_stuck.wait(20)
    bench.loop.pass_time(30)
    assert bench.journal.is_degraded  # it has not caught up
    may_write.set()
    assert bench.journal.flush(timeout=15)
    assert set(on_thread) == {"crossfade-journal"}
    assert bench.kept() == [1, 2, 3]
    bench.loop.pass_time(4)
    assert bench.journal.is_degraded  # its last write took 30 s
    bench.loop.pass_time(2)
    assert not bench.journal.is_degraded
    bench.disk.mood = None
    bench.send()
    bench.loop.turn()
    assert bench.kept() == [1, 2, 3, 4]


def test_a_write_within_the_limit_is_not_slow(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    def mood(data: bytes) -> bytes:
        bench.loop.time += 0.049
        return data

    bench.disk.mood = mood
    bench.send()
    bench.loop.turn()
    assert not bench.journal.is_degraded


def test_a_disk_that_stays_slow_stays_with_the_thread(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    def mood(data: bytes) -> bytes:
        bench.loop.time += 0.2
        return data

    bench.disk.mood = mood
    bench.send()
    bench.loop.turn()
    for _ in range(5):
        bench.loop.pass_time(4)
        bench.send()
        bench.loop.turn()
        assert bench.journal.flush(timeout=15)
        assert bench.journal.is_degraded


def test_lines_without_room_in_memory_are_counted_and_reported_once_a_minute(tmp_path: Path) -> None:
    bench = Bench(tmp_path, memory=1000)
    bench.disk.mood = raising(errno.EIO)
    bench.send()
    bench.loop.turn()
    for _ in range(10):
        bench.send()
        bench.loop.turn()
    assert len(bench.answered) == 11
    first = bench.journal.lost
    assert 0 < first < 11
    losses = [text for _, text in bench.said if "lost" in text]
    assert len(losses) == 1
    bench.loop.pass_time(61)
    losses = [text for _, text in bench.said if "lost" in text]
    assert len(losses) == 2
    assert f"{first} in all" in losses[1]
    bench.journal.close(timeout=15)
    assert bench.journal.lost == 11
    assert "11 in all" in bench.said[-1][1]


@settings(max_examples=60, deadline=None)
@given(
    moods=st.lists(st.sampled_from(["good", "part", "slow", "full", "interrupted", "nothing"]), max_size=25),
    turns=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.5, 6.0])), min_size=1, max_size=12),
    fsync=st.booleans(),
)
def test_whatever_the_disk_does_every_line_is_there_once_in_order_and_every_answer_leaves_once(
    tmp_path_factory: pytest.TempPathFactory, moods: list[str], turns: list[tuple[int, float]], fsync: bool
) -> None:
    bench = Bench(tmp_path_factory.mktemp("journal"), fsync=fsync)
    script = iter(moods)

    def mood(data: bytes) -> bytes:
        what = next(script, "good")
        if what == "slow":
            bench.loop.time += 0.3
        if what == "full":
            raise OSError(errno.ENOSPC, "no space left on device")
        if what == "interrupted":
            raise InterruptedError
        return data[: len(data) // 2] if what == "part" else b"" if what == "nothing" else data

    bench.disk.mood = mood
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backlog, "FIRST_PAUSE", 0.0)
        for count, pause in turns:
            bench.send(count)
            bench.loop.turn()
            bench.loop.pass_time(pause)
        assert bench.journal.flush(timeout=15)
        bench.journal.close(timeout=15)
    assert bench.kept() == bench.answered == list(range(1, bench.sent + 1))
    assert bench.journal.lost == 0


# --- fsync ---------------------------------------------------------------------------------------------------------


def test_with_fsync_answers_leave_when_their_lines_are_on_the_disk(tmp_path: Path) -> None:
    bench = Bench(tmp_path, fsync=True)
    may_sync = threading.Event()
    bench.disk.sync_mood = lambda: may_sync.wait(20)
    bench.send(2)
    bench.loop.turn()
    bench.send()
    bench.loop.turn()
    assert bench.answered == []
    may_sync.set()
    wait_for_answers(bench, 3)
    assert bench.answered == [1, 2, 3]
    assert bench.disk.done[-1] == "sync"
    assert not bench.journal.is_degraded


def wait_for_answers(bench: Bench, count: int) -> None:
    """Turns the loop until the thread's news have come; its last step is after the write, so there is a moment."""
    moment = threading.Event()
    for _ in range(2000):
        bench.loop.turn()
        if len(bench.answered) >= count:
            return
        moment.wait(0.01)
    raise AssertionError(f"only {bench.answered} have left")


def test_with_fsync_answers_wait_a_second_at_most(tmp_path: Path) -> None:
    bench = Bench(tmp_path, fsync=True)
    began, may_sync = threading.Event(), threading.Event()
    bench.disk.sync_mood = lambda: began.set() or may_sync.wait(20)
    bench.send()
    bench.loop.turn()
    assert began.wait(20)
    bench.loop.pass_time(0.6)
    bench.send()
    bench.loop.turn()
    bench.loop.pass_time(0.3)
    assert bench.answered == []
    bench.loop.pass_time(0.2)
    assert bench.answered == [1, 2]
    assert bench.journal.is_degraded
    bench.send()
    bench.loop.turn()
    assert bench.answered == [1, 2, 3]  # the next ones do not wait at all
    may_sync.set()
    assert bench.journal.flush(timeout=15)
    bench.loop.turn()
    bench.loop.pass_time(10)
    assert not bench.journal.is_degraded
    assert bench.answered == [1, 2, 3]


def test_with_fsync_a_disk_that_fails_lets_answers_go_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, fsync=True)
    bench.disk.sync_mood = raising(errno.EIO)
    bench.send()
    bench.loop.turn()
    wait_for_answers(bench, 1)
    assert bench.journal.is_degraded
    assert bench.loop.time == 1000.0


# --- the end -------------------------------------------------------------------------------------------------------


def test_close_writes_what_the_turn_has_collected(tmp_path: Path) -> None:
    for fsync in (False, True):
        bench = Bench(tmp_path / str(fsync), fsync=fsync)
        bench.send(2)
        bench.journal.close()
        assert bench.answered == [1, 2]
        assert bench.kept() == [1, 2]


def test_after_close_lines_are_lost_and_answers_leave(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.journal.close()
    bench.send()
    bench.loop.turn()
    assert bench.answered == [1]
    assert bench.journal.lost == 1


def test_close_does_not_wait_for_ever(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    never = threading.Event()
    bench.disk.mood = raising(errno.EIO)
    bench.send()
    bench.loop.turn()

    def stuck(data: bytes) -> bytes:
        never.wait(20)
        return data

    bench.disk.mood = stuck
    bench.send()
    bench.journal.close(timeout=0.01)
    assert bench.answered == [1, 2]
    assert bench.journal.lost == 2
    never.set()


CHILD = """
import asyncio, sys
from pathlib import Path
import uvloop
from crossfade.store.journal import TOLD_WITHIN, Journal
from tests.store.samples import request, commit

async def main():
    loop = asyncio.get_running_loop()
    journal = Journal(Path(sys.argv[1]), version="c0ffee", loop=loop)
    number = 0
    while True:
        for _ in range(3):
            number += 1
            journal.append(request(number), lambda n=number: print(n, flush=True))
        await asyncio.sleep(0)

uvloop.run(main())
"""


def test_a_killed_process_has_kept_every_line_whose_answer_left(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as child:
        assert child.stdout is not None
        answered = [int(next(child.stdout)) for _ in range(500)]
        child.send_signal(signal.SIGKILL)
        answered += [int(line) for line in child.stdout if line.endswith("\n")]
    reader = JournalReader([tmp_path])
    kept = [stored.event for stored in reader.read()]
    assert all(isinstance(event, RequestEnded) for event in kept)
    numbers = [int(event.id.rpartition("-")[2], 16) for event in kept if isinstance(event, RequestEnded)]
    assert numbers[: len(answered)] == answered == list(range(1, len(answered) + 1))
    assert reader.foreign == 0


def test_every_event_comes_back_as_it_was(tmp_path: Path) -> None:
    events: list[Event] = [request(), fallen_back(), exhausted(), commit(), fallback(), *others()]
    bench = Bench(tmp_path)
    for event in events:
        bench.journal.append(event)
    bench.loop.turn()
    assert list(read_events([tmp_path])) == events
