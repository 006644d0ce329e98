"""Every recorded stream means the same wherever the network cuts it in two: each position of each stream is tried.

Feeding a stream in two parts at each of its positions would read it as often as it has bytes, which takes hours for the
long ones. These tests try the same cuts faster, and leave none out:

1. Byte by byte the whole stream is read, which finds where its events end and what each one says; read whole, it says
   the same.
2. What a reader has in hand between two reads is the part of an event that waits for its rest, and what the events
   before told it. So a cut can only change the event it falls into and those that share a read with one of its parts.
   Every event is cut behind its first byte, all events in the same pass, then every event behind its second, and so on:
   at each cut the reader is in its real state, and each read has the rest of one event and the beginning of the next.
   What each single read gives is compared, not only the sum, and at the end all that the reader knows.
3. Events longer than `LONG` are cut behind all further bytes one at a time, each with a copy of the reader as it stood
   before the event, and with the event behind in the second part.
4. In two parts at each position, as in the first sentence, streams up to `SHORT` bytes; so the shorter way is checked
   against the plain one.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from crossfade.core.exchange import RequestFacts, StreamEvent
from crossfade.core.target import Vendor
from crossfade.providers.base import Provider
from crossfade.providers.compatible import VENDORS
from crossfade.providers.registry import provider_for
from crossfade.wire.reader import StreamReader
from tests.compiled import interpreted_only
from tests.recordings import load, needs_recordings, streams

LONG = 512
SHORT = 2500
DIALECTS = {
    "chat": "openai",
    "responses": "responses",
    "messages": "anthropic",
    "anthropic-messages": "anthropic",
    "generate": "gemini",
    "converse": "bedrock",
    "invoke": "bedrock-claude",
    "native-chat": "ollama-native",
}

STREAMS = streams(*DIALECTS)


def dialect_of(name: str) -> str:
    provider, _, file = name.partition("/")
    if provider == "cohere":
        return provider  # its `chat` is a dialect of its own
    return next(dialect for api, dialect in DIALECTS.items() if file.startswith(f"{api}-"))


def provider_of(name: str) -> Provider:
    """The adapter for the API of a recording; the endpoint of another dialect than the vendor's own is an unknown
    server's."""
    dialect = dialect_of(name)
    row: Vendor | None = VENDORS.get(name.partition("/")[0])
    if dialect == "responses":
        return provider_for(msgspec.structs.replace(row or VENDORS["compatible"], dialect="responses"))
    if dialect.startswith(("bedrock", "ollama")):
        return provider_for(VENDORS[dialect])
    if row is None or row.dialect != dialect:
        row = VENDORS["compatible" if dialect == "openai" else dialect]
    return provider_for(row)


def body_of(name: str) -> bytes:
    """The bytes of a recorded answer: text, or frames in base64."""
    response = load(name)["response"]
    text: str = response["body"]
    return base64.b64decode(text) if response.get("encoding") == "base64" else text.encode()


class Stream:
    """A recorded stream: `ends` are the positions at which byte by byte something came out, `said` what it was, and
    `rest` what the end of the body completes."""

    def __init__(self, name: str) -> None:
        recording = load(name)
        n = (recording["request"]["body"] or {}).get("n") or 1
        self.provider = provider_of(name)
        self.facts = RequestFacts(stream=True, include_usage=True, n=n)
        self.body = body_of(name)
        self.ends: list[int] = []
        self.said: list[list[StreamEvent]] = []
        reader = self.reader()
        for at in range(len(self.body)):
            if events := reader.feed(self.body[at : at + 1]):
                self.ends.append(at + 1)
                self.said.append(meant(events))
        self.rest = meant(reader.close())
        self.state = state_of(reader)

    def reader(self) -> StreamReader:
        return self.provider.reader(self.facts)

    def copy_of(self, reader: StreamReader) -> StreamReader:
        return copy.deepcopy(reader, {id(self.provider): self.provider})

    @property
    def begins(self) -> list[int]:
        """Where each event begins, and what is behind the last."""
        return [0, *self.ends]

    def check(self, reader: StreamReader, cuts: Iterable[int], begin: int = 0, end: int | None = None) -> None:
        """Feeds what lies between `begin` and `end` in the pieces that `cuts` make of it, and looks at each read."""
        end = len(self.body) if end is None else end
        event = self.begins.index(begin)
        for first, last in pairwise([begin, *cuts, end]):
            got = meant(reader.feed(self.body[first:last]))
            wanted: list[StreamEvent] = []
            while event < len(self.ends) and self.ends[event] <= last:
                wanted += self.said[event]
                event += 1
            assert got == wanted, (first, last)

    def check_end(self, reader: StreamReader) -> None:
        assert meant(reader.close()) == self.rest
        assert state_of(reader) == self.state


