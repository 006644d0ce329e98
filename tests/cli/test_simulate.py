"""`crossfade simulate` as a process: it says where it listens, plays, and stops when told."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from crossfade.cli.simulate import simulate
from crossfade.simulator.faults import FAULTS
from crossfade.testing import chat_request, healthy_text

RUN = [sys.executable, "-c", "from crossfade.cli.simulate import simulate; simulate()"]


@contextmanager
def simulating(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen([*RUN, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("crossfade simulate: ready on http://127.0.0.1:"), line
            yield process, line.split()[-1]
        finally:
            process.kill()


def post(url: str, body: object) -> bytes:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        data: bytes = response.read()
    return data


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_plays_and_stops_when_told(number: signal.Signals) -> None:
    with simulating() as (process, url):
        answer = json.loads(post(f"{url}/v1/chat/completions", chat_request("Hi")))
        assert answer["choices"][0]["message"]["content"] == healthy_text("Hi")
        process.send_signal(number)
        assert process.wait(timeout=10) == 0


def test_its_fault_and_name_are_those_given() -> None:
    with simulating("--fault", "401", "--name", "acme") as (_, url):
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(f"{url}/v1/chat/completions", chat_request())
        with caught.value as error:
            assert error.code == 401
        with urllib.request.urlopen(f"{url}/_control/counts", timeout=10) as response:
            assert json.load(response)["providers"]["acme"]["outcomes"] == {"401": 1}
        post(f"{url}/_control/schedule", {"then": "ok"})
        assert post(f"{url}/v1/chat/completions", chat_request())


def test_a_port_in_use_is_said_in_a_sentence() -> None:
    with simulating() as (_, url):
        again = subprocess.run(
            [*RUN, "--listen", url.removeprefix("http://")], check=False, capture_output=True, text=True, timeout=20
        )
    assert again.returncode == 1 and "cannot listen on 127.0.0.1:" in again.stderr
    assert "Traceback" not in again.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--listen", "here"], "is not HOST:PORT"),
        (["--listen", "x:99999"], "HOST:PORT"),
        (["--fault", "cat"], "known are"),
    ],
)
def test_bad_options_are_refused(options: list[str], words: str) -> None:
    result = CliRunner().invoke(simulate, options)
    assert result.exit_code == 2 and words in result.output


def test_all_faults_are_listed() -> None:
    result = CliRunner().invoke(simulate, ["--list-faults"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == list(FAULTS)
