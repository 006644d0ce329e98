"""Reads a Gemini request into the canonical one, by Google's own words: the product writes this dialect only.

It says of a body what anyone can see in it, and knows nothing of how the body was made.
"""

from __future__ import annotations

import json
from typing import Any, Final

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
    ToolCall,
    ToolChoice,
)

_BUDGETS: Final = ((128, "none"), (1024, "low"), (8192, "medium"), (24576, "high"))
_KNOWN: Final = {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig"}


def read_canonical(body: bytes) -> ChatRequest:
    """The request in a `generateContent` body. Fails for members that it does not know."""
    given = json.loads(body)
    assert given.keys() <= _KNOWN, given.keys()
    config = dict(given.get("generationConfig", {}))
    system = given.get("systemInstruction", {}).get("parts", [])
    messages = [Message(role="system", parts=tuple(_part(part) for part in system))] if system else []
    for content in given["contents"]:
        assert content.keys() == {"role", "parts"} and content["parts"]
        messages += [_model(content["parts"])] if content["role"] == "model" else _user(content["parts"])
    request = ChatRequest(
        messages=tuple(messages),
        tools=tuple(_tool(one) for group in given.get("tools", ()) for one in group["functionDeclarations"]),
        tool_choice=_choice(given["toolConfig"]["functionCallingConfig"]) if "toolConfig" in given else None,
        output=_output(config.pop("responseMimeType", None), config.pop("responseJsonSchema", None)),
        max_tokens=config.pop("maxOutputTokens", None),
        temperature=config.pop("temperature", None),
        top_p=config.pop("topP", None),
        top_k=config.pop("topK", None),
        stop=tuple(config.pop("stopSequences", ())),
        n=config.pop("candidateCount", 1),
        seed=config.pop("seed", None),
        frequency_penalty=config.pop("frequencyPenalty", None),
        presence_penalty=config.pop("presencePenalty", None),
        reasoning_effort=_effort(config.pop("thinkingConfig", None)),
    )
    assert not config, config
    return request


def _compact(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _part(part: dict[str, Any]) -> Part:
    match part:
        case {"text": str(text)}:
            return TextPart(text)
        case {"inlineData": {"mimeType": str(kind), "data": str(data)}}:
            if kind.startswith("image/"):
                return ImagePart(media_type=kind, data=data)
            return AudioPart(data, kind[6:]) if kind.startswith("audio/") else FilePart(media_type=kind, data=data)
        case {"fileData": {"fileUri": str(url), **rest}}:
            is_image = str(rest.get("mimeType", "")).startswith("image/")
            return ImagePart(url=url) if is_image else FilePart(url=url)
        case _:
            raise AssertionError(part)


def _model(parts: list[dict[str, Any]]) -> Message:
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    return Message(
        role="assistant",
        parts=tuple(_part(part) for part in parts if "functionCall" not in part),
        tool_calls=tuple(ToolCall(call["id"], call["name"], _compact(call["args"])) for call in calls),
    )


def _user(parts: list[dict[str, Any]]) -> list[Message]:
    found: list[Message] = []
    for part in parts:
        if "functionResponse" in part:
            found.append(_result(part["functionResponse"]))
        elif found and found[-1].role == "user":
            found[-1] = msgspec.structs.replace(found[-1], parts=(*found[-1].parts, _part(part)))
        else:
            found.append(Message(role="user", parts=(_part(part),)))
    return found


def _result(given: dict[str, Any]) -> Message:
    match given["response"]:
        case {"result": str(text), **rest} if not rest:
            pass
        case other:
            text = _compact(other)
    said = (TextPart(text),) if text else ()
    return Message(role="tool", call_id=given["id"], parts=(*said, *[_part(part) for part in given.get("parts", ())]))


def _tool(given: dict[str, Any]) -> Tool:
    schema = given.get("parametersJsonSchema")
    return Tool(
        name=given["name"],
        description=given.get("description"),
        parameters=None if schema is None else msgspec.json.encode(schema),
    )


def _choice(given: dict[str, Any]) -> ToolChoice:
    match given:
        case {"mode": "ANY", "allowedFunctionNames": [name]}:
            return ToolChoice("named", name)
        case {"mode": "ANY"}:
            return ToolChoice("required")
        case {"mode": "NONE"}:
            return ToolChoice("none")
        case {"mode": "AUTO"}:
            return ToolChoice("auto")
        case _:
            raise AssertionError(given)


def _output(kind: str | None, schema: object) -> OutputFormat | None:
    if kind is None:
        return None
    assert kind == "application/json"
    if schema is None:
        return OutputFormat(kind="json_object")
    return OutputFormat(kind="json_schema", schema=msgspec.json.encode(schema))


def _effort(given: dict[str, Any] | None) -> str | None:
    """The word for a level or a budget. Without summaries of thoughts less is wanted: none, if that can be had."""
    if given is None:
        return None
    if "thinkingLevel" in given:
        return str(given["thinkingLevel"])
    return next(word for most, word in _BUDGETS if given["thinkingBudget"] <= most)
