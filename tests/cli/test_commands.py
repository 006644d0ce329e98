"""The commands that need no server: what they print, write and exit with."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import jsonschema_rs
import pytest
import yaml
from click.testing import CliRunner, Result

from crossfade.cli.init import SUGGESTED
from crossfade.cli.main import COMMANDS, main
from crossfade.config.catalogue import facts_of
from crossfade.config.loader import load_config
from crossfade.config.secrets import hash_key
from crossfade.core.errors import UnknownRoute
from crossfade.providers.compatible import VENDORS

Run = Callable[..., Result]
KEYS = {"OPENAI_API_KEY": "sk-openai-0123456789", "ANTHROPIC_API_KEY": "sk-ant-0123456789"}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in an empty folder, with no provider's key in the environment but the given ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CROSSFADE_CONFIG", raising=False)
    for row in VENDORS.values():
        for variable in row.env:
            monkeypatch.delenv(variable, raising=False)

    def run(*arguments: str, given: str | None = None, **environ: str) -> Result:
        return CliRunner().invoke(main, list(arguments), input=given, env=environ)

    return run


def test_help_imports_no_command() -> None:
    code = (
        "import sys\nfrom crossfade.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "bad = [m for m in sys.modules if m.startswith('crossfade.') and m.split('.')[1] in"
        " ('config', 'engine', 'edge', 'transport', 'providers', 'simulator')]\n"
        "assert not bad, bad\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "check" in done.stdout


def test_every_listed_command_is_there_and_has_help(run: Run) -> None:
    context = click.Context(main)
    names = main.list_commands(context)
    assert {"init", "check", "keys", "schema"} <= set(names) <= COMMANDS.keys()
    for name in names:
        command = main.get_command(context, name)
        assert isinstance(command, click.Command)
        assert command.help
        assert run(name, "--help").exit_code == 0


def test_a_command_that_is_not_installed_is_unknown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "later", ("crossfade.cli.no_such_module:later", "Later."))
    assert "later" not in run("--help").output
    assert run("later").exit_code == 2


def test_other_errors_of_ours_exit_with_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise UnknownRoute("no such route")

    monkeypatch.setattr("crossfade.cli.schema.schema", click.Command("schema", callback=fail))
    result = run("schema")
    assert (result.exit_code, result.output) == (1, "no such route\n")


def test_it_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "crossfade", "--version"], capture_output=True, text=True, check=False)
    assert re.fullmatch(r"crossfade, version \d+\.\d+\.\d+\n", done.stdout)


# --- init -----------------------------------------------------------------------------------------------------


def test_init_writes_a_good_file_with_the_providers_of_the_environment(run: Run) -> None:
    result = run("init", **KEYS)
    assert result.exit_code == 0
    assert "openai, anthropic" in result.output
    config = load_config(Path("crossfade.yaml"), KEYS, VENDORS)
    assert list(config.providers) == ["openai", "anthropic"]
    assert [rung.name for rung in config.routes["chat"].chain] == ["openai/gpt-5.4", "anthropic/claude-opus-5"]
    assert config.warnings == ()
    assert run("check", **KEYS).exit_code == 0


def test_init_writes_a_good_file_for_every_vendor(run: Run) -> None:
    environ = {variable: "k-0123456789" for row in VENDORS.values() for variable in row.env}
    run("init", **environ)
    config = load_config(Path("crossfade.yaml"), environ, VENDORS)
    assert {row.name for row in VENDORS.values() if row.env and row.base_url} == config.providers.keys()
    assert config.warnings == ()


def test_init_without_keys_writes_an_example_to_uncomment(run: Run) -> None:
    result = run("init")
    assert result.exit_code == 0
    assert "export one" in result.output
    text = Path("crossfade.yaml").read_text().partition("\n# The chain behind")[0]
    uncommented = re.sub(r"^# (?=providers|routes|  )", "", text, flags=re.MULTILINE)
    Path("mine.yaml").write_text(uncommented)
    assert set(load_config(Path("mine.yaml"), KEYS, VENDORS).providers) == {"openai", "anthropic"}


def test_init_never_overwrites(run: Run) -> None:
    Path("crossfade.yaml").write_text("mine")
    result = run("init", **KEYS)
    assert result.exit_code == 1
    assert "is there already" in result.output
    assert Path("crossfade.yaml").read_text() == "mine"
    assert run("init", "-o", "other.yaml", **KEYS).exit_code == 0
    assert Path("other.yaml").exists()


def test_init_says_what_it_cannot_write(run: Run) -> None:
    result = run("init", "-o", "nowhere/x.yaml", **KEYS)
    assert (result.exit_code, result.output) == (1, "nowhere/x.yaml: No such file or directory\n")


@pytest.mark.parametrize("vendor", [name for name in SUGGESTED if name in VENDORS])
def test_suggested_models_are_in_the_catalogue(vendor: str) -> None:
    known = facts_of(vendor, SUGGESTED[vendor])
    assert known is not None
    assert known.is_chat
    assert not known.only_responses


# --- check ----------------------------------------------------------------------------------------------------

GOOD = """\
server: {listen: 127.0.0.1:4567}
providers: {openai: {api_keys: [env:OPENAI_API_KEY, env:SECOND]}, anthropic: {}}
routes:
  chat: {match: [gpt-*], chain: [openai/gpt-5.4, anthropic/claude-opus-5]}
  lone: {chain: [openai/gpt-5.4]}
