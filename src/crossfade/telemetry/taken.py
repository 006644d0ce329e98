"""What structlog and the standard library's logging are told, printed as the log's own lines are."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Iterable, MutableMapping
from types import TracebackType
from typing import Any, Final

import structlog

LEVELS: Final[dict[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

Facts = Iterable[tuple[str, object]]
Line = Callable[[str, str, Facts], str]
_ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


def _exception(given: object) -> _ExcInfo:
    if isinstance(given, BaseException):
        return (type(given), given, given.__traceback__)
    if isinstance(given, tuple):
        return (given[0], given[1], given[2])
    return sys.exc_info()


def traceback_of(info: _ExcInfo) -> str:
    return "".join(traceback.format_exception(*info))


class Taken:
    """Has both print by `print_line` what `line` made of it, from the level `least` on, until `give_back`."""

    def __init__(self, print_line: Callable[[str], None], line: Line, least: int, *, is_debug: bool) -> None:
        self._line = line
        structlog.configure(
            processors=[self._render],
            wrapper_class=structlog.make_filtering_bound_logger(least),
            logger_factory=lambda *args: _Printer(print_line),
            cache_logger_on_first_use=False,
        )
        self._handler = _Handler(print_line, line)
        root = logging.getLogger()
        root.addHandler(self._handler)
        root.setLevel(max(least, logging.INFO if is_debug else logging.WARNING))

    def give_back(self) -> None:
        logging.getLogger().removeHandler(self._handler)
        structlog.reset_defaults()

    def _render(self, _: object, level: str, said: MutableMapping[str, Any]) -> str:
        """The last step of structlog."""
        level = {"warn": "warning", "exception": "error", "fatal": "critical"}.get(level, level)
        text = str(said.pop("event", ""))
        if given := said.pop("exc_info", None):
            said["exception"] = traceback_of(_exception(given))
        return self._line(level, text, said.items())


class _Printer:
    """What structlog calls with a rendered line."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.debug = self.info = self.warning = self.warn = self.error = self.exception = write
        self.critical = self.fatal = self.log = self.msg = write


class _Handler(logging.Handler):
    """What the standard library's logging, and so asyncio and libraries, has to say."""

    def __init__(self, print_line: Callable[[str], None], line: Line) -> None:
        super().__init__()
        self._print_line = print_line
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        try:
            facts: list[tuple[str, object]] = [("logger", record.name)]
            if record.exc_info:
                facts.append(("exception", traceback_of(_exception(record.exc_info))))
            level = record.levelname.lower()
            known = level if level in LEVELS else "info"
            self._print_line(self._line(known, record.getMessage(), facts))
        except Exception:  # a message that does not fit its arguments, say: the library's fault, nobody's loss
            self.handleError(record)
