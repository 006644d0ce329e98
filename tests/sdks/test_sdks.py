"""What people's SDKs make of an answer is the same through the gateway as from a provider of their own dialect: before
targets of every dialect, with the first of them healthy, failing, and cut off in mid-answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import pytest

from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import MODELS, QUICK, chain_stage, run
from tests.sdks.installed import Client

TALK: Final = ("text", "stream", "tool", "tool_stream", "structured")
OBJECTS: Final = ("structured", "structured_by_tool", "structured_stream")
HELD: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("langchain", "openai"): (*TALK, "embeddings"),
    ("langchain", "responses"): TALK,
    ("langchain", "anthropic"): TALK,
    ("llama_index", "openai"): ("text", "stream", "tool", "structured", "embeddings"),
    ("pydantic_ai", "openai"): (*TALK, "structured_by_tool"),
    ("pydantic_ai", "responses"): (*TALK, "structured_by_tool"),
    ("pydantic_ai", "anthropic"): (*TALK, "structured_by_tool"),
    ("instructor", "openai"): OBJECTS,
    ("instructor", "anthropic"): OBJECTS,
    ("openai", "openai"): (*TALK, "embeddings"),
    ("openai", "responses"): ("text", "stream"),
    ("ai_sdk", "openai"): (*TALK, "structured_stream", "embeddings"),
    ("ai_sdk", "responses"): (*TALK, "structured_stream"),
    ("ai_sdk", "anthropic"): (*TALK, "structured_stream"),
}
CASES: Final = [(sdk, api, one) for (sdk, api), conversations in HELD.items() for one in conversations]
CHAINS: Final = {
    "openai": ("openai", "anthropic", "gemini"),
    "anthropic": ("anthropic", "gemini", "openai"),
    "gemini": ("gemini", "openai", "anthropic"),
}
FAULTS: Final = ("ok", "500", "cut@middle")
EMBEDDING: Final = "embed-1"

DIFFERS: Final = {
    # another answer each time, or another address
    *("id", "created", "created_at", "timestamp", "run_id", "conversation_id", "provider_url"),
    *("provider_response_id", "responseId", "itemId", "call_id", "tool_call_id", "toolCallId"),
    # of the target that answered; pydantic-ai reckons a price from its name
    *("model", "model_name", "modelId", "cost"),
    # what only one vendor says
    *("service_tier", "serviceTier", "system_fingerprint", "audio", "audio_tokens", "metadata"),
    # the gateway's own: which targets a joined stream had
    "crossfade",
}
USAGE: Final = {"usage", "usage_metadata", "token_usage"}
AISDK_NATIVE: Final = {"raw", "rawFinishReason", "providerMetadata", "providerOptions"}
"""A vendor's own usage, words and ids beside those that the AI SDK has for all."""


def compared(said: Any, without: set[str]) -> Any:
    """What the SDK gave without the members that are not to be compared, and those that say nothing."""
    if isinstance(said, dict):
        return {
            name: compared(value, without) for name, value in said.items() if name not in without and value is not None
        }
    return [compared(one, without) for one in said] if isinstance(said, list) else said


def left_out(sdk: str, api: str, conversation: str, fault: str) -> set[str]:
    """The members that are not compared in a case."""
    without = set(DIFFERS)
    if conversation == "embeddings":
        without |= USAGE  # Gemini counts no tokens of them
    if fault.startswith("cut") and "stream" in conversation:
        without |= USAGE  # a joined stream's usage is estimated
    if conversation == "structured_by_tool" and api == "openai":
        without.add("finish_reason")  # of a forced call `stop` is OpenAI's alone
    return without | AISDK_NATIVE if sdk == "ai_sdk" else without


def routes(chain: tuple[str, ...]) -> str:
    """Routes named as models: some SDKs refuse names that they do not know."""
    lines = []
    for name in (MODELS["openai"], MODELS["anthropic"], EMBEDDING):
        models = [EMBEDDING if name == EMBEDDING else MODELS[dialect] for dialect in chain]
        targets = ", ".join(f"'{{mark}}{place}/{model}'" for place, model in zip("abc", models, strict=True))
        lines.append(f"  {name}: {{chain: [{targets}], {QUICK}, retry: {{delay: 0s}}}}")
    return "\n".join(lines)


@pytest.mark.parametrize(("sdk", "api", "conversation"), CASES)
@pytest.mark.parametrize("dialect", CHAINS)
def test_an_sdk_gets_what_its_own_provider_would_have_given(
    simulator: ProviderSimulator, client: Callable[[str], Client], sdk: str, api: str, conversation: str, dialect: str
) -> None:
    converse = client(sdk)
    model = EMBEDDING if conversation == "embeddings" else MODELS[api]
    direct = converse(api, conversation, simulator.base_url(api, "direct"), model)
    assert "gave" in direct, direct

    async def main() -> None:
        chain = dict(zip("abc", CHAINS[dialect], strict=True))
        for fault in FAULTS:
            async with chain_stage(simulator, chain, tail=routes(CHAINS[dialect])) as stage:
                stage.schedule("a", then=fault)
                url = stage.url if api == "anthropic" else f"{stage.url}/v1"
                through = await asyncio.to_thread(converse, api, conversation, url, model)
                without = left_out(sdk, api, conversation, fault)
                assert compared(through, without) == compared(direct, without), fault
                walked = [reason for row in stage.record.ended for one in row.attempts if (reason := one.reason)]
                assert fault == "ok" or walked, "the first target did not fail"
                if (fault, conversation) == ("cut@middle", "stream"):
                    assert stage.record.last.joined == 1, "nothing was delivered before the cut"

    run(main(), timeout=60)
