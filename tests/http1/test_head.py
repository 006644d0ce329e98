from __future__ import annotations

import pytest

from crossfade.http1 import head
from crossfade.http1.head import (
    CHUNKED,
    BadMessage,
    body_length,
    check_partial_request,
    find_head_end,
    has_close,
    path_of,
    read_request_head,
    render_headers,
)

LINE = "GET /v1/models?limit=2 HTTP/1.1\r\n"


def read(*lines: str, first: str = LINE) -> head.RequestHead:
    return read_request_head(
        (first + "".join(f"{line}\r\n" for line in ("Host: a", *lines)) + "\r\n").encode("latin-1")
    )


def refused(*lines: str, first: str = LINE) -> int:
    """The status of the refusal; the same on a second look, when lines may be remembered."""
    statuses = set()
    for _ in range(2):
        with pytest.raises(BadMessage) as caught:
            read(*lines, first=first)
        statuses.add(caught.value.status)
    (status,) = statuses
    return status


def test_a_head_is_read_into_lower_case_names_trimmed_values_and_an_undecoded_path() -> None:
    got = read("X-Two: b \t", "Accept:c", "ACCEPT:\td", "X-Empty:", first="GET /a%20b?x=%31&y HTTP/1.1\r\n")
    assert (got.method, got.path, got.query) == ("GET", "/a%20b", "x=%31&y")
    assert got.headers == {"host": "a", "x-two": "b", "accept": "c, d", "x-empty": ""}
    assert (got.length, got.is_http_1_0, got.is_kept_alive, got.expects_continue) == (0, False, True, False)


def test_values_above_ascii_are_read_as_latin_1() -> None:
    assert read("X: \xe9\xff").headers["x"] == "\xe9\xff"


def test_a_remembered_line_reads_the_same_and_secrets_are_not_remembered() -> None:
    lines = ("Authorization: Bearer sk-secret", "X-Api-Key: sk-secret", "Accept: sk-public")
    assert read(*lines).headers == read(*lines).headers
    assert "Accept: sk-public" in head._known_header_lines
    assert not any("sk-secret" in line for line in head._known_header_lines)


def test_what_is_remembered_is_bounded() -> None:
    for number in range(2000):
        read(f"X: {number}", first=f"GET /{number} HTTP/1.1\r\n")
    assert len(head._known_header_lines) <= 512
    assert len(head._known_request_lines) <= 512


@pytest.mark.parametrize(
    "name", ["Host", "Content-Length", "Transfer-Encoding", "Authorization", "Content-Type", "X-Api-Key"]
)
def test_headers_that_decide_may_not_be_repeated(name: str) -> None:
    value = {"Content-Length": "5", "Transfer-Encoding": "chunked"}.get(name, "a")
    assert refused(f"{name}: {value}", f"{name.upper()}: {value}") == 400


@pytest.mark.parametrize(
    "host, is_good",
    [
        ("a:4000", True), ("[::1]:4000", True), ("a_b.example", True), ("", False), ("a b", False), ("a@b", False),
        ("a/b", False), ("a, b", False), ("a:x", False), ("http://a", False),
    ],
)  # fmt: skip
def test_a_host_is_a_name_and_a_port(host: str, is_good: bool) -> None:
    data = f"{LINE}Host: {host}\r\n\r\n".encode()
    if is_good:
        assert read_request_head(data).headers["host"] == host
    else:
        with pytest.raises(BadMessage):
            read_request_head(data)


@pytest.mark.parametrize("value", ["+5", "-5", "0x5", "5, 5", "5,6", "", "5 5", "5a", "\xb2", "1" * 16, "5;"])
def test_a_content_length_is_plain_digits(value: str) -> None:
    assert refused(f"Content-Length: {value}") == 400
    with pytest.raises(BadMessage):
        body_length({"content-length": value})


def test_a_content_length_may_have_leading_zeros_and_white_space_around_it() -> None:
    assert read("Content-Length:  007 ").length == 7


@pytest.mark.parametrize(
    "value", ["gzip, chunked", "chunked, gzip", "chunked, chunked", "identity", "xchunked", "chunked;q=1", ""]
)
def test_any_transfer_encoding_but_a_single_chunked_is_refused(value: str) -> None:
    assert refused(f"Transfer-Encoding: {value}") in (400, 501)
    with pytest.raises(BadMessage):
        body_length({"transfer-encoding": value})


