"""Ollama's own chat API as the simulator speaks it: requests in, bodies, lines and errors out.

It knows nothing of faults or sockets.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import msgspec

from crossfade.simulator.answers import Answer, Call, cut
from crossfade.simulator.ask import (
    Ask,
    BadAsk,
    Role,
    Turn,
    as_count,
    as_dict,
    as_list,
    as_text,
    as_words,
    tool_spec,
)
from crossfade.simulator.dialect import ErrorReply, Event, Wait, encode
from crossfade.wire.ollama_request import MUST_CALL

PATH = re.compile(r"/api/chat$")

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_FINISHES = {"stop": "stop", "length": "length", "tool_calls": "stop", "content_filter": "stop"}
_LEVELS = ("low", "medium", "high", "max")
_THINKS = re.compile(r"qwen3:(?!.*instruct)|gpt-oss|deepseek-r1")
"""Models that can be told to think; the others refuse to be."""

# name: status, message. `{model}` is filled in.
_ERRORS: dict[str, tuple[int, str]] = {
    "400": (400, "invalid option provided"),
    "401": (401, "unauthorized"),
    "402": (402, "this model requires a subscription"),
    "403": (403, "remote model is unavailable"),
    "404": (404, "model '{model}' not found"),
    "408": (408, "request timed out"),
    "413": (413, "request body too large"),
    "422": (422, "the message could not be processed"),
    "429": (429, "you (simulator) have reached your hourly usage limit, please wait or upgrade to continue"),
    "quota": (429, "you (simulator) have reached your weekly usage limit, please wait or upgrade to continue"),
    "500": (500, "llama runner process has terminated: exit status 2"),
    "502": (502, "bad gateway"),
    "503": (503, "server busy, please try again. maximum pending requests exceeded"),
    "504": (504, "gateway timeout"),
    "529": (529, "overloaded"),
    "context": (400, "the prompt is longer than the context length currently available to the model"),
    "prefill": (400, "the last message must be of a user or a tool"),
}
_BROKEN_CALL = {"error": "error parsing tool call: raw='{', err=unexpected end of JSON input"}
"""What stands in the place of a call whose arguments are no JSON."""


class Ollama:
    """Chat."""

    name = "ollama"

    def read(self, path: str, query: str, body: dict[str, Any]) -> Ask:
        messages = [as_dict(message) for message in as_list(body.get("messages"))]
        if not as_text(body.get("model")):
            raise BadAsk("model is required")
        options = as_dict(body.get("options"))
        functions = [as_dict(tool).get("function") for tool in as_list(body.get("tools"))]
        specs = [spec for function in functions if (spec := tool_spec(function, "parameters")) is not None]
        format_ = body.get("format")
        think = body.get("think")
        if isinstance(think, str) and think not in _LEVELS:
            raise BadAsk(f'invalid think value: "{think}"')
        if think and not _THINKS.match(as_text(body.get("model"))):
            raise BadAsk(f'"{body["model"]}" does not support thinking')
        turns = tuple(_turn(message) for message in messages)
        must_call = any(turn.role == "system" and MUST_CALL in turn.text for turn in turns)
        return Ask(
            model=as_text(body.get("model")),
            turns=turns,
            stream=body.get("stream") is not False,
            include_usage=True,
            tools=tuple(specs),
            tool_mode="required" if must_call else "auto",
            output="json_schema" if as_dict(format_) else "json_object" if format_ == "json" else None,
            schema=format_ if as_dict(format_) else None,
            stop=as_words(options.get("stop")),
            max_tokens=as_count(options.get("num_predict")),
            wants_thinking=bool(think),
        )

    def whole(self, ask: Ask, answer: Answer, number: int) -> dict[str, Any]:
        if _is_broken(answer):
            return dict(_BROKEN_CALL)
        message = _message(answer.text or answer.refusal, answer.reasoning)
        if calls := _calls(answer):
            message["tool_calls"] = calls
        return {**_head(ask, number), "message": message, **_end(ask, answer)}

    def no_choices(self, ask: Ask, number: int) -> dict[str, Any]:
        return {**_head(ask, number), "done": True}

    def events(self, ask: Ask, answer: Answer, number: int) -> list[Event]:
        head = _head(ask, number)
        messages = [_message("", part) for part in cut(answer.reasoning)]
        messages += [_message(part) for part in answer.pieces or cut(answer.refusal)]
        messages += [{**_message(), "tool_calls": [call]} for call in _calls(answer)]
        events = [Event(_line({**head, "message": message, "done": False}), "content") for message in messages]
        end = _BROKEN_CALL if _is_broken(answer) else {**head, "message": _message(), **_end(ask, answer)}
        return [*events, Event(_line(end), "finish")]

    def event(self, ask: Ask, text: bytes) -> bytes:
        return text + b"\n"

    def stream_type(self, ask: Ask) -> str:
        return "application/x-ndjson"

    def comment(self, ask: Ask) -> bytes:
        return b"\n"

    def error(self, name: str, ask: Ask | None, message: str | None = None, wait: Wait | None = None) -> ErrorReply:
        status, text = _ERRORS.get(name, _ERRORS["500"])
        return ErrorReply(status, {"error": message or text.replace("{model}", ask.model if ask else "")})

    def error_event(self, ask: Ask, error: ErrorReply) -> bytes:
        return _line(error.body)

    def blocked(self, ask: Ask, number: int) -> ErrorReply | Answer:
        return Answer(refusal="I'm sorry, but I cannot help with that.")

    def headers(self, number: int) -> tuple[tuple[str, str], ...]:
        return (("date", "Thu, 01 Jan 2026 00:00:00 GMT"),)


def _line(value: dict[str, Any]) -> bytes:
    return encode(value) + b"\n"


def _head(ask: Ask, number: int) -> dict[str, Any]:
    return {"model": ask.model, "created_at": f"2026-01-01T00:00:00.{number % 1_000_000:06d}Z"}


def _end(ask: Ask, answer: Answer) -> dict[str, Any]:
    return {
        "done": True,
        "done_reason": answer.raw_finish or _FINISHES[answer.finish],
        "total_duration": 7_000_000,
        "prompt_eval_count": ask.prompt_tokens,
        "eval_count": answer.text_tokens + answer.reasoning_tokens,
    }


def _message(content: str = "", thinking: str = "") -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    return message | ({"thinking": thinking} if thinking else {})


def _calls(answer: Answer) -> list[dict[str, Any]]:
    """The calls, without ids, as versions before 0.12 give them; none where one cannot be read."""
    try:
        return [_call(number, call) for number, call in enumerate(answer.calls)]
    except msgspec.DecodeError:
        return []


def _is_broken(answer: Answer) -> bool:
    return bool(answer.calls) and not _calls(answer)


def _call(number: int, call: Call) -> dict[str, Any]:
    return {"function": {"index": number, "name": call.name, "arguments": msgspec.json.decode(call.arguments)}}


def _turn(message: dict[str, Any]) -> Turn:
    role = _ROLES.get(as_text(message.get("role")).lower())
    if role is None:
        raise BadAsk(f"invalid role: {message.get('role')!r}")
    text = as_text(message.get("content"))
    if role == "tool":
        return Turn(role="tool", results=(text,))
    images = as_list(message.get("images"))
    for image in images:
        try:
            base64.b64decode(as_text(image), validate=True)
        except binascii.Error:
            raise BadAsk("illegal base64 data at input byte 0") from None
    calls = [as_dict(as_dict(call).get("function")) for call in as_list(message.get("tool_calls"))]
    if any(not isinstance(call.get("arguments"), dict) for call in calls):
        raise BadAsk("json: cannot unmarshal string into Go struct field of type api.ToolCallFunctionArguments")
    return Turn(role=role, text=text, images=len(images), has_calls=bool(calls))
