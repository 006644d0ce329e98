"""The Anthropic dialect: requests written, answers and streams read."""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import (
    AudioPart,
    ChatRequest,
    Completion,
    Continuation,
    FilePart,
    Finish,
    ImagePart,
    Message,
    OutputFormat,
    Part,
    StreamEvent,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    Usage,
    continued,
)
from crossfade.core.failure import Failure, FailureReason
from crossfade.wire.anthropic_answer import FINISHES, read_completion
from crossfade.wire.anthropic_messages import write_request
from crossfade.wire.anthropic_models import UNKNOWN, traits_of
from crossfade.wire.anthropic_schema import closed_schema, fits_limits
from crossfade.wire.anthropic_stream import AnthropicStreamReader
from crossfade.wire.sse import MAX_EVENT
from crossfade.wire.written import Written
from tests.recordings import load, names, needs_recordings
from tests.wire.anthropic_recorded import Answer, NotCanonical, canonical, parsed, without_losses

ALL = names("anthropic", "messages") + names("vertex", "anthropic-messages")
STREAMS = [n for n in ALL if "-stream-" in n and "-error-" not in n]
BODIES = [n for n in ALL if "-stream-" not in n and "-error-" not in n]

OLD, MIDDLE, NEW, ALWAYS = "claude-sonnet-4-0", "claude-sonnet-4-6", "claude-opus-5", "claude-fable-5-1"
FORMAL = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def user(*parts: str | Part) -> Message:
    return Message(role="user", parts=tuple(TextPart(p) if isinstance(p, str) else p for p in parts))


def assistant(text: str = "", *calls: ToolCall) -> Message:
    return Message(role="assistant", parts=(TextPart(text),), tool_calls=calls)


def result(call_id: str, *parts: str | Part) -> Message:
    return Message(role="tool", call_id=call_id, parts=user(*parts).parts)


def system(*texts: str) -> Message:
    return Message(role="system", parts=tuple(TextPart(text) for text in texts))


def written(request: ChatRequest, model: str = MIDDLE, **options: Any) -> Written:
    return write_request(request, model=model, **{"stream": False, **options})


def body_of(*messages: Message, model: str = MIDDLE, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(written(ChatRequest(messages=messages or (user("hi"),), **fields), model).body)
    return body


def dropped_of(model: str = MIDDLE, **fields: Any) -> tuple[str, ...]:
    return written(ChatRequest(messages=(user("hi"),), **fields), model).dropped


def failed(data: bytes) -> Failure:
    """A stand-in for the provider's reading of errors."""
    return Failure(reason=FailureReason.OVERLOADED, detail=json.loads(data)["error"]["type"])


def reader() -> AnthropicStreamReader:
    return AnthropicStreamReader(failed)


def fed(body: bytes, sizes: Iterable[int] = ()) -> tuple[AnthropicStreamReader, list[StreamEvent]]:
    """A reader given `body` in pieces of `sizes`, then all that is left."""
    made, at = reader(), 0
    events: list[StreamEvent] = []
    for size in sizes:
        events += made.feed(body[at : at + size])
        at += size
    if at < len(body):
        events += made.feed(body[at:])
    return made, [*events, *made.close()]


def meaning(events: Iterable[StreamEvent]) -> tuple[Any, ...]:
    """What a stream comes to, whatever its pieces were."""
    calls: dict[int, list[str]] = {}
    text = reasoning = ""
    usage = finish = raw_finish = None
    opened = other = ends = 0
    head = ("", "")
    for event in events:
        text, reasoning = text + event.text, reasoning + event.reasoning
        for delta in event.tools:
            known = calls.setdefault(delta.index, [delta.id, delta.name, ""])
            known[2] += delta.arguments
        usage, finish, raw_finish = event.usage or usage, event.finish or finish, event.raw_finish or raw_finish
        opened, other, ends = opened + event.is_open, other + event.has_other_content, ends + event.is_end
        head = (event.id, event.model) if event.id else head
        assert event.failure is None
    return head, text, reasoning, list(calls.items()), usage, finish, raw_finish, opened, other, ends


# --- request: conversation -----------------------------------------------------------------------------------


def test_system_messages_are_gathered_wherever_they_stand() -> None:
    body = body_of(system("one"), user("hi"), system("two", " "), assistant("yes"), user("go on"))
    assert body["system"] == [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body_of(system("one"), user("hi"))["system"] == "one"


def test_consecutive_turns_of_one_role_become_one_without_empty_text() -> None:
    body = body_of(user("a"), user("", "  \n"), user("b"), assistant(""), user("c"))
    texts = [{"type": "text", "text": text} for text in "abc"]
    assert body["messages"] == [{"role": "user", "content": texts}]


def test_results_of_one_turn_stand_together_and_first() -> None:
    calls = (ToolCall("t1", "f", '{"x": 1}'), ToolCall("t2", "g", ""))
    image = ImagePart(media_type="image/png", data="AAAA")
    body = body_of(
        user("do"),
        assistant("well", *calls),
        result("t1", "one"),
        user("and"),
        result("t2", "two", image),
        result("t3"),
    )
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "well"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "one"},
                {
                    "type": "tool_result",
                    "tool_use_id": "t2",
                    "content": [
                        {"type": "text", "text": "two"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                    ],
                },
                {"type": "tool_result", "tool_use_id": "t3"},
                {"type": "text", "text": "and"},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        (" ", {}),
        ('{"big": 12345678901234567890123, "f": 1.10}', {"big": 12345678901234567890123, "f": 1.1}),
        ("[1]", {"arguments": "[1]"}),
        ('{"cut": "of', {"arguments": '{"cut": "of'}),
        ('{"é": "\\ud83c\\udf0a"}', {"é": "🌊"}),
    ],
)
def test_arguments_are_always_an_object(arguments: str, expected: Any) -> None:
    body = body_of(user("x"), assistant("", ToolCall("t", "f", arguments)), result("t", "r"))
    assert body["messages"][1]["content"][0]["input"] == expected


def test_ids_of_other_providers_are_made_acceptable_alike_in_call_and_result() -> None:
    body = body_of(user("x"), assistant("", ToolCall("functions.f:0", "f", "")), result("functions.f:0", "r"))
    assert body["messages"][1]["content"][0]["id"] == "functions_f_0"
    assert body["messages"][2]["content"][0]["tool_use_id"] == "functions_f_0"


