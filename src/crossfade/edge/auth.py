"""Who may call: gateway keys, and without them what a loopback listener must still refuse.

Keys are random, so their hashes are found by lookup; a digest found tells nothing of a key that is not. Unknown keys
are counted per source, so that they cannot be tried at will; a known key is let in from anywhere, always: many
applications call from one address, and one of them with a stale key must not shut the others out.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final, NoReturn

import msgspec

from crossfade.core.errors import RequestError, Unauthenticated

MAX_FAILURES: Final = 30
FAILURE_WINDOW: Final = 60.0
"""So many unknown keys from one address in so many seconds; then further ones are answered 429."""
_MAX_SOURCES: Final = 4096
_LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})


class Key(msgspec.Struct, frozen=True):
    """A gateway key as requests are recorded under: its name, the route it is bound to, the project it is of."""

    name: str
    route: str | None = None
    project: str | None = None


class Forbidden(RequestError):
    """The request comes from a place that may not call."""

    status = 403


class TooManyFailures(RequestError):
    """Too many unknown keys from one address."""

    status = 429
    code = "too_many_failed_keys"
    retry_after = 60


class Gate:
    """Admits requests by their head. `keys` maps `sha256:` hashes to keys; without `wants_keys` any caller is let in
    who is no web page of another site."""

    def __init__(self, keys: Iterable[tuple[str, Key]], *, wants_keys: bool, is_loopback: bool):
        self._keys = {bytes.fromhex(hashed.removeprefix("sha256:")): key for hashed, key in keys}
        self._wants_keys = wants_keys
        self._is_loopback = is_loopback
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def admit(self, headers: Mapping[str, str], source: str, now: float) -> Key | None:
        """The key of the request; None where none is wanted. Raises RequestError."""
        if not self._wants_keys:
            self._admit_keyless(headers)
            return None
        return self.identify(headers, source, now)

    def identify(self, headers: Mapping[str, str], source: str, now: float) -> Key:
        """The key of a request that needs one, whatever others need. Raises RequestError."""
        presented = _presented(headers)
        if not presented:
            raise Unauthenticated(
                "No gateway key was given. Send it as `Authorization: Bearer cf-...`, or as the SDK's api_key."
            )
        key = self._keys.get(hashlib.sha256(presented.encode()).digest())
        if key is None:
            self._refuse_unknown(source, now)
        return key

    def _admit_keyless(self, headers: Mapping[str, str]) -> None:
        """Without keys, what a browser could be made to send from another site is refused (DNS rebinding, CSRF)."""
        if self._is_loopback:
            host = headers.get("host", "")
            name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
            if name.lower() not in _LOOPBACK_HOSTS:
                raise Forbidden(f"This gateway has no keys and answers only to loopback hosts, not to {host!r}.")
        origin = headers.get("origin")
        if origin is not None and not _is_own_origin(origin):
            raise Forbidden("This gateway has no keys and answers no pages of other sites.")
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise Forbidden("This gateway has no keys and answers no pages of other sites.")

    def _refuse_unknown(self, source: str, now: float) -> NoReturn:
        failures, since = self._failures.get(source, (0, now))
        if now - since >= FAILURE_WINDOW:
            failures, since = 0, now
        if failures >= MAX_FAILURES:
            raise TooManyFailures(f"Too many unknown keys from {source}; try again in {FAILURE_WINDOW:.0f} s.")
        self._failures[source] = (failures + 1, since)
        self._failures.move_to_end(source)
        if len(self._failures) > _MAX_SOURCES:
            self._failures.popitem(last=False)
        raise Unauthenticated("The gateway key is not known here.")


def _presented(headers: Mapping[str, str]) -> str:
    authorization = headers.get("authorization", "")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return headers.get("x-api-key", "")


def _is_own_origin(origin: str) -> bool:
    rest = origin.partition("://")[2]
    name = rest.rpartition(":")[0] if ":" in rest and not rest.endswith("]") else rest
    return name.lower() in _LOOPBACK_HOSTS
