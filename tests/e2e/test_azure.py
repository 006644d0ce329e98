"""Azure OpenAI by both of its APIs: deployments in the path with a version by date, and `/openai/v1`."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from crossfade.simulator.embeddings import vector_of
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import (
    DONE,
    EVENT_STREAM,
    JSON_BODY,
    MESSAGES,
    TEXT,
    RawProvider,
    Stage,
    chain_stage,
    chunk,
    new_mark,
    run,
    stage,
)

ENVIRON = {"AZURE_KEY": "azure-0123456789"}
DATED = "/deployments/prod-chat/chat/completions?api-version=2024-10-21"
TEXTS = ["The otters sleep", "in the last of the sun"]
FILTERED: dict[str, Any] = {
    "id": "", "object": "", "created": 0, "model": "", "choices": [],
    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False}}}],
}  # fmt: skip


def config(simulator: ProviderSimulator, mark: str, api: str, more: str = "") -> str:
    """Azure first, by the API with a date or by `v1`; an ordinary provider behind it."""
    path, version = ("openai/v1", "") if api == "v1" else ("openai", ", api_version: 2024-10-21")
    return f"""\
server: {{listen: '127.0.0.1:0', admin: '127.0.0.1:0'}}
providers:
  {mark}azure:
    vendor: azure
    base_url: {simulator.url}/p/{mark}azure/{path}
    api_keys: [env:AZURE_KEY]{version.replace(", ", chr(10) + "    ")}
    models: {{gpt-5.4: {{deployment: prod-chat}}, text-embedding-3-small: {{deployment: prod-vectors}}}}
  {mark}next: {{dialect: openai, base_url: {simulator.url}/p/{mark}next/v1}}
routes:
  chat: {{chain: [{mark}azure/gpt-5.4, {mark}next/gpt-5.4]{more}}}
  search: {{chain: [{mark}azure/text-embedding-3-small, {mark}next/text-embedding-3-small]}}
