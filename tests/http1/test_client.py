"""One upstream connection, fed by hand: what it hears, however its bytes are split."""

from __future__ import annotations

import asyncio
import itertools
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.errors import TransportError
from crossfade.http1.client import RESPONSE_HEAD_BYTES, ClientConnection, RequestWriter
from tests.http1.responses import CASES, CHUNKED, FOLLOWED, LENGTH_2, OK, Case, Fact


class FakeTransport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.unsent = 0
        self.is_aborted = False
        self.is_reading = True

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_extra_info(self, name: str) -> None:
        """There is no TLS."""

    def writelines(self, pieces: tuple[bytes, ...]) -> None:
        self.written.append(b"".join(pieces))

    def abort(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_aborted

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        assert self.is_reading
        self.is_reading = False

    def resume_reading(self) -> None:
        assert not self.is_reading
        self.is_reading = True


class Peer:
    """Owner and exchange in one: remembers what it hears; `headers` are those of the head."""

    def __init__(self, end_at: str = "") -> None:
        self.facts: list[Fact] = []
        self.owner_facts: list[str] = []
        self.headers: dict[str, str] = {}
        self.transport = FakeTransport()
        self.end_at = end_at
        self.connection = ClientConnection(self)
        self.connection.connection_made(cast(asyncio.Transport, self.transport))

    def start(self, body: bytes = b"{}", *, is_head: bool = False) -> None:
        self.facts.clear()
        self.connection.start(b"POST / HTTP/1.1\r\n\r\n", body, self, self.on_body, is_head=is_head)

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            if self.transport.is_aborted:
                return
            self.connection.data_received(piece)

    def eof(self) -> None:
        if not self.transport.is_aborted:
            self.connection.eof_received()

    @property
    def is_reusable(self) -> bool:
        return self.owner_facts[-1:] == ["reusable"]

    def on_reusable(self, connection: ClientConnection) -> None:
        self.owner_facts.append("reusable")

    def on_closed(self, connection: ClientConnection) -> None:
        self.owner_facts.append("closed")

    def on_head(self, status: int, headers: dict[str, str]) -> None:
        self.headers = headers
        self._hear("head", status)

    def on_body(self, data: bytes) -> None:
        if self.facts and self.facts[-1][0] == "body":
            data = cast(bytes, self.facts.pop()[1]) + data
        self._hear("body", data)

    def on_end(self) -> None:
        self._hear("end", None)

    def on_failure(self, error: TransportError) -> None:
        self._hear("failure", type(error).__name__)

    def on_stale(self) -> None:
        self._hear("stale", None)

    def _hear(self, name: str, value: object) -> None:
        self.facts.append((name, value))
        if name == self.end_at:
            self.connection.close()


def heard(case: Case, pieces: list[bytes]) -> Peer:
    peer = Peer()
    peer.start()
    peer.feed(*pieces)
    if case.after == "eof":
        peer.eof()
    return peer


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_response_gives_its_facts(case: Case) -> None:
    peer = heard(case, [case.sent] if case.sent else [])
    assert peer.facts == case.facts
    assert peer.is_reusable is case.is_reused
    assert peer.transport.is_aborted is not case.is_reused


@pytest.mark.parametrize(
    "case", [case for case in CASES if case not in FOLLOWED and len(case.sent) < 1000], ids=lambda case: case.name
)
def test_a_response_gives_the_same_facts_byte_by_byte(case: Case) -> None:
    peer = heard(case, [case.sent[at : at + 1] for at in range(len(case.sent))])
    assert peer.facts == case.facts
    assert peer.is_reusable is case.is_reused


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_response_gives_the_same_facts_at_any_split(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from([case for case in CASES if case not in FOLLOWED and case.sent]))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(case.sent)), max_size=12)) | {0, len(case.sent)})
    peer = heard(case, [case.sent[start:end] for start, end in itertools.pairwise(cuts)])
    assert peer.facts == case.facts
    assert peer.is_reusable is case.is_reused


@pytest.mark.parametrize("case", FOLLOWED, ids=lambda case: case.name)
def test_bytes_behind_the_end_close_the_connection_at_any_split(case: Case) -> None:
    for cut in range(1, len(case.sent)):
        peer = heard(case, [case.sent[:cut], case.sent[cut:]])
        assert peer.facts == case.facts
        assert peer.transport.is_aborted


