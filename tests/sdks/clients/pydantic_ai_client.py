"""Pydantic AI's agents, over its OpenAI (chat and responses) and Anthropic models."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import openai
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from serving import ASKS_TOOL, DEGREES, KEY, PROMPT, TIMEOUT, Person, serve


def model_of(api: str, url: str, name: str) -> Any:
    if api == "anthropic":
        client = anthropic.AsyncAnthropic(base_url=url, api_key=KEY, max_retries=0, timeout=TIMEOUT)
        return AnthropicModel(name, provider=AnthropicProvider(anthropic_client=client))
    provider = OpenAIProvider(
        openai_client=openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=TIMEOUT)
    )
    return (
        OpenAIResponsesModel(name, provider=provider)
        if api == "responses"
        else OpenAIChatModel(name, provider=provider)
    )


async def ran(agent: Any, prompt: str) -> Any:
    result = await agent.run(prompt)
    return {"output": result.output, "messages": result.all_messages(), "usage": result.usage}


async def streamed(agent: Any, prompt: str) -> Any:
    async with agent.run_stream(prompt) as result:
        text = "".join([piece async for piece in result.stream_text(delta=True)])
        return {"text": text, "messages": result.all_messages(), "usage": result.usage}


async def conversing(api: str, conversation: str, url: str, name: str) -> Any:
    model = model_of(api, url, name)
    agent: Any = Agent(model)
    if conversation.startswith("tool"):

        @agent.tool_plain
        def weather(city: str, days: int) -> str:
            """The weather of a city."""
            return DEGREES

    match conversation:
        case "text":
            return await ran(agent, PROMPT)
        case "stream":
            return await streamed(agent, PROMPT)
        case "tool":
            return await ran(agent, ASKS_TOOL)
        case "tool_stream":
            return await streamed(agent, ASKS_TOOL)
        case "structured":
            return await ran(Agent(model, output_type=NativeOutput(Person)), PROMPT)
        case "structured_by_tool":
            return await ran(Agent(model, output_type=Person), PROMPT)
    raise ValueError(conversation)


def converse(api: str, conversation: str, url: str, name: str) -> Any:
    return asyncio.run(conversing(api, conversation, url, name))


serve(converse)
