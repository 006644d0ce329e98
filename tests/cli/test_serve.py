"""`crossfade serve` as a process of its own: start, first answer, reload, drain, and what it says when it cannot."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crossfade.testing import ProviderSimulator

CONFIG = """\
server:
  listen: 127.0.0.1:{port}
  admin: 127.0.0.1:0
providers:
  one: {{dialect: openai, base_url: "{one}"}}
  two: {{dialect: openai, base_url: "{two}"}}
routes:
  chat: {{chain: [one/model, two/model], first_content_timeout: 2s, attempt_timeout: 2s, retry: {{delay: 0}}}}
"""


class Served:
    """A running `crossfade serve`."""

    def __init__(self, folder: Path, *arguments: str, environ: dict[str, str] | None = None):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "crossfade", "serve", *arguments],
            cwd=folder,
            env={**os.environ, "XDG_STATE_HOME": str(folder / "state"), **(environ or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.errors: list[str] = []
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(iter(self.process.stderr.readline, ""))

    def ready(self) -> tuple[str, int]:
        """The lines up to the one that says it is ready, and the port."""
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            if found := re.search(r"ready on http://127\.0\.0\.1:(\d+)/v1", line):
                return said, int(found[1])
        raise AssertionError(f"not ready: {said}{''.join(self.errors)}")

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + 20
        while words not in "".join(self.errors):
            assert time.monotonic() < deadline, f"never said {words!r}: {self.errors}"
            time.sleep(0.02)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        self._reader.join(20)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


def ask(port: int, model: str = "chat", **headers: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello there"}]})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json", **headers})
    with contextlib.closing(connection):
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(answer.read())


@pytest.fixture
def simulator() -> Iterator[ProviderSimulator]:
    with ProviderSimulator() as simulator:
        yield simulator


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts gateways in `tmp_path` that end with the test."""
    started: list[Served] = []

    def start(*arguments: str, environ: dict[str, str] | None = None) -> Served:
        started.append(Served(tmp_path, *arguments, environ=environ))
        return started[-1]

    yield start
    for served in started:
        served.close()


def written(folder: Path, simulator: ProviderSimulator, port: int = 0) -> Path:
    file = folder / "crossfade.yaml"
    one, two = (simulator.base_url("openai", name) for name in ("one", "two"))
    file.write_text(CONFIG.format(port=port, one=one, two=two))
    return file


def test_it_answers_falls_back_and_keeps_a_journal(tmp_path: Path, simulator: ProviderSimulator, serve: Serve) -> None:
    written(tmp_path, simulator)
    simulator.schedule("500", provider="one")
    served = serve()
    _, port = served.ready()
    status, headers, body = ask(port)
    assert status == 200
    assert body["choices"][0]["message"]["content"] == simulator.healthy_text("Hello there")
    assert headers["x-crossfade-provider"] == "two"
    assert headers["x-crossfade-fallback-reason"] == "server_error"
    served.wait_for("fallback route=chat from=one/model to=two/model reason=server_error")
    assert served.stop() == 0
    files = (tmp_path / "state").rglob("*.jsonl")
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    requests = [row for row in rows if row["event"] == "request"]
    assert [row["served"] for row in requests] == ["two/model"]


def test_a_port_in_use_is_named_with_its_line(tmp_path: Path, simulator: ProviderSimulator, serve: Serve) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        file = written(tmp_path, simulator, taken.getsockname()[1])
        served = serve()
        assert served.process.wait(20) == 2
    served.wait_for("server.listen")
    said = "".join(served.errors)
    assert f"{file.name}:2: server.listen: cannot listen on 127.0.0.1:" in said
    assert "Traceback" not in said


def test_a_port_in_use_that_an_option_named_is_the_options_mistake(
    tmp_path: Path, simulator: ProviderSimulator, serve: Serve
) -> None:
    written(tmp_path, simulator)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        served = serve("--listen", f"127.0.0.1:{taken.getsockname()[1]}")
        assert served.process.wait(20) == 2
    served.wait_for("--listen: cannot listen on 127.0.0.1:")
    assert "crossfade.yaml" not in "".join(served.errors)


def test_a_reload_serves_new_requests_and_a_bad_one_changes_nothing(
    tmp_path: Path, simulator: ProviderSimulator, serve: Serve
) -> None:
    file = written(tmp_path, simulator)
    served = serve()
    _, port = served.ready()
    good = file.read_text()
    file.write_text(good.replace("[one/model, two/model]", "[two/model]"))
    served.process.send_signal(signal.SIGHUP)
    served.wait_for("reloaded")
    assert ask(port)[1]["x-crossfade-provider"] == "two"
    file.write_text(good.replace("[one/model, two/model]", "[nobody/model]"))
    served.process.send_signal(signal.SIGHUP)
    served.wait_for("not reloaded")
    assert "crossfade.yaml:8: routes.chat.chain[0]" in "".join(served.errors)
    assert ask(port)[1]["x-crossfade-provider"] == "two"
    file.write_text(good.replace("admin: 127.0.0.1:0", "admin: 127.0.0.1:9"))
    served.process.send_signal(signal.SIGHUP)
    served.wait_for("only read at a restart: server")
    assert ask(port)[1]["x-crossfade-provider"] == "one"
    file.unlink()
    served.process.send_signal(signal.SIGHUP)
    served.wait_for("not reloaded")
    assert ask(port)[1]["x-crossfade-provider"] == "one"
    assert served.stop() == 0


def test_a_stop_lets_requests_under_way_end(tmp_path: Path, simulator: ProviderSimulator, serve: Serve) -> None:
    written(tmp_path, simulator)
    simulator.schedule("ok; delay=1", provider="one")
    served = serve()
    _, port = served.ready()
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(ask(port)[0]))
    asking.start()
    deadline = time.monotonic() + 20
    while not simulator.counts("one")["calls"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert served.stop() == 0
    asking.join(20)
    assert answers == [200]


def test_a_public_listener_without_keys_makes_one_and_keeps_its_hash(
    tmp_path: Path, simulator: ProviderSimulator, serve: Serve
) -> None:
    file = written(tmp_path, simulator)
    file.write_text(file.read_text().replace("listen: 127.0.0.1:0", "listen: 0.0.0.0:0"))
    served = serve()
    said, port = served.ready()
    key = re.search(r"cf-[\w-]{43}", said)
    assert key is not None
    assert ask(port)[0] == 401
    assert ask(port, authorization=f"Bearer {key[0]}")[0] == 200
    assert served.stop() == 0
    kept = "".join(path.read_text() for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert key[0] not in kept
    again = serve()
    said, port = again.ready()
    assert key[0] not in said
    assert ask(port, authorization=f"Bearer {key[0]}")[0] == 200
    assert again.stop() == 0


def test_keys_in_the_environment_alone_make_a_gateway(serve: Serve) -> None:
    served = serve("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", environ={"OPENAI_API_KEY": "sk-test"})
    _, port = served.ready()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/readyz")
        assert connection.getresponse().status == 200
    served.wait_for("no chain")
    assert served.stop() == 0
