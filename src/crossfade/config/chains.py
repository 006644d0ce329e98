"""Routes and fallbacks of the file: what the names in their chains mean, and their policies.

Notes every problem at its place and goes on. What is allowed but probably a mistake becomes a warning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crossfade.config.build import is_plain_name, queue_of, timeouts_of
from crossfade.config.catalogue import Facts
from crossfade.config.naming import has_model, providers_of
from crossfade.config.problems import Path, Problems, did_you_mean, dotted
from crossfade.config.rules import RuleConditions
from crossfade.config.rungs import make_rung, stranger
from crossfade.config.schema import RequireFile, RouteFile, RuleFile, TargetFile, TimersFile
from crossfade.config.settings import DEFAULT_ROUTE, ProviderConfig
from crossfade.core.failure import DEFAULT_FALLBACK
from crossfade.core.policy import RetryPolicy, RoutePolicy, StreamPolicy, ValidationPolicy
from crossfade.core.residency import Requirement
from crossfade.core.target import Link, Member, Pool, Route, Rule, Rung, rungs_of

DECIDED = {"model", "stream", "messages", "crossfade", "fallback_models", "fallback_on", "models", "fallbacks"}
"""Parameters that crossfade decides about itself."""
_OF_TARGETS = ("target", "set", "drop", *TimersFile.__struct_fields__)
"""Keys of a chain's item that a pool has not."""
_NOTHING = Requirement()


