"""Bedrock as the simulator speaks it: Converse, and InvokeModel for Claude. Requests in, bodies, frames and errors out.

A key is taken as it comes; a signature has to have its parts, and is not computed again. It knows nothing of faults or
sockets.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from crossfade.simulator.answers import Answer, cut
from crossfade.simulator.anthropic import Anthropic
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
from crossfade.simulator.dialect import ErrorReply, Event, Wait, encode, in_seconds
from crossfade.wire.event_stream import FRAMES, write_frame
from crossfade.wire.sse import fields_of

CONVERSE: Final = re.compile(r"/model/([^/]+)/(converse|converse-stream)$")
INVOKE: Final = re.compile(r"/model/([^/]+)/(invoke|invoke-with-response-stream)$")

_PADDING: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_SIGNATURE: Final = "EqQBCgIYAhIkc2ltdWxhdGVk"
_FINISHES = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "content_filtered"}

# name: status, type, message. `{model}` is filled in.
_ERRORS: dict[str, tuple[int, str, str]] = {
    "400": (400, "ValidationException", "The model returned the following errors: temperature: range: 0..1"),
    "401": (403, "UnrecognizedClientException", "The security token included in the request is invalid."),
    "402": (402, "ServiceQuotaExceededException", "Your account has no more credits."),
    "403": (403, "AccessDeniedException", "User is not authorized to perform: bedrock:InvokeModel"),
    "404": (404, "ResourceNotFoundException", "Could not resolve the foundation model from {model}."),
    "408": (408, "ModelTimeoutException", "Model has timed out in processing the request. Try your request again."),
    "413": (413, "ValidationException", "The request body is larger than the limit."),
    "422": (422, "ValidationException", "Unprocessable entity."),
    "429": (429, "ThrottlingException", "Too many requests, please wait before trying again."),
    "quota": (429, "ThrottlingException", "Too many tokens per day, please wait before trying again."),
    "500": (500, "InternalServerException", "The system encountered an unexpected error during processing."),
    "502": (502, "ModelErrorException", "Bad gateway."),
    "503": (503, "ServiceUnavailableException", "Bedrock is unable to process your request."),
    "504": (504, "InternalServerException", "Gateway timeout."),
    "529": (529, "ServiceUnavailableException", "The model is overloaded."),
    "context": (
        400,
        "ValidationException",
        "The model returned the following errors: Input Tokens Exceeded: Number of input tokens exceeds maximum"
        " length. Please update the input to try again.",
    ),
    "prefill": (
        400,
        "ValidationException",
        "This model does not support assistant message prefill. The conversation must end with a user message.",
    ),
}


class Bedrock:
    """Converse and ConverseStream."""

    name = "bedrock"

    def read(self, path: str, query: str, body: dict[str, Any]) -> Ask:
        model, method = _asked(CONVERSE, path)
        config, tools = as_dict(body.get("inferenceConfig")), as_dict(body.get("toolConfig"))
        more, format_ = as_dict(body.get("additionalModelRequestFields")), _format(body)
        mode, name = _choice(as_dict(tools.get("toolChoice")))
        system = _text(body.get("system"))
        turns = [Turn(role="system", text=system)] if system else []
        specs = [_tool(as_dict(as_dict(tool).get("toolSpec"))) for tool in as_list(tools.get("tools"))]
        return Ask(
            model=model,
            turns=(*turns, *(_turn(as_dict(message)) for message in as_list(body.get("messages")))),
            stream=method == "converse-stream",
            include_usage=True,
            tools=tuple(spec for spec in specs if spec is not None),
            tool_mode=mode,
            tool_name=name,
            output="json_schema" if format_ is not None else None,
            schema=format_,
            stop=as_words(config.get("stopSequences")),
            max_tokens=as_count(config.get("maxTokens")),
            wants_thinking=as_dict(more.get("thinking")).get("type") == "enabled",
        )

    def whole(self, ask: Ask, answer: Answer, number: int) -> dict[str, Any]:
        content: list[dict[str, Any]] = []
        if answer.reasoning:
            thought = {"text": answer.reasoning, "signature": _SIGNATURE}
            content.append({"reasoningContent": {"reasoningText": thought}})
        if answer.text or answer.refusal:
            content.append({"text": answer.text or answer.refusal})
        content += [{"toolUse": {"input": _input(one.arguments), **_call(one.id, one.name)}} for one in answer.calls]
        output = {"message": {"content": content, "role": "assistant"}}
        return {
            "metrics": {"latencyMs": 7},
            "output": output,
            "stopReason": _finish(answer),
            "usage": _usage(ask, answer),
        }

    def no_choices(self, ask: Ask, number: int) -> dict[str, Any]:
        return {"metrics": {"latencyMs": 7}, "output": {}, "usage": _usage(ask, Answer())}

    def events(self, ask: Ask, answer: Answer, number: int) -> list[Event]:
        events = [Event(_frame("messageStart", {"role": "assistant"}), "opening")]
        for index, (start, deltas) in enumerate(_blocks(answer)):
            if start is not None:
                opening = {"contentBlockIndex": index, "start": start}
                events.append(Event(_frame("contentBlockStart", opening), "opening"))
            for delta in deltas:
                piece = {"contentBlockIndex": index, "delta": delta}
                events.append(Event(_frame("contentBlockDelta", piece), "content"))
            events.append(Event(_frame("contentBlockStop", {"contentBlockIndex": index}), "closing"))
        ending = {"metrics": {"latencyMs": 7}, "usage": _usage(ask, answer)}
        stop = Event(_frame("messageStop", {"stopReason": _finish(answer)}), "finish")
        return [*events, stop, Event(_frame("metadata", ending), "marker")]

    def event(self, ask: Ask, text: bytes) -> bytes:
        return _framed("contentBlockDelta", text)

    def stream_type(self, ask: Ask) -> str:
        return FRAMES.media_type

    def comment(self, ask: Ask) -> bytes:
        return _framed("initial-response", b"{}")

    def error(self, name: str, ask: Ask | None, message: str | None = None, wait: Wait | None = None) -> ErrorReply:
        return _error(name, ask, message, wait)

    def error_event(self, ask: Ask, error: ErrorReply) -> bytes:
        return _exception(error)

    def blocked(self, ask: Ask, number: int) -> ErrorReply | Answer:
        return Answer(finish="content_filter", raw_finish="guardrail_intervened")

    def headers(self, number: int) -> tuple[tuple[str, str], ...]:
        return _headers(number)


class BedrockClaude(Anthropic):
    """InvokeModel and InvokeModelWithResponseStream for Claude: Anthropic's bodies, and its events in frames."""

    name = "bedrock-claude"

    def read(self, path: str, query: str, body: dict[str, Any]) -> Ask:
        model, method = _asked(INVOKE, path)
        if not as_text(body.get("anthropic_version")).startswith("bedrock-"):
            raise BadAsk("anthropic_version: Field required")
        if extra := [name for name in ("model", "stream") if name in body]:
            raise BadAsk(f"{extra[0]}: Extra inputs are not permitted")
        ask = super().read(path, query, body | {"model": model})
        ask.stream = method != "invoke"
        return ask

    def events(self, ask: Ask, answer: Answer, number: int) -> list[Event]:
        return [
            Event(_chunk(fields_of(event.data)[1].strip()), event.part) for event in super().events(ask, answer, number)
        ]

    def event(self, ask: Ask, text: bytes) -> bytes:
        return _chunk(text)

    def stream_type(self, ask: Ask) -> str:
        return FRAMES.media_type

    def comment(self, ask: Ask) -> bytes:
        return _chunk(b'{"type":"ping"}')

    def error(self, name: str, ask: Ask | None, message: str | None = None, wait: Wait | None = None) -> ErrorReply:
        return _error(name, ask, message, wait)

    def error_event(self, ask: Ask, error: ErrorReply) -> bytes:
        return _exception(error)

    def headers(self, number: int) -> tuple[tuple[str, str], ...]:
        return _headers(number)


