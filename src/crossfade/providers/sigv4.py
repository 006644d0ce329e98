"""Signature Version 4 of AWS: the headers that prove who sends a request, and that nobody has changed it.

Pure: the time comes in. Written after AWS's own description, "Create a signed AWS API request"; the body's hash is
signed and not sent, as for every service but S3. Knows nothing of what is asked.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from crossfade.core.credential import AwsKeys

ALGORITHM: Final = "AWS4-HMAC-SHA256"
_BLANKS: Final = re.compile(r" +")


def signed(
    keys: AwsKeys,
    *,
    region: str,
    service: str,
    host: str,
    path: str,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    now: float,
    method: str = "POST",
) -> Sequence[tuple[str, str]]:
    """The headers to send beside `headers`, which are signed with them.

    `path` is the whole one as it is sent, percent-encoded, with its query; `host` is the Host header; `now` is in Unix
    seconds. `authorization` comes last.
    """
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    added = [("x-amz-date", moment)]
    if keys.session_token is not None:
        added.append(("x-amz-security-token", keys.session_token))
    names, canonical = _canonical_headers([("host", host), *headers, *added])
    path, _, query = path.partition("?")
    request = "\n".join(
        (method, _canonical_path(path), _canonical_query(query), canonical, names, hashlib.sha256(body).hexdigest())
    )
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    to_sign = "\n".join((ALGORITHM, moment, scope, hashlib.sha256(request.encode()).hexdigest()))
    signature = hmac.new(_key(keys, scope), to_sign.encode(), hashlib.sha256).hexdigest()
    proof = f"{ALGORITHM} Credential={keys.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    return [*added, ("authorization", proof)]


def _key(keys: AwsKeys, scope: str) -> bytes:
    """The key of one day, region and service."""
    key = b"AWS4" + keys.secret_access_key.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _canonical_headers(headers: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """The names, and the lines of names and values: sorted, in lower case, single blanks."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.lower().strip(), []).append(_BLANKS.sub(" ", value.strip()))
    names = sorted(values)
    return ";".join(names), "".join(f"{name}:{','.join(values[name])}\n" for name in names)


def _canonical_path(path: str) -> str:
    """Each segment encoded once more than it is sent, without dot segments and empty ones."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(quote(segment, safe="~"))
    end = "/" if kept and path.endswith("/") else ""
    return f"/{'/'.join(kept)}{end}"


def _canonical_query(query: str) -> str:
    """The parameters sorted, as they are encoded already; one without a value has an empty one."""
    if not query:
        return ""
    pairs = [part.partition("=") for part in query.split("&")]
    return "&".join(f"{name}={value}" for name, _, value in sorted((name, mark, value) for name, mark, value in pairs))
