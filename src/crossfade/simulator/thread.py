"""The simulator beside synchronous code: in a thread with an event loop of its own. For tests, demos and benches."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from crossfade.simulator.answers import healthy_text
from crossfade.simulator.faults import parse_step
from crossfade.simulator.server import DEFAULT_NAME, Simulator

T = TypeVar("T")

_PREFIXES = {
    "openai": "/v1",
    "responses": "/v1",
    "anthropic": "",
    "gemini": "",
    "bedrock": "",
    "bedrock-claude": "",
    "cohere": "/v2",
    "ollama": "/api",
}


class ProviderSimulator:
    """A running simulator. Listens at once; `stop`, or leaving a `with` block, ends it and those it made.

    Several can run at a time, and each can play several providers: see `base_url`.
    """

    def __init__(self, name: str = DEFAULT_NAME, *, host: str = "127.0.0.1", port: int = 0):
        self._loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"simulator-{name}", daemon=True)
        self._thread.start()
        self._others: list[ProviderSimulator] = []
        self._dead: list[socket.socket] = []
        try:
            self._simulator = self._run(Simulator.start(host, port, name))
        except OSError:
            self._end_loop()
            raise

    @property
    def name(self) -> str:
        return self._simulator.name

    @property
    def url(self) -> str:
        """`http://host:port`, without a slash at the end."""
        return self._simulator.url

    @property
    def port(self) -> int:
        return self._simulator.port

    def base_url(self, dialect: str = "openai", provider: str | None = None) -> str:
        """What a client of `dialect` is configured with. `provider` makes it one provider of several, each with a
        schedule and counts of its own."""
        prefix = f"/p/{provider}" if provider is not None else ""
        return f"{self.url}{prefix}{_PREFIXES[dialect]}"

    def schedule(
        self,
        *faults: str | dict[str, Any],
        provider: str | None = None,
        model: str | None = None,
        then: str | dict[str, Any] | None = "ok",
    ) -> None:
        """What the next calls meet, one fault a call, and what all later ones do. Replaces the earlier schedule of
        just this provider and model pattern. Raises ValueError naming what is wrong with a fault.

            simulator.schedule("429; retry_after=3", "cut@first", {"kind": "ok", "text": "Hello."}, then="500")
        """
        steps = [parse_step(fault) for fault in faults]
        last = None if then is None else parse_step(then)
        self._call(lambda: self._simulator.schedule.set(provider, model, steps, last))

    def counts(self, provider: str | None = None) -> dict[str, Any]:
        """Calls, `in_flight`, `aborted`, `outcomes`, `models` and the last `requests` of a provider (default: the one
        that the simulator is named for); zeros for one that was never called."""
        name = provider if provider is not None else self.name
        nothing = {"calls": 0, "in_flight": 0, "aborted": 0, "outcomes": {}, "models": {}, "requests": []}
        counts: dict[str, Any] = self._call(self._simulator.counts)["providers"].get(name, nothing)
        return counts

    def connections(self) -> dict[str, int]:
        """How many connections were `opened` since the last reset, and how many are `open`."""
        connections: dict[str, int] = self._call(self._simulator.counts)["connections"]
        return connections

    def reset(self) -> None:
        """Forgets schedules and counts."""
        self._call(self._simulator.reset)

    def close_port(self) -> None:
        """From now on connections are really refused; open ones stay."""
        self._call(self._simulator.close_port)

    def open_port(self) -> None:
        """Listens again on the same port."""
        self._run(self._simulator.open_port())

    def reset_connections(self) -> None:
        """Resets every open connection, idle ones in somebody's pool included."""
        self._call(self._simulator.reset_connections)

    def another(self, name: str) -> ProviderSimulator:
        """A second simulator on a port of its own, that ends with this one."""
        self._others.append(ProviderSimulator(name))
        return self._others[-1]

    def dead_port(self) -> int:
        """A port of 127.0.0.1 that nobody listens on, and that nobody gets while this simulator lives."""
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        self._dead.append(sock)
        return int(sock.getsockname()[1])

    def healthy_text(self, prompt: str, words: int = 60) -> str:
        """The text with which every healthy provider answers `prompt`."""
        return healthy_text(prompt, words)

    def stop(self) -> None:
        """Resets what is open and returns when the thread has ended. Twice is harmless."""
        for other in self._others:
            other.stop()
        for sock in self._dead:
            sock.close()
        if not self._loop.is_closed():
            self._run(self._simulator.stop())
            self._end_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<ProviderSimulator {self.name!r} {self.url}>"

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    def _call(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return self._run(call())

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=30)
        self._loop.close()
