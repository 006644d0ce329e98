"""A strict caller of Anthropic's messages API without any SDK: what applications rely on, checked event by event."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import msgspec

from tests.e2e.harness import PIXEL, PROMPT, SCHEMA, Stage

WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}
IMAGE: dict[str, Any] = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": PIXEL.partition(",")[2]},
}
FORMAT: dict[str, Any] = {"format": {"type": "json_schema", "schema": SCHEMA}}
HEADERS = {"content-type": "application/json", "anthropic-version": "2023-06-01", "x-api-key": "unused"}
USAGE = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")


class Answer(msgspec.Struct, kw_only=True):
    """An answer as an application sees it, streamed or not. `blocks` are whole; `error` is what ended it early."""

    blocks: list[dict[str, Any]] = []
    stop_reason: str | None = None
    usage: dict[str, Any] = {}
    id: str = ""
    model: str = ""
    extra: dict[str, Any] = {}
    error: dict[str, Any] | None = None
    comments: list[str] = []
    status: int = 200
    headers: dict[str, str] = {}
    raw: bytes = b""

    @property
    def text(self) -> str:
        return "".join(block["text"] for block in self.blocks if block["type"] == "text")

    @property
    def thinking(self) -> str:
        return "".join(block["thinking"] for block in self.blocks if block["type"] == "thinking")

    @property
    def calls(self) -> list[tuple[str, Any]]:
        return [(block["name"], block["input"]) for block in self.blocks if block["type"] == "tool_use"]

    @property
    def call_ids(self) -> list[str]:
        return [block["id"] for block in self.blocks if block["type"] == "tool_use"]


async def post(stage: Stage, body: Any, path: str = "/v1/messages", headers: dict[str, str] | None = None) -> Any:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=30) as client:
        return await client.post(f"{stage.url}{path}", content=content, headers={**HEADERS, **(headers or {})})


async def ask(stage: Stage, *, stream: bool = False, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    """Asks route `chat`; whatever comes must be in Anthropic's form."""
    body = {"model": "chat", "max_tokens": 400, "messages": [{"role": "user", "content": PROMPT}], **fields}
    if stream:
        body["stream"] = True
    response = await post(stage, body, headers=headers)
    given = {"status": response.status_code, "headers": dict(response.headers), "raw": response.content}
    if response.headers["content-type"].startswith("text/event-stream"):
        assert stream and response.status_code == 200
        return msgspec.structs.replace(of_stream(response.content), **given)
    assert response.headers["content-type"] == "application/json"
    value = response.json()
    if response.status_code != 200:
        return Answer(error=error_of(value), extra=value.get("crossfade", {}), **given)
    assert not stream
    return msgspec.structs.replace(of_message(value), **given)


def error_of(value: dict[str, Any]) -> dict[str, Any]:
    """The error in an envelope, which must have no other form."""
    assert value["type"] == "error" and value.keys() <= {"type", "error", "crossfade"}
    error: dict[str, Any] = value["error"]
    assert error["type"] and error["message"] and error.keys() <= {"type", "message", "code", "param"}
    return error


def of_message(value: dict[str, Any]) -> Answer:
    assert (value["type"], value["role"]) == ("message", "assistant")
    assert value["stop_reason"] is not None and "stop_sequence" in value
    for block in value["content"]:
        check_block(block)
    check_usage(value["usage"])
    return Answer(
        blocks=value["content"],
        stop_reason=value["stop_reason"],
        usage=value["usage"],
        id=value["id"],
        model=value["model"],
        extra=value.get("crossfade", {}),
    )


def check_block(block: dict[str, Any]) -> None:
    match block["type"]:
        case "text":
            assert isinstance(block["text"], str) and block["text"]
        case "thinking":
            assert isinstance(block["thinking"], str) and isinstance(block["signature"], str)
        case "tool_use":
            assert re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]) and block["name"] and isinstance(block["input"], dict)
        case other:
            raise AssertionError(f"a block of type {other!r}")


