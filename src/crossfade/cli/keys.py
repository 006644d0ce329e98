"""`crossfade keys`: keys that applications use. A key is shown once; the configuration keeps its hash."""

from __future__ import annotations

import sys

import click

from crossfade.config.secrets import MIN_KEY_LENGTH, hash_key, new_key


@click.group()
def keys() -> None:
    """Make keys for applications.

    A key has 256 random bits, so the configuration keeps its plain SHA-256: nobody can guess a key from it.
    """


@keys.command()
@click.option("--name", required=True, help="What logs and events call the key.")
@click.option("--route", help="The route that serves every request with this key.")
@click.option("--project", help="The project that the key is of.")
def new(name: str, route: str | None, project: str | None) -> None:
    """Make a key, print it once, and the line for crossfade.yaml."""
    key = new_key()
    entry = f"name: {_quoted(name)}, hash: {_quoted(hash_key(key))}"
    entry += f", route: {_quoted(route)}" if route else ""
    entry += f", project: {_quoted(project)}" if project else ""
    click.echo(f"key (shown only now): {key}")
    click.echo("for crossfade.yaml:")
    click.echo("gateway_keys:")
    click.echo(f"  - {{{entry}}}")


@keys.command("hash")
def hash_() -> None:
    """Read a key from standard input and print its hash."""
    key = sys.stdin.readline().rstrip("\r\n")
    if len(key) < MIN_KEY_LENGTH:
        raise click.ClickException(
            f"a key has at least {MIN_KEY_LENGTH} characters, or its hash could be guessed; see `crossfade keys new`"
        )
    click.echo(hash_key(key))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
