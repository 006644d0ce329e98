"""Every recording is run through the adapters or has a named reason why not, and the page in the docs says so.

What is done with a recording is in `tests/providers/recorded.py`, which also writes the page.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from crossfade.core.errors import InvalidRequest
from tests.providers import recorded, test_openai, test_splits
from tests.recordings import RECORDINGS, load, needs_recordings

ROWS = recorded.rows()


@needs_recordings
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.provider}-{row.api}")
def test_every_recording_is_run_or_has_a_named_reason(row: recorded.Row) -> None:
    outcomes = list(row.outcomes())
    assert len(outcomes) == len(row.names)
    for outcome in outcomes:
        assert bool(outcome.why) == (not outcome.is_rebuilt)
    spoken = recorded.APIS.get((row.provider, row.api)) or recorded.APIS["*", row.api]
    assert all(one.read is None for one in outcomes) == isinstance(spoken, str)


@needs_recordings
def test_no_recording_is_left_out_or_counted_twice() -> None:
    assert RECORDINGS is not None
    index = {line.split("\t")[0] for line in (RECORDINGS / "index.tsv").read_text().splitlines()[1:]}
    files = {f"{path.parent.name}/{path.name}" for path in RECORDINGS.glob("*/*.json")}
    found = [name for row in ROWS for name in row.names]
    assert len(found) == len(set(found)) == 1197 and set(found) == index == files


@needs_recordings
def test_the_streams_that_are_run_are_those_that_are_cut_at_every_byte() -> None:
    run = {
        name
        for row in ROWS
        if isinstance(recorded.APIS.get((row.provider, row.api)) or recorded.APIS["*", row.api], recorded.Spoken)
        for name in row.names
        if load(name)["stream"] and load(name)["response"]["status"] == 200
    }
    assert run == set(test_splits.STREAMS)


@needs_recordings
def test_the_page_is_what_the_run_gives() -> None:
    written = recorded.PAGE.read_text()
    assert written == recorded.page(), "write it anew: python -m tests.providers.recorded"
    assert str(RECORDINGS) not in written


def test_the_page_speaks_of_no_file_and_no_machine() -> None:
    written = recorded.PAGE.read_text()
    assert ".json" not in written and not re.search(r"(?:^|[\s`(])(?:~|[A-Z]:)?[/\\]\w", written)


# --- the run can fail ----------------------------------------------------------------------------------------


def changed(name: str, old: str, new: str, where: str = "response") -> dict[str, Any]:
    """A recording with other words in its answer, or in its request."""
    recording = json.loads(json.dumps(load(name)))
    text = recording[where]["body"] if where == "response" else json.dumps(recording[where]["body"])
    assert old in text
    text = text.replace(old, new, 1)
    recording[where]["body"] = text if where == "response" else json.loads(text)
    return dict(recording)


@needs_recordings
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("openai/chat-text-stream-01.json", '"finish_reason":"stop"', '"finish_reason":null'),
        ("openai/chat-text-01.json", '"finish_reason": "stop"', '"finish_reason": "out_of_cheese"'),
        ("anthropic/messages-text-stream-01.json", '"type":"message_stop"', '"type":"message_on"'),
        ("anthropic/messages-error-400-context-length-01.json", "is too long", "is not nice"),
        ("gemini/generate-text-stream-01.json", '"finishReason"', '"endReason"'),
        ("azure/embeddings-single-01.json", '"data"', '"date"'),
    ],
)
def test_a_damaged_recording_is_not_taken_for_a_good_one(
    name: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = changed(name, old, new)
    for module in (recorded, test_openai, recorded.test_embeddings):
        monkeypatch.setattr(module, "load", lambda _: damaged)
    provider, _, file = name.partition("/")
    with pytest.raises((AssertionError, KeyError)):
        recorded.run(name, provider, file.partition("-")[0])


@needs_recordings
def test_a_request_that_is_read_otherwise_than_it_was_recorded_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "openai/chat-text-01.json"
    assert not recorded.run(name, "openai", "chat").why
    monkeypatch.setattr(recorded, "read_request", lambda body, headers: test_openai.read_request(b"{}", {}))
    with pytest.raises((AssertionError, InvalidRequest)):
        recorded.run(name, "openai", "chat")