def test_chunked_alone_is_a_length_and_beside_a_content_length_or_on_1_0_is_refused() -> None:
    assert read("Transfer-Encoding: Chunked").length == CHUNKED
    assert refused("Transfer-Encoding: chunked", "Content-Length: 5") == 400
    assert refused("Transfer-Encoding: chunked", first="GET / HTTP/1.0\r\n") == 400
    with pytest.raises(BadMessage):
        body_length({"transfer-encoding": "chunked", "content-length": "5"})


def test_a_message_without_either_header_has_no_stated_length() -> None:
    assert body_length({}) is None


@pytest.mark.parametrize(
    "connection, is_close",
    [
        ("close", True),
        ("Close", True),
        ("keep-alive, close", True),
        ("keep-alive", False),
        ("closed", False),
        ("", False),
    ],
)
def test_close_is_a_word_of_connection(connection: str, is_close: bool) -> None:
    assert has_close({"connection": connection}) is is_close
    assert read(f"Connection: {connection}").is_kept_alive is not is_close


def test_http_1_0_needs_no_host_and_ends_the_connection() -> None:
    got = read_request_head(b"GET / HTTP/1.0\r\n\r\n")
    assert (got.headers, got.is_http_1_0, got.is_kept_alive) == ({}, True, False)
    assert not read("Connection: keep-alive", first="GET / HTTP/1.0\r\n").is_kept_alive


def test_too_many_headers_are_counted() -> None:
    assert len(read(*(f"x-{n}: 1" for n in range(99))).headers) == 100
    assert refused(*(f"x-{n}: 1" for n in range(100))) == 431
    assert refused(*("x: 1" for n in range(100))) == 431


def test_the_end_of_a_head_is_found_over_reads_and_bounded() -> None:
    whole = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for cut in range(1, len(whole)):
        assert find_head_end(whole[:cut]) == -1
        assert find_head_end(whole + b"more", cut) == len(whole)
    assert find_head_end(whole, 0, len(whole)) == len(whole)
    for piece in (whole, whole[:-1]):
        with pytest.raises(BadMessage) as caught:
            find_head_end(piece, 0, len(whole) - 1)
        assert caught.value.status == 431


def test_a_bare_line_feed_is_refused_before_the_head_is_whole() -> None:
    assert find_head_end(b"GET / HTTP/1.1\r\nA: b\r\n") == -1
    assert find_head_end(b"A\r\n", 2) == -1
    for data, searched in ((b"GET / HTTP/1.1\n", 0), (b"\n", 0), (b"GET / HTTP/1.1\r\nA: b\n", 20)):
        with pytest.raises(BadMessage):
            find_head_end(data, searched)


def test_a_beginning_that_is_no_http_is_refused_at_once() -> None:
    check_partial_request(b"P")
    for data, status in ((b"\x16\x03\x01", 400), (b" GET", 400), (b"GET /" + b"a" * 8200, 414)):
        with pytest.raises(BadMessage) as caught:
            check_partial_request(data)
        assert caught.value.status == status
    check_partial_request(b"GET / HTTP/1.1\r\nA: " + b"a" * 20_000)


def test_the_path_of_a_refused_request_is_known_where_its_line_is_sound() -> None:
    assert path_of(b"GET /v1/messages?a HTTP/3.0\r\n") == "/v1/messages"
    assert path_of(b"GET http://a/ HTTP/1.1\r\n") == path_of(b"\x16\x03") == path_of(b"") == ""


def test_rendered_headers_cannot_split_a_message_or_change_its_length() -> None:
    assert render_headers([("x-a", "1"), ("X-B", "\xe9")]) == "x-a: 1\r\nX-B: \xe9\r\n"
    bad = [
        ("x", "a\r\nset-cookie: b"), ("x", "a\nb"), ("x", "a\rb"), ("x", "a\0b"), ("x", "\u2028"), ("x\r\ny", "a"),
        ("x:", "a"), ("x y", "a"), ("", "a"), ("Content-Length", "5"), ("transfer-encoding", "chunked"),
        ("Connection", "close"), ("upgrade", "h2c"), ("trailer", "x"),
    ]  # fmt: skip
    for _ in range(2):  # what was refused is not remembered as good
        for pair in bad:
            with pytest.raises(ValueError):
                render_headers([("x-a", "1"), pair])
