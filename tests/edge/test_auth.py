"""Keys are found or not, unknown ones are counted per address, and a known one is let in whatever else comes along."""

from __future__ import annotations

import hashlib

import pytest

from crossfade.core.errors import Unauthenticated
from crossfade.edge import auth
from crossfade.edge.auth import FAILURE_WINDOW, MAX_FAILURES, Gate, Key, TooManyFailures

GOOD = {"authorization": "Bearer cf-good"}
STALE = {"authorization": "Bearer cf-stale"}


def gate() -> Gate:
    digest = hashlib.sha256(b"cf-good").hexdigest()
    return Gate([(f"sha256:{digest}", Key("web"))], wants_keys=True, is_loopback=False)


def tried(of: Gate, source: str = "10.0.0.1", now: float = 0.0, times: int = MAX_FAILURES) -> None:
    for _ in range(times):
        with pytest.raises(Unauthenticated):
            of.admit(STALE, source, now)


def test_a_known_key_is_let_in_from_an_address_of_many_unknown_ones() -> None:
    door = gate()
    tried(door)
    with pytest.raises(TooManyFailures):
        door.admit(STALE, "10.0.0.1", 1.0)
    assert door.admit(GOOD, "10.0.0.1", 1.0) == Key("web")
    assert door.admit({"x-api-key": "cf-good"}, "10.0.0.1", 1.0) == Key("web")


def test_unknown_keys_beyond_the_limit_are_429_until_the_window_is_over() -> None:
    door = gate()
    tried(door)
    for now in (0.0, FAILURE_WINDOW - 1):
        with pytest.raises(TooManyFailures) as refused:
            door.admit(STALE, "10.0.0.1", now)
        assert (refused.value.status, refused.value.code) == (429, "too_many_failed_keys")
    tried(door, now=FAILURE_WINDOW)


def test_other_addresses_are_not_counted_with_it() -> None:
    door = gate()
    tried(door)
    tried(door, "10.0.0.2", times=1)


def test_a_missing_key_is_no_guess() -> None:
    door = gate()
    for _ in range(MAX_FAILURES + 1):
        with pytest.raises(Unauthenticated, match="No gateway key"):
            door.admit({}, "10.0.0.1", 0.0)


def test_the_addresses_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "_MAX_SOURCES", 2)
    door = gate()
    for source in ("a", "b", "a", "c"):  # `b` was heard of longest ago
        tried(door, source, times=1)
    tried(door, "a", times=MAX_FAILURES - 2)
    with pytest.raises(TooManyFailures):
        door.admit(STALE, "a", 0.0)
    tried(door, "b")
