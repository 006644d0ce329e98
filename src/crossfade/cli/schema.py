"""`crossfade schema`: the JSON Schema of the configuration, for editors and CI."""

from __future__ import annotations

import json

import click

from crossfade.config.schema import FileShape
from crossfade.config.shape import json_schema


@click.command()
def schema() -> None:
    """Print the JSON Schema (draft 2020-12) of crossfade.yaml.

    Editors read it by a first line in the file: # yaml-language-server: $schema=crossfade.schema.json
    """
    click.echo(json.dumps(json_schema(FileShape, "crossfade.yaml"), indent=2))
