"""Running a coding agent as its users do, but headless, alone with its gateway: an emptied environment, a folder of its
own, and for everything beyond loopback a proxy that refuses, and remembers."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import pytest

from crossfade.gateway import Gateway
from tests.agents.dialects import Step
from tests.agents.provider import Asked, Fault, ScriptedProvider
from tests.documents import blocks, page
from tests.e2e.harness import Record, config_of
from tests.e2e.harness import run as run_on_loop

TASK: Final = "Create hello.txt with the content 'Hello, harbour.', then read it back, and tell me what it says."
CONTENT: Final = "Hello, harbour.\n"
BEGUN: Final = "I will write the file now, and then I will read it back."
READING: Final = "It is written. Now I read it back to see what it says."
ENDED: Final = "The file hello.txt says: Hello, harbour. That was all of it."

CASES: Final[Sequence[tuple[str, Fault | None]]] = (
    ("own", None),
    ("own other", "cut in text"),
    ("own other", "cut in call"),
    ("own other", "500"),
    ("own other", "silent"),
    ("other", None),
)
"""Chains, of the agent's own dialect and another one, and what ails the first provider in them."""
MODELS: Final = {
    "anthropic": "claude-sonnet-4-5",
    "openai": "gpt-5.4",
    "responses": "gpt-5.4",
    "gemini": "gemini-3.8-flash",
}
REASONS: Final = {
    "cut in text": "stream_interrupted",
    "cut in call": "stream_interrupted",
    "500": "server_error",
    "silent": "timeout",
}
QUICK: Final = "first_content_timeout: 2s, silence_timeout: 2s, idle_timeout: 2s"
LONGEST: Final = 40.0
"""Seconds after which an agent is given up."""


def installed(package: str, version: str, command: str) -> Path:
    """The agent's command, installed from npm into the user's cache folder. Skips where it cannot be had."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossfade-tests"
    folder = cache / f"{command}-{version}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as fresh:  # half an installation is none
            made = Path(fresh) / "made"
            asked = [npm, "install", "--prefix", str(made), "--no-audit", "--no-fund", f"{package}@{version}"]
            try:
                subprocess.run(asked, check=True, capture_output=True, timeout=300)
            except (subprocess.SubprocessError, OSError) as error:
                pytest.skip(f"npm cannot install {package}@{version}: {error}")
            if not folder.exists():
                made.rename(folder)
    installed = folder / "node_modules" / ".bin" / command
    try:
        subprocess.run([installed, "--version"], check=True, capture_output=True, timeout=60)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"{package}@{version} does not start on this machine: {error}")
    return installed


def shown(language: str) -> str:
    """The page's own block of a language."""
    (block,) = [block for block in blocks(page("migrate/agents.md")) if block.language == language]
    return block.text


class Ended(msgspec.Struct):
    """What an agent came to. `left` is hello.txt, None where it is missing; `abroad` what it asked the proxy for."""

    code: int
    out: str
    err: str
    left: str | None
    abroad: list[str]


class Place:
    """Folders and an environment for one run of an agent."""

    def __init__(self, folder: Path, play: ScriptedProvider):
        self.home, self.work, temporary = folder / "home", folder / "work", folder / "tmp"
        self._play = play
        for made in (self.home, self.work, temporary):
            made.mkdir()
        node = Path(shutil.which("node") or "/usr/bin/node").parent
        self._variables = {
            "HOME": str(self.home),
            "TMPDIR": str(temporary),
            "PATH": os.pathsep.join(["/usr/bin", "/bin", str(node)]),
            "LANG": "C.UTF-8",
            "HTTP_PROXY": play.url,
            "HTTPS_PROXY": play.url,
            "NO_PROXY": "127.0.0.1",
        }

    async def run(self, command: Sequence[str | Path], variables: Mapping[str, str]) -> Ended:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.work,
            env={**self._variables, **variables},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), LONGEST)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        file = self.work / "hello.txt"
        return Ended(
            code=process.returncode or 0,
            out=out.decode(),
            err=err.decode(),
            left=file.read_text() if file.exists() else None,
            abroad=[other for other in self._play.others if other.startswith("CONNECT")],
        )


Agent = Callable[[Place, str], tuple[Sequence[str | Path], Mapping[str, str]]]
"""From a place and the base URL without `/v1`: the agent's command and its variables. It may write its settings."""


def script_of(*steps: Step) -> Callable[[Asked], Step]:
    """One step a turn; the last one for all further turns."""
    return lambda asked: steps[min(len(asked.results), len(steps) - 1)]


def config(play: ScriptedProvider, chain: Sequence[str]) -> str:
    """A gateway before scripted providers `a`, `b`, ..., one for each dialect of `chain`, that takes whatever model an
    agent names."""
    lines = ["server: {listen: '127.0.0.1:0', admin: '127.0.0.1:0'}", "providers:"]
    targets = []
    for name, dialect in zip("abc", chain, strict=False):
        lines.append(f"  {name}: {{dialect: {dialect}, base_url: '{play.base_url(name)}'}}")
        targets.append(f"{name}/{MODELS[dialect]}")
    lines += ["routes:", f"  agent: {{match: ['*'], chain: [{', '.join(targets)}], {QUICK}}}"]
    return "\n".join(lines)


def check_ended(ended: Ended, folder: Path) -> None:
    """It did its task, said nothing of an error, and spoke to nobody else."""
    assert ended.code == 0, (ended.out, ended.err)
    assert ended.left == CONTENT and ENDED in ended.out
    said = (ended.out + ended.err).lower().replace(str(folder).lower(), "")
    assert "error" not in said and "retry" not in said and "reconnecting" not in said, said
    assert ended.abroad == []


def check_direct(agent: Agent, steps: Sequence[Step], folder: Path) -> None:
    """The agent without a gateway: what its script is worth."""

    async def main() -> None:
        with ScriptedProvider(script_of(*steps)) as play:
            place = Place(folder, play)
            check_ended(await place.run(*agent(place, f"{play.url}/a")), folder)
            assert [len(asked.results) for asked in play.of("a") if asked.tools] == [*range(len(steps))]

    run_on_loop(main(), 2 * LONGEST)


def check_behind_the_gateway(
    agent: Agent, steps: Sequence[Step], folder: Path, chain: Sequence[str], fault: Fault | None
) -> None:
    """The agent behind a gateway whose first provider has `fault`: each of its turns is answered at the first time of
    asking."""

    async def main() -> None:
        record = Record()
        with ScriptedProvider(script_of(*steps)) as play:
            if fault is not None:
                play.faults["a"] = fault
            async with await Gateway.open(config_of(config(play, chain)), {}, record) as gateway:
                place = Place(folder, play)
                check_ended(await place.run(*agent(place, gateway.url)), folder)
            answering = "a" if fault is None else "b"
            assert [len(asked.results) for asked in play.of(answering) if asked.tools] == [*range(len(steps))]
            assert {(row.status, row.error) for row in record.ended} == {(200, None)}
            failed = {attempt.reason for row in record.ended for attempt in row.attempts if attempt.reason is not None}
            assert failed == (set() if fault is None else {REASONS[fault]})

    run_on_loop(main(), 2 * LONGEST)
