"""Which rule of a route is the first that holds for a request.

The conditions are made ready once for a configuration; a request is then asked of each in turn. Pure: the time is an
argument, and the text of a request is looked at only where a rule before the first that holds is about complexity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from crossfade.core.exchange import Ability, RequestFacts
from crossfade.core.when import Hours, Range, When

NO_RULE: Final = -1


class Ask:
    """A request as rules see it. `key` is the name of the gateway key and `project` that of its project, "" where there
    is none; header names are in lower case; `wall` is Unix time. `score` reckons the complexity, and is called once at
    most."""

    __slots__ = ("_complexity", "_score", "facts", "headers", "key", "model", "project", "tags", "wall")

    def __init__(
        self,
        facts: RequestFacts,
        model: str,
        tags: Sequence[str],
        key: str,
        project: str,
        headers: Mapping[str, str],
        wall: float,
        score: Callable[[], float],
    ) -> None:
        self.facts = facts
        self.model = model
        self.tags = tags
        self.key = key
        self.project = project
        self.headers = headers
        self.wall = wall
        self._score = score
        self._complexity = -1.0

    @property
    def complexity(self) -> float:
        if self._complexity < 0.0:
            self._complexity = self._score()
        return self._complexity


class _Condition:
    """One condition of a `when`."""

    __slots__ = ()

    def holds(self, ask: Ask) -> bool:
        raise NotImplementedError


class _InputTokens(_Condition):
    __slots__ = ("_above", "_below")

    def __init__(self, bounds: Range) -> None:
        self._above, self._below = _ends(bounds)

    def holds(self, ask: Ask) -> bool:
        return self._above < ask.facts.input_tokens < self._below


class _Complexity(_Condition):
    __slots__ = ("_above", "_below")

    def __init__(self, bounds: Range) -> None:
        self._above, self._below = _ends(bounds)

    def holds(self, ask: Ask) -> bool:
        return self._above < ask.complexity < self._below


class _Needs(_Condition):
    __slots__ = ("_ability", "_wanted")

    def __init__(self, ability: Ability, wanted: bool) -> None:
        self._ability = ability
        self._wanted = wanted

    def holds(self, ask: Ask) -> bool:
        return (self._ability in ask.facts.needs) == self._wanted


class _Tools(_Condition):
    __slots__ = ("_wanted",)

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted

    def holds(self, ask: Ask) -> bool:
        facts = ask.facts
        return (bool(facts.tools) or facts.has_other_tools) == self._wanted


class _Stream(_Condition):
    __slots__ = ("_wanted",)

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted

    def holds(self, ask: Ask) -> bool:
        return ask.facts.stream == self._wanted


class _ResponseFormat(_Condition):
    __slots__ = ("_kinds",)

    def __init__(self, kinds: Sequence[str]) -> None:
        self._kinds = frozenset(kinds)

    def holds(self, ask: Ask) -> bool:
        output = ask.facts.output
        return ("text" if output is None else output.kind) in self._kinds


class _Model(_Condition):
    __slots__ = ("_words",)

    def __init__(self, patterns: Sequence[str]) -> None:
        self._words = _Words(patterns)

    def holds(self, ask: Ask) -> bool:
        return self._words.fit(ask.model)


class _Tags(_Condition):
    __slots__ = ("_words",)

    def __init__(self, patterns: Sequence[str]) -> None:
        self._words = _Words(patterns)

    def holds(self, ask: Ask) -> bool:
        for tag in ask.tags:
            if self._words.fit(tag):
                return True
        return False


class _KeyName(_Condition):
    __slots__ = ("_words",)

    def __init__(self, patterns: Sequence[str]) -> None:
        self._words = _Words(patterns)

    def holds(self, ask: Ask) -> bool:
        return ask.key != "" and self._words.fit(ask.key)


class _Project(_Condition):
    __slots__ = ("_words",)

    def __init__(self, patterns: Sequence[str]) -> None:
        self._words = _Words(patterns)

    def holds(self, ask: Ask) -> bool:
        return ask.project != "" and self._words.fit(ask.project)


class _Header(_Condition):
    __slots__ = ("_name", "_words")

    def __init__(self, name: str, pattern: str) -> None:
        self._name = name
        self._words = _Words((pattern,))

    def holds(self, ask: Ask) -> bool:
        value = ask.headers.get(self._name)
        return value is not None and self._words.fit(value)


class _Hour(_Condition):
    __slots__ = ("_hours",)

    def __init__(self, hours: Hours) -> None:
        self._hours = hours

    def holds(self, ask: Ask) -> bool:
        hours = self._hours
        at = datetime.fromtimestamp(ask.wall, hours.zone)
        minute = at.hour * 60 + at.minute
        if hours.start < hours.end:
            return hours.start <= minute < hours.end
        return minute >= hours.start or minute < hours.end


class _Words:
    """Texts and patterns, any of which may fit."""

    __slots__ = ("_exact", "_patterns")

    def __init__(self, patterns: Sequence[str]) -> None:
        self._exact = frozenset([one for one in patterns if "*" not in one])
        self._patterns = [tuple(one.split("*")) for one in patterns if "*" in one]

    def fit(self, text: str) -> bool:
        if text in self._exact:
            return True
        for pieces in self._patterns:
            if matches(pieces, text):
                return True
        return False


class Rules:
    """The conditions of a route's rules, in their order."""

    __slots__ = ("_rules",)

    def __init__(self, whens: Sequence[When]) -> None:
        self._rules = [_conditions(when) for when in whens]

    def pick(self, ask: Ask) -> int:
        """The place of the first rule that holds, NO_RULE if none does."""
        for place, conditions in enumerate(self._rules):
            for condition in conditions:
                if not condition.holds(ask):
                    break
            else:
                return place
        return NO_RULE


def _conditions(when: When) -> list[_Condition]:
    """Those that cost least first; the text is looked at last."""
    found: list[_Condition] = []
    if when.stream is not None:
        found.append(_Stream(when.stream))
    if when.input_tokens is not None:
        found.append(_InputTokens(when.input_tokens))
    if when.tools is not None:
        found.append(_Tools(when.tools))
    if when.images is not None:
        found.append(_Needs(Ability.VISION, when.images))
    if when.files is not None:
        found.append(_Needs(Ability.FILES, when.files))
    if when.response_format is not None:
        found.append(_ResponseFormat(when.response_format))
    if when.model is not None:
        found.append(_Model(when.model))
    if when.key is not None:
        found.append(_KeyName(when.key))
    if when.project is not None:
        found.append(_Project(when.project))
    if when.tags is not None:
        found.append(_Tags(when.tags))
    for name, pattern in when.headers:
        found.append(_Header(name, pattern))
    if when.hours is not None:
        found.append(_Hour(when.hours))
    if when.complexity is not None:
        found.append(_Complexity(when.complexity))
    return found


def _ends(bounds: Range) -> tuple[float, float]:
    above = float("-inf") if bounds.above is None else bounds.above
    below = float("inf") if bounds.below is None else bounds.below
    return above, below


def matches(pieces: tuple[str, ...], text: str) -> bool:
    """Whether `text` is `pieces` with anything between them: a pattern split at its `*`. Linear in the text."""
    if len(pieces) == 1:
        return text == pieces[0]
    first, last = pieces[0], pieces[-1]
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in pieces[1:-1]:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