# --- proof ---------------------------------------------------------------------------------------------------

_PROOF: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/,\s]+/(\d{8})/[a-z0-9-]+/bedrock/aws4_request,"
    r" SignedHeaders=([a-z0-9;-]+), Signature=[0-9a-f]{64}"
)
_SIGNED: Final = ("host", "x-amz-date")


def unproven(headers: Mapping[str, str]) -> str | None:
    """What is wrong with a signature, in AWS's manner; None for a key, for nothing at all, and for one of its parts."""
    said = headers.get("authorization", "")
    if not said.startswith("AWS4"):
        return None
    match = _PROOF.fullmatch(said)
    if match is None:
        return "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters."
    names = match[2].split(";")
    if names != sorted(names) or any(name not in names or name not in headers for name in _SIGNED):
        return "The signed headers are not sorted, or 'Host' and 'X-Amz-Date' are not among them."
    if "x-amz-security-token" in headers and "x-amz-security-token" not in names:
        return "'X-Amz-Security-Token' must be a signed header."
    if headers["x-amz-date"][:8] != match[1]:
        return "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP."
    return None


def refusal(message: str) -> ErrorReply:
    """The answer to a request that is not proven."""
    return _reply(403, "IncompleteSignatureException", message)


# --- requests ------------------------------------------------------------------------------------------------


def _asked(shape: re.Pattern[str], path: str) -> tuple[str, str]:
    found = shape.search(path)
    if found is None:
        raise BadAsk("The path names no model.")
    return unquote(found[1]), found[2]


def _choice(choice: dict[str, Any]) -> tuple[ToolMode, str]:
    if "tool" in choice:
        return "named", as_text(as_dict(choice["tool"]).get("name"))
    return ("required" if "any" in choice else "auto"), ""


