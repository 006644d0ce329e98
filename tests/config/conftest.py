"""The fixture of the configuration's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.samples import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An empty folder to load configurations from."""
    return Folder(tmp_path)
