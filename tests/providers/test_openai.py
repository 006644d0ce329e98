from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from crossfade.core.exchange import (
    ChatRequest,
    Completion,
    Continuation,
    FilePart,
    Finish,
    Message,
    Part,
    RequestFacts,
    StreamEvent,
    TextPart,
)
from crossfade.core.failure import Failure
from crossfade.core.failure import FailureReason as R
from crossfade.core.target import StreamEnd, Target, Vendor
from crossfade.providers.anthropic import AnthropicProvider
from crossfade.providers.base import Inbound
from crossfade.providers.bedrock import BedrockClaudeProvider, BedrockProvider
from crossfade.providers.cohere import CohereProvider
from crossfade.providers.compatible import VENDORS
from crossfade.providers.gemini import GeminiProvider
from crossfade.providers.ollama import OllamaProvider
from crossfade.providers.openai import OpenAIProvider
from crossfade.providers.registry import provider_for
from crossfade.wire.openai_chat import read_canonical, read_request, write_completion, write_request
from tests.recordings import RECORDINGS, load, needs_recordings

HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def target(model: str = "m", **more: Any) -> Target:
    return Target(key=f"p/{model}#0", name=f"p/{model}", provider="p", model=model, **more)


def sent(vendor: str, fields: dict[str, Any], to: Target | None = None, **more: Any) -> dict[str, Any]:
    inbound = read_request(json.dumps(HELLO | fields).encode(), {})
    stream = more.pop("stream", inbound.facts.stream)
    request = OpenAIProvider(VENDORS[vendor]).request(inbound, to or target(), "key", stream=stream, **more)
    body: dict[str, Any] = json.loads(request.body)
    return body


# --- vendors -------------------------------------------------------------------------------------------------


def test_each_dialect_has_its_class() -> None:
    classes = {
        "openai": OpenAIProvider,
        "anthropic": AnthropicProvider,
        "gemini": GeminiProvider,
        "bedrock": BedrockProvider,
        "cohere": CohereProvider,
        "ollama": OllamaProvider,
    }
    carried = {"invoke_model": BedrockClaudeProvider}
    for name, vendor in VENDORS.items():
        assert vendor.name == name
        provider = provider_for(vendor)
        assert type(provider) is (carried[vendor.via] if vendor.via else classes[vendor.dialect])
        assert provider.dialect == vendor.dialect


def test_every_vendor_has_an_address_or_leaves_it_to_the_account() -> None:
    of_account = {
        "azure",
        "bedrock",
        "bedrock-claude",
        "bedrock-mantle",
        "databricks",
        "snowflake",
        "cloudflare",
        "compatible",
    }
    for vendor in VENDORS.values():
        assert (vendor.base_url == "") == (vendor.name in of_account)
        assert vendor.hosts or vendor.base_url or vendor.name == "compatible"
        assert not vendor.base_url.endswith("/")
        assert vendor.base_url.startswith(("https://", "http://127.0.0.1:")) or not vendor.base_url


def test_no_variable_or_model_prefix_belongs_to_two_vendors() -> None:
    for field in ("env", "model_prefixes"):
        # One key opens all doors of Bedrock, none of which has an address of its own.
        rows = [vendor for vendor in VENDORS.values() if vendor.name not in ("bedrock-claude", "bedrock-mantle")]
        words = [word for vendor in rows for word in getattr(vendor, field)]
        assert len(set(words)) == len(words)


# --- requests ------------------------------------------------------------------------------------------------


CALLED: list[dict[str, Any]] = [
    {"role": "user", "content": "hello"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "w", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "warm"},
]


@pytest.mark.parametrize("more", [{}, {"max_tokens": 5}, {"crossfade": {"trace": True}}])
@pytest.mark.parametrize("continuation", [None, Continuation(text="so", prefill=True, anchor="so", delivered_tokens=1)])
def test_ids_of_tool_calls_fit_the_vendor_in_a_passed_body(
    more: dict[str, Any], continuation: Continuation | None
) -> None:
    for vendor, wanted in (("mistral", "rKSxKBV4V"), ("openai", "call_1")):
        body = sent(vendor, {"messages": CALLED, **more}, continuation=continuation)
        assert body["messages"][1]["tool_calls"][0]["id"] == body["messages"][2]["tool_call_id"] == wanted
        assert len(body["messages"]) == len(CALLED) + (continuation is not None)


