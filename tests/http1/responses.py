"""What upstreams send, and what has to be heard of it: one table for the connection alone and for real sockets."""

from __future__ import annotations

from typing import Literal, NamedTuple

Fact = tuple[str, object]
After = Literal["stay", "eof"]

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH_2 = OK + b"Content-Length: 2\r\n\r\nok"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Case(NamedTuple):
    """A response, what the server does after it, the facts, and whether the connection may serve again."""

    name: str
    sent: bytes
    facts: list[Fact]
    is_reused: bool = False
    after: After = "stay"


def whole(body: bytes = b"ok", status: int = 200) -> list[Fact]:
    return [("head", status), *([("body", body)] if body else []), ("end", None)]


def _many_headers(count: int) -> bytes:
    return b"".join(b"x-%d: 1\r\n" % number for number in range(count))


SOUND = [
    Case("content_length", LENGTH_2, whole(), is_reused=True),
    Case("content_length_zero", OK + b"Content-Length: 0\r\n\r\n", whole(b""), is_reused=True),
    Case("chunked", CHUNKED + b"2\r\nok\r\n3\r\nyes\r\n0\r\n\r\n", whole(b"okyes"), is_reused=True),
    Case("chunk_extension", CHUNKED + b"2;a=b\r\nok\r\n0\r\n\r\n", whole(), is_reused=True),
    Case("interim_responses", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + LENGTH_2,
         whole(), is_reused=True),
    Case("upgrade_header_in_200", OK + b"Upgrade: h2\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nok", whole(),
         is_reused=True),
    Case("no_reason_phrase", b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", whole(), is_reused=True),
    Case("no_body_204", b"HTTP/1.1 204 No Content\r\n\r\n", whole(b"", 204), is_reused=True),
    Case("no_body_204_with_length", b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", whole(b"", 204)),
    Case("no_body_304_with_length", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", whole(b"", 304)),
    Case("redirect_is_reported", b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nok",
         whole(status=302), is_reused=True),
    Case("error_keeps_its_body", b"HTTP/1.1 529 Overloaded\r\nContent-Length: 2\r\n\r\nok", whole(status=529),
         is_reused=True),
    Case("until_eof", OK + b"\r\nok", whole(), after="eof"),
    Case("until_eof_http_1_0", b"HTTP/1.0 200 OK\r\n\r\nok", whole(), after="eof"),
    Case("until_eof_without_a_byte", OK + b"\r\n", whole(b""), after="eof"),
    Case("connection_close", OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok", whole()),
    Case("http_1_0_with_length", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", whole()),
    Case("identity_encoding", OK + b"Content-Encoding: identity\r\nContent-Length: 2\r\n\r\nok", whole(),
         is_reused=True),
    Case("trailers", CHUNKED + b"2\r\nok\r\n0\r\nx-trailer: 1\r\n\r\n", whole(), is_reused=True),
    Case("200_headers", OK + _many_headers(199) + b"Content-Length: 2\r\n\r\nok", whole(), is_reused=True),
    Case("header_of_60_kib", OK + b"x: " + b"a" * 60_000 + b"\r\nContent-Length: 2\r\n\r\nok", whole(), is_reused=True),
]  # fmt: skip

# Whole, but whose bytes follow is unknowable: the answer counts, the connection does not.
FOLLOWED = [
    Case("a_second_response", LENGTH_2 + LENGTH_2, whole()),
    Case("bytes_behind_the_end", LENGTH_2 + b"X", whole()),
    Case("the_beginning_of_a_response_behind_the_end", LENGTH_2 + b"H", whole()),
    Case("bytes_behind_the_last_chunk", CHUNKED + b"2\r\nok\r\n0\r\n\r\nX", whole()),
    Case("bytes_behind_connection_close", OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nokX", whole()),
]

BAD_HEAD: list[Fact] = [("failure", "BadBytes")]
BAD_BODY: list[Fact] = [("head", 200), ("body", b"ok"), ("failure", "BadBytes")]
CUT_BODY: list[Fact] = [("head", 200), ("body", b"ok"), ("failure", "Interrupted")]

BROKEN = [
    Case("switching_protocols", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc", BAD_HEAD),
    Case("switching_protocols_without_upgrade", b"HTTP/1.1 101 Switching\r\n\r\nabc", BAD_HEAD),
    Case("interim_with_length", b"HTTP/1.1 103 Early\r\nContent-Length: 9\r\n\r\n" + LENGTH_2, BAD_HEAD),
    Case("status_099", b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok", BAD_HEAD),
    Case("status_2000", b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", BAD_HEAD),
    Case("bad_status_line", b"HTTP/1.1 OK 200\r\n\r\n", BAD_HEAD),
    Case("http_2_0", b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", BAD_HEAD),
    Case("http_0_9", b"HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nok", BAD_HEAD),
    Case("http_2_preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD_HEAD),
    Case("http_2_frames", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", BAD_HEAD),
    Case("tls_alert", b"\x15\x03\x01\x00\x02\x02\x46", BAD_HEAD),
    Case("rtsp", b"RTSP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", BAD_HEAD),
    Case("blank_lines_first", b"\r\n\r\n" + LENGTH_2, BAD_HEAD),
    Case("text", b"Too many connections\r\n", BAD_HEAD),
    Case("bare_lf", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", BAD_HEAD),
    Case("folded_header", OK + b"x: a\r\n b\r\nContent-Length: 2\r\n\r\nok", BAD_HEAD),
    Case("header_without_colon", OK + b"nonsense\r\n\r\nok", BAD_HEAD),
    Case("space_before_colon", OK + b"x : 1\r\n\r\nok", BAD_HEAD),
    Case("nul_in_header", OK + b"x: a\x00b\r\n\r\nok", BAD_HEAD),
    Case("length_and_chunked", OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD_HEAD),
    Case("chunked_and_length", OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n", BAD_HEAD),
    Case("two_lengths", OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", BAD_HEAD),
    Case("length_list", OK + b"Content-Length: 2, 2\r\n\r\nok", BAD_HEAD),
    Case("signed_length", OK + b"Content-Length: +2\r\n\r\nok", BAD_HEAD),
    Case("gzip_and_chunked", OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", BAD_HEAD),
    Case("gzip_coding", OK + b"Transfer-Encoding: gzip\r\n\r\nok", BAD_HEAD),
    Case("chunked_twice", OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD_HEAD),
    Case("chunked_http_1_0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD_HEAD),
    Case("gzip_content", OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok", BAD_HEAD),
    Case("201_headers", OK + _many_headers(200) + b"Content-Length: 2\r\n\r\nok", BAD_HEAD),
    Case("201_times_one_header", OK + b"x: 1\r\n" * 200 + b"Content-Length: 2\r\n\r\nok", BAD_HEAD),
    Case("head_of_70_kib", OK + b"x: " + b"a" * 70_000 + b"\r\nContent-Length: 2\r\n\r\nok", BAD_HEAD),
    Case("endless_interim_responses", b"HTTP/1.1 103 Early\r\n\r\n" * 4000 + LENGTH_2, BAD_HEAD),
    Case("bad_chunk_size", CHUNKED + b"2\r\nok\r\nzz\r\n", BAD_BODY),
    Case("bad_chunk_end", CHUNKED + b"2\r\nokXX0\r\n\r\n", BAD_BODY),
    Case("prefixed_chunk_size", CHUNKED + b"2\r\nok\r\n0x2\r\nok\r\n0\r\n\r\n", BAD_BODY),
    Case("huge_chunk_extension", CHUNKED + b"2\r\nok\r\n2;" + b"a" * 70_000, BAD_BODY),
    Case("huge_trailers", CHUNKED + b"2\r\nok\r\n0\r\n" + b"x: 1\r\n" * 12_000, BAD_BODY),
    Case("eof_in_length", OK + b"Content-Length: 3\r\n\r\nok", CUT_BODY, after="eof"),
    Case("eof_between_chunks", CHUNKED + b"2\r\nok\r\n", CUT_BODY, after="eof"),
    Case("eof_before_the_last_line", CHUNKED + b"2\r\nok\r\n0\r\n", CUT_BODY, after="eof"),
    Case("eof_in_trailers", CHUNKED + b"2\r\nok\r\n0\r\nx: 1\r\n", CUT_BODY, after="eof"),
    Case("eof_in_head", OK + b"Content-Le", BAD_HEAD, after="eof"),
    Case("eof_after_interim", b"HTTP/1.1 100 Continue\r\n\r\n", BAD_HEAD, after="eof"),
    Case("eof_before_an_answer", b"", BAD_HEAD, after="eof"),
]  # fmt: skip

CASES = [*SOUND, *FOLLOWED, *BROKEN]
