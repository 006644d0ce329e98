"""The simulator as Ollama: its answers have the members of recorded ones, and every fault strikes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from crossfade.simulator.faults import FAULTS, Group
from crossfade.testing import ProviderSimulator, healthy_text
from tests.recordings import names, needs_recordings
from tests.simulator.raw import PROMPT, Reply, Wire, request_bytes
from tests.wire import ollama_recorded as recorded

TEXT = healthy_text(PROMPT)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALLED = [{"role": "user", "content": f"{PROMPT} [[tool]]"}]


@pytest.fixture(scope="module")
def simulator() -> Iterator[ProviderSimulator]:
    with ProviderSimulator() as running:
        yield running


def ask(simulator: ProviderSimulator, fault: str | None = None, quiet: float = 10.0, **fields: Any) -> Reply:
    messages = [{"role": "user", "content": PROMPT}]
    body: dict[str, Any] = {"model": "qwen3:4b", "messages": messages, "stream": False, **fields}
    headers = {"x-simulate": fault} if fault else {}
    with Wire(simulator.port) as wire:
        wire.send(request_bytes("/api/chat", body, headers))
        return wire.reply(quiet)


def lines(reply: Reply) -> list[dict[str, Any]]:
    return [json.loads(line) for line in reply.body.splitlines()]


def test_a_healthy_answer_whole_and_streamed(simulator: ProviderSimulator) -> None:
    whole = ask(simulator).json
    assert whole["message"] == {"role": "assistant", "content": TEXT}
    assert (whole["done"], whole["done_reason"]) == (True, "stop") and whole["eval_count"] > 0
    reply = ask(simulator, stream=True)
    assert reply.headers["content-type"] == "application/x-ndjson"
    *pieces, last = lines(reply)
    assert "".join(one["message"]["content"] for one in pieces) == TEXT and last["done"]
    assert len(lines(ask(simulator, stream=None))) == len(pieces) + 1, "what is not said is a stream"


@needs_recordings
@pytest.mark.parametrize(
    ("case", "fields"),
    [("native-chat-text-stream", {}), ("native-chat-tool-call-stream", {"tools": [TOOL], "messages": CALLED})],
)
def test_a_line_has_no_members_but_those_of_recorded_ones(
    simulator: ProviderSimulator, case: str, fields: dict[str, Any]
) -> None:
    def members(found: list[dict[str, Any]], done: bool) -> set[str]:
        kept = [one for one in found if one["done"] is done]
        return {name for one in kept for name in (*one, *one["message"])}

    sent = lines(ask(simulator, stream=True, **fields))
    known = [json.loads(line) for name in names("ollama", case) for line in recorded.body_of(name).splitlines()]
    for done in (False, True):
        assert members(sent, done) and members(sent, done) <= members(known, done)


def test_thoughts_tools_and_formats(simulator: ProviderSimulator) -> None:
    said = ask(simulator, think=True).json["message"]
    assert said["thinking"] and said["content"] == TEXT
    (call,) = ask(simulator, tools=[TOOL], messages=CALLED).json["message"]["tool_calls"]
    assert call == {"function": {"index": 0, "name": "f", "arguments": {}}}
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert json.loads(ask(simulator, format=schema).json["message"]["content"]) == {"a": 1}
    assert json.loads(ask(simulator, format="json").json["message"]["content"])["answer"]
    assert ask(simulator, options={"num_predict": 2}).json["done_reason"] == "length"


@pytest.mark.parametrize("fault", [name for name, fault in FAULTS.items() if fault.group is Group.STATUS])
def test_every_status_fault_has_its_status_and_words(simulator: ProviderSimulator, fault: str) -> None:
    reply = ask(simulator, fault)
    if fault == "content_filter":
        assert reply.status == 200 and "cannot help" in reply.json["message"]["content"]
    elif fault not in ("redirect", "html_500"):
        assert reply.status == ({"status": 418, "quota": 429, "context": 400}.get(fault) or int(fault))
        assert list(reply.json) == ["error"] and reply.json["error"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_cannot_be_read_is_an_error(simulator: ProviderSimulator, stream: bool) -> None:
    reply = ask(simulator, "bad_tool_args", stream=stream, tools=[TOOL], messages=CALLED)
    assert lines(reply)[-1]["error"].startswith("error parsing tool call")


def test_an_error_in_a_stream_is_its_last_line(simulator: ProviderSimulator) -> None:
    *pieces, last = lines(ask(simulator, "error_event@first; error=503", stream=True))
    assert len(pieces) == 1 and "server busy" in last["error"]


def test_what_cannot_be_is_refused(simulator: ProviderSimulator) -> None:
    user = {"role": "user", "content": "Hi"}
    text = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    refused: list[dict[str, Any]] = [
        {"model": ""},
        {"messages": []},
        {"messages": [{"role": "developer", "content": "x"}]},
        {"messages": [{**user, "images": ["https://x.test/a.png"]}]},
        {"messages": [user, text]},
        {"think": "minimal"},
        {"think": True, "model": "llama3.2"},
    ]
    for fields in refused:
        reply = ask(simulator, **fields)
        assert reply.status == 400 and reply.json["error"]
