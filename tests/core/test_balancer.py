"""Which member of a pool comes first, by each policy; what is out stands last, what is back comes by and by."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.balancer import STALE, Balancer, Demand
from crossfade.core.breaker import Permit
from crossfade.core.headroom import Limit
from crossfade.core.health import HealthBoard
from crossfade.core.policy import BreakerPolicy, HealthPolicy
from crossfade.core.target import Link, Member, Pool, PoolPolicy, Rung, rungs_of
from tests.core.walking import START, failure, rung

POLICIES: Sequence[PoolPolicy] = PoolPolicy.__args__  # type: ignore[attr-defined]


class Scene:
    """A board, a balancer over it and a seeded chance."""

    def __init__(self, seed: int = 1, policy: HealthPolicy | None = None) -> None:
        self.chance = random.Random(seed)
        self.board = HealthBoard(lambda: 0.5, policy or HealthPolicy())
        self.balancer = Balancer(self.board, self.chance.random)
        self.now = START

    def order(self, *links: Link, demand: Demand | None = None) -> list[str]:
        return [one.name for one in self.balancer.order(links, demand or Demand(), self.now)]

    def first(self, pool: Pool, times: int, session: str = "") -> Counter[str]:
        demand = Demand(session=lambda: session)
        return Counter(self.balancer.order([pool], demand, self.now)[0].name for _ in range(times))

    def hear(self, rung: Rung, left: float) -> None:
        """The provider says that so many of 1000 tokens are left, for a minute."""
        health, limit = self.board.of(rung.targets[0]), Limit("tokens", "tokens", 1000, left, self.now + 60)
        health.note_limits([limit], 0, 0, self.now)

    def begin(self, one: Rung, calls: int = 1) -> None:
        for _ in range(calls):
            self.board.of(one.targets[0]).load.begin(self.now)

    def measured(self, one: Rung, seconds: float, at: float = START) -> None:
        self.board.of(one.targets[0]).load.observe(seconds, at)

    def open(self, one: Rung) -> None:
        for request in ("r1", "r2", "r3", "r4", "r5"):
            self.fail(one, request)

    def fail(self, one: Rung, request: str) -> None:
        health = self.board.of(one.targets[0])
        health.settle(health.take(self.now), failure("server_error"), self.now, request, "chat")

    def close(self, one: Rung) -> None:
        """Two good trials, once they are due."""
        health = self.board.of(one.targets[0])
        for _ in range(2):
            permit = health.take(self.now)
            assert isinstance(permit, Permit)
            health.settle(permit, None, self.now, "t", "chat")


def pool(policy: PoolPolicy, *members: Link, weights: Sequence[float] = ()) -> Pool:
    shares = weights or [1.0] * len(members)
    return Pool(name="routes.chat.chain[0]", policy=policy, members=tuple(map(Member, members, shares)))


A, B, C = rung("a/m"), rung("b/m"), rung("c/m")


def test_a_chain_without_a_choice_stays_as_it_is() -> None:
    assert Scene().order(A, pool("priority", B, C)) == ["a/m", "b/m", "c/m"]


def test_weighted_is_in_proportion_and_so_are_the_fallbacks() -> None:
    scene = Scene()
    of = pool("weighted", A, B, C, weights=(6, 3, 1))
    orders = [tuple(scene.order(of)) for _ in range(10_000)]
    first = Counter(order[0] for order in orders)
    assert [first[name] / 10_000 for name in ("a/m", "b/m", "c/m")] == pytest.approx([0.6, 0.3, 0.1], abs=0.015)
    behind_a = Counter(order[1] for order in orders if order[0] == "a/m")
    assert behind_a["b/m"] / behind_a.total() == pytest.approx(0.75, abs=0.02)


def test_a_weight_of_nothing_is_asked_last() -> None:
    for policy in POLICIES:
        scene = Scene()
        for one in (A, B):
            scene.measured(one, 0.5)
        assert scene.order(pool(policy, A, B, weights=(0, 1))) == ["b/m", "a/m"], policy


def test_weights_can_be_changed_and_changed_back() -> None:
    scene = Scene()
    of = pool("weighted", A, B)
    scene.balancer.reweigh(of.name, "a/m", 0.0)
    assert scene.first(of, 50) == {"b/m": 50}
    scene.balancer.reweigh(of.name, "a/m", None)
    assert 300 < scene.first(of, 1000)["a/m"] < 700


def test_round_robin_takes_turns() -> None:
    scene = Scene()
    of = pool("round_robin", A, B, C)
    assert [scene.order(of)[0] for _ in range(6)] == ["a/m", "b/m", "c/m"] * 2
    assert scene.order(of) == ["a/m", "b/m", "c/m"]
    assert scene.order(of) == ["b/m", "c/m", "a/m"]


def test_least_requests_counts_calls_under_way_by_weight() -> None:
    scene = Scene()
    scene.begin(A, 3)
    scene.begin(B, 2)
    scene.begin(C, 9)
    assert scene.order(pool("least_requests", A, B, C)) == ["b/m", "a/m", "c/m"]
    assert scene.order(pool("least_requests", A, B, C, weights=(1, 1, 10)))[0] == "c/m"


def test_least_requests_breaks_ties_by_lot() -> None:
    assert 400 < Scene().first(pool("least_requests", A, B), 1000)["a/m"] < 600


def test_cheapest_reckons_with_input_and_answer() -> None:
    dear_in = rung("a/m", price_in=10e-6, price_out=1e-6)
    dear_out = rung("b/m", price_in=1e-6, price_out=10e-6)
    free = rung("c/m")
    of = pool("cheapest", free, dear_in, dear_out)
    assert Scene().order(of, demand=Demand(input_tokens=10_000)) == ["b/m", "a/m", "c/m"]
    assert Scene().order(of, demand=Demand(input_tokens=10)) == ["a/m", "b/m", "c/m"]
    assert Scene().order(of, demand=Demand(input_tokens=10, max_tokens=1)) == ["b/m", "a/m", "c/m"]


def test_headroom_goes_where_most_is_left() -> None:
    scene = Scene()
    for one, left in ((A, 100), (B, 900), (C, 500)):
        scene.hear(one, left)
    assert scene.order(pool("headroom", A, B, C)) == ["b/m", "c/m", "a/m"]
    scene.now += 61  # what was said holds no more
    scene.hear(B, 1)
    assert scene.order(pool("headroom", A, B, C))[-1] == "b/m"


def test_sticky_sessions_stay_and_a_lost_member_moves_its_own_only() -> None:
    scene = Scene()
    of = pool("sticky", A, B, C)
    sessions = [f"s{number}" for number in range(900)]
    before = {one: scene.order(of, demand=Demand(session=lambda one=one: one)) for one in sessions}  # type: ignore[misc]
    shares = Counter(order[0] for order in before.values())
    assert all(240 < count < 360 for count in shares.values())
    scene.open(B)
    for session, order in before.items():
        now = scene.order(of, demand=Demand(session=lambda one=session: one))  # type: ignore[misc]
        assert now == [*(name for name in order if name != "b/m"), "b/m"]
    other = Scene(seed=99)
    assert other.order(of, demand=Demand(session=lambda: "s7")) == before["s7"]


def test_sticky_without_a_session_draws_lots() -> None:
    assert 200 < Scene().first(pool("sticky", A, B, C), 900)["a/m"] < 400


# --- fastest -------------------------------------------------------------------------------------------------


def test_fastest_is_the_one_that_begins_first() -> None:
    scene = Scene()
    for one, seconds in ((A, 0.9), (B, 0.2), (C, 0.5)):
        scene.measured(one, seconds)
    assert scene.order(pool("fastest", A, B, C)) == ["b/m", "c/m", "a/m"]


def test_an_unknown_member_is_tried_at_once_by_one_request() -> None:
    scene = Scene()
    scene.measured(A, 0.2)
    assert scene.order(pool("fastest", A, B)) == ["b/m", "a/m"]
    scene.begin(B)
    assert scene.order(pool("fastest", A, B)) == ["a/m", "b/m"]


def test_a_member_that_has_gone_silent_is_left_before_any_timeout() -> None:
    scene = Scene()
    scene.measured(A, 0.2)
    scene.measured(B, 0.5)
    scene.begin(A)
    scene.now += 0.4
    assert scene.order(pool("fastest", A, B))[0] == "a/m"
    scene.now += 0.2
    assert scene.order(pool("fastest", A, B))[0] == "b/m"


def test_what_was_not_asked_of_late_is_looked_at_within_a_budget() -> None:
    scene = Scene()
    scene.measured(A, 0.1, START)
    scene.measured(B, 0.1, START - STALE - 1)  # as fast, as far as is known
    scene.measured(C, 2.0, START - STALE - 1)
    first = scene.first(pool("fastest", A, B, C), 20_000)
    assert 0 < first["c/m"] < 20_000 * 0.05 / 3 * (0.1 / 2.0) * 1.6
    extra = sum(count * seconds for count, seconds in ((first["c/m"], 2.0 - 0.1),))
    assert extra / (20_000 * 0.1) < 0.05


def test_a_member_without_weight_is_not_looked_at() -> None:
    scene = Scene()
    scene.measured(A, 0.1, START)
    assert scene.first(pool("fastest", A, B, weights=(1.0, 0.0)), 2000) == {"a/m": 2000}
    scene.measured(B, 0.1, START - STALE - 1)
    assert scene.first(pool("fastest", A, B, weights=(1.0, 0.0)), 2000) == {"a/m": 2000}


# --- what is out, on trial, back -----------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_a_member_that_is_out_stands_behind_the_others(policy: PoolPolicy) -> None:
    scene = Scene()
    scene.open(A)
    assert {tuple(scene.order(pool(policy, A, B, C)))[-1] for _ in range(50)} == {"a/m"}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_member_that_is_due_for_its_trial_comes_first_until_it_is_on_trial(policy: PoolPolicy) -> None:
    scene = Scene()
    for one in (B, C):
        scene.measured(one, 0.1)
    scene.open(A)
    scene.now += 60
    assert scene.order(pool(policy, B, C, A))[0] == "a/m"
    assert scene.board.of(A.targets[0]).take(scene.now) is not None
    assert scene.order(pool(policy, B, C, A))[-1] == "a/m"


def test_a_member_that_is_back_gets_its_share_by_and_by() -> None:
    scene = Scene(policy=HealthPolicy(breaker=BreakerPolicy(ramp=10.0)))
    of = pool("weighted", A, B)
    scene.open(A)
    scene.now += 60
    scene.close(A)
    shares = []
    for _ in range(4):
        shares.append(scene.first(of, 2000)["a/m"] / 2000)
        scene.now += 5
    assert shares == pytest.approx([0.05, 0.275, 0.5, 0.5], abs=0.04)


# --- pools in pools ------------------------------------------------------------------------------------------


def test_an_inner_pool_is_one_member() -> None:
    scene = Scene()
    inner = Pool(name="inner", policy="priority", members=(Member(B), Member(C)))
    of = pool("weighted", A, inner)
    orders = Counter(tuple(scene.order(of)) for _ in range(2000))
    assert orders.keys() == {("a/m", "b/m", "c/m"), ("b/m", "c/m", "a/m")}
    assert 850 < orders["a/m", "b/m", "c/m"] < 1150


def links() -> st.SearchStrategy[list[Link]]:
    names = iter(range(10**9))

    def leaf(_: object) -> Rung:
        return rung(f"p{next(names)}/m", price_in=1e-6, price_out=1e-6)

    def made(policy: PoolPolicy, members: list[Link]) -> Pool:
        name = f"pool{next(names)}"
        return Pool(name=name, policy=policy, members=tuple(Member(one, 1.0) for one in members))

    rungs = st.builds(leaf, st.none())
    nested = st.recursive(
        rungs, lambda inner: st.builds(made, st.sampled_from(POLICIES), st.lists(inner, min_size=1, max_size=4))
    )
    return st.lists(nested, min_size=1, max_size=4)


@given(links(), st.integers(0, 99), st.data())
def test_every_rung_stands_in_the_order_once_whatever_the_policies(
    chain: list[Link], seed: int, data: st.DataObject
) -> None:
    scene = Scene(seed)
    everything = [one for link in chain for one in rungs_of(link)]
    for one in data.draw(st.lists(st.sampled_from(everything), max_size=3)):
        data.draw(st.sampled_from([scene.open, scene.begin, lambda one: scene.measured(one, 0.3)]))(one)
    for _ in range(3):
        ordered = scene.order(*chain)
        assert Counter(ordered) == Counter(one.name for one in everything)
        scene.now += data.draw(st.sampled_from([0.0, 1.0, 20.0]))
    place = 0
    for link in chain:  # a pool's members stay together, in the chain's order
        size = len(rungs_of(link))
        assert set(ordered[place : place + size]) == {one.name for one in rungs_of(link)}
        place += size
