"""Who made a tool call, seen from its id; and a request that answers calls goes to their maker first."""

from __future__ import annotations

import json

import pytest

from crossfade.core.target import Target
from crossfade.edge.affinity import maker_of, preference
from tests.recordings import load, names, needs_recordings

VENDORS = {"one": "openai", "two": "anthropic", "three": "gemini", "four": "compatible"}


@pytest.mark.parametrize(
    ("ids", "maker"),
    [
        (["toolu_01A09q90qw90lq917835lq9"], "anthropic"),
        (["call_a1b2c3d4e5f6a1b2c3d4e5f6"], "gemini"),
        (["call_V9pTGkPLlu0SSXPQKRHgZYnI"], "openai"),
        (["D681PevKs"], "mistral"),
        (["chatcmpl-tool-0a1b2c3d"], "vllm"),
        (["mine-17"], None),
        (["toolu_01A09q90qw90lq917835lq9", "call_V9pTGkPLlu0SSXPQKRHgZYnI"], None),
        ([], None),
    ],
)
def test_the_shape_of_an_id_tells_its_maker(ids: list[str], maker: str | None) -> None:
    assert maker_of(ids) == maker


@needs_recordings
@pytest.mark.parametrize("name", [n for n in names("openai", "chat-tool-call") if "stream" not in n])
def test_recorded_ids_of_openai_are_known(name: str) -> None:
    calls = json.loads(load(name)["response"]["body"])["choices"][0]["message"].get("tool_calls") or ()
    assert all(maker_of([call["id"]]) == "openai" for call in calls)


def test_only_targets_of_the_maker_are_preferred() -> None:
    prefers = preference(["toolu_01A09q90qw90lq917835lq9"], VENDORS)
    assert prefers is not None
    preferred = [p for p in VENDORS if prefers(Target(key=f"{p}/m#0", name=f"{p}/m", provider=p, model="m"))]
    assert preferred == ["two"]
    assert preference(["toolu_01A09q90qw90lq917835lq9"], {"one": "openai"}) is None
    assert preference(["mine-17"], VENDORS) is None
