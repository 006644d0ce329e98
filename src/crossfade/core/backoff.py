"""How long to wait: before the same target is asked again, and until a limited or broken one may be.

Pure arithmetic. Randomness comes in as a `draw` from [0, 1); what a provider asked for comes in as seconds.
Whether there is a retry at all is not decided here.
"""

from __future__ import annotations

import math
from typing import Final

from crossfade.core.policy import HealthPolicy, RetryPolicy

DELAY_CAP: Final = 8.0
"""The longest delay before a retry, jitter included."""
JITTER: Final = 0.1
"""How far, as a share, an opened breaker's time strays to either side."""

_MOST_DOUBLINGS: Final = 64  # 2.0 ** 1024 overflows; every cap is reached long before


def next_delay(attempt: int, draw: float, base: float = RetryPolicy().delay, cap: float = DELAY_CAP) -> float:
    """Seconds before retry number `attempt` (from 1): `base`, doubled each time, drawn from half to one and a half.

    Never above `cap`, never negative; a `base` of 0 gives 0.
    """
    return max(0.0, min(cap, doubled(base, attempt - 1, cap) * (0.5 + draw)))


def doubled(base: float, times: int, cap: float) -> float:
    """`base` doubled `times` times, at most `cap`."""
    return min(cap, base * 2.0 ** min(max(times, 0), _MOST_DOUBLINGS))


def jittered(seconds: float, draw: float) -> float:
    """`seconds`, a tenth more or less, so that what stopped together does not start together."""
    return seconds * (1.0 - JITTER + 2.0 * JITTER * draw)


def clamp_retry_after(seconds: float | None, policy: HealthPolicy) -> float:
    """For how long a rate limit ejects, given what the provider said.

    None or NaN (nothing usable was said): `default_rate_limit`. Everything else is brought between
    `min_rate_limit` and `max_rate_limit`: a provider may send 0, a time in the past, or milliseconds as seconds.
    """
    if seconds is None or math.isnan(seconds):
        return policy.default_rate_limit
    return min(max(seconds, policy.min_rate_limit), policy.max_rate_limit)
