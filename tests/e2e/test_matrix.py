"""Every way to fail, at every place of a chain of four but the last, buffered, assembled and streamed: the healthy
answer, whole and exactly once.

The cases run concurrently, since many of them are about waiting; each has a gateway and providers of its own.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from crossfade.core.events import AttemptRow, FallbackTriggered, RequestEnded
from crossfade.core.failure import FailureReason as R
from crossfade.simulator.faults import FAULTS
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import (
    JSON_SCHEMA,
    QUICK,
    TEXT,
    WEATHER,
    Answer,
    chain_stage,
    check_usage,
    gathered,
    run,
)
from tests.e2e.pulse import Pulse

CHAIN = {"a": "openai", "b": "anthropic", "c": "gemini", "d": "openai:gpt-5.4-mini"}
POSITIONS = {"first": 0, "middle": 1, "last_but_one": 2}
MODES = ("buffered", "assembled", "streamed")
LIMIT = 2.0
"""Seconds of every timer, as `QUICK` has them."""
MOST = 2.5
"""Seconds that one failed target may cost with timers of 2 s, by the gateway's own record. What the loop itself was
late meanwhile, since the machine had other things to do, is allowed beside it."""


class Row(msgspec.Struct, frozen=True):
    """A fault as it is scheduled, what it has to be recorded as, and what is asked meanwhile (`plain`, `json`,
    `tools`). `joins`: where it strikes a stream in mid-answer, another one goes on with it. `modes`: those in which
    it strikes at all."""

    fault: str
    reasons: frozenset[R]
    ask: str = "plain"
    joins: bool = False
    modes: tuple[str, ...] = MODES


def row(fault: str, *reasons: R, ask: str = "plain", joins: bool = False, modes: tuple[str, ...] = MODES) -> Row:
    return Row(fault, frozenset(reasons), ask, joins, modes)


BROKEN = (R.STREAM_INTERRUPTED, R.PROTOCOL_ERROR)
CUT = (*BROKEN, R.MALFORMED_OUTPUT)
STALLED = (R.STREAM_STALLED, R.TIMEOUT)

ROWS = [
    row("402", R.QUOTA_EXHAUSTED, R.RATE_LIMIT),
    row("404", R.MODEL_UNAVAILABLE),
    row("408", R.SERVER_ERROR),
    row("429", R.RATE_LIMIT),
    row("429; retry_after=3", R.RATE_LIMIT),
    row("quota", R.QUOTA_EXHAUSTED, R.RATE_LIMIT),
    row("500", R.SERVER_ERROR),
    row("502", R.SERVER_ERROR, R.OVERLOADED),  # in Gemini's words it is the latter
    row("503", R.OVERLOADED),
    row("504", R.SERVER_ERROR),
    row("529", R.OVERLOADED),
    row("context", R.CONTEXT_OVERFLOW),
    row("html_500", R.SERVER_ERROR),
    row("redirect", R.PROTOCOL_ERROR),
    row("dead_port", R.CONNECT_ERROR),
    row("refuse", *BROKEN, R.CONNECT_ERROR),
    row("reset", R.PROTOCOL_ERROR),
    row("close", R.PROTOCOL_ERROR),
    row("silence", R.TIMEOUT),
    row("slow_head; seconds=0.5", R.TIMEOUT),
    row("garbage", R.PROTOCOL_ERROR),
    row("big_head", R.PROTOCOL_ERROR),
    row("half_head", R.PROTOCOL_ERROR),
    row("bad_chunk", *BROKEN, joins=True),
    row("bad_gzip", R.PROTOCOL_ERROR, R.MALFORMED_OUTPUT),
    row("early_eof", *BROKEN, joins=True),
    row("empty", R.EMPTY_OUTPUT),
    row("no_choices", R.MALFORMED_OUTPUT, R.EMPTY_OUTPUT, R.STREAM_INTERRUPTED),
    row("malformed", R.MALFORMED_OUTPUT),
    row("html", R.MALFORMED_OUTPUT),
    row("truncated_json", R.MALFORMED_OUTPUT, *BROKEN, joins=True),
    row("error_in_200", R.SERVER_ERROR),
    row("error_in_200; error=503", R.OVERLOADED, R.SERVER_ERROR),
    row("error_in_200; error=429", R.RATE_LIMIT),
    row("error_in_200; error=quota", R.QUOTA_EXHAUSTED, R.RATE_LIMIT),
    row("invalid_json", R.INVALID_JSON, ask="json"),
    row("bad_tool_args", R.INVALID_TOOL_CALL, ask="tools"),
    row("unknown_tool", R.INVALID_TOOL_CALL, ask="tools"),
    *[row(f"cut@{at}", *CUT, joins=at != "start") for at in ("start", "first", "middle", "last")],
    *[row(f"cut_reset@{at}", *CUT, joins=True) for at in ("first", "middle", "last")],
    *[row(f"cut_clean@{at}", *CUT, joins=True) for at in ("first", "middle", "last")],
    *[row(f"stall@{at}", *STALLED, joins=at != "start") for at in ("start", "first", "middle", "last")],
    *[row(f"error_event@{at}", R.SERVER_ERROR, joins=at != "start") for at in ("start", "first", "middle", "last")],
    *[row(f"cut@{at}", *CUT, ask="tools") for at in ("first", "middle", "last")],
    *[row(f"cut@{at}", *CUT, ask="json") for at in ("first", "middle", "last")],
    row("stall@middle", *STALLED, ask="tools"),
    row("stall@middle", *STALLED, ask="json"),
    row("comments_only; seconds=0.3", R.TIMEOUT),
    row("drip; seconds=2.6", *STALLED, joins=True),
    row("empty_stream", R.EMPTY_OUTPUT),
    row("no_finish", *BROKEN, R.MALFORMED_OUTPUT, joins=True, modes=("assembled", "streamed")),
    row("endless_event", R.MALFORMED_OUTPUT, *STALLED),
]

OPT_IN_OR_DEFECT = {"400", "401", "403", "413", "422", "status", "content_filter", "length", "filter", "refusal"}
"""Faults that do not fall back by default from the first target: they have tests of their own."""
WHOLE_ANYHOW = {"short_body"}
"""All of the answer is there, and a stream says so: see the tests of what is accepted."""


class Case(msgspec.Struct, frozen=True):
    row: Row
    position: str
    mode: str

    def __str__(self) -> str:
        asked = "" if self.row.ask == "plain" else f"-{self.row.ask}"
        return f"{self.row.fault.replace(' ', '')}{asked}-{self.position}-{self.mode}"


CASES = [Case(row, position, mode) for row in ROWS for position in POSITIONS for mode in row.modes]


class Outcome(msgspec.Struct, frozen=True):
    """What a case came to. `late`: the seconds that the loop was late while it was under way."""

    answer: Answer
    row: RequestEnded
    fallbacks: list[FallbackTriggered]
    late: float


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, simulator: ProviderSimulator) -> dict[Case, Outcome | BaseException]:
    """What became of each case that is asked for in this run."""
    items = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    wanted = [item.callspec.params["case"] for item in items if "case" in item.callspec.params]
    wanted.sort(key=lambda case: not case.row.reasons & {R.TIMEOUT, R.STREAM_STALLED})  # those that wait, first
    found = run(play_all(wanted, simulator), timeout=170)
    return dict(zip(wanted, found, strict=True))


async def play_all(cases: list[Case], simulator: ProviderSimulator) -> list[Outcome | BaseException]:
    pulse = Pulse()
    async with pulse.beating():
        return await gathered((play(case, simulator, pulse) for case in cases), at_once=32)


async def play(case: Case, simulator: ProviderSimulator, pulse: Pulse) -> Outcome:
    """One case: what comes before the place fails plainly, so that it is reached."""
    place = POSITIONS[case.position]
    names = list(CHAIN)
    dead = f"base_url: 'http://127.0.0.1:{simulator.dead_port()}'"
    more: dict[str, str] = {}
    if case.row.fault == "dead_port":
        more[names[place]] = dead
    route = QUICK
    if case.mode != "streamed":
        route += f", stream_upstream: {'true' if case.mode == 'assembled' else 'false'}"
    async with chain_stage(simulator, CHAIN, route, more=more) as stage:
        for name in names[:place]:
            stage.schedule(name, then="503")
        if case.row.fault != "dead_port":
            stage.schedule(names[place], then=case.row.fault)
        late = pulse.late
        answer = await stage.ask(stream=case.mode == "streamed", **asked(case.row))
        return Outcome(answer, stage.record.last, stage.record.told_of(FallbackTriggered), pulse.late - late)


def asked(row: Row) -> dict[str, Any]:
    if row.ask == "json":
        return {"response_format": JSON_SCHEMA}
    if row.ask == "tools":
        return {"tools": [WEATHER], "tool_choice": "required"}
    return {}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fallback_gives_the_healthy_answer(case: Case, outcomes: dict[Case, Outcome | BaseException]) -> None:
    outcome = outcomes[case]
    if isinstance(outcome, BaseException):
        raise outcome
    answer, row, fallbacks = outcome.answer, outcome.row, outcome.fallbacks
    place = POSITIONS[case.position]
    check_answer(case.row, answer)
    failed = [a for a in row.attempts if a.reason is not None]
    names = [attempt.target.partition("-")[2].partition("/")[0] for attempt in failed]
    assert [*dict.fromkeys(names)] == list(CHAIN)[: place + 1]
    struck = [a for a, name in zip(failed, names, strict=True) if name == list(CHAIN)[place]]
    assert {a.reason for a in struck} <= case.row.reasons
    check_times(row, struck, outcome.late)
    last = row.attempts[-1]
    assert last.reason is None and row.served == last.target
    assert last.target.partition("-")[2].startswith(list(CHAIN)[place + 1])
    assert (row.status, row.error, row.in_band_error, row.flagged) == (200, None, False, None)
    assert row.fallbacks == place + 1 == len(fallbacks)
    assert row.bytes_out > 0 and row.output_tokens
    check_headers(answer, row, place)


def check_times(row: RequestEnded, struck: list[AttemptRow], late: float) -> None:
    """A target that is waited for is given up by its own limit, and soon after that: the others failed at once."""
    for attempt in struck:
        if attempt.reason in (R.TIMEOUT, R.STREAM_STALLED):
            assert attempt.detail.endswith(f" {LIMIT} s")
            assert attempt.latency_s >= LIMIT
    cost = struck[-1].started_s + struck[-1].latency_s - struck[0].started_s
    assert cost <= MOST + late
    assert row.time_lost_s <= MOST + late


def check_answer(row: Row, answer: Answer) -> None:
    check_usage(answer)
    if row.ask == "tools":
        assert answer.finishes == ["tool_calls"]
        assert [name for name, _ in answer.calls] == ["weather"]
        assert json.loads(answer.calls[0][1]) == {"city": "text", "days": 1}
    elif row.ask == "json":
        assert answer.finishes == ["stop"]
        assert json.loads(answer.text) == {"name": "text", "age": 1}
    else:
        assert answer.finishes == ["stop"]
        assert answer.text == TEXT and not answer.calls


def check_headers(answer: Answer, row: RequestEnded, place: int) -> None:
    """A joined stream's headers left with its first target; its last chunk names the others."""
    headers = answer.headers
    assert headers["x-request-id"] == row.id and headers["x-crossfade-route"] == "chat"
    joined = answer.extra.get("joined", [])
    assert len(joined) == row.joined
    assert [a.mode for a in row.attempts].count("continue") == row.joined
    served = row.attempts[-1].target if not joined else joined[0]["from"]
    assert f"{headers['x-crossfade-provider']}/{headers['x-crossfade-model']}" == served
    fallbacks = place + 1 - len(joined)
    assert headers["x-crossfade-fallbacks"] == str(fallbacks)
    assert int(headers["x-crossfade-attempts"]) == len([a for a in row.attempts if a.mode != "continue"])
    assert ("x-crossfade-fallback-reason" in headers) == (fallbacks > 0)
    for join in joined:
        assert join["to"] == row.served and join["reason"] in {a.reason for a in row.attempts}
        assert 0 < join["at_chars"] <= len(TEXT)


def test_every_fault_of_the_simulator_has_a_place() -> None:
    named = {row.fault.partition(";")[0].partition("@")[0].strip() for row in ROWS}
    others = {kind for kind, fault in FAULTS.items() if not fault.is_legit} - OPT_IN_OR_DEFECT - WHOLE_ANYHOW
    assert others <= named
