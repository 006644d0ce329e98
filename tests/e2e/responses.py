"""A caller of the Responses API with the official SDK: what applications rely on, checked of every answer."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.e2e.harness import PROMPT, SCHEMA, WEATHER, Stage

TOOL: Any = {"type": "function", "strict": True, **WEATHER["function"]}
FORMAT: Any = {"format": {"type": "json_schema", "name": "person", "schema": SCHEMA, "strict": True}}
STREAM_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


class Answer(msgspec.Struct, kw_only=True):
    """An answer as an application sees it; of a stream `events` are all, and `response` is the last one's."""

    response: Response
    headers: dict[str, str]
    events: list[Any] = []

    @property
    def text(self) -> str:
        return self.response.output_text

    @property
    def reasoning(self) -> str:
        items = [item for item in self.response.output if item.type == "reasoning"]
        return "".join(part.text for item in items for part in item.summary)

    @property
    def calls(self) -> list[tuple[str, str]]:
        return [(item.name, item.arguments) for item in self.response.output if item.type == "function_call"]

    @property
    def extra(self) -> dict[str, Any]:
        member: dict[str, Any] = (self.response.model_extra or {}).get("crossfade") or {}
        return member


async def ask(stage: Stage, *, stream: bool = False, **fields: Any) -> Answer:
    """Asks route `chat`, and gives the answer whole, after a look at what holds of each."""
    fields = {"model": "chat", "input": PROMPT, **fields}
    raw = stage.client.responses.with_raw_response
    if not stream:
        got = await raw.create(**fields)
        response = got.parse()
        Response.model_validate(json.loads(got.content), extra="allow")
        return Answer(response=response, headers=dict(got.headers))
    got = await raw.create(stream=True, **fields)
    events = [event async for event in got.parse()]
    check(events)
    return Answer(response=events[-1].response, headers=dict(got.headers), events=events)


def check(events: list[Any]) -> None:
    """What holds of every stream that ended well."""
    for event in events:
        STREAM_EVENT.validate_python(event.to_dict())
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1].type in ("response.completed", "response.incomplete")
    heads = [event.response for event in events if event.type.startswith(("response.created", "response.in_progress"))]
    last = events[-1].response
    assert {(one.id, one.model, one.created_at) for one in (*heads, last)} == {(last.id, last.model, last.created_at)}
    done = [event.item for event in events if event.type == "response.output_item.done"]
    assert sorted(item.id for item in done) == sorted(item.id for item in last.output)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == last.output_text


def check_usage(answer: Answer) -> None:
    usage = answer.response.usage
    assert usage is not None and usage.input_tokens > 0 and usage.output_tokens > 0
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
