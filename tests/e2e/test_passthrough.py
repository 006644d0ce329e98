"""Endpoints that crossfade knows nothing of: to one provider, as they are."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest

from crossfade.config.problems import ConfigErrors
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import Stage, config_of, run, sdk, stage, until


class Upstream:
    """A server that remembers what it was asked and answers with `answer`: bytes, or seconds to wait."""

    def __init__(self, *answer: bytes | float) -> None:
        self.answer = answer
        self.asked: list[tuple[bytes, bytes]] = []
        self.open = 0
        self.url = ""

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            body = await reader.readexactly(int(length[0].partition(b":")[2])) if length else b""
            self.asked.append((head, body))
            for piece in self.answer:
                if isinstance(piece, bytes):
                    writer.write(piece)
                    await writer.drain()
                else:
                    await asyncio.wait_for(reader.read(), piece)  # or until the client leaves
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            pass
        finally:
            self.open -= 1
            writer.close()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Upstream]:
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with server:
            yield self


OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nset-cookie: a=b\r\n"
MODERATION = b'{"id":"modr-1","model":"m","results":[]}'
SOUND = bytes(range(256)) * 4096


def whole(body: bytes, head: bytes = OK) -> bytes:
    return head + b"content-length: %d\r\n\r\n%b" % (len(body), body)


@contextlib.asynccontextmanager
async def passing(simulator: ProviderSimulator, upstream: Upstream, more: str = "") -> AsyncIterator[Stage]:
    async with upstream.serving():
        text = (
            "server: {listen: '127.0.0.1:0', admin: '127.0.0.1:0'}\n"
            f"providers: {{media: {{dialect: openai, base_url: '{upstream.url}', api_keys: [env:KEY]}}}}\n"
            f"passthrough: media\n{more}"
        )
        async with stage(text, simulator, environ={"KEY": "sk-theirs", "GATEWAY_KEY": "cf-" + "k" * 40}) as made:
            yield made


def test_a_request_goes_on_as_it_is_and_its_answer_comes_back(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        upstream = Upstream(whole(MODERATION))
        async with passing(simulator, upstream) as made:
            answer = await made.client.with_raw_response.moderations.create(input="hello", model="omni")
            assert answer.parse().id == "modr-1"
            assert answer.headers["x-crossfade-provider"] == "media" and "set-cookie" not in answer.headers
            ((head, body),) = upstream.asked
            assert head.startswith(b"POST /v1/moderations HTTP/1.1\r\n") and b"Bearer sk-theirs" in head
            assert b"unused" not in head and json.loads(body) == {"input": "hello", "model": "omni"}
            row = made.record.last
            assert (row.endpoint, row.route, row.status, row.served) == ("/moderations", "passthrough", 200, "media")
            assert row.bytes_out == len(MODERATION) and row.attempts[0].status == 200

    run(main())


def test_files_go_up_and_sound_comes_down(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        upstream = Upstream(whole(SOUND, OK.replace(b"application/json", b"audio/mpeg")))
        async with passing(simulator, upstream) as made:
            spoken = await made.client.audio.speech.create(input="hello", model="tts", voice="alloy")
            assert spoken.content == SOUND
            upstream.answer = (whole(b'{"text":"hello"}'),)
            heard = await made.client.audio.transcriptions.create(file=("a.mp3", SOUND), model="whisper")
            assert heard.text == "hello"
            head, body = upstream.asked[-1]
            assert b"multipart/form-data; boundary=" in head and SOUND in body

    run(main())


@pytest.mark.parametrize(
    ("method", "path", "asked"),
    [
        ("GET", "/v1/files?limit=2", b"GET /v1/files?limit=2"), ("DELETE", "/files/file-1", b"DELETE /v1/files/file-1"),
        ("GET", "/v1/files/file-1/content", b"GET /v1/files/file-1/content"),
        ("POST", "/v1/images/generations", b"POST /v1/images/generations"),
    ],
)  # fmt: skip
def test_paths_and_methods(simulator: ProviderSimulator, method: str, path: str, asked: bytes) -> None:
    async def main() -> None:
        upstream = Upstream(whole(b"{}"))
        async with passing(simulator, upstream) as made, httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.request(method, made.url + path)
            assert answer.status_code == 200 and answer.content == b"{}"
            assert upstream.asked[0][0].startswith(asked)

    run(main())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/v1/files", 405), ("GET", "/v1/files/../../admin", 404), ("GET", "/v1/files/%2e%2e/x", 404),
        ("GET", "/v1/admin", 404), ("POST", "/v1/assistants", 404), ("GET", "/filesystem", 404),
    ],
)  # fmt: skip
def test_what_does_not_pass(simulator: ProviderSimulator, method: str, path: str, status: int) -> None:
    async def main() -> None:
        upstream = Upstream(whole(b"{}"))
        async with passing(simulator, upstream) as made:
            reader, writer = await asyncio.open_connection("127.0.0.1", made.gateway.port)
            writer.write(f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
            assert (await reader.read()).startswith(b"HTTP/1.1 %d " % status)
            writer.close()
            assert upstream.asked == []

    run(main())


def test_without_a_provider_the_key_is_named(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        text = "server: {listen: '127.0.0.1:0', admin: '127.0.0.1:0'}\nproviders: {a: {dialect: openai, base_url: 'http://127.0.0.1:9/v1'}}"
        async with stage(text, simulator) as made:
            with pytest.raises(openai.NotFoundError, match="`passthrough`"):
                await made.client.moderations.create(input="x")

    run(main())


def test_keys_are_asked_for_and_bound_ones_stay_within_their_route(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        upstream = Upstream(whole(MODERATION))
        more = "routes: {chat: {chain: [media/m]}}\ngateway_keys: [{name: web, key: env:GATEWAY_KEY, project: p%s}]"
        for bound, error in (("", None), (", route: chat", openai.PermissionDeniedError)):
            async with passing(simulator, upstream, more % bound) as made:
                with pytest.raises(openai.AuthenticationError):
                    await made.client.moderations.create(input="x")
                known = sdk(made.url, api_key="cf-" + "k" * 40)
                if error is None:
                    assert (await known.moderations.create(input="x")).id == "modr-1"
                    assert (made.record.last.key, made.record.last.project) == ("web", "p")
                else:
                    with pytest.raises(error):
                        await known.moderations.create(input="x")

    run(main())


def test_errors_of_the_provider_are_its_own(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        body = b'{"error":{"message":"no","type":"invalid_request_error","param":"model","code":"x"}}'
        upstream = Upstream(
            whole(body, b"HTTP/1.1 429 Too Many\r\nretry-after: 7\r\ncontent-type: application/json\r\n")
        )
        async with passing(simulator, upstream) as made:
            with pytest.raises(openai.RateLimitError) as caught:
                await made.client.moderations.create(input="x")
            assert caught.value.code == "x" and caught.value.response.headers["retry-after"] == "7"
            assert made.record.last.status == 429 and len(upstream.asked) == 1

    run(main())


CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [((), 502, "protocol_error"), ((b"nonsense\r\n\r\n",), 502, "protocol_error")],
)
def test_a_provider_that_gives_no_answer_is_a_502(
    simulator: ProviderSimulator, answer: tuple[bytes], status: int, reason: str
) -> None:
    async def main() -> None:
        async with passing(simulator, Upstream(*answer)) as made:
            with pytest.raises(openai.InternalServerError) as caught:
                await made.client.moderations.create(input="x")
            assert (caught.value.status_code, caught.value.code) == (status, reason)
            assert made.record.last.attempts[0].reason == reason

    run(main())


def test_an_answer_that_is_cut_is_seen_to_be_cut(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with passing(simulator, Upstream(CHUNKED + b"5\r\nhello\r\n", 0.1)) as made:
            with pytest.raises(openai.APIConnectionError):
                await made.client.files.content("file-1")
            assert made.record.last.error == "stream_interrupted" and not made.gateway.engine.runners

    run(main())


@pytest.mark.parametrize("when", ["before the answer", "within it"])
def test_a_silent_provider_is_given_up(
    simulator: ProviderSimulator, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        answer: Any = (30.0,) if when == "before the answer" else (CHUNKED + b"5\r\nhello\r\n", 30.0)
        upstream = Upstream(*answer)
        async with passing(simulator, upstream) as made:
            asking = asyncio.ensure_future(made.client.files.content("file-1"))
            await until(lambda: bool(upstream.asked) and (when[0] == "b" or any_started(made)))
            (passage,) = made.gateway.engine.runners
            passage.due = 0.0  # the time is up
            error: type[Exception] = openai.InternalServerError if when[0] == "b" else openai.APIConnectionError
            with pytest.raises(error):
                await asking
            assert made.record.last.error == "timeout"
            await until(lambda: upstream.open == 0)

    run(main())


def any_started(made: Stage) -> bool:
    return any(passage._status is not None for passage in made.gateway.engine.runners)


def test_a_caller_that_leaves_ends_the_call(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        upstream = Upstream(CHUNKED + b"5\r\nhello\r\n", 30.0)
        async with passing(simulator, upstream) as made:
            asking = asyncio.ensure_future(made.client.files.content("file-1"))
            await until(lambda: any_started(made))
            asking.cancel()
            await until(lambda: upstream.open == 0 and bool(made.record.ended))
            assert made.record.last.status == 499 and not made.gateway.engine.runners

    run(main())


def test_a_slow_reader_presses_back(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        upstream = Upstream(CHUNKED, *[b"10000\r\n%b\r\n" % (b"x" * 65536)] * 400, b"0\r\n\r\n")
        async with passing(simulator, upstream) as made:
            reader, writer = await asyncio.open_connection("127.0.0.1", made.gateway.port, limit=1024)
            writer.write(b"GET /v1/files/a/content HTTP/1.1\r\nhost: localhost\r\n\r\n")
            await until(lambda: any(passage._is_paused for passage in made.gateway.engine.runners))
            got = bytearray()
            while not got.endswith(b"0\r\n\r\n"):
                got += await reader.read(1 << 20)
            assert len(got) > 400 * 65536
            writer.close()

    run(main())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("providers: {openai: {api_keys: []}}\npassthrough: opnai", "did you mean 'openai'"),
        ("providers: {anthropic: {api_keys: []}}\npassthrough: anthropic", "speaks 'anthropic'"),
    ],
)
def test_a_wrong_name_is_refused_at_the_start(text: str, words: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        config_of(text)
    (error,) = caught.value.errors
    assert error.field == "passthrough" and error.line == 2 and words in error.message
