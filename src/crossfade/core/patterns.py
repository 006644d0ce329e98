"""How much work a regular expression can make: the places in it that a matcher may have to keep in mind at once.

An engine of linear time is linear in the text times this number, and `[ab]*a[ab]{900}` needs a thousand steps for each
character. Only an estimate, and no check of the syntax: that is for the engine.
"""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = re.compile(
    r"(?P<wide>\\[pP]\{[^}]*\}|\\[A-Za-z]|\[\^?\]?(?:\\.|[^\]\\])*\]|\.)"
    r"|\{(?P<least>\d+)(?P<range>,)?(?P<most>\d*)\}"
    r"|(?P<some>[*+?])|(?P<open>\()|(?P<close>\))|(?P<plain>\\.|.)",
    re.DOTALL,
)
_PLAIN: Final = 0.1
"""A plain character leaves hardly any choice."""


def work_of(pattern: str) -> float:
    """Steps that one character of a text may cost, about: classes and choices, counted repetitions written out."""
    outer: list[float] = []
    total = last = 0.0
    for token in _TOKEN.finditer(pattern):
        if token["open"]:
            outer.append(total + last)
            total = last = 0.0
        elif token["close"]:
            last += total
            total = outer.pop() if outer else 0.0
        elif token["least"]:
            if token["range"]:
                last = max(1.0, last)  # it may go on or not, at each of them
            last *= max(1, int((token["most"] or token["least"])[:6]))
        elif token["some"]:
            last += 1.0
        else:
            total, last = total + last, 1.0 if token["wide"] else _PLAIN
    return sum(outer) + total + last
