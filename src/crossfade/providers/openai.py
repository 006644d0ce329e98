"""Providers that speak OpenAI chat: OpenAI itself and every compatible server, told apart by a `Vendor` row.

Puts the dialect (`wire.openai_*`) and the classes of errors (`providers.errors`) together. What differs between
vendors is data in the row, not code here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

from crossfade.core.credential import Secret
from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Completion, Continuation, RequestFacts, continued
from crossfade.core.failure import Failure
from crossfade.core.target import Dialect, Target, Vendor
from crossfade.providers.base import Inbound, Provider, ProviderRequest
from crossfade.providers.error_memory import ErrorMemory
from crossfade.providers.errors import failure_of, read_error_value
from crossfade.providers.exchange_id import request_id
from crossfade.providers.secrecy import Secrets
from crossfade.wire.openai_call_ids import shortened, with_short_ids
from crossfade.wire.openai_embeddings import EmbeddingsInbound, read_embeddings
from crossfade.wire.openai_fit import fitted
from crossfade.wire.openai_request import ChatInbound
from crossfade.wire.openai_response import read_completion
from crossfade.wire.openai_stream import ChunkReader
from crossfade.wire.openai_writer import write_request
from crossfade.wire.reader import StreamReader

PATH: Final = "/chat/completions"
_CONTENT_TYPE: Final = ("content-type", "application/json")


class OpenAIProvider(Provider):
    """The API of one vendor that speaks OpenAI chat. See `providers.base.Provider` for the contract."""

    dialect: Dialect = "openai"

    def __init__(self, vendor: Vendor):
        self.vendor = vendor
        self._secrets = Secrets()
        self._errors = ErrorMemory(self._secrets)
        self._known_headers: dict[Secret | None, tuple[tuple[str, str], ...]] = {}
        self._query = f"?api-version={vendor.api_version}" if vendor.api_version else ""
        endpoints = () if vendor.model_in_path else (PATH, vendor.embeddings_path)
        self._paths = {endpoint: endpoint + self._query for endpoint in endpoints}

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
        """The caller's own bytes where they are of this dialect already, else a translation."""
        headers = self._known_headers.get(secret) or self._headers(secret)
        usage = stream and self.vendor.include_usage
        if isinstance(inbound, ChatInbound):
            if inbound.max_tokens_field is not None:
                target = self._with_limit(inbound, target)
            if self.vendor.call_id_length is not None:
                target = _with_messages(inbound, target, self.vendor.call_id_length)
            body = inbound.body(target, stream, usage, continuation, self.vendor.marks_prefix)
            return ProviderRequest(self._path(PATH, target), headers, body)
        if isinstance(inbound, EmbeddingsInbound):
            path = self._path(self.vendor.embeddings_path, target)
            return ProviderRequest(path, headers, inbound.body(target, False, False))
        chat, dropped = fitted(inbound.canonical(), target.model, takes_top_k=self.vendor.takes_top_k)
        if self.vendor.call_id_length is not None:
            chat = msgspec.structs.replace(chat, messages=shortened(chat.messages, self.vendor.call_id_length))
        if continuation is not None:
            chat = continued(chat, continuation)
        body = write_request(
            chat,
            target,
            stream=stream,
            include_usage=usage,
            max_tokens_field=self.vendor.max_tokens_field,
            marks_prefix=self.vendor.marks_prefix and continuation is not None and continuation.prefill,
        )
        dropped = (*chat.others, *dropped)
        return ProviderRequest(self._path(PATH, target), headers, body, dropped)

    def _path(self, endpoint: str, target: Target) -> str:
        """Where a request goes. A deployment's name, whoever gave it, is one segment of the path and nothing more."""
        if (path := self._paths.get(endpoint)) is not None:
            return path
        if target.model in (".", ".."):  # no quoting keeps servers from reading these as steps
            raise InvalidRequest(f"{target.model!r} is no name of a deployment.", param="model")
        return f"/deployments/{quote(target.model, safe='', errors='replace')}{endpoint}{self._query}"

    def _headers(self, secret: Secret | None) -> tuple[tuple[str, str], ...]:
        """The same object for the same secret, so that it is rendered once."""
        headers = self._known_headers.get(secret)
        if headers is None:
            self._secrets.learn(secret)
            headers = self._known_headers[secret] = (_CONTENT_TYPE, *self.credential(secret))
        return headers

    def credential(self, secret: Secret | None) -> tuple[tuple[str, str], ...]:
        """The header that a key is sent in; none for what signs."""
        if not isinstance(secret, str) or self.vendor.auth == "none":
            return ()
        if self.vendor.auth == "bearer":
            return (("authorization", f"Bearer {secret}"),)
        return ((self.vendor.auth, secret),)

    def _with_limit(self, inbound: ChatInbound, target: Target) -> Target:
        """The target with the limit of output tokens under the vendor's own name, where it refuses the caller's:
        OpenAI's thinking models do not take `max_tokens`, most others know nothing else."""
        given, wanted = inbound.max_tokens_field, self.vendor.max_tokens_field
        if given is None or given == wanted or (given == "max_tokens" and not target.always_thinks):
            return target
        set_names = [name for name, _ in target.set_params]
        if given in target.drop_params or wanted in set_names:
            return target
        limit = dict(target.set_params).get(given, b"%d" % (inbound.facts.max_tokens or 1))
        return msgspec.structs.replace(
            target,
            set_params=(*((name, value) for name, value in target.set_params if name != given), (wanted, limit)),
            drop_params=(*target.drop_params, given),
        )

    def request_id(self, headers: Mapping[str, str]) -> str | None:
        """The provider's own name of the exchange."""
        return self._secrets.kept_out_of(request_id(headers))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an answer with a status other than 2xx means."""
        return self._errors.failure(status, headers, body)

    def completion(self, body: bytes, facts: RequestFacts) -> Completion | Failure:
        """A 2xx body; a Failure for an error in it, and for what is no answer."""
        if facts.asks == "embeddings":
            return read_embeddings(body, self._failure_in_200, facts)
        return read_completion(body, self._failure_in_200, self.vendor.completion_excludes_reasoning)

    def reader(self, facts: RequestFacts) -> StreamReader:
        """A reader for one stream. Usage that only we asked for is taken out of the raw events."""
        return ChunkReader(
            facts,
            read_error=self._failure_in_200,
            stream_end=self.vendor.stream_end,
            strip_usage=facts.stream and not facts.include_usage and self.vendor.include_usage,
            excludes_reasoning=self.vendor.completion_excludes_reasoning,
        )

    def _failure_in_200(self, value: Any) -> Failure:
        """The failure of an error that came inside a 200, from its decoded JSON."""
        return self._secrets.cleaned(failure_of(None, {}, read_error_value(value)))


def _with_messages(inbound: ChatInbound, target: Target, length: int) -> Target:
    """The target with the caller's messages under ids of tool calls that it accepts."""
    messages = with_short_ids(bytes(inbound.members.values["messages"]), length)
    if messages is None:
        return target
    return msgspec.structs.replace(target, set_params=(("messages", messages), *target.set_params))
