"""`POST /v1/completions`: how callers of OpenAI's legacy completions are read and answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from crossfade.core.exchange import Completion, RequestFacts, StreamEvent, Usage
from crossfade.edge.endpoint import Endpoint
from crossfade.edge.intake import Caller
from crossfade.edge.openai_chat import CHAT, MAX_NAME, type_of
from crossfade.wire.openai_completions import CompletionsWriter, read_completions_request, write_completions_answer
from crossfade.wire.openai_request import ChatInbound
from crossfade.wire.openai_response import error_event


class CompletionsEventWriter:
    """An `EventWriter` of completions, under the first stream's identity. No provider is asked by this API, so no
    stream passes as it came."""

    __slots__ = ("_facts", "_request", "_writer")

    def __init__(self, facts: RequestFacts, request: str):
        self._facts = facts
        self._request = request
        self._writer: CompletionsWriter | None = None

    def leg(self, passes: bool) -> Callable[[StreamEvent], bytes]:
        return self._written

    def _written(self, event: StreamEvent) -> bytes:
        return self._begun(event.id, event.model, event.created).write(event)

    def _begun(self, name: str, model: str, created: int) -> CompletionsWriter:
        if self._writer is None:
            self._writer = CompletionsWriter(
                id=(name or f"cmpl-{self._request}")[:MAX_NAME],
                model=model[:MAX_NAME],
                created=created or int(time.time()),
                include_usage=self._facts.include_usage,
            )
        return self._writer

    def end(self, usage: Usage | None, member: bytes | None) -> bytes:
        writer = self._begun("", "", 0)
        if usage is not None:
            writer.usage = usage
        return writer.end(member)

    def error(self, status: int, code: str, message: str) -> bytes:
        return error_event(message, type=type_of(status), code=code)


class CompletionsDialect:
    """How callers of completions read answers; a `CallerDialect`. Errors and comments are those of chat."""

    name = "completions"
    has_loose_events = True
    keep_alive = CHAT.keep_alive
    with_member = staticmethod(CHAT.with_member)
    comment = staticmethod(CHAT.comment)
    error = staticmethod(CHAT.error)

    def writer(self, facts: RequestFacts, request: str) -> CompletionsEventWriter:
        return CompletionsEventWriter(facts, request)

    def completion(self, completion: Completion, facts: RequestFacts, request: str) -> bytes:
        return write_completions_answer(completion, default_id=f"cmpl-{request}", default_created=int(time.time()))


def _read(body: bytes, caller: Caller) -> ChatInbound:
    return read_completions_request(body, caller.headers)


COMPLETIONS: Final = Endpoint("completions", CompletionsDialect(), _read)
"""`POST /v1/completions`."""
