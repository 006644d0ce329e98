"""Runs the recorded exchanges through the adapters, and writes what became of them to docs/dialects/recordings.md.

`APIS` is the one table of what is spoken: an API is added by giving it a `Spoken` in place of the reason why it is not
run. Each part of a `Spoken` takes the name of a recording and asserts; what is expected is read from the recording
without the readers under test. `python -m tests.providers.recorded` writes the page anew.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import ChatRequest, Completion, Finish, RequestFacts, StreamEvent
from crossfade.core.failure import FailureReason as R
from crossfade.core.target import Dialect
from crossfade.providers.base import Provider
from crossfade.providers.compatible import VENDORS
from crossfade.providers.openai import OpenAIProvider
from crossfade.providers.registry import provider_for
from crossfade.wire import anthropic_request
from crossfade.wire.openai_chat import read_request
from tests.providers import (
    test_bedrock,
    test_cohere,
    test_embeddings,
    test_errors,
    test_gemini,
    test_ollama,
    test_openai,
    test_responses,
    test_splits,
    test_vertex,
)
from tests.recordings import RECORDINGS, load
from tests.wire import test_gemini as gemini_answers
from tests.wire import test_gemini_request as gemini_requests
from tests.wire.anthropic_recorded import Answer, parsed

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "dialects" / "recordings.md"

NO_REQUEST: Final = "the source had no request"
HAND_WRITTEN: Final = "written by hand, without a request"
REFUSED: Final = "the request is malformed, and is refused without being sent"

Read = Literal["answer", "stream", "error"]


class Spoken(NamedTuple):
    """What is done with the recordings of an API. `request` gives the reason where there is none to rebuild."""

    request: Callable[[str], str]
    answer: Callable[[str], None]
    stream: Callable[[str], None]
    error: Callable[[str], None]


class Outcome(NamedTuple):
    """What was done with a recording, and why the rest of it was not."""

    is_rebuilt: bool
    read: Read | None
    why: str = ""


# --- OpenAI chat, at OpenAI and elsewhere --------------------------------------------------------------------


def _chat_request(name: str) -> str:
    """A caller's body goes on as it came, but for what docs/dialects/openai.md lists."""
    recording = load(name)
    given = recording["request"]["body"]
    if given is None:
        return NO_REQUEST
    given = copy.deepcopy(given)
    row = test_openai.vendor_of(name)
    inbound = read_request(json.dumps(given).encode(), {})
    stream = inbound.facts.stream
    sent = OpenAIProvider(row).request(inbound, test_openai.target(given["model"]), "key", stream)
    wanted = dict(given)
    options = wanted.pop("stream_options", None) or {}
    if stream and row.include_usage:
        wanted["stream_options"] = {**options, "include_usage": True}
    if row.max_tokens_field == "max_tokens" and "max_completion_tokens" in wanted:
        wanted["max_tokens"] = wanted.pop("max_completion_tokens")
    made = json.loads(sent.body)
    if row.call_id_length is not None:  # those that a recorder changed do not fit, and become others that do
        assert all(len(one) == row.call_id_length and one.isalnum() for one in _numbered_calls(made))
        _numbered_calls(wanted)
    assert made == wanted
    assert urlsplit(recording["request"]["url"]).path.endswith(sent.path)
    return ""


def _numbered_calls(body: dict[str, Any]) -> list[str]:
    """The ids of the tool calls in a body, which get numbers in their place: the same for the same id."""
    ids: list[str] = []
    for message in body["messages"]:
        for holder, key in [(message, "tool_call_id"), *((call, "id") for call in message.get("tool_calls") or ())]:
            if key in holder:
                if holder[key] not in ids:
                    ids.append(holder[key])
                holder[key] = ids.index(holder[key])
    return ids


def _chat_error(name: str) -> None:
    if name in test_openai.BROKEN:
        test_openai.test_recorded_streams_say_what_was_sent(name)
    elif name in test_openai.NO_ANSWER:
        test_openai.test_recorded_answers_are_read(name)
    else:
        _check_error(name, provider_for(test_openai.vendor_of(name)))


