"""Any stream a provider could send is read as if no event had been compared with the one before it."""

from __future__ import annotations

import itertools
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.exchange import RequestFacts, StreamEvent
from crossfade.core.failure import Failure, FailureReason
from crossfade.core.target import StreamEnd
from crossfade.wire.openai_stream import ChunkReader
from crossfade.wire.text_run import TextRun

STREAMS_PER_SEED = 250

# Members of a chunk, of its choice and of the delta: those that matter, lookalikes of them in odd places, and spellings
# of their names. `%T` becomes the inside of a JSON string, sound or not; `%P` a padding, or what looks like one.
TOP = [
    '"id":"chatcmpl-1"', '"created":17', '"usage":null', '"usage" : null', '"usag\\u0065":null',
    '"usage":{"prompt_tokens":1}', '"obfuscation":"%P"', '"p":"%P"', '"\\u0070":"%P"', '"\\"p":"%P"', '"p":7',
    '"q":{"p":"%P"}', '"q":{"content":"%T"}', '"q":[{"usage":null}]', '"content":"%T"', '"error":null',
    '"error":{"message":"%P"}', '"citations":["%P"]', '"x_groq":{"error":"%P"}', '"object":"error"', '"choices":[]',
    '"x":"\\"content\\":\\"%P\\""', '"model":"%P"',
]  # fmt: skip
CHOICE = [
    '"finish_reason":null', '"finish_reason":"%P"', '"finish_reason":"stop"', '"logprobs":null', '"usage":null',
    '"p":"%P"', '"content":"%T"', '"index":0', '"index":1', '"delta":{"content":"%T"}', '"stop_reason":"%P"',
    '"error":{"message":"x"}',
]  # fmt: skip
DELTA = [
    '"content":"%T"', '"content": "%T"', '"c\\u006fntent":"%T"', '"\\"content":"%T"', '"content":null',
    '"content":["%T"]', '"role":"assistant"', '"refusal":"%P"', '"reasoning":"%T"', '"x":{"content":"%T"}',
    '"p":"%P"', '"usage":null', '"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"%P"}}]',
    '"obfuscation":"%P"',
]  # fmt: skip
TEXTS = [
    b"", b"0", b"1", b" word", b'\\"', b"\\\\", b"\\n", b"\\u0041", b"\\ud83d\\ude00", "ä😀".encode(), b"}}]}",
    b'\\"content\\":\\"', b',\\"usage\\":null', b"long" * 50,
]  # fmt: skip
ODD_TEXTS = [
    b'"', b"\\", b"\n", b"\r", b"\x00", b"\xff", b"\\ud800", b"\\udc00", b"\xed\xa0\x80", b"\\x", b'","content":"x',
    b'","p":"', b'"},"p":"', b'"}}],"usage":null,"q":[{"z":{"a":"', b"\n\n", b"\n\ndata: ", b'" ', b'"}}]}\n\n',
]  # fmt: skip
PADDINGS = [b"", b"a", b"7", b"aB3", b"xxxxxxxxxxxx"]
ODD_PADDINGS = [b"-", b'"', b"\\n", "ä".encode(), b'","p":"', b'","content":"z', b'"}', b"stop", b"\xff", b'","x":"']
TOKENS = [b"", b'"', b"\\", b",", b"}", b"\n", b"\xff", b'"content":"', b',"usage":null', b'"p":"a",', b"\n\n"]
BETWEEN = [
    b"data: [DONE]\n\n", b": ping\n\n", b"\n", b"\r\n", b"\xef\xbb\xbf", b'event: error\ndata: {"a":1}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n', b"data: x\n\n",
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n', b'{"error":{"message":"x"}}',
]  # fmt: skip
STARTS = ["data:", "event: x\ndata: ", ": c\ndata: ", "\ufeffdata: "]
ENDS = ["\r\n\r\n", "\n\r\n", " \n\n", "\n\n\n", "\n", "\n: c\n\n"]


def some_of(dice: random.Random, base: list[str], pool: list[str]) -> str:
    members = list(base)
    for _ in range(dice.choice((0, 0, 0, 1, 1, 2))):
        members.insert(dice.randint(0, len(members)), dice.choice(pool))
    return "{" + ",".join(members) + "}"


def shape(dice: random.Random) -> bytes:
    if dice.random() < 0.3:  # as the vendors send it
        usage = dice.choice(("", "", ',"usage":null'))
        padding = dice.choice((',"obfuscation":"%P"', ',"p":"%P"'))
        return b'data: {"choices":[{"index":0,"delta":{"content":"%%T"}}]%b}\n\n' % f"{usage}{padding}".encode()
    delta = some_of(dice, ['"content":"%T"'], DELTA)
    choice = some_of(dice, ['"index":0', f'"delta":{delta}'], CHOICE)
    chunk = some_of(dice, [f'"choices":[{choice}]'], TOP)
    start = dice.choice(STARTS) if dice.random() < 0.05 else "data: "
    return f"{start}{chunk}{dice.choice(ENDS) if dice.random() < 0.05 else chr(10) * 2}".encode()