class ChainBuilder:
    """Makes routes of their part of the file. `providers` are those that are right, `names` all that the file has:
    of a chain that names a broken one nothing more is said. `projects` are those of the gateway keys."""

    def __init__(
        self,
        providers: Mapping[str, ProviderConfig],
        names: Sequence[str],
        facts: Facts,
        projects: frozenset[str],
        problems: Problems,
    ):
        self._providers, self._names, self._facts, self._problems = providers, tuple(names), facts, problems
        self._projects = projects

    def routes(self, files: Mapping[str, RouteFile]) -> dict[str, Route]:
        """The routes; of broken ones what is left of them."""
        taken: dict[str, str] = {}
        built = {}
        for name, file in files.items():
            path: Path = ("routes", name)
            if not is_plain_name(name) and not self._problems.has(path):
                message = "is no name for a route; use letters, digits and -_./:@+, beginning with a letter or digit"
                self._problems.add(path, message)
            route = self._route(name, file, self._matches(name, file, files, taken), path)
            if route is not None:
                built[name] = route
        return built

    def _route(self, name: str, file: RouteFile, match: tuple[str, ...], path: Path) -> Route | None:
        require = requirement_of(file.require)
        links = self._listed_chain(file.chain, require, path)
        chain = _rungs(links)
        rules = self._rules(file.rules, chain, require, (*path, "rules"))
        allow = self._allow(file, path)
        if not chain:
            return None
        return Route(
            name=name,
            chain=chain,
            links=() if chain == links else links,
            policy=policy_of(file),
            match=match,
            allow=allow,
            trace=file.trace,
            rules=rules,
            require=require,
            max_cost=file.max_cost,
        )

    def _rules(
        self, files: Sequence[RuleFile], routes: Sequence[Rung], require: Requirement, path: Path
    ) -> tuple[Rule, ...]:
        """The rules of a route whose own chain is `routes`: none may lead to vectors that do not fit those of it."""
        built: list[Rule] = []
        whens = RuleConditions(self._projects, self._problems)
        for i, file in enumerate(files):
            place = (*path, i)
            links = self._listed_chain(file.chain, require, place)
            when = whens.read(file.when, (*place, "when"))
            chain = _rungs(links)
            name = file.name or f"rules[{i}]"
            if file.name is not None and any(file.name == other.name for other in files[:i]):
                self._problems.add((*place, "name"), f"{file.name!r} is the name of another rule too; use another")
            if routes and (odd := stranger([routes[0], *chain])) is not None:
                self._problems.add((*place, "chain"), _other_vectors(chain[odd - 1], routes[0]))
            if chain:
                built.append(Rule(name=name, when=when, chain=chain, links=() if chain == links else links))
        return tuple(built)

    def fallbacks(
        self, files: Mapping[str, Sequence[TargetFile]], routes: Mapping[str, RouteFile]
    ) -> dict[str, tuple[Rung, ...]]:
        """The chains behind names that no route serves."""
        served = {pattern: name for name, route in routes.items() for pattern in route.match if "*" not in pattern}
        built = {}
        for name, entries in files.items():
            path: Path = ("fallbacks", name)
            if name != DEFAULT_ROUTE and ("*" in name or "," in name or not name.strip()):
                self._problems.add(path, "takes exact model names, or '*' alone for all others")
            elif name in routes or name in served:
                message = f"route {served.get(name, name)!r} serves this name, so this chain would never be used"
                self._problems.add(path, f"{message}; add its targets to the route's chain")
            for i, entry in enumerate(entries):
                if entry.pool is not None:
                    message = "a pool has to stand in a route's chain; make a route with this name under its `match`"
                    self._problems.add((*path, i), message)
            built[name] = tuple([link for link in self._chain(entries, path) if isinstance(link, Rung)])
        return built

    # --- chains ---

    def _listed_chain(self, entries: Sequence[TargetFile] | None, require: Requirement, path: Path) -> tuple[Link, ...]:
        """The chain of a route, or of one of its rules, which has to have one."""
        if not entries:
            if not self._problems.has_within((*path, "chain")):
                what = "chain is missing" if entries is None else "chain is empty"
                place = path if entries is None else (*path, "chain")
                self._problems.add(place, f"{what}; list targets, as in chain: [openai/gpt-5.4]")
            return ()
        return self._chain(entries, (*path, "chain"), require)

    def _chain(self, entries: Sequence[TargetFile], path: Path, require: Requirement = _NOTHING) -> tuple[Link, ...]:
        seen: dict[str, Path] = {}
        links = self._links(entries, path, seen)
        rungs = _rungs(links)
        if (odd := stranger(rungs)) is not None:
            self._problems.add(seen[rungs[odd].name], _other_vectors(rungs[odd], rungs[0]))
        for rung in rungs:
            unmet = require.unmet(self._providers[rung.targets[0].provider].residence)
            if unmet is not None:
                self._problems.add(seen[rung.name], f"{rung.name!r} may not be asked on this route: {unmet}")
        return tuple(links)

    def _links(self, entries: Sequence[TargetFile], path: Path, seen: dict[str, Path]) -> list[Link]:
        """What the items stand for. `seen` are the places of the targets found so far in the whole chain."""
        links: list[Link] = []
        for i, entry in enumerate(entries):
            place = (*path, i)
            if entry.weight is not None and path[-1] != "of":
                self._problems.add((*place, "weight"), "means nothing outside of a pool; remove it")
            link = self._pool(entry, place, seen) if entry.pool or entry.of else self._rung(entry, place)
            if isinstance(link, Rung):
                if link.name in seen:
                    where = dotted(seen[link.name][2 if path[0] == "routes" else 1 :])
                    message = f"{link.name!r} is {where} too; a chain asks a target once, remove one"
                    self._problems.add(place, message)
                    continue
                seen[link.name] = place
            if link is not None:
                links.append(link)
        return links

    def _pool(self, entry: TargetFile, path: Path, seen: dict[str, Path]) -> Pool | None:
        if entry.pool is None and not self._problems.has((*path, "pool")):
            self._problems.add((*path, "of"), "is for pools; say by what one is chosen, as in pool: weighted")
        for name in _OF_TARGETS:
            if getattr(entry, name):
                self._problems.add((*path, name), f"is of single targets; move {name!r} to the members of the pool")
        links = self._links(entry.of, (*path, "of"), seen)
        if not entry.of and not self._problems.has_within((*path, "of")):
            self._problems.add(path, "the pool has no members; list them under `of`")
        if entry.pool is None or not links or len(links) != len(entry.of):
            return None  # said already
        weights = [1.0 if member.weight is None else member.weight for member in entry.of]
        if not any(weights):
            self._problems.add(path, "every weight in the pool is 0, so it has no members; give one of them another")
        return Pool(name=dotted(path), policy=entry.pool, members=tuple(map(Member, links, weights)))

    def _rung(self, entry: TargetFile, path: Path) -> Rung | None:
        self._check_parameters(entry, path)
        name = entry.target.strip()
        if not name:
            if not self._problems.has_within(path):
                self._problems.add(path, "target is missing; name it as provider/model")
            return None
        found = self._find(name, path)
        if found is None or found[0] not in self._providers:
            return None
        return make_rung(
            self._providers[found[0]],
            found[1],
            self._facts,
            timeouts=timeouts_of(entry),
            set_params=entry.set,
            drop_params=entry.drop,
        )

    def _find(self, name: str, path: Path) -> tuple[str, str] | None:
        provider, slash, model = name.partition("/")
        is_odd = not name.isprintable() or any(mark in "*, " for mark in name)
        if is_odd or (slash and not (provider and model)):
            self._problems.add(path, f"{name!r} is no target; name one as provider/model")
        elif provider in self._names and slash:
            return provider, model
        elif slash:
            self._unknown_provider(name, provider, path)
        else:
            return self._bare(name, path)
        return None

    def _unknown_provider(self, name: str, provider: str, path: Path) -> None:
        hint = did_you_mean(provider, self._names)
        for one in self._providers.values():
            if has_model(one, name, self._facts):  # the model's own id has a slash
                hint = f"; did you mean {one.name + '/' + name!r}?"
        known = f"; known are {', '.join(self._names)}" if self._names else "; add it under providers"
        self._problems.add(path, f"unknown provider {provider!r}{hint or known}")

    def _bare(self, model: str, path: Path) -> tuple[str, str] | None:
        found = providers_of(model, self._providers, self._facts)
        if not found and len(self._names) == 1:
            found = tuple(self._providers)
            if not found:
                return None
        if len(found) == 1:
            return found[0], model
        if found:
            choices = " or ".join(f"{name}/{model}" for name in found)
            self._problems.add(path, f"{model!r} can be the model of several providers; write {choices}")
        elif model in self._names:
            self._problems.add(path, f"{model!r} is a provider; add the model, as in {model}/MODEL")
        else:
            self._problems.add(path, f"{model!r} does not say which provider; write PROVIDER/{model}")
        return None

    def _check_parameters(self, entry: TargetFile, path: Path) -> None:
        for name, _ in entry.set:
            if name in DECIDED:
                self._problems.add((*path, "set", name), f"{name!r} is decided by crossfade; remove it")
        for i, name in enumerate(entry.drop):
            if name in DECIDED:
                self._problems.add((*path, "drop", i), f"{name!r} is decided by crossfade; remove it")
            elif any(name == other for other, _ in entry.set):
                self._problems.add((*path, "drop", i), f"{name!r} is under set too; remove one")

    # --- names ---

    def _matches(
        self, name: str, file: RouteFile, files: Mapping[str, RouteFile], taken: dict[str, str]
    ) -> tuple[str, ...]:
        for i, pattern in enumerate(file.match):
            path: Path = ("routes", name, "match", i)
            if not pattern:
                continue
            if not pattern.isprintable() or any(mark in ", " for mark in pattern):
                self._problems.add(path, f"{pattern!r} has a space or comma, which model names have not; remove it")
            elif pattern in taken:
                where = "this route" if taken[pattern] == name else f"route {taken[pattern]!r}"
                self._problems.add(path, f"{pattern!r} is matched by {where} already; remove one")
            elif pattern in files and pattern != name:
                self._problems.add(path, f"{pattern!r} is the name of another route, which serves it; remove one")
            taken.setdefault(pattern, name)
        return tuple(pattern for pattern in file.match if pattern)

    def _allow(self, file: RouteFile, path: Path) -> tuple[str, ...] | None:
        for i, pattern in enumerate(file.allow or ()):
            place = (*path, "allow", i)
            provider, slash, _ = pattern.partition("/")
            if not pattern or "*" in provider:
                continue
            if not slash:
                self._problems.add(place, f"{pattern!r} matches no target; write provider/model or provider/*")
            elif provider not in self._names:
                near = did_you_mean(provider, self._names)
                self._problems.add(place, f"unknown provider {provider!r}{near}")
        return file.allow


