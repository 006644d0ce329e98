"""One provider simulator per module: cases tell their providers apart by name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from crossfade.simulator.thread import ProviderSimulator


@pytest.fixture(scope="module")
def simulator() -> Iterator[ProviderSimulator]:
    with ProviderSimulator() as made:
        yield made
