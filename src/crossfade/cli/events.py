"""`crossfade events`: what happened, out of the journal. Reads files, changes nothing, and needs no running gateway."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import click

from crossfade.cli.event_filter import KINDS, REASONS, Filter, parse_status
from crossfade.cli.event_table import Table, Totals, count, row_of
from crossfade.cli.loading import load
from crossfade.cli.options import checked, config_option, journal_option, time_option
from crossfade.core.events import FallbackTriggered, RequestEnded, StreamCommitted
from crossfade.store.reader import JournalReader, Stored

TABLE_LIMIT = 50
POLL_S = 0.5

sleep: Callable[[float], None] = time.sleep


@click.command()
@journal_option
@config_option
@click.option("--route", "routes", multiple=True, help="Requests of this route. Like most options, repeatable.")
@click.option("--project", "projects", multiple=True, help="Requests of keys of this project.")
@click.option("--target", "targets", multiple=True, metavar="NAME", help="What called or skipped this target/provider.")
@click.option("--reason", "reasons", multiple=True, type=click.Choice(REASONS), metavar="REASON", help="Why it failed.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="Kinds of events.")
@click.option("--since", callback=time_option, metavar="TIME", help="10m, 2h, 1d ago, or 2026-01-31T08:00 (UTC).")
@click.option("--until", callback=time_option, metavar="TIME", help="As --since; up to then.")
@click.option("--request", "requests", multiple=True, metavar="ID", help="All that is known of one request.")
@click.option("--status", "statuses", multiple=True, callback=checked(parse_status), help="429, or 4xx, 5xx.")
@click.option("--fallbacks-only", is_flag=True, help="Requests that fell back, and their fallbacks.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"The newest N, 0 for all. Default: {TABLE_LIMIT} in a table, all with --json.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, as stored.")
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
def events(
    journal: Path | None,
    config: Path | None,
    routes: tuple[str, ...],
    projects: tuple[str, ...],
    targets: tuple[str, ...],
    reasons: tuple[str, ...],
    kinds: tuple[str, ...],
    since: float | None,
    until: float | None,
    requests: tuple[str, ...],
    statuses: tuple[str, ...],
    fallbacks_only: bool,
    limit: int | None,
    as_json: bool,
    follow: bool,
) -> None:
    """Show what happened: requests with their walks, breakers, ejections, defects.

    A request that began to answer and has no end on record is `unfinished`: it is under way, or its process was killed.
    The table leaves out what the walks tell as well: commits but for `--kind commit`, and fallbacks but for `--kind
    fallback` or `--request`.
    """
    if follow and until is not None:
        raise click.UsageError("--follow and --until exclude each other")
    wanted = Filter(
        kinds=kinds,
        routes=routes,
        projects=projects,
        targets=targets,
        reasons=reasons,
        requests=requests,
        statuses=statuses,
        since=float("-inf") if since is None else since,
        until=float("inf") if until is None else until,
        fallbacks_only=fallbacks_only,
    )
    folder = journal or load(config).journal.path
    if not folder.exists() and not follow:
        click.echo(f"no events: there is no journal at {folder} yet")
        return
    limit = (0 if as_json else TABLE_LIMIT) if limit is None else limit
    view = _View(folder, wanted, as_json, limit or None)
    if not follow:
        view.show()
        return
    try:
        view.follow()
    except KeyboardInterrupt:
        return


class _View:
    """What of a journal is shown, and how."""

    def __init__(self, folder: Path, wanted: Filter, as_json: bool, limit: int | None) -> None:
        self._folder = folder
        self._reader = JournalReader([folder], max(0.0, wanted.since))
        self._wanted = wanted
        self._as_json = as_json
        self._limit = limit
        self._table = Table()
        self._open_streams: dict[str, Stored] = {}  # commits that nothing has followed

    def show(self) -> None:
        """All that is there."""
        totals = Totals()
        newest: deque[Stored] = deque(maxlen=self._limit)
        for stored in self._chosen(is_growing=False):
            totals.add(stored.event)
            if self._as_json and self._limit is None:
                click.echo(stored.raw)
            else:
                newest.append(stored)
        if self._as_json:
            self._print(newest)
        else:
            unfinished = self._unfinished()
            for stored in unfinished:
                totals.add(stored.event, is_unfinished=True)
            shown = sorted([*newest, *unfinished], key=lambda stored: stored.event.at)
            self._print(shown[-self._limit :] if self._limit else shown, unfinished)
        if totals.events == 0:
            click.echo(f"no events in {self._folder} match", err=self._as_json)
        elif not self._as_json:
            click.echo(totals.words(min(totals.events, self._limit or totals.events)))
        self._tell_damage()

    def follow(self) -> None:
        """The newest of what is there, then what comes, until Ctrl-C."""
        if self._folder.exists():
            chosen = self._chosen(is_growing=True)
            if self._limit is None:
                for stored in chosen:
                    self._print([stored])
            else:
                self._print(deque(chosen, maxlen=self._limit))
        while True:
            sleep(POLL_S)
            if self._folder.exists():
                self._print([stored for stored in self._reader.read_new() if self._passes(stored)])

    def _chosen(self, *, is_growing: bool) -> Iterator[Stored]:
        for stored in self._reader.read(is_growing=is_growing):
            if isinstance(stored.event, StreamCommitted):
                self._open_streams[stored.event.id] = stored
            elif isinstance(stored.event, RequestEnded):
                self._open_streams.pop(stored.event.id, None)
            if self._passes(stored):
                yield stored

    def _unfinished(self) -> list[Stored]:
        wanted = self._wanted
        if wanted.kinds and "request" not in wanted.kinds:
            return []
        return [
            one
            for one in self._open_streams.values()
            if wanted.passes_time(one.event) and wanted.passes_facts(one.event)
        ]

    def _passes(self, stored: Stored) -> bool:
        if not self._wanted.passes(stored.event):
            return False
        if self._as_json or self._wanted.kinds or not isinstance(stored.event, (StreamCommitted, FallbackTriggered)):
            return True
        return bool(self._wanted.requests) and isinstance(stored.event, FallbackTriggered)

    def _print(self, chosen: Collection[Stored], unfinished: Collection[Stored] = ()) -> None:
        if self._as_json:
            for stored in chosen:
                click.echo(stored.raw)
        elif chosen:
            open_ids = {id(stored) for stored in unfinished}
            for line in self._table.lines([row_of(stored.event, id(stored) in open_ids) for stored in chosen]):
                click.echo(line)

    def _tell_damage(self) -> None:
        """On standard error, so that it is in nobody's JSON."""
        if foreign := self._reader.foreign:
            click.echo(f"left out: {count(foreign, 'line')} that no event can be read from", err=True)
        if torn := self._reader.torn:
            click.echo(
                f"left out: {count(torn, 'line')} without an end (killed while writing it, or at it now)", err=True
            )
