"""Where the recorded provider exchanges lie, if they are here; tests that read them skip by name where not."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import pytest

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "recordings"
_PLACE = Path(os.environ.get("CROSSFADE_RECORDINGS", _BESIDE))

RECORDINGS: Path | None = _PLACE if (_PLACE / "index.tsv").is_file() else None

needs_recordings = pytest.mark.skipif(RECORDINGS is None, reason="the recorded provider exchanges are not here")


def names(provider: str, api: str) -> list[str]:
    """The recordings of one API of one provider, as `provider/file.json`; empty where there are none."""
    if RECORDINGS is None:
        return []
    return sorted(f"{provider}/{path.name}" for path in (RECORDINGS / provider).glob(f"{api}-*.json"))


@functools.lru_cache(maxsize=64)
def load(name: str) -> dict[str, Any]:
    """One recording, whole."""
    assert RECORDINGS is not None
    recording: dict[str, Any] = json.loads((RECORDINGS / name).read_text())
    return recording


def streams(*apis: str) -> list[str]:
    """The streams that were recorded of these APIs, of any provider."""
    if RECORDINGS is None:
        return []
    rows = [line.split("\t") for line in (RECORDINGS / "index.tsv").read_text().splitlines()]
    return [row[0] for row in rows if row[2] in apis and row[4] == "stream" and row[5] == "200"]
