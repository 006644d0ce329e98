"""Converse's request body, thing by thing; the recorded ones are rebuilt in tests/providers/test_bedrock.py."""

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
    Part,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)
from crossfade.wire.bedrock_models import family_of, plain_name
from crossfade.wire.bedrock_request import Written, write_request
from tests.wire.test_gemini_request import result, said, system, user

CLAUDE, NEW, OLD = "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-opus-5", "anthropic.claude-v2"
NOVA, NOVA_2, LLAMA, OSS = (
    "amazon.nova-lite-v1:0",
    "us.amazon.nova-2-lite-v1:0",
    "meta.llama3-8b",
    "openai.gpt-oss-20b-1:0",
)
SCHEMA = b'{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}'
LOOSE = b'{"type":"object","properties":{"a":{"not":{"type":"string"}}}}'
WEATHER = Tool(name="weather", description="The weather.", parameters=SCHEMA)
CALL = ToolCall("call_1", "weather", '{"city": "Rye"}')


def written(*messages: Message, model: str = CLAUDE, more: dict[str, Any] | None = None, **fields: Any) -> Written:
    return write_request(ChatRequest(messages=messages or (user("hi"),), **fields), model, **(more or {}))


def body_of(*messages: Message, model: str = CLAUDE, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(written(*messages, model=model, **fields).body)
    return body


def more_of(model: str = CLAUDE, **fields: Any) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
    """The model's own fields, the common ones, and what was dropped."""
    found = written(model=model, **fields)
    body = json.loads(found.body)
    return body.get("additionalModelRequestFields", {}), body.get("inferenceConfig", {}), found.dropped


# --- conversation --------------------------------------------------------------------------------------------


def test_the_least_request_is_the_least_body() -> None:
    assert body_of() == {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}


def test_turns_alternate_begin_with_the_user_and_have_no_blank_text() -> None:
    body = body_of(
        said("I am"), said(" here. "), system("a"), user(" ", "hi"), user("there"), system("b"), said("So \n")
    )
    assert body["system"] == [{"text": "a"}, {"text": "b"}]
    assert body["messages"] == [
        {"role": "user", "content": [{"text": "."}]},
        {"role": "assistant", "content": [{"text": "I am"}, {"text": " here. "}]},
        {"role": "user", "content": [{"text": "hi"}, {"text": "there"}]},
        {"role": "assistant", "content": [{"text": "So"}]},
    ]
    assert body_of(system("a"))["messages"] == [{"role": "user", "content": [{"text": "a"}]}]
    refused = Message(role="assistant", refusal="I will not.")
    assert body_of(user("x"), refused, user("y"))["messages"][1]["content"] == [{"text": "I will not."}]


def test_calls_and_results_are_blocks_and_results_stand_first() -> None:
    second = ToolCall("a/b" + "x" * 80, "weather", "no JSON")
    turns = body_of(
        user("hi"),
        said("Let me look.", CALL, second),
        user("And?"),
        result("call_1", "Rain.", ImagePart(data="aa", media_type="image/png")),
        result(second.id),
        tools=(WEATHER,),
    )["messages"]
    assert turns[1]["content"] == [
        {"text": "Let me look."},
        {"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {"city": "Rye"}}},
        {"toolUse": {"toolUseId": "x" * 64, "name": "weather", "input": {"arguments": "no JSON"}}},
    ]
    image = {"image": {"format": "png", "source": {"bytes": "aa"}}}
    assert turns[2]["content"] == [
        {"toolResult": {"toolUseId": "call_1", "content": [{"text": "Rain."}, image]}},
        {"toolResult": {"toolUseId": "x" * 64, "content": [{"text": "(empty)"}]}},
        {"text": "And?"},
    ]


def test_media_go_inline_or_stay_in_s3() -> None:
    text = base64.b64encode("Grüße".encode()).decode()
    parts: tuple[Part, ...] = (
        ImagePart(data="aa", media_type="image/jpg"),
        ImagePart(url="s3://bucket/cat.webp"),
        FilePart(data="bb", name="A_b: 1.pdf", media_type="application/pdf"),
        FilePart(data="bb", name="A_b: 1.pdf"),
        FilePart(data=text, media_type="text/plain; charset=utf-8"),
        FilePart(url="s3://bucket/x.docx"),
        FilePart(data="cc", media_type="image/png"),
        AudioPart("dd", "wav"),
    )
    content = body_of(user(*parts))["messages"][0]["content"]
    assert content == [
        {"image": {"format": "jpeg", "source": {"bytes": "aa"}}},
        {"image": {"format": "webp", "source": {"s3Location": {"uri": "s3://bucket/cat.webp"}}}},
        {"document": {"format": "pdf", "name": "A_b 1", "source": {"bytes": "bb"}}},
        {"document": {"format": "pdf", "name": "A_b 1 2", "source": {"bytes": "bb"}}},
        {"document": {"format": "txt", "name": "document", "source": {"text": "Grüße"}}},
        {"document": {"format": "docx", "name": "document 2", "source": {"s3Location": {"uri": "s3://bucket/x.docx"}}}},
        {"image": {"format": "png", "source": {"bytes": "cc"}}},
        {"audio": {"format": "wav", "source": {"bytes": "dd"}}},
        {"text": "."},
    ]


@pytest.mark.parametrize(
    "part",
    [
        ImagePart(url="https://example.com/cat.png"),
        ImagePart(data="aa", media_type="image/tiff"),
        ImagePart(),
        FilePart(url="https://example.com/x.pdf"),
        FilePart(file_id="file-1"),
        FilePart(data="aa", media_type="application/zip"),
        FilePart(data="=", media_type="text/plain"),
        AudioPart("aa", "midi"),
    ],
)
def test_what_cannot_be_said_is_refused(part: Part) -> None:
    with pytest.raises(InvalidRequest) as caught:
        body_of(user("hi", part))
    assert caught.value.param == "messages"


def test_media_where_none_may_stand_are_refused() -> None:
    image = ImagePart(data="aa", media_type="image/png")
    for message in (Message(role="system", parts=(image,)), Message(role="assistant", parts=(image,))):
        with pytest.raises(InvalidRequest):
            body_of(user("hi"), message)
    with pytest.raises(InvalidRequest, match="audio"):
        body_of(user("hi"), said("", CALL), result("call_1", AudioPart("aa", "wav")))
    with pytest.raises(InvalidRequest):
        body_of(user(" "))
    with pytest.raises(InvalidRequest) as caught:
        body_of(n=2)
    assert caught.value.param == "n"


# --- tools ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        (None, None),
        (ToolChoice("auto"), {"auto": {}}),
        (ToolChoice("required"), {"any": {}}),
        (ToolChoice("named", "weather"), {"tool": {"name": "weather"}}),
    ],
)
def test_tools_and_the_choice(choice: ToolChoice | None, wanted: Any) -> None:
    config = body_of(tools=(WEATHER, Tool(name="bare")), tool_choice=choice)["toolConfig"]
    assert config.get("toolChoice") == wanted
    assert config["tools"] == [
        {"toolSpec": {"name": "weather", "description": "The weather.", "inputSchema": {"json": json.loads(SCHEMA)}}},
        {"toolSpec": {"name": "bare", "inputSchema": {"json": {"type": "object"}}}},
    ]


