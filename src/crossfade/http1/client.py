"""One upstream connection: writes one request at a time, reads its response, and says whether it may be used again.

Decides what counts as a whole response, a broken one, or a stale connection. It knows nothing of providers, pools,
retries or limits of time; it never reads a clock. llhttp parses; what llhttp lets through and a gateway must not is
refused here (design section 11), and no leniency of llhttp is ever enabled.

Rules:
- interim responses (1xx) are skipped, however many, within the bound of the head; 101 is refused: nothing asked for it;
- a body ends by its length, its last chunk, or (with neither) by EOF; EOF anywhere else is an interruption;
- the head, and later chunk lines with extensions, and trailers, are bounded; trailers are checked and dropped;
- bytes behind the end of a response, or on an idle connection, end the connection: whose answer they are is unknowable;
- facts go to the exchange from within `data_received`; an exchange may end the connection from within any of them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, cast

import httptools

from crossfade.core.errors import BadBytes, Interrupted, TransportError
from crossfade.http1.chunks import content_of_chunk
from crossfade.http1.head import BadMessage, body_length, render_headers
from crossfade.http1.outbox import Outbox, Sender
from crossfade.http1.received import ReceivedHeaders
from crossfade.http1.small_reads import Reading, SmallReads

RESPONSE_HEAD_BYTES: Final = 64 * 1024
"""Bound on a response's head, interim ones included; the same budget bounds chunk lines, extensions and trailers."""

RESPONSE_HEADER_COUNT: Final = 200
"""Bound on the header lines of a response."""

READ_BYTES: Final = 96 * 1024
"""Bytes of a response that are read as they come; of more, other connections have a turn after each SLICE_BYTES."""

SLICE_BYTES: Final = 32 * 1024

RELAYED_BYTES: Final = 8 * 1024
"""Bytes that are read at once of a response that is passed on as it comes. Its reader may be slow: what has been read
is kept until it can leave, and in another dialect it may be several times as long."""

SECURED_BYTES: Final = 48 * 1024
"""Encrypted bytes that the loop keeps while reading is paused; half of it must be more than one record of TLS."""

# What chunk framing may take for each piece of body without being counted: a size line, its extension, two CR LF.
_FRAMING_PER_PIECE: Final = 64

_JOIN_BODY_BELOW: Final = 64 * 1024  # larger bodies are handed over as they are instead of being copied behind the head
_METHODS_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})  # no Content-Length: 0 from these
_KNOWN_START_LINES: Final = 256
_UNCODED: Final = ("identity", "")
_SHORTEST_HEADER: Final = len(b"a:\r\n")


class Exchange(Protocol):
    """What hears of the response to one request. After `on_end`, `on_failure` or `on_stale` it hears nothing more."""

    __slots__ = ()

    def on_head(self, status: int, headers: Mapping[str, str]) -> None: ...

    def on_end(self) -> None: ...

    def on_failure(self, error: TransportError) -> None: ...

    def on_stale(self) -> None:
        """A connection that had served before was gone before it answered: the request may go out again."""


class Owner(Protocol):
    """What keeps connections. Both are called at most once per request and per connection respectively."""

    def on_reusable(self, connection: ClientConnection) -> None: ...

    def on_closed(self, connection: ClientConnection) -> None: ...


class _SecuredTransport(Protocol):
    def set_read_buffer_limits(self, high: int, low: int) -> None: ...


class _Refused(Exception):
    """The response is not one we accept; raised through the parser, never beyond this file."""


