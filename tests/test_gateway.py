"""What a gateway says of itself when it cannot begin."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from crossfade.config.problems import ConfigErrors
from crossfade.gateway import Gateway
from crossfade.http1.listener import Listener
from tests.e2e.harness import Record, config_of
from tests.support import run

CONFIG = """\
server: {listen: '127.0.0.1:0', admin: '127.0.0.1:0'}
providers: {one: {dialect: openai, base_url: 'http://127.0.0.1:9/v1'}}
routes: {chat: {chain: [one/model]}}
"""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EADDRINUSE, "?"), "Address already in use; stop what listens there, or change it"),
        (OSError(errno.EACCES, "?"), "Permission denied; change it"),
        (OSError(errno.EADDRNOTAVAIL, "?"), "Cannot assign requested address; change it"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known; change it"),
        (OSError("no errno"), "no errno; change it"),
    ],
)
def test_an_address_that_cannot_be_listened_on_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
) -> None:
    async def refuse(*_: Any, **__: Any) -> Listener:
        raise error

    monkeypatch.setattr(Listener, "open", refuse)

    async def main() -> None:
        with pytest.raises(ConfigErrors) as caught:
            await Gateway.open(config_of(CONFIG), {}, Record())
        assert f"server.listen: cannot listen on 127.0.0.1:0: {words}" in str(caught.value)

    run(main())