fallbacks: {"*": [anthropic/claude-opus-5]}
gateway_keys: [{name: web, key: env:SECOND, route: chat}]
"""


def test_check_shows_what_the_file_amounts_to(run: Run) -> None:
    Path("crossfade.yaml").write_text(GOOD)
    result = run("check", **KEYS, SECOND="second-0123456789-0123456789")
    assert result.exit_code == 0
    for line in (
        "listen: 127.0.0.1:4567 (with a gateway key), admin: 127.0.0.1:4001",
        "  openai: openai, https://api.openai.com/v1, 2 keys",
        "  anthropic: anthropic, https://api.anthropic.com/v1, 1 key",
        "  chat (also gpt-*): openai/gpt-5.4 -> anthropic/claude-opus-5",
        "  *: anthropic/claude-opus-5",
        "gateway key web: route chat",
        "warning: route 'lone' has one target: nothing to fall back to",
    ):
        assert line in result.output.splitlines()
    assert "0123456789" not in result.output


def test_check_prints_one_line_per_problem_and_exits_with_2(run: Run) -> None:
    Path("crossfade.yaml").write_text(
        "providers: {openai: {}}\nroutes:\n  chat:\n    chain: [openai/a, opnai/b]\n    commit: x\n"
    )
    result = run("check", **KEYS)
    assert result.exit_code == 2
    first, second = result.stderr.splitlines()
    assert first == "crossfade.yaml:4: routes.chat.chain[1]: unknown provider 'opnai'; did you mean 'openai'?"
    assert second.startswith("crossfade.yaml:5: routes.chat.commit: ")
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [("check", "missing.yaml"), ("check", "."), ("check", "bad.yaml"), ("check",)])
def test_check_never_shows_a_traceback(run: Run, arguments: tuple[str, ...]) -> None:
    Path("bad.yaml").write_bytes(b"\xff[")
    result = run(*arguments)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output


def test_check_finds_the_file_the_environment_names(run: Run) -> None:
    Path("other.yaml").write_text("providers: {openai: {}}")
    assert "other.yaml: good" in run("check", CROSSFADE_CONFIG="other.yaml", **KEYS).output


def test_check_without_a_file_tells_of_the_environment(run: Run) -> None:
    result = run("check", **KEYS)
    assert result.exit_code == 0
    assert "environment: good" in result.output
    assert "nothing to fall back to" in result.output


# --- schema and keys ------------------------------------------------------------------------------------------


def test_schema_is_printed_and_judges_files(run: Run) -> None:
    schema = json.loads(run("schema").stdout)
    validator = jsonschema_rs.Draft202012Validator(schema)
    assert validator.is_valid(yaml.safe_load(GOOD))
    assert not validator.is_valid({"routess": {}})


@pytest.mark.parametrize("name", ["web", 'we"b\\', "a: b"])
def test_a_new_key_is_shown_once_with_a_line_that_works(run: Run, name: str) -> None:
    result = run("keys", "new", "--name", name, "--route", "chat", "--project", "shop")
    assert result.exit_code == 0
    (key,) = re.findall(r"cf-[A-Za-z0-9_-]{43}", result.stdout)
    lines = result.stdout.splitlines()
    entry = yaml.safe_load("\n".join(lines[lines.index("gateway_keys:") :]))
    assert entry == {"gateway_keys": [{"name": name, "hash": hash_key(key), "route": "chat", "project": "shop"}]}
    assert run("keys", "hash", given=f"{key}\n").stdout == f"{hash_key(key)}\n"


def test_a_short_key_is_not_hashed(run: Run) -> None:
    result = run("keys", "hash", given="password\n")
    assert result.exit_code == 1
    assert "password" not in result.output
