"""What an answer of Gemini, or a chunk of its stream, may look like, for decoding. Decides nothing."""

from __future__ import annotations

from typing import Final

import msgspec

NOTHING: Final = msgspec.Raw()


class Call(msgspec.Struct, gc=False):
    name: str | None = None
    args: msgspec.Raw = NOTHING
    id: str | None = None


class Part(msgspec.Struct, rename="camel", gc=False):
    text: str | None = None
    thought: bool | None = None
    function_call: Call | None = None
    inline_data: msgspec.Raw = NOTHING
    file_data: msgspec.Raw = NOTHING
    executable_code: msgspec.Raw = NOTHING
    code_execution_result: msgspec.Raw = NOTHING


class Content(msgspec.Struct, gc=False):
    parts: list[Part] | None = None


class Candidate(msgspec.Struct, rename="camel", gc=False):
    content: Content | None = None
    finish_reason: str | int | None = None
    index: int | None = None
    citation_metadata: msgspec.Raw = NOTHING
    grounding_metadata: msgspec.Raw = NOTHING


class Feedback(msgspec.Struct, rename="camel", gc=False):
    block_reason: str | int | None = None


class WireUsage(msgspec.Struct, rename="camel", gc=False):
    prompt_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    cached_content_token_count: int | None = None


class Answer(msgspec.Struct, rename="camel", gc=False):
    """A whole answer, or one chunk of a stream: they have one shape."""

    candidates: list[Candidate] | None = None
    prompt_feedback: Feedback | None = None
    usage_metadata: WireUsage | None = None
    model_version: str | None = None
    response_id: str | None = None
    create_time: str | None = None
    error: msgspec.Raw = NOTHING
