"""The admin listener: probes that never fail for a provider's outage, status, and fault injection."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from crossfade.config.loader import load_config
from crossfade.core.events import Event, RequestEnded
from crossfade.gateway import Gateway
from crossfade.providers.registry import VENDORS
from crossfade.testing import ProviderSimulator
from tests.support import run

Answer = tuple[int, Any]


class Forgetful:
    """A recorder that keeps nothing."""

    def record(self, event: Event, then: Callable[[], None] | None = None) -> None:
        if then is not None:
            then()

    def settle(self) -> None:
        """Nothing is kept."""

    def tell(self, event: Event) -> None:
        """Nobody wants to know here."""


def asked(port: int, method: str, path: str, body: object = None, **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        sent = None if body is None else json.dumps(body)
        given = {"content-type": "application/json"}
        given.update({name.replace("_", "-"): value for name, value in headers.items()})
        connection.request(method, path, sent, given)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@contextlib.asynccontextmanager
async def opened(tmp_path: Path, simulator: ProviderSimulator, more: str = "") -> AsyncIterator[Gateway]:
    """A gateway of two providers; `more` are further lines of its configuration."""
    file = tmp_path / "crossfade.yaml"
    one, two = (simulator.base_url("openai", name) for name in ("one", "two"))
    file.write_text(
        "server: {listen: 127.0.0.1:0, admin: 127.0.0.1:0}\n"
        f'providers: {{one: {{dialect: openai, base_url: "{one}"}}, two: {{dialect: openai, base_url: "{two}"}}}}\n'
        "routes: {chat: {chain: [one/model, two/model], retry: {delay: 0}, silence_timeout: 2s}}\n"
        f"{more}\n"
    )
    async with await Gateway.open(load_config(file, {}, VENDORS), {}, Forgetful()) as gateway:
        yield gateway


async def with_gateway(tmp_path: Path, simulator: ProviderSimulator, scene: Callable[[Gateway], Any]) -> Any:
    """Runs `scene` in a thread beside a gateway."""
    async with opened(tmp_path, simulator) as gateway:
        return await asyncio.to_thread(scene, gateway)


def chat(gateway: Gateway) -> Answer:
    body = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
    return asked(gateway.port, "POST", "/v1/chat/completions", body)


def test_it_stays_healthy_and_ready_while_every_provider_is_down(tmp_path: Path) -> None:
    with ProviderSimulator() as simulator:
        simulator.schedule(then="503")

        def scene(gateway: Gateway) -> None:
            for _ in range(8):
                assert chat(gateway)[0] in (502, 503)
            for port in (gateway.port, gateway.admin_port):
                assert asked(port, "GET", "/healthz")[0] == 200
                assert asked(port, "GET", "/readyz") == (200, {"status": "ready"})
            status, body = asked(gateway.admin_port, "GET", "/status")
            assert status == 200
            assert body["targets"]["one/model#0"]["breaker"] == "open"
            assert body["targets"]["one/model#0"]["available"] is False

        run(with_gateway(tmp_path, simulator, scene))


def test_status_is_not_served_on_the_public_listener(tmp_path: Path) -> None:
    with ProviderSimulator() as simulator:

        def scene(gateway: Gateway) -> None:
            assert asked(gateway.port, "GET", "/status")[0] == 404
            assert asked(gateway.port, "GET", "/faults")[0] == 404

        run(with_gateway(tmp_path, simulator, scene))


def test_an_injected_fault_makes_real_fallbacks_until_it_is_taken_away(tmp_path: Path) -> None:
    with ProviderSimulator() as simulator:

        def scene(gateway: Gateway) -> None:
            admin = gateway.admin_port
            fault = {"target": "one", "kind": "500", "expires_in": "1m"}
            status, body = asked(admin, "PUT", "/faults", [fault])
            assert status == 200
            assert [(f["target"], f["kind"], f["rate"]) for f in body["faults"]] == [("one", "500", 1.0)]
            assert chat(gateway)[0] == 200
            assert (simulator.counts("one")["calls"], simulator.counts("two")["calls"]) == (0, 1)
            assert asked(admin, "GET", "/faults")[1]["faults"]
            assert asked(admin, "DELETE", "/faults") == (200, {"faults": []})
            assert chat(gateway)[0] == 200
            assert simulator.counts("one")["calls"] == 1

        run(with_gateway(tmp_path, simulator, scene))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([{"target": "one", "kind": "bogus"}], "no kind of fault"),
        ([{"target": "nobody", "kind": "500"}], "no provider is called 'nobody'"),
        ([{"target": "one", "kind": "500", "rate": 2}], "rate"),
        ([{"target": "one", "kind": "500", "expires_in": "soon"}], "expires_in"),
        ([{"target": "one", "kind": "500", "color": 1}], "color"),
        ({"target": "one"}, "list"),
    ],
)
def test_a_bad_fault_is_refused_and_changes_nothing(tmp_path: Path, body: object, words: str) -> None:
    with ProviderSimulator() as simulator:

        def scene(gateway: Gateway) -> None:
            asked(gateway.admin_port, "PUT", "/faults", [{"target": "two", "kind": "503"}])
            status, answer = asked(gateway.admin_port, "PUT", "/faults", body)
            assert status == 400
            assert words in answer["error"]["message"]
            assert [f["target"] for f in asked(gateway.admin_port, "GET", "/faults")[1]["faults"]] == ["two"]

        run(with_gateway(tmp_path, simulator, scene))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"content_type": "text/plain"}, 415),
    ],
)
def test_web_pages_of_other_sites_cannot_inject(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    with ProviderSimulator() as simulator:

        def scene(gateway: Gateway) -> None:
            fault = [{"target": "one", "kind": "500"}]
            assert asked(gateway.admin_port, "PUT", "/faults", fault, **headers)[0] == status
            assert asked(gateway.admin_port, "GET", "/faults")[1] == {"faults": []}

        run(with_gateway(tmp_path, simulator, scene))


@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {"origin": "https://evil.example"}, {"sec_fetch_site": "cross-site"}]
)
def test_web_pages_of_other_sites_see_no_status_but_probes_are_answered(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    with ProviderSimulator() as simulator:

        def scene(gateway: Gateway) -> None:
            assert asked(gateway.admin_port, "GET", "/status", **headers)[0] == 403
            assert asked(gateway.admin_port, "GET", "/healthz", **headers)[0] == 200
            assert asked(gateway.admin_port, "GET", "/readyz", **headers)[0] == 200
            assert asked(gateway.admin_port, "GET", "/status")[0] == 200

        run(with_gateway(tmp_path, simulator, scene))


def test_a_reload_that_removes_a_provider_leaves_walks_under_way_alone(tmp_path: Path) -> None:
    async def main() -> None:
        with ProviderSimulator() as simulator:
            simulator.schedule("500; delay=1", provider="one")
            async with opened(tmp_path, simulator) as gateway:
                asking = asyncio.ensure_future(asyncio.to_thread(chat, gateway))
                async with asyncio.timeout(20):
                    while not simulator.counts("one")["calls"]:  # noqa: ASYNC110 - another thread's count
                        await asyncio.sleep(0.01)
                file = tmp_path / "fewer.yaml"
                one = simulator.base_url("openai", "one")
                file.write_text(
                    f'providers: {{one: {{dialect: openai, base_url: "{one}"}}}}\n'
                    "routes: {chat: {chain: [one/model]}}\n"
                )
                gateway.reload(load_config(file, {}, VENDORS), {})
                assert (await asking)[0] == 200
                assert simulator.counts("two")["calls"] == 1

    run(main())


def test_a_new_key_in_the_same_file_is_tried_at_once_after_a_reload(tmp_path: Path) -> None:
    """A refused credential is left out; what is said of it holds for that key, not for the next one."""

    async def main() -> None:
        with ProviderSimulator() as simulator:
            simulator.schedule("401", provider="one")
            key = tmp_path / "key"
            key.write_text("sk-first")
            file = tmp_path / "crossfade.yaml"
            one, two = (simulator.base_url("openai", name) for name in ("one", "two"))
            file.write_text(
                "server: {listen: 127.0.0.1:0, admin: 127.0.0.1:0}\n"
                f'providers: {{one: {{dialect: openai, base_url: "{one}", api_keys: ["file:{key}"]}}, '
                f'two: {{dialect: openai, base_url: "{two}"}}}}\n'
                "routes: {chat: {chain: [one/model, two/model]}}\n"
            )
            async with await Gateway.open(load_config(file, {}, VENDORS), {}, Forgetful()) as gateway:
                assert (await asyncio.to_thread(chat, gateway))[0] == 502
                assert (await asyncio.to_thread(chat, gateway))[0] == 200
                assert simulator.counts("one")["calls"] == 1, "left out"
                gateway.reload(load_config(file, {}, VENDORS), {})
                assert (await asyncio.to_thread(chat, gateway))[0] == 200
                assert simulator.counts("one")["calls"] == 1, "the same key is still left out"
                key.write_text("sk-second")
                gateway.reload(load_config(file, {}, VENDORS), {})
                assert (await asyncio.to_thread(chat, gateway))[0] == 200
                assert simulator.counts("one")["calls"] == 2

    run(main())


def test_on_a_public_address_the_status_wants_a_gateway_key(tmp_path: Path) -> None:
    key = "cf-0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"

    async def main() -> None:
        with ProviderSimulator() as simulator:
            file = tmp_path / "crossfade.yaml"
            file.write_text(
                "server: {listen: 127.0.0.1:0, admin: 0.0.0.0:0}\n"
                f'gateway_keys: [{{name: web, hash: "sha256:{hashlib.sha256(key.encode()).hexdigest()}"}}]\n'
                f'providers: {{one: {{dialect: openai, base_url: "{simulator.base_url("openai", "one")}"}}}}\n'
                "routes: {chat: {chain: [one/model]}}\n"
            )
            async with await Gateway.open(load_config(file, {}, VENDORS), {}, Forgetful()) as gateway:

                def scene() -> None:
                    port = gateway.admin_port
                    assert asked(port, "GET", "/readyz")[0] == 200
                    assert asked(port, "GET", "/status")[0] == 401
                    assert asked(port, "GET", "/status", authorization="Bearer cf-another")[0] == 401
                    assert asked(port, "GET", "/status", authorization=f"Bearer {key}")[0] == 200
                    assert asked(port, "GET", "/faults", authorization=f"Bearer {key}")[0] == 403

                await asyncio.to_thread(scene)

    run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_a_stop_ends_is_told_so_and_recorded_as_that(tmp_path: Path, stream: bool) -> None:
    class Kept(Forgetful):
        rows: ClassVar[list[RequestEnded]] = []

        def record(self, event: Event, then: Callable[[], None] | None = None) -> None:
            if isinstance(event, RequestEnded):
                self.rows.append(event)
            super().record(event, then)

    async def main() -> None:
        with ProviderSimulator() as simulator:
            simulator.schedule("stall@middle" if stream else "silence", provider="one")
            file = tmp_path / "crossfade.yaml"
            file.write_text(
                "server: {listen: 127.0.0.1:0, admin: 127.0.0.1:0}\n"
                f'providers: {{one: {{dialect: openai, base_url: "{simulator.base_url("openai", "one")}"}}}}\n'
                "routes: {chat: {chain: [one/model]}}\n"
            )
            gateway = await Gateway.open(load_config(file, {}, VENDORS), {}, Kept())
            body = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "stream": stream}

            def ask() -> tuple[int, str]:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
                connection.request(
                    "POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"}
                )
                answer = connection.getresponse()
                try:
                    return answer.status, answer.read().decode()
                finally:
                    connection.close()

            port = gateway.port
            asking = asyncio.ensure_future(asyncio.to_thread(ask))
            async with asyncio.timeout(20):
                while not any(runner.bytes_out or not stream for runner in gateway.engine.runners):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await gateway.close(0.2)
            status, text = await asking
            assert (status, '"code":"shutting_down"' in text) == (200 if stream else 503, True)
            (row,) = Kept.rows[-1:]
            assert (row.status, row.error, row.in_band_error) == (200 if stream else 503, "shutting_down", stream)
            assert row.attempts[0].detail == "the gateway was stopped"

    run(main())


@pytest.mark.parametrize("field", ["temperature", "seed", "max_tokens", "top_p", "presence_penalty"])
def test_a_number_out_of_all_bounds_is_refused_and_holds_nothing(tmp_path: Path, field: str) -> None:
    async def main() -> None:
        with ProviderSimulator() as simulator:
            file = tmp_path / "crossfade.yaml"
            base = simulator.base_url("anthropic", "one")
            file.write_text(
                "server: {listen: 127.0.0.1:0, admin: 127.0.0.1:0}\n"
                f'providers: {{one: {{dialect: anthropic, base_url: "{base}"}}}}\n'
                "routes: {chat: {chain: [one/claude-opus-5]}}\n"
            )
            async with await Gateway.open(load_config(file, {}, VENDORS), {}, Forgetful()) as gateway:
                body = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], field: 10**400}
                path = "/v1/chat/completions"
                status, said = await asyncio.to_thread(asked, gateway.port, "POST", path, body)
                assert (status, f"`{field}`" in said["error"]["message"]) == (400, True), said
                assert not gateway.engine.runners
                assert gateway.board.targets["one/claude-opus-5#0"].in_flight == 0

    run(main())


# --- the balance ---------------------------------------------------------------------------------------------

POOLED = """
server: {{listen: 127.0.0.1:0, admin: 127.0.0.1:0}}
providers: {{one: {{dialect: openai, base_url: "{one}"}}, two: {{dialect: openai, base_url: "{two}"}}}}
routes:
  chat: {{chain: [{{pool: weighted, of: [one/m, {{target: two/m, weight: 3}}]}}]}}
  plain: {{chain: [one/m, two/m]}}
