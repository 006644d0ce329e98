"""The simulator as Bedrock: its streams have the order and the members of recorded ones, and every fault strikes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import pytest

from crossfade.simulator.faults import FAULTS, Group
from crossfade.testing import ProviderSimulator, healthy_text
from tests.recordings import names, needs_recordings
from tests.simulator.raw import PROMPT, Reply, Wire, request_bytes
from tests.wire import bedrock_recorded as recorded

TEXT = healthy_text(PROMPT)
MESSAGES = [{"role": "user", "content": [{"text": PROMPT}]}]
CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 500}
METHODS = ("converse", "converse-stream", "invoke", "invoke-with-response-stream")


@pytest.fixture(scope="module")
def simulator() -> Iterator[ProviderSimulator]:
    with ProviderSimulator() as running:
        yield running


def ask(
    simulator: ProviderSimulator, method: str, fault: str | None = None, quiet: float = 10.0, **fields: Any
) -> Reply:
    body: dict[str, Any] = {"messages": MESSAGES, **fields}
    if method.startswith("invoke"):
        body = {**CLAUDE, "messages": [{"role": "user", "content": PROMPT}], **fields}
    headers = {"x-simulate": fault} if fault else {}
    with Wire(simulator.port) as wire:
        wire.send(request_bytes(f"/model/anthropic.claude-x%3A0/{method}", body, headers))
        return wire.reply(quiet)


def events_of(method: str, reply: Reply) -> list[tuple[str, dict[str, Any]]]:
    found = list(recorded.frames(reply.body))
    if method.startswith("converse"):
        return found
    return [(one["type"], one) for _, event in found for one in [json.loads(base64.b64decode(event["bytes"]))]]


def test_a_healthy_answer_of_each_method(simulator: ProviderSimulator) -> None:
    whole = ask(simulator, "converse").json
    assert whole["output"]["message"]["content"] == [{"text": TEXT}] and whole["stopReason"] == "end_turn"
    message = ask(simulator, "invoke").json
    assert message["content"] == [{"type": "text", "text": TEXT}] and message["model"] == "anthropic.claude-x:0"
    for method in METHODS[1::2]:
        reply = ask(simulator, method)
        assert reply.headers["content-type"] == "application/vnd.amazon.eventstream"
        deltas = [event["delta"] for _, event in events_of(method, reply) if "delta" in event]
        assert "".join(delta.get("text", "") for delta in deltas) == TEXT


def test_the_sums_of_every_frame_are_right(simulator: ProviderSimulator) -> None:
    body = ask(simulator, "converse-stream").body
    at = 0
    while at < len(body):
        end = at + int.from_bytes(body[at : at + 4], "big")
        assert crc32(body[at : at + 8]) == int.from_bytes(body[at + 8 : at + 12], "big")
        assert crc32(body[at : end - 4]) == int.from_bytes(body[end - 4 : end], "big")
        at = end


def shapes(events: list[tuple[str, dict[str, Any]]]) -> dict[str, set[str]]:
    """The members of each type of event, without those of a block's content."""
    found: dict[str, set[str]] = {}
    for kind, event in events:
        found.setdefault(kind, set()).update(event)
    return found


@needs_recordings
def test_a_stream_has_the_order_and_members_of_recorded_ones(simulator: ProviderSimulator) -> None:
    tool = {"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}
    config = {"tools": [tool], "toolChoice": {"any": {}}}
    sent = events_of("converse-stream", ask(simulator, "converse-stream", toolConfig=config))
    known = [
        list(recorded.frames(recorded.body_of(name)))
        for name in names("bedrock", "converse")
        if "tool-call-stream" in name
    ]
    assert [kind for kind, _ in sent if kind != "contentBlockDelta"] in [
        [kind for kind, _ in events if kind != "contentBlockDelta"] for events in known
    ]
    assert shapes(sent) in [shapes(events) for events in known]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fault", [name for name, fault in FAULTS.items() if fault.group is Group.STATUS])
def test_every_status_fault_has_its_status_and_type(simulator: ProviderSimulator, fault: str, method: str) -> None:
    reply = ask(simulator, method, fault)
    if fault == "content_filter":
        assert reply.status == 200
    elif fault not in ("redirect", "html_500"):
        status = {"status": 418, "quota": 429, "context": 400, "401": 403}.get(fault) or int(fault)
        kind = reply.headers["x-amzn-errortype"].partition(":")[0]
        assert reply.status == status and kind.endswith("Exception")
        assert reply.json["message"] and reply.json["__type"] == kind


@pytest.mark.parametrize("method", METHODS[1::2])
def test_an_error_event_is_an_exception_in_a_frame(simulator: ProviderSimulator, method: str) -> None:
    reply = ask(simulator, method, "error_event@first; error=429")
    assert b":exception-type\x07\x00\x13throttlingException" in reply.body and b"\x09exception" in reply.body


@pytest.mark.parametrize("method", METHODS[1::2])
def test_a_cut_stream_has_fewer_frames(simulator: ProviderSimulator, method: str) -> None:
    whole, cut = ask(simulator, method), ask(simulator, method, "cut_clean@middle")
    kinds = [[kind for kind, _ in events_of(method, reply)] for reply in (whole, cut)]
    assert kinds[0][: len(kinds[1])] == kinds[1] and 1 < len(kinds[1]) < len(kinds[0])


def test_what_invoke_model_does_not_take_is_refused(simulator: ProviderSimulator) -> None:
    for fields in ({"model": "m"}, {"stream": True}, {"anthropic_version": "2023-06-01"}, {"max_tokens": None}):
        reply = ask(simulator, "invoke", **fields)
        assert reply.status == 400 and reply.json["__type"] == "ValidationException"
    assert ask(simulator, "converse", messages=[]).status == 400
