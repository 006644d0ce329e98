"""Cohere's own API, version 2: `chat` and `embed`.

Decides addresses, headers, and what Cohere's errors mean where its words say more than code and status. The bodies are
written and read in `wire/cohere*.py`.
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
from crossfade.wire.cohere import CohereReader, read_completion
from crossfade.wire.cohere_embeddings import read_embeddings, write_embeddings
from crossfade.wire.cohere_request import write_request
from crossfade.wire.cohere_tools import own_names
from crossfade.wire.openai_embeddings import EmbeddingsInbound

_USED_UP: Final = re.compile(r"\blimited to [\d,]+ api calls ?/ ?month")
"""Of a trial key: "You are using a Trial key, which is limited to 1000 API calls / month."; by the minute it is a rate
limit in the same words."""
_BY_THE_MINUTE: Final = re.compile(r"(?:/ ?|\bper )minute\b")


class CohereProvider:
    """Cohere, or what speaks like it. See `providers.base.Provider` for the contract."""

    def __init__(self, vendor: Vendor) -> None:
        self.dialect: Dialect = "cohere"
        self.vendor = vendor
        self._secrets = Secrets()

    def __repr__(self) -> str:
        return f"<CohereProvider {self.vendor.name}>"

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
        """Cohere's own name of the exchange."""
        return self._secrets.kept_out_of(request_id(headers))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an error answer means. `headers` have lower-case names."""
        return self._secrets.cleaned(_failure(status, headers, body))

    def completion(self, body: bytes, facts: RequestFacts) -> Completion | Failure:
        """A 2xx body as a completion, or the Failure that it is in truth."""
        if facts.asks == "embeddings":
            return read_embeddings(body, self._failure_inside, facts)
        return read_completion(body, self._failure_inside, own_names(facts.tools))

    def reader(self, facts: RequestFacts) -> CohereReader:
        """A reader for one stream."""
        return CohereReader(self._failure_inside, own_names(facts.tools))

    def _failure_inside(self, body: bytes) -> Failure:
        """The failure of an error that came inside a 200, as a body, as an event or at the end of a generation."""
        return self._secrets.cleaned(_failure(200, {}, body))


def _failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    error = read_error(body)
    message = error.message.lower()
    reason = None
    if status in (200, 429) and _USED_UP.search(message):
        reason = FailureReason.QUOTA_EXHAUSTED
    elif status == 200 and _BY_THE_MINUTE.search(message):
        reason = FailureReason.RATE_LIMIT
    return failure_of(status, headers, error, reason=reason)