def test_calls_in_the_history_bring_definitions_that_may_not_be_used() -> None:
    body = body_of(user("x"), assistant("", ToolCall("t", "f", ""), ToolCall("u", "f", "")), result("t", "r"))
    assert body["tools"] == [{"name": "f", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}


def test_last_assistant_turn_is_right_trimmed() -> None:
    body = body_of(user("x "), assistant("so far \n"))
    assert body["messages"] == [{"role": "user", "content": "x "}, {"role": "assistant", "content": "so far"}]


def test_a_conversation_begins_with_the_user() -> None:
    body = body_of(assistant("Welcome!"), user("hi"))
    assert body["messages"][:2] == [{"role": "user", "content": "."}, {"role": "assistant", "content": "Welcome!"}]
    assert body_of(system("Tell a joke."))["messages"] == [{"role": "user", "content": "Tell a joke."}]
    assert "system" not in body_of(system("Tell a joke."))
    with pytest.raises(InvalidRequest) as caught:
        body_of(user(" "))
    assert caught.value.param == "messages"


def test_a_refusal_in_the_history_is_text() -> None:
    refusal = Message(role="assistant", refusal="No.")
    assert body_of(user("x"), refusal, user("why"))["messages"][1] == {"role": "assistant", "content": "No."}


def test_images_and_documents() -> None:
    text = base64.b64encode("naïve".encode()).decode()
    body = body_of(
        user(
            ImagePart(url="https://example.com/a.png"),
            ImagePart(media_type="image/jpg", data="AAAA"),
            FilePart(name="a.PDF", data="JVBE"),
            FilePart(media_type="application/pdf", url="https://example.com/a.pdf"),
            FilePart(name="n.txt", media_type="text/markdown; charset=utf-8", data=text),
            FilePart(media_type="image/webp", data="UklG"),
        )
    )
    assert body["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AAAA"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
            "title": "a.PDF",
        },
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "naïve"},
            "title": "n.txt",
        },
        {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": "UklG"}},
    ]


@pytest.mark.parametrize(
    ("message", "about"),
    [
        (user(AudioPart("AAAA", "wav")), "audio"),
        (user(FilePart(file_id="file-1")), "kept at another provider"),
        (user(FilePart(name="a.docx", data="AAAA", media_type="application/msword")), "application/msword"),
        (user(FilePart(name="a", data="AAAA")), "unknown"),
        (user(FilePart(media_type="text/plain", data="*")), "base64"),
        (user(FilePart(media_type="text/plain", data="/w==")), "UTF-8"),
        (user(ImagePart()), "neither"),
        (Message(role="assistant", parts=(ImagePart(url="u"),)), "assistant"),
        (Message(role="system", parts=(ImagePart(url="u"),)), "system"),
    ],
)
def test_content_without_a_counterpart_is_refused(message: Message, about: str) -> None:
    with pytest.raises(InvalidRequest, match=about) as caught:
        body_of(user("x"), message)
    assert caught.value.param == "messages"


def test_a_continuation_is_a_prefill_or_a_question() -> None:
    request = ChatRequest(messages=(user("count"),), max_tokens=100)
    prefill = continued(request, Continuation(text="1, 2 ", anchor="2 ", prefill=True, delivered_tokens=30))
    body = json.loads(written(prefill).body)
    assert body["messages"][-1] == {"role": "assistant", "content": "1, 2"}
    assert body["max_tokens"] == 70
    asked = continued(request, Continuation(text="1, 2 ", anchor="2 ", prefill=False, delivered_tokens=30))
    turns = json.loads(written(asked).body)["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"] == "1, 2 "
    assert turns[2]["content"].endswith("\n\n2 ")


# --- request: parameters -------------------------------------------------------------------------------------


def test_the_smallest_request() -> None:
    assert body_of() == {
        "model": MIDDLE,
        "max_tokens": 64_000,
        "messages": [{"role": "user", "content": "hi"}],
    }
    assert json.loads(written(ChatRequest(messages=(user("hi"),)), stream=True).body)["stream"] is True


@pytest.mark.parametrize(
    ("model", "asked", "window", "tokens", "expected"),
    [
        (MIDDLE, 5, 200_000, 0, 5),
        ("claude-3-opus-20240229", None, None, 0, 4_096),
        ("claude-3-5-haiku-latest", None, None, 0, 8_192),
        (NEW, None, 1_000_000, 700_000, 64_000),
        (MIDDLE, None, 200_000, 120_000, 50_000),
        (MIDDLE, None, 200_000, 199_000, 4_096),
        ("glm-5", None, None, 0, 8_192),
        ("glm-5", 300_000, None, 0, 300_000),
    ],
)
def test_max_tokens_is_always_there(
    model: str, asked: int | None, window: int | None, tokens: int, expected: int
) -> None:
    request = ChatRequest(messages=(user("hi"),), max_tokens=asked)
    made = written(request, model, window=window, input_tokens=tokens)
    assert (json.loads(made.body)["max_tokens"], made.dropped) == (expected, ())


def test_max_tokens_beyond_the_model_is_clamped_and_said() -> None:
    assert body_of(model="claude-3-5-haiku-latest", max_tokens=100_000)["max_tokens"] == 8_192
    assert dropped_of("claude-3-5-haiku-latest", max_tokens=100_000) == ("max_tokens>8192",)


def test_stop_sequences_without_a_visible_character_are_dropped() -> None:
    assert body_of(stop=("\n\n", "END", ""))["stop_sequences"] == ["END"]
    assert dropped_of(stop=("\n\n", "END")) == ("stop",)
    assert "stop_sequences" not in body_of(stop=("\n",))


