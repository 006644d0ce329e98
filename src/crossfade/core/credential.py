"""What an attempt can prove itself by. It knows nothing of where it came from or how long it lasts."""

from __future__ import annotations

import msgspec


class AwsKeys(msgspec.Struct, frozen=True):
    """A key pair of AWS, which signs requests and is never sent; with a `session_token` where it is a passing one."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return f"<AwsKeys {self.access_key_id[:4]}...>"


Secret = str | AwsKeys
"""A key or a token, which is sent; or what signs."""
