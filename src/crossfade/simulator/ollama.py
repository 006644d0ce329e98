"""Ollama's own chat as the simulator speaks it: requests in, bodies, lines and errors out.

It knows nothing of faults or sockets.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from crossfade.simulator.answers import Answer, Call, cut
from crossfade.simulator.ask import Ask, BadAsk, Role, Turn, as_count, as_dict, as_list, as_text, as_words, tool_spec
from crossfade.simulator.dialect import ErrorReply, Event, Wait, encode

PATH = re.compile(r"/api/chat$")

_ROLES: dict[str, Role] = {"system": "system", "assistant": "assistant", "tool": "tool"}
_CREATED = "2026-01-01T00:00:00Z"
_THINKS = re.compile(r"qwen3|gpt-oss|deepseek-r1")

# name: status, message. `{model}` is filled in.
_ERRORS: dict[str, tuple[int, str]] = {
    "400": (400, "invalid options: temperature"),
    "401": (401, "unauthorized"),
    "402": (402, "payment required: upgrade for access"),
    "403": (403, "this model requires a subscription, upgrade for access"),
    "404": (404, "model '{model}' not found"),
    "408": (408, "request timed out"),
    "413": (413, "request body too large"),
    "422": (422, "invalid message content type"),
    "429": (429, "too many requests, please try again later"),
    "quota": (429, "you've reached your usage limit, please wait or upgrade to continue"),
    "500": (500, "an error was encountered while running the model: CUDA error"),
    "502": (502, "upstream error"),
    "503": (503, "server busy, please try again.  maximum pending requests exceeded"),
    "504": (504, "gateway timeout"),
    "529": (529, "overloaded"),
    "context": (400, "prompt too long; exceeded max context length by 4096 tokens"),
    "prefill": (400, "the last message must not be of the assistant"),
}


class Ollama:
    """Chat."""

    name = "ollama"

    def read(self, path: str, query: str, body: dict[str, Any]) -> Ask:
        messages = [as_dict(message) for message in as_list(body.get("messages"))]
        if not as_text(body.get("model")) or not messages:
            raise BadAsk("model is required")
        for message in messages:
            if not isinstance(message.get("content", ""), str):
                raise BadAsk("json: cannot unmarshal array into Go struct field ChatRequest.messages of type string")
            for call in as_list(message.get("tool_calls")):
                if not isinstance(as_dict(as_dict(call).get("function")).get("arguments"), dict):
                    raise BadAsk("json: cannot unmarshal string into Go struct field .arguments of type map")
        model = as_text(body.get("model"))
        if body.get("think") not in (None, False) and not _THINKS.match(model):
            raise BadAsk(f'"{model}" does not support thinking')
        functions = [as_dict(tool).get("function") for tool in as_list(body.get("tools"))]
        specs = [spec for function in functions if (spec := tool_spec(function, "parameters")) is not None]
        options, format_ = as_dict(body.get("options")), body.get("format")
        schema = format_ if isinstance(format_, dict) else None
        return Ask(
            model=model,
            turns=tuple(_turn(message) for message in messages),
            stream=body.get("stream") is not False,
            include_usage=True,
            tools=tuple(specs),
            tool_mode="required" if specs and messages[-1].get("role") != "tool" else "auto",  # an eager model
            output="json_schema" if schema else "json_object" if format_ == "json" else None,
            schema=schema,
            stop=as_words(options.get("stop")),
            max_tokens=as_count(options.get("num_predict")),
            wants_thinking=body.get("think") not in (None, False),
        )

    def whole(self, ask: Ask, answer: Answer, number: int) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": answer.text or answer.refusal}
        if answer.reasoning:
            message["thinking"] = answer.reasoning
        if answer.calls:
            message["tool_calls"] = [_call(call) for call in answer.calls]
        return {**_head(ask, number), "message": message, **_ending(ask, answer)}

    def no_choices(self, ask: Ask, number: int) -> dict[str, Any]:
        return {**_head(ask, number), **_ending(ask, Answer())}

    def events(self, ask: Ask, answer: Answer, number: int) -> list[Event]:
        said: list[dict[str, Any]] = [{"content": "", "thinking": part} for part in cut(answer.reasoning)]
        said += [{"content": part} for part in (answer.pieces or cut(answer.refusal))]
        said += [{"content": "", "tool_calls": [_call(call)]} for call in answer.calls]
        events = [
            Event(_line({**_head(ask, number), "message": {"role": "assistant", **one}, "done": False}), "content")
            for one in said
        ]
        ending = {**_head(ask, number), "message": {"role": "assistant", "content": ""}, **_ending(ask, answer)}
        return [*events, Event(_line(ending), "finish")]

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
        return Answer(refusal="I cannot help with that.")

    def headers(self, number: int) -> tuple[tuple[str, str], ...]:
        return ()


def _line(value: object) -> bytes:
    return encode(value) + b"\n"


def _head(ask: Ask, number: int) -> dict[str, Any]:
    return {"model": ask.model, "created_at": _CREATED.replace("00Z", f"00.{number:09d}Z")}


def _ending(ask: Ask, answer: Answer) -> dict[str, Any]:
    word = answer.raw_finish or ("length" if answer.finish == "length" else "stop")
    counts = {"prompt_eval_count": ask.prompt_tokens, "eval_count": answer.text_tokens + answer.reasoning_tokens}
    return {"done": True, "done_reason": word, "total_duration": 1, "load_duration": 1, **counts}


def _call(call: Call) -> dict[str, Any]:
    """Arguments that are no object come as they are: a model's mistake stays one."""
    try:
        arguments = msgspec.json.decode(call.arguments)
    except msgspec.DecodeError:
        arguments = call.arguments
    return {"function": {"name": call.name, "arguments": arguments}}


def _turn(message: dict[str, Any]) -> Turn:
    text, role = as_text(message.get("content")), _ROLES.get(as_text(message.get("role")), "user")
    if role == "tool":
        return Turn(role="tool", results=(text,))
    images = len(as_list(message.get("images")))
    return Turn(role=role, text=text, images=images, has_calls=bool(message.get("tool_calls")))
