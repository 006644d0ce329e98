"""The simulator as a server: schedules, counts, many providers, clients that leave or mean harm."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from crossfade.simulator.schedule import KEPT_REQUESTS, MANY, MAX_NAMES, Ledger
from crossfade.simulator.server import Simulator
from crossfade.testing import ProviderSimulator, healthy_text
from tests.simulator.raw import (
    DIALECTS,
    PROMPT,
    Wire,
    ask,
    control,
    path_of,
    request_body,
    request_bytes,
    text_of,
)
from tests.support import run

CHAT = request_bytes(path_of("openai", False), request_body("openai", False))


def eventually(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.005)


# --- schedules -----------------------------------------------------------------------------------------------


def test_faults_come_in_order_and_then_the_rest(provider_simulator: ProviderSimulator) -> None:
    provider_simulator.schedule("500", {"kind": "429", "times": 2}, "ok", then="503")
    assert [ask(provider_simulator).status for _ in range(6)] == [500, 429, 429, 200, 503, 503]
    provider_simulator.schedule()
    assert ask(provider_simulator).status == 200


def test_the_most_particular_schedule_decides(provider_simulator: ProviderSimulator) -> None:
    simulator = provider_simulator
    simulator.schedule(then="500")
    simulator.schedule("401", provider="a", then="403")
    simulator.schedule("404", provider="a", model="big-*", then=None)
    simulator.schedule("429", model="big-*", then=None)

    def status(provider: str, model: str) -> int:
        return ask(simulator, provider=provider, model=model).status

    assert [status("a", "big-1"), status("a", "big-1"), status("a", "big-1")] == [404, 401, 403]
    assert [status("b", "big-1"), status("b", "big-1"), status("b", "small")] == [429, 500, 500]


def test_control_over_http(provider_simulator: ProviderSimulator) -> None:
    simulator = provider_simulator
    body = {"provider": "x", "model": None, "faults": ["500", {"kind": "cut", "at": "first"}], "then": "ok"}
    assert control(simulator, "POST", "schedule", body).json == {"ok": True}
    assert [ask(simulator, provider="x", stream=True).ended for _ in range(3)] == ["kept", "eof", "kept"]
    counts = control(simulator, "GET", "counts").json
    assert counts["providers"]["x"]["outcomes"] == {"500": 1, "cut": 1, "ok": 1}
    assert counts["connections"]["opened"] == 5
    assert control(simulator, "POST", "reset").json == {"ok": True}
    assert control(simulator, "GET", "counts").json["providers"] == {}


@pytest.mark.parametrize(
    "body", [b"{", {"faults": ["cat"]}, {"fault": "500"}, {"then": {"kind": "ok", "at": 1}}, [], {"provider": 7}]
)
def test_control_refuses_what_it_does_not_know(provider_simulator: ProviderSimulator, body: Any) -> None:
    reply = control(provider_simulator, "POST", "schedule", body)
    assert reply.status == 400 and reply.json["error"]
    assert control(provider_simulator, "GET", "schedule").status == 404


def test_the_header_outranks_the_schedule(provider_simulator: ProviderSimulator) -> None:
    provider_simulator.schedule(then="500")
    assert ask(provider_simulator, fault="401").status == 401
    reply = ask(provider_simulator, fault="cat")
    assert reply.status == 400 and "unknown fault 'cat'" in reply.json["error"]["message"]


def test_a_delay_comes_before_any_answer(provider_simulator: ProviderSimulator) -> None:
    assert ask(provider_simulator, fault="ok; delay=30", quiet=0.2).raw == b""
    assert ask(provider_simulator, fault="ok; delay=0.01").status == 200


def test_paced_streams_come_event_by_event(provider_simulator: ProviderSimulator) -> None:
    reply = ask(provider_simulator, "openai", True, "ok; pace=0.002")
    assert reply.arrivals > 10 and text_of("openai", True, reply) == healthy_text(PROMPT)


# --- counts --------------------------------------------------------------------------------------------------


def test_requests_are_seen_as_they_came(provider_simulator: ProviderSimulator) -> None:
    ask(provider_simulator, "gemini", True, headers={"X-Goog-Api-Key": "secret"})
    counts = provider_simulator.counts()
    assert (counts["calls"], counts["in_flight"], counts["aborted"]) == (1, 0, 0)
    assert counts["models"] == {"simulator": 1}
    (seen,) = counts["requests"]
    assert seen["headers"]["x-goog-api-key"] == "secret" and seen["path"] == path_of("gemini", True)
    assert seen["body"]["contents"][0]["parts"] == [{"text": PROMPT}] and seen["stream"] is True
    assert provider_simulator.counts("nobody")["calls"] == 0


def test_what_is_kept_is_bounded(provider_simulator: ProviderSimulator) -> None:
    for number in range(KEPT_REQUESTS + 5):
        ask(provider_simulator, prompt=str(number))
    ask(provider_simulator, prompt="x" * 100_000)
    requests = provider_simulator.counts()["requests"]
    assert len(requests) == KEPT_REQUESTS and requests[-1]["body"] is None
    ledger = Ledger()
    for number in range(MAX_NAMES + 5):
        ledger.of(str(number)).calls += 1
    assert ledger.of(MANY).calls == 5 and len(ledger.shown()) == MAX_NAMES + 1


@pytest.mark.parametrize("fault", ["silence", "stall", "comments_only; seconds=0.001", "endless_event", "ok; delay=60"])
def test_a_client_that_leaves_is_noticed(provider_simulator: ProviderSimulator, fault: str) -> None:
    simulator = provider_simulator
    simulator.schedule(fault)
    with Wire(simulator.port) as wire:
        wire.send(CHAT)
        eventually(lambda: simulator.counts()["in_flight"] == 1)
        assert simulator.counts()["aborted"] == 0
    eventually(lambda: simulator.counts()["in_flight"] == 0)
    assert simulator.counts()["aborted"] == 1 and simulator.connections()["open"] == 0


# --- providers and paths -------------------------------------------------------------------------------------


def test_one_process_plays_a_chain(provider_simulator: ProviderSimulator) -> None:
    provider_simulator.schedule(provider="one", then="500")
    assert ask(provider_simulator, provider="one").status == 500
    for dialect in DIALECTS:
        assert ask(provider_simulator, dialect, provider="two").status == 200
    assert provider_simulator.counts("one")["calls"] == 1 and provider_simulator.counts("two")["calls"] == 3
    assert provider_simulator.base_url("openai", "one").endswith("/p/one/v1")
    assert provider_simulator.base_url("anthropic") == provider_simulator.url


@pytest.mark.parametrize(
    "path",
    ["/chat/completions", "/openai/v1/chat/completions", "/openai/deployments/d/chat/completions?api-version=1"],
)
def test_chat_has_many_paths(provider_simulator: ProviderSimulator, path: str) -> None:
    with Wire(provider_simulator.port) as wire:
        wire.send(request_bytes(path, request_body("openai", False)))
        assert text_of("openai", False, wire.reply()) == healthy_text(PROMPT)


def test_models_are_listed_in_each_dialect(provider_simulator: ProviderSimulator) -> None:
    def listed(path: str, headers: dict[str, str] | None = None) -> Any:
        with Wire(provider_simulator.port) as wire:
            wire.send(request_bytes(path, b"", headers, "GET"))
            return wire.reply().json

    assert listed("/v1/models")["object"] == "list"
    assert listed("/p/a/v1/models", {"anthropic-version": "2023-06-01"})["has_more"] is False
    assert listed("/v1beta/models")["models"][0]["name"].startswith("models/")
    assert "error" in listed("/v1/nothing")
    assert "error" in listed("/v1/chat/completions")


def test_several_simulators_and_dead_ports(provider_simulator: ProviderSimulator) -> None:
    other = provider_simulator.another("second")
    other.schedule(then="500")
    assert (ask(provider_simulator).status, ask(other).status) == (200, 500)
    assert other.counts("second")["calls"] == 1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", provider_simulator.dead_port()), timeout=5)


def test_the_port_can_be_closed_and_opened(provider_simulator: ProviderSimulator) -> None:
    simulator = provider_simulator
    with Wire(simulator.port) as idle:
        idle.send(CHAT)
        assert idle.reply().ended == "kept"
        simulator.close_port()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", simulator.port), timeout=5)
        simulator.open_port()
        assert ask(simulator).status == 200
        simulator.reset_connections()
        assert idle.after(CHAT) == "reset"


def test_a_port_in_use_is_an_error(provider_simulator: ProviderSimulator) -> None:
    before = threading.active_count()
    with pytest.raises(OSError, match="in use"):
        ProviderSimulator(port=provider_simulator.port)
    assert threading.active_count() == before


def test_stopping_leaves_no_thread() -> None:
    before = threading.active_count()
    with ProviderSimulator() as simulator, Wire(simulator.port) as wire:
        simulator.schedule("silence")
        wire.send(CHAT)
        eventually(lambda: simulator.counts()["in_flight"] == 1)
    simulator.stop()
    assert threading.active_count() == before


# --- HTTP, and harm ------------------------------------------------------------------------------------------


def test_requests_on_one_connection_are_answered_in_turn(provider_simulator: ProviderSimulator) -> None:
    with Wire(provider_simulator.port) as wire:
        assert [wire.after(CHAT) for _ in range(3)] == ["kept"] * 3
    provider_simulator.schedule("500", "401")
    with Wire(provider_simulator.port) as wire:
        wire.send(CHAT + CHAT.replace(b"host: simulator", b"host: simulator\r\nconnection: close"))
        reply = wire.reply()
        while wire.fill(reply):
            pass
    assert (reply.raw.count(b"HTTP/1.1 500"), reply.raw.count(b"HTTP/1.1 401"), reply.ended) == (1, 1, "eof")


def test_continue_is_said_before_the_body(provider_simulator: ProviderSimulator) -> None:
    head, _, body = CHAT.partition(b"\r\n\r\n")
    with Wire(provider_simulator.port) as wire:
        wire.send(head + b"\r\nexpect: 100-continue\r\n\r\n")
        first = wire.reply(0.2)
        assert first.raw == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(body)
        assert wire.reply().status == 200


HARM = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
    "endless head": (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 70_000, 431),
    "no JSON": (request_bytes("/v1/chat/completions", b"{"), 400),
    "no object": (request_bytes("/v1/chat/completions", [1]), 400),
    "no model": (request_bytes("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}), 400),
    "no turns": (request_bytes("/v1/chat/completions", {"model": "m"}), 400),
    "odd types": (request_bytes("/v1/chat/completions", {"model": "m", "messages": [7, None, {"role": []}]}), 200),
    "deep": (request_bytes("/v1/messages", b"[" * 100_000), 400),
    "many choices": (request_bytes("/v1/chat/completions", request_body("openai", False, n=10**9)), 400),
    "surrogates": (request_bytes("/v1/messages", request_body("anthropic", False, prompt="\ud800")), 400),
    "no limit": (request_bytes("/v1/messages", {"model": "m", "messages": [{"role": "user", "content": "x"}]}), 400),
    "upgrade": (CHAT.replace(b"host: simulator", b"host: x\r\nconnection: upgrade\r\nupgrade: h2c"), 400),
}


@pytest.mark.parametrize("kind", HARM)
def test_harm_is_survived(provider_simulator: ProviderSimulator, kind: str) -> None:
    data, status = HARM[kind]
    with Wire(provider_simulator.port) as wire:
        wire.send(data)
        assert wire.reply().status == status
    assert ask(provider_simulator).status == 200
    assert provider_simulator.counts()["in_flight"] == 0


@pytest.fixture
def many_files() -> Iterator[None]:
    """Both ends of every connection are files of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_thousand_connections_at_once() -> None:
    async def main() -> None:
        simulator = await Simulator.start()
        before = len(asyncio.all_tasks())

        async def one(number: int) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
            stream = number % 2 == 0
            writer.write(request_bytes(path_of("openai", stream), request_body("openai", stream)))
            data = b""
            while not data.endswith((b"[DONE]\n\n\r\n0\r\n\r\n", b"}}")):
                data += await reader.read(65536)
            await everyone.wait()
            writer.transport.abort()
            return data

        everyone = asyncio.Barrier(1000)
        answers = await asyncio.gather(*(one(number) for number in range(1000)))
        assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
        assert simulator.counts()["providers"]["simulator"]["calls"] == 1000
        await simulator.stop()
        assert (simulator.connections, len(asyncio.all_tasks())) == (0, before)

    run(main(), timeout=60)
