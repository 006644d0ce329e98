"""OpenAI's legacy completions, for callers: a prompt read as a chat turn, and answers written as completions.

Whatever target is asked, it is asked by chat. What chats cannot do (a suffix, several prompts, an echo) is refused by
name. Facts: the API reference of OpenAI, "Completions (legacy)".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Choice, Completion, Finish, StreamEvent, Usage
from crossfade.wire.members import read_members
from crossfade.wire.openai_request import ChatInbound, read_request
from crossfade.wire.openai_usage import usage_json
from crossfade.wire.ours import MAX_FIELD
from crossfade.wire.reading import BOM, check_size

_encode: Final = msgspec.json.encode

_REPEATED: Final = ("model", "prompt", "stream", "n", "stream_options", "fallback_models", "fallback_on", "crossfade")
_CHATS_OWN: Final = frozenset({"messages", "tools", "tool_choice", "functions", "function_call", "response_format"})
"""Members that chats have and completions have not: they would be taken for something there."""
_NOTHING: Final = (None, False, "")
_REFUSED: Final[Mapping[str, str]] = {
    "suffix": "a text to end in front of",
    "echo": "the prompt in the answer",
    "logprobs": "probabilities of tokens",
}


def read_completions_request(body: bytes, headers: Mapping[str, str]) -> ChatInbound:
    """The request in `body` as one for a chat. `headers` have lower-case names. Raises InvalidRequest naming the
    field."""
    check_size(body)
    try:
        members = read_members(body)
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except msgspec.DecodeError as error:
        if body.startswith(BOM):
            return read_completions_request(body[3:], headers)
        raise InvalidRequest(f"The body is no JSON object: {error}.") from None
    members.check_repeated(_REPEATED)
    values = dict(members.values)
    for field in _CHATS_OWN & values.keys():
        raise InvalidRequest(f"`{field}` is of chat completions; completions have a `prompt`.", param=field)
    prompt = _prompt(values.pop("prompt", None))
    for field, what in _REFUSED.items():
        if _small(values.pop(field, None), field) not in _NOTHING:
            raise InvalidRequest(f"`{field}` cannot be had: {what}, which chats do not give.", param=field)
    best_of, n = _small(values.pop("best_of", None), "best_of"), _small(values.get("n"), "n")
    if best_of is not None and best_of != (1 if n is None else n):
        message = "`best_of` cannot be other than `n`: chats give all that they make."
        raise InvalidRequest(message, param="best_of")
    values["messages"] = msgspec.Raw(_encode([{"role": "user", "content": prompt}]))
    return read_request(_encode(values), headers)


def _prompt(raw: msgspec.Raw | None) -> str:
    if raw is None:
        raise InvalidRequest("`prompt` is missing.", param="prompt", code="missing_required_parameter")
    try:
        given = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest("`prompt` cannot be read.", param="prompt") from None
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if isinstance(given, str):
        if not given:
            raise InvalidRequest("`prompt` is empty.", param="prompt")
        return given
    if isinstance(given, list) and given and all(isinstance(one, str) for one in given):
        what = f"has {len(given)} prompts; send a request for each"
    elif isinstance(given, list) and given:
        what = "is a list of tokens, which belong to one model; send text"
    else:
        what = "must be a text"
    raise InvalidRequest(f"`prompt` {what}.", param="prompt")


def _small(raw: msgspec.Raw | None, field: str) -> Any:
    if raw is None:
        return None
    if len(bytes(raw)) > MAX_FIELD:
        raise InvalidRequest(f"`{field}` is longer than {MAX_FIELD // 1024} KiB.", param=field)
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest(f"`{field}` cannot be read.", param=field) from None


# --- answers -------------------------------------------------------------------------------------------------


def _finish_json(finish: Finish | None) -> bytes:
    """Completions know no calls."""
    return b"null" if finish is None else _encode(Finish.STOP if finish is Finish.TOOL_CALLS else finish)


def _choice_json(choice: Choice) -> bytes:
    return b'{"text":%s,"index":%d,"logprobs":null,"finish_reason":%s}' % (
        _encode(choice.text or choice.refusal),
        choice.index,
        _finish_json(choice.finish),
    )


def write_completions_answer(completion: Completion, *, default_id: str, default_created: int) -> bytes:
    """A `text_completion` body. The defaults stand in where the provider gave none."""
    body = b'{"id":%s,"object":"text_completion","created":%d,"model":%s,"choices":[%s]' % (
        _encode(completion.id or default_id),
        completion.created or default_created,
        _encode(completion.model),
        b",".join([_choice_json(choice) for choice in completion.choices]),
    )
    usage = b"" if completion.usage is None else b',"usage":' + usage_json(completion.usage)
    return body + usage + b"}"


class CompletionsWriter:
    """Writes one downstream stream; `usage` is what its last chunk will say, if usage was asked for."""

    __slots__ = ("_finished", "_head", "_include_usage", "_tail", "usage")

    def __init__(self, *, id: str, model: str, created: int, include_usage: bool):  # noqa: A002 - the member's own name
        self._include_usage = include_usage
        self._finished: set[int] = set()
        self.usage: Usage | None = None
        self._head = b'data: {"id":%s,"object":"text_completion","created":%d,"model":%s,"choices":[' % (
            _encode(id),
            created,
            _encode(model),
        )
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"

    def write(self, event: StreamEvent) -> bytes:
        """The chunk that says what `event` says; b"" if it says nothing a caller of completions can hear."""
        if event.usage is not None:
            self.usage = event.usage
        text, finish = event.text or event.refusal, event.finish
        if finish is not None:
            if event.choice in self._finished:
                finish = None
            self._finished.add(event.choice)
        if not text and finish is None:
            return b""
        choice = b'{"text":%s,"index":%d,"logprobs":null,"finish_reason":%s}'
        return self._head + choice % (_encode(text), event.choice, _finish_json(finish)) + self._tail

    def end(self, member: bytes | None) -> bytes:
        """The usage if it was asked for, `member` (JSON text) as `crossfade` of a last chunk, and the marker."""
        pieces = []
        if self._include_usage and self.usage is not None:
            pieces.append(self._head + b'],"usage":%s}\n\n' % usage_json(self.usage))
        if member is not None:
            pieces.append(self._head + b'],"crossfade":%s}\n\n' % member)
        pieces.append(b"data: [DONE]\n\n")
        return b"".join(pieces)
