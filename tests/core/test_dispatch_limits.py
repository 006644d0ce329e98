"""Targets that are left before their 429: passed over while another has room, called all the same where none has."""

from __future__ import annotations

from crossfade.core.exchange import RequestFacts
from crossfade.core.headroom import Counts, Limit
from crossfade.core.health import HealthBoard
from crossfade.core.policy import HedgePolicy
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
