"""What the end-to-end tests share: a gateway on real sockets before a provider simulator, asked by the official SDK."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import msgspec
import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from crossfade.config.loader import load_config
from crossfade.config.settings import Config
from crossfade.core.events import Event, RequestEnded, StreamCommitted
from crossfade.core.policy import HealthPolicy, OverloadPolicy
from crossfade.core.target import Route
from crossfade.gateway import Gateway
from crossfade.providers.registry import VENDORS
from crossfade.simulator.thread import ProviderSimulator
from crossfade.testing import healthy_text
from crossfade.transport.http import HttpTransport
from crossfade.transport.pool import PoolLimits
from tests.support import run as run_bounded

T = TypeVar("T")

PROMPT = "Tell me about the otters of the harbour"
TEXT = healthy_text(PROMPT)
MESSAGES: list[Any] = [{"role": "user", "content": PROMPT}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
JSON_SCHEMA: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {"name": "person", "schema": SCHEMA, "strict": True},
}
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5Er"
    "kJggg=="
)

MODELS = {
    "openai": "gpt-5.4",
    "responses": "gpt-5.4",
    "anthropic": "claude-opus-5",
    "gemini": "gemini-3.8-flash",
    "bedrock": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "bedrock-claude": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "cohere": "command-a-plus-05-2026",
    "ollama": "qwen3:4b",
}
QUICK = "first_content_timeout: 2s, silence_timeout: 2s, idle_timeout: 2s, attempt_timeout: 2s"
"""Timers short enough for a test and long enough for a slow machine."""


DEFAULT_HEALTH = HealthPolicy()


class Record:
    """A recorder in memory. Answers wait for their line, as they do for the journal."""

    def __init__(self) -> None:
        self.ended: list[RequestEnded] = []
        self.commits: list[StreamCommitted] = []
        self.told: list[Event] = []

    def record(self, event: Event, then: Callable[[], None] | None = None) -> None:
        if isinstance(event, RequestEnded):
            msgspec.json.encode(event)  # what cannot be written down fails here
            self.ended.append(event)
        elif isinstance(event, StreamCommitted):
            self.commits.append(event)
        if then is not None:
            then()

    def settle(self) -> None:
        """Everything is kept at once."""

    def tell(self, event: Event) -> None:
        msgspec.json.encode(event)
        self.told.append(event)

    def told_of(self, kind: type[T]) -> list[T]:
        return [event for event in self.told if isinstance(event, kind)]

    @property
    def last(self) -> RequestEnded:
        return self.ended[-1]

    def reasons(self) -> list[tuple[str, str | None]]:
        """Target and reason of each call of the last request, in order."""
        return [(a.target.partition("/")[0], a.reason) for a in self.last.attempts if a.number]


class Answer(msgspec.Struct, kw_only=True):
    """An answer as an application sees it, streamed or not. `native` is the SDK's object, `chunks` a stream's."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: list[tuple[str, str]] = []
    finishes: list[str] = []
    usage: Any = None
    id: str = ""
    model: str = ""
    headers: dict[str, str] = {}
    native: Any = None
    chunks: list[Any] = []

    @property
    def extra(self) -> dict[str, Any]:
        """The `crossfade` member: of the body, or of the one chunk of a stream that has it."""
        if self.native is not None:
            member: dict[str, Any] = (self.native.model_extra or {}).get("crossfade") or {}
            return member
        found = [c.model_extra["crossfade"] for c in self.chunks if "crossfade" in (c.model_extra or {})]
        assert len(found) <= 1, "more than one chunk has a `crossfade` member"
        return found[0] if found else {}


