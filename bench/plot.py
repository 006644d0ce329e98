"""A bar chart as SVG, for figures that are better seen than read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

_WIDTH: Final = 900
_ROW: Final = 22
_LEFT: Final = 110
_TOP: Final = 40
_BAR: Final = "#4477aa"
_LINE: Final = "#cc3311"


def bars(file: Path, title: str, rows: Sequence[tuple[str, float]], marks: Sequence[float] = ()) -> None:
    """Writes horizontal bars with their names and values, and where `marks` are given a line across each at that
    value."""
    most = max([value for _, value in rows] + [*marks, 1e-12])
    scale = (_WIDTH - _LEFT - 90) / most
    height = _TOP + _ROW * len(rows) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="10" y="22" font-size="14">{escape(title)}</text>',
    ]
    for number, (name, value) in enumerate(rows):
        y = _TOP + _ROW * number
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{y + 2}" width="{value * scale:.1f}" height="{_ROW - 6}" fill="{_BAR}"/>',
            f'<text x="{_LEFT + value * scale + 6:.1f}" y="{y + 14}">{value:,.4g}</text>',
        ]
        if marks:
            x = _LEFT + marks[number] * scale
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + _ROW - 2}" stroke="{_LINE}" stroke-width="2"/>'
            )
    file.write_text("\n".join([*parts, "</svg>", ""]))