def _check_error(name: str, provider: Provider) -> None:
    recording = load(name)
    response = recording["response"]
    headers = {key.lower(): value for key, value in response["headers"].items()}
    failure = provider.failure(response["status"], headers, response["body"].encode())
    kind = recording["case"].removeprefix("error-").split("-", 1)[1]
    assert failure.status == response["status"] and failure.reason in test_errors.KINDS[kind]


# --- Anthropic messages --------------------------------------------------------------------------------------

ANTHROPIC: Final = provider_for(VENDORS["anthropic"])
FINISHES: Final = {
    "end_turn": Finish.STOP,
    "stop_sequence": Finish.STOP,
    "pause_turn": Finish.STOP,
    "max_tokens": Finish.LENGTH,
    "tool_use": Finish.TOOL_CALLS,
    "refusal": Finish.CONTENT_FILTER,
}


def _messages_request(name: str) -> str:
    """A caller's body goes on as it came."""
    recording = load(name)
    given = recording["request"]["body"]
    if given is None:
        return HAND_WRITTEN if recording["fidelity"] == "hand-written" else NO_REQUEST
    try:
        inbound = anthropic_request.read_request(json.dumps(given).encode(), {})
    except InvalidRequest:
        assert recording["case"] == "error-400-invalid-request"
        return REFUSED
    sent = ANTHROPIC.request(inbound, test_openai.target(given["model"]), "key", inbound.facts.stream)
    assert json.loads(sent.body) == given
    assert urlsplit(recording["request"]["url"]).path.endswith(sent.path)
    return ""


def _messages_answer(name: str) -> None:
    body = load(name)["response"]["body"]
    expected = Answer.of_body(body)
    found = ANTHROPIC.completion(body.encode(), RequestFacts())
    assert isinstance(found, Completion) and found.usage is not None
    (choice,) = found.choices
    assert (found.id, found.model, choice.text, choice.reasoning) == (
        expected.id, expected.model, expected.text, expected.reasoning,
    )  # fmt: skip
    assert [(call.id, call.name, json.loads(call.arguments)) for call in choice.tool_calls] == expected.calls
    assert (choice.raw_finish, choice.finish) == (expected.stop_reason, FINISHES[str(expected.stop_reason)])
    assert (found.usage.prompt, found.usage.completion) == expected.tokens[:2]


def _messages_stream(name: str) -> None:
    body = load(name)["response"]["body"]
    expected = Answer.of_stream(body)
    events, is_complete = _events(ANTHROPIC, body)
    assert is_complete and not any(event.failure for event in events)
    assert "".join(event.text for event in events) == expected.text
    assert "".join(event.reasoning for event in events) == expected.reasoning
    assert [(call, parsed(text)) for call, text in _calls(events)] == [
        (call[1], call[2]) for call in expected.calls
    ]  # fmt: skip
    assert [event.raw_finish for event in events if event.raw_finish] == [expected.stop_reason]
    usage = [event.usage for event in events if event.usage][-1]
    assert (usage.prompt, usage.completion) == expected.tokens[:2]


def _messages_error(name: str) -> None:
    if load(name)["response"]["status"] != 200:
        _check_error(name, ANTHROPIC)
        return
    events, is_complete = _events(ANTHROPIC, load(name)["response"]["body"])
    assert [event.failure.reason for event in events if event.failure] == [R.OVERLOADED] and not is_complete


# --- Gemini generate, at Google and at Vertex ----------------------------------------------------------------

GEMINI: Final = provider_for(VENDORS["gemini"])


class _Chat:
    """A caller of another dialect, who says what a recorded body of Gemini's says."""

    dialect: Dialect = "openai"
    facts = RequestFacts()

    def __init__(self, request: ChatRequest) -> None:
        self._request = request

    def canonical(self) -> ChatRequest:
        return self._request

    def body(self, *_: Any, **__: Any) -> bytes:
        raise AssertionError("the bytes of another dialect must not pass")


