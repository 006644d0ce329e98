"""Embeddings as OpenAI's API has them: a caller's request, and answers read and written.

Decides what a request for embeddings is and what its answer must have for each vector to be one. That vectors of two
models must not be mixed is seen to where chains are chosen. Knows nothing of targets' addresses or keys.

The bytes of a request pass but for the model's name; those of an answer pass where its vectors are in the form that
was asked for.
"""

from __future__ import annotations

import base64
import re
import sys
from array import array
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import ChatRequest, Completion, Continuation, RequestFacts, Usage
from crossfade.core.failure import Failure, FailureReason
from crossfade.core.target import Dialect, Target
from crossfade.wire import openai_embeddings_shapes as shapes
from crossfade.wire.members import Members, joined, read_members
from crossfade.wire.openai_response import ReadError
from crossfade.wire.ours import OUR_FIELDS, Ours, read_ours
from crossfade.wire.reading import BOM, check_size, unreadable

MAX_INPUTS: Final = 10_000
"""Texts of one request; OpenAI takes 2,048."""
DECIDING: Final = ("model", "input", "encoding_format", "dimensions", *OUR_FIELDS)
"""Fields that must not come twice."""

_SAID: Final = frozenset(DECIDING)
_ENCODINGS: Final[Mapping[str | None, Literal["float", "base64"]]] = {
    None: "float",
    "float": "float",
    "base64": "base64",
}

_decode: Final = msgspec.json.Decoder(shapes.Request).decode
_decode_answer: Final = msgspec.json.Decoder(shapes.Answer).decode
_decode_numbers: Final = msgspec.json.Decoder(list[float]).decode
_decode_any: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.encode
_NUMBERS: Final = re.compile(rb"\[[-+0-9.eE,\s]+\]")
_BASE64: Final = re.compile(rb'"[A-Za-z0-9+/]+={0,2}"')


class EmbeddingsInbound:
    """A caller's request for embeddings; an `Inbound`. `texts` is None where the caller sent tokens, whose numbers mean
    something to one family of models only. Made by `read_request`."""

    __slots__ = ("_members", "dialect", "facts", "ours", "texts")

    @property
    def others(self) -> tuple[str, ...]:
        """Fields that only this dialect has."""
        return tuple(name for name in self._members.values if name not in _SAID)

    def __init__(self, members: Members, facts: RequestFacts, ours: Ours, texts: tuple[str, ...] | None) -> None:
        self.dialect: Dialect = "openai"
        self._members = members
        self.facts = facts
        self.ours = ours
        self.texts = texts

    def __repr__(self) -> str:
        return f"<EmbeddingsInbound {self.ours.model!r} of {self.facts.inputs}>"

    def member(self, name: str) -> bytes | None:
        """A field as JSON text; None where it is not there."""
        value = self._members.values.get(name)
        return None if value is None else bytes(value)

    def canonical(self) -> ChatRequest:
        """Raises InvalidRequest: whoever asks for it has no embeddings."""
        raise InvalidRequest("this provider's API has no embeddings", param="input")

    def body(
        self, target: Target, stream: bool, include_usage: bool, continuation: Continuation | None = None
    ) -> bytes:
        """The caller's bytes with the name of the target's model and its parameters, without our fields."""
        members = self._members
        if members.can_splice and members.values.keys().isdisjoint(OUR_FIELDS):
            if not (target.set_params or target.drop_params):
                return members.raw if target.model == self.ours.model else members.spliced({"model": target.model})
        fields = {name: bytes(value) for name, value in members.values.items() if name not in OUR_FIELDS}
        fields["model"] = _encode(target.model)
        for name in target.drop_params:
            fields.pop(name, None)
        fields.update(target.set_params)
        return joined(fields)


def read_request(body: bytes, headers: Mapping[str, str]) -> EmbeddingsInbound:
    """The request in `body`. `headers` have lower-case names. Raises InvalidRequest naming the field."""
    check_size(body)
    try:
        members = read_members(body)
        given = _decode(body)
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except msgspec.DecodeError as error:
        if body.startswith(BOM):
            return read_request(body[3:], headers)
        raise unreadable(body, error, _decode) from None
    if not members.can_splice:
        members.check_repeated(DECIDING)
    if "input" not in members.values:
        raise InvalidRequest("`input` is missing.", param="input", code="missing_required_parameter")
    texts, count = _inputs(given.input)
    if given.dimensions == 0:
        raise InvalidRequest("`dimensions` must be at least 1.", param="dimensions")
    facts = RequestFacts(
        asks="embeddings",
        input_tokens=len(body) // 4,
        inputs=count,
        dimensions=given.dimensions,
        encoding=_ENCODINGS.get(given.encoding_format, "other"),  # some vendors have more words than OpenAI
    )
    return EmbeddingsInbound(members, facts, read_ours(given.model, members.values, headers), texts)


