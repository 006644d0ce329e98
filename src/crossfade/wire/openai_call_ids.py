"""Ids of tool calls for a vendor that accepts only short ones: a conversation may come from another vendor's model.

An id becomes the same short one wherever it stands, in calls and in results, and in every later request of the
conversation, so that a prompt cache still finds what it knows. Ids that fit already are left alone.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from crossfade.core.exchange import Message

_SIGNS: Final = string.digits + string.ascii_letters

_encode = msgspec.json.Encoder().encode
_Fields = dict[str, msgspec.Raw]


class _Call(msgspec.Struct, gc=False):
    id: str | None = None


class _Turn(msgspec.Struct, gc=False):
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None


_decode_turns = msgspec.json.Decoder(list[_Turn]).decode
_decode_messages = msgspec.json.Decoder(list[_Fields]).decode
_decode_calls = msgspec.json.Decoder(list[_Fields]).decode
_decode_id = msgspec.json.Decoder(str | None).decode


def short_ids(ids: Iterable[str], length: int) -> Mapping[str, str]:
    """For each id that is not exactly `length` ASCII letters and digits one that is. No two get the same, and none
    gets one that is there already; empty where all fit."""
    given = dict.fromkeys(ids)
    taken = {text for text in given if _fits(text, length)}
    short: dict[str, str] = {}
    for text in given:
        if _fits(text, length):
            continue
        one, tries = _short(text, length), 0
        while one in taken:
            tries += 1
            one = _short(f"{text} {tries}", length)
        taken.add(one)
        short[text] = one
    return short


def _fits(text: str, length: int) -> bool:
    return len(text) == length and text.isascii() and text.isalnum()


def _short(text: str, length: int) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest())
    signs = []
    for _ in range(length):
        number, place = divmod(number, len(_SIGNS))
        signs.append(_SIGNS[place])
    return "".join(signs)


def with_short_ids(messages: bytes, length: int) -> bytes | None:
    """A caller's messages (a JSON list) with ids that fit; all else keeps its bytes. None where nothing is to be
    changed, or where they are no messages that could be read: that is for the vendor to say."""
    try:
        turns = _decode_turns(messages)
        short = short_ids(_ids_of(turns), length)
        if not short:
            return None
        return _encode([_rewritten(fields, short) for fields in _decode_messages(messages)])
    except (msgspec.DecodeError, RecursionError):
        return None


def _ids_of(turns: list[_Turn]) -> list[str]:
    ids = [call.id for turn in turns for call in turn.tool_calls or ()]
    ids += [turn.tool_call_id for turn in turns]
    return [one for one in ids if one is not None]


def _rewritten(fields: _Fields, short: Mapping[str, str]) -> _Fields:
    if "tool_call_id" in fields:
        fields["tool_call_id"] = _short_of(fields["tool_call_id"], short)
    if (calls := fields.get("tool_calls")) is not None and bytes(calls) != b"null":
        fields["tool_calls"] = msgspec.Raw(_encode([_rewritten_call(call, short) for call in _decode_calls(calls)]))
    return fields


def _rewritten_call(call: _Fields, short: Mapping[str, str]) -> _Fields:
    if "id" in call:
        call["id"] = _short_of(call["id"], short)
    return call


def _short_of(value: msgspec.Raw, short: Mapping[str, str]) -> msgspec.Raw:
    given = _decode_id(value)
    return msgspec.Raw(_encode(short[given])) if given is not None and given in short else value


def shortened(messages: tuple[Message, ...], length: int) -> tuple[Message, ...]:
    """Canonical messages with ids that fit."""
    ids = [call.id for message in messages for call in message.tool_calls]
    ids += [message.call_id for message in messages if message.role == "tool"]
    short = short_ids(ids, length)
    return tuple(_with_short(message, short) for message in messages) if short else messages


def _with_short(message: Message, short: Mapping[str, str]) -> Message:
    if message.role == "tool":
        return msgspec.structs.replace(message, call_id=short.get(message.call_id, message.call_id))
    if message.tool_calls:
        calls = [msgspec.structs.replace(call, id=short.get(call.id, call.id)) for call in message.tool_calls]
        return msgspec.structs.replace(message, tool_calls=tuple(calls))
    return message
