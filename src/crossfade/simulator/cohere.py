"""Cohere's chat (v2) as the simulator speaks it: requests in, bodies, events and errors out.

It knows nothing of faults or sockets.
"""

from __future__ import annotations

import re
from typing import Any

from crossfade.simulator.answers import Answer, Call, cut
from crossfade.simulator.ask import (
    Ask,
    BadAsk,
    Role,
    ToolMode,
    Turn,
    as_count,
    as_dict,
    as_list,
    as_text,
    as_words,
    tool_spec,
)
from crossfade.simulator.dialect import ErrorReply, Event, Wait, encode, in_seconds, sse

PATH = re.compile(r"/v2/chat$")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ROLES: dict[str, Role] = {"system": "system", "assistant": "assistant", "tool": "tool"}
_CHOICES: dict[str, ToolMode] = {"REQUIRED": "required", "NONE": "none"}
_FINISHES = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL", "content_filter": "ERROR_TOXIC"}
_DONE = b"data: [DONE]\n\n"
_THINKS = ("command-a-plus", "command-a-reasoning")
"""Models that say nothing of what their calls are for beside what they think."""
_LIMITED = "You are using a Trial key, which is limited to {limit}.{wait} You can upgrade to a Production key."

# name: status, error type, message. `{model}`, `{limit}` and `{wait}` are filled in.
_ERRORS: dict[str, tuple[int, str | None, str]] = {
    "400": (400, None, "invalid request: temperature must be between 0 and 1.0 inclusive."),
    "401": (401, None, "Incorrect API key provided: ***"),
    "402": (402, None, "please add or update your payment method"),
    "403": (403, None, "your key is not allowed to use this endpoint"),
    "404": (
        404,
        None,
        "model '{model}' not found, make sure the correct model ID was used and that you have access to the model.",
    ),
    "408": (408, None, "request timed out"),
    "413": (413, None, "the body of the request exceeds the limit"),
    "422": (422, None, "invalid request: the message could not be processed"),
    "429": (429, None, _LIMITED.replace("{limit}", "40 API calls / minute")),
    "quota": (429, None, _LIMITED.replace("{limit}", "1000 API calls / month")),
    "500": (500, None, "internal server error, this has been reported to our developers"),
    "502": (502, None, "bad gateway"),
    "503": (503, None, "service unavailable"),
    "504": (504, None, "gateway timeout"),
    "529": (529, None, "overloaded"),
    "context": (
        400,
        "TOO_MANY_TOKENS",
        "too many tokens: size limit exceeded by 25836 tokens. Try using shorter or fewer inputs. The limit for this"
        " model is 288000 tokens.",
    ),
    "prefill": (400, None, "invalid request: the last message must be of a user or a tool"),
}