@pytest.mark.parametrize("end_at", ["head", "body", "end"])
@pytest.mark.parametrize("sent", [LENGTH_2, CHUNKED + b"2\r\nok\r\n0\r\n\r\n", CHUNKED + b"2\r\nok\r\nzz"])
def test_an_exchange_may_close_the_connection_from_within_any_fact(end_at: str, sent: bytes) -> None:
    peer = Peer(end_at)
    peer.start()
    peer.connection.data_received(sent)
    expected: list[Fact] = [("head", 200), ("body", b"ok"), ("end", None)]
    if sent.endswith(b"zz") and end_at == "end":
        expected = [("head", 200), ("body", b"ok"), ("failure", "BadBytes")]
    else:
        expected = expected[: ["head", "body", "end"].index(end_at) + 1]
    assert peer.facts == expected
    assert peer.owner_facts.count("closed") == 1


def test_bytes_on_an_idle_connection_close_it() -> None:
    peer = Peer()
    peer.start()
    peer.feed(LENGTH_2)
    assert peer.is_reusable
    peer.connection.data_received(LENGTH_2)
    assert peer.owner_facts == ["reusable", "closed"]
    assert peer.transport.is_aborted


def test_a_reused_connection_that_ends_before_an_answer_is_stale_and_a_fresh_one_is_not() -> None:
    peer = Peer()
    peer.start()
    peer.feed(LENGTH_2)
    peer.start()
    peer.connection.connection_lost(ConnectionResetError())
    assert peer.facts == [("stale", None)]
    assert peer.owner_facts == ["reusable", "closed"]
    fresh = Peer()
    fresh.start()
    fresh.connection.connection_lost(ConnectionResetError())
    assert fresh.facts == [("failure", "BadBytes")]


def test_one_byte_of_an_answer_on_a_reused_connection_is_not_stale() -> None:
    peer = Peer()
    peer.start()
    peer.feed(LENGTH_2)
    peer.start()
    peer.feed(b"H")
    peer.eof()
    assert peer.facts == [("failure", "BadBytes")]


def test_a_loss_without_eof_interrupts_a_body_that_lasts_until_eof() -> None:
    peer = Peer()  # TLS without close_notify looks like this
    peer.start()
    peer.feed(OK + b"\r\nok")
    peer.connection.connection_lost(None)
    assert peer.facts == [("head", 200), ("body", b"ok"), ("failure", "Interrupted")]


def test_an_answer_before_the_request_is_all_sent_ends_the_connection() -> None:
    peer = Peer()
    peer.start()
    peer.transport.unsent = 1
    peer.feed(LENGTH_2)
    assert peer.facts[-1] == ("end", None)
    assert peer.transport.is_aborted


