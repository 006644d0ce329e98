"""`crossfade serve` under attack, as a process of its own: what no caller and no provider may bring it to."""

from __future__ import annotations

import contextlib
import http.client
import json
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crossfade.testing import ProviderSimulator
from tests.cli.test_serve import Served

KEY = "zk9+Plain/Key=of-no-known-shape"
MESSAGES = [{"role": "user", "content": "Hello there"}]


class Echo:
    """A provider on a socket that answers every call with what `error` makes of the key it was sent."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connected, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connected,), daemon=True).start()

    def _answer(self, connected: socket.socket) -> None:
        with connected, connected.makefile("rb") as lines:
            key, status, length = "", 500, 0
            while (line := lines.readline().decode("latin-1").strip()) != "":
                name, _, value = line.partition(":")
                if name.lower() == "authorization":
                    key = value.split()[-1]
                length = int(value) if name.lower() == "content-length" else length
            body = json.loads(lines.read(length))
            status = int(body["model"])
            message = f"the token {key} is no good, nor is ?key={key}"
            said = json.dumps({"error": {"message": message, "code": key, "type": key, "param": key}}).encode()
            head = f"HTTP/1.1 {status} X\r\nx-request-id: {key}\r\nconnection: close\r\n"
            connected.sendall(f"{head}content-length: {len(said)}\r\n\r\n".encode() + said)


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, echo: Echo) -> Iterator[tuple[Served, int, Path]]:
    """A gateway that was started with few open files, before a sound provider and one that gives keys away."""
    folder = tmp_path_factory.mktemp("attack")
    with ProviderSimulator() as simulator:
        file = folder / "crossfade.yaml"
        file.write_text(
            "server: {listen: '127.0.0.1:0', admin: '127.0.0.1:0'}\n"
            "providers:\n"
            f"  good: {{dialect: openai, base_url: '{simulator.base_url('openai', 'good')}'}}\n"
            f"  echo: {{dialect: openai, base_url: '{echo.url}', api_keys: ['env:ECHO_KEY']}}\n"
            "routes: {chat: {chain: [good/model]}}\n"
        )
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, limits[1]), limits[1]))
        try:
            gateway = Served(folder, "-c", str(file), environ={"ECHO_KEY": KEY})
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        try:
            yield gateway, gateway.ready()[1], folder
        finally:
            gateway.close()


def ask(port: int, model: str, **fields: Any) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    body = json.dumps({"model": model, "messages": MESSAGES, **fields})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    with contextlib.closing(connection):
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, answer.read().decode()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("\u6a21\u578b", "%E6%A8%A1%E5%9E%8B"),
        ("na\u00efve", "na%C3%AFve"),
        ("a\r\nset-cookie: b=c", "a%0D%0Aset-cookie: b=c"),
        ("\x1b[31mred", "%1B[31mred"),
    ],
)
def test_a_model_of_any_name_is_answered_and_named_in_the_headers(
    served: tuple[Served, int, Path], model: str, shown: str, stream: bool
) -> None:
    status, headers, body = ask(served[1], f"good/{model}", stream=stream)
    assert (status, headers["x-crossfade-model"]) == (200, shown)
    assert "set-cookie" not in headers
    assert "[DONE]" in body if stream else json.loads(body)["choices"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 404, 422, 429, 500, 401])
def test_a_provider_that_repeats_our_key_gives_it_to_nobody(
    served: tuple[Served, int, Path], status: int, stream: bool
) -> None:
    gateway, port, folder = served
    got, headers, body = ask(port, f"echo/{status}", stream=stream, crossfade={"trace": True})
    assert got >= 400
    written = "".join(path.read_text() for path in folder.rglob("*.jsonl"))
    assert f'"echo/{status}"' in written, "the walk is on record"
    for text in (body, repr(headers), written, "".join(gateway.errors)):
        assert KEY not in text


def test_idle_connections_keep_nobody_from_the_providers(served: tuple[Served, int, Path]) -> None:
    """More of them than the process was given files for at its start."""
    _, port, _ = served
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        assert ask(port, "chat")[0] == 200


@pytest.mark.parametrize(
    "member",
    ['"stop":[' + "[]," * 600_000 + "[]]", '"zz":1,"zz":[' + "{}," * 600_000 + "{}]", '"x":' + "[" * 200_000],
    ids=["lists", "repeated", "depth"],
)
def test_bodies_made_to_be_slow_are_refused(served: tuple[Served, int, Path], member: str) -> None:
    body = '{"model":"chat","messages":[{"role":"user","content":"hi"}],' + member + "}"
    connection = http.client.HTTPConnection("127.0.0.1", served[1], timeout=20)
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    with contextlib.closing(connection):
        assert connection.getresponse().status == 400
