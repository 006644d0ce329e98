"""What the demo shows: lines with a label in front, streams as they come, what the gateway records, and the sum.

Colours and wrapping are for terminals; elsewhere, or with NO_COLOR, the same words are plain lines.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crossfade.cli.demo_client import Answer
from crossfade.core.events import (
    AttemptRow,
    BreakerMoved,
    Event,
    FallbackTriggered,
    RequestEnded,
    TargetEjected,
    TargetReturned,
)

LABEL_WIDTH = 12
PLAIN_WIDTH = 10_000
"""Characters of a line where there is no terminal: nothing is wrapped."""

_JOIN = re.compile(r"crossfade continued by (\S+)")
_LEG_STYLES = ("", "cyan", "yellow")
"""How the text of a stream is shown: the first provider's, the second's, the third's."""


class Result(msgspec.Struct, kw_only=True):
    """One request of the story. `problem` is what its caller had to complain of; `is_outage`: it was to fail."""

    row: RequestEnded | None
    answer: Answer
    problem: str | None = None
    is_outage: bool = False


class Screen:
    """The terminal. All methods are called on the event loop's thread."""

    def __init__(self, console: Console):
        self._console = console
        self._width = console.width if console.is_terminal else PLAIN_WIDTH
        self._column: int | None = None  # of an open stream's line
        self._legs = 0
        self._held: list[Event] = []

    @property
    def is_live(self) -> bool:
        """Whether somebody is looking on."""
        return self._console.is_terminal

    # --- lines -----------------------------------------------------------------------------------------------

    def head(self, title: str, said: Iterable[str] = ()) -> None:
        """The beginning of an act."""
        self._print(Text(f"\n{title}", style="bold"))
        for line in said:
            self.line("", line, "dim")

    def line(self, label: str, words: str, style: str = "") -> None:
        """A line with a label; long ones go on below their beginning."""
        room = max(20, self._width - LABEL_WIDTH - 1)
        shown = Text(words, style=style).wrap(self._console, room) if self.is_live else [Text(words, style=style)]
        for number, part in enumerate(shown):
            self._print(Text.assemble((f"{label if number == 0 else '':{LABEL_WIDTH}}", "dim"), part))

    def say(self, words: str = "") -> None:
        """Words to be copied: never wrapped, never coloured."""
        self._print(Text(words))

    def _print(self, text: Text, end: str = "\n") -> None:
        self._console.print(text, end=end, soft_wrap=True, highlight=False)

    # --- a stream --------------------------------------------------------------------------------------------

    def start_stream(self, label: str) -> None:
        self._column, self._legs = LABEL_WIDTH, 0
        self._print(Text(f"{label:{LABEL_WIDTH}}", style="dim"), end="")

    def piece(self, text: str) -> None:
        """The next text of the open stream."""
        self._put(text, _LEG_STYLES[min(self._legs, len(_LEG_STYLES) - 1)])

    def comment(self, text: str) -> None:
        """A comment in the stream: the gateway says there that another target goes on."""
        if found := _JOIN.match(text):
            self._legs += 1
            self._put(f" >>> {found[1]} >>>", "bold magenta")

    def end_stream(self) -> None:
        self._column = None
        self._print(Text(""))
        held, self._held = self._held, []
        for event in held:
            self.tell(event)

    def _put(self, text: str, style: str) -> None:
        assert self._column is not None
        if self._column + len(text) >= self._width:
            text, self._column = text.lstrip(), LABEL_WIDTH
            self._print(Text("\n" + " " * LABEL_WIDTH), end="")
        self._column += len(text)
        self._print(Text(text, style=style), end="")

    # --- what the gateway records ----------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """An event, as it happens; while a stream's line is open it waits for the end of it."""
        if self._column is not None:
            self._held.append(event)
        elif isinstance(event, RequestEnded):
            self.line("request", walk_of(event), "" if event.served else "red")
        elif words := _words(event):
            self.line("event", words, "yellow")

    def result(self, label: str, result: Result) -> None:
        """What a caller got, and how it came about."""
        walk = "no record of the request" if result.row is None else walk_of(result.row)
        if result.problem is not None:
            self.line(label, f"WRONG: {result.problem}; {walk}", "bold red")
        elif result.is_outage:
            self.line(label, f"{result.answer.status} {result.answer.error}", "yellow")
        else:
            self.line(label, f"right: {walk}", "green")

    # --- the sum ---------------------------------------------------------------------------------------------

    def summary(self, results: Sequence[Result]) -> None:
        """Who answered how much, and what the callers saw of all this."""
        rows = [one.row for one in results if one.row is not None and not one.is_outage]
        table = Table(box=box.SIMPLE)
        table.add_column("answered by", no_wrap=True)
        for title in ("requests", "by fallback", "joined", "slowest"):
            table.add_column(title, justify="right")
        for target, count in Counter(row.served for row in rows if row.served).most_common():
            served = [row for row in rows if row.served == target]
            fallen, joined = sum(row.fallbacks > 0 for row in served), sum(row.joined > 0 for row in served)
            slowest = _time(max(row.latency_s for row in served))
            table.add_row(target, str(count), str(fallen), str(joined), slowest)
        self.head("The sum")
        self._console.print(table)
        outages = sum(one.is_outage for one in results)
        problems = sum(one.problem is not None for one in results)
        right = sum(one.problem is None and not one.is_outage for one in results)
        self.line("requests", f"{len(results)}; {right} answered, complete and right to the letter")
        self.line("by design", f"{outages} while every provider was down: an error, and the reason at every target")
        self.line("", f"caller-visible failures: {problems}", "bold red" if problems else "bold green")


