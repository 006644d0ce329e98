"""What a test has to know where it is run on the compiled build (`scripts/test` runs the suite on both)."""

from __future__ import annotations

from typing import Final

import pytest

from crossfade.core import dispatch

IS_COMPILED: Final = not str(dispatch.__file__).endswith(".py")
interpreted_only: Final = pytest.mark.skipif(
    IS_COMPILED, reason="stands in for what is compiled, looks into it or changes it: seen on the interpreted build"
)


def fields_of(kind: type) -> tuple[str, ...]:
    """The names of what an object of `kind` holds."""
    names: tuple[str, ...] = getattr(kind, "__mypyc_attrs__", None) or getattr(kind, "__slots__", ())
    return names
