"""A provider that plays the model of a coding agent: in each turn the next step of a script, streamed in the dialect
that it is asked in.

One server is several providers: the first part of the path is the provider's name, and `faults` says what ails it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal, Self

from tests.agents.dialects import PATHS, STREAMS, Step, results_of, tools_of

Fault = Literal["cut in text", "cut in call", "500", "silent"]

ASIDE: Final = Step("A small task")
"""What a request gets that offers no tools: agents ask for titles and the like beside their work."""


@dataclass(frozen=True)
class Asked:
    """A request of an agent, as it came to a provider. `tools` are the names of what it offers, `results` what they
    said so far, in order."""

    provider: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    tools: tuple[str, ...]
    results: tuple[str, ...]


Script = Callable[[Asked], Step]


class ScriptedProvider:
    """Listens at once; leaving the `with` block ends it. `asked` are the requests for an answer, `others` the method
    and path of whatever else came, the `CONNECT` of an agent that has this for its proxy among them."""

    def __init__(self, script: Script):
        self.script = script
        self.faults: dict[str, Fault] = {}
        self.asked: list[Asked] = []
        self.others: list[str] = []
        self.ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.play = self  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def base_url(self, name: str) -> str:
        """What a gateway is configured with."""
        return f"{self.url}/{name}/v1"

    def of(self, name: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.provider == name]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the overridden one's name
        """Says nothing."""

    @property
    def play(self) -> ScriptedProvider:
        play: ScriptedProvider = self.server.play  # type: ignore[attr-defined]
        return play

    def do_GET(self) -> None:
        self.play.others.append(f"{self.command} {self.path}")
        self.close_connection = True
        self._whole(404, {"error": {"type": "not_found_error", "message": "There is no such thing here."}})

    do_CONNECT = do_GET  # noqa: N815 - the base class's names

    def do_POST(self) -> None:
        name, _, path = self.path[1:].partition("?")[0].partition("/")
        dialect = next((kind for ending, kind in PATHS.items() if path.endswith(ending)), None)
        if dialect is None:
            self.do_GET()
            return
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {key.lower(): value for key, value in self.headers.items()}
        asked = Asked(name, path, headers, body, tools_of(dialect, body), results_of(dialect, body))
        self.play.asked.append(asked)
        match self.play.faults.get(name):
            case "500":
                self._whole(500, {"error": {"type": "api_error", "message": "Out of order."}})
            case "silent":
                self.play.ended.wait(30)
                self.close_connection = True
            case fault:
                self._stream(dialect, asked, fault)

    def _whole(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _stream(self, dialect: str, asked: Asked, fault: Fault | None) -> None:
        step = self.play.script(asked) if asked.tools else ASIDE
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        cut_at = {None: "", "cut in text": "text", "cut in call": "call" if step.name else "text"}[fault]
        for place, event in STREAMS[dialect](step, str(asked.body.get("model", "")), len(asked.results)):
            if place and place == cut_at:
                self.close_connection = True  # without the chunk that ends a body
                return
            text = event if isinstance(event, str) else json.dumps(event)
            head = "" if isinstance(event, str) or "type" not in event else f"event: {event['type']}\n"
            self._chunk(f"{head}data: {text}\n\n".encode())
        self._chunk(b"")

    def _chunk(self, text: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
        self.wfile.flush()
