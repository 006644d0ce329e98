"""Claude at Vertex AI as the simulator speaks it: Anthropic's bodies and events at Google's paths, and Google's errors.

It knows nothing of faults or sockets. Gemini there is as everywhere (`gemini.py`).
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote

from crossfade.simulator.anthropic import Anthropic
from crossfade.simulator.ask import Ask, BadAsk, as_text
from crossfade.simulator.dialect import ErrorReply, Wait
from crossfade.simulator.gemini import Gemini

PATH: Final = re.compile(r"/locations/[^/]+/publishers/anthropic/models/([^/:]+):(rawPredict|streamRawPredict)$")
_GOOGLE: Final = Gemini()
_TYPES: Final = {429: "rate_limit_error", 503: "overloaded_error", 529: "overloaded_error"}
"""What the model itself says inside a stream, by the status that it would have."""


class VertexClaude(Anthropic):
    """`rawPredict` and `streamRawPredict`."""

    name = "vertex-claude"

    def read(self, path: str, query: str, body: dict[str, Any]) -> Ask:
        found = PATH.search(path)
        if found is None:
            raise BadAsk("The path names no model.")
        if not as_text(body.get("anthropic_version")).startswith("vertex-"):
            raise BadAsk("anthropic_version: Field required")
        if "model" in body:
            raise BadAsk("model: Extra inputs are not permitted")
        if (found[2] == "streamRawPredict") != (body.get("stream") is True):
            raise BadAsk("stream: the path says otherwise")
        return super().read(path, query, body | {"model": unquote(found[1])})

    def error(self, name: str, ask: Ask | None, message: str | None = None, wait: Wait | None = None) -> ErrorReply:
        return _GOOGLE.error(name, ask, message, wait)

    def error_event(self, ask: Ask, error: ErrorReply) -> bytes:
        said = {"type": _TYPES.get(error.status, "api_error"), "message": f"The model gave an error ({error.status})."}
        return super().error_event(ask, ErrorReply(error.status, {"type": "error", "error": said}))
