"""One attempt's stream, fed by hand: what leaves, and what is noted, however its bytes are split into reads."""

from __future__ import annotations

import itertools
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.exchange import RequestFacts
from crossfade.core.failure import Failure, FailureReason
from crossfade.core.policy import AttemptLimits, StreamPolicy
from crossfade.core.steps import Send
from crossfade.core.stream import StreamGate, Transcript
from crossfade.core.target import Target
from crossfade.core.verdict import Accepted, Rejected, Verdict
from crossfade.engine.relay import Relay
from crossfade.engine.runner import Runner
from crossfade.engine.targets import Upstream
from crossfade.transport.base import ResponseHead
from crossfade.wire.bedrock import ConverseReader
from crossfade.wire.event_stream import write_frame
from crossfade.wire.openai_stream import ChunkReader
from tests.compiled import interpreted_only

pytestmark = interpreted_only

FACTS = RequestFacts(stream=True)
LIMITS = AttemptLimits(
    connect=5.0, first_content=12.0, silence=20.0, idle=30.0, to_commit=300.0, max_stream=3600.0
)  # fmt: skip
HEAD = ResponseHead(200, {"content-type": "text/event-stream"})


def event(text: str, finish: str = "null", more: str = "") -> bytes:
    choice = f'{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":{finish}}}'
    return f'data: {{"id":"c","model":"m","created":5,"choices":[{choice}]{more}}}\n\n'.encode()


TEXTS = [event(word) for word in ("The", " otters", " of", " the", " harbour", " sleep", ".")]
ENDED = [event("", '"stop"'), b"data: [DONE]\n\n"]
BROKEN = [b'data: {"error":{"message":"broken"}}\n\n']
BODIES = [
    TEXTS + ENDED,
    TEXTS + BROKEN,
    TEXTS,
    [*TEXTS[:3], b": ping\n\n", *TEXTS[3:], *ENDED],
    [*TEXTS[:3], event("", more=',"usage":{"prompt_tokens":1,"completion_tokens":3}'), *TEXTS[3:], *ENDED],
    [*TEXTS[:3], b"data: {no json\n\n", *TEXTS[3:], *ENDED],
    [event("one", '"stop"'), *TEXTS, *ENDED],
]


class FakeRunner:
    """The runner of a request with one attempt: remembers what it hears."""

    facts = FACTS

    def __init__(self, *, is_winner: bool = True) -> None:
        self.engine = self
        self.is_winner = is_winner
        self.draining: dict[Relay, float] = {}
        self.out = b""
        self.writes = 0
        self.first_content: list[float] = []
        self.commits: list[float] = []
        self.verdicts: list[Verdict] = []
        self.faults: list[Exception] = []

    def wake_by(self, at: float) -> None: ...

    def drain(self, relay: Relay, until: float) -> None: ...

    def report(self, error: Exception) -> None:
        self.faults.append(error)

    def on_content(self, relay: Relay, now: float) -> None:
        self.first_content.append(now)

    def on_commit(self, relay: Relay, now: float) -> bool:
        self.commits.append(now)
        if not self.is_winner:
            relay.abort()
        return self.is_winner

    def write(self, relay: Relay, out: bytes, now: float) -> None:
        self.out += out
        self.writes += 1

    def on_verdict(self, relay: Relay, verdict: Verdict, now: float) -> None:
        self.verdicts.append(verdict)
        if isinstance(verdict, Accepted):
            self.out += cast(StreamGate, relay.gate).release()


class FakeUpstream:
    """An upstream whose provider reads chunks."""

    def __init__(self) -> None:
        self.provider = self
        self.limits = ()

    def reader(self, facts: RequestFacts) -> ChunkReader:
        return ChunkReader(facts, read_error=lambda _: Failure(reason=FailureReason.SERVER_ERROR), strip_usage=True)


def relay_for(runner: FakeRunner, transcript: Transcript | None = None) -> Relay:
    transcript = transcript or Transcript(FACTS, StreamPolicy())
    gate = StreamGate(FACTS, StreamPolicy(), transcript, lambda e: e.raw, lambda _: None, 0.0, passes=True)
    send = Send(attempt=1, target=Target(key="p/m#0", name="p/m", provider="p", model="m"), limits=LIMITS, stream=True)
    relay = Relay(cast(Runner, runner), send, cast(Upstream, FakeUpstream()), gate, 0.0)
    relay.on_sent()
    relay.on_head(HEAD)
    return relay


