"""Makes the probes that `core.probing` finds due: once a second it looks, and mostly there is nothing to do.

A free call is a GET of the provider's list of models, of which only the status matters. A paid probe is a request like
a caller's, through the one dispatch, so that it takes the trial and settles it; its row in the journal has the key
`probe`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from types import MappingProxyType
from typing import Final

from crossfade.core.errors import TransportError
from crossfade.core.events import ProviderProbed
from crossfade.core.failure import DISPOSITIONS, FailureReason, HealthEffect
from crossfade.core.policy import ProbePolicy
from crossfade.core.probing import Member, Probing
from crossfade.core.target import Dialect, Route, Target
from crossfade.engine.engine import Engine
from crossfade.transport.base import Call, ResponseHead, ResponseSink, UpstreamRequest

LOOK: Final = 1.0
"""Seconds between two looks at what is due."""
PATIENCE: Final = 5.0
"""Seconds that a free call may take."""
PATH: Final = "/models"
_PATHS: Final[Mapping[Dialect, str]] = MappingProxyType({"ollama": "/tags"})
"""Where the list of models is called otherwise."""


class Prober:
    """The probes of one worker. `ask` sends a tiny request to one target, as a caller would."""

    def __init__(self, engine: Engine, ask: Callable[[Target], None], loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._ask = ask
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._calls: set[_FreeCall] = set()
        self.probing = Probing({}, ProbePolicy(every=0, idle=0), 0.0)

    def configure(self, routes: Iterable[Route], policy: ProbePolicy) -> None:
        """Takes a (new) configuration; what was found before is forgotten."""
        members: dict[Member, dict[str, Target]] = {}
        for route in routes:
            for rung in route.every_rung():
                for target in rung.targets:
                    members.setdefault((target.provider, target.credential), {})[target.key] = target
        now = perf_counter()
        self.probing = Probing({member: tuple(of.values()) for member, of in members.items()}, policy, now)
        if self._timer is None and (policy.every or policy.idle or policy.paid_usd):
            self._timer = self._loop.call_later(LOOK, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for call in list(self._calls):
            call.end(None)

    def _look(self) -> None:
        policy = self.probing.policy
        is_wanted = policy.every or policy.idle or policy.paid_usd
        self._timer = self._loop.call_later(LOOK, self._look) if is_wanted else None
        now, board = perf_counter(), self._engine.board
        try:
            for member in self.probing.free_due(board, now, self._engine.draw()):
                call = _FreeCall(self, member)
                if not call.is_over:
                    self._calls.add(call)
            for target in self.probing.paid_due(board, now):
                self._ask(target)
        except Exception as error:  # the next look may fare better, and requests need none of this
            self._engine.report(error)

    def send(self, member: Member, sink: ResponseSink) -> Call:
        """Sends the free call."""
        upstream = self._engine.upstreams.at(member)
        headers = [*upstream.provider.credential(upstream.secret), ("accept", "application/json")]
        request = UpstreamRequest(
            upstream.endpoint,
            upstream.base_path + _PATHS.get(upstream.provider.dialect, PATH),
            headers,
            b"",
            "GET",
            connect_timeout=PATIENCE,
            target=self.probing.members[member][0].name,
        )
        return self._engine.transport.send(request, sink)

    def on_outcome(self, call: _FreeCall, member: Member, is_well: bool, detail: str) -> None:
        self._calls.discard(call)
        if self.probing.on_free(member, is_well, detail, self._engine.board, perf_counter()):
            event = ProviderProbed(at=time.time(), provider=member[0], key=member[1], is_well=is_well, detail=detail)
            self._engine.recorder.tell(event)


class _FreeCall:
    """One free call under way."""

    def __init__(self, prober: Prober, member: Member) -> None:
        self._prober = prober
        self._member = member
        self.is_over = False
        self._timer = prober._loop.call_later(PATIENCE, self._on_late)
        self._call: Call | None = None
        call = prober.send(member, self)
        if self.is_over:
            call.abort()
        else:
            self._call = call

    def on_sent(self) -> None:
        """Nothing to do: the time counts from the beginning."""

    def on_head(self, head: ResponseHead) -> None:
        if head.status >= 500 or head.status == 401:
            self.end(f"status {head.status}")
        else:
            self.end("")

    def on_body(self, data: bytes) -> None:
        """It is not read."""

    def on_end(self) -> None:
        self.end("")

    def on_failure(self, error: TransportError) -> None:
        effect = DISPOSITIONS[error.reason].health
        self.end(f"{error.reason}: {error.detail}" if effect is not HealthEffect.NONE else "")

    def _on_late(self) -> None:
        self.end(f"{FailureReason.TIMEOUT}: no answer in {PATIENCE:.0f} s")

    def end(self, trouble: str | None) -> None:
        """`trouble` is empty where all is well; None: nothing is to be learnt any more."""
        if self.is_over:
            return
        self.is_over = True
        self._timer.cancel()
        if self._call is not None:
            self._call.abort()
            self._call = None
        if trouble is not None:
            self._prober.on_outcome(self, self._member, not trouble, trouble)