@pytest.mark.parametrize(
    ("model", "given", "expected", "dropped"),
    [
        (OLD, {"temperature": 0.3, "top_p": 0.9, "top_k": 5}, {"temperature": 0.3, "top_p": 0.9, "top_k": 5}, ()),
        (OLD, {"temperature": 1.7}, {"temperature": 1.0}, ("temperature>1",)),
        (MIDDLE, {"temperature": 0.0, "top_p": 0.9}, {"temperature": 0.0}, ("top_p",)),
        (MIDDLE, {"temperature": 0.5, "top_p": 1.0}, {"temperature": 0.5}, ()),
        (MIDDLE, {"top_p": 0.9}, {"top_p": 0.9}, ()),
        (NEW, {"temperature": 0.5, "top_p": 0.9, "top_k": 5}, {}, ("temperature", "top_p", "top_k")),
        (NEW, {"temperature": 1.0, "top_p": 1}, {}, ()),
        (MIDDLE, {"temperature": 0.5, "reasoning_effort": "low"}, {}, ("temperature",)),
    ],
)
def test_sampling_is_what_the_model_takes(
    model: str, given: dict[str, Any], expected: dict[str, float], dropped: tuple[str, ...]
) -> None:
    body = body_of(model=model, **given)
    assert {name: body[name] for name in ("temperature", "top_p", "top_k") if name in body} == expected
    assert dropped_of(model, **given) == dropped


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "output", "dropped"),
    [
        (NEW, "minimal", {"type": "adaptive"}, {"effort": "low"}, ()),
        (NEW, "xhigh", {"type": "adaptive"}, {"effort": "xhigh"}, ()),
        (MIDDLE, "xhigh", {"type": "adaptive"}, {"effort": "high"}, ()),
        ("claude-opus-4-6", "xhigh", {"type": "adaptive"}, {"effort": "high"}, ()),
        ("claude-opus-4-6", "max", {"type": "adaptive"}, {"effort": "max"}, ()),
        (NEW, "none", {"type": "disabled"}, None, ()),
        (ALWAYS, "none", None, {"effort": "low"}, ("reasoning_effort=none",)),
        (ALWAYS, "high", None, {"effort": "high"}, ()),
        (OLD, "medium", {"type": "enabled", "budget_tokens": 8_192}, None, ()),
        (OLD, "none", None, None, ()),
        ("claude-opus-4-5", "high", {"type": "enabled", "budget_tokens": 16_384}, {"effort": "high"}, ()),
        ("claude-3-5-haiku-latest", "high", None, None, ("reasoning_effort",)),
        ("glm-5", "high", None, None, ("reasoning_effort",)),
        (NEW, "whatever", None, None, ("reasoning_effort",)),
    ],
)
def test_reasoning_effort_is_what_the_model_has(
    model: str, effort: str, thinking: Any, output: Any, dropped: tuple[str, ...]
) -> None:
    body = body_of(model=model, reasoning_effort=effort)
    assert (body.get("thinking"), body.get("output_config")) == (thinking, output)
    assert dropped_of(model, reasoning_effort=effort) == dropped


def test_a_thinking_budget_leaves_half_and_stays_away_where_the_api_refuses_it() -> None:
    def thinking(*messages: Message, **fields: Any) -> Any:
        return body_of(*messages, model=OLD, reasoning_effort="high", **fields).get("thinking")

    tools = (Tool(name="f"),)
    loop = (user("x"), assistant("", ToolCall("t", "f", "")), result("t", "r"))
    assert thinking(max_tokens=4_000) == {"type": "enabled", "budget_tokens": 2_000}
    assert thinking(max_tokens=2_000) is None
    assert dropped_of(OLD, reasoning_effort="high", max_tokens=2_000) == ("reasoning_effort",)
    assert thinking(tools=tools, tool_choice=ToolChoice("auto")) is not None
    assert thinking(tools=tools, tool_choice=ToolChoice("required")) is None
    assert thinking(*loop, tools=tools) is None
    assert thinking(user("x"), assistant("so")) is None
    assert body_of(user("x"), assistant("so"), model=NEW, reasoning_effort="high").get("thinking") is None
    assert body_of(*loop, model=NEW, reasoning_effort="high", tools=tools)["thinking"] == {"type": "adaptive"}


def test_what_has_no_counterpart_is_named() -> None:
    fields: dict[str, Any] = {
        "seed": 1, "logprobs": True, "top_logprobs": 2, "frequency_penalty": 0.1, "presence_penalty": -1.0,
        "user": "a@example.com", "others": ("store", "seed"),
    }  # fmt: skip
    assert dropped_of(**fields) == (
        "user", "seed", "logprobs", "top_logprobs", "frequency_penalty", "presence_penalty", "store"
    )  # fmt: skip
    assert dropped_of(frequency_penalty=0.0, presence_penalty=0.0) == ()
    named = ChatRequest(messages=(Message(role="user", parts=(TextPart("x"),), name="bob"),))
    assert written(named).dropped == ("messages.name",)


def test_several_answers_are_refused_by_name() -> None:
    with pytest.raises(InvalidRequest) as caught:
        body_of(n=2)
    assert caught.value.param == "n"


@pytest.mark.parametrize(
    ("name", "is_sent"), [("u-1", True), ("a@b.c", False), ("+49 170 1234567", False), ("x" * 257, False)]
)
def test_a_user_is_sent_unless_the_api_would_refuse_it(name: str, is_sent: bool) -> None:
    assert body_of(user=name).get("metadata") == ({"user_id": name} if is_sent else None)
    assert dropped_of(user=name) == (() if is_sent else ("user",))


def test_parameters_of_the_target_come_last() -> None:
    request = ChatRequest(messages=(user("hi"),), temperature=0.5, stop=("END",))
    made = written(
        request, set_params=[("top_k", b"3"), ("stop_sequences", b'["X"]')], drop_params=["temperature", "nope"]
    )
    body = json.loads(made.body)
    assert (body["top_k"], body["stop_sequences"], "temperature" in body) == (3, ["X"], False)


def test_traits_are_found_under_the_names_of_other_clouds() -> None:
    assert traits_of("us.anthropic.claude-sonnet-4-5-20250929-v1:0") is traits_of("claude-sonnet-4-5")
    assert traits_of("anthropic/claude-opus-4.1") is traits_of("claude-opus-4-1-20250805")
    assert traits_of("claude-opus-4-20250514").max_output == 32_000
    assert traits_of("claude-opus-9") == traits_of("claude-opus-5")
    assert traits_of("kimi-k3") is UNKNOWN


# --- request: tools and formats ------------------------------------------------------------------------------


def test_tools_have_an_object_schema() -> None:
    tools = (
        Tool(name="a", description="A", parameters=json.dumps(FORMAL).encode()),
        Tool(name="b"),
        Tool(name="c", parameters=b'{"properties": {}}', description=""),
        Tool(name="d", parameters=b"null"),
    )
    assert body_of(tools=tools)["tools"] == [
        {"name": "a", "description": "A", "input_schema": FORMAL},
        {"name": "b", "input_schema": {"type": "object"}},
        {"name": "c", "description": "", "input_schema": {"type": "object", "properties": {}}},
        {"name": "d", "input_schema": {"type": "object"}},
    ]


