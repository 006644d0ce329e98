"""Reading the repository's own Markdown: its tables, code blocks and links."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))


class Table(msgspec.Struct, frozen=True):
    """One table: its column names in lower case, its rows, and the headings that it stands under, outermost first."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    headings: tuple[str, ...]

    def column(self, name: str) -> list[str]:
        at = self.columns.index(name)
        return [row[at] for row in self.rows]


class Block(msgspec.Struct, frozen=True):
    """One code block. `language` is "" where the page does not say it; `line` is its first line, from 1."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def page(name: str) -> Path:
    return DOCS / name


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def plain(cell: str) -> str:
    """A cell without the marks of code around all of it."""
    match = re.fullmatch(r"`([^`]*)`", cell)
    return match[1] if match else cell


def words(cell: str) -> list[str]:
    """What stands in marks of code in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def tables(path: Path) -> list[Table]:
    """The tables of a page, in order."""
    found: list[Table] = []
    headings: list[tuple[int, str]] = []
    rows: list[tuple[str, ...]] = []
    for line in [*_without_code(path.read_text()), ""]:
        if line.startswith("|"):
            rows.append(_cells(line))
            continue
        if len(rows) > 2:
            names = tuple(name.lower() for name in rows[0])
            found.append(Table(names, tuple(rows[2:]), tuple(text for _, text in headings)))
        rows = []
        if (match := re.match(r"(#+) (.+)", line)) is not None:
            headings = [one for one in headings if one[0] < len(match[1])] + [(len(match[1]), match[2])]
    return found


def tables_with(path: Path, *columns: str) -> list[Table]:
    """Those whose first columns are these; an error if there are none."""
    found = [table for table in tables(path) if table.columns[: len(columns)] == columns]
    assert found, f"{shown(path)} has no table | {' | '.join(columns)} |"
    return found


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1])


def _without_code(text: str) -> list[str]:
    lines, is_code = [], False
    for line in text.splitlines():
        if line.startswith("```"):
            is_code = not is_code
            lines.append("")
        else:
            lines.append("" if is_code else line)
    return lines


def blocks(path: Path) -> list[Block]:
    """The code blocks of a page: fenced ones, and indented ones, which end at a blank line."""
    found: list[Block] = []
    lines: list[str] = []
    language: str | None = None  # of an open fence; None: none is open
    begin, was_text = 0, False
    for number, line in enumerate([*path.read_text().splitlines(), ""], 1):
        if language is not None:
            if line.startswith("```"):
                found.append(Block(shown(path), begin, language, "\n".join(lines) + "\n"))
                lines, language, was_text = [], None, False
            else:
                lines.append(line)
            continue
        if line.startswith("    ") and (lines or not was_text):
            begin = begin if lines else number
            lines.append(line[4:])
            continue
        if lines:
            found.append(Block(shown(path), begin, "", "\n".join(lines).strip("\n") + "\n"))
            lines = []
        was_text = bool(line.strip())
        if line.startswith("```"):
            language, begin = line[3:].strip(), number + 1
    return found


def links(path: Path) -> list[str]:
    """The targets of a page's links that are not to other sites."""
    text = "\n".join(_without_code(path.read_text()))
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", target)]


def anchors(path: Path) -> set[str]:
    """What the headings of a page can be linked to as."""
    found = set()
    for line in _without_code(path.read_text()):
        if (match := re.match(r"#+ (.+)", line)) is not None:
            text = re.sub(r"[^\w\- ]", "", match[1].lower())
            found.add(text.replace(" ", "-"))
    return found


def measure(text: str) -> float | None:
    """A number with its unit: seconds, bytes or a share; None for an empty cell."""
    if not text:
        return None
    match = re.fullmatch(r"([\d,]+(?:\.\d+)?) ?(s|ms|KiB|MiB|%)?", text)
    assert match is not None, f"{text!r} is no value"
    factor = {None: 1.0, "s": 1.0, "ms": 0.001, "KiB": 1024.0, "MiB": 1024.0**2, "%": 0.01}[match[2]]
    return float(match[1].replace(",", "")) * factor
