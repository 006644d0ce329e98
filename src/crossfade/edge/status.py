"""`/healthz`, `/readyz` and the status of targets: what orchestrators and people ask of the process itself.

A provider's outage never makes the gateway unready: it is what the gateway is there for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from crossfade.core.health import HealthBoard
from crossfade.core.probing import Probing
from crossfade.core.shedding import Shedding
from crossfade.core.standing import Out, TargetView
from crossfade.http1.request import Request

_JSON = ("content-type", "application/json")
_NO_STORE = ("cache-control", "no-store")


class Status:
    """Answers about the process. `is_draining` makes it unready: it takes no new work. `configuration` is the version
    of the one that new requests are served by, `probing` gives what probes have found."""

    def __init__(self, board: HealthBoard, *, version: str, program: str, under_way: Callable[[], int]):
        self._board = board
        self.configuration = version
        self._program = program
        self._under_way = under_way
        self._started_at = time.time()
        self.is_draining = False
        self.probing: Callable[[], Probing] | None = None
        self.shedding: Shedding | None = None

    def answer(self, request: Request) -> None:
        if request.method not in ("GET", "HEAD"):
            request.respond(405, [_JSON, ("allow", "GET, HEAD")], b'{"error":"GET only"}')
            return
        if request.path == "/healthz":
            self._send(request, 200, {"status": "ok"})
        elif request.path == "/readyz":
            ready = not self.is_draining
            self._send(request, 200 if ready else 503, {"status": "ready" if ready else "draining"})
        else:
            self._send(request, 200, self._all())

    def _all(self) -> dict[str, Any]:
        now = time.perf_counter()
        views = self._board.snapshot(now)
        return {
            "program": f"crossfade {self._program}",
            "configuration": self.configuration,
            "started_at": self._started_at,
            "requests_under_way": self._under_way(),
            "let_in": None if self.shedding is None else round(self.shedding.share, 3),
            "targets": {key: _shown(view, now) for key, view in views.items()},
            "probes": None if self.probing is None else _probes(self.probing(), now),
        }

    def _send(self, request: Request, status: int, body: dict[str, Any]) -> None:
        request.respond(status, [_JSON, _NO_STORE], msgspec.json.encode(body))


def _probes(probing: Probing, now: float) -> dict[str, Any]:
    return {
        "paid": probing.paid_probes,
        "spent_usd": round(probing.spent, 6),
        "free": {
            f"{provider}#{key}": {
                "calls": outcome.probes,
                "well": outcome.is_well,
                "detail": outcome.detail,
                "ago_s": round(now - outcome.at, 1),
            }
            for (provider, key), outcome in probing.outcomes.items()
            if outcome.probes
        },
    }


def _shown(view: TargetView, now: float) -> dict[str, Any]:
    out = view.standing if isinstance(view.standing, Out) else None
    return {
        "available": out is None,
        "out": None if out is None else str(out.reason),
        "back_in_s": None if out is None or out.until is None else round(max(0.0, out.until - now), 1),
        "breaker": view.breaker,
        "breaker_for": None if view.breaker == "closed" else "one request" if view.is_open_for_one else "all",
        "in_flight": view.in_flight,
        "consecutive_failures": view.consecutive_failures,
        "calls": view.calls,
        "failures": view.failures,
        "active": view.active,
        "concurrency": None if view.concurrency is None else int(view.concurrency),
        "waiting": view.waiting,
        "first_content_s": None if view.first_content is None else round(view.first_content, 3),
        "ramp": round(view.ramp, 3),
        "headroom": round(view.headroom, 3),
        "limits": {
            limit.name: {"left": limit.left, "of": limit.most, "reset_in_s": round(limit.until - now, 1)}
            for limit in view.limits
        },
    }
