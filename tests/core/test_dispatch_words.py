"""`fallback_on`: what its words stand for on a walk, what only falls back when asked to, and what never does."""

from __future__ import annotations

import pytest

from crossfade.core.failure import FailureReason, Origin, fallback_reasons
from crossfade.core.steps import Deliver, Send, Wait
from tests.core.walking import Course, rung

SERVER = {
    "server_error",
    "connect_error",
    "overloaded",
    "protocol_error",
    "stream_interrupted",
    "malformed_output",
    "model_unavailable",
}
TIMEOUT = {"timeout", "stream_stalled"}
LIMIT = {"rate_limit", "quota_exhausted"}
SOFT = {"empty_output", "invalid_json", "invalid_tool_call", "rejected_output"}
WINDOW = {"context_overflow"}
OPT_IN = {"truncated_output", "content_filter", "auth_error"}
NEVER = {"invalid_request", "cancelled", "internal_error"}
DEFAULT = SERVER | TIMEOUT | LIMIT | SOFT | WINDOW


@pytest.mark.parametrize(
    "words, reasons",
    [
        (["server_error"], SERVER),
        (["timeout"], TIMEOUT),
        (["rate_limit"], LIMIT),
        (["soft"], SOFT),
        (["default"], DEFAULT),
        (["server_error", "timeout", "rate_limit"], SERVER | TIMEOUT | LIMIT),
        (["connect_error"], {"connect_error"}),
        (["quota_exhausted"], {"quota_exhausted"}),
        (["stream_stalled"], {"stream_stalled"}),
        (["context_overflow"], WINDOW),
        ([], set()),
        (["default", "-rate_limit"], DEFAULT - LIMIT),
        (["default", "-overloaded"], DEFAULT - {"overloaded"}),
        (["default", "-soft", "invalid_json"], DEFAULT - SOFT | {"invalid_json"}),
        (["-soft"], DEFAULT - SOFT),
        (["-default"], set()),
        (["default", "truncated_output", "content_filter", "auth_error"], DEFAULT | OPT_IN),
        (["default", "auth_error", "-auth_error"], DEFAULT),
    ],
)
def test_words_stand_for_reasons(words: list[str], reasons: set[str]) -> None:
    assert {str(reason) for reason in fallback_reasons(words)} == reasons


@pytest.mark.parametrize("word", sorted(NEVER))
def test_what_never_falls_back_cannot_be_listed(word: str) -> None:
    with pytest.raises(ValueError, match=f"'{word}' never falls back"):
        fallback_reasons(["default", word])


def test_unknown_word_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"unknown word 'server_eror'; known are .*server_error.*timeout") as caught:
        fallback_reasons(["server_eror"])
    assert not NEVER & set(str(caught.value).replace(",", "").split())


@pytest.mark.parametrize("word", ["server_error", "timeout", "rate_limit", "soft"])
@pytest.mark.parametrize("reason", sorted(DEFAULT | OPT_IN | NEVER))
def test_walk_goes_on_for_listed_reasons_only(word: str, reason: str) -> None:
    groups = {"server_error": SERVER, "timeout": TIMEOUT, "rate_limit": LIMIT, "soft": SOFT}
    course = Course("a/m", "b/m", fallback_on=[word])
    step = course.step()
    while isinstance(step, (Send, Wait)) and course.called()[-1] == "a/m":
        if isinstance(step, Wait):
            course.now = step.until
        else:
            course.fail(reason)
        step = course.step()
    assert ("b/m" in course.called()) is (reason in groups[word])


@pytest.mark.parametrize("reason", ["truncated_output", "content_filter"])
def test_opted_in_answer_is_delivered_where_no_better_one_comes(reason: str) -> None:
    course = Course("a/m", "b/m", fallback_on=["default", reason])
    course.send("a/m")
    course.fail(reason)
    course.send("b/m")
    course.fail("timeout")
    assert course.delivered() == Deliver(1)


def test_opted_in_answer_is_better_than_an_unlisted_failure_of_a_later_rung() -> None:
    course = Course("a/m", "b/m", "c/m", fallback_on=["truncated_output"])
    course.send("a/m")
    course.fail("truncated_output")
    course.send("b/m")
    course.fail("overloaded")
    assert course.delivered() == Deliver(1)


def test_refusal_as_an_error_has_no_answer_to_deliver() -> None:
    course = Course("a/m", "b/m", fallback_on=["default", "content_filter"])
    course.send("a/m")
    course.fail("content_filter", status=400)
    course.send("b/m")
    course.fail("timeout")
    assert course.given_up().code == "chain_exhausted"


def test_refused_credential_is_no_answer_to_deliver() -> None:
    course = Course("a/m", "b/m", fallback_on=["default", "auth_error"])
    course.send("a/m")
    course.fail("auth_error", status=None)
    course.send("b/m")
    course.fail("timeout")
    assert course.given_up().code == "chain_exhausted"


def test_opted_in_credential_goes_to_the_next_target() -> None:
    course = Course("a/m", "b/m", fallback_on=["default", "auth_error"])
    course.send("a/m")
    course.fail("auth_error")
    course.send("b/m")
    assert course.defects() == [], "on the first target called it is no defect of a later rung"


