"""How a caller of Anthropic's messages reads a stream: events that pass, events that are written, and both in one."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.assembly import MadeEvent, merged
from crossfade.core.exchange import Finish, RequestFacts, StreamEvent, Usage
from crossfade.core.failure import Failure, FailureReason
from crossfade.edge.anthropic_messages import MESSAGES, MessageEventWriter
from crossfade.wire.anthropic_stream import AnthropicStreamReader
from tests.e2e.messages import of_stream
from tests.recordings import load, names, needs_recordings
from tests.wire.anthropic_recorded import Answer as Recorded

ALL = names("anthropic", "messages") + names("vertex", "anthropic-messages")
STREAMS = [name for name in ALL if "-stream-" in name and "-error-" not in name]
HOSTED = ("server-tool",)
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def writer() -> MessageEventWriter:
    return MESSAGES.writer(RequestFacts(stream=True), "cf-1")


def events_of(body: bytes) -> list[StreamEvent]:
    reader = AnthropicStreamReader(lambda _: Failure(reason=FailureReason.SERVER_ERROR))
    found = [*reader.feed(body), *reader.close()]
    assert reader.is_complete
    return found


def of(name: str) -> bytes:
    body: bytes = load(name)["response"]["body"].encode()
    return body


def let_out(events: list[StreamEvent], on: MessageEventWriter | None = None) -> bytes:
    """What a gate lets out of a stream that passes: its own events as they came, and what was made of some anew."""
    on = on or writer()
    passed, written = on.leg(True), on.leg(False)
    pieces = [(written if type(event) is MadeEvent else passed)(event) for event in events if not event.is_end]
    return b"".join(pieces) + on.end(None, None)


@needs_recordings
@pytest.mark.parametrize("name", STREAMS)
def test_recorded_streams_pass_byte_for_byte(name: str) -> None:
    body = of(name)
    events = events_of(body)
    raw = b"".join(event.raw for event in events if not event.is_end)
    assert let_out(events) == raw + STOP
    end = next(event.raw for event in events if event.is_end)
    left_out = set(body.replace(b"\r\n", b"\n").split(b"\n\n")) - set((raw + end).split(b"\n\n"))
    assert not [event for event in left_out if b"data:" in event], "nothing of it is lost"


@needs_recordings
@pytest.mark.parametrize("name", [name for name in STREAMS if not any(word in name for word in HOSTED)])
def test_recorded_streams_mean_the_same_when_written_anew(name: str) -> None:
    body = of(name)
    on = writer()
    leg = on.leg(False)
    out = b"".join(leg(event) for event in events_of(body) if not event.is_end) + on.end(None, None)
    answer, recorded = of_stream(out), Recorded.of_stream(body.decode())
    assert (answer.id, answer.model) == (recorded.id, recorded.model)
    assert (answer.text, answer.thinking) == (recorded.text, recorded.reasoning)
    assert [(i, *call) for i, call in zip(answer.call_ids, answer.calls, strict=True)] == recorded.calls
    assert answer.stop_reason == recorded.stop_reason
    again = Recorded.of_stream(out.decode())
    assert again.tokens == recorded.tokens


@needs_recordings
@pytest.mark.parametrize("name", [name for name in STREAMS if not any(word in name for word in HOSTED)])
def test_recorded_streams_mean_the_same_when_their_pieces_are_put_together(name: str) -> None:
    """What is held for long is put together, and leaves among events that pass."""
    body = of(name)
    together = merged(events_of(body))
    out = let_out(together)
    assert len(out) <= len(body) + len(STOP)
    again, recorded = Recorded.of_stream(out.decode()), Recorded.of_stream(body.decode())
    assert again == recorded


TEXT = b"".join(
    f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
    for event in [
        {"type": "message_start", "message": {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
            "stop_sequence": None, "usage": {"input_tokens": 3, "cache_creation_input_tokens": 0,
                                             "cache_read_input_tokens": 0, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0,
         "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "ping"},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        *[{"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": w}} for w in "abc"],
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
         "usage": {"output_tokens": 5, "input_tokens": 3, "cache_creation_input_tokens": 0,
                   "cache_read_input_tokens": 0}},
        {"type": "message_stop"},
    ]
)  # fmt: skip


@given(at=st.integers(1, 10), again=st.integers(1, 3))
def test_a_stream_goes_on_from_wherever_it_was_cut(at: int, again: int) -> None:
    """Behind any of its events (but its end) a stream of another provider is written on: one start, one end, the
    blocks in order."""
    events = events_of(TEXT)
    on = writer()
    passed, written = on.leg(True), on.leg(False)
    out = b"".join(passed(event) for event in events[:at])
    for piece in itertools.repeat("d", again):
        out += written(StreamEvent(text=piece, id="other", model="other"))
    out += written(StreamEvent(finish=Finish.LENGTH, raw_finish="length", usage=Usage(prompt=1, completion=1)))
    out += on.end(Usage(prompt=30, completion=50), b'{"joined":[]}')
    answer = of_stream(out)
    assert answer.text == "".join(event.text for event in events[:at]) + "d" * again
    assert (answer.id, answer.model, answer.stop_reason) == ("msg_1", "m", "max_tokens")
    assert (answer.usage["input_tokens"], answer.usage["output_tokens"]) == (30, 50)
    assert answer.extra == {"joined": []} and out.count(b"message_start\n") == out.count(b"message_stop\n") == 1


def test_the_member_of_a_stream_that_passed_is_in_its_last_event() -> None:
    events = events_of(TEXT)
    on = writer()
    passed = on.leg(True)
    out = b"".join(passed(event) for event in events if not event.is_end) + on.end(None, b'{"attempts":[]}')
    assert out.endswith(b'data: {"type":"message_stop","crossfade":{"attempts":[]}}\n\n')
    assert of_stream(out).extra == {"attempts": []}


def test_an_answer_without_an_id_gets_that_of_the_request() -> None:
    on = writer()
    leg = on.leg(False)
    out = leg(StreamEvent(model="served")) + leg(StreamEvent(text="x")) + leg(StreamEvent(finish=Finish.STOP))
    answer = of_stream(out + on.end(None, None))
    assert (answer.id, answer.model) == ("msg_cf-1", "served")


def test_errors_and_members_are_in_the_dialects_form() -> None:
    value = json.loads(MESSAGES.error(429, "c", "slow", b'{"attempts":[]}', "p"))
    assert value == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "slow", "code": "c", "param": "p"},
        "crossfade": {"attempts": []},
    }
    assert MESSAGES.comment("hi") == b": crossfade hi\n\n"
    assert json.loads(MESSAGES.with_member(b'{"id":1}', b"[2]")) == {"id": 1, "crossfade": [2]}
