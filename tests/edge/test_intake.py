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
from crossfade.edge.hardness import last_asked
from crossfade.edge.intake import MAX_CALLER_PATTERNS, Admitted, Caller, Intake
from crossfade.wire.openai_chat import FallbackModel, Options, Ours
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
    return Intake(DIRECTORY).admit(Ours(model="chat", options=options), FACTS, Caller.of({}, None), b"{}")


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
    first = intake_of_all.admit(ours, FACTS, plain, b"{}")
    assert intake_of_all.admit(Ours(model="chat"), RequestFacts(input_tokens=9), plain, b"{}") is first
    assert intake_of_all.admit(Ours(model="anything"), FACTS, bound, b"{}").route is first.route
    assert intake_of_all.admit(ours, FACTS, patient, b"{}").overall == 19.5
    assert intake_of_all.admit(ours, RequestFacts(stream=True), patient, b"{}").overall == first.overall
    assert intake_of_all.admit(Ours(model="chat", options=Options(timeout=3.0)), FACTS, plain, b"{}").overall == 3.0
    with pytest.raises(UnknownRoute):
        intake_of_all.admit(Ours(model="anything"), FACTS, plain, b"{}")
    with pytest.raises(UnknownRoute):
        intake_of_all.admit(Ours(model="anything", route="other"), FACTS, plain, b"{}")


def test_more_names_than_can_be_remembered_are_served_all_the_same() -> None:
    few = Intake(DIRECTORY)
    for number in range(CACHED_NAMES + 10):
        assert few.admit(Ours(model=f"one/model-{number}"), FACTS, Caller.of({}, None), b"{}").route.chain


# --- rules ---------------------------------------------------------------------------------------------------

ROUTED = """
providers:
  one: {dialect: openai, base_url: 'http://127.0.0.1:9/v1', region: eu, retention: none}
  two: {dialect: openai, base_url: 'http://127.0.0.1:9/v1', region: us}
routes:
  chat:
    chain: [one/strong, two/other]
    rules:
      - {when: {tags: batch}, chain: [two/batch, one/strong]}
      - name: easy
        when: {complexity: {below: 0.4}}
        chain: [{pool: weighted, of: [one/small, two/small]}, one/strong]
      - {name: night, when: {hours: '22:00-06:00'}, chain: [two/night]}
  private: {chain: [one/strong], require: {region: eu}}
  elsewhere: {chain: [two/far, one/near]}
"""
HARD_ASK = b'{"messages": [{"role": "user", "content": "Prove that the series converges, and explain why."}]}'
EASY_ASK = b'{"messages": [{"role": "user", "content": "Translate: good morning"}]}'
MIDNIGHT, NOON = 1_767_225_600.0, 1_767_268_800.0


def routed(wall: float = NOON) -> Intake:
    return Intake(Directory(config_of(ROUTED)), lambda: wall)


def chain_of(one: Admitted) -> list[str]:
    return [rung.name for rung in one.route.chain]


def test_the_first_rule_that_holds_gives_the_chain_and_the_route_keeps_the_rest() -> None:
    intake_of_all, plain = routed(), Caller.of({}, None)
    tagged = Ours(model="chat", options=Options(tags=("batch",)))
    found = intake_of_all.admit(tagged, FACTS, plain, EASY_ASK)
    assert (found.rule, chain_of(found)) == ("rules[0]", ["two/batch", "one/strong"])
    found = intake_of_all.admit(Ours(model="chat"), FACTS, plain, EASY_ASK)
    assert (found.rule, chain_of(found)) == ("easy", ["one/small", "two/small", "one/strong"])
    assert len(found.route.links) == 2
    assert (found.route.name, found.route.first().name) == ("chat", "one/strong")
    found = intake_of_all.admit(Ours(model="chat"), FACTS, plain, HARD_ASK)
    assert (found.rule, chain_of(found)) == (None, ["one/strong", "two/other"])


def test_rules_may_ask_for_the_time_of_day() -> None:
    found = routed(MIDNIGHT).admit(Ours(model="chat"), FACTS, Caller.of({}, None), HARD_ASK)
    assert (found.rule, chain_of(found)) == ("night", ["two/night"])


def test_what_a_rule_amounts_to_is_reckoned_once_as_well() -> None:
    intake_of_all, plain = routed(), Caller.of({}, None)
    first = intake_of_all.admit(Ours(model="chat"), FACTS, plain, EASY_ASK)
    assert intake_of_all.admit(Ours(model="chat"), FACTS, plain, EASY_ASK) is first
    assert intake_of_all.admit(Ours(model="chat"), FACTS, plain, HARD_ASK) is not first


def test_the_callers_fallbacks_stand_behind_the_head_of_the_rules_chain() -> None:
    ours = Ours(model="chat", fallback_models=(FallbackModel("one/near"),))
    found = routed().admit(ours, FACTS, Caller.of({}, None), EASY_ASK)
    assert (found.rule, chain_of(found)) == ("easy", ["one/small", "two/small", "one/near"])
    assert found.route.first().name == "one/strong"


def test_a_fallback_that_does_not_meet_what_the_route_requires_is_refused_with_the_reason() -> None:
    ours = Ours(model="private", fallback_models=(FallbackModel("one/near"), FallbackModel("elsewhere")))
    with pytest.raises(InvalidRequest, match="region eu is required, and it is in us") as refused:
        routed().admit(ours, FACTS, Caller.of({}, None), b"{}")
    assert refused.value.param == "fallback_models[1]"


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}', ("a", 1, 0)),
        (
            b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": []},'
            b' {"role": "tool", "content": "result"}]}',
            ("a", 1, 0),
        ),
        (
            b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "tool_use"}]},'
            b' {"role": "user", "content": [{"type": "tool_result", "content": "result"}]}]}',
            ("a", 1, 0),
        ),
        (
            b'{"input": [{"role": "user", "content": "a"}, {"type": "function_call", "name": "f"},'
            b' {"type": "function_call_output", "output": "result"}]}',
            ("a", 1, 0),
        ),
        (b'{"messages": [{"role": {}, "content": "a"}, 7, {"role": "user", "content": "b"}]}', ("b", 1, 0)),
        (b'\xef\xbb\xbf{"prompt": "a"}', ("a", 1, 0)),
        (
            b'{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"},'
            b' {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"},'
            b' {"role": "user", "content": [{"type": "text", "text": "d"}, {"type": "image_url"}, 7]}]}',
            ("c\nd", 3, 1),
        ),
        (b'{"input": "a"}', ("a", 1, 0)),
        (b'{"prompt": "a"}', ("a", 1, 0)),
        (b'{"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]}', ("a", 1, 0)),
        (b'{"input": ["a", "b"]}', ("a\nb", 2, 0)),
        (b'{"messages": 7}', ("", 0, 0)),
        (b"{}", ("", 0, 0)),
        (b'{"messages": [{"role": "user", "content": 1e999}]}', ("", 0, 0)),
    ],
)
def test_what_was_asked_last_is_found_in_every_api(body: bytes, asked: tuple[str, int, int]) -> None:
    assert last_asked(body) == asked
