"""What a provider says of an error, without the keys that it was called with.

Redaction by the looks of a key finds those of known vendors in known sentences. A server that repeats what it was sent
in words of its own is only caught by whoever knows the key, so each provider remembers those it was called with.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import msgspec

from crossfade.core.credential import AwsKeys, Secret
from crossfade.core.failure import Failure

MASK: Final = "[redacted]"
_LEAST: Final = 6
"""Characters of a key; a shorter one would make holes in ordinary words."""
_PIECE: Final = 8
"""Characters of the beginning of a key that are masked at the end of a text: it may have been cut there."""

_MOST: Final = 256
"""Keys that are remembered, the latest: those that are refreshed are new ones every hour."""


class Secrets:
    """The keys that one provider was called with: as many as are configured for it, and those they took over from."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, ...]] = {}

    def __repr__(self) -> str:
        return f"<Secrets {len(self._known)}>"

    def learn(self, secret: Secret | None) -> None:
        """Remembers a key, as it is and as it stands in an address; of a key pair all of its parts."""
        if isinstance(secret, AwsKeys):
            for part in (secret.access_key_id, secret.secret_access_key, secret.session_token):
                self.learn(part)
        elif secret is not None and secret not in self._known and len(secret) >= _LEAST:
            if len(self._known) >= _MOST:
                del self._known[next(iter(self._known))]
            self._known[secret] = tuple(dict.fromkeys((secret, quote(secret, safe=""))))

    def kept_out_of(self, word: str | None) -> str | None:
        """`word`, or None if it has a key in it, or the beginning of one."""
        if word is not None:
            for forms in self._known.values():
                for secret in forms:
                    if secret[:_PIECE] in word:
                        return None
        return word

    def cleaned(self, failure: Failure) -> Failure:
        """`failure` with every key masked, in all that leaves the process."""
        message, detail = self._masked(failure.message), self._masked(failure.detail)
        code, request_id = self._plain(failure.code), self._plain(failure.request_id)
        if (message, detail, code, request_id) == (failure.message, failure.detail, failure.code, failure.request_id):
            return failure
        return msgspec.structs.replace(failure, message=message, detail=detail, code=code, request_id=request_id)

    def _masked(self, text: str) -> str:
        for forms in self._known.values():
            for secret in forms:
                if secret[:_PIECE] in text:
                    text = _without_beginning(text.replace(secret, MASK), secret)
        return text

    def _plain(self, word: str | None) -> str | None:
        return word if word is None or self._masked(word) == word else None


def _without_beginning(text: str, secret: str) -> str:
    for length in range(min(len(secret) - 1, len(text)), _PIECE - 1, -1):
        if text.endswith(secret[:length]):
            return text[:-length] + MASK
    return text
