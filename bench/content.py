"""What is said in every measurement, as OpenAI's SDK and API say it; `bench/apis.py` has the others.

All of about 1 KiB, as short chats are. No quotes or dollar signs in the texts: nginx has them in its configuration.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

GATEWAY_KEY: Final = "cf-bench-0123456789abcdefghijklmnopqrstuvwxyzABCDEF"
UPSTREAM_KEY: Final = "sk-bench-upstream"
MODEL: Final = "gpt-5.4"
EVENTS: Final = 200
"""Events with text in one paced stream."""

QUESTION: Final = (
    "A reverse proxy stands between an application and several providers of the same service. Explain in a few "
    "sentences what it has to remember about each of them in order to choose well, how it should find out that one "
    "of them has recovered, and why asking a failed one again and again makes things worse for everybody. "
)
ANSWER: Final = (
    "For each provider the proxy keeps a short window of recent outcomes, the moment up to which the provider asked "
    "to be left alone, and how long it usually takes to begin an answer. "
)

HEADERS: Final = {
    "Content-Type": "application/json",
    "Authorization": f"Bearer {GATEWAY_KEY}",
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "User-Agent": "OpenAI/Python 2.8.0",
    "X-Stainless-Lang": "python",
    "X-Stainless-Package-Version": "2.8.0",
    "X-Stainless-OS": "Linux",
    "X-Stainless-Arch": "x64",
    "X-Stainless-Runtime": "CPython",
    "X-Stainless-Runtime-Version": "3.11.2",
    "X-Stainless-Async": "async:asyncio",
    "x-stainless-retry-count": "0",
    "x-stainless-read-timeout": "600",
}
"""What `openai.AsyncOpenAI` sends."""

UPSTREAM_HEADERS: Final = {
    "openai-processing-ms": "600",
    "openai-version": "2020-10-01",
    "x-request-id": "req_6f2a9b1c0d3e4f5a6b7c8d9e0f1a2b3c",
    "x-ratelimit-limit-requests": "15000",
    "x-ratelimit-limit-tokens": "40000000",
    "x-ratelimit-remaining-requests": "14999",
    "x-ratelimit-remaining-tokens": "39999227",
    "x-ratelimit-reset-requests": "4ms",
    "x-ratelimit-reset-tokens": "1ms",
}
"""What OpenAI's API sends beside the usual."""


def answer_body() -> bytes:
    """A whole chat answer of about 1 KiB."""
    message: dict[str, object] = {"role": "assistant", "content": ANSWER * 3, "refusal": None, "annotations": []}
    usage = {"prompt_tokens": 190, "completion_tokens": 110, "total_tokens": 300}
    answer = {
        "id": "chatcmpl-DcaUbWj32db2lXTQk6FzqlC7hgHlj",
        "object": "chat.completion",
        "created": 1778089113,
        "model": "gpt-5.4-2026-03-05",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {**usage, "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0}},
        "service_tier": "default",
        "system_fingerprint": None,
    }
    return json.dumps(answer, indent=2).encode()


def failure_body() -> bytes:
    """What comes with a 500."""
    message = "The server had an error while processing your request. Sorry about that!"
    error = {"message": message, "type": "server_error", "param": None, "code": None}
    return json.dumps({"error": error}, indent=2).encode()


def stream_words(count: int) -> list[str]:
    """The pieces of text of a stream, a word each."""
    words = (ANSWER * (count // 20 + 1)).split()
    return [f" {word}" for word in words[:count]]


def stream_events(count: int, *, with_usage: bool) -> list[bytes]:
    """The events of a stream with `count` pieces of text: one event an item; the role is joined to the first of
    them, the finish reason, usage and end marker are the last item."""
    content = [_event({"content": word}, None, with_usage) for word in stream_words(count)]
    role = _event({"role": "assistant", "content": "", "refusal": None}, None, with_usage)
    last = _event({}, "stop", with_usage)
    if with_usage:
        usage = {"prompt_tokens": 190, "completion_tokens": count, "total_tokens": 190 + count}
        last += _rendered({"choices": [], "usage": usage})
    return [role + content[0], *content[1:], last + b"data: [DONE]\n\n"]


def _event(delta: dict[str, object], finish: str | None, with_usage: bool) -> bytes:
    members: dict[str, object] = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    if with_usage:
        members["usage"] = None
    return _rendered({**members, "obfuscation": _padding(delta)})


def _padding(delta: dict[str, object]) -> str:
    """As OpenAI's: letters and digits that differ from event to event, and in their number."""
    digest = hashlib.sha256(json.dumps(delta).encode()).hexdigest()
    return digest[: 3 + int(digest[-1], 16)]


def _rendered(members: dict[str, object]) -> bytes:
    head = {
        "id": "chatcmpl-DcaUbWj32db2lXTQk6FzqlC7hgHlj",
        "object": "chat.completion.chunk",
        "created": 1778089113,
        "model": "gpt-5.4-2026-03-05",
        "service_tier": "default",
        "system_fingerprint": None,
    }
    return b"data: %s\n\n" % json.dumps({**head, **members}, separators=(",", ":")).encode()