def _tool(spec: dict[str, Any]) -> Any:
    return tool_spec(spec | {"parameters": as_dict(spec.get("inputSchema")).get("json")}, "parameters")


def _format(body: dict[str, Any]) -> Any:
    structure = as_dict(as_dict(as_dict(body.get("outputConfig")).get("textFormat")).get("structure"))
    text = as_text(as_dict(structure.get("jsonSchema")).get("schema"))
    if not text:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise BadAsk("The schema in outputConfig is no JSON.") from None


def _turn(message: dict[str, Any]) -> Turn:
    blocks = [as_dict(block) for block in as_list(message.get("content"))]
    results = [as_dict(block.get("toolResult")) for block in blocks if "toolResult" in block]
    return Turn(
        role="assistant" if message.get("role") == "assistant" else "user",
        text=_text(blocks),
        images=sum("image" in block for block in blocks),
        results=tuple(_result(result) for result in results),
        has_calls=any("toolUse" in block for block in blocks),
    )


def _text(blocks: object) -> str:
    return "".join(as_text(as_dict(block).get("text")) for block in as_list(blocks))


def _result(result: dict[str, Any]) -> str:
    content = as_list(result.get("content"))
    objects = [result_text(as_dict(block)["json"]) for block in content if "json" in as_dict(block)]
    return "".join([_text(content), *objects])


# --- answers -------------------------------------------------------------------------------------------------


def _call(number: str, name: str) -> dict[str, str]:
    return {"name": name, "toolUseId": f"tooluse_{number}"}


def _input(arguments: str) -> Any:
    try:
        return msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return arguments  # broken arguments cannot be an object


def _blocks(answer: Answer) -> list[tuple[dict[str, Any] | None, list[dict[str, Any]]]]:
    """The blocks of the answer, each with its start, if it has one, and its deltas."""
    blocks: list[tuple[dict[str, Any] | None, list[dict[str, Any]]]] = []
    if answer.reasoning:
        thoughts: list[dict[str, Any]] = [{"reasoningContent": {"text": piece}} for piece in cut(answer.reasoning)]
        blocks.append((None, [*thoughts, {"reasoningContent": {"signature": _SIGNATURE}}]))
    if pieces := answer.pieces or cut(answer.refusal):
        blocks.append((None, [{"text": piece} for piece in pieces]))
    for call in answer.calls:
        parts = [call.arguments[at : at + 8] for at in range(0, len(call.arguments), 8)]
        start = {"toolUse": _call(call.id, call.name)}
        blocks.append((start, [{"toolUse": {"input": part}} for part in parts]))
    return blocks


def _finish(answer: Answer) -> str:
    if answer.stop_sequence is not None:
        return "stop_sequence"
    return answer.raw_finish or ("content_filtered" if answer.refusal else _FINISHES[answer.finish])


def _usage(ask: Ask, answer: Answer) -> dict[str, int]:
    output = answer.text_tokens + answer.reasoning_tokens
    return {"inputTokens": ask.prompt_tokens, "outputTokens": output, "totalTokens": ask.prompt_tokens + output}


def _headers(number: int) -> tuple[tuple[str, str], ...]:
    return (("x-amzn-requestid", f"00000000-0000-4000-8000-{number:012d}"),)


# --- frames --------------------------------------------------------------------------------------------------


def _frame(kind: str, body: dict[str, Any]) -> bytes:
    """An event, padded as at Bedrock, whose lengths are not to tell what is in it."""
    return _framed(kind, encode(body | {"p": _PADDING[: 4 + len(kind)]}))


def _framed(kind: str, payload: bytes) -> bytes:
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return write_frame(headers, payload)


def _chunk(data: bytes) -> bytes:
    return _frame("chunk", {"bytes": base64.b64encode(data).decode()})


def _exception(error: ErrorReply) -> bytes:
    kind = as_text(error.body.get("__type"))
    headers = {
        ":exception-type": kind[:1].lower() + kind[1:],
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    return write_frame(headers, encode({"message": error.body["message"]}))


# --- errors --------------------------------------------------------------------------------------------------


def _error(name: str, ask: Ask | None, message: str | None, wait: Wait | None) -> ErrorReply:
    status, kind, text = _ERRORS.get(name, _ERRORS["500"])
    text = message or text.replace("{model}", ask.model if ask else "")
    again = (("retry-after", in_seconds(wait.seconds)),) if wait is not None and wait.form == "native" else ()
    return _reply(status, kind, text, again)


def _reply(status: int, kind: str, message: str, headers: tuple[tuple[str, str], ...] = ()) -> ErrorReply:
    """The type stands in a header, and in the body as well, for those that come in a 200."""
    named = ("x-amzn-errortype", f"{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/")
    return ErrorReply(status, {"__type": kind, "message": message}, (named, *headers))
