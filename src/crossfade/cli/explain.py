"""`crossfade explain`: the plan for a request and the walk under assumptions. Nothing is called."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from crossfade.cli.loading import load
from crossfade.cli.options import config_option, time_option
from crossfade.config.directory import Directory
from crossfade.config.settings import Config
from crossfade.core.balancer import Balancer, Demand
from crossfade.core.budget import RetryBudget
from crossfade.core.dispatch import Dispatch
from crossfade.core.errors import InvalidRequest, RequestError
from crossfade.core.exchange import RequestFacts
from crossfade.core.health import HealthBoard
from crossfade.core.planner import plan
from crossfade.core.target import Pool, Target, rungs_of
from crossfade.core.walk import Walk
from crossfade.edge.affinity import preference
from crossfade.edge.anthropic_messages import MESSAGES_ENDPOINT
from crossfade.edge.auth import Key
from crossfade.edge.endpoint import Asked
from crossfade.edge.intake import Admitted, Caller, Intake
from crossfade.edge.openai_chat import CHAT_COMPLETIONS
from crossfade.edge.openai_completions import COMPLETIONS
from crossfade.edge.openai_embeddings import EMBEDDINGS
from crossfade.edge.openai_responses import RESPONSES
from crossfade.edge.session import session_of
from crossfade.providers.base import Provider
from crossfade.providers.registry import provider_for
from crossfade.rehearsal.explain import Assumption, Course, explain, open_breakers, parse_assumption

EXIT_UNANSWERED: Final = 1
_ENDPOINTS: Final = {one.name: one for one in (CHAT_COMPLETIONS, COMPLETIONS, MESSAGES_ENDPOINT, RESPONSES, EMBEDDINGS)}
_PIXEL: Final = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
_SAID: Final = {"call": "is called", "skip": "is skipped", "begin": "begins", "fail": "fails", "end": "ends"}


@click.command("explain", short_help="Show the plan for a request and its walk, without any call.")
@click.argument("request", required=False, type=click.Path(path_type=Path, allow_dash=True, dir_okay=False))
@config_option
@click.option("--endpoint", type=click.Choice(list(_ENDPOINTS)), default=CHAT_COMPLETIONS.name, help="Of REQUEST.")
@click.option("--model", "-m", help="A route, a model, or a chain `a, b, c`. Default: REQUEST's, else the first route.")
@click.option("--prompt", default="Hello", help="Without REQUEST: the prompt.")
@click.option("--tokens", type=click.IntRange(1), help="Without REQUEST: about so many tokens of input.")
@click.option("--tools", is_flag=True, help="Without REQUEST: with a tool.")
@click.option("--image", is_flag=True, help="Without REQUEST: with a picture.")
@click.option("--json-schema", is_flag=True, help="Without REQUEST: the answer has to fit a JSON Schema.")
@click.option("--stream/--no-stream", default=None, help="Whether a stream is asked for.")
@click.option("--header", "headers", multiple=True, metavar="NAME: VALUE", help="A header of the request.")
@click.option("--key", help="The name of the gateway key that it comes with.")
@click.option("--at", callback=time_option, metavar="TIME", help="When it comes: 2026-01-31T08:00 (UTC). Default: now.")
@click.option(
    "--assume",
    "assumed",
    multiple=True,
    metavar="TARGET=WORD",
    help="What is assumed of a provider, provider/model, or a pattern: a status (503, 429:30s), a reason (timeout),"
    " `slow:5s`, `cut`, or `open` for an open breaker. All others answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON instead.")
def explain_(
    request: Path | None,
    config: Path | None,
    endpoint: str,
    headers: Sequence[str],
    key: str | None,
    at: float | None,
    assumed: Sequence[str],
    as_json: bool,
    **flags: Any,
) -> None:
    """Show what becomes of a request: REQUEST is a file with its JSON, `-` for standard input; without it the options
    say what it is like. Exit code 1: under the assumptions nothing would answer.
    """
    loaded = load(config)
    body = _body(request, flags, loaded)
    try:
        assumptions = [parse_assumption(text) for text in assumed]
    except InvalidRequest as error:
        raise click.BadParameter(error.message, param_hint="--assume") from None
    caller = Caller.of(_headers(headers), _key(key, loaded))
    try:
        inbound = _ENDPOINTS[endpoint].read(body, caller)
        intake = Intake(Directory(loaded), time.time if at is None else lambda: at)
        admitted = intake.admit(inbound.ours, inbound.facts, caller, body)
        score = intake.ask(inbound.ours, inbound.facts, caller, body).complexity
    except RequestError as error:
        raise click.ClickException(f"the request would be refused with {error.status}: {error.message}") from None
    dispatch = _dispatch(loaded, inbound, admitted, assumptions, caller, body)
    targets = [one for rung in dispatch.walk.plan.rungs for one in rung.targets]
    _check_used(assumptions, [*targets, *(one for skip in dispatch.walk.plan.skips for one in skip.rung.targets)])
    providers = {name: provider_for(one.vendor) for name, one in loaded.providers.items()}
    course = explain(dispatch, assumptions, _provider_of(providers), 0.0)
    if as_json:
        click.echo(json.dumps(_as_json(dispatch, admitted, inbound.facts, score, course), indent=2))
    else:
        _show(dispatch, admitted, inbound.facts, score, course)
    if course.served is None:
        raise SystemExit(EXIT_UNANSWERED)


# --- the request ---------------------------------------------------------------------------------------------


def _body(request: Path | None, flags: dict[str, Any], config: Config) -> bytes:
    given: dict[str, Any]
    if request is not None:
        data = sys.stdin.buffer.read() if str(request) == "-" else request.read_bytes()
        if flags["model"] is None and flags["stream"] is None:
            return data
        try:
            given = json.loads(data)
        except ValueError as error:
            raise click.ClickException(f"{request}: {error}") from None
        if not isinstance(given, dict):
            raise click.ClickException(f"{request}: is no JSON object")
    else:
        given = {"messages": [{"role": "user", "content": _content(flags)}]}
        if flags["tools"]:
            given["tools"] = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
        if flags["json_schema"]:
            schema = {"name": "answer", "strict": True, "schema": {"type": "object"}}
            given["response_format"] = {"type": "json_schema", "json_schema": schema}
    model = flags["model"] or given.get("model") or next(iter(config.routes), None)
    if model is None:
        raise click.UsageError("there is no route; name a model with --model")
    given["model"] = model
    if flags["stream"] is not None:
        given["stream"] = flags["stream"]
    return json.dumps(given).encode()


def _content(flags: dict[str, Any]) -> Any:
    text = flags["prompt"] if flags["tokens"] is None else "word" * flags["tokens"]
    if not flags["image"]:
        return text
    return [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": _PIXEL}}]


def _headers(lines: Sequence[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter(f"{line!r} is no header; write NAME: VALUE", param_hint="--header")
        found[name.strip().lower()] = value.strip()
    return found


def _key(name: str | None, config: Config) -> Key | None:
    if name is None:
        return None
    key = next((key for key in config.gateway_keys if key.name == name), None)
    if key is None:
        known = ", ".join(key.name for key in config.gateway_keys) or "none"
        raise click.BadParameter(f"there is no gateway key {name!r}; known are {known}", param_hint="--key")
    return Key(key.name, key.route, key.project)


# --- the walk ------------------------------------------------------------------------------------------------


def _dispatch(
    config: Config, inbound: Asked, admitted: Admitted, assumptions: Sequence[Assumption], caller: Caller, body: bytes
) -> Dispatch:
    """The walk as a gateway with nothing on record would begin it; chance is always in the middle."""
    facts, route = inbound.facts, admitted.route
    board = HealthBoard(_middle)
    board.configure(config.routes.values())
    open_breakers(board, [one for rung in route.chain for one in rung.targets], assumptions, 0.0)
    chain = None
    if route.links:
        demand = Demand(facts.input_tokens, facts.max_tokens, lambda: session_of(inbound.ours, caller.headers, body))
        chain = Balancer(board, _middle).order(route.links, demand, 0.0)
    vendors = Directory(config).vendors
    prefers = preference(facts.tool_call_ids, vendors) if facts.tool_call_ids else None
    retry = admitted.policy.retry
    walk = Walk(
        "explained",
        route.name,
        plan(route, facts, board.ranks(route.name, 0.0), prefers, chain),
        facts,
        admitted.policy,
        admitted.limits,
        admitted.overall,
        board,
        RetryBudget(retry.budget_ratio, retry.budget_floor),
        _middle,
        0,
        admitted.is_repeatable,
    )
    return Dispatch(walk, 0.0)


def _middle() -> float:
    return 0.5


def _provider_of(providers: dict[str, Provider]) -> Any:
    return lambda target: providers[target.provider]


def _check_used(assumptions: Sequence[Assumption], targets: Sequence[Target]) -> None:
    for one in assumptions:
        if not any(one.is_of(target) for target in targets):
            names = ", ".join(dict.fromkeys(target.name for target in targets))
            raise click.BadParameter(f"{one.pattern!r} is none of {names}", param_hint="--assume")


# --- what is shown -------------------------------------------------------------------------------------------


def _show(dispatch: Dispatch, admitted: Admitted, facts: RequestFacts, score: float, course: Course) -> None:
    route, made = admitted.route, dispatch.walk.plan
    how = "streamed" if facts.stream else "buffered"
    about = f"about {facts.input_tokens} tokens, complexity {score:.2f}, {admitted.overall:g} s at most"
    click.echo(f"Route {route.name!r}: {how}, {about}")
    if admitted.rule is not None:
        click.echo(f"Rule {admitted.rule!r} holds, and its chain is taken")
    for link in route.links:
        if isinstance(link, Pool):
            click.echo(f"  {link.name}: {link.policy} of {', '.join(one.name for one in rungs_of(link))}")
    click.echo("Plan")
    for place, rung in enumerate(made.rungs, 1):
        keys = f"  ({len(rung.targets)} keys)" if len(rung.targets) > 1 else ""
        click.echo(f"  {place}. {rung.name}{keys}")
    for skip in made.skips:
        click.echo(f"  -  {skip.rung.name}  cannot serve it: {skip.why}")
    click.echo("Walk")
    width = max(len(line.target) for line in course.lines) if course.lines else 0
    for line in course.lines:
        mode = f" [{line.mode}]" if line.mode not in ("", "fresh") else ""
        click.echo(f"  {line.at_s:8.2f} s  {line.target:{width}}  {_SAID[line.what]}{mode}  {line.words}")
    if course.served is not None:
        through = f"{course.fallbacks} fallback{'' if course.fallbacks == 1 else 's'}, {course.calls} calls"
        click.echo(f"Answered by {course.served} after {course.seconds:.2f} s ({through})")
    else:
        click.echo(f"Ends with {course.status} {course.code} after {course.seconds:.2f} s: {course.message}")


def _as_json(
    dispatch: Dispatch, admitted: Admitted, facts: RequestFacts, score: float, course: Course
) -> dict[str, Any]:
    made = dispatch.walk.plan
    found: dict[str, Any] = msgspec.to_builtins(course)
    return {
        "route": admitted.route.name,
        "rule": admitted.rule,
        "stream": facts.stream,
        "input_tokens": facts.input_tokens,
        "complexity": round(score, 3),
        "timeout_s": admitted.overall,
        "plan": [rung.name for rung in made.rungs],
        "skips": [{"target": skip.rung.name, "why": skip.why} for skip in made.skips],
        **found,
    }
