"""Which environment variable each key of the output comes from.

Decides the names for keys that stand in the input itself; their values go no further than this comparison.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_REFERENCE: Final = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
REFERENCE_START: Final = "os.environ/"


def variable_of(value: object) -> str | None:
    """`X` of `os.environ/X`; None for anything else."""
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return match[1] if match else None


class Variables:
    """Names for keys. `taken` are those that the input uses for something itself."""

    def __init__(self, taken: set[str]):
        self._taken = set(taken)
        self._names: dict[str, str] = {}

    def name_for(self, key: str, wanted: str) -> str:
        """The variable for a key that stands in the input: `wanted`, or the first free of `wanted_2`, ...; the same
        key is the same variable."""
        if key not in self._names:
            name, number = wanted, 2
            while name in self._taken:
                name, number = f"{wanted}_{number}", number + 1
            self._taken.add(name)
            self._names[key] = name
        return self._names[key]

    def __repr__(self) -> str:
        return f"<Variables {sorted(self._names.values())}>"


def referenced(value: object) -> Iterator[str]:
    """Every variable that is referred to anywhere within a value."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from referenced(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from referenced(inner)
    elif (name := variable_of(value)) is not None:
        yield name
