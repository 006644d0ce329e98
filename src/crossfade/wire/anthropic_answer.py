"""Anthropic messages, outbound: a whole answer to a canonical completion, and what streams share with it.

Decides what the words of an answer mean: stop reasons, blocks, counts of tokens. What an error means is said by the
provider, through a `FailureReader`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from crossfade.core.exchange import Choice, Completion, Finish, ToolCall, Usage
from crossfade.core.failure import Failure, FailureReason
from crossfade.wire.bounds import whole

FailureReader = Callable[[bytes], Failure]
"""What an error inside a 200 means, by its JSON: given by the provider, which knows the classes."""

FINISHES: Final = {
    "end_turn": Finish.STOP,
    "stop_sequence": Finish.STOP,
    "pause_turn": Finish.STOP,
    "max_tokens": Finish.LENGTH,
    "model_context_window_exceeded": Finish.LENGTH,
    "tool_use": Finish.TOOL_CALLS,
    "refusal": Finish.CONTENT_FILTER,
}


class OutputDetails(msgspec.Struct, gc=False):
    """What the output tokens were spent on."""

    thinking_tokens: int | None = None


class WireUsage(msgspec.Struct, gc=False):
    """Usage as it is on the wire. A field may be missing: in a stream the last value of each counts."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None

    def over(self, earlier: WireUsage | None) -> WireUsage:
        """This usage, and what an earlier one said of the fields it lacks."""
        if earlier is None:
            return self
        return WireUsage(*(
            new if (new := getattr(self, name)) is not None else getattr(earlier, name)
            for name in self.__struct_fields__
        ))  # fmt: skip

    def canonical(self) -> Usage:
        cached, written = whole(self.cache_read_input_tokens), whole(self.cache_creation_input_tokens)
        details = self.output_tokens_details
        return Usage(
            prompt=whole(self.input_tokens) + cached + written,
            completion=whole(self.output_tokens),
            cached=cached,
            cache_write=written,
            reasoning=whole(details.thinking_tokens) if details else 0,
        )


class _AnswerBlock(msgspec.Struct, gc=False):
    type: str
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw()
    citations: list[msgspec.Raw] | None = None


class _Answer(msgspec.Struct, gc=False):
    type: str | None = None
    id: str | None = None
    model: str | None = None
    content: list[_AnswerBlock] | None = None
    stop_reason: str | None = None
    usage: WireUsage | None = None
    error: msgspec.Raw = msgspec.Raw()


_decode_answer = msgspec.json.Decoder(_Answer).decode


def finish_of(word: str | None, *, has_content: bool) -> tuple[Finish | None, Failure | None]:
    """The canonical word for a `stop_reason`. An unknown one is a stop where there is content, else a failure."""
    if word is None:
        return None, None
    if (finish := FINISHES.get(word)) is not None:
        return finish, None
    if has_content:
        return Finish.STOP, None
    return None, Failure(reason=FailureReason.EMPTY_OUTPUT, detail="no content and an unknown stop reason")


def arguments_of(value: msgspec.Raw) -> str:
    """A tool call's `input` as compact JSON text; `{}` for one that is missing or null."""
    data = bytes(value)
    if not data or data == b"null":
        return "{}"
    return msgspec.json.format(data, indent=-1).decode()


def read_completion(body: bytes, read_failure: FailureReader) -> Completion | Failure:
    """A 2xx body; a Failure for an error in it, and for what is no answer."""
    try:
        answer = _decode_answer(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _no_answer(body, read_failure)
    if answer.type == "error" or bytes(answer.error) not in (b"", b"null"):
        return read_failure(body)
    if answer.content is None:
        return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail="no content in the body")
    choice = _choice(answer)
    return Completion(
        id=answer.id or "",
        model=answer.model or "",
        choices=[choice],
        usage=answer.usage.canonical() if answer.usage else None,
    )


def _no_answer(body: bytes, read_failure: FailureReader) -> Failure:
    """Not the shape of an answer: an error in another shape, or nothing that can be read."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail="the body is no JSON")
    if isinstance(value, dict) and (value.get("error") or value.get("type") == "error"):
        return read_failure(body)
    return Failure(reason=FailureReason.MALFORMED_OUTPUT, detail="the body is no message")


def _choice(answer: _Answer) -> Choice:
    texts: list[str] = []
    reasoning: list[str] = []
    calls: list[ToolCall] = []
    has_other = False
    for block in answer.content or ():
        if block.type == "text":
            texts.append(block.text or "")
            has_other = has_other or bool(block.citations)
        elif block.type == "tool_use":
            calls.append(ToolCall(block.id or "", block.name or "", arguments_of(block.input)))
        elif block.type == "thinking":
            reasoning.append(block.thinking or "")
        elif block.type != "redacted_thinking":
            has_other = True  # hosted tools, their results, containers
    text = "".join(texts)
    finish, failure = finish_of(answer.stop_reason, has_content=bool(text or calls or has_other))
    return Choice(
        text=text,
        reasoning="".join(reasoning),
        tool_calls=tuple(calls),
        finish=finish,
        raw_finish=answer.stop_reason,
        stopped_by_sequence=answer.stop_reason == "stop_sequence",
        has_other_content=has_other,
        failure=failure,
    )
