"""The figures as a table for people and as JSON for machines."""

from __future__ import annotations

import os
import platform
import subprocess
import timeit
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

import crossfade
from bench.machine import Cores, which
from bench.scenarios import Plan, Result

_COLUMNS = "{:26} {:>10} {:>20} {:>10}  {}"


def machine(cores: Cores, build: str) -> dict[str, str]:
    """What the figures were taken on, and with what. `build` is how crossfade is run."""
    return {
        "cpu": _cpu(),
        "cores": str(cores),
        "load_average": f"{os.getloadavg()[0]:.2f}",
        "kernel": platform.release(),
        "python": _python(),
        "crossfade": f"{crossfade.__version__}, {build}",
        "nginx": _version("nginx", "-v"),
        "wrk": _version("wrk", "-v"),
    }


def _python() -> str:
    """Which Python, and how fast it is here: the same version differs twofold between ways to build it."""
    steps = 300_000
    best = min(timeit.repeat("f(1)", "def f(x): return [x]", number=steps, repeat=5))
    return f"{platform.python_version()} ({best / steps * 1e9:.0f} ns a small call)"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(program: str, option: str) -> str:
    found = subprocess.run([which(program) or program, option], capture_output=True, text=True, check=False)
    return (found.stdout + found.stderr).splitlines()[0]


def table(results: Iterable[Result]) -> str:
    """One line a figure: median, smallest and largest of the rounds, reach, and whether it was reached."""
    lines = [_COLUMNS.format("", "median", "min - max", "reach", "")]
    details = []
    for result in results:
        form = result.form
        span = f"{form.format(min(result.values))} - {form.format(max(result.values))}"
        verdict = "reached" if result.is_reached else "MISSED"
        lines.append(_COLUMNS.format(result.name, form.format(result.value), span, form.format(result.reach), verdict))
        if result.pairs:
            theirs, ours = _median([p.base for p in result.pairs]), _median([p.crossfade for p in result.pairs])
            details.append(f"  {result.name}: {result.against} {theirs:.2f}, crossfade {ours:.2f} {result.unit}")
        details += [f"  {result.name}: {note}" for note in result.notes]
    return "\n".join([*lines, "", *details])


def as_json(results: Sequence[Result], plan: Plan, about: dict[str, str]) -> bytes:
    """Everything, with the values of every round."""
    figures = [
        {**msgspec.to_builtins(result), "value": result.value, "is_reached": result.is_reached} for result in results
    ]
    whole = {"machine": about, "plan": msgspec.to_builtins(plan), "results": figures}
    return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
