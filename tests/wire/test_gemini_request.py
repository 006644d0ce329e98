"""Gemini's request body: hand-written cases, and every recorded request rebuilt from its canonical reading."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
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
from crossfade.wire.gemini_request import FOREIGN_SIGNATURE, family, write_request
from crossfade.wire.openai_canonical import read_canonical
from crossfade.wire.written import Written
from tests.recordings import load, names, needs_recordings

NEW, MIDDLE, OLD = "gemini-3.8-flash", "gemini-2.5-flash", "gemini-2.0-flash"
SCHEMA = b'{"type":"object","properties":{"a":{"$ref":"#/$defs/x"}},"$defs":{"x":{"type":"string"}}}'


def user(*parts: Part | str) -> Message:
    return Message(role="user", parts=tuple(TextPart(part) if isinstance(part, str) else part for part in parts))


def system(text: str) -> Message:
    return Message(role="system", parts=(TextPart(text),))


def said(text: str, *calls: ToolCall) -> Message:
    return Message(role="assistant", parts=(TextPart(text),) if text else (), tool_calls=calls)


def result(call_id: str, *parts: Part | str) -> Message:
    return msgspec.structs.replace(user(*parts), role="tool", call_id=call_id)


def written(request: ChatRequest, model: str = NEW, **more: Any) -> Written:
    return write_request(request, model, **more)


def body_of(*messages: Message, model: str = NEW, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(written(ChatRequest(messages=messages, **fields), model).body)
    return body


def config_of(model: str = NEW, **fields: Any) -> dict[str, Any]:
    config: dict[str, Any] = body_of(user("hi"), model=model, **fields).get("generationConfig", {})
    return config


# --- messages ------------------------------------------------------------------------------------------------


def test_the_least_request_is_the_least_body() -> None:
    assert body_of(user("hi")) == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


def test_system_text_goes_to_the_instruction_wherever_it_stood() -> None:
    body = body_of(system("a"), user("hi"), system("b"), user("there"), said("ok"), said("more"))
    assert body["systemInstruction"] == {"parts": [{"text": "a"}, {"text": "b"}]}
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "hi"}, {"text": "there"}]},
        {"role": "model", "parts": [{"text": "ok"}, {"text": "more"}]},
    ]


def test_models_without_an_instruction_are_told_in_their_first_turn() -> None:
    body = body_of(user("hi"), said("yes"), system("a"), model="gemma-3-27b-it")
    assert "systemInstruction" not in body
    assert body["contents"][0] == {"role": "user", "parts": [{"text": "a"}, {"text": "hi"}]}
    begun = body_of(system("a"), said("yes"), model="gemma-3-27b-it")["contents"]
    assert [(turn["role"], turn["parts"]) for turn in begun] == [
        ("user", [{"text": "a"}]),
        ("model", [{"text": "yes"}]),
    ]


def test_empty_messages_are_left_out_and_an_empty_conversation_begins_with_nothing() -> None:
    assert len(body_of(user("hi"), said(""), user("", "there"))["contents"][0]["parts"]) == 2
    nothing = [{"role": "user", "parts": [{"text": ""}]}]
    assert body_of(user(""), said("")) == {"contents": nothing}
    assert body_of(system("a")) == {"contents": nothing, "systemInstruction": {"parts": [{"text": "a"}]}}


def test_a_refusal_is_what_the_model_said() -> None:
    refused = Message(role="assistant", refusal="I will not.")
    assert body_of(user("hi"), refused, user("why"))["contents"][1] == {
        "role": "model",
        "parts": [{"text": "I will not."}],
    }


def test_media_go_inline_or_by_address() -> None:
    parts: tuple[Part, ...] = (
        ImagePart(data="aa", media_type="image/png"),
        ImagePart(url="https://example.com/a.b/cat.JPG?size=1#x", detail="low"),
        ImagePart(url="https://example.com/cat"),
        FilePart(data="bb", name="x.pdf"),
        FilePart(data="bb", media_type="text/plain"),
        FilePart(url="https://example.com/x.pdf"),
        AudioPart("cc", "wav"),
        AudioPart("cc", "mpeg"),
    )
    assert body_of(user(*parts))["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "aa"}},
        {"fileData": {"fileUri": "https://example.com/a.b/cat.JPG?size=1#x", "mimeType": "image/jpeg"}},
        {"fileData": {"fileUri": "https://example.com/cat"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "bb"}},
        {"inlineData": {"mimeType": "text/plain", "data": "bb"}},
        {"fileData": {"fileUri": "https://example.com/x.pdf", "mimeType": "application/pdf"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "cc"}},
        {"inlineData": {"mimeType": "audio/mp3", "data": "cc"}},
    ]


@pytest.mark.parametrize(
    "messages,param",
    [
        ((user("hi", FilePart(file_id="file-1")),), "messages[0].content[1]"),
        ((user("hi"), user(ImagePart())), "messages[1].content[0]"),
        ((user("hi"), msgspec.structs.replace(user(ImagePart(url="x")), role="system")), "messages[1].content"),
        ((user("hi"), result("call_1", "x")), "messages[1].tool_call_id"),
        ((user("hi"), result("call_1", "x"), said("", ToolCall("call_1", "f", ""))), "messages[1].tool_call_id"),
    ],
)
def test_what_cannot_be_said_is_refused_by_its_field(messages: tuple[Message, ...], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        body_of(*messages)
    assert caught.value.param == param


# --- tools ---------------------------------------------------------------------------------------------------

TURNS = (
    user("hi"),
    said("looking", ToolCall("c1", "look", '{"at": 1.50}'), ToolCall("c2", "look", "")),
    result("c2", '{"found": true}'),
    result("c1", "nothing"),
    user("and?"),
)


def test_calls_and_their_results_go_by_name_and_id() -> None:
    contents = body_of(*TURNS, model=MIDDLE)["contents"]
    assert [turn["role"] for turn in contents] == ["user", "model", "user"]
    assert contents[1]["parts"] == [
        {"text": "looking"},
        {"functionCall": {"name": "look", "args": {"at": 1.5}, "id": "c1"}},
        {"functionCall": {"name": "look", "args": {}, "id": "c2"}},
    ]
    assert contents[2]["parts"] == [
        {"functionResponse": {"name": "look", "response": {"found": True}, "id": "c2"}},
        {"functionResponse": {"name": "look", "response": {"result": "nothing"}, "id": "c1"}},
        {"text": "and?"},
    ]


@pytest.mark.parametrize("model,signed", [(NEW, True), ("gemini-flash-latest", True), (MIDDLE, False), (OLD, False)])
def test_the_first_call_of_a_step_has_a_signature_where_the_model_wants_one(model: str, signed: bool) -> None:
    twice = (*TURNS, said("", ToolCall("c3", "look", "{}")), result("c3", "x"))
    parts = [
        part for turn in body_of(*twice, model=model)["contents"] for part in turn["parts"] if "functionCall" in part
    ]
    signatures = [part.get("thoughtSignature") for part in parts]
    assert signatures == ([FOREIGN_SIGNATURE, None, FOREIGN_SIGNATURE] if signed else [None, None, None])


@pytest.mark.parametrize("text", ["[1]", '"x"', "{", '{"a":1} trailing', "", "{" * 5000, '{"a":' + "[" * 5000])
def test_a_result_that_is_no_object_is_wrapped(text: str) -> None:
    call = said("", ToolCall("c", "f", "{}"))
    response = body_of(user("hi"), call, result("c", text))["contents"][2]["parts"][0]["functionResponse"]
    assert response["response"] == {"result": text}


@pytest.mark.parametrize("text", ["[1]", "nonsense", '{"cut": "of'])
def test_arguments_that_are_no_object_are_kept_as_text(text: str) -> None:
    parts = body_of(user("hi"), said("", ToolCall("c", "f", text)), result("c", "bad"))["contents"][1]["parts"]
    assert parts[0]["functionCall"]["args"] == {"arguments": text}


def test_numbers_of_arguments_and_results_keep_their_digits() -> None:
    text = '{"big": 12345678901234567890123, "exact": 1.50}'
    request = ChatRequest(messages=(user("hi"), said("", ToolCall("c", "f", text)), result("c", text)))
    assert written(request).body.count(text.encode()) == 2


def test_an_image_in_a_result_goes_where_the_model_takes_it() -> None:
    turns = (
        user("hi"),
        said("", ToolCall("c", "f", "{}")),
        result("c", "see", ImagePart(data="aa", media_type="image/png")),
    )
    image = {"inlineData": {"mimeType": "image/png", "data": "aa"}}
    (new,) = body_of(*turns)["contents"][2]["parts"]
    assert new["functionResponse"]["parts"] == [image]
    old = body_of(*turns, model=MIDDLE)["contents"][2]["parts"]
    assert "parts" not in old[0]["functionResponse"]
    assert old[1] == image


def test_tools_are_declared_with_their_own_schemas() -> None:
    tools = (Tool(name="f", description="does", parameters=SCHEMA, strict=True), Tool(name="g"))
    request = written(ChatRequest(messages=(user("hi"),), tools=tools))
    assert json.loads(request.body)["tools"] == [
        {
            "functionDeclarations": [
                {"name": "f", "description": "does", "parametersJsonSchema": json.loads(SCHEMA)},
                {"name": "g"},
            ]
        }
    ]
    assert request.dropped == ("tools.function.strict",)


@pytest.mark.parametrize(
    "choice,config",
    [
        (ToolChoice("none"), {"mode": "NONE"}),
        (ToolChoice("auto"), {"mode": "AUTO"}),
        (ToolChoice("required"), {"mode": "ANY"}),
        (ToolChoice("named", "f"), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_tool_choices(choice: ToolChoice, config: dict[str, Any]) -> None:
    body = body_of(user("hi"), tools=(Tool(name="f"),), tool_choice=choice)
    assert body["toolConfig"] == {"functionCallingConfig": config}
    assert "toolConfig" not in body_of(user("hi"), tools=(Tool(name="f"),))


# --- parameters ----------------------------------------------------------------------------------------------


def test_parameters_have_their_places() -> None:
    config = config_of(
        max_tokens=9,
        temperature=0.0,
        top_p=0.5,
        top_k=4,
        stop=("a", "b"),
        n=2,
        seed=7,
        frequency_penalty=0.1,
        presence_penalty=-0.1,
    )
    assert config == {
        "maxOutputTokens": 9,
        "temperature": 0.0,
        "topP": 0.5,
        "topK": 4,
        "stopSequences": ["a", "b"],
        "candidateCount": 2,
        "seed": 7,
        "frequencyPenalty": 0.1,
        "presencePenalty": -0.1,
    }
    assert config_of() == {}


def test_what_has_no_counterpart_is_named() -> None:
    request = ChatRequest(
        messages=(user("hi"),),
        tool_choice=ToolChoice("auto"),
        parallel_tool_calls=False,
        logprobs=True,
        top_logprobs=3,
        user="u",
        seed=2**40,
        reasoning_effort="low",
        others=("metadata", "store"),
    )
    dropped = written(request, OLD).dropped
    assert dropped == (
        "tool_choice",
        "seed",
        "reasoning_effort",
        "parallel_tool_calls",
        "logprobs",
        "top_logprobs",
        "user",
        "metadata",
        "store",
    )
    assert "generationConfig" not in json.loads(written(request, OLD).body)
    assert written(ChatRequest(messages=(user("hi"),), parallel_tool_calls=True)).dropped == ()


def test_six_stop_sequences_are_refused() -> None:
    assert len(config_of(stop=tuple("abcde"))["stopSequences"]) == 5
    with pytest.raises(InvalidRequest) as caught:
        config_of(stop=tuple("abcdef"))
    assert caught.value.param == "stop"


def test_json_is_asked_for() -> None:
    assert config_of(output=OutputFormat(kind="json_object")) == {"responseMimeType": "application/json"}
    output = OutputFormat(kind="json_schema", name="n", schema=SCHEMA, strict=True)
    assert config_of(output=output) == {
        "responseMimeType": "application/json",
        "responseJsonSchema": json.loads(SCHEMA),
    }


@pytest.mark.parametrize("model,is_dropped", [(NEW, False), (MIDDLE, True), (OLD, True)])
def test_json_beside_tools_is_asked_for_where_the_model_takes_both(model: str, is_dropped: bool) -> None:
    output = OutputFormat(kind="json_object")
    request = written(ChatRequest(messages=(user("hi"),), tools=(Tool(name="f"),), output=output), model)
    assert ("response_format" in request.dropped) is is_dropped
    assert ("generationConfig" in json.loads(request.body)) is not is_dropped


@pytest.mark.parametrize(
    "model,effort,thinking",
    [
        (NEW, "none", {"thinkingLevel": "low", "includeThoughts": False}),
        (NEW, "minimal", {"thinkingLevel": "low", "includeThoughts": True}),
        (NEW, "medium", {"thinkingLevel": "medium", "includeThoughts": True}),
        (NEW, "xhigh", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-3-pro-preview", "medium", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-pro-latest", "low", {"thinkingLevel": "low", "includeThoughts": True}),
        (MIDDLE, "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}),
        (MIDDLE, "minimal", {"thinkingBudget": 1024, "includeThoughts": True}),
        (MIDDLE, "medium", {"thinkingBudget": 8192, "includeThoughts": True}),
        ("models/gemini-2.5-flash-lite", "high", {"thinkingBudget": 24576, "includeThoughts": True}),
        (MIDDLE, "unheard-of", None),
        (NEW, "unheard-of", None),
        (OLD, "high", None),
        ("gemma-3-27b-it", "high", None),
    ],
)
def test_efforts_by_family(model: str, effort: str, thinking: dict[str, Any] | None) -> None:
    request = written(ChatRequest(messages=(user("hi"),), reasoning_effort=effort), model)
    assert json.loads(request.body).get("generationConfig", {}).get("thinkingConfig") == thinking
    assert ("reasoning_effort" in request.dropped) is (thinking is None)


@pytest.mark.parametrize(
    "model,number",
    [
        ("gemini-1.5-pro", 1),
        ("gemini-2.5-flash", 2),
        ("gemini-3-pro-preview", 3),
        ("models/gemini-4-argon", 4),
        ("gemma-3", 0),
        ("", 0),
    ],
)
def test_families(model: str, number: int) -> None:
    assert family(model) == number
    assert family("gemini-flash-latest") > 3


def test_a_target_sets_and_drops_parameters() -> None:
    request = ChatRequest(messages=(system("s"), user("hi")), temperature=1.0, seed=3, stop=("x",))
    body = json.loads(
        written(
            request,
            set_params=[
                ("safetySettings", b"[]"),
                ("temperature", b"0"),
                ("max_completion_tokens", b"50"),
                ("stop", b'"end"'),
                ("reasoning_effort", b'"low"'),
            ],
            drop_params=["systemInstruction", "seed"],
        ).body
    )
    assert body["safetySettings"] == []
    assert "systemInstruction" not in body
    assert body["generationConfig"] == {
        "temperature": 0.0,
        "maxOutputTokens": 50,
        "stopSequences": ["end"],
        "thinkingConfig": {"thinkingLevel": "low", "includeThoughts": True},
    }
    assert "generationConfig" not in json.loads(written(request, drop_params=["temperature", "seed", "stop"]).body)
    with pytest.raises(InvalidRequest) as caught:
        written(request, set_params=[("temperature", b'"hot"')])
    assert caught.value.param == "temperature"


# --- recordings ----------------------------------------------------------------------------------------------
#
# Every recorded request is read into a canonical one by the small reader below and written again. What comes out
# has to be what was recorded, but for the losses and the changes of spelling that `plain` and `losses` take away:
# they are the ones that docs/dialects/gemini.md lists.

RECORDED = [*names("gemini", "generate"), *names("vertex", "generate")]
WITH_REQUEST = [name for name in RECORDED if load(name)["request"]["body"]]
OPAQUE = {"args", "response", "parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema"}
EFFORTS = {0: "none", 1024: "low", 8192: "medium", 24576: "high"}
MODES = {"NONE": ToolChoice("none"), "AUTO": ToolChoice("auto"), "ANY": ToolChoice("required")}


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)


def plain(value: Any, key: str = "") -> Any:
    """A body in one spelling: camelCase, without nulls, and each schema under its JSON Schema name."""
    if key in OPAQUE:
        return value
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    names_of = {"parameters": "parametersJsonSchema", "responseSchema": "responseJsonSchema"}
    out = {}
    for name, item in value.items():
        if item is not None:
            out[names_of.get(camel(name), camel(name))] = plain(item, camel(name))
    return out


def canonical(body: dict[str, Any]) -> ChatRequest:
    """A plain Gemini body as the chat that it says."""
    config = body.get("generationConfig", {})
    tools = [tool for group in body.get("tools", ()) for tool in group.get("functionDeclarations", ())]
    calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
    choice = MODES.get(calling.get("mode", ""))
    if len(allowed := calling.get("allowedFunctionNames", ())) == 1:
        choice = ToolChoice("named", allowed[0])
    output = None
    if config.get("responseMimeType") == "application/json":
        schema = config.get("responseJsonSchema")
        output = OutputFormat(
            kind="json_object" if schema is None else "json_schema",
            schema=None if schema is None else json.dumps(schema).encode(),
        )
    return ChatRequest(
        messages=(*_system_of(body), *_messages_of(body["contents"])),
        tools=tuple(
            Tool(
                name=tool["name"],
                description=tool.get("description"),
                parameters=json.dumps(tool["parametersJsonSchema"]).encode()
                if "parametersJsonSchema" in tool
                else None,
            )
            for tool in tools
        ),
        tool_choice=choice,
        output=output,
        max_tokens=config.get("maxOutputTokens"),
        temperature=config.get("temperature"),
        seed=config.get("seed"),
        reasoning_effort=effort_of(config.get("thinkingConfig")),
    )


def _system_of(body: dict[str, Any]) -> Iterable[Message]:
    parts = body.get("systemInstruction", {}).get("parts", [])
    return (system(part["text"]) for part in (parts if isinstance(parts, list) else [parts]))


def _messages_of(contents: list[dict[str, Any]]) -> Iterable[Message]:
    waiting: list[ToolCall] = []
    for turn in contents:
        calls: list[ToolCall] = []
        parts: list[Part] = []
        for part in turn["parts"]:
            if "functionCall" in part:
                call = part["functionCall"]
                made_up = f"made-up-{id(part)}"
                calls.append(ToolCall(call.get("id", made_up), call["name"], json.dumps(call.get("args", {}))))
            elif "functionResponse" in part:
                given = part["functionResponse"]
                call_id = next(call.id for call in waiting if call.name == given["name"])
                waiting = [call for call in waiting if call.id != call_id]
                yield result(call_id, json.dumps(given["response"]), *map(_part_of, given.get("parts", ())))
            elif not part.get("thought"):
                parts.append(_part_of(part))
        waiting += calls
        if parts or calls:
            role = "assistant" if turn["role"] == "model" else "user"
            yield Message(role=role, parts=tuple(parts), tool_calls=tuple(calls))  # type: ignore[arg-type]


def _part_of(part: dict[str, Any]) -> Part:
    if "text" in part:
        return TextPart(part["text"])
    if "fileData" in part:
        return FilePart(url=part["fileData"]["fileUri"], media_type=part["fileData"]["mimeType"])
    kind, data = part["inlineData"]["mimeType"], part["inlineData"]["data"]
    if kind.startswith("image/"):
        return ImagePart(media_type=kind, data=data)
    if kind.startswith("audio/"):
        return AudioPart(data, kind.removeprefix("audio/"))
    return FilePart(media_type=kind, data=data)


def effort_of(thinking: dict[str, Any] | None) -> str | None:
    """The effort that is written with the same level or budget; others cannot be said by chat callers."""
    if thinking is None:
        return None
    level = thinking.get("thinkingLevel")
    return str(level).lower() if level else EFFORTS.get(thinking.get("thinkingBudget", -1))


def losses(body: dict[str, Any]) -> dict[str, Any]:
    """A plain body without what chat callers cannot say, and in the form that the writer chooses."""
    body = {key: value for key, value in body.items() if key not in ("safetySettings", "modelArmorConfig")}
    if "systemInstruction" in body:
        parts = body["systemInstruction"]["parts"]
        parts = parts if isinstance(parts, list) else [parts]
        body["systemInstruction"] = {"parts": [{"text": part["text"]} for part in parts]}
    body["contents"] = _merged([turn for turn in map(_lossy_turn, body["contents"]) if turn["parts"]])
    if declared := [tool for group in body.pop("tools", ()) for tool in group.get("functionDeclarations", ())]:
        body["tools"] = [{"functionDeclarations": [_without(tool, description="") for tool in declared]}]
    calling = body.pop("toolConfig", {}).get("functionCallingConfig")
    if calling:
        if len(calling.get("allowedFunctionNames", ())) > 1:  # chat names one function or any of them
            calling = {"mode": calling["mode"]}
        body["toolConfig"] = {"functionCallingConfig": calling}
    config = _without(body.pop("generationConfig", {}), responseModalities=["TEXT"])
    thinking = config.pop("thinkingConfig", None)
    if (effort := effort_of(thinking)) is not None:
        config["thinkingConfig"] = {
            key: value.lower() if isinstance(value, str) else value
            for key, value in thinking.items()
            if key != "includeThoughts"
        }
        if effort != "none" or "thinkingLevel" in thinking:
            config["thinkingConfig"]["includeThoughts"] = effort != "none"
    if config:
        body["generationConfig"] = config
    return body


def _merged(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    merged: list[dict[str, Any]] = []
    for turn in turns:
        if merged and merged[-1]["role"] == turn["role"]:
            merged[-1]["parts"] += turn["parts"]
        else:
            merged.append(turn)
    return merged or [{"role": "user", "parts": [{"text": ""}]}]


def _lossy_turn(turn: dict[str, Any]) -> dict[str, Any]:
    parts = []
    for part in turn["parts"]:
        part = _without(part, thought=False)
        part.pop("thoughtSignature", None)
        if not part.get("thought") and part != {"text": ""}:
            if "functionCall" in part:
                part = {"functionCall": {"args": {}, **part["functionCall"]}}
            if "functionResponse" in part:
                part = {"functionResponse": _without(part["functionResponse"], parts=[])}
            parts.append(part)
    return {"role": turn["role"], "parts": parts}


def _without(value: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key not in fields or fields[key] != item}


def rebuilt(recorded: dict[str, Any], model: str) -> dict[str, Any]:
    """What is written for a plain body, without made-up ids and signatures."""
    body: dict[str, Any] = json.loads(write_request(canonical(recorded), model).body)
    for turn in body["contents"]:
        for part in turn["parts"]:
            part.pop("thoughtSignature", None)
            for inner in part.values():
                if isinstance(inner, dict) and str(inner.get("id", "")).startswith("made-up-"):
                    del inner["id"]
    return body


@needs_recordings
@pytest.mark.parametrize("name", WITH_REQUEST)
def test_recorded_requests_are_rebuilt(name: str) -> None:
    recording = load(name)
    model = recording["request"]["url"].rpartition("/models/")[2].partition(":")[0]
    recorded = plain(recording["request"]["body"])
    if name == "vertex/generate-error-400-invalid-request-01.json":
        # Its role is the error that it was recorded for: the writer cannot be brought to write it.
        assert [turn["role"] for turn in recorded["contents"]] != [
            turn["role"] for turn in rebuilt(recorded, model)["contents"]
        ]
        return
    assert rebuilt(recorded, model) == losses(recorded)


SOURCE_HAD_NO_REQUEST = "vertex/generate-text-02.json"


@needs_recordings
def test_recordings_without_a_request_are_those_whose_source_had_none() -> None:
    without = [name for name in RECORDED if name not in WITH_REQUEST and name != SOURCE_HAD_NO_REQUEST]
    assert {load(name)["fidelity"] for name in without} == {"response-only"}
    assert len(WITH_REQUEST) == 140


CHATS = [name for name in names("openai", "chat") if load(name)["request"]["body"]]
NOT_CANONICAL = "openai/chat-error-400-invalid-request-02.json"  # recorded for content that is neither text nor parts


@needs_recordings
@pytest.mark.parametrize("model", [NEW, MIDDLE, OLD])
@pytest.mark.parametrize("name", [name for name in CHATS if name != NOT_CANONICAL])
def test_recorded_chats_can_all_be_said(name: str, model: str) -> None:
    chat = read_canonical(json.dumps(load(name)["request"]["body"]).encode())
    body = json.loads(write_request(chat, model).body)
    given = [
        part.text for message in chat.messages for part in message.parts if isinstance(part, TextPart) and part.text
    ]
    result_texts = [m.parts[0].text for m in chat.messages if m.role == "tool" and isinstance(m.parts[0], TextPart)]
    parts = [
        *body.get("systemInstruction", {}).get("parts", ()),
        *(p for turn in body["contents"] for p in turn["parts"]),
    ]
    kept = [part["text"] for part in parts if "text" in part]
    assert sorted(text for text in kept if text) == sorted(text for text in given if text not in result_texts)
    assert sum("functionResponse" in part for part in parts) == len(result_texts)
    assert sum("functionCall" in part for part in parts) == sum(len(m.tool_calls) for m in chat.messages)
    assert sum("inlineData" in part or "fileData" in part for part in parts) == sum(
        not isinstance(part, TextPart) for message in chat.messages for part in message.parts
    )


@pytest.mark.parametrize(
    ("model", "most"), [("gemini-2.5-pro", 65_536), ("gemini-3.8-flash", 65_536), ("gemini-4-argon", None), ("x", None)]
)
def test_no_more_output_is_asked_for_than_the_family_can_write(model: str, most: int | None) -> None:
    made = write_request(
        ChatRequest(messages=(Message(role="user", parts=(TextPart("hi"),)),), max_tokens=128_000), model
    )
    assert json.loads(made.body)["generationConfig"]["maxOutputTokens"] == (most or 128_000)
    assert made.dropped == ((f"max_tokens>{most}",) if most else ())
