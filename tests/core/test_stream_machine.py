"""The stream gate over any sequence of events: what has left is always the beginning of what came, in order and once;
nothing leaves before its time, nothing after a failure, and a second stream is added with a proof or not at all."""

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
from crossfade.core.failure import Failure, FailureReason, Origin
from crossfade.core.policy import CommitPolicy, StreamPolicy
from crossfade.core.stream import StreamGate, Transcript
from crossfade.core.verdict import Accepted, Rejected

COMMITS = [
    CommitPolicy(),
    CommitPolicy("chars", 1),
    CommitPolicy("chars", 12),
    CommitPolicy("seconds", 3.0),
    CommitPolicy("complete"),
]
PLAIN = RequestFacts(stream=True)
FACTS = [
    PLAIN,
    PLAIN,
    RequestFacts(stream=True, tools=frozenset({"f"})),
    RequestFacts(stream=True, output=OutputFormat(kind="json_object")),
]
BROKEN = Failure(reason=FailureReason.STREAM_INTERRUPTED, origin=Origin.UPSTREAM)
Sign = tuple[str, str]

LEAST = st.integers(0, 8)
words = st.text(alphabet="ab \n", max_size=30)


def signs_of(event: StreamEvent) -> list[Sign]:
    """What an event says, a sign of it at a time, with its kind."""
    signs = [("reasoning", one) for one in event.reasoning] + [("text", one) for one in event.text]
    signs += [("tool", one) for delta in event.tools for one in f"{delta.name}({delta.arguments}"]
    return signs + ([("finish", event.finish)] if event.finish else [])


