"""Lines of a stream, however its bytes are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crossfade.wire.ndjson import NDJSON, LineSplitter

STREAM = b'{"a":1}\n\r\n  \n{"b":"\xc3\xa9"}\r\n{"c":3}'
LINES = [b'{"a":1}', b'{"b":"\xc3\xa9"}', b'{"c":3}']


@given(st.lists(st.integers(0, len(STREAM)), max_size=6).map(sorted))
def test_lines_are_the_same_in_whatever_pieces_they_come(cuts: list[int]) -> None:
    splitter = LineSplitter()
    found: list[bytes] = []
    for begin, end in zip([0, *cuts], [*cuts, len(STREAM)], strict=True):
        found += splitter.feed(STREAM[begin:end])
    assert found == LINES[:2] and splitter.rest() == LINES[2]
    assert splitter.rest() == b"" and not splitter.is_overlong


def test_a_line_without_an_end_is_bounded() -> None:
    splitter = LineSplitter(limit=10)
    assert splitter.feed(b"x" * 9 + b"\n" + b"y" * 10) == [b"x" * 9] and not splitter.is_overlong
    assert splitter.feed(b"y") == [] and splitter.is_overlong and "overlong" in repr(splitter)
    assert splitter.rest() == b""


def test_a_stream_is_known_by_how_its_lines_begin() -> None:
    assert b'{"model":"m","created_at":""}'.startswith(NDJSON.starts)
    assert not b'{"error":"no"}'.startswith(NDJSON.starts)
