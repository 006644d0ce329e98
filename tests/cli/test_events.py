"""`crossfade events`: what it finds, how it shows it, and what it says of wrong words."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from crossfade.cli import events as command
from crossfade.cli.event_filter import KINDS, REASONS, parse_time
from crossfade.cli.main import main
from crossfade.core.events import Event
from crossfade.core.failure import FailureReason
from tests.store.samples import (
    ANTHROPIC,
    NOON,
    commit,
    exhausted,
    fallback,
    fallen_back,
    others,
    request,
    write_lines,
)

Show = Callable[..., Result]
CONFIG = "providers: {local: {dialect: openai, base_url: 'http://127.0.0.1:9/v1'}}\njournal: {path: kept}\n"
FILE = "journal-20260528T120000Z-7.jsonl"

STORY: tuple[Event, ...] = (
    request(1, NOON),
    fallback(2, NOON + 1),
    fallen_back(2, NOON + 2),
    *others(NOON + 3),
    exhausted(3, NOON + 11),
    commit(4, NOON + 12),
    request(4, NOON + 13, stream=True, route="background"),
    commit(5, NOON + 14),
    request(6, NOON + 15, status=499, served=None, error="cancelled"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_lines(tmp_path / FILE, *STORY)
    return tmp_path


@pytest.fixture
def show(folder: Path) -> Show:
    def show(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["events", "--journal", str(folder), *arguments])

    return show


def ids(result: Result) -> list[str]:
    """The requests of a table's lines, by the ends of their ids."""
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()[1:-1]
    return [line[21:].split()[0].rpartition("-")[2] for line in lines]


def stored(result: Result) -> list[Event]:
    assert result.exit_code == 0, result.output
    return [msgspec.json.decode(line, type=Event) for line in result.stdout.splitlines()]


def test_the_table(show: Show) -> None:
    result = show("--kind", "request", "--kind", "breaker", "--limit", "0")
    assert result.exit_code == 0
    lines = [
        ("TIME (UTC)         ", "REQUEST        ", "ROUTE     ", "SERVED BY              ", "STATUS    ", "LATENCY"),
        ("2026-05-28 12:00:00", "cf-0a1b2c3d4e-1", "chat      ", "openai/gpt-5.4         ", "200       ", "1.2s   "),
        ("2026-05-28 12:00:02", "cf-0a1b2c3d4e-2", "chat      ", "anthropic/claude-opus-5", "200       ", "13.2s  "),
        ("2026-05-28 12:00:03", "-              ", "-         ", "-                      ", "-         ", "-      "),
        ("2026-05-28 12:00:04", "-              ", "-         ", "-                      ", "-         ", "-      "),
        ("2026-05-28 12:00:05", "-              ", "-         ", "-                      ", "-         ", "-      "),
        ("2026-05-28 12:00:11", "cf-0a1b2c3d4e-3", "chat      ", "-                      ", "503       ", "1.2s   "),
        ("2026-05-28 12:00:13", "cf-0a1b2c3d4e-4", "background", "openai/gpt-5.4         ", "200       ", "1.2s   "),
        ("2026-05-28 12:00:14", "cf-0a1b2c3d4e-5", "chat      ", "openai/gpt-5.4         ", "unfinished", "-      "),
        ("2026-05-28 12:00:15", "cf-0a1b2c3d4e-6", "chat      ", "-                      ", "499       ", "1.2s   "),
    ]
    walks = [
        "WALK",
        "openai/gpt-5.4 ok 1.2s",
        "openai/gpt-5.4 timeout 12.0s > anthropic/claude-opus-5 ok 1.2s",
        "breaker of openai/gpt-5.4: closed > open, next trial in 15.0s",
        "breaker of openai/gpt-5.4: open > half_open",
        "breaker of openai/gpt-5.4: half_open > closed",
        "openai/gpt-5.4 timeout 12.0s > anthropic/claude-opus-5 rate_limit 429 200ms >"
        " google/gemini-3.8-flash skipped (breaker open) > chain_exhausted",
        "openai/gpt-5.4 ok 1.2s",
        "openai/gpt-5.4 began to answer, no end is on record",
        "openai/gpt-5.4 ok 1.2s > cancelled",
    ]
    assert result.stdout.splitlines() == [
        *("  ".join((*line, walk)) for line, walk in zip(lines, walks, strict=True)),
        "5 requests, 2 fell back, 1 ended in an error, 1 unfinished, 3 other events",
    ]


