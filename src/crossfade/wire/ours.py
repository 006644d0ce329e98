"""The gateway's own fields of a chat request: the rest of the chain, `fallback_on`, the `crossfade` object.

They are read here whichever place they came in (body, headers, the spellings of other gateways), and never go
upstream. What a route allows of them is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeVar

import msgspec

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Finish
from crossfade.core.failure import fallback_reasons
from crossfade.core.patterns import work_of
from crossfade.core.policy import CommitPolicy, HedgePolicy, ValidationPolicy
from crossfade.core.words import parse_commit, parse_duration, parse_hedge, parse_hold

T = TypeVar("T")

CHAIN_FIELDS: Final = ("fallback_models", "models", "fallbacks")
"""Ours, OpenRouter's and LiteLLM's name for the rest of the chain."""
OUR_FIELDS: Final = (*CHAIN_FIELDS, "fallback_on", "crossfade")
NOT_PER_TARGET: Final = frozenset(
    {
        *OUR_FIELDS,
        *("model", "messages", "input", "stream", "stream_options", "n"),
        *("tools", "tool_choice", "response_format", "text"),
    }
)
"""What one target of a chain cannot be given differently: it decides about the whole request."""
MAX_CHAIN: Final = 32
MAX_TAGS: Final = 32
MAX_PATTERN_WORK: Final = 500
"""Of a caller's expression, as `work_of` counts it; an operator's is not bounded so."""
_SHOWN: Final = 100


class FallbackModel(msgspec.Struct, frozen=True):
    """A later place of the caller's chain: a model name, and parameters to set (JSON text) or drop for it."""

    name: str
    set_params: tuple[tuple[str, bytes], ...] = ()
    drop_params: tuple[str, ...] = ()


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The `crossfade` object, checked. None: not said. Durations are in seconds."""

    timeout: float | None = None
    attempt_timeout: float | None = None
    first_content_timeout: float | None = None
    idle_timeout: float | None = None
    max_attempts: int | None = None
    commit: CommitPolicy | None = None
    recover: Literal["continue", "error"] | None = None
    hold: tuple[bool, bool] | None = None
    """Whether tool calls and whether JSON are held."""
    validate: ValidationPolicy | None = None
    repeatable: bool | None = None
    tags: tuple[str, ...] | None = None
    trace: bool | None = None
    session: str | None = None
    hedge_after: HedgePolicy | None = None


class Ours(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller told the gateway. `fallback_models`: None where it said nothing, empty for "none"."""

    model: str
    route: str | None = None
    fallback_models: tuple[FallbackModel, ...] | None = None
    fallback_on: tuple[str, ...] | None = None
    options: Options | None = None


MAX_MODEL: Final = 1024
"""Characters of `model`."""
MAX_SESSION: Final = 512
"""Characters of `session`."""
MAX_FIELD: Final = 256 * 1024
"""Bytes of a field that is read whole: ours, stop sequences, `tool_choice`, the words of reasoning."""


def read_ours(model: str | None, fields: Mapping[str, msgspec.Raw], headers: Mapping[str, str]) -> Ours:
    """What a body whose top level is `fields` (JSON text), and headers with lower-case names, say to the gateway.
    Raises InvalidRequest naming the field."""
    model = model or ""
    if 0 < len(model) <= MAX_MODEL and fields.keys().isdisjoint(OUR_FIELDS):  # as most
        plain = Ours(model=model)
        return with_headers(plain, headers) if headers and has_our_headers(headers) else plain
    if len(model) > MAX_MODEL:
        raise InvalidRequest(f"`model` is longer than {MAX_MODEL} characters.", param="model")
    chain = None
    for field in CHAIN_FIELDS:
        if (value := _value(fields, field)) is None:
            continue
        if chain is not None:
            raise InvalidRequest(f"`{field}` says the same as another field of the request; give one.", param=field)
        chain = read_chain(field, value, model)
        if not model and field == "models" and chain:
            model, chain = chain[0].name, chain[1:]
    said, listed = _value(fields, "crossfade"), _value(fields, "fallback_on")
    if not model and ROUTE_HEADER not in headers:
        raise InvalidRequest("You must provide a `model`.", param="model", code="missing_required_parameter")
    ours = Ours(
        model=model,
        fallback_models=chain,
        fallback_on=None if listed is None else read_fallback_on(listed),
        options=None if said is None else read_options(said),
    )
    return with_headers(ours, headers) if headers and has_our_headers(headers) else ours


