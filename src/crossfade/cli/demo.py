"""`crossfade demo`: a gateway in front of three simulated providers, and the story of what happens when they break.

Sets the stage, has the story played, and leaves everything up to be played with. The story itself is `demo_story`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click
import uvloop
from rich.console import Console

from crossfade.cli.demo_screen import Screen
from crossfade.cli.demo_story import ACTS, PRIMARY, ROUTE, TARGETS, Story
from crossfade.config.loader import FILE_NAME, load_config
from crossfade.config.settings import Config
from crossfade.core.events import Event
from crossfade.core.policy import BreakerPolicy, HealthPolicy
from crossfade.engine.ports import Recorder
from crossfade.gateway import Gateway
from crossfade.providers.compatible import VENDORS
from crossfade.recording import open_recorder
from crossfade.simulator.thread import ProviderSimulator

HOST = "127.0.0.1"
PORTS = {"gateway": 4000, "status": 4001, "simulator": 4002}
"""Where things listen if nobody else does; otherwise at any free port."""
HEALTH = HealthPolicy(breaker=BreakerPolicy(open_time=2.0, ramp=0.0))
"""A story has no time for the usual 15 s of an open breaker, nor for the 10 s in which a target that is back gets only
a growing share: whoever breaks the primary by hand afterwards shall meet it."""

EXIT_WRONG = 1
EXIT_INTERRUPTED = 130

_CONFIG = """\
# Written by `crossfade demo`: one route, three providers, all of them simulated.
server: {{listen: {host}:{gateway}, admin: {host}:{status}}}
state_dir: .
log: {{level: error}}    # all else the demo shows by itself
providers:
  openai: {{base_url: {simulator}/p/openai/v1, vendor: openai, api_keys: []}}
  anthropic: {{base_url: {simulator}/p/anthropic/v1, vendor: anthropic, api_keys: []}}
  google: {{base_url: {simulator}/p/google/v1beta, vendor: gemini, api_keys: []}}
routes:
  {route}:
    chain: [{chain}]
    # Short, so that a demo is short; the defaults are 12 s, 20 s, 30 s and 600 s.
    first_content_timeout: 2s
    silence_timeout: 2s
    idle_timeout: 2s
    timeout: 20s
"""

_HINTS = """\

Everything is still up; Ctrl-C ends it.

  the gateway          {gateway}/v1
  health of targets    {status}/status
  control of faults    {simulator}/_control/schedule
  the configuration    {config}
  the journal          {journal}{fate}

Ask something:

  curl {gateway}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "{route}", "stream": true, "messages": [{{"role": "user", "content": "Hello there"}}]}}'

Break the primary (500, silence, cut@middle, ...: crossfade simulate --list-faults), and ask again:

  curl {simulator}/_control/schedule -d '{{"provider": "{primary}", "then": "cut@middle; pace=0.05"}}'

Mend everything:

  curl -X POST {simulator}/_control/reset

What happens is shown here:
"""


@click.command("demo", short_help="Show fallback at work, with simulated providers.")
@click.option("--once", is_flag=True, help="End after the story instead of leaving everything up.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Where configuration and journal go, and stay. Default: a temporary folder, removed at the end.",
)
def demo(once: bool, state_dir: Path | None) -> None:
    """Break simulated providers in one way after the other, and show how every request is answered all the same.

    Needs no key, no configuration and no service. Exit code 0: no caller saw a failure or a wrong text, but for the
    one request that is sent while every provider is down.
    """
    with tempfile.TemporaryDirectory(prefix="crossfade-demo-") as temporary:
        folder = state_dir or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_show(folder.absolute(), is_kept=state_dir is not None, once=once))
    raise SystemExit(code)


class Overheard:
    """A recorder that keeps its records in another one, and has `listener` hear of every event first."""

    def __init__(self, inner: Recorder, listener: Callable[[Event], None]):
        self.listener = listener
        self._inner = inner

    def record(self, event: Event, then: Callable[[], None] | None = None) -> None:
        self.listener(event)
        self._inner.record(event, then)

    def settle(self) -> None:
        self._inner.settle()

    def tell(self, event: Event) -> None:
        self.listener(event)
        self._inner.tell(event)


async def _show(folder: Path, *, is_kept: bool, once: bool) -> int:
    """The whole demo on a stage of its own; gives the exit code."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    screen = Screen(Console(color_system=None if os.environ.get("NO_COLOR") else "auto"))
    ports = {what: _port(what, port, screen) for what, port in PORTS.items()}
    with ProviderSimulator(host=HOST, port=ports["simulator"]) as simulator:
        config = write_config(folder / FILE_NAME, ports, simulator.url)
        recorder = open_recorder(config, loop)
        overheard = Overheard(recorder, screen.tell)
        try:
            async with await Gateway.open(config, {}, overheard, health=HEALTH) as gateway:
                story = Story(gateway, simulator, screen)
                overheard.listener = story.hear
                _introduce(screen, gateway, simulator)
                if not await _unless_stopped(story.play(ACTS), stopped):
                    return EXIT_INTERRUPTED
                screen.summary(story.results)
                overheard.listener = screen.tell
                if not once:
                    _hint(screen, gateway, simulator, is_kept=is_kept)
                    await stopped.wait()
                return 0 if story.is_good else EXIT_WRONG
        finally:
            recorder.close()


async def _unless_stopped(work: Coroutine[Any, Any, None], stopped: asyncio.Event) -> bool:
    """Does the work; False if it was left undone because of a signal. Raises what the work raises."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stopped.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
        return False
    working.result()
    return True


def _port(what: str, port: int, screen: Screen) -> int:
    """The port, or 0 (any free one) where it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            screen.say(f"port {port} is taken: the {what} listens on any free port instead")
            return 0
    return port


def write_config(file: Path, ports: dict[str, int], simulator: str) -> Config:
    """Writes the configuration of the demo, and loads it as any other."""
    text = _CONFIG.format(
        host=HOST,
        gateway=ports["gateway"],
        status=ports["status"],
        simulator=simulator,
        route=ROUTE,
        chain=", ".join(TARGETS),
    )
    file.write_text(text, encoding="utf-8")
    return load_config(file, {}, VENDORS)


def _introduce(screen: Screen, gateway: Gateway, simulator: ProviderSimulator) -> None:
    screen.head(
        "crossfade demo",
        [
            f"A gateway on {gateway.url}, three simulated providers on {simulator.url}.",
            f"Route {ROUTE!r}: " + " > ".join(rung.name for rung in gateway.config.routes[ROUTE].chain),
            "Requests go through real sockets. `right`: status 200, complete, and the text is right to the letter.",
        ],
    )


def _hint(screen: Screen, gateway: Gateway, simulator: ProviderSimulator, *, is_kept: bool) -> None:
    config = gateway.config
    screen.say(
        _HINTS.format(
            gateway=gateway.url,
            status=gateway.admin_url,
            simulator=simulator.url,
            config=config.file,
            journal=config.journal.path,
            fate="" if is_kept else "    (removed at the end)",
            route=ROUTE,
            primary=PRIMARY,
        )
    )