def check_usage(usage: dict[str, Any]) -> None:
    for name in USAGE:
        assert isinstance(usage[name], int) and usage[name] >= 0, name


_DELTAS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
    "input_json_delta": "tool_use",
}


class _Stream:
    """The state of a stream: what came, and so what may come next."""

    def __init__(self) -> None:
        self.answer = Answer()
        self.has_begun = self.has_ended = self.is_over = False
        self.open: dict[str, Any] | None = None
        self.json: list[str] = []

    def take(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        assert not self.is_over, f"{kind} behind the end"
        if kind == "ping":
            return
        if kind == "error":
            self.answer.error, self.is_over = error_of(event), True
            return
        assert self.has_begun == (kind != "message_start"), kind
        assert not self.has_ended or kind == "message_stop", f"{kind} behind message_delta"
        getattr(self, f"on_{kind}")(event)

    def on_message_start(self, event: dict[str, Any]) -> None:
        message = event["message"]
        assert (message["type"], message["role"], message["content"]) == ("message", "assistant", [])
        assert message["stop_reason"] is None and message["stop_sequence"] is None
        check_usage(message["usage"])
        self.answer.id, self.answer.model = message["id"], message["model"]
        self.answer.usage = message["usage"]
        assert self.answer.id and self.answer.model
        self.has_begun = True

    def on_content_block_start(self, event: dict[str, Any]) -> None:
        assert self.open is None, "two blocks are open"
        assert event["index"] == len(self.answer.blocks)
        block = event["content_block"]
        empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}
        assert empty[block["type"]].items() <= block.items()
        self.open, self.json = block, []

    def on_content_block_delta(self, event: dict[str, Any]) -> None:
        assert self.open is not None and event["index"] == len(self.answer.blocks)
        delta = event["delta"]
        assert _DELTAS[delta["type"]] == self.open["type"]
        match delta["type"]:
            case "text_delta":
                self.open["text"] += delta["text"]
            case "thinking_delta":
                self.open["thinking"] += delta["thinking"]
            case "signature_delta":
                self.open["signature"] += delta["signature"]
            case "input_json_delta":
                self.json.append(delta["partial_json"])

    def on_content_block_stop(self, event: dict[str, Any]) -> None:
        assert self.open is not None and event["index"] == len(self.answer.blocks)
        if self.open["type"] == "tool_use":
            self.open["input"] = msgspec.json.decode("".join(self.json) or "{}")
        check_block(self.open)
        self.answer.blocks.append(self.open)
        self.open = None

    def on_message_delta(self, event: dict[str, Any]) -> None:
        assert self.open is None, "the end of a message inside a block"
        assert event["delta"]["stop_reason"] is not None and "stop_sequence" in event["delta"]
        check_usage(event["usage"])
        self.answer.stop_reason = event["delta"]["stop_reason"]
        self.answer.usage = {**self.answer.usage, **event["usage"]}
        self.has_ended = True

    def on_message_stop(self, event: dict[str, Any]) -> None:
        assert self.has_ended and event.keys() <= {"type", "crossfade"}
        self.answer.extra = event.get("crossfade", {})
        self.is_over = True


def of_stream(body: bytes) -> Answer:
    """A stream put together; every rule of its form is checked."""
    assert body.endswith(b"\n\n")
    stream = _Stream()
    for event in body.decode().split("\n\n")[:-1]:
        if event.startswith(": "):
            assert "\n" not in event
            stream.answer.comments.append(event[2:])
            continue
        name, data = event.split("\n")
        assert name.startswith("event: ") and data.startswith("data: ")
        value = msgspec.json.decode(data[6:])
        assert value["type"] == name[7:]
        stream.take(value)
    assert stream.is_over, "no end"
    if stream.answer.error is not None:
        assert stream.answer.stop_reason is None
        if stream.open is not None:
            stream.answer.blocks.append(stream.open)
    return stream.answer
