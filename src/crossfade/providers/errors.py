"""What a provider's error means, for every dialect: reading its body, its class, and when to come back.

Three pure steps that providers compose: `read_error` takes an error out of a body of any shape, `classify` names
the reason by the provider's own code, type and message and only then by the status, `retry_after` reads the
waiting time out of headers. `failure_of` is the three together. Nothing here reads a clock or knows of health:
waiting times come back as the provider said them, and are clamped elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from crossfade.core.failure import Failure, FailureReason
from crossfade.providers import error_words as words
from crossfade.providers.exchange_id import request_id
from crossfade.providers.waiting import parse_duration, retry_after

__all__ = [
    "ErrorBody",
    "classify",
    "failure_of",
    "public_code",
    "read_error",
    "read_error_value",
    "redacted",
    "retry_after",
    "retry_in_body",
]

_R = FailureReason

MAX_MESSAGE: Final = 2000
"""Characters of a provider's message that are kept and looked at."""


class ErrorBody(msgspec.Struct, kw_only=True):
    """An error as the provider words it; every field may be missing.

    `status` is an HTTP status named inside the body (some answer 200 or hide the real one there). `value` is the
    decoded JSON of the error itself, for what only one provider sends; None where the body was no JSON.
    """

    code: str | None = None
    type: str | None = None
    message: str = ""
    param: str | None = None
    status: int | None = None
    value: Any = None


# --- reading -------------------------------------------------------------------------------------------------


def read_error(body: bytes) -> ErrorBody:
    """The error in a body of any shape: an object, a string or a list under `error`, flat, `detail`, HTML, text."""
    text = body.strip()
    if not text:
        return ErrorBody()
    if text[:5] in (b"data:", b"event"):  # a body that a proxy or the server framed as a stream
        text = _last_data(text)
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ErrorBody(message=_plain_text(body))
    return read_error_value(value)


def read_error_value(value: Any) -> ErrorBody:
    """The error in decoded JSON: what `read_error` does, for an event of a stream."""
    if isinstance(value, list):
        return read_error_value(value[0]) if value else ErrorBody()
    if isinstance(value, str):
        return ErrorBody(message=value[:MAX_MESSAGE], value=value)
    if not isinstance(value, dict):
        return ErrorBody(value=value)
    inner = value.get("error")
    if not inner:
        inner = value.get("errors")
    if isinstance(inner, list) and inner:
        inner = inner[0]
    if isinstance(inner, dict):
        found = _read_object(inner)
        found.status = found.status or _status(value.get("status")) or _status(value.get("status_code"))
        return found
    found = _read_object(value)
    if isinstance(inner, str):
        found.message = inner[:MAX_MESSAGE]
    return found


def _read_object(error: dict[str, Any]) -> ErrorBody:
    code, kind = _word(error.get("code")), _word(error.get("type")) or _word(error.get("error_type"))
    found = ErrorBody(
        code=code,
        type=kind if kind is not None else _word(error.get("status")),
        message=_message(error),
        param=_word(error.get("param")),
        status=_status(error.get("code"))
        or _status(error.get("status"))
        or _status(error.get("status_code"))
        or _status(error.get("raw_status_code")),
        value=error,
    )
    if isinstance(inner := error.get("innererror"), dict) and found.type is None:
        found.type = _word(inner.get("code"))
    if isinstance(metadata := error.get("metadata"), dict):
        _read_routed(metadata, found)
    return found


def _read_routed(metadata: dict[str, Any], found: ErrorBody) -> None:
    """A router's error carries the one of the provider behind it, which says more."""
    if metadata.get("reasons") or metadata.get("flagged_input"):
        found.type = "moderation"
    raw = metadata.get("raw")
    if not isinstance(raw, str) or not raw:
        return
    inner = read_error(raw.encode())
    found.message = f"{found.message}: {inner.message}"[:MAX_MESSAGE] if found.message else inner.message
    if found.code is None or found.code.isdigit():
        found.code = inner.code or found.code
    found.type = found.type or inner.type


def _message(error: dict[str, Any]) -> str:
    for name in ("message", "detail", "msg", "title", "error_description"):
        value = error.get(name)
        if isinstance(value, str) and value:
            return value[:MAX_MESSAGE]
        if isinstance(value, dict) and (inner := _message(value)):
            return inner
        if isinstance(value, list) and value:
            parts = [_message(item) if isinstance(item, dict) else str(item) for item in value[:5]]
            return "; ".join(part for part in parts if part)[:MAX_MESSAGE]
    return ""


