"""Requests for embeddings read and edited, vectors of both forms read, judged and written."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Completion, RequestFacts, Usage
from crossfade.core.failure import Failure, FailureReason
from crossfade.core.target import Target
from crossfade.core.validation import check_completion
from crossfade.wire.openai_embeddings import read_embeddings, read_request, vector_as, write_embeddings

R = FailureReason
FLOATS = RequestFacts(asks="embeddings", inputs=2)
BASE64 = RequestFacts(asks="embeddings", inputs=2, encoding="base64")


def target(model: str = "m2", **more: Any) -> Target:
    return Target(key=f"p/{model}#0", name=f"p/{model}", provider="p", model=model, **more)


def read(**fields: Any) -> Any:
    return read_request(json.dumps({"model": "m", "input": "x", **fields}).encode(), {})


def refused(body: bytes) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        read_request(body, {})
    return caught.value.param


# --- requests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "texts", "count"),
    [
        ("one", ("one",), 1), (["one"], ("one",), 1), (["one", "two"], ("one", "two"), 2), ([1, 2, 3], None, 1),
        ([[1, 2], [3]], None, 2),
    ],
)  # fmt: skip
def test_inputs_are_texts_or_tokens(given: Any, texts: tuple[str, ...] | None, count: int) -> None:
    inbound = read(input=given)
    assert (inbound.texts, inbound.facts.inputs, inbound.facts.asks) == (texts, count, "embeddings")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"model":"m"}', "input"), (b'{"input":"x"}', "model"), (b'{"model":"m","input":""}', "input"),
        (b'{"model":"m","input":[]}', "input"), (b'{"model":"m","input":["a",""]}', "input"),
        (b'{"model":"m","input":["a",1]}', "input"), (b'{"model":"m","input":{"a":1}}', "input"),
        (b'{"model":"m","input":[1.5]}', "input[0]"), (b'{"model":1,"input":"x"}', "model"),
        (b'{"model":"m","input":"x","encoding_format":1}', "encoding_format"),
        (b'{"model":"m","input":"x","dimensions":0}', "dimensions"),
        (b'{"model":"m","input":"x","dimensions":"4"}', "dimensions"),
        (b'{"model":"m","input":"x","input":"y"}', "input"), (b'{"model":"m","input":"x","crossfade":{"tiemout":1}}',
        "crossfade.tiemout"), (b'{"model":"m","input":"x","fallback_on":["sever_error"]}', "fallback_on"),
        (b"[]", None), (b"nonsense", None), (b'{"model":"m","input":"\xff"}', None), (b"", None),
        (b"[" * 5000, None),
    ],
)  # fmt: skip
def test_a_bad_request_is_refused_by_its_field(body: bytes, field: str | None) -> None:
    assert refused(body) == field


def test_more_texts_than_any_api_takes_are_refused() -> None:
    assert refused(json.dumps({"model": "m", "input": ["x"] * 10_001}).encode()) == "input"


def test_the_bytes_pass_but_for_the_model_and_what_is_ours() -> None:
    plain = b'{ "input": ["\\u00e4"],  "model": "m", "user": "u", "new": {"a": 1.0} }'
    inbound = read_request(plain, {})
    assert inbound.body(target("m"), False, False) == plain
    assert inbound.body(target(), False, False) == plain.replace(b'"m"', b'"m2"')
    ours = read(fallback_models=["b/m"], fallback_on=["timeout"], crossfade={"timeout": "5s"}, user="u")
    assert json.loads(ours.body(target(), False, False)) == {"model": "m2", "input": "x", "user": "u"}
    assert ours.ours.fallback_models is not None and ours.ours.options is not None
    edited = read(user="u").body(target(set_params=(("dimensions", b"4"),), drop_params=("user",)), False, False)
    assert json.loads(edited) == {"model": "m2", "input": "x", "dimensions": 4}
    assert read(task="a").others == ("task",)


def test_nobody_can_make_a_chat_of_it() -> None:
    with pytest.raises(InvalidRequest):
        read().canonical()


# --- answers -------------------------------------------------------------------------------------------------


def base64_of(*numbers: float) -> str:
    return b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def answer(*vectors: Any, **more: Any) -> bytes:
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return json.dumps({"object": "list", "data": data, "model": "m", "usage": usage, **more}).encode()


def failure(value: Any) -> Failure:
    return Failure(reason=R.SERVER_ERROR, detail="read")


def found(body: bytes, facts: RequestFacts = FLOATS) -> Any:
    return read_embeddings(body, failure, facts)


def judged(body: bytes, facts: RequestFacts = FLOATS) -> FailureReason | None:
    read = found(body, facts)
    wrong = read if isinstance(read, Failure) else check_completion(read, facts)
    return None if wrong is None else wrong.reason


def test_vectors_come_in_the_order_of_their_numbers() -> None:
    data = [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1, 2.5]}]
    completion = found(json.dumps({"data": data}).encode())
    assert [json.loads(vector) for vector in completion.vectors] == [[1, 2.5], [3, 4]]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (answer([1, 2], [3, 4]), None), (answer([1, 2], [3, 4], error=None), None),
        (answer([1, 2]), R.MALFORMED_OUTPUT), (answer([1], [2], [3]), R.MALFORMED_OUTPUT),
        (answer([1, 2], [3]), R.MALFORMED_OUTPUT), (answer([], []), R.MALFORMED_OUTPUT), (answer(), R.EMPTY_OUTPUT),
        (answer([1, None], [3, 4]), R.MALFORMED_OUTPUT), (answer(["1"], ["2"]), R.MALFORMED_OUTPUT),
        (answer(None, None), R.MALFORMED_OUTPUT), (answer("AAAA", "AAAA"), None),
        (answer("!", "!"), R.MALFORMED_OUTPUT), (answer([[1]], [[2]]), R.MALFORMED_OUTPUT),
        (b"", R.MALFORMED_OUTPUT), (b"{}", R.MALFORMED_OUTPUT), (b"[]", R.MALFORMED_OUTPUT),
        (b'{"data":{}}', R.MALFORMED_OUTPUT), (b'{"error":{"message":"x"}}', R.SERVER_ERROR),
        (b'{"message":"x"}', R.SERVER_ERROR), (answer([1, 2], [3, 4], error={"message": "x"}), R.SERVER_ERROR),
        (answer([1, 2], [3, 4]).replace(b'"index": 1', b'"index": 0'), R.MALFORMED_OUTPUT),
        (answer([1, 2], [3, 4]).replace(b'"index": 1', b'"index": 7'), R.MALFORMED_OUTPUT),
        (answer([1, 2], [3, 4])[:-20], R.MALFORMED_OUTPUT),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_told_from_one(body: bytes, reason: FailureReason | None) -> None:
    assert judged(body) == reason


def test_as_many_numbers_as_were_asked_for() -> None:
    facts = RequestFacts(asks="embeddings", inputs=1, dimensions=3)
    assert judged(answer([1, 2, 3]), facts) is None
    assert judged(answer(base64_of(1, 2, 3)), facts) is None
    assert judged(answer([1, 2]), facts) is R.MALFORMED_OUTPUT


def test_base64_that_was_asked_for_holds_whole_numbers() -> None:
    assert judged(answer("AAAA", "AAAA"), BASE64) is R.MALFORMED_OUTPUT
    assert judged(answer(base64_of(1), base64_of(2)), BASE64) is None


def test_a_body_passes_but_for_numbers_where_base64_was_asked_for() -> None:
    assert found(answer([1, 2], [3, 4])).is_as_asked
    assert found(answer(base64_of(1, 2), base64_of(3, 4)), BASE64).is_as_asked
    assert found(answer(base64_of(1, 2), base64_of(3, 4))).is_as_asked, "nobody knows what is in it"
    assert read(encoding_format="base64_int8").facts.encoding == "other"
    text = found(answer([1, 2], [3, 4]), BASE64)
    assert not text.is_as_asked
    data = json.loads(write_embeddings(text))["data"]
    assert [one["embedding"] for one in data] == [base64_of(1, 2), base64_of(3, 4)]


def test_a_written_body_has_all_that_clients_read() -> None:
    completion = Completion(model="m", vectors=(b"[1.5]",), usage=Usage(prompt=7))
    assert json.loads(write_embeddings(completion)) == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [1.5]}],
        "model": "m",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_base64_holds_the_same_numbers(numbers: list[float]) -> None:
    assert json.loads(vector_as(json.dumps(numbers).encode(), "base64")) == base64_of(*numbers)
    facts = RequestFacts(asks="embeddings", inputs=1, dimensions=len(numbers), encoding="base64")
    assert judged(answer(numbers), facts) is None