@pytest.mark.parametrize("schema", [b"[]", b"{", b"true"])
def test_a_schema_that_is_none_is_refused(schema: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        body_of(tools=(Tool(name="a", parameters=schema),))
    assert caught.value.param == "tools"
    with pytest.raises(InvalidRequest) as caught:
        body_of(output=OutputFormat(kind="json_schema", schema=schema))
    assert caught.value.param == "response_format"


@pytest.mark.parametrize(
    ("model", "choice", "parallel", "expected", "dropped"),
    [
        (NEW, None, None, None, ()),
        (NEW, None, True, None, ()),
        (NEW, None, False, {"type": "auto", "disable_parallel_tool_use": True}, ()),
        (NEW, ToolChoice("auto"), None, {"type": "auto"}, ()),
        (NEW, ToolChoice("none"), False, {"type": "none"}, ()),
        (NEW, ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}, ()),
        (NEW, ToolChoice("named", "f"), None, {"type": "tool", "name": "f"}, ()),
        (ALWAYS, ToolChoice("named", "f"), None, {"type": "auto"}, ("tool_choice",)),
        (ALWAYS, ToolChoice("required"), False, {"type": "auto", "disable_parallel_tool_use": True}, ("tool_choice",)),
    ],
)
def test_tool_choice(
    model: str, choice: ToolChoice | None, parallel: bool | None, expected: Any, dropped: tuple[str, ...]
) -> None:
    fields: dict[str, Any] = {"tools": (Tool(name="f"),), "tool_choice": choice, "parallel_tool_calls": parallel}
    assert body_of(model=model, **fields).get("tool_choice") == expected
    assert dropped_of(model, **fields) == dropped
    assert "tool_choice" not in body_of(model=model, tool_choice=choice)  # the API refuses it without tools


def strict(name: str, schema: Any) -> Tool:
    return Tool(name=name, parameters=json.dumps(schema).encode(), strict=True)


def test_strict_tools_are_strict_where_the_api_allows_it() -> None:
    recursive = {"$ref": "#/$defs/N", "$defs": {"N": {"type": "object", "properties": {"n": {"$ref": "#/$defs/N"}}}}}
    both = (strict("a", FORMAL), strict("b", recursive), Tool(name="c", parameters=b"{}", strict=False))
    made = body_of(tools=both)["tools"]
    assert [tool.get("strict") for tool in made] == [True, None, None]
    assert made[1]["input_schema"] == {"type": "object", **recursive}
    assert dropped_of(tools=both) == ("tools.strict",)
    assert dropped_of(tools=(strict("a", FORMAL),)) == ()
    assert dropped_of(OLD, tools=(strict("a", FORMAL),)) == ("tools.strict",)
    many = tuple(strict(f"f{i}", FORMAL) for i in range(21))
    assert dropped_of(tools=many) == ("tools.strict",)
    assert dropped_of(tools=many[:20]) == ()


def test_json_object_is_asked_for_in_words() -> None:
    body = body_of(system("Be brief."), user("x"), output=OutputFormat(kind="json_object"))
    assert body["system"][0]["text"] == "Be brief."
    assert "one valid JSON object" in body["system"][1]["text"]
    assert "one valid JSON object" in body_of(output=OutputFormat(kind="json_object"))["system"]


def test_json_schema_goes_to_the_output_config_beside_the_effort() -> None:
    output = OutputFormat(kind="json_schema", schema=json.dumps(FORMAL).encode())
    body = body_of(model=NEW, output=output, reasoning_effort="low")
    assert body["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": FORMAL}}
    assert dropped_of(NEW, output=output) == ()


@pytest.mark.parametrize(
    ("model", "schema"), [(OLD, FORMAL), ("glm-5", FORMAL), (NEW, {"type": "object"}), (NEW, {"not": FORMAL})]
)
def test_json_schema_is_asked_for_in_words_where_it_cannot_be_set(model: str, schema: Any) -> None:
    output = OutputFormat(kind="json_schema", schema=json.dumps(schema).encode(), description="A thing.")
    body = body_of(model=model, output=output)
    assert "output_config" not in body
    assert json.dumps(schema) in body["system"]
    assert body["system"].endswith("A thing.")
    assert dropped_of(model, output=output) == ("response_format",)


def test_schemas_are_closed_and_their_bounds_said_in_words() -> None:
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 1, "maximum": 5, "description": "How many"},
            "s": {"type": "string", "pattern": "^a", "format": "email"},
            "u": {"type": "string", "format": "iri"},
            "l": {"type": "array", "items": {"$ref": "#/$defs/P"}, "minItems": 1, "maxItems": 3},
            "o": {"oneOf": [{"type": "null"}, {"enum": ["a", "b"]}]},
        },
        "$defs": {"P": {"properties": {"x": {"const": "y"}}, "additionalProperties": True}},
    }
    before = json.dumps(schema)
    assert closed_schema(schema) == {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "description": "How many (minimum: 1, maximum: 5)"},
            "s": {"type": "string", "format": "email", "description": "(pattern: ^a)"},
            "u": {"type": "string", "description": "(format: iri)"},
            "l": {
                "type": "array", "items": {"$ref": "#/$defs/P"}, "minItems": 1, "description": "(maxItems: 3)"
            },
            "o": {"anyOf": [{"type": "null"}, {"enum": ["a", "b"], "type": "string"}]},
        },
        "$defs": {
            "P": {
                "type": "object",
                "properties": {"x": {"const": "y", "type": "string"}},
                "additionalProperties": False,
            }
        },
        "additionalProperties": False,
    }  # fmt: skip
    assert json.dumps(schema) == before


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "properties": {"a": True}},
        {"type": "object", "properties": []},
        {"anyOf": {}},
        {"type": "object", "properties": {"a": {"$ref": "https://example.com/s.json"}}},
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
        {"enum": [1, "a"]},
        {"type": "array", "prefixItems": [{"type": "string"}]},
    ],
)
def test_schemas_without_a_grammar(schema: Any) -> None:
    assert closed_schema(schema) is None


def test_limits_over_all_schemas_of_a_request() -> None:
    optional = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(24)}}
    choices = {f"p{i}": {"type": ["string", "null"]} for i in range(16)}
    unions = {"type": "object", "properties": choices, "required": list(choices)}
    more = {"type": "object", "properties": {"q": {"anyOf": [{"type": "string"}]}}}
    assert fits_limits([optional]) and fits_limits([unions])
    assert not fits_limits([optional, more])
    assert not fits_limits([unions, more])


# --- requests recorded ---------------------------------------------------------------------------------------

