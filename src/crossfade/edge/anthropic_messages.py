"""`POST /v1/messages`: how callers of Anthropic's messages API are read and answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from crossfade.core.exchange import Completion, RequestFacts, StreamEvent, Usage
from crossfade.core.target import Dialect
from crossfade.edge.endpoint import Endpoint
from crossfade.edge.intake import Caller
from crossfade.wire.anthropic_request import MessagesInbound, read_request
from crossfade.wire.anthropic_writer import PING, MessageWriter, error_body, error_event, write_completion
from crossfade.wire.members import with_member


class MessageEventWriter:
    """An `EventWriter` of Anthropic events: passes them, or writes them under the first stream's identity."""

    __slots__ = ("_default_id", "_writer")

    def __init__(self, request: str):
        self._writer = MessageWriter()
        self._default_id = f"msg_{request}"

    def leg(self, passes: bool) -> Callable[[StreamEvent], bytes]:
        return self._passed if passes else self._written

    def _passed(self, event: StreamEvent) -> bytes:
        if event.id:
            self._writer.be(event.id, event.model)
        if event.raw:
            self._writer.on_passed(event)
        return event.raw

    def _written(self, event: StreamEvent) -> bytes:
        writer = self._writer
        writer.be(event.id, event.model)
        if event.has_content or event.finish is not None:
            writer.be(self._default_id, "")
        return writer.write(event)

    def end(self, usage: Usage | None, member: bytes | None) -> bytes:
        """What closes the stream; passed streams have said their usage already."""
        if usage is not None:
            self._writer.usage = usage
        return self._writer.end(member)

    def error(self, status: int, code: str, message: str) -> bytes:
        return error_event(status, message, code=code)


class MessagesDialect:
    """How callers of Anthropic's messages read answers; a `CallerDialect`."""

    name: Dialect = "anthropic"
    has_loose_events = True
    keep_alive = PING

    def writer(self, facts: RequestFacts, request: str) -> MessageEventWriter:
        return MessageEventWriter(request)

    def completion(self, completion: Completion, facts: RequestFacts, request: str) -> bytes:
        return write_completion(completion, default_id=f"msg_{request}")

    def with_member(self, body: bytes, member: bytes) -> bytes:
        return with_member(body, "crossfade", member)

    def comment(self, text: str) -> bytes:
        return f": crossfade {text}\n\n".encode()

    def error(
        self, status: int, code: str | None, message: str, member: bytes | None = None, param: str | None = None
    ) -> bytes:
        body = error_body(status, message, code=code, param=param)
        return body if member is None else with_member(body, "crossfade", member)


MESSAGES: Final = MessagesDialect()


def _read(body: bytes, caller: Caller) -> MessagesInbound:
    return read_request(body, caller.headers)


def _read_to_count(body: bytes, caller: Caller) -> MessagesInbound:
    return read_request(body, caller.headers, needs_limit=False)


def _count(facts: RequestFacts) -> bytes:
    return msgspec.json.encode({"input_tokens": max(1, facts.input_tokens)})


MESSAGES_ENDPOINT: Final = Endpoint("messages", MESSAGES, _read)
"""`POST /v1/messages`."""
COUNT_TOKENS: Final = Endpoint("count_tokens", MESSAGES, _read_to_count, _count)
"""`POST /v1/messages/count_tokens`: answered by an estimate, without asking anyone."""