class Stage:
    """A gateway, its record, and the SDK that talks to it. `mark` is the prefix of its providers' names."""

    def __init__(self, gateway: Gateway, record: Record, simulator: ProviderSimulator, mark: str):
        self.gateway = gateway
        self.record = record
        self.simulator = simulator
        self.mark = mark
        self.url = gateway.url
        self.client = sdk(gateway.url)

    def schedule(self, provider: str, *faults: Any, then: Any = "ok") -> None:
        self.simulator.schedule(*faults, provider=self.mark + provider, then=then)

    def counts(self, provider: str) -> dict[str, Any]:
        return self.simulator.counts(self.mark + provider)

    def calls(self, *providers: str) -> list[int]:
        return [self.counts(provider)["calls"] for provider in providers]

    def forget_health(self) -> None:
        """A fresh health board: what earlier cases did to targets is forgotten."""
        board = self.gateway.board
        for provider in self.gateway.config.providers:
            board.forget(provider)

    async def ask(self, *, stream: bool = False, client: openai.AsyncOpenAI | None = None, **fields: Any) -> Answer:
        """Asks route `chat`, and gives the answer whole. Raises what the SDK raises."""
        fields = {"model": "chat", "messages": MESSAGES, **fields}
        completions = (client or self.client).chat.completions.with_raw_response
        if not stream:
            response = await completions.create(**fields)
            return of_completion(response.parse(), dict(response.headers))
        fields.setdefault("stream_options", {"include_usage": True})
        response = await completions.create(stream=True, **fields)
        chunks = [chunk async for chunk in response.parse()]
        return of_chunks(chunks, dict(response.headers))

    async def post(self, body: Any, *, headers: dict[str, str] | None = None) -> httpx2.Response:
        """Posts `body` (JSON text or a value) without any SDK, and reads the whole answer."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
            return await client.post(
                f"{self.url}/v1/chat/completions",
                content=content,
                headers={"content-type": "application/json", **(headers or {})},
            )


def sdk(url: str, **fields: Any) -> openai.AsyncOpenAI:
    """The official SDK as applications use it, without retries of its own. One pool of connections per loop."""
    loop = asyncio.get_running_loop()
    pool = _POOLS.get(loop)
    if pool is None:
        # The SSL context is what is slow about a client; the gateway is asked without TLS here.
        pool = _POOLS[loop] = httpx2.AsyncClient(
            trust_env=False, verify=False, timeout=30, limits=httpx2.Limits(max_connections=None)
        )
    fields = {"api_key": "unused", "max_retries": 0, "http_client": pool, **fields}
    return openai.AsyncOpenAI(base_url=f"{url}/v1", **fields)


_POOLS: dict[asyncio.AbstractEventLoop, httpx2.AsyncClient] = {}


async def close_pool() -> None:
    """Closes the SDK's connections of the running loop."""
    pool = _POOLS.pop(asyncio.get_running_loop(), None)
    if pool is not None:
        await pool.aclose()


_marks = itertools.count()


def new_mark() -> str:
    """A prefix for providers' names, so that cases on one simulator have schedules and counts of their own."""
    return f"s{next(_marks)}-"


def provider(simulator: ProviderSimulator, name: str, dialect: str, more: str = "") -> str:
    """The YAML line of a simulated provider."""
    dialect = dialect.partition(":")[0]
    url = simulator.base_url(dialect, name)
    return f"  {name}: {{{speaks(dialect)}, base_url: '{url}'{', ' if more else ''}{more}}}"


def speaks(dialect: str) -> str:
    """What a provider is configured with; some dialects go by a vendor's own way."""
    return f"vendor: {dialect}" if dialect == "bedrock-claude" else f"dialect: {dialect}"


def target(mark: str, name: str, dialect: str) -> str:
    dialect, _, model = dialect.partition(":")
    return f"{mark}{name}/{model or MODELS[dialect]}"


def chain_yaml(
    simulator: ProviderSimulator,
    mark: str,
    chain: dict[str, str],
    route: str = QUICK,
    *,
    more: dict[str, str] | None = None,
    tail: str = "",
    pool: str = "",
    beside: dict[str, str] | None = None,
) -> str:
    """A configuration with one route `chat` over `chain` (name: `dialect` or `dialect:model`), in a `pool` of that
    policy if one is named. `route` are further settings of it, `more` of single providers; one with a `base_url` in
    `more` is not the simulator's. `beside` are providers that are not in its chain."""
    lines = ["server: {listen: '127.0.0.1:0', admin: '127.0.0.1:0'}", "providers:"]
    for name, dialect in {**chain, **(beside or {})}.items():
        extra = (more or {}).get(name, "")
        if "base_url" in extra:
            lines.append(f"  {mark}{name}: {{{speaks(dialect.partition(':')[0])}, {extra}}}")
        else:
            lines.append(provider(simulator, mark + name, dialect, extra))
    targets = ", ".join(target(mark, name, dialect) for name, dialect in chain.items())
    links = f"{{pool: {pool}, of: [{targets}]}}" if pool else targets
    lines += ["routes:", f"  chat: {{chain: [{links}]{', ' if route else ''}{route}}}", tail]
    return "\n".join(lines)


