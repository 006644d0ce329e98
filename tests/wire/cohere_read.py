"""Reads a Cohere request into the canonical one, by Cohere's own words: the product writes this dialect only.

It says of a body what anyone can see in it, and knows nothing of how the body was made. Documents, which stand beside
the messages, are taken for what the last message brought.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import msgspec

from crossfade.core.exchange import (
    ChatRequest,
    FilePart,
    ImagePart,
    Message,
    OutputFormat,
    Part,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)

_BUDGETS: Final = ((1024, "minimal"), (2048, "low"), (8192, "medium"))


def read_canonical(body: bytes) -> ChatRequest:
    """The request in a body of `chat`. Fails for members that it does not know."""
    given = json.loads(body)
    given.pop("model")
    given.pop("stream", None)
    messages = [_message(message) for message in given.pop("messages")]
    if documents := given.pop("documents", None):
        files = [_file(document["data"]) for document in documents]
        messages[-1] = msgspec.structs.replace(messages[-1], parts=(*messages[-1].parts, *files))
    strict = given.pop("strict_tools", None)
    choice = given.pop("tool_choice", None)
    request = ChatRequest(
        messages=tuple(messages),
        tools=tuple(_tool(tool["function"], strict) for tool in given.pop("tools", ())),
        tool_choice={"REQUIRED": ToolChoice("required"), "NONE": ToolChoice("none"), None: None}[choice],
        output=_output(given.pop("response_format", None)),
        max_tokens=given.pop("max_tokens", None),
        temperature=given.pop("temperature", None),
        top_p=given.pop("p", None),
        top_k=given.pop("k", None),
        stop=tuple(given.pop("stop_sequences", ())),
        seed=given.pop("seed", None),
        frequency_penalty=given.pop("frequency_penalty", None),
        presence_penalty=given.pop("presence_penalty", None),
        reasoning_effort=_effort(given.pop("thinking", None)),
    )
    assert not given, given
    return request


def _message(given: dict[str, Any]) -> Message:
    calls = tuple(
        ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in given.get("tool_calls") or ()
    )
    plan = (TextPart(given["tool_plan"]),) if given.get("tool_plan") else ()
    parts = _parts(given.get("content") or "")
    return Message(role=given["role"], parts=(*plan, *parts), tool_calls=calls, call_id=given.get("tool_call_id", ""))


def _parts(content: str | list[dict[str, Any]]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (TextPart(content),) if content else ()
    return tuple(_part(block) for block in content)


def _part(block: dict[str, Any]) -> Part:
    match block:
        case {"type": "text", "text": str(text)}:
            return TextPart(text)
        case {"type": "document", "document": {"data": dict(data)}}:
            return _file(data)
        case {"type": "image_url", "image_url": {"url": str(url), **rest}}:
            if not url.startswith("data:"):
                return ImagePart(url=url, detail=rest.get("detail"))
            kind, _, data = url.removeprefix("data:").partition(";base64,")
            return ImagePart(media_type=kind, data=data, detail=rest.get("detail"))
        case _:
            raise AssertionError(block)


def _file(data: dict[str, str]) -> FilePart:
    text = base64.b64encode(data["text"].encode()).decode()
    return FilePart(name=data.get("title"), media_type="text/plain", data=text)


def _tool(given: dict[str, Any], strict: bool | None) -> Tool:
    schema = msgspec.json.encode(given["parameters"])
    return Tool(name=given["name"], description=given.get("description"), parameters=schema, strict=strict)


def _output(given: dict[str, Any] | None) -> OutputFormat | None:
    if given is None:
        return None
    assert given["type"] == "json_object"
    if "json_schema" not in given:
        return OutputFormat(kind="json_object")
    return OutputFormat(kind="json_schema", schema=msgspec.json.encode(given["json_schema"]))


def _effort(given: dict[str, Any] | None) -> str | None:
    """The word for a budget; without one the most."""
    if given is None:
        return None
    if given["type"] == "disabled":
        return "none"
    budget = given.get("token_budget")
    return "high" if budget is None else next(word for most, word in _BUDGETS if budget <= most)
