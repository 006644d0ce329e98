"""What a request costs at a target, as far as that is known before it is asked, and what of that is too much."""

from __future__ import annotations

from typing import Final

from crossfade.core.policy import MaxCost
from crossfade.core.target import Target

USUAL_OUTPUT: Final = 500
"""Tokens of an answer, where the request does not bound them to less: for comparing prices."""


def price_of(target: Target, input_tokens: int, max_tokens: int | None) -> float | None:
    """USD for a request with so many tokens of input, and an answer as long as is usual; None without prices."""
    if target.price_in is None or target.price_out is None:
        return None
    output = USUAL_OUTPUT if max_tokens is None else min(USUAL_OUTPUT, max_tokens)
    return target.price_in * input_tokens + target.price_out * output


class CostBound:
    """A `max_cost` for one request: `most` USD a call, None where that cannot be told."""

    __slots__ = ("_asked", "_bound", "_input", "most")

    def __init__(self, bound: MaxCost, primary: Target, input_tokens: int, max_tokens: int | None) -> None:
        self._bound = bound
        self._input = input_tokens
        self._asked = max_tokens
        self.most = bound.usd
        if bound.times is not None:
            price = price_of(primary, input_tokens, max_tokens)
            self.most = None if price is None else price * bound.times

    def exceeded(self, target: Target) -> str | None:
        """Why `target` is too dear, in words; None if it is not, or has no known price."""
        most = self.most
        if most is None:
            return None
        price = price_of(target, self._input, self._asked)
        if price is None or price <= most * (1.0 + 1e-9):
            return None
        if self._bound.times is None:
            return f"max_cost: about {_usd(price)} of {_usd(most)}"
        if most == 0.0:
            return f"max_cost: about {_usd(price)}, and the primary is free"
        return (
            f"max_cost: about {price / most * self._bound.times:.2g}x of the primary, {self._bound.times:g}x is allowed"
        )


def _usd(amount: float) -> str:
    return f"{amount:.2g} USD" if amount < 0.01 else f"{amount:.2f} USD"