def _inputs(given: str | list[Any]) -> tuple[tuple[str, ...] | None, int]:
    """The texts, None where they are tokens, and how many vectors they ask for."""
    if isinstance(given, str):
        given = [given]
    if not given or any(one in ("", []) for one in given):
        raise InvalidRequest("`input` must not be empty, nor any text in it.", param="input")
    kinds = {type(one) for one in given}
    if len(kinds) > 1:
        raise InvalidRequest("`input` must be of one kind: texts, tokens, or lists of tokens.", param="input")
    if kinds == {int}:
        return None, 1  # one text, as its tokens
    if len(given) > MAX_INPUTS:
        raise InvalidRequest(f"`input` has more than {MAX_INPUTS:,} texts.", param="input")
    return (tuple(given) if kinds == {str} else None), len(given)


# --- answers -------------------------------------------------------------------------------------------------


def read_embeddings(body: bytes, read_error: ReadError, facts: RequestFacts) -> Completion | Failure:
    """The vectors in a 2xx body, in the order of the inputs; or the failure that it is."""
    try:
        given = _decode_answer(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _no_answer(body, read_error)
    if given.error or given.object == "error" or given.data is None:
        return _no_answer(body, read_error)
    vectors: list[bytes | None] = [None] * len(given.data)
    for position, item in enumerate(given.data):
        place = position if item.index is None else item.index
        if not 0 <= place < len(vectors) or vectors[place] is not None:
            return _malformed("vectors that are numbered wrongly")
        vectors[place] = bytes(item.embedding)
    found = [vector for vector in vectors if vector is not None]
    if not all(map(_is_vector, found)):
        return _malformed("a vector that is none")
    usage = given.usage
    made = tuple([vector_as(vector, facts.encoding) for vector in found])
    return Completion(
        model=given.model or "",
        vectors=made,
        usage=None if usage is None else Usage(prompt=usage.prompt_tokens or usage.total_tokens or 0),
        is_as_asked=list(made) == found,
    )


def _is_vector(value: bytes) -> bool:
    """Whether a JSON value is a list of numbers, or base64 of some whole ones of four bytes."""
    if value[:1] == b"[":
        return is_numbers(value)
    return _BASE64.fullmatch(value) is not None


def is_numbers(value: bytes) -> bool:
    """Whether JSON text is a list of numbers, with at least one."""
    return _NUMBERS.fullmatch(value) is not None


def _no_answer(body: bytes, read_error: ReadError) -> Failure:
    try:
        value = _decode_any(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _malformed("a body that is no JSON" if body.strip() else "an empty body")
    if isinstance(value, dict) and (
        value.get("error") or value.get("object") == "error" or ("data" not in value and value.get("message"))
    ):
        return read_error(value)
    return _malformed("JSON that is no list of embeddings")


def _malformed(detail: str) -> Failure:
    return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail=detail)


def vector_as(vector: bytes, encoding: Literal["float", "base64", "other"]) -> bytes:
    """A vector as it was asked for, JSON text both ways. Numbers become base64; never the reverse: what a provider puts
    into base64 that it was not asked for is its own (Perplexity: numbers of one byte)."""
    if encoding != "base64" or vector[:1] == b'"':
        return vector
    numbers = array("f", _decode_numbers(vector))
    if sys.byteorder == "big":
        numbers.byteswap()
    return b'"%s"' % base64.b64encode(numbers.tobytes())


def write_embeddings(completion: Completion) -> bytes:
    """An embeddings body. A provider that does not count has used no tokens here."""
    items = [
        b'{"object":"embedding","index":%d,"embedding":%s}' % (index, vector)
        for index, vector in enumerate(completion.vectors)
    ]
    prompt = completion.usage.prompt if completion.usage is not None else 0
    return b'{"object":"list","data":[%s],"model":%s,"usage":{"prompt_tokens":%d,"total_tokens":%d}}' % (
        b",".join(items),
        _encode(completion.model),
        prompt,
        prompt,
    )
