"""An independent reading of recorded Anthropic exchanges, for the tests of that dialect.

`canonical` reads a recorded request into a ChatRequest, or says why there is no canonical form; `without_losses` takes
out of a recorded body what the documented losses take. `Answer` folds a recorded stream without our reader.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any, Literal

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

CHOICES: dict[str, Literal["auto", "none", "required", "named"]] = {
    "auto": "auto",
    "none": "none",
    "any": "required",
    "tool": "named",
}


class NotCanonical(Exception):
    """The recorded request has something that an OpenAI caller cannot say."""


def blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def canonical(body: dict[str, Any]) -> ChatRequest:
    messages: list[Message] = []
    if body.get("system"):
        messages.append(Message(role="system", parts=tuple(TextPart(b["text"]) for b in blocks(body["system"]))))
    for turn in body["messages"]:
        messages += _messages(turn)
    choice = body.get("tool_choice") or {}
    serial = choice.get("disable_parallel_tool_use")
    schema = (body.get("output_config") or {}).get("format") or body.get("output_format")
    return ChatRequest(
        messages=tuple(messages),
        tools=tuple(_tool(tool) for tool in body.get("tools", ())),
        tool_choice=ToolChoice(CHOICES[choice["type"]], choice.get("name")) if choice else None,
        parallel_tool_calls=False if serial else None,
        output=OutputFormat(kind="json_schema", schema=msgspec.json.encode(schema["schema"])) if schema else None,
        max_tokens=body["max_tokens"],
        temperature=body.get("temperature"),
        top_p=body.get("top_p"),
        top_k=body.get("top_k"),
        stop=tuple(body.get("stop_sequences", ())),
        user=(body.get("metadata") or {}).get("user_id"),
    )


def _tool(tool: dict[str, Any]) -> Tool:
    if tool.get("type", "custom") != "custom":
        raise NotCanonical(f"hosted tool {tool['type']}")
    schema = msgspec.json.encode(tool["input_schema"])
    return Tool(name=tool["name"], description=tool.get("description"), parameters=schema, strict=tool.get("strict"))


def _messages(turn: dict[str, Any]) -> list[Message]:
    found: list[Message] = []
    if not isinstance(turn, dict):
        raise NotCanonical("a message that is no object")
    if turn["role"] == "assistant":
        parts: list[Part] = []
        calls: list[ToolCall] = []
        for block in blocks(turn["content"]):
            if block["type"] == "text":
                parts.append(TextPart(block["text"]))
            elif block["type"] == "tool_use":
                calls.append(ToolCall(block["id"], block["name"], json.dumps(block["input"])))
            elif block["type"] != "thinking":
                raise NotCanonical(f"assistant block {block['type']}")
        return [Message(role="assistant", parts=tuple(parts), tool_calls=tuple(calls))]
    others: list[Part] = []
    for block in blocks(turn["content"]):
        if block["type"] == "tool_result":
            content = tuple(_part(b) for b in blocks(block.get("content", [])))
            found.append(Message(role="tool", call_id=block["tool_use_id"], parts=content))
        else:
            others.append(_part(block))
    if others:
        found.append(Message(role="user", parts=tuple(others)))
    return found


def _part(block: dict[str, Any]) -> Part:
    source = block.get("source", {})
    match block["type"], source.get("type"):
        case "text", _:
            return TextPart(block["text"])
        case "image", "base64":
            return ImagePart(media_type=source["media_type"], data=source["data"])
        case "image", "url":
            return ImagePart(url=source["url"])
        case "document", "base64":
            return FilePart(name=block.get("title"), media_type=source["media_type"], data=source["data"])
        case "document", "text":
            data = base64.b64encode(source["data"].encode()).decode()
            return FilePart(name=block.get("title"), media_type=source["media_type"], data=data)
        case kind, of:
            raise NotCanonical(f"block {kind} of {of}")


LOST = ("cache_control", "caller", "is_error", "anthropic_version", "thinking", "model")
"""Names that a rebuilt request lacks wherever they stand; the model is the target's anyway."""