def test_ids_of_tool_calls_fit_the_vendor_in_a_translated_body() -> None:
    inbound: Any = OtherInbound()
    inbound.chat = read_request(json.dumps(HELLO | {"messages": CALLED}).encode(), {}).canonical()
    for vendor, wanted in (("mistral", "rKSxKBV4V"), ("openai", "call_1")):
        body = json.loads(OpenAIProvider(VENDORS[vendor]).request(inbound, target(), "s", stream=False).body)
        assert body["messages"][1]["tool_calls"][0]["id"] == body["messages"][2]["tool_call_id"] == wanted


def test_a_conversation_of_the_vendors_own_passes_byte_for_byte() -> None:
    own = json.dumps(HELLO | {"messages": CALLED}).replace("call_1", "D681PevKs").encode()
    request = OpenAIProvider(VENDORS["mistral"]).request(read_request(own, {}), target(), "s", stream=False)
    assert request.body == own


@pytest.mark.parametrize(
    ("auth", "secret", "header"),
    [
        ("bearer", "s", ("authorization", "Bearer s")),
        ("api-key", "s", ("api-key", "s")),
        ("x-api-key", "s", ("x-api-key", "s")),
        ("none", "s", None),
        ("bearer", None, None),
    ],
)
def test_the_credential_goes_where_the_vendor_wants_it(auth: Any, secret: str | None, header: Any) -> None:
    provider = OpenAIProvider(Vendor(name="v", dialect="openai", base_url="https://x/v1", auth=auth))
    request = provider.request(read_request(json.dumps(HELLO).encode(), {}), target(), secret, stream=False)
    assert request.path == "/chat/completions"
    assert list(request.headers) == [("content-type", "application/json"), *([header] if header else [])]
    assert json.loads(request.body) == HELLO


def test_usage_is_asked_for_where_the_vendor_knows_the_option() -> None:
    usage = {"stream_options": {"include_usage": True}}
    assert sent("openai", {"stream": True}) == HELLO | {"stream": True} | usage
    assert sent("openai", {}, stream=True) == HELLO | {"stream": True} | usage
    assert sent("openai", {}) == HELLO
    assert sent("perplexity", {"stream": True} | usage) == HELLO | {"stream": True}


@pytest.mark.parametrize(
    ("vendor", "given", "to", "expected"),
    [
        ("openai", {"max_tokens": 5}, target(), {"max_tokens": 5}),
        ("openai", {"max_tokens": 5}, target(always_thinks=True), {"max_completion_tokens": 5}),
        ("openai", {"max_completion_tokens": 5}, target(), {"max_completion_tokens": 5}),
        ("deepseek", {"max_completion_tokens": 5}, target(), {"max_tokens": 5}),
        ("deepseek", {"max_completion_tokens": 5}, target(always_thinks=True), {"max_tokens": 5}),
        ("deepseek", {"max_tokens": 5}, target(), {"max_tokens": 5}),
        ("deepseek", {"max_completion_tokens": 5}, target(drop_params=("max_completion_tokens",)), {}),
        (
            "deepseek",
            {"max_completion_tokens": 5},
            target(set_params=(("max_tokens", b"7"),)),
            {"max_completion_tokens": 5, "max_tokens": 7},
        ),
        (
            "deepseek",
            {"max_completion_tokens": 5},
            target(set_params=(("max_completion_tokens", b"7"),)),
            {"max_tokens": 7},
        ),
    ],
)
def test_the_limit_of_tokens_has_the_vendors_name(
    vendor: str, given: dict[str, Any], to: Target, expected: dict[str, Any]
) -> None:
    assert sent(vendor, given, to) == HELLO | expected


def test_a_renamed_limit_is_reduced_by_what_was_delivered() -> None:
    rest = Continuation(text="a", anchor="a", prefill=True, delivered_tokens=2)
    body = sent("deepseek", {"max_completion_tokens": 5}, continuation=rest)
    assert body["max_tokens"] == 3
    assert body["messages"][-1] == {"role": "assistant", "content": "a", "prefix": True}
    assert "prefix" not in sent("groq", {}, continuation=rest)["messages"][-1]


