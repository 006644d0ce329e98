"""What a server repeats of the key it was sent does not come back in the headers that are recorded."""

from __future__ import annotations

import asyncio

import pytest

from crossfade.transport.http import HttpTransport
from tests.support import run
from tests.transport.support import Server, Sink, request_to, serving

KEY = "zk9+Plain/Key=of-no-known-shape"


@pytest.mark.parametrize(
    "sent", [("authorization", f"Bearer {KEY}"), ("x-api-key", KEY), ("api-key", KEY), ("x-goog-api-key", KEY)]
)
@pytest.mark.parametrize("name", ["X-Request-Id", "request-id", "cf-ray"])
def test_an_id_that_repeats_the_key_is_masked(sent: tuple[str, str], name: str) -> None:
    async def answer(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(f"HTTP/1.1 200 OK\r\n{name}: req-{KEY}-1\r\nx: 1\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()

    async def main() -> None:
        async with serving(answer) as server:
            transport = HttpTransport(loop=asyncio.get_running_loop())
            sink = Sink()
            request = request_to(server.port)
            request.headers = [sent]
            transport.send(request, sink)
            await sink.over.wait()
            transport.close()
            assert sink.head is not None
            assert sink.head.headers[name.lower()] == "[redacted]"
            assert (sink.head.headers["x"], sink.head.status) == ("1", 200)

    run(main())
