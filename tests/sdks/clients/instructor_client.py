"""instructor, over OpenAI's and Anthropic's SDKs: objects by tools, by a JSON schema, and streamed in part."""

from __future__ import annotations

from typing import Any

import anthropic
import instructor
import openai
from serving import KEY, PROMPT, TIMEOUT, Person, serve


def client_of(api: str, url: str, *, is_by_schema: bool) -> Any:
    if api == "anthropic":
        sdk = anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0, timeout=TIMEOUT)
        return instructor.from_anthropic(sdk)
    mode = instructor.Mode.JSON_SCHEMA if is_by_schema else instructor.Mode.TOOLS
    return instructor.from_openai(openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=TIMEOUT), mode=mode)


def converse(api: str, conversation: str, url: str, name: str) -> Any:
    client = client_of(api, url, is_by_schema=conversation == "structured")
    asked: dict[str, Any] = {"model": name, "messages": [{"role": "user", "content": PROMPT}], "max_retries": 0}
    if api == "anthropic":
        asked["max_tokens"] = 400
    match conversation:
        case "structured" | "structured_by_tool":
            return client.chat.completions.create_with_completion(response_model=Person, **asked)
        case "structured_stream":
            return list(client.chat.completions.create_partial(response_model=Person, **asked))[-1]
    raise ValueError(conversation)


serve(converse)
