"""LlamaIndex's `llama-index-llms-openai` and `llama-index-embeddings-openai`."""

from __future__ import annotations

from typing import Any

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI
from serving import ASKS_TOOL, DEGREES, KEY, PROMPT, TEXTS, TIMEOUT, WEATHER, Person, serve


def weather(city: str, days: int) -> str:
    return DEGREES


TOOL = FunctionTool.from_defaults(weather, description=WEATHER)


def with_tool(model: Any) -> Any:
    asked = ChatMessage(role="user", content=ASKS_TOOL)
    calling = model.chat_with_tools([TOOL], chat_history=[asked])
    results = [
        ChatMessage(
            role="tool", content=str(TOOL.call(**call.tool_kwargs)), additional_kwargs={"tool_call_id": call.tool_id}
        )
        for call in model.get_tool_calls_from_response(calling)
    ]
    return [calling, model.chat_with_tools([TOOL], chat_history=[asked, calling.message, *results])]


def converse(api: str, conversation: str, url: str, name: str) -> Any:
    if conversation == "embeddings":
        embedding = OpenAIEmbedding(model_name=name, api_base=url, api_key=KEY, max_retries=0, timeout=TIMEOUT)
        return embedding.get_text_embedding_batch(TEXTS)
    model = OpenAI(model=name, api_base=url, api_key=KEY, max_retries=0, timeout=TIMEOUT)
    asked = [ChatMessage(role="user", content=PROMPT)]
    match conversation:
        case "text":
            return [model.chat(asked), model.complete(PROMPT)]
        case "stream":
            pieces = list(model.stream_chat(asked))
            return ["".join(piece.delta or "" for piece in pieces), pieces[-1].message]
        case "tool":
            return with_tool(model)
        case "structured":
            structured = model.as_structured_llm(Person).chat(asked)
            return [structured.raw, structured.message]
    raise ValueError(conversation)


serve(converse)
