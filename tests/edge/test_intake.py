"""What callers' expressions may cost: few are kept compiled, and operators' are kept apart from them."""

from __future__ import annotations

import pytest
import re2

from crossfade.config.directory import CACHED_NAMES, Directory
from crossfade.core.errors import InvalidRequest, UnknownRoute
from crossfade.core.exchange import Choice, Completion, Finish, RequestFacts
from crossfade.core.failure import FailureReason
from crossfade.core.policy import ValidationPolicy
from crossfade.edge import intake
from crossfade.edge.auth import Key
from crossfade.edge.intake import MAX_CALLER_PATTERNS, Admitted, Caller, Intake
from crossfade.wire.openai_chat import Options, Ours
from tests.e2e.harness import config_of

CONFIG = (
    "providers: {one: {dialect: openai, base_url: 'http://127.0.0.1:9/v1'}}\n"
    "routes: {chat: {chain: [one/model], validate: {match: operator}}}\n"
)


DIRECTORY = Directory(config_of(CONFIG))
FACTS = RequestFacts()


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The expressions that are compiled, in order, from empty caches on."""
    done: list[str] = []
    compile_one = re2.compile

    def compile_and_note(pattern: str, options: re2.Options) -> re2.Pattern:
        done.append(pattern)
        return compile_one(pattern, options=options)

    monkeypatch.setattr(re2, "compile", compile_and_note)
    intake.operators_validators.cache_clear()
    intake.callers_pattern.cache_clear()
    return done


def admitted(match: str | None) -> Admitted:
    options = None if match is None else Options(validate=ValidationPolicy(match=match))
    return Intake(DIRECTORY).admit(Ours(model="chat", options=options), FACTS, Caller.of({}, None))


def answer(text: str) -> Completion:
    return Completion(choices=[Choice(text=text, finish=Finish.STOP)])


def test_callers_expressions_do_not_push_out_the_operators(compiled: list[str]) -> None:
    admitted(None)
    for number in range(300):
        admitted(f"caller {number}")
    admitted(None)
    assert compiled.count("operator") == 1


def test_of_callers_expressions_few_are_kept_however_many_requests_are_under_way(compiled: list[str]) -> None:
    under_way = [admitted(f"caller {number}") for number in range(100)]
    assert intake.callers_pattern.cache_info().currsize == MAX_CALLER_PATTERNS
    for number, one in enumerate(under_way):
        assert one.check(FACTS)(answer(f"operator, caller {number}")) is None
        failure = one.check(FACTS)(answer("operator alone"))
        assert failure is not None
        assert failure.reason is FailureReason.REJECTED_OUTPUT
    assert intake.callers_pattern.cache_info().currsize == MAX_CALLER_PATTERNS


def test_a_callers_expression_is_compiled_once_where_it_can_be_kept(compiled: list[str]) -> None:
    one = admitted("caller")
    assert one.check(FACTS)(answer("operator and caller")) is None
    assert compiled == ["operator", "caller"]


def test_a_bad_expression_of_a_caller_is_refused_with_its_field(compiled: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="cannot be used") as refused:
        admitted("(")
    assert refused.value.param == "crossfade.validate"


def test_what_plain_requests_amount_to_is_reckoned_once_for_each_kind() -> None:
    intake_of_all = Intake(DIRECTORY)
    plain, patient = Caller.of({}, None), Caller.of({"x-stainless-read-timeout": "20"}, None)
    bound = Caller.of({}, Key("web", "chat"))
    ours = Ours(model="chat")
    first = intake_of_all.admit(ours, FACTS, plain)
    assert intake_of_all.admit(Ours(model="chat"), RequestFacts(input_tokens=9), plain) is first
    assert intake_of_all.admit(Ours(model="anything"), FACTS, bound).route is first.route
    assert intake_of_all.admit(ours, FACTS, patient).overall == 19.5
    assert intake_of_all.admit(ours, RequestFacts(stream=True), patient).overall == first.overall
    assert intake_of_all.admit(Ours(model="chat", options=Options(timeout=3.0)), FACTS, plain).overall == 3.0
    with pytest.raises(UnknownRoute):
        intake_of_all.admit(Ours(model="anything"), FACTS, plain)
    with pytest.raises(UnknownRoute):
        intake_of_all.admit(Ours(model="anything", route="other"), FACTS, plain)


def test_more_names_than_can_be_remembered_are_served_all_the_same() -> None:
    few = Intake(DIRECTORY)
    for number in range(CACHED_NAMES + 10):
        assert few.admit(Ours(model=f"one/model-{number}"), FACTS, Caller.of({}, None)).route.chain
