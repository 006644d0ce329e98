"""Reads an Ollama request into the canonical one, by Ollama's own words: the product writes this dialect only.

It says of a body what anyone can see in it, and knows nothing of how the body was made. Of an image it has the bytes
alone, and takes them for those of a PNG.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from crossfade.core.exchange import ChatRequest, ImagePart, Message, OutputFormat, TextPart, Tool, ToolCall


def read_canonical(body: bytes) -> ChatRequest:
    """The request in a body of `chat`. Fails for members that it does not know."""
    given = json.loads(body)
    for name in ("model", "stream", "truncate", "keep_alive"):
        given.pop(name, None)
    options = given.pop("options", {})
    request = ChatRequest(
        messages=tuple(_message(message) for message in given.pop("messages")),
        tools=tuple(_tool(tool["function"]) for tool in given.pop("tools", ())),
        output=_output(given.pop("format", None)),
        max_tokens=options.pop("num_predict", None),
        temperature=options.pop("temperature", None),
        top_p=options.pop("top_p", None),
        top_k=options.pop("top_k", None),
        stop=tuple(options.pop("stop", ())),
        seed=options.pop("seed", None),
        frequency_penalty=options.pop("frequency_penalty", None),
        presence_penalty=options.pop("presence_penalty", None),
        reasoning_effort=_effort(given.pop("think", None)),
    )
    assert not given and not options, (given, options)
    return request


def _message(given: dict[str, Any]) -> Message:
    calls = tuple(_call(call) for call in given.get("tool_calls") or ())
    texts = (TextPart(given["content"]),) if given["content"] else ()
    images = tuple(ImagePart(media_type="image/png", data=data) for data in given.get("images", ()))
    return Message(role=given["role"], parts=(*texts, *images), tool_calls=calls, call_id=given.get("tool_call_id", ""))


def _call(given: dict[str, Any]) -> ToolCall:
    function = given["function"]
    assert isinstance(function["arguments"], dict)
    return ToolCall(given.get("id", ""), function["name"], msgspec.json.encode(function["arguments"]).decode())


def _tool(given: dict[str, Any]) -> Tool:
    schema = msgspec.json.encode(given["parameters"])
    return Tool(name=given["name"], description=given.get("description"), parameters=schema)


def _output(given: str | dict[str, Any] | None) -> OutputFormat | None:
    """An empty text is none, as some clients say it."""
    if not given:
        return None
    if given == "json":
        return OutputFormat(kind="json_object")
    return OutputFormat(kind="json_schema", schema=msgspec.json.encode(given))


def _effort(given: bool | str | None) -> str | None:
    return given if given is None or isinstance(given, str) else "medium" if given else "none"