def test_a_choice_of_none_leaves_the_tools_out_unless_the_history_needs_them() -> None:
    asked: dict[str, Any] = {"tools": (WEATHER,), "tool_choice": ToolChoice("none")}
    assert "toolConfig" not in body_of(**asked)
    found = written(user("hi"), said("", CALL), result("call_1", "Rain."), **asked)
    assert "toolChoice" not in json.loads(found.body)["toolConfig"] and found.dropped == ("tool_choice",)


def test_a_history_with_calls_has_definitions() -> None:
    found = written(user("hi"), said("", CALL), result("call_1", "Rain."), tool_choice=ToolChoice("required"))
    spec = {"toolSpec": {"name": "weather", "inputSchema": {"json": {"type": "object"}}}}
    assert json.loads(found.body)["toolConfig"] == {"tools": [spec]} and found.dropped == ("tool_choice",)


def test_strict_tools_are_kept_where_model_and_schema_allow_it() -> None:
    strict, loose = Tool(name="s", parameters=SCHEMA, strict=True), Tool(name="l", parameters=LOOSE, strict=True)
    found = written(tools=(strict, loose))
    first, second = (tool["toolSpec"] for tool in json.loads(found.body)["toolConfig"]["tools"])
    assert first["strict"] is True and "strict" not in second and found.dropped == ("tools.strict",)
    old = written(tools=(strict,), model=NOVA)
    assert b"strict" not in old.body and old.dropped == ("tools.strict",)


