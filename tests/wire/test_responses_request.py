"""Requests to the Responses API: what deciding needs of them, their bytes, and what they say in other dialects."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import (
    Ability,
    AudioPart,
    ChatRequest,
    Continuation,
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
from crossfade.core.target import Target
from crossfade.wire.openai_responses import MAX_CALL_ID, call_id_of, write_request
from crossfade.wire.responses_canonical import read_canonical
from crossfade.wire.responses_request import OUR_REASONING, ResponsesInbound, read_request

HELLO: dict[str, Any] = {"model": "gpt-5.4", "input": "hello"}
FUNCTION = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "sunny"}


def target(model: str = "gpt-5.4", **more: Any) -> Target:
    return Target(key=f"p/{model}#0", name=f"p/{model}", provider="p", model=model, **more)


def inbound(headers: dict[str, str] | None = None, **fields: Any) -> ResponsesInbound:
    return read_request(json.dumps(HELLO | fields).encode(), headers or {})


def sent(request: ResponsesInbound, to: Target, *, stream: bool = False, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(request.body(to, stream=stream, include_usage=False, **more))
    return body


def canonical(**fields: Any) -> ChatRequest:
    return inbound(**fields).canonical()


def rejected(body: bytes | dict[str, Any]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read_request(body if isinstance(body, bytes) else json.dumps(body).encode(), {})
    return caught.value


def inexpressible(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        canonical(**fields)
    return caught.value


def text(*words: str) -> tuple[Part, ...]:
    return tuple(TextPart(word) for word in words)


# --- bytes ---------------------------------------------------------------------------------------------------

SPACED = b'\n { "input" : [ {"role":"user", "content":"\xc3\xa9 \\u00e9 1e2"} ] ,\t"model" : "a/b" , "x": 1.00 }\n'


def test_the_bytes_pass_untouched_for_the_same_model() -> None:
    assert read_request(SPACED, {}).body(target("a/b"), stream=False, include_usage=False) == SPACED


def test_only_the_model_name_changes() -> None:
    body = read_request(SPACED, {}).body(target("other"), stream=False, include_usage=False)
    assert body == SPACED.replace(b'"a/b"', b'"other"')


def test_a_stream_is_asked_for_where_the_caller_asked_for_none() -> None:
    assert sent(inbound(store=True), target(), stream=True) == HELLO | {"store": True, "stream": True}
    request = inbound(stream=True, temperature=1)
    assert sent(request, target(drop_params=("temperature",))) == HELLO | {"stream": False}


def test_our_fields_stay_here_and_the_targets_own_parameters_go_along() -> None:
    request = inbound(fallback_models=["b"], crossfade={"trace": True}, temperature=1)
    to = target(set_params=(("top_p", b"0.5"),), drop_params=("temperature",))
    assert sent(request, to) == HELLO | {"top_p": 0.5}
    assert request.ours.fallback_models is not None and request.ours.options is not None


def test_a_byte_order_mark_is_taken_off() -> None:
    assert sent(read_request(b"\xef\xbb\xbf" + json.dumps(HELLO).encode(), {}), target()) == HELLO


CUT = Continuation(text="1, 2 ", anchor="2 ", prefill=False, delivered_tokens=10)


def test_the_rest_of_a_cut_answer_is_asked_for() -> None:
    body = sent(inbound(max_output_tokens=30), target(), stream=True, continuation=CUT)
    assert [item["role"] for item in body["input"]] == ["user", "assistant", "user"]
    assert body["input"][:2] == [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "1, 2 "}]
    assert body["max_output_tokens"] == 20
    items = sent(inbound(input=[CALL, RESULT], max_output_tokens=20), target(), continuation=CUT)
    assert items["input"][:2] == [CALL, RESULT] and items["max_output_tokens"] == 16


def test_reasoning_that_was_written_here_does_not_go_back_to_the_api() -> None:
    own = {"type": "reasoning", "id": f"{OUR_REASONING}1", "summary": []}
    theirs = {"type": "reasoning", "id": "rs_1", "encrypted_content": "x", "summary": []}
    body = sent(inbound(input=[{"role": "user", "content": "a"}, own, theirs, CALL, RESULT]), target())
    assert body["input"] == [{"role": "user", "content": "a"}, theirs, CALL, RESULT]


@pytest.mark.parametrize("name", ["model", "input", "stream", "previous_response_id", "text", "crossfade"])
def test_a_field_that_decides_may_not_come_twice(name: str) -> None:
    body = json.dumps(HELLO | {name: HELLO.get(name)})[:-1] + f', "{name}": null}}'
    assert rejected(body.encode()).param == name


# --- what is refused at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"[]", None),
        (b'{"model": "m"', None),
        ({"model": "m"}, "input"),
        ({"input": "x"}, "model"),
        (HELLO | {"input": []}, "input"),
        (HELLO | {"input": 1}, "input"),
        (HELLO | {"input": [1]}, "input[0]"),
        (HELLO | {"input": [{"role": "user", "content": "x"}, {"role": "user", "content": 1}]}, "input[1].content"),
        (HELLO | {"input": [{**RESULT, "output": [1]}]}, "input[0].output"),
        (HELLO | {"background": True}, "background"),
        (HELLO | {"max_output_tokens": 0}, "max_output_tokens"),
        (HELLO | {"tools": [{"type": "function"}]}, "tools[0].name"),
        (HELLO | {"tools": [FUNCTION] * 4097}, "tools"),
        (HELLO | {"input": [{"role": "user", "content": "x"}] * 20_001}, "input"),
        (HELLO | {"stream": "yes"}, "stream"),
    ],
)
def test_a_bad_request_is_refused_by_its_field(body: bytes | dict[str, Any], param: str | None) -> None:
    assert rejected(body).param == param


def test_nesting_that_no_reader_could_follow_is_refused() -> None:
    deep = b'{"model": "m", "input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert "nested" in rejected(deep).message


# --- facts ---------------------------------------------------------------------------------------------------


def test_a_plain_request_needs_nothing() -> None:
    facts = inbound().facts
    assert (facts.stream, facts.needs, facts.tools, facts.tool_choice) == (False, frozenset(), frozenset(), "auto")
    assert facts.include_usage and not facts.thinking and not facts.logprobs and facts.state == ""
    assert "buffered" in repr(inbound()) and "streamed" in repr(inbound(stream=True))


def test_what_a_request_needs_is_seen() -> None:
    content = [
        {"type": "input_text", "text": "x"},
        {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 4000},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64," + "A" * 4000},
        {"type": "input_audio", "input_audio": {"data": "A" * 4000, "format": "wav"}},
    ]
    facts = inbound(
        input=[{"role": "user", "content": content}],
        tools=[FUNCTION, {"type": "web_search"}],
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
        reasoning={"effort": "low"},
        max_output_tokens=99,
        include=["message.output_text.logprobs"],
    ).facts
    assert facts.needs == set(Ability)
    assert facts.tools == {"weather"} and facts.has_other_tools
    assert facts.output == OutputFormat(kind="json_schema", name="n", schema=b'{"type": "object"}', strict=True)
    assert facts.thinking and facts.logprobs and facts.max_tokens == 99
    assert facts.input_tokens < 400


def test_media_in_the_result_of_a_call_are_needed_too() -> None:
    image = {"type": "input_image", "image_url": "https://x/y.png"}
    assert inbound(input=[CALL, RESULT | {"output": [image]}]).facts.needs == {Ability.VISION}


@pytest.mark.parametrize(
    ("choice", "mode"),
    [
        (None, "auto"),
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "name": "weather"}, "named"),
        ({"type": "allowed_tools", "mode": "required", "tools": []}, "required"),
        ({"type": "allowed_tools", "mode": "auto", "tools": []}, "auto"),
        ({"type": "web_search"}, "named"),
    ],
)
def test_how_far_tools_are_forced_is_seen(choice: Any, mode: str) -> None:
    assert inbound(tools=[FUNCTION], tool_choice=choice).facts.tool_choice == mode


@pytest.mark.parametrize(("effort", "thinks"), [(None, False), ("none", False), ("minimal", True), ("high", True)])
def test_whether_it_thinks_is_seen(effort: str | None, thinks: bool) -> None:
    assert inbound(reasoning={"effort": effort}).facts.thinking is thinks


def test_json_mode_is_seen() -> None:
    assert inbound(text={"format": {"type": "json_object"}}).facts.output == OutputFormat(kind="json_object")
    assert inbound(text={"format": {"type": "text"}}).facts.output is None


def test_the_calls_that_the_end_of_the_input_answers_are_seen() -> None:
    other = RESULT | {"call_id": "c2"}
    facts = inbound(input=[{"role": "user", "content": "x"}, RESULT | {"call_id": "c0"}, CALL, RESULT, other]).facts
    assert facts.after_tool_result and facts.tool_call_ids == ("c1", "c2")
    assert not inbound(input=[CALL, RESULT, {"role": "user", "content": "x"}]).facts.after_tool_result
    notice = {"type": "message", "role": "developer", "content": "Be brief."}
    assert inbound(input=[CALL, RESULT, notice]).facts.tool_call_ids == ("c1",)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}, "input": None}, "prompt"),
        ({"input": [{"role": "user", "content": "x"}, {"type": "item_reference", "id": "msg_1"}]}, "input[1]"),
        ({"input": [{"id": "msg_1"}]}, "input[0]"),
        ({"previous_response_id": None, "conversation": None, "prompt": None}, ""),
    ],
)
def test_what_only_its_provider_keeps_is_seen_and_cannot_be_said_elsewhere(fields: dict[str, Any], state: str) -> None:
    assert inbound(**fields).facts.state == state
    if state:
        fault = inexpressible(**fields)
        assert fault.param == state and "whole conversation" in fault.message


def test_an_answer_repeats_the_request_and_says_that_it_is_not_stored() -> None:
    echo = json.loads(b"{%s}" % inbound(store=True, tools=[FUNCTION], temperature=0.5, metadata=None).facts.echo)
    assert echo["store"] is False and echo["tools"] == [FUNCTION] and echo["temperature"] == 0.5
    assert echo["metadata"] == {} and echo["tool_choice"] == "auto" and echo["parallel_tool_calls"] is True


def test_what_is_long_is_not_repeated() -> None:
    long = inbound(instructions="x" * 300_000, user="u").facts.echo
    assert json.loads(b"{%s}" % long)["instructions"] is None and json.loads(b"{%s}" % long)["user"] == "u"


# --- canonical -----------------------------------------------------------------------------------------------


def test_a_text_is_a_turn_of_the_users() -> None:
    assert canonical(instructions="be kind").messages == (
        Message(role="system", parts=text("be kind")),
        Message(role="user", parts=text("hello")),
    )
    assert canonical(input="").messages == (Message(role="user"),)


def test_items_are_turns() -> None:
    request = canonical(
        input=[
            {"role": "developer", "content": "rules"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"role": "assistant", "content": [{"type": "output_text", "text": "b", "annotations": []}]},
            CALL,
            CALL | {"call_id": "c2", "arguments": ""},
            RESULT,
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "rain"}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        ]
    )
    assert request.messages == (
        Message(role="system", parts=text("rules")),
        Message(role="user", parts=text("a")),
        Message(
            role="assistant",
            parts=text("b"),
            tool_calls=(ToolCall("c1", "weather", "{}"), ToolCall("c2", "weather", "")),
        ),
        Message(role="tool", call_id="c1", parts=text("sunny")),
        Message(role="tool", call_id="c2", parts=text("rain")),
        Message(role="assistant", refusal="no"),
    )
    assert request.others == ()


def test_words_behind_a_call_are_of_its_turn() -> None:
    messages = canonical(input=[CALL, {"role": "assistant", "content": "wait"}, RESULT]).messages
    call = ToolCall("c1", "weather", "{}")
    assert messages[0] == Message(role="assistant", parts=text("wait"), tool_calls=(call,))
    assert [message.role for message in messages] == ["assistant", "tool"]


def test_media_are_read() -> None:
    parts = [
        {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
        {"type": "input_image", "image_url": "data:image/png;base64,QQ=="},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,QQ=="},
        {"type": "input_file", "file_url": "https://x/y.pdf"},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "input_file", "filename": "a.txt", "file_data": "QQ=="},
        {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}},
    ]
    assert canonical(input=[{"role": "user", "content": parts}]).messages[0].parts == (
        ImagePart(url="https://x/y.png", detail="low"),
        ImagePart(media_type="image/png", data="QQ=="),
        FilePart(name="a.pdf", media_type="application/pdf", data="QQ=="),
        FilePart(url="https://x/y.pdf"),
        FilePart(file_id="file-1"),
        FilePart(name="a.txt", data="QQ=="),
        AudioPart("QQ==", "wav"),
    )


def test_parameters_are_read() -> None:
    request = canonical(
        tools=[FUNCTION | {"description": "d", "strict": True}],
        tool_choice={"type": "function", "name": "weather"},
        parallel_tool_calls=False,
        max_output_tokens=50,
        temperature=0.5,
        top_p=0.25,
        reasoning={"effort": "low"},
        user="u",
        text={"format": {"type": "json_schema", "name": "n", "description": "d", "schema": {"a": 1}}},
    )
    assert request.tools == (Tool(name="weather", description="d", parameters=b'{"type":"object"}', strict=True),)
    assert request.tool_choice == ToolChoice("named", "weather") and request.parallel_tool_calls is False
    assert (request.max_tokens, request.temperature, request.top_p) == (50, 0.5, 0.25)
    assert (request.reasoning_effort, request.user) == ("low", "u")
    assert request.output == OutputFormat(kind="json_schema", name="n", description="d", schema=b'{"a":1}')


def test_only_allowed_tools_are_offered() -> None:
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]}
    request = canonical(tools=[FUNCTION, FUNCTION | {"name": "other"}], tool_choice=allowed)
    assert [tool.name for tool in request.tools] == ["weather"] and request.tool_choice == ToolChoice("required")


def test_the_newer_name_of_the_user_wins() -> None:
    request = canonical(user="u", safety_identifier="s")
    assert request.user == "s" and request.others == ("user",)


def test_what_has_no_place_is_named() -> None:
    request = canonical(
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "a", "prompt_cache_breakpoint": {}}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "b", "annotations": [{}]}]},
        ],
        store=True,
        include=["reasoning.encrypted_content"],
        metadata={"a": "b"},
        truncation="auto",
        top_logprobs=2,
        max_tool_calls=3,
        prompt_cache_key="k",
        service_tier="priority",
        reasoning={"effort": "low", "summary": "auto"},
        text={"verbosity": "low"},
    )
    assert set(request.others) == {
        *("store", "include", "metadata", "truncation", "top_logprobs", "max_tool_calls", "prompt_cache_key"),
        *("service_tier", "reasoning.summary", "text.verbosity", "annotations", "input.prompt_cache_breakpoint"),
    }


def test_what_asks_for_nothing_is_not_named() -> None:
    request = canonical(
        store=False, include=[], metadata={}, truncation="disabled", service_tier="auto", background=False,
        text={"format": {"type": "text"}, "verbosity": "medium"}, stream_options={"include_obfuscation": False},
    )  # fmt: skip
    assert request.others == ()


USER = {"role": "user", "content": "x"}


def of_part(**part: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [part]}]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [FUNCTION, {"type": "mcp", "server_label": "x"}]}, "tools[1].type"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type"),
        ({"tools": [FUNCTION | {"parameters": 1}]}, "tools[0].parameters"),
        ({"tools": [FUNCTION | {"strict": 1}]}, "tools[0].strict"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"instructions": []}, "instructions"),
        ({"temperature": "warm"}, "temperature"),
        ({"input": [USER, {"type": "web_search_call", "id": "ws"}]}, "input[1].type"),
        ({"input": [{"role": "nobody", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        (of_part(type="video"), "input[0].content[0].type"),
        (of_part(type="input_text"), "input[0].content[0].text"),
        (of_part(type="input_image", file_id="f"), "input[0].content[0].file_id"),
        (of_part(type="input_file"), "input[0].content[0].file_data"),
        (of_part(type="input_audio"), "input[0].content[0].input_audio"),
        ({"input": [CALL | {"name": None}]}, "input[0].name"),
        ({"input": [CALL | {"arguments": {}}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
    ],
)
def test_what_cannot_be_sent_elsewhere_is_a_fault_that_names_its_place(fields: dict[str, Any], param: str) -> None:
    assert inexpressible(**fields).param == param


# --- there and back ------------------------------------------------------------------------------------------

WORDS = st.text(min_size=1, max_size=20).filter(lambda word: word.encode("utf-8", "ignore").decode() == word)
TEXTS = st.builds(TextPart, WORDS)
IMAGES = st.one_of(
    st.builds(ImagePart, url=WORDS.map("https://".__add__), detail=st.sampled_from([None, "low"])),
    st.builds(ImagePart, media_type=st.just("image/png"), data=st.just("QQ==")),
)
FILES = st.one_of(
    st.builds(FilePart, url=WORDS.map("https://".__add__)),
    st.builds(FilePart, file_id=WORDS),
    st.builds(FilePart, name=WORDS, media_type=st.just("application/pdf"), data=st.just("QQ==")),
)
PARTS = st.lists(st.one_of(TEXTS, IMAGES, FILES), min_size=1, max_size=3).map(tuple)
CALLS = st.lists(st.builds(ToolCall, WORDS, WORDS, st.just("{}")), min_size=1, max_size=2).map(tuple)
ASSISTANT = st.one_of(
    st.builds(Message, role=st.just("assistant"), parts=st.lists(TEXTS, min_size=1, max_size=2).map(tuple)),
    st.builds(Message, role=st.just("assistant"), refusal=WORDS),
)
MESSAGES = st.one_of(
    st.builds(Message, role=st.sampled_from(["user", "system"]), parts=PARTS),
    ASSISTANT,
    st.builds(Message, role=st.just("tool"), call_id=WORDS, parts=PARTS),
)
CONVERSATIONS = st.lists(MESSAGES, max_size=5).map(lambda found: (*found, Message(role="user", parts=text("go"))))
REQUESTS = st.builds(
    ChatRequest,
    messages=CONVERSATIONS,
    tools=st.lists(st.builds(Tool, name=WORDS, parameters=st.just(b"{}"), strict=st.booleans()), max_size=2).map(tuple),
    tool_choice=st.sampled_from([None, ToolChoice("auto"), ToolChoice("required"), ToolChoice("named", "f")]),
    parallel_tool_calls=st.sampled_from([None, True, False]),
    output=st.sampled_from(
        [None, OutputFormat(kind="json_object"), OutputFormat(kind="json_schema", schema=b'{"a":1}', strict=True)]
    ),
    max_tokens=st.one_of(st.none(), st.integers(16, 2**40)),
    temperature=st.one_of(st.none(), st.floats(0, 2)),
    reasoning_effort=st.one_of(st.none(), WORDS),
    user=st.one_of(st.none(), WORDS),
)


@given(REQUESTS)
def test_a_request_is_the_same_there_and_back(request: ChatRequest) -> None:
    assert read_canonical(write_request(request, target(), stream=True).body) == request


@given(st.lists(WORDS, max_size=2), CALLS)
def test_a_turn_with_calls_is_the_same_there_and_back(words: list[str], calls: tuple[ToolCall, ...]) -> None:
    turn = Message(role="assistant", parts=text(*words), tool_calls=calls)
    request = ChatRequest(messages=(turn,))
    assert read_canonical(write_request(request, target(), stream=False).body) == request


def test_an_id_that_the_api_would_refuse_becomes_another_in_call_and_result() -> None:
    long = "x" * 200
    request = ChatRequest(
        messages=(
            Message(role="assistant", tool_calls=(ToolCall(long, "f", ""), ToolCall("y" * MAX_CALL_ID, "f", "{}"))),
            Message(role="tool", call_id=long, parts=text("r")),
        )
    )
    first, second, result = json.loads(write_request(request, target(), stream=False).body)["input"]
    assert first["call_id"] == result["call_id"] == call_id_of(long) and len(call_id_of(long)) == MAX_CALL_ID
    assert second["call_id"] == "y" * MAX_CALL_ID and first["arguments"] == "{}"


def test_tools_say_what_the_api_would_take_for_granted() -> None:
    request = ChatRequest(messages=(), tools=(Tool(name="f"),))
    (tool,) = json.loads(write_request(request, target(), stream=False).body)["tools"]
    assert tool == {
        "type": "function",
        "name": "f",
        "parameters": {"type": "object", "properties": {}},
        "strict": False,
    }


def test_what_the_api_has_no_field_for_is_named() -> None:
    request = ChatRequest(
        messages=(Message(role="user", parts=text("x"), name="ann"),),
        stop=("a",), top_k=1, seed=0, frequency_penalty=0.5, presence_penalty=0.5, logprobs=True, top_logprobs=2,
        others=("z",),
    )  # fmt: skip
    assert write_request(request, target(), stream=False).dropped == (
        *("z", "name", "stop", "top_k", "seed", "frequency_penalty", "presence_penalty", "logprobs", "top_logprobs"),
    )


def test_a_refusal_of_nothing_is_none() -> None:
    """Some servers write `"refusal": ""` where others write null; a part without text would be refused."""
    said = Message(role="assistant", parts=(TextPart("a"),), refusal="")
    body = json.loads(write_request(ChatRequest(messages=(said,)), target(), stream=False).body)
    assert body["input"] == [{"role": "assistant", "content": "a"}]


def test_a_text_of_nothing_before_a_call_is_no_turn() -> None:
    said = Message(role="assistant", parts=(TextPart(""),), tool_calls=(ToolCall("c", "f", "{}"),))
    body = json.loads(write_request(ChatRequest(messages=(said,)), target(), stream=False).body)
    assert [item["type"] for item in body["input"]] == ["function_call"]
