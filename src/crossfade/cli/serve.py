"""`crossfade serve`: runs the gateway until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import msgspec
import uvloop

from crossfade.cli.loading import load
from crossfade.cli.options import config_option
from crossfade.config.leaves import parse_address
from crossfade.config.loader import located
from crossfade.config.problems import ConfigErrors
from crossfade.config.secrets import hash_key, new_key
from crossfade.config.settings import Config
from crossfade.core.errors import ConfigError
from crossfade.edge.auth import Key
from crossfade.gateway import Gateway, settle_memory
from crossfade.recording import open_recorder

KEY_FILE = "gateway-key.sha256"
MADE_KEY = "made-at-start"


@click.command("serve", short_help="Run the gateway.")
@config_option
@click.option("--listen", metavar="HOST:PORT", help="Instead of server.listen.")
@click.option("--admin", metavar="HOST:PORT", help="Instead of server.admin.")
@click.option(
    "--drain",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Seconds that requests under way have to end after SIGTERM or Ctrl-C; a second signal ends them at once.",
)
def serve(config: Path | None, listen: str | None, admin: str | None, drain: float) -> None:
    """Run the gateway: OpenAI-compatible, with the fallbacks of its routes.

    SIGHUP reloads the configuration; a bad one is refused and the old one stays.
    """
    loaded = _with_addresses(load(config), listen, admin)
    for note in (*loaded.notes, *loaded.warnings):
        click.echo(f"crossfade: {note}", err=True)
    keys = _made_keys(loaded)

    # The file that was found is the one to read again: were it gone, keys in the environment would take its place.
    file = config if loaded.file is None else Path(loaded.file)

    def again() -> Config:
        return _with_addresses(load(file), listen, admin)

    _open_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(loaded, again, os.environ, keys, drain))
        except ConfigErrors as errors:
            raise located(_of_options(errors, listen=listen, admin=admin), os.environ) from None


def _open_files() -> None:
    """Takes as many open files as the system lets it have: most shells give 1024, and every connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # not everywhere as much as `most` says
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve(
    config: Config,
    again: Callable[[], Config],
    environ: Mapping[str, str],
    keys: list[tuple[str, Key]],
    drain: float,
) -> None:
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[None] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signals.put_nowait, None)
    recorder = open_recorder(config, loop)
    try:
        gateway = await Gateway.open(config, environ, recorder, extra_keys=keys)
        loop.add_signal_handler(signal.SIGHUP, _reload, gateway, again, environ)
        settle_memory()
        click.echo(f"crossfade: ready on {gateway.url}/v1 (status on {gateway.admin_url}/status)")
        await signals.get()
        closing = asyncio.ensure_future(gateway.close(drain))
        second = asyncio.ensure_future(signals.get())
        await asyncio.wait({closing, second}, return_when=asyncio.FIRST_COMPLETED)
        second.cancel()
        if not closing.done():
            closing.cancel()
            await gateway.close(0)
    finally:
        recorder.close()


def _reload(gateway: Gateway, again: Callable[[], Config], environ: Mapping[str, str]) -> None:
    """On SIGHUP: the new configuration if it is good, the old one if it is not."""
    try:
        needing_restart = gateway.reload(again(), environ)
    except ConfigError as error:
        click.echo(f"{error}\ncrossfade: not reloaded; the configuration of before is still served", err=True)
        return
    click.echo(f"crossfade: reloaded, now serving configuration {gateway.config.version}", err=True)
    if needing_restart:
        click.echo(f"crossfade: changed, and only read at a restart: {', '.join(needing_restart)}", err=True)


def _with_addresses(config: Config, listen: str | None, admin: str | None) -> Config:
    changes = {}
    for name, value in (("listen", listen), ("admin", admin)):
        if value is None:
            continue
        try:
            changes[name] = parse_address(value)
        except ValueError as error:
            raise ConfigErrors([ConfigError(str(error), field=f"--{name}")]) from None
    server = msgspec.structs.replace(config.server, **changes)
    return msgspec.structs.replace(config, server=server)


def _of_options(errors: ConfigErrors, **given: str | None) -> ConfigErrors:
    """The errors, and those about what an option said under the option's name: the file is not at fault."""
    names = {f"server.{name}": f"--{name}" for name, value in given.items() if value is not None}
    return ConfigErrors(
        [
            ConfigError(error.message, field=names[error.field]) if error.field in names else error
            for error in errors.errors
        ]
    )


def _made_keys(config: Config) -> list[tuple[str, Key]]:
    """Where keys are wanted and none is configured, one is made, shown once, and its hash kept."""
    if not config.wants_keys or config.gateway_keys:
        return []
    file = config.state_dir / KEY_FILE
    try:
        hashed = file.read_text().strip() if file.exists() else ""
        if not hashed:
            key = new_key()
            hashed = hash_key(key)
            config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            file.touch(mode=0o600)
            file.write_text(hashed + "\n")
            click.echo(f"crossfade: no gateway key is configured; this one was made, and is shown only now: {key}")
    except OSError as error:
        raise ConfigErrors(
            [ConfigError(f"a gateway key is wanted and its hash cannot be kept: {error}", field="state_dir")]
        ) from None
    return [(hashed, Key(MADE_KEY))]
