"""An independent reading of recorded exchanges of the Responses API, for the tests of that dialect.

`in_one_spelling` takes out of a recorded request, and of one that was rebuilt, what the documented losses take and
what is said in two ways. `Answer` folds a recorded answer, whole or streamed, without our reader.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

REFUSED = ("previous_response_id", "prompt", "conversation")
"""Fields for which a request cannot be sent elsewhere."""
LOST = (
    "context_management",
    "include",
    "prompt_cache_key",
    "prompt_cache_options",
    "provider",
    "service_tier",
    "store",
    "stream",
)
"""Fields of the recorded requests that are not sent to another provider, or are the target's."""
LABELS = ("annotations", "id", "logprobs", "phase", "prompt_cache_breakpoint", "status")
"""Members of items and parts that only label them."""


def can_be_sent(body: dict[str, Any]) -> bool:
    if any(body.get(name) is not None for name in REFUSED):
        return False
    given = body.get("input")
    items = given if isinstance(given, list) else []
    contents = [item.get("content") or item.get("output") or () for item in items]
    parts = [part for content in contents for part in content if isinstance(part, dict)]
    if any("file_id" in part for part in parts if part["type"] == "input_image"):
        return False
    return all(tool["type"] == "function" for tool in body.get("tools") or ())


def in_one_spelling(body: dict[str, Any]) -> dict[str, Any]:
    made = {name: value for name, value in body.items() if name not in LOST and value is not None}
    given = made["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if (instructions := made.pop("instructions", None)) is not None:
        items = [{"role": "system", "content": instructions}, *items]
    made["input"] = [_item(item) for item in items if item.get("type") != "reasoning"]
    if "tools" in made:
        made["tools"] = [_tool(tool) for tool in made["tools"]]
    if not made.get("tools"):
        made.pop("tools", None)
    text = {name: value for name, value in made.pop("text", {}).items() if name == "format"}
    if text and text["format"]["type"] != "text":
        made["text"] = {"format": {"strict": False, **text["format"]}}
    if "max_output_tokens" in made:
        made["max_output_tokens"] = max(16, made["max_output_tokens"])
    effort = made.pop("reasoning", {}).get("effort")
    if effort is not None:
        made["reasoning"] = {"effort": effort}
    if made.get("tool_choice") == "auto" and "tools" not in made:
        del made["tool_choice"]
    return made


def _item(item: dict[str, Any]) -> dict[str, Any]:
    made = {name: value for name, value in item.items() if name not in LABELS}
    if made.get("type") == "message":
        del made["type"]
    if made.get("role") == "developer":
        made["role"] = "system"
    for name in ("content", "output"):
        if isinstance(made.get(name), str):
            kind = "output_text" if made.get("role") == "assistant" else "input_text"
            made[name] = [{"type": kind, "text": made[name]}] if made[name] else []
        elif name in made:
            parts = [{key: value for key, value in part.items() if key not in LABELS} for part in made[name]]
            for part in parts:
                if part["type"] in ("input_text", "output_text"):
                    part["type"] = "output_text" if made.get("role") == "assistant" else "input_text"
                if "file_url" in part:
                    part.pop("filename", None)
            made[name] = parts
    return made


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    made = {name: value for name, value in tool.items() if value is not None}
    return {**made, "strict": tool.get("strict") is True}


@dataclass
class Answer:
    """What an answer says, folded with the standard library only."""

    id: str = ""
    model: str = ""
    created: int = 0
    text: str = ""
    refusal: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    status: str = ""
    reason: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    has_other: bool = False

    @classmethod
    def of_response(cls, value: dict[str, Any]) -> Answer:
        details = value.get("incomplete_details") or {}
        answer = cls(
            id=value["id"],
            model=value["model"],
            created=int(value["created_at"]),
            status=value.get("status", "completed"),
            reason=details.get("reason"),
            usage=value["usage"],
        )
        for item in value["output"]:
            answer._add(item)
        return answer

    @classmethod
    def of_body(cls, body: str) -> Answer:
        return cls.of_response(json.loads(body))

    @classmethod
    def of_stream(cls, body: str) -> Answer:
        """By the items that are done, which not all servers repeat at the end."""
        items: dict[int, dict[str, Any]] = {}
        last: dict[str, Any] = {}
        for event in events_of(body):
            if event["type"] == "response.output_item.done":
                items[event["output_index"]] = event["item"]
            if event["type"] in ("response.completed", "response.incomplete"):
                last = event["response"]
        return cls.of_response(last | {"output": [item for _, item in sorted(items.items())]})

    def _add(self, item: dict[str, Any]) -> None:
        match item["type"]:
            case "message":
                for part in item["content"]:
                    self.text += part.get("text", "")
                    self.refusal += part.get("refusal", "")
                    self.has_other |= bool(part.get("annotations"))
            case "function_call":
                self.calls.append((item["call_id"], item["name"], item["arguments"]))
            case "reasoning":
                summary = "\n\n".join(part["text"] for part in item.get("summary") or ())
                self.reasoning += summary or "".join(part["text"] for part in item.get("content") or ())
            case _:
                self.has_other = True

    @property
    def tokens(self) -> tuple[int, int, int, int, int]:
        inputs = self.usage.get("input_tokens_details") or {}
        outputs = self.usage.get("output_tokens_details") or {}
        return (
            self.usage["input_tokens"],
            self.usage["output_tokens"],
            inputs.get("cached_tokens", 0),
            inputs.get("cache_write_tokens", 0),
            outputs.get("reasoning_tokens", 0),
        )

    @property
    def finish(self) -> str:
        if self.status == "incomplete":
            return "content_filter" if self.reason == "content_filter" else "length"
        return "tool_calls" if self.calls else "stop"


def events_of(body: str) -> list[dict[str, Any]]:
    """The events of a stream, without any end marker behind them."""
    lines = [line[5:].strip() for line in body.split("\n") if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]
