"""The Gemini API, for Google and for what speaks like it: `generateContent`, `streamGenerateContent`,
`batchEmbedContents`.

Decides addresses, headers and what Google's errors mean where their details say more than code and status. The
bodies are written and read in `wire/gemini_request.py` and `wire/gemini.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from crossfade.core.credential import Secret
from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Completion, Continuation, RequestFacts, continued
from crossfade.core.failure import Failure, FailureReason
from crossfade.core.target import Dialect, Target, Vendor
from crossfade.providers.base import Inbound, ProviderRequest
from crossfade.providers.errors import ErrorBody, failure_of, read_error
from crossfade.providers.exchange_id import request_id
from crossfade.providers.secrecy import Secrets
from crossfade.wire.gemini import GeminiReader, read_completion
from crossfade.wire.gemini_embeddings import read_embeddings, write_embeddings
from crossfade.wire.gemini_request import write_request
from crossfade.wire.openai_embeddings import EmbeddingsInbound

BASE_URL: Final = "https://generativelanguage.googleapis.com/v1beta"
"""Where the paths of `GeminiProvider` are taken from, unless a provider is configured with another base URL."""

_WHOLE: Final = "generateContent"
_STREAMED: Final = "streamGenerateContent?alt=sse"
_R = FailureReason
_MAY_NOT_EXIST: Final = "(or it may not exist)"
_ACCOUNT_WORDS: Final = ("location is not supported", "not available in your country", "enable billing")
_MONEY_WORDS: Final = (
    "spending cap",
    "spend cap",
    "spending limit",
    "prepay",
    "credits are depleted",
    "credit balance",
)


class GeminiProvider:
    """One provider that speaks Gemini's dialect. Implements `providers.base.Provider`."""

    def __init__(self, vendor: Vendor) -> None:
        self.dialect: Dialect = "gemini"
        self.vendor = vendor
        self._secrets = Secrets()

    def __repr__(self) -> str:
        return f"<GeminiProvider {self.vendor.name}>"

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
        if isinstance(inbound, EmbeddingsInbound):
            return self.embeddings(inbound, target, secret)
        chat = inbound.canonical()
        if continuation is not None:
            chat = continued(chat, continuation)
        written = write_request(chat, target.model, set_params=target.set_params, drop_params=target.drop_params)
        return ProviderRequest(
            path=self.path_of(target.model, _STREAMED if stream else _WHOLE),
            headers=[("content-type", "application/json"), *self.credential(secret)],
            body=written.body,
            dropped=written.dropped,
        )

    def path_of(self, model: str, method: str) -> str:
        """The path of a call."""
        return path_of(model, method)

    def embeddings(self, inbound: EmbeddingsInbound, target: Target, secret: Secret | None) -> ProviderRequest:
        """The request for vectors. Raises InvalidRequest for tokens in the place of texts."""
        if inbound.texts is None:
            raise InvalidRequest("Gemini embeds texts, not tokens of another provider's models", param="input")
        body = write_embeddings(
            inbound.texts,
            target.model,
            inbound.facts.dimensions,
            set_params=target.set_params,
            drop_params=target.drop_params,
        )
        headers = [("content-type", "application/json"), *self.credential(secret)]
        return ProviderRequest(self.path_of(target.model, "batchEmbedContents"), headers, body, inbound.others)

    def request_id(self, headers: Mapping[str, str]) -> str | None:
        """The provider's own name of the exchange."""
        return self._secrets.kept_out_of(request_id(headers))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an error answer means. `headers` have lower-case names."""
        return self._secrets.cleaned(google_failure(status, headers, body))

    def completion(self, body: bytes, facts: RequestFacts) -> Completion | Failure:
        """A 2xx body as a completion, or the Failure that it is in truth."""
        if facts.asks == "embeddings":
            return read_embeddings(body, self._failure_inside, facts)
        return read_completion(body, self._failure_inside)

    def reader(self, facts: RequestFacts) -> GeminiReader:
        """A reader for one stream."""
        return GeminiReader(facts, self._failure_inside)

    def _failure_inside(self, body: bytes) -> Failure:
        """The failure of an error that came inside a 200, as a body or as an event."""
        return self._secrets.cleaned(google_failure(200, {}, body))

    def credential(self, secret: Secret | None) -> list[tuple[str, str]]:
        """The header that a key is sent in; none for what signs."""
        auth = self.vendor.auth
        if not isinstance(secret, str) or auth == "none":
            return []
        return [("authorization", f"Bearer {secret}")] if auth == "bearer" else [(auth, secret)]


def path_of(model: str, method: str) -> str:
    """The path of a call. A model's name, whoever gave it, is one segment of it and nothing more.

    `models/` in front of the name, as Google lists its models, is taken off.
    """
    return f"/models/{quote(model.removeprefix('models/'), safe='', errors='replace')}:{method}"


# --- errors --------------------------------------------------------------------------------------------------


def google_failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What an error of Google's means."""
    error = read_error(body)
    details = _details(error)
    reason = _reason(error.status if status < 300 else status, error, details)
    if (known := _info(details, "reason")) is not None:
        error.code = known  # API_KEY_INVALID says more than 400 or INVALID_ARGUMENT
    return failure_of(status, headers, error, reason=reason)


def _reason(status: int | None, error: ErrorBody, details: list[dict[str, Any]]) -> FailureReason | None:
    """What Google's details and words say; None leaves it to what is common to all providers."""
    message = error.message.lower()
    if _info(details, "reason") in ("API_KEY_INVALID", "API_KEY_EXPIRED") and status is not None and status < 500:
        return _R.AUTH_ERROR
    match status:
        case 400 if error.type == "FAILED_PRECONDITION" and any(word in message for word in _ACCOUNT_WORDS):
            return _R.AUTH_ERROR  # what this account, from this place, may not do: another provider can
        case 402:
            return _R.QUOTA_EXHAUSTED  # comes with the status RESOURCE_EXHAUSTED, which is mostly a rate limit
        case 403 if _MAY_NOT_EXIST in message:
            # Vertex does not tell a missing model from a forbidden one. Either way it is this model that cannot
            # be had, and the credential may be good for others.
            return _R.MODEL_UNAVAILABLE
        case 429:
            return _R.QUOTA_EXHAUSTED if _is_used_up(message, details) else _R.RATE_LIMIT
    return None


def _is_used_up(message: str, details: list[dict[str, Any]]) -> bool:
    """Whether waiting a minute will not help. The message says "exceeded your current quota" for every limit."""
    limits = [_text(item.get("quotaId")) for detail in details for item in _objects(detail.get("violations"))]
    limits.append(_info(details, "quota_limit") or "")
    if any("PerDay" in limit or "PerMonth" in limit for limit in limits):
        return True
    return any(word in message for word in _MONEY_WORDS)


def _details(error: ErrorBody) -> list[dict[str, Any]]:
    return _objects(error.value.get("details")) if isinstance(error.value, dict) else []


def _info(details: list[dict[str, Any]], name: str) -> str | None:
    """A field of the `ErrorInfo` among the details, or of its metadata."""
    for detail in details:
        metadata = detail.get("metadata")
        for place in (detail, metadata if isinstance(metadata, dict) else {}):
            if value := _text(place.get(name)):
                return value
    return None


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
