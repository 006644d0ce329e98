from __future__ import annotations

import json
from typing import Any

import pytest

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import (
    AudioPart,
    ChatRequest,
    FilePart,
    ImagePart,
    Message,
    OutputFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)
from crossfade.core.target import Target
from crossfade.wire.openai_chat import read_canonical, write_request

TARGET = Target(key="p/m#0", name="p/m", provider="p", model="m")
WEATHER = {"name": "weather", "description": "d", "parameters": {"type": "object"}, "strict": True}


def read(*messages: Any, **fields: Any) -> ChatRequest:
    given = list(messages) or [{"role": "user", "content": "hi"}]
    return read_canonical(json.dumps({"model": "m", "messages": given} | fields).encode())


def test_a_whole_request() -> None:
    request = read(
        {"role": "developer", "content": "be brief"},
        {
            "role": "user",
            "name": "ann",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                {"type": "image_url", "image_url": "data:image/png;base64,AAA"},
                {"type": "input_audio", "input_audio": {"data": "BBB", "format": "wav"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,CCC"}},
                {"type": "file", "file": {"file_id": "file-1"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "https://x/a.pdf"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "sunny"}]},
        {"role": "assistant", "content": None, "refusal": "no"},
        tools=[{"type": "function", "function": WEATHER}],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        parallel_tool_calls=False,
        response_format={"type": "json_schema", "json_schema": {"name": "o", "schema": {}, "strict": True}},
        max_tokens=5,
        max_completion_tokens=7,
        temperature=1,
        top_p=0.5,
        top_k=3,
        stop="x",
        n=2,
        seed=1,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        reasoning_effort="low",
        logprobs=True,
        top_logprobs=4,
        user="u",
        stream=True,
        stream_options={},
        fallback_models=[],
        store=False,
        metadata={"a": "b"},
        prediction=None,
    )
    assert request == ChatRequest(
        messages=(
            Message(role="system", parts=(TextPart("be brief"),)),
            Message(
                role="user",
                name="ann",
                parts=(
                    TextPart("look"),
                    ImagePart(url="https://x/y.png", detail="low"),
                    ImagePart(media_type="image/png", data="AAA"),
                    AudioPart("BBB", "wav"),
                    FilePart(name="a.pdf", media_type="application/pdf", data="CCC"),
                    FilePart(file_id="file-1"),
                    FilePart(name="a.pdf", url="https://x/a.pdf"),
                ),
            ),
            Message(role="assistant", tool_calls=(ToolCall("c1", "weather", "{}"),)),
            Message(role="tool", parts=(TextPart("sunny"),), call_id="c1"),
            Message(role="assistant", refusal="no"),
        ),
        tools=(Tool(name="weather", description="d", parameters=b'{"type":"object"}', strict=True),),
        tool_choice=ToolChoice("named", "weather"),
        parallel_tool_calls=False,
        output=OutputFormat(kind="json_schema", name="o", schema=b"{}", strict=True),
        max_tokens=7,
        temperature=1.0,
        top_p=0.5,
        top_k=3,
        stop=("x",),
        n=2,
        seed=1,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        reasoning_effort="low",
        logprobs=True,
        top_logprobs=4,
        user="u",
        others=("metadata",),
    )


def test_legacy_functions_get_ids() -> None:
    request = read(
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}},
        {"role": "function", "name": "f", "content": "1"},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "2"},
        functions=[{"name": "f", "parameters": {"type": "object"}}],
        function_call={"name": "f"},
    )
    calls = [call for message in request.messages for call in message.tool_calls]
    results = [message.call_id for message in request.messages if message.role == "tool"]
    assert [call.id for call in calls] == results
    assert len(set(results)) == 2
    assert request.tools[0].name == "f"
    assert request.tool_choice == ToolChoice("named", "f")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ("any", ToolChoice("required")),
        ({"function": {"name": "f"}}, ToolChoice("named", "f")),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}, ToolChoice("required")),
    ],
)
def test_tool_choice(choice: Any, expected: ToolChoice | None) -> None:
    assert read(tool_choice=choice).tool_choice == expected