@pytest.mark.parametrize("reason", ["invalid_request", "auth_error", "model_unavailable"])
def test_later_rungs_defect_is_told_and_the_walk_goes_on(reason: str) -> None:
    course = Course("a/m", "b/m", "c/m", fallback_on=["timeout"])
    course.send("a/m")
    course.fail("timeout")
    course.send("b/m")
    course.fail(reason)
    course.send("c/m")
    assert course.defects() == [("b/m", reason)]


def test_a_target_that_cannot_be_asked_at_all_is_passed_over_wherever_it_stands() -> None:
    course = Course("a/m", "b/m", "c/m")
    course.send("a/m")
    course.fail("invalid_request", origin=Origin.LOCAL, status=400)
    course.send("b/m")
    course.fail("invalid_request", status=400)
    end = course.given_up()
    assert end.status == 400 and course.defects() == [], "the first target that was called has said so"


def test_the_last_target_that_cannot_be_asked_says_why() -> None:
    course = Course("a/m")
    course.send("a/m")
    course.fail("invalid_request", origin=Origin.LOCAL, status=400, message="`n` must be 1")
    assert "must be 1" in course.given_up().message


def test_a_target_that_cannot_be_asked_behind_one_that_is_out_makes_no_fault_of_the_callers() -> None:
    course = Course(rung("a/m"), "b/m")
    course.board.of(course.rungs[0].targets[0]).eject(FailureReason.OVERLOADED, course.now + 60, course.now)
    course.send("b/m")
    course.fail("invalid_request", origin=Origin.LOCAL, status=400, message="`n` must be 1")
    end = course.given_up()
    assert (end.status, end.code) == (503, "chain_exhausted") and end.retry_after is not None


def test_a_second_call_of_the_first_target_is_no_later_rung() -> None:
    course = Course("a/m", "b/m")
    course.send("a/m")
    course.fail("connect_error")
    course.send("a/m")
    course.fail("invalid_request")
    assert course.given_up().status == 400


def test_a_skipped_primary_leaves_the_next_one_the_first_target_called() -> None:
    course = Course(rung("a/m"), "b/m", "c/m")
    course.board.of(course.rungs[0].targets[0]).eject(FailureReason.RATE_LIMIT, course.now + 60, course.now)
    course.send("b/m")
    course.fail("invalid_request")
    assert course.given_up().status == 400


# --- soft agreement ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", sorted(SOFT))
def test_same_soft_failure_of_two_vendors_ends_the_walk(reason: str) -> None:
    course = Course("a/m", "b/m", "c/m")
    course.send("a/m")
    course.fail(reason)
    course.send("b/m")
    course.fail(reason)
    end = course.given_up()
    assert (end.status, end.code) == (502, "soft_agreement")
    assert reason in end.message
    assert "b/m" in end.message


def test_other_soft_failures_or_the_same_vendor_do_not_agree() -> None:
    course = Course("a/m", "a/n", "b/m", "c/m")
    for name, reason in [("a/m", "empty_output"), ("a/n", "empty_output"), ("b/m", "invalid_json")]:
        course.send(name)
        course.fail(reason)
    course.send("c/m")
    course.accept()
    assert course.delivered() == Deliver(4)


# --- larger windows ------------------------------------------------------------------------------------------


def test_overflow_goes_to_larger_or_unknown_windows_only() -> None:
    chain = [rung("a/m", window=100), rung("b/m", window=100), rung("c/m"), rung("d/m", window=200)]
    course = Course(*chain)
    course.send("a/m")
    course.fail("context_overflow")
    course.send("c/m")
    assert course.skipped() == [("b/m", "its window is no larger than one that was too small")]
    course.fail("context_overflow")
    course.send("d/m")
    course.fail("context_overflow")
    end = course.given_up()
    assert (end.status, end.code) == (400, "chain_exhausted")
    assert "b/m skipped: its window" in end.message


def test_overflow_of_an_unknown_window_does_not_keep_anyone_out() -> None:
    course = Course("a/m", rung("b/m", window=100))
    course.send("a/m")
    course.fail("context_overflow")
    course.send("b/m")


def test_overflow_of_an_unknown_window_forgets_no_known_one() -> None:
    course = Course(rung("a/m", window=200), "b/m", rung("c/m", window=150), rung("d/m", window=300))
    for name in ("a/m", "b/m"):
        course.send(name)
        course.fail("context_overflow")
    course.send("d/m")


def test_window_that_was_too_small_is_not_called_when_it_is_back() -> None:
    course = Course(rung("a/m", window=100), rung("b/m", window=100))
    course.board.of(course.rungs[0].targets[0]).eject(FailureReason.RATE_LIMIT, course.now + 5, course.now)
    course.send("b/m")
    course.fail("context_overflow", after=10.0)
    course.given_up()
    assert course.called() == ["b/m"]


def test_window_that_was_too_small_is_no_last_resort() -> None:
    course = Course(rung("a/m", window=100), rung("b/m", window=100))
    course.send("a/m")
    course.fail("context_overflow")
    assert course.given_up().status == 400
    assert course.called() == ["a/m"]
