"""The simulator as Cohere: its streams have the order and the members of recorded ones, and every fault strikes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from crossfade.simulator.faults import FAULTS, Group
from crossfade.testing import ProviderSimulator, healthy_text
from tests.recordings import names, needs_recordings
from tests.simulator.raw import PROMPT, Reply, Wire, request_bytes
from tests.wire import cohere_recorded as recorded

TEXT = healthy_text(PROMPT)


@pytest.fixture(scope="module")
def simulator() -> Iterator[ProviderSimulator]:
    with ProviderSimulator() as running:
        yield running


def ask(simulator: ProviderSimulator, fault: str | None = None, quiet: float = 10.0, **fields: Any) -> Reply:
    messages = [{"role": "user", "content": PROMPT}]
    body: dict[str, Any] = {"model": "command-a-03-2025", "messages": messages, **fields}
    headers = {"x-simulate": fault} if fault else {}
    with Wire(simulator.port) as wire:
        wire.send(request_bytes("/v2/chat", body, headers))
        return wire.reply(quiet)


def test_a_healthy_answer_whole_and_streamed(simulator: ProviderSimulator) -> None:
    whole = ask(simulator).json
    assert whole["message"] == {"role": "assistant", "content": [{"type": "text", "text": TEXT}]}
    assert whole["finish_reason"] == "COMPLETE" and whole["usage"]["tokens"]["output_tokens"] > 0
    reply = ask(simulator, stream=True)
    assert reply.headers["content-type"] == "text/event-stream" and reply.body.endswith(b"data: [DONE]\n\n")
    deltas = [event["delta"]["message"] for event in recorded.events(reply.body) if event["type"] == "content-delta"]
    assert "".join(delta["content"]["text"] for delta in deltas) == TEXT


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@needs_recordings
@pytest.mark.parametrize(
    ("case", "fields"),
    [
        ("chat-text-stream", {}),
        ("chat-tool-call-stream", {"tools": [TOOL], "tool_choice": "REQUIRED"}),
        ("chat-reasoning-stream", {"model": "command-a-reasoning-08-2025", "thinking": {"type": "enabled"}}),
    ],
)
def test_a_stream_has_the_order_and_members_of_recorded_ones(
    simulator: ProviderSimulator, case: str, fields: dict[str, Any]
) -> None:
    def order(events: list[dict[str, Any]]) -> list[str]:
        kinds = [event["type"] for event in events]
        return [kind for at, kind in enumerate(kinds) if not at or kind != kinds[at - 1]]

    def members(events: list[dict[str, Any]]) -> dict[str, set[str]]:
        return {event["type"]: {*event, *event.get("delta", {})} for event in events}

    sent = list(recorded.events(ask(simulator, stream=True, **fields).body))
    known = [list(recorded.events(recorded.body_of(name))) for name in names("cohere", case)]
    assert order(sent) in [order(events) for events in known]
    assert members(sent) in [members(events) for events in known]


@pytest.mark.parametrize("fault", [name for name, fault in FAULTS.items() if fault.group is Group.STATUS])
def test_every_status_fault_has_its_status_and_words(simulator: ProviderSimulator, fault: str) -> None:
    reply = ask(simulator, fault)
    if fault == "content_filter":
        assert reply.status == 200 and reply.json["finish_reason"] == "ERROR_TOXIC"
    elif fault not in ("redirect", "html_500"):
        assert reply.status == ({"status": 418, "quota": 429, "context": 400}.get(fault) or int(fault))
        assert reply.json["message"] and ("error_type" in reply.json) == (fault == "context")


def test_a_generation_that_fails_says_so_at_its_end(simulator: ProviderSimulator) -> None:
    body = ask(simulator, "error_event@first; error=context", stream=True).body
    *_, last = recorded.events(body)
    assert last["type"] == "message-end" and last["delta"]["finish_reason"] == "ERROR"
    assert last["delta"]["error_type"] == "TOO_MANY_TOKENS" and body.endswith(b"data: [DONE]\n\n")


def test_what_cannot_be_is_refused(simulator: ProviderSimulator) -> None:
    json_object = {"type": "json_object"}
    odd = {"type": "function", "function": {"name": "f-g"}}
    late = [{"role": "user", "content": "Hi"}, {"role": "system", "content": "Be kind."}]
    refused: list[dict[str, Any]] = [
        {"model": ""},
        {"messages": []},
        {"messages": late},
        {"tools": [odd]},
        {"tools": [TOOL], "response_format": json_object},
    ]
    for fields in refused:
        reply = ask(simulator, **fields)
        assert reply.status == 400 and reply.json["message"]
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    said = ask(simulator, response_format={**json_object, "json_schema": schema}).json["message"]["content"]
    assert json.loads(said[0]["text"]) == {"a": 1}
