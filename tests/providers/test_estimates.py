"""The estimate of input tokens beside what providers counted, in the recorded exchanges: it is rough, and must never
keep a request from a target whose window it fits into."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from crossfade.core.exchange import RequestFacts
from crossfade.core.planner import unfitness
from crossfade.core.target import Target
from crossfade.wire import anthropic_request, openai_request, responses_request
from tests.recordings import RECORDINGS, load, needs_recordings

SMALLEST = 2_000
"""Tokens: no model that is called today has a smaller window."""
COUNTS = {
    "chat": (r'"prompt_tokens": ?(\d+)',),
    "responses": (r'"input_tokens": ?(\d+)',),
    "messages": (
        r'"input_tokens": ?(\d+)',
        r'"cache_read_input_tokens": ?(\d+)',
        r'"cache_creation_input_tokens": ?(\d+)',
    ),
}


def counted(api: str, response: Any) -> int:
    """What the provider says that the prompt had; what was cached is beside it in Anthropic's API."""
    text = json.dumps(response).replace('\\"', '"')
    found = [[int(number) for number in re.findall(pattern, text)] for pattern in COUNTS[api]]
    return sum(max(numbers, default=0) for numbers in found)


def facts_of(api: str, body: Any) -> RequestFacts:
    raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    if api == "messages":
        return anthropic_request.read_request(raw, {}).facts
    read = openai_request.read_request if api == "chat" else responses_request.read_request
    return read(raw, {}).facts


def asked() -> list[tuple[str, int, RequestFacts]]:
    """The recorded requests that were answered with a count of their prompt."""
    assert RECORDINGS is not None
    found = []
    for line in (RECORDINGS / "index.tsv").read_text().splitlines()[1:]:
        name, _, api, *_, status, _, _, _, _ = line.split("\t")
        recording = load(name) if api in COUNTS and status == "200" else {"request": {"body": None}}
        body = recording["request"]["body"]
        if isinstance(body, dict) and "model" in body and (tokens := counted(api, recording["response"])):
            found.append((name, tokens, facts_of(api, body)))
    return found


@needs_recordings
def test_no_request_is_kept_from_a_window_that_it_fits_into() -> None:
    requests = asked()
    assert len(requests) > 600
    kept = []
    for name, tokens, facts in requests:
        window = max(tokens, SMALLEST)
        target = Target(key="a/m#0", name="a/m", provider="a", model="m", window=window)
        if unfitness(target, facts) is not None and "window" in str(unfitness(target, facts)):
            kept.append((name, facts.input_tokens, tokens))
    assert kept == []


@pytest.mark.parametrize(("letters", "per_token"), [("word ", 5.0), ("字", 1.0), ("слово ", 3.0)])
def test_long_texts_of_several_scripts_are_within_a_factor_of_two(letters: str, per_token: float) -> None:
    text = letters * 20_000
    facts = facts_of("chat", {"model": "m", "messages": [{"role": "user", "content": text}]})
    assert 0.5 < facts.input_tokens / (len(text) / per_token) < 2.0
