from __future__ import annotations

import pytest

from crossfade.wire.sse import EventSplitter, fields_of, without_comments

STREAM = (
    b": hello\n\n\n\ndata: one\n\nevent: ping\r\ndata: two\r\n\r\n: c\ndata:three\n\n"
    b"data: a\ndata: b\n\n\r\n\r\ndata: \xc3\xa9\n\n"
)
EVENTS = [
    b"data: one\n\n",
    b"event: ping\r\ndata: two\r\n\r\n",
    b": c\ndata:three\n\n",
    b"data: a\ndata: b\n\n",
    "data: é\n\n".encode(),
]


def split(*pieces: bytes) -> list[bytes]:
    splitter = EventSplitter()
    return [event for piece in pieces for event in splitter.feed(piece)]


def test_a_whole_stream_is_cut_at_blank_lines_and_comments_are_dropped() -> None:
    assert split(STREAM) == EVENTS


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_two_pieces_cut_anywhere_give_the_same_events(bom: bytes) -> None:
    stream = bom + STREAM
    for at in range(len(stream) + 1):
        assert split(stream[:at], stream[at:]) == EVENTS, at


def test_single_bytes_give_the_same_events() -> None:
    assert split(*(STREAM[i : i + 1] for i in range(len(STREAM)))) == EVENTS


def test_whole_events_after_the_first_take_the_short_way_with_the_same_result() -> None:
    assert split(b"data: 0\n\n", b"data: 1\n\n", b": x\n\n", b"data: 2\n\ndata: 3\n\n", b"\n\ndata: 4\n\n") == [
        b"data: 0\n\n",
        b"data: 1\n\n",
        b"data: 2\n\n",
        b"data: 3\n\n",
        b"data: 4\n\n",
    ]


def test_the_rest_is_an_event_that_lacks_its_blank_line() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: 1\n\ndata: 2\n") == [b"data: 1\n\n"]
    assert splitter.pending == b"data: 2\n"
    assert splitter.rest() == b"data: 2"
    assert splitter.pending == b""
    assert splitter.rest() == b""


def test_an_event_without_an_end_is_overlong_at_the_limit() -> None:
    splitter = EventSplitter(limit=10)
    assert splitter.feed(b"data: 1234") == []
    assert not splitter.is_overlong
    assert splitter.feed(b"5") == []
    assert splitter.is_overlong


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (b"data: x\n\n", ("", b"x")),
        (b"data:x\n\n", ("", b"x")),
        (b"data:  x\n\n", ("", b" x")),
        (b"event: error\r\ndata: {}\r\nid: 7\r\nretry: 1\r\n\r\n", ("error", b"{}")),
        (b"data: a\ndata:\ndata: b\n\n", ("", b"a\n\nb")),
        (b"data\n\n", ("", b"")),
        (b": nothing\n\n", ("", b"")),
    ],
)
def test_fields_of_an_event(event: bytes, fields: tuple[str, bytes]) -> None:
    assert fields_of(event) == fields


def test_comment_lines_are_taken_out_of_an_event() -> None:
    assert without_comments(b": a\ndata: x\n: b\n\n") == b"data: x\n\n"
    assert without_comments(b"data: x\n\n") == b"data: x\n\n"
