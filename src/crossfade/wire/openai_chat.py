"""The OpenAI chat dialect, as callers speak it and as the providers that follow it do: the public face.

| file | what it does |
|---|---|
| `openai_request.py` | a caller's request: facts, and bytes for a target of the same dialect |
| `openai_bodies.py` | edits of a request's JSON |
| `openai_canonical.py`, `openai_writer.py` | the whole request, read and written |
| `openai_response.py` | whole answers, read and written; errors |
| `openai_usage.py` | token counts |
| `openai_stream.py`, `openai_chunks.py` | streams, read and written |

What is the same for every dialect lies beside them: `reading.py`, `members.py`, `turns.py`, `ours.py`.
"""

from __future__ import annotations

from crossfade.wire.members import with_member
from crossfade.wire.openai_canonical import read_canonical
from crossfade.wire.openai_chunks import ChunkWriter
from crossfade.wire.openai_request import ChatInbound, read_request
from crossfade.wire.openai_response import (
    error_body,
    error_event,
    read_completion,
    write_completion,
)
from crossfade.wire.openai_stream import ChunkReader
from crossfade.wire.openai_writer import write_request
from crossfade.wire.ours import FallbackModel, Options, Ours, has_our_headers

__all__ = [
    "ChatInbound",
    "ChunkReader",
    "ChunkWriter",
    "FallbackModel",
    "Options",
    "Ours",
    "error_body",
    "error_event",
    "has_our_headers",
    "read_canonical",
    "read_completion",
    "read_request",
    "with_member",
    "write_completion",
    "write_request",
]
