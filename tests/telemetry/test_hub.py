"""Who hears of an event, in which order, and that nobody's fault reaches the engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from crossfade.core.events import Event, RequestEnded, StreamCommitted
from crossfade.engine.ports import Recorder
from crossfade.telemetry.hub import Hub
from crossfade.telemetry.logs import Logs
from tests.store.samples import commit, exhausted, fallback, others, request


class Notebook:
    """A journal and a sink in a list."""

    def __init__(self, heard: list[str], name: str = "journal", fault: Exception | None = None) -> None:
        self.heard = heard
        self.name = name
        self.fault = fault
        self.events: list[Event] = []

    def append(self, event: Event, then: Callable[[], None] | None = None, *, may_wait: bool = False) -> None:
        assert may_wait is (not isinstance(event, RequestEnded | StreamCommitted))  # no answer speaks of the others
        self.on_event(event)
        if then is not None:
            then()

    def on_event(self, event: Event) -> None:
        self.heard.append(self.name)
        self.events.append(event)
        if self.fault is not None:
            raise self.fault

    def close(self) -> None:
        self.heard.append(f"{self.name} closed")


class Spoken:
    """Logs in a list."""

    def __init__(self, heard: list[str], level: str = "info") -> None:
        self.lines: list[str] = []
        self.logs = Logs("console", "debug" if level == "debug" else "info", write=self.write, has_colours=False)
        self.heard = heard

    def write(self, line: bytes) -> None:
        self.heard.append("log")
        self.lines.append(line.decode())


def test_the_journal_comes_first_then_the_log_then_the_others() -> None:
    heard: list[str] = []
    metrics = Notebook(heard, "metrics")
    hub: Recorder = Hub(Notebook(heard), Spoken(heard).logs, metrics, Notebook(heard, "alerts"))
    hub.record(exhausted(), lambda: heard.append("answer"))
    assert heard == ["journal", "answer", "log", "metrics", "alerts"]
    assert metrics.events == [exhausted()]


@pytest.mark.parametrize("event", [fallback(), *others()], ids=lambda event: type(event).__name__)
def test_what_is_told_is_kept_in_the_journal_and_logged(event: Event) -> None:
    heard: list[str] = []
    journal = Notebook(heard)
    Hub(journal, Spoken(heard).logs).tell(event)
    assert journal.events == [event]
    assert heard == ["journal", "log"]


def test_a_clean_request_does_not_reach_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Logs, event: Event) -> None:
        raise AssertionError("the log was bothered")

    heard: list[str] = []
    spoken = Spoken(heard)
    hub = Hub(Notebook(heard), spoken.logs)
    monkeypatch.setattr(Logs, "on_event", refuse)
    hub.record(request())
    hub.record(commit())
    assert heard == ["journal", "journal"]


def test_with_debug_every_request_is_logged() -> None:
    spoken = Spoken([], "debug")
    Hub(Notebook([]), spoken.logs).record(request())
    assert "DEBUG request route=chat" in spoken.lines[0]


def test_a_sink_that_raises_is_logged_and_the_others_hear_of_the_event() -> None:
    heard: list[str] = []
    spoken = Spoken(heard)
    last = Notebook(heard, "last")
    hub = Hub(Notebook(heard), spoken.logs, Notebook(heard, "bad", ValueError("sk-0123456789")), last)
    hub.record(request())
    assert last.events == [request()]
    assert "ERROR Notebook cannot take an event" in spoken.lines[0]
    assert "ValueError: sk-***" in spoken.lines[0]


def test_a_log_that_raises_breaks_nobody() -> None:
    def broken(line: bytes) -> None:
        raise ValueError("no paper")

    heard: list[str] = []
    last = Notebook(heard, "last")
    hub = Hub(Notebook(heard), Logs(write=broken), last)
    hub.tell(fallback())
    assert last.events == [fallback()]


def test_a_journal_that_raises_lets_the_answer_go() -> None:
    heard: list[str] = []
    spoken = Spoken(heard)
    Hub(Notebook(heard, fault=ValueError("odd")), spoken.logs).record(request(), lambda: heard.append("answer"))
    assert heard == ["journal", "log", "answer"]


def test_close_closes_the_journal() -> None:
    heard: list[str] = []
    Hub(Notebook(heard), Spoken(heard).logs).close()
    assert heard == ["journal closed"]
