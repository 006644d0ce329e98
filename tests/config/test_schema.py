"""The JSON Schema, the docs' table of keys and the reader agree, since one description makes all three."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import yaml

from crossfade.config.build import limits_of
from crossfade.config.schema import FileShape, LimitsFile
from crossfade.config.settings import ServerLimits
from crossfade.config.shape import json_schema, key_rows
from crossfade.core.policy import (
    ATTEMPT_TIMEOUT,
    CONNECT_TIMEOUT,
    FIRST_CONTENT_TIMEOUT,
    IDLE_TIMEOUT,
    MAX_STREAM,
    OVERALL_TIMEOUT,
    SILENCE_TIMEOUT,
    RetryPolicy,
)
from crossfade.core.words import parse_duration
from crossfade.http1.limits import Limits
from tests.config.samples import EXAMPLE, Folder
from tests.config.test_errors import FULL

DOCS = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
SCHEMA = json_schema(FileShape, "crossfade.yaml")
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)


def is_valid(text: str) -> bool:
    return VALIDATOR.is_valid(yaml.safe_load(text))


def test_the_schema_is_one() -> None:
    jsonschema_rs.meta.validate(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def docs_example() -> str:
    match = re.search(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert match is not None
    return match.group(1)


@pytest.mark.parametrize("text", [EXAMPLE, FULL, docs_example()], ids=["example", "full", "docs"])
def test_good_files_are_good_by_the_schema_too(folder: Folder, text: str) -> None:
    folder.load(text)
    assert is_valid(text)


@pytest.mark.parametrize(
    "text",
    [
        "limits: {body_bytes: '${SIZE}', max_connections: '${MANY:-5}', body_timeout: 500ms}",
        "routes: {r: {commit: {seconds: 2s}, stream_upstream: true, retry: {budget: 20%}}}",
        "providers: {openai: , local: {api_keys: [file:x, env:Y]}}",
        "routes: {r: {chain: [a/b, {target: a/c, set: {x: [1]}, drop: [y], idle_timeout: 3}]}}",
        "fallbacks: {'*': [a/b], x: []}",
        "providers: {x: {models: {m: {price_in: 2.5, price_out: 0}, n: {price_in: '${PRICE}'}}}}",
    ],
)
def test_what_the_reader_takes_the_schema_takes(text: str) -> None:
    assert is_valid(text)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "servers: {}",
        "server: {listen: 4000}",
        "server: {auth: maybe}",
        "providers: {x: {dialect: opnai}}",
        "providers: {x: {base_url: example.com}}",
        "providers: {x: {base_url: 'https://u:p@example.com'}}",
        "providers: {x: {api_keys: [sk-123]}}",
        "providers: {x: {api_keys: env:X}}",
        "providers: {x: {api_keys: [{account: a}]}}",
        "providers: {x: {idle_timeout: soon}}",
        "providers: {x: {idle_timeout: 0}}",
        "providers: {x: {models: {m: {price_in: 0.0000025}}}}",
        "providers: {x: {models: {m: {price_out: dear}}}}",
        "routes: {r: {chain: a/b}}",
        "routes: {r: {chain: [{pool: x}]}}",
        "routes: {r: {commit: later}}",
        "routes: {r: {fallback_on: [sometimes]}}",
        "routes: {r: {hold: [text]}}",
        "routes: {r: {retry: {budget: 3}}}",
        "gateway_keys: [{name: a, hash: abc}]",
        "limits: {header_count: 0}",
        "log: {level: loud}",
    ],
)
def test_mistakes_are_mistakes_by_the_schema_too(text: str) -> None:
    assert not is_valid(text)


def schema_keys(schema: dict[str, Any], prefix: str = "", above: frozenset[str] = frozenset()) -> set[str]:
    """The dotted keys of a JSON Schema, `NAME` for names of the operator's and `[]` for items. What stands in itself
    is told once; `above` are the definitions that this one stands in."""
    found: set[str] = set()
    for option in schema.get("anyOf", ()):
        found |= schema_keys(option, prefix, above)
    if "$ref" in schema and (name := schema["$ref"].rpartition("/")[2]) not in above:
        found |= schema_keys(SCHEMA["$defs"][name], prefix, above | {name})
    for name, inner in schema.get("properties", {}).items():
        place = f"{prefix}.{name}" if prefix else name
        found |= {place, *schema_keys(inner, place, above)}
    if "items" in schema:
        found |= schema_keys(schema["items"], f"{prefix}[]", above)
    if isinstance(schema.get("additionalProperties"), dict):
        found |= schema_keys(schema["additionalProperties"], f"{prefix}.NAME", above)
    return found


def documented() -> list[tuple[str, str, str]]:
    rows = re.findall(r"^\| `([^`|]+)` \| ([^|]*) \| ([^|]*) \|$", DOCS.read_text(), re.MULTILINE)
    return [(key, default.strip(), meaning) for key, default, meaning in rows]


def test_every_key_of_the_schema_is_documented_and_the_reverse() -> None:
    assert {key for key, _, _ in documented()} == schema_keys(SCHEMA)


def test_the_docs_say_what_the_schema_says() -> None:
    assert documented() == list(key_rows(FileShape))


def test_the_limits_are_those_of_the_server() -> None:
    assert msgspec.structs.asdict(ServerLimits()) == msgspec.structs.asdict(Limits())
    assert LimitsFile.__struct_fields__ == ServerLimits.__struct_fields__
    assert limits_of(LimitsFile(body_rate=5, head_timeout=2.0)) == ServerLimits(body_rate=5.0, head_timeout=2.0)


def test_the_defaults_in_the_docs_are_those_of_the_program(folder: Folder) -> None:
    said = {key: default for key, default, _ in documented()}
    timers = {
        "connect": CONNECT_TIMEOUT,
        "first_content": FIRST_CONTENT_TIMEOUT,
        "silence": SILENCE_TIMEOUT,
        "idle": IDLE_TIMEOUT,
        "attempt": ATTEMPT_TIMEOUT,
    }
    for name, seconds in timers.items():
        assert parse_duration(said[f"routes.NAME.{name}_timeout"]) == seconds
    assert parse_duration(said["routes.NAME.timeout"]) == OVERALL_TIMEOUT
    assert parse_duration(said["routes.NAME.max_stream"]) == MAX_STREAM
    assert parse_duration(said["routes.NAME.retry.delay"]) == RetryPolicy().delay
    assert parse_duration(said["routes.NAME.retry.max_wait"]) == RetryPolicy().max_wait
    limits = "".join(f"  {name}: {said[f'limits.{name}']}\n" for name in LimitsFile.__struct_fields__)
    assert folder.load(f"providers: {{openai: {{}}}}\nlimits:\n{limits}").limits == ServerLimits()