def meant(events: Sequence[StreamEvent]) -> list[StreamEvent]:
    """Events without the line ends around their bytes: with which event a stray one goes depends on the reads."""
    return [msgspec.structs.replace(event, raw=event.raw.strip(b"\r\n,[] \t")) for event in events]


_MEANS = ("_splitter", "_run", "_has_null_usage")


def state_of(value: Any) -> Any:
    """All that a reader knows of the events it has read, in a form that can be compared. What cuts bytes into events
    is empty at the end of a body, and need not have been used for all of them; nor what reads like events quickly."""
    if isinstance(value, dict):
        return {key: state_of(one) for key, one in value.items()}
    if not type(value).__module__.startswith("crossfade.wire") or callable(value):
        return value
    names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    members = {name: getattr(value, name) for name in names} | getattr(value, "__dict__", {})
    return type(value), {name: state_of(one) for name, one in members.items() if name not in _MEANS}


@pytest.fixture(scope="module", params=STREAMS)
def stream(request: pytest.FixtureRequest) -> Stream:
    return Stream(request.param)


@needs_recordings
def test_the_recorded_streams_of_all_dialects_are_here() -> None:
    found = [dialect_of(name) for name in STREAMS]
    counts = {dialect: found.count(dialect) for dialect in (*DIALECTS.values(), "cohere")}
    openai = {"openai": 200, "responses": 65}
    assert counts == openai | {
        "anthropic": 51,
        "gemini": 62,
        "bedrock": 26,
        "bedrock-claude": 9,
        "ollama-native": 9,
        "cohere": 14,
    }


def test_a_stream_read_whole_says_what_it_says_byte_by_byte(stream: Stream) -> None:
    reader = stream.reader()
    stream.check(reader, [])
    stream.check_end(reader)


def test_every_event_may_be_cut_behind_each_of_its_bytes(stream: Stream) -> None:
    spans = list(pairwise([*stream.begins, len(stream.body)]))
    longest = max(end - begin for begin, end in spans)
    for offset in range(min(longest, LONG)):
        reader = stream.reader()
        stream.check(reader, [begin + offset for begin, end in spans if offset < end - begin and begin + offset])
        stream.check_end(reader)


@interpreted_only
def test_a_long_event_may_be_cut_behind_each_further_byte(stream: Stream) -> None:
    before = stream.reader()
    bounds = [*stream.begins, len(stream.body), len(stream.body)]
    for begin, end, behind in zip(bounds, bounds[1:], bounds[2:], strict=False):
        for at in range(begin + LONG, end):
            stream.check(stream.copy_of(before), [at], begin, behind)
        before.feed(stream.body[begin:end])


SHORT_STREAMS = [name for name in STREAMS if len(body_of(name)) <= SHORT]


@pytest.mark.parametrize("stream", SHORT_STREAMS, indirect=True)
def test_a_short_stream_may_be_cut_in_two_anywhere(stream: Stream) -> None:
    for at in range(1, len(stream.body)):
        reader = stream.reader()
        stream.check(reader, [at])
        stream.check_end(reader)
