"""Anthropic's messages as a cloud carries them: what differs in a body from what Anthropic itself is sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from crossfade.wire.members import joined

_decode_top: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode: Final = msgspec.json.encode


def carried_body(body: bytes, version: str, *, addressed: Iterable[str], betas: Iterable[str] = ()) -> bytes:
    """A body of the messages API as a cloud takes it, with its `version`. Members in `addressed` are said by the
    address; every other value keeps its bytes. `betas` are those of the `anthropic-beta` header, where they are to
    be members. A version and betas that are members already stay."""
    fields = {name: bytes(value) for name, value in _decode_top(body).items() if name not in addressed}
    made = {} if "anthropic_version" in fields else {"anthropic_version": _encode(version)}
    names = list(dict.fromkeys(name for one in betas for name in (part.strip() for part in one.split(",")) if name))
    if names and "anthropic_beta" not in fields:
        made["anthropic_beta"] = _encode(names)
    return joined({**made, **fields})
