"""The pages on moving to crossfade: every block of theirs runs, against simulated providers where it calls one."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import shlex
import sys
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from click.testing import CliRunner

from crossfade.cli.main import main
from crossfade.config.litellm.report import KIND_WORDS
from crossfade.simulator.answers import healthy_text
from crossfade.simulator.thread import ProviderSimulator
from tests.documents import Block, blocks, page, tables_with, words
from tests.e2e.harness import TEXT, Stage, config_of, new_mark, run, stage

PAGES = ("openrouter", "direct", "langchain")
DIALECTS = {"anthropic": "anthropic"}
ADDRESS = "http://127.0.0.1:4000/v1"
SAID = healthy_text("Hello")


@pytest.fixture(scope="module")
def simulator() -> Iterator[ProviderSimulator]:
    with ProviderSimulator() as made:
        yield made


def of(name: str, language: str) -> list[Block]:
    return [block for block in blocks(page(f"migrate/{name}.md")) if block.language == language]


PYTHON = [block for name in PAGES for block in of(name, "python")]


def test_every_block_of_the_pages_is_of_a_kind_that_runs() -> None:
    names = (*PAGES, "litellm", "agents")
    kinds = {name: {block.language for block in blocks(page(f"migrate/{name}.md"))} for name in names}
    assert kinds == {
        "openrouter": {"yaml", "python"},
        "direct": {"yaml", "python", "sh"},
        "langchain": {"yaml", "python"},
        "litellm": {"yaml", "sh", "text"},
        "agents": {"yaml", "sh", "toml"},  # the last two: tests/agents
    }
    assert all(len(of(name, "yaml")) == 1 for name in PAGES)


# --- LiteLLM -------------------------------------------------------------------------------------------------


def test_the_import_prints_and_writes_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given, made = of("litellm", "yaml")
    (command,), (shown,) = of("litellm", "sh"), of("litellm", "text")
    (tmp_path / "config.yaml").write_text(given.text)
    arguments = shlex.split(command.text)
    assert arguments.pop(0) == "crossfade"
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.output) == (0, shown.text)
    assert (tmp_path / "crossfade.yaml").read_text() == made.text


def test_the_page_names_the_kinds_of_remarks_and_the_exit_codes() -> None:
    (kinds,) = tables_with(page("migrate/litellm.md"), "what a remark says", "meaning")
    assert [one for cell in kinds.column("what a remark says") for one in words(cell)] == list(KIND_WORDS.values())
    (codes,) = tables_with(page("migrate/litellm.md"), "exit code", "meaning")
    assert sorted(codes.column("exit code")) == ["0", "1", "2", "3"]


def test_the_file_for_agents_takes_what_they_ask_for() -> None:
    (block,) = of("agents", "yaml")
    routes = config_of(block.text, ENVIRON).routes
    (settings,) = of("agents", "toml")
    assert tomllib.loads(settings.text)["model"] in routes and set(routes) == {"claude", "coder"}


# --- blocks that call a gateway --------------------------------------------------------------------------------


class ChatOpenAI:
    """Stands in for LangChain's class of this name: the arguments of the page, given to OpenAI's SDK."""

    def __init__(self, *, model: str, base_url: str, api_key: str, max_retries: int, extra_body: Any = None):
        self._model, self._extra_body = model, extra_body
        self._client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=max_retries)

    def invoke(self, text: str) -> Any:
        messages: Any = [{"role": "user", "content": text}]
        answer = self._client.chat.completions.create(model=self._model, messages=messages, extra_body=self._extra_body)
        return answer.choices[0].message


@pytest.fixture(autouse=True)
def _langchain(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("langchain_openai")
    vars(module)["ChatOpenAI"] = ChatOpenAI
    monkeypatch.setitem(sys.modules, "langchain_openai", module)


def simulated(text: str, simulator: ProviderSimulator, mark: str) -> str:
    """The page's file, its providers at the simulator."""

    def at(match: re.Match[str]) -> str:
        name = match[1]
        return f"{match[0]}base_url: '{simulator.base_url(DIALECTS.get(name, 'openai'), mark + name)}', "

    text, count = re.subn(r"^  (\w+): +\{(?=api_keys)", at, text, flags=re.MULTILINE)
    assert count >= 2
    return "server: {listen: '127.0.0.1:0', admin: '127.0.0.1:0'}\n" + text


ENVIRON = {f"{name}_API_KEY": f"sk-{name.lower()}-0123456789" for name in ("OPENAI", "ANTHROPIC", "OPENROUTER")}


def executed(block: Block, url: str) -> str:
    """What a block prints, its gateway being at `url`."""
    assert ADDRESS in block.text
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.text.replace(ADDRESS, f"{url}/v1"), str(block), "exec"), {"__name__": "example"})
    return printed.getvalue()


async def _walk(block: Block, made: Stage) -> tuple[str, list[tuple[str, str | None]]]:
    printed = await asyncio.get_running_loop().run_in_executor(None, executed, block, made.url)
    return printed, made.record.reasons()


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_block_gets_its_answer_and_a_fallback_when_its_first_target_fails(
    simulator: ProviderSimulator, block: Block
) -> None:
    name = Path(block.page).stem
    mark = new_mark()
    text = simulated(of(name, "yaml")[0].text, simulator, mark)

    async def check() -> None:
        async with stage(text, simulator, mark, environ=ENVIRON) as made:
            printed, walk = await _walk(block, made)
            assert SAID in printed or "claude-sonnet" in printed
            ((first, reason),) = walk
            assert reason is None
            made.schedule(first, then="503")
            again, walk = await _walk(block, made)
            assert [reason for _, reason in walk] == ["overloaded", None] and walk[0][0] == first
            assert SAID in again or again.strip() in ("gpt-4o", "anthropic/claude-sonnet-4.5")

    run(check())


def test_sdk_variables_of_the_page_are_those_the_sdk_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = of("direct", "sh")
    for line in block.text.splitlines():
        name, _, value = line.removeprefix("export ").partition("=")
        monkeypatch.setenv(name, value)
    client = openai.OpenAI()
    assert (str(client.base_url).rstrip("/"), client.api_key) == (ADDRESS, "unused-on-loopback")


def test_openrouter_s_preferences_reach_it_and_nobody_else(simulator: ProviderSimulator) -> None:
    mark = new_mark()
    text = simulated(of("openrouter", "yaml")[0].text, simulator, mark)

    async def check() -> None:
        async with stage(text, simulator, mark, environ=ENVIRON) as made:
            made.schedule("openai", then="503")
            made.schedule("anthropic", then="503")
            for name in ("openai/gpt-4o", "anthropic/claude-sonnet-4.5"):
                answer = await made.ask(model=name, extra_body={"provider": {"order": ["azure"]}})
                assert answer.text == TEXT and answer.model == name
            bodies = {
                provider: json.dumps([one["body"] for one in made.counts(provider)["requests"]])
                for provider in ("openai", "anthropic", "openrouter")
            }
            assert {provider for provider, body in bodies.items() if '"order"' in body} == {"openrouter"}

    run(check())
