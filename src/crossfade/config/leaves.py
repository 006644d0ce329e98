"""How single values of the file are read: addresses, sizes, durations, expressions.

Every parser raises ValueError with a sentence that says what is wrong and what to write.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from typing import Any, get_args
from urllib.parse import urlsplit

import msgspec
import re2

from crossfade.config.addresses import AZURE_DATED
from crossfade.config.lines import FromEnvironment
from crossfade.config.problems import did_you_mean
from crossfade.config.secrets import ApiKey, SecretRef, parse_api_key, parse_hash, parse_secret
from crossfade.config.shape import Leaf
from crossfade.core.failure import FALLBACK_WORDS, FailureReason, fallback_reasons
from crossfade.core.policy import ConcurrencyPolicy, MaxCost
from crossfade.core.residency import DAY
from crossfade.core.when import OutputKind
from crossfade.core.words import HOLD_WORDS, parse_commit, parse_duration, parse_hedge, parse_hold

MAX_EXPRESSION = 1000
MIN_PRICE, MAX_PRICE = 0.001, 100_000.0
"""USD per million tokens: nothing sold is cheaper, and no token is as dear as the least of it."""
MAX_WEIGHT = 1_000_000
MAX_CONCURRENCY = 100_000
_API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(?:-preview)?|preview|latest|v1", re.ASCII)
_SIZE = re.compile(r"\s*(\d+)\s*(B|KiB|MiB|GiB|kB|KB|MB|GB)?\s*", re.ASCII)
_SIZE_UNITS = {None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 1000, "KB": 1000}
_RETENTION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(h|d)", re.ASCII)
_TIMES = re.compile(r"\s*(\d{1,6}(?:\.\d{1,3})?)\s*x\s*", re.ASCII)
_HOURS = re.compile(r"\s*((?:[01]?\d|2[0-4])(?::[0-5]\d)?)\s*-\s*((?:[01]?\d|2[0-4])(?::[0-5]\d)?)\s*", re.ASCII)
_SIZE_UNITS |= {"MB": 10**6, "GB": 10**9}
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


class Address(msgspec.Struct, frozen=True):
    """A place to listen at. Port 0 lets the system choose."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(value: object) -> Address:
    """`HOST:PORT`, an IPv6 host in brackets."""
    wrong = f"{value!r} is no address to listen at; write HOST:PORT, as in 127.0.0.1:4000, 0.0.0.0:4000 or [::1]:4000"
    if not isinstance(value, str):
        raise ValueError(wrong)
    host, colon, port = value.strip().rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and len(port) <= 5) or int(port) > 65535:
        raise ValueError(f"{wrong} (the port is a number up to 65535)" if colon and host else wrong)
    if host.startswith("[") and host.endswith("]"):
        try:
            return Address(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        except ValueError:
            raise ValueError(wrong) from None
    if re.fullmatch(r"[\d.]+", host):
        try:
            return Address(str(ipaddress.IPv4Address(host)), int(port))
        except ValueError:
            raise ValueError(wrong) from None
    if not _is_host(host):
        raise ValueError(wrong)
    return Address(host.lower(), int(port))


def _is_host(text: str) -> bool:
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.removesuffix(".").split("."))


def parse_base_url(value: object) -> str:
    """An http or https URL without credentials, query or fragment; a slash at its end is taken off. The URL is in
    no message: it may hold a password."""
    if not isinstance(value, str):
        raise ValueError("base_url is text, as in https://api.example.com/v1")
    text = str(value).strip()
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError("base_url has a space, a backslash or another character that URLs do not have; remove it")
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ValueError("base_url has no valid host and port; write it as https://api.example.com/v1") from None
    if parts.scheme not in ("http", "https") or not text.lower().startswith(f"{parts.scheme}://"):
        raise ValueError("base_url needs its scheme; begin it with https:// (or http:// for a local server)")
    if "@" in parts.netloc:
        raise ValueError("base_url has credentials in it; remove them and name the key under api_keys")
    if "/openai/deployments/" in f"{parts.path}/":
        raise ValueError(
            f"base_url names a deployment; write {AZURE_DATED} here, the version beside it, as api_version: 2024-10-21,"
            " and the deployment as the model of a target, as in azure/DEPLOYMENT"
        )
    if parts.query.startswith("api-version="):
        raise ValueError(
            "base_url has the version of the API in it; remove what begins at '?', and write the version beside it, as"
            " api_version: 2024-10-21"
        )
    if "?" in text or "#" in text:
        raise ValueError("base_url has a query or fragment; remove what begins at '?' or '#'")
    if not host or port == 0 or not (":" in host or _is_host(host)):
        raise ValueError("base_url has no valid host; write it as https://api.example.com/v1")
    return text.rstrip("/")