def without_losses(value: Any) -> Any:
    """A recorded or a rebuilt body in one spelling, without the documented losses."""
    if isinstance(value, list):
        return [without_losses(item) for item in value if not (isinstance(item, dict) and _is_thinking(item))]
    if not isinstance(value, dict):
        return value
    made = {key: without_losses(item) for key, item in value.items() if key not in LOST}
    for key in ("content", "system"):
        if isinstance(made.get(key), str):
            made[key] = [{"type": "text", "text": made[key]}]
    if "output_format" in made:  # the older name
        made["output_config"] = {"format": made.pop("output_format")}
    if made.get("tools") == []:
        del made["tools"]
    for key in ("stream", "strict", "disable_parallel_tool_use"):
        if made.get(key) is False:
            del made[key]
    return made


def _is_thinking(block: dict[str, Any]) -> bool:
    return block.get("type") == "thinking" and "signature" in block


@dataclass
class Answer:
    """What a stream says, folded with the standard library only."""

    id: str = ""
    model: str = ""
    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    stop_reason: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    has_other: bool = False
    has_end: bool = False

    @classmethod
    def of_stream(cls, body: str) -> Answer:
        answer = cls()
        inputs: dict[int, str] = {}
        open_calls: dict[int, tuple[str, str]] = {}
        for line in body.split("\n"):
            if not line.startswith("data:"):
                continue
            event = json.loads(line[5:])
            match event["type"]:
                case "message_start":
                    answer.id, answer.model = event["message"]["id"], event["message"]["model"]
                    answer.usage |= event["message"]["usage"]
                case "content_block_start":
                    block = event["content_block"]
                    if block["type"] == "tool_use":
                        open_calls[event["index"]], inputs[event["index"]] = (block["id"], block["name"]), ""
                    answer.has_other |= block["type"] not in ("text", "thinking", "redacted_thinking", "tool_use")
                case "content_block_delta":
                    delta = event["delta"]
                    answer.text += delta.get("text", "")
                    answer.reasoning += delta.get("thinking", "")
                    answer.has_other |= delta["type"] == "citations_delta"
                    if event["index"] in inputs:
                        inputs[event["index"]] += delta.get("partial_json", "")
                case "content_block_stop" if event["index"] in inputs:
                    text = inputs.pop(event["index"])
                    answer.calls.append((*open_calls[event["index"]], parsed(text or "{}")))
                case "message_delta":
                    answer.stop_reason = event["delta"]["stop_reason"]
                    answer.usage |= event["usage"]
                case "message_stop":
                    answer.has_end = True
        return answer

    @classmethod
    def of_body(cls, body: str) -> Answer:
        value = json.loads(body)
        content = value["content"]
        known = ("text", "thinking", "redacted_thinking", "tool_use")
        return cls(
            id=value["id"],
            model=value["model"],
            text="".join(b["text"] for b in content if b["type"] == "text"),
            reasoning="".join(b["thinking"] for b in content if b["type"] == "thinking"),
            calls=[(b["id"], b["name"], b["input"]) for b in content if b["type"] == "tool_use"],
            stop_reason=value["stop_reason"],
            usage=value["usage"],
            has_other=any(b["type"] not in known or b.get("citations") for b in content),
            has_end=True,
        )

    @property
    def tokens(self) -> tuple[int, int, int, int, int]:
        usage = self.usage
        cached, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
        thinking = (usage.get("output_tokens_details") or {}).get("thinking_tokens", 0)
        return usage["input_tokens"] + cached + written, usage["output_tokens"], cached, written, thinking


def parsed(text: str) -> Any:
    """JSON, or the text itself where the output ended inside it."""
    try:
        return json.loads(text)
    except ValueError:
        return text
