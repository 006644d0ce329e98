"""Ollama's own API: `chat` and `embed`.

Decides addresses, headers, and what Ollama's errors mean where its words say more than the status. The bodies are
written and read in `wire/ollama*.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from crossfade.core.credential import Secret
from crossfade.core.exchange import Completion, Continuation, RequestFacts, continued
from crossfade.core.failure import Failure, FailureReason
from crossfade.core.target import Dialect, Target, Vendor
from crossfade.providers.base import Inbound, ProviderRequest
from crossfade.providers.errors import failure_of, read_error
from crossfade.providers.exchange_id import request_id
from crossfade.providers.secrecy import Secrets
from crossfade.wire.ollama import OllamaReader, read_completion
from crossfade.wire.ollama_embeddings import read_embeddings, write_embeddings
from crossfade.wire.ollama_request import write_request
from crossfade.wire.openai_embeddings import EmbeddingsInbound

_USED_UP: Final = re.compile(r"\breached your (?:session|daily|weekly|monthly) usage limit")
"""Of ollama.com: "you (NAME) have reached your weekly usage limit, upgrade for higher limits: ..."; by the hour it is a
rate limit in the same words."""
_INSIDE: Final = (
    ("usage limit", FailureReason.RATE_LIMIT),
    ("too many requests", FailureReason.RATE_LIMIT),
    ("too many concurrent", FailureReason.RATE_LIMIT),
    ("server busy", FailureReason.OVERLOADED),  # the queue is full (`server/sched.go`)
    ("overloaded", FailureReason.OVERLOADED),
)
"""Words of errors inside a 200, in lower case, where no status says what they mean."""
_BROKEN_CALL: Final = "error parsing tool call"
"""The model wrote a call that Ollama cannot read (github.com/ollama/ollama, `harmony/harmonyparser.go`)."""


class OllamaProvider:
    """Ollama, or what speaks like it. See `providers.base.Provider` for the contract."""

    def __init__(self, vendor: Vendor) -> None:
        self.dialect: Dialect = "ollama"
        self.vendor = vendor
        self._secrets = Secrets()

    def __repr__(self) -> str:
        return f"<OllamaProvider {self.vendor.name}>"

    def request(
        self,
        inbound: Inbound,
        target: Target,
        secret: Secret | None,
        stream: bool,
        continuation: Continuation | None = None,
    ) -> ProviderRequest:
        """The request for `target`, always translated: no caller speaks this dialect.

        Raises InvalidRequest where the chat, or the texts to embed, cannot be said in it.
        """
        self._secrets.learn(secret)
        headers = [("content-type", "application/json"), *self.credential(secret)]
        if isinstance(inbound, EmbeddingsInbound):
            written = write_embeddings(
                inbound, target.model, set_params=target.set_params, drop_params=target.drop_params
            )
            return ProviderRequest("/embed", headers, written.body, written.dropped)
        chat = inbound.canonical()
        if continuation is not None:
            chat = continued(chat, continuation)
        written = write_request(
            chat, target.model, stream=stream, set_params=target.set_params, drop_params=target.drop_params
        )
        return ProviderRequest("/chat", headers, written.body, written.dropped)

    def credential(self, secret: Secret | None) -> list[tuple[str, str]]:
        """The header that a key is sent in."""
        if not isinstance(secret, str) or self.vendor.auth == "none":
            return []
        return [("authorization", f"Bearer {secret}")]

    def request_id(self, headers: Mapping[str, str]) -> str | None:
        """The name of the exchange, which ollama.com gives and a server of one's own does not."""
        return self._secrets.kept_out_of(request_id(headers))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an error answer means. `headers` have lower-case names."""
        return self._secrets.cleaned(_failure(status, headers, body))

    def completion(self, body: bytes, facts: RequestFacts) -> Completion | Failure:
        """A 2xx body as a completion, or the Failure that it is in truth."""
        if facts.asks == "embeddings":
            return read_embeddings(body, self._failure_inside, facts)
        return read_completion(body, self._failure_inside)

    def reader(self, facts: RequestFacts) -> OllamaReader:
        """A reader for one stream."""
        return OllamaReader(self._failure_inside)

    def _failure_inside(self, body: bytes) -> Failure:
        """The failure of an error that came inside a 200, as a body or as a line."""
        return self._secrets.cleaned(_failure(200, {}, body))


def _failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    error = read_error(body)
    message = error.message.lower()
    return failure_of(status, headers, error, reason=_reason(status, message))


def _reason(status: int, message: str) -> FailureReason | None:
    """What the words say beyond the status; of an error inside a 200 they are all that there is."""
    if status in (200, 429) and _USED_UP.search(message):
        return FailureReason.QUOTA_EXHAUSTED
    if (status == 200 or status >= 500) and message.startswith(_BROKEN_CALL):
        return FailureReason.INVALID_TOOL_CALL
    if status == 200:
        return next((reason for words, reason in _INSIDE if words in message), None)
    return None
