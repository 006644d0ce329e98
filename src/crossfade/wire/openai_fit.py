"""What a request of another dialect has to leave out, or to say in another way, for a server that speaks OpenAI chat.

The API rejects a whole request for one parameter that a model does not take, and leaving one out never fails a
request. Callers of OpenAI chat say themselves what their models take; callers of other dialects said it to other
models. Names of models are read here as their makers write them.

Results of tools are text alone in this dialect, and files are PDFs that have a name.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from crossfade.core.exchange import ChatRequest, FilePart, Message, Part, TextPart, Tool

MAX_USER: Final = 64
"""Characters of `user` that OpenAI takes."""

_EFFORT: Final = re.compile(r"(?:^|/)(?:o\d|gpt-[5-9]|gpt-\d\d|gpt-oss)(?!.*-chat)")
"""Models that take `reasoning_effort`."""
_NO_SAMPLING: Final = re.compile(r"(?:^|/)(?:o\d|gpt-5(?:-(?!chat)|$))")
"""Models that take no `temperature` and no `top_p` but the default, whatever the effort."""
_MOST_OUTPUT: Final = (
    (re.compile(r"(?:^|/)gpt-4\.1"), 32_768),
    (re.compile(r"(?:^|/)(?:chat)?gpt-4o|(?:^|/)gpt-[5-9].*-chat"), 16_384),
    (re.compile(r"(?:^|/)gpt-(?:4|3\.5)(?:-|$)"), 4_096),
    (re.compile(r"(?:^|/)o\d"), 100_000),
)
"""Models that write no more tokens than so many, and refuse to be asked for more; Anthropic's write up to 128,000."""


def fitted(request: ChatRequest, model: str, *, takes_top_k: bool) -> tuple[ChatRequest, tuple[str, ...]]:
    """The request as `model` takes it, and the names of what was left out. Words of other dialects (`max`) become the
    nearest of this one."""
    changes: dict[str, Any] = {}
    dropped: list[str] = []
    _fit_thinking(request, model, changes, dropped)
    most = next((tokens for name, tokens in _MOST_OUTPUT if name.search(model)), None)
    if request.max_tokens is not None and most is not None and request.max_tokens > most:
        changes["max_tokens"] = most
        dropped.append(f"max_tokens>{most}")
    if request.top_k is not None and not takes_top_k:
        changes["top_k"] = None
        dropped.append("top_k")
    if request.user is not None and len(request.user) > MAX_USER:
        changes["user"] = None
        dropped.append("user")
    if any(tool.strict and not _is_strict(tool.parameters) for tool in request.tools):
        changes["tools"] = tuple([_loose(tool) for tool in request.tools])
        dropped.append("tools.strict")
    output = request.output
    if output is not None and output.strict and not _is_strict(output.schema):
        changes["output"] = msgspec.structs.replace(output, strict=False)  # the answer is checked all the same
        dropped.append("response_format.strict")
    if any(not isinstance(part, TextPart) for message in request.messages for part in message.parts):
        changes["messages"] = tuple(_with_media_of_results(_messages(request.messages)))
    return (msgspec.structs.replace(request, **changes) if changes else request), tuple(dropped)


def _fit_thinking(request: ChatRequest, model: str, changes: dict[str, Any], dropped: list[str]) -> None:
    """Effort, and the sampling that goes with it: a model that thinks takes none but the default."""
    effort = request.reasoning_effort
    if effort is not None and _EFFORT.search(model) is None:
        changes["reasoning_effort"] = effort = None
        dropped.append("reasoning_effort")
    elif effort == "max":
        changes["reasoning_effort"] = "xhigh"
    if effort in (None, "none") and _NO_SAMPLING.search(model) is None:
        return
    for name in ("temperature", "top_p"):
        value = getattr(request, name)
        if value is not None:
            changes[name] = None
            if value != 1:  # a default said aloud is no loss
                dropped.append(name)


def _loose(tool: Tool) -> Tool:
    return tool if not tool.strict or _is_strict(tool.parameters) else msgspec.structs.replace(tool, strict=False)


def _is_strict(schema: bytes | None) -> bool:
    """Whether every object in a JSON Schema is closed and wants all of its properties."""
    try:
        waiting = [msgspec.json.decode(schema or b"null")]
    except (msgspec.DecodeError, RecursionError):
        return False
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            if (node.get("type") == "object" or "properties" in node) and not _is_closed(node):
                return False
            waiting += node.values()
    return schema is not None


def _is_closed(node: dict[str, Any]) -> bool:
    properties, wanted = node.get("properties", {}), node.get("required", [])
    if not isinstance(properties, dict) or not isinstance(wanted, list):
        return False
    return node.get("additionalProperties") is False and all(name in wanted for name in properties)


# --- messages ------------------------------------------------------------------------------------------------


def _messages(messages: Iterable[Message]) -> Iterable[Message]:
    for message in messages:
        if any(isinstance(part, FilePart) for part in message.parts):
            message = msgspec.structs.replace(message, parts=tuple([_part(part) for part in message.parts]))
        yield message


def _part(part: Part) -> Part:
    """A text file as text, under its name; a PDF under a name."""
    if not isinstance(part, FilePart) or part.data is None:
        return part
    if part.media_type == "application/pdf" and part.name is None:
        return msgspec.structs.replace(part, name="document.pdf")
    if not (part.media_type or "").startswith("text/"):
        return part
    try:
        text = base64.b64decode(part.data, validate=True).decode()
    except (binascii.Error, ValueError):
        return part
    return TextPart(text if part.name is None else f"{part.name}:\n\n{text}")


def _with_media_of_results(messages: Iterable[Message]) -> list[Message]:
    """The messages with the media that tools gave in a user's turn behind the results."""
    found: list[Message] = []
    media: list[Part] = []
    for message in messages:
        if message.role != "tool" and media:
            found.append(Message(role="user", parts=tuple(media)))
            media = []
        if message.role == "tool" and (others := [p for p in message.parts if not isinstance(p, TextPart)]):
            media += [TextPart(f"From the result of tool call {message.call_id}:"), *others]
            texts = tuple([part for part in message.parts if isinstance(part, TextPart)])
            message = msgspec.structs.replace(message, parts=texts)
        found.append(message)
    if media:
        found.append(Message(role="user", parts=tuple(media)))
    return found
