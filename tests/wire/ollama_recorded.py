"""What recorded exchanges with Ollama's own API say, read without the adapters: their answers, and their requests
without what says nothing. `ollama_read.py` reads requests as a chat."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec

from tests.recordings import load


def body_of(name: str) -> bytes:
    """The bytes of a recorded answer."""
    text: str = load(name)["response"]["body"]
    return text.encode()


class Answer(msgspec.Struct):
    """An answer as it is in a recording. A call is its id (empty where it has none), name and arguments."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str, dict[str, Any]]] = []
    finish: str = ""
    tokens: tuple[int, int] = (0, 0)


def answer_of(name: str) -> Answer:
    """The answer of a recording, whole or streamed: a whole one is a single line."""
    answer = Answer()
    for line in map(json.loads, body_of(name).splitlines()):
        message = line["message"]
        answer.text += message["content"]
        answer.reasoning += message.get("thinking", "")
        for call in message.get("tool_calls", ()):
            answer.calls.append((call.get("id", ""), call["function"]["name"], call["function"]["arguments"]))
        if line["done"]:
            answer.finish = line["done_reason"]
            answer.tokens = (line.get("prompt_eval_count", 0), line["eval_count"])
    return answer


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """A body without what says nothing, and with what it says by leaving it out: streams, the types of calls, the tool
    whose result a result is."""
    body = copy.deepcopy(body)
    name = None
    for message in body["messages"]:
        for call in message.get("tool_calls", ()):
            call.pop("type", None)
            name = call["function"]["name"]
        if message["role"] == "tool":
            message.setdefault("tool_name", name)
    body.setdefault("stream", True)
    body.setdefault("truncate", False)
    return {name: value for name, value in body.items() if value not in ([], {}, "", None)}
