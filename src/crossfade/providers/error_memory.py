"""An error answer that comes again and again is read once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from crossfade.core.failure import Failure, FailureReason
from crossfade.providers.errors import failure_of, read_error
from crossfade.providers.exchange_id import request_id
from crossfade.providers.secrecy import Secrets
from crossfade.providers.waiting import retry_after

_REMEMBERED: Final = 4096
"""Bytes of a body that are worth keeping."""


class ErrorMemory:
    """The last error answer of a provider: in an outage it says the same again and again. What its headers say is
    read each time. `secrets` are kept out of what it says."""

    __slots__ = ("_body", "_failure", "_secrets", "_status")

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._status = 0
        self._body = b""
        self._failure: Failure | None = None

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """As `failure_of` for an answer with a status."""
        known = self._failure
        if known is None or status != self._status or body != self._body:
            known = self._secrets.cleaned(failure_of(status, headers, read_error(body)))
            self._status, self._body = status, body
            # Only where nothing but a server's fault was read, which takes no waiting time out of its body.
            self._failure = known if known.reason is FailureReason.SERVER_ERROR and len(body) <= _REMEMBERED else None
            return known
        wait, name = retry_after(headers, is_limited=False), self._secrets.kept_out_of(request_id(headers))
        if wait == known.retry_after and name == known.request_id:
            return known
        return msgspec.structs.replace(known, retry_after=wait, request_id=name)
