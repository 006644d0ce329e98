"""What tests of crossfade, and of applications that use it, are written with.

`provider_simulator` is a pytest fixture: put `from crossfade.testing import provider_simulator` into a `conftest.py`.
The rest needs no pytest but for this module's import of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from crossfade.simulator.answers import healthy_text
from crossfade.simulator.faults import FAULTS
from crossfade.simulator.thread import ProviderSimulator

__all__ = [
    "FAULTS",
    "ProviderSimulator",
    "SimulatedClock",
    "chat_request",
    "gemini_request",
    "healthy_text",
    "messages_request",
    "provider_simulator",
]


@pytest.fixture
def provider_simulator() -> Iterator[ProviderSimulator]:
    """A provider simulator on a free port of 127.0.0.1, healthy until it is told otherwise."""
    with ProviderSimulator() as simulator:
        yield simulator


class SimulatedClock:
    """A clock that stands still until it is moved. Starts at `now` seconds."""

    def __init__(self, now: float = 1000.0):
        self._now = now

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> float:
        """Moves the clock on and returns the new time."""
        self._now += seconds
        return self._now


def chat_request(prompt: str = "Hello there", model: str = "simulator", **fields: Any) -> dict[str, Any]:
    """The body of an OpenAI chat request with one user turn; `fields` are added or replace."""
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **fields}


def messages_request(prompt: str = "Hello there", model: str = "simulator", **fields: Any) -> dict[str, Any]:
    """The body of an Anthropic messages request with one user turn; `fields` are added or replace."""
    return {"model": model, "max_tokens": 1000, "messages": [{"role": "user", "content": prompt}], **fields}


def gemini_request(prompt: str = "Hello there", **fields: Any) -> dict[str, Any]:
    """The body of a Gemini generateContent request with one user turn; `fields` are added or replace."""
    return {"contents": [{"role": "user", "parts": [{"text": prompt}]}], **fields}
