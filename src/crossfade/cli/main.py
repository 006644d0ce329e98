"""The command line: `crossfade COMMAND`. Commands are imported when they run, so that `--help` is quick.

Exit codes: 0 good, 2 the configuration or the command line is wrong, 1 anything else; `import` has one of its own.
Expected errors end in a message, never in a traceback.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import click

from crossfade import __version__
from crossfade.core.errors import ConfigError, CrossfadeError

EXIT_FAILED = 1
EXIT_CONFIG = 2

COMMANDS = {
    "init": ("crossfade.cli.init:init", "Write a first crossfade.yaml."),
    "check": ("crossfade.cli.check:check", "Check a configuration and show what it amounts to."),
    "serve": ("crossfade.cli.serve:serve", "Run the gateway."),
    "try": ("crossfade.cli.try_:try_", "Send one request through a chain and show the walk."),
    "explain": ("crossfade.cli.explain:explain_", "Show the plan for a request and its walk, without any call."),
    "demo": ("crossfade.cli.demo:demo", "Show fallback at work, with simulated providers."),
    "events": ("crossfade.cli.events:events", "Show what happened: requests, attempts, fallbacks."),
    "savings": ("crossfade.cli.savings:savings", "Show what requests cost, and would have at their primary."),
    "import": ("crossfade.cli.import_:import_", "Make a crossfade.yaml of another gateway's configuration."),
    "keys": ("crossfade.cli.keys:keys", "Make keys for applications."),
    "schema": ("crossfade.cli.schema:schema", "Print the JSON Schema of crossfade.yaml."),
    "simulate": ("crossfade.cli.simulate:simulate", "Run a provider simulator that fails on request."),
}
"""Name of the command: where it is, and what `--help` says of it without importing it."""


class LazyGroup(click.Group):
    """Finds its commands by name. One whose module is not installed is left out."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, (place, _) in COMMANDS.items() if importlib.util.find_spec(place.partition(":")[0])]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CrossfadeError as error:
            click.echo(str(error), err=True)
            ctx.exit(EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILED)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise  # click ends quietly when nobody reads any more
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            click.echo(what, err=True)
            ctx.exit(EXIT_FAILED)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="crossfade")
def main() -> None:
    """An AI API gateway whose reason to exist is fallback.

    Exit codes: 0 good, 2 the configuration or the command line is wrong, 1 anything else.
    """
