"""Decides what the next call to a provider meets, and counts what became of it.

It knows nothing of dialects or sockets. Providers are made up by whoever calls: their number is bounded.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from crossfade.simulator.faults import HEALTHY, Step

KEPT_REQUESTS = 20
KEPT_BODY_BYTES = 64 * 1024
MAX_NAMES = 1000
MANY = "(others)"
"""What the calls of further providers and models are counted under, once there are `MAX_NAMES`."""


class Rule(msgspec.Struct):
    """What the calls of a model meet at the provider that has this rule: the queued steps in order, then `then`."""

    model: str | None
    queue: deque[Step]
    then: Step | None

    def matches(self, model: str) -> bool:
        return self.model is None or fnmatchcase(model, self.model)


class Schedule:
    """The rules. The most particular one with something to say decides: provider and model, provider, model, any."""

    def __init__(self) -> None:
        self._rules: dict[str | None, dict[str | None, Rule]] = {}
        """By provider, then by model: a call looks at the rules of its own provider and of any, however many more."""

    def set(self, provider: str | None, model: str | None, steps: Iterable[Step], then: Step | None) -> None:
        """Replaces the rule of just this provider and model pattern. `then` None: other rules decide."""
        queue = deque(msgspec.structs.replace(step, times=1) for step in steps for _ in range(step.times))
        self._rules.setdefault(provider, {})[model] = Rule(model, queue, then)

    def next(self, provider: str, model: str) -> Step:
        """What this call meets; takes it off its queue."""
        for rule in self._ranked(provider):
            if rule.matches(model):
                if rule.queue:
                    return rule.queue.popleft()
                if rule.then is not None:
                    return rule.then
        return HEALTHY

    def next_at_head(self, provider: str) -> Step | None:
        """The same for a call whose body, and so whose model, is not known yet: only a `refuse` that is next."""
        for rule in self._ranked(provider):
            if rule.model is None and (rule.queue or rule.then is not None):
                upcoming = rule.queue[0] if rule.queue else rule.then
                return self.next(provider, "") if upcoming is not None and upcoming.kind == "refuse" else None
        return None

    def clear(self) -> None:
        self._rules.clear()

    def _ranked(self, provider: str) -> list[Rule]:
        places = [self._rules.get(name, {}).values() for name in (provider, None)]
        return [rule for rules in places for rule in sorted(rules, key=lambda rule: rule.model is None)]


class Seen(msgspec.Struct, kw_only=True):
    """One request as it came. `body` is the JSON, or None where it was longer than `KEPT_BODY_BYTES`."""

    path: str
    headers: dict[str, str]
    model: str
    stream: bool
    outcome: str
    body: Any = None


class Counts(msgspec.Struct):
    """What one provider was called with. `outcomes` are by the step's kind, `aborted` those the client left."""

    calls: int = 0
    in_flight: int = 0
    aborted: int = 0
    outcomes: Counter[str] = msgspec.field(default_factory=Counter)
    models: Counter[str] = msgspec.field(default_factory=Counter)
    requests: deque[Seen] = msgspec.field(default_factory=lambda: deque(maxlen=KEPT_REQUESTS))

    def begin(self, seen: Seen) -> None:
        self.calls += 1
        self.in_flight += 1
        self.outcomes[seen.outcome] += 1
        self.models[seen.model if seen.model in self.models or len(self.models) < MAX_NAMES else MANY] += 1
        self.requests.append(seen)

    def end(self, *, is_aborted: bool) -> None:
        self.in_flight -= 1
        self.aborted += is_aborted


class Ledger:
    """The counts of all providers. Calls in flight over a reset are counted down where they were counted up."""

    def __init__(self) -> None:
        self._counts: dict[str, Counts] = {}

    def of(self, provider: str) -> Counts:
        if provider not in self._counts and len(self._counts) >= MAX_NAMES:
            provider = MANY
        return self._counts.setdefault(provider, Counts())

    def shown(self) -> dict[str, Any]:
        """All counts as plain JSON values."""
        shown: dict[str, Any] = msgspec.to_builtins({name: _plain(one) for name, one in self._counts.items()})
        return shown

    def clear(self) -> None:
        self._counts.clear()


def _plain(counts: Counts) -> dict[str, Any]:
    return {**msgspec.structs.asdict(counts), "requests": list(counts.requests)}
