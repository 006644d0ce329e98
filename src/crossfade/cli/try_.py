"""`crossfade try`: one real request through a chain, if wanted with faults injected, and the walk it took."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import msgspec
import uvloop

from crossfade.cli.loading import load
from crossfade.cli.options import config_option
from crossfade.config.settings import Config
from crossfade.core.errors import InvalidRequest
from crossfade.core.events import AttemptRow, Event, RequestEnded
from crossfade.edge.auth import Key
from crossfade.edge.intake import Caller
from crossfade.edge.openai_chat import CHAT_COMPLETIONS
from crossfade.gateway import Gateway
from crossfade.http1.head import Fields
from crossfade.rehearsal.faults import faults_of
from crossfade.transport.chaos import FaultKind

EXIT_UNANSWERED = 1


@click.command("try", short_help="Send one request through a chain and show the walk.")
@click.argument("prompt")
@config_option
@click.option("--model", "-m", help="A route, a model, or a chain `a, b, c`. Default: the first route.")
@click.option(
    "--break",
    "broken",
    multiple=True,
    metavar="TARGET=KIND",
    help=f"Break a provider, provider/model, or a pattern of either. Kinds: {', '.join(FaultKind)}.",
)
@click.option("--stream/--no-stream", default=False, help="Ask for a stream, and show it as it comes.")
@click.option("--json", "as_json", is_flag=True, help="Print the record of the request as JSON instead.")
def try_(
    prompt: str, config: Path | None, model: str | None, broken: Sequence[str], stream: bool, as_json: bool
) -> None:
    """Send PROMPT through the configured chain as an application would, and print which targets were called.

    Faults are injected below the gateway's own detection: what happens is what would happen in an outage. The calls
    are real and cost what they cost. Exit code 1: nothing answered.
    """
    loaded = load(config)
    try:
        faults = faults_of(broken, loaded)
    except InvalidRequest as error:
        raise click.BadParameter(error.message, param_hint="--break") from None
    name = model or next(iter(loaded.routes), None)
    if name is None:
        raise click.UsageError("there is no route; name a model with --model")
    body: dict[str, Any] = {"model": name, "messages": [{"role": "user", "content": prompt}], "stream": stream}

    async def run() -> RequestEnded:
        recorder = _OneRequest()
        gateway = await Gateway.open(loaded, os.environ, recorder, faults=faults, is_listening=False)
        try:
            shown = _Screen(is_quiet=as_json)
            headers = {"content-type": "application/json"}
            caller = Caller.of(headers, Key("crossfade try"))
            gateway.app.ask(CHAT_COMPLETIONS, json.dumps(body).encode(), caller, perf_counter(), shown)
            return await recorder.ended
        finally:
            await gateway.close(0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        row = runner.run(run())
    if as_json:
        click.echo(msgspec.json.encode(row).decode())
    else:
        _show_walk(row, loaded)
    if row.served is None or row.in_band_error:
        raise SystemExit(EXIT_UNANSWERED)


class _OneRequest:
    """A recorder that waits for one request's row."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[RequestEnded] = asyncio.get_running_loop().create_future()

    def record(self, event: Event, then: Callable[[], None] | None = None) -> None:
        if then is not None:
            then()
        if isinstance(event, RequestEnded) and not self.ended.done():
            self.ended.set_result(event)

    def settle(self) -> None:
        """Nothing is kept."""

    def tell(self, event: Event) -> None:
        """The walk is shown from the row."""


class _Screen:
    """A caller's connection that is a terminal: text as it comes, errors on the error output."""

    is_gone = False
    unsent = 0

    def __init__(self, *, is_quiet: bool):
        self._is_quiet = is_quiet
        self._rest = b""

    def respond(self, status: int, headers: Fields, body: bytes) -> None:
        answer = json.loads(body)
        if self._is_quiet:
            return
        if status == 200:
            self._say(answer["choices"][0]["message"])
            click.echo()
        else:
            click.echo(f"{status} {answer['error']['message']}", err=True)

    def start(self, status: int, headers: Fields) -> None:
        """The text that follows says enough."""

    def write(self, data: bytes) -> None:
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            if not event.startswith(b"data: ") or event == b"data: [DONE]" or self._is_quiet:
                continue
            chunk = json.loads(event[6:])
            if "error" in chunk:
                click.echo(f"\n{chunk['error']['message']}", err=True)
            for choice in chunk.get("choices", ()):
                self._say(choice["delta"])

    def finish(self, data: bytes = b"") -> None:
        self.write(data)
        if not self._is_quiet:
            click.echo()

    def fail(self, error: Exception) -> None:
        click.echo(f"The answer could not be shown: {type(error).__name__}: {error}", err=True)

    def _say(self, message: dict[str, Any]) -> None:
        click.echo(message.get("content") or "", nl=False)
        for call in message.get("tool_calls") or ():
            click.echo(json.dumps(call.get("function")), nl=False)


def _show_walk(row: RequestEnded, config: Config) -> None:
    route = config.routes.get(row.route)
    chain = "" if route is None else ": " + " > ".join(rung.name for rung in route.chain)
    click.echo(f"\nroute {row.route}{chain}", err=True)
    width = max((len(attempt.target) for attempt in row.attempts), default=0)
    for attempt in row.attempts:
        click.echo(f"  {attempt.number or '-'}  {attempt.target:{width}}  {_what(attempt)}", err=True)
    click.echo(_summary(row), err=True)


def _what(attempt: AttemptRow) -> str:
    if attempt.skip is not None:
        return f"skipped: {attempt.skip}"
    mode = "" if attempt.mode == "fresh" else f" [{attempt.mode}]"
    if attempt.reason is None:
        return f"answered in {attempt.latency_s:.2f} s{mode}"
    detail = f" ({attempt.detail})" if attempt.detail else ""
    return f"{attempt.reason}{detail} after {attempt.latency_s:.2f} s{mode}"


def _summary(row: RequestEnded) -> str:
    if row.served is None or row.in_band_error:
        return f"not answered: {row.error} after {row.latency_s:.2f} s"
    fallbacks = {0: "no fallback", 1: "1 fallback"}.get(row.fallbacks, f"{row.fallbacks} fallbacks")
    joined = ", joined in mid-stream" if row.joined else ""
    return f"answered by {row.served} in {row.latency_s:.2f} s, {fallbacks}{joined}"
