"""Injected faults look to a sink as the real ones do, hit what they should, and cost nothing when off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crossfade.core.errors import BadBytes, ConnectFailed, Interrupted, TimedOut, TransportError
from crossfade.core.failure import Phase
from crossfade.transport.base import ResponseSink, Transport, UpstreamRequest
from crossfade.transport.chaos import ChaosTransport, Fault, FaultKind, parse_fault
from crossfade.transport.http import HttpTransport
from crossfade.transport.scripted import Fail, Script, ScriptedCall, ScriptedTransport, answer, stream
from tests.support import run
from tests.transport.support import Leftovers, Server, Sink, request_to, serving, until

EVENTS = [b"data: 1\n\n", b": ping\n\n", b"data: 2\n\n", b"data: 3\n\n", b"data: [DONE]\n\n"]


def to(target: str) -> UpstreamRequest:
    request = request_to(80)
    request.target = target
    return request


class Bench:
    """A chaos transport over a scripted one; `inner.calls` are the calls that were really made."""

    def __init__(self, *rules: Fault, script: Script | None = None, **options: Any) -> None:
        self.inner = ScriptedTransport(
            lambda request: answer(b"ok") if script is None else script, loop=asyncio.get_running_loop()
        )
        self.chaos: Transport = ChaosTransport(self.inner, rules, loop=asyncio.get_running_loop(), **options)

    async def call(self, target: str = "anthropic/claude", turns: int = 40) -> Sink:
        """The sink of a call after some turns of the loop."""
        sink = Sink()
        self.chaos.send(to(target), sink)
        for _ in range(turns):
            await asyncio.sleep(0)
        return sink


def fault(kind: FaultKind, **changes: Any) -> Fault:
    return Fault(kind=kind, **changes)


def test_without_rules_send_is_that_of_the_inner_transport() -> None:
    async def main() -> None:
        bench = Bench()
        assert bench.chaos.send == bench.inner.send
        assert isinstance(bench.chaos, ChaosTransport)
        bench.chaos.set_rules([fault(FaultKind.REFUSE)])
        assert (await bench.call()).names == ["failure"]
        bench.chaos.set_rules([])
        assert bench.chaos.send == bench.inner.send
        bench.chaos.close()
        assert (await bench.call()).names == ["failure"]

    run(main())


@pytest.mark.parametrize(
    ("kind", "names", "error"),
    [
        (FaultKind.REFUSE, ["failure"], ConnectFailed),
        (FaultKind.SILENCE, ["sent"], None),
        (FaultKind.RESET, ["sent", "failure"], BadBytes),
        (FaultKind.EMPTY, ["sent", "head", "body", "end"], None),
        (FaultKind.MALFORMED, ["sent", "head", "body", "end"], None),
    ],
)
def test_faults_that_make_no_call(kind: FaultKind, names: list[str], error: type[TransportError] | None) -> None:
    async def main() -> None:
        bench = Bench(fault(kind))
        sink = await bench.call()
        assert sink.names == names
        assert (type(sink.error) if sink.error else None) is error
        assert bench.inner.calls == []

    run(main())


@pytest.mark.parametrize("kind", ["500", "503", "529", "429", "401", "400"])
def test_statuses(kind: str) -> None:
    async def main() -> None:
        sink = await Bench(fault(FaultKind(kind), retry_after=7)).call()
        assert sink.head is not None
        assert sink.head.status == int(kind)
        assert sink.head.headers.get("retry-after") == ("7" if kind == "429" else None)
        assert b"error" in sink.body
        assert sink.names[-1] == "end"

    run(main())


def test_a_body_of_the_dialect_replaces_the_made_up_one() -> None:
    async def main() -> None:
        for kind in (FaultKind.EMPTY, FaultKind.STATUS_500, FaultKind.MALFORMED):
            sink = await Bench(fault(kind, body=b"mine", content_type="text/event-stream")).call()
            assert sink.body == b"mine"
            assert sink.head is not None
            assert sink.head.headers["content-type"] == "text/event-stream"

    run(main())


def test_a_connect_timeout_comes_at_the_limit_of_the_request() -> None:
    async def main() -> None:
        bench = Bench(fault(FaultKind.CONNECT_TIMEOUT))
        sink = Sink()
        request = to("anthropic/claude")
        request.connect_timeout = 0.01
        bench.chaos.send(request, sink)
        await sink.over.wait()
        assert isinstance(sink.error, TimedOut)
        assert sink.error.phase is Phase.CONNECT
        assert sink.names == ["failure"]

    run(main())


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        (FaultKind.CUT, [("failure", "Interrupted")]),
        (FaultKind.STALL, []),
        (FaultKind.BAD_CHUNK, [("failure", "BadBytes")]),
    ],
)
@pytest.mark.parametrize("is_in_one_piece", [False, True])
def test_a_stream_breaks_after_its_second_event_with_data(
    kind: FaultKind, end: list[tuple[str, object]], is_in_one_piece: bool
) -> None:
    async def main() -> None:
        bench = Bench(fault(kind), script=stream([b"".join(EVENTS)] if is_in_one_piece else EVENTS))
        sink = await bench.call()
        assert sink.facts == [("sent", None), ("head", 200), ("body", b"".join(EVENTS[:3])), *end]
        assert bench.inner.calls[0].is_aborted

    run(main())


@pytest.mark.parametrize("kind", [FaultKind.CUT, FaultKind.STALL, FaultKind.BAD_CHUNK])
def test_an_answer_in_one_piece_does_not_slip_through_whole(kind: FaultKind) -> None:
    async def main() -> None:
        sink = await Bench(fault(kind)).call()
        assert "end" not in sink.names
        assert sink.names[:3] == ["sent", "head", "body"]

    run(main())


def test_after_nought_pieces_only_the_head_passes() -> None:
    async def main() -> None:
        sink = await Bench(fault(FaultKind.CUT, after=0), script=stream(EVENTS)).call()
        assert sink.names == ["sent", "head", "failure"]

    run(main())


@pytest.mark.parametrize("script", [answer(b"no", 401), [Fail(Interrupted("real"))]])
def test_a_real_failure_passes_as_it_is(script: Script) -> None:
    async def main() -> None:
        bench = Bench(fault(FaultKind.CUT, after=0), script=script)
        plain = Bench(script=script)
        assert (await bench.call()).facts == (await plain.call()).facts

    run(main())


def test_latency_delays_the_real_call_and_can_be_aborted() -> None:
    async def main() -> None:
        bench = Bench(fault(FaultKind.LATENCY, delay=0.01))
        sink, gone = Sink(), Sink()
        call = bench.chaos.send(to("a/b"), sink)
        call.pause()
        bench.chaos.send(to("a/b"), gone).abort()
        assert bench.inner.calls == []
        await until(lambda: len(bench.inner.calls) == 1, "made")
        assert bench.inner.calls[0].is_paused
        call.resume()
        await sink.over.wait()
        assert sink.names == ["sent", "head", "body", "end"]
        call.abort()
        slow = bench.chaos.send(to("a/b"), Sink())
        await until(lambda: len(bench.inner.calls) == 2, "made")
        slow.abort()
        assert bench.inner.calls[1].is_aborted
        assert gone.facts == []

    run(main())


@pytest.mark.parametrize(
    ("match", "target", "is_hit"),
    [
        ("anthropic", "anthropic/claude-opus-5", True),
        ("anthropic/claude-opus-5", "anthropic/claude-opus-5", True),
        ("anthropic/claude-*", "anthropic/claude-opus-5", True),
        ("anthropic/gpt", "anthropic/claude-opus-5", False),
        ("openai", "anthropic/claude-opus-5", False),
        ("claude-opus-5", "anthropic/claude-opus-5", False),
        ("openrouter", "openrouter/anthropic/claude", True),
        ("*", "anthropic/claude-opus-5", True),
        ("*", "", True),
        ("anthropic", "", False),
    ],
)
def test_a_rule_speaks_of_a_provider_or_a_target(match: str, target: str, is_hit: bool) -> None:
    async def main() -> None:
        sink = await Bench(fault(FaultKind.REFUSE, match=match)).call(target)
        assert (sink.names == ["failure"]) is is_hit

    run(main())


def test_the_first_rule_that_matches_and_is_drawn_applies() -> None:
    draws = iter([0.3, 0.2, 0.9, 0.1])

    async def main() -> None:
        bench = Bench(fault(FaultKind.REFUSE, rate=0.3), fault(FaultKind.RESET, rate=0.5), draw=lambda: next(draws))
        assert (await bench.call()).names == ["sent", "failure"]  # 0.3 is not below 0.3; 0.2 is below 0.5
        draws_left.append(next(draws))
        assert (await bench.call()).names == ["failure"]

    draws_left: list[float] = []
    run(main())
    assert draws_left == [0.9]


def test_an_expired_rule_is_off_and_gone() -> None:
    now = [0.0]

    async def main() -> None:
        bench = Bench(fault(FaultKind.REFUSE, expires_at=10.0), clock=lambda: now[0])
        now[0] = 9.9
        assert (await bench.call()).names == ["failure"]
        now[0] = 10.0
        assert (await bench.call()).names[-1] == "end"
        assert bench.chaos.send == bench.inner.send
        assert repr(bench.chaos).endswith("0 rules)")

    run(main())


def test_an_abort_while_the_real_call_is_being_made_reaches_it() -> None:
    """A pooled connection reports `sent` from within `send`, before anybody has the call to abort it by; a `cut` after
    nothing whose answer is already there breaks just then."""

    class Immediate(ScriptedTransport):
        def send(self, request: UpstreamRequest, sink: ResponseSink) -> ScriptedCall:
            call = super().send(request, sink)
            call.step()
            call.step()
            return call

    inner = Immediate([stream(EVENTS)])
    loop = asyncio.new_event_loop()
    sink = Sink()
    ChaosTransport(inner, [fault(FaultKind.CUT, after=0)], loop=loop).send(to("a/b"), sink)
    loop.close()
    assert sink.names == ["sent", "head", "failure"]
    assert inner.calls[0].is_aborted


def test_a_real_call_is_cut_over_real_sockets_and_leaves_nothing() -> None:
    async def handle(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        body = b"".join(EVENTS)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(body))
        writer.write(body)
        await reader.read()

    async def main() -> None:
        async with serving(handle) as server:
            left = Leftovers()
            loop = asyncio.get_running_loop()
            http = HttpTransport(loop=loop)
            chaos = ChaosTransport(http, [parse_fault("anthropic=cut")], loop=loop)
            request = request_to(server.port)
            request.target = "anthropic/claude"
            sink = Sink()
            chaos.send(request, sink)
            await sink.over.wait()
            assert sink.body == b"".join(EVENTS[:3])
            assert isinstance(sink.error, Interrupted)
            assert repr(http) == "HttpTransport(idle=0 busy=0 dialling=0 waiting=0)"
            await left.are_gone()
            chaos.close()

    run(main())


def test_a_fault_is_parsed() -> None:
    assert parse_fault("anthropic=cut") == Fault(kind=FaultKind.CUT, match="anthropic")
    assert parse_fault(" openai/gpt-5.4 = 503 ") == Fault(kind=FaultKind.STATUS_503, match="openai/gpt-5.4")


@pytest.mark.parametrize("text", ["anthropic", "=cut", "", "anthropic=", "anthropic=boom", "anthropic=CUT"])
def test_what_is_no_fault_is_refused_with_the_kinds(text: str) -> None:
    with pytest.raises(ValueError, match=r"kinds are refuse, connect_timeout, silence, 500, .*latency"):
        parse_fault(text)