def test_what_has_no_word_of_converses_is_dropped_by_name() -> None:
    found = written(
        user("hi"), Message(role="user", name="Ann", parts=(TextPart("x"),)),
        tools=(WEATHER,), parallel_tool_calls=False, seed=1, logprobs=True, top_logprobs=2, user="u",
        frequency_penalty=0.5, presence_penalty=0.0, others=("service_tier", "store"),
    )  # fmt: skip
    assert found.dropped == (
        "parallel_tool_calls", "seed", "logprobs", "top_logprobs", "user", "frequency_penalty", "messages.name",
        "service_tier", "store",
    )  # fmt: skip


# --- parameters ----------------------------------------------------------------------------------------------


def test_the_common_parameters() -> None:
    asked: dict[str, Any] = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": ("END",)}
    wanted = {"maxTokens": 9, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]}
    assert more_of(LLAMA, **asked) == ({}, wanted, ())
    assert more_of(CLAUDE, **asked) == ({}, {name: wanted[name] for name in wanted if name != "topP"}, ("top_p",))
    assert more_of(NEW, **asked) == ({}, {"maxTokens": 9, "stopSequences": ["END"]}, ("temperature", "top_p"))
    assert more_of(CLAUDE, stop=("\n",), temperature=1.5) == ({}, {"temperature": 1.0}, ("stop", "temperature>1"))
    assert more_of(CLAUDE, max_tokens=100_000) == ({}, {"maxTokens": 64_000}, ("max_tokens>64000",))


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("anthropic.claude-3-haiku-20240307-v1:0", {"top_k": 5}),
        (CLAUDE, {"top_k": 5}),
        (NOVA, {"inferenceConfig": {"topK": 5}}),
        ("mistral.mistral-large-2407-v1:0", {"top_k": 5}),
        (LLAMA, {}),
        (NEW, {}),
    ],
)
def test_top_k_is_said_in_the_words_of_the_models_maker(model: str, wanted: Any) -> None:
    more, _, dropped = more_of(model, top_k=5)
    assert more == wanted and dropped == (() if wanted else ("top_k",))


@pytest.mark.parametrize(
    ("model", "effort", "wanted", "dropped"),
    [
        (CLAUDE, "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}}, ()),
        (CLAUDE, "none", {}, ()),
        (CLAUDE, "odd", {}, ("reasoning_effort",)),
        (NEW, "high", {"thinking": {"type": "adaptive"}}, ()),
        (NEW, "none", {"thinking": {"type": "disabled"}}, ()),
        (OLD, "high", {}, ("reasoning_effort",)),
        (NOVA, "high", {}, ("reasoning_effort",)),
        (NOVA_2, "medium", {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}}, ()),
        (NOVA_2, "none", {}, ()),
        (OSS, "low", {"reasoning_effort": "low"}, ()),
        (OSS, "none", {}, ("reasoning_effort",)),
        (LLAMA, "none", {}, ()),
        (LLAMA, "low", {}, ("reasoning_effort",)),
    ],
)
def test_effort_is_said_in_the_words_of_the_models_maker(
    model: str, effort: str, wanted: Any, dropped: tuple[str, ...]
) -> None:
    more, _, lost = more_of(model, reasoning_effort=effort)
    assert (more, lost) == (wanted, dropped)


def test_a_budget_fits_into_the_limit_and_rules_the_rest() -> None:
    more, config, dropped = more_of(reasoning_effort="high", max_tokens=4000, temperature=0.5, top_k=3)
    assert more == {"thinking": {"type": "enabled", "budget_tokens": 2000}}
    assert config == {"maxTokens": 4000} and dropped == ("temperature", "top_k")
    assert more_of(reasoning_effort="high", max_tokens=1000)[2] == ("reasoning_effort",)
    assert more_of(reasoning_effort="high")[1] == {"maxTokens": 4096 + 16384}
    forced: dict[str, Any] = {"tools": (WEATHER,), "tool_choice": ToolChoice("required")}
    assert more_of(reasoning_effort="low", **forced)[0] == {}
    loop = (user("hi"), said("", CALL), result("call_1", "Rain."))
    assert "additionalModelRequestFields" not in body_of(*loop, tools=(WEATHER,), reasoning_effort="low")


