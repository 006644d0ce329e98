"""`scripts/bench`: measures, prints a table, and says what did not come within its reach."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import click

from bench import report
from bench.machine import BenchError, Cores, check_programs, running_on
from bench.outages import measure_outages
from bench.overload import measure_overload
from bench.planning import measure_planning
from bench.pools import measure_pools
from bench.scenarios import QUICK, Bench, Plan, Result
from bench.scenarios import SCENARIOS as ONE_CORE

SCENARIOS = {
    **ONE_CORE,
    "planning": measure_planning,
    "pools": measure_pools,
    "outages": measure_outages,
    "overload": measure_overload,
}
COMPILED = Path(".venv-compiled/bin/python").absolute()
"""What `scripts/compile` makes."""


@click.command()
@click.option("--quick", is_flag=True, help="Fewer and shorter rounds: a look, not a measurement.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Also write all figures there.")
@click.option("--interpreted", is_flag=True, help="Measure .venv, where nothing is compiled.")
@click.option("--strict", is_flag=True, help="Exit with 1 if a figure is beyond its reach.")
@click.argument("names", nargs=-1, type=click.Choice(list(SCENARIOS)))
def main(quick: bool, file: Path | None, interpreted: bool, strict: bool, names: tuple[str, ...]) -> None:
    """Measure crossfade beside nginx as a plain reverse proxy. NAMES are the measurements to take; all by default.

    An answer that is wrong ends the run with exit code 2, whatever was measured.
    """
    try:
        check_programs()
        python = Path(sys.executable) if interpreted else COMPILED
        results = _measure(QUICK if quick else Plan(), names or tuple(SCENARIOS), file, python)
    except BenchError as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(2)
    if strict and not all(result.is_reached for result in results):
        sys.exit(1)


def _measure(plan: Plan, names: tuple[str, ...], file: Path | None, python: Path) -> list[Result]:
    cores = Cores()
    about = report.machine(cores, "compiled" if python == COMPILED else "interpreted")
    for name, value in about.items():
        click.echo(f"{name}: {value}", err=True)
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder, running_on(cores.load):
        os.chmod(folder, 0o755)  # nginx may work as another user
        with Bench.open(plan, Path(folder), cores, python, lambda note: click.echo(f"  {note}", err=True)) as bench:
            for name in names:
                found = SCENARIOS[name](bench)
                results += found if isinstance(found, list) else [found]
    click.echo(report.table(results))
    if file is not None:
        file.write_bytes(report.as_json(results, plan, about))
    return results


if __name__ == "__main__":
    main(prog_name="scripts/bench")
