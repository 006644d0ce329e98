"""Builds crossfade; with CROSSFADE_COMPILE=1 in the environment the modules that every request passes through are
compiled by mypyc. Everything else about the project is in pyproject.toml.

What may be compiled: no records that are decoded (mypyc does not keep the annotations that say into what), and no code
that tests stand in for. The same sources run uncompiled, which is what an editable installation does.
"""

import os
from pathlib import Path

from setuptools import setup

COMPILED = """
core/assembly core/breaker core/budget core/dispatch core/ejection core/health core/join core/limits core/planner
core/stream core/validation core/walk
edge/app edge/intake edge/openai_chat
engine/engine engine/headers engine/record engine/relay engine/runner engine/targets
http1/client http1/head http1/outbox http1/received http1/request http1/server
providers/base providers/openai providers/secrecy
store/journal
telemetry/hub
transport/base transport/http transport/pool
wire/openai_bodies wire/openai_request wire/openai_response wire/openai_stream wire/openai_usage wire/sse
"""


def extensions() -> list:
    """The compiled modules; none unless they are asked for."""
    if os.environ.get("CROSSFADE_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    files = [str(Path("src/crossfade", f"{name}.py")) for name in COMPILED.split()]
    return mypycify(["--config-file=pyproject.toml", *files], opt_level="3", debug_level="0")


setup(ext_modules=extensions())