def _value(fields: Mapping[str, msgspec.Raw], field: str) -> Any:
    raw = fields.get(field)
    if raw is None:
        return None
    if len(bytes(raw)) > MAX_FIELD:
        raise InvalidRequest(f"`{field}` is longer than {MAX_FIELD // 1024} KiB.", param=field)
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):  # a number that is out of all bounds passes as text at first
        raise InvalidRequest(f"`{field}` cannot be read.", param=field) from None


# --- the chain -----------------------------------------------------------------------------------------------


def read_chain(field: str, value: Any, model: str) -> tuple[FallbackModel, ...]:
    """The rest of the chain from one of `CHAIN_FIELDS`; a name that repeats `model` at the head of `models` is it."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise InvalidRequest(f"{field!r} must be a list of model names or objects with `model`.", param=field)
    if len(value) > MAX_CHAIN:
        raise InvalidRequest(f"{field!r} has {len(value)} entries; at most {MAX_CHAIN} are allowed.", param=field)
    chain = [_fallback_model(entry, f"{field}[{number}]") for number, entry in enumerate(value)]
    if field == "models" and chain and chain[0].name == model:
        del chain[0]
    return tuple(chain)


def _fallback_model(entry: Any, place: str) -> FallbackModel:
    if isinstance(entry, str) and entry:
        return FallbackModel(entry)
    if not isinstance(entry, dict):
        raise InvalidRequest(f"`{place}` must be a model name or an object with `model`.", param=place)
    name = entry.get("model")
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"`{place}.model` must be a model name.", param=f"{place}.model")
    for key in entry:
        if key != "model" and key in NOT_PER_TARGET:
            raise InvalidRequest(f"`{place}.{key}` cannot be set for a single target.", param=f"{place}.{key}")
    params = {key: value for key, value in entry.items() if key != "model"}
    return FallbackModel(
        name,
        tuple((key, msgspec.json.encode(value)) for key, value in params.items() if value is not None),
        tuple(key for key, value in params.items() if value is None),
    )


def read_fallback_on(value: Any, param: str = "fallback_on") -> tuple[str, ...]:
    """The words of a `fallback_on` list, each known."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise InvalidRequest(f"`{param}` must be a list of words.", param=param)
    try:
        fallback_reasons(value)
    except ValueError as error:
        raise InvalidRequest(f"`{param}`: {error}.", param=param) from None
    return tuple(value)


# --- the `crossfade` object ----------------------------------------------------------------------------------


def read_options(value: Any) -> Options:
    """The `crossfade` object. Raises InvalidRequest naming the key for unknown keys and bad values."""
    if not isinstance(value, dict):
        raise InvalidRequest("`crossfade` must be an object.", param="crossfade")
    given: dict[str, Any] = {}
    for key, item in value.items():
        place = f"crossfade.{key}"
        if (read := _OPTIONS.get(key)) is None:
            place = place[:_SHOWN]
            raise InvalidRequest(f"Unknown key `{place}`; known are {', '.join(_OPTIONS)}.", param=place)
        if item is not None:
            given[key] = _checked(read, item, place)
    return Options(**given)


def _checked(read: Callable[[Any], T], value: Any, place: str) -> T:
    try:
        return read(value)
    except ValueError as error:
        raise InvalidRequest(f"`{place}`: {error}.", param=place) from None


def _timeout(value: Any) -> float:
    seconds = parse_duration(value)
    if seconds == 0:
        raise ValueError("0 leaves no time at all")
    return seconds


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _attempts(value: Any) -> int:
    return _whole(value, 1, 100)


