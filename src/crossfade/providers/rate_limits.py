"""What the head of an answer says of a provider's rate limits, read by the rows of its vendor.

Pure. Every answer of a vendor with such headers comes through here, so each header is looked up by its name and read
without a search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crossfade.core.headroom import Limit
from crossfade.core.target import LimitHeaders
from crossfade.providers.waiting import parse_number, parse_reset, reference


def read_limits(rows: Sequence[LimitHeaders], headers: Mapping[str, str], now: float, wall: float) -> list[Limit]:
    """The limits that `headers` (names in lower case) speak of. What is garbled says nothing.

    `now` is the time that the limits' `until` counts by, `wall` is Unix time, for resets that are moments and answers
    without a `date`.
    """
    found: list[Limit] = []
    for row in rows:
        text = headers.get(row.left)
        if text is None or (left := parse_number(text)) is None:
            continue
        most = parse_number(headers.get(row.most, "")) if row.most else None
        seconds: float | None = None
        if row.reset and (reset := headers.get(row.reset)) is not None:
            seconds = parse_reset(reset, reference(headers, wall))
            if seconds is not None and row.reset_in_ms:
                seconds /= 1000
        found.append(Limit(row.name, row.counts, most, left, now + (row.window if seconds is None else seconds)))
    return found
