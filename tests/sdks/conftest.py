"""The client scripts, running: each is started once, and what cannot be installed is skipped by name."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from crossfade.simulator.thread import ProviderSimulator
from tests.sdks.installed import CLIENTS, Client, NotInstalled, cache_folder, node_of, python_of


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Client]]:
    """Gives the running client of an SDK's name."""
    running: dict[str, Client] = {}
    commands: dict[str, list[str] | NotInstalled] = {}
    scripts = tmp_path_factory.mktemp("sdks")

    def command(kind: str) -> list[str]:
        if kind not in commands:
            try:
                cache = cache_folder()
                commands[kind] = python_of(cache) if kind == ".py" else node_of(cache, scripts)
            except NotInstalled as error:
                commands[kind] = error
        found = commands[kind]
        if isinstance(found, NotInstalled):
            pytest.skip(f"the SDKs cannot be installed here: {found}")
        return found

    with ExitStack() as stack:

        def started(name: str) -> Client:
            if name not in running:
                (script,) = CLIENTS.glob(f"{name}_client.*")
                place = script if script.suffix == ".py" else Path(scripts, script.name)
                arguments = [*command(script.suffix), str(place)]
                words = stack.enter_context(tempfile.TemporaryFile())
                running[name] = stack.enter_context(closing(Client(arguments, words)))
            return running[name]

        yield started


@pytest.fixture(scope="module")
def simulator() -> Iterator[ProviderSimulator]:
    with ProviderSimulator() as made:
        yield made
