"""How hard a request is, for rules that ask: what of its body the score looks at. Nobody else does."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from crossfade.core.complexity import complexity
from crossfade.core.exchange import RequestFacts
from crossfade.wire.reading import BOM

_CONVERSATIONS: Final = ("messages", "input", "prompt")
"""Where the APIs have it: chat and messages, responses and embeddings, completions."""


def score_of(facts: RequestFacts, body: bytes) -> float:
    """The complexity of what is asked last."""
    text, turns, images = last_asked(body)
    output = facts.output
    return complexity(
        text,
        turns=turns,
        tools=len(facts.tools) + facts.has_other_tools,
        has_schema=output is not None and output.kind == "json_schema",
        images=images,
    )


def last_asked(body: bytes) -> tuple[str, int, int]:
    """The text of the user turns behind the last answer, the number of user turns, and of pictures beside that text.
    While the model calls tools for it, the ask stays what it was: their results are no words of the user's."""
    try:
        whole = msgspec.json.decode(body.removeprefix(BOM))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", 0, 0  # it was read before, so this is a number out of all bounds
    conversation = next((whole[name] for name in _CONVERSATIONS if name in whole), None)
    if isinstance(conversation, str):
        return conversation, 1, 0
    asked: list[str] = []
    turns = images = 0
    is_answered = False
    for turn in conversation if isinstance(conversation, list) else ():
        role, content = ("user", turn) if isinstance(turn, str) else _turn(turn)
        if role == "assistant":
            is_answered = True
        elif role == "user" and (found := _texts(content)) is not None:
            turns += 1
            if is_answered:
                is_answered, images = False, 0
                asked.clear()
            asked += found[0]
            images += found[1]
    return "\n".join(asked), turns, images


def _turn(turn: Any) -> tuple[Any, Any]:
    return (turn.get("role"), turn.get("content")) if isinstance(turn, dict) else (None, None)


def _texts(content: Any) -> tuple[list[str], int] | None:
    """The texts of a turn, and how many pictures are in it; None where it has neither, as with results of tools."""
    if isinstance(content, str):
        return [content], 0
    texts: list[str] = []
    images = 0
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        if isinstance(text := part.get("text"), str):
            texts.append(text)
        elif "image" in str(part.get("type", "")):
            images += 1
    return (texts, images) if texts or images else None
