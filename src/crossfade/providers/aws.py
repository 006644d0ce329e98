"""What all of AWS has in common: how its errors are named, and how a request to it is proven.

An error's type stands in a header, or in the body as `__type`; inside a stream, its frame names it. A type says which
status it would have had and, where it is plain, the reason; the rest is told by the message, as everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from crossfade.core.credential import AwsKeys, Secret
from crossfade.core.errors import InvalidRequest
from crossfade.core.failure import Failure, FailureReason
from crossfade.core.target import Vendor
from crossfade.providers.base import Sign
from crossfade.providers.errors import MAX_MESSAGE, ErrorBody, failure_of, read_error
from crossfade.providers.sigv4 import signed

SERVICE: Final = "bedrock"
TYPE_HEADER: Final = "x-amzn-errortype"

_R = FailureReason
TYPES: Final[Mapping[str, tuple[int, FailureReason | None]]] = MappingProxyType(
    {
        "throttlingexception": (429, _R.RATE_LIMIT),
        "toomanyrequestsexception": (429, _R.RATE_LIMIT),
        "modelnotreadyexception": (429, _R.OVERLOADED),  # it is being loaded; AWS's own clients ask again
        "servicequotaexceededexception": (400, _R.QUOTA_EXHAUSTED),
        "modeltimeoutexception": (408, _R.SERVER_ERROR),
        "modelerrorexception": (424, _R.SERVER_ERROR),
        "modelstreamerrorexception": (424, _R.SERVER_ERROR),
        "internalserverexception": (500, _R.SERVER_ERROR),
        "internalfailure": (500, _R.SERVER_ERROR),
        "serviceunavailableexception": (503, _R.OVERLOADED),
        "validationexception": (400, None),
        "conflictexception": (400, None),
        "serializationexception": (400, _R.INVALID_REQUEST),
        "resourcenotfoundexception": (404, _R.MODEL_UNAVAILABLE),
        "accessdeniedexception": (403, _R.AUTH_ERROR),
        "unrecognizedclientexception": (403, _R.AUTH_ERROR),
        "expiredtokenexception": (403, _R.AUTH_ERROR),
        "invalidsignatureexception": (403, _R.AUTH_ERROR),
        "incompletesignatureexception": (403, _R.AUTH_ERROR),
        "signaturedoesnotmatch": (403, _R.AUTH_ERROR),
        "missingauthenticationtokenexception": (403, _R.AUTH_ERROR),
        "invalidclienttokenid": (403, _R.AUTH_ERROR),
        "optinrequired": (403, _R.AUTH_ERROR),
    }
)
"""By the type in lower case: the status that it comes with, and the reason; None where the message has to tell."""

_TOLD: Final = (
    ("accessdeniedexception", "access to the model", _R.MODEL_UNAVAILABLE),  # "You don't have access to the model..."
    ("accessdeniedexception", "model access is denied", _R.MODEL_UNAVAILABLE),
    ("throttlingexception", "per day", _R.QUOTA_EXHAUSTED),  # "Too many tokens per day, please wait ..."
    ("validationexception", "too many input tokens", _R.CONTEXT_OVERFLOW),
    ("validationexception", "input length and `max_tokens` exceed context limit", _R.CONTEXT_OVERFLOW),
    ("validationexception", "content filtering policy", _R.CONTENT_FILTER),
    ("validationexception", "access to this model is not available", _R.MODEL_UNAVAILABLE),
    ("validationexception", "model identifier is invalid", _R.MODEL_UNAVAILABLE),
    ("validationexception", "operation not allowed", _R.AUTH_ERROR),  # said to accounts, whatever they ask
)
"""Fragments of messages, in lower case, by which one type means several things."""

_OF_THE_MODEL: Final[Mapping[object, FailureReason]] = {429: _R.RATE_LIMIT, 503: _R.OVERLOADED, 529: _R.OVERLOADED}
"""What the status says that the model itself gave to Bedrock (`originalStatusCode`)."""


def aws_failure(status: int | None, headers: Mapping[str, str], body: bytes, kind: str = "") -> Failure:
    """The failure of an error answer, or of an exception of the type `kind` inside a 200 (`status` None)."""
    error = read_error(body)
    if not error.message and isinstance(error.value, dict) and isinstance(said := error.value.get("Message"), str):
        error.message = said[:MAX_MESSAGE]  # some of the services before the model write it so
    name = _type_of(kind or headers.get(TYPE_HEADER, ""), error)
    if name is None:
        return failure_of(status, headers, error)
    error.type = name
    known, reason = TYPES.get(name.lower(), (None, None))
    if status is None or status < 300:
        error.status = known or error.status
    elif status >= 500 and (known is None or known < 500):
        return failure_of(status, headers, error)  # a fault of the server, whatever else is said of it
    return failure_of(status, headers, error, reason=_told(name.lower(), error) or reason)


def _type_of(said: str, error: ErrorBody) -> str | None:
    """The bare name of a type: headers have an address behind it, bodies may have a namespace before it."""
    if not said and isinstance(error.value, dict):
        said = next((value for name in ("__type", "code") if isinstance(value := error.value.get(name), str)), "")
    return said.partition(":")[0].rpartition("#")[2].strip()[:100] or None


def _told(name: str, error: ErrorBody) -> FailureReason | None:
    if name in ("modelerrorexception", "modelstreamerrorexception") and isinstance(error.value, dict):
        return _OF_THE_MODEL.get(error.value.get("originalStatusCode"))
    message = error.message.lower()
    return next((reason for kind, words, reason in _TOLD if kind == name and words in message), None)


# --- proof ---------------------------------------------------------------------------------------------------

_HOST: Final = re.compile(
    r"\.([a-z]{2}(?:-[a-z]+)+-\d{1,2})\.(?:vpce\.)?(?:amazonaws\.com|api\.aws)(?:\.cn)?(?::\d+)?$"
)


def region_of(host: str) -> str:
    """The region in a host of AWS; empty for others."""
    match = _HOST.search(host)
    return match[1] if match else ""


def bearer(secret: Secret | None) -> list[tuple[str, str]]:
    """The header of an API key of Bedrock's; none for what signs."""
    return [("authorization", f"Bearer {secret}")] if isinstance(secret, str) else []


def signer(vendor: Vendor, secret: Secret | None, headers: Sequence[tuple[str, str]], body: bytes) -> Sign | None:
    """What signs a request with a key pair; None where there is none. Raises InvalidRequest where no region is known
    to sign for."""
    if not isinstance(secret, AwsKeys):
        return None
    region = vendor.aws_region or region_of(vendor.base_url.rpartition("//")[2].partition("/")[0])
    if not region:
        raise InvalidRequest("requests to AWS are signed for a region, and neither configuration nor host name one")

    def sign(now: float, host: str, path: str) -> Sequence[tuple[str, str]]:
        return signed(secret, region=region, service=SERVICE, host=host, path=path, headers=headers, body=body, now=now)

    return sign
