"""The application of the demo: asks as any program would that speaks OpenAI chat over HTTP, with the standard library.

It knows nothing of fallback; what it calls a good answer is what an application would.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any

import msgspec

PATIENCE = 30.0
"""Seconds without a byte after which the application gives up."""


class Answer(msgspec.Struct, kw_only=True):
    """What the application got. `status` 0: no HTTP answer. `is_whole`: it ended as the dialect wants it.

    `request` is the gateway's id of the request; `error` what the application was told instead of an answer.
    """

    status: int = 0
    request: str = ""
    text: str = ""
    error: str = ""
    is_whole: bool = False


def ask(
    host: str,
    port: int,
    model: str,
    prompt: str,
    on_text: Callable[[str], None] | None,
    on_comment: Callable[[str], None],
) -> Answer:
    """Sends `prompt` and blocks until the answer is there. With `on_text` it asks for a stream, and calls it with
    every piece of text, and `on_comment` with every comment, as they come. Never raises for a bad answer."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": on_text is not None}
    answer = Answer()
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    try:
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        response = connection.getresponse()
        answer.status, answer.request = response.status, response.headers.get("x-request-id", "")
        if on_text is not None and response.headers.get_content_type() == "text/event-stream":
            _read_stream(response, answer, on_text, on_comment)
        else:
            _read_whole(json.loads(response.read()), answer)
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        answer.error = f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return answer


def _read_whole(body: dict[str, Any], answer: Answer) -> None:
    if "error" in body:
        answer.error = body["error"]["message"]
        return
    choice = body["choices"][0]
    answer.text = choice["message"]["content"]
    answer.is_whole = choice["finish_reason"] == "stop"


def _read_stream(
    response: http.client.HTTPResponse,
    answer: Answer,
    on_text: Callable[[str], None],
    on_comment: Callable[[str], None],
) -> None:
    is_finished = False
    for line in response:
        field, _, value = line.decode().strip().partition(":")
        if field == "" and value:
            on_comment(value.strip())
        if field != "data":
            continue
        if value.strip() == "[DONE]":
            answer.is_whole = is_finished
            continue
        chunk = json.loads(value)
        if "error" in chunk:
            answer.error = chunk["error"]["message"]
        for choice in chunk.get("choices", ()):
            is_finished |= choice.get("finish_reason") == "stop"
            if text := choice["delta"].get("content"):
                answer.text += text
                on_text(text)
