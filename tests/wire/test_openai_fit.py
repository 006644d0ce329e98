"""What a request of another dialect leaves out for a server of OpenAI's, and what is said in other words."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from crossfade.core.exchange import ChatRequest, FilePart, ImagePart, Message, OutputFormat, TextPart, Tool, ToolCall
from crossfade.core.target import Target, Vendor
from crossfade.providers.openai import OpenAIProvider
from crossfade.wire.anthropic_request import read_request
from crossfade.wire.openai_fit import MAX_USER, fitted
from crossfade.wire.openai_writer import write_request

HI = Message(role="user", parts=(TextPart("hi"),))
CLOSED = b'{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}'
OPEN = b'{"type":"object","properties":{"a":{"type":"string"}},"required":[],"additionalProperties":false}'
TARGET = Target(key="p/m#0", name="p/m", provider="p", model="m")


def fit(model: str, *, takes_top_k: bool = False, **fields: Any) -> tuple[ChatRequest, tuple[str, ...]]:
    return fitted(ChatRequest(messages=(HI,), **fields), model, takes_top_k=takes_top_k)


@pytest.mark.parametrize(
    ("model", "said", "sent"),
    [
        ("gpt-5.4", "low", "low"),
        ("gpt-5.4", "max", "xhigh"),
        ("gpt-6-sol", "high", "high"),
        ("o3", "medium", "medium"),
        ("openai/gpt-oss-120b", "low", "low"),
        ("gpt-4.1", "low", None),
        ("gpt-4o-mini", "low", None),
        ("gpt-5-chat-latest", "low", None),
        ("mistral-large-4", "low", None),
        ("llama3", "low", None),
    ],
)
def test_effort_is_sent_where_it_is_known_to_be_taken(model: str, said: str, sent: str | None) -> None:
    request, dropped = fit(model, reasoning_effort=said)
    assert request.reasoning_effort == sent
    assert dropped == (("reasoning_effort",) if sent is None else ())


@pytest.mark.parametrize(
    ("model", "effort", "is_kept"),
    [
        ("gpt-4.1", None, True),
        ("gpt-5.4", None, True),
        ("gpt-5.4", "low", False),
        ("gpt-5", None, False),
        ("gpt-5-mini", None, False),
        ("gpt-5-chat-latest", None, True),
        ("o4-mini", None, False),
        ("llama3", "low", True),
    ],
)
def test_sampling_is_sent_where_the_model_does_not_think(model: str, effort: str | None, is_kept: bool) -> None:
    request, dropped = fit(model, reasoning_effort=effort, temperature=0.5, top_p=1.0)
    assert (request.temperature, request.top_p) == ((0.5, 1.0) if is_kept else (None, None))
    assert ("temperature" in dropped) != is_kept and "top_p" not in dropped


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("gpt-4.1-mini", 32_768),
        ("gpt-4o", 16_384),
        ("chatgpt-4o-latest", 16_384),
        ("openai/gpt-4o-mini", 16_384),
        ("gpt-5.2-chat-latest", 16_384),
        ("gpt-4-turbo", 4096),
        ("gpt-3.5-turbo", 4096),
        ("o3", 100_000),
        ("gpt-5.4", None),
        ("llama3", None),
    ],
)
def test_no_model_is_asked_for_more_than_it_can_write(model: str, most: int | None) -> None:
    request, dropped = fit(model, max_tokens=128_000)
    assert request.max_tokens == (most or 128_000)
    assert dropped == ((f"max_tokens>{most}",) if most else ())
    assert fit(model, max_tokens=4000)[0].max_tokens == 4000


def test_top_k_is_sent_where_it_is_known_to_be_taken() -> None:
    assert fit("m", takes_top_k=True, top_k=5)[0].top_k == 5
    request, dropped = fit("m", top_k=5)
    assert (request.top_k, dropped) == (None, ("top_k",))


def test_a_long_user_is_dropped() -> None:
    assert fit("m", user="u" * MAX_USER)[0].user == "u" * MAX_USER
    request, dropped = fit("m", user="u" * (MAX_USER + 1))
    assert (request.user, dropped) == (None, ("user",))


@pytest.mark.parametrize(
    ("schema", "is_strict"),
    [
        (CLOSED, True),
        (OPEN, False),
        (b'{"type":"object","properties":{},"required":[],"additionalProperties":false}', True),
        (b'{"type":"object"}', False),
        (b'{"properties":1,"additionalProperties":false}', False),
        (b'{"$defs":{"x":%s},"$ref":"#/$defs/x"}' % OPEN, False),
        (b'{"type":"array","items":%s}' % CLOSED, True),
        (b"null", True),
        (b"{", False),
        (None, False),
    ],
)
def test_strict_is_kept_for_schemas_that_are_closed(schema: bytes | None, is_strict: bool) -> None:
    tools = (Tool(name="f", parameters=schema, strict=True), Tool(name="g", parameters=CLOSED, strict=True))
    output = OutputFormat(kind="json_schema", schema=schema, strict=True)
    request, dropped = fit("m", tools=tools, output=output)
    assert [tool.strict for tool in request.tools] == [is_strict, True]
    assert request.output is not None and request.output.strict is is_strict
    assert dropped == (() if is_strict else ("tools.strict", "response_format.strict"))


def test_what_needs_no_change_is_the_same_request() -> None:
    request = ChatRequest(messages=(HI,), temperature=0.5, tools=(Tool(name="f", parameters=OPEN),))
    found, dropped = fitted(request, "gpt-4.1", takes_top_k=False)
    assert found is request and dropped == ()


# --- conversations -------------------------------------------------------------------------------------------


def messages_of(*messages: Message) -> list[dict[str, Any]]:
    request, dropped = fitted(ChatRequest(messages=messages), "m", takes_top_k=False)
    assert dropped == ()
    body = json.loads(write_request(request, TARGET, stream=False))
    found: list[dict[str, Any]] = body["messages"]
    return found


IMAGE = ImagePart(media_type="image/png", data="AAAA")


def test_media_of_tool_results_come_in_a_users_turn_behind_all_results() -> None:
    calls = (ToolCall("a", "f", ""), ToolCall("b", "f", ""))
    sent = messages_of(
        HI,
        Message(role="assistant", tool_calls=calls),
        Message(role="tool", call_id="a", parts=(TextPart("one"), IMAGE)),
        Message(role="tool", call_id="b", parts=(IMAGE,)),
        Message(role="assistant", parts=(TextPart("ok"),)),
    )
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool", "user", "assistant"]
    assert (sent[2]["content"], sent[3]["content"]) == ("one", "")
    assert [part["type"] for part in sent[4]["content"]] == ["text", "image_url", "text", "image_url"]
    assert "a:" in sent[4]["content"][0]["text"] and "b:" in sent[4]["content"][2]["text"]
    last = messages_of(HI, Message(role="tool", call_id="a", parts=(IMAGE,)))
    assert [message["role"] for message in last] == ["user", "tool", "user"]


def test_text_files_are_text_and_a_pdf_has_a_name() -> None:
    data = base64.b64encode("Grüße".encode()).decode()
    (message,) = messages_of(
        Message(
            role="user",
            parts=(
                FilePart(media_type="text/plain", data=data),
                FilePart(name="a.txt", media_type="text/plain", data=data),
                FilePart(media_type="application/pdf", data="AAAA"),
                FilePart(media_type="text/plain", data="no base64"),
            ),
        )
    )
    first, second, pdf, other = message["content"]
    assert (first["text"], second["text"]) == ("Grüße", "a.txt:\n\nGrüße")
    assert pdf["file"] == {"filename": "document.pdf", "file_data": "data:application/pdf;base64,AAAA"}
    assert other["type"] == "file"


def test_the_provider_says_what_it_left_out() -> None:
    body = {
        "model": "chat",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "e"}}]}],
        "top_k": 3,
        "temperature": 0.5,
        "thinking": {"type": "enabled", "budget_tokens": 5000},
        "metadata": {"user_id": "user_" + "0" * 64},
        "betas": ["b"],
    }
    provider = OpenAIProvider(Vendor(name="openai", dialect="openai", base_url="https://x"))
    target = Target(key="o/m#0", name="o/m", provider="o", model="gpt-5.4")
    made = provider.request(read_request(json.dumps(body).encode(), {}), target, "k", stream=True)
    assert json.loads(made.body) == {
        "model": "gpt-5.4",
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": 9,
        "reasoning_effort": "medium",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert made.dropped == ("betas", "cache_control", "temperature", "top_k", "user")
