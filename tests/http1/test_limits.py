"""What one client can take of the gateway: chunks, descriptors."""

from __future__ import annotations

import resource

import pytest

from crossfade.http1.chunks import CHUNK_BYTES, CHUNK_COUNT, ChunkedBody
from crossfade.http1.head import BadMessage
from crossfade.http1.limits import Limits
from crossfade.http1.listener import Listener
from tests.http1.harness import Recorder
from tests.support import run


def test_a_body_of_countless_tiny_chunks_is_refused() -> None:
    body = ChunkedBody()
    body.feed(b"1\r\nx\r\n" * (CHUNK_COUNT // 2))
    with pytest.raises(BadMessage, match="too little content"):
        body.feed(b"1\r\nx\r\n" * CHUNK_COUNT)


def test_chunks_of_a_sensible_size_are_taken_without_end() -> None:
    body = ChunkedBody()
    chunk = b"%x\r\n%b\r\n" % (CHUNK_BYTES, b"x" * CHUNK_BYTES)
    content = sum(len(body.feed(chunk * 1000)) for _ in range(2 * CHUNK_COUNT // 1000))
    assert content == 2 * CHUNK_COUNT * CHUNK_BYTES
    body.feed(b"0\r\n\r\n")
    assert body.is_complete


@pytest.mark.parametrize(("files", "wanted", "given"), [(1000, 10_000, 500), (1000, 100, 100), (1, 10, 1)])
def test_half_of_the_open_files_are_kept_for_upstream_connections(
    monkeypatch: pytest.MonkeyPatch, files: int, wanted: int, given: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda what: (files, files))

    async def main() -> None:
        assert Listener(Recorder(), Limits(max_connections=wanted)).limits.max_connections == given

    run(main())


def test_without_a_limit_on_files_the_configured_one_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda what: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    async def main() -> None:
        assert Listener(Recorder(), Limits()).limits.max_connections == Limits().max_connections

    run(main())
