"""`crossfade savings`: what requests cost, and what they would have at the primary of their route."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

import click

from crossfade.cli.event_filter import Filter
from crossfade.cli.event_table import printable
from crossfade.cli.loading import load
from crossfade.cli.options import config_option, journal_option, time_option
from crossfade.core.events import RequestEnded
from crossfade.store.reader import JournalReader

By = Literal["route", "target", "rule", "key", "project"]
_HEADINGS = ("REQUESTS", "COST", "AT PRIMARY", "SAVED", "WASTED", "UNPRICED")


class Account:
    """What some requests came to, in USD. `unpriced`: those whose cost, or their primary's, is not known; they are in
    none of the sums but that of `wasted`, which failed attempts cost."""

    def __init__(self) -> None:
        self.requests = 0
        self.unpriced = 0
        self.usd = 0.0
        self.primary_usd = 0.0
        self.wasted_usd = 0.0

    def add(self, event: RequestEnded) -> None:
        self.requests += 1
        self.wasted_usd += event.wasted_usd or 0.0
        if event.served is None:
            return  # nothing was answered, so there is nothing to compare
        at_primary = event.primary_usd if was_elsewhere(event) else event.cost_usd
        if event.cost_usd is None or at_primary is None:
            self.unpriced += 1
            return
        self.usd += event.cost_usd
        self.primary_usd += at_primary

    def cells(self) -> tuple[str, ...]:
        saved = self.primary_usd - self.usd
        sums = [_usd(amount) for amount in (self.usd, self.primary_usd, saved, self.wasted_usd)]
        return (str(self.requests), *sums, str(self.unpriced))

    def builtins(self) -> dict[str, Any]:
        sums = {
            "cost_usd": self.usd,
            "primary_usd": self.primary_usd,
            "saved_usd": self.primary_usd - self.usd,
            "wasted_usd": self.wasted_usd,
        }
        rounded = {name: round(amount, 9) for name, amount in sums.items()}
        return {"requests": self.requests, **rounded, "unpriced": self.unpriced}


def was_elsewhere(event: RequestEnded) -> bool:
    """Whether another target than the primary answered."""
    return event.primary is not None or (bool(event.attempts) and event.served != event.attempts[0].target)


@click.command()
@journal_option
@config_option
@click.option("--by", type=click.Choice(get_args(By)), default="route", help="Default: route.")
@click.option("--route", "routes", multiple=True, help="Requests of this route; repeatable.")
@click.option("--project", "projects", multiple=True, help="Requests of keys of this project; repeatable.")
@click.option("--target", "targets", multiple=True, metavar="NAME", help="What called or skipped this target/provider.")
@click.option("--since", callback=time_option, metavar="TIME", help="10m, 2h, 1d ago, or 2026-01-31T08:00 (UTC).")
@click.option("--until", callback=time_option, metavar="TIME", help="As --since; up to then.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON instead.")
def savings(
    journal: Path | None,
    config: Path | None,
    by: By,
    routes: tuple[str, ...],
    projects: tuple[str, ...],
    targets: tuple[str, ...],
    since: float | None,
    until: float | None,
    as_json: bool,
) -> None:
    """Sum over the journal what answers cost, what the same tokens would have cost at the primary of their route (the
    first target of its chain), and what failed attempts cost, in USD by the prices of the time.
    """
    wanted = Filter(
        kinds=("request",),
        routes=routes,
        projects=projects,
        targets=targets,
        since=float("-inf") if since is None else since,
        until=float("inf") if until is None else until,
    )
    folder = journal or load(config).journal.path
    accounts: dict[str, Account] = {}
    whole = Account()
    if folder.exists():
        for stored in JournalReader([folder], max(0.0, wanted.since)).read():
            event = stored.event
            if isinstance(event, RequestEnded) and wanted.passes(event):
                accounts.setdefault(_name(event, by), Account()).add(event)
                whole.add(event)
    if as_json:
        said = {name: account.builtins() for name, account in sorted(accounts.items())}
        click.echo(json.dumps({"by": by, "total": whole.builtins(), by + "s": said}, indent=2))
    elif whole.requests == 0:
        click.echo(f"no requests in {folder} match")
    else:
        _show(by, accounts, whole)


def _name(event: RequestEnded, by: By) -> str:
    if by == "target":
        return event.served or "(none)"
    if by == "rule":
        return f"{event.route} {event.rule}" if event.rule is not None else f"{event.route} (no rule)"
    if by == "project":
        return event.project or "(none)"
    return (event.key or "(none)") if by == "key" else event.route


def _show(by: str, accounts: dict[str, Account], whole: Account) -> None:
    rows: list[tuple[str, ...]] = [(by.upper(), *_HEADINGS)]
    rows += [(printable(name), *account.cells()) for name, account in sorted(accounts.items())]
    if len(accounts) > 1:
        rows.append(("total", *whole.cells()))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for first, *cells in rows:
        numbers = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        click.echo("  ".join((first.ljust(widths[0]), *numbers)))


def _usd(amount: float) -> str:
    return f"{amount:.6f}" if abs(amount) < 1 else f"{amount:.2f}"
