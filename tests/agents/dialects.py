"""The four dialects as far as a scripted model needs them: what a request offers and has been told, and an answer as
the events of a stream. Each event stands with the place where it comes: `text` in the middle of the text, `call` in
the middle of a call's arguments, `""` elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Event = dict[str, Any] | str
Stream = Iterator[tuple[str, Event]]

PATHS: Final[Mapping[str, str]] = {
    "/messages": "anthropic",
    "/chat/completions": "openai",
    "/responses": "responses",
    ":streamGenerateContent": "gemini",
}
PROMPT, ANSWER = 1200, 40
"""Tokens of each prompt and answer, as they are told."""


@dataclass(frozen=True)
class Step:
    """What the model does in one turn: it says `text`, and then calls the tool `name`, if there is one."""

    text: str
    name: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def json(self) -> str:
        return json.dumps(self.arguments)


# --- requests ------------------------------------------------------------------------------------------------


def tools_of(dialect: str, body: dict[str, Any]) -> tuple[str, ...]:
    """The names of the tools that a request offers; of a tool without a name its type."""
    tools: list[dict[str, Any]] = body.get("tools") or []
    if dialect == "gemini":
        tools = [one for tool in tools for one in tool.get("functionDeclarations", ())]
    tools = [tool.get("function", tool) for tool in tools]
    return tuple(tool.get("name") or tool["type"] for tool in tools)


def results_of(dialect: str, body: dict[str, Any]) -> tuple[str, ...]:
    """What the tools have said so far, in order."""
    match dialect:
        case "anthropic":
            blocks = [block for message in body["messages"] for block in _list(message["content"])]
            return tuple(_text(block.get("content")) for block in blocks if block["type"] == "tool_result")
        case "openai":
            return tuple(_text(message["content"]) for message in body["messages"] if message["role"] == "tool")
        case "responses":
            items = _list(body["input"])
            return tuple(_text(item["output"]) for item in items if item.get("type", "").endswith("_call_output"))
        case _:
            parts = [part for turn in body["contents"] for part in turn["parts"]]
            return tuple(json.dumps(part["functionResponse"]) for part in parts if "functionResponse" in part)


def _list(content: Any) -> list[Any]:
    return content if isinstance(content, list) else []


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in _list(content))


# --- answers -------------------------------------------------------------------------------------------------


def _pieces(text: str, place: str) -> Iterator[tuple[str, str]]:
    """The text in four pieces, the place before the third."""
    size = max(1, -(-len(text) // 4))
    for number, at in enumerate(range(0, len(text), size)):
        yield (place if number == 2 else ""), text[at : at + size]


def _anthropic(step: Step, model: str, turn: int) -> Stream:
    usage = {"input_tokens": PROMPT, "output_tokens": 1}
    head = {"id": f"msg_01Scripted{turn}", "type": "message", "role": "assistant", "model": model, "content": []}
    yield "", {"type": "message_start", "message": {**head, "stop_reason": None, "stop_sequence": None, "usage": usage}}
    yield "", {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    for place, piece in _pieces(step.text, "text"):
        delta = {"type": "text_delta", "text": piece}
        yield place, {"type": "content_block_delta", "index": 0, "delta": delta}
    yield "", {"type": "content_block_stop", "index": 0}
    if step.name:
        call = {"type": "tool_use", "id": f"toolu_01Scripted{turn}", "name": step.name, "input": {}}
        yield "", {"type": "content_block_start", "index": 1, "content_block": call}
        for place, piece in _pieces(step.json, "call"):
            delta = {"type": "input_json_delta", "partial_json": piece}
            yield place, {"type": "content_block_delta", "index": 1, "delta": delta}
        yield "", {"type": "content_block_stop", "index": 1}
    delta = {"stop_reason": "tool_use" if step.name else "end_turn", "stop_sequence": None}  # type: ignore[dict-item]
    yield "", {"type": "message_delta", "delta": delta, "usage": {"output_tokens": ANSWER}}
    yield "", {"type": "message_stop"}


def _openai(step: Step, model: str, turn: int) -> Stream:
    head = {"id": f"chatcmpl-scripted{turn}", "object": "chat.completion.chunk", "created": 1_790_000_000}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {**head, "model": model, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield "", chunk({"role": "assistant", "content": ""})
    for place, piece in _pieces(step.text, "text"):
        yield place, chunk({"content": piece})
    if step.name:
        function = {"name": step.name, "arguments": ""}
        call = {"index": 0, "id": f"call_scripted{turn}", "type": "function", "function": function}
        yield "", chunk({"tool_calls": [call]})
        for place, piece in _pieces(step.json, "call"):
            yield place, chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    yield "", chunk({}, "tool_calls" if step.name else "stop")
    usage = {"prompt_tokens": PROMPT, "completion_tokens": ANSWER, "total_tokens": PROMPT + ANSWER}
    yield "", {**head, "model": model, "choices": [], "usage": usage}
    yield "", "[DONE]"


def _gemini(step: Step, model: str, turn: int) -> Stream:
    def chunk(parts: list[dict[str, Any]], finish: str | None = None) -> dict[str, Any]:
        candidate = {"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": finish}
        usage = {"promptTokenCount": PROMPT, "candidatesTokenCount": ANSWER, "totalTokenCount": PROMPT + ANSWER}
        return {"candidates": [candidate], "usageMetadata": usage, "responseId": f"scripted{turn}"}

    for place, piece in _pieces(step.text, "text"):
        yield place, chunk([{"text": piece}])
    if step.name:  # such calls come whole
        yield "call", chunk([{"functionCall": {"name": step.name, "args": json.loads(step.json)}}])
    yield "", chunk([{"text": ""}], "STOP")


def _responses(step: Step, model: str, turn: int) -> Stream:
    body = {"id": f"resp_scripted{turn}", "object": "response", "created_at": 1_790_000_000, "model": model}
    number = iter(range(1_000_000))

    def event(kind: str, **members: Any) -> dict[str, Any]:
        return {"type": f"response.{kind}", "sequence_number": next(number), **members}

    yield "", event("created", response={**body, "status": "in_progress", "output": []})
    part = {"type": "output_text", "text": step.text, "annotations": []}
    message = {"type": "message", "id": f"msg_scripted{turn}", "role": "assistant", "status": "completed"}
    at = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    begun = {**message, "status": "in_progress", "content": []}
    yield "", event("output_item.added", output_index=0, item=begun)
    yield "", event("content_part.added", **at, part={**part, "text": ""})
    for place, piece in _pieces(step.text, "text"):
        yield place, event("output_text.delta", **at, delta=piece)
    yield "", event("output_text.done", **at, text=step.text)
    yield "", event("content_part.done", **at, part=part)
    output: list[dict[str, Any]] = [{**message, "content": [part]}]
    yield "", event("output_item.done", output_index=0, item=output[0])
    if step.name:
        item = {"type": "function_call", "id": f"fc_scripted{turn}", "call_id": f"call_scripted{turn}"}
        item |= {"name": step.name, "status": "in_progress", "arguments": ""}
        at = {"item_id": item["id"], "output_index": 1}
        yield "", event("output_item.added", output_index=1, item=item)
        for place, piece in _pieces(step.json, "call"):
            yield place, event("function_call_arguments.delta", **at, delta=piece)
        yield "", event("function_call_arguments.done", **at, arguments=step.json)
        output.append({**item, "status": "completed", "arguments": step.json})
        yield "", event("output_item.done", output_index=1, item=output[1])
    usage = {"input_tokens": PROMPT, "output_tokens": ANSWER, "total_tokens": PROMPT + ANSWER}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    ended = {**body, "status": "completed", "output": output, "usage": {**usage, **details}}
    yield "", event("completed", response=ended)


STREAMS: Final[Mapping[str, Callable[[Step, str, int], Stream]]] = {
    "anthropic": _anthropic,
    "openai": _openai,
    "responses": _responses,
    "gemini": _gemini,
}
