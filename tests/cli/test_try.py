"""`crossfade try`: one real request, a fault injected below the gateway's detection, and the walk in plain words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from crossfade.cli.main import main
from crossfade.testing import ProviderSimulator
from crossfade.transport.chaos import FaultKind

PROMPT = "Hello there"
CONFIG = """\
providers:
  one: {{dialect: openai, base_url: '{one}'}}
  two: {{dialect: anthropic, base_url: '{two}'}}
routes:
  chat:
    chain: [one/model, two/claude-opus-5]
    first_content_timeout: 300ms
    silence_timeout: 300ms
    idle_timeout: 300ms
    attempt_timeout: 300ms
    connect_timeout: 300ms
    stream_upstream: {upstream}
    retry: {{delay: 0s}}
"""

Try = Callable[..., Result]


CALLERS = (FaultKind.STATUS_400, FaultKind.STATUS_401)
"""Faults that no other provider is asked for."""


@pytest.fixture(scope="module")
def shared() -> Iterator[ProviderSimulator]:
    with ProviderSimulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(shared: ProviderSimulator) -> ProviderSimulator:
    shared.reset()
    return shared


@pytest.fixture
def attempt(tmp_path: Path, simulator: ProviderSimulator) -> Try:
    """Runs the command with a configuration of two simulated providers."""

    def run(*arguments: str, upstream: str = "false") -> Result:
        file = tmp_path / "crossfade.yaml"
        urls = {"one": simulator.base_url("openai", "one"), "two": simulator.base_url("anthropic", "two")}
        file.write_text(CONFIG.format(upstream=upstream, **urls))
        return CliRunner().invoke(main, ["try", PROMPT, "--config", str(file), *arguments])

    return run


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
def test_the_answer_goes_to_the_output_and_the_walk_beside_it(
    attempt: Try, simulator: ProviderSimulator, stream: str
) -> None:
    result = attempt(stream)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == simulator.healthy_text(PROMPT)
    assert "route chat: one/model > two/claude-opus-5" in result.stderr
    assert "answered by one/model" in result.stderr and "no fallback" in result.stderr


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind not in CALLERS])
def test_a_broken_target_is_passed_whatever_breaks_it(
    attempt: Try, simulator: ProviderSimulator, kind: FaultKind, stream: str
) -> None:
    result = attempt(stream, "--break", f"one={kind}", upstream="true")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == simulator.healthy_text(PROMPT)
    if kind is FaultKind.LATENCY:
        return  # slow, but well
    assert "answered by two/claude-opus-5" in result.stderr and "1 fallback" in result.stderr
    assert "  1  one/model" in result.stderr


@pytest.mark.parametrize("kind", CALLERS)
def test_what_is_nobody_elses_to_mend_is_not_answered(
    attempt: Try, simulator: ProviderSimulator, kind: FaultKind
) -> None:
    result = attempt("--break", f"one={kind}")
    assert result.exit_code == 1
    assert "not answered" in result.stderr
    assert simulator.counts("two")["calls"] == 0


def test_the_record_can_be_had_as_json(attempt: Try) -> None:
    result = attempt("--json", "--break", "one/model=429")
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)
    assert (row["served"], row["fallbacks"], row["key"]) == ("two/claude-opus-5", 1, "crossfade try")
    assert [one.get("reason") for one in row["attempts"]] == ["rate_limit", None]


def test_where_nothing_answers_it_says_so_and_exits_with_1(attempt: Try) -> None:
    result = attempt("--break", "one=500", "--break", "two=silence", upstream="true")
    assert result.exit_code == 1
    assert result.stdout.strip() == ""
    assert "All 2 targets of route 'chat' failed" in result.stderr
    assert "not answered: chain_exhausted" in result.stderr


def test_a_model_may_be_named(attempt: Try, simulator: ProviderSimulator) -> None:
    result = attempt("--model", "two/claude-opus-5")
    assert result.exit_code == 0, result.output
    assert "answered by two/claude-opus-5" in result.stderr
    assert simulator.counts("one")["calls"] == 0


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["--break", "nobody=500"], "no provider is called 'nobody'", 2),
        (["--break", "one=bogus"], "no kind of fault", 2),
        (["--break", "one"], "not of the form target=kind", 2),
        (["--model", "nobody"], "nobody", 1),
    ],
)
def test_what_cannot_be_tried_is_said_in_a_sentence(attempt: Try, arguments: list[str], words: str, code: int) -> None:
    result = attempt(*arguments)
    assert result.exit_code == code
    assert words in result.output and "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit)
