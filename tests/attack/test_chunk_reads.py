"""A chunked response is heard the same whether its chunks come one a read or byte by byte, whatever else it is."""

from __future__ import annotations

import itertools
import random

import pytest

from tests.http1.responses import Fact
from tests.http1.test_client import Peer

RESPONSES_PER_SEED = 400

CONTENTS = [
    b"x", b"hello", b"1\r\nX\r\n", b"5\r\nhello\r\n", b"\r\n", b"0\r\n\r\n", b"\n", b"\r", b'data: {"a":1}\n\n',
    b"a" * 16,
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"b" * 255, b"c" * 2040, b"c" * 2050, b"6\r\n1\r\nX\r\n\r\n",
]  # fmt: skip
ODD_LINES = [
    b"%X\r\n", b"0%x\r\n", b"%x;a=b\r\n", b"%x ;a\r\n", b'%x;a="b;c"\r\n', b'%x;a="\n"\r\n', b"%x;\r\n", b"%x\n",
    b"%x \r\n",
    b"%x\r\r\n", b"\r\n%x\r\n", b"0x%x\r\n", b"+%x\r\n", b"\n%x\r\n", b'%x;a="\r\n', b"%x;" + b"e" * 60 + b"\r\n",
]  # fmt: skip
ODD_ENDS = [b"\n", b"", b"\r", b"\r\r\n", b"x\r\n", b"\r\n\r\n"]
TRAILERS = [b"x-t: 1\r\n", b"bad\r\n", b"5\r\nhello\r\n", b"Content-Length: 3\r\n", b" f\r\n", b"\n"]
BEHIND = [b"5\r\nhello\r\n", b"X", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]


def response(dice: random.Random, is_last: bool) -> list[bytes]:
    """A response in the pieces that its framing makes of it; the last one of a connection may be broken."""
    is_odd = is_last and dice.random() < 0.5
    version = b"HTTP/1.0" if is_odd and dice.random() < 0.1 else b"HTTP/1.1"
    interim = [b"HTTP/1.1 100 Continue\r\n\r\n"] * dice.choice((0, 0, 1, 2))
    pieces = [*interim, version + b" 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
    for _ in range(dice.choice((0, 1, 3, 8, 20))):
        if dice.random() < 0.1:
            # In two of the three reads it is made for, a chunk that is none: behind the beginning of the real size.
            pieces += [b"1", b"5\r\nhello\r\n", b"a" * 14 + b"\r\n"]
            continue
        content = b"".join(dice.choices(CONTENTS, k=dice.choice((1, 1, 2))))
        line = dice.choice(ODD_LINES) if is_odd and dice.random() < 0.1 else b"%x\r\n"
        end = dice.choice(ODD_ENDS) if is_odd and dice.random() < 0.03 else b"\r\n"
        pieces += [line % len(content), content, end]
    trailers = [dice.choice(TRAILERS)] if is_odd and dice.random() < 0.2 else []
    behind = [dice.choice(BEHIND)] if is_odd and dice.random() < 0.3 else []
    return [*pieces, b"0\r\n", *trailers, b"\r\n", *behind]


def reads_of(dice: random.Random, pieces: list[bytes]) -> list[bytes]:
    """A chunk a read, or less regular ones, or some that begin or end next to where a piece does."""
    data = b"".join(pieces)
    edges = list(itertools.accumulate((len(piece) for piece in pieces), initial=0))
    heads = next(number for number, piece in enumerate(pieces) if b"chunked" in piece) + 1
    kind = dice.random()
    if kind < 0.2:
        cuts = set(edges)
    elif kind < 0.4:
        cuts = set(edges[heads::3])
    elif kind < 0.7:
        cuts = {edge for edge in edges[heads::3] if dice.random() < 0.8} | {e for e in edges if dice.random() < 0.2}
    else:
        cuts = {min(len(data), max(0, dice.choice(edges) + dice.randint(-2, 2))) for _ in range(12)}
    return [data[begin:end] for begin, end in itertools.pairwise(sorted({0, *cuts, len(data)}))]


def heard(responses: list[list[bytes]], ends: bool) -> tuple[list[list[Fact]], bool]:
    """What each exchange of one connection hears, up to that in which it ends, and whether it has."""
    peer, found = Peer(), []
    for reads in responses:
        peer.start()
        peer.feed(*reads)
        if ends and peer.facts[-1:] and peer.facts[-1][0] not in ("end", "failure"):
            peer.eof()
        found.append(list(peer.facts))
        if not peer.is_reusable or peer.transport.is_aborted:
            break
    return found, peer.transport.is_aborted


@pytest.mark.parametrize("seed", range(4))
def test_a_response_is_heard_the_same_in_any_reads(seed: int) -> None:
    for number in range(RESPONSES_PER_SEED):
        dice = random.Random(seed * 1_000_003 + number)
        count = dice.choice((1, 2, 3))
        responses = [response(dice, place == count - 1) for place in range(count)]
        ends = dice.random() < 0.5
        bytewise = [[bytes((byte,)) for byte in b"".join(pieces)] for pieces in responses]
        assert heard([reads_of(dice, pieces) for pieces in responses], ends) == heard(bytewise, ends), (seed, number)
