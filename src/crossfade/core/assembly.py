"""Stream events put together: into the answer that they are pieces of, or many small ones into few."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from crossfade.core.exchange import Choice, Completion, Finish, StreamEvent, ToolCall, ToolDelta, Usage
from crossfade.core.failure import Failure


class _ChoiceParts:
    """The pieces of one choice so far."""

    __slots__ = (
        "failure",
        "finish",
        "has_other_content",
        "raw_finish",
        "reasoning",
        "refusal",
        "stopped_by_sequence",
        "text",
        "tools",
    )

    def __init__(self, text: list[str]) -> None:
        self.text = text
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.tools: dict[int, list[str]] = {}  # index -> [id, name, piece, piece, ...]
        self.finish: Finish | None = None
        self.raw_finish: str | None = None
        self.stopped_by_sequence = False
        self.has_other_content = False
        self.failure: Failure | None = None

    def fork(self) -> _ChoiceParts:
        other = _ChoiceParts(self.text[:])
        other.reasoning, other.refusal = self.reasoning[:], self.refusal[:]
        other.tools = {index: pieces[:] for index, pieces in self.tools.items()}
        other.finish, other.raw_finish = self.finish, self.raw_finish
        other.stopped_by_sequence, other.has_other_content = self.stopped_by_sequence, self.has_other_content
        other.failure = self.failure
        return other

    def add(self, event: StreamEvent) -> None:
        if event.text:
            self.text.append(event.text)
        if event.reasoning:
            self.reasoning.append(event.reasoning)
        if event.refusal:
            self.refusal.append(event.refusal)
        for delta in event.tools:
            pieces = self.tools.get(delta.index)
            if pieces is None:
                pieces = self.tools[delta.index] = ["", ""]
            pieces[0] = pieces[0] or delta.id
            pieces[1] = pieces[1] or delta.name
            pieces.append(delta.arguments)
        if event.has_other_content:
            self.has_other_content = True
        if event.finish is not None or event.raw_finish is not None:
            self.finish = event.finish or self.finish
            self.raw_finish = event.raw_finish or self.raw_finish
            self.stopped_by_sequence = self.stopped_by_sequence or event.stopped_by_sequence
        if event.failure is not None:
            self.failure = event.failure

    def choice(self, index: int) -> Choice:
        calls = tuple(ToolCall(p[0], p[1], "".join(p[2:])) for _, p in sorted(self.tools.items()))
        return Choice(
            index=index,
            text="".join(self.text),
            reasoning="".join(self.reasoning),
            refusal="".join(self.refusal),
            tool_calls=calls,
            finish=self.finish,
            raw_finish=self.raw_finish,
            stopped_by_sequence=self.stopped_by_sequence,
            has_other_content=self.has_other_content,
            failure=self.failure,
        )


class Assembly:
    """An answer that grows by events; `completion()` is what it amounts to so far."""

    __slots__ = ("_choices", "created", "first_text", "id", "model", "usage")

    def __init__(self) -> None:
        self._choices: dict[int, _ChoiceParts] = {}
        self.first_text: list[str] = []
        """The pieces of the first choice's text. Once it has some, more may be appended."""
        self.usage: Usage | None = None
        self.id = ""
        self.model = ""
        self.created = 0

    def add(self, event: StreamEvent) -> None:
        if not self.id and (event.id or event.model):
            self.id, self.model, self.created = event.id, event.model, event.created
        if event.usage is not None:
            self.usage = event.usage
        if event.has_content or event.finish is not None or event.raw_finish is not None or event.failure is not None:
            parts = self._choices.get(event.choice)
            if parts is None:
                parts = self._choices[event.choice] = _ChoiceParts([] if event.choice else self.first_text)
            parts.add(event)

    def fork(self) -> Assembly:
        """An independent copy: what is added to it does not show here."""
        other = Assembly()
        other._choices = {index: parts.fork() for index, parts in self._choices.items()}
        if 0 in other._choices:
            other.first_text = other._choices[0].text
        other.usage, other.id, other.model, other.created = self.usage, self.id, self.model, self.created
        return other

    def text(self, choice: int = 0) -> str:
        parts = self._choices.get(choice)
        return "".join(parts.text) if parts is not None else ""

    def drop_text(self, choice: int = 0) -> None:
        """Forgets the text but for a sign that there was some, to bound memory."""
        if choice in self._choices:
            del self._choices[choice].text[1:]

    @property
    def has_answer(self) -> bool:
        return bool(self._choices)

    def completion(self) -> Completion:
        choices = [parts.choice(index) for index, parts in sorted(self._choices.items())]
        return Completion(
            id=self.id, model=self.model, created=self.created, choices=choices or [Choice()], usage=self.usage
        )


# --- many events into few --------------------------------------------------------------------------------------


class MadeEvent(StreamEvent, kw_only=True, gc=False):
    """An event that no upstream sent in this form: it has no `raw` and is always written anew."""


_Kind = Literal["text", "reasoning", "refusal", "tools"]


def merged(events: Iterable[StreamEvent]) -> list[StreamEvent]:
    """The same stream in fewer events: neighbours that only go on with the same thing become one.

    What carries more than text, reasoning, refusal or tool calls (an end, usage, a vendor's own data) stays as it is.
    """
    out: list[StreamEvent] = []
    run: list[StreamEvent] = []
    kind: _Kind | None = None
    for event in events:
        its_kind = _only_kind(event)
        if run and (its_kind != kind or event.choice != run[0].choice):
            out.append(_one_of(run, kind))
            run.clear()
        if its_kind is None:
            out.append(event)
        else:
            run.append(event)
        kind = its_kind
    if run:
        out.append(_one_of(run, kind))
    return out


def _only_kind(event: StreamEvent) -> _Kind | None:
    """What an event is about, if it is about one thing only."""
    if (
        event.finish is not None
        or event.raw_finish is not None
        or event.usage is not None
        or event.failure is not None
        or event.is_end
        or event.has_other_content
        or event.native is not None
    ):
        return None
    kinds: list[_Kind] = []
    if event.text:
        kinds.append("text")
    if event.reasoning:
        kinds.append("reasoning")
    if event.refusal:
        kinds.append("refusal")
    if event.tools:
        kinds.append("tools")
    return kinds[0] if len(kinds) == 1 else None


def _one_of(run: list[StreamEvent], kind: _Kind | None) -> StreamEvent:
    first, last = run[0], run[-1]
    if len(run) == 1 and (kind is None or isinstance(first, MadeEvent)):
        return first
    return MadeEvent(
        choice=first.choice,
        text="".join([event.text for event in run]),
        reasoning="".join([event.reasoning for event in run]),
        refusal="".join([event.refusal for event in run]),
        tools=_joined_deltas(run) if kind == "tools" else (),
        is_open=any(event.is_open for event in run),
        in_block=last.in_block,
        id=first.id,
        model=first.model,
        created=first.created,
    )


def _joined_deltas(run: list[StreamEvent]) -> tuple[ToolDelta, ...]:
    """The deltas of each call as one, in the order in which the calls began."""
    calls: dict[int, list[str]] = {}  # index -> [id, name, piece, piece, ...]
    for event in run:
        for delta in event.tools:
            pieces = calls.setdefault(delta.index, ["", ""])
            pieces[0] = pieces[0] or delta.id
            pieces[1] = pieces[1] or delta.name
            pieces.append(delta.arguments)
    return tuple(
        ToolDelta(index=index, id=pieces[0], name=pieces[1], arguments="".join(pieces[2:]))
        for index, pieces in calls.items()
    )
