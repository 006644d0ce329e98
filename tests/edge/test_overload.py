"""What is held back for all requests together is counted, and new requests are shed before memory suffers."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
from pathlib import Path

import pytest

from crossfade.core.events import Event, RequestsShed
from crossfade.edge import app
from crossfade.gateway import Gateway
from crossfade.testing import ProviderSimulator
from tests.compiled import interpreted_only
from tests.e2e.harness import until
from tests.edge.test_admin import asked, chat, opened, with_gateway
from tests.support import run


@interpreted_only
def test_a_gateway_that_holds_too_much_sheds_new_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ProviderSimulator() as simulator:
        simulator.schedule("stall@middle", provider="one")

        def scene(gateway: Gateway) -> None:
            monkeypatch.setattr(app, "MAX_HELD", -1)
            gateway.engine.held = 0
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


def test_more_requests_than_may_be_under_way_are_refused_by_their_head(tmp_path: Path) -> None:
    with ProviderSimulator() as simulator:
        simulator.schedule("silence", "silence", provider="one")

        async def main() -> None:
            async with opened(tmp_path, simulator, "overload: {max_requests: 2}") as gateway:
                under_way = [slow(gateway) for _ in range(2)]
                await until(lambda: len(gateway.engine.runners) == 2)
                status, headers, text = await asyncio.to_thread(refusal, gateway.port, "/v1/chat/completions")
                assert (status, headers["retry-after"]) == (503, "1")
                assert headers["x-request-id"].startswith("cf-")
                assert json.loads(text)["error"]["code"] == "gateway_overloaded"
                status, _, text = await asyncio.to_thread(refusal, gateway.port, "/v1/messages")
                assert (status, json.loads(text)["error"]["type"]) == (503, "overloaded_error")
                for port in (gateway.port, gateway.admin_port):
                    assert (await asyncio.to_thread(asked, port, "GET", "/healthz"))[0] == 200
                    assert (await asyncio.to_thread(asked, port, "GET", "/readyz"))[0] == 200
                said = (await asyncio.to_thread(asked, gateway.admin_port, "GET", "/status"))[1]
                assert (said["requests_under_way"], said["let_in"]) == (2, 1.0)
                assert all(b"[DONE]" in answer for answer in await asyncio.gather(*under_way))
                assert (await asyncio.to_thread(chat, gateway))[0] == 200

        run(main())


def slow(gateway: Gateway) -> asyncio.Future[bytes]:
    """A request under way, whose first target is silent for two seconds."""
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    body["crossfade"] = {"first_content_timeout": 2}
    return asyncio.ensure_future(asyncio.to_thread(_streamed, gateway.port, body))


def refusal(port: int, path: str) -> tuple[int, dict[str, str], bytes]:
    """The answer to a head whose body never comes."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.putrequest("POST", path)
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", "1000")
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def test_what_was_refused_is_on_record_and_in_the_log(tmp_path: Path) -> None:
    with ProviderSimulator() as simulator:
        simulator.schedule("silence", provider="one")

        async def main() -> None:
            async with opened(tmp_path, simulator, "overload: {max_requests: 1}") as gateway:
                told: list[Event] = []
                gateway.engine.recorder.tell = told.append  # type: ignore[method-assign]
                under_way = slow(gateway)
                await until(lambda: len(gateway.engine.runners) == 1)
                for _ in range(3):
                    await asyncio.to_thread(refusal, gateway.port, "/v1/chat/completions")
                await under_way
                await until(lambda: sum(one.count for one in told if isinstance(one, RequestsShed)) == 3)
                assert {one.shortage for one in told if isinstance(one, RequestsShed)} == {"requests"}

        run(main())


def test_bodies_that_are_being_received_are_bounded_together(tmp_path: Path) -> None:
    with ProviderSimulator() as simulator:

        async def main() -> None:
            async with opened(tmp_path, simulator, "limits: {bodies_bytes: 2000}") as gateway:
                _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                writer.write(f"{head}content-length: 1500\r\n\r\n{'x' * 1200}".encode())
                await until(lambda: gateway.listener.receiving == 1200)
                status, headers, _ = await asyncio.to_thread(refusal, gateway.port, "/v1/chat/completions")
                assert (status, headers["retry-after"]) == (503, "1")
                chunked, other = await asyncio.open_connection("127.0.0.1", gateway.port)
                other.write(f"{head}transfer-encoding: chunked\r\n\r\n400\r\n{'x' * 1024}\r\n".encode())
                assert b" 503 " in await chunked.readline()
                writer.close()
                other.close()
                await until(lambda: gateway.listener.receiving == 0)
                assert (await asyncio.to_thread(chat, gateway))[0] == 200

        run(main())
