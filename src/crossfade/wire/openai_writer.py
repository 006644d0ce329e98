"""The canonical chat request written as an OpenAI chat body, for callers of another dialect."""

from __future__ import annotations

from typing import Literal

import msgspec

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

_encode = msgspec.json.encode
_Json = dict[str, object]


def write_request(
    request: ChatRequest,
    target: Target,
    *,
    stream: bool,
    include_usage: bool = True,
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens",
    marks_prefix: bool = False,
) -> bytes:
    """An OpenAI chat body. `marks_prefix`: a last assistant turn is marked with `prefix: true`."""
    messages = [_message(message) for message in request.messages]
    if marks_prefix and messages and messages[-1]["role"] == "assistant":
        messages[-1]["prefix"] = True
    body: _Json = {"model": target.model, "messages": messages}
    if request.tools:
        body["tools"] = [{"type": "function", "function": _tool(tool)} for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice)
    if request.output is not None:
        body["response_format"] = _output(request.output)
    body |= {
        name: value
        for name, value in (
            ("parallel_tool_calls", request.parallel_tool_calls),
            (max_tokens_field, request.max_tokens),
            ("temperature", request.temperature),
            ("top_p", request.top_p),
            ("top_k", request.top_k),
            ("stop", list(request.stop) or None),
            ("n", request.n if request.n != 1 else None),
            ("seed", request.seed),
            ("frequency_penalty", request.frequency_penalty),
            ("presence_penalty", request.presence_penalty),
            ("reasoning_effort", request.reasoning_effort),
            ("logprobs", request.logprobs or None),
            ("top_logprobs", request.top_logprobs),
            ("user", request.user),
        )
        if value is not None
    }
    for name in target.drop_params:
        body.pop(name, None)
    for name, value in target.set_params:
        body[name] = msgspec.Raw(value)
    if stream:
        body["stream"] = True
        if include_usage:
            body["stream_options"] = {"include_usage": True}
    return _encode(body)


def _message(message: Message) -> _Json:
    written: _Json = {"role": message.role}
    if message.role == "tool":
        written["tool_call_id"] = message.call_id
    if message.name is not None:
        written["name"] = message.name
    written["content"] = _content(message)
    if message.refusal is not None:
        written["refusal"] = message.refusal
    if message.tool_calls:
        written["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments or "{}"},
            }
            for call in message.tool_calls
        ]
    return written


def _content(message: Message) -> object:
    parts = message.parts
    if not parts:
        return None if message.tool_calls or message.refusal is not None else ""
    if len(parts) == 1 and isinstance(parts[0], TextPart):
        return parts[0].text
    return [_part(part) for part in parts]


def _part(part: Part) -> _Json:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            image: _Json = {"url": part.url or _data_url(part.media_type, part.data)}
            if part.detail is not None:
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case AudioPart():
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
        case FilePart():
            return {"type": "file", "file": _file(part)}


def _file(part: FilePart) -> _Json:
    file: _Json = {}
    if part.name is not None:
        file["filename"] = part.name
    if part.file_id is not None:
        file["file_id"] = part.file_id
    elif part.url is not None:
        file["file_data"] = part.url
    elif part.media_type is not None:
        file["file_data"] = _data_url(part.media_type, part.data)
    else:
        file["file_data"] = part.data
    return file


def _data_url(media_type: str | None, data: str | None) -> str:
    return f"data:{media_type or 'application/octet-stream'};base64,{data or ''}"


def _tool(tool: Tool) -> _Json:
    written: _Json = {"name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    if tool.parameters is not None:
        written["parameters"] = msgspec.Raw(tool.parameters)
    if tool.strict is not None:
        written["strict"] = tool.strict
    return written


def _tool_choice(choice: ToolChoice) -> object:
    if choice.mode == "named":
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


def _output(output: OutputFormat) -> _Json:
    if output.kind == "json_object":
        return {"type": "json_object"}
    schema: _Json = {"name": output.name}
    if output.description is not None:
        schema["description"] = output.description
    if output.schema is not None:
        schema["schema"] = msgspec.Raw(output.schema)
    if output.strict:
        schema["strict"] = True
    return {"type": "json_schema", "json_schema": schema}
