"""However an answer fails to be written, the caller is not left waiting."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from crossfade.config.loader import load_config
from crossfade.core.events import Event
from crossfade.edge.intake import Caller
from crossfade.edge.openai_chat import CHAT_COMPLETIONS
from crossfade.engine import headers
from crossfade.gateway import Gateway
from crossfade.providers.registry import VENDORS
from crossfade.store.journal import Journal
from crossfade.telemetry.hub import Hub
from crossfade.telemetry.logs import Logs
from crossfade.testing import ProviderSimulator
from tests.compiled import interpreted_only
from tests.edge.test_admin import asked, chat
from tests.edge.test_admin import opened as listening
from tests.support import run


class Brittle:
    """A caller's connection that cannot take an answer's end."""

    is_gone = False
    unsent = 0

    def __init__(self) -> None:
        self.failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.written = b""

    def respond(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        raise ValueError("cannot be written")

    def start(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """It begins well."""

    def write(self, data: bytes) -> None:
        self.written += data

    def finish(self, data: bytes = b"") -> None:
        raise ValueError("cannot be written")

    def fail(self, error: Exception) -> None:
        self.failed.set_result(error)


class Overfull:
    """A recorder that takes no row, and says so by an exception."""

    def record(self, event: Event, then: Callable[[], None] | None = None) -> None:
        raise ValueError("cannot be kept")

    def settle(self) -> None:
        """Nothing is kept."""

    def tell(self, event: Event) -> None:
        """Nobody wants to know here."""


@asynccontextmanager
async def opened(tmp_path: Path, simulator: ProviderSimulator, recorder: Any) -> AsyncIterator[Gateway]:
    file = tmp_path / "crossfade.yaml"
    url = simulator.base_url("openai", "one")
    file.write_text(
        f'providers: {{one: {{dialect: openai, base_url: "{url}"}}}}\nroutes: {{chat: {{chain: [one/model]}}}}\n'
    )
    async with await Gateway.open(load_config(file, {}, VENDORS), {}, recorder, is_listening=False) as gateway:
        yield gateway


def begun(gateway: Gateway, *, stream: bool) -> Brittle:
    body = {"model": "chat", "stream": stream, "messages": [{"role": "user", "content": "Hello"}]}
    downstream = Brittle()
    gateway.app.ask(CHAT_COMPLETIONS, json.dumps(body).encode(), Caller.of({}, None), perf_counter(), downstream)
    return downstream


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["ok", "400"])
def test_an_answer_that_cannot_be_written_after_its_line_is_ended(tmp_path: Path, stream: bool, fault: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        journal = Journal(tmp_path / "journal", version="1", loop=loop)
        with ProviderSimulator() as simulator:
            simulator.schedule(then=fault)
            hub = Hub(journal, Logs(write=lambda line: None))
            async with opened(tmp_path, simulator, hub) as gateway:
                downstream = begun(gateway, stream=stream)
                assert str(await downstream.failed) == "cannot be written"
                assert not gateway.engine.runners
        journal.close()

    run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_whose_row_cannot_be_made_is_ended(tmp_path: Path, stream: bool) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        with ProviderSimulator() as simulator:
            async with opened(tmp_path, simulator, Overfull()) as gateway:
                downstream = begun(gateway, stream=stream)
                assert str(await downstream.failed) == "cannot be kept"
                assert not gateway.engine.runners

    run(main())


@interpreted_only
def test_the_caller_of_an_answer_that_cannot_be_written_gets_a_500(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headers, "WHOLE", "content-type: \u20ac\r\n")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        with ProviderSimulator() as simulator:
            async with listening(tmp_path, simulator) as gateway:
                status, body = await asyncio.to_thread(chat, gateway)
                assert (status, body["error"]["type"]) == (500, "server_error")
                assert (await asyncio.to_thread(asked, gateway.port, "GET", "/healthz"))[0] == 200

    run(main())
