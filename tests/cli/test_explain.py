"""`crossfade explain`: what it shows, what it refuses, and that a real gateway walks the same way."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest

from crossfade.cli.main import main
from crossfade.simulator.thread import ProviderSimulator
from tests.documents import page
from tests.e2e.harness import QUICK, chain_stage, run

CONFIG = """
providers:
  openai: {api_keys: []}
  anthropic: {api_keys: []}
  gemini: {api_keys: []}
  blind: {dialect: openai, base_url: 'http://127.0.0.1:9/v1', models: {m: {vision: false, window: 1000}}}
routes:
  chat: {chain: [openai/gpt-5.4, anthropic/claude-opus-5, gemini/gemini-3.8-flash]}
  seeing: {chain: [blind/m, openai/gpt-5.4]}
  pooled: {chain: [{pool: round_robin, of: [openai/gpt-5.4, anthropic/claude-opus-5]}, gemini/gemini-3.8-flash]}
gateway_keys: [{name: web, hash: 'sha256:%s', route: seeing}]
""" % ("0" * 64)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "crossfade.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def simulator() -> Iterator[ProviderSimulator]:
    with ProviderSimulator() as running:
        yield running


def said(config: Path, *options: str, given: str | None = None) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["explain", "-c", str(config), *options], input=given)


def course(config: Path, *options: str, given: str | None = None) -> dict[str, Any]:
    result = said(config, "--json", *options, given=given)
    found: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (0 if found["served"] else 1)
    return found


def walk(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(line["what"], line["target"].partition("/")[0]) for line in found["lines"]]


def test_the_primary_answers_where_nothing_is_assumed(config: Path) -> None:
    found = course(config)
    assert found["route"] == "chat"
    assert found["plan"] == ["openai/gpt-5.4", "anthropic/claude-opus-5", "gemini/gemini-3.8-flash"]
    assert walk(found) == [("call", "openai"), ("end", "openai")]
    assert (found["served"], found["calls"], found["fallbacks"]) == ("openai/gpt-5.4", 1, 0)


def test_each_failure_takes_its_time(config: Path) -> None:
    found = course(config, "--assume", "openai=503", "--assume", "anthropic=timeout")
    assert walk(found) == [
        ("call", "openai"), ("fail", "openai"), ("call", "anthropic"), ("fail", "anthropic"), ("call", "gemini"),
        ("end", "gemini"),
    ]  # fmt: skip
    times = [line["at_s"] for line in found["lines"]]
    assert times == pytest.approx([0.0, 0.3, 0.3, 12.3, 12.3, 14.3])


def test_a_single_500_is_retried_as_the_gateway_would(config: Path) -> None:
    found = course(config, "--assume", "openai=500")
    modes = [line.get("mode") for line in found["lines"] if line["what"] == "call"]
    assert modes == ["fresh", "retry", "fresh"]


def test_all_down_is_the_gateways_own_error_and_an_exit_code(config: Path) -> None:
    found = course(config, "--assume", "*=429:30s")
    assert (found["status"], found["code"], found["served"]) == (429, "chain_exhausted", None)
    assert "All 3 targets of route 'chat' failed" in found["message"]


def test_an_open_breaker_is_skipped_and_asked_as_the_last_resort(config: Path) -> None:
    found = course(config, "--assume", "openai=open")
    assert walk(found)[:2] == [("skip", "openai"), ("call", "anthropic")]
    alone = course(config, "--model", "openai/gpt-5.4", "--assume", "openai=open")
    assert [line["mode"] for line in alone["lines"] if line["what"] == "call"] == ["trial"]


def test_what_cannot_serve_the_request_is_named(config: Path) -> None:
    found = course(config, "--model", "seeing", "--image")
    assert found["skips"] == [{"target": "blind/m", "why": "no vision"}]
    long = course(config, "--model", "seeing", "--tokens", "5000")
    assert "window of 1000" in long["skips"][0]["why"]


def test_a_cut_stream_is_continued(config: Path) -> None:
    found = course(config, "--stream", "--assume", "openai=cut")
    assert ("begin", "openai") in walk(found)
    assert [line["mode"] for line in found["lines"] if line["what"] == "call"] == ["fresh", "continue"]
    assert found["served"] == "anthropic/claude-opus-5"


def test_what_is_slow_beyond_its_limit_is_a_timeout(config: Path) -> None:
    assert course(config, "--assume", "openai=slow:5s")["served"] == "openai/gpt-5.4"
    assert course(config, "--assume", "openai=slow:20s")["served"] == "anthropic/claude-opus-5"


def test_a_request_of_its_own(config: Path, tmp_path: Path) -> None:
    body = {"model": "chat", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}], "fallback_models": []}
    file = tmp_path / "request.json"
    file.write_text(json.dumps(body))
    assert course(config, str(file), "--endpoint", "messages")["plan"] == ["openai/gpt-5.4"]
    assert course(config, "-", given=json.dumps(body))["plan"] == ["openai/gpt-5.4"]
    assert course(config, str(file), "--model", "pooled", "--stream")["stream"] is True


def test_headers_and_keys_count(config: Path) -> None:
    assert course(config, "--header", "x-crossfade-route: seeing")["route"] == "seeing"
    assert course(config, "--key", "web")["route"] == "seeing"
    bound = course(config, "--header", "x-stainless-read-timeout: 20")
    assert bound["timeout_s"] == 19.5


def test_a_pool_is_shown(config: Path) -> None:
    result = said(config, "--model", "pooled")
    assert "round_robin of openai/gpt-5.4, anthropic/claude-opus-5" in result.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--assume", "openai"], "write TARGET=WORD"),
        (["--assume", "opena=500"], "'opena' is none of openai/gpt-5.4"),
        (["--assume", "openai=slowly"], "known are a status"),
        (["--assume", "openai=200"], "cannot be assumed"),
        (["--assume", "openai=slow"], "does not say how slow"),
        (["--assume", "openai=429:soon"], "is no duration"),
        (["--model", "nothing"], "refused with 404"),
        (["--header", "oops"], "write NAME: VALUE"),
        (["--key", "nobody"], "known are web"),
        (["-"], "refused with 400"),
    ],
)
def test_what_is_wrong_is_said_without_a_traceback(config: Path, options: list[str], words: str) -> None:
    result = said(config, *options, given="{")
    assert result.exit_code in (1, 2)
    assert words in result.stderr + result.stdout
    assert "Traceback" not in result.stderr


def test_the_page_shows_what_the_command_prints(config: Path) -> None:
    text = page("explain.md").read_text()
    (shown,) = re.findall(r"```\n\$ crossfade explain (.*?)\n(.*?)```", text, re.DOTALL)
    assert said(config, *shown[0].split()).stdout == shown[1]


FAULTS = {"503": "503", "500": "500", "429; retry_after=30": "429:30s", "dead_port": "connect_error", "400": "400"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_real_gateway_walks_the_same_way(simulator: ProviderSimulator, tmp_path: Path, fault: str) -> None:
    async def real() -> list[tuple[str, str]]:
        chain = {"a": "openai", "b": "anthropic", "c": "gemini"}
        more = {"a": f"base_url: 'http://127.0.0.1:{simulator.dead_port()}'"} if fault == "dead_port" else {}
        async with chain_stage(simulator, chain, QUICK, more=more) as stage:
            if not more:
                stage.schedule("a", then=fault)
            stage.schedule("b", then="503")
            with pytest.raises(Exception) if fault == "400" else _Fine():
                await stage.ask()
            row = stage.record.last
            return [(one.target.removeprefix(stage.mark)[:1], one.mode) for one in row.attempts]

    path = tmp_path / "crossfade.yaml"
    lines = [f"  {name}: {{dialect: {d}, base_url: 'http://127.0.0.1:9/v1'}}" for name, d in (("a", "openai"),)]
    lines += [
        "  b: {dialect: anthropic, base_url: 'http://127.0.0.1:9'}",
        "  c: {dialect: gemini, base_url: 'http://127.0.0.1:9'}",
    ]
    targets = "a/gpt-5.4, b/claude-opus-5, c/gemini-3.8-flash"
    path.write_text("\n".join(["providers:", *lines, f"routes: {{chat: {{chain: [{targets}], {QUICK}}}}}"]))
    found = course(path, "--assume", f"a={FAULTS[fault]}", "--assume", "b=503")
    explained = [(line["target"][:1], line["mode"]) for line in found["lines"] if line["what"] == "call"]
    assert run(real()) == explained


class _Fine:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...
