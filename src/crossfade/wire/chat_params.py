"""Parameters that a target sets or drops by their names in OpenAI's chat, for dialects that call them otherwise.

Nobody means to send those as they are, so they act on the chat request before it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import ChatRequest

CHAT_PARAMS: Final[Mapping[str, tuple[str, Any]]] = MappingProxyType(
    {
        "max_tokens": ("max_tokens", int | None),
        "max_completion_tokens": ("max_tokens", int | None),
        "temperature": ("temperature", float | None),
        "top_p": ("top_p", float | None),
        "top_k": ("top_k", int | None),
        "stop": ("stop", str | tuple[str, ...] | None),
        "n": ("n", int),
        "seed": ("seed", int | None),
        "frequency_penalty": ("frequency_penalty", float | None),
        "presence_penalty": ("presence_penalty", float | None),
        "reasoning_effort": ("reasoning_effort", str | None),
    }
)
"""Parameters of a chat request that a target may set or drop by their chat names; the field and its type."""


def adjusted(request: ChatRequest, set_params: Iterable[tuple[str, bytes]], drop_params: Iterable[str]) -> ChatRequest:
    """The request with what the target sets and drops by the names of chat parameters. Raises InvalidRequest for a
    value that cannot be one."""
    changes: dict[str, Any] = {}
    for name, raw in set_params:
        if name in CHAT_PARAMS:
            field, kind = CHAT_PARAMS[name]
            try:
                value = msgspec.json.decode(raw, type=kind)
            except msgspec.DecodeError as error:
                raise InvalidRequest(f"the value set for the target cannot be used: {error}", param=name) from None
            changes[field] = value if field != "stop" else (value,) if isinstance(value, str) else value or ()
    for name in drop_params:
        if name in CHAT_PARAMS:
            field = CHAT_PARAMS[name][0]
            changes[field] = _DEFAULTS[field]
    return msgspec.structs.replace(request, **changes) if changes else request


_DEFAULTS: Final = {field.name: field.default for field in msgspec.structs.fields(ChatRequest)}
