"""`POST /v1/responses`: how callers of OpenAI's Responses API are read and answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from crossfade.core.exchange import Completion, RequestFacts, StreamEvent, Usage
from crossfade.core.target import Dialect
from crossfade.edge.endpoint import Endpoint
from crossfade.edge.intake import Caller
from crossfade.edge.openai_chat import type_of
from crossfade.wire.members import with_member
from crossfade.wire.openai_response import error_body
from crossfade.wire.responses_objects import response_id, write_completion
from crossfade.wire.responses_request import ResponsesInbound, read_request
from crossfade.wire.responses_writer import ResponseWriter


class ResponseEventWriter:
    """An `EventWriter` of response events: passes them, or writes them under the first stream's identity."""

    __slots__ = ("_default_id", "_writer")

    def __init__(self, facts: RequestFacts, request: str):
        self._writer = ResponseWriter(facts.echo)
        self._default_id = f"resp_{request}"

    def leg(self, passes: bool) -> Callable[[StreamEvent], bytes]:
        return self._passed if passes else self._written

    def _passed(self, event: StreamEvent) -> bytes:
        if event.id:
            self._writer.be(event.id, event.model, event.created)
        return self._writer.on_passed(event) if event.raw else b""

    def _written(self, event: StreamEvent) -> bytes:
        self._writer.be(response_id(event.id), event.model, event.created)
        if event.has_content or event.finish is not None:
            self._default()
        return self._writer.write(event)

    def _default(self) -> None:
        self._writer.be(self._default_id, "", int(time.time()))

    def end(self, usage: Usage | None, member: bytes | None) -> bytes:
        """What closes the stream; passed streams have said their usage already."""
        self._default()
        if usage is not None:
            self._writer.usage = usage
        return self._writer.end(member)

    def error(self, status: int, code: str, message: str) -> bytes:
        self._default()
        return self._writer.error(message, type_of(status), code)


class ResponsesDialect:
    """How callers of the Responses API read answers; a `CallerDialect`."""

    name: Dialect = "responses"
    has_loose_events = False
    keep_alive = b": keep-alive\n\n"

    def writer(self, facts: RequestFacts, request: str) -> ResponseEventWriter:
        return ResponseEventWriter(facts, request)

    def completion(self, completion: Completion, facts: RequestFacts, request: str) -> bytes:
        return write_completion(completion, facts.echo, default_id=f"resp_{request}", default_created=int(time.time()))

    def with_member(self, body: bytes, member: bytes) -> bytes:
        return with_member(body, "crossfade", member)

    def comment(self, text: str) -> bytes:
        return f": crossfade {text}\n\n".encode()

    def error(
        self, status: int, code: str | None, message: str, member: bytes | None = None, param: str | None = None
    ) -> bytes:
        body = error_body(message, type=type_of(status), code=code, param=param)
        return body if member is None else with_member(body, "crossfade", member)


def _read(body: bytes, caller: Caller) -> ResponsesInbound:
    return read_request(body, caller.headers)


RESPONSES: Final = Endpoint("responses", ResponsesDialect(), _read)
"""`POST /v1/responses`."""
