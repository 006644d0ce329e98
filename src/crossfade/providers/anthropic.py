"""Anthropic's messages API as a provider: requests to `/messages`, and what its answers and errors mean.

Puts together the dialect (`wire.anthropic_*`) and the classes of errors (`providers.errors`), and adds what only
Anthropic says: some of its 400s are no fault of the request. Serves every server of the dialect; the vendor's row
says how it wants its key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from crossfade.core.credential import Secret
from crossfade.core.exchange import Completion, Continuation, RequestFacts, continued
from crossfade.core.failure import Failure, FailureReason
from crossfade.core.target import Dialect, Target, Vendor
from crossfade.providers.base import Inbound, ProviderRequest
from crossfade.providers.errors import ErrorBody, failure_of, read_error
from crossfade.providers.exchange_id import request_id
from crossfade.providers.secrecy import Secrets
from crossfade.wire.anthropic_answer import read_completion
from crossfade.wire.anthropic_messages import write_request
from crossfade.wire.anthropic_request import MessagesInbound
from crossfade.wire.anthropic_stream import AnthropicStreamReader
from crossfade.wire.reader import StreamReader

API_VERSION: Final = "2023-06-01"
PATH: Final = "/messages"

_R = FailureReason
_TOLD_BY_MESSAGE: Final = (
    ("input length and `max_tokens` exceed context limit", _R.CONTEXT_OVERFLOW),
    ("api usage limits", _R.QUOTA_EXHAUSTED),  # "You have reached your specified API usage limits..."
    ("organization has been disabled", _R.AUTH_ERROR),
    ("output blocked by content filtering", _R.CONTENT_FILTER),
)
"""Fragments of messages of `invalid_request_error` that mean something else, and appear nowhere but at Anthropic.
The type is one for all of them, so the message has to tell."""


class AnthropicProvider:
    """The API of one vendor that speaks Anthropic's dialect. See `providers.base.Provider` for the contract."""

    dialect: Dialect = "anthropic"

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
        """The caller's own bytes where they are Anthropic's already, else a translation.

        Raises InvalidRequest, naming the field, where the request cannot be said in this dialect.
        """
        self._secrets.learn(secret)
        if isinstance(inbound, MessagesInbound):
            body = inbound.body(target, stream=stream, include_usage=False, continuation=continuation)
            return ProviderRequest(PATH, self._headers(secret, inbound.forwarded), body, inbound.lost)
        headers = self._headers(secret)
        chat = inbound.canonical()
        if continuation is not None:
            chat = continued(chat, continuation)
        written = write_request(
            chat,
            model=target.model,
            stream=stream,
            input_tokens=inbound.facts.input_tokens,
            window=target.window,
            set_params=target.set_params,
            drop_params=target.drop_params,
        )
        return ProviderRequest(path=PATH, headers=headers, body=written.body, dropped=written.dropped)

    def _headers(self, secret: Secret | None, callers: Sequence[tuple[str, str]] = ()) -> list[tuple[str, str]]:
        """`callers` are the caller's own words about the API, which win."""
        headers = [("content-type", "application/json"), *callers]
        if not any(name == "anthropic-version" for name, _ in callers):
            headers.append(("anthropic-version", API_VERSION))
        return [*headers, *self.credential(secret)]

    def credential(self, secret: Secret | None) -> list[tuple[str, str]]:
        """The header that a key is sent in; none for what signs."""
        auth = self.vendor.auth
        if not isinstance(secret, str) or auth == "none":
            return []
        return [("authorization", f"Bearer {secret}")] if auth == "bearer" else [(auth, secret)]

    def request_id(self, headers: Mapping[str, str]) -> str | None:
        """The provider's own name of the exchange."""
        return self._secrets.kept_out_of(request_id(headers))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an answer with a status other than 2xx means."""
        return self._secrets.cleaned(_failure(status, headers, body))

    def completion(self, body: bytes, facts: RequestFacts) -> Completion | Failure:
        """A 2xx body; a Failure for an error in it, and for what is no answer."""
        return read_completion(body, self._failure_in_200)

    def reader(self, facts: RequestFacts) -> StreamReader:
        """A reader for one stream; it reads the same whatever was asked for."""
        return AnthropicStreamReader(self._failure_in_200)

    def _failure_in_200(self, data: bytes) -> Failure:
        return self._secrets.cleaned(_failure(None, {}, data))


def _failure(status: int | None, headers: Mapping[str, str], body: bytes) -> Failure:
    error = read_error(body)
    if "request-id" not in headers and (request_id := _request_id(body)) is not None:
        headers = {**headers, "request-id": request_id}
    return failure_of(status, headers, error, reason=_reason(status, error))


def _reason(status: int | None, error: ErrorBody) -> FailureReason | None:
    """What only Anthropic means by its words; None where the common rules will do."""
    if error.type == "request_too_large" and status in (None, 200, 413):
        return _R.INVALID_REQUEST  # more than 32 MB: bytes, not tokens
    if error.type == "invalid_request_error" and status in (None, 200, 400, 403):
        message = error.message.lower()
        for fragment, reason in _TOLD_BY_MESSAGE:
            if fragment in message:
                return reason
    return None


class _Envelope(msgspec.Struct):
    request_id: str | None = None


def _request_id(body: bytes) -> str | None:
    """The id that stands in the error's envelope, where a proxy has taken the header away."""
    try:
        return msgspec.json.decode(body, type=_Envelope).request_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
