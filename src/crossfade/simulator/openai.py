"""OpenAI's chat completions as the simulator speaks them: requests in, bodies, events and errors out.

It knows nothing of faults or sockets.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from crossfade.simulator.answers import Answer, cut
from crossfade.simulator.ask import (
    Ask,
    Role,
    ToolMode,
    Turn,
    as_count,
    as_dict,
    as_list,
    as_text,
    as_words,
    choices_of,
    tool_spec,
)
from crossfade.simulator.dialect import CREATED, ErrorReply, Event, Wait, encode, in_seconds, sse

_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "assistant": "assistant", "tool": "tool"}
_DEPLOYMENT = re.compile(r"/deployments/([^/]+)/")
_DONE = b"data: [DONE]\n\n"

# name: status, type, code, param, message. `{model}` and `{wait}` are filled in.
_ERRORS: dict[str, tuple[int, str, str | None, str | None, str]] = {
    "400": (400, "invalid_request_error", "invalid_type", "temperature", "Invalid type for 'temperature'."),
    "401": (401, "invalid_request_error", "invalid_api_key", None, "Incorrect API key provided: sk-s*****ator."),
    "402": (402, "insufficient_quota", "credit_balance_exhausted", None, "Your credit balance is exhausted."),
    "403": (
        403,
        "request_forbidden",
        "unsupported_country_region_territory",
        None,
        "Country, region, or territory not supported",
    ),
    "404": (
        404,
        "invalid_request_error",
        "model_not_found",
        None,
        "The model `{model}` does not exist or you do not have access to it.",
    ),
    "408": (408, "server_error", "request_timeout", None, "Request timed out."),
    "413": (413, "invalid_request_error", "request_too_large", None, "Request entity too large."),
    "422": (422, "invalid_request_error", None, None, "Unprocessable entity."),
    "429": (
        429,
        "requests",
        "rate_limit_exceeded",
        None,
        "Rate limit reached for {model} in organization org-simulated on requests per min (RPM): Limit 500, Used 500,"
        " Requested 1.{wait}",
    ),
    "quota": (
        429,
        "insufficient_quota",
        "insufficient_quota",
        None,
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    "500": (
        500,
        "server_error",
        None,
        None,
        "The server had an error processing your request. Sorry about that! You can retry your request.",
    ),
    "502": (502, "server_error", None, None, "Bad gateway."),
    "503": (
        503,
        "service_unavailable_error",
        "server_is_overloaded",
        None,
        "The engine is currently overloaded, please try again later.",
    ),
    "504": (504, "server_error", None, None, "Gateway timeout."),
    "529": (529, "overloaded_error", None, None, "Overloaded"),
    "context": (
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "messages",
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 20000 tokens. Please"
        " reduce the length of the messages.",
    ),
    "prefill": (
        400,
        "invalid_request_error",
        "invalid_value",
        "messages",
        "Invalid value for 'messages': the last message must not be from the assistant.",
    ),
}


class OpenAI:
    """Chat completions."""

    name = "openai"

    def read(self, path: str, query: str, body: dict[str, Any]) -> Ask:
        mode, tool_name = _tool_choice(body.get("tool_choice"))
        output, schema = _output(as_dict(body.get("response_format")))
        deployment = _DEPLOYMENT.search(path)
        functions = [as_dict(tool).get("function") for tool in as_list(body.get("tools"))]
        specs = [spec for function in functions if (spec := tool_spec(function, "parameters")) is not None]
        return Ask(
            model=as_text(body.get("model")) or (deployment[1] if deployment else ""),
            turns=tuple(_turn(as_dict(message)) for message in as_list(body.get("messages"))),
            stream=body.get("stream") is True,
            include_usage=as_dict(body.get("stream_options")).get("include_usage") is True,
            tools=tuple(specs),
            tool_mode=mode,
            tool_name=tool_name,
            is_parallel=body.get("parallel_tool_calls") is not False,
            output=output,
            schema=schema,
            n=choices_of(body.get("n")),
            stop=as_words(body.get("stop")),
            max_tokens=as_count(body.get("max_completion_tokens")) or as_count(body.get("max_tokens")),
        )

    def whole(self, ask: Ask, answer: Answer, number: int) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
        if answer.calls or answer.refusal:
            message["content"] = answer.text or None
        if answer.refusal:
            message["refusal"] = answer.refusal
        if answer.reasoning:
            message["reasoning_content"] = answer.reasoning
        if answer.calls:
            message["tool_calls"] = [
                {
                    "id": f"call_{call.id}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in answer.calls
            ]
        choice = {"message": message, "logprobs": None, "finish_reason": _finish(answer)}
        choices = [{"index": index, **choice} for index in range(ask.n)]
        return self._envelope(ask, number, "chat.completion", choices) | {"usage": _usage(ask, answer)}

    def no_choices(self, ask: Ask, number: int) -> dict[str, Any]:
        kind = "chat.completion.chunk" if ask.stream else "chat.completion"
        return self._envelope(ask, number, kind, []) | {"usage": _usage(ask, Answer())}

    def events(self, ask: Ask, answer: Answer, number: int) -> list[Event]:
        def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
            body = self._envelope(ask, number, "chat.completion.chunk", [choice])
            return sse(encode(body | ({"usage": None} if ask.include_usage else {})))

        indexes = range(ask.n)
        first = {"role": "assistant", "content": None if answer.calls else "", "refusal": None}
        events = [Event(chunk(i, first), "opening") for i in indexes]
        events += [Event(chunk(i, delta), "content") for delta in _deltas(answer) for i in indexes]
        events += [Event(chunk(i, {}, _finish(answer)), "finish") for i in indexes]
        if ask.include_usage:
            events.append(Event(sse(encode(self.no_choices(ask, number) | {"usage": _usage(ask, answer)})), "usage"))
        return [*events, Event(_DONE, "marker")]

    def event(self, ask: Ask, text: bytes) -> bytes:
        return sse(text)

    def stream_type(self, ask: Ask) -> str:
        return "text/event-stream; charset=utf-8"

    def comment(self, ask: Ask) -> bytes:
        return b": keep-alive\n\n"

    def error(self, name: str, ask: Ask | None, message: str | None = None, wait: Wait | None = None) -> ErrorReply:
        status, kind, code, param, text = _ERRORS.get(name, _ERRORS["500"])
        again = f" Please try again in {in_seconds(wait.seconds)}s." if wait else ""
        text = message or text.replace("{model}", ask.model if ask else "").replace("{wait}", again)
        headers = _wait_headers(wait) if wait else ()
        return ErrorReply(status, {"error": {"message": text, "type": kind, "param": param, "code": code}}, headers)

    def error_event(self, ask: Ask, error: ErrorReply) -> bytes:
        return sse(encode(error.body)) + _DONE

    def blocked(self, ask: Ask, number: int) -> ErrorReply | Answer:
        levels = {"hate": "safe", "self_harm": "safe", "sexual": "safe", "violence": "medium"}
        result = {name: {"filtered": level != "safe", "severity": level} for name, level in levels.items()}
        inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": result}
        text = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
        error = {"message": text, "type": None, "param": "prompt", "code": "content_filter", "status": 400}
        return ErrorReply(400, {"error": error | {"innererror": inner}})

    def headers(self, number: int) -> tuple[tuple[str, str], ...]:
        return (("x-request-id", f"req_sim{number:08d}"), ("openai-processing-ms", "7"))

    def _envelope(self, ask: Ask, number: int, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        head = {"id": f"chatcmpl-sim{number:08d}", "object": kind, "created": CREATED, "model": ask.model}
        return {**head, "service_tier": "default", "system_fingerprint": "fp_simulator", "choices": choices}


def _turn(message: dict[str, Any]) -> Turn:
    content = message.get("content")
    parts = [as_dict(part) for part in as_list(content)]
    text = content if isinstance(content, str) else "".join(as_text(part.get("text")) for part in parts)
    role = _ROLES.get(as_text(message.get("role")), "user")
    if role == "tool":
        return Turn(role="tool", results=(text,))
    images = sum(part.get("type") == "image_url" for part in parts)
    return Turn(role=role, text=text, images=images, has_calls=bool(message.get("tool_calls")))


def _tool_choice(given: object) -> tuple[ToolMode, str]:
    if isinstance(given, dict):
        return "named", as_text(as_dict(given.get("function")).get("name"))
    return ("none", "") if given == "none" else ("required", "") if given == "required" else ("auto", "")


def _output(given: dict[str, Any]) -> tuple[Literal["json_object", "json_schema"] | None, Any]:
    if given.get("type") == "json_schema":
        return "json_schema", as_dict(given.get("json_schema")).get("schema")
    return ("json_object" if given.get("type") == "json_object" else None), None


def _deltas(answer: Answer) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"reasoning_content": piece} for piece in cut(answer.reasoning)]
    deltas += [{"content": piece} for piece in answer.pieces]
    deltas += [{"refusal": piece} for piece in cut(answer.refusal)]
    for index, call in enumerate(answer.calls):
        begin = {"id": f"call_{call.id}", "type": "function", "function": {"name": call.name, "arguments": ""}}
        deltas.append({"tool_calls": [{"index": index, **begin}]})
        pieces = [call.arguments[i : i + 8] for i in range(0, len(call.arguments), 8)]
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in pieces]
    return deltas


def _finish(answer: Answer) -> str:
    # A call that was forced by name ends with `stop`, as at OpenAI.
    return answer.raw_finish or ("stop" if answer.is_forced_call else answer.finish)


def _usage(ask: Ask, answer: Answer) -> dict[str, Any]:
    completion = answer.text_tokens + answer.reasoning_tokens
    return {
        "prompt_tokens": ask.prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": ask.prompt_tokens + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": answer.reasoning_tokens, "audio_tokens": 0},
    }


def _wait_headers(wait: Wait) -> tuple[tuple[str, str], ...]:
    seconds = in_seconds(wait.seconds)
    if wait.form == "native":
        return (("retry-after", seconds), ("retry-after-ms", in_seconds(wait.seconds * 1000)))
    if wait.form == "reset":
        return (
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", f"{seconds}s"),
        )
    return ()