def _word(value: Any) -> str | None:
    """A code or type: a short word. Anything longer is text, and none of our business."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str) and 0 < len(value) <= 100:
        return value
    return None


def _status(value: Any) -> int | None:
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600 else None


def _last_data(text: bytes) -> bytes:
    lines = [line[5:].strip() for line in text.splitlines() if line.startswith(b"data:")]
    lines = [line for line in lines if line != b"[DONE]"]
    return lines[-1] if lines else text


_TITLE = re.compile(r"<title[^>]*>([^<]{1,200})</title>", re.IGNORECASE)


def _plain_text(body: bytes) -> str:
    text = body[:20_000].decode("utf-8", "replace").strip()
    if text[:1] == "<":
        title = _TITLE.search(text)
        return title[1].strip() if title else ""
    return text[:MAX_MESSAGE]


# --- classification ------------------------------------------------------------------------------------------


def classify(status: int | None, code: str | None, kind: str | None, message: str) -> FailureReason:
    """The reason of an error: by its code and type, then by what its message is known to say, then by its status.

    `kind` is the provider's `type`. `status` is the HTTP status; a 2xx (an error inside a 200) or None reads the
    status out of the code or type.
    An unknown error inside a 200 is a `server_error`.
    """
    if status is not None and (status < 200 or 300 <= status < 400):
        return _R.PROTOCOL_ERROR
    names = [word.lower() for word in (code, kind) if word]
    text = message[:MAX_MESSAGE].lower()
    by_code = _by_codes(names)
    is_plain = by_code is not None and by_code not in words.VAGUE
    if status is None or status < 300:
        status = _status_of(names)
        if status is None:
            return _of_no_status(by_code, is_plain, text)
    if status >= 500:
        if by_code in words.FIT_5XX:
            return by_code
        return words.BY_STATUS.get(status, _R.OVERLOADED if _has(text, words.CAPACITY) else _R.SERVER_ERROR)
    if is_plain and by_code is not None:
        return by_code
    if by_code is _R.SERVER_ERROR and status in words.BY_STATUS:
        by_code = None  # `api_error` is some servers' type for everything, a bad key too
    return _by_message(status, text) or by_code or _by_status(status, text)


def _of_no_status(by_code: FailureReason | None, is_plain: bool, text: str) -> FailureReason:
    """An error inside a 200 that names no status in any way."""
    if is_plain and by_code is not None:
        return by_code
    if _has(text, words.CAPACITY):
        return _R.OVERLOADED
    return _by_message(400, text) or by_code or _R.SERVER_ERROR


def _status_of(names: Iterable[str]) -> int | None:
    found = None
    for name in names:
        if (named := _status(name)) is not None:
            return named
        found = words.GENERIC_TYPES.get(name, found)
    return found


def _by_codes(names: Iterable[str]) -> FailureReason | None:
    """The first plain word of the code and type; a vague one only where there is no plain one."""
    vague = None
    for name in names:
        reason = words.CODES.get(name)
        if reason is not None and reason not in words.VAGUE:
            return reason
        vague = vague or reason
    return vague


def _by_message(status: int, text: str) -> FailureReason | None:
    """What providers say in words only. Looked at for 4xx alone, each where it was seen."""
    if not text:
        return None
    if status in (413, 429) and _has(text, words.TOO_LARGE):
        return _R.CONTEXT_OVERFLOW  # larger than the limit per minute: waiting never helps
    if status == 429:
        return _R.OVERLOADED if _has(text, words.CAPACITY) else _R.QUOTA_EXHAUSTED if _has(text, words.QUOTA) else None
    if status in (401, 402, 408, 409, 424, 425, 498, 499):
        return None
    if _has(text, words.CONTEXT) and status in (400, 403, 413, 422):
        return _R.CONTEXT_OVERFLOW
    if status in (400, 422, 403) and _has(text, words.FILTER):
        return _R.CONTENT_FILTER
    if status in (400, 403) and _has(text, words.QUOTA):
        return _R.QUOTA_EXHAUSTED
    if status == 400 and _has(text, words.AUTH):
        return _R.AUTH_ERROR
    if status in (400, 403, 422) and (_has(text, words.MODEL) or words.MODEL_SHAPE.search(text)):
        return _R.MODEL_UNAVAILABLE
    return None


def _by_status(status: int, text: str) -> FailureReason:
    if status == 404:
        if "no endpoints found that" in text:
            return _R.SERVER_ERROR  # the router has no one for this request; the model itself is there
        if "file" in text and "model" not in text and "deployment" not in text:
            return _R.INVALID_REQUEST  # a file id of another account must not eject the model
    return words.BY_STATUS.get(status, _R.SERVER_ERROR if status >= 500 else _R.INVALID_REQUEST)


def _has(text: str, fragments: Iterable[str]) -> bool:
    return any(fragment in text for fragment in fragments)


_IN_TEXT = re.compile(
    r"(?:try again|retry) (?:in|after) (?:about )?((?:\d{1,6}h)?(?:\d{1,6}m(?!s))?\d{1,9}(?:\.\d+)?) ?"
    r"(?:(ms|milliseconds?)|(m|minutes?)|(h|hours?)|s|seconds?)\b",
    re.IGNORECASE,
)


def retry_in_body(error: ErrorBody) -> float | None:
    """The waiting time that some providers give in the body only: Google's `retryDelay`, or words of the message."""
    if isinstance(error.value, dict) and isinstance(details := error.value.get("details"), list):
        for detail in details:
            if isinstance(detail, dict) and isinstance(delay := detail.get("retryDelay"), str):
                return parse_duration(delay.strip())
    match = _IN_TEXT.search(error.message)
    if match is None:
        return None
    unit = "ms" if match[2] else "m" if match[3] else "h" if match[4] else "s"
    return parse_duration(f"{match[1].lower()}{unit}")