NOT_CANONICAL = {
    "server-tool-01": "hosted tool web_fetch_20250910",
    "server-tool-stream-01": "hosted tool web_fetch_20250910",
    "image-in-stream-02": "hosted tool computer_20250124",
    "image-in-stream-03": "hosted tool computer_20251124",
    "file-in-stream-02": "block document of file",
    "error-400-invalid-request-01": "a message that is no object",
}
"""Recorded requests with something that an OpenAI caller cannot say."""
MENDED = {"error-400-invalid-request-02": "tools", "error-400-invalid-request-04": "tools"}
"""Recorded requests that the API refused, and the part that the writer makes acceptable."""


def short(name: str) -> str:
    return name.split("messages-", 1)[1].removesuffix(".json")


ASKED = [name for name in ALL if load(name)["request"]["body"] is not None]


def test_recordings_without_a_request_are_those_that_were_written_by_hand() -> None:
    assert {load(name)["fidelity"] for name in set(ALL) - set(ASKED)} <= {"hand-written"}


@needs_recordings
@pytest.mark.parametrize("name", [n for n in ASKED if short(n) not in NOT_CANONICAL])
def test_recorded_requests_are_rebuilt_up_to_the_documented_losses(name: str) -> None:
    body = load(name)["request"]["body"]
    request = canonical(body)
    made = written(request, body.get("model", "claude-sonnet-4-5"), stream=bool(body.get("stream")))
    rebuilt, recorded = without_losses(json.loads(made.body)), without_losses(body)
    if (part := MENDED.get(short(name))) is not None:
        assert rebuilt.pop(part) != recorded.pop(part)
    else:
        assert made.dropped == ()
    assert rebuilt == recorded


@needs_recordings
@pytest.mark.parametrize("name", [n for n in ASKED if short(n) in NOT_CANONICAL])
def test_recorded_requests_without_a_canonical_form(name: str) -> None:
    with pytest.raises(NotCanonical, match=NOT_CANONICAL[short(name)]):
        canonical(load(name)["request"]["body"])


# --- answers -------------------------------------------------------------------------------------------------


def answered(**fields: Any) -> Completion:
    body = {"id": "msg_1", "type": "message", "model": "m", "content": [], "stop_reason": "end_turn", **fields}
    found = read_completion(json.dumps(body).encode(), failed)
    assert isinstance(found, Completion)
    return found


@needs_recordings
@pytest.mark.parametrize("name", BODIES)
def test_recorded_answers(name: str) -> None:
    recording = load(name)
    expected = Answer.of_body(recording["response"]["body"])
    found = read_completion(recording["response"]["body"].encode(), failed)
    assert isinstance(found, Completion)
    (choice,) = found.choices
    assert (found.id, found.model, choice.text, choice.reasoning) == (
        expected.id,
        expected.model,
        expected.text,
        expected.reasoning,
    )
    assert [(call.id, call.name, json.loads(call.arguments)) for call in choice.tool_calls] == expected.calls
    assert all(
        call.arguments
        == json.dumps(json.loads(call.arguments), separators=(",", ":"), ensure_ascii="\\u" in call.arguments)
        for call in choice.tool_calls
    )
    assert (choice.raw_finish, choice.finish) == (expected.stop_reason, FINISHES[str(expected.stop_reason)])
    assert [choice.raw_finish] == recording["finish_reasons"]
    assert choice.stopped_by_sequence == (expected.stop_reason == "stop_sequence")
    assert choice.has_other_content == expected.has_other
    usage = found.usage
    assert usage is not None
    assert (usage.prompt, usage.completion, usage.cached, usage.cache_write, usage.reasoning) == expected.tokens


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("end_turn", Finish.STOP),
        ("stop_sequence", Finish.STOP),
        ("pause_turn", Finish.STOP),
        ("max_tokens", Finish.LENGTH),
        ("model_context_window_exceeded", Finish.LENGTH),
        ("tool_use", Finish.TOOL_CALLS),
        ("refusal", Finish.CONTENT_FILTER),
        (None, None),
    ],
)
def test_finish_words(word: str | None, finish: Finish | None) -> None:
    (choice,) = answered(stop_reason=word).choices
    assert (choice.finish, choice.raw_finish, choice.failure) == (finish, word, None)
    assert choice.stopped_by_sequence is (word == "stop_sequence")
    body = stream_of(STARTED, {"type": "message_delta", "delta": {"stop_reason": word}}, ENDED)
    made, events = fed(body)
    assert (events[1].finish, events[1].raw_finish, events[1].failure) == (finish, word, None)
    assert made.is_complete is (word is not None)


def test_an_unknown_finish_word_is_a_stop_with_content_and_a_failure_without() -> None:
    (choice,) = answered(stop_reason="new_word", content=[{"type": "text", "text": "x"}]).choices
    assert (choice.finish, choice.raw_finish, choice.failure) == (Finish.STOP, "new_word", None)
    (choice,) = answered(stop_reason="new_word", content=[{"type": "thinking", "thinking": "x"}]).choices
    assert choice.finish is None and choice.failure is not None
    assert choice.failure.reason is FailureReason.EMPTY_OUTPUT
    last = {"type": "message_delta", "delta": {"stop_reason": "new_word"}}
    _, events = fed(stream_of(STARTED, *text_events("x"), last, ENDED))
    assert (events[-2].finish, events[-2].raw_finish, events[-2].failure) == (Finish.STOP, "new_word", None)
    _, events = fed(stream_of(STARTED, last, ENDED))
    assert events[1].failure is not None and events[1].failure.reason is FailureReason.EMPTY_OUTPUT


def test_blocks_of_an_answer() -> None:
    (choice,) = answered(
        content=[
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "AAAA"},
            {"type": "text", "text": "a", "citations": None},
            {"type": "text", "text": "b"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": [1, 2], "é": "ü"}},
            {"type": "tool_use", "id": "t2", "name": "g"},
        ]
    ).choices
    assert (choice.text, choice.reasoning, choice.has_other_content) == ("ab", "hm", False)
    assert choice.tool_calls == (ToolCall("t1", "f", '{"x":[1,2],"\\u00e9":"\\u00fc"}'), ToolCall("t2", "g", "{}"))


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text", "text": "a", "citations": [{"type": "page_location"}]},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "content": []},
        {"type": "block_of_next_year"},
    ],
)
def test_content_of_other_kinds_is_noticed(block: dict[str, Any]) -> None:
    assert answered(content=[block]).choices[0].has_other_content


