"""The exceptions of the program. A failed attempt is data (`Failure`); these are for leaving."""

from __future__ import annotations

from typing import ClassVar

from crossfade.core.failure import FailureReason, Phase


class CrossfadeError(Exception):
    """The root of all errors that crossfade raises on purpose."""


class ConfigError(CrossfadeError):
    """The configuration cannot be served. Says where (`file`, 1-based `line`, dotted `field`) and what to do."""

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None, field: str | None = None):
        self.message, self.file, self.line, self.field = message, file, line, field
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        return f"{place}{self.field}: {self.message}" if self.field else f"{place}{self.message}"


class RequestError(CrossfadeError):
    """The caller's fault. `param` names the field; `status` and `code` go into the caller's envelope."""

    status: ClassVar[int] = 400
    retry_after: ClassVar[int | None] = None
    """Seconds after which the same request may fare better."""
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.message, self.param = message, param
        if code is not None:
            self.code = code


class InvalidRequest(RequestError):
    """The body or a header of the request cannot be used."""


class Unauthenticated(RequestError):
    """No gateway key, or not a valid one."""

    status = 401
    code = "invalid_api_key"


class UnknownRoute(RequestError):
    """The `model` names no route, target or model that this caller may use."""

    status = 404
    code = "model_not_found"


class Overloaded(RequestError):
    """The gateway itself has no room for another request just now."""

    status = 503
    code = "gateway_overloaded"
    retry_after = 1


class TransportError(CrossfadeError):
    """An upstream call did not end in a whole HTTP response. Raised and reported by transport/ only."""

    reason: ClassVar[FailureReason] = FailureReason.PROTOCOL_ERROR

    def __init__(self, detail: str):
        super().__init__(detail)
        self.detail = detail


class ConnectFailed(TransportError):
    """Refused, unreachable, DNS or TLS: nothing of the request was sent."""

    reason = FailureReason.CONNECT_ERROR


class TimedOut(TransportError):
    """A limit ran out; `phase` says which."""

    reason = FailureReason.TIMEOUT

    def __init__(self, detail: str, phase: Phase):
        super().__init__(detail)
        self.phase = phase


class Interrupted(TransportError):
    """The response began and ended before its end."""

    reason = FailureReason.STREAM_INTERRUPTED


class BadBytes(TransportError):
    """What came is no HTTP, or ended before a response head."""

    reason = FailureReason.PROTOCOL_ERROR