class RequestWriter:
    """Renders request heads for one authority. Start lines, and heads whose headers are a tuple, are kept (a bounded
    number), for they hardly vary.

    `authority` is the value of Host; `target_prefix` goes before every path (absolute form, for proxies); `fixed`
    are header lines that every request carries. Our own: Host, Accept-Encoding: identity, Content-Length.
    """

    def __init__(self, authority: str, *, target_prefix: str = "", fixed: tuple[tuple[str, str], ...] = ()) -> None:
        lines = (("Host", authority), ("Accept-Encoding", "identity"), *fixed)
        self._common = render_headers(lines)
        self._target_prefix = target_prefix
        self._starts: dict[tuple[str, str], str] = {}
        self._known: dict[tuple[str, str, tuple[tuple[str, str], ...]], bytes] = {}

    def head(self, method: str, path: str, headers: Sequence[tuple[str, str]], length: int) -> bytes:
        """The head of a request with a body of `length` bytes. Raises ValueError for what could split a request."""
        if isinstance(headers, tuple):
            known = self._known.get((method, path, headers)) or self._remembered(method, path, headers)
        else:
            known = self._rendered(method, path, headers)
        if length or method not in _METHODS_WITHOUT_BODY:
            return b"%sContent-Length: %d\r\n\r\n" % (known, length)
        return known + b"\r\n"

    def _rendered(self, method: str, path: str, headers: Sequence[tuple[str, str]]) -> bytes:
        start = self._starts.get((method, path)) or self._start(method, path)
        return f"{start}{render_headers(headers)}".encode("latin-1")

    def _remembered(self, method: str, path: str, headers: tuple[tuple[str, str], ...]) -> bytes:
        """A provider's headers are the same each time, but for the length of the body."""
        rendered = self._rendered(method, path, headers)
        if len(self._known) >= _KNOWN_START_LINES:
            self._known.clear()
        self._known[method, path, headers] = rendered
        return rendered

    def _start(self, method: str, path: str) -> str:
        if not (method.isascii() and method.isalpha()):
            raise ValueError("the method is not a word")
        if not path.startswith("/") or any(not "!" <= character <= "~" for character in path):
            raise ValueError("the path holds blanks, controls or characters beyond ASCII, or does not begin with '/'")
        start = f"{method} {self._target_prefix}{path} HTTP/1.1\r\n{self._common}"
        if len(self._starts) >= _KNOWN_START_LINES:
            self._starts.clear()
        self._starts[method, path] = start
        return start


