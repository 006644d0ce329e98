"""How simulated providers behave over time: outages, brown-outs, flapping, limits, slowness, cuts."""

from __future__ import annotations

import random
from typing import Final

from crossfade.core.failure import DISPOSITIONS, Failure, FailureReason, HealthEffect
from crossfade.core.headroom import Limit
from crossfade.core.target import Target

_R = FailureReason
NEVER: Final = float("inf")

DOWN: Final = (_R.SERVER_ERROR, _R.CONNECT_ERROR, _R.OVERLOADED, _R.PROTOCOL_ERROR, _R.MALFORMED_OUTPUT)
SOFT: Final = (_R.EMPTY_OUTPUT, _R.INVALID_JSON, _R.INVALID_TOOL_CALL, _R.REJECTED_OUTPUT, _R.TRUNCATED_OUTPUT)
ODD: Final = (_R.CONTEXT_OVERFLOW, _R.CONTENT_FILTER, _R.MODEL_UNAVAILABLE, _R.QUOTA_EXHAUSTED, _R.INVALID_REQUEST)
STATUS: Final = {
    _R.SERVER_ERROR: 500,
    _R.OVERLOADED: 503,
    _R.RATE_LIMIT: 429,
    _R.QUOTA_EXHAUSTED: 429,
    _R.MODEL_UNAVAILABLE: 404,
    _R.CONTEXT_OVERFLOW: 400,
    _R.INVALID_REQUEST: 400,
    _R.AUTH_ERROR: 401,
}
BLAMELESS: Final = frozenset(reason for reason, row in DISPOSITIONS.items() if row.health is HealthEffect.NONE)
"""Reasons that say nothing of a target."""


class Course:
    """What a call comes to if nobody ends it: seconds to the first content and to the end (NEVER: silence), and the
    failure there, None for a good answer. `said` is what the head says of rate limits."""

    __slots__ = ("content", "end", "failure", "said")

    def __init__(self, content: float, end: float, failure: Failure | None, said: list[Limit] | None = None) -> None:
        self.content = content
        self.end = end
        self.failure = failure
        self.said = said


class Episode:
    """A kind of weather from `start` to `end`. `share` of the calls meet it; `period`: it comes and goes."""

    __slots__ = ("end", "kind", "period", "reason", "share", "start")

    def __init__(self, kind: str, start: float, end: float, share: float, period: float, reason: FailureReason) -> None:
        self.kind = kind
        self.start = start
        self.end = end
        self.share = share
        self.period = period
        self.reason = reason

    def is_on(self, now: float) -> bool:
        if not self.start <= now < self.end:
            return False
        return not self.period or int((now - self.start) / self.period) % 2 == 0


class RateLimit:
    """So many calls in a window of so many seconds. `says`: answers tell what is left."""

    __slots__ = ("_used", "_window", "most", "says", "seconds")

    def __init__(self, most: int, seconds: float, says: bool) -> None:
        self.most = most
        self.seconds = seconds
        self.says = says
        self._window = -1
        self._used = 0

    def use(self, now: float) -> tuple[int, float]:
        """One call; how many are left (negative: refused) and the seconds to the reset."""
        window = int(now / self.seconds)
        if window != self._window:
            self._window, self._used = window, 0
        self._used += 1
        return self.most - self._used, (window + 1) * self.seconds - now


KINDS: Final = ("outage", "silence", "brownout", "flapping", "slow", "cut", "stall", "soft", "odd")


class Provider:
    """One provider: its speed, its weather, its limits and its keys."""

    def __init__(self, name: str, draw: random.Random, start: float, lasts: float) -> None:
        self.name = name
        self._draw = draw
        self._speed = draw.choice((0.05, 0.3, 0.8, 2.5, 6.0))
        self._length = draw.choice((0.1, 2.0, 20.0))
        self.episodes = [self._episode(start, lasts) for _ in range(draw.choice((0, 1, 1, 2, 3)))]
        self.hard = draw.choice((0.0, 0.0, 0.01, 0.1))
        self.limit: RateLimit | None = None
        if draw.random() < 0.3:
            self.limit = RateLimit(draw.choice((1, 5, 20)), draw.choice((5.0, 20.0, 60.0)), draw.random() < 0.6)
        self.bad_key = draw.choice((None,) * 6 + (1, 1, 1, 0))
        self.bad_model = draw.choice((None, None, "large", "small"))
        """The model that the weather is about; None: all of them."""

    def _episode(self, start: float, lasts: float) -> Episode:
        draw = self._draw
        kind = draw.choice(KINDS)
        begin = start + draw.uniform(-0.2, 0.8) * lasts
        share = draw.choice((0.1, 0.3, 0.5)) if kind in ("brownout", "soft", "odd", "cut", "stall") else 1.0
        if kind in ("soft", "cut", "stall") and draw.random() < 0.3:
            share = 1.0
        period = draw.choice((1.0, 7.0, 25.0)) if kind == "flapping" else 0.0
        reason = draw.choice({"soft": SOFT, "odd": ODD}.get(kind, DOWN))
        return Episode(kind, begin, begin + draw.choice((0.05, 0.3, 1.0)) * lasts, share, period, reason)

    def course(self, target: Target, is_poisoned: bool, now: float) -> Course:
        """What a call to `target` at `now` comes to."""
        draw = self._draw
        content = self._speed * draw.uniform(0.5, 1.5)
        end = content + self._length * draw.random()
        said: list[Limit] | None = None
        if target.credential == self.bad_key:
            return Course(NEVER, 0.05, fault(_R.AUTH_ERROR))
        if self.limit is not None:
            left, reset = self.limit.use(now)
            if self.limit.says:
                said = [Limit("requests", "requests", self.limit.most, max(0.0, float(left)), now + reset)]
            if left < 0:
                wait = draw.choice((None, reset, reset, 0.0, 1.0, 1e9))
                return Course(NEVER, 0.05, fault(_R.RATE_LIMIT, retry_after=wait), said)
        if is_poisoned:
            return Course(NEVER, 0.1, fault(_R.SERVER_ERROR))
        if draw.random() < self.hard:
            return Course(NEVER, content, fault(draw.choice(DOWN)), said)
        for episode in self.episodes:
            if episode.is_on(now) and draw.random() < episode.share:
                if self.bad_model is None or target.model == self.bad_model:
                    return self._met(episode, content, end, said)
        return Course(content, end, None, said)

    def _met(self, episode: Episode, content: float, end: float, said: list[Limit] | None) -> Course:
        match episode.kind:
            case "silence":
                return Course(NEVER, NEVER, None, said)
            case "slow":
                return Course(content * 20.0, end * 20.0, None, said)
            case "cut":
                return Course(content, content + 0.7 * (end - content), fault(_R.STREAM_INTERRUPTED), said)
            case "stall":
                return Course(content, NEVER, None, said)
            case "soft" | "odd":
                begins = content if episode.reason in (_R.TRUNCATED_OUTPUT, _R.CONTENT_FILTER) else NEVER
                return Course(begins, end, fault(episode.reason), said)
            case _:
                return Course(
                    NEVER, 0.02 if episode.reason is _R.CONNECT_ERROR else content, fault(episode.reason), said
                )


def fault(reason: FailureReason, retry_after: float | None = None) -> Failure:
    return Failure(reason=reason, status=STATUS.get(reason), retry_after=retry_after)