class OtherInbound:
    """A caller of another dialect."""

    dialect: Any = "anthropic"
    facts = RequestFacts()

    chat = ChatRequest(
        messages=(Message(role="user", parts=(TextPart("hello"),)),), max_tokens=9, others=("top_secret",)
    )

    def canonical(self) -> ChatRequest:
        return self.chat

    def body(self, *_: Any, **__: Any) -> bytes:
        raise AssertionError("the bytes of another dialect must not pass")


def test_another_dialect_is_translated() -> None:
    inbound: Inbound = OtherInbound()
    request = OpenAIProvider(VENDORS["openai"]).request(inbound, target(), "s", stream=True)
    assert json.loads(request.body) == HELLO | {
        "max_completion_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert request.dropped == ("top_secret",)
    rest = Continuation(text="par", anchor="par", prefill=True, delivered_tokens=2)
    request = OpenAIProvider(VENDORS["mistral"]).request(inbound, target(), "s", stream=False, continuation=rest)
    body = json.loads(request.body)
    assert body["max_tokens"] == 7
    assert body["messages"][-1] == {"role": "assistant", "content": "par", "prefix": True}


# --- answers -------------------------------------------------------------------------------------------------


def test_a_failure_is_read_by_code_before_status() -> None:
    provider = provider_for(VENDORS["groq"])
    body = (
        b'{"error":{"message":"x","type":"invalid_request_error","code":"tool_use_failed","failed_generation":"<f>"}}'
    )
    failure = provider.failure(400, {"x-request-id": "r"}, body)
    assert (failure.reason, failure.status, failure.request_id) == (R.INVALID_TOOL_CALL, 400, "r")


@pytest.mark.parametrize("status", [500, 502, 503, 529])
def test_html_of_a_proxy_keeps_the_status(status: int) -> None:
    failure = provider_for(VENDORS["openai"]).failure(status, {}, b"<html><title>Oops</title></html>")
    assert failure.reason is (R.OVERLOADED if status in (503, 529) else R.SERVER_ERROR)
    assert failure.message == "Oops"


def test_usage_we_asked_for_is_stripped_and_what_the_caller_asked_for_is_not() -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'

    def raw(vendor: str, facts: RequestFacts) -> bytes:
        return provider_for(VENDORS[vendor]).reader(facts).feed(usage)[0].raw

    assert raw("openai", RequestFacts(stream=True)) == b""
    assert raw("openai", RequestFacts(stream=True, include_usage=True)) == usage
    assert raw("perplexity", RequestFacts(stream=True)) == usage


def test_the_end_of_a_stream_is_the_vendors() -> None:
    assert VENDORS["snowflake"].stream_end is StreamEnd.MARKER
    content = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
    for vendor, expected in (("snowflake", True), ("openai", False)):
        reader = provider_for(VENDORS[vendor]).reader(RequestFacts(stream=True))
        reader.feed(content)
        reader.feed(b"data: [DONE]\n\n")
        assert reader.is_complete is expected


# --- recordings ----------------------------------------------------------------------------------------------
#
# All recordings of OpenAI chat. Cohere's `chat` is its own v2 dialect under the same name, and is left out.


def _names(kind: str) -> list[str]:
    if RECORDINGS is None:
        return []
    found = []
    for path in sorted(RECORDINGS.glob("*/chat-*.json")):
        if path.parent.name == "cohere":
            continue
        is_stream, is_error = "-stream-" in path.name or "in-stream" in path.name, "-error-4" in path.name
        is_error = is_error or "-error-5" in path.name
        if (kind == "all") or (not is_error and is_stream == (kind == "stream")):
            found.append(f"{path.parent.name}/{path.name}")
    return found


def vendor_of(name: str) -> Vendor:
    row = VENDORS[name.split("/")[0]]
    # Anthropic's and others' own compatible endpoints are unknown servers of this dialect
    return row if row.dialect == "openai" else VENDORS["compatible"]


def facts_of(recording: dict[str, Any]) -> RequestFacts:
    request = recording["request"]["body"]
    n = (request or {}).get("n") or 1
    return RequestFacts(stream=True, include_usage=True, n=n)


@needs_recordings
def test_the_recordings_are_all_here() -> None:
    providers = {name.split("/")[0] for name in _names("all")}
    assert len(_names("stream")) == 200
    assert len(_names("buffered")) == 298
    assert {"openai", "azure", "mistral", "groq", "deepseek", "xai", "openrouter", "perplexity", "cerebras"} < providers
    assert {
        "together",
        "huggingface",
        "ollama",
        "llamacpp",
        "vercel-gateway",
        "zai",
        "venice",
        "doubleword",
    } < providers
    assert {"databricks", "snowflake", "cloudflare", "crusoe", "bedrock-mantle", "anthropic"} < providers


# Requests

REFUSED_IN_WHOLE = {
    "llamacpp/chat-error-400-invalid-request-02.json": "temperature",
    "openai/chat-error-400-invalid-request-02.json": "messages[0].content",
}
"""Requests that their provider refused for the same reason."""


@needs_recordings
@pytest.mark.parametrize("name", _names("all"))
def test_recorded_requests_pass_and_translate(name: str) -> None:
    recording = load(name)
    given = recording["request"]["body"]
    if given is None or recording.get("request_truncated"):
        assert recording["fidelity"] == "response-only" or recording.get("request_truncated")
        return
    for separators in ((",", ":"), (", ", ": ")):
        inbound = read_request(json.dumps(given, separators=separators).encode(), {})
        facts = inbound.facts
        same = inbound.body(target(given["model"]), stream=facts.stream, include_usage=facts.include_usage)
        expected = dict(given)
        if facts.stream and not facts.include_usage:
            expected.pop("stream_options", None)
        if not facts.stream:
            expected.pop("stream_options", None)
        assert json.loads(same) == expected
        other = inbound.body(target("another"), stream=facts.stream, include_usage=facts.include_usage)
        assert json.loads(other) == expected | {"model": "another"}
    if name in REFUSED_IN_WHOLE:
        with pytest.raises(Exception, match=REFUSED_IN_WHOLE[name].replace("[", r"\[")):
            inbound.canonical()
        return
    chat = inbound.canonical()
    assert facts.tools == {tool.name for tool in chat.tools}
    assert facts.n == chat.n
    body = write_request(chat, target(given["model"]), stream=facts.stream, include_usage=facts.include_usage)
    check_written(given, json.loads(body))
    again = read_canonical(body)
    assert named(again) == named(msgspec.structs.replace(chat, others=()))


def named(chat: ChatRequest) -> ChatRequest:
    """With a name for inline documents that have none: the API wants one beside the data."""

    def part(one: Part) -> Part:
        is_nameless = isinstance(one, FilePart) and one.data is not None and one.name is None
        return msgspec.structs.replace(one, name="document.pdf") if is_nameless else one

    messages = [msgspec.structs.replace(one, parts=tuple(map(part, one.parts))) for one in chat.messages]
    return msgspec.structs.replace(chat, messages=tuple(messages))


SAME = (
    "model",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "top_logprobs",
    "user",
)


def check_written(given: dict[str, Any], written: dict[str, Any]) -> None:
    """What is written says the same as what was given, for the fields that have a canonical place."""
    for field in (*SAME, "parallel_tool_calls"):
        assert written.get(field) == given.get(field), field
    limits = [given.get(field) for field in ("max_completion_tokens", "max_tokens")]
    assert written.get("max_completion_tokens") == next((limit for limit in limits if limit is not None), None)
    stop = given.get("stop")
    assert written.get("stop") == ([stop] if isinstance(stop, str) else stop or None)
    assert written.get("n", 1) == (given.get("n") or 1)
    assert written.get("stream", False) == (given.get("stream") or False)
    given_tools = [tool["function"] for tool in given.get("tools") or []] + (given.get("functions") or [])
    for tool, original in zip(written.get("tools", []), given_tools, strict=True):
        keys = ("name", "description", "parameters", "strict")
        assert tool["function"] == {key: original[key] for key in keys if original.get(key) is not None}
    for message, original in zip(written["messages"], given["messages"], strict=True):
        check_message(original, message)


def check_message(given: dict[str, Any], written: dict[str, Any]) -> None:
    roles = {"developer": "system", "function": "tool"}
    assert written["role"] == roles.get(given["role"], given["role"])
    assert given.get("tool_call_id") in (None, written.get("tool_call_id"))
    assert text_and_others(written.get("content")) == text_and_others(given.get("content"))
    calls = [call["function"] for call in given.get("tool_calls") or []]
    if given.get("function_call"):
        calls = [given["function_call"]]
    got = [call["function"] for call in written.get("tool_calls", [])]
    assert [call["name"] for call in got] == [call["name"] for call in calls]
    assert [call["arguments"] for call in got] == [arguments_text(call.get("arguments")) for call in calls]


def arguments_text(given: Any) -> str:
    return (given or "{}") if given is None or isinstance(given, str) else json.dumps(given, separators=(",", ":"))


def text_and_others(content: Any) -> tuple[str, list[Any]]:
    if not isinstance(content, list):
        return content or "", []
    text = "".join(part["text"] for part in content if part["type"] == "text")
    urls: list[Any] = []
    for part in content:
        match part:
            case {"type": "image_url", "image_url": {"url": url}} | {"type": "image_url", "image_url": str(url)}:
                urls.append(url)
            case {"type": "document_url", "document_url": url} | {"type": "file", "file": {"file_data": url}}:
                urls.append(url)
            case {"type": "file", "file": {"file_id": url}}:
                urls.append(url)
            case {"type": "input_audio", "input_audio": {"data": url}}:
                urls.append(url)
    return text, urls


# Whole answers

NO_ANSWER = {"azure/chat-error-in-200-01.json": R.CONTENT_FILTER}
FINISHES = {
    "stop": Finish.STOP,
    "length": Finish.LENGTH,
    "tool_calls": Finish.TOOL_CALLS,
    "function_call": Finish.TOOL_CALLS,
    "content_filter": Finish.CONTENT_FILTER,
}


@needs_recordings
@pytest.mark.parametrize("name", _names("buffered"))
def test_recorded_answers_are_read(name: str) -> None:
    recording = load(name)
    completion = provider_for(vendor_of(name)).completion(recording["response"]["body"].encode(), RequestFacts())
    if name in NO_ANSWER:
        assert isinstance(completion, Failure)
        assert completion.reason is NO_ANSWER[name]
        return
    assert isinstance(completion, Completion)
    given = json.loads(recording["response"]["body"])
    assert (completion.id, completion.model) == (given["id"], given["model"])
    assert len(completion.choices) == len(given["choices"])
    for choice, original in zip(completion.choices, given["choices"], strict=True):
        message = original["message"]
        check_text(choice.text, choice.reasoning, message)
        assert choice.refusal == (message.get("refusal") or "")
        assert choice.finish is FINISHES[original["finish_reason"]]
        calls = [call["function"] for call in message.get("tool_calls") or []]
        calls = calls or ([message["function_call"]] if message.get("function_call") else [])
        assert [(call.name, call.arguments) for call in choice.tool_calls] == [
            (call["name"], call["arguments"]) for call in calls
        ]
    if given.get("usage"):
        assert completion.usage is not None
        assert completion.usage.prompt == given["usage"]["prompt_tokens"]
        total = given["usage"]["total_tokens"]
        if name.startswith("xai/"):
            assert completion.usage.prompt + completion.usage.completion == total
        else:
            assert completion.usage.completion == given["usage"]["completion_tokens"]
    written = provider_for(VENDORS["openai"]).completion(write_completion(completion), RequestFacts())
    assert isinstance(written, Completion)
    assert [(one.text, one.reasoning, one.finish) for one in written.choices] == [
        (one.text, one.reasoning, one.finish) for one in completion.choices
    ]
    assert written.usage == completion.usage


def check_text(text: str, reasoning: str, message: dict[str, Any]) -> None:
    content = message.get("content")
    if isinstance(content, list):  # Mistral: thinking and text
        thoughts = [part["text"] for piece in content if piece["type"] == "thinking" for part in piece["thinking"]]
        assert text == "".join(piece["text"] for piece in content if piece["type"] == "text")
        assert reasoning == "".join(thoughts)
    else:
        assert text == (content or "")
        assert reasoning == (message.get("reasoning_content") or message.get("reasoning") or "")


# Streams

BROKEN = {
    "groq/chat-error-in-stream-01.json": R.INVALID_TOOL_CALL,
    "openrouter/chat-error-in-stream-01.json": R.INVALID_REQUEST,
}
UNFINISHED = {"openrouter/chat-no-finish-reason-stream-01.json", "openrouter/chat-no-finish-reason-stream-02.json"}


def read_stream(name: str, *pieces: bytes) -> tuple[list[StreamEvent], bool, int]:
    reader = provider_for(vendor_of(name)).reader(facts_of(load(name)))
    events: list[StreamEvent] = []
    for piece in pieces:
        events.extend(reader.feed(piece))
    events.extend(reader.close())
    return events, reader.is_complete, reader.undecodable


@needs_recordings
@pytest.mark.parametrize("name", _names("stream"))
def test_recorded_streams_say_what_was_sent(name: str) -> None:
    recording = load(name)
    body = recording["response"]["body"].encode()
    events, is_complete, undecodable = read_stream(name, body)
    assert undecodable == 0
    assert is_complete == (name not in BROKEN and name not in UNFINISHED)
    assert [event.failure.reason for event in events if event.failure] == ([BROKEN[name]] if name in BROKEN else [])
    chunks = sent_chunks(recording["response"]["body"])
    expected = Sums()
    for chunk in chunks:
        expected.add_chunk(chunk)
    found = Sums()
    for event in events:
        found.add_event(event)
    assert found.texts == expected.texts
    assert found.reasonings == expected.reasonings
    assert found.refusals == expected.refusals
    assert found.calls == expected.calls
    assert found.finishes == expected.finishes
    last_usage = next((chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage")), None)
    usages = [event.usage for event in events if event.usage]
    if last_usage is None:
        assert usages == []
    else:
        assert usages[-1].prompt == last_usage["prompt_tokens"]
    kept = b"".join(event.raw for event in events)
    lines = [line for line in body.splitlines() if line and not line.startswith(b":")]
    assert [line for line in kept.splitlines() if line] == lines


def sent_chunks(body: str) -> list[dict[str, Any]]:
    lines = [line for line in body.splitlines() if line.startswith("data:")]
    return [json.loads(line[5:]) for line in lines if line[5:].strip() != "[DONE]"]


class Sums:
    """What a stream adds up to, by choice."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.reasonings: dict[int, str] = {}
        self.refusals: dict[int, str] = {}
        self.calls: dict[tuple[int, int], list[str]] = {}
        self.finishes: dict[int, list[Any]] = {}

    def add(self, choice: int, text: str, reasoning: str, refusal: str) -> None:
        for sums, piece in ((self.texts, text), (self.reasonings, reasoning), (self.refusals, refusal)):
            if piece:
                sums[choice] = sums.get(choice, "") + piece

    def add_call(self, choice: int, index: int, *pieces: str) -> None:
        call = self.calls.setdefault((choice, index), ["", "", ""])
        for place, piece in enumerate(pieces):
            call[place] += piece

    def add_event(self, event: StreamEvent) -> None:
        self.add(event.choice, event.text, event.reasoning, event.refusal)
        for tool in event.tools:
            self.add_call(event.choice, tool.index, tool.id, tool.name, tool.arguments)
        if event.finish:
            self.finishes.setdefault(event.choice, []).append(event.finish)

    def add_chunk(self, chunk: dict[str, Any]) -> None:
        for choice in chunk.get("choices") or []:
            delta, index = choice.get("delta") or {}, choice.get("index", 0)
            content, reasoning = delta.get("content") or "", ""
            if isinstance(content, list):
                thoughts = [
                    part["text"] for piece in content if piece["type"] == "thinking" for part in piece["thinking"]
                ]
                reasoning = "".join(thoughts)
                content = "".join(piece["text"] for piece in content if piece["type"] == "text")
            details = "".join(detail.get("text") or "" for detail in delta.get("reasoning_details") or [])
            reasoning = reasoning or delta.get("reasoning_content") or delta.get("reasoning") or details
            self.add(index, content, reasoning, delta.get("refusal") or "")
            for position, call in enumerate(delta.get("tool_calls") or []):
                function = call["function"]
                place = call.get("index", position)
                self.add_call(
                    index, place, call.get("id") or "", function.get("name") or "", function.get("arguments") or ""
                )
            if choice.get("finish_reason"):
                self.finishes.setdefault(index, []).append(FINISHES[choice["finish_reason"]])
