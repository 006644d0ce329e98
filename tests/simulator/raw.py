"""A client that takes nothing for granted: it sends a request and keeps every byte, and how the connection ended."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from crossfade.testing import ProviderSimulator, chat_request, gemini_request, messages_request

DIALECTS = ("openai", "anthropic", "gemini")
PROMPT = "Tell me about otters"

ENOUGH_BYTES = 1_500_000
"""More than any whole answer here."""

Ended = Literal["kept", "eof", "reset", "open"]


def request_body(dialect: str, stream: bool, prompt: str = PROMPT, **fields: Any) -> dict[str, Any]:
    if dialect == "openai":
        return chat_request(
            prompt, **({"stream": True, "stream_options": {"include_usage": True}} if stream else {}), **fields
        )
    if dialect == "anthropic":
        return messages_request(prompt, **({"stream": True} if stream else {}), **fields)
    return gemini_request(prompt, **fields)


def path_of(dialect: str, stream: bool, provider: str | None = None) -> str:
    prefix = f"/p/{provider}" if provider else ""
    gemini = ":streamGenerateContent?alt=sse" if stream else ":generateContent"
    paths = {
        "openai": "/v1/chat/completions",
        "anthropic": "/v1/messages",
        "gemini": f"/v1beta/models/simulator{gemini}",
    }
    return prefix + paths[dialect]


def request_bytes(path: str, body: object, headers: dict[str, str] | None = None, method: str = "POST") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: simulator", "content-type: application/json"]
    lines += [f"content-length: {len(data)}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return "\r\n".join([*lines, "", ""]).encode() + data


@dataclass
class Reply:
    """Everything that came. `ended`: the message was whole and the connection `kept`; `open`: more was awaited."""

    raw: bytes
    ended: Ended
    arrivals: int = 1
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_whole: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[str]:
        """The data of every event, whole ones only."""
        text = self.body.decode("utf-8", "replace").replace("\r\n", "\n")
        blocks = text.split("\n\n")[:-1]
        return [line[6:] for block in blocks for line in block.split("\n") if line.startswith("data: ")]


class Wire:
    """One connection."""

    def __init__(self, port: int):
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def reply(self, quiet: float = 10.0) -> Reply:
        """Reads until the message is whole or the connection has ended, or until nothing came for `quiet` seconds."""
        self._sock.settimeout(quiet)
        reply = Reply(b"", "open", arrivals=0)
        while not reply.is_whole and len(reply.raw) < ENOUGH_BYTES:
            if not self.fill(reply):
                return reply
        reply.ended = "kept" if reply.is_whole else "open"
        return reply

    def fill(self, reply: Reply) -> bool:
        """Adds what comes next; False if nothing does."""
        try:
            data = self._sock.recv(65536)
        except TimeoutError:
            return False
        except ConnectionError:
            reply.ended = "reset"
            return False
        if not data:
            reply.ended = "eof"
            return False
        reply.raw += data
        reply.arrivals += 1
        parse(reply)
        return True

    def after(self, request: bytes) -> Ended:
        """How the connection goes on after a whole message: it carries another one, or it has ended."""
        try:
            self.send(request)
        except ConnectionError:
            return "reset"
        return self.reply().ended


def parse(reply: Reply) -> None:
    """Fills in what can be read of the raw bytes so far."""
    raw = reply.raw
    while raw.startswith(b"HTTP/1.1 1") and b"\r\n\r\n" in raw:
        raw = raw.partition(b"\r\n\r\n")[2]
    head, blank, body = raw.partition(b"\r\n\r\n")
    if not blank or not head.startswith(b"HTTP/1.1 "):
        return
    first, *lines = head.decode("latin-1").split("\r\n")
    reply.status = int(first.split()[1])
    reply.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if reply.headers.get("transfer-encoding") == "chunked":
        reply.body, reply.is_whole = dechunked(body)
    else:
        length = int(reply.headers.get("content-length", "-1"))
        reply.body, reply.is_whole = body[: max(length, 0)], 0 <= length <= len(body)


def dechunked(data: bytes) -> tuple[bytes, bool]:
    """The content of the whole chunks, and whether the last chunk was there."""
    content, place = [], 0
    while found := re.compile(rb"([0-9a-f]+)\r\n").match(data, place):
        size, place = int(found[1], 16), found.end()
        if size == 0:
            return b"".join(content), data[place : place + 2] == b"\r\n"
        if len(data) < place + size + 2:
            break
        content.append(data[place : place + size])
        place += size + 2
    return b"".join(content), False


def ask(
    simulator: ProviderSimulator,
    dialect: str = "openai",
    stream: bool = False,
    fault: str | None = None,
    quiet: float = 10.0,
    provider: str | None = None,
    headers: dict[str, str] | None = None,
    **fields: Any,
) -> Reply:
    """One call on a connection of its own; `fields` go into the body."""
    all_headers = {**({"x-simulate": fault} if fault else {}), **(headers or {})}
    body = request_body(dialect, stream, **fields)
    with Wire(simulator.port) as wire:
        wire.send(request_bytes(path_of(dialect, stream, provider), body, all_headers))
        return wire.reply(quiet)


def control(simulator: ProviderSimulator, method: str, name: str, body: object = b"") -> Reply:
    with Wire(simulator.port) as wire:
        wire.send(request_bytes(f"/_control/{name}", body, method=method))
        return wire.reply()


def text_of(dialect: str, stream: bool, reply: Reply) -> str:
    """The text of the answer, as far as it came."""
    if not stream:
        return _whole_text(dialect, reply.json)
    return "".join(_delta_text(dialect, json.loads(data)) for data in reply.events if _is_json(data))


def finishes_of(dialect: str, stream: bool, reply: Reply) -> list[str]:
    """Every finish reason that came, in order."""
    if not stream:
        return [word for word in [_finish(dialect, reply.json)] if word]
    return [word for data in reply.events if _is_json(data) and (word := _finish(dialect, json.loads(data)))]


def markers_of(dialect: str, reply: Reply) -> int:
    if dialect == "openai":
        return reply.events.count("[DONE]")
    return sum('"message_stop"' in data for data in reply.events)


def _is_json(data: str) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except ValueError:
        return False


def _whole_text(dialect: str, body: Any) -> str:
    if dialect == "openai":
        return body["choices"][0]["message"]["content"] or ""
    if dialect == "anthropic":
        return "".join(block.get("text", "") for block in body["content"])
    return "".join(p.get("text", "") for p in body["candidates"][0]["content"].get("parts", []) if not p.get("thought"))


def _delta_text(dialect: str, event: Any) -> str:
    if dialect == "openai":
        return "".join(choice["delta"].get("content") or "" for choice in event.get("choices", []))
    if dialect == "anthropic":
        return event.get("delta", {}).get("text", "") or ""
    return "".join(_whole_text("gemini", {"candidates": [one]}) for one in event.get("candidates", []))


def _finish(dialect: str, body: Any) -> str | None:
    if dialect == "openai":
        choices = body.get("choices") or [{}]
        return choices[0].get("finish_reason")
    if dialect == "anthropic":
        return body.get("stop_reason") or body.get("delta", {}).get("stop_reason")
    candidates = body.get("candidates") or [{}]
    return candidates[0].get("finishReason")