class ClientConnection(Sender, Reading):
    """One upstream connection: an `asyncio.Protocol` in all but its base, which would slow a compiled class down.

    `start` begins an exchange and may be called again once the owner has heard `on_reusable`. `close` ends the
    connection at once, without a farewell and without a word to the exchange. With an `outbox` requests leave at the
    end of the loop's turn, else at once.
    """

    __slots__ = (
        "_deliver",
        "_exchange",
        "_framing",
        "_head",
        "_is_behind_chunk",
        "_is_bodiless",
        "_is_closed",
        "_is_complete",
        "_is_heard",
        "_is_in_head",
        "_is_interim",
        "_is_kept_alive",
        "_is_paused",
        "_is_reading",
        "_is_relayed",
        "_is_resting",
        "_is_until_eof",
        "_later",
        "_outbox",
        "_owner",
        "_parser",
        "_secured",
        "_served",
        "_small_reads",
        "_transport",
        "_unsent",
    )

    def __init__(self, owner: Owner, outbox: Outbox | None = None) -> None:
        self._owner = owner
        self._outbox = outbox
        self._unsent: tuple[bytes, bytes] | None = None  # the request, until it leaves with the end of the turn
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._secured: Any = None  # the loop's `ssl.SSLObject`, over TLS
        self._exchange: Exchange | None = None
        self._deliver: Callable[[bytes], None] = _ignore
        self._head = b""  # what has come of a response head that is not yet whole
        self._framing = 0  # bytes received that were no content, less what each piece of body is allowed
        self._served = 0  # responses read to their end
        self._is_closed = False
        self._is_paused = False
        self._is_reading = True
        self._is_relayed = False
        self._is_resting = False  # others have their turn before more is read
        self._is_bodiless = False
        self._is_in_head = True
        self._is_interim = False
        self._is_heard = False
        self._is_complete = False
        self._is_kept_alive = False
        self._is_until_eof = False
        self._is_behind_chunk = False  # the parser has taken a whole chunk last, and nothing behind it
        self._later = b""  # what came and is not read yet
        self._small_reads: SmallReads | None = None  # what the loop calls in our place, for as long as that is needed

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "idle" if self._exchange is None else "busy"
        return f"<ClientConnection {state}, served {self._served}>"

    # -- the owner's side

    @property
    def is_usable(self) -> bool:
        """Whether a request may be started: connected, and not already closing."""
        return self._transport is not None and not self._is_closed and not self._transport.is_closing()

    def start(
        self,
        head: bytes,
        body: bytes,
        exchange: Exchange,
        deliver: Callable[[bytes], None],
        is_head: bool = False,
        is_relayed: bool = False,
    ) -> None:
        """Writes a request and reads its response into `exchange`, pieces of the body into `deliver`.

        `is_head`: the request is a HEAD, whose response has no body whatever its headers say. `is_relayed`: the body is
        passed on as it comes, to a reader who may be slow, so no more of it is taken than is being passed on.
        """
        assert self._transport is not None
        if is_relayed != self._is_relayed:
            self._is_relayed = is_relayed
            self._choose_reads(self._transport)
        self._exchange, self._deliver = exchange, deliver
        self._head = b""
        self._framing = 0
        self._is_in_head = True
        self._is_behind_chunk = False
        self._is_heard = self._is_complete = self._is_until_eof = False
        self._is_bodiless = is_head
        self._unsent = head, body
        if self._outbox is None:
            self.flush()
        else:
            self._outbox.add(self)

    def flush(self) -> None:
        """Writes the request, if it has not left yet."""
        unsent, self._unsent = self._unsent, None
        if unsent is None or self._transport is None or self._transport.is_closing():
            return
        head, body = unsent
        if len(body) < _JOIN_BODY_BELOW:
            self._transport.write(head + body)
        else:
            self._transport.writelines(unsent)

    def pause(self) -> None:
        """Stops reading; what is already being parsed still arrives. A close goes unnoticed until `resume`."""
        if not self._is_paused and self._transport is not None and not self._is_closed:
            self._is_paused = True
            self._steer()

    def resume(self) -> None:
        """Reads again. Twice is harmless."""
        if self._is_paused and self._transport is not None and not self._is_closed:
            self._is_paused = False
            if self._later:
                asyncio.get_running_loop().call_soon(self._read_later)
            else:
                self._steer()

    def _steer(self) -> None:
        """Reads from the socket, or not: as the owner of the exchange wants, and not before all that came is read."""
        should_read = not self._is_paused and not self._later and not self._is_resting
        transport = self._transport
        if should_read == self._is_reading or transport is None or transport.is_closing():
            return
        self._is_reading = should_read
        if not should_read:
            transport.pause_reading()
            return
        transport.resume_reading()

    def _choose_reads(self, transport: asyncio.Transport) -> None:
        """How the loop is to read: what is relayed in small reads, else as much as it likes. asyncio's own loop takes
        none but its own classes for that, so there it is as much as it likes, too."""
        may_choose = self._is_relayed and not type(transport).__module__.startswith("asyncio.")
        self._small_reads = SmallReads(self, RELAYED_BYTES) if may_choose else None
        if self._is_reading:
            transport.pause_reading()
        transport.set_protocol(cast(asyncio.BaseProtocol, self._small_reads or self))
        if self._is_reading:
            transport.resume_reading()

    def close(self) -> None:
        """Aborts the connection (a TLS close could take 30 s) and tells the owner, once. Twice is harmless."""
        if self._is_closed:
            return
        self._is_closed = True
        self._exchange, self._deliver = None, _ignore
        self._parser = self._small_reads = self._secured = None  # they and the connection hold each other
        self._is_behind_chunk = False
        self._later = b""
        self._unsent = None
        if self._transport is not None:
            self._transport.abort()
        self._owner.on_closed(self)

    # -- the loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._secured = secured = transport.get_extra_info("ssl_object")
        if secured is not None:
            cast(_SecuredTransport, transport).set_read_buffer_limits(SECURED_BYTES, SECURED_BYTES // 2)

    def pause_writing(self) -> None:
        """A request is written whole, whatever its size."""

    def resume_writing(self) -> None:
        """As above."""

    def data_received(self, data: bytes) -> None:
        if len(data) > READ_BYTES or self._later:
            self._later += data
            self._steer()  # or the loop would go on with this connection for as long as more has come
            self._read_later()
        elif self._is_behind_chunk and (content := content_of_chunk(data)) is not None:
            # Most events of a stream: a chunk each, after which the parser is where it was, so it need not see them.
            if (
                self._framing
            ):  # as where it sees them: each piece of content pays for framing, also for what came before
                self._framing = max(0, self._framing + len(data) - 2 * len(content) - _FRAMING_PER_PIECE)
            self._deliver(content)
        elif self._is_in_head or self._exchange is None:
            self._read(data)
        else:
            self._parse(data)

    def on_small_read(self, data: bytes, is_full: bool) -> None:
        """What `SmallReads` has read. Behind a full read others have a turn, for more has come."""
        if is_full and not self._is_resting:
            self._is_resting = True
            self._steer()
            asyncio.get_running_loop().call_soon(self._go_on)
        self.data_received(data)

    def _go_on(self) -> None:
        self._is_resting = False
        if not self._is_closed:
            self._steer()

    def _read_later(self) -> None:
        """Reads a piece of what came, and leaves the rest to later turns."""
        if self._is_paused or not self._later:
            return
        data, self._later = self._later[:SLICE_BYTES], self._later[SLICE_BYTES:]
        self._read(data)
        if self._is_closed or self._is_paused:
            return
        if self._later:
            asyncio.get_running_loop().call_soon(self._read_later)
        else:
            self._steer()

    def _read_all_later(self) -> None:
        """The connection is at its end: what came before that is still the response's."""
        if self._later and not self._is_closed:
            data, self._later = self._later, b""
            self._read(data)

    def _read_what_is_encrypted(self) -> None:
        """What had come over TLS before the end and was not asked for yet, because reading was paused: the loop would
        forget it with the connection."""
        try:
            while not self._is_closed and self._exchange is not None:
                data: bytes = self._secured.read(SLICE_BYTES)
                if not data:  # the server's farewell: the end of a body that lasts until EOF
                    self.eof_received()
                    return
                self._read(data)
        except ssl.SSLError:
            return  # no more, or a record that was cut

    def _read(self, data: bytes) -> None:
        if self._exchange is None:
            self.close()  # nobody asked: a second response, or the farewell of a server that closes
            return
        if self._unsent is not None:  # as above, just before a request would have left
            self._on_broken("spoken on by the server")
            return
        if not self._is_in_head or self._may_read_head(data):
            self._parse(data)

    def eof_received(self) -> None:
        self._read_all_later()
        if self._is_until_eof and self._exchange is not None:
            self._is_complete = True
            self._is_kept_alive = False
            self._finish()
        else:
            self._on_broken("closed")

    def connection_lost(self, error: Exception | None) -> None:
        self._read_all_later()
        if self._secured is not None and self._exchange is not None and not self._is_closed:
            self._read_what_is_encrypted()
        # Also where TLS ended without its close_notify: then even a body that lasts until EOF may have been cut.
        if not self._is_closed:
            self._on_broken("closed" if error is None else f"lost ({type(error).__name__})")
        self._transport = None

    # -- the parser's side

    # No `on_header`: what llhttp has passed is looked up where it lies. So a trailer never becomes a header either.

    def on_message_begin(self) -> None:
        if self._is_complete:
            self._is_kept_alive = False  # bytes behind the end of the response

    def on_headers_complete(self) -> None:
        if not self._is_in_head or self._exchange is None or self._parser is None:
            return
        end = self._head.find(b"\r\n\r\n") + 4
        head = self._head[:end]
        if head[:9] != b"HTTP/1.1 " and head[:9] != b"HTTP/1.0 ":
            raise _Refused("the response is of an HTTP version that was not asked for")
        if end > _SHORTEST_HEADER * RESPONSE_HEADER_COUNT and head.count(b"\n") - 2 > RESPONSE_HEADER_COUNT:
            raise _Refused(f"the response has more than {RESPONSE_HEADER_COUNT} headers")
        headers = ReceivedHeaders(head)
        status = self._parser.get_status_code()
        if status < 200:
            self._skip_interim(status, headers)
            self._head = self._head[end:]
            return
        self._head = b""
        self._is_in_head = self._is_interim = False
        is_bodiless = self._is_bodiless or status == 204 or status == 304
        if headers.has_encoding:
            has_length = _has_length(headers, head[:9] == b"HTTP/1.0 ", is_bodiless)
        else:
            has_length = headers.has_length  # one, and a number, or llhttp would not have passed it
        self._is_until_eof = not has_length and not is_bodiless
        self._exchange.on_head(status, headers)
        if is_bodiless and (has_length or self._is_bodiless):
            # llhttp may wait for the body that the headers speak of.
            self._is_complete, self._is_kept_alive = True, False
            self._deliver = _ignore

    def on_chunk_header(self) -> None:
        self._is_behind_chunk = False

    def on_chunk_complete(self) -> None:
        self._is_behind_chunk = not self._is_closed

    def on_body(self, data: bytes) -> None:
        self._framing -= len(data) + _FRAMING_PER_PIECE
        self._deliver(data)

    def on_message_complete(self) -> None:
        self._is_behind_chunk = False  # the last one is no chunk to go on from
        if self._is_in_head and self._is_interim:
            self._is_interim = False
        elif not self._is_complete and self._parser is not None:
            self._is_complete = True
            self._is_kept_alive = self._parser.should_keep_alive()
            self._deliver = _ignore  # what follows is of no response to this request

    # -- steps

    def _may_read_head(self, data: bytes) -> bool:
        """Keeps `data` as part of the head; False where it is dealt with already."""
        if not self._is_heard:
            self._is_heard = True
            if data[0] != 0x48:  # "H": llhttp would also take RTSP, and blank lines before the response
                self._fail(BadBytes("the answer is no HTTP/1.1"))
                return False
        room = RESPONSE_HEAD_BYTES - self._framing
        if len(data) <= room:
            self._head = self._head + data if self._head else data
            return True
        # Only as much as a head may be; the rest follows once the head is known to have ended.
        self._head += data[:room]
        self._parse(data[:room], is_followed=True)
        if self._exchange is not None:
            if self._is_in_head:
                self._fail(BadBytes(f"the response head is longer than {RESPONSE_HEAD_BYTES} bytes"))
            else:
                self._read(data[room:])
        return False

    def _parse(self, data: bytes, *, is_followed: bool = False) -> None:
        """Feeds the parser, and ends the exchange where that was its end. `is_followed`: more has come already."""
        self._framing += len(data)
        try:
            if self._parser is not None:
                self._parser.feed_data(data)
            if data[-1:] != b"\n":
                self._is_behind_chunk = False  # part of a next chunk's first line, of which the parser says nothing yet
        except httptools.HttpParserError as error:
            self._on_parser_error(error)
            return
        if self._framing > RESPONSE_HEAD_BYTES:
            self._fail(BadBytes(f"the response has more than {RESPONSE_HEAD_BYTES} bytes that are no content"))
        elif self._is_complete:
            if is_followed:
                self._is_kept_alive = False
            self._finish()
        elif self._framing < 0:
            self._framing = 0  # many small pieces must not save up for a monstrous chunk line

    def _skip_interim(self, status: int, headers: ReceivedHeaders) -> None:
        if status < 100 or status == 101:
            raise _Refused(f"the answer has status {status}, which nothing asked for")
        if "content-length" in headers or "transfer-encoding" in headers:
            raise _Refused("an interim response announces a body")
        self._is_interim = True

    def _finish(self) -> None:
        exchange, transport = self._exchange, self._transport
        if exchange is None or transport is None:
            return  # the exchange was ended from within one of its facts
        self._exchange, self._deliver = None, _ignore
        self._served += 1
        # A request that is not all sent although its answer is complete: the rest would be read as the next request.
        # Bytes in `_later` are behind the end of the response.
        if (
            self._is_kept_alive
            and not self._later
            and not self._is_resting  # behind a full read there may be more, and it would be behind the response
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        ):
            if self._is_paused:
                self.resume()
            self._owner.on_reusable(self)
        else:
            self.close()
        exchange.on_end()

    def _on_parser_error(self, error: httptools.HttpParserError) -> None:
        cause = error.__context__
        if isinstance(error, httptools.HttpParserCallbackError) and cause is not None:
            if not isinstance(cause, _Refused):
                self.close()
                raise cause  # a fault of ours, not of the upstream's
            detail = str(cause)
        else:
            detail = f"the answer is malformed: {error}"
        if self._is_complete:
            self._is_kept_alive = False  # nonsense behind a complete response
            self._finish()
        else:
            self._fail(BadBytes(detail))

    def _on_broken(self, how: str) -> None:
        exchange = self._exchange
        if exchange is None:
            self.close()
        elif not self._is_in_head:
            self._fail(Interrupted(f"the connection was {how} before the end of the response"))
        elif self._is_heard:
            self._fail(BadBytes(f"the connection was {how} inside the response head"))
        elif self._served:
            self._exchange = None
            exchange.on_stale()  # before the owner hears of it: the call goes before those that wait
            self.close()
        else:
            self._fail(BadBytes(f"the connection was {how} before an answer"))

    def _fail(self, error: TransportError) -> None:
        exchange = self._exchange
        self.close()
        if exchange is not None:
            exchange.on_failure(error)


def _has_length(headers: ReceivedHeaders, is_http_1_0: bool, is_bodiless: bool) -> bool:
    """Whether the head of a response that may have a coding says how long its body is. Raises _Refused."""
    try:
        length = body_length(headers, is_http_1_0)
    except BadMessage as refusal:
        raise _Refused(refusal.message) from None
    if not is_bodiless and headers.get("content-encoding", "").lower() not in _UNCODED:
        raise _Refused("the response is compressed, though identity was asked for")
    return length is not None


def _ignore(data: bytes) -> None:
    """Body that nobody waits for any more."""
