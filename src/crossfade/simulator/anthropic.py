"""Anthropic's messages as the simulator speaks them: requests in, bodies, events and errors out.

It knows nothing of faults or sockets.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from crossfade.simulator.answers import Answer, Call, cut
from crossfade.simulator.ask import (
    Ask,
    BadAsk,
    ToolMode,
    Turn,
    as_count,
    as_dict,
    as_list,
    as_text,
    as_words,
    result_text,
    tool_spec,
)
from crossfade.simulator.dialect import ErrorReply, Event, Wait, encode, in_seconds, sse

_CHOICES: dict[str, ToolMode] = {"any": "required", "tool": "named", "none": "none"}
_FINISHES = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_SIGNATURE = "EqQBCgIYAhIkc2ltdWxhdGVk"

# name: status, type, message. `{model}` is filled in.
_ERRORS: dict[str, tuple[int, str, str]] = {
    "400": (400, "invalid_request_error", "temperature: range: 0..1"),
    "401": (401, "authentication_error", "invalid x-api-key"),
    "402": (402, "billing_error", "Your credit balance is too low to access the Anthropic API."),
    "403": (403, "permission_error", "Your API key does not have permission to use the specified resource."),
    "404": (404, "not_found_error", "model: {model}"),
    "408": (408, "timeout_error", "Request timed out."),
    "413": (413, "request_too_large", "Request exceeds the maximum allowed number of bytes."),
    "422": (422, "invalid_request_error", "Unprocessable entity."),
    "429": (429, "rate_limit_error", "This request would exceed your account's rate limit. Please try again later."),
    "quota": (429, "rate_limit_error", "enforced_spend_limit_reached: this organization has reached its spend limit."),
    "500": (500, "api_error", "Internal server error"),
    "502": (502, "api_error", "Bad gateway"),
    "503": (503, "api_error", "Service temporarily unavailable"),
    "504": (504, "timeout_error", "Gateway timeout"),
    "529": (529, "overloaded_error", "Overloaded"),
    "context": (400, "invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum"),
    "prefill": (
        400,
        "invalid_request_error",
        "This model does not support assistant message prefill. The conversation must end with a user message.",
    ),
}


class Anthropic:
    """Messages."""

    name = "anthropic"

    def read(self, path: str, query: str, body: dict[str, Any]) -> Ask:
        if as_count(body.get("max_tokens")) is None:
            raise BadAsk("max_tokens: Field required")
        choice = as_dict(body.get("tool_choice"))
        format_ = as_dict(as_dict(body.get("output_config")).get("format"))
        specs = [spec for tool in as_list(body.get("tools")) if (spec := tool_spec(tool, "input_schema")) is not None]
        system = _text(body.get("system"))
        turns = [Turn(role="system", text=system)] if system else []
        return Ask(
            model=as_text(body.get("model")),
            turns=(*turns, *(_turn(as_dict(message)) for message in as_list(body.get("messages")))),
            stream=body.get("stream") is True,
            include_usage=True,
            tools=tuple(specs),
            tool_mode=_CHOICES.get(as_text(choice.get("type")), "auto"),
            tool_name=as_text(choice.get("name")),
            is_parallel=choice.get("disable_parallel_tool_use") is not True,
            output="json_schema" if format_.get("type") == "json_schema" else None,
            schema=format_.get("schema"),
            stop=as_words(body.get("stop_sequences")),
            max_tokens=as_count(body.get("max_tokens")),
            wants_thinking=as_dict(body.get("thinking")).get("type") == "enabled",
        )

    def whole(self, ask: Ask, answer: Answer, number: int) -> dict[str, Any]:
        content: list[dict[str, Any]] = []
        if answer.reasoning:
            content.append({"type": "thinking", "thinking": answer.reasoning, "signature": _SIGNATURE})
        if answer.text or answer.refusal:
            content.append({"type": "text", "text": answer.text or answer.refusal})
        content += [{**_tool_block(call), "input": _input(call)} for call in answer.calls]
        return self._message(ask, number, content) | _ending(answer) | {"usage": _usage(ask, answer)}

    def no_choices(self, ask: Ask, number: int) -> dict[str, Any]:
        """Without content and without an end: nothing a caller could use."""
        body = self._message(ask, number, []) | {"stop_reason": None, "stop_sequence": None}
        return body | {"usage": _usage(ask, Answer())}

    def events(self, ask: Ask, answer: Answer, number: int) -> list[Event]:
        message = self.no_choices(ask, number)
        events = [
            Event(_event({"type": "message_start", "message": message}), "opening"),
            Event(_event({"type": "ping"}), "opening"),
        ]
        for index, (block, deltas) in enumerate(_blocks(answer)):
            events.append(
                Event(_event({"type": "content_block_start", "index": index, "content_block": block}), "opening")
            )
            for delta in deltas:
                data = _event({"type": "content_block_delta", "index": index, "delta": delta})
                events.append(Event(data, "content"))
            events.append(Event(_event({"type": "content_block_stop", "index": index}), "closing"))
        ending = {"type": "message_delta", "delta": _ending(answer), "usage": _usage(ask, answer)}
        return [*events, Event(_event(ending), "finish"), Event(_event({"type": "message_stop"}), "marker")]

    def event(self, ask: Ask, text: bytes) -> bytes:
        return sse(text, "content_block_delta")

    def stream_type(self, ask: Ask) -> str:
        return "text/event-stream; charset=utf-8"

    def comment(self, ask: Ask) -> bytes:
        return _event({"type": "ping"})

    def error(self, name: str, ask: Ask | None, message: str | None = None, wait: Wait | None = None) -> ErrorReply:
        status, kind, text = _ERRORS.get(name, _ERRORS["500"])
        text = message or text.replace("{model}", ask.model if ask else "")
        body = {"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_simulator"}
        again = () if status in (408, 429) or status >= 500 else (("x-should-retry", "false"),)
        return ErrorReply(status, body, (*again, *(_wait_headers(wait) if wait else ())))

    def error_event(self, ask: Ask, error: ErrorReply) -> bytes:
        return sse(encode({"type": "error", "error": {"details": None, **error.body["error"]}}), "error")

    def blocked(self, ask: Ask, number: int) -> ErrorReply | Answer:
        return Answer(finish="content_filter")

    def headers(self, number: int) -> tuple[tuple[str, str], ...]:
        return (("request-id", f"req_sim{number:08d}"), ("anthropic-organization-id", "org-simulated"))

    def _message(self, ask: Ask, number: int, content: list[dict[str, Any]]) -> dict[str, Any]:
        head = {"id": f"msg_sim{number:08d}", "type": "message", "role": "assistant", "model": ask.model}
        return {**head, "content": content}


def _turn(message: dict[str, Any]) -> Turn:
    content = message.get("content")
    blocks = [as_dict(block) for block in as_list(content)]
    results = tuple(_result(block.get("content")) for block in blocks if block.get("type") == "tool_result")
    return Turn(
        role="assistant" if message.get("role") == "assistant" else "user",
        text=_text(content),
        images=sum(block.get("type") == "image" for block in blocks),
        results=results,
        has_calls=any(block.get("type") == "tool_use" for block in blocks),
    )


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    return "".join(as_text(as_dict(b).get("text")) for b in as_list(content) if as_dict(b).get("type") == "text")


def _result(content: object) -> str:
    return _text(content) if isinstance(content, str | list) else result_text(content)


def _tool_block(call: Call) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{call.id}", "name": call.name}


def _input(call: Call) -> Any:
    try:
        return msgspec.json.decode(call.arguments)
    except msgspec.DecodeError:
        return call.arguments  # broken arguments cannot be an object


def _blocks(answer: Answer) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """The blocks of the answer, each as it starts and with its deltas."""
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if answer.reasoning:
        thoughts: list[dict[str, Any]] = [{"type": "thinking_delta", "thinking": p} for p in cut(answer.reasoning)]
        thoughts.append({"type": "signature_delta", "signature": _SIGNATURE})
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, thoughts))
    if pieces := answer.pieces or cut(answer.refusal):
        blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]))
    for call in answer.calls:
        parts = ["", *(call.arguments[i : i + 8] for i in range(0, len(call.arguments), 8))]
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        blocks.append(({**_tool_block(call), "input": {}}, deltas))
    return blocks


def _ending(answer: Answer) -> dict[str, Any]:
    reason = answer.raw_finish or _FINISHES[answer.finish]
    reason = "stop_sequence" if answer.stop_sequence is not None else "refusal" if answer.refusal else reason
    ending: dict[str, Any] = {"stop_reason": reason, "stop_sequence": answer.stop_sequence}
    if reason == "refusal":
        ending["stop_details"] = {"type": "refusal", "category": "cyber", "explanation": "Simulated refusal."}
    return ending


def _usage(ask: Ask, answer: Answer) -> dict[str, Any]:
    return {
        "input_tokens": ask.prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": answer.text_tokens + answer.reasoning_tokens,
        "service_tier": "standard",
    }


def _event(body: dict[str, Any]) -> bytes:
    # Every event is padded with blanks, as at Anthropic.
    return sse(encode(body) + b"  ", body["type"])


def _wait_headers(wait: Wait) -> tuple[tuple[str, str], ...]:
    if wait.form == "native":
        return (("retry-after", in_seconds(wait.seconds)),)
    if wait.form == "reset":
        due = (datetime.now(UTC) + timedelta(seconds=wait.seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return (
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "0"),
            ("anthropic-ratelimit-requests-reset", due),
        )
    return ()
