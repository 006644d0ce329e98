"""`python -m tests.simulation`: many seeds, or one with everything that happened in it."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from typing import Final

import click

from tests.simulation.invariants import Broken
from tests.simulation.world import REQUESTS, World

BLOCK: Final = 50


def block(first: int, last: int, requests: int) -> tuple[Counter[str], list[str]]:
    """Runs the seeds from `first` up to `last`; what happened, and what did not hold."""
    counts: Counter[str] = Counter()
    broken: list[str] = []
    for seed in range(first, last):
        try:
            counts += World(seed, requests).run().counts
        except Broken as error:
            broken.append(str(error))
    return counts, broken


def _block(part: tuple[int, int, int]) -> tuple[Counter[str], list[str]]:
    return block(*part)


@click.command()
@click.option("--seeds", default=1000, show_default=True, help="How many seeds to run.")
@click.option("--first", default=0, show_default=True, help="The first of them.")
@click.option("--seed", type=int, help="Run this one alone.")
@click.option("--trace", is_flag=True, help="With --seed: print all that happens.")
@click.option("--requests", default=REQUESTS, show_default=True, help="Requests in each.")
@click.option("--processes", default=2, show_default=True, help="Processes beside each other.")
def main(seeds: int, first: int, seed: int | None, trace: bool, requests: int, processes: int) -> None:
    """Simulate the engine: exit code 1 where something that must hold does not."""
    if seed is not None:
        sys.exit(_one(seed, requests, trace))
    began = time.perf_counter()
    counts: Counter[str] = Counter()
    broken: list[str] = []
    parts = [(at, min(at + BLOCK, first + seeds), requests) for at in range(first, first + seeds, BLOCK)]
    with multiprocessing.Pool(processes) as pool:
        for done, (happened, wrong) in enumerate(pool.imap(_block, parts), 1):
            counts += happened
            broken += wrong
            if done % 20 == 0 or done == len(parts):
                seconds = time.perf_counter() - began
                click.echo(f"{min(done * BLOCK, seeds)} seeds in {seconds:.0f} s, {len(broken)} broken", err=True)
    seconds = time.perf_counter() - began
    for name, count in sorted(counts.items()):
        click.echo(f"{count:12,}  {name}")
    click.echo(f"{seeds:,} seeds x {requests} requests in {seconds:.1f} s; {len(broken)} broken")
    for line in broken[:20]:
        click.echo(f"{line}\n    python -m tests.simulation --trace --seed {line.split()[1]}")
    sys.exit(1 if broken else 0)


def _one(seed: int, requests: int, trace: bool) -> int:
    world = World(seed, requests, traces=trace)
    try:
        world.run()
    except Broken as error:
        end = str(error)
    else:
        end = ""
    for line in world.trace or ():
        click.echo(line)
    click.echo(end or "\n".join(f"{count:8,}  {name}" for name, count in sorted(world.counts.items())))
    return 1 if end else 0


if __name__ == "__main__":
    main()
