"""What a chat becomes at Ollama: part by part, with what is left out and what is refused."""

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
from crossfade.wire.json_schema import JSON_ONLY
from crossfade.wire.ollama_request import MUST_CALL, write_request

MODEL = "qwen3:4b"
HI = Message(role="user", parts=(TextPart("Hi"),))
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
F = Tool(name="f", description="does", parameters=json.dumps(SCHEMA).encode())
G = Tool(name="g")
OBJECT = OutputFormat(kind="json_object")
PERSON = OutputFormat(kind="json_schema", name="person", schema=json.dumps(SCHEMA).encode(), strict=True)


def write(model: str = MODEL, more: dict[str, Any] | None = None, **fields: Any) -> tuple[dict[str, Any], set[str]]:
    fields.setdefault("messages", (HI,))
    written = write_request(ChatRequest(**fields), model, stream=False, **(more or {}))
    return json.loads(written.body), set(written.dropped)


def user(*parts: Any) -> tuple[Message, ...]:
    return (Message(role="user", parts=parts),)


def refused(**fields: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        write(**fields)
    return caught.value.param or ""


def test_a_stream_is_asked_for_or_not_and_no_turn_is_to_be_left_out() -> None:
    for stream in (False, True):
        body = json.loads(write_request(ChatRequest(messages=(HI,)), MODEL, stream=stream).body)
        assert (body["stream"], body["truncate"]) == (stream, False)
        assert not {"options", "keep_alive", "think", "tools", "format"} & body.keys()


# --- conversation --------------------------------------------------------------------------------------------


def test_messages_stand_where_they_stood_each_with_one_text() -> None:
    messages = (
        Message(role="user", parts=(TextPart("a"), TextPart(""), TextPart("b"))),
        Message(role="assistant", parts=(TextPart("c"),), refusal="no"),
        Message(role="system", parts=(TextPart("Be kind."),)),
        Message(role="assistant"),
        Message(role="user", parts=(TextPart(""),)),
        Message(role="user", parts=(TextPart("d"),), name="ann"),
    )
    body, dropped = write(messages=messages)
    assert body["messages"] == [
        {"role": "user", "content": "a\n\nb"},
        {"role": "assistant", "content": "c\n\nno"},
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "d"},
    ]
    assert dropped == {"messages.name"}


def test_images_are_their_bytes_alone() -> None:
    image = ImagePart(media_type="image/png", data="aGk=", detail="low")
    file = FilePart(name="a.png", media_type="image/png", data="aG8=")
    (message,) = write(messages=user(image, TextPart("Look"), file))[0]["messages"]
    assert message == {"role": "user", "content": "Look", "images": ["aGk=", "aG8="]}
    assert write(messages=user(image))[0]["messages"] == [{"role": "user", "content": "", "images": ["aGk="]}]


@pytest.mark.parametrize(
    "part",
    [
        ImagePart(url="https://x.test/a.png"),
        FilePart(media_type="application/pdf", data="JVBERi0="),
        FilePart(media_type="image/png", file_id="file-1"),
        AudioPart("UklGRg==", "wav"),
    ],
)
def test_what_ollama_does_not_take_is_refused(part: Any) -> None:
    assert refused(messages=user(TextPart("a"), part)) == "messages"


@pytest.mark.parametrize("role", ["system", "assistant", "tool"])
def test_only_users_show_images(role: Any) -> None:
    image = ImagePart(media_type="image/png", data="aGk=")
    assert refused(messages=(HI, Message(role=role, parts=(image,), call_id="c"))) == "messages"


def test_a_request_without_any_message_would_only_load_the_model() -> None:
    assert refused(messages=()) == refused(messages=user(TextPart(""))) == "messages"
    assert refused(n=2) == "n"


def test_results_are_under_the_name_of_what_was_called() -> None:
    calls = (ToolCall("c1", "f", '{"a": 1.50}'), ToolCall("c2", "g", ""), ToolCall("", "g", "{cut"))
    messages = (
        HI,
        Message(role="assistant", parts=(TextPart("Wait"),), tool_calls=calls),
        Message(role="tool", call_id="c2", parts=(TextPart("two"), TextPart("parts"))),
        Message(role="tool", call_id="c1"),
        Message(role="tool", call_id="c9", parts=(TextPart("whose?"),)),
    )
    _, said, *results = write(messages=messages)[0]["messages"]
    assert said == {
        "role": "assistant",
        "content": "Wait",
        "tool_calls": [
            {"id": "c1", "function": {"name": "f", "arguments": {"a": 1.5}}},
            {"id": "c2", "function": {"name": "g", "arguments": {}}},
            {"function": {"name": "g", "arguments": {"arguments": "{cut"}}},
        ],
    }
    assert results == [
        {"role": "tool", "content": "two\n\nparts", "tool_name": "g", "tool_call_id": "c2"},
        {"role": "tool", "content": "", "tool_name": "f", "tool_call_id": "c1"},
        {"role": "tool", "content": "whose?", "tool_call_id": "c9"},
    ]


