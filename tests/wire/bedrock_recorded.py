"""What recorded exchanges with Bedrock say, read without the adapters: their frames, their answers, their requests as a
chat, and what of a request that chat can give back."""

from __future__ import annotations

import base64
import copy
import json
import struct
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

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
from tests.recordings import load

MEDIA = {"pdf": "application/pdf", "txt": "text/plain"}
INSTRUCTION = (
    "Answer with one JSON value that is valid against this JSON Schema, and nothing else: no other text and no code"
    " fence.\n\n"
)
SET = ("guardrailConfig", "performanceConfig")
"""Members that no caller of another dialect has; a target's own parameters give them."""


def body_of(name: str) -> bytes:
    """The bytes of a recorded answer."""
    response = load(name)["response"]
    text: str = response["body"]
    return base64.b64decode(text) if response.get("encoding") == "base64" else text.encode()


def model_of(name: str) -> str:
    return unquote(urlsplit(load(name)["request"]["url"]).path.split("/")[2])


def frames(data: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """The type and the payload of each event; every recorded header is text."""
    at = 0
    while at < len(data):
        total, size = struct.unpack_from(">II", data, at)
        place, end, headers = at + 12, at + 12 + size, {}
        while place < end:
            name = data[place + 1 : place + 1 + data[place]]
            place += 1 + data[place]
            (length,) = struct.unpack_from(">H", data, place + 1)
            assert data[place] == 7
            headers[name] = data[place + 3 : place + 3 + length]
            place += 3 + length
        yield headers[b":event-type"].decode(), json.loads(data[end : at + total - 4])
        at += total


class Answer(msgspec.Struct):
    """An answer as it is in a recording. `tokens`: prompt with cached and written ones, completion."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str, Any]] = []
    stop_reason: str = ""
    tokens: tuple[int, int] = (0, 0)
    cites: bool = False


def answer_of(name: str) -> Answer:
    """The answer of a Converse recording, whole or streamed."""
    return _of_stream(body_of(name)) if load(name)["stream"] else _of_body(json.loads(body_of(name)))


def _of_body(body: dict[str, Any]) -> Answer:
    answer = Answer(stop_reason=body["stopReason"], tokens=_tokens(body["usage"]))
    for block in body["output"]["message"]["content"]:
        answer.text += block.get("text", "")
        answer.reasoning += block.get("reasoningContent", {}).get("reasoningText", {}).get("text", "")
        if call := block.get("toolUse"):
            answer.calls.append((call["toolUseId"], call["name"], call["input"]))
        if cited := block.get("citationsContent"):
            answer.text += "".join(part["text"] for part in cited["content"])
            answer.cites = answer.cites or bool(cited["citations"])
    return answer


def _of_stream(data: bytes) -> Answer:
    answer = Answer()
    calls: dict[int, list[str]] = {}
    for kind, event in frames(data):
        delta = event.get("delta", {})
        answer.text += delta.get("text", "")
        answer.reasoning += delta.get("reasoningContent", {}).get("text", "")
        answer.cites = answer.cites or "citation" in delta
        if start := event.get("start", {}).get("toolUse"):
            calls[event["contentBlockIndex"]] = [start["toolUseId"], start["name"], ""]
        if "toolUse" in delta:
            calls[event["contentBlockIndex"]][2] += delta["toolUse"]["input"]
        answer.stop_reason = event.get("stopReason", answer.stop_reason)
        if kind == "metadata":
            answer.tokens = _tokens(event["usage"])
    answer.calls = [(one, name, json.loads(text or "{}")) for one, name, text in calls.values()]
    return answer


def _tokens(usage: dict[str, int]) -> tuple[int, int]:
    cached = usage.get("cacheReadInputTokens", 0) + usage.get("cacheWriteInputTokens", 0)
    assert usage["totalTokens"] == usage["inputTokens"] + cached + usage["outputTokens"]
    return usage["inputTokens"] + cached, usage["outputTokens"]


# --- requests ------------------------------------------------------------------------------------------------


def set_params(body: dict[str, Any]) -> tuple[tuple[str, bytes], ...]:
    """What only a target's own parameters can give: `SET`, and what a model is told to think by."""
    found = [(name, json.dumps(body[name]).encode()) for name in SET if name in body]
    more = body.get("additionalModelRequestFields")
    if more and "inferenceConfig" not in more:
        found.append(("additionalModelRequestFields", json.dumps(more).encode()))
    return tuple(found)


def canonical(body: dict[str, Any]) -> ChatRequest:
    """What a caller of another dialect would have asked."""
    messages = [
        Message(role="system", parts=(TextPart(one["text"]),)) for one in body.get("system", ()) if "text" in one
    ]
    for message in body["messages"]:
        messages += _messages(message)
    config, tools = body.get("inferenceConfig", {}), body.get("toolConfig", {})
    more = body.get("additionalModelRequestFields", {})
    return ChatRequest(
        messages=tuple(messages),
        tools=tuple(_tool(tool["toolSpec"]) for tool in tools.get("tools", ())),
        tool_choice=_choice(tools.get("toolChoice")),
        output=_output(body),
        max_tokens=config.get("maxTokens"),
        temperature=config.get("temperature"),
        top_p=config.get("topP"),
        top_k=more.get("inferenceConfig", {}).get("topK"),
        stop=tuple(config.get("stopSequences", ())),
        others=("cache_control",) if '"cachePoint"' in json.dumps(body) else (),
    )


def _choice(choice: dict[str, Any] | None) -> ToolChoice | None:
    if not choice:
        return None
    if "tool" in choice:
        return ToolChoice("named", choice["tool"]["name"])
    return ToolChoice("required" if "any" in choice else "auto")


def _messages(message: dict[str, Any]) -> list[Message]:
    results = [
        Message(role="tool", call_id=one["toolUseId"], parts=_parts(one["content"]))
        for block in message["content"]
        if (one := block.get("toolResult"))
    ]
    calls = tuple(
        ToolCall(one["toolUseId"], one["name"], json.dumps(one["input"]))
        for block in message["content"]
        if (one := block.get("toolUse"))
    )
    parts = _parts(message["content"])
    if not parts and not calls:
        return results
    return [*results, Message(role=message["role"], parts=parts, tool_calls=calls)]


def _parts(blocks: list[dict[str, Any]]) -> tuple[Part, ...]:
    parts: list[Part] = []
    for block in blocks:
        if "text" in block:
            parts.append(TextPart(block["text"]))
        elif "guardContent" in block:
            parts.append(TextPart(block["guardContent"]["text"]["text"]))
        elif "citationsContent" in block:
            parts.append(TextPart("".join(one["text"] for one in block["citationsContent"]["content"])))
        elif image := block.get("image"):
            source, kind = image["source"], f"image/{image['format']}"
            parts.append(
                ImagePart(media_type=kind, data=source.get("bytes"), url=source.get("s3Location", {}).get("uri"))
            )
        elif document := block.get("document"):
            source = document["source"]
            data = source.get("bytes") or base64.b64encode(source["text"].encode()).decode()
            parts.append(FilePart(name=document["name"], media_type=MEDIA[document["format"]], data=data))
    return tuple(parts)


def _tool(spec: dict[str, Any]) -> Tool:
    schema = json.dumps(spec["inputSchema"]["json"]).encode()
    return Tool(name=spec["name"], description=spec.get("description"), parameters=schema)


def _output(body: dict[str, Any]) -> OutputFormat | None:
    if "outputConfig" not in body:
        return None
    schema = body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    return OutputFormat(
        kind="json_schema",
        name=schema.get("name", "output"),
        description=schema.get("description"),
        schema=schema["schema"].encode(),
        strict=True,
    )


def losses(body: dict[str, Any], model: str) -> dict[str, Any]:
    """The recorded request without what the chat cannot say, as docs/dialects/bedrock.md lists it."""
    text = body.get("outputConfig", {}).get("textFormat", {}).get("structure", {}).get("jsonSchema", {}).get("schema")
    body = plain(body)
    if text is not None and "claude-3" in model:  # asked for in words
        del body["outputConfig"]
        body["system"] = [*body.get("system", ()), {"text": INSTRUCTION + text}]
    is_marked = '"cachePoint"' in json.dumps(body)
    for message in body["messages"]:
        message["content"] = [kept for block in message["content"] if (kept := _kept(block)) is not None]
    turns: list[dict[str, Any]] = []
    for message in body["messages"]:
        if turns and turns[-1]["role"] == message["role"]:
            turns[-1]["content"] += message["content"]
        elif message["content"]:
            turns.append(message)
    body["messages"] = turns
    if "system" in body:
        body["system"] = [block for block in body["system"] if "text" in block]
    if is_marked:
        places = [body.get("toolConfig", {}).get("tools"), body.get("system"), turns[-1]["content"]]
        for place in filter(None, places):
            place.append({"cachePoint": {"type": "default"}})
    if not body.get("inferenceConfig", {}).get("stopSequences", True):
        del body["inferenceConfig"]["stopSequences"]
    return {name: value for name, value in body.items() if value}


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """A body whose JSON Schema, a text on the wire, is JSON."""
    body = copy.deepcopy(body)
    if "outputConfig" in body:
        schema = body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
        schema["schema"] = json.loads(schema["schema"])
    return body


def _kept(block: dict[str, Any]) -> dict[str, Any] | None:
    if "cachePoint" in block or "video" in block or "searchResult" in block:
        return None
    if "guardContent" in block:
        return {"text": block["guardContent"]["text"]["text"]}
    if "citationsContent" in block:
        return {"text": "".join(one["text"] for one in block["citationsContent"]["content"])}
    if document := block.get("document"):
        document.pop("citations", None)
        document.pop("context", None)
    if result := block.get("toolResult"):
        result.pop("status", None)
        result["content"] = [kept for one in result["content"] if (kept := _kept(one)) is not None] or [
            {"text": "(empty)"}
        ]
    return block
