"""`crossfade init`: a first crossfade.yaml, with the providers whose keys are in the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from crossfade.config.catalogue import models_of
from crossfade.config.loader import FILE_NAME
from crossfade.core.target import Vendor
from crossfade.providers.compatible import VENDORS

SUGGESTED = {
    "anthropic": "claude-opus-5",
    "openai": "gpt-5.4",
    "gemini": "gemini-3.8-flash",
    "google": "gemini-3.8-flash",
    "mistral": "mistral-large-latest",
    "xai": "grok-4.5",
    "deepseek": "deepseek-chat",
    "moonshot": "kimi-k3",
    "groq": "openai/gpt-oss-120b",
    "cerebras": "gpt-oss-120b",
}
"""A model of each vendor to begin a chain with; of others the first of the catalogue is taken."""

_HEAD = """\
# crossfade.yaml: one endpoint in front of several providers; what one cannot answer, the next one does.
# Check it:  crossfade check        Run it:  crossfade serve        All keys:  docs/configuration.md

server:
  listen: 127.0.0.1:4000        # applications: http://127.0.0.1:4000/v1
  admin: 127.0.0.1:4001
"""
_TAIL = """\

# The chain behind any other model name; exact names win over "*".
# fallbacks:
#   "*": [{first}]

# Keys for applications. Make one:  crossfade keys new --name web
# gateway_keys:
#   - {{name: web, hash: "sha256:..."}}
"""


@click.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), default=Path(FILE_NAME), show_default=True
)
def init(output: Path) -> None:
    """Write a first crossfade.yaml. Never overwrites a file."""
    found = vendors_in(os.environ, VENDORS)
    text = first_file(found, os.environ)
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise click.ClickException(f"{output} is there already; remove it, or write another with --output") from None
    click.echo(f"wrote {output}")
    if found:
        click.echo(f"providers with a key in the environment: {', '.join(row.name for row in found)}")
        click.echo("next: crossfade check && crossfade serve")
    else:
        click.echo("no provider's key is in the environment: export one, then remove its '#' signs in the file")


def vendors_in(environ: Mapping[str, str], vendors: Mapping[str, Vendor]) -> tuple[Vendor, ...]:
    """The vendors whose key is in the environment, none twice for one variable."""
    by_variable: dict[str, Vendor] = {}
    for row in vendors.values():
        variable = variable_of(row, environ)
        if variable and environ.get(variable) and row.base_url:
            by_variable.setdefault(variable, row)
    return tuple(by_variable.values())


def variable_of(row: Vendor, environ: Mapping[str, str]) -> str | None:
    """The variable of the vendor that is set, else the first that could be."""
    return next((name for name in row.env if environ.get(name)), next(iter(row.env), None))


def first_file(found: tuple[Vendor, ...], environ: Mapping[str, str]) -> str:
    """The text of the file; with no vendor found, an example in comments."""
    mark, shown = ("", found) if found else ("# ", _examples())
    targets = [f"{row.name}/{model}" for row in shown if (model := suggested(row))]
    return (
        _HEAD + "".join(_parts(mark, shown, targets, environ)) + _TAIL.format(first=(targets or ["provider/model"])[0])
    )


def suggested(row: Vendor) -> str | None:
    """A model to begin with."""
    return SUGGESTED.get(row.name) or next(models_of(row.name), None)


def _parts(mark: str, rows: tuple[Vendor, ...], targets: list[str], environ: Mapping[str, str]) -> Iterator[str]:
    yield f"\n{mark}providers:\n"
    for row in rows:
        yield f"{mark}  {row.name}:\n{mark}    api_keys: [env:{variable_of(row, environ)}]\n"
    if not targets:
        return
    yield "\n# What applications send as `model` is the route's name, or a name under `match`.\n"
    yield f"{mark}routes:\n{mark}  chat:\n{mark}    # match: [gpt-*, claude-*]\n{mark}    chain:\n"
    for i, target in enumerate(targets):
        yield (
            f"{mark}      - {target}" + ("    # the primary; below it, its fallbacks in order" if i == 0 else "") + "\n"
        )
    yield f"{mark}    fallback_on: [default]\n"


def _examples() -> tuple[Vendor, ...]:
    names = [name for name in ("anthropic", "openai") if name in VENDORS] or list(VENDORS)[:2]
    return tuple(VENDORS[name] for name in names)