def _generate_request(name: str) -> str:
    """What Gemini was asked is asked again, but for the losses that docs/dialects/gemini.md lists."""
    recording = load(name)
    if not recording["request"]["body"]:
        return NO_REQUEST
    url = urlsplit(recording["request"]["url"])
    model = url.path.rpartition("/models/")[2].partition(":")[0]
    recorded = gemini_requests.plain(recording["request"]["body"])
    stream = "stream" in url.path.rpartition(":")[2]
    sent = GEMINI.request(_Chat(gemini_requests.canonical(recorded)), test_openai.target(model), "key", stream)
    assert url.path.endswith(sent.path.partition("?")[0])
    if name == "vertex/generate-error-400-invalid-request-01.json":
        return "the role that the request was refused for cannot be written"
    assert gemini_requests.rebuilt(recorded, model) == gemini_requests.losses(recorded)
    return ""


def _generate_answer(name: str) -> None:
    recording = load(name)
    given = json.loads(recording["response"]["body"])
    found = GEMINI.completion(recording["response"]["body"].encode(), RequestFacts())
    assert isinstance(found, Completion)
    (choice,) = found.choices
    (word,) = recording["finish_reasons"]
    assert (choice.raw_finish, choice.finish) == (word, gemini_answers.expected_finish([given], word))
    assert choice.text == gemini_answers.text_of([given], thought=False)
    assert choice.reasoning == gemini_answers.text_of([given], thought=True)
    calls = [(call.name, json.loads(call.arguments)) for call in choice.tool_calls]
    assert calls == gemini_answers.calls_of([given])
    gemini_answers.check_usage(found.usage, given.get("usageMetadata"))


def _generate_stream(name: str) -> None:
    recording = load(name)
    chunks = gemini_answers.chunks_of(recording)
    events, is_complete = _events(GEMINI, recording["response"]["body"])
    assert is_complete and not any(event.failure for event in events)
    assert [event.raw_finish for event in events if event.raw_finish] == recording["finish_reasons"]
    assert "".join(event.text for event in events) == gemini_answers.text_of(chunks, thought=False)
    assert "".join(event.reasoning for event in events) == gemini_answers.text_of(chunks, thought=True)
    assert [(call, json.loads(text)) for call, text in _calls(events)] == gemini_answers.calls_of(chunks)
    counts = [event.usage for event in events if event.usage is not None]
    gemini_answers.check_usage(counts[-1] if counts else None, chunks[-1].get("usageMetadata") if counts else None)


# --- OpenAI responses ----------------------------------------------------------------------------------------


def _responses_request(name: str) -> str:
    """A caller's body goes on as it came."""
    if name not in test_responses.REQUESTS:
        return NO_REQUEST
    test_responses.test_a_recorded_request_passes_as_it_came(name)
    return ""


# --- Bedrock: Converse, and Claude by InvokeModel ------------------------------------------------------------


def _converse_request(name: str) -> str:
    """What Converse was asked is asked again, but for the losses that docs/dialects/bedrock.md lists."""
    test_bedrock.test_a_recorded_chat_is_asked_as_it_was(name)
    return ""


def _invoke_request(name: str) -> str:
    """A messages caller's body goes on as it came, with the version in it."""
    test_bedrock.test_a_recorded_message_is_asked_as_it_was(name)
    return ""


# --- Cohere --------------------------------------------------------------------------------------------------


def _cohere_request(name: str) -> str:
    """What Cohere was asked is asked again."""
    test_cohere.test_a_recorded_chat_is_asked_as_it_was(name)
    return ""


# --- Claude at Vertex AI --------------------------------------------------------------------------------------


def _raw_predict_request(name: str) -> str:
    """A messages caller's body goes on as it came, with the version in it."""
    test_vertex.test_a_recorded_message_is_asked_as_it_was(name)
    return ""


# --- Ollama's own API ----------------------------------------------------------------------------------------


def _ollama_request(name: str) -> str:
    """What Ollama was asked is asked again."""
    test_ollama.test_a_recorded_chat_is_asked_as_it_was(name)
    return ""


def _never_an_error(name: str) -> None:
    raise AssertionError(f"{name}: no error of this API is recorded")


# --- embeddings ----------------------------------------------------------------------------------------------


def _vectors_request(name: str) -> str:
    """A caller's body goes on as it came; Gemini's is made anew of its texts."""
    try:
        (test_embeddings.rebuilt_from_texts if name.startswith("gemini/") else test_embeddings.rebuilt)(name)
    except InvalidRequest:
        assert load(name)["case"] == "error-400-invalid-request"
        return REFUSED
    return ""


