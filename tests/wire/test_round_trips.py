"""Any request and any answer, written in each dialect and read back: nothing is lost but what the page says.

What is lost is data (`tests/wire/losses.py`), compared with the tables of `docs/dialects`; both must be whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import ChatRequest, ImagePart, Message, TextPart, Tool, ToolCall
from crossfade.core.target import Target
from crossfade.wire import anthropic_canonical, openai_canonical, responses_canonical
from crossfade.wire.anthropic_messages import write_request as write_anthropic
from crossfade.wire.cohere_request import write_request as write_cohere
from crossfade.wire.gemini_request import write_request as write_gemini
from crossfade.wire.ollama_request import write_request as write_ollama
from crossfade.wire.openai_fit import fitted
from crossfade.wire.openai_responses import write_request as write_responses
from crossfade.wire.openai_writer import write_request as write_openai
from tests.documents import page, tables_with
from tests.wire import cohere_read, gemini_read, ollama_read
from tests.wire.losses import ANTHROPIC, DIALECTS, OPENAI, RESPONSES, Dialect, after, normal
from tests.wire.strategies import CLOSED, requests

repeatable: Final = settings(
    derandomize=True, deadline=None, max_examples=90, suppress_health_check=[HealthCheck.too_slow]
)
PLAIN: Final = ChatRequest(
    messages=(
        Message(role="system", parts=(TextPart("Be kind."),)),
        Message(role="user", parts=(TextPart("Look at this:"), ImagePart(media_type="image/png", data="iVBORw0KGgo="))),
        Message(
            role="assistant",
            parts=(TextPart("I see."),),
            tool_calls=(ToolCall("call_1", "look", '{"a":[1,"é"]}'), ToolCall("call_2", "look", "{}")),
        ),
        Message(role="tool", call_id="call_2", parts=(TextPart("nothing"),)),
        Message(role="tool", call_id="call_1", parts=(TextPart("a cat"),)),
        Message(role="user", parts=(TextPart("And?"),)),
    ),
    max_tokens=3000,
)


def target(model: str) -> Target:
    return Target(key=f"p/{model}#0", name=f"p/{model}", provider="p", model=model)


# --- writing and reading, by dialect --------------------------------------------------------------------------


class Written(NamedTuple):
    body: bytes
    dropped: tuple[str, ...]


def openai(request: ChatRequest, model: str) -> Written:
    fit, dropped = fitted(request, model, takes_top_k=False)
    return Written(write_openai(fit, target(model), stream=False), (*request.others, *dropped))


def anthropic(request: ChatRequest, model: str) -> Written:
    written = write_anthropic(request, model=model, stream=False)
    return Written(written.body, written.dropped)


def gemini(request: ChatRequest, model: str) -> Written:
    written = write_gemini(request, model)
    return Written(written.body, written.dropped)


def responses(request: ChatRequest, model: str) -> Written:
    written = write_responses(request, target(model), stream=False)
    return Written(written.body, written.dropped)


def cohere(request: ChatRequest, model: str) -> Written:
    written = write_cohere(request, model, stream=False)
    return Written(written.body, written.dropped)


def ollama(request: ChatRequest, model: str) -> Written:
    written = write_ollama(request, model, stream=False)
    return Written(written.body, written.dropped)


Json = dict[str, Any]
WRITE: Final[Mapping[str, Callable[[ChatRequest, str], Written]]] = {
    "openai": openai,
    "anthropic": anthropic,
    "gemini": gemini,
    "responses": responses,
    "cohere": cohere,
    "ollama": ollama,
}
READ: Final[Mapping[str, Callable[[bytes], ChatRequest]]] = {
    "openai": openai_canonical.read_canonical,
    "anthropic": anthropic_canonical.read_canonical,
    "gemini": gemini_read.read_canonical,
    "responses": responses_canonical.read_canonical,
    "cohere": cohere_read.read_canonical,
    "ollama": ollama_read.read_canonical,
}
INBOUND: Final = (OPENAI, ANTHROPIC, RESPONSES)
AT_MODELS: Final = [pytest.param(one, model, id=f"{one.name}-{model}") for one in DIALECTS for model in one.models]
PAIRS: Final = [pytest.param(a, b, id=f"{a.name}-{b.name}") for a in INBOUND for b in DIALECTS]


def refusals(dialect: Dialect, request: ChatRequest, model: str) -> set[str]:
    """The fields that the dialect may name when it says that it has no words for this request."""
    return {one.param for one in dialect.refusals if one.is_in(request, model)}


def is_named(params: set[str], error: InvalidRequest) -> bool:
    return re.sub(r"messages\[\d+\]\.content\[\d+\]", "messages[i].content[j]", error.param or "") in params


def written_or_refused(dialect: Dialect, request: ChatRequest, model: str) -> Written | None:
    """What is written; None where the page says that the target cannot say it, and it says so."""
    params = refusals(dialect, request, model)
    if not params:
        return WRITE[dialect.name](request, model)
    with pytest.raises(InvalidRequest) as caught:
        WRITE[dialect.name](request, model)
    assert is_named(params, caught.value), caught.value.param
    return None


# --- what stays whatever is lost ------------------------------------------------------------------------------


def marks(request: ChatRequest, roles: Collection[str]) -> list[str]:
    """The numbers of all texts that these say, in order."""
    found: list[str] = []
    for message in request.messages:
        if message.role in roles:
            texts = [part.text for part in message.parts if isinstance(part, TextPart)]
            found += [mark for text in [*texts, message.refusal or ""] for mark in re.findall(r"#\d+#", text)]
    return found


def pairs(request: ChatRequest) -> list[int]:
    """For each result, in order, which call it answers."""
    calls = [call.id for message in request.messages for call in message.tool_calls]
    assert len(set(calls)) == len(calls)
    return [calls.index(message.call_id) for message in request.messages if message.role == "tool"]


def check_order(before: ChatRequest, now: ChatRequest) -> None:
    """What users and models say is there, in its order, and every result answers its call. System messages may stand
    elsewhere."""
    system = set(marks(before, ("system",)))
    assert [mark for mark in marks(now, ("user", "assistant")) if mark not in system] == marks(
        before, ("user", "assistant")
    )
    assert set(marks(now, ("system", "user", "assistant"))) >= system
    assert pairs(now) == pairs(before)
    names, found = ([call.name for one in request.messages for call in one.tool_calls] for request in (before, now))
    assert [name.replace("-", "_") for name in found] == [name.replace("-", "_") for name in names]


# --- requests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dialect", "model"), AT_MODELS)
@given(request=requests)
@repeatable
def test_a_request_reads_back_as_it_was_but_for_the_documented_losses(
    dialect: Dialect, model: str, request: ChatRequest
) -> None:
    written = written_or_refused(dialect, request, model)
    if written is None:
        return
    expected, names, _ = after(dialect, request, model)
    found = READ[dialect.name](written.body)
    assert normal(found) == normal(expected)
    assert set(written.dropped) == names
    check_order(request, found)


def test_a_request_with_nothing_to_lose_loses_nothing() -> None:
    """The rows are no licence to change what has no reason to change."""
    for dialect in DIALECTS:
        model = dialect.models[0]
        tool = Tool(name="look", parameters=CLOSED, strict=False if dialect is RESPONSES else None)
        plain = msgspec.structs.replace(PLAIN, tools=(tool,))
        expected, names, rows = after(dialect, plain, model)
        assert (normal(expected), names, rows) == (normal(plain), set(), set())
        assert normal(READ[dialect.name](WRITE[dialect.name](plain, model).body)) == normal(plain)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_the_page_names_the_losses_and_no_others(dialect: Dialect) -> None:
    (table,) = tables_with(page(f"dialects/{dialect.name}.md"), "lost of a translated request", "instead")
    assert [row[0] for row in table.rows] == [loss.lost for loss in dialect.losses]
    assert all(row[1] for row in table.rows)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_the_page_names_what_is_refused_and_nothing_else(dialect: Dialect) -> None:
    if not dialect.refusals:
        return
    (table,) = tables_with(page(f"dialects/{dialect.name}.md"), "refused of a translated request", "field")
    assert [(row[0], row[1].strip("`")) for row in table.rows] == [(one.refused, one.param) for one in dialect.refusals]


@pytest.fixture(scope="module")
def many() -> list[ChatRequest]:
    """Some hundred requests, the same in every run."""
    found: list[ChatRequest] = []

    @given(request=requests)
    @settings(repeatable, max_examples=800, phases=[Phase.generate], database=None)
    def collect(request: ChatRequest) -> None:
        found.append(request)

    collect()
    return found


ROWS: Final = [
    pytest.param(dialect, loss.lost, id=f"{dialect.name}-{loss.lost}")
    for dialect in DIALECTS
    for loss in dialect.losses
]


@pytest.mark.parametrize(("dialect", "lost"), ROWS)
def test_every_documented_loss_occurs(dialect: Dialect, lost: str, many: list[ChatRequest]) -> None:
    """Some request that the dialect takes has this loss: without its row, what is read back is another one."""
    rest = msgspec.structs.replace(dialect, losses=tuple(loss for loss in dialect.losses if loss.lost != lost))
    for request in many:
        for model in dialect.models:
            if refusals(dialect, request, model) or lost not in after(dialect, request, model)[2]:
                continue
            found = normal(READ[dialect.name](WRITE[dialect.name](request, model).body))
            assert found == normal(after(dialect, request, model)[0])
            if found != normal(after(rest, request, model)[0]):
                return
    pytest.fail(f"no request loses {lost}")


REFUSED: Final = [
    pytest.param(dialect, one.refused, id=f"{dialect.name}-{one.refused}")
    for dialect in DIALECTS
    for one in dialect.refusals
]


@pytest.mark.parametrize(("dialect", "refused"), REFUSED)
def test_every_documented_refusal_occurs(dialect: Dialect, refused: str, many: list[ChatRequest]) -> None:
    """For a request that has nothing else to be refused for."""
    model = dialect.models[0]
    for request in many:
        if [one.refused for one in dialect.refusals if one.is_in(request, model)] == [refused]:
            assert written_or_refused(dialect, request, model) is None
            return
    pytest.fail(f"no request is refused for {refused}")


@pytest.mark.parametrize(("inbound", "outbound"), PAIRS)
@given(request=requests)
@repeatable
def test_a_callers_request_loses_in_another_dialect_what_both_lose_and_no_more(
    inbound: Dialect, outbound: Dialect, request: ChatRequest
) -> None:
    """Dialect A, read, written in dialect B, and read again: the losses of A, then those of B."""
    model = outbound.models[0]
    asked = written_or_refused(inbound, request, inbound.models[0])
    if asked is None:
        return
    callers = READ[inbound.name](asked.body)
    written = written_or_refused(outbound, callers, model)
    if written is None:
        return
    found = READ[outbound.name](written.body)
    expected, _, _ = after(inbound, request, inbound.models[0])
    expected, names, _ = after(outbound, expected, model)
    assert normal(found) == normal(expected)
    assert set(written.dropped) == names
    check_order(request, found)


# --- what only the caller's own dialect has -------------------------------------------------------------------


def blocks(turns: list[Any]) -> list[Any]:
    """The blocks of turns whose content is a list."""
    return [block for turn in turns if isinstance(turn.get("content"), list) for block in turn["content"]]


def cache_marks(body: Json) -> bool:
    found = blocks(body["messages"])
    for block in found:
        block["cache_control"] = {"type": "ephemeral"}
    return bool(found)


def citations(body: Json) -> bool:
    found = [block for block in blocks(body["messages"]) if block["type"] == "text"]
    for block in found:
        block["citations"] = [{"type": "page_location"}]
    return bool(found)


def failed_results(body: Json) -> bool:
    found = [block for block in blocks(body["messages"]) if block["type"] == "tool_result" and block.get("content")]
    for block in found:
        block["is_error"] = True
    return bool(found)


def thinking(body: Json) -> bool:
    found = [turn for turn in body["messages"] if turn["role"] == "assistant" and isinstance(turn["content"], list)]
    for turn in found:
        turn["content"][:0] = [
            {"type": "thinking", "thinking": "hm", "signature": "AAAA"},
            {"type": "redacted_thinking", "data": "AAAA"},
        ]
    return bool(found)


def reasoning(body: Json) -> bool:
    body["input"] = [{"type": "reasoning", "id": "rs_1", "summary": []}, *body["input"]]
    return True


def labels(body: Json) -> bool:
    for number, item in enumerate(body["input"]):
        item |= {"id": f"item_{number}", "status": "completed"}
    return True


def citing_words(body: Json) -> bool:
    found = [part for part in blocks(body["input"]) if part["type"] == "output_text"]
    for part in found:
        part["annotations"] = [{"type": "url_citation"}]
    return bool(found)


def members(**fields: Any) -> Callable[[Json], bool]:
    def add(body: Json) -> bool:
        for name, value in fields.items():
            body[name] = body.get(name, {}) | value if isinstance(value, dict) else value
        return True

    return add


OWN: Final[list[tuple[str, str, Callable[[Json], bool], tuple[str, ...]]]] = [
    ("openai", "unknown fields", members(service_tier="flex", prediction={"a": 1}), ("service_tier", "prediction")),
    ("openai", "defaults", members(service_tier="auto", store=False, modalities=["text"]), ()),
    ("anthropic", "`cache_control`", cache_marks, ("cache_control",)),
    ("anthropic", "`citations`", citations, ("citations",)),
    ("anthropic", "`is_error`", failed_results, ("is_error",)),
    ("anthropic", "`thinking`, `redacted_thinking`", thinking, ()),
    ("anthropic", "unknown fields", members(container="c", service_tier="auto"), ("container",)),
    ("responses", "`reasoning` items", reasoning, ()),
    ("responses", "ids, states and labels", labels, ()),
    ("responses", "annotations", citing_words, ("annotations",)),
    ("responses", "`store`", members(store=True, metadata={"a": "b"}), ("store", "metadata")),
    ("responses", "`reasoning.summary`", members(reasoning={"summary": "auto"}), ("reasoning.summary",)),
    ("responses", "`text.verbosity`", members(text={"verbosity": "low"}), ("text.verbosity",)),
    ("responses", "`truncation`", members(truncation="auto", include=["a"]), ("truncation", "include")),
    ("responses", "the default", members(store=False, truncation="disabled", background=False), ()),
]
"""What a caller may say and no other dialect has: how the page calls it, how it is said, and what is on record."""


@pytest.mark.parametrize(("name", "lost", "add", "named"), OWN)
def test_what_only_the_callers_dialect_has_is_lost_by_name_and_alone(
    name: str, lost: str, add: Callable[[Json], bool], named: tuple[str, ...], many: list[ChatRequest]
) -> None:
    (dialect,) = [one for one in INBOUND if one.name == name]
    model, seen = dialect.models[0], 0
    for request in many:
        if refusals(dialect, request, model):
            continue
        body = WRITE[name](request, model).body
        own = msgspec.json.decode(body)
        if add(own):
            seen += 1
            found = READ[name](msgspec.json.encode(own))
            assert msgspec.structs.replace(found, others=()) == READ[name](body)
            assert set(found.others) == set(named)
    assert seen > 20
    assert name == "openai" or lost.lower() in page(f"dialects/{name}.md").read_text().lower()
