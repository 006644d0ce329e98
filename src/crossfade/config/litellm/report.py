"""What is told of an import: remarks on single settings of the input, and which of its settings had an effect.

Decides that nothing is passed over in silence: every setting that nobody used or spoke of is found here. Remarks
name settings and never hold a value, which may be a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal

import msgspec

from crossfade.config.lines import Document
from crossfade.config.problems import Path, dotted

Kind = Literal["lost", "dropped", "changed", "to_do"]
KIND_WORDS: Final[dict[Kind, str]] = {
    "lost": "model lost",
    "dropped": "not carried over",
    "changed": "changed",
    "to_do": "to do",
}
"""How the kinds of remarks are said to people."""
SECTIONS: Final = ("router_settings", "litellm_settings", "general_settings", "environment_variables")


class Remark(msgspec.Struct, frozen=True):
    """One setting of the input (`dotted`, with its 1-based line) and what became of it. `lost`: a model that
    nothing serves now. `dropped`: no effect on the output. `changed`: carried, with a difference. `to_do`: carried
    once the reader has done what the reason says."""

    line: int | None
    setting: str
    kind: Kind
    reason: str


class Ledger:
    """The values of the input, and what was said or made of each."""

    def __init__(self, document: Document):
        self.value = document.value
        self._document = document
        self._settled: set[Path] = set()
        self._remarks: dict[tuple[Path, Kind, str], Remark] = {}

    def use(self, path: Path) -> None:
        """Notes that the setting at `path`, with all inside it, had an effect."""
        self._settled.add(path)

    def say(self, kind: Kind, path: Path, reason: str) -> None:
        """Makes a remark, and settles the setting with all inside it. Saying it twice says it once."""
        self._settled.add(path)
        remark = Remark(self._document.line_of(path), dotted(path), kind, reason)
        self._remarks.setdefault((path, kind, reason), remark)

    def drop_rest(self, reason_for: Callable[[Path], str]) -> None:
        """Says of every setting that nobody settled that it was dropped."""
        for path in self._unsettled(self.value, ()):
            self.say("dropped", path, reason_for(path))

    def remarks(self) -> tuple[Remark, ...]:
        """All of them, in the order of the input."""
        return tuple(sorted(self._remarks.values(), key=lambda one: one.line or 0))

    def _unsettled(self, value: object, path: Path) -> Iterator[Path]:
        if path in self._settled or value is None:
            return
        if isinstance(value, dict) and _has_settings(path):
            for name, inner in value.items():
                yield from self._unsettled(inner, (*path, name))
        elif isinstance(value, list) and path in (("model_list",), ("credential_list",)):
            for i, inner in enumerate(value):
                yield from self._unsettled(inner, (*path, i))
        else:
            yield path


def _has_settings(path: Path) -> bool:
    """Whether what is inside the mapping at `path` is spoken of singly; of other things they are said as a whole."""
    if not path:
        return True
    if path[0] in ("model_list", "credential_list"):
        return len(path) == 2 or (len(path) == 3 and path[2] in ("litellm_params", "model_info", "credential_values"))
    return len(path) == 1 and path[0] in SECTIONS
