"""Gemini's generateContent as the simulator speaks it: requests in, bodies, events and errors out.

It knows nothing of faults or sockets.
"""

from __future__ import annotations

import re
from typing import Any, Literal
from urllib.parse import parse_qs, unquote

import msgspec

from crossfade.simulator.answers import Answer, cut
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
    choices_of,
    result_text,
    tool_spec,
)
from crossfade.simulator.dialect import ErrorReply, Event, Wait, encode, in_seconds, sse

PATH = re.compile(r"/models/([^/:]+):(generateContent|streamGenerateContent)$")

_MODES: dict[str, ToolMode] = {"ANY": "required", "NONE": "none"}
_FINISHES = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
_CRLF = b"\r\n"

# name: HTTP status, status, message. `{model}` and `{wait}` are filled in.
_ERRORS: dict[str, tuple[int, str, str]] = {
    "400": (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    "401": (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
    "402": (402, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted."),
    "403": (403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers."),
    "404": (
        404,
        "NOT_FOUND",
        "models/{model} is not found for API version v1beta, or is not supported for generateContent. Call"
        " ModelService.ListModels to see the list of available models.",
    ),
    "408": (408, "DEADLINE_EXCEEDED", "Request timed out."),
    "413": (413, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes."),
    "422": (422, "INVALID_ARGUMENT", "Unprocessable entity."),
    "429": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan.{wait}"),
    "quota": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan.{wait}"),
    "500": (500, "INTERNAL", "An internal error has occurred. Please retry."),
    "502": (502, "UNAVAILABLE", "Bad gateway."),
    "503": (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "504": (504, "DEADLINE_EXCEEDED", "Gateway timeout"),
    "529": (529, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "context": (
        400,
        "INVALID_ARGUMENT",
        "The input token count (1250074) exceeds the maximum number of tokens allowed (1048576).",
    ),
    "prefill": (400, "INVALID_ARGUMENT", "Please ensure that the last turn is a user turn."),
}


class Gemini:
    """generateContent and streamGenerateContent."""

    name = "gemini"

    def read(self, path: str, query: str, body: dict[str, Any]) -> Ask:
        found = PATH.search(path)
        if found is None:
            raise BadAsk("The path names no model.")
        config = _field(body, "generationConfig")
        calling = _field(_field(body, "toolConfig"), "functionCallingConfig")
        names = as_words(_value(calling, "allowedFunctionNames"))
        mode = _MODES.get(as_text(calling.get("mode")).upper(), "auto")
        system = _texts(as_list(_field(body, "systemInstruction").get("parts")))
        turns = [Turn(role="system", text=system)] if system else []
        output, schema = _output(config)
        return Ask(
            model=unquote(found[1]),
            turns=(*turns, *(_turn(as_dict(content)) for content in as_list(body.get("contents")))),
            stream=found[2] == "streamGenerateContent",
            is_sse=parse_qs(query).get("alt") == ["sse"],
            include_usage=True,
            tools=_tools(body),
            tool_mode="named" if mode == "required" and len(names) == 1 else mode,
            tool_name=names[0] if names else "",
            output=output,
            schema=schema,
            n=choices_of(_value(config, "candidateCount")),
            stop=as_words(_value(config, "stopSequences")),
            max_tokens=as_count(_value(config, "maxOutputTokens")),
            wants_thinking=_value(_field(config, "thinkingConfig"), "includeThoughts") is True,
        )

    def whole(self, ask: Ask, answer: Answer, number: int) -> dict[str, Any]:
        parts = [{"text": answer.reasoning, "thought": True}] if answer.reasoning else []
        if answer.text:
            parts.append({"text": answer.text})
        parts += _call_parts(answer)
        candidates = [_candidate(i, parts, _finish(answer)) for i in range(ask.n)]
        return self._envelope(ask, answer, number, candidates)

    def no_choices(self, ask: Ask, number: int) -> dict[str, Any]:
        return self._envelope(ask, Answer(), number, [])

    def events(self, ask: Ask, answer: Answer, number: int) -> list[Event]:
        def event(parts: list[dict[str, Any]], finish: str | None = None) -> list[bytes]:
            return [encode(self._envelope(ask, answer, number, [_candidate(i, parts, finish)])) for i in range(ask.n)]

        pieces = [[{"text": piece, "thought": True}] for piece in cut(answer.reasoning)]
        pieces += [[{"text": piece}] for piece in answer.pieces]
        pieces += [[part] for part in _call_parts(answer)]
        events = [Event(data, "content") for parts in pieces for data in event(parts)]
        events += [Event(data, "finish") for data in event([], _finish(answer))]
        framed = [Event(self.event(ask, one.data), one.part) for one in events]
        if ask.is_sse:
            return framed
        framed[0] = Event(b"[" + events[0].data, framed[0].part)
        return [*framed, Event(b"]", "closing")]

    def event(self, ask: Ask, text: bytes) -> bytes:
        return sse(text, end=_CRLF) if ask.is_sse else b",\r\n" + text

    def stream_type(self, ask: Ask) -> str:
        return "text/event-stream" if ask.is_sse else "application/json; charset=UTF-8"

    def comment(self, ask: Ask) -> bytes:
        return b": keep-alive\r\n\r\n" if ask.is_sse else b"\n"

    def error(self, name: str, ask: Ask | None, message: str | None = None, wait: Wait | None = None) -> ErrorReply:
        status, word, text = _ERRORS.get(name, _ERRORS["500"])
        again = f" Please retry in {in_seconds(wait.seconds)}s." if wait else ""
        text = message or text.replace("{model}", ask.model if ask else "").replace("{wait}", again)
        error: dict[str, Any] = {"code": status, "message": text, "status": word}
        if details := _details(name, wait):
            error["details"] = details
        return ErrorReply(status, {"error": error})

    def error_event(self, ask: Ask, error: ErrorReply) -> bytes:
        return self.event(ask, encode(error.body)) + (b"" if ask.is_sse else b"]")

    def blocked(self, ask: Ask, number: int) -> ErrorReply | Answer:
        body = self.no_choices(ask, number)
        del body["candidates"]
        return ErrorReply(200, body | {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})

    def headers(self, number: int) -> tuple[tuple[str, str], ...]:
        return (("server-timing", "gfet4t7; dur=7"), ("vary", "Origin, X-Origin, Referer"))

    def _envelope(self, ask: Ask, answer: Answer, number: int, candidates: list[dict[str, Any]]) -> dict[str, Any]:
        usage = {
            "promptTokenCount": ask.prompt_tokens,
            "candidatesTokenCount": answer.text_tokens,
            "totalTokenCount": ask.prompt_tokens + answer.text_tokens + answer.reasoning_tokens,
        }
        if answer.reasoning:
            usage["thoughtsTokenCount"] = answer.reasoning_tokens
        ids = {"modelVersion": ask.model, "responseId": f"sim{number:08d}"}
        return {"candidates": candidates, "usageMetadata": usage, **ids}


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda found: f"_{found[1].lower()}", name)


def _value(body: dict[str, Any], name: str) -> Any:
    """A field by its camelCase or its snake_case name: the API takes both."""
    return body.get(name, body.get(_snake(name)))


def _field(body: dict[str, Any], name: str) -> dict[str, Any]:
    return as_dict(_value(body, name))


def _turn(content: dict[str, Any]) -> Turn:
    parts = [as_dict(part) for part in as_list(content.get("parts"))]
    results = tuple(
        result_text(answer.get("response")) for part in parts if (answer := _field(part, "functionResponse"))
    )
    media = [_field(part, "inlineData") or _field(part, "fileData") for part in parts]
    return Turn(
        role="assistant" if content.get("role") == "model" else "user",
        text=_texts(parts),
        images=sum(as_text(_value(one, "mimeType")).startswith("image/") for one in media),
        results=results,
        has_calls=any(_field(part, "functionCall") for part in parts),
    )


def _texts(parts: list[Any]) -> str:
    return "".join(as_text(as_dict(p).get("text")) for p in parts if as_dict(p).get("thought") is not True)


def _tools(body: dict[str, Any]) -> tuple[Any, ...]:
    declared = [
        function
        for tool in as_list(body.get("tools"))
        for function in as_list(_value(as_dict(tool), "functionDeclarations"))
    ]
    fields = ("parametersJsonSchema", "parameters_json_schema", "parameters")
    return tuple(spec for function in declared if (spec := tool_spec(function, *fields)) is not None)


def _output(config: dict[str, Any]) -> tuple[Literal["json_object", "json_schema"] | None, Any]:
    if _value(config, "responseMimeType") != "application/json":
        return None, None
    schema = _value(config, "responseJsonSchema") or _value(config, "responseSchema")
    return ("json_schema", schema) if schema else ("json_object", None)


def _candidate(index: int, parts: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": index}
    if not parts:
        # The last candidate of a stream has a finish reason and nothing else.
        candidate["content"] = {"role": "model"}
    return candidate | ({"finishReason": finish} if finish else {})


def _call_parts(answer: Answer) -> list[dict[str, Any]]:
    parts = []
    for number, call in enumerate(answer.calls):
        try:
            arguments = msgspec.json.decode(call.arguments)
        except msgspec.DecodeError:
            continue  # broken arguments are no part but the finish reason MALFORMED_FUNCTION_CALL
        part: dict[str, Any] = {"functionCall": {"name": call.name, "args": arguments}}
        # Only the first call of a turn is signed.
        parts.append(part | ({} if number else {"thoughtSignature": "c2ltdWxhdGVk"}))
    return parts


def _finish(answer: Answer) -> str:
    if answer.calls and not _call_parts(answer):
        return "MALFORMED_FUNCTION_CALL"
    return answer.raw_finish or ("PROHIBITED_CONTENT" if answer.refusal else _FINISHES[answer.finish])


def _details(name: str, wait: Wait | None) -> list[dict[str, Any]]:
    kind = "type.googleapis.com/google.rpc."
    if name == "401":
        return [{"@type": f"{kind}ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}]
    details: list[dict[str, Any]] = []
    if name in ("429", "quota"):
        period = "Day" if name == "quota" else "Minute"
        metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
        quota = {"quotaMetric": metric, "quotaId": f"GenerateRequestsPer{period}PerProjectPerModel-FreeTier"}
        details.append({"@type": f"{kind}QuotaFailure", "violations": [{**quota, "quotaValue": "15"}]})
    if wait and wait.form in ("native", "body"):
        details.append({"@type": f"{kind}RetryInfo", "retryDelay": f"{in_seconds(wait.seconds)}s"})
    return details
