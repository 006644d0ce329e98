"""What a chat becomes at Cohere: part by part, with what is left out and what is refused."""

from __future__ import annotations

import base64
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
from crossfade.wire.cohere_request import write_request

MODEL = "command-a-03-2025"
THINKER = "command-a-reasoning-08-2025"
HI = Message(role="user", parts=(TextPart("Hi"),))
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
F = Tool(name="f", description="does", parameters=json.dumps(SCHEMA).encode())
G = Tool(name="g")


def write(model: str = MODEL, more: dict[str, Any] | None = None, **fields: Any) -> tuple[dict[str, Any], set[str]]:
    fields.setdefault("messages", (HI,))
    written = write_request(ChatRequest(**fields), model, stream=False, **(more or {}))
    return json.loads(written.body), set(written.dropped)


def user(*parts: Any) -> tuple[Message, ...]:
    return (Message(role="user", parts=parts),)


def text_file(text: str, name: str | None = None, kind: str = "text/plain") -> FilePart:
    return FilePart(name=name, media_type=kind, data=base64.b64encode(text.encode()).decode())


def refused(**fields: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        write(**fields)
    return caught.value.param or ""


# --- conversation --------------------------------------------------------------------------------------------


def test_messages_say_their_text_and_the_systems_stand_first() -> None:
    messages = (
        Message(role="system", parts=(TextPart("Be kind."),)),
        Message(role="user", parts=(TextPart("a"), TextPart(""), TextPart("b"))),
        Message(role="assistant", parts=(TextPart("c"),), refusal="no"),
        Message(role="assistant"),
        Message(role="system", parts=(TextPart("Be brief."),)),
        HI,
    )
    body, dropped = write(messages=messages)
    assert body["messages"] == [
        {"role": "system", "content": [{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "c"}, {"type": "text", "text": "no"}]},
        {"role": "user", "content": "Hi"},
    ]
    assert not dropped and body["model"] == MODEL and "stream" not in body


def test_a_system_message_alone_is_the_users() -> None:
    body, _ = write(messages=(Message(role="system", parts=(TextPart("Say hi."),)),))
    assert body["messages"] == [{"role": "user", "content": "Say hi."}]


def test_what_is_said_before_calls_is_their_plan() -> None:
    calls = (ToolCall("c_1", "f", '{"a":"é"}'), ToolCall("c_2", "g", ""))
    messages = (
        HI,
        Message(role="assistant", parts=(TextPart("I look."),), tool_calls=calls),
        Message(role="tool", call_id="c_1", parts=(TextPart("found"),)),
        Message(role="tool", call_id="c_2", parts=(TextPart("see"), text_file("page", "p.txt"))),
        Message(role="tool", call_id="c_2"),
    )
    body, _ = write(messages=messages)
    said, *results = body["messages"][1:]
    assert said == {
        "role": "assistant",
        "tool_plan": "I look.",
        "tool_calls": [
            {"id": "c_1", "type": "function", "function": {"name": "f", "arguments": '{"a":"é"}'}},
            {"id": "c_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }
    document = {"type": "document", "document": {"data": {"title": "p.txt", "text": "page"}}}
    assert [result["content"] for result in results] == [
        "found",
        [{"type": "text", "text": "see"}, document],
        "(empty)",
    ]
    assert [result["tool_call_id"] for result in results] == ["c_1", "c_2", "c_2"]


def test_files_of_text_are_documents_beside_the_messages() -> None:
    body, dropped = write(messages=user(TextPart("Read."), text_file("one", "a.md", "text/markdown"), text_file("two")))
    assert body["messages"] == [{"role": "user", "content": "Read."}]
    assert body["documents"] == [
        {"id": "doc:0", "data": {"title": "a.md", "text": "one"}},
        {"id": "doc:1", "data": {"text": "two"}},
    ]
    assert not dropped
    alone, _ = write(messages=user(text_file("{}", kind="application/json; charset=utf-8")))
    assert alone["messages"] == [{"role": "user", "content": "."}] and len(alone["documents"]) == 1


def test_images_go_by_their_address_or_inline() -> None:
    parts = (
        ImagePart(url="https://a.example/b.png", detail="low"),
        ImagePart(media_type="image/png", data="AAAA"),
        FilePart(media_type="image/webp", data="BBBB"),
    )
    body, _ = write(messages=user(*parts))
    assert [block["image_url"] for block in body["messages"][0]["content"]] == [
        {"url": "https://a.example/b.png", "detail": "low"},
        {"url": "data:image/png;base64,AAAA"},
        {"url": "data:image/webp;base64,BBBB"},
    ]


@pytest.mark.parametrize(
    "messages",
    [
        (),
        (Message(role="assistant"),),
        user(TextPart("")),
        user(AudioPart("AAAA", "wav")),
        user(FilePart(media_type="application/pdf", data="AAAA")),
        user(FilePart(url="https://a.example/b.txt")),
        user(FilePart(file_id="file_1")),
        user(FilePart(media_type="text/plain", data="/w==")),
        (Message(role="system", parts=(ImagePart(url="https://a.example"),)),),
        (Message(role="assistant", parts=(ImagePart(url="https://a.example"),)),),
        (Message(role="tool", call_id="c", parts=(ImagePart(url="https://a.example"),)),),
    ],
)
def test_what_cannot_be_said_is_refused(messages: tuple[Message, ...]) -> None:
    assert refused(messages=messages) == "messages"


def test_several_answers_and_schemas_that_are_none_are_refused() -> None:
    assert refused(n=2) == "n"
    assert refused(tools=(Tool(name="f", parameters=b"[]"),)) == "tools"
    assert refused(output=OutputFormat(kind="json_schema", schema=b"3")) == "response_format"


# --- limits and sampling -------------------------------------------------------------------------------------


def test_limits_and_sampling_have_other_names() -> None:
    body, dropped = write(
        max_tokens=9, temperature=0.5, top_p=0.9, top_k=40, seed=7, stop=("a", "b"), frequency_penalty=0.5,
        presence_penalty=0.0,
    )  # fmt: skip
    del body["model"], body["messages"]
    assert body == {
        "max_tokens": 9,
        "stop_sequences": ["a", "b"],
        "temperature": 0.5,
        "p": 0.9,
        "k": 40,
        "frequency_penalty": 0.5,
        "seed": 7,
    }
    assert not dropped


def test_numbers_beyond_what_is_taken_are_brought_within_it() -> None:
    body, dropped = write(
        temperature=1.7, top_p=1.0, top_k=900, seed=-1, stop=tuple("abcdef"), frequency_penalty=1.5,
        presence_penalty=-0.5,
    )  # fmt: skip
    assert (body["temperature"], body["p"], body["k"], body["frequency_penalty"]) == (1.0, 0.99, 500, 1.0)
    assert body["stop_sequences"] == [*"abcde"] and "seed" not in body and "presence_penalty" not in body
    assert dropped == {"temperature>1", "top_k>500", "seed", "stop>5", "frequency_penalty>1", "presence_penalty"}
    assert write(top_p=0.0)[0]["p"] == 0.01
    body, dropped = write(frequency_penalty=0.5, presence_penalty=0.5)
    assert "presence_penalty" not in body and dropped == {"presence_penalty"}
    assert write(frequency_penalty=0.0, presence_penalty=0.5)[0]["presence_penalty"] == 0.5


def test_what_has_no_counterpart_is_named() -> None:
    _, dropped = write(
        logprobs=True, top_logprobs=2, user="u", others=("service_tier",),
        messages=(Message(role="user", name="ann", parts=(TextPart("Hi"),)),),
    )  # fmt: skip
    assert dropped == {"logprobs", "top_logprobs", "user", "service_tier", "messages.name"}


def test_parameters_of_the_target_act_on_the_chat_or_the_body() -> None:
    more = {
        "set_params": (("temperature", b"2"), ("safety_mode", b'"NONE"'), ("k", b"7"), ("stop", b'"x"')),
        "drop_params": ("seed", "tools", "max_completion_tokens"),
    }
    body, dropped = write(more=more, seed=3, tools=(F,), max_tokens=5)
    assert (body["temperature"], body["safety_mode"], body["k"], body["stop_sequences"]) == (1.0, "NONE", 7, ["x"])
    assert body.keys().isdisjoint({"seed", "tools", "max_tokens"}) and dropped == {"temperature>1"}


# --- tools ---------------------------------------------------------------------------------------------------


def test_tools_have_a_schema_of_an_object() -> None:
    body, _ = write(tools=(F, G))
    assert [tool["function"] for tool in body["tools"]] == [
        {"name": "f", "description": "does", "parameters": SCHEMA},
        {"name": "g", "parameters": {"type": "object"}},
    ]
    assert "tool_choice" not in body and "strict_tools" not in body


@pytest.mark.parametrize(
    ("choice", "word", "tools"),
    [
        (ToolChoice("auto"), None, ["f", "g"]),
        (ToolChoice("none"), "NONE", ["f", "g"]),
        (ToolChoice("required"), "REQUIRED", ["f", "g"]),
        (ToolChoice("named", "g"), "REQUIRED", ["g"]),
        (ToolChoice("named", "other"), "REQUIRED", ["f", "g"]),
    ],
)
def test_a_tool_that_is_named_is_the_only_one(choice: ToolChoice, word: str | None, tools: list[str]) -> None:
    body, dropped = write(tools=(F, G), tool_choice=choice)
    assert body.get("tool_choice") == word and not dropped
    assert [tool["function"]["name"] for tool in body["tools"]] == tools


@pytest.mark.parametrize("model", ["command-r", "command-r-plus", "command-r-08-2024", "command-r-plus-08-2024"])
def test_older_models_cannot_be_told_whether_to_call(model: str) -> None:
    body, dropped = write(model, tools=(F, G), tool_choice=ToolChoice("named", "f"))
    assert "tool_choice" not in body and len(body["tools"]) == 1 and dropped == {"tool_choice"}
    assert write("command-r7b-12-2024", tools=(F,), tool_choice=ToolChoice("required"))[0]["tool_choice"] == "REQUIRED"


def test_a_choice_without_tools_and_calls_one_by_one_are_dropped() -> None:
    assert write(tool_choice=ToolChoice("required"))[1] == {"tool_choice"}
    assert write(tool_choice=ToolChoice("none"))[1] == set()
    assert write(tools=(F,), parallel_tool_calls=False)[1] == {"parallel_tool_calls"}


def test_tools_are_strict_together_or_not_at_all() -> None:
    strict = Tool(name="f", parameters=F.parameters, strict=True)
    assert write(tools=(strict,))[0]["strict_tools"] is True
    many = {"type": "object", "properties": {f"a{n}": {} for n in range(201)}, "required": ["a0"]}
    for others in ((strict, G), (Tool(name="g", strict=True),), (Tool(name="g", parameters=_json(many), strict=True),)):
        body, dropped = write(tools=others)
        assert "strict_tools" not in body and dropped == {"tools.strict"}


def test_names_of_tools_are_changed_alike_everywhere() -> None:
    odd = Tool(name="get-weather.v2")
    calls = (ToolCall("c", "get-weather.v2", "{}"), ToolCall("d", "9-of-before", "{}"))
    messages = (HI, Message(role="assistant", tool_calls=calls))
    body, dropped = write(tools=(odd, F), tool_choice=ToolChoice("named", odd.name), messages=messages)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["get_weather_v2"] and not dropped
    said = [call["function"]["name"] for call in body["messages"][1]["tool_calls"]]
    assert said == ["get_weather_v2", "_9_of_before"]


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


# --- output and reasoning ------------------------------------------------------------------------------------


def output(schema: Any) -> OutputFormat:
    return OutputFormat(kind="json_schema", schema=_json(schema), description="a thing")


def test_a_schema_stands_under_the_type_of_an_object() -> None:
    body, dropped = write(output=output(SCHEMA))
    assert body["response_format"] == {"type": "json_object", "json_schema": SCHEMA} and not dropped
    body, dropped = write(output=OutputFormat(kind="json_object"))
    assert body["response_format"] == {"type": "json_object"} and not dropped


NESTED = {"type": "object", "properties": {"a": {"type": "object"}}, "required": ["a"]}


@pytest.mark.parametrize(
    "fields",
    [
        {"output": output({"type": "array"})},
        {"output": output({"type": "object", "properties": {}})},
        {"output": output(NESTED)},
        {"output": output({**SCHEMA, "anyOf": [NESTED]})},
        {"output": output(SCHEMA), "tools": (F,)},
        {"output": OutputFormat(kind="json_object"), "tools": (F,)},
        {"output": output(SCHEMA), "messages": user(TextPart("Read."), text_file("one"))},
    ],
)
def test_a_format_that_has_no_place_is_asked_for_in_words(fields: dict[str, Any]) -> None:
    system = Message(role="system", parts=(TextPart("Be kind."),))
    fields["messages"] = (system, *fields.get("messages", (HI,)))
    body, dropped = write(**fields)
    assert "response_format" not in body and dropped == {"response_format"}
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    kind, asked = [block["text"] for block in body["messages"][0]["content"]]
    assert kind == "Be kind." and asked.startswith("Answer with one ")
    schema = fields["output"].schema
    assert schema is None or f"{schema.decode()}\n\na thing" in asked


@pytest.mark.parametrize(
    ("effort", "limit", "thinking"),
    [
        ("none", None, {"type": "disabled"}),
        ("minimal", None, {"type": "enabled", "token_budget": 1024}),
        ("medium", None, {"type": "enabled", "token_budget": 8192}),
        ("medium", 1000, {"type": "enabled", "token_budget": 500}),
        ("low", 1, {"type": "enabled", "token_budget": 1}),
        ("high", 1000, {"type": "enabled"}),
        ("max", None, {"type": "enabled"}),
    ],
)
def test_effort_is_a_budget_of_thoughts(effort: str, limit: int | None, thinking: dict[str, Any]) -> None:
    for model in (THINKER, "command-a-plus-05-2026"):
        body, dropped = write(model, reasoning_effort=effort, max_tokens=limit)
        assert body["thinking"] == thinking and not dropped


def test_models_that_do_not_think_are_not_told_to() -> None:
    assert write(reasoning_effort="low")[1] == {"reasoning_effort"}
    assert write(reasoning_effort="none")[1] == set() and "thinking" not in write(reasoning_effort="none")[0]
    assert write(THINKER, reasoning_effort="odd")[1] == {"reasoning_effort"}
