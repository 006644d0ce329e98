"""Reads `model_list`: one record per deployment, with the address, the key's variable and the settings it has here.

Decides what of a deployment can be said in crossfade. What cannot be carried at all is a remark, and no record.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from crossfade.config.chains import DECIDED
from crossfade.config.leaves import MAX_CONCURRENCY, parse_base_url, parse_limit
from crossfade.config.litellm.prefixes import (
    GENERIC,
    PREFIXES,
    UNSUPPORTED,
    Prefix,
    host_label,
    is_chat,
    split_model,
    vendor_at,
)
from crossfade.config.litellm.report import Ledger
from crossfade.config.litellm.variables import REFERENCE_START, Variables, referenced, variable_of
from crossfade.config.problems import Path, Problems
from crossfade.core.target import Vendor

PLACEHOLDERS: Final = frozenset(
    "none null empty fake fake-key dummy dummy-key anything any no-key not-needed not-used unused x sk-no-key-required"
    " placeholder ollama vllm lm-studio".split()
)
"""What people write as the key of a server that wants none."""
PARAMETERS: Final = frozenset(
    "temperature top_p top_k max_tokens max_completion_tokens stop seed presence_penalty frequency_penalty logit_bias"
    " reasoning_effort verbosity service_tier parallel_tool_calls user".split()
)
"""Parameters of requests that a deployment can have as a default."""
FACTS: Final = {
    "max_input_tokens": "window",
    "supports_vision": "vision",
    "supports_pdf_input": "files",
    "supports_audio_input": "audio",
    "supports_function_calling": "tools",
    "supports_response_schema": "json_schema",
    "supports_assistant_prefill": "prefill",
}
"""Facts of `model_info` and what crossfade calls them."""
SHARES: Final = ("weight", "rpm", "tpm")
"""Numbers of a deployment by which LiteLLM shares the requests, the first that is there."""
TIMERS: Final = {"timeout": "attempt_timeout", "request_timeout": "attempt_timeout"}
STREAM_TIMERS: Final = {"stream_timeout": "first_content_timeout"}
_SECRET: Final = re.compile(
    r'"[^"]*(key|api_?token|access_?token|secret|password|auth|credential)[^"]*":|\bsk-', re.IGNORECASE
)
"""A parameter by such a name, or with such a value, in the JSON of parameters."""
_COHERES: Final = re.compile(r"(?:/v[12])?(?:/chat)?/?$")
_PRIVATE_ENDS: Final = (".local", ".internal", ".lan", ".svc", ".corp", ".home", ".intranet")


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One item of `model_list`. `group` is its model_name, `model` the provider's own id of the model. `base_url`
    is None at the vendor's own host; `variable` is None where no key is sent. `settings` are timers, `set` and `drop`
    as a chain's item has them; lower `order` comes first. `shares` are the numbers by which deployments of one name can
    share its requests."""

    path: Path
    group: str
    model: str
    prefix: str
    vendor: str
    base_url: str | None
    is_private: bool
    variable: str | None
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    order: float
    shares: Mapping[str, float]
    id: str | None


class _Lost(Exception):
    """The deployment cannot be carried over."""


_Params = Mapping[str, tuple[Any, Path]]


