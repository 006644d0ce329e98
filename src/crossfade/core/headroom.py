"""How much of a provider's rate limits is left to a target, by what the provider itself said last.

Counts down what is sent until the provider says anew. What follows from too little is decided elsewhere.
"""

from __future__ import annotations

from typing import Final

_MOST_LIMITS: Final = 8


class Headroom:
    """`limits` are what was heard of, by name (`requests`, `tokens`, ...)."""

    __slots__ = ("limits",)

    def __init__(self) -> None:
        self.limits: dict[str, Limit] = {}

    def note(self, name: str, most: float | None, left: float, until: float) -> None:
        """The provider says that `left` of a limit are left until a time; `most` is the whole of it, if it says so."""
        known = self.limits.get(name)
        if known is None:
            if len(self.limits) < _MOST_LIMITS:
                self.limits[name] = Limit(most, left, until)
        else:
            known.most, known.left, known.until = most, left, until

    def spend(self, tokens: float) -> None:
        """A call with so many estimated tokens is sent."""
        for name, limit in self.limits.items():
            limit.left -= 1.0 if name.endswith("requests") else tokens

    def missing(self, tokens: float, now: float) -> Limit | None:
        """The limit that one more call with so many tokens would run into, the longest of them; None: it has room."""
        found: Limit | None = None
        for name, limit in self.limits.items():
            needed = 1.0 if name.endswith("requests") else tokens
            if limit.until > now and limit.left < needed and (found is None or limit.until > found.until):
                found = limit
        return found

    def share(self, now: float) -> float:
        """The least share, from 0 to 1, that any limit has left; 1 where nothing is known."""
        least = 1.0
        for limit in self.limits.values():
            if limit.until > now and limit.most:
                least = min(least, max(0.0, limit.left) / limit.most)
        return least


class Limit:
    """One limit: the whole of it, what is left, and until when that holds."""

    __slots__ = ("left", "most", "until")

    def __init__(self, most: float | None, left: float, until: float) -> None:
        self.most = most
        self.left = left
        self.until = until

    def __repr__(self) -> str:
        return f"<Limit {self.left:g} of {self.most} until {self.until:.1f}>"
