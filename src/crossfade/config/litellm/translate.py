"""From the text of a LiteLLM `config.yaml` to that of a crossfade.yaml, and what is to be said of it. Pure.

Decides which settings there are beyond models and fallbacks: times, retries, keys, log. Holds no value of a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final

import msgspec

from crossfade.config.lines import read_document
from crossfade.config.litellm.chains import Chains
from crossfade.config.litellm.deployments import Deployment, DeploymentReader, timer
from crossfade.config.litellm.providers import make_providers
from crossfade.config.litellm.reasons import reason_for
from crossfade.config.litellm.render import FilePart, render
from crossfade.config.litellm.report import Ledger, Remark
from crossfade.config.litellm.variables import REFERENCE_START, Variables, variable_of
from crossfade.config.problems import Path, Problems
from crossfade.config.secrets import MIN_KEY_LENGTH
from crossfade.core.target import Vendor

MASTER: Final = "LITELLM_MASTER_KEY"


class Translation(msgspec.Struct, frozen=True, kw_only=True):
    """The output, None where no model could be carried over, and what is to be said. `routes` are the names of the
    routes, `providers` those of the providers; `variables` must be set before the output can be served."""

    text: str | None
    remarks: tuple[Remark, ...]
    providers: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()

    @property
    def lost(self) -> tuple[Remark, ...]:
        """The remarks on models that nothing serves."""
        return tuple(one for one in self.remarks if one.kind == "lost")


def translate(data: bytes, file: str, vendors: Mapping[str, Vendor]) -> Translation:
    """The output for the input `data`; `file` is its name in messages. Raises ConfigErrors with everything that
    makes the input unreadable, by line."""
    problems = Problems(file)
    # LiteLLM fills nothing into `${...}`, so it stands for itself.
    document = read_document(data.replace(b"${", b"$${"), {}, problems)
    problems.raise_any()
    ledger = Ledger(document)
    if not isinstance(ledger.value, dict):
        problems.add((), "is no LiteLLM configuration: it has no keys")
        problems.raise_any()
    reader = DeploymentReader(ledger, vendors, problems)
    found = reader.read()
    problems.raise_any()
    return _translated(found, reader.variables, PurePath(file).name, vendors, ledger)


def _translated(
    found: list[Deployment], variables: Variables, name: str, vendors: Mapping[str, Vendor], ledger: Ledger
) -> Translation:
    providers, of = make_providers(found)
    chains = Chains(found, of, vendors, ledger)
    chains.check_wildcards()
    settings = _Settings(ledger)
    routes = chains.routes()
    part = FilePart(
        source=name,
        providers=providers,
        timers=settings.timers(),
        routes=routes,
        policy=chains.policy,
        fallbacks=chains.fallbacks(routes),
        wildcards=chains.served(),
        has_retries=settings.has_retries(),
        master=settings.master(variables),
        log=settings.log(),
    )
    used = _variables(part)
    settings.environment(used)
    ledger.drop_rest(reason_for)
    return Translation(
        text=render(part, vendors) if providers else None,
        remarks=ledger.remarks(),
        providers=tuple(one.name for one in providers),
        routes=tuple(one.name for one in part.routes),
        variables=used,
    )


def _variables(part: FilePart) -> tuple[str, ...]:
    """Every variable that the output refers to."""
    names = [name for one in part.providers for name in one.variables]
    texts = [one.base_url or "" for one in part.providers] + list(part.timers.values())
    for chain in (*(route.chain for route in part.routes), *part.fallbacks.values()):
        texts += [value for item in chain for value in item.settings.values() if isinstance(value, str)]
    names += [text[2:].partition("}")[0] for text in texts if text.startswith("${")]
    return tuple(dict.fromkeys([*names, *([part.master] if part.master else [])]))


class _Settings:
    """The settings that are not of single models."""

    def __init__(self, ledger: Ledger):
        self._ledger = ledger
        self._root: Mapping[str, Any] = ledger.value if isinstance(ledger.value, dict) else {}

    def timers(self) -> dict[str, str]:
        """The times of every call."""
        found = {}
        for key, places in {
            "attempt_timeout": (("router_settings", "timeout"), ("litellm_settings", "request_timeout")),
            "first_content_timeout": (("router_settings", "stream_timeout"),),
        }.items():
            for path in places:
                value = self._value(path)
                if value is None:
                    continue
                if key in found:
                    self._ledger.say("dropped", path, "router_settings.timeout wins over it")
                elif (text := timer(self._ledger, value, path)) is not None:
                    found[key] = text
        return found

    def has_retries(self) -> bool:
        """Whether the same target may be asked again."""
        for path in (("router_settings", "num_retries"), ("litellm_settings", "num_retries")):
            value = self._value(path)
            if value is not None:
                if value == 0:
                    self._ledger.use(path)
                return bool(value != 0)
        return True

    def master(self, variables: Variables) -> str | None:
        """The variable of the gateway key that LiteLLM's master key becomes."""
        path: Path = ("general_settings", "master_key")
        value = self._value(path)
        if value is None:
            return MASTER if isinstance(self._value(("environment_variables", MASTER)), str) else None
        if (name := variable_of(value)) is not None:
            self._ledger.use(path)
            return name
        key = str(value)
        if not key or key.startswith(REFERENCE_START):
            self._ledger.say("dropped", path, "names no environment variable, and is no key")
            return None
        name = variables.name_for(key, MASTER)
        what = f"keys stay out of the output: put this one into the variable {name}"
        if len(key) < MIN_KEY_LENGTH:
            what = f"has fewer than {MIN_KEY_LENGTH} characters, which crossfade refuses: put a new key into {name}"
        self._ledger.say("to_do", path, what)
        return name

    def log(self) -> dict[str, str]:
        """What is printed, and how."""
        found = {}
        for name, key, word in (("json_logs", "format", "json"), ("set_verbose", "level", "debug")):
            path = ("litellm_settings", name)
            if self._value(path) is True:
                found[key] = word
                self._ledger.use(path)
        return found

    def environment(self, used: tuple[str, ...]) -> None:
        """Remarks on the variables that LiteLLM sets itself."""
        values = self._root.get("environment_variables")
        for name in values if isinstance(values, dict) else ():
            path: Path = ("environment_variables", name)
            if name in used:
                self._ledger.say("to_do", path, "crossfade sets no variables: export it before `crossfade serve`")
            else:
                self._ledger.say("dropped", path, "crossfade sets no variables, and the output does not use this one")

    def _value(self, path: Path) -> Any:
        section = self._root.get(str(path[0]))
        return section.get(path[1]) if isinstance(section, dict) else None