def requirement_of(file: RequireFile) -> Requirement:
    """What providers have to meet."""
    return Requirement(regions=file.region or (), retention=file.retention, tags=file.tags)


def _rungs(links: Sequence[Link]) -> tuple[Rung, ...]:
    return tuple([rung for link in links for rung in rungs_of(link)])


def policy_of(file: RouteFile) -> RoutePolicy:
    """The policies of a route, with their defaults."""
    retry, stream, checks = RetryPolicy(), StreamPolicy(), file.validate
    commit, hold = file.commit or stream.commit, file.hold or (stream.hold_tool_calls, stream.hold_json)
    return RoutePolicy(
        fallback_on=DEFAULT_FALLBACK if file.fallback_on is None else file.fallback_on,
        retry=RetryPolicy(
            max_wait=retry.max_wait if file.retry.max_wait is None else file.retry.max_wait,
            delay=retry.delay if file.retry.delay is None else file.retry.delay,
            max_attempts=file.retry.max_attempts,
            budget_ratio=retry.budget_ratio if file.retry.budget is None else file.retry.budget,
        ),
        timeouts=timeouts_of(file, overall=file.timeout, max_stream=file.max_stream),
        stream=StreamPolicy(
            commit=commit, hold_tool_calls=hold[0], hold_json=hold[1], recover=file.recover or stream.recover
        ),
        validation=ValidationPolicy(
            min_chars=checks.min_chars, finish=checks.finish, match=checks.match, not_match=checks.not_match
        ),
        stream_upstream=file.stream_upstream or "auto",
        hedge=file.hedge_after or RoutePolicy().hedge,
        queue=queue_of(file.queue),
        repeatable=file.repeatable,
    )


def _other_vectors(rung: Rung, first: Rung) -> str:
    provider, _, model = rung.name.partition("/")
    return (
        f"{rung.name!r} embeds with another model than {first.name!r}, and vectors of two models cannot be mixed;"
        f" remove it, or if it is the same model say so: providers.{provider}.models.{model}.embedding:"
        f" {first.targets[0].embedding}"
    )
