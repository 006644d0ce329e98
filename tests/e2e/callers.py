"""One caller for each endpoint of the gateway: the same things asked in its own words, the answers in one form.

The callers look at every rule of their own form on the way; nothing here knows what went wrong behind the gateway.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from crossfade.simulator.answers import healthy_text
from crossfade.simulator.embeddings import vector_of
from tests.e2e import harness, messages, responses
from tests.e2e.harness import PROMPT, TEXT, Stage

DIALECTS = ("openai", "responses:gpt-5.5", "anthropic", "gemini")
"""Of models that all differ: a cut stream would rather be gone on with by the same model than by the next one."""
THINKING = f"{PROMPT} [[think]]"
SEVERAL = "How is the weather everywhere? [[tools:3]]"
TEXTS = ["The otters sleep", "in the last of the sun"]


class Heard(msgspec.Struct, frozen=True):
    """An answer as its caller heard it. `items` are its parts in order: a text, reasoning, a call as name and read
    arguments, the value of a JSON answer, a vector. `model` is who it says it is of, `end` what it ended with, in the
    endpoint's own word; `extra` the `crossfade` member."""

    items: list[Any]
    model: str
    end: str
    headers: dict[str, str]
    extra: dict[str, Any]


class Caller(msgspec.Struct, frozen=True):
    """`ask` asks route `chat` for something (`plain`, `thinking` before it, `json`, `tools`, `parallel`: several calls
    at once), streamed or not. `ends` are what sound answers end with: one in words, one with calls. `dialects` are
    those of providers that can answer."""

    ask: Callable[[Stage, str, bool], Awaitable[Heard]]
    endpoint: str
    ends: tuple[str, str]
    dialects: tuple[str, ...] = DIALECTS
    is_streamed: bool = True

    def check(self, what: str, heard: Heard) -> None:
        """The healthy answer, whole and exactly once."""
        assert heard.items == (VECTORS if self.endpoint == "embeddings" else WHOLE[what])
        assert heard.end == self.ends[what in ("tools", "parallel")]


THOUGHT = ("reasoning", healthy_text(f"why {PROMPT}", 20))
CALL = ("weather", {"city": "text", "days": 1})
WHOLE: dict[str, list[Any]] = {
    "plain": [TEXT],
    "thinking": [THOUGHT, TEXT],
    "json": [{"name": "text", "age": 1}],
    "tools": [CALL],
    "parallel": [CALL] * 3,
}
VECTORS = [vector_of(text) for text in TEXTS]


def _read(what: str, text: str) -> Any:
    return json.loads(text) if what == "json" else text


async def ask_chat(stage: Stage, what: str, stream: bool) -> Heard:
    fields: dict[str, dict[str, Any]] = {
        "thinking": {"messages": [{"role": "user", "content": THINKING}]},
        "json": {"response_format": harness.JSON_SCHEMA},
        "tools": {"tools": [harness.WEATHER], "tool_choice": "required"},
        "parallel": {"tools": [harness.WEATHER], "messages": [{"role": "user", "content": SEVERAL}]},
    }
    answer = await stage.ask(stream=stream, **fields.get(what, {}))
    harness.check_usage(answer)
    calls = [(name, json.loads(arguments)) for name, arguments in answer.calls]
    texts: list[Any] = [("reasoning", answer.reasoning)] if answer.reasoning else []
    texts += [_read(what, answer.text)] if answer.text else []
    return Heard([*texts, *calls], answer.model, " ".join(answer.finishes), answer.headers, answer.extra)


async def ask_messages(stage: Stage, what: str, stream: bool) -> Heard:
    fields: dict[str, dict[str, Any]] = {
        "thinking": {
            "messages": [{"role": "user", "content": THINKING}],
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "max_tokens": 2048,
        },
        "json": {"output_config": messages.FORMAT},
        "tools": {"tools": [messages.WEATHER], "tool_choice": {"type": "any"}},
        "parallel": {"tools": [messages.WEATHER], "messages": [{"role": "user", "content": SEVERAL}]},
    }
    answer = await messages.ask(stage, stream=stream, **fields.get(what, {}))
    assert answer.error is None, answer.error
    assert answer.usage["input_tokens"] > 0 and answer.usage["output_tokens"] > 0
    assert len(answer.comments) == len(answer.extra.get("joined", [])), "each join is told where it happens"
    kinds: dict[str, Callable[[dict[str, Any]], Any]] = {
        "text": lambda block: _read(what, block["text"]),
        "thinking": lambda block: ("reasoning", block["thinking"]),
        "tool_use": lambda block: (block["name"], block["input"]),
    }
    items = [kinds[block["type"]](block) for block in answer.blocks]
    return Heard(items, answer.model, str(answer.stop_reason), answer.headers, answer.extra)


async def ask_responses(stage: Stage, what: str, stream: bool) -> Heard:
    fields: dict[str, dict[str, Any]] = {
        "thinking": {"input": THINKING, "reasoning": {"effort": "low"}},
        "json": {"text": responses.FORMAT},
        "tools": {"tools": [responses.TOOL], "tool_choice": "required"},
        "parallel": {"tools": [responses.TOOL], "input": SEVERAL},
    }
    answer = await responses.ask(stage, stream=stream, **fields.get(what, {}))
    responses.check_usage(answer)
    kinds: dict[str, Callable[[Any], Any]] = {
        "message": lambda item: _read(what, "".join(part.text for part in item.content)),
        "reasoning": lambda item: ("reasoning", "".join(part.text for part in item.summary)),
        "function_call": lambda item: (item.name, json.loads(item.arguments)),
    }
    items = [kinds[item.type](item) for item in answer.response.output]
    return Heard(items, answer.response.model, str(answer.response.status), answer.headers, answer.extra)


async def ask_embeddings(stage: Stage, what: str, stream: bool) -> Heard:
    assert what == "plain" and not stream
    raw = await stage.client.embeddings.with_raw_response.create(model="chat", input=TEXTS)
    answer = raw.parse()
    assert [one.index for one in answer.data] == list(range(len(answer.data)))
    assert answer.model and answer.usage.total_tokens >= 0
    return Heard([one.embedding for one in answer.data], answer.model, "", dict(raw.headers), {})


CALLERS = {
    "chat": Caller(ask_chat, "chat_completions", ("stop", "tool_calls")),
    "messages": Caller(ask_messages, "messages", ("end_turn", "tool_use")),
    "responses": Caller(ask_responses, "responses", ("completed", "completed")),
    "embeddings": Caller(ask_embeddings, "embeddings", ("", ""), ("openai:embed-1", "gemini:embed-1"), False),
}
