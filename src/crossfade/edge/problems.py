"""Errors that are ours, in the envelope of the dialect the caller speaks (so far OpenAI's for every path)."""

from __future__ import annotations

from typing import Final

from crossfade.core.errors import RequestError
from crossfade.wire.openai_chat import error_body

JSON: Final = ("content-type", "application/json")

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
}


def type_of(status: int) -> str:
    """OpenAI's `type` for a status."""
    return _TYPES.get(status, "invalid_request_error" if 400 <= status < 500 else "server_error")


def problem(
    status: int, message: str, *, code: str | None = None, param: str | None = None
) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body of an error that no provider had a part in."""
    return [JSON], error_body(message, type=type_of(status), code=code, param=param)


def problem_of(error: RequestError) -> tuple[list[tuple[str, str]], bytes]:
    return [JSON], error_body(error.message, type=error.kind, code=error.code, param=error.param)