def parse_api_version(value: object) -> str:
    """A version of Azure's API."""
    if isinstance(value, str) and _API_VERSION.fullmatch(value):
        return str(value)
    raise ValueError("is no version of Azure's API; write its date, as in 2024-10-21 or 2025-01-01-preview")


def parse_size(value: object) -> int:
    """Bytes: a whole number, or text such as `64KiB`, `32MiB`, `10MB`."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        size = int(match.group(1)) * _SIZE_UNITS[match.group(2)]
    else:
        raise ValueError(f"{value!r} is no size; write a number of bytes, or 64KiB, 32MiB")
    if not 1 <= size < 2**40:
        raise ValueError(f"{value!r} is out of range; write a size from 1 byte to 1 TiB")
    return size


def parse_share(value: object) -> float:
    """A share from 0 to 1, or a percentage as text."""
    number: float | None = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
    elif isinstance(value, str) and re.fullmatch(r"\d{1,3}(\.\d+)?\s*%", value.strip()):
        number = float(value.strip().rstrip("% ")) / 100
    if number is None or not 0 <= number <= 1:
        raise ValueError(f"{value!r} is no share; write a number from 0 to 1, or 20%")
    return number


def parse_price(value: object) -> float:
    """USD per million tokens, as vendors publish it. What looks like the price of one token is refused: a cost a
    million times too low would go unnoticed."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_PRICE:
        raise ValueError(f"{value!r} is no price; write USD per million tokens, as in 2.50 (0 where it is free)")
    if 0 < value < MIN_PRICE:
        million = f"{value * 1_000_000:g}"
        raise ValueError(f"{value!r} looks like the price of one token; write it per million tokens, as {million}")
    return float(value)


def parse_weight(value: object) -> float:
    """A number from 0 up, within reason."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_WEIGHT:
        raise ValueError(f"{value!r} is no weight; write a number from 0 to {MAX_WEIGHT}")
    return float(value)


def parse_usd(value: object) -> float:
    """An amount of money from 0 up."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_WEIGHT:
        raise ValueError(f"{value!r} is no amount; write USD, as in 0.50")
    return float(value)


