"""What one client may take of the listener that it is connected to."""

from __future__ import annotations

import msgspec

from crossfade.http1.head import HEAD_BYTES, HEADER_COUNT


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one client may take. Sizes in bytes, times in seconds."""

    head_bytes: int = HEAD_BYTES  # request line and headers together; more is 431 (a line above 8 KiB: 414)
    header_count: int = HEADER_COUNT  # more is 431
    body_bytes: int = 32 * 1024 * 1024  # without chunk framing; more is 413
    head_timeout: float = 10.0  # first byte to end of the head (408); for a new connection also accept to first byte
    body_timeout: float = 20.0  # without any byte of a body, and the head start that `body_rate` gives (408)
    body_rate: float = 10 * 1024.0  # bytes a second that a body must come with after `body_timeout` (408)
    idle_timeout: float = 75.0  # between an answer and the next request
    write_timeout: float = 60.0  # unsent bytes of which the client takes none; then it is gone
    max_connections: int = 10_000  # of a listener; more are answered 503
    bodies_bytes: int = 512 * 1024 * 1024  # of all bodies that are being received; what would be more is answered 503
