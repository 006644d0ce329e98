"""How much of a provider's rate limits is left to a target, by what the provider itself said last.

What was sent since is taken off until the provider says anew, and nothing that was said holds beyond its reset. What
follows from too little is decided elsewhere. Of calls side by side the word on the one that was sent last counts: it is
the newest, whichever answer comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

Counts = Literal["requests", "tokens", "output"]
"""What a limit counts: requests; tokens, of which the input is known before; or tokens of output alone."""

_ONE: Final = 1.0


class Limit:
    """What a provider said of one limit: `left` of `most` (None: it did not say), until the time `until`. `calls` and
    `tokens` are all that were sent up to the call that the word came with."""

    __slots__ = ("calls", "counts", "left", "most", "name", "tokens", "until")

    def __init__(self, name: str, counts: Counts, most: float | None, left: float, until: float) -> None:
        self.name = name
        self.counts = counts
        self.most = most
        self.left = left
        self.until = until
        self.calls = 0
        self.tokens = 0

    def __repr__(self) -> str:
        return f"<Limit {self.name!r}: {self.left:g} of {self.most} until {self.until:.1f}>"


class Headroom:
    """`limits` are what was heard of, by name. `calls` and `tokens` (estimated, of input) count all that was sent."""

    __slots__ = ("calls", "limits", "tokens")

    def __init__(self) -> None:
        self.limits: dict[str, Limit] = {}
        self.calls = 0
        self.tokens = 0

    def spend(self, tokens: int) -> None:
        """A call with so many estimated tokens is sent."""
        self.calls += 1
        self.tokens += tokens

    def note(self, said: Sequence[Limit], calls: int, tokens: int) -> None:
        """What the answer to a call says; `calls` and `tokens` were those of the headroom when it had been sent."""
        for limit in said:
            known = self.limits.get(limit.name)
            if known is None or calls >= known.calls:
                limit.calls = min(calls, self.calls)  # it may be of a headroom that the target had before
                limit.tokens = min(tokens, self.tokens)
                self.limits[limit.name] = limit

    def left(self, limit: Limit) -> float:
        """What is left of a limit once all that was sent since is counted."""
        if limit.counts == "requests":
            return limit.left - (self.calls - limit.calls)
        if limit.counts == "tokens":
            return limit.left - (self.tokens - limit.tokens)
        return limit.left

    def missing(self, tokens: int, now: float) -> Limit | None:
        """The limit that one more call with so many tokens would run into, the longest of them; None: it has room.

        Of a limit that is smaller than the request anything left is enough: either its provider does not count them
        all (those it has cached), or no time will do, and it says so when it is called.
        """
        found: Limit | None = None
        for limit in self.limits.values():
            if limit.until > now and (found is None or limit.until > found.until):
                needed = _ONE
                if limit.counts == "tokens" and (limit.most is None or tokens <= limit.most):
                    needed = max(_ONE, float(tokens))
                if self.left(limit) < needed:
                    found = limit
        return found

    def share(self, now: float) -> float:
        """The least share, from 0 to 1, that any limit has left; 1 where nothing is known."""
        least = 1.0
        for limit in self.limits.values():
            if limit.until > now and limit.most:
                least = min(least, max(0.0, self.left(limit)) / limit.most)
        return least

    def current(self, now: float) -> list[Limit]:
        """The limits whose reset is still ahead."""
        return [limit for limit in self.limits.values() if limit.until > now]

    def clear(self) -> None:
        """Forgets what was said."""
        self.limits.clear()
