"""The official OpenAI SDK talks to the simulator, and meets its faults as it would a provider's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from crossfade.testing import ProviderSimulator, healthy_text

PROMPT = "Tell me about otters"
TEXT = healthy_text(PROMPT)
MESSAGES: Any = [{"role": "user", "content": PROMPT}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


@pytest.fixture
def client(provider_simulator: ProviderSimulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider_simulator.base_url(), api_key="sk-test", max_retries=0) as made:
        yield made


def test_buffered(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="m", messages=MESSAGES)
    assert completion.choices[0].message.content == TEXT
    assert completion.usage is not None and completion.usage.completion_tokens == 60


def test_streamed_with_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == TEXT
    assert chunks[-1].usage is not None and not chunks[-1].choices
    assert chunks[-2].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("is_streamed", [False, True])
def test_tools(client: openai.OpenAI, is_streamed: bool) -> None:
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": "Go [[tools:2]]"}], "tools": TOOLS}
    if is_streamed:
        with client.chat.completions.stream(**asked) as stream:
            completion: Any = stream.get_final_completion()
    else:
        completion = client.chat.completions.create(**asked)
    calls = completion.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["weather", "weather"]
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "text"}] * 2
    assert len({call.id for call in calls}) == 2 and completion.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("is_streamed", [False, True])
def test_json_schema(client: openai.OpenAI, is_streamed: bool) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    asked: Any = {
        "model": "m",
        "messages": MESSAGES,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}},
    }
    if is_streamed:
        with client.chat.completions.stream(**asked) as stream:
            completion: Any = stream.get_final_completion()
    else:
        completion = client.chat.completions.create(**asked)
    assert json.loads(completion.choices[0].message.content) == {"age": 1}


ERRORS = {
    "400": openai.BadRequestError,
    "401": openai.AuthenticationError,
    "403": openai.PermissionDeniedError,
    "404": openai.NotFoundError,
    "429": openai.RateLimitError,
    "500": openai.InternalServerError,
    "reset": openai.APIConnectionError,
    "close": openai.APIConnectionError,
    "garbage": openai.APIConnectionError,
}


@pytest.mark.parametrize("fault", ERRORS)
def test_errors_are_the_sdks_own(provider_simulator: ProviderSimulator, client: openai.OpenAI, fault: str) -> None:
    provider_simulator.schedule(fault)
    with pytest.raises(ERRORS[fault]):
        client.chat.completions.create(model="m", messages=MESSAGES)


def test_an_error_event_is_raised_in_the_stream(provider_simulator: ProviderSimulator, client: openai.OpenAI) -> None:
    provider_simulator.schedule("error_event@first")
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError, match="had an error"):
        list(stream)


def test_retries_are_counted(provider_simulator: ProviderSimulator, client: openai.OpenAI) -> None:
    provider_simulator.schedule("503; retry_after=0.01", "reset")
    retrying = client.with_options(max_retries=2)
    assert retrying.chat.completions.create(model="m", messages=MESSAGES).choices[0].message.content == TEXT
    assert provider_simulator.counts()["outcomes"] == {"503": 1, "reset": 1, "ok": 1}


def test_models(client: openai.OpenAI) -> None:
    assert "simulator-large" in [model.id for model in client.models.list()]


# --- the Responses API -----------------------------------------------------------------------------------------

FUNCTION: Any = {"type": "function", "strict": False, **TOOLS[0]["function"]}


@pytest.mark.parametrize("is_streamed", [False, True])
def test_responses(client: openai.OpenAI, is_streamed: bool) -> None:
    asked: Any = {"model": "m", "input": f"{PROMPT} [[think]]"}
    if is_streamed:
        with client.responses.stream(**asked) as stream:
            response: Any = stream.get_final_response()
    else:
        response = client.responses.create(**asked)
    assert response.output_text == TEXT and response.output[0].type == "reasoning"
    assert response.usage.output_tokens_details.reasoning_tokens == 20


@pytest.mark.parametrize("is_streamed", [False, True])
def test_functions_of_responses(client: openai.OpenAI, is_streamed: bool) -> None:
    asked: Any = {"model": "m", "input": "Go [[tools:2]]", "tools": [FUNCTION]}
    if is_streamed:
        with client.responses.stream(**asked) as stream:
            response: Any = stream.get_final_response()
    else:
        response = client.responses.create(**asked)
    assert [json.loads(call.arguments) for call in response.output] == [{"city": "text"}] * 2
    results: Any = [{"type": "function_call_output", "call_id": c.call_id, "output": "Rain."} for c in response.output]
    again = client.responses.create(model="m", input=[{"role": "user", "content": "Go [[tools:2]]"}, *results])
    assert "Rain." in again.output_text


def test_an_error_event_of_responses(provider_simulator: ProviderSimulator, client: openai.OpenAI) -> None:
    provider_simulator.schedule("error_event@first")
    with pytest.raises(openai.APIError, match="had an error"):
        list(client.responses.create(model="m", input=PROMPT, stream=True))