def test_effort_and_format_stand_side_by_side() -> None:
    output = OutputFormat(kind="json_schema", schema=SCHEMA)
    config = body_of(model=NEW, reasoning_effort="max", output=output)["outputConfig"]
    assert config["effort"] == "max" and config["textFormat"]["type"] == "json_schema"
    assert body_of(model="anthropic.claude-sonnet-4-6", reasoning_effort="max")["outputConfig"] == {"effort": "high"}


def test_a_nova_that_thinks_hard_decides_its_own_limits() -> None:
    more, config, dropped = more_of(NOVA_2, reasoning_effort="high", max_tokens=100)
    assert more["reasoningConfig"]["maxReasoningEffort"] == "high" and config == {} and dropped == ("max_tokens",)


# --- output and caching --------------------------------------------------------------------------------------


def test_a_schema_has_a_place_where_the_model_honours_one() -> None:
    output = OutputFormat(kind="json_schema", name="person", description="A person.", schema=SCHEMA, strict=True)
    for model in (CLAUDE, OSS, "minimax.minimax-m2"):
        found = written(model=model, output=output)
        structure = json.loads(found.body)["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
        assert structure["name"] == "person" and structure["description"] == "A person." and not found.dropped
        assert json.loads(structure["schema"]) == json.loads(SCHEMA)


@pytest.mark.parametrize(
    ("model", "schema"), [(NOVA, SCHEMA), (LLAMA, SCHEMA), ("anthropic.claude-3-haiku-1", SCHEMA), (CLAUDE, LOOSE)]
)
def test_elsewhere_it_is_asked_for_in_words(model: str, schema: bytes) -> None:
    found = written(system("a"), user("hi"), model=model, output=OutputFormat(kind="json_schema", schema=schema))
    first, second = json.loads(found.body)["system"]
    assert first == {"text": "a"} and schema.decode() in second["text"]
    assert "outputConfig" not in json.loads(found.body) and found.dropped == ("response_format",)


def test_any_object_is_asked_for_in_words() -> None:
    found = written(output=OutputFormat(kind="json_object"))
    assert "JSON object" in json.loads(found.body)["system"][0]["text"] and not found.dropped


def test_a_caller_who_marks_parts_for_caching_gets_points_where_the_model_has_them() -> None:
    point = {"cachePoint": {"type": "default"}}
    asked: dict[str, Any] = {"tools": (WEATHER,), "others": ("cache_control",)}
    talk = (system("a"), user("hi"), said("yes"), user("more"), said("pre"))
    body = body_of(*talk, **asked)
    assert body["toolConfig"]["tools"][1:] == body["system"][1:] == body["messages"][2]["content"][1:] == [point]
    assert json.dumps(body).count("cachePoint") == 3
    without = written(*talk, model=LLAMA, **asked)
    assert b"cachePoint" not in without.body and without.dropped == ("cache_control",)


# --- what a target sets and drops ----------------------------------------------------------------------------


def test_a_target_sets_and_drops_chat_parameters_by_name_and_members_as_they_are() -> None:
    more = {
        "set_params": (("temperature", b"0.1"), ("guardrailConfig", b'{"trace":"enabled"}')),
        "drop_params": ("max_tokens", "system"),
    }
    body = json.loads(written(system("a"), user("hi"), model=LLAMA, more=more, max_tokens=5).body)
    assert body["inferenceConfig"] == {"temperature": 0.1} and body["guardrailConfig"] == {"trace": "enabled"}
    assert "system" not in body and "temperature" not in body


# --- models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (CLAUDE, CLAUDE[3:]),
        ("global.anthropic.claude-opus-5", "anthropic.claude-opus-5"),
        ("us-gov.amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/eu.amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0"),
        ("arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0"),
        ("ai21.jamba-1-5-large-v1:0", "ai21.jamba-1-5-large-v1:0"),
    ],
)
def test_a_models_own_name(model: str, name: str) -> None:
    assert plain_name(model) == name


def test_a_profile_of_ones_own_is_asked_nothing_special() -> None:
    family = family_of("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3")
    assert family.maker == "other" and not (family.top_k or family.effort or family.structured or family.caches)
