"""What is held back of a stream, how much of it, and how slow readers press back on the upstream."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import openai
import pytest

from crossfade.core.failure import FailureReason as R
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import (
    CUT,
    DONE,
    EVENT_STREAM,
    HANG,
    MESSAGES,
    TEXT,
    WEATHER,
    RawProvider,
    Stage,
    chain_stage,
    chunk,
    raw_request,
    run,
    until,
)

TWO = {"a": "openai", "b": "openai"}
LONG = '{"city":"' + "a town of many names " * 6000 + '","days":3}'
"""Arguments of about 30,000 tokens: 126 kB of content in 7.5 MB of events."""


def long_call(arguments: str, size: int = 4) -> list[bytes | float | str]:
    begin = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    pieces = [arguments[i : i + size] for i in range(0, len(arguments), size)]
    events = [chunk({"tool_calls": [begin]})]
    events += [chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in pieces]
    grouped = [b"".join(events[i : i + 200]) for i in range(0, len(events), 200)]
    return [EVENT_STREAM, chunk({"role": "assistant", "content": ""}), *grouped]


def test_a_long_tool_call_is_held_by_its_content_and_not_by_its_envelopes(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        usage = chunk(usage={"prompt_tokens": 1, "completion_tokens": 30_000, "total_tokens": 30_001})
        script = [*long_call(LONG), chunk(None, "tool_calls"), usage, DONE]
        assert sum(len(piece) for piece in script if isinstance(piece, bytes)) > 6 * 1024 * 1024
        raw = RawProvider()
        async with raw.serving(script), chain_stage(simulator, TWO, "", more={"a": raw.yaml}) as stage:
            answer = await stage.ask(stream=True, tools=[WEATHER])
            assert answer.calls == [("weather", LONG)] and answer.finishes == ["tool_calls"]
            assert answer.usage is not None and answer.usage.completion_tokens == 30_000
            row = stage.record.last
            assert row.attempts[0].reason is None and row.fallbacks == 0
            assert row.bytes_out < 1024 * 1024, "the pieces were put together"
            ids = [c.id for one in answer.chunks for ch in one.choices for c in ch.delta.tool_calls or () if c.id]
            assert ids == ["call_1"]

    run(main())


def test_text_and_reasoning_before_a_held_call_keep_their_order(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        call = long_call('{"city":"' + "x" * 8000 + '","days":1}')
        script = [
            *call[:2],
            chunk({"reasoning_content": "Hm. "}),
            chunk({"content": "One moment, "}),
            chunk({"content": "please."}),
            *call[2:],
            chunk({"content": " Afterthought."}),
            chunk(None, "tool_calls"),
            DONE,
        ]
        raw = RawProvider()
        async with raw.serving(script), chain_stage(simulator, TWO, "", more={"a": raw.yaml}) as stage:
            for commit in ("first_content", "complete"):
                answer = await stage.ask(stream=True, tools=[WEATHER], extra_body={"crossfade": {"commit": commit}})
                assert answer.reasoning == "Hm. " and answer.text == "One moment, please. Afterthought."
                assert json.loads(answer.calls[0][1]) == {"city": "x" * 8000, "days": 1}
                kinds = ["tool" if d.tool_calls else "text" for d in deltas(answer.chunks) if d.tool_calls or d.content]
                assert kinds[0] == "text" and kinds[-1] == "text" and "tool" in kinds

    run(main())


def deltas(chunks: list[Any]) -> list[Any]:
    return [choice.delta for one in chunks for choice in one.choices]


def test_held_content_has_a_bound_and_what_is_beyond_it_goes_to_the_next_target(
    simulator: ProviderSimulator,
) -> None:
    async def main() -> None:
        script = [*long_call('{"city":"' + "y" * 5_000_000 + '"}', 50_000), chunk(None, "tool_calls"), DONE]
        raw = RawProvider()
        async with raw.serving(script), chain_stage(simulator, TWO, "", more={"a": raw.yaml}) as stage:
            answer = await stage.ask(stream=True, tools=[WEATHER], tool_choice="required")
            assert json.loads(answer.calls[0][1]) == {"city": "text", "days": 1}
            assert stage.record.reasons() == [(f"{stage.mark}a", R.MALFORMED_OUTPUT), (f"{stage.mark}b", None)]

    run(main())


def test_nothing_of_a_held_call_leaves_before_the_end(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        begin = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        pieces = [chunk({"content": "Now."}), chunk({"tool_calls": [begin]})]
        script = [EVENT_STREAM, *pieces, 0.4, chunk(None, "stop"), DONE]
        raw = RawProvider()
        async with raw.serving(script), chain_stage(simulator, TWO, more={"a": raw.yaml}) as stage:
            for hold, leaves_early in ((["tool_calls", "json"], False), (["json"], True)):
                extra = {"crossfade": {"hold": hold}}
                tools: Any = [WEATHER]
                stream = await stage.client.chat.completions.create(
                    model="chat", messages=MESSAGES, stream=True, tools=tools, extra_body=extra
                )
                before = len(stage.record.ended)
                early = False
                async for one in stream:
                    if any(delta.tool_calls for delta in deltas([one])):
                        early = len(stage.record.ended) == before
                assert early == leaves_early

    run(main())


def test_json_is_held_until_it_is_whole(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, TWO) as stage:
            stage.schedule("a", then={"kind": "ok", "pace": 0.05})
            stream = await stage.client.chat.completions.create(
                model="chat", messages=MESSAGES, stream=True, response_format={"type": "json_object"}
            )
            text = ""
            async for one in stream:
                said = "".join(delta.content or "" for delta in deltas([one]))
                assert not said or stage.record.ended
                text += said
            assert json.loads(text)

    run(main())


# --- slow readers --------------------------------------------------------------------------------------------

ENDLESS = 400
"""Pieces of 64 KiB: far more than what the sockets between take."""


def flood() -> list[bytes | float | str]:
    text = chunk({"content": "z" * 65_000})
    begin = chunk({"role": "assistant", "content": "Begin"})
    return [EVENT_STREAM, begin, *[text] * ENDLESS, chunk(None, "stop"), DONE]


async def reader_that_stops(stage: Stage) -> socket.socket:
    """A client that reads the head and the first bytes, and then no more."""
    body = {"model": "chat", "messages": MESSAGES, "stream": True}
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", stage.gateway.port))
    await loop.sock_sendall(sock, raw_request(body))
    assert b"200 OK" in await loop.sock_recv(sock, 200)
    return sock


def test_a_slow_reader_presses_back_and_loses_nothing(simulator: ProviderSimulator) -> None:
    """While nobody reads, the upstream is not read either, and no limit on it runs out."""

    async def main() -> None:
        raw = RawProvider()
        timers = "first_content_timeout: 700ms, silence_timeout: 700ms, idle_timeout: 700ms"
        async with raw.serving(flood()), chain_stage(simulator, TWO, timers, more={"a": raw.yaml}) as stage:
            sock = await reader_that_stops(stage)
            await asyncio.sleep(1.5)
            assert raw.open == 1 and not stage.record.ended, "neither read on nor given up"
            runner = next(iter(stage.gateway.engine.runners))
            assert runner.bytes_out < 64 * 65_000
            loop, got, tail = asyncio.get_running_loop(), 0, b""
            while not tail.endswith(b"[DONE]\n\n\r\n0\r\n\r\n"):
                data = await loop.sock_recv(sock, 1 << 20)
                assert data
                got += len(data)
                tail = (tail + data)[-64:]
            sock.close()
            assert got > ENDLESS * 65_000
            row = stage.record.last
            assert [a.reason for a in row.attempts] == [None] and row.joined == 0

    run(main())


@pytest.mark.parametrize("size", [1, 40, 2_000])
def test_what_a_reader_that_stops_makes_us_keep_is_bounded(simulator: ProviderSimulator, size: int) -> None:
    """However fast the upstream sends: what was read of it and has not left. The delivered text is kept on purpose."""

    async def main() -> None:
        raw = RawProvider()
        grouped = b"".join([chunk({"content": "z" * size})] * (4 * 64_000 // (200 + size)))
        script = [EVENT_STREAM, chunk({"role": "assistant", "content": "Begin"}), *[grouped] * 100, HANG]
        async with raw.serving(script), chain_stage(simulator, TWO, "", more={"a": raw.yaml}) as stage:
            sock = await reader_that_stops(stage)
            (runner,) = stage.gateway.engine.runners
            (relay,) = runner._relays.values()
            worst, turns_at_rest = 0, 0
            while turns_at_rest < 1000:
                await asyncio.sleep(0)
                turns_at_rest = 0 if relay.timers.paused_at is None else turns_at_rest + 1
                later = relay.call._connection._later
                worst = max(worst, runner.held + len(later) + len(relay.reader._splitter.pending))
            assert 0 < worst < 64 * 1024
            sock.close()

    run(main())


@pytest.mark.parametrize("upstream", ["flood", "flood and stop"])
def test_a_reader_that_takes_nothing_is_cut_and_nobody_blamed(simulator: ProviderSimulator, upstream: str) -> None:
    async def main() -> None:
        raw = RawProvider()
        script = flood() if upstream == "flood" else [*flood()[:200], HANG]
        limits = "limits: {write_timeout: 1s}"
        timers = "first_content_timeout: 500ms, silence_timeout: 500ms, idle_timeout: 500ms"
        async with (
            raw.serving(script),
            chain_stage(simulator, TWO, timers, more={"a": raw.yaml}, tail=limits) as stage,
        ):
            sock = await reader_that_stops(stage)
            await until(lambda: bool(stage.record.ended))
            row = stage.record.last
            assert (row.status, row.error) == (499, R.CANCELLED)
            await until(lambda: raw.open == 0)
            assert not stage.gateway.engine.runners
            view = stage.gateway.board.snapshot(0.0)
            assert [v.consecutive_failures for v in view.values()] == [0, 0]
            sock.close()

    run(main())


def test_a_long_answer_may_be_held_whole(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, TWO, "") as stage:
            stage.schedule("a", then={"kind": "ok", "words": 5_000})
            answer = await stage.ask(stream=True, extra_body={"crossfade": {"commit": "complete"}})
            assert len(answer.text.split()) == 5_000 and answer.text.startswith(TEXT)

    run(main())


def test_an_overlong_answer_is_still_an_answer_but_not_gone_on_with(simulator: ProviderSimulator) -> None:
    """Beyond 1 MiB the delivered text is no longer kept: a cut is an error, and checks of the text are let go."""

    async def main() -> None:
        lines = [chunk({"content": "words " * 10_000})] * 20
        whole, cut = RawProvider(), RawProvider()
        async with (
            whole.serving([EVENT_STREAM, *lines, chunk(None, "stop"), DONE]),
            cut.serving([EVENT_STREAM, *lines, CUT]),
            chain_stage(simulator, {"a": "openai", "b": "openai"}, more={"a": whole.yaml, "b": cut.yaml}) as stage,
        ):
            extra = {"crossfade": {"validate": {"min_chars": 1_000_000, "match": "words $"}}}
            answer = await stage.ask(stream=True, extra_body=extra)
            assert len(answer.text) == 1_200_000 and answer.finishes == ["stop"]
            with pytest.raises(openai.APIError, match="too long to be kept"):
                await stage.ask(stream=True, model=f"{stage.mark}b/x, {stage.mark}a/y")

    run(main())
