"""Embeddings through the gateway, with the official SDK: the same fallback, within one embedding model."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from crossfade.simulator.embeddings import vector_of
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import Stage, chain_stage, run

TEXTS = ["The otters sleep", "in the last of the sun"]
MODEL = "text-embedding-3-small"
ONE_MODEL = {"a": f"openai:{MODEL}", "b": f"openai:{MODEL}"}
EVERY_DIALECT = {"a": "openai:embed-1", "b": "gemini:embed-1"}
COHERE_TOO = {"a": "openai:embed-1", "b": "cohere:embed-1"}
OLLAMA_TOO = {"a": "ollama:embed-1", "b": "openai:embed-1"}


async def vectors(stage: Stage, **fields: Any) -> list[list[float]]:
    answer = await stage.client.embeddings.create(**{"model": "chat", "input": TEXTS, **fields})
    assert [one.index for one in answer.data] == list(range(len(answer.data)))
    assert answer.model and answer.usage.total_tokens >= 0
    return [one.embedding for one in answer.data]


WANTED = [vector_of(text) for text in TEXTS]


@pytest.mark.parametrize(
    "chain", [ONE_MODEL, EVERY_DIALECT, COHERE_TOO, OLLAMA_TOO], ids=["openai", "gemini", "cohere", "ollama"]
)
@pytest.mark.parametrize("encoding", [None, "float", "base64"])
@pytest.mark.parametrize("is_down", [False, True])
def test_every_form_of_vectors_from_every_dialect(
    simulator: ProviderSimulator, chain: dict[str, str], encoding: str | None, is_down: bool
) -> None:
    async def main() -> None:
        async with chain_stage(simulator, chain) as stage:
            if is_down:
                stage.schedule("a", then="503")
            fields = {} if encoding is None else {"encoding_format": encoding}
            found = await vectors(stage, **fields)
            if encoding == "base64":
                assert all(isinstance(one, str) for one in found), "the SDK leaves what was asked for as it is"
            else:
                assert found == WANTED
            one = await vectors(stage, input="one", **fields)
            assert one == [vector_of("one")] or (encoding == "base64" and len(one) == 1)
            assert [len(one) for one in await vectors(stage, dimensions=4)] == [4, 4]
            row = stage.record.last
            assert (row.endpoint, row.fallbacks, row.status) == ("embeddings", int(is_down), 200)

    run(main())


def test_a_bad_request_and_a_failed_chain_are_told_as_everywhere(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, ONE_MODEL, "retry: {delay: 0}") as stage:
            with pytest.raises(openai.BadRequestError) as bad:
                await vectors(stage, input="")
            assert bad.value.param == "input" and stage.calls("a", "b") == [0, 0]
            stage.schedule("a", then="500")
            stage.schedule("b", then="500")
            with pytest.raises(openai.InternalServerError) as failed:
                await vectors(stage)
            assert failed.value.code == "chain_exhausted" and "2 targets" in str(failed.value)

    run(main())


def test_a_model_without_embeddings_is_passed_over_and_named(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "anthropic:embed-1", "b": "openai:embed-1"}) as stage:
            stage.schedule("b")
            assert await vectors(stage) == WANTED
            assert stage.calls("a", "b") == [0, 1]

    run(main())


def test_vectors_of_two_models_are_never_mixed(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": "openai:embed-1", "b": "openai:embed-2"}) as stage:
            with pytest.raises(openai.BadRequestError, match="cannot be mixed"):
                await vectors(stage)
            name = f"{stage.mark}a/embed-1"
            assert await vectors(stage, model=name) == WANTED
            with pytest.raises(openai.BadRequestError, match="cannot be mixed") as other:
                await vectors(stage, model=name, extra_body={"fallback_models": [f"{stage.mark}b/embed-2"]})
            assert other.value.param == "fallback_models"
            with pytest.raises(openai.BadRequestError, match="cannot be mixed"):
                await vectors(stage, model=f"{name}, {stage.mark}b/embed-2")
            assert stage.calls("b") == [0]

    run(main())


def test_fallbacks_behind_every_other_name_are_for_chats(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        tail = "fallbacks: {'*': ['{mark}b/gpt-5.4']}"
        async with chain_stage(simulator, {"a": "openai", "b": "openai"}, tail=tail) as stage:
            name = f"{stage.mark}a/{MODEL}"
            assert await vectors(stage, model=name) == WANTED
            stage.schedule("a", then="503")
            with pytest.raises(openai.InternalServerError):
                await vectors(stage, model=name)
            assert stage.calls("b") == [0]

    run(main())


def test_targets_that_are_declared_to_be_one_model_stand_in_for_each_other(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        more = {"b": "models: {my-deployment: {embedding: text-embedding-3-small}}"}
        chain = {"a": f"openai:{MODEL}", "b": "openai:my-deployment"}
        async with chain_stage(simulator, chain, more=more) as stage:
            stage.schedule("a", then="503")
            assert await vectors(stage) == WANTED
            assert stage.record.last.served == f"{stage.mark}b/my-deployment"

    run(main())


def test_the_same_bytes_go_on_and_come_back(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, ONE_MODEL) as stage:
            body = b'{"input": "x", "model": "chat", "new_field": {"a": [1.0, null]}}'
            answer = await stage.client._client.post(
                f"{stage.url}/v1/embeddings", content=body, headers={"content-type": "application/json"}
            )
            assert answer.status_code == 200 and answer.headers["x-crossfade-route"] == "chat"
            seen = stage.counts("a")["requests"][-1]
            assert seen["path"].endswith("/v1/embeddings")
            assert seen["body"] == {"input": "x", "model": MODEL, "new_field": {"a": [1.0, None]}}
            assert answer.json()["data"][0]["embedding"] == vector_of("x")

    run(main())