def parse_number(value: object) -> float:
    """A number from 0 up."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**53:
        raise ValueError(f"{value!r} is no number from 0 up")
    return float(value)


def parse_retention(value: object) -> float:
    """Seconds: `none`, or days and hours as text."""
    if value == "none":
        return 0.0
    match = _RETENTION.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match.group(1)) == 0.0:
        raise ValueError(f"{value!r} is no retention; write none, or how long, as in 24h or 30d")
    return float(match.group(1)) * (DAY if match.group(2) == "d" else 3600.0)


def parse_max_cost(value: object) -> MaxCost:
    """`3x` or USD."""
    if isinstance(value, str) and (match := _TIMES.fullmatch(value)) and 1.0 <= (times := float(match.group(1))) < 1e6:
        return MaxCost(times=times)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MAX_WEIGHT:
        raise ValueError(f"{value!r} is no bound of cost; write 3x (times the primary's, from 1x), or USD, as in 0.05")
    return MaxCost(usd=float(value))


def parse_concurrency(value: object) -> ConcurrencyPolicy:
    """A number of calls, `auto`, `{least: N, most: N}`, or `none` (a bound of 0, which is none)."""
    if value == "none":
        return ConcurrencyPolicy(0, 0)
    given = {"least": value, "most": value} if isinstance(value, int) else {} if value == "auto" else value
    example = "write how many calls at once, as in 8, or auto, {least: 2, most: 64}, or none"
    if not isinstance(given, dict) or not given.keys() <= {"least", "most"} or (not given and value != "auto"):
        raise ValueError(f"{value!r} is no bound of concurrency; {example}")
    for one in given.values():
        if isinstance(one, bool) or not isinstance(one, int) or not 1 <= one <= MAX_CONCURRENCY:
            raise ValueError(f"{one!r} is no number of calls from 1 to {MAX_CONCURRENCY}; {example}")
    policy = ConcurrencyPolicy(**given)
    if policy.least > policy.most:
        raise ValueError(f"least ({policy.least}) is more than most ({policy.most}); {example}")
    return policy


def parse_hours(value: object) -> tuple[int, int]:
    """The first minute of the day, and the one behind the last."""
    match = _HOURS.fullmatch(value) if isinstance(value, str) else None
    times = [] if match is None else [match.group(1), match.group(2)]
    minutes = [int(hour) * 60 + int(minute or 0) for hour, _, minute in (time.partition(":") for time in times)]
    if len(minutes) != 2 or max(minutes) > 24 * 60 or minutes[0] % (24 * 60) == minutes[1] % (24 * 60):
        raise ValueError(f"{value!r} is no part of the day; write it as 22:00-06:00, in quotes")
    return minutes[0] % (24 * 60), minutes[1]


def parse_words(value: object) -> tuple[str, ...]:
    """One text, or a list of them."""
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word.strip() for word in words):
        raise ValueError(f"{value!r} is neither a text nor a list of texts")
    return tuple(str(word) for word in words)


def parse_output_kinds(value: object) -> tuple[str, ...]:
    """Forms of an answer."""
    kinds = parse_words(value)
    known: tuple[str, ...] = get_args(OutputKind)
    for kind in kinds:
        if kind not in known:
            raise ValueError(f"{kind!r} is not one of {', '.join(known)}{did_you_mean(kind, known)}")
    return kinds


def parse_limit(value: object) -> float:
    """A duration above zero."""
    seconds = parse_duration(value)
    if seconds == 0:
        raise ValueError("is 0, which would fail every attempt; give a time, or remove the line for the default")
    return seconds


def parse_expression(value: object) -> str:
    """A regular expression that RE2 takes."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is no regular expression; write text, in quotes")
    if len(value) > MAX_EXPRESSION:
        raise ValueError(f"has {len(value)} characters; a regular expression may have {MAX_EXPRESSION}")
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(str(value), options)
    except re2.error as error:
        message = f"{value!r} is no regular expression of RE2 (no look-around, no back-references)"
        if isinstance(value, FromEnvironment):  # the detail quotes it
            raise ValueError(message) from None
        detail = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"{message}: {detail}") from None
    return str(value)


def parse_fallback_on(value: object) -> frozenset[FailureReason]:
    """A list of words."""
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError(f"{value!r} is no list of words; write [default], or [] for never")
    return fallback_reasons(str(word) for word in value)


def _parse_parameters(value: object) -> tuple[tuple[str, bytes], ...]:
    if not isinstance(value, dict):
        raise ValueError("takes parameters and their values, as in {temperature: 0}")
    try:
        return tuple((str(name), msgspec.json.encode(_plain(inner))) for name, inner in value.items())
    except (TypeError, ValueError):
        raise ValueError("has a value that JSON cannot express") from None