class DeploymentReader:
    """Reads the items of `model_list`. Wrong shapes go to `problems`, everything else to the ledger."""

    def __init__(self, ledger: Ledger, vendors: Mapping[str, Vendor], problems: Problems):
        self._ledger, self._vendors, self._problems = ledger, vendors, problems
        root = ledger.value if isinstance(ledger.value, dict) else {}
        self._items = root.get("model_list")
        self._credentials = _credentials(root.get("credential_list"))
        self._named: set[str] = set()
        own = root.get("environment_variables")
        self.variables = Variables({*referenced(root), *self._implicit(), *(own if isinstance(own, dict) else ())})

    def read(self) -> list[Deployment]:
        """Those that can be carried over, in the order of the file."""
        if not isinstance(self._items, list) or not self._items:
            what = "has no list of models; those that LiteLLM keeps in its database are not in this file"
            self._problems.add(("model_list",), what)
            return []
        found, lost = [], []
        for i, item in enumerate(self._items):
            path: Path = ("model_list", i)
            if (params := self._params(item, path)) is None:
                continue
            try:
                found.append(self._deployment(item, params, path))
            except _Lost as why:
                lost.append((path, item["model_name"], str(why)))
        served = {one.group for one in found}
        for path, name, reason in lost:
            if name in served:
                self._ledger.say("dropped", path, f"a deployment of {name!r}, which others serve: {reason}")
            else:
                self._ledger.say("lost", path, f"model {name!r}: {reason}")
        for name, (path, _) in self._credentials.items():
            if name not in self._named:
                self._ledger.say("dropped", path, "no model names this credential")
        return found

    def _implicit(self) -> set[str]:
        """The variables that LiteLLM reads for the items that name no key."""
        found = set()
        for item in self._items if isinstance(self._items, list) else []:
            params = item.get("litellm_params") if isinstance(item, dict) else None
            if not isinstance(params, dict) or params.get("api_key") or params.get("litellm_credential_name"):
                continue
            if isinstance(params.get("model"), str):
                prefix, _ = split_model(params["model"], params.get("custom_llm_provider"))
                row = PREFIXES.get(prefix or "")
                found.add((row.key if row else None) or "")
        return found - {""}

    def _params(self, item: object, path: Path) -> _Params | None:
        """The settings of `litellm_params` with their places, those of a named credential behind them; None where
        the item is none."""
        if not isinstance(item, dict) or not isinstance(item.get("model_name"), str) or not item["model_name"]:
            self._problems.add(path, "has no model_name; LiteLLM needs one for each model")
            return None
        given = item.get("litellm_params")
        if not isinstance(given, dict) or not isinstance(given.get("model"), str) or not given["model"]:
            self._problems.add(path, "has no litellm_params.model; LiteLLM needs one for each model")
            return None
        params = {}
        if isinstance(name := given.get("litellm_credential_name"), str) and name in self._credentials:
            place, values = self._credentials[name]
            self._named.add(name)
            self._ledger.use((*path, "litellm_params", "litellm_credential_name"))
            self._ledger.use((*place, "credential_name"))
            params = {key: (value, (*place, "credential_values", key)) for key, value in values.items()}
        own = {key: (value, (*path, "litellm_params", key)) for key, value in given.items()}
        return {**params, **{key: one for key, one in own.items() if one[0] is not None}}

    def _deployment(self, item: Mapping[str, Any], params: _Params, path: Path) -> Deployment:
        info = item.get("model_info") if isinstance(item.get("model_info"), dict) else {}
        assert isinstance(info, dict)
        prefix, model = self._model(params)
        if not is_chat(model, info.get("mode")):
            raise _Lost("no chat model; routes of embeddings are written by hand, others are for `passthrough`")
        row = PREFIXES[prefix]
        vendor, base_url, host = self._place(prefix, row, params)
        variable = self._variable(prefix, row, vendor, base_url, params)
        settings = self._settings(params)
        facts = self._facts(info, (*path, "model_info")) | self._bound(params) if "*" not in model else {}
        for key in ("model", "custom_llm_provider"):
            if key in params:
                self._ledger.use(params[key][1])
        self._ledger.use((*path, "model_name"))
        return Deployment(
            path=path,
            group=item["model_name"],
            model=model,
            prefix=prefix,
            vendor=vendor,
            base_url=base_url,
            is_private=base_url is not None and _is_private(base_url, host, row),
            variable=variable,
            settings=settings,
            facts=facts,
            order=_number(params.get("order")) or 0.0,
            shares={key: share for key in SHARES if (share := _number(params.get(key))) is not None and share >= 0.0},
            id=str(info["id"]) if info.get("id") is not None else None,
        )

    def _model(self, params: _Params) -> tuple[str, str]:
        text = params["model"][0]
        if text.startswith(REFERENCE_START):
            raise _Lost("its model comes from the environment, so its provider is unknown here")
        prefix, model = split_model(text, params.get("custom_llm_provider", (None, ()))[0])
        if prefix is None:
            why = "names no provider; add those it stands for under providers" if model == "*" else "does not say whose"
            raise _Lost(f"{text!r} {why}")
        if prefix not in PREFIXES:
            raise _Lost(UNSUPPORTED.get(prefix, f"crossfade has no row for LiteLLM's provider {prefix!r}"))
        if prefix in ("openai", "azure") and model.startswith("responses/"):
            model = model.removeprefix("responses/")
            self._ledger.say("changed", params["model"][1], "called by the chat API; LiteLLM calls the Responses API")
        if prefix == "azure":
            model = model.removeprefix("o_series/").removeprefix("gpt5_series/")
        if not model or not model.isprintable() or any(mark in ", " for mark in model) or model.startswith("/"):
            raise _Lost(f"{model!r} cannot stand in a chain")
        return prefix, model

    # --- where it is ---

    def _place(self, prefix: str, row: Prefix, params: _Params) -> tuple[str, str | None, str]:
        """Vendor, base URL (None: the vendor's own) and host ("" for one from the environment)."""
        value, path = params.get("api_base") or params.get("base_url") or (None, ())
        if value is None:
            return self._default_place(prefix, row, params)
        self._ledger.use(path)
        if (name := variable_of(value)) is not None:
            if row.vendor == "cohere":
                raise _Lost("LiteLLM calls the address in api_base as it is, crossfade the API's; write it by hand")
            return self._from_variable(prefix, row, name, path)
        if isinstance(value, str):
            value = value.partition("/openai/deployments/")[0]  # Azure's older way; the deployment is the model's name
        try:
            url = parse_base_url(value)
        except ValueError as error:
            raise _Lost(f"api_base: {error}") from None
        return self._literal_place(prefix, row, url, path)

    def _default_place(self, prefix: str, row: Prefix, params: _Params) -> tuple[str, str | None, str]:
        if row.base_url is not None:
            return row.vendor, row.base_url, urlsplit(row.base_url).hostname or ""
        own = self._vendors.get(row.vendor)
        if prefix == "hosted_vllm" or own is None or not own.base_url:
            if row.base_variable is None:
                raise _Lost("it has no api_base")
            return self._from_variable(prefix, row, row.base_variable, params["model"][1])
        return row.vendor, None, urlsplit(own.base_url).hostname or ""

    def _from_variable(self, prefix: str, row: Prefix, name: str, path: Path) -> tuple[str, str, str]:
        if row.path:
            self._ledger.say("to_do", path, f"the output adds {row.path} to {name}: set it without a slash at its end")
        vendor = "compatible" if prefix == "openai" else row.vendor
        return vendor, f"${{{name}}}{row.path}", ""

    def _literal_place(self, prefix: str, row: Prefix, url: str, path: Path) -> tuple[str, str | None, str]:
        host = urlsplit(url).hostname or ""
        if host == "0.0.0.0":
            self._ledger.say("changed", path, "0.0.0.0 is no address of one host; 127.0.0.1 is what it meant")
            host, url = "127.0.0.1", url.replace("0.0.0.0", "127.0.0.1", 1)
        for end in ("/chat/completions", "/v1/messages"):
            url = url.removesuffix(end)
        vendor = row.vendor
        if vendor == "cohere":
            url = _COHERES.sub("", url)  # which is the whole address of its chat
        if prefix == "openai" or vendor == "compatible":
            vendor = vendor_at(url, host, self._vendors) or "compatible"
        path_end = row.path if vendor == row.vendor else ""
        if vendor == "azure":
            url, path_end = url.partition("/openai")[0], PREFIXES["azure"].path
        url = url if url.endswith(path_end) else url + path_end
        own = self._vendors.get(vendor)
        here = url.replace("://localhost:", "://127.0.0.1:")
        if own is not None and own.base_url and (here == own.base_url or own.base_url.startswith(f"{here}/v")):
            return vendor, None, host
        return vendor, url, host

    # --- its key ---

    def _variable(self, prefix: str, row: Prefix, vendor: str, base_url: str | None, params: _Params) -> str | None:
        value, path = params.get("api_key") or (None, ())
        if value is None or value == "":
            return self._default_variable(prefix, row, vendor, base_url, params)
        self._ledger.use(path)
        if (name := variable_of(value)) is not None:
            return name
        key = str(value)
        if key.lower() in PLACEHOLDERS:
            self._ledger.say("changed", path, "looks like a placeholder for no key, so none is sent")
            return None
        if key.startswith(REFERENCE_START):
            raise _Lost("its api_key names no environment variable")
        name = self.variables.name_for(key, _wanted_variable(prefix, row, vendor, base_url))
        self._ledger.say("to_do", path, f"keys stay out of the output: put this one into the variable {name}")
        return name

    def _default_variable(
        self, prefix: str, row: Prefix, vendor: str, base_url: str | None, params: _Params
    ) -> str | None:
        has_own_hosts = vendor in ("azure", "databricks") or base_url == row.base_url
        if row.key is None or base_url is None or has_own_hosts or prefix == "litellm_proxy":
            return row.key
        what = f"no key is sent; LiteLLM would send {row.key}, which the file names for no such address"
        place = (params.get("api_base") or params.get("base_url") or params["model"])[1]
        self._ledger.say("changed", place, what)
        return None

    # --- its settings ---

    def _settings(self, params: _Params) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, key in {**TIMERS, **STREAM_TIMERS}.items():
            if name in params and key not in found and (text := timer(self._ledger, *params[name])) is not None:
                found[key] = text
        changed: dict[str, Any] = {}
        for name, (value, path) in params.items():
            if name in PARAMETERS:
                changed |= self._parameter({name: value}, path)
            elif name == "extra_body" and isinstance(value, dict):
                changed |= self._parameter(value, path)
        if changed:
            found["set"] = changed
        value, path = params.get("additional_drop_params") or (None, ())
        if isinstance(value, list) and all(isinstance(one, str) and one.isidentifier() for one in value):
            found["drop"] = tuple(dict.fromkeys(one for one in value if one not in DECIDED and one not in changed))
            self._ledger.use(path)
        return {name: value for name, value in found.items() if value}

    def _parameter(self, given: Mapping[str, Any], path: Path) -> dict[str, Any]:
        if any(name in DECIDED or "${" in msgspec.json.encode([name]).decode() for name in given):
            return {}
        try:
            text = msgspec.json.encode(given).decode()
            plain: dict[str, Any] = msgspec.json.decode(text)
        except (TypeError, ValueError):
            return {}
        if "${" in text or REFERENCE_START in text or plain != given:
            self._ledger.say("dropped", path, "its value comes from the environment, or JSON cannot express it")
            return {}
        if _SECRET.search(text):
            self._ledger.say("dropped", path, "looks as if it held a key, and keys stay out of the output")
            return {}
        self._ledger.say("changed", path, "a default in LiteLLM; here it replaces what the caller sends (`set`)")
        return plain

    def _facts(self, info: Mapping[str, Any], path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, key in FACTS.items():
            value = info.get(name)
            is_right = isinstance(value, bool) if key != "window" else type(value) is int and 1 <= value < 2**53
            if is_right:
                found[key] = value
                self._ledger.use((*path, name))
        return found

    def _bound(self, params: _Params) -> dict[str, Any]:
        """The most calls at once."""
        value, path = params.get("max_parallel_requests") or (None, ())
        if type(value) is not int or not 1 <= value <= MAX_CONCURRENCY:
            return {}
        self._ledger.say("changed", path, "`concurrency`: what is more goes on to the next target, or waits")
        return {"concurrency": value}


def _wanted_variable(prefix: str, row: Prefix, vendor: str, base_url: str | None) -> str:
    """What to call the variable of a key that stands in the input."""
    if prefix in GENERIC and vendor == "compatible" and base_url is not None:
        label = (host_label(base_url) or "server").upper()
        return re.sub(r"[^A-Z0-9]+", "_", label if label[0].isalpha() else f"LOCAL_{label}") + "_API_KEY"
    return row.key or re.sub(r"[^A-Z0-9]+", "_", prefix.upper()) + "_API_KEY"


def timer(ledger: Ledger, value: object, path: Path) -> str | None:
    """A time as the output says it; None, and a remark, for what is none."""
    if (name := variable_of(value)) is not None:
        ledger.use(path)
        return f"${{{name}}}"
    try:
        seconds = parse_limit(float(value) if isinstance(value, str) else value)
        text = f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
        parse_limit(text)  # a time below a millisecond is none
    except ValueError:  # its message shows the value
        ledger.say("dropped", path, "no time that crossfade takes: seconds, above zero")
        return None
    ledger.use(path)
    return text


def _credentials(value: object) -> dict[str, tuple[Path, Mapping[str, Any]]]:
    found: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    for i, one in enumerate(value if isinstance(value, list) else []):
        if isinstance(one, dict) and isinstance(one.get("credential_name"), str):
            values = one.get("credential_values")
            found[one["credential_name"]] = (("credential_list", i), values if isinstance(values, dict) else {})
    return found


def _number(one: tuple[Any, Path] | None) -> float | None:
    value = one[0] if one else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _is_private(base_url: str, host: str, row: Prefix) -> bool:
    """Whether the name of a server may lead to a private address, which crossfade wants to be told."""
    if not host:
        return row.is_local
    try:
        ipaddress.ip_address(host)
    except ValueError:
        is_name = host != "localhost"
    else:
        is_name = False  # a literal says itself where it leads
    return is_name and ("." not in host or host.endswith(_PRIVATE_ENDS) or base_url.startswith("http://"))
