"""A run of like events is read as the whole decoder would read each of them, and with less of its work."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.wire.text_run import MAX_LEARNED, TextRun


class Whole:
    """The whole decoder, which counts its work: an event is text where `choices[0].delta` has nothing but content."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, event: bytes) -> str | None:
        self.calls += 1
        try:
            value: Any = msgspec.json.decode(event[6:-2])
            delta = value["choices"][0]["delta"]
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, IndexError):
            return None
        is_text = event[:6] == b"data: " and event[-2:] == b"\n\n" and b"\n" not in event[:-2]
        return delta["content"] if is_text and list(delta) == ["content"] and type(delta["content"]) is str else None


def event(text: str, *, before: str = "", after: str = "", is_ascii: bool = True) -> bytes:
    content = json.dumps(text, ensure_ascii=is_ascii)
    return f'data: {{"id":"a",{before}"choices":[{{"delta":{{"content":{content}}}}}]{after}}}\n\n'.encode()


def read(events: list[bytes]) -> tuple[list[str | None], Whole]:
    """What each event is read as, in order, the way a reader of a stream does it; and the decoder's count."""
    whole, found = Whole(), []
    run = TextRun(b'"content":', whole)
    for data in events:
        text = run.text(data)
        if text is None and (text := whole(data)) is not None:
            run.learn(data, text)
        found.append(text)
    return found, whole


TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", "0", "1", '"', "\\", '\\"', '"content":"', ' "obfuscation":"x"', '"p":"',
         "a\nb", "\x00", "}}]", "ä", "\U0001f600"]
    ),
)  # fmt: skip
SHAPES = st.sampled_from(
    [
        ("", ""), ("", ',"obfuscation":"%s"'), ("", ',"p":"%s"'), ('"obfuscation":"%s",', ""),
        ("", ',"usage":null,"p":"%s"'),
        ("", ',"obfuscation":"%s","p":"%s"'), ('"content":"not this one",', ""), ('"x":{"content":"%s"},', ""),
        ("", ',"content":"%s"'), ("", ',"created":%s'), ("", ',"q":{"p":"%s","content":"n"},"usage":null'),
    ]
)  # fmt: skip
PADDINGS = st.one_of(st.sampled_from(["", "a", "7", "aB3"]), st.from_regex(r"[a-zA-Z0-9]{0,9}", fullmatch=True))
TOKENS = st.sampled_from(
    [b'"', b"\\", b",", b"}", b'","content":"x', b'"content":"', b"\n", b"\xff", b"", b"\\u0041", b" "]
)


@st.composite
def events_of_one_shape(draw: st.DrawFn) -> list[bytes]:
    before, after = draw(SHAPES)
    is_ascii = draw(st.booleans())
    made = []
    for text in draw(st.lists(TEXTS, max_size=8)):
        padding = draw(PADDINGS)
        fill = (padding,) * (before + after).count("%s")
        parts = (before + "\0" + after) % fill
        data = event(text, before=parts.split("\0")[0], after=parts.split("\0")[1], is_ascii=is_ascii)
        if draw(st.integers(0, 3)) == 0:  # something else in any place
            at = draw(st.integers(0, len(data)))
            data = data[:at] + draw(TOKENS) + data[at + draw(st.integers(0, 2)) :]
        made.append(data)
    return made


@given(st.lists(events_of_one_shape(), max_size=3).map(lambda parts: [one for part in parts for one in part]))
def test_every_event_is_read_as_the_whole_decoder_reads_it(events: list[bytes]) -> None:
    whole = Whole()
    assert read(events)[0] == [whole(data) for data in events]


@pytest.mark.parametrize(
    "after", ["", ',"obfuscation":"%s"', ',"p":"%s"', ',"usage":null,"obfuscation":"%s","object":"c"']
)
def test_a_run_is_decoded_whole_once(after: str) -> None:
    texts = [f' word {number} with "quotes"\n' for number in range(100)]
    texts[0] = "plain"
    paddings = ["ab"[: number % 3] * 4 for number in range(100)]
    events = [event(t, after=after % p if "%" in after else after) for t, p in zip(texts, paddings, strict=True)]
    found, whole = read(events)
    assert found == texts
    assert whole.calls == 2, "once to read, once to prove where the text stands"


def test_a_text_with_quotes_is_not_learned_from_but_the_next_is() -> None:
    texts = ['say "x"', "then", "more", "and more"]
    found, whole = read([event(text) for text in texts])
    assert found == texts
    assert whole.calls == 2 + 2


def test_events_that_keep_changing_are_given_up_and_those_that_change_now_and_then_are_not() -> None:
    found, whole = read([event("x", after=f',"created":{number}') for number in range(100)])
    assert found == ["x"] * 100
    assert whole.calls == 100 + 3, "three were learned from in vain"
    found, whole = read([event("x", after=f',"created":{number // 20}') for number in range(400)])
    assert whole.calls == 2 * 20


def test_the_last_string_of_a_repeated_key_is_the_text_and_no_other() -> None:
    twice = [
        b'data: {"choices":[{"delta":{"content":"%s","content":"%s"}}]}\n\n' % (first, second)
        for first, second in ((b"a", b"b"), (b"c", b"b"), (b"c", b"d"))
    ]
    assert read(twice)[0] == ["b", "b", "d"]


def test_long_events_are_not_kept_to_compare_with() -> None:
    long = [event("x", after=f',"more":"{"y" * MAX_LEARNED}"') for _ in range(20)]
    found, whole = read(long)
    assert found == ["x"] * 20 and whole.calls == 20
