#!/usr/bin/env python3
"""Turns a selection of the public table of models into the catalogue, `src/crossfade/config/models.json`.

The selection is JSON: `source` (texts; `package`, `licence` and `copyright` at least, all kept in the catalogue) and
`models`, a list of entries with the members of `Entry` and no others. Pure but for `main`: the same bytes in give the
same bytes out. Which of the table's gaps are trusted is decided where the catalogue is read, not here.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

CATALOGUE: Final = Path(__file__).resolve().parents[1] / "src" / "crossfade" / "config" / "models.json"
CHANGES: Final = (
    "rearranged by provider and id; fields renamed, capabilities kept only where the table has them as absent"
)
"""What the licence wants said of a changed copy."""

Name = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]+\Z")]
Tokens = Annotated[int, msgspec.Meta(ge=1)]
Price = Annotated[int, msgspec.Meta(ge=0, le=0)] | Annotated[float, msgspec.Meta(ge=0, le=0.01)]
"""USD per token. The bound is far above what any model costs and below what a million tokens of most cost."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model as the table has it. Members that may be left out have a default; None is unknown."""

    provider: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9_]+\Z")]
    id: Name
    mode: Literal["chat", "embedding"]
    max_input_tokens: Tokens | None
    max_output_tokens: Tokens | None
    input_cost_per_token: Price | None
    output_cost_per_token: Price | None
    cache_read_input_token_cost: Price | None
    supports_vision: bool
    supports_tools: bool
    supports_parallel_tools: bool
    supports_response_schema: bool
    supports_reasoning: bool
    supports_prompt_caching: bool
    supports_pdf: bool
    responses_only: bool = False
    deprecation_date: dt.date | None = None


class Selection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole selection. Entries are read one by one, so that the wrong one can be named."""

    source: dict[str, str]
    models: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)]


def rebuilt(selection: bytes) -> bytes:
    """The catalogue of a selection. Raises ValueError with a sentence that names the entry."""
    try:
        given = msgspec.json.decode(selection, type=Selection)
    except msgspec.DecodeError as error:
        raise ValueError(f"this is no selection of models: {error}") from None
    for name in ("package", "licence", "copyright"):
        if not given.source.get(name):
            raise ValueError(f"source.{name} is missing: the catalogue has to say whose table it is, and its licence")
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for place, raw in enumerate(given.models):
        entry = _entry(place, raw)
        models = rows.setdefault(entry.provider, {})
        if entry.id in models:
            raise ValueError(f"models[{place}]: {entry.provider}/{entry.id} is there twice")
        models[entry.id] = _row(entry)
    return _written({**given.source, "changes": CHANGES}, rows)


def _entry(place: int, raw: msgspec.Raw) -> Entry:
    try:
        return msgspec.json.decode(raw, type=Entry)
    except msgspec.DecodeError as error:
        said = msgspec.json.decode(raw)
        name = f" ({said.get('provider')}/{said.get('id')})" if isinstance(said, dict) else ""
        raise ValueError(f"models[{place}]{name}: {error}") from None


def _row(entry: Entry) -> dict[str, Any]:
    """What the catalogue keeps: what is known, and of abilities those that are missing."""
    abilities = {
        "vision": entry.supports_vision,
        "tools": entry.supports_tools,
        "json_schema": entry.supports_response_schema,
    }
    row = {
        "window": entry.max_input_tokens,
        "output": entry.max_output_tokens,
        "price_in": entry.input_cost_per_token,
        "price_out": entry.output_cost_per_token,
        "mode": None if entry.mode == "chat" else entry.mode,
        "without": [ability for ability, is_there in abilities.items() if not is_there] or None,
        "thinks": entry.supports_reasoning or None,
        "responses_only": entry.responses_only or None,
        "retires": None if entry.deprecation_date is None else entry.deprecation_date.isoformat(),
    }
    return {name: value for name, value in row.items() if value is not None}


def _written(source: dict[str, str], rows: dict[str, dict[str, dict[str, Any]]]) -> bytes:
    """One line a model, so that a refresh can be read as a difference."""
    providers = [
        f"  {_json(provider)}: {{\n"
        + ",\n".join(f"   {_json(model)}: {_json(row)}" for model, row in sorted(models.items()))
        + "}"
        for provider, models in sorted(rows.items())
    ]
    models = ",\n".join(providers)
    return f'{{"source": {_json(source)},\n "models": {{\n{models}}}}}\n'.encode()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def main(arguments: list[str]) -> int:
    """Writes the catalogue. Exit codes: 0 written, 2 a wrong command line or selection."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: scripts/refresh-models PATH", file=sys.stderr)
        return 2
    try:
        catalogue = rebuilt(Path(arguments[0]).read_bytes())
    except (OSError, ValueError) as error:
        print(f"scripts/refresh-models: {error}", file=sys.stderr)
        return 2
    before = CATALOGUE.read_bytes()
    CATALOGUE.write_bytes(catalogue)
    print(f"scripts/refresh-models: the catalogue is {'as it was' if catalogue == before else 'another one'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