def _cohere_embeddings_request(name: str) -> str:
    """Cohere's is made anew of its texts."""
    test_embeddings.rebuilt_for_cohere(name)
    return ""


def _never(name: str) -> None:
    raise AssertionError(f"{name}: embeddings are not streamed")


def _events(provider: Provider, body: str) -> tuple[list[StreamEvent], bool]:
    reader = provider.reader(RequestFacts(stream=True, include_usage=True))
    events = [*reader.feed(body.encode()), *reader.close()]
    assert reader.undecodable == 0
    return events, reader.is_complete


def _calls(events: list[StreamEvent]) -> list[tuple[str, str]]:
    calls: dict[int, list[str]] = {}
    for event in events:
        for delta in event.tools:
            call = calls.setdefault(delta.index, ["", ""])
            call[0] += delta.name
            call[1] += delta.arguments
    return [(name, text or "{}") for _, (name, text) in sorted(calls.items())]


# --- the table of what is spoken -----------------------------------------------------------------------------

APIS: Final[Mapping[tuple[str, str], Spoken | str]] = {
    ("cohere", "chat"): Spoken(
        _cohere_request,
        test_cohere.test_a_recorded_answer_says_what_it_says,
        test_cohere.test_a_recorded_answer_says_what_it_says,
        test_cohere.test_recorded_errors_have_their_reasons,
    ),
    ("cohere", "embeddings"): Spoken(
        _cohere_embeddings_request,
        test_embeddings.test_a_recorded_request_of_coheres_is_rebuilt_and_its_answer_read,
        _never,
        test_embeddings.test_a_recorded_error_has_its_reason,
    ),
    ("vertex", "embeddings"): Spoken(
        lambda name: "", test_vertex.test_a_recorded_request_for_vectors_is_asked_and_its_answer_read, _never, _never
    ),
    ("gemini", "embeddings"): Spoken(
        _vectors_request,
        test_embeddings.test_a_recorded_gemini_request_is_rebuilt_from_texts_and_its_answer_read,
        _never,
        test_embeddings.test_a_recorded_error_has_its_reason,
    ),
    ("*", "chat"): Spoken(
        _chat_request,
        test_openai.test_recorded_answers_are_read,
        test_openai.test_recorded_streams_say_what_was_sent,
        _chat_error,
    ),
    ("*", "messages"): Spoken(_messages_request, _messages_answer, _messages_stream, _messages_error),
    ("*", "anthropic-messages"): Spoken(
        _raw_predict_request, _messages_answer, _messages_stream, _messages_error
    ),
    ("*", "generate"): Spoken(
        _generate_request, _generate_answer, _generate_stream, test_gemini.test_recorded_errors_have_their_reasons
    ),
    ("*", "embeddings"): Spoken(
        _vectors_request,
        test_embeddings.test_a_recorded_request_is_rebuilt_and_its_answer_read,
        _never,
        test_embeddings.test_a_recorded_error_has_its_reason,
    ),
    ("*", "responses"): Spoken(
        _responses_request,
        test_responses.test_a_recorded_answer_says_what_it_says,
        test_responses.test_a_recorded_stream_says_what_it_says,
        test_responses.test_recorded_errors_have_their_reason,
    ),
    ("*", "converse"): Spoken(
        _converse_request,
        test_bedrock.test_a_recorded_answer_says_what_it_says,
        test_bedrock.test_a_recorded_answer_says_what_it_says,
        test_bedrock.test_recorded_errors_have_their_reasons,
    ),
    ("*", "invoke"): Spoken(
        _invoke_request,
        test_bedrock.test_a_recorded_message_says_what_it_says,
        test_bedrock.test_a_recorded_message_says_what_it_says,
        test_bedrock.test_recorded_errors_have_their_reasons,
    ),
    ("ollama", "native-chat"): Spoken(
        _ollama_request,
        test_ollama.test_a_recorded_answer_says_what_it_says,
        test_ollama.test_a_recorded_answer_says_what_it_says,
        _never_an_error,
    ),
    ("*", "other"): "no call of a model",
}  # fmt: skip
"""By provider and API; `*` is every provider that has no row of its own."""

