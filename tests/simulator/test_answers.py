"""What a healthy simulator answers: the same on every provider, and whatever the request asks for."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest

from crossfade.core.exchange import CONTINUE_INSTRUCTION
from crossfade.simulator.answers import cut, instance_of
from crossfade.testing import ProviderSimulator, healthy_text
from tests.simulator.raw import DIALECTS, PROMPT, Wire, ask, finishes_of, path_of, request_body, request_bytes, text_of

TEXT = healthy_text(PROMPT)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 6},
        "days": {"type": "integer", "minimum": 3},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "spots": {"type": "array", "items": {"$ref": "#/$defs/spot"}, "minItems": 2},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "extra": {"type": "string"},
    },
    "required": ["city", "days", "unit", "spots", "note"],
    "additionalProperties": False,
    "$defs": {"spot": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}},
}
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["buffered", "streamed"])
EVERY = pytest.mark.parametrize("dialect", DIALECTS)


@pytest.fixture(scope="module")
def simulator() -> object:
    with ProviderSimulator() as running:
        yield running


@EVERY
@BOTH
def test_the_text_is_the_same_everywhere(simulator: ProviderSimulator, dialect: str, stream: bool) -> None:
    assert text_of(dialect, stream, ask(simulator, dialect, stream)) == TEXT
    assert text_of(dialect, stream, ask(simulator, dialect, stream, provider="other")) == TEXT


def test_the_text_depends_on_the_prompt_and_has_the_words_asked_for() -> None:
    assert TEXT.startswith("Echo: Tell me about otters. ")
    assert healthy_text("Tell me about lions") != TEXT
    assert [len(healthy_text("Tell me", words).split()) for words in (1, 7, 60, 500)] == [1, 7, 60, 500]
    assert healthy_text("Tell me [[think]]") == healthy_text("Tell me")


@pytest.mark.parametrize("pieces", ["words", "chars", 1, 3, 1000])
def test_pieces_are_the_whole_text(pieces: Any) -> None:
    assert "".join(cut(TEXT, pieces)) == TEXT
    assert all(cut(TEXT, pieces))


@EVERY
@BOTH
def test_limits_and_stop_sequences_end_the_text(simulator: ProviderSimulator, dialect: str, stream: bool) -> None:
    limit: dict[str, dict[str, Any]] = {
        "openai": {"max_completion_tokens": 5},
        "anthropic": {"max_tokens": 5},
        "gemini": {"generationConfig": {"maxOutputTokens": 5}},
    }
    reply = ask(simulator, dialect, stream, **limit[dialect])
    assert text_of(dialect, stream, reply) == "Echo: Tell me about otters."
    assert finishes_of(dialect, stream, reply) in (["length"], ["max_tokens"], ["MAX_TOKENS"])
    stops: dict[str, dict[str, Any]] = {
        "openai": {"stop": " about"},
        "anthropic": {"stop_sequences": ["nothing", " about"]},
        "gemini": {"generationConfig": {"stopSequences": [" about"]}},
    }
    reply = ask(simulator, dialect, stream, **stops[dialect])
    assert text_of(dialect, stream, reply) == "Echo: Tell me"
    assert finishes_of(dialect, stream, reply) in (["stop"], ["stop_sequence"], ["STOP"])


@EVERY
@BOTH
def test_json_is_an_instance_of_the_schema(simulator: ProviderSimulator, dialect: str, stream: bool) -> None:
    wanted: dict[str, dict[str, Any]] = {
        "openai": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
        "anthropic": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        "gemini": {"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}},
    }
    answer = json.loads(text_of(dialect, stream, ask(simulator, dialect, stream, **wanted[dialect])))
    jsonschema_rs.validate(SCHEMA, answer)
    assert "extra" not in answer


def test_json_objects_have_an_answer(simulator: ProviderSimulator) -> None:
    reply = ask(simulator, response_format={"type": "json_object"})
    assert json.loads(text_of("openai", False, reply)) == {"answer": healthy_text(PROMPT, 12)}
    config = {"response_mime_type": "application/json"}
    reply = ask(simulator, "gemini", generation_config=config)
    assert json.loads(text_of("gemini", False, reply)) == {"answer": healthy_text(PROMPT, 12)}


def test_gemini_schemas_have_types_in_capitals() -> None:
    assert instance_of({"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}, "required": ["a"]}) == {"a": 1}


def test_schemas_that_make_no_sense_are_survived() -> None:
    loop = {"$ref": "#"}
    for schema in (loop, {"allOf": [loop]}, {"type": 7}, {"enum": []}, {"$ref": "http://x/y"}, [], 3, None):
        instance_of(schema)


TOOLS: dict[str, dict[str, Any]] = {
    "openai": {"tools": [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]},
    "anthropic": {"tools": [{"name": "weather", "input_schema": SCHEMA}]},
    "gemini": {"tools": [{"functionDeclarations": [{"name": "weather", "parametersJsonSchema": SCHEMA}]}]},
}
FORCED: dict[str, dict[str, Any]] = {
    "openai": {"tool_choice": "required"},
    "anthropic": {"tool_choice": {"type": "any"}},
    "gemini": {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}},
}


def calls_of(dialect: str, body: Any) -> list[tuple[str, Any]]:
    if dialect == "openai":
        functions = [call["function"] for call in body["choices"][0]["message"]["tool_calls"]]
        return [(function["name"], json.loads(function["arguments"])) for function in functions]
    if dialect == "anthropic":
        return [(block["name"], block["input"]) for block in body["content"]]
    return [(p["functionCall"]["name"], p["functionCall"]["args"]) for p in body["candidates"][0]["content"]["parts"]]


@EVERY
def test_tools_are_called_where_asked_for(simulator: ProviderSimulator, dialect: str) -> None:
    assert text_of(dialect, False, ask(simulator, dialect, **TOOLS[dialect])) == TEXT
    body = ask(simulator, dialect, **TOOLS[dialect], **FORCED[dialect]).json
    ((name, arguments),) = calls_of(dialect, body)
    assert name == "weather"
    jsonschema_rs.validate(SCHEMA, arguments)
    calls = calls_of(dialect, ask(simulator, dialect, **TOOLS[dialect], prompt="Go [[tools:3]]").json)
    assert [name for name, _ in calls] == ["weather"] * 3
    assert ask(simulator, dialect, prompt="Go [[tool]]").status == 200


def test_calls_are_parallel_only_where_allowed(simulator: ProviderSimulator) -> None:
    fields: dict[str, Any] = {**TOOLS["openai"], "prompt": "Go [[tools:3]]", "parallel_tool_calls": False}
    assert len(calls_of("openai", ask(simulator, **fields).json)) == 1
    named = {"type": "function", "function": {"name": "weather"}}
    reply = ask(simulator, **TOOLS["openai"], tool_choice=named)
    # As at OpenAI: a forced call ends with `stop`.
    assert finishes_of("openai", False, reply) == ["stop"] and calls_of("openai", reply.json)


RESULTS: dict[str, list[dict[str, Any]]] = {
    "openai": [
        {"role": "user", "content": PROMPT},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function"}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ],
    "anthropic": [
        {"role": "user", "content": PROMPT},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}]},
    ],
    "gemini": [
        {"role": "user", "parts": [{"text": PROMPT}]},
        {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"result": "sunny"}}}]},
    ],
}


@EVERY
def test_tool_results_are_heard(simulator: ProviderSimulator, dialect: str) -> None:
    field = "contents" if dialect == "gemini" else "messages"
    fields: dict[str, Any] = {**TOOLS[dialect], **FORCED[dialect], field: RESULTS[dialect]}
    assert text_of(dialect, False, ask(simulator, dialect, **fields)) == f"The tool said: sunny. {TEXT}"


IMAGES: dict[str, dict[str, Any]] = {
    "openai": {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    "anthropic": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
    "gemini": {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
}


@EVERY
def test_images_are_seen(simulator: ProviderSimulator, dialect: str) -> None:
    text = {"text": PROMPT} if dialect == "gemini" else {"type": "text", "text": PROMPT}
    turn = {"role": "user", ("parts" if dialect == "gemini" else "content"): [text, IMAGES[dialect]]}
    field = "contents" if dialect == "gemini" else "messages"
    assert text_of(dialect, False, ask(simulator, dialect, **{field: [turn]})) == f"Saw 1 image. {TEXT}"


@EVERY
@BOTH
def test_thoughts_are_no_text(simulator: ProviderSimulator, dialect: str, stream: bool) -> None:
    reply = ask(simulator, dialect, stream, prompt=f"{PROMPT} [[think]]")
    assert text_of(dialect, stream, reply) == TEXT
    marks = {"openai": b'"reasoning_content":"Echo', "anthropic": b'"thinking":"Echo', "gemini": b'"thought":true'}
    assert marks[dialect] in reply.body
    assert marks[dialect] not in ask(simulator, dialect, stream).body


@BOTH
def test_several_choices(simulator: ProviderSimulator, stream: bool) -> None:
    reply = ask(simulator, "openai", stream, n=3)
    bodies = [json.loads(data) for data in reply.events if data != "[DONE]"] if stream else [reply.json]
    texts = ["", "", ""]
    for choice in [choice for body in bodies for choice in body["choices"]]:
        texts[choice["index"]] += choice.get("delta", choice.get("message")).get("content") or ""
    assert texts == [TEXT] * 3


@EVERY
def test_usage_counts_words(simulator: ProviderSimulator, dialect: str) -> None:
    body = ask(simulator, dialect).json
    usage = body.get("usage") or body["usageMetadata"]
    names = {
        "openai": ("prompt_tokens", "completion_tokens"),
        "anthropic": ("input_tokens", "output_tokens"),
        "gemini": ("promptTokenCount", "candidatesTokenCount"),
    }
    assert [usage[name] for name in names[dialect]] == [4, 60]


def test_gemini_streams_an_array_without_alt_sse(simulator: ProviderSimulator) -> None:
    path = path_of("gemini", True).removesuffix("?alt=sse")
    with Wire(simulator.port) as wire:
        wire.send(request_bytes(path, request_body("gemini", True)))
        reply = wire.reply()
    texts = [p["text"] for one in reply.json for p in one["candidates"][0]["content"].get("parts", [])]
    assert "".join(texts) == TEXT and len(texts) > 10


# --- continuation --------------------------------------------------------------------------------------------


def continued(dialect: str, given: str, anchor: str | None) -> dict[str, Any]:
    """The turns that ask for the rest of `given`; without an anchor, by prefill."""
    turns = [("user", PROMPT), ("assistant", given)]
    turns += [("user", CONTINUE_INSTRUCTION + anchor)] if anchor is not None else []
    if dialect == "gemini":
        roles = {"user": "user", "assistant": "model"}
        return {"contents": [{"role": roles[role], "parts": [{"text": text}]} for role, text in turns]}
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


@EVERY
@BOTH
@pytest.mark.parametrize("size", [90, 137, len(TEXT) - 1])
def test_a_cut_answer_goes_on_behind_its_anchor(
    simulator: ProviderSimulator, size: int, dialect: str, stream: bool
) -> None:
    given = TEXT[:size]
    reply = ask(simulator, dialect, stream, **continued(dialect, given, given[-60:]))
    assert given[:-60] + text_of(dialect, stream, reply) == TEXT


@EVERY
def test_a_cut_answer_goes_on_behind_a_prefill(simulator: ProviderSimulator, dialect: str) -> None:
    given = TEXT[:100].rstrip()
    reply = ask(simulator, dialect, True, **continued(dialect, given, None))
    assert given + text_of(dialect, True, reply) == TEXT


@pytest.mark.parametrize("is_anchored", [True, False])
def test_a_cut_answer_to_the_result_of_a_tool_goes_on(simulator: ProviderSimulator, is_anchored: bool) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": f"{PROMPT} [[tool]]"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "7 degrees"},
    ]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    whole = text_of("openai", False, ask(simulator, messages=turns, tools=tools))
    given = whole[:100].rstrip()
    turns.append({"role": "assistant", "content": given})
    if is_anchored:
        turns.append({"role": "user", "content": CONTINUE_INSTRUCTION + given[-60:]})
    rest = text_of("openai", False, ask(simulator, messages=turns, tools=tools))
    assert "7 degrees" in whole and (given[:-60] if is_anchored else given) + rest == whole


def test_a_continuation_can_be_refused_in_every_way(simulator: ProviderSimulator) -> None:
    given = TEXT[:100]
    asked = continued("openai", given, given[-60:])
    assert text_of("openai", False, ask(simulator, fault="ok; continuation=replay", **asked)) == TEXT
    other = text_of("openai", False, ask(simulator, fault="ok; continuation=differ", **asked))
    assert given[-60:] not in other and len(other) > 60


@EVERY
def test_a_prefill_can_be_refused(simulator: ProviderSimulator, dialect: str) -> None:
    reply = ask(simulator, dialect, fault="ok; refuse_prefill=true", **continued(dialect, TEXT[:50], None))
    assert reply.status == 400 and reply.json["error"]["message"]
    fresh = ask(simulator, dialect, fault="ok; refuse_prefill=true")
    assert fresh.status == 200


def test_the_text_can_be_set(simulator: ProviderSimulator) -> None:
    reply = ask(simulator, "openai", True, "ok; text=abcdef; pieces=3")
    pieces = [json.loads(d)["choices"][0]["delta"].get("content") for d in reply.events[1:4]]
    assert pieces == ["ab", "cd", "ef"]
    assert text_of("openai", False, ask(simulator, prompt="Hi [[words:9]]")) == healthy_text("Hi", 9)
