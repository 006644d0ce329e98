"""Targets that are left before their 429: passed over while another has room, called all the same where none has."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.exchange import RequestFacts
from crossfade.core.headroom import Counts, Limit
from crossfade.core.health import HealthBoard
from crossfade.core.policy import HedgePolicy, RetryPolicy, TimeoutPolicy
from crossfade.core.steps import Deliver, Send, Wait
from tests.core.walking import START, Course, eject, new_board, open_breaker, rung, target

NONE_LEFT = "rate_limit: 0 requests left"


def say(
    board: HealthBoard,
    name: str,
    left: float,
    until: float = START + 60,
    counts: Counts = "requests",
    credential: int = 0,
    now: float = START,
) -> None:
    """The provider of a target says what is left."""
    health = board.of(target(name, credential))
    limit = Limit(counts, counts, None, left, until)
    health.note_limits([limit], health.headroom.calls, health.headroom.tokens, now)


def test_a_target_without_room_is_passed_over_with_the_reason_on_record() -> None:
    board = new_board()
    say(board, "a/m", 0)
    course = Course("a/m", "b/m", board=board)
    course.send("b/m")
    assert course.skipped() == [("a/m", NONE_LEFT)]
    assert course.fallbacks() == [("a/m", "b/m", "rate_limit", "fresh")]


def test_it_gets_traffic_again_after_its_reset() -> None:
    board = new_board()
    say(board, "a/m", 0, START + 30)
    Course("a/m", "b/m", board=board, now=START + 29.9).send("b/m")
    Course("a/m", "b/m", board=board, now=START + 30.0).send("a/m")


def test_what_is_sent_counts_before_the_provider_says_anew() -> None:
    board = new_board()
    say(board, "a/m", 2)
    for name in ("a/m", "a/m", "b/m"):
        Course("a/m", "b/m", board=board).send(name)


def test_a_request_goes_by_where_its_tokens_do_not_fit_and_a_smaller_one_does_not() -> None:
    board = new_board()
    say(board, "a/m", 5000, counts="tokens")
    large = Course("a/m", "b/m", board=board, facts=RequestFacts(input_tokens=6000))
    large.send("b/m")
    assert large.skipped() == [("a/m", "rate_limit: 5000 tokens left")]
    Course("a/m", "b/m", board=board, facts=RequestFacts(input_tokens=4000)).send("a/m")
    Course("a/m", "b/m", board=board, facts=RequestFacts(input_tokens=4000)).send("b/m")


def test_an_answer_tells_what_is_left_and_the_next_request_goes_by_it() -> None:
    board = new_board()
    first = Course("a/m", "b/m", board=board)
    sent = first.send("a/m")
    first.dispatch.on_limits(sent.attempt, [Limit("requests", "requests", 60, 0, START + 20)], START)
    first.accept()
    Course("a/m", "b/m", board=board).send("b/m")


def test_an_attempt_that_is_over_says_nothing_any_more() -> None:
    course = Course("a/m", "b/m")
    sent = course.send("a/m")
    course.fail("timeout")
    course.dispatch.on_limits(sent.attempt, [Limit("requests", "requests", 60, 0, START + 20)], START)
    assert not course.board.of(target("a/m")).headroom.limits


def test_the_only_target_is_called_whatever_it_said() -> None:
    board = new_board()
    say(board, "a/m", 0)
    course = Course("a/m", board=board)
    course.send("a/m")
    assert course.skipped() == []
    course.accept()
    course.delivered()


def test_where_none_has_room_the_chain_is_walked_as_it_is_written() -> None:
    board = new_board()
    say(board, "a/m", 0)
    say(board, "b/m", 0, START + 5)
    course = Course("a/m", "b/m", board=board)
    course.send("a/m")
    course.fail("rate_limit", retry_after=30.0)
    course.send("b/m")
    assert course.skipped() == []


def test_a_target_without_room_is_called_after_all_others_have_failed() -> None:
    board = new_board()
    say(board, "a/m", 0)
    course = Course("a/m", "b/m", board=board)
    course.send("b/m")
    course.fail("timeout")
    course.send("a/m")
    course.accept()
    course.delivered()


def test_of_several_without_room_the_one_whose_reset_comes_first_is_called_first() -> None:
    board = new_board()
    say(board, "a/m", 0, START + 60)
    say(board, "b/m", 0, START + 10)
    course = Course("a/m", "b/m", "c/m", board=board)
    course.send("c/m")
    course.fail("timeout")
    course.send("b/m")
    course.fail("overloaded")
    course.send("a/m")


def test_a_target_that_is_out_has_no_room_to_go_to() -> None:
    for out in ("rate_limit", "breaker"):
        board = new_board()
        say(board, "a/m", 0)
        if out == "breaker":
            open_breaker(board, "b/m", START)
        else:
            eject(board, "b/m", out, START + 30, START)
        course = Course("a/m", "b/m", board=board)
        course.send("a/m")
        assert course.skipped() == []


def test_a_route_that_does_not_fall_back_on_rate_limits_does_not_leave_before_one() -> None:
    board = new_board()
    say(board, "a/m", 0)
    Course("a/m", "b/m", board=board, fallback_on=["timeout"]).send("a/m")


def test_a_hedge_goes_by_a_target_without_room_even_if_no_other_is_left() -> None:
    board = new_board()
    say(board, "b/m", 0)
    course = Course("a/m", "b/m", board=board, stream=True, hedge=HedgePolicy(after=1.0))
    course.send("a/m")
    course.now += 1.0
    assert course.pending() is None
    assert course.called() == ["a/m"]
    course.fail("server_error", number=1, status=501)
    course.send("b/m")


def test_the_last_call_that_is_allowed_is_kept_for_a_target_that_was_passed_over() -> None:
    board = new_board()
    say(board, "a/m", 0)
    course = Course("a/m", "b/m", "c/m", "d/m", board=board, retry=RetryPolicy(max_attempts=2))
    for name in ("b/m", "a/m"):
        course.send(name)
        course.fail("timeout")
    assert course.given_up().status == 504


def test_calls_that_were_kept_and_not_needed_go_to_the_other_targets() -> None:
    board = new_board()
    say(board, "a/m", 0)
    course = Course("a/m", "b/m", "c/m", board=board, retry=RetryPolicy(max_attempts=2))
    course.send("b/m")
    eject(board, "a/m", "rate_limit", course.now + 60, course.now)  # another request was refused there
    course.fail("timeout")
    course.send("c/m")


def test_time_is_kept_for_a_target_that_was_passed_over() -> None:
    board = new_board()
    say(board, "a/m", 0)
    timeouts = TimeoutPolicy(attempt=3600.0)
    course = Course("a/m", "b/m", board=board, overall=60.0, timeouts=timeouts)
    assert course.send("b/m").limits.to_commit == pytest.approx(50.0)
    other = Course("b/m", "c/m", overall=60.0, timeouts=timeouts)
    assert other.send("b/m").limits.to_commit == pytest.approx(50.0), "as for any that is still to come"


def test_the_rung_behind_one_that_was_passed_over_is_a_fallback() -> None:
    """Its defects are its own, as they are behind a 429."""
    for reason in ("invalid_request", "auth_error", "model_unavailable"):
        board = new_board()
        say(board, "a/m", 0)
        course = Course("a/m", "b/m", board=board)
        course.send("b/m")
        course.fail(reason)
        course.send("a/m")


def test_after_a_failure_that_is_not_listed_only_what_was_passed_over_may_answer() -> None:
    board = new_board()
    say(board, "a/m", 0)
    course = Course("a/m", "b/m", "c/m", board=board, fallback_on=["rate_limit"])
    course.send("b/m")
    course.fail("timeout")
    course.send("a/m")
    course.fail("timeout")
    assert course.given_up().status == 504
    assert course.called() == ["b/m", "a/m"]


FATES = ("ok", "timeout", "server_error", "overloaded", "rate_limit", "auth_error", "invalid_request", "connect_error")


@given(
    fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=5),
    short=st.sets(st.integers(0, 4)),
    keys=st.integers(1, 2),
    fallback_on=st.sampled_from([("default",), ("rate_limit",), ("rate_limit", "timeout"), ("timeout",)]),
    overall=st.sampled_from([20.0, 600.0]),
)
@settings(max_examples=300, deadline=None)
def test_a_word_about_limits_causes_no_error_that_a_call_would_not_have(
    fates: list[str], short: set[int], keys: int, fallback_on: tuple[str, ...], overall: float
) -> None:
    """Whatever was said, a request that is answered without these words is answered with them."""

    def answers(said: set[int]) -> bool:
        board = new_board()
        chain = [rung(f"p{number}/m", keys) for number in range(len(fates))]
        for number in said:
            for one in range(keys):
                say(board, f"p{number}/m", 0, START + 900, credential=one)
        course = Course(*chain, board=board, fallback_on=fallback_on, overall=overall)
        while True:
            step = course.step()
            if isinstance(step, Send):
                fate = fates[int(step.target.provider[1:])]
                if fate == "ok":
                    course.accept()
                else:
                    course.fail(fate, after=min(12.0, step.limits.to_commit) if fate == "timeout" else 0.1)
            elif isinstance(step, Wait):
                course.now = step.until
            else:
                return isinstance(step, Deliver)

    assert answers({number for number in short if number < len(fates)}) or not answers(set())


def test_a_hedge_that_is_not_made_makes_no_fallback_of_the_first_attempt() -> None:
    board = new_board()
    say(board, "b/m", 0)
    course = Course("a/m", "b/m", board=board, stream=True, hedge=HedgePolicy(after=1.0))
    course.send("a/m")
    course.now += 1.0
    course.pending()
    course.fail("invalid_request")
    assert course.dispatch.last_reason is None
    assert course.given_up().status == 400


# --- several keys --------------------------------------------------------------------------------------------


def test_the_key_with_room_is_taken_whichever_turn_it_is() -> None:
    for rotation in range(4):
        board = new_board()
        say(board, "a/m", 0, credential=0)
        course = Course(rung("a/m", 2), "b/m", board=board, rotation=rotation)
        assert course.send("a/m").target.credential == 1


def test_a_rung_is_passed_over_when_no_key_has_room() -> None:
    board = new_board()
    say(board, "a/m", 0, START + 60, credential=0)
    say(board, "a/m", 0, START + 10, credential=1)
    course = Course(rung("a/m", 2), "b/m", board=board)
    course.send("b/m")
    assert course.skipped() == [("a/m", NONE_LEFT)]
    course.fail("timeout")
    assert course.send("a/m").target.credential == 1, "its reset comes first"


def test_after_a_429_another_key_without_room_comes_after_the_rungs_with_room() -> None:
    board = new_board()
    say(board, "a/m", 0, credential=1)
    course = Course(rung("a/m", 2), "b/m", board=board)
    assert course.send("a/m").target.credential == 0
    course.fail("rate_limit", retry_after=30.0)
    course.send("b/m")
    course.fail("timeout")
    assert course.send("a/m").target.credential == 1, "what it said may hold no more"


def test_after_a_429_another_key_without_room_is_asked_where_no_other_rung_has_any() -> None:
    board = new_board()
    say(board, "a/m", 0, credential=1)
    course = Course(rung("a/m", 2), board=board)
    assert course.send("a/m").target.credential == 0
    course.fail("rate_limit", retry_after=30.0)
    assert course.send("a/m").target.credential == 1
