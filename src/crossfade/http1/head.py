"""Decides where an HTTP/1.1 message begins and ends, and which heads are too doubtful to be served.

Both roles use it: every rule by which two programs could disagree about the length of a message lives here once.
llhttp judges the bytes of a head, a regular expression reads them, and both must find the same number of lines; no
leniency of llhttp is ever switched on. The length of a body is decided here and not by llhttp, which would parse on
into a pipelined request, report trailers as headers and let an Upgrade swallow a body.

Pure: bytes in, values or `BadMessage` out. It knows nothing of sockets, time, routes or what a request means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httptools

HEAD_BYTES: Final = 32 * 1024
"""Default bound on a whole head, start line and blank line included."""

HEADER_COUNT: Final = 100
"""Default bound on the header lines of a head."""

REQUEST_LINE_BYTES: Final = 8 * 1024
"""Bound on a request line; a longer one is 414."""

CHUNKED: Final = -1
"""The `length` of a message whose body is chunked."""

_Values = TypeVar("_Values")

TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE: Final = re.compile(rf"({TOKEN}) ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])")
_HEADER_LINE: Final = re.compile(rf"({TOKEN}):([^\x00-\x08\x0a-\x1f\x7f]*)")
_NAME: Final = re.compile(TOKEN)
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+;=-]+)(?::[0-9]{0,5})?")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")

_LENGTH_DIGITS: Final = 15
_PRINTABLE: Final = "".join(map(chr, range(0x20, 0x7F)))
_SINGLE: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "authorization", "content-type", "x-api-key"}
)
_SECRETS: Final = frozenset({"authorization", "x-api-key", "api-key", "proxy-authorization", "cookie"})
_FRAMING_NAMES: Final = frozenset({"content-length", "transfer-encoding", "connection", "upgrade", "trailer"})


class BadMessage(ValueError):
    """The peer's bytes are refused. `status` is what a server answers; `message` is for people and quotes no value."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message


