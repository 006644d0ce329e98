"""Probes over real sockets: a provider that is gone is found again, and a secondary that is gone is noticed."""

from __future__ import annotations

import asyncio

from crossfade.core.events import ProviderProbed
from crossfade.core.policy import BreakerPolicy, HealthPolicy
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import QUICK, TEXT, chain_stage, run, until

TWO = {"a": "openai", "b": "anthropic"}
NEVER_BY_ITSELF = HealthPolicy(breaker=BreakerPolicy(open_time=300.0, ramp=0.1))


def test_a_primary_that_was_gone_is_asked_again_long_before_its_breaker_is_due() -> None:
    async def main(first: ProviderSimulator, second: ProviderSimulator) -> None:
        tail = "probes: {every: 500ms}"
        more = {"a": f"base_url: '{first.base_url('openai', 'x')}'"}
        route = f"{QUICK}, retry: {{delay: 0s}}"
        async with chain_stage(second, TWO, route, more=more, tail=tail, health=NEVER_BY_ITSELF) as stage:
            first.close_port()
            for _ in range(6):
                assert (await stage.ask()).headers["x-crossfade-provider"] == f"{stage.mark}b"
            await until(lambda: bool(stage.record.told_of(ProviderProbed)))
            assert not stage.record.told_of(ProviderProbed)[0].is_well
            first.open_port()
            await until(lambda: stage.record.told_of(ProviderProbed)[-1].is_well)
            served = [(await stage.ask()).headers["x-crossfade-provider"] for _ in range(3)]
            assert f"{stage.mark}a" in served

    with ProviderSimulator() as first, ProviderSimulator() as second:
        run(main(first, second))


def test_a_secondary_that_nobody_asks_is_looked_at(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        more = {"b": f"base_url: 'http://127.0.0.1:{simulator.dead_port()}'"}
        async with chain_stage(simulator, TWO, QUICK, more=more, tail="probes: {idle: 500ms}") as stage:
            assert (await stage.ask()).text == TEXT
            await until(lambda: bool(stage.record.told_of(ProviderProbed)))
            event = stage.record.told_of(ProviderProbed)[0]
            assert (event.provider, event.is_well) == (f"{stage.mark}b", False)
            assert "connect_error" in event.detail

    run(main())


def test_a_paid_probe_takes_the_trial_of_a_silent_target(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        health = HealthPolicy(breaker=BreakerPolicy(open_time=0.5, ramp=0.1))
        prices = "models: {gpt-5.4: {price_in: 1, price_out: 2}}"
        route = f"{QUICK.replace('2s', '1s')}, retry: {{delay: 0s}}"
        tail = "probes: {every: 0s, paid_usd: 1}"
        async with chain_stage(simulator, TWO, route, more={"a": prices}, tail=tail, health=health) as stage:
            stage.schedule("a", "silence", "silence")
            for temperature in (0.1, 0.2):
                assert (await stage.ask(stream=True, temperature=temperature)).text == TEXT
            await until(lambda: any(row.key == "probe" for row in stage.record.ended))
            row = next(row for row in stage.record.ended if row.key == "probe")
            assert (row.route, row.attempts[0].mode) == ("probe", "trial")
            await asyncio.sleep(0)
            assert stage.gateway.prober.probing.spent > 0

    run(main())


def test_ollama_is_asked_for_its_tags() -> None:
    """Its list of models is called otherwise; a path that is not there would say as much, and no more."""
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    async def main(simulator: ProviderSimulator) -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        more = {"b": f"base_url: 'http://127.0.0.1:{server.sockets[0].getsockname()[1]}'"}
        chain = {"a": "openai", "b": "ollama"}
        async with server, chain_stage(simulator, chain, QUICK, more=more, tail="probes: {idle: 500ms}") as stage:
            assert (await stage.ask()).text == TEXT
            await until(lambda: bool(stage.record.told_of(ProviderProbed)))
        assert asked[0] == b"GET /api/tags HTTP/1.1\r\n"

    with ProviderSimulator() as simulator:
        run(main(simulator))
