"""`crossfade simulate`: runs the provider simulator until it is told to stop."""

from __future__ import annotations

import asyncio
import resource
import signal

import click
import uvloop

from crossfade.simulator.faults import FAULTS, Step, parse_step
from crossfade.simulator.server import DEFAULT_NAME, Simulator


def _address(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, int]:
    host, colon, port = value.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f"{value!r} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


def _fault(context: click.Context, parameter: click.Parameter, value: str) -> Step:
    try:
        return parse_step(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _show_faults(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        width = max(map(len, FAULTS))
        for name, row in FAULTS.items():
            options = f" [{', '.join(sorted(row.options))}]" if row.options else ""
            click.echo(f"{name:{width}}  {row.group:10}  {row.says}{options}")
        context.exit()


@click.command("simulate", short_help="Run a provider that fails on request.")
@click.option(
    "--listen",
    default="127.0.0.1:0",
    show_default=True,
    metavar="HOST:PORT",
    callback=_address,
    help="Where to listen; port 0 takes any free one.",
)
@click.option("--name", default=DEFAULT_NAME, show_default=True, help="The provider that paths without /p/NAME are.")
@click.option(
    "--fault",
    default="ok",
    show_default=True,
    metavar="FAULT",
    callback=_fault,
    help="What calls meet unless scheduled otherwise, as `cut@first` or `429; retry_after=3`.",
)
@click.option(
    "--list-faults",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_faults,
    help="Show all faults with their options, and exit.",
)
def simulate(listen: tuple[str, int], name: str, fault: Step) -> None:
    """Speak the OpenAI chat, Anthropic messages and Gemini formats, and fail on request in every way.

    The first line printed ends in the URL. One process plays many providers: below /p/NAME/ each has a schedule and
    counts of its own. Faults come by the header `x-simulate`, or by POST /_control/schedule with
    {"provider": NAME, "model": PATTERN, "faults": [...], "then": FAULT}; GET /_control/counts tells what was called,
    POST /_control/reset forgets it all.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(*listen, name, fault))


async def _serve(host: str, port: int, name: str, fault: Step) -> None:
    # The usual limit of 1024 files would refuse a load test's connections.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        simulator = await Simulator.start(host, port, name)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    simulator.schedule.set(None, None, [], fault)
    click.echo(f"crossfade simulate: ready on {simulator.url}")
    await stopped.wait()
    await simulator.stop()
