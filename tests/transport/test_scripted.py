"""The fake transport plays its scripts as the port promises."""

from __future__ import annotations

import asyncio

from crossfade.core.errors import ConnectFailed, Interrupted
from crossfade.transport.base import Transport
from crossfade.transport.scripted import (
    Body,
    Delay,
    End,
    Fail,
    Head,
    ScriptedTransport,
    Sent,
    answer,
    stream,
)
from tests.support import run
from tests.transport.support import Sink, request_to, until

WHOLE = [("sent", None), ("head", 200), ("body", b"ok"), ("end", None)]


def test_facts_are_played_one_per_turn_and_none_within_send() -> None:
    async def main() -> None:
        transport: Transport = ScriptedTransport([answer(b"ok")], loop=asyncio.get_running_loop())
        sink = Sink()
        transport.send(request_to(80), sink)
        assert sink.facts == []
        seen = []
        while not sink.over.is_set():
            await asyncio.sleep(0)
            seen.append(len(sink.facts))
        assert sink.facts == WHOLE
        assert seen == [1, 2, 3, 4]

    run(main())


def test_by_hand_nothing_moves_until_it_is_stepped() -> None:
    transport = ScriptedTransport([[Sent(), Head(503, {"retry-after": "3"}), Body(b"no"), End()]])
    sink = Sink()
    call = transport.send(request_to(80), sink)
    assert sink.facts == []
    assert call.step()
    assert sink.names == ["sent"]
    transport.calls[0].play()
    assert sink.names == ["sent", "head", "body", "end"]
    assert sink.head is not None
    assert sink.head.headers == {"retry-after": "3"}
    assert not call.step()


def test_scripts_are_taken_in_order_and_the_rest_is_refused() -> None:
    transport = ScriptedTransport([answer(b"1"), stream([b"a", b"b"], Fail(Interrupted("cut")))])
    sinks = [Sink() for _ in range(3)]
    for sink in sinks:
        transport.send(request_to(80), sink).play()
    assert sinks[0].body == b"1"
    assert sinks[1].facts == [("sent", None), ("head", 200), ("body", b"ab"), ("failure", "Interrupted")]
    assert isinstance(sinks[2].error, ConnectFailed)
    assert repr(transport) == "ScriptedTransport(3 calls)"


def test_a_callable_chooses_by_the_request() -> None:
    transport = ScriptedTransport(lambda request: answer(request.body))
    sink = Sink()
    transport.send(request_to(80, body=b"echo"), sink).play()
    assert sink.body == b"echo"
    assert transport.calls[0].request.body == b"echo"


def test_abort_ends_and_pause_holds_a_call() -> None:
    async def main() -> None:
        transport = ScriptedTransport([answer(b"ok"), answer(b"ok")], loop=asyncio.get_running_loop())
        gone, held = Sink(), Sink()
        first = transport.send(request_to(80), gone)
        second = transport.send(request_to(80), held)
        await gone.reaches("head")
        first.abort()
        first.abort()
        second.pause()
        count = len(held.facts)
        for _ in range(10):
            await asyncio.sleep(0)
        assert gone.names == ["sent", "head"]
        assert first.is_aborted
        assert len(held.facts) == count < 4
        second.resume()
        second.resume()
        await held.over.wait()
        assert held.facts == WHOLE
        second.abort()
        assert not second.is_aborted  # it was over

    run(main())


def test_a_delay_holds_the_script_and_an_abort_takes_it_back() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport = ScriptedTransport([[Delay(0.001), *answer(b"ok")], [Delay(60.0), *answer(b"ok")]], loop=loop)
        soon, never = Sink(), Sink()
        transport.send(request_to(80), soon)
        call = transport.send(request_to(80), never)
        await soon.over.wait()
        assert soon.facts == WHOLE
        call.abort()
        await until(lambda: call.is_over)
        assert never.facts == []

    run(main())


def test_an_open_end_is_silence_and_close_refuses() -> None:
    transport = ScriptedTransport([stream([b"a"], None), answer(b"ok")])
    silent, refused = Sink(), Sink()
    transport.send(request_to(80), silent).play()
    assert silent.names == ["sent", "head", "body"]
    transport.close()
    transport.send(request_to(80), refused).play()
    assert refused.names == ["failure"]
