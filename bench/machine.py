"""Cores, processes, CPU clocks and memory: everything here is of Linux, nothing of proxies."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

START_LIMIT: Final = 20.0
"""Seconds a process has to listen; more on a busy machine than it ever needs."""
_PROGRAMS: Final = {"nginx": "nginx-light (or nginx)", "wrk": "wrk"}


class BenchError(Exception):
    """The measurement is not possible, or what was measured did not do its work."""


def check_programs() -> None:
    """Raises BenchError naming all that is missing, and how to get it."""
    missing = {name: package for name, package in _PROGRAMS.items() if which(name) is None}
    if missing:
        packages = " ".join(package.split()[0] for package in missing.values())
        raise BenchError(f"not installed: {', '.join(missing)}. On Debian or Ubuntu: apt-get install {packages}")
    if len(os.sched_getaffinity(0)) < 2:
        raise BenchError("at least two cores are needed: one for the proxy, one for load and upstream")


def which(name: str) -> str | None:
    """Where a program is, also where the path of ordinary users does not lead."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")


class Cores:
    """Which cores do what: the first that we may use is the proxy's, the others are for load and upstream."""

    def __init__(self) -> None:
        usable = sorted(os.sched_getaffinity(0))
        self.proxy = frozenset(usable[:1])
        self.load = frozenset(usable[1:])

    def __str__(self) -> str:
        return f"proxy on core {_listed(self.proxy)}; load and upstream on {_listed(self.load)}"


def _listed(cores: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(cores)))


@contextlib.contextmanager
def running_on(cores: frozenset[int]) -> Iterator[None]:
    """Binds this process, and what it starts meanwhile, to `cores`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Process:
    """A program on given cores, its output in a file; ended with its children when the context ends."""

    def __init__(
        self,
        command: Sequence[str],
        cores: frozenset[int],
        log: Path,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.name = Path(command[0]).name
        self._log = log
        with log.open("ab") as output, running_on(cores):
            self.started_at = time.perf_counter()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=None if environ is None else {**os.environ, **environ},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """Ends it at once, as the kernel would for want of memory."""
        self._process.kill()
        self._process.wait()

    def wait_for(self, port: int) -> None:
        """Returns once `port` accepts connections. Raises BenchError, with the last of the log, if it never does."""
        deadline = self.started_at + START_LIMIT
        while not accepts(port):
            self.check()
            if time.perf_counter() > deadline:
                raise BenchError(f"{self.name} does not listen after {START_LIMIT:.0f} s:\n{self._last_lines()}")
            time.sleep(0.002)

    def check(self) -> None:
        """Raises BenchError where the process has ended."""
        if (code := self._process.poll()) is not None:
            raise BenchError(f"{self.name} ended with exit code {code}:\n{self._last_lines()}")

    def _last_lines(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])

    @property
    def family(self) -> list[int]:
        """The ids of the process and all that descend from it."""
        ids = [self._process.pid]
        for pid in ids:
            with contextlib.suppress(OSError):
                ids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return ids

    def cpu_seconds(self) -> float:
        """CPU time of the family so far, all threads, to the nanosecond: user and system together."""
        return sum(_cpu_of(pid) for pid in self.family)

    def memory(self) -> dict[str, float]:
        """Resident and proportional memory, in MiB, of the largest process of the family."""
        return max((_memory_of(pid) for pid in self.family), key=lambda found: found["rss"])


def _cpu_of(pid: int) -> float:
    return time.clock_gettime((~pid << 3) | 2)  # the process-wide CPU clock of another process: see clock_getcpuclockid


def _memory_of(pid: int) -> dict[str, float]:
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("Rss", "Pss"):
            found[name.lower()] = int(rest.split()[0]) / 1024
    return found


def accepts(port: int) -> bool:
    """Whether somebody listens on a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def _held_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def free_ports(count: int) -> list[int]:
    """Loopback ports that are free now, all different."""
    with contextlib.ExitStack() as held:
        return [held.enter_context(_held_port()) for _ in range(count)]
