"""The data plane's front door: which path is which endpoint, who may call, and what a request becomes.

`App` is the handler of the listener. It refuses what it can by the head alone, before a body is read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from crossfade.config.directory import Directory
from crossfade.core.balancer import Demand
from crossfade.core.dispatch import Dispatch
from crossfade.core.errors import Overloaded, RequestError
from crossfade.core.exchange import RequestFacts
from crossfade.core.planner import plan
from crossfade.core.shedding import Shortage
from crossfade.core.target import Target
from crossfade.core.walk import Walk
from crossfade.edge.affinity import preference
from crossfade.edge.anthropic_messages import COUNT_TOKENS, MESSAGES, MESSAGES_ENDPOINT
from crossfade.edge.auth import Gate, Key
from crossfade.edge.endpoint import Asked, Endpoint
from crossfade.edge.intake import Admitted, Caller, Intake
from crossfade.edge.models import Models, model_of
from crossfade.edge.openai_chat import CHAT, CHAT_COMPLETIONS
from crossfade.edge.openai_completions import COMPLETIONS
from crossfade.edge.openai_embeddings import EMBEDDINGS
from crossfade.edge.openai_responses import RESPONSES
from crossfade.edge.passthrough import METHODS, Passage, path_behind
from crossfade.edge.probe import PROBE, Nowhere, probe_body, probe_terms
from crossfade.edge.problems import JSON, problem, problem_of
from crossfade.edge.session import session_of
from crossfade.edge.status import Status
from crossfade.engine.engine import Engine
from crossfade.engine.ports import CallerDialect
from crossfade.engine.record import Job
from crossfade.engine.runner import Runner
from crossfade.engine.under_way import UnderWay
from crossfade.http1.downstream import Downstream
from crossfade.http1.head import Fields, rendered_fields
from crossfade.http1.request import Handler, Request

MAX_HELD: Final = 512 * 1024 * 1024
"""Bytes of bodies, and of answers held back, of all requests together; above it new requests are shed."""
_SHED_WORDS: Final[dict[Shortage, str]] = {
    "requests": "The gateway has as many requests under way as it may; try again in a moment.",
    "bytes": "The gateway holds back as much as it may of other answers; try again in a moment.",
    "delay": "The gateway has more to do than it can; try again in a moment.",
}


class _Let:
    """A head that was let in: by which gate, and where the request goes."""

    __slots__ = ("caller", "endpoint", "gate")

    def __init__(self, gate: Gate, endpoint: Endpoint, caller: Caller) -> None:
        self.gate = gate
        self.endpoint = endpoint
        self.caller = caller


class _Pass:
    """A head that was let in, to be passed on: the path at the provider, and the key."""

    __slots__ = ("key", "path")

    def __init__(self, path: str, key: Key | None) -> None:
        self.path = path
        self.key = key


class App(Handler):
    """The endpoints of one worker. `intake` and `gate` may be swapped while requests are under way."""

    def __init__(self, engine: Engine, directory: Directory, gate: Gate, status: Status):
        self.engine = engine
        self.intake = Intake(directory)
        self.gate = gate
        self.status = status
        self._models = Models(directory)
        self._prefix = f"cf-{os.urandom(5).hex()}-"
        self._count = 0
        self._refusals: dict[tuple[str, Shortage], tuple[str, bytes]] = {}

    # --- the listener's handler ------------------------------------------------------------------------------

    def on_head(self, request: Request) -> None:
        """Answers at once what needs no body: probes, wrong paths, wrong methods, wrong keys."""
        let = request.head.note
        if type(let) is _Let and let.gate is self.gate:  # the same head as before
            shortage = self._shortage(request)
            if shortage is None:
                request.handler_state = let
            else:
                self._shed(request, let.endpoint.dialect, shortage)
            return
        path = request.path
        if path in _PROBES:
            self.status.answer(request)
            return
        endpoint = _ENDPOINTS.get(path)
        if endpoint is None:
            self._on_other_head(request)
            return
        if request.method != "POST":
            self._refuse_method(request)
            return
        shortage = self._shortage(request)
        if shortage is not None:
            self._shed(request, endpoint.dialect, shortage)
            return
        try:
            key = self.gate.admit(request.headers, request.peer[0], request.received_at)
        except RequestError as error:
            self._refuse_for(request, error)
            return
        if not request.headers.get("content-type", "").startswith("application/json"):
            self._refuse(request, 415, "The body must be `application/json`.", code="unsupported_media_type")
            return
        request.head.note = request.handler_state = _Let(self.gate, endpoint, Caller.of(request.headers, key))

    def _shortage(self, request: Request) -> Shortage | None:
        engine = self.engine
        overdue = request.received_at - engine.tick_due
        return engine.shedding.shortage(len(engine.runners), engine.held, MAX_HELD, overdue)

    def _shed(self, request: Request, dialect: CallerDialect, shortage: Shortage) -> None:
        """Refuses by the head alone. While this is done thousands of times a second, it must cost next to nothing."""
        self.engine.shedding.note_refused(shortage)
        ready = self._refusals.get((dialect.name, shortage))
        if ready is None:
            error = Overloaded(_SHED_WORDS[shortage])
            headers, body = problem_of(dialect, error)
            fields = rendered_fields([*headers, ("retry-after", str(error.retry_after))])
            ready = self._refusals[dialect.name, shortage] = (fields.text, body)
        request.respond(503, Fields(f"{ready[0]}x-request-id: {self._new_id()}\r\n"), ready[1])

    def _refuse_method(self, request: Request) -> None:
        """A client that would rather speak WebSocket goes on by HTTP at once where it is told so by 426; after another
        status it tries again. The `upgrade` that RFC 9110 wants with it is left out: only the connection may say it."""
        if request.headers.get("upgrade", "").lower() == "websocket":
            message = f"{request.path} takes POST, and speaks no WebSocket."
            self._refuse(request, 426, message, code="upgrade_required")
            return
        message = f"{request.path} takes POST, not {request.method}."
        self._refuse(request, 405, message, code="method_not_allowed", more=(("allow", "POST"),))

    def _on_other_head(self, request: Request) -> None:
        """What is no endpoint with a chain behind it."""
        path = request.path
        if (model := model_of(path)) is not None:
            self._tell_models(request, model)
        elif (rest := path_behind(path)) is not None:
            self._let_pass(request, rest)
        else:
            self._refuse(request, 404, f"There is no {path!r} here.", code="not_found")

    def _let_pass(self, request: Request, path: str) -> None:
        if self.intake.directory.passthrough is None:
            message = f"There is no {request.path!r} here; the key `passthrough` of the configuration names a provider"
            self._refuse(request, 404, f"{message} that it is passed to.", code="not_found")
            return
        if request.method not in METHODS:
            message = f"{request.path} takes {', '.join(METHODS)}, not {request.method}."
            self._refuse(request, 405, message, code="method_not_allowed", more=(("allow", ", ".join(METHODS)),))
            return
        shortage = self._shortage(request)
        if shortage is not None:
            self._shed(request, CHAT, shortage)
            return
        try:
            key = self.gate.admit(request.headers, request.peer[0], request.received_at)
        except RequestError as error:
            self._refuse_for(request, error)
            return
        if key is not None and key.route is not None:
            message = f"This key is bound to the route {key.route!r}, and nothing else may be asked with it."
            self._refuse(request, 403, message, code="not_allowed")
            return
        request.handler_state = _Pass(path, key)

    def on_request(self, request: Request) -> None:
        if type(request.handler_state) is _Pass:
            self._pass_on(request, request.handler_state)
            return
        let: _Let = request.handler_state
        try:
            if let.endpoint.answer is not None:
                self._answer(let.endpoint, let.caller, request)
                return
            runner = self.ask(let.endpoint, request.body, let.caller, request.received_at, request)
        except RequestError as error:
            self._refuse_for(request, error)
        else:
            request.handler_state = None if runner.is_done else runner

    def _pass_on(self, request: Request, to: _Pass) -> None:
        provider = self.intake.directory.passthrough
        if provider is None:  # a reload has taken it away since the head was let in
            self._refuse(request, 404, f"There is no {request.path!r} here.", code="not_found")
            return
        passage = Passage(self.engine, request, provider, to.key, self._new_id(), to.path)
        request.handler_state = passage
        passage.begin(self.engine.upstreams.first_of(provider))

    def _answer(self, endpoint: Endpoint, caller: Caller, request: Request) -> None:
        """Answers by the request alone, if it is one that could be served. Raises RequestError."""
        inbound = endpoint.read(request.body, caller)
        self.intake.admit(inbound.ours, inbound.facts, caller, request.body)
        assert endpoint.answer is not None
        body = endpoint.answer(inbound.facts)
        request.respond(200, [JSON, ("x-request-id", self._new_id())], body)

    def on_gone(self, request: Request) -> None:
        if isinstance(request.handler_state, UnderWay):
            request.handler_state.on_gone()

    def on_pressure(self, request: Request, is_pressed: bool) -> None:
        if isinstance(request.handler_state, UnderWay):
            request.handler_state.on_pressure(is_pressed)

    def problem(self, status: int, message: str, path: str) -> tuple[list[tuple[str, str]], bytes]:
        headers, body = problem(_dialect_of(path), status, message)
        return ([*headers, ("retry-after", "1")] if status == 503 else headers), body

    def _refuse(
        self, request: Request, status: int, message: str, *, code: str, more: Sequence[tuple[str, str]] = ()
    ) -> None:
        headers, body = problem(_dialect_of(request.path), status, message, code=code)
        request.respond(status, [*headers, ("x-request-id", self._new_id()), *more], body)

    def _refuse_for(self, request: Request, error: RequestError) -> None:
        headers, body = problem_of(_dialect_of(request.path), error)
        headers.append(("x-request-id", self._new_id()))
        if error.retry_after is not None:
            headers.append(("retry-after", str(error.retry_after)))
        request.respond(error.status, headers, body)

    # --- models ----------------------------------------------------------------------------------------------

    def _tell_models(self, request: Request, model: str) -> None:
        if request.method not in ("GET", "HEAD"):
            message = f"{request.path} takes GET, not {request.method}."
            self._refuse(request, 405, message, code="method_not_allowed", more=(("allow", "GET, HEAD"),))
            return
        directory = self.intake.directory
        if self._models.directory is not directory:  # there was a reload
            self._models = Models(directory)
        headers = request.headers
        try:
            key = self.gate.admit(headers, request.peer[0], request.received_at)
            body = self._models.answer(
                model,
                request.query,
                bound_route=None if key is None else key.route,
                is_anthropic="anthropic-version" in headers,
            )
        except RequestError as error:
            self._refuse_for(request, error)
        else:
            request.respond(200, [JSON, ("cache-control", "no-store"), ("x-request-id", self._new_id())], body)

    # --- endpoints -------------------------------------------------------------------------------------------

    def ask(
        self, endpoint: Endpoint, body: bytes, caller: Caller, received_at: float, downstream: Downstream
    ) -> Runner:
        """Begins a request, whichever way it came in. Raises RequestError."""
        inbound = endpoint.read(body, caller)
        facts, ours = inbound.facts, inbound.ours
        admitted = self.intake.admit(ours, facts, caller, body)
        demand = None
        if admitted.route.links:
            session = partial(session_of, ours, caller.headers, body)
            demand = Demand(facts.input_tokens, facts.max_tokens, session)
        return self._begin(endpoint, body, inbound, admitted, demand, caller.key, received_at, downstream)

    def probe(self, target: Target) -> None:
        """Asks one target for next to nothing, so that no caller has to find out whether it answers."""
        caller = Caller(Key(PROBE), {})
        body = probe_body(target)
        inbound = CHAT_COMPLETIONS.read(body, caller)
        terms = probe_terms(target)
        self._begin(CHAT_COMPLETIONS, body, inbound, terms, None, caller.key, time.perf_counter(), Nowhere())

    def _begin(
        self,
        endpoint: Endpoint,
        body: bytes,
        inbound: Asked,
        admitted: Admitted,
        demand: Demand | None,
        key: Key | None,
        received_at: float,
        downstream: Downstream,
    ) -> Runner:
        facts, route = inbound.facts, admitted.route
        now = time.perf_counter()
        job_id = self._new_id()
        dispatch = self._dispatch(body, admitted, facts, demand, now)
        job = Job(
            id=job_id,
            route=route.name,
            model=inbound.ours.model,
            endpoint=endpoint.name,
            key=None if key is None else key.name,
            inbound=inbound,
            dialect=endpoint.dialect,
            policy=admitted.policy,
            check=admitted.check(facts),
            received_at=received_at,
            wants_trace=admitted.wants_trace,
            tags=admitted.tags,
            primary=route.first(),
            rule=admitted.rule,
            project=None if key is None else key.project,
        )
        runner = Runner(self.engine, job, dispatch, downstream)
        runner.begin(now)
        return runner

    def _dispatch(
        self, body: bytes, admitted: Admitted, facts: RequestFacts, demand: Demand | None, now: float
    ) -> Dispatch:
        engine, route, policy = self.engine, admitted.route, admitted.policy
        name, retry, board = route.name, policy.retry, engine.board
        prefers = preference(facts.tool_call_ids, self.intake.directory.vendors) if facts.tool_call_ids else None
        chain = None if demand is None else engine.balancer.order(route.links, demand, now)
        walk = Walk(
            body,
            name,
            plan(route, facts, board.ranks(name, now), prefers, chain),
            facts,
            policy,
            admitted.limits,
            admitted.overall,
            board,
            engine.budget(name, retry.budget_ratio, retry.budget_floor),
            engine.draw,
            self._count,
            admitted.is_repeatable,
        )
        return Dispatch(walk, now)

    def _new_id(self) -> str:
        self._count += 1
        return self._prefix + "%x" % self._count


_PATHS: Final = (
    ("/chat/completions", CHAT_COMPLETIONS),
    ("/completions", COMPLETIONS),
    ("/responses", RESPONSES),
    ("/embeddings", EMBEDDINGS),
    ("/messages", MESSAGES_ENDPOINT),
    ("/messages/count_tokens", COUNT_TOKENS),
)
_ENDPOINTS: Final = {prefix + path: endpoint for path, endpoint in _PATHS for prefix in ("", "/v1")}
_PROBES: Final = frozenset({"/healthz", "/readyz"})


def _dialect_of(path: str) -> CallerDialect:
    """In whose envelope a caller of `path` expects errors. Of paths that there are none it is OpenAI's, but behind
    messages."""
    endpoint = _ENDPOINTS.get(path)
    if endpoint is not None:
        return endpoint.dialect
    return MESSAGES if path.removeprefix("/v1").startswith("/messages/") else CHAT