SINGLE: Final = {"ollama/embeddings-single-02.json": "asked of an endpoint that `embed` has replaced"}
"""Recordings that are filed under another API than theirs."""


class Row(NamedTuple):
    """What became of the recordings of one API of one provider."""

    provider: str
    api: str
    names: tuple[str, ...]

    def outcomes(self) -> Iterator[Outcome]:
        for name in self.names:
            try:
                yield run(name, self.provider, self.api)
            except Exception as error:
                error.add_note(f"in the recording {name}")
                raise


def rows() -> list[Row]:
    """All recordings, by provider and API."""
    if RECORDINGS is None:
        return []
    found: dict[tuple[str, str], list[str]] = {}
    for line in (RECORDINGS / "index.tsv").read_text().splitlines()[1:]:
        name, provider, api = line.split("\t")[:3]
        found.setdefault((provider, api), []).append(name)
    return [Row(*key, tuple(sorted(names))) for key, names in sorted(found.items())]


def run(name: str, provider: str, api: str) -> Outcome:
    """Runs one recording. Raises what is wrong with what the adapter made of it."""
    spoken = SINGLE.get(name) or APIS.get((provider, api)) or APIS["*", api]
    if isinstance(spoken, str):
        return Outcome(False, None, spoken)
    recording = load(name)
    read: Read = "stream" if recording["stream"] else "answer"
    if recording["case"].startswith("error-"):
        read = "error"
    why = spoken.request(name)
    getattr(spoken, read)(name)
    return Outcome(not why, read, why)


# --- the page ------------------------------------------------------------------------------------------------

HEAD: Final = """\
# Recorded exchanges

What crossfade's adapters make of {count} exchanges with {providers} providers, which the test suites of public
projects recorded. A request counts as rebuilt where the adapter, asked for the same, sends what was recorded, but for
what the page of its dialect lists ([OpenAI](openai.md), [Anthropic](anthropic.md), [Gemini](gemini.md),
[Bedrock](bedrock.md), [Cohere](cohere.md), [Ollama](ollama.md)); of Gemini's embeddings model, texts and dimensions. An
answer or a stream counts as read where text, reasoning, calls, finish and usage come out as they are in it, an error
where it has its reason, also inside a 200.

{spoken} exchanges are run. Each of their {streams} streams is read cut behind every one of its bytes as well, errors
inside of streams among them.

The recordings are not part of this repository; where they are, the tests compare this page with the run.
`python -m tests.providers.recorded` writes it.

| provider | API | recorded | requests rebuilt | answers read | streams read | errors read | not run | why not |
|---|---|---|---|---|---|---|---|---|
"""


def page() -> str:
    """The page, from a run of all recordings."""
    lines, total = [], Counter[str]()
    table = rows()
    for row in table:
        outcomes = list(row.outcomes())
        counts = _counted(outcomes)
        total += counts
        whys = Counter(one.why for one in outcomes if one.why)
        shown = "; ".join(f"{count}: {why}" for why, count in sorted(whys.items()))
        lines.append(_line(row.provider, row.api, counts, shown))
    lines.append(_line("all", "", total, ""))
    head = HEAD.format(
        count=total["recorded"],
        providers=len({row.provider for row in table}),
        spoken=total["recorded"] - total["not run"],
        streams=len(test_splits.STREAMS),
    )
    return head + "\n".join(lines) + "\n"


COLUMNS: Final = ("recorded", "rebuilt", "answer", "stream", "error", "not run")


def _counted(outcomes: list[Outcome]) -> Counter[str]:
    counts = Counter(one.read or "not run" for one in outcomes)
    counts["recorded"] = len(outcomes)
    counts["rebuilt"] = sum(one.is_rebuilt for one in outcomes)
    return Counter(counts)


def _line(provider: str, api: str, counts: Mapping[str, int], why: str) -> str:
    numbers = " | ".join(str(counts.get(column, 0) or "") for column in COLUMNS)
    return f"| {provider} | {api} | {numbers} | {why} |"


if __name__ == "__main__":
    if RECORDINGS is None:
        raise SystemExit("the recorded provider exchanges are not here; CROSSFADE_RECORDINGS names their folder")
    PAGE.write_text(page())
    print(f"{PAGE.name} is written")