def filled(dice: random.Random, pattern: bytes, odd: float) -> bytes:
    first, *parts = pattern.split(b"%")
    event = first
    for part in parts:
        pools = (TEXTS, ODD_TEXTS) if part[:1] == b"T" else (PADDINGS, ODD_PADDINGS)
        event += dice.choice(pools[dice.random() < odd]) + part[1:]
    return event


def stream(dice: random.Random) -> list[bytes]:
    """Events of a few shapes, in runs or in turns, some of them mutilated, with something else between them."""
    odd, mutilated = dice.choice((0, 0, 0.02, 0.2)), dice.choice((0, 0, 0.03, 0.15))
    events = [b'data: {"id":"i","model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n']
    for _ in range(dice.choice((1, 1, 2, 4))):
        shapes = [shape(dice) for _ in range(dice.choice((1, 1, 1, 2)))]
        events += [filled(dice, dice.choice(shapes), odd) for _ in range(dice.choice((3, 12, 30)))]
    for number, event in enumerate(events):
        if dice.random() < mutilated:
            at = dice.randint(0, len(event))
            events[number] = event[:at] + dice.choice(TOKENS) + event[at + dice.choice((0, 0, 1, 5)) :]
        if dice.random() < 0.02:
            events[number] += dice.choice(BETWEEN)
    return [*events, dice.choice(BETWEEN)]


def reads_of(dice: random.Random, events: list[bytes]) -> list[bytes]:
    """How the bytes come: an event a read mostly, or split near and far from where events end."""
    if dice.random() < 0.6:
        return [event for event in events if event]
    data = b"".join(events)
    cuts = {0, len(data)} | {dice.randint(0, len(data)) for _ in range(dice.randint(0, 40))}
    end = 0
    for event in events:
        end += len(event)
        if dice.random() < 0.6:
            cuts.add(min(len(data), max(0, end + dice.choice((0, 0, 0, -1, 1)))))
    edges = sorted(cuts)
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


def error(value: Any) -> Failure:
    return Failure(reason=FailureReason.SERVER_ERROR, detail=repr(value)[:200])


def reader_for(dice: random.Random) -> ChunkReader:
    facts, end = RequestFacts(n=dice.choice((1, 1, 2))), dice.choice(list(StreamEnd))
    return ChunkReader(facts, read_error=error, stream_end=end, strip_usage=dice.random() < 0.5)


def said(reader: ChunkReader, reads: list[bytes]) -> list[object]:
    """All that a reader says, and what it knows after each read, as the relay asks it."""
    found: list[object] = []
    for data in reads:
        if (more := reader.more_text(data)) is not None:
            assert reader._head is not None
            name, model, created = reader._head
            found.append(StreamEvent(raw=more[0], text=more[1], id=name, model=model, created=created))
        else:
            found += reader.feed(data)
        found.append((reader.is_complete, reader.undecodable))
    return [*found, *reader.close(), reader.is_complete, reader.undecodable, repr(reader)]


def said_without_comparing(reader: ChunkReader, reads: list[bytes]) -> list[object]:
    reader._run = TextRun(b"\0", lambda event: None)  # learns nothing, for no event has such a member
    return said(reader, reads)


def said_of_whole_events(reader: ChunkReader, reads: list[bytes]) -> list[object]:
    """As `said`, but a read that is one event is decoded whole, and the first of several is."""
    found: list[object] = []
    for data in reads:
        reader._head = None
        found += reader.feed(data)
        found.append((reader.is_complete, reader.undecodable))
    return [*found, *reader.close(), reader.is_complete, reader.undecodable, repr(reader)]


def nameless(found: list[object]) -> list[object]:
    """Without ids and the like: an event of a run has them from the first."""
    return [
        msgspec.structs.replace(one, id="", model="", created=0) if isinstance(one, StreamEvent) else one
        for one in found
    ]


def check(dice: random.Random) -> None:
    reads, seed = reads_of(dice, stream(dice)), dice.random()
    compared = said(reader_for(random.Random(seed)), reads)
    assert compared == said_without_comparing(reader_for(random.Random(seed)), reads)
    # What is no UTF-8 in a member that a piece of text has no need of is not seen in one, whether compared or not.
    reads = [data.replace(b"\xff", b"?") for data in reads]
    compared = said(reader_for(random.Random(seed)), reads)
    assert nameless(compared) == nameless(said_of_whole_events(reader_for(random.Random(seed)), reads))


@pytest.mark.parametrize("seed", range(4))
def test_a_stream_says_the_same_whether_its_events_are_compared_or_decoded(seed: int) -> None:
    for number in range(STREAMS_PER_SEED):
        check(random.Random(seed * 1_000_003 + number))


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_a_stream_says_the_same_whatever_it_is_drawn_to_be(dice: random.Random) -> None:
    check(dice)
