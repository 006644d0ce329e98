"""A gate that stands open: text that only `pass_text` hears of means the same as text that went through `feed`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.assembly import MadeEvent
from crossfade.core.exchange import (
    Completion,
    Finish,
    JoinNote,
    OutputFormat,
    RequestFacts,
    StreamEvent,
    ToolDelta,
    Usage,
)
from crossfade.core.failure import Failure, FailureReason
from crossfade.core.policy import CommitPolicy, StreamPolicy
from crossfade.core.stream import StreamGate, Transcript
from crossfade.core.verdict import Accepted

PLAIN = RequestFacts(stream=True)


class Passing:
    """A gate whose events pass as they came. `is_short`: more text takes the short way wherever the gate allows it."""

    def __init__(
        self, *, is_short: bool, facts: RequestFacts = PLAIN, policy: StreamPolicy | None = None, passes: bool = True
    ):
        policy = policy or StreamPolicy()
        self.is_short = is_short
        self.passed = 0
        self.out = b""
        self.transcript = Transcript(facts, policy)
        self.gate = StreamGate(
            facts, policy, self.transcript, lambda e: e.raw, lambda _: None, 0.0, write_anew=_anew, passes=passes
        )

    def feed(self, *events: StreamEvent) -> Passing:
        for event in events:
            if self.is_short and self.gate.is_open and _is_more_text(event):
                self.passed += 1
                self.gate.pass_text(event.text)
                self.out += event.raw
            else:
                self.out += self.gate.feed(event, 1.0)
        return self

    def end(self) -> dict[str, Any]:
        """All that can be known of it."""
        so_far = self.out
        completion: Completion = self.gate.completion()
        verdict = self.gate.end(True)
        return {
            "so_far": so_far,
            "out": so_far + (self.gate.release() if isinstance(verdict, Accepted) else b""),
            "verdict": verdict,
            "completion": completion,
            "chars": (self.gate.chars, self.transcript.chars),
            "barrier": self.transcript.barrier,
            "is_overlong": self.transcript.is_overlong,
            "state": (self.gate.committed, self.gate.failure, self.gate.finished, self.gate.usage, self.gate.held),
            "delivered": self.transcript.answer.completion(),
        }


def _anew(event: StreamEvent) -> bytes:
    return f"<{event.text}{event.reasoning}>".encode()


def _is_more_text(event: StreamEvent) -> bool:
    """What a reader may give by its short way."""
    return type(event) is StreamEvent and bool(event.text) and event == StreamEvent(raw=event.raw, text=event.text)


def text(said: str, **fields: Any) -> StreamEvent:
    return StreamEvent(text=said, raw=f"({said})".encode(), **fields)


MORE = st.sampled_from([text("and so on"), text(" "), text("x"), text("nothing at all")])
OTHER = st.sampled_from(
    [
        StreamEvent(raw=b"(role)", id="c", model="m", created=5),
        text("with ids", id="c", model="m", created=5),
        text("counted", usage=Usage(prompt=1, completion=2)),
        text("elsewhere", choice=1),
        StreamEvent(text="split off"),
        StreamEvent(raw=b"(r)", reasoning="hm", in_block=True),
        StreamEvent(raw=b"(no)", refusal="no"),
        StreamEvent(raw=b"(t)", tools=(ToolDelta(index=0, id="a", name="f", arguments="{}"),), in_block=True),
        StreamEvent(raw=b"(audio)", has_other_content=True),
        StreamEvent(raw=b"(u)", usage=Usage(prompt=1, completion=7)),
        StreamEvent(raw=b"(stop)", finish=Finish.STOP, raw_finish="stop"),
        StreamEvent(raw=b"(end)", is_end=True),
        StreamEvent(raw=b"(x)", failure=Failure(reason=FailureReason.SERVER_ERROR)),
        MadeEvent(text="made"),
    ]
)
EVENTS = st.lists(st.one_of(MORE, MORE, MORE, OTHER), max_size=25)
POLICIES = st.builds(
    StreamPolicy,
    commit=st.sampled_from([CommitPolicy(), CommitPolicy("chars", 12), CommitPolicy("complete")]),
    hold_tool_calls=st.booleans(),
    hold_json=st.booleans(),
    max_held=st.sampled_from([40, 4096]),
    max_transcript=st.sampled_from([5, 40, 4096]),
)
FACTS = st.sampled_from(
    [PLAIN, RequestFacts(stream=True, n=2), RequestFacts(stream=True, output=OutputFormat(kind="json_object"))]
)


@given(events=EVENTS, policy=POLICIES, facts=FACTS, passes=st.booleans())
def test_the_short_way_means_the_same(
    events: list[StreamEvent], policy: StreamPolicy, facts: RequestFacts, passes: bool
) -> None:
    short, long = (
        Passing(is_short=is_short, facts=facts, policy=policy, passes=passes).feed(*events)
        for is_short in (True, False)
    )
    assert short.end() == long.end()
    assert passes or not short.passed


def test_a_gate_opens_behind_the_first_text_and_closes_before_anything_else() -> None:
    stream = Passing(is_short=True)
    assert not stream.feed(StreamEvent(raw=b"(role)")).gate.is_open
    assert not stream.feed(text("first")).gate.is_open, "what was held left with it"
    assert stream.feed(text("second")).gate.is_open
    assert stream.feed(text("third"), text("fourth")).passed == 2
    assert not stream.feed(StreamEvent(raw=b"(stop)", finish=Finish.STOP)).gate.is_open


@pytest.mark.parametrize(
    "closing",
    [
        StreamEvent(raw=b"(r)", reasoning="hm", in_block=True),
        StreamEvent(raw=b"(t)", tools=(ToolDelta(index=0, id="a", name="f", arguments="{}"),)),
        StreamEvent(raw=b"(u)", usage=Usage()),
        StreamEvent(raw=b"(end)", is_end=True),
        StreamEvent(raw=b"(x)", failure=Failure(reason=FailureReason.SERVER_ERROR)),
        StreamEvent(text="of another event's bytes"),
        text("of another choice", choice=1),
        MadeEvent(text="written anew"),
    ],
)
def test_what_closes_an_open_gate(closing: StreamEvent) -> None:
    stream = Passing(is_short=False).feed(text("first"), text("second"))
    assert stream.gate.is_open
    assert not stream.feed(closing).gate.is_open


def test_a_stream_that_is_joined_or_held_or_written_anew_never_opens() -> None:
    json_facts = RequestFacts(stream=True, output=OutputFormat(kind="json_object"))
    assert not Passing(is_short=False, passes=False).feed(text("a"), text("b")).gate.is_open
    assert not Passing(is_short=False, facts=json_facts).feed(text("a"), text("b")).gate.is_open
    first = Passing(is_short=False).feed(text("The otters sleep. " * 9))
    join = JoinNote(first.transcript.chars, "a/m", "b/m", "stream_interrupted")
    gate = StreamGate(
        PLAIN, StreamPolicy(), first.transcript, _anew, lambda _: None, 0.0,
        first.transcript.continuation(prefill=True), join, passes=True,
    )  # fmt: skip
    for _ in range(3):
        assert gate.feed(text("Nobody minds. "), 1.0)
        assert not gate.is_open
