"""Codex, unchanged, behind the gateway: it does its task and notices nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.agents.dialects import Step
from tests.agents.provider import Fault
from tests.agents.running import (
    BEGUN,
    CASES,
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

PACKAGE, VERSION = "@openai/codex", "0.169.0"
STEPS = (
    Step(BEGUN, "exec_command", {"cmd": "printf 'Hello, harbour.\\n' > hello.txt"}),
    Step(READING, "exec_command", {"cmd": "cat hello.txt"}),
    Step(ENDED),
)


@pytest.fixture(scope="session")
def codex() -> Agent:
    command = installed(PACKAGE, VERSION, "codex")

    def agent(place: Place, url: str) -> tuple[Sequence[str | Path], Mapping[str, str]]:
        settings = place.home / ".codex" / "config.toml"
        settings.parent.mkdir()
        said = shown("toml")
        assert "http://127.0.0.1:4000/v1" in said
        settings.write_text(said.replace("http://127.0.0.1:4000", url))
        # No sandbox: what it would need of the kernel is not there in every container, and the script is harmless.
        alone = ["--skip-git-repo-check", "--sandbox", "danger-full-access"]
        return [command, "exec", *alone, TASK], {"CROSSFADE_KEY": "unused-on-loopback"}

    return agent


def test_the_script_is_what_the_agent_understands(codex: Agent, tmp_path: Path) -> None:
    check_direct(codex, STEPS, tmp_path)


@pytest.mark.parametrize("other", ["anthropic", "openai"])
@pytest.mark.parametrize(("chain", "fault"), CASES)
def test_it_does_its_task_whatever_happens_to_the_first_provider(
    codex: Agent, tmp_path: Path, chain: str, fault: Fault | None, other: str
) -> None:
    dialects = chain.replace("own", "responses").replace("other", other).split()
    check_behind_the_gateway(codex, STEPS, tmp_path, dialects, fault)
