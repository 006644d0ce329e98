"""OpenAI's Responses API as a provider: requests to `/responses`, and what its answers and errors mean.

Puts together the dialect (`wire.responses_*`, `wire.openai_responses`) and the classes of errors (`providers.errors`).
Serves every server of the dialect; the vendor's row says how it wants its key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from crossfade.core.credential import Secret
from crossfade.core.exchange import Completion, Continuation, RequestFacts, continued
from crossfade.core.failure import Failure
from crossfade.core.target import Dialect, Target, Vendor
from crossfade.providers.base import Inbound, ProviderRequest
from crossfade.providers.errors import failure_of, read_error
from crossfade.providers.exchange_id import request_id
from crossfade.providers.secrecy import Secrets
from crossfade.wire.openai_responses import write_request
from crossfade.wire.reader import StreamReader
from crossfade.wire.responses_answer import read_completion
from crossfade.wire.responses_request import ResponsesInbound
from crossfade.wire.responses_stream import ResponsesStreamReader

PATH: Final = "/responses"


class ResponsesProvider:
    """The API of one vendor that speaks the responses dialect. See `providers.base.Provider` for the contract."""

    dialect: Dialect = "responses"

    def __init__(self, vendor: Vendor):
        self.vendor = vendor
        self._secrets = Secrets()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.vendor.name}>"

    def request(
        self,
        inbound: Inbound,
        target: Target,
        secret: Secret | None,
        stream: bool,
        continuation: Continuation | None = None,
    ) -> ProviderRequest:
        """The caller's own bytes where they are of this dialect already, else a translation.

        Raises InvalidRequest, naming the field, where the request cannot be said in this dialect.
        """
        self._secrets.learn(secret)
        headers = [("content-type", "application/json"), *self.credential(secret)]
        if isinstance(inbound, ResponsesInbound):
            body = inbound.body(target, stream=stream, include_usage=False, continuation=continuation)
            return ProviderRequest(PATH, headers, body)
        chat = inbound.canonical()
        if continuation is not None:
            chat = continued(chat, continuation)
        written = write_request(chat, target, stream=stream)
        return ProviderRequest(PATH, headers, written.body, written.dropped)

    def credential(self, secret: Secret | None) -> tuple[tuple[str, str], ...]:
        """The header that a key is sent in; none for what signs."""
        if not isinstance(secret, str) or self.vendor.auth == "none":
            return ()
        if self.vendor.auth == "bearer":
            return (("authorization", f"Bearer {secret}"),)
        return ((self.vendor.auth, secret),)

    def request_id(self, headers: Mapping[str, str]) -> str | None:
        """The provider's own name of the exchange."""
        return self._secrets.kept_out_of(request_id(headers))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an answer with a status other than 2xx means."""
        return self._secrets.cleaned(failure_of(status, headers, read_error(body)))

    def completion(self, body: bytes, facts: RequestFacts) -> Completion | Failure:
        """A 2xx body; a Failure for an error in it, and for what is no answer."""
        return read_completion(body, self._failure_in_200)

    def reader(self, facts: RequestFacts) -> StreamReader:
        """A reader for one stream; it reads the same whatever was asked for."""
        return ResponsesStreamReader(self._failure_in_200)

    def _failure_in_200(self, data: bytes) -> Failure:
        return self._secrets.cleaned(failure_of(None, {}, read_error(data)))