def test_health_is_said_in_words(show: Show) -> None:
    result = show(
        "--kind", "ejected", "--kind", "returned", "--kind", "defect", "--kind", "fallback", "--kind", "commit"
    )
    assert [line.split("-  ")[-1].strip() for line in result.stdout.splitlines()[1:-1]] == [
        "fallback: openai/gpt-5.4 timeout > anthropic/claude-opus-5 after 12.0s",
        "ejected: anthropic/claude-opus-5, rate_limit, for 14.0s",
        "ejected: anthropic/claude-opus-5 and all others of its credential, auth_error, for 300.0s",
        "returned: anthropic/claude-opus-5, was out for rate_limit",
        "defect of anthropic/claude-opus-5: invalid_request 400",
        "openai/gpt-5.4 began to answer",
        "openai/gpt-5.4 began to answer",
    ]


def test_a_request_that_flagged_or_broke_says_so(tmp_path: Path) -> None:
    rows = (request(1, flagged="invalid_json"), request(2, error="stream_interrupted", in_band_error=True))
    write_lines(tmp_path / FILE, *rows)
    lines = CliRunner().invoke(main, ["events", "--journal", str(tmp_path)]).stdout.splitlines()
    assert lines[1].endswith("openai/gpt-5.4 ok 1.2s > flagged invalid_json")
    assert "200 cut" in lines[2]
    assert lines[2].endswith("> stream_interrupted")
    assert lines[3] == "2 requests, 0 fell back, 1 ended in an error"


def test_json_is_every_line_as_stored(show: Show, folder: Path) -> None:
    result = show("--json")
    assert result.stdout_bytes == (folder / FILE).read_bytes()
    assert result.stderr == ""


# --- filters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--route", "background"], ["4"]),
        (["--route", "chat", "--kind", "request"], ["1", "2", "3", "5", "6"]),
        (["--route", "chat", "--route", "background", "--kind", "request"], ["1", "2", "3", "4", "5", "6"]),
        (["--target", "google"], ["3"]),
        (["--target", ANTHROPIC, "--kind", "request"], ["2", "3"]),
        (["--target", "nobody/nothing"], []),
        (["--reason", "rate_limit", "--kind", "request"], ["3"]),
        (["--reason", "breaker_open"], ["3"]),
        (["--reason", "cancelled"], ["6"]),
        (["--status", "5xx"], ["3"]),
        (["--status", "499"], ["6"]),
        (["--status", "5XX", "--status", "499"], ["3", "6"]),
        (["--request", "cf-0a1b2c3d4e-2"], ["2", "2"]),
        (["--request", "cf-0a1b2c3d4e-5"], ["5"]),
        (["--fallbacks-only"], ["2", "3"]),
        (["--since", "2026-05-28T12:00:13Z"], ["4", "5", "6"]),
        (["--since", "2026-05-28T14:00:13+02:00", "--until", "2026-05-28 12:00:14"], ["4"]),
        (["--until", "2026-05-28T12:00:01"], ["1"]),
        (["--limit", "2"], ["5", "6"]),
        (["--since", "10m"], []),
    ],
    ids=lambda value: " ".join(value) if value else "nothing",
)
def test_filters(show: Show, arguments: list[str], found: list[str]) -> None:
    result = show(*arguments)
    if not found:
        assert result.exit_code == 0
        assert result.stdout.startswith("no events in ")
        return
    assert ids(result) == found


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_chosen(show: Show, kind: str) -> None:
    events = stored(show("--kind", kind, "--json"))
    assert events
    assert events == [event for event in STORY if isinstance(event, KINDS[kind])]


def test_every_reason_can_be_chosen() -> None:
    assert set(FailureReason) <= set(REASONS)


def test_a_skip_for_want_of_room_is_found_by_its_reason(tmp_path: Path) -> None:
    row = request(1, NOON)
    skipped = msgspec.structs.replace(row.attempts[0], number=0, reason=None, skip="rate_limit: 0 requests left")
    write_lines(tmp_path / FILE, msgspec.structs.replace(row, attempts=(skipped,)), request(2, NOON + 1))
    command = ["events", "--journal", str(tmp_path), "--reason", "rate_limit", "--limit", "0", "--json"]
    (line,) = CliRunner().invoke(main, command).stdout.splitlines()
    assert "0 requests left" in line


def test_json_can_be_filtered_and_limited(show: Show) -> None:
    assert stored(show("--json", "--fallbacks-only")) == [STORY[1], STORY[2], exhausted(3, NOON + 11)]
    assert stored(show("--json", "--limit", "1")) == [STORY[-1]]


def test_a_limit_says_that_there_is_more(show: Show) -> None:
    assert show("--limit", "3").stdout.splitlines()[-1].endswith("; the newest 3 are shown (--limit 0 for all)")