"""
POOL = "routes.chat.chain[0]"


@contextlib.asynccontextmanager
async def pooled(tmp_path: Path, simulator: ProviderSimulator) -> AsyncIterator[Gateway]:
    file = tmp_path / "crossfade.yaml"
    one, two = (simulator.base_url("openai", name) for name in ("one", "two"))
    file.write_text(POOLED.format(one=one, two=two))
    async with await Gateway.open(load_config(file, {}, VENDORS), {}, Forgetful()) as gateway:
        yield gateway


def served(gateway: Gateway, model: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    try:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return f"{answer.status} {answer.headers.get('x-crossfade-provider')}"
    finally:
        connection.close()


def test_weights_are_changed_and_targets_drained_while_it_runs(tmp_path: Path) -> None:
    async def main(simulator: ProviderSimulator) -> None:
        async with pooled(tmp_path, simulator) as gateway:

            def balance(method: str, body: object = None) -> Answer:
                return asked(gateway.admin_port, method, "/balance", body)

            def conversation() -> None:
                status, shown = balance("GET")
                assert (status, shown["drained"]) == (200, [])
                members = [(one["member"], one["weight"], one["configured"]) for one in shown["pools"][0]["members"]]
                assert (shown["pools"][0]["pool"], members) == (POOL, [("one/m", 1.0, 1.0), ("two/m", 3.0, 3.0)])
                change = {"weights": [{"pool": POOL, "member": "two/m", "weight": 0}]}
                assert balance("PUT", change)[1]["pools"][0]["members"][1]["weight"] == 0
                assert {served(gateway, "chat") for _ in range(12)} == {"200 one"}
                balance("PUT", {"drained": ["one"]})
                assert {served(gateway, "chat") for _ in range(6)} == {"200 two"}
                assert {served(gateway, "plain") for _ in range(6)} == {"200 two"}
                balance("PUT", {"drained": ["*"]})
                assert served(gateway, "plain") == "503 None"
                assert balance("DELETE")[1]["drained"] == []
                assert served(gateway, "plain") == "200 one"

            await asyncio.to_thread(conversation)

    with ProviderSimulator() as simulator:
        run(main(simulator))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"drained": ["three"]}, "'three' is no target of any route; there are one/m, two/m"),
        ({"weights": [{"pool": "x", "member": "one/m", "weight": 1}]}, f"there is no pool 'x'; there are {POOL}"),
        ({"weights": [{"pool": POOL, "member": "x", "weight": 1}]}, "'x' is none of one/m, two/m"),
        ({"weights": [{"pool": POOL, "member": "one/m", "weight": -1}]}, "must be from 0"),
        ({"weight": []}, "unknown field"),
        ([], "must have"),
    ],
)
def test_a_wrong_change_of_the_balance_changes_nothing(tmp_path: Path, change: object, words: str) -> None:
    async def main(simulator: ProviderSimulator) -> None:
        async with pooled(tmp_path, simulator) as gateway:

            def conversation() -> None:
                asked(gateway.admin_port, "PUT", "/balance", {"drained": ["one"]})
                status, answer = asked(gateway.admin_port, "PUT", "/balance", change)
                assert status == 400
                assert words in answer["error"]["message"]
                assert asked(gateway.admin_port, "GET", "/balance")[1]["drained"] == ["one"]

            await asyncio.to_thread(conversation)

    with ProviderSimulator() as simulator:
        run(main(simulator))
