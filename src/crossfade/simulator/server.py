"""The simulator itself: accepts connections, finds provider and dialect by the path, performs what is scheduled.

One simulator plays any number of providers: `/p/NAME/v1/...` is the provider NAME with a schedule and counts of its
own, paths without it are the provider the simulator is named for. Control is under `/_control/`.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec

from crossfade.simulator import bedrock, cohere, gemini, ollama, playbook, script
from crossfade.simulator.anthropic import Anthropic
from crossfade.simulator.ask import Ask, BadAsk
from crossfade.simulator.bedrock import Bedrock, BedrockClaude
from crossfade.simulator.cohere import Cohere
from crossfade.simulator.connection import Connection, Received
from crossfade.simulator.dialect import CREATED, Dialect, encode
from crossfade.simulator.embeddings import (
    COHERE_PATH,
    GEMINI_PATH,
    OLLAMA_PATH,
    CohereEmbeddings,
    GeminiEmbeddings,
    OllamaEmbeddings,
    OpenAIEmbeddings,
)
from crossfade.simulator.faults import parse_step
from crossfade.simulator.gemini import Gemini
from crossfade.simulator.ollama import Ollama
from crossfade.simulator.openai import OpenAI
from crossfade.simulator.openai_responses import OpenAIResponses
from crossfade.simulator.playbook import Call
from crossfade.simulator.schedule import KEPT_BODY_BYTES, Counts, Ledger, Schedule, Seen
from crossfade.simulator.script import Ending, Script

DEFAULT_NAME = "simulator"
FAULT_HEADER = "x-simulate"
MODELS = ("simulator-large", "simulator-small")

_PROVIDER = re.compile(r"/p/([A-Za-z0-9._-]{1,64})(/.*)")
_OPENAI, _RESPONSES, _ANTHROPIC, _GEMINI = OpenAI(), OpenAIResponses(), Anthropic(), Gemini()
_BEDROCK, _BEDROCK_CLAUDE = Bedrock(), BedrockClaude()
_COHERE, _COHERE_EMBEDDINGS = Cohere(), CohereEmbeddings()
_OLLAMA, _OLLAMA_EMBEDDINGS = Ollama(), OllamaEmbeddings()
_EMBEDDINGS, _GEMINI_EMBEDDINGS = OpenAIEmbeddings(), GeminiEmbeddings()


class Simulator:
    """A provider simulator on a socket. Make it with `start`; it belongs to the running event loop."""

    def __init__(self, name: str = DEFAULT_NAME):
        self.name = name
        self.schedule = Schedule()
        self.ledger = Ledger()
        self.opened = 0
        self._host = ""
        self._port = 0
        self._calls = 0
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()

    @classmethod
    async def start(cls, host: str = "127.0.0.1", port: int = 0, name: str = DEFAULT_NAME) -> Simulator:
        """Listens on `host` and `port` (0: any free one). Raises OSError if the port cannot be had."""
        simulator = cls(name)
        simulator._host, simulator._port = host, port
        await simulator.open_port()
        return simulator

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    async def open_port(self) -> None:
        """Listens, on the same port as before. Nothing if it does so already."""
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: Connection(self), self._host, self._port, backlog=2048, reuse_address=True
            )
            # A name may stand for several addresses, each with a free port of its own: the first one is said.
            self._host, self._port = self._server.sockets[0].getsockname()[:2]

    def close_port(self) -> None:
        """Stops listening: new connections are refused, open ones stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def reset_connections(self) -> None:
        """Resets every open connection."""
        for connection in list(self._connections):
            connection.reset()

    async def stop(self) -> None:
        """Stops listening and resets what is open; returns when nothing is left."""
        self.close_port()
        connections = list(self._connections)
        self.reset_connections()
        await asyncio.gather(*(connection.ended() for connection in connections))

    def counts(self) -> dict[str, Any]:
        """What was called, by provider, as plain JSON values; with the connections of all."""
        connections = {"opened": self.opened, "open": self.connections}
        return {"connections": connections, "providers": self.ledger.shown()}

    def reset(self) -> None:
        """Forgets schedules and counts."""
        self.schedule.clear()
        self.ledger.clear()
        self.opened = 0

    # What a connection tells.

    def add(self, connection: Connection) -> None:
        self.opened += 1
        self._connections.add(connection)

    def remove(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def is_refused(self, path: str, headers: dict[str, str]) -> bool:
        provider, path = self._provider(path.partition("?")[0])
        if _dialect(path) is None:
            return False
        is_asked = headers.get(FAULT_HEADER, "").strip() == "refuse"
        if not is_asked and (FAULT_HEADER in headers or self.schedule.next_at_head(provider) is None):
            return False
        counts = self.ledger.of(provider)
        counts.begin(Seen(path=path, headers=headers, model="", stream=False, outcome="refuse"))
        counts.end(is_aborted=False)
        return True

    async def answer(self, connection: Connection, request: Received) -> bool:
        provider, path = self._provider(request.path)
        if path.startswith("/_control/"):
            return await _perform(connection, self._control(request, path))
        dialect = _dialect(path)
        if dialect is None or request.method != "POST":
            return await _perform(connection, _other(request, path))
        if dialect in (_BEDROCK, _BEDROCK_CLAUDE) and (why := bedrock.unproven(request.headers)) is not None:
            return await _perform(connection, playbook.reply(bedrock.refusal(why)))
        try:
            call = self._call(dialect, provider, path, request)
        except BadAsk as error:
            bad = dialect.error("400", None, str(error))
            return await _perform(connection, playbook.reply(bad))
        return await self._play(connection, provider, path, request, call)

    # One call.

    def _provider(self, path: str) -> tuple[str, str]:
        found = _PROVIDER.fullmatch(path)
        return (found[1], found[2]) if found else (self.name, path)

    def _call(self, dialect: Dialect, provider: str, path: str, request: Received) -> Call:
        """Raises BadAsk with words for the caller."""
        ask = _read(dialect, path, request)
        if FAULT_HEADER in request.headers:
            try:
                step = parse_step(request.headers[FAULT_HEADER])
            except ValueError as error:
                raise BadAsk(f"{FAULT_HEADER}: {error}") from None
        else:
            step = self.schedule.next(provider, ask.model)
        self._calls += 1
        return Call(step, dialect, ask, self._calls)

    async def _play(self, connection: Connection, provider: str, path: str, request: Received, call: Call) -> bool:
        seen = _seen(path, request, call)
        counts: Counts = self.ledger.of(provider)
        counts.begin(seen)
        is_aborted = False
        try:
            return await _perform(connection, _script(call))
        except asyncio.CancelledError:
            is_aborted = True
            raise
        finally:
            counts.end(is_aborted=is_aborted)

    # Control.

    def _control(self, request: Received, path: str) -> Script:
        match request.method, path:
            case "POST", "/_control/schedule":
                try:
                    self._set_schedule(request.body)
                except (ValueError, RecursionError) as error:
                    return _json(400, {"error": str(error)})
                return _json(200, {"ok": True})
            case "GET", "/_control/counts":
                return _json(200, self.counts())
            case "POST", "/_control/reset":
                self.reset()
                return _json(200, {"ok": True})
            case _:
                return _json(404, {"error": "POST /_control/schedule, GET /_control/counts, POST /_control/reset"})

    def _set_schedule(self, body: bytes) -> None:
        wanted = msgspec.json.decode(body, type=ScheduleRequest)
        steps = [parse_step(step) for step in wanted.faults]
        then = None if wanted.then is None else parse_step(wanted.then)
        self.schedule.set(wanted.provider, wanted.model, steps, then)


class ScheduleRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /_control/schedule: what the next calls meet, in order, and what all later ones do.

    `provider` None: any provider; `model` None: any model, else a pattern such as `gpt-*`. `then` None: the rules
    for more calls decide, in the end a sound answer.
    """

    provider: str | None = None
    model: str | None = None
    faults: list[Any] = []
    then: Any = "ok"


async def _perform(connection: Connection, todo: Script) -> bool:
    for item in todo.items:
        if isinstance(item, bytes):
            connection.write(item)
            await connection.drain()
        else:
            await asyncio.sleep(item)
    match todo.ending:
        case Ending.HANG:
            await asyncio.Event().wait()  # until the client leaves, which cancels this task
        case Ending.RESET:
            connection.reset()
    return todo.ending is Ending.KEEP


def _script(call: Call) -> Script:
    try:
        return playbook.script_for(call)
    except (ValueError, TypeError, OverflowError, RecursionError):
        # A schema or a number that nothing can be made of; the caller's fault, as at a real provider.
        return playbook.reply(call.dialect.error("400", call.ask, "The request cannot be answered."), call.headers)


def _read(dialect: Dialect, path: str, request: Received) -> Ask:
    try:
        body = msgspec.json.decode(request.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise BadAsk("We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise BadAsk("The JSON body of your request is no object.")
    ask = dialect.read(path, request.query, body)
    if not ask.model:
        raise BadAsk("You must provide a model parameter.")
    if not ask.turns:
        raise BadAsk("The conversation is empty.")
    return ask


def _seen(path: str, request: Received, call: Call) -> Seen:
    is_kept = len(request.body) <= KEPT_BODY_BYTES
    return Seen(
        path=f"{path}?{request.query}" if request.query else path,
        headers=request.headers,
        model=call.ask.model,
        stream=call.ask.stream,
        outcome=call.step.kind,
        body=msgspec.json.decode(request.body) if is_kept else None,
    )


def _dialect(path: str) -> Dialect | None:
    if path.endswith("/chat/completions"):
        return _OPENAI
    if path.endswith("/responses"):
        return _RESPONSES
    if path.endswith("/messages"):
        return _ANTHROPIC
    if path.endswith("/embeddings"):
        return _EMBEDDINGS
    if cohere.PATH.search(path):
        return _COHERE
    if COHERE_PATH.search(path):
        return _COHERE_EMBEDDINGS
    if ollama.PATH.search(path):
        return _OLLAMA
    if OLLAMA_PATH.search(path):
        return _OLLAMA_EMBEDDINGS
    if GEMINI_PATH.search(path):
        return _GEMINI_EMBEDDINGS
    if bedrock.CONVERSE.search(path):
        return _BEDROCK
    if bedrock.INVOKE.search(path):
        return _BEDROCK_CLAUDE
    return _GEMINI if gemini.PATH.search(path) else None


def _other(request: Received, path: str) -> Script:
    """Lists of models; anything else is not found."""
    if request.method == "GET" and path.endswith("/models"):
        return _json(200, _models(path, request.headers))
    return _json(404, _OPENAI.error("404", None, f"Unknown request URL: {request.method} {path}.").body)


def _models(path: str, headers: dict[str, str]) -> dict[str, Any]:
    if "anthropic-version" in headers:
        models = [{"type": "model", "id": name, "display_name": name} for name in MODELS]
        return {"data": models, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
    if path.startswith("/v1beta"):
        methods = ["generateContent", "streamGenerateContent"]
        return {"models": [{"name": f"models/{name}", "supportedGenerationMethods": methods} for name in MODELS]}
    data = [{"id": name, "object": "model", "created": CREATED, "owned_by": "crossfade"} for name in MODELS]
    return {"object": "list", "data": data}


def _json(status: int, body: object) -> Script:
    return script.message(status, (("content-type", "application/json"),), encode(body))
