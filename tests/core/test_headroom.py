"""What is left of rate limits: what the provider said, less what was sent since, until its reset."""

from __future__ import annotations

from crossfade.core.headroom import Counts, Headroom, Limit
from crossfade.core.policy import HealthPolicy
from crossfade.core.standing import LimitView
from tests.core.walking import START, new_board, target

NOW = 100.0


def heard(*limits: tuple[str, Counts, float | None, float, float]) -> Headroom:
    headroom = Headroom()
    headroom.spend(0)
    headroom.note([Limit(*limit) for limit in limits], headroom.calls, headroom.tokens)
    return headroom


def test_nothing_is_missing_where_nothing_was_said() -> None:
    headroom = Headroom()
    headroom.spend(10**9)
    assert headroom.missing(10**9, NOW) is None
    assert headroom.share(NOW) == 1.0


def test_each_call_takes_a_request_and_its_tokens() -> None:
    headroom = heard(("requests", "requests", 10, 2, NOW + 60), ("tokens", "tokens", 1000, 500, NOW + 60))
    assert headroom.missing(500, NOW) is None
    assert headroom.share(NOW) == 0.2
    headroom.spend(100)
    assert headroom.missing(400, NOW) is None
    assert headroom.missing(401, NOW) is headroom.limits["tokens"]
    assert headroom.share(NOW) == 0.1
    headroom.spend(100)
    assert headroom.missing(0, NOW) is headroom.limits["requests"]
    assert headroom.share(NOW) == 0.0


def test_output_is_known_to_no_one_before_so_only_none_left_is_too_little() -> None:
    assert heard(("output tokens", "output", 1000, 1, NOW + 60)).missing(10**6, NOW) is None
    assert heard(("output tokens", "output", 1000, 0, NOW + 60)).missing(1, NOW) is not None


def test_of_a_limit_smaller_than_the_request_anything_left_is_enough() -> None:
    """What the provider has cached it may not count, and if it counts all, no time would do."""
    headroom = heard(("tokens", "tokens", 1000, 1, NOW + 60))
    assert headroom.missing(1000, NOW) is not None
    assert headroom.missing(1001, NOW) is None
    headroom.spend(1)
    assert headroom.missing(1001, NOW) is not None


def test_no_word_holds_beyond_its_reset() -> None:
    headroom = heard(("requests", "requests", 10, 0, NOW + 5), ("tokens", "tokens", None, 0, NOW + 9))
    assert headroom.missing(1, NOW) is headroom.limits["tokens"], "the one that lasts longest"
    assert headroom.missing(1, NOW + 5) is headroom.limits["tokens"]
    assert [limit.name for limit in headroom.current(NOW + 5)] == ["tokens"]
    assert headroom.missing(1, NOW + 9) is None
    assert headroom.share(NOW + 5) == 1.0, "of how many is not known"


def test_what_was_sent_behind_the_call_that_is_answered_is_not_yet_counted_in_its_answer() -> None:
    headroom = Headroom()
    headroom.spend(100)
    first = headroom.calls, headroom.tokens
    headroom.spend(100)
    second = headroom.calls, headroom.tokens
    headroom.note([Limit("requests", "requests", 10, 9, NOW + 60)], *first)
    assert headroom.left(headroom.limits["requests"]) == 8
    headroom.note([Limit("requests", "requests", 10, 8, NOW + 60)], *second)
    assert headroom.left(headroom.limits["requests"]) == 8
    headroom.note([Limit("requests", "requests", 10, 9, NOW + 60)], *first)
    assert headroom.left(headroom.limits["requests"]) == 8, "an older word that came late"


def test_no_word_holds_longer_than_an_ejection_would() -> None:
    health = new_board(HealthPolicy(max_rate_limit=30.0)).of(target("a/m"))
    health.note_limits([Limit("requests", "requests", 10, 0, START + 86_400)], 0, 0, START)
    assert health.headroom.missing(1, START + 29) is not None
    assert health.headroom.missing(1, START + 30) is None


def test_reading_changes_nothing() -> None:
    board = new_board()
    health = board.of(target("a/m"))
    health.note_limits([Limit("requests", "requests", 10, 4, START + 60)], 0, 0, START)
    for _ in range(2):
        view = board.snapshot(START)["a/m#0"]
        assert (view.headroom, view.limits) == (0.4, (LimitView("requests", 4, 10, START + 60),))
        view = board.snapshot(START + 60)["a/m#0"]
        assert (view.headroom, view.limits) == (1.0, ())