def relayed(reads: list[bytes]) -> dict[str, Any]:
    runner, transcript = FakeRunner(), Transcript(FACTS, StreamPolicy())
    relay = relay_for(runner, transcript)
    for data in reads:
        relay.on_body(data)
    relay.on_end()
    (verdict,) = runner.verdicts
    return {
        "out": runner.out,
        "verdict": verdict,
        "chars": relay.delivered_chars,
        "text": transcript.answer.text(),
        "barrier": transcript.barrier,
        "moments": (len(runner.first_content), len(runner.commits)),
        "faults": runner.faults,
    }


@given(body=st.sampled_from(BODIES), cuts=st.lists(st.integers(1, 1500), max_size=6))
def test_a_stream_is_relayed_the_same_however_it_is_read(body: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(body)
    one_by_one = relayed(body)
    at = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    split = relayed([whole[a:b] for a, b in itertools.pairwise(at)])
    assert split == one_by_one
    assert one_by_one["faults"] == []


def test_text_that_passes_moves_the_timers_and_nothing_else() -> None:
    runner = FakeRunner()
    relay = relay_for(runner)
    for data in TEXTS[:3]:
        relay.on_body(data)
    timers = relay.timers
    first, last = timers.first_content_at, timers.last_content_at
    relay.on_body(TEXTS[3])
    assert timers.last_content_at == timers.last_byte_at > last
    assert timers.first_content_at == first and len(runner.commits) == len(runner.first_content) == 1
    before = timers.last_content_at
    relay.on_body(b": ping\n\n")
    assert timers.last_byte_at > timers.last_content_at == before, "a comment is no content"


@pytest.mark.parametrize("how", ["abort", "failure", "lost"])
def test_nothing_passes_once_an_attempt_is_over(how: str) -> None:
    runner = FakeRunner(is_winner=how != "lost")
    relay = relay_for(runner)
    for data in TEXTS[:3]:
        relay.on_body(data)
    if how == "abort":
        relay.abort()
    elif how == "failure":
        relay.on_body(BROKEN[0])
        assert isinstance(runner.verdicts[0], Rejected)
    out, chars = runner.out, relay.delivered_chars
    relay.on_body(TEXTS[3])
    assert (runner.out, relay.delivered_chars) == (out, chars)
    assert bool(out) == (how != "lost")


# --- framings ------------------------------------------------------------------------------------------------

FRAMED = write_frame(
    {":message-type": "event", ":event-type": "contentBlockDelta"},
    b'{"contentBlockIndex":0,"delta":{"text":"The otters."}}',
) + write_frame({":message-type": "event", ":event-type": "messageStop"}, b'{"stopReason":"end_turn"}')


class FramedUpstream:
    """An upstream whose provider reads Amazon's frames, and whole bodies as no answer."""

    def __init__(self) -> None:
        self.provider = self
        self.limits = ()

    def reader(self, facts: RequestFacts) -> ConverseReader:
        return ConverseReader(lambda kind, data: Failure(reason=FailureReason.SERVER_ERROR))

    def completion(self, body: bytes, facts: RequestFacts) -> Failure:
        return Failure(reason=FailureReason.MALFORMED_OUTPUT)


@pytest.mark.parametrize(
    ("media_type", "body", "is_stream"),
    [
        ("application/vnd.amazon.eventstream", FRAMED, True),
        ("application/octet-stream", FRAMED, True),
        ("", FRAMED, True),
        ("application/json", b'{"message":"no frames"}', False),
        ("text/event-stream", b"data: {}\n\n", False),
    ],
)
def test_a_stream_is_known_by_its_readers_framing(media_type: str, body: bytes, is_stream: bool) -> None:
    for size in (1, 5, len(body)):
        runner = FakeRunner()
        gate = StreamGate(
            FACTS, StreamPolicy(), Transcript(FACTS, StreamPolicy()), lambda e: e.text.encode(), lambda _: None, 0.0
        )
        send = Send(
            attempt=1, target=Target(key="p/m#0", name="p/m", provider="p", model="m"), limits=LIMITS, stream=True
        )
        relay = Relay(cast(Runner, runner), send, cast(Upstream, FramedUpstream()), gate, 0.0)
        relay.on_sent()
        relay.on_head(ResponseHead(200, {"content-type": media_type} if media_type else {}))
        for at in range(0, len(body), size):
            relay.on_body(body[at : at + size])
        relay.on_end()
        (verdict,) = runner.verdicts
        assert isinstance(verdict, Accepted) == is_stream and not runner.faults
        assert runner.out == (b"The otters." if is_stream else b"")