def config_of(text: str, environ: dict[str, str] | None = None) -> Config:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "crossfade.yaml"
        path.write_text(text)
        return load_config(path, environ or {}, VENDORS)


@contextlib.asynccontextmanager
async def stage(
    text: str,
    simulator: ProviderSimulator,
    mark: str = "",
    *,
    environ: dict[str, str] | None = None,
    health: HealthPolicy = DEFAULT_HEALTH,
    tune: Callable[[Route], Route] | None = None,
    pool: PoolLimits | None = None,
) -> AsyncIterator[Stage]:
    """A gateway on a free port. `tune` and `pool` change what configuration has no key for."""
    config = config_of(text, environ)
    if "\noverload:" not in text:  # callers and gateway share a loop here, so that its clock says nothing
        config = msgspec.structs.replace(config, overload=OverloadPolicy(max_delay=0.0))
    if tune is not None:
        routes = {name: tune(route) for name, route in config.routes.items()}
        config = msgspec.structs.replace(config, routes=routes)
    record = Record()
    transport = None if pool is None else HttpTransport(loop=asyncio.get_running_loop(), limits=pool)
    async with await Gateway.open(config, environ or {}, record, health=health, transport=transport) as gateway:
        yield Stage(gateway, record, simulator, mark)


@contextlib.asynccontextmanager
async def chain_stage(
    simulator: ProviderSimulator, chain: dict[str, str], route: str = QUICK, **fields: Any
) -> AsyncIterator[Stage]:
    """A gateway with the one route `chat` over simulated providers (name: dialect); `balanced` by a pool's policy."""
    more, tail, balanced = fields.pop("more", None), fields.pop("tail", ""), fields.pop("balanced", "")
    beside = fields.pop("beside", None)
    mark = new_mark()
    route = route.replace("{mark}", mark)
    if more:
        more = {name: extra.replace("{mark}", mark) for name, extra in more.items()}
    text = chain_yaml(
        simulator, mark, chain, route, more=more, tail=tail.replace("{mark}", mark), pool=balanced, beside=beside
    )
    async with stage(text, simulator, mark, **fields) as made:
        yield made


# --- answers -------------------------------------------------------------------------------------------------


def of_completion(completion: ChatCompletion, headers: dict[str, str]) -> Answer:
    choice = completion.choices[0]
    message: Any = choice.message
    return Answer(
        text=message.content or "",
        reasoning=getattr(message, "reasoning_content", None) or "",
        refusal=message.refusal or "",
        calls=[(call.function.name, call.function.arguments) for call in message.tool_calls or ()],
        finishes=[choice.finish_reason],
        usage=completion.usage,
        id=completion.id,
        model=completion.model,
        headers=headers,
        native=completion,
    )


def of_chunks(chunks: list[ChatCompletionChunk], headers: dict[str, str] | None = None, choice: int = 0) -> Answer:
    """A stream put together, after a look at what must hold of every stream."""
    answer = Answer(headers=headers or {}, chunks=chunks)
    calls: dict[int, list[str]] = {}
    roles = 0
    for chunk in chunks:
        for item in chunk.choices:
            if item.index != choice:
                continue
            delta: Any = item.delta
            roles += delta.role is not None
            answer.text += delta.content or ""
            answer.reasoning += getattr(delta, "reasoning_content", None) or ""
            answer.refusal += delta.refusal or ""
            for call in delta.tool_calls or ():
                parts = calls.setdefault(call.index, ["", ""])
                parts[0] += call.function.name or ""
                parts[1] += call.function.arguments or ""
            if item.finish_reason:
                answer.finishes.append(item.finish_reason)
    assert roles <= 1, "a second role chunk"
    for name in ("id", "model", "created"):
        said = {getattr(chunk, name) for chunk in chunks}
        assert len(said) == 1, f"the chunks disagree about {name}: {said}"
    usages = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert len(usages) <= 1, "usage came more than once"
    answer.usage = usages[0] if usages else None
    answer.calls = [(name, arguments) for _, (name, arguments) in sorted(calls.items())]
    answer.id, answer.model = chunks[0].id, chunks[0].model
    return answer


