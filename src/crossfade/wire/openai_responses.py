"""The canonical chat request written as a request to the Responses API, for callers of another dialect.

Nothing is kept there of what is asked: `store` is false. What the API has no field for is named, so that the attempt's
record can say what was dropped.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import (
    AudioPart,
    ChatRequest,
    FilePart,
    ImagePart,
    Message,
    OutputFormat,
    Part,
    TextPart,
    Tool,
    ToolChoice,
)
from crossfade.core.target import Target
from crossfade.wire.responses_request import LEAST_TOKENS
from crossfade.wire.written import Written

MAX_CALL_ID: Final = 64
"""Characters of `call_id`; the API refuses longer ones."""

_encode = msgspec.json.encode
_Json = dict[str, object]


def write_request(request: ChatRequest, target: Target, *, stream: bool) -> Written:
    """The body for `target`. Raises InvalidRequest for more than one choice, which the API does not give."""
    if request.n > 1:
        raise InvalidRequest("`n` must be 1: the Responses API gives one answer.", param="n")
    dropped = list(request.others)
    if any(message.name is not None for message in request.messages):
        dropped.append("name")
    body: _Json = {"model": target.model, "input": [item for message in request.messages for item in _items(message)]}
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice)
    if request.output is not None:
        body["text"] = {"format": _format(request.output)}
    if request.reasoning_effort is not None:
        body["reasoning"] = {"effort": request.reasoning_effort}
    if request.max_tokens is not None:
        body["max_output_tokens"] = max(LEAST_TOKENS, request.max_tokens)
        if request.max_tokens < LEAST_TOKENS:
            dropped.append(f"max_tokens<{LEAST_TOKENS}")
    for name, value in (
        ("parallel_tool_calls", request.parallel_tool_calls),
        ("temperature", request.temperature),
        ("top_p", request.top_p),
        ("user", request.user),
    ):
        if value is not None:
            body[name] = value
    dropped += [name for name, value in _unsayable(request) if value]
    body["store"] = False
    for name in target.drop_params:
        body.pop(name, None)
    for name, text in target.set_params:
        body[name] = msgspec.Raw(text)
    if stream:
        body["stream"] = True
    return Written(_encode(body), tuple(dropped))


def _unsayable(request: ChatRequest) -> tuple[tuple[str, object], ...]:
    return (
        ("stop", request.stop),
        ("top_k", request.top_k is not None),
        ("seed", request.seed is not None),
        ("frequency_penalty", request.frequency_penalty),
        ("presence_penalty", request.presence_penalty),
        ("logprobs", request.logprobs),
        ("top_logprobs", request.top_logprobs),
    )


# --- items ---------------------------------------------------------------------------------------------------


def _items(message: Message) -> list[_Json]:
    if message.role == "tool":
        output = _content(message.parts, "input_text")
        return [{"type": "function_call_output", "call_id": call_id_of(message.call_id), "output": output}]
    if message.role != "assistant":
        return [{"role": message.role, "content": _content(message.parts, "input_text")}]
    items: list[_Json] = []
    if message.refusal:
        said = [_part(part, "output_text") for part in message.parts]
        items.append({"role": "assistant", "content": [*said, {"type": "refusal", "refusal": message.refusal}]})
    elif (content := _content(message.parts, "output_text")) or not message.tool_calls:
        items.append({"role": "assistant", "content": content})
    for call in message.tool_calls:
        made: _Json = {"type": "function_call", "call_id": call_id_of(call.id), "name": call.name}
        items.append(made | {"arguments": call.arguments or "{}"})
    return items


def call_id_of(given: str) -> str:
    """The id of a call as the API takes it: one that is too long becomes another, the same in call and result."""
    if len(given) <= MAX_CALL_ID:
        return given
    return f"call_{hashlib.blake2s(given.encode()).hexdigest()[: MAX_CALL_ID - 5]}"


def _content(parts: tuple[Part, ...], text_type: str) -> str | list[_Json]:
    if not parts:
        return ""
    if len(parts) == 1 and isinstance(parts[0], TextPart):
        return parts[0].text
    return [_part(part, text_type) for part in parts]


def _part(part: Part, text_type: str) -> _Json:
    match part:
        case TextPart():
            return {"type": text_type, "text": part.text}
        case ImagePart():
            image: _Json = {"type": "input_image", "image_url": part.url or _data_url(part.media_type, part.data)}
            return image if part.detail is None else image | {"detail": part.detail}
        case AudioPart():
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
        case FilePart():
            return {"type": "input_file"} | _file(part)


def _file(part: FilePart) -> _Json:
    if part.file_id is not None:
        return {"file_id": part.file_id}
    if part.url is not None:
        return {"file_url": part.url}
    data = part.data if part.media_type is None else _data_url(part.media_type, part.data)
    return {"filename": part.name or "file", "file_data": data}


def _data_url(media_type: str | None, data: str | None) -> str:
    return f"data:{media_type or 'application/octet-stream'};base64,{data or ''}"


# --- tools and output ----------------------------------------------------------------------------------------


def _tool(tool: Tool) -> _Json:
    """A function. The API takes tools for strict where they do not say, chat does not."""
    written: _Json = {"type": "function", "name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    written["parameters"] = _NOTHING if tool.parameters is None else msgspec.Raw(tool.parameters)
    written["strict"] = tool.strict is True
    return written


_NOTHING: Final[_Json] = {"type": "object", "properties": {}}
"""The parameters of a function that takes none: the field has to be there."""


def _tool_choice(choice: ToolChoice) -> object:
    return {"type": "function", "name": choice.name} if choice.mode == "named" else choice.mode


def _format(output: OutputFormat) -> _Json:
    if output.kind == "json_object":
        return {"type": "json_object"}
    made: _Json = {"type": "json_schema", "name": output.name}
    if output.description is not None:
        made["description"] = output.description
    made["schema"] = {} if output.schema is None else msgspec.Raw(output.schema)
    made["strict"] = output.strict
    return made
