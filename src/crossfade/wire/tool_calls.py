"""What dialects share whose tool calls have arguments that are objects, and perhaps no ids."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgspec

_EMPTY: Final = (b"", b"null", b"{}", b"[]")


def made_call_id(size: int, source: str, choice: int, number: int, name: str, arguments: str) -> str:
    """An id for a call that came without one: the same for the same bytes, another one in every other answer.

    Made of what tells the answer from others (`source`) and the call's place, name and arguments, of the alphabet that
    every provider takes back. `size` is its length in bytes, by which its maker is known (`edge/affinity.py`).
    """
    seed = "\n".join((source, str(choice), str(number), name, arguments))
    return "call_" + blake2b(seed.encode("utf-8", "replace"), digest_size=size).hexdigest()


def arguments_text(value: bytes) -> str:
    """The arguments in JSON as compact text, digits untouched; "{}" where none came."""
    return "{}" if value in _EMPTY else msgspec.json.format(value, indent=-1).decode()


def arguments_object(text: str) -> object:
    """The arguments as an object. What a model once wrote and is none is kept as text inside one."""
    if not text.strip():
        return {}
    return msgspec.Raw(text.encode()) if is_object(text) else {"arguments": text}


def is_object(text: str) -> bool:
    """Whether a text is a JSON object."""
    if text.lstrip()[:1] != "{":
        return False
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, RecursionError):
        return False  # text that only begins like JSON
