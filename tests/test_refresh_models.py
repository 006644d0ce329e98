"""`scripts/refresh-models`: the catalogue is what its selection amounts to, to the byte; a wrong entry is named."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from crossfade.config.catalogue import _Row

ROOT = Path(__file__).resolve().parents[1]
CATALOGUE = ROOT / "src" / "crossfade" / "config" / "models.json"
ENTRY: dict[str, Any] = {
    "provider": "openai",
    "id": "gpt",
    "mode": "chat",
    "max_input_tokens": 1000,
    "max_output_tokens": 100,
    "input_cost_per_token": 2.5e-06,
    "output_cost_per_token": 1.5e-05,
    "cache_read_input_token_cost": None,
    "supports_vision": True,
    "supports_tools": True,
    "supports_parallel_tools": False,
    "supports_response_schema": True,
    "supports_reasoning": False,
    "supports_prompt_caching": False,
    "supports_pdf": False,
}
SOURCE = {"package": "some table 1.0", "licence": "MIT", "copyright": "Copyright somebody", "note": "naïve"}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("refresh_models", ROOT / "scripts" / "refresh_models.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where the types of its records are looked up
    spec.loader.exec_module(module)
    return module


def selection(*entries: Any, source: Any = SOURCE, **more: Any) -> bytes:
    return json.dumps({"source": source, "models": list(entries), **more}).encode()


def model(script: ModuleType, **changes: Any) -> Any:
    """The row of one entry."""
    return json.loads(script.rebuilt(selection({**ENTRY, **changes})))["models"]["openai"]["gpt"]


def selection_of(catalogue: dict[str, Any]) -> list[dict[str, Any]]:
    """A selection that the catalogue could have come from."""
    return [
        {
            **ENTRY,
            "provider": provider,
            "id": name,
            "mode": row.get("mode", "chat"),
            "max_input_tokens": row.get("window"),
            "max_output_tokens": row.get("output"),
            "input_cost_per_token": row.get("price_in"),
            "output_cost_per_token": row.get("price_out"),
            "supports_vision": "vision" not in row.get("without", ()),
            "supports_tools": "tools" not in row.get("without", ()),
            "supports_response_schema": "json_schema" not in row.get("without", ()),
            "supports_reasoning": row.get("thinks", False),
            **({"responses_only": True} if row.get("responses_only") else {}),
            **({"deprecation_date": row["retires"]} if "retires" in row else {}),
        }
        for provider, models in catalogue["models"].items()
        for name, row in models.items()
    ]


def test_the_catalogue_is_what_the_script_writes_in_whatever_order_the_models_come(script: ModuleType) -> None:
    catalogue = json.loads(CATALOGUE.read_bytes())
    source = {name: text for name, text in catalogue["source"].items() if name != "changes"}
    entries = selection_of(catalogue)
    assert script.rebuilt(selection(*entries, source=source)) == CATALOGUE.read_bytes()
    random.Random(7).shuffle(entries)
    assert script.rebuilt(selection(*entries, source=source)) == CATALOGUE.read_bytes()


def test_source_and_licence_stay_inside_and_the_changes_are_told(script: ModuleType) -> None:
    written = script.rebuilt(selection(ENTRY))
    assert json.loads(written)["source"] == {**SOURCE, "changes": script.CHANGES}
    assert "naïve".encode() in written


def test_a_row_has_what_is_known_and_what_is_missing(script: ModuleType) -> None:
    assert model(script) == {"window": 1000, "output": 100, "price_in": 2.5e-06, "price_out": 1.5e-05}
    missing = {"supports_vision": False, "supports_tools": False, "supports_response_schema": False}
    assert model(script, **missing)["without"] == ["vision", "tools", "json_schema"]
    assert model(
        script,
        mode="embedding",
        max_input_tokens=None,
        max_output_tokens=None,
        input_cost_per_token=0,
        output_cost_per_token=None,
        supports_reasoning=True,
        responses_only=True,
        deprecation_date="2027-02-28",
    ) == {"price_in": 0, "mode": "embedding", "thinks": True, "responses_only": True, "retires": "2027-02-28"}


def test_the_reader_of_the_catalogue_knows_every_field() -> None:
    rows = [row for models in json.loads(CATALOGUE.read_bytes())["models"].values() for row in models.values()]
    assert {name for row in rows for name in row} - {"output"} == set(_Row.__struct_fields__)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_input_tokens": "many"}, "models[1] (openai/other): Expected `int | null`, got `str`"),
        ({"max_input_tokens": 0}, "max_input_tokens"),
        ({"input_cost_per_token": 2.5}, "input_cost_per_token"),  # per million
        ({"output_cost_per_token": -1e-06}, "output_cost_per_token"),
        ({"mode": "image"}, "'image'"),
        ({"supports_tools": None}, "supports_tools"),
        ({"deprecation_date": "2027-02-30"}, "deprecation_date"),
        ({"colour": "blue"}, "unknown field `colour`"),
        ({"id": ""}, "models[1] (openai/)"),
        ({"id": "two words"}, "models[1] (openai/two words)"),
        ({"provider": "Open AI"}, "models[1] (Open AI/other)"),
        ({"id": "gpt"}, "models[1]: openai/gpt is there twice"),
    ],
)
def test_an_entry_of_another_shape_is_refused_and_named(script: ModuleType, changes: Any, words: str) -> None:
    with pytest.raises(ValueError) as refused:
        script.rebuilt(selection(ENTRY, {**ENTRY, "id": "other", **changes}))
    assert str(refused.value).startswith("models[1]")
    assert words in str(refused.value)


@pytest.mark.parametrize("name", sorted(ENTRY))
def test_an_entry_without_one_of_its_members_is_refused(script: ModuleType, name: str) -> None:
    rest = {key: value for key, value in ENTRY.items() if key != name}
    with pytest.raises(ValueError, match=rf"models\[0\].*missing required field `{name}`"):
        script.rebuilt(selection(rest))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no selection"),
        (b"[]", "no selection"),
        (CATALOGUE.read_bytes(), "no selection"),
        (selection(), "no selection"),
        (selection(ENTRY, extra=1), "unknown field `extra`"),
        (selection(7), "models[0]: Expected `object`"),
        (selection(ENTRY, source={**SOURCE, "licence": ""}), "source.licence is missing"),
        (selection(ENTRY, source={"package": "x"}), "source.licence is missing"),
        (selection(ENTRY, source={**SOURCE, "note": 1}), "no selection"),
    ],
)
def test_what_is_no_selection_is_refused(script: ModuleType, text: bytes, words: str) -> None:
    with pytest.raises(ValueError) as refused:
        script.rebuilt(text)
    assert words in str(refused.value)


def test_the_command_writes_what_is_right_and_nothing_else(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, given = tmp_path / "models.json", tmp_path / "selection.json"
    out.write_bytes(b"old")
    monkeypatch.setattr(script, "CATALOGUE", out)
    given.write_bytes(selection({**ENTRY, "mode": "image"}))
    for arguments in ([], ["a", "b"], ["--help"], [str(tmp_path / "nowhere")], [str(given)]):
        assert script.main(arguments) == 2
        assert out.read_bytes() == b"old"
    assert "models[0] (openai/gpt)" in capsys.readouterr().err
    given.write_bytes(selection(ENTRY))
    assert script.main([str(given)]) == 0
    assert "another one" in capsys.readouterr().out
    assert script.main([str(given)]) == 0
    assert "as it was" in capsys.readouterr().out
    assert out.read_bytes() == script.rebuilt(given.read_bytes())
