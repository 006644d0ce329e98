"""Vertex AI as a provider: Gemini, and Claude in its own words (`rawPredict`).

Decides addresses and headers. Bodies and errors are Gemini's (`gemini.py`) and Anthropic's (`anthropic.py`), but for
what differs in a cloud: Claude's errors may be Google's, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from crossfade.core.credential import Secret
from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Completion, Continuation, RequestFacts
from crossfade.core.failure import Failure
from crossfade.core.target import Target
from crossfade.providers.anthropic import AnthropicProvider
from crossfade.providers.base import Inbound, ProviderRequest
from crossfade.providers.gemini import GeminiProvider, google_failure
from crossfade.wire.anthropic_carried import carried_body
from crossfade.wire.openai_embeddings import EmbeddingsInbound
from crossfade.wire.vertex_embeddings import read_embeddings, write_embeddings

VERSION: Final = "vertex-2023-10-16"
_ADDRESSED: Final = ("model",)
_ANTHROPICS: Final = re.compile(rb'\s*\{\s*"type"\s*:\s*"error"')


class VertexProvider(GeminiProvider):
    """Gemini in one project and location. See `providers.base.Provider` for the contract."""

    def path_of(self, model: str, method: str) -> str:
        """The path of a call."""
        return path_of("google", model.removeprefix("models/"), method)

    def embeddings(self, inbound: EmbeddingsInbound, target: Target, secret: Secret | None) -> ProviderRequest:
        """The request for vectors. Raises InvalidRequest for tokens, and more texts than the model takes at once."""
        if inbound.texts is None:
            raise InvalidRequest("Gemini embeds texts, not tokens of another provider's models", param="input")
        method, body = write_embeddings(
            inbound.texts,
            target.model,
            inbound.facts.dimensions,
            set_params=target.set_params,
            drop_params=target.drop_params,
        )
        headers = [("content-type", "application/json"), *self.credential(secret)]
        return ProviderRequest(self.path_of(target.model, method), headers, body, inbound.others)

    def completion(self, body: bytes, facts: RequestFacts) -> Completion | Failure:
        """A 2xx body as a completion, or the Failure that it is in truth."""
        if facts.asks == "embeddings":
            return read_embeddings(body, self._failure_inside, facts)
        return super().completion(body, facts)


class VertexClaudeProvider(AnthropicProvider):
    """Claude by `rawPredict`: Anthropic's messages, at Google's address."""

    def request(
        self,
        inbound: Inbound,
        target: Target,
        secret: Secret | None,
        stream: bool,
        continuation: Continuation | None = None,
    ) -> ProviderRequest:
        """What Anthropic would be sent, but for the model, which the address says, and the version, which is a member.
        Betas stay in their header."""
        asked = super().request(inbound, target, secret, stream, continuation)
        body = carried_body(asked.body, VERSION, addressed=_ADDRESSED)
        headers = [(name, value) for name, value in asked.headers if name != "anthropic-version"]
        path = path_of("anthropic", target.model, "streamRawPredict" if stream else "rawPredict")
        return ProviderRequest(path, headers, body, asked.dropped)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an error answer means: Anthropic's words, or Google's."""
        if _ANTHROPICS.match(body):
            return super().failure(status, headers, body)
        return self._secrets.cleaned(google_failure(status, headers, body))

    def _failure_in_200(self, data: bytes) -> Failure:
        if _ANTHROPICS.match(data):
            return super()._failure_in_200(data)
        return self._secrets.cleaned(google_failure(200, {}, data))


def path_of(publisher: str, model: str, method: str) -> str:
    """The path of a call. A model's name, whoever gave it, is one segment of it and nothing more."""
    return f"/publishers/{publisher}/models/{quote(model, safe='@', errors='replace')}:{method}"