def check_usage(answer: Answer) -> None:
    usage = answer.usage
    assert usage is not None, "no usage"
    assert usage.prompt_tokens > 0 and usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


# --- providers that say just what they are told -----------------------------------------------------------------

EVENT_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
JSON_BODY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
CUT = "cut"
HANG = "hang"


class RawProvider:
    """An OpenAI-like provider in the test's own loop that answers with given bytes, pauses (floats) and ends: at the
    end of a script the body ends as HTTP wants it, at `CUT` the connection is reset, at `HANG` it stays. The last
    script is for all further calls. `bodies` are the requests."""

    def __init__(self) -> None:
        self.scripts: list[Sequence[bytes | float | str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.open = 0
        self.port = 0

    @contextlib.asynccontextmanager
    async def serving(self, *scripts: Sequence[Any]) -> AsyncIterator[RawProvider]:
        self.scripts = list(scripts)
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    @property
    def yaml(self) -> str:
        """What `more` of a chain takes."""
        return f"base_url: 'http://127.0.0.1:{self.port}/v1'"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        self.bodies.append(msgspec.json.decode(await reader.readexactly(length)))
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        for item in script:
            if isinstance(item, float):
                await asyncio.sleep(item)
            elif item == CUT:
                writer.transport.abort()
                return
            elif item == HANG:
                await reader.read()  # until the gateway leaves
                return
            else:
                assert isinstance(item, bytes)
                writer.write(item)
                await writer.drain()


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, *, index: int = 0, **fields: Any) -> bytes:
    """One event of an OpenAI stream."""
    choices = [{"index": index, "delta": delta or {}, "logprobs": None, "finish_reason": finish}]
    head = {"id": "chatcmpl-raw", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "raw-1"}
    return b"data: " + msgspec.json.encode({**head, "choices": choices, **fields}) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def words(text: str) -> list[bytes | float | str]:
    """The text as events of a stream, a word each."""
    pieces = text.split(" ")
    return [chunk({"content": piece if n == 0 else f" {piece}"}) for n, piece in enumerate(pieces)]


def call_chunks(name: str, arguments: str, *, id: str = "call_raw1", index: int = 0) -> list[bytes | float | str]:  # noqa: A002 - the member's name
    """A tool call as events of a stream."""
    begin = {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}
    pieces = [arguments[i : i + 6] for i in range(0, len(arguments), 6)]
    rest = [chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}) for piece in pieces]
    return [chunk({"tool_calls": [begin]}), *rest]


# --- running -------------------------------------------------------------------------------------------------


def run(main: Coroutine[Any, Any, T], timeout: float = 30.0) -> T:
    """Runs `main` on a fresh loop, and leaves no connection of the SDK behind."""

    async def closing() -> T:
        try:
            return await main
        finally:
            await close_pool()

    return run_bounded(closing(), timeout)


async def gathered(cases: Iterable[Awaitable[T]], at_once: int = 32) -> list[T | BaseException]:
    """Runs cases concurrently; a failed one gives its exception."""
    turns = asyncio.Semaphore(at_once)

    async def one(case: Awaitable[T]) -> T:
        async with turns:
            return await case

    return await asyncio.gather(*(one(case) for case in cases), return_exceptions=True)


async def until(condition: Callable[[], bool], seconds: float = 8.0) -> None:
    """Waits for something that happens in another thread or a later turn of the loop."""
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < end, "what was waited for did not happen"
        await asyncio.sleep(0.01)


def raw_request(body: dict[str, Any]) -> bytes:
    """A chat request as it is on the wire."""
    text = msgspec.json.encode(body)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(text)}\r\n\r\n"
    )
    return head.encode() + text


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