@pytest.mark.parametrize("headers", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_the_response_to_a_head_request_has_no_body(headers: bytes) -> None:
    peer = Peer()
    peer.start(b"", is_head=True)
    peer.feed(OK + headers + b"\r\n")
    assert peer.facts == [("head", 200), ("end", None)]


def test_trailers_never_become_headers() -> None:
    peer = Peer()
    peer.start()
    peer.feed(CHUNKED + b"0\r\nx-trailer: 1\r\ncontent-type: evil\r\n\r\n")
    assert peer.headers == {"transfer-encoding": "chunked"}


def test_headers_of_interim_responses_are_not_those_of_the_response() -> None:
    peer = Peer()
    peer.start()
    peer.feed(b"HTTP/1.1 103 Early\r\nlink: </a>\r\n\r\n" + LENGTH_2)
    assert peer.headers == {"content-length": "2"}


def test_header_names_are_lower_case_and_repeated_ones_joined() -> None:
    peer = Peer()
    peer.start()
    peer.feed(OK + b"X-A:  one \r\nx-a: two\r\nX-B:\r\nX-C: caf\xe9\r\nContent-Length: 0\r\n\r\n")
    assert peer.headers == {"x-a": "one, two", "x-b": "", "x-c": "café", "content-length": "0"}


def test_a_head_that_has_reached_its_bound_is_refused_with_the_next_bytes() -> None:
    peer = Peer()
    peer.start()
    begin = b"HTTP/1.1 200 OK\r\nx: "
    peer.feed(begin, b"a" * (RESPONSE_HEAD_BYTES - len(begin)), b"a")
    assert peer.facts == [("failure", "BadBytes")]


def test_small_pieces_do_not_save_up_for_a_monstrous_chunk_line() -> None:
    peer = Peer()
    peer.start()
    peer.feed(CHUNKED)
    for _ in range(5000):
        peer.feed(b"1\r\nx\r\n")
    peer.feed(b"1;", *[b"a" * 1000] * 70)
    assert peer.facts[-1] == ("failure", "BadBytes")


def test_a_long_stream_of_small_chunks_is_not_mistaken_for_framing() -> None:
    peer = Peer()
    peer.start()
    peer.feed(CHUNKED, *[b"1\r\nx\r\n" * 4000] * 10, b"0\r\n\r\n")
    assert peer.facts == [("head", 200), ("body", b"x" * 40_000), ("end", None)]


_LOOKALIKES = st.sampled_from([b"1\r\nX\r\n", b"5\r\nhello\r\n", b"\r\n", b"0\r\n\r\n", b"x", b"3\r\nA\r\n\r\n"])
_CONTENTS = st.one_of(_LOOKALIKES, st.lists(_LOOKALIKES, max_size=3).map(b"".join), st.binary(max_size=30)).filter(bool)
_FIRST_LINES = st.sampled_from([b"%x\r\n", b"%X\r\n", b"0%x\r\n", b"%x;a=b\r\n"])


@given(st.lists(st.tuples(_FIRST_LINES, _CONTENTS), max_size=6), st.data())
def test_content_that_looks_like_chunks_is_content_however_it_is_split(
    chunks: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    wire, edges = bytearray(), [0]
    for line, content in chunks:
        wire += line % len(content)
        edges.append(len(wire))
        wire += content
        edges.append(len(wire))
        wire += b"\r\n"
        edges.append(len(wire))
    wire += b"0\r\n\r\n"
    cuts = data.draw(st.lists(st.one_of(st.sampled_from(edges), st.integers(0, len(wire))), max_size=8))
    peer = Peer()
    peer.start()
    peer.feed(CHUNKED, *[bytes(wire[a:b]) for a, b in itertools.pairwise(sorted({0, *cuts, len(wire)}))])
    whole = b"".join(content for _, content in chunks)
    assert peer.facts == [("head", 200), *([("body", whole)] if whole else []), ("end", None)]
    assert peer.is_reusable
    peer.connection.data_received(b"1\r\nx\r\n")
    assert peer.transport.is_aborted, "a chunk that nobody asked for"


def test_a_chunk_behind_the_beginning_of_another_one_is_not_taken_alone() -> None:
    peer = Peer()
    peer.start()
    peer.feed(CHUNKED + b"1\r\na\r\n", b"1\r\nb\r\n1", b"1\r\nc\r\n", b"01234567890123\r\n0\r\n\r\n")
    assert peer.facts == [("head", 200), ("body", b"abc\r\n01234567890123"), ("end", None)]


def test_an_exchange_that_ends_the_connection_within_a_chunk_hears_no_more() -> None:
    peer = Peer(end_at="body")
    peer.start()
    peer.feed(CHUNKED + b"1\r\na\r\n")
    peer.connection.data_received(b"1\r\nb\r\n")
    assert peer.facts == [("head", 200), ("body", b"a")]


def test_pause_and_resume_are_idempotent_and_a_finished_connection_reads_again() -> None:
    peer = Peer()
    peer.start()
    peer.connection.pause()
    peer.connection.pause()
    peer.connection.data_received(LENGTH_2)  # was on its way when reading stopped
    assert peer.is_reusable
    assert peer.transport.is_reading
    peer.connection.resume()


def test_a_fault_of_an_exchange_is_raised_and_ends_the_connection() -> None:
    class Faulty(Peer):
        def on_body(self, data: bytes) -> None:
            raise RuntimeError("a fault of ours")

    peer = Faulty()
    peer.start()
    with pytest.raises(RuntimeError, match="a fault of ours"):
        peer.connection.data_received(LENGTH_2)
    assert peer.transport.is_aborted


def test_a_request_goes_out_in_one_write() -> None:
    for body in (b"{}", b"x" * 200_000):
        peer = Peer()
        peer.start(body)
        assert peer.transport.written == [b"POST / HTTP/1.1\r\n\r\n" + body]


def test_a_request_head_is_complete() -> None:
    writer = RequestWriter("api.example.com")
    assert writer.head("POST", "/v1/x?y=1", [("x-a", "b")], 3) == (
        b"POST /v1/x?y=1 HTTP/1.1\r\nHost: api.example.com\r\nAccept-Encoding: identity\r\n"
        b"x-a: b\r\nContent-Length: 3\r\n\r\n"
    )
    assert b"Content-Length: 0\r\n" in writer.head("POST", "/", [], 0)
    assert b"Content-Length" not in writer.head("GET", "/", [], 0)


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/a b", []),
        ("POST", "/a\r\nx: 1", []),
        ("POST", "/é", []),
        ("POST", "a", []),
        ("PO ST", "/", []),
        ("POST", "/", [("x", "a\r\ny: 1")]),
        ("POST", "/", [("x", "a\nb")]),
        ("POST", "/", [("x\r\ny", "a")]),
        ("POST", "/", [("x", "\u20ac")]),
        ("POST", "/", [("Content-Length", "3")]),
        ("POST", "/", [("transfer-encoding", "chunked")]),
    ],
)
def test_what_could_split_a_request_is_refused(method: str, path: str, headers: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError):  # UnicodeEncodeError is one too
        RequestWriter("api.example.com").head(method, path, headers, 0)