# --- tools and formats ---------------------------------------------------------------------------------------


def test_tools_are_declared_with_a_schema_of_an_object() -> None:
    body, dropped = write(tools=(F, G), tool_choice=ToolChoice("auto"))
    assert body["tools"] == [
        {"type": "function", "function": {"name": "f", "description": "does", "parameters": SCHEMA}},
        {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}}},
    ]
    assert not dropped
    strict = Tool(name="f", strict=True)
    assert write(tools=(strict,), parallel_tool_calls=False)[1] == {"tools.strict", "parallel_tool_calls"}


def test_a_choice_of_tools_is_made_in_words_or_by_leaving_them_out() -> None:
    assert "tools" not in write(tools=(F,), tool_choice=ToolChoice("none"))[0]
    body, dropped = write(tools=(F, G), tool_choice=ToolChoice("named", "g"))
    assert [tool["function"]["name"] for tool in body["tools"]] == ["g"] and dropped == {"tool_choice"}
    assert body["messages"][0] == {"role": "system", "content": MUST_CALL}
    kind = Message(role="system", parts=(TextPart("Be kind."),))
    body, _ = write(messages=(kind, HI), tools=(F,), tool_choice=ToolChoice("required"))
    assert body["messages"][0]["content"] == f"Be kind.\n\n{MUST_CALL}" and len(body["messages"]) == 2
    body, dropped = write(tool_choice=ToolChoice("required"))
    assert len(body["messages"]) == 1 and dropped == {"tool_choice"}


def test_a_format_is_the_schema_and_beside_tools_it_is_words() -> None:
    assert write(output=OBJECT)[0]["format"] == "json"
    body, dropped = write(output=PERSON)
    assert body["format"] == SCHEMA and not dropped
    body, dropped = write(output=OBJECT, tools=(F,))
    assert "format" not in body and dropped == {"response_format"}
    assert body["messages"][0] == {"role": "system", "content": JSON_ONLY}
    assert json.dumps(SCHEMA) in write(output=PERSON, tools=(F,))[0]["messages"][0]["content"]
    assert write(output=PERSON, tools=(F,), tool_choice=ToolChoice("none"))[0]["format"] == SCHEMA
    broken = OutputFormat(kind="json_schema", schema=b"[]")
    assert refused(output=broken) == "response_format"


# --- parameters ----------------------------------------------------------------------------------------------


def test_parameters_are_options() -> None:
    fields = {
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 3,
        "seed": -1,
        "frequency_penalty": 0.5,
        "presence_penalty": -1.0,
    }
    body, dropped = write(max_tokens=9, stop=("END",), **fields)
    assert body["options"] == {"num_predict": 9, "stop": ["END"], **fields} and not dropped
    fields = {"logprobs": True, "top_logprobs": 2, "user": "u", "others": ("metadata",)}
    assert write(**fields)[1] == {"logprobs", "top_logprobs", "user", "metadata"}


@pytest.mark.parametrize(
    ("model", "effort", "think"),
    [
        (MODEL, "none", False), (MODEL, "low", True), ("qwen3", "max", True), ("hf.co/ann/qwen3:8b", "high", True),
        ("deepseek-r1:8b", "medium", True), ("deepseek-v3.1", "high", True),
        ("gpt-oss:20b", "none", "low"), ("gpt-oss:120b-cloud", "minimal", "low"), ("gpt-oss", "xhigh", "high"),
        ("llama3.2", "none", False), ("llama3.2", "high", None), ("qwen3:4b-instruct-2507", "high", None),
        ("qwen3-coder:30b", "high", None), ("gpt-oss:20b", "ultra", None),
    ],
)  # fmt: skip
def test_an_effort_is_what_the_model_is_known_to_take(model: str, effort: str, think: Any) -> None:
    body, dropped = write(model, reasoning_effort=effort)
    assert body.get("think") == think
    assert dropped == ({"reasoning_effort"} if think is None else set())


def test_a_target_sets_and_drops_parameters() -> None:
    more = {
        "set_params": (
            ("options", b'{"num_ctx":32768,"temperature":0.1}'),
            ("keep_alive", b'"30m"'),
            ("max_tokens", b"5"),
            ("truncate", b"true"),
        ),
        "drop_params": ("think", "top_p"),
    }
    body, _ = write(more=more, temperature=0.9, top_p=0.5, top_k=3, reasoning_effort="low")
    assert body["options"] == {"num_predict": 5, "top_k": 3, "num_ctx": 32768, "temperature": 0.1}
    assert body["keep_alive"] == "30m" and body["truncate"] is True and "think" not in body
    assert write(more={"set_params": (("options", b'{"num_ctx":1}'),)})[0]["options"] == {"num_ctx": 1}
    assert refused(more={"set_params": (("options", b"3"),)}) == "options"
