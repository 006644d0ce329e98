"""What recorded exchanges with Cohere say, read without the adapters: their answers, and their requests without what
says nothing. `cohere_read.py` reads requests as a chat."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import msgspec

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
