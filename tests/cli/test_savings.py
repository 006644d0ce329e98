"""`crossfade savings`: what is summed, what is not, and how it is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click.testing
import msgspec
import pytest

from crossfade.cli.main import main
from crossfade.core.events import AttemptRow, Event, RequestEnded
from tests.store.samples import fallback, request

A, B = "a/strong", "b/small"


def row(number: int, served: str | None, cost: float | None, **fields: Any) -> RequestEnded:
    attempts = fields.pop("attempts", (AttemptRow(number=1, target=served or A),))
    return request(number, served=served, cost_usd=cost, attempts=attempts, **fields)


ROWS: list[Event] = [
    row(1, A, 0.5, primary_usd=None, wasted_usd=None),
    row(2, B, 0.125, primary=A, primary_usd=0.5, rule="easy", wasted_usd=0.25, project="shop"),
    row(3, B, 0.125, primary=A, primary_usd=None, rule="easy", wasted_usd=None),  # the primary has no price
    row(4, A, None, primary_usd=None, wasted_usd=None),  # the target has none
    row(5, None, None, primary_usd=None, wasted_usd=0.125, status=503),
    row(6, B, 2.0, primary_usd=1.5, wasted_usd=None, route="other", attempts=(AttemptRow(number=1, target=A),)),
    fallback(),
]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    (tmp_path / "journal-1.jsonl").write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in ROWS))
    return tmp_path


def said(journal: Path, *options: str) -> Any:
    result = click.testing.CliRunner().invoke(main, ["savings", "--journal", str(journal), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_answers_are_summed_and_set_against_their_primary(journal: Path) -> None:
    found = json.loads(said(journal, "--json"))
    assert found["total"] == {
        "requests": 6,
        "cost_usd": 2.625,
        "primary_usd": 2.5,
        "saved_usd": -0.125,
        "wasted_usd": 0.375,
        "unpriced": 2,
    }
    assert found["routes"]["other"]["saved_usd"] == -0.5
    assert found["by"] == "route"


@pytest.mark.parametrize(
    ("by", "counts"),
    [
        ("target", {"(none)": 1, A: 2, B: 3}),
        ("rule", {"chat (no rule)": 3, "chat easy": 2, "other (no rule)": 1}),
        ("route", {"chat": 5, "other": 1}),
        ("project", {"(none)": 5, "shop": 1}),
    ],
)
def test_it_is_told_by_whatever_is_asked_for(journal: Path, by: str, counts: dict[str, int]) -> None:
    found = json.loads(said(journal, "--json", "--by", by))
    assert {name: one["requests"] for name, one in found[f"{by}s"].items()} == counts


def test_filters_are_those_of_events(journal: Path) -> None:
    assert json.loads(said(journal, "--json", "--route", "other"))["total"]["requests"] == 1
    assert json.loads(said(journal, "--json", "--until", "2000-01-01"))["total"]["requests"] == 0
    assert json.loads(said(journal, "--json", "--target", "b"))["total"]["requests"] == 2
    assert json.loads(said(journal, "--json", "--project", "shop"))["total"]["requests"] == 1


def test_the_table_has_a_line_for_each_and_one_for_all(journal: Path) -> None:
    lines = said(journal).splitlines()
    assert lines[0].split() == ["ROUTE", "REQUESTS", "COST", "AT", "PRIMARY", "SAVED", "WASTED", "UNPRICED"]
    assert lines[1].split() == ["chat", "5", "0.625000", "1.00", "0.375000", "0.375000", "2"]
    assert lines[-1].split()[0] == "total"


def test_no_journal_and_no_requests_are_no_error(journal: Path, tmp_path: Path) -> None:
    assert "no requests" in said(journal, "--route", "nobody")
    config = tmp_path / "crossfade.yaml"
    config.write_text(f"providers: {{openai: {{api_keys: []}}}}\nstate_dir: {tmp_path / 'new'}\n")
    result = click.testing.CliRunner().invoke(main, ["savings", "-c", str(config)])
    assert (result.exit_code, "no requests" in result.stdout) == (0, True)
