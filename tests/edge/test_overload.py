"""What is held back for all requests together is counted, and new requests are shed before memory suffers."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
from pathlib import Path

import pytest

from crossfade.edge import app
from crossfade.gateway import Gateway
from crossfade.testing import ProviderSimulator
from tests.compiled import interpreted_only
from tests.edge.test_admin import asked, chat, opened, with_gateway
from tests.support import run


@interpreted_only
def test_a_gateway_that_holds_too_much_sheds_new_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ProviderSimulator() as simulator:
        simulator.schedule("stall@middle", provider="one")

        def scene(gateway: Gateway) -> None:
            monkeypatch.setattr(app, "MAX_HELD", -1)
            status, body = chat(gateway)
            assert (status, body["error"]["code"]) == (503, "gateway_overloaded")
            assert simulator.counts("one")["calls"] == 0
            assert asked(gateway.port, "GET", "/readyz")[0] == 200
            monkeypatch.setattr(app, "MAX_HELD", 1 << 30)
            assert gateway.engine.held == 0

        run(with_gateway(tmp_path, simulator, scene))


def test_held_answers_are_counted(tmp_path: Path) -> None:
    with ProviderSimulator() as simulator:
        simulator.schedule("stall@middle", provider="one")

        async def held(gateway: Gateway) -> int:
            body = {
                "model": "chat",
                "stream": True,
                "crossfade": {"commit": "complete", "idle_timeout": 3},
                "messages": [{"role": "user", "content": "Hello"}],
            }
            asking = asyncio.ensure_future(asyncio.to_thread(_streamed, gateway.port, body))
            most = 0
            while not asking.done():
                most = max(most, gateway.engine.held)
                await asyncio.sleep(0.05)
            assert b"[DONE]" in await asking
            return most

        async def main() -> None:
            async with opened(tmp_path, simulator) as gateway:
                assert await held(gateway) > 500

        run(main())


def _streamed(port: int, body: dict[str, object]) -> bytes:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        return connection.getresponse().read()