class Cohere:
    """Chat."""

    name = "cohere"

    def read(self, path: str, query: str, body: dict[str, Any]) -> Ask:
        messages = [as_dict(message) for message in as_list(body.get("messages"))]
        if not as_text(body.get("model")) or not messages:
            raise BadAsk("invalid request: model and messages are required")
        functions = [as_dict(tool).get("function") for tool in as_list(body.get("tools"))]
        specs = [spec for function in functions if (spec := tool_spec(function, "parameters")) is not None]
        if bad := next((spec.name for spec in specs if not _NAME.fullmatch(spec.name)), None):
            raise BadAsk(
                "invalid request: tool names can only contain certain characters (A-Za-z0-9_) and can't begin with a"
                f" digit (provided name: '{bad}')."
            )
        if any(message.get("role") == "system" for message in messages[1:]):
            raise BadAsk("system turn must be the first in the list")
        format_ = as_dict(body.get("response_format"))
        if format_ and (specs or body.get("documents")):
            raise BadAsk("invalid request: response_format cannot be used with tools or documents")
        schema = format_.get("json_schema")
        kind = format_.get("type") == "json_object"
        return Ask(
            model=as_text(body.get("model")),
            turns=tuple(_turn(message) for message in messages),
            stream=body.get("stream") is True,
            include_usage=True,
            tools=tuple(specs),
            tool_mode=_CHOICES.get(as_text(body.get("tool_choice")), "auto"),
            output="json_schema" if kind and schema else "json_object" if kind else None,
            schema=schema,
            stop=as_words(body.get("stop_sequences")),
            max_tokens=as_count(body.get("max_tokens")),
            wants_thinking=as_dict(body.get("thinking")).get("type") == "enabled",
        )

    def whole(self, ask: Ask, answer: Answer, number: int) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant"}
        content = [{"type": "thinking", "thinking": answer.reasoning}] if answer.reasoning else []
        if answer.text or answer.refusal:
            content.append({"type": "text", "text": answer.text or answer.refusal})
        if content:
            message["content"] = content
        if plan := _plan(ask, answer):
            message["tool_plan"] = plan
        if answer.calls:
            message["tool_calls"] = [_call(call, call.arguments) for call in answer.calls]
        return {
            "id": _id(number),
            "message": message,
            "finish_reason": _finish(answer),
            "usage": _usage(ask, answer),
        }

    def no_choices(self, ask: Ask, number: int) -> dict[str, Any]:
        return {"id": _id(number), "usage": _usage(ask, Answer())}

    def events(self, ask: Ask, answer: Answer, number: int) -> list[Event]:
        message = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        events = [Event(_event("message-start", {"message": message}, id=_id(number)), "opening")]
        pieces = answer.pieces or cut(answer.refusal)
        blocks = [("thinking", cut(answer.reasoning)), ("text", pieces)]
        for index, (kind, parts) in enumerate(block for block in blocks if block[1]):
            begin = {"message": {"content": {"type": kind, kind: ""}}}
            events.append(Event(_event("content-start", begin, index=index), "opening"))
            for part in parts:
                delta = {"message": {"content": {kind: part}}}
                events.append(Event(_event("content-delta", delta, index=index), "content"))
            events.append(Event(_event("content-end", index=index), "closing"))
        plans = [{"message": {"tool_plan": part}} for part in cut(_plan(ask, answer))]
        events += [Event(_event("tool-plan-delta", plan), "content") for plan in plans]
        for index, call in enumerate(answer.calls):
            opened = {"message": {"tool_calls": _call(call, "")}}
            events.append(Event(_event("tool-call-start", opened, index=index), "content"))
            for at in range(0, len(call.arguments), 8):
                piece = {"message": {"tool_calls": {"function": {"arguments": call.arguments[at : at + 8]}}}}
                events.append(Event(_event("tool-call-delta", piece, index=index), "content"))
            events.append(Event(_event("tool-call-end", index=index), "closing"))
        ending = {"finish_reason": _finish(answer), "usage": _usage(ask, answer)}
        return [*events, Event(_event("message-end", ending), "finish"), Event(_DONE, "marker")]

    def event(self, ask: Ask, text: bytes) -> bytes:
        return sse(text, "content-delta")

    def stream_type(self, ask: Ask) -> str:
        return "text/event-stream"

    def comment(self, ask: Ask) -> bytes:
        return b": keep-alive\n\n"

    def error(self, name: str, ask: Ask | None, message: str | None = None, wait: Wait | None = None) -> ErrorReply:
        status, kind, text = _ERRORS.get(name, _ERRORS["500"])
        again = f" Please try again in {in_seconds(wait.seconds)}s." if wait is not None and wait.form == "body" else ""
        text = message or text.replace("{model}", ask.model if ask else "").replace("{wait}", again)
        body = {"id": _id(0), "message": text}
        return ErrorReply(status, body if kind is None else {"error_type": kind, **body})

    def error_event(self, ask: Ask, error: ErrorReply) -> bytes:
        """The end of a generation that failed, as recorded: its marker comes all the same."""
        delta = {"finish_reason": "ERROR", "usage": {}, "error": error.body["message"]}
        if kind := error.body.get("error_type"):
            delta["error_type"] = kind
        return _event("message-end", delta) + _DONE

    def blocked(self, ask: Ask, number: int) -> ErrorReply | Answer:
        return Answer(finish="content_filter")

    def headers(self, number: int) -> tuple[tuple[str, str], ...]:
        return (("x-debug-trace-id", f"{number:032x}"),)


def _id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def _event(kind: str, delta: dict[str, Any] | None = None, **more: Any) -> bytes:
    body = {"type": kind, **more} if delta is None else {"type": kind, **more, "delta": delta}
    return sse(encode(body), kind)


def _turn(message: dict[str, Any]) -> Turn:
    parts = [as_dict(part) for part in as_list(message.get("content"))]
    text = as_text(message.get("content")) or "".join(as_text(part.get("text")) for part in parts)
    role = _ROLES.get(as_text(message.get("role")), "user")
    if role == "tool":
        return Turn(role="tool", results=(text,))
    images = sum(part.get("type") == "image_url" for part in parts)
    text = text or as_text(message.get("tool_plan"))
    return Turn(role=role, text=text, images=images, has_calls=bool(message.get("tool_calls")))


def _plan(ask: Ask, answer: Answer) -> str:
    if not answer.calls or ask.model.startswith(_THINKS):
        return ""
    return f"I will use {answer.calls[0].name} to find the answer."


def _call(call: Call, arguments: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": arguments}
    return {"id": f"{call.name}_{call.id}", "type": "function", "function": function}


def _finish(answer: Answer) -> str:
    if answer.stop_sequence is not None:
        return "STOP_SEQUENCE"
    return answer.raw_finish or ("ERROR_TOXIC" if answer.refusal else _FINISHES[answer.finish])


def _usage(ask: Ask, answer: Answer) -> dict[str, Any]:
    output = answer.text_tokens + answer.reasoning_tokens
    counts = {"input_tokens": ask.prompt_tokens, "output_tokens": output}
    tokens = counts | ({"reasoning_tokens": answer.reasoning_tokens} if answer.reasoning else {})
    return {"billed_units": counts, "tokens": tokens, "cached_tokens": 0}
