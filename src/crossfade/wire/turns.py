"""The turns that ask for the rest of a cut answer, put behind a caller's own in the JSON of a request.

They look the same in every dialect whose turns have a `role` and a `content`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from crossfade.core.exchange import CONTINUE_INSTRUCTION, Continuation

_encode: Final = msgspec.json.Encoder().encode


def with_turns(messages: bytes, continuation: Continuation, marks_prefix: bool = False) -> bytes:
    """The messages (a JSON list) with the turns that ask for the rest of a cut answer.

    `marks_prefix`: this vendor wants the assistant turn to be gone on from marked with `prefix: true`.
    """
    text = continuation.text.rstrip() if continuation.prefill else continuation.text
    assistant: dict[str, object] = {"role": "assistant", "content": text}
    turns: list[object] = [assistant]
    if not continuation.prefill:
        turns.append({"role": "user", "content": CONTINUE_INSTRUCTION + continuation.anchor})
    elif marks_prefix:
        assistant["prefix"] = True
    head = messages.rstrip()[:-1].rstrip()
    comma = b"" if head[-1:] == b"[" else b","
    return b"%s%s%s]" % (head, comma, b",".join([_encode(turn) for turn in turns]))


def reduced(limit: bytes, delivered: int, least: int = 1) -> bytes:
    """A limit of output tokens (JSON text) less those that were delivered; as it is where it is no whole number."""
    return b"%d" % max(least, int(limit) - delivered) if limit.isdigit() else limit