def _whole(value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{value!r} is no whole number from {least} to {most}")
    return value


def _recover(value: Any) -> str:
    if value not in ("continue", "error"):
        raise ValueError(f"{value!r} is neither continue nor error")
    return str(value)


def _tags(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(tag, str) and 0 < len(tag) <= 100 for tag in value):
        raise ValueError("tags are a list of texts of at most 100 characters")
    if len(value) > MAX_TAGS:
        raise ValueError(f"at most {MAX_TAGS} tags are allowed")
    return tuple(value)


def _session(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_SESSION:
        raise ValueError(f"a session is a text of 1 to {MAX_SESSION} characters")
    return value


_CHECKS = ("min_chars", "finish", "match", "not_match")


def _validate(value: Any) -> ValidationPolicy:
    if not isinstance(value, dict):
        raise ValueError(f"write an object with some of {', '.join(_CHECKS)}")
    for key in value:
        if key not in _CHECKS:
            raise ValueError(f"unknown key {key!r}; known are {', '.join(_CHECKS)}")
    min_chars, finish = value.get("min_chars"), value.get("finish")
    words = tuple(Finish)
    if finish is not None and not (isinstance(finish, list) and all(word in words for word in finish)):
        raise ValueError(f"finish is a list of {', '.join(words)}")
    return ValidationPolicy(
        min_chars=None if min_chars is None else _whole(min_chars, 1, 1_000_000),
        finish=None if finish is None else tuple(finish),
        match=_pattern(value.get("match")),
        not_match=_pattern(value.get("not_match")),
    )


def _pattern(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and 0 < len(value) <= 1000):
        raise ValueError("a pattern is a text of 1 to 1000 characters")
    if value is not None and work_of(value) > MAX_PATTERN_WORK:
        raise ValueError("the pattern has too many places, its counted repetitions written out")
    return value


_OPTIONS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "timeout": _timeout,
    "attempt_timeout": _timeout,
    "first_content_timeout": _timeout,
    "idle_timeout": _timeout,
    "max_attempts": _attempts,
    "commit": parse_commit,
    "recover": _recover,
    "hold": parse_hold,
    "validate": _validate,
    "repeatable": _bool,
    "tags": _tags,
    "trace": _bool,
    "session": _session,
    "hedge_after": parse_hedge,
}

# --- headers -------------------------------------------------------------------------------------------------

ROUTE_HEADER: Final = "x-crossfade-route"
_MODELS_HEADER: Final = "x-crossfade-fallback-models"
_ON_HEADER: Final = "x-crossfade-fallback-on"
_TIMEOUT_HEADER: Final = "x-crossfade-timeout"
_TAGS_HEADER: Final = "x-crossfade-tags"
SESSION_HEADER: Final = "x-crossfade-session"
_HEADERS: Final = (ROUTE_HEADER, _MODELS_HEADER, _ON_HEADER, _TIMEOUT_HEADER, _TAGS_HEADER)


def has_our_headers(headers: Mapping[str, str]) -> bool:
    for name in _HEADERS:  # few, where the headers are many
        if name in headers:
            return True
    return False


def with_headers(ours: Ours, headers: Mapping[str, str]) -> Ours:
    """What the body said, filled up from the headers (names in lower case); the body wins."""
    models, on = headers.get(_MODELS_HEADER), headers.get(_ON_HEADER)
    if ours.fallback_models is None and models is not None:
        chain = tuple(FallbackModel(name) for name in _listed(models))
        ours = msgspec.structs.replace(ours, fallback_models=chain)
    if ours.fallback_on is None and on is not None:
        ours = msgspec.structs.replace(ours, fallback_on=read_fallback_on(_listed(on), _ON_HEADER))
    options = ours.options or Options()
    if options.timeout is None and (timeout := headers.get(_TIMEOUT_HEADER)) is not None:
        options = msgspec.structs.replace(options, timeout=_checked(_timeout, timeout, _TIMEOUT_HEADER))
    if options.tags is None and (tags := headers.get(_TAGS_HEADER)) is not None:
        options = msgspec.structs.replace(options, tags=_checked(_tags, _listed(tags), _TAGS_HEADER))
    if options != Options():
        ours = msgspec.structs.replace(ours, options=options)
    return msgspec.structs.replace(ours, route=headers.get(ROUTE_HEADER) or None)


def _listed(value: str) -> list[str]:
    return [item for item in (piece.strip() for piece in value.split(",")) if item]
