"""What recorded exchanges with Cohere say, read without the adapters: their answers, their requests as a chat, and what
of a request that chat can give back."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from typing import Any

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


def body_of(name: str) -> bytes:
    """The bytes of a recorded answer."""
    text: str = load(name)["response"]["body"]
    return text.encode()


def events(data: bytes) -> Iterator[dict[str, Any]]:
    """What each event of a stream says, but for its end marker."""
    for line in data.decode().splitlines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))


class Answer(msgspec.Struct):
    """An answer as it is in a recording. `tokens`: prompt with images, completion, cached, reasoning."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str, str]] = []
    finish: str = ""
    tokens: tuple[int, int, int, int] = (0, 0, 0, 0)
    cites: bool = False


def answer_of(name: str) -> Answer:
    """The answer of a recording, whole or streamed."""
    return _of_stream(body_of(name)) if load(name)["stream"] else _of_body(json.loads(body_of(name)))


def _of_body(body: dict[str, Any]) -> Answer:
    message = body["message"]
    answer = Answer(
        reasoning=message.get("tool_plan", ""),
        finish=body["finish_reason"],
        tokens=_tokens(body["usage"]),
        cites=bool(message.get("citations")),
    )
    for block in message.get("content", ()):
        answer.text += block.get("text", "")
        answer.reasoning += block.get("thinking", "")
    for call in message.get("tool_calls", ()):
        answer.calls.append((call["id"], call["function"]["name"], call["function"]["arguments"]))
    return answer


def _of_stream(data: bytes) -> Answer:
    answer = Answer()
    calls: dict[int, list[str]] = {}
    for event in events(data):
        message = event.get("delta", {}).get("message", {})
        match event["type"]:
            case "content-delta":
                answer.text += message["content"].get("text", "")
                answer.reasoning += message["content"].get("thinking", "")
            case "tool-plan-delta":
                answer.reasoning += message["tool_plan"]
            case "tool-call-start":
                call = message["tool_calls"]
                calls[event["index"]] = [call["id"], call["function"]["name"], call["function"]["arguments"]]
            case "tool-call-delta":
                calls[event["index"]][2] += message["tool_calls"]["function"]["arguments"]
            case "citation-start":
                answer.cites = True
            case "message-end":
                answer.finish = event["delta"]["finish_reason"]
                if event["delta"]["usage"]:
                    answer.tokens = _tokens(event["delta"]["usage"])
    answer.calls = [(one, name, text or "{}") for one, name, text in calls.values()]
    return answer


def _tokens(usage: dict[str, Any]) -> tuple[int, int, int, int]:
    tokens = usage["tokens"]
    prompt, images = tokens["input_tokens"], tokens.get("image_tokens", 0)
    prompt += images if prompt < images else 0
    return prompt, tokens["output_tokens"], usage.get("cached_tokens", 0), tokens.get("reasoning_tokens", 0)


# --- requests ------------------------------------------------------------------------------------------------


def canonical(body: dict[str, Any]) -> ChatRequest:
    """What a caller of another dialect would have asked. Documents come with what the user said last."""
    messages = [_message(message) for message in body["messages"]]
    if body.get("documents"):
        last = messages[-1]
        files = tuple(_file(document["data"]) for document in body["documents"])
        messages[-1] = msgspec.structs.replace(last, parts=(*last.parts, *files))
    choice = body.get("tool_choice")
    return ChatRequest(
        messages=tuple(messages),
        tools=tuple(_tool(tool["function"]) for tool in body.get("tools", ())),
        tool_choice=ToolChoice("required" if choice == "REQUIRED" else "none") if choice else None,
        output=_output(body.get("response_format")),
        max_tokens=body.get("max_tokens"),
        temperature=body.get("temperature"),
        top_p=body.get("p"),
        top_k=body.get("k"),
        seed=body.get("seed"),
        stop=tuple(body.get("stop_sequences", ())),
        reasoning_effort="high" if body.get("thinking") == {"type": "enabled"} else None,
    )


def _message(message: dict[str, Any]) -> Message:
    calls = tuple(
        ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in message.get("tool_calls") or ()
    )
    plan = (TextPart(message["tool_plan"]),) if message.get("tool_plan") else ()
    return Message(
        role=message["role"],
        parts=(*plan, *_parts(message.get("content") or "")),
        tool_calls=calls,
        call_id=message.get("tool_call_id", ""),
    )


def _parts(content: str | list[dict[str, Any]]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (TextPart(content),) if content else ()
    parts: list[Part] = []
    for block in content:
        if block["type"] == "text":
            parts.append(TextPart(block["text"]))
        elif block["type"] == "document":
            parts.append(_file(block["document"]["data"]))
        else:
            image = block["image_url"]
            parts.append(ImagePart(url=image["url"], detail=image.get("detail")))
    return tuple(parts)


def _file(data: dict[str, str]) -> FilePart:
    text = base64.b64encode(data["text"].encode()).decode()
    return FilePart(name=data.get("title"), media_type="text/plain", data=text)


def _tool(function: dict[str, Any]) -> Tool:
    schema = json.dumps(function["parameters"]).encode()
    return Tool(name=function["name"], description=function.get("description"), parameters=schema)


def _output(given: dict[str, Any] | None) -> OutputFormat | None:
    if given is None:
        return None
    schema = json.dumps(given["json_schema"]).encode() if "json_schema" in given else None
    return OutputFormat(kind="json_object" if schema is None else "json_schema", schema=schema, strict=True)


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """A body without what says nothing, texts as one text where they are all there is."""
    body = copy.deepcopy(body)
    for message in body["messages"]:
        content = message.get("content")
        if isinstance(content, list):
            content = [block for block in content if block.get("text") != ""]
            is_text = len(content) == 1 and content[0]["type"] == "text"
            message["content"] = content[0]["text"] if is_text else content
        for name in ("content", "tool_plan", "tool_calls", "citations"):
            if not message.get(name):
                message.pop(name, None)
    if not body.get("stream"):
        body.pop("stream", None)
    return {name: value for name, value in body.items() if value not in ([], None)}
