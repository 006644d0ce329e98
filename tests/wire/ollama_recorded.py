"""What recorded exchanges with Ollama's own API say, read without the adapters: their answers, and their requests as a
chat and without what says nothing."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec

from crossfade.core.exchange import ChatRequest, Message, OutputFormat, TextPart, Tool, ToolCall
from tests.recordings import load

OPTIONS = {
    "num_predict": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "stop": "stop",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}


class Answer(msgspec.Struct):
    """An answer as it is in a recording. `tokens`: prompt, completion."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, Any]] = []
    finish: str = ""
    tokens: tuple[int, int] = (0, 0)


def body_of(name: str) -> bytes:
    """The bytes of a recorded answer."""
    text: str = load(name)["response"]["body"]
    return text.encode()


def answer_of(name: str) -> Answer:
    """The answer of a recording: a whole one is a stream of one line."""
    answer = Answer()
    for line in body_of(name).splitlines():
        said = json.loads(line)
        message = said.get("message", {})
        answer.text += message.get("content", "")
        answer.reasoning += message.get("thinking", "")
        for call in message.get("tool_calls", ()):
            answer.calls.append((call["function"]["name"], call["function"]["arguments"]))
        if said["done"]:
            answer.finish = said["done_reason"]
            answer.tokens = said.get("prompt_eval_count", 0), said["eval_count"]
    return answer


def chat_of(body: dict[str, Any]) -> ChatRequest:
    """The chat that a body is. Calls have no ids there; the results follow them in turn. Fails for members that it does
    not know."""
    given = copy.deepcopy(body)
    for name in ("model", "stream", "keep_alive"):
        given.pop(name, None)
    messages, pending = [], []
    for number, one in enumerate(given.pop("messages")):
        calls = []
        for at, call in enumerate(one.get("tool_calls") or ()):
            arguments = json.dumps(call["function"]["arguments"], separators=(",", ":"))
            calls.append(ToolCall(f"call_{number}_{at}", call["function"]["name"], arguments))
        pending += [call.id for call in calls]
        parts = (TextPart(one["content"]),) if one["content"] else ()
        call_id = pending.pop(0) if one["role"] == "tool" else ""
        messages.append(Message(role=one["role"], parts=parts, tool_calls=tuple(calls), call_id=call_id))
    options = {OPTIONS[name]: value for name, value in (given.pop("options", None) or {}).items()}
    if "stop" in options:
        options["stop"] = tuple(options["stop"])
    form, think = given.pop("format", None), given.pop("think", None)
    output = OutputFormat(kind="json_schema", schema=json.dumps(form).encode()) if isinstance(form, dict) else None
    request = ChatRequest(
        messages=tuple(messages),
        tools=tuple(_tool(tool["function"]) for tool in given.pop("tools", None) or ()),
        output=OutputFormat(kind="json_object") if form == "json" else output,
        reasoning_effort={None: None, False: "none", True: "medium"}[think],
        **options,
    )
    assert not given, given
    return request


def _tool(function: dict[str, Any]) -> Tool:
    return Tool(
        name=function["name"],
        description=function.get("description"),
        parameters=json.dumps(function["parameters"]).encode(),
    )


def plain(body: dict[str, Any], *, names_results: bool) -> dict[str, Any]:
    """A body without what says nothing; without the tools of results unless `names_results`."""
    body = copy.deepcopy(body)
    for message in body["messages"]:
        for call in message.get("tool_calls") or ():
            call.pop("type", None)
        if not names_results:
            message.pop("tool_name", None)
    body["stream"] = body.get("stream", True)
    return {name: value for name, value in body.items() if value not in ([], {}, "", None)}
