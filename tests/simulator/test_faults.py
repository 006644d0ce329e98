"""Every row of the table of faults does on a socket what its sentence says, in every dialect, buffered and streamed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from crossfade.simulator.faults import FAULTS, Group, Step, parse_step
from crossfade.simulator.playbook import HTML
from crossfade.testing import ProviderSimulator, healthy_text
from tests.simulator.raw import (
    DIALECTS,
    ENOUGH_BYTES,
    PROMPT,
    Reply,
    Wire,
    ask,
    finishes_of,
    markers_of,
    path_of,
    request_body,
    request_bytes,
    text_of,
)

TEXT = healthy_text(PROMPT)
QUIET = 0.3

GOOD = {"openai": "stop", "anthropic": "end_turn", "gemini": "STOP"}
LENGTH = {"openai": "length", "anthropic": "max_tokens", "gemini": "MAX_TOKENS"}
FILTER = {"openai": "content_filter", "anthropic": "refusal", "gemini": "SAFETY"}
TOOLS = {"openai": "tool_calls", "anthropic": "tool_use", "gemini": "STOP"}


@dataclass
class Case:
    kind: str
    dialect: str
    stream: bool
    reply: Reply
    after: str

    @property
    def text(self) -> str:
        return text_of(self.dialect, self.stream, self.reply)

    @property
    def finishes(self) -> list[str]:
        return finishes_of(self.dialect, self.stream, self.reply)

    @property
    def markers(self) -> int:
        return markers_of(self.dialect, self.reply)

    @property
    def full_markers(self) -> int:
        return 0 if self.dialect == "gemini" or not self.stream else 1


def is_error_status(case: Case) -> None:
    reply = case.reply
    expected = {"quota": 429, "context": 400, "html_500": 500, "status": 418, "redirect": 307}
    status = expected.get(case.kind) or int(case.kind)
    if case.dialect == "gemini" and case.kind == "401":
        status = 400
    assert (reply.status, reply.ended) == (status, "kept")
    error = reply.json["error"]
    assert error["message"]
    if case.dialect == "anthropic":
        assert reply.json["type"] == "error"
    if case.dialect == "gemini":
        assert error["code"] == status


def is_blocked(case: Case) -> None:
    if case.dialect == "openai":
        assert (case.reply.status, case.reply.json["error"]["code"]) == (400, "content_filter")
    elif case.dialect == "anthropic":
        assert (case.reply.status, case.text, case.finishes) == (200, "", ["refusal"])
    else:
        body = json.loads(case.reply.events[0]) if case.stream else case.reply.json
        assert body["promptFeedback"]["blockReason"] and "candidates" not in body


def is_redirect(case: Case) -> None:
    assert case.reply.status == 307 and case.reply.headers["location"].startswith("http://")


def is_html(case: Case) -> None:
    assert case.reply.status == (500 if case.kind == "html_500" else 200)
    assert case.reply.headers["content-type"].startswith("text/html") and case.reply.body == HTML


def is_reset_unanswered(case: Case) -> None:
    assert (case.reply.raw, case.reply.ended) == (b"", "reset")


def is_closed_unanswered(case: Case) -> None:
    assert (case.reply.raw, case.reply.ended) == (b"", "eof")


def is_silent(case: Case) -> None:
    assert (case.reply.raw, case.reply.ended) == (b"", "open")


def is_no_http(case: Case) -> None:
    assert case.reply.raw and not case.reply.raw.startswith(b"HTTP/") and case.reply.ended == "eof"


def has_big_head(case: Case) -> None:
    assert case.reply.raw.index(b"\r\n\r\n") > 1_000_000


def has_half_head(case: Case) -> None:
    assert case.reply.raw.startswith(b"HTTP/1.1 200") and b"\r\n\r\n" not in case.reply.raw
    assert case.reply.ended == "eof"


def has_bad_chunk(case: Case) -> None:
    assert b"\r\nzz\r\n" in case.reply.raw and case.reply.body and case.reply.ended == "eof"


def is_no_gzip(case: Case) -> None:
    assert case.reply.headers["content-encoding"] == "gzip" and case.text == TEXT


def is_shorter_than_announced(case: Case) -> None:
    assert len(case.reply.body) < int(case.reply.headers["content-length"]) and case.reply.ended == "eof"
    assert case.text == TEXT


def ends_inside_a_chunk(case: Case) -> None:
    size, _, rest = case.reply.raw.partition(b"\r\n\r\n")[2].partition(b"\r\n")
    assert 0 < len(rest) < int(size, 16) and case.reply.ended == "eof"


def is_sound(case: Case) -> None:
    assert (case.reply.status, case.text, case.finishes) == (200, TEXT, [GOOD[case.dialect]])
    assert case.markers == case.full_markers and case.reply.ended == "kept"
    assert (case.after in ("eof", "reset")) if case.kind == "hang_up" else (case.after == "kept")
    if case.kind == "interim":
        assert case.reply.raw.startswith(b"HTTP/1.1 103 ")
    if case.kind == "garbage_event" and case.stream:
        with pytest.raises(json.JSONDecodeError):
            [json.loads(data) for data in case.reply.events if data != "[DONE]"]
    if case.kind in ("drip", "slow_head") and case.stream:
        assert case.reply.arrivals > 10


def is_empty(case: Case) -> None:
    assert (case.reply.status, case.text, case.finishes) == (200, "", [GOOD[case.dialect]])
    assert case.reply.ended == "kept" and case.markers == case.full_markers


def has_no_choices(case: Case) -> None:
    assert (case.reply.status, case.finishes, case.reply.ended) == (200, [], "kept")
    body = case.reply.json if not case.stream else json.loads(case.reply.events[0]) if case.reply.events else {}
    assert not body.get("choices") and not body.get("content") and not body.get("candidates")


def is_malformed(case: Case) -> None:
    assert case.reply.status == 200 and case.reply.ended == "kept"
    pieces = [one for one in case.reply.events if one != "[DONE]"] if case.stream else [case.reply.body.decode()]
    assert pieces
    for piece in pieces:
        if "message_stop" not in piece:
            with pytest.raises(json.JSONDecodeError):
                json.loads(piece)


def is_truncated_json(case: Case) -> None:
    assert case.reply.ended == "kept"
    if case.stream:
        assert case.finishes == [] and case.markers == 0 and 0 < len(case.text) < len(TEXT)
        assert not case.reply.body.endswith(b"\n")
    else:
        with pytest.raises(json.JSONDecodeError):
            case.reply.json  # noqa: B018


def is_error_in_200(case: Case) -> None:
    assert (case.reply.status, case.finishes, case.reply.ended) == (200, [], "kept")
    if case.stream:
        content, error = case.text, json.loads(next(data for data in case.reply.events if '"error"' in data))
        assert content == "" if case.kind == "error_in_200" else TEXT.startswith(content) and content
    else:
        error = case.reply.json
    assert error["error"]["message"]


def is_no_json_text(case: Case) -> None:
    assert case.finishes == [GOOD[case.dialect]]
    with pytest.raises(json.JSONDecodeError):
        json.loads(case.text)


def has_bad_arguments(case: Case) -> None:
    if case.dialect == "gemini":
        assert case.finishes == ["MALFORMED_FUNCTION_CALL"]
        return
    assert case.finishes == [TOOLS[case.dialect]]
    name, arguments = the_call(case)
    assert name == "lookup"
    with pytest.raises(json.JSONDecodeError):
        json.loads(arguments)


def calls_unknown_tool(case: Case) -> None:
    assert case.finishes == [TOOLS[case.dialect]]
    name, arguments = the_call(case)
    assert name == "no_such_tool" and json.loads(arguments) == {}


def the_call(case: Case) -> tuple[str, str]:
    """Name and argument text of the one tool call."""
    bodies = [json.loads(d) for d in case.reply.events if d != "[DONE]"] if case.stream else [case.reply.json]
    name = arguments = ""
    for body in bodies:
        if case.dialect == "openai":
            for choice in body["choices"]:
                for call in choice.get("delta", choice.get("message")).get("tool_calls", []):
                    name += call["function"].get("name", "")
                    arguments += call["function"].get("arguments", "")
        elif case.dialect == "anthropic" and case.stream:
            name += body.get("content_block", {}).get("name", "")
            arguments += body.get("delta", {}).get("partial_json", "")
        elif case.dialect == "anthropic":
            block = body["content"][0]
            name, arguments = (
                block["name"],
                block["input"] if isinstance(block["input"], str) else json.dumps(block["input"]),
            )
        else:
            for part in body["candidates"][0]["content"].get("parts", []):
                name, arguments = part["functionCall"]["name"], json.dumps(part["functionCall"]["args"])
    return name, arguments


def is_half(case: Case) -> None:
    word = (LENGTH if case.kind == "length" else FILTER)[case.dialect]
    assert case.finishes == [word] and case.text == TEXT[: len(TEXT) // 2]


def is_refusal(case: Case) -> None:
    if case.dialect == "openai":
        assert (case.text, case.finishes) == ("", ["stop"]) and b'"refusal":"' in case.reply.body
    else:
        assert case.finishes == [{"anthropic": "refusal", "gemini": "PROHIBITED_CONTENT"}[case.dialect]]


def has_unknown_finish(case: Case) -> None:
    assert (case.text, case.finishes) == (TEXT, ["out_of_cheese"])


def is_cut(case: Case) -> None:
    ends = {"cut": "eof", "cut_reset": "reset", "cut_clean": "kept", "stall": "open"}
    assert (case.reply.status, case.reply.ended) == (200, ends[case.kind])
    if case.stream:
        assert TEXT.startswith(case.text) and 0 < len(case.text) < len(TEXT)
        assert case.finishes == [] and case.markers == 0
    else:
        with pytest.raises(json.JSONDecodeError):
            json.loads(case.reply.raw.partition(b"\r\n\r\n")[2])


def is_kept_alive_only(case: Case) -> None:
    assert (case.reply.status, case.reply.is_whole) == (200, False)
    beats = {"openai": b": keep-alive\n\n", "gemini": b": keep-alive\r\n\r\n"}
    beat = (beats.get(case.dialect) or b'event: ping\ndata: {"type":"ping"}  \n\n') if case.stream else b"\n"
    assert case.reply.body.count(beat) > 1 and case.reply.body.replace(beat, b"") == b""


def has_no_finish(case: Case) -> None:
    if not case.stream:
        assert (case.text, case.finishes) == (TEXT, [GOOD[case.dialect]])
        return
    assert (case.text, case.finishes, case.markers, case.reply.ended) == (TEXT, [], case.full_markers, "kept")


def has_no_marker(case: Case) -> None:
    assert (case.text, case.finishes, case.markers) == (TEXT, [GOOD[case.dialect]], 0)


def has_two_markers(case: Case) -> None:
    assert (case.text, case.finishes, case.markers) == (TEXT, [GOOD[case.dialect]], 2 * case.full_markers)


def has_two_finishes(case: Case) -> None:
    assert (case.text, case.finishes) == (TEXT, [GOOD[case.dialect]] * (2 if case.stream else 1))


def never_ends_its_event(case: Case) -> None:
    assert len(case.reply.raw) > ENOUGH_BYTES - 1 and case.reply.events == [] and not case.reply.is_whole


EXPECTED: dict[str, Callable[[Case], None]] = {
    **{kind: is_error_status for kind, row in FAULTS.items() if row.group is Group.STATUS},
    "content_filter": is_blocked,
    "redirect": is_redirect,
    "html_500": is_html,
    "refuse": is_reset_unanswered,
    "reset": is_reset_unanswered,
    "close": is_closed_unanswered,
    "silence": is_silent,
    "garbage": is_no_http,
    "big_head": has_big_head,
    "half_head": has_half_head,
    "bad_chunk": has_bad_chunk,
    "bad_gzip": is_no_gzip,
    "short_body": is_shorter_than_announced,
    "early_eof": ends_inside_a_chunk,
    **dict.fromkeys(("ok", "slow_head", "interim", "hang_up", "drip", "empty_first", "garbage_event"), is_sound),
    "empty": is_empty,
    "empty_stream": is_empty,
    "no_choices": has_no_choices,
    "malformed": is_malformed,
    "html": is_html,
    "truncated_json": is_truncated_json,
    "error_in_200": is_error_in_200,
    "error_event": is_error_in_200,
    "invalid_json": is_no_json_text,
    "bad_tool_args": has_bad_arguments,
    "unknown_tool": calls_unknown_tool,
    "length": is_half,
    "filter": is_half,
    "refusal": is_refusal,
    "wrong_finish": has_unknown_finish,
    **dict.fromkeys(("cut", "cut_reset", "cut_clean", "stall"), is_cut),
    "comments_only": is_kept_alive_only,
    "no_finish": has_no_finish,
    "no_done": has_no_marker,
    "double_done": has_two_markers,
    "finish_twice": has_two_finishes,
    "endless_event": never_ends_its_event,
}

IS_OPEN = {"silence", "stall"}
IS_DRIPPED = {"drip", "slow_head", "comments_only"}


@pytest.fixture(scope="module")
def simulator() -> object:
    with ProviderSimulator() as running:
        yield running


def test_every_row_has_an_expectation() -> None:
    assert EXPECTED.keys() == FAULTS.keys()


@pytest.mark.parametrize("stream", [False, True], ids=["buffered", "streamed"])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kind", EXPECTED)
def test_fault_does_what_its_row_says(simulator: ProviderSimulator, kind: str, dialect: str, stream: bool) -> None:
    fault = f"{kind}; seconds=0.001" if kind in IS_DRIPPED else kind
    body = request_bytes(path_of(dialect, stream), request_body(dialect, stream), {"x-simulate": fault})
    with Wire(simulator.port) as wire:
        wire.send(body)
        # What never ends is looked at for a while; anything else is waited for.
        reply = wire.reply(QUIET if kind in IS_OPEN else 10.0) if kind != "comments_only" else some_of(wire)
        after = wire.after(body) if reply.ended == "kept" and FAULTS[kind].is_legit else ""
    EXPECTED[kind](Case(kind, dialect, stream, reply, after))


def some_of(wire: Wire) -> Reply:
    """The first keep-alives."""
    reply = Reply(b"", "open")
    while reply.body.count(b"\n") < 20:
        wire.fill(reply)
    return reply


PLACES_OF_TEN = {
    "head": -1,
    "start": 0,
    "first": 1,
    "middle": 5,
    "last": 10,
    "finish": 10,
    "end": 10,
    "0.3": 3,
    "1.0": 10,
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("place", PLACES_OF_TEN)
def test_streams_are_cut_where_asked(simulator: ProviderSimulator, place: str, dialect: str) -> None:
    text = "abcdefghij"
    reply = ask(simulator, dialect, True, f"cut@{place}; pieces=chars; text={text}")
    assert reply.ended == "eof"
    assert text_of(dialect, True, reply) == text[: max(0, PLACES_OF_TEN[place])]
    assert bool(reply.events) == (place != "head" and not (place == "start" and dialect == "gemini"))
    assert len(finishes_of(dialect, True, reply)) == (place in ("finish", "end"))
    assert markers_of(dialect, reply) == (place == "end" and dialect != "gemini")


def test_a_whole_number_counts_events(simulator: ProviderSimulator) -> None:
    assert len(ask(simulator, "openai", True, "cut@4").events) == 4
    assert len(ask(simulator, "openai", True, "cut@0").events) == 0


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stall_after_the_end_marker_holds_only_the_connection(simulator: ProviderSimulator, dialect: str) -> None:
    reply = ask(simulator, dialect, True, "stall@end", quiet=QUIET)
    assert (text_of(dialect, True, reply), reply.ended) == (TEXT, "open")
    assert finishes_of(dialect, True, reply) == [GOOD[dialect]]


def test_buffered_bodies_are_cut_at_the_like_share(simulator: ProviderSimulator) -> None:
    sizes = [len(ask(simulator, fault=f"cut@{at}").raw.partition(b"\r\n\r\n")[2]) for at in ("head", 7, "0.5", "end")]
    whole = len(ask(simulator).body)
    assert sizes == [0, 7, whole // 2, whole - 1]


def test_refusal_comes_before_the_body_is_read(provider_simulator: ProviderSimulator) -> None:
    provider_simulator.schedule("refuse")
    head = request_bytes(path_of("openai", False), b"")[: -len(b"\r\n\r\n")] + b"\r\n\r\n"
    with Wire(provider_simulator.port) as wire:
        wire.send(head.replace(b"content-length: 0", b"content-length: 100"))
        assert wire.reply().ended == "reset"
    assert provider_simulator.counts()["outcomes"] == {"refuse": 1}
    assert ask(provider_simulator).status == 200


FORMS = {
    ("openai", "native"): ("retry-after", "3"),
    ("anthropic", "native"): ("retry-after", "3"),
    ("openai", "seconds"): ("retry-after", "3"),
    ("gemini", "seconds"): ("retry-after", "3"),
    ("openai", "ms"): ("retry-after-ms", "3000"),
    ("openai", "reset"): ("x-ratelimit-reset-requests", "3s"),
}


@pytest.mark.parametrize(("dialect", "form"), FORMS)
def test_waiting_is_said_in_the_form_asked_for(simulator: ProviderSimulator, dialect: str, form: str) -> None:
    name, value = FORMS[dialect, form]
    reply = ask(simulator, dialect, fault=f"429; retry_after=3; retry_form={form}")
    assert (reply.status, reply.headers[name]) == (429, value)


def test_waiting_is_said_in_dates_and_bodies(simulator: ProviderSimulator) -> None:
    assert ask(simulator, fault="429; retry_after=3; retry_form=date").headers["retry-after"].endswith(" GMT")
    reply = ask(simulator, "anthropic", fault="429; retry_after=3; retry_form=reset")
    assert reply.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    reply = ask(simulator, "gemini", fault="429; retry_after=3.5")
    assert "retry-after" not in reply.headers
    details = reply.json["error"]["details"]
    assert details[-1] == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3.5s"}
    assert "PerMinute" in details[0]["violations"][0]["quotaId"]
    reply = ask(simulator, fault="429; retry_after=3.5; retry_form=body")
    assert "retry-after" not in reply.headers and "try again in 3.5s" in reply.json["error"]["message"]
    assert "retry-after" not in ask(simulator, fault="429").headers


def test_in_band_errors_are_those_asked_for(simulator: ProviderSimulator) -> None:
    reply = ask(simulator, "anthropic", True, "error_event@first; error=529")
    assert json.loads(reply.events[-1])["error"]["type"] == "overloaded_error"
    assert ask(simulator, fault="error_in_200; error=quota; message=gone").json["error"]["message"] == "gone"
    assert ask(simulator, fault="status; status=599").status == 599


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("cat", "unknown fault 'cat'"),
        ("cut@nowhere", "unknown place 'nowhere'"),
        ("silence@first", "has no option 'at'"),
        ({"kind": "500", "retry_after": 3}, "has no option 'retry_after'"),
        ({"kind": "cut", "wher": "first"}, "wher"),
        ({"kind": "429", "retry_form": "ms"}, "needs 'retry_after'"),
        ({"kind": "error_event", "error": "cut"}, "no status fault"),
        ({"kind": "ok", "times": 0}, "at least 1"),
        ({"kind": "ok", "delay": -1}, "not negative"),
        ("429; soon", "write name=value"),
        (7, "Expected"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(given: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_step(given)


def test_faults_are_read_from_text_and_objects_alike() -> None:
    assert parse_step("cut@0.5; delay=0.1") == parse_step({"kind": "cut", "at": 0.5, "delay": 0.1})
    assert parse_step("cut @ first") == Step(kind="cut", at="first")
    assert parse_step("ok; text=17").text == "17"
    assert isinstance(parse_step("cut@3").at, int)
