"""The `when` of rules: what the file says, as conditions, and which of them can never hold."""

from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from crossfade.config.problems import Path, Problems, did_you_mean, dotted
from crossfade.config.schema import RangeFile, WhenFile
from crossfade.core.rules import matches
from crossfade.core.when import Hours, Range, When


class RuleConditions:
    """Reads the conditions of one route's rules, in their order. Those that cannot hold are noted as problems: nobody
    writes a rule for nothing. `projects` are those that gateway keys are of."""

    def __init__(self, projects: frozenset[str], problems: Problems):
        self._projects, self._problems = projects, problems
        self._earlier: dict[When, Path] = {}

    def read(self, file: WhenFile, path: Path) -> When:
        when = When(
            input_tokens=self._range(file.input_tokens, (*path, "input_tokens")),
            complexity=self._range(file.complexity, (*path, "complexity"), 1.0),
            tools=file.tools,
            images=file.images,
            files=file.files,
            stream=file.stream,
            response_format=file.response_format,
            model=file.model,
            tags=file.tags,
            key=file.key,
            project=self._project(file.project, (*path, "project")),
            headers=tuple([(name.lower(), pattern) for name, pattern in file.headers.items()]),
            hours=self._hours(file, path),
        )
        if self._problems.has_within(path):
            return when
        if when.is_empty:
            message = "when is missing: the rule would hold for every request; give it a condition, or put its chain in"
            self._problems.add(path[:-1], f"{message} the place of the route's own")
        elif when in self._earlier:
            message = f"the same conditions as {dotted(self._earlier[when][2:])}, so that this rule never comes to hold"
            self._problems.add(path, f"{message}; remove one")
        self._earlier.setdefault(when, path[:-1])
        return when

    def _project(self, patterns: tuple[str, ...] | None, path: Path) -> tuple[str, ...] | None:
        for pattern in patterns or ():
            pieces = tuple(pattern.split("*"))
            if not any(matches(pieces, project) for project in self._projects):
                near = did_you_mean(pattern, self._projects) or "; give a key its `project` under gateway_keys"
                self._problems.add(path, f"no gateway key is of a project {pattern!r}{near}")
        return patterns

    def _range(self, file: RangeFile, path: Path, most: float = float("inf")) -> Range | None:
        if file.above is None and file.below is None:
            return None
        bounds = Range(file.above, file.below)
        if bounds.is_empty or (file.above is not None and file.above >= most) or file.below == 0:
            self._problems.add(path, "no number is within this range, so that the rule never holds; change it")
        return bounds

    def _hours(self, file: WhenFile, path: Path) -> Hours | None:
        if file.hours is None:
            if file.zone is not None and not self._problems.has((*path, "hours")):
                self._problems.add((*path, "zone"), "is for `hours`, and there are none; remove it")
            return None
        if file.zone in (None, "UTC"):  # which is there also where no time zones are
            return Hours(*file.hours, UTC)
        try:
            zone = ZoneInfo(str(file.zone))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            message = f"{file.zone!r} is no time zone that this system knows; write it as in Europe/Berlin"
            self._problems.add((*path, "zone"), f"{message}, and see that `tzdata` is installed")
            return None
        return Hours(*file.hours, zone)
