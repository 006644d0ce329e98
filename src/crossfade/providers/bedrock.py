"""AWS Bedrock as a provider: Converse for any model, and InvokeModel for Claude in its own words.

Decides addresses, headers and how a request is proven: by an API key, or by a signature that is made when it is sent.
What AWS's errors mean is in `aws.py`; bodies are written and read in `wire/bedrock*.py` and Anthropic's files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from crossfade.core.credential import Secret
from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Completion, Continuation, RequestFacts, continued
from crossfade.core.failure import Failure, FailureReason
from crossfade.core.target import Dialect, Target, Vendor
from crossfade.providers.anthropic import AnthropicProvider
from crossfade.providers.aws import aws_failure, bearer, signer
from crossfade.providers.base import Inbound, ProviderRequest
from crossfade.providers.exchange_id import request_id
from crossfade.providers.secrecy import Secrets
from crossfade.wire.anthropic_carried import carried_body
from crossfade.wire.bedrock import ConverseReader, is_error, read_completion
from crossfade.wire.bedrock_invoke import ADDRESSED, VERSION, InvokeReader
from crossfade.wire.bedrock_request import write_request
from crossfade.wire.openai_embeddings import EmbeddingsInbound
from crossfade.wire.reader import StreamReader

_HEADERS: Final = (("content-type", "application/json"), ("accept", "application/json"))
_STREAM_HEADERS: Final = (("content-type", "application/json"), ("accept", "application/vnd.amazon.eventstream"))
_BETAS: Final = "anthropic-beta"


class BedrockProvider:
    """Converse, of one account and region. See `providers.base.Provider` for the contract."""

    def __init__(self, vendor: Vendor) -> None:
        self.dialect: Dialect = "bedrock"
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
        """The request for `target`, always translated: no caller speaks this dialect.

        Raises InvalidRequest where it cannot be said in it.
        """
        self._secrets.learn(secret)
        if isinstance(inbound, EmbeddingsInbound):
            raise InvalidRequest("Bedrock's Converse gives no embeddings", param="model")
        chat = inbound.canonical()
        if continuation is not None:
            chat = continued(chat, continuation)
        written = write_request(chat, target.model, set_params=target.set_params, drop_params=target.drop_params)
        path = path_of(target.model, "converse-stream" if stream else "converse")
        headers = _STREAM_HEADERS if stream else _HEADERS
        return _proven(self.vendor, secret, path, headers, written.body, written.dropped)

    def credential(self, secret: Secret | None) -> list[tuple[str, str]]:
        """The header that an API key is sent in; none for what signs."""
        return bearer(secret)

    def request_id(self, headers: Mapping[str, str]) -> str | None:
        """AWS's own name of the exchange."""
        return self._secrets.kept_out_of(request_id(headers))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an error answer means. `headers` have lower-case names."""
        return self._secrets.cleaned(aws_failure(status, headers, body))

    def completion(self, body: bytes, facts: RequestFacts) -> Completion | Failure:
        """A 2xx body as a completion, or the Failure that it is in truth."""
        return read_completion(body, self._exception)

    def reader(self, facts: RequestFacts) -> StreamReader:
        """A reader for one stream."""
        return ConverseReader(self._exception)

    def _exception(self, kind: str, body: bytes) -> Failure:
        """The failure of an exception inside a 200."""
        return self._secrets.cleaned(aws_failure(None, {}, body, kind))


class BedrockClaudeProvider(AnthropicProvider):
    """Claude by InvokeModel: Anthropic's messages, at Bedrock's address and with Bedrock's errors."""

    def request(
        self,
        inbound: Inbound,
        target: Target,
        secret: Secret | None,
        stream: bool,
        continuation: Continuation | None = None,
    ) -> ProviderRequest:
        """What Anthropic would be sent, but for what the address and the members say here."""
        asked = super().request(inbound, target, None, stream, continuation)
        self._secrets.learn(secret)
        betas = [value for name, value in asked.headers if name == _BETAS]
        body = carried_body(asked.body, VERSION, addressed=ADDRESSED, betas=betas)
        path = path_of(target.model, "invoke-with-response-stream" if stream else "invoke")
        return _proven(self.vendor, secret, path, _HEADERS, body, asked.dropped)

    def credential(self, secret: Secret | None) -> list[tuple[str, str]]:
        """The header that an API key is sent in; none for what signs."""
        return bearer(secret)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an error answer means: AWS's words, and the model's own where they are told in a message of AWS's."""
        return self._secrets.cleaned(aws_failure(status, headers, body))

    def completion(self, body: bytes, facts: RequestFacts) -> Completion | Failure:
        """A 2xx body; a Failure for an error in it, Anthropic's or AWS's, and for what is no answer."""
        answer = super().completion(body, facts)
        if isinstance(answer, Failure) and answer.reason is FailureReason.MALFORMED_OUTPUT and is_error(body):
            return self._exception("", body)
        return answer

    def reader(self, facts: RequestFacts) -> StreamReader:
        """A reader for one stream; it reads the same whatever was asked for."""
        return InvokeReader(self._exception, self._failure_in_200)

    def _exception(self, kind: str, body: bytes) -> Failure:
        return self._secrets.cleaned(aws_failure(None, {}, body, kind))


def path_of(model: str, method: str) -> str:
    """The path of a call. A model's id or ARN, whoever gave it, is one segment of it and nothing more.

    Raises InvalidRequest for one that a server on the way could take for a step in the path.
    """
    if model in (".", ".."):
        raise InvalidRequest(f"{model!r} is no model", param="model")
    return f"/model/{quote(model, safe='', errors='replace')}/{method}"


def _proven(
    vendor: Vendor,
    secret: Secret | None,
    path: str,
    headers: tuple[tuple[str, str], ...],
    body: bytes,
    dropped: tuple[str, ...],
) -> ProviderRequest:
    headers = (*headers, *bearer(secret))
    return ProviderRequest(path, headers, body, dropped, signer(vendor, secret, headers, body))
