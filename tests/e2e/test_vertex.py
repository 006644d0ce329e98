"""Vertex AI end to end: callers of chat and of messages, fallback from it and to it, and a token that is renewed."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from crossfade.simulator.embeddings import vector_of
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e import messages
from tests.e2e.harness import QUICK, TEXT, chain_stage, config_of, new_mark, run
from tests.e2e.harness import stage as made_stage
from tests.e2e.test_dialects import asked, check

ORDERS = [("vertex", "openai"), ("anthropic", "vertex"), ("vertex-claude", "vertex"), ("gemini", "vertex-claude")]


@pytest.mark.parametrize("mode", ["buffered", "assembled", "streamed"])
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_chat_callers_get_the_same_from_either(simulator: ProviderSimulator, order: tuple[str, str], mode: str) -> None:
    """Images, tools, parallel calls, a JSON Schema and thinking, of the first target and after a fallback."""

    async def main() -> None:
        upstream = "" if mode == "streamed" else f", stream_upstream: {'true' if mode == 'assembled' else 'false'}"
        async with chain_stage(simulator, dict(zip("ab", order, strict=True)), QUICK + upstream) as stage:
            for what, broken in itertools.product(("image", "tools", "parallel", "json", "thinking"), (False, True)):
                stage.forget_health()
                if broken:
                    stage.schedule("a", "503")
                answer = await stage.ask(stream=mode == "streamed", **asked(what))
                check(what, answer)
                assert answer.headers["x-crossfade-provider"] == stage.mark + ("b" if broken else "a")

    run(main())


@pytest.mark.parametrize("mode", ["buffered", "streamed"])
@pytest.mark.parametrize("dialect", ["vertex", "vertex-claude"])
def test_messages_callers_are_answered_in_their_own_form(simulator: ProviderSimulator, dialect: str, mode: str) -> None:
    """Claude's own answers pass as they came, signatures and all."""

    async def main() -> None:
        upstream = "" if mode == "streamed" else ", stream_upstream: false"
        async with chain_stage(simulator, {"a": dialect, "b": "anthropic"}, QUICK + upstream) as stage:
            stream = mode == "streamed"
            answer = await messages.ask(stage, stream=stream, tools=[messages.WEATHER], tool_choice={"type": "any"})
            assert answer.calls == [("weather", {"city": "text", "days": 1})] and answer.stop_reason == "tool_use"
            asked_for = [{"role": "user", "content": f"{messages.PROMPT} [[think]]"}]
            answer = await messages.ask(stage, stream=stream, messages=asked_for)
            assert answer.thinking and answer.text == TEXT
            assert bool(answer.blocks[0]["signature"]) == (dialect == "vertex-claude")
            body = stage.counts("a")["requests"][-1]["body"]
            assert ("anthropic_version" in body) == (dialect == "vertex-claude") and "model" not in body
            assert stage.calls("b") == [0]
            if stream:
                stage.schedule("a", "cut@middle")
                answer = await messages.ask(stage, stream=True)
                assert answer.text == TEXT and len(answer.extra["joined"]) == 1

    run(main())


def test_a_token_that_is_renewed_in_its_file_is_sent_after_a_reload(
    simulator: ProviderSimulator, tmp_path: Path
) -> None:
    async def main() -> None:
        token, mark = tmp_path / "token", new_mark()
        token.write_text("ya29.first\n")
        url = simulator.base_url("vertex", f"{mark}a")
        text = (
            "server: {listen: '127.0.0.1:0', admin: '127.0.0.1:0'}\n"
            f"providers: {{{mark}a: {{vendor: vertex, base_url: '{url}', api_keys: ['file:{token}']}}}}\n"
            f"routes: {{chat: {{chain: [{mark}a/gemini-2.5-pro]}}}}\n"
        )
        async with made_stage(text, simulator, mark) as stage:
            for wanted in ("ya29.first", "ya29.second"):
                token.write_text(f"{wanted}\n")
                stage.gateway.reload(config_of(text), {})
                assert (await stage.ask()).text == TEXT
                assert stage.counts("a")["requests"][-1]["headers"]["authorization"] == f"Bearer {wanted}"

    run(main())


@pytest.mark.parametrize("model", ["text-embedding-005", "gemini-embedding-2"])
def test_vectors_fall_back_to_vertex(simulator: ProviderSimulator, model: str) -> None:
    async def main() -> None:
        async with chain_stage(simulator, {"a": f"openai:{model}", "b": f"vertex:{model}"}) as stage:
            stage.schedule("a", then="503")
            answer = await stage.client.embeddings.create(model="chat", input=["An otter"])
            assert [one.embedding for one in answer.data] == [vector_of("An otter")]
            path = stage.counts("b")["requests"][-1]["path"]
            assert path.endswith(f"/models/{model}:" + ("predict" if "text" in model else "embedContent"))

    run(main())