def walk_of(row: RequestEnded) -> str:
    """One request in a line: by whom it was answered, when, and after what."""
    if row.served is None or row.in_band_error:
        said = f"not answered ({row.status} {row.error}) after {_time(row.latency_s)}"
    else:
        said = f"answered by {row.served} in {_time(row.latency_s)}"
        if row.fallbacks:
            said += f", {row.fallbacks} fallback{'s' if row.fallbacks > 1 else ''}"
        if row.joined:
            said += ", joined in mid-stream" + (" twice" if row.joined == 2 else "")
        if any(attempt.mode == "trial" and attempt.reason is None for attempt in row.attempts):
            said += ", a trial of its breaker"
    why = _troubles(row.attempts)
    return f"{said}: {why}" if why else said


def _troubles(attempts: Iterable[AttemptRow]) -> str:
    counts = Counter(words for attempt in attempts if (words := _trouble(attempt)))
    return "; ".join(f"{words}, {times} times" if times > 1 else words for words, times in counts.items())


def _trouble(attempt: AttemptRow) -> str:
    if attempt.skip is not None:
        return f"{attempt.target} skipped without a call ({attempt.skip})"
    if attempt.reason is None:
        return ""
    detail = attempt.detail or (str(attempt.status) if attempt.status else "")
    return f"{attempt.target} {attempt.reason}" + (f" ({detail})" if detail else "")


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"


def _name(key: str) -> str:
    """The target of a health key, whose end tells its credential."""
    return key.rpartition("#")[0]


def _words(event: Event) -> str:
    match event:
        case FallbackTriggered():
            return f"fallback {event.source} > {event.target}: {event.reason} after {_time(event.after_s)}"
        case BreakerMoved():
            until = f" for {event.until_s:.1f} s" if event.until_s is not None else ""
            return f"breaker of {_name(event.target)}: {event.before} > {event.state}{until}"
        case TargetEjected():
            return f"{_name(event.target)} is left out for {event.for_s:.1f} s: {event.reason}"
        case TargetReturned():
            return f"{_name(event.target)} is back after {event.reason}"
        case _:
            return ""
