"""What a paid probe asks, and who hears the answer: nobody but the journal and the target's health."""

from __future__ import annotations

from typing import Final

import msgspec

from crossfade.core.policy import TimeoutPolicy
from crossfade.core.probing import PAID_OUTPUT
from crossfade.core.target import Route, Rung, Target
from crossfade.edge.intake import Admitted
from crossfade.http1.head import Fields

PROBE: Final = "probe"
"""What paid probes are recorded under, as route and as key."""
PROBE_LIMIT: Final = 30.0
"""Seconds that a paid probe may take."""

_TURN: Final = {"role": "user", "content": "Answer with the one word: yes"}
_NO_LIMITS: Final = TimeoutPolicy()


def probe_body(target: Target) -> bytes:
    """A chat request for next to nothing."""
    return msgspec.json.encode({"model": target.name, "messages": [_TURN], "max_tokens": PAID_OUTPUT})


def probe_terms(target: Target) -> Admitted:
    """A walk to the one target."""
    route = Route(name=PROBE, chain=(Rung((target,)),))
    return Admitted(route, route.policy, _NO_LIMITS, PROBE_LIMIT, (), False, False, ())


class Nowhere:
    """The caller's connection of a request without a caller."""

    __slots__ = ()

    @property
    def unsent(self) -> int:
        return 0

    def respond(self, status: int, headers: Fields, body: bytes) -> None:
        """The row in the journal says it."""

    def start(self, status: int, headers: Fields) -> None:
        """As above."""

    def write(self, data: bytes) -> None:
        """As above."""

    def finish(self, data: bytes = b"") -> None:
        """As above."""

    def fail(self, error: Exception) -> None:
        raise error
