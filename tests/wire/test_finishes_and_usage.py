"""Every word for the end of an answer, every rule of counting tokens, by dialect: read whole and streamed, and written.

The tables say what providers document or were seen to send. A word of a reader's table that is not here fails.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from crossfade.core.assembly import Assembly
from crossfade.core.exchange import Choice, Completion, Finish, RequestFacts, StreamEvent, ToolCall, ToolDelta, Usage
from crossfade.core.failure import Failure
from crossfade.core.failure import FailureReason as R
from crossfade.providers.compatible import VENDORS
from crossfade.providers.registry import provider_for
from crossfade.wire import anthropic_answer, cohere, gemini, ollama, openai_response, responses_answer
from crossfade.wire.anthropic_stream import AnthropicStreamReader
from crossfade.wire.anthropic_writer import MessageWriter
from crossfade.wire.anthropic_writer import write_completion as write_message
from crossfade.wire.openai_chunks import ChunkWriter
from crossfade.wire.openai_response import write_completion
from crossfade.wire.openai_stream import ChunkReader
from crossfade.wire.responses_objects import write_completion as write_response
from crossfade.wire.responses_stream import ResponsesStreamReader
from crossfade.wire.responses_writer import ResponseWriter

Json = dict[str, Any]
STOP, LENGTH, CALLS, FILTERED = Finish.STOP, Finish.LENGTH, Finish.TOOL_CALLS, Finish.CONTENT_FILTER
ECHO: Final = b'"store":false'


def as_failure(data: Any) -> Failure:
    return Failure(reason=R.SERVER_ERROR)


def sse(*events: Json, named: bool = False) -> bytes:
    """Events as they come; `named`: with their type as the name of each."""
    return b"".join(
        (b"event: %s\n" % event["type"].encode() if named else b"") + b"data: %s\n\n" % json.dumps(event).encode()
        for event in events
    )


# --- answers of each dialect, by their end and their usage ----------------------------------------------------
#
# Each gives the answer whole and streamed: with text, with a call, or with nothing but its end.


def openai(word: Any, usage: Json | None, has: str) -> tuple[Completion | Failure, list[StreamEvent]]:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    by_kind: dict[str, Json] = {"text": {"content": "a"}, "call": {"tool_calls": [call]}, "nothing": {}}
    said = by_kind[has]
    head = {"id": "x", "model": "m"}
    whole = head | {"choices": [{"index": 0, "message": said, "finish_reason": word}], "usage": usage}
    chunks: list[Json] = [
        {"choices": [{"index": 0, "delta": said, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": word}]},
        {"choices": [], "usage": usage},
    ]
    reader = ChunkReader(RequestFacts(stream=True), read_error=as_failure)
    events = reader.feed(sse(*[head | chunk for chunk in chunks]) + b"data: [DONE]\n\n")
    return openai_response.read_completion(json.dumps(whole).encode(), as_failure), [*events]


def anthropic(word: Any, usage: Json | None, has: str) -> tuple[Completion | Failure, list[StreamEvent]]:
    call = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    by_kind: dict[str, list[Json]] = {"text": [{"type": "text", "text": "a"}], "call": [call], "nothing": []}
    blocks = by_kind[has]
    message: Json = {"id": "x", "type": "message", "role": "assistant", "model": "m", "content": []}
    whole = message | {"content": blocks, "stop_reason": word, "usage": usage}
    events: list[Json] = [{"type": "message_start", "message": message | {"usage": {"input_tokens": 0}}}]
    for block in blocks:
        events.append({"type": "content_block_start", "index": 0, "content_block": block | {"text": ""}})
        if block["type"] == "text":
            delta = {"type": "text_delta", "text": block["text"]}
            events.append({"type": "content_block_delta", "index": 0, "delta": delta})
        events.append({"type": "content_block_stop", "index": 0})
    events += [{"type": "message_delta", "delta": {"stop_reason": word}, "usage": usage}, {"type": "message_stop"}]
    reader = AnthropicStreamReader(as_failure)
    found = reader.feed(sse(*events, named=True))
    return anthropic_answer.read_completion(json.dumps(whole).encode(), as_failure), [*found]


def of_gemini(word: Any, usage: Json | None, has: str) -> tuple[Completion | Failure, list[StreamEvent]]:
    by_kind: dict[str, list[Json]] = {"text": [{"text": "a"}], "call": [{"functionCall": {"name": "f"}}], "nothing": []}
    parts = by_kind[has]
    body: Json
    if str(word).startswith("BLOCKED:"):
        body = {"promptFeedback": {"blockReason": word[8:]}}
    else:
        body = {"candidates": [{"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": word}]}
    body = body if usage is None else body | {"usageMetadata": usage}
    reader = gemini.GeminiReader(RequestFacts(stream=True), as_failure)
    events = reader.feed(sse(body).replace(b"\n", b"\r\n"))
    return gemini.read_completion(json.dumps(body).encode(), as_failure), [*events]


def responses(word: Any, usage: Json | None, has: str) -> tuple[Completion | Failure, list[StreamEvent]]:
    message = {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}
    call = {"type": "function_call", "id": "f", "call_id": "c", "name": "f", "arguments": "{}"}
    by_kind: dict[str, list[Json]] = {"text": [message], "call": [call], "nothing": []}
    items = by_kind[has]
    status, _, reason = word.partition(":")
    body: Json = {"id": "x", "object": "response", "model": "m", "status": status, "output": items, "usage": usage}
    if reason:
        body["incomplete_details"] = {"reason": reason}
    events: list[Json] = []
    for item in items:
        events.append({"type": "response.output_item.added", "output_index": 0, "item": item})
        if item is message:
            events.append({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "a"})
        events.append({"type": "response.output_item.done", "output_index": 0, "item": item})
    events.append({"type": f"response.{status}", "response": body})
    reader = ResponsesStreamReader(as_failure)
    found = reader.feed(sse(*events, named=True))
    return responses_answer.read_completion(json.dumps(body).encode(), as_failure), [*found]


def of_cohere(word: Any, usage: Json | None, has: str) -> tuple[Completion | Failure, list[StreamEvent]]:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    by_kind: dict[str, Json] = {"text": {"content": [{"text": "a"}]}, "call": {"tool_calls": [call]}, "nothing": {}}
    ending = {"finish_reason": word, "usage": usage}
    events: list[Json] = [{"type": "message-start", "id": "x"}]
    if has == "text":
        events.append({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "a"}}}})
    elif has == "call":
        events.append({"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": call}}})
        events.append({"type": "tool-call-end", "index": 0})
    reader = cohere.CohereReader(as_failure)
    found = reader.feed(sse(*events, {"type": "message-end", "delta": ending}, named=True) + b"data: [DONE]\n\n")
    whole = {"id": "x", "message": by_kind[has], **ending}
    return cohere.read_completion(json.dumps(whole).encode(), as_failure), [*found]


def of_ollama(word: Any, usage: Json | None, has: str) -> tuple[Completion | Failure, list[StreamEvent]]:
    call = {"function": {"name": "f", "arguments": {}}}
    by_kind: dict[str, Json] = {"text": {"content": "a"}, "call": {"tool_calls": [call]}, "nothing": {}}
    ending = {"done": True, **({} if word is None else {"done_reason": word}), **(usage or {})}
    lines = [{"message": by_kind[has], "done": False}, {"message": {"content": ""}, **ending}]
    reader = ollama.OllamaReader(as_failure)
    found = reader.feed(b"".join(json.dumps(one).encode() + b"\n" for one in lines))
    return ollama.read_completion(json.dumps({"message": by_kind[has], **ending}).encode(), as_failure), [*found]


READ: Final[dict[str, Callable[[Any, Json | None, str], tuple[Completion | Failure, list[StreamEvent]]]]] = {
    "openai": openai,
    "anthropic": anthropic,
    "gemini": of_gemini,
    "responses": responses,
    "cohere": of_cohere,
    "ollama": of_ollama,
}


def end_of(given: Completion | Failure) -> Finish | R | None:
    """The canonical word, or the reason of the failure that an end is."""
    if isinstance(given, Failure):
        return given.reason
    (choice,) = given.choices
    return choice.finish if choice.failure is None else choice.failure.reason


def put_together(events: list[StreamEvent]) -> Completion | Failure:
    answer = Assembly()
    for event in events:
        if event.failure is not None and event.raw_finish is None:
            return event.failure
        answer.add(event)
    return answer.completion()


# --- ends, read -----------------------------------------------------------------------------------------------

ENDS: Final[list[tuple[str, str, str, Finish | R]]] = [
    *[("openai", word, "text", end) for word, end in (
        ("stop", STOP), ("eos", STOP), ("eos_token", STOP), ("end_turn", STOP), ("stop_sequence", STOP),
        ("length", LENGTH), ("model_length", LENGTH), ("max_tokens", LENGTH),
        ("content_filter", FILTERED), ("refusal", FILTERED), ("sensitive", FILTERED),
        ("error", R.SERVER_ERROR), ("network_error", R.SERVER_ERROR),
        ("insufficient_system_resource", R.OVERLOADED), ("model_context_window_exceeded", R.CONTEXT_OVERFLOW),
        ("a_new_word", STOP),
    )],
    *[("openai", word, "call", CALLS) for word in ("tool_calls", "function_call", "tool_use")],
    ("openai", "stop", "call", STOP),  # a forced call ends so
    ("openai", "length", "call", LENGTH),  # cut arguments
    ("openai", "length", "nothing", LENGTH),  # all of it went to reasoning
    *[("anthropic", word, "text", end) for word, end in (
        ("end_turn", STOP), ("stop_sequence", STOP), ("pause_turn", STOP),
        ("max_tokens", LENGTH), ("model_context_window_exceeded", LENGTH), ("refusal", FILTERED), ("a_new_word", STOP),
    )],
    ("anthropic", "tool_use", "call", CALLS),
    ("anthropic", "end_turn", "nothing", STOP),
    ("anthropic", "stop_sequence", "nothing", STOP),
    ("anthropic", "refusal", "nothing", FILTERED),
    ("anthropic", "a_new_word", "nothing", R.EMPTY_OUTPUT),
    *[("gemini", word, has, FILTERED) for has in ("text", "nothing") for word in (
        "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_OTHER",
    )],
    *[("gemini", f"BLOCKED:{word}", "nothing", FILTERED) for word in (
        "SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY", "MODEL_ARMOR", "JAILBREAK",
    )],
    ("gemini", "STOP", "text", STOP),
    ("gemini", "STOP", "call", CALLS),
    ("gemini", "MAX_TOKENS", "text", LENGTH),
    ("gemini", "MAX_TOKENS", "nothing", LENGTH),
    *[("gemini", word, "text", R.INVALID_TOOL_CALL) for word in (
        "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS",
    )],
    *[("gemini", word, has, end) for word in ("OTHER", "FINISH_REASON_UNSPECIFIED", "NO_IMAGE", "A_NEW_WORD")
      for has, end in (("text", STOP), ("call", CALLS), ("nothing", R.EMPTY_OUTPUT))],
    ("responses", "completed", "text", STOP),
    ("responses", "completed", "call", CALLS),
    ("responses", "incomplete:max_output_tokens", "text", LENGTH),
    ("responses", "incomplete:max_output_tokens", "nothing", LENGTH),
    ("responses", "incomplete:content_filter", "text", FILTERED),
    ("responses", "incomplete:a_new_word", "text", LENGTH),
    ("responses", "failed", "text", R.SERVER_ERROR),
    ("responses", "cancelled", "text", R.SERVER_ERROR),
    *[("cohere", word, "text", end) for word, end in (
        ("COMPLETE", STOP), ("STOP_SEQUENCE", STOP), ("MAX_TOKENS", LENGTH), ("ERROR_TOXIC", FILTERED),
        ("ERROR", R.SERVER_ERROR), ("TIMEOUT", R.SERVER_ERROR), ("A_NEW_WORD", STOP),
    )],
    ("cohere", "TOOL_CALL", "call", CALLS),
    ("cohere", "COMPLETE", "call", CALLS),
    ("cohere", "COMPLETE", "nothing", STOP),
    ("cohere", "A_NEW_WORD", "nothing", R.EMPTY_OUTPUT),
    ("ollama", "stop", "text", STOP),
    ("ollama", "length", "text", LENGTH),
    ("ollama", "length", "nothing", LENGTH),
    ("ollama", "stop", "call", CALLS),
    ("ollama", "length", "call", LENGTH),
    ("ollama", "unload", "text", STOP),
    ("ollama", "load", "nothing", R.EMPTY_OUTPUT),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "word", "has", "end"), ENDS)
def test_an_end_means_the_same_whole_and_streamed(dialect: str, word: str, has: str, end: Finish | R) -> None:
    whole, events = READ[dialect](word, None, has)
    assert end_of(whole) is end
    assert end_of(put_together(events)) is end


@pytest.mark.parametrize("status", ["in_progress", "queued"])
def test_a_response_that_is_not_there_yet_is_no_answer(status: str) -> None:
    whole, events = responses(status, None, "text")
    assert end_of(whole) is R.MALFORMED_OUTPUT
    assert all(event.finish is None for event in events)


@pytest.mark.parametrize(
    ("dialect", "known"),
    [
        ("openai", {*openai_response.FINISHES, *openai_response.BAD_FINISHES}),
        ("anthropic", set(anthropic_answer.FINISHES)),
        ("gemini", {*gemini.FINISHES, *gemini.BROKEN_CALLS}),
        ("cohere", {*cohere.FINISHES, *cohere.FAILED}),
        ("ollama", set(ollama.FINISHES)),
    ],
)
def test_every_word_that_a_reader_knows_is_tested(dialect: str, known: set[str]) -> None:
    assert known <= {word for name, word, _, _ in ENDS if name == dialect}


# --- ends, written --------------------------------------------------------------------------------------------


def written(choice: Choice, usage: Usage | None = None) -> dict[str, tuple[Json, bytes]]:
    """The answer in the dialects of callers: the whole body, and the stream."""
    completion = Completion(id="x", model="m", created=5, choices=[choice], usage=usage)
    tools = tuple(
        ToolDelta(index=n, id=call.id, name=call.name, arguments=call.arguments)
        for n, call in enumerate(choice.tool_calls)
    )
    events = [StreamEvent(text=choice.text, refusal=choice.refusal), StreamEvent(tools=tools)]
    events.append(
        StreamEvent(
            finish=choice.finish,
            raw_finish=choice.raw_finish,
            stopped_by_sequence=choice.stopped_by_sequence,
            usage=usage,
        )
    )
    chunks = ChunkWriter(id="x", model="m", created=5, include_usage=True)
    message, response = MessageWriter(), ResponseWriter(ECHO)
    message.be("x", "m")
    response.be("resp_x", "m", 5)
    streams = {
        name: b"".join([writer.write(event) for event in events]) + writer.end()
        for name, writer in (("openai", chunks), ("anthropic", message), ("responses", response))
    }
    return {
        "openai": (json.loads(write_completion(completion)), streams["openai"]),
        "anthropic": (json.loads(write_message(completion, default_id="x")), streams["anthropic"]),
        "responses": (
            json.loads(write_response(completion, ECHO, default_id="x", default_created=5)),
            streams["responses"],
        ),
    }


def data_of(stream: bytes) -> list[Json]:
    lines = [line[6:] for line in stream.split(b"\n") if line.startswith(b"data: ") and line != b"data: [DONE]"]
    return [json.loads(line) for line in lines]


def ends_in(dialect: str, body: Json, stream: bytes) -> tuple[Any, Any]:
    """The words for the end in a body and in a stream."""
    events = data_of(stream)
    match dialect:
        case "openai":
            found = [one["finish_reason"] for event in events for one in event["choices"] if one["finish_reason"]]
            return body["choices"][0]["finish_reason"], *found
        case "anthropic":
            return body["stop_reason"], *[e["delta"]["stop_reason"] for e in events if e["type"] == "message_delta"]
        case _:
            bodies = [body, events[-1]["response"]]
            assert events[-1]["type"] == f"response.{bodies[1]['status']}"
            first, second = [":".join([one["status"], *(one["incomplete_details"] or {}).values()]) for one in bodies]
            return first, second


CALL: Final = (ToolCall("c", "f", "{}"),)
WRITTEN: Final[list[tuple[Choice, str, str, str]]] = [
    (Choice(text="a", finish=STOP), "stop", "end_turn", "completed"),
    (Choice(text="a", finish=STOP, raw_finish="STOP"), "stop", "end_turn", "completed"),
    (Choice(text="a", finish=STOP, raw_finish="pause_turn"), "stop", "pause_turn", "completed"),
    (Choice(text="a", finish=STOP, stopped_by_sequence=True), "stop", "stop_sequence", "completed"),
    (Choice(text="a", finish=LENGTH), "length", "max_tokens", "incomplete:max_output_tokens"),
    (Choice(text="a", finish=LENGTH, raw_finish="MAX_TOKENS"), "length", "max_tokens", "incomplete:max_output_tokens"),
    (
        Choice(text="a", finish=LENGTH, raw_finish="model_context_window_exceeded"),
        *("length", "model_context_window_exceeded", "incomplete:max_output_tokens"),
    ),
    (Choice(tool_calls=CALL, finish=CALLS), "tool_calls", "tool_use", "completed"),
    (Choice(tool_calls=CALL, finish=STOP), "stop", "tool_use", "completed"),
    (Choice(text="a", finish=FILTERED), "content_filter", "refusal", "incomplete:content_filter"),
    (Choice(text="a", finish=FILTERED, raw_finish="SAFETY"), "content_filter", "refusal", "incomplete:content_filter"),
    (Choice(refusal="no", finish=STOP), "stop", "refusal", "completed"),
]


@pytest.mark.parametrize(("choice", "chat", "message", "response"), WRITTEN)
def test_an_end_is_written_in_the_callers_words(choice: Choice, chat: str, message: str, response: str) -> None:
    made = written(choice)
    assert ends_in("openai", *made["openai"]) == (chat, chat)
    assert ends_in("anthropic", *made["anthropic"]) == (message, message)
    assert ends_in("responses", *made["responses"]) == (response, response)


def test_every_canonical_end_is_written() -> None:
    assert {choice.finish for choice, *_ in WRITTEN} == set(Finish)


# --- usage, read ----------------------------------------------------------------------------------------------

USAGES: Final[list[tuple[str, Json, Usage]]] = [
    # cached tokens and reasoning are parts of the sums
    (
        "openai",
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 7, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 20},
        },
        Usage(prompt=100, completion=50, cached=60, cache_write=7, reasoning=20),
    ),
    ("openai", {"prompt_tokens": 3, "completion_tokens": 2}, Usage(prompt=3, completion=2)),
    (
        "openai",
        {"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 5},
        Usage(prompt=9, completion=2, cached=4),
    ),
    # what was read from a cache and written to it stands beside the input; thinking is in the output
    (
        "anthropic",
        {
            "input_tokens": 11,
            "cache_creation_input_tokens": 264,
            "cache_read_input_tokens": 1028,
            "cache_creation": {"ephemeral_5m_input_tokens": 264, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 50,
            "output_tokens_details": {"thinking_tokens": 20},
        },
        Usage(prompt=1303, completion=50, cached=1028, cache_write=264, reasoning=20),
    ),
    ("anthropic", {"input_tokens": 3, "output_tokens": 2}, Usage(prompt=3, completion=2)),
    # thoughts stand beside the candidates, cached tokens are in the prompt, what tools brought stands beside it
    (
        "gemini",
        {
            "promptTokenCount": 100,
            "toolUsePromptTokenCount": 5,
            "candidatesTokenCount": 30,
            "thoughtsTokenCount": 20,
            "cachedContentTokenCount": 60,
            "totalTokenCount": 155,
        },
        Usage(prompt=105, completion=50, cached=60, reasoning=20),
    ),
    ("gemini", {"promptTokenCount": 3, "thoughtsTokenCount": 2}, Usage(prompt=3, completion=2, reasoning=2)),
    (
        "responses",
        {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 7},
            "output_tokens": 50,
            "output_tokens_details": {"reasoning_tokens": 20},
            "total_tokens": 150,
        },
        Usage(prompt=100, completion=50, cached=60, cache_write=7, reasoning=20),
    ),
    ("responses", {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}, Usage(prompt=3, completion=2)),
    # what is billed leaves the provider's own instructions out; thinking is in the output
    (
        "cohere",
        {
            "billed_units": {"input_tokens": 27, "output_tokens": 45},
            "tokens": {"input_tokens": 100, "output_tokens": 50, "reasoning_tokens": 20},
            "cached_tokens": 60,
        },
        Usage(prompt=100, completion=50, cached=60, reasoning=20),
    ),
    ("ollama", {"prompt_eval_count": 26, "eval_count": 298}, Usage(prompt=26, completion=298)),
    # a prompt that was known is not counted by versions of 2024
    ("ollama", {"eval_count": 50}, Usage(completion=50)),
]
WORD: Final = {
    "openai": "stop",
    "anthropic": "end_turn",
    "gemini": "STOP",
    "responses": "completed",
    "cohere": "COMPLETE",
    "ollama": "stop",
}


@pytest.mark.parametrize(("dialect", "given", "usage"), USAGES)
def test_usage_is_counted_by_one_rule_whole_and_streamed(dialect: str, given: Json, usage: Usage) -> None:
    whole, events = READ[dialect](WORD[dialect], given, "text")
    assert isinstance(whole, Completion) and whole.usage == usage
    assert [event.usage for event in events if event.usage is not None][-1] == usage


XAI: Final = {
    "prompt_tokens": 288,
    "completion_tokens": 27,
    "total_tokens": 628,
    "completion_tokens_details": {"reasoning_tokens": 313},
}


@pytest.mark.parametrize(
    ("vendor", "usage"),
    [
        ("xai", Usage(prompt=288, completion=340, reasoning=313)),
        ("openai", Usage(prompt=288, completion=27, reasoning=313)),
    ],
)
def test_a_vendor_whose_completion_tokens_leave_out_reasoning_has_them_added(vendor: str, usage: Usage) -> None:
    provider, facts = provider_for(VENDORS[vendor]), RequestFacts(stream=True)
    choice = {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}
    whole = provider.completion(json.dumps({"choices": [choice], "usage": XAI}).encode(), facts)
    assert isinstance(whole, Completion) and whole.usage == usage
    (event,) = [*provider.reader(facts).feed(sse({"choices": [], "usage": XAI}))]
    assert event.usage == usage


USAGE: Final = {"prompt_tokens": 5, "completion_tokens": 2}
PIECE: Final[Json] = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
END: Final[Json] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
ALONE: Final[Json] = {"choices": [], "usage": USAGE}


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([PIECE, END, ALONE], id="behind the end"),
        pytest.param([PIECE, END | {"usage": USAGE}], id="with the end"),
        pytest.param([PIECE, END | {"usage": USAGE, "x_groq": {"usage": USAGE}}, ALONE], id="twice"),
        pytest.param([PIECE | {"usage": USAGE | {"completion_tokens": 1}}, END | {"usage": USAGE}], id="all along"),
        pytest.param([PIECE | {"usage": None}, END, END | {"usage": USAGE}], id="with a second end"),
    ],
)  # fmt: skip
def test_the_last_usage_counts_wherever_a_stream_has_it(chunks: list[Json]) -> None:
    reader = ChunkReader(RequestFacts(stream=True), read_error=as_failure)
    events = reader.feed(sse(*chunks) + b"data: [DONE]\n\n")
    assert [event.usage for event in events if event.usage is not None][-1] == Usage(prompt=5, completion=2)


# --- usage, written -------------------------------------------------------------------------------------------


def test_usage_is_written_by_the_rule_of_each_caller() -> None:
    made = written(
        Choice(text="a", finish=STOP), Usage(prompt=1303, completion=50, cached=1028, cache_write=264, reasoning=20)
    )
    chat = {
        "prompt_tokens": 1303,
        "completion_tokens": 50,
        "total_tokens": 1353,
        "prompt_tokens_details": {"cached_tokens": 1028, "cache_write_tokens": 264},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    body, stream = made["openai"]
    assert body["usage"] == chat and data_of(stream)[-1]["usage"] == chat
    message = {
        "input_tokens": 11,
        "cache_creation_input_tokens": 264,
        "cache_read_input_tokens": 1028,
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 20},
    }
    body, stream = made["anthropic"]
    assert body["usage"] == message
    assert [event["usage"] for event in data_of(stream) if event["type"] == "message_delta"] == [message]
    response = {
        "input_tokens": 1303,
        "input_tokens_details": {"cached_tokens": 1028, "cache_write_tokens": 264},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 20},
        "total_tokens": 1353,
    }
    body, stream = made["responses"]
    assert body["usage"] == response and data_of(stream)[-1]["response"]["usage"] == response
