"""One way to ask, as the front door sees it: its name, how its requests are read, how its callers read answers.

Everything behind it is the same for all endpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from crossfade.core.exchange import RequestFacts
from crossfade.edge.intake import Caller
from crossfade.engine.ports import CallerDialect
from crossfade.providers.base import Inbound
from crossfade.wire.ours import Ours


class Asked(Inbound, Protocol):
    """A request as it came, with what it says to the gateway itself."""

    @property
    def ours(self) -> Ours: ...


class Endpoint:
    """`name` is what the journal calls it. `read` raises RequestError naming the field. `answer`: what the gateway says
    by itself, without asking any provider; None where it takes one."""

    __slots__ = ("answer", "dialect", "name", "read")

    def __init__(
        self,
        name: str,
        dialect: CallerDialect,
        read: Callable[[bytes, Caller], Asked],
        answer: Callable[[RequestFacts], bytes] | None = None,
    ) -> None:
        self.name = name
        self.dialect = dialect
        self.read = read
        self.answer = answer
