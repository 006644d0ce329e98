"""Amazon's frames: read as they were written, split anywhere, and given up where a sum or a length is wrong."""

from __future__ import annotations

import struct
import uuid
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.wire.event_stream import FRAMES, BadFrame, Frame, FrameSplitter, read_frame, write_frame

EVENT = {":message-type": "event", ":event-type": "messageStart", ":content-type": "application/json"}
RAW = write_frame(EVENT, b'{"role":"assistant"}')


def framed(headers: bytes, payload: bytes = b"") -> bytes:
    """A sound frame around any block of headers."""
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    body = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return body + struct.pack(">I", crc32(body))


def test_a_frame_of_the_published_format() -> None:
    """From the description of the format: a frame without headers and payload, and one with a header."""
    assert framed(b"") == bytes.fromhex("0000001000000000 05c248eb 7d98c8ff".replace(" ", ""))
    block = b"\x0ccontent-type\x07\x00\x10application/json"
    frame = read_frame(framed(block, b"{'foo':'bar'}"))
    assert frame == Frame({"content-type": "application/json"}, b"{'foo':'bar'}")
    assert write_frame({"content-type": "application/json"}, b"{'foo':'bar'}") == framed(block, b"{'foo':'bar'}")
    assert framed(block, b"{'foo':'bar'}")[:12].hex() == "0000003d0000002007fd8396"


def test_every_type_of_header_is_read() -> None:
    name = uuid.UUID(int=7)
    block = b"".join(
        [
            b"\x01a\x00",
            b"\x01b\x01",
            b"\x01c\x02\xff",
            b"\x01d\x03\xff\xfe",
            b"\x01e\x04" + struct.pack(">i", -70_000),
            b"\x01f\x05" + struct.pack(">q", 2**40),
            b"\x01g\x06\x00\x02\x00\xff",
            b"\x01h\x07\x00\x03\xe4\xb8\xad",
            b"\x01i\x08" + struct.pack(">q", 1_700_000_000_000),
            b"\x01j\x09" + name.bytes,
        ]
    )
    assert read_frame(framed(block)).headers == {
        "a": True, "b": False, "c": -1, "d": -2, "e": -70_000, "f": 2**40, "g": b"\x00\xff", "h": "中",
        "i": 1_700_000_000_000, "j": name.bytes,
    }  # fmt: skip
    frame = read_frame(framed(block))
    assert (frame.text("h"), frame.text("g"), frame.text("z")) == ("中", "", "")


@pytest.mark.parametrize(
    "block",
    [b"\x01a\x0a", b"\x01a", b"\x05a", b"\x01a\x07\x00\x09abc", b"\x01a\x05\x00", b"\x01\xff\x00", b"\x01a\x09x"],
)
def test_headers_that_cannot_be_read_are_no_frame(block: bytes) -> None:
    with pytest.raises(BadFrame, match="header"):
        read_frame(framed(block))


def test_a_frame_may_be_cut_anywhere() -> None:
    stream = RAW + write_frame(EVENT, b"") + RAW
    wanted = FrameSplitter().feed(stream)
    assert len(wanted) == 3
    for at in range(len(stream) + 1):
        splitter = FrameSplitter()
        assert splitter.feed(stream[:at]) + splitter.feed(stream[at:]) == wanted
        assert splitter.fault is None and not splitter.rest()
    splitter = FrameSplitter()
    assert [f for at in range(len(stream)) for f in splitter.feed(stream[at : at + 1])] == wanted


@pytest.mark.parametrize("at", range(len(RAW)))
def test_a_damaged_byte_anywhere_ends_the_stream(at: int) -> None:
    damaged = bytearray(RAW)
    damaged[at] ^= 0x10
    splitter = FrameSplitter()
    assert splitter.feed(RAW + bytes(damaged) + RAW)[1:] == []
    assert splitter.fault is not None
    assert splitter.feed(RAW) == []


def test_a_frame_of_more_than_the_limit_is_given_up_at_its_prelude() -> None:
    prelude = struct.pack(">II", 2**31, 0)
    splitter = FrameSplitter(limit=1000)
    assert splitter.feed(prelude + struct.pack(">I", crc32(prelude))) == []
    assert splitter.fault == "a frame of more than 1000 bytes" and "fault" not in repr(FrameSplitter())


def test_a_frame_that_is_shorter_than_its_headers_is_none() -> None:
    prelude = struct.pack(">II", 20, 100)
    splitter = FrameSplitter()
    splitter.feed(prelude + struct.pack(">I", crc32(prelude)))
    assert splitter.fault is not None


def test_the_rest_is_what_was_cut() -> None:
    splitter = FrameSplitter()
    splitter.feed(RAW + RAW[:20])
    assert splitter.rest() == RAW[:20] and not splitter.rest()
    assert RAW.startswith(FRAMES.starts)


@given(st.binary(max_size=200))
def test_no_frame_is_read_out_of_any_bytes(data: bytes) -> None:
    splitter = FrameSplitter()
    assert splitter.feed(data) == []
    assert (splitter.fault is None) == (len(data) < 12)


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=50), max_size=5), st.binary(max_size=300))
def test_what_is_written_is_read(headers: dict[str, str], payload: bytes) -> None:
    assert read_frame(write_frame(headers, payload)) == Frame(headers, payload)