def test_usage_counts_cached_tokens_into_the_prompt() -> None:
    usage = {
        "input_tokens": 3, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100, "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 4},
    }  # fmt: skip
    assert answered(usage=usage).usage == Usage(prompt=123, completion=7, cached=100, cache_write=20, reasoning=4)
    assert answered(usage={"input_tokens": 1, "output_tokens_details": None}).usage == Usage(prompt=1)
    assert answered().usage is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', FailureReason.OVERLOADED),
        (b'{"error":{"type":"overloaded_error"},"content":[]}', FailureReason.OVERLOADED),
        (b'{"error":{"type":"overloaded_error"},"content":7}', FailureReason.OVERLOADED),
        (b"", FailureReason.MALFORMED_OUTPUT),
        (b"<html>", FailureReason.MALFORMED_OUTPUT),
        (b"[]", FailureReason.MALFORMED_OUTPUT),
        (b"{}", FailureReason.MALFORMED_OUTPUT),
        (b'{"content":null,"error":null}', FailureReason.MALFORMED_OUTPUT),
        (b'{"content":"text"}', FailureReason.MALFORMED_OUTPUT),
        (b'{"content":[{"text":"no type"}]}', FailureReason.MALFORMED_OUTPUT),
        (b'{"content":[{"type":"text","text":"\xff"}]}', FailureReason.MALFORMED_OUTPUT),
        (b'{"content":[' + b"[" * 5000, FailureReason.MALFORMED_OUTPUT),
    ],
)
def test_a_body_that_is_no_answer_is_a_failure(body: bytes, reason: FailureReason) -> None:
    found = read_completion(body, failed)
    assert isinstance(found, Failure)
    assert found.reason is reason


# --- streams -------------------------------------------------------------------------------------------------

