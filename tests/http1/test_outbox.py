"""What a turn sends leaves at its end, once, and behind what had to be on record first."""

from __future__ import annotations

from crossfade.http1.client import ClientConnection
from crossfade.http1.outbox import Outbox
from tests.http1.harness import FakeLoop


class Sender:
    def __init__(self, log: list[str], name: str, *, fails: bool = False):
        self._log, self._name, self._fails = log, name, fails

    def flush(self) -> None:
        self._log.append(self._name)
        if self._fails:
            raise RuntimeError(self._name)


def test_senders_are_flushed_in_order_at_the_end_of_the_turn_behind_the_record() -> None:
    loop, log = FakeLoop(), list[str]()
    outbox = Outbox(loop, lambda: log.append("record"))  # type: ignore[arg-type]  # a fake loop
    outbox.add(Sender(log, "a"))
    outbox.add(Sender(log, "b"))
    assert log == []
    assert len(loop.soon) == 1
    loop.run()
    assert log == ["record", "a", "b"]
    outbox.add(Sender(log, "c"))
    loop.run()
    assert log[3:] == ["record", "c"]


def test_one_sender_that_fails_is_reported_and_keeps_no_other_from_being_flushed() -> None:
    loop, log = FakeLoop(), list[str]()
    outbox = Outbox(loop)  # type: ignore[arg-type]  # a fake loop
    outbox.add(Sender(log, "a", fails=True))
    outbox.add(Sender(log, "b"))
    loop.run()
    assert log == ["a", "b"]
    assert len(loop.faults) == 1


class Upstream:
    """Owner, exchange and transport of one upstream connection, in one."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.heard: list[str] = []
        self.is_aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_extra_info(self, name: str) -> None:
        """There is no TLS."""

    def is_closing(self) -> bool:
        return self.is_aborted

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.is_aborted = True

    def on_reusable(self, connection: ClientConnection) -> None:
        self.heard.append("reusable")

    def on_closed(self, connection: ClientConnection) -> None:
        self.heard.append("closed")

    def on_head(self, status: int, headers: object) -> None:
        self.heard.append(f"head {status}")

    def on_end(self) -> None:
        self.heard.append("end")

    def on_stale(self) -> None:
        self.heard.append("stale")

    def on_failure(self, error: Exception) -> None:
        self.heard.append(f"failure {error}")


def start(loop: FakeLoop) -> tuple[Upstream, ClientConnection]:
    upstream = Upstream()
    connection = ClientConnection(upstream, Outbox(loop))  # type: ignore[arg-type]  # a fake loop
    connection.connection_made(upstream)  # type: ignore[arg-type]  # a fake transport
    connection.start(b"HEAD\r\n\r\n", b"body", upstream, lambda data: None)
    return upstream, connection


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def test_a_request_leaves_with_the_end_of_the_turn_and_never_once_its_connection_is_closed() -> None:
    loop = FakeLoop()
    upstream, _ = start(loop)
    assert upstream.written == []
    loop.run()
    assert upstream.written == [b"HEAD\r\n\r\nbody"]
    upstream, connection = start(loop)
    connection.close()
    loop.run()
    assert upstream.written == []


def test_an_answer_to_a_request_that_has_not_left_is_nobodys() -> None:
    loop = FakeLoop()
    upstream, connection = start(loop)
    loop.run()
    connection.data_received(ANSWER)
    assert upstream.heard == ["head 200", "reusable", "end"]
    connection.start(b"HEAD\r\n\r\n", b"body", upstream, lambda data: None)
    connection.data_received(ANSWER)  # a second one to the request before
    assert upstream.heard[3:] == ["stale", "closed"]
    loop.run()
    assert len(upstream.written) == 1


def test_a_server_that_speaks_first_on_a_new_connection_is_broken() -> None:
    loop = FakeLoop()
    upstream, connection = start(loop)
    connection.data_received(ANSWER)
    assert upstream.heard[0] == "closed"
    assert upstream.heard[1].startswith("failure")
    loop.run()
    assert upstream.written == []
