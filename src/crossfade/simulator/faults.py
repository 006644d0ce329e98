"""The ways to fail, as data: one row a fault, with what it does on the wire and which options it takes.

`Step` is one scheduled call: a healthy answer or one of these. Nothing here does anything: `script.py` turns a step
into bytes, `server.py` performs them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal

import msgspec

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
PLACES = ("head", "start", "first", "middle", "last", "finish", "end")


class Group(StrEnum):
    """What kind of nuisance a fault is; the sections of its table."""

    HEALTHY = "healthy"
    STATUS = "status"
    CONNECTION = "connection"
    ANSWER = "answer"
    STREAM = "stream"


class Fault(msgspec.Struct, frozen=True):
    """One row: what happens, in a sentence; `is_legit`: a sound client takes the answer as a good one."""

    group: Group
    says: str
    options: frozenset[str] = frozenset()
    is_legit: bool = False


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one call meets, or `times` calls in a row. Times are seconds.

    `at`, where a fault strikes: `head` (nothing but the head was sent), `start` (before the first content), `first`
    (after the first content), `middle`, `last` (after the last content, before the finish reason), `finish` (after
    it, before the end marker), `end` (after everything but the end of the body); a number below 1 is a share of the
    content, a whole number a count of events. Bodies that are no streams are cut at the like share of their bytes.
    `retry_form`: `native` is the dialect's own way of saying `retry_after`; the others are `seconds`, `ms` and `date`
    (the Retry-After headers), `reset` (rate limit headers), `body` (in the message or details only).
    `seconds` is the time between two drips, `pace` the time between two events of a sound stream. `pieces` cuts
    the text of a stream. `continuation`: a request for the rest of a cut answer is honoured, answered from the
    start again (`replay`), or with another text (`differ`). `refuse_prefill`: 400 if an assistant turn is last.
    `error` is the status fault whose body an in-band error has. `headers` are sent beside the answer's own.
    """

    kind: str = "ok"
    times: int = 1
    delay: float = 0.0
    at: str | int | float = "middle"
    status: int = 418
    message: str | None = None
    error: str = "500"
    retry_after: float | None = None
    retry_form: Literal["native", "seconds", "ms", "date", "reset", "body"] = "native"
    seconds: float = 1.0
    text: str | None = None
    words: int = 60
    pieces: Literal["words", "chars"] | int = "words"
    pace: float = 0.0
    continuation: Literal["honour", "replay", "differ"] = "honour"
    refuse_prefill: bool = False
    headers: dict[str, str] | None = None

    def __post_init__(self) -> None:
        if (row := FAULTS.get(self.kind)) is None:
            raise ValueError(f"unknown fault {self.kind!r}; known are {', '.join(FAULTS)}")
        given = {name for name, default in _DEFAULTS.items() if getattr(self, name) != default}
        if unused := sorted(given - row.options - _ALWAYS):
            raise ValueError(f"fault {self.kind!r} has no option {unused[0]!r}; it takes {_listed(row.options)}")
        if isinstance(self.at, str) and self.at not in PLACES:
            raise ValueError(f"unknown place {self.at!r}; known are {', '.join(PLACES)}, or a number")
        if (row_of_error := FAULTS.get(self.error)) is None or row_of_error.group is not Group.STATUS:
            raise ValueError(f"{self.error!r} is no status fault")
        if self.retry_form != "native" and self.retry_after is None:
            raise ValueError("'retry_form' needs 'retry_after'")
        if min(self.times, self.words) < 1 or not 200 <= self.status <= 599:
            raise ValueError("'times' and 'words' are at least 1, 'status' is from 200 to 599")
        for name, value in (self.headers or {}).items():
            if not _TOKEN.fullmatch(name) or not (value.isascii() and value.isprintable()):
                raise ValueError(f"{name!r} is no header with a value that can be sent")
        if min(self.delay, self.pace, self.seconds, self.retry_after or 0.0) < 0:
            raise ValueError("times are not negative")

    @property
    def row(self) -> Fault:
        return FAULTS[self.kind]


def parse_step(given: object) -> Step:
    """A step from JSON: an object, or a text such as `cut@first` or `429; retry_after=3; retry_form=ms`.

    Raises ValueError saying what is wrong.
    """
    if isinstance(given, str):
        given = _read(given)
    try:
        return msgspec.convert(given, Step)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def _read(text: str) -> dict[str, Any]:
    name, *options = [part.strip() for part in text.split(";")]
    kind, at_sign, place = name.partition("@")
    fields: dict[str, Any] = {"kind": kind.strip()}
    for option in [*options, *([f"at={place}"] if at_sign else [])]:
        key, equals, value = option.partition("=")
        if not equals:
            raise ValueError(f"{option!r} is no option; write name=value")
        key, value = key.strip(), value.strip()
        fields[key] = value if key in _WORDS else _value(value)
    return fields


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _listed(options: frozenset[str]) -> str:
    return ", ".join(sorted(options | _ALWAYS - {"kind"}))


_WORDS = frozenset({"error", "message", "text"})  # never read as numbers
_ALWAYS = frozenset({"kind", "times", "delay"})
_TALK = frozenset({"text", "words", "pieces", "pace", "continuation", "refuse_prefill", "headers"})
_AT = _TALK | {"at"}
_DRIP = _TALK | {"seconds"}
_SAYS = frozenset({"message", "headers"})
_WAIT = _SAYS | {"retry_after", "retry_form"}


def _status(says: str, options: frozenset[str] = _SAYS) -> Fault:
    return Fault(Group.STATUS, says, options)


def _connection(says: str, options: frozenset[str] = frozenset(), *, is_legit: bool = False) -> Fault:
    return Fault(Group.CONNECTION, says, options, is_legit)


