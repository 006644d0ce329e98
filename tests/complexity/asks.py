"""Labelled asks, and how well a score tells the hard ones from the simple ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec


class LabelledAsk(msgspec.Struct, frozen=True):
    """`simple`: an answer of a small model would do. `held_out`: never looked at when words and weights are chosen."""

    label: Literal["simple", "hard"]
    half: Literal["fit", "held_out"]
    language: str
    ask: str


def read_asks() -> list[LabelledAsk]:
    lines = Path(__file__).with_name("asks.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=LabelledAsk) for line in lines]


def auc(asks: Sequence[LabelledAsk], score: Callable[[str], float]) -> float:
    """The chance that a hard ask scores above a simple one, both by lot; equal scores count half."""
    hard = [score(one.ask) for one in asks if one.label == "hard"]
    simple = [score(one.ask) for one in asks if one.label == "simple"]
    wins = sum((mine > other) + (mine == other) / 2 for mine in hard for other in simple)
    return wins / (len(hard) * len(simple))
