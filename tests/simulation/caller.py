"""One request of a simulation, driven through its walk as the runner does: steps performed, facts reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfade.core.balancer import Demand
from crossfade.core.dispatch import Dispatch
from crossfade.core.exchange import Ability, RequestFacts, StreamEvent, ToolDelta
from crossfade.core.failure import Failure, FailureReason, Origin, Phase
from crossfade.core.planner import plan
from crossfade.core.policy import TimeoutPolicy
from crossfade.core.steps import Deliver, GiveUp, Queued, Send, Wait
from crossfade.core.target import Route
from crossfade.core.verdict import Accepted, Rejected
from crossfade.core.walk import Attempt, Walk

if TYPE_CHECKING:
    from tests.simulation.weather import Course
    from tests.simulation.world import World

POISON = "poison"


class Caller:
    """One request, and all that it has seen. `kind`: usual, hasty (absurd timeouts), leaving or poison."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.name = f"r{number}"
        draw = world.draw
        self.kind = draw.choices(("usual", "hasty", "leaving", "poison"), (85, 5, 6, 4))[0]
        self.route: Route = draw.choice(world.routes)
        self.sends: dict[int, Send] = {}
        self.sent_at: dict[int, float] = {}
        self.attempts: dict[int, Attempt] = {}
        self.failed: dict[int, Failure] = {}
        self.accepted: set[int] = set()
        self.open: set[int] = set()
        self.committed: int | None = None
        self.end: Deliver | GiveUp | None = None
        self.is_cancelled = False
        self.has_hedged = False
        self._asks_at: float | None = None

    def begin(self) -> None:
        world, draw, route = self.world, self.world.draw, self.route
        needs = frozenset({Ability.TOOLS}) if draw.random() < 0.1 else frozenset()
        self.facts = RequestFacts(
            stream=draw.random() < 0.5,
            thinking=draw.random() < 0.05,
            n=2 if draw.random() < 0.03 else 1,
            needs=needs,
            input_tokens=draw.choice((10, 10, 10, 900, 900, 2500)),
        )
        hasty = TimeoutPolicy(first_content=draw.choice((0.01, 0.5)), attempt=draw.choice((None, 0.02)))
        self.overall = draw.choice((0.05, 1.0)) if self.kind == "hasty" else draw.choice((5.0, 19.5, 60.0, 600.0))
        chain = world.order(route, Demand(self.facts.input_tokens, session=lambda: str(draw.randrange(9))))
        self.plan = plan(route, self.facts, world.board.ranks(route.name, world.now), chain=chain)
        self.began_at = world.now
        self.walk = Walk(
            request=POISON if self.kind == "poison" else self.name,
            route=route.name,
            plan=self.plan,
            facts=self.facts,
            policy=route.policy,
            caller=hasty if self.kind == "hasty" else TimeoutPolicy(),
            overall=self.overall,
            board=world.board,
            budget=world.budgets[route.name],
            draw=draw.random,
            rotation=draw.randrange(5),
            is_repeatable=draw.random() < 0.9,
        )
        self.dispatch = Dispatch(self.walk, world.now)
        world.callers.append(self)
        world.counts["requests"] += 1
        world.note(self.name, f"{self.kind} {route.name} {[rung.name for rung in self.plan.rungs]}")
        if self.kind == "leaving":
            world.at(world.now + draw.uniform(0.0, 40.0), self.leave)
        self.advance()

    # --- steps -----------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Performs steps until there is nothing to do but wait."""
        world, watch = self.world, self.world.watch
        while self.end is None:
            watch.before_step(self)
            step = self.dispatch.next_step(world.now)
            if world.trace is not None:
                world.note(self.name, step)
            if isinstance(step, Send):
                watch.on_send(self, step)
                self._send(step)
                continue
            if isinstance(step, (Deliver, GiveUp)):
                self.end = step
                self.open.clear()
                watch.on_end(self, step)
                return
            self._asks_at = step.until
            watch.on_wait(self, step.until, is_alone=isinstance(step, (Wait, Queued)))
            if isinstance(step, Queued):
                step.ticket.tell = self._on_room
            if step.until is not None:
                world.at(step.until, self._advance_if_due)
            return

    def _on_room(self) -> None:
        """As in the engine, nothing is done while another request is at work."""
        self.world.counts["room"] += 1
        self._asks_at = self.world.now
        self.world.at(self.world.now, self._advance_if_due)

    def _advance_if_due(self) -> None:
        if self.end is None and self._asks_at is not None and self.world.now >= self._asks_at:
            self.advance()

    def _send(self, step: Send) -> None:
        number, world = step.attempt, self.world
        self.sends[number], self.sent_at[number] = step, world.now
        self.attempts[number] = self.dispatch._in_flight[number]
        self.open.add(number)
        course = world.providers[step.target.provider].course(step.target, self.kind == "poison", world.now)
        self._play(number, step, course)

    # --- what becomes of a call ------------------------------------------------------------------------------

    def _play(self, number: int, step: Send, course: Course) -> None:
        """Lets the course happen, within the limits of the attempt."""
        world, limits = self.world, step.limits
        sent = world.now
        if course.said is not None and course.content < limits.to_commit:
            head = min(course.content, course.end)
            world.at(sent + head, lambda: self.dispatch.on_limits(number, course.said or (), world.now))
        first = min(limits.first_content if step.stream else limits.to_commit, limits.to_commit)
        own = min(limits.own_first_content if step.stream else limits.own_attempt, limits.own_attempt)
        begins = course.content if step.stream else course.end
        if course.failure is not None and course.content > course.end:
            begins = course.end  # it fails before it has said anything
        if begins >= first:
            self._time_out(number, first, own)
            return
        if course.failure is not None and course.content > course.end:
            world.at(sent + course.end, lambda: self.on_verdict(number, course.failure))
            return
        if not step.stream:
            world.at(sent + course.end, lambda: self.on_verdict(number, course.failure))
            return
        world.at(sent + course.content, lambda: self.on_content(number))
        is_whole = not self.facts.stream  # assembled: nothing leaves before its end
        end, failure = course.end, course.failure
        if end - course.content > limits.idle:
            end, failure = course.content + limits.idle, _stalled(limits.own_idle > limits.idle)
        if is_whole and end >= limits.to_commit:
            self._time_out(number, limits.to_commit, limits.own_attempt)
            return
        if not is_whole:
            text = "text " * world.draw.randint(0, 40)
            has_tools = world.draw.random() < 0.1
            world.at(sent + course.content, lambda: self.on_commit(number, text, has_tools))
        world.at(sent + end, lambda: self.on_verdict(number, failure))

    def _time_out(self, number: int, limit: float, own: float) -> None:
        failure = Failure(
            reason=FailureReason.TIMEOUT, origin=Origin.LOCAL, phase=Phase.FIRST_CONTENT, is_caller_limit=limit < own
        )
        self.world.at(self.world.now + limit, lambda: self.on_verdict(number, failure))

    # --- facts -----------------------------------------------------------------------------------------------

    def on_content(self, number: int) -> None:
        if number in self.open:
            self.dispatch.on_content(number, self.world.now)
            self.world.watch.on_settled(self, number, None)

    def on_commit(self, number: int, text: str, has_tools: bool) -> None:
        if number not in self.open:
            return
        if not self.dispatch.on_commit(number, self.world.now):
            self.open.discard(number)
            return
        self.world.watch.on_commit(self, number)
        self.committed = number
        self.open = {number}
        send = self.sends[number]
        if send.join is not None:
            self.dispatch.transcript.joins.append(send.join)
        tools = (ToolDelta(index=0, name="f"),) if has_tools else ()
        self.dispatch.transcript.add(StreamEvent(text=text, tools=tools))

    def on_verdict(self, number: int, failure: Failure | None) -> None:
        if number not in self.open:
            self.world.watch.on_late(self, number)
            return
        self.open.discard(number)
        if failure is None:
            self.accepted.add(number)
            self.open.clear()
        else:
            self.failed[number] = failure
        before = self.world.watch.before_verdict(self, number, failure)
        self.dispatch.on_verdict(number, Rejected(failure=failure) if failure else Accepted(), self.world.now)
        if self.world.trace is not None:
            self.world.note(self.name, f"{number}: {failure.reason if failure else 'good'}")
        self.world.watch.on_settled(self, number, failure, before)
        self.advance()

    def leave(self) -> None:
        if self.end is not None:
            return
        self.is_cancelled = True
        now = self.world.now
        silent = {number: now - self.sent_at[number] for number in self.open}
        before = self.world.watch.before_leaving(self, silent)
        self.dispatch.on_cancel(now, silent)
        self.world.watch.on_left(self, before)
        self.advance()


def _stalled(is_callers: bool) -> Failure:
    return Failure(
        reason=FailureReason.STREAM_STALLED, origin=Origin.LOCAL, phase=Phase.IDLE, is_caller_limit=is_callers
    )
