"""Any canonical request and any answer, for hypothesis: what the tests of the dialects draw from.

Requests are such as a reader could have made: results have a call before them, a part has one source, JSON is compact.
Every visible text of a conversation is another one, so that tests can find it again.
"""

from __future__ import annotations

import base64
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from crossfade.core.exchange import (
    AudioPart,
    ChatRequest,
    Choice,
    FilePart,
    Finish,
    ImagePart,
    Message,
    OutputFormat,
    Part,
    StreamEvent,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolDelta,
    Usage,
)

# --- requests -------------------------------------------------------------------------------------------------


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


CLOSED: Final = _json(
    {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
)
"""A schema that OpenAI takes for strict."""
OPEN: Final = _json(
    {"type": "object", "properties": {"a": {"type": "string", "minLength": 2}, "é": {"type": "number"}}}
)
FREE: Final = _json({"type": "object", "additionalProperties": {"type": "string"}})
"""A map of any names, which Anthropic's grammars have no words for."""
UNTYPED: Final = _json({"properties": {"a": {"enum": ["x", "y"]}}})
SCHEMAS: Final = (CLOSED, OPEN, FREE, UNTYPED)

GOOD_USERS: Final = ("user-1", "u" * 100)
BAD_USERS: Final = ("ann@example.com", "+49 170 1234567", "u" * 300)
"""Users that Anthropic refuses to be told of."""
EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
NAMES: Final = ("look", "find_it", "go-to")
LONG_ID: Final = "call_" + "x" * 70

ids: Final = st.sampled_from(["call_1", "toolu_2", "functions.look:0", "functions.look.0", "a|b", "a_b", LONG_ID, "9"])
"""Ids of calls as providers make them: with signs that others refuse, or too long for them, and two that differ only in
such signs."""
words: Final = st.sampled_from(["hello", "\tzwölf\n", "“x”", "\\ud83d", "🎈", "{}", "a\u2028b", " end "])
blanks: Final = st.sampled_from(["", " ", "\n"])
arguments: Final = st.sampled_from(
    ["", "{}", '{"a":1}', '{ "a" : [1, 2.50] }', '{"é":"\\u00e9"}', "[1]", "null", "{cut"]
)
results: Final = st.sampled_from(["", "12", "plain", '{"a":1}', '{ "b": [true] }', '{"result":"x"}', "{cut", "\n"])
floats: Final = st.sampled_from([0.0, 0.25, 1.0, 1.5, 2.0])

images: Final = st.one_of(
    st.builds(
        ImagePart,
        url=st.sampled_from(["https://x.test/a.png", "https://x.test/a", "http://x.test/b.JPG?q=1#z"]),
        detail=st.sampled_from([None, "low"]),
    ),
    st.builds(
        ImagePart,
        media_type=st.sampled_from(["image/png", "image/jpg"]),
        data=st.just("iVBORw0KGgo="),
        detail=st.sampled_from([None, "high"]),
    ),
)
file_names: Final = st.sampled_from([None, "a.pdf", "notes.txt"])
files: Final = st.one_of(
    st.builds(
        FilePart,
        name=file_names,
        media_type=st.sampled_from(["application/pdf", "text/plain", "text/csv", "application/json", "image/png"]),
        data=st.sampled_from([base64_of("a,b\n1,ä"), base64_of("{}")]),
    ),
    st.builds(FilePart, name=file_names, data=st.just("JVBERi0=")),
    st.builds(FilePart, name=file_names, url=st.sampled_from(["https://x.test/a.pdf", "https://x.test/a.png"])),
    st.builds(FilePart, name=file_names, file_id=st.just("file-1")),
)
sounds: Final = st.builds(AudioPart, data=st.just("UklGRg=="), format=st.sampled_from(["wav", "mp3"]))

tools: Final = st.lists(
    st.builds(
        Tool,
        name=st.sampled_from(NAMES),
        description=st.sampled_from([None, "Looks for it.", ""]),
        parameters=st.sampled_from([None, *SCHEMAS]),
        strict=st.sampled_from([None, False, True]),
    ),
    max_size=3,
    unique_by=lambda tool: tool.name,
).map(tuple)
choices: Final = st.one_of(
    st.sampled_from([ToolChoice("auto"), ToolChoice("none"), ToolChoice("required")]),
    st.builds(ToolChoice, st.just("named"), st.sampled_from(NAMES)),
)
outputs: Final = st.one_of(
    st.just(OutputFormat(kind="json_object")),
    st.builds(
        OutputFormat,
        kind=st.just("json_schema"),
        name=st.sampled_from(["output", "shape"]),
        description=st.sampled_from([None, "What it is."]),
        schema=st.sampled_from(SCHEMAS),
        strict=st.booleans(),
    ),
)


class _Talk:
    """Draws one conversation: numbers its texts, and remembers which calls it has made."""

    def __init__(self, draw: st.DrawFn, has_media: bool) -> None:
        self.draw = draw
        self.has_media = has_media
        self.texts = 0
        self.calls: list[str] = []

    def text(self) -> TextPart:
        if self.draw(st.integers(0, 9)) == 0:
            return TextPart(self.draw(blanks))
        self.texts += 1
        return TextPart(f"#{self.texts}#{self.draw(words)}")

    def parts(self, most: int = 2) -> list[Part]:
        return [self.text() for _ in range(self.draw(st.integers(0, most)))]

    def media(self) -> list[Part]:
        if not self.has_media or self.draw(st.integers(0, 2)):
            return []
        return self.draw(st.lists(st.one_of(images, files, sounds), min_size=1, max_size=2))

    def name(self) -> str | None:
        return self.draw(st.sampled_from([None, None, None, "ann"]))

    def turns(self) -> list[Message]:
        kind = self.draw(st.sampled_from(["user", "assistant", "calls", "calls", "system"]))
        if kind == "system":
            return [Message(role="system", parts=tuple(self.parts()), name=self.name())]
        if kind == "user":
            parts = self.draw(st.permutations([*self.parts(), *self.media()]))
            return [Message(role="user", parts=tuple(parts), name=self.name())]
        if kind == "assistant":
            refusal = self.draw(st.sampled_from([None, None, None, "", f"#{self.texts + 1}#no"]))
            self.texts += 1
            return [Message(role="assistant", parts=tuple(self.parts()), refusal=refusal, name=self.name())]
        return self._calls()

    def _calls(self) -> list[Message]:
        """Calls at once, and the results of most of them in any order."""
        wanted = [one for one in self.draw(st.lists(ids, min_size=1, max_size=3, unique=True)) if one not in self.calls]
        self.calls += wanted
        calls = tuple(ToolCall(one, self.draw(st.sampled_from(NAMES)), self.draw(arguments)) for one in wanted)
        found = [Message(role="assistant", parts=tuple(self.parts(1)), tool_calls=calls, name=self.name())]
        for one in self.draw(st.permutations(wanted)):
            if self.draw(st.integers(0, 9)):
                if not self.draw(st.integers(0, 7)):
                    found.append(Message(role="user", parts=(self.text(),)))
                said: list[Part] = [TextPart(text) for text in self.draw(st.lists(results, max_size=2))]
                found.append(Message(role="tool", call_id=one, parts=(*said, *self.media()), name=self.name()))
        return found


@st.composite
def conversations(draw: st.DrawFn, has_media: bool | None = None) -> tuple[Message, ...]:
    """Turns of all roles in any order. `has_media`: whether images, files and sound may come, None for either."""
    talk = _Talk(draw, draw(st.booleans()) if has_media is None else has_media)
    found: list[Message] = []
    for _ in range(draw(st.integers(1, 5))):
        found += talk.turns()
    return tuple(found)


def maybe(strategy: st.SearchStrategy[Any], default: Any = None) -> st.SearchStrategy[Any]:
    """The default twice as often: a request that says everything is a rare one."""
    return st.one_of(st.just(default), st.just(default), strategy)


requests: Final = st.builds(
    ChatRequest,
    messages=conversations(),
    tools=tools,
    tool_choice=maybe(choices),
    parallel_tool_calls=maybe(st.booleans()),
    output=maybe(outputs),
    max_tokens=maybe(st.sampled_from([1, 16, 3000, 10_000, 50_000, 200_000])),
    temperature=maybe(floats),
    top_p=maybe(st.sampled_from([0.5, 1.0])),
    top_k=maybe(st.sampled_from([1, 40])),
    stop=maybe(st.lists(st.sampled_from(["END", "\n\n", "é"]), min_size=1, max_size=6).map(tuple), ()),
    n=maybe(st.just(2), 1),
    seed=maybe(st.sampled_from([0, 7, -1, 2**31, 2**53 + 1])),
    frequency_penalty=maybe(floats),
    presence_penalty=maybe(floats),
    reasoning_effort=maybe(st.sampled_from(EFFORTS)),
    logprobs=maybe(st.booleans(), False),
    top_logprobs=maybe(st.sampled_from([0, 3])),
    user=maybe(st.sampled_from([*GOOD_USERS, *BAD_USERS])),
    others=maybe(st.just(("metadata", "cache_control")), ()),
)
"""Any request; `others` name what its own dialect had and the canonical form has not."""

# --- answers --------------------------------------------------------------------------------------------------

said: Final = st.text(max_size=8).filter(lambda word: word.encode("utf-8", "ignore").decode() == word)
finishes: Final = st.sampled_from(list(Finish))
pieces: Final = st.text(alphabet='{}":a', min_size=1, max_size=4)
"""Pieces of arguments, which need not be JSON: an answer may be cut."""
objects: Final = st.dictionaries(st.text('aé"', max_size=2), st.integers() | said, max_size=2).map(
    lambda value: msgspec.json.encode(value).decode()
)
"""Arguments as they should be."""


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Counts that add up: cached tokens and those written to a cache are part of the prompt."""
    fresh, cached, cache_write, out = (draw(st.integers(0, 10**9)) for _ in "abcd")
    reasoning = draw(st.integers(0, out))
    return Usage(
        prompt=fresh + cached + cache_write, completion=out, cached=cached, cache_write=cache_write, reasoning=reasoning
    )


@st.composite
def answers(draw: st.DrawFn) -> Choice:
    """A whole answer with any of words, reasoning, refusal and calls."""
    made = draw(st.lists(st.tuples(said, objects), max_size=2))
    return Choice(
        text=draw(said),
        reasoning=draw(said),
        refusal=draw(said),
        tool_calls=tuple(ToolCall(f"call_{n}", name, text) for n, (name, text) in enumerate(made)),
        finish=draw(finishes),
    )


def _piece_of_call(index: int, piece: str) -> StreamEvent:
    return StreamEvent(tools=(ToolDelta(index=index, id=f"c{index}", name="f", arguments=piece),))


events: Final = st.lists(
    st.one_of(
        st.builds(StreamEvent, text=said),
        st.builds(StreamEvent, reasoning=said),
        st.builds(StreamEvent, refusal=said),
        st.builds(_piece_of_call, st.integers(0, 2), pieces),
    ),
    max_size=12,
)
"""Pieces of an answer in any order, without its end."""
