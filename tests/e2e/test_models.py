"""`GET /v1/models` over real sockets: the official SDK lists and finds what its key may use; no provider is asked."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
from typing import Any

import openai
import pytest

from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import Stage, chain_stage, chain_yaml, config_of, run, sdk

TWO = {"a": "openai", "b": "anthropic"}
KEYS = {"bound": "cf-bound-0123456789abcdef", "free": "cf-free-0123456789abcdef"}
HASHES = {name: "sha256:" + hashlib.sha256(key.encode()).hexdigest() for name, key in KEYS.items()}
NAMES = "\n  other: {chain: ['{mark}b/claude-opus-5'], match: [gpt-4o, exact/name, otter-*]}\n"
KEYED = f"""{NAMES}
gateway_keys: [{{name: bound, hash: '{HASHES["bound"]}', route: other}}, {{name: free, hash: '{HASHES["free"]}'}}]
"""
VERSION = {"anthropic-version": "2023-06-01"}


class Got:
    """An answer without any SDK: what matters is on the wire."""

    def __init__(self, status: int, headers: dict[str, str], text: bytes):
        self.status = status
        self.headers = headers
        self.text = text

    @property
    def json(self) -> Any:
        return json.loads(self.text)


async def got(stage: Stage, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Got:
    def ask() -> Got:
        connection = http.client.HTTPConnection("127.0.0.1", stage.gateway.port, timeout=10)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return Got(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


async def listed(client: openai.AsyncOpenAI) -> list[str]:
    return [model.id async for model in client.models.list()]


def calls(stage: Stage) -> int:
    return sum(stage.calls("a", "b"))


def test_the_sdk_lists_and_finds_models_and_no_provider_is_asked(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, TWO, tail=NAMES) as stage:
            a, b = f"{stage.mark}a/gpt-5.4", f"{stage.mark}b/claude-opus-5"
            names = ["chat", "other", "gpt-4o", "exact/name", a, b]
            assert await listed(stage.client) == names
            for name in [*names, "otter-9", f"{stage.mark}b/some/other:model", f"{a}, {b}"]:
                model = await stage.client.models.retrieve(name)
                assert (model.id, model.object, model.created) == (name, "model", 0)
            found = await stage.client.models.retrieve("chat")
            assert found.owned_by == "crossfade"
            shown = (found.model_extra or {})["crossfade"]
            assert (shown["route"], shown["chain"]) == ("chat", [a, b])
            assert [target["target"] for target in shown["targets"]] == [a, b]
            with pytest.raises(openai.NotFoundError) as unknown:
                await stage.client.models.retrieve("chta")
            assert unknown.value.code == "model_not_found"
            assert "unknown model 'chta'; did you mean 'chat'?" in unknown.value.message
            assert calls(stage) == 0
            assert stage.record.ended == []

    run(main())


def test_the_synchronous_sdk_lists_too(simulator: ProviderSimulator) -> None:
    def ask(url: str) -> list[str]:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
            return [client.models.retrieve(model.id).id for model in client.models.list()]

    async def main() -> None:
        async with chain_stage(simulator, TWO) as stage:
            assert (await asyncio.to_thread(ask, stage.url))[0] == "chat"

    run(main())


def test_a_key_sees_what_it_may_use(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, TWO, tail=KEYED) as stage:
            bound, free = (sdk(stage.url, api_key=KEYS[name]) for name in ("bound", "free"))
            assert await listed(bound) == ["other", "gpt-4o", "exact/name"]
            assert (await listed(free))[:2] == ["chat", "other"]
            assert (await bound.models.retrieve("otter-1")).id == "otter-1"
            assert (await free.models.retrieve("chat")).id == "chat"
            with pytest.raises(openai.NotFoundError) as unknown:
                await bound.models.retrieve("chat")
            assert "known are other, gpt-4o, exact/name" in str(unknown.value)
            with pytest.raises(openai.AuthenticationError) as refused:
                await listed(stage.client)
            assert refused.value.code == "invalid_api_key"
            with pytest.raises(openai.AuthenticationError):
                await stage.client.models.retrieve("chat")
            by_header = await got(stage, "/v1/models", x_api_key=KEYS["bound"])
            assert [model["id"] for model in by_header.json["data"]] == ["other", "gpt-4o", "exact/name"]

    run(main())


def test_the_paths_and_methods(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, TWO, tail=NAMES) as stage:
            whole = await got(stage, "/v1/models")
            assert whole.status == 200
            assert (whole.headers["content-type"], whole.headers["cache-control"]) == ("application/json", "no-store")
            for path in ("/models", "/v1/models?limit=1&after_id=nowhere", "/models?"):
                assert (await got(stage, path)).text == whole.text
            one = await got(stage, "/v1/models/exact/name")
            assert (one.status, one.json["id"]) == (200, "exact/name")
            for path in ("/models/exact/name", "/v1/models/exact%2Fname", "/v1/models/exact%2fname?x=1"):
                assert (await got(stage, path)).text == one.text
            for path, twin in (("/v1/models", whole), ("/models/exact/name", one)):
                head = await got(stage, path, "HEAD")
                assert (head.status, head.text) == (200, b"")
                assert head.headers["content-length"] == str(len(twin.text))
            for method in ("POST", "DELETE", "PUT", "OPTIONS"):
                for path in ("/v1/models", "/models/chat"):
                    refused = await got(stage, path, method)
                    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
                    assert refused.json["error"]["code"] == "method_not_allowed"
            for path in ("/v1/models/", "/v1/modelsx", "/v1/models%2Fchat"):
                assert (await got(stage, path)).json["error"]["code"] == "not_found"
            head = await got(stage, "/v1/models/unheard-of", "HEAD")
            assert (head.status, head.text) == (404, b"")
            assert (await got(stage, "/v1/models", body=b"{}")).status == 200
            assert calls(stage) == 0

    run(main())


def test_web_pages_of_other_sites_see_no_models(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, TWO) as stage:
            for name, value in {
                "host": "evil.example",
                "origin": "https://evil.example",
                "sec_fetch_site": "cross-site",
            }.items():
                assert (await got(stage, "/v1/models", **{name: value})).status == 403

    run(main())


def test_callers_of_anthropics_api_get_its_shape(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, TWO, tail=NAMES) as stage:
            first = await got(stage, "/v1/models?limit=2", **VERSION)
            assert first.json == {
                "data": [
                    {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
                    for name in ("chat", "other")
                ],
                "has_more": True,
                "first_id": "chat",
                "last_id": "other",
            }
            rest = (await got(stage, "/v1/models?after_id=other", **VERSION)).json
            assert [model["id"] for model in rest["data"]][:2] == ["gpt-4o", "exact/name"]
            assert rest["has_more"] is False
            one = await got(stage, "/v1/models/exact/name", **VERSION)
            assert (one.json["type"], one.json["id"]) == ("model", "exact/name")
            assert (await got(stage, "/v1/models?limit=0", **VERSION)).status == 400
            assert (await got(stage, "/v1/models/unheard-of", **VERSION)).status == 404

    run(main())


def test_after_a_reload_the_new_models_are_listed(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, TWO) as stage:
            assert (await listed(stage.client))[0] == "chat"
            text = chain_yaml(simulator, stage.mark, TWO).replace("chat:", "talk:")
            stage.gateway.reload(config_of(text), {})
            assert (await listed(stage.client))[0] == "talk"
            assert (await stage.client.models.retrieve("talk")).id == "talk"
            with pytest.raises(openai.NotFoundError):
                await stage.client.models.retrieve("chat")

    run(main())
