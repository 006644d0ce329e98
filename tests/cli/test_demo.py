"""`crossfade demo`: its acts are what they say, its judgement can be trusted; as a process it plays, stays and ends."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from crossfade.cli.demo import HEALTH, Overheard, write_config
from crossfade.cli.demo_client import Answer
from crossfade.cli.demo_screen import Result, Screen
from crossfade.cli.demo_story import (
    ACTS,
    TARGETS,
    Act,
    Story,
    fault_text,
    outage_problem,
    problem_of,
    words_for,
)
from crossfade.core.events import Event
from crossfade.gateway import Gateway
from crossfade.simulator.faults import parse_step
from crossfade.simulator.thread import ProviderSimulator
from crossfade.testing import chat_request, healthy_text
from tests.support import run

PRIMARY, SECOND, THIRD = TARGETS
FREE_PORTS = {"gateway": 0, "status": 0, "simulator": 0}


class Unkept:
    """A recorder that keeps nothing."""

    def record(self, event: Event, then: Callable[[], None] | None = None) -> None:
        if then is not None:
            then()

    def settle(self) -> None:
        """Nothing is kept."""

    def tell(self, event: Event) -> None:
        """Nobody listens."""


def play(folder: Path, *acts: Act) -> tuple[list[Result], str]:
    """The results of some acts on a stage of their own, and what was shown."""
    shown = io.StringIO()
    screen = Screen(Console(file=shown, width=60))

    async def main() -> list[Result]:
        with ProviderSimulator() as simulator:
            config = write_config(folder / "crossfade.yaml", FREE_PORTS, simulator.url)
            recorder = Overheard(Unkept(), screen.tell)
            async with await Gateway.open(config, {}, recorder, health=HEALTH) as gateway:
                story = Story(gateway, simulator, screen)
                recorder.listener = story.hear
                await story.play(acts)
                assert story.is_good == all(result.problem is None for result in story.results)
                return story.results

    results = run(main())
    screen.summary(results)
    return results, shown.getvalue()


def walks(results: list[Result]) -> list[tuple[str | None, int, int]]:
    """By whom each was answered, after how many fallbacks, with how many joins."""
    return [(one.row.served, one.row.fallbacks, one.row.joined) for one in results if one.row is not None]


# --- acts, as data -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.title)
def test_every_fault_is_one_that_the_simulator_has(act: Act) -> None:
    assert act.broken.keys() <= {target.partition("/")[0] for target in TARGETS}
    for fault in act.broken.values():
        assert parse_step(fault_text(fault, "streamed", 21)).kind == parse_step(fault).kind != "ok"


def test_the_story_has_what_it_promises() -> None:
    broken = {parse_step(act.broken["openai"]).kind for act in ACTS if "openai" in act.broken}
    assert broken >= {"500", "reset", "silence", "429", "empty", "malformed", "error_event", "cut"}
    assert [act.is_outage for act in ACTS] == [False] * (len(ACTS) - 1) + [True]


def test_faults_get_the_length_and_pace_that_they_have_room_for() -> None:
    assert fault_text("429; retry_after=1", "streamed", 21) == "429; retry_after=1"
    assert parse_step(fault_text("cut@0.7", "buffered", 21)).words == 21
    assert parse_step(fault_text("cut@0.7", "buffered", 21)).pace == 0
    assert parse_step(fault_text("cut@0.7", "streamed", 21)).pace > 0


@pytest.mark.parametrize("number", range(1, 60))
def test_answers_end_with_a_sentence(number: int) -> None:
    prompt = f"Request {number} of the demo"
    assert healthy_text(prompt, words_for(prompt)).endswith(".")


# --- the judgement -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(status=502, error="All 3 targets failed"), "the caller saw a failure: 502 All 3 targets failed"),
        (Answer(status=0, error="TimeoutError: timed out"), "the caller saw a failure: 0 TimeoutError: timed out"),
        (Answer(status=200, text="All", is_whole=True, error="broke off"), "the caller saw a failure: 200 broke off"),
        (Answer(status=200, text="All"), "the answer did not end as it should"),
        (Answer(status=200, text="Al", is_whole=True), "the text is wrong: 'Al' instead of 'All'"),
        (Answer(status=200, text="All", is_whole=True), None),
    ],
)
def test_a_caller_complains_of_anything_but_the_right_answer(answer: Answer, said: str | None) -> None:
    assert problem_of(answer, "All") == said


def test_an_outage_is_right_only_with_an_honest_error() -> None:
    assert outage_problem(Answer(status=503, error=f"failed: {', '.join(TARGETS)}")) is None
    assert "does not name google" in str(outage_problem(Answer(status=503, error=f"failed: {PRIMARY}, {SECOND}")))
    assert "no honest answer" in str(outage_problem(Answer(status=200, text="Hello")))


# --- played --------------------------------------------------------------------------------------------------


def test_acts_are_played_shown_and_summed_up(tmp_path: Path) -> None:
    results, shown = play(
        tmp_path,
        Act(title="Well", mends=False),
        Act(title="An error", broken={"openai": "500"}),
        Act(title="Two cuts", broken={"openai": "cut@0.5", "anthropic": "cut@0.7"}, asks=("streamed",)),
        Act(
            title="Nobody", broken=dict.fromkeys(["openai", "anthropic", "google"], "503"), mends=False, is_outage=True
        ),
    )
    assert [result.problem for result in results] == [None] * 8
    mended = [(PRIMARY, 0, 0)] * 2
    assert walks(results) == [(PRIMARY, 0, 0), (SECOND, 1, 0), *mended, (THIRD, 2, 2), *mended, (None, 2, 0)]
    lines = shown.splitlines()
    assert "\x1b" not in shown
    assert f"event       fallback {PRIMARY} > {SECOND}: server_error after" in shown
    [told] = [line for line in lines if line.startswith("streamed")]
    first, second, third = (part.strip() for part in told.removeprefix("streamed").split(">>>")[::2])
    assert f"{first} {second} {third}" == results[4].answer.text
    assert f">>> {SECOND} >>>" in told and f">>> {THIRD} >>>" in told
    assert any(line.startswith("buffered    503 All 3 targets of route 'chat' failed") for line in lines)
    assert "requests    8; 7 answered" in shown and "caller-visible failures: 0" in shown


def test_a_wrong_text_is_found_and_counted(tmp_path: Path) -> None:
    results, shown = play(tmp_path, Act(title="A lie", broken={"openai": "ok; text=Something else."}, mends=False))
    assert "the text is wrong: 'Something else.'" in str(results[0].problem)
    assert "buffered    WRONG: the text is wrong" in shown and "caller-visible failures: 1" in shown


def test_a_failure_that_a_caller_sees_is_found_and_counted(tmp_path: Path) -> None:
    everywhere = dict.fromkeys(["openai", "anthropic", "google"], "503")
    results, shown = play(tmp_path, Act(title="No luck", broken=everywhere, mends=False))
    assert "the caller saw a failure: 503" in str(results[0].problem)
    assert "caller-visible failures: 1" in shown


def test_an_open_breaker_is_passed_over_and_tried_when_due(tmp_path: Path) -> None:
    silent = {"openai": "silence"}
    results, shown = play(
        tmp_path,
        Act(title="Silence", broken=silent, asks=("buffered", "buffered"), mends=False),
        Act(title="Passed over", broken=silent, mends=False),
        Act(title="Back", asks=("buffered", "buffered"), waits=True, mends=False),
    )
    assert walks(results) == [(SECOND, 1, 0)] * 3 + [(PRIMARY, 0, 0)] * 2
    passed = results[2].row
    assert passed is not None and [attempt.skip for attempt in passed.attempts] == ["breaker open", None]
    assert f"breaker of {PRIMARY}: closed > open for" in shown
    assert f"breaker of {PRIMARY}: half_open > closed" in shown
    assert shown.count("a trial of its breaker") == 2


# --- as a process --------------------------------------------------------------------------------------------

_RUN = """
import crossfade.cli.demo as demo, crossfade.cli.demo_story as story
demo.PORTS = dict.fromkeys(demo.PORTS, 0)
story.PACE = 0.005
{more}
demo.demo()
"""


LIMIT = 90.0
"""Seconds after which a process that hangs is ended, so that its test fails."""


@contextmanager
def demo_process(*options: str, more: str = "") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _RUN.format(more=more), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        watch = threading.Timer(LIMIT, process.kill)
        watch.start()
        try:
            yield process
        finally:
            watch.cancel()
            process.kill()


def until(process: subprocess.Popen[str], words: str) -> str:
    """What the process says up to a line with `words`."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(f"{words!r} was never said, but:\n{said}")


