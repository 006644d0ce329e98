"""What may leave of a stream, and when; what its end amounts to; many held events put together into few."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core import stream as streams
from crossfade.core.assembly import Assembly, MadeEvent, merged
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
from crossfade.core.join import continuation_of
from crossfade.core.policy import CommitPolicy, StreamPolicy
from crossfade.core.stream import StreamGate, Transcript
from crossfade.core.verdict import Accepted, Rejected
from tests.compiled import interpreted_only

R = FailureReason
PLAIN = RequestFacts(stream=True)
TEXT = "The otters of the harbour sleep in the last of the sun, and nobody takes any notice."


class Stream:
    """A gate and its transcript, fed at given times; `out` is what has left."""

    def __init__(
        self,
        facts: RequestFacts = PLAIN,
        policy: StreamPolicy | None = None,
        before: Stream | None = None,
        failure: Failure | None = None,
        prefill: bool = False,
        passes: bool = False,
    ):
        policy = policy or StreamPolicy()
        self.checked: list[Completion] = []
        self.failure = failure
        self.transcript: Transcript = before.transcript if before else Transcript(facts, policy)
        continuation = self.transcript.continuation(prefill=prefill) if before else None
        join = JoinNote(self.transcript.chars, "a/m", "b/m", "stream_interrupted") if before else None
        self.out: list[str] = []
        self.gate = StreamGate(
            facts, policy, self.transcript, lambda e: _shown(e, "raw"), self._check, 0.0, continuation, join,
            lambda e: _shown(e, "made"), passes=passes,
        )  # fmt: skip

    def _check(self, completion: Completion) -> Failure | None:
        self.checked.append(completion)
        return self.failure

    def feed(self, *events: StreamEvent, at: float = 1.0) -> Stream:
        for event in events:
            if out := self.gate.feed(event, at):
                self.out.append(out.decode())
        return self

    def end(self, is_complete: bool = True) -> Any:
        verdict = self.gate.end(is_complete)
        if isinstance(verdict, Accepted):
            self.out.append(self.gate.release().decode())
        return verdict


def _shown(event: StreamEvent, form: str) -> bytes:
    tools = ",".join(f"{delta.index}:{delta.name}:{delta.arguments}" for delta in event.tools)
    said = [event.text, event.reasoning and f"<{event.reasoning}>", tools and f"[{tools}]", event.finish or ""]
    mark = "" if form == "raw" else "*"
    return mark.encode() + "".join(filter(None, said)).encode() + (b"#" if event.usage else b"")


def text(said: str, **fields: Any) -> StreamEvent:
    return StreamEvent(text=said, raw=b"raw", **fields)


def call(arguments: str, index: int = 0, name: str = "", id: str = "") -> StreamEvent:  # noqa: A002 - the member's name
    return StreamEvent(tools=(ToolDelta(index=index, id=id, name=name, arguments=arguments),), raw=b"raw")


STOP = StreamEvent(finish=Finish.STOP, raw_finish="stop", raw=b"raw")
END = StreamEvent(is_end=True, raw=b"raw")
ROLE = StreamEvent(raw=b"raw", id="x", model="m")


def counted(tokens: int) -> StreamEvent:
    return StreamEvent(usage=Usage(prompt=1, completion=tokens), raw=b"raw")


# --- holding and committing ----------------------------------------------------------------------------------


def test_text_leaves_at_once_and_the_finish_with_the_end() -> None:
    stream = Stream().feed(ROLE, text(" \n"))
    assert stream.out == [], "white space is no content"
    stream.feed(text("Hello"), text(" you"), STOP, END)
    assert stream.out == [" \nHello", " you"]
    assert isinstance(stream.end(), Accepted) and stream.out[-1] == "stop"
    assert stream.checked[0].choices[0].text == " \nHello you"


@pytest.mark.parametrize(
    "begun",
    [StreamEvent(is_open=True, in_block=True, raw=b"raw"), StreamEvent(has_other_content=True, raw=b"raw")],
    ids=["a block", "a citation"],
)
def test_what_has_no_words_in_another_dialect_commits_to_nothing(begun: StreamEvent) -> None:
    """It would be taken for begun, under this stream's name, by whoever writes the next one's answer."""
    stream = Stream().feed(ROLE, begun)
    assert not stream.gate.committed and stream.gate.content_at, "the upstream is at work"
    assert Stream(passes=True).feed(ROLE, begun).gate.committed, "these bytes are out"
    stream.feed(text("So"))
    assert stream.gate.committed and "".join(stream.out) == "So"


@pytest.mark.parametrize(
    ("commit", "sent"),
    [
        (CommitPolicy(), ["He", "llo"]),
        (CommitPolicy("chars", 4), ["Hello"]),
        (CommitPolicy("chars", 6), []),
        (CommitPolicy("seconds", 0.5), ["He", "llo"]),
        (CommitPolicy("seconds", 1.5), []),
        (CommitPolicy("complete"), []),
    ],
)
def test_commit_points(commit: CommitPolicy, sent: list[str]) -> None:
    stream = Stream(policy=StreamPolicy(commit=commit)).feed(text("He"), text("llo"))
    assert stream.out == sent
    stream.feed(STOP)
    assert isinstance(stream.end(), Accepted) and "".join(stream.out) == "Hellostop"


def test_time_alone_may_commit() -> None:
    stream = Stream(policy=StreamPolicy(commit=CommitPolicy("seconds", 5.0))).feed(text("Hello"))
    assert stream.gate.poll(4.9) == b"" and stream.gate.poll(5.0) == b"Hello" and stream.gate.poll(6.0) == b""


def test_tool_calls_and_json_are_held_to_the_end() -> None:
    stream = Stream(RequestFacts(stream=True, tools=frozenset({"f"}))).feed(text("Look: "), call("{", name="f"))
    stream.feed(call("}"), text("later"), STOP)
    assert stream.out == ["Look: "]
    assert isinstance(stream.end(), Accepted) and stream.out[1] == "[0:f:{][0::}]laterstop"
    facts = RequestFacts(stream=True, output=OutputFormat(kind="json_object"))
    held = Stream(facts).feed(StreamEvent(reasoning="hm", raw=b"raw"), text("{"), text("}"), STOP)
    assert held.out == ["<hm>"] and isinstance(held.end(), Accepted) and held.out[1] == "{}stop"
    free = Stream(facts, StreamPolicy(hold_json=False)).feed(text("{"), text("}"))
    assert free.out == ["{", "}"] and free.transcript.barrier == "inside JSON"


def test_usage_that_comes_before_the_finish_leaves_behind_it_and_once() -> None:
    stream = Stream().feed(counted(0), text("Hi"), counted(1), counted(2), text("!"), STOP, counted(3))
    assert stream.out == ["#Hi", "!"], "what is counted before any content belongs to the opening"
    verdict = stream.end()
    assert isinstance(verdict, Accepted) and verdict.usage == Usage(prompt=1, completion=3)
    assert stream.out[-1] == "stop#"


def test_the_end_is_judged() -> None:
    assert Stream().feed(text("Hi")).end(is_complete=False).failure.reason is R.STREAM_INTERRUPTED
    assert Stream().feed(text("Hi")).gate.end(False, 1).failure.reason is R.MALFORMED_OUTPUT  # type: ignore[union-attr]
    failure = Failure(reason=R.SERVER_ERROR)
    stream = Stream().feed(text("Hi"), StreamEvent(failure=failure), text("more"), STOP)
    assert stream.out == ["Hi"] and stream.end().failure is failure
    soft = Failure(reason=R.EMPTY_OUTPUT)
    assert Stream(failure=soft).feed(STOP).end() == Rejected(failure=soft)


# --- reasoning that is sent back ------------------------------------------------------------------------------

SIGNED = RequestFacts(stream=True, wants_signatures=True)
OPENED = StreamEvent(is_open=True, in_block=True, raw=b"raw")
SIGNATURE = StreamEvent(in_block=True, raw=b"raw")
CLOSED = StreamEvent(raw=b"raw")


def thought(said: str) -> StreamEvent:
    return StreamEvent(reasoning=said, in_block=True, raw=b"raw")


def test_signed_reasoning_is_held_to_the_end_of_its_block() -> None:
    stream = Stream(SIGNED, passes=True).feed(ROLE, OPENED, thought("hm"), thought("ah"), SIGNATURE)
    assert stream.out == []
    stream.feed(CLOSED)
    assert stream.out == ["<hm><ah>"]
    stream.feed(text("So"), text(" then"), OPENED, thought("wait"))
    assert stream.out[1:] == ["So", " then"], "also behind text that has left"
    stream.feed(SIGNATURE, CLOSED, text("."), STOP, END)
    assert stream.out[3:] == ["<wait>", "."]
    assert isinstance(stream.end(), Accepted)


def test_reasoning_that_is_cut_in_its_block_never_leaves() -> None:
    stream = Stream(SIGNED, passes=True).feed(ROLE, text("So"), OPENED, thought("wait"))
    assert isinstance(stream.end(is_complete=False), Rejected)
    assert stream.out == ["So"]
    assert stream.transcript.answer.completion().choices[0].reasoning == ""


@pytest.mark.parametrize(("facts", "passes"), [(PLAIN, True), (SIGNED, False)])
def test_reasoning_that_nobody_signs_leaves_as_it_comes(facts: RequestFacts, passes: bool) -> None:
    stream = Stream(facts, passes=passes).feed(ROLE, thought("hm"))
    assert stream.out == ["<hm>"]


def test_a_tool_call_behind_signed_reasoning_is_held_and_the_reasoning_is_not() -> None:
    begun = StreamEvent(
        tools=(ToolDelta(index=0, id="c", name="f", arguments=""),), is_open=True, in_block=True, raw=b"raw"
    )
    stream = Stream(SIGNED, passes=True).feed(ROLE, OPENED, thought("hm"), SIGNATURE, CLOSED, begun, call("{}"), CLOSED)
    assert stream.out == ["<hm>"]
    stream.feed(StreamEvent(finish=Finish.TOOL_CALLS, raw_finish="tool_use", raw=b"raw"), END)
    assert isinstance(stream.end(), Accepted)
    assert stream.out[1:] == ["[0:f:][0::{}]tool_calls"]


def test_a_time_to_commit_waits_for_the_end_of_signed_reasoning() -> None:
    policy = StreamPolicy(commit=CommitPolicy("seconds", 0.5))
    stream = Stream(SIGNED, policy, passes=True).feed(ROLE, OPENED, thought("hm"), at=0.1)
    assert stream.gate.poll(1.0) == b""
    stream.feed(SIGNATURE, CLOSED, at=1.1)
    assert stream.out == ["<hm>"]


# --- bounds --------------------------------------------------------------------------------------------------


@interpreted_only
def test_held_events_are_put_together_and_bounded_by_their_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MERGE_ABOVE", 4096)
    policy = StreamPolicy(max_held=20_000)
    stream = Stream(policy=policy).feed(call("", name="f", id="c1"))
    for _ in range(400):
        stream.feed(msgspec.structs.replace(call("0123456789"), raw=b"x" * 250))
    stream.feed(STOP)
    assert isinstance(stream.end(), Accepted)
    (out,) = stream.out
    assert out.startswith("*[0:f:0123456789") and out.endswith("]stop")
    assert out.count("0123456789") == 400 and out.count("[") < 40, "the last few may still be as they came"
    assert stream.checked[0].choices[0].tool_calls[0].arguments == "0123456789" * 400
    full = Stream(policy=policy)
    for _ in range(2100):
        full.feed(msgspec.structs.replace(call("0123456789"), raw=b"x" * 250))
    assert full.end().failure.reason is R.MALFORMED_OUTPUT
    several = Stream(RequestFacts(stream=True, n=2), policy)
    for _ in range(100):
        several.feed(msgspec.structs.replace(call("0123456789"), raw=b"x" * 250))
    assert several.end().failure.reason is R.MALFORMED_OUTPUT, "chunks of several choices stay as they came"


def test_text_beyond_the_transcript_is_neither_kept_nor_judged() -> None:
    rejected = Failure(reason=R.REJECTED_OUTPUT)
    stream = Stream(policy=StreamPolicy(max_transcript=100), failure=rejected).feed(
        text("x" * 60), text("y" * 60), STOP
    )
    assert stream.transcript.barrier is not None and "too long" in stream.transcript.barrier
    assert isinstance(stream.end(), Accepted) and len(stream.checked[0].choices[0].text) == 60
    empty = Failure(reason=R.INVALID_TOOL_CALL)
    stream = Stream(policy=StreamPolicy(max_transcript=100), failure=empty).feed(text("x" * 600), STOP)
    assert stream.end().failure is empty


# --- joining -------------------------------------------------------------------------------------------------


def cut_at(length: int) -> Stream:
    stream = Stream().feed(text(TEXT[:length]))
    assert stream.end(is_complete=False).failure.reason is R.STREAM_INTERRUPTED
    return stream


def test_a_replay_gives_only_what_is_new_and_is_content_while_it_repeats() -> None:
    second = Stream(before=cut_at(50)).feed(ROLE, text(TEXT[:30]), at=7.0)
    assert second.out == [] and second.gate.content_at == 7.0
    second.feed(text(TEXT[30:60]), text(TEXT[60:]), STOP)
    assert second.out == [TEXT[50:60], TEXT[60:]] and second.gate.repeated == 50
    assert isinstance(second.end(), Accepted) and second.checked[0].choices[0].text == TEXT
    assert [note.at_chars for note in second.transcript.joins] == [50]


def test_text_that_only_the_end_marker_brings_to_light_is_not_lost() -> None:
    """A vendor without finish reasons: the join is decided when its marker comes."""
    second = Stream(before=cut_at(60))
    anchor = continuation_of(TEXT[:60], prefill=False).anchor
    second.feed(text(f"Sure:\n{anchor} and more"), END)
    assert isinstance(second.end(), Accepted)
    assert "".join(second.out) == " and more"
    unmarked = Stream(before=cut_at(60)).feed(text(f"Sure:\n{anchor} and more"))
    assert isinstance(unmarked.end(), Accepted) and "".join(unmarked.out) == " and more"


def test_a_refused_join_leaves_nothing() -> None:
    first = cut_at(60)
    second = Stream(before=first).feed(text("Harbours are places where ships shelter. " * 10), STOP)
    verdict = second.end()
    assert verdict.failure.code == "join_refused" and second.out == [] and not first.transcript.joins


def test_reasoning_and_a_second_role_are_not_said_again() -> None:
    second = Stream(before=cut_at(60)).feed(ROLE, StreamEvent(reasoning="I was cut off", raw=b"raw"), text(TEXT), STOP)
    assert second.out == [TEXT[60:]] and isinstance(second.end(), Accepted)


def test_after_reasoning_alone_a_second_stream_is_a_clean_start() -> None:
    first = Stream().feed(StreamEvent(reasoning="hm", raw=b"raw"))
    second = Stream(before=first).feed(ROLE, text("Hello"), STOP)
    assert second.out[-1] == "Hello" and isinstance(second.end(), Accepted)
    assert [note.at_chars for note in second.transcript.joins] == [0]


# --- many events into few ------------------------------------------------------------------------------------

pieces = st.one_of(
    st.builds(lambda t, c: StreamEvent(text=t, choice=c), st.text(max_size=3), st.integers(0, 1)),
    st.builds(lambda t: StreamEvent(reasoning=t), st.text(max_size=3)),
    st.builds(lambda t: StreamEvent(refusal=t), st.text(max_size=3)),
    st.builds(lambda t, i: call(t, i, name="f" if not t else "", id=f"c{i}"), st.text(max_size=3), st.integers(0, 2)),
    st.builds(lambda: StreamEvent(text="a", tools=(ToolDelta(index=0, arguments="b"),))),
    st.builds(lambda: StreamEvent(has_other_content=True, text="cited")),
    st.builds(lambda: counted(3)),
    st.builds(lambda: STOP),
    st.builds(lambda: ROLE),
)


@given(st.lists(pieces, max_size=30))
def test_merged_events_are_the_same_stream(events: list[StreamEvent]) -> None:
    few = merged(events)
    assert len(few) <= len(events)
    assert _assembled(few) == _assembled(events) and _assembled(merged(few)) == _assembled(events)
    assert [e for e in few if not isinstance(e, MadeEvent)] == [
        e for e in events if e in (STOP, ROLE) or e.usage or e.has_other_content or (e.text and e.tools) or not _says(e)
    ]
    assert _order(few) == _order(events)


def _says(event: StreamEvent) -> bool:
    return bool(event.text or event.reasoning or event.refusal or event.tools)


def _assembled(events: list[StreamEvent]) -> Completion:
    whole = Assembly()
    for event in events:
        whole.add(event)
    return whole.completion()


def _order(events: list[StreamEvent]) -> list[str]:
    """The kinds in their order, without repetitions."""
    kinds = [
        "text" if e.text else "reasoning" if e.reasoning else "tools" if e.tools else "" for e in events if _says(e)
    ]
    return [kind for number, kind in enumerate(kinds) if number == 0 or kinds[number - 1] != kind]
