"""The SDKs as they are installed for the tests: once, outside the repository, and spoken to as processes.

Some of them pin older versions of what crossfade's own tests have, so none goes into the same environment. A folder is
named after what is asked for in it, and is made again when that changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
REQUIREMENTS: Final = ROOT / "requirements" / "sdks.txt"
PACKAGE: Final = Path(__file__).with_name("package.json")
CLIENTS: Final = Path(__file__).with_name("clients")
SECONDS_TO_INSTALL: Final = 600
SECONDS_TO_ANSWER: Final = 120


class NotInstalled(Exception):
    """Says what could not be installed, and the last words of what should have done it."""


def python_of(cache: Path) -> list[str]:
    """The command of a Python that has the Python SDKs. Raises NotInstalled."""
    kind = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folder = _folder(cache, kind, REQUIREMENTS, _install_python)
    return [str(folder / "bin" / "python")]


def node_of(cache: Path, place: Path) -> list[str]:
    """The command of node, to be followed by a script in `place`: there the clients are laid beside their packages,
    since node looks for these from the script's own folder upwards. Raises NotInstalled."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NotInstalled("node and npm are not here")
    folder = _folder(cache, "node", PACKAGE, lambda folder: _install_node(npm, folder))
    for script in CLIENTS.glob("*.mjs"):
        shutil.copy(script, place)
    (place / "node_modules").symlink_to(folder / "node_modules")
    return [node]


def _folder(cache: Path, kind: str, asked: Path, install: Callable[[Path], None]) -> Path:
    """The folder of what is asked for, installed. Two test runs at once do not install over each other."""
    folder = cache / f"{kind}-{hashlib.sha256(asked.read_bytes()).hexdigest()[:32]}"
    done = folder / "installed"
    if done.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"{kind}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            install(folder)
            done.touch()
    return folder


def _install_python(folder: Path) -> None:
    _run("venv", sys.executable, "-m", "venv", str(folder))
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run("pip", *pip, "--no-input", "--only-binary=:all:", "--require-hashes", "-r", str(REQUIREMENTS))


def _install_node(npm: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    shutil.copy(PACKAGE, folder)
    _run("npm", npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", cwd=folder)


def _run(name: str, *command: str, cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=SECONDS_TO_INSTALL, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(f"{name}: {error}") from None
    if done.returncode:
        raise NotInstalled(f"{name}: {(done.stderr or done.stdout).strip()[-400:]}")


class Client:
    """A client script that runs, and holds one conversation after the other."""

    def __init__(self, command: list[str], words: IO[bytes]):
        """`words` takes what the script says beside its answers."""
        self._words = words
        self._process = subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, env=_environment()
        )

    def __call__(self, api: str, conversation: str, url: str, model: str) -> dict[str, Any]:
        """What the SDK gave (`gave`), or how it failed (`raised`, `words`)."""
        assert self._process.stdin is not None
        job = {"api": api, "conversation": conversation, "url": url, "model": model}
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        said: dict[str, Any] = json.loads(self._line())
        return said

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], SECONDS_TO_ANSWER)
            piece = self._process.stdout.read(65_536) if ready else b""
            if not piece:
                self.close()
                self._words.seek(0)
                raise AssertionError(f"the client said nothing more: {self._words.read().decode()[-2000:]}")
            line += piece
        return line

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _environment() -> dict[str, str]:
    """That of the tests without what SDKs would read of it: keys, addresses, tracing, proxies."""
    words = ("OPENAI", "ANTHROPIC", "LANGCHAIN", "LANGSMITH", "PROXY", "PYTHON", "COVERAGE")
    return {name: value for name, value in os.environ.items() if not any(word in name.upper() for word in words)}


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "crossfade-sdks"
