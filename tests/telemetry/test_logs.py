"""How lines look, which are printed, and what becomes of a flood of them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
import pytest
import structlog

from crossfade.config.secrets import new_key
from crossfade.core.events import Event
from crossfade.telemetry.logs import FLOOD_LINES, Logs
from crossfade.telemetry.note import Level
from tests.store.samples import (
    ANTHROPIC,
    NOON,
    OPENAI,
    SteppedLoop,
    commit,
    exhausted,
    fallback,
    fallen_back,
    others,
    request,
)
from tests.support import run

PREFIX = "2026-05-28T12:00:00.000Z "


class Printed:
    """Logs whose lines end up in a list."""

    def __init__(self, form: Literal["console", "json"] = "console", level: Level = "info", **options: Any) -> None:
        self.bytes: list[bytes] = []
        self.loop = SteppedLoop()
        self.logs = Logs(
            form,
            level,
            write=self.bytes.append,
            now=lambda: NOON,
            timer=self.loop.now,
            **{"has_colours": False, "later": self.loop.call_later, **options},
        )

    @property
    def lines(self) -> list[str]:
        assert all(line.endswith(b"\n") for line in self.bytes)
        return [line.decode().removesuffix("\n").removeprefix(PREFIX) for line in self.bytes]


def said_of(event: Event, **options: Any) -> list[str]:
    printed = Printed(**options)
    printed.logs.on_event(event)
    return printed.lines


@pytest.fixture
def installed() -> Iterator[Printed]:
    printed = Printed(level="debug")
    printed.logs.install()
    yield printed
    printed.logs.close()


def test_the_line_of_a_fallback() -> None:
    assert said_of(fallback()) == [
        "WARNING fallback route=chat from=openai/gpt-5.4 to=anthropic/claude-opus-5 reason=timeout after=12.01s"
        " request=cf-0a1b2c3d4e-1"
    ]


def test_the_same_facts_as_json() -> None:
    (line,) = said_of(fallback(), form="json")
    assert json.loads(line) == {
        "time": "2026-05-28T12:00:00.000Z",
        "level": "warning",
        "event": "fallback",
        "route": "chat",
        "from": OPENAI,
        "to": ANTHROPIC,
        "reason": "timeout",
        "after_s": 12.01,
        "request": "cf-0a1b2c3d4e-1",
    }


def test_what_is_said_of_health() -> None:
    lines = [line for event in others() for line in said_of(event)]
    assert lines == [
        "WARNING breaker opened target=openai/gpt-5.4 next_trial=15.00s",
        "INFO breaker on trial target=openai/gpt-5.4 state=half_open",
        "INFO breaker closed target=openai/gpt-5.4",
        "WARNING ejected target=anthropic/claude-opus-5 reason=rate_limit scope=target for=14.00s",
        "ERROR ejected target=anthropic/claude-opus-5 reason=auth_error scope=credential for=300.00s",
        "INFO returned target=anthropic/claude-opus-5 reason=rate_limit scope=target",
        "WARNING defective rung route=chat target=anthropic/claude-opus-5 reason=invalid_request status=400"
        " request=cf-0a1b2c3d4e-9",
        'WARNING probe failed provider=openai key=0 detail="timeout: no answer in 5 s"',
        "WARNING requests shed shortage=delay count=70",
    ]


@pytest.mark.parametrize("reason", ["auth_error", "quota_exhausted", "model_unavailable"])
def test_an_ejection_that_needs_a_person_is_an_error(reason: str) -> None:
    (line,) = said_of(msgspec.structs.replace(others()[3], reason=reason))
    assert line.startswith("ERROR ejected ")


def test_an_exhausted_chain_is_one_line_with_every_rung() -> None:
    assert said_of(exhausted()) == [
        "ERROR chain exhausted route=chat status=503 code=chain_exhausted request=cf-0a1b2c3d4e-1"
        ' tried="openai/gpt-5.4 timeout, anthropic/claude-opus-5 rate_limit 429,'
        ' google/gemini-3.8-flash skipped (breaker open)"'
    ]


def test_an_error_inside_a_stream_is_a_warning() -> None:
    (line,) = said_of(request(error="stream_interrupted", in_band_error=True))
    assert line.startswith("WARNING error inside a stream route=chat code=stream_interrupted request=cf-")


def test_requests_themselves_are_for_debugging() -> None:
    quiet = [request(), fallen_back(), commit(), request(status=499, served=None, error="cancelled")]
    assert [line for event in quiet for line in said_of(event)] == []
    (line,) = said_of(fallen_back(), level="debug")
    served = "served=anthropic/claude-opus-5 fallbacks=1 latency=13.20s request=cf-0a1b2c3d4e-1"
    assert line == f"DEBUG request route=chat status=200 {served}"


def test_levels_below_the_least_are_not_printed() -> None:
    assert said_of(fallback(), level="error") == []
    assert said_of(others()[2], level="warning") == []
    assert said_of(exhausted(), level="error") != []


def test_colours_are_around_the_level_only() -> None:
    (line,) = said_of(fallback(), has_colours=True)
    assert line.startswith("\x1b[33mWARNING\x1b[0m fallback route=chat from=")


def test_a_value_can_neither_break_a_line_nor_forge_a_fact() -> None:
    (line,) = said_of(fallback(target='x to=y "\n2026 ERROR\x1b[2J', reason=""))
    assert r'to="x to=y \"\n2026 ERROR\u001b[2J"' in line
    assert 'reason=""' in line
    assert said_of(fallback(target="\ud800"))[0].count("\\ud800") == 1


def test_keys_are_masked_and_request_ids_are_not() -> None:
    key = new_key()
    for form in ("console", "json"):
        (line,) = said_of(fallback(source=f"sk-proj-0123456789 {key}"), form=form)
        assert key not in line
        assert "0123456789 " not in line
        assert "cf-0a1b2c3d4e-1" in line


# --- floods --------------------------------------------------------------------------------------------------------


def test_a_flood_of_one_kind_is_summed_up_when_its_second_is_over() -> None:
    printed = Printed()
    for number in range(FLOOD_LINES + 30):
        printed.logs.on_event(fallback(number))
    printed.logs.on_event(fallback(999, reason="server_error"))
    assert len(printed.lines) == FLOOD_LINES + 1
    printed.loop.pass_time(1.0)
    assert printed.lines[FLOOD_LINES + 1 :] == [
        "WARNING fallback route=chat from=openai/gpt-5.4 to=anthropic/claude-opus-5 reason=timeout: 30 more in the"
        " last second"
    ]
    printed.logs.on_event(fallback())
    assert printed.lines[-1].endswith("request=cf-0a1b2c3d4e-1")


def test_without_a_loop_the_next_line_or_the_end_sums_up() -> None:
    printed = Printed("json", later=None)
    for number in range(FLOOD_LINES + 2):
        printed.logs.on_event(fallback(number))
    printed.loop.pass_time(1.0)
    assert len(printed.lines) == FLOOD_LINES
    printed.logs.on_event(others()[0])
    assert json.loads(printed.lines[FLOOD_LINES])["more"] == 2
    for number in range(FLOOD_LINES + 3):
        printed.logs.on_event(fallback(number))
    printed.logs.close()
    assert json.loads(printed.lines[-1])["more"] == 3


def test_fifty_in_a_second_are_no_flood() -> None:
    printed = Printed()
    for _ in range(3):
        for number in range(FLOOD_LINES):
            printed.logs.on_event(fallback(number))
        printed.loop.pass_time(1.0)
    printed.logs.close()
    assert len(printed.lines) == 3 * FLOOD_LINES


# --- everything else that logs -------------------------------------------------------------------------------------


def test_structlog_prints_here(installed: Printed) -> None:
    log = structlog.get_logger()
    log.info("listening", address="127.0.0.1:4000", took_s=0.5)
    log.warning("odd", key="sk-0123456789")
    assert installed.lines == ["INFO listening address=127.0.0.1:4000 took=0.50s", "WARNING odd key=sk-***"]


def test_structlog_prints_tracebacks_without_secrets(installed: Printed) -> None:
    try:
        raise ValueError("sk-0123456789")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = installed.lines
    assert line.startswith("ERROR failed\nTraceback ")
    assert line.endswith("ValueError: sk-***")


def test_the_standard_library_prints_here(installed: Printed) -> None:
    logging.getLogger("some.library").warning("%s of %s\nsecond line", 1, 2)
    assert installed.lines == [r"WARNING 1 of 2\nsecond line logger=some.library"]


def test_what_asyncio_reports_is_printed_here(installed: Printed) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(None)
        loop.call_soon(lambda: 1 // 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(main())
    assert any(line.startswith("ERROR ") and "ZeroDivisionError" in line for line in installed.lines)


def test_installing_is_taken_back(installed: Printed) -> None:
    installed.logs.close()
    logging.getLogger("some.library").info("unheard")
    assert installed.lines == []
    assert not any(type(one).__module__.startswith("crossfade") for one in logging.getLogger().handlers)
