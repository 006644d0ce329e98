"""Joins of a second stream to a first one: proven or refused, however the text is cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.join import ANCHOR_MAX, ANCHOR_MIN, ANCHOR_SLACK, Joiner, JoinState, anchor_of, continuation_of

STORY = (
    "Once the tide had turned, the otters of the harbour came ashore one after another, shook themselves, and lay"
    " down to sleep in the last of the sun. Nobody on the quay took any notice."
)
REST = " Only the old pilot did, who had seen them come for thirty years."
DIFFERENT = "Harbours are man-made or natural bodies of water in which ships may shelter from the weather. " * 4


def joined(delivered: str, pieces: list[str], *, prefill: bool = False, goes_on: bool = False) -> str | None:
    """What the caller has in the end; None if the join was refused."""
    joiner = Joiner(continuation_of(delivered, prefill=prefill))
    text = "".join([joiner.feed(piece) for piece in pieces])
    text += joiner.finish(goes_on=goes_on)
    if joiner.state is JoinState.REFUSED:
        assert text == "" and joiner.why and joiner.feed("more") == "" == joiner.finish()
        return None
    assert joiner.state is JoinState.JOINED and joiner.feed("more") == "more"
    return delivered + text


def pieces_of(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


SIZES = (1, 3, 7, 50, 10_000)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("prefill", [False, True])
def test_replay(size: int, prefill: bool) -> None:
    assert joined(STORY, pieces_of(STORY + REST, size), prefill=prefill) == STORY + REST
    assert joined(STORY, pieces_of(STORY, size), prefill=prefill) == STORY


@pytest.mark.parametrize("size", SIZES)
def test_replay_of_a_text_too_short_for_an_anchor(size: int) -> None:
    assert joined("Once", pieces_of(STORY, size)) == STORY
    assert joined("Once", pieces_of("Well, once upon a time", size)) is None
    assert joined("Once", pieces_of("I said Once and then", size)) is None


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lead", ["", " ", "\n\n", "Sure, here is the rest:\n\n", "```\n"])
def test_anchor(size: int, lead: str) -> None:
    assert joined(STORY, pieces_of(lead + anchor_of(STORY) + REST, size)) == STORY + REST


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "answer",
    [
        DIFFERENT,
        "",
        anchor_of(STORY)[:-3] + REST,
        f"You stopped at '{anchor_of(STORY)}', so: {REST}",
        f"Continuing after\n{anchor_of(STORY)}\nI go on:\n{anchor_of(STORY)}{REST}",
        "x" * (ANCHOR_SLACK + 1) + "\n" + anchor_of(STORY) + REST,
        STORY[:100],
        STORY[:100] + DIFFERENT,
    ],
)
def test_without_proof_it_is_refused(size: int, answer: str) -> None:
    assert joined(STORY, pieces_of(answer, size)) is None


@pytest.mark.parametrize("size", SIZES)
def test_prefill(size: int) -> None:
    assert joined(STORY, pieces_of(REST, size), prefill=True) == STORY + REST
    assert joined(f"{STORY} ", pieces_of(REST, size), prefill=True) == STORY + REST
    assert joined(f"{STORY}\n\n", pieces_of(f"\n\n{REST.strip()}", size), prefill=True) == f"{STORY}\n\n{REST.strip()}"
    assert joined(STORY, pieces_of(STORY[:60] + DIFFERENT, size), prefill=True) is None


def test_nothing_at_all_proves_nothing_but_a_tool_call_goes_on() -> None:
    for pieces in ([], [" "], ["\n", " "]):
        assert joined(STORY, list(pieces), prefill=True) is None
    assert joined(STORY, [], prefill=True, goes_on=True) == STORY
    assert joined(STORY, [], goes_on=True) is None


def test_what_was_repeated_is_counted() -> None:
    for answer, repeated in ((STORY + REST, len(STORY)), (anchor_of(STORY) + REST, len(anchor_of(STORY)))):
        for size in SIZES:
            joiner = Joiner(continuation_of(STORY, prefill=False))
            for piece in pieces_of(answer, size):
                joiner.feed(piece)
            assert joiner.repeated == repeated
    joiner = Joiner(continuation_of(STORY, prefill=True))
    joiner.feed(REST)
    assert joiner.repeated == 0


@given(st.text(max_size=300))
def test_anchor_is_the_end_of_the_text(text: str) -> None:
    anchor = anchor_of(text)
    assert text.endswith(anchor) and len(anchor) <= ANCHOR_MAX
    assert len(anchor) >= min(len(text), ANCHOR_MIN)


small = st.text(alphabet="ab \n", max_size=12)


@given(st.text(alphabet="ab ", min_size=1, max_size=120), st.lists(small, max_size=40), st.booleans(), st.booleans())
def test_pieces_decide_nothing(delivered: str, pieces: list[str], prefill: bool, goes_on: bool) -> None:
    """The result is that of the whole text at once, and only proven text is given."""
    whole = "".join(pieces)
    result = joined(delivered, pieces, prefill=prefill, goes_on=goes_on)
    assert result == joined(delivered, [whole] if whole else [], prefill=prefill, goes_on=goes_on)
    if result is not None:
        assert result.startswith(delivered)
        is_replay = result == whole
        anchor = anchor_of(delivered)
        assert is_replay or prefill or (anchor in whole and whole.endswith(result[len(delivered) :]))


def test_long_replays_are_compared_once() -> None:
    """A megabyte in small pieces: comparing all of it at each piece would take minutes."""
    delivered = "otter " * 170_000
    joiner = Joiner(continuation_of(delivered, prefill=False))
    for piece in pieces_of(delivered, 4):
        assert joiner.feed(piece) == ""
    assert joiner.state is JoinState.JOINED and joiner.feed("end") == "end"