def test_many_unfinished_ones_do_not_push_out_what_is_newer(tmp_path: Path) -> None:
    write_lines(tmp_path / FILE, *(commit(n, NOON + n) for n in range(1, 9)), request(20, NOON + 20))
    result = CliRunner().invoke(main, ["events", "--journal", str(tmp_path), "--limit", "2"])
    assert ids(result) == ["8", "14"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--kind", "requests"], "'fallback', 'breaker', 'ejected', 'returned', 'defect', 'probe'"),
        (["--reason", "slowness"], "'connect_error', 'timeout', 'server_error'"),
        (["--status", "5x"], "write one such as 429, or 2xx, 4xx, 5xx"),
        (["--status", "999"], "write one such as 429"),
        (["--since", "yesterday"], "write how long ago (90s, 10m, 2h, 1d, 1w)"),
        (["--until", "10 parsecs"], "2026-01-31T08:00"),
        (["--limit", "-1"], "x>=0"),
        (["--journal", "/nowhere"], "does not exist"),
        (["--follow", "--until", "1s"], "exclude each other"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_words_are_refused_with_the_right_ones(show: Show, arguments: list[str], says: str) -> None:
    result = show(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr


def test_times_ago() -> None:
    assert [NOON - parse_time(text, NOON) for text in ("90s", "10m", "2h", "1d", "1w", "0.5h")] == [
        90,
        600,
        7200,
        86_400,
        604_800,
        1800,
    ]


# --- journals in any state -----------------------------------------------------------------------------------------


def test_no_events_is_no_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["events", "--journal", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (0, f"no events in {tmp_path} match\n")
    result = CliRunner().invoke(main, ["events", "--journal", str(tmp_path), "--json"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"no events in {tmp_path} match\n"


def test_the_journal_of_the_configuration_is_the_default(tmp_path: Path) -> None:
    config = tmp_path / "crossfade.yaml"
    config.write_text(
        "providers: {local: {dialect: openai, base_url: 'http://127.0.0.1:9/v1'}}\njournal: {path: kept}\n"
    )
    arguments = ["events", "--config", str(config), "--json"]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (0, f"no events: there is no journal at {tmp_path / 'kept'} yet\n")
    write_lines(tmp_path / "kept" / FILE, request())
    assert stored(CliRunner().invoke(main, arguments)) == [request()]


def test_damage_is_told_beside_the_events(tmp_path: Path) -> None:
    write_lines(tmp_path / FILE, request(1), b"no line of ours\n", request(2), b'{"event":"requ')
    result = CliRunner().invoke(main, ["events", "--journal", str(tmp_path), "--json"])
    assert stored(result) == [request(1), request(2)]
    assert "left out: 1 line that no event can be read from" in result.stderr
    assert "left out: 1 line without an end" in result.stderr


def test_text_that_callers_chose_cannot_move_the_cursor(tmp_path: Path) -> None:
    write_lines(tmp_path / FILE, fallback(target="openai/\x1b[2J\nforged"))
    result = CliRunner().invoke(main, ["events", "--journal", str(tmp_path), "--kind", "fallback"])
    assert "openai/?[2J?forged" in result.stdout


# --- following -----------------------------------------------------------------------------------------------------


def test_following_shows_what_comes_until_it_is_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = msgspec.json.encode(fallen_back(31, NOON + 31)) + b"\n"
    steps = [
        lambda: append(folder / FILE, msgspec.json.encode(request(30, NOON + 30)) + b"\n" + half[:40]),
        lambda: append(folder / FILE, half[40:]),
        lambda: write_lines(folder / "journal-20260529T000000Z-8.jsonl", request(32, NOON + 32, route="background")),
        lambda: write_lines(folder / "journal-20260529T000001Z-9.jsonl", request(33, NOON + 33)),
    ]

    def sleep(seconds: float) -> None:
        if not steps:
            raise KeyboardInterrupt
        steps.pop(0)()

    monkeypatch.setattr(command, "sleep", sleep)
    arguments = ["events", "--journal", str(folder), "--follow", "--route", "chat", "--limit", "1"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    shown = [line[21:].split()[0].rpartition("-")[2] for line in result.stdout.splitlines()[1:]]
    assert shown == ["6", "1e", "1f", "21"]


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_following_waits_for_a_journal_that_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "crossfade.yaml"
    config.write_text(
        "providers: {local: {dialect: openai, base_url: 'http://127.0.0.1:9/v1'}}\njournal: {path: kept}\n"
    )
    steps = [lambda: None, lambda: write_lines(tmp_path / "kept" / FILE, request())]

    def sleep(seconds: float) -> None:
        if not steps:
            raise KeyboardInterrupt
        steps.pop(0)()

    monkeypatch.setattr(command, "sleep", sleep)
    result = CliRunner().invoke(main, ["events", "--config", str(config), "--follow", "--json"])
    assert stored(result) == [request()]


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    write_lines(tmp_path / FILE, *(request(n) for n in range(2000)))
    arguments = [sys.executable, "-m", "crossfade", "events", "--journal", str(tmp_path), "--json"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert json.loads(child.stdout.readline())["event"] == "request"
        child.stdout.close()
        assert b"Traceback" not in child.stderr.read()
