"""What providers call an exchange: the name that their support asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

REQUEST_ID_HEADERS: Final = (
    "x-request-id",
    "request-id",
    "apim-request-id",
    "x-amzn-requestid",
    "mistral-correlation-id",
    "x-goog-request-id",
    "x-debug-trace-id",
    "cf-ray",
)


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's own name of the exchange, for people who ask its support."""
    for name in REQUEST_ID_HEADERS:
        if value := headers.get(name):
            return value[:200]
    return None