def _answer(says: str, options: frozenset[str] = _TALK, *, is_legit: bool = False) -> Fault:
    return Fault(Group.ANSWER, says, options, is_legit)


def _stream(says: str, options: frozenset[str] = _TALK, *, is_legit: bool = False) -> Fault:
    return Fault(Group.STREAM, says, options, is_legit)


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "ok": Fault(Group.HEALTHY, "A sound answer.", _TALK, is_legit=True),
        # An error status with the dialect's own error body.
        "400": _status("400: the request is invalid."),
        "401": _status("401: the key is wrong (Gemini: 400 API_KEY_INVALID)."),
        "402": _status("402: nothing left to pay with."),
        "403": _status("403: no permission."),
        "404": _status("404: there is no such model."),
        "408": _status("408: the provider's own timeout."),
        "413": _status("413: the request is too large."),
        "422": _status("422: the request cannot be processed."),
        "429": _status("429: rate limit; `retry_after` says how long, in `retry_form`.", _WAIT),
        "quota": _status("429: the quota of the account is used up."),
        "500": _status("500: the provider's server error."),
        "502": _status("502: bad gateway.", _WAIT),
        "503": _status("503: the provider is overloaded or down.", _WAIT),
        "504": _status("504: gateway timeout."),
        "529": _status("529: overloaded, in Anthropic's words.", _WAIT),
        "context": _status("400: the prompt is longer than the model's window, in the provider's words."),
        "content_filter": _status("The prompt is blocked: 400 (Azure's form), a refusal, or Gemini's promptFeedback."),
        "html_500": _status("500 with a page of HTML, as a proxy in front of the provider sends it."),
        "status": _status("Any `status`, with an error body that has no code of its own.", _SAYS | {"status"}),
        "redirect": _status("307 to another host."),
        # What the connection does.
        "refuse": _connection("Resets the connection as soon as the head is there, the body unread."),
        "reset": _connection("Resets the connection after the whole request, without an answer."),
        "close": _connection("Closes the connection after the whole request, without an answer."),
        "silence": _connection("Takes the request and never answers."),
        "slow_head": _connection("Sends the head a byte every `seconds`, then the answer.", _DRIP, is_legit=True),
        "garbage": _connection("Answers with bytes that are no HTTP."),
        "big_head": _connection("Answers with a head of a megabyte."),
        "half_head": _connection("Sends half of the head, then closes."),
        "bad_chunk": _connection("Half of the answer, then a chunk size that is no number.", _TALK),
        "bad_gzip": _connection("Says that the body is gzip, which it is not.", _TALK),
        "short_body": _connection("Announces more bytes than it sends, then closes.", _TALK),
        "early_eof": _connection("Closes in the middle of a chunk.", _TALK),
        "interim": _connection("103 Early Hints, then a sound answer.", _TALK, is_legit=True),
        "hang_up": _connection("A sound answer, then closes the connection unannounced.", _TALK, is_legit=True),
        # 200, and the answer is the trouble.
        "empty": _answer("A whole answer without any text.", frozenset()),
        "no_choices": _answer("A whole envelope without a single answer.", frozenset()),
        "malformed": _answer("200 with a body, or events, that are not JSON.", frozenset()),
        "html": _answer("200 with a page of HTML.", frozenset()),
        "truncated_json": _answer("The HTTP message is whole, the JSON in it ends in the middle."),
        "error_in_200": _answer("200 whose body, or first event, is an error.", _SAYS | {"error"}),
        "invalid_json": _answer("Prose where JSON was asked for.", frozenset()),
        "bad_tool_args": _answer("A tool call whose arguments are not JSON.", frozenset()),
        "unknown_tool": _answer("A call of a tool that the request does not have.", frozenset()),
        "length": _answer("Half of the text, and the finish reason says that the limit was met."),
        "filter": _answer("Half of the text, and the finish reason is the content filter's."),
        "refusal": _answer("The model refuses, in the dialect's own way.", frozenset()),
        "wrong_finish": _answer("A sound answer whose finish reason nobody knows.", is_legit=True),
        # Streams; a buffered answer gets the nearest thing.
        "cut": _stream("Closes the connection in the middle of the body, at `at`.", _AT),
        "cut_reset": _stream("Resets the connection in the middle of the body, at `at`.", _AT),
        "cut_clean": _stream("Ends the body as HTTP wants it, at `at`: only the provider's end is missing.", _AT),
        "stall": _stream("Goes silent at `at` and holds the connection open.", _AT),
        "error_event": _stream("An error event at `at`, then the end of the body.", _AT | _SAYS | {"error"}),
        "comments_only": _stream("Keep-alives every `seconds` and nothing else, for ever.", frozenset({"seconds"})),
        "drip": _stream("One event, or a sixteenth of a buffered body, every `seconds`.", _DRIP, is_legit=True),
        "empty_stream": _stream("A finish without any content.", frozenset()),
        "empty_first": _stream("The first piece of content is empty.", is_legit=True),
        "no_finish": _stream("The end marker without a finish reason (Gemini: neither)."),
        "no_done": _stream("A finish reason without the end marker (a cut for Anthropic).", is_legit=True),
        "double_done": _stream("The end marker twice.", is_legit=True),
        "finish_twice": _stream("The finish reason twice.", is_legit=True),
        "garbage_event": _stream("One event in the middle that is not JSON, then on.", is_legit=True),
        "endless_event": _stream("An event that never ends.", frozenset()),
    }
)

_DEFAULTS: Mapping[str, Any] = {field.name: field.default for field in msgspec.structs.fields(Step)}
HEALTHY = Step()
