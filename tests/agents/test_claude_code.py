"""Claude Code, unchanged, behind the gateway: it does its task and notices nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.agents.dialects import Step
from tests.agents.provider import Fault
from tests.agents.running import (
    BEGUN,
    CASES,
    CONTENT,
    ENDED,
    READING,
    TASK,
    Agent,
    Place,
    check_behind_the_gateway,
    check_direct,
    installed,
    shown,
)

PACKAGE, VERSION = "@anthropic-ai/claude-code", "2.1.332"
SEARCH = Step("First I look for a tool.", "ToolSearch", {"query": "select:WebFetch", "max_results": 1})


@pytest.fixture(scope="session")
def claude() -> Agent:
    command = installed(PACKAGE, VERSION, "claude")

    def agent(place: Place, url: str) -> tuple[Sequence[str | Path], Mapping[str, str]]:
        said = shown("sh").replace("http://127.0.0.1:4000", url)
        variables = dict(re.findall(r"^export (\w+)=(\S+)$", said, re.MULTILINE))
        assert variables.pop("ANTHROPIC_BASE_URL") == url, "the page sets it"
        tools = ["--allowedTools", "Write,Read,ToolSearch"]
        return [command, "-p", TASK, *tools, "--model", "claude-sonnet-5"], {"ANTHROPIC_BASE_URL": url, **variables}

    return agent


def steps(folder: Path) -> list[Step]:
    path = str(folder / "work" / "hello.txt")
    return [
        Step(BEGUN, "Write", {"file_path": path, "content": CONTENT}),
        Step(READING, "Read", {"file_path": path}),
        Step(ENDED),
    ]


def test_the_script_is_what_the_agent_understands(claude: Agent, tmp_path: Path) -> None:
    check_direct(claude, steps(tmp_path), tmp_path)


@pytest.mark.parametrize("other", ["openai", "gemini"])
@pytest.mark.parametrize(("chain", "fault"), CASES)
def test_it_does_its_task_whatever_happens_to_the_first_provider(
    claude: Agent, tmp_path: Path, chain: str, fault: Fault | None, other: str
) -> None:
    dialects = chain.replace("own", "anthropic").replace("other", other).split()
    check_behind_the_gateway(claude, steps(tmp_path), tmp_path, dialects, fault)


@pytest.mark.parametrize("fault", ["cut in text", "500"])
def test_a_search_for_its_own_tools_is_no_end_of_the_fallback(claude: Agent, tmp_path: Path, fault: Fault) -> None:
    found = [SEARCH, *steps(tmp_path)]
    check_behind_the_gateway(claude, found, tmp_path, ["anthropic", "openai"], fault)