def _plain(value: object) -> object:
    """Without the text subclass that values from the environment are."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    return str(value) if isinstance(value, str) else value


def _leaf(parse: Callable[[object], Any], schema: dict[str, Any], blank: Any = None) -> Leaf:
    return Leaf(parse, schema, blank)


_DURATION_TEXT = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|m|h)?\s*$"}
_WORDS = sorted({*FALLBACK_WORDS, *(r.value for r in FailureReason)})

ADDRESS = _leaf(parse_address, {"type": "string", "pattern": r":\d{1,5}$|\$\{"})
BASE_URL = _leaf(parse_base_url, {"type": "string", "pattern": r"^https?://[^@?#\s]+$|\$\{"})
API_VERSION = _leaf(
    parse_api_version,
    {"type": "string", "pattern": r"^(\d{4}-\d{2}-\d{2}(-preview)?|preview|latest|v1)$|\$\{"},
)
DURATION = _leaf(parse_duration, {"anyOf": [{"type": "number", "minimum": 0}, _DURATION_TEXT]})
LIMIT = _leaf(parse_limit, {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, _DURATION_TEXT]})
SIZE = _leaf(
    parse_size,
    {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^\d+\s*([KMG]iB|[kKMG]?B)?$"}]},
)
SHARE = _leaf(
    parse_share,
    {
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": 1},
            {"type": "string", "pattern": r"^\d{1,3}(\.\d+)?\s*%$"},
        ]
    },
)
PRICE = _leaf(
    parse_price,
    {"anyOf": [{"const": 0}, {"type": "number", "minimum": MIN_PRICE, "maximum": MAX_PRICE}]},
)
USD = _leaf(parse_usd, {"type": "number", "minimum": 0, "maximum": MAX_WEIGHT})
WEIGHT = _leaf(parse_weight, {"type": "number", "minimum": 0, "maximum": MAX_WEIGHT})
NUMBER = _leaf(parse_number, {"type": "number", "minimum": 0})
RETENTION = _leaf(parse_retention, {"type": "string", "pattern": r"^(none|\d+(\.\d+)?[hd])$|\$\{"})
MAX_COST = _leaf(
    parse_max_cost,
    {
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_WEIGHT},
            {"type": "string", "pattern": r"^\d+(\.\d+)?x$|\$\{"},
        ]
    },
)
_CALLS = {"type": "integer", "minimum": 1, "maximum": MAX_CONCURRENCY}
CONCURRENCY = _leaf(
    parse_concurrency,
    {
        "oneOf": [
            _CALLS,
            {"type": "string", "pattern": r"^(auto|none)$|\$\{"},
            {
                "type": "object",
                "properties": {"least": _CALLS, "most": _CALLS},
                "minProperties": 1,
                "additionalProperties": False,
            },
        ]
    },
)
_CLOCK = r"([01]?\d|2[0-4])(:[0-5]\d)?"
HOURS = _leaf(parse_hours, {"type": "string", "pattern": rf"^{_CLOCK}-{_CLOCK}$|\$\{{"})
_TEXT = {"type": "string", "minLength": 1}
WORDS = _leaf(parse_words, {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]})
_KINDS = {"enum": list(get_args(OutputKind))}
OUTPUT_KINDS = _leaf(parse_output_kinds, {"anyOf": [_KINDS, {"type": "array", "items": _KINDS, "minItems": 1}]})
EXPRESSION = _leaf(parse_expression, {"type": "string", "minLength": 1, "maxLength": MAX_EXPRESSION})
FALLBACK_ON = _leaf(
    parse_fallback_on,
    {"type": "array", "items": {"enum": [*_WORDS, *(f"-{word}" for word in _WORDS)]}},
)
COMMIT = _leaf(
    parse_commit,
    {
        "oneOf": [
            {"enum": ["first_content", "complete"]},
            {
                "type": "object",
                "properties": {"chars": {"type": "integer", "minimum": 1}},
                "required": ["chars"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {"seconds": DURATION.schema},
                "required": ["seconds"],
                "additionalProperties": False,
            },
        ]
    },
)
HEDGE = _leaf(
    parse_hedge,
    {"anyOf": [DURATION.schema, {"type": "string", "pattern": r"^(never|p[1-9]\d?(\.\d{1,2})?)$"}]},
)
HOLD = _leaf(parse_hold, {"type": "array", "items": {"enum": list(HOLD_WORDS)}})
PARAMETERS = _leaf(_parse_parameters, {"type": "object"})
SECRET = _leaf(parse_secret, {"type": "string", "pattern": r"^(env:[A-Za-z_]\w*|file:.+)$|\$\{"}, SecretRef("env", ""))
API_KEY = _leaf(
    parse_api_key,
    {
        "anyOf": [
            SECRET.schema,
            {
                "type": "object",
                "propertyNames": {"enum": ["key", "account"]},
                "required": ["key"],
                "additionalProperties": {"type": "string", "minLength": 1},
            },
        ]
    },
    ApiKey(SecretRef("env", "")),
)
HASH = _leaf(parse_hash, {"type": "string", "pattern": r"^sha256:[0-9a-f]{64}$|\$\{"})
