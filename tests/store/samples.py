"""Events as the engine makes them, and a loop and a disk that do as they are told."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from crossfade.core.events import (
    AttemptRow,
    BreakerMoved,
    Event,
    FallbackTriggered,
    ProviderProbed,
    RequestEnded,
    RequestsShed,
    RungDefective,
    StreamCommitted,
    TargetEjected,
    TargetReturned,
)
from crossfade.store.base import Disk

NOON = 1_780_000_000.0 - 1_780_000_000.0 % 86_400 + 43_200
OPENAI, ANTHROPIC = "openai/gpt-5.4", "anthropic/claude-opus-5"


def request(number: int = 1, at: float = NOON, **fields: Any) -> RequestEnded:
    """A request that went well at the first target; `fields` replace."""
    row = AttemptRow(number=1, target=OPENAI, status=200, upstream_request_id="req_1", started_s=0.0001, latency_s=1.23)
    plain: dict[str, Any] = {
        "id": f"cf-0a1b2c3d4e-{number:x}",
        "at": at,
        "route": "chat",
        "model": "gpt-5.4",
        "endpoint": "/v1/chat/completions",
        "key": "web",
        "stream": False,
        "status": 200,
        "served": OPENAI,
        "latency_s": 1.234567,
        "time_to_first_chunk_s": 1.2,
        "time_lost_s": 0.0,
        "fallbacks": 0,
        "attempts": (row,),
        "bytes_out": 812,
        "input_tokens": 120,
        "output_tokens": 300,
    }
    return RequestEnded(**{**plain, **fields})


def fallen_back(number: int = 1, at: float = NOON, **fields: Any) -> RequestEnded:
    """A request whose first target was silent and whose second answered."""
    rows = (
        AttemptRow(number=1, target=OPENAI, reason="timeout", latency_s=12.0),
        AttemptRow(number=2, target=ANTHROPIC, status=200, started_s=12.0, latency_s=1.2),
    )
    plain = {"served": ANTHROPIC, "fallbacks": 1, "attempts": rows, "latency_s": 13.2, "time_lost_s": 12.0}
    return request(number, at, **{**plain, **fields})


def exhausted(number: int = 1, at: float = NOON, **fields: Any) -> RequestEnded:
    """A request that no target could serve."""
    rows = (
        AttemptRow(number=1, target=OPENAI, reason="timeout", latency_s=12.0),
        AttemptRow(number=2, target=ANTHROPIC, reason="rate_limit", status=429, started_s=12.0, latency_s=0.2),
        AttemptRow(number=0, target="google/gemini-3.8-flash", skip="breaker open", started_s=12.2),
    )
    plain = {"served": None, "fallbacks": 1, "attempts": rows, "status": 503, "error": "chain_exhausted"}
    return request(number, at, **{**plain, **fields})


def commit(number: int = 1, at: float = NOON) -> StreamCommitted:
    return StreamCommitted(id=f"cf-0a1b2c3d4e-{number:x}", at=at, route="chat", target=OPENAI, attempts=1)


def fallback(number: int = 1, at: float = NOON, **fields: Any) -> FallbackTriggered:
    plain: dict[str, Any] = {"route": "chat", "source": OPENAI, "target": ANTHROPIC, "reason": "timeout"}
    return FallbackTriggered(**{"id": f"cf-0a1b2c3d4e-{number:x}", "at": at, "after_s": 12.01, **plain, **fields})


def others(at: float = NOON) -> tuple[Event, ...]:
    """One of each event that is about health."""
    return (
        BreakerMoved(at=at, target=OPENAI, before="closed", state="open", until_s=15.0),
        BreakerMoved(at=at + 1, target=OPENAI, before="open", state="half_open"),
        BreakerMoved(at=at + 2, target=OPENAI, before="half_open", state="closed"),
        TargetEjected(at=at + 3, target=ANTHROPIC, reason="rate_limit", for_s=14.0),
        TargetEjected(at=at + 4, target=ANTHROPIC, reason="auth_error", for_s=300.0, scope="credential"),
        TargetReturned(at=at + 5, target=ANTHROPIC, reason="rate_limit"),
        RungDefective(
            id="cf-0a1b2c3d4e-9", at=at + 6, route="chat", target=ANTHROPIC, reason="invalid_request", status=400
        ),
        ProviderProbed(at=at + 7, provider="openai", key=0, is_well=False, detail="timeout: no answer in 5 s"),
        RequestsShed(at=at + 8, shortage="delay", count=70),
    )


def write_lines(path: Path, *events: Event | bytes) -> Path:
    """A journal's file with these events, and raw lines as they are given."""
    path.parent.mkdir(exist_ok=True)
    lines = [event if isinstance(event, bytes) else msgspec.json.encode(event) + b"\n" for event in events]
    path.write_bytes(b"".join(lines))
    return path


class SteppedLoop:
    """An event loop that turns when it is told to, with a clock that stands still until then."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.faults: list[BaseException] = []
        self._soon: deque[Callable[[], Any]] = deque()
        self._timers: list[tuple[float, int, SteppedTimer]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self.time

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> None:
        self._soon.append(lambda: callback(*args))

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> SteppedTimer:
        timer = SteppedTimer(lambda: callback(*args))
        heapq.heappush(self._timers, (self.time + delay, next(self._order), timer))
        return timer

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.faults.append(context["exception"])

    def turn(self) -> None:
        """Calls what is due now, but not what that leads to."""
        for _ in range(len(self._soon)):
            self._soon.popleft()()

    def pass_time(self, seconds: float) -> None:
        end = self.time + seconds
        while self._timers and self._timers[0][0] <= end:
            self.time, _, timer = heapq.heappop(self._timers)
            if not timer.is_cancelled:
                timer.callback()
        self.time = max(self.time, end)


class SteppedTimer:
    """A call that is due at some time."""

    def __init__(self, callback: Callable[[], Any]) -> None:
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class MoodyDisk(Disk):
    """A real disk, but for what `mood` does at each write: it is given the data, and gives back what of it to write;
    it may raise, take its time, or wait. `sync_mood` and `create_mood` come before those calls. `done` lists them."""

    def __init__(self, mood: Callable[[bytes], bytes] | None = None) -> None:
        self.mood = mood
        self.sync_mood: Callable[[], object] | None = None
        self.create_mood: Callable[[], object] | None = None
        self.done: list[str] = []

    def create(self, path: Path) -> int:
        if self.create_mood is not None:
            self.create_mood()
        return super().create(path)

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        self.done.append("write")
        taken = bytes(data) if self.mood is None else self.mood(bytes(data))
        return super().write(fd, taken)

    def sync(self, fd: int) -> None:
        self.done.append("sync")
        if self.sync_mood is not None:
            self.sync_mood()
        super().sync(fd)
