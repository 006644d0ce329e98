"""`crossfade import litellm`: what it writes, says and exits with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from crossfade.cli.main import main
from tests.config.litellm.samples import EXPECTED, FOLDER, NAMES, environ_for, made, model

Run = Callable[..., Result]
LOST = {"azure", "clouds", "wildcards"}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CROSSFADE_CONFIG", raising=False)

    def run(*arguments: str, **environ: str) -> Result:
        return CliRunner().invoke(main, list(arguments), env=environ)

    return run


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_written_and_passes_the_check(run: Run, name: str) -> None:
    result = run("import", "litellm", str(FOLDER / f"{name}.yaml"))
    assert result.exit_code == (3 if name in LOST else 0), result.output
    assert Path("crossfade.yaml").read_text() == (EXPECTED / f"{name}.yaml").read_text()
    assert "next: crossfade check crossfade.yaml" in result.stdout
    checked = run("check", **environ_for(made(name).variables))
    assert checked.exit_code == 0, checked.output
    assert "crossfade.yaml: good" in checked.stdout


def test_settings_without_effect_are_told_on_standard_error_by_line(run: Run) -> None:
    file = FOLDER / "single.yaml"
    result = run("import", "litellm", str(file))
    lines = result.stderr.splitlines()
    assert len(lines) == len(made("single").remarks) and all(line.startswith(f"{file}:") for line in lines)
    assert any(line.startswith(f"{file}:28: litellm_settings.num_retries: not carried over: ") for line in lines)
    assert any(line.startswith(f"{file}:34: environment_variables.OPENAI_API_KEY: to do: ") for line in lines)
    assert "it reads these variables: OPENAI_API_KEY\n" in result.stdout


@pytest.mark.parametrize("name", NAMES)
def test_the_report_in_json_says_the_same(run: Run, name: str) -> None:
    result = run("import", "litellm", str(FOLDER / f"{name}.yaml"), "--json", "--output", "out.yaml")
    report = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (report["exit"], "")
    assert report["output"] == "out.yaml" and Path("out.yaml").is_file()
    assert [(one["line"], one["setting"], one["kind"], one["reason"]) for one in report["settings"]] == [
        (one.line, one.setting, one.kind, one.reason) for one in made(name).remarks
    ]
    assert tuple(report["variables"]) == made(name).variables
    assert all(isinstance(one["line"], int) for one in report["settings"])


def test_keys_are_neither_written_nor_shown(run: Run) -> None:
    for arguments in ([], ["--json"], ["--output", "-"]):
        result = run("import", "litellm", str(FOLDER / "keys.yaml"), "--force", *arguments)
        assert result.exit_code == 0
        shown = result.output + (Path("crossfade.yaml").read_text() if Path("crossfade.yaml").exists() else "")
        for secret in ("AAAA", "BBBB", "CCCC", "DDDD", "sk-1234", "passw0rd", "some-secret-value"):
            assert secret not in shown


def test_a_file_that_is_there_is_overwritten_only_by_force(run: Run) -> None:
    Path("crossfade.yaml").write_text("mine\n")
    refused = run("import", "litellm", str(FOLDER / "single.yaml"))
    assert refused.exit_code == 1 and "--force overwrites it" in refused.stderr
    assert Path("crossfade.yaml").read_text() == "mine\n"
    assert run("import", "litellm", str(FOLDER / "single.yaml"), "--force").exit_code == 0
    assert Path("crossfade.yaml").read_text() == (EXPECTED / "single.yaml").read_text()


def test_the_output_can_be_the_screen(run: Run) -> None:
    result = run("import", "litellm", str(FOLDER / "single.yaml"), "-o", "-")
    assert result.stdout == (EXPECTED / "single.yaml").read_text()
    assert not Path("crossfade.yaml").exists() and not Path("-").exists()
    assert run("import", "litellm", str(FOLDER / "single.yaml"), "-o", "-", "--json").exit_code == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "config.yaml: cannot be read: No such file or directory"),
        ("model_list:\n  - model_name: a\n", "config.yaml:2: model_list[0]: has no litellm_params.model"),
        ("model_list: [\n", "config.yaml:2: not valid YAML"),
        ("server: {}\n", "config.yaml:1: model_list: has no list of models"),
    ],
)
def test_an_input_that_cannot_be_read_is_2(run: Run, text: str | None, words: str) -> None:
    if text is not None:
        Path("config.yaml").write_text(text)
    result = run("import", "litellm", "config.yaml")
    assert result.exit_code == 2 and words in result.stderr
    assert not Path("crossfade.yaml").exists()


def test_a_config_without_a_model_for_crossfade_writes_nothing(run: Run) -> None:
    Path("config.yaml").write_text("model_list:\n" + model("claude", "bedrock/anthropic.claude-v2"))
    result = run("import", "litellm", "config.yaml")
    assert result.exit_code == 3 and "nothing was written" in result.stderr
    assert not Path("crossfade.yaml").exists()
    report = json.loads(run("import", "litellm", "config.yaml", "--json").stdout)
    assert (report["output"], report["exit"]) == (None, 3)
