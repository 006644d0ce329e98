"""What is wrong with a configuration: all of it is collected, then reported together.

Decides how a place in the file is named. Knows nothing of what the keys mean.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Sequence

from crossfade.core.errors import ConfigError

Path = tuple[str | int, ...]
"""A place in the file: keys and positions from its root."""


class ConfigErrors(ConfigError):
    """Everything that is wrong, in the order of the file; `errors` has one ConfigError each, `str()` one line each."""

    def __init__(self, errors: Sequence[ConfigError]):
        self.errors = tuple(errors)
        first = self.errors[0]
        super().__init__(first.message, file=first.file, line=first.line, field=first.field)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


def dotted(path: Path) -> str:
    """`routes.chat.chain[1]`; names that have a dot or anything odd themselves are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        is_odd = not part or not part.isprintable() or any(mark in part for mark in '. []"')
        name = json.dumps(part, ensure_ascii=not part.isprintable()) if is_odd else part
        text += f".{name}" if text else name
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing where no known word is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


class Problems:
    """Collects what is wrong in one file. `line_of` finds the line of a place once the file has been read."""

    def __init__(self, file: str | None):
        self.file = file
        self.line_of: Callable[[Path], int | None] = lambda path: None
        self._errors: list[ConfigError] = []
        self._places: set[Path] = set()

    def add(self, path: Path, message: str, line: int | None = None) -> None:
        """Notes a problem at `path`; `line` only where it is not the place's own."""
        line = self.line_of(path) if line is None else line
        self._places.add(path)
        self._errors.append(ConfigError(message, file=self.file, line=line, field=dotted(path) or None))

    def has(self, path: Path) -> bool:
        """Whether something was already said of this very place."""
        return path in self._places

    def has_within(self, path: Path) -> bool:
        """Whether something was already said of this place or of one inside it."""
        return any(place[: len(path)] == path for place in self._places)

    def raise_any(self) -> None:
        """Raises ConfigErrors if anything was noted."""
        if self._errors:
            raise ConfigErrors(sorted(self._distinct(), key=lambda error: error.line or 0))

    def _distinct(self) -> list[ConfigError]:
        """Without what is said again where an anchored mapping is merged elsewhere."""
        own = {(e.line, e.message) for e in self._errors if "<<" not in (e.field or "")}
        return [e for e in self._errors if "<<" not in (e.field or "") or (e.line, e.message) not in own]

    def __repr__(self) -> str:
        return f"<Problems file={self.file!r} errors={len(self._errors)}>"
