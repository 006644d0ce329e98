"""`crossfade import`: a crossfade.yaml of another gateway's configuration, and what could not be carried over."""

from __future__ import annotations

import json
from pathlib import Path

import click

from crossfade.config.lines import MAX_BYTES
from crossfade.config.litellm.report import KIND_WORDS
from crossfade.config.litellm.translate import Translation, translate
from crossfade.config.loader import FILE_NAME
from crossfade.core.errors import ConfigError
from crossfade.providers.compatible import VENDORS

EXIT_LOST = 3
SCREEN = "-"


@click.group("import")
def import_() -> None:
    """Make a crossfade.yaml of another gateway's configuration."""


@import_.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", default=FILE_NAME, show_default=True, metavar="FILE", help="Where to write; - is the screen."
)
@click.option("--force", is_flag=True, help="Overwrite the output if it is there.")
@click.option("--json", "as_json", is_flag=True, help="Print what became of the settings as JSON, on standard output.")
def litellm(config: Path, output: str, force: bool, as_json: bool) -> None:
    """Read a LiteLLM proxy's CONFIG (config.yaml) and write a crossfade.yaml.

    Settings without an effect on the output are told on standard error, as FILE:LINE: SETTING: what and why. No key
    of the input is written or shown; the output names environment variables.

    Exit codes: 0 everything essential was carried over, 2 the input cannot be read, 3 a model could not be carried
    over, 1 anything else.
    """
    if as_json and output == SCREEN:
        raise click.UsageError("--json takes the screen itself; write the output to a file")
    made = translate(_read(config), str(config), VENDORS)
    if made.text is not None and output != SCREEN:
        _write(Path(output), made.text, force)
    code = EXIT_LOST if made.lost or made.text is None else 0
    if as_json:
        click.echo(json.dumps(_report(made, config, output, code), indent=2, ensure_ascii=False))
    else:
        _tell(made, config, output)
    click.get_current_context().exit(code)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(path)) from None


def _write(path: Path, text: str, force: bool) -> None:
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise click.ClickException(f"{path} is there already; --force overwrites it, --output names another") from None


def _tell(made: Translation, config: Path, output: str) -> None:
    for one in made.remarks:
        click.echo(f"{config}:{one.line}: {one.setting}: {KIND_WORDS[one.kind]}: {one.reason}", err=True)
    if made.text is None:
        click.echo(f"{config}: no model could be carried over; nothing was written", err=True)
    elif output == SCREEN:
        click.echo(made.text, nl=False)
    else:
        click.echo(f"wrote {output}: {_count(made.providers, 'provider')}, {_count(made.routes, 'route')}")
        if made.variables:
            click.echo(f"it reads these variables: {', '.join(made.variables)}")
        click.echo(f"next: crossfade check {output}")


def _count(names: tuple[str, ...], what: str) -> str:
    return f"{len(names)} {what}" + ("" if len(names) == 1 else "s")


def _report(made: Translation, config: Path, output: str, code: int) -> dict[str, object]:
    return {
        "input": str(config),
        "output": output if made.text is not None else None,
        "exit": code,
        "providers": made.providers,
        "routes": made.routes,
        "variables": made.variables,
        "settings": [
            {"line": one.line, "setting": one.setting, "kind": one.kind, "reason": one.reason} for one in made.remarks
        ],
    }
