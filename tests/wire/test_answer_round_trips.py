"""Any answer, whole or streamed, written for a caller and read by the reader of the same dialect, is the same answer.

The Responses API has its own such tests, beside those of the order of its events (`test_responses_writer.py`).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.assembly import Assembly
from crossfade.core.exchange import Choice, Completion, Finish, RequestFacts, StreamEvent, ToolCall, Usage
from crossfade.core.failure import Failure
from crossfade.wire import anthropic_answer, openai_response
from crossfade.wire.anthropic_stream import AnthropicStreamReader
from crossfade.wire.anthropic_writer import MessageWriter
from crossfade.wire.anthropic_writer import write_completion as write_message
from crossfade.wire.openai_chunks import ChunkWriter
from crossfade.wire.openai_response import write_completion
from crossfade.wire.openai_stream import ChunkReader
from tests.wire.strategies import answers, events, finishes, usages

repeatable: Final = settings(derandomize=True, deadline=None, max_examples=120)
calls_in_order: Final = events.map(
    lambda given: sorted(given, key=lambda event: event.tools[0].index if event.tools else -1)
)
"""Words first, then one call after the other."""


def no_failure(data: Any) -> Failure:
    raise AssertionError(data)


def completion_of(choices: list[Choice], usage: Usage) -> Completion:
    return Completion(id="id_1", model="m", created=5, choices=choices, usage=usage)


def put_together(given: list[StreamEvent]) -> Completion:
    answer = Assembly()
    for event in given:
        answer.add(event)
    return answer.completion()


def plain(choice: Choice) -> Choice:
    """The choice as it is read back: the provider's own word is now ours, and calls have arguments."""
    calls = tuple(ToolCall(call.id, call.name, call.arguments or "{}") for call in choice.tool_calls)
    return msgspec.structs.replace(choice, tool_calls=calls, raw_finish=choice.finish and str(choice.finish))


# --- OpenAI chat ----------------------------------------------------------------------------------------------


@given(st.lists(answers(), min_size=1, max_size=3), usages())
@repeatable
def test_a_whole_chat_answer_is_read_back_as_it_was(choices: list[Choice], usage: Usage) -> None:
    for index, choice in enumerate(choices):
        choice.index = index
    completion = completion_of(choices, usage)
    found = openai_response.read_completion(write_completion(completion), no_failure)
    assert found == completion_of([plain(choice) for choice in choices], usage)


@given(events, finishes, usages())
@repeatable
def test_a_chat_stream_is_read_back_as_it_was(given_events: list[StreamEvent], finish: Finish, usage: Usage) -> None:
    wanted = [*given_events, StreamEvent(finish=finish, raw_finish=str(finish)), StreamEvent(usage=usage)]
    writer = ChunkWriter(id="id_1", model="m", created=5, include_usage=True)
    body = b"".join([writer.write(event) for event in wanted]) + writer.end()
    reader = ChunkReader(RequestFacts(stream=True), read_error=no_failure)
    found = put_together([*reader.feed(body), *reader.close()])
    assert reader.is_complete and reader.undecodable == 0
    assert found == msgspec.structs.replace(put_together(wanted), id="id_1", model="m", created=5)


# --- Anthropic messages ---------------------------------------------------------------------------------------


def as_message(choice: Choice) -> Choice:
    """What `docs/dialects/anthropic.md` says of answers: a refusal is text, and ends so; calls end with `tool_use`."""
    finish = choice.finish
    if choice.refusal:
        finish = Finish.CONTENT_FILTER
    elif choice.tool_calls and finish is Finish.STOP:
        finish = Finish.TOOL_CALLS
    return msgspec.structs.replace(
        choice, text=choice.text + choice.refusal, refusal="", finish=finish, raw_finish=None
    )


@given(answers(), usages())
@repeatable
def test_a_whole_message_is_read_back_as_it_was(choice: Choice, usage: Usage) -> None:
    body = write_message(completion_of([choice], usage), default_id="msg_default")
    found = anthropic_answer.read_completion(body, no_failure)
    assert isinstance(found, Completion)
    assert (found.id, found.model, found.usage) == ("id_1", "m", usage)
    assert msgspec.structs.replace(found.choices[0], raw_finish=None) == as_message(choice)


@given(calls_in_order, finishes, usages())
@repeatable
def test_a_stream_of_a_message_is_read_back_as_it_was(
    given_events: list[StreamEvent], finish: Finish, usage: Usage
) -> None:
    """Calls come one after the other here: that they may take turns elsewhere is seen in `test_anthropic_writer.py`."""
    wanted = [*given_events, StreamEvent(finish=finish, usage=usage)]
    writer = MessageWriter()
    writer.be("id_1", "m")
    body = b"".join([writer.write(event) for event in wanted]) + writer.end()
    reader = AnthropicStreamReader(no_failure)
    found = put_together([*reader.feed(body), *reader.close()])
    assert reader.is_complete and reader.undecodable == 0
    choice = put_together(wanted).choices[0]
    words = "".join(event.text + event.refusal for event in wanted)
    assert (found.id, found.model, found.usage) == ("id_1", "m", usage)
    read = msgspec.structs.replace(found.choices[0], raw_finish=None)
    assert read == msgspec.structs.replace(as_message(choice), text=words)
