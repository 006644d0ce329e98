"""Rules of the repository itself: what is locked, what may not be in a tracked file, what every module has."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
MODULES = sorted((ROOT / "src" / "crossfade").rglob("*.py"))
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)(.*)$", re.MULTILINE)

DATA_PLANE_LIMIT = 18
COMMON_PARENTS = {Path("/"), Path("/tmp"), Path("/var/tmp"), Path("/opt"), Path("/srv"), Path("/src"), Path("/usr/src")}


def pins(lock: Path) -> dict[str, str]:
    return {name.lower().replace("_", "-"): version for name, version, _ in PINNED.findall(lock.read_text())}


def our_files() -> list[Path]:
    """What is or could be tracked; without git, all but hidden folders and build products."""
    if shutil.which("git") and (ROOT / ".git").exists():
        command = f"git -c safe.directory={shlex.quote(str(ROOT))} ls-files --cached --others --exclude-standard -z"
        listed = subprocess.run(shlex.split(command), cwd=ROOT, capture_output=True, check=True, text=True).stdout
        return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]
    folders = ("src", "tests", "docs", "bench", "scripts", "requirements", ".ci")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    return [p for p in (*found, *ROOT.glob("*")) if p.is_file() and "__pycache__" not in p.parts]


def text_of(path: Path) -> str:
    data = path.read_bytes()
    return "" if b"\0" in data[:8192] else data.decode("utf-8", "replace")


def test_data_plane_has_few_distributions() -> None:
    assert 0 < len(pins(ROOT / "requirements" / "run.txt")) <= DATA_PLANE_LIMIT


def test_locks_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [re.split(r"[<>=!~ ]", one)[0].lower() for one in project["dependencies"]]
    development = [re.split(r"[<>=!~ ]", one)[0].lower() for one in project["optional-dependencies"]["dev"]]
    run, dev = pins(ROOT / "requirements" / "run.txt"), pins(ROOT / "requirements" / "dev.txt")
    assert set(asked) <= run.keys()
    assert {*asked, *development} <= dev.keys()
    assert run.items() <= dev.items(), "run.txt and dev.txt disagree about a version"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda p: p.name)
def test_every_locked_distribution_has_a_hash_and_no_address(lock: Path) -> None:
    text = lock.read_text()
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pins(lock)) > 0
    assert [block.split("=")[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert re.findall(r"https?://|--(?:extra-)?index-url|--find-links|--trusted-host", text) == []


def test_no_file_names_a_registry_or_a_place_on_a_machine() -> None:
    hosts = ["py" + "pi.org", "python" + "hosted.org", "registry." + "npmjs", "/opt/" + "wheels"]
    homes = r"(?<![\w.~-])/(?:home|root|Users)/[\w.-]+"
    parent = ROOT.parent
    here = rf"|(?<![\w.~-]){re.escape(str(parent))}/" if parent not in COMMON_PARENTS else ""
    forbidden = re.compile("|".join(map(re.escape, hosts)) + "|" + homes + here)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in our_files()
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if (match := forbidden.search(line))
    ]
    assert found == []


def test_every_module_says_what_it_is() -> None:
    assert MODULES
    silent = [str(path.relative_to(ROOT)) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_core_needs_only_the_standard_library_msgspec_and_jsonschema() -> None:
    allowed = {*sys.stdlib_module_names, "msgspec", "jsonschema_rs", "crossfade"}
    found = []
    for path in (ROOT / "src" / "crossfade" / "core").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.name}: {name}" for name in names if name.split(".")[0] not in allowed]
    assert found == []


def test_scripts_can_be_run() -> None:
    scripts = [*(ROOT / "scripts").glob("*"), ROOT / ".ci" / "run"]
    assert [str(p.relative_to(ROOT)) for p in scripts if p.is_file() and not p.stat().st_mode & 0o100] == []
