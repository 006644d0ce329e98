"""The modules that are compiled: what they may not hold, and that a run on the compiled build is one."""

from __future__ import annotations

import ast
import importlib
import os
import tomllib
from pathlib import Path

import pytest

from tests.compiled import IS_COMPILED

ROOT = Path(__file__).resolve().parents[1]
COMPILED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["crossfade"]["compiled"]


@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_module_defines_no_records(name: str) -> None:
    tree = ast.parse((ROOT / "src" / "crossfade" / f"{name}.py").read_text())
    bases = {ast.unparse(base) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases}
    assert not {base for base in bases if "Struct" in base}, "mypyc keeps neither its options nor its types"


@pytest.mark.parametrize("name", COMPILED)
def test_a_run_is_on_the_build_that_it_is_meant_for(name: str) -> None:
    module = importlib.import_module("crossfade." + name.replace("/", "."))
    assert (os.environ.get("CROSSFADE_BUILD") == "compiled") == IS_COMPILED
    assert str(module.__file__).endswith(".so" if IS_COMPILED else ".py")
