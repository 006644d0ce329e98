"""Which session a request belongs to, for pools that keep sessions together. Only those ask."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from crossfade.wire.ours import SESSION_HEADER, Ours


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _Named(msgspec.Struct):
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    user: str | None = None
    metadata: _Metadata | None = None


def session_of(ours: Ours, headers: Mapping[str, str], body: bytes) -> str:
    """The session that the caller names: `crossfade.session`, else the header, else what the APIs have to tell one
    conversation or user from another (`prompt_cache_key`, `safety_identifier`, `user`, Anthropic's
    `metadata.user_id`); empty where it names none."""
    said = None if ours.options is None else ours.options.session
    if session := said or headers.get(SESSION_HEADER):
        return session
    try:
        named = msgspec.json.decode(body, type=_Named)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""  # a member of another type: this API means something else by it
    user = named.metadata.user_id if named.metadata is not None else None
    return named.prompt_cache_key or named.safety_identifier or named.user or user or ""
