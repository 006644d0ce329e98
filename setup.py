"""Builds crossfade; with CROSSFADE_COMPILE=1 in the environment some of its modules are compiled by mypyc.

Which ones is said in pyproject.toml, as is everything else. The same sources run uncompiled: that is what an editable
installation does.
"""

import os
import tomllib
from pathlib import Path
from typing import Any

from setuptools import setup


def extensions() -> list[Any]:
    """The modules to compile; none unless that is asked for."""
    if os.environ.get("CROSSFADE_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    names = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["crossfade"]["compiled"]
    files = [str(Path("src/crossfade", f"{name}.py")) for name in names]
    compiled: list[Any] = mypycify(["--config-file=pyproject.toml", *files], opt_level="3", debug_level="0")
    return compiled


setup(ext_modules=extensions())