STARTED = {"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 5}}}
ENDED = {"type": "message_stop"}


def stopped(word: str = "end_turn", **usage: int) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": word, "stop_sequence": None}, "usage": usage}


def started(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def closed(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def text_events(*pieces: str) -> list[dict[str, Any]]:
    return [started(0, type="text", text=""), *(delta(0, "text_delta", text=piece) for piece in pieces), closed(0)]


def stream_of(*events: dict[str, Any], end: bytes = b"\n") -> bytes:
    blocks = [
        b"event: " + event["type"].encode() + end + b"data: " + json.dumps(event).encode() + b"   " + end + end
        for event in events
    ]
    return b"".join(blocks)


@needs_recordings
@pytest.mark.parametrize("name", STREAMS)
def test_recorded_streams_mean_the_same_however_they_are_cut(name: str) -> None:
    recording = load(name)
    body = recording["response"]["body"].encode()
    expected = Answer.of_stream(recording["response"]["body"])
    made, events = fed(body)
    assert made.is_complete and made.undecodable == 0
    whole = meaning(events)
    head, text, reasoning, calls, usage, finish, raw_finish, _, other, ends = whole
    assert (head, text, reasoning) == ((expected.id, expected.model), expected.text, expected.reasoning)
    assert [(i, known[0], known[1], parsed(known[2])) for i, known in calls] == [
        (i, *call) for i, call in enumerate(expected.calls)
    ]
    assert (raw_finish, finish) == (expected.stop_reason, FINISHES[str(expected.stop_reason)])
    assert [raw_finish] == recording["finish_reasons"]
    assert (usage.prompt, usage.completion, usage.cached, usage.cache_write, usage.reasoning) == expected.tokens
    assert (bool(other), ends) == (expected.has_other, 1)
    assert b"".join(event.raw for event in events).strip() == body.strip()

    made, pieces = fed(body, [1] * len(body))
    assert made.is_complete and meaning(pieces) == whole


@needs_recordings
@pytest.mark.parametrize("name", STREAMS)
def test_recorded_streams_cut_off_are_never_complete(name: str) -> None:
    body = load(name)["response"]["body"].encode()
    end = body.rfind(b"event: message_stop")
    for at in [0, *range(max(0, end - 300), end + 19, 7)]:
        assert not fed(body[:at])[0].is_complete, at


RICH = stream_of(
    STARTED,
    started(0, type="thinking", thinking="", signature=""),
    delta(0, "thinking_delta", thinking="hm…"),
    delta(0, "signature_delta", signature="abc"),
    closed(0),
    {"type": "ping"},
    *[{**event, "index": 1} if "index" in event else event for event in text_events("Hellö", " 🌊 \n\n", "x")],
    started(2, type="tool_use", id="t1", name="f", input={}),
    delta(2, "input_json_delta", partial_json=""),
    delta(2, "input_json_delta", partial_json='{"a": '),
    delta(2, "input_json_delta", partial_json='"\\n\\n"}'),
    closed(2),
    started(3, type="tool_use", id="t2", name="g", input={}),
    delta(3, "input_json_delta", partial_json=""),
    closed(3),
    {"type": "event_of_next_year", "delta": {"type": "x"}},
    stopped("tool_use", output_tokens=9),
    ENDED,
)


def test_a_stream_with_everything() -> None:
    made, events = fed(RICH)
    assert made.is_complete
    head, text, reasoning, calls, usage, finish, raw, opened, other, ends = meaning(events)
    assert (head, text, reasoning) == (("msg_1", "m"), "Hellö 🌊 \n\nx", "hm…")
    assert calls == [(0, ["t1", "f", '{"a": "\\n\\n"}']), (1, ["t2", "g", "{}"])]
    assert usage == Usage(prompt=5, completion=9)
    assert (finish, raw, opened, other, ends) == (Finish.TOOL_CALLS, "tool_use", 3, 0, 1)
    assert b"".join(event.raw for event in events) == RICH
    assert [event.in_block for event in events] == (
        [False] + [True] * 3 + [False] * 7 + [True] * 4 + [False] + [True] * 2 + [False] * 4
    )  # fmt: skip
    with_content = [json.loads(e.raw.split(b"data: ")[1])["type"] for e in events if not e.has_content]
    assert with_content == [
        "message_start",
        "content_block_delta",  # the signature
        "content_block_stop",
        "ping",
        "content_block_start",  # of text
        "content_block_stop",
        "content_block_delta",  # of no arguments
        "content_block_stop",
        "content_block_delta",
        "event_of_next_year",
        "message_delta",
        "message_stop",
    ]


CRLF = RICH.replace(b"\n", b"\r\n")


@given(st.lists(st.integers(1, 400), max_size=12), st.sampled_from([RICH, CRLF, b": hi\n\n" + RICH]))
def test_any_split_means_the_same(sizes: list[int], body: bytes) -> None:
    made, events = fed(body, sizes)
    assert made.is_complete and made.undecodable == 0
    assert meaning(events) == meaning(fed(RICH)[1])
    assert b"".join(event.raw for event in events).endswith(body[-400:])


def test_every_split_of_a_stream_with_crlf() -> None:
    whole = meaning(fed(RICH)[1])
    for at in range(len(CRLF)):
        assert meaning(fed(CRLF, [at])[1]) == whole, at


def test_a_last_event_without_its_blank_line_counts() -> None:
    made, events = fed(RICH.rstrip(b"\n"))
    assert made.is_complete and meaning(events) == meaning(fed(RICH)[1])
    assert events[-1].raw.endswith(b"\n\n")


def test_an_open_tool_is_announced_before_its_arguments() -> None:
    made = reader()
    (event,) = made.feed(stream_of(started(4, type="tool_use", id="t", name="f", input={})))
    assert (event.is_open, event.in_block, event.tools[0].index, event.tools[0].id) == (True, True, 0, "t")
    assert event.tools[0].arguments == ""
    (event,) = made.feed(stream_of(delta(4, "input_json_delta", partial_json="")))
    assert (event.tools, event.in_block, event.has_content) == ((), True, False)
    (event,) = made.feed(stream_of(closed(4)))
    assert (event.tools[0].arguments, event.in_block) == ("{}", False)


def test_arguments_that_come_with_the_start_are_kept() -> None:
    _, events = fed(stream_of(started(0, type="tool_use", id="t", name="f", input={"a": 1}), closed(0)))
    assert events[-1].tools[0].arguments == '{"a":1}'


def test_hosted_tools_are_content_and_may_be_silent() -> None:
    _, events = fed(
        stream_of(
            started(0, type="server_tool_use", id="s", name="web_search", input={}),
            delta(0, "input_json_delta", partial_json='{"q":1}'),
            closed(0),
            {"type": "ping"},
            started(1, type="web_search_tool_result", content=[]),
            closed(1),
            *[{**event, "index": 2} for event in text_events("x")],
            delta(2, "citations_delta", citation={}),
        )
    )
    assert [event.has_other_content for event in events] == [1, 1, 0, 0, 1, 0, 0, 0, 0, 1]
    assert [event.in_block for event in events] == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert not any(event.tools or event.is_open for event in events)


def test_redacted_thinking_is_an_open_block() -> None:
    _, events = fed(stream_of(started(0, type="redacted_thinking", data="AAAA"), closed(0)))
    assert [(event.is_open, event.in_block) for event in events] == [(True, True), (False, False)]


def test_usage_is_merged_from_the_start_and_the_end() -> None:
    start = {"input_tokens": 5, "cache_read_input_tokens": 10, "output_tokens": 1}
    _, events = fed(
        stream_of(
            {"type": "message_start", "message": {"usage": start}}, stopped(output_tokens=7, input_tokens=6), ENDED
        )
    )
    assert [event.usage for event in events] == [
        Usage(prompt=15, completion=1, cached=10),
        Usage(prompt=16, completion=7, cached=10),
        None,
    ]


@pytest.mark.parametrize("before", [[], [STARTED, *text_events("x")]])
def test_an_error_event_is_a_failure_wherever_it_comes(before: list[dict[str, Any]]) -> None:
    error = {"type": "error", "error": {"details": None, "type": "overloaded_error", "message": "Overloaded"}}
    made, events = fed(stream_of(*before, error))
    assert events[-1].failure is not None
    assert events[-1].failure.detail == "overloaded_error"
    assert not made.is_complete
    assert made.feed(stream_of(stopped(), ENDED)) == () and not made.is_complete


def test_an_error_of_another_shape_is_a_failure_too() -> None:
    error = b'{"error": {"type": "api_error"}}'
    for body in (b"data: " + error + b"\n\n", error, b"event: error\ndata: " + error[:-1] + b', "index": "x"}\n\n'):
        made, events = fed(body)
        assert [event.failure.detail for event in events if event.failure] == ["api_error"]
        assert not made.is_complete


def test_a_stream_is_complete_only_with_a_stop_reason_and_the_end() -> None:
    assert not fed(stream_of(STARTED, *text_events("x"), ENDED))[0].is_complete
    assert not fed(stream_of(STARTED, *text_events("x"), stopped()))[0].is_complete
    assert fed(stream_of(STARTED, *text_events("x"), stopped(), ENDED))[0].is_complete
    assert fed(stream_of(STARTED, *text_events("x"), stopped(), {"type": "message_delta", "usage": {}}, ENDED))[
        0
    ].is_complete


def test_undecodable_events_are_counted_and_passed_over() -> None:
    bad = b'event: content_block_delta\ndata: {"type": "content_block\n\ndata: {"type": 7}\n\ndata: \xff\n\n'
    made, events = fed(stream_of(STARTED) + bad + stream_of(*text_events("x"), stopped(), ENDED) + b"data: [DONE]\n\n")
    assert (made.undecodable, made.is_complete) == (3, True)
    assert meaning(events)[1] == "x"
    made, _ = fed(stream_of(STARTED, delta(0, "input_json_delta", partial_json="{}"), closed(0), stopped(), ENDED))
    assert made.undecodable == 1  # a piece of a call that never began


def test_data_in_several_lines_and_fields_of_no_interest() -> None:
    body = b'id: 7\nevent: ping\ndata:{"type":\ndata: "message_stop"}\nretry: 3\n\n: comment\n\nevent: ping\n\n\n\n'
    _, events = fed(body)
    assert [event.is_end for event in events] == [True]


def test_an_event_without_end_is_malformed() -> None:
    made = reader()
    assert made.feed(b"data: " + b"x" * (MAX_EVENT // 2)) == []
    events = [*made.feed(b"x" * (MAX_EVENT // 2)), *made.feed(b"x"), *made.feed(RICH), *made.close()]
    assert [event.failure.reason for event in events if event.failure] == [FailureReason.MALFORMED_OUTPUT]
    assert len(events) == 1 and not made.is_complete
    (event,) = reader().feed(b"x" * (MAX_EVENT + 1))
    assert event.failure is not None
    assert "open" in repr(reader()) and "broken" in repr(made)


# --- the short way -------------------------------------------------------------------------------------------


def text_event(text: str, pad: str = "", index: int = 0, after: str = "") -> bytes:
    said = json.dumps({"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}},
                      separators=(",", ":"))  # fmt: skip
    return f"event: content_block_delta\ndata: {said[:-1]}{pad}}}{after}\n\n".encode()


SAID = [
    text_event(" "),
    text_event("one"),
    text_event("two", "    "),
    text_event("three", " ", after="  "),
    text_event('}}  "text":"x"'),
    text_event("\n\n\u00e9\U0001f600\\", "             "),
    text_event("another block", index=1),
    text_event("old").replace(b'"index":0,', b"").replace(b"}}", b'},"index":0}'),
]
ELSE = [
    text_event(""),
    text_event("x").replace(b"text_delta", b"thinking_delta").replace(b'"text":', b'"thinking":'),
    text_event("x").replace(b'"text_delta"', b'"input_json_delta"').replace(b'"text":', b'"partial_json":'),
    text_event("x").replace(b'"text":', b'"more":1,"text":'),
    text_event("x").replace(b'"index":0', b'"index":0,"usage":{"output_tokens":1}'),
    text_event("x").replace(b'"index":0', b'"index":"0"'),
    text_event("x").replace(b"event: content_block_delta\n", b""),
    text_event("x").replace(b"\n", b"\r\n"),
    text_event("x")[:-2] + b"\ndata: \n\n",
    text_event("x")[:-1],
    text_event("x") + text_event("y"),
    text_event("x").replace(b'"x"', b'"\xff"'),
    text_event("x").replace(b'"x"', b'"\n"'),
    b'event: ping\ndata: {"type": "ping"}\n\n',
    b": comment\n\n",
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n',
    b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n',
]
OPENED = (
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":'
    b'{"type":"%s","text":"","thinking":""}}\n\n'
)


def read_in(reads: list[bytes], *, is_short: bool) -> tuple[Any, ...]:
    on = reader()
    found: list[StreamEvent] = []
    for data in reads:
        if is_short and (more := on.more_text(data)) is not None:
            found.append(StreamEvent(raw=more[0], text=more[1]))
        else:
            found.extend(on.feed(data))
    found.extend(on.close())
    return found, on.is_complete, on.undecodable, repr(on)


@given(
    st.lists(st.sampled_from([*SAID, *SAID, *ELSE, OPENED % b"text", OPENED % b"thinking"]), max_size=12),
    st.lists(st.integers(0, 3000), max_size=3),
)
def test_the_short_way_reads_the_same(pieces: list[bytes], cuts: list[int]) -> None:
    body, ends = b"".join(pieces), list(itertools.accumulate(map(len, pieces)))
    at = sorted({0, len(body), *ends, *(cut for cut in cuts if cut < len(body))})
    reads = [body[a:b] for a, b in itertools.pairwise(at)]
    assert read_in(reads, is_short=True) == read_in(reads, is_short=False)


@pytest.mark.parametrize("said", SAID)
def test_more_text_is_read_by_the_short_way(said: bytes) -> None:
    on = reader()
    assert on.more_text(said) is None, "nothing has come yet"
    on.feed(OPENED % b"text")
    assert on.more_text(said) is None, "no text has come yet"
    on.feed(text_event("first"))
    (event,) = reader().feed(said)
    assert on.more_text(said) == (event.raw, event.text)


@pytest.mark.parametrize("other", ELSE)
def test_all_else_takes_the_long_way(other: bytes) -> None:
    on = reader()
    on.feed(text_event("first"))
    assert on.more_text(other) is None
    on.feed(b"event: content_block_delta\n")
    assert on.more_text(SAID[1]) is None, "part of an event is waiting"


def test_thinking_has_no_short_way() -> None:
    on = reader()
    on.feed(OPENED % b"thinking" + text_event("first"))
    assert on.more_text(SAID[1]) is None


# --- conversations of other providers --------------------------------------------------------------------------


def called(*ids: str) -> list[Message]:
    calls = tuple(ToolCall(one, "f", "{}") for one in ids)
    return [Message(role="assistant", tool_calls=calls), *[Message(role="tool", call_id=one) for one in ids]]


def test_ids_that_differ_in_refused_signs_only_stay_two() -> None:
    request = ChatRequest(messages=(Message(role="user", parts=(TextPart("x"),)), *called("a.b", "a_b", "a:b", "c.d")))
    made = [json.loads(write_request(request, model="claude-sonnet-5-5", stream=False).body) for _ in "12"]
    assert made[0] == made[1]
    calls, results = [turn["content"] for turn in made[0]["messages"][1:]]
    ids = [block["id"] for block in calls]
    assert ids == [block["tool_use_id"] for block in results]
    assert (ids[1], ids[3], len(set(ids))) == ("a_b", "c_d", 4)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", one) for one in ids)


@pytest.mark.parametrize("behind", [Message(role="system", parts=(TextPart("s"),)), Message(role="user")])
def test_a_prefill_is_one_whatever_says_nothing_behind_it(behind: Message) -> None:
    """No model thinks before it goes on from its own words: asked to, it refuses."""
    said = (Message(role="user", parts=(TextPart("x"),)), Message(role="assistant", parts=(TextPart("So"),)), behind)
    request = ChatRequest(messages=said, reasoning_effort="high", max_tokens=20_000)
    for model in ("claude-sonnet-4-5", "claude-sonnet-4-6"):
        assert "thinking" not in json.loads(write_request(request, model=model, stream=False).body)


def test_a_word_of_the_user_behind_a_result_does_not_end_the_tool_loop() -> None:
    """The turn begins with the result, and the API asks for the thinking before the call, which is not there."""
    hello = Message(role="user", parts=(TextPart("x"),))
    request = ChatRequest(messages=(hello, *called("c"), hello), reasoning_effort="high", max_tokens=20_000)
    assert "thinking" not in json.loads(write_request(request, model="claude-sonnet-4-5", stream=False).body)


@pytest.mark.parametrize(
    ("choice", "dropped"),
    [("auto", ()), ("none", ()), ("required", ("tool_choice",)), ("named", ("tool_choice",))],
)
def test_a_forced_call_without_tools_is_put_on_record(choice: Any, dropped: tuple[str, ...]) -> None:
    hello = Message(role="user", parts=(TextPart("x"),))
    request = ChatRequest(messages=(hello,), tool_choice=ToolChoice(choice, "f" if choice == "named" else None))
    written = write_request(request, model="claude-sonnet-5-5", stream=False)
    assert written.dropped == dropped and "tool_choice" not in json.loads(written.body)