class RequestHead:
    """A checked request head. `length`: the body's byte count or `CHUNKED`; `path` and `query`: as sent, undecoded.

    `note` is the handler's own: what it concluded from the head. A head that differs from the one before on its
    connection in nothing but the length of the body comes with the same note.
    """

    __slots__ = (
        "expects_continue",
        "headers",
        "is_http_1_0",
        "is_kept_alive",
        "length",
        "method",
        "note",
        "path",
        "query",
    )

    def __init__(
        self,
        method: str,
        path: str,
        query: str,
        headers: dict[str, str],
        length: int,
        is_http_1_0: bool,
        is_kept_alive: bool,
        expects_continue: bool,
        note: Any = None,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.length = length
        self.is_http_1_0 = is_http_1_0
        self.is_kept_alive = is_kept_alive
        self.expects_continue = expects_continue
        self.note = note


class _Watch:
    """Hears from llhttp that it, too, saw the whole head."""

    __slots__ = ("is_complete",)

    def __init__(self) -> None:
        self.is_complete = False

    def on_headers_complete(self) -> None:
        self.is_complete = True


def find_head_end(buffer: bytes, searched: int = 0, head_bytes: int = HEAD_BYTES) -> int:
    """The index just behind the blank line of a head, or -1 while it is incomplete.

    `searched` is how many bytes of `buffer` an earlier call has seen. Raises BadMessage (431) for a head, whole or
    not, above `head_bytes`, and (400) for a bare LF, which no later byte could mend.
    """
    end = buffer.find(b"\r\n\r\n", searched - 3 if searched > 3 else 0)
    if end >= 0:
        if end + 4 > head_bytes:
            raise BadMessage(431, f"the head is longer than {head_bytes} bytes")
        return end + 4
    if len(buffer) >= head_bytes:
        raise BadMessage(431, f"the head is longer than {head_bytes} bytes")
    if _BARE_LF.search(buffer, searched):
        raise BadMessage(400, "a line of the head ends without CR LF")
    return -1


def path_of(buffer: bytes) -> str:
    """The path of a request line, for errors about the request; empty where the line cannot be read."""
    line = _REQUEST_LINE.match(buffer[:REQUEST_LINE_BYTES].decode("latin-1"))
    return line[2].partition("?")[0] if line and line[2].startswith("/") else ""


def check_partial_request(buffer: bytes) -> None:
    """Refuses an incomplete request head that no later byte could mend: no HTTP at all (400), or a long line (414)."""
    if not _NAME.match(chr(buffer[0])):
        raise BadMessage(400, "the request does not begin with a method")
    if len(buffer) > REQUEST_LINE_BYTES and buffer.find(b"\r\n", 0, REQUEST_LINE_BYTES) < 0:
        raise BadMessage(414, f"the request line is longer than {REQUEST_LINE_BYTES} bytes")


def read_request_head(head: bytes, header_count: int = HEADER_COUNT) -> RequestHead:
    """The values of a whole head (as `find_head_end` cut it). Raises BadMessage for all that is refused."""
    text = head.decode("latin-1")
    line_end = text.find("\r\n")
    line = text[:line_end]
    method, path, query, is_http_1_0 = _known_request_lines.get(line) or _read_request_line(line)
    _judge(head)
    headers = _read_headers(text, line_end + 2, header_count)
    if "host" not in headers and not is_http_1_0:  # HTTP/1.0 has no Host
        raise BadMessage(400, "the Host header is missing")
    expects_continue = "expect" in headers and not is_http_1_0
    if expects_continue and headers["expect"].lower() != "100-continue":
        raise BadMessage(417, "the expectation is unknown; only 100-continue is met")
    if "content-encoding" in headers and headers["content-encoding"].lower() not in ("identity", ""):
        raise BadMessage(415, "request bodies with a content-encoding are not accepted")
    length = body_length(headers, is_http_1_0) or 0
    is_kept_alive = not is_http_1_0 and not has_close(headers)
    return RequestHead(method, path, query, headers, length, is_http_1_0, is_kept_alive, expects_continue)


class HeadMemory:
    """The last head of one connection: a client says the same again, but for the length of its body.

    A head that differs in nothing but the digits of its Content-Length has been judged already. It may hold a
    secret, so it is kept with its connection and nowhere else.
    """

    __slots__ = ("_before", "_behind", "_head")

    def __init__(self) -> None:
        self._before = self._behind = b""
        self._head: RequestHead | None = None

    def match(self, buffer: bytes) -> tuple[RequestHead, int] | None:
        """The head that `buffer` begins with and where it ends, where it is the last one again; None: it is to be
        read. The headers of two heads may be one dictionary: they are not to be changed."""
        known, before = self._head, self._before
        if known is None or not buffer.startswith(before):
            return None
        at = buffer.find(b"\r", len(before), len(before) + _LENGTH_DIGITS + 1)
        if at < 0 or not buffer.startswith(self._behind, at):
            return None
        digits = buffer[len(before) : at]
        if not digits.isdigit():
            return None
        length = int(digits)
        if length != known.length:
            headers = {**known.headers, "content-length": digits.decode()}
            # Only plain heads are kept: HTTP/1.1, to be followed by others, without an expectation.
            same = RequestHead(known.method, known.path, known.query, headers, length, False, True, False, known.note)
            known = self._head = same
        return known, at + len(self._behind)

    def read(self, head: bytes, header_count: int = HEADER_COUNT) -> RequestHead:
        """As `read_request_head`; a plain head is kept: HTTP/1.1, to be followed by others, with a body of a known
        length."""
        read = read_request_head(head, header_count)
        self._head = None
        if "content-length" in read.headers and read.is_kept_alive and not read.expects_continue:
            match = _LENGTH_LINE.search(head)
            if match is not None:
                self._before, self._behind, self._head = head[: match.start(1)], head[match.end(1) :], read
        return read


_LENGTH_LINE: Final = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ([0-9]+)(?=\r\n)")


def _read_request_line(line: str) -> tuple[str, str, str, bool]:
    """Method, path, query, and whether the version is 1.0."""
    match = _REQUEST_LINE.fullmatch(line)
    if len(line) + 2 > REQUEST_LINE_BYTES:
        raise BadMessage(414, f"the request line is longer than {REQUEST_LINE_BYTES} bytes")
    if match is None:
        raise BadMessage(400, "the request line is malformed")
    method, target, version = match.groups()
    if version != "1.1" and version != "1.0":
        raise BadMessage(505, "the HTTP version is not supported; use HTTP/1.1")
    if target[0] != "/" or "#" in target:
        raise BadMessage(400, "the request target is not a plain path")
    path, _, query = target.partition("?")
    values = method, path, query, version == "1.0"
    if not query:
        _remember(_known_request_lines, line, values)
    return values


def _read_headers(text: str, start: int, header_count: int) -> dict[str, str]:
    """The headers of a head, from `start` (behind the start line) to the blank line; names are lower case."""
    if start + 2 == len(text):
        return {}
    lines = text[start:-4].split("\r\n")
    if len(lines) > header_count:
        raise BadMessage(431, f"the head has more than {header_count} headers")
    fields = [_known_header_lines.get(line) or _read_header_line(line) for line in lines]
    headers = dict(fields)
    return headers if len(headers) == len(lines) else _join_repeated(fields)


def _read_header_line(line: str) -> tuple[str, str]:
    match = _HEADER_LINE.fullmatch(line)
    if match is None:
        raise BadMessage(400, "a header line is malformed")
    name, value = match[1].lower(), match[2].strip(" \t")
    if name == "host" and not _HOST.fullmatch(value):
        raise BadMessage(400, "the Host header is malformed")
    if name not in _SECRETS:
        _remember(_known_header_lines, line, (name, value))
    return name, value


# Clients say the same again and again: a line that was read once costs a look-up the next time. Lines that failed a
# check or hold a secret are never kept.
_REMEMBERED: Final = 512
_REMEMBERED_LENGTH: Final = 256
_known_request_lines: Final[dict[str, tuple[str, str, str, bool]]] = {}
_known_header_lines: Final[dict[str, tuple[str, str]]] = {}


def _remember(known: dict[str, _Values], line: str, values: _Values) -> None:
    if len(line) <= _REMEMBERED_LENGTH:
        if len(known) >= _REMEMBERED:
            known.clear()
        known[line] = values


def body_length(headers: Mapping[str, str], is_http_1_0: bool = False) -> int | None:
    """How long the body is by its headers: a byte count, `CHUNKED`, or None where they say nothing.

    Raises BadMessage where they are ambiguous: any Transfer-Encoding but a single `chunked` on HTTP/1.1, both
    kinds at once, or a Content-Length that is no plain number (repeated ones arrive joined, so they are none).
    """
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if headers.get("content-length") is not None:
            raise BadMessage(400, "Transfer-Encoding and Content-Length are both present")
        if is_http_1_0:
            raise BadMessage(400, "Transfer-Encoding is not part of HTTP/1.0")
        if coding.lower() != "chunked":
            raise BadMessage(501, "the only Transfer-Encoding served is a single chunked")
        return CHUNKED
    length = headers.get("content-length")
    if length is None:
        return None
    if len(length) > _LENGTH_DIGITS or not (length.isascii() and length.isdecimal()):
        raise BadMessage(400, "Content-Length is not a plain number")
    return int(length)


def has_close(headers: dict[str, str]) -> bool:
    """Whether the Connection header holds the word `close`."""
    connection = headers.get("connection")
    if connection is None or connection == "keep-alive":
        return False
    return any(word.strip(" \t").lower() == "close" for word in connection.split(","))


def render_headers(headers: Iterable[tuple[str, str]]) -> str:
    """The header lines of a message we send, without the blank line.

    Raises ValueError for what could split a message or change its length: CR, LF or NUL in a value, a name that is
    no token, characters beyond latin-1, and the headers that only this package writes (Content-Length,
    Transfer-Encoding, Connection, Upgrade, Trailer).
    """
    lines = [f"{name}: {value}\r\n" for name, value in headers if name in _checked_names or _check_name(name)]
    text = "".join(lines)
    if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text:
        raise ValueError("a header value holds CR, LF or NUL")
    if not text.isascii():
        text.encode("latin-1")
    return text


class Fields:
    """Header lines without the blank line that need no second look: by `rendered_fields`, or put together from such
    and from words that are safe to send."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def rendered_fields(headers: Iterable[tuple[str, str]]) -> Fields:
    """As `render_headers`. Values with what no header may hold are percent-encoded: they are names that callers and
    configurations made up, and an answer must not be lost over them. Raises ValueError for bad names."""
    return Fields(render_headers([(name, sendable(value)) for name, value in headers]))


def sendable(value: str) -> str:
    """`value` as it may stand in a header: what is not printable ASCII is percent-encoded, as UTF-8."""
    if value.isascii() and value.isprintable():
        return value
    return quote(value, safe=_PRINTABLE, errors="replace")


_CHECKED_NAMES_BOUND: Final = 1024
_checked_names: Final[set[str]] = set()


def _check_name(name: str) -> bool:
    """True, or ValueError; good names are remembered (a bounded number), which makes the second look a set lookup."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a header name")
    if name.lower() in _FRAMING_NAMES:
        raise ValueError(f"the header {name!r} is written by the connection itself")
    if len(_checked_names) < _CHECKED_NAMES_BOUND:
        _checked_names.add(name)
    return True


def _judge(head: bytes) -> None:
    """Raises BadMessage unless llhttp passes the head and sees its end where we do. Each head has a fresh parser:
    nothing of one request can colour the next."""
    watch = _Watch()
    try:
        httptools.HttpRequestParser(watch).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # CONNECT or Upgrade: ignored, as RFC 9110 section 7.8 allows; the body is framed by its own headers
    except httptools.HttpParserInvalidMethodError:
        raise BadMessage(501, "the method is unknown") from None
    except httptools.HttpParserError as error:
        raise BadMessage(400, f"the request head is malformed: {error}") from None
    if not watch.is_complete:
        raise BadMessage(400, "the request head is malformed")


def _join_repeated(fields: Sequence[tuple[str, str]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in fields:
        if name not in headers:
            headers[name] = value
        elif name in _SINGLE:
            raise BadMessage(400, f"the header {name} is repeated")
        else:
            headers[name] = f"{headers[name]}, {value}"
    return headers
