"""The log: lines for people on a terminal, or JSON for machines, on standard error.

Decides how lines look, which are too many, and that nothing secret is in them. Lines about events skip the general
machinery of structlog, which everything else goes through (`taken.py`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal

from crossfade.core.events import Event
from crossfade.telemetry.note import Level, Note
from crossfade.telemetry.notes import Kind, is_quiet, kind_of, note_of
from crossfade.telemetry.outlet import Outlet
from crossfade.telemetry.redact import redact
from crossfade.telemetry.taken import LEVELS, Facts, Taken, traceback_of

FLOOD_LINES: Final = 50
"""Lines of one kind that are printed in a second; the rest of them become one line."""
FLOOD_WINDOW: Final = 1.0

_COLOURS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
_STDERR: Final = 2


class Logs:
    """Prints notes of events, and what else there is to say, from `level` on.

    `write` takes whole lines; default: standard error, which is never waited for. `has_colours`: default, on a terminal
    without NO_COLOR. `later` (an event loop's `call_later`) ends a flood in time; without it, the next line does.
    """

    def __init__(
        self,
        form: Literal["console", "json"] = "console",
        level: Level = "info",
        *,
        write: Callable[[bytes], None] | None = None,
        has_colours: bool | None = None,
        later: Callable[[float, Callable[[], None]], object] | None = None,
        now: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.later = later
        self._is_json = form == "json"
        self._level = level
        self._least = LEVELS[level]
        self.is_debug = level == "debug"
        self._outlet = Outlet(_STDERR, self._lost_line) if write is None else None
        self._write = self._outlet.write if self._outlet is not None else write
        self._has_colours = _is_terminal() if has_colours is None else has_colours
        self._now = now
        self._timer = timer
        self._second_ends = float("-inf")
        self._counts: dict[Kind, list[Any]] = {}  # how many, the first note
        self._taken: Taken | None = None

    def __repr__(self) -> str:
        return f"<Logs {'json' if self._is_json else 'console'} from {self._level}>"

    def install(self) -> None:
        """Has structlog and the standard library's logging print here too. Once per process."""
        self._taken = Taken(self.print_line, self.line, self._least, is_debug=self.is_debug)

    def close(self, timeout: float = 1.0) -> None:
        """Prints what was summed up, takes back `install`, and waits `timeout` seconds at most for standard error."""
        self._end_second()
        if self._taken is not None:
            self._taken.give_back()
            self._taken = None
        if self._outlet is not None:
            self._outlet.flush(timeout)

    def on_event(self, event: Event) -> None:
        if not self.is_debug and is_quiet(event):
            return
        kind = kind_of(event)
        counted = self._counts.get(kind)
        if counted is not None and counted[0] > FLOOD_LINES and self._timer() < self._second_ends:
            counted[0] += 1  # an outage under load: nothing is made of a line that is not printed
            return
        self._print(note_of(event), kind)

    def say(self, level: Level, text: str, error: BaseException | None = None, **facts: object) -> None:
        """Prints a sentence with facts, and the traceback of `error`."""
        if error is not None:
            facts["exception"] = traceback_of((type(error), error, error.__traceback__))
        self._print(Note(level, text, tuple(facts.items())), (text,))

    # --- floods ----------------------------------------------------------------------------------------------

    def _print(self, note: Note, kind: Kind) -> None:
        if LEVELS[note.level] < self._least:
            return
        now = self._timer()
        if now >= self._second_ends:
            self._end_second()
            self._second_ends = now + FLOOD_WINDOW
        counted = self._counts.setdefault(kind, [0, note])
        counted[0] += 1
        if counted[0] <= FLOOD_LINES:
            self.print_line(self.line(note.level, note.text, note.facts))
        elif counted[0] == FLOOD_LINES + 1 and self.later is not None:
            self.later(max(0.0, self._second_ends - now), self._end_second)

    def _end_second(self) -> None:
        """One line for each kind of which there were too many. What they said is in the journal."""
        counts, self._counts = self._counts, {}
        for count, note in counts.values():
            if (more := count - FLOOD_LINES) > 0:
                if self._is_json:
                    line = self.line(note.level, note.text, (*note.kind, ("more", more)))
                else:
                    line = self.line(note.level, note.text, note.kind, f": {more} more in the last second")
                self.print_line(line)

    # --- lines -----------------------------------------------------------------------------------------------

    def print_line(self, line: str) -> None:
        assert self._write is not None
        self._write(redact(line).encode("utf-8", "backslashreplace") + b"\n")

    def line(self, level: str, text: str, facts: Facts, end: str = "") -> str:
        """One line, without its line break."""
        at = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
        if self._is_json:
            said = {"time": at, "level": level, "event": text}
            return json.dumps(said | {k: v for k, v in facts if v is not None}, default=str, ensure_ascii=False)
        word = level.upper()
        if self._has_colours:
            word = f"\x1b[{_COLOURS[level]}m{word}\x1b[0m"
        return f"{at} {word} {_plain(text)}{_console(facts)}{end}"

    def _lost_line(self, count: int) -> bytes:
        text = f"{count} lines of the log are lost: nobody took them"
        return self.line("warning", text, ()).encode() + b"\n"


def _console(facts: Facts) -> str:
    """` name=value` for each fact; a traceback last, on lines of its own."""
    parts: list[str] = []
    tail = ""
    for name, value in facts:
        if value is None:
            continue
        if name == "exception":
            tail = f"\n{str(value).rstrip()}"
        elif name.endswith("_s") and isinstance(value, (int, float)):
            parts.append(f" {name[:-2]}={value:.2f}s")
        else:
            parts.append(f" {name}={_word(value)}")
    return "".join(parts) + tail


def _word(value: object) -> str:
    """A value as one word, quoted where it is more, so that it can neither break the line nor forge a fact."""
    if value is True or value is False:
        return "yes" if value else "no"
    text = str(value)
    if text and text.isprintable() and not any(mark in text for mark in ' "='):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _plain(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)[1:-1]


def _is_terminal() -> bool:
    try:
        return os.isatty(_STDERR) and not os.environ.get("NO_COLOR")
    except OSError:
        return False
