"""A caller's JSON Schemas on their way into another dialect, and the words that stand in where an API takes none."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import OutputFormat, Tool

JSON_ONLY: Final = "Answer with one valid JSON object and nothing else: no other text and no code fence."
_BY_SCHEMA: Final = (
    "Answer with one JSON value that is valid against this JSON Schema, and nothing else: no other text and no code"
    " fence.\n\n"
)


def read_schema(text: bytes, param: str) -> dict[str, Any] | None:
    """The schema, decoded; None for a JSON null. Raises InvalidRequest, naming `param`, for what is no schema."""
    try:
        schema = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        schema = False
    if schema is not None and not isinstance(schema, dict):
        raise InvalidRequest("a JSON Schema must be a JSON object", param=param)
    return schema


def tool_schema(tool: Tool) -> dict[str, Any]:
    """What the arguments of a tool are like; always an object, as every API wants it."""
    schema = (read_schema(tool.parameters, "tools") if tool.parameters else None) or {}
    return schema if "type" in schema else {"type": "object", **schema}


def schema_instruction(output: OutputFormat) -> str:
    """What the model is told, where the format has a schema that the API does not take."""
    assert output.schema is not None
    text = _BY_SCHEMA + output.schema.decode()
    return f"{text}\n\n{output.description}" if output.description else text
