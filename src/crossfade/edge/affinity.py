"""Which provider made the tool calls that a request answers, seen from their ids alone: no state is kept.

A model that called a tool is the best reader of its result, and some providers want their own ids and signatures
back. The shapes of ids are the vendors' (read off recorded answers); an id of no known shape says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from crossfade.core.target import Target

_MAKERS: Final = (
    (re.compile(r"toolu_[0-9A-Za-z]{10,}"), "anthropic"),
    (re.compile(r"toolu_vrtx_[0-9A-Za-z]{10,}"), "vertex-claude"),
    (re.compile(r"toolu_bdrk_[0-9A-Za-z]{10,}"), "bedrock-claude"),
    (re.compile(r"tooluse_[0-9A-Za-z_-]{10,}"), "bedrock"),
    # Gemini gives most calls no id, and so does Ollama; those that are made up for them are 24 and 20 hex digits, which
    # no other vendor's are.
    (re.compile(r"call_[0-9a-f]{24}"), "gemini"),
    (re.compile(r"call_[0-9a-f]{20}"), "ollama-native"),
    (re.compile(r"call_[0-9A-Za-z]{24}"), "openai"),
    (re.compile(r"[0-9A-Za-z]{9}"), "mistral"),
    (re.compile(r"chatcmpl-tool-[0-9a-f]+"), "vllm"),
)


def maker_of(ids: Sequence[str]) -> str | None:
    """The vendor whose model made the calls with `ids`; None if that cannot be seen, or they are of several."""
    makers = {next((vendor for shape, vendor in _MAKERS if shape.fullmatch(one)), None) for one in ids}
    return makers.pop() if len(makers) == 1 else None


def preference(ids: Sequence[str], vendors: Mapping[str, str]) -> Callable[[Target], bool] | None:
    """Says of targets whether they are preferred for a request that answers the calls with `ids`. `vendors` is the
    vendor of each configured provider; of several providers of the maker's vendor all are preferred alike."""
    maker = maker_of(ids) if ids else None
    if maker is None or maker not in vendors.values():
        return None
    return lambda target: vendors.get(target.provider) == maker