"""


def last_call(made: Stage) -> dict[str, Any]:
    seen: dict[str, Any] = made.counts("azure")["requests"][-1]
    return seen


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("api", "path"), [("dated", f"/openai{DATED}"), ("v1", "/openai/v1/chat/completions")])
def test_a_chat_is_answered_by_a_deployment(simulator: ProviderSimulator, api: str, path: str, stream: bool) -> None:
    async def main() -> None:
        mark = new_mark()
        text = config(simulator, mark, api, ", stream_upstream: false")
        async with stage(text, simulator, mark, environ=ENVIRON) as made:
            answer = await made.ask(stream=stream)
            assert answer.text == TEXT and answer.finishes == ["stop"] and answer.usage is not None
            seen = last_call(made)
            assert seen["path"].endswith(path) and seen["stream"] is stream and seen["model"] == "prod-chat"
            assert seen["headers"]["api-key"] == "azure-0123456789" and "authorization" not in seen["headers"]
            assert made.record.last.served == f"{mark}azure/gpt-5.4"
            # a deployment that no setting names is a model of its own name
            await made.ask(model=f"{mark}azure/other", stream=stream)
            assert last_call(made)["path"].endswith(path.replace("prod-chat", "other"))

    run(main())


@pytest.mark.parametrize("api", ["dated", "v1"])
@pytest.mark.parametrize("is_down", [False, True])
def test_embeddings_come_from_a_deployment_or_the_same_model_elsewhere(
    simulator: ProviderSimulator, api: str, is_down: bool
) -> None:
    async def main() -> None:
        mark = new_mark()
        async with stage(config(simulator, mark, api), simulator, mark, environ=ENVIRON) as made:
            if is_down:
                made.schedule("azure", then="503")
            answer = await made.client.embeddings.create(model="search", input=TEXTS)
            assert [one.embedding for one in answer.data] == [vector_of(text) for text in TEXTS]
            seen = last_call(made)
            dated = "/openai/deployments/prod-vectors/embeddings?api-version=2024-10-21"
            assert seen["path"].endswith(dated if api == "dated" else "/openai/v1/embeddings")
            assert seen["body"]["model"] == "prod-vectors"
            assert made.record.last.fallbacks == int(is_down)

    run(main())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["404", "429", "500", "cut@start"])
def test_another_provider_answers_where_azure_fails(simulator: ProviderSimulator, fault: str, stream: bool) -> None:
    async def main() -> None:
        mark = new_mark()
        text = config(simulator, mark, "dated", ", retry: {delay: 0}")
        async with stage(text, simulator, mark, environ=ENVIRON) as made:
            made.schedule("azure", then=fault)
            answer = await made.ask(stream=stream)
            assert answer.text == TEXT
            row = made.record.last
            assert (row.fallbacks, row.served) == (1, f"{mark}next/gpt-5.4")

    run(main())


def test_a_stream_of_azures_that_was_cut_goes_on_elsewhere(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        mark = new_mark()
        async with stage(config(simulator, mark, "dated"), simulator, mark, environ=ENVIRON) as made:
            made.schedule("azure", then="cut@middle")
            answer = await made.ask(stream=True)
            assert answer.text == TEXT
            (joined,) = answer.extra["joined"]
            assert (joined["from"], joined["to"]) == (f"{mark}azure/gpt-5.4", f"{mark}next/gpt-5.4")

    run(main())


def azure_stage(simulator: ProviderSimulator, raw: RawProvider) -> Any:
    base = raw.yaml.replace("/v1'", "/openai'")
    more = {"a": f"vendor: azure, api_version: 2024-10-21, api_keys: [], {base}"}
    return chain_stage(
        simulator, {"a": "openai", "b": "openai"}, "stream_upstream: false, retry: {delay: 0}", more=more
    )


def test_a_first_chunk_about_the_prompt_is_no_content(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        first = b"data: " + json.dumps(FILTERED).encode() + b"\n\n"
        whole = [EVENT_STREAM, first, chunk({"content": "All is well."}), chunk(finish="stop"), DONE]
        asked: Any = {"model": "chat", "messages": MESSAGES, "stream": True}
        raw = RawProvider()
        async with raw.serving(whole, [EVENT_STREAM, first]), azure_stage(simulator, raw) as made:
            chunks = [one async for one in await made.client.chat.completions.create(**asked)]
            assert (chunks[0].id, chunks[0].choices) == ("", []), "the caller gets it as Azure sent it"
            assert "".join(one.choices[0].delta.content or "" for one in chunks[1:]) == "All is well."
            assert made.record.last.fallbacks == 0
            # It commits nothing: a stream that ends behind it is the next provider's.
            answer = await made.ask(stream=True)
            assert answer.text == TEXT and made.record.reasons() == [
                (f"{made.mark}a", "stream_interrupted"),
                (f"{made.mark}b", None),
            ]

    run(main())


def test_a_filtered_prompt_is_told_as_azure_tells_it(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        mark = new_mark()
        async with stage(config(simulator, mark, "dated"), simulator, mark, environ=ENVIRON) as made:
            made.schedule("azure", then="content_filter")
            with pytest.raises(openai.BadRequestError) as caught:
                await made.ask()
            assert caught.value.code == "content_filter"
            (attempt,) = made.record.last.attempts
            assert attempt.reason == "content_filter" and made.calls("next") == [0]

    run(main())


def test_a_filtered_answer_without_a_message_is_delivered_as_filtered(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        choice = {"index": 0, "finish_reason": "content_filter", "content_filter_results": {"hate": {"filtered": True}}}
        body = json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})
        raw = RawProvider()
        async with raw.serving([JSON_BODY, body.encode()]), azure_stage(simulator, raw) as made:
            answer = await made.client.chat.completions.with_raw_response.create(model="chat", messages=MESSAGES)
            (given,) = json.loads(answer.text)["choices"]
            assert given["finish_reason"] == "content_filter" and made.record.last.fallbacks == 0

    run(main())