class AnyStream(RuleBasedStateMachine):
    """One answer: a stream, and as long as it breaks off where that is allowed, further ones behind it."""

    @initialize(commit=st.sampled_from(COMMITS), facts=st.sampled_from(FACTS), holds=st.booleans(), least=LEAST)
    def begin(self, commit: CommitPolicy, facts: RequestFacts, holds: bool, least: int) -> None:
        self.facts = facts
        self.least = least
        """So many events come before the stream may end or break off: most would be over at once otherwise."""
        self.policy = StreamPolicy(commit=commit, hold_tool_calls=holds, hold_json=holds)
        self.transcript = Transcript(facts, self.policy)
        self.now = 0.0
        self.came: list[Sign] = []  # by all streams, but for what a later one repeats
        self.left: list[Sign] = []
        self.to_repeat = ""
        self.verdict: Accepted | Rejected | None = None
        self.is_first = True
        self.gate = self.new_gate()

    def new_gate(self) -> StreamGate:
        continuation = join = None
        if not self.is_first:
            continuation = self.transcript.continuation(prefill=False)
            join = JoinNote(self.transcript.chars, "a/m", "b/m", "stream_interrupted")
        return StreamGate(
            self.facts, self.policy, self.transcript, self.written, self.judged, 0.0, continuation, join
        )  # fmt: skip

    def written(self, event: StreamEvent) -> bytes:
        return msgspec.json.encode(signs_of(event)) + b"\n"

    def judged(self, completion: Completion) -> Failure | None:
        self.completion = completion
        return None

    def take(self, out: bytes) -> None:
        for line in out.splitlines():
            self.left += [(kind, one) for kind, one in msgspec.json.decode(line)]

    @precondition(lambda self: self.verdict is not None)
    @rule(commit=st.sampled_from(COMMITS), facts=st.sampled_from(FACTS), holds=st.booleans(), least=LEAST)
    def begin_another(self, commit: CommitPolicy, facts: RequestFacts, holds: bool, least: int) -> None:
        self.begin(commit, facts, holds, least)

    def feed(self, event: StreamEvent) -> None:
        self.least -= 1
        was_failed = self.gate.failure is not None
        out = self.gate.feed(event, self.now)
        assert not (was_failed and out), "something left after a failure"
        self.take(out)

    @property
    def is_open(self) -> bool:
        return self.verdict is None and self.gate.failure is None and not self.gate.finished

    # --- what comes ------------------------------------------------------------------------------------------

    @precondition(lambda self: self.is_open and not self.to_repeat)
    @rule(said=words, tokens=st.none() | st.integers(1, 9))
    def on_words(self, said: str, tokens: int | None) -> None:
        event = StreamEvent(text=said, usage=None if tokens is None else Usage(prompt=1, completion=tokens), raw=b"r")
        self.came += signs_of(event)
        self.feed(event)

    @precondition(lambda self: self.is_open and self.is_first)
    @rule(said=words)
    def on_reasoning(self, said: str) -> None:
        event = StreamEvent(reasoning=said, raw=b"r")
        self.came += signs_of(event)
        self.feed(event)

    @precondition(lambda self: self.is_open and not self.to_repeat and self.facts.tools and self.is_first)
    @rule(arguments=words, index=st.integers(0, 1))
    def on_tool(self, arguments: str, index: int) -> None:
        event = StreamEvent(tools=(ToolDelta(index=index, id="t", name="f", arguments=arguments),), raw=b"r")
        self.came += signs_of(event)
        self.feed(event)

    @precondition(lambda self: self.is_open and self.to_repeat)
    @rule(size=st.integers(1, 60), more=words)
    def on_repeated(self, size: int, more: str) -> None:
        """A later stream begins with what the caller has had."""
        piece, self.to_repeat = self.to_repeat[:size], self.to_repeat[size:]
        more = "" if self.to_repeat else more
        self.came += [("text", one) for one in more]
        self.feed(StreamEvent(text=piece + more, raw=b"r"))

    @precondition(lambda self: self.is_open and self.to_repeat and self.least <= 0)
    @rule()
    def on_something_else(self) -> None:
        """A later stream says something else than was delivered; that is known at the latest at its end."""
        before = list(self.left)
        self.feed(StreamEvent(text="1234567890" * 40, raw=b"r"))
        self.take(self.gate.poll(self.now))
        self.verdict = Rejected(failure=BROKEN)
        assert isinstance(self.gate.end(True), Rejected)
        assert self.left == before, "an unproven text was delivered"

    @precondition(lambda self: self.is_open and not self.to_repeat and self.least <= 0)
    @rule(finish=st.sampled_from([Finish.STOP, Finish.LENGTH]))
    def on_finish(self, finish: Finish) -> None:
        event = StreamEvent(finish=finish, raw_finish=str(finish), raw=b"r")
        self.came += signs_of(event)
        self.feed(event)

    @precondition(lambda self: self.verdict is None)
    @rule(seconds=st.floats(0.0, 2.0))
    def on_time(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.gate.poll(self.now))

    @precondition(lambda self: self.verdict is None)
    @rule()
    def on_nothing(self) -> None:
        """Role chunks and pings."""
        self.feed(StreamEvent(id="x", model="m", raw=b"r"))

    # --- how it ends -----------------------------------------------------------------------------------------

    @precondition(lambda self: self.verdict is None and self.gate.finished)
    @rule()
    def on_end(self) -> None:
        self.feed(StreamEvent(is_end=True, raw=b"r"))
        verdict = self.gate.end(True)
        self.verdict = verdict  # type: ignore[assignment]
        assert isinstance(verdict, Accepted)
        self.take(self.gate.release())
        assert self.left == self.came, "the answer is not whole, or not once"
        if not self.facts.tools:  # pieces of several calls may be put together in another order
            assert self.completion.choices[0].text == "".join(one for kind, one in self.came if kind == "text")

    @precondition(lambda self: self.is_open and self.least <= 0)
    @rule(is_error=st.booleans(), least=LEAST)
    def on_break(self, is_error: bool, least: int) -> None:
        if is_error:
            self.feed(StreamEvent(failure=BROKEN))
        verdict = self.gate.end(False)
        assert isinstance(verdict, Rejected)
        delivered = "".join(one for kind, one in self.left if kind == "text")
        assert self.transcript.chars == len(delivered)
        if not self.gate.committed or self.transcript.barrier is not None or not delivered or self.to_repeat:
            self.verdict = verdict
            return
        self.came = list(self.left)  # what was held of the broken stream is forgotten
        self.to_repeat = delivered
        self.is_first = False
        self.least = least
        self.gate = self.new_gate()

    # --- what must hold --------------------------------------------------------------------------------------

    @invariant()
    def what_left_is_the_beginning_of_what_came(self) -> None:
        if hasattr(self, "gate"):
            assert self.left == self.came[: len(self.left)]

    @invariant()
    def nothing_leaves_before_its_time(self) -> None:
        if not hasattr(self, "gate") or self.verdict is not None:
            return
        if not self.gate.committed:
            assert not self.left
        kinds = {kind for kind, _ in self.left}
        assert "finish" not in kinds
        if self.policy.hold_tool_calls:
            assert "tool" not in kinds
        if self.policy.hold_json and self.facts.output is not None:
            assert "text" not in kinds
        self.check_commit()

    def check_commit(self) -> None:
        if not self.left or not self.is_first:
            return
        commit = self.policy.commit
        assert commit.at != "complete"
        if commit.at == "chars":
            assert len([kind for kind, _ in self.came if kind in ("text", "reasoning")]) >= commit.value
        elif commit.at == "seconds":
            assert self.now >= commit.value


TestAnyStream = AnyStream.TestCase
TestAnyStream.settings = settings(derandomize=True, deadline=None, max_examples=200, stateful_step_count=80)
