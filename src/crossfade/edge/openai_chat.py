"""`POST /v1/chat/completions`: how callers of OpenAI's chat API are read and answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from crossfade.core.exchange import Completion, RequestFacts, StreamEvent, Usage
from crossfade.core.target import Dialect
from crossfade.edge.endpoint import Endpoint
from crossfade.edge.intake import Caller
from crossfade.wire.openai_chat import (
    ChatInbound,
    ChunkWriter,
    error_body,
    error_event,
    read_request,
    with_member,
    write_completion,
)

MAX_NAME: Final = 256
"""Characters of an id or a model's name that are written again and again."""
DONE: Final = b"data: [DONE]\n\n"

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_TYPES: Final = {429: "rate_limit_error", 403: "permission_error"}


def type_of(status: int) -> str:
    """OpenAI's `type` for a status."""
    return _TYPES.get(status) or ("invalid_request_error" if 400 <= status < 500 else "server_error")


class ChatEventWriter:
    """An `EventWriter` of OpenAI chunks: passes them, or writes them under the first stream's identity."""

    __slots__ = ("_created", "_facts", "_has_begun", "_id", "_model", "_request", "_writer")

    def __init__(self, facts: RequestFacts, request: str):
        self._facts = facts
        self._request = request
        self._id = ""
        self._model = ""
        self._created = 0
        self._has_begun = False  # a chunk of a passed stream is out
        self._writer: ChunkWriter | None = None

    def leg(self, passes: bool) -> Callable[[StreamEvent], bytes]:
        return self._passed if passes else self._written

    def _passed(self, event: StreamEvent) -> bytes:
        if not self._id and event.id:
            self._id, self._model, self._created = event.id, event.model, event.created
        if event.raw:
            self._has_begun = True
        return event.raw  # without it, an event's chunk has left with its first event

    def _written(self, event: StreamEvent) -> bytes:
        if self._writer is None:
            # In every chunk, so that a provider's odd one would be many times as much as it sent.
            self._id = (self._id or event.id or f"chatcmpl-{self._request}")[:MAX_NAME]
            self._model = (self._model or event.model)[:MAX_NAME]
            self._created = self._created or event.created or int(time.time())
            self._writer = self._new_writer(self._has_begun)
        return self._writer.write(event)

    def _new_writer(self, is_continuing: bool) -> ChunkWriter:
        return ChunkWriter(
            id=self._id,
            model=self._model,
            created=self._created,
            include_usage=self._facts.include_usage,
            is_continuing=is_continuing,
        )

    def end(self, usage: Usage | None, member: bytes | None) -> bytes:
        """What closes the stream; passed streams have had their usage chunk already."""
        if self._writer is None and member is None:
            return DONE
        writer = self._writer or self._new_writer(True)
        if usage is not None:
            writer.usage = usage
        return writer.end(member)

    def error(self, status: int, code: str, message: str) -> bytes:
        return error_event(message, type=type_of(status), code=code)


class ChatDialect:
    """How callers of OpenAI chat read answers; a `CallerDialect`."""

    name: Dialect = "openai"
    has_loose_events = True
    keep_alive = b": keep-alive\n\n"

    def writer(self, facts: RequestFacts, request: str) -> ChatEventWriter:
        return ChatEventWriter(facts, request)

    def completion(self, completion: Completion, facts: RequestFacts, request: str) -> bytes:
        return write_completion(completion, default_id=f"chatcmpl-{request}", default_created=int(time.time()))

    def with_member(self, body: bytes, member: bytes) -> bytes:
        return with_member(body, "crossfade", member)

    def comment(self, text: str) -> bytes:
        return f": crossfade {text}\n\n".encode()

    def error(
        self, status: int, code: str | None, message: str, member: bytes | None = None, param: str | None = None
    ) -> bytes:
        body = error_body(message, type=type_of(status), code=code, param=param)
        return body if member is None else with_member(body, "crossfade", member)


CHAT: Final = ChatDialect()


def _read(body: bytes, caller: Caller) -> ChatInbound:
    return read_request(body, caller.headers if caller.has_our_headers else _NO_HEADERS)


CHAT_COMPLETIONS: Final = Endpoint("chat_completions", CHAT, _read)
"""`POST /v1/chat/completions`."""
