"""Every way to fail, of a provider of every dialect, at every endpoint, buffered, assembled and streamed: the healthy
answer of a provider of another dialect, whole and exactly once, in the caller's own form.

At `/v1/chat/completions` each dialect fails in each way at every place of a chain of four but the last; at the other
endpoints the place goes round from dialect to dialect, so that each way to fail is met at each place. Embeddings are
a chain of two, the dialects that have them, and what a buffered answer can meet. Dialects of providers that no caller
speaks fail in each way at the first place of a chat. The cases run concurrently, since
many of them are about waiting.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict

import pytest

from crossfade.core.events import AttemptRow, RequestEnded
from crossfade.core.failure import FailureReason as R
from crossfade.simulator.faults import FAULTS
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.callers import CALLERS, Heard
from tests.e2e.harness import TEXT, gathered, run
from tests.e2e.matrix import CASES, FURTHER_CASES, NAMES, ROWS, Case, Outcome, Row, play
from tests.e2e.pulse import Pulse

LIMIT = 2.0
"""Seconds of every timer, as `QUICK` has them."""
MOST = 2.5
"""Seconds that one failed target may cost with timers of 2 s, by the gateway's own record. What the loop itself was
late meanwhile, since the machine had other things to do, is allowed beside it."""

OPT_IN = {"status", "content_filter", "length", "filter", "refusal"}
"""Faults that do not fall back by default, or whose status says whether they do: they have tests of their own."""

Outcomes = dict[Case, Outcome | BaseException]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, simulator: ProviderSimulator) -> Outcomes:
    """What became of each case that is asked for in this run."""
    items = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    wanted = [item.callspec.params["case"] for item in items if "case" in item.callspec.params]
    return run(play_all(wanted, simulator), timeout=400)


async def play_all(cases: list[Case], simulator: ProviderSimulator) -> Outcomes:
    """Those that wait are many at once, and the others keep the machine busy meanwhile."""
    waiting = [case for case in cases if case.row.waits]
    others = [case for case in cases if not case.row.waits]
    pulse = Pulse()
    async with pulse.beating():
        found = await asyncio.gather(
            gathered((play(case, simulator, pulse) for case in waiting), at_once=48),
            gathered((play(case, simulator, pulse) for case in others), at_once=8),
        )
    return dict(zip([*waiting, *others], itertools.chain(*found), strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fallback_gives_the_healthy_answer(case: Case, outcomes: Outcomes) -> None:
    check(case, outcomes[case])


@pytest.mark.parametrize("case", FURTHER_CASES, ids=str)
def test_fallback_from_what_no_caller_speaks_gives_the_healthy_answer(case: Case, outcomes: Outcomes) -> None:
    check(case, outcomes[case])


def check(case: Case, outcome: Outcome | BaseException) -> None:
    if isinstance(outcome, BaseException):
        raise outcome
    heard, row = outcome.heard, outcome.row
    caller = CALLERS[case.inbound]
    caller.check(case.row.ask, heard)
    failed = [a for a in row.attempts if a.reason is not None]
    names = [attempt.target.partition("-")[2].partition("/")[0] for attempt in failed]
    assert [*dict.fromkeys(names)] == [*NAMES[: case.place + 1]]
    struck = [a for a, name in zip(failed, names, strict=True) if name == NAMES[case.place]]
    assert {a.reason for a in struck} <= case.row.reasons
    check_times(row, struck, outcome.late)
    last = row.attempts[-1]
    assert last.reason is None and row.served == last.target
    assert last.target.partition("-")[2].startswith(NAMES[case.place + 1])
    assert (row.status, row.error, row.in_band_error, row.flagged) == (200, None, False, None)
    assert row.fallbacks == case.place + 1 == len(outcome.fallbacks)
    assert row.endpoint == caller.endpoint and row.stream == (case.mode == "streamed")
    assert row.bytes_out > 0 and (row.output_tokens or not caller.is_streamed)
    check_headers(heard, row, case.place)
    check_joins(case, heard, row)


def check_times(row: RequestEnded, struck: list[AttemptRow], late: float) -> None:
    """A target that is waited for is given up by its own limit, and soon after that: the others failed at once."""
    for attempt in struck:
        if attempt.reason in (R.TIMEOUT, R.STREAM_STALLED):
            assert attempt.detail.endswith(f" {LIMIT} s")
            assert attempt.latency_s >= LIMIT
    cost = struck[-1].started_s + struck[-1].latency_s - struck[0].started_s
    assert cost <= MOST + late
    assert row.time_lost_s <= MOST + late


def check_headers(heard: Heard, row: RequestEnded, place: int) -> None:
    """A joined stream's headers left with its first target; its last event names the others."""
    headers = heard.headers
    assert headers["x-request-id"] == row.id and headers["x-crossfade-route"] == "chat"
    joined = heard.extra.get("joined", [])
    served = row.attempts[-1].target if not joined else joined[0]["from"]
    assert f"{headers['x-crossfade-provider']}/{headers['x-crossfade-model']}" == served
    assert heard.model == headers["x-crossfade-model"], "the answer bears the name of another"
    fallbacks = place + 1 - len(joined)
    assert headers["x-crossfade-fallbacks"] == str(fallbacks)
    assert int(headers["x-crossfade-attempts"]) == len([a for a in row.attempts if a.mode != "continue"])
    assert ("x-crossfade-fallback-reason" in headers) == (fallbacks > 0)


def check_joins(case: Case, heard: Heard, row: RequestEnded) -> None:
    """Where a stream is struck in mid-answer, and nowhere else; on record and told to the caller alike."""
    joined = heard.extra.get("joined", [])
    assert len(joined) == row.joined == [a.mode for a in row.attempts].count("continue")
    for join in joined:
        assert join["to"] == row.served and join["reason"] in {a.reason for a in row.attempts}
        assert 0 < join["at_chars"] <= len(TEXT)
    assert len(joined) == (case.mode == "streamed" and case.row.joins(case.failing))


def test_each_dialect_stands_in_for_each_other_at_every_endpoint() -> None:
    """And each of them fails in every way, which is met at every place."""
    pairs: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    places: dict[tuple[str, Row, str], set[int]] = defaultdict(set)
    failing: dict[tuple[str, Row, str], set[str]] = defaultdict(set)
    for case in CASES:
        pairs[case.inbound, case.mode].add((case.failing, case.healthy))
        places[case.inbound, case.row, case.mode].add(case.place)
        failing[case.inbound, case.row, case.mode].add(case.failing)
    for (inbound, row, _), found in places.items():
        assert found == ({0} if inbound == "embeddings" else {*row.places})
    for (inbound, _, _), dialects in failing.items():
        assert dialects == {*CALLERS[inbound].dialects}
    for inbound, mode in pairs:
        assert pairs[inbound, mode] == set(itertools.permutations(CALLERS[inbound].dialects, 2))


def test_every_fault_of_the_simulator_has_a_place() -> None:
    named = {row.fault.partition(";")[0].partition("@")[0].strip() for row in ROWS}
    others = {kind for kind, fault in FAULTS.items() if not fault.is_legit} - OPT_IN
    assert others <= named
