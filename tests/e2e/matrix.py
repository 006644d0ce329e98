"""The matrix of failures: each way to fail, as data, and how one of its cases is played.

A case is a way to fail (`ROWS`) of a provider of one dialect, met by a caller of one endpoint (`callers.CALLERS`),
with the place of that provider in its chain and whether the answer is buffered, put together or streamed. The next
provider is of another dialect and healthy; which one goes round from case to case, so that each dialect stands in for
each other one at every endpoint. `test_matrix.py` says what has to come of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec

from crossfade.core.events import FallbackTriggered, RequestEnded
from crossfade.core.failure import FailureReason as R
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.callers import CALLERS, DIALECTS, Caller, Heard
from tests.e2e.harness import QUICK, chain_stage, target
from tests.e2e.pulse import Pulse

POSITIONS = ("first", "middle", "last_but_one")
MODES = ("buffered", "assembled", "streamed")
FURTHER = ("bedrock", "bedrock-claude", "cohere", "ollama", "vertex", "vertex-claude")
"""What providers speak beside the dialects of callers: each fails in every way before a healthy one of those."""


class Row(msgspec.Struct, frozen=True):
    """A fault as it is scheduled, what it has to be recorded as, and what is asked meanwhile (see `callers.Caller`).
    `joined`: the dialects whose streams it strikes in mid-answer, so that another one goes on with them. `modes`:
    those in which it strikes at all; `places`: those from which the walk goes on."""

    fault: str
    reasons: frozenset[R]
    ask: str = "plain"
    joined: tuple[str, ...] = ()
    modes: tuple[str, ...] = MODES
    places: tuple[int, ...] = (0, 1, 2)

    def joins(self, dialect: str) -> bool:
        return dialect in self.joined or (dialect in FURTHER and self.joined == DIALECTS)

    @property
    def waits(self) -> bool:
        """It may cost a whole timer."""
        return bool(self.reasons & {R.TIMEOUT, R.STREAM_STALLED})


def row(fault: str, *reasons: R, joins: bool = False, **more: Any) -> Row:
    return Row(fault, frozenset(reasons), **({"joined": DIALECTS} if joins else {}), **more)


BROKEN = (R.STREAM_INTERRUPTED, R.PROTOCOL_ERROR)
CUT = (*BROKEN, R.MALFORMED_OUTPUT)
STALLED = (R.STREAM_STALLED, R.TIMEOUT)

AT_ONCE = ("gemini", "ollama", "vertex")
"""Whose streams have content in their first event."""

LATER = (1, 2)
"""At the first target these are the caller's own faults, at a later one that target's defects."""

ROWS = [
    row("400", R.INVALID_REQUEST, places=LATER),
    row("401", R.AUTH_ERROR, places=LATER),
    row("403", R.AUTH_ERROR, places=LATER),
    row("413", R.INVALID_REQUEST, places=LATER),
    row("422", R.INVALID_REQUEST, places=LATER),
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
    row("short_body", *BROKEN, modes=("buffered",)),  # a stream says that all of it is there
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
    *[row(f"cut_clean@{at}", *CUT, ask=ask) for at in ("middle", "last") for ask in ("tools", "json")],
    row("cut_clean@start", *CUT, ask="thinking"),
    *[row(f"cut_clean@{at}", *CUT, ask="parallel") for at in ("first", "middle", "last")],
    *[row("error_event@middle", R.SERVER_ERROR, ask=ask) for ask in ("tools", "json")],
    *[row("stall@middle", *STALLED, ask=ask) for ask in ("tools", "json")],
    row("comments_only; seconds=0.3", R.TIMEOUT),
    row("drip; seconds=7", *STALLED, joined=AT_ONCE),  # no event comes between, however late the machine is
    row("empty_stream", R.EMPTY_OUTPUT),
    row("no_finish", *BROKEN, R.MALFORMED_OUTPUT, joins=True, modes=("assembled", "streamed")),
    *[row("no_finish", *CUT, ask=ask, modes=("assembled", "streamed")) for ask in ("tools", "json")],
    row("endless_event", R.MALFORMED_OUTPUT, *STALLED),
]


class Case(msgspec.Struct, frozen=True):
    """`chain` are the dialects of all targets in order; that at `place` fails as `row` says, those before it fail
    plainly, so that it is reached, and the next one answers."""

    row: Row
    inbound: str
    chain: tuple[str, ...]
    place: int
    mode: str

    @property
    def failing(self) -> str:
        return self.chain[self.place]

    @property
    def healthy(self) -> str:
        return self.chain[self.place + 1]

    def __str__(self) -> str:
        fault = self.row.fault.replace(" ", "") + ("" if self.row.ask == "plain" else f"-{self.row.ask}")
        dialects = ">".join(name.partition(":")[0] for name in (self.failing, self.healthy))
        return f"{self.inbound}-{fault}-{dialects}-{POSITIONS[self.place]}-{self.mode}"


def cases() -> Iterator[Case]:
    for inbound, caller in CALLERS.items():
        rows = [row for row in ROWS if is_met(row, caller)]
        for (number, row), (at, failing) in itertools.product(enumerate(rows), enumerate(caller.dialects)):
            places = row.places if inbound == "chat" else (row.places[(number + at) % len(row.places)],)
            modes = row.modes if caller.is_streamed else ("buffered",)
            for (turn, mode), place in itertools.product(enumerate(modes), places):
                place = min(place, len(caller.dialects) - 2)
                chain = chain_around(failing, caller.dialects, place, number + turn + place)
                yield Case(row, inbound, chain, place, mode)


def further_cases() -> Iterator[Case]:
    rows = [row for row in ROWS if 0 in row.places]
    for (number, row), (at, failing) in itertools.product(enumerate(rows), enumerate(FURTHER)):
        for turn, mode in enumerate(row.modes):
            yield Case(row, "chat", (failing, DIALECTS[(number + at + turn) % len(DIALECTS)]), 0, mode)


def is_met(row: Row, caller: Caller) -> bool:
    """Whether it can happen to this caller; embeddings are asked for plainly, and of two targets at most."""
    return caller.is_streamed or (row.ask == "plain" and "buffered" in row.modes and 0 in row.places)


def chain_around(failing: str, dialects: tuple[str, ...], place: int, turn: int) -> tuple[str, ...]:
    """All dialects once, the failing one at `place`; who comes behind it goes round with `turn`."""
    others = [dialect for dialect in dialects if dialect != failing]
    first = turn % len(others)
    healthy, *rest = others[first:] + others[:first]
    return (*rest[:place], failing, healthy, *rest[place:])


CASES = [*cases()]
FURTHER_CASES = [*further_cases()]
NAMES = "abcd"


class Outcome(msgspec.Struct, frozen=True):
    """What a case came to. `late`: the seconds that the loop was late while it was under way."""

    heard: Heard
    row: RequestEnded
    fallbacks: list[FallbackTriggered]
    late: float


async def play(case: Case, simulator: ProviderSimulator, pulse: Pulse) -> Outcome:
    """One case, with a gateway and providers of its own."""
    failing = NAMES[case.place]
    more: dict[str, str] = {}
    if case.row.fault == "dead_port":
        path = "/v1/projects/p/locations/l" if case.failing.startswith("vertex") else ""
        more[failing] = f"base_url: 'http://127.0.0.1:{simulator.dead_port()}{path}'"
    elif case.row.fault == "context":  # what is too long for a target goes on to those with a larger window
        more[failing] = f"models: {{{target('', failing, case.failing).partition('/')[2]}: {{window: 8192}}}}"
    route = QUICK
    if case.mode != "streamed" and CALLERS[case.inbound].is_streamed:
        route += f", stream_upstream: {'true' if case.mode == 'assembled' else 'false'}"
    async with chain_stage(simulator, dict(zip(NAMES, case.chain, strict=False)), route, more=more) as stage:
        for name in NAMES[: case.place]:
            stage.schedule(name, then="503")
        if case.row.fault != "dead_port":
            stage.schedule(failing, then=case.row.fault)
        late = pulse.late
        heard = await CALLERS[case.inbound].ask(stage, case.row.ask, case.mode == "streamed")
        return Outcome(heard, stage.record.last, stage.record.told_of(FallbackTriggered), pulse.late - late)
