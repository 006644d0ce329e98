"""What comes of writing a request in another dialect."""

from __future__ import annotations

import msgspec


class Written(msgspec.Struct, frozen=True):
    """A request body, and the names of the caller's parameters that it could not express."""

    body: bytes
    dropped: tuple[str, ...] = ()
