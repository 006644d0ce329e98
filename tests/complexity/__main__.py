"""`python -m tests.complexity`: how well the score tells hard asks from simple ones; with `--fit`, better weights."""

from __future__ import annotations

import sys
from math import exp

from crossfade.core.complexity import WEIGHTS, complexity, features
from tests.complexity.asks import auc, read_asks

_STEPS, _RATE, _DECAY = 4000, 0.5, 0.004


def fit() -> tuple[float, dict[str, float]]:
    """The bias and weights of a logistic regression on the asks that are there for that; always the same."""
    rows = [([1.0, *features(one.ask).values()], one.label == "hard") for one in read_asks() if one.half == "fit"]
    weights = [0.0] * (len(WEIGHTS) + 1)
    for _ in range(_STEPS):
        slope = [0.0] * len(weights)
        for values, is_hard in rows:
            error = 1.0 / (1.0 + exp(-sum(w * v for w, v in zip(weights, values, strict=True)))) - is_hard
            slope = [s + error * v for s, v in zip(slope, values, strict=True)]
        weights = [w - _RATE * (s / len(rows) + _DECAY * w) for w, s in zip(weights, slope, strict=True)]
    return round(weights[0], 2), {name: round(w, 2) for name, w in zip(WEIGHTS, weights[1:], strict=True)}


def main() -> None:
    """Prints the figures."""
    if "--fit" in sys.argv[1:]:
        print(*fit())
        return
    asks = read_asks()
    for half in ("fit", "held_out"):
        some = [one for one in asks if one.half == half]
        print(f"{half:9} {len(some):3} asks  AUC {auc(some, complexity):.3f}  length alone {auc(some, len):.3f}")
    print(f"all       {len(asks):3} asks  AUC {auc(asks, complexity):.3f}  length alone {auc(asks, len):.3f}")
    fitted = [one for one in asks if one.half == "fit"]  # those held out are not to be read
    for one in sorted(fitted, key=lambda one: abs(complexity(one.ask) - (one.label == "hard")), reverse=True)[:10]:
        print(f"  {complexity(one.ask):.2f} {one.label:6} {one.ask[:80]!r}")


if __name__ == "__main__":
    main()