def post(url: str, body: object) -> str:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        text: str = response.read().decode()
    return text


def after(said: str, label: str) -> str:
    """The first word behind a label of the hints."""
    [line] = [line for line in said.splitlines() if line.strip().startswith(label)]
    return line.partition(label)[2].split()[0]


def test_the_whole_story_and_what_can_be_played_with_after_it() -> None:
    with demo_process() as process:
        said = until(process, "What happens is shown here")
        assert "caller-visible failures: 0" in said and "WRONG" not in said and "\x1b" not in said
        gateway, control = after(said, "the gateway"), after(said, "control of faults")
        journal = Path(after(said, "the journal"))
        assert list(journal.iterdir())
        post(control, {"provider": "openai", "then": "cut@middle; pace=0.01"})
        answer = post(f"{gateway}/chat/completions", chat_request("Hello there", "chat", stream=True))
        assert "data: [DONE]" in answer and f"continued by {SECOND}" in answer
        assert f"answered by {SECOND}" in until(process, "joined in mid-stream")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert not journal.exists()


def test_once_ends_after_the_story_and_keeps_the_folder_that_was_named(tmp_path: Path) -> None:
    with demo_process("--once", "--state-dir", str(tmp_path / "kept"), more="demo.ACTS = demo.ACTS[:1]") as process:
        said, _ = process.communicate()
    assert process.returncode == 0 and "requests    2; 2 answered" in said
    assert (tmp_path / "kept" / "crossfade.yaml").exists() and list((tmp_path / "kept" / "journal").iterdir())


def test_once_says_by_its_exit_code_that_a_caller_saw_a_failure() -> None:
    lie = "demo.ACTS = (story.Act(title='A lie', broken={'openai': 'ok; text=No.'}, mends=False),)"
    with demo_process("--once", more=lie) as process:
        said, _ = process.communicate()
    assert process.returncode == 1 and "caller-visible failures: 1" in said


def test_a_story_that_is_interrupted_ends_cleanly() -> None:
    slow = "demo.ACTS = (story.Act(title='Silence', broken={'openai': 'silence'}),)"
    with demo_process(more=slow) as process:
        until(process, "broken: openai = silence")
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate()
    assert process.returncode == 130 and "Traceback" not in rest


def test_a_taken_port_is_said_and_another_one_used() -> None:
    with ProviderSimulator() as other:
        more = f"demo.PORTS['simulator'] = {other.port}; demo.ACTS = demo.ACTS[:1]"
        with demo_process("--once", more=more) as process:
            said, _ = process.communicate()
    assert process.returncode == 0
    assert f"port {other.port} is taken: the simulator listens on any free port instead" in said
