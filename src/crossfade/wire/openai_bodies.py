"""Editing the JSON of an OpenAI chat request for one target, on its top level: values keep their bytes."""

from __future__ import annotations

from typing import Final

import msgspec

from crossfade.core.exchange import Continuation
from crossfade.core.target import Target
from crossfade.wire.members import joined
from crossfade.wire.ours import OUR_FIELDS
from crossfade.wire.turns import reduced, with_turns

_encode: Final = msgspec.json.Encoder().encode
_LIMITS: Final = ("max_completion_tokens", "max_tokens")


def edited_body(
    top: dict[str, msgspec.Raw],
    target: Target,
    *,
    stream: bool,
    include_usage: bool,
    continuation: Continuation | None = None,
    marks_prefix: bool = False,
) -> bytes:
    """The request in `top` (its fields as JSON text) as `target` gets it: without our fields, with its model and
    parameters, as a stream or not, and with the turns of a continuation."""
    fields: dict[str, bytes] = {name: bytes(value) for name, value in top.items() if name not in OUR_FIELDS}
    fields["model"] = _encode(target.model)
    for name in target.drop_params:
        fields.pop(name, None)
    fields.update(target.set_params)
    _set_stream(fields, stream, include_usage)
    if continuation is not None:
        fields["messages"] = with_turns(fields.get("messages", b"[]"), continuation, marks_prefix)
        _reduce_limits(fields, continuation.delivered_tokens)
    return joined(fields)


def _set_stream(fields: dict[str, bytes], stream: bool, include_usage: bool) -> None:
    if not stream:
        fields.pop("stream_options", None)  # refused without a stream
        if "stream" in fields:
            fields["stream"] = b"false"
        return
    fields["stream"] = b"true"
    if not include_usage:
        fields.pop("stream_options", None)
        return
    options: dict[str, msgspec.Raw] = {}
    if (given := fields.get("stream_options", b"null")) != b"null":
        options = msgspec.json.decode(given, type=dict[str, msgspec.Raw])
    options["include_usage"] = msgspec.Raw(b"true")
    fields["stream_options"] = _encode(options)


def _reduce_limits(fields: dict[str, bytes], delivered: int) -> None:
    for name in _LIMITS:
        if name in fields:
            fields[name] = reduced(fields[name], delivered)
