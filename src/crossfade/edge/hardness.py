"""How hard a request is, for rules that ask: what of its body the score looks at. Nobody else does."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from crossfade.core.complexity import complexity
from crossfade.core.exchange import RequestFacts

_CONVERSATIONS: Final = ("messages", "input", "prompt")
"""Where the APIs have it: chat and messages, responses and embeddings, completions."""
_SPEAKS_FIRST: Final = frozenset({"user", ""})


def score_of(facts: RequestFacts, body: bytes) -> float:
    """The complexity of what is asked last: the text behind the last answer in the conversation."""
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
    """The text of all user turns behind the last answer, the number of user turns, and of pictures in that text."""
    try:
        whole = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", 0, 0  # it was read before, so this is a number out of all bounds
    conversation = next((whole[name] for name in _CONVERSATIONS if name in whole), None)
    if isinstance(conversation, str):
        return conversation, 1, 0
    texts: list[str] = []
    turns = images = 0
    for turn in conversation if isinstance(conversation, list) else ():
        if isinstance(turn, str):
            texts.append(turn)
            turns += 1
        elif isinstance(turn, dict):
            role = turn.get("role", "")
            if role == "assistant":
                texts.clear()
                images = 0
            elif role in _SPEAKS_FIRST:
                turns += 1
                images += _add_texts(turn.get("content"), texts)
    return "\n".join(texts), turns, images


def _add_texts(content: Any, texts: list[str]) -> int:
    """Adds the texts of one turn; how many pictures are in it."""
    if isinstance(content, str):
        texts.append(content)
        return 0
    images = 0
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        if isinstance(text := part.get("text"), str):
            texts.append(text)
        elif "image" in str(part.get("type", "")):
            images += 1
    return images