# --- all together --------------------------------------------------------------------------------------------

_SECRETS = re.compile(
    r"(?i)\bbearer\s+[^\s\"',]+"
    r"|\b(?:(?:sk|pk|rk|xai|pplx|csk|nvapi)-|(?:gsk|fw|hf|tgp)_)[^\s\"',.<>]{6,}|\bdapi[0-9a-f]{16,}"
    r"|\bAIza[\w-]{10,}|\bA(?:KIA|SIA)\w{8,}|\b(?:ABSK|bedrock-api-key-)[\w+/=-]{8,}|\bya29\.[\w.-]+|\beyJ[\w-]{8,}\.[\w.-]+"
    r"|(?<=key provided: )\S+|(?<=api key: )\S+|\borg[-_][A-Za-z0-9]{6,}"
)
_WAITED_FOR: Final = frozenset({_R.RATE_LIMIT, _R.OVERLOADED, _R.SERVER_ERROR, _R.QUOTA_EXHAUSTED})


def redacted(message: str) -> str:
    """A provider's message without anything like a key, for the caller's eyes alone."""
    return _SECRETS.sub("[redacted]", message)


def failure_of(
    status: int | None, headers: Mapping[str, str], error: ErrorBody, *, reason: FailureReason | None = None
) -> Failure:
    """The failure that an error body means; `reason` where a provider knows better than `classify`."""
    effective = error.status if error.status is not None and (status is None or status < 300) else status
    if reason is None:
        reason = classify(effective, error.code, error.type, error.message)
    wait = None
    if reason in _WAITED_FOR:
        wait = retry_after(headers, is_limited=reason is not _R.SERVER_ERROR)
        if wait is None and reason is not _R.SERVER_ERROR:
            wait = retry_in_body(error)
    code = public_code(error.code, error.type)
    return Failure(
        reason=reason,
        status=status if status is not None and status >= 300 else error.status,
        retry_after=wait,
        code=code,
        detail=_detail(status, effective, code),
        message=redacted(error.message),
        request_id=request_id(headers),
    )


_PLAIN_WORD = re.compile(r"[A-Za-z][\w .:/-]{0,63}", re.ASCII)


def public_code(code: str | None, kind: str | None) -> str | None:
    """The code, or the type where the code is a bare number or missing; None where both are no plain words."""
    for word in (code, kind):
        if word and _PLAIN_WORD.fullmatch(word) and redacted(word) == word:
            return word
    return code if code and code.isascii() and code.isdigit() and len(code) <= 6 else None


def _detail(status: int | None, effective: int | None, code: str | None) -> str:
    if status is None or status < 300:
        text = "an error inside a 200" if effective is None or effective < 300 else f"{effective} inside a 200"
    else:
        text = str(status)
    return f"{text} ({code})" if code else text
