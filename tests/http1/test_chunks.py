"""Chunks: what is taken for one, and what a body made of them amounts to."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.http1.chunks import CHUNK_LINE_BYTES, TRAILER_BYTES, ChunkedBody, chunk, content_of_chunk
from crossfade.http1.head import BadMessage


@given(st.one_of(st.binary(min_size=1, max_size=40), st.integers(1, 5000).map(lambda size: b"\n" * size)))
def test_a_chunk_is_written_as_the_rules_say_and_recognised_alone(content: bytes) -> None:
    written = chunk(content)
    assert written == f"{len(content):x}\r\n".encode() + content + b"\r\n"
    assert content_of_chunk(written) == (content if len(written) < 2048 else None)


@pytest.mark.parametrize("size", [1, 15, 16, 17, 255, 256, 257, 2039, 2040, 2041, 2042, 4096])
def test_chunks_of_every_number_of_digits_are_recognised_up_to_a_length(size: int) -> None:
    written = chunk(b"x" * size)
    assert content_of_chunk(written) == (b"x" * size if len(written) < 2048 else None)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\r\n", b"0\r\n\r\n", b"5\r\nhell\r\n", b"5\r\nhello!\r\n", b"05\r\nhello\r\n", b"5;a\r\nhello\r\n",
        b"A\r\n0123456789\r\n", b"5\nhello\r\n", b"5\r\nhello\n\n", b"5\r\nhello\r\n5\r\nhello\r\n", b"5\r\nhello",
        b"5\r\nhello\r", b"-----", b"-" * 21,
    ],
)  # fmt: skip
def test_what_is_not_one_whole_plain_chunk_is_not_taken_for_one(data: bytes) -> None:
    assert content_of_chunk(data) is None


@given(st.binary(max_size=60))
def test_what_is_taken_for_a_chunk_is_one(data: bytes) -> None:
    content = content_of_chunk(data)
    assert content is None or (content and chunk(content) == data)


def dechunk(data: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    body, content = ChunkedBody(), b""
    edges = [0, *sorted(cuts), len(data)]
    rest = b""
    for begin, end in itertools.pairwise(edges):
        if body.is_complete:
            rest += data[begin:end]
        else:
            content += body.feed(data[begin:end])
            rest = body.rest
    assert body.is_complete
    return content, rest


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.binary(max_size=20), st.data())
def test_a_chunked_body_reads_the_same_however_it_is_split(
    chunks: list[bytes], rest: bytes, data: st.DataObject
) -> None:
    extension = data.draw(st.sampled_from([b"", b";a=b", b' ;a="b c"']))
    trailer = data.draw(st.sampled_from([b"", b"X-Sum: 1\r\n", b"A: b\r\nC: d\r\n"]))
    wire = b"".join(b"%X%b\r\n%b\r\n" % (len(c), extension, c) for c in chunks) + b"000\r\n" + trailer + b"\r\n" + rest
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=12))
    assert dechunk(wire, cuts) == (b"".join(chunks), rest)


@pytest.mark.parametrize(
    "data",
    [
        b"5\nhello\r\n", b"+5\r\nhello\r\n", b"0x5\r\n", b"5 \r\nhello\r\n", b" 5\r\n", b"\r\n", b"-1\r\n",
        b"5\r\nhelloX", b"5\r\nhello\n", b"5\r\nhello\r5", b"5\r\nhelloworld", b"f" * 16 + b"\r\n", b"5;a\nb\r\n",
        b"5;a\x00\r\n", b"1" * (CHUNK_LINE_BYTES + 2), b"5;" + b"a" * CHUNK_LINE_BYTES + b"\r\n",
        b"0\r\nno colon\r\n", b"0\r\n X: a\r\n", b"0\r\nX : a\r\n\r\n", b"0\r\nA: b\n\r\n",
        b"0\r\n" + b"A: b\r\n" * (TRAILER_BYTES // 6 + 1) + b"\r\n", b"0\r\nA: " + b"b" * (TRAILER_BYTES + 9),
    ],
)  # fmt: skip
def test_broken_chunk_framing_is_refused_whole_and_byte_by_byte(data: bytes) -> None:
    with pytest.raises(BadMessage):
        ChunkedBody().feed(data)
    body = ChunkedBody()
    with pytest.raises(BadMessage):
        for number in data:
            body.feed(bytes((number,)))


def test_tiny_chunks_with_long_extensions_are_refused_and_plain_tiny_chunks_are_not() -> None:
    body = ChunkedBody()
    assert body.feed(b"1\r\nx\r\n" * 50_000) == b"x" * 50_000
    with pytest.raises(BadMessage):
        body.feed((b"1;" + b"e" * 200 + b"\r\nx\r\n") * 200)


@given(st.binary(max_size=300), st.integers(1, 20))
def test_garbage_in_a_chunked_body_is_refused_or_read_but_never_kept_without_bound(data: bytes, step: int) -> None:
    body = ChunkedBody()
    try:
        for at in range(0, len(data), step):
            if not body.is_complete:
                body.feed(data[at : at + step])
    except BadMessage:
        return
    assert len(body._pending) <= TRAILER_BYTES + 2
