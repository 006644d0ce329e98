"""Endpoints of OpenAI's API that crossfade knows nothing of: passed to one provider, as they are, once.

Decides which paths these are, and what of a head goes on and comes back. There is no fallback, no translation and no
health here: files and images are kept where they were made. Each call is on record.
"""

from __future__ import annotations

import time
from time import perf_counter
from typing import Final

from crossfade.core import policy as defaults
from crossfade.core.errors import TransportError
from crossfade.core.events import AttemptRow, RequestEnded
from crossfade.core.failure import DISPOSITIONS, FailureReason
from crossfade.edge.auth import Key
from crossfade.edge.openai_chat import CHAT
from crossfade.edge.problems import problem
from crossfade.engine.engine import Engine
from crossfade.engine.targets import Upstream
from crossfade.engine.under_way import UnderWay
from crossfade.http1.head import rendered_fields
from crossfade.http1.request import Request
from crossfade.transport.base import Call, ResponseHead, ResponseSink, UpstreamRequest

FAMILIES: Final = ("audio", "batches", "files", "fine_tuning", "images", "moderations", "uploads", "vector_stores")
"""First segments of the paths that pass."""
METHODS: Final = ("DELETE", "GET", "POST")
SILENCE: Final = 60.0
"""Seconds that the body of an answer may stand still."""
_SENT: Final = ("content-type", "accept")
"""Headers of a request that go on."""
_PASSED: Final = ("content-type", "content-disposition", "retry-after")
"""Headers of an answer that come back."""


def path_behind(path: str) -> str | None:
    """What of a path is asked of the provider; None where it is none of these endpoints, or could lead elsewhere."""
    rest = path.removeprefix("/v1")
    if rest.split("/", 2)[1:2] and rest.split("/", 2)[1] in FAMILIES and ".." not in rest and "%" not in rest:
        return rest
    return None


class Passage(UnderWay, ResponseSink):
    """One request on its way to the provider and back."""

    __slots__ = (
        "_bytes_out",
        "_call",
        "_engine",
        "_first_at",
        "_id",
        "_is_paused",
        "_key",
        "_method",
        "_path",
        "_provider",
        "_request",
        "_status",
    )

    def __init__(self, engine: Engine, request: Request, provider: str, key: Key | None, name: str, path: str) -> None:
        super().__init__()
        self._engine = engine
        self._request = request
        self._provider = provider
        self._key = key
        self._id = name
        self._path = path
        self._method = request.method
        self._call: Call | None = None
        self._is_paused = False
        self._status: int | None = None
        self._first_at: float | None = None
        self._bytes_out = 0

    def begin(self, upstream: Upstream) -> None:
        """Sends the request on."""
        request = self._request
        self.due = perf_counter() + defaults.ATTEMPT_TIMEOUT
        self._engine.watch(self)
        path = upstream.base_path + self._path + (f"?{request.query}" if request.query else "")
        headers = [*upstream.provider.credential(upstream.secret)]
        headers += [(name, value) for name in _SENT if (value := request.headers.get(name)) is not None]
        sent = UpstreamRequest(upstream.endpoint, path, headers, request.body, self._method, is_relayed=True)
        self._call = self._engine.transport.send(sent, self)

    # --- what the provider says ---

    def on_sent(self) -> None:
        """Nothing to do: the limits count from the beginning."""

    def on_head(self, head: ResponseHead) -> None:
        if self.is_done:
            return
        self._status = head.status
        self._first_at = perf_counter()
        self.due = self._first_at + SILENCE
        fields = [(name, value) for name in _PASSED if (value := head.headers.get(name)) is not None]
        fields += (("x-request-id", self._id), ("x-crossfade-provider", self._provider))
        if head.status in (204, 304):
            self._request.respond(head.status, rendered_fields(fields), b"")
            self._end(head.status, None)
        else:
            self._request.start(head.status, rendered_fields(fields))

    def on_body(self, data: bytes) -> None:
        if self.is_done:
            return
        self.due = perf_counter() + SILENCE
        self._bytes_out += len(data)
        self._request.write(data)

    def on_end(self) -> None:
        if not self.is_done and self._status is not None:
            self._request.finish()
            self._end(self._status, None)

    def on_failure(self, error: TransportError) -> None:
        self._fail(error.reason, error.detail)

    # --- what the caller and the clock say ---

    @property
    def held(self) -> int:
        return self._request.unsent

    def on_tick(self, now: float) -> None:
        if not self._is_paused:
            self._fail(FailureReason.TIMEOUT, "no answer in time" if self._status is None else "the answer stood still")

    def on_gone(self) -> None:
        self._end(499, FailureReason.CANCELLED)

    def on_pressure(self, is_pressed: bool) -> None:
        self._is_paused = is_pressed
        self.due = float("inf") if is_pressed else perf_counter() + SILENCE
        if self._call is not None:
            if is_pressed:
                self._call.pause()
            else:
                self._call.resume()

    def on_shutdown(self, now: float) -> None:
        self._fail(FailureReason.CANCELLED, "the gateway was stopped", 503)

    def on_fault(self, now: float) -> None:
        self._fail(FailureReason.INTERNAL_ERROR, "the gateway failed to handle this request")

    # --- the end ---

    def _fail(self, reason: FailureReason, detail: str, status: int | None = None) -> None:
        if self.is_done:
            return
        status = status or DISPOSITIONS[reason].status or 502
        if self._request.is_started:
            self._request.abort()  # so that the caller sees that the answer has no end
        else:
            message = f"{self._provider} {reason}: {detail}"
            headers, body = problem(CHAT, status, message, code=str(reason))
            self._request.respond(status, [*headers, ("x-request-id", self._id)], body)
        self._end(self._status or status, reason)

    def _end(self, status: int, reason: FailureReason | None) -> None:
        if self.is_done:
            return
        self.is_done = True
        self._engine.forget(self)
        self._request.handler_state = None  # they know each other
        if self._call is not None:
            if reason is not None:
                self._call.abort()
            self._call = None
        now, began = perf_counter(), self._request.received_at
        first = None if self._first_at is None else self._first_at - began
        row = AttemptRow(1, self._provider, reason=reason, status=self._status, latency_s=round(now - began, 6))
        self._engine.recorder.record(
            RequestEnded(
                id=self._id,
                at=time.time(),
                route="passthrough",
                model="",
                endpoint=self._path,
                key=None if self._key is None else self._key.name,
                stream=False,
                status=status,
                served=self._provider if reason is None else None,
                latency_s=round(now - began, 6),
                time_to_first_chunk_s=None if first is None else round(first, 6),
                time_lost_s=0.0,
                fallbacks=0,
                attempts=(row,),
                bytes_out=self._bytes_out,
                error=reason,
                project=None if self._key is None else self._key.project,
            )
        )
