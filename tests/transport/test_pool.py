"""The accounts of connections: who gets which, who waits, who goes. No sockets, a clock moved by hand."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from crossfade.transport.pool import Lane, Pool, PoolLimits


class Connection:
    def __init__(self, lane: Lane[Connection]) -> None:
        self.lane = lane
        self.is_usable = True

    def close(self) -> None:
        if self.is_usable:
            self.is_usable = False
            self.lane.on_closed(self)


class Claim:
    """A call: remembers what the lane gave it."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.is_dialling = False
        self.turns = 0

    def use(self, connection: Connection) -> None:
        self.connection = connection
        self.turns += 1

    def dial(self) -> None:
        self.is_dialling = True
        self.turns += 1


class Bench:
    def __init__(self, **limits: int) -> None:
        self.now = 0.0
        self.idled = 0
        self.pool: Pool[Connection] = Pool(PoolLimits(**limits), lambda: self.now, self.on_idle)

    def on_idle(self) -> None:
        self.idled += 1

    def served(self, lane: Lane[Connection]) -> Connection:
        """A connection that was dialled, has served, and idles (if it may)."""
        claim = Claim()
        lane.claim(claim)
        connection = Connection(lane)
        lane.end_dial(connection)
        lane.on_reusable(connection)
        return connection


def test_the_connection_used_last_is_used_first() -> None:
    bench = Bench()
    lane = bench.pool.add(4.0)
    first, second = Claim(), Claim()
    lane.claim(first)
    lane.claim(second)
    older, newer = Connection(lane), Connection(lane)
    lane.end_dial(older)
    lane.end_dial(newer)
    lane.on_reusable(older)
    lane.on_reusable(newer)
    assert lane.take(0.0) is newer
    assert lane.take(0.0) is older
    assert lane.take(0.0) is None


def test_keep_idle_is_the_last_moment_of_use() -> None:
    bench = Bench()
    lane = bench.pool.add(4.0)
    connection = bench.served(lane)
    assert lane.take(4.0) is connection
    lane.on_reusable(connection)
    assert lane.take(4.1) is None
    assert not connection.is_usable
    assert repr(bench.pool) == "idle=0 busy=0 dialling=0 waiting=0"


def test_a_connection_that_closes_itself_is_not_given_out() -> None:
    bench = Bench()
    lane = bench.pool.add(4.0)
    connection = bench.served(lane)
    connection.is_usable = False  # the loop has not told yet
    assert lane.take(0.0) is None
    assert bench.pool.idle_count == 0


def test_the_sweep_closes_what_has_idled_too_long_and_nothing_else() -> None:
    bench = Bench()
    short, long = bench.pool.add(1.0), bench.pool.add(60.0)
    gone, kept = bench.served(short), bench.served(long)
    bench.now = 2.0
    assert bench.pool.close_expired() is True
    assert (gone.is_usable, kept.is_usable) == (False, True)
    bench.now = 100.0
    assert bench.pool.close_expired() is False
    assert not kept.is_usable


def test_above_the_bound_of_an_endpoint_its_oldest_idle_connection_goes() -> None:
    bench = Bench(max_idle_per_endpoint=1)
    lane = bench.pool.add(4.0)
    older, newer = Connection(lane), Connection(lane)
    for connection in (older, newer):
        lane.claim(Claim())
        lane.end_dial(connection)
    lane.on_reusable(older)
    lane.on_reusable(newer)
    assert (older.is_usable, newer.is_usable) == (False, True)


def test_above_the_total_bound_the_oldest_of_all_endpoints_goes() -> None:
    bench = Bench(max_idle=2)
    lanes = [bench.pool.add(60.0) for _ in range(3)]
    connections = []
    for lane in lanes:
        bench.now += 1
        connections.append(bench.served(lane))
    assert [connection.is_usable for connection in connections] == [False, True, True]


def test_a_bound_of_nought_keeps_none() -> None:
    for limits in ({"max_idle": 0}, {"max_idle_per_endpoint": 0}):
        bench = Bench(**limits)
        assert not bench.served(bench.pool.add(4.0)).is_usable


def test_after_close_none_is_kept() -> None:
    bench = Bench()
    lane = bench.pool.add(4.0)
    idle = bench.served(lane)
    bench.pool.close()
    assert not idle.is_usable
    assert not bench.served(lane).is_usable


def test_a_late_close_of_an_uncounted_connection_changes_nothing() -> None:
    bench = Bench()
    lane = bench.pool.add(4.0)
    lane.claim(Claim())
    Connection(lane).close()  # its dial failed after it had connected
    assert repr(bench.pool) == "idle=0 busy=0 dialling=1 waiting=0"


def test_empty_lanes_are_forgotten() -> None:
    bench = Bench()
    bench.pool.add(4.0)
    used = bench.pool.add(4.0)
    bench.served(used)
    assert bench.pool.remove_empty() == [used]


class PoolMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order: the bound holds, nobody waits without cause, each call has its turn once."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(max_open_per_endpoint=3, max_idle_per_endpoint=2, max_idle=3)
        self.lane = self.bench.pool.add(4.0)
        self.claims: list[Claim] = []  # waiting, dialling or with a connection

    @rule()
    def send(self) -> None:
        claim = Claim()
        self.claims.append(claim)
        connection = self.lane.take(self.bench.now)
        if connection is not None:
            claim.use(connection)
        else:
            self.lane.claim(claim)

    @rule(data=st.data(), is_good=st.booleans())
    def end_a_dial(self, data: st.DataObject, is_good: bool) -> None:
        dialling = [claim for claim in self.claims if claim.is_dialling]
        if dialling:
            claim = data.draw(st.sampled_from(dialling))
            claim.is_dialling = False
            claim.connection = Connection(self.lane) if is_good else None
            if not is_good:
                self.claims.remove(claim)
            self.lane.end_dial(claim.connection)

    @rule(data=st.data(), is_reusable=st.booleans())
    def end_a_call(self, data: st.DataObject, is_reusable: bool) -> None:
        busy = [claim for claim in self.claims if claim.connection is not None]
        if busy:
            claim = data.draw(st.sampled_from(busy))
            self.claims.remove(claim)
            assert claim.connection is not None
            if is_reusable:
                self.lane.on_reusable(claim.connection)
            else:
                claim.connection.close()

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        waiting = [claim for claim in self.claims if claim in self.lane.waiting]
        if waiting:
            claim = data.draw(st.sampled_from(waiting))
            self.claims.remove(claim)
            self.lane.leave(claim)

    @rule(seconds=st.sampled_from([1.0, 3.0, 5.0]))
    def sweep(self, seconds: float) -> None:
        self.bench.now += seconds
        self.bench.pool.close_expired()

    @invariant()
    def accounts_are_right(self) -> None:
        lane = self.lane
        assert lane.open_count <= 3
        assert len(lane.idle) <= 2
        assert self.bench.pool.idle_count == len(lane.idle)
        assert lane.dialling == sum(claim.is_dialling for claim in self.claims)
        assert lane.busy == {claim.connection for claim in self.claims if claim.connection is not None}
        assert all(connection.is_usable for connection in (*lane.idle, *lane.busy))
        assert not (lane.waiting and lane.open_count < 3)
        assert not (lane.waiting and lane.idle)
        waiting = [claim for claim in self.claims if claim.turns == 0]
        assert waiting == list(lane.waiting)
        assert all(claim.turns <= 1 for claim in self.claims)


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPoolMachine = PoolMachine.TestCase
