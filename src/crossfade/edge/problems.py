"""Errors that are ours, in the envelope of the dialect that the caller speaks."""

from __future__ import annotations

from typing import Final

from crossfade.core.errors import RequestError
from crossfade.engine.ports import CallerDialect

JSON: Final = ("content-type", "application/json")


def problem(
    dialect: CallerDialect, status: int, message: str, *, code: str | None = None, param: str | None = None
) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body of an error that no provider had a part in."""
    return [JSON], dialect.error(status, code, message, param=param)


def problem_of(dialect: CallerDialect, error: RequestError) -> tuple[list[tuple[str, str]], bytes]:
    return problem(dialect, error.status, error.message, code=error.code, param=error.param)
