"""The page about the journal names every event and every field, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from crossfade.cli.events import events as command
from crossfade.core.events import AttemptRow, Event
from crossfade.store import backlog, file, journal
from crossfade.store.base import FORMAT, JournalHeader
from crossfade.telemetry.logs import FLOOD_LINES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "policies" / "journal.md").read_text()

RECORDS = {
    "journal": JournalHeader,
    **{str(record.__struct_config__.tag): record for record in get_args(Event)},
    "attempts[]": AttemptRow,
}


def documented() -> dict[str, list[str]]:
    """Per section `### `name``, the names in the first column of its table."""
    sections = re.findall(r"^### `([^`]+)`(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return {name: re.findall(r"^\| `([^`]+)` \|", body, re.MULTILINE) for name, body in sections}


def test_every_event_is_documented_and_no_other() -> None:
    assert set(documented()) == set(RECORDS)


@pytest.mark.parametrize("name", RECORDS)
def test_every_field_is_documented_in_its_order_and_no_other(name: str) -> None:
    assert documented()[name] == [field.encode_name for field in msgspec.structs.fields(RECORDS[name])]


def test_the_numbers_are_those_of_the_code() -> None:
    rows = dict(re.findall(r"^\| ([A-Z][^|]+?) \| ([^|]+?) \|", PAGE, re.MULTILINE))
    assert rows["A write is slow after"] == f"{journal.SLOW_WRITE * 1000:.0f} ms"
    assert rows["Memory for waiting lines"] == f"{backlog.LIMIT_BYTES // 2**20} MiB"
    assert rows["Direct writes resume after"] == f"{backlog.CALM_AFTER:g} s without trouble"
    assert rows["With `fsync`, answers wait at most"] == f"{journal.SYNC_LIMIT:g} s"
    assert rows["A new file is begun at"] == f"{file.MAX_BYTES // 2**20} MiB, and at midnight UTC"
    assert rows["Losses are reported every"] == f"{journal.REPORT_EVERY:g} s, and at the end"
    assert rows["Log lines of one kind a second"] == f"{FLOOD_LINES}"
    assert f'"format":{FORMAT}' in PAGE


def test_every_option_of_the_command_is_documented() -> None:
    options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    assert set(re.findall(r"^\| `(--[a-z-]+)", PAGE, re.MULTILINE)) == options
