"""LangChain's models of `langchain-openai` and `langchain-anthropic`."""

from __future__ import annotations

from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from serving import ASKS_TOOL, DEGREES, KEY, PROMPT, TEXTS, TIMEOUT, Person, serve


@tool
def weather(city: str, days: int) -> str:
    """The weather of a city."""
    return DEGREES


def chat(api: str, url: str, name: str) -> Any:
    if api == "anthropic":
        return ChatAnthropic(
            model_name=name, base_url=url, api_key=KEY, max_retries=0, timeout=TIMEOUT, max_tokens_to_sample=400
        )
    return ChatOpenAI(
        model=name,
        base_url=url,
        api_key=KEY,
        max_retries=0,
        timeout=TIMEOUT,
        stream_usage=True,
        use_responses_api=api == "responses",
    )


def streamed(model: Any, messages: Any) -> Any:
    """The sum of the chunks, which LangChain itself makes of them."""
    whole = None
    for chunk in model.stream(messages):
        whole = chunk if whole is None else whole + chunk
    return whole


def with_tool(model: Any, ask: Any) -> Any:
    bound = model.bind_tools([weather])
    asked = HumanMessage(ASKS_TOOL)
    calling = ask(bound, [asked])
    results = [ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]) for call in calling.tool_calls]
    return [calling, ask(bound, [asked, calling, *results])]


def converse(api: str, conversation: str, url: str, name: str) -> Any:
    if conversation == "embeddings":
        # Without this argument the texts are counted by a tokenizer that is fetched from the network.
        model = OpenAIEmbeddings(
            model=name, base_url=url, api_key=KEY, max_retries=0, timeout=TIMEOUT, check_embedding_ctx_length=False
        )
        return [model.embed_documents(TEXTS), model.embed_query(TEXTS[0])]
    model = chat(api, url, name)
    match conversation:
        case "text":
            return model.invoke(PROMPT)
        case "stream":
            return streamed(model, PROMPT)
        case "tool":
            return with_tool(model, lambda bound, messages: bound.invoke(messages))
        case "tool_stream":
            return with_tool(model, streamed)
        case "structured":
            return model.with_structured_output(Person, include_raw=True).invoke(PROMPT)
    raise ValueError(conversation)


serve(converse)