def test_an_assistant_turn_may_be_an_empty_text() -> None:
    assert read({"role": "user", "content": ""}, {"role": "assistant", "content": ""}).messages[1].parts == ()


def test_reasoning_of_another_provider_is_left_behind() -> None:
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "a"}]
    assert read({"role": "assistant", "content": parts}).messages[0].parts == (TextPart("a"),)


USER = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("messages", "fields", "param"),
    [
        ([USER, "x"], {}, "messages[1]"),
        ([USER, {"role": "robot", "content": "x"}], {}, "messages[1].role"),
        ([USER, USER, {"role": "user", "content": 5}], {}, "messages[2].content"),
        ([{"role": "user", "content": None}], {}, "messages[0].content"),
        ([{"role": "assistant", "content": None}], {}, "messages[0].content"),
        ([{"role": "user", "content": ["x"]}], {}, "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], {}, "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": "video"}]}], {}, "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], {}, "messages[0].content[0].image_url"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 5}}]}],
            {},
            "messages[0].content[0].image_url.url",
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,x"}}]}],
            {},
            "messages[0].content[0].image_url.url",
        ),
        ([{"role": "user", "content": [{"type": "file", "file": {}}]}], {}, "messages[0].content[0].file.file_data"),
        ([{"role": "tool", "content": "x"}], {}, "messages[0].tool_call_id"),
        ([{"role": "function", "name": "f", "content": "x"}], {}, "messages[0].name"),
        ([{"role": "assistant", "tool_calls": {}}], {}, "messages[0].tool_calls"),
        ([{"role": "assistant", "tool_calls": [{"id": "a"}]}], {}, "messages[0].tool_calls[0].function"),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}],
            {},
            "messages[0].tool_calls[0].id",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": 5}}]}],
            {},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ([USER], {"temperature": "hot"}, "temperature"),
        ([USER], {"temperature": True}, "temperature"),
        ([USER], {"seed": 1.5}, "seed"),
        ([USER], {"stop": [1]}, "stop"),
        ([USER], {"user": 5}, "user"),
        ([USER], {"logprobs": 1}, "logprobs"),
        ([USER], {"tools": {}}, "tools"),
        ([USER], {"tools": [5]}, "tools[0]"),
        ([USER], {"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ([USER], {"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        (
            [USER],
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        ([USER], {"tool_choice": "maybe"}, "tool_choice"),
        ([USER], {"response_format": {"type": "xml"}}, "response_format.type"),
        ([USER], {"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ],
)
def test_what_cannot_be_read_is_named(messages: list[Any], fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(*messages, **fields)
    assert caught.value.param == param


def test_a_canonical_request_written_and_read_again_is_the_same() -> None:
    request = read(
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "n"},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,A", "detail": "low"}}],
        },
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "B", "format": "wav"}}]},
        {"role": "user", "content": [{"type": "file", "file": {"filename": "f", "file_data": "data:a/b;base64,C"}}]},
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "r"},
        {"role": "assistant", "content": None, "refusal": "no"},
        tools=[{"type": "function", "function": WEATHER}],
        tool_choice="required",
        response_format={"type": "json_object"},
        max_completion_tokens=5,
        temperature=0.5,
        stop=["a", "b"],
        n=3,
        logprobs=True,
    )
    body = write_request(request, TARGET, stream=True)
    assert read_canonical(body) == request
    sent = json.loads(body)
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}
    assert sent["max_completion_tokens"] == 5


def test_the_writer_heeds_the_target() -> None:
    to = Target(
        key="k", name="n", provider="p", model="m", set_params=(("seed", b"9"),), drop_params=("temperature", "seed")
    )
    body = json.loads(write_request(read(temperature=1, max_tokens=3), to, stream=False, max_tokens_field="max_tokens"))
    assert body == {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "seed": 9}


def test_the_writer_marks_a_prefix() -> None:
    request = read({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
    messages = json.loads(write_request(request, TARGET, stream=False, marks_prefix=True))["messages"]
    assert messages[-1] == {"role": "assistant", "content": "b", "prefix": True}
