"""How a relay takes bodies that come in pieces of any size."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from crossfade.core.failure import Failure, FailureReason, Origin
from crossfade.core.policy import AttemptLimits
from crossfade.core.steps import Send
from crossfade.core.target import Target
from crossfade.core.verdict import Rejected, Verdict
from crossfade.engine import relay as relays
from crossfade.engine.relay import MAX_ERROR_BODY, Relay
from crossfade.transport.base import ResponseHead
from crossfade.wire.sse import SSE
from tests.compiled import interpreted_only

pytestmark = interpreted_only

SOMETHING = Failure(reason=FailureReason.SERVER_ERROR, origin=Origin.UPSTREAM)

LIMITS = AttemptLimits(connect=9.0, first_content=9.0, silence=9.0, idle=9.0, to_commit=9.0, max_stream=9.0)


class Reader:
    """A stream's adapter that keeps what it is fed."""

    is_complete = False
    undecodable = 0
    framing = SSE

    def __init__(self) -> None:
        self.fed = b""

    def feed(self, data: bytes) -> tuple[()]:
        self.fed += data
        return ()


class Runner:
    """What a relay needs of its runner and its provider's adapter; `bodies` are those the adapter was asked about."""

    facts: Any = None
    limits = ()

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []
        self.bodies: list[bytes] = []
        self.events = Reader()
        self.provider = self

    def wake_by(self, at: float) -> None:
        """Limits are not looked at here."""

    def on_verdict(self, relay: Relay, verdict: Verdict, now: float) -> None:
        self.verdicts.append(verdict)

    def reader(self, facts: Any) -> Reader:
        return self.events

    def completion(self, body: bytes, facts: Any) -> Failure:
        self.bodies.append(body)
        return SOMETHING

    def failure(self, status: int, headers: Any, body: bytes) -> Failure:
        self.bodies.append(body)
        return SOMETHING


class Gate:
    """Lets nothing out."""

    held = 0
    content_at = None
    finished = False
    failure = None


def relay_of(runner: Runner, *, stream: bool = False, status: int = 200) -> Relay:
    target = Target(key="one/model#0", name="one/model", provider="one", model="model")
    send = Send(attempt=1, target=target, limits=LIMITS, stream=stream)
    fakes: Any = (runner, Gate() if stream else None)
    made = Relay(fakes[0], send, fakes[0], fakes[1], 0.0)
    made.on_head(ResponseHead(status, {"content-type": "application/json"}))
    return made


@pytest.mark.parametrize("status", [200, 503])
def test_a_body_in_tiny_pieces_costs_little_more_than_its_bytes(status: int) -> None:
    runner = Runner()
    relay = relay_of(runner, status=status)
    count = MAX_ERROR_BODY // 3
    tracemalloc.start()
    try:
        for number in range(count):
            relay.on_body(b"%03d" % (number % 1000))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 2 * MAX_ERROR_BODY
    relay.on_end()
    assert runner.bodies == [b"".join(b"%03d" % (number % 1000) for number in range(count))]
    assert isinstance(runner.verdicts[0], Rejected)


def test_a_body_in_one_piece_is_not_copied() -> None:
    runner = Runner()
    relay = relay_of(runner)
    body = bytes(1000)
    relay.on_body(body)
    relay.on_end()
    assert runner.bodies[0] is body


def test_no_more_of_an_errors_body_is_kept_than_is_read() -> None:
    runner = Runner()
    relay = relay_of(runner, status=500)
    for _ in range(MAX_ERROR_BODY // 1000 + 10):
        relay.on_body(bytes(1000))
    relay.on_end()
    assert len(runner.bodies[0]) == MAX_ERROR_BODY


def test_a_body_that_is_too_long_is_refused_however_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "MAX_BODY", 1000)
    runner = Runner()
    relay = relay_of(runner)
    for _ in range(501):
        assert not runner.verdicts
        relay.on_body(b"ab")
    assert isinstance(runner.verdicts[0], Rejected)
    assert runner.verdicts[0].failure.reason is FailureReason.MALFORMED_OUTPUT


STREAM = b'\r\n \r\ndata: {"choices":[]}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("size", [1, 2, 5, 7, len(STREAM)])
def test_a_stream_that_is_not_announced_is_known_by_its_start_however_it_comes(size: int) -> None:
    runner = Runner()
    relay = relay_of(runner, stream=True)
    for at in range(0, len(STREAM), size):
        relay.on_body(STREAM[at : at + size])
    assert runner.events.fed == STREAM.lstrip()
    assert relay.held == 0


@pytest.mark.parametrize("size", [1, 2, 5, 7, 1000])
def test_a_whole_answer_in_the_place_of_a_stream_is_kept_however_it_comes(size: int) -> None:
    body = b' \n{"choices":[{"message":{"content":"data: no"}}]}' + b" " * 200
    runner = Runner()
    relay = relay_of(runner, stream=True)
    for at in range(0, len(body), size):
        relay.on_body(body[at : at + size])
    relay.on_end()
    assert (runner.bodies, runner.events.fed) == ([body.lstrip()], b"")
